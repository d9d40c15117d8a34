using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Simulation;
using Xunit;

namespace VMatrix.Tests.Simulation;

/// <summary>Trouble of the kinds that happen, from the outside: each ends with the server running or asleep, whole, and an error that says so.</summary>
public sealed class TroubleTests
{
    [Fact]
    public Task A_host_that_is_cut_off_never_yields_a_second_copy_and_fights_nothing_when_it_is_back() => RunAsync(async (world, scene) =>
    {
        // Disks are shared and nothing locks them: only the mover's own proof stands between the server and a second life.
        world.World.WithoutDiskLocks = true;
        var server = await scene.MakeAsync(Stage.Matrix, scene.Host(2));
        var bystander = await scene.MakeAsync(Stage.Matrix, scene.Host(1));
        var move = await scene.PlanAsync(server, Stage.Matrix, scene.Host(3));
        var before = await scene.FindAsync(server);
        world.World.SetHost("host2", HostCondition.CutOff);
        for (var turn = 0; turn < 5; turn++)
        {
            var record = await scene.CarryOutAsync(move with { Id = Guid.NewGuid() });
            Assert.Equal(MoveStatus.Refused, record.Status);
            Assert.Contains("Nothing proves", record.Error, StringComparison.Ordinal);
            Assert.Empty(await scene.Mover.RecoverAsync(scene.Context(), null, default));
            await scene.Mover.MendAsync(scene.Context(), null, default);
            await scene.Mover.ReconcileAsync(scene.Context(), null, default);
            await Task.Delay(TimeSpan.FromMinutes(10), world.Clock);
        }

        Assert.False((await scene.Mover.ProveHostDeadAsync(scene.Host(2), [server], fence: true, default)).Proven);
        Assert.Equal(bystander, Assert.Single((await scene.Balancer.ReadAsync(default)).Members).ServerId);

        world.World.SetHost("host2", HostCondition.Up);
        await scene.Mover.RecoverAsync(scene.Context(), null, default);
        await scene.Mover.MendAsync(scene.Context(), null, default);
        await scene.Mover.ReconcileAsync(scene.Context(), null, default);
        var after = await scene.FindAsync(server);
        Assert.Equal((before.Machine.MachineId, before.Machine.Address, before.Machine.Mark), (after.Machine.MachineId, after.Machine.Address, after.Machine.Mark));
    });

    [Theory]
    [InlineData(HostCondition.CutOff)]
    [InlineData(HostCondition.Dead)]
    [InlineData(HostCondition.HalfDead)]
    public async Task A_host_lost_at_any_moment_of_a_move_leaves_one_server(HostCondition condition)
    {
        foreach (var way in Way.All.Where(way => way.Route is "wake" or "hibernate" or "relocate" or "relocate-live" or "dispose"))
        {
            foreach (var lost in new[] { 2, 3 })
            {
                foreach (var milliseconds in new[] { 0, 1, 30, 70, 130, 200, 400, 1500 })
                {
                    await RunAsync(async (world, scene) =>
                    {
                        world.World.WithoutDiskLocks = true;
                        var move = await way.PrepareAsync(scene);
                        _ = LoseAsync();
                        var record = await scene.CarryOutAsync(move);
                        await Task.Delay(TimeSpan.FromMinutes(1), world.Clock);
                        if (record.Status is MoveStatus.Failed or MoveStatus.Interrupted)
                            await scene.Mover.RecoverAsync(scene.Context(), null, default); // It cannot do much, and must not do harm.
                        world.World.SetHost($"host{lost}", HostCondition.Up);
                        foreach (var recovered in await scene.Mover.RecoverAsync(scene.Context(), null, default))
                            record = recovered;
                        Assert.True(record.Status is MoveStatus.Done or MoveStatus.Undone or MoveStatus.Refused or MoveStatus.Cancelled, $"{way} with host{lost} {condition} after {milliseconds} ms: {record.Status} in {record.Step}: {record.Error}");
                        await scene.Mover.ReconcileAsync(scene.Context(), null, default);

                        // One whose machine died with its host is there, and is disposed of as the Oracle would.
                        var (machine, host) = await scene.FindAsync(move.ServerId);
                        if (host is not null && machine.Power != PowerState.Running)
                        {
                            Assert.Equal(HostCondition.Dead, condition);
                            await scene.MoveAsync(move.ServerId, Stage.Disposed);
                        }

                        async Task LoseAsync()
                        {
                            await Task.Delay(TimeSpan.FromMilliseconds(milliseconds), world.Clock);
                            world.World.SetHost($"host{lost}", condition);
                        }
                    });
                }
            }
        }
    }

