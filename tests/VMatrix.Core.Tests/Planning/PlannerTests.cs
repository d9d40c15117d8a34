using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using CsCheck;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Planning;

public sealed class PlannerTests
{
    private static World FinanceAndSports(int hosts = 3)
    {
        var world = new World(hosts, World.Service("FINANCE", priority: 2), World.Service("SPORTS"));
        for (int i = 0; i < hosts; i++)
        {
            world.Add("FINANCE", Stage.Nest);
            world.Add("SPORTS", Stage.Nest);
        }

        return world;
    }

    /// <summary>Runs steady loads for some seconds.</summary>
    private static Plan Run(World world, int seconds, double finance, double sports)
    {
        Plan plan = null!;
        for (int i = 0; i < seconds; i++)
        {
            world.Now += TimeSpan.FromSeconds(1);
            world.Load("FINANCE", finance);
            world.Load("SPORTS", sports);
            plan = world.Plan();
            world.Apply(plan);
        }

        return plan;
    }

    [Fact]
    public void Same_input_same_plan_to_the_byte()
    {
        var world = FinanceAndSports();
        world.Load("FINANCE", 8);
        world.Load("SPORTS", 2);
        var input = world.Input();
        Assert.Equal(JsonSerializer.Serialize(Planner.Plan(input)), JsonSerializer.Serialize(Planner.Plan(input)));
        Assert.NotEqual(Planner.Plan(input).Plan.Id, Planner.Plan(input with { Seed = 8 }).Plan.Id);
    }

    [Fact]
    public void Changes_sides_when_the_load_does_and_nests_first_where_the_pool_is_full()
    {
        var world = FinanceAndSports();
        Run(world, 5, finance: 9, sports: 2);
        Assert.Equal((2, 1), (world.Live("FINANCE"), world.Live("SPORTS")));

        // One second of the new load might be chance; two are not.
        Plan plan = null!;
        for (int second = 0; second < 2; second++)
        {
            world.Now += TimeSpan.FromSeconds(1);
            world.Load("FINANCE", 2);
            world.Load("SPORTS", 9, queue: 4);
            plan = world.Plan();
            if (plan.Moves.Count > 0)
                break;
        }

        var hibernate = Assert.Single(plan.Moves, m => m.Kind == MoveKind.Hibernate);
        var wake = Assert.Single(plan.Moves, m => m.Kind == MoveKind.Wake);
        Assert.Equal("FINANCE", hibernate.Service);
        Assert.Equal("SPORTS", wake.Service);
        Assert.Equal(hibernate.FromHost, wake.ToHost);
        Assert.Equal([hibernate.Id], wake.DependsOn);
        Assert.Contains("9 requests/s now", wake.Reason, StringComparison.Ordinal);
        world.Apply(plan);
        Assert.Equal((1, 2), (world.Live("FINANCE"), world.Live("SPORTS")));
    }

    [Fact]
    public void Drops_the_less_important_when_both_want_more_than_there_is()
    {
        var world = FinanceAndSports(4);
        Run(world, 5, finance: 4, sports: 13);
        Assert.Equal(3, world.Live("SPORTS"));
        // What was moved seconds ago would stay for a while.
        foreach (var server in world.Servers.ToArray())
            world.Change(server, s => s with { Mark = s.Mark with { ChangedAt = World.Start.AddHours(-1) } });
        world.Now += TimeSpan.FromSeconds(1);
        world.Load("FINANCE", 14);
        world.Load("SPORTS", 13);
        var plan = world.Plan();
        var drops = plan.Moves.Where(m => m.IsDrop).ToList();
        Assert.Equal(2, drops.Count);
        Assert.All(drops, d => Assert.Equal("SPORTS", d.Service));
        Assert.All(drops, d => Assert.Contains("FINANCE", d.Reason, StringComparison.Ordinal));
        world.Apply(plan);
        Assert.Equal((3, 1), (world.Live("FINANCE"), world.Live("SPORTS")));
    }

