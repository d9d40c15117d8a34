using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.Scvmm;
using VMatrix.Tests.Doubles;
using Xunit;
using static VMatrix.Tests.Doubles.Troubles;

namespace VMatrix.Tests.Scvmm;

/// <summary>What VMM, hosts and people do to a driver: other languages, names twice, other people's descriptions, machines gone and moved, clocks that differ, rights that are missing, networks that fail.</summary>
public abstract class ScvmmTroubles
{
    private protected virtual Task<ScvmmDriverWorld> OpenAsync() => Task.FromResult(new ScvmmDriverWorld());

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
        var others = world.World.Machines.Where(machine => machine.Description.Length == 0).ToArray();
        Assert.Equal(world.Pool.Hosts.Count, others.Length);
        Assert.All(others, machine => Assert.Equal((VMState.Running, false), (machine.State, machine.BlockOptimization)));
        Assert.Null(Assert.Single((await driver.ReadHostAsync(world.Pool.Hosts[0], default)).Machines).Mark);
    });

    [Theory]
    [InlineData("Gehört der Buchhaltung.\r\n", "\r\nnicht löschen\r\n")]
    [InlineData("", "\n{\"other\":\"tool\"}")]
    public Task What_others_wrote_into_the_description_stays(string before, string after) => InAsync(async (world, driver, server, service) =>
    {
        var id = world.MachineOf(server).Id;
        world.World.SetMachine(id, machine => machine with { Description = before + machine.Description + after });
        await ThereAndBackAsync(world, driver, server, service);
        var kept = world.World.Machine(id).Description;
        Assert.StartsWith(before + "VMatrix:{", kept, StringComparison.Ordinal);
        Assert.EndsWith(after, kept, StringComparison.Ordinal);
    });

    [Fact]
    public Task One_that_was_deleted_behind_our_back_is_not_there_and_one_that_was_moved_is_found() => InAsync(async (world, driver, server, service) =>
    {
        var (here, there) = (world.Pool.Hosts[0], world.Pool.Hosts[1]);
        await driver.FetchAsync(default, server, here, default);
        await using var other = world.OpenHypervisor();
        await other.CarryAsync(default, server, here, there, default);
        Assert.Equal("ServerElsewhere", (await Assert.ThrowsAsync<VMatrixException>(() => driver.StartAsync(default, server, service, here, default))).Id);
        await driver.StartAsync(default, server, service, there, default);
        world.World.DeleteMachine(world.MachineOf(server).Id);
        Assert.Equal("ServerNotFound", (await Assert.ThrowsAsync<VMatrixException>(() => driver.SaveAsync(default, server, there, default))).Id);
        Assert.Empty((await driver.ReadHostAsync(there, default)).Machines);
    });

    [Fact]
    public Task Hosts_whose_clocks_differ_are_as_others() => InAsync(async (world, driver, server, service) =>
    {
        world.World.SetHost("host1", host => host with { ClockAhead = TimeSpan.FromDays(2) });
        world.World.SetHost("host2", host => host with { ClockAhead = TimeSpan.FromDays(-2) });
        await ThereAndBackAsync(world, driver, server, service);
    });

    [Fact]
    public Task An_image_selected_where_the_clock_is_behind_counts_all_the_same() => InAsync(async (world, driver, server, service) =>
    {
        var first = (await driver.ReadNestAsync(default)).Images[service.Name];
        await using var behind = new ScvmmHypervisor(world.Pool, new DoubleShell(world.World), new Behind(world.Clock, TimeSpan.FromDays(2)));
        world.World.AddLibraryDisk("library1", "newer.vhdx");
        var newer = await behind.PrepareImageAsync(default, service with { Image = service.Image with { Disk = "newer.vhdx" } }, world.Pool.Hosts[0], null, default);
        Assert.NotEqual(first, newer);
        Assert.Equal(newer, (await driver.ReadNestAsync(default)).Images[service.Name]);
        await behind.SelectImageAsync(default, service, first, default);
        Assert.Equal(first, (await driver.ReadNestAsync(default)).Images[service.Name]);
    });

    [Fact]
    public Task A_host_outside_the_account_s_role_is_no_empty_host() => InAsync(async (world, driver, server, service) =>
    {
        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        world.World.SetHost("host1", host => host with { CanRead = false });
        Assert.Equal("HostNotManaged", (await Assert.ThrowsAsync<VMatrixException>(() => driver.ReadHostAsync(world.Pool.Hosts[0], default))).Id);
        Assert.False(await driver.ProveStoppedAsync(server, world.Pool.Hosts[0], default));
    });

    [Fact]
    public Task A_library_outside_the_account_s_role_is_no_empty_nest() => InAsync(async (world, driver, server, service) =>
    {
        world.World.SetHost("library1", host => host with { CanRead = false });
        Assert.Equal("LibraryNotManaged", (await Assert.ThrowsAsync<VMatrixException>(() => driver.ReadNestAsync(default))).Id);

        // What may be there and is not seen is not made again.
        var mark = TestPool.Mark(world.Pool, service.Name, 1, Guid.NewGuid(), "any", world.Clock.GetUtcNow(), server);
        Assert.Equal("LibraryNotManaged", (await Assert.ThrowsAsync<VMatrixException>(() => driver.CreateAsync(default, mark, service, default))).Id);
    });

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public Task Calls_that_fail_at_random_leave_a_server_that_the_next_tries_bring_home(int seed) =>
        InAsync((world, driver, server, service) => ThereAndBackWithFailuresAsync(world, driver, server, service, seed, rate: 0.15, milliseconds: 30));

    private async Task InAsync(Func<ScvmmDriverWorld, IHypervisor, Guid, ServiceSpec, Task> test) => await ScvmmDriverWorld.WithServerAsync(await OpenAsync(), test);

    private sealed class Behind(TimeProvider clock, TimeSpan by) : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => clock.GetUtcNow() - by;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => clock.CreateTimer(callback, state, dueTime, period);
    }
}

