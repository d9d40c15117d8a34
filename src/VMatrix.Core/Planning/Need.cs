using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Planning;

/// <summary>What one service needs and why.</summary>
internal sealed record ServiceNeed
{
    /// <summary>Why the sample may not be acted on; null when it is good.</summary>
    public string? Bad { get; init; }

    /// <summary>Requests per second expected in the coming minutes; NaN when the sample is bad.</summary>
    public double Forecast { get; init; } = double.NaN;

    /// <summary>Requests per second that one server carries; NaN when not known yet.</summary>
    public double Capacity { get; init; } = double.NaN;

    /// <summary>Servers that are worth having.</summary>
    public int Servers { get; init; }

    /// <summary>Most needed within the calm window.</summary>
    public int Calm { get; init; }

    /// <summary>Worth of the n-th server beyond what it costs, for a service that holds so many: first n, then the servers held.</summary>
    public required Func<int, int, double> Worth { get; init; }

    /// <summary>True while a request that came when no server was up has not been answered: one server is wanted, however little that is worth.</summary>
    public bool Owed { get; init; }

    /// <summary>The numbers behind it.</summary>
    public required string Reason { get; init; }

    /// <summary>Share of the n-th server that is used in the next step, and after it; null when a server's limit is not known.</summary>
    public Func<int, (double Now, double Soon)>? Use { get; init; }

    /// <summary>Demand in servers, in the next step and after it.</summary>
    public (double Now, double Soon) Demand { get; init; }

    /// <summary>Minutes of the next step.</summary>
    public double StepMinutes { get; init; }
}

/// <summary>Turns a service's samples into what its servers are worth.</summary>
internal static class Need
{
    private static readonly ForecastSettings s_settings = new();

    /// <summary>No pool has more servers of one service: what is asked for beyond is not weighed.</summary>
    private const int MostServers = 1 << 20;

    /// <summary>The grain of the forecast: a minute, or less where demand repeats itself sooner than after a day.</summary>
    public static TimeSpan Grain(OracleSpec oracle)
    {
        long ticks = Math.Min(TimeSpan.TicksPerMinute, oracle.Season.Ticks / 24);
        return TimeSpan.FromTicks(Math.Max(TimeSpan.TicksPerSecond, ticks));
    }

