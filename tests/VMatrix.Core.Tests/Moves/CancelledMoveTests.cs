using System;
using System.Threading;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>Moves that are stopped before they begin, and what ended others.</summary>
public sealed class CancelledMoveTests : IDisposable
{
    private readonly World _world = new();

    public void Dispose() => _world.Dispose();

    [Fact]
    public void AMoveStoppedBeforeItBeginsIsCancelledAndNotRefused() => _world.Time.Run(async () =>
    {
        var first = _world.Add("A", Stage.Nest, null);
        var second = _world.Add("B", Stage.Nest, null);
        using var stop = new CancellationTokenSource();
        await stop.CancelAsync();
        var wake = _world.Move(first, MoveKind.Wake, Stage.Matrix, "m1");
        var after = _world.Move(second, MoveKind.Wake, Stage.Matrix, "m2", wake.Id);
        var records = await _world.Mover.CarryOutAsync([wake, after], _world.Hand, null, stop.Token);
        Assert.All(records, r => Assert.Equal((MoveStatus.Cancelled, "Cancelled"), (r.Status, r.ErrorId)));
        Assert.All(records, r => Assert.NotNull(r.EndedAt));
        Assert.Empty(_world.Log);
        _world.AssertWhole();
    });

    [Fact]
    public void ARecordTellsTheIdOfTheErrorThatEndedIt() => _world.Time.Run(async () =>
    {
        var server = _world.Add("A", Stage.Nest, null);
        _world.Before = (op, _, _) => op == "start" ? new VMatrixException("MemoryCorrupt", VMatrixErrorKind.Corrupt, "The memory is damaged.") : null;
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Wake, Stage.Matrix, "m1"));
        Assert.Equal((MoveStatus.Undone, "MemoryCorrupt"), (record.Status, record.ErrorId));
        Assert.Equal("MemoryCorrupt", _world.State.History.ReadMoves(null, 1)[0].ErrorId);

        _world.Before = null;
        _world.Add("B", Stage.Matrix, "m1");
        record = await _world.CarryOut(_world.Move(server, MoveKind.Wake, Stage.Matrix, "m1"));
        Assert.Equal((MoveStatus.Refused, "NoRoom"), (record.Status, record.ErrorId));

        var stale = _world.Move(server, MoveKind.Wake, Stage.Matrix, "m2") with { Generation = 7 };
        record = await _world.CarryOut(stale);
        Assert.Equal((MoveStatus.Refused, "PreconditionFailed"), (record.Status, record.ErrorId));
    });
}
