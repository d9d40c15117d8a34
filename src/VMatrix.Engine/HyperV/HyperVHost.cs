using System;
using System.Collections.Generic;
using System.Linq;
using System.Net;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Shells;

namespace VMatrix.HyperV;

/// <summary>A machine as a host lists it.</summary>
internal sealed record HyperVMachine
{
    /// <summary>The host that it is registered on.</summary>
    public required HostSpec Host { get; init; }

    /// <summary>What the nest's share tells of it when it is registered nowhere; null when it is.</summary>
    public HyperVSleeper? Sleeper { get; init; }

    public required Guid Id { get; init; }

    public required string Name { get; init; }

    /// <summary>Its state by Hyper-V's own word, such as <c>Running</c> or <c>SavedCritical</c>.</summary>
    public required string State { get; init; }

    public required string Notes { get; init; }

    public HyperVMark? Ours { get; init; }

    /// <summary>A mark in its notes that does not count, for it was written on another machine.</summary>
    public ServerMark? Stale { get; init; }

    /// <summary>The static address that its notes tell, whether or not the mark there counts: its guest may have it all the same.</summary>
    public string? Static { get; init; }

    /// <summary>True when it is not ours and lies in the nest, where it was let go.</summary>
    public bool LiesInNest { get; init; }

    /// <summary>Why it is not ours although its notes hold a mark.</summary>
    public string? Foreign { get; init; }

    public long MemoryBytes { get; init; }

    public int Cores { get; init; } = 1;

    public string? Version { get; init; }

    public bool IsClustered { get; init; }

    /// <summary>What it is to Hyper-V Replica, by its own word: <c>None</c>, <c>Primary</c>, or one of the copies that it keeps.</summary>
    public string ReplicationMode { get; init; } = "None";

    /// <summary>True for a copy that Hyper-V Replica keeps of a machine elsewhere, and for a machine of a test failover. Neither is a server, whatever its id and its notes say: those are the original's.</summary>
    public bool IsCopy => IsCopyMode(ReplicationMode);

    /// <summary>True for a mode of Hyper-V Replica that a copy has.</summary>
    public static bool IsCopyMode(string? mode) => mode is "Replica" or "TestReplica" or "ExtendedReplica";

    /// <summary>True for what a cluster has left of a machine on a node that does not own it. The node that does has the server.</summary>
    public bool IsLeftByCluster { get; init; }

    public IReadOnlyList<string> Disks { get; init; } = [];

    /// <summary>The folder of its configuration, as its host writes it; known of a machine that was asked for by itself.</summary>
    public string? Folder { get; init; }

    /// <summary>Image files in its drives; known of a machine that was asked for by itself.</summary>
    public IReadOnlyList<string> Discs { get; init; } = [];

    /// <summary>What it does. A state in between, or one that is not known, counts as running: nothing is proven by it.</summary>
    public PowerState Power => State switch
    {
        "Off" or "OffCritical" => PowerState.Off,
        "Saved" or "SavedCritical" or "Hibernated" => PowerState.Saved,
        "Paused" or "PausedCritical" => PowerState.Paused,
        _ => PowerState.Running,
    };

    /// <summary>Hyper-V's own words for what is done to it at this moment besides its state.</summary>
    public IReadOnlyList<string> Doing { get; init; } = [];

    /// <summary>True while it is moved to another host or its disks to another place.</summary>
    public bool IsMoving => Doing.Any(word => word is "MigratingVirtualMachine" or "StorageMigrationPhaseOne" or "StorageMigrationPhaseTwo");

    /// <summary>True while a change is under way that ends by itself before long.</summary>
    public bool IsChanging => IsMoving || Doing.Contains("ExportingVirtualMachine") || State is "Starting" or "Stopping" or "Saving" or "Pausing" or "Resuming" or "Reset" or "FastSaving" or "ForceShutdown" or "ForceReboot"
        or "StartingCritical" or "StoppingCritical" or "SavingCritical" or "PausingCritical" or "ResumingCritical" or "ResetCritical";

    public bool IsCritical => State.EndsWith("Critical", StringComparison.Ordinal);

    /// <summary>Where it counts as being: what runs is on its host, whatever its notes say.</summary>
    public HyperVPlace Place => Power is PowerState.Running or PowerState.Paused ? HyperVPlace.Host : Ours?.Place ?? HyperVPlace.Host;

    public string Who => Ours is null ? $"{Name} ({Id})" : $"{Ours.Mark.Name} ({Ours.Mark.ServerId})";
}