    [Fact]
    public void Steady_load_gives_an_empty_plan_that_says_why()
    {
        var world = FinanceAndSports();
        var plan = Run(world, 20, finance: 7, sports: 2);
        Assert.Empty(plan.Moves);
        Assert.StartsWith("Nothing to do: FINANCE has 2 and needs 2", plan.Summary, StringComparison.Ordinal);
    }

    [Fact]
    public void Noise_around_a_steady_load_does_not_flap()
    {
        var world = FinanceAndSports(8);
        var random = new Random(5);
        int moves = 0, usual = 0, finance = 0, sports = 0;
        for (int t = 0; t < 600; t++)
        {
            world.Now += TimeSpan.FromSeconds(1);
            int f = Poisson(random, 12.5), s = Poisson(random, 7.5);
            world.Load("FINANCE", f);
            world.Load("SPORTS", s);
            var plan = world.Plan();
            world.Apply(plan);
            int wantFinance = Math.Max(1, (int)Math.Ceiling(f / 3.5)), wantSports = Math.Max(1, (int)Math.Ceiling(s / 3.5));
            if (t > 60)
            {
                moves += plan.Moves.Count(m => m.Kind != MoveKind.Create);
                usual += Math.Abs(wantFinance - finance) + Math.Abs(wantSports - sports);
            }

            (finance, sports) = (wantFinance, wantSports);
        }

        // Against servers planned to 70 % of the last second's rate.
        Assert.True(moves < usual / 20, $"{moves} moves, the usual rule {usual}");
    }

    [Fact]
    public void Bursts_of_a_busy_service_do_not_flap()
    {
        // 1000 requests/s, five times as uneven as chance arrivals would be.
        var world = new World(16, World.Service("FINANCE", capacity: 100));
        var random = new Random(6);
        int moves = 0;
        for (int t = 0; t < 300; t++)
        {
            world.Now += TimeSpan.FromSeconds(1);
            world.Load("FINANCE", 1000 + 160 * (random.NextDouble() + random.NextDouble() + random.NextDouble() - 1.5) * 2);
            var plan = world.Plan();
            world.Apply(plan);
            if (t > 60)
                moves += plan.Moves.Count(m => m.Kind != MoveKind.Create);
        }

        Assert.InRange(moves, 0, 6);
        Assert.InRange(world.Live("FINANCE"), 10, 13);
    }

    [Theory]
    [InlineData(5)]
    [InlineData(10)]
    [InlineData(15)]
    public void A_change_is_believed_at_once_though_a_clearer_one_lies_some_seconds_back(int quietSeconds)
    {
        var world = new World(6, World.Service("FINANCE"));
        for (int i = 0; i < 6; i++)
            world.Add("FINANCE", Stage.Nest);
        var random = new Random(9);
        Play(world, random, 20, 26);
        Assert.Equal(6, world.Live("FINANCE"));
        Play(world, random, quietSeconds, 1);
        Assert.InRange(world.Plan().Decisions[0].Needs, 1, 2);
        Play(world, random, 1, 26);
        Assert.InRange(world.Plan().Decisions[0].Needs, 5, 9);

        static void Play(World world, Random random, int seconds, double rate)
        {
            for (int t = 0; t < 2 * seconds; t++)
            {
                world.Now += TimeSpan.FromSeconds(0.5);
                world.Load("FINANCE", 2 * Poisson(random, rate / 2));
                world.Apply(world.Plan());
            }
        }
    }

    internal static int Poisson(Random random, double mean)
    {
        double limit = Math.Exp(-mean), product = 1;
        int n = -1;
        do
        {
            product *= random.NextDouble();
            n++;
        }
        while (product > limit);
        return n;
    }

    [Fact]
    public void Gives_up_only_after_the_calm_time()
    {
        var world = FinanceAndSports();
        Run(world, 5, finance: 9, sports: 1);
        for (int i = 0; i < 9; i++)
        {
            world.Now += TimeSpan.FromSeconds(1);
            world.Load("FINANCE", 1);
            world.Load("SPORTS", 1);
            var plan = world.Plan();
            Assert.Empty(plan.Moves);
        }

        Run(world, 8, finance: 1, sports: 1);
        Assert.Equal(1, world.Live("FINANCE"));
    }

