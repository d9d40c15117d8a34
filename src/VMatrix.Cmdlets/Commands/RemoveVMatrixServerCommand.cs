using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Disposes of servers; with -Purge deletes them for good.</summary>
[Cmdlet(VerbsCommon.Remove, "VMatrixServer", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.High)]
[OutputType(typeof(ServerInfo))]
public sealed class RemoveVMatrixServerCommand : ServerCommand
{
    private readonly List<AskedMove> _disposals = [];
    private readonly List<(string Pool, Guid Server, object? Input)> _purges = [];

    /// <summary>Deletes them for good: this cannot be undone. A server that is not disposed of yet is disposed of first.</summary>
    [Parameter]
    public SwitchParameter Purge { get; set; }

    /// <summary>Does not ask.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <summary>Returns the servers as they are after; those that were deleted for good are no more.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private protected override void Prepare(ServerIdentity server)
    {
        var found = Resolve(server, s => Purge || s.Stage is not Stage.Disposed);
        if (Purge && found.Stage is Stage.Disposed)
        {
            if (Agreed($"server '{found.Name}' of {found.Service} ({found.Id})", "Delete for good", Force))
                _purges.Add((PoolPath, found.Id, server.Input));
            return;
        }

        var listing = Listing();
        var move = InPool("Planning", (pool, cancellation) => pool.PlanMoveAsync(found.Id, Stage.Disposed, null, false, cancellation, null, listing));
        bool agreed = Purge
            ? Agreed($"server '{move.ServerName}' of {move.Service} ({move.ServerId})", $"Dispose of, from the {Place(move.FromStage, move.FromHost)}, and delete for good", Force)
            : Agreed(move, Force);
        if (agreed)
            _disposals.Add(new AskedMove(PoolPath, move, server.Input));
    }

    /// <inheritdoc/>
    protected override void EndProcessing() => ForAll(() =>
    {
        var disposed = CarryOut(_disposals, null);
        if (!Purge)
        {
            if (PassThru)
                WriteServers(disposed);
            return;
        }

        List<AskedMove> purges = [];
        foreach (var (pool, server, input) in _purges.Concat(disposed.Select(d => (d.Pool, d.Move.ServerId, d.Input))))
        {
            ForItem(input, pool, () =>
            {
                var listing = Listing();
                purges.Add(new AskedMove(PoolPath, InPool("Planning", (session, cancellation) => session.PlanPurgeAsync(server, cancellation, listing)), input));
            });
        }

        _ = CarryOut(purges, null);
    });
}
