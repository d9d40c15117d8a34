using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Lets servers go: their machines stay as they are and are no servers any more.</summary>
/// <remarks>Its impact is high, for a server of the Matrix stops serving with it, though nothing is lost: Register-VMatrixServer brings it back.</remarks>
[Cmdlet(VerbsLifecycle.Unregister, "VMatrixServer", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.High)]
[OutputType(typeof(ForeignMachine))]
public sealed class UnregisterVMatrixServerCommand : ServerCommand
{
    private readonly List<AskedMove> _moves = [];

    /// <summary>Does not ask.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <summary>Returns the machines as they are after.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private protected override void Prepare(ServerIdentity server)
    {
        var found = Resolve(server, s => s.Stage is not Stage.Disposed);
        var listing = Listing();
        var move = InPool("Planning", (pool, cancellation) => pool.PlanUnregisterAsync(found.Id, cancellation, listing));
        if (Agreed(move, Force))
            _moves.Add(new AskedMove(PoolPath, move, server.Input));
    }

    /// <inheritdoc/>
    protected override void EndProcessing() => ForAll(() =>
    {
        var done = CarryOut(_moves, null);
        if (!PassThru)
            return;
        foreach (var pool in done.GroupBy(d => d.Pool))
        {
            _ = Within(pool.Key, () =>
            {
                var machines = InPool("Asking the hosts", (session, cancellation) => session.GetForeignAsync(cancellation));
                WriteEach(machines.Where(m => pool.Any(d => d.Move.MachineId == m.MachineId && d.Move.FromHost == m.Host)));
                return true;
            });
        }
    });
}
