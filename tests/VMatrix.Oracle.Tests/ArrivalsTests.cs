using System;
using System.Collections.Generic;
using System.Linq;
using CsCheck;
using VMatrix.Oracle.Demo;
using Xunit;

namespace VMatrix.Oracle.Tests;

public sealed class ArrivalsTests
{
    private static readonly IReadOnlyList<LoadPhase> s_phases =
    [
        new(TimeSpan.FromSeconds(200), new Dictionary<string, double> { ["FINANCE"] = 20, ["SPORTS"] = 2 }),
        new(TimeSpan.FromSeconds(100), new Dictionary<string, double> { ["FINANCE"] = 0, ["SPORTS"] = 30 }),
    ];

    [Fact]
    public void The_same_seed_gives_the_same_requests_and_another_one_others()
    {
        Gen.Int.Sample(seed =>
        {
            IReadOnlyList<Arrival> one = Arrivals.Make(s_phases, seed);
            return one.SequenceEqual(Arrivals.Make(s_phases, seed)) && !one.SequenceEqual(Arrivals.Make(s_phases, seed + 1));
        }, iter: 20);
    }

    [Fact]
    public void They_are_in_order_and_as_many_as_the_rates_say()
    {
        Gen.Int.Sample(seed =>
        {
            IReadOnlyList<Arrival> arrivals = Arrivals.Make(s_phases, seed);
            Assert.True(arrivals.Zip(arrivals.Skip(1)).All(pair => pair.First.At <= pair.Second.At));
            Assert.True(arrivals[^1].At < TimeSpan.FromSeconds(300));
            int Count(string service, double from, double to) => arrivals.Count(arrival => arrival.Service == service && arrival.At.TotalSeconds >= from && arrival.At.TotalSeconds < to);
            // A Poisson count of mean m lies within 6 times the square root of m but for one in a thousand million.
            AssertNear(4000, Count("FINANCE", 0, 200));
            AssertNear(400, Count("SPORTS", 0, 200));
            AssertNear(3000, Count("SPORTS", 200, 300));
            Assert.Equal(0, Count("FINANCE", 200, 300));
        }, iter: 20);
    }

    [Fact]
    public void Gaps_spread_as_exponential_ones_do()
    {
        double[] at = [.. Arrivals.Make(s_phases, 7).Where(arrival => arrival.Service == "FINANCE").Select(arrival => arrival.At.TotalSeconds)];
        double[] gaps = [.. at.Zip(at.Skip(1), (first, second) => second - first)];
        double mean = gaps.Average(), deviation = Math.Sqrt(gaps.Average(gap => (gap - mean) * (gap - mean)));
        Assert.InRange(deviation / mean, 0.9, 1.1);
    }

    private static void AssertNear(double mean, int count) => Assert.InRange(count, mean - (6 * Math.Sqrt(mean)), mean + (6 * Math.Sqrt(mean)));
}
