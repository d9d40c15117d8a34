using System;
using System.Collections.Generic;

namespace VMatrix.Planning;

/// <summary>Demand as the planner expects it: a mean and a standard deviation, in requests per second.</summary>
/// <param name="Mean">Expected demand.</param>
/// <param name="Deviation">Standard deviation of it.</param>
internal readonly record struct Demand(double Mean, double Deviation)
{
    /// <summary>Expected demand above <paramref name="level"/>: E[max(0, D - level)] for a normal D (the newsvendor's loss function; Silver, Pyke, Thomas, Inventory and Production Management, appendix II).</summary>
    public double Above(double level)
    {
        if (Deviation <= 0)
            return Math.Max(0, Mean - level);
        double z = (Mean - level) / Deviation;
        // Eight deviations out there is nothing left to weigh, and thousands of servers to weigh it for.
        if (z > 8 || z < -8)
            return Math.Max(0, Mean - level);
        return Deviation * (Math.Exp(-0.5 * z * z) / Math.Sqrt(2 * Math.PI) + z * Normal(z));
    }

    // Abramowitz and Stegun, 7.1.26: absolute error below 1.5e-7, and the same on every framework.
    private static double Normal(double z)
    {
        double x = Math.Abs(z) / Math.Sqrt(2);
        double t = 1 / (1 + 0.3275911 * x);
        double erf = 1 - ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * Math.Exp(-x * x);
        return z >= 0 ? 0.5 * (1 + erf) : 0.5 * (1 - erf);
    }
}

/// <summary>The level of demand of this moment, from the samples of the last seconds.</summary>
internal static class Level
{
    /// <summary>A change is believed when chance would show one so clear once in about 370 looks (likelihood ratio, chi-squared with one degree of freedom).</summary>
    private const double Clear = 9;

    /// <summary>Most seconds that a level is averaged over.</summary>
    public const double Longest = 30;

    /// <summary>
    /// The level of demand now from the good samples, oldest first: averaged over all of the last seconds unless they hold a clear
    /// change, then since the last such change alone. So noise is averaged away and a jump is believed at once. The change is looked for
    /// with the likelihood ratio of two Poisson rates (Gu, Ng, Tang and Schucany 2008 compare it with others).
    /// </summary>
    /// <param name="samples">The samples.</param>
    /// <param name="spacing">Seconds that the oldest sample stands for.</param>
    /// <param name="ahead">Seconds that demand is averaged over when it counts: what is shorter, a queue absorbs.</param>
    public static Demand Of(IReadOnlyList<ServiceLoad> samples, double spacing, double ahead)
    {
        // Sums over the newest 1, 2, 3 ... good samples, and how much more than chance each differs from the next.
        var sums = new List<(double Requests, double Seconds)>();
        var excess = new List<double>();
        double requests = 0, seconds = 0, rate = double.NaN, length = 0;
        for (int i = samples.Count - 1; i >= 0 && seconds < Longest; i--)
        {
            var sample = samples[i];
            double span = i > 0 ? Math.Min(spacing * 3, (sample.At - samples[i - 1].At).TotalSeconds) : spacing;
            if (sample.Bad is not null || span <= 0)
                continue;
            if (seconds > 0)
                excess.Add((sample.RequestRate - rate) * (sample.RequestRate - rate) / Math.Max(1e-9, (sample.RequestRate * span + rate * length + 1) / (span + length) * (1 / span + 1 / length)));
            (rate, length) = (sample.RequestRate, span);
            requests += rate * span;
            seconds += span;
            sums.Add((requests, seconds));
        }

        if (sums.Count == 0)
            return new Demand(double.NaN, double.NaN);
        double bursts = Bursts(excess);
        // The clearest change hides a later one beside it: what came since is looked at again.
        int use = sums.Count - 1;
        while (ClearestChange(use) is >= 0 and int change)
            use = change;
        (requests, seconds) = sums[use];
        double mean = requests / seconds;
        // One request more than were counted: the variance of a count of zero is not zero.
        return new Demand(mean, Math.Sqrt(bursts * ((requests + 1) / (seconds * seconds) + mean / Math.Max(ahead, 1))));

        // How many of the newest samples, less one, came after the clearest change among them; -1 where none is clear.
        int ClearestChange(int among)
        {
            int found = -1;
            var (allRequests, allSeconds) = sums[among];
            double clearest = Clear * bursts, all = allRequests / allSeconds;
            for (int i = 0; i < among; i++)
            {
                var (r, s) = sums[i];
                double ratio = 2 * (Part(r, s, all) + Part(allRequests - r, allSeconds - s, all));
                if (ratio > clearest)
                    (clearest, found) = (ratio, i);
            }

            return found;
        }

        static double Part(double requests, double seconds, double rate) => requests > 0 ? requests * Math.Log(requests / (seconds * rate)) : 0;
    }

    /// <summary>How many times the variance of chance arrivals the samples have, by the median so that one jump does not count; 1 where they are too few to tell.</summary>
    private static double Bursts(List<double> excess)
    {
        if (excess.Count < FewestPairs)
            return 1;
        excess.Sort();
        return Math.Max(1, excess[excess.Count / 2] / MedianOfChance);
    }

    private const int FewestPairs = 8;

    // The median of the chi-squared distribution with one degree of freedom.
    private const double MedianOfChance = 0.455;
}
