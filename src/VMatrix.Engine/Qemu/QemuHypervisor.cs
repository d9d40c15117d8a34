using System;
using System.Collections.Concurrent;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Files;

namespace VMatrix.Qemu;

/// <summary>
/// The embedded hypervisor: real guests as QEMU processes of this machine, without a daemon and without root. A host is a folder; what runs
/// is asked of the processes themselves and never remembered, so any process may use any number of these drivers on the same pool.
/// </summary>
public sealed partial class QemuHypervisor : IHypervisor, IEpochKeeper
{
    /// <summary>QEMU silent for this long on an idle machine counts as hung.</summary>
    private static readonly TimeSpan s_monitorPatience = TimeSpan.FromSeconds(1);

    /// <summary>A guest agent silent for this long on an idle machine means a hung guest.</summary>
    private static readonly TimeSpan s_agentPatience = TimeSpan.FromSeconds(2);

    private static readonly TimeSpan s_changePatience = TimeSpan.FromSeconds(30);
    private readonly PoolSpec _pool;
    private readonly TimeProvider _clock;
    private readonly Places _places;
    private readonly ImageStore _images;
    private readonly string _runtimeFolder;
    private readonly ConcurrentDictionary<Guid, SemaphoreSlim> _gates = new();
    private readonly SemaphoreSlim _prepare = new(1);

    // Eight wakes one after another take a second; 64 at once take nineteen.
    private readonly SemaphoreSlim _starts = new(Math.Max(2, Environment.ProcessorCount));
    private int _starting;

    /// <summary>Makes a driver for a pool. Nothing is touched yet.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="probe">Asks a guest's health check while an image's warm state is made.</param>
    /// <param name="clock">The clock.</param>
    /// <exception cref="VMatrixException"><c>QemuNeedsLinux</c> elsewhere; <c>RuntimeFolderUnsafe</c>.</exception>
    public QemuHypervisor(PoolSpec pool, IHealthProbe probe, TimeProvider clock)
    {
        if (!OperatingSystem.IsLinux())
        {
            throw new VMatrixException("QemuNeedsLinux", VMatrixErrorKind.NotSupported, "The qemu driver runs on Linux only; use hypervisor: hyperv or scvmm on Windows.");
        }

        _pool = pool;
        _clock = clock;
        _places = new Places(pool);
        _runtimeFolder = RuntimeFolder();
        _images = new ImageStore(_places, _runtimeFolder, probe, clock);
    }

    /// <inheritdoc/>
    public HypervisorTraits Traits { get; } = new() { Name = "qemu" };

    /// <inheritdoc/>
    public Task CreateAsync(DriverCall call, ServerMark mark, ServiceSpec service, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, async () =>
    {
        if (Places.Find(_places.Nest, mark.ServerId) is not null)
        {
            return true;
        }

        ServerName.Check(mark.Name);
        var image = _images.Get(mark.Service, mark.Image);
        var version = _images.VersionFolder(mark.Service, mark.Image);
        Places.SweepUnfinished(_places.Nest);
        var making = new ServerFolder(Path.Combine(_places.Nest, $"{Places.Creating}{mark.ServerId:D}"));
        Places.Delete(making.Path);
        using var held = Places.Begin(making.Path);
        try
        {
            await MakeAsync(making, mark, image, version, cancellation);
        }
        catch
        {
            Places.Delete(making.Path);
            throw;
        }

        var folder = Path.Combine(_places.Nest, mark.ServerId.ToString("D"));
        File.Delete(Path.Combine(making.Path, Places.Unfinished));
        Directory.Move(making.Path, folder);
        Native.FlushFolder(_places.Nest);
        return true;
    }, cancellation);

