using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
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

        // The clock is believed when it has said so for a day.
        _world.Now = World.Start.AddDays(7);
        Assert.DoesNotContain(PlanOn(TimeSpan.FromHours(23)), m => m.Kind is MoveKind.Purge);
        Assert.Contains(_world.Plan().Refused, r => r.What == "purge 1 server of FINANCE" && r.Reason.Contains("clock", StringComparison.Ordinal));
        _world.Now = World.Start.AddDays(8);
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
        PlanOn(TimeSpan.FromDays(2));
        _world.Change(held, s => s with { Mark = s.Mark with { HeldUntil = _world.Now.AddMinutes(1) } });
        Assert.DoesNotContain(_world.Plan().Moves, m => m.Kind is MoveKind.Purge);
    }

    [Fact]
    public void Where_the_Oracle_only_shadows_nothing_is_purged_and_that_is_told()
    {
        _world.Pool = _world.Pool with { Services = [_world.Pool.Services[0] with { Mode = OracleMode.Shadow }, _world.Pool.Services[1]] };
        _world.Add("FINANCE", Stage.Disposed);
        var sports = _world.Add("SPORTS", Stage.Disposed);
        _world.Now = World.Start.AddDays(8);
        PlanOn(TimeSpan.FromDays(1));
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
        PlanOn(TimeSpan.FromDays(1));
        var purged = _world.Plan().Moves.Where(m => m.Kind is MoveKind.Purge).Select(m => m.ServerId).ToHashSet();
        Assert.NotEmpty(purged);
        Assert.True(purged.Count < 60);
        Assert.Equal(purged, _world.Servers.OrderBy(s => s.Mark.ChangedAt).Take(purged.Count).Select(s => s.Mark.ServerId).ToHashSet());
    }

    [Fact]
    public void A_clock_that_leaps_ahead_and_is_set_right_purges_nothing()
    {
        for (int i = 0; i < 3; i++)
            _world.Add("FINANCE", Stage.Disposed);
        var purges = PlanOn(TimeSpan.FromHours(6)).ToList();

        // Ten years ahead, and wrong for hours; then right again; then ahead again, further each time.
        foreach (int years in new[] { 10, 20, 30, 40, 50 })
        {
            var right = _world.Now;
            _world.Now = right.AddYears(years);
            purges.AddRange(PlanOn(TimeSpan.FromHours(12)));
            _world.Now = right.AddHours(12);
            purges.AddRange(PlanOn(TimeSpan.FromHours(6)));
        }

        // One leap after another, with none set right between: each counts as no more than a quarter of the day.
        for (int leap = 0; leap < 4; leap++)
        {
            _world.Now = _world.Now.AddYears(1);
            purges.AddRange(_world.Plan().Moves);
        }

        Assert.DoesNotContain(purges, m => m.Kind is MoveKind.Purge);
        Assert.Equal(3, _world.Memory!.PurgeDue.Count);
        Assert.All(_world.Memory.PurgeDue, d => Assert.True(d.For < TimeSpan.FromDays(1)));
    }

    [Fact]
    public void How_long_a_server_is_due_outlives_the_process_and_ends_when_it_is_brought_back()
    {
        _world.Add("FINANCE", Stage.Disposed);
        var back = _world.Add("FINANCE", Stage.Disposed);
        _world.Now = World.Start.AddDays(8);
        for (int hours = 0; hours < 24; hours += 6)
        {
            Assert.DoesNotContain(_world.Plan().Moves, m => m.Kind is MoveKind.Purge);
            _world.Memory = JsonSerializer.Deserialize<PlannerMemory>(JsonSerializer.Serialize(_world.Memory));
            _world.Now = _world.Now.AddHours(6);
        }

        // Disposed of again just now.
        _world.Change(back, s => s with { Mark = s.Mark with { ChangedAt = _world.Now } });
        Assert.NotEqual(back.Mark.ServerId, Assert.Single(_world.Plan().Moves, m => m.Kind is MoveKind.Purge).ServerId);
        Assert.DoesNotContain(_world.Memory!.PurgeDue, d => d.Server == back.Mark.ServerId);
    }

    [Fact]
    public void Where_nothing_is_to_be_kept_it_is_purged_at_once()
    {
        _world.Pool = _world.Pool with { Nest = _world.Pool.Nest with { PurgeAfter = TimeSpan.Zero } };
        _world.Add("FINANCE", Stage.Disposed);
        Assert.Single(_world.Plan().Moves, m => m.Kind is MoveKind.Purge);
    }

    [Fact]
    public void Damaged_memory_of_what_is_due_purges_nothing()
    {
        var server = _world.Add("FINANCE", Stage.Disposed);
        _world.Now = World.Start.AddDays(8);
        _world.Memory = new PlannerMemory { PurgeDue = [null!, new(server.Mark.ServerId, DateTimeOffset.MinValue, TimeSpan.MinValue), new(server.Mark.ServerId, DateTimeOffset.MaxValue, TimeSpan.MaxValue)] };
        Assert.DoesNotContain(_world.Plan().Moves, m => m.Kind is MoveKind.Purge);
        _world.Memory = _world.Memory with { PurgeDue = null! };
        Assert.DoesNotContain(_world.Plan().Moves, m => m.Kind is MoveKind.Purge);
    }

    // A plan each hour, of which nothing is carried out. Returns the moves of all of them.
    private Move[] PlanOn(TimeSpan time)
    {
        var moves = new List<Move>();
        for (var end = _world.Now + time; _world.Now < end; _world.Now = _world.Now.AddHours(1))
            moves.AddRange(_world.Plan().Moves);
        return [.. moves];
    }
}
