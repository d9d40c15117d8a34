using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.HyperV;
using VMatrix.Shells;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>
/// Copies that are no servers: what Hyper-V Replica keeps of a machine, with the machine's own id and notes
/// (https://learn.microsoft.com/en-us/windows-server/virtualization/hyper-v/manage/set-up-hyper-v-replica), the machine of a test failover, and
/// what a cluster leaves on a node that does not own its role.
/// </summary>
public sealed class HyperVCopyTests
{
    [Fact]
    public Task A_replica_is_no_server_and_stays_when_the_host_of_its_primary_is_down() => InAsync(async (world, driver, server, service) =>
    {
        var (here, there) = (world.Pool.Hosts[0], world.Pool.Hosts[1]);
        await driver.FetchAsync(default, server, here, default);
        await driver.StartAsync(default, server, service, here, default);
        var before = Replicate(world, server, there.Name);
        world.World.SetHost(here.Name, host => host with { Mood = HostMood.CutOff });
        await using var fresh = world.OpenHypervisor();

        var shown = Assert.Single((await fresh.ReadHostAsync(there, default)).Machines);
        Assert.Equal(((ServerMark?)null, (ServerMark?)null), (shown.Mark, shown.StaleMark));
        Assert.Contains("Hyper-V Replica", shown.Problem, StringComparison.Ordinal);
        var nest = await fresh.ReadNestAsync(default);
        Assert.Empty(nest.Dormant.Concat(nest.Disposed));
        foreach (var change in new Func<Task>[]
        {
            () => fresh.DiscardAsync(default, server, there, default),
            () => fresh.DiscardAsync(default, server, null, default),
            () => fresh.EraseAsync(default, server, default),
            () => fresh.StopAsync(default, server, there, default),
            () => fresh.ReleaseAsync(default, server, there, default),
            () => fresh.MarkAsync(default, shown.Mark ?? MarkOf(before), there, default),
            () => fresh.AdoptAsync(default, before.Id.ToString("D"), MarkOf(before) with { ServerId = Guid.NewGuid() }, there, default),
        })
        {
            await Assert.ThrowsAsync<VMatrixException>(change);
            Assert.Equal(before, world.World.Machines.Single(machine => machine.Host == there.Name) with { Disks = before.Disks, Adapters = before.Adapters, Checkpoints = before.Checkpoints, Devices = before.Devices });
        }
    });

    [Fact]
    public Task Disposed_and_purged_a_primary_takes_nothing_of_its_replica_along() => InAsync(async (world, driver, server, service) =>
    {
        var there = world.Pool.Hosts[1];
        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        var replica = Replicate(world, server, there.Name);
        await driver.DiscardAsync(default, server, world.Pool.Hosts[0], default);
        await driver.EraseAsync(default, server, default);
        Assert.Equal((replica.Name, there.Name), (Assert.Single(world.World.Machines).Name, world.World.Machines[0].Host));
    });

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public Task A_sleeping_primary_wakes_beside_its_replica(bool share) => InAsync(async (world, driver, server, service) =>
    {
        var (here, there) = (world.Pool.Hosts[0], world.Pool.Hosts[1]);
        await driver.FetchAsync(default, server, here, default);
        await driver.StartAsync(default, server, service, here, default);
        var replica = Replicate(world, server, there.Name);
        await driver.SaveAsync(default, server, here, default);
        await driver.StowAsync(default, server, here, default);
        await using var fresh = world.OpenHypervisor();
        Assert.Equal(server, Assert.Single((await fresh.ReadNestAsync(default)).Dormant).Mark!.ServerId);
        await fresh.FetchAsync(default, server, here, default);
        await fresh.StartAsync(default, server, service, here, default);
        Assert.Equal(VMState.Running, world.World.Machines.Single(machine => machine.Host == here.Name).State);
        Assert.Equal((replica.Name, VMState.Off), world.World.Machines.Where(machine => machine.Host == there.Name).Select(machine => (machine.Name, machine.State)).Single());
    }, share);

    [Fact]
    public Task A_replica_that_was_failed_over_to_keeps_its_primary_from_a_second_life() => InAsync(async (world, driver, server, service) =>
    {
        var (here, there) = (world.Pool.Hosts[0], world.Pool.Hosts[1]);
        await driver.FetchAsync(default, server, here, default);
        var replica = Replicate(world, server, there.Name);
        world.World.Change(state => state.Put(replica with { State = VMState.Running, Disks = [], Adapters = [] }));
        Assert.Equal("ServerTwice", (await Assert.ThrowsAsync<VMatrixException>(() => driver.StartAsync(default, server, service, here, default))).Id);
        Assert.Null(Assert.Single((await driver.ReadHostAsync(there, default)).Machines).Mark);
        var source = new HyperVLoadSource(world.Pool, new DoubleShell(world.World), world.Clock);
        Assert.Empty(await source.ReadAsync(default));
        Assert.False(world.World.Machines.Single(machine => machine.Host == there.Name).Metering);
    });