    private async Task MakeAsync(ServerFolder making, ServerMark mark, ImageFacts image, string version, CancellationToken cancellation)
    {
        making.WriteGuest(image.Guest);
        if (_images.Disks(mark.Service, image).FirstOrDefault() is { } below)
        {
            await ImageStore.CreateOverlayAsync(making.Overlay, below, cancellation);
        }

        if (image.Warm is { } warm)
        {
            // State files are never written in place, so a new server may share the image's.
            var state = new ServerFolder(version).State;
            if (!Native.TryLink(state, making.State))
            {
                await QemuTools.RunAsync("cp", ["--reflink=auto", "--", state, making.State], cancellation);
            }

            making.WriteState(warm with { Overlay = making.OverlayIdentity(), ServerId = mark.ServerId });
        }

        ServerFolder.Write(making.MarkFile, mark with { MachineId = making.MachineId() });
    }

    /// <inheritdoc/>
    public Task FetchAsync(DriverCall call, Guid server, HostSpec to, CancellationToken cancellation) =>
        RelocateAsync(call, server, _places.Nest, Places.Host(to), cancellation);

    /// <inheritdoc/>
    public Task StowAsync(DriverCall call, Guid server, HostSpec from, CancellationToken cancellation) =>
        RelocateAsync(call, server, Places.Host(from), _places.Nest, cancellation);

    /// <inheritdoc/>
    public Task CarryAsync(DriverCall call, Guid server, HostSpec from, HostSpec to, CancellationToken cancellation) =>
        RelocateAsync(call, server, Places.Host(from), Places.Host(to), cancellation);

    /// <inheritdoc/>
    public Task DiscardAsync(DriverCall call, Guid server, HostSpec? from, CancellationToken cancellation) =>
        RelocateAsync(call, server, from is null ? _places.Nest : Places.Host(from), _places.Disposed, cancellation);

    /// <inheritdoc/>
    public Task RecoverAsync(DriverCall call, Guid server, CancellationToken cancellation) =>
        RelocateAsync(call, server, _places.Disposed, _places.Nest, cancellation);

    private Task<bool> RelocateAsync(DriverCall call, Guid server, string from, string to, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        if (Places.Find(from, server) is { } folder)
        {
            if (await GuestProcess.FindAsync(folder, _clock, cancellation) is { } process && !await EndIfDeadAsync(process, folder, cancellation))
            {
                throw new VMatrixException("ServerStillRuns", VMatrixErrorKind.InvalidState, $"Server {server} still runs in {folder.Path} (QEMU process {process.Id}); hibernate or stop it first.");
            }

            File.Delete(folder.RunFile);
            folder.Sweep();
            GuestProcess.Sweep(folder, _runtimeFolder);
        }

        await _places.MoveAsync(server, from, to, cancellation);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task EraseAsync(DriverCall call, Guid server, CancellationToken cancellation) => ChangeAsync(call, server, () =>
    {
        var erasing = Path.Combine(_places.Disposed, $"{Places.Erasing}{server:D}");
        if (Places.Find(_places.Disposed, server) is { } folder)
        {
            Places.Delete(erasing);
            Directory.Move(folder.Path, erasing);
            Native.FlushFolder(_places.Disposed);
        }
        else if (_places.Others(server, _places.Disposed).FirstOrDefault() is { } other)
        {
            throw new VMatrixException("ServerNotDisposed", VMatrixErrorKind.InvalidState, $"Server {server} is not purged: it is in {other}. Dispose of it first.");
        }

        Places.Delete(erasing);
        return Task.FromResult(true);
    }, cancellation);

    /// <inheritdoc/>
    public Task MarkAsync(DriverCall call, ServerMark mark, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, () =>
    {
        var folder = on is not null ? _places.Get(Places.Host(on), mark.ServerId)
            : Places.Find(_places.Disposed, mark.ServerId) ?? _places.Get(_places.Nest, mark.ServerId);
        if (folder.ReadMark() is { } old && old.MachineId != folder.MachineId())
        {
            throw new VMatrixException("ServerForeign", VMatrixErrorKind.InvalidState, $"{folder.Path} is a copy: its mark was written for {old.MachineId}. It is not touched until it is registered.");
        }

        folder.WriteMark(mark);
        return Task.FromResult(true);
    }, cancellation);

    /// <inheritdoc/>
    public Task<string> MigrateAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec from, HostSpec to, CancellationToken cancellation) =>
        throw new VMatrixException("LiveMigrationNotSupported", VMatrixErrorKind.NotSupported,
            "The qemu driver moves servers by hibernating them for a moment: live migration of QEMU below version 10 corrupts guests under load. Move it without -Live.");

