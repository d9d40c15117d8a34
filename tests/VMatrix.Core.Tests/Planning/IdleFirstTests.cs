using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Planning;
using VMatrix.Tests.Placement;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>Who is put to sleep when there are more servers than needed: the idle one, the one that its owner names, never one that is protected.</summary>
public sealed class IdleFirstTests
{
    private static readonly ServiceSpec s_service = new() { Name = "A", Isolation = Isolation.Shared, Least = 1, Most = 9, Capacity = 100, Image = new ImageSpec() };

    [Fact]
    public void The_idle_one_goes_before_one_with_an_open_request()
    {
        // The busy one was moved longest ago, so that without its request it would go.
        Assert.Equal(["A-2"], Asleep(s_service, s => s.Mark.Name switch
        {
            "A-1" => s with { OpenRequests = 1, Mark = s.Mark with { ChangedAt = s.Mark.ChangedAt.AddDays(-1) } },
            _ => s with { OpenRequests = 0 },
        }, "host1", "host2"));
        Assert.Equal(["A-1"], Asleep(s_service, s => s.Mark.Name == "A-1" ? s with { Mark = s.Mark with { ChangedAt = s.Mark.ChangedAt.AddDays(-1) } } : s, "host1", "host2"));
    }

    [Fact]
    public void The_idle_one_goes_though_it_is_of_the_newest_image() =>
        Assert.Equal(["A-2"], Asleep(s_service, s => s.Mark.Name == "A-1" ? s with { OpenRequests = 3, Mark = s.Mark with { Image = "0" } } : s with { OpenRequests = 0 }, "host1", "host2"));

    [Fact]
    public void Of_busy_ones_those_with_fewest_open_requests_go() =>
        Assert.Equal(["A-2", "A-4"], Asleep(s_service with { Least = 2 }, s => s with { OpenRequests = s.Mark.Name switch { "A-1" => 9, "A-2" => 2, "A-3" => 5, _ => 1 } }, "host1", "host1", "host2", "host2"));

    [Fact]
    public void Where_requests_are_not_counted_the_least_busy_processor_goes() =>
        Assert.Equal(["A-2"], Asleep(s_service, s => s with { ProcessorUse = s.Mark.Name == "A-2" ? 0.02 : 0.6 }, "host1", "host2"));

    [Fact]
    public void Spread_is_kept_and_of_one_fault_domain_the_idle_one_goes()
    {
        var spread = s_service with { Spread = true, Least = 2 };
        Assert.Equal(["A-2"], Asleep(spread, s => s with { OpenRequests = s.Mark.Name == "A-2" ? 0 : 1 }, "host1", "host1", "host2"));
        // The idle one stands alone in its domain: were it to go, a busy one would have to move there.
        Assert.Equal(["A-1"], Asleep(spread, s => s with { OpenRequests = s.Mark.Name == "A-3" ? 0 : 1 }, "host1", "host1", "host2"));
    }

    [Fact]
    public void A_more_important_service_takes_the_idle_server_of_another()
    {
        var input = PlacementRulesTests.Pool(2, [s_service with { Isolation = Isolation.Dedicated, Capacity = 1 }, new ServiceSpec { Name = "B", Priority = 50, Least = 1, Capacity = 1, Image = new ImageSpec() }], ("A", "host1"), ("A", "host2"), ("B", null));
        input = input with { Servers = [.. input.Servers.Select(s => s with { OpenRequests = s.Mark.Name == "A-1" ? 4 : 0 })] };
        var plan = Planner.Plan(input).Plan;
        Assert.Equal(["A-2"], plan.Moves.Where(m => m.Kind is MoveKind.Hibernate).Select(m => m.ServerName));
    }

    [Fact]
    public void Those_that_their_owner_names_go_first_by_name_or_pattern()
    {
        Assert.Equal(["A-3"], Asleep(s_service with { Least = 2, RetireFirst = ["A-3"] }, s => s, "host1", "host2", "host3"));
        Assert.Equal(["A-2", "A-3"], Asleep(s_service with { RetireFirst = ["a-[x]", "a-?3", "a-3*", "*-2"] }, s => s, "host1", "host2", "host3"));
        // What its owner says goes before what the balancer tells.
        Assert.Equal(["A-1"], Asleep(s_service with { RetireFirst = ["A-1"] }, s => s with { OpenRequests = s.Mark.Name == "A-1" ? 1 : 0 }, "host1", "host2"));
    }

    [Fact]
    public void Those_that_their_owner_protects_are_never_taken_and_the_service_keeps_them_beyond_its_need()
    {
        Assert.Equal(["A-2"], Asleep(s_service with { Protected = ["A-1"] }, s => s.Mark.Name == "A-1" ? s with { Mark = s.Mark with { ChangedAt = s.Mark.ChangedAt.AddDays(-5) } } : s, "host1", "host2"));
        Assert.Empty(Asleep(s_service with { Protected = ["A-*"] }, s => s, "host1", "host2", "host3"));
        // Nor for a more important service.
        var input = PlacementRulesTests.Pool(1, [s_service with { Isolation = Isolation.Dedicated, Least = 0, Protected = ["A-1"] }, new ServiceSpec { Name = "B", Priority = 50, Least = 1, Capacity = 1, Image = new ImageSpec() }], ("A", "host1"), ("B", null));
        var plan = Planner.Plan(input).Plan;
        Assert.Empty(plan.Moves);
        Assert.Contains(plan.Unmet, u => u.Setting == "least of B");
    }

    [Theory]
    [InlineData("*", "", true)]
    [InlineData("a*c", "ABBC", true)]
    [InlineData("a*c", "abb", false)]
    [InlineData("a?c", "abc", true)]
    [InlineData("a?c", "ac", false)]
    [InlineData("*a*a*a", "aaaaaaaaaaaaaaaaaaaaaaaab", false)]
    [InlineData("abc", "abc", true)]
    [InlineData("", "a", false)]
    public void Names_fit_patterns(string pattern, string name, bool fits) => Assert.Equal(fits, NamePatterns.Match(pattern, name));

    private static string[] Asleep(ServiceSpec service, Func<ServerState, ServerState> change, params string[] hosts)
    {
        var input = PlacementRulesTests.Pool(3, [service], [.. hosts.Select(h => ("A", (string?)h))]);
        input = input with { Servers = [.. input.Servers.Select(change)], Images = new Dictionary<string, string> { ["A"] = "1" } };
        var plan = Planner.Plan(input).Plan;
        Assert.Empty(PlanChecker.Check(input, plan));
        Assert.All(plan.Moves, m => Assert.Equal(MoveKind.Hibernate, m.Kind));
        return [.. plan.Moves.Select(m => m.ServerName).Order()];
    }
}
