using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Simulation;

/// <summary>The resident decider refreshes what sleeps too long, on simulated machines.</summary>
public sealed class RefreshTests
{
    [Fact]
    public void Over_a_day_no_sleeper_gets_older_than_it_may_and_none_is_refreshed_beside_another()
    {
        using var folder = new TemporaryFolder();
        var clock = new VirtualClock();
        var simulated = TestPool.Simulated(folder.Path);
        var pool = simulated with
        {
            Nest = simulated.Nest with { MaxSleep = TimeSpan.FromDays(1) },
            Oracle = new OracleSpec { Interval = TimeSpan.FromMinutes(1) },
            Services = [.. simulated.Services.Select(service => service with { Image = service.Image with { Warm = true } })],
        };
        var world = SimulatedWorld.InMemory(pool, clock);
        world.Demand = (_, _) => 3;
        var told = new Records();
        clock.Run(async () =>
        {
            using var state = StateFolder.Open(pool.StateFolder, create: true);
            var drivers = new PoolDrivers(new SimulatedHypervisor(world), new SimulatedBalancer(world), new SimulatedHealthProbe(world));
            await using var session = new PoolSession(pool, drivers, state, clock, new PoolSession.Trial(1, null, null));
            foreach (var service in pool.Services)
                Assert.All(await session.CarryOutAsync(await session.PlanCreateAsync(service.Name, 4, null, default), TimeSpan.Zero, null, default), record => Assert.Equal(MoveStatus.Done, record.Status));
            using var end = new CancellationTokenSource();
            var running = session.RunAsync("test", null, null, told, end.Token);
            for (int hour = 0; hour < 30; hour++)
            {
                await clock.DelayAsync(TimeSpan.FromHours(1), default);
                Assert.InRange((await drivers.Hypervisor.ReadHostAsync(pool.Hosts.Single(host => host.Role == HostRole.Chamber), default)).Machines.Count, 0, 1);
                var dormant = (await drivers.Hypervisor.ReadNestAsync(default)).Dormant;
                Assert.InRange(dormant.Count, 4, 8);
                Assert.All(dormant, machine => Assert.InRange(clock.GetUtcNow() - machine.AsleepSince!.Value, TimeSpan.Zero, TimeSpan.FromDays(1.1)));
            }

            end.Cancel();
            await running;
        });
        var refreshes = told.Ended.Where(record => record.Move is { Kind: MoveKind.Wake, ToStage: Stage.Chamber }).ToArray();
        Assert.InRange(refreshes.Length, 4, 8); // One night for the four and more that sleep.
        Assert.All(told.Ended, record => Assert.True(record.Status == MoveStatus.Done, record.Error));
        Assert.All(refreshes, record => Assert.Contains("nest.maxSleep", record.Move.Reason, StringComparison.Ordinal));
        Assert.Equal(refreshes.Length, told.Ended.Count(record => record.Move is { Kind: MoveKind.Hibernate, FromStage: Stage.Chamber }));
    }

    private sealed class Records : IProgress<MoveRecord>
    {
        public List<MoveRecord> Ended { get; } = [];

        public void Report(MoveRecord value)
        {
            if (value.Status is not (MoveStatus.Running or MoveStatus.Pending))
                Ended.Add(value);
        }
    }
}
