using System;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.Simulation;
using Xunit;

namespace VMatrix.Tests.Simulation;

public sealed class SimulatedWorldTests : IDisposable
{
    private static readonly Guid s_state = Guid.NewGuid();
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task What_one_process_did_another_one_sees()
    {
        var pool = TestPool.Simulated(_folder.Path);
        var clock = new VirtualClock();
        var first = SimulatedWorld.Open(pool, clock);
        first.Populate(Enumerable.Range(1, 20).Select(i => (TestPool.Mark(pool, "FINANCE", i, s_state, "1", clock.GetUtcNow(), stage: i % 2 == 0 ? Stage.Matrix : Stage.Nest), i % 2 == 0 ? $"host{(i % 3) + 1}" : null)));
        SimulatedWorld.Forget(pool);
        var second = SimulatedWorld.Open(pool, clock);
        Assert.NotSame(first, second);
        var driver = new SimulatedHypervisor(second);
        Assert.Equal(10, (await driver.ReadNestAsync(default)).Dormant.Count);

        // Both hold the world now: a change of either is seen by the other.
        var server = (await driver.ReadNestAsync(default)).Dormant[0].Mark!.ServerId;
        clock.Run(() => driver.FetchAsync(default, server, pool.Hosts[0], default));
        Assert.Contains((await new SimulatedHypervisor(first).ReadHostAsync(pool.Hosts[0], default)).Machines, machine => machine.Mark!.ServerId == server);
        first.SetHost("host2", HostCondition.CutOff);
        Assert.Equal(HostCondition.CutOff, second.GetHost("host2"));

    }

