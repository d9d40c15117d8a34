using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Shells;

namespace VMatrix.HyperV;

/// <summary>
/// What stands in the way of a machine's move to another Hyper-V host: what Compare-VM says, and what it does not say and users run into.
/// Only enumerations, numbers and ids decide; texts of the hosts are passed on as they are.
/// </summary>
internal sealed class HyperVCompare(HyperVHost from, HyperVHost to, HyperVMachine machine, HyperVSpec settings, string seed)
{
    /// <summary>Incompatibilities of Compare-VM by their message id. Others are passed on under their number.</summary>
    private static readonly Dictionary<long, string> s_known = new()
    {
        [33012] = "SwitchMissing",
        [24004] = "ProcessorFeatures",
        [24008] = "ConfigurationVersion",
        [40010] = "FileMissing",
    };

    /// <summary>States of Hyper-V Replica in which a machine may be moved.</summary>
    private static readonly string[] s_settled = ["Disabled", "Replicating", "Suspended"];

    private readonly List<MoveObstacle> _found = [];

    private string This => $"Get-VM -ComputerName {from.Address} -Id {machine.Id:D}";

    /// <summary>Asks both hosts, at the same time where one question does not depend on another.</summary>
    public async Task<IReadOnlyList<MoveObstacle>> FindAsync(CancellationToken cancellation)
    {
        var there = await FindHostAsync(to, cancellation);
        var here = ReferenceEquals(from, to) ? there : await FindHostAsync(from, cancellation);
        await Task.WhenAll(
            TryAsync("the machine's own state", () => LookAtMachineAsync(there, cancellation)),
            TryAsync("its checkpoints", () => LookAtCheckpointsAsync(cancellation)),
            TryAsync("its devices", () => LookAtDevicesAsync(cancellation)),
            TryAsync("its protection", () => LookAtSecurityAsync(cancellation)),
            TryAsync($"its replica on {to.Spec.Name}", () => LookAtReplicaAsync(cancellation)),
            TryAsync($"the free memory of {to.Spec.Name}", () => LookAtMemoryAsync(cancellation)));
        if (ReferenceEquals(from, to) || here is null || there is null)
            return _found;
        LookAtMigration(here, there);
        await Task.WhenAll(
            TryAsync("moves under way", () => LookAtMovesAsync(here, there, cancellation)),
            TryAsync("Credential Guard", () => LookAtCredentialGuardAsync(here, cancellation)));

        // It fails as a whole for what was found already, and would only say that again.
        if (!machine.IsClustered && !_found.Any(f => f.Group is ObstacleGroup.People && f.Severity is ObstacleSeverity.Blocks))
            await CompareAsync(cancellation);
        return _found;
    }

    /// <summary>The same for a server in the nest's share, which is registered on no host yet.</summary>
    /// <param name="configuration">The file that it is to be registered from.</param>
    /// <param name="cancellation">Ends the questions.</param>
    public async Task<IReadOnlyList<MoveObstacle>> FindForSleeperAsync(string configuration, CancellationToken cancellation)
    {
        if (await FindHostAsync(to, cancellation) is null)
            return _found;
        await TryAsync($"the free memory of {to.Spec.Name}", () => LookAtFreeMemoryAsync(cancellation));
        try
        {
            var reports = await to.DoAsync($"Comparing {machine.Who} with {to.Spec.Name}", ["Incompatibilities.MessageId", "Incompatibilities.Message", "Incompatibilities.Source"],
                "Hyper-V\\Compare-VM", cancellation, ("Path", configuration), ("Register", true));
            AddIncompatibilities(reports, $"New-VMSwitch -ComputerName {to.Address} with that name, or wake it on a host that has one.", "Wake it on a host that fits: Compare-VMatrixServer tells which.");
        }
        catch (VMatrixException e)
        {
            Add(e.Kind is VMatrixErrorKind.Denied ? ObstacleGroup.People : ObstacleGroup.Hardware, e.Id, e.Message, $"See that {to.Spec.Name} and this account have full control of the nest's share: about_VMatrix_HyperV.");
        }

        return _found;
    }

