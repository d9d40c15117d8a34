using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Planning;
using Xunit;
using Xunit.Sdk;

namespace VMatrix.Tests.Placement;

/// <summary>What holds for every plan of every pool.</summary>
public sealed class PlacementPropertyTests
{
    // Always the same pools, so that a run says something about the change and not about its luck.
    private const int Quick = 300;
    private const int Long = 5000;

    [Fact]
    public void No_plan_breaks_a_rule() => NoPlanBreaksARule(Quick);

    [Fact]
    [Trait("Category", "Long")]
    public void No_plan_of_many_breaks_a_rule() => NoPlanBreaksARule(Long);

    [Fact]
    public void The_second_plan_is_empty() => TheSecondPlanIsEmpty(Quick);

    [Theory]
    [InlineData(27928)] // Room made by clearing a host dropped two of a service where only the first stood above its least count.
    [InlineData(368494)] // A server was dropped for one that the reserve then kept from waking.
    [InlineData(73145)] // A server was dropped for one that then found no place itself.
    [InlineData(64930)] // Two services took one place from each other in turn, by worth and by priority.
    [InlineData(67352)]
    [InlineData(71830)]
    [InlineData(96196)]
    [InlineData(127198)]
    [InlineData(157409)]
    [InlineData(160875)] // A server was dropped for a service that had more than it was granted, on a dead host.
    [InlineData(182170)]
    [InlineData(226505)]
    public void The_second_plan_is_empty_where_it_once_was_not(int seed) => TheSecondPlanIsEmpty(Pool(seed).Input() with { Advice = new HostAdvice() });

    [Theory]
    [InlineData(64420)]
    [InlineData(244738)]
    public void What_changes_hosts_by_a_rule_leaves_the_reserve_to_those_who_wake(int seed)
    {
        var input = Pool(seed).Input() with { Advice = new HostAdvice() };
        Assert.Empty(PlanChecker.Check(input, Planner.Plan(input).Plan));
    }

    [Fact]
    public void Gathering_frees_whole_hosts_pays_for_itself_and_comes_to_an_end() => GatheringHolds(Quick);

    [Fact]
    [Trait("Category", "Long")]
    public void Gathering_in_many_pools_frees_whole_hosts_pays_for_itself_and_comes_to_an_end() => GatheringHolds(12_000);

    private static void GatheringHolds(int pools)
    {
        int gathered = 0;
        ForPools(
            pools,
            pool =>
            {
                // A pool that has settled, an hour later, when its load is lower.
                var wild = WithoutTies(pool.Input());
                var r = new Random(pool.Seed);
                var day = wild with
                {
                    Pool = wild.Pool with
                    {
                        Oracle = wild.Pool.Oracle with { PowerDown = true, IdleHosts = r.Next(3), ReserveHosts = r.Next(2), HostCost = r.Next(2) == 0 ? 0.5 : 0.15 },
                        Services = [.. wild.Pool.Services.Select(s => r.Next(3) > 0 ? s with { Isolation = Isolation.Shared } : s)],
                    },
                    HostPower = true,
                    LiveMigration = r.Next(3) > 0,
                };
                var input = RandomPool.After(day, Planner.Plan(day)) with { Now = day.Now.AddHours(1) };
                input = input with
                {
                    Memory = input.Memory! with { GatherSince = day.Now },
                    Loads = input.Loads.ToDictionary(l => l.Key, l => (IReadOnlyList<ServiceLoad>)[l.Value[0] with { At = input.Now, RequestRate = l.Value[0].RequestRate / 3, ServedRate = l.Value[0].RequestRate / 3 }]),
                };
                var oracle = input.Pool.Oracle;
                var first = Planner.Plan(input);
                Assert.Empty(PlanChecker.Check(input, first.Plan));
                var after = RandomPool.After(input, first);
                var second = Planner.Plan(after).Plan;
                Assert.True(second.Moves.Count == 0, RandomPool.Tell(input, first.Plan, second));
                var gathers = first.Plan.Moves.Where(m => m.Reason.StartsWith("gathers servers", StringComparison.Ordinal)).ToList();
                if (gathers.Count == 0)
                    return;
                Interlocked.Increment(ref gathered);
                string told = RandomPool.Tell(input, first.Plan);
                var emptied = gathers.Select(m => m.FromHost!).Distinct().ToList();
                Assert.All(emptied, host => Assert.False(after.Servers.Any(s => s.Host == host), host + told));
                Assert.All(gathers, m => Assert.True(input.Servers.Any(s => s.Host == m.ToHost || (s.Claimed && s.ClaimedHost == m.ToHost)) || first.Plan.Moves.Any(o => o.ToHost == m.ToHost && !gathers.Contains(o)), m.ServerName + told));
                // Beside the other moves: at least one host more than those that stay up, and what it saves within the horizon is more than the moves cost.
                int before = Idle(RandomPool.After(input, first with { Plan = first.Plan with { Moves = [.. first.Plan.Moves.Except(gathers)] } }));
                int over = Idle(after) > oracle.IdleHosts + oracle.ReserveHosts ? Math.Min(Idle(after) - before, Idle(after) - oracle.IdleHosts - oracle.ReserveHosts) : 0;
                Assert.True(over > 0 && gathers.Count * oracle.ActivationCost <= Math.Max(over, emptied.Count) * oracle.HostCost * oracle.Horizon.TotalMinutes, told);
            });
        Assert.True(gathered > pools / 100, $"{gathered} of {pools} pools had anything to gather");
    }

