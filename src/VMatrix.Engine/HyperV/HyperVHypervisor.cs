using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Shells;

namespace VMatrix.HyperV;

/// <summary>
/// Drives Hyper-V hosts through the Hyper-V module. A dormant server stays registered on some host, saved or off, with its place in the line
/// of VMatrix in its notes: the nest is where it counts as being, not a second copy; or, where the pool file says so, it goes to the nest's
/// share and is registered nowhere. What is where is asked and never remembered; the ids that are kept between calls only say where to ask
/// first.
/// </summary>
public sealed partial class HyperVHypervisor : IHypervisor, IHostAdviser, IEpochKeeper
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
    private readonly ConcurrentDictionary<(string Host, Guid Machine), DateTimeOffset> _owned = new();
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
    public Task<long> ReadEpochAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(GuardFiles(_nest.ReadEpoch));
    }

    /// <inheritdoc/>
    public HypervisorTraits Traits { get; } = new() { Name = "hyperv", LiveMigration = true };

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
            machine = await ShiftAsync(await FitForMoveAsync(machine, HostOf(to), cancellation), HostOf(to), cancellation);
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

        GuardFiles(() => _share.Clear(machine.Ours.Mark.ServerId, InUse(moved)));
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
        await WriteMarkAsync(machine, machine.Ours! with { Place = HyperVPlace.Disposed, Ran = false, Told = null, Called = machine.Name == machine.Ours!.Mark.Name ? null : machine.Name }, $"{machine.Ours!.Mark.Name} (disposed {server:D})", cancellation);
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
        await WriteMarkAsync(machine, machine.Ours! with { Place = HyperVPlace.Nest, Called = null }, machine.Ours!.Called ?? machine.Ours.Mark.Name, cancellation);
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

        if (machine.IsCopy || machine.IsLeftByCluster)
            throw new VMatrixException("MachineNotFit", VMatrixErrorKind.InvalidState, machine.IsCopy
                ? $"{machine.Name} on {machine.Host.Name} is a copy that Hyper-V Replica keeps there ({machine.ReplicationMode}), and cannot become a server: fail over to it and end its replication first (Remove-VMReplication)."
                : $"{machine.Name} on {machine.Host.Name} is what its cluster has left there, and cannot become a server: register the machine on the node that owns its role.");
        if (machine.Ours is { } ours && ours.Mark.ServerId != mark.ServerId)
            throw new VMatrixException("MachineMarked", VMatrixErrorKind.InvalidState, $"{machine.Name} on {machine.Host.Name} is server {machine.Who} already.");
        if (machines.FirstOrDefault(m => m.Ours?.Mark.ServerId == mark.ServerId && m.Id != machine.Id) is { } other)
            throw new VMatrixException("ServerExists", VMatrixErrorKind.InvalidState, $"{machine.Name} on {machine.Host.Name} cannot become server {mark.ServerId}: {other.Name} is it, {Told(other)}.");
        var place = on is null ? HyperVPlace.Nest : HyperVPlace.Host;

        // It is the same machine that once was given the address; a clone is another one.
        var address = machine.Ours is not null || machine.LiesInNest ? machine.Static : null;
        if (address is not null)
        {
            GuardFiles(() => _nest.HandOver(address, mark.ServerId));
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
            GuardFiles(() => _share.Write(sleeper with { Notes = notes, Host = null }));
        }
        else
        {
            await HostOf(machine.Host).OnAsync(machine, "Letting go of", "Hyper-V\\Set-VM", cancellation, ("Notes", notes));
            await DropRecordAsync(machine, server, cancellation);
        }

        GuardFiles(() => _nest.RemoveTrace(server));
        _ = _seen.TryRemove(server, out _);
        return true;
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
        if (machines.Any(machine => machine.Ours is { Bed: not null } || machine is { Ours: not null, IsClustered: true }))
            machines = await Task.WhenAll(machines.Select(machine => ServerOrNotAsync(machine, cancellation)));
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
            catch (VMatrixException e)
            {
                // Whatever it told is its own trouble.
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
                    if (await _hosts[name!].FindAsync(seen.Machine, cancellation) is { } known && await ServerOrNotAsync(known, cancellation) is { Ours: { } ours } machine && ours.Mark.ServerId == server)
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
            && machines.All(m => m.Id != sleeper.Id || m.IsCopy) && Asleep(sleeper) is { Ours: { } asleep } found && asleep.Mark.ServerId == server)
            return found;
        if (copies.Length == 0 && lost.Count > 0)
            throw new VMatrixException(lost[0].Id, lost[0].Kind, $"Server {server} was not found, and not every host answers: {lost[0].Message}", lost[0]) { IsTransient = lost[0].IsTransient };
        return copies.FirstOrDefault() is { } copy && await HostOf(copy.Host).FindAsync(copy.Id, cancellation) is { } there ? WithRecord(there) : null;
    }

    /// <summary>A machine with what is known of it beside its host's word: the record that it slept with, and whether it is only what its cluster has left there.</summary>
    private async Task<HyperVMachine> ServerOrNotAsync(HyperVMachine machine, CancellationToken cancellation)
    {
        machine = WithRecord(machine);
        return machine.Ours is null || !await IsLeftByClusterAsync(machine, cancellation) ? machine : machine with
        {
            Ours = null,
            IsLeftByCluster = true,
            Foreign = $"{machine.Name} ({machine.Id}) on {machine.Host.Name} is what its cluster has left there: another node owns its role and has it. It is no server, and is left alone; remove it there when the cluster is well (Get-VM -ComputerName {HostOf(machine.Host).Address} -Id {machine.Id:D} | Remove-VM).",
        };
    }

    /// <summary>True when a machine does not run, is in a cluster, and the host of this pool that owns its role has it as well. Asked again after ten minutes, and whenever it was last seen on another host.</summary>
    private async Task<bool> IsLeftByClusterAsync(HyperVMachine machine, CancellationToken cancellation)
    {
        if (!machine.IsClustered || machine.Power is PowerState.Running or PowerState.Paused)
            return false;
        var key = (machine.Host.Name, machine.Id);
        if (_owned.TryGetValue(key, out var at) && _clock.GetUtcNow() - at <= s_clusterAge && _seen.Values.All(seen => seen.Machine != machine.Id || seen.Host == machine.Host.Name))
            return false;
        if (await HostOf(machine.Host).FindOwnerAsync(machine.Id, cancellation) is { } node && _hosts.Values.FirstOrDefault(host => host.IsNode(node)) is { } owner && !IsOn(machine, owner.Spec))
        {
            try
            {
                if (await owner.FindAsync(machine.Id, cancellation) is not null)
                    return true;
            }
            catch (VMatrixException)
            {
                // Whether it is there is not known: then nothing is concluded.
            }
        }

        _owned[key] = _clock.GetUtcNow();
        return false;
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

    private void GuardFiles(Action work) => GuardFiles(() =>
    {
        work();
        return true;
    });

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
