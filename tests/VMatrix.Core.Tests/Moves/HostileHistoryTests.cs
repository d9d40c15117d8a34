using System;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using Microsoft.Data.Sqlite;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>A history that somebody else made computes nothing, holds nobody up and fills no memory.</summary>
[SupportedOSPlatform("linux")]
public sealed class HostileHistoryTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-history-").FullName;

    private string File1 => Path.Combine(_folder, "history.db");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private void Make(string sql)
    {
        using var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = File1, Pooling = false }.ToString());
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }

    [Fact]
    public void A_view_without_end_in_a_tables_place_is_not_asked()
    {
        Make("CREATE VIEW samples AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 3000000) SELECT 'FINANCE' AS service, x AS at, 'x' AS sample FROM c");
        using (var reader = History.Open(File1, readOnly: true))
        {
            Assert.Empty(reader.ReadSamples("FINANCE", DateTimeOffset.MinValue));
            Assert.Contains("none of our tables", reader.Warning, StringComparison.Ordinal);
        }

        // Who writes sets it aside as what it is, damaged, and begins a new one.
        using var writer = History.Open(File1);
        Assert.True(writer.IsOn);
        Assert.Contains("set aside", writer.Warning, StringComparison.Ordinal);
        Assert.Single(Directory.GetFiles(_folder, "history.db.damaged-*").Where(f => !f.EndsWith("-wal", StringComparison.Ordinal) && !f.EndsWith("-shm", StringComparison.Ordinal)));
    }

    [Fact]
    public void A_trigger_in_it_never_runs()
    {
        using (History.Open(File1))
        {
        }

        Make("CREATE TRIGGER t AFTER INSERT ON samples BEGIN DELETE FROM moves; END");
        using var reader = History.Open(File1, readOnly: true);
        Assert.Empty(reader.ReadMoves(null, 10));
        Assert.Contains("none of our tables", reader.Warning, StringComparison.Ordinal);
    }

    [Fact]
    public void A_record_of_a_hundred_megabytes_is_not_read()
    {
        Make("CREATE TABLE samples (service TEXT, at INTEGER, sample TEXT); INSERT INTO samples VALUES ('FINANCE', 638400000000000000, CAST(zeroblob(100000000) AS TEXT))");
        var before = GC.GetTotalAllocatedBytes(precise: true);
        using var reader = History.Open(File1, readOnly: true);
        Assert.Empty(reader.ReadSamples("FINANCE", DateTimeOffset.MinValue));
        Assert.Contains("too big", reader.Warning, StringComparison.Ordinal);
        Assert.InRange(GC.GetTotalAllocatedBytes(precise: true) - before, 0, 50_000_000);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_pipe_in_its_place_is_not_waited_for(bool readOnly)
    {
        Assert.Equal(0, Mkfifo(File1, 0x180));
        using var history = History.Open(File1, readOnly);
        Assert.Empty(history.ReadMoves(null, 10));
        Assert.Contains("no regular file", history.Warning, StringComparison.Ordinal);
    }

#pragma warning disable SYSLIB1054, CA5392, CA2101
    [DllImport("libc", EntryPoint = "mkfifo")]
    private static extern int Mkfifo([MarshalAs(UnmanagedType.LPUTF8Str)] string path, uint mode);
#pragma warning restore SYSLIB1054, CA5392, CA2101
}