    /// <summary>What Compare-VM has against taking the memory that a machine keeps to a host: its processor or the machine's version; null when it says nothing of that.</summary>
    public static async Task<string?> FindAgainstMemoryAsync(HyperVHost from, HyperVHost to, HyperVMachine machine, CancellationToken cancellation)
    {
        var reports = await from.AskOfAsync(machine.Id, $"Comparing {machine.Who} with {to.Spec.Name}", ["Incompatibilities.MessageId", "Incompatibilities.Message"],
            "Hyper-V\\Compare-VM", cancellation, [.. from.MoveParameters(to, await to.FolderAsync(machine.Ours!.Mark.ServerId, cancellation))]);
        foreach (var report in reports)
        {
            var (ids, texts) = (Values(report, "Incompatibilities.MessageId"), Texts(report, "Incompatibilities.Message"));
            for (var i = 0; i < ids.Count; i++)
                if (s_known.TryGetValue(Convert.ToInt64(ids[i], CultureInfo.InvariantCulture), out var what) && what is "ProcessorFeatures" or "ConfigurationVersion")
                    return i < texts.Count ? texts[i].TrimEnd('.') : what;
        }

        return null;
    }

    private async Task<PropertyBag?> FindHostAsync(HyperVHost host, CancellationToken cancellation)
    {
        try
        {
            var rows = await host.DoAsync("Asking for its settings", ["VirtualMachineMigrationEnabled", "VirtualMachineMigrationAuthenticationType", "MaximumVirtualMachineMigrations", "MaximumStorageMigrations", "SupportedVmVersions"],
                "Hyper-V\\Get-VMHost", cancellation);
            if (rows.Count > 0)
                return rows[0];
            Add(ObstacleGroup.People, "Rights", $"{host.Spec.Name} shows nothing of itself to this account, which means that rights are missing.", Rights(host));
        }
        catch (VMatrixException e)
        {
            Add(e.Kind is VMatrixErrorKind.Denied ? ObstacleGroup.People : ObstacleGroup.Hardware, e.Kind is VMatrixErrorKind.Denied ? "Rights" : e.Id, e.Message, e.Kind is VMatrixErrorKind.Denied ? Rights(host) : $"Test-NetConnection {host.Address} -Port 5985");
        }

        return null;
    }

