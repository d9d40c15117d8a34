using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Contract;

/// <summary>A kind of move as the contract tries it: where the server stands before, and where it is to go.</summary>
public sealed record Way(string Route, Stage? From, Stage To, bool Elsewhere = false, bool Live = false)
{
    /// <summary>One way for each kind of move, each through all of its kind's steps.</summary>
    public static IReadOnlyList<Way> All { get; } =
    [
        new("create", null, Stage.Nest),
        new("wake", Stage.Nest, Stage.Matrix),
        new("hibernate", Stage.Matrix, Stage.Nest),
        new("relocate", Stage.Matrix, Stage.Matrix, Elsewhere: true),
        new("relocate-live", Stage.Matrix, Stage.Matrix, Elsewhere: true, Live: true),
        new("dispose", Stage.Matrix, Stage.Disposed),
        new("undo", Stage.Disposed, Stage.Nest),
        new("purge", Stage.Disposed, Stage.Disposed),
        new("rejoin", Stage.Matrix, Stage.Matrix),
        new("restart", Stage.Matrix, Stage.Matrix, Elsewhere: true),
        new("mend", Stage.Matrix, Stage.Nest),
        new("publish", Stage.Chamber, Stage.Chamber),
        new("register", null, Stage.Matrix),
        new("unregister", Stage.Matrix, Stage.Matrix),
    ];

    /// <summary>Every other way through the kinds that have several.</summary>
    public static IReadOnlyList<Way> Others { get; } =
    [
        new("wake", Stage.Nest, Stage.Chamber),
        new("hibernate", Stage.Chamber, Stage.Nest),
        new("relocate", Stage.Matrix, Stage.Chamber, Elsewhere: true),
        new("relocate", Stage.Chamber, Stage.Matrix, Elsewhere: true),
        new("relocate-live", Stage.Matrix, Stage.Chamber, Elsewhere: true, Live: true),
        new("relocate-live", Stage.Chamber, Stage.Matrix, Elsewhere: true, Live: true),
        new("dispose", Stage.Nest, Stage.Disposed),
        new("dispose", Stage.Chamber, Stage.Disposed),
        new("register", null, Stage.Nest),
        new("register", null, Stage.Chamber),
        new("unregister", Stage.Chamber, Stage.Chamber),
        new("unregister", Stage.Nest, Stage.Nest),
    ];

    public static Way Of(string name) => All.Concat(Others).First(way => way.Name == name);

    public string Name => $"{Route} {(From is null ? "" : $"{From} ")}to {To}";

    /// <summary>The names of the steps that it has.</summary>
    public IReadOnlyList<string> Steps => [.. MoveRoutes.All.First(route => route.Name == Route).For(Route == "mend" ? Stage.Nest : Route == "register" ? To : From ?? Stage.Nest, To).Select(step => step.Name)];

    /// <summary>The failpoints that it passes.</summary>
    public IReadOnlyList<string> Points => [.. new[] { $"{Route}.claimed" }.Where(_ => Route is not ("restart" or "mend")), .. Steps.SelectMany(step => new[] { $"{Route}.{step}.before", $"{Route}.{step}.after" }), $"{Route}.ending"];

    /// <summary>Why the driver cannot do it, by what it declares; null when it can.</summary>
    public string? WhyNot(Scene scene)
    {
        var traits = scene.Hypervisor.Traits;
        return Live && !traits.LiveMigration ? $"{traits.Name} has no live migration"
            : Route == "restart" && !traits.SharedDisks ? $"on {traits.Name} no host reaches a dead one's disks"
            : null;
    }

