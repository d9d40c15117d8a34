using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using Microsoft.HyperV.PowerShell;
using Microsoft.SystemCenter.VirtualMachineManager;
using Task = System.Threading.Tasks.Task;
using TaskStatus = Microsoft.SystemCenter.VirtualMachineManager.TaskStatus;
using VmmTask = Microsoft.SystemCenter.VirtualMachineManager.Task;

namespace VMatrix.Doubles;

/// <summary>The commands of the module VirtualMachineManager.</summary>
public sealed partial class CommandCall
{
    private static void AddScvmm(Dictionary<string, Func<CommandCall, Task>> commands)
    {
        foreach (var (name, command) in new Dictionary<string, Func<CommandCall, Task>>
        {
            ["Get-SCVMMServer"] = call => call.GetSCVMMServerAsync(),
            ["Get-SCVMHost"] = call => call.GetSCVMHostAsync(),
            ["Get-SCVMHostGroup"] = call => call.GetSCVMHostGroupAsync(),
            ["Get-SCDynamicOptimizationConfiguration"] = call => call.GetSCDynamicOptimizationConfigurationAsync(),
            ["Get-SCLibraryServer"] = call => call.GetSCLibraryServerAsync(),
            ["Get-SCVirtualMachine"] = call => call.GetSCVirtualMachineAsync(),
            ["Get-SCVirtualHardDisk"] = call => call.GetSCVirtualHardDiskAsync(),
            ["Get-SCVMTemplate"] = call => call.GetSCVMTemplateAsync(),
            ["Get-SCJob"] = call => call.GetSCJobAsync(),
            ["Get-SCVMHostRating"] = call => call.GetSCVMHostRatingAsync(),
            ["New-SCVirtualMachine"] = call => call.NewSCVirtualMachineAsync(),
            ["Set-SCVirtualMachine"] = call => call.SetSCVirtualMachineAsync(),
            ["Read-SCVirtualMachine"] = call => call.OnVmAsync(null, TimeSpan.Zero),
            ["Start-SCVirtualMachine"] = call => call.StartSCVirtualMachineAsync(),
            ["Stop-SCVirtualMachine"] = call => call.StopSCVirtualMachineAsync(),
            ["Suspend-SCVirtualMachine"] = call => call.PauseSCVirtualMachineAsync(VMState.Running, VMState.Paused),
            ["Resume-SCVirtualMachine"] = call => call.PauseSCVirtualMachineAsync(VMState.Paused, VMState.Running),
            ["Move-SCVirtualMachine"] = call => call.MoveSCVirtualMachineAsync(),
            ["Save-SCVirtualMachine"] = call => call.SaveSCVirtualMachineAsync(),
            ["Remove-SCVirtualMachine"] = call => call.RemoveSCVirtualMachineAsync(),
        })
            commands.Add(@"VirtualMachineManager\" + name, command);
    }

    private static DoubleError Vmm(int code, string text, string category = "InvalidOperation") => new(code.ToString(CultureInfo.InvariantCulture), category, 0, $"{text} (Error ID: {code})");

    private async System.Threading.Tasks.Task<bool> ReachVmmAsync()
    {
        if (Bound.Has("OnBehalfOfUser") || Bound.Has("PROTipID"))
            throw new NotDoubledException($"{Bound.Command.FullName} on behalf of others");
        _ = Bound.Get<ServerConnection>("VMMServer");
        var (settings, fails) = World.Read(state => (state.Set, World.Chance(state)));
        await DelayAsync(settings.CallLatency);
        return fails ? throw Vmm(1602, $"Unable to connect to the VMM management server {settings.ManagementServer}.", "ConnectionError") : true;
    }

    private async Task GetSCVMMServerAsync()
    {
        var (name, _) = (Bound.Get<string>("ComputerName")!, Bound.Has("Credential"));
        if (!Same(name, World.Read(state => state.Set.ManagementServer)))
            throw Vmm(1602, $"Unable to connect to the VMM management server {name}.", "ConnectionError");
        await DelayAsync(TimeSpan.Zero);
        Output.Add(new ServerConnection { Name = name });
    }

    private async Task GetSCVMHostAsync()
    {
        await ReachVmmAsync();
        var name = Bound.Get<string>("ComputerName");
        Guid? id = Bound.Has("ID") ? Bound.Get<Guid>("ID") : null;
        var group = Bound.Get<HostGroup>("VMHostGroup");
        Output.AddRange(World.Read(state => state.Hosts.Values.Where(host => !host.IsLibrary && host.CanRead && (group is null || Same(host.Group, group.Path)) && (name is null || Like(name, host.Name)) && (id is null || IdOf(host.Name) == id)).Select(host => ShowHost(state, host)).ToArray()));
    }

    private async Task GetSCVMHostGroupAsync()
    {
        await ReachVmmAsync();
        if (Bound.Has("ParentHostGroup"))
            throw new NotDoubledException(@"VirtualMachineManager\Get-SCVMHostGroup -ParentHostGroup");
        var name = Bound.Get<string>("Name");
        Guid? id = Bound.Has("ID") ? Bound.Get<Guid>("ID") : null;
        Output.AddRange(World.Read(state => state.Set.HostGroups.Select(ShowGroup)
            .Where(group => (name is null || Like(name, group.Name)) && (id is null || group.ID == id)).ToArray()));
    }

    private async Task GetSCDynamicOptimizationConfigurationAsync()
    {
        await ReachVmmAsync();
        var group = Bound.Get<HostGroup>("VMHostGroup")!;
        Output.Add(World.Read(state => new DynamicOptimizationConfiguration { VMHostGroup = group, ManualMode = !state.Set.OptimizedGroups.Contains(group.Path) }));
    }

    private static HostGroup ShowGroup(string path) => new() { ID = IdOf(path), Name = path[(path.LastIndexOf('\\') + 1)..], Path = path };

    private async Task GetSCLibraryServerAsync()
    {
        await ReachVmmAsync();
        var name = Bound.Get<string>("ComputerName");
        Output.AddRange(World.Read(state => state.Hosts.Values.Where(host => host.IsLibrary && host.CanRead && (name is null || Like(name, host.Name))).Select(ShowLibrary).ToArray()));
    }

    private async Task GetSCVirtualMachineAsync()
    {
        await ReachVmmAsync();
        var (name, on) = (Bound.Get<string>("Name"), Bound.Get<Host>("VMHost"));
        Guid? id = Bound.Has("ID") ? Bound.Get<Guid>("ID") : null;
        _ = Bound.Is("All");
        Output.AddRange(World.Read(state => state.Machines.Values
            .Where(machine => state.Host(machine.Host) is { CanRead: true } && (name is null || Like(name, machine.Name)) && (id is null || machine.Id == id) && (on is null || Same(on.Name, machine.Host)))
            .OrderBy(machine => machine.Name, StringComparer.OrdinalIgnoreCase).Select(machine => ShowVm(state, machine)).ToArray()));
        if (id is not null && Output.Count == 0)
            throw Vmm(801, "VMM cannot find VM object.", "ObjectNotFound");
    }

    private async Task GetSCVirtualHardDiskAsync()
    {
        await ReachVmmAsync();
        if (Bound.Has("VM"))
            throw new NotDoubledException(@"VirtualMachineManager\Get-SCVirtualHardDisk -VM");
        var name = Bound.Get<string>("Name");
        Guid? id = Bound.Has("ID") ? Bound.Get<Guid>("ID") : null;
        _ = Bound.Is("All");
        Output.AddRange(World.Read(state => state.Managed.Values.Where(disk => disk.Kind == "vhd" && (name is null || Like(name, disk.Name)) && (id is null || disk.Id == id)).Select(disk => new StandaloneVirtualHardDisk
        {
            ID = disk.Id,
            Name = disk.Name,
            Location = disk.More["path"],
            Size = World.Files.Read(state.Host(disk.More["library"])!, disk.More["path"]).FileSize,
            ModifiedTime = DateTime.Parse(disk.More["modified"], CultureInfo.InvariantCulture, DateTimeStyles.RoundtripKind),
            LibraryServer = ShowLibrary(state.Host(disk.More["library"])!),
        }).ToArray()));
    }

    private async Task GetSCVMTemplateAsync()
    {
        await ReachVmmAsync();
        var name = Bound.Get<string>("Name");
        Guid? id = Bound.Has("ID") ? Bound.Get<Guid>("ID") : null;
        _ = Bound.Is("All");
        Output.AddRange(World.Read(state => state.Managed.Values.Where(each => each.Kind == "template" && (name is null || Like(name, each.Name)) && (id is null || each.Id == id))
            .Select(each => new Template { ID = each.Id, Name = each.Name, ModifiedTime = DateTime.Parse(each.More["modified"], CultureInfo.InvariantCulture, DateTimeStyles.RoundtripKind) }).ToArray()));
    }

    private async Task GetSCJobAsync()
    {
        await ReachVmmAsync();
        Guid? id = Bound.Has("ID") ? Bound.Get<Guid>("ID") : null;
        var (running, newest) = (Bound.Is("Running"), Bound.Has("Newest") ? Bound.Get<int>("Newest") : int.MaxValue);
        _ = Bound.Is("All");
        Output.AddRange(World.Read(state => state.Jobs.Values.Where(job => job.More.ContainsKey("vmm") && (id is null || job.Id == id) && (!running || !job.Done)).OrderByDescending(job => job.Begun).Take(newest).Select(job => new VmmTask
        {
            ID = job.Id,
            Name = job.Kind,
            Status = !job.Done ? TaskStatus.Running : job.Error is null ? TaskStatus.Completed : TaskStatus.Failed,
            IsCompleted = job.Done,
            ErrorInfo = job.Error is null ? null : new ErrorInfo { DisplayableErrorCode = job.ErrorId is { } code && code.All(char.IsDigit) ? code : "12711", Problem = job.Error },
            ResultObjectID = job.Machine,
        }).ToArray()));
    }

    private async Task GetSCVMHostRatingAsync()
    {
        await ReachVmmAsync();
        var vm = Bound.Get<VM>("VM") ?? throw new NotDoubledException(@"VirtualMachineManager\Get-SCVMHostRating without -VM");
        var hosts = Bound.All<Host>("VMHost");
        _ = Bound.Is("IsMigration");
        if (hosts.Count == 0)
            throw new NotDoubledException(@"VirtualMachineManager\Get-SCVMHostRating without -VMHost");
        Output.AddRange(World.Read(state =>
        {
            var machine = FindVm(state, vm.ID);
            return hosts.Select(host =>
            {
                var on = state.Host(host.Name)!;
                var reasons = Reasons(state, machine, on).Concat(machine.Runs ? [] : NoRoom(state, machine, on)).ToArray();
                return new VMHostRating { Name = on.Name, VMHost = ShowHost(state, on), Rating = reasons.Length > 0 ? 0 : 1 + (4.0 * FreeMemory(state, on) / on.MemoryBytes), ZeroRatingReasonList = reasons };
            }).ToArray();
        }));
    }

    private async Task NewSCVirtualMachineAsync()
    {
        await ReachVmmAsync();
        if (Bound.Set.Name is not ("NewStoredVmFromVirtualDisk" or "NewStoredVmFromVm" or "NewVmFromTemplate"))
            throw new NotDoubledException($@"VirtualMachineManager\New-SCVirtualMachine {Bound.Set.Name}");
        var template = Bound.Get<Template>("VMTemplate");
        var name = Bound.Get<string>("Name")!;
        var (library, share) = template is null ? (Bound.Get<LibraryServer>("LibraryServer")!.Name, Bound.Get<string>("SharePath")!) : (Bound.Get<Host>("VMHost")!.Name, Bound.Get<string>("Path")!);
        var (disk, source) = (Bound.Get<StandaloneVirtualHardDisk>("VirtualHardDisk"), Bound.Get<VM>("VM"));
        var description = Bound.Get<string>("Description") ?? "";
        var memory = Bound.Has("MemoryMB") ? (long)Bound.Get<int>("MemoryMB") << 20 : (long?)null;
        var cores = Bound.Has("CPUCount") ? Bound.Get<byte>("CPUCount") : (byte?)null;
        var generation = Bound.Has("Generation") ? Bound.Get<int>("Generation") : 1;
        var start = Bound.Has("StartAction") ? Bound.Get<Microsoft.SystemCenter.VirtualMachineManager.VMStartAction>("StartAction") : VMStartAction.NeverAutoTurnOnVM;
        _ = Bound.Has("StopAction");
        Guid made = default;
        await RunVmmAsync(state =>
        {
            var to = state.Host(library)!;
            var original = source is null ? null : IdleVm(state, source.ID);
            var machine = original is null
                ? new MachineState { Id = Guid.NewGuid(), Host = to.Name, Name = name, Path = "", Version = "12.0", Generation = generation, Created = World.Clock.GetUtcNow(), Adapters = [DoubleWorld.NewAdapter(new HostState { Name = to.Name })] }
                : original with { Id = Guid.NewGuid(), Host = to.Name, Name = name, State = VMState.Off, SavedOn = null, Hung = false, RanBefore = false, Address = 0, Checkpoints = [], Disks = [], Notes = "", Adapters = [DoubleWorld.NewAdapter(new HostState { Name = to.Name })] };
            machine = machine with
            {
                Path = DiskFiles.Join(share, $"{name}-{machine.Id:N}"),
                Description = description,
                MemoryBytes = memory ?? machine.MemoryBytes,
                Cores = cores ?? machine.Cores,
                StartAction = start == VMStartAction.NeverAutoTurnOnVM ? StartAction.Nothing : start == VMStartAction.AlwaysAutoTurnOnVM ? StartAction.Start : StartAction.StartIfRunning,
            };
            made = machine.Id;
            var of = template is null ? null : state.Managed.Values.First(each => each.Id == template.ID);
            var more = of is not null ? new Dictionary<string, string> { ["disk"] = of.More["path"], ["from"] = of.More["library"] }
                : disk is not null ? new() { ["disk"] = disk.Location } : new() { ["source"] = original!.Id.ToString(), ["sourceHost"] = original.Host };
            return BeginVmm(state, "vmm-new", to, machine, Time(state, 4L << 20), more);
        }, () => made);
    }

    private async Task SetSCVirtualMachineAsync()
    {
        await ReachVmmAsync();
        var id = Bound.Get<VM>("VM")!.ID;
        var b = Bound;
        World.Change(state =>
        {
            var machine = IdleVm(state, id);
            if ((b.Has("CPUCount") | b.Has("MemoryMB")) && machine.State != VMState.Off)
                throw Vmm(809, $"VMM cannot complete the operation because {machine.Name} is {machine.State}.");
            state.Put(machine with
            {
                Name = b.Get<string>("Name") ?? machine.Name,
                Description = b.Get<string>("Description") ?? machine.Description,
                BlockOptimization = b.Has("BlockDynamicOptimization") ? b.Get<bool>("BlockDynamicOptimization") : machine.BlockOptimization,
                MemoryBytes = b.Has("MemoryMB") ? (long)b.Get<int>("MemoryMB") << 20 : machine.MemoryBytes,
                Cores = b.Has("CPUCount") ? b.Get<byte>("CPUCount") : machine.Cores,
            });
        });
        Output.Add(World.Read(state => ShowVm(state, FindVm(state, id))));
        AnswerVmm();
    }

    private Task StartSCVirtualMachineAsync() => OnVmAsync((state, host, machine) =>
    {
        if (machine.State == VMState.Running)
            return null;
        if (host.IsLibrary || machine.State is not (VMState.Off or VMState.Saved))
            throw Vmm(809, $"VMM cannot start {machine.Name} because it is {(host.IsLibrary ? "stored in the library" : machine.State)}.");
        if (machine.State == VMState.Saved && machine.SavedOn != host.ProcessorFamily)
            throw Vmm(12711, $"VMM cannot complete the host operation on {host.Name}: the saved state was made on another kind of processor.");
        try
        {
            DoubleWorld.CheckMemory(state, host, machine with { State = VMState.Starting });
        }
        catch (DoubleError error)
        {
            throw Vmm(12711, error.Message);
        }

        var saved = machine.State == VMState.Saved;
        return BeginVmm(state, "start", host, machine with { State = VMState.Starting }, saved ? Time(state, machine.MemoryBytes) : TimeSpan.FromMilliseconds(1), saved ? new() { ["saved"] = "true" } : []);
    });

    private Task StopSCVirtualMachineAsync()
    {
        var (save, discard, force) = (Bound.Is("SaveState"), Bound.Is("DiscardSavedState"), Bound.Is("Force"));
        if (Bound.Is("Shutdown"))
            throw new NotDoubledException(@"VirtualMachineManager\Stop-SCVirtualMachine -Shutdown");
        return OnVmAsync((state, host, machine) =>
        {
            var fits = discard ? machine.State == VMState.Saved : machine.State is VMState.Running or VMState.Paused;
            if (host.IsLibrary || !fits)
            {
                return (save && machine.State == VMState.Saved) || (!save && !discard && machine.State == VMState.Off) ? null
                    : throw Vmm(809, $"VMM cannot complete the operation because {machine.Name} is {machine.State}.");
            }

            _ = force;
            return BeginVmm(state, save ? "save" : "stop", host, save ? machine with { State = VMState.Saving } : machine, save ? Time(state, machine.MemoryBytes) : TimeSpan.FromMilliseconds(1), []);
        });
    }

    private Task PauseSCVirtualMachineAsync(VMState from, VMState to) => OnVmAsync((state, host, machine) =>
    {
        if (machine.State != from && machine.State != to)
            throw Vmm(809, $"VMM cannot complete the operation because {machine.Name} is {machine.State}.");
        state.Put(machine with { State = to });
        return null;
    });

    private Task MoveSCVirtualMachineAsync()
    {
        var (to, path) = (Bound.Get<Host>("VMHost") ?? throw new NotDoubledException(@"VirtualMachineManager\Move-SCVirtualMachine without -VMHost"), Bound.Get<string>("Path"));
        var block = Bound.Is("BlockLiveMigrationIfHostBusy");
        return OnVmAsync((state, host, machine) =>
        {
            var target = state.Host(to.Name)!;
            if (Same(target.Name, host.Name))
                return null;
            if (target.Mood != HostMood.Up)
                throw Vmm(2916, $"VMM is unable to complete the request. The connection to the agent {target.Name} was lost.", "ConnectionError");
            if (Reasons(state, machine, target).FirstOrDefault() is { } reason)
                throw Vmm(10421, $"The host {target.Name} is not suitable for {machine.Name}: {reason.Problem}");
            var others = state.Jobs.Values.Where(job => !job.Done && job.Kind == "move" && machine.Runs && (job.More["host"] == host.Name || job.Target == target.Name)).Select(job => job.Due).Order().ToArray();
            var limit = Math.Min(host.MaxMigrations, target.MaxMigrations);
            if (others.Length >= limit && block)
                throw Vmm(2606, "The maximum number of live migrations run on the host already.");

            // VMM waits until the hosts have room for another one.
            var wait = others.Length >= limit ? others[^limit] - World.Clock.GetUtcNow() : TimeSpan.Zero;
            var bytes = machine.Disks.Sum(disk => World.Files.Read(host, disk.Path).FileSize) + (machine.State is VMState.Off ? 0 : machine.MemoryBytes);
            return BeginVmm(state, "move", host, machine, wait + Time(state, bytes), []) with { Target = target.Name, Path = DiskFiles.Join(path ?? target.MachinePath, $"{machine.Name}-{machine.Id:N}") };
        });
    }

    private Task SaveSCVirtualMachineAsync()
    {
        var (library, share) = (Bound.Get<LibraryServer>("LibraryServer") ?? throw new NotDoubledException(@"VirtualMachineManager\Save-SCVirtualMachine without -LibraryServer"), Bound.Get<string>("SharePath"));
        return OnVmAsync((state, host, machine) =>
        {
            if (host.IsLibrary)
                throw Vmm(809, $"{machine.Name} is stored in the library already.");
            if (machine.State is not (VMState.Off or VMState.Saved))
                throw Vmm(809, $"VMM cannot store {machine.Name} because it is {machine.State}.");
            var target = state.Host(library.Name)!;
            var bytes = machine.Disks.Sum(disk => World.Files.Read(host, disk.Path).FileSize) + (machine.State is VMState.Off ? 0 : machine.MemoryBytes);
            return BeginVmm(state, "move", host, machine, Time(state, bytes), []) with { Target = target.Name, Path = DiskFiles.Join(share ?? target.MachinePath, $"{machine.Name}-{machine.Id:N}") };
        });
    }

    private async Task RemoveSCVirtualMachineAsync()
    {
        await ReachVmmAsync();
        var id = Bound.Get<VM>("VM")!.ID;
        _ = Bound.Is("RunAsynchronously");
        var force = Bound.Is("Force");
        World.Change(state =>
        {
            var machine = IdleVm(state, id);
            var host = state.Host(machine.Host)!;
            if (machine.VmmStatus is not null && !force)
                throw Vmm(809, $"VMM cannot remove {machine.Name} because it is {machine.VmmStatus}.");
            if (machine.State is not (VMState.Off or VMState.Saved))
                throw Vmm(809, $"VMM cannot remove {machine.Name} because it is {machine.State}.");
            foreach (var disk in machine.Disks)
                World.Files.Delete(host, disk.Path);
            World.Files.Delete(host, DoubleWorld.ConfigurationOf(machine));
            state.Remove(machine);
        });
        AnswerVmm();
    }

    // Begins what is to be done with a machine; without -RunAsynchronously its end is awaited.
    private async Task OnVmAsync(Func<WorldState, HostState, MachineState, JobState?>? begin, TimeSpan? time = null)
    {
        await ReachVmmAsync();
        _ = time;
        var id = (Bound.Get<VM>("VM") ?? throw new NotDoubledException($"{Bound.Command.FullName} without -VM")).ID;
        _ = Bound.Is("Force");
        await RunVmmAsync(state =>
        {
            if (begin is null)
                return null;
            var machine = IdleVm(state, id);
            var host = state.Host(machine.Host)!;
            return host.Mood != HostMood.Up
                ? throw Vmm(2916, $"VMM is unable to complete the request. The connection to the agent {host.Name} was lost.", "ConnectionError")
                : !host.CanChange ? throw Vmm(1604, $"You do not have permission to change {machine.Name}.", "PermissionDenied")
                : begin(state, host, machine);
        }, () => id);
    }

    private async Task RunVmmAsync(Func<WorldState, JobState?> begin, Func<Guid> machine)
    {
        // What has no job of its own gets one that is done.
        JobState Job(WorldState state)
        {
            if (begin(state) is { } begun)
                return begun;
            var now = World.Clock.GetUtcNow();
            var done = new JobState { Id = Guid.NewGuid(), Kind = "vmm", Machine = machine(), Begun = now, Due = now, Done = true, More = new Dictionary<string, string> { ["vmm"] = "true" } };
            state.Put(FindVm(state, machine()) with { LastJob = done.Id });
            return done;
        }

        if (Bound.Is("RunAsynchronously"))
            World.Change(state => state.Put(Job(state)));
        else
            await JobAsync(Job);
        Output.Add(World.Read(state => ShowVm(state, FindVm(state, machine()))));
        AnswerVmm();
    }

    private JobState BeginVmm(WorldState state, string kind, HostState host, MachineState machine, TimeSpan time, Dictionary<string, string> more)
    {
        more["vmm"] = "true";
        var job = Begin(state, kind, host, machine, time, more);
        state.Put(state.Machine(machine.Host, machine.Id)! with { LastJob = job.Id });
        return job;
    }

    private void AnswerVmm()
    {
        if (World.Read(World.Chance))
            throw Vmm(1602, "The connection to the VMM management server was lost.", "ConnectionError");
    }

    private static MachineState FindVm(WorldState state, Guid id) => state.Machines.Values.FirstOrDefault(machine => machine.Id == id) ?? throw Vmm(801, "VMM cannot find VM object.", "ObjectNotFound");

    private static MachineState IdleVm(WorldState state, Guid id) => FindVm(state, id) is { Job: null } machine ? machine : throw Vmm(2606, "VMM is unable to perform the job because one or more of the selected objects are locked by another job.");

    private IEnumerable<ErrorInfo> Reasons(WorldState state, MachineState machine, HostState host)
    {
        if (host.Mood != HostMood.Up)
            yield return new ErrorInfo { DisplayableErrorCode = "2916", Problem = $"The host {host.Name} does not respond." };
        var from = state.Host(machine.Host);
        foreach (var obstacle in Obstacles(state, from, host, machine, storage: true))
            yield return new ErrorInfo { DisplayableErrorCode = "10437", Problem = obstacle.Message };
        if (machine.Runs)
        {
            foreach (var reason in NoRoom(state, machine, host))
                yield return reason;
        }
    }

    private static IEnumerable<ErrorInfo> NoRoom(WorldState state, MachineState machine, HostState host)
    {
        if (!Same(machine.Host, host.Name) && FreeMemory(state, host) < machine.MemoryBytes)
            yield return new ErrorInfo { DisplayableErrorCode = "10424", Problem = $"The host {host.Name} does not have enough memory." };
    }

    private static long FreeMemory(WorldState state, HostState host) => host.MemoryBytes - state.On(host.Name).Where(machine => machine.Runs).Sum(machine => machine.MemoryBytes);

    private static Guid IdOf(string name) => new(System.Security.Cryptography.SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(name.ToUpperInvariant())).AsSpan(0, 16));

