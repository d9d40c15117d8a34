using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Scvmm;
using VMatrix.Shells;
using VMatrix.Tests.Simulation;
using Xunit;

namespace VMatrix.Tests.Scvmm;

/// <summary>What is SCVMM's own: jobs, memories of its own that may be wrong, ratings, descriptions that others write too.</summary>
public sealed class ScvmmTests
{
    private static readonly string s_assembly = typeof(ScvmmTests).Assembly.Location;

    [Fact]
    public Task A_move_that_is_reported_done_and_was_not_made_is_told() => InAsync(async (world, driver, server, service) =>
    {
        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        world.World.Configure(settings => settings with { LyingMoves = 1 });
        var error = await Assert.ThrowsAsync<VMatrixException>(() => driver.CarryAsync(default, server, world.Pool.Hosts[0], world.Pool.Hosts[1], default));
        Assert.Equal(("MoveNotDone", true), (error.Id, error.IsTransient));
        await driver.CarryAsync(default, server, world.Pool.Hosts[0], world.Pool.Hosts[1], default);
        Assert.Single((await driver.ReadHostAsync(world.Pool.Hosts[1], default)).Machines);
    });

    [Fact]
    public Task A_template_becomes_an_image_that_servers_are_made_of() => InAsync(async (world, driver, server, service) =>
    {
        world.World.AddTemplate("finance template", "gold.vhdx");
        var templated = service with { Image = service.Image with { Disk = "finance template" } };
        Assert.Equal("PoolInvalid", (await Assert.ThrowsAsync<VMatrixException>(() => driver.PrepareImageAsync(default, templated, world.Pool.Hosts[0], null, default))).Id);
        var other = new ScvmmHypervisor(world.Pool with { Scvmm = world.Pool.Scvmm with { Path = @"D:\VMs" } }, new DoubleShell(world.World), world.Clock);
        var before = (await driver.ReadNestAsync(default)).Images[service.Name];
        var image = await other.PrepareImageAsync(default, templated, world.Pool.Hosts[0], null, default);
        Assert.NotEqual(before, image);
        Assert.Equal(image, (await driver.ReadNestAsync(default)).Images[service.Name]);
        Assert.Empty((await driver.ReadHostAsync(world.Pool.Hosts[0], default)).Machines);
        Assert.Equal(image, await other.PrepareImageAsync(default, templated, world.Pool.Hosts[0], null, default));
        var made = Guid.NewGuid();
        await driver.CreateAsync(default, TestPool.Mark(world.Pool, service.Name, 2, Guid.NewGuid(), image, world.Clock.GetUtcNow(), made), service, default);
        await driver.FetchAsync(default, made, world.Pool.Hosts[0], default);
        await driver.StartAsync(default, made, service, world.Pool.Hosts[0], default);
    });

    [Fact]
    public Task A_job_that_fails_is_told_with_its_code_and_why() => InAsync(async (world, driver, server, service) =>
    {
        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        world.World.SetHost("host1", host => host with { MemoryBytes = 1 << 20 });
        var error = await Assert.ThrowsAsync<VMatrixException>(() => driver.StartAsync(default, server, service, world.Pool.Hosts[0], default));
        Assert.Contains("12711", error.Message, StringComparison.Ordinal);
        Assert.Equal(PowerState.Off, Assert.Single((await driver.ReadHostAsync(world.Pool.Hosts[0], default)).Machines).Power);
    });

    [Fact]
    public Task What_VMM_remembers_of_a_host_that_does_not_answer_proves_nothing() => InAsync(async (world, driver, server, service) =>
    {
        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        Assert.True(await driver.ProveStoppedAsync(server, world.Pool.Hosts[0], default));
        world.World.SetHost("host1", host => host with { Mood = HostMood.CutOff });
        Assert.False(await driver.ProveStoppedAsync(server, world.Pool.Hosts[0], default));
        Assert.Equal("HostUnreachable", (await Assert.ThrowsAsync<VMatrixException>(() => driver.ReadHostAsync(world.Pool.Hosts[0], default))).Id);
    });

