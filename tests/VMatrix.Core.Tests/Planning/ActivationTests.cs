using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>What an activation costs: its price, the seconds and the bytes that the last ones took.</summary>
public sealed class ActivationTests
{
    private const long GiB = 1L << 30;

    [Fact]
    public void What_an_activation_copies_is_paid_for_and_what_is_held_is_not_given_up_for_it()
    {
        // The second server pays for its activation, and by how much is told; it does not pay for that and 20 % more.
        double worth = Second(asleep: true, new Measured()).Worth;
        Assert.True(worth > 0);
        var oracle = new OracleSpec();
        long enough = (long)(worth / oracle.CopyCost * GiB);
        var dear = Second(asleep: true, new Measured { Bytes = enough * 12 / 10 });
        Assert.False(dear.Granted);
        Assert.Equal(-0.2 * worth, dear.Worth, 3);
        Assert.True(Second(asleep: true, new Measured { Bytes = enough * 8 / 10 }).Granted);
        // What is held has been paid for.
        Assert.Equal(Second(asleep: false, new Measured()).Worth, Second(asleep: false, new Measured { Bytes = 100 * enough }).Worth);
    }

    [Fact]
    public void What_a_wake_takes_is_lost_of_what_a_server_saves()
    {
        var quick = Second(asleep: true, new Measured());
        var slow = Second(asleep: true, new Measured { Wake = TimeSpan.FromMinutes(3) });
        var endless = Second(asleep: true, new Measured { Wake = TimeSpan.FromMinutes(30) });
        Assert.True(slow.Granted && slow.Worth < quick.Worth - 0.5, $"{quick.Worth} -> {slow.Worth}");
        Assert.False(endless.Granted);
    }

    [Fact]
    public void The_story_tells_what_was_measured_and_what_it_costs()
    {
        var story = Story(asleep: true, new Measured { Bytes = 2 * GiB, Wake = TimeSpan.FromSeconds(3) });
        Assert.Equal((2 * GiB, TimeSpan.FromSeconds(3)), (story.WakeBytes, story.WakeTime));
        Assert.Equal(0.2 + (2 * 0.015), story.ActivationCost, 9);
    }

    private static ServerWorth Second(bool asleep, Measured change) => Story(asleep, change).Worth.Single(w => w.Server == 2);

    private static ServiceStory Story(bool asleep, Measured change)
    {
        var world = new World(3, World.Service("FINANCE", priority: 2));
        world.Add("FINANCE", Stage.Matrix, "host1");
        world.Add("FINANCE", asleep ? Stage.Nest : Stage.Matrix, asleep ? null : "host2");
        for (int i = 0; i < 5; i++, world.Now += TimeSpan.FromSeconds(1))
            world.Load("FINANCE", 7);
        var input = world.Input() with
        {
            WakeBytes = change.Bytes is { } bytes ? new Dictionary<string, long> { ["FINANCE"] = bytes } : [],
            WakeTime = change.Wake is { } wake ? new Dictionary<string, TimeSpan> { ["FINANCE"] = wake } : [],
        };
        return Planner.Explain(input, null, "FINANCE", CancellationToken.None).Explanation.Services.Single();
    }

    private sealed record Measured
    {
        public long? Bytes { get; init; }

        public TimeSpan? Wake { get; init; }
    }
}
