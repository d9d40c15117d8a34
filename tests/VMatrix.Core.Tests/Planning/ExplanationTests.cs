using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using System.Threading;
using VMatrix.Moves;
using VMatrix.Planning;
using VMatrix.Tests.Placement;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>The story of a server, a host and a service, and the rules that cannot hold together.</summary>
public sealed class ExplanationTests
{
    [Fact]
    public void A_server_that_stays_is_explained_with_what_each_host_would_cost()
    {
        var world = new World(3, World.Service("FINANCE", priority: 2), World.Service("SPORTS"));
        var finance = world.Add("FINANCE", Stage.Matrix, "host1");
        world.Add("SPORTS", Stage.Matrix, "host2");
        for (int i = 0; i < 5; i++, world.Now += TimeSpan.FromSeconds(1))
        {
            world.Load("FINANCE", 3);
            world.Load("SPORTS", 3);
        }

        var story = Explain(world, finance.Mark.Name);

        Assert.Equal((ExplainedKind.Server, finance.Mark.ServerId), (story.Kind, story.ServerId));
        Assert.Empty(story.Moves);
        Assert.Null(story.Conflict);
        Assert.Contains("FINANCE-1 stays on host1, in the Matrix: it breaks no rule there", story.Outcome, StringComparison.Ordinal);
        Assert.Equal([("host1", "here"), ("host3", "possible"), ("host2", "excluded")], story.Candidates.Select(c => (c.Host, c.Verdict)));
        Assert.Equal("0 % full without it", story.Candidates[0].Why);
        Assert.Equal(0, story.Candidates[0].Cost);
        Assert.Equal(["isolation"], story.Candidates[2].Rules);
        Assert.Equal([new RuleCount("isolation", 1)], story.Excluded);
        Assert.Equal("host2", Assert.Single(story.NearestMisses).Host);

        var service = Assert.Single(story.Services);
        Assert.Equal((2, 1, 1), (service.Priority, service.Decision.Has, service.Decision.Granted));
        // The first server is worth having, a second one is not; and the cost follows from the same numbers.
        Assert.Equal([1, 2], service.Worth.Select(w => w.Server));
        Assert.True(service.Worth[0] is { Held: true, Granted: true, Worth: > 0 } && service.Worth[1] is { Held: false, Granted: false, Worth: < 0 });
        Assert.Equal(service.CostBefore, service.CostAfter);
        Assert.Equal(story.Services[0].Decision.Reason, world.Plan().Decisions[0].Reason);
    }

    [Fact]
    public void What_a_server_more_saves_is_more_than_it_costs()
    {
        var world = new World(3, World.Service("FINANCE", priority: 2));
        world.Add("FINANCE", Stage.Matrix, "host1");
        world.Add("FINANCE", Stage.Nest);
        for (int i = 0; i < 5; i++, world.Now += TimeSpan.FromSeconds(1))
            world.Load("FINANCE", 7);

        var story = Explain(world, "FINANCE");

        Assert.Equal(ExplainedKind.Service, story.Kind);
        var service = Assert.Single(story.Services);
        Assert.Equal((1, 2), (service.Decision.Has, service.Decision.Granted));
        Assert.True(service.CostAfter < service.CostBefore, $"{service.CostBefore} -> {service.CostAfter}");
        // Without a wake that takes time, the worth of the second server is just what it saves.
        Assert.Equal(service.Worth[1].Worth, service.CostBefore - service.CostAfter, 6);
        Assert.Equal((new OracleSpec().ActivationCost, null, null), (service.ActivationCost, service.WakeTime, service.WakeBytes));
        var server = Explain(world, world.Servers[1].Mark.ServerId);
        Assert.Equal("chosen", server.Candidates[0].Verdict);
        Assert.Contains("Wake FINANCE-2", server.Outcome, StringComparison.Ordinal);
    }

    [Fact]
    public void A_host_tells_what_stands_in_the_way_of_each_service()
    {
        var world = new World(2, World.Service("FINANCE") with { ForbiddenHosts = ["host1"] }, World.Service("SPORTS"));
        world.Add("SPORTS", Stage.Matrix, "host1");
        world.Load("FINANCE", 1);
        world.Load("SPORTS", 1);

        var story = Explain(world, "HOST1");

        Assert.Equal((ExplainedKind.Host, "host1"), (story.Kind, story.Subject));
        Assert.Contains("host1 is open; it has 1 server and the plan does nothing with it", story.Outcome, StringComparison.Ordinal);
        Assert.Equal([("FINANCE", "allowed and forbidden hosts"), ("FINANCE", "isolation"), ("SPORTS", "isolation")], story.Candidates.SelectMany(c => c.Rules.Select(r => (c.Service, r))));
        Assert.Equal(["SPORTS"], story.Services.Select(s => s.Service));

        world.HostStates[0] = world.HostStates[0] with { Suspended = true };
        Assert.Contains("is suspended", Explain(world, "host1").Outcome, StringComparison.Ordinal);
    }

