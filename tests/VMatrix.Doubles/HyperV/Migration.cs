using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using Microsoft.Management.Infrastructure;

namespace VMatrix.Doubles;

/// <summary>The commands that take machines elsewhere, with what must hold before they do.</summary>
public sealed partial class CommandCall
{
    private async Task MoveVMAsync()
    {
        var report = Bound.Get<VMCompatibilityReport>("CompatibilityReport");
        var destination = report?.Destination ?? Bound.Get<string>("DestinationHost") ?? Bound.Get<CimSession>("DestinationCimSession")?.ComputerName ?? "";
        var storage = Bound.Is("IncludeStorage") || report?.StoragePath is not null;
        var path = Bound.Get<string>("DestinationStoragePath") ?? Bound.Get<string>("VirtualMachinePath") ?? report?.StoragePath;
        var pass = Bound.Is("Passthru");
        IReadOnlyList<(HostState Host, Guid Id)> machines = report is not null
            ? [(await ReachAsync(report.VM.ComputerName), report.VM.Id)]
            : await MachinesAsync(single: true);
        await EachAsync(machines, async each =>
        {
            var name = World.Read(state => Find(state, each.Host, each.Id).Name);
            if (Same(destination, each.Host.Name))
                throw DoubleError.Failed($"The virtual machine '{name}' is already on '{destination}'.", unchecked((int)0x80070057));
            await JobAsync(state =>
            {
                var found = Find(state, each.Host, each.Id);
                var to = state.Host(destination);
                if (to is null || to.Mood != HostMood.Up)
                    throw DoubleError.Failed($"Virtual machine migration operation for '{found.Name}' failed at migration source '{each.Host.Name}'. Failed to establish a connection with host '{destination}': A connection attempt failed because the connected party did not properly respond. (0x8007274C).", unchecked((int)0x8007274C));
                if (Idle(state, each.Host, each.Id).State is not (VMState.Running or VMState.Paused or VMState.Off or VMState.Saved))
                    throw DoubleError.WrongState(found.Name, found.State);
                if (FirstObstacle(state, each.Host, to, found, storage) is { } error)
                    throw error;
                var real = path ?? (storage ? DiskFiles.Join(to.MachinePath, found.Name) : null);
                var bytes = (found.Runs || found.State == VMState.Saved ? found.MemoryBytes : 0) + (storage ? found.Disks.Sum(disk => World.Files.Read(each.Host, disk.Path).FileSize) : 0);
                return Begin(state, "move", each.Host, found, Time(state, bytes), []) with { Target = to.Name, Path = storage ? real : null };
            });
            if (pass)
                Output.Add(World.Read(state => Show(state, state.Host(destination)!, Find(state, state.Host(destination)!, each.Id))));
            Answer(each.Host.Name);
        });
    }

    private async Task MoveVMStorageAsync()
    {
        var path = Bound.Get<string>("DestinationStoragePath") ?? Bound.Get<string>("VirtualMachinePath") ?? throw new NotDoubledException(@"Hyper-V\Move-VMStorage without a destination");
        await EachAsync(await MachinesAsync(single: true), async each =>
        {
            await JobAsync(state =>
            {
                var found = Idle(state, each.Host, each.Id);
                if (found.BackupRuns)
                    throw Backup(found);
                if (state.Jobs.Values.Count(job => !job.Done && job.Kind == "storage" && job.More["host"] == each.Host.Name) >= each.Host.MaxStorageMigrations)
                    throw DoubleError.TooMany(found.Name, each.Host.MaxStorageMigrations);
                return Begin(state, "storage", each.Host, found, Time(state, found.Disks.Sum(disk => World.Files.Read(each.Host, disk.Path).FileSize)), []) with { Path = path };
            });
            Answer(each.Host.Name);
        });
    }

    private async Task ExportVMAsync()
    {
        var path = Bound.Get<string>("Path")!;
        var capture = Bound.Has("CaptureLiveState") ? Bound.Get<CaptureLiveState>("CaptureLiveState") : CaptureLiveState.CaptureSavedState;
        await ChangeVMAsync(async (host, machine) => await JobAsync(state =>
        {
            var found = Idle(state, host, machine.Id);
            if (found.State is not (VMState.Off or VMState.Saved or VMState.Running or VMState.Paused))
                throw DoubleError.WrongState(found.Name, found.State);
            var folder = DiskFiles.Join(path, found.Name);
            if (System.IO.Directory.Exists(World.Files.Real(host, DiskFiles.Join(folder, "Virtual Machines"))))
                throw DoubleError.FileExists(folder);
            var chains = found.Disks.SelectMany(disk => World.Files.Chain(host, disk.Path)).ToArray();
            DoubleWorld.CheckFolder(state, folder, begins: true);

            // While it is under way there is part of it.
            System.IO.Directory.CreateDirectory(World.Files.Real(host, DiskFiles.Join(folder, "Virtual Machines")));
            System.IO.Directory.CreateDirectory(World.Files.Real(host, DiskFiles.Join(folder, "Virtual Hard Disks")));
            System.IO.Directory.CreateDirectory(World.Files.Real(host, DiskFiles.Join(folder, "Snapshots")));
            var bytes = chains.Sum(each => each.Disk.FileSize) + (found.State is VMState.Off ? 0 : found.MemoryBytes);
            return Begin(state, "export", host, found, Time(state, bytes), new() { ["capture"] = capture.ToString() }) with { Path = folder };
        }));
    }

