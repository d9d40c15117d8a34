using System.Linq;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>What is not seen is not dead, and what is not ours takes room.</summary>
public sealed class UnseenTests
{
    [Fact]
    public void A_new_server_gets_no_name_that_one_on_a_silent_host_may_have()
    {
        var world = new World(2, World.Service("FINANCE"));
        world.Load("FINANCE", 1);
        var plan = Planner.Plan(world.Input() with { TakenNames = ["FINANCE-1", "FINANCE-7", "SPORTS-9"] }).Plan;
        Assert.Equal("FINANCE-8", Assert.Single(plan.Moves, m => m.Kind is MoveKind.Create).ServerName);
    }

    [Fact]
    public void Processors_of_machines_that_are_not_ours_count_where_cores_are_counted()
    {
        var world = new World(2, World.Service("FINANCE"));
        world.Pool = world.Pool with { Hosts = [.. world.Pool.Hosts.Select(h => h with { Cores = 2 })] };
        world.Load("FINANCE", 1);
        var input = world.Input();
        Assert.NotEmpty(Planner.Plan(input).Plan.Moves);
        var full = Planner.Plan(input with { Hosts = [.. input.Hosts.Select(h => h with { ForeignCores = 2 })] }).Plan;
        Assert.DoesNotContain(full.Moves, m => m.ToHost is not null);
        var half = Planner.Plan(input with { Hosts = [.. input.Hosts.Select(h => h with { ForeignCores = h.Name == "host1" ? 2 : 0 })] }).Plan;
        Assert.Equal("host2", Assert.Single(half.Moves, m => m.ToHost is not null).ToHost);
    }

    // More virtual processors than cores are ordinary on Hyper-V.
    [Fact]
    public void Processors_of_machines_that_are_not_ours_move_nobody_away()
    {
        var world = new World(4, World.Service("FINANCE", least: 2) with { Isolation = Isolation.Shared });
        world.Pool = world.Pool with { Hosts = [.. world.Pool.Hosts.Select(h => h with { Cores = 2 })] };
        world.Add("FINANCE", Stage.Matrix, "host1");
        world.Add("FINANCE", Stage.Matrix, "host1");
        world.Load("FINANCE", 6);
        var input = world.Input();
        var crowded = Planner.Plan(input with { Hosts = [.. input.Hosts.Select(h => h with { ForeignCores = h.Name == "host1" ? 16 : 0 })] }).Plan;
        Assert.DoesNotContain(crowded.Moves, m => m.FromHost == "host1");

        // More of our own than there are cores are still too many.
        world.Add("FINANCE", Stage.Matrix, "host1");
        Assert.Contains(Planner.Plan(world.Input()).Plan.Moves, m => m.FromHost == "host1");
    }

    [Fact]
    public void Nothing_new_comes_where_foreign_processors_take_all_though_others_run_there()
    {
        var world = new World(1, World.Service("FINANCE", least: 1) with { Isolation = Isolation.Shared });
        world.Pool = world.Pool with { Hosts = [.. world.Pool.Hosts.Select(h => h with { Cores = 4 })] };
        world.Add("FINANCE", Stage.Matrix, "host1");
        world.Load("FINANCE", 50);
        var input = world.Input();
        Assert.Contains(Planner.Plan(input).Plan.Moves, m => m.ToHost == "host1");
        Assert.DoesNotContain(Planner.Plan(input with { Hosts = [.. input.Hosts.Select(h => h with { ForeignCores = 4 })] }).Plan.Moves, m => m.ToHost == "host1" || m.FromHost == "host1");
    }

    [Fact]
    public void A_plan_names_hosts_that_do_not_answer_and_counts_the_rest_of_many()
    {
        var world = new World(12, World.Service("FINANCE"));
        world.Load("FINANCE", 1);
        var input = world.Input();
        var refused = Planner.Plan(input with { Hosts = [.. input.Hosts.Select((h, i) => i < 10 ? h with { Reachable = false, Silence = "The RPC server is unavailable." } : h)] }).Plan.Refused;
        Assert.Equal(8, refused.Count(r => r.Reason.Contains("The RPC server is unavailable", System.StringComparison.Ordinal)));
        Assert.Single(refused, r => r.What == "use 2 more hosts");
    }
}