    [Fact]
    public void A_wish_that_cannot_be_met_names_rules_of_which_none_can_be_left_out()
    {
        World Make(Func<ServiceSpec, ServiceSpec>? change = null)
        {
            change ??= s => s;
            var world = new World(
                3,
                change(World.Service("FINANCE", least: 2) with { Isolation = Isolation.Shared, AllowedHosts = ["host1", "host2"], AntiAffinity = ["SPORTS", "FINANCE"] }),
                change(World.Service("SPORTS", priority: 9) with { Isolation = Isolation.Shared, AllowedHosts = ["host2"] }),
                change(World.Service("NEWS", least: 0) with { Isolation = Isolation.Shared, AllowedHosts = ["host3"] }));
            world.Add("SPORTS", Stage.Matrix, "host2");
            foreach (string service in new[] { "FINANCE", "SPORTS", "NEWS" })
                world.Load(service, 0);
            return world;
        }

        var conflict = Explain(Make(), "FINANCE").Conflict;

        Assert.NotNull(conflict);
        Assert.Equal("FINANCE has 2 servers in the Matrix", conflict.Wish);
        Assert.Equal(
            ["FINANCE may run on host1, host2 only", "FINANCE refuses SPORTS, FINANCE beside it", "SPORTS has at least 1 server", "SPORTS may run on host2 only"],
            conflict.Rules.Order(StringComparer.Ordinal));
        // Without any one of them it can be met, as the planner itself shows.
        foreach (var change in new Func<ServiceSpec, ServiceSpec>[]
        {
            s => s.Name == "FINANCE" ? s with { AllowedHosts = [] } : s,
            s => s with { AntiAffinity = [] },
            s => s.Name == "SPORTS" ? s with { Least = 0 } : s,
            s => s.Name == "SPORTS" ? s with { AllowedHosts = [] } : s,
        })
        {
            var story = Explain(Make(change), "FINANCE");
            Assert.True(story.Conflict is null or { Rules.Count: 0 }, story.Conflict?.Summary);
        }
    }

    [Fact]
    public void Of_several_sets_of_rules_in_the_way_the_smallest_is_named_and_the_others_are_not_kept_quiet()
    {
        // Two hosts that are suspended and a service that shares with nobody are three rules that no two servers can live with; one alone forbids all.
        var world = new World(3, World.Service("FINANCE", least: 2) with { ForbiddenHosts = ["host1", "host2", "host3"] });
        world.Load("FINANCE", 0);
        foreach (int host in new[] { 1, 2 })
            world.HostStates[host] = world.HostStates[host] with { Suspended = true };

        var conflict = Explain(world, "FINANCE").Conflict;

        Assert.NotNull(conflict);
        Assert.Equal(["FINANCE may not run on host1, host2, host3"], conflict.Rules);
        Assert.True(conflict.IsSmallest);
        Assert.Contains("Other rules stand in its way besides", conflict.Summary, StringComparison.Ordinal);

        world.Pool = world.Pool with { Services = [.. world.Pool.Services.Select(s => s with { ForbiddenHosts = [] })] };
        conflict = Explain(world, "FINANCE").Conflict;
        Assert.NotNull(conflict);
        Assert.Equal(["FINANCE shares its hosts with nobody (isolation: dedicated)", "host2 is suspended", "host3 is suspended"], conflict.Rules.Order(StringComparer.Ordinal));
        Assert.True(conflict.IsSmallest);
        Assert.Contains("Without any one of them", conflict.Summary, StringComparison.Ordinal);
    }

