using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Drivers;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Placement;

/// <summary>Placement by example: what the help shows is what these hold.</summary>
public sealed class PlacementTests
{
    private const long MiB = 1L << 20;
    private static readonly DateTimeOffset s_now = RandomPool.Now;

    [Fact]
    public void Two_that_must_swap_and_have_no_third_host_park_one_in_the_nest()
    {
        var plan = Plan(2, [Service("FINANCE") with { ForbiddenHosts = ["host1"] }, Service("SPORTS") with { ForbiddenHosts = ["host2"], Priority = 0.5 }], [("FINANCE", "host1"), ("SPORTS", "host2")], out _);
        Assert.Equal([MoveKind.Hibernate, MoveKind.Relocate, MoveKind.Wake], plan.Moves.Select(m => m.Kind));
        // The one that matters less waits in the nest.
        Assert.Equal("SPORTS-2", plan.Moves[0].ServerName);
        Assert.Contains("parked in the nest", plan.Moves[0].Reason, StringComparison.Ordinal);
        Assert.Equal([plan.Moves[0].Id], plan.Moves[1].DependsOn);
    }

    [Fact]
    public void Another_moves_aside_for_one_that_has_nowhere_else_to_go()
    {
        var plan = Plan(2, [Service("FINANCE") with { AllowedHosts = ["host1"] }, Service("SPORTS")], [("SPORTS", "host1")], out _);
        var aside = Assert.Single(plan.Moves, m => m.Kind == MoveKind.Relocate);
        Assert.Equal(("SPORTS", "host2"), (aside.Service, aside.ToHost));
        Assert.Contains("makes room on host1 for a server of FINANCE", aside.Reason, StringComparison.Ordinal);
        var wake = Assert.Single(plan.Moves, m => m.Kind == MoveKind.Wake);
        Assert.Equal("host1", wake.ToHost);
        Assert.Contains(aside.Id, wake.DependsOn);
    }