    private async Task LookAtMachineAsync(PropertyBag? there, CancellationToken cancellation)
    {
        var row = HyperVHost.First(await from.AskOfAsync(machine.Id, $"Asking for {machine.Who}",
            ["State", "OperationalStatus", "Version", "ReplicationState", "ReplicationMode", "Heartbeat", "DVDDrives.Path", "HardDrives.DiskNumber", "HardDrives.Path"], null, cancellation));
        if (row is null)
            return;
        var doing = Texts(row, "OperationalStatus");
        if (doing.FirstOrDefault(word => word is "BackingUpVirtualMachine" or "CreatingSnapshot" or "ApplyingSnapshot" or "DeletingSnapshot" or "MergingDisks" or "ExportingVirtualMachine" or "MigratingVirtualMachine"
            or "StorageMigrationPhaseOne" or "StorageMigrationPhaseTwo") is { } word)
        {
            var backup = word == "BackingUpVirtualMachine";
            Add(ObstacleGroup.Software, backup ? "BackupRunning" : "OperationRunning", backup ? "A backup of it runs." : $"Hyper-V is at work on it ({word}).", $"Wait for it to end: ({This}).OperationalStatus");
        }

        if (Text(row, "ReplicationState") is { } replication && !s_settled.Contains(replication))
            Add(ObstacleGroup.Software, "ReplicaState", $"Hyper-V Replica is in the middle of something ({replication}).", $"Wait for it, or {This} | Suspend-VMReplication");
        else if (Text(row, "ReplicationState") == "Replicating")
            Warn(ObstacleGroup.Software, "ReplicaTarget", $"It is replicated from {from.Spec.Name}; the replica server must accept {to.Spec.Name} too, or replication stops after the move.", $"On the replica server: New-VMReplicationAuthorizationEntry {to.Address} ...");

        var byAdapter = settings.Address is AddressSource.Adapter && machine.Ours?.Address is null;
        if (machine.Power is PowerState.Running && NotEmpty(Text(row, "Heartbeat")) is var heartbeat && !(heartbeat?.StartsWith("Ok", StringComparison.Ordinal) ?? false))
        {
            var found = new MoveObstacle
            {
                Group = ObstacleGroup.Software,
                What = "IntegrationServices",
                Severity = byAdapter && heartbeat is null or "Disabled" ? ObstacleSeverity.Blocks : ObstacleSeverity.Warns,
                Why = $"Its integration services do not answer (heartbeat: {heartbeat ?? "none"}){(byAdapter ? ", so that its address is not known after the move" : "")}.",
                Mend = $"Enable them ({This} | Enable-VMIntegrationService -Name Heartbeat; the name is localised), and see that they run in the guest.",
            };
            Put(found);
        }

        if (there is not null && Text(row, "Version") is { } version && Texts(there, "SupportedVmVersions") is { Count: > 0 } versions && !versions.Contains(version))
            Add(ObstacleGroup.Software, "ConfigurationVersion", $"Its configuration version is {version}; {to.Spec.Name} knows {string.Join(", ", versions)}.", $"Move it to a newer host; or where its version is too old: {This} | Update-VMVersion");
        // Its own seed is taken out before it moves.
        foreach (var iso in Texts(row, "DVDDrives.Path").Where(path => path.Length > 0 && !HyperVHost.IsSamePath(path, seed)))
        {
            Warn(ObstacleGroup.Hardware, "AttachedIso", $"The image file {iso} is in its DVD drive; where {to.Spec.Name} does not have it under the same path the move fails.",
                $"{This} | Get-VMDvdDrive | Set-VMDvdDrive -Path $null");
        }

        if (Values(row, "HardDrives.DiskNumber").Any(number => number is not null))
            Add(ObstacleGroup.Hardware, "PassthroughDisk", "A disk of the host itself is attached to it, which no other host has.", $"{This} | Get-VMHardDiskDrive | Where-Object DiskNumber -NE $null");
    }

    private async Task LookAtCheckpointsAsync(CancellationToken cancellation)
    {
        var rows = await from.AskOfAsync(machine.Id, $"Asking for checkpoints of {machine.Who}", ["SnapshotType"], "Hyper-V\\Get-VMSnapshot", cancellation);
        if (rows.Count == 0)
            return;
        var recovery = rows.Count(r => Text(r, "SnapshotType") == "Recovery");
        Warn(ObstacleGroup.Software, "CheckpointChain", $"It has {rows.Count} checkpoint{(rows.Count == 1 ? "" : "s")}{(recovery > 0 ? $", {recovery} of them left by a backup" : "")}: its disk is a chain of files that all go with it, and new images are not made from it.",
            $"{This} | Get-VMSnapshot | Remove-VMSnapshot");
    }

    private async Task LookAtDevicesAsync(CancellationToken cancellation)
    {
        var devices = await from.AskOfAsync(machine.Id, $"Asking for devices of {machine.Who}", ["LocationPath"], "Hyper-V\\Get-VMAssignableDevice", cancellation);
        foreach (var device in devices)
            Add(ObstacleGroup.Hardware, "PassthroughDevice", $"A device of the host is assigned to it ({Text(device, "LocationPath")}), which no other host has.", $"Stop it, then {This} | Get-VMAssignableDevice | Remove-VMAssignableDevice");
        var parts = await from.AskOfAsync(machine.Id, $"Asking for graphics of {machine.Who}", ["Id"], "Hyper-V\\Get-VMGpuPartitionAdapter", cancellation);
        if (parts.Count > 0)
            Warn(ObstacleGroup.Hardware, "GpuPartition", $"It has a part of a graphics processor; hosts before Windows Server 2025 do not move it live, and {to.Spec.Name} must have a partition free.", $"{This} | Remove-VMGpuPartitionAdapter");
    }

