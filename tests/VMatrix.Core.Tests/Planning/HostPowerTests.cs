using System;
using System.Collections.Generic;
using System.Linq;
using CsCheck;
using VMatrix.Planning;
using VMatrix.Tests.Placement;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>Hosts that are powered down while idle, and woken ahead of need.</summary>
public sealed class HostPowerTests
{
    private static readonly TimeSpan s_after = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan s_lead = TimeSpan.FromMinutes(2);

    /// <summary>A pool whose hosts take their time to wake, planned each ten seconds; plans are carried out at once.</summary>
    private sealed class Powered
    {
        private readonly Dictionary<string, DateTimeOffset> _upAt = [];

        public Powered(int hosts, int idle, int reserve, params ServiceSpec[] services)
        {
            World = new World(hosts, services);
            World.Pool = World.Pool with
            {
                Oracle = World.Pool.Oracle with { Interval = TimeSpan.FromSeconds(10), Calm = TimeSpan.FromSeconds(30), PowerDown = true, PowerDownAfter = s_after, HostWakeTime = s_lead, IdleHosts = idle, ReserveHosts = reserve, Season = TimeSpan.FromMinutes(60) },
            };
        }

        public World World { get; }

        public PlannerInput? Last { get; private set; }

        public List<(DateTimeOffset At, HostAction Action)> Actions { get; } = [];

        public int Up => World.HostStates.Count(h => !h.PoweredDown);

        public int Idle => World.HostStates.Count(h => !h.PoweredDown && World.Servers.All(s => s.Host != h.Name));

        public Plan Step(params (string Service, double Rate)[] loads)
        {
            World.Now += TimeSpan.FromSeconds(10);
            for (int h = 0; h < World.HostStates.Count; h++)
            {
                var host = World.HostStates[h];
                if (host.Waking && _upAt[host.Name] <= World.Now)
                    World.HostStates[h] = host with { Waking = false, PoweredDown = false };
            }

            foreach (var (service, rate) in loads)
                World.Load(service, rate);
            var output = Planner.Plan(Last = World.Input() with { HostPower = true, LiveMigration = true });
            World.Memory = output.Memory;
            var plan = output.Plan;
            Assert.Empty(PlanChecker.Check(Last, plan));
            // What is powered down is empty, now and after the plan.
            foreach (var action in plan.Hosts)
            {
                int h = World.HostStates.FindIndex(s => s.Name == action.Host);
                Assert.Equal(action.Kind is HostActionKind.Wake, World.HostStates[h].PoweredDown);
                Assert.False(World.HostStates[h].Waking);
                Assert.DoesNotContain(World.Servers, s => s.Host == action.Host);
                Assert.DoesNotContain(plan.Moves, m => m.ToHost == action.Host);
                Actions.Add((World.Now, action));
                if (action.Kind is HostActionKind.Wake)
                    _upAt[action.Host] = World.Now + s_lead;
                World.HostStates[h] = World.HostStates[h] with { PoweredDown = true, Waking = action.Kind is HostActionKind.Wake };
            }

            World.Apply(plan);
            return plan;
        }
    }

    private static Powered Pool(int hosts = 6, int idle = 1, int reserve = 0) => new(hosts, idle, reserve, World.Service("FINANCE", priority: 2, capacity: 10), World.Service("SPORTS", capacity: 10));