    /// <summary>Brings a server to where it begins, and makes its move.</summary>
    public async Task<Move> PrepareAsync(Scene scene)
    {
        if (Route == "register")
            return await ForeignAsync(scene);
        if (From is not { } from)
        {
            var create = scene.Create();
            scene.Made.Add(create.ServerId);
            return create;
        }

        var server = await scene.MakeAsync(from == Stage.Disposed ? Stage.Nest : from, from == Stage.Matrix ? scene.Host(2) : null);
        if (from == Stage.Disposed)
            await scene.MoveAsync(server, Stage.Disposed);
        if (Route == "rejoin")
            await scene.Balancer.LeaveAsync(default, scene.Finance.Name, server, default);
        var move = await scene.PlanAsync(server, To, To == Stage.Matrix ? scene.Host(Route == "rejoin" ? 2 : 3) : null, Live);
        if (Route == "publish")
            return move with { Kind = MoveKind.Publish };
        if (Route == "unregister")
            return move with { Kind = MoveKind.Unregister, ToHost = move.FromHost };
        if (Route == "restart")
            await scene.World.LoseHostAsync(scene.Host(2));
        if (Route != "mend")
            return move;

        // Its journal is lost: it is marked as dormant and runs.
        await scene.Hypervisor.MarkAsync(default, (await scene.FindAsync(server)).Machine.Mark! with { Stage = Stage.Nest }, scene.Host(2), default);
        return move with { FromStage = Stage.Nest };
    }

    // A machine that is not ours: one that was, and was let go by plain calls.
    private async Task<Move> ForeignAsync(Scene scene)
    {
        var server = await scene.MakeAsync(To, To == Stage.Matrix ? scene.Host(2) : null);
        if (To == Stage.Nest)
            await scene.Hypervisor.FetchAsync(default, server, scene.Host(2), default);
        var (machine, host) = await scene.FindAsync(server);
        await scene.Balancer.LeaveAsync(default, scene.Finance.Name, server, default);
        await scene.Hypervisor.ReleaseAsync(default, server, scene.Pool.Hosts.First(spec => spec.Name == host), default);
        Assert.Empty(await scene.SightAsync(server));
        return new Move
        {
            Id = Guid.NewGuid(),
            Kind = MoveKind.Register,
            ServerId = server,
            ServerName = machine.Name,
            Service = scene.Finance.Name,
            FromStage = To,
            FromHost = host,
            MachineId = machine.MachineId,
            ToStage = To,
            ToHost = To == Stage.Nest ? null : host,
            Reason = "a test",
        };
    }

    // The machine that is ours no more, or not yet, is where and as it was. It becomes a server again by plain calls, so that it can be cleared away.
    private async Task ExpectForeignAsync(Scene scene, Move move)
    {
        var on = scene.Pool.Hosts.FirstOrDefault(host => host.Name == move.FromHost);
        var machines = on is null ? (await scene.Hypervisor.ReadNestAsync(default)).Dormant : (await scene.Hypervisor.ReadHostAsync(on, default)).Machines;
        var machine = Assert.Single(machines, machine => machine.Mark is null);
        Assert.Equal(To == Stage.Nest, machine.Power is not PowerState.Running);
        Assert.DoesNotContain((await scene.Balancer.ReadAsync(default)).Members, member => member.ServerId == move.ServerId);
        var image = machine.StaleMark?.Image ?? (await scene.Hypervisor.ReadNestAsync(default)).Images[move.Service];
        await scene.Hypervisor.AdoptAsync(default, machine.MachineId, TestPool.Mark(scene.Pool, move.Service, 1, scene.State.Id, image, scene.World.Clock.GetUtcNow(), move.ServerId, To), on, default);
        if (To == Stage.Nest && on is not null)
            await scene.Hypervisor.StowAsync(default, move.ServerId, on, default);
        if (To == Stage.Matrix)
            await scene.Balancer.JoinAsync(default, scene.Finance, move.ServerId, machine.Address!, default);
    }