/// <summary>One host's commands. Machines are named by GUID and never by name; enumerations are compared by their own words, never by texts for people.</summary>
internal sealed class HyperVHost(HostSpec host, PoolSpec pool, IShell shell, TimeProvider clock) : IDisposable
{
    /// <summary>Exports, copies and moves of disks take what they take; the caller's own deadline ends them.</summary>
    private static readonly TimeSpan s_long = TimeSpan.FromDays(1);
    private static readonly TimeSpan s_factsAge = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan s_nodeAge = TimeSpan.FromSeconds(30);
    private static readonly string[] s_listed = ["Id", "Name", "State", "Notes", "MemoryAssigned", "MemoryStartup", "ProcessorCount", "Version", "IsClustered", "OperationalStatus", "ReplicationMode"];
    private static readonly string[] s_one = [.. s_listed, "Path", "HardDrives.Path", "DVDDrives.Path"];

    /// <summary>Moves that this process asks of the host at once; more of them wait here rather than fail there.</summary>
    private readonly SemaphoreSlim _moves = new(pool.Limits.MovesPerHost);

    private readonly AskedTogether<IReadOnlyList<HyperVMachine>> _listing = new(clock);
    private readonly PatientRead<IReadOnlyList<HyperVMachine>> _machines = new("HostUnreachable", host.Name, pool.Limits.ReadTimeout, clock);
    private readonly PatientRead<ILookup<Guid, string>> _adapters = new("HostUnreachable", $"{host.Name}, asked for the addresses of its machines,", pool.Limits.ReadTimeout, clock);
    private readonly PatientRead<ResumeFacts> _asked = new("HostUnreachable", $"{host.Name}, asked for its processor and system,", pool.Limits.ReadTimeout, clock);
    private readonly System.Collections.Concurrent.ConcurrentDictionary<Guid, (string Notes, HyperVMark? Mark, string? Problem)> _read = new();
    private readonly PatientRead<IReadOnlyList<PropertyBag>> _node = new("HostUnreachable", $"{host.Name}, asked for its cluster node,", pool.Limits.ReadTimeout, clock);
    private string? _maintenance;
    private DateTimeOffset _nodeAgain;
    private ResumeFacts? _facts;
    private DateTimeOffset _factsAt;
    private string? _storage;

    public HostSpec Spec => host;

    public string Address => host.Address ?? host.Name;

    /// <summary>The host's name as its cluster knows it: the first part of its network name.</summary>
    private string Node => IPAddress.TryParse(Address, out _) ? host.Name : Address.Split('.')[0];

    public string? Switch => host.Switch ?? pool.HyperV.Switch;

    private string? Credential => host.Credential ?? pool.HyperV.Credential;

    /// <summary>Every machine on it, in one pass. Who asks at the same moment shares the answer, which is of no earlier one.</summary>
    public Task<IReadOnlyList<HyperVMachine>> ListAsync(CancellationToken cancellation) => _listing.AskAsync(c => _machines.AskAsync(ListNowAsync, c), cancellation);

    // An empty list is believed only when the host answers for itself: missing rights look like one.
    private async Task<IReadOnlyList<HyperVMachine>> ListNowAsync(CancellationToken cancellation)
    {
        var rows = await RunAsync("Listing machines", s_listed, null, cancellation, Command("Hyper-V\\Get-VM"));
        if (rows.Count == 0)
            await CheckRightsAsync(cancellation);

        // Lines of machines that are gone are forgotten now and then.
        if (_read.Count > 100 + (2 * rows.Count))
            _read.Clear();
        return [.. rows.Select(ToMachine)];
    }

    /// <summary>The addresses of every machine's adapters, in one pass.</summary>
    public Task<ILookup<Guid, string>> ListAddressesAsync(CancellationToken cancellation) => _adapters.AskAsync(async c =>
    {
        var rows = await RunAsync("Listing network adapters", ["VMId", "IPAddresses"], null, c, Command("Hyper-V\\Get-VMNetworkAdapter", ("All", true)));
        return rows.SelectMany(row => Texts(row, "IPAddresses").Select(address => (Id: ToGuid(row, "VMId"), address))).ToLookup(each => each.Id, each => each.address);
    }, cancellation);

    /// <summary>A machine by its id; null when the host knows none, which is believed only when the host answers for itself.</summary>
    public async Task<HyperVMachine?> FindAsync(Guid id, CancellationToken cancellation)
    {
        var machine = await TryFindAsync(id, cancellation);
        if (machine is null)
            await CheckRightsAsync(cancellation);
        return machine;
    }