    private static int Idle(PlannerInput input) => input.Hosts.Count(h =>
        h is { Reachable: true, ProvenDead: false, Suspended: false, PoweredDown: false, ForeignMemoryBytes: 0 } && input.Pool.Hosts.Any(s => s.Name == h.Name && s.Role == HostRole.Matrix)
        && !input.Servers.Any(s => s.Host == h.Name || (s.Claimed && s.ClaimedHost == h.Name)));

    [Fact]
    public void The_same_input_makes_the_same_plan_to_the_byte() =>
        ForPools(100, pool => Assert.Equal(JsonSerializer.Serialize(Planner.Plan(pool.Input())), JsonSerializer.Serialize(Planner.Plan(pool.Input()))));

    [Fact]
    [Trait("Category", "Long")]
    public void The_second_plan_of_many_is_empty() => TheSecondPlanIsEmpty(12_000);

    [Fact]
    public void The_order_in_which_servers_are_listed_is_of_no_account() =>
        ForPools(
            Quick,
            pool =>
            {
                var input = pool.Input();
                var servers = input.Servers.ToArray();
                new Random(pool.Seed).Shuffle(servers);
                Assert.Equal(JsonSerializer.Serialize(Planner.Plan(input).Plan), JsonSerializer.Serialize(Planner.Plan(input with { Servers = servers }).Plan));
            });

    [Fact]
    public void Dropping_follows_the_weights() =>
        ForPools(
            Quick,
            pool =>
            {
                // Dedicated servers on equal hosts: no server above a least count stays while one that waits elsewhere is worth more.
                var input = pool.Input();
                var stories = input.Pool.Services.Select(s => Planner.Explain(input, null, s.Name, CancellationToken.None).Explanation.Services.Single()).ToList();
                foreach (var keeps in stories.Where(s => s.Decision.Granted > s.Least && s.Worth.Count > 0))
                {
                    double last = keeps.Worth.Where(w => w.Server <= keeps.Decision.Granted).Min(w => w.Worth);
                    foreach (var waits in stories.Where(s => s != keeps && s.Decision.Granted < s.Most))
                    {
                        double next = waits.Worth.Where(w => w.Server <= waits.Decision.Granted + 1).Select(w => w.Worth).DefaultIfEmpty(0).Min();
                        Assert.True(next <= Math.Max(0, last) + 1e-9, $"{keeps.Service} keeps one worth {last} while {waits.Service} waits for one worth {next}" + RandomPool.Tell(input, Planner.Plan(input).Plan));
                    }
                }
            },
            Wildness.Plain,
            mostHosts: 8);

