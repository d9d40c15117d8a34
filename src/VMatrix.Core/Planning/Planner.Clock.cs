using System;
using System.Linq;

namespace VMatrix.Planning;

/// <content>A clock that was set back.</content>
public static partial class Planner
{
    /// <summary>
    /// The input with nothing stamped later than now. What seems to have happened in the future was stamped before a clock was set back: it
    /// counts as having happened now, or it would count as new until the clock has caught up.
    /// </summary>
    private static PlannerInput NotAhead(PlannerInput input)
    {
        var now = input.Now;
        if (input.Servers.Any(s => s.Mark.ChangedAt > now || s.AsleepSince > now))
        {
            input = input with
            {
                Servers =
                [
                    .. input.Servers.Select(s => s.Mark.ChangedAt <= now ? s : s with
                    {
                        Mark = s.Mark with { ChangedAt = now, HeldUntil = s.Mark.HeldUntil is { } until ? Earlier(until, now + (until - s.Mark.ChangedAt)) : null },
                    }).Select(s => s.AsleepSince > now ? s with { AsleepSince = now } : s),
                ],
            };
        }

        return input.Memory is not { } memory ? input : input with
        {
            Memory = memory with
            {
                Seats = memory.Seats.Any(s => s.Since > now) ? [.. memory.Seats.Select(s => s with { Since = Earlier(s.Since, now) })] : memory.Seats,
                Refreshes = memory.Refreshes.Any(r => r.At > now) ? [.. memory.Refreshes.Select(r => r with { At = Earlier(r.At, now) })] : memory.Refreshes,
                IdleSince = memory.IdleSince.Any(h => h.Value > now) ? memory.IdleSince.ToDictionary(h => h.Key, h => Earlier(h.Value, now)) : memory.IdleSince,
                GatherSince = memory.GatherSince > now ? now : memory.GatherSince,
            },
        };
    }

    private static DateTimeOffset Earlier(DateTimeOffset a, DateTimeOffset b) => a < b ? a : b;
}
