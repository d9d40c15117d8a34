using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text.Json;
using Microsoft.Data.Sqlite;
using VMatrix.Files;

namespace VMatrix.Moves;

/// <summary>
/// Ended moves, ended actions with hosts and load samples, in SQLite on a local disk. Nothing depends on it: when it cannot be opened, read or written,
/// <see cref="Warning"/> says why and the pool goes on without; a damaged file is set aside and a new one begun.
/// </summary>
public sealed class History : IDisposable
{
    private readonly object _gate = new();
    private readonly string _path;
    private SqliteConnection? _connection;

    private History(string path) => _path = path;

    /// <summary>The file.</summary>
    public string Path => _path;

    /// <summary>Why history is off or was lost; null when all is well.</summary>
    public string? Warning { get; private set; }

    /// <summary>Where the history of a state folder belongs: in it, or, when the folder is on a share, in the user's own data folder, since SQLite's locks need a local disk.</summary>
    public static string PathFor(string stateFolder, Guid stateId)
    {
        if (IsRemote(stateFolder))
        {
            stateFolder = System.IO.Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.Create), "vmatrix", stateId.ToString("D"));
            OwnFiles.CreateFolder(stateFolder);
        }
        return System.IO.Path.Combine(stateFolder, "history.db");
    }

    /// <summary>Opens a history, making it when missing. Never throws for what is wrong with it.</summary>
    public static History Open(string path)
    {
        var history = new History(path);
        lock (history._gate)
            history.Connect();
        return history;
    }

    /// <summary>Keeps an ended move.</summary>
    public void AddMove(MoveRecord record) => Use(c =>
    {
        using var command = c.CreateCommand();
        command.CommandText = "INSERT OR REPLACE INTO moves (id, server, service, started, ended, record) VALUES ($id, $server, $service, $started, $ended, $record)";
        command.Parameters.AddWithValue("$id", record.Id.ToString("D"));
        command.Parameters.AddWithValue("$server", record.Move.ServerId.ToString("D"));
        command.Parameters.AddWithValue("$service", record.Move.Service);
        command.Parameters.AddWithValue("$started", record.StartedAt.UtcTicks);
        command.Parameters.AddWithValue("$ended", (record.EndedAt ?? record.StartedAt).UtcTicks);
        command.Parameters.AddWithValue("$record", JsonSerializer.Serialize(record, StateFiles.Json));
        return command.ExecuteNonQuery();
    });

    /// <summary>Ended moves, newest first.</summary>
    /// <param name="since">Only those that ended then or later; null for all.</param>
    /// <param name="most">At most so many.</param>
    public IReadOnlyList<MoveRecord> ReadMoves(DateTimeOffset? since, int most) => Read<MoveRecord>("moves", since, most);

    /// <summary>True when it is kept and can be read.</summary>
    public bool IsOn
    {
        get
        {
            lock (_gate)
                return _connection is not null;
        }
    }

    /// <summary>Moves and actions with hosts that ended since the last look, whoever carried them out, oldest first.</summary>
    /// <param name="last">Where the last look ended; empty for the first. Set to where this one ends.</param>
    /// <param name="since">Only what ended then or later.</param>
    public (IReadOnlyList<MoveRecord> Moves, IReadOnlyList<HostActionRecord> Hosts) ReadSince(ref (long Move, long Host) last, DateTimeOffset since)
    {
        var (moves, move) = ReadAfter<MoveRecord>("moves", last.Move, since);
        var (hosts, host) = ReadAfter<HostActionRecord>("hosts", last.Host, since);
        last = (move, host);
        return (moves, hosts);
    }

    private (List<T> Records, long Last) ReadAfter<T>(string table, long last, DateTimeOffset since) => Use<(List<T>, long)?>(c =>
    {
        using var command = c.CreateCommand();
        command.CommandText = $"SELECT rowid, record FROM {table} WHERE rowid > (CASE WHEN $last > (SELECT ifnull(max(rowid), 0) FROM {table}) THEN 0 ELSE $last END) AND ended >= $since ORDER BY rowid";
        command.Parameters.AddWithValue("$last", last);
        command.Parameters.AddWithValue("$since", since.UtcTicks);
        var records = new List<T>();
        var end = last;
        using var reader = command.ExecuteReader();
        while (reader.Read())
        {
            end = reader.GetInt64(0);
            if (JsonSerializer.Deserialize<T>(reader.GetString(1), StateFiles.Json) is { } record)
                records.Add(record);
        }

        return (records, end);
    }) ?? ([], last);

    /// <summary>The last wakes into the Matrix that were carried out, at most so many of each service, oldest first.</summary>
    public IReadOnlyList<WakeMeasure> ReadWakes(DateTimeOffset since, int most) => Use(c =>
    {
        using var command = c.CreateCommand();
        command.CommandText = """
            SELECT service, ended - started, bytes FROM (
                SELECT service, started, ended, json_extract(record, '$.bytes') AS bytes, row_number() OVER (PARTITION BY service ORDER BY ended DESC, rowid DESC) AS newest
                FROM moves
                WHERE ended >= $since AND json_extract(record, '$.move.kind') = 'Wake' AND json_extract(record, '$.move.toStage') = 'Matrix' AND json_extract(record, '$.status') = 'Done')
            WHERE newest <= $most ORDER BY newest DESC
            """;
        command.Parameters.AddWithValue("$since", since.UtcTicks);
        command.Parameters.AddWithValue("$most", most);
        var wakes = new List<WakeMeasure>();
        using var reader = command.ExecuteReader();
        while (reader.Read())
            wakes.Add(new WakeMeasure(reader.GetString(0), TimeSpan.FromTicks(reader.GetInt64(1)), reader.IsDBNull(2) ? null : reader.GetInt64(2)));
        return wakes;
    }) ?? [];

    private List<T> Read<T>(string table, DateTimeOffset? since, int most) => Use(c =>
    {
        using var command = c.CreateCommand();
        command.CommandText = $"SELECT record FROM {table} WHERE ended >= $since ORDER BY ended DESC, rowid DESC LIMIT $most";
        command.Parameters.AddWithValue("$since", since?.UtcTicks ?? 0);
        command.Parameters.AddWithValue("$most", most);
        var records = new List<T>();
        using var reader = command.ExecuteReader();
        while (reader.Read())
            if (JsonSerializer.Deserialize<T>(reader.GetString(0), StateFiles.Json) is { } record)
                records.Add(record);
        return records;
    }) ?? [];

    /// <summary>Keeps an ended action with a host.</summary>
    public void AddHostAction(HostActionRecord record) => Use(c =>
    {
        using var command = c.CreateCommand();
        command.CommandText = "INSERT OR REPLACE INTO hosts (id, host, ended, record) VALUES ($id, $host, $ended, $record)";
        command.Parameters.AddWithValue("$id", record.Action.Id.ToString("D"));
        command.Parameters.AddWithValue("$host", record.Action.Host);
        command.Parameters.AddWithValue("$ended", (record.EndedAt ?? record.StartedAt).UtcTicks);
        command.Parameters.AddWithValue("$record", JsonSerializer.Serialize(record, StateFiles.Json));
        return command.ExecuteNonQuery();
    });

    /// <summary>Ended actions with hosts, newest first.</summary>
    /// <param name="since">Only those that ended then or later; null for all.</param>
    /// <param name="most">At most so many.</param>
    public IReadOnlyList<HostActionRecord> ReadHostActions(DateTimeOffset? since, int most) => Read<HostActionRecord>("hosts", since, most);

    /// <summary>Keeps load samples.</summary>
    public void AddSamples(IEnumerable<ServiceLoad> samples) => Use(c =>
    {
        using var transaction = c.BeginTransaction();
        using var command = c.CreateCommand();
        command.Transaction = transaction;
        command.CommandText = "INSERT INTO samples (service, at, sample) VALUES ($service, $at, $sample)";
        var service = command.Parameters.Add("$service", SqliteType.Text);
        var at = command.Parameters.Add("$at", SqliteType.Integer);
        var json = command.Parameters.Add("$sample", SqliteType.Text);
        foreach (var sample in samples)
        {
            (service.Value, at.Value, json.Value) = (sample.Service, sample.At.UtcTicks, JsonSerializer.Serialize(sample, StateFiles.Json));
            command.ExecuteNonQuery();
        }
        transaction.Commit();
        return true;
    });

    /// <summary>A service's samples since a moment, oldest first.</summary>
    public IReadOnlyList<ServiceLoad> ReadSamples(string service, DateTimeOffset since) => Use(c =>
    {
        using var command = c.CreateCommand();
        command.CommandText = "SELECT sample FROM samples WHERE service = $service AND at >= $since ORDER BY at";
        command.Parameters.AddWithValue("$service", service);
        command.Parameters.AddWithValue("$since", since.UtcTicks);
        var samples = new List<ServiceLoad>();
        using var reader = command.ExecuteReader();
        while (reader.Read())
            if (JsonSerializer.Deserialize<ServiceLoad>(reader.GetString(0), StateFiles.Json) is { } sample)
                samples.Add(sample);
        return samples;
    }) ?? [];

    /// <summary>Deletes what is older than a moment, and then the oldest tenth again and again until the file holds at most so many bytes of data.</summary>
    public void Trim(DateTimeOffset before, long mostBytes) => Use(c =>
    {
        Execute(c, string.Format(CultureInfo.InvariantCulture, "DELETE FROM moves WHERE ended < {0}; DELETE FROM hosts WHERE ended < {0}; DELETE FROM samples WHERE at < {0};", before.UtcTicks));
        for (var i = 0; i < 50 && DataBytes(c) > mostBytes; i++)
        {
            Execute(c, "DELETE FROM samples WHERE rowid IN (SELECT rowid FROM samples ORDER BY at LIMIT (SELECT COUNT(*) / 10 + 1 FROM samples));"
                + "DELETE FROM moves WHERE rowid IN (SELECT rowid FROM moves ORDER BY ended LIMIT (SELECT COUNT(*) / 10 + 1 FROM moves));"
                + "DELETE FROM hosts WHERE rowid IN (SELECT rowid FROM hosts ORDER BY ended LIMIT (SELECT COUNT(*) / 10 + 1 FROM hosts));");
        }
        Execute(c, "PRAGMA incremental_vacuum;");
        return true;
    });

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_gate)
        {
            _connection?.Dispose();
            _connection = null;
        }
    }

    private static long DataBytes(SqliteConnection c) =>
        (Number(c, "PRAGMA page_count") - Number(c, "PRAGMA freelist_count")) * Number(c, "PRAGMA page_size");

    private static long Number(SqliteConnection c, string sql)
    {
        using var command = c.CreateCommand();
        command.CommandText = sql;
        return Convert.ToInt64(command.ExecuteScalar(), CultureInfo.InvariantCulture);
    }

    private static void Execute(SqliteConnection c, string sql)
    {
        using var command = c.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }

    private T? Use<T>(Func<SqliteConnection, T> action)
    {
        lock (_gate)
        {
            if (_connection is null)
                return default;
            try
            {
                return action(_connection);
            }
            catch (Exception e) when (e is SqliteException { SqliteErrorCode: 11 or 26 } or JsonException)
            {
                SetAside(e);
                Connect();
            }
            catch (SqliteException e)
            {
                Warning = $"The history {_path} cannot be used: {e.Message}";
            }
            return default;
        }
    }

    private void Connect()
    {
        for (var again = false; ; again = true)
        {
            SqliteConnection? connection = null;
            try
            {
                // Made before SQLite does, which would let everybody read it; the files beside it take its mode.
                if (!File.Exists(_path))
                    OwnFiles.Touch(_path);

                // No pool: a connection must be gone when it is disposed, or a damaged file could not be set aside.
                connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = _path, Pooling = false, DefaultTimeout = 5 }.ToString());
                connection.Open();
                Execute(connection, """
                    PRAGMA auto_vacuum = INCREMENTAL;
                    PRAGMA journal_mode = WAL;
                    PRAGMA synchronous = NORMAL;
                    CREATE TABLE IF NOT EXISTS moves (id TEXT PRIMARY KEY, server TEXT NOT NULL, service TEXT NOT NULL, started INTEGER NOT NULL, ended INTEGER NOT NULL, record TEXT NOT NULL);
                    CREATE INDEX IF NOT EXISTS moves_ended ON moves (ended);
                    CREATE TABLE IF NOT EXISTS hosts (id TEXT PRIMARY KEY, host TEXT NOT NULL, ended INTEGER NOT NULL, record TEXT NOT NULL);
                    CREATE TABLE IF NOT EXISTS samples (service TEXT NOT NULL, at INTEGER NOT NULL, sample TEXT NOT NULL);
                    CREATE INDEX IF NOT EXISTS samples_at ON samples (service, at);
                    """);
                _connection = connection;
                return;
            }
            catch (SqliteException e) when (e.SqliteErrorCode is 11 or 26 && !again)
            {
                connection?.Dispose();
                SetAside(e);
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                // SQLite's native library may be missing as well: history is off, and nothing else is.
                connection?.Dispose();
                Warning = $"History is off: {_path} cannot be opened: {(e.InnerException ?? e).Message}";
                return;
            }
        }
    }

    private void SetAside(Exception e)
    {
        _connection?.Dispose();
        _connection = null;
        var aside = $"{_path}.damaged-{Guid.NewGuid():N}";
        Warning = $"The history {_path} was damaged ({e.Message}); it was set aside as {aside} and a new one begun.";
        try
        {
            File.Move(_path, aside);
            File.Delete(_path + "-wal");
            File.Delete(_path + "-shm");
        }
        catch (Exception x) when (StateFiles.IsFileError(x))
        {
            Warning += $" It could not be set aside: {x.Message}";
        }
    }

    private static bool IsRemote(string folder)
    {
        try
        {
            if (RuntimeInformation.IsOSPlatform(OSPlatform.Windows))
                return folder.StartsWith(@"\\", StringComparison.Ordinal) || new DriveInfo(System.IO.Path.GetPathRoot(folder)!).DriveType == DriveType.Network;

            // The mount with the longest matching path holds the folder.
            var best = File.Exists("/proc/self/mounts")
                ? File.ReadLines("/proc/self/mounts").Select(l => l.Split(' ')).Where(p => p.Length > 2 && Holds(p[1], folder)).OrderByDescending(p => p[1].Length).FirstOrDefault()
                : null;
            return best is not null && (best[2].StartsWith("nfs", StringComparison.Ordinal) || best[2] is "cifs" or "smb3" or "smbfs" or "9p" or "fuse.sshfs" or "fuse.glusterfs" or "ceph" or "gfs2" or "ocfs2");
        }
        catch (Exception e) when (StateFiles.IsFileError(e) || e is ArgumentException)
        {
            return false;
        }
    }

    private static bool Holds(string mount, string folder) => mount == "/" || folder == mount || folder.StartsWith(mount + "/", StringComparison.Ordinal);
}
