using System;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>A wait for another process that holds a lock of the state folder ends with the caller's cancellation.</summary>
public sealed class ClaimWaitTests : IDisposable
{
    private readonly World _world = new();

    public void Dispose() => _world.Dispose();

    [Fact]
    public void AWaitForTheClaimsLockEndsWithCtrlC()
    {
        using var held = _world.State.LockClaims();
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();

        // None of them may end with StateBusy, which is what ten seconds of waiting would bring.
        Assert.ThrowsAny<OperationCanceledException>(() => _world.State.LockClaims(cancelled.Token));
        Assert.ThrowsAny<OperationCanceledException>(() => StateFolder.Open(_world.StatePath, create: true, nest: null, cancelled.Token));
        Assert.ThrowsAny<OperationCanceledException>(() => _world.State.Decide("test", cancelled.Token));
        Assert.ThrowsAny<OperationCanceledException>(() => _world.State.EnsureOwner(cancelled.Token));
        Assert.Null(_world.State.ReadDecider());
    }

    [Fact]
    public async Task AMoveThatWaitsForTheClaimsLockIsCancelledAndLeavesNothing()
    {
        var server = _world.Add("A", Stage.Nest, null);
        var move = _world.Move(server, MoveKind.Wake, Stage.Matrix, "m1");
        _world.State.EnsureOwner();
        using var cancelled = new CancellationTokenSource();
        var held = _world.State.LockClaims();
        Task<OpenMove?> claiming;
        using (held)
        {
            claiming = Task.Run(() => OpenMove.TryClaim(_world.State, move, new MoveContext { By = "test" }, Guid.NewGuid(), _world.Time.GetUtcNow(), cancelled.Token));
            while (!Directory.EnumerateFiles(Path.Combine(_world.StatePath, "moves"), "*.tmp").Any())
                await Task.Delay(5);
            cancelled.Cancel();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => claiming);
        }

        Assert.Empty(Directory.EnumerateFiles(Path.Combine(_world.StatePath, "moves")));
    }
}
