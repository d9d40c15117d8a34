using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Seeds;
using VMatrix.Shells;

namespace VMatrix.HyperV;

/// <summary>
/// Drives Hyper-V hosts through the Hyper-V module. A dormant server stays registered on some host, saved or off, with its place in the line
/// of VMatrix in its notes: the nest is where it counts as being, not a second copy; or, where the pool file says so, it goes to the nest's share and is registered nowhere. What is where is asked and never remembered; the ids that
/// are kept between calls only say where to ask first.
/// </summary>
public sealed partial class HyperVHypervisor : IHypervisor, IHostAdviser
{
    private static readonly TimeSpan s_clusterAge = TimeSpan.FromMinutes(10);
    private readonly PoolSpec _pool;
    private readonly IShell _shell;
    private readonly TimeProvider _clock;
    private readonly Dictionary<string, HyperVHost> _hosts;
    private readonly HyperVNest _nest;
    private readonly HyperVShare _share;
    private readonly ConcurrentDictionary<Guid, (string Host, Guid Machine)> _seen = new();
    private readonly ConcurrentDictionary<Guid, SemaphoreSlim> _gates = new();
    private readonly ConcurrentDictionary<string, (DateTimeOffset At, string? Problem)> _clusters = new(StringComparer.OrdinalIgnoreCase);
    private readonly SemaphoreSlim _prepare = new(1);
    private IReadOnlyList<HyperVMachine>? _keepers;

    /// <summary>Makes a driver for a pool. Nothing is touched yet.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="shell">Carries out the commands; ends with the driver.</param>
    /// <param name="clock">The clock.</param>
    public HyperVHypervisor(PoolSpec pool, IShell shell, TimeProvider clock)
    {
        _pool = pool;
        _shell = shell;
        _clock = clock;
        _hosts = pool.Hosts.ToDictionary(h => h.Name, h => new HyperVHost(h, pool, shell, clock), StringComparer.OrdinalIgnoreCase);
        _nest = new HyperVNest(pool.Nest.Folder, clock);
        _share = new HyperVShare(pool.Nest.Folder);
    }

    /// <inheritdoc/>
    public HypervisorTraits Traits { get; } = new() { Name = "hyperv", LiveMigration = true };

    // ---------------------------------------------------------------- reading

    /// <inheritdoc/>
    public async Task<HostReport> ReadHostAsync(HostSpec host, CancellationToken cancellation)
    {
        var on = HostOf(host);
        var adapters = _pool.HyperV.Address == AddressSource.Adapter ? on.ListAddressesAsync(cancellation) : null;
        IReadOnlyList<HyperVMachine> machines;
        try
        {
            machines = await ListAsync(on, cancellation);
        }
        catch (Exception) when (adapters is not null)
        {
            await Task.WhenAny(adapters);
            _ = adapters.Exception;
            throw;
        }

        var addresses = adapters is null ? null : await adapters;
        return new HostReport
        {
            Host = host.Name,
            Machines = [.. machines.Where(m => m.Ours is null ? !m.LiesInNest : m.Place == HyperVPlace.Host).Select(m => Show(on, m, addresses))],
            Problem = machines.Any(m => m.IsClustered) ? await OwnBalancingAsync(on, cancellation) : null,
        };
    }

    /// <inheritdoc/>
    public async Task<NestReport> ReadNestAsync(CancellationToken cancellation)
    {
        var (machines, lost, unsure) = await ListAllAsync(cancellation);
        var problems = lost.Select(e => $"What sleeps on a host that does not answer is not seen: {e.Message}").Concat(unsure).ToList();
        _keepers = [.. machines.Where(KeepsMemory)];
        problems.AddRange(await NowhereResumedAsync(cancellation));
        return GuardFiles(() => new NestReport
        {
            Dormant = [.. machines.Where(m => m.Ours is null ? m.LiesInNest : m.Place == HyperVPlace.Nest).Select(m => Show(m.Sleeper is null ? HostOf(m.Host) : null, m, null))],
            Disposed = [.. machines.Where(m => m.Ours is not null && m.Place == HyperVPlace.Disposed).Select(m => Show(m.Sleeper is null ? HostOf(m.Host) : null, m, null))],
            Images = _nest.Current(_pool),
            Problems = problems,
        });
    }

    private Machine Show(HyperVHost? on, HyperVMachine machine, ILookup<Guid, string>? addresses)
    {
        var ours = machine.Ours;
        var died = ours is { Ran: true, Place: HyperVPlace.Host } && machine.Power == PowerState.Off;
        return new Machine
        {
            MachineId = machine.Id.ToString("D"),
            Name = ours?.Mark.Name ?? machine.Name,
            Mark = ours?.Mark,
            StaleMark = machine.Stale,
            Power = machine.Power,
            Address = machine.Power == PowerState.Running && on is not null ? on.ToAddress(machine, PortOf(ours?.Mark ?? machine.Stale), addresses is null ? null : HyperVHost.PickAddress(addresses[machine.Id])) : null,
            MemoryBytes = machine.MemoryBytes,
            Cores = machine.Cores,
            AsleepSince = machine.Power == PowerState.Saved ? ours?.Saved?.At : null,
            Health = died ? ServerHealth.Dead : ServerHealth.Unknown,
            Problem = machine.Foreign
                ?? (ours is null ? null
                : machine.IsCritical ? $"{machine.Who} is {machine.State} on {machine.Host.Name}: the host cannot reach its disk. Bring its storage back."
                : died ? $"{machine.Who} is off on {machine.Host.Name}, and VMatrix has not stopped it: it powered itself off, or its host did. The host's event log Hyper-V-Worker tells why."
                : ours.Address is { } own && addresses is not null && HyperVHost.PickAddress(addresses[machine.Id]) is { } told && !addresses[machine.Id].Contains(own)
                    ? $"{machine.Who} has the address {told} and not its own, {own}: see that its guest takes that one, as image.specialize says."
                : ours.Told),
        };
    }

    // A machine of nobody's answers where most do, as far as anybody knows; registered, it answers where its service does.
    private int PortOf(ServerMark? mark) => (_pool.Services.FirstOrDefault(s => string.Equals(s.Name, mark?.Service, StringComparison.OrdinalIgnoreCase)) ?? _pool.Services[0]).Port;

    private async Task<string?> OwnBalancingAsync(HyperVHost on, CancellationToken cancellation)
    {
        if (!_clusters.TryGetValue(on.Spec.Name, out var known) || _clock.GetUtcNow() - known.At > s_clusterAge)
            _clusters[on.Spec.Name] = known = (_clock.GetUtcNow(), await on.FindOwnBalancingAsync(cancellation));
        return known.Problem;
    }

