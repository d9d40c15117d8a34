using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.HyperV;
using VMatrix.Scvmm;
using VMatrix.Simulation;
using VMatrix.Tests.Doubles;
using VMatrix.Tests.HyperV;
using Xunit;

namespace VMatrix.Tests.Scvmm;

/// <summary>Hosts and a library of SCVMM as the double has them: on a virtual clock in this process, or on the real one in a folder that several processes share.</summary>
internal sealed class ScvmmDriverWorld : DoubledWorld
{
    /// <param name="folder">The folder of somebody else, on the real clock; null for a world of its own on a virtual one.</param>
    /// <param name="change">Changes the pool.</param>
    public ScvmmDriverWorld(string? folder = null, Func<PoolSpec, PoolSpec>? change = null)
        : base(folder)
    {
        var simulated = TestPool.Simulated(Folder);
        Pool = simulated with
        {
            Hypervisor = "scvmm",
            Services = [.. simulated.Services.Select(service => service with { Image = service.Image with { Disk = "gold.vhdx" } })],
            Scvmm = new ScvmmSpec { Server = "vmm1", Library = "library1", Share = @"\\library1\MSSCVMMLibrary\VMatrix" },
            Limits = Patient(simulated.Limits),
        };
        Pool = change?.Invoke(Pool) ?? Pool;
        if (World.Read(state => state.Host("library1")) is not null)
            return;
        SetTimes();
        foreach (var host in Pool.Hosts)
            World.AddHost(new HostState { Name = host.Name, MemoryBytes = 2L << 30 });
        World.AddHost(new HostState { Name = "library1", IsLibrary = true, MachinePath = @"\\library1\MSSCVMMLibrary" });
        World.AddLibraryDisk("library1", "gold.vhdx");
    }

    public override PoolSpec Pool { get; }

    public override IHypervisor OpenHypervisor() => new ScvmmHypervisor(Pool, OpenShell(), Clock);

    /// <summary>Runs a test in a world of its own on the virtual clock, with one server dormant in the nest.</summary>
    public static Task WithServerAsync(Func<ScvmmDriverWorld, IHypervisor, Guid, ServiceSpec, Task> test) => WithServerAsync(new ScvmmDriverWorld(), test);

    /// <summary>The same in a world that is open already.</summary>
    public static async Task WithServerAsync(ScvmmDriverWorld opened, Func<ScvmmDriverWorld, IHypervisor, Guid, ServiceSpec, Task> test)
    {
        await using var world = opened;
        await world.RunAsync(async () =>
        {
            var (driver, service, server) = (world.OpenHypervisor(), world.Pool.Services[0], Guid.NewGuid());
            var image = await driver.PrepareImageAsync(default, service, world.Pool.Hosts[0], null, default);
            await driver.CreateAsync(default, TestPool.Mark(world.Pool, service.Name, 1, Guid.NewGuid(), image, world.Clock.GetUtcNow(), server), service, default);
            await test(world, driver, server, service);
            await driver.DisposeAsync();
        });
    }

    public override IReadOnlyList<string> Leftovers(IReadOnlyCollection<Guid> known) =>
    [
        .. World.Violations,
        .. World.Machines.Where(machine => ReadMark(machine) is { } mark ? !known.Contains(mark.ServerId) : machine.Name.StartsWith("vmatrix-making-", StringComparison.Ordinal))
            .Select(machine => $"The machine {machine.Name} ({machine.Id}) on {machine.Host} belongs to no server of the test."),
        .. World.Read(state => state.Jobs.Values.Where(job => !job.Done).Select(job => $"The job {job.Kind} of {job.Machine} is still under way.").ToArray()),
    ];

    protected override ServerMark? ReadMark(MachineState machine) => HyperVNotes.Read(machine.Description).Mark?.Mark;
}

public sealed class ScvmmHypervisorContract : HypervisorContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new ScvmmDriverWorld());
}

/// <summary>The contract with a sample of its longest lists, through a real PowerShell child.</summary>
[Trait("Category", "Long")]
public sealed class ScvmmByPowerShellHypervisorContract : HypervisorContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => DoubledWorld.ThroughPowerShellAsync(folder => new ScvmmDriverWorld(folder, DoubledWorld.Warm) { Samples = true });
}

/// <summary>The same for whole moves.</summary>
[Trait("Category", "Long")]
public sealed class ScvmmByPowerShellMoverContract : MoverContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => DoubledWorld.ThroughPowerShellAsync(folder => new ScvmmDriverWorld(folder, DoubledWorld.Warm) { Samples = true });
}

[Trait("Category", "Long")]
public sealed class ScvmmMoverContract : MoverContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new ScvmmDriverWorld());
}