    /// <summary>Where the server must be when the move has ended so: after it, or as before it.</summary>
    public async Task ExpectAsync(Scene scene, Move move, MoveStatus status)
    {
        if (Route == "restart")
            await scene.World.RestoreHostAsync(scene.Host(2));
        if (Route == "mend" && status != MoveStatus.Done)
        {
            // Nothing is lost by trying again, if there is still something to put right.
            Assert.All(await scene.Mover.MendAsync(scene.Context(), null, default), record => Assert.Equal(MoveStatus.Done, record.Status));
            status = MoveStatus.Done;
        }

        var copies = await scene.SightAsync(move.ServerId);
        var done = status == MoveStatus.Done;
        if (Route is "register" or "unregister" && done == (Route == "unregister"))
        {
            Assert.Empty(copies);
            await ExpectForeignAsync(scene, move);
            return;
        }

        if (done ? Route == "purge" : From is null)
        {
            Assert.Empty(copies);
            scene.Made.Remove(move.ServerId);
            return;
        }

        var (machine, host) = Assert.Single(copies);
        if (Route == "restart" && !done && machine.Mark!.Stage == Stage.Nest)
        {
            Assert.Null(host); // Taken back, it sleeps in the nest: where it was is gone.
            return;
        }

        Assert.Equal(done ? To : From, machine.Mark!.Stage);
        if (Route == "register")
            Assert.Equal((scene.State.Id, move.ServerName, To == Stage.Nest), (machine.Mark.StateId, machine.Mark.Name, machine.Power is not PowerState.Running));
        Assert.Equal(done ? move.ToHost : move.FromHost, host);
        if (Route == "publish")
        {
            Assert.Equal(PowerState.Running, machine.Power);
            Assert.Equal(done, (await scene.Hypervisor.ReadNestAsync(default)).Images[move.Service] != machine.Mark.Image);
        }

        if (Route == "restart" && !done)
            await scene.MoveAsync(move.ServerId, Stage.Nest); // It died with its host and is there again with it, as nobody had touched it.
        if (Route == "rejoin" && !done)
            await scene.MoveAsync(move.ServerId, Stage.Matrix, scene.Host(2)); // The balancer has lost it, as before.
    }

    public override string ToString() => Name;
}

/// <summary>What the mover keeps to on every driver: legal changes and no others, whatever fails and wherever it is stopped.</summary>
public abstract class MoverContract
{
    private static readonly Stage[] s_stages = [Stage.Nest, Stage.Chamber, Stage.Matrix, Stage.Disposed];

    public static TheoryData<Stage, Stage> Changes
    {
        get
        {
            var data = new TheoryData<Stage, Stage>();
            foreach (var from in s_stages)
                foreach (var to in s_stages)
                    data.Add(from, to);
            return data;
        }
    }

    public static TheoryData<string> WayNames => [.. Way.All.Select(way => way.Name)];

    public static TheoryData<string> AllWayNames => [.. Way.All.Concat(Way.Others).Select(way => way.Name)];

    public static TheoryData<string, TroubleKind> Troubles
    {
        get
        {
            var data = new TheoryData<string, TroubleKind>();
            foreach (var way in Way.All)
                foreach (var kind in Enum.GetValues<TroubleKind>())
                    data.Add(way.Name, kind);
            return data;
        }
    }

    protected abstract Task<DriverWorld> OpenWorldAsync();

    /// <summary>The same with servers that have disks, which images are made from; for drivers whose servers may do without.</summary>
    protected virtual Task<DriverWorld> OpenWorldWithDisksAsync() => OpenWorldAsync();

    [SkippableTheory]
    [MemberData(nameof(Changes))]
    public Task Every_change_of_stage_is_made_or_refused(Stage from, Stage to) => RunAsync(async (world, scene) =>
    {
        var server = await scene.MakeAsync(from == Stage.Disposed ? Stage.Nest : from);
        if (from == Stage.Disposed)
            await scene.MoveAsync(server, Stage.Disposed);
        var (before, host) = await scene.FindAsync(server);
        var move = await scene.PlanAsync(server, to, from == to && to == Stage.Matrix ? scene.Host(2) : null);
        if (to == Stage.Disposed && from == Stage.Disposed)
            move = move with { Kind = MoveKind.Dispose }; // To purge is another kind of move.
        var legal = from == to ? from == Stage.Matrix : StageRules.IsLegal(from, to); // There is one chamber host, so no other one to move to.
        var record = await scene.CarryOutAsync(move);
        if (!legal)
        {
            if (from != Stage.Chamber)
            {
                Assert.Equal(MoveStatus.Refused, record.Status);
                Assert.Contains("may move to", record.Error, StringComparison.Ordinal);
            }

            var (same, where) = await scene.FindAsync(server);
            Assert.Equal((before.Mark!.Stage, before.Mark.Generation, before.Power, host), (same.Mark!.Stage, same.Mark.Generation, same.Power, where));
            return;
        }

        Assert.True(record.Status == MoveStatus.Done, $"{record.Status} in {record.Step}: {record.Error}");
        var (after, on) = await scene.FindAsync(server);
        Assert.Equal((to, before.Mark!.Generation + 1, move.ToHost, before.MachineId), (after.Mark!.Stage, after.Mark.Generation, on, after.MachineId));
        if (from is Stage.Matrix or Stage.Chamber && to == Stage.Nest)
            Assert.Equal(PowerState.Saved, after.Power);
    });

