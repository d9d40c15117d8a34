using System;

namespace VMatrix.Doubles;

/// <summary>
/// An error as a module of Windows raises it: an id and a category that are the same in every language, and a localised text. Hyper-V's own
/// exceptions carry no HRESULT: its code stands in the text alone, under an id such as Unspecified or OperationFailed and the category
/// NotSpecified, as in https://github.com/microsoft/MSLab/issues/300 and https://github.com/kubernetes/minikube/issues/4067.
/// </summary>
public sealed class DoubleError : Exception
{
    public DoubleError(string id, string category, int code, string message)
        : base(code == 0 || message.Contains($"0x{code:X8}", StringComparison.OrdinalIgnoreCase) || id.StartsWith("HRESULT", StringComparison.Ordinal) ? message : $"{message.TrimEnd('.')} (0x{code:X8}).")
    {
        Id = id;
        Category = category;
        Code = code;
    }

    public string Id { get; }

    public string Category { get; }

    public int Code { get; }

    public object? Target { get; init; }

    public static DoubleError NotFound(string name, string kind = "virtual machine") => new("InvalidParameter", "InvalidArgument", 0, $"Hyper-V was unable to find a {kind} with name \"{name}\".") { Target = name };

    public static DoubleError NoObject(string what) => new("ObjectNotFound", "ObjectNotFound", unchecked((int)0x80070490), $"The operation failed because the object was not found: {what}.");

    public static DoubleError NotUnique(string name) => new("InvalidParameter", "InvalidArgument", 0, $"More than one virtual machine has the name \"{name}\". Name one by its object.") { Target = name };

    public static DoubleError WrongState(string name, object state) => new("InvalidState", "InvalidOperation", 0, $"The operation cannot be performed while the object is in its current state. Virtual machine '{name}' is {state}.");

    public static DoubleError AccessDenied(string host) => new("AccessDenied", "PermissionDenied", 0, $"You do not have the required permission to complete this task. Contact the administrator of the authorization policy for the computer '{host}'.");

    public static DoubleError Unreachable(string host) => new("OperationFailed", "NotSpecified", unchecked((int)0x800706BA), $"The operation on computer '{host}' failed: The RPC server is unavailable.");

    public static DoubleError Failed(string text, int code = 0) => new("OperationFailed", "NotSpecified", code, text);

    /// <summary>ERROR_VID_SAVED_STATE_INCOMPATIBLE, as winerror.h has it.</summary>
    public static DoubleError NotRestorable(string name, string why) => Failed($"'{name}' could not be restored: {why} (0xC0370029).", unchecked((int)0xC0370029));

    public static DoubleError Locked(string path) => Failed($"Failed to open attachment '{path}'. Error: 'The process cannot access the file because it is being used by another process.' (0x80070020).", unchecked((int)0x80070020));

    public static DoubleError NoFile(string path) => Failed($"The system cannot find the file specified: '{path}'. (0x80070002).", unchecked((int)0x80070002));

    public static DoubleError FileExists(string path) => Failed($"Failed to create '{path}': The file exists. (0x80070050).", unchecked((int)0x80070050));

    public static DoubleError OutOfMemory(string name, long megabytes) => new("OutOfMemory", "NotSpecified", unchecked((int)0x8007000E), $"'{name}' failed to start.\nNot enough memory in the system to start the virtual machine {name} with ram size {megabytes} megabytes.\nCould not initialize memory: Ran out of memory (0x8007000E).");

    public static DoubleError Delegation(string host, string what = "No credentials are available in the security package") => Failed($"Virtual machine migration operation failed at migration source. Failed to establish a connection with host '{host}': {what} (0x8009030E).", unchecked((int)0x8009030E));

    public static DoubleError TooMany(string name, int limit) => Failed($"Failed to perform migration on virtual machine '{name}' because virtual machine migration limit '{limit}' was reached, please wait for completion of an ongoing migration operation.");
}
