using System;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>A server whose platform does not say what it does is neither running nor stopped: nothing is concluded from it, and nothing is done to it.</summary>
public sealed class UnseenStateTests : IDisposable
{
    private readonly World _world = new();

    public void Dispose() => _world.Dispose();

    private void Run(Func<Task> test) => _world.Time.Run(test);

    [Fact]
    public void It_stays_in_the_balancer() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        (server.Power, server.Address) = (PowerState.Unknown, null);
        var result = await _world.Mover.ReconcileAsync(_world.Hand, null, default);
        Assert.Empty(result.Removed);
        Assert.Empty(result.Joined);
        Assert.Contains(server.Mark.ServerId, _world.Members.Keys);
    });

    [Theory]
    [InlineData(MoveKind.Hibernate, Stage.Nest, null)]
    [InlineData(MoveKind.Dispose, Stage.Disposed, null)]
    [InlineData(MoveKind.Relocate, Stage.Matrix, "m2")]
    public void No_move_begins_with_it(MoveKind kind, Stage to, string? host) => Run(async () =>
    {
        _world.SharedDisks = _world.CanProve = true;
        var server = _world.Add("A", Stage.Matrix, "m1");
        server.Power = PowerState.Unknown;
        var record = await _world.CarryOut(_world.Move(server, kind, to, host));
        Assert.Equal((MoveStatus.Refused, "ServerNotSeen"), (record.Status, record.ErrorId));
        Assert.Empty(_world.Log);
    });

    [Fact]
    public void A_move_that_failed_carries_it_back_only_when_it_is_seen_again() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.Before = (op, _, _) =>
        {
            if (op != "start")
                return null;
            server.Power = PowerState.Unknown;
            return new VMatrixException("Broken", VMatrixErrorKind.Failed, "It does not start.");
        };
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Relocate, Stage.Matrix, "m2"));
        Assert.Equal("m2", server.Host);
        Assert.Equal(1, _world.Log.Count(op => op.StartsWith("carry", StringComparison.Ordinal)));
        Assert.Contains("could not be taken back", record.Error, StringComparison.Ordinal);

        _world.Before = null;
        (server.Power, server.Address) = (PowerState.Saved, null);
        await _world.Mover.RecoverAsync(_world.Hand, null, default);
        Assert.Equal(("m1", PowerState.Running), (server.Host, server.Power));
        _world.AssertWhole();
    });

    [Fact]
    public void What_its_platform_is_doing_is_waited_for_before_a_move_is_taken_back() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.Before = (op, _, host) =>
        {
            if (op != "start" || host != "m2")
                return null;
            server.ChangingFor = 5;
            return new VMatrixException("Broken", VMatrixErrorKind.Failed, "It does not start.");
        };
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Relocate, Stage.Matrix, "m2"));
        Assert.Equal((MoveStatus.Undone, 0), (record.Status, server.ChangingFor));
        Assert.Equal(("m1", PowerState.Running), (server.Host, server.Power));
        _world.AssertWhole();
    });
}