    [Fact]
    public void A_drop_is_no_conflict_of_rules_but_of_worth()
    {
        var world = new World(2, World.Service("FINANCE", priority: 4, most: 2), World.Service("SPORTS"));
        world.Add("FINANCE", Stage.Matrix, "host1");
        world.Add("SPORTS", Stage.Matrix, "host2");
        for (int i = 0; i < 5; i++, world.Now += TimeSpan.FromSeconds(1))
        {
            world.Load("FINANCE", 15);
            world.Load("SPORTS", 2);
        }

        // SPORTS keeps its least count, so that FINANCE cannot get a second host.
        var conflict = Explain(world, "FINANCE").Conflict;
        Assert.NotNull(conflict);
        Assert.Contains("SPORTS has at least 1 server", conflict.Rules);

        // Where SPORTS could go and is worth more, the rules would allow what is not worth it.
        world.Pool = world.Pool with { Services = [.. world.Pool.Services.Select(s => s with { Least = 0, Priority = s.Name == "FINANCE" ? 0.5 : 40 })] };
        conflict = Explain(world, "FINANCE").Conflict;
        Assert.NotNull(conflict);
        Assert.Empty(conflict.Rules);
        Assert.Contains("worth more", conflict.Summary, StringComparison.Ordinal);
    }

    [Fact]
    public void Sleepers_that_are_held_are_told_of_when_a_new_server_is_made()
    {
        var world = new World(2, World.Service("FINANCE"));
        var held = world.Add("FINANCE", Stage.Nest);
        world.Change(held, s => s with { Mark = s.Mark with { HeldUntil = world.Now.AddMinutes(5) } });
        world.Load("FINANCE", 0);

        var create = Assert.Single(world.Plan().Moves, m => m.Kind == MoveKind.Create);

        Assert.Equal("of the servers of FINANCE that sleep in the nest none may be woken (1 moved by hand and held): a new one is made", create.Reason);
    }

    [Fact]
    public void What_a_plan_does_not_know_or_knows_twice_is_an_error()
    {
        var world = new World(1, World.Service("FINANCE"));
        world.Load("FINANCE", 0);
        Assert.Equal("SubjectNotFound", Assert.Throws<VMatrixException>(() => Explain(world, "nothing")).Id);
        var twin = world.Add("FINANCE", Stage.Nest);
        world.Change(twin, s => s with { Mark = s.Mark with { Name = "host1" } });
        var error = Assert.Throws<VMatrixException>(() => Explain(world, "host1"));
        Assert.Equal("SubjectAmbiguous", error.Id);
        Assert.Contains(twin.Mark.ServerId.ToString(), error.Message, StringComparison.Ordinal);
        Assert.Equal(ExplainedKind.Server, Explain(world, twin.Mark.ServerId).Kind);
    }

    [Fact]
    public void Every_story_of_a_wild_pool_can_be_told_from_what_was_stored_and_belongs_to_the_plan()
    {
        for (int seed = 0; seed < 40; seed++)
        {
            var input = new RandomPool(seed, 1 + (seed * 7 % 12), 1 + (seed % 6), Wildness.Wild).Input();
            var stored = JsonSerializer.Deserialize<PlannerInput>(JsonSerializer.Serialize(input, StateFiles.Json), StateFiles.Json)!;
            var plan = Planner.Plan(input).Plan;
            string text = JsonSerializer.Serialize(plan);
            foreach (string host in input.Pool.Hosts.Select(h => h.Name).Take(3))
                Assert.Equal(text, JsonSerializer.Serialize(Planner.Explain(stored, null, host, CancellationToken.None).Plan));
            foreach (var service in plan.Decisions)
            {
                var story = Planner.Explain(stored, null, service.Service, CancellationToken.None).Explanation;
                Assert.Equal(service, story.Services.Single().Decision);
            }

            foreach (var id in input.Servers.Select(s => s.Mark.ServerId).Concat(plan.Moves.Select(m => m.ServerId)).Distinct().Take(12))
            {
                var story = Planner.Explain(stored, id, null, CancellationToken.None).Explanation;
                var last = plan.Moves.LastOrDefault(m => m.ServerId == id);
                Assert.Equal(plan.Moves.Where(m => m.ServerId == id).Select(m => m.Id), story.Moves.Select(m => m.Id));
                // Where the plan puts a server no rule stands in the way; a server under repair goes to hosts that are not listed.
                if (last is { ToStage: Stage.Matrix } && story.Candidates.Count > 0)
                    Assert.Equal((last.ToHost, "chosen", 0), (story.Candidates[0].Host, story.Candidates[0].Verdict, story.Candidates[0].Rules.Count));
            }
        }
    }

    private static Explanation Explain(World world, string name) => Planner.Explain(world.Input(), null, name, CancellationToken.None).Explanation;

    private static Explanation Explain(World world, Guid id) => Planner.Explain(world.Input(), id, null, CancellationToken.None).Explanation;
}
