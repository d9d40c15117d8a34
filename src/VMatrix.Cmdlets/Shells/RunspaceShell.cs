using System;
using System.Collections;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Management.Automation.Runspaces;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Shells;

/// <summary>Carries out calls in a pool of runspaces of this process. The user's own runspace is never used: what a call does to variables and modules is its own.</summary>
/// <remarks>It implements none of the engine's interfaces: PowerShell looks at every type of this assembly before the engine can be found.</remarks>
public sealed class RunspaceShell : IDisposable
{
    /// <summary>Opens shells of this kind.</summary>
    public static IShellProvider Provider => new ShellsBy(callsAtOnce =>
    {
        var shell = new RunspaceShell(callsAtOnce);
        return (shell.InvokeAsync, shell.Dispose);
    });

    /// <summary>A pipeline that was asked to stop and does not is left to itself after this time; it keeps its runspace.</summary>
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(5);

    private readonly SemaphoreSlim _gate;
    private readonly Lazy<RunspacePool> _pool;
    /// <summary>A credential is read anew after this time, so that a new password needs no restart of who uses it.</summary>
    private static readonly TimeSpan s_credentialAge = TimeSpan.FromMinutes(5);

    private readonly ConcurrentDictionary<string, (Stopwatch Age, PSCredential Credential)> _credentials = new(StringComparer.Ordinal);

    /// <summary>Makes a shell; its runspaces are opened with the first call.</summary>
    /// <param name="callsAtOnce">Most pipelines that run at once; more of them wait.</param>
    public RunspaceShell(int callsAtOnce)
    {
        _gate = new SemaphoreSlim(callsAtOnce);
        _pool = new Lazy<RunspacePool>(() =>
        {
            var state = InitialSessionState.CreateDefault2();

            // Nobody is there to be asked, and errors that do not end a pipeline are told after it has ended.
            state.Variables.Add(new SessionStateVariableEntry("ConfirmPreference", ConfirmImpact.None, null));
            state.Variables.Add(new SessionStateVariableEntry("ErrorActionPreference", ActionPreference.Continue, null));
            state.Variables.Add(new SessionStateVariableEntry("ProgressPreference", ActionPreference.SilentlyContinue, null));

            // One more than may run, for a pipeline within a pipeline's parameters and for one that does not stop.
            var pool = RunspaceFactory.CreateRunspacePool(state);
            pool.SetMinRunspaces(1);
            pool.SetMaxRunspaces(callsAtOnce + 1);
            pool.ThreadOptions = PSThreadOptions.ReuseThread;
            pool.Open();
            return pool;
        });
    }