    /// <summary>Asks the host for itself, which fails without rights where a list of machines would be empty.</summary>
    public async Task CheckRightsAsync(CancellationToken cancellation)
    {
        var rows = await RunAsync("Asking", ["VirtualMachinePath"], null, cancellation, Command("Hyper-V\\Get-VMHost"));
        if (rows.Count == 0)
            throw new VMatrixException("HostAccessDenied", VMatrixErrorKind.Denied, $"{host.Name} shows neither machines nor itself to this account: put it into the host's group Hyper-V Administrators, or name another one as credential in the pool file.");
        _storage ??= Text(rows[0], "VirtualMachinePath");
    }

    /// <summary>The folder for a server's files, as the host writes it.</summary>
    public async Task<string> FolderAsync(Guid server, CancellationToken cancellation)
    {
        var storage = host.Storage ?? pool.HyperV.Storage ?? _storage;
        if (storage is null)
        {
            await CheckRightsAsync(cancellation);
            storage = _storage ?? throw new VMatrixException("HostStorageUnknown", VMatrixErrorKind.InvalidInput, $"{host.Name} does not say where it keeps machines: name a folder as storage of the host or of hyperv in the pool file.");
        }

        return Join(Join(storage, "VMatrix"), server.ToString("D"));
    }

    /// <summary>True when both hosts keep machines in the same folder, so that a move needs no copy.</summary>
    public bool SharesStorageWith(HyperVHost other) =>
        (host.Storage ?? pool.HyperV.Storage) is { } mine && string.Equals(mine, other.Spec.Storage ?? pool.HyperV.Storage, StringComparison.OrdinalIgnoreCase)
        && (mine.StartsWith(@"\\", StringComparison.Ordinal) || mine[0] == '/' || IsClusterVolume(mine));