    [Fact]
    public Task A_machine_of_a_test_failover_is_left_alone() => InAsync(async (world, driver, server, service) =>
    {
        var (here, there) = (world.Pool.Hosts[0], world.Pool.Hosts[1]);
        await driver.FetchAsync(default, server, here, default);
        await driver.StartAsync(default, server, service, here, default);
        var own = world.MachineOf(server);
        var test = own with { Id = Guid.NewGuid(), Host = there.Name, Name = own.Name + " - Test", State = VMState.Off, IsTestReplica = true, Disks = [], Adapters = [] };
        world.World.Change(state => state.Put(test));
        var shown = Assert.Single((await driver.ReadHostAsync(there, default)).Machines);
        Assert.Equal(((ServerMark?)null, (ServerMark?)null), (shown.Mark, shown.StaleMark));
        Assert.Equal("MachineNotFit", (await Assert.ThrowsAsync<VMatrixException>(() => driver.AdoptAsync(default, test.Id.ToString("D"), MarkOf(own) with { ServerId = Guid.NewGuid() }, there, default))).Id);
        await driver.SaveAsync(default, server, here, default);
        await driver.StartAsync(default, server, service, here, default);
    });

    [Fact]
    public async Task What_a_cluster_left_on_another_node_is_no_server_and_in_nobodys_way()
    {
        await using var world = new HyperVDriverWorld(change: pool => pool with { Hosts = [.. pool.Hosts.Select(host => host with { Storage = pool.Nest.Folder + "-machines" })] });
        foreach (var host in world.Pool.Hosts)
            world.World.SetHost(host.Name, known => known with { Cluster = "cluster1" });
        world.World.Change(state => state.Clusters.Put("cluster1", new ClusterState { Name = "cluster1" }));
        await world.RunAsync(async () =>
        {
            await using var driver = world.OpenHypervisor();
            var (service, here, there) = (world.Pool.Services[0], world.Pool.Hosts[0], world.Pool.Hosts[1]);
            var image = await driver.PrepareImageAsync(default, service, here, null, default);
            var mark = TestPool.Mark(world.Pool, service.Name, 1, Guid.NewGuid(), image, world.Clock.GetUtcNow());
            await driver.CreateAsync(default, mark, service, default);
            await driver.FetchAsync(default, mark.ServerId, here, default);
            await driver.StartAsync(default, mark.ServerId, service, here, default);
            var own = world.MachineOf(mark.ServerId);
            world.World.Change(state =>
            {
                state.Groups.Put(own.Name, new GroupState { Name = own.Name, Cluster = "cluster1", Machine = own.Id, Owners = [here.Name] });
                state.Put(own with { Host = there.Name, State = VMState.Off, Disks = [] });
            });
            await driver.SaveAsync(default, mark.ServerId, here, default);

            await using var fresh = world.OpenHypervisor();
            var reports = await Task.WhenAll(world.Pool.Hosts.Select(host => fresh.ReadHostAsync(host, default)));
            Assert.Equal(here.Name, Assert.Single(reports, report => report.Machines.Any(machine => machine.Mark?.ServerId == mark.ServerId)).Host);
            Assert.Contains("cluster has left", reports.Single(report => report.Host == there.Name).Machines.Single().Problem, StringComparison.Ordinal);
            await fresh.StartAsync(default, mark.ServerId, service, here, default);
            await fresh.StopAsync(default, mark.ServerId, here, default);
            await fresh.DiscardAsync(default, mark.ServerId, here, default);
            await fresh.EraseAsync(default, mark.ServerId, default);
            Assert.Equal(there.Name, Assert.Single(world.World.Machines).Host);
        });
    }

    private static ServerMark MarkOf(MachineState machine) => HyperVDriverWorld.MarkOf(machine)!;

    /// <summary>Hyper-V Replica keeps a copy of a server's machine on another host: the same id, name and notes, and disks of its own.</summary>
    private static MachineState Replicate(HyperVDriverWorld world, Guid server, string to)
    {
        var own = world.MachineOf(server);
        var replica = own with { Host = to, State = VMState.Off, IsReplica = true, Replication = VMReplicationState.Replicating, Job = null, Disks = [], Adapters = [] };
        world.World.Change(state =>
        {
            state.Put(own with { Replication = VMReplicationState.Replicating });
            state.Put(replica);
        });
        return replica;
    }

    private static async Task InAsync(Func<HyperVDriverWorld, IHypervisor, Guid, ServiceSpec, Task> test, bool share = false)
    {
        await using var world = new HyperVDriverWorld(change: share ? HyperVDriverWorld.InShare : null);
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
