using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using Microsoft.HyperV.PowerShell;
using Microsoft.Vhd.PowerShell;

namespace VMatrix.Doubles;

/// <summary>What becomes of long operations when their time has come, whoever looks next.</summary>
public sealed partial class DoubleWorld
{
    private void Settle(WorldState state)
    {
        while (state.Jobs.Values.Where(job => !job.Done && job.Due <= Now).OrderBy(job => job.Due).FirstOrDefault() is { } job)
        {
            JobState ended;
            try
            {
                Effect(state, job);
                ended = job with { Done = true };
            }
            catch (DoubleError error)
            {
                ended = job with { Done = true, Error = error.Message, ErrorId = error.Id, More = new Dictionary<string, string>(job.More) { ["code"] = error.Code.ToString(CultureInfo.InvariantCulture) } };
                foreach (var machine in state.Machines.Values.Where(machine => machine.Job == job.Id).ToArray())
                    state.Put(machine with { Job = null, State = machine.State == VMState.Saving ? VMState.Running : machine.State == VMState.Starting ? job.More.ContainsKey("saved") ? VMState.Saved : VMState.Off : machine.State });
            }

            state.Put(ended);
        }

        if (state.Jobs.Values.Count > 64)
        {
            foreach (var old in state.Jobs.Values.Where(job => job.Done && job.Due < Now - TimeSpan.FromMinutes(1)).ToArray())
                state.Jobs.Remove(old.Id.ToString());
        }
    }

    private void Effect(WorldState state, JobState job)
    {
        var host = state.Host(job.More.GetValueOrDefault("host", ""));
        var machine = host is null ? null : state.Machine(host.Name, job.Machine);
        if (host is { Mood: HostMood.Down })
            throw DoubleError.Unreachable(host.Name);
        if (job.Kind is not ("import" or "convert" or "managed") && (machine is null || machine.Job != job.Id))
            throw DoubleError.Failed("The virtual machine has changed while the operation was under way.");
        switch (job.Kind)
        {
            case "start":
                state.Put(Started(state, machine! with { State = job.More.ContainsKey("saved") ? VMState.Saved : VMState.Off }));
                break;
            case "save":
                state.Put(machine! with { State = VMState.Saved, SavedOn = host!.ProcessorFamily, Hung = false, Job = null });
                break;
            case "stop":
                state.Put(PoweredOff(machine!));
                break;
            case "move" when job.More.ContainsKey("vmm") && state.Set.LyingMoves > 0:
                state.Settings.Put("world", state.Set with { LyingMoves = state.Set.LyingMoves - 1 });
                state.Put(machine! with { Job = null });
                break;
            case "move":
                Moved(state, job, host!, machine!);
                break;
            case "storage":
                var (moved, old) = Relocated(state, machine!, host!, host!, job.Path!);
                state.Put(moved with { Job = null });
                old();
                break;
            case "export":
                Exported(state, job, host!, machine!);
                state.Put(machine! with { Job = null });
                break;
            case "import":
                state.Put(Imported(state, job, host!));
                break;
            case "merge":
                state.Put(Merged(state, machine!, host!, Guid.Parse(job.More["checkpoint"])) with { Job = null });
                break;
            case "convert":
                Converted(host!, job.More["from"], job.Path!, job.More["type"]);
                break;
        }

        if (job.Kind == "vmm-new")
            Stored(state, job, host!, machine!);
    }

    private void Moved(WorldState state, JobState job, HostState host, MachineState machine)
    {
        var to = state.Host(job.Target!)!;
        if (to.Mood != HostMood.Up || host.Mood != HostMood.Up)
            throw DoubleError.Unreachable(to.Mood != HostMood.Up ? to.Name : host.Name);
        CheckMemory(state, to, machine);
        var moved = machine;
        var old = () => { };
        if (job.Path is { } path)
            (moved, old) = Relocated(state, machine, host, to, path);
        else if (Files.Real(host, ConfigurationOf(machine)) != Files.Real(to, ConfigurationOf(machine)))
        {
            var target = DiskFiles.Join(to.MachinePath, machine.Name);
            moved = machine with { Path = target };
            old = () => Files.Delete(host, ConfigurationOf(machine));
        }

        moved = moved with { Host = to.Name, Job = null };
        Files.WriteAs(to, ConfigurationOf(moved), moved);
        state.Remove(machine);
        state.Put(moved);
        old();
    }

