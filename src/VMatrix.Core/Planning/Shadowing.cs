using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Planning;

/// <summary>What is kept of a service that the Oracle only shadows, from plan to plan.</summary>
public sealed record ShadowTally
{
    /// <summary>The score so far.</summary>
    public required ShadowScore Score { get; init; }

    /// <summary>When it was last scored.</summary>
    public DateTimeOffset At { get; init; }

    /// <summary>Servers that it had then.</summary>
    public int Had { get; init; }

    /// <summary>Servers that the Oracle would have had live then.</summary>
    public int OracleHad { get; init; }

    /// <summary>When the servers that the Oracle would be waking would serve.</summary>
    public IReadOnlyList<DateTimeOffset> Waking { get; init; } = [];
}

/// <summary>
/// Scores the counts that the Oracle would have had against those that there were, under the load that came. The Oracle's count follows
/// what each plan grants: up after the time that a wake takes, down at once. What a count of servers leaves unserved is the demand above
/// their capacity; queues that carry demand over to a later minute are left out on both sides.
/// </summary>
public static class Shadowing
{
    private static readonly TimeSpan s_longest = TimeSpan.FromMinutes(2);

    /// <summary>Goes on scoring with the decisions of a new plan.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="before">The scores so far.</param>
    /// <param name="plan">The plan, made now.</param>
    /// <param name="wake">What an activation takes, by service; missing ones take none.</param>
    /// <param name="wakeBytes">Bytes that an activation reads or copies, by service; missing ones none.</param>
    public static IReadOnlyList<ShadowTally> Score(PoolSpec pool, IReadOnlyList<ShadowTally> before, Plan plan, IReadOnlyDictionary<string, TimeSpan> wake, IReadOnlyDictionary<string, long>? wakeBytes = null)
    {
        var scores = new List<ShadowTally>();
        foreach (var decision in plan.Decisions)
        {
            var service = pool.Services.FirstOrDefault(s => s.Name == decision.Service);
            if (service is null || (service.Mode ?? pool.Oracle.Mode) != OracleMode.Shadow)
                continue;
            var tally = before.FirstOrDefault(t => t.Score.Service == service.Name)
                ?? new ShadowTally { Score = new ShadowScore { Service = service.Name, Since = plan.CreatedAt }, At = plan.CreatedAt, Had = decision.Has, OracleHad = decision.Has };
            scores.Add(Next(pool.Oracle, service, tally, decision, plan.CreatedAt, wake.TryGetValue(service.Name, out var takes) ? takes : TimeSpan.Zero,
                Economy.Activation(pool.Oracle, wakeBytes is not null && wakeBytes.TryGetValue(service.Name, out long bytes) ? bytes : 0)));
        }

        return scores;
    }

    private static ShadowTally Next(OracleSpec oracle, ServiceSpec service, ShadowTally tally, ServiceDecision now, DateTimeOffset at, TimeSpan wake, double activation)
    {
        var waking = tally.Waking.Where(w => w > at).ToList();
        int had = tally.OracleHad + tally.Waking.Count - waking.Count, activations = 0;
        int would = now.Wanted ?? now.Granted;
        for (int more = would - had - waking.Count; more > 0; more--, activations++)
        {
            if (wake > TimeSpan.Zero)
                waking.Add(at + wake);
            else
                had++;
        }

        // Those that would not have come yet are given up first.
        int fewer = had + waking.Count - would;
        int unborn = Math.Max(0, Math.Min(fewer, waking.Count));
        waking.RemoveRange(waking.Count - unborn, unborn);
        had -= Math.Max(0, fewer - unborn);

        var span = at - tally.At;
        var score = tally.Score;
        bool known = span > TimeSpan.Zero && span <= s_longest && !double.IsNaN(now.Rate) && now.Capacity > 0;
        if (known)
        {
            // The span that ends now was served by those that were live when it began.
            double minutes = span.TotalMinutes;
            int came = Math.Max(0, now.Has - tally.Had);
            double missed = Math.Max(0, now.Rate - (tally.Had * now.Capacity)), wouldMiss = Math.Max(0, now.Rate - (tally.OracleHad * now.Capacity));
            score = score with
            {
                Minutes = score.Minutes + minutes,
                Unserved = score.Unserved + (missed * span.TotalSeconds),
                OracleUnserved = score.OracleUnserved + (wouldMiss * span.TotalSeconds),
                ServerMinutes = score.ServerMinutes + (tally.Had * minutes),
                OracleServerMinutes = score.OracleServerMinutes + ((tally.OracleHad + tally.Waking.Count) * minutes),
                Activations = score.Activations + came,
                Cost = score.Cost + (minutes * ((service.Priority * missed / now.Capacity) + (oracle.ServerCost * tally.Had))) + (activation * came),
                OracleCost = score.OracleCost + (minutes * ((service.Priority * wouldMiss / now.Capacity) + (oracle.ServerCost * (tally.OracleHad + tally.Waking.Count)))),
            };
        }

        score = score with { OracleActivations = score.OracleActivations + activations, OracleCost = score.OracleCost + (activation * activations) };

        return new ShadowTally { Score = score, At = at, Had = now.Has, OracleHad = had, Waking = waking };
    }
}
