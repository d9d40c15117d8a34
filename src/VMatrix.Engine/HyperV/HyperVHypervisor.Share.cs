using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Shells;

namespace VMatrix.HyperV;

/// <summary>
/// Dormant servers in the nest's share (<c>hyperv.nest: share</c>). In the nest a server is first by its notes, registered where it slept; from
/// there it is exported, its record settled and its registration removed, each step found again by whoever comes next. A machine that is
/// registered counts before any record of it.
/// </summary>
public sealed partial class HyperVHypervisor
{
    private static readonly HostSpec s_nowhere = new() { Name = "the nest's share", Role = HostRole.Matrix, MemoryBytes = 0 };
    private static readonly TimeSpan s_again = TimeSpan.FromMinutes(1);
    private readonly ConcurrentDictionary<Guid, (string Bed, Task<DateTimeOffset> Work)> _exports = new();

    // ---------------------------------------------------------------- what is known of them

    /// <summary>A registered machine with what was written of it while it slept, until that stands in its own notes: those it was registered with are of the time when it was exported.</summary>
    private HyperVMachine WithRecord(HyperVMachine machine)
    {
        if (machine.Ours?.Bed is not { } bed)
            return machine;
        bool IsIts(HyperVSleeper? sleeper) => sleeper is { Configuration: not null } && sleeper.Id == machine.Id && sleeper.Bed == bed;

        // It may have been registered as another server while it slept.
        var own = GuardFiles(() => _share.Find(machine.Ours.Mark.ServerId));
        if ((IsIts(own) ? own : GuardFiles(() => _share.List()).FirstOrDefault(IsIts)) is not { } sleeper)
            return machine;
        var (mark, _) = HyperVNotes.Read(sleeper.Notes);
        return mark is null || mark.Released ? machine : machine with { Notes = sleeper.Notes, Ours = mark with { Bed = bed } };
    }

    private static HyperVMachine Asleep(HyperVSleeper sleeper)
    {
        var (mark, problem) = HyperVNotes.Read(sleeper.Notes);
        return new HyperVMachine
        {
            Host = s_nowhere,
            Sleeper = sleeper,
            Id = sleeper.Id,
            Name = sleeper.Name,
            State = sleeper.State,
            Notes = sleeper.Notes,
            Ours = mark is { Released: false } ? mark : null,
            Stale = mark is { Released: true } ? mark.Mark : null,
            Static = mark?.Address,
            LiesInNest = mark is not { Released: false },
            Foreign = problem is null ? null : $"{sleeper.Name} ({sleeper.Id}) in the nest's share is left alone: {problem}.",
            MemoryBytes = sleeper.MemoryBytes,
            Cores = sleeper.Cores,
            Version = sleeper.Version,
        };
    }

    /// <summary>True for a record of a machine that is registered nowhere: it is settled, or the host that may have it is the pool's and every host answers without it.</summary>
    private bool IsAsleep(HyperVSleeper sleeper, bool allAnswer) => sleeper is { Configuration: not null, Host: null } || (sleeper.Configuration is not null && allAnswer && _hosts.ContainsKey(sleeper.Host!));

    /// <summary>The sleepers among the records, and what may be one.</summary>
    private (IReadOnlyList<HyperVMachine> Sleepers, IReadOnlyList<string> Problems) Sleepers(IReadOnlyList<HyperVMachine> registered, bool allAnswer)
    {
        var (sleepers, problems) = (new List<HyperVMachine>(), new List<string>());
        var there = new HashSet<Guid>(registered.Where(machine => !machine.IsCopy).Select(machine => machine.Id));
        foreach (var sleeper in GuardFiles(() => _share.List(problems)).Where(sleeper => !there.Contains(sleeper.Id)))
        {
            if (sleeper.Configuration is null)
            {
                if (allAnswer)
                    problems.Add($"{sleeper.Name} ({sleeper.Server}) was being exported from {sleeper.Host} into the nest's share, and is registered nowhere any more: what of it is in {_share.Folder(sleeper.Server)} is not whole.");
            }
            else if (IsAsleep(sleeper, allAnswer))
            {
                sleepers.Add(Asleep(sleeper));
            }
            else
            {
                problems.Add($"{sleeper.Name} ({sleeper.Server}) is in the nest's share, or registered on {sleeper.Host}: that is known when every host of the pool answers, and it is left alone until then. Where {sleeper.Host} is gone for good, take its name out of {_share.RecordFile(sleeper.Server)}.");
            }
        }

        return (sleepers, problems);
    }

