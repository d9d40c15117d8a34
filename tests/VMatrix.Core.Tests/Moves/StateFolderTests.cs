using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.Data.Sqlite;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

public sealed class StateFolderTests : IDisposable
{
    private readonly World _world = new();

    public void Dispose() => _world.Dispose();

    private static string IdOf(Action action) => Assert.Throws<VMatrixException>(action).Id;

    [Fact]
    public void ItsIdStaysAndIsMissingWhereItWasNeverMade()
    {
        using var again = StateFolder.Open(_world.StatePath, create: false);
        Assert.Equal(_world.State.Id, again.Id);
        var missing = Path.Combine(_world.StatePath, "elsewhere");
        Assert.Equal("StateMissing", IdOf(() => StateFolder.Open(missing, create: false)));
        Assert.False(Directory.Exists(missing));
        File.WriteAllText(Path.Combine(_world.StatePath, "state.json"), "{");
        var corrupt = Assert.Throws<VMatrixException>(() => StateFolder.Open(_world.StatePath, create: true));
        Assert.Equal("StateCorrupt", corrupt.Id);
        Assert.Contains("Register-VMatrixServer -Force", corrupt.Message);
    }

    [Fact]
    public void ThereIsOneDeciderAndItsEpochsIncrease()
    {
        using var other = StateFolder.Open(_world.StatePath, create: true);
        long epoch;
        using (var decider = _world.State.Decide("vmatrix-oracle"))
        {
            epoch = decider.Epoch;
            var busy = Assert.Throws<VMatrixException>(() => other.Decide("second"));
            Assert.Equal("DeciderBusy", busy.Id);
            Assert.Contains($"vmatrix-oracle (process {Environment.ProcessId} of {Environment.UserName} on {Environment.MachineName})", busy.Message);
            Assert.Equal($"vmatrix-oracle (process {Environment.ProcessId} of {Environment.UserName} on {Environment.MachineName})", other.ReadDecider());
            decider.Check();
        }
        Assert.Null(other.ReadDecider());
        using var second = other.Decide("second");
        Assert.True(second.Epoch > epoch);
        File.Delete(Path.Combine(_world.StatePath, "decider.json"));
        second.Dispose();
        using var third = _world.State.Decide("third");
        Assert.True(third.Epoch > second.Epoch);
    }

    [Fact]
    public void CopiesOfThePoolFileWithStateFoldersOfTheirOwnHaveOneDeciderByTheNest()
    {
        var nest = Path.Combine(_world.StatePath, "nest");
        using var first = StateFolder.Open(Path.Combine(_world.StatePath, "first"), create: true, nest);
        using var second = StateFolder.Open(Path.Combine(_world.StatePath, "second"), create: true, nest);
        var decider = first.Decide("vmatrix-oracle");
        var busy = Assert.Throws<VMatrixException>(() => second.Decide("copy"));
        Assert.Equal("DeciderBusy", busy.Id);
        var named = $"vmatrix-oracle (process {Environment.ProcessId} of {Environment.UserName} on {Environment.MachineName}), with the state folder {first.Path}";
        Assert.Contains(named, busy.Message);
        Assert.Equal(named, second.ReadDecider());
        decider.Check();

        // The refused one holds nothing of its own folder.
        using (StateFolder.Open(second.Path, create: true).Decide("without a nest"))
            decider.Check();

        // A decider whose lock in the nest was deleted, and taken by the other, is one no more; one whose nest went away waits for it.
        File.Delete(Path.Combine(nest, "decider.lock"));
        decider.Check();
        using (second.Decide("copy"))
            Assert.Contains("copy (process", Assert.Throws<VMatrixException>(decider.Check).Message);
        decider.Dispose();
        using var again = second.Decide("copy");
        Directory.Delete(nest, recursive: true);
        again.Check();
    }