    // Its key protector names the guardians that may unlock its TPM: a host that is none of them has the machine and cannot start it.
    private async Task LookAtSecurityAsync(CancellationToken cancellation)
    {
        var row = HyperVHost.First(await from.AskOfAsync(machine.Id, $"Asking for the protection of {machine.Who}", ["TpmEnabled", "Shielded", "EncryptStateAndVmMigrationTraffic"], "Hyper-V\\Get-VMSecurity", cancellation));
        if (row is null || ReferenceEquals(from, to))
            return;
        if (Is(row, "Shielded"))
        {
            Warn(ObstacleGroup.People, "ShieldedMachine", $"It is shielded: only hosts that its guardian service attests run it, and whether {to.Spec.Name} is one of them only that service knows.", $"On {to.Address}: Get-HgsClientConfiguration must say IsHostGuarded for the same attestation server as {from.Address}; then move it by hand.");
        }
        else if (Is(row, "TpmEnabled"))
        {
            Warn(ObstacleGroup.People, "VirtualTpm", $"It has a virtual TPM: {to.Spec.Name} starts it only with the certificates of the guardian that its key was made for, and the move fails without them.", $"Bring the certificates Shielded VM Encryption and Shielded VM Signing, with their private keys, from {from.Address} to {to.Address} (Cert:\\LocalMachine\\Shielded VM Local Certificates), then move it by hand; or take the TPM away: {This} | Disable-VMTPM");
        }

        static bool Is(PropertyBag row, string name) => row.TryGetValue(name, out var value) && value is true;
    }

    private async Task LookAtReplicaAsync(CancellationToken cancellation)
    {
        if (!ReferenceEquals(from, to) && await to.FindAsync(machine.Id, cancellation) is { IsCopy: true } replica)
            Add(ObstacleGroup.Software, "ReplicaThere", $"{to.Spec.Name} keeps the replica of it ({replica.ReplicationMode}), and a host has one machine of an id.", $"Move it to another host, or end its replication: {This} | Remove-VMReplication, then remove the replica.");
    }

    private Task LookAtMemoryAsync(CancellationToken cancellation) => ReferenceEquals(from, to) ? Task.CompletedTask : LookAtFreeMemoryAsync(cancellation);

    private async Task LookAtFreeMemoryAsync(CancellationToken cancellation)
    {
        var row = HyperVHost.First(await to.AskClassAsync("Win32_OperatingSystem", null, ["FreePhysicalMemory"], cancellation));
        if (row is not null && Number(row, "FreePhysicalMemory") * 1024 is > 0 and var free && free < machine.MemoryBytes)
            Add(ObstacleGroup.Hardware, "HostMemory", $"{to.Spec.Name} has {free >> 20} MiB of memory free now, and it needs {machine.MemoryBytes >> 20} MiB.", $"Move something away from {to.Spec.Name}, or lower its memory in the pool file to what servers may really use.");
    }

    private void LookAtMigration(PropertyBag here, PropertyBag there)
    {
        foreach (var (host, row) in new[] { (from, here), (to, there) })
        {
            if (row.TryGetValue("VirtualMachineMigrationEnabled", out var enabled) && enabled is false && !machine.IsClustered)
                Add(ObstacleGroup.People, "LiveMigrationOff", $"Live migration is switched off on {host.Spec.Name}.", $"Enable-VMMigration -ComputerName {host.Address}");
        }

        var (mine, theirs) = (Text(here, "VirtualMachineMigrationAuthenticationType"), Text(there, "VirtualMachineMigrationAuthenticationType"));
        if (mine != theirs && !machine.IsClustered)
            Add(ObstacleGroup.People, "AuthenticationMismatch", $"{from.Spec.Name} authenticates migrations by {mine}, {to.Spec.Name} by {theirs}.", $"Set-VMHost -ComputerName {from.Address}, {to.Address} -VirtualMachineMigrationAuthenticationType Kerberos");
    }

