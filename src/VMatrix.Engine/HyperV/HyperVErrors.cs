using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Shells;

namespace VMatrix.HyperV;

/// <summary>An error that is known by its codes, whatever language it is told in.</summary>
/// <param name="Codes">HRESULTs of the one trouble.</param>
/// <param name="Id">Our id for it.</param>
/// <param name="Kind">Its kind.</param>
/// <param name="Transient">True when the same call may succeed before long.</param>
/// <param name="Mend">What to do.</param>
internal sealed record HyperVError(uint[] Codes, string Id, VMatrixErrorKind Kind, bool Transient, string Mend)
{
    /// <summary>The commands of which it means this, without their module; empty for every command that no other entry names.</summary>
    public string[] Commands { get; init; } = [];
}

/// <summary>
/// Turns what PowerShell reports into errors with a mend, by code and command. Texts are localised: only codes are read in them. The Hyper-V
/// module mostly tells a code nowhere else, with an id such as <c>Unspecified</c> and the category <c>NotSpecified</c>.
/// </summary>
internal static class HyperVErrors
{
    private const string Rights = "Put the account into the host's group Hyper-V Administrators (and Remote Management Users), or name another one as credential in the pool file.";
    private const string NoAnswer = "Check the machine, its network, and that Windows Remote Management runs there (Enable-PSRemoting).";

    private static readonly string[] s_starting = ["Start-VM", "Resume-VM", "Restart-VM"];
    private static readonly string[] s_filing = ["New-VHD", "Convert-VHD", "Get-VHD", "Set-VHD", "New-VM", "Add-VMDvdDrive", "Set-VMDvdDrive", "Export-VM", "Import-VM", "Move-VM", "Move-VMStorage", "Save-VM"];

    /// <summary>Every error that is known by its codes. One that names commands comes before the same code of any command.</summary>
    public static IReadOnlyList<HyperVError> Known { get; } =
    [
        new([0x8009030E], "DelegationMissing", VMatrixErrorKind.Denied, false,
            "The credentials cannot be handed on to the other host: set constrained delegation for both hosts (cifs and Microsoft Virtual System Migration Service) and Set-VMHost -VirtualMachineMigrationAuthenticationType Kerberos, or run the command on the source host itself; with Credential Guard, CredSSP cannot work."),
        new([0x80070005], "DiskAccessDenied", VMatrixErrorKind.Denied, false,
            "The machine itself may not open one of its files: give its own account full control of each (icacls FILE /grant \"NT VIRTUAL MACHINE\\MACHINE-ID:F\" on the host), and where they are on a share give it to the host's computer account, on the share and its folder. The rights of the account that VMatrix uses are not in question.") { Commands = s_starting },
        new([0x80070005], "FileAccessDenied", VMatrixErrorKind.Denied, false,
            "The host may not use a file or folder of this operation: give the host's computer account, SYSTEM and the account that VMatrix uses full control of it; on a share, of the share and its folder, and let the host delegate to the file server (cifs).") { Commands = s_filing },
        new([0x80070005, 0x80041003], "HostAccessDenied", VMatrixErrorKind.Denied, false, Rights),
        new([0x8007052E], "CredentialRefused", VMatrixErrorKind.Denied, false, "The name or the password is wrong: make the credential anew with Get-Credential | Export-Clixml."),
        new([0x80070569], "LogonRightMissing", VMatrixErrorKind.Denied, false,
            "The identity NT VIRTUAL MACHINE\\Virtual Machines lacks the right Log on as a service on the host, which a group policy has taken away: run gpupdate /force there, and leave that right to it in the policy."),
        new([0x80070534], "CreatorUnknown", VMatrixErrorKind.NotSupported, false,
            "The account that made or imported the machine can no longer be resolved: it was a local one of another host, or was deleted from the domain. Hibernate the server and wake it on the other host, which does not ask for that account (in a cluster: Get-ClusterResource -VMId ID | Set-ClusterParameter DefaultMoveType 1); update the hosts (Azure Local 12.2605 or later) to move it live."),
        new([0x80072EE2], "HostUnreachable", VMatrixErrorKind.Unreachable, true, "Check the machine, its network, and that the firewall lets Windows Remote Management through."),
        new([0x80338126, 0x80338012], "HostUnreachable", VMatrixErrorKind.Unreachable, true, NoAnswer),
        new([0x800706BA], "HostUnreachable", VMatrixErrorKind.Unreachable, true, "Check the machine, its network, and that its firewall lets Hyper-V's remote management through."),
        new([0x80070035], "HostUnreachable", VMatrixErrorKind.Unreachable, true, "Check the machine's name and its network."),
        new([0x80070020], "DiskLocked", VMatrixErrorKind.Busy, true, "Something else holds the disk open: a backup, a copy of the machine that runs elsewhere, or a mounted disk. Wait for it or end it."),
        new([0x80070070, 0x80070027], "DiskFull", VMatrixErrorKind.NoRoom, false, "Free some room on the volume and try again."),
        new([0x8007000E, 0x80070008, 0x800705AA, 0x800705AF, 0xC0000017, 0xC000009A], "HostMemoryShort", VMatrixErrorKind.NoRoom, false,
            "The host has not enough free memory: lower its memory in the pool file to what servers may really use, or move something away."),

        // The management provider's own words, 32775 and 32777 in Msvm_* return values.
        new([0x80078007], "WrongState", VMatrixErrorKind.InvalidState, false, "Another operation runs on the machine, or it is not in the state that the operation needs; look at its State and Status and try again."),
        new([0x80078009], "WrongState", VMatrixErrorKind.InvalidState, true, "The machine is not available at this moment: another operation runs on it; try again."),
        new([0x80070015], "WrongState", VMatrixErrorKind.InvalidState, true, "The machine is not ready: another operation runs on it."),

        // Only gold disks are asked for so, and leaned on: no machine has lost anything yet.
        new([0x80070002, 0x80070003], "ImageNotFound", VMatrixErrorKind.NotFound, false, "Put the gold disk there, or mend image.disk in the pool file.") { Commands = ["Get-VHD"] },
        new([0x80070002], "FileNotFound", VMatrixErrorKind.NotFound, false, "A file of the machine is gone; restore it, or dispose of the server."),
        new([0x80070003], "FileNotFound", VMatrixErrorKind.NotFound, false, "A folder of the machine is gone, or the host cannot reach it: check hyperv.storage and the nest's folder from that host."),

        // ERROR_VID_SAVED_STATE_CORRUPT, _UNRECOGNIZED_ITEM and _INCOMPATIBLE, ERROR_HV_INVALID_SAVE_RESTORE_STATE: said of nothing but a kept memory.
        new([0xC0370027, 0xC0370028, 0xC0370029, 0xC0350017], "SavedStateNotResumable", VMatrixErrorKind.NotSupported, false,
            "The memory that it keeps cannot be resumed there: wake it on a host like the one it was saved on, or set hyperv.resumeFailure: boot to give the memory up."),
        new([0x80070103], "SddcResourceMissing", VMatrixErrorKind.NotSupported, false,
            "The cluster looked for its resource SDDC Management, which it does not have: add it (Get-ClusterResourceType \"SDDC Management\"; Add-ClusterResource -Name \"SDDC Management\" -ResourceType \"SDDC Management\" -Group \"Cluster Group\"), and update the hosts.") { Commands = ["Move-ClusterVirtualMachineRole"] },
    ];

