using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>A cmdlet that changes a pool, which must be named by -Pool or $env:VMATRIX_POOL.</summary>
public abstract class ChangingCommand : VMatrixCommand
{
    private readonly Dictionary<Guid, object?> _inputs = [];
    private bool _outputEnded;
    private IReadOnlyList<ServerInfo>? _listed;

    /// <summary>The pool: the path of its file or folder, or an object of <c>Get-VMatrixPool</c>.</summary>
    [Parameter]
    [ValidateNotNull]
    public override PoolIdentity? Pool { get; set; }

    private protected override bool ForChange => true;

    /// <inheritdoc/>
    protected override void BeginProcessing() => ForAll(() => _ = PoolPath);

    /// <summary>The id of the server that was named.</summary>
    /// <param name="server">How it was named.</param>
    /// <param name="fits">Which servers are meant at all, such as the disposed ones.</param>
    /// <exception cref="VMatrixException"><c>ServerNotFound</c>, <c>ServerAmbiguous</c>.</exception>
    private protected Guid Resolve(ServerIdentity server, Func<ServerInfo, bool> fits)
    {
        if (server.Id is { } id)
            return id;
        // Names do not change, so one listing serves all items of the pipeline.
        if (_listed is null)
        {
            string path = PoolPath;
            _listed = InPool("Listing the servers", (pool, cancellation) => pool.GetServersAsync(false, null, cancellation));
            Sessions.Remember(path, _listed);
        }

        ServerInfo[] named = [.. _listed.Where(s => string.Equals(s.Name, server.Name, StringComparison.OrdinalIgnoreCase))];
        ServerInfo[] meant = [.. named.Where(fits)];
        return (meant.Length == 0 ? named : meant) switch
        {
            [] => throw Errors.NotFound("Server", server, PoolName),
            [var one] => one.Id,
            var several => throw Errors.Ambiguous(server.Name!, several),
        };
    }

    /// <summary>Writes an object while there is more to be done. A reader downstream that has had enough (<c>Select-Object -First</c>) ends the output and nothing else.</summary>
    /// <param name="value">What to write.</param>
    /// <param name="enumerate">True to write each item of a collection.</param>
    private protected void Emit(object? value, bool enumerate = false)
    {
        if (_outputEnded)
            return;
        try
        {
            WriteObject(value, enumerate);
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
        string target = $"server '{move.ServerName}' of {move.Service} ({move.ServerId})";
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

    /// <summary>Carries moves out, shows how far they are, and makes an error of each that was not done.</summary>
    /// <param name="moves">The moves, each with what the user named it by.</param>
    /// <param name="holdFor">How long the Oracle leaves the servers alone after; null for the pool's setting.</param>
    /// <returns>The moves that were done.</returns>
    private protected IReadOnlyList<Move> CarryOut(IReadOnlyList<(Move Move, object? Input)> moves, TimeSpan? holdFor)
    {
        if (moves.Count == 0)
            return [];
        foreach (var (move, input) in moves)
            _inputs[move.Id] = input;
        using var progress = new MoveProgress(this, moves.Count);
        var records = InPool("Carrying out moves", (pool, cancellation) => pool.CarryOutAsync([.. moves.Select(m => m.Move)], holdFor, progress, cancellation));
        progress.Dispose();
        return [.. records.Where(Report).Select(r => r.Move)];
    }

    /// <summary>True for a move that was done; writes an error for one that was not.</summary>
    private protected bool Report(MoveRecord record)
    {
        if (record.Status is MoveStatus.Done)
            return true;
        _ = _inputs.TryGetValue(record.Id, out object? input);
        WriteError(Errors.MoveNotDone(record, input));
        return false;
    }

    /// <summary>The servers with these ids as they are now, in this order.</summary>
    private protected IEnumerable<ServerInfo> ReadAgain(IReadOnlyList<Move> moves)
    {
        if (moves.Count == 0)
            return [];
        var servers = InPool("Reading the servers", (pool, cancellation) => pool.GetServersAsync(true, null, cancellation)).ToDictionary(s => s.Id);
        return moves.Where(m => servers.ContainsKey(m.ServerId)).Select(m => servers[m.ServerId]);
    }

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
            _shown = false;
            command.WriteProgress(new ProgressRecord(2, command.MyInvocation.MyCommand.Name, "Done") { RecordType = ProgressRecordType.Completed });
        }

        public void Show(MoveRecord record)
        {
            if (record.Status is not (MoveStatus.Pending or MoveStatus.Running))
                _ = _ended.Add(record.Id);
            int all = Math.Max(total, _ended.Count);
            command.WriteProgress(new ProgressRecord(2, command.MyInvocation.MyCommand.Name, $"{_ended.Count} of {all} moves")
            {
                CurrentOperation = $"{record.Move.ServerName}: {record.Move.Kind} to the {Place(record.Move.ToStage, record.Move.ToHost)}{(record.Step is null ? "" : $", {record.Step}")}",
                PercentComplete = all == 0 ? -1 : 100 * _ended.Count / all,
            });
            _shown = true;
            command.WriteVerbose($"{record.Move.ServerName}: {record.Move.Kind} {record.Status}{(record.Step is null ? "" : $" ({record.Step})")}");
        }
    }
}
