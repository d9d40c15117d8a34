using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Simulation;

/// <summary>The resident decider among servers, hosts and journals that fail again and again.</summary>
public sealed class FailureMemoryTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly VirtualClock _clock = new();

    public void Dispose() => _folder.Dispose();

    private PoolSpec Pool(Func<OracleSpec, OracleSpec>? oracle = null) => TestPool.Simulated(_folder.Path, hosts: 4) is var pool ? pool with
    {
        Oracle = (oracle ?? (o => o))(new OracleSpec { Interval = TimeSpan.FromSeconds(1), Calm = TimeSpan.FromSeconds(10) }),
        Services = [pool.Services[0] with { Least = 2, Isolation = Isolation.Dedicated }],
    } : throw new InvalidOperationException();

    private static PoolSession Session(PoolSpec pool, SimulatedWorld world, StateFolder state, TimeProvider clock) =>
        new(pool, new PoolDrivers(new SimulatedHypervisor(world), new SimulatedBalancer(world), new SimulatedHealthProbe(world)), state, clock);

    /// <summary>A session on a pool with so many sleepers that were just made.</summary>
    private void InPool(PoolSpec pool, int sleepers, Func<SimulatedWorld, PoolSession, IReadOnlyList<Move>, Task> play)
    {
        var world = SimulatedWorld.InMemory(pool, _clock);
        _clock.Run(async () =>
        {
            using var state = StateFolder.Open(pool.StateFolder, create: true);
            await using var session = Session(pool, world, state, _clock);
            var creates = await session.PlanCreateAsync("FINANCE", sleepers, null, default);
            await session.CarryOutAsync(creates, TimeSpan.Zero, null, default);
            await play(world, session, creates);
        });
    }

    private async Task Run(PoolSession session, TimeSpan time)
    {
        using var end = new CancellationTokenSource();
        var running = session.RunAsync("test", null, null, null, end.Token);
        await _clock.DelayAsync(time, default);
        await end.CancelAsync();
        await running;
    }

    [Fact]
    public void A_sleeper_that_cannot_be_woken_is_tried_ever_less_while_the_good_ones_serve()
    {
        InPool(Pool(), 3, async (world, session, creates) =>
        {

            // The one that goes first fails for good.
            var first = (await session.PlanSwitchAsync(default)).Moves.First(m => m.Kind is MoveKind.Wake);
            world.Inject(new SimulatedFault { Operation = "Start", ServerId = first.ServerId, Kind = FaultKind.FailForGood, Count = 100_000 });
            await Run(session, TimeSpan.FromMinutes(30));

            var servers = await session.GetServersAsync(false, null, default);
            Assert.Equal(2, servers.Count(s => s.Stage is Stage.Matrix));
            Assert.Equal(3, servers.Count);
            var tries = (await session.GetMovesAsync(null, 10_000, default)).Where(m => m.Move.ServerId == first.ServerId && m.Move.Kind is MoveKind.Wake).ToList();
            Assert.InRange(tries.Count, 1, 6);
            var bad = servers.Single(s => s.Id == first.ServerId);
            Assert.Contains("SimulatedFailure", bad.Problem, StringComparison.Ordinal);
        });
    }

    [Fact]
    public void The_next_process_knows_what_failed_before_it()
    {
        var pool = Pool();
        var world = SimulatedWorld.InMemory(pool, _clock);
        _clock.Run(async () =>
        {
            Guid bad;
            using (var state = StateFolder.Open(pool.StateFolder, create: true))
            {
                await using var session = Session(pool, world, state, _clock);
                await session.CarryOutAsync(await session.PlanCreateAsync("FINANCE", 3, null, default), TimeSpan.Zero, null, default);
                var plan = await session.PlanSwitchAsync(default);
                bad = plan.Moves.First(m => m.Kind is MoveKind.Wake).ServerId;
                world.Inject(new SimulatedFault { Operation = "Start", ServerId = bad, Kind = FaultKind.FailForGood, Count = 100 });
                await session.SwitchAsync(plan.Id, null, default);
            }

            using var again = StateFolder.Open(pool.StateFolder, create: true);
            await using var next = Session(pool, world, again, _clock);
            var second = await next.PlanSwitchAsync(default);
            Assert.DoesNotContain(second.Moves, m => m.ServerId == bad);
            Assert.Contains(second.Moves, m => m.Kind is MoveKind.Wake);
            Assert.Contains(second.Refused, r => r.What.StartsWith("wake FINANCE", StringComparison.Ordinal) && r.Reason.Contains("SimulatedFailure", StringComparison.Ordinal));
            Assert.Equal(bad, Assert.Single(await next.GetServersAsync(false, null, default), s => s.RetryAt is not null).Id);
        });
    }

    [Fact]
    public void A_balancer_that_takes_no_server_costs_a_few_boots_and_not_one_each_second()
    {
        InPool(Pool(), 2, async (world, session, _) =>
        {
            world.Inject(new SimulatedFault { Operation = "Join", Kind = FaultKind.FailForGood, Count = 100_000 });
            await Run(session, TimeSpan.FromMinutes(10));
            var boots = (await session.GetMovesAsync(null, 10_000, default)).Count(m => m.Move.Kind is MoveKind.Wake);
            Assert.InRange(boots, 1, 10);
            Assert.Equal(2, (await session.GetServersAsync(false, null, default)).Count);
        });
    }

    [Fact]
    public void A_move_that_can_be_neither_finished_nor_taken_back_is_tried_again_ever_less()
    {
        InPool(Pool(), 3, async (world, session, creates) =>
        {
            var stuck = creates[0].ServerId;
            await session.CarryOutAsync([await session.PlanMoveAsync(stuck, Stage.Matrix, "host1", false, default)], TimeSpan.Zero, null, default);
            world.Inject(new SimulatedFault { Operation = "Discard", ServerId = stuck, Kind = FaultKind.FailForGood, Count = 100_000 });
            var record = Assert.Single(await session.CarryOutAsync([await session.PlanMoveAsync(stuck, Stage.Disposed, null, false, default)], TimeSpan.Zero, null, default));
            Assert.Equal(MoveStatus.Failed, record.Status);

            var told = new List<MoveRecord>();
            using var end = new CancellationTokenSource();
            var running = session.RunAsync("test", null, null, new Ended(told), end.Token);
            await _clock.DelayAsync(TimeSpan.FromMinutes(30), default);
            await end.CancelAsync();
            await running;
            Assert.InRange(told.Count(r => r.Move.ServerId == stuck), 1, 12);
        });
    }

    [Fact]
    public void What_was_disposed_of_is_deleted_by_the_decider_when_its_time_is_up()
    {
        var pool = Pool();
        InPool(pool with { Nest = pool.Nest with { PurgeAfter = TimeSpan.FromHours(1) } }, 3, async (world, session, creates) =>
        {
            await session.CarryOutAsync([await session.PlanMoveAsync(creates[0].ServerId, Stage.Disposed, null, false, default)], TimeSpan.Zero, null, default);
            await Run(session, TimeSpan.FromMinutes(115));
            Assert.Equal(Stage.Disposed, (await session.GetServersAsync(false, null, default)).Single(s => s.Id == creates[0].ServerId).Stage);
            await Run(session, TimeSpan.FromMinutes(10));
            Assert.DoesNotContain(await session.GetServersAsync(false, null, default), s => s.Id == creates[0].ServerId);
            Assert.Equal(MoveKind.Purge, (await session.GetMovesAsync(null, 1000, default)).First(m => m.Move.ServerId == creates[0].ServerId).Move.Kind);
        });
    }

    /// <summary>Keeps what has ended.</summary>
    private sealed class Ended(List<MoveRecord> records) : IProgress<MoveRecord>
    {
        public void Report(MoveRecord value)
        {
            if (value.Status is not (MoveStatus.Pending or MoveStatus.Running))
                records.Add(value);
        }
    }
}