    [SkippableTheory]
    [MemberData(nameof(Troubles))]
    public Task A_call_that_goes_wrong_leaves_the_server_whole(string wayName, TroubleKind kind) => RunAsync(async (world, _) =>
    {
        var way = Way.Of(wayName);
        var calls = TroubledHypervisor.Calls.Concat(TroubledBalancer.Calls).ToArray();
        if (world.IsSlow)
            calls = [calls[(world.Seed + (int)kind) % calls.Length], .. calls.Where(call => string.Equals(call, way.Steps[(world.Seed + (int)kind) % way.Steps.Count], StringComparison.OrdinalIgnoreCase))];
        foreach (var call in calls)
        {
            var trouble = new Trouble(call, kind);
            await using var calm = await Scene.OpenAsync(world);
            Skip.If(way.WhyNot(calm) is not null, way.WhyNot(calm));
            var move = await way.PrepareAsync(calm);
            calm.State.Dispose();
            MoveRecord record;
            await using (var troubled = await Scene.OpenAsync(world, real => new TroubledHypervisor(real, trouble), real => new TroubledBalancer(real, trouble)))
                record = await troubled.CarryOutAsync(move);
            if (trouble.Times == 0)
            {
                Assert.True(record.Status == MoveStatus.Done, $"{call} {kind}: {record.Status} in {record.Step}: {record.Error}");
            }
            else if (kind is TroubleKind.Passing or TroubleKind.AnswerLost)
            {
                Assert.True(record.Status == MoveStatus.Done, $"{call} {kind}: {record.Status} in {record.Step}: {record.Error}");
                Assert.Equal(1, trouble.Times);
            }
            else
            {
                Assert.Contains(record.Status, new[] { MoveStatus.Done, MoveStatus.Undone, MoveStatus.Failed, MoveStatus.Interrupted });
                if (record.Status != MoveStatus.Done)
                    Assert.Contains(kind == TroubleKind.Hangs ? "took longer than" : "went wrong", record.Error, StringComparison.Ordinal);
            }

            // What the trouble has left open is finished or taken back once it is over.
            await using var scene = await Scene.OpenAsync(world);
            scene.Made.UnionWith(calm.Made);
            if (record.Status is MoveStatus.Failed or MoveStatus.Interrupted)
                record = Assert.Single(await scene.Mover.RecoverAsync(scene.Context(), null, default));
            Assert.True(record.Status is MoveStatus.Done or MoveStatus.Undone, $"{call} {kind}: {record.Status} in {record.Step}: {record.Error}");
            await way.ExpectAsync(scene, move, record.Status);

            // A balancer that took nothing back is given its servers again by a move of their own.
            if (trouble.Times > 0 && call == "Join" && (record.Status == MoveStatus.Done || way.From == Stage.Matrix))
                await scene.MoveAsync(move.ServerId, Stage.Matrix, scene.Pool.Hosts.First(host => host.Name == (record.Status == MoveStatus.Done ? move.ToHost : move.FromHost)));
            await scene.CheckAsync();
            await scene.ClearAsync();
        }
    }, itself: false, disks: Way.Of(wayName).Route == "publish");

