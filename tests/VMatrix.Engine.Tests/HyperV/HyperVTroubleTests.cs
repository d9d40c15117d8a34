using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.HyperV;
using VMatrix.Simulation;
using VMatrix.Tests.Doubles;
using Xunit;
using static VMatrix.Tests.Doubles.Troubles;

namespace VMatrix.Tests.HyperV;

/// <summary>What hosts and people do to a driver: other languages, names twice, other people's notes, machines gone and moved, clocks that differ, rights that are missing, networks that fail.</summary>
public abstract class HyperVTroubles
{
    private protected virtual Task<HyperVDriverWorld> OpenAsync() => Task.FromResult(new HyperVDriverWorld());

    [Fact]
    public Task Another_language_changes_nothing() => InAsync(async (world, driver, server, service) =>
    {
        world.World.Configure(settings => settings with { Language = "de" });
        await ThereAndBackAsync(world, driver, server, service);
    });

    [Fact]
    public Task Machines_of_the_same_name_are_not_touched() => InAsync(async (world, driver, server, service) =>
    {
        foreach (var host in world.Pool.Hosts)
            world.World.AddForeign(host.Name, "FINANCE-1", memoryBytes: 32 << 20);
        await ThereAndBackAsync(world, driver, server, service);
        var others = world.World.Machines.Where(machine => HyperVDriverWorld.MarkOf(machine) is null).ToArray();
        Assert.Equal(world.Pool.Hosts.Count, others.Length);
        Assert.All(others, machine => Assert.Equal(VMState.Running, machine.State));
    });

    [Theory]
    [InlineData("#CLUSTER-INVARIANT#:{44ff0a3a-0d5f-44cf-a6c4-7eb5a7e8ce50}", "")]
    [InlineData("Gehört der Buchhaltung.\r\n", "\r\nnicht löschen\r\n")]
    [InlineData("", "\n{\"other\":\"tool\"}")]
    public Task What_others_wrote_into_the_notes_stays(string before, string after) => InAsync(async (world, driver, server, service) =>
    {
        var id = world.MachineOf(server).Id;
        world.World.SetMachine(id, machine => machine with { Notes = before + (before.Length > 0 && !before.EndsWith('\n') ? "\n" : "") + machine.Notes + after });
        await ThereAndBackAsync(world, driver, server, service);
        var notes = world.World.Machine(id).Notes;
        Assert.StartsWith(before, notes, StringComparison.Ordinal);
        Assert.EndsWith(after, notes, StringComparison.Ordinal);
    });

    [Fact]
    public Task One_that_was_deleted_or_moved_behind_our_back_is_told_where_it_is() => InAsync(async (world, driver, server, service) =>
    {
        var (here, there) = (world.Pool.Hosts[0], world.Pool.Hosts[1]);
        await driver.FetchAsync(default, server, here, default);
        var other = world.OpenHypervisor();
        await other.CarryAsync(default, server, here, there, default);
        Assert.Equal("ServerElsewhere", (await Assert.ThrowsAsync<VMatrixException>(() => driver.StartAsync(default, server, service, here, default))).Id);
        await driver.StartAsync(default, server, service, there, default);
        world.World.DeleteMachine(world.MachineOf(server).Id);
        Assert.Equal("ServerNotFound", (await Assert.ThrowsAsync<VMatrixException>(() => driver.SaveAsync(default, server, there, default))).Id);
        Assert.Empty((await driver.ReadHostAsync(there, default)).Machines);
    });

    [Fact]
    public Task A_machine_that_is_on_no_switch_is_told_at_once_and_not_waited_for() => InAsync(async (world, _, server, service) =>
    {
        // The file names no switch, so a new server's adapter is left as New-VM makes it.
        var here = world.Pool.Hosts[0];
        await using var driver = new HyperVHypervisor(world.Pool with { HyperV = world.Pool.HyperV with { Switch = null }, Hosts = [.. world.Pool.Hosts.Select(host => host with { Switch = null })] }, new DoubleShell(world.World), world.Clock);
        var made = Guid.NewGuid();
        var image = (await driver.ReadNestAsync(default)).Images[service.Name];
        await driver.CreateAsync(default, TestPool.Mark(world.Pool, service.Name, 2, Guid.NewGuid(), image, world.Clock.GetUtcNow(), made), service, default);
        await driver.FetchAsync(default, made, here, default);
        var error = await Assert.ThrowsAsync<VMatrixException>(() => driver.StartAsync(default, made, service, here, default));
        Assert.Equal("SwitchNotNamed", error.Id);
        Assert.Contains("hyperv.switch", error.Message, StringComparison.Ordinal);
        Assert.Equal(VMState.Off, world.MachineOf(made).State);
    });

