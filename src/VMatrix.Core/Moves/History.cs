using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Microsoft.Data.Sqlite;
using VMatrix.Files;

namespace VMatrix.Moves;

/// <summary>
/// Ended moves, ended actions with hosts and load samples, in SQLite on a local disk. Nothing depends on it: when it cannot be opened, read or written,
/// <see cref="Warning"/> says why and the pool goes on without; a damaged file that nobody else has open is set aside and a new one begun. Records that
/// this version cannot read are passed over. One that is opened for reading writes nothing, and needs no right to write.
/// </summary>
public sealed class History : IDisposable
{
    private readonly object _gate = new();
    private readonly string _path;
    private readonly bool _readOnly;
    private SqliteConnection? _connection;
    private FileStream? _use;
    private string? _trouble;
    private string? _notice;
    private int _unreadable;

    private History(string path, bool readOnly) => (_path, _readOnly) = (path, readOnly);

    private const int Damaged = 11;

    private const int NoDatabase = 26;

    private string LockPath => _path + ".lock";

    /// <summary>The file.</summary>
    public string Path => _path;

    /// <summary>Why history is off, was lost or is not all that was written; null when all is well.</summary>
    public string? Warning
    {
        get
        {
            lock (_gate)
            {
                return _trouble ?? _notice ?? (_unreadable == 0 ? null
                    : string.Format(CultureInfo.InvariantCulture, "{0} of the records that were read of the history {1} are damaged or were written by another version of VMatrix; they were passed over.", _unreadable, _path));
            }
        }
    }