    [SkippableTheory]
    [MemberData(nameof(AllWayNames))]
    public Task Cancelled_at_any_point_it_ends_whole(string wayName) => RunAsync(async (world, _) =>
    {
        var way = Way.Of(wayName);
        foreach (var point in Sample(world, way.Points, 3))
        {
            await using var scene = await Scene.OpenAsync(world);
            Skip.If(way.WhyNot(scene) is not null, way.WhyNot(scene));
            var move = await way.PrepareAsync(scene);
            using var cancel = new CancellationTokenSource();
            var passed = false;
            Failpoint.Hook = name =>
            {
                if (name != point || passed)
                    return;
                passed = true;
                cancel.Cancel();
            };
            MoveRecord record;
            try
            {
                record = await scene.CarryOutAsync(move, cancel.Token);
            }
            finally
            {
                Failpoint.Hook = null;
            }

            Assert.True(passed, $"{point} was never passed.");
            Assert.True(record.Status is MoveStatus.Done or MoveStatus.Undone or MoveStatus.Cancelled, $"{point}: {record.Status} in {record.Step}: {record.Error}");
            await way.ExpectAsync(scene, move, record.Status);
            await scene.CheckAsync();
            await scene.ClearAsync();
        }
    }, itself: false, disks: Way.Of(wayName).Route == "publish");

    [SkippableTheory]
    [MemberData(nameof(WayNames))]
    public Task Abandoned_at_any_point_the_next_one_finishes_or_takes_back(string wayName) => RunAsync(async (world, _) =>
    {
        var way = Way.Of(wayName);
        foreach (var point in Sample(world, way.Points, 3))
        {
            await using var first = await Scene.OpenAsync(world);
            Skip.If(way.WhyNot(first) is not null, way.WhyNot(first));
            var move = await way.PrepareAsync(first);
            Failpoint.Hook = name =>
            {
                if (name == point)
                    throw new AbandonException(point);
            };
            try
            {
                await Assert.ThrowsAsync<AbandonException>(() => first.CarryOutAsync(move));
            }
            finally
            {
                Failpoint.Hook = null;
            }

            first.State.Dispose();
            await using var next = await Scene.OpenAsync(world);
            next.Made.UnionWith(first.Made);
            if (!point.EndsWith(".claimed", StringComparison.Ordinal))
                Assert.Equal(MoveStatus.Interrupted, Assert.Single(next.State.ReadOpenMoves()).Status);
            var record = Assert.Single(await next.Mover.RecoverAsync(next.Context(), null, default));
            Assert.True(record.Status is MoveStatus.Done or MoveStatus.Undone, $"{point}: {record.Status} in {record.Step}: {record.Error}");
            await way.ExpectAsync(next, move, record.Status);
            await next.CheckAsync();
            Assert.Empty(await next.Mover.RecoverAsync(next.Context(), null, default));
            await next.ClearAsync();
        }
    }, itself: false, disks: Way.Of(wayName).Route == "publish");

    [SkippableFact]
    public Task A_disposed_server_is_deleted_once_its_time_is_up() => RunAsync(async (world, scene) =>
    {
        var server = await scene.MakeAsync(Stage.Nest);
        await scene.MoveAsync(server, Stage.Disposed);

        async Task<Move[]> Purges(TimeSpan after)
        {
            var disposed = (await scene.Hypervisor.ReadNestAsync(default)).Disposed;
            var input = new PlannerInput
            {
                Pool = scene.Pool with { Nest = scene.Pool.Nest with { PurgeAfter = after } },
                Now = world.Clock.GetUtcNow(),
                Hosts = [.. scene.Pool.Hosts.Select(host => new HostState { Name = host.Name })],
                Servers = [.. disposed.Where(machine => machine.Mark?.ServerId == server).Select(machine => new ServerState { Mark = machine.Mark! with { Stage = Stage.Disposed }, Power = machine.Power, MemoryBytes = machine.MemoryBytes })],
                Loads = new Dictionary<string, IReadOnlyList<ServiceLoad>>(),
            };
            return [.. Planner.Plan(input).Plan.Moves.Where(move => move.Kind is MoveKind.Purge)];
        }

        Assert.Empty(await Purges(TimeSpan.FromDays(1)));
        var record = await scene.CarryOutAsync(Assert.Single(await Purges(TimeSpan.Zero)));
        Assert.True(record.Status == MoveStatus.Done, $"{record.Status} in {record.Step}: {record.Error}");
        Assert.Empty(await scene.SightAsync(server));
        scene.Made.Remove(server);
        await scene.CheckAsync();
    });