    [Theory]
    [InlineData("lock deleted")]
    [InlineData("lock replaced")]
    [InlineData("taken over")]
    [InlineData("folder gone")]
    public void ADeciderNoticesTheLossOfItsLock(string how)
    {
        using var decider = _world.State.Decide("first");
        decider.Check();
        var file = Path.Combine(_world.StatePath, "decider.lock");
        using var other = StateFolder.Open(_world.StatePath, create: true);
        Decider? second = null;
        if (how == "folder gone")
            Directory.Delete(_world.StatePath, recursive: true);
        else
            File.Delete(file);
        if (how == "lock replaced")
            File.WriteAllText(file, ".");
        if (how == "taken over")
            second = other.Decide("second");
        var lost = Assert.Throws<VMatrixException>(decider.Check);
        Assert.Equal("DeciderLost", lost.Id);
        if (how == "taken over")
            Assert.Contains("second (process", lost.Message);
        second?.Dispose();
    }

    [Fact]
    public void ADeciderThatSleptThroughItsLossChangesNothingMore() => _world.Time.Run(async () =>
    {
        using var decider = _world.State.Decide("first");
        var server = _world.Add("A", Stage.Matrix, "m1");
        using var other = StateFolder.Open(_world.StatePath, create: true);
        Decider? second = null;
        _world.Before = (op, _, _) =>
        {
            if (op == "save" && second is null)
            {
                File.Delete(Path.Combine(_world.StatePath, "decider.lock"));
                second = other.Decide("second");
                _world.HighestEpoch = second.Epoch;
            }
            return null;
        };
        var record = (await _world.Mover.CarryOutAsync([_world.Move(server, MoveKind.Hibernate, Stage.Nest)], new MoveContext { By = "first", Epoch = decider.Epoch }, null, default))[0];
        Assert.Equal(MoveStatus.Interrupted, record.Status);
        Assert.Contains("DeciderLost", record.Error);
        Assert.DoesNotContain("stow", _world.Log);

        // The new one takes the move up, although the first process is still there.
        var mover = new Mover(_world.Pool, _world, _world, _world, other, _world.Time);
        Assert.Equal(MoveStatus.Done, Assert.Single(await mover.RecoverAsync(new MoveContext { By = "second", Epoch = second!.Epoch }, null, default)).Status);
        _world.AssertWhole();
        second.Dispose();
    });

    [Fact]
    public void APlanIsLoadedAsItWasStoredOrNotAtAll()
    {
        var plan = new Plan
        {
            Id = Guid.NewGuid(),
            Pool = "test",
            CreatedAt = _world.Time.GetUtcNow(),
            ExpiresAt = _world.Time.GetUtcNow().AddMinutes(5),
            Moves = [_world.Create()],
            Decisions = [new ServiceDecision { Service = "FINANCE", Reason = "Größe < 3", Rate = double.NaN }],
            Summary = "one",
        };
        var stored = _world.State.StorePlan(plan);
        var loaded = _world.State.LoadPlan(plan.Id);
        Assert.Equal(stored.Hash, loaded.Hash);
        Assert.Equal(plan.Moves[0].Id, loaded.Moves[0].Id);
        Assert.True(double.IsNaN(loaded.Decisions[0].Rate));
        Assert.Equal(stored.Hash, _world.State.StorePlan(loaded).Hash);
        Assert.Equal([plan.Id], _world.State.ReadPlans());

        Assert.Equal("PlanNotFound", IdOf(() => _world.State.LoadPlan(Guid.NewGuid())));
        var file = Directory.GetFiles(Path.Combine(_world.StatePath, "plans")).Single();
        File.WriteAllText(file, File.ReadAllText(file).Replace("one", "two"));
        Assert.Equal("PlanCorrupt", IdOf(() => _world.State.LoadPlan(plan.Id)));
        _world.State.TrimPlans(DateTimeOffset.UtcNow.AddMinutes(1));
        Assert.Empty(_world.State.ReadPlans());
    }

    [Fact]
    public void A_clock_that_is_far_ahead_takes_few_plans_away()
    {
        Plan[] plans = [.. Enumerable.Range(0, 30).Select(_ => _world.State.StorePlan(new Plan { Id = Guid.NewGuid(), Pool = "test", CreatedAt = default, ExpiresAt = default, Moves = [], Refused = [], Decisions = [], Summary = "" }))];
        _world.State.TrimPlans(DateTimeOffset.UtcNow.AddYears(10));
        Assert.InRange(_world.State.ReadPlans().Count, 25, 29);
        _world.State.TrimPlans(DateTimeOffset.UtcNow.AddYears(-10), 7);
        Assert.Equal(7, _world.State.ReadPlans().Count);
        Assert.All(_world.State.ReadPlans(), id => Assert.Contains(plans, p => p.Id == id));
    }

