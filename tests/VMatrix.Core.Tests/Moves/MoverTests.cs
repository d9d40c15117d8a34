using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

public sealed class MoverTests : IDisposable
{
    private readonly World _world = new();

    public void Dispose() => _world.Dispose();

    private void Run(Func<Task> body) => _world.Time.Run(body);

    [Fact]
    public void EveryKindOfMoveArrives() => Run(async () =>
    {
        var create = _world.Create();
        var record = await _world.CarryOut(create);
        Assert.Equal((MoveStatus.Done, null), (record.Status, record.Error));
        var server = _world.Servers[create.ServerId];
        Assert.Equal(World.Place.Nest, server.Place);
        Assert.Equal(_world.State.Id, server.Mark.StateId);

        async Task Go(MoveKind kind, Stage to, string? host)
        {
            var generation = server.Mark.Generation;
            var result = await _world.CarryOut(_world.Move(server, kind, to, host));
            Assert.True(result.Status is MoveStatus.Done, $"{kind} to {to}: {result.Status} {result.Error}");
            Assert.Equal((to, generation + 1), (server.Mark.Stage, server.Mark.Generation));
            Assert.Equal(host, server.Host);
            _world.AssertWhole();
        }

        await Go(MoveKind.Wake, Stage.Matrix, "m1");
        await Go(MoveKind.Relocate, Stage.Matrix, "m2");
        await Go(MoveKind.Relocate, Stage.Chamber, "c1");
        await Go(MoveKind.Relocate, Stage.Matrix, "m1");
        await Go(MoveKind.Hibernate, Stage.Nest, null);
        await Go(MoveKind.Wake, Stage.Chamber, "c1");
        await Go(MoveKind.Hibernate, Stage.Nest, null);
        await Go(MoveKind.Dispose, Stage.Disposed, null);
        await Go(MoveKind.Undo, Stage.Nest, null);
        await Go(MoveKind.Wake, Stage.Matrix, "m3");
        await Go(MoveKind.Dispose, Stage.Disposed, null);
        Assert.Equal(MoveStatus.Done, (await _world.CarryOut(_world.Move(server, MoveKind.Purge, Stage.Disposed))).Status);
        Assert.Empty(_world.Servers);
        Assert.Equal(13, _world.State.History.ReadMoves(null, 100).Count);
        Assert.Null(_world.State.History.Warning);
    });

    [Theory]
    [InlineData("told", VMatrixErrorKind.Failed, true)]
    [InlineData("BackendMissing", VMatrixErrorKind.NotFound, true)]
    [InlineData("BalancerUnreachable", VMatrixErrorKind.Unreachable, false)]
    public void A_balancer_that_refuses_servers_costs_no_boot(string id, VMatrixErrorKind kind, bool refuses) => Run(async () =>
    {
        var server = _world.Add("A", Stage.Nest, null);
        var serving = _world.Add("B", Stage.Matrix, "m2");
        var touched = 0;
        _world.Before = (op, _, _) =>
        {
            touched += op is "fetch" or "start" or "leave" or "join" ? 1 : 0;
            return null;
        };
        _world.Refusal = new VMatrixException(id, kind, "The backend FINANCE takes no servers at run time.");
        var log = new VMatrix.Planning.FailureLog();
        foreach (var move in new[] { _world.Move(server, MoveKind.Wake, Stage.Matrix, "m1"), _world.Move(serving, MoveKind.Relocate, Stage.Matrix, "m3") })
        {
            var record = await _world.CarryOut(move);
            log.Add(record);
            if (refuses)
                Assert.Equal((MoveStatus.Refused, "BalancerRefuses"), (record.Status, record.ErrorId));
            else
                Assert.Equal((MoveStatus.Done, null), (record.Status, record.Error));
        }

        Assert.Equal(refuses, touched == 0);
        Assert.Equal(refuses ? 1 : 0, log.Current.Count(f => f is { Scope: VMatrix.Planning.FailureScope.Service, IsRefusal: true }));
        _world.AssertWhole();
    });