    [Fact]
    public void More_weight_never_means_fewer_servers() =>
        ForPools(
            Quick,
            pool =>
            {
                var input = pool.Input();
                var heavier = input with { Pool = input.Pool with { Services = [.. input.Pool.Services.Select((s, i) => i == 0 ? s with { Priority = s.Priority * 3 } : s)] } };
                Assert.True(Planner.Plan(heavier).Plan.Decisions[0].Granted >= Planner.Plan(input).Plan.Decisions[0].Granted, RandomPool.Tell(input, Planner.Plan(input).Plan, Planner.Plan(heavier).Plan));
            },
            Wildness.Plain,
            mostHosts: 8);

    [Fact]
    public void Least_counts_hold_whenever_they_can() =>
        ForPools(
            Quick,
            pool =>
            {
                var input = pool.Input();
                var first = Planner.Plan(input);
                var after = RandomPool.After(input, first);
                if (input.Pool.Services.Sum(s => s.Least) > input.Pool.Hosts.Count)
                    return;
                foreach (var service in input.Pool.Services)
                    Assert.True(Live(after, service.Name) >= service.Least, service.Name + RandomPool.Tell(input, first.Plan));
            },
            Wildness.Plain,
            mostHosts: 12);

    [Fact]
    public void Least_counts_hold_whenever_an_exhaustive_search_finds_a_place_for_each() => LeastCountsHoldWhereTheyCan(2 * Quick);

    [Fact]
    [Trait("Category", "Long")]
    public void Least_counts_of_many_hold_whenever_an_exhaustive_search_finds_a_place_for_each() => LeastCountsHoldWhereTheyCan(20_000);

    private static void LeastCountsHoldWhereTheyCan(int pools) =>
        ForPools(
            pools,
            pool =>
            {
                // Memory, cores, most servers, isolation, allowed hosts and anti-affinity; nothing that may not be moved.
                var wild = pool.Input();
                var input = wild with
                {
                    Pool = wild.Pool with
                    {
                        Hosts = [.. wild.Pool.Hosts.Select(h => h with { Role = HostRole.Matrix })],
                        Services = [.. wild.Pool.Services.Select(s => s with { Licence = null, Freeze = [] })],
                        Oracle = new OracleSpec(),
                    },
                    Hosts = [.. wild.Hosts.Select(h => new HostState { Name = h.Name })],
                    Advice = new HostAdvice { Verdicts = [.. wild.Advice.Verdicts.Where(v => v.Server is null)] },
                    Servers = [.. wild.Servers.Where(s => s is { Claimed: false, Mark: { HeldUntil: null, Stage: not Stage.Chamber, Service: not "GONE" } })],
                };
                var first = Planner.Plan(input);
                var after = RandomPool.After(input, first);
                Assert.Empty(PlanChecker.Check(input, first.Plan));
                if (input.Pool.Services.All(s => Live(after, s.Name) >= s.Least))
                    return;
                var wanted = input.Pool.Services.SelectMany(s => Enumerable.Repeat(s, s.Least)).ToArray();
                Assert.False(Fits(input, wanted, new int[wanted.Length], 0), RandomPool.Tell(input, first.Plan));
            },
            mostHosts: 4);

    /// <summary>Tries every way to put servers on hosts.</summary>
    private static bool Fits(PlannerInput input, ServiceSpec[] servers, int[] at, int next)
    {
        var pool = input.Pool;
        if (next == servers.Length)
            return true;
        var service = servers[next];
        // Servers of one service are alike: their order on the hosts is of no account.
        for (int h = next > 0 && servers[next - 1] == service ? at[next - 1] : 0; h < pool.Hosts.Count; h++)
        {
            var host = pool.Hosts[h];
            var there = Enumerable.Range(0, next).Where(i => at[i] == h).Select(i => servers[i]).ToArray();
            if (service.ForbiddenHosts.Contains(host.Name) || (service.AllowedHosts.Count > 0 && !service.AllowedHosts.Contains(host.Name))
                || input.Advice.Verdicts.Any(v => v.Refusal is not null && v.Host == host.Name && v.Service == service.Name)
                || there.Length >= (host.MostServers ?? int.MaxValue)
                || (there.Length > 0 && (service.Isolation == Isolation.Dedicated || there.Any(t => t.Isolation == Isolation.Dedicated)))
                || there.Any(t => t.AntiAffinity.Contains(service.Name) || service.AntiAffinity.Contains(t.Name))
                || there.Sum(t => t.Image.MemoryBytes) + service.Image.MemoryBytes > host.MemoryBytes
                || there.Sum(t => t.Image.Cores) + service.Image.Cores > (host.Cores ?? int.MaxValue))
            {
                continue;
            }

            at[next] = h;
            if (Fits(input, servers, at, next + 1))
                return true;
        }

        return false;
    }

