using System;
using System.Linq;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>Plans after the clock was set back: what was stamped before seems to come from the future.</summary>
public sealed class ClockSetBackTests
{
    [Fact]
    public void A_sample_from_the_future_is_bad_and_not_fresh_for_ever()
    {
        var world = new World(4, World.Service("FINANCE"));
        world.Add("FINANCE", Stage.Matrix, "host1");
        world.Load("FINANCE", 3);
        Assert.Null(Assert.Single(world.Plan().Decisions).Bad());

        world.Now -= TimeSpan.FromHours(1);

        Assert.Contains("set back", Assert.Single(world.Plan().Decisions).Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void An_answer_of_the_balancer_from_the_future_is_bad()
    {
        var pool = new World(1, World.Service("FINANCE")).Pool;
        VMatrix.Drivers.BalancerReport Report(int second, long requests) => new()
        {
            At = World.Start.AddSeconds(second), Incarnation = "a", Members = [], Services = [new VMatrix.Drivers.ServiceCounters { Service = "FINANCE", Requests = requests, Served = requests }],
        };
        Assert.Null(Sensing.Measure(pool, Report(0, 1), Report(2, 5), World.Start.AddSeconds(2))["FINANCE"].Bad);
        Assert.Contains("set back", Sensing.Measure(pool, Report(0, 1), Report(2, 5), World.Start.AddHours(-1))["FINANCE"].Bad, StringComparison.Ordinal);
    }

    [Fact]
    public void A_failing_server_is_replaced_though_its_failures_were_counted_before()
    {
        var world = new World(3, World.Service("FINANCE"));
        var server = world.Add("FINANCE", Stage.Matrix, "host1");
        world.Add("FINANCE", Stage.Nest);
        world.Change(server, s => s with { Health = ServerHealth.Failing });
        world.Load("FINANCE", 1);
        Assert.DoesNotContain(world.Plan().Moves, m => m.ServerId == server.Mark.ServerId);
        world.Now -= TimeSpan.FromDays(1);

        bool replaced = false;
        for (int check = 0; check < 10 && !replaced; check++)
        {
            world.Now += TimeSpan.FromSeconds(30);
            world.Load("FINANCE", 1);
            replaced = world.Plan().Moves.Any(m => m.ServerId == server.Mark.ServerId);
        }

        Assert.True(replaced);
    }

    [Theory]
    [InlineData(2)]
    public void The_forecast_learns_again(int minutesBack)
    {
        // A clock set back by less than a season catches up with what was learned.
        var world = new World(4, World.Service("FINANCE", capacity: 5));
        world.Add("FINANCE", Stage.Matrix, "host1");
        Run(20, 4);
        world.Now -= TimeSpan.FromMinutes(minutesBack);
        Run(minutesBack + 2, 4);
        long before = Learned(), minute = Minute();
        Run(5, 4);
        Assert.Equal((before + 5, minute + 5), (Learned(), Minute()));

        void Run(int minutes, double rate)
        {
            for (int step = 0; step < minutes * 6; step++)
            {
                world.Now += TimeSpan.FromSeconds(10);
                world.Load("FINANCE", rate);
                world.Plan();
            }
        }

        Forecaster Forecast() => Assert.IsType<Forecaster>(world.Memory!.Forecasts["FINANCE"].Open(new ForecastSettings { Day = 24 * 60 }));
        long Learned() => Forecast().Seen;
        long Minute() => Forecast().Minute;
    }

    [Fact]
    public void A_hold_from_the_future_is_no_longer_than_it_was_made_for()
    {
        var world = new World(3, World.Service("FINANCE", least: 0));
        var server = world.Add("FINANCE", Stage.Matrix, "host1");
        world.Change(server, s => s with { Mark = s.Mark with { ChangedAt = World.Start.AddYears(1), HeldUntil = World.Start.AddYears(1).AddMinutes(30) } });
        world.HostStates[0] = world.HostStates[0] with { Suspended = true };
        world.Load("FINANCE", 3);

        var refused = world.Plan().Refused;

        Assert.Contains(refused, r => r.Reason.Contains($"held until {World.Start.AddMinutes(30):u}", StringComparison.Ordinal));
    }
}

file static class Decisions
{
    /// <summary>Why a service is frozen; null when it is not.</summary>
    public static string? Bad(this ServiceDecision decision) => decision.Reason.Contains("frozen", StringComparison.Ordinal) ? decision.Reason : null;
}
