using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>Which moves wait, and the score of a service that is only shadowed.</summary>
public sealed class ModeTests
{
    private static readonly DateTimeOffset s_start = new(2026, 3, 2, 9, 0, 0, TimeSpan.Zero);

    [Fact]
    public void What_depends_on_a_move_that_waits_waits_too()
    {
        var pool = Pool(("FINANCE", OracleMode.Confirm), ("SPORTS", null));
        var off = Move("FINANCE", Guid.NewGuid());
        var on = Move("SPORTS", Guid.NewGuid()) with { DependsOn = [off.Id] };
        var free = Move("SPORTS", Guid.NewGuid());

        Assert.Equal([off, on], Modes.Waiting(pool, Plan(s_start, [off, on, free])));
        Assert.Equal([off, on, free], Modes.Waiting(pool with { Oracle = new() { Mode = OracleMode.Confirm } }, Plan(s_start, [off, on, free])));
        Assert.Empty(Modes.Waiting(Pool(("FINANCE", null), ("SPORTS", null)), Plan(s_start, [off, on, free])));
    }

    [Fact]
    public void A_wish_is_the_same_whatever_the_ids_of_moves_and_new_servers()
    {
        var server = Guid.NewGuid();
        Move[] one = [Made(Guid.NewGuid()), Move("SPORTS", server)], two = [Made(Guid.NewGuid()), Move("SPORTS", server)];
        Assert.True(Modes.SameWish(one, two));
        Assert.False(Modes.SameWish(one, [.. two.Take(1)]));
        Assert.False(Modes.SameWish(one, [two[0], two[1] with { ToHost = "elsewhere" }]));
        Assert.False(Modes.SameWish(one, [two[0], Move("SPORTS", Guid.NewGuid())]));

        static Move Made(Guid server) => Move("FINANCE", server) with { Kind = MoveKind.Create };
    }

    [Fact]
    public void A_shadow_pays_for_what_it_would_have_held_woken_and_missed()
    {
        // One server of 10/s is held; 25/s come. The Oracle grants three, which serve after a minute.
        var pool = Pool(("FINANCE", OracleMode.Shadow)) with { Oracle = new() { ServerCost = 0.05, ActivationCost = 0.2 } };
        var wake = new Dictionary<string, TimeSpan> { ["FINANCE"] = TimeSpan.FromSeconds(60) };
        IReadOnlyList<ShadowTally> tally = [];
        for (int minute = 0; minute <= 3; minute++)
            tally = Shadowing.Score(pool, tally, Plan(s_start.AddMinutes(minute), [], new ServiceDecision { Service = "FINANCE", Rate = 25, Capacity = 10, Has = 1, Needs = 3, Granted = 1, Wanted = 3, Reason = "" }), wake);

        var score = Assert.Single(tally).Score;
        Assert.Equal(3, score.Minutes, 9);
        Assert.Equal(3 * 60 * 15, score.Unserved, 6);
        // Asked for at the first plan, live a minute later: only the first minute is missed.
        Assert.Equal(60 * 15, score.OracleUnserved, 6);
        Assert.Equal((3, 9), ((int)score.ServerMinutes, (int)Math.Round(score.OracleServerMinutes)));
        Assert.Equal((0, 2), (score.Activations, score.OracleActivations));
        Assert.Equal(3 * (1.5 + 0.05), score.Cost, 9);
        Assert.Equal(1.5 + (9 * 0.05) + (2 * 0.2), score.OracleCost, 9);

        // A gap in the samples is not scored.
        var later = Shadowing.Score(pool, tally, Plan(s_start.AddHours(2), [], new ServiceDecision { Service = "FINANCE", Rate = 25, Capacity = 10, Has = 1, Needs = 3, Granted = 1, Wanted = 3, Reason = "" }), wake);
        Assert.Equal(score.Minutes, later[0].Score.Minutes);
    }

    [Fact]
    public void A_shadowed_service_takes_no_room_from_one_that_is_switched()
    {
        var world = new World(2, World.Service("FINANCE", priority: 9, least: 2) with { Mode = OracleMode.Shadow }, World.Service("SPORTS", least: 2));
        world.Load("FINANCE", 1);
        world.Load("SPORTS", 1);

        var plan = world.Plan();

        Assert.All(plan.Moves, m => Assert.Equal("SPORTS", m.Service));
        Assert.Equal(2, plan.Moves.Count(m => m.ToStage == Stage.Matrix));
        var finance = plan.Decisions.Single(d => d.Service == "FINANCE");
        Assert.Equal((0, 2), (finance.Granted, finance.Wanted));
        Assert.Contains(plan.Refused, r => r.What == "wake 2 servers of FINANCE" && r.Reason.Contains("shadow", StringComparison.Ordinal));
    }

    private static Move Move(string service, Guid server) => new()
    {
        Id = Guid.NewGuid(),
        Kind = MoveKind.Wake,
        ServerId = server,
        ServerName = service,
        Service = service,
        FromStage = Stage.Nest,
        ToStage = Stage.Matrix,
        ToHost = "host1",
        Reason = "test",
    };

    private static Plan Plan(DateTimeOffset at, IReadOnlyList<Move> moves, params ServiceDecision[] decisions) => new()
    {
        Id = Guid.NewGuid(),
        Pool = "test",
        CreatedAt = at,
        ExpiresAt = at.AddMinutes(5),
        Moves = moves,
        Decisions = decisions,
        Summary = "test",
    };

    private static PoolSpec Pool(params (string Name, OracleMode? Mode)[] services) => new()
    {
        Name = "test",
        Path = "/pool.yaml",
        StateFolder = "/state",
        Hypervisor = "simulation",
        Hosts = [],
        Services = [.. services.Select(s => new ServiceSpec { Name = s.Name, Mode = s.Mode, Image = new() })],
        Nest = new() { Folder = "/nest" },
        Balancer = new() { Kind = "simulation" },
    };
}