    [Fact]
    public void Least_counts_are_given_up_from_the_least_important_on() =>
        ForPools(
            Quick,
            pool =>
            {
                var input = pool.Input();
                var first = Planner.Plan(input);
                var after = RandomPool.After(input, first);
                int hosts = input.Pool.Hosts.Count;
                // Dedicated servers on equal hosts: the most important get their least counts until the hosts are used up.
                foreach (var service in input.Pool.Services.OrderByDescending(s => s.Priority))
                {
                    int gets = Math.Min(hosts, service.Least);
                    Assert.True(Live(after, service.Name) >= gets, service.Name + RandomPool.Tell(input, first.Plan));
                    hosts -= gets;
                }
            },
            Wildness.Plain,
            mostHosts: 4);

    [Fact]
    public void What_was_dropped_for_want_of_a_host_comes_back_first_when_the_host_does()
    {
        int dropped = 0;
        ForPools(
            Quick,
            pool =>
            {
                var wild = pool.Input();
                var settled = RandomPool.After(wild, Planner.Plan(wild));
                var without = settled with { Hosts = [settled.Hosts[0] with { Suspended = true }, .. settled.Hosts.Skip(1)] };
                var less = RandomPool.After(without, Planner.Plan(without));
                var back = less with { Hosts = settled.Hosts, Now = less.Now.AddHours(1) };
                back = back with { Loads = back.Loads.ToDictionary(l => l.Key, l => (IReadOnlyList<ServiceLoad>)[l.Value[0] with { At = back.Now }]) };
                var plan = Planner.Plan(back);
                var after = RandomPool.After(back, plan);
                var losers = back.Pool.Services.Where(s => Live(less, s.Name) < Live(settled, s.Name)).ToList();
                if (losers.Count == 0)
                    return;
                Interlocked.Increment(ref dropped);
                bool others = back.Pool.Services.Any(s => Live(after, s.Name) > Live(settled, s.Name));
                foreach (var loser in losers.Where(l => Live(after, l.Name) < Live(settled, l.Name)))
                {
                    // Not worth an activation, and so not worth one to anybody else.
                    double worth = Planner.Explain(back, null, loser.Name, CancellationToken.None).Explanation.Services.Single().Worth.Single(w => w.Server == Live(after, loser.Name) + 1).Worth;
                    Assert.True(worth <= 0 && !others, $"{loser.Name} waits for one worth {worth}" + RandomPool.Tell(settled, Planner.Plan(without).Plan, plan.Plan));
                }
            },
            Wildness.Plain,
            mostHosts: 8);
        Assert.True(dropped > Quick / 4, $"only {dropped} pools dropped anything");
    }

    [Fact]
    public void An_added_host_never_takes_a_server_away() =>
        ForPools(
            Quick,
            pool =>
            {
                var input = pool.Input();
                var more = input with
                {
                    Pool = input.Pool with { Hosts = [.. input.Pool.Hosts, input.Pool.Hosts[0] with { Name = "added" }] },
                    Hosts = [.. input.Hosts, input.Hosts[0] with { Name = "added" }],
                };
                double without = Held(input), with = Held(more);
                // No tolerance: the weighed servers that the pool holds never get fewer.
                Assert.True(with >= without - 1e-9, $"{with} with and {without} without" + RandomPool.Tell(input, Planner.Plan(input).Plan) + RandomPool.Tell(more, Planner.Plan(more).Plan));
            },
            Wildness.Plain,
            mostHosts: 10);

