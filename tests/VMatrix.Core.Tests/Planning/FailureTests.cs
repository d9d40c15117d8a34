using System;
using System.Linq;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>What failed waits, longer each time, and others go first.</summary>
public sealed class FailureTests
{
    private readonly World _world = new(4, World.Service("FINANCE"), World.Service("SPORTS", least: 0));
    private readonly FailureLog _log = new();

    private Plan Plan()
    {
        var output = Planner.Plan(_world.Input() with { Failures = _log.Current });
        _world.Memory = output.Memory;
        return output.Plan;
    }

    /// <summary>A sleeper that no one may want more than another: the one asleep longest goes first.</summary>
    private ServerState Sleeper(int order, string service = "FINANCE")
    {
        var server = _world.Add(service, Stage.Nest);
        _world.Change(server, s => s with { Mark = s.Mark with { ChangedAt = World.Start.AddDays(order - 100) } });
        return server;
    }

    private void Fail(Move move, string cause = "MemoryCorrupt", string? step = "start", MoveStatus status = MoveStatus.Undone) =>
        _log.Add(new MoveRecord { Move = move, Status = status, Step = step, By = "test", StartedAt = _world.Now, EndedAt = _world.Now, ErrorId = cause, Error = $"{cause}: it did not work." });

    private void Succeed(Move move) => _log.Add(new MoveRecord { Move = move, Status = MoveStatus.Done, By = "test", StartedAt = _world.Now, EndedAt = _world.Now });

    private static Move Wake(Plan plan) => plan.Moves.Single(m => m.Kind is MoveKind.Wake && m.ToStage is Stage.Matrix);

    [Fact]
    public void A_sleeper_that_does_not_wake_waits_and_the_next_one_goes_first()
    {
        var bad = Sleeper(1);
        var good = Sleeper(2);
        var wake = Wake(Plan());
        Assert.Equal(bad.Mark.ServerId, wake.ServerId);
        Fail(wake);

        _world.Now += TimeSpan.FromSeconds(1);
        var plan = Plan();
        Assert.Equal(good.Mark.ServerId, Wake(plan).ServerId);
        Assert.DoesNotContain(plan.Moves, m => m.Kind is MoveKind.Create);
        var why = Assert.Single(plan.Refused, r => r.What == $"wake {bad.Mark.Name}").Reason;
        Assert.Contains("MemoryCorrupt: it did not work", why, StringComparison.Ordinal);
        Assert.Contains("failed once", why, StringComparison.Ordinal);
    }

    [Fact]
    public void Each_failure_makes_the_wait_longer_up_to_a_limit_and_a_success_ends_it()
    {
        var bad = Sleeper(1);
        var move = Wake(Plan());
        var waits = Enumerable.Range(0, 12).Select(_ =>
        {
            Fail(move);
            return _log.Current.Single(f => f.Scope is FailureScope.Server).Wait;
        }).ToList();
        Assert.All(waits.Zip(waits.Skip(1)), pair => Assert.True(pair.Second > pair.First || pair.Second == TimeSpan.FromHours(1), $"{pair}"));
        Assert.Equal((TimeSpan.FromMinutes(1), TimeSpan.FromHours(1)), (waits[0], waits[^1]));

        Assert.DoesNotContain(Plan().Moves, m => m.ServerId == bad.Mark.ServerId);
        _world.Now += TimeSpan.FromHours(1);
        Assert.Equal(bad.Mark.ServerId, Wake(Plan()).ServerId);
        Succeed(move);
        Assert.Empty(_log.Current);
    }

    [Fact]
    public void A_corrupt_sleeper_beside_good_ones_is_woken_a_few_times_an_hour_and_the_good_ones_serve()
    {
        // The corrupt one is always the first choice.
        var bad = Sleeper(1);
        Sleeper(2);
        Sleeper(3);
        int tries = 0;
        for (int second = 0; second < 3600; second++)
        {
            _world.Now += TimeSpan.FromSeconds(1);
            _world.Load("FINANCE", 8);
            var plan = Plan();
            foreach (var move in plan.Moves.Where(m => m.ServerId == bad.Mark.ServerId))
            {
                tries++;
                Fail(move);
            }

            _world.Apply(plan with { Moves = [.. plan.Moves.Where(m => m.ServerId != bad.Mark.ServerId)] });
            if (second > 3)
                Assert.Equal(2, _world.Live("FINANCE"));
        }

        Assert.InRange(tries, 1, 7);
    }

