using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using VMatrix.Oracle.Demo;
using VMatrix.Tests.HAProxy;
using Xunit;

namespace VMatrix.Oracle.Tests;

public sealed class LoadGeneratorTests : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-load-").FullName;
    private readonly string _listen = FreeAddress();
    private HAProxyBalancer _balancer = null!;
    private ServiceSpec _service = null!;

    public async Task InitializeAsync()
    {
        _service = new ServiceSpec { Name = "FINANCE", Image = new ImageSpec(), Listen = _listen, Concurrency = 1, Health = new HealthSpec { Path = "/health" } };
        _balancer = new HAProxyBalancer(new PoolSpec
        {
            Name = "load",
            Path = Path.Combine(_folder, "pool.yaml"),
            StateFolder = _folder,
            Hypervisor = "qemu",
            Hosts = [],
            Services = [_service],
            Nest = new NestSpec { Folder = _folder },
            Balancer = new BalancerSpec { Kind = "haproxy", QueueTimeout = TimeSpan.FromMilliseconds(300) },
        }, TimeProvider.System);
        await _balancer.EnsureAsync(default);
    }

    public async Task DisposeAsync()
    {
        await _balancer.StopAsync(default);
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task Each_request_is_told_as_HAProxy_ended_it()
    {
        await using var web = new WebServer("one") { Delay = TimeSpan.FromMilliseconds(100) };
        var id = Guid.NewGuid();
        await _balancer.JoinAsync(default, _service, id, web.Address, default);
        using LoadGenerator load = Generator();

        // Twenty at once for a server that carries ten a second, where nobody waits longer than 0.3 s.
        IReadOnlyList<RequestResult> flood = await load.RunAsync("flood", Due(20), null, default);
        Assert.Equal(20, flood.Count);
        RequestResult[] served = [.. flood.Where(result => result.Outcome == Outcome.Served)];
        Assert.InRange(served.Length, 1, 10);
        Assert.All(served, result => Assert.Equal(HAProxyBalancer.ServerName(id), result.Server));
        Assert.Equal(20 - served.Length, flood.Count(result => result.Outcome == Outcome.Refused && result.Problem == "sQ"));
        BalancerReport report = await _balancer.ReadAsync(default);
        Assert.Equal((served.Length, 20 - served.Length), ((int)report.Services[0].Served, (int)report.Services[0].Refused));

        // Nobody there is no overload.
        await _balancer.LeaveAsync(default, "FINANCE", id, default);
        IReadOnlyList<RequestResult> nobody = await load.RunAsync("nobody", Due(3), null, default);
        Assert.All(nobody, result => Assert.Equal((Outcome.Failed, "status 503, HAProxy's termination code SC"), (result.Outcome, result.Problem)));

        await _balancer.StopAsync(default);
        RequestResult gone = Assert.Single(await load.RunAsync("gone", Due(1), null, default));
        Assert.Equal(Outcome.Failed, gone.Outcome);
    }

    [Fact]
    public async Task Time_runs_from_when_a_request_was_due_and_results_are_told_as_they_come()
    {
        await using var web = new WebServer("one") { Delay = TimeSpan.FromMilliseconds(100) };
        await _balancer.JoinAsync(default, _service, Guid.NewGuid(), web.Address, default);
        using LoadGenerator load = Generator();
        var told = new List<RequestResult>();
        IReadOnlyList<RequestResult> two = await load.RunAsync("two", Due(2), result =>
        {
            lock (told)
                told.Add(result);
        }, default);
        Assert.Equal(2, told.Count);
        // One server, one at a time: the second waited for the first.
        TimeSpan[] took = [.. two.Select(result => result.Took).Order()];
        Assert.True(took[0] >= TimeSpan.FromMilliseconds(90) && took[1] >= TimeSpan.FromMilliseconds(190), string.Join(", ", took));

        using var stop = new CancellationTokenSource(TimeSpan.FromMilliseconds(50));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => load.RunAsync("stopped", [new Arrival(TimeSpan.FromMinutes(5), "FINANCE")], null, stop.Token));
    }

    [Fact]
    public void A_summary_counts_each_request_once_and_has_the_agreed_shape()
    {
        DateTimeOffset at = DateTimeOffset.UnixEpoch;
        RequestResult[] results =
        [
            .. Enumerable.Range(1, 100).Select(n => new RequestResult("FINANCE", at, TimeSpan.FromMilliseconds(n * 10), Outcome.Served, "s", null)),
            new("FINANCE", at, TimeSpan.FromSeconds(5), Outcome.Refused, null, "sQ"),
            new("FINANCE", at, TimeSpan.FromSeconds(5), Outcome.Failed, null, "status 502"),
            new("SPORTS", at, TimeSpan.FromSeconds(5), Outcome.Served, "t", null),
        ];
        ServiceSummary finance = ServiceSummary.Of("FINANCE", results, [new ServerCount(0, 3)]);
        Assert.Equal((102, 100, 1, 1, 0.5, 0.99), (finance.Requests, finance.Served, finance.Refused, finance.Failed, finance.P50Seconds, finance.P99Seconds));
        Assert.Equal(0, ServiceSummary.Of("NONE", results, []).P99Seconds);

        string json = new DemoSummary([new RunSummary("static", [finance], 0, 0)], [0.25], [2.5]).ToJson();
        using var document = JsonDocument.Parse(json);
        Assert.Equal(["runs", "wakeSeconds", "coldBootSeconds"], Names(document.RootElement));
        JsonElement run = document.RootElement.GetProperty("runs")[0];
        Assert.Equal(["name", "services", "switches", "drops"], Names(run));
        Assert.Equal(["name", "requests", "served", "refused", "failed", "p50Seconds", "p99Seconds", "servers"], Names(run.GetProperty("services")[0]));
        Assert.Equal(["second", "count"], Names(run.GetProperty("services")[0].GetProperty("servers")[0]));
    }

    private static string[] Names(JsonElement element) => [.. element.EnumerateObject().Select(property => property.Name)];

    private static Arrival[] Due(int count) => [.. Enumerable.Repeat(new Arrival(TimeSpan.Zero, "FINANCE"), count)];

    private LoadGenerator Generator() =>
        new(new Dictionary<string, Uri> { ["FINANCE"] = new($"http://{_listen}/") }, new HAProxySocket(_balancer.SocketAddress, TimeProvider.System), TimeProvider.System);

    private static string FreeAddress()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return listener.LocalEndpoint.ToString()!;
    }
}
