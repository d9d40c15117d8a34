using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.Simulation;

namespace VMatrix.Tests.Simulation;

/// <summary>The simulation on its virtual clock, kept in files as users have it.</summary>
internal sealed class SimulatedDriverWorld : DriverWorld
{
    private readonly TemporaryFolder? _folder;

    public SimulatedDriverWorld(SimulationSpec? settings = null, Func<PoolSpec, PoolSpec>? change = null)
    {
        _folder = new TemporaryFolder();
        Pool = TestPool.Simulated(_folder.Path, simulation: settings ?? new SimulationSpec { BootTime = TimeSpan.FromSeconds(2), SharedDisks = true });
        Pool = change?.Invoke(Pool) ?? Pool;
        World = SimulatedWorld.Open(Pool, Virtual);
    }

    /// <summary>A world in a folder of somebody else, on the real clock, where all that takes time takes a millisecond or so.</summary>
    public SimulatedDriverWorld(string folder)
    {
        IsReal = true;
        Pool = TestPool.Simulated(folder, simulation: new SimulationSpec { BootTime = TimeSpan.FromMilliseconds(2), WakeTime = TimeSpan.FromMilliseconds(1), Bandwidth = 1L << 50, SharedDisks = true });
        World = SimulatedWorld.Open(Pool, Clock);
    }

    private bool IsReal { get; }

    public override PoolSpec Pool { get; }

    public VirtualClock Virtual { get; } = new();

    public SimulatedWorld World { get; private set; }

    public override TimeProvider Clock => IsReal ? TimeProvider.System : Virtual;

    public override int Seed => Pool.Simulation.Seed;

    public override IHypervisor OpenHypervisor() => new SimulatedHypervisor(World);

    public override IBalancer OpenBalancer() => new SimulatedBalancer(World);

    public override IHealthProbe OpenProbe() => new SimulatedHealthProbe(World);

    public override Task RunAsync(Func<Task> body)
    {
        if (IsReal)
            return body();
        Virtual.Run(body);
        return Task.CompletedTask;
    }

    public override Task CrashAsync(Guid server)
    {
        World.Crash(server);
        return Task.CompletedTask;
    }

    public override Task HangAsync(Guid server)
    {
        World.Hang(server);
        return Task.CompletedTask;
    }

    public override Task CloneAsync(Guid server, HostSpec on)
    {
        World.Clone(server, on.Name);
        return Task.CompletedTask;
    }

    public override Task LoseHostAsync(HostSpec host)
    {
        World.SetHost(host.Name, HostCondition.Dead);
        return Task.CompletedTask;
    }

    public override Task RestoreHostAsync(HostSpec host)
    {
        World.SetHost(host.Name, HostCondition.Up);
        return Task.CompletedTask;
    }

    public override IReadOnlyList<string> Leftovers(IReadOnlyCollection<Guid> known) => World.Leftovers(known);

    /// <summary>Sets the time of day of the machine that VMatrix runs on; what runs elsewhere goes on as it was.</summary>
    public void JumpClock(TimeSpan by)
    {
        Virtual.Jump(by);
        World.Change(state =>
        {
            foreach (var machine in state.Machines.Values.ToArray())
                state.Put(machine with { ReadyAt = machine.ReadyAt == default ? default : machine.ReadyAt + by, Since = machine.Since + by });
        });
    }

    public override void Forget()
    {
        SimulatedWorld.Forget(Pool);
        World = SimulatedWorld.Open(Pool, Clock);
    }

    public override ValueTask DisposeAsync()
    {
        SimulatedWorld.Forget(Pool);
        _folder?.Dispose();
        return default;
    }
}

public sealed class SimulationHypervisorContract : HypervisorContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new SimulatedDriverWorld());
}

public sealed class SimulationMoverContract : MoverContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new SimulatedDriverWorld());
}