    [Fact]
    public Task A_zero_rating_stands_in_the_way_with_its_reason() => InAsync(async (world, driver, server, service) =>
    {
        Assert.Empty(await driver.CompareAsync(server, service, null, world.Pool.Hosts[0], live: false, default));
        world.World.SetHost("host1", host => host with { Switches = ["Other"] });
        var obstacle = Assert.Single(await driver.CompareAsync(server, service, null, world.Pool.Hosts[0], live: false, default));
        Assert.Equal((ObstacleSeverity.Blocks, "HostRatedZero"), (obstacle.Severity, obstacle.What));
        Assert.Contains("LAN", obstacle.Why, StringComparison.Ordinal);
    });

    [Fact]
    public Task Ratings_are_asked_in_one_call_for_each_service_and_kept_for_five_minutes() => InAsync(async (world, _, server, service) =>
    {
        var calls = new CountingShell(new DoubleShell(world.World), "Get-SCVMHostRating");
        var driver = new ScvmmHypervisor(world.Pool, calls, world.Clock);
        var advice = await driver.AdviseAsync(world.Pool.Hosts, default);
        Assert.Empty(advice.Problems);
        Assert.Equal(world.Pool.Hosts.Select(host => (host.Name, service.Name)), advice.Verdicts.Select(verdict => (verdict.Host, verdict.Service))); // SPORTS has no image yet.
        Assert.All(advice.Verdicts, verdict => Assert.True(verdict is { Rating: > 0.9 and <= 1, Refusal: null, Server: null }));
        Assert.Equal(1, calls.Count);

        world.World.SetHost("host1", host => host with { Switches = ["Other"] });
        await Task.Delay(TimeSpan.FromMinutes(5) - TimeSpan.FromSeconds(1), world.Clock);
        Assert.All((await driver.AdviseAsync(world.Pool.Hosts, default)).Verdicts, verdict => Assert.Null(verdict.Refusal));
        Assert.Equal(1, calls.Count);
        await Task.Delay(TimeSpan.FromSeconds(1), world.Clock);
        var later = await driver.AdviseAsync(world.Pool.Hosts, default);
        Assert.Equal(2, calls.Count);
        var refused = Assert.Single(later.Verdicts, verdict => verdict.Refusal is not null);
        Assert.Equal("host1", refused.Host);
        Assert.StartsWith("VMM rates it zero: ", refused.Refusal, StringComparison.Ordinal);
        Assert.Contains("LAN", refused.Refusal, StringComparison.Ordinal);

        // A host that does not answer is not asked for; one that is back is, at once.
        Assert.DoesNotContain((await driver.AdviseAsync([.. world.Pool.Hosts.Skip(1)], default)).Verdicts, verdict => verdict.Host == "host1");
        Assert.Equal(2, calls.Count);
    });

    [Fact]
    public Task A_host_that_is_only_full_is_not_ruled_out_for_the_plan_may_empty_it() => InAsync(async (world, _, server, service) =>
    {
        world.World.AddForeign("host1", "FULL", memoryBytes: 2L << 30);
        world.World.AddForeign("host2", "FULL", memoryBytes: 2L << 30);
        world.World.SetHost("host2", host => host with { Switches = ["Other"] });
        var verdicts = (await ((IHostAdviser)world.OpenHypervisor()).AdviseAsync(world.Pool.Hosts, default)).Verdicts;
        Assert.DoesNotContain(verdicts, verdict => verdict.Host == "host1");
        Assert.Contains("LAN", Assert.Single(verdicts, verdict => verdict.Host == "host2").Refusal, StringComparison.Ordinal);
        Assert.Equal(world.Pool.Hosts.Count - 1, verdicts.Count);
    });

    [Fact]
    public Task Ratings_that_cannot_be_had_are_told_and_nothing_is_ruled_out() => InAsync(async (world, _, server, service) =>
    {
        var driver = new ScvmmHypervisor(world.Pool, new CountingShell(new DoubleShell(world.World), "Get-SCVMHostRating") { Fails = true }, world.Clock);
        var advice = await driver.AdviseAsync(world.Pool.Hosts, default);
        Assert.Empty(advice.Verdicts);
        Assert.StartsWith($"VMM was asked how it rates hosts for {service.Name}, and placement goes by the pool file alone: ", Assert.Single(advice.Problems), StringComparison.Ordinal);
    });