    /// <inheritdoc/>
    public async Task<bool> ProveStoppedAsync(Guid server, HostSpec on, CancellationToken cancellation)
    {
        try
        {
            return (await ListAsync(HostOf(on), cancellation)).All(m => m.Ours?.Mark.ServerId != server || m.Power is PowerState.Off or PowerState.Saved);
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
            return await GuardFilesAsync(async () =>
            {
                var host = HostOf(on);
                var gold = service.Image.Disk ?? throw new VMatrixException("ImageNotFound", VMatrixErrorKind.InvalidInput, $"{service.Name} has no gold disk: name one as image.disk in the pool file.");
                var owner = await OwnersVersionAsync(host, service, gold, cancellation);
                if (_nest.Selected(service.Name) is { } selected && selected.Owner == owner && _nest.Has(service.Name, selected.Version))
                    return selected.Version;
                if (!_nest.Has(service.Name, owner))
                {
                    progress?.Report($"{service.Name}: copying the gold disk {gold} into the nest");
                    await MakeImageAsync(host, service, gold, new HyperVImage { Version = owner }, cancellation);
                }

                _nest.Select(service.Name, new HyperVSelection(owner, owner));
                return owner;
            });
        }
        finally
        {
            _prepare.Release();
        }
    }

    // The owner's disk is copied: servers lean on a disk that nobody may write, and the owner goes on with his.
    private async Task MakeImageAsync(HyperVHost on, ServiceSpec service, string from, HyperVImage image, CancellationToken cancellation)
    {
        var making = _nest.Making(service.Name);
        Task copying = on.DoAsync($"Copying {from} into the nest", [], "Hyper-V\\Convert-VHD", CancellationToken.None, ("Path", from), ("DestinationPath", HyperVHost.Join(making, "disk.vhdx")), ("VHDType", "Dynamic"));
        try
        {
            await OrLeaveAsync(copying, making, cancellation);
            if (image.Published is { } published)
                image = image with { Published = published with { Bytes = new FileInfo(Path.Combine(making, "disk.vhdx")).Length } };
            _nest.Finish(service.Name, making, image);
        }
        catch (Exception) when (copying.IsCompleted)
        {
            HyperVNest.Delete(making);
            throw;
        }
    }

    // A host goes on with what nobody waits for any more. What it makes of it is cleared away when it is done.
    private static async Task OrLeaveAsync(Task work, string making, CancellationToken cancellation)
    {
        try
        {
            await UntilAsync(work, cancellation);
        }
        catch (OperationCanceledException) when (!work.IsCompleted)
        {
            _ = ClearAsync();
            throw;
        }

        async Task ClearAsync()
        {
            try
            {
                await work;
            }
            catch (Exception e) when (e is VMatrixException or OperationCanceledException)
            {
                // It is cleared away all the same.
            }

            try
            {
                HyperVNest.Delete(making);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // The next image of this service clears what is left.
            }
        }
    }

    private static async Task<string> OwnersVersionAsync(HyperVHost on, ServiceSpec service, string gold, CancellationToken cancellation)
    {
        var disk = HyperVHost.First(await on.DoAsync($"Asking for the gold disk of {service.Name}", ["FileSize", "Size", "VhdType"], "Hyper-V\\Get-VHD", cancellation, ("Path", gold)))
            ?? throw new VMatrixException("ImageNotFound", VMatrixErrorKind.NotFound, $"The gold disk {gold} of {service.Name} cannot be read on {on.Spec.Name}: check image.disk in the pool file.");

        // The time is told only where this machine reaches the file; else its sizes must do.
        var reach = on.Reach(gold);
        var changed = File.Exists(reach) ? File.GetLastWriteTimeUtc(reach).Ticks : 0;
        return HyperVNest.Name(FormattableString.Invariant($"{gold}|{disk["FileSize"]}|{disk["Size"]}|{changed}"));
    }

