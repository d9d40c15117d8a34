using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text.RegularExpressions;
using VMatrix.HyperV;
using VMatrix.Shells;

namespace VMatrix.Scvmm;

/// <summary>Turns what SCVMM reports into errors with a mend. It numbers its errors, and the number is the same in every language.</summary>
internal static class ScvmmErrors
{
    private const string AgentMend = "Check that the VMM agent and Windows Remote Management run on the host and answer; where it comes back after a while, give WinRM a process of its own (sc config winrm type= own) and raise its limits.";
    private const string ExhaustedMend = "The host's Windows Remote Management has run out of memory, threads or operations: raise its limits (winrm set winrm/config/Service @{MaxConcurrentOperationsPerUser=\"1500\"}), or restart it there.";
    private const string AccessMend = "Make the account of the VMM service, or the host's Run As account, a local administrator of the host again; a group policy (Restricted Groups) may have taken it out.";

    private static readonly Dictionary<string, (string Id, VMatrixErrorKind Kind, bool Transient, string Mend)> s_known = new()
    {
        ["801"] = ("MachineNotFound", VMatrixErrorKind.NotFound, false, "It may have been deleted or moved away behind VMatrix's back: refresh it in VMM (Read-SCVirtualMachine) and look again."),
        ["1602"] = ("ServerUnreachable", VMatrixErrorKind.Unreachable, true, "Check that the VMM service runs there and that its port is open."),
        ["1604"] = ("ServerAccessDenied", VMatrixErrorKind.Denied, false, "Give the account a user role in VMM that has these hosts and the library in its scope."),
        ["1605"] = ("ServerAccessDenied", VMatrixErrorKind.Denied, false, "Give the account a user role in VMM that has these hosts and the library in its scope."),
        ["2916"] = ("HostUnreachable", VMatrixErrorKind.Unreachable, true, "Check the host, its network and the VMM agent on it."),
        ["2911"] = ("HostExhausted", VMatrixErrorKind.Busy, true, ExhaustedMend),
        ["2912"] = ("HostAgentFailed", VMatrixErrorKind.Unreachable, true, AgentMend),
        ["2915"] = ("HostAgentFailed", VMatrixErrorKind.Unreachable, true, AgentMend),
        ["2927"] = ("HostAgentFailed", VMatrixErrorKind.Unreachable, true, AgentMend),
        ["20506"] = ("HostAgentFailed", VMatrixErrorKind.Unreachable, true, AgentMend),
        ["13926"] = ("HostUnreachable", VMatrixErrorKind.Unreachable, true, "Check the host, its network and the VMM agent on it."),
        ["406"] = ("HostAccessDenied", VMatrixErrorKind.Denied, false, AccessMend),
        ["12710"] = ("HostAccessDenied", VMatrixErrorKind.Denied, false, AccessMend),
        ["23007"] = ("TooManyMigrations", VMatrixErrorKind.Busy, true, "As many moves run on the host as it allows, and VMM has waited in vain for one to end: lower limits.movesPerHost in the pool file, raise the host's own limit (Set-VMHost -MaximumStorageMigrations), or let VMM wait longer (registry value LiveMigrationQueueTimeoutSecs)."),
        ["1730"] = ("WrongState", VMatrixErrorKind.InvalidState, false, "It is not in the state that the operation needs."),
        ["2606"] = ("WrongState", VMatrixErrorKind.Busy, true, "Another job works on it; wait for that one."),
        ["809"] = ("WrongState", VMatrixErrorKind.InvalidState, false, "It is not in the state that the operation needs."),
        ["12700"] = ("HyperVFailed", VMatrixErrorKind.Failed, false, "The host refused; its event log Hyper-V-VMMS tells why."),
        ["12711"] = ("HyperVFailed", VMatrixErrorKind.Failed, false, "The host refused; its event log Hyper-V-VMMS tells why."),
        ["10421"] = ("HostNotSuitable", VMatrixErrorKind.NoRoom, false, "Compare-VMatrixServer tells what VMM has against this host."),
    };

