using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Planning;
using VMatrix.Tests.Placement;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>A setting that a plan cannot meet, or that does nothing, is named with why: in the plan, and where nothing is to be done in its summary.</summary>
public sealed class UnmetTests
{
    private static readonly ServiceSpec s_shared = new() { Name = "A", Isolation = Isolation.Shared, Least = 1, Most = 9, Capacity = 100, Image = new ImageSpec() };

    [Fact]
    public void A_gap_that_no_move_can_close_is_named_with_both_hosts_and_the_reasons()
    {
        // One large server: wherever it is, that host is fuller.
        var input = With(PlacementRulesTests.Pool(2, [s_shared], ("A", "host1")), o => o with { BalanceGap = 0.2 });
        input = input with { Servers = [input.Servers[0] with { MemoryBytes = 800L << 20 }] };
        var (plan, unmet) = Unmet(input, "oracle.balanceGap");
        Assert.Empty(plan.Moves);
        Assert.Contains("host1 uses 78.1 % of its memory and host2 0 %, 78.1 points apart where at most 20 are asked for", unmet, StringComparison.Ordinal);
        Assert.Contains("1 is too large for the difference", unmet, StringComparison.Ordinal);
        Assert.StartsWith("Nothing to do", plan.Summary, StringComparison.Ordinal);
        Assert.Contains("oracle.balanceGap: host1 uses", plan.Summary, StringComparison.Ordinal);
    }

    [Fact]
    public void A_gap_that_is_left_for_servers_moved_lately_held_or_never_to_be_balanced_says_so()
    {
        var input = With(PlacementRulesTests.Pool(2, [s_shared with { Least = 4, NeverBalance = ["A-3"] }], ("A", "host1"), ("A", "host1"), ("A", "host1"), ("A", "host1")), o => o with { BalanceGap = 0.2 });
        input = input with
        {
            Servers =
            [
                .. input.Servers.Select((s, n) => n switch
                {
                    0 or 3 => s with { Mark = s.Mark with { ChangedAt = input.Now.AddMinutes(-1) } },
                    1 => s with { Mark = s.Mark with { HeldUntil = input.Now.AddMinutes(9) } },
                    _ => s,
                }),
            ],
        };
        var (_, unmet) = Unmet(input, "oracle.balanceGap");
        Assert.Contains("of 4 servers on host1, 1 is held or on their way, 1 is never to be balanced (neverBalance), 2 are moved within 300 s (oracle.horizon)", unmet, StringComparison.Ordinal);
    }

    [Fact]
    public void A_gap_has_no_effect_where_servers_share_no_host()
    {
        var (_, unmet) = Unmet(With(PlacementRulesTests.Pool(2, [s_shared with { Isolation = Isolation.Dedicated, Least = 2 }], ("A", "host1"), ("A", "host2")), o => o with { BalanceGap = 0.2 }), "oracle.balanceGap");
        Assert.Contains("no effect on memory: of 2 open hosts 0 can be balanced; 2 carry a server that shares with no other", unmet, StringComparison.Ordinal);
    }

    [Fact]
    public void A_gap_that_is_met_is_not_named() =>
        Assert.DoesNotContain(Planner.Plan(With(PlacementRulesTests.Pool(2, [s_shared with { Least = 2 }], ("A", "host1"), ("A", "host2")), o => o with { BalanceGap = 0.2 })).Plan.Unmet, u => u.Setting == "oracle.balanceGap");

    [Theory]
    [InlineData("least", "they are its least (1)")]
    [InlineData("pinned", "its count is pinned by an operator")]
    [InlineData("shadow", "mode is shadow")]
    [InlineData("sample", "its load is not known")]
    [InlineData("hosts", "none of its hosts is one that HIGH may use")]
    [InlineData("held", "they are held, protected, on their way or on hosts that do not answer")]
    public void A_priority_that_takes_nothing_says_what_keeps_the_others(string what, string why)
    {
        var high = new ServiceSpec { Name = "HIGH", Priority = 9, Least = 0, Capacity = 1, Image = new ImageSpec(), AllowedHosts = what == "hosts" ? ["host2"] : [] };
        var low = new ServiceSpec { Name = "LOW", Priority = 1, Least = what == "least" ? 1 : 0, Capacity = 1, Image = new ImageSpec(), Mode = what == "shadow" ? OracleMode.Shadow : null };
        var input = PlacementRulesTests.Pool(what == "hosts" ? 2 : 1, [high, low], ("LOW", "host1"), ("HIGH", what == "hosts" ? "host2" : null));
        input = input with
        {
            Loads = new Dictionary<string, IReadOnlyList<ServiceLoad>>
            {
                ["HIGH"] = [new ServiceLoad { Service = "HIGH", At = input.Now, RequestRate = 9, ServedRate = 1 }],
                ["LOW"] = [new ServiceLoad { Service = "LOW", At = input.Now, RequestRate = 1, ServedRate = 1, Bad = what == "sample" ? "the balancer did not answer" : null }],
            },
            Pinned = what == "pinned" ? new Dictionary<string, int> { ["LOW"] = 1 } : new Dictionary<string, int>(),
            Servers = what == "held" ? [.. input.Servers.Select(s => s.Mark.Service == "LOW" ? s with { Mark = s.Mark with { HeldUntil = input.Now.AddHours(1) } } : s)] : input.Servers,
        };
        var (_, unmet) = Unmet(input, "priority of HIGH");
        Assert.Contains("takes none of the 1 server of LOW (1)", unmet, StringComparison.Ordinal);
        Assert.Contains(why, unmet, StringComparison.Ordinal);
    }

