using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Files;

namespace VMatrix.Qemu;

/// <summary>
/// Where servers' folders lie: on a host, in the nest or in the disposed area, always in exactly one of them. Inside one file system a
/// folder changes its place by a rename. Between two it is copied to <c>.arriving-ID</c>, flushed, taken away as <c>.leaving-ID</c> (the
/// point from which it is no longer here) and renamed into place; whoever comes after a crash goes on or back by what lies there.
/// </summary>
internal sealed class Places(PoolSpec pool)
{
    private const string Leaving = ".leaving-";
    private const string Arriving = ".arriving-";
    private const string Target = "to";

    /// <summary>The file in a folder that is not finished yet, locked by whoever makes it.</summary>
    public const string Unfinished = "unfinished";

    /// <summary>How the name of a folder begins that becomes a new server.</summary>
    public const string Creating = ".creating-";

    /// <summary>How the name of a folder begins that is being deleted.</summary>
    public const string Erasing = ".erasing-";

    public string Nest => Path.Combine(pool.Nest.Folder, "servers");

    public string Disposed => Path.Combine(pool.Nest.Folder, "disposed");

    public string Images => Path.Combine(pool.Nest.Folder, "images");

    public static string Host(HostSpec host) => Path.Combine(
        host.Folder ?? throw new VMatrixException("HostFolderMissing", VMatrixErrorKind.InvalidInput, $"Host {host.Name} has no folder; the qemu driver keeps its servers in one: give it a folder: in the pool file."),
        "servers");

    /// <summary>Every place of the pool with its name for people.</summary>
    public IEnumerable<(string Place, string Name)> All() =>
        pool.Hosts.Where(h => h.Folder is not null).Select(h => (Host(h), $"host {h.Name}")).Append((Nest, "the nest")).Append((Disposed, "the disposed area"));

    /// <summary>A server's folder in a place; null when it is not there.</summary>
    public static ServerFolder? Find(string place, Guid server)
    {
        Settle(place, server);
        var path = Path.Combine(place, server.ToString("D"));
        return Directory.Exists(path) ? new ServerFolder(path) : null;
    }

    /// <summary>A server's folder in a place.</summary>
    /// <exception cref="VMatrixException"><c>ServerNotFound</c>, naming where it is instead.</exception>
    public ServerFolder Get(string place, Guid server)
    {
        if (Find(place, server) is { } folder)
        {
            return folder;
        }

        var elsewhere = Others(server, place).ToArray();
        throw new VMatrixException("ServerNotFound", VMatrixErrorKind.NotFound,
            $"Server {server} is not in {place}; {(elsewhere.Length == 0 ? "it is nowhere else in the pool either" : "it is in " + string.Join(" and in ", elsewhere))}.");
    }

    /// <summary>The other places, by their names for people, that hold a server's folder. Copies of it do not count unless they live.</summary>
    public IEnumerable<string> Others(Guid server, string place) =>
        All().Where(p => p.Place != place && Directory.Exists(Path.Combine(p.Place, server.ToString("D"))))
            .Where(p => new ServerFolder(Path.Combine(p.Place, server.ToString("D"))) is var folder && (folder.IsLive() || folder.IsOurs()))
            .Select(p => p.Name);

    /// <summary>The folders of a place: servers, whatever else lies there, and servers on their way out whose move was cut short.</summary>
    public static IEnumerable<(ServerFolder Folder, string Name)> List(string place)
    {
        if (!Directory.Exists(place))
        {
            yield break;
        }

        // Made, moved and erased while we look: one that vanishes is not there.

        foreach (var path in Directory.EnumerateDirectories(place))
        {
            var name = Path.GetFileName(path);
            if (!name.StartsWith('.'))
            {
                yield return (new ServerFolder(path), name);
            }
            else if (name.StartsWith(Leaving, StringComparison.Ordinal) && !HasLeft(path))
            {
                yield return (new ServerFolder(path), name[Leaving.Length..]);
            }
        }
    }

    /// <summary>Takes a server from one place to another. Done already is no error.</summary>
    public async Task MoveAsync(Guid server, string from, string to, CancellationToken cancellation)
    {
        Settle(from, server);
        var id = server.ToString("D");
        var (source, target) = (Path.Combine(from, id), Path.Combine(to, id));
        var arriving = Path.Combine(to, Arriving + id);
        if (Directory.Exists(target))
        {
            if (Directory.Exists(source))
            {
                throw new VMatrixException("ServerTwice", VMatrixErrorKind.InvalidState, $"Server {server} lies both in {source} and in {target}; one is a copy. Take the copy away, then try again.");
            }

            if (new ServerFolder(target).IsOurs())
            {
                return;
            }
        }

        _ = Get(from, server);
        OwnFiles.CreateFolder(to);
        SweepUnfinished(to);
        Delete(arriving);

        // Inside one file system a loss of power takes a later change back before an earlier one: nothing has to be flushed.
        if (!Native.TryRename(source, target))
        {
            using var held = Begin(arriving);
            await CopyAsync(source, arriving, cancellation);
            var there = new ServerFolder(arriving);
            var here = new ServerFolder(source);
            if (there.ReadMark() is { } mark && mark.MachineId == here.MachineId())
            {
                there.WriteMark(mark);
            }

            ServerFolder.Write(Path.Combine(source, Target), target);
            Directory.Move(source, Path.Combine(from, Leaving + id));
            Native.FlushFolder(from);
            File.Delete(Path.Combine(arriving, Unfinished));
            Directory.Move(arriving, target);
            Native.FlushFolder(to);
            Delete(Path.Combine(from, Leaving + id));
        }
    }

