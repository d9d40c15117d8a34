using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using Microsoft.Vhd.PowerShell;

namespace VMatrix.Doubles;

/// <summary>The commands of the module Hyper-V.</summary>
public sealed partial class CommandCall
{
    private static readonly Dictionary<string, string> s_german = new()
    {
        ["Operating normally"] = "Normaler Betrieb",
        ["Migrating"] = "Wird migriert",
        ["OK"] = "OK",
    };

    private static void AddHyperV(Dictionary<string, Func<CommandCall, Task>> commands)
    {
        foreach (var (name, command) in new Dictionary<string, Func<CommandCall, Task>>
        {
            ["Get-VM"] = call => call.GetVMAsync(),
            ["Get-VMHost"] = call => call.GetVMHostAsync(),
            ["Set-VMHost"] = call => call.SetVMHostAsync(),
            ["Enable-VMMigration"] = call => call.EachHostAsync(host => host with { MigrationEnabled = true }),
            ["Disable-VMMigration"] = call => call.EachHostAsync(host => host with { MigrationEnabled = false }),
            ["Get-VMHostSupportedVersion"] = call => call.GetSupportedVersionsAsync(),
            ["Get-VMSwitch"] = call => call.GetVMSwitchAsync(),
            ["Get-VMMigrationNetwork"] = call => call.GetMigrationNetworkAsync(),
            ["New-VM"] = call => call.NewVMAsync(),
            ["Set-VM"] = call => call.SetVMAsync(),
            ["Rename-VM"] = call => call.EachVMAsync((state, _, machine) => machine with { Name = call.Bound.Get<string>("NewName")! }),
            ["Set-VMMemory"] = call => call.SetVMMemoryAsync(),
            ["Set-VMProcessor"] = call => call.SetVMProcessorAsync(),
            ["Start-VM"] = call => call.StartVMAsync(),
            ["Stop-VM"] = call => call.StopVMAsync(),
            ["Save-VM"] = call => call.SaveVMAsync(),
            ["Suspend-VM"] = call => call.TurnAsync(VMState.Running, VMState.Paused),
            ["Resume-VM"] = call => call.TurnAsync(VMState.Paused, VMState.Running),
            ["Remove-VMSavedState"] = call => call.RemoveSavedStateAsync(),
            ["Remove-VM"] = call => call.RemoveVMAsync(),
            ["Move-VM"] = call => call.MoveVMAsync(),
            ["Move-VMStorage"] = call => call.MoveVMStorageAsync(),
            ["Export-VM"] = call => call.ExportVMAsync(),
            ["Import-VM"] = call => call.ImportVMAsync(),
            ["Compare-VM"] = call => call.CompareVMAsync(),
            ["Checkpoint-VM"] = call => call.CheckpointVMAsync(),
            ["Get-VMSnapshot"] = call => call.GetVMSnapshotAsync(),
            ["Remove-VMSnapshot"] = call => call.RemoveVMSnapshotAsync(),
            ["New-VHD"] = call => call.NewVHDAsync(),
            ["Get-VHD"] = call => call.GetVHDAsync(),
            ["Set-VHD"] = call => call.SetVHDAsync(),
            ["Convert-VHD"] = call => call.ConvertVHDAsync(),
            ["Get-VMHardDiskDrive"] = call => call.ListVMAsync((_, host, machine) => Drives(host, machine)),
            ["Add-VMHardDiskDrive"] = call => call.AddVMHardDiskDriveAsync(),
            ["Remove-VMHardDiskDrive"] = call => call.RemoveVMHardDiskDriveAsync(),
            ["Get-VMDvdDrive"] = call => call.ListVMAsync((_, host, machine) => DvdDrives(host, machine).Where(drive =>
                (!call.Bound.Has("ControllerNumber") || call.Bound.Get<int>("ControllerNumber") == drive.ControllerNumber) & (!call.Bound.Has("ControllerLocation") || call.Bound.Get<int>("ControllerLocation") == drive.ControllerLocation))),
            ["Add-VMDvdDrive"] = call => call.AddVMDvdDriveAsync(),
            ["Set-VMDvdDrive"] = call => call.SetVMDvdDriveAsync(),
            ["Get-VMNetworkAdapter"] = call => call.ListVMAsync((state, host, machine) => call.Adapters(state, host, machine)),
            ["Connect-VMNetworkAdapter"] = call => call.ConnectVMNetworkAdapterAsync(),
            ["Get-VMMemory"] = call => call.ListVMAsync((_, host, machine) => [new VMMemory { ComputerName = host.Name, VMId = machine.Id, VMName = machine.Name, Startup = machine.MemoryBytes, Minimum = machine.MinimumBytes, Maximum = machine.MaximumBytes, DynamicMemoryEnabled = machine.DynamicMemory }]),
            ["Get-VMProcessor"] = call => call.ListVMAsync((_, host, machine) => [new VMProcessor { ComputerName = host.Name, VMId = machine.Id, VMName = machine.Name, Count = machine.Cores }]),
            ["Get-VMIntegrationService"] = call => call.ListVMAsync((state, host, machine) => call.Integration(state, host, machine)),
            ["Get-VMAssignableDevice"] = call => call.ListVMAsync((_, host, machine) => machine.Devices.Select(path => new VMAssignedDevice { ComputerName = host.Name, VMId = machine.Id, VMName = machine.Name, LocationPath = path })),
            ["Get-VMSecurity"] = call => call.ListVMAsync((_, host, machine) => [new VMSecurity { ComputerName = host.Name, VMId = machine.Id, VMName = machine.Name, TpmEnabled = machine.Tpm, Shielded = machine.Shielded }]),
            ["Get-VMGpuPartitionAdapter"] = call => call.ListVMAsync((_, _, _) => []),
            ["Get-VMReplication"] = call => call.ListVMAsync((_, host, machine) => machine.Replication == VMReplicationState.Disabled ? [] : [new VMReplication { ComputerName = host.Name, VMId = machine.Id, VMName = machine.Name, Name = machine.Name, State = machine.Replication, Mode = VMReplicationMode.Primary, Health = VMReplicationHealthState.Normal }]),
            ["Enable-VMResourceMetering"] = call => call.EachVMAsync((_, _, machine) => machine.Metering ? machine : machine with { Metering = true, MeteringSince = call.World.Clock.GetUtcNow() }),
            ["Disable-VMResourceMetering"] = call => call.EachVMAsync((_, _, machine) => machine with { Metering = false }),
            ["Reset-VMResourceMetering"] = call => call.EachVMAsync((_, _, machine) => machine with { MeteringSince = call.World.Clock.GetUtcNow() }),
            ["Measure-VM"] = call => call.MeasureVMAsync(),
            ["Wait-VM"] = call => call.WaitVMAsync(),
        })
            commands.Add(@"Hyper-V\" + name, command);
    }

    private async Task GetVMAsync()
    {
        var names = Bound.All<string>("Name");
        Guid? id = Bound.Has("Id") ? Bound.Get<Guid>("Id") : null;
        if (Bound.Has("ClusterObject"))
            throw new NotDoubledException(@"Hyper-V\Get-VM -ClusterObject");
        await EachAsync(Computers(), async computer =>
        {
            var host = await ReachAsync(computer, change: false);
            var (found, missing) = World.Read(state =>
            {
                var here = host.CanRead ? state.On(host.Name).OrderBy(machine => machine.Name, StringComparer.OrdinalIgnoreCase).ToArray() : [];
                var chosen = here.Where(machine => (id is null || machine.Id == id) && (names.Count == 0 || names.Any(name => Like(name, machine.Name)))).ToArray();
                return (chosen.Select(machine => Show(state, host, machine)).ToArray(), names.Where(name => !name.Contains('*', StringComparison.Ordinal) && !here.Any(machine => Same(machine.Name, name))).ToArray());
            });
            Output.AddRange(found);
            foreach (var name in missing)
                Errors.Add(DoubleError.NotFound(name));
            if (id is not null && found.Length == 0)
                Errors.Add(DoubleError.NoObject($"a virtual machine with the identifier {id} on {computer}"));
        });
    }

    private Task GetVMHostAsync() => EachAsync(Computers(), async computer =>
    {
        var host = await ReachAsync(computer, change: false);
        if (!host.CanRead)
            throw DoubleError.AccessDenied(host.Name);
        Output.Add(new VMHost
        {
            ComputerName = host.Name,
            Name = host.Name,
            FullyQualifiedDomainName = host.Name,
            LogicalProcessorCount = host.Cores,
            MemoryCapacity = host.MemoryBytes,
            VirtualMachinePath = host.MachinePath,
            VirtualHardDiskPath = host.DiskPath,
            VirtualMachineMigrationEnabled = host.MigrationEnabled,
            VirtualMachineMigrationAuthenticationType = host.Authentication,
            MaximumVirtualMachineMigrations = (uint)host.MaxMigrations,
            MaximumStorageMigrations = (uint)host.MaxStorageMigrations,
            SupportedVmVersions = [.. host.Versions],
        });
    });

    private Task SetVMHostAsync() => EachHostAsync(host => host with
    {
        MaxMigrations = Bound.Has("MaximumVirtualMachineMigrations") ? (int)Bound.Get<uint>("MaximumVirtualMachineMigrations") : host.MaxMigrations,
        MaxStorageMigrations = Bound.Has("MaximumStorageMigrations") ? (int)Bound.Get<uint>("MaximumStorageMigrations") : host.MaxStorageMigrations,
        Authentication = Bound.Has("VirtualMachineMigrationAuthenticationType") ? Bound.Get<MigrationAuthenticationType>("VirtualMachineMigrationAuthenticationType") : host.Authentication,
        MachinePath = Bound.Get<string>("VirtualMachinePath") ?? host.MachinePath,
        DiskPath = Bound.Get<string>("VirtualHardDiskPath") ?? host.DiskPath,
    });

    private Task EachHostAsync(Func<HostState, HostState> change) => EachAsync(Computers(), async computer =>
    {
        await ReachAsync(computer);
        World.SetHost(computer, change);
        Answer(computer);
    });

    private Task GetSupportedVersionsAsync()
    {
        var onlyDefault = Bound.Is("Default");
        return EachAsync(Computers(), async computer =>
        {
            var host = await ReachAsync(computer, change: false);
            Output.AddRange(host.Versions.Where(version => !onlyDefault || version == host.Versions[^1]).Select(version => new VMHostSupportedVersion { ComputerName = host.Name, Name = $"Version {version}", Version = version, IsDefault = version == host.Versions[^1] }));
        });
    }

    private Task GetVMSwitchAsync()
    {
        var name = Bound.Get<string>("Name");
        return EachAsync(Computers(), async computer =>
        {
            var host = await ReachAsync(computer, change: false);
            var found = host.Switches.Where(each => name is null || Like(name, each)).Select(each => new VMSwitch { ComputerName = host.Name, Name = each, Id = Guid.Empty }).ToArray();
            Output.AddRange(found);
            if (found.Length == 0 && name is not null && !name.Contains('*', StringComparison.Ordinal))
                throw DoubleError.NotFound(name, "virtual switch");
        });
    }

    private Task GetMigrationNetworkAsync() => EachAsync(Computers(), async computer =>
    {
        var host = await ReachAsync(computer, change: false);
        if (host.MigrationEnabled)
            Output.Add(new VMMigrationNetwork { ComputerName = host.Name, Subnet = "10.0.0.0/8" });
    });

    private async Task NewVMAsync()
    {
        var name = Bound.Get<string>("Name") ?? "New Virtual Machine";
        var memory = Bound.Has("MemoryStartupBytes") ? Bound.Get<long>("MemoryStartupBytes") : 512L << 20;
        var generation = Bound.Has("Generation") ? Bound.Get<short>("Generation") : (short)1;
        var version = Bound.Get<Version>("Version");
        var (vhd, newVhd, size, path, network) = (Bound.Get<string>("VHDPath"), Bound.Get<string>("NewVHDPath"), Bound.Get<ulong>("NewVHDSizeBytes"), Bound.Get<string>("Path"), Bound.Get<string>("SwitchName"));
        _ = Bound.Is("NoVHD");
        await EachAsync(Computers(), async computer =>
        {
            var host = await ReachAsync(computer);
            if (memory < 32L << 20)
                throw DoubleError.Failed($"The amount of memory {memory >> 20} MB is not valid for '{name}'.", unchecked((int)0x80070057));
            if (network is not null && !host.Switches.Contains(network, StringComparer.OrdinalIgnoreCase))
                throw DoubleError.NotFound(network, "virtual switch");
            if (version is not null && !host.Versions.Contains(version.ToString()))
                throw DoubleError.Failed($"The configuration version {version} is not supported on {host.Name}.");
            if (vhd is not null)
                World.Files.Chain(host, vhd);
            var machine = World.Change(state =>
            {
                if (newVhd is not null && World.Files.Exists(host, newVhd))
                    throw DoubleError.FileExists(newVhd);
                var made = World.NewMachine(state, host, name, DiskFiles.Join(path ?? host.MachinePath, name)) with { MemoryBytes = memory, Generation = generation };
                made = made with
                {
                    Version = version?.ToString() ?? made.Version,
                    Disks = vhd is not null ? [new DiskState(vhd)] : newVhd is not null ? [World.NewDisk(host, newVhd, (long)size)] : [],
                    Adapters = [made.Adapters[0] with { Switch = network }],
                    Iso = generation == 1 ? "" : null,
                };
                state.Put(made);
                return Show(state, host, made);
            });
            Output.Add(machine);
            Answer(host.Name);
        });
    }

    private Task SetVMAsync()
    {
        var b = Bound;
        return EachVMAsync((state, host, machine) =>
        {
            var changesHardware = b.Has("ProcessorCount") | b.Has("MemoryStartupBytes") | b.Has("DynamicMemory") | b.Has("StaticMemory");
            if (changesHardware && (b.Has("ProcessorCount") || b.Has("DynamicMemory") || b.Has("StaticMemory")) && machine.State != VMState.Off)
                throw DoubleError.WrongState(machine.Name, machine.State);
            if (b.Has("MemoryStartupBytes") && machine.State is not (VMState.Off or VMState.Running))
                throw DoubleError.WrongState(machine.Name, machine.State);
            return machine with
            {
                Name = b.Get<string>("NewVMName") ?? machine.Name,
                Notes = b.Get<string>("Notes") ?? machine.Notes,
                Cores = b.Has("ProcessorCount") ? (int)b.Get<long>("ProcessorCount") : machine.Cores,
                MemoryBytes = b.Has("MemoryStartupBytes") ? b.Get<long>("MemoryStartupBytes") : machine.MemoryBytes,
                MinimumBytes = b.Has("MemoryMinimumBytes") ? b.Get<long>("MemoryMinimumBytes") : machine.MinimumBytes,
                MaximumBytes = b.Has("MemoryMaximumBytes") ? b.Get<long>("MemoryMaximumBytes") : machine.MaximumBytes,
                DynamicMemory = b.Is("DynamicMemory") || (!b.Is("StaticMemory") && machine.DynamicMemory),
                StartAction = b.Has("AutomaticStartAction") ? b.Get<StartAction>("AutomaticStartAction") : machine.StartAction,
                StopAction = b.Has("AutomaticStopAction") ? b.Get<StopAction>("AutomaticStopAction") : machine.StopAction,
                Checkpoints = b.Has("CheckpointType") | b.Has("AutomaticCheckpointsEnabled") ? machine.Checkpoints : machine.Checkpoints,
            };
        });
    }

    private Task SetVMMemoryAsync()
    {
        var b = Bound;
        return EachVMAsync((_, _, machine) =>
        {
            if (b.Has("DynamicMemoryEnabled") && machine.State != VMState.Off)
                throw DoubleError.WrongState(machine.Name, machine.State);
            return machine with
            {
                DynamicMemory = b.Has("DynamicMemoryEnabled") ? b.Get<bool>("DynamicMemoryEnabled") : machine.DynamicMemory,
                MemoryBytes = b.Has("StartupBytes") ? b.Get<long>("StartupBytes") : machine.MemoryBytes,
                MinimumBytes = b.Has("MinimumBytes") ? b.Get<long>("MinimumBytes") : machine.MinimumBytes,
                MaximumBytes = b.Has("MaximumBytes") ? b.Get<long>("MaximumBytes") : machine.MaximumBytes,
            };
        });
    }

    private Task SetVMProcessorAsync()
    {
        var b = Bound;
        return EachVMAsync((_, _, machine) => machine.State != VMState.Off ? throw DoubleError.WrongState(machine.Name, machine.State) : machine with { Cores = b.Has("Count") ? (int)b.Get<long>("Count") : machine.Cores });
    }

    private Task StartVMAsync() => ChangeVMAsync(async (host, machine) =>
    {
        if (machine.State == VMState.Running)
            return; // Hyper-V warns that it is already in this state.
        await JobAsync(state =>
        {
            var found = Idle(state, host, machine.Id);
            if (found.State == VMState.Paused)
                throw DoubleError.WrongState(found.Name, found.State);
            if (found.Critical is not null)
                throw DoubleError.WrongState(found.Name, found.Critical);
            var saved = found.State == VMState.Saved;
            if (saved && found.SavedOn != host.ProcessorFamily)
                throw DoubleError.NotRestorable(found.Name, $"the saved state was made on another kind of processor ({found.SavedOn}) than {host.Name} has ({host.ProcessorFamily})");
            if (!host.Versions.Contains(found.Version))
                throw DoubleError.Failed($"'{found.Name}' cannot start: {host.Name} does not support its configuration version {found.Version}.");
            DoubleWorld.CheckMemory(state, host, found with { State = VMState.Starting });
            if (found.Iso is { Length: > 0 } iso && !World.Files.Exists(host, iso))
                throw DoubleError.NoFile(iso);
            foreach (var disk in found.Disks)
            {
                World.Files.Chain(host, disk.Path);
                var real = World.Files.Real(host, disk.Path);
                if (state.Machines.Values.Any(other => other.Runs && !(other.Id == found.Id && Same(other.Host, found.Host)) && state.Host(other.Host) is { } theirs && other.Disks.Any(each => World.Files.Real(theirs, each.Path) == real)))
                    throw DoubleError.Locked(disk.Path);
            }

            return Begin(state, "start", host, found with { State = VMState.Starting }, saved ? Time(state, found.MemoryBytes) : TimeSpan.FromMilliseconds(1), saved ? new() { ["saved"] = "true" } : []);
        });
    });

    private Task StopVMAsync()
    {
        var (turnOff, save, force) = (Bound.Is("TurnOff"), Bound.Is("Save"), Bound.Is("Force"));
        return ChangeVMAsync(async (host, machine) =>
        {
            if (save)
            {
                await SaveAsync(host, machine);
                return;
            }

            if (machine.State is VMState.Off)
                return;
            await JobAsync(state =>
            {
                var found = turnOff ? Find(state, host, machine.Id) : Idle(state, host, machine.Id);
                if (turnOff ? found.State is VMState.Saved : found.State is not VMState.Running)
                    throw DoubleError.WrongState(found.Name, found.State);
                if (!turnOff && (found.Hung || !found.IntegrationServices || World.Clock.GetUtcNow() < found.ReadyAt))
                    throw DoubleError.Failed($"Failed to shut down '{found.Name}': the guest does not answer (the device is not ready for use). (0x800710DF).", unchecked((int)0x800710DF));
                return Begin(state, "stop", host, turnOff ? found : found with { State = VMState.Stopping }, turnOff || force ? TimeSpan.FromMilliseconds(1) : TimeSpan.FromMilliseconds(50), []);
            });
        });
    }

    private Task SaveVMAsync() => ChangeVMAsync(SaveAsync);

    private async Task SaveAsync(HostState host, MachineState machine)
    {
        if (machine.State == VMState.Saved)
            return;
        await JobAsync(state =>
        {
            var found = Idle(state, host, machine.Id);
            if (found.State is not (VMState.Running or VMState.Paused))
                throw DoubleError.WrongState(found.Name, found.State);
            return Begin(state, "save", host, found with { State = VMState.Saving }, Time(state, found.MemoryBytes), []);
        });
    }

    private Task TurnAsync(VMState from, VMState to) => EachVMAsync((state, host, machine) => machine.State == to ? machine : machine.State == from && machine.Job is null ? machine with { State = to } : throw DoubleError.WrongState(machine.Name, machine.State));

    private Task RemoveSavedStateAsync() => EachVMAsync((state, host, machine) => machine.State == VMState.Saved ? DoubleWorld.PoweredOff(Idle(state, host, machine.Id)) : throw DoubleError.WrongState(machine.Name, machine.State));

    private Task RemoveVMAsync() => ChangeVMAsync((host, machine) =>
    {
        World.Change(state =>
        {
            var found = Idle(state, host, machine.Id);
            if (found.State is not (VMState.Off or VMState.Saved))
                throw DoubleError.WrongState(found.Name, found.State);
            if (state.Groups.Values.Any(group => group.Machine == found.Id))
                throw DoubleError.Failed($"The virtual machine '{found.Name}' is clustered: remove its role from the cluster first.");
            World.Files.Delete(host, DoubleWorld.ConfigurationOf(found));
            state.Remove(found);
        });
        return Task.CompletedTask;
    });

    private Task CheckpointVMAsync()
    {
        var name = Bound.Get<string>("SnapshotName");
        var made = new List<VMSnapshot>();
        var pass = Bound.Is("Passthru");
        return Then(ChangeVMAsync((host, machine) =>
        {
            World.Change(state =>
            {
                var found = Idle(state, host, machine.Id);
                if (found.BackupRuns)
                    throw Backup(found);
                var checkpoint = new CheckpointState { Id = Guid.NewGuid(), Name = name ?? $"{found.Name} - ({World.Clock.GetUtcNow():u})", Created = World.Clock.GetUtcNow() + host.ClockAhead, Parent = found.ParentCheckpoint, Disks = found.Disks };
                var disks = found.Disks.Select(disk =>
                {
                    var parent = World.Files.Read(host, disk.Path);
                    var leaf = disk.Path[..disk.Path.LastIndexOf('.')];
                    var cut = leaf.LastIndexOf("_cp", StringComparison.Ordinal);
                    var path = $"{(cut < 0 ? leaf : leaf[..cut])}_cp{checkpoint.Id:N}.avhdx";
                    World.Files.Write(host, path, new DiskFile { Id = Guid.NewGuid(), Type = VhdType.Differencing, Size = parent.Size, Parent = disk.Path, ParentId = parent.Id });
                    return disk with { Path = path };
                }).ToArray();
                var after = found with { Disks = disks, Checkpoints = [.. found.Checkpoints, checkpoint], ParentCheckpoint = checkpoint.Id };
                state.Put(after);
                made.Add(Show(host, after, checkpoint));
            });
            return Task.CompletedTask;
        }, pass: false), () =>
        {
            if (pass)
                Output.AddRange(made);
        });
    }

    private Task GetVMSnapshotAsync()
    {
        var name = Bound.Get<string>("Name");
        if (Bound.Has("Id"))
        {
            var id = Bound.Get<Guid>("Id");
            return EachAsync(Computers(), async computer =>
            {
                var host = await ReachAsync(computer, change: false);
                Output.AddRange(World.Read(state => state.On(host.Name).SelectMany(machine => machine.Checkpoints.Where(each => each.Id == id).Select(each => Show(host, machine, each))).ToArray()));
            });
        }

        return ListVMAsync((_, host, machine) => machine.Checkpoints.Where(each => name is null || Like(name, each.Name)).Select(each => (object)Show(host, machine, each)));
    }

    private async Task RemoveVMSnapshotAsync()
    {
        var snapshots = Bound.All<VMSnapshot>("VMSnapshot").Select(each => (each.ComputerName, each.VMId, each.Id)).ToList();
        if (snapshots.Count == 0)
        {
            var pattern = Bound.Get<string>("Name") ?? "*";
            foreach (var (host, id) in await MachinesAsync())
                snapshots.AddRange(World.Read(state => Find(state, host, id).Checkpoints.Where(each => Like(pattern, each.Name)).Select(each => (host.Name, id, each.Id)).ToArray()));
        }

        await EachAsync(snapshots, async each =>
        {
            var host = await ReachAsync(each.ComputerName);
            await JobAsync(state =>
            {
                var found = Idle(state, host, each.VMId);
                if (found.Checkpoints.All(checkpoint => checkpoint.Id != each.Id))
                    throw DoubleError.NoObject($"a checkpoint with the identifier {each.Id}");
                return Begin(state, "merge", host, found, TimeSpan.FromMilliseconds(20), new() { ["checkpoint"] = each.Id.ToString() });
            });
            Answer(host.Name);
        });
    }

    private async Task NewVHDAsync()
    {
        var (paths, parent, size) = (Bound.All<string>("Path"), Bound.Get<string>("ParentPath"), Bound.Get<ulong>("SizeBytes"));
        var type = Bound.Is("Differencing") || parent is not null ? VhdType.Differencing : Bound.Is("Fixed") ? VhdType.Fixed : VhdType.Dynamic;
        _ = Bound.Is("Dynamic");
        if (Bound.Has("SourceDisk"))
            throw new NotDoubledException(@"Hyper-V\New-VHD -SourceDisk");
        await EachAsync(Computers().SelectMany(computer => paths.Select(path => (computer, path))), async each =>
        {
            var host = await ReachAsync(each.computer);
            var made = World.Change(state =>
            {
                if (World.Files.Exists(host, each.path))
                    throw DoubleError.FileExists(each.path);
                var above = parent is null ? null : World.Files.Chain(host, parent)[0].Disk;
                var disk = new DiskFile { Id = Guid.NewGuid(), Type = type, Size = above?.Size ?? (long)size, Parent = parent, ParentId = above?.Id };
                World.Files.Write(host, each.path, disk);
                return Show(state, host, each.path, disk);
            });
            Output.Add(made);
            Answer(host.Name);
        });
    }

    private async Task GetVHDAsync()
    {
        if (Bound.Has("DiskNumber"))
            throw new NotDoubledException(@"Hyper-V\Get-VHD -DiskNumber");
        var (paths, ids) = (Bound.All<string>("Path"), Bound.All<Guid>("VMId"));
        await EachAsync(Computers(), async computer =>
        {
            var host = await ReachAsync(computer, change: false);
            var all = paths.Concat(World.Read(state => ids.SelectMany(id => Find(state, host, id).Disks.Select(disk => disk.Path)).ToArray())).ToArray();
            await EachAsync(all, path =>
            {
                Output.Add(World.Read(state => Show(state, host, path, World.Files.Read(host, path))));
                return Task.CompletedTask;
            });
        });
    }

    private async Task SetVHDAsync()
    {
        var (path, parent, ignore, pass) = (Bound.Get<string>("Path")!, Bound.Get<string>("ParentPath"), Bound.Is("IgnoreIdMismatch"), Bound.Is("Passthru"));
        if (parent is null)
            throw new NotDoubledException(@"Hyper-V\Set-VHD for anything but a parent");
        await EachAsync(Computers(), async computer =>
        {
            var host = await ReachAsync(computer);
            World.Change(state =>
            {
                var disk = World.Files.Read(host, path);
                if (disk.Parent is null)
                    throw DoubleError.Failed($"The virtual hard disk '{path}' is not a differencing disk. (0x80070057).", unchecked((int)0x80070057));
                var above = World.Files.Chain(host, parent)[0].Disk;
                if (!ignore && above.Id != disk.ParentId)
                    throw DoubleError.Failed($"The parent virtual hard disk '{parent}' is not the one that '{path}' was made on: their identifiers do not match. (0xC03A000E).", unchecked((int)0xC03A000E));
                var real = World.Files.Real(host, path);
                if (state.Machines.Values.Any(machine => machine.Runs && state.Host(machine.Host) is { } theirs && machine.Disks.Any(each => World.Files.Real(theirs, each.Path) == real)))
                    throw DoubleError.Locked(path);
                DoubleWorld.CheckFolder(state, path);
                World.Files.Write(host, path, disk with { Parent = parent, ParentId = above.Id });
            });
            if (pass)
                Output.Add(World.Read(state => Show(state, host, path, World.Files.Read(host, path))));
            Answer(host.Name);
        });
    }

    private async Task ConvertVHDAsync()
    {
        var (from, to) = (Bound.Get<string>("Path")!, Bound.Get<string>("DestinationPath")!);
        var type = Bound.Has("VHDType") ? Bound.Get<VhdType>("VHDType") : VhdType.Dynamic;
        var (delete, pass) = (Bound.Is("DeleteSource"), Bound.Is("Passthru"));
        await EachAsync(Computers(), async computer =>
        {
            var host = await ReachAsync(computer);
            await JobAsync(state =>
            {
                var chain = World.Files.Chain(host, from);
                if (World.Files.Exists(host, to))
                    throw DoubleError.FileExists(to);
                var real = World.Files.Real(host, from);
                if (state.Machines.Values.Any(machine => machine.Runs && state.Host(machine.Host) is { } theirs && machine.Disks.Any(disk => World.Files.Real(theirs, disk.Path) == real)))
                    throw DoubleError.Locked(from);
                return new JobState { Id = Guid.NewGuid(), Kind = "convert", Begun = World.Clock.GetUtcNow(), Due = World.Clock.GetUtcNow() + Time(state, chain.Sum(each => each.Disk.FileSize)), Path = to, More = new Dictionary<string, string> { ["host"] = host.Name, ["from"] = from, ["type"] = type.ToString() } };
            });
            if (delete)
                World.Files.Delete(host, from);
            if (pass)
                Output.Add(World.Read(state => Show(state, host, to, World.Files.Read(host, to))));
            Answer(host.Name);
        });
    }

    private Task AddVMHardDiskDriveAsync()
    {
        var path = Bound.Get<string>("Path");
        _ = Bound.Has("ControllerType") | Bound.Has("ControllerNumber") | Bound.Has("ControllerLocation");
        return EachVMAsync((state, host, machine) =>
        {
            if (path is not null)
                World.Files.Chain(host, path);
            return machine with { Disks = [.. machine.Disks, new DiskState(path ?? "", Location: machine.Disks.Count)] };
        });
    }

    private async Task RemoveVMHardDiskDriveAsync()
    {
        var drives = Bound.All<HardDiskDrive>("VMHardDiskDrive");
        if (drives.Count == 0)
            throw new NotDoubledException(@"Hyper-V\Remove-VMHardDiskDrive by controller");
        await EachAsync(drives, async drive =>
        {
            var host = await ReachAsync(drive.ComputerName);
            World.Change(state =>
            {
                var found = Idle(state, host, drive.VMId);
                state.Put(found with { Disks = [.. found.Disks.Where(disk => disk.Path != drive.Path)] });
            });
        });
    }

    private Task AddVMDvdDriveAsync()
    {
        var path = Bound.Get<string>("Path") ?? "";
        return EachVMAsync((state, host, machine) =>
        {
            if (machine.Iso is not null)
                throw new NotDoubledException(@"Hyper-V\Add-VMDvdDrive for a second drive");
            if (Idle(state, host, machine.Id).State is not (VMState.Off or VMState.Running) || (machine.Generation == 1 && machine.State != VMState.Off))
                throw DoubleError.WrongState(machine.Name, machine.State);
            return machine with { Iso = Disc(host, path) };
        });
    }

    private async Task SetVMDvdDriveAsync()
    {
        var (drives, path) = (Bound.All<DvdDrive>("VMDvdDrive"), Bound.Get<string>("Path") ?? "");
        if (drives.Count == 0 || !Bound.Has("Path"))
            throw new NotDoubledException(@"Hyper-V\Set-VMDvdDrive by controller, or to another one");
        await EachAsync(drives, async drive =>
        {
            var host = await ReachAsync(drive.ComputerName);
            World.Change(state =>
            {
                var found = Idle(state, host, drive.VMId);
                if (found.State is not (VMState.Off or VMState.Running or VMState.Paused))
                    throw DoubleError.WrongState(found.Name, found.State);
                state.Put(found with { Iso = Disc(host, path) });
            });
            Answer(host.Name);
        });
    }

    private string Disc(HostState host, string path) => path.Length == 0 || World.Files.Exists(host, path) ? path : throw DoubleError.NoFile(path);

    private Task ConnectVMNetworkAdapterAsync()
    {
        var (network, name) = (Bound.Get<string>("SwitchName"), Bound.All<string>("Name"));
        return EachVMAsync((_, host, machine) => network is null || !host.Switches.Contains(network, StringComparer.OrdinalIgnoreCase) ? throw DoubleError.NotFound(network ?? "", "virtual switch")
            : machine with { Adapters = [.. machine.Adapters.Select(adapter => name.Count == 0 || name.Any(each => Like(each, adapter.Name)) ? adapter with { Switch = network } : adapter)] });
    }

    private Task MeasureVMAsync() => ListVMAsync((state, host, machine) => !machine.Metering
        ? throw DoubleError.Failed($"Resource metering is not enabled for '{machine.Name}'.")
        : [new VMMeteringReportForVirtualMachine
        {
            ComputerName = host.Name,
            VMId = machine.Id,
            VMName = machine.Name,
            AverageProcessorUsage = machine.Runs ? (int)machine.MeanMegahertz : 0,
            AverageMemoryUsage = (int)(machine.MemoryBytes >> 20),
            MinimumMemoryUsage = (int)(machine.MemoryBytes >> 20),
            MaximumMemoryUsage = (int)(machine.MemoryBytes >> 20),
            MeteringDuration = World.Clock.GetUtcNow() - machine.MeteringSince,
        }]);

    private async Task WaitVMAsync()
    {
        var (what, timeout) = (Bound.Has("For") ? Bound.Get<WaitVMTypes>("For") : WaitVMTypes.Heartbeat, Bound.Get<int>("Timeout"));
        _ = Bound.Has("Delay");
        var until = timeout > 0 ? World.Clock.GetUtcNow() + TimeSpan.FromSeconds(timeout) : DateTimeOffset.MaxValue;
        await ChangeVMAsync(async (host, machine) =>
        {
            while (!World.Read(state => Find(state, host, machine.Id) is { State: VMState.Running, Hung: false } found && World.Clock.GetUtcNow() >= found.ReadyAt))
            {
                if (World.Clock.GetUtcNow() >= until)
                    throw new DoubleError("Timeout", "OperationTimeout", unchecked((int)0x800705B4), $"The operation timed out while waiting for {what} of '{machine.Name}'.");
                await DelayAsync(TimeSpan.FromMilliseconds(20));
            }
        });
    }

    /// <summary>The machines that a command names by object, name or id, in order; what is not there is told.</summary>
    private async Task<IReadOnlyList<(HostState Host, Guid Id)>> MachinesAsync(bool change = true, bool single = false)
    {
        var found = new List<(HostState, Guid)>();
        var objects = Bound.All<VirtualMachine>("VM").Select(vm => (vm.ComputerName, vm.Id, vm.Name))
            .Concat(Bound.All<VMNetworkAdapter>("VMNetworkAdapter").Select(adapter => (adapter.ComputerName, adapter.VMId, adapter.VMName))).ToArray();
        if (objects.Length > 0)
        {
            foreach (var group in objects.GroupBy(vm => vm.ComputerName))
            {
                HostState host;
                try
                {
                    host = await ReachAsync(group.Key, change);
                }
                catch (DoubleError error)
                {
                    Errors.Add(error);
                    continue;
                }

                foreach (var (_, id, name) in group)
                {
                    if (World.Read(state => state.Machine(host.Name, id)) is null)
                        Errors.Add(DoubleError.NoObject($"'{name}' ({id}) on {host.Name}"));
                    else
                        found.Add((host, id));
                }
            }

            return found;
        }

        var names = Bound.All<string>(Bound.Command.Parameters.ContainsKey("VMName") ? "VMName" : "Name");
        foreach (var computer in Computers())
        {
            HostState host;
            try
            {
                host = await ReachAsync(computer, change);
            }
            catch (DoubleError error)
            {
                Errors.Add(error);
                continue;
            }

            foreach (var name in names)
            {
                var ids = World.Read(state => host.CanRead ? state.On(host.Name).Where(machine => Like(name, machine.Name)).Select(machine => machine.Id).ToArray() : []);
                if (ids.Length == 0 && !name.Contains('*', StringComparison.Ordinal))
                    Errors.Add(DoubleError.NotFound(name));
                if (single && ids.Length > 1)
                    throw DoubleError.NotUnique(name);
                found.AddRange(ids.Select(id => (host, id)));
            }
        }

        return found;
    }

    private async Task ChangeVMAsync(Func<HostState, MachineState, Task> act, bool? pass = null)
    {
        var passes = pass ?? (Bound.Command.Parameters.ContainsKey("Passthru") && Bound.Is("Passthru"));
        await EachAsync(await MachinesAsync(), async each =>
        {
            await act(each.Host, World.Read(state => Find(state, each.Host, each.Id)));
            if (passes)
                Output.Add(World.Read(state => Show(state, state.Host(each.Host.Name)!, Find(state, each.Host, each.Id))));
            Answer(each.Host.Name);
        });
    }

    private Task EachVMAsync(Func<WorldState, HostState, MachineState, MachineState> change) => ChangeVMAsync((host, machine) =>
    {
        World.Change(state => state.Put(change(state, host, Find(state, host, machine.Id))));
        return Task.CompletedTask;
    });

    private async Task ListVMAsync(Func<WorldState, HostState, MachineState, IEnumerable<object>> list)
    {
        if (Bound.Command.Parameters.ContainsKey("All") && Bound.Is("All"))
        {
            await EachAsync(Computers(), async computer =>
            {
                var host = await ReachAsync(computer, change: false);
                Output.AddRange(World.Read(state => host.CanRead ? state.On(host.Name).SelectMany(machine => list(state, host, machine)).ToArray() : []));
            });
            return;
        }

        await EachAsync(await MachinesAsync(change: false), each =>
        {
            Output.AddRange(World.Read(state => list(state, each.Host, Find(state, each.Host, each.Id)).ToArray()));
            return Task.CompletedTask;
        });
    }

    private static MachineState Find(WorldState state, HostState host, Guid id) => state.Machine(host.Name, id) ?? throw DoubleError.NoObject($"a virtual machine with the identifier {id} on {host.Name}");

    private static MachineState Idle(WorldState state, HostState host, Guid id)
    {
        var machine = Find(state, host, id);
        return machine.Job is null ? machine : throw DoubleError.WrongState(machine.Name, machine.State is VMState.Running or VMState.Off or VMState.Saved ? "in use by another operation" : machine.State);
    }

    private static DoubleError Backup(MachineState machine) => new("InvalidState", "InvalidOperation", 0, $"The operation on '{machine.Name}' cannot be performed while it is being backed up.");

    private static TimeSpan Time(WorldState state, long bytes) => TimeSpan.FromSeconds(Math.Max(bytes, 1) / (double)state.Set.Bandwidth);

    private JobState Begin(WorldState state, string kind, HostState host, MachineState machine, TimeSpan time, Dictionary<string, string> more)
    {
        more["host"] = host.Name;
        var now = World.Clock.GetUtcNow();
        var job = new JobState { Id = Guid.NewGuid(), Kind = kind, Machine = machine.Id, Begun = now, Due = now + time, More = more };
        state.Put(machine with { Job = job.Id });
        return job;
    }

    private static async Task Then(Task task, Action then)
    {
        await task;
        then();
    }

    private string Text(WorldState state, string english) => state.Set.Language == "de" && s_german.TryGetValue(english, out var german) ? german : english;

    private VirtualMachine Show(WorldState state, HostState host, MachineState machine)
    {
        var now = World.Clock.GetUtcNow();
        var operation = machine.Job is { } id ? state.Jobs.Get(id.ToString())?.Kind : null;
        return new VirtualMachine
        {
            ComputerName = host.Name,
            Name = machine.Name,
            Id = machine.Id,
            State = machine.Critical ?? machine.State,
            Status = Text(state, operation == "move" ? "Migrating" : "Operating normally"),
            OperationalStatus = machine.BackupRuns ? [VMOperationalStatus.InService, VMOperationalStatus.BackingUpVirtualMachine] : machine.Merges ? [VMOperationalStatus.InService, VMOperationalStatus.MergingDisks] : operation switch
            {
                "move" or "storage" => [VMOperationalStatus.InService, VMOperationalStatus.MigratingVirtualMachine],
                "export" => [VMOperationalStatus.InService, VMOperationalStatus.ExportingVirtualMachine],
                "merge" => [VMOperationalStatus.InService, VMOperationalStatus.MergingDisks],
                _ => [VMOperationalStatus.Ok],
            },
            StatusDescriptions = [Text(state, "Operating normally")],
            Uptime = machine.Runs ? now - machine.StartedAt : TimeSpan.Zero,
            MemoryStartup = machine.MemoryBytes,
            MemoryAssigned = !machine.Runs ? 0 : machine.DynamicMemory ? machine.AssignedBytes ?? machine.MemoryBytes : machine.MemoryBytes,
            MemoryDemand = machine.Runs ? machine.MemoryBytes * 3 / 4 : 0,
            MemoryMinimum = machine.MinimumBytes,
            MemoryMaximum = machine.MaximumBytes,
            DynamicMemoryEnabled = machine.DynamicMemory,
            ProcessorCount = machine.Cores,
            CPUUsage = machine.Runs ? (int)Math.Min(100, machine.MeanMegahertz / 25 / machine.Cores) : 0,
            Generation = machine.Generation,
            Version = machine.Version,
            Notes = machine.Notes,
            Path = machine.Path,
            HardDrives = Drives(host, machine).Cast<HardDiskDrive>().ToArray(),
            NetworkAdapters = Adapters(state, host, machine).Cast<VMNetworkAdapter>().ToArray(),
            DVDDrives = [.. DvdDrives(host, machine)],
            IsClustered = state.Groups.Values.Any(group => group.Machine == machine.Id),
            CreationTime = machine.Created.LocalDateTime,
            ParentCheckpointId = machine.ParentCheckpoint,
            ReplicationState = machine.Replication,
            ReplicationMode = machine.IsReplica ? VMReplicationMode.Replica : machine.IsTestReplica ? VMReplicationMode.TestReplica : machine.Replication == VMReplicationState.Disabled ? VMReplicationMode.None : VMReplicationMode.Primary,
            ResourceMeteringEnabled = machine.Metering,
            Heartbeat = machine.State != VMState.Running || !machine.IntegrationServices ? null : machine.Hung ? VMHeartbeatStatus.LostCommunication : now < machine.ReadyAt ? VMHeartbeatStatus.NoContact : VMHeartbeatStatus.OkApplicationsHealthy,
            AutomaticStartAction = machine.StartAction,
            AutomaticStopAction = machine.StopAction,
        };
    }

    private static VMSnapshot Show(HostState host, MachineState machine, CheckpointState checkpoint) => new()
    {
        ComputerName = host.Name,
        VMId = machine.Id,
        VMName = machine.Name,
        Id = checkpoint.Id,
        Name = checkpoint.Name,
        CreationTime = checkpoint.Created.LocalDateTime,
        ParentCheckpointId = checkpoint.Parent,
        SnapshotType = checkpoint.Type,
        Path = machine.Path,
        HardDrives = [.. checkpoint.Disks.Select(disk => new HardDiskDrive { ComputerName = host.Name, VMId = machine.Id, VMName = machine.Name, Path = disk.Path })],
    };

    private VirtualHardDisk Show(WorldState state, HostState host, string path, DiskFile disk)
    {
        var real = World.Files.Real(host, path);
        return new VirtualHardDisk
        {
            ComputerName = host.Name,
            Path = path,
            VhdType = disk.Type,
            Size = (ulong)disk.Size,
            FileSize = (ulong)disk.FileSize,
            ParentPath = disk.Parent ?? "",
            DiskIdentifier = disk.Id.ToString().ToUpperInvariant(),
            Attached = state.On(host.Name).Any(machine => machine.Runs && machine.Disks.Any(each => World.Files.Real(host, each.Path) == real)),
        };
    }

    private static IEnumerable<DvdDrive> DvdDrives(HostState host, MachineState machine) => machine.Iso is null ? []
        : [new DvdDrive { ComputerName = host.Name, VMId = machine.Id, VMName = machine.Name, Path = machine.Iso.Length == 0 ? null : machine.Iso, ControllerNumber = machine.Generation == 1 ? 1 : 0, ControllerLocation = machine.Generation == 1 ? 0 : 1 }];

    private static IEnumerable<object> Drives(HostState host, MachineState machine) => machine.Disks.Select(disk => new HardDiskDrive { ComputerName = host.Name, VMId = machine.Id, VMName = machine.Name, Path = disk.Path, ControllerType = disk.Controller, ControllerNumber = disk.Number, ControllerLocation = disk.Location })
        .Concat(machine.HostDisk is { } number ? [new HardDiskDrive { ComputerName = host.Name, VMId = machine.Id, VMName = machine.Name, DiskNumber = number, ControllerNumber = 0, ControllerLocation = 5 }] : Array.Empty<object>());

    private IEnumerable<object> Adapters(WorldState state, HostState host, MachineState machine)
    {
        var name = Bound.Command.Name == "Get-VMNetworkAdapter" ? Bound.Get<string>("Name") : null;
        var told = machine.State == VMState.Running && machine.IntegrationServices && World.Clock.GetUtcNow() >= machine.ReadyAt;
        return machine.Adapters.Where(adapter => name is null || Like(name, adapter.Name)).Select(adapter => new VMNetworkAdapter
        {
            ComputerName = host.Name,
            VMId = machine.Id,
            VMName = machine.Name,
            Id = $@"{adapter.Id}\{machine.Id.ToString().ToUpperInvariant()}",
            Name = adapter.Name,
            SwitchName = adapter.Switch,
            Connected = adapter.Switch is not null,
            MacAddress = adapter.Mac,
            IPAddresses = machine.Tells is { } tells ? [.. tells] : told && adapter.Switch is not null && DoubleWorld.AddressOf(state, machine) is { } address ? [address, $"fe80::{machine.Address:x}"] : [],
            Status = Text(state, "OK"),
        });
    }

    private IEnumerable<object> Integration(WorldState state, HostState host, MachineState machine)
    {
        var names = Bound.All<string>("Name");
        var answers = machine.State == VMState.Running && !machine.Hung && machine.IntegrationServices && World.Clock.GetUtcNow() >= machine.ReadyAt;
        var services = state.Set.Language == "de" ? new[] { "Takt", "Herunterfahren", "Zeitsynchronisierung" } : ["Heartbeat", "Shutdown", "Time Synchronization"];
        var ids = new[] { "84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47", "9F8233AC-BE49-4C79-8EE3-E7E1985B2077", "2497F4DE-E9FA-4204-80E4-4B75C46419C0" };
        return services.Zip(ids).Where(each => names.Count == 0 || names.Any(name => Like(name, each.First))).Select(each => new VMIntegrationComponent
        {
            ComputerName = host.Name,
            VMId = machine.Id,
            VMName = machine.Name,
            Name = each.First,
            Id = $@"Microsoft:{machine.Id.ToString().ToUpperInvariant()}\{each.Second}",
            Enabled = machine.IntegrationServices,
            PrimaryStatusDescription = answers ? "OK" : "",
            OperationalStatus = answers ? [VMOperationalStatus.Ok] : [],
        });
    }
}
