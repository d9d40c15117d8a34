using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using Xunit;

namespace VMatrix.Tests.HAProxy;

/// <summary>The driver on the real HAProxy. Each test has a pool folder and ports of its own.</summary>
public sealed class HAProxyBalancerTests : IAsyncLifetime, IDisposable
{
    private static readonly DriverCall s_call = new(Guid.NewGuid(), 0);

    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-haproxy-").FullName;

    // A connection for each request: on a kept one HAProxy answers a server's death by hanging up, which asks the client to try again.
    private readonly HttpClient _client = new(new SocketsHttpHandler { UseProxy = false }) { DefaultRequestHeaders = { ConnectionClose = true } };

    private readonly List<WebServer> _servers = [];
    private readonly List<HAProxyBalancer> _balancers = [];
    private readonly string _listen = FreeAddress();

    public Task InitializeAsync() => Task.CompletedTask;

    public async Task DisposeAsync()
    {
        foreach (HAProxyBalancer balancer in _balancers)
            await balancer.StopAsync(default);
        foreach (WebServer server in _servers)
            await server.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    public void Dispose() => _client.Dispose();

    [Fact]
    public async Task It_is_started_once_found_again_and_leaves_nothing_when_stopped()
    {
        HAProxyBalancer balancer = Balancer(Pool());
        await balancer.EnsureAsync(default);
        string incarnation = (await balancer.ReadAsync(default)).Incarnation;
        await balancer.EnsureAsync(default);
        HAProxyBalancer later = Balancer(Pool());
        await later.EnsureAsync(default);
        Assert.Equal(incarnation, (await later.ReadAsync(default)).Incarnation);

        await later.StopAsync(default);
        await later.StopAsync(default);
        Assert.False(Directory.Exists(Path.Combine(_folder, "haproxy")));
        var gone = await Assert.ThrowsAsync<VMatrixException>(() => balancer.ReadAsync(default));
        Assert.Equal("BalancerUnreachable", gone.Id);
        Assert.True(gone.IsTransient);
        int pid = int.Parse(incarnation.Split('@')[0]);
        // Where nobody reaps it, its shell stays.
        string stat = $"/proc/{pid}/stat";
        Assert.True(!File.Exists(stat) || (await File.ReadAllTextAsync(stat)).Contains(") Z ", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Two_that_start_it_at_once_start_one()
    {
        HAProxyBalancer one = Balancer(Pool()), two = Balancer(Pool());
        await Task.WhenAll(one.EnsureAsync(default), two.EnsureAsync(default));
        Assert.Equal((await one.ReadAsync(default)).Incarnation, (await two.ReadAsync(default)).Incarnation);
    }

    [Fact]
    public async Task A_state_folder_too_deep_for_a_sockets_name_keeps_its_socket_all_the_same()
    {
        string deep = Path.Combine(_folder, new string('d', 60), new string('e', 60));
        PoolSpec pool = Pool() with { StateFolder = deep };
        HAProxyBalancer balancer = Balancer(pool);
        await balancer.EnsureAsync(default);
        Assert.StartsWith(deep, balancer.SocketAddress, StringComparison.Ordinal);
        Assert.NotEmpty((await balancer.ReadAsync(default)).Incarnation);

        // A reload hands the sockets over by the same way.
        await Balancer(pool with { Balancer = pool.Balancer with { QueueTimeout = TimeSpan.FromSeconds(9) } }).EnsureAsync(default);
        Assert.NotEmpty((await balancer.ReadAsync(default)).Incarnation);
        await balancer.StopAsync(default);
        Assert.False(Directory.Exists(Path.GetDirectoryName(balancer.SocketAddress)));
    }

    [Fact]
    public async Task A_server_joins_serves_is_counted_drains_and_leaves_and_each_call_may_be_repeated()
    {
        ServiceSpec service = Finance();
        HAProxyBalancer balancer = await StartedAsync(Pool(service));
        WebServer web = Web("one");
        var id = Guid.NewGuid();
        await balancer.JoinAsync(s_call, service, id, web.Address, default);
        await balancer.JoinAsync(s_call, service, id, web.Address, default);
        for (int i = 0; i < 5; i++)
            Assert.Equal("one", await _client.GetStringAsync(Url));

        BalancerReport report = await balancer.ReadAsync(default);
        BalancerMember member = Assert.Single(report.Members);
        Assert.Equal((id, "FINANCE", web.Address, MemberState.Ready, 5L, 0), (member.ServerId, member.Service, member.Address, member.State, member.Requests, member.Open));
        ServiceCounters counters = Assert.Single(report.Services);
        Assert.Equal((5L, 5L, 0L, 0L, 0), (counters.Requests, counters.Served, counters.Refused, counters.Errors, counters.Queue));

        web.Delay = TimeSpan.FromMilliseconds(400);
        Task<string> open = _client.GetStringAsync(Url);
        await UntilAsync(async () => (await balancer.ReadAsync(default)).Members[0].Open == 1);
        await balancer.DrainAsync(s_call, "FINANCE", id, default);
        await balancer.DrainAsync(s_call, "FINANCE", id, default);
        member = Assert.Single((await balancer.ReadAsync(default)).Members);
        Assert.Equal((MemberState.Draining, 1), (member.State, member.Open));
        Assert.Equal("one", await open);
        await UntilAsync(async () => (await balancer.ReadAsync(default)).Members[0].Open == 0);

        await balancer.LeaveAsync(s_call, "FINANCE", id, default);
        await balancer.LeaveAsync(s_call, "FINANCE", id, default);
        await balancer.DrainAsync(s_call, "FINANCE", id, default);
        report = await balancer.ReadAsync(default);
        Assert.Empty(report.Members);
        Assert.Equal(6, report.Services[0].Served);
    }

    [Fact]
    public async Task A_drained_server_that_joins_again_is_ready_and_one_that_moved_is_sent_to_its_new_place()
    {
        ServiceSpec service = Finance();
        HAProxyBalancer balancer = await StartedAsync(Pool(service));
        WebServer before = Web("before"), after = Web("after");
        var id = Guid.NewGuid();
        await balancer.JoinAsync(s_call, service, id, before.Address, default);
        await balancer.DrainAsync(s_call, "FINANCE", id, default);
        await balancer.JoinAsync(s_call, service, id, before.Address, default);
        Assert.Equal("before", await _client.GetStringAsync(Url));

        await balancer.JoinAsync(s_call, service, id, after.Address, default);
        Assert.Equal("after", await _client.GetStringAsync(Url));
        BalancerMember member = Assert.Single((await balancer.ReadAsync(default)).Members);
        Assert.Equal((after.Address, MemberState.Ready), (member.Address, member.State));
    }

    [Fact]
    public async Task A_server_that_leaves_with_a_request_open_is_cut_off()
    {
        ServiceSpec service = Finance();
        HAProxyBalancer balancer = await StartedAsync(Pool(service));
        WebServer web = Web("slow", TimeSpan.FromMinutes(1));
        var id = Guid.NewGuid();
        await balancer.JoinAsync(s_call, service, id, web.Address, default);
        Task<HttpResponseMessage> open = _client.GetAsync(Url);
        await UntilAsync(async () => (await balancer.ReadAsync(default)).Members[0].Open == 1);
        await balancer.LeaveAsync(s_call, "FINANCE", id, default);
        Assert.Empty((await balancer.ReadAsync(default)).Members);
        using HttpResponseMessage answer = await open;
        Assert.False(answer.IsSuccessStatusCode);
    }

    [Fact]
    public async Task Refused_counts_queue_timeouts_exactly_as_HAProxys_own_termination_codes_do()
    {
        ServiceSpec service = Finance() with { Concurrency = 1 };
        PoolSpec pool = Pool(service);
        HAProxyBalancer balancer = await StartedAsync(pool with { Balancer = pool.Balancer with { QueueTimeout = TimeSpan.FromMilliseconds(300) } });

        // No server at all: held as long as one that waits in the queue, then refused.
        using (HttpResponseMessage none = await _client.GetAsync(Url))
            Assert.Equal(HttpStatusCode.ServiceUnavailable, none.StatusCode);

        WebServer web = Web("one", TimeSpan.FromMilliseconds(250));
        await balancer.JoinAsync(s_call, service, Guid.NewGuid(), web.Address, default);
        Task<HttpResponseMessage>[] flood = [.. Enumerable.Range(0, 8).Select(_ => _client.GetAsync(Url))];
        await UntilAsync(async () => (await balancer.ReadAsync(default)).Services[0].Queue >= 5);
        HttpResponseMessage[] answers = await Task.WhenAll(flood);
        int served = answers.Count(answer => answer.IsSuccessStatusCode), turnedAway = answers.Length - served;
        Assert.True(served >= 1 && turnedAway >= 4, $"{served} served, {turnedAway} turned away");

        // A server that dies in the middle of its answer, with nobody else to ask: failed.
        web.HangUp = true;
        using (HttpResponseMessage dead = await _client.GetAsync(Url))
            Assert.False(dead.IsSuccessStatusCode);

        ServiceCounters counters = (await balancer.ReadAsync(default)).Services[0];
        Assert.Equal((10L, (long)served, turnedAway + 1L, 1L, 0), (counters.Requests, counters.Served, counters.Refused, counters.Errors, counters.Queue));
        string ended = await new HAProxySocket(balancer.SocketAddress, TimeProvider.System).AskAsync("show events vmatrix-ended", default);
        string[] codes = [.. ended.Split('\n').Where(line => line.StartsWith("ended ", StringComparison.Ordinal)).Select(line => line.Split(' ')[3])];
        Assert.Equal(turnedAway, codes.Count(code => code == "sQ"));
        Assert.Equal(2, codes.Count(code => code != "sQ"));
    }

    [Fact]
    public async Task Who_gave_up_while_waiting_costs_no_server_its_time()
    {
        ServiceSpec service = Finance() with { Concurrency = 1 };
        HAProxyBalancer balancer = await StartedAsync(Pool(service));
        WebServer web = Web("one", TimeSpan.FromMilliseconds(400));
        await balancer.JoinAsync(s_call, service, Guid.NewGuid(), web.Address, default);
        Task<string> first = _client.GetStringAsync(Url);
        await UntilAsync(async () => (await balancer.ReadAsync(default)).Members[0].Open == 1);

        using (var patience = new CancellationTokenSource())
        {
            Task<string> impatient = _client.GetStringAsync(Url, patience.Token);
            await UntilAsync(async () => (await balancer.ReadAsync(default)).Services[0].Queue == 1);
            await patience.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => impatient);
        }

        Assert.Equal("one", await first);
        Assert.Equal("one", await _client.GetStringAsync(Url));
        BalancerReport report = await balancer.ReadAsync(default);
        Assert.Equal((3L, 2L, 2L), (report.Services[0].Requests, report.Services[0].Served, report.Members[0].Requests));
    }

    [Fact]
    public async Task HAProxy_killed_comes_back_empty_under_another_incarnation_and_is_given_its_servers_again()
    {
        ServiceSpec service = Finance();
        HAProxyBalancer balancer = await StartedAsync(Pool(service));
        WebServer web = Web("one");
        var id = Guid.NewGuid();
        await balancer.JoinAsync(s_call, service, id, web.Address, default);
        BalancerReport before = await balancer.ReadAsync(default);
        Kill(before);
        Assert.Equal("BalancerUnreachable", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.ReadAsync(default))).Id);

        await balancer.EnsureAsync(default);
        BalancerReport after = await balancer.ReadAsync(default);
        Assert.NotEqual(before.Incarnation, after.Incarnation);
        Assert.Empty(after.Members);
        await balancer.JoinAsync(s_call, service, id, web.Address, default);
        Assert.Equal("one", await _client.GetStringAsync(Url));
    }

    [Fact]
    public async Task A_new_service_is_taken_in_without_losing_a_member_or_a_request()
    {
        ServiceSpec service = Finance();
        HAProxyBalancer balancer = await StartedAsync(Pool(service));
        WebServer web = Web("one", TimeSpan.FromMilliseconds(20));
        var id = Guid.NewGuid();
        await balancer.JoinAsync(s_call, service, id, web.Address, default);
        using var stop = new CancellationTokenSource();
        Task<int> load = LoadAsync(stop.Token);

        ServiceSpec sports = Finance() with { Name = "SPORTS", Listen = FreeAddress() };
        HAProxyBalancer later = Balancer(Pool(service, sports));
        await later.EnsureAsync(default);
        BalancerReport report = await later.ReadAsync(default);
        Assert.Equal(["FINANCE", "SPORTS"], report.Services.Select(counters => counters.Service));
        Assert.Equal((id, MemberState.Ready), (Assert.Single(report.Members).ServerId, report.Members[0].State));
        WebServer other = Web("other");
        await later.JoinAsync(s_call, sports, Guid.NewGuid(), other.Address, default);
        Assert.Equal("other", await _client.GetStringAsync(new Uri($"http://{sports.Listen}/")));
        await later.LeaveAsync(s_call, "FINANCE", Guid.NewGuid(), default);

        await stop.CancelAsync();
        Assert.True(await load > 0);
        // A member that came with the file leaves like any other.
        await later.LeaveAsync(s_call, "FINANCE", id, default);
        Assert.DoesNotContain((await later.ReadAsync(default)).Members, member => member.ServerId == id);
    }

    [Fact]
    public async Task A_server_that_was_down_and_one_that_drains_get_no_request_after_a_reload()
    {
        ServiceSpec service = Finance() with { Health = new HealthSpec { Path = "/health", Interval = TimeSpan.FromMinutes(10), Timeout = TimeSpan.FromSeconds(1), Failures = 1 } };
        HAProxyBalancer balancer = await StartedAsync(Pool(service));
        WebServer well = Web("well"), down = Web("down"), drained = Web("drained");
        Guid downId = Guid.NewGuid(), drainedId = Guid.NewGuid();
        await balancer.JoinAsync(s_call, service, Guid.NewGuid(), well.Address, default);
        await balancer.JoinAsync(s_call, service, downId, down.Address, default);
        await balancer.JoinAsync(s_call, service, drainedId, drained.Address, default);
        await balancer.DrainAsync(s_call, "FINANCE", drainedId, default);
        var socket = new HAProxySocket(balancer.SocketAddress, TimeProvider.System);
        await socket.AskAsync($"set server FINANCE/{HAProxyBalancer.ServerName(downId)} health down", default);
        Assert.Equal(MemberState.Down, (await balancer.ReadAsync(default)).Members.Single(member => member.ServerId == downId).State);

        HAProxyBalancer later = Balancer(Pool(service, Finance() with { Name = "SPORTS", Listen = FreeAddress() }));
        await later.EnsureAsync(default);
        BalancerReport report = await later.ReadAsync(default);
        Assert.Equal((MemberState.Down, MemberState.Draining), (report.Members.Single(member => member.ServerId == downId).State, report.Members.Single(member => member.ServerId == drainedId).State));
        for (int i = 0; i < 12; i++)
            Assert.Equal("well", await _client.GetStringAsync(Url));
        Assert.Equal((0, 0), (down.Served, drained.Served));
    }

    [Fact]
    public async Task A_request_that_comes_while_no_server_is_up_waits_and_is_served_by_the_first_that_joins()
    {
        ServiceSpec service = Finance();
        PoolSpec pool = Pool(service);
        HAProxyBalancer balancer = await StartedAsync(pool with { Balancer = pool.Balancer with { QueueTimeout = TimeSpan.FromMinutes(1) } });
        Task<string> get = _client.GetStringAsync(Url);
        Task<HttpResponseMessage> post = _client.PostAsync(Url, new StringContent("x"));
        await UntilAsync(async () => (await balancer.ReadAsync(default)).Services[0] is { Requests: 2, Queue: 2 });
        Assert.Empty((await balancer.ReadAsync(default)).Members);
        WebServer web = Web("one");
        await balancer.JoinAsync(s_call, service, Guid.NewGuid(), web.Address, default);
        Assert.Equal("one", await get);
        using (HttpResponseMessage answer = await post)
            Assert.True(answer.IsSuccessStatusCode);
        ServiceCounters counters = (await balancer.ReadAsync(default)).Services[0];
        Assert.Equal((2L, 2L, 0L, 0L, 0), (counters.Requests, counters.Served, counters.Refused, counters.Errors, counters.Queue));
        Assert.Equal(2, web.Served);
    }

    [Fact]
    public async Task The_look_at_the_epoch_and_the_change_are_one()
    {
        ServiceSpec service = Finance();
        PoolSpec pool = Pool(service);
        HAProxyBalancer balancer = await StartedAsync(pool), second = Balancer(pool);
        WebServer web = Web("one");
        var id = Guid.NewGuid();
        Task stale;
        using (await BalancerTurn.TakeAsync(pool, new DriverCall(Guid.NewGuid(), 6), TimeProvider.System, default))
        {
            // An older decider waits for its turn, which a newer one has.
            stale = second.JoinAsync(new DriverCall(Guid.NewGuid(), 6), service, id, web.Address, default);
            await File.WriteAllTextAsync(Path.Combine(pool.StateFolder, "balancer.epoch"), "7");
        }

        Assert.Equal("StaleEpoch", (await Assert.ThrowsAsync<VMatrixException>(() => stale)).Id);
        Assert.Empty((await balancer.ReadAsync(default)).Members);
    }

    /// <summary>What HAProxy refuses and gives to a server that is added at run time: https://docs.haproxy.org/2.6/management.html#9.3-add%20server. A cookie of its own it takes from 3.0 on: https://github.com/haproxy/haproxy/commit/6333e6ec8.</summary>
    [Theory]
    [InlineData("balance source", "", "", "BackendUnfit", "balance leastconn")]
    [InlineData("balance leastconn", "no-such-keyword 5", "", "BackendUnfit", "no-such-keyword")]
    [InlineData("balance leastconn\n    cookie SID insert", "", "", null, "cookie {server}")]
    [InlineData("balance leastconn", "", "weight 100", null, "weight 100")]
    [InlineData("balance leastconn", "weight 100", "weight 100", null, null)]
    [InlineData("balance leastconn", "", "ssl verify none", null, "ssl verify")]
    [InlineData("balance leastconn", "", "maxconn 30", null, "concurrency: 30")]
    [InlineData("mode tcp\n    balance leastconn", "", "", null, "mode http")]
    [InlineData("balance leastconn", "", "", null, null)]
    public async Task A_joined_backend_is_tried_and_what_its_owner_must_change_is_told(string backend, string keywords, string own, string? refusal, string? told)
    {
        string socket = Path.Combine(_folder, "theirs.sock"), mode = backend.StartsWith("mode", StringComparison.Ordinal) ? "" : "mode http";
        using Process haproxy = await RunAsync($"""
            {Head(socket)}
            backend FINANCE
                {mode}
                {backend}
                server legacy 127.0.0.1:1 {(own.Contains("maxconn", StringComparison.Ordinal) || own.Length == 0 ? "" : "maxconn 5 ")}{own}
            """, new HAProxySocket(socket, TimeProvider.System));
        try
        {
            ServiceSpec service = Finance() with { Listen = null, ServerKeywords = keywords.Length > 0 ? keywords : null, Concurrency = own.Contains("maxconn", StringComparison.Ordinal) || own.Length == 0 ? null : 5 };
            HAProxyBalancer balancer = Balancer(Joined(Pool(service), socket));
            IReadOnlyList<BalancerFinding> found = await balancer.ExamineAsync(trial: true, default);
            if (refusal is null)
                await balancer.EnsureAsync(default);
            else
                Assert.Equal(refusal, (await Assert.ThrowsAsync<VMatrixException>(() => balancer.EnsureAsync(default))).Id);
            Assert.Equal(refusal is null, await balancer.FindRefusalAsync(service, default) is null);
            if (told is null)
                Assert.Empty(found);
            else
                Assert.Contains(told, Assert.Single(found).Text, StringComparison.Ordinal);
            Assert.All(found, finding => Assert.Equal(refusal is not null, finding.IsRefusal));
            Assert.DoesNotContain("vmatrix-trial", await new HAProxySocket(socket, TimeProvider.System).AskAsync("show stat", default), StringComparison.Ordinal);

            // What is refused is refused again: nobody boots a machine once more for it.
            if (refusal is not null)
            {
                var refused = await Assert.ThrowsAsync<VMatrixException>(() => balancer.JoinAsync(s_call, service, Guid.NewGuid(), "127.0.0.1:2", default));
                Assert.Equal(("BalancerRefused", false), (refused.Id, refused.IsTransient));
            }
        }
        finally
        {
            haproxy.Kill();
            await haproxy.WaitForExitAsync();
        }
    }

    /// <summary>The begin of a configuration of somebody else's HAProxy, as far as into its defaults.</summary>
    private static string Head(string socket) => $"""
        global
            stats socket {socket} level admin
        defaults
            timeout connect 1s
            timeout client 5s
            timeout server 5s
        """;

    [Fact]
    public async Task A_backend_that_takes_no_servers_or_is_missing_is_its_own_service_s_trouble()
    {
        string socket = Path.Combine(_folder, "theirs.sock");
        using Process haproxy = await RunAsync($"""
            {Head(socket)}
                mode http
            backend FINANCE
                balance leastconn
            backend SPORTS
                balance source
            """, new HAProxySocket(socket, TimeProvider.System));
        try
        {
            ServiceSpec finance = Finance() with { Listen = null }, sports = finance with { Name = "SPORTS" }, news = finance with { Name = "NEWS" };
            HAProxyBalancer balancer = Balancer(Joined(Pool(finance, sports, news), socket));
            await balancer.EnsureAsync(default);
            var id = Guid.NewGuid();
            await balancer.JoinAsync(s_call, finance, id, "127.0.0.1:2", default);
            Assert.Equal(id, Assert.Single((await balancer.ReadAsync(default)).Members).ServerId);
            Assert.Null(await balancer.FindRefusalAsync(finance, default));
            Assert.Contains("SPORTS", await balancer.FindRefusalAsync(sports, default), StringComparison.Ordinal);
            Assert.Equal("BackendMissing", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.FindRefusalAsync(news, default))).Id);

            // Told without another trial, of its service.
            HAProxyBalancer two = Balancer(Joined(Pool(finance, sports), socket));
            await two.EnsureAsync(default);
            BalancerFinding told = Assert.Single(await two.ExamineAsync(trial: false, default), finding => finding.IsRefusal);
            Assert.Equal("SPORTS", told.Service);

            // One that takes none at all is everybody's.
            Assert.Equal("BackendUnfit", (await Assert.ThrowsAsync<VMatrixException>(() => Balancer(Joined(Pool(sports), socket)).EnsureAsync(default))).Id);
            Assert.Equal("BackendMissing", (await Assert.ThrowsAsync<VMatrixException>(() => Balancer(Joined(Pool(news), socket)).EnsureAsync(default))).Id);
        }
        finally
        {
            haproxy.Kill();
            await haproxy.WaitForExitAsync();
        }
    }

    [Fact]
    public async Task Servers_that_come_and_go_cost_no_request()
    {
        ServiceSpec service = Finance() with { Concurrency = 1 };
        HAProxyBalancer balancer = await StartedAsync(Pool(service));
        WebServer stays = Web("stays", TimeSpan.FromMilliseconds(10)), comes = Web("comes", TimeSpan.FromMilliseconds(10));
        var id = Guid.NewGuid();
        await balancer.JoinAsync(s_call, service, Guid.NewGuid(), stays.Address, default);
        using var stop = new CancellationTokenSource();
        Task<int>[] load = [.. Enumerable.Range(0, 4).Select(_ => LoadAsync(stop.Token))];
        for (int i = 0; i < 10; i++)
        {
            int before = comes.Served;
            await balancer.JoinAsync(s_call, service, id, comes.Address, default);
            await UntilAsync(() => Task.FromResult(comes.Served > before + 3));
            await balancer.DrainAsync(s_call, "FINANCE", id, default);
            await UntilAsync(async () => (await balancer.ReadAsync(default)).Members.Single(member => member.ServerId == id).Open == 0);
            await balancer.LeaveAsync(s_call, "FINANCE", id, default);
        }

        await stop.CancelAsync();
        int total = (await Task.WhenAll(load)).Sum();
        ServiceCounters counters = (await balancer.ReadAsync(default)).Services[0];
        Assert.Equal((total, 0L, 0L), (counters.Served, counters.Refused, counters.Errors));
        Assert.True(comes.Served >= 40);
    }

    [Fact]
    public async Task A_request_whose_server_dies_before_it_answers_goes_to_another()
    {
        ServiceSpec service = Finance();
        HAProxyBalancer balancer = await StartedAsync(Pool(service));
        WebServer dies = Web("dies"), lives = Web("lives");
        dies.HangUp = true;
        await balancer.JoinAsync(s_call, service, Guid.NewGuid(), dies.Address, default);
        await balancer.JoinAsync(s_call, service, Guid.NewGuid(), lives.Address, default);
        for (int i = 0; i < 6; i++)
            Assert.Equal("lives", await _client.GetStringAsync(Url));
        // What may not be repeated is not.
        HttpStatusCode[] posts = new HttpStatusCode[6];
        for (int i = 0; i < posts.Length; i++)
        {
            using HttpResponseMessage answer = await _client.PostAsync(Url, new StringContent("x"));
            posts[i] = answer.StatusCode;
        }

        Assert.Contains(HttpStatusCode.BadGateway, posts);
    }

    [Fact]
    public async Task A_server_whose_check_fails_is_told_as_down()
    {
        ServiceSpec service = Finance() with { Health = new HealthSpec { Path = "/health", Interval = TimeSpan.FromMilliseconds(50), Timeout = TimeSpan.FromSeconds(1), Failures = 2 } };
        HAProxyBalancer balancer = await StartedAsync(Pool(service));
        WebServer web = Web("one");
        await balancer.JoinAsync(s_call, service, Guid.NewGuid(), web.Address, default);
        web.Status = 500;
        await UntilAsync(async () => (await balancer.ReadAsync(default)).Members[0].State == MemberState.Down);
        web.Status = 200;
        await UntilAsync(async () => (await balancer.ReadAsync(default)).Members[0].State == MemberState.Ready);
    }

    [Fact]
    public async Task A_call_of_an_older_decider_is_refused_and_one_by_hand_is_not()
    {
        ServiceSpec service = Finance();
        HAProxyBalancer balancer = await StartedAsync(Pool(service));
        WebServer web = Web("one");
        var id = Guid.NewGuid();
        await balancer.JoinAsync(new DriverCall(Guid.NewGuid(), 7), service, id, web.Address, default);
        var stale = await Assert.ThrowsAsync<VMatrixException>(() => Balancer(Pool(service)).LeaveAsync(new DriverCall(Guid.NewGuid(), 6), "FINANCE", id, default));
        Assert.Equal("StaleEpoch", stale.Id);
        Assert.Single((await balancer.ReadAsync(default)).Members);
        await balancer.LeaveAsync(s_call, "FINANCE", id, default);
        Assert.Empty((await balancer.ReadAsync(default)).Members);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_running_one_is_joined_and_members_of_others_are_left_alone(bool overTcp)
    {
        WebServer theirs = Web("theirs"), ours = Web("ours");
        string socket = overTcp ? FreeAddress() : Path.Combine(_folder, "theirs.sock");
        using Process haproxy = await RunAsync($"""
            {Head(socket)}
                mode http
                timeout queue 300ms
                balance roundrobin
            frontend in
                bind {_listen}
                default_backend FINANCE
            backend FINANCE
                option httpchk GET /health
                server legacy {theirs.Address}
            """, new HAProxySocket(socket, TimeProvider.System));
        try
        {
            ServiceSpec service = Finance() with { Listen = null, Concurrency = 1 };
            PoolSpec pool = Joined(Pool(service), socket);
            HAProxyBalancer balancer = Balancer(pool);
            await balancer.EnsureAsync(default);
            var id = Guid.NewGuid();
            await balancer.JoinAsync(s_call, service, id, ours.Address, default);
            string[] answers = [await _client.GetStringAsync(Url), await _client.GetStringAsync(Url)];
            Assert.Equal(["ours", "theirs"], answers.Order());
            BalancerReport report = await balancer.ReadAsync(default);
            Assert.Equal(theirs.Address, Assert.Single(report.Members, member => member.ServerId == Guid.Empty).Address);
            Assert.Equal(ours.Address, Assert.Single(report.Members, member => member.ServerId == id).Address);
            Assert.Equal((2L, 2L, 0L, 0L), (report.Services[0].Requests, report.Services[0].Served, report.Services[0].Refused, report.Services[0].Errors));

            // Only ours takes traffic now, and it is too slow for two at once: the second waits too long in the queue.
            await new HAProxySocket(socket, TimeProvider.System).AskAsync("set server FINANCE/legacy state maint", default);
            ours.Delay = TimeSpan.FromMilliseconds(700);
            HttpResponseMessage[] two = await Task.WhenAll(_client.GetAsync(Url), _client.GetAsync(Url));
            Assert.Single(two, answer => answer.IsSuccessStatusCode);
            ServiceCounters counters = (await balancer.ReadAsync(default)).Services[0];
            Assert.Equal((4L, 3L, 1L, 0L), (counters.Requests, counters.Served, counters.Refused, counters.Errors));

            await balancer.LeaveAsync(s_call, "FINANCE", id, default);
            Assert.Equal(Guid.Empty, Assert.Single((await balancer.ReadAsync(default)).Members).ServerId);
            await balancer.StopAsync(default);
            Assert.False(haproxy.HasExited);

            ServiceSpec unknown = service with { Name = "SPORTS" };
            var missing = await Assert.ThrowsAsync<VMatrixException>(() => Balancer(Joined(Pool(service, unknown), socket)).FindRefusalAsync(unknown, default));
            Assert.Equal("BackendMissing", missing.Id);
            Assert.Contains("SPORTS", missing.Message, StringComparison.Ordinal);
            missing = await Assert.ThrowsAsync<VMatrixException>(() => balancer.JoinAsync(s_call, unknown, id, ours.Address, default));
            Assert.Equal("BackendMissing", missing.Id);
        }
        finally
        {
            haproxy.Kill();
            await haproxy.WaitForExitAsync();
        }
    }

    [Fact]
    public async Task A_socket_that_may_only_be_read_is_told()
    {
        string socket = Path.Combine(_folder, "theirs.sock");
        using Process haproxy = await RunAsync($"""
            global
                stats socket {socket} level operator
            backend FINANCE
                mode http
                timeout connect 1s
                timeout server 1s
            """, new HAProxySocket(socket, TimeProvider.System));
        try
        {
            HAProxyBalancer balancer = Balancer(Joined(Pool(), socket));
            Assert.Equal("BalancerDenied", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.EnsureAsync(default))).Id);
            Assert.Equal("BalancerDenied", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.JoinAsync(s_call, Finance(), Guid.NewGuid(), "127.0.0.1:1", default))).Id);
        }
        finally
        {
            haproxy.Kill();
            await haproxy.WaitForExitAsync();
        }
    }

    [Fact]
    public async Task An_older_version_is_refused_by_its_number()
    {
        string socket = Path.Combine(_folder, "old.sock");
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(socket));
        listener.Listen();
        Task answering = Task.Run(async () =>
        {
            using Socket client = await listener.AcceptAsync();
            await client.ReceiveAsync(new byte[1000]);
            await client.SendAsync("Name: HAProxy\nVersion: 2.2.9-2+deb11u6\n\n# pxname,svname,type\nFINANCE,BACKEND,1\n\nadmin\n\n"u8.ToArray());
        });
        var old = await Assert.ThrowsAsync<VMatrixException>(() => Balancer(Joined(Pool(), socket)).EnsureAsync(default));
        await answering;
        Assert.Equal("BalancerTooOld", old.Id);
        Assert.Contains("2.2.9", old.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Errors_name_the_port_the_socket_and_the_mend()
    {
        using var taken = new TcpListener(IPEndPoint.Parse(_listen));
        taken.Start();
        var port = await Assert.ThrowsAsync<VMatrixException>(() => Balancer(Pool()).EnsureAsync(default));
        Assert.Equal("BalancerPortTaken", port.Id);
        Assert.Contains(_listen, port.Message, StringComparison.Ordinal);
        Assert.Contains("FINANCE", port.Message, StringComparison.Ordinal);

        var nobody = await Assert.ThrowsAsync<VMatrixException>(() => Balancer(Joined(Pool(), FreeAddress())).EnsureAsync(default));
        Assert.Equal("BalancerUnreachable", nobody.Id);
        Assert.Contains("refused", nobody.Message, StringComparison.Ordinal);
        var nowhere = await Assert.ThrowsAsync<VMatrixException>(() => Balancer(Joined(Pool(), Path.Combine(_folder, "nothing.sock"))).EnsureAsync(default));
        Assert.Equal("BalancerUnreachable", nowhere.Id);
        Assert.Contains("does not exist", nowhere.Message, StringComparison.Ordinal);
        var nonsense = await Assert.ThrowsAsync<VMatrixException>(() => Balancer(Joined(Pool(), "somewhere")).EnsureAsync(default));
        Assert.Equal("BalancerSocketInvalid", nonsense.Id);

        var process = new HAProxyProcess(Pool(), TimeProvider.System) { Program = "haproxy-that-is-not-installed" };
        var missing = await Assert.ThrowsAsync<VMatrixException>(() => process.EnsureAsync(new HAProxySocket(process.SocketPath, TimeProvider.System), default));
        Assert.Equal("BalancerMissing", missing.Id);
        Assert.Contains("apt-get install", missing.Message, StringComparison.Ordinal);

        Assert.Equal("ServiceListenMissing", (await Assert.ThrowsAsync<VMatrixException>(() => Balancer(Pool(Finance() with { Listen = null })).EnsureAsync(default))).Id);
        Assert.Equal("ServiceNameInvalid", (await Assert.ThrowsAsync<VMatrixException>(() => Balancer(Pool(Finance() with { Name = "A\n B" })).EnsureAsync(default))).Id);
    }

    private Uri Url => new($"http://{_listen}/");

    private static string FreeAddress()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return listener.LocalEndpoint.ToString()!;
    }

    private ServiceSpec Finance() => new() { Name = "FINANCE", Image = new ImageSpec(), Listen = _listen, Health = new HealthSpec { Path = "/health" } };

    private PoolSpec Pool(params ServiceSpec[] services) => new()
    {
        Name = "it's a \"pool\"",
        Path = Path.Combine(_folder, "pool.yaml"),
        StateFolder = _folder,
        Hypervisor = "qemu",
        Hosts = [],
        Services = services.Length == 0 ? [Finance()] : services,
        Nest = new NestSpec { Folder = _folder },
        Balancer = new BalancerSpec { Kind = "haproxy" },
    };

    private static PoolSpec Joined(PoolSpec pool, string socket) => pool with { Balancer = pool.Balancer with { Own = false, Socket = socket } };

    private HAProxyBalancer Balancer(PoolSpec pool)
    {
        var balancer = new HAProxyBalancer(pool, TimeProvider.System);
        _balancers.Add(balancer);
        return balancer;
    }

    private async Task<HAProxyBalancer> StartedAsync(PoolSpec pool)
    {
        HAProxyBalancer balancer = Balancer(pool);
        await balancer.EnsureAsync(default);
        return balancer;
    }

    private WebServer Web(string name, TimeSpan delay = default)
    {
        var server = new WebServer(name) { Delay = delay };
        _servers.Add(server);
        return server;
    }

    private async Task<int> LoadAsync(CancellationToken stop)
    {
        int served = 0;
        while (!stop.IsCancellationRequested)
        {
            using HttpResponseMessage answer = await _client.GetAsync(Url, CancellationToken.None);
            Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
            served++;
        }

        return served;
    }

    private async Task<Process> RunAsync(string config, HAProxySocket socket)
    {
        string path = Path.Combine(_folder, "theirs.cfg");
        await File.WriteAllTextAsync(path, config + "\n");
        Process process = Process.Start(new ProcessStartInfo("haproxy", ["-db", "-q", "-f", path]))!;
        await UntilAsync(async () =>
        {
            try
            {
                return (await socket.AskAsync("show info", default)).Length > 0;
            }
            catch (VMatrixException)
            {
                return false;
            }
        });
        return process;
    }

    private static void Kill(BalancerReport report)
    {
        using var process = Process.GetProcessById(int.Parse(report.Incarnation.Split('@')[0]));
        process.Kill();
        process.WaitForExit();
    }

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        long begun = Stopwatch.GetTimestamp();
        while (!await condition())
        {
            Assert.True(Stopwatch.GetElapsedTime(begun) < TimeSpan.FromSeconds(20), "Waited 20 s in vain.");
            await Task.Delay(5);
        }
    }
}
