using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.HyperV;
using VMatrix.Moves;
using VMatrix.Shells;

namespace VMatrix.Scvmm;

/// <summary>A machine as VMM lists it.</summary>
internal sealed record ScvmmMachine
{
    public required Guid Id { get; init; }

    public required string Name { get; init; }

    /// <summary>Its state by VMM's own word, such as <c>PowerOff</c> or <c>UnderMigration</c>.</summary>
    public required string Status { get; init; }

    /// <summary>The host it is on; null in the library.</summary>
    public string? Host { get; init; }

    public string Description { get; init; } = "";

    /// <summary>Our line in its description, which VMM keeps for it wherever it is.</summary>
    public HyperVMark? Ours { get; init; }

    public ServerMark? Stale { get; init; }

    /// <summary>The id that Hyper-V has for it, the same in every record that VMM has of it; null where VMM does not say.</summary>
    public string? VmId { get; init; }

    /// <summary>What its description says, whether or not it counts.</summary>
    public HyperVMark? Written { get; init; }

    public string? Foreign { get; init; }

    public ScvmmImage? Image { get; init; }

    public long MemoryBytes { get; init; }

    public int Cores { get; init; } = 1;

    public string? Address { get; init; }

    /// <summary>True where VMM's dynamic optimization may move it.</summary>
    public bool IsLeftToVmm { get; init; }

    public bool IsStored => Host is null;

    /// <summary>True for the copy that Hyper-V Replica keeps of a machine elsewhere, which has the original's description and its id of Hyper-V. It is never a server.</summary>
    public bool IsCopy { get; init; }

    /// <summary>What it does. A state in between, or one that is not known, proves nothing. A stored machine does not say whether its memory was kept: our line does.</summary>
    public PowerState Power => Status switch
    {
        "Running" => PowerState.Running,
        "PowerOff" or "CreationFailed" => PowerState.Off,
        "Saved" => PowerState.Saved,
        "Stored" => Ours?.Saved is null ? PowerState.Off : PowerState.Saved,
        "Paused" => PowerState.Paused,
        _ => PowerState.Unknown,
    };

    /// <summary>True when VMM tells what it remembers of it and not what it sees, or that a job of its own went wrong and not what the machine does: nothing is proven by that, and nothing is done to it.</summary>
    public bool IsUnsure => Power is PowerState.Unknown && (Status is "Missing" or "IncompleteVMConfig" or "HostNotResponding" or "" || IsUnmanageable || HasFailed);

    /// <summary>True while a job works on it: every word of VMM that is no state at rest.</summary>
    public bool IsChanging => Power is PowerState.Unknown && !IsUnsure;

    /// <summary>True where VMM's last job on it failed, such as <c>MigrationFailed</c>.</summary>
    public bool HasFailed => Status.EndsWith("Failed", StringComparison.Ordinal);

    private bool IsUnmanageable => Status.StartsWith("Unsupported", StringComparison.Ordinal);

    public HyperVPlace Place => !IsStored ? HyperVPlace.Host : Ours?.Place == HyperVPlace.Disposed ? HyperVPlace.Disposed : HyperVPlace.Nest;

    public string Who => Ours is null ? $"{Name} ({Id})" : $"{Ours.Mark.Name} ({Ours.Mark.ServerId})";

    public string Where => Place switch
    {
        HyperVPlace.Nest => "in the library",
        HyperVPlace.Disposed => "disposed, in the library",
        _ => $"{Status} on {Host}",
    };
}

/// <summary>An image version: a stored machine that new servers are cloned from.</summary>
internal sealed record ScvmmImage
{
    public required string Service { get; init; }

    public required string Version { get; init; }

    /// <summary>The owner's disk as it was when the version was selected; another one now takes its place.</summary>
    public string? Owner { get; init; }

    /// <summary>When it became what new servers are made from; the latest of a service counts.</summary>
    public DateTimeOffset? SelectedAt { get; init; }

    public PublishedImage? Published { get; init; }
}