    private static bool IsClusterVolume(string path) =>
#if NET
        path.Contains(@"\ClusterStorage\", StringComparison.OrdinalIgnoreCase);
#else
        path.IndexOf(@"\ClusterStorage\", StringComparison.OrdinalIgnoreCase) >= 0;
#endif

    /// <summary>What decides which saved states resume here; what may not be asked is not known.</summary>
    public async Task<ResumeFacts> FactsAsync(CancellationToken cancellation)
    {
        return _facts is { } known && clock.GetUtcNow() - _factsAt < s_factsAge ? known : await _asked.AskAsync(FactsNowAsync, cancellation);
    }

    private async Task<ResumeFacts> FactsNowAsync(CancellationToken cancellation)
    {
        var (cpu, system, own) = (TryAsync(() => AskClassAsync("Win32_Processor", null, ["Manufacturer", "Family", "Name"], cancellation)),
            TryAsync(() => AskClassAsync("Win32_OperatingSystem", null, ["BuildNumber"], cancellation)),
            TryAsync(() => RunAsync("Asking for versions", ["SupportedVmVersions"], null, cancellation, Command("Hyper-V\\Get-VMHost"))));
        await Task.WhenAll(cpu, system, own);
        var facts = new ResumeFacts(
            await cpu is { } processor ? $"{Text(processor, "Manufacturer")} {Text(processor, "Family")}".Trim() : null,
            await system is { } windows ? Text(windows, "BuildNumber") : null,
            await own is { } self ? [.. Texts(self, "SupportedVmVersions")] : []);
        (_facts, _factsAt) = (facts, clock.GetUtcNow());
        return facts;

        static async Task<PropertyBag?> TryAsync(Func<Task<IReadOnlyList<PropertyBag>>> ask)
        {
            try
            {
                return First(await ask());
            }
            catch (VMatrixException e) when (!e.IsTransient)
            {
                // Who may manage machines need not be allowed to ask for these. Then nothing is excluded by them, and the host itself refuses.
                return null;
            }
        }
    }

    /// <summary>Carries out a command on a machine; returns what it wrote.</summary>
    /// <exception cref="GoesOnException">The call was ended, and the host goes on with what it began.</exception>
    public Task<IReadOnlyList<PropertyBag>> OnAsync(HyperVMachine machine, string what, string command, CancellationToken cancellation, params (string, object?)[] parameters) =>
        OrGoesOnAsync(machine, what, RunAsync($"{what} {machine.Who}", [], s_long, cancellation, Get(machine.Id), Of(command, parameters)), cancellation);

    private async Task<IReadOnlyList<PropertyBag>> OrGoesOnAsync(HyperVMachine machine, string what, Task<IReadOnlyList<PropertyBag>> work, CancellationToken cancellation)
    {
        try
        {
            return await work;
        }
        catch (OperationCanceledException e) when (cancellation.IsCancellationRequested)
        {
            throw new GoesOnException($"Hyper-V on {host.Name} may go on with it ({char.ToLowerInvariant(what[0])}{what.Substring(1)} {machine.Who}), for it ends no operation with the call that began it: (Get-VM -ComputerName {Address} -Id {machine.Id:D}) | Format-List State, Status tells how far it is.", e, cancellation);
        }
    }

    public Task WriteNotesAsync(HyperVMachine machine, HyperVMark mark, string? newName, CancellationToken cancellation)
    {
        var parameters = new List<(string, object?)> { ("Notes", HyperVNotes.Write(machine.Notes, mark)) };
        if (newName is not null && newName != machine.Name)
            parameters.Add(("NewVMName", newName));
        return OnAsync(machine, "Marking", "Hyper-V\\Set-VM", cancellation, [.. parameters]);
    }

    /// <summary>Every address that a machine's adapters tell, in their order.</summary>
    public async Task<IReadOnlyList<string>> FindAddressesAsync(HyperVMachine machine, CancellationToken cancellation) =>
        [.. (await RunAsync($"Asking for the address of {machine.Who}", ["IPAddresses"], null, cancellation, Get(machine.Id), Of("Hyper-V\\Get-VMNetworkAdapter"))).SelectMany(row => Texts(row, "IPAddresses"))];

    /// <summary>Connects a machine's adapters to the switch that this host has for servers, where one is named.</summary>
    public async Task ConnectAsync(HyperVMachine machine, CancellationToken cancellation)
    {
        var rows = await RunAsync($"Asking for the switch of {machine.Who}", ["SwitchName"], null, cancellation, Get(machine.Id), Of("Hyper-V\\Get-VMNetworkAdapter"));
        if (Switch is not { } name)
        {
            // As the owner made it; but one that is on no network serves nobody, and is waited for in vain.
            if (machine.Power is not PowerState.Running && rows.Count > 0 && rows.All(row => string.IsNullOrEmpty(Text(row, "SwitchName"))))
            {
                throw new VMatrixException("SwitchNotNamed", VMatrixErrorKind.InvalidInput,
                    $"{machine.Who} is connected to no virtual switch of {host.Name}, and the pool file names none: set hyperv.switch in {pool.Path}, or switch of the host; Get-VMSwitch -ComputerName {Address} lists what it has.");
            }

            return;
        }

        if (rows.Any(row => Text(row, "SwitchName") != name))
            await RunAsync($"Connecting {machine.Who} to the switch '{name}'", [], null, cancellation, Get(machine.Id), Of("Hyper-V\\Get-VMNetworkAdapter"), Of("Hyper-V\\Connect-VMNetworkAdapter", ("SwitchName", name)));
    }

    /// <summary>Puts an image file into a drive of a machine that is off: one that is empty, else a new one.</summary>
    public async Task InsertAsync(HyperVMachine machine, string disc, CancellationToken cancellation)
    {
        var drives = await ListDrivesAsync(machine, cancellation);
        if (drives.Any(drive => IsSamePath(Text(drive, "Path"), disc)))
            return;
        if (drives.FirstOrDefault(drive => string.IsNullOrEmpty(Text(drive, "Path"))) is { } empty)
            await SetDriveAsync(machine, empty, disc, cancellation);
        else
            await OnAsync(machine, "Putting its seed into a drive of", "Hyper-V\\Add-VMDvdDrive", cancellation, ("Path", disc));
    }

    /// <summary>Takes an image file out of a machine's drives, running or off.</summary>
    public async Task EjectAsync(HyperVMachine machine, string disc, CancellationToken cancellation)
    {
        foreach (var drive in (await ListDrivesAsync(machine, cancellation)).Where(drive => IsSamePath(Text(drive, "Path"), disc)))
            await SetDriveAsync(machine, drive, null, cancellation);
    }

    public static bool IsSamePath(string? one, string other) => string.Equals(one, other, StringComparison.OrdinalIgnoreCase);

    private Task<IReadOnlyList<PropertyBag>> ListDrivesAsync(HyperVMachine machine, CancellationToken cancellation) =>
        RunAsync($"Asking for the drives of {machine.Who}", ["Path", "ControllerNumber", "ControllerLocation"], null, cancellation, Get(machine.Id), Of("Hyper-V\\Get-VMDvdDrive"));

    // By its place: a machine may have other drives, with discs of its owner.
    private Task<IReadOnlyList<PropertyBag>> SetDriveAsync(HyperVMachine machine, PropertyBag drive, string? disc, CancellationToken cancellation) =>
        RunAsync($"Changing the disc of {machine.Who}", [], null, cancellation, Get(machine.Id),
            Of("Hyper-V\\Get-VMDvdDrive", ("ControllerNumber", drive["ControllerNumber"]), ("ControllerLocation", drive["ControllerLocation"])),
            Of("Hyper-V\\Set-VMDvdDrive", ("Path", disc)));

    public async Task MoveAsync(HyperVMachine machine, HyperVHost to, string folder, CancellationToken cancellation)
    {
        if (machine.IsClustered)
        {
            await OrGoesOnAsync(machine, $"Moving to {to.Spec.Name}", RunAsync($"Moving {machine.Who} to {to.Spec.Name} by its cluster", [], s_long, cancellation, Of("FailoverClusters\\Move-ClusterVirtualMachineRole",
                ("VMId", machine.Id), ("Node", to.Node), ("MigrationType", machine.Power is PowerState.Running ? "Live" : "Quick"), ("Cluster", Address))), cancellation);
            return;
        }

        await MoveByHostAsync(machine, to, [.. MoveParameters(to, folder)], cancellation);
    }

    private async Task<IReadOnlyList<PropertyBag>> MoveByHostAsync(HyperVMachine machine, HyperVHost to, List<(string, object?)> parameters, CancellationToken cancellation)
    {
        // One order for all, so that two who want the same two hosts do not wait for each other.
        HyperVHost[] ends = [.. new[] { this, to }.OrderBy(end => end.Spec.Name, StringComparer.OrdinalIgnoreCase)];
        await ends[0]._moves.WaitAsync(cancellation);
        try
        {
            await ends[1]._moves.WaitAsync(cancellation);
            try
            {
                return await OnAsync(machine, $"Moving to {to.Spec.Name}", "Hyper-V\\Move-VM", cancellation, [.. parameters]);
            }
            catch (VMatrixException e) when (e.Id == "HyperVFailed" && e.InnerException is ShellException { Code: 0 })
            {
                // That the limit of moves was reached is told in words only; the hosts' own counts tell it in every language.
                foreach (var end in ends)
                {
                    if (await end.FindLimitReachedAsync(cancellation) is { } limit)
                    {
                        throw new VMatrixException("TooManyMigrations", VMatrixErrorKind.Busy,
                            $"{machine.Who} was not moved to {to.Spec.Name}: as many moves run on {end.Spec.Name} as it allows ({limit}). Wait for one to end, lower limits.movesPerHost in the pool file, or raise it: Set-VMHost -ComputerName {end.Address} -MaximumVirtualMachineMigrations {limit + 2}.", e) { IsTransient = true };
                    }
                }

                // A move that fails leaves the machine where it was, so that it may be tried again.
                throw new VMatrixException(e.Id, e.Kind, e.Message + " Compare-VMatrixServer tells what stands in its way.", e) { IsTransient = true };
            }
            finally
            {
                ends[1]._moves.Release();
            }
        }
        finally
        {
            ends[0]._moves.Release();
        }
    }

    /// <summary>The most moves that the host allows, when as many run; else null.</summary>
    private async Task<long?> FindLimitReachedAsync(CancellationToken cancellation)
    {
        var rows = await RunAsync("Asking for its limits", ["MaximumVirtualMachineMigrations", "MaximumStorageMigrations"], null, cancellation, Command("Hyper-V\\Get-VMHost"));
        if (rows.Count == 0)
            return null;
        var most = Math.Min(Number(rows[0], "MaximumVirtualMachineMigrations"), Number(rows[0], "MaximumStorageMigrations"));
        return (await ListAsync(cancellation)).Count(m => m.IsMoving) >= most ? most : null;
    }

    /// <summary>The node that owns a clustered machine's role, by its name in the cluster; null where the cluster does not tell.</summary>
    public async Task<string?> FindOwnerAsync(Guid machine, CancellationToken cancellation)
    {
        try
        {
            return First(await RunAsync("Asking for the owner of a role", ["OwnerNode.Name"], null, cancellation, Of("FailoverClusters\\Get-ClusterGroup", ("VMId", machine), ("Cluster", Address)))) is { } group ? Text(group, "OwnerNode.Name") : null;
        }
        catch (VMatrixException)
        {
            return null;
        }
    }

    /// <summary>True when a cluster means this host by a node's name.</summary>
    public bool IsNode(string name) => string.Equals(Node, name, StringComparison.OrdinalIgnoreCase);

    /// <summary>Takes a machine out of its cluster, where it is in one; the machine stays.</summary>
    public async Task LeaveClusterAsync(HyperVMachine machine, CancellationToken cancellation)
    {
        if (machine.IsClustered)
        {
            await RunAsync($"Taking {machine.Who} out of its cluster", [], s_long, cancellation,
                Of("FailoverClusters\\Remove-ClusterGroup", ("VMId", machine.Id), ("RemoveResources", true), ("Force", true), ("Cluster", Address)));
        }
    }

    /// <summary>Why its cluster wants nothing new on this node, in words without a full stop; null when it is up, when it is no node, and where that may not be asked.</summary>
    public async Task<string?> FindMaintenanceAsync(CancellationToken cancellation)
    {
        if (clock.GetUtcNow() < _nodeAgain)
            return _maintenance;
        try
        {
            var node = First(await _node.AskAsync(c => RunAsync("Asking for the cluster node", ["Name", "State", "DrainStatus"], null, c, Of("FailoverClusters\\Get-ClusterNode", ("Name", new[] { Node }), ("Cluster", Address))), cancellation));
            _maintenance = node is not null && Text(node, "State") is { } state and not ("Up" or "0" or "Unknown" or "-1")
                ? $"its cluster has the node as {state}{(Text(node, "DrainStatus") is { Length: > 0 } drain and not ("NotInitiated" or "0") ? $", drained: {drain}" : "")} (Resume-ClusterNode {Node} brings it back)"
                : null;
            _nodeAgain = clock.GetUtcNow() + (node is null ? s_factsAge : s_nodeAge);
        }
        catch (VMatrixException)
        {
            // No node of a cluster, or none that may be asked: the host itself refuses then.
            (_maintenance, _nodeAgain) = (null, clock.GetUtcNow() + s_factsAge);
        }

        return _maintenance;
    }

    /// <summary>How far the host's cluster balances by itself, as a sentence; null when it does not, or there is none.</summary>
    public async Task<string?> FindOwnBalancingAsync(CancellationToken cancellation)
    {
        try
        {
            var cluster = First(await RunAsync("Asking for the cluster", ["Name", "AutoBalancerMode"], null, cancellation, Of("FailoverClusters\\Get-Cluster", ("Name", Address))));
            return cluster is not null && cluster.TryGetValue("AutoBalancerMode", out var mode) && mode is not (null or 0 or 0L or "0")
                ? $"The cluster {Text(cluster, "Name")} balances machines by itself (AutoBalancerMode {mode}), against what VMatrix decides; switch one of the two off: (Get-Cluster {Text(cluster, "Name")}).AutoBalancerMode = 0."
                : null;
        }
        catch (VMatrixException e)
        {
            return e.Id == "ModuleMissing" ? $"{host.Name} has clustered machines, and the FailoverClusters module is not here to ask whether the cluster balances them by itself: install RSAT-Clustering-PowerShell." : null;
        }
    }

    /// <summary>Runs a command of its own on this host.</summary>
    public Task<IReadOnlyList<PropertyBag>> DoAsync(string what, string[] properties, string command, CancellationToken cancellation, params (string, object?)[] parameters) =>
        RunAsync(what, properties, s_long, cancellation, Command(command, parameters));

    /// <summary>Asks a command of its own on this host, which changes nothing.</summary>
    public Task<IReadOnlyList<PropertyBag>> ReadAsync(string what, string[] properties, string command, CancellationToken cancellation, params (string, object?)[] parameters) =>
        RunAsync(what, properties, null, cancellation, Command(command, parameters));

    /// <summary>Asks a command of a machine for properties; without a command, the machine itself.</summary>
    public Task<IReadOnlyList<PropertyBag>> AskOfAsync(Guid machine, string what, string[] properties, string? command, CancellationToken cancellation, params (string, object?)[] parameters) =>
        command is null ? RunAsync(what, properties, null, cancellation, Get(machine)) : RunAsync(what, properties, null, cancellation, Of(command, [.. parameters, ("VM", new ShellCall { Commands = [Get(machine)] })]));

    /// <summary>Asks the host's own management classes for properties.</summary>
    public Task<IReadOnlyList<PropertyBag>> AskClassAsync(string name, string? space, string[] properties, CancellationToken cancellation)
    {
        var parameters = new List<(string, object?)> { ("ClassName", name), ("Property", properties) };
        if (space is not null)
            parameters.Add(("Namespace", space));
        parameters.Add(Credential is { } secret
            ? ("CimSession", new ShellCall { Commands = [Of("CimCmdlets\\New-CimSession", ("ComputerName", Address), ("Credential", new ShellSecret(secret)))] })
            : ("ComputerName", Address));
        return RunAsync($"Asking for {name}", properties, null, cancellation, Of("CimCmdlets\\Get-CimInstance", [.. parameters]));
    }

    /// <summary>What a move to another host is told beside the destination: the other host's credential, and the folder for disks that are not shared.</summary>
    public IReadOnlyList<(string, object?)> MoveParameters(HyperVHost to, string folder)
    {
        // Said when it is false too: without it PowerShell cannot choose between two ways to call the command.
        var parameters = new List<(string, object?)> { ("DestinationHost", to.Address), ("IncludeStorage", !SharesStorageWith(to)) };
        if (!SharesStorageWith(to))
            parameters.Add(("DestinationStoragePath", folder));

        if (to.Credential is { } secret)
            parameters.Add(("DestinationCredential", new ShellSecret(secret)));
        return parameters;
    }

    /// <summary>The first of what was written; null for nothing.</summary>
    public static PropertyBag? First(IReadOnlyList<PropertyBag> rows) => rows.Count > 0 ? rows[0] : null;

    /// <summary>A path below another, with the separator that the other one has.</summary>
    public static string Join(string folder, string name) =>
        folder.IndexOfAny(['\\']) >= 0 || (folder.Length > 1 && folder[1] == ':') ? folder.TrimEnd('\\') + "\\" + name : folder.TrimEnd('/') + "/" + name;

    /// <summary>A path of this host as the machine that VMatrix runs on reaches it.</summary>
    public string Reach(string path) =>
        path.Length > 2 && path[1] == ':' ? $@"\\{Address}\{path[0]}$\{path.Substring(3)}" : path;

    /// <summary>Where a machine answers; null while nobody tells.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="port">The port of its service.</param>
    /// <param name="found">The address that its adapter tells; null for none.</param>
    public string? ToAddress(HyperVMachine machine, int port, string? found) => (pool.HyperV.Address, found) switch
    {
        _ when machine.Ours?.Address is { } own => $"{own}:{port}",
        (AddressSource.Dhcp, _) => $"{machine.Ours?.Mark.Name ?? machine.Name}:{port}",
        (_, null) => null,
        _ => found!.IndexOfAny([':']) >= 0 ? $"[{found}]:{port}" : $"{found}:{port}",
    };

    /// <summary>The address that others may reach a machine at: the first of the wanted family, else the first of any; null for none.</summary>
    public static string? PickAddress(IEnumerable<string> addresses, IpFamily wanted)
    {
        string? second = null;
        foreach (var text in addresses)
        {
            if (!IPAddress.TryParse(text, out var address) || IsOfNoUse(address))
                continue;
            if (IsOf(text, wanted))
                return text;
            second ??= text;
        }

        return second;
    }

    /// <summary>True for an address of a family.</summary>
    public static bool IsOf(string address, IpFamily family) => address.IndexOfAny([':']) >= 0 == family is IpFamily.Ipv6;

    // One that a guest gives itself where nobody gives it any, and what names no machine at all.
    private static bool IsOfNoUse(IPAddress address) => address.IsIPv6LinkLocal || address.IsIPv6Multicast || address.Equals(IPAddress.Loopback) || address.Equals(IPAddress.IPv6Loopback) || address.Equals(IPAddress.Any) || address.Equals(IPAddress.IPv6Any)
        || address.ToString().StartsWith("169.254.", StringComparison.Ordinal);

    /// <inheritdoc/>
    public void Dispose() => _moves.Dispose();

    private async Task<HyperVMachine?> TryFindAsync(Guid id, CancellationToken cancellation)
    {
        try
        {
            return (await RunRawAsync("Asking for a machine", s_one, null, cancellation, Get(id))).Select(ToMachine).FirstOrDefault();
        }
        catch (ShellException e) when (HyperVErrors.IsMissing(e))
        {
            return null;
        }
        catch (ShellException e)
        {
            throw HyperVErrors.From(e, host.Name, "Asking for a machine");
        }
    }

    private ShellCommand Get(Guid id) => Command("Hyper-V\\Get-VM", ("Id", id));

    private ShellCommand Command(string name, params (string, object?)[] parameters)
    {
        var all = new List<(string, object?)>(parameters) { ("ComputerName", Address) };
        if (Credential is { } secret)
            all.Add(("Credential", new ShellSecret(secret)));
        return Of(name, [.. all]);
    }

    private static ShellCommand Of(string name, params (string Name, object? Value)[] parameters) =>
        new(name, parameters.ToDictionary(p => p.Name, p => p.Value, StringComparer.OrdinalIgnoreCase));

    private async Task<IReadOnlyList<PropertyBag>> RunAsync(string what, string[] properties, TimeSpan? timeout, CancellationToken cancellation, params ShellCommand[] commands)
    {
        try
        {
            return await RunRawAsync(what, properties, timeout, cancellation, commands);
        }
        catch (ShellException e)
        {
            throw HyperVErrors.From(e, host.Name, what);
        }
    }

    private async Task<IReadOnlyList<PropertyBag>> RunRawAsync(string what, string[] properties, TimeSpan? timeout, CancellationToken cancellation, params ShellCommand[] commands)
    {
        try
        {
            return await shell.InvokeAsync(new ShellCall { Commands = commands, Properties = properties, Timeout = timeout ?? pool.Limits.ReadTimeout }, cancellation);
        }
        catch (VMatrixException e) when (e.Id == "ShellTimeout")
        {
            throw new VMatrixException("HostUnreachable", VMatrixErrorKind.Unreachable, $"{what}: {host.Name} did not answer in time. Check the machine and its network.", e) { IsTransient = true };
        }
    }

    private HyperVMachine ToMachine(PropertyBag row)
    {
        var id = ToGuid(row, "Id");
        var notes = Text(row, "Notes") ?? "";
        if (!_read.TryGetValue(id, out var read) || read.Notes != notes)
        {
            var (mark, wrong) = HyperVNotes.Read(notes);
            _read[id] = read = (notes, mark, wrong);
        }

        var (_, ours, problem) = read;
        var replication = Text(row, "ReplicationMode") ?? "None";
        var copy = HyperVMachine.IsCopyMode(replication);
        var counts = ours is { Released: false } && ours.Mark.MachineId == id.ToString("D") && !copy;
        var isRunning = Text(row, "State") is "Running" or "RunningCritical" or "Paused" or "PausedCritical";
        return new HyperVMachine
        {
            Host = host,
            Id = id,
            Name = Text(row, "Name") ?? "",
            State = Text(row, "State") ?? "",
            Notes = notes,
            ReplicationMode = replication,
            Ours = counts ? ours : null,
            Stale = counts || copy ? null : ours?.Mark,
            Static = ours?.Address,
            LiesInNest = ours is { Released: true, Place: HyperVPlace.Nest } && ours.Mark.MachineId == id.ToString("D") && !isRunning && !copy,
            Foreign = copy ? ours is null ? null : $"{Text(row, "Name")} ({id}) on {host.Name} is a copy of {ours.Mark.Name} that Hyper-V Replica keeps there ({replication}): it is no server, and is left alone. To make it one, fail over to it, end its replication (Remove-VMReplication) and register it."
                : problem is not null ? $"{Text(row, "Name")} ({id}) on {host.Name} is left alone: {problem}."
                : ours is { Released: true } ? null
                : ours is not null && ours.Mark.MachineId != id.ToString("D") ? $"{Text(row, "Name")} ({id}) on {host.Name} carries the mark of {ours.Mark.Name} ({ours.Mark.ServerId}), which was written on machine {ours.Mark.MachineId}: a clone or an import, left alone until it is registered."
                : null,
            MemoryBytes = isRunning && Number(row, "MemoryAssigned") is > 0 and var assigned ? assigned
                : counts && Text(row, "State") is "Saved" or "SavedCritical" && ours!.Saved?.Memory is > 0 and var held ? held
                : Number(row, "MemoryStartup"),
            Cores = (int)Math.Max(1, Number(row, "ProcessorCount")),
            Version = Text(row, "Version"),
            Doing = [.. Texts(row, "OperationalStatus")],
            IsClustered = row.TryGetValue("IsClustered", out var clustered) && clustered is true,
            Folder = Text(row, "Path"),
            Disks = [.. Texts(row, "HardDrives.Path")],
            Discs = [.. Texts(row, "DVDDrives.Path")],
        };
    }

    private static string? Text(PropertyBag row, string name) => row.TryGetValue(name, out var value) ? value as string ?? Convert.ToString(value, System.Globalization.CultureInfo.InvariantCulture) : null;

    private static IEnumerable<string> Texts(PropertyBag row, string name) => row.TryGetValue(name, out var value) ? value switch
    {
        null => [],
        string one => [one],
        System.Collections.IEnumerable many => many.Cast<object?>().OfType<string>(),
        _ => [],
    } : [];

    private static long Number(PropertyBag row, string name) => row.TryGetValue(name, out var value) && value is int or long or double ? Convert.ToInt64(value, System.Globalization.CultureInfo.InvariantCulture) : 0;

    private Guid ToGuid(PropertyBag row, string name) => row.TryGetValue(name, out var value) ? value switch
    {
        Guid id => id,
        string text when Guid.TryParse(text, out var id) => id,
        _ => throw new VMatrixException("HyperVFailed", VMatrixErrorKind.Failed, $"{host.Name} answered with a machine whose {name} is not an id."),
    } : throw new VMatrixException("HyperVFailed", VMatrixErrorKind.Failed, $"{host.Name} answered with a machine without {name}.");
}