    [Fact]
    public async Task A_line_that_a_killed_process_left_unfinished_is_as_if_never_written()
    {
        var pool = TestPool.Simulated(_folder.Path);
        var world = SimulatedWorld.Open(pool, new VirtualClock());
        world.Populate([(TestPool.Mark(pool, "FINANCE", 1, s_state, "1", default), null)]);
        world.AddForeign("host1", "theirs", 1);
        var log = Path.Combine(pool.Nest.Folder, "simulation", "world.log");
        await File.AppendAllTextAsync(log, "{\"Machines\":[{\"Key\":\"unfinished\",\"Na");
        SimulatedWorld.Forget(pool);
        world = SimulatedWorld.Open(pool, new VirtualClock());
        Assert.Single((await new SimulatedHypervisor(world).ReadNestAsync(default)).Dormant);
        world.AddForeign("host1", "theirs too", 1);
        SimulatedWorld.Forget(pool);
        Assert.Equal(2, (await new SimulatedHypervisor(SimulatedWorld.Open(pool, new VirtualClock())).ReadHostAsync(pool.Hosts[0], default)).Machines.Count);
        Assert.DoesNotContain("unfinished", await File.ReadAllTextAsync(log), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_long_log_is_taken_into_a_short_one_and_readers_follow()
    {
        var pool = TestPool.Simulated(_folder.Path);
        var clock = new VirtualClock();
        var writer = SimulatedWorld.Open(pool, clock);
        writer.Populate(Enumerable.Range(1, 50).Select(i => (TestPool.Mark(pool, "SPORTS", i, s_state, "1", clock.GetUtcNow()), (string?)null)));
        SimulatedWorld.Forget(pool);
        var reader = SimulatedWorld.Open(pool, clock);
        var readerDriver = new SimulatedHypervisor(reader);
        var writerDriver = new SimulatedHypervisor(writer);
        Assert.Equal(50, (await readerDriver.ReadNestAsync(default)).Dormant.Count);
        var mark = (await readerDriver.ReadNestAsync(default)).Dormant[0].Mark!;
        var longest = 0L;
        var log = new FileInfo(Path.Combine(pool.Nest.Folder, "simulation", "world.log"));
        for (var i = 1; i <= 4000; i++)
        {
            await writerDriver.MarkAsync(default, mark with { Generation = i }, null, default);
            log.Refresh();
            if (log.Length < longest)
                break;
            longest = log.Length;
        }

        Assert.True(log.Length < longest, "The log was never made short.");
        var seen = (await readerDriver.ReadNestAsync(default)).Dormant;
        Assert.Equal(50, seen.Count);
        Assert.Equal((await writerDriver.ReadNestAsync(default)).Dormant.Max(machine => machine.Mark!.Generation), seen.Max(machine => machine.Mark!.Generation));
    }

    [Fact]
    public async Task Many_threads_change_the_world_and_nothing_is_lost()
    {
        var pool = TestPool.Simulated(_folder.Path);
        Parallel.For(0, 4, thread =>
        {
            for (var i = 0; i < 25; i++)
            {
                if (i % 10 == 9)
                    SimulatedWorld.Forget(pool); // Others go on with the object they have: as many processes.
                SimulatedWorld.Open(pool, TimeProvider.System).AddForeign("host1", $"{thread}-{i}", 1);
            }
        });
        SimulatedWorld.Forget(pool);
        var world = SimulatedWorld.Open(pool, TimeProvider.System);
        var machines = (await new SimulatedHypervisor(world).ReadHostAsync(pool.Hosts[0], default)).Machines;
        Assert.Equal(100, machines.Select(machine => machine.Name).Distinct().Count());
    }

    [Fact]
    public void A_dead_host_does_not_answer_and_comes_back_with_stopped_machines()
    {
        var clock = new VirtualClock();
        var pool = TestPool.Simulated(_folder.Path);
        var world = SimulatedWorld.InMemory(pool, clock);
        var driver = new SimulatedHypervisor(world);
        var mark = TestPool.Mark(pool, "FINANCE", 1, s_state, "1", clock.GetUtcNow(), stage: Stage.Matrix);
        world.Populate([(mark, "host1")]);
        world.SetHost("host1", HostCondition.Dead);
        clock.Run(async () =>
        {
            var error = await Assert.ThrowsAsync<VMatrixException>(() => driver.ReadHostAsync(pool.Hosts[0], default));
            Assert.Equal("HostUnreachable", error.Id);
            Assert.False(await driver.ProveStoppedAsync(mark.ServerId, pool.Hosts[0], default));
            world.SetHost("host1", HostCondition.Up);
            var machine = Assert.Single((await driver.ReadHostAsync(pool.Hosts[0], default)).Machines);
            Assert.Equal((PowerState.Off, ServerHealth.Dead), (machine.Power, machine.Health));
            Assert.True(await driver.ProveStoppedAsync(mark.ServerId, pool.Hosts[0], default));
        });
    }

    [Fact]
    public void The_pool_file_says_which_hosts_are_in_trouble()
    {
        var clock = new VirtualClock();
        var pool = TestPool.Simulated(_folder.Path);
        var mark = TestPool.Mark(pool, "FINANCE", 1, s_state, "1", clock.GetUtcNow(), stage: Stage.Matrix);
        SimulatedWorld.Open(pool, clock).Populate([(mark, "host1")]);
        var troubled = pool with { Simulation = pool.Simulation with { Dead = ["host1"], CutOff = ["host2"] } };
        Assert.Equal(HostCondition.Dead, SimulatedWorld.Open(troubled, clock).GetHost("host1"));
        SimulatedWorld.Open(troubled, clock).AddForeign("host3", "any change", 1);
        var mended = SimulatedWorld.Open(pool, clock);
        Assert.Equal(HostCondition.Up, mended.GetHost("host1"));
        clock.Run(async () => Assert.Equal(PowerState.Off, (await new SimulatedHypervisor(mended).ReadHostAsync(pool.Hosts[0], default)).Machines[0].Power));
    }

    [Fact]
    public void A_server_that_could_be_started_twice_without_locks_is_seen_to_live_twice()
    {
        var clock = new VirtualClock();
        var pool = TestPool.Simulated(_folder.Path, simulation: new SimulationSpec { SharedDisks = true });
        var world = SimulatedWorld.InMemory(pool, clock);
        var driver = new SimulatedHypervisor(world);
        var mark = TestPool.Mark(pool, "FINANCE", 1, s_state, "1", clock.GetUtcNow(), stage: Stage.Matrix);
        world.Populate([(mark, "host1")]);
        world.SetHost("host1", HostCondition.CutOff);
        clock.Run(async () =>
        {
            // With locks the driver refuses, without them only the mover's proof stands in the way.
            await Assert.ThrowsAsync<VMatrixException>(() => driver.CarryAsync(default, mark.ServerId, pool.Hosts[0], pool.Hosts[1], default));
            world.WithoutDiskLocks = true;
            await driver.CarryAsync(default, mark.ServerId, pool.Hosts[0], pool.Hosts[1], default);
            await driver.StartAsync(default, mark.ServerId, pool.Services[0], pool.Hosts[1], default);
        });
        Assert.Contains(world.Leftovers([mark.ServerId]), wrong => wrong.Contains("lives twice", StringComparison.Ordinal));
        Assert.Contains(world.Leftovers([mark.ServerId]), wrong => wrong.Contains("exists 2 times", StringComparison.Ordinal));
    }

    [Fact]
    public void Load_is_counted_against_what_servers_carry()
    {
        var clock = new VirtualClock();
        var pool = TestPool.Simulated(_folder.Path);
        var world = SimulatedWorld.InMemory(pool, clock);
        world.Demand = (service, _) => service == "FINANCE" ? 15 : 0;
        var balancer = new SimulatedBalancer(world);
        clock.Run(async () =>
        {
            await balancer.EnsureAsync(default);
            world.Populate([(TestPool.Mark(pool, "FINANCE", 1, s_state, "1", clock.GetUtcNow(), stage: Stage.Matrix), "host1")]);
            await Task.Delay(TimeSpan.FromSeconds(100), clock);
            var one = (await balancer.ReadAsync(default)).Services[0];
            Assert.Equal((1500, 1000), (one.Requests, one.Served));
            Assert.Equal(one.Requests, one.Served + one.Refused + one.Errors + one.Queue);
            Assert.True(one.Queue > 0);

            world.Populate([(TestPool.Mark(pool, "FINANCE", 2, s_state, "1", clock.GetUtcNow(), stage: Stage.Matrix), "host2")]);
            await Task.Delay(TimeSpan.FromSeconds(100), clock);
            var two = await balancer.ReadAsync(default);
            Assert.Equal(0, two.Services[0].Queue);
            Assert.Equal(two.Services[0].Served, two.Members.Sum(member => member.Requests), 2.0);

            world.SetHost("host1", HostCondition.CutOff);
            await Task.Delay(TimeSpan.FromSeconds(10), clock);
            var three = await balancer.ReadAsync(default);
            Assert.Equal(15, three.Services[0].Errors); // Half of 15 a second, for the two seconds until the balancer saw it.
            Assert.Equal(1, three.Members.Count(member => member.State == MemberState.Down));
        });
    }

    [Fact]
    public void The_same_seed_gives_the_same_failures()
    {
        string Run()
        {
            var clock = new VirtualClock();
            var pool = TestPool.Simulated(_folder.Path, simulation: new SimulationSpec { Seed = 7, FailureRate = 0.3, SlowRate = 0.2, LostSampleRate = 0.3 });
            var world = SimulatedWorld.InMemory(pool, clock);
            var driver = new SimulatedHypervisor(world);
            var told = new System.Text.StringBuilder();
            world.Populate(Enumerable.Range(1, 5).Select(i => (TestPool.Mark(pool, "FINANCE", i, s_state, "1", clock.GetUtcNow(), new Guid(i, 0, 0, new byte[8])), (string?)null)));
            clock.Run(() => Task.WhenAll(Enumerable.Range(1, 5).Select(async i =>
            {
                for (var turn = 0; turn < 20; turn++)
                {
                    var server = new Guid(i, 0, 0, new byte[8]);
                    try
                    {
                        await driver.FetchAsync(default, server, pool.Hosts[i % 3], default);
                        await driver.StartAsync(default, server, pool.Services[0], pool.Hosts[i % 3], default);
                        await driver.SaveAsync(default, server, pool.Hosts[i % 3], default);
                        await driver.StowAsync(default, server, pool.Hosts[i % 3], default);
                        told.Append(clock.Elapsed).Append(' ').Append(i).AppendLine(" round");
                    }
                    catch (VMatrixException error)
                    {
                        told.Append(clock.Elapsed).Append(' ').Append(i).AppendLine(error.Message);
                        await Task.Delay(TimeSpan.FromSeconds(1), clock);
                    }
                }
            })));
            return told.ToString();
        }

        var told = Run();
        Assert.Equal(told, Run());
        Assert.Contains("simulated", told, StringComparison.Ordinal);
        Assert.Contains("round", told, StringComparison.Ordinal);
    }
}