    private static readonly Regex s_returned = new(@"\(0x(80[0-9A-Fa-f]{2})\)", RegexOptions.CultureInvariant);

    /// <summary>The commands of Hyper-V that do on a host what a command of VMM asks for; the first that a code is known of counts.</summary>
    private static readonly Dictionary<string, string[]> s_beneath = new(System.StringComparer.OrdinalIgnoreCase)
    {
        ["Start-SCVirtualMachine"] = ["Start-VM"],
        ["Resume-SCVirtualMachine"] = ["Resume-VM"],
        ["Move-SCVirtualMachine"] = ["Move-VM"],
        ["Save-SCVirtualMachine"] = ["Export-VM"],
        ["New-SCVirtualMachine"] = ["New-VM"],
        ["Stop-SCVirtualMachine"] = ["Save-VM"],
    };

    /// <summary>What is known, for the help.</summary>
    public static IEnumerable<(string Code, string Id, string Mend)> Known => s_known.Select(e => (e.Key, e.Value.Id, e.Value.Mend));

    /// <summary>An error of a command.</summary>
    public static VMatrixException From(ShellException e, string what) => From(e.ErrorId.Split(',').First(), e.Message, what, e.Command, e);

    /// <summary>An error of a job that has failed.</summary>
    /// <param name="code">VMM's number.</param>
    /// <param name="problem">What VMM says of it, in its language.</param>
    /// <param name="what">What was being done, as the begin of a sentence.</param>
    /// <param name="command">The command of VMM.</param>
    /// <param name="inner">What PowerShell told; null for a job.</param>
    public static VMatrixException From(string code, string? problem, string what, string command, ShellException? inner = null)
    {
        var told = string.Format(CultureInfo.InvariantCulture, "{0} failed: {1} ({2}).", what, (problem ?? "VMM does not say why").TrimEnd('.', ' '), code);
        if (inner?.Category == "ObjectNotFound" && inner.ExceptionType.EndsWith("CommandNotFoundException", System.StringComparison.Ordinal))
            return new("ModuleMissing", VMatrixErrorKind.NotSupported, $"{told} Windows PowerShell here lacks the module VirtualMachineManager: install the VMM console.", inner);
        var isKnown = s_known.TryGetValue(code, out var known);
        if ((!isKnown || known.Id == "HyperVFailed") && Beneath(inner?.Codes ?? [], problem, command) is { } host)
            return new(host.Id, host.Kind, $"{told} {host.Mend}", inner) { IsTransient = host.Transient };
        return isKnown ? new(known.Id, known.Kind, $"{told} {known.Mend}", inner) { IsTransient = known.Transient } : new("ScvmmFailed", VMatrixErrorKind.Failed, told, inner);
    }

    /// <summary>What Hyper-V told beneath a number of VMM that only says that the host refused: VMM quotes its codes in the text. Null where it quotes none that is known.</summary>
    private static HyperVError? Beneath(IReadOnlyList<int> codes, string? problem, string command)
    {
        string[] commands = s_beneath.TryGetValue(HyperVErrors.WithoutModule(command), out var those) ? those : [""];
        return ErrorCodes.Of([], [problem]).Concat(Returned(problem)).Concat(codes)
            .SelectMany(code => commands.Select(each => HyperVErrors.Find(code, each))).FirstOrDefault(found => found is not null);
    }

    /// <summary>Return values of Hyper-V's provider, which VMM writes short: <c>Unknown error (0x8007)</c> is 32775.</summary>
    private static IEnumerable<int> Returned(string? problem) =>
        s_returned.Matches(problem ?? "").Cast<Match>().Select(match => unchecked((int)(0x80070000u | uint.Parse(match.Groups[1].Value, NumberStyles.HexNumber, CultureInfo.InvariantCulture))));
}
