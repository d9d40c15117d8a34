using System;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>Saved states age and are bound to the hosts that they were made on; clusters move their own.</summary>
public sealed class HyperVSavedStateTests
{
    [Fact]
    public Task A_memory_that_a_host_cannot_resume_is_kept_unless_the_owner_says_otherwise() => InAsync(null, async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        world.World.SetHost("host1", host => host with { ProcessorFamily = "AMD-B" });
        await using var next = world.OpenHypervisor();
        var refused = await Assert.ThrowsAsync<VMatrixException>(() => next.StartAsync(default, server, service, world.Pool.Hosts[0], default));
        Assert.Equal("SavedStateNotResumable", refused.Id);
        Assert.Contains("hyperv.resumeFailure", refused.Message, StringComparison.Ordinal);
        var found = Assert.Single((await next.ReadHostAsync(world.Pool.Hosts[0], default)).Machines);
        Assert.Equal((PowerState.Saved, (string?)null), (found.Power, found.Problem));
        Assert.Contains(await next.CompareAsync(server, service, null, world.Pool.Hosts[0], false, default), obstacle => obstacle.Severity == ObstacleSeverity.Blocks);

        world.World.SetHost("host1", host => host with { ProcessorFamily = "Intel-A" });
        await using var back = world.OpenHypervisor();
        await back.StartAsync(default, server, service, world.Pool.Hosts[0], default);
    });

    [Fact]
    public Task Where_the_owner_says_so_it_boots_without_its_memory_and_says_so() => InAsync(spec => spec with { ResumeFailure = ResumeFailure.Boot }, async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        world.World.SetHost("host1", host => host with { ProcessorFamily = "AMD-B" });
        await using var next = world.OpenHypervisor();
        await next.StartAsync(default, server, service, world.Pool.Hosts[0], default);
        var found = Assert.Single((await next.ReadHostAsync(world.Pool.Hosts[0], default)).Machines);
        Assert.Equal(PowerState.Running, found.Power);
        Assert.Contains("memory was given up", found.Problem, StringComparison.Ordinal);

        // It is told until it sleeps again.
        await next.SaveAsync(default, server, world.Pool.Hosts[0], default);
        await next.StartAsync(default, server, service, world.Pool.Hosts[0], default);
        Assert.Null(Assert.Single((await next.ReadHostAsync(world.Pool.Hosts[0], default)).Machines).Problem);
    });

    [Fact]
    public Task Placement_leaves_out_hosts_that_cannot_resume_a_memory() => InAsync(null, async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        await driver.StowAsync(default, server, world.Pool.Hosts[0], default);
        world.World.SetHost("host1", host => host with { ProcessorFamily = "AMD-B" });
        world.World.SetHost("host2", host => host with { Build = "10.0.20348" });
        await using var next = world.OpenHypervisor();
        var wake = Assert.Single((await PlanAsync(world, service)).Moves);
        Assert.Equal((MoveKind.Wake, server, "host3"), (wake.Kind, wake.ServerId, wake.ToHost));
        Assert.Contains("excluded: 2 ruled out (", wake.Reason, StringComparison.Ordinal);
        Assert.Contains("its memory was saved on a processor 'Intel ", wake.Reason, StringComparison.Ordinal);
        Assert.Contains("its memory was saved on build 26100, and the host is older with build 20348", wake.Reason, StringComparison.Ordinal);
        Assert.Empty((await next.ReadNestAsync(default)).Problems);

        world.World.SetHost("host3", host => host with { Versions = ["9.0"] });
        await using var third = world.OpenHypervisor();
        var advice = await ((IHostAdviser)third).AdviseAsync(world.Pool.Hosts, default);
        Assert.Contains("configuration version 12.0, and the host knows 9.0", Assert.Single(advice.Verdicts, verdict => verdict.Host == "host3").Refusal, StringComparison.Ordinal);
        Assert.All(advice.Verdicts, verdict => Assert.Equal(server, verdict.Server));
    });

    [Fact]
    public Task Where_no_host_can_resume_it_it_sleeps_on_and_another_is_made() => InAsync(null, async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        await driver.StowAsync(default, server, world.Pool.Hosts[0], default);
        OtherProcessors(world);
        await using var next = world.OpenHypervisor();
        var plan = await PlanAsync(world, service);
        Assert.Equal([MoveKind.Create, MoveKind.Wake], plan.Moves.Select(move => move.Kind));
        Assert.DoesNotContain(plan.Moves, move => move.ServerId == server);
        Assert.Contains("It sleeps on (hyperv.resumeFailure: refuse)", Assert.Single((await next.ReadNestAsync(default)).Problems), StringComparison.Ordinal);
        Assert.Equal("SavedStateNotResumable", (await Assert.ThrowsAsync<VMatrixException>(() => next.FetchAsync(default, server, world.Pool.Hosts[1], default))).Id);
        Assert.Equal(PowerState.Saved, Assert.Single((await next.ReadNestAsync(default)).Dormant).Power);
    });

    [Fact]
    public Task Or_by_policy_it_boots_elsewhere_without_its_memory_and_says_so() => InAsync(spec => spec with { ResumeFailure = ResumeFailure.Boot }, async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        await driver.StowAsync(default, server, world.Pool.Hosts[0], default);
        OtherProcessors(world);
        await using var next = world.OpenHypervisor();
        var wake = Assert.Single((await PlanAsync(world, service)).Moves);
        Assert.Equal((MoveKind.Wake, server), (wake.Kind, wake.ServerId));
        Assert.Contains("it boots without its memory (hyperv.resumeFailure: boot)", Assert.Single((await next.ReadNestAsync(default)).Problems), StringComparison.Ordinal);
        Assert.DoesNotContain(await next.CompareAsync(server, service, null, world.Pool.Hosts[1], false, default), obstacle => obstacle.Severity == ObstacleSeverity.Blocks);

        // A host that does not know the machine's version could not even boot it: it stays ruled out, and no memory is given up for it.
        world.World.SetHost("host3", host => host with { Versions = ["9.0"] });
        await using (var other = world.OpenHypervisor())
        {
            Assert.Equal("host3", Assert.Single((await ((IHostAdviser)other).AdviseAsync(world.Pool.Hosts, default)).Verdicts).Host);
            Assert.Equal("SavedStateNotResumable", (await Assert.ThrowsAsync<VMatrixException>(() => other.FetchAsync(default, server, world.Pool.Hosts[2], default))).Id);
            Assert.Equal(PowerState.Saved, Assert.Single((await other.ReadNestAsync(default)).Dormant).Power);
        }

        world.World.SetHost("host3", host => host with { Versions = ["12.0"] });
        await next.FetchAsync(default, server, world.Pool.Hosts[1], default);
        await next.StartAsync(default, server, service, world.Pool.Hosts[1], default);
        var found = Assert.Single((await next.ReadHostAsync(world.Pool.Hosts[1], default)).Machines);
        Assert.Equal(PowerState.Running, found.Power);
        Assert.Contains("memory was given up on host2", found.Problem, StringComparison.Ordinal);

        // While one host can resume it, the others are left out whatever the policy.
        await next.SaveAsync(default, server, world.Pool.Hosts[1], default);
        await next.StowAsync(default, server, world.Pool.Hosts[1], default);
        world.World.SetHost("host1", host => host with { ProcessorFamily = "Intel-A" });
        await using var last = world.OpenHypervisor();
        Assert.Equal("host1", Assert.Single((await ((IHostAdviser)last).AdviseAsync(world.Pool.Hosts, default)).Verdicts).Host);
    });

    [Fact]
    public Task A_move_by_hand_chooses_a_host_that_can_resume_it() => InAsync(null, async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        await driver.StowAsync(default, server, world.Pool.Hosts[0], default);
        OtherProcessors(world);
        world.World.SetHost("host2", host => host with { ProcessorFamily = "Intel-A" });
        await using (var session = Session(world, service))
            Assert.Equal("host2", (await session.PlanMoveAsync(server, Stage.Matrix, null, live: false, default)).ToHost);
        OtherProcessors(world);
        await using var none = Session(world, service);
        Assert.Contains("host1 is ruled out: its memory was saved on a processor", (await Assert.ThrowsAsync<VMatrixException>(() => none.PlanMoveAsync(server, Stage.Matrix, null, live: false, default))).Message, StringComparison.Ordinal);
    });

    private static void OtherProcessors(HyperVDriverWorld world)
    {
        foreach (var host in world.Pool.Hosts)
            world.World.SetHost(host.Name, known => known with { ProcessorFamily = "AMD-B" });
    }

    private static PoolSession Session(HyperVDriverWorld world, ServiceSpec service) =>
        new(world.Pool with { Services = [service with { Least = 1 }] }, new PoolDrivers(world.OpenHypervisor(), world.OpenBalancer(), world.OpenProbe()), null, world.Clock);

    private static async Task<Plan> PlanAsync(HyperVDriverWorld world, ServiceSpec service)
    {
        await using var session = Session(world, service);
        return await session.PlanSwitchAsync(default);
    }

    [Fact]
    public Task One_that_has_slept_too_long_is_woken_in_the_chamber_and_sleeps_again() => InAsync(null, async (world, driver, server, service) =>
    {
        using var state = StateFolder.Open(world.Pool.StateFolder, create: true);
        await SleepAsync(world, driver, server, service);
        await driver.StowAsync(default, server, world.Pool.Hosts[0], default);
        var before = Assert.Single((await driver.ReadNestAsync(default)).Dormant);
        await driver.MarkAsync(default, before.Mark! with { StateId = state.Id }, null, default);
        var pool = world.Pool with { Nest = world.Pool.Nest with { MaxSleep = TimeSpan.FromDays(3) }, Services = [service with { Least = 0 }] };
        var quiet = (FileBalancer)world.OpenBalancer();
        quiet.Counts = [new ServiceCounters { Service = service.Name }];
        await using var session = new PoolSession(pool, new PoolDrivers(world.OpenHypervisor(), quiet, world.OpenProbe()), state, world.Clock);
        Assert.Empty((await session.PlanSwitchAsync(default)).Moves);
        await Task.Delay(TimeSpan.FromDays(4), world.Clock);
        var plan = await session.PlanSwitchAsync(default);
        Assert.Equal([(MoveKind.Wake, (string?)"chamber"), (MoveKind.Hibernate, null)], plan.Moves.Select(move => (move.Kind, move.ToHost)));
        Assert.All(await session.SwitchAsync(plan.Id, null, default), record => Assert.True(record.Status == MoveStatus.Done, record.Error));
        var after = Assert.Single((await driver.ReadNestAsync(default)).Dormant);
        Assert.Equal((before.MachineId, PowerState.Saved, 2), (after.MachineId, after.Power, after.Mark!.Generation));
        Assert.InRange(after.AsleepSince!.Value - before.AsleepSince!.Value, TimeSpan.FromDays(4), TimeSpan.FromDays(4.1));
        Assert.Empty((await session.PlanSwitchAsync(default)).Moves);
    });

    [Fact]
    public Task No_image_is_published_from_a_Windows_that_is_somebody_already() => InAsync(null, async (world, driver, server, service) =>
    {
        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        var windows = service with { Image = service.Image with { Specialize = Specialize.Sysprep } };
        Assert.Equal("ImageNotGeneral", (await Assert.ThrowsAsync<VMatrixException>(() => driver.PublishImageAsync(default, server, windows, world.Pool.Hosts[0], default))).Id);
    });

    [Fact]
    public Task A_chamber_may_be_cut_off_from_the_others_by_its_switch() => InAsync(null, async (world, driver, server, service) =>
    {
        var chamber = world.Pool.Hosts.Single(host => host.Role == HostRole.Chamber);
        await driver.FetchAsync(default, server, chamber, default);
        await driver.StartAsync(default, server, service, chamber, default);
        Assert.Equal("Isolated", Assert.Single(world.MachineOf(server).Adapters).Switch);
        await driver.MigrateAsync(default, server, service, chamber, world.Pool.Hosts[0], default);
        Assert.Equal("LAN", Assert.Single(world.MachineOf(server).Adapters).Switch);
    });

    [Fact]
    public async Task A_clustered_machine_is_moved_by_its_cluster_whose_own_balancing_is_told()
    {
        await using var world = new HyperVDriverWorld(change: pool => pool with { Hosts = [.. pool.Hosts.Select(host => host with { Storage = pool.Nest.Folder + "-machines" })] });
        foreach (var host in world.Pool.Hosts)
            world.World.SetHost(host.Name, known => known with { Cluster = "cluster1" });
        world.World.Change(state => state.Clusters.Put("cluster1", new ClusterState { Name = "cluster1", AutoBalancerMode = 2 }));
        await world.RunAsync(async () =>
        {
            await using var driver = world.OpenHypervisor();
            var (service, first, second) = (world.Pool.Services[0], world.Pool.Hosts[0], world.Pool.Hosts[1]);
            var image = await driver.PrepareImageAsync(default, service, first, null, default);
            var mark = TestPool.Mark(world.Pool, service.Name, 1, Guid.NewGuid(), image, world.Clock.GetUtcNow());
            await driver.CreateAsync(default, mark, service, default);
            await driver.FetchAsync(default, mark.ServerId, first, default);
            Assert.Null((await driver.ReadHostAsync(first, default)).Problem);
            await using (var admin = new DoubleShell(world.World))
                await admin.InvokeAsync(new VMatrix.Shells.ShellCall { Commands = [new(@"FailoverClusters\Add-ClusterVirtualMachineRole", new System.Collections.Generic.Dictionary<string, object?> { ["Cluster"] = "cluster1", ["VMId"] = world.MachineOf(mark.ServerId).Id })] }, default);
            await driver.StartAsync(default, mark.ServerId, service, first, default);
            var report = await driver.ReadHostAsync(first, default);
            Assert.Contains("AutoBalancerMode", report.Problem, StringComparison.Ordinal);

            await driver.MigrateAsync(default, mark.ServerId, service, first, second, default);
            Assert.Equal(second.Name, world.MachineOf(mark.ServerId).Host);
            await driver.SaveAsync(default, mark.ServerId, second, default);
            await driver.CarryAsync(default, mark.ServerId, second, first, default);
            Assert.Equal((first.Name, Microsoft.HyperV.PowerShell.VMState.Saved), (world.MachineOf(mark.ServerId).Host, world.MachineOf(mark.ServerId).State));
            await driver.DiscardAsync(default, mark.ServerId, first, default);
            await driver.EraseAsync(default, mark.ServerId, default);
            Assert.Empty(world.World.Machines);
            Assert.Empty(world.Leftovers([]));
        });
    }

    private static async Task SleepAsync(HyperVDriverWorld world, IHypervisor driver, Guid server, ServiceSpec service)
    {
        var host = world.Pool.Hosts[0];
        await driver.FetchAsync(default, server, host, default);
        await driver.StartAsync(default, server, service, host, default);
        await driver.SaveAsync(default, server, host, default);
    }

    private static async Task InAsync(Func<HyperVSpec, HyperVSpec>? change, Func<HyperVDriverWorld, IHypervisor, Guid, ServiceSpec, Task> test)
    {
        await using var world = new HyperVDriverWorld(change: pool => change is null ? pool : pool with { HyperV = change(pool.HyperV) });
        await world.RunAsync(async () =>
        {
            await using var driver = world.OpenHypervisor();
            var service = world.Pool.Services[0];
            var image = await driver.PrepareImageAsync(default, service, world.Pool.Hosts[0], null, default);
            var mark = TestPool.Mark(world.Pool, service.Name, 1, Guid.NewGuid(), image, world.Clock.GetUtcNow());
            await driver.CreateAsync(default, mark, service, default);
            await test(world, driver, mark.ServerId, service);
            Assert.Empty(world.World.Violations);
        });
    }
}
