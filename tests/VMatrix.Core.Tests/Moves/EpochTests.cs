using System;
using System.IO;
using System.Linq;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>Epochs after the state folder was lost or restored from a backup.</summary>
public sealed class EpochTests : IDisposable
{
    private readonly World _world = new();

    public void Dispose() => _world.Dispose();

    private string State => Path.Combine(_world.StatePath, "own");

    private string Nest => Path.Combine(_world.StatePath, "nest");

    private long Decide(long seen = 0)
    {
        using var state = StateFolder.Open(State, create: true, Nest);
        using var decider = state.Decide("test");
        decider.RaiseAbove(seen);
        decider.Check();
        return decider.Epoch;
    }

    [Fact]
    public void AStateFolderRestoredFromABackupTakesAnEpochAboveTheNests()
    {
        Decide();
        var backup = Path.Combine(_world.StatePath, "backup");
        Copy(State, backup);
        Decide();
        var last = Decide();
        Directory.Delete(State, recursive: true);
        Copy(backup, State);
        Assert.True(Decide() > last);
    }

    [Theory]
    [InlineData("state folder")]
    [InlineData("decider.json")]
    [InlineData("decider.lock")]
    [InlineData("nest")]
    public void WhateverIsLostTheNextEpochIsAboveTheHighest(string lost)
    {
        Decide();
        Decide();
        var last = Decide();
        if (lost == "state folder")
            Directory.Delete(State, recursive: true);
        else if (lost == "nest")
            Directory.Delete(Nest, recursive: true);
        else
            foreach (var folder in new[] { State, Nest })
                File.Delete(Path.Combine(folder, lost));
        Assert.True(Decide() > last);
    }

    [Fact]
    public void WhatADriverHasSeenIsExceededAndKept()
    {
        Assert.True(Decide(seen: 41) > 41);
        Assert.True(Decide() > 42);
        var corrupt = Assert.Throws<VMatrixException>(() => Decide(seen: long.MaxValue));
        Assert.Equal("StateCorrupt", corrupt.Id);
    }

    [Fact]
    public void ADeciderThatADriverRefusesEndsAtOnceWithOneSentence() => _world.Time.Run(async () =>
    {
        using var decider = _world.State.Decide("oracle");
        _world.HighestEpoch = decider.Epoch + 2;
        Move[] moves = [.. Enumerable.Range(0, 40).Select(_ => _world.Create())];
        var records = await _world.Mover.CarryOutAsync(moves, new MoveContext { By = "oracle", Epoch = decider.Epoch }, null, default);

        Assert.All(records, r => Assert.True(r.Status is MoveStatus.Refused or MoveStatus.Undone, $"{r.Status}: {r.Error}"));
        Assert.InRange(_world.Log.Count, 1, _world.Pool.Limits.MovesPerPool);
        Assert.Empty(_world.Servers);
        var ended = Assert.Throws<VMatrixException>(decider.Check);
        Assert.Equal("StaleEpoch", ended.Id);
        Assert.Contains("Get-VMatrixPool", ended.Message);
        decider.Dispose();

        // The next one asks the driver first, and takes up what was left.
        using var next = _world.State.Decide("oracle");
        next.RaiseAbove(_world.HighestEpoch);
        await _world.Mover.RecoverAsync(new MoveContext { By = "oracle", Epoch = next.Epoch }, null, default);
        next.Check();
        _world.AssertWhole();
    });

    internal static void Copy(string from, string to)
    {
        foreach (var folder in Directory.GetDirectories(from, "*", SearchOption.AllDirectories).Prepend(from))
            Directory.CreateDirectory(Path.Combine(to, Path.GetRelativePath(from, folder)));
        foreach (var file in Directory.GetFiles(from, "*", SearchOption.AllDirectories))
            File.Copy(file, Path.Combine(to, Path.GetRelativePath(from, file)), overwrite: true);
    }
}