/// <summary>A host as VMM lists it.</summary>
/// <param name="Name">Its name in VMM.</param>
/// <param name="State">Whether it answers, by VMM's own word.</param>
/// <param name="Group">Its host group's id.</param>
/// <param name="GroupPath">Its host group's path.</param>
/// <param name="IsInMaintenance">True while VMM has it in maintenance mode, or does not let anything be placed on it.</param>
internal sealed record ScvmmHost(string Name, string State, Guid? Group, string GroupPath, bool IsInMaintenance);

/// <summary>One VMM server's commands. Machines are named by their ids; states are compared by VMM's own words, never by texts for people.</summary>
internal sealed class ScvmmServer(PoolSpec pool, IShell shell, TimeProvider clock)
{
    public const string ImageLine = "VMatrix-image:";
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(200);
    private static readonly string[] s_listed = ["ID", "Name", "Status", "Description", "VMHost.Name", "Memory", "CPUCount", "VirtualNetworkAdapters.IPv4Addresses", "BlockDynamicOptimization", "VMId", "IsRecoveryVM"];
    private readonly AskedTogether<IReadOnlyList<ScvmmMachine>> _machines = new(clock);
    private readonly AskedTogether<IReadOnlyList<ScvmmHost>> _hosts = new(clock);
    private readonly System.Collections.Concurrent.ConcurrentDictionary<Guid, string> _twins = new();
    private readonly PatientRead<IReadOnlyList<ScvmmMachine>> _listing = new("ServerUnreachable", "VMM", pool.Limits.ReadTimeout, clock);
    private readonly PatientRead<IReadOnlyList<ScvmmHost>> _hostListing = new("ServerUnreachable", "VMM", pool.Limits.ReadTimeout, clock);

    private ScvmmSpec Spec => pool.Scvmm;

    public string Library => Spec.Library ?? throw Unset("library", "the library server that is the nest");

    public string Share => Spec.Share ?? throw Unset("share", "the folder on a library share that dormant servers are stored in");

    /// <summary>Every machine that VMM knows, in one pass for all who ask at the same time.</summary>
    public Task<IReadOnlyList<ScvmmMachine>> ListAsync(CancellationToken cancellation) => _machines.AskAsync(c => _listing.AskAsync(ReadMachinesAsync, c), cancellation);

    private async Task<IReadOnlyList<ScvmmMachine>> ReadMachinesAsync(CancellationToken cancellation) =>
        WithoutTwins([.. (await RunAsync("Listing machines", s_listed, cancellation, Of("Get-SCVirtualMachine", ("VMMServer", Connection()), ("All", true)))).Select(ToMachine)]);

    /// <summary>Refuses a listing that tells nothing of the library: a role without it sees no stored machine and no error, an empty nest in which everything would be made anew.</summary>
    /// <exception cref="VMatrixException"><c>LibraryNotManaged</c>.</exception>
    public async Task RequireLibraryAsync(IReadOnlyList<ScvmmMachine> machines, CancellationToken cancellation)
    {
        if (!machines.Any(machine => machine.IsStored) && (await RunAsync($"Asking for the library server {Library}", ["Name"], cancellation, LibraryCall().Commands.Single())).Count == 0)
            throw new VMatrixException("LibraryNotManaged", VMatrixErrorKind.NotFound, $"VMM lists no library server {Library}, or this account's user role does not have it in its scope: add it to the role, or mend scvmm.library in {pool.Path}.");
    }

    /// <summary>
    /// One record of each machine. A cluster that moved a machine leaves VMM with two: the one that it remembers, which is missing, and the one
    /// that it has found, whose description was written under the other's id. What is found is the machine, and the other one is nothing.
    /// </summary>
    private ScvmmMachine[] WithoutTwins(ScvmmMachine[] machines)
    {
        foreach (var records in machines.Where(m => m.VmId is not null && !m.IsStored && !m.IsCopy).GroupBy(m => m.VmId, StringComparer.OrdinalIgnoreCase).Where(g => g.Count() > 1).ToArray())
        {
            if (records.Where(m => !m.IsUnsure).ToArray() is not [var found])
                continue;
            var remembered = records.Where(m => m != found).ToArray();
            if (found.Ours is null && found.Written is { } written && remembered.Any(m => IsId(written.Mark.MachineId, m.Id)))
                _twins[found.Id] = written.Mark.MachineId;
            else if (found.Ours is null && remembered.Any(m => m.Ours is not null))
                continue;
            machines = [.. machines.Where(m => !remembered.Contains(m)).Select(m => m == found && _twins.ContainsKey(m.Id) ? m with { Ours = m.Written, Stale = null, Foreign = null } : m)];
        }

        return machines;
    }

