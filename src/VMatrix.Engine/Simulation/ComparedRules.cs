using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Simulation;

/// <summary>The rules that switching is compared with, and the two ends of the scale: the best fixed split in hindsight and the cheapest schedule that knows the future.</summary>
internal sealed class ComparedRules
{
    /// <summary>Splits times rows that are looked at for the bound; a pool with more is not measured on that scale.</summary>
    private const long MostWork = 400_000_000;

    private const long MostSplits = 200_000;

    private const double TargetUse = 0.7;
    private static readonly TimeSpan s_calm = TimeSpan.FromMinutes(5);

    private readonly PoolSpec _pool;
    private readonly DemandTrace _trace;
    private readonly double[] _capacity;
    private readonly double[] _share;
    private readonly int[] _most;
    private readonly double _room;

    public ComparedRules(PoolSpec pool, DemandTrace trace, IReadOnlyList<double> capacity)
    {
        (_pool, _trace, _capacity) = (pool, trace, [.. capacity]);
        HostSpec[] hosts = [.. pool.Hosts.Where(h => h.Role is HostRole.Matrix)];
        _share = [.. pool.Services.Select(s => Share(s, hosts))];
        _room = hosts.Length;
        _most = [.. pool.Services.Select((s, i) => (int)Math.Min(s.Most, Math.Floor((_room / _share[i]) + 1e-9)))];
    }

    /// <summary>The cheapest fixed split of the pool in hindsight: filled server by server where the next one saves most for its room, which is best as its use falls with each server more.</summary>
    public int[] BestSplit()
    {
        int[] split = [.. _pool.Services.Select((s, i) => Math.Min(s.Least, _most[i]))];
        double room = _room - split.Select((n, i) => n * _share[i]).Sum();
        while (true)
        {
            int best = -1;
            double most = 0;
            for (int s = 0; s < split.Length; s++)
            {
                if (split[s] >= _most[s] || _share[s] > room + 1e-9)
                    continue;
                double gain = (Held(s, split[s]) - Held(s, split[s] + 1)) / _share[s];
                if (gain > most)
                    (most, best) = (gain, s);
            }

            if (best < 0)
                return split;
            split[best]++;
            room -= _share[best];
        }
    }

    /// <summary>Cost of a fixed split over the whole history.</summary>
    public double CostOf(int[] split) => split.Select((n, s) => Held(s, n)).Sum();

    /// <summary>
    /// Cost of a history that really was, row by row: unserved work by priority, servers held, and activations.
    /// </summary>
    public double CostOf(IReadOnlyList<SimulatedService> services)
    {
        double cost = 0;
        for (int s = 0; s < services.Count; s++)
        {
            cost += _pool.Services[s].Priority * services[s].Unserved / (_capacity[s] * 60) + _pool.Oracle.ActivationCost * services[s].Wakes;
            for (int t = 0; t < _trace.Rows; t++)
                cost += Minutes(t) * _pool.Oracle.ServerCost * services[s].Minutes[t].Servers;
        }

        return cost;
    }

    /// <summary>An autoscaler's usual rule: 70 % use by the last minute's demand, down only to the highest need of the last five minutes, shares cut by priority when the pool is short.</summary>
    /// <param name="recent">Requests per second by service in the last minutes, newest last.</param>
    /// <param name="at">When each of them ended.</param>
    /// <param name="now">The moment of the decision.</param>
    public int[] Threshold(IReadOnlyList<double[]> recent, IReadOnlyList<DateTimeOffset> at, DateTimeOffset now)
    {
        int[] want = [.. _pool.Services.Select((s, i) => Math.Min(s.Least, _most[i]))];
        for (int k = 0; k < recent.Count; k++)
        {
            if (now - at[k] >= s_calm)
                continue;
            for (int s = 0; s < want.Length; s++)
                want[s] = Math.Max(want[s], Math.Min(_most[s], (int)Math.Ceiling(recent[k][s] / (TargetUse * _capacity[s]))));
        }

        double over = want.Select((n, s) => n * _share[s]).Sum() - _room;
        foreach (int s in Enumerable.Range(0, want.Length).OrderBy(s => _pool.Services[s].Priority))
        {
            if (over <= 1e-9)
                break;
            int cut = Math.Min(Math.Max(0, want[s] - _pool.Services[s].Least), (int)Math.Ceiling((over / _share[s]) - 1e-9));
            want[s] -= cut;
            over -= cut * _share[s];
        }

        return want;
    }

