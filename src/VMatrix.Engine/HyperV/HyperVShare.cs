using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using VMatrix.Moves;

namespace VMatrix.HyperV;

/// <summary>
/// A server that is kept in the nest's folder: what its host told of the machine when it was exported, as no host tells it any more. Written
/// before the export begins, whole once its files are, and settled once its machine is proven to be registered nowhere.
/// </summary>
internal sealed record HyperVSleeper
{
    /// <summary>The server whose folder it lies in.</summary>
    public required Guid Server { get; init; }

    /// <summary>The machine's own id, which it has again wherever it is registered.</summary>
    public required Guid Id { get; init; }

    public required string Name { get; init; }

    public required string State { get; init; }

    /// <summary>The machine's notes. What is written of it while it sleeps is written here, and into its notes when it is registered again.</summary>
    public required string Notes { get; init; }

    public long MemoryBytes { get; init; }

    public int Cores { get; init; } = 1;

    public string? Version { get; init; }

    /// <summary>The name of the folder that it was exported into, which no other export has; the same one stands in its notes.</summary>
    public required string Bed { get; init; }

    /// <summary>The file that it is registered from, below its bed; null until the export is whole.</summary>
    public string? Configuration { get; init; }

    /// <summary>Its disks below its bed.</summary>
    public IReadOnlyList<string> Disks { get; init; } = [];

    /// <summary>The host on which its machine may be registered: the one that it is taken from, or the one that it is given to. Null once it is proven to be on none.</summary>
    public string? Host { get; init; }
}

/// <summary>The folder <c>asleep</c> of the nest: for each server that sleeps there a folder of its id, with a record and the files it tells of.</summary>
internal sealed class HyperVShare(string nest)
{
    private readonly string _root = Path.Combine(nest, "asleep");

    public string Folder(Guid server) => Path.Combine(_root, server.ToString("D"));

    public string Bed(Guid server, string bed) => Path.Combine(Folder(server), bed);

    /// <summary>A file of a sleeper, as VMatrix and every host reach it.</summary>
    public string At(HyperVSleeper sleeper, string file) => file.Split('/').Aggregate(Bed(sleeper.Server, sleeper.Bed), Path.Combine);

    public string RecordFile(Guid server) => Path.Combine(Folder(server), "server.json");

    public bool Has(Guid server) => File.Exists(RecordFile(server));

    public HyperVSleeper? Find(Guid server) => StateFiles.TryReadJson<HyperVSleeper>(RecordFile(server)) is { } found ? found with { Server = server } : null;

    /// <summary>Every record, whole or not, settled or not.</summary>
    /// <param name="problems">Takes what is wrong with records that cannot be read, so that one does not hide the others.</param>
    public IReadOnlyList<HyperVSleeper> List(ICollection<string>? problems = null)
    {
        var found = new List<HyperVSleeper>();
        try
        {
            // A folder that is not there is an error of its own kind; a share that does not answer is not taken for it.
            foreach (var folder in Directory.EnumerateDirectories(_root))
            {
                try
                {
                    if (Guid.TryParse(Path.GetFileName(folder), out var server) && Find(server) is { } sleeper)
                        found.Add(sleeper);
                }
                catch (VMatrixException e)
                {
                    problems?.Add(e.Message);
                }
            }
        }
        catch (DirectoryNotFoundException)
        {
            // Nothing sleeps there yet.
        }

        return found;
    }

    public void Write(HyperVSleeper sleeper)
    {
        Directory.CreateDirectory(Folder(sleeper.Server));
        StateFiles.Replace(RecordFile(sleeper.Server), StateFiles.ToBytes(sleeper));
        StateFiles.SyncFolder(Folder(sleeper.Server));
    }

    /// <summary>Gives a sleeper to the server that it has become.</summary>
    public HyperVSleeper Rename(HyperVSleeper sleeper, Guid server)
    {
        if (server == sleeper.Server)
            return sleeper;
        Directory.Move(Folder(sleeper.Server), Folder(server));
        return sleeper with { Server = server };
    }

    /// <summary>Forgets the record of a machine that is registered, and deletes every bed that it does not lie in.</summary>
    public void Drop(Guid server, IReadOnlyCollection<string> inUse)
    {
        File.Delete(RecordFile(server));
        Clear(server, inUse);
    }

    /// <summary>Deletes every bed of a server in which none of the paths lies; its folder too once it is empty.</summary>
    public void Clear(Guid server, IReadOnlyCollection<string> inUse)
    {
        var folder = Folder(server);
        if (!Directory.Exists(folder))
            return;
        foreach (var bed in Directory.EnumerateDirectories(folder).Where(bed => !inUse.Any(path => Lies(path, bed))).ToArray())
            HyperVNest.Delete(bed);
        if (!Directory.EnumerateFileSystemEntries(folder).Any())
            HyperVNest.Delete(folder);
    }

    /// <summary>True for a disk that an image version is, by its path as hosts write it.</summary>
    public bool IsImage(string path) => Lies(path, Path.Combine(nest, "images"));

    private static bool Lies(string path, string folder) => path.Replace('\\', '/').TrimEnd('/') is var at && folder.Replace('\\', '/').TrimEnd('/') is var below
        && (string.Equals(at, below, StringComparison.OrdinalIgnoreCase) || at.StartsWith(below + "/", StringComparison.OrdinalIgnoreCase));
}