    /// <inheritdoc/>
    public Task AdoptAsync(DriverCall call, string machineId, ServerMark mark, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, () =>
    {
        var place = on is null ? _places.Nest : Places.Host(on);
        if (Places.Find(place, mark.ServerId) is { } there && there.IsOurs())
        {
            there.WriteMark(mark);
            return Task.FromResult(true);
        }

        ServerName.Check(mark.Name);
        var folder = Places.List(place).Select(f => f.Folder).FirstOrDefault(f => IdOf(f) == machineId)
            ?? throw new VMatrixException("MachineNotFound", VMatrixErrorKind.NotFound, $"There is no machine {machineId} in {place}.");
        var id = mark.ServerId.ToString("D");
        if (folder.IsOurs() && folder.ReadMark() is { } own)
        {
            throw new VMatrixException("MachineMarked", VMatrixErrorKind.InvalidState, $"{folder.Path} is server {own.Name} ({own.ServerId}) already.");
        }

        if (folder.ReadGuest() is null)
        {
            throw new VMatrixException("MachineNotFit", VMatrixErrorKind.NotSupported, $"{folder.Path} holds no {Path.GetFileName(folder.GuestFile)}, so nobody knows how to start it; only what the qemu driver made, or a copy of it, can be registered here.");
        }

        // Its disk is an overlay on the image's: without the image it is nothing.
        _ = _images.Get(mark.Service, mark.Image);
        var (target, renamed) = (Path.Combine(place, id), Path.GetFileName(folder.Path) != id);
        if ((renamed && Directory.Exists(target)) || _places.Others(mark.ServerId, place).Any())
        {
            throw new VMatrixException("ServerExists", VMatrixErrorKind.InvalidState, $"{folder.Path} cannot become server {id}: there is one with this id already.");
        }

        if (renamed && folder.IsLive())
        {
            throw new VMatrixException("MachineNotFit", VMatrixErrorKind.InvalidState, $"{folder.Path} runs, and its QEMU process knows its folder by its name; stop it first, then register it.");
        }

        // A copy's memory is the copy's, which is another server from now on.
        if (folder.ReadState() is { ServerId: { } owner } state && owner != mark.ServerId)
        {
            if (owner.ToString("D") != folder.ReadStale()?.ServerId.ToString("D"))
            {
                throw new VMatrixException("StateMismatch", VMatrixErrorKind.Corrupt, $"The memory in {folder.State} is that of server {owner} and not this machine's. Take it away or bring back the right one, then register it.");
            }

            folder.WriteState(state with { ServerId = mark.ServerId });
        }

        // The mark is written for the name to come; the renaming makes it count.
        ServerFolder.Write(folder.MarkFile, mark with { MachineId = $"{id}/{Native.Inode(folder.Path):x}" });
        if (renamed)
        {
            Directory.Move(folder.Path, target);
            Native.FlushFolder(place);
        }

        File.Delete(new ServerFolder(target).ReleasedFile);
        return Task.FromResult(true);
    }, cancellation);

    /// <inheritdoc/>
    public Task ReleaseAsync(DriverCall call, Guid server, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, server, () =>
    {
        var place = on is null ? _places.Nest : Places.Host(on);
        if (Places.Find(place, server) is { } folder && folder.IsOurs())
        {
            File.Move(folder.MarkFile, folder.ReleasedFile, overwrite: true);
            Native.FlushFolder(folder.Path);
        }
        else if (_places.Others(server, place).ToArray() is { Length: > 0 } elsewhere)
        {
            throw new VMatrixException("ServerElsewhere", VMatrixErrorKind.InvalidState, $"Server {server} is not in {place}; it is in {string.Join(" and in ", elsewhere)}.");
        }

        return Task.FromResult(true);
    }, cancellation);