    /// <summary>Ids that the module has for what others of its errors tell by code.</summary>
    private static readonly Dictionary<string, uint> s_byErrorId = new(StringComparer.OrdinalIgnoreCase)
    {
        ["AccessDenied"] = 0x80070005,
        ["UnauthorizedAccess"] = 0x80070005,
        ["DelegationMissing"] = 0x8009030E,
        ["HostUnreachable"] = 0x80338126,
        ["InvalidState"] = 0x80078007,
        ["DiskLocked"] = 0x80070020,
        ["SharingViolation"] = 0x80070020,
        ["OutOfMemory"] = 0x8007000E,
        ["DiskFull"] = 0x80070070,
        ["FileNotFound"] = 0x80070002,
    };

    /// <summary>True when the error says that no machine has the id that was asked for.</summary>
    public static bool IsMissing(ShellException e) => CommandOf(e) == "Get-VM" && !IsCommandMissing(e)
        && (e.Category == "ObjectNotFound" || First(e.ErrorId) is "InvalidParameter" or "ObjectNotFound")
        && Find(e)?.Kind is not (VMatrixErrorKind.Denied or VMatrixErrorKind.Unreachable);

    /// <summary>
    /// True when an error is proven to be about resuming the memory that a machine keeps, and about nothing else: a start that failed for any
    /// other reason, or for one that is not known, may succeed the next time, and the memory is needed then.
    /// </summary>
    public static bool IsAboutResuming(VMatrixException e) => e.InnerException is ShellException told && CommandOf(told) == "Start-VM" && !s_byErrorId.ContainsKey(First(told.ErrorId))
        && told.Codes.Select(code => Find(told, code)).Where(known => known is not null).ToArray() is { Length: > 0 } found && found.All(known => known!.Id == "SavedStateNotResumable");

