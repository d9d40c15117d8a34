using System;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>What a guest and a host tell first is not all that they will tell.</summary>
public sealed class HyperVFirstAnswerTests
{
    [Theory]
    [InlineData("2001:db8::5")]
    [InlineData("192.0.2.77")]
    [InlineData("2001:db8::5", "fe80::7")]
    public Task An_address_that_does_not_answer_is_read_again_until_the_health_check_passes(params string[] first) => InAsync(async (scene, world) =>
    {
        var server = await scene.MakeAsync(Stage.Nest);
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { Tells = first });
        var moving = scene.MoveAsync(server, Stage.Matrix, scene.Host(1));
        await Task.Delay(TimeSpan.FromSeconds(20), world.Clock);
        Assert.False(moving.IsCompleted);
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { Tells = null });
        await moving;
        var (machine, _) = await scene.FindAsync(server);
        Assert.Equal(machine.Address, Assert.Single((await scene.Balancer.ReadAsync(default)).Members).Address);
        Assert.Null(await scene.Probe.CheckAsync(scene.Finance, machine.Address!, default));
    });

    [Fact]
    public Task An_IPv4_address_is_waited_for_while_only_an_IPv6_one_is_told() => InAsync(async (scene, world) =>
    {
        var server = await scene.MakeAsync(Stage.Nest);
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { Tells = ["fe80::7", "2001:db8::5"] });
        await scene.Hypervisor.FetchAsync(default, server, scene.Host(1), default);
        var starting = scene.Hypervisor.StartAsync(default, server, scene.Finance, scene.Host(1), default);
        await Task.Delay(TimeSpan.FromSeconds(5), world.Clock);
        Assert.False(starting.IsCompleted);
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { Tells = ["fe80::7", "2001:db8::5", "10.0.0.9"] });
        Assert.Equal("10.0.0.9:80", await starting);
    });

    [Fact]
    public Task One_of_the_other_family_is_taken_when_no_better_one_comes_and_the_owner_may_prefer_it() => InAsync(async (scene, world) =>
    {
        var server = await scene.MakeAsync(Stage.Nest);
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { Tells = ["2001:db8::5"] });
        await scene.Hypervisor.FetchAsync(default, server, scene.Host(1), default);
        Assert.Equal("[2001:db8::5]:80", await scene.Hypervisor.StartAsync(default, server, scene.Finance, scene.Host(1), default));
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { Tells = ["10.0.0.9", "2001:db8::5"] });
        Assert.Equal("10.0.0.9:80", Assert.Single((await scene.Hypervisor.ReadHostAsync(scene.Host(1), default)).Machines).Address);
        await using var other = new VMatrix.HyperV.HyperVHypervisor(world.Pool with { HyperV = world.Pool.HyperV with { AddressFamily = IpFamily.Ipv6 } }, new DoubleShell(world.World), world.Clock);
        Assert.Equal("[2001:db8::5]:80", Assert.Single((await other.ReadHostAsync(scene.Host(1), default)).Machines).Address);
    });

    [Fact]
    public Task The_error_names_every_address_that_was_told() => InAsync(async (scene, world) =>
    {
        var server = await scene.MakeAsync(Stage.Nest);
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { Tells = ["192.0.2.77"] });
        var moving = scene.CarryOutAsync(await scene.PlanAsync(server, Stage.Matrix, scene.Host(1)));
        await Task.Delay(TimeSpan.FromSeconds(10), world.Clock);
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { Tells = ["192.0.2.88"] });
        var failed = await moving;
        Assert.NotEqual(MoveStatus.Done, failed.Status);
        Assert.Contains("192.0.2.77:80, then 192.0.2.88:80", failed.Error, StringComparison.Ordinal);
    });

    [Fact]
    public Task An_address_that_nobody_reaches_is_named_where_no_other_is_told() => InAsync(async (scene, world) =>
    {
        var server = await scene.MakeAsync(Stage.Nest);
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { Tells = ["169.254.7.7", "fe80::7"] });
        await scene.Hypervisor.FetchAsync(default, server, scene.Host(1), default);
        var error = await Assert.ThrowsAsync<VMatrixException>(() => scene.Hypervisor.StartAsync(default, server, scene.Finance, scene.Host(1), default));
        Assert.Equal("ServerWithoutAddress", error.Id);
        Assert.Contains("169.254.7.7, fe80::7", error.Message, StringComparison.Ordinal);
    });

    [Fact]
    public Task A_server_is_made_though_the_first_host_of_the_file_is_down() => InAsync(async (scene, world) =>
    {
        // The chamber is asked before it; with neither the others make it.
        foreach (var host in new[] { scene.Pool.Hosts[0].Name, "chamber" })
            world.World.SetHost(host, state => state with { Mood = HostMood.CutOff });
        var record = await scene.CarryOutAsync(scene.Create());
        Assert.True(record.Status == MoveStatus.Done, record.Error);
        Assert.Single(world.World.Machines, machine => machine.Host is not ("host1" or "chamber"));
    });

    [Fact]
    public Task A_live_move_that_outlasts_its_step_says_that_Hyper_V_goes_on_with_it() => InAsync(async (scene, world) =>
    {
        var server = await scene.MakeAsync(Stage.Matrix, scene.Host(1));
        var move = await scene.PlanAsync(server, Stage.Matrix, scene.Host(2), live: true);
        world.World.Configure(settings => settings with { Bandwidth = 1 << 20 });
        var moving = scene.CarryOutAsync(move);
        var record = await moving;
        Assert.NotEqual(MoveStatus.Done, record.Status);
        Assert.Contains("StepTimeout", record.Error, StringComparison.Ordinal);
        Assert.Contains("Hyper-V on host1 may go on with it", record.Error, StringComparison.Ordinal);
        Assert.Contains(world.MachineOf(server).Id.ToString(), record.Error, StringComparison.Ordinal);
    }, limits => limits with { StepTimeout = TimeSpan.FromSeconds(30), Tries = 1 });

    [Fact]
    public Task Sleeping_dynamic_memory_counts_what_it_held() => InAsync(async (scene, world) =>
    {
        var server = await scene.MakeAsync(Stage.Matrix, scene.Host(1));
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { DynamicMemory = true, AssignedBytes = 700L << 20 });
        await scene.MoveAsync(server, Stage.Nest);
        Assert.Equal(700L << 20, Assert.Single((await scene.Hypervisor.ReadNestAsync(default)).Dormant).MemoryBytes);

        // Awake again and without a memory it counts what it has and what it starts with.
        await scene.MoveAsync(server, Stage.Matrix, scene.Host(1));
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { AssignedBytes = 300L << 20 });
        Assert.Equal(300L << 20, (await scene.FindAsync(server)).Machine.MemoryBytes);
    });

    private static async Task InAsync(Func<Scene, HyperVDriverWorld, Task> test, Func<LimitSpec, LimitSpec>? limits = null)
    {
        await using var world = new HyperVDriverWorld(change: pool => limits is null ? pool : pool with { Limits = limits(pool.Limits) });
        await world.RunAsync(async () =>
        {
            await using var scene = await Scene.OpenAsync(world);
            await test(scene, world);
        });
    }
}
