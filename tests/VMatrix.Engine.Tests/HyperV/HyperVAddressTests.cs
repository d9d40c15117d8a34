using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>Static addresses: one for each server, told to nobody else while anything may still have it.</summary>
public sealed class HyperVAddressTests
{
    [Fact]
    public Task Each_server_has_one_of_its_own_wherever_it_goes() => InAsync("10.0.5.10-10.0.5.12", async lab =>
    {
        var servers = new[] { await lab.CreateAsync(1), await lab.CreateAsync(2), await lab.CreateAsync(3) };
        Assert.Equal(["10.0.5.10", "10.0.5.11", "10.0.5.12"], servers.Select(lab.AddressOf).Order());
        var (here, there) = (lab.World.Pool.Hosts[0], lab.World.Pool.Hosts[1]);
        var own = lab.AddressOf(servers[1]);
        await lab.Driver.FetchAsync(default, servers[1], here, default);
        Assert.Equal($"{own}:80", await lab.Driver.StartAsync(default, servers[1], lab.Service, here, default));

        // Its guest was not told, for its image is of the kind that nobody tells anything: it has another one, and that is said.
        await Task.Delay(TimeSpan.FromSeconds(5), lab.World.Clock);
        var found = (await lab.Driver.ReadHostAsync(here, default)).Machines.Single(machine => machine.Mark?.ServerId == servers[1]);
        Assert.Equal($"{own}:80", found.Address);
        Assert.Contains($"not its own, {own}", found.Problem, StringComparison.Ordinal);
        lab.World.World.SetMachine(lab.World.MachineOf(servers[1]).Id, machine => machine with { GuestAddress = own });
        found = (await lab.Driver.ReadHostAsync(here, default)).Machines.Single(machine => machine.Mark?.ServerId == servers[1]);
        Assert.Null(found.Problem);
        Assert.Null(await lab.World.OpenProbe().CheckAsync(lab.Service, found.Address!, default));

        Assert.Equal($"{own}:80", await lab.Driver.MigrateAsync(default, servers[1], lab.Service, here, there, default));
        await lab.Driver.SaveAsync(default, servers[1], there, default);
        await lab.Driver.StowAsync(default, servers[1], there, default);
        Assert.Equal(own, lab.AddressOf(servers[1]));
    });

    [Fact]
    public Task Two_at_once_do_not_get_the_same() => InAsync("10.0.5.10-10.0.5.30", async lab =>
    {
        // As two processes would: each with a driver of its own.
        await using var other = lab.World.OpenHypervisor();
        var made = await Task.WhenAll(Enumerable.Range(1, 16).Select(number => lab.CreateAsync(number, by: number % 2 == 0 ? other : lab.Driver)));
        Assert.Equal(16, made.Select(lab.AddressOf).Distinct().Count());
    });

    [Fact]
    public Task A_range_that_is_used_up_says_so_and_a_purge_frees_one() => InAsync("10.0.5.10-10.0.5.11", async lab =>
    {
        var first = await lab.CreateAsync(1);
        await lab.CreateAsync(2);
        var refused = await Assert.ThrowsAsync<VMatrixException>(() => lab.CreateAsync(3));
        Assert.Equal(("AddressesUsedUp", VMatrixErrorKind.NoRoom), (refused.Id, refused.Kind));
        Assert.Contains("10.0.5.10-10.0.5.11", refused.Message, StringComparison.Ordinal);
        Assert.Contains("-Purge", refused.Message, StringComparison.Ordinal);

        // Disposed of it may come back, and has it still.
        var address = lab.AddressOf(first);
        await lab.Driver.DiscardAsync(default, first, null, default);
        Assert.Equal("AddressesUsedUp", (await Assert.ThrowsAsync<VMatrixException>(() => lab.CreateAsync(3))).Id);
        await lab.Driver.EraseAsync(default, first, default);
        Assert.Equal(address, lab.AddressOf(await lab.CreateAsync(3)));
        Assert.Equal(2, Directory.GetFiles(Path.Combine(lab.World.Pool.Nest.Folder, "addresses")).Length);
    });

    [Fact]
    public Task What_a_dead_host_keeps_is_not_given_away() => InAsync("10.0.5.10-10.0.5.12", async lab =>
    {
        var first = await lab.CreateAsync(1);
        var address = lab.AddressOf(first);
        lab.World.World.SetHost(lab.World.MachineOf(first).Host, host => host with { Mood = VMatrix.Doubles.HostMood.CutOff });
        await using var fresh = lab.World.OpenHypervisor();
        Assert.NotEqual(address, lab.AddressOf(await lab.CreateAsync(2, by: fresh)));
    });

    [Fact]
    public Task What_any_machine_uses_is_not_given_away() => InAsync("10.0.5.10-10.0.5.12", async lab =>
    {
        var mail = lab.World.World.AddForeign("host2", "mail");
        lab.World.World.SetMachine(mail, machine => machine with { GuestAddress = "10.0.5.10", Adapters = [machine.Adapters[0] with { Switch = "LAN" }] });
        await Task.Delay(TimeSpan.FromSeconds(5), lab.World.Clock);
        Assert.Equal("10.0.5.11", lab.AddressOf(await lab.CreateAsync(1)));
    });