public sealed class ScvmmTroubleTests : ScvmmTroubles
{
    [Fact]
    public Task One_listing_serves_all_hosts_of_a_pass_and_none_of_the_next() => ManyAsync(100, async (world, driver, pool, calls) =>
    {
        var observed = await Observation.ReadAsync(pool, driver, null, null, default);
        Assert.Equal(100, observed.Foreign.Count);
        Assert.All(pool.Hosts, host => Assert.Null(observed.ProblemOf(host.Name)));
        Assert.Equal((1, 1, 1), (calls("Get-SCVirtualMachine"), calls("Get-SCVMHost"), calls("Get-SCDynamicOptimizationConfiguration")));

        // What is new is seen by the next.
        world.AddForeign("host7", "NEW");
        Assert.Equal(101, (await Observation.ReadAsync(pool, driver, null, null, default)).Foreign.Count);
        Assert.Equal((2, 2, 1), (calls("Get-SCVirtualMachine"), calls("Get-SCVMHost"), calls("Get-SCDynamicOptimizationConfiguration")));
    });

    [Fact]
    public Task An_answer_is_never_older_than_its_asker_and_who_leaves_takes_it_from_nobody() => ManyAsync(2, async (world, driver, pool, calls) =>
    {
        world.Configure(settings => settings with { CallLatency = TimeSpan.FromSeconds(1) });
        using var impatient = new CancellationTokenSource(TimeSpan.FromMilliseconds(500), world.Clock);
        var left = driver.ReadHostAsync(pool.Hosts[0], impatient.Token);
        var stays = driver.ReadHostAsync(pool.Hosts[0], default);
        await Task.Delay(TimeSpan.FromMilliseconds(100), world.Clock);
        world.AddForeign("host1", "NEW"); // The question has been put, and may be answered without it.
        var later = driver.ReadHostAsync(pool.Hosts[0], default);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => left);
        _ = await stays;
        Assert.Contains((await later).Machines, machine => machine.Name == "NEW");
        Assert.Equal(2, calls("Get-SCVirtualMachine"));
    });

    [Fact]
    public Task VMM_s_own_balancing_is_reported_once_for_a_group_and_of_a_server_that_it_may_move() => ScvmmDriverWorld.WithServerAsync(async (world, driver, server, service) =>
    {
        var here = world.Pool.Hosts[0];
        await driver.FetchAsync(default, server, here, default);
        Assert.Null((await driver.ReadHostAsync(here, default)).Problem);
        world.World.Configure(settings => settings with { OptimizedGroups = ["All Hosts"] });
        Assert.Null((await driver.ReadHostAsync(here, default)).Problem);
        await Task.Delay(TimeSpan.FromMinutes(5), world.Clock);
        var report = await driver.ReadHostAsync(here, default);
        Assert.Contains("'All Hosts'", report.Problem, StringComparison.Ordinal);
        Assert.Null(Assert.Single(report.Machines).Problem);
        Assert.Single((await Observation.ReadAsync(world.Pool, driver, null, null, default)).Problems, problem => problem == report.Problem);

        // Somebody takes the block away; the next mark brings it back.
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { BlockOptimization = false });
        Assert.Contains("-BlockDynamicOptimization $true", Assert.Single((await driver.ReadHostAsync(here, default)).Machines).Problem, StringComparison.Ordinal);
        await driver.StartAsync(default, server, service, here, default);
        Assert.True(world.MachineOf(server).BlockOptimization);

        // Let go, it is VMM's again.
        await driver.ReleaseAsync(default, server, here, default);
        Assert.False(Assert.Single(world.World.Machines, machine => machine.Host == "host1").BlockOptimization);
    });

    /// <summary>A pool of many hosts with one machine each, nobody's; counts the calls of each command.</summary>
    private static async Task ManyAsync(int hosts, Func<DoubleWorld, IHypervisor, PoolSpec, Func<string, int>, Task> test)
    {
        await using var world = new ScvmmDriverWorld(change: pool => pool with { Hosts = [.. Enumerable.Range(1, hosts).Select(i => new HostSpec { Name = $"host{i}", MemoryBytes = 2L << 30 })] });
        foreach (var host in world.Pool.Hosts)
            world.World.AddForeign(host.Name, "OTHER", memoryBytes: 32 << 20);
        var calls = new ConcurrentDictionary<string, int>();
        world.World.Called = command => calls.AddOrUpdate(command, 1, (_, count) => count + 1);
        await world.RunAsync(async () =>
        {
            await using var driver = world.OpenHypervisor();
            await test(world.World, driver, world.Pool, name => calls.GetValueOrDefault(@"VirtualMachineManager\" + name));
        });
    }
}

/// <summary>The same through a real PowerShell child, whose errors cross two processes.</summary>
[Trait("Category", "Long")]
public sealed class ScvmmByPowerShellTroubleTests : ScvmmTroubles
{
    private protected override async Task<ScvmmDriverWorld> OpenAsync() => (ScvmmDriverWorld)await DoubledWorld.ThroughPowerShellAsync(folder => new ScvmmDriverWorld(folder, DoubledWorld.Warm));
}
