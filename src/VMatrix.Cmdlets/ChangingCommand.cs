using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>A cmdlet that changes a pool, which must be named by -Pool or $env:VMATRIX_POOL.</summary>
public abstract class ChangingCommand : VMatrixCommand
{
    private volatile bool _outputEnded;

    private readonly Dictionary<Guid, object?> _inputs = [];

    /// <summary>The pool: the path of its file or folder, or an object of <c>Get-VMatrixPool</c>. Unless said, objects go to the pool that they come from, all else to $env:VMATRIX_POOL.</summary>
    [Parameter]
    [ValidateNotNull]
    public override PoolIdentity? Pool { get; set; }

    private protected override bool ForChange => true;

    // What was begun is brought to its end: an error that ends the pipeline, or a reader that fails, takes nothing back half way. Ctrl+C does.
    private protected override bool EndsWithOutput => false;

    /// <summary>True once the reader downstream has had enough, and nothing more is written.</summary>
    private protected bool OutputEnded => _outputEnded;

    /// <summary>Writes an object with its pool, while there is more to be done. A reader downstream that has had enough (<c>Select-Object -First</c>) ends the output and nothing else.</summary>
    /// <param name="value">What to write.</param>
    private protected override void Write<T>(T value)
    {
        if (_outputEnded)
            return;
        try
        {
            base.Write(value);
        }
        catch (Exception enough) when (enough is HaltCommandException || enough.GetType().FullName == "System.Management.Automation.StopUpstreamCommandsException")
        {
            // PowerShell's type for it is internal.
            _outputEnded = true;
        }
    }

    /// <summary>Asks whether to make a move, as -WhatIf and -Confirm want it.</summary>
    /// <param name="move">The move.</param>
    /// <param name="force">True to skip the question that the cmdlet would ask by itself.</param>
    private protected bool Agreed(Move move, bool force = false)
    {
        // A server that is made has no id yet: the one it would get now it never has.
        string target = $"server '{move.ServerName}' of {move.Service}{(move.Kind is MoveKind.Create or MoveKind.Register ? "" : $" ({move.ServerId})")}";
        string action = move.Kind switch
        {
            MoveKind.Create => "Create in the Nest",
            MoveKind.Purge => "Delete for good",
            MoveKind.Dispose => $"Dispose of, from the {Place(move.FromStage, move.FromHost)}",
            MoveKind.Undo => "Bring back to the Nest",
            MoveKind.Register => $"Register in the {Place(move.ToStage, move.FromHost)}",
            MoveKind.Unregister => $"Unregister, in the {Place(move.FromStage, move.FromHost)}; its machine stays as it is",
            MoveKind.Publish => $"Make a new image version of {move.Service} from it",
            _ => $"{move.Kind} from the {Place(move.FromStage, move.FromHost)} to the {Place(move.ToStage, move.ToHost)}",
        };
        return Agreed(target, action, force);
    }

    /// <inheritdoc cref="Agreed(Move, bool)"/>
    private protected bool Agreed(string target, string action, bool force = false)
    {
        // -Force silences the question that comes by itself, not one that was asked for, and not -WhatIf.
        bool asked = MyInvocation.BoundParameters.TryGetValue("Confirm", out object? confirm) && confirm is SwitchParameter { IsPresent: true };
        return force && !asked && !IsWhatIf || ShouldProcess(target, action);
    }

    private protected override bool IsWhatIf =>
        MyInvocation.BoundParameters.TryGetValue("WhatIf", out object? bound) ? bound is SwitchParameter { IsPresent: true }
            : LanguagePrimitives.IsTrue(SessionState.PSVariable.GetValue("WhatIfPreference"));

