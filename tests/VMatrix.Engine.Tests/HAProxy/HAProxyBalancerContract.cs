using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.HAProxy;

namespace VMatrix.Tests.HAProxy;

public sealed class HAProxyBalancerContract : BalancerContract
{
    protected override Task<BalancerWorld> OpenWorldAsync() => Task.FromResult<BalancerWorld>(new World());

    private sealed class World : BalancerWorld
    {
        private readonly TemporaryFolder _folder = new();
        private readonly Dictionary<Guid, WebServer> _servers = [];
        private readonly HttpClient _client = new(new SocketsHttpHandler { UseProxy = false }) { DefaultRequestHeaders = { ConnectionClose = true } };

        public World() => Pool = TestPool.Simulated(_folder.Path) with
        {
            Services = [.. TestPool.Simulated(_folder.Path).Services.Select(service => service with { Listen = FreeAddress(), Health = new HealthSpec { Path = "/health", Interval = TimeSpan.FromMilliseconds(100), Timeout = TimeSpan.FromMilliseconds(500), Failures = 2 } })],
            Balancer = new BalancerSpec { Kind = "haproxy" },
        };

        public override PoolSpec Pool { get; }

        public override TimeProvider Clock => TimeProvider.System;

        public override IBalancer OpenBalancer() => new HAProxyBalancer(Pool, TimeProvider.System);

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
            _folder.Dispose();
        }

        private static string FreeAddress()
        {
            using var listener = new TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            return listener.LocalEndpoint.ToString()!;
        }
    }
}
