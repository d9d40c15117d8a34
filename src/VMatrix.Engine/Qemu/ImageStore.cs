using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Files;

namespace VMatrix.Qemu;

/// <summary>An image version: what servers are made from.</summary>
internal sealed record ImageFacts
{
    public required string Version { get; init; }

    public required GuestFacts Guest { get; init; }

    /// <summary>The warm memory; null when new servers boot.</summary>
    public StateFacts? Warm { get; init; }

    public required DateTimeOffset CreatedAt { get; init; }

    /// <summary>The server that it was made from; null for one of the owner's files.</summary>
    public PublishedFacts? Published { get; init; }
}

/// <summary>Where a published version comes from.</summary>
internal sealed record PublishedFacts
{
    public required Guid ServerId { get; init; }

    public required string ServerName { get; init; }

    /// <summary>The version that the server was made from.</summary>
    public required string From { get; init; }

    /// <summary>The move that published it.</summary>
    public required Guid Move { get; init; }
}

/// <summary>The images in the nest: a folder per service, and in it one per version, never changed once it is there.</summary>
internal sealed class ImageStore(Places places, string runtimeFolder, IHealthProbe probe, TimeProvider clock)
{
    /// <summary>The files that a version is made from, and their content as a hash.</summary>
    private sealed record Parts(string Content, string? Kernel, string? Initrd, string? Disk);

    /// <summary>The version that was selected, and the content of the owner's files at that moment: it counts until they change.</summary>
    private sealed record Selection(string Version, string Owner);

    private sealed record Source(string Path, long Length, long Ticks, string Sha256);

    public const string Kernel = "kernel";
    public const string Initrd = "initrd";
    public const string Gold = "gold.qcow2";
    private const string FactsFile = "image.json";
    private const string CurrentFile = "current.json";
    private const string SelectedFile = "selected.json";
    private const string SourcesFile = "sources.json";
    private const string Making = ".making-";