    private static bool IsId(string text, Guid id) => string.Equals(text, id.ToString("D"), StringComparison.OrdinalIgnoreCase);

    private async Task<IReadOnlyList<ScvmmHost>> ReadHostsAsync(CancellationToken cancellation) =>
    [
        .. (await RunAsync("Asking for the hosts", ["Name", "CommunicationState", "VMHostGroup.ID", "VMHostGroup.Path", "MaintenanceHost", "AvailableForPlacement"], cancellation, Of("Get-SCVMHost", ("VMMServer", Connection()))))
            .Select(row => new ScvmmHost(Text(row, "Name") ?? "", Text(row, "CommunicationState") ?? "", Id(row, "VMHostGroup.ID"), Text(row, "VMHostGroup.Path") ?? "", (row.TryGetValue("MaintenanceHost", out var maintained) && maintained is true) || (row.TryGetValue("AvailableForPlacement", out var open) && open is false))),
    ];

    /// <summary>True where VMM balances a host group by itself; null where it does not say.</summary>
    public async Task<bool?> IsOptimizingAsync(Guid group, string path, CancellationToken cancellation)
    {
        var row = (await RunAsync($"Asking whether the host group {path} is balanced", ["ManualMode", "AutomaticMode"], cancellation,
            Of("Get-SCDynamicOptimizationConfiguration", ("VMHostGroup", new ShellCall { Commands = [Of("Get-SCVMHostGroup", ("VMMServer", Connection()), ("ID", group))] })))).FirstOrDefault();
        return row is null ? false
            : row.TryGetValue("ManualMode", out var manual) && manual is bool asked ? !asked
            : row.TryGetValue("AutomaticMode", out var automatic) && automatic is bool itself ? itself
            : null;
    }

    public async Task<ScvmmMachine?> FindAsync(Guid id, CancellationToken cancellation)
    {
        try
        {
            return (await RunRawAsync(s_listed, cancellation, Get(id))).Select(ToMachine).FirstOrDefault();
        }
        catch (ShellException e) when (e.ErrorId.Split(',')[0] == "801")
        {
            return null;
        }
        catch (ShellException e)
        {
            throw ScvmmErrors.From(e, "Asking for a machine");
        }
    }

    /// <summary>The machine as soon as no job works on it, such as one that outlived the call that began it.</summary>
    public async Task<ScvmmMachine?> SettledAsync(Guid id, CancellationToken cancellation)
    {
        while (true)
        {
            var machine = await FindAsync(id, cancellation);
            if (machine is not { IsChanging: true })
                return machine;
            await clock.WaitAsync(s_pause, cancellation);
        }
    }

    /// <summary>Makes sure that a host answers VMM. What VMM remembers of one that does not proves nothing.</summary>
    public async Task<ScvmmHost> CheckHostAsync(HostSpec host, CancellationToken cancellation)
    {
        var found = (await _hosts.AskAsync(c => _hostListing.AskAsync(ReadHostsAsync, c), cancellation)).Where(each => IsNamed(each.Name, host)).ToArray();
        if (found.Length != 1)
        {
            throw new VMatrixException("HostNotManaged", VMatrixErrorKind.NotFound, found.Length == 0
                ? $"VMM does not manage a host {Address(host)}, or this account's user role does not have it in its scope: add it to the role or to VMM (Add-SCVMHost)."
                : $"VMM manages {found.Length} hosts named {Address(host)}: give {host.Name} in {pool.Path} the address of the one that is meant, {string.Join(" or ", found.Select(each => each.Name))}.");
        }

        return found[0].State == "Responding" ? found[0]
            : throw new VMatrixException("HostUnreachable", VMatrixErrorKind.Unreachable, $"{host.Name} does not answer VMM ({found[0].State}): check the machine, its network and the VMM agent on it.") { IsTransient = true };
    }