    [Theory]
    [InlineData("Save")]
    [InlineData("Stow")]
    public Task A_disk_that_is_full_while_a_server_hibernates_leaves_it_running(string call) => RunAsync(async (world, scene) =>
    {
        var server = await scene.MakeAsync(Stage.Matrix);
        world.World.Inject(new SimulatedFault { Operation = call, Kind = FaultKind.DiskFull, Point = FaultPoint.Midway, Count = 1 });
        var record = await scene.CarryOutAsync(await scene.PlanAsync(server, Stage.Nest));
        Assert.Equal(MoveStatus.Undone, record.Status);
        Assert.Contains("the disk is full", record.Error, StringComparison.Ordinal);
        Assert.Equal(PowerState.Running, (await scene.FindAsync(server)).Machine.Power);
        await scene.CheckAsync();
        await scene.MoveAsync(server, Stage.Nest); // There is room again.
    });

    [Fact]
    public async Task A_balancer_killed_in_the_middle_of_a_drain_holds_no_wrong_server_afterwards()
    {
        foreach (var point in Way.Of("hibernate Matrix to Nest").Points.Concat(Way.Of("wake Nest to Matrix").Points))
        {
            await RunAsync(async (world, scene) =>
            {
                var wake = point.StartsWith("wake", StringComparison.Ordinal);
                var server = await scene.MakeAsync(wake ? Stage.Nest : Stage.Matrix);
                var other = await scene.MakeAsync(Stage.Matrix, scene.Host(3));
                Failpoint.Hook = name =>
                {
                    if (name == point)
                        new SimulatedBalancer(world.World).Crash();
                };
                var record = await scene.CarryOutAsync(await scene.PlanAsync(server, wake ? Stage.Matrix : Stage.Nest));
                Failpoint.Hook = null;
                await scene.Balancer.EnsureAsync(default);
                foreach (var recovered in await scene.Mover.RecoverAsync(scene.Context(), null, default))
                    record = recovered;
                Assert.True(record.Status is MoveStatus.Done or MoveStatus.Undone, $"{point}: {record.Status} in {record.Step}: {record.Error}");
                if (record.Status == MoveStatus.Undone)
                    Assert.Contains("balancer", record.Error, StringComparison.OrdinalIgnoreCase);
                await scene.Mover.ReconcileAsync(scene.Context(), null, default);
                Assert.Contains((await scene.Balancer.ReadAsync(default)).Members, member => member.ServerId == other);
            });
        }
    }

    [Fact]
    public Task A_guest_that_hangs_while_it_is_saved_ends_in_time_and_says_so() => RunAsync(async (world, scene) =>
    {
        var server = await scene.MakeAsync(Stage.Matrix);
        world.World.Inject(new SimulatedFault { Operation = "Save", ServerId = server, Kind = FaultKind.Hang, Point = FaultPoint.Midway, Count = 10 });
        var began = world.Virtual.Elapsed;
        var hang = scene.CarryOutAsync(await scene.PlanAsync(server, Stage.Nest));
        await Task.Delay(TimeSpan.FromSeconds(1), world.Clock);
        world.World.Hang(server);
        var record = await hang;
        Assert.Equal(MoveStatus.Undone, record.Status);
        Assert.Contains("took longer than", record.Error, StringComparison.Ordinal);
        Assert.Contains("not in the balancer", record.Error, StringComparison.Ordinal);
        Assert.True(world.Virtual.Elapsed - began < TimeSpan.FromHours(1));
        Assert.Empty((await scene.Balancer.ReadAsync(default)).Members);
        world.World.ClearFaults();
        await scene.MoveAsync(server, Stage.Disposed);
    });

