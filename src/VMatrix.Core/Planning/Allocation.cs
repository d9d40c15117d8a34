using System;
using System.Collections.Generic;

namespace VMatrix.Planning;

/// <summary>One service that asks for servers.</summary>
internal sealed class Claimant
{
    public required ServiceSpec Spec { get; init; }

    /// <summary>Servers that it cannot be without: those that may not be touched, the least, a pinned count.</summary>
    public int Floor { get; set; }

    /// <summary>Servers that it may have at most.</summary>
    public int Ceiling { get; set; }

    /// <summary>Servers that it holds.</summary>
    public int Has { get; init; }

    /// <summary>Servers that it holds and should keep while nobody else wants their room.</summary>
    public int Calm { get; init; }

    /// <summary>Share of a host that one server takes: 1 when dedicated.</summary>
    public double Share { get; init; } = 1;

    /// <summary>Servers that take no room of a usable host: those on hosts that do not answer.</summary>
    public int Outside { get; init; }

    /// <summary>What the n-th server is worth beyond what it costs, see <see cref="Economy"/>. Above 0: worth having.</summary>
    public required Func<int, double> Worth { get; init; }

    /// <summary>What its servers that were moved lately are worth more, by unit of priority, the latest move first, see <see cref="Economy.Stay"/>.</summary>
    public IReadOnlyList<double> Stay { get; init; } = [];

    /// <summary>The unit in which <see cref="Stay"/> counts in a division: the priority of the less important of the service and of whom its servers could be taken for; 0 where nobody wants more.</summary>
    public double StayUnit { get; set; }

    /// <summary>True when it keeps a server because that was moved lately.</summary>
    public bool Stayed { get; set; }

    /// <summary>Worth of the last server offered: a later one counts no more, whatever the forecast's grain says.</summary>
    public double LastWorth { get; set; } = double.PositiveInfinity;

    /// <summary>Servers granted.</summary>
    public int Granted { get; set; }

    /// <summary>What the n-th server is worth more for servers that were moved lately; 0 for one that is not worth having.</summary>
    public double StayWorth(int n)
    {
        int newer = Has - n;
        return newer >= 0 && newer < Stay.Count && Worth(n) > 0 ? Stay[newer] * StayUnit : 0;
    }
}

/// <summary>
/// Divides the pool: every service's floor first, the most important first, then one server after another to where the next
/// server is worth most for the room that it takes. Worth falls with each server more, so that the greedy division is the best
/// one (Fox 1966, discrete optimization via marginal analysis).
/// </summary>
internal static class Allocation
{
    public static void Divide(IReadOnlyList<Claimant> claimants, double room, double reserve = 0)
    {
        var order = new List<Claimant>(claimants);
        order.Sort((a, b) => b.Spec.Priority != a.Spec.Priority ? b.Spec.Priority.CompareTo(a.Spec.Priority) : string.CompareOrdinal(a.Spec.Name, b.Spec.Name));
        foreach (var c in order)
        {
            c.LastWorth = double.PositiveInfinity;
            // Whether there really is a place for each is for the placement to find; it serves the most important first.
            c.Granted = c.Floor;
            room -= Math.Max(0, c.Floor - c.Outside) * c.Share;
        }

        // The least counts may use the reserve, the rest may not.
        room -= reserve;

        // Counted in the measure of the less important of the two, what was moved lately keeps its place against a humble service's noise
        // and not against its real need.
        int taker = order.FindIndex(WantsMore), second = taker < 0 ? -1 : order.FindIndex(taker + 1, WantsMore);
        for (int i = 0; i < order.Count; i++)
        {
            int whom = i == taker ? second : taker;
            order[i].StayUnit = whom < 0 ? 0 : Math.Min(order[i].Spec.Priority, order[whom].Spec.Priority);
        }

        double refused = GrantAll(order, room) ? 0 : GrantByWorth(order, room);
        foreach (var c in order)
        {
            double worth = c.Granted > c.Floor ? c.Worth(c.Granted) : double.PositiveInfinity;
            c.Stayed = worth / c.Share < refused && (worth + c.StayWorth(c.Granted)) / c.Share >= refused;
        }

        static bool WantsMore(Claimant c) => c.Has < c.Ceiling && c.Worth(c.Has + 1) > 0;
    }

    /// <summary>Grants everybody all that is worth having, or kept for calm's sake, where there is room for it: nobody has to be weighed against another then. False, and nothing granted, where there is not.</summary>
    private static bool GrantAll(List<Claimant> order, double room)
    {
        int[] granted = new int[order.Count];
        for (int i = 0; i < granted.Length; i++)
        {
            var c = order[i];
            int n = c.Floor;
            while (n < c.Ceiling && c.Worth(n + 1) + c.StayWorth(n + 1) > 0)
                n++;
            granted[i] = Math.Max(n, Math.Min(c.Calm, c.Ceiling));
            room -= Math.Max(0, granted[i] - Math.Max(c.Floor, c.Outside)) * c.Share;
        }

        // What is close is counted one by one.
        if (room < RoundingOff)
            return false;
        for (int i = 0; i < granted.Length; i++)
            order[i].Granted = granted[i];
        return true;
    }

    private const double RoundingOff = 1e-6;

    /// <summary>Grants one server after another to where the next one is worth most for the room that it takes. Returns the most that one was worth by its room that found none.</summary>
    private static double GrantByWorth(List<Claimant> order, double room)
    {
        double refused = 0;
        // Ties go to the more important, then by name, so that the same input makes the same plan.
        var heap = new SortedSet<(double Worth, int Rank)>();
        for (int i = 0; i < order.Count; i++)
            Offer(i);
        while (heap.Count > 0)
        {
            var best = heap.Max;
            heap.Remove(best);
            var c = order[-best.Rank];
            double takes = c.Granted < c.Outside ? 0 : c.Share;
            if (takes > room + 1e-9)
            {
                if (c.Granted >= c.Has)
                    refused = Math.Max(refused, best.Worth);
                continue;
            }

            room -= takes;
            c.Granted++;
            Offer(-best.Rank);
        }

        return refused;

        void Offer(int i)
        {
            var c = order[i];
            if (c.Granted < c.Floor || c.Granted >= c.Ceiling)
                return;
            int n = c.Granted + 1;
            double worth = c.LastWorth = Math.Min(c.LastWorth, c.Worth(n) + c.StayWorth(n));
            // What calm keeps takes room that is left over, never room that somebody else has a use for.
            if (worth <= 0 && n <= c.Calm)
                worth = LeftOver;
            if (worth > 0)
                heap.Add((worth / c.Share, -i));
        }
    }

    private const double LeftOver = 1e-9;
}
