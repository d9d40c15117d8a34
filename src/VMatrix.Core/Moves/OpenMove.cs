using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;
using System.Threading;
using VMatrix.Drivers;

namespace VMatrix.Moves;

/// <summary>
/// The journal of one open move, which is also the claim of its server: a file named by the server's id, made exclusively, with a line
/// for each thing that happened, the last one being where the move is. It is deleted when the move has ended whole.
/// </summary>
internal sealed class OpenMove
{
    private readonly StateFolder _state;
    private readonly HashSet<string> _begun = [];
    private readonly HashSet<DateTimeOffset> _times = [];

    private OpenMove(StateFolder state, string path, Line first)
    {
        _state = state;
        Path = path;
        Move = first.Move!;
        PlanId = first.Plan;
        StartedAt = first.At;
        Fold(first);
    }

    public string Path { get; }

    public Move Move { get; }

    public Guid? PlanId { get; }

    public DateTimeOffset StartedAt { get; }

    public Guid Owner { get; private set; }

    public string By { get; private set; } = "";

    public TimeSpan? HoldFor { get; private set; }

    /// <summary>The route; null before the first step.</summary>
    public MoveRoute? Route { get; private set; }

    /// <summary>The step that was begun last; null before the first.</summary>
    public string? Step { get; private set; }

    /// <summary>True for a step that was begun at any time: one that is taken up again may go on from an earlier step than it had come to.</summary>
    public bool HasBegun(string step) => _begun.Contains(step);

    /// <summary>When its last line was written. A mark that the move writes carries this time, by which it is known again as this journal's.</summary>
    public DateTimeOffset LastAt { get; private set; }

    /// <summary>True for the time of any of its lines.</summary>
    public bool HasLineOf(DateTimeOffset time) => _times.Contains(time);

    /// <summary>True when the move is being taken back.</summary>
    public bool Back { get; private set; }

    /// <summary>The mark before the move; null for a server that is being made.</summary>
    public ServerMark? Original { get; private set; }

    /// <summary>The image version, once it is known.</summary>
    public string? Image { get; private set; }

    /// <summary>The image version that new servers of its service were made from before the move, where the move changes that.</summary>
    public string? Former { get; private set; }

    /// <summary>True when its machine ran before the move.</summary>
    public bool Ran { get; private set; }

    /// <summary>Why it is taken back, or why it could not be.</summary>
    public string? Error { get; private set; }

    /// <summary>True when its owner has let go of it before its end, so that anybody may take it over.</summary>
    public bool Released { get; private set; }

    /// <summary>True when it could be neither finished nor taken back.</summary>
    public bool Stuck { get; private set; }

    public MoveRecord ToRecord(MoveStatus status) => new()
    {
        Move = Move,
        PlanId = PlanId,
        Status = status,
        Step = Step,
        By = By,
        StartedAt = StartedAt,
        Error = Error,
    };

    /// <summary>Makes the file; null when the server has one already.</summary>
    public static OpenMove? TryClaim(StateFolder state, Move move, MoveContext context, Guid owner, DateTimeOffset now, CancellationToken cancellation = default)
    {
        var path = state.MovePath(move.ServerId);
        var first = new Line { At = now, Move = move, Plan = context.PlanId, Owner = owner, By = context.By, HoldFor = context.HoldFor, Epoch = context.Epoch };

        // Not flushed: nothing is changed before the first step is journaled, and that flushes the whole file. A first line that was
        // torn by a loss of power therefore means that nothing had begun.
        var temporary = StateFiles.WriteTemporary(path, ToLine(first), flush: false);
        bool made = false;
        try
        {
            using (state.LockClaims(cancellation))
            {
                if (File.Exists(path))
                    return null;
                StateFiles.Rename(temporary, path);
                made = true;
            }
        }
        finally
        {
            if (!made)
                StateFiles.TryDelete(temporary);
        }

        return new OpenMove(state, path, first);
    }

    /// <summary>Reads a journal; null when the move has ended, or had not begun when the power went.</summary>
    /// <exception cref="VMatrixException"><c>StateCorrupt</c>.</exception>
    public static OpenMove? TryRead(StateFolder state, string path)
    {
        var bytes = StateFiles.TryRead(path);
        if (bytes is null)
            return null;
        var lines = Encoding.UTF8.GetString(bytes).Split('\n');
        OpenMove? move = null;
        for (var i = 0; i < lines.Length; i++)
        {
            if (lines[i].Trim('\0', ' ', '\r').Length == 0)
                continue;
            Line? line = null;
            Exception? cause = null;
            try
            {
                line = JsonSerializer.Deserialize<Line>(lines[i], StateFiles.Reading);
            }
            catch (JsonException e)
            {
                cause = e;
            }

            // Only what a cut-short write can have left is passed over: the end of the file, after its last line end.
            if (line is null || (move is null && line.Move is null))
                return i == lines.Length - 1 && line is null ? move : throw StateFiles.Corrupt(path, cause);
            if (move is null)
                move = new OpenMove(state, path, line);
            else
                move.Fold(line);
        }
        return move;
    }

