using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Qemu;

/// <summary>An image version: what servers are made from.</summary>
internal sealed record ImageFacts
{
    public required string Version { get; init; }

    public required GuestFacts Guest { get; init; }

    /// <summary>The warm memory; null when new servers boot.</summary>
    public StateFacts? Warm { get; init; }

    public required DateTimeOffset CreatedAt { get; init; }
}

/// <summary>The images in the nest: a folder per service, and in it one per version, never changed once it is there.</summary>
internal sealed class ImageStore(Places places, string runtimeFolder, IHealthProbe probe, TimeProvider clock)
{
    private sealed record Source(string Path, long Length, long Ticks, string Sha256);

    public const string Kernel = "kernel";
    public const string Initrd = "initrd";
    public const string Gold = "gold.qcow2";
    private const string FactsFile = "image.json";
    private const string CurrentFile = "current.json";
    private const string SourcesFile = "sources.json";
    private const string Making = ".making-";

    private string ServiceFolder(string service) => Path.Combine(places.Images, Uri.EscapeDataString(service));

    public string VersionFolder(string service, string version) => Path.Combine(ServiceFolder(service), version);

    /// <summary>The newest version by service.</summary>
    public IReadOnlyDictionary<string, string> Current()
    {
        var current = new Dictionary<string, string>(StringComparer.Ordinal);
        if (Directory.Exists(places.Images))
        {
            foreach (var folder in Directory.EnumerateDirectories(places.Images))
            {
                if (ServerFolder.Read<string>(Path.Combine(folder, CurrentFile)) is { } version)
                {
                    current[Uri.UnescapeDataString(Path.GetFileName(folder))] = version;
                }
            }
        }

        return current;
    }

    /// <summary>What a version is.</summary>
    /// <exception cref="VMatrixException"><c>ImageNotFound</c>.</exception>
    public ImageFacts Get(string service, string version) =>
        ServerFolder.Read<ImageFacts>(Path.Combine(VersionFolder(service, version), FactsFile))
        ?? throw new VMatrixException("ImageNotFound", VMatrixErrorKind.NotFound, $"Service {service} has no image version {version} in {places.Images}; prepare its image first.");

    /// <summary>The disk files that a server's overlay lies on, the nearest first.</summary>
    public IEnumerable<string> Disks(string service, ImageFacts image)
    {
        if (image.Guest.Disk)
        {
            var folder = VersionFolder(service, image.Version);
            if (image.Warm is not null)
            {
                yield return new ServerFolder(folder).Overlay;
            }

            yield return Path.Combine(folder, Gold);
        }
    }

