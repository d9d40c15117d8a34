using System;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Shells;
using VMatrix.Simulation;

namespace VMatrix;

/// <summary>The drivers of one pool, and the only place that knows which family serves which word of a pool file.</summary>
internal sealed record PoolDrivers(IHypervisor Hypervisor, IBalancer Balancer, IHealthProbe Health) : IAsyncDisposable
{
    /// <summary>Opens the drivers that a pool names. Starts and touches nothing.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="clock">The clock.</param>
    /// <param name="shells">Opens shells in this process; null where it is no PowerShell, and a child is started.</param>
    /// <param name="opened">A shell that was opened for the pool's hypervisor already; null for none.</param>
    /// <exception cref="VMatrixException"><c>DriverNotSupported</c>.</exception>
    public static PoolDrivers Open(PoolSpec pool, TimeProvider clock, IShellProvider? shells, IShell? opened = null)
    {
        if ((pool.Hypervisor == "simulation") != (pool.Balancer.Kind == "simulation"))
        {
            throw new VMatrixException("DriverNotSupported", VMatrixErrorKind.NotSupported,
                $"Pool '{pool.Name}' pairs the hypervisor '{pool.Hypervisor}' with the balancer '{pool.Balancer.Kind}'; simulated servers answer only a simulated balancer. Make both 'simulation' or neither.");
        }

        if (pool.Hypervisor == "simulation")
        {
            var world = SimulatedWorld.Open(pool, clock);
            return new PoolDrivers(new SimulatedHypervisor(world), new SimulatedBalancer(world), new SimulatedHealthProbe(world));
        }

        IHealthProbe health = new HttpHealthProbe(clock);
        IShell? shell = null;
        IHypervisor hypervisor = pool.Hypervisor switch
        {
#if NET
            "qemu" => new Qemu.QemuHypervisor(pool, health, clock),
#endif
            "hyperv" => new HyperV.HyperVHypervisor(pool, shell = (shells ?? ChildShells.Here).Open(pool.HyperV.CallsAtOnce), clock),
            "scvmm" => new Scvmm.ScvmmHypervisor(pool, shell = opened ?? ForScvmm(shells).Open(pool.Scvmm.CallsAtOnce), clock),
            _ => throw NotSupported("hypervisor", pool.Hypervisor, "hyperv, qemu, scvmm, simulation"),
        };
        IBalancer balancer = pool.Balancer.Kind switch
        {
#if NET
            "haproxy" => new HAProxy.HAProxyBalancer(pool, clock),
            "script" => new Scripts.ScriptBalancer(pool, clock),
#endif
            "nlb" when shell is not null => new Nlb.NlbBalancer(pool, shell, clock),
            _ => throw NotSupported("balancer", pool.Balancer.Kind, "haproxy, nlb (with hyperv or scvmm), script, simulation"),
        };
        if (pool.Balancer.Load is LoadOrigin.Processor && pool.Hypervisor == "hyperv")
            balancer = new MeteredBalancer(balancer, new HyperV.HyperVLoadSource(pool, shell!, clock), pool, clock);
        return new PoolDrivers(hypervisor, balancer, health);

        VMatrixException NotSupported(string what, string name, string known) =>
#if NET
            new("DriverNotSupported", VMatrixErrorKind.NotSupported, $"Pool '{pool.Name}' names the {what} '{name}', for which this version has no driver; it has: {known}.");
#else
            new("DriverNotSupported", VMatrixErrorKind.NotSupported, $"Pool '{pool.Name}' names the {what} '{name}'. If it is one of {known}, it may need PowerShell 7.6 or newer: run this in pwsh instead of Windows PowerShell.");
#endif
    }

    /// <summary>Opens the drivers of a pool whose hosts may have to be asked for first, and returns it with all its hosts.</summary>
    /// <param name="pool">The pool as its file says.</param>
    /// <param name="clock">The clock.</param>
    /// <param name="shells">As for <see cref="Open"/>.</param>
    /// <param name="cancellation">Ends the call.</param>
    public static async Task<(PoolSpec Pool, PoolDrivers Drivers)> OpenAsync(PoolSpec pool, TimeProvider clock, IShellProvider? shells, CancellationToken cancellation)
    {
        if (pool.Hypervisor != "scvmm" || pool.Scvmm.HostGroups.Count == 0)
            return (pool, Open(pool, clock, shells));
        var shell = ForScvmm(shells).Open(pool.Scvmm.CallsAtOnce);
        try
        {
            pool = await Scvmm.ScvmmHypervisor.WithHostGroupsAsync(pool, shell, clock, cancellation);
            return (pool, Open(pool, clock, shells, shell));
        }
        catch
        {
            await shell.DisposeAsync();
            throw;
        }
    }

    // VMM's module loads in Windows PowerShell and nowhere else: PowerShell 7 is no home for it either.
#if NET
    private static ChildShells ForScvmm(IShellProvider? _) => ChildShells.Here;
#else
    private static IShellProvider ForScvmm(IShellProvider? shells) => shells ?? ChildShells.Here;
#endif

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await Hypervisor.DisposeAsync();
        await Balancer.DisposeAsync();
        (Health as IDisposable)?.Dispose();
    }
}
