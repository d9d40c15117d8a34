using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Simulation;

namespace VMatrix.Bench;

/// <summary>The soak on simulated hosts that fail, in one process on a virtual clock: thousands of kills a minute.</summary>
internal sealed class SimulatedSoak : Soak
{
    private readonly VirtualClock _clock = new();
    private SimulatedWorld _world;

    public SimulatedSoak(string folder, int seed)
        : base(seed)
    {
        Pool = TestPool.Simulated(folder, hosts: 5, limits: new LimitSpec { MovesPerHost = 3, MovesPerPool = 6, StepTimeout = TimeSpan.FromSeconds(30) }, simulation: new SimulationSpec
        {
            Seed = seed,
            BootTime = TimeSpan.FromSeconds(2),
            SharedDisks = seed % 4 != 3, // Most runs restart the servers of lost hosts elsewhere, some wait for the hosts.
            FailureRate = 0.02,
            SlowRate = 0.05,
            LostSampleRate = 0.02,
            Demand = [new DemandSpec { Service = "FINANCE", Rate = 20, Swing = 0.8, Period = TimeSpan.FromMinutes(10), Noise = 0.2 }, new DemandSpec { Service = "SPORTS", Rate = 15, Swing = 0.8, Period = TimeSpan.FromMinutes(7), Noise = 0.2 }],
        });
        _world = SimulatedWorld.Open(Pool, _clock);
    }

    protected override PoolSpec Pool { get; }

    protected override string Explanation => """
        On Simulation a kill stops the mover between two things that happen, or at a named point of a step; nothing in memory is carried over:
        every object is dropped, its locks end as a dead process's do, and the next one reads the files. (Real SIGKILLs at every point are in the tests.)
        """;

    protected override string More => $", {_clock.Elapsed.TotalMinutes:0} minutes of virtual time";

    protected override IReadOnlyList<string> Leftovers(IReadOnlyCollection<Guid> known) => _world.Leftovers(known);

    /// <inheritdoc/>
    protected override void Live(bool kill)
    {
        SimulatedWorld.Forget(Pool);
        _world = SimulatedWorld.Open(Pool, _clock);
        var hypervisor = new SimulatedHypervisor(_world);
        var balancer = new SimulatedBalancer(_world);
        var probe = new SimulatedHealthProbe(_world);
        using var state = StateFolder.Open(Pool.StateFolder, create: true);
        var mover = new Mover(Pool, hypervisor, balancer, probe, state, _clock, Random.Next());
        var dead = false;
        var happened = 0;
        var atPoint = kill && Random.Next(2) == 0;
        var killAt = atPoint ? Random.Next(1, 60) : Random.Next(1, 100);
        var passed = 0;
        var ended = _clock.RunUnlessKilled(
            async () =>
            {
                if (atPoint)
                {
                    Failpoint.Hook = name =>
                    {
                        if (!dead && ++passed < killAt)
                            return;
                        dead = true;
                        throw new AbandonException(name);
                    };
                }

                try
                {
                    await ActAsync(kill, mover, state, hypervisor, balancer, probe);
                }
                catch (AbandonException) when (dead)
                {
                }
                finally
                {
                    Failpoint.Hook = null;
                }
            },
            () => dead || (kill && !atPoint && ++happened > killAt));
        if (!ended || dead)
        {
            Kills++;
            KillsAtPoints += atPoint ? 1 : 0;
        }
    }

    private async Task ActAsync(bool kill, Mover mover, StateFolder state, SimulatedHypervisor hypervisor, SimulatedBalancer balancer, SimulatedHealthProbe probe)
    {
        if (!kill)
        {
            foreach (var host in Pool.Hosts)
                _world.SetHost(host.Name, HostCondition.Up);
            _world.ClearFaults();
        }

        await RetryAsync(() => balancer.EnsureAsync(default));
        var decider = Random.Next(3) > 0 ? state.Decide("soak") : null;
        var context = new MoveContext { By = StateFolder.Describe("soak"), Epoch = decider?.Epoch ?? 0 };
        Count(await mover.RecoverAsync(context, null, default));
        Count(await mover.MendAsync(context, null, default));
        if (kill)
        {
            Trouble();
            Count(await mover.CarryOutAsync(await PlanAsync(hypervisor), context, null, default));
        }
        else
        {
            await PutRightAsync(mover, context, state, hypervisor, balancer, probe, _clock);
        }

        decider?.Dispose();
    }

    /// <summary>Hosts are lost, cut off and come back; guests die and hang; all at moments of their own while moves go on.</summary>
    private void Trouble()
    {
        foreach (var host in Pool.Hosts)
        {
            if (Random.Next(8) == 0)
                _ = LaterAsync(() => _world.SetHost(host.Name, Pick((HostCondition.Up, 4), (HostCondition.Dead, 2), (HostCondition.CutOff, 2), (HostCondition.HalfDead, 1)) is var condition && condition != HostCondition.Up && ++LostHosts > 0 ? condition : HostCondition.Up));
        }

        if (Must.Count > 0 && Random.Next(4) == 0)
        {
            var server = Must.Order().ElementAt(Random.Next(Must.Count));
            var hang = Random.Next(2) == 0;
            Broken++;
            _ = LaterAsync(() =>
            {
                if (hang)
                    _world.Hang(server);
                else
                    _world.Crash(server);
            });
        }
    }

    private async Task LaterAsync(Action action)
    {
        await Task.Delay(TimeSpan.FromMilliseconds(Random.Next(10_000)), _clock);
        action();
    }
}