    /// <summary>Runs a command on a machine as a job, and follows the job to its end.</summary>
    public async Task DoAsync(ScvmmMachine machine, string what, string command, CancellationToken cancellation, params (string, object?)[] parameters)
    {
        what = $"{what} {machine.Who}";
        await FollowAsync(what, command, await RunAsync(what, ["ID", "MostRecentTaskID"], cancellation, Get(machine.Id), Of(command, [.. parameters, ("RunAsynchronously", true)])), cancellation);
    }

    /// <summary>Makes a machine as a job, follows it, and returns the machine.</summary>
    public async Task<ScvmmMachine> MakeAsync(string what, CancellationToken cancellation, params (string, object?)[] parameters)
    {
        var rows = await RunAsync(what, ["ID", "MostRecentTaskID"], cancellation, Of("New-SCVirtualMachine", [.. parameters, ("VMMServer", Connection()), ("RunAsynchronously", true)]));
        await FollowAsync(what, "New-SCVirtualMachine", rows, cancellation);
        var id = rows.Count == 1 ? Id(rows[0], "ID") : null;
        return (id is { } made ? await SettledAsync(made, cancellation) : null) ?? throw new VMatrixException("ScvmmFailed", VMatrixErrorKind.Failed, $"{what} was reported as done, and there is no such machine.");
    }

    /// <param name="machine">The machine.</param>
    /// <param name="description">What is to stand in its description.</param>
    /// <param name="newName">Its name from now on; null for the one it has.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <param name="isOurs">False when it is let go, and VMM may balance it again.</param>
    public async Task DescribeAsync(ScvmmMachine machine, string description, string? newName, CancellationToken cancellation, bool isOurs = true)
    {
        var parameters = new List<(string, object?)> { ("Description", description), ("BlockDynamicOptimization", isOurs) };
        if (newName is not null && newName != machine.Name)
            parameters.Add(("Name", newName));
        await RunAsync($"Marking {machine.Who}", [], cancellation, Get(machine.Id), Of("Set-SCVirtualMachine", [.. parameters]));

        // What is reported done is looked at: a refresh of VMM's own may have put the old text back.
        if (await FindAsync(machine.Id, cancellation) is not { } now || OursIn(now.Description) != OursIn(description) || (newName is not null && now.Name != newName))
            throw new VMatrixException("MarkNotWritten", VMatrixErrorKind.Failed, $"VMM reported {machine.Who} as marked, and its description or name is not what was written. It is tried again; where it stays so, look at who else changes it.") { IsTransient = true };

        static string OursIn(string text) =>
            (SharedText.Find(text, HyperVNotes.Word) is { } mark ? text.Substring(mark.Start, mark.End - mark.Start) : "")
            + (SharedText.Find(text, ImageLine) is { } image ? text.Substring(image.Start, image.End - image.Start) : "");
    }

    public Task MarkAsync(ScvmmMachine machine, HyperVMark mark, string? newName, CancellationToken cancellation) =>
        DescribeAsync(machine, HyperVNotes.Write(machine.Description, mark with { Mark = mark.Mark with { MachineId = machine.Id.ToString("D") } }), newName, cancellation);

    /// <summary>Writes what image a stored machine is into its description, and leaves what others wrote there.</summary>
    public Task DescribeAsync(ScvmmMachine machine, ScvmmImage image, CancellationToken cancellation) =>
        DescribeAsync(machine, SharedText.Write(machine.Description, ImageLine, System.Text.Json.JsonSerializer.Serialize(image, StateFiles.Json)), null, cancellation);

    /// <summary>Deletes a machine, and looks whether it is gone. Without force: VMM then refuses what it does not see, instead of forgetting it.</summary>
    public async Task RemoveAsync(ScvmmMachine machine, CancellationToken cancellation)
    {
        await RunAsync($"Removing {machine.Who}", [], cancellation, Get(machine.Id), Of("Remove-SCVirtualMachine", ("Confirm", false)));
        if (await FindAsync(machine.Id, cancellation) is { } still)
            throw new VMatrixException("RemoveNotDone", VMatrixErrorKind.Failed, $"VMM reported {machine.Who} as removed, and it is {still.Where}. Look at its last job in VMM; it is tried again.") { IsTransient = true };
    }

