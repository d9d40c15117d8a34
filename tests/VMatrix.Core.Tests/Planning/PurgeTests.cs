using System;
using System.Linq;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>Disposed servers are deleted when <c>nest.purgeAfter</c> has passed, and not before.</summary>
public sealed class PurgeTests
{
    private readonly World _world = new(2, World.Service("FINANCE", least: 0), World.Service("SPORTS", least: 0));

    [Fact]
    public void A_disposed_server_is_purged_when_its_time_is_up_and_not_before()
    {
        var old = _world.Add("FINANCE", Stage.Disposed);
        var young = _world.Add("FINANCE", Stage.Disposed);
        _world.Change(young, s => s with { Mark = s.Mark with { ChangedAt = World.Start.AddDays(1) } });
        _world.Now = World.Start.AddDays(7).AddSeconds(-1);
        Assert.DoesNotContain(_world.Plan().Moves, m => m.Kind is MoveKind.Purge);

        _world.Now = World.Start.AddDays(7);
        var purge = Assert.Single(_world.Plan().Moves, m => m.Kind is MoveKind.Purge);
        Assert.Equal((old.Mark.ServerId, Stage.Disposed, Stage.Disposed, old.Mark.Generation), (purge.ServerId, purge.FromStage, purge.ToStage, purge.Generation));
        Assert.Contains("purgeAfter is 7 days", purge.Reason);
    }

    [Fact]
    public void Nobody_purges_what_is_held_claimed_of_unknown_age_asleep_or_in_use()
    {
        _world.Now = World.Start.AddDays(30);
        foreach (var stage in new[] { Stage.Nest, Stage.Chamber, Stage.Matrix })
            _world.Add("FINANCE", stage, stage is Stage.Nest ? null : "host1");
        var held = _world.Add("FINANCE", Stage.Disposed);
        _world.Change(held, s => s with { Mark = s.Mark with { HeldUntil = _world.Now.AddMinutes(1) } });
        var claimed = _world.Add("FINANCE", Stage.Disposed);
        _world.Change(claimed, s => s with { Claimed = true, ClaimedTo = Stage.Nest });
        var unknown = _world.Add("FINANCE", Stage.Disposed);
        _world.Change(unknown, s => s with { Mark = s.Mark with { ChangedAt = default } });
        Assert.DoesNotContain(_world.Plan().Moves, m => m.Kind is MoveKind.Purge);
    }

    [Fact]
    public void Where_the_Oracle_only_shadows_nothing_is_purged_and_that_is_told()
    {
        _world.Pool = _world.Pool with { Services = [_world.Pool.Services[0] with { Mode = OracleMode.Shadow }, _world.Pool.Services[1]] };
        _world.Add("FINANCE", Stage.Disposed);
        var sports = _world.Add("SPORTS", Stage.Disposed);
        _world.Now = World.Start.AddDays(8);
        var plan = _world.Plan();
        Assert.Equal(sports.Mark.ServerId, Assert.Single(plan.Moves, m => m.Kind is MoveKind.Purge).ServerId);
        Assert.Contains(plan.Refused, r => r.What == "purge 1 server of FINANCE" && r.Reason.Contains("shadow", StringComparison.Ordinal));
    }

    [Fact]
    public void A_plan_purges_the_oldest_first_and_leaves_the_rest_to_the_next()
    {
        for (int i = 0; i < 60; i++)
        {
            var server = _world.Add("FINANCE", Stage.Disposed);
            _world.Change(server, s => s with { Mark = s.Mark with { ChangedAt = World.Start.AddMinutes(-i) } });
        }

        _world.Now = World.Start.AddDays(8);
        var purged = _world.Plan().Moves.Where(m => m.Kind is MoveKind.Purge).Select(m => m.ServerId).ToHashSet();
        Assert.NotEmpty(purged);
        Assert.True(purged.Count < 60);
        Assert.Equal(purged, _world.Servers.OrderBy(s => s.Mark.ChangedAt).Take(purged.Count).Select(s => s.Mark.ServerId).ToHashSet());
    }
}
