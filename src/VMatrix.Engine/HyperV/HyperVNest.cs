using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;

namespace VMatrix.HyperV;

/// <summary>An image version's facts, beside its disk.</summary>
internal sealed record HyperVImage
{
    public required string Version { get; init; }

    /// <summary>What it was published as; null for one that came from the owner's gold disk.</summary>
    public PublishedImage? Published { get; init; }
}

/// <summary>Which version new servers of a service are made from, and which of the owner's disks that was chosen over.</summary>
internal sealed record HyperVSelection(string Version, string Owner);

/// <summary>What is noted before a server is made or deleted, so that whoever comes next knows where to look.</summary>
internal sealed record HyperVTrace
{
    public required string Host { get; init; }

    /// <summary>Files that are to be deleted once the machine is gone, as this machine reaches them.</summary>
    public IReadOnlyList<string> Files { get; init; } = [];
}

/// <summary>The files in the nest's share, which this machine and every host must reach: images, the decider's epoch, traces of what is being made.</summary>
internal sealed class HyperVNest(string folder, TimeProvider clock)
{
    private static readonly Regex s_version = new(@"\A[0-9a-f]{8}\z", RegexOptions.CultureInvariant);

    private string Images(string service) => Path.Combine(folder, "images", service);

    private string VersionFolder(string service, string version) => Path.Combine(Images(service), version);

    /// <summary>A version's disk, which new servers lean on and nobody writes.</summary>
    public string Disk(string service, string version) => Path.Combine(VersionFolder(service, version), "disk.vhdx");

    /// <summary>A new folder in which a version is made; it becomes the version whole. Clears those that a process has left which ended in the middle, a day ago or more.</summary>
    public string Making(string service)
    {
        Directory.CreateDirectory(Images(service));
        foreach (var left in Directory.EnumerateDirectories(Images(service), ".making-*"))
            if (clock.GetUtcNow() - Directory.GetLastWriteTimeUtc(left) > TimeSpan.FromDays(1))
                Delete(left);
        var making = Path.Combine(Images(service), ".making-" + Guid.NewGuid().ToString("N"));
        Directory.CreateDirectory(making);
        return making;
    }

    public bool Has(string service, string version) => s_version.IsMatch(version) && File.Exists(Path.Combine(VersionFolder(service, version), "image.json"));

    public HyperVImage? Find(string service, string version) => Has(service, version) ? StateFiles.TryReadJson<HyperVImage>(Path.Combine(VersionFolder(service, version), "image.json")) : null;

    public HyperVSelection? Selected(string service) => StateFiles.TryReadJson<HyperVSelection>(Path.Combine(Images(service), "selected.json"));

    public void Select(string service, HyperVSelection selection)
    {
        Directory.CreateDirectory(Images(service));
        StateFiles.Replace(Path.Combine(Images(service), "selected.json"), StateFiles.ToBytes(selection));
    }

    /// <summary>Turns what was made into the version, unless another one was quicker.</summary>
    public void Finish(string service, string making, HyperVImage image)
    {
        StateFiles.Replace(Path.Combine(making, "image.json"), StateFiles.ToBytes(image));
        var to = VersionFolder(service, image.Version);
        if (Has(service, image.Version))
        {
            Delete(making);
            return;
        }

        // One without its facts is what a crash has left.
        Delete(to);
        File.SetAttributes(Path.Combine(making, "disk.vhdx"), FileAttributes.ReadOnly);
        Directory.Move(making, to);
        StateFiles.SyncFolder(Images(service));
    }

    /// <summary>The version that new servers are made from, by service.</summary>
    public IReadOnlyDictionary<string, string> Current(PoolSpec pool)
    {
        var current = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        foreach (var service in pool.Services)
            if (Selected(service.Name) is { } selected && Has(service.Name, selected.Version))
                current[service.Name] = selected.Version;
        return current;
    }

