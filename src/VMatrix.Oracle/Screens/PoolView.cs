using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Oracle.Screens;

/// <summary>A pool at one moment, as the screens show it.</summary>
internal sealed record PoolView(DateTimeOffset At, PoolSpec Spec, IReadOnlyList<HostInfo> Hosts, IReadOnlyList<ServiceInfo> Services, IReadOnlyList<ServerInfo> Servers)
{
    /// <summary>Asks the pool.</summary>
    public static async Task<PoolView> ReadAsync(PoolSession session, CancellationToken cancellation)
    {
        IReadOnlyList<HostInfo> hosts = await session.GetHostsAsync(cancellation);
        IReadOnlyList<ServiceInfo> services = await session.GetServicesAsync(cancellation);
        IReadOnlyList<ServerInfo> servers = await session.GetServersAsync(health: false, found: null, cancellation);
        return new PoolView(DateTimeOffset.Now, session.Spec, hosts, services, servers);
    }

    /// <summary>The servers on a host, by name.</summary>
    public IEnumerable<ServerInfo> On(string host) => Servers.Where(server => server.Host == host).OrderBy(server => server.Name, StringComparer.Ordinal);
}
