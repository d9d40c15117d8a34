using System;
using System.Collections.Generic;
using System.Collections.ObjectModel;

namespace VMatrix.Planning;

/// <summary>
/// Servers in the order in which they are looked at, service by service: by what they are and where, never by how somebody happened to list
/// them, and by their ids only where nothing else tells them apart. The search for places takes what comes first; in another order it could
/// find what it missed, and the pool would move again under a load that stayed.
/// </summary>
internal sealed class ServerOrder : ReadOnlyCollection<ServerState>
{
    // The service's place in the pool file, then the host's, both from 1 and 0 for none, then what tells most servers apart.
    private const int ServiceBits = 40;
    private const int HostBits = 8;

    private readonly ServerState[] _servers;
    private readonly long[] _keys;

    private ServerOrder(ServerState[] servers, long[] keys, int[] from, Dictionary<string, int> services, Dictionary<string, int> hosts)
        : base(servers)
    {
        _servers = servers;
        _keys = keys;
        From = from;
        Services = services;
        Hosts = hosts;
    }

    /// <summary>A server by its place in this order.</summary>
    public new ServerState this[int server] => _servers[server];

    /// <summary>The pool's services by name.</summary>
    public Dictionary<string, int> Services { get; }

    /// <summary>The pool's hosts by name.</summary>
    public Dictionary<string, int> Hosts { get; }

    /// <summary>By place in this order, the place in the list that was put in order.</summary>
    public int[] From { get; }

    /// <summary>The place of a server's service in the pool, or <see cref="PlacementState.Nowhere"/>.</summary>
    public int ServiceOf(int server) => (int)(_keys[server] >> ServiceBits) - 1;

    /// <summary>The place in the pool of the host that a server is on, or <see cref="PlacementState.Nowhere"/>.</summary>
    public int HostOf(int server) => (int)(_keys[server] >> HostBits) - 1;

    /// <summary>The first server of a service, and the one after its last.</summary>
    public (int From, int To) ServersOf(int service) => (FirstWith(Key(service)), FirstWith(Key(service + 1)));

    private int FirstWith(long key)
    {
        int low = 0, high = _keys.Length;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (_keys[middle] < key)
                low = middle + 1;
            else
                high = middle;
        }

        return low;
    }

    private static long Key(int service) => (long)(service + 1) << ServiceBits;

    private static long Key(int service, int host, ServerState server) =>
        Key(service) + ((long)(host + 1) << HostBits) + ((long)server.Mark.Stage << 4) + (server.Claimed ? 1 : 0);

    /// <summary>Puts servers in order.</summary>
    /// <param name="pool">The pool, which orders services and hosts.</param>
    /// <param name="servers">The servers.</param>
    public static ServerOrder Of(PoolSpec pool, IReadOnlyList<ServerState> servers)
    {
        var (services, hosts) = (Index(pool.Services, s => s.Name), Index(pool.Hosts, h => h.Name));
        var keys = new long[servers.Count];
        int[] order = new int[servers.Count];
        bool sorted = true;
        string? last = null;
        int service = PlacementState.Nowhere;
        for (int i = 0; i < keys.Length; i++)
        {
            var server = servers[i];
            if (last != server.Mark.Service)
            {
                last = server.Mark.Service;
                service = services.TryGetValue(last, out int s) ? s : PlacementState.Nowhere;
            }

            keys[i] = Key(service, server.Host is not null && hosts.TryGetValue(server.Host, out int h) ? h : PlacementState.Nowhere, server);
            order[i] = i;
            sorted &= i == 0 || keys[i - 1] <= keys[i];
        }

        if (!sorted)
            Array.Sort(keys, order);
        var alike = Comparer<int>.Create((a, b) => Compare(servers[a], servers[b]));
        for (int from = 0; from < keys.Length;)
        {
            int to = from + 1;
            while (to < keys.Length && keys[to] == keys[from])
                to++;
            if (to - from > 1)
                Array.Sort(order, from, to - from, alike);
            from = to;
        }

        var put = new ServerState[order.Length];
        for (int k = 0; k < put.Length; k++)
            put[k] = servers[order[k]];
        return new ServerOrder(put, keys, order, services, hosts);
    }

    private static Dictionary<string, int> Index<T>(IReadOnlyList<T> all, Func<T, string> name)
    {
        var index = new Dictionary<string, int>(all.Count, StringComparer.Ordinal);
        for (int i = 0; i < all.Count; i++)
            index[name(all[i])] = i;
        return index;
    }

    /// <summary>The order when some servers have changed and others have come: what stayed keeps its place among what stayed.</summary>
    /// <param name="changes">Servers as they are now, their service and host, and the place that they had; new ones have the places after all others.</param>
    public ServerOrder With(List<(ServerState Server, int Service, int Host, int Place)> changes)
    {
        var changed = new bool[Count];
        int count = Count;
        var coming = new List<(long Key, ServerState Server, int Place)>(changes.Count);
        foreach (var (server, service, host, place) in changes)
        {
            coming.Add((Key(service, host, server), server, place));
            if (place < Count)
                changed[place] = true;
            else
                count++;
        }

        coming.Sort((a, b) => a.Key != b.Key ? a.Key.CompareTo(b.Key) : Compare(a.Server, b.Server));
        var (servers, keys, from) = (new ServerState[count], new long[count], new int[count]);
        int to = 0, next = 0;
        for (int i = 0; i <= Count; i++)
        {
            if (i < Count && changed[i])
                continue;
            for (; next < coming.Count && (i == Count || coming[next].Key < _keys[i] || (coming[next].Key == _keys[i] && Compare(coming[next].Server, _servers[i]) < 0)); next++)
                (keys[to], servers[to], from[to++]) = coming[next];
            if (i < Count)
                (keys[to], servers[to], from[to++]) = (_keys[i], _servers[i], i);
        }

        return new ServerOrder(servers, keys, from, Services, Hosts);
    }

    /// <summary>Tells servers of one service on one host, or asleep, apart.</summary>
    private static int Compare(ServerState x, ServerState y)
    {
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