    [Fact]
    public void What_failed_says_nothing_of_a_server_that_has_moved_since()
    {
        var server = Sleeper(1);
        Fail(Wake(Plan()));
        _world.Change(server, s => s with { Mark = s.Mark with { Generation = 2 } });
        Assert.Equal(server.Mark.ServerId, Wake(Plan()).ServerId);
    }

    [Fact]
    public void A_balancer_that_refuses_a_service_costs_one_boot_and_no_other_service_anything()
    {
        Sleeper(1);
        Sleeper(2);
        Sleeper(1, "SPORTS");
        _world.Load("SPORTS", 4);
        var plan = Plan();
        Fail(plan.Moves.Single(m => m.Service == "FINANCE"), "BalancerRefused", step: "join");

        _world.Now += TimeSpan.FromSeconds(1);
        _world.Load("SPORTS", 4);
        plan = Plan();
        Assert.DoesNotContain(plan.Moves, m => m.Service == "FINANCE");
        Assert.Contains(plan.Moves, m => m is { Service: "SPORTS", Kind: MoveKind.Wake });
        Assert.Contains("BalancerRefused", Assert.Single(plan.Refused, r => r.What == "wake servers of FINANCE").Reason, StringComparison.Ordinal);
        Assert.Contains("BalancerRefused", plan.Decisions.Single(d => d.Service == "FINANCE").Reason, StringComparison.Ordinal);

        _world.Now += TimeSpan.FromMinutes(1);
        Assert.Contains(Plan().Moves, m => m is { Service: "FINANCE", Kind: MoveKind.Wake });
    }

    [Fact]
    public void New_servers_that_fail_one_after_another_speak_against_the_image_and_no_more_are_made()
    {
        int made = 0;
        for (int second = 0; second < 50; second++)
        {
            _world.Now += TimeSpan.FromSeconds(1);
            var plan = Plan();
            made += plan.Moves.Count(m => m.Kind is MoveKind.Create);
            _world.Apply(plan with { Moves = [.. plan.Moves.Where(m => m.Kind is MoveKind.Create)] });
            foreach (var wake in plan.Moves.Where(m => m.Kind is MoveKind.Wake))
                Fail(wake, "HealthCheckFailed", "check");
        }

        Assert.Equal(FailureLog.ServersAgainstImage, made);
        Assert.Contains("HealthCheckFailed", Assert.Single(Plan().Refused, r => r.What == "make new servers of FINANCE").Reason, StringComparison.Ordinal);

        // One that was never tried is no new one: it may wake.
        var sleeper = Sleeper(1);
        Assert.Equal(sleeper.Mark.ServerId, Wake(Plan()).ServerId);
    }

    [Fact]
    public void A_server_that_cannot_be_made_is_not_asked_for_each_second()
    {
        var create = Plan().Moves.Single(m => m.Kind is MoveKind.Create);
        Fail(create, "ImageNotFound", "image");
        _world.Now += TimeSpan.FromSeconds(1);
        var plan = Plan();
        Assert.Empty(plan.Moves);
        Assert.Contains(plan.Refused, r => r.What == "make new servers of FINANCE" && r.Reason.Contains("ImageNotFound", StringComparison.Ordinal));
    }

    [Fact]
    public void A_host_on_which_servers_fail_alike_is_left_out_while_there_is_another()
    {
        Sleeper(1);
        var wake = Wake(Plan());
        string host = wake.ToHost!;
        Fail(wake, "DiskFull");
        var second = Sleeper(2);
        Fail(wake with { Id = Guid.NewGuid(), ServerId = second.Mark.ServerId }, "DiskFull");
        Sleeper(3);
        var plan = Plan();
        Assert.NotEqual(host, Wake(plan).ToHost);

        // The last host there is goes on being tried.
        for (int h = 0; h < _world.HostStates.Count; h++)
            _world.HostStates[h] = _world.HostStates[h] with { Reachable = _world.HostStates[h].Name == host };
        Assert.Equal(host, Wake(Plan()).ToHost);

    }

