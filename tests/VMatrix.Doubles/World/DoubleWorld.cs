using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;

namespace VMatrix.Doubles;

/// <summary>
/// Windows hosts, what runs on them and where it is kept, in a folder that several processes share. Commands work on it through
/// <see cref="DoubleShell"/> or the generated modules; tests make trouble in it through the methods here.
/// </summary>
public sealed partial class DoubleWorld
{
    /// <summary>The environment variable that names the world's folder to the generated modules.</summary>
    public const string Variable = "VMATRIX_DOUBLE_WORLD";

    /// <summary>The environment variable that names the computer which a process of the generated modules runs on; the world's first unless set.</summary>
    public const string Local = "VMATRIX_DOUBLE_LOCAL";

    private int _chances;

    public DoubleWorld(string folder, TimeProvider? clock = null)
    {
        Folder = Path.GetFullPath(folder);
        Clock = clock ?? TimeProvider.System;
        Files = new DiskFiles(Folder);
    }

    public string Folder { get; }

    public TimeProvider Clock { get; }

    public SurfaceBinder Binder { get; init; } = new();

    /// <summary>Each command that was carried out, for tests that count them.</summary>
    public Action<string>? Called { get; set; }

    internal DiskFiles Files { get; }

    private DateTimeOffset Now => Clock.GetUtcNow();

    /// <summary>Looks at the world as it is now.</summary>
    public T Read<T>(Func<WorldState, T> read) =>
        WorldFile.Open(Folder).TryRead(state => state.Jobs.Values.Any(job => !job.Done && job.Due <= Now), read, out var result) ? result! : Change(read);

    public void Change(Action<WorldState> change) => Change(state =>
    {
        change(state);
        return true;
    });

    public T Change<T>(Func<WorldState, T> change) => WorldFile.Open(Folder).Change(state =>
    {
        Settle(state);
        return change(state);
    });

    /// <summary>Drops what this process has read, as one that has just started.</summary>
    public void Forget() => WorldFile.Forget(Folder);

    public void Configure(Func<WorldSettings, WorldSettings> change) => Change(state => state.Settings.Put("world", change(state.Set)));

    /// <summary>How long guests take to boot and to wake, and how many bytes are saved, read or sent in a second.</summary>
    public void SetTimes(TimeSpan boot, TimeSpan wake, long bandwidth) => Configure(settings => settings with { BootTime = boot, WakeTime = wake, Bandwidth = bandwidth });

    public void AddHost(string name) => AddHost(new HostState { Name = name });

    public void AddHost(HostState host) => Change(state => state.Put(host));

    /// <summary>Changes a host. One that goes down takes its machines with it; when it comes up it starts again those that ran, unless told otherwise, as Hyper-V does.</summary>
    public void SetHost(string name, Func<HostState, HostState> change) => Change(state =>
    {
        var before = state.Host(name) ?? throw new ArgumentException($"No host {name}.", nameof(name));
        var after = change(before);
        state.Put(after);
        if (after.Mood == HostMood.Down && before.Mood != HostMood.Down)
        {
            foreach (var machine in state.On(name).Where(machine => machine.Runs).ToArray())
                state.Put(PoweredOff(machine) with { RanBefore = true });
        }
        else if (after.Mood == HostMood.Up && before.Mood == HostMood.Down)
        {
            foreach (var machine in state.On(name).Where(machine => machine.RanBefore).ToArray())
            {
                var cold = machine with { RanBefore = false };
                state.Put(machine.StartAction == StartAction.StartIfRunning ? Started(state, cold) : cold);
            }
        }
    });

    /// <summary>Gives or takes the caller's right to see machines on a host.</summary>
    public void SetReadable(string host, bool readable) => SetHost(host, state => state with { CanRead = readable });

    /// <summary>Switches a host off with all that runs on it, or on again.</summary>
    public void SetDown(string host, bool down) => SetHost(host, state => state with { Mood = down ? HostMood.Down : HostMood.Up });

    /// <summary>The machine of an id; fails when there is none, or several.</summary>
    public MachineState Machine(Guid id) => Read(state => state.Machines.Values.Single(machine => machine.Id == id));

    public IReadOnlyList<MachineState> Machines => Read(state => state.Machines.Values.ToArray());

    /// <summary>Changes a machine as another administrator does.</summary>
    public void SetMachine(Guid id, Func<MachineState, MachineState> change) => Change(state =>
    {
        foreach (var machine in state.Machines.Values.Where(machine => machine.Id == id).ToArray())
        {
            state.Remove(machine);
            state.Put(change(machine));
        }
    });

