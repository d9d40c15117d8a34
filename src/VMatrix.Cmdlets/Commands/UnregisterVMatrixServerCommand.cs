using System.Collections.Generic;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Lets servers go: their machines stay as they are and are no servers any more.</summary>
/// <remarks>Its impact is high, for a server of the Matrix stops serving with it, though nothing is lost: Register-VMatrixServer brings it back.</remarks>
[Cmdlet(VerbsLifecycle.Unregister, "VMatrixServer", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.High)]
public sealed class UnregisterVMatrixServerCommand : ChangingCommand
{
    private readonly List<(Move Move, object? Input)> _moves = [];

    /// <summary>The servers: ids, names, or objects that have one of them.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Alias("Id", "Name")]
    [ArgumentCompleter(typeof(ServerCompleter))]
    public ServerIdentity[] Server { get; set; } = null!;

    /// <summary>Does not ask.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var server in Server)
        {
            ForItem(server.Input, () =>
            {
                var id = Resolve(server, s => s.Stage is not Stage.Disposed);
                var move = InPool("Planning", (pool, cancellation) => pool.PlanUnregisterAsync(id, cancellation));
                if (Agreed(move, Force))
                    _moves.Add((move, server.Input));
            });
        }
    }

    /// <inheritdoc/>
    protected override void EndProcessing() => ForAll(() => _ = CarryOut(_moves, null));
}