    /// <summary>Writes our line of a machine: into its notes where it is registered, which makes them the truth, else into its record.</summary>
    private async Task WriteMarkAsync(HyperVMachine machine, HyperVMark mark, string? newName, CancellationToken cancellation)
    {
        if (machine.Sleeper is { } sleeper)
        {
            // Whoever found it has found it on no host.
            GuardFiles(() => _share.Write(_share.Rename(sleeper, mark.Mark.ServerId) with { Notes = HyperVNotes.Write(machine.Notes, mark with { Bed = sleeper.Bed }), Name = newName ?? sleeper.Name, Host = null }));
            return;
        }

        await HostOf(machine.Host).WriteNotesAsync(machine, mark with { Bed = null }, newName, cancellation);
        if (machine.Ours is not null)
            await DropRecordAsync(machine, machine.Ours.Mark.ServerId, cancellation);
    }

    private async Task DropRecordAsync(HyperVMachine machine, Guid server, CancellationToken cancellation)
    {
        if (!_share.Has(server))
            return;
        var files = machine.Folder is null ? await HostOf(machine.Host).FindAsync(machine.Id, cancellation) ?? machine : machine;
        GuardFiles(() => _share.Drop(server, InUse(files)));
    }

    private static string[] InUse(HyperVMachine machine) => [.. machine.Disks, .. machine.Folder is { } folder ? [folder] : Array.Empty<string>()];

    // ---------------------------------------------------------------- to sleep

    /// <summary>Takes a dormant server that is registered off its host and into the share. What is done already is not done again; cut short anywhere, the server is in the nest all the same.</summary>
    private async Task TuckInAsync(HyperVMachine machine, CancellationToken cancellation)
    {
        if (machine.Sleeper is { } known)
        {
            // Taken off its host, and cut short before that was settled or cleared.
            if (known.Host is not null)
                await WriteMarkAsync(machine, machine.Ours!, null, cancellation);
            ClearLeft(known);
            return;
        }

        var (host, server) = (HostOf(machine.Host), machine.Ours!.Mark.ServerId);
        await EjectSeedAsync(host, machine, cancellation);
        var sleeper = await ExportAsync(host, machine, cancellation);
        var after = await FindSettledAsync(server, machine.Host, cancellation);
        if (!IsOn(after, machine.Host) || after.Sleeper is not null || after.Power != machine.Power || after.Place != HyperVPlace.Nest || after.Ours?.Bed != sleeper.Bed)
            throw new VMatrixException("ServerElsewhere", VMatrixErrorKind.InvalidState, $"{machine.Who} was changed on {machine.Host.Name} while it was exported into the nest's share: it is {Told(after)} now. It stays where it is.");
        var folder = await host.FolderAsync(server, cancellation);
        sleeper = await LeanOnImagesAsync(host, after, sleeper with { Notes = after.Notes }, cancellation);
        GuardFiles(() =>
        {
            _share.Write(sleeper);
            _nest.WriteTrace(server, new HyperVTrace { Host = machine.Host.Name, Files = [.. _nest.Trace(server)?.Files ?? [], .. after.Disks.Select(host.Reach), host.Reach(folder)] });
        });

        // The record is whole: from here the export is the server, as soon as no host has its machine.
        await host.OnAsync(after, "Taking off its host", "Hyper-V\\Remove-VM", cancellation, ("Force", true));
        if (await host.FindAsync(after.Id, cancellation) is not null)
            throw new VMatrixException("RemoveFailed", VMatrixErrorKind.Failed, $"{machine.Who} was reported as removed from {machine.Host.Name} and is registered there.") { IsTransient = true };
        GuardFiles(() => _share.Write(sleeper with { Host = null }));
        _ = _seen.TryRemove(server, out _);
        ClearLeft(sleeper);
    }