    /// <summary>True for what can be a version: its name becomes that of a folder.</summary>
    public static bool IsVersion(string text) => text.Length is > 0 and <= 64 && text.All(char.IsAsciiLetterOrDigit);

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
                if (CurrentOf(folder) is { } version)
                {
                    current[Uri.UnescapeDataString(Path.GetFileName(folder))] = version;
                }
            }
        }

        return current;
    }

    /// <summary>The newest version in a service's folder. One that cannot be read is written anew when the image is prepared, and hides no other service's.</summary>
    private static string? CurrentOf(string folder)
    {
        try
        {
            return ServerFolder.Read<string>(Path.Combine(folder, CurrentFile)) is { } version && IsVersion(version) ? version : null;
        }
        catch (Exception e) when (e is VMatrixException or IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>What a version is.</summary>
    /// <exception cref="VMatrixException"><c>ImageNotFound</c>, <c>FileCorrupt</c>.</exception>
    public ImageFacts Get(string service, string version) =>
        IsVersion(version) && ServerFolder.Read<ImageFacts>(Path.Combine(VersionFolder(service, version), FactsFile)) is { } facts && facts.Version == version && GuestFacts.Wrong(facts.Guest with { Machine = "q35" }) is null ? facts
        : throw new VMatrixException("ImageNotFound", VMatrixErrorKind.NotFound, $"Service {service} has no image version {version} in {places.Images}; prepare its image first, or name a version that is there.");

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
        Check(service);
        var root = ServiceFolder(service.Name);
        OwnFiles.CreateFolder(root);
        var owners = await OwnersAsync(service, root, cancellation);
        while (true)
        {
            var parts = Selected(service, root, owners);
            var guest = await GuestAsync(service, parts, cancellation);
            var version = VersionOf(guest, service);
            if (IsThere(service, version) && CurrentOf(root) == version)
            {
                return version;
            }

            using var turn = await TurnAsync(root, cancellation);
            if (Selected(service, root, owners) != parts)
            {
                // Somebody selected another one while we waited.
                continue;
            }

            if (!IsThere(service, version))
            {
                progress?.Report($"Importing the image of {service.Name}");
                var making = await BeginAsync(root, version, parts, cancellation);
                if (parts.Disk is not null)
                {
                    // Converted rather than copied: the result is one qcow2 file that leans on no other.
                    await QemuTools.RunAsync(QemuTools.Find("qemu-img"), ["convert", "-O", "qcow2", GoldDisk.Source(service.Name, parts.Disk), Path.Combine(making.Path, Gold)], cancellation);
                    Seal(Path.Combine(making.Path, Gold));
                }

                await FinishAsync(service, making, new ImageFacts { Version = version, Guest = guest, CreatedAt = clock.GetUtcNow() }, progress, cancellation);
            }

            ServerFolder.Write(Path.Combine(root, CurrentFile), version);
            return version;
        }
    }

    /// <summary>Makes a version whose disk is a server's and whose other files are those of the version that the server was made from.</summary>
    /// <param name="service">The service.</param>
    /// <param name="published">Where it comes from. A version that the same move has made already is returned as it is.</param>
    /// <param name="writeDisk">Writes the server's disk into the file that it is given, as one that leans on no other.</param>
    /// <param name="cancellation">Ends the call.</param>
    public async Task<PublishedImage> PublishAsync(ServiceSpec service, PublishedFacts published, Func<string, Task> writeDisk, CancellationToken cancellation)
    {
        Check(service);
        var root = ServiceFolder(service.Name);
        using var turn = await TurnAsync(root, cancellation);
        foreach (var folder in published.Move == Guid.Empty ? [] : Directory.GetDirectories(root))
        {
            if (FactsOf(folder) is { } known && known.Published is { } before && (before.Move, before.ServerId) == (published.Move, published.ServerId))
            {
                return Told(service, known, published);
            }
        }

        var old = PartsOf(service, Get(service.Name, published.From));
        var making = await BeginAsync(root, published.ServerId.ToString("D"), old, cancellation);
        try
        {
            var gold = Path.Combine(making.Path, Gold);
            await writeDisk(gold);
            Seal(gold);
            var content = HashOf([old.Kernel is null ? null : await MemoryState.SumAsync(old.Kernel, cancellation), old.Initrd is null ? null : await MemoryState.SumAsync(old.Initrd, cancellation), await MemoryState.SumAsync(gold, cancellation)]);
            var guest = await GuestAsync(service, old with { Content = content, Disk = gold }, cancellation);
            var facts = new ImageFacts { Version = VersionOf(guest, service), Guest = guest, CreatedAt = clock.GetUtcNow(), Published = published };
            if (!IsThere(service, facts.Version))
            {
                await FinishAsync(service, making, facts, null, cancellation);
            }

            return Told(service, Get(service.Name, facts.Version), published);
        }
        finally
        {
            try
            {
                Places.Delete(making.Path);
            }
            catch (IOException)
            {
                // A guest that is just ending still writes there; whoever makes the next version takes it away.
            }
        }
    }

    /// <summary>Makes a version the one that new servers are made from, until the owner's files change.</summary>
    /// <exception cref="VMatrixException"><c>ImageNotFound</c>.</exception>
    public async Task SelectAsync(ServiceSpec service, string version, CancellationToken cancellation)
    {
        Check(service);
        _ = Get(service.Name, version);
        var root = ServiceFolder(service.Name);
        var owners = await OwnersAsync(service, root, cancellation);
        using var turn = await TurnAsync(root, cancellation);
        ServerFolder.Write(Path.Combine(root, SelectedFile), new Selection(version, owners.Content));
        ServerFolder.Write(Path.Combine(root, CurrentFile), version);
    }

    private PublishedImage Told(ServiceSpec service, ImageFacts facts, PublishedFacts published)
    {
        long bytes = 0;
        foreach (var file in new DirectoryInfo(VersionFolder(service.Name, facts.Version)).EnumerateFiles())
        {
            bytes += file.Length;
        }

        return new PublishedImage
        {
            Service = service.Name, Version = facts.Version, From = published.From, ServerId = published.ServerId, ServerName = published.ServerName, Bytes = bytes, At = facts.CreatedAt,
        };
    }

    private static void Check(ServiceSpec service)
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
    }

    // A version that cannot be read is another's problem: this move has not made it.
    private static ImageFacts? FactsOf(string folder)
    {
        try
        {
            return ServerFolder.Read<ImageFacts>(Path.Combine(folder, FactsFile));
        }
        catch (VMatrixException)
        {
            return null;
        }
    }

    private bool IsThere(ServiceSpec service, string version) => File.Exists(Path.Combine(VersionFolder(service.Name, version), FactsFile));

    /// <summary>What new servers are made from: the version that was selected since the owner's files last changed, else the owner's files.</summary>
    private Parts Selected(ServiceSpec service, string root, Parts owners) =>
        ServerFolder.Read<Selection>(Path.Combine(root, SelectedFile)) is { } selected && selected.Owner == owners.Content ? PartsOf(service, Get(service.Name, selected.Version)) : owners;

    private Parts PartsOf(ServiceSpec service, ImageFacts facts)
    {
        var folder = VersionFolder(service.Name, facts.Version);
        return new Parts(facts.Guest.Content, Part(facts.Guest.Kernel, Kernel), Part(facts.Guest.Initrd, Initrd), Part(facts.Guest.Disk, Gold));

        string? Part(bool has, string name) => has ? Path.Combine(folder, name) : null;
    }

    /// <summary>The settings are the pool file's, whatever the files come from.</summary>
    private async Task<GuestFacts> GuestAsync(ServiceSpec service, Parts parts, CancellationToken cancellation) => new()
    {
        Machine = await QemuTools.MachineTypeAsync(cancellation),
        Accelerator = await QemuTools.AcceleratorAsync(runtimeFolder, clock, cancellation),
        MemoryBytes = service.Image.MemoryBytes,
        Cores = service.Image.Cores,
        Port = service.Port,
        Kernel = parts.Kernel is not null,
        Initrd = parts.Initrd is not null,
        Append = parts.Kernel is null ? null : service.Image.Append,
        Disk = parts.Disk is not null,
        Agent = service.Image.Agent,
        Content = parts.Content,
    };

    // The machine type is left out: an image that is there stays good when QEMU is replaced by a newer one.
    private static string VersionOf(GuestFacts guest, ServiceSpec service) =>
        Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(QemuCommandLine.Shape(guest with { Machine = "" }) + guest.Append + service.Image.Warm)))[..12];

    /// <summary>One maker of a service's images at a time, among all processes.</summary>
    private async Task<FileStream> TurnAsync(string root, CancellationToken cancellation)
    {
        const int WouldBlock = 11;
        while (true)
        {
            try
            {
                return OwnFiles.Open(Path.Combine(root, "turn"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException e) when ((e.HResult & 0xffff) == WouldBlock)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(20), clock, cancellation);
            }
        }
    }

    /// <summary>A new folder with a version's kernel and initial RAM disk. Whatever makers that were cut short have left goes away first.</summary>
    private async Task<ServerFolder> BeginAsync(string root, string name, Parts parts, CancellationToken cancellation)
    {
        foreach (var path in Directory.GetDirectories(root, Making + "*"))
        {
            var left = new ServerFolder(path);
            if (await GuestProcess.FindAsync(left, clock, cancellation) is { } process)
            {
                await process.KillAsync(left, cancellation);
            }

            Places.Delete(path);
        }

        var making = new ServerFolder(Path.Combine(root, Making + name));
        OwnFiles.CreateFolder(making.Path);
        await ImportAsync(parts.Kernel, making.Path, Kernel, cancellation);
        await ImportAsync(parts.Initrd, making.Path, Initrd, cancellation);
        return making;
    }

    /// <summary>Makes the warm state where there is to be one, and puts the version where it belongs.</summary>
    private async Task FinishAsync(ServiceSpec service, ServerFolder making, ImageFacts facts, IProgress<string>? progress, CancellationToken cancellation)
    {
        if (service.Image.Warm)
        {
            progress?.Report($"Booting {service.Name} once to keep its memory");
            await WarmAsync(service, making, facts.Guest, cancellation);
            facts = facts with { Warm = making.ReadState() };
            File.Delete(making.StateFactsFile);
            File.Delete(making.Lock);
            File.Delete(making.Console);
        }

        ServerFolder.Write(Path.Combine(making.Path, FactsFile), facts);
        var folder = VersionFolder(service.Name, facts.Version);
        Places.Delete(folder);
        Directory.Move(making.Path, folder);
        Native.FlushFolder(Path.GetDirectoryName(folder)!);
        progress?.Report($"The image of {service.Name} is ready: version {facts.Version}");
    }

    private async Task WarmAsync(ServiceSpec service, ServerFolder making, GuestFacts guest, CancellationToken cancellation)
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

            await MemoryState.SaveAsync(monitor, making, guest, server: null, clock, cancellation);
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
            $"The image of service {service.Name} was booted to keep its memory, and within {Planning.Words.Seconds(service.Health.StartTimeout)} {why}. The end of its console:\n{making.ConsoleEnd()}"));

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

        File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        using (var handle = File.OpenHandle(file, FileMode.Open, FileAccess.ReadWrite))
        {
            RandomAccess.FlushToDisk(handle);
        }

        File.SetUnixFileMode(file, UnixFileMode.UserRead);
    }

    /// <summary>The owner's files. Those that were hashed before and look the same are not read again.</summary>
    private static async Task<Parts> OwnersAsync(ServiceSpec service, string root, CancellationToken cancellation)
    {
        var (kernel, initrd, disk) = (service.Image.Kernel, service.Image.Kernel is null ? null : service.Image.Initrd, service.Image.Disk);
        var known = new Dictionary<string, Source>(StringComparer.Ordinal);
        try
        {
            foreach (var source in ServerFolder.Read<Source[]>(Path.Combine(root, SourcesFile)) ?? [])
            {
                if (source is not null)
                {
                    known[source.Path] = source;
                }
            }
        }
        catch (VMatrixException)
        {
            // Read anew, then: it only spares reading.
        }

        var changed = false;
        var content = HashOf([await SumAsync(kernel), await SumAsync(service.Image.Initrd), await SumAsync(disk)]);
        if (changed)
        {
            ServerFolder.Write(Path.Combine(root, SourcesFile), new List<Source>(known.Values).ToArray());
        }

        return new Parts(content, kernel, initrd, disk);

        async Task<string?> SumAsync(string? path)
        {
            if (path is null)
            {
                return null;
            }

            var file = new FileInfo(path);
            if (!file.Exists)
            {
                throw new VMatrixException("ImageFileMissing", VMatrixErrorKind.NotFound, $"The image of service {service.Name} names {path}, which does not exist; put the file there, or name another one in the pool file. The demo's guest is made by: vmatrix-oracle image build-demo --folder {Path.GetDirectoryName(path)}");
            }

            if (!known.TryGetValue(path, out var source) || source.Length != file.Length || source.Ticks != file.LastWriteTimeUtc.Ticks)
            {
                known[path] = source = new Source(path, file.Length, file.LastWriteTimeUtc.Ticks, await MemoryState.SumAsync(path, cancellation));
                changed = true;
            }

            return source.Sha256;
        }
    }

    private static string HashOf(string?[] sums)
    {
        var text = new StringBuilder();
        foreach (var sum in sums)
        {
            text.Append(sum ?? "-").Append('\n');
        }

        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())));
    }
}
