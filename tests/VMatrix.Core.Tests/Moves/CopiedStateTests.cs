using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>Two who move the servers of one pool, each with a copy of its state folder: the journal of one knows nothing of what the other has done.</summary>
public sealed class CopiedStateTests : IDisposable
{
    private readonly World _world = new();
    private readonly string _copy;
    private StateFolder _losers;

    public CopiedStateTests()
    {
        _copy = _world.StatePath + "-copy";
        EpochTests.Copy(_world.StatePath, _copy);
        _losers = StateFolder.Open(_copy, create: true);
    }

    public void Dispose()
    {
        Failpoint.Hook = null;
        _losers.Dispose();
        _world.Dispose();
        Directory.Delete(_copy, recursive: true);
    }

    private Mover Loser => new(_world.Pool, _world, _world, _world, _losers, _world.Time, seed: 2);

    public static TheoryData<string, string, bool?> Races()
    {
        var data = new TheoryData<string, string, bool?>();
        foreach (var (cut, winner) in new[]
        {
            ("wake.fetch.before", "wakes it on the same host"),
            ("wake.fetch.before", "wakes it on another host"),
            ("wake.start.after", "puts it right"),
            ("wake.mark.before", "puts it right"),
            ("wake.start.after", "puts it right and wakes it on another host"),
            ("hibernate.drain.after", "relocates it"),
            ("hibernate.drain.after", "hibernates it and wakes it again"),
            ("hibernate.save.before", "relocates it"),
            ("relocate.mark.after", "hibernates it"),
            ("relocate.leave.before", "relocates it"),
            ("dispose.drain.after", "hibernates it and wakes it again"),
            ("create.create.after", "wakes it on another host"),
            ("undo.recover.before", "undoes it and wakes it"),
        })
        {
            foreach (bool? finish in new bool?[] { null, true, false })
                data.Add(cut, winner, finish);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Races))]
    public void The_loser_of_a_race_from_a_copied_state_folder_closes_its_move_and_touches_nothing(string cut, string winner, bool? finish) => _world.Time.Run(async () =>
    {
        var kind = Enum.Parse<MoveKind>(cut.Split('.')[0], ignoreCase: true);
        var move = kind is MoveKind.Create ? _world.Create() : MoveOf(kind);
        Failpoint.Hook = p =>
        {
            if (p == cut)
                throw new AbandonException(p);
        };
        await Assert.ThrowsAsync<AbandonException>(() => Loser.CarryOutAsync([move], _world.Hand, null, default));
        Failpoint.Hook = null;
        _losers.Dispose();

        await _world.Mover.ReconcileAsync(_world.Hand, null, default);
        await _world.Mover.MendAsync(_world.Hand, null, default);
        foreach (var step in winner.Split(" and "))
        {
            var it = _world.Servers[move.ServerId];
            var record = step switch
            {
                "puts it right" => null,
                "relocates it" => await _world.CarryOut(_world.Move(it, MoveKind.Relocate, Stage.Matrix, "m3")),
                "hibernates it" => await _world.CarryOut(_world.Move(it, MoveKind.Hibernate, Stage.Nest)),
                "undoes it" => await _world.CarryOut(_world.Move(it, MoveKind.Undo, Stage.Nest)),
                "wakes it on the same host" or "wakes it again" or "wakes it" => await _world.CarryOut(_world.Move(it, MoveKind.Wake, Stage.Matrix, "m1")),
                _ => await _world.CarryOut(_world.Move(it, MoveKind.Wake, Stage.Matrix, "m3")),
            };
            Assert.True(record is null or { Status: MoveStatus.Done }, $"{step}: {record?.Error}");
        }

        _world.AssertWhole();
        var server = _world.Servers[move.ServerId];
        var (before, calls) = ((server.Mark, server.Place, server.Host, server.Power, server.Address), _world.Log.Count);
        _losers = StateFolder.Open(_copy, create: true);
        var ended = finish is null ? Assert.Single(await Loser.RecoverAsync(_world.Hand, null, default))
            : finish.Value ? await Loser.ResumeAsync(move.Id, _world.Hand, null, default) : await Loser.UndoAsync(move.Id, _world.Hand, null, default);

        Assert.Equal(before, (server.Mark, server.Place, server.Host, server.Power, server.Address));
        Assert.Equal(calls, _world.Log.Count);
        _world.AssertWhole();
        Assert.Equal((MoveStatus.Failed, "MoveSuperseded"), (ended.Status, ended.ErrorId));
        Assert.Contains($"generation {server.Mark.Generation}", ended.Error, StringComparison.Ordinal);
        Assert.Contains(_copy, ended.Error, StringComparison.Ordinal);
        Assert.Empty(_losers.ReadOpenMoves());
        Assert.Equal(ended.Id, _losers.History.ReadMoves(null, 1)[0].Id);
    });

    [Theory]
    [InlineData("fetch", "wake")]
    [InlineData("join", "wake")]
    [InlineData("save", "hibernate")]
    [InlineData("drain", "hibernate")]
    public void A_decider_that_a_driver_refuses_closes_its_moves_of_servers_that_the_other_has_moved(string refused, string route) => _world.Time.Run(async () =>
    {
        var move = MoveOf(Enum.Parse<MoveKind>(route, ignoreCase: true));
        using var decider = _losers.Decide("oracle");
        _world.Before = (op, _, _) =>
        {
            if (op != refused)
                return null;

            // The other is faster by this one call: its decider has moved the server on, and the driver has seen its epoch.
            var server = _world.Servers[move.ServerId];
            _world.Before = null;
            _world.HighestEpoch = decider.Epoch + 1;
            server.Mark = server.Mark with { Generation = server.Mark.Generation + 1, ChangedAt = _world.Time.GetUtcNow() + TimeSpan.FromMilliseconds(1) };
            return new VMatrixException("StaleEpoch", VMatrixErrorKind.Busy, $"Epoch {decider.Epoch} is over.");
        };
        var record = (await Loser.CarryOutAsync([move], new MoveContext { By = "oracle", Epoch = decider.Epoch }, null, default))[0];

        Assert.Empty(_losers.ReadOpenMoves());
        Assert.Contains("StaleEpoch", record.Error, StringComparison.Ordinal);
        Assert.Equal(refused is "fetch" or "drain" ? (MoveStatus.Undone, "StaleEpoch") : (MoveStatus.Failed, "MoveSuperseded"), (record.Status, record.ErrorId));
        Assert.Equal("StaleEpoch", Assert.Throws<VMatrixException>(decider.Check).Id);
    });

    [Fact]
    public void A_move_that_fails_for_another_reason_is_not_taken_back_from_who_has_moved_the_server_on() => _world.Time.Run(async () =>
    {
        var move = MoveOf(MoveKind.Wake);
        World.Server? server = null;
        _world.Before = (op, _, _) =>
        {
            if (op != "join")
                return null;
            server = _world.Servers[move.ServerId];
            server.Mark = server.Mark with { Generation = server.Mark.Generation + 1, ChangedAt = _world.Time.GetUtcNow() + TimeSpan.FromMilliseconds(1) };
            _world.Members[move.ServerId] = (server.Address!, VMatrix.Drivers.MemberState.Ready, 0);
            _world.Before = null;
            return new VMatrixException("BalancerFailed", VMatrixErrorKind.Failed, "The balancer has it already.");
        };
        var record = (await Loser.CarryOutAsync([move], _world.Hand, null, default))[0];

        Assert.Equal((MoveStatus.Failed, "MoveSuperseded"), (record.Status, record.ErrorId));
        Assert.Equal(("m1", PowerState.Running), (server!.Host, server.Power));
        Assert.Contains(move.ServerId, _world.Members.Keys);
        Assert.Empty(_losers.ReadOpenMoves());
    });

    private Move MoveOf(MoveKind kind) => kind switch
    {
        MoveKind.Wake => _world.Move(_world.Add("FINANCE-1", Stage.Nest, null), kind, Stage.Matrix, "m1"),
        MoveKind.Hibernate => _world.Move(_world.Add("FINANCE-1", Stage.Matrix, "m1"), kind, Stage.Nest),
        MoveKind.Relocate => _world.Move(_world.Add("FINANCE-1", Stage.Matrix, "m1"), kind, Stage.Matrix, "m2"),
        MoveKind.Dispose => _world.Move(_world.Add("FINANCE-1", Stage.Matrix, "m1"), kind, Stage.Disposed),
        MoveKind.Undo => _world.Move(_world.Add("FINANCE-1", Stage.Disposed, null), kind, Stage.Nest),
        _ => throw new ArgumentOutOfRangeException(nameof(kind)),
    };
}