    public static ServiceNeed Of(
        ServiceSpec service, PoolSpec pool, IReadOnlyList<ServiceLoad>? samples, int has, TimeSpan? wakeTime, ServiceMemory memory, DateTimeOffset now, TimeSpan hostLead = default, long wakeBytes = 0)
    {
        var oracle = pool.Oracle;
        var last = samples is { Count: > 0 } ? samples[samples.Count - 1] : null;
        string? bad = last is null ? "there is no load sample yet"
            : last.Bad ?? (now - last.At > oracle.StaleAfter ? $"the last load sample is {Words.Seconds(now - last.At)} old, more than {Words.Seconds(oracle.StaleAfter)}"
            : last.At - now > oracle.StaleAfter ? $"the last load sample is stamped {Words.Seconds(last.At - now)} ahead of the clock, which was set back"
            : double.IsNaN(last.RequestRate) || last.RequestRate < 0 || last.Queue < 0 ? "the load sample is negative or not a number"
            : last.RequestRate > oracle.MostRate ? Words.Text($"{last.RequestRate:0} requests/s are more than the {oracle.MostRate:0} that the pool can get at all")
            : null);
        if (bad is not null)
        {
            return Frozen(service.Capacity ?? memory.Saturated ?? double.NaN, has, bad);
        }

        double spacing = Math.Max(0.05, samples!.Count > 1 ? (last!.At - samples[samples.Count - 2].At).TotalSeconds : oracle.Interval.TotalSeconds);
        double patience = Math.Max(1, pool.Balancer.QueueTimeout.TotalSeconds);
        if (samples.Any(s => s.At > now))
            samples = [.. samples.Where(s => s.At <= now)];
        var level = Level.Of(samples, spacing, patience);
        Learn(last!, has, memory);
        bool owed = Owes(samples, has, memory);
        // What waits must be served before it gives up, beside what arrives. Where more comes than the servers carry, a queue is what
        // follows from that and tells nothing more: only what waits beyond it counts.
        double waits = last!.Queue;
        if ((service.Capacity ?? memory.Saturated) is double carries)
            waits = Math.Max(0, waits - Level.Longest * Math.Max(0, level.Mean - has * carries));
        var demand = level with { Mean = level.Mean + waits / patience };
        string numbers = Words.Text($"{last.RequestRate:0.##} requests/s now, {level.Mean:0.##} ± {level.Deviation:0.##} in the last seconds, {last.Queue} waiting to be served within {patience:0.#} s");
        if (owed)
            numbers += "; somebody asked while no server was up, so one is wanted until a server has answered a request";
        if ((service.Capacity ?? memory.Saturated) is not double capacity || capacity <= 0)
        {
            // Nothing is known of a server's limit yet. While requests wait, one more at a time; with nothing waiting, give up
            // only what was seen to be carried by fewer.
            int wanted = last.Queue > 0 ? has + 1 : memory.Carried > 0 ? Math.Min(has, (int)Math.Ceiling((level.Mean + level.Deviation) / memory.Carried)) : has;
            return Result((n, _) => n <= wanted ? service.Priority : 0, level.Mean, double.NaN, numbers + "; what a server carries is not known until one is saturated");
        }

        var grain = Grain(oracle);
        double unit = capacity * oracle.TargetUse;
        var forecaster = Feed(memory, samples, spacing, unit, oracle, grain, (wakeTime ?? grain) + hostLead, now);
        // The shares used of each server: near, from the last seconds; far, from the minutes, as far as there were enough of them.
        double believe = forecaster is null ? 0 : forecaster.Seen / (forecaster.Seen + s_settings.Prior);
        double[] far = new double[(int)Math.Min(Math.Min(service.Most, MostServers), 32 + 4 * Math.Max(has, demand.Mean / unit)) + 1];
        forecaster?.Expect(far: true, level.Mean / unit, far);
        double expected = 0;
        for (int n = 1; n < far.Length; n++)
        {
            far[n] = believe * far[n] + (1 - believe) * Near(n);
            expected += far[n];
        }

        var economy = new Economy(oracle, grain.TotalMinutes, (wakeTime ?? TimeSpan.Zero).TotalMinutes, wakeBytes);
        numbers += Words.Text($"; {expected * unit:0.##} expected; a server carries {capacity:0.##}{(service.Capacity is null ? " (learned)" : "")}");
        if (oracle.TargetUse < 1)
            numbers += Words.Text($", planned to {oracle.TargetUse:P0}");
        var need = Result(
            (n, held) => n >= far.Length ? -1 : n <= held ? economy.Held(service.Priority, Near(n), far[n]) : economy.Activated(service.Priority, Near(n), far[n]),
            expected * unit, capacity, numbers);
        int servers = need.Servers;
        return need with
        {
            Use = n => (Near(n), n < far.Length ? far[n] : 0),
            Demand = (demand.Mean / unit, expected),
            StepMinutes = grain.TotalMinutes,
            Reason = need.Reason + Words.Text($"; server {servers} would be used {Use(servers):P0}{(Ahead(servers) ? Words.Text($" by the forecast, {Near(servers):P0} by what comes now") : "")}, one more {Use(servers + 1):P0}, which pays above {oracle.ServerCost / service.Priority:P0} to hold"),
        };

        double Near(int n) => (demand.Above((n - 1) * unit) - demand.Above(n * unit)) / unit;

        // Had for what is expected, and not for what comes now.
        bool Ahead(int n) => n > service.Least && n < far.Length && service.Priority * Near(n) <= oracle.ServerCost && far[n] > Near(n);

        double Use(int n) => n < 1 ? 1 : n < far.Length ? Math.Max(Near(n), far[n]) : 0;

        ServiceNeed Result(Func<int, int, double> worth, double forecast, double carries, string reason)
        {
            int servers = Math.Max(Count(n => worth(n, has), service), owed ? Math.Min(1, service.Most) : 0);
            return new ServiceNeed { Owed = owed, Forecast = forecast, Capacity = carries, Servers = servers, Calm = Remember(memory, now, servers, oracle.Calm), Worth = worth, Reason = reason };
        }
    }

