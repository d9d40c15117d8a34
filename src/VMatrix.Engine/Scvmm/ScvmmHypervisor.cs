using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.HyperV;
using VMatrix.Moves;
using VMatrix.Shells;

namespace VMatrix.Scvmm;

/// <summary>
/// Drives Hyper-V hosts through SCVMM. The nest is its library: dormant servers and images are stored machines. Marks are a line in a machine's
/// description, which VMM keeps for it wherever it goes, in the same words as in the notes of the Hyper-V driver. Every change is a job that is
/// followed to its end, and what a job reports as done is looked at.
/// </summary>
public sealed class ScvmmHypervisor : IHypervisor, IHostAdviser, IEpochKeeper
{
    private const string Making = "vmatrix-making-";
    private readonly PoolSpec _pool;
    private readonly IShell _shell;
    private readonly TimeProvider _clock;
    private readonly ScvmmServer _vmm;
    private readonly HyperVNest _nest;
    private readonly ScvmmRatings _ratings;
    private readonly ScvmmHostGroups _groups;
    private readonly ScvmmBalancing _balancing;
    private readonly ConcurrentDictionary<Guid, Guid> _seen = new();
    private readonly ConcurrentDictionary<string, Guid> _current = new(StringComparer.OrdinalIgnoreCase);
    private readonly ConcurrentDictionary<Guid, SemaphoreSlim> _gates = new();
    private readonly SemaphoreSlim _prepare = new(1);

    /// <summary>Makes a driver for a pool. Nothing is touched yet.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="shell">Carries out the commands; ends with the driver.</param>
    /// <param name="clock">The clock.</param>
    public ScvmmHypervisor(PoolSpec pool, IShell shell, TimeProvider clock)
    {
        _pool = pool;
        _shell = shell;
        _clock = clock;
        _vmm = new ScvmmServer(pool, shell, clock);
        _nest = new HyperVNest(pool.Nest.Folder, clock);
        _ratings = new ScvmmRatings(pool, _vmm, clock);
        _groups = new ScvmmHostGroups(pool, _vmm, clock);
        _balancing = new ScvmmBalancing(_vmm, clock);
    }

