using System.Collections.Generic;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Brings disposed servers back to the nest.</summary>
[Cmdlet(VerbsData.Restore, "VMatrixServer", SupportsShouldProcess = true)]
[OutputType(typeof(ServerInfo))]
public sealed class RestoreVMatrixServerCommand : ServerCommand
{
    private readonly List<AskedMove> _moves = [];

    /// <summary>Returns the servers as they are after.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private protected override void Prepare(ServerIdentity server)
    {
        var found = Resolve(server, s => s.Stage is Stage.Disposed);
        var listing = Listing();
        var move = InPool("Planning", (pool, cancellation) => pool.PlanMoveAsync(found.Id, Stage.Nest, null, false, cancellation, null, listing));
        if (move.Kind is not MoveKind.Undo)
        {
            throw new VMatrixException("NotDisposed", VMatrixErrorKind.InvalidState,
                $"Server '{move.ServerName}' is in the {move.FromStage}; only a disposed server can be restored. Move-VMatrixServer moves it to the nest.");
        }

        if (Agreed(move))
            _moves.Add(new AskedMove(PoolPath, move, server.Input));
    }

    /// <inheritdoc/>
    protected override void EndProcessing() => ForAll(() =>
    {
        var done = CarryOut(_moves, null);
        if (PassThru)
            WriteServers(done);
    });
}