    [Fact]
    public Task A_plan_leaves_out_what_VMM_rates_zero_with_its_reason_and_prefers_what_it_likes() => InAsync(async (world, driver, server, service) =>
    {
        world.World.SetHost("host1", host => host with { Switches = ["Other"] });
        world.World.SetHost("host2", host => host with { MemoryBytes = 1L << 30 }); // The fuller one for VMM, which counts what it does not tell.
        world.World.AddForeign("host2", "OTHER", memoryBytes: 512L << 20);
        var pool = world.Pool with { Services = [service with { Least = 1 }] };
        await using var session = new PoolSession(pool, new PoolDrivers(driver, world.OpenBalancer(), world.OpenProbe()), null, world.Clock);
        var plan = await session.PlanSwitchAsync(default);
        var wake = Assert.Single(plan.Moves, move => move.Kind is MoveKind.Wake);
        Assert.Equal("host3", wake.ToHost);
        Assert.Contains("excluded: 1 ruled out (VMM rates it zero: ", wake.Reason, StringComparison.Ordinal);
        Assert.Contains("LAN", wake.Reason, StringComparison.Ordinal);
    });

    [Fact]
    public Task Hosts_of_a_group_are_hosts_of_the_pool_with_what_VMM_knows_of_them() => InAsync(async (world, _, server, service) =>
    {
        world.World.Configure(settings => settings with { HostGroups = [@"All Hosts", @"All Hosts\Web", @"All Hosts\Repair", @"All Hosts\Old\Web", @"All Hosts\Empty"] });
        foreach (var (name, group) in new[] { ("web1", "Web"), ("web2", "Web"), ("fix1", "Repair") })
            world.World.AddHost(new HostState { Name = name + ".example.com", MemoryBytes = 64L << 30, Cores = 24, Group = @"All Hosts\" + group });
        PoolSpec With(params HostGroupSpec[] groups) => world.Pool with { Hosts = [], Scvmm = world.Pool.Scvmm with { HostGroups = groups } };
        Task<PoolSpec> OpenAsync(PoolSpec pool) => ScvmmHypervisor.WithHostGroupsAsync(pool, new DoubleShell(world.World), world.Clock, default);
        var web = new HostGroupSpec { Group = @"all hosts\web", MostServers = 20 };

        var pool = await OpenAsync(With(web, new HostGroupSpec { Group = "Repair", Role = HostRole.Chamber, KeptBytes = 1L << 30 }));
        Assert.Equal([("web1.example.com", HostRole.Matrix, 60L << 30, 24, 20), ("web2.example.com", HostRole.Matrix, 60L << 30, 24, 20), ("fix1.example.com", HostRole.Chamber, 63L << 30, 24, (int?)null)],
            pool.Hosts.OrderBy(h => h.Role).ThenBy(h => h.Name, StringComparer.Ordinal).Select(h => (h.Name, h.Role, h.MemoryBytes, h.Cores!.Value, h.MostServers)));

        // What the file says of a host goes before its group; names in lists are VMM's.
        var listed = With(web) with { Hosts = [new HostSpec { Name = "web1", Address = "web1", MemoryBytes = 8L << 30 }], Services = [service with { AllowedHosts = ["WEB2.example.com"] }] };
        pool = await OpenAsync(listed);
        Assert.Equal([("web1", 8L << 30), ("web2.example.com", 60L << 30)], pool.Hosts.Select(h => (h.Name, h.MemoryBytes)));
        Assert.Equal(["web2.example.com"], pool.Services[0].AllowedHosts);
        async Task RefusedAsync(string id, string says, PoolSpec wrong)
        {
            var error = await Assert.ThrowsAsync<VMatrixException>(() => OpenAsync(wrong));
            Assert.Equal(id, error.Id);
            Assert.Contains(says, error.Message, StringComparison.Ordinal);
        }

        await RefusedAsync("PoolInvalid", "names the host 'web9'", listed with { Services = [service with { ForbiddenHosts = ["web9"] }] });
        await RefusedAsync("PoolInvalid", "make kept smaller", With(web with { KeptBytes = 64L << 30 }));
        await RefusedAsync("HostGroupNotFound", @"All Hosts\Web, All Hosts\Old\Web", With(web with { Group = "Web" }));
        await RefusedAsync("HostGroupNotFound", "lists no host group 'Wib'", With(web with { Group = "Wib" }));
        await RefusedAsync("HostGroupEmpty", "user role", With(web with { Group = "Empty" }));
        world.World.SetHost("fix1.example.com", host => host with { CanRead = false }); // An empty list for want of rights is no empty group.
        await RefusedAsync("HostGroupEmpty", "user role", With(web with { Group = "Repair" }));

        // A host that comes to the group later is told of, and is a host of the pool when it is opened anew.
        pool = await OpenAsync(With(web));
        await using var driver = new ScvmmHypervisor(pool, new DoubleShell(world.World), world.Clock);
        Assert.Empty((await driver.AdviseAsync(pool.Hosts, default)).Problems);
        world.World.AddHost(new HostState { Name = "web3.example.com", MemoryBytes = 64L << 30, Group = @"All Hosts\Web" });
        Assert.Empty((await driver.AdviseAsync(pool.Hosts, default)).Problems);
        await Task.Delay(TimeSpan.FromMinutes(5), world.Clock);
        Assert.Contains("has the host web3.example.com now", Assert.Single((await driver.AdviseAsync(pool.Hosts, default)).Problems), StringComparison.Ordinal);
        Assert.Equal(3, (await OpenAsync(With(web))).Hosts.Count);
    });

    [Fact]
    public Task A_pool_of_a_group_runs_a_server_on_it() => InAsync(async (world, _, _, service) =>
    {
        var named = world.Pool with { Hosts = [], Services = [service with { Least = 1 }], Scvmm = world.Pool.Scvmm with { HostGroups = [new HostGroupSpec { Group = "All Hosts", KeptBytes = 1L << 30 }] } };
        var pool = await ScvmmHypervisor.WithHostGroupsAsync(named, new DoubleShell(world.World), world.Clock, default);
        await using var session = new PoolSession(pool, new PoolDrivers(new ScvmmHypervisor(pool, new DoubleShell(world.World), world.Clock), world.OpenBalancer(), world.OpenProbe()), StateFolder.Open(pool.StateFolder, create: true), world.Clock);
        var plan = await session.PlanSwitchAsync(default);
        var records = await session.SwitchAsync(plan.Id, null, default);
        Assert.NotEmpty(records);
        Assert.All(records, record => Assert.True(record.Status == MoveStatus.Done, record.Error));
        var running = Assert.Single(await session.GetServersAsync(false, null, default), s => s.Stage is Stage.Matrix);
        Assert.Contains(running.Host, pool.Hosts.Select(host => host.Name));
    });

    private sealed class CountingShell(IShell shell, string command) : IShell
    {
        public int Count { get; private set; }

        public bool Fails { get; init; }

        public Task<IReadOnlyList<PropertyBag>> InvokeAsync(ShellCall call, System.Threading.CancellationToken cancellation)
        {
            if (!call.Commands.Any(each => each.Name.EndsWith(command, StringComparison.Ordinal)))
                return shell.InvokeAsync(call, cancellation);
            Count++;
            return Fails ? throw new ShellException("The user role does not allow it.") { ErrorId = "1604,x" } : shell.InvokeAsync(call, cancellation);
        }

        public ValueTask DisposeAsync() => shell.DisposeAsync();
    }

    [Fact]
    [Trait("Category", "Long")]
    public Task Killed_at_every_point_on_the_way() => KillAsync(
        from point in MoveRoutes.Failpoints
        where !point.StartsWith("restart.", StringComparison.Ordinal) // A host's machines are not reached when it is gone.
        select (Way.All.Concat(Way.Others).First(way => way.Points.Contains(point)), point, (Trouble?)null));

    [Fact]
    [Trait("Category", "Long")]
    public async Task Killed_at_every_point_on_the_way_back() => await KillAsync(
        from back in await SimulationFailpointTests.BackPointsAsync()
        where back.Way.Route != "restart"
        select (back.Way, back.Point, (Trouble?)back.Trouble));

    private static Task KillAsync(IEnumerable<(Way Way, string Point, Trouble? Trouble)> points) =>
        Parallel.ForEachAsync(points, new ParallelOptions { MaxDegreeOfParallelism = 2 }, async (each, _) =>
        {
            using var folder = new TemporaryFolder();
            await using var world = new ScvmmDriverWorld(folder.Path);
            await Victim.KillAndRecoverAsync(world, "scvmm", folder.Path, s_assembly, each.Way, each.Point, each.Trouble);
        });

    private static Task InAsync(Func<ScvmmDriverWorld, IHypervisor, Guid, ServiceSpec, Task> test) => ScvmmDriverWorld.WithServerAsync(test);
}