    /// <summary>A version's name from what it is made of.</summary>
    public static string Name(string content)
    {
#if NET
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes(content));
#else
        using var sha = SHA256.Create();
        var hash = sha.ComputeHash(Encoding.UTF8.GetBytes(content));
#endif
        return string.Concat(hash.Take(4).Select(b => b.ToString("x2", System.Globalization.CultureInfo.InvariantCulture)));
    }

    private string TraceFile(Guid server) => Path.Combine(folder, "traces", server.ToString("D") + ".json");

    public HyperVTrace? Trace(Guid server) => StateFiles.TryReadJson<HyperVTrace>(TraceFile(server));

    public void WriteTrace(Guid server, HyperVTrace trace)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(TraceFile(server))!);
        StateFiles.Replace(TraceFile(server), StateFiles.ToBytes(trace));
    }

    public void RemoveTrace(Guid server) => StateFiles.TryDelete(TraceFile(server));

    /// <summary>The disc that tells a server what it is, while it is in the server's drive.</summary>
    public string Seed(Guid server) => Path.Combine(folder, "seeds", server.ToString("D") + ".iso");

    public void WriteSeed(Guid server, byte[] content)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Seed(server))!);
        StateFiles.Replace(Seed(server), content);
    }

    private string Addresses => Path.Combine(folder, "addresses");

    /// <summary>Claims a static address for a server; false when another has it. The claim is a file of the address's name, which appears whole and for one only.</summary>
    public bool TryClaim(string address, Guid server)
    {
        Directory.CreateDirectory(Addresses);
        var file = Path.Combine(Addresses, address);
        if (StateFiles.TryRead(file) is { } held)
            return IsOf(held, server);
        var temporary = StateFiles.WriteTemporary(file, Encoding.ASCII.GetBytes(server.ToString("D")), flush: true);
        try
        {
            File.Move(temporary, file);
            StateFiles.SyncFolder(Addresses);
            return true;
        }
        catch (IOException) when (File.Exists(file))
        {
            StateFiles.TryDelete(temporary);
            return false;
        }
    }

    /// <summary>The static addresses that a server has claimed: more than one only where its service's range was changed in the middle.</summary>
    public IReadOnlyList<string> Claims(Guid server) => !Directory.Exists(Addresses) ? []
        : [.. Directory.EnumerateFiles(Addresses).Where(file => AddressRange.TryRead(Path.GetFileName(file), out _) && StateFiles.TryRead(file) is { } held && IsOf(held, server)).Select(file => Path.GetFileName(file)!)];

    /// <summary>Gives a claim to the server that a machine has become.</summary>
    public void HandOver(string address, Guid server)
    {
        Directory.CreateDirectory(Addresses);
        StateFiles.Replace(Path.Combine(Addresses, address), Encoding.ASCII.GetBytes(server.ToString("D")));
    }

    /// <summary>Frees the static addresses of a server that is gone.</summary>
    public void FreeAddresses(Guid server)
    {
        foreach (var address in Claims(server))
            Delete(Path.Combine(Addresses, address));
    }

    private static bool IsOf(byte[] claim, Guid server) => Guid.TryParse(Encoding.ASCII.GetString(claim), out var id) && id == server;

    /// <summary>Refuses a decider that another one has followed. The highest epoch seen is a flushed file in the nest, which all that act on the pool share.</summary>
    /// <exception cref="VMatrixException"><c>StaleEpoch</c>.</exception>
    public async Task AdmitAsync(DriverCall call, CancellationToken cancellation)
    {
        if (call.Epoch == 0)
            return;
        Directory.CreateDirectory(folder);
        var file = Path.Combine(folder, "epoch.json");
        for (var tries = 0; ; tries++)
        {
            using (var turn = StateFiles.TryLock(file + ".turn"))
            {
                if (turn is not null)
                {
                    var seen = StateFiles.TryReadJson<Epoch>(file)?.Value ?? 0;
                    if (call.Epoch < seen)
                        throw new VMatrixException("StaleEpoch", VMatrixErrorKind.Busy, $"The call of epoch {call.Epoch} is refused in {folder}: a decider of epoch {seen} has taken over.");
                    if (call.Epoch > seen)
                        StateFiles.Replace(file, StateFiles.ToBytes(new Epoch(call.Epoch)));
                    return;
                }
            }

            if (tries == 400)
                throw new VMatrixException("NestUnreachable", VMatrixErrorKind.Busy, $"The file {file}.turn is held by another process all the time; end it, or wait for it.") { IsTransient = true };
            await clock.WaitAsync(TimeSpan.FromMilliseconds(5), cancellation);
        }
    }

    /// <summary>The highest epoch seen.</summary>
    public long ReadEpoch() => StateFiles.TryReadJson<Epoch>(Path.Combine(folder, "epoch.json"))?.Value ?? 0;

    /// <summary>Deletes a folder and all that is in it, or a file; no error when it is not there.</summary>
    public static void Delete(string path)
    {
        if (Directory.Exists(path))
        {
            foreach (var file in Directory.EnumerateFiles(path, "*", SearchOption.AllDirectories))
                File.SetAttributes(file, FileAttributes.Normal);
            try
            {
                Directory.Delete(path, recursive: true);
            }
            catch (DirectoryNotFoundException)
            {
            }
        }
        else if (File.Exists(path))
        {
            File.SetAttributes(path, FileAttributes.Normal);
            File.Delete(path);
        }
    }

    private sealed record Epoch(long Value);
}