    /// <summary>What a service needs whose load is not known: what it has.</summary>
    /// <param name="capacity">Requests per second that one server carries; NaN when not known.</param>
    /// <param name="has">Servers that it has.</param>
    /// <param name="bad">Why its load is not known.</param>
    public static ServiceNeed Frozen(double capacity, int has, string bad) => new()
    {
        Bad = bad,
        Capacity = capacity,
        Servers = has,
        Calm = has,
        Worth = (_, _) => 0,
        Reason = $"frozen at {Words.Servers(has)}: {bad}",
    };

    /// <summary>Gives the forecast each whole minute of good samples.</summary>
    private static Forecaster? Feed(ServiceMemory memory, IReadOnlyList<ServiceLoad> samples, double spacing, double unit, OracleSpec oracle, TimeSpan grain, TimeSpan wake, DateTimeOffset now)
    {
        var settings = s_settings with { Day = Math.Round((double)oracle.Season.Ticks / grain.Ticks) };
        var forecaster = memory.Forecast?.Open(settings);
        bool own = false;
        if (forecaster is not null && forecaster.Minute - (now.UtcTicks / grain.Ticks) > settings.Day)
        {
            // The clock was set back by more than a season: it is learned anew. After less it goes on when the clock has caught up.
            forecaster = null;
            (memory.Forecast, memory.Minute, memory.MinuteRequests, memory.MinuteSeconds) = (null, 0, 0, 0);
        }

        for (int i = 0; i < samples.Count; i++)
        {
            var sample = samples[i];
            if (sample.At <= memory.FedUntil)
                continue;
            memory.FedUntil = sample.At;
            long minute = sample.At.UtcTicks / grain.Ticks;
            if (minute != memory.Minute)
            {
                // A minute of which less than half was measured is not known.
                if (memory.MinuteSeconds >= grain.TotalSeconds / 2 && (forecaster is null || memory.Minute > forecaster.Minute))
                {
                    double rate = memory.MinuteRequests / memory.MinuteSeconds;
                    if (!own || forecaster is null)
                        forecaster = forecaster?.Copy() ?? new Forecaster(settings, 1 + (int)Math.Ceiling((double)wake.Ticks / grain.Ticks));
                    own = true;
                    if (memory.Unit > 0 && Math.Abs(memory.Unit / unit - 1) > 0.01)
                        forecaster.Rescale(memory.Unit / unit);
                    memory.Unit = unit;
                    forecaster.Observe(memory.Minute, rate / unit);
                    memory.Forecast = new ForecastState(forecaster);
                }

                (memory.Minute, memory.MinuteRequests, memory.MinuteSeconds) = (minute, 0, 0);
            }

            double span = i > 0 ? Math.Min(spacing * 3, (sample.At - samples[i - 1].At).TotalSeconds) : spacing;
            if (sample.Bad is not null || span <= 0)
                continue;
            memory.MinuteRequests += sample.RequestRate * span;
            memory.MinuteSeconds += span;
        }

        return forecaster;
    }

    /// <summary>
    /// Whether somebody is to be answered yet who asked while no server was up. What one rare request is worth pays for no server, so that a
    /// service which sleeps whole would never answer it; and a server that was woken for it and sleeps again before the user has come back neither.
    /// </summary>
    private static bool Owes(IReadOnlyList<ServiceLoad> samples, int has, ServiceMemory memory)
    {
        foreach (var sample in samples)
        {
            if (sample.At <= memory.OwedUntil || sample.Bad is not null)
                continue;
            if (sample.ServedRate > 0)
                memory.Owed = false;
            else if (has == 0 && (sample.Queue > 0 || sample.RequestRate > 0))
                memory.Owed = true;
        }

        memory.OwedUntil = samples[samples.Count - 1].At;
        return memory.Owed;
    }

    private static int Count(Func<int, double> worth, ServiceSpec service)
    {
        // Doubling, then halving: worth does not rise with n, and demand may be any size.
        int high = 1;
        while (high < service.Most && high < MostServers && worth(high) > 0)
            high *= 2;
        int low = 0;
        high = Math.Min(high, service.Most);
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            if (worth(middle) > 0)
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
