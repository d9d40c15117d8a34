using System;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using Xunit;

namespace VMatrix.Contract;

/// <summary>What a balancer driver brings to the contract: a pool of its own, servers that answer, and users that ask.</summary>
public abstract class BalancerWorld : IAsyncDisposable
{
    /// <summary>Two services, FINANCE and SPORTS, each reached by users.</summary>
    public abstract PoolSpec Pool { get; }

    public abstract TimeProvider Clock { get; }

    public abstract IBalancer OpenBalancer();

    public virtual Task RunAsync(Func<Task> body) => body();

    /// <summary>Starts something that answers for a server; returns where.</summary>
    public abstract Task<string> ServeAsync(ServiceSpec service, Guid server);

    /// <summary>Makes a server stop answering.</summary>
    public abstract Task BreakAsync(Guid server);

    /// <summary>Sends requests to a service, one after another.</summary>
    public abstract Task AskAsync(ServiceSpec service, int requests);

    /// <summary>Ends the balancer from outside, as a crash does.</summary>
    public abstract Task KillAsync();

    public abstract ValueTask DisposeAsync();
}

/// <summary>What every balancer driver keeps to.</summary>
public abstract class BalancerContract
{
    protected abstract Task<BalancerWorld> OpenWorldAsync();

    [Fact]
    public Task It_is_started_once_and_found_again() => RunAsync(async (world, balancer) =>
    {
        var first = (await balancer.ReadAsync(default)).Incarnation;
        await balancer.EnsureAsync(default);
        await using var later = world.OpenBalancer();
        await later.EnsureAsync(default);
        Assert.Equal(first, (await later.ReadAsync(default)).Incarnation);
        Assert.Equal(["FINANCE", "SPORTS"], (await later.ReadAsync(default)).Services.Select(service => service.Service).Order());
    });

    [Fact]
    public Task Each_call_may_be_repeated() => RunAsync(async (world, balancer) =>
    {
        var (service, server) = (world.Pool.Services[0], Guid.NewGuid());
        var address = await world.ServeAsync(service, server);
        for (var turn = 0; turn < 2; turn++)
        {
            await balancer.JoinAsync(default, service, server, address, default);
            var member = Assert.Single((await balancer.ReadAsync(default)).Members);
            Assert.Equal((server, service.Name, address, MemberState.Ready), (member.ServerId, member.Service, member.Address, member.State));
        }

        for (var turn = 0; turn < 2; turn++)
        {
            await balancer.DrainAsync(default, service.Name, server, default);
            Assert.Equal(MemberState.Draining, Assert.Single((await balancer.ReadAsync(default)).Members).State);
        }

        await balancer.JoinAsync(default, service, server, address, default);
        Assert.Equal(MemberState.Ready, Assert.Single((await balancer.ReadAsync(default)).Members).State);
        for (var turn = 0; turn < 2; turn++)
        {
            await balancer.LeaveAsync(default, service.Name, server, default);
            Assert.Empty((await balancer.ReadAsync(default)).Members);
        }

        await balancer.DrainAsync(default, service.Name, server, default);
        Assert.Empty((await balancer.ReadAsync(default)).Members);
    });

    [Fact]
    public Task A_call_that_was_cut_short_is_repeated_by_another_driver() => RunAsync(async (world, balancer) =>
    {
        var (service, server) = (world.Pool.Services[0], Guid.NewGuid());
        var address = await world.ServeAsync(service, server);
        Func<IBalancer, CancellationToken, Task>[] calls =
        [
            (driver, cancellation) => driver.JoinAsync(default, service, server, address, cancellation),
            (driver, cancellation) => driver.DrainAsync(default, service.Name, server, cancellation),
            (driver, cancellation) => driver.LeaveAsync(default, service.Name, server, cancellation),
        ];
        foreach (var call in calls)
        {
            foreach (var microseconds in new[] { 0, 50, 500 })
            {
                using var cut = new CancellationTokenSource(TimeSpan.FromMicroseconds(microseconds), world.Clock);
                try
                {
                    await call(balancer, cut.Token);
                }
                catch (OperationCanceledException)
                {
                }
            }

            await using var later = world.OpenBalancer();
            await call(later, default);
            var members = (await later.ReadAsync(default)).Members;
            if (call == calls[2])
                Assert.Empty(members);
            else
                Assert.Equal((call == calls[0] ? MemberState.Ready : MemberState.Draining, address), (Assert.Single(members).State, members[0].Address));
        }
    });

