using System;
using System.Collections.Generic;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;

namespace VMatrix.Tests.HAProxy;

/// <summary>Web servers of this process behind a real HAProxy, however the pool reaches it.</summary>
internal abstract class WebWorld : BalancerWorld
{
    private readonly Dictionary<Guid, WebServer> _servers = [];
    private readonly HttpClient _client = new(new SocketsHttpHandler { UseProxy = false }) { DefaultRequestHeaders = { ConnectionClose = true } };

    protected TemporaryFolder Folder { get; } = new();

    public override TimeProvider Clock => TimeProvider.System;

    public override Task<string> ServeAsync(ServiceSpec service, Guid server)
    {
        var web = new WebServer(server.ToString());
        lock (_servers)
            _servers[server] = web;
        return Task.FromResult(web.Address);
    }

    public override async Task BreakAsync(Guid server) => await _servers[server].DisposeAsync();

    public override async Task AskAsync(ServiceSpec service, int requests)
    {
        for (var i = 0; i < requests; i++)
            _ = await _client.GetStringAsync($"http://{service.Listen}/");
    }

    public override async Task KillAsync()
    {
        // Its incarnation begins with its process id.
        var report = await OpenBalancer().ReadAsync(default);
        using var process = System.Diagnostics.Process.GetProcessById(int.Parse(report.Incarnation.Split('@')[0]));
        process.Kill();
        await process.WaitForExitAsync();
    }

    public override async ValueTask DisposeAsync()
    {
        await OpenBalancer().StopAsync(default);
        foreach (var server in _servers.Values)
        {
            try
            {
                await server.DisposeAsync();
            }
            catch (ObjectDisposedException)
            {
                // Broken by the test.
            }
        }

        _client.Dispose();
        Folder.Dispose();
    }

    protected static string FreeAddress()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return listener.LocalEndpoint.ToString()!;
    }

    /// <summary>A pool in a folder whose services listen at the addresses.</summary>
    public static PoolSpec PoolOf(string folder, params string[] listens)
    {
        var pool = TestPool.Simulated(folder);
        return pool with
        {
            Services = [.. pool.Services.Select((service, i) => service with { Listen = listens[i], Health = new HealthSpec { Path = "/health", Interval = TimeSpan.FromMilliseconds(100), Timeout = TimeSpan.FromMilliseconds(500), Failures = 2 } })],
        };
    }
}