    [Fact]
    public void A_host_added_to_a_settled_pool_with_every_rule_makes_it_no_worse() => AnAddedHostMakesItNoWorse(Quick);

    [Fact]
    [Trait("Category", "Long")]
    public void A_host_added_to_many_settled_pools_with_every_rule_makes_them_no_worse() => AnAddedHostMakesItNoWorse(Long);

    private static void AnAddedHostMakesItNoWorse(int pools)
    {
        // Placement is a heuristic: what the servers above the least counts are worth may fall by so much; the least counts hold as before.
        const double tolerance = 0.05;
        int compared = 0;
        ForPools(
            pools,
            pool =>
            {
                var wild = WithoutTies(pool.Input());
                var settled = RandomPool.After(wild, Planner.Plan(wild));
                // Where a rule could not be mended, the new host mends it, at the price of servers that had no right to their place.
                if (Planner.Plan(settled).Plan.Refused.Any(r => r.What.StartsWith("move ", StringComparison.Ordinal)))
                    return;
                var more = settled with
                {
                    Pool = settled.Pool with { Hosts = [.. settled.Pool.Hosts, settled.Pool.Hosts[0] with { Name = "added", Role = HostRole.Matrix }] },
                    Hosts = [.. settled.Hosts, new HostState { Name = "added" }],
                };
                Interlocked.Increment(ref compared);
                var (least, worth) = Served(settled);
                var (leastWith, worthWith) = Served(more);
                int first = least.Zip(leastWith, (a, b) => b - a).FirstOrDefault(d => d != 0);
                Assert.True(first > 0 || (first == 0 && worthWith >= worth * (1 - tolerance) - 1e-9), $"worth {worthWith} with and {worth} without" + RandomPool.Tell(settled) + RandomPool.Tell(more, Planner.Plan(more).Plan));
            });
        Assert.True(compared > pools / 2, $"only {compared} of {pools} pools could be compared");
    }

    /// <summary>Once a plan is carried out: what of the least counts is met, by priority, and what the servers above them are worth.</summary>
    private static (int[] Least, double Worth) Served(PlannerInput input)
    {
        var after = RandomPool.After(input, Planner.Plan(input));
        var dead = input.Hosts.Where(h => h.ProvenDead).Select(h => h.Name).ToHashSet();
        var live = input.Pool.Services.ToDictionary(s => s.Name, s => after.Servers.Count(v => v.Mark.Stage == Stage.Matrix && v.Mark.Service == s.Name && !dead.Contains(v.Host ?? "")));
        double worth = input.Pool.Services.Sum(s => Planner.Explain(input, null, s.Name, CancellationToken.None).Explanation.Services.Single().Worth.Where(w => w.Server > s.Least && w.Server <= live[s.Name]).Sum(w => Math.Max(0, w.Worth)));
        return ([.. input.Pool.Services.OrderByDescending(s => s.Priority).Select(s => Math.Min(s.Least, live[s.Name]))], worth);
    }

    /// <summary>Servers in the Matrix that are needed, each by its service's priority.</summary>
    private static double Held(PlannerInput input)
    {
        var output = Planner.Plan(input);
        var after = RandomPool.After(input, output);
        return output.Plan.Decisions.Sum(d => Math.Min(d.Needs, Live(after, d.Service)) * input.Pool.Services.Single(s => s.Name == d.Service).Priority);
    }

    private static int Live(PlannerInput input, string service) => input.Servers.Count(s => s.Mark.Stage == Stage.Matrix && s.Mark.Service == service);