    /// <summary>
    /// The cheapest schedule that knows the future and activates at once: dynamic programming over all splits of the pool. Losing a server
    /// is free and gaining one costs the same each, so that each row is two sweeps. NaN when there are too many splits.
    /// </summary>
    public double Bound()
    {
        int count = _share.Length;
        long size = 1;
        var strides = new int[count];
        for (int s = count - 1; s >= 0; s--)
        {
            if (size * (_most[s] + 1L) > Math.Min(MostSplits, MostWork / _trace.Rows))
                return double.NaN;
            strides[s] = (int)size;
            size *= _most[s] + 1;
        }

        var digits = new int[size][];
        var members = new List<int>();
        for (int x = 0; x < size; x++)
        {
            digits[x] = [.. Enumerable.Range(0, count).Select(s => x / strides[s] % (_most[s] + 1))];
            if (digits[x].Select((n, s) => n * _share[s]).Sum() <= _room + 1e-9 && digits[x].Select((n, s) => n >= Math.Min(_pool.Services[s].Least, _most[s])).All(held => held))
                members.Add(x);
        }

        var best = new double[size];
        for (int x = 0; x < best.Length; x++)
            best[x] = double.PositiveInfinity;
        foreach (int x in members)
            best[x] = 0;
        var step = _most.Select(most => new double[most + 1]).ToArray();
        for (int t = 0; t < _trace.Rows; t++)
        {
            if (t > 0)
            {
                for (int s = 0; s < count; s++)
                {
                    for (int i = members.Count - 1; i >= 0; i--)
                    {
                        int x = members[i];
                        if (digits[x][s] < _most[s])
                            best[x] = Math.Min(best[x], best[x + strides[s]]);
                    }
                }

                for (int s = 0; s < count; s++)
                {
                    foreach (int x in members)
                    {
                        if (digits[x][s] > 0)
                            best[x] = Math.Min(best[x], best[x - strides[s]] + _pool.Oracle.ActivationCost);
                    }
                }
            }

            for (int s = 0; s < count; s++)
            {
                for (int n = 0; n <= _most[s]; n++)
                    step[s][n] = Minutes(t) * Rate(s, n, t);
            }

            foreach (int x in members)
            {
                double cost = 0;
                for (int s = 0; s < count; s++)
                    cost += step[s][digits[x][s]];
                best[x] += cost;
            }
        }

        return members.Count == 0 ? double.NaN : members.Min(x => best[x]);
    }

    private double Held(int service, int servers)
    {
        double cost = 0;
        for (int t = 0; t < _trace.Rows; t++)
            cost += Minutes(t) * Rate(service, servers, t);
        return cost;
    }

    private double Rate(int service, int servers, int row) =>
        (_pool.Services[service].Priority * Math.Max(0, _trace.Rate(service, row) - (servers * _capacity[service])) / _capacity[service]) + (_pool.Oracle.ServerCost * servers);

    private double Minutes(int row) => (_trace.Start(row + 1) - _trace.Start(row)).TotalMinutes;

    /// <summary>The part of a host that one server takes, on average over the hosts.</summary>
    private static double Share(ServiceSpec service, HostSpec[] hosts)
    {
        if (service.Isolation is Isolation.Dedicated || hosts.Length == 0)
            return 1;
        double servers = hosts.Sum(host => (double)Math.Min(host.MostServers ?? int.MaxValue, Math.Min(host.MemoryBytes / Math.Max(1, service.Image.MemoryBytes), host.Cores is { } cores ? cores / Math.Max(1, service.Image.Cores) : long.MaxValue)));
        return servers < 1 ? 1 : hosts.Length / servers;
    }
}
