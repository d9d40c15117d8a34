using System;

namespace VMatrix;

/// <summary>What kind of trouble it is; the cmdlets turn it into PowerShell's error category.</summary>
public enum VMatrixErrorKind
{
    /// <summary>The user's input is wrong.</summary>
    InvalidInput,

    /// <summary>What was named does not exist.</summary>
    NotFound,

    /// <summary>The change is not legal in this state.</summary>
    InvalidState,

    /// <summary>Somebody else is at it.</summary>
    Busy,

    /// <summary>A host, balancer or file cannot be reached.</summary>
    Unreachable,

    /// <summary>Rights are missing.</summary>
    Denied,

    /// <summary>A deadline passed.</summary>
    Timeout,

    /// <summary>A file is corrupt or does not belong.</summary>
    Corrupt,

    /// <summary>No room: memory, disk, servers.</summary>
    NoRoom,

    /// <summary>The thing asked for is not possible here.</summary>
    NotSupported,

    /// <summary>The machine or a tool failed.</summary>
    Failed,
}

/// <summary>An error that says what happened and how to mend it.</summary>
public sealed class VMatrixException : Exception
{
    /// <summary>Makes an error.</summary>
    /// <param name="id">Stable PascalCase id, such as <c>ServerNotFound</c>.</param>
    /// <param name="kind">What kind of trouble it is.</param>
    /// <param name="message">What happened, naming file, line, value or host, and the mend. What a terminal would obey in it is shown by its number.</param>
    /// <param name="inner">The cause, if another error was.</param>
    public VMatrixException(string id, VMatrixErrorKind kind, string message, Exception? inner = null)
        : base(PlainText.Of(message), inner)
    {
        Id = id;
        Kind = kind;
    }

    /// <summary>Stable PascalCase id.</summary>
    public string Id { get; }

    /// <summary>What kind of trouble it is.</summary>
    public VMatrixErrorKind Kind { get; }

    /// <summary>True when trying again may help.</summary>
    public bool IsTransient { get; init; }
}