    [Fact]
    public void OverridesEndAndTheirNamesAreOnlyNames()
    {
        var now = _world.Time.GetUtcNow();
        var overrides = _world.State.Overrides;
        overrides.SetHost(new HostOverride { Host = "../../etc/passwd", By = "Anna", At = now });
        overrides.SetService(new ServiceOverride { Service = "FINANCE", Servers = 3, By = "Bob", At = now, Until = now.AddHours(1) });
        Assert.Equal("../../etc/passwd", Assert.Single(overrides.ReadHosts(now)).Host);
        Assert.Equal(3, Assert.Single(overrides.ReadServices(now)).Servers);
        Assert.Empty(overrides.ReadServices(now.AddHours(2)));
        Assert.Single(Directory.GetFiles(Path.Combine(_world.StatePath, "overrides", "hosts")));
        Assert.True(overrides.ClearHost("../../etc/passwd"));
        Assert.False(overrides.ClearHost("../../etc/passwd"));
        var file = Directory.GetFiles(Path.Combine(_world.StatePath, "overrides", "services")).Single();
        File.WriteAllText(file, "nonsense");
        Assert.Empty(overrides.ReadServices(now));
        Assert.Contains(file, Assert.Single(_world.State.ReadProblems()));
    }

    [Fact]
    public void ADamagedJournalIsNamedAndItsServerLeftAlone() => _world.Time.Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        var path = Path.Combine(_world.StatePath, "moves", server.Mark.ServerId.ToString("D") + ".json");
        File.WriteAllText(path, "not a journal\n{}\n");
        Assert.Empty(await _world.Mover.RecoverAsync(_world.Hand, null, default));
        Assert.Contains(path, Assert.Single(_world.State.ReadProblems()));
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Hibernate, Stage.Nest));
        Assert.Equal(MoveStatus.Refused, record.Status);
        Assert.Contains(path, record.Error);
        Assert.Empty(_world.Log);
    });

    [Theory]
    [InlineData("")]
    [InlineData("\0\0\0\0")]
    [InlineData("{\"at\":\"2026-")]
    public void AClaimTornByALossOfPowerHeldNothing(string content) => _world.Time.Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        File.WriteAllText(Path.Combine(_world.StatePath, "moves", server.Mark.ServerId.ToString("D") + ".json"), content);
        Assert.Equal(MoveStatus.Done, (await _world.CarryOut(_world.Move(server, MoveKind.Hibernate, Stage.Nest))).Status);
        _world.AssertWhole();
    });

    [Fact]
    public void AJournalThatLostTheEndOfItsLastLineGoesOn() => _world.Time.Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        Failpoint.Hook = p =>
        {
            if (p == "hibernate.stow.before")
                throw new AbandonException(p);
        };
        await Assert.ThrowsAsync<AbandonException>(() => _world.CarryOut(_world.Move(server, MoveKind.Hibernate, Stage.Nest)));
        Failpoint.Hook = null;
        var path = Directory.GetFiles(Path.Combine(_world.StatePath, "moves")).Single();
        var bytes = File.ReadAllBytes(path);
        File.WriteAllBytes(path, bytes[..^9]);
        _world.Reopen();
        Assert.Equal(MoveStatus.Done, Assert.Single(await _world.Mover.RecoverAsync(_world.Hand, null, default)).Status);
        _world.AssertWhole();
    });

    [Fact]
    public void AFolderLostInTheMiddleLeavesAWholeServerAndAnError() => _world.Time.Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.Before = (op, _, _) =>
        {
            if (op == "save")
                Directory.Move(_world.StatePath, _world.StatePath + ".away");
            return null;
        };
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Hibernate, Stage.Nest));
        _world.Before = null;
        Directory.Move(_world.StatePath + ".away", _world.StatePath);
        Assert.Equal(MoveStatus.Undone, record.Status);
        Assert.Contains("StateLost", record.Error);
        Assert.Contains("will be taken up again", record.Error);
        Assert.Equal((PowerState.Running, "m1"), (server.Power, server.Host));
        Assert.Contains(server.Mark.ServerId, _world.Members.Keys);

        // The folder is back, and with it the journal of a move that is over.
        _world.Reopen();
        Assert.Single(await _world.Mover.RecoverAsync(_world.Hand, null, default));
        _world.AssertWhole();
    });

    [SkippableFact]
    public void AFullOrReadOnlyDiskIsOneClearErrorAndTheServerIsWhole()
    {
        var mount = Path.Combine(Path.GetTempPath(), "vmatrix-full-" + Guid.NewGuid().ToString("N"));
        Directory.CreateDirectory(mount);
        if (!OperatingSystem.IsLinux() || Sh($"mount -t tmpfs -o size=256k tmpfs {mount}") != 0)
        {
            Directory.Delete(mount);
            Skip.If(true, "need the right to mount a small disk (root)");
        }
        try
        {
            using var world = new World();
            using var state = StateFolder.Open(Path.Combine(mount, "state"), create: true);
            var mover = new Mover(world.Pool, world, world, world, state, world.Time);
            world.Before = (op, _, _) =>
            {
                if (op == "drain")
                    Fill(mount);
                return null;
            };
            var full = new HashSet<string>();
            for (var length = 0; length < 4096; length += 128)
            {
                // Small files have room in their last page: how long the journal is decides which step finds the disk full.
                var server = world.Add($"A{length}", Stage.Matrix, "m1");
                server.Mark = server.Mark with { StateId = state.Id };
                world.Time.Run(async () =>
                {
                    var record = (await mover.CarryOutAsync([world.Move(server, MoveKind.Hibernate, Stage.Nest) with { Reason = new string('x', length) }], world.Hand, null, default))[0];
                    if (record.Status is MoveStatus.Undone)
                    {
                        Assert.Contains("StateFull", record.Error);
                        full.Add(record.Step!);
                        Assert.Equal(PowerState.Running, server.Power);
                        Assert.Contains(server.Mark.ServerId, world.Members.Keys);
                    }
                    else
                        Assert.Equal((MoveStatus.Done, Stage.Nest), (record.Status, server.Mark.Stage));
                    Assert.Empty(state.ReadOpenMoves());
                    var refused = (await mover.CarryOutAsync([world.Move(server, MoveKind.Dispose, Stage.Disposed) with { Reason = new string('x', 30_000) }], world.Hand, null, default))[0];
                    Assert.Equal(MoveStatus.Refused, refused.Status);
                    Assert.Contains("StateFull", refused.Error);
                });
                File.Delete(Path.Combine(mount, "filler"));
            }
            Assert.True(full.Count > 1, string.Join(", ", full));
            state.Dispose();
            Assert.Equal(0, Sh($"mount -o remount,ro {mount}"));
            Assert.Equal("StateReadOnly", IdOf(() => StateFolder.Open(Path.Combine(mount, "state"), create: true)));
            StateFolder.Open(Path.Combine(mount, "state"), create: false).Dispose();
        }
        finally
        {
            SqliteConnection.ClearAllPools();
            Sh($"umount -l {mount}");
            Directory.Delete(mount, recursive: true);
        }
    }

    private static void Fill(string folder)
    {
        using var file = new FileStream(Path.Combine(folder, "filler"), FileMode.Create, FileAccess.Write, FileShare.None, 1);
        try
        {
            for (var block = new byte[4096]; ;)
                file.Write(block);
        }
        catch (IOException)
        {
            // Full, as wanted.
        }
    }

    private static int Sh(string command)
    {
        using var process = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", command + " 2>/dev/null"]))!;
        process.WaitForExit();
        return process.ExitCode;
    }

    [Fact]
    public void WhatWakesTookIsReadFromTheHistoryAndTheMedianIsBelieved()
    {
        var now = _world.Time.GetUtcNow();
        var wake = _world.Create() with { Kind = MoveKind.Wake, ToStage = Stage.Matrix };
        MoveRecord Took(int i, double seconds, long? bytes, Move? move = null, MoveStatus status = MoveStatus.Done) => new()
        {
            Move = (move ?? wake) with { Id = Guid.NewGuid() }, Status = status, By = "x", StartedAt = now.AddMinutes(i), EndedAt = now.AddMinutes(i).AddSeconds(seconds), Bytes = bytes,
        };

        // One was cut short and finished the next day; others are no wakes into the Matrix, failed, or are too old.
        MoveRecord[] records =
        [
            Took(-90_000, 50, 1), Took(0, 2, 100), Took(1, 86_400, 300), Took(2, 3, null), Took(3, 4, 200), Took(4, 0.1, 9, wake with { Kind = MoveKind.Hibernate, ToStage = Stage.Nest }),
            Took(5, 0.1, 9, wake with { ToStage = Stage.Chamber }), Took(6, 0.1, 9, status: MoveStatus.Undone), Took(7, 7, null, wake with { Service = "SPORTS" }),
        ];
        foreach (var record in records)
            _world.State.History.AddMove(record);
        var read = new WakeMeasures(_world.State.History.ReadWakes(now.AddDays(-1), WakeMeasures.Most));
        var told = new WakeMeasures(records.Skip(1).Select(WakeMeasures.Of).OfType<WakeMeasure>());
        Assert.Equal((TimeSpan.FromSeconds(4), TimeSpan.FromSeconds(7)), (read.Times[wake.Service], read.Times["SPORTS"]));
        Assert.Equal([new(wake.Service, 200)], read.Bytes);
        Assert.Equal((told.Times, told.Bytes), (read.Times, read.Bytes), (a, b) => a.Item1.OrderBy(t => t.Key).SequenceEqual(b.Item1.OrderBy(t => t.Key)) && a.Item2.SequenceEqual(b.Item2));
        for (var i = 0; i < WakeMeasures.Most; i++)
            read.Add(new WakeMeasure(wake.Service, TimeSpan.FromSeconds(1), 50));
        Assert.Equal((TimeSpan.FromSeconds(1), 50), (read.Times[wake.Service], read.Bytes[wake.Service]));
        Assert.Single(_world.State.History.ReadWakes(now.AddDays(-1), 1), w => w.Service == wake.Service && w.Took == TimeSpan.FromDays(1));
    }

    [Fact]
    public void HistoryIsTrimmedAndItsLossLosesNothingElse()
    {
        var history = _world.State.History;
        var now = _world.Time.GetUtcNow();
        for (var i = 0; i < 200; i++)
        {
            history.AddMove(new MoveRecord { Move = _world.Create(), Status = MoveStatus.Done, By = "x", StartedAt = now.AddMinutes(i), EndedAt = now.AddMinutes(i) });
            history.AddSamples([new ServiceLoad { Service = "FINANCE", At = now.AddMinutes(i), RequestRate = i, Bad = new string('x', 500) }]);
        }
        Assert.Equal(now.AddMinutes(199), history.ReadMoves(null, 10)[0].StartedAt);
        Assert.Equal(10, history.ReadSamples("FINANCE", now.AddMinutes(190)).Count);

        // A clock that is far ahead takes no more than a tenth away at a time.
        history.Trim(now.AddYears(10), long.MaxValue);
        Assert.InRange(history.ReadMoves(null, 1000).Count, 170, 199);
        for (var i = 0; i < 20; i++)
            history.Trim(now.AddMinutes(100), long.MaxValue);
        Assert.Equal((100, 100), (history.ReadMoves(null, 1000).Count, history.ReadSamples("FINANCE", now).Count));
        history.Trim(now, 40_000);
        Assert.InRange(history.ReadMoves(null, 1000).Count, 1, 60);
        Assert.Null(history.Warning);
        _world.State.Dispose();

        var path = Path.Combine(_world.StatePath, "history.db");
        File.WriteAllText(path, new string('?', 5000));
        using var state = StateFolder.Open(_world.StatePath, create: true);
        Assert.Empty(state.History.ReadMoves(null, 10));
        Assert.Contains("set aside", state.History.Warning);
        state.History.AddMove(new MoveRecord { Move = _world.Create(), Status = MoveStatus.Done, By = "x", StartedAt = now });
        Assert.Single(state.History.ReadMoves(null, 10));
        Assert.Single(Directory.GetFiles(_world.StatePath, "history.db.damaged-*"));
    }
}
