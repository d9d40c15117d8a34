using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Shells;

namespace VMatrix.HyperV;

/// <summary>Turns what PowerShell reports into errors with a mend. Texts are localised, so they are shown and never read.</summary>
internal static class HyperVErrors
{
    /// <summary>HRESULTs that Hyper-V, its migration and the systems below report; where several stand for one trouble they share a line.</summary>
    private static readonly Dictionary<int, (string Id, VMatrixErrorKind Kind, bool Transient, string Mend)> s_byCode = new()
    {
        [unchecked((int)0x8009030E)] = ("DelegationMissing", VMatrixErrorKind.Denied, false,
            "The credentials cannot be handed on to the other host: set constrained delegation for both hosts (cifs and Microsoft Virtual System Migration Service) and Set-VMHost -VirtualMachineMigrationAuthenticationType Kerberos, or run the command on the source host itself; with Credential Guard, CredSSP cannot work."),
        [unchecked((int)0x80070005)] = ("HostAccessDenied", VMatrixErrorKind.Denied, false,
            "Put the account into the host's group Hyper-V Administrators (and Remote Management Users), or name another one as credential in the pool file."),
        [unchecked((int)0x80041003)] = ("HostAccessDenied", VMatrixErrorKind.Denied, false,
            "Put the account into the host's group Hyper-V Administrators (and Remote Management Users), or name another one as credential in the pool file."),
        [unchecked((int)0x8007052E)] = ("CredentialRefused", VMatrixErrorKind.Denied, false, "The name or the password is wrong: make the credential anew with Get-Credential | Export-Clixml."),
        [unchecked((int)0x80072EE2)] = ("HostUnreachable", VMatrixErrorKind.Unreachable, true, "Check the machine, its network, and that the firewall lets Windows Remote Management through."),
        [unchecked((int)0x80338126)] = ("HostUnreachable", VMatrixErrorKind.Unreachable, true, "Check the machine, its network, and that Windows Remote Management runs there (Enable-PSRemoting)."),
        [unchecked((int)0x80338012)] = ("HostUnreachable", VMatrixErrorKind.Unreachable, true, "Check the machine, its network, and that Windows Remote Management runs there (Enable-PSRemoting)."),
        [unchecked((int)0x800706BA)] = ("HostUnreachable", VMatrixErrorKind.Unreachable, true, "Check the machine, its network, and that its firewall lets Hyper-V's remote management through."),
        [unchecked((int)0x80070035)] = ("HostUnreachable", VMatrixErrorKind.Unreachable, true, "Check the machine's name and its network."),
        [unchecked((int)0x80070020)] = ("DiskLocked", VMatrixErrorKind.Busy, true, "Something else holds the disk open: a backup, a copy of the machine that runs elsewhere, or a mounted disk. Wait for it or end it."),
        [unchecked((int)0x80070070)] = ("DiskFull", VMatrixErrorKind.NoRoom, false, "Free some room on the volume and try again."),
        [unchecked((int)0x80070027)] = ("DiskFull", VMatrixErrorKind.NoRoom, false, "Free some room on the volume and try again."),
        [unchecked((int)0x8007000E)] = ("HostMemoryShort", VMatrixErrorKind.NoRoom, false, "The host has not enough free memory: lower its memory in the pool file to what servers may really use, or move something away."),
        [unchecked((int)0x800705AA)] = ("HostMemoryShort", VMatrixErrorKind.NoRoom, false, "The host has not enough free memory: lower its memory in the pool file to what servers may really use, or move something away."),
        // The management provider's own words, 32775 and 32777 in Msvm_* return values.
        [unchecked((int)0x80078007)] = ("WrongState", VMatrixErrorKind.InvalidState, false, "Another operation runs on the machine, or it is not in the state that the operation needs; look at its State and Status and try again."),
        [unchecked((int)0x80078009)] = ("WrongState", VMatrixErrorKind.InvalidState, true, "The machine is not available at this moment: another operation runs on it; try again."),
        [unchecked((int)0x80070015)] = ("WrongState", VMatrixErrorKind.InvalidState, true, "The machine is not ready: another operation runs on it."),
        [unchecked((int)0x80070002)] = ("FileNotFound", VMatrixErrorKind.NotFound, false, "A file of the machine is gone; restore it, or dispose of the server."),
        [unchecked((int)0x80070003)] = ("FileNotFound", VMatrixErrorKind.NotFound, false, "A folder of the machine is gone, or the host cannot reach it: check hyperv.storage and the nest's folder from that host."),
    };

