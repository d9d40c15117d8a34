using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>The mover is stopped as a kill would stop it, at every point there is, and another one takes up what it left.</summary>
public sealed class RecoveryTests
{
    /// <summary>Kinds of move, each in its variants, with what may be made to go wrong so that it is taken back.</summary>
    public static TheoryData<string> Cases => [.. s_cases.Keys];

    private static readonly Dictionary<string, (MoveKind Kind, Stage From, string? FromHost, Stage To, string? ToHost, bool Live, string? Fails)> s_cases = new()
    {
        ["create"] = (MoveKind.Create, Stage.Nest, null, Stage.Nest, null, false, null),
        ["create, fails late"] = (MoveKind.Create, Stage.Nest, null, Stage.Nest, null, false, "create"),
        ["wake to the Matrix"] = (MoveKind.Wake, Stage.Nest, null, Stage.Matrix, "m1", false, null),
        ["wake to the Chamber"] = (MoveKind.Wake, Stage.Nest, null, Stage.Chamber, "c1", false, null),
        ["wake, never healthy"] = (MoveKind.Wake, Stage.Nest, null, Stage.Matrix, "m1", false, "health"),
        ["wake, balancer refuses"] = (MoveKind.Wake, Stage.Nest, null, Stage.Matrix, "m1", false, "join"),
        ["hibernate from the Matrix"] = (MoveKind.Hibernate, Stage.Matrix, "m1", Stage.Nest, null, false, null),
        ["hibernate from the Chamber"] = (MoveKind.Hibernate, Stage.Chamber, "c1", Stage.Nest, null, false, null),
        ["hibernate, save fails"] = (MoveKind.Hibernate, Stage.Matrix, "m1", Stage.Nest, null, false, "save"),
        ["hibernate, stow fails"] = (MoveKind.Hibernate, Stage.Matrix, "m1", Stage.Nest, null, false, "stow"),
        ["hibernate, mark fails"] = (MoveKind.Hibernate, Stage.Matrix, "m1", Stage.Nest, null, false, "mark"),
        ["relocate"] = (MoveKind.Relocate, Stage.Matrix, "m1", Stage.Matrix, "m2", false, null),
        ["relocate to the Chamber"] = (MoveKind.Relocate, Stage.Matrix, "m1", Stage.Chamber, "c1", false, null),
        ["relocate to the Matrix"] = (MoveKind.Relocate, Stage.Chamber, "c1", Stage.Matrix, "m2", false, null),
        ["relocate, carry fails"] = (MoveKind.Relocate, Stage.Matrix, "m1", Stage.Matrix, "m2", false, "carry"),
        ["relocate, unhealthy there"] = (MoveKind.Relocate, Stage.Matrix, "m1", Stage.Matrix, "m2", false, "health on m2"),
        ["relocate live"] = (MoveKind.Relocate, Stage.Matrix, "m1", Stage.Matrix, "m2", true, null),
        ["relocate live, unhealthy there"] = (MoveKind.Relocate, Stage.Matrix, "m1", Stage.Matrix, "m2", true, "health on m2"),
        ["relocate live to the Chamber"] = (MoveKind.Relocate, Stage.Matrix, "m1", Stage.Chamber, "c1", true, null),
        ["dispose from the Matrix"] = (MoveKind.Dispose, Stage.Matrix, "m1", Stage.Disposed, null, false, null),
        ["dispose from the Nest"] = (MoveKind.Dispose, Stage.Nest, null, Stage.Disposed, null, false, null),
        ["dispose, stop fails"] = (MoveKind.Dispose, Stage.Matrix, "m1", Stage.Disposed, null, false, "stop"),
        ["undo"] = (MoveKind.Undo, Stage.Disposed, null, Stage.Nest, null, false, null),
        ["undo, mark fails"] = (MoveKind.Undo, Stage.Disposed, null, Stage.Nest, null, false, "mark"),
        ["purge"] = (MoveKind.Purge, Stage.Disposed, null, Stage.Disposed, null, false, null),
        ["register in the Matrix"] = (MoveKind.Register, Stage.Matrix, "m1", Stage.Matrix, "m1", false, null),
        ["register in the Matrix, never healthy"] = (MoveKind.Register, Stage.Matrix, "m1", Stage.Matrix, "m1", false, "health"),
        ["register in the Matrix, balancer refuses"] = (MoveKind.Register, Stage.Matrix, "m1", Stage.Matrix, "m1", false, "join"),
        ["register in the Chamber"] = (MoveKind.Register, Stage.Chamber, "c1", Stage.Chamber, "c1", false, null),
        ["register into the nest"] = (MoveKind.Register, Stage.Nest, "m1", Stage.Nest, null, false, null),
        ["register into the nest, stow fails"] = (MoveKind.Register, Stage.Nest, "m1", Stage.Nest, null, false, "stow"),
        ["unregister"] = (MoveKind.Unregister, Stage.Matrix, "m1", Stage.Matrix, "m1", false, null),
        ["unregister, released and the answer lost for good"] = (MoveKind.Unregister, Stage.Matrix, "m1", Stage.Matrix, "m1", false, "after release"),
        ["unregister, release fails"] = (MoveKind.Unregister, Stage.Matrix, "m1", Stage.Matrix, "m1", false, "release"),
        ["unregister in the nest"] = (MoveKind.Unregister, Stage.Nest, null, Stage.Nest, null, false, null),
        ["publish"] = (MoveKind.Publish, Stage.Chamber, "c1", Stage.Chamber, "c1", false, null),
        ["publish, selected and the answer lost"] = (MoveKind.Publish, Stage.Chamber, "c1", Stage.Chamber, "c1", false, "after select"),
        ["publish, select fails"] = (MoveKind.Publish, Stage.Chamber, "c1", Stage.Chamber, "c1", false, "select"),
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void AKillAtAnyPointLeavesAWholeServer(string name)
    {
        foreach (var point in Points(name))
            Kill(name, [point]);
    }

    [Theory]
    [Trait("Category", "Long")]
    [MemberData(nameof(Cases))]
    public void SoDoesAKillOfTheRecoveryAtAnyPoint(string name)
    {
        foreach (var first in Points(name))
            foreach (var second in Kill(name, [first]).Distinct())
                Kill(name, [first, second]);
    }

    [Fact]
    public void EveryPointOfTheTableIsPassed()
    {
        // Those of restart, rejoin and mend have tests of their own: they begin with a host, a balancer or a journal that was lost.
        var passed = s_cases.Keys.SelectMany(Points).ToHashSet();
        Assert.Empty(MoveRoutes.Failpoints.Where(p => p.Split('.')[0] is not ("restart" or "rejoin" or "mend")).Except(passed));
        Assert.Empty(passed.Except(MoveRoutes.Failpoints).Except(MoveRoutes.BackFailpoints));
    }

    [Theory]
    [InlineData("wake to the Matrix")]
    [InlineData("relocate")]
    [InlineData("hibernate from the Matrix")]
    public void AfterAKillAndALossOfPowerEveryServerIsWhole(string name)
    {
        foreach (var point in Points(name))
        {
            using var world = new World();
            world.Time.Run(async () =>
            {
                var move = Arrange(world, name, kill: point);
                await Assert.ThrowsAsync<AbandonException>(() => world.CarryOut(move));
                Failpoint.Hook = null;
                foreach (var server in world.Servers.Values.Where(s => s.Power is PowerState.Running))
                    (server.Power, server.Address) = (PowerState.Off, null);
                world.Members.Clear();
                world.Reopen();
                var record = Assert.Single(await world.Mover.RecoverAsync(world.Hand, null, default));

                // A server that was in the Matrix all the time and lost its machine stays there, dead, for the Oracle to replace.
                var only = Assert.Single(world.Servers.Values);
                if (only.Place is World.Place.Host && only.Power is PowerState.Off && record.Status is MoveStatus.Undone)
                    return;
                world.AssertWhole();
            });
        }
    }

    [Fact]
    public void WhatCannotBeSeenIsLeftUntilItCan()
    {
        using var world = new World();
        world.Time.Run(async () =>
        {
            var move = Arrange(world, "relocate", kill: "relocate.carry.after");
            await Assert.ThrowsAsync<AbandonException>(() => world.CarryOut(move));
            Failpoint.Hook = null;
            world.DownHosts.Add("m2");
            world.Reopen();
            var record = Assert.Single(await world.Mover.RecoverAsync(world.Hand, null, default));
            Assert.Equal(MoveStatus.Interrupted, record.Status);
            Assert.Contains("m2 does not answer", record.Error);
            Assert.Equal(MoveStatus.Interrupted, Assert.Single(world.State.ReadOpenMoves()).Status);

            // Nobody else touches the server meanwhile.
            var server = Assert.Single(world.Servers.Values);
            var refused = await world.CarryOut(world.Move(server, MoveKind.Dispose, Stage.Disposed));
            Assert.Contains("Resume-VMatrixMove", refused.Error);

            world.DownHosts.Clear();
            Assert.Equal(MoveStatus.Done, Assert.Single(await world.Mover.RecoverAsync(world.Hand, null, default)).Status);
            world.AssertWhole();
        });
    }

    [Theory]
    [InlineData("relocate.check.before", false)]
    [InlineData("relocate.check.before", true)]
    [InlineData("hibernate.stow.after", false)]
    [InlineData("wake.check.after", true)]
    [InlineData("dispose.discard.before", false)]
    public void AnOperatorChoosesToFinishOrToTakeBack(string point, bool finish)
    {
        using var world = new World();
        world.Time.Run(async () =>
        {
            var name = point.Split('.')[0] switch { "wake" => "wake to the Matrix", "hibernate" => "hibernate from the Matrix", "dispose" => "dispose from the Matrix", _ => "relocate" };
            var move = Arrange(world, name, kill: point);
            await Assert.ThrowsAsync<AbandonException>(() => world.CarryOut(move));
            Failpoint.Hook = null;
            world.Reopen();
            var record = finish ? await world.Mover.ResumeAsync(move.Id, world.Hand, null, default) : await world.Mover.UndoAsync(move.Id, world.Hand, null, default);
            var gone = name.StartsWith("dispose", StringComparison.Ordinal);
            Assert.True(record.Status == (finish || gone ? MoveStatus.Done : MoveStatus.Undone), $"{record.Status}: {record.Error}");
            world.AssertWhole();
            var missing = await Assert.ThrowsAsync<VMatrixException>(() => world.Mover.ResumeAsync(move.Id, world.Hand, null, default));
            Assert.Equal("MoveNotFound", missing.Id);
        });
    }

    [Fact]
    public void WhatCannotBeTakenBackIsToldAndTakenUpLater()
    {
        using var world = new World();
        world.Time.Run(async () =>
        {
            var server = world.Add("A", Stage.Matrix, "m1");
            world.Before = (op, _, host) => op is "stow" or "start" ? new VMatrixException("DiskFull", VMatrixErrorKind.NoRoom, "No space left.") : null;
            var record = await world.CarryOut(world.Move(server, MoveKind.Hibernate, Stage.Nest));
            Assert.Equal(MoveStatus.Failed, record.Status);
            Assert.Contains("Undo-VMatrixMove", record.Error);
            Assert.Equal(MoveStatus.Failed, Assert.Single(world.State.ReadOpenMoves()).Status);
            world.Before = null;
            Assert.Equal(MoveStatus.Undone, Assert.Single(await world.Mover.RecoverAsync(world.Hand, null, default)).Status);
            world.AssertWhole();
        });
    }

    private static string[] Points(string name)
    {
        using var world = new World();
        var points = new List<string>();
        world.Time.Run(async () =>
        {
            var move = Arrange(world, name, kill: null);
            Failpoint.Hook = points.Add;
            var record = await world.CarryOut(move);
            Failpoint.Hook = null;
            // What was let go is let go, whatever became of the answer.
            Assert.Equal(s_cases[name].Fails is null or "after release" ? MoveStatus.Done : MoveStatus.Undone, record.Status);
            world.AssertWhole();
        });
        return [.. points];
    }

    /// <summary>Kills the move at the first point and each recovery at the next ones; returns the points that the last recovery passed.</summary>
    private static List<string> Kill(string name, string[] points)
    {
        using var world = new World();
        var passed = new List<string>();
        world.Time.Run(async () =>
        {
            var move = Arrange(world, name, kill: points[0]);
            await Assert.ThrowsAsync<AbandonException>(() => world.CarryOut(move));
            foreach (var point in points.Skip(1))
            {
                world.Reopen();
                KillAt(point);
                await Assert.ThrowsAsync<AbandonException>(() => world.Mover.RecoverAsync(world.Hand, null, default));
            }
            world.Reopen();
            Failpoint.Hook = passed.Add;
            var records = await world.Mover.RecoverAsync(world.Hand, null, default);
            Failpoint.Hook = null;

            var record = Assert.Single(records);
            var where = $"{name} killed at {string.Join(" and ", points)}: {record.Status} {record.Error}";
            Assert.True(record.Status is MoveStatus.Done or MoveStatus.Undone, where);
            try
            {
                world.AssertWhole();
            }
            catch (Exception e)
            {
                throw new InvalidOperationException(where, e);
            }
            var now = world.Servers.GetValueOrDefault(move.ServerId)?.Mark.Stage;
            var expected = record.Status is MoveStatus.Done ? move.Kind is MoveKind.Purge or MoveKind.Unregister ? null : move.ToStage : move.Kind is MoveKind.Create or MoveKind.Register ? null : (Stage?)move.FromStage;
            Assert.True(move.Kind is not (MoveKind.Register or MoveKind.Unregister) || world.Servers.ContainsKey(move.ServerId) != world.Foreign.ContainsKey(move.ServerId), where);
            Assert.True(expected == now, where);
            Assert.True((world.Image == "1") == (move.Kind is not MoveKind.Publish || record.Status is not MoveStatus.Done), where);
            Assert.Empty(world.State.ReadOpenMoves());
            Assert.InRange(Directory.GetFiles(Path.Combine(world.StatePath, "owners")).Length, 0, 1);
        });
        return passed;
    }

    private static Move Arrange(World world, string name, string? kill)
    {
        var (kind, from, fromHost, to, toHost, live, fails) = s_cases[name];
        world.CanMigrate = true;
        Move move;
        if (kind is MoveKind.Create)
            move = world.Create();
        else
        {
            var server = world.Add("A", from, from is Stage.Nest ? null : fromHost);
            move = world.Move(server, kind, to, toHost) with { Live = live };
            if (kind is MoveKind.Register)
            {
                // A machine that is not ours: it runs, or lies on the host.
                if (from is Stage.Nest)
                    (server.Place, server.Host) = (World.Place.Host, fromHost);
                world.Servers.Remove(move.ServerId);
                world.Members.Remove(move.ServerId);
                world.Foreign[move.ServerId] = server;
                move = move with { MachineId = server.Mark.MachineId, FromHost = fromHost };
            }
        }
        if (fails is not null)
        {
            // Only the move itself fails; what it takes to come back does not.
            if (fails.StartsWith("health", StringComparison.Ordinal))
                world.HealthOf = _ => fails == "health" || world.Servers[move.ServerId].Host == "m2" ? "503" : null;
            else if (fails.StartsWith("after ", StringComparison.Ordinal))
                world.After = (op, _, _) => "after " + op == fails && world.Log.Count(o => o == op) == 1 ? Failure() : null;
            else if (fails == "create")
                world.After = (op, _, _) => op == fails ? Failure() : null;
            else
                world.Before = (op, _, _) => op == fails && !IsBack(world) ? Failure() : null;
        }
        if (kill is not null)
            KillAt(kill);
        return move;

        static VMatrixException Failure() => new("Ordered", VMatrixErrorKind.Failed, "It was ordered to fail.");
    }

    // The mark fails on its way forward and not when it is taken back: the mark then still has the old generation.
    private static bool IsBack(World world) => world.Log.Count(o => o == "mark") > 1;

    private static void KillAt(string point) => Failpoint.Hook = p =>
    {
        if (p == point)
        {
            Failpoint.Hook = null;
            throw new AbandonException(p);
        }
    };
}
