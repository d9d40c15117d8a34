using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Takes virtual machines that are not servers yet into a service.</summary>
[Cmdlet(VerbsLifecycle.Register, "VMatrixServer", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Medium)]
[OutputType(typeof(ServerInfo))]
public sealed class RegisterVMatrixServerCommand : ChangingCommand
{
    /// <summary>The machines: objects of <c>Get-VMatrixServer -Foreign</c> or of the hypervisor's own listing, ids of the hypervisor, or names.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Alias("Id", "VMId", "VM")]
    public MachineIdentity[] Machine { get; set; } = null!;

    /// <summary>The service they become servers of; for a clone or a server that was let go, the one it was of unless said.</summary>
    [Parameter(Position = 1)]
    [ArgumentCompleter(typeof(ServiceCompleter))]
    public ServiceIdentity? Service { get; set; }

    /// <summary>The host that the machines are on; needed only where two hosts have one of that name.</summary>
    [Parameter]
    [Alias("Host")]
    [ArgumentCompleter(typeof(HostCompleter))]
    public HostIdentity? HostName { get; set; }

    /// <summary>The server's name; the machine's own unless said or taken.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Name { get; set; }

    /// <summary>Takes over machines that belong to another controller. For a pool whose state folder was lost; never while the other controller may act.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var machine in Machine)
        {
            ForItem(machine.Input, machine.Pool, () =>
            {
                // An object of another hypervisor's listing may name the host otherwise than the pool file does; the id is enough then.
                string? host = HostName?.Name ?? (machine.Input is ForeignMachine ? machine.HostName : null);
                var listing = Listing();
                var move = InPool("Looking at the machine", (pool, cancellation) => pool.PlanRegisterAsync(machine.Text, host, Service?.Name, Name, Force, cancellation, listing));
                if (!Agreed(move))
                    return;
                // The next one's name depends on this one's.
                WriteServers(CarryOut([new AskedMove(PoolPath, move, machine.Input)], null));
            });
        }
    }
}