    /// <summary>Journals that a step begins, and with it that the one before is done. On the disk when it returns.</summary>
    public void Begin(DateTimeOffset now, MoveRoute route, string step, ServerMark? original, string? image, string? former, bool ran)
    {
        var first = Step is null;
        Write(new Line
        {
            At = now,
            Step = step,
            Route = first ? route.Name : null,
            Original = Original is null ? original : null,
            Ran = first && ran ? true : null,
            Image = image != Image ? image : null,
            Former = first ? former : null,
            Back = Back ? false : null,
        });
        if (first)
            _state.SyncMoves();
    }

    /// <summary>Journals that the move is taken back from here on.</summary>
    public void TurnBack(DateTimeOffset now, string error) => Write(new Line { At = now, Back = true, Error = error });

    /// <summary>Journals that a move is left as it is, for anybody to take up.</summary>
    public void Release(DateTimeOffset now, string? error, bool stuck) => Write(new Line { At = now, Released = true, Error = error, Stuck = stuck ? true : null });

    /// <summary>Takes the move over from an owner that is dead or has let go; false when it is neither.</summary>
    public static OpenMove? TryTakeOver(StateFolder state, Guid server, MoveContext context, Guid owner, DateTimeOffset now, CancellationToken cancellation)
    {
        using (state.LockClaims(cancellation))
        {
            var move = TryRead(state, state.MovePath(server));
            if (move is null || !state.IsFree(move))
                return null;
            state.SetRunning(move.Move.Id, true);
            try
            {
                move.Append(new Line { At = now, Owner = owner, By = context.By, Epoch = context.Epoch, Released = false });
            }
            catch
            {
                state.SetRunning(move.Move.Id, false);
                throw;
            }
            return move;
        }
    }

    /// <summary>Ends the move: the claim is gone.</summary>
    public void Close() => _state.Guard(() =>
    {
        CheckOwner();
        File.Delete(Path);
        return true;
    });

    /// <summary>Throws when somebody else has taken the move over, which they do only when they find this process's lock gone.</summary>
    public void CheckOwner()
    {
        var now = TryRead(_state, Path) ?? throw new VMatrixException("StateLost", VMatrixErrorKind.Unreachable, $"The journal {Path} of an open move went away. Bring the state folder back and run Resume-VMatrixMove.");
        if (now.Owner != Owner || now.Move.Id != Move.Id)
            throw new VMatrixException("MoveTakenOver", VMatrixErrorKind.Busy, $"The move of {Move.ServerName} was taken over by {now.By}, who found this process gone.");
    }

    private void Write(Line line) => _state.Guard(() =>
    {
        CheckOwner();
        Append(line);
        return true;
    });

    private void Append(Line line)
    {
        StateFiles.Append(Path, ToLine(line));
        Fold(line);
    }

    private void Fold(Line line)
    {
        LastAt = line.At;
        _times.Add(line.At);
        Owner = line.Owner ?? Owner;
        By = line.By ?? By;
        HoldFor = line.HoldFor ?? HoldFor;
        Route = line.Route is null ? Route : MoveRoutes.ByName(line.Route);
        Step = line.Step ?? Step;
        if (line.Step is not null)
            _begun.Add(line.Step);
        Back = line.Back ?? Back;
        Original = line.Original ?? Original;
        Image = line.Image ?? Image;
        Former = line.Former ?? Former;
        Ran = line.Ran ?? Ran;
        Error = line.Error ?? Error;
        Released = line.Released ?? Released;
        Stuck = line.Stuck ?? Stuck;
    }

    private static byte[] ToLine(Line line) => [.. StateFiles.ToBytes(line), (byte)'\n'];

    /// <summary>One line: only what changed.</summary>
    internal sealed record Line
    {
        public DateTimeOffset At { get; init; }

        public Move? Move { get; init; }

        public Guid? Plan { get; init; }

        public Guid? Owner { get; init; }

        public string? By { get; init; }

        public long? Epoch { get; init; }

        public TimeSpan? HoldFor { get; init; }

        public string? Route { get; init; }

        public string? Step { get; init; }

        public ServerMark? Original { get; init; }

        public string? Image { get; init; }

        public string? Former { get; init; }

        public bool? Ran { get; init; }

        public bool? Back { get; init; }

        public string? Error { get; init; }

        public bool? Released { get; init; }

        public bool? Stuck { get; init; }
    }
}