    /// <inheritdoc/>
    public Task<PublishedImage> PublishImageAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, server, () => GuardFilesAsync(async () =>
    {
        var version = HyperVNest.Name(call.MoveId == Guid.Empty ? Guid.NewGuid().ToString() : $"{call.MoveId:D}|{server:D}");
        if (_nest.Find(service.Name, version)?.Published is { } published)
            return published;
        var machine = await RequireAsync(server, on, on is null ? HyperVPlace.Nest : HyperVPlace.Host, cancellation);
        var host = machine.Sleeper is null ? HostOf(machine.Host) : HomesFor(server).First();
        if (service.Image.Specialize == Specialize.Sysprep)
        {
            throw new VMatrixException("ImageNotGeneral", VMatrixErrorKind.NotSupported,
                $"No image is published from {machine.Who}: its disk has been made one machine's own by sysprep, and every server made from it would be that same machine. Generalise a copy, and name that as image.disk of {service.Name} in the pool file.");
        }

        if (machine.Power is PowerState.Saved or PowerState.Paused)
            throw new VMatrixException("ServerAsleep", VMatrixErrorKind.InvalidState, $"No image is made from {machine.Who}: it is {machine.Power}, and its memory holds what its disk lacks. Wake it in the Chamber first.");
        if ((machine.Sleeper?.Disks ?? machine.Disks).Count == 0)
            throw new VMatrixException("NothingToPublish", VMatrixErrorKind.NotSupported, $"{machine.Who} has no disk to make an image from.");

        var image = new PublishedImage { Service = service.Name, Version = version, From = machine.Ours!.Mark.Image, ServerId = server, ServerName = machine.Ours.Mark.Name, Bytes = 0, At = _clock.GetUtcNow() };
        if (machine.Sleeper is { } sleeper)
        {
            await MakeImageAsync(host, service, _share.At(sleeper, sleeper.Disks[0]), new HyperVImage { Version = version, Published = image }, cancellation);
            return _nest.Find(service.Name, version)!.Published!;
        }

        // An export takes the disks of a running machine as they are at one moment, and lets it run.
        var export = _nest.Making(service.Name);
        (string, object?)[] live = machine.Power == PowerState.Running ? [("CaptureLiveState", "CaptureCrashConsistentState")] : [];
        Task exporting = host.OnAsync(machine, "Exporting", "Hyper-V\\Export-VM", CancellationToken.None, [("Path", export), .. live]);
        try
        {
            await OrLeaveAsync(exporting, export, cancellation);
            var name = FileName(machine.Disks[0]);
            var leaf = Directory.EnumerateFiles(export, "*", SearchOption.AllDirectories).FirstOrDefault(file => string.Equals(FileName(file), name, StringComparison.OrdinalIgnoreCase))
                ?? throw new VMatrixException("HyperVFailed", VMatrixErrorKind.Failed, $"The export of {machine.Who} to {export} lacks its disk {name}.");
            await MakeImageAsync(host, service, leaf, new HyperVImage { Version = version, Published = image }, cancellation);
        }
        finally
        {
            if (exporting.IsCompleted)
                HyperVNest.Delete(export);
        }

        return _nest.Find(service.Name, version)!.Published!;
    }), cancellation);

    /// <inheritdoc/>
    public async Task SelectImageAsync(DriverCall call, ServiceSpec service, string version, CancellationToken cancellation)
    {
        await _nest.AdmitAsync(call, cancellation);
        GuardFiles(() =>
        {
            if (!_nest.Has(service.Name, version))
                throw NoImage(service, version, "it cannot be selected");
            _nest.Select(service.Name, new HyperVSelection(version, _nest.Selected(service.Name)?.Owner ?? version));
            return true;
        });
    }

    // ---------------------------------------------------------------- making and deleting

    /// <inheritdoc/>
    public Task CreateAsync(DriverCall call, ServerMark mark, ServiceSpec service, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, () => GuardFilesAsync(async () =>
    {
        if (!_nest.Has(service.Name, mark.Image))
            throw NoImage(service, mark.Image, $"{mark.Name} cannot be made from it");

        // A trace says that it was begun, and where; without one there is nothing to look for.
        VMatrixException? last = null;
        if (_nest.Trace(mark.ServerId) is { } begun && _hosts.TryGetValue(begun.Host, out var former))
        {
            // One that is in the share is there whether or not the host answers that it was made on.
            if (!_share.Has(mark.ServerId) || await LocateAsync(mark.ServerId, cancellation) is not { Sleeper: not null })
                await MakeAsync(former, mark, service, again: true, cancellation);
            return await ToShareAsync(mark.ServerId, former.Spec, cancellation);
        }

        foreach (var host in HomesFor(mark.ServerId))
        {
            try
            {
                await MakeAsync(host, mark, service, again: false, cancellation);
            }
            catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable)
            {
                last = e;
                continue;
            }

            return await ToShareAsync(mark.ServerId, host.Spec, cancellation);
        }

        throw last!;
    }), cancellation);

    // While it is being made it has a name that nothing else has; its mark and its own name come last, in one call.
    private static string NameWhileMade(Guid server) => "vmatrix-making-" + server.ToString("D");

    private async Task<bool> MakeAsync(HyperVHost on, ServerMark mark, ServiceSpec service, bool again, CancellationToken cancellation)
    {
        var making = NameWhileMade(mark.ServerId);
        if (again)
        {
            var there = await ListAsync(on, cancellation);
            if (there.Any(m => m.Ours?.Mark.ServerId == mark.ServerId))
                return true;
            if (await LocateAsync(mark.ServerId, cancellation) is not null)
                return true;
            foreach (var half in there.Where(m => m.Name == making && m.Notes.Length == 0))
                await on.OnAsync(half, "Removing", "Hyper-V\\Remove-VM", cancellation, ("Force", true));
        }
        else
        {
            await on.CheckRightsAsync(cancellation);
        }

        var folder = await on.FolderAsync(mark.ServerId, cancellation);
        _nest.WriteTrace(mark.ServerId, new HyperVTrace { Host = on.Spec.Name });
        HyperVNest.Delete(on.Reach(folder));
        Guid? made = null;
        try
        {
            var address = await ClaimAddressAsync(mark, service, cancellation);

            // It goes into the drive when the server starts; what is wrong with it is said now.
            var seed = GuestSeed.Build(mark, service, address, _clock.GetUtcNow());
            var disk = HyperVHost.Join(folder, mark.ServerId.ToString("D") + ".vhdx");
            await on.DoAsync($"Making the disk of {mark.Name}", [], "Hyper-V\\New-VHD", cancellation, ("Path", disk), ("ParentPath", _nest.Disk(service.Name, mark.Image)), ("Differencing", true));
            var parameters = new List<(string, object?)>
            {
                ("Name", making), ("MemoryStartupBytes", service.Image.MemoryBytes), ("Generation", _pool.HyperV.MachineGeneration), ("VHDPath", disk), ("Path", folder),
            };
            if (on.Switch is { } name)
                parameters.Add(("SwitchName", name));
            var row = HyperVHost.First(await on.DoAsync($"Making {mark.Name}", ["Id"], "Hyper-V\\New-VM", cancellation, [.. parameters]));
            made = row is not null && row.TryGetValue("Id", out var value) && value is Guid id ? id : throw new VMatrixException("HyperVFailed", VMatrixErrorKind.Failed, $"{on.Spec.Name} made {mark.Name} and did not tell its id.");
            var machine = await on.FindAsync(id, cancellation) ?? throw NotFound(mark.ServerId);
            var ours = new HyperVMark { Mark = mark with { MachineId = id.ToString("D") }, Place = HyperVPlace.Nest, Address = address, Seeded = seed is not null };
            await on.OnAsync(machine, "Marking", "Hyper-V\\Set-VM", cancellation,
                ("ProcessorCount", (long)service.Image.Cores), ("StaticMemory", true), ("AutomaticCheckpointsEnabled", false), ("AutomaticStartAction", "Nothing"), ("AutomaticStopAction", "Save"),
                ("CheckpointType", "Disabled"), ("Notes", HyperVNotes.Write(machine.Notes, ours)), ("NewVMName", mark.Name));
            _seen[mark.ServerId] = (on.Spec.Name, id);
            return true;
        }
        catch (Exception)
        {
            await ClearHalfMadeAsync(on, mark.ServerId, made, making, folder);
            throw;
        }
    }

    // What was begun and is not marked is nobody's. What cannot be cleared now is cleared by whoever makes the server again.
    private async Task ClearHalfMadeAsync(HyperVHost on, Guid server, Guid? made, string making, string folder)
    {
        try
        {
            foreach (var half in (await on.ListAsync(CancellationToken.None)).Where(m => m.Id == made || m.Name == making))
            {
                if (half.Ours is not null)
                    return;
                await on.OnAsync(half, "Removing", "Hyper-V\\Remove-VM", CancellationToken.None, ("Force", true));
            }

            HyperVNest.Delete(on.Reach(folder));
            _nest.FreeAddresses(server);
            _nest.RemoveTrace(server);
        }
        catch (Exception e) when (e is VMatrixException or IOException or UnauthorizedAccessException)
        {
            // The error that led here is told instead.
        }
    }

    /// <summary>A static address that nothing else has, where the service gives such: none that a mark or a claim names, nor one that any machine's adapter tells.</summary>
    private async Task<string?> ClaimAddressAsync(ServerMark mark, ServiceSpec service, CancellationToken cancellation)
    {
        if (service.Addresses is not { Range: { } range })
            return null;
        if (_nest.Claims(mark.ServerId).FirstOrDefault(range.Contains) is { } begun)
            return begun;

        // A host that does not answer hides marks; what was claimed for its servers is in the nest all the same.
        var (machines, _, _) = await ListAllAsync(cancellation);
        var taken = new HashSet<string>(machines.Select(machine => machine.Static).OfType<string>());
        foreach (var told in await Task.WhenAll(machines.Where(machine => machine.Sleeper is null).Select(machine => machine.Host).Distinct().Select(host => HostOf(host).ListAddressesAsync(cancellation))))
            taken.UnionWith(told.SelectMany(each => each));
        return range.All().FirstOrDefault(address => !taken.Contains(address) && _nest.TryClaim(address, mark.ServerId))
            ?? throw new VMatrixException("AddressesUsedUp", VMatrixErrorKind.NoRoom,
                $"{mark.Name} gets no address: all {range.Count} of {range} are taken. Servers that sleep or are disposed of keep theirs: purge what is not needed (Remove-VMatrixServer -Purge), or make addresses.range of {service.Name} larger in the pool file.");
    }

    /// <inheritdoc/>
    public Task EraseAsync(DriverCall call, Guid server, CancellationToken cancellation) => ChangeAsync(call, server, () => GuardFilesAsync(async () =>
    {
        if (await LocateAsync(server, cancellation) is { } machine)
        {
            if (machine.Place != HyperVPlace.Disposed)
                throw new VMatrixException("ServerNotDisposed", VMatrixErrorKind.InvalidState, $"{machine.Who} is {Told(machine)}: only a disposed server is deleted for good.");
            var trace = _nest.Trace(server);
            if (machine.Sleeper is not null)
            {
                _nest.WriteTrace(server, new HyperVTrace { Host = trace?.Host ?? "", Files = [.. trace?.Files ?? [], _share.Folder(server)] });
            }
            else
            {
                var host = HostOf(machine.Host);
                machine = await host.FindAsync(machine.Id, cancellation) ?? machine;
                var folder = await host.FolderAsync(server, cancellation);

                // Its own disks only: what they lean on serves others.
                _nest.WriteTrace(server, new HyperVTrace { Host = machine.Host.Name, Files = [.. trace?.Files ?? [], .. machine.Disks.Select(host.Reach), host.Reach(folder)] });
                await host.LeaveClusterAsync(machine, cancellation);
                await host.OnAsync(machine, "Removing", "Hyper-V\\Remove-VM", cancellation, ("Force", true));
            }
        }

        if (_nest.Trace(server) is { } left)
        {
            foreach (var file in left.Files)
                HyperVNest.Delete(file);
            if (left.Files.Count == 0 && _hosts.TryGetValue(left.Host, out var home))
            {
                foreach (var half in (await home.ListAsync(cancellation)).Where(m => m.Name == NameWhileMade(server) && m.Notes.Length == 0))
                    await home.OnAsync(half, "Removing", "Hyper-V\\Remove-VM", cancellation, ("Force", true));
                HyperVNest.Delete(home.Reach(await home.FolderAsync(server, cancellation)));
            }

            HyperVNest.Delete(_share.Folder(server));
            HyperVNest.Delete(_nest.Seed(server));
            _nest.FreeAddresses(server);
            _nest.RemoveTrace(server);
        }

        _ = _seen.TryRemove(server, out _);
        return true;
    }), cancellation);

    // ---------------------------------------------------------------- places

    /// <inheritdoc/>
    public Task FetchAsync(DriverCall call, Guid server, HostSpec to, CancellationToken cancellation) => RelocateAsync(call, server, null, to, cancellation);

    /// <inheritdoc/>
    public Task StowAsync(DriverCall call, Guid server, HostSpec from, CancellationToken cancellation) => RelocateAsync(call, server, from, null, cancellation);

    /// <inheritdoc/>
    public Task CarryAsync(DriverCall call, Guid server, HostSpec from, HostSpec to, CancellationToken cancellation) => RelocateAsync(call, server, from, to, cancellation);

    /// <summary>Takes a dormant server from a place to another: its registration moves where that is needed, and its notes say where it is.</summary>
    private Task<bool> RelocateAsync(DriverCall call, Guid server, HostSpec? from, HostSpec? to, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await FindSettledAsync(server, to ?? from, cancellation);
        if (to is null && machine.Place == HyperVPlace.Nest)
            return await ToShareAsync(machine, cancellation);
        if (to is not null && machine.Place == HyperVPlace.Host && IsOn(machine, to))
        {
            await DropRecordAsync(machine, server, cancellation);
            return true;
        }

        if (from is null ? machine.Place != HyperVPlace.Nest : machine.Place != HyperVPlace.Host || !IsOn(machine, from))
            throw Elsewhere(machine, from?.Name ?? "the nest");
        if (machine.Power is PowerState.Running or PowerState.Paused)
            throw new VMatrixException("ServerRunning", VMatrixErrorKind.InvalidState, $"{machine.Who} cannot be taken from {from?.Name ?? "the nest"} while it runs there: hibernate or stop it first.");
        if (to is null && GoesToShare(machine))
            return await ToShareAsync(machine, cancellation);
        if (to is not null && machine.Sleeper is not null)
        {
            machine = await RegisterAsync(machine, HostOf(to), cancellation);
        }
        else if (to is not null && !IsOn(machine, to))
        {
            // Hyper-V takes no kept memory to a host that cannot resume it.
            if (machine.Power == PowerState.Saved && await FindObstacleToResumeAsync(HostOf(to), machine, cancellation) is { } obstacle)
                machine = await GiveUpMemoryAsync(HostOf(machine.Host), machine, obstacle, to, cancellation);
            machine = await ShiftAsync(machine, HostOf(to), cancellation);
        }

        await WriteMarkAsync(machine, machine.Ours! with { Place = to is null ? HyperVPlace.Nest : HyperVPlace.Host, Ran = false, Told = to is null ? WhyRegistered(machine) : machine.Ours.Told }, machine.Ours.Mark.Name, cancellation);
        return true;
    }, cancellation);

    /// <summary>Moves a machine to another host, running or not, and finds it there.</summary>
    private async Task<HyperVMachine> ShiftAsync(HyperVMachine machine, HyperVHost to, CancellationToken cancellation)
    {
        var from = HostOf(machine.Host);
        await EjectSeedAsync(from, machine, cancellation);
        await from.MoveAsync(machine, to, await to.FolderAsync(machine.Ours!.Mark.ServerId, cancellation), cancellation);
        var moved = await to.FindAsync(machine.Id, cancellation) is { } there ? WithRecord(there)
            : throw new VMatrixException("MoveNotDone", VMatrixErrorKind.Failed, $"{machine.Who} was reported as moved to {to.Spec.Name} and is not there. Look for it on {machine.Host.Name}.") { IsTransient = true };
        _seen[machine.Ours.Mark.ServerId] = (to.Spec.Name, machine.Id);

        // Moved with its disks, it has left an empty folder. One with a file in it is not the one that was left: both hosts may see the same volume.
        try
        {
            var left = from.Reach(await from.FolderAsync(machine.Ours.Mark.ServerId, cancellation));
            if (Directory.Exists(left) && !Directory.EnumerateFiles(left, "*", SearchOption.AllDirectories).Any())
                HyperVNest.Delete(left);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Nothing leans on it.
        }

        GuardFiles(() =>
        {
            _share.Clear(machine.Ours.Mark.ServerId, InUse(moved));
            return true;
        });
        return moved;
    }

    /// <inheritdoc/>
    public Task DiscardAsync(DriverCall call, Guid server, HostSpec? from, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await FindSettledAsync(server, from, cancellation);
        if (machine.Place == HyperVPlace.Disposed)
            return true;
        if (machine.Power is PowerState.Running or PowerState.Paused)
            throw new VMatrixException("ServerRunning", VMatrixErrorKind.InvalidState, $"{machine.Who} cannot be disposed of while it runs on {machine.Host.Name}: stop it first.");
        if (from is null ? machine.Place != HyperVPlace.Nest : machine.Place != HyperVPlace.Host || !IsOn(machine, from))
            throw Elsewhere(machine, from?.Name ?? "the nest");
        await WriteMarkAsync(machine, machine.Ours! with { Place = HyperVPlace.Disposed, Ran = false, Told = null }, $"{machine.Ours!.Mark.Name} (disposed {server:D})", cancellation);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task RecoverAsync(DriverCall call, Guid server, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await FindSettledAsync(server, null, cancellation);
        if (machine.Place == HyperVPlace.Nest)
            return await ToShareAsync(machine, cancellation);
        if (machine.Place != HyperVPlace.Disposed)
            throw Elsewhere(machine, "the disposed area");
        await WriteMarkAsync(machine, machine.Ours! with { Place = HyperVPlace.Nest }, machine.Ours!.Mark.Name, cancellation);
        return await ToShareAsync(server, null, cancellation);
    }, cancellation);

    /// <inheritdoc/>
    public Task MarkAsync(DriverCall call, ServerMark mark, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, async () =>
    {
        var machine = await LocateAsync(mark.ServerId, on, cancellation) ?? throw NotFound(mark.ServerId);
        if (on is null ? machine.Place == HyperVPlace.Host : machine.Place != HyperVPlace.Host || !IsOn(machine, on))
            throw Elsewhere(machine, on?.Name ?? "the nest");
        await WriteMarkAsync(machine, machine.Ours! with { Mark = mark with { MachineId = machine.Id.ToString("D") } }, machine.Name == machine.Ours!.Mark.Name ? mark.Name : null, cancellation);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task AdoptAsync(DriverCall call, string machineId, ServerMark mark, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, async () =>
    {
        // Everywhere is looked at: its id must be no other machine's.
        var (machines, lost, _) = await ListAllAsync(cancellation);
        var machine = machines.FirstOrDefault(m => string.Equals(m.Id.ToString("D"), machineId, StringComparison.OrdinalIgnoreCase) && (on is null ? m.LiesInNest || m is { Ours: not null, Place: HyperVPlace.Nest } : IsOn(m, on)));
        if (machine is null)
        {
            throw lost.Count > 0 ? lost[0]
                : new VMatrixException("MachineNotFound", VMatrixErrorKind.NotFound, $"There is no machine {machineId} {(on is null ? "in the nest" : $"on {on.Name}")}.");
        }

        if (machine.Ours is { } ours && ours.Mark.ServerId != mark.ServerId)
            throw new VMatrixException("MachineMarked", VMatrixErrorKind.InvalidState, $"{machine.Name} on {machine.Host.Name} is server {machine.Who} already.");
        if (machines.FirstOrDefault(m => m.Ours?.Mark.ServerId == mark.ServerId && m.Id != machine.Id) is { } other)
            throw new VMatrixException("ServerExists", VMatrixErrorKind.InvalidState, $"{machine.Name} on {machine.Host.Name} cannot become server {mark.ServerId}: {other.Name} is it, {Told(other)}.");
        var place = on is null ? HyperVPlace.Nest : HyperVPlace.Host;

        // It is the same machine that once was given the address; a clone is another one.
        var address = machine.Ours is not null || machine.LiesInNest ? machine.Static : null;
        if (address is not null)
        {
            GuardFiles(() =>
            {
                _nest.HandOver(address, mark.ServerId);
                return true;
            });
        }

        await WriteMarkAsync(machine, new HyperVMark { Mark = mark with { MachineId = machine.Id.ToString("D") }, Place = place, Address = address, Seeded = machine.Ours?.Seeded ?? false, Ran = machine.Power is PowerState.Running or PowerState.Paused, Saved = machine.Ours?.Saved }, null, cancellation);
        if (machine.Sleeper is null)
            _seen[mark.ServerId] = (machine.Host.Name, machine.Id);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task ReleaseAsync(DriverCall call, Guid server, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        if (await LocateAsync(server, on, cancellation) is not { } machine)
            return true;
        if (on is null ? machine.Place == HyperVPlace.Host : machine.Place != HyperVPlace.Host || !IsOn(machine, on))
            throw Elsewhere(machine, on?.Name ?? "the nest");
        if (machine.Sleeper is null)
            await EjectSeedAsync(HostOf(machine.Host), machine, cancellation);
        var notes = machine.Place == HyperVPlace.Nest ? HyperVNotes.Write(machine.Notes, machine.Ours! with { Released = true }) : HyperVNotes.Remove(machine.Notes);
        if (machine.Sleeper is { } sleeper)
        {
            GuardFiles(() =>
            {
                _share.Write(sleeper with { Notes = notes, Host = null });
                return true;
            });
        }
        else
        {
            await HostOf(machine.Host).OnAsync(machine, "Letting go of", "Hyper-V\\Set-VM", cancellation, ("Notes", notes));
            await DropRecordAsync(machine, server, cancellation);
        }

        GuardFiles(() =>
        {
            _nest.RemoveTrace(server);
            return true;
        });
        _ = _seen.TryRemove(server, out _);
        return true;
    }, cancellation);

    // ---------------------------------------------------------------- running

    /// <inheritdoc/>
    public Task<string> StartAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await RequireAsync(server, on, HyperVPlace.Host, cancellation);
        var host = HostOf(on);
        if (machine.Power != PowerState.Running)
        {
            await RefuseSecondLifeAsync(machine, cancellation);
            var ours = machine.Ours! with { Ran = true };
            if (machine.Power == PowerState.Saved && await FindObstacleToResumeAsync(host, machine, cancellation) is { } obstacle)
                machine = await GiveUpMemoryAsync(host, machine, obstacle, on, cancellation);
            else
                await WriteMarkAsync(machine, ours, null, cancellation);
            await host.ConnectAsync(machine, cancellation);
            if (machine.Power == PowerState.Paused)
                await host.OnAsync(machine, "Resuming", "Hyper-V\\Resume-VM", cancellation);
            else
                await StartMachineAsync(host, machine, service, cancellation);
            machine = await FindSettledAsync(server, on, cancellation);
        }

        return await AddressAsync(host, machine, service, cancellation);
    }, cancellation);

    private async Task StartMachineAsync(HyperVHost host, HyperVMachine machine, ServiceSpec service, CancellationToken cancellation)
    {
        try
        {
            await InsertSeedAsync(host, machine, service, cancellation);
            await host.OnAsync(machine, "Starting", "Hyper-V\\Start-VM", cancellation);
        }
        catch (VMatrixException e) when (machine.Power == PowerState.Saved && !e.IsTransient && e.Kind is VMatrixErrorKind.Failed or VMatrixErrorKind.Corrupt or VMatrixErrorKind.NotSupported
            && e.InnerException is ShellException && _pool.HyperV.ResumeFailure == ResumeFailure.Boot)
        {
            machine = await FindSettledAsync(machine.Ours!.Mark.ServerId, machine.Host, cancellation);
            if (machine.Power == PowerState.Saved)
            {
                machine = await GiveUpMemoryAsync(host, machine, e.Message, host.Spec, cancellation);
                await InsertSeedAsync(host, machine, service, cancellation);
                await host.OnAsync(machine, "Starting", "Hyper-V\\Start-VM", cancellation);
            }
        }
    }

    // In its drive at every boot, not only at the first: one that was cut short has made nothing of it, and to one that has read it it says nothing new.
    private Task<bool> InsertSeedAsync(HyperVHost host, HyperVMachine machine, ServiceSpec service, CancellationToken cancellation) => GuardFilesAsync(async () =>
    {
        if (machine is not { Power: PowerState.Off, Ours: { Seeded: true } ours } || GuestSeed.Build(ours.Mark, service, ours.Address, _clock.GetUtcNow()) is not { } seed)
            return false;
        _nest.WriteSeed(ours.Mark.ServerId, seed);
        await host.InsertAsync(machine, _nest.Seed(ours.Mark.ServerId), cancellation);
        return true;
    });

    // Before it sleeps, stops or moves: a saved machine cannot let go of its disc, and one with a disc moves only where that is found.
    private Task<bool> EjectSeedAsync(HyperVHost host, HyperVMachine machine, CancellationToken cancellation) => GuardFilesAsync(async () =>
    {
        if (machine is not { Power: not PowerState.Saved, Ours: { } ours } || !machine.Discs.Any(disc => HyperVHost.IsSamePath(disc, _nest.Seed(ours.Mark.ServerId))))
            return false;
        await host.EjectAsync(machine, _nest.Seed(ours.Mark.ServerId), cancellation);
        HyperVNest.Delete(_nest.Seed(ours.Mark.ServerId));
        return true;
    });

    /// <summary>Why a host cannot resume a saved machine; null when nothing speaks against it. What is not known excludes nothing: the host itself refuses.</summary>
    private static async Task<string?> FindObstacleToResumeAsync(HyperVHost host, HyperVMachine machine, CancellationToken cancellation)
    {
        if (machine.Ours!.Saved is not { } saved)
            return null;
        return saved.Version is not null && machine.Version is not null && saved.Version != machine.Version
            ? $"its memory was saved with configuration version {saved.Version}, and it is of version {machine.Version} now"
            : saved.ObstacleOn(await host.FactsAsync(cancellation));
    }

    private async Task<HyperVMachine> GiveUpMemoryAsync(HyperVHost host, HyperVMachine machine, string obstacle, HostSpec wakesOn, CancellationToken cancellation)
    {
        // Where the machine could not even boot, nothing is given up for it.
        if (_pool.HyperV.ResumeFailure == ResumeFailure.Refuse || machine.Ours!.Saved?.IsUnknownTo(await HostOf(wakesOn).FactsAsync(cancellation)) == true)
        {
            throw new VMatrixException("SavedStateNotResumable", VMatrixErrorKind.NotSupported,
                $"The memory of {machine.Who} is not resumed on {wakesOn.Name}: {obstacle}. Wake it on a host like the one it was saved on, or set hyperv.resumeFailure: boot to give the memory up.");
        }

        var told = $"Its memory was given up on {wakesOn.Name}, and it was booted from its disk: {obstacle}.";
        await WriteMarkAsync(machine, machine.Ours! with { Ran = IsOn(machine, wakesOn), Saved = null, Told = told }, null, cancellation);
        await host.OnAsync(machine, "Giving up the memory of", "Hyper-V\\Remove-VMSavedState", cancellation);
        return await FindSettledAsync(machine.Ours!.Mark.ServerId, machine.Host, cancellation);
    }

    // The disk's lock keeps two copies of one disk from running; copies with disks of their own are kept apart here.
    private async Task RefuseSecondLifeAsync(HyperVMachine machine, CancellationToken cancellation)
    {
        var others = await Task.WhenAll(_hosts.Values.Where(h => !IsOn(machine, h.Spec)).Select(async h =>
        {
            try
            {
                return await h.FindAsync(machine.Id, cancellation);
            }
            catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable or VMatrixErrorKind.Denied)
            {
                return null;
            }
        }));
        if (others.FirstOrDefault(other => other is not null) is { } twin)
            throw new VMatrixException("ServerTwice", VMatrixErrorKind.InvalidState, $"{machine.Who} is not started on {machine.Host.Name}: a machine of the same id is {twin.State} on {twin.Host.Name}. Find out which of the two is right, and take the other one away.");
    }

    private async Task<string> AddressAsync(HyperVHost host, HyperVMachine machine, ServiceSpec service, CancellationToken cancellation)
    {
        var until = _clock.GetUtcNow() + service.Health.StartTimeout;
        while (true)
        {
            var found = _pool.HyperV.Address == AddressSource.Adapter && machine.Ours!.Address is null ? await host.FindAddressAsync(machine, cancellation) : null;
            if (host.ToAddress(machine, service.Port, found) is { } address)
                return address;
            if (_clock.GetUtcNow() >= until)
            {
                throw new VMatrixException("ServerWithoutAddress", VMatrixErrorKind.Timeout,
                    $"{machine.Who} runs on {host.Spec.Name}, and its integration services have told no address for {service.Health.StartTimeout.TotalSeconds:0} s. Check its network and its integration services, or set hyperv.address: dhcp.");
            }

            await _clock.WaitAsync(TimeSpan.FromMilliseconds(200), cancellation);
        }
    }

    /// <inheritdoc/>
    public Task SaveAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await RequireAsync(server, on, HyperVPlace.Host, cancellation);
        var host = HostOf(on);
        if (machine.Power == PowerState.Saved)
            return true;
        if (machine.Power == PowerState.Off)
            throw new VMatrixException("ServerNotRunning", VMatrixErrorKind.InvalidState, $"{machine.Who} cannot be hibernated: it does not run on {on.Name} and has no memory to keep.");
        await EjectSeedAsync(host, machine, cancellation);
        var facts = await host.FactsAsync(cancellation);
        await WriteMarkAsync(machine, machine.Ours! with { Saved = new SavedFacts(facts.Processor, machine.Version, facts.Build, _clock.GetUtcNow()), Told = null }, null, cancellation);
        await host.OnAsync(machine, "Saving", "Hyper-V\\Save-VM", cancellation);
        var after = await FindSettledAsync(server, on, cancellation);
        if (after.Power != PowerState.Saved)
            throw new VMatrixException("SaveFailed", VMatrixErrorKind.Failed, $"{machine.Who} was reported as saved on {on.Name} and is {after.State}.") { IsTransient = true };
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task StopAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await RequireAsync(server, on, HyperVPlace.Host, cancellation);
        var host = HostOf(on);
        if (machine.Power is PowerState.Running or PowerState.Paused)
            await host.OnAsync(machine, "Stopping", "Hyper-V\\Stop-VM", cancellation, ("TurnOff", true), ("Force", true));
        else if (machine.Power == PowerState.Saved)
            await host.OnAsync(machine, "Giving up the memory of", "Hyper-V\\Remove-VMSavedState", cancellation);
        machine = await FindSettledAsync(server, on, cancellation);
        if (machine.Power != PowerState.Off)
            throw new VMatrixException("StopFailed", VMatrixErrorKind.Failed, $"{machine.Who} was reported as stopped on {on.Name} and is {machine.State}.") { IsTransient = true };
        await EjectSeedAsync(host, machine, cancellation);
        if (machine.Ours is { Ran: true } or { Saved: not null })
            await WriteMarkAsync(machine, machine.Ours with { Ran = false, Saved = null, Place = HyperVPlace.Host }, null, cancellation);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task<string> MigrateAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec from, HostSpec to, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await FindSettledAsync(server, to, cancellation);
        if (machine.Place != HyperVPlace.Host || (!IsOn(machine, to) && !IsOn(machine, from)))
            throw Elsewhere(machine, from.Name);
        if (machine.Power != PowerState.Running)
            throw new VMatrixException("ServerNotRunning", VMatrixErrorKind.InvalidState, $"{machine.Who} cannot be moved live: it is {machine.State} on {machine.Host.Name}.");
        if (!IsOn(machine, to))
            machine = await ShiftAsync(machine, HostOf(to), cancellation);
        await HostOf(to).ConnectAsync(machine, cancellation);
        return await AddressAsync(HostOf(to), machine, service, cancellation);
    }, cancellation);

    // ---------------------------------------------------------------- finding

    private HyperVHost HostOf(HostSpec host) => _hosts.TryGetValue(host.Name, out var found) ? found
        : throw new VMatrixException("HostNotFound", VMatrixErrorKind.NotFound, $"There is no host '{host.Name}' in pool '{_pool.Name}'.");

    /// <summary>Hosts in the order in which they are asked to keep a new server: another order for each server, so that they share them.</summary>
    private IEnumerable<HyperVHost> HomesFor(Guid server) =>
        _hosts.Values.OrderBy(h => HyperVNest.Name(server.ToString("N") + h.Spec.Name), StringComparer.Ordinal);

    private async Task<IReadOnlyList<HyperVMachine>> ListAsync(HyperVHost host, CancellationToken cancellation)
    {
        var machines = await host.ListAsync(cancellation);
        if (machines.Any(machine => machine.Ours?.Bed is not null))
            machines = [.. machines.Select(WithRecord)];
        foreach (var machine in machines)
            if (machine.Ours is { } ours)
                _seen[ours.Mark.ServerId] = (host.Spec.Name, machine.Id);
        return machines;
    }

    /// <summary>Every machine on every host that answers, what sleeps in the nest's share, and what is not sure of that.</summary>
    private async Task<(IReadOnlyList<HyperVMachine> Machines, IReadOnlyList<VMatrixException> Lost, IReadOnlyList<string> Unsure)> ListAllAsync(CancellationToken cancellation)
    {
        var (machines, lost) = await ListHostsAsync(cancellation);
        var (sleepers, unsure) = Sleepers(machines, lost.Count == 0);
        return ([.. machines, .. sleepers], lost, unsure);
    }

    private async Task<(IReadOnlyList<HyperVMachine> Machines, IReadOnlyList<VMatrixException> Lost)> ListHostsAsync(CancellationToken cancellation)
    {
        var lost = new ConcurrentQueue<VMatrixException>();
        var lists = await Task.WhenAll(_hosts.Values.Select(async host =>
        {
            try
            {
                return await ListAsync(host, cancellation);
            }
            catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable or VMatrixErrorKind.Denied or VMatrixErrorKind.Timeout)
            {
                lost.Enqueue(e);
                return [];
            }
        }));
        return ([.. lists.SelectMany(list => list)], [.. lost]);
    }

    /// <summary>Where a server is, as its host says now; null when no host knows it. A host that does not answer makes it unknown, which is an error.</summary>
    private Task<HyperVMachine?> LocateAsync(Guid server, CancellationToken cancellation) => LocateAsync(server, null, cancellation);

    private async Task<HyperVMachine?> LocateAsync(Guid server, HostSpec? first, CancellationToken cancellation)
    {
        // It was seen somewhere: asked for by id, there and where it is wanted.
        if (_seen.TryGetValue(server, out var seen))
        {
            foreach (var name in new[] { seen.Host, first?.Name }.Where(n => n is not null).Distinct(StringComparer.OrdinalIgnoreCase))
            {
                try
                {
                    if (await _hosts[name!].FindAsync(seen.Machine, cancellation) is { } known && WithRecord(known) is { Ours: { } ours } machine && ours.Mark.ServerId == server)
                        return machine;
                }
                catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable && name != first?.Name)
                {
                    // It may have been moved away from there.
                }
            }
        }

        var (machines, lost) = await ListHostsAsync(cancellation);
        var copies = machines.Where(m => m.Ours?.Mark.ServerId == server).ToArray();
        if (copies.Length > 1)
            throw new VMatrixException("ServerTwice", VMatrixErrorKind.InvalidState, $"Server {server} is on more than one host: {string.Join(", ", copies.Select(c => $"{c.State} on {c.Host.Name}"))}. Find out which is right, and unregister the others.");
        if (copies.Length == 0 && GuardFiles(() => _share.Find(server)) is { } sleeper && IsAsleep(sleeper, lost.Count == 0)
            && machines.All(m => m.Id != sleeper.Id) && Asleep(sleeper) is { Ours: { } asleep } found && asleep.Mark.ServerId == server)
            return found;
        if (copies.Length == 0 && lost.Count > 0)
            throw new VMatrixException(lost[0].Id, lost[0].Kind, $"Server {server} was not found, and not every host answers: {lost[0].Message}", lost[0]) { IsTransient = lost[0].IsTransient };
        return copies.FirstOrDefault() is { } copy && await HostOf(copy.Host).FindAsync(copy.Id, cancellation) is { } there ? WithRecord(there) : null;
    }

    /// <summary>A server as soon as nothing is done to it any more, such as what outlived the call that began it.</summary>
    private async Task<HyperVMachine> FindSettledAsync(Guid server, HostSpec? first, CancellationToken cancellation)
    {
        var wait = TimeSpan.FromMilliseconds(20);
        while (true)
        {
            var machine = await LocateAsync(server, first, cancellation) ?? throw NotFound(server);
            if (!machine.IsChanging)
                return machine;
            await _clock.WaitAsync(wait, cancellation);
            wait = wait < TimeSpan.FromSeconds(1) ? wait + wait : wait;
        }
    }

    private async Task<HyperVMachine> RequireAsync(Guid server, HostSpec? on, HyperVPlace place, CancellationToken cancellation)
    {
        var machine = await FindSettledAsync(server, on, cancellation);
        return machine.Place == place && (on is null || IsOn(machine, on)) ? machine : throw Elsewhere(machine, on?.Name ?? "the nest");
    }

    private static bool IsOn(HyperVMachine machine, HostSpec host) => string.Equals(machine.Host.Name, host.Name, StringComparison.OrdinalIgnoreCase);

    private static string Told(HyperVMachine machine) => machine.Place switch
    {
        _ when machine.Sleeper is not null => machine.Place == HyperVPlace.Disposed ? "disposed (in the nest's share)" : "in the nest's share",
        HyperVPlace.Nest => $"in the nest (registered on {machine.Host.Name})",
        HyperVPlace.Disposed => $"disposed (registered on {machine.Host.Name})",
        _ => $"{machine.State} on {machine.Host.Name}",
    };

    private static VMatrixException Elsewhere(HyperVMachine machine, string expected) =>
        new("ServerElsewhere", VMatrixErrorKind.InvalidState, $"{machine.Who} is not in {expected}, it is {Told(machine)}.");

    private static VMatrixException NotFound(Guid server) => new("ServerNotFound", VMatrixErrorKind.NotFound, $"Server {server} does not exist in this pool.");

    private static VMatrixException NoImage(ServiceSpec service, string version, string so) =>
        new("ImageNotFound", VMatrixErrorKind.NotFound, $"Image version '{version}' of {service.Name} is not in the nest, so {so}: prepare the image again, or name one that is there.");

    // Paths may be of another system than this one.
    private static string FileName(string path) => path.Substring(path.LastIndexOfAny(['/', '\\']) + 1);

    /// <summary>One changing call at a time for a server in this process, from a decider that is not out of date.</summary>
    private async Task<T> ChangeAsync<T>(DriverCall call, Guid server, Func<Task<T>> change, CancellationToken cancellation)
    {
        var gate = _gates.GetOrAdd(server, static _ => new SemaphoreSlim(1));
        await gate.WaitAsync(cancellation);
        try
        {
            await GuardFilesAsync(async () =>
            {
                await _nest.AdmitAsync(call, cancellation);
                return true;
            });
            return await change();
        }
        finally
        {
            gate.Release();
        }
    }

    private T GuardFiles<T>(Func<T> work)
    {
        try
        {
            return work();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw FileError(e);
        }
    }

    private async Task<T> GuardFilesAsync<T>(Func<Task<T>> work)
    {
        try
        {
            return await work();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw FileError(e);
        }
    }

    private VMatrixException FileError(Exception e) => (e.HResult & 0xffff) is 28 or 112 or 39
        ? new("DiskFull", VMatrixErrorKind.NoRoom, $"The disk is full: {e.Message} Free some room and try again.", e)
        : new("FileFailed", e is UnauthorizedAccessException ? VMatrixErrorKind.Denied : VMatrixErrorKind.Failed, $"{e.Message} The account that VMatrix runs as must be able to read and write the nest's folder {_pool.Nest.Folder} and the folders that hosts keep machines in.", e) { IsTransient = e is IOException };

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        _prepare.Dispose();
        foreach (var host in _hosts.Values)
            host.Dispose();
        return _shell.DisposeAsync();
    }
}
