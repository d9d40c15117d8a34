using System;
using VMatrix.Drivers;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Planning;

public sealed class SensingTests
{
    private static readonly PoolSpec s_pool = new World(1, World.Service("FINANCE")).Pool;

    private static BalancerReport Report(int second, long requests, string incarnation = "a", int queue = 0, long served = 0, string service = "FINANCE") => new()
    {
        At = World.Start.AddSeconds(second),
        Incarnation = incarnation,
        Members = [],
        Services = [new ServiceCounters { Service = service, Requests = requests, Served = served, Queue = queue }],
    };

    private static ServiceLoad Measure(BalancerReport? before, BalancerReport? now, int at = 2) =>
        Sensing.Measure(s_pool, before, now, World.Start.AddSeconds(at))["FINANCE"];

    [Fact]
    public void A_rate_is_the_difference_over_the_time_between()
    {
        var load = Measure(Report(0, 100), Report(2, 130, queue: 4, served: 20));
        Assert.Null(load.Bad);
        Assert.Equal((15, 10, 4), (load.RequestRate, load.ServedRate, load.Queue));
    }

    [Fact]
    public void A_fresh_zero_is_good() => Assert.Null(Measure(Report(0, 100), Report(2, 100)).Bad);

    [Fact]
    public void Bad_samples_say_why()
    {
        Assert.Contains("did not answer", Measure(Report(0, 1), null).Bad, StringComparison.Ordinal);
        Assert.Equal("the balancer did not answer: It sleeps", Sensing.Measure(s_pool, Report(0, 1), null, World.Start.AddSeconds(2), "It sleeps.")["FINANCE"].Bad);
        Assert.Contains("no answer before", Measure(null, Report(2, 1)).Bad, StringComparison.Ordinal);
        Assert.Contains("went backwards", Measure(Report(0, 100), Report(2, 99)).Bad, StringComparison.Ordinal);
        Assert.Contains("restarted", Measure(Report(0, 100), Report(2, 130, "b")).Bad, StringComparison.Ordinal);
        Assert.Contains("negative", Measure(Report(0, 100), Report(2, -1)).Bad, StringComparison.Ordinal);
        Assert.Contains("negative", Measure(Report(0, 100), Report(2, 101, queue: -1)).Bad, StringComparison.Ordinal);
        Assert.Contains("more than the 1000000", Measure(Report(0, 0), Report(2, 10_000_000)).Bad, StringComparison.Ordinal);
        Assert.Contains("old", Measure(Report(0, 1), Report(2, 2), at: 60).Bad, StringComparison.Ordinal);
        Assert.Contains("not newer", Measure(Report(2, 1), Report(2, 2)).Bad, StringComparison.Ordinal);
        Assert.Contains("does not know", Measure(Report(0, 1), Report(2, 2, service: "SPORTS")).Bad, StringComparison.Ordinal);
    }
}
