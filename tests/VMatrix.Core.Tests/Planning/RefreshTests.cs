using System;
using System.Linq;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>Sleepers whose memory has become old are woken in the Chamber once: calmly, and only where nothing is in the way.</summary>
public sealed class RefreshTests
{
    private static readonly DateTimeOffset s_long = World.Start.AddDays(-31);

    /// <summary>A pool that needs nothing, with some servers of FINANCE that have slept for 31 days and longer.</summary>
    private static World Sleepers(int count, int chambers = 1, Func<ServiceSpec, ServiceSpec>? change = null)
    {
        var finance = World.Service("FINANCE", least: 0);
        var world = new World(2, change?.Invoke(finance) ?? finance, World.Service("SPORTS", least: 0));
        var rooms = Enumerable.Range(1, chambers).Select(n => new HostSpec { Name = $"chamber{n}", Role = HostRole.Chamber, MemoryBytes = 200L << 20 }).ToArray();
        world.Pool = world.Pool with { Hosts = [.. world.Pool.Hosts, .. rooms], Nest = world.Pool.Nest with { MaxSleep = TimeSpan.FromDays(30) } };
        world.HostStates.AddRange(rooms.Select(room => new HostState { Name = room.Name }));
        for (int i = 0; i < count; i++)
        {
            var server = world.Add("FINANCE", Stage.Nest);
            world.Change(server, s => s with { AsleepSince = s_long.AddHours(-i) });
        }

        world.Load("FINANCE", 0);
        world.Load("SPORTS", 0);
        return world;
    }

    [Fact]
    public void The_longest_asleep_goes_first_one_at_a_time_in_each_chamber()
    {
        var world = Sleepers(3, chambers: 2);
        var plan = world.Plan();
        Assert.Equal([MoveKind.Wake, MoveKind.Hibernate, MoveKind.Wake, MoveKind.Hibernate], plan.Moves.Select(m => m.Kind));
        Assert.Equal(["FINANCE-3", "FINANCE-2"], plan.Moves.Where(m => m.Kind == MoveKind.Wake).Select(m => m.ServerName));
        Assert.Equal(["chamber1", "chamber2"], plan.Moves.Where(m => m.Kind == MoveKind.Wake).Select(m => m.ToHost).Order());
        var (wake, sleep) = (plan.Moves[0], plan.Moves[1]);
        Assert.Equal((Stage.Nest, Stage.Chamber, 0), (wake.FromStage, wake.ToStage, wake.Generation));
        Assert.Equal((wake.ServerId, Stage.Chamber, Stage.Nest, wake.ToHost, 1), (sleep.ServerId, sleep.FromStage, sleep.ToStage, sleep.FromHost, sleep.Generation));
        Assert.Equal([wake.Id], sleep.DependsOn);
        Assert.StartsWith("it has slept for 31.1 days, longer than the 30 that nest.maxSleep allows: its memory is refreshed on chamber", wake.Reason, StringComparison.Ordinal);
        var refused = Assert.Single(plan.Refused);
        Assert.Equal(("refresh FINANCE-1", "it has slept for 31 days, longer than the 30 that nest.maxSleep allows, but one at a time is refreshed in a chamber"), (refused.What, refused.Reason));

        // Under way they are left alone; refreshed, the last one follows, and then there is nothing to do.
        foreach (var move in plan.Moves.Where(m => m.Kind == MoveKind.Wake))
            world.Change(world.Servers.Single(s => s.Mark.ServerId == move.ServerId), s => s with { Claimed = true, ClaimedTo = Stage.Chamber, ClaimedHost = move.ToHost });
        Assert.Empty(world.Plan().Moves);
        foreach (var move in plan.Moves.Where(m => m.Kind == MoveKind.Wake))
            world.Change(world.Servers.Single(s => s.Mark.ServerId == move.ServerId), s => s with { Claimed = false, ClaimedTo = null, ClaimedHost = null });
        world.Apply(plan);
        foreach (var server in world.Servers.Where(s => s.Mark.Generation == 2).ToArray())
            world.Change(server, s => s with { AsleepSince = world.Now });
        Assert.Equal(["FINANCE-1", "FINANCE-1"], world.Plan().Moves.Select(m => m.ServerName));
    }