    [Fact]
    public void AServerLeavesAfterItsOpenRequestsAndNotBefore() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        var id = server.Mark.ServerId;
        _world.Members[id] = _world.Members[id] with { Open = 1 };
        var left = TimeSpan.Zero;
        _world.After = (op, _, _) =>
        {
            if (op == "leave")
                left = _world.Time.Elapsed;
            return null;
        };
        var move = _world.CarryOut(_world.Move(server, MoveKind.Hibernate, Stage.Nest));
        await Task.Delay(TimeSpan.FromSeconds(3), _world.Time);
        Assert.Equal(MemberState.Draining, _world.Members[id].State);
        _world.Members[id] = _world.Members[id] with { Open = 0 };
        Assert.Equal(MoveStatus.Done, (await move).Status);
        Assert.InRange(left, TimeSpan.FromSeconds(3), TimeSpan.FromSeconds(4));
        _world.AssertWhole();
    });

    [Fact]
    public void ADrainEndsAtItsDeadline() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.Members[server.Mark.ServerId] = _world.Members[server.Mark.ServerId] with { Open = 7 };
        Assert.Equal(MoveStatus.Done, (await _world.CarryOut(_world.Move(server, MoveKind.Hibernate, Stage.Nest))).Status);
        Assert.True(_world.Time.Elapsed >= _world.Pool.Balancer.DrainTimeout);
        _world.AssertWhole();
    });

    [Fact]
    public void AWakeThatNeverPassesItsHealthCheckGoesBackToSleep() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Nest, null);
        var mark = server.Mark;
        _world.HealthOf = _ => "503 instead of 200";
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Wake, Stage.Matrix, "m1"));
        Assert.Equal(MoveStatus.Undone, record.Status);
        Assert.Contains("503 instead of 200", record.Error);
        Assert.Equal(mark, server.Mark);
        Assert.Equal(PowerState.Saved, server.Power);
        Assert.DoesNotContain("join", _world.Log);
        _world.AssertWhole();
    });

    [Fact]
    public void AMachineThatDiesWhileItStartsIsNotWaitedFor() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Nest, null);
        _world.After = (op, _, _) =>
        {
            if (op == "start")
                (server.Power, server.Address) = (PowerState.Off, null);
            return null;
        };
        var start = _world.Time.Elapsed;
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Wake, Stage.Chamber, "c1"));
        Assert.Equal(MoveStatus.Undone, record.Status);
        Assert.True(_world.Time.Elapsed - start < TimeSpan.FromSeconds(10), $"{_world.Time.Elapsed - start}");
        _world.AssertWhole();
    });

    [Fact]
    public void AHibernateWhoseSaveFailsJoinsAgain() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.Before = (op, _, _) => op == "save" ? new VMatrixException("DiskFull", VMatrixErrorKind.NoRoom, "No space left on m1.") : null;
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Hibernate, Stage.Nest));
        Assert.Equal(MoveStatus.Undone, record.Status);
        Assert.Contains("No space left on m1", record.Error);
        Assert.Equal(PowerState.Running, server.Power);
        _world.AssertWhole();
    });

    [Fact]
    public void AHibernateWhoseStowFailsWakesAgainWhereItWas() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.Before = (op, _, _) => op == "stow" ? new VMatrixException("DiskFull", VMatrixErrorKind.NoRoom, "The nest is full.") : null;
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Hibernate, Stage.Nest));
        Assert.Equal(MoveStatus.Undone, record.Status);
        Assert.Equal(("m1", PowerState.Running), (server.Host, server.Power));
        _world.AssertWhole();
    });

    [Fact]
    public void ARelocationThatFailsOnTheTargetComesBack() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.HealthOf = _ => server.Host == "m2" ? "no route" : null;
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Relocate, Stage.Matrix, "m2"));
        Assert.Equal(MoveStatus.Undone, record.Status);
        Assert.Equal("m1", server.Host);
        Assert.Equal(0, server.Mark.Generation);
        _world.AssertWhole();
    });

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ALiveRelocationSwitchesTheBalancersAddress(bool failing) => Run(async () =>
    {
        _world.CanMigrate = true;
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.HealthOf = _ => failing && server.Host == "m2" ? "hung" : null;
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Relocate, Stage.Matrix, "m2") with { Live = true });
        Assert.Equal(failing ? MoveStatus.Undone : MoveStatus.Done, record.Status);
        Assert.Equal(failing ? "m1" : "m2", server.Host);
        Assert.DoesNotContain("save", _world.Log);
        _world.AssertWhole();
    });

    [Fact]
    public void ADeadServerCanBeDisposedAndStowed() => Run(async () =>
    {
        var first = _world.Add("A", Stage.Matrix, "m1");
        var second = _world.Add("B", Stage.Matrix, "m2");
        foreach (var dead in new[] { first, second })
            (dead.Power, dead.Address) = (PowerState.Off, null);
        Assert.Equal(MoveStatus.Done, (await _world.CarryOut(_world.Move(first, MoveKind.Dispose, Stage.Disposed))).Status);
        Assert.Equal(MoveStatus.Done, (await _world.CarryOut(_world.Move(second, MoveKind.Hibernate, Stage.Nest))).Status);
        _world.AssertWhole();
    });

    [Fact]
    public void PassingErrorsAreTriedAgainAndEnd() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Nest, null);
        var failures = 2;
        _world.Before = (op, _, _) => op == "fetch" && failures-- > 0 ? new VMatrixException("Flaky", VMatrixErrorKind.Failed, "Not now.") { IsTransient = true } : null;
        Assert.Equal(MoveStatus.Done, (await _world.CarryOut(_world.Move(server, MoveKind.Wake, Stage.Matrix, "m1"))).Status);
        failures = int.MaxValue;
        _world.Log.Clear();
        _world.Before = (op, _, _) => op == "save" && failures-- > 0 ? new VMatrixException("Flaky", VMatrixErrorKind.Failed, "Not now.") { IsTransient = true } : null;
        Assert.Equal(MoveStatus.Undone, (await _world.CarryOut(_world.Move(server, MoveKind.Hibernate, Stage.Nest))).Status);
        Assert.Equal(_world.Pool.Limits.Tries, _world.Log.Count(o => o == "save"));
        _world.AssertWhole();
    });

    [Fact]
    public void AStepThatHangsIsCutAtItsDeadline() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        var hung = new World.Hang(_world, "save");
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Hibernate, Stage.Nest));
        Assert.Equal(MoveStatus.Undone, record.Status);
        Assert.Contains("StepTimeout", record.Error);
        Assert.True(hung.Cancelled);
        _world.AssertWhole();
    });

    [Fact]
    public void WhatNoLongerHoldsIsRefusedWithWhatDependsOnIt() => Run(async () =>
    {
        var first = _world.Add("A", Stage.Matrix, "m1");
        var second = _world.Add("B", Stage.Nest, null);
        var third = _world.Add("C", Stage.Nest, null);
        var stale = _world.Move(first, MoveKind.Hibernate, Stage.Nest) with { Generation = 7 };
        var dependent = _world.Move(second, MoveKind.Wake, Stage.Matrix, "m1", stale.Id);
        var free = _world.Move(third, MoveKind.Wake, Stage.Matrix, "m2");
        var records = await _world.Mover.CarryOutAsync([dependent, stale, free], _world.Hand, null, default);
        Assert.Equal([MoveStatus.Refused, MoveStatus.Refused, MoveStatus.Done], records.Select(r => r.Status));
        Assert.Contains("generation is 0", records[1].Error);
        _world.AssertWhole();
    });

    [Fact]
    public void ADropMakesRoomForTheMoveThatDependsOnIt() => Run(async () =>
    {
        var old = _world.Add("A", Stage.Matrix, "m1");
        var wanted = _world.Add("B", Stage.Nest, null, "SPORTS");
        var drop = _world.Move(old, MoveKind.Hibernate, Stage.Nest) with { IsDrop = true };
        var records = await _world.Mover.CarryOutAsync([drop, _world.Move(wanted, MoveKind.Wake, Stage.Matrix, "m1", drop.Id)], _world.Hand, null, default);
        Assert.All(records, r => Assert.True(r.Status is MoveStatus.Done, r.Error));
        _world.AssertWhole();
    });

    [Fact]
    public void ACreateAndItsWakeAreOnePlan() => Run(async () =>
    {
        var create = _world.Create();
        var wake = create with { Id = Guid.NewGuid(), Kind = MoveKind.Wake, ToStage = Stage.Matrix, ToHost = "m1", Generation = 1, DependsOn = [create.Id] };
        var records = await _world.Mover.CarryOutAsync([create, wake], _world.Hand, null, default);
        Assert.All(records, r => Assert.True(r.Status is MoveStatus.Done, r.Error));
        _world.AssertWhole();
    });

    [Fact]
    public void OfTwoServersForOnePlaceOneIsRefused() => Run(async () =>
    {
        var moves = new[] { "A", "B", "C" }.Select(n => _world.Move(_world.Add(n, Stage.Nest, null), MoveKind.Wake, Stage.Matrix, "m1")).ToArray();
        var records = await _world.Mover.CarryOutAsync(moves, _world.Hand, null, default);
        Assert.True(records.Count(r => r.Status is MoveStatus.Done) <= 1);
        Assert.All(records.Where(r => r.Status is not MoveStatus.Done), r => Assert.Contains("NoRoom", r.Error));
        _world.AssertWhole();
    });

    [Fact]
    public void MovesInACircleAreRefused() => Run(async () =>
    {
        var a = _world.Move(_world.Add("A", Stage.Matrix, "m1"), MoveKind.Hibernate, Stage.Nest);
        var b = _world.Move(_world.Add("B", Stage.Matrix, "m2"), MoveKind.Hibernate, Stage.Nest, null, a.Id);
        var records = await _world.Mover.CarryOutAsync([a with { DependsOn = [b.Id] }, b], _world.Hand, null, default);
        Assert.All(records, r => Assert.Equal(MoveStatus.Refused, r.Status));
        _world.AssertWhole();
    });

    [Theory]
    [InlineData("suspended")]
    [InlineData("unreachable")]
    [InlineData("role")]
    [InlineData("foreign")]
    [InlineData("held")]
    [InlineData("illegal")]
    [InlineData("room")]
    public void APreconditionIsChecked(string what) => Run(async () =>
    {
        var server = _world.Add("A", Stage.Nest, null);
        var move = _world.Move(server, MoveKind.Wake, Stage.Matrix, "m1");
        var context = _world.Hand;
        var expected = "";
        switch (what)
        {
            case "suspended":
                _world.State.Overrides.SetHost(new HostOverride { Host = "m1", By = "Anna", At = _world.Time.GetUtcNow() });
                expected = "suspended by Anna";
                break;
            case "unreachable":
                _world.DownHosts.Add("m1");
                expected = "HostUnreachable";
                break;
            case "role":
                move = move with { ToHost = "c1" };
                expected = "Chamber host";
                break;
            case "foreign":
                server.Mark = server.Mark with { StateId = Guid.NewGuid() };
                expected = server.Mark.StateId.ToString();
                break;
            case "held":
                server.Mark = server.Mark with { HeldUntil = _world.Time.GetUtcNow().AddMinutes(1) };
                context = context with { Epoch = _world.State.Decide("oracle").Epoch };
                expected = "held until";
                break;
            case "illegal":
                server.Mark = server.Mark with { Stage = Stage.Disposed };
                server.Place = World.Place.Disposed;
                move = move with { FromStage = Stage.Disposed };
                expected = "from the Disposed it may move to: Nest";
                break;
            case "room":
                _world.Add("B", Stage.Matrix, "m1");
                expected = "has or expects B";
                break;
        }
        var record = (await _world.Mover.CarryOutAsync([move], context, null, default))[0];
        Assert.Equal(MoveStatus.Refused, record.Status);
        Assert.Contains(expected, record.Error);
        Assert.Empty(_world.Log);
        Assert.Empty(_world.State.ReadOpenMoves());
    });

    [Fact]
    public void LimitsHoldInThePoolAndOnEachHost() => Run(async () =>
    {
        _world.Pool = _world.Pool with
        {
            Limits = new LimitSpec { MovesPerPool = 3, MovesPerHost = 2 },
            Hosts = [.. _world.Pool.Hosts.Select(h => h with { MemoryBytes = 1L << 40 })],
        };
        _world.MakeMover();
        var (now, most) = (new Dictionary<string, int>(), new Dictionary<string, int>());
        var progress = new Watch(r =>
        {
            var step = r.Status is MoveStatus.Running ? (r.Step == "fetch" ? 1 : 0) : -1;
            foreach (var key in new[] { "pool", r.Move.ToHost! })
                most[key] = Math.Max(most.GetValueOrDefault(key), now[key] = now.GetValueOrDefault(key) + step);
        });
        var moves = Enumerable.Range(0, 24).Select(i => _world.Move(_world.Add($"S{i}", Stage.Nest, null, "SPORTS"), MoveKind.Wake, Stage.Matrix, $"m{1 + (i % 3)}")).ToArray();
        var records = await _world.Mover.CarryOutAsync(moves, _world.Hand, progress, default);
        Assert.All(records, r => Assert.True(r.Status is MoveStatus.Done, r.Error));
        Assert.Equal(3, most["pool"]);
        Assert.All(new[] { "m1", "m2", "m3" }, h => Assert.InRange(most[h], 1, 2));
        _world.AssertWhole();
    });

    [Fact]
    public void ASecondMoverIsRefusedByName() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        using var other = StateFolder.Open(_world.StatePath, create: true);
        var second = new Mover(_world.Pool, _world, _world, _world, other, _world.Time);
        var first = _world.CarryOut(_world.Move(server, MoveKind.Hibernate, Stage.Nest));
        await Task.Delay(TimeSpan.FromMilliseconds(250), _world.Time);
        var record = (await second.CarryOutAsync([_world.Move(server, MoveKind.Dispose, Stage.Disposed)], new MoveContext { By = "hand" }, null, default))[0];
        Assert.Equal(MoveStatus.Refused, record.Status);
        Assert.Contains("ServerClaimed: A is being moved by tester (process 1 on HERE)", record.Error);
        Assert.Empty(await second.RecoverAsync(new MoveContext { By = "hand" }, null, default));
        Assert.Equal(MoveStatus.Running, Assert.Single(other.ReadOpenMoves()).Status);
        Assert.Equal(MoveStatus.Done, (await first).Status);
        _world.AssertWhole();
    });

    [Fact]
    public void AMoveByHandIsHeld() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Nest, null);
        await _world.Mover.CarryOutAsync([_world.Move(server, MoveKind.Wake, Stage.Matrix, "m1")], _world.Hand with { HoldFor = TimeSpan.FromMinutes(30) }, null, default);
        Assert.InRange(server.Mark.HeldUntil!.Value - _world.Time.GetUtcNow(), TimeSpan.FromMinutes(29), TimeSpan.FromMinutes(30));
    });

    [Fact]
    public void CancellationAtAnyMomentEndsWhole() => Run(async () =>
    {
        // Each kind of move is cancelled after 0, 50, 100 ... ms until it is too late to.
        foreach (var (kind, from, fromHost, to, toHost) in Routes)
        {
            for (var after = 0; ; after += 50)
            {
                var server = _world.Add($"{kind}-{after}", from, fromHost);
                using var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(after), _world.Time);
                var record = await _world.CarryOut(_world.Move(server, kind, to, toHost), cancel.Token);
                _world.AssertWhole();
                Assert.True(record.Status is MoveStatus.Done or MoveStatus.Undone or MoveStatus.Cancelled, $"{kind} after {after} ms: {record.Status} {record.Error}");
                Assert.Equal(record.Status is MoveStatus.Done ? to : from, _world.Servers.GetValueOrDefault(server.Mark.ServerId)?.Mark.Stage ?? Stage.Disposed);
                _world.Servers.Clear();
                _world.Members.Clear();
                if (record.Status is MoveStatus.Done && !cancel.IsCancellationRequested)
                    break;
            }
        }
    });

    public static readonly (MoveKind Kind, Stage From, string? FromHost, Stage To, string? ToHost)[] Routes =
    [
        (MoveKind.Wake, Stage.Nest, null, Stage.Matrix, "m1"),
        (MoveKind.Wake, Stage.Nest, null, Stage.Chamber, "c1"),
        (MoveKind.Hibernate, Stage.Matrix, "m1", Stage.Nest, null),
        (MoveKind.Hibernate, Stage.Chamber, "c1", Stage.Nest, null),
        (MoveKind.Relocate, Stage.Matrix, "m1", Stage.Matrix, "m2"),
        (MoveKind.Relocate, Stage.Matrix, "m1", Stage.Chamber, "c1"),
        (MoveKind.Relocate, Stage.Chamber, "c1", Stage.Matrix, "m1"),
        (MoveKind.Dispose, Stage.Matrix, "m1", Stage.Disposed, null),
        (MoveKind.Dispose, Stage.Nest, null, Stage.Disposed, null),
        (MoveKind.Undo, Stage.Disposed, null, Stage.Nest, null),
        (MoveKind.Purge, Stage.Disposed, null, Stage.Disposed, null),
    ];

    private sealed class Watch(Action<MoveRecord> seen) : IProgress<MoveRecord>
    {
        public void Report(MoveRecord value) => seen(value);
    }
}
