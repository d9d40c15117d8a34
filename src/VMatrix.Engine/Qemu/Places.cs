using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

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

        foreach (var path in Directory.EnumerateDirectories(place))
        {
            var name = Path.GetFileName(path);
            if (!name.StartsWith('.'))
            {
                yield return (new ServerFolder(path), name);
            }
            else if (name.StartsWith(Leaving, StringComparison.Ordinal) && TargetOf(path) is { } target && !Directory.Exists(target))
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
        Directory.CreateDirectory(to);
        Delete(arriving);

        // Inside one file system a loss of power takes a later change back before an earlier one: nothing has to be flushed.
        if (!Native.TryRename(source, target))
        {
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
    private static string? TargetOf(string leaving) => ServerFolder.Read<string>(Path.Combine(leaving, Target));

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
        Directory.CreateDirectory(to);
        foreach (var file in Directory.EnumerateFiles(from))
        {
            cancellation.ThrowIfCancellationRequested();
            var name = Path.GetFileName(file);
            if (name is "lock" or Target || name.EndsWith(".partial", StringComparison.Ordinal) || name.EndsWith(".next", StringComparison.Ordinal))
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