    internal static void CheckMemory(WorldState state, HostState host, MachineState machine)
    {
        if (machine.Runs || machine.State == VMState.Starting)
        {
            var used = state.On(host.Name).Where(other => other.Runs && other.Id != machine.Id).Sum(other => other.MemoryBytes);
            if (used + machine.MemoryBytes > host.MemoryBytes)
                throw DoubleError.OutOfMemory(machine.Name, machine.MemoryBytes >> 20);
        }
    }

    /// <summary>A machine with its files below another folder, and what removes the old ones once it is put.</summary>
    private (MachineState Machine, Action Old) Relocated(WorldState state, MachineState machine, HostState from, HostState to, string path)
    {
        var deletes = new List<Action>();
        var disks = machine.Disks.Select(disk =>
        {
            var target = DiskFiles.Join(path, "Virtual Hard Disks", DiskFiles.NameOf(disk.Path));
            if (Files.Real(from, disk.Path) == Files.Real(to, target))
                return disk;
            Files.Write(to, target, Files.Read(from, disk.Path));
            deletes.Add(() => Files.Delete(from, disk.Path));
            return disk with { Path = target };
        }).ToArray();
        var moved = machine with { Path = path, Disks = disks, Host = to.Name };
        Files.WriteAs(to, ConfigurationOf(moved), moved);
        if (Files.Real(from, ConfigurationOf(machine)) != Files.Real(to, ConfigurationOf(moved)))
            deletes.Add(() => Files.Delete(from, ConfigurationOf(machine)));
        return (moved, () => deletes.ForEach(delete => delete()));
    }

    // All disks with those that they differ from go into one folder, and name each other there.
    private void Exported(WorldState state, JobState job, HostState host, MachineState machine)
    {
        // Its folders are there by now: one that fails leaves what it has made.
        var folder = job.Path!;
        CheckFolder(state, folder);
        DiskState CopyChain(DiskState disk)
        {
            var chain = Files.Chain(host, disk.Path);
            foreach (var (path, file) in chain)
            {
                // All go into one folder, whatever folders they come from.
                var to = DiskFiles.Join(folder, "Virtual Hard Disks", DiskFiles.NameOf(path));
                if (Files.Exists(host, to) && Files.Read(host, to).Id != file.Id)
                    throw DoubleError.FileExists(to);
                Files.Write(host, to, file with
                {
                    Parent = file.Parent is { } parent ? DiskFiles.Join(folder, "Virtual Hard Disks", DiskFiles.NameOf(parent)) : null,
                });
            }

            return disk with { Path = "Virtual Hard Disks/" + DiskFiles.NameOf(disk.Path) };
        }

        var live = machine.Runs;
        var exported = machine with
        {
            Disks = [.. machine.Disks.Select(CopyChain)],
            Checkpoints = [.. machine.Checkpoints.Select(checkpoint => checkpoint with { Disks = [.. checkpoint.Disks.Select(CopyChain)] })],
            Path = "",
            Job = null,
            Address = machine.Address,
            State = live ? job.More.GetValueOrDefault("capture") == nameof(CaptureLiveState.CaptureSavedState) ? VMState.Saved : VMState.Off : machine.State,
            SavedOn = live && job.More.GetValueOrDefault("capture") == nameof(CaptureLiveState.CaptureSavedState) ? host.ProcessorFamily : machine.SavedOn,
        };
        Files.WriteAs(host, DiskFiles.Join(folder, "Virtual Machines", $"{machine.Id.ToString().ToUpperInvariant()}.vmcx"), exported);
    }

