using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Pools;

/// <summary>Whether the matrix hosts can hold the least servers of every service at once.</summary>
internal static class PoolRoom
{
    /// <summary>Steps of the search for a place for each; a pool too large for it is told by the Oracle instead.</summary>
    private const int MostSteps = 20_000_000;

    /// <summary>A service and the hosts that can carry it.</summary>
    internal sealed class Demand
    {
        private readonly int _forbidden, _unlicensed, _small, _narrow;
        private readonly long _largest;

        public Demand(ServiceSpec service, HostSpec[] hosts, IReadOnlyList<LicenceSpec> licences)
        {
            Service = service;
            var terms = service.Licence is null ? null : licences.FirstOrDefault(l => l.Name == service.Licence);
            var seats = terms?.Seats ?? 0;
            var instances = terms?.InstancesPerHost ?? int.MaxValue;
            var allowed = new HashSet<string>(service.AllowedHosts);
            var forbidden = new HashSet<string>(service.ForbiddenHosts);
            for (var i = 0; i < hosts.Length; i++)
            {
                var host = hosts[i];
                if ((allowed.Count > 0 && !allowed.Contains(host.Name)) || forbidden.Contains(host.Name))
                {
                    _forbidden++;
                }
                else if (service.Licence is not null && seats == 0 && !host.Licences.Contains(service.Licence))
                {
                    _unlicensed++;
                }
                else if (host.MemoryBytes < service.Image.MemoryBytes)
                {
                    _small++;
                    _largest = Math.Max(_largest, host.MemoryBytes);
                }
                else if (Cores(host) < service.Image.Cores)
                {
                    _narrow++;
                }
                else
                {
                    Hosts.Add(i);
                    Slots += service.Isolation == Isolation.Dedicated ? 1
                        : new[] { host.MemoryBytes / service.Image.MemoryBytes, Cores(host) / service.Image.Cores, host.MostServers ?? int.MaxValue, instances }.Min();
                }
            }
        }

        public ServiceSpec Service { get; }

        /// <summary>Indices of the hosts.</summary>
        public List<int> Hosts { get; } = [];

        /// <summary>Servers of this service that those hosts hold when nothing else runs.</summary>
        public long Slots { get; }

        /// <summary>How many hosts each rule excluded, in words.</summary>
        public string Why() => string.Join(", ", Reasons());

        /// <summary>The same, to be put behind a count of servers; empty when no host is excluded.</summary>
        public string And() => $"{(Service.Isolation == Isolation.Dedicated ? " (isolation: dedicated is one live server a host)" : "")}{(Reasons().Any() ? $", and of the others {Why()}" : "")}";

        private IEnumerable<string> Reasons()
        {
            if (_forbidden > 0)
                yield return $"{Count(_forbidden, "is", "are")} not allowed by its hosts lists";
            if (_unlicensed > 0)
                yield return $"{Count(_unlicensed, "lacks", "lack")} the licence {Service.Licence}";
            if (_small > 0)
                yield return $"{Count(_small, "has", "have")} less memory than its {Size.Text(Service.Image.MemoryBytes)} (the largest has {Size.Text(_largest)})";
            if (_narrow > 0)
                yield return $"{Count(_narrow, "has", "have")} fewer cores than its {Service.Image.Cores}";
        }

        private static string Count(int hosts, string one, string many) => $"{hosts} {(hosts == 1 ? one : many)}";
    }

    private static int Cores(HostSpec host) => host.Cores ?? int.MaxValue;