    private async Task LookAtMovesAsync(PropertyBag here, PropertyBag there, CancellationToken cancellation)
    {
        foreach (var (host, row) in new[] { (from, here), (to, there) })
        {
            var moving = (await host.DoAsync("Listing moves", ["OperationalStatus"], "Hyper-V\\Get-VM", cancellation)).Count(r => Texts(r, "OperationalStatus").Contains("MigratingVirtualMachine"));
            var most = Number(row, "MaximumVirtualMachineMigrations");
            if (most > 0 && moving >= most)
                Warn(ObstacleGroup.People, "TooManyMigrations", $"{moving} moves run on {host.Spec.Name}, as many as it allows; one more is refused and tried again.", $"Wait, or Set-VMHost -ComputerName {host.Address} -MaximumVirtualMachineMigrations {most + 2}");
        }
    }

    private async Task LookAtCredentialGuardAsync(PropertyBag here, CancellationToken cancellation)
    {
        if (Text(here, "VirtualMachineMigrationAuthenticationType") != "CredSSP" || machine.IsClustered)
            return;
        var guard = HyperVHost.First(await from.AskClassAsync("Win32_DeviceGuard", @"root\Microsoft\Windows\DeviceGuard", ["SecurityServicesRunning"], cancellation));
        if (guard is not null && Values(guard, "SecurityServicesRunning").Any(service => service is 1 or 1L))
        {
            Add(ObstacleGroup.People, "CredentialGuard", $"Migrations of {from.Spec.Name} authenticate by CredSSP, which Credential Guard does not allow there.",
                $"Set-VMHost -ComputerName {from.Address}, {to.Address} -VirtualMachineMigrationAuthenticationType Kerberos, with constrained delegation as about_VMatrix_HyperV shows.");
        }
        else
        {
            Warn(ObstacleGroup.People, "CredSsp", $"Migrations of {from.Spec.Name} authenticate by CredSSP, which works only where VMatrix runs on {from.Spec.Name} itself.",
                $"Set-VMHost -ComputerName {from.Address}, {to.Address} -VirtualMachineMigrationAuthenticationType Kerberos");
        }
    }

    private async Task CompareAsync(CancellationToken cancellation)
    {
        IReadOnlyList<PropertyBag> reports;
        try
        {
            var folder = await to.FolderAsync(machine.Ours?.Mark.ServerId ?? machine.Id, cancellation);
            reports = await from.AskOfAsync(machine.Id, $"Comparing {machine.Who} with {to.Spec.Name}", ["Incompatibilities.MessageId", "Incompatibilities.Message", "Incompatibilities.Source"],
                "Hyper-V\\Compare-VM", cancellation, [.. from.MoveParameters(to, folder)]);
        }
        catch (VMatrixException e)
        {
            Add(e.Kind is VMatrixErrorKind.Denied || e.Id == "CreatorUnknown" ? ObstacleGroup.People : ObstacleGroup.Hardware, e.Id, e.Message, e.Id == "DelegationMissing"
                ? $"Get-ADComputer {from.Address} | Set-ADObject -Add @{{ 'msDS-AllowedToDelegateTo' = 'Microsoft Virtual System Migration Service/{to.Address}', 'cifs/{to.Address}' }}, and the other way round: see about_VMatrix_HyperV."
                : e.Kind is VMatrixErrorKind.Denied ? Rights(to) : null);
            return;
        }

        AddIncompatibilities(reports,
            $"New-VMSwitch -ComputerName {to.Address} with that name, or {This} | Get-VMNetworkAdapter | Connect-VMNetworkAdapter -SwitchName to one that both hosts have.", null);
    }