    /// <summary>An error of a command on a host.</summary>
    /// <param name="e">What PowerShell told.</param>
    /// <param name="host">The host's name.</param>
    /// <param name="what">What was being done, as the begin of a sentence: <c>Starting FINANCE-1</c>.</param>
    public static VMatrixException From(ShellException e, string host, string what)
    {
        var told = $"{what} on {host} failed: {Sentence(e)}.";
        if (Find(e) is { } known)
            return new(known.Id, known.Kind, $"{told} {known.Mend}", e) { IsTransient = known.Transient };
        return e.Category switch
        {
            "PermissionDenied" or "SecurityError" or "AuthenticationError" => new("HostAccessDenied", VMatrixErrorKind.Denied, $"{told} {Rights}", e),
            "ConnectionError" or "OpenError" => new("HostUnreachable", VMatrixErrorKind.Unreachable, $"{told} {NoAnswer}", e) { IsTransient = true },
            "OperationTimeout" => new("HostUnreachable", VMatrixErrorKind.Unreachable, $"{told} Check the machine and its network.", e) { IsTransient = true },
            "ResourceBusy" => new("WrongState", VMatrixErrorKind.Busy, $"{told} Another operation holds it; wait for that.", e) { IsTransient = true },
            "ObjectNotFound" when IsCommandMissing(e) => new("ModuleMissing", VMatrixErrorKind.NotSupported,
                $"{told} The PowerShell that VMatrix runs in lacks the module: Install-WindowsFeature Hyper-V-PowerShell (server), Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V-Management-PowerShell (client); RSAT-Clustering-PowerShell for clusters.", e),
            "InvalidOperation" => new("WrongState", VMatrixErrorKind.InvalidState, $"{told} Look at its State and Status, and try again.", e),
            _ => new("HyperVFailed", VMatrixErrorKind.Failed, $"{told} The host's event logs Hyper-V-VMMS and Hyper-V-Worker tell more; some hosts tell missing rights so too (group Hyper-V Administrators).", e),
        };
    }

    /// <summary>What PowerShell told, in one line, with the codes that its text does not show.</summary>
    public static string Sentence(ShellException e)
    {
        // One text is often several lines that say the same in more and more detail.
        var text = string.Join(" ", e.Message.Split(['\r', '\n'], StringSplitOptions.RemoveEmptyEntries).Select(line => line.Trim()).Where(line => line.Length > 0).Distinct());
        var codes = e.Codes.Where(code => !ErrorCodes.In(text).Contains(code)).Select(code => FormattableString.Invariant($", 0x{code:X8}"));
        return $"{text.TrimEnd('.', ' ')} ({First(e.ErrorId)}{string.Concat(codes)})";
    }

    /// <summary>The entry for an error: one for its command before one for any, in the order of its codes; null for none.</summary>
    private static HyperVError? Find(ShellException e)
    {
        int[] codes = s_byErrorId.TryGetValue(First(e.ErrorId), out var said) ? [.. e.Codes, unchecked((int)said)] : [.. e.Codes];

        // That the caller lacks rights is told by an id and no code, of what needs them first; of a machine that starts it is told so too, and is its own.
        var mine = e.Codes.Count == 0 && said == 0x80070005 && !s_starting.Contains(CommandOf(e), StringComparer.OrdinalIgnoreCase);
        return codes.Select(code => mine ? Known.First(known => known.Commands.Length == 0 && Holds(known, code)) : Find(e, code)).FirstOrDefault(known => known is not null);
    }

    private static HyperVError? Find(ShellException e, int code) => Find(code, CommandOf(e));

    /// <summary>The entry for a code: one for the command before one for any; null for none.</summary>
    /// <param name="code">The code.</param>
    /// <param name="command">The command that told it, without its module.</param>
    public static HyperVError? Find(int code, string command) =>
        Known.FirstOrDefault(known => Holds(known, code) && known.Commands.Contains(command, StringComparer.OrdinalIgnoreCase))
        ?? Known.FirstOrDefault(known => Holds(known, code) && known.Commands.Length == 0);

    private static bool Holds(HyperVError known, int code) => known.Codes.Contains(unchecked((uint)code));

    private static bool IsCommandMissing(ShellException e) => e.ExceptionType.EndsWith("CommandNotFoundException", StringComparison.OrdinalIgnoreCase);

    private static string CommandOf(ShellException e) => WithoutModule(e.Command);

    /// <summary>A command's name without its module: <c>Start-VM</c> of <c>Hyper-V\Start-VM</c>.</summary>
    public static string WithoutModule(string command) => command.Substring(command.LastIndexOf('\\') + 1);

    private static string First(string errorId) => errorId.Split(',')[0];
}