    private async Task ImportVMAsync()
    {
        var report = Bound.Get<VMCompatibilityReport>("CompatibilityReport");
        var from = report?.Path ?? Bound.Get<string>("Path")!;
        var copy = report?.Copies ?? Bound.Is("Copy");
        var newId = report?.NewId ?? Bound.Is("GenerateNewId");
        var path = Bound.Get<string>("VirtualMachinePath");
        var disks = report?.VhdDestinationPath ?? Bound.Get<string>("VhdDestinationPath");
        _ = Bound.Is("Register");
        if (report is not null)
        {
            if (report.Incompatibilities.Length > 0)
                throw NotImportable();
            path = report.StoragePath;
        }

        await EachAsync(report is null ? Computers() : [report.VM.ComputerName], async computer =>
        {
            var host = await ReachAsync(computer);
            Guid made = default;
            await JobAsync(state =>
            {
                DoubleWorld.CheckFolder(state, from);
                var source = Exported(host, from);
                if (Obstacles(state, null, host, source, storage: true).Count > 0)
                    throw NotImportable();
                var real = World.Files.Real(host, from);
                if (!copy && state.Machines.Values.Any(other => state.Host(other.Host) is { } theirs && World.Files.Real(theirs, DoubleWorld.ConfigurationOf(other)) == real))
                    throw DoubleError.Locked(from);
                made = newId ? Guid.NewGuid() : source.Id;
                if (state.Machine(host.Name, made) is not null)
                    throw DoubleError.Failed($"The operation failed because a virtual machine with the identifier {made} already exists. (0x800700B7).", unchecked((int)0x800700B7));
                var more = new Dictionary<string, string> { ["host"] = host.Name, ["from"] = from };
                if (copy)
                    more["copy"] = "true";
                if (disks is not null)
                    more["disks"] = disks;
                var now = World.Clock.GetUtcNow();
                return new JobState { Id = Guid.NewGuid(), Kind = "import", Machine = made, Begun = now, Due = now + (copy ? Time(state, source.Disks.Count * (4L << 20)) : TimeSpan.FromMilliseconds(5)), Path = path ?? host.MachinePath, More = more };
            });
            Output.Add(World.Read(state => Show(state, host, Find(state, host, made))));
            Answer(host.Name);
        });
    }

    private async Task CompareVMAsync()
    {
        var storage = Bound.Is("IncludeStorage") || Bound.Has("VirtualMachinePath");
        var path = Bound.Get<string>("DestinationStoragePath") ?? Bound.Get<string>("VirtualMachinePath");
        if (Bound.Get<string>("Path") is { } from)
        {
            var (copy, newId, disks) = (Bound.Is("Copy"), Bound.Is("GenerateNewId"), Bound.Get<string>("VhdDestinationPath"));
            _ = Bound.Is("Register");
            await EachAsync(Computers(), async computer =>
            {
                var host = await ReachAsync(computer);
                var source = Exported(host, from);
                Output.Add(World.Read(state => new VMCompatibilityReport
                {
                    VM = Show(state, host, source with { Host = host.Name }),
                    OperationType = "ImportVirtualMachine",
                    Path = from,
                    Copies = copy,
                    NewId = newId,
                    StoragePath = path,
                    VhdDestinationPath = disks,
                    Incompatibilities = [.. Obstacles(state, null, host, source, storage: true)],
                }));
            });
            return;
        }

        var destination = Bound.Get<string>("DestinationHost") ?? Bound.Get<CimSession>("DestinationCimSession")?.ComputerName ?? "";
        await EachAsync(await MachinesAsync(single: true), async each =>
        {
            var to = await ReachAsync(destination);
            Output.Add(World.Read(state =>
            {
                var found = Find(state, each.Host, each.Id);
                if (Connection(each.Host, to, found) is { } error)
                    throw error;
                return new VMCompatibilityReport
                {
                    VM = Show(state, each.Host, found),
                    OperationType = "MoveVirtualMachine",
                    Destination = to.Name,
                    Path = found.Path,
                    StoragePath = path,
                    Incompatibilities = [.. Obstacles(state, each.Host, to, found, storage)],
                };
            }));
        });
    }

    private static DoubleError NotImportable() => DoubleError.Failed("Unable to import virtual machine due to configuration errors. Please use Compare-VM to repair the virtual machine.");

    private MachineState Exported(HostState host, string path)
    {
        var machine = World.Files.ReadAs<MachineState>(host, path) ?? throw DoubleError.NoFile(path);
        var root = DiskFiles.Parent(DiskFiles.Parent(path));
        return machine with { Disks = [.. machine.Disks.Select(disk => disk with { Path = DoubleWorld.At(root, disk.Path) })] };
    }