    /// <summary>Makes VMM look at a machine anew, so that what it says is not what it remembers.</summary>
    public Task RefreshAsync(ScvmmMachine machine, CancellationToken cancellation) =>
        RunAsync($"Refreshing {machine.Who}", [], cancellation, Get(machine.Id), Of("Read-SCVirtualMachine"));

    /// <summary>What VMM has against a host for a machine, one sentence each; empty when it would take it. Of one host alone VMM asks the host itself.</summary>
    public async Task<IReadOnlyList<string>> RateAsync(ScvmmMachine machine, HostSpec host, CancellationToken cancellation) =>
        (await RateAsync(machine, [host], cancellation)).FirstOrDefault() is not { } rating ? [$"VMM gives {host.Name} no rating for it"]
        : rating.Stars > 0 ? []
        : rating.Reasons.Count > 0 ? rating.Reasons : [$"VMM rates {host.Name} with zero stars for it and does not say why"];

    /// <summary>How VMM rates hosts for a machine, in one call. Of several hosts it goes by what it remembers of them.</summary>
    public async Task<IReadOnlyList<ScvmmRating>> RateAsync(ScvmmMachine machine, IReadOnlyList<HostSpec> hosts, CancellationToken cancellation)
    {
        var rows = await RunAsync($"Rating {(hosts.Count == 1 ? hosts[0].Name : $"{hosts.Count} hosts")} for {machine.Who}", ["VMHost.Name", "VMHost.AvailableMemory", "Rating", "ZeroRatingReasonList"], cancellation, Get(machine.Id),
            Of("Get-SCVMHostRating", ("VMHost", hosts.Select(HostCall).ToArray()), ("IsMigration", true)));
        return
        [
            .. from row in rows
               let name = Text(row, "VMHost.Name")
               let host = hosts.FirstOrDefault(h => IsNamed(name, h))
               where host is not null
               select new ScvmmRating(
                   host,
                   row.TryGetValue("Rating", out var stars) && stars is not null ? Convert.ToDouble(stars, CultureInfo.InvariantCulture) : 0,
                   row.TryGetValue("ZeroRatingReasonList", out var list) && list is Array many ? [.. many.Cast<object?>().Select(reason => reason?.ToString() ?? "").Where(reason => reason.Length > 0)] : [],
                   Whole(row, "VMHost.AvailableMemory") << 20),
        ];
    }

    /// <summary>Every host group that this account may see.</summary>
    public async Task<IReadOnlyList<(Guid Id, string Name, string Path)>> ListGroupsAsync(CancellationToken cancellation) =>
    [
        .. (await RunAsync("Asking for host groups", ["ID", "Name", "Path"], cancellation, Of("Get-SCVMHostGroup", ("VMMServer", Connection()))))
            .Where(row => Id(row, "ID") is not null).Select(row => (Id(row, "ID")!.Value, Text(row, "Name") ?? "", Text(row, "Path") ?? "")),
    ];

    /// <summary>The hosts of a group.</summary>
    public async Task<IReadOnlyList<ScvmmHostFacts>> ListHostsAsync(Guid group, string called, CancellationToken cancellation)
    {
        var call = new ShellCall { Commands = [Of("Get-SCVMHostGroup", ("VMMServer", Connection()), ("ID", group))] };
        return
        [
            .. from row in await RunAsync($"Asking for the hosts of {called}", ["Name", "TotalMemory", "LogicalProcessorCount"], cancellation, Of("Get-SCVMHost", ("VMHostGroup", call)))
               select new ScvmmHostFacts(
                   Text(row, "Name") ?? "",
                   Whole(row, "TotalMemory") ?? 0,
                   (int?)Whole(row, "LogicalProcessorCount")),
        ];
    }

