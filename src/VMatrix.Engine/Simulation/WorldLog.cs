using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Threading;
using VMatrix.Files;

namespace VMatrix.Simulation;

/// <summary>
/// Keeps a simulated world in a file that several processes share: a log with one line for each change, taken into a fresh file when
/// most of it is outdated. A change is whole or not there at all, whenever its process is killed, and costs the same with ten thousand
/// servers as with one; a reader takes in only the lines that are new.
/// </summary>
internal sealed class WorldLog
{
    private static readonly ConcurrentDictionary<string, WorldLog> s_open = new(StringComparer.Ordinal);

    private static readonly JsonSerializerOptions s_json = new()
    {
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Converters = { new JsonStringEnumConverter() },
    };

    private readonly object _gate = new();
    private readonly string? _folder;
    private WorldState _state;
    private string? _log;
    private long _read;
    private long _compactAt = 1 << 20;
    private (long Length, DateTime Written) _stamp;

    private WorldLog(string? folder, int seed)
    {
        _folder = folder;
        Seed = seed;
        _state = new WorldState(seed);
    }

    public int Seed { get; }

    private string FilePath => Path.Combine(_folder!, "world.log");

    /// <summary>The world in a folder; the same object for the same folder, so that what was read stays read.</summary>
    public static WorldLog Open(string folder, int seed) => s_open.GetOrAdd(Path.GetFullPath(folder), path => new WorldLog(path, seed));

    /// <summary>A world that lives as long as the object.</summary>
    public static WorldLog InMemory(int seed) => new(null, seed);

    /// <summary>Drops what was read of a folder, as if this process had never seen it.</summary>
    public static void Forget(string folder) => s_open.TryRemove(Path.GetFullPath(folder), out _);

    public T Read<T>(Func<WorldState, T> read)
    {
        lock (_gate)
        {
            Refresh();
            return read(_state);
        }
    }

    /// <summary>Changes the world: all that <paramref name="change"/> does is kept, or nothing when it throws.</summary>
    /// <param name="change">The change.</param>
    /// <param name="cancellation">Ends the wait for another process that is changing it.</param>
    public T Change<T>(Func<WorldState, T> change, CancellationToken cancellation = default)
    {
        lock (_gate)
        {
            using var held = _folder is null ? null : Hold(_folder, cancellation);
            Refresh();
            try
            {
                var result = change(_state);
                if (_state.TakeChange() is { } made && _folder is not null)
                    Append(made);
                return result;
            }
            catch
            {
                _state.RollBack();
                throw;
            }
        }
    }

    private static FileStream Hold(string folder, CancellationToken cancellation)
    {
        OwnFiles.CreateFolder(folder);
        var path = Path.Combine(folder, "world.lock");
        var waited = Stopwatch.StartNew();
        while (true)
        {
            try
            {
                return OwnFiles.Open(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (waited.Elapsed < TimeSpan.FromSeconds(30))
            {
                if (cancellation.WaitHandle.WaitOne(1))
                    cancellation.ThrowIfCancellationRequested();
            }
            catch (IOException error)
            {
                throw new VMatrixException("SimulationBusy", VMatrixErrorKind.Busy, $"The simulated world in {folder} is held by another process for more than 30 seconds: end that process and try again.", error) { IsTransient = true };
            }
        }
    }

    private void Refresh()
    {
        if (_folder is null)
            return;
        var file = new FileInfo(FilePath);
        if (!file.Exists)
        {
            if (_log is not null)
                Reset(null);
            _stamp = default;
            return;
        }

        var stamp = (file.Length, file.LastWriteTimeUtc);
        if (_log is not null && stamp == _stamp)
            return;
        using var stream = new FileStream(FilePath, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        var head = ReadLine(stream, 0);
        var log = head is null ? null : JsonSerializer.Deserialize<WorldHead>(head, s_json);
        if (log is null)
            return; // Being made by another process.
        if (log.Log != _log || stream.Length < _read)
        {
            Reset(log.Log);
            _read = head!.Length + 1;
        }

        stream.Position = _read;
        var bytes = new byte[stream.Length - _read];
        var length = ReadAll(stream, bytes);
        var start = 0;
        for (var end = Array.IndexOf(bytes, (byte)'\n', start, length - start); end >= 0; end = Array.IndexOf(bytes, (byte)'\n', start, length - start))
        {
            _state.Apply(Parse(bytes, start, end - start));
            start = end + 1;
        }

        _read += start;
        _stamp = stamp;
    }

    private WorldChange Parse(byte[] bytes, int start, int length)
    {
        try
        {
            return JsonSerializer.Deserialize<WorldChange>(bytes.AsSpan(start, length), s_json)!;
        }
        catch (JsonException error)
        {
            throw new VMatrixException("SimulationCorrupt", VMatrixErrorKind.Corrupt, $"The simulated world in {FilePath} cannot be read at byte {_read + start}: delete the folder {_folder} to begin anew.", error);
        }
    }

    private static byte[]? ReadLine(FileStream stream, long from)
    {
        stream.Position = from;
        var bytes = new byte[256];
        var end = Array.IndexOf(bytes, (byte)'\n', 0, ReadAll(stream, bytes));
        return end < 0 ? null : bytes.AsSpan(0, end).ToArray();
    }

    private static int ReadAll(FileStream stream, byte[] bytes)
    {
        var length = 0;
        while (length < bytes.Length && stream.Read(bytes, length, bytes.Length - length) is var more and > 0)
            length += more;
        return length;
    }

    private void Reset(string? log)
    {
        _state = new WorldState(Seed);
        _log = log;
        _read = 0;
    }

    private void Append(WorldChange change)
    {
        try
        {
            if (_log is null || _read > _compactAt)
                Compact();
            else
                AppendLine(change);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            Reset(null); // The file is the truth: read it again.
            throw new VMatrixException("SimulationUnwritable", VMatrixErrorKind.Failed, $"The simulated world in {_folder} cannot be written: {error.Message}", error);
        }

        var file = new FileInfo(FilePath);
        _stamp = (file.Length, file.LastWriteTimeUtc);
    }

    private void AppendLine(WorldChange change)
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(change, s_json);
        Array.Resize(ref json, json.Length + 1);
        json[json.Length - 1] = (byte)'\n';
        using var stream = new FileStream(FilePath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, 1);
        if (stream.Length > _read)
            stream.SetLength(_read); // A line that a killed process left unfinished.
        stream.Position = _read;
        stream.Write(json, 0, json.Length);
        _read += json.Length;
    }

    private void Compact()
    {
        var head = new WorldHead(Guid.NewGuid().ToString("N"));
        var temporary = FilePath + ".new";
        using (var stream = OwnFiles.Open(temporary, FileMode.Create, FileAccess.Write, FileShare.Read))
        {
            JsonSerializer.Serialize(stream, head, s_json);
            stream.WriteByte((byte)'\n');
            foreach (var part in _state.Snapshot())
            {
                JsonSerializer.Serialize(stream, part, s_json);
                stream.WriteByte((byte)'\n');
            }

            _read = stream.Length;
        }

#if NET
        File.Move(temporary, FilePath, overwrite: true);
#else
        if (File.Exists(FilePath))
            File.Replace(temporary, FilePath, null);
        else
            File.Move(temporary, FilePath);
#endif
        _log = head.Log;
        _compactAt = _read * 4 + (1 << 20);
    }
}

internal sealed record WorldHead(string Log);