    [Fact]
    public void A_wish_that_cannot_be_met_names_the_smallest_set_of_rules()
    {
        var plan = Plan(3, [Service("FINANCE") with { Least = 2, AllowedHosts = ["host1", "host2"], AntiAffinity = ["SPORTS"], Isolation = Isolation.Shared }, Service("SPORTS") with { Priority = 9, AllowedHosts = ["host2"], Isolation = Isolation.Shared }],
            [("SPORTS", "host2")], out _, spec => spec with { AntiAffinity = spec.Name == "FINANCE" ? ["SPORTS", "FINANCE"] : [] });
        var refused = Assert.Single(plan.Refused, r => r.What.StartsWith("wake", StringComparison.Ordinal));
        Assert.Contains("cannot hold together: 2 servers of FINANCE that it cannot be without, allowed and forbidden hosts, anti-affinity", refused.Reason, StringComparison.Ordinal);
        Assert.Contains("excluded: 1 not allowed, 2 with a server that it refuses", refused.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void The_set_of_rules_that_is_named_is_the_smallest()
    {
        var random = new Random(5);
        for (int k = 0; k < 500; k++)
        {
            // Each host breaks one to three of seven rules.
            var hosts = Enumerable.Range(0, random.Next(1, 6)).Select(_ => (Rules)Enumerable.Range(0, random.Next(1, 4)).Aggregate(0, (mask, _) => mask | (1 << random.Next(7)))).ToArray();
            int set = PlacementReasons.SmallestSet(hosts);
            Assert.All(hosts, mask => Assert.NotEqual(0, (int)mask & set));
            for (int other = 0; other < 1 << 7; other++)
                Assert.False(int.PopCount(other) < int.PopCount(set) && Array.TrueForAll(hosts, mask => ((int)mask & other) != 0), $"{other:b} is smaller than {set:b}");
        }
    }

    [Fact]
    public void Nothing_moves_for_a_balance_that_nobody_asked_for()
    {
        var servers = Enumerable.Range(0, 6).Select(_ => ("FINANCE", "host1")).ToArray();
        var finance = Service("FINANCE") with { Isolation = Isolation.Shared, Least = 6 };
        Assert.Empty(Plan(2, [finance], servers, out _).Moves);
        var asked = Plan(2, [finance], servers, out _, oracle: new OracleSpec { BalanceGap = 0.2 });
        Assert.Equal(3, asked.Moves.Count);
        Assert.All(asked.Moves, m => Assert.Equal(("host1", "host2"), (m.FromHost, m.ToHost)));
    }

    [Fact]
    public void The_reserve_is_kept_from_all_but_the_least_counts_and_used_up_by_hosts_that_are_lost()
    {
        var finance = Service("FINANCE") with { Least = 2, Most = 4, Capacity = 1 };
        var reserve = new OracleSpec { ReserveHosts = 1 };
        Assert.Equal(3, Plan(4, [finance], [], out _, oracle: reserve, rate: 50).Moves.Count(m => m.Kind == MoveKind.Wake));
        Assert.Equal(2, Plan(2, [finance], [], out _, oracle: reserve, rate: 50).Moves.Count(m => m.Kind == MoveKind.Wake));
        Assert.Equal(3, Plan(4, [finance], [], out _, oracle: reserve, rate: 50, dead: "host4").Moves.Count(m => m.Kind == MoveKind.Wake));
    }

    [Fact]
    public void A_licence_in_use_is_not_assigned_twice_nor_too_early()
    {
        var sql = Service("SQL1") with { Licence = "SQL", Isolation = Isolation.Shared, Least = 3 };
        var licence = new LicenceSpec { Name = "SQL", Seats = 1, InstancesPerHost = 2, ReassignAfter = TimeSpan.FromDays(90) };
        var plan = Plan(3, [sql], [], out var memory, licence: licence);
        var wakes = plan.Moves.Where(m => m.Kind == MoveKind.Wake).ToList();
        Assert.Equal(2, wakes.Count);
        Assert.Single(wakes.Select(w => w.ToHost).Distinct());
        Assert.Equal([new LicenceSeat("SQL", wakes[0].ToHost!, s_now)], memory.Seats);
        // Held for ninety days: the host is suspended meanwhile, and the licence does not follow.
        Assert.DoesNotContain(Plan(3, [sql], [], out _, licence: licence, memory: new PlannerMemory { Seats = [new LicenceSeat("SQL", "host1", s_now.AddDays(-89))] }, suspended: "host1").Moves, m => m.Kind == MoveKind.Wake);
        Assert.Equal(2, Plan(3, [sql], [], out _, licence: licence, memory: new PlannerMemory { Seats = [new LicenceSeat("SQL", "host1", s_now.AddDays(-90))] }, suspended: "host1").Moves.Count(m => m.Kind == MoveKind.Wake));
    }

    [Fact]
    public void An_evacuation_goes_where_there_is_room_and_counts_the_hosts()
    {
        var plan = Plan(3, [Service("FINANCE")], [("FINANCE", "host1")], out _, suspended: "host1");
        var move = Assert.Single(plan.Moves);
        Assert.Equal((MoveKind.Relocate, "host2"), (move.Kind, move.ToHost));
        Assert.Equal("host1 is suspended: to host2 (2 of 3 hosts could take it)", move.Reason);
    }

    [Fact]
    public void A_licensed_host_takes_no_more_instances_than_its_licence_allows_and_others_take_none()
    {
        var sql = Service("SQL1") with { Licence = "SQL", Isolation = Isolation.Shared, Least = 4 };
        var licence = new LicenceSpec { Name = "SQL", InstancesPerHost = 2 };
        var plan = Plan(3, [sql], [], out var memory, licence: licence, hosts: h => h.Name == "host2" ? h with { Licences = ["SQL"] } : h);

        Assert.Equal(["host2", "host2"], plan.Moves.Where(m => m.Kind == MoveKind.Wake).Select(m => m.ToHost));
        Assert.Empty(memory.Seats);
        var refused = Assert.Single(plan.Refused);
        Assert.Contains("1 with the licence's most instances", refused.Reason, StringComparison.Ordinal);
        Assert.Contains("2 without a licence", refused.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void A_licence_is_reassigned_once_its_days_are_over()
    {
        var sql = Service("SQL1") with { Licence = "SQL", Isolation = Isolation.Shared };
        var licence = new LicenceSpec { Name = "SQL", Seats = 1, ReassignAfter = TimeSpan.FromDays(90) };
        PlannerMemory Seat(int days) => new() { Seats = [new LicenceSeat("SQL", "host1", s_now.AddDays(-days))] };

        Assert.DoesNotContain(Plan(2, [sql], [], out var young, licence: licence, memory: Seat(89), suspended: "host1").Moves, m => m.Kind == MoveKind.Wake);
        Assert.Equal([new LicenceSeat("SQL", "host1", s_now.AddDays(-89))], young.Seats);
        Assert.Equal("host2", Plan(2, [sql], [], out var old, licence: licence, memory: Seat(90), suspended: "host1").Moves.Single(m => m.Kind == MoveKind.Wake).ToHost);
        Assert.Equal([new LicenceSeat("SQL", "host2", s_now)], old.Seats);
    }

    [Fact]
    public void A_host_with_the_images_blocks_goes_before_an_emptier_one_but_not_beside_another_of_the_service()
    {
        var finance = Service("FINANCE") with { Isolation = Isolation.Shared };
        string? Goes(int least, params (string, string)[] live) =>
            Plan(3, [finance with { Least = least }, Service("SPORTS") with { Isolation = Isolation.Shared }], live, out _, image: ("FINANCE", "1", "host1")).Moves.Single(m => m is { Kind: MoveKind.Wake, Service: "FINANCE" }).ToHost;

        Assert.Equal("host1", Goes(1, ("SPORTS", "host1")));
        Assert.Equal("host2", Goes(2, ("SPORTS", "host3"), ("FINANCE", "host1")));
    }

    [Fact]
    public void A_host_that_the_platform_rules_out_is_left_out_with_its_reason_and_what_stands_there_stays()
    {
        HostVerdict Out(string host, string why) => new() { Host = host, Service = "FINANCE", Refusal = why };
        var wake = Plan(4, [Service("FINANCE")], [], out _, verdicts: [Out("host1", "no network LAN"), Out("host2", "no network LAN"), Out("host3", "no room on its disk")]).Moves.Single(m => m.Kind == MoveKind.Wake);
        Assert.Equal("host4", wake.ToHost);
        Assert.Contains("1 of 4 hosts could take it; excluded: 3 ruled out (2: no network LAN; 1: no room on its disk); nearest miss host1: ruled out: no network LAN", wake.Reason, StringComparison.Ordinal);

        Assert.Empty(Plan(2, [Service("FINANCE")], [("FINANCE", "host1")], out _, verdicts: [Out("host1", "no network LAN")]).Moves);
        var none = Plan(1, [Service("FINANCE")], [], out _, verdicts: [Out("host1", "no network LAN")]);
        Assert.Empty(none.Moves);
        Assert.Contains("granted 0: no host may take more of it (1 of 1 hosts ruled out: no network LAN)", Assert.Single(none.Decisions).Reason, StringComparison.Ordinal);

        var refuses = Service("FINANCE") with { Least = 2, Isolation = Isolation.Shared, AntiAffinity = ["FINANCE"] };
        var alone = Plan(3, [refuses, Service("SPORTS") with { AllowedHosts = ["host2"] }], [("SPORTS", "host2")], out _, verdicts: [Out("host1", "no network LAN")]);
        var refused = Assert.Single(alone.Refused, r => r.What.StartsWith("wake", StringComparison.Ordinal));
        Assert.Contains("hosts that are ruled out", refused.Reason, StringComparison.Ordinal);
        Assert.Contains("1 ruled out (no network LAN)", refused.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void What_the_platform_could_not_be_asked_is_told_once_by_each_plan()
    {
        var plan = Plan(2, [Service("FINANCE") with { Least = 2 }], [], out _, problems: ["The server does not answer."]);
        Assert.Equal(new RefusedMove("go by what the platform says of hosts", "The server does not answer."), Assert.Single(plan.Refused));
    }

    [Fact]
    public void One_that_sleeps_and_that_no_host_may_take_sleeps_on_and_another_comes_in_its_place()
    {
        var sleeper = new ServerState
        {
            Mark = new ServerMark { ServerId = new Guid(9, 0, 0, new byte[8]), Name = "FINANCE-9", Service = "FINANCE", Image = "1", Stage = Stage.Nest, StateId = Guid.Empty, CreatedAt = s_now.AddDays(-9), ChangedAt = s_now.AddDays(-9) },
            Power = PowerState.Saved,
            MemoryBytes = 128 * MiB,
        };
        HostVerdict Out(string host) => new() { Host = host, Service = "FINANCE", Server = sleeper.Mark.ServerId, Refusal = "its memory was kept on another processor" };
        var there = Assert.Single(Plan(2, [Service("FINANCE")], [], out _, verdicts: [Out("host1")], asleep: [sleeper]).Moves);
        Assert.Equal(("FINANCE-9", "host2"), (there.ServerName, there.ToHost));
        var moves = Plan(2, [Service("FINANCE")], [], out _, verdicts: [Out("host1"), Out("host2")], asleep: [sleeper]).Moves;
        Assert.Equal([MoveKind.Create, MoveKind.Wake], moves.Select(m => m.Kind));
        Assert.Equal("of the servers of FINANCE that sleep in the nest none may be woken (1 that every host with room is ruled out for): a new one is made", moves[0].Reason);
        Assert.DoesNotContain(moves, m => m.ServerName == "FINANCE-9");

        // Nor does the service wait for room on the one host that is left to it.
        moves = Plan(2, [Service("FINANCE"), Service("SPORTS") with { AllowedHosts = ["host2"], Priority = 9 }], [("SPORTS", "host2")], out _, verdicts: [Out("host1")], asleep: [sleeper]).Moves;
        Assert.Equal([MoveKind.Create, MoveKind.Wake], moves.Select(m => m.Kind));
        Assert.Equal("host1", moves[1].ToHost);
    }

    [Fact]
    public void Of_equal_hosts_the_better_rated_one_is_taken_and_a_rating_outweighs_no_rule_and_no_more_than_a_quarter_of_a_host()
    {
        var finance = Service("FINANCE") with { Isolation = Isolation.Shared };
        var sports = Service("SPORTS") with { Isolation = Isolation.Shared };
        HostVerdict Rated(string host, double rating) => new() { Host = host, Service = "FINANCE", Rating = rating };
        string? Goes(ServiceSpec[] services, (string, string)[] live, params HostVerdict[] verdicts) => Plan(3, services, live, out _, verdicts: verdicts).Moves.Single(m => m is { Kind: MoveKind.Wake, Service: "FINANCE" }).ToHost;

        Assert.Equal("host1", Goes([finance], []));
        Assert.Equal("host2", Goes([finance], [], Rated("host1", 0.4), Rated("host2", 0.9), Rated("host3", 0.8)));
        Assert.Equal("host3", Goes([finance], [], Rated("host1", 0.4), Rated("host2", 0.3)));

        // One server is an eighth of a host, two are a quarter of it.
        Assert.Equal("host2", Goes([finance, sports], [("SPORTS", "host2")], Rated("host1", 0.2), Rated("host2", 1), Rated("host3", 0)));
        Assert.Equal("host1", Goes([finance, sports with { Least = 3 }], [("SPORTS", "host2"), ("SPORTS", "host2"), ("SPORTS", "host2")], Rated("host1", 0.01), Rated("host2", 1), Rated("host3", 0)));

        // Spread, affinity and blocks that are there go before it.
        Assert.Equal("host3", Goes([finance with { Spread = true, Least = 3 }], [("FINANCE", "host1"), ("FINANCE", "host2")], Rated("host1", 1), Rated("host2", 1), Rated("host3", 0)));
        Assert.Equal("host3", Goes([finance with { Affinity = ["SPORTS"] }, sports], [("SPORTS", "host3")], Rated("host1", 1), Rated("host2", 1), Rated("host3", 0)));
        Assert.Equal("host3", Plan(3, [finance], [], out _, verdicts: [Rated("host1", 1), Rated("host3", 0)], image: ("FINANCE", "1", "host3")).Moves.Single(m => m.Kind == MoveKind.Wake).ToHost);
    }

    private static ServiceSpec Service(string name) => new() { Name = name, Least = 1, Most = 10, Capacity = 10, Image = new ImageSpec { MemoryBytes = 128 * MiB } };

    private static Plan Plan(
        int count, ServiceSpec[] services, (string Service, string Host)[] live, out PlannerMemory after, Func<ServiceSpec, ServiceSpec>? change = null,
        OracleSpec? oracle = null, double rate = 1, string? dead = null, string? suspended = null, LicenceSpec? licence = null, PlannerMemory? memory = null,
        Func<HostSpec, HostSpec>? hosts = null, (string Service, string Version, string Host)? image = null, HostVerdict[]? verdicts = null, string[]? problems = null, ServerState[]? asleep = null)
    {
        var specs = Enumerable.Range(1, count).Select(i => new HostSpec { Name = $"host{i}", MemoryBytes = 1024 * MiB }).Select(hosts ?? (h => h)).ToArray();
        var input = new PlannerInput
        {
            Pool = new PoolSpec
            {
                Name = "example",
                Path = "/pool.yaml",
                StateFolder = "/state",
                Hypervisor = "simulation",
                Hosts = specs,
                Services = change is null ? services : services.Select(change).ToArray(),
                Nest = new NestSpec { Folder = "/nest" },
                Balancer = new BalancerSpec { Kind = "simulation" },
                Oracle = oracle ?? new OracleSpec(),
                Licences = licence is null ? [] : [licence],
            },
            Now = s_now,
            Hosts = specs.Select(h => new HostState { Name = h.Name, ProvenDead = h.Name == dead, Reachable = h.Name != dead, Suspended = h.Name == suspended, Images = image?.Host == h.Name ? [image.Value.Version] : [] }).ToArray(),
            Images = image is { } made ? new Dictionary<string, string> { [made.Service] = made.Version } : [],
            Servers = live.Select((l, n) => new ServerState
            {
                Mark = new ServerMark { ServerId = new Guid(n + 1, 0, 0, new byte[8]), Name = $"{l.Service}-{n + 1}", Service = l.Service, Image = "1", Stage = Stage.Matrix, StateId = Guid.Empty, CreatedAt = s_now.AddDays(-9), ChangedAt = s_now.AddDays(-9) },
                Host = l.Host,
                Power = PowerState.Running,
                Health = ServerHealth.Healthy,
                MemoryBytes = 128 * MiB,
            }).Concat(asleep ?? []).ToArray(),
            Advice = new HostAdvice { Verdicts = verdicts ?? [], Problems = problems ?? [] },
            Loads = services.ToDictionary(s => s.Name, s => (IReadOnlyList<ServiceLoad>)[new ServiceLoad { Service = s.Name, At = s_now, RequestRate = rate, ServedRate = rate }]),
            Memory = memory,
        };
        var output = Planner.Plan(input);
        after = output.Memory;
        Assert.Empty(PlanChecker.Check(input, output.Plan));
        return output.Plan;
    }
}
