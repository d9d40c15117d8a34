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
using VMatrix.Tests.HyperV;
using Xunit;

namespace VMatrix.Tests.Scvmm;

/// <summary>Hosts and a library of SCVMM as the double has them: on a virtual clock in this process, or on the real one in a folder that several processes share.</summary>
internal sealed class ScvmmDriverWorld : DriverWorld
{
    private readonly TemporaryFolder? _own;
    private readonly string _folder;
    private readonly VirtualClock? _virtual;

    /// <param name="folder">The folder of somebody else, on the real clock; null for a world of its own on a virtual one.</param>
    /// <param name="change">Changes the pool.</param>
    public ScvmmDriverWorld(string? folder = null, Func<PoolSpec, PoolSpec>? change = null)
    {
        _own = folder is null ? new TemporaryFolder() : null;
        _folder = folder ?? _own!.Path;
        _virtual = folder is null ? new VirtualClock() : null;
        var simulated = TestPool.Simulated(_folder);
        Pool = simulated with
        {
            Hypervisor = "scvmm",
            Services = [.. simulated.Services.Select(service => service with { Image = service.Image with { Disk = "gold.vhdx" } })],
            Scvmm = new ScvmmSpec { Server = "vmm1", Library = "library1", Share = @"\\library1\MSSCVMMLibrary\VMatrix" },
        };
        Pool = change?.Invoke(Pool) ?? Pool;
        World = new DoubleWorld(Path.Combine(_folder, "world"), Clock);
        if (World.Read(state => state.Host("library1")) is not null)
            return;
        World.Configure(settings => settings with { BootTime = IsReal ? TimeSpan.FromMilliseconds(2) : TimeSpan.FromSeconds(2), WakeTime = TimeSpan.FromMilliseconds(IsReal ? 1 : 200), Bandwidth = IsReal ? 1L << 50 : 1L << 30 });
        foreach (var host in Pool.Hosts)
            World.AddHost(new HostState { Name = host.Name, MemoryBytes = 2L << 30 });
        World.AddHost(new HostState { Name = "library1", IsLibrary = true, MachinePath = @"\\library1\MSSCVMMLibrary" });
        World.AddLibraryDisk("library1", "gold.vhdx");
    }

    public DoubleWorld World { get; }

    public override PoolSpec Pool { get; }

    public override TimeProvider Clock => (TimeProvider?)_virtual ?? TimeProvider.System;

    private bool IsReal => _virtual is null;

    public override IHypervisor OpenHypervisor() => new ScvmmHypervisor(Pool, new DoubleShell(World), Clock);

    public override IBalancer OpenBalancer() => new FileBalancer(Path.Combine(_folder, "balancer.json"), Clock);

    public override IHealthProbe OpenProbe() => new DoubleHealthProbe(World);

    public override Task RunAsync(Func<Task> body)
    {
        if (_virtual is null)
            return body();
        _virtual.Run(body);
        return Task.CompletedTask;
    }

    public override Task CrashAsync(Guid server)
    {
        World.Crash(MachineOf(server).Id);
        return Task.CompletedTask;
    }

    public override Task HangAsync(Guid server)
    {
        World.Hang(MachineOf(server).Id);
        return Task.CompletedTask;
    }

    public override Task CloneAsync(Guid server, HostSpec on)
    {
        World.Clone(MachineOf(server), on.Name);
        return Task.CompletedTask;
    }

    public override IReadOnlyList<string> Leftovers(IReadOnlyCollection<Guid> known) =>
    [
        .. World.Violations,
        .. World.Machines.Where(machine => MarkOf(machine) is { } mark ? !known.Contains(mark.ServerId) : machine.Name.StartsWith("vmatrix-making-", StringComparison.Ordinal))
            .Select(machine => $"The machine {machine.Name} ({machine.Id}) on {machine.Host} belongs to no server of the test."),
        .. World.Read(state => state.Jobs.Values.Where(job => !job.Done).Select(job => $"The job {job.Kind} of {job.Machine} is still under way.").ToArray()),
    ];

    public override void Forget() => World.Forget();

    public override ValueTask DisposeAsync()
    {
        World.Forget();
        _own?.Dispose();
        return default;
    }

    private MachineState MachineOf(Guid server) => World.Machines.Single(machine => MarkOf(machine) is { } mark && mark.ServerId == server && mark.MachineId == machine.Id.ToString("D"));

    private static ServerMark? MarkOf(MachineState machine) => HyperVNotes.Read(machine.Description).Mark?.Mark;
}

public sealed class ScvmmHypervisorContract : HypervisorContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new ScvmmDriverWorld());
}

[Trait("Category", "Long")]
public sealed class ScvmmMoverContract : MoverContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new ScvmmDriverWorld());
}
