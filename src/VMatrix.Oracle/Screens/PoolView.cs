using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Oracle.Screens;

/// <summary>A pool at one moment, as the screens show it.</summary>
internal sealed record PoolView(DateTimeOffset At, PoolSpec Spec, IReadOnlyList<HostInfo> Hosts, IReadOnlyList<ServiceInfo> Services, IReadOnlyList<ServerInfo> Servers)
{
    private static readonly TimeSpan s_fresh = TimeSpan.FromSeconds(2);

    /// <summary>What the session's own switching has just seen, or else a look at the pool.</summary>
    public static async Task<PoolView> ReadAsync(PoolSession session, CancellationToken cancellation)
    {
        PoolLook look = session.LastLook is { } last && DateTimeOffset.UtcNow - last.At < s_fresh ? last : await session.LookAsync(cancellation);
        return new PoolView(look.At, session.Spec, look.Hosts, look.Services, look.Servers);
    }

    /// <summary>The servers on a host, by name.</summary>
    public IEnumerable<ServerInfo> On(string host) => Servers.Where(server => server.Host == host).OrderBy(server => server.Name, StringComparer.Ordinal);
}
