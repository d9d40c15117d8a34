using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Oracle.Screens;

/// <summary>A pool at one moment, as the screens show it.</summary>
internal sealed record PoolView(DateTimeOffset At, PoolSpec Spec, IReadOnlyList<HostInfo> Hosts, IReadOnlyList<ServiceInfo> Services, IReadOnlyList<ServerInfo> Servers)
{
    /// <summary>What the session's own switching saw last. Only where it has seen nothing for twice its interval the pool is asked once more: asking every host costs the hosts.</summary>
    /// <param name="session">The pool.</param>
    /// <param name="shown">What is shown already; null for nothing.</param>
    /// <param name="cancellation">Ends the call.</param>
    public static async Task<PoolView> ReadAsync(PoolSession session, PoolView? shown, CancellationToken cancellation)
    {
        if (session.LastLook is { } last && !ReferenceEquals(last, shown?.Known))
            return Of(session, last);
        return shown is not null && Stopwatch.GetElapsedTime(shown.Read) < 2 * session.Spec.Oracle.Interval ? shown : Of(session, await session.LookAsync(cancellation));
    }

    /// <summary>What the switching had seen last when this was read: told from what it sees later without a clock, which may be set back.</summary>
    private PoolLook? Known { get; init; }

    /// <summary>When it was read, by the steady clock.</summary>
    private long Read { get; } = Stopwatch.GetTimestamp();

    private static PoolView Of(PoolSession session, PoolLook look) => new(look.At, session.Spec, look.Hosts, look.Services, look.Servers) { Known = session.LastLook };

    /// <summary>The servers on a host, by name.</summary>
    public IEnumerable<ServerInfo> On(string host) => Servers.Where(server => server.Host == host).OrderBy(server => server.Name, StringComparer.Ordinal);
}