    /// <summary>Those that go to the share: not one that a cluster keeps for all its nodes, nor one that leans on checkpoints, which Hyper-V merges when it is removed.</summary>
    private bool GoesToShare(HyperVMachine machine) => _pool.HyperV.Nest == DormantPlace.Share && (machine.Sleeper is not null || (!machine.IsClustered && !HasCheckpoints(machine)));

    /// <summary>Why a server sleeps registered although the nest is a share, where that is to be mended.</summary>
    private string? WhyRegistered(HyperVMachine machine) => _pool.HyperV.Nest == DormantPlace.Share && HasCheckpoints(machine)
        ? $"It sleeps registered on {machine.Host.Name} and not in the nest's share, for it has checkpoints: wake it and remove them (Get-VM -ComputerName {HostOf(machine.Host).Address} -Id {machine.Id:D} | Remove-VMSnapshot)." : null;

    private async Task<bool> ToShareAsync(HyperVMachine machine, CancellationToken cancellation)
    {
        if (GoesToShare(machine))
            await TuckInAsync(machine, cancellation);
        return true;
    }

    private async Task<bool> ToShareAsync(Guid server, HostSpec? on, CancellationToken cancellation) =>
        _pool.HyperV.Nest == DormantPlace.Hosts || await ToShareAsync(await FindSettledAsync(server, on, cancellation), cancellation);

    private static bool HasCheckpoints(HyperVMachine machine) => machine.Disks.Any(disk => disk.EndsWith(".avhdx", StringComparison.OrdinalIgnoreCase) || disk.EndsWith(".avhd", StringComparison.OrdinalIgnoreCase));

    /// <summary>
    /// Exports a machine into a bed of its own, unless this process does that already for a caller who left, or has just done it. One whose end
    /// nobody has seen proves nothing, nor does one that ended a while ago, for the machine may have run since: it is made anew.
    /// </summary>
    private async Task<HyperVSleeper> ExportAsync(HyperVHost host, HyperVMachine machine, CancellationToken cancellation)
    {
        var server = machine.Ours!.Mark.ServerId;
        if (!_exports.TryRemove(server, out var export) || export.Bed != machine.Ours.Bed || export.Work.IsFaulted || export.Work.IsCanceled || (export.Work.IsCompleted && _clock.GetUtcNow() - await export.Work > s_again))
        {
            export.Bed = Guid.NewGuid().ToString("N");

            // The record comes first: without the share nothing is changed. Then the notes, which say for whoever looks that it lies in the nest.
            var path = GuardFiles(() =>
            {
                _share.Clear(server, InUse(machine));
                _share.Write(NewRecord(machine, export.Bed));
                Directory.CreateDirectory(_share.Bed(server, export.Bed));
                return _share.Bed(server, export.Bed);
            });
            await host.WriteNotesAsync(machine, machine.Ours with { Place = HyperVPlace.Nest, Ran = false, Told = null, Bed = export.Bed }, machine.Ours.Mark.Name, cancellation);
            export.Work = WorkAsync(path);
        }

        try
        {
            await export.Work.UntilAsync(cancellation);
        }
        catch (VMatrixException e)
        {
            // What it has made is of no use; the server is in the nest, registered where it slept.
            throw OfShare(e, host.Spec, machine.Who);
        }
        catch (OperationCanceledException) when (!export.Work.IsCanceled)
        {
            _exports[server] = export;
            throw;
        }

        return GuardFiles(() => _share.Find(server)) is { } record && record.Bed == export.Bed ? record : NewRecord(machine, export.Bed);

        async Task<DateTimeOffset> WorkAsync(string path)
        {
            await host.OnAsync(machine, "Exporting into the nest's share", "Hyper-V\\Export-VM", CancellationToken.None, ("Path", path));
            return _clock.GetUtcNow();
        }
    }