    [Fact]
    public Task A_server_that_comes_back_elsewhere_is_sent_its_requests_there() => RunAsync(async (world, balancer) =>
    {
        var (service, server) = (world.Pool.Services[0], Guid.NewGuid());
        var before = await world.ServeAsync(service, server);
        await balancer.JoinAsync(default, service, server, before, default);
        await balancer.DrainAsync(default, service.Name, server, default);
        await world.BreakAsync(server);
        var after = await world.ServeAsync(service, server);
        Assert.NotEqual(before, after);
        await balancer.JoinAsync(default, service, server, after, default);
        var member = Assert.Single((await balancer.ReadAsync(default)).Members);
        Assert.Equal((after, MemberState.Ready), (member.Address, member.State));
        await world.AskAsync(service, 3);
        Assert.Equal(3, (await balancer.ReadAsync(default)).Services.Single(counters => counters.Service == service.Name).Served);
    });

    [Fact]
    public Task Requests_go_to_ready_members_only_and_are_counted() => RunAsync(async (world, balancer) =>
    {
        var service = world.Pool.Services[0];
        var servers = new[] { Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid() };
        foreach (var server in servers)
            await balancer.JoinAsync(default, service, server, await world.ServeAsync(service, server), default);
        var other = Guid.NewGuid();
        await balancer.JoinAsync(default, world.Pool.Services[1], other, await world.ServeAsync(world.Pool.Services[1], other), default);
        await world.AskAsync(service, 9);
        var before = await balancer.ReadAsync(default);
        Assert.Equal((9, 9), (Of(before, service).Requests, Of(before, service).Served));
        Assert.Equal(0, Of(before, world.Pool.Services[1]).Requests);
        Assert.Equal([3, 3, 3], servers.Select(server => (int)before.Members.Single(member => member.ServerId == server).Requests));
        Assert.Equal(0, before.Members.Single(member => member.ServerId == other).Requests);

        await balancer.DrainAsync(default, service.Name, servers[0], default);
        await world.AskAsync(service, 8);
        var after = await balancer.ReadAsync(default);
        Assert.Equal([3, 7, 7], servers.Select(server => (int)after.Members.Single(member => member.ServerId == server).Requests));
        Assert.Equal(17, Of(after, service).Served);
        Assert.Equal(0, Of(after, service).Refused + Of(after, service).Errors);
        Assert.Equal(before.Incarnation, after.Incarnation);

        // Counters of a service never go back, even when the member that earned them leaves.
        await balancer.LeaveAsync(default, service.Name, servers[0], default);
        Assert.Equal(17, Of(await balancer.ReadAsync(default), service).Served);
    });

    [Fact]
    public Task A_member_that_stops_answering_is_seen_down() => RunAsync(async (world, balancer) =>
    {
        var (service, server) = (world.Pool.Services[0], Guid.NewGuid());
        await balancer.JoinAsync(default, service, server, await world.ServeAsync(service, server), default);
        await world.BreakAsync(server);
        var until = world.Clock.GetUtcNow() + TimeSpan.FromSeconds(30);
        while ((await balancer.ReadAsync(default)).Members.Single().State != MemberState.Down)
        {
            Assert.True(world.Clock.GetUtcNow() < until, "The member that does not answer is still sent requests after 30 s.");
            await Task.Delay(TimeSpan.FromMilliseconds(100), world.Clock);
        }
    });