    private static readonly Dictionary<string, int> s_byErrorId = new(StringComparer.OrdinalIgnoreCase)
    {
        ["AccessDenied"] = unchecked((int)0x80070005),
        ["UnauthorizedAccess"] = unchecked((int)0x80070005),
        ["DelegationMissing"] = unchecked((int)0x8009030E),
        ["HostUnreachable"] = unchecked((int)0x80338126),
        ["InvalidState"] = unchecked((int)0x80078007),
        ["DiskLocked"] = unchecked((int)0x80070020),
        ["SharingViolation"] = unchecked((int)0x80070020),
        ["OutOfMemory"] = unchecked((int)0x8007000E),
        ["DiskFull"] = unchecked((int)0x80070070),
        ["FileNotFound"] = unchecked((int)0x80070002),
    };

    /// <summary>Every error that is known by its code, for the help.</summary>
    public static IEnumerable<(int Code, string Id, string Mend)> Known => s_byCode.Select(e => (e.Key, e.Value.Id, e.Value.Mend));

    /// <summary>True when the error says that no machine has the id that was asked for.</summary>
    public static bool IsMissing(ShellException e) => EndsWith(e.Command, "\\Get-VM") && !EndsWith(e.ExceptionType, "CommandNotFoundException")
        && (e.Category == "ObjectNotFound" || First(e.ErrorId) is "InvalidParameter" or "ObjectNotFound")
        && !(e.Code != 0 && s_byCode.TryGetValue(e.Code, out var known) && known.Kind is VMatrixErrorKind.Denied or VMatrixErrorKind.Unreachable);

    /// <summary>An error of a command on a host.</summary>
    /// <param name="e">What PowerShell told.</param>
    /// <param name="host">The host's name.</param>
    /// <param name="what">What was being done, as the begin of a sentence: <c>Starting FINANCE-1</c>.</param>
    public static VMatrixException From(ShellException e, string host, string what)
    {
        var told = $"{what} on {host} failed: {e.Message.TrimEnd('.', ' ')} ({First(e.ErrorId)}{(e.Code == 0 ? "" : $", 0x{e.Code:X8}")}).";
        if (s_byCode.TryGetValue(e.Code, out var known) || (s_byErrorId.TryGetValue(First(e.ErrorId), out var code) && s_byCode.TryGetValue(code, out known)))
        {
            // Only gold disks are asked for so: no machine has lost anything yet.
            return known.Id == "FileNotFound" && EndsWith(e.Command, "\\Get-VHD")
                ? new("ImageNotFound", VMatrixErrorKind.NotFound, $"{told} Put the gold disk there, or mend image.disk in the pool file.", e)
                : new(known.Id, known.Kind, $"{told} {known.Mend}", e) { IsTransient = known.Transient };
        }

        return e.Category switch
        {
            "PermissionDenied" or "SecurityError" or "AuthenticationError" => new("HostAccessDenied", VMatrixErrorKind.Denied, $"{told} {s_byCode[unchecked((int)0x80070005)].Mend}", e),
            "ConnectionError" or "OpenError" => new("HostUnreachable", VMatrixErrorKind.Unreachable, $"{told} {s_byCode[unchecked((int)0x80338126)].Mend}", e) { IsTransient = true },
            "OperationTimeout" => new("HostUnreachable", VMatrixErrorKind.Unreachable, $"{told} Check the machine and its network.", e) { IsTransient = true },
            "ResourceBusy" => new("WrongState", VMatrixErrorKind.Busy, $"{told} Another operation holds it; wait for that.", e) { IsTransient = true },
            "ObjectNotFound" when e.ExceptionType.EndsWith("CommandNotFoundException", StringComparison.Ordinal) => new("ModuleMissing", VMatrixErrorKind.NotSupported,
                $"{told} The PowerShell that VMatrix runs in lacks the module: Install-WindowsFeature Hyper-V-PowerShell (server), Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V-Management-PowerShell (client); RSAT-Clustering-PowerShell for clusters.", e),
            "InvalidOperation" => new("WrongState", VMatrixErrorKind.InvalidState, told, e),
            _ => new("HyperVFailed", VMatrixErrorKind.Failed, told, e),
        };
    }

    private static string First(string errorId) => errorId.Split(',').First();

    private static bool EndsWith(string text, string end) => text.EndsWith(end, StringComparison.OrdinalIgnoreCase);
}
