using System;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Simulation;

namespace VMatrix;

/// <summary>The drivers of one pool, and the only place that knows which family serves which word of a pool file.</summary>
internal sealed record PoolDrivers(IHypervisor Hypervisor, IBalancer Balancer, IHealthProbe Health) : IAsyncDisposable
{
    /// <summary>Opens the drivers that a pool names. Starts and touches nothing.</summary>
    /// <exception cref="VMatrixException"><c>DriverNotSupported</c>.</exception>
    public static PoolDrivers Open(PoolSpec pool, TimeProvider clock)
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

#if NET
        IHealthProbe health = new HttpHealthProbe(clock);
        IHypervisor hypervisor = pool.Hypervisor switch
        {
            "qemu" => new Qemu.QemuHypervisor(pool, health, clock),
            _ => throw NotSupported("hypervisor", pool.Hypervisor, "qemu, simulation"),
        };
        IBalancer balancer = pool.Balancer.Kind switch
        {
            "haproxy" => new HAProxy.HAProxyBalancer(pool, clock),
            _ => throw NotSupported("balancer", pool.Balancer.Kind, "haproxy, simulation"),
        };
        return new PoolDrivers(hypervisor, balancer, health);

        VMatrixException NotSupported(string what, string name, string known) =>
            new("DriverNotSupported", VMatrixErrorKind.NotSupported, $"Pool '{pool.Name}' names the {what} '{name}', for which this version has no driver; it has: {known}.");
#else
        throw new VMatrixException("DriverNotSupported", VMatrixErrorKind.NotSupported,
            $"Pool '{pool.Name}' uses '{pool.Hypervisor}' and '{pool.Balancer.Kind}', which need PowerShell 7.6 or newer. Run this in pwsh instead of Windows PowerShell.");
#endif
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await Hypervisor.DisposeAsync();
        await Balancer.DisposeAsync();
        (Health as IDisposable)?.Dispose();
    }
}