    /// <summary>A sentence that says why the least servers of all services cannot run at once, or null when no reason is found.</summary>
    public static string? Shortage(IReadOnlyList<Demand> demands, HostSpec[] hosts)
    {
        var dedicated = demands.Where(d => d.Service.Isolation == Isolation.Dedicated && d.Service.Least > 0).ToArray();
        var taken = dedicated.Sum(d => (long)d.Service.Least);
        if (taken > hosts.Length)
            return $"The services need {taken} matrix hosts for their least servers ({Terms(dedicated)}), one each because of isolation: dedicated, but the pool has {hosts.Length}; make a least smaller, add hosts, or let services share hosts with isolation: shared.";
        if (Crowd(dedicated, hosts.Length) is { } crowd)
            return crowd;

        var shared = demands.Where(d => d.Service.Isolation == Isolation.Shared && d.Service.Least > 0).ToArray();
        var left = hosts.Length - (int)taken;

        string? Short(string what, Func<ServiceSpec, long> need, Func<HostSpec, long> hold, Func<long, string> text)
        {
            var needed = shared.Sum(d => (decimal)d.Service.Least * need(d.Service));
            var held = hosts.Select(hold).OrderByDescending(v => v).Take(left).Sum(v => (decimal)v);
            return needed <= held ? null
                : $"The least servers of the shared services ({Terms(shared)}) need {text((long)needed)}{what}, but what dedicated services leave to them ({left} of {hosts.Length} matrix hosts) holds {text((long)held)}; make a least smaller, or add to the hosts.";
        }

        return Short(" of memory", s => s.Image.MemoryBytes, h => h.MemoryBytes, Size.Text)
            ?? Short(" cores", s => s.Image.Cores, h => Cores(h), v => $"{v}")
            ?? Short(" places", _ => 1, h => h.MostServers ?? int.MaxValue, v => $"{v}");
    }

    /// <summary>Looks for dedicated services that crowd on too few hosts: a bipartite matching by augmenting paths; where one cannot be found the services reached are too many for the hosts reached (Hall 1935).</summary>
    private static string? Crowd(Demand[] demands, int hosts)
    {
        var holder = new int[hosts];
        for (var h = 0; h < hosts; h++)
            holder[h] = -1;
        var next = new int[demands.Length];
        var steps = 0;
        for (var d = 0; d < demands.Length; d++)
        {
            for (var n = 0; n < demands[d].Service.Least; n++)
            {
                // The usual case first: a free host of its own.
                var own = demands[d].Hosts;
                while (next[d] < own.Count && holder[own[next[d]]] >= 0)
                    next[d]++;
                if (next[d] < own.Count)
                {
                    holder[own[next[d]]] = d;
                    continue;
                }

                // Else a chain of services, each of which leaves a host to the one before and takes another.
                var from = new Dictionary<int, int>();
                var via = new Dictionary<int, int> { [d] = -1 };
                var queue = new Queue<int>();
                queue.Enqueue(d);
                var free = -1;
                while (free < 0 && queue.Count > 0)
                {
                    var service = queue.Dequeue();
                    foreach (var host in demands[service].Hosts)
                    {
                        if (++steps > MostSteps)
                            return null;
                        if (holder[host] == service || from.ContainsKey(host))
                            continue;
                        from.Add(host, service);
                        if (holder[host] < 0)
                        {
                            free = host;
                            break;
                        }

                        if (via.TryGetValue(holder[host], out _))
                            continue;
                        via.Add(holder[host], host);
                        queue.Enqueue(holder[host]);
                    }
                }

                if (free < 0)
                {
                    var crowd = via.Keys.OrderBy(i => i).Select(i => demands[i]).ToArray();
                    var room = crowd.SelectMany(c => c.Hosts).Distinct().Count();
                    return $"{string.Join(" and ", crowd.Select(c => $"'{c.Service.Name}'"))} need {crowd.Sum(c => c.Service.Least)} matrix hosts for their least servers ({Terms(crowd)}), one each because of isolation: dedicated, but only {room} can carry any of them; make a least smaller, or allow them more hosts.";
                }

                for (var host = free; host >= 0; host = via[holder[host]])
                    holder[host] = from[host];
            }
        }

        return null;
    }

    private static string Terms(Demand[] demands) =>
        string.Join(" + ", demands.Take(6).Select(d => $"{d.Service.Name} {d.Service.Least}")) + (demands.Length > 6 ? " + ..." : "");
}