    // One that vanishes while it is looked at is not the one that is meant.
    private static string? IdOf(ServerFolder folder)
    {
        try
        {
            return folder.MachineId();
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>One changing call at a time for a server in this process, from a decider that is not out of date.</summary>
    private async Task<T> ChangeAsync<T>(DriverCall call, Guid server, Func<Task<T>> change, CancellationToken cancellation)
    {
        var gate = _gates.GetOrAdd(server, static _ => new SemaphoreSlim(1));
        await gate.WaitAsync(cancellation);
        try
        {
            await CheckEpochAsync(call, cancellation);
            return await GuardDiskAsync(change);
        }
        finally
        {
            gate.Release();
        }
    }

    private static async Task<T> GuardDiskAsync<T>(Func<Task<T>> change)
    {
        const int NoSpace = 28;
        try
        {
            return await change();
        }
        catch (IOException e) when ((e.HResult & 0xffff) == NoSpace || e.Message.Contains("No space left", StringComparison.Ordinal))
        {
            throw new VMatrixException("DiskFull", VMatrixErrorKind.NoRoom, $"The disk is full: {e.Message} Free some room and try again.", e);
        }
        catch (Exception e) when (e is PeerException or System.Net.Sockets.SocketException)
        {
            throw new VMatrixException("QemuFailed", VMatrixErrorKind.Failed, $"QEMU did not do what it was told: {e.Message}", e) { IsTransient = true };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            throw new VMatrixException("FileFailed", VMatrixErrorKind.Failed, e.Message, e) { IsTransient = true };
        }
    }

    /// <summary>Refuses a decider that another one has followed. The highest epoch seen is a flushed file in the nest, which all hosts of the pool share.</summary>
    private async Task CheckEpochAsync(DriverCall call, CancellationToken cancellation)
    {
        if (call.Epoch == 0)
        {
            return;
        }

        var folder = _pool.Nest.Folder;
        OwnFiles.CreateFolder(folder);
        var file = Path.Combine(folder, "epoch.json");
        for (var tries = 0; ; tries++)
        {
            try
            {
                using var turn = OwnFiles.Open(file + ".turn", FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
                var seen = ServerFolder.Read<EpochFacts>(file)?.Epoch ?? 0;
                if (call.Epoch < seen)
                {
                    throw new VMatrixException("StaleEpoch", VMatrixErrorKind.Busy, string.Create(CultureInfo.InvariantCulture, $"The call of epoch {call.Epoch} is refused in {folder}: a decider of epoch {seen} has taken over."));
                }

                if (call.Epoch > seen)
                {
                    ServerFolder.Write(file, new EpochFacts(call.Epoch));
                }

                return;
            }
            catch (IOException) when (tries < 400)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(5), _clock, cancellation);
            }
        }
    }

    /// <inheritdoc/>
    public Task<long> ReadEpochAsync(CancellationToken cancellation) =>
        GuardDiskAsync(() => Task.FromResult(ServerFolder.Read<EpochFacts>(Path.Combine(_pool.Nest.Folder, "epoch.json"))?.Epoch ?? 0));

    private sealed record EpochFacts(long Epoch);

    /// <summary>A short path for sockets (their names may have 107 characters) that nobody else can write.</summary>
    private static string RuntimeFolder()
    {
        var user = Native.UserId();
        var given = Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR");
        var folder = given is { Length: > 0 and < 60 } && Directory.Exists(given)
            ? Path.Combine(given, "vmatrix")
            : string.Create(CultureInfo.InvariantCulture, $"/tmp/vmatrix-{user}");
        if (!OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }

        var (owner, mode) = Native.Owner(folder);
        const int FolderBit = 0x4000, KindBits = 0xf000, OthersBits = 0x3f;
        return owner == user && (mode & KindBits) == FolderBit && (mode & OthersBits) == 0
            ? folder
            : throw new VMatrixException("RuntimeFolderUnsafe", VMatrixErrorKind.Denied, $"The folder {folder}, where the sockets of servers go, can be used by others; take it away, or make it yours with mode 700.");
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        // Servers live on.
        _starts.Dispose();
        _prepare.Dispose();
        return ValueTask.CompletedTask;
    }
}