    /// <param name="reports">What Compare-VM wrote.</param>
    /// <param name="otherSwitch">The mend for a switch that is missing.</param>
    /// <param name="elsewhere">The mend for what only the machine's owner could mend where it is registered; null where it is.</param>
    private void AddIncompatibilities(IReadOnlyList<PropertyBag> reports, string otherSwitch, string? elsewhere)
    {
        foreach (var report in reports)
        {
            var (ids, texts, sources) = (Values(report, "Incompatibilities.MessageId"), Texts(report, "Incompatibilities.Message"), Values(report, "Incompatibilities.Source"));
            for (var i = 0; i < ids.Count; i++)
            {
                var id = Convert.ToInt64(ids[i], CultureInfo.InvariantCulture);
                var (text, source) = (i < texts.Count ? texts[i] : $"Incompatibility {id}.", i < sources.Count ? sources[i] as string : null);
                var what = s_known.TryGetValue(id, out var known) ? known : $"Incompatible{id}";
                Put(what switch
                {
                    "SwitchMissing" => Block(ObstacleGroup.Hardware, what, text, otherSwitch),
                    "ProcessorFeatures" => Block(ObstacleGroup.Hardware, what, text, elsewhere ?? $"Stop it, then {This} | Set-VMProcessor -CompatibilityForMigrationEnabled $true"),
                    "ConfigurationVersion" => Block(ObstacleGroup.Software, what, text, "Move it to a host that knows its version."),
                    "FileMissing" when source is not null && source.EndsWith(".iso", StringComparison.OrdinalIgnoreCase) => Block(ObstacleGroup.Hardware, "AttachedIso", text, elsewhere ?? $"{This} | Get-VMDvdDrive | Set-VMDvdDrive -Path $null"),
                    "FileMissing" => Block(ObstacleGroup.Hardware, "DiskPath", text, "Keep disks and gold disks where both hosts reach them under the same path (hyperv.storage), or copy the file there."),
                    _ => Block(ObstacleGroup.Hardware, what, text, elsewhere ?? $"{This} | Compare-VM -DestinationHost {to.Address} | Select-Object -ExpandProperty Incompatibilities"),
                });
            }
        }
    }

    // One question that is not answered must not hide the answers to the others.
    private async Task TryAsync(string what, Func<Task> look)
    {
        try
        {
            await look();
        }
        catch (VMatrixException e) when (e.Id is not "ShellLost")
        {
            Warn(e.Kind is VMatrixErrorKind.Denied ? ObstacleGroup.People : ObstacleGroup.Software, "NotAsked", $"It was not found out how {what} stands: {e.Message}", e.Kind is VMatrixErrorKind.Denied ? Rights(from) : null);
        }
    }

    private static string Rights(HyperVHost host) => $"On {host.Address}: Add-LocalGroupMember -SID S-1-5-32-578 (Hyper-V Administrators) and -SID S-1-5-32-580 (Remote Management Users) -Member ACCOUNT";

    private void Add(ObstacleGroup group, string what, string why, string? mend) => Put(Block(group, what, why, mend));

    private void Warn(ObstacleGroup group, string what, string why, string? mend) => Put(Block(group, what, why, mend) with { Severity = ObstacleSeverity.Warns });

    private static MoveObstacle Block(ObstacleGroup group, string what, string why, string? mend) => new() { Group = group, What = what, Why = why, Mend = mend };

    // What Compare-VM says with certainty stands instead of what was only suspected.
    private void Put(MoveObstacle found)
    {
        lock (_found)
        {
            if (found.Severity is ObstacleSeverity.Blocks)
                _found.RemoveAll(f => f.What == found.What && f.Severity is ObstacleSeverity.Warns);
            if (!_found.Any(f => f.What == found.What && (f.Why == found.Why || found.What == "ConfigurationVersion")))
                _found.Add(found);
        }
    }

    private static string? NotEmpty(string? text) => text is { Length: > 0 } ? text : null;

    private static string? Text(PropertyBag row, string name) => row.TryGetValue(name, out var value) ? value as string ?? Convert.ToString(value, CultureInfo.InvariantCulture) : null;

    private static long Number(PropertyBag row, string name) => row.TryGetValue(name, out var value) && value is int or long or double ? Convert.ToInt64(value, CultureInfo.InvariantCulture) : 0;

    private static List<object?> Values(PropertyBag row, string name) => row.TryGetValue(name, out var value) ? value switch
    {
        null => [],
        string one => [one],
        IEnumerable many => [.. many.Cast<object?>()],
        _ => [value],
    } : [];

    private static List<string> Texts(PropertyBag row, string name) => [.. Values(row, name).Where(v => v is not null).Select(v => v as string ?? Convert.ToString(v, CultureInfo.InvariantCulture)!)];
}