    [Fact]
    public void Refreshing_what_has_slept_too_long_breaks_no_rule() =>
        ForPools(
            Quick,
            pool =>
            {
                var wild = pool.Input();
                var input = wild with
                {
                    Pool = wild.Pool with { Nest = wild.Pool.Nest with { MaxSleep = TimeSpan.FromDays(30) } },
                    Servers = [.. wild.Servers.Select(s => s.Mark.Stage == Stage.Nest && s.Power == PowerState.Saved ? s with { AsleepSince = s.Mark.ChangedAt } : s)],
                };
                var plan = Planner.Plan(input).Plan;
                var broken = PlanChecker.Check(input, plan);
                Assert.True(broken.Count == 0, string.Join("\n", broken) + RandomPool.Tell(input, plan));
                var refreshed = plan.Moves.Where(m => m is { Kind: MoveKind.Wake, ToStage: Stage.Chamber }).ToArray();
                Assert.Equal(refreshed.Length, refreshed.Select(m => m.ToHost).Distinct().Count());
                foreach (var move in refreshed)
                {
                    Assert.True(input.Now - input.Servers.Single(s => s.Mark.ServerId == move.ServerId).AsleepSince > TimeSpan.FromDays(30));
                    Assert.DoesNotContain(plan.Moves, m => m is { Kind: MoveKind.Wake, ToStage: Stage.Matrix } && m.Service == move.Service);
                    Assert.Single(plan.Moves, m => m.Kind == MoveKind.Hibernate && m.DependsOn.Contains(move.Id) && m.ServerId == move.ServerId && m.FromHost == move.ToHost);
                    Assert.False(Planner.IsFrozen(input.Pool.Services.Single(s => s.Name == move.Service), input.Now));
                }

                // All else is as it would be without.
                Assert.Equal(Planner.Plan(wild).Plan.Moves.Select(m => (m.Kind, m.ServerName, m.ToHost)), plan.Moves.Where(m => !refreshed.Any(r => r.ServerId == m.ServerId)).Select(m => (m.Kind, m.ServerName, m.ToHost)));
            });

    [Fact]
    public void Balancing_beside_wishes_comes_to_an_end()
    {
        var input = new RandomPool(279071, 7, 4, Wildness.Wild).Input();
        Assert.Empty(PlanChecker.Check(input, Planner.Plan(input).Plan));
    }

    private static void NoPlanBreaksARule(int pools) =>
        ForPools(
            pools,
            pool =>
            {
                var input = pool.Input();
                var plan = Planner.Plan(input).Plan;
                var broken = PlanChecker.Check(input, plan);
                Assert.True(broken.Count == 0, string.Join("\n", broken) + RandomPool.Tell(input, plan));
            });

    private static void TheSecondPlanIsEmpty(int pools) => ForPools(pools, pool => TheSecondPlanIsEmpty(WithoutTies(pool.Input())));

    /// <summary>What is said of single sleepers ends when they wake, and then there may be something better to do.</summary>
    private static PlannerInput WithoutTies(PlannerInput input) => input with { Advice = new HostAdvice { Verdicts = [.. input.Advice.Verdicts.Where(v => v.Server is null)] } };

    private static void TheSecondPlanIsEmpty(PlannerInput input)
    {
        var first = Planner.Plan(input);
        var after = RandomPool.After(input, first);
        var second = Planner.Plan(after).Plan;
        Assert.True(second.Moves.Count == 0, RandomPool.Tell(input, first.Plan, second));
    }

    private static RandomPool Pool(int seed, Wildness wildness = Wildness.Wild, int mostHosts = 12) => new(seed, 1 + (seed * 7 % mostHosts), 1 + (seed % 6), wildness);

    private static void ForPools(int pools, Action<RandomPool> check, Wildness wildness = Wildness.Wild, int mostHosts = 12)
    {
        var wrong = new ConcurrentDictionary<int, string>();
        Parallel.For(0, pools, i =>
        {
            try
            {
                check(Pool(i, wildness, mostHosts));
            }
            catch (XunitException error)
            {
                wrong[i] = error.Message;
            }
        });
        Assert.True(wrong.IsEmpty, $"{wrong.Count} of {pools} pools: {string.Join(", ", wrong.Keys.Order())}\n{(wrong.IsEmpty ? "" : wrong[wrong.Keys.Min()])}");
    }
}