    [Theory]
    [InlineData("the balancer did not answer")]
    [InlineData("a counter of the balancer went backwards")]
    public void A_bad_sample_freezes_its_service_and_says_so(string bad)
    {
        var world = FinanceAndSports();
        Run(world, 5, finance: 9, sports: 2);
        for (int i = 0; i < 60; i++)
        {
            world.Now += TimeSpan.FromSeconds(1);
            world.Load("FINANCE", double.NaN, bad: bad);
            world.Load("SPORTS", 14, queue: 9);
            var plan = world.Plan();
            Assert.DoesNotContain(plan.Moves, m => m.Service == "FINANCE");
            Assert.Contains(bad, plan.Decisions.Single(d => d.Service == "FINANCE").Reason, StringComparison.Ordinal);
            Assert.Contains(bad, plan.Summary, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_stale_sample_is_bad_and_a_fresh_zero_is_good()
    {
        var world = FinanceAndSports();
        Run(world, 5, finance: 9, sports: 2);
        world.Now += TimeSpan.FromSeconds(31);
        world.Load("SPORTS", 0);
        var plan = world.Plan();
        Assert.Contains("old", plan.Decisions.Single(d => d.Service == "FINANCE").Reason, StringComparison.Ordinal);
        Assert.Equal(0, plan.Decisions.Single(d => d.Service == "SPORTS").Rate);
        Run(world, 20, finance: 0, sports: 0);
        Assert.Equal(1, world.Live("FINANCE"));
    }

    [Fact]
    public void A_server_that_keeps_failing_is_disposed_of_and_replaced()
    {
        var world = FinanceAndSports();
        Run(world, 5, finance: 9, sports: 2);
        var sick = world.Servers.First(s => s.Mark.Service == "FINANCE" && s.Mark.Stage == Stage.Matrix);
        world.Change(sick, s => s with { Health = ServerHealth.Failing });
        for (int check = 1; check <= 3; check++)
        {
            world.Now += TimeSpan.FromSeconds(2);
            world.Load("FINANCE", 9);
            world.Load("SPORTS", 2);
            var plan = world.Plan();
            if (check < 3)
            {
                Assert.Empty(plan.Moves);
                continue;
            }

            var dispose = Assert.Single(plan.Moves, m => m.Kind == MoveKind.Dispose);
            Assert.Equal(sick.Mark.ServerId, dispose.ServerId);
            Assert.Contains("3 times in a row of 3 allowed", dispose.Reason, StringComparison.Ordinal);
            var wake = Assert.Single(plan.Moves, m => m.Kind == MoveKind.Wake);
            Assert.Contains(dispose.Id, wake.DependsOn);
            world.Apply(plan);
        }

        Assert.Equal(2, world.Live("FINANCE"));
    }

    [Fact]
    public void A_check_that_passes_in_between_begins_the_count_anew()
    {
        var world = FinanceAndSports();
        Run(world, 5, finance: 9, sports: 2);
        var sick = world.Servers.First(s => s.Mark.Service == "FINANCE" && s.Mark.Stage == Stage.Matrix);
        for (int check = 0; check < 12; check++)
        {
            world.Change(sick, s => s with { Health = check % 3 == 2 ? ServerHealth.Healthy : ServerHealth.Failing });
            world.Now += TimeSpan.FromSeconds(2);
            world.Load("FINANCE", 9);
            world.Load("SPORTS", 2);
            Assert.Empty(world.Plan().Moves);
        }
    }

    [Fact]
    public void Breakage_without_end_is_stopped_and_told()
    {
        var world = FinanceAndSports();
        Run(world, 5, finance: 2, sports: 2);
        int disposed = 0;
        string told = "";
        for (int i = 0; i < 20; i++)
        {
            foreach (var s in world.Servers.Where(s => s.Mark.Service == "FINANCE" && s.Mark.Stage == Stage.Matrix).ToList())
                world.Change(s, x => x with { Health = ServerHealth.Dead });
            world.Now += TimeSpan.FromSeconds(1);
            world.Load("FINANCE", 2);
            world.Load("SPORTS", 2);
            var plan = world.Plan();
            disposed += plan.Moves.Count(m => m.Kind == MoveKind.Dispose);
            told = plan.Summary;
            world.Apply(plan);
        }

        Assert.InRange(disposed, 1, 4);
        Assert.Contains("look at the image and the health check", told, StringComparison.Ordinal);
    }

    [Fact]
    public void Nothing_is_concluded_of_a_host_that_does_not_answer()
    {
        var world = FinanceAndSports();
        Run(world, 5, finance: 9, sports: 2);
        var server = world.Servers.First(s => s.Mark.Service == "FINANCE" && s.Mark.Stage == Stage.Matrix);
        int host = world.HostStates.FindIndex(h => h.Name == server.Host);
        world.HostStates[host] = world.HostStates[host] with { Reachable = false };
        world.Change(server, s => s with { Health = ServerHealth.Unknown, Power = PowerState.Unknown });
        var plan = Run(world, 30, finance: 9, sports: 2);
        Assert.Empty(plan.Moves);
        Assert.Equal(2, world.Live("FINANCE"));

        world.Change(world.Servers.Single(s => s.Mark.ServerId == server.Mark.ServerId), s => s with { Health = ServerHealth.Dead });
        world.Now += TimeSpan.FromSeconds(1);
        world.Load("FINANCE", 9);
        world.Load("SPORTS", 2);
        plan = world.Plan();
        Assert.DoesNotContain(plan.Moves, m => m.ServerId == server.Mark.ServerId);
        Assert.Contains(plan.Refused, r => r.Reason.Contains("proves nothing", StringComparison.Ordinal));
    }

    [Fact]
    public void Pinned_suspended_held_and_claimed_are_respected()
    {
        var world = FinanceAndSports(4);
        world.Pinned["SPORTS"] = 2;
        Run(world, 3, finance: 2, sports: 30);
        Assert.Equal((1, 2), (world.Live("FINANCE"), world.Live("SPORTS")));

        // Suspended: its server moves to the free host.
        var moved = world.Servers.First(s => s.Mark.Service == "SPORTS" && s.Mark.Stage == Stage.Matrix);
        int i = world.HostStates.FindIndex(h => h.Name == moved.Host);
        world.HostStates[i] = world.HostStates[i] with { Suspended = true };
        var plan = Run(world, 1, finance: 2, sports: 30);
        var relocate = Assert.Single(plan.Moves);
        Assert.Equal((MoveKind.Relocate, moved.Mark.ServerId), (relocate.Kind, relocate.ServerId));
        world.HostStates[i] = world.HostStates[i] with { Suspended = false };

        // Held by hand: not given up though pinned lower. Claimed on its way to the nest: counted as gone.
        world.Pinned["SPORTS"] = 1;
        foreach (var s in world.Servers.Where(s => s.Mark.Service == "SPORTS" && s.Mark.Stage == Stage.Matrix).ToList())
            world.Change(s, x => x with { Mark = x.Mark with { HeldUntil = world.Now + TimeSpan.FromMinutes(5) } });
        Assert.Empty(Run(world, 1, finance: 2, sports: 30).Moves);
        var claimed = world.Servers.First(s => s.Mark.Service == "SPORTS" && s.Mark.Stage == Stage.Matrix);
        world.Change(claimed, x => x with { Claimed = true, ClaimedTo = Stage.Nest });
        Assert.Empty(Run(world, 1, finance: 2, sports: 30).Moves);
    }

    [Fact]
    public void Gives_nothing_up_for_servers_that_are_still_on_their_way()
    {
        var world = new World(3, World.Service("FINANCE"));
        world.Add("FINANCE", Stage.Matrix, "host1");
        foreach (string host in (string[])["host2", "host3"])
            world.Change(world.Add("FINANCE", Stage.Nest), x => x with { Claimed = true, ClaimedTo = Stage.Matrix, ClaimedHost = host });
        world.Pinned["FINANCE"] = 1;
        world.Load("FINANCE", 1);
        Assert.Empty(world.Plan().Moves);

        // Two have come: one of the three that serve stays.
        foreach (var s in world.Servers.Where(s => s.Claimed).ToList())
            world.Change(s, x => x with { Mark = x.Mark with { Stage = Stage.Matrix }, Host = x.ClaimedHost, Power = PowerState.Running, Health = ServerHealth.Healthy, Claimed = false, ClaimedTo = null, ClaimedHost = null });
        Assert.Equal(2, world.Plan().Moves.Count(m => m.Kind == MoveKind.Hibernate));
    }

    [Fact]
    public void Moves_nobody_off_a_host_that_is_crowded_only_until_one_has_left()
    {
        var world = new World(2, World.Service("FINANCE") with { Isolation = Isolation.Shared }, World.Service("SPORTS") with { Isolation = Isolation.Shared });
        world.Pool = world.Pool with { Hosts = world.Pool.Hosts.Select(h => h with { Cores = 2 }).ToArray() };
        world.Add("FINANCE", Stage.Matrix, "host1");
        world.Change(world.Add("SPORTS", Stage.Matrix, "host1"), x => x with { Claimed = true, ClaimedTo = Stage.Nest });
        world.Change(world.Add("FINANCE", Stage.Nest), x => x with { Claimed = true, ClaimedTo = Stage.Matrix, ClaimedHost = "host1" });
        world.Add("SPORTS", Stage.Matrix, "host2");
        world.Load("FINANCE", 8);
        world.Load("SPORTS", 1);

        Assert.DoesNotContain(world.Plan().Moves, m => m.Kind == MoveKind.Relocate);
    }

    [Fact]
    public void A_server_that_stops_to_change_hosts_waits_for_one_that_wakes()
    {
        var world = new World(4, World.Service("FINANCE"));
        world.Add("FINANCE", Stage.Matrix, "host1");
        world.Add("FINANCE", Stage.Nest);
        world.HostStates[0] = world.HostStates[0] with { Suspended = true };
        world.Pinned["FINANCE"] = 2;
        world.Load("FINANCE", 8);

        var plan = world.Plan();

        var wake = Assert.Single(plan.Moves, m => m.Kind == MoveKind.Wake);
        Assert.Contains(wake.Id, Assert.Single(plan.Moves, m => m.Kind == MoveKind.Relocate).DependsOn);
    }

    [Fact]
    public void Creates_what_the_nest_lacks_and_wakes_it_after()
    {
        var world = new World(3, World.Service("FINANCE", least: 2));
        world.Load("FINANCE", 1);
        var plan = world.Plan();
        Assert.Equal(2, plan.Moves.Count(m => m.Kind == MoveKind.Create));
        foreach (var wake in plan.Moves.Where(m => m.Kind == MoveKind.Wake))
            Assert.Contains(plan.Moves.Single(m => m.Kind == MoveKind.Create && m.ServerId == wake.ServerId).Id, wake.DependsOn);
        Assert.Equal(["FINANCE-1", "FINANCE-2"], plan.Moves.Where(m => m.Kind == MoveKind.Create).Select(m => m.ServerName));
        world.Apply(plan);
    }

    [Fact]
    public void Shared_servers_fill_hosts_to_their_limits()
    {
        var world = new World(2, World.Service("FINANCE") with { Isolation = Isolation.Shared }, World.Service("SPORTS") with { Isolation = Isolation.Shared });
        world.Pool = world.Pool with { Hosts = world.Pool.Hosts.Select(h => h with { MostServers = 3 }).ToArray() };
        Run(world, 5, finance: 100, sports: 2);
        Assert.Equal((5, 1), (world.Live("FINANCE"), world.Live("SPORTS")));
    }

    [Fact]
    public void Capacity_is_learned_from_a_saturated_server()
    {
        var world = new World(4, World.Service("FINANCE", capacity: null));
        for (int t = 0; t < 20; t++)
        {
            world.Now += TimeSpan.FromSeconds(1);
            int live = world.Live("FINANCE");
            world.Load("FINANCE", 12, queue: live * 5 < 12 ? 6 : 0, served: Math.Min(12, live * 5));
            world.Apply(world.Plan());
        }

        Assert.Equal(3, world.Live("FINANCE"));
    }

    [Fact]
    public void Freeze_windows_hold_all_servers_of_the_service()
    {
        var frozen = World.Service("FINANCE") with { Freeze = [new FreezeSpec { From = TimeSpan.FromHours(22), To = TimeSpan.FromHours(6) }] };
        Assert.True(Planner.IsFrozen(frozen, new DateTimeOffset(2026, 3, 2, 23, 0, 0, TimeSpan.Zero)));
        Assert.True(Planner.IsFrozen(frozen, new DateTimeOffset(2026, 3, 2, 5, 59, 0, TimeSpan.Zero)));
        Assert.False(Planner.IsFrozen(frozen, new DateTimeOffset(2026, 3, 2, 6, 0, 0, TimeSpan.Zero)));
        var world = new World(3, frozen) { Now = new DateTimeOffset(2026, 3, 2, 23, 0, 0, TimeSpan.Zero) };
        world.Load("FINANCE", 50);
        var plan = world.Plan();
        Assert.Empty(plan.Moves);
        Assert.Contains("window", plan.Decisions[0].Reason, StringComparison.Ordinal);
    }

    private static readonly Gen<World> s_worlds =
        from hosts in Gen.Int[1, 12]
        from services in Gen.Select(Gen.Double[0.5, 8], Gen.Int[0, 3], Gen.Int[1, 12], Gen.Double[1, 20], Gen.Bool).Array[1, 5]
        from rates in Gen.Double[0, 60].Array[5]
        from placed in Gen.Int[0, 5].Array[12]
        select Make(hosts, services, rates, placed);

    private static World Make(int hosts, (double Priority, int Least, int Most, double Capacity, bool Shared)[] services, double[] rates, int[] placed)
    {
        var world = new World(hosts, services.Select((s, i) => World.Service($"S{i}", s.Priority, Math.Min(s.Least, s.Most), s.Most, s.Capacity)
            with { Isolation = s.Shared ? Isolation.Shared : Isolation.Dedicated }).ToArray());
        for (int h = 0; h < hosts; h++)
        {
            if (placed[h] < services.Length)
                world.Add($"S{placed[h]}", Stage.Matrix, $"host{h + 1}");
        }

        for (int s = 0; s < services.Length; s++)
            world.Load($"S{s}", rates[s]);
        return world;
    }

    [Fact]
    public void No_plan_breaks_a_rule_and_the_second_is_empty() =>
        s_worlds.Sample(
            world =>
            {
                world.Apply(world.Plan());
                world.Check();
                world.Now += TimeSpan.FromTicks(1);
                var second = world.Plan();
                Assert.True(second.Moves.Count == 0, second.Summary);
                foreach (var service in world.Pool.Services)
                    Assert.InRange(world.Live(service.Name), 0, Math.Max(service.Most, 1));
            },
            iter: 500);

    [Fact]
    public void Least_counts_hold_whenever_they_can() =>
        s_worlds.Sample(
            world =>
            {
                if (world.Pool.Services.Any(s => s.Isolation == Isolation.Shared) || world.Pool.Services.Sum(s => s.Least) > world.Pool.Hosts.Count)
                    return;
                world.Apply(world.Plan());
                foreach (var service in world.Pool.Services)
                    Assert.True(world.Live(service.Name) >= service.Least, service.Name);
            },
            iter: 500);
}