    private MachineState Imported(WorldState state, JobState job, HostState host)
    {
        var source = Files.ReadAs<MachineState>(host, job.More["from"]) ?? throw DoubleError.NoFile(job.More["from"]);
        var root = DiskFiles.Parent(DiskFiles.Parent(job.More["from"]));
        var copies = job.More.ContainsKey("copy");
        var id = job.Machine;
        if (state.Machine(host.Name, id) is not null)
            throw DoubleError.Failed($"The operation failed because a virtual machine with the identifier {id} already exists. (0x800700B7).", unchecked((int)0x800700B7));
        var target = copies ? job.Path! : root;
        DiskState Place(DiskState disk)
        {
            var from = At(root, disk.Path);
            if (!copies)
                return disk with { Path = from };
            var folder = job.More.GetValueOrDefault("disks") ?? host.DiskPath;
            foreach (var (path, file) in Files.Chain(host, from))
            {
                var to = DiskFiles.Join(folder, DiskFiles.NameOf(path));
                if (Files.Exists(host, to) && Files.Read(host, to).Id != file.Id)
                    throw DoubleError.FileExists(to);
                Files.Write(host, to, file with { Parent = file.Parent is { } parent ? DiskFiles.Join(folder, DiskFiles.NameOf(parent)) : null });
            }

            return disk with { Path = DiskFiles.Join(folder, DiskFiles.NameOf(from)) };
        }

        var machine = source with
        {
            Id = id,
            Host = host.Name,
            Path = target,
            Disks = [.. source.Disks.Select(Place)],
            Checkpoints = [.. source.Checkpoints.Select(checkpoint => checkpoint with { Disks = [.. checkpoint.Disks.Select(Place)] })],
            Address = id == source.Id ? source.Address : 0,
            Job = null,
        };
        Files.WriteAs(host, ConfigurationOf(machine), machine);
        return machine;
    }

    internal static string At(string root, string path) => path.StartsWith("Virtual Hard Disks/", StringComparison.Ordinal) ? DiskFiles.Join(root, "Virtual Hard Disks", DiskFiles.NameOf(path)) : path;

    // A checkpoint's disks become what differs from them; the machine's own go on where the checkpoint's were.
    private MachineState Merged(WorldState state, MachineState machine, HostState host, Guid checkpoint)
    {
        var gone = machine.Checkpoints.FirstOrDefault(each => each.Id == checkpoint) ?? throw DoubleError.NoObject(checkpoint.ToString());
        var disks = machine.Disks.ToArray();
        for (var i = 0; i < disks.Length; i++)
        {
            var leaf = Files.Read(host, disks[i].Path);
            var below = gone.Disks.FirstOrDefault(disk => leaf.Parent is { } parent && Files.Real(host, disk.Path) == Files.Real(host, parent));
            if (below is null)
                continue;
            var under = Files.Read(host, below.Path);
            Files.Write(host, below.Path, under with { Writes = [.. under.Writes, .. leaf.Writes], FileSize = under.FileSize + leaf.FileSize });
            Files.Delete(host, disks[i].Path);
            disks[i] = disks[i] with { Path = below.Path };
        }

        return machine with
        {
            Disks = disks,
            Checkpoints = [.. machine.Checkpoints.Where(each => each.Id != checkpoint).Select(each => each.Parent == checkpoint ? each with { Parent = gone.Parent } : each)],
            ParentCheckpoint = machine.ParentCheckpoint == checkpoint ? gone.Parent : machine.ParentCheckpoint,
        };
    }

    private void Converted(HostState host, string from, string to, string type)
    {
        var chain = Files.Chain(host, from);
        Files.Write(host, to, new DiskFile
        {
            Id = Guid.NewGuid(),
            Type = Enum.Parse<VhdType>(type),
            Size = chain[0].Disk.Size,
            FileSize = chain.Sum(each => each.Disk.FileSize),
            Writes = [.. chain.Reverse().SelectMany(each => each.Disk.Writes)],
        });
    }

    // A machine that SCVMM makes is there from the beginning and has its disks at the end.
    private void Stored(WorldState state, JobState job, HostState library, MachineState machine)
    {
        var disks = new List<DiskState>();
        if (job.More.TryGetValue("disk", out var disk))
        {
            disks.Add(Copy(state.Host(job.More.GetValueOrDefault("from", library.Name))!, disk));
        }
        else
        {
            var source = state.Machine(job.More["sourceHost"], Guid.Parse(job.More["source"])) ?? throw new DoubleError("801", "ObjectNotFound", 0, "VMM cannot find VM object.");
            disks.AddRange(source.Disks.Select(each => Copy(state.Host(source.Host)!, each.Path)));
        }

        state.Put(machine with { Disks = disks, Job = null });

        DiskState Copy(HostState from, string path)
        {
            var to = DiskFiles.Join(machine.Path, DiskFiles.NameOf(path));
            Files.Write(library, to, Files.Read(from, path) with { Id = Guid.NewGuid() });
            return new DiskState(to);
        }
    }
}