    [Theory]
    [InlineData(-26)]
    [InlineData(26)]
    [InlineData(24 * 400)]
    public async Task A_clock_that_jumps_changes_no_outcome(int hours)
    {
        foreach (var way in Way.All.Where(way => way.Route is "create" or "wake" or "hibernate" or "relocate" or "relocate-live" or "dispose"))
        {
            foreach (var point in way.Points)
            {
                await RunAsync(async (world, scene) =>
                {
                    var move = await way.PrepareAsync(scene);
                    Failpoint.Hook = name =>
                    {
                        if (name == point)
                            world.JumpClock(TimeSpan.FromHours(hours));
                    };
                    var record = await scene.CarryOutAsync(move);
                    Failpoint.Hook = null;

                    Assert.True(record.Status == MoveStatus.Done, $"{point}: {record.Status} in {record.Step}: {record.Error}");
                    await way.ExpectAsync(scene, move, record.Status);
                });
            }
        }
    }

    [Fact]
    public async Task From_two_copies_of_a_pool_file_there_is_one_decider_and_a_hand_beside_it_is_left_alone()
    {
        using var folder = new TemporaryFolder();
        var copy = Directory.CreateDirectory(Path.Combine(folder.Path, "elsewhere")).FullName;
        var text = $$"""
            pool: two
            hypervisor: simulation
            state: {{folder.Path}}/state
            hosts:
              - { name: "host[1-3]", memory: 1 GiB }
            services:
              - { name: FINANCE, least: 1, most: 2, capacity: 10/s, image: { memory: 128 MiB, warm: true } }
            nest: { folder: {{folder.Path}}/nest }
            oracle: { interval: 1s }
            simulation: { bootTime: 20ms, wakeTime: 5ms }
            """;
        string[] files = [Path.Combine(folder.Path, "pool.yaml"), Path.Combine(copy, "pool.yaml")];
        foreach (var file in files)
            await File.WriteAllTextAsync(file, text);

        await using var first = await PoolSession.OpenAsync(files[0], forChange: true, default);
        await using var second = await PoolSession.OpenAsync(files[1], forChange: true, default);
        using var stop = new CancellationTokenSource();
        var plans = new List<Plan>();
        var running = first.RunAsync("the first", TimeSpan.FromMilliseconds(100), plan =>
        {
            lock (plans)
                plans.Add(plan);
        }, null, stop.Token);
        await UntilAsync(async () => (await second.GetServersAsync(false, null, default)).Any(server => server.Stage == Stage.Matrix));

        var busy = await Assert.ThrowsAsync<VMatrixException>(() => second.RunAsync("the second", null, null, null, default));
        Assert.Equal("DeciderBusy", busy.Id);
        Assert.Contains($"the first (process {Environment.ProcessId} of {Environment.UserName} on {Environment.MachineName})", busy.Message, StringComparison.Ordinal);

        // The Oracle wants one server in the Matrix; the hand takes it away, and the Oracle brings another one but leaves this one alone.
        var taken = (await second.GetServersAsync(false, null, default)).First(server => server.Stage == Stage.Matrix);
        MoveRecord record;
        do
        {
            var move = await second.PlanMoveAsync(taken.Id, Stage.Nest, null, live: false, default);
            record = (await second.CarryOutAsync([move], TimeSpan.FromMinutes(30), null, default))[0];
        }
        while (record.Status == MoveStatus.Refused && record.Error!.Contains("being moved by", StringComparison.Ordinal));
        Assert.True(record.Status == MoveStatus.Done, record.Error);
        await UntilAsync(async () => (await second.GetServersAsync(false, null, default)).Any(server => server.Stage == Stage.Matrix));
        int planned;
        lock (plans)
            planned = plans.Count;
        await UntilAsync(() =>
        {
            lock (plans)
                return Task.FromResult(plans.Count > planned + 3);
        });
        var held = (await second.GetServersAsync(false, null, default)).Single(server => server.Id == taken.Id);
        Assert.Equal(Stage.Nest, held.Stage);
        Assert.NotNull(held.HeldUntil);
        await stop.CancelAsync();
        await running;
    }

    private static async Task UntilAsync(Func<Task<bool>> holds)
    {
        for (var tries = 0; !await holds(); tries++)
        {
            Assert.True(tries < 1200, "It never came to hold.");
            await Task.Delay(50);
        }
    }

    private static async Task RunAsync(Func<SimulatedDriverWorld, Scene, Task> test)
    {
        await using var world = new SimulatedDriverWorld();
        await world.RunAsync(async () =>
        {
            await using var scene = await Scene.OpenAsync(world);
            await test(world, scene);
            await scene.CheckAsync();
        });
    }
}
