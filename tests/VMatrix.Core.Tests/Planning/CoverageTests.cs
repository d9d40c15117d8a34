using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Planning;
using VMatrix.Tests.Placement;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>How many servers have a good sample is in every plan; below the floor that is asked for, no count is changed by load.</summary>
public sealed class CoverageTests
{
    private static readonly ServiceSpec s_a = new() { Name = "A", Least = 1, Most = 9, Capacity = 1, Image = new ImageSpec() };

    [Fact]
    public void A_plan_tells_the_share_of_servers_with_good_samples()
    {
        Assert.Equal(1, Plan(0).SampleCoverage);
        Assert.Equal(0.5, Plan(0, bad: true).SampleCoverage);
        Assert.Equal(0.75, Plan(0, unsampled: 1).SampleCoverage);
        Assert.Equal(1, Planner.Plan(PlacementRulesTests.Pool(2, [s_a], ("A", null))).Plan.SampleCoverage);
    }

    [Fact]
    public void Below_the_floor_the_plan_says_so_and_changes_no_count()
    {
        // Without the floor the good half is acted on: its load asks for more.
        Assert.Contains(Plan(0, bad: true).Moves, m => m.Service == "A");
        var plan = Plan(0.6, bad: true);
        Assert.Empty(plan.Moves);
        Assert.Contains("No count is changed by load: 2 of 4 servers have a good load sample, 50 %, and oracle.minSampleCoverage asks for 60 %", plan.Summary, StringComparison.Ordinal);
        Assert.All(plan.Decisions, d => Assert.Equal(d.Has, d.Granted));
        Assert.Contains(Plan(0.5, bad: true).Moves, m => m.Service == "A");
        Assert.Empty(Plan(0.8, unsampled: 1).Moves);
    }

    [Fact]
    public void Below_the_floor_least_counts_and_suspended_hosts_are_still_seen_to()
    {
        var input = Input(1, bad: true, unsampled: 0);
        input = input with { Pool = input.Pool with { Services = [s_a with { Least = 3 }, input.Pool.Services[1]] }, Hosts = [.. input.Hosts.Select(h => h with { Suspended = h.Name == "host4" })] };
        var plan = Planner.Plan(input).Plan;
        Assert.Contains(plan.Moves, m => m is { Service: "A", Kind: MoveKind.Wake });
        Assert.Contains(plan.Moves, m => m is { Service: "B", Kind: MoveKind.Relocate, FromHost: "host4" });
    }

    private static Plan Plan(double floor, bool bad = false, int unsampled = 0) => Planner.Plan(Input(floor, bad, unsampled)).Plan;

    private static PlannerInput Input(double floor, bool bad, int unsampled)
    {
        var input = PlacementRulesTests.Pool(6, [s_a, s_a with { Name = "B" }], ("A", "host1"), ("A", "host2"), ("B", "host3"), ("B", "host4"), ("A", null));
        return input with
        {
            Pool = input.Pool with { Oracle = input.Pool.Oracle with { MinSampleCoverage = floor } },
            Servers = [.. input.Servers.Select((s, n) => s.Mark.Stage is Stage.Matrix ? s with { Sampled = n >= unsampled } : s)],
            Loads = new Dictionary<string, IReadOnlyList<ServiceLoad>>
            {
                ["A"] = [new ServiceLoad { Service = "A", At = input.Now, RequestRate = 5, ServedRate = 2 }],
                ["B"] = [new ServiceLoad { Service = "B", At = input.Now, RequestRate = 2, ServedRate = 2, Bad = bad ? "the balancer did not answer" : null }],
            },
        };
    }
}