    private static HyperVSleeper NewRecord(HyperVMachine machine, string bed) => new()
    {
        Server = machine.Ours!.Mark.ServerId,
        Id = machine.Id,
        Name = machine.Ours.Mark.Name,
        State = machine.State,
        Notes = machine.Notes,
        MemoryBytes = machine.MemoryBytes,
        Cores = machine.Cores,
        Version = machine.Version,
        Bed = bed,
        Host = machine.Host.Name,
    };

    /// <summary>
    /// The record of a whole export. An export brings the images along that its disks lean on; they are put back on the nest's own, which no
    /// server writes, and the copies deleted.
    /// </summary>
    private async Task<HyperVSleeper> LeanOnImagesAsync(HyperVHost host, HyperVMachine machine, HyperVSleeper sleeper, CancellationToken cancellation)
    {
        var bed = _share.Bed(sleeper.Server, sleeper.Bed);
        var files = GuardFiles(() => Directory.EnumerateFiles(bed, "*", SearchOption.AllDirectories).ToArray());
        string Exported(string name) => files.FirstOrDefault(file => string.Equals(Path.GetFileName(file), name, StringComparison.OrdinalIgnoreCase))
            ?? throw new VMatrixException("HyperVFailed", VMatrixErrorKind.Failed, $"The export of {machine.Who} to {bed} lacks its file {name}: see that {host.Spec.Name} may write there. It stays registered on {host.Spec.Name}.");
        var configuration = Exported(machine.Id.ToString("D") + ".vmcx");
        var disks = machine.Disks.Select(disk => Exported(FileName(disk))).ToArray();
        var copies = new List<string>();
        try
        {
            foreach (var disk in machine.Disks)
            {
                if (await ParentAsync(disk) is not { Length: > 0 } parent || !_share.IsImage(parent))
                    continue;
                copies.Add(Exported(FileName(parent)));
                await host.DoAsync($"Putting the exported disk of {machine.Who} on its image", [], "Hyper-V\\Set-VHD", cancellation, ("Path", Exported(FileName(disk))), ("ParentPath", parent));
            }
        }
        catch (VMatrixException e)
        {
            throw OfShare(e, host.Spec, machine.Who);
        }

        return GuardFiles(() =>
        {
            foreach (var copy in copies.Distinct())
                HyperVNest.Delete(copy);
            string Below(string file) => file.Substring(bed.Length + 1).Replace('\\', '/');
            return sleeper with { Configuration = Below(configuration), Disks = [.. disks.Select(Below)] };
        });

        async Task<string?> ParentAsync(string disk) =>
            HyperVHost.First(await host.DoAsync($"Asking what the disk of {machine.Who} leans on", ["ParentPath"], "Hyper-V\\Get-VHD", cancellation, ("Path", disk))) is { } row && row.TryGetValue("ParentPath", out var parent) ? parent as string : null;
    }