    [Fact]
    public Task A_gold_disk_that_is_not_there_is_named_with_the_key_that_mends_it() => InAsync(async (world, driver, server, service) =>
    {
        var error = await Assert.ThrowsAsync<VMatrixException>(() => driver.PrepareImageAsync(default, service with { Image = service.Image with { Disk = @"D:\gold\none.vhdx" } }, world.Pool.Hosts[0], null, default));
        Assert.Equal("ImageNotFound", error.Id);
        Assert.Contains(@"D:\gold\none.vhdx", error.Message, StringComparison.Ordinal);
        Assert.Contains("image.disk", error.Message, StringComparison.Ordinal);
    });

    [Fact]
    public Task Hosts_whose_clocks_differ_are_as_others() => InAsync(async (world, driver, server, service) =>
    {
        world.World.SetHost("host1", host => host with { ClockAhead = TimeSpan.FromDays(2) });
        world.World.SetHost("host2", host => host with { ClockAhead = TimeSpan.FromDays(-2) });
        await ThereAndBackAsync(world, driver, server, service);
    });

    [Fact]
    public Task An_empty_list_for_want_of_rights_is_no_empty_host() => InAsync(async (world, driver, server, service) =>
    {
        var home = world.Pool.Hosts.First(host => host.Name == world.MachineOf(server).Host);
        world.World.SetHost(home.Name, host => host with { CanRead = false });
        Assert.Equal("HostAccessDenied", (await Assert.ThrowsAsync<VMatrixException>(() => driver.ReadHostAsync(home, default))).Id);
        Assert.False(await driver.ProveStoppedAsync(server, home, default));
        Assert.NotEmpty((await driver.ReadNestAsync(default)).Problems);

        // What may be there and is not seen is not made again.
        await using var fresh = world.OpenHypervisor();
        await Assert.ThrowsAsync<VMatrixException>(() => fresh.FetchAsync(default, server, world.Pool.Hosts.First(host => host != home), default));
    });

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public Task Calls_that_fail_at_random_leave_a_server_that_the_next_tries_bring_home(int seed) =>
        InAsync((world, driver, server, service) => ThereAndBackWithFailuresAsync(world, driver, server, service, seed, rate: 0.1, milliseconds: 40));

    private async Task InAsync(Func<HyperVDriverWorld, IHypervisor, Guid, ServiceSpec, Task> test)
    {
        await using var world = await OpenAsync();
        await world.RunAsync(async () =>
        {
            var (driver, service, server) = (world.OpenHypervisor(), world.Pool.Services[0], Guid.NewGuid());
            var image = await driver.PrepareImageAsync(default, service, world.Pool.Hosts[0], null, default);
            await driver.CreateAsync(default, TestPool.Mark(world.Pool, service.Name, 1, Guid.NewGuid(), image, world.Clock.GetUtcNow(), server), service, default);
            await test(world, driver, server, service);
            await driver.DisposeAsync();
        });
    }
}

public sealed class HyperVTroubleTests : HyperVTroubles
{
    [Fact]
    public void Twenty_hosts_with_five_hundred_machines_each_are_listed_in_ten_call_times()
    {
        using var folder = new TemporaryFolder();
        var clock = new VirtualClock();
        var world = new DoubleWorld(Path.Combine(folder.Path, "world"), clock);
        world.Change(state =>
        {
            for (var h = 1; h <= 20; h++)
            {
                state.Put(new HostState { Name = $"host{h}", MemoryBytes = 1L << 40 });
                for (var i = 0; i < 500; i++)
                    state.Put(new MachineState { Id = Guid.NewGuid(), Host = $"host{h}", Name = $"machine-{i}", Path = $@"C:\VMs\{i}", State = VMState.Running, Address = (h * 500) + i, Adapters = [new AdapterState { Id = "1", Mac = "00155D000000", Switch = "LAN" }] });
            }
        });
        var call = TimeSpan.FromMilliseconds(50);
        world.Configure(settings => settings with { CallLatency = call });
        var simulated = TestPool.Simulated(folder.Path, hosts: 20);
        var pool = simulated with { Hypervisor = "hyperv", Hosts = [.. simulated.Hosts.Where(host => host.Role == HostRole.Matrix).Select(host => host with { Address = host.Name })] };
        clock.Run(async () =>
        {
            await using var driver = new HyperVHypervisor(pool, new DoubleShell(world, pool.HyperV.CallsAtOnce), clock);
            var begun = clock.GetUtcNow();
            var reports = await Task.WhenAll(pool.Hosts.Select(host => driver.ReadHostAsync(host, default)));
            Assert.InRange(clock.GetUtcNow() - begun, call, call * 10);
            Assert.Equal(10_000, reports.Sum(report => report.Machines.Count));
        });
        world.Forget();
    }
}

/// <summary>The same through a real PowerShell child, whose errors cross two processes.</summary>
[Trait("Category", "Long")]
public sealed class HyperVByPowerShellTroubleTests : HyperVTroubles
{
    private protected override async Task<HyperVDriverWorld> OpenAsync() => (HyperVDriverWorld)await DoubledWorld.ThroughPowerShellAsync(folder => new HyperVDriverWorld(folder, DoubledWorld.Warm));
}