    [Fact]
    public void Nothing_is_refreshed_where_something_is_in_the_way()
    {
        Refused(Sleepers(1, change: f => f with { Freeze = [new FreezeSpec { From = TimeSpan.FromHours(11), To = TimeSpan.FromHours(13) }] }), "window in which its servers may not be moved");
        Refused(Sleepers(1, change: f => f with { Mode = OracleMode.Shadow }), "mode is shadow");
        Refused(Sleepers(1, chambers: 0), "no chamber host");
        var world = Sleepers(1);
        world.Load("FINANCE", 0, bad: "the source does not answer");
        Refused(world, "the source does not answer");
        world = Sleepers(1);
        world.HostStates[2] = world.HostStates[2] with { Suspended = true };
        Refused(world, "no chamber host that may be used");
        world = Sleepers(1);
        world.HostStates[2] = world.HostStates[2] with { ForeignMemoryBytes = 100L << 20 };
        Refused(world, "no chamber has room");
        world = Sleepers(1);
        world.Change(world.Servers[0], s => s with { Mark = s.Mark with { HeldUntil = world.Now.AddMinutes(1) } });
        Assert.Empty(world.Plan().Moves);
        world = Sleepers(1);
        world.Pool = world.Pool with { Nest = world.Pool.Nest with { MaxSleep = null } };
        Assert.Empty(world.Plan().Moves);

        static void Refused(World world, string why)
        {
            var plan = world.Plan();
            Assert.Empty(plan.Moves);
            Assert.Contains(why, Assert.Single(plan.Refused, r => r.What == "refresh FINANCE-1").Reason, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_service_that_needs_its_servers_now_is_left_alone()
    {
        var world = Sleepers(4);
        world.Load("FINANCE", 8);
        world.Now += TimeSpan.FromSeconds(1);
        world.Load("FINANCE", 8);
        var plan = world.Plan();
        Assert.NotEmpty(plan.Moves);
        Assert.All(plan.Moves, m => Assert.Equal((MoveKind.Wake, Stage.Matrix), (m.Kind, m.ToStage)));
        Assert.Contains("FINANCE needs its servers now", Assert.Single(plan.Refused, r => r.What.StartsWith("refresh", StringComparison.Ordinal)).Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void One_whose_way_back_was_cut_short_is_taken_back_unless_somebody_has_moved_it()
    {
        var world = Sleepers(1);
        var plan = world.Plan();
        world.Apply(plan with { Moves = [plan.Moves[0]] });
        var back = Assert.Single(world.Plan().Moves);
        Assert.Equal((MoveKind.Hibernate, "chamber1", 1), (back.Kind, back.FromHost, back.Generation));
        Assert.Contains("only to refresh its memory", back.Reason, StringComparison.Ordinal);
        world.Change(world.Servers[0], s => s with { Mark = s.Mark with { Generation = 2 } });
        Assert.Empty(world.Plan().Moves);

        // What an admin has there was never refreshed.
        Assert.Empty(world.Plan().Moves);
    }

    [Fact]
    public void One_that_did_not_wake_is_tried_again_after_an_hour()
    {
        var world = Sleepers(1);
        Assert.Equal(2, world.Plan().Moves.Count);
        world.Now += TimeSpan.FromMinutes(59);
        world.Load("FINANCE", 0);
        Assert.Empty(world.Plan().Moves);
        world.Now += TimeSpan.FromMinutes(1);
        world.Load("FINANCE", 0);
        Assert.Equal(2, world.Plan().Moves.Count);
    }
}