    /// <summary>Makes sure that a service's image stands in the nest, and returns its version.</summary>
    public async Task<string> PrepareAsync(ServiceSpec service, IProgress<string>? progress, CancellationToken cancellation)
    {
        var image = service.Image;
        if (image.Kernel is null && image.Disk is null)
        {
            throw new VMatrixException("ImageEmpty", VMatrixErrorKind.InvalidInput, $"The image of service {service.Name} has neither a disk nor a kernel; give it one of them in the pool file.");
        }

        if (image.Agent is not (null or GuestAgent.Qemu or GuestAgent.Own))
        {
            throw new VMatrixException("AgentUnknown", VMatrixErrorKind.InvalidInput, $"The image of service {service.Name} asks for the agent '{image.Agent}'; the qemu driver knows qga, vmatrix and none.");
        }

        var root = ServiceFolder(service.Name);
        Directory.CreateDirectory(root);
        var guest = new GuestFacts
        {
            Machine = await QemuTools.MachineTypeAsync(cancellation),
            Accelerator = await QemuTools.AcceleratorAsync(runtimeFolder, clock, cancellation),
            MemoryBytes = image.MemoryBytes,
            Cores = image.Cores,
            Port = service.Port,
            Kernel = image.Kernel is not null,
            Initrd = image.Kernel is not null && image.Initrd is not null,
            Append = image.Kernel is null ? null : image.Append,
            Disk = image.Disk is not null,
            Agent = image.Agent,
            Content = await ContentAsync(service, root, cancellation),
        };

        // The machine type is left out: an image that is there stays good when QEMU is replaced by a newer one.
        var version = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(QemuCommandLine.Shape(guest with { Machine = "" }) + guest.Append + image.Warm)))[..12];
        var folder = Path.Combine(root, version);
        if (!File.Exists(Path.Combine(folder, FactsFile)))
        {
            await MakeAsync(service, guest, version, folder, progress, cancellation);
        }

        if (ServerFolder.Read<string>(Path.Combine(root, CurrentFile)) != version)
        {
            ServerFolder.Write(Path.Combine(root, CurrentFile), version);
        }

        return version;
    }

    private async Task MakeAsync(ServiceSpec service, GuestFacts guest, string version, string folder, IProgress<string>? progress, CancellationToken cancellation)
    {
        var making = new ServerFolder(Path.Combine(ServiceFolder(service.Name), Making + version));
        if (making.Exists && await GuestProcess.FindAsync(making, clock, cancellation) is { } old)
        {
            await old.KillAsync(making, cancellation);
        }

        Places.Delete(making.Path);
        Directory.CreateDirectory(making.Path);
        progress?.Report($"Importing the image of {service.Name}");
        await ImportAsync(service.Image.Kernel, making.Path, Kernel, cancellation);
        await ImportAsync(guest.Initrd ? service.Image.Initrd : null, making.Path, Initrd, cancellation);
        if (service.Image.Disk is { } disk)
        {
            // Converted rather than copied: the result is one qcow2 file that leans on no other.
            await QemuTools.RunAsync(QemuTools.Find("qemu-img"), ["convert", "-O", "qcow2", disk, Path.Combine(making.Path, Gold)], cancellation);
            Seal(Path.Combine(making.Path, Gold));
        }

        var facts = new ImageFacts { Version = version, Guest = guest, CreatedAt = clock.GetUtcNow() };
        if (service.Image.Warm)
        {
            progress?.Report($"Booting {service.Name} once to keep its memory");
            await WarmAsync(service, making, guest, facts, cancellation);
            facts = facts with { Warm = making.ReadState() };
            File.Delete(making.StateFactsFile);
            File.Delete(making.Lock);
            File.Delete(making.Console);
        }

        ServerFolder.Write(Path.Combine(making.Path, FactsFile), facts);
        Places.Delete(folder);
        Directory.Move(making.Path, folder);
        Native.FlushFolder(Path.GetDirectoryName(folder)!);
        progress?.Report($"The image of {service.Name} is ready: version {version}");
    }

    private async Task WarmAsync(ServiceSpec service, ServerFolder making, GuestFacts guest, ImageFacts facts, CancellationToken cancellation)
    {
        List<string> disks = [];
        if (guest.Disk)
        {
            // By its name alone: the folder gets another name when all of it is there.
            await CreateOverlayAsync(making.Overlay, Gold, cancellation);
            disks = [making.Overlay, Path.Combine(making.Path, Gold)];
        }

        var (process, monitor, keeper) = await GuestProcess.LaunchAsync(making, runtimeFolder, (port, sockets) => QemuCommandLine.Build(guest, new RunSettings
        {
            Id = Guid.Empty,
            Name = service.Name,
            Service = service.Name,
            Port = port,
            Sockets = sockets,
            Console = making.Console,
            Kernel = guest.Kernel ? Path.Combine(making.Path, Kernel) : null,
            Initrd = guest.Initrd ? Path.Combine(making.Path, Initrd) : null,
            Disks = disks,
        }), temporary: true, clock, cancellation);
        using var ended = keeper;
        await using var open = monitor;
        try
        {
            var began = clock.GetTimestamp();
            while (await probe.CheckAsync(service, process.Address, cancellation) is { } wrong)
            {
                if (!making.IsLive() || clock.GetElapsedTime(began) > service.Health.StartTimeout)
                {
                    throw NotWarm(service, making, $"it did not pass its health check: {wrong}");
                }

                await Task.Delay(TimeSpan.FromMilliseconds(20), clock, cancellation);
            }

            while (guest.Agent is { } agent && !(await GuestAgent.IsThereAsync(monitor, cancellation) && await GuestAgent.AnswersAsync(process, agent, TimeSpan.FromSeconds(5), cancellation)))
            {
                if (clock.GetElapsedTime(began) > service.Health.StartTimeout)
                {
                    throw NotWarm(service, making, $"its agent does not answer; install it in the guest, or take agent: {agent} out of its image");
                }

                await Task.Delay(TimeSpan.FromMilliseconds(20), clock, cancellation);
            }

            await MemoryState.SaveAsync(monitor, making, guest, clock, cancellation);
            await monitor.QuitAsync(cancellation);
            await process.GoneAsync(making, cancellation);
        }
        catch
        {
            await process.KillAsync(making, CancellationToken.None);
            throw;
        }

        if (guest.Disk)
        {
            Seal(making.Overlay);
        }
    }

    private static VMatrixException NotWarm(ServiceSpec service, ServerFolder making, string why) =>
        new("ImageNotWarm", VMatrixErrorKind.Failed, string.Create(CultureInfo.InvariantCulture,
            $"The image of service {service.Name} was booted to keep its memory, and within {service.Health.StartTimeout.TotalSeconds:0.#} s {why}. The end of its console:\n{making.ConsoleEnd()}"));

    /// <summary>Makes an empty overlay on a disk.</summary>
    public static async Task CreateOverlayAsync(string overlay, string backing, CancellationToken cancellation) =>
        await QemuTools.RunAsync(QemuTools.Find("qemu-img"), ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", backing, overlay], cancellation);

    private static async Task ImportAsync(string? source, string folder, string name, CancellationToken cancellation)
    {
        if (source is not null)
        {
            var file = Path.Combine(folder, name);
            await QemuTools.RunAsync("cp", ["--reflink=auto", "--", source, file], cancellation);
            Seal(file);
        }
    }

    private static void Seal(string file)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead);
        using (var handle = File.OpenHandle(file, FileMode.Open, FileAccess.ReadWrite))
        {
            RandomAccess.FlushToDisk(handle);
        }

        File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.GroupRead);
    }

    /// <summary>Hash of the image's files. Files that were hashed before and look the same are not read again.</summary>
    private static async Task<string> ContentAsync(ServiceSpec service, string root, CancellationToken cancellation)
    {
        var known = new Dictionary<string, Source>(StringComparer.Ordinal);
        foreach (var source in ServerFolder.Read<Source[]>(Path.Combine(root, SourcesFile)) ?? [])
        {
            known[source.Path] = source;
        }

        var (text, changed) = (new StringBuilder(), false);
        foreach (var path in (string?[])[service.Image.Kernel, service.Image.Initrd, service.Image.Disk])
        {
            if (path is null)
            {
                text.Append("-\n");
                continue;
            }

            var file = new FileInfo(path);
            if (!file.Exists)
            {
                throw new VMatrixException("ImageFileMissing", VMatrixErrorKind.NotFound, $"The image of service {service.Name} names {path}, which is not there.");
            }

            if (!known.TryGetValue(path, out var source) || source.Length != file.Length || source.Ticks != file.LastWriteTimeUtc.Ticks)
            {
                known[path] = source = new Source(path, file.Length, file.LastWriteTimeUtc.Ticks, await MemoryState.SumAsync(path, cancellation));
                changed = true;
            }

            text.Append(source.Sha256).Append('\n');
        }

        if (changed)
        {
            ServerFolder.Write(Path.Combine(root, SourcesFile), new List<Source>(known.Values).ToArray());
        }

        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())));
    }
}