    [Fact]
    public void Idle_hosts_go_down_after_their_time_and_the_reserve_stays()
    {
        var pool = Pool();
        for (int i = 0; i < 29; i++)
            Assert.Empty(pool.Step(("FINANCE", 5), ("SPORTS", 5)).Hosts);
        for (int i = 0; i < 10; i++)
            pool.Step(("FINANCE", 5), ("SPORTS", 5));
        Assert.Equal(["host6", "host5", "host4"], pool.Actions.Select(a => a.Action.Host));
        Assert.Equal((3, 1), (pool.Up, pool.Idle));
        Assert.Contains("idle for 300 s", pool.Actions[0].Action.Reason, StringComparison.Ordinal);
        Assert.Contains("1 are to be kept", pool.Actions[0].Action.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void In_mode_shadow_it_is_told_and_not_done()
    {
        var pool = Pool();
        pool.World.Pool = pool.World.Pool with
        {
            Oracle = pool.World.Pool.Oracle with { Mode = OracleMode.Shadow },
            Services = [.. pool.World.Pool.Services.Select(s => s with { Mode = OracleMode.Automatic })],
        };
        Plan? plan = null;
        for (int i = 0; i < 40; i++)
            plan = pool.Step(("FINANCE", 5), ("SPORTS", 5));
        Assert.Empty(pool.Actions);
        var told = plan!.Refused.Where(r => r.What.StartsWith("power down", StringComparison.Ordinal)).ToArray();
        Assert.Equal(["power down host6", "power down host5", "power down host4"], told.Select(r => r.What));
        Assert.All(told, r => Assert.Contains("mode is shadow, nothing is done; it would be because idle for", r.Reason, StringComparison.Ordinal));
    }

    [Fact]
    public void A_host_is_woken_for_what_has_no_room_and_its_reason_says_so()
    {
        var pool = Pool(idle: 0);
        for (int i = 0; i < 60; i++)
            pool.Step(("FINANCE", 5), ("SPORTS", 5));
        Assert.Equal((2, 0), (pool.Up, pool.Idle));
        pool.Actions.Clear();
        Plan? plan = null;
        for (int i = 0; i < 12 && pool.Actions.Count == 0; i++)
            plan = pool.Step(("FINANCE", 14), ("SPORTS", 5));
        var wake = Assert.Single(pool.Actions).Action;
        Assert.Equal((HostActionKind.Wake, "host3"), (wake.Kind, wake.Host));
        Assert.Contains("FINANCE needs 2 servers in 120 s and has room for 1", wake.Reason, StringComparison.Ordinal);
        Assert.StartsWith("Hosts: wake host3. Servers: ", plan!.Summary, StringComparison.Ordinal);
        var story = Planner.Explain(pool.Last!, null, "host3", default).Explanation;
        Assert.Contains("host3 is powered down; it has 0 servers", story.Outcome, StringComparison.Ordinal);
        Assert.Contains($"the plan wakes it: {wake.Reason}", story.Outcome, StringComparison.Ordinal);
        // It is asked once, and used when it is there.
        for (int i = 0; i < 13; i++)
            pool.Step(("FINANCE", 14), ("SPORTS", 5));
        Assert.Single(pool.Actions);
        Assert.Equal(2, pool.World.Live("FINANCE"));
    }

    [Fact]
    public void What_no_host_can_help_wakes_none()
    {
        var pool = Pool(idle: 0);
        pool.World.Pool = pool.World.Pool with { Services = [pool.World.Pool.Services[0] with { AllowedHosts = ["host1"] }, pool.World.Pool.Services[1]] };
        for (int i = 0; i < 100; i++)
            pool.Step(("FINANCE", i < 60 ? 5 : 45), ("SPORTS", 5));
        Assert.DoesNotContain(pool.Actions, a => a.Action.Kind is HostActionKind.Wake);
        Assert.Equal(2, pool.Up);
    }

    [Fact]
    public void A_wake_goes_around_hosts_that_rules_keep_away()
    {
        var pool = Pool(idle: 0);
        pool.World.Pool = pool.World.Pool with { Services = [.. pool.World.Pool.Services.Select(s => s with { ForbiddenHosts = ["host3", "host4"] })] };
        for (int i = 0; i < 100; i++)
            pool.Step(("FINANCE", i < 60 ? 5 : 14), ("SPORTS", 5));
        var woken = pool.Actions.Where(a => a.Action.Kind is HostActionKind.Wake).Select(a => a.Action.Host).ToList();
        Assert.NotEmpty(woken);
        Assert.All(woken, host => Assert.Contains(host, (string[])["host5", "host6"]));
        Assert.Equal(2, pool.World.Live("FINANCE"));
    }

    [Fact]
    public void A_spike_that_repeats_itself_finds_its_hosts_awake()
    {
        var pool = Pool(idle: 0);
        var wakes = new List<double>();
        for (int minute = 0; minute < 60 * 8; minute++)
        {
            for (int ten = 0; ten < 6; ten++)
            {
                int before = pool.Actions.Count;
                bool spike = minute % 60 is >= 30 and < 40;
                pool.Step(("FINANCE", spike ? 38 : 5), ("SPORTS", 5));
                // From the fifth time on: when, in minutes from the spike's begin, the first host of it was woken.
                if (minute >= 5 * 60 && minute % 60 is > 20 and < 45 && pool.Actions.Skip(before).Any(a => a.Action.Kind is HostActionKind.Wake) && wakes.Count < (minute / 60) - 4)
                    wakes.Add((minute % 60) + (ten / 6.0) - 30);
            }
        }

        Assert.Equal(3, wakes.Count);
        Assert.All(wakes, w => Assert.True(w < 0, $"{w:0.0} minutes from the spike's begin"));
    }

    /// <summary>Six hosts with room for four servers that share them, two on each: the load is low, and was high.</summary>
    private static Powered Night(int idle = 0, Func<OracleSpec, OracleSpec>? oracle = null, Func<ServiceSpec, ServiceSpec>? services = null)
    {
        var pool = Pool(hosts: 6, idle: idle);
        pool.World.Pool = pool.World.Pool with
        {
            Hosts = [.. pool.World.Pool.Hosts.Select(h => h with { MostServers = 4 })],
            Services = [.. pool.World.Pool.Services.Select(s => s with { Isolation = Isolation.Shared }).Select(services ?? (s => s))],
            Oracle = (oracle ?? (o => o))(pool.World.Pool.Oracle),
        };
        for (int h = 1; h <= 6; h++)
        {
            pool.World.Add("FINANCE", Stage.Matrix, $"host{h}");
            pool.World.Add("SPORTS", Stage.Matrix, $"host{h}");
        }

        // As many as are needed, none of them moved lately.
        pool.World.Pinned["FINANCE"] = pool.World.Pinned["SPORTS"] = 6;
        for (int i = 0; i < pool.World.Servers.Count; i++)
            pool.World.Servers[i] = pool.World.Servers[i] with { Mark = pool.World.Servers[i].Mark with { ChangedAt = World.Start.AddDays(-1) } };
        return pool;
    }

    private static List<Plan> Steps(Powered pool, int steps, double rate = 5) => [.. Enumerable.Range(0, steps).Select(_ => pool.Step(("FINANCE", rate), ("SPORTS", rate)))];

    [Fact]
    public void Servers_are_gathered_where_a_host_less_pays_for_the_moves_and_its_reason_says_so()
    {
        var pool = Night();
        var plans = Steps(pool, 60);
        // Twelve servers fill three hosts.
        Assert.Equal((3, 0), (pool.Up, pool.Idle));
        Assert.Equal((6, 6), (pool.World.Live("FINANCE"), pool.World.Live("SPORTS")));
        var gather = Assert.Single(plans, p => p.Moves.Count > 0);
        Assert.Equal(6, gather.Moves.Count);
        Assert.All(gather.Moves, m => Assert.Equal(MoveKind.Relocate, m.Kind));
        Assert.Contains("gathers servers, so that host6 can be powered down: 6 moves cost 1.2, 3 hosts less to keep up save 1.5 a minute, which pays for them in 48 s of the horizon's 300 s", gather.Moves.First(m => m.FromHost == "host6").Reason, StringComparison.Ordinal);
        Assert.Equal(5, plans.IndexOf(gather));
        Assert.Contains(plans[0].Refused, r => r.What == "gather servers on fewer hosts" && r.Reason.Contains("it has been for 0 s", StringComparison.Ordinal));
    }

    [Fact]
    public void Nothing_is_gathered_that_saves_nothing()
    {
        // The hosts that would come free are those that stay up anyway.
        Assert.DoesNotContain(Steps(Night(idle: 3), 60), p => p.Moves.Count > 0);
        Assert.DoesNotContain(Steps(Night(oracle: o => o with { HostCost = 0 }), 60), p => p.Moves.Count > 0);
        // Two moves at 0.2 are not paid for by five minutes at 0.07.
        Assert.DoesNotContain(Steps(Night(oracle: o => o with { HostCost = 0.07 }), 60), p => p.Moves.Count > 0);
        Assert.DoesNotContain(Steps(Night(oracle: o => o with { PowerDown = false }), 60), p => p.Moves.Count > 0);
        Assert.DoesNotContain(Steps(Night(services: s => s with { Mode = OracleMode.Confirm }), 60), p => p.Moves.Count > 0);
        Assert.DoesNotContain(Steps(Night(services: s => s with { Freeze = [new FreezeSpec { From = TimeSpan.FromHours(11), To = TimeSpan.FromHours(14) }] }), 60), p => p.Moves.Count > 0);
        Assert.DoesNotContain(Steps(Night(services: s => s with { AntiAffinity = [s.Name] }), 60), p => p.Moves.Count > 0);
        Assert.DoesNotContain(Steps(Night(services: s => s with { Spread = true }), 60), p => p.Moves.Count > 0);
    }

    [Fact]
    public void What_was_gathered_is_not_spread_again_by_balance()
    {
        var pool = Night(oracle: o => o with { BalanceGap = 0.1 });
        var plans = Steps(pool, 120);
        Assert.Equal((3, 0), (pool.Up, pool.Idle));
        Assert.Single(plans, p => p.Moves.Count > 0);
    }

    [Fact]
    public void A_driver_that_cannot_gets_one_finding()
    {
        var world = Pool().World;
        world.Load("FINANCE", 5);
        world.Load("SPORTS", 5);
        var plan = Planner.Plan(world.Input()).Plan;
        Assert.Empty(plan.Hosts);
        Assert.Single(plan.Refused, r => r.Reason.Contains("cannot power hosts down", StringComparison.Ordinal));
        Assert.Empty(Planner.Plan(world.Input() with { Pool = world.Pool with { Oracle = world.Pool.Oracle with { PowerDown = false } }, HostPower = true }).Plan.Refused);
    }

    [Fact]
    public void Under_any_load_the_reserve_stays_and_no_host_flaps() => Gen.Select(Gen.Int[3, 8], Gen.Int[0, 2], Gen.Int[0, 1], Gen.Double[0, 60].Array[6, 10], Gen.Int[2, 60], Gen.Bool).Sample(
        (hosts, idle, reserve, rates, hold, shared) =>
        {
            var pool = Pool(hosts, idle, reserve);
            if (shared)
            {
                pool.World.Pool = pool.World.Pool with
                {
                    Hosts = [.. pool.World.Pool.Hosts.Select(h => h with { MostServers = 2 })],
                    Services = [.. pool.World.Pool.Services.Select(s => s with { Isolation = Isolation.Shared })],
                };
            }

            for (int i = 0; i < rates.Length * hold; i++)
            {
                int upBefore = pool.Up, actions = pool.Actions.Count;
                pool.Step(("FINANCE", rates[i / hold]), ("SPORTS", rates[^(1 + (i / hold))] / 2));
                foreach (var (_, action) in pool.Actions.Skip(actions).Where(a => a.Action.Kind is HostActionKind.PowerDown))
                    Assert.True(pool.Idle >= idle + reserve, $"{action.Host} went down and left {pool.Idle} idle hosts: {action.Reason}");
                Assert.True(pool.Up >= Math.Min(hosts, idle + reserve));
            }

            // The same host goes down again only after it was up and idle for its time.
            foreach (var host in pool.Actions.GroupBy(a => a.Action.Host))
            {
                var list = host.ToList();
                for (int i = 1; i < list.Count; i++)
                {
                    Assert.NotEqual(list[i - 1].Action.Kind, list[i].Action.Kind);
                    if (list[i].Action.Kind is HostActionKind.PowerDown)
                        Assert.True(list[i].At - list[i - 1].At >= s_lead + s_after, $"{host.Key} was woken at {list[i - 1].At:T} and powered down at {list[i].At:T}");
                }
            }
        }, iter: 60, threads: 1);
}