    [Fact]
    public Task One_that_went_away_says_so_comes_back_and_takes_its_servers_again() => RunAsync(async (world, balancer) =>
    {
        var (service, server) = (world.Pool.Services[0], Guid.NewGuid());
        var address = await world.ServeAsync(service, server);
        await balancer.JoinAsync(default, service, server, address, default);
        var before = (await balancer.ReadAsync(default)).Incarnation;
        await world.KillAsync();
        var error = await Assert.ThrowsAsync<VMatrixException>(() => balancer.ReadAsync(default));
        Assert.Equal(("BalancerUnreachable", true), (error.Id, error.IsTransient));
        await Assert.ThrowsAsync<VMatrixException>(() => balancer.DrainAsync(default, service.Name, server, default));
        await balancer.EnsureAsync(default);
        await balancer.JoinAsync(default, service, server, address, default);
        var after = await balancer.ReadAsync(default);
        Assert.NotEqual(before, after.Incarnation);
        Assert.Equal((server, MemberState.Ready), (Assert.Single(after.Members).ServerId, after.Members[0].State));
        await world.AskAsync(service, 2);
        Assert.Equal(2, Of(await balancer.ReadAsync(default), service).Served);
    });

    [Fact]
    public Task A_decider_that_was_followed_by_another_is_refused() => RunAsync(async (world, balancer) =>
    {
        var (service, server) = (world.Pool.Services[0], Guid.NewGuid());
        var address = await world.ServeAsync(service, server);
        await balancer.JoinAsync(new DriverCall(Guid.NewGuid(), 8), service, server, address, default);
        var old = new DriverCall(Guid.NewGuid(), 7);
        foreach (var call in new Func<Task>[] { () => balancer.JoinAsync(old, service, Guid.NewGuid(), address, default), () => balancer.DrainAsync(old, service.Name, server, default), () => balancer.LeaveAsync(old, service.Name, server, default) })
            Assert.Equal("StaleEpoch", (await Assert.ThrowsAsync<VMatrixException>(call)).Id);
        Assert.Equal(8, await Assert.IsAssignableFrom<IEpochKeeper>(balancer).ReadEpochAsync(default));
        Assert.Equal(MemberState.Ready, Assert.Single((await balancer.ReadAsync(default)).Members).State);
        await balancer.DrainAsync(default, service.Name, server, default); // By hand: never refused.
        await balancer.LeaveAsync(new DriverCall(Guid.NewGuid(), 9), service.Name, server, default);
    });

    [Fact]
    public Task Many_at_once_are_as_one_after_another() => RunAsync(async (world, balancer) =>
    {
        var service = world.Pool.Services[1];
        var servers = Enumerable.Range(0, 12).Select(_ => Guid.NewGuid()).ToArray();
        var addresses = await Task.WhenAll(servers.Select(server => world.ServeAsync(service, server)));
        await using var second = world.OpenBalancer();
        await Task.WhenAll(servers.Select(async (server, i) =>
        {
            var driver = i % 2 == 0 ? balancer : second;
            await driver.JoinAsync(default, service, server, addresses[i], default);
            if (i % 3 == 0)
                await driver.DrainAsync(default, service.Name, server, default);
            if (i % 4 == 0)
                await driver.LeaveAsync(default, service.Name, server, default);
        }));
        var members = (await balancer.ReadAsync(default)).Members.ToDictionary(member => member.ServerId, member => member.State);
        for (var i = 0; i < servers.Length; i++)
            Assert.Equal(i % 4 == 0 ? null : i % 3 == 0 ? MemberState.Draining : MemberState.Ready, members.TryGetValue(servers[i], out var state) ? state : (MemberState?)null);
    });

    [Fact]
    public Task One_that_was_stopped_does_not_answer_and_may_be_stopped_again() => RunAsync(async (world, balancer) =>
    {
        await balancer.StopAsync(default);
        await balancer.StopAsync(default);
        Assert.Equal("BalancerUnreachable", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.ReadAsync(default))).Id);
        await balancer.EnsureAsync(default);
        Assert.Empty((await balancer.ReadAsync(default)).Members);
    });

    private static ServiceCounters Of(BalancerReport report, ServiceSpec service) => report.Services.Single(counters => counters.Service == service.Name);

    private async Task RunAsync(Func<BalancerWorld, IBalancer, Task> test)
    {
        await using var world = await OpenWorldAsync();
        await world.RunAsync(async () =>
        {
            await using var balancer = world.OpenBalancer();
            await balancer.EnsureAsync(default);
            await test(world, balancer);
        });
    }
}
