using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Makes PowerShell's error records: one stable id and one true category each.</summary>
internal static class Errors
{
    public static ErrorRecord From(VMatrixException error, object? target) => new(error, error.Id, Category(error.Kind), target);

    public static VMatrixException PoolNotNamed(bool forChange) =>
        new("PoolNotNamed", VMatrixErrorKind.InvalidInput, forChange
            ? "This changes a pool, so the pool must be named: use -Pool, or set $env:VMATRIX_POOL. A pool.yaml in the current folder serves reading only."
            : "No pool is named: use -Pool, set $env:VMATRIX_POOL, or go to a folder with a pool.yaml. To write one, begin with an example of the module's folder examples; Get-Help about_VMatrix_PoolFile tells every key.");

    /// <summary>What was named is not there, as far as can be seen.</summary>
    /// <param name="what">What it is, such as <c>Server</c>.</param>
    /// <param name="name">The name or id.</param>
    /// <param name="pool">The pool's name.</param>
    /// <param name="silent">The hosts that did not answer, where it may be; null when that does not matter.</param>
    public static VMatrixException NotFound(string what, object name, string pool, IReadOnlyList<SilentPlace>? silent = null) =>
        new($"{what}NotFound", VMatrixErrorKind.NotFound, silent is { Count: > 0 }
            ? $"There is no {what.ToLowerInvariant()} '{name}' on the hosts of pool '{pool}' that answer; it may be {string.Join(" or ", silent.Take(8).Select(s => s.Host is null ? "in the nest" : $"on {s.Host}"))}, which {(silent.Count == 1 ? "does" : "do")} not answer. Do not make it anew before that is known."
            : $"There is no {what.ToLowerInvariant()} '{name}' in pool '{pool}'; Get-VMatrix{what} lists them.");

    public static VMatrixException Ambiguous(string name, IEnumerable<ServerInfo> servers) =>
        new("ServerAmbiguous", VMatrixErrorKind.InvalidInput,
            $"More than one server is named '{name}'; name it by its id: {string.Join(", ", servers.Select(s => $"{s.Id} ({s.Service}, in the {s.Stage}{(s.Host is null ? "" : $" on {s.Host}")})"))}.");

    public static ErrorRecord MoveNotDone(MoveRecord record, object? target)
    {
        var (id, category, sentence) = record.Status switch
        {
            MoveStatus.Refused => ("MoveRefused", ErrorCategory.InvalidOperation, "was refused"),
            MoveStatus.Cancelled => ("MoveCancelled", ErrorCategory.OperationStopped, "was cancelled"),
            MoveStatus.Undone => ("MoveUndone", ErrorCategory.OperationStopped, "was taken back"),
            MoveStatus.Failed => ("MoveFailed", ErrorCategory.InvalidResult, "failed"),
            _ => ("MoveInterrupted", ErrorCategory.OperationStopped, "was cut short"),
        };
        string message = $"{record.Move.Kind} of server '{record.Move.ServerName}' {sentence}{(record.Step is null ? "" : $" at step '{record.Step}'")}: {record.Error ?? "no reason was given."}";
        return new ErrorRecord(new VMatrixException(id, VMatrixErrorKind.Failed, message), id, category, target ?? record);
    }

    public static ErrorRecord HostActionNotDone(HostActionRecord record, string what)
    {
        const string Id = "HostActionNotDone";
        string message = $"{what} {(record.Status is MoveStatus.Refused ? "was refused" : record.Status is MoveStatus.Cancelled ? "was cancelled" : record.Status is MoveStatus.Interrupted ? "was cut short" : "failed")}: {record.Error ?? "no reason was given."}";
        return new ErrorRecord(new VMatrixException(Id, VMatrixErrorKind.Failed, message), Id, record.Status is MoveStatus.Refused ? ErrorCategory.InvalidOperation : ErrorCategory.OperationStopped, record);
    }

    private static ErrorCategory Category(VMatrixErrorKind kind) => kind switch
    {
        VMatrixErrorKind.InvalidInput => ErrorCategory.InvalidArgument,
        VMatrixErrorKind.NotFound => ErrorCategory.ObjectNotFound,
        VMatrixErrorKind.InvalidState => ErrorCategory.InvalidOperation,
        VMatrixErrorKind.Busy => ErrorCategory.ResourceBusy,
        VMatrixErrorKind.Unreachable => ErrorCategory.ConnectionError,
        VMatrixErrorKind.Denied => ErrorCategory.PermissionDenied,
        VMatrixErrorKind.Timeout => ErrorCategory.OperationTimeout,
        VMatrixErrorKind.Corrupt => ErrorCategory.InvalidData,
        VMatrixErrorKind.NoRoom => ErrorCategory.ResourceUnavailable,
        VMatrixErrorKind.NotSupported => ErrorCategory.NotImplemented,
        _ => ErrorCategory.DeviceError,
    };
}