    /// <summary>Puts a virtual hard disk into a library of SCVMM.</summary>
    public void AddLibraryDisk(string library, string name, long size = 4L << 30) => Change(state =>
    {
        var host = state.Host(library)!;
        var path = DiskFiles.Join(host.MachinePath, "VHDs", name);
        Files.Write(host, path, new DiskFile { Id = Guid.NewGuid(), Size = size });
        var disk = new ManagedState { Id = Guid.NewGuid(), Kind = "vhd", Name = name, More = new Dictionary<string, string> { ["library"] = library, ["path"] = path, ["modified"] = Now.UtcDateTime.ToString("O", System.Globalization.CultureInfo.InvariantCulture) } };
        state.Managed.Put(disk.Id.ToString(), disk);
    });

    /// <summary>Makes a template of SCVMM from a disk of its library.</summary>
    public void AddTemplate(string name, string disk) => Change(state =>
    {
        var of = state.Managed.Values.First(each => each.Kind == "vhd" && each.Name == disk);
        state.Managed.Put("template/" + name, of with { Id = Guid.NewGuid(), Kind = "template", Name = name });
    });

    /// <summary>Deletes a machine behind everybody's back, disks and all.</summary>
    public void DeleteMachine(Guid id) => Change(state =>
    {
        foreach (var machine in state.Machines.Values.Where(machine => machine.Id == id).ToArray())
        {
            var host = state.Host(machine.Host)!;
            foreach (var disk in machine.Disks)
                Files.Delete(host, disk.Path);
            Files.Delete(host, ConfigurationOf(machine));
            state.Remove(machine);
        }
    });

    /// <summary>Ends a machine as a crash of its worker process does: its memory is lost.</summary>
    public void Crash(Guid id) => SetMachine(id, machine => machine.Runs ? PoweredOff(machine) : machine);

    /// <summary>Makes a guest hang: the machine runs and does not answer.</summary>
    public void Hang(Guid id) => SetMachine(id, machine => machine.Runs ? machine with { Hung = true } : machine);

    /// <summary>Puts a machine of somebody else on a host. Returns its id.</summary>
    public Guid AddForeign(string host, string name, string notes = "", VMState machineState = VMState.Running, long memoryBytes = 512L << 20) => Change(state =>
    {
        var on = state.Host(host)!;
        var machine = NewMachine(state, on, name, DiskFiles.Join(on.MachinePath, name)) with { Notes = notes, MemoryBytes = memoryBytes };
        machine = machine with { Disks = [NewDisk(on, DiskFiles.Join(on.DiskPath, $"{name}-{machine.Id:N}.vhdx"))] };
        state.Put(machineState == VMState.Running ? Started(state, machine) : machine with { State = machineState });
        return machine.Id;
    });

    /// <summary>Copies a machine, notes and all, to a host, as an export and an import with a new id do. Returns the copy's id.</summary>
    public Guid Clone(MachineState original, string host) => Change(state =>
    {
        var on = state.Host(host)!;
        var id = Guid.NewGuid();
        var path = DiskFiles.Join(on.MachinePath, "clone-" + id.ToString("N"));
        var from = state.Host(original.Host)!;
        var disks = original.Disks.Select(disk =>
        {
            var to = DiskFiles.Join(path, "Virtual Hard Disks", DiskFiles.NameOf(disk.Path));
            Files.Write(on, to, Files.Read(from, disk.Path) with { Id = Guid.NewGuid() });
            return disk with { Path = to };
        }).ToArray();
        state.Put(PoweredOff(original) with { Id = id, Host = on.Name, Path = path, Disks = disks, Checkpoints = [], Address = 0, Adapters = [NewAdapter(on)] });
        return id;
    });

    /// <summary>Null when what is at an address answers its health check, else why not.</summary>
    public string? Answers(string address) => Read(state =>
    {
        var machine = state.Machines.Values.FirstOrDefault(machine => machine.State == VMState.Running && $"{AddressOf(state, machine)}:{state.Set.Port}" == address);
        return machine is null ? "connection refused: no machine runs there."
            : state.Host(machine.Host)!.Mood != HostMood.Up ? $"timed out: {machine.Host} is not reached."
            : machine.Hung ? "timed out: the connection is accepted and nothing comes."
            : Now < machine.ReadyAt ? "timed out: the machine is still starting."
            : null;
    });

    /// <summary>The addresses at which something answers now, each with its machine.</summary>
    public IReadOnlyList<(string Address, MachineState Machine)> Answering() => Read(state => state.Machines.Values
        .Where(machine => machine.State == VMState.Running && !machine.Hung && Now >= machine.ReadyAt && state.Host(machine.Host)!.Mood == HostMood.Up)
        .Select(machine => ($"{AddressOf(state, machine)}:{state.Set.Port}", machine)).ToArray());

    /// <summary>What must never have happened: two live copies of a machine or of a disk, a gold disk written to.</summary>
    public IReadOnlyList<string> Violations => Read(state => state.Violations.Values.ToArray());

    internal static MachineState PoweredOff(MachineState machine) => machine with { State = VMState.Off, SavedOn = null, Hung = false, Job = null };

    internal static string ConfigurationOf(MachineState machine) => DiskFiles.Join(machine.Path, "Virtual Machines", $"{machine.Id.ToString().ToUpperInvariant()}.vmcx");

