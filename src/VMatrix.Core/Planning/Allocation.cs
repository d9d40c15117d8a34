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

    /// <summary>Worth of the last server offered: a later one counts no more, whatever the forecast's grain says.</summary>
    public double LastWorth { get; set; } = double.PositiveInfinity;

    /// <summary>Servers granted.</summary>
    public int Granted { get; set; }
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
                continue;
            room -= takes;
            c.Granted++;
            Offer(-best.Rank);
        }

        void Offer(int i)
        {
            var c = order[i];
            if (c.Granted < c.Floor || c.Granted >= c.Ceiling)
                return;
            int n = c.Granted + 1;
            double worth = c.LastWorth = Math.Min(c.LastWorth, c.Worth(n));
            // What calm keeps takes room that is left over, never room that somebody else has a use for.
            if (worth <= 0 && n <= c.Calm)
                worth = LeftOver;
            if (worth > 0)
                heap.Add((worth / c.Share, -i));
        }
    }

    private const double LeftOver = 1e-9;
}
