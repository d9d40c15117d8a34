using System;
using System.Threading.Tasks;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>A wall clock that is set while time goes on.</summary>
public sealed class ClockTests : IDisposable
{
    private readonly World _world = new();

    public void Dispose() => _world.Dispose();

    private static MoveContext Oracle(Decider decider) => new() { By = "oracle", Epoch = decider.Epoch };

    [Theory]
    [InlineData(365 * 24)]
    [InlineData(1)]
    public void AHoldMadeUnderAClockThatWasAheadLastsItsOwnLength(int hours) => _world.Time.Run(async () =>
    {
        using var decider = _world.State.Decide("oracle");
        var server = _world.Add("A", Stage.Nest, null);
        _world.Time.JumpWallClock(TimeSpan.FromHours(hours));
        var hand = _world.Hand with { HoldFor = TimeSpan.FromMinutes(30) };
        Assert.Equal(MoveStatus.Done, (await _world.Mover.CarryOutAsync([_world.Move(server, MoveKind.Wake, Stage.Matrix, "m1")], hand, null, default))[0].Status);
        _world.Time.JumpWallClock(-TimeSpan.FromHours(hours));

        var first = (await _world.Mover.CarryOutAsync([_world.Move(server, MoveKind.Hibernate, Stage.Nest)], Oracle(decider), null, default))[0];
        Assert.Equal(MoveStatus.Refused, first.Status);
        Assert.Contains("is held until", first.Error);

        // Another process, as with a switch that is run every few minutes, goes on from the same first sighting.
        await Task.Delay(TimeSpan.FromMinutes(20), _world.Time);
        decider.Dispose();
        _world.Reopen();
        using var again = _world.State.Decide("oracle");
        Assert.Equal(MoveStatus.Refused, (await _world.Mover.CarryOutAsync([_world.Move(server, MoveKind.Hibernate, Stage.Nest)], Oracle(again), null, default))[0].Status);
        await Task.Delay(TimeSpan.FromMinutes(11), _world.Time);
        Assert.Equal(MoveStatus.Done, (await _world.Mover.CarryOutAsync([_world.Move(server, MoveKind.Hibernate, Stage.Nest)], Oracle(again), null, default))[0].Status);
    });

    [Fact]
    public void WhatIsDoneEverySoOftenIsDoneThoughTheClockIsSetBack()
    {
        var pace = new Pace(_world.Time, TimeSpan.FromMinutes(1));
        Assert.True(pace.IsDue);
        _world.Time.Run(async () =>
        {
            pace.Done();
            _world.Time.JumpWallClock(-TimeSpan.FromDays(1));
            await Task.Delay(TimeSpan.FromSeconds(59), _world.Time);
            Assert.False(pace.IsDue);
            await Task.Delay(TimeSpan.FromSeconds(1), _world.Time);
            Assert.True(pace.IsDue);
        });
    }

    [Fact]
    public void SteadyTimeTellsByHowMuchTheClockWasSetBack()
    {
        var steady = new SteadyTime(_world.Time);
        Assert.Equal(TimeSpan.Zero, steady.Follow());
        _world.Time.JumpWallClock(-TimeSpan.FromHours(2));
        Assert.Equal(-TimeSpan.FromHours(2), steady.Follow());
        Assert.Equal(_world.Time.GetUtcNow(), steady.Now);
        _world.Time.JumpWallClock(TimeSpan.FromHours(5));
        Assert.Equal(TimeSpan.Zero, steady.Follow());
        Assert.Equal(_world.Time.GetUtcNow(), steady.Now);
    }
}