    private static Host ShowHost(WorldState state, HostState host) => new()
    {
        ID = IdOf(host.Name),
        Name = host.Name,
        CommunicationState = host.Mood == HostMood.Up ? CommunicationState.Responding : CommunicationState.NotResponding,
        MaintenanceHost = host.Paused,
        AvailableForPlacement = !host.Paused,
        OverallState = host.Mood == HostMood.Up ? "OK" : "NotResponding",
        AvailableMemory = FreeMemory(state, host) >> 20,
        TotalMemory = host.MemoryBytes,
        LogicalProcessorCount = host.Cores,
        VMHostGroup = ShowGroup(host.Group),
    };

    private static LibraryServer ShowLibrary(HostState host) => new() { ID = IdOf(host.Name), Name = host.Name };

    private VM ShowVm(WorldState state, MachineState machine)
    {
        var host = state.Host(machine.Host)!;
        var kind = machine.Job is { } id ? state.Jobs.Get(id.ToString())?.Kind : null;
        var status = kind switch
        {
            "start" => VMComputerSystemState.Starting,
            "save" => VMComputerSystemState.Saving,
            "stop" => VMComputerSystemState.PoweringOff,
            "move" => VMComputerSystemState.UnderMigration,
            "vmm-new" => VMComputerSystemState.UnderCreation,
            not null => VMComputerSystemState.UnderUpdate,
            _ when machine.VmmStatus is { } told => Enum.Parse<VMComputerSystemState>(told),
            _ when host.IsLibrary => VMComputerSystemState.Stored,
            _ when host.Mood != HostMood.Up => VMComputerSystemState.HostNotResponding,
            _ => machine.State switch
            {
                VMState.Running => VMComputerSystemState.Running,
                VMState.Saved => VMComputerSystemState.Saved,
                VMState.Paused => VMComputerSystemState.Paused,
                _ => VMComputerSystemState.PowerOff,
            },
        };
        return new VM
        {
            ID = machine.Id,
            VMId = IdOf((machine.SameAs ?? machine.Id).ToString()).ToString().ToUpperInvariant(),
            Name = machine.Name,
            Status = status,
            StatusString = state.Set.Language == "de" ? $"Zustand {(int)status}" : status.ToString(),
            VMHost = host.IsLibrary ? null : ShowHost(state, host),
            LibraryServer = host.IsLibrary ? ShowLibrary(host) : null,
            Location = machine.Path,
            Description = machine.Description,
            Memory = (int)(machine.MemoryBytes >> 20),
            CPUCount = machine.Cores,
            BlockDynamicOptimization = machine.BlockOptimization,
            IsPrimaryVM = machine.Replication is not Microsoft.HyperV.PowerShell.VMReplicationState.Disabled && !machine.IsReplica,
            IsRecoveryVM = machine.IsReplica,
            VirtualNetworkAdapters = [.. machine.Adapters.Select(adapter => new VirtualNetworkAdapter
            {
                Name = adapter.Name,
                MACAddress = adapter.Mac,
                VirtualNetwork = adapter.Switch,
                IPv4Addresses = machine.State == VMState.Running && machine.IntegrationServices && World.Clock.GetUtcNow() >= machine.ReadyAt && DoubleWorld.AddressOf(state, machine) is { } address ? [address] : [],
            })],
            MostRecentTaskID = machine.LastJob,
            CreationTime = machine.Created.LocalDateTime,
        };
    }
}