    [Fact]
    public void Stopped_moves_and_those_held_up_by_others_are_no_failures()
    {
        var server = Sleeper(1);
        var move = Wake(Plan());
        Fail(move, "Cancelled", status: MoveStatus.Cancelled);
        Fail(move, "Cancelled");
        Fail(move, "DependencyNotDone", status: MoveStatus.Refused);
        Fail(move, "ServerClaimed", status: MoveStatus.Refused);
        Fail(move, "Interrupted", status: MoveStatus.Interrupted);
        Assert.Empty(_log.Current);
        Assert.Equal(server.Mark.ServerId, Wake(Plan()).ServerId);
    }

    [Fact]
    public void A_refusal_waits_a_little_and_a_failure_dated_in_the_future_not_for_ever()
    {
        Sleeper(1);
        var move = Wake(Plan());
        Fail(move, "NoRoom", null, MoveStatus.Refused);
        Assert.True(_log.Current.Single().Wait < TimeSpan.FromMinutes(1));

        _world.Now += TimeSpan.FromDays(400);
        Fail(move, "NoRoom", null, MoveStatus.Refused);
        _world.Now -= TimeSpan.FromDays(400);
        var failure = _log.Current.Single();
        Assert.True(failure.RetryAt(_world.Now) <= _world.Now + failure.Wait);
    }

    [Fact]
    public void A_live_server_whose_hibernation_fails_waits_and_another_one_goes()
    {
        for (int i = 1; i <= 3; i++)
        {
            var server = _world.Add("FINANCE", Stage.Matrix, $"host{i}");
            _world.Change(server, s => s with { Mark = s.Mark with { ChangedAt = World.Start.AddDays(-1) } });
        }

        Move? first = null;
        for (int second = 0; second < 120 && first is null; second++)
        {
            _world.Now += TimeSpan.FromSeconds(1);
            _world.Load("FINANCE", 6);
            first = Plan().Moves.FirstOrDefault(m => m.Kind is MoveKind.Hibernate);
        }

        Fail(first!, "SaveFailed", "save");
        _world.Now += TimeSpan.FromSeconds(1);
        _world.Load("FINANCE", 6);
        var plan = Plan();
        Assert.NotEqual(first!.ServerId, Assert.Single(plan.Moves, m => m.Kind is MoveKind.Hibernate).ServerId);
        Assert.Contains(plan.Refused, r => r.What == $"move {first.ServerName}" && r.Reason.Contains("SaveFailed", StringComparison.Ordinal));
    }

    [Fact]
    public void A_broken_server_that_cannot_be_disposed_of_is_replaced_and_tried_again_later()
    {
        var broken = _world.Add("FINANCE", Stage.Matrix, "host1");
        _world.Change(broken, s => s with { Health = ServerHealth.Dead });
        Sleeper(1);
        var dispose = Plan().Moves.Single(m => m.Kind is MoveKind.Dispose);
        Fail(dispose, "StopFailed", "stop");
        _world.Now += TimeSpan.FromSeconds(1);
        var plan = Plan();
        Assert.DoesNotContain(plan.Moves, m => m.Kind is MoveKind.Dispose);
        Assert.Contains(plan.Moves, m => m.Kind is MoveKind.Wake);
        Assert.Contains(plan.Refused, r => r.What == $"dispose {broken.Mark.Name}" && r.Reason.Contains("StopFailed", StringComparison.Ordinal));
    }

    [Fact]
    public void The_same_failures_make_the_same_plan()
    {
        Sleeper(1);
        Sleeper(2);
        _world.Load("FINANCE", 1);
        _world.Load("SPORTS", 1);
        Fail(Plan().Moves.First(m => m is { Kind: MoveKind.Wake, Service: "FINANCE" }));
        var input = _world.Input() with { Failures = _log.Current };
        Assert.Equal(System.Text.Json.JsonSerializer.Serialize(Planner.Plan(input)), System.Text.Json.JsonSerializer.Serialize(Planner.Plan(input)));
    }
}
