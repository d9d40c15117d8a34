using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Simulation;

/// <summary>Hosts that are powered down and woken, by the mover and by the resident decider, on simulated machines.</summary>
public sealed class HostPowerTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly VirtualClock _clock = new();

    public void Dispose() => _folder.Dispose();

    private static readonly OracleSpec s_oracle = new()
    {
        Interval = TimeSpan.FromSeconds(5), PowerDown = true, PowerDownAfter = TimeSpan.FromMinutes(5), HostWakeTime = TimeSpan.FromMinutes(1), IdleHosts = 0, Calm = TimeSpan.FromSeconds(10),
    };

    private PoolSpec Pool() => TestPool.Simulated(_folder.Path, hosts: 4) is var pool ? pool with
    {
        Oracle = s_oracle,
        Services = [.. pool.Services.Select(s => s with { Isolation = Isolation.Dedicated })],
    } : throw new InvalidOperationException();

    private Mover Mover(PoolSpec pool, SimulatedWorld world, StateFolder state) => new(pool, new SimulatedHypervisor(world), new SimulatedBalancer(world), new SimulatedHealthProbe(world), state, _clock, seed: 1);

    private static HostAction Act(HostActionKind kind, string host) => new() { Id = Guid.NewGuid(), Kind = kind, Host = host, Reason = "a test" };

    private static readonly MoveContext s_context = new() { By = "test" };

    [Fact]
    public void The_decider_powers_down_what_is_idle_and_has_it_back_for_the_load()
    {
        var pool = Pool();
        var world = SimulatedWorld.InMemory(pool, _clock);
        bool busy = false;
        world.Demand = (service, _) => service == "FINANCE" && busy ? 25 : 3;
        var records = new List<HostActionRecord>();
        _clock.Run(async () =>
        {
            using var state = StateFolder.Open(pool.StateFolder, create: true);
            var drivers = new PoolDrivers(new SimulatedHypervisor(world), new SimulatedBalancer(world), new SimulatedHealthProbe(world));
            await using var session = new PoolSession(pool, drivers, state, _clock, new PoolSession.Trial(1, null, new Told<HostActionRecord>(records, r => r.Status)));
            using var end = new CancellationTokenSource();
            var running = session.RunAsync("test", null, null, null, end.Token);
            await _clock.DelayAsync(TimeSpan.FromMinutes(8), default);
            Assert.Equal(["host1", "host2", "host3", "host4"], pool.Hosts.Where(h => h.Role is HostRole.Matrix).Select(h => h.Name));
            Assert.Equal((HostCondition.PoweredDown, HostCondition.PoweredDown), (world.GetHost("host3"), world.GetHost("host4")));
            Assert.Equal((HostCondition.Up, HostCondition.Up), (world.GetHost("host1"), world.GetHost("host2")));
            busy = true;
            await _clock.DelayAsync(TimeSpan.FromMinutes(4), default);
            Assert.Equal((HostCondition.Up, HostCondition.Up), (world.GetHost("host3"), world.GetHost("host4")));
            Assert.Equal(3, world.CountLive()[0]);
            Assert.DoesNotContain(await session.GetHostsAsync(default), h => h.PoweredDown);
            end.Cancel();
            await running;
            Assert.Empty(state.ReadHostClaims());
            var history = await session.GetHostActionsAsync(null, 100, default);
            Assert.Equal(records.Select(r => (r.Action.Id, r.Status)).ToHashSet(), history.Select(r => (r.Action.Id, r.Status)).ToHashSet());
            Assert.All(history, r => Assert.NotEmpty(r.Action.Reason));
            Assert.Single(await session.GetHostActionsAsync(null, 1, default));
        });
        Assert.Equal(2, records.Count(r => r.Action.Kind is HostActionKind.PowerDown && r.Status is MoveStatus.Done));
        Assert.All(records.Where(r => r.Action.Kind is HostActionKind.Wake && r.Status is MoveStatus.Done), r => Assert.InRange((r.EndedAt - r.StartedAt)!.Value.TotalSeconds, 60, 62));
        Assert.DoesNotContain(records, r => r.Status is MoveStatus.Failed or MoveStatus.Refused);
    }

    [Fact]
    public void A_nights_low_load_ends_with_servers_gathered_and_fewer_hosts_up()
    {
        // Ten services share six hosts; by night each of them needs one server, and the hosts that these are on are not full.
        var simulated = TestPool.Simulated(_folder.Path, hosts: 6);
        var pool = simulated with
        {
            Oracle = s_oracle with { Horizon = TimeSpan.FromMinutes(5) },
            Services = [.. Enumerable.Range(0, 10).Select(i => simulated.Services[0] with { Name = $"S{i}", Priority = 1 + (0.1 * i) })],
        };
        var world = SimulatedWorld.InMemory(pool, _clock);
        int HostsUp() => pool.Hosts.Count(h => h.Role is HostRole.Matrix && world.GetHost(h.Name) == HostCondition.Up);
        // The services come to their peaks one after another, so that each is found on several hosts.
        bool night = false;
        var begin = _clock.GetUtcNow();
        world.Demand = (service, at) => night ? 3 : 3 + (Math.Abs((int)(at - begin).TotalMinutes - (2 * (service[1] - '0'))) < 6 ? 22 : 0);
        var moves = new List<MoveRecord>();
        int day = 0;
        _clock.Run(async () =>
        {
            using var state = StateFolder.Open(pool.StateFolder, create: true);
            var drivers = new PoolDrivers(new SimulatedHypervisor(world), new SimulatedBalancer(world), new SimulatedHealthProbe(world));
            await using var session = new PoolSession(pool, drivers, state, _clock, new PoolSession.Trial(1, null, null));
            using var end = new CancellationTokenSource();
            var running = session.RunAsync("test", null, null, new Told<MoveRecord>(moves, m => m.Status), end.Token);
            await _clock.DelayAsync(TimeSpan.FromMinutes(14), default);
            day = HostsUp();
            night = true;
            await _clock.DelayAsync(TimeSpan.FromMinutes(45), default);
            end.Cancel();
            await running;
        });
        var gathers = moves.Where(m => m.Move.Reason.StartsWith("gathers servers", StringComparison.Ordinal)).ToList();
        Assert.True(gathers.Count > 0 && gathers.TrueForAll(m => m.Status is MoveStatus.Done), $"{gathers.Count} moves gathered servers; {day} hosts by day, {HostsUp()} by night");
        // Four servers a host: no fewer hosts would do.
        Assert.Equal((world.CountLive().Sum() + 3) / 4, HostsUp());
        Assert.True(HostsUp() < day, $"{day} hosts by day, {HostsUp()} by night");
    }

    [Fact]
    public void What_waits_for_an_approval_is_done_with_hosts_once_it_has_it()
    {
        var pool = Pool();
        pool = pool with { Oracle = s_oracle with { Mode = OracleMode.Confirm }, Services = [.. pool.Services.Select(s => s with { Mode = OracleMode.Automatic })] };
        var world = SimulatedWorld.InMemory(pool, _clock);
        world.Demand = (_, _) => 3;
        _clock.Run(async () =>
        {
            using var state = StateFolder.Open(pool.StateFolder, create: true);
            var drivers = new PoolDrivers(new SimulatedHypervisor(world), new SimulatedBalancer(world), new SimulatedHealthProbe(world));
            await using var session = new PoolSession(pool, drivers, state, _clock);
            using var end = new CancellationTokenSource();
            var running = session.RunAsync("test", null, null, null, end.Token);
            await _clock.DelayAsync(TimeSpan.FromMinutes(8), default);
            Assert.All(pool.Hosts, h => Assert.Equal(HostCondition.Up, world.GetHost(h.Name)));
            Assert.Empty(await session.GetHostActionsAsync(null, 100, default));
            // Past half its time a plan that waits is made anew; the newest comes first.
            var waiting = (await session.GetPlansAsync(default)).First(p => p.Status is PlanStatus.Waiting);
            Assert.Equal(["host3", "host4"], waiting.Plan.Hosts.Select(h => h.Host).Order());
            Assert.Equal(waiting.Plan.Hosts.Select(h => h.Id).ToHashSet(), waiting.Waiting.ToHashSet());

            await session.ApprovePlanAsync(waiting.Id, default);
            await _clock.DelayAsync(TimeSpan.FromMinutes(1), default);
            Assert.Equal((HostCondition.PoweredDown, HostCondition.PoweredDown), (world.GetHost("host3"), world.GetHost("host4")));
            Assert.Equal(PlanStatus.Done, (await session.GetPlanAsync(waiting.Id, default)).Status);
            Assert.All(await session.GetHostActionsAsync(null, 100, default), r => Assert.Contains("approved by", r.By, StringComparison.Ordinal));
            end.Cancel();
            await running;
        });
    }

    [Fact]
    public void Nothing_is_started_on_a_host_that_goes_down_and_none_goes_down_under_a_server() => _clock.Run(async () =>
    {
        var pool = Pool();
        var world = SimulatedWorld.InMemory(pool, _clock);
        using var state = StateFolder.Open(pool.StateFolder, create: true);
        var mover = Mover(pool, world, state);
        await new SimulatedBalancer(world).EnsureAsync(default);
        var create = new Move { Id = Guid.NewGuid(), Kind = MoveKind.Create, ServerId = Guid.NewGuid(), ServerName = "FINANCE-1", Service = "FINANCE", FromStage = Stage.Nest, ToStage = Stage.Nest, Reason = "a test" };
        Assert.Equal(MoveStatus.Done, (await mover.CarryOutAsync([create], s_context, null, default))[0].Status);
        var wake = create with { Id = Guid.NewGuid(), Kind = MoveKind.Wake, ToStage = Stage.Matrix, ToHost = "host2" };

        // The power-down is first: the wake finds its claim.
        var down = mover.CarryOutAsync([Act(HostActionKind.PowerDown, "host2")], s_context, null, default);
        var refused = (await mover.CarryOutAsync([wake], s_context, null, default))[0];
        Assert.Equal(MoveStatus.Refused, refused.Status);
        Assert.Contains("host2 is being powered down by test", refused.Error, StringComparison.Ordinal);
        Assert.Equal(MoveStatus.Done, (await down)[0].Status);

        // The wake is first: the power-down finds its claim, and then the server.
        var waking = mover.CarryOutAsync([wake with { Id = Guid.NewGuid(), ToHost = "host1" }], s_context, null, default);
        Assert.Contains("host1 is not idle: FINANCE-1 is being moved there", (await mover.CarryOutAsync([Act(HostActionKind.PowerDown, "host1")], s_context, null, default))[0].Error, StringComparison.Ordinal);
        Assert.Equal(MoveStatus.Done, (await waking)[0].Status);
        Assert.Contains("host1 is not idle: 'FINANCE-1' runs on it", (await mover.CarryOutAsync([Act(HostActionKind.PowerDown, "host1")], s_context, null, default))[0].Error, StringComparison.Ordinal);
        Assert.Empty(state.ReadHostClaims());
        Assert.Empty(world.Leftovers([create.ServerId]));
    });

    [Theory]
    [InlineData(HostActionKind.PowerDown, "host.claimed")]
    [InlineData(HostActionKind.PowerDown, "host.down.before")]
    [InlineData(HostActionKind.PowerDown, "host.down.after")]
    [InlineData(HostActionKind.Wake, "host.claimed")]
    [InlineData(HostActionKind.Wake, "host.wake.before")]
    [InlineData(HostActionKind.Wake, "host.wake.after")]
    public void What_a_killed_decider_began_with_a_host_is_taken_up(HostActionKind kind, string point)
    {
        var pool = Pool();
        var world = SimulatedWorld.InMemory(pool, _clock);
        if (kind is HostActionKind.Wake)
            world.SetHost("host3", HostCondition.PoweredDown);
        bool dead = false;
        using (var state = StateFolder.Open(pool.StateFolder, create: true))
        {
            Assert.False(_clock.RunUnlessKilled(async () =>
            {
                Failpoint.Hook = name =>
                {
                    if (name != point)
                        return;
                    dead = true;
                    throw new AbandonException(name);
                };
                try
                {
                    await Mover(pool, world, state).CarryOutAsync([Act(kind, "host3")], s_context, null, default);
                }
                catch (AbandonException)
                {
                    await Task.Delay(-1);
                }
                finally
                {
                    Failpoint.Hook = null;
                }
            }, () => dead));
        }

        _clock.Run(async () =>
        {
            using var state = StateFolder.Open(pool.StateFolder, create: true);
            Assert.Single(state.ReadHostClaims());
            var record = Assert.Single(await Mover(pool, world, state).RecoverHostsAsync(s_context, null, default));
            Assert.True(record.Status is MoveStatus.Done, record.Error);
            Assert.Empty(state.ReadHostClaims());
        });
        Assert.Equal(kind is HostActionKind.Wake ? HostCondition.Up : HostCondition.PoweredDown, world.GetHost("host3"));
    }

    [Fact]
    public void A_power_down_whose_end_is_not_known_keeps_moves_away_until_it_is() => _clock.Run(async () =>
    {
        var pool = Pool();
        var world = SimulatedWorld.InMemory(pool, _clock);
        world.Inject(new SimulatedFault { Operation = "PowerDown", Kind = FaultKind.FailForGood, Point = FaultPoint.After });
        using var state = StateFolder.Open(pool.StateFolder, create: true);
        var mover = Mover(pool, world, state);
        Assert.Equal(MoveStatus.Failed, (await mover.CarryOutAsync([Act(HostActionKind.PowerDown, "host3")], s_context, null, default))[0].Status);
        Assert.NotNull(state.ReadHostClaim("host3"));
        Assert.Equal(MoveStatus.Done, Assert.Single(await mover.RecoverHostsAsync(s_context, null, default)).Status);
        Assert.Empty(state.ReadHostClaims());
    });

    /// <summary>Keeps what has ended.</summary>
    private sealed class Told<T>(List<T> records, Func<T, MoveStatus> status) : IProgress<T>
    {
        public void Report(T value)
        {
            if (status(value) is not MoveStatus.Running)
                records.Add(value);
        }
    }
}