    /// <inheritdoc/>
    public Task<long> ReadEpochAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(_nest.ReadEpoch());
    }

    /// <inheritdoc/>
    public HypervisorTraits Traits { get; } = new() { Name = "scvmm", LiveMigration = true, HostsAtOnce = int.MaxValue };

    // ---------------------------------------------------------------- reading

    /// <inheritdoc/>
    public async Task<HostReport> ReadHostAsync(HostSpec host, CancellationToken cancellation)
    {
        // Both are asked for all hosts of a pass at once.
        var checking = _vmm.CheckHostAsync(host, cancellation);
        var listing = ListSeenAsync(cancellation);
        await Task.WhenAll(checking, listing);
        var balancing = await _balancing.FindAsync(await checking, cancellation);
        return new HostReport
        {
            Host = host.Name,
            Machines =
            [
                .. (await listing).Where(m => ScvmmServer.IsOn(m, host)).Select(m => Show(m) is { Problem: null, Mark: not null } shown && m.IsLeftToVmm && balancing.IsAutomatic
                    ? shown with { Problem = $"{m.Who} is not kept out of VMM's dynamic optimization, which may move it against what VMatrix decides: Set-SCVirtualMachine -VM (Get-SCVirtualMachine -ID {m.Id}) -BlockDynamicOptimization $true." }
                    : Show(m)),
            ],
            Problem = balancing.Problem,
            Maintenance = (await checking).IsInMaintenance ? $"VMM has {host.Name} in maintenance mode, or lets nothing be placed on it (Enable-SCVMHost, Set-SCVMHost -AvailableForPlacement $true)" : null,
        };
    }

    /// <inheritdoc/>
    public async Task<NestReport> ReadNestAsync(CancellationToken cancellation)
    {
        var machines = await ListAsync(cancellation);
        return new NestReport
        {
            Dormant = [.. machines.Where(m => m.Place == HyperVPlace.Nest && (m.Ours is not null || (m.Image is null && !m.IsChanging && !m.Name.StartsWith(Making, StringComparison.Ordinal)))).Select(Show)],
            Disposed = [.. machines.Where(m => m.Ours is not null && m.Place == HyperVPlace.Disposed).Select(Show)],
            Images = _pool.Services.Where(service => Unreadable(machines, service) is null).Select(service => CurrentImage(machines, service)?.Image).OfType<ScvmmImage>().ToDictionary(image => image.Service, image => image.Version, StringComparer.OrdinalIgnoreCase),
            Problems = [.. _pool.Services.Select(service => Unreadable(machines, service)).OfType<ScvmmMachine>().Select(ToldOf)],
        };
    }

    /// <inheritdoc/>
    public async Task<HostAdvice> AdviseAsync(IReadOnlyList<HostSpec> hosts, CancellationToken cancellation)
    {
        var advice = await _ratings.AdviseAsync(hosts, ListAsync, CurrentImage, cancellation);
        return advice with { Problems = [.. advice.Problems, .. await _groups.ChangesAsync(_pool.Hosts, cancellation)] };
    }

    /// <summary>The pool with the hosts of the host groups that it names.</summary>
    /// <param name="pool">The pool as its file says.</param>
    /// <param name="shell">Carries out the commands.</param>
    /// <param name="clock">The clock.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <exception cref="VMatrixException"><c>HostGroupNotFound</c>, <c>HostGroupEmpty</c>, <c>PoolInvalid</c>.</exception>
    public static Task<PoolSpec> WithHostGroupsAsync(PoolSpec pool, IShell shell, TimeProvider clock, CancellationToken cancellation) =>
        new ScvmmHostGroups(pool, new ScvmmServer(pool, shell, clock), clock).ExpandAsync(cancellation);

    private Machine Show(ScvmmMachine machine)
    {
        var ours = machine.Ours;
        var unsure = machine.IsUnsure;
        var died = ours is { Ran: true } && machine.Place == HyperVPlace.Host && machine.Power == PowerState.Off;
        return new Machine
        {
            MachineId = machine.Id.ToString("D"),
            Name = ours?.Mark.Name ?? machine.Name,
            Mark = ours?.Mark,
            StaleMark = machine.Stale,
            Power = machine.Power,
            IsChanging = machine.IsChanging,
            // While VMM moves it, it answers now here, now there, and now not: that is no failed health check.
            Address = machine.Power == PowerState.Running && machine.Address is { } address ? $"{address}:{PortOf(ours?.Mark ?? machine.Stale)}" : null,
            MemoryBytes = machine.MemoryBytes,
            Cores = machine.Cores,
            Health = died ? ServerHealth.Dead : ServerHealth.Unknown,
            Problem = machine.Foreign
                ?? (ours is null ? null
                : unsure && !machine.HasFailed
                    ? $"{machine.Who} is {machine.Status} in VMM on {machine.Host ?? "the library"}: VMM tells what it remembers, so that nothing is done to it. Look for it on the other hosts, and make VMM look anew: Read-SCVirtualMachine, or Repair-SCVirtualMachine -Dismiss."
                : machine.HasFailed
                    ? $"{machine.Who} is {machine.Status} in VMM on {machine.Host ?? "the library"}: look at its last job, and put it right with Repair-SCVirtualMachine or Read-SCVirtualMachine."
                : machine.IsChanging ? $"{machine.Who} is {machine.Status} in VMM on {machine.Host ?? "the library"}: a job works on it, and what it does is known when that has ended (Get-SCJob -Running)."
                : died ? $"{machine.Who} is off on {machine.Host}, and VMatrix has not stopped it: it powered itself off, or its host did. The host's event log Hyper-V-Worker tells why."
                : ours.Told),
        };
    }

    // Of a machine that is nobody's yet the first service's port is as good a guess as any.
    private int PortOf(ServerMark? mark) => (_pool.Services.FirstOrDefault(s => string.Equals(s.Name, mark?.Service, StringComparison.OrdinalIgnoreCase)) ?? _pool.Services.FirstOrDefault())?.Port ?? 80;

    /// <inheritdoc/>
    public async Task<bool> ProveStoppedAsync(Guid server, HostSpec on, CancellationToken cancellation)
    {
        try
        {
            // VMM remembers what it has seen; only a host that answers it now, and a machine looked at anew, prove anything.
            await _vmm.CheckHostAsync(on, cancellation);
            var there = (await ListAsync(cancellation)).Where(m => ScvmmServer.IsOn(m, on)).ToArray();

            // One whose line cannot be read may be this very one.
            if (Array.Exists(there, m => m is { Ours: null, Stale: null, Foreign: not null }))
                return false;
            foreach (var machine in there.Where(m => m.Ours?.Mark.ServerId == server))
            {
                await _vmm.RefreshAsync(machine, cancellation);
                if (await _vmm.FindAsync(machine.Id, cancellation) is { } now && now.Power is not (PowerState.Off or PowerState.Saved))
                    return false;
            }

            return true;
        }
        catch (VMatrixException)
        {
            return false;
        }
    }

    // ---------------------------------------------------------------- images

    /// <inheritdoc/>
    public async Task<string> PrepareImageAsync(DriverCall call, ServiceSpec service, HostSpec on, IProgress<string>? progress, CancellationToken cancellation)
    {
        await _nest.AdmitAsync(call, cancellation);
        await _prepare.WaitAsync(cancellation);
        try
        {
            var name = service.Image.Disk ?? throw new VMatrixException("ImageNotFound", VMatrixErrorKind.InvalidInput, $"{service.Name} has no gold disk: name a template or a virtual hard disk of the VMM library as image.disk in the pool file.");
            var source = await _vmm.FindSourceAsync(FileName(name), cancellation);
            var owner = HyperVNest.Name(source.State);
            var machines = await ListAsync(cancellation);
            if (Unreadable(machines, service) is { } unreadable)
                throw new VMatrixException("ImageNotReadable", VMatrixErrorKind.Corrupt, ToldOf(unreadable));
            var current = CurrentImage(machines, service)?.Image;
            if (current?.Owner == owner)
                return current.Version;
            var stored = await ImageAsync(machines, service, owner, cancellation);
            if (stored is null)
            {
                progress?.Report($"{service.Name}: making an image of {name} in the library");
                (string, object?)[] size = [("Name", ImageName(service, owner)), ("MemoryMB", (int)(service.Image.MemoryBytes >> 20)), ("CPUCount", service.Image.Cores)];
                var what = $"Making the image of {service.Name}";
                if (source.IsTemplate)
                {
                    // VMM makes machines of a template on hosts only; this one never runs there.
                    var path = _pool.Scvmm.Path ?? throw new VMatrixException("PoolInvalid", VMatrixErrorKind.InvalidInput, $"The image of {service.Name} is the template {name}, which VMM turns into a machine only in a folder that is named: set scvmm.path in {_pool.Path}.");
                    var made = await _vmm.MakeAsync(what, cancellation, [.. size, ("VMTemplate", _vmm.TemplateCall(source.Id)), ("VMHost", _vmm.HostCall(on)), ("Path", path)]);
                    await StoreAsync(made, cancellation);
                    stored = await _vmm.SettledAsync(made.Id, cancellation) ?? throw NotDone(made, "the library");
                }
                else
                {
                    stored = await _vmm.MakeAsync(what, cancellation, [.. size, ("VirtualHardDisk", _vmm.DiskCall(source.Id)), ("LibraryServer", _vmm.LibraryCall()), ("SharePath", _vmm.Share), ("Generation", _pool.Scvmm.MachineGeneration)]);
                }
            }

            await _vmm.DescribeAsync(stored, new ScvmmImage { Service = service.Name, Version = owner, Owner = owner, SelectedAt = After(current) }, cancellation);
            return owner;
        }
        finally
        {
            _prepare.Release();
        }
    }

    /// <inheritdoc/>
    public Task<PublishedImage> PublishImageAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var version = HyperVNest.Name(call.MoveId == Guid.Empty ? Guid.NewGuid().ToString() : $"{call.MoveId:D}|{server:D}");
        var machines = await ListAsync(cancellation);
        if (machines.FirstOrDefault(m => m.Image is { Published: not null } image && image.Service == service.Name && image.Version == version)?.Image?.Published is { } published)
            return published;
        var machine = await SettledAsync(await RequireAsync(server, on, on is null ? HyperVPlace.Nest : HyperVPlace.Host, cancellation), cancellation);
        if (machine.Power is PowerState.Saved or PowerState.Paused)
            throw new VMatrixException("ServerAsleep", VMatrixErrorKind.InvalidState, $"No image is made from {machine.Who}: it is {machine.Power}, and its memory holds what its disk lacks. Wake it in the Chamber first.");

        // A clone takes the disks of a running machine as they are at one moment, and lets it run.
        var stored = await ImageAsync(machines, service, version, cancellation)
            ?? await _vmm.MakeAsync($"Making an image of {machine.Who}", cancellation, ("Name", ImageName(service, version)), ("VM", _vmm.MachineCall(machine.Id)), ("LibraryServer", _vmm.LibraryCall()), ("SharePath", _vmm.Share));
        var image = new PublishedImage { Service = service.Name, Version = version, From = machine.Ours!.Mark.Image, ServerId = server, ServerName = machine.Ours.Mark.Name, Bytes = Math.Max(1, stored.MemoryBytes), At = _clock.GetUtcNow() };
        await _vmm.DescribeAsync(stored, new ScvmmImage { Service = service.Name, Version = version, Published = image }, cancellation);
        return image;
    }, cancellation);

    /// <inheritdoc/>
    public async Task SelectImageAsync(DriverCall call, ServiceSpec service, string version, CancellationToken cancellation)
    {
        await _nest.AdmitAsync(call, cancellation);
        var machines = await ListAsync(cancellation);
        var stored = machines.FirstOrDefault(m => m.Image is { } image && image.Service == service.Name && image.Version == version) ?? throw NoImage(service, version, "it cannot be selected");
        var current = CurrentImage(machines, service);
        if (current?.Id == stored.Id)
            return;
        await _vmm.DescribeAsync(stored, stored.Image! with { SelectedAt = After(current?.Image), Owner = current?.Image?.Owner ?? stored.Image.Owner }, cancellation);
    }

    // The one selected last counts, also when another computer's clock, by which the one before was selected, is ahead.
    private DateTimeOffset After(ScvmmImage? current)
    {
        var now = _clock.GetUtcNow();
        return current?.SelectedAt >= now ? current.SelectedAt.Value.AddTicks(1) : now;
    }

    private static ScvmmMachine? CurrentImage(IReadOnlyList<ScvmmMachine> machines, ServiceSpec service) =>
        machines.Where(m => m.IsStored && m.Image is { SelectedAt: not null } image && image.Service == service.Name).OrderByDescending(m => m.Image!.SelectedAt).FirstOrDefault();

    /// <summary>A stored machine that is an image of a service by its name and does not say which, or whether it is the one that was selected; null when there is none.</summary>
    private ScvmmMachine? Unreadable(IReadOnlyList<ScvmmMachine> machines, ServiceSpec service)
    {
        // One without any description is being made, or was, unless it is known that it was the one.
        var unreadable = machines.FirstOrDefault(m => m is { IsStored: true, Image: null, IsChanging: false } && m.Name.StartsWith(ImageName(service, ""), StringComparison.OrdinalIgnoreCase)
            && !m.Status.EndsWith("Failed", StringComparison.Ordinal) && (m.Description.Length > 0 || (_current.TryGetValue(service.Name, out var known) && known == m.Id)));
        if (unreadable is null && CurrentImage(machines, service) is { } current)
            _current[service.Name] = current.Id;
        return unreadable;
    }

    private static string ToldOf(ScvmmMachine image) =>
        $"The description of '{image.Name}' in the VMM library no longer says which image version it is, so that it may be the one that new servers are made from; none are made until that is known. Put the line back that begins with {ScvmmServer.ImageLine} (VMM's job history has the old text), or delete the stored machine if it is not wanted.";

    /// <summary>The stored machine of an image version as soon as no job works on it; null when there is none, and one that a job has failed to make is cleared away.</summary>
    private async Task<ScvmmMachine?> ImageAsync(IReadOnlyList<ScvmmMachine> machines, ServiceSpec service, string version, CancellationToken cancellation)
    {
        var found = machines.FirstOrDefault(m => m.Name == ImageName(service, version));
        var settled = found is null ? null : await _vmm.SettledAsync(found.Id, cancellation);
        if (settled is null or { Status: "Stored" })
            return settled;
        await _vmm.RemoveAsync(settled, cancellation);
        return null;
    }

    private static string ImageName(ServiceSpec service, string version) => $"VMatrix image {service.Name} {version}";

    // ---------------------------------------------------------------- making and deleting

    /// <inheritdoc/>
    public Task CreateAsync(DriverCall call, ServerMark mark, ServiceSpec service, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, async () =>
    {
        var machines = await ListAsync(cancellation);
        if (machines.FirstOrDefault(m => m.Ours?.Mark.ServerId == mark.ServerId) is { } there)
        {
            return there.Place == HyperVPlace.Nest ? true
                : throw new VMatrixException("ServerExists", VMatrixErrorKind.InvalidState, $"{mark.Name} ({mark.ServerId}) cannot be made in the nest: it is {there.Where}.");
        }

        var image = machines.FirstOrDefault(m => m.Image is { } each && each.Service == service.Name && each.Version == mark.Image) ?? throw NoImage(service, mark.Image, $"{mark.Name} cannot be made from it");

        // While it is being made it has a name that nothing else has; its mark and its own name come last, in one call.
        var making = Making + mark.ServerId.ToString("D");
        var begun = machines.FirstOrDefault(m => m.Name == making);
        var made = begun is null ? null : await _vmm.SettledAsync(begun.Id, cancellation);
        if (made is not null and not { Status: "Stored" })
        {
            await _vmm.RemoveAsync(made, cancellation);
            made = null;
        }

        made ??= await _vmm.MakeAsync($"Making {mark.Name}", cancellation, ("Name", making), ("VM", _vmm.MachineCall(image.Id)), ("LibraryServer", _vmm.LibraryCall()), ("SharePath", _vmm.Share),
            ("MemoryMB", (int)(service.Image.MemoryBytes >> 20)), ("CPUCount", service.Image.Cores), ("StartAction", "NeverAutoTurnOnVM"), ("StopAction", "SaveVM"));
        var ours = new HyperVMark { Mark = mark with { MachineId = made.Id.ToString("D") }, Place = HyperVPlace.Nest };
        await _vmm.DescribeAsync(made, HyperVNotes.Write("", ours), mark.Name, cancellation);
        _seen[mark.ServerId] = made.Id;
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task EraseAsync(DriverCall call, Guid server, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        if (await LocateAsync(server, cancellation) is { } machine)
        {
            if (machine.Place != HyperVPlace.Disposed)
                throw new VMatrixException("ServerNotDisposed", VMatrixErrorKind.InvalidState, $"{machine.Who} is {machine.Where}: only a disposed server is deleted for good.");
            await _vmm.RemoveAsync(Seen(machine), cancellation);
        }

        _ = _seen.TryRemove(server, out _);
        return true;
    }, cancellation);

    // ---------------------------------------------------------------- places

    /// <inheritdoc/>
    public Task FetchAsync(DriverCall call, Guid server, HostSpec to, CancellationToken cancellation) => RelocateAsync(call, server, null, to, cancellation);

    /// <inheritdoc/>
    public Task StowAsync(DriverCall call, Guid server, HostSpec from, CancellationToken cancellation) => RelocateAsync(call, server, from, null, cancellation);

    /// <inheritdoc/>
    public Task CarryAsync(DriverCall call, Guid server, HostSpec from, HostSpec to, CancellationToken cancellation) => RelocateAsync(call, server, from, to, cancellation);

    private Task<bool> RelocateAsync(DriverCall call, Guid server, HostSpec? from, HostSpec? to, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await SettledAsync(await LocateAsync(server, cancellation) ?? throw NotFound(server), cancellation);
        if (to is null ? machine.Place == HyperVPlace.Nest : ScvmmServer.IsOn(machine, to))
            return true;
        if (from is null ? machine.Place != HyperVPlace.Nest : !ScvmmServer.IsOn(machine, from))
            throw Elsewhere(machine, from?.Name ?? "the nest");
        if (machine.Power is PowerState.Running or PowerState.Paused)
            throw new VMatrixException("ServerRunning", VMatrixErrorKind.InvalidState, $"{machine.Who} cannot be taken from {machine.Host} while it runs there: hibernate or stop it first.");
        if (to is null)
            await StoreAsync(machine, cancellation);
        else
            await ShiftAsync(machine, to, cancellation);
        return true;
    }, cancellation);

    /// <summary>Takes a machine into the library, and finds it there.</summary>
    private async Task StoreAsync(ScvmmMachine machine, CancellationToken cancellation)
    {
        if (machine.Ours is { Ran: true })
            await _vmm.MarkAsync(machine, machine.Ours with { Ran = false }, null, cancellation);
        await _vmm.DoAsync(machine, "Storing", "Save-SCVirtualMachine", cancellation, ("LibraryServer", _vmm.LibraryCall()), ("SharePath", _vmm.Share));
        if (await _vmm.SettledAsync(machine.Id, cancellation) is not { IsStored: true })
            throw NotDone(machine, "the library");
    }

    /// <summary>Moves a machine to a host, running or not, and finds it there: what VMM reports as done it may only believe.</summary>
    private async Task<ScvmmMachine> ShiftAsync(ScvmmMachine machine, HostSpec to, CancellationToken cancellation)
    {
        var parameters = new List<(string, object?)> { ("VMHost", _vmm.HostCall(to)) };
        if (_pool.Scvmm.Path is { } path)
            parameters.Add(("Path", path));
        await _vmm.DoAsync(machine, $"Moving to {to.Name}", "Move-SCVirtualMachine", cancellation, [.. parameters]);
        await _vmm.RefreshAsync(machine, cancellation);
        return await _vmm.SettledAsync(machine.Id, cancellation) is { } moved && ScvmmServer.IsOn(moved, to) ? moved : throw NotDone(machine, to.Name);
    }

    private static VMatrixException NotDone(ScvmmMachine machine, string where) =>
        new("MoveNotDone", VMatrixErrorKind.Failed, $"VMM reported {machine.Who} as moved to {where}, and it is not there. Look at the job in VMM, and for the machine where it was: {machine.Where}.") { IsTransient = true };

    /// <inheritdoc/>
    public Task DiscardAsync(DriverCall call, Guid server, HostSpec? from, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await SettledAsync(await LocateAsync(server, cancellation) ?? throw NotFound(server), cancellation);
        if (machine.Place == HyperVPlace.Disposed)
            return true;
        if (machine.Power is PowerState.Running or PowerState.Paused)
            throw new VMatrixException("ServerRunning", VMatrixErrorKind.InvalidState, $"{machine.Who} cannot be disposed of while it runs on {machine.Host}: stop it first.");
        if (from is null ? machine.Place != HyperVPlace.Nest : !ScvmmServer.IsOn(machine, from))
            throw Elsewhere(machine, from?.Name ?? "the nest");
        await _vmm.MarkAsync(machine, machine.Ours! with { Place = HyperVPlace.Disposed, Ran = false, Told = null, Called = machine.Name == machine.Ours!.Mark.Name ? null : machine.Name }, $"{machine.Ours!.Mark.Name} (disposed {server:D})", cancellation);
        if (!machine.IsStored)
            await StoreAsync(machine with { Ours = null }, cancellation);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task RecoverAsync(DriverCall call, Guid server, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await SettledAsync(await LocateAsync(server, cancellation) ?? throw NotFound(server), cancellation);
        if (machine.Place == HyperVPlace.Nest)
            return true;
        if (machine.Place != HyperVPlace.Disposed)
            throw Elsewhere(machine, "the disposed area");
        await _vmm.MarkAsync(machine, machine.Ours! with { Place = HyperVPlace.Nest, Called = null }, machine.Ours!.Called ?? machine.Ours.Mark.Name, cancellation);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task MarkAsync(DriverCall call, ServerMark mark, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, async () =>
    {
        var machine = await LocateAsync(mark.ServerId, cancellation) ?? throw NotFound(mark.ServerId);
        if (on is null ? !machine.IsStored : !ScvmmServer.IsOn(machine, on))
            throw Elsewhere(machine, on?.Name ?? "the nest");
        await _vmm.MarkAsync(machine, machine.Ours! with { Mark = mark with { MachineId = machine.Id.ToString("D") } }, machine.Name == machine.Ours!.Mark.Name ? mark.Name : null, cancellation);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task AdoptAsync(DriverCall call, string machineId, ServerMark mark, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, async () =>
    {
        var machines = await ListAsync(cancellation);
        if (machines.FirstOrDefault(m => m.IsCopy && string.Equals(m.Id.ToString("D"), machineId, StringComparison.OrdinalIgnoreCase)) is { } copy)
            throw new VMatrixException("MachineNotFit", VMatrixErrorKind.InvalidState, $"{copy.Name} ({copy.Id}) on {copy.Host} is the copy that Hyper-V Replica keeps of a machine elsewhere: register that one.");
        var machine = machines.FirstOrDefault(m => string.Equals(m.Id.ToString("D"), machineId, StringComparison.OrdinalIgnoreCase) && m.Image is null && (on is null ? m.IsStored : ScvmmServer.IsOn(m, on)))
            ?? throw new VMatrixException("MachineNotFound", VMatrixErrorKind.NotFound, $"There is no machine {machineId} {(on is null ? "in the library" : $"on {on.Name}")} in VMM.");
        if (machine.Ours is { } ours && ours.Mark.ServerId != mark.ServerId)
            throw new VMatrixException("MachineMarked", VMatrixErrorKind.InvalidState, $"{machine.Name} is server {machine.Who} already, {machine.Where}.");
        if (machines.FirstOrDefault(m => m.Ours?.Mark.ServerId == mark.ServerId && m.Id != machine.Id) is { } other)
            throw new VMatrixException("ServerExists", VMatrixErrorKind.InvalidState, $"{machine.Name} cannot become server {mark.ServerId}: {other.Name} is it, {other.Where}.");
        await _vmm.MarkAsync(machine, new HyperVMark { Mark = mark with { MachineId = machine.Id.ToString("D") }, Place = on is null ? HyperVPlace.Nest : HyperVPlace.Host, Ran = machine.Power is PowerState.Running or PowerState.Paused, Saved = machine.Ours?.Saved }, null, cancellation);
        _seen[mark.ServerId] = machine.Id;
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task ReleaseAsync(DriverCall call, Guid server, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        if (await LocateAsync(server, cancellation) is not { } machine)
            return true;
        if (on is null ? !machine.IsStored : !ScvmmServer.IsOn(machine, on))
            throw Elsewhere(machine, on?.Name ?? "the nest");
        await _vmm.DescribeAsync(machine, HyperVNotes.Remove(machine.Description), null, cancellation, isOurs: false);
        _ = _seen.TryRemove(server, out _);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public async Task<IReadOnlyList<MoveObstacle>> CompareAsync(Guid server, ServiceSpec service, HostSpec? from, HostSpec to, bool live, CancellationToken cancellation)
    {
        var machine = await LocateAsync(server, cancellation) ?? throw NotFound(server);
        return
        [
            .. (await _vmm.RateAsync(machine, to, cancellation)).Select(reason => new MoveObstacle
            {
                Group = ObstacleGroup.Hardware,
                What = "HostRatedZero",
                Severity = ObstacleSeverity.Blocks,
                Why = $"VMM rates {to.Name} with zero stars for {machine.Who}: {reason.TrimEnd('.')}.",
                Mend = "Get-SCVMHostRating in VMM shows the same; mend what it names, or choose another host.",
            }),
        ];
    }

    // ---------------------------------------------------------------- running

    /// <inheritdoc/>
    public Task<string> StartAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await SettledAsync(await RequireAsync(server, on, HyperVPlace.Host, cancellation), cancellation);
        if (machine.Power != PowerState.Running)
        {
            await _vmm.MarkAsync(machine, machine.Ours! with { Ran = true, Place = HyperVPlace.Host }, null, cancellation);
            if (machine.Power == PowerState.Paused)
                await _vmm.DoAsync(machine, "Resuming", "Resume-SCVirtualMachine", cancellation);
            else
                await _vmm.DoAsync(machine, "Starting", "Start-SCVirtualMachine", cancellation);
            machine = await _vmm.SettledAsync(machine.Id, cancellation) ?? throw NotFound(server);
            if (machine.Power != PowerState.Running)
                throw new VMatrixException("StartFailed", VMatrixErrorKind.Failed, $"VMM reported {machine.Who} as started on {on.Name}, and it is {machine.Status}. Look at its last job in VMM.") { IsTransient = true };
        }

        return await AddressAsync(machine, service, cancellation);
    }, cancellation);

    private async Task<string> AddressAsync(ScvmmMachine machine, ServiceSpec service, CancellationToken cancellation)
    {
        var until = _clock.GetUtcNow() + service.Health.StartTimeout;
        while (true)
        {
            if (await _vmm.FindAsync(machine.Id, cancellation) is { Address: { } address })
                return $"{address}:{service.Port}";
            if (_clock.GetUtcNow() >= until)
                throw new VMatrixException("ServerWithoutAddress", VMatrixErrorKind.Timeout, $"{machine.Who} runs on {machine.Host}, and VMM has learned no address of it for {Planning.Words.Seconds(service.Health.StartTimeout)}. Check its network and its integration services.");

            // VMM asks a machine for its address only now and then.
            await _vmm.RefreshAsync(machine, cancellation);
            await _clock.WaitAsync(TimeSpan.FromMilliseconds(200), cancellation);
        }
    }

    /// <inheritdoc/>
    public Task SaveAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await SettledAsync(await RequireAsync(server, on, HyperVPlace.Host, cancellation), cancellation);
        if (machine.Power == PowerState.Saved)
            return true;
        if (machine.Power == PowerState.Off)
            throw new VMatrixException("ServerNotRunning", VMatrixErrorKind.InvalidState, $"{machine.Who} cannot be hibernated: it does not run on {on.Name} and has no memory to keep.");
        await _vmm.MarkAsync(machine, machine.Ours! with { Saved = new SavedFacts(null, null, null, _clock.GetUtcNow()), Told = null }, null, cancellation);
        await _vmm.DoAsync(machine, "Saving", "Stop-SCVirtualMachine", cancellation, ("SaveState", true));
        return await _vmm.SettledAsync(machine.Id, cancellation) is { Power: PowerState.Saved } ? true
            : throw new VMatrixException("SaveFailed", VMatrixErrorKind.Failed, $"VMM reported {machine.Who} as saved on {on.Name}, and it is not.") { IsTransient = true };
    }, cancellation);

    /// <inheritdoc/>
    public Task StopAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await SettledAsync(await RequireAsync(server, on, HyperVPlace.Host, cancellation), cancellation);
        if (machine.Power is PowerState.Running or PowerState.Paused)
            await _vmm.DoAsync(machine, "Stopping", "Stop-SCVirtualMachine", cancellation, ("Force", true));
        else if (machine.Power == PowerState.Saved)
            await _vmm.DoAsync(machine, "Giving up the memory of", "Stop-SCVirtualMachine", cancellation, ("DiscardSavedState", true));
        machine = await _vmm.SettledAsync(machine.Id, cancellation) ?? throw NotFound(server);
        if (machine.Power != PowerState.Off)
            throw new VMatrixException("StopFailed", VMatrixErrorKind.Failed, $"VMM reported {machine.Who} as stopped on {on.Name}, and it is {machine.Status}.") { IsTransient = true };
        if (machine.Ours is { Ran: true } or { Saved: not null })
            await _vmm.MarkAsync(machine, machine.Ours with { Ran = false, Saved = null, Place = HyperVPlace.Host }, null, cancellation);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task<string> MigrateAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec from, HostSpec to, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await SettledAsync(await LocateAsync(server, cancellation) ?? throw NotFound(server), cancellation);
        if (!ScvmmServer.IsOn(machine, to) && !ScvmmServer.IsOn(machine, from))
            throw Elsewhere(machine, from.Name);
        if (machine.Power != PowerState.Running)
            throw new VMatrixException("ServerNotRunning", VMatrixErrorKind.InvalidState, $"{machine.Who} cannot be moved live: it is {machine.Where}.");
        if (!ScvmmServer.IsOn(machine, to))
            machine = await ShiftAsync(machine, to, cancellation);
        return await AddressAsync(machine, service, cancellation);
    }, cancellation);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _shell.DisposeAsync();

    // ---------------------------------------------------------------- finding

    // What is not in it is nowhere: without the library nothing could be said of that.
    private async Task<IReadOnlyList<ScvmmMachine>> ListAsync(CancellationToken cancellation)
    {
        var machines = await ListSeenAsync(cancellation);
        await _vmm.RequireLibraryAsync(machines, cancellation);
        return machines;
    }

    // For a host's own machines, which the library's trouble does not hide.
    private async Task<IReadOnlyList<ScvmmMachine>> ListSeenAsync(CancellationToken cancellation)
    {
        var machines = await _vmm.ListAsync(cancellation);
        foreach (var machine in machines)
            if (machine.Ours is { } ours)
                _seen[ours.Mark.ServerId] = machine.Id;
        return machines;
    }

    /// <summary>Where a server is, as VMM says now; null when VMM knows none.</summary>
    private async Task<ScvmmMachine?> LocateAsync(Guid server, CancellationToken cancellation) =>
        _seen.TryGetValue(server, out var id) && await _vmm.FindAsync(id, cancellation) is { IsUnsure: false } machine && machine.Ours?.Mark.ServerId == server ? machine
        : (await ListAsync(cancellation)).FirstOrDefault(m => m.Ours?.Mark.ServerId == server);

    private async Task<ScvmmMachine> RequireAsync(Guid server, HostSpec? on, HyperVPlace place, CancellationToken cancellation)
    {
        var machine = await LocateAsync(server, cancellation) ?? throw NotFound(server);
        return machine.Place == place && (on is null || ScvmmServer.IsOn(machine, on)) ? machine : throw Elsewhere(machine, on?.Name ?? "the nest");
    }

    private async Task<ScvmmMachine> SettledAsync(ScvmmMachine machine, CancellationToken cancellation) =>
        Seen(!machine.IsChanging ? machine : await _vmm.SettledAsync(machine.Id, cancellation) ?? throw NotFound(machine.Ours!.Mark.ServerId));

    /// <summary>Refuses to do anything to a machine that VMM only remembers.</summary>
    private static ScvmmMachine Seen(ScvmmMachine machine) => !machine.IsUnsure ? machine
        : throw new VMatrixException("ServerNotSeen", VMatrixErrorKind.Unreachable, $"{machine.Who} is {machine.Status} in VMM on {machine.Host ?? "the library"}: that proves nothing, and nothing is done to it. Look for it on the other hosts, and make VMM look anew: Read-SCVirtualMachine.") { IsTransient = machine.Status == "HostNotResponding" };

    private static VMatrixException Elsewhere(ScvmmMachine machine, string expected) =>
        new("ServerElsewhere", VMatrixErrorKind.InvalidState, $"{machine.Who} is not in {expected}, it is {machine.Where}.");

    private static VMatrixException NotFound(Guid server) => new("ServerNotFound", VMatrixErrorKind.NotFound, $"VMM knows no server {server} of this pool.");

    private static VMatrixException NoImage(ServiceSpec service, string version, string so) =>
        new("ImageNotFound", VMatrixErrorKind.NotFound, $"Image version '{version}' of {service.Name} is not in the library, so {so}: prepare the image again, or name one that is there.");

    private static string FileName(string path) => path.Substring(path.LastIndexOfAny(['/', '\\']) + 1);

    /// <summary>One changing call at a time for a server in this process, from a decider that is not out of date.</summary>
    private async Task<T> ChangeAsync<T>(DriverCall call, Guid server, Func<Task<T>> change, CancellationToken cancellation)
    {
        var gate = _gates.GetOrAdd(server, static _ => new SemaphoreSlim(1));
        await gate.WaitAsync(cancellation);
        try
        {
            await _nest.AdmitAsync(call, cancellation);
            return await change();
        }
        finally
        {
            gate.Release();
        }
    }
}
