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
    private readonly List<(Move Move, object? Input)> _moves = [];

    /// <summary>Does not ask.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <summary>Returns the machines as they are after.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private protected override void Prepare(ServerIdentity server)
    {
        var id = Resolve(server, s => s.Stage is not Stage.Disposed);
        var move = InPool("Planning", (pool, cancellation) => pool.PlanUnregisterAsync(id, cancellation));
        if (Agreed(move, Force))
            _moves.Add((move, server.Input));
    }

    /// <inheritdoc/>
    protected override void EndProcessing() => ForAll(() =>
    {
        var done = CarryOut(_moves, null);
        if (!PassThru || done.Count == 0)
            return;
        var machines = InPool("Asking the hosts", (pool, cancellation) => pool.GetForeignAsync(cancellation));
        WriteObject(machines.Where(m => done.Any(d => d.MachineId == m.MachineId && d.FromHost == m.Host)), true);
    });
}
