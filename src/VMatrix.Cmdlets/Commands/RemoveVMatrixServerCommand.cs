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
    private readonly List<(Move Move, object? Input)> _disposals = [];
    private readonly List<(Guid Server, object? Input)> _purges = [];

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
        var id = Resolve(server, s => Purge || s.Stage is not Stage.Disposed);
        var found = InPool("Planning", async (pool, cancellation) =>
            (await pool.GetServersAsync(false, null, cancellation)).FirstOrDefault(s => s.Id == id)
            ?? throw Errors.NotFound("Server", id, PoolName));
        if (Purge && found.Stage is Stage.Disposed)
        {
            if (Agreed($"server '{found.Name}' of {found.Service} ({id})", "Delete for good", Force))
                _purges.Add((id, server.Input));
            return;
        }

        var move = InPool("Planning", (pool, cancellation) => pool.PlanMoveAsync(id, Stage.Disposed, null, false, cancellation));
        bool agreed = Purge
            ? Agreed($"server '{move.ServerName}' of {move.Service} ({id})", $"Dispose of, from the {Place(move.FromStage, move.FromHost)}, and delete for good", Force)
            : Agreed(move, Force);
        if (!agreed)
            return;
        _disposals.Add((move, server.Input));
    }

    /// <inheritdoc/>
    protected override void EndProcessing() => ForAll(() =>
    {
        var disposed = CarryOut(_disposals, null);
        if (!Purge)
        {
            if (PassThru)
                WriteObject(ReadAgain(disposed), true);
            return;
        }

        var inputs = _disposals.ToDictionary(d => d.Move.Id, d => d.Input);
        List<(Move, object?)> moves = [];
        foreach (var (server, input) in _purges.Concat(disposed.Select(d => (d.ServerId, inputs[d.Id]))))
            ForItem(input, () => moves.Add((InPool("Planning", (pool, cancellation) => pool.PlanPurgeAsync(server, cancellation)), input)));
        _ = CarryOut(moves, null);
    });
}