    /// <summary>The owner's disk in the library, or his template of that name: its id and what changes when it does.</summary>
    public async Task<(Guid Id, string State, bool IsTemplate)> FindSourceAsync(string name, CancellationToken cancellation)
    {
        var templates = await RunAsync($"Asking for the template {name}", ["ID", "ModifiedTime"], cancellation, Of("Get-SCVMTemplate", ("VMMServer", Connection()), ("Name", name)));
        if (templates.Count == 1 && Id(templates[0], "ID") is { } template)
            return (template, FormattableString.Invariant($"{template}|{templates[0]["ModifiedTime"]:O}"), true);

        var rows = await RunAsync($"Asking for the disk {name}", ["ID", "Name", "Size", "ModifiedTime"], cancellation, Of("Get-SCVirtualHardDisk", ("VMMServer", Connection()), ("Name", name)));
        return rows.Count switch
        {
            1 when Id(rows[0], "ID") is { } id => (id, FormattableString.Invariant($"{id}|{rows[0]["Size"]}|{rows[0]["ModifiedTime"]:O}"), false),
            0 => throw new VMatrixException("ImageNotFound", VMatrixErrorKind.NotFound, $"There is no template and no virtual hard disk '{name}' in the VMM library: put it on a library share and refresh the share, or mend image.disk in the pool file."),
            _ => throw new VMatrixException("ImageNotFound", VMatrixErrorKind.InvalidInput, $"The VMM library has {rows.Count} virtual hard disks named '{name}': give the one that is meant a name of its own."),
        };
    }

    public ShellCall DiskCall(Guid id) => new() { Commands = [Of("Get-SCVirtualHardDisk", ("VMMServer", Connection()), ("ID", id))] };

    public ShellCall TemplateCall(Guid id) => new() { Commands = [Of("Get-SCVMTemplate", ("VMMServer", Connection()), ("ID", id))] };

    public ShellCall MachineCall(Guid id) => new() { Commands = [Get(id)] };

    public ShellCall LibraryCall() => new() { Commands = [Of("Get-SCLibraryServer", ("VMMServer", Connection()), ("ComputerName", Library))] };

    public ShellCall HostCall(HostSpec host) => new() { Commands = [Of("Get-SCVMHost", ("VMMServer", Connection()), ("ComputerName", Address(host)))] };

    /// <summary>A whole number that VMM tells; null where it tells none.</summary>
    private static long? Whole(PropertyBag row, string name) =>
        row.TryGetValue(name, out var value) && value is not null ? Convert.ToInt64(value, CultureInfo.InvariantCulture) : null;

    public static bool IsOn(ScvmmMachine machine, HostSpec host) => IsNamed(machine.Host, host);

    /// <summary>True when a name of VMM is that of a host of the pool: with or without its domain.</summary>
    public static bool IsNamed(string? name, HostSpec host) => name is not null &&
        (string.Equals(name, Address(host), StringComparison.OrdinalIgnoreCase) || name.StartsWith(Address(host) + ".", StringComparison.OrdinalIgnoreCase));

    private static string Address(HostSpec host) => host.Address ?? host.Name;

    private async Task FollowAsync(string what, string command, IReadOnlyList<PropertyBag> rows, CancellationToken cancellation)
    {
        var task = rows.Count == 1 ? Id(rows[0], "MostRecentTaskID") : null;
        if (task is not { } id)
            throw new VMatrixException("ScvmmFailed", VMatrixErrorKind.Failed, $"{what}: VMM began it and named no job to follow.") { IsTransient = true };
        while (true)
        {
            var job = (await RunAsync(what, ["Status", "ErrorInfo.DisplayableErrorCode", "ErrorInfo.Problem"], cancellation, Of("Get-SCJob", ("VMMServer", Connection()), ("ID", id)))).FirstOrDefault();
            switch (job is null ? null : Text(job, "Status"))
            {
                case "Completed" or "SucceedWithInfo":
                    return;
                case "Failed" or "Canceled" or null:
                    throw ScvmmErrors.From(job is null ? "no job" : Text(job, "ErrorInfo.DisplayableErrorCode") ?? "", job is null ? null : Text(job, "ErrorInfo.Problem"), what, command);
                default:
                    await clock.WaitAsync(s_pause, cancellation);
                    break;
            }
        }
    }

