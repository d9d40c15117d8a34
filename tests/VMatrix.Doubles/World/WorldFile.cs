using System;
using System.Collections.Concurrent;
using System.Diagnostics;
using System.IO;
using System.Text;
using System.Threading;

namespace VMatrix.Doubles;

/// <summary>
/// Keeps a world in one file that several processes share: a log with a line for each change, written anew when it has grown. A change is
/// whole or not there, whenever its process is killed.
/// </summary>
internal sealed class WorldFile
{
    private static readonly ConcurrentDictionary<string, WorldFile> s_open = new(StringComparer.Ordinal);

    private readonly Lock _gate = new();
    private readonly string _folder;
    private WorldState _state = new();
    private string? _head;
    private long _read;
    private (long, DateTime) _stamp;
    private long _compactAt = 4 << 20;

    private WorldFile(string folder)
    {
        _folder = folder;
        Directory.CreateDirectory(folder);
    }

    private string LogPath => Path.Combine(_folder, "world.log");

    /// <summary>The world of a folder; the same object for the same folder.</summary>
    public static WorldFile Open(string folder) => s_open.GetOrAdd(Path.GetFullPath(folder), path => new WorldFile(path));

    /// <summary>Drops what was read of a folder.</summary>
    public static void Forget(string folder) => s_open.TryRemove(Path.GetFullPath(folder), out _);

    /// <summary>Looks at the world without holding it, unless <paramref name="needsChange"/> says that something has to happen first; then it returns false.</summary>
    public bool TryRead<T>(Func<WorldState, bool> needsChange, Func<WorldState, T> read, out T? result)
    {
        lock (_gate)
        {
            Refresh();
            result = default;
            if (needsChange(_state))
                return false;
            result = read(_state);
            return true;
        }
    }

    public T Change<T>(Func<WorldState, T> change)
    {
        lock (_gate)
        {
            using var held = Hold();
            Refresh();
            try
            {
                var result = change(_state);
                if (_state.TakeChange() is { } line)
                    Append(line);
                return result;
            }
            catch
            {
                _state.RollBack();
                throw;
            }
        }
    }

    private FileStream Hold()
    {
        var waited = Stopwatch.StartNew();
        while (true)
        {
            try
            {
                return new FileStream(Path.Combine(_folder, "world.lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (waited.Elapsed < TimeSpan.FromSeconds(30))
            {
                Thread.Sleep(1);
            }
        }
    }

    // Whole lines only: another process may be writing the next one.
    private void Refresh()
    {
        var file = new FileInfo(LogPath);
        if (!file.Exists)
        {
            Reset(null);
            return;
        }

        var stamp = (file.Length, file.LastWriteTimeUtc);
        if (stamp == _stamp)
            return;

        using var stream = new FileStream(LogPath, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        var head = new byte[33];
        stream.ReadExactly(head);
        if (Encoding.ASCII.GetString(head, 0, 32) is var name && (name != _head || stream.Length < _read))
        {
            Reset(name);
            _read = head.Length;
        }

        _stamp = stamp;
        if (stream.Length == _read)
            return;
        stream.Position = _read;
        var bytes = new byte[stream.Length - _read];
        stream.ReadExactly(bytes);
        var start = 0;
        for (var end = Array.IndexOf(bytes, (byte)'\n', start); end >= 0; end = Array.IndexOf(bytes, (byte)'\n', start))
        {
            _state.Apply(bytes.AsSpan(start, end - start));
            start = end + 1;
        }

        _read += start;
    }

    private void Reset(string? head)
    {
        _state = new WorldState();
        _head = head;
        _read = 0;
        _stamp = default;
    }

    private void Append(byte[] line)
    {
        if (_head is null || _read > _compactAt)
        {
            Compact();
            return;
        }

        using var stream = new FileStream(LogPath, FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, 1);
        stream.SetLength(_read); // A line that a killed process left unfinished.
        stream.Position = _read;
        stream.Write([.. line, (byte)'\n']);
        _read = stream.Length;
        stream.Dispose();
        Stamp();
    }

    private void Compact()
    {
        var head = Guid.NewGuid().ToString("N");
        using (var stream = new FileStream(LogPath + ".new", FileMode.Create, FileAccess.Write))
        {
            stream.Write(Encoding.ASCII.GetBytes(head + "\n"));
            foreach (var line in _state.Snapshot())
            {
                stream.Write(line);
                stream.WriteByte((byte)'\n');
            }

            _read = stream.Length;
        }

        File.Move(LogPath + ".new", LogPath, overwrite: true);
        _head = head;
        _compactAt = (_read * 4) + (4 << 20);
        Stamp();
    }

    private void Stamp()
    {
        var file = new FileInfo(LogPath);
        _stamp = (file.Length, file.LastWriteTimeUtc);
    }
}