    /// <summary>Carries a call out; see <see cref="IShell"/>.</summary>
    public async Task<IReadOnlyList<PropertyBag>> InvokeAsync(ShellCall call, CancellationToken cancellation)
    {
        await _gate.WaitAsync(cancellation);
        try
        {
            using var deadline = new CancellationTokenSource(call.Timeout < TimeSpan.FromDays(20) ? call.Timeout : TimeSpan.FromDays(20));
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
            try
            {
                if (HostWays.HostOf(call) is { } host && HostSessions.Find(host) is { } session)
                {
                    if (session.Cim is null)
                        return await session.RunAsync(HostWays.OnHost(call, host), name => FindCredentialAsync(name, stop.Token), shell => ExecuteAsync(shell, call, stop.Token), value => Cross(value, 0), stop.Token);
                    call = HostWays.ByCimSession(call, host);
                }

                var found = await RunAsync(call, stop.Token);
                return [.. found.Select(item => ReadBag(item, call.Properties))];
            }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                throw new VMatrixException("ShellTimeout", VMatrixErrorKind.Timeout, $"{Names(call)} took longer than {call.Timeout.TotalSeconds:0.#} s.") { IsTransient = true };
            }
        }
        finally
        {
            _gate.Release();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_pool.IsValueCreated)
            _pool.Value.Dispose();
        _gate.Dispose();
    }

    private static string Names(ShellCall call) => string.Join(" | ", call.Commands.Select(command => command.Name));

    /// <summary>
    /// Carries out a command through a CIM session that is opened for it alone, and removes the session however that ends: in the same runspace,
    /// which is the only one that knows it.
    /// </summary>
    private const string BySession = """
        param([string] $New, [hashtable] $Open, [string] $Name, [hashtable] $Given, [string] $Remove)
        $session = & $New @Open
        if ($null -eq $session) { return }
        try { & $Name -CimSession $session @Given }
        finally { & $Remove -CimSession $session }
        """;

    private async Task<IReadOnlyList<PSObject>> RunAsync(ShellCall call, CancellationToken stop)
    {
        stop.ThrowIfCancellationRequested();
        var shell = PowerShell.Create();
        try
        {
            shell.RunspacePool = _pool.Value;
            if (call.Commands.Count == 1 && call.Commands[0].Parameters.TryGetValue("CimSession", out object? through) && through is ShellCall { Commands: [{ Name: "CimCmdlets\\New-CimSession" } open] })
            {
                var given = call.Commands[0].Parameters.Where(parameter => parameter.Value != through);
                _ = shell.AddScript(BySession, useLocalScope: true)
                    .AddParameter("New", open.Name).AddParameter("Open", await ToTableAsync(open.Parameters, stop))
                    .AddParameter("Name", call.Commands[0].Name).AddParameter("Given", await ToTableAsync(given, stop)).AddParameter("Remove", "CimCmdlets\\Remove-CimSession");
                return await ExecuteAsync(shell, call, stop);
            }

            foreach (var command in call.Commands)
            {
                shell.AddCommand(command.Name);
                foreach (var parameter in command.Parameters)
                    shell.AddParameter(parameter.Key, await ToValueAsync(parameter.Value, stop));
            }
        }
        catch
        {
            shell.Dispose();
            throw;
        }

        return await ExecuteAsync(shell, call, stop);
    }

    /// <summary>Runs a pipeline that is ready, and disposes of it.</summary>
    internal static async Task<IReadOnlyList<PSObject>> ExecuteAsync(PowerShell shell, ShellCall call, CancellationToken stop)
    {
        Task<PSDataCollection<PSObject>>? running = null;
        try
        {
            var output = new PSDataCollection<PSObject>();
            running = Task.Factory.FromAsync(shell.BeginInvoke<PSObject, PSObject>(null, output), shell.EndInvoke);
            var stopped = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
            using (stop.Register(() => stopped.TrySetResult(true)))
            {
                if (await Task.WhenAny(running, stopped.Task) != running)
                {
                    shell.BeginStop(null, null);
                    await Task.WhenAny(running, Task.Delay(s_patience, CancellationToken.None));
                    throw new OperationCanceledException(stop);
                }
            }

            try
            {
                await running;
            }
            catch (RuntimeException e)
            {
                throw ToError(e.ErrorRecord, call, e);
            }

            return shell.Streams.Error.Count > 0 ? throw ToError(shell.Streams.Error[0], call) : [.. output];
        }
        finally
        {
            if (running is null or { IsCompleted: true })
                shell.Dispose();
            else
                _ = running.ContinueWith(ended => { _ = ended.Exception; shell.Dispose(); }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
    }

    private async Task<Hashtable> ToTableAsync(IEnumerable<KeyValuePair<string, object?>> parameters, CancellationToken stop)
    {
        var table = new Hashtable();
        foreach (var parameter in parameters)
            table[parameter.Key] = await ToValueAsync(parameter.Value, stop);
        return table;
    }

    private async Task<object?> ToValueAsync(object? value, CancellationToken stop)
    {
        switch (value)
        {
            case ShellCall nested:
                var found = await RunAsync(nested, stop);
                return found.Count == 1 ? found[0] : found.ToArray();
            case Array many when many.Length > 0 && many.Cast<object?>().All(item => item is ShellCall):
                var all = new List<PSObject>();
                foreach (ShellCall each in many)
                    all.AddRange(await RunAsync(each, stop));
                return all.ToArray();
            case ShellSecret secret:
                return await FindCredentialAsync(secret.Name, stop);
            case ShellSession session:
                return HostSessions.Find(session.Host)?.Cim;
            default:
                return value;
        }
    }

    private async Task<PSCredential> FindCredentialAsync(string name, CancellationToken stop)
    {
        if (_credentials.TryGetValue(name, out var known) && known.Age.Elapsed < s_credentialAge)
            return known.Credential;
        var file = name.EndsWith(".xml", StringComparison.OrdinalIgnoreCase);
        ShellCommand command = file
            ? new("Microsoft.PowerShell.Utility\\Import-Clixml", new Dictionary<string, object?> { ["LiteralPath"] = name })
            : new("Microsoft.PowerShell.SecretManagement\\Get-Secret", new Dictionary<string, object?> { ["Name"] = name });
        Exception? cause = null;
        try
        {
            var found = await RunAsync(new ShellCall { Commands = [command] }, stop);
            if (found.Count == 1 && found[0].BaseObject is PSCredential credential)
            {
                _credentials[name] = (Stopwatch.StartNew(), credential);
                return credential;
            }
        }
        catch (ShellException e)
        {
            cause = e;
        }

        throw new VMatrixException("CredentialNotFound", VMatrixErrorKind.Denied, file
            ? $"The file '{name}' holds no credential that this account can read{(cause is null ? "" : $": {cause.Message.TrimEnd('.')}")}. Make it as the account that VMatrix runs as: Get-Credential | Export-Clixml '{name}'."
            : $"SecretManagement has no credential '{name}' for this account{(cause is null ? "" : $": {cause.Message.TrimEnd('.')}")}. Keep it with: Set-Secret -Name '{name}' -Secret (Get-Credential).", cause);
    }

    private static ShellException ToError(ErrorRecord? error, ShellCall call, Exception? thrown = null)
    {
        // An exception's own record holds a stand-in for it, which is no type of anybody's.
        var cause = error?.Exception is null or ParentContainsErrorRecordException ? thrown ?? error?.Exception : error.Exception;
        if (error is null)
            return new ShellException($"{Names(call)} failed without saying why.") { Command = call.Commands[call.Commands.Count - 1].Name };
        var command = error.InvocationInfo?.MyCommand;
        return new ShellException(cause?.Message ?? error.ToString())
        {
            Command = command is null ? call.Commands[0].Name : string.IsNullOrEmpty(command.ModuleName) ? command.Name : $"{command.ModuleName}\\{command.Name}",
            ErrorId = error.FullyQualifiedErrorId ?? "",
            Category = error.CategoryInfo.Category.ToString(),
            ExceptionType = cause?.GetType().FullName ?? "",
            Codes = ErrorCodes.Of(Causes(cause).Select(each => each.HResult), Causes(cause).SelectMany(Texts).Append(error.ErrorDetails?.Message)),
        };
    }

    /// <summary>An error and all that it wraps, the outermost first.</summary>
    private static IEnumerable<Exception> Causes(Exception? error)
    {
        if (error is null)
            return [];
        var inner = error is AggregateException many ? many.InnerExceptions.SelectMany(Causes) : Causes(error.InnerException);
        return new[] { error }.Concat(inner);
    }

    /// <summary>What an error says in words, and where it is one of CIM what its data says: <c>HRESULT 0x80070005</c>, or the code as a number.</summary>
    private static IEnumerable<string?> Texts(Exception error)
    {
        yield return error.Message;
        if (error.GetType().FullName != "Microsoft.Management.Infrastructure.CimException")
            yield break;
        foreach (object? of in new[] { error, Value(error, "ErrorData") })
            foreach (string name in new[] { "MessageId", "MessageID", "error_WindowsErrorMessage", "error_Code" })
                yield return Value(of, name) is { } told ? told is uint code ? $"0x{code:X8}" : told.ToString() : null;
    }

    private static object? Value(object? of, string name)
    {
        try
        {
            return of is null ? null : PSObject.AsPSObject(of).Properties[name]?.Value is PSObject wrapped ? wrapped.BaseObject : PSObject.AsPSObject(of).Properties[name]?.Value;
        }
        catch (GetValueException)
        {
            return null;
        }
    }

    private static PropertyBag ReadBag(PSObject item, IReadOnlyList<string> properties)
    {
        var bag = new PropertyBag();
        foreach (string path in properties)
            if (TryRead(item, path.Split('.'), 0, out object? value))
                bag[path] = value;
        return bag;
    }

    private static bool TryRead(object? item, string[] path, int at, out object? value)
    {
        value = null;
        if (at == path.Length)
        {
            value = Cross(item, 0);
            return true;
        }

        var bare = item is PSObject wrapped ? wrapped.BaseObject : item;
        if (bare is null)
            return true;
        if (bare is IEnumerable many and not (string or IDictionary) && item is not PSObject { BaseObject: PSCustomObject })
        {
            var values = new List<object?>();
            foreach (object? each in many)
                if (TryRead(each, path, at, out object? one))
                    values.AddRange(one is object?[] inner ? inner : [one]);
            value = values.ToArray();
            return true;
        }

        object? next;
        try
        {
            if (PSObject.AsPSObject(item!).Properties[path[at]] is not { } property)
                return false;
            next = property.Value;
        }
        catch (GetValueException)
        {
            return false;
        }

        return TryRead(next, path, at + 1, out value);
    }

    internal static object? Cross(object? value, int depth)
    {
        if (value is PSObject wrapped)
            value = wrapped.BaseObject;
        return value switch
        {
            null or string or bool or int or long or double or Guid or TimeSpan or DateTimeOffset => value,
            SwitchParameter flag => flag.IsPresent,
            Enum named => named.ToString(),
            DateTime time => new DateTimeOffset(time.Kind == DateTimeKind.Unspecified ? DateTime.SpecifyKind(time, DateTimeKind.Utc) : time),
            sbyte or byte or short or ushort => Convert.ToInt32(value, CultureInfo.InvariantCulture),
            uint => Convert.ToInt64(value, CultureInfo.InvariantCulture),
            ulong big => big <= long.MaxValue ? (long)big : (double)big,
            float or decimal => Convert.ToDouble(value, CultureInfo.InvariantCulture),
            char or Version or Uri => value.ToString(),
            IEnumerable many when depth < 3 => many.Cast<object?>().Select(each => Cross(each, depth + 1)).ToArray(),
            _ => value.ToString(),
        };
    }
}

/// <summary>What <c>serve.ps1</c> runs: this process carries out the calls of another one.</summary>
public static class ShellHost
{
    /// <summary>Serves calls from standard input until it ends.</summary>
    /// <param name="callsAtOnce">Most pipelines that run at once.</param>
    public static void Serve(int callsAtOnce)
    {
        using var input = Console.OpenStandardInput();
        using var output = Console.OpenStandardOutput();

        // What a module writes to the console must not come between the answers.
        Console.SetOut(Console.Error);

        // This is the process's one purpose: its thread waits here until there is nothing left to serve.
        var shell = RunspaceShell.Provider.Open(callsAtOnce);
        ShellServer.ServeAsync(shell, input, output).GetAwaiter().GetResult();
        shell.DisposeAsync().AsTask().GetAwaiter().GetResult();
    }
}