    // It is on no host: what it has left on any is nobody's. What cannot be deleted now stays in its trace, and is when it is purged.
    private void ClearLeft(HyperVSleeper sleeper)
    {
        try
        {
            if (_nest.Trace(sleeper.Server) is { Files.Count: > 0 } trace)
            {
                foreach (var file in trace.Files)
                    HyperVNest.Delete(file);
                _nest.WriteTrace(sleeper.Server, trace with { Files = [] });
            }

            _share.Clear(sleeper.Server, [_share.Bed(sleeper.Server, sleeper.Bed)]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The trace says where it lies.
        }
    }

    // ---------------------------------------------------------------- and back

    /// <summary>Registers a sleeper on a host, where its files are. Its record stays until its notes say what it says.</summary>
    private async Task<HyperVMachine> RegisterAsync(HyperVMachine machine, HyperVHost to, CancellationToken cancellation)
    {
        var sleeper = machine.Sleeper!;
        if (machine.Power == PowerState.Saved && await FindObstacleToResumeAsync(to, machine, cancellation) is { } obstacle)
        {
            throw new VMatrixException("SavedStateNotResumable", VMatrixErrorKind.NotSupported,
                $"The memory of {machine.Who} is not resumed on {to.Spec.Name}: {obstacle}. Wake it on a host like the one it was saved on; a memory in the nest's share is given up nowhere, so that another host can still resume it.");
        }

        // The host answers, and does not have it: a record that was settled was believed without asking.
        await to.CheckRightsAsync(cancellation);
        GuardFiles(() =>
        {
            foreach (var file in sleeper.Disks.Append(sleeper.Configuration!).Select(file => _share.At(sleeper, file)).Where(file => !File.Exists(file)))
                throw new VMatrixException("FileNotFound", VMatrixErrorKind.NotFound, $"{machine.Who} is not woken on {to.Spec.Name}: its file {file} is not in the nest's share. Bring the share back, or restore the file from a backup.");
            _share.Write(sleeper with { Host = to.Spec.Name });
        });
        try
        {
            await to.DoAsync($"Registering {machine.Who}", [], "Hyper-V\\Import-VM", cancellation, ("Path", _share.At(sleeper, sleeper.Configuration!)), ("Register", true));
        }
        catch (VMatrixException e) when (OfShare(e, to.Spec, machine.Who) is var told && (told != e || !e.IsTransient))
        {
            // The host has refused it and says that it does not have it: no other one has to wait for this one.
            if (await to.FindAsync(sleeper.Id, cancellation) is null)
            {
                GuardFiles(() => _share.Write(sleeper with { Host = null }));
            }

            throw told;
        }

        var there = await to.FindAsync(sleeper.Id, cancellation)
            ?? throw new VMatrixException("MoveNotDone", VMatrixErrorKind.Failed, $"{machine.Who} was reported as registered on {to.Spec.Name} and is not there.") { IsTransient = true };
        _seen[sleeper.Server] = (to.Spec.Name, there.Id);
        return WithRecord(there);
    }

    // ---------------------------------------------------------------- errors

    /// <summary>What a host told of the nest's share, with the mend for that instead of the one for the host.</summary>
    private VMatrixException OfShare(VMatrixException e, HostSpec host, string who)
    {
        if (e.InnerException is not ShellException told)
            return e;
        var what = $"{host.Name} could not use the nest's share {_pool.Nest.Folder} for {who}: {HyperVErrors.Sentence(told)}.";
        return told.Codes.Select(code => OfShare(unchecked((uint)code), what, host, e)).FirstOrDefault(found => found is not null) ?? e;
    }

    private VMatrixException? OfShare(uint code, string what, HostSpec host, VMatrixException e) => code switch
    {
        0x80070005 => new("ShareAccessDenied", VMatrixErrorKind.Denied, $"{what} Give the account of VMatrix and the computer account of {host.Name} full control of the share and its folder; where VMatrix runs on another machine, let {host.Name} delegate to the file server too (cifs, see about_VMatrix_HyperV).", e),
        0x80070033 or 0x80070035 or 0x8007003B or 0x80070040 or 0x80070043 or 0x80070079 => new("ShareUnreachable", VMatrixErrorKind.Failed, $"{what} Check the file server and the network between the two: Test-Path {_pool.Nest.Folder} on {host.Name}.", e) { IsTransient = true },
        0x80070070 or 0x80070027 => new("DiskFull", VMatrixErrorKind.NoRoom, $"{what} Free some room there: an export takes the server's disk, its memory, and for a while the image that its disk leans on.", e),
        0x80070050 => new("DiskNamesCollide", VMatrixErrorKind.NotSupported, $"{what} An export puts all disks of a machine into one folder: give them file names that differ, or set hyperv.nest: hosts.", e),
        0xC03A000E => new("ImageChanged", VMatrixErrorKind.Corrupt, $"{what} The image in the nest is not the one that its disk was made on: restore that from a backup.", e),
        _ => null,
    };
}