    internal static string? AddressOf(WorldState state, MachineState machine)
    {
        if (machine.GuestAddress is { } own)
            return own;
        if (machine.Address == 0)
            return null;
        return state.Set.Loopback is var network and not 0 ? $"127.{network + (machine.Address >> 16)}.{(machine.Address >> 8) & 255}.{machine.Address & 255}" : $"10.{machine.Address >> 16}.{(machine.Address >> 8) & 255}.{machine.Address & 255}";
    }

    internal MachineState NewMachine(WorldState state, HostState host, string name, string path)
    {
        var machine = new MachineState { Id = Guid.NewGuid(), Host = host.Name, Name = name, Path = path, Version = host.Versions[^1], Created = Now + host.ClockAhead, Adapters = [NewAdapter(host) with { Switch = null }] };
        Files.WriteAs(host, ConfigurationOf(machine), machine);
        return machine;
    }

    internal static AdapterState NewAdapter(HostState host)
    {
        var id = Guid.NewGuid();
        return new AdapterState { Id = $@"Microsoft:{id.ToString().ToUpperInvariant()}", Mac = "00155D" + id.ToString("N")[..6].ToUpperInvariant(), Switch = host.Switches.Count > 0 ? host.Switches[0] : null };
    }

    internal DiskState NewDisk(HostState host, string path, long size = 1L << 30)
    {
        Files.Write(host, path, new DiskFile { Id = Guid.NewGuid(), Size = size });
        return new DiskState(path);
    }

    internal long NewAddress(WorldState state)
    {
        var next = state.Set.LastAddress + 1;
        while ((next & 255) is 0 or 255)
            next++;
        state.Settings.Put("world", state.Set with { LastAddress = next });
        return next;
    }

    /// <summary>A machine as it is once it was started, cold or from its saved memory; its disks are written from now on.</summary>
    internal MachineState Started(WorldState state, MachineState machine)
    {
        var saved = machine.State == VMState.Saved;
        var host = state.Host(machine.Host)!;
        foreach (var twin in state.Machines.Values.Where(other => other.Runs && other.Id == machine.Id && !other.Host.Equals(machine.Host, StringComparison.OrdinalIgnoreCase)))
            state.Violate($"{machine.Name} ({machine.Id}) runs on {twin.Host} and on {machine.Host}.");
        foreach (var disk in machine.Disks)
        {
            var real = Files.Real(host, disk.Path);
            var file = Files.Read(host, disk.Path);
            if (state.Machines.Values.Any(other => other.Disks.Any(theirs => Above(state.Host(other.Host)!, theirs.Path).Contains(real))))
                state.Violate($"{machine.Name} writes to '{disk.Path}', which other disks differ from.");
            Files.Write(host, disk.Path, file with { Writes = [.. file.Writes.TakeLast(20), $"{machine.Id} at {Now:O}"], FileSize = file.FileSize + 4096 });
        }

        if (!saved && machine.Iso is { Length: > 0 } iso && Files.Exists(host, iso) && DiscFile.Read(File.ReadAllBytes(Files.Real(host, iso))) is { } disc)
            machine = disc.Tell(machine);
        return machine with
        {
            State = VMState.Running,
            SavedOn = null,
            Hung = false,
            Job = null,
            RanBefore = false,
            StartedAt = Now,
            ReadyAt = Now + (saved ? state.Set.WakeTime : state.Set.BootTime),
            Address = machine.Address == 0 ? NewAddress(state) : machine.Address,
        };
    }

    /// <summary>Fails with what is wrong with the folder that a path lies in.</summary>
    /// <param name="state">The world.</param>
    /// <param name="path">The path.</param>
    /// <param name="begins">True while what is done there only begins: a disk becomes full later.</param>
    internal static void CheckFolder(WorldState state, string path, bool begins = false)
    {
        if (state.Set.BadFolders.FirstOrDefault(bad => path.StartsWith(bad.Key, StringComparison.OrdinalIgnoreCase)) is { Key: not null } bad && !(begins && bad.Value == unchecked((int)0x80070070)))
            throw DoubleError.Failed($"'{path}' cannot be used. (0x{bad.Value:X8}).", bad.Value);
    }

    /// <summary>True with the given likelihood, by seed and count of calls.</summary>
    internal bool Chance(WorldState state) =>
        state.Set.FailureRate > 0 && new Random(unchecked((state.Set.Seed * 397) ^ Interlocked.Increment(ref _chances) ^ (Environment.ProcessId << 12))).NextDouble() < state.Set.FailureRate;

    // The disks that a disk differs from, as real paths; none of one that cannot be read.
    private IEnumerable<string> Above(HostState host, string path)
    {
        var found = new List<string>();
        for (var next = Files.ReadAs<DiskFile>(host, path)?.Parent; next is not null; next = Files.ReadAs<DiskFile>(host, next)?.Parent)
            found.Add(Files.Real(host, next));
        return found;
    }
}