    [SkippableFact]
    public Task Many_moves_at_once_keep_to_the_limits() => RunAsync(async (world, scene) =>
    {
        var limits = world.Pool.Limits;
        var count = world.IsSlow ? 4 : 12;
        var creates = Enumerable.Range(0, count).Select(_ => scene.Create()).ToArray();
        var wakes = creates.Select((create, i) => create with
        {
            Id = Guid.NewGuid(),
            Kind = MoveKind.Wake,
            ToStage = Stage.Matrix,
            ToHost = scene.Host((i % 3) + 1).Name,
            DependsOn = [create.Id],
        }).ToArray();
        var running = new Dictionary<Guid, MoveRecord>();
        var most = 0;
        var records = await scene.Mover.CarryOutAsync([.. wakes, .. creates], scene.Context(), new Watch(record =>
        {
            lock (running)
            {
                if (record.Status == MoveStatus.Running)
                    running[record.Id] = record;
                else
                    running.Remove(record.Id);
                most = Math.Max(most, running.Count);
                Assert.True(running.Count <= limits.MovesPerPool, $"{running.Count} moves ran at once.");
                foreach (var host in world.Pool.Hosts)
                    Assert.True(running.Values.Count(other => other.Move.ToHost == host.Name || other.Move.FromHost == host.Name) <= limits.MovesPerHost, $"Too many moves touched {host.Name} at once.");
            }
        }), default);
        Assert.All(records, record => Assert.True(record.Status == MoveStatus.Done, $"{record.Move.Kind} of {record.Move.ServerName}: {record.Error}"));
        Assert.Equal(wakes.Concat(creates).Select(move => move.Id), records.Select(record => record.Id));
        Assert.True(most > 1, "Nothing ever ran at once.");
        scene.Made.UnionWith(creates.Select(create => create.ServerId));
    });

    [SkippableFact]
    public Task What_no_longer_holds_is_refused_with_all_that_depends_on_it() => RunAsync(async (world, scene) =>
    {
        var server = await scene.MakeAsync(Stage.Nest);
        var stale = await scene.PlanAsync(server, Stage.Matrix);
        await scene.MoveAsync(server, Stage.Chamber);
        await scene.MoveAsync(server, Stage.Nest);
        var next = stale with { Id = Guid.NewGuid(), Kind = MoveKind.Hibernate, FromStage = Stage.Matrix, FromHost = stale.ToHost, ToStage = Stage.Nest, ToHost = null, Generation = stale.Generation + 1, DependsOn = [stale.Id] };
        var records = await scene.Mover.CarryOutAsync([stale, next], scene.Context(), null, default);
        Assert.All(records, record => Assert.Equal(MoveStatus.Refused, record.Status));
        Assert.Contains("generation", records[0].Error, StringComparison.Ordinal);
        Assert.Contains("depends", records[1].Error, StringComparison.Ordinal);
    });

    [SkippableFact]
    public Task Two_at_one_server_never_both_move_it() => RunAsync(async (world, scene) =>
    {
        var server = await scene.MakeAsync(Stage.Nest);
        await using var other = await Scene.OpenAsync(world);
        var first = await scene.PlanAsync(server, Stage.Matrix, scene.Host(1));
        var second = await scene.PlanAsync(server, Stage.Matrix, scene.Host(2));
        var records = await Task.WhenAll(scene.CarryOutAsync(first), other.CarryOutAsync(second));
        Assert.Equal(1, records.Count(record => record.Status == MoveStatus.Done));
        var refused = Assert.Single(records, record => record.Status == MoveStatus.Refused);
        Assert.Matches("being moved by|moved meanwhile|is not in the nest", refused.Error);
    });

