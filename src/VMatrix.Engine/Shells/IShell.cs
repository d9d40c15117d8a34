using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Shells;

/// <summary>
/// Carries out commands of PowerShell modules and brings back property bags. Calls may overlap up to the shell's own limit; more of them wait.
/// What is sent is commands with typed parameters, never the text of a script.
/// </summary>
/// <remarks>
/// Values that cross in either direction: null, string, bool, int, long, double, <see cref="Guid"/>, <see cref="TimeSpan"/>, <see cref="DateTimeOffset"/>,
/// an array of these, <see cref="PropertyBag"/> (results only), <see cref="ShellCall"/> (parameters only: its live results are the value; of an array of them, the results of all)
/// and <see cref="ShellSecret"/> (parameters only: the credential of that name is the value).
/// An enumeration is sent by name or number and comes back as its name.
/// A CIM session that a call opens for its <c>CimSession</c> (<c>CimCmdlets\New-CimSession</c>) is removed when the call ends, however it ends.
/// </remarks>
public interface IShell : IAsyncDisposable
{
    /// <summary>Runs one pipeline and returns what it wrote, in order. Errors that did not end the pipeline are thrown too, after it has ended.</summary>
    /// <exception cref="ShellException">A command failed, was not found or could not be bound.</exception>
    /// <exception cref="VMatrixException"><c>ShellLost</c> (transient): the shell's process or connection has gone. <c>ShellTimeout</c> (transient).</exception>
    /// <exception cref="OperationCanceledException">The call was cancelled; the pipeline was asked to stop and may have had its effect.</exception>
    Task<IReadOnlyList<PropertyBag>> InvokeAsync(ShellCall call, CancellationToken cancellation);
}

/// <summary>Opens shells.</summary>
public interface IShellProvider
{
    /// <summary>A shell of its own. Nothing is started before its first call.</summary>
    /// <param name="callsAtOnce">Most pipelines that run at once; more of them wait.</param>
    IShell Open(int callsAtOnce);
}

/// <summary>Shells that are made of two functions, for an assembly that is loaded before this one and so cannot implement its interfaces.</summary>
/// <param name="open">Opens a shell for so many calls at once: what carries a call out, and what ends the shell.</param>
public sealed class ShellsBy(Func<int, (Func<ShellCall, CancellationToken, Task<IReadOnlyList<PropertyBag>>> Invoke, Action End)> open) : IShellProvider
{
    /// <inheritdoc/>
    public IShell Open(int callsAtOnce)
    {
        var (invoke, end) = open(callsAtOnce);
        return new Shell(invoke, end);
    }

    private sealed class Shell(Func<ShellCall, CancellationToken, Task<IReadOnlyList<PropertyBag>>> invoke, Action end) : IShell
    {
        public Task<IReadOnlyList<PropertyBag>> InvokeAsync(ShellCall call, CancellationToken cancellation) => invoke(call, cancellation);

        public ValueTask DisposeAsync()
        {
            end();
            return default;
        }
    }
}

/// <summary>One pipeline of commands.</summary>
public sealed record ShellCall
{
    /// <summary>The commands, each taking the objects of the one before as its pipeline input.</summary>
    public required IReadOnlyList<ShellCommand> Commands { get; init; }

    /// <summary>
    /// The properties to bring back of each object; nothing else is read, for some properties cost a query each. A path with dots goes into an
    /// object, or into every object of a collection (then the value is an array): <c>HardDrives.Path</c>. A property that is missing is absent from the bag.
    /// </summary>
    public IReadOnlyList<string> Properties { get; init; } = [];

    /// <summary>How long it may take; seconds to hours, by what the commands do.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromMinutes(2);
}

/// <summary>One command.</summary>
/// <param name="Name">The command, always with its module: <c>Hyper-V\Get-VM</c>.</param>
/// <param name="Parameters">Its parameters by name, without the dash; a switch is true or false.</param>
public sealed record ShellCommand(string Name, IReadOnlyDictionary<string, object?> Parameters);

/// <summary>A credential by name, looked up by the shell where it runs and never sent: the full path of an .xml file made with Export-Clixml, or a name in SecretManagement.</summary>
/// <param name="Name">The path or name.</param>
public sealed record ShellSecret(string Name);

/// <summary>Properties of one object that a command wrote. Names are not case-sensitive.</summary>
public sealed class PropertyBag : Dictionary<string, object?>
{
    /// <summary>An empty bag.</summary>
    public PropertyBag()
        : base(StringComparer.OrdinalIgnoreCase)
    {
    }
}

/// <summary>A command's error, as PowerShell tells it. Texts are localised: decide by id, codes and category.</summary>
public sealed class ShellException : Exception
{
    private readonly int _code;
    private readonly IReadOnlyList<int> _codes = [];

    /// <summary>An error.</summary>
    public ShellException(string message)
        : base(message)
    {
    }

    /// <summary>The command that failed, with its module.</summary>
    public string Command { get; init; } = "";

    /// <summary>PowerShell's FullyQualifiedErrorId, such as <c>InvalidState,Microsoft.HyperV.PowerShell.Commands.StartVM</c>.</summary>
    public string ErrorId { get; init; } = "";

    /// <summary>PowerShell's error category by name, such as <c>PermissionDenied</c>.</summary>
    public string Category { get; init; } = "";

    /// <summary>The type of the exception, with its namespace.</summary>
    public string ExceptionType { get; init; } = "";

    /// <summary>The code that says most, the first of <see cref="Codes"/>; 0 when the error tells none.</summary>
    public int Code
    {
        get => Codes.Count > 0 ? Codes[0] : 0;
        init => _code = value;
    }

    /// <summary>Every code that the error tells, the most telling first: HRESULTs of it and its inner errors, then what its text, its id and its data name. Set to what the shell has read; the text's and the id's are added.</summary>
    public IReadOnlyList<int> Codes
    {
        get => [.. _codes.Concat(ErrorCodes.Of([_code], [Message, ErrorId])).Distinct()];
        init => _codes = value ?? throw new ArgumentNullException(nameof(value));
    }
}
