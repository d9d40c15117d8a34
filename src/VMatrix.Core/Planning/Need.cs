using System;
using System.Collections.Generic;

namespace VMatrix.Planning;

/// <summary>What one service needs and why.</summary>
internal sealed record ServiceNeed
{
    /// <summary>Why the sample may not be acted on; null when it is good.</summary>
    public string? Bad { get; init; }

    /// <summary>Demand expected, waiting requests counted; NaN when the sample is bad.</summary>
    public Demand Demand { get; init; }

    /// <summary>Requests per second that one server carries; NaN when not known yet.</summary>
    public double Capacity { get; init; } = double.NaN;

    /// <summary>Servers whose worth is above what they cost.</summary>
    public int Servers { get; init; }

    /// <summary>Most needed within the calm window.</summary>
    public int Calm { get; init; }

    /// <summary>Worth of the n-th server.</summary>
    public required Func<int, double> Worth { get; init; }

    /// <summary>The numbers behind it.</summary>
    public required string Reason { get; init; }
}

/// <summary>
/// Need as a decision under uncertainty (the newsvendor's: Arrow, Harris, Marschak 1951): the n-th server is worth the work that
/// would go unserved without it, by its service's priority, and is needed while that is above what holding a server costs.
/// </summary>
internal static class Need
{
    public static ServiceNeed Of(ServiceSpec service, PoolSpec pool, IReadOnlyList<ServiceLoad>? samples, int has, ServiceMemory memory, DateTimeOffset now)
    {
        var oracle = pool.Oracle;
        var last = samples is { Count: > 0 } ? samples[samples.Count - 1] : null;
        string? bad = last is null ? "there is no load sample yet"
            : last.Bad ?? (now - last.At > oracle.StaleAfter ? $"the last load sample is {Words.Seconds(now - last.At)} old, more than {Words.Seconds(oracle.StaleAfter)}"
            : double.IsNaN(last.RequestRate) || last.RequestRate < 0 || last.Queue < 0 ? "the load sample is negative or not a number"
            : last.RequestRate > oracle.MostRate ? Words.Text($"{last.RequestRate:0} requests/s are more than the {oracle.MostRate:0} that the pool can get at all")
            : null);
        if (bad is not null)
        {
            return new ServiceNeed
            {
                Bad = bad,
                Demand = new Demand(double.NaN, double.NaN),
                Capacity = service.Capacity ?? memory.Saturated ?? double.NaN,
                Servers = has,
                Calm = has,
                Worth = _ => 0,
                Reason = $"frozen at {Words.Servers(has)}: {bad}",
            };
        }

        double spacing = Math.Max(0.05, samples!.Count > 1 ? (last!.At - samples[samples.Count - 2].At).TotalSeconds : oracle.Interval.TotalSeconds);
        double patience = Math.Max(1, pool.Balancer.QueueTimeout.TotalSeconds);
        var level = Forecaster.Level(samples, spacing, patience);
        Learn(last!, has, memory);
        double? capacity = service.Capacity ?? memory.Saturated;
        // What waits must be served before it gives up, beside what arrives.
        var demand = level with { Mean = level.Mean + last!.Queue / patience };
        Func<int, double> worth;
        string numbers = Words.Text($"{last.RequestRate:0.##} requests/s now, {level.Mean:0.##} ± {level.Deviation:0.##} expected, {last.Queue} waiting to be served within {patience:0.#} s");
        if (capacity is double c && c > 0)
        {
            double use = c * oracle.TargetUse;
            worth = n => service.Priority * (demand.Above((n - 1) * use) - demand.Above(n * use)) / use;
            numbers += Words.Text($"; a server carries {c:0.##}{(service.Capacity is null ? " (learned)" : "")}");
            if (oracle.TargetUse < 1)
                numbers += Words.Text($", planned to {oracle.TargetUse:P0}");
        }
        else
        {
            // Nothing is known of a server's limit yet. While requests wait, one more at a time; with nothing waiting, give up
            // only what was seen to be carried by fewer.
            int wanted = last.Queue > 0 ? has + 1 : memory.Carried > 0 ? Math.Min(has, (int)Math.Ceiling((level.Mean + level.Deviation) / memory.Carried)) : has;
            worth = n => n <= wanted ? service.Priority : 0;
            numbers += "; what a server carries is not known until one is saturated";
        }

        int servers = Count(worth, service, oracle);
        int calm = Remember(memory, now, servers, oracle.Calm);
        return new ServiceNeed { Demand = demand, Capacity = capacity ?? double.NaN, Servers = servers, Calm = calm, Worth = worth, Reason = numbers };
    }

    private static int Count(Func<int, double> worth, ServiceSpec service, OracleSpec oracle)
    {
        // Doubling, then halving: worth does not rise with n, and demand may be any size.
        int high = 1;
        while (high < service.Most && high < 1 << 20 && worth(high) > oracle.ServerCost)
            high *= 2;
        int low = 0;
        high = Math.Min(high, service.Most);
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            if (worth(middle) > oracle.ServerCost)
                low = middle;
            else
                high = middle - 1;
        }

        return Math.Max(low, service.Least);
    }

    private static int Remember(ServiceMemory memory, DateTimeOffset now, int servers, TimeSpan calm)
    {
        memory.Needs.RemoveAll(n => n.At <= now - calm || n.Servers <= servers);
        memory.Needs.Add(new PastNeed { At = now, Servers = servers });
        return memory.Needs[0].Servers;
    }

    /// <summary>A server's limit shows when requests wait before and after the sample while the number of servers stayed.</summary>
    private static void Learn(ServiceLoad sample, int has, ServiceMemory memory)
    {
        if (has > 0 && has == memory.Had && sample.ServedRate > 0)
        {
            double each = sample.ServedRate / has;
            if (sample.Queue > 0 && memory.Queued > 0)
                memory.Saturated = memory.Saturated is double known ? known + 0.3 * (each - known) : each;
            else if (sample.Queue == 0)
                memory.Carried = Math.Max(memory.Carried, each);
        }

        memory.Had = has;
        memory.Queued = sample.Queue;
    }
}
