using System;
using System.Collections.Generic;
using VMatrix.Drivers;

namespace VMatrix.Planning;

/// <summary>Turns two answers of a balancer into load samples, and says which of them are not to be acted on.</summary>
public static class Sensing
{
    /// <summary>
    /// Measures every service of a pool from two answers of its balancer. Bad samples (<see cref="ServiceLoad.Bad"/>) are: no
    /// answer, no answer before, a stale answer, a balancer restarted in between, a counter that went backwards, a negative
    /// value, a rate above <see cref="OracleSpec.MostRate"/>. A zero from a balancer that answers is good.
    /// </summary>
    /// <param name="pool">The pool.</param>
    /// <param name="before">The answer before; null when there was none.</param>
    /// <param name="now">The answer now; null when the balancer could not be reached.</param>
    /// <param name="at">The moment of sensing.</param>
    /// <param name="silence">What was told instead of an answer now, as a sentence; null when nothing was.</param>
    public static IReadOnlyDictionary<string, ServiceLoad> Measure(PoolSpec pool, BalancerReport? before, BalancerReport? now, DateTimeOffset at, string? silence = null)
    {
        var old = Index(before);
        var fresh = Index(now);
        var loads = new Dictionary<string, ServiceLoad>(StringComparer.Ordinal);
        foreach (var service in pool.Services)
        {
            loads[service.Name] = Measure(
                service.Name,
                before,
                old.TryGetValue(service.Name, out var b) ? b : null,
                now,
                fresh.TryGetValue(service.Name, out var n) ? n : null,
                at,
                pool.Oracle,
                silence);
        }

        return loads;
    }

    private static ServiceLoad Measure(
        string service, BalancerReport? before, ServiceCounters? old, BalancerReport? now, ServiceCounters? fresh, DateTimeOffset at, OracleSpec oracle, string? silence)
    {
        ServiceLoad Bad(string why) => new() { Service = service, At = now?.At ?? at, RequestRate = double.NaN, ServedRate = double.NaN, Queue = Math.Max(0, fresh?.Queue ?? 0), Bad = why };

        if (now is null)
            return Bad(silence is null ? "the balancer did not answer" : $"the balancer did not answer: {silence.TrimEnd('.')}");
        if (fresh is null)
            return Bad("the balancer does not know the service");
        if (at - now.At > oracle.StaleAfter)
            return Bad($"the balancer's answer is {Words.Seconds(at - now.At)} old, more than {Words.Seconds(oracle.StaleAfter)}");
        if (now.At - at > oracle.StaleAfter)
            return Bad($"the balancer's answer is stamped {Words.Seconds(now.At - at)} ahead of the clock, which was set back");
        if (fresh.Requests < 0 || fresh.Served < 0 || fresh.Refused < 0 || fresh.Errors < 0 || fresh.Queue < 0 || fresh.Sessions < 0)
            return Bad("the balancer gave a negative value");
        if (before is null || old is null)
            return Bad("there is no answer before this one to compare with");
        if ((before.CountersSince ?? before.Incarnation) != (now.CountersSince ?? now.Incarnation))
            return Bad("the balancer was restarted since the answer before, its counters began anew");
        double seconds = (now.At - before.At).TotalSeconds;
        if (seconds <= 0)
            return Bad("the answer is not newer than the one before");
        if (now.At - before.At > oracle.StaleAfter + oracle.Interval)
            return Bad($"the answer before is {Words.Seconds(now.At - before.At)} older, the rate between them says nothing about now");
        if (fresh.Requests < old.Requests || fresh.Served < old.Served || fresh.Refused < old.Refused || fresh.Errors < old.Errors)
            return Bad("a counter of the balancer went backwards");
        double rate = (fresh.Requests - old.Requests) / seconds;
        if (rate > oracle.MostRate)
            return Bad(Words.Text($"{rate:0} requests/s are more than the {oracle.MostRate:0} that the pool can get at all"));
        double answered = Math.Max(fresh.Served - old.Served, Math.Max(fresh.Refused - old.Refused, fresh.Errors - old.Errors)) / seconds;
        if (answered > oracle.MostRate)
            return Bad(Words.Text($"{answered:0} answers/s are more than the {oracle.MostRate:0} requests/s that the pool can get at all"));
        return new ServiceLoad
        {
            Service = service,
            At = now.At,
            RequestRate = rate,
            ServedRate = (fresh.Served - old.Served) / seconds,
            RefusedRate = (fresh.Refused - old.Refused) / seconds,
            ErrorRate = (fresh.Errors - old.Errors) / seconds,
            Queue = fresh.Queue,
            Sessions = fresh.Sessions,
            ResponseTime = fresh.ResponseTime,
        };
    }

    private static Dictionary<string, ServiceCounters> Index(BalancerReport? report)
    {
        var index = new Dictionary<string, ServiceCounters>(StringComparer.Ordinal);
        foreach (var counters in report?.Services ?? [])
            index[counters.Service] = counters;
        return index;
    }
}