    /// <summary>Ends a move between file systems that was cut short: it is either done (the server is at its target) or it never was.</summary>
    private static void Settle(string place, Guid server)
    {
        var id = server.ToString("D");
        var leaving = Path.Combine(place, Leaving + id);
        if (!Directory.Exists(leaving))
        {
            return;
        }

        var target = TargetOf(leaving);
        if (target is null || Directory.Exists(target))
        {
            Delete(leaving);
            return;
        }

        Delete(Path.Combine(Path.GetDirectoryName(target)!, Arriving + id));
        Directory.Move(leaving, Path.Combine(place, id));
        Native.FlushFolder(place);
    }

    /// <summary>Where a folder was going; null when its deletion has begun, so that it has arrived.</summary>
    /// <exception cref="VMatrixException"><c>FileCorrupt</c>.</exception>
    private static string? TargetOf(string leaving)
    {
        var file = Path.Combine(leaving, Target);
        var target = ServerFolder.Read<string>(file);

        // Nothing is deleted or renamed by a path that was not written for this very server.
        return target is null || (Path.IsPathFullyQualified(target) && Path.GetFullPath(target) == target && Path.GetFileName(target) == Path.GetFileName(leaving)[Leaving.Length..]) ? target
            : throw new VMatrixException("FileCorrupt", VMatrixErrorKind.Corrupt, $"The file {file} names {target}, which is no place of this server. Find out where the server is, and take the folder {leaving} away or give it back its name.");
    }

    /// <summary>True when a folder on its way out has arrived; one that nobody can tell of is still here.</summary>
    private static bool HasLeft(string leaving)
    {
        try
        {
            return TargetOf(leaving) is not { } target || Directory.Exists(target);
        }
        catch (Exception e) when (e is VMatrixException or IOException or UnauthorizedAccessException)
        {
            return !Directory.Exists(leaving);
        }
    }

    /// <summary>A new folder that is unfinished while the file in it is held, and waste when nobody holds it.</summary>
    public static FileStream Begin(string path)
    {
        OwnFiles.CreateFolder(path);
        return OwnFiles.Open(Path.Combine(path, Unfinished), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
    }

    /// <summary>Takes away what calls that failed or were killed have begun in a place and never finished.</summary>
    public static void SweepUnfinished(string place)
    {
        if (!Directory.Exists(place))
        {
            return;
        }

        foreach (var path in Directory.GetDirectories(place, ".*").Where(p => Path.GetFileName(p) is var name && (name.StartsWith(Creating, StringComparison.Ordinal) || name.StartsWith(Arriving, StringComparison.Ordinal) || name.StartsWith(Erasing, StringComparison.Ordinal))))
        {
            try
            {
                // Earlier versions held nothing: theirs are taken away when nothing was written there for an hour.
                var held = Path.Combine(path, Unfinished);
                if (Path.GetFileName(path).StartsWith(Erasing, StringComparison.Ordinal) || (File.Exists(held) ? !Native.IsLocked(held) : Directory.GetLastWriteTimeUtc(path) < DateTime.UtcNow.AddHours(-1)))
                {
                    Delete(path);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Somebody else takes it away, or whoever comes next.
            }
        }
    }

    /// <summary>Deletes a folder and all in it, if it is there.</summary>
    public static void Delete(string path)
    {
        if (Directory.Exists(path))
        {
            Directory.Delete(path, recursive: true);
        }
    }

    private static async Task CopyAsync(string from, string to, CancellationToken cancellation)
    {
        foreach (var file in Directory.EnumerateFiles(from))
        {
            cancellation.ThrowIfCancellationRequested();
            var name = Path.GetFileName(file);
            if (name is "lock" or Target or Unfinished || name.EndsWith(".partial", StringComparison.Ordinal) || name.EndsWith(".next", StringComparison.Ordinal))
            {
                continue;
            }

            // cp keeps holes and times and uses what the file system offers; the time is part of the disk's identity.
            var copy = Path.Combine(to, name);
            await QemuTools.RunAsync("cp", ["--sparse=always", "--reflink=auto", "--preserve=mode,timestamps", "--", file, copy], cancellation);
            using var handle = File.OpenHandle(copy, FileMode.Open, FileAccess.ReadWrite);
            RandomAccess.FlushToDisk(handle);
        }

        Native.FlushFolder(to);
    }
}
