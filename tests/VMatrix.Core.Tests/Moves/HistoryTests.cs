using System;
using System.IO;
using System.Linq;
using Microsoft.Data.Sqlite;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>The history beside other versions, other processes and readers.</summary>
public sealed class HistoryTests : IDisposable
{
    private readonly World _world = new();

    public void Dispose() => _world.Dispose();

    private string Db => Path.Combine(_world.StatePath, "history.db");

    private MoveRecord Record(int minute) =>
        new() { Move = _world.Create() with { Kind = MoveKind.Wake, ToStage = Stage.Matrix }, Status = MoveStatus.Done, By = "x", StartedAt = _world.Time.GetUtcNow().AddMinutes(minute), EndedAt = _world.Time.GetUtcNow().AddMinutes(minute).AddSeconds(2) };

    private void Checkpoint()
    {
        using var connection = new SqliteConnection($"Data Source={Db};Pooling=False");
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = "PRAGMA wal_checkpoint(TRUNCATE)";
        command.ExecuteNonQuery();
    }

    private void Spoil(string set)
    {
        using var connection = new SqliteConnection($"Data Source={Db};Pooling=False");
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = $"UPDATE moves SET record = {set} WHERE rowid = (SELECT max(rowid) FROM moves)";
        Assert.Equal(1, command.ExecuteNonQuery());
    }

    [Theory]
    [InlineData("replace(record, '\"kind\":\"Wake\"', '\"kind\":\"Teleport\"')")]
    [InlineData("'not json'")]
    [InlineData("'{\"move\":null}'")]
    [InlineData("'null'")]
    [InlineData("x'00ff'")]
    public void ARecordThatThisVersionCannotReadIsPassedOverAndToldAndTheOthersStay(string set)
    {
        var history = _world.State.History;
        for (var i = 0; i < 3; i++)
            history.AddMove(Record(i));
        Spoil(set);

        Assert.Equal(2, history.ReadMoves(null, 10).Count);
        Assert.Equal(2, history.ReadWakes(_world.Time.GetUtcNow().AddDays(-1), 10).Count);
        if (set != "'null'")
            Assert.Contains("another version", history.Warning);
        history.AddMove(Record(4));
        Assert.Equal(3, history.ReadMoves(null, 10).Count);
        Assert.Empty(Directory.GetFiles(_world.StatePath, "history.db.damaged-*"));
    }

    [Fact]
    public void ADamagedHistoryThatAnotherProcessHasOpenStaysWhereItIs()
    {
        using var live = History.Open(Db);
        live.AddMove(Record(0));
        Checkpoint();
        File.WriteAllText(Db, new string('?', 20_000));

        using var second = History.Open(Db);
        Assert.Empty(second.ReadMoves(null, 10));
        Assert.Contains("another process has it open", second.Warning);
        Assert.Empty(Directory.GetFiles(_world.StatePath, "history.db.damaged-*"));
        Assert.True(File.Exists(Db + "-wal"));
        Assert.True(File.Exists(Db + "-shm"));
    }

    [Fact]
    public void ADamagedHistoryIsSetAsideWithItsLog()
    {
        using (var first = History.Open(Db))
            first.AddMove(Record(0));

        // As after a crash on a bad disk: a log is there, what it belongs to is not what it was.
        File.WriteAllText(Db, new string('?', 20_000));
        File.WriteAllText(Db + "-wal", new string('!', 20_000));

        using var next = History.Open(Db);
        next.AddMove(Record(1));
        Assert.Single(next.ReadMoves(null, 10));
        Assert.Contains("set aside", next.Warning);
        Assert.Contains(Directory.GetFiles(_world.StatePath, "history.db.damaged-*"), f => File.ReadAllText(f).StartsWith("???", StringComparison.Ordinal));
    }

    [Fact]
    public void AReaderMakesNothingAndSeesWhatAWriterKeeps()
    {
        using var reader = StateFolder.Open(_world.StatePath, create: false);
        Assert.Empty(reader.History.ReadMoves(null, 10));
        Assert.Null(reader.History.Warning);
        Assert.False(File.Exists(Db));

        // While the writer lives, and after it.
        _world.State.History.AddMove(Record(0));
        Assert.Single(reader.History.ReadMoves(null, 10));
        _world.State.Dispose();
        var left = Directory.GetFiles(_world.StatePath, "history.db*").Order().ToArray();
        Assert.Single(reader.History.ReadMoves(null, 10));
        Assert.Equal(left, Directory.GetFiles(_world.StatePath, "history.db*").Order());

        using (var again = History.Open(Db))
            again.AddMove(Record(1));
        Assert.Equal(2, reader.History.ReadMoves(null, 10).Count);
        Assert.Null(reader.History.Warning);
    }

    [Fact]
    public void WhatAReaderCannotReadIsTold()
    {
        File.WriteAllText(Db, new string('?', 5000));
        using var reader = StateFolder.Open(_world.StatePath, create: false);
        Assert.Empty(reader.History.ReadMoves(null, 10));
        Assert.Contains("cannot be read", reader.History.Warning);
        Assert.Single(Directory.GetFiles(_world.StatePath, "history.db*"));
    }

    // Paths as the kernel writes them: proc_pid_mounts(5), getmntent(3).
    [Theory]
    [InlineData("server:/x /mnt/my\\040share nfs4 rw 0 0", "/mnt/my share/pool/.vmatrix", true)]
    [InlineData("//s/x /mnt/a\\011b\\134c cifs rw 0 0", "/mnt/a\tb\\c/pool", true)]
    [InlineData("//s/x /mnt/Gr\u00f6\u00dfe\\040x cifs rw 0 0", "/mnt/Gr\u00f6\u00dfe x", true)]
    [InlineData("server:/x /mnt/share nfs rw 0 0", "/mnt/share2/pool", false)]
    [InlineData("/dev/sdb /mnt/odd\\0 ext4 rw 0 0", "/mnt/odd\\0/pool", false)]
    public void AMountOfTheNetworkIsFoundWhateverItsPathHolds(string line, string folder, bool remote) =>
        Assert.Equal(remote, History.IsRemote(folder, ["/dev/sda / ext4 rw 0 0", line]));

    [Fact]
    public void OfMountsOverEachOtherTheLastOneCounts()
    {
        Assert.True(History.IsRemote("/data/pool", ["/dev/sda / ext4 rw 0 0", "/dev/sdb /data ext4 rw 0 0", "s:/x /data nfs4 rw 0 0"]));
        Assert.False(History.IsRemote("/data/pool", ["s:/x /data nfs4 rw 0 0", "/dev/sdb /data ext4 rw 0 0"]));
    }
}