    // What keeps two hosts from talking about a move at all.
    private static DoubleError? Connection(HostState from, HostState to, MachineState machine)
    {
        if (!to.CanChange)
            return DoubleError.AccessDenied(to.Name);
        foreach (var host in new[] { from, to }.Where(host => !host.MigrationEnabled))
            return DoubleError.Failed($"Virtual machine migration operation for '{machine.Name}' failed: live migration is not enabled on '{host.Name}'.");
        if (from.Authentication != to.Authentication)
            return DoubleError.Failed($"Virtual machine migration operation for '{machine.Name}' failed: '{from.Name}' and '{to.Name}' use different authentication for migrations.");
        if (from.Authentication == MigrationAuthenticationType.CredSSP)
            return DoubleError.Delegation(to.Name, from.CredentialGuard ? "Credential Guard does not allow CredSSP" : "The specified target is unknown or unreachable");
        return from.Delegation ? null : DoubleError.Delegation(to.Name);
    }

    private DoubleError? FirstObstacle(WorldState state, HostState from, HostState to, MachineState machine, bool storage)
    {
        if (state.Groups.Values.Any(group => group.Machine == machine.Id))
            return DoubleError.Failed($"The virtual machine '{machine.Name}' is clustered: move its role by the cluster.");
        if (Connection(from, to, machine) is { } connection)
            return connection;
        if (machine.BackupRuns)
            return Backup(machine);
        if (machine.Replication is not (VMReplicationState.Disabled or VMReplicationState.Replicating))
            return new DoubleError("InvalidState", "InvalidOperation", 0, $"The operation on '{machine.Name}' cannot be performed in its current replication state ({machine.Replication}).");
        foreach (var (host, limit) in new[] { (from, from.MaxMigrations), (to, to.MaxMigrations) })
        {
            if (state.Jobs.Values.Count(job => !job.Done && job.Kind == "move" && (job.More["host"] == host.Name || job.Target == host.Name)) >= limit)
                return DoubleError.TooMany(machine.Name, limit);
        }

        try
        {
            DoubleWorld.CheckMemory(state, to, machine);
        }
        catch (DoubleError error)
        {
            return error;
        }

        return Obstacles(state, from, to, machine, storage) is [{ } first, ..] ? DoubleError.Failed($"Virtual machine migration operation for '{machine.Name}' failed at migration destination '{to.Name}'. {first.Message}") : null;
    }

    /// <summary>What on the other host does not fit, as Compare-VM tells it.</summary>
    private List<VMIncompatibility> Obstacles(WorldState state, HostState? from, HostState to, MachineState machine, bool storage)
    {
        var found = new List<VMIncompatibility>();
        foreach (var adapter in machine.Adapters.Where(adapter => adapter.Switch is not null && !to.Switches.Contains(adapter.Switch, StringComparer.OrdinalIgnoreCase)))
            found.Add(new VMIncompatibility { MessageId = 33012, Message = $"Could not find Ethernet switch '{adapter.Switch}'.", Source = adapter.Name });
        if ((machine.Runs && from is not null && from.ProcessorFamily != to.ProcessorFamily) || (machine.State == VMState.Saved && machine.SavedOn is not null && machine.SavedOn != to.ProcessorFamily))
            found.Add(new VMIncompatibility { MessageId = 24004, Message = $"The virtual machine '{machine.Name}' is using processor-specific features not supported on physical computer '{to.Name}'." });
        if (!to.Versions.Contains(machine.Version))
            found.Add(new VMIncompatibility { MessageId = 24008, Message = $"The configuration version {machine.Version} of '{machine.Name}' is not supported on '{to.Name}'." });
        if (machine.Iso is { Length: > 0 } iso && !World.Files.Exists(to, iso))
            found.Add(new VMIncompatibility { MessageId = 40010, Message = $"'{iso}' was not found on '{to.Name}'.", Source = iso });
        if (from is null || !storage)
        {
            foreach (var disk in machine.Disks.Where(disk => !Reaches(from, to, disk.Path)))
                found.Add(new VMIncompatibility { MessageId = 40010, Message = $"The virtual hard disk '{disk.Path}' was not found on '{to.Name}'.", Source = disk.Path });
        }
        else
        {
            foreach (var parent in machine.Disks.SelectMany(disk => World.Files.Chain(from, disk.Path).Skip(1)).Where(parent => !Reaches(from, to, parent.Path)))
                found.Add(new VMIncompatibility { MessageId = 40010, Message = $"The parent virtual hard disk '{parent.Path}' was not found on '{to.Name}'.", Source = parent.Path });
        }

        return found;
    }

    private bool Reaches(HostState? from, HostState to, string path)
    {
        if (!World.Files.Exists(to, path) || (from is not null && !World.Files.SameFile(from, path, to, path)))
            return false;
        try
        {
            World.Files.Chain(to, path);
            return true;
        }
        catch (DoubleError)
        {
            return false;
        }
    }
}