    [SkippableFact]
    public Task Servers_of_another_controller_are_refused_by_its_id() => RunAsync(async (world, scene) =>
    {
        var server = await scene.MakeAsync(Stage.Nest);
        var (machine, _) = await scene.FindAsync(server);
        var other = Guid.NewGuid();
        await scene.Hypervisor.MarkAsync(default, machine.Mark! with { StateId = other }, null, default);
        var record = await scene.CarryOutAsync(await scene.PlanAsync(server, Stage.Matrix));
        Assert.Equal(MoveStatus.Refused, record.Status);
        Assert.Contains(other.ToString(), record.Error, StringComparison.Ordinal);
    });

    [SkippableFact]
    public Task A_clone_is_never_touched() => RunAsync(async (world, scene) =>
    {
        var server = await scene.MakeAsync(Stage.Nest);
        await world.CloneAsync(server, scene.Host(1));
        var before = Assert.Single((await scene.Hypervisor.ReadHostAsync(scene.Host(1), default)).Machines);
        // Where the copy takes the server's own place on a host, the server is kept away from it, whole.
        var record = await scene.CarryOutAsync(await scene.PlanAsync(server, Stage.Matrix, scene.Host(1)));
        if (record.Status != MoveStatus.Done)
            Assert.Contains("ServerTwice", record.Error, StringComparison.Ordinal);
        await scene.MoveAsync(server, Stage.Matrix, scene.Host(2));
        await scene.MoveAsync(server, Stage.Nest);
        var after = Assert.Single((await scene.Hypervisor.ReadHostAsync(scene.Host(1), default)).Machines);
        Assert.Equal((before.MachineId, before.Power, null), (after.MachineId, after.Power, after.Mark));
        await scene.ClearAsync();
    }, leftovers: false);

    [SkippableFact]
    public Task A_server_that_hangs_is_disposed_of_and_its_place_is_free() => RunAsync(async (world, scene) =>
    {
        var server = await scene.MakeAsync(Stage.Matrix);
        await world.HangAsync(server);
        var record = await scene.CarryOutAsync(await scene.PlanAsync(server, Stage.Disposed));
        Assert.True(record.Status == MoveStatus.Done, $"{record.Status} in {record.Step}: {record.Error}");
        var (machine, host) = await scene.FindAsync(server);
        Assert.Equal((Stage.Disposed, null, PowerState.Off), (machine.Mark!.Stage, host, machine.Power));
    });

    [SkippableFact]
    public Task A_server_that_died_goes_to_the_nest_as_its_disk_is() => RunAsync(async (world, scene) =>
    {
        var server = await scene.MakeAsync(Stage.Matrix);
        await world.CrashAsync(server);
        var record = await scene.CarryOutAsync(await scene.PlanAsync(server, Stage.Nest));
        Assert.True(record.Status == MoveStatus.Done, $"{record.Status} in {record.Step}: {record.Error}");
        Assert.Equal(PowerState.Off, (await scene.FindAsync(server)).Machine.Power);
        await scene.MoveAsync(server, Stage.Matrix);
    });

    private static IEnumerable<T> Sample<T>(DriverWorld world, IReadOnlyList<T> all, int count)
    {
        if (!world.IsSlow)
            return all;
        var random = new Random(world.Seed);
        return all.OrderBy(_ => random.Next()).Take(count);
    }

    private async Task RunAsync(Func<DriverWorld, Scene, Task> test, bool itself = true, bool leftovers = true, bool disks = false)
    {
        await using var world = await (disks ? OpenWorldWithDisksAsync() : OpenWorldAsync());
        await world.RunAsync(async () =>
        {
            Scene? scene = itself ? await Scene.OpenAsync(world) : null;
            try
            {
                await test(world, scene!);
                if (scene is not null && leftovers)
                    await scene.CheckAsync();
            }
            finally
            {
                if (scene is not null)
                    await scene.DisposeAsync();
            }
        });
    }

    private sealed class Watch(Action<MoveRecord> told) : IProgress<MoveRecord>
    {
        public void Report(MoveRecord value) => told(value);
    }
}
