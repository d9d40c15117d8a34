using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Commands;

/// <summary>The pools that this process has open, one session each, kept while the file and its state folder stay as they are.</summary>
internal static class Sessions
{
    private static readonly object s_gate = new();
    private static readonly Dictionary<string, Entry> s_open = new(StringComparer.Ordinal);
    private static readonly Dictionary<string, string[]> s_servers = new(StringComparer.Ordinal);

    /// <summary>Opens a pool, or takes the session that is open already. A session for changes serves reading too.</summary>
    public static async Task<Lease> RentAsync(string path, bool forChange, CancellationToken cancellation)
    {
        var stamp = Stamp(path);
        lock (s_gate)
        {
            if (s_open.TryGetValue(path, out var kept) && kept.Stamp == stamp && (kept.ForChange || !forChange) && kept.HasState == Directory.Exists(kept.Session.Spec.StateFolder))
                return new Lease(kept);
        }

        var session = await PoolSession.OpenAsync(path, forChange, cancellation, VMatrix.Shells.RunspaceShell.Provider);
        var entry = new Entry(path, session, forChange, stamp, Directory.Exists(session.Spec.StateFolder));
        Entry? old;
        Lease lease;
        lock (s_gate)
        {
            _ = s_open.TryGetValue(path, out old);
            s_open[path] = entry;
            lease = new Lease(entry);
        }

        old?.Release();
        return lease;
    }

    /// <summary>Lets go of every session, when the module goes.</summary>
    public static void Forget()
    {
        Entry[] entries;
        lock (s_gate)
        {
            entries = [.. s_open.Values];
            s_open.Clear();
            s_servers.Clear();
        }

        foreach (var entry in entries)
            entry.Release();
    }

    /// <summary>Keeps the names of a pool's servers for completion.</summary>
    public static void Remember(string path, IEnumerable<ServerInfo> servers)
    {
        string[] names = [.. servers.Select(s => s.Name).Distinct(StringComparer.OrdinalIgnoreCase).OrderBy(n => n, StringComparer.OrdinalIgnoreCase)];
        lock (s_gate)
            s_servers[path] = names;
    }

    /// <summary>The names of servers that were listed last; empty when none were.</summary>
    public static string[] ServersOf(string path)
    {
        lock (s_gate)
            return s_servers.TryGetValue(path, out string[]? names) ? names : [];
    }

    private static (DateTime, long) Stamp(string path)
    {
        var file = new FileInfo(path);
        return file.Exists ? (file.LastWriteTimeUtc, file.Length) : default;
    }

    /// <summary>An open session and how many use it; the table counts as one.</summary>
    internal sealed class Entry(string path, PoolSession session, bool forChange, (DateTime, long) stamp, bool hasState)
    {
        public string Path { get; } = path;

        public PoolSession Session { get; } = session;

        public bool ForChange { get; } = forChange;

        public (DateTime, long) Stamp { get; } = stamp;

        public bool HasState { get; } = hasState;

        public int Users { get; set; } = 1;

        public void Release()
        {
            lock (s_gate)
            {
                if (--Users > 0)
                    return;
            }

            // Nobody waits for it: what it does at its end is letting go of files and sockets.
            _ = CloseAsync(Session);
        }

        private static async Task CloseAsync(PoolSession session)
        {
            try
            {
                await session.DisposeAsync();
            }
            catch (VMatrixException)
            {
                // There is no one to tell, and nothing of the pool is lost by it.
            }
        }
    }

    /// <summary>The use of a session by one call.</summary>
    internal sealed class Lease : IDisposable
    {
        private Entry? _entry;

        internal Lease(Entry entry)
        {
            lock (s_gate)
                entry.Users++;
            _entry = entry;
            Session = entry.Session;
        }

        public PoolSession Session { get; }

        public void Dispose() => Interlocked.Exchange(ref _entry, null)?.Release();
    }
}