    [Fact]
    public void Spread_affinity_reserve_least_and_pinned_counts_are_named_where_they_are_not_met()
    {
        var one = PlacementRulesTests.Pool(2, [s_shared with { Spread = true, Least = 2, AllowedHosts = ["host1"] }], ("A", "host1"), ("A", "host1"));
        Assert.Contains("are not spread: all open hosts that it may use are in one fault domain", Unmet(one, "spread of A").Why, StringComparison.Ordinal);

        var beside = PlacementRulesTests.Pool(2, [s_shared with { Affinity = ["B"], AllowedHosts = ["host1"] }, s_shared with { Name = "B", AllowedHosts = ["host2"] }], ("A", "host1"), ("B", "host2"));
        Assert.Contains("1 of its 1 server stands on a host without B, which has 1", Unmet(beside, "affinity of A").Why, StringComparison.Ordinal);

        var reserve = With(PlacementRulesTests.Pool(2, [s_shared with { Least = 2, Isolation = Isolation.Dedicated }], ("A", "host1"), ("A", "host2")), o => o with { ReserveHosts = 1 });
        Assert.Contains("0 MiB are free on open hosts, and the largest host has 1024 MiB", Unmet(reserve, "oracle.reserveHosts").Why, StringComparison.Ordinal);

        var least = PlacementRulesTests.Pool(1, [s_shared with { Least = 3, Isolation = Isolation.Dedicated }], ("A", "host1"));
        Assert.Contains("3 are asked for and 1 are had", Unmet(least, "least of A").Why, StringComparison.Ordinal);

        var pinned = PlacementRulesTests.Pool(1, [s_shared with { Isolation = Isolation.Dedicated }], ("A", "host1")) with { Pinned = new Dictionary<string, int> { ["A"] = 4 } };
        Assert.Contains("4 are asked for and 1 are had", Unmet(pinned, "pinned count of A").Why, StringComparison.Ordinal);
    }

    [Fact]
    public void What_does_nothing_beside_the_other_settings_is_named()
    {
        var input = With(PlacementRulesTests.Pool(2, [s_shared with { Least = 1, Protected = ["nobody"], NeverBalance = ["A-1"], Concurrency = 2 }], ("A", "host1")), o => o with { BalanceAbove = 0.8, BalanceBy = BalanceMeasure.Both, IdleHosts = 3 });
        input = input with
        {
            Pool = input.Pool with
            {
                Hosts = [.. input.Pool.Hosts.Select(h => h with { FaultDomain = "rack1" })],
                Licences = [new LicenceSpec { Name = "SQL" }],
                Nest = input.Pool.Nest with { MaxSleep = TimeSpan.FromDays(1) },
                Balancer = input.Pool.Balancer with { Kind = "script" },
            },
        };
        string[] named = [.. Planner.Plan(input).Plan.Unmet.Select(u => u.Setting)];
        foreach (string setting in new[] { "oracle.balanceAbove", "oracle.balanceBy", "oracle.idleHosts", "protected of A", "neverBalance of A", "faultDomain of hosts", "licence SQL", "nest.maxSleep", "concurrency of A" })
            Assert.Contains(setting, named);
        Assert.Contains("oracle.powerDown", Planner.Plan(With(input, o => o with { PowerDown = true })).Plan.Unmet.Select(u => u.Setting));
    }

    [Fact]
    public void A_pool_whose_settings_are_met_names_none() =>
        Assert.Empty(Planner.Plan(PlacementRulesTests.Pool(2, [s_shared], ("A", "host1"))).Plan.Unmet);

    private static (Plan Plan, string Why) Unmet(PlannerInput input, string setting)
    {
        var plan = Planner.Plan(input).Plan;
        return (plan, Assert.Single(plan.Unmet, u => u.Setting == setting).Why);
    }

    private static PlannerInput With(PlannerInput input, Func<OracleSpec, OracleSpec> oracle) => input with { Pool = input.Pool with { Oracle = oracle(input.Pool.Oracle) } };
}