    /// <summary>Where the history of a state folder belongs: in it, or, when the folder is on a share, in the user's own data folder, since SQLite's locks need a local disk.</summary>
    /// <param name="stateFolder">The state folder.</param>
    /// <param name="stateId">Its id.</param>
    /// <param name="create">True to make the folder that it belongs in.</param>
    public static string PathFor(string stateFolder, Guid stateId, bool create = true)
    {
        if (IsRemote(stateFolder))
        {
            stateFolder = System.IO.Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, create ? Environment.SpecialFolderOption.Create : Environment.SpecialFolderOption.DoNotVerify), "vmatrix", stateId.ToString("D"));
            if (create)
                OwnFiles.CreateFolder(stateFolder);
        }
        return System.IO.Path.Combine(stateFolder, "history.db");
    }

    /// <summary>Opens a history, making it when missing. Never throws for what is wrong with it.</summary>
    /// <param name="path">The file.</param>
    /// <param name="readOnly">True to write nothing: one that is missing is then empty.</param>
    public static History Open(string path, bool readOnly = false)
    {
        var history = new History(path, readOnly);
        if (readOnly)
            return history;
        lock (history._gate)
            _ = history.Connect();
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
            AddTo(records, reader.GetString(1));
        }

        return (records, end);
    }) ?? ([], last);

    /// <summary>The last wakes into the Matrix that were carried out, at most so many of each service, oldest first.</summary>
    public IReadOnlyList<WakeMeasure> ReadWakes(DateTimeOffset since, int most) => Use(c =>
    {
        using var command = c.CreateCommand();
        command.CommandText = """
            SELECT service, ended - started, bytes FROM (
                SELECT service, started, ended, CAST(json_extract(record, '$.bytes') AS INTEGER) AS bytes, row_number() OVER (PARTITION BY service ORDER BY ended DESC, rowid DESC) AS newest
                FROM (SELECT rowid, service, started, ended, CASE WHEN json_valid(record) THEN record ELSE '{}' END AS record FROM moves WHERE ended >= $since AND ended >= started)
                WHERE json_extract(record, '$.move.kind') = 'Wake' AND json_extract(record, '$.move.toStage') = 'Matrix' AND json_extract(record, '$.status') = 'Done')
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
            AddTo(records, reader.GetString(0));
        return records;
    }) ?? [];

    // A record of a newer version may name what this one does not know: that one is passed over, and the others are read.
    private void AddTo<T>(List<T> records, string json)
    {
        try
        {
            if (JsonSerializer.Deserialize<T>(json, StateFiles.Reading) is { } record)
                records.Add(record);
        }
        catch (JsonException)
        {
            _unreadable++;
        }
    }

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
            AddTo(samples, reader.GetString(0));
        return samples;
    }) ?? [];

    /// <summary>Deletes what is older than a moment, at most a tenth at a time, for the clock that says so may be wrong; and then the oldest tenth again and again until the file holds at most so many bytes of data.</summary>
    public void Trim(DateTimeOffset before, long mostBytes) => Use(c =>
    {
        foreach (var (table, time) in new[] { ("moves", "ended"), ("hosts", "ended"), ("samples", "at") })
            Execute(c, string.Format(CultureInfo.InvariantCulture, "DELETE FROM {0} WHERE rowid IN (SELECT rowid FROM {0} WHERE {1} < {2} ORDER BY {1} LIMIT (SELECT COUNT(*) / 10 + 1 FROM {0}));", table, time, before.UtcTicks));
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
            _use?.Dispose();
            _use = null;
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
            SqliteConnection? once = null;
            try
            {
                var connection = _readOnly ? once = ConnectToRead() : _connection ?? Connect();
                if (connection is null)
                    return default;
                var result = action(connection);
                _trouble = null;
                return result;
            }
            catch (SqliteException e) when (e.SqliteErrorCode is Damaged or NoDatabase && !_readOnly)
            {
                if (SetAside(e))
                    _ = Connect();
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                // SQLite's native library may be missing as well: history is off, and nothing else is.
                _trouble = $"The history {_path} cannot be {(_readOnly ? "read" : "used")}: {e.GetBaseException().Message}";
            }
            finally
            {
                once?.Dispose();
            }

            return default;
        }
    }

    private SqliteConnection? Connect()
    {
        for (var again = false; ; again = true)
        {
            SqliteConnection? connection = null;
            try
            {
                // Made before SQLite does, which would let everybody read it; the files beside it take its mode.
                if (!File.Exists(_path))
                    OwnFiles.Touch(_path);

                // Held shared by all that have the history open: nobody may set it aside meanwhile.
                if (!File.Exists(LockPath))
                    OwnFiles.Touch(LockPath);
                SmallFile.CheckRegular(_path);
                _use ??= new FileStream(LockPath, FileMode.Open, FileAccess.Read, FileShare.Read, 1);

                // No pool: a connection must be gone when it is disposed, or a damaged file could not be set aside.
                connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = _path, Pooling = false, DefaultTimeout = 5 }.ToString());
                connection.Open();
                Bound(connection);
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
                _trouble = null;
                return _connection = connection;
            }
            catch (SqliteException e) when (e.SqliteErrorCode is Damaged or NoDatabase && !again)
            {
                connection?.Dispose();
                if (!SetAside(e))
                    return null;
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                connection?.Dispose();
                _trouble = $"History is off: {_path} cannot be opened: {(e.InnerException ?? e).Message}";
                return null;
            }
        }
    }

    /// <summary>A connection that writes nothing, not even the files beside the history that readers make by default; null where there is no history yet.</summary>
    private SqliteConnection? ConnectToRead()
    {
        if (!File.Exists(_path))
            return null;

        // With nothing in the write-ahead log the file is whole by itself; with something there, whoever wrote it has left the index to it.
        try
        {
            SmallFile.CheckRegular(_path);
        }
        catch (InvalidDataException e)
        {
            throw new SqliteException(e.Message, NoDatabase);
        }

        var log = new FileInfo(_path + "-wal");
        var whole = !log.Exists || log.Length == 0;
        var uri = "file:" + Uri.EscapeDataString(_path).Replace("%2F", "/") + (whole ? "?immutable=1" : "");
        var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = uri, Mode = SqliteOpenMode.ReadOnly, Pooling = false, DefaultTimeout = 5 }.ToString());
        try
        {
            connection.Open();
            Bound(connection);
            return connection;
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    /// <summary>Keeps a file that somebody else made from having us compute or hold without end: what we ask of are tables, nothing else runs, and no record is longer than any of ours.</summary>
    private static void Bound(SqliteConnection connection)
    {
        const int LimitOfLength = 0, MostBytes = 16 << 20;
        _ = SQLitePCL.raw.sqlite3_limit(connection.Handle, LimitOfLength, MostBytes);
        Execute(connection, "PRAGMA trusted_schema = OFF");
        using var command = connection.CreateCommand();
        command.CommandText = "SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger') OR (type = 'table' AND (sql LIKE '%VIRTUAL%' OR sql LIKE '%GENERATED%' OR sql LIKE '%CHECK%')) LIMIT 1";
        if (command.ExecuteScalar() is string name)
            throw new SqliteException($"it holds '{PlainText.Line(name, 60)}', which is none of our tables", NoDatabase);
    }

    /// <summary>Sets a damaged history aside; false when it cannot be, as others have it open.</summary>
    private bool SetAside(SqliteException e)
    {
        _connection?.Dispose();
        _connection = null;
        _use?.Dispose();
        _use = null;
        try
        {
            using var alone = StateFiles.TryLock(LockPath);
            if (alone is null)
            {
                _trouble = $"The history {_path} is damaged ({e.Message}), and another process has it open: history is off here until that process has ended. Get-VMatrixPool shows the pool's decider.";
                return false;
            }

            // With its log: what is in it may be all that can be saved.
            var aside = $"{_path}.damaged-{Guid.NewGuid():N}";
            foreach (var part in new[] { "", "-wal", "-shm" })
            {
                if (File.Exists(_path + part))
                    File.Move(_path + part, aside + part);
            }

            _notice = $"The history {_path} was damaged ({e.Message}); it was set aside as {aside} and a new one begun.";
            return true;
        }
        catch (Exception x) when (StateFiles.IsFileError(x))
        {
            _trouble = $"The history {_path} is damaged ({e.Message}) and could not be set aside: {x.Message}";
            return false;
        }
    }

    private static bool IsRemote(string folder)
    {
        try
        {
            if (RuntimeInformation.IsOSPlatform(OSPlatform.Windows))
                return folder.StartsWith(@"\\", StringComparison.Ordinal) || new DriveInfo(System.IO.Path.GetPathRoot(folder)!).DriveType == DriveType.Network;
            return File.Exists("/proc/self/mounts") && IsRemote(folder, File.ReadLines("/proc/self/mounts"));
        }
        catch (Exception e) when (StateFiles.IsFileError(e) || e is ArgumentException)
        {
            return false;
        }
    }

    /// <summary>True when a folder is on a file system of the network.</summary>
    /// <param name="folder">Its full path.</param>
    /// <param name="mounts">The lines of <c>/proc/self/mounts</c>.</param>
    internal static bool IsRemote(string folder, IEnumerable<string> mounts)
    {
        // The mount with the longest matching path holds the folder, the last one where several lie over each other.
        var type = mounts.Select(l => l.Split(' ')).Where(p => p.Length > 2).Select(p => (Path: Unescape(p[1]), Type: p[2])).Where(p => Holds(p.Path, folder)).OrderBy(p => p.Path.Length).LastOrDefault().Type;
        return type is not null && (type.StartsWith("nfs", StringComparison.Ordinal) || s_remote.Contains(type));
    }

    private static readonly HashSet<string> s_remote = ["cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "ceph", "gfs2", "ocfs2", "lustre", "beegfs", "afs"];

    /// <summary>The kernel writes spaces, tabs, line ends and backslashes in a mount's path as three octal digits (proc_pid_mounts(5)).</summary>
    private static string Unescape(string path)
    {
        if (path.IndexOf('\\') < 0)
            return path;
        var bytes = new List<byte>(path.Length);
        var text = Encoding.UTF8.GetBytes(path);
        for (var i = 0; i < text.Length; i++)
        {
            if (text[i] == '\\' && i + 3 < text.Length && text[i + 1] is >= (byte)'0' and <= (byte)'3' && IsOctal(text[i + 2]) && IsOctal(text[i + 3]))
            {
                bytes.Add((byte)(((text[i + 1] - '0') << 6) | ((text[i + 2] - '0') << 3) | (text[i + 3] - '0')));
                i += 3;
            }
            else
            {
                bytes.Add(text[i]);
            }
        }

        return Encoding.UTF8.GetString([.. bytes]);
    }

    private static bool IsOctal(byte digit) => digit is >= (byte)'0' and <= (byte)'7';

    private static bool Holds(string mount, string folder) => mount == "/" || folder == mount || folder.StartsWith(mount + "/", StringComparison.Ordinal);
}
