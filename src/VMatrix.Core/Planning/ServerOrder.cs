using System;
using System.Collections.Generic;

namespace VMatrix.Planning;

/// <summary>
/// The order in which servers are looked at: by what they are and where, never by how somebody happened to list them, and by their ids
/// only where nothing else tells them apart. The search for places takes what comes first; in another order it could find what it missed,
/// and the pool would move again under a load that stayed.
/// </summary>
internal static class ServerOrder
{
    /// <summary>The order of a list of servers, as indexes into it.</summary>
    /// <param name="pool">The pool, which orders services and hosts.</param>
    /// <param name="servers">The servers.</param>
    public static int[] Of(PoolSpec pool, IReadOnlyList<ServerState> servers)
    {
        var services = new Dictionary<string, int>(StringComparer.Ordinal);
        for (int s = 0; s < pool.Services.Count; s++)
            services[pool.Services[s].Name] = s + 1;
        var hosts = new Dictionary<string, int>(StringComparer.Ordinal);
        for (int h = 0; h < pool.Hosts.Count; h++)
            hosts[pool.Hosts[h].Name] = h + 1;
        var keys = new long[servers.Count];
        int[] order = new int[servers.Count];
        bool sorted = true;
        string? last = null;
        int service = 0;
        for (int i = 0; i < keys.Length; i++)
        {
            var server = servers[i];
            if (last != server.Mark.Service)
            {
                last = server.Mark.Service;
                service = services.TryGetValue(last, out int s) ? s : 0;
            }

            int host = server.Host is not null && hosts.TryGetValue(server.Host, out int h) ? h : 0;
            keys[i] = ((long)service << 40) + ((long)host << 8) + ((long)server.Mark.Stage << 4) + (server.Claimed ? 1 : 0);
            order[i] = i;
            sorted &= i == 0 || keys[i - 1] <= keys[i];
        }

        if (!sorted)
            Array.Sort(keys, order);
        for (int from = 0; from < keys.Length;)
        {
            int to = from + 1;
            while (to < keys.Length && keys[to] == keys[from])
                to++;
            if (to - from > 1)
                Array.Sort(order, from, to - from, new Alike(servers));
            from = to;
        }

        return order;
    }

    /// <summary>The servers in an order.</summary>
    public static ServerState[] Put(IReadOnlyList<ServerState> servers, int[] order)
    {
        var put = new ServerState[order.Length];
        for (int k = 0; k < put.Length; k++)
            put[k] = servers[order[k]];
        return put;
    }

    /// <summary>Tells servers of one service on one host, or asleep, apart.</summary>
    private sealed class Alike(IReadOnlyList<ServerState> servers) : IComparer<int>
    {
        public int Compare(int a, int b)
        {
            var (x, y) = (servers[a], servers[b]);
            int by = x.Mark.ChangedAt.CompareTo(y.Mark.ChangedAt);
            by = by != 0 ? by : x.MemoryBytes.CompareTo(y.MemoryBytes);
            by = by != 0 ? by : x.Cores.CompareTo(y.Cores);
            by = by != 0 ? by : Nullable.Compare(x.MemoryUsedBytes, y.MemoryUsedBytes);
            by = by != 0 ? by : string.CompareOrdinal(x.Mark.Image, y.Mark.Image);
            by = by != 0 ? by : x.Power.CompareTo(y.Power);
            by = by != 0 ? by : x.Health.CompareTo(y.Health);
            by = by != 0 ? by : Nullable.Compare(x.Mark.HeldUntil, y.Mark.HeldUntil);
            return by != 0 ? by : x.Mark.ServerId.CompareTo(y.Mark.ServerId);
        }
    }
}