    [Fact]
    public Task What_was_begun_and_failed_is_free_again_and_what_a_crash_left_is_used_by_who_comes_next() => InAsync("10.0.5.10-10.0.5.12", async lab =>
    {
        foreach (var host in lab.World.Pool.Hosts)
            lab.World.World.SetHost(host.Name, state => state with { Switches = ["Other"] });
        await Assert.ThrowsAsync<VMatrixException>(() => lab.CreateAsync(1));
        Assert.Empty(Directory.GetFiles(Path.Combine(lab.World.Pool.Nest.Folder, "addresses")));
        foreach (var host in lab.World.Pool.Hosts)
            lab.World.World.SetHost(host.Name, state => state with { Switches = ["LAN", "Isolated"] });

        // One that died between its claim and its mark.
        var id = Guid.NewGuid();
        Assert.True(new VMatrix.HyperV.HyperVNest(lab.World.Pool.Nest.Folder, lab.World.Clock).TryClaim("10.0.5.11", id));
        Assert.Equal("10.0.5.10", lab.AddressOf(await lab.CreateAsync(1)));
        Assert.Equal("10.0.5.12", lab.AddressOf(await lab.CreateAsync(2)));
        Assert.Equal("10.0.5.11", lab.AddressOf(await lab.CreateAsync(3, id)));
    });

    [Fact]
    public Task One_that_is_let_go_keeps_it_and_brings_it_back() => InAsync("10.0.5.10-10.0.5.11", async lab =>
    {
        var first = await lab.CreateAsync(1);
        var (address, machine) = (lab.AddressOf(first), lab.World.MachineOf(first).Id);
        await lab.Driver.ReleaseAsync(default, first, null, default);
        Assert.NotEqual(address, lab.AddressOf(await lab.CreateAsync(2)));
        Assert.Equal("AddressesUsedUp", (await Assert.ThrowsAsync<VMatrixException>(() => lab.CreateAsync(3))).Id);

        var again = lab.Mark(4, Guid.NewGuid());
        await lab.Driver.AdoptAsync(default, machine.ToString("D"), again, null, default);
        Assert.Equal(address, lab.AddressOf(again.ServerId));
        await lab.Driver.DiscardAsync(default, again.ServerId, null, default);
        await lab.Driver.EraseAsync(default, again.ServerId, default);
        Assert.Equal(address, lab.AddressOf(await lab.CreateAsync(5)));
    });

    [Fact]
    public Task A_server_is_compared_without_integration_services_when_its_address_is_its_own() => InAsync("10.0.5.10-10.0.5.11", async lab =>
    {
        var server = await lab.CreateAsync(1);
        var (here, there) = (lab.World.Pool.Hosts[0], lab.World.Pool.Hosts[1]);
        await lab.Driver.FetchAsync(default, server, here, default);
        await lab.Driver.StartAsync(default, server, lab.Service, here, default);
        lab.World.World.SetMachine(lab.World.MachineOf(server).Id, machine => machine with { IntegrationServices = false });
        var found = await lab.Driver.CompareAsync(server, lab.Service, here, there, live: true, default);
        Assert.Equal(ObstacleSeverity.Warns, Assert.Single(found, obstacle => obstacle.What == "IntegrationServices").Severity);
    });

    private static Task InAsync(string range, Func<SeedLab, Task> test) => SeedLab.RunAsync(
        service => service with { Addresses = new AddressSpec { Range = AddressRange.TryParse(range)!, Prefix = 24 } }, test);
}

/// <summary>A world whose first service is given addresses or seeds, with a driver and an image that is ready.</summary>
internal sealed class SeedLab(HyperVDriverWorld world, IHypervisor driver, ServiceSpec service, string image)
{
    private readonly Guid _state = Guid.NewGuid();

    public HyperVDriverWorld World => world;

    public IHypervisor Driver => driver;

    public ServiceSpec Service => service;

    public static async Task RunAsync(Func<ServiceSpec, ServiceSpec> change, Func<SeedLab, Task> test, int generation = 2)
    {
        await using var world = new HyperVDriverWorld(change: pool => pool with { HyperV = pool.HyperV with { MachineGeneration = generation }, Services = [change(pool.Services[0]), .. pool.Services.Skip(1)] });
        await world.RunAsync(async () =>
        {
            await using var driver = world.OpenHypervisor();
            var service = world.Pool.Services[0];
            var image = await driver.PrepareImageAsync(default, service, world.Pool.Hosts[0], null, default);
            await test(new SeedLab(world, driver, service, image));
            Assert.Empty(world.World.Violations);
        });
    }

    public ServerMark Mark(int number, Guid id) => TestPool.Mark(world.Pool, service.Name, number, _state, image, world.Clock.GetUtcNow(), id);

    public async Task<Guid> CreateAsync(int number, Guid? id = null, IHypervisor? by = null)
    {
        var mark = Mark(number, id ?? Guid.NewGuid());
        await (by ?? driver).CreateAsync(default, mark, service, default);
        return mark.ServerId;
    }

    /// <summary>The static address in a server's notes.</summary>
    public string? AddressOf(Guid server) => VMatrix.HyperV.HyperVNotes.Read(world.MachineOf(server).Notes).Mark!.Address;
}