    private ScvmmMachine ToMachine(PropertyBag row)
    {
        var id = Id(row, "ID") ?? Guid.Empty;
        var (description, name) = (Text(row, "Description") ?? "", Text(row, "Name") ?? "");
        var (ours, problem) = HyperVNotes.Read(description);
        ServerMark? stale = null;
        var written = ours;
        if (problem is not null)
            problem = $"{name} ({id}) in VMM is left alone: {problem.Replace("notes", "description")}.";
        var copy = row.TryGetValue("IsRecoveryVM", out var recovery) && recovery is true;
        if (copy)
        {
            // Its description, a lost or broken mark there too, is the original's.
            (ours, written, problem) = (null, null, null);
        }

        if (ours is not null && !IsId(ours.Mark.MachineId, id) && !(_twins.TryGetValue(id, out var twin) && twin == ours.Mark.MachineId))
        {
            problem = $"{name} carries the mark of server {ours.Mark.ServerId}, written on another machine: it is a clone or an import. Register it to make it a server of its own.";
            (stale, ours) = (ours.Mark, null);
        }

        return new ScvmmMachine
        {
            Id = id,
            Name = name,
            Status = Text(row, "Status") ?? "",
            Host = Text(row, "VMHost.Name"),
            Description = description,
            Ours = ours,
            Stale = stale,
            Written = written,
            VmId = Text(row, "VMId") is { Length: > 0 } vm ? vm : null,
            Foreign = problem,
            IsCopy = copy,
            Image = copy ? null : ImageOf(description),
            MemoryBytes = Whole(row, "Memory") << 20 ?? 0,
            Cores = (int)(Whole(row, "CPUCount") ?? 1),
            IsLeftToVmm = row.TryGetValue("BlockDynamicOptimization", out var blocked) && blocked is false,
            Address = row.TryGetValue("VirtualNetworkAdapters.IPv4Addresses", out var addresses) && addresses is Array all ? HyperVHost.PickAddress(all.OfType<string>(), IpFamily.Ipv4) : null,
        };
    }

    private static ScvmmImage? ImageOf(string description)
    {
        if (SharedText.Find(description, ImageLine) is not { IsWhole: true } piece)
            return null;
        try
        {
            return System.Text.Json.JsonSerializer.Deserialize<ScvmmImage>(description.Substring(piece.Json, piece.End - piece.Json), StateFiles.Json);
        }
        catch (System.Text.Json.JsonException)
        {
            return null;
        }
    }

    private ShellCommand Get(Guid id) => Of("Get-SCVirtualMachine", ("VMMServer", Connection()), ("ID", id));

    private ShellCall Connection()
    {
        var parameters = new List<(string, object?)> { ("ComputerName", Spec.Server ?? throw Unset("server", "the VMM management server")) };
        if (Spec.Credential is { } secret)
            parameters.Add(("Credential", new ShellSecret(secret)));
        return new ShellCall { Commands = [Of("Get-SCVMMServer", [.. parameters])] };
    }

    private static ShellCommand Of(string name, params (string Name, object? Value)[] parameters) =>
        new("VirtualMachineManager\\" + name, parameters.ToDictionary(p => p.Name, p => p.Value, StringComparer.OrdinalIgnoreCase));

    private async Task<IReadOnlyList<PropertyBag>> RunAsync(string what, string[] properties, CancellationToken cancellation, params ShellCommand[] commands)
    {
        try
        {
            return await RunRawAsync(properties, cancellation, commands);
        }
        catch (ShellException e)
        {
            throw ScvmmErrors.From(e, what);
        }
    }

    private Task<IReadOnlyList<PropertyBag>> RunRawAsync(string[] properties, CancellationToken cancellation, params ShellCommand[] commands) =>
        shell.InvokeAsync(new ShellCall { Commands = commands, Properties = properties, Timeout = commands[commands.Length - 1].Name.StartsWith("VirtualMachineManager\\Get-", StringComparison.Ordinal) ? pool.Limits.ReadTimeout : pool.Limits.StepTimeout }, cancellation);

    private static string? Text(PropertyBag row, string name) => row.TryGetValue(name, out var value) ? value?.ToString() : null;

    private static Guid? Id(PropertyBag row, string name) => row.TryGetValue(name, out var value) ? value is Guid id ? id : Guid.TryParse(value?.ToString(), out var parsed) ? parsed : null : null;

    private VMatrixException Unset(string key, string what) =>
        new("PoolInvalid", VMatrixErrorKind.InvalidInput, $"Pool '{pool.Name}' has the hypervisor scvmm and does not name {what}: set scvmm.{key} in {pool.Path}.");
}