    /// <summary>Carries moves out, each in its pool, shows how far they are, and makes an error of each that was not done.</summary>
    /// <param name="moves">The moves, each with its pool and what the user named it by.</param>
    /// <param name="holdFor">How long the Oracle leaves the servers alone after; null for the pool's setting.</param>
    /// <returns>The moves that were done.</returns>
    private protected IReadOnlyList<AskedMove> CarryOut(IReadOnlyList<AskedMove> moves, TimeSpan? holdFor)
    {
        var done = new List<AskedMove>(moves.Count);
        foreach (var pool in moves.GroupBy(m => m.Pool))
        {
            foreach (var asked in pool)
                _inputs[asked.Move.Id] = asked.Input;
            using var progress = new MoveProgress(this, pool.Count());
            var records = Within(pool.Key, () =>
            {
                Relist();
                return InPool("Carrying out moves", (session, cancellation) => session.CarryOutAsync([.. pool.Select(m => m.Move)], holdFor, progress, cancellation, [.. pool.Where(m => m.Chosen).Select(m => m.Move.Id)]));
            });
            progress.Dispose();
            done.AddRange(records.Where(Report).Select(r => new AskedMove(pool.Key, r.Move, _inputs[r.Id])));
        }

        return done;
    }

    /// <summary>True for a move that was done; keeps the error of one that was not, which is written when all that was begun has ended.</summary>
    private protected bool Report(MoveRecord record)
    {
        if (record.Status is MoveStatus.Done)
            return true;
        _ = _inputs.TryGetValue(record.Id, out object? input);
        Keep(Errors.MoveNotDone(record, input));
        return false;
    }

    /// <summary>Writes the servers of moves as they are now, in this order.</summary>
    private protected void WriteServers(IReadOnlyList<AskedMove> moves)
    {
        foreach (var pool in moves.GroupBy(m => m.Pool))
        {
            _ = Within(pool.Key, () =>
            {
                var servers = InPool("Reading the servers", (session, cancellation) => session.GetServersAsync(true, null, cancellation)).ToDictionary(s => s.Id);
                WriteEach(pool.Where(m => servers.ContainsKey(m.Move.ServerId)).Select(m => servers[m.Move.ServerId]));
                return true;
            });
        }
    }

    /// <summary>A move that was asked for.</summary>
    /// <param name="Pool">Full path of its pool's file.</param>
    /// <param name="Move">The move.</param>
    /// <param name="Input">What the user named the server by.</param>
    /// <param name="Chosen">True where VMatrix chose the host: where somebody else was first to its room, it chooses another.</param>
    private protected sealed record AskedMove(string Pool, Move Move, object? Input, bool Chosen = false);

    private protected static string Place(Stage stage, string? host) => host is null ? $"{stage}" : $"{stage} on {host}";

    /// <summary>Shows how far moves are.</summary>
    private protected sealed class MoveProgress(ChangingCommand command, int total) : IProgress<MoveRecord>, IDisposable
    {
        private readonly HashSet<Guid> _ended = [];
        private bool _shown;

        public void Report(MoveRecord value) => command.Post(() => Show(value));

        public void Dispose()
        {
            if (!_shown)
                return;
            _shown = command.ShowsMoves = false;
            var done = command.Busy("Done");
            done.RecordType = ProgressRecordType.Completed;
            command.WriteProgress(done);
        }

        public void Show(MoveRecord record)
        {
            if (record.Status is not (MoveStatus.Pending or MoveStatus.Running))
                _ = _ended.Add(record.Id);
            int all = Math.Max(total, _ended.Count);
            string step = record.Step is null ? "" : $", {record.Step}";
            // In the status too: PowerShell's minimal view shows no current operation.
            var bar = command.Busy($"{_ended.Count} of {all} moves; {record.Move.ServerName}: {record.Move.Kind}{step}");
            bar.CurrentOperation = $"{record.Move.ServerName}: {record.Move.Kind} to the {Place(record.Move.ToStage, record.Move.ToHost)}{step}";
            bar.PercentComplete = all == 0 ? -1 : 100 * _ended.Count / all;
            command.WriteProgress(bar);
            _shown = command.ShowsMoves = true;
            command.WriteVerbose($"{record.Move.ServerName}: {record.Move.Kind} {record.Status}{(record.Step is null ? "" : $" ({record.Step})")}");
        }
    }
}
