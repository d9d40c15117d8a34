using System;
using System.Collections;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Management.Automation.Remoting;
using System.Management.Automation.Runspaces;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Shells;

/// <summary>The open sessions by which hosts are reached in this process, by the hosts' addresses. They are their owner's: nothing here opens or closes one.</summary>
internal static class HostSessions
{
    private static readonly object s_gate = new();
    private static readonly Dictionary<string, HostSession> s_sessions = new(StringComparer.OrdinalIgnoreCase);

    public static HostSession? Find(string host)
    {
        lock (s_gate)
            return s_sessions.TryGetValue(host, out var session) ? session : null;
    }

    /// <param name="host">The host's address.</param>
    /// <param name="name">The host's name in the pool.</param>
    /// <param name="session">The session.</param>
    public static void Put(string host, string name, HostSession session)
    {
        session.Host = name;
        lock (s_gate)
            s_sessions[host] = session;
    }

    public static void Remove(string host)
    {
        lock (s_gate)
            _ = s_sessions.Remove(host);
    }

    public static void Forget()
    {
        lock (s_gate)
            s_sessions.Clear();
    }
}

/// <summary>An open session to a host: of PowerShell remoting, or of CIM.</summary>
internal sealed class HostSession
{
    /// <summary>
    /// What carries a call out at the other end of a PSSession. It is always the same; the call comes as data, and what it finds goes back as data.
    /// It keeps to what Windows PowerShell 5.1 knows, and leaves nothing behind in the session.
    /// </summary>
    private const string Script = """
        param([string] $Call, [hashtable] $Secrets)
        $ErrorActionPreference = 'Continue'; $ProgressPreference = 'SilentlyContinue'; $ConfirmPreference = 'None'
        $state = @{ Failed = $null }
        function Resolve-Value($Value) {
            if ($Value -is [hashtable]) {
                if ($Value.ContainsKey('secret')) { return $Secrets[$Value.secret] }
                $found = @(Invoke-Part $Value.call)
                if ($found.Count -eq 1) { return $found[0] }
                return , $found
            }
            if ($Value -is [System.Collections.IList]) { return , @(foreach ($one in $Value) { Resolve-Value $one }) }
            $Value
        }
        function Invoke-Part($Part) {
            $items = $null
            foreach ($command in $Part.commands) {
                $name = $command.name
                $given = @{}
                foreach ($key in $command.parameters.Keys) { $given[$key] = Resolve-Value $command.parameters[$key] }
                $all = if ($null -eq $items) { & $name @given 2>&1 } else { $items | & $name @given 2>&1 }
                $items = New-Object System.Collections.ArrayList
                foreach ($one in $all) {
                    if ($one -is [System.Management.Automation.ErrorRecord]) { if ($null -eq $state.Failed) { $state.Failed = $one } }
                    else { $null = $items.Add($one) }
                }
            }
            $items
        }
        function Convert-Value($Value) {
            if ($Value -is [enum]) { return $Value.ToString() }
            if ($Value -is [System.DateTimeOffset]) { return $Value.UtcDateTime }
            if ($null -eq $Value -or $Value -is [string] -or $Value -is [System.ValueType]) { return $Value }
            if ($Value -is [System.Collections.IEnumerable]) { return , @(foreach ($one in $Value) { Convert-Value $one }) }
            "$Value"
        }
        function Read-Path($Item, [string[]] $Path, [int] $At) {
            if ($At -eq $Path.Count) { return @{ Value = Convert-Value $Item } }
            if ($null -eq $Item) { return @{ Value = $null } }
            $bare = $Item.psobject.BaseObject
            if ($bare -is [System.Collections.IEnumerable] -and $bare -isnot [string] -and $bare -isnot [System.Collections.IDictionary] -and $bare -isnot [System.Management.Automation.PSCustomObject]) {
                return @{ Value = @(foreach ($each in $bare) { $one = Read-Path $each $Path $At; if ($null -ne $one) { $one.Value } }) }
            }
            $property = $Item.psobject.Properties[$Path[$At]]
            if ($null -eq $property) { return }
            try { $value = $property.Value } catch { return }
            Read-Path $value $Path ($At + 1)
        }
        $part = [System.Management.Automation.PSSerializer]::Deserialize($Call)
        $found = @()
        try { $found = @(Invoke-Part $part) } catch { $state.Failed = $_ }
        if ($null -ne $state.Failed) {
            $failed = $state.Failed
            $codes = @(for ($e = $failed.Exception; $null -ne $e; $e = $e.InnerException) { $e.HResult })
            $texts = @(for ($e = $failed.Exception; $null -ne $e; $e = $e.InnerException) {
                $e.Message
                if ($e.GetType().FullName -eq 'Microsoft.Management.Infrastructure.CimException') {
                    foreach ($of in @($e, $e.ErrorData)) {
                        foreach ($name in 'MessageId', 'error_WindowsErrorMessage', 'error_Code') {
                            $property = if ($null -ne $of) { $of.psobject.Properties[$name] }
                            if ($null -ne $property) { if ($property.Value -is [uint32]) { '0x{0:X8}' -f $property.Value } else { "$($property.Value)" } }
                        }
                    }
                }
            })
            $of = $failed.InvocationInfo.MyCommand
            $named = if ($null -eq $of) { $part.commands[0].name } elseif ($of.ModuleName) { "$($of.ModuleName)\$($of.Name)" } else { "$($of.Name)" }
            return [System.Management.Automation.PSSerializer]::Serialize(@{
                '$error' = $failed.Exception.Message; command = $named; id = $failed.FullyQualifiedErrorId; category = "$($failed.CategoryInfo.Category)"; type = $failed.Exception.GetType().FullName; codes = $codes; texts = $texts
            }, 4)
        }
        foreach ($item in $found) {
            $bag = @{}
            foreach ($name in $part.properties) {
                $read = Read-Path $item @($name -split '\.') 0
                if ($null -ne $read) { $bag[$name] = $read.Value }
            }
            [System.Management.Automation.PSSerializer]::Serialize($bag, 6)
        }
        """;

    /// <summary>A session runs one pipeline at a time, for however many hosts it is given.</summary>
    private static readonly ConditionalWeakTable<PSSession, SemaphoreSlim> s_turns = new();

    private readonly PSSession? _remote;

    /// <summary>Takes a session of either kind.</summary>
    /// <param name="session">A PSSession, or a CimSession, whose type is not named here: not every PowerShell has it.</param>
    /// <exception cref="VMatrixException"><c>SessionNotKnown</c>.</exception>
    public HostSession(PSObject session)
    {
        if (session.BaseObject is PSSession remote)
        {
            _remote = remote;
            Computer = remote.ComputerName;
        }
        else if (session.BaseObject.GetType().FullName == "Microsoft.Management.Infrastructure.CimSession")
        {
            Cim = session.BaseObject;
            Computer = session.Properties["ComputerName"]?.Value as string ?? "";
        }
        else
        {
            throw new VMatrixException("SessionNotKnown", VMatrixErrorKind.InvalidInput, $"'{session}' is no session: give one of New-PSSession or New-CimSession.");
        }
    }

    /// <summary>The computer that it leads to, by its own word.</summary>
    public string Computer { get; }

    /// <summary>The name that the host has in the pool.</summary>
    public string Host { get; internal set; } = "";

    /// <summary>The CIM session; null for a PSSession.</summary>
    public object? Cim { get; }

    /// <summary>Refuses a session that cannot carry calls out: one that runs no scripts, or that does not have Hyper-V's commands. What the host itself answers is told when it is asked.</summary>
    /// <param name="stop">Ends the trial.</param>
    /// <exception cref="VMatrixException"><c>SessionRestricted</c>, <c>HostSessionLost</c>, <c>HostSessionBusy</c>.</exception>
    public async Task<bool> CheckAsync(CancellationToken stop)
    {
        // A CIM session runs no scripts: each command takes it as it is.
        if (_remote is null)
            return true;
        var call = new ShellCall { Commands = [new("Hyper-V\\Get-VMHost", new Dictionary<string, object?>())], Properties = ["Name"] };
        bool ran = false;
        try
        {
            _ = await RunAsync(call, _ => throw new InvalidOperationException("It needs no credential."), async shell =>
            {
                var rows = await RunspaceShell.ExecuteAsync(shell, call, stop);
                ran = true;
                return rows;
            }, value => RunspaceShell.Cross(value, 0), stop);
        }
        catch (ShellException e) when (!ran || e.ExceptionType.EndsWith("CommandNotFoundException", StringComparison.Ordinal))
        {
            throw new VMatrixException("SessionRestricted", VMatrixErrorKind.NotSupported, ran
                ? $"The session to {Computer} cannot serve, and its host is reached as before: it does not have Hyper-V's commands ({e.Message.TrimEnd('.')}). Open one to an endpoint that shows all of the module Hyper-V, or install it there."
                : $"The session to {Computer} cannot serve, and its host is reached as before: it runs no scripts ({e.Message.TrimEnd('.')}), as one in the language mode NoLanguage or ConstrainedLanguage or of a JEA endpoint. Open one in full language mode (New-PSSession without -ConfigurationName), or a CimSession (New-CimSession).", e);
        }
        catch (ShellException)
        {
            // It serves; what its host has against this account is told by whoever asks it.
        }

        return true;
    }

    /// <summary>Carries a call out on the host itself.</summary>
    /// <param name="call">The call, as it is made there.</param>
    /// <param name="secret">Looks a credential up, here.</param>
    /// <param name="run">Runs a pipeline.</param>
    /// <param name="read">Makes an answer's value one that crosses to the engine.</param>
    /// <param name="stop">Ends the call.</param>
    public async Task<IReadOnlyList<PropertyBag>> RunAsync(ShellCall call, Func<string, Task<PSCredential>> secret, Func<PowerShell, Task<IReadOnlyList<PSObject>>> run, Func<object?, object?> read, CancellationToken stop)
    {
        var secrets = new Hashtable();
        object data = await ToDataAsync(call);
        var turn = s_turns.GetValue(_remote!, static _ => new SemaphoreSlim(1));
        await turn.WaitAsync(stop);
        try
        {
            var runspace = _remote!.Runspace;
            if (runspace.RunspaceStateInfo.State != RunspaceState.Opened)
                throw Lost($"it is {runspace.RunspaceStateInfo.State}", null);
            var shell = PowerShell.Create();
            shell.Runspace = runspace;
            _ = shell.AddScript(Script, useLocalScope: true).AddParameter("Call", PSSerializer.Serialize(data, 12)).AddParameter("Secrets", secrets);
            var rows = new List<PropertyBag>();
            foreach (var text in await run(shell))
            {
                var table = (Hashtable)PSObject.AsPSObject(PSSerializer.Deserialize((string)text.BaseObject)).BaseObject;
                if (table.ContainsKey("$error"))
                    throw ToError(table, read);
                var bag = new PropertyBag();
                foreach (DictionaryEntry property in table)
                    bag[(string)property.Key] = read(property.Value);
                rows.Add(bag);
            }

            return rows;
        }
        catch (Exception e) when (e is PSRemotingTransportException or InvalidRunspaceStateException)
        {
            throw Lost(e.Message.TrimEnd('.'), e);
        }
        catch (PSInvalidOperationException e)
        {
            throw new VMatrixException("HostSessionBusy", VMatrixErrorKind.Busy, $"The session to {Computer}, by which host '{Host}' is reached, is busy with something else: {e.Message} Give VMatrix a session of its own.", e) { IsTransient = true };
        }
        finally
        {
            _ = turn.Release();
        }

        async Task<Hashtable> ToDataAsync(ShellCall part)
        {
            var commands = new List<object>();
            foreach (var command in part.Commands)
            {
                var parameters = new Hashtable();
                foreach (var parameter in command.Parameters)
                    parameters[parameter.Key] = await ToValueAsync(parameter.Value);
                commands.Add(new Hashtable { ["name"] = command.Name, ["parameters"] = parameters });
            }

            return new Hashtable { ["commands"] = commands.ToArray(), ["properties"] = part.Properties.ToArray() };
        }

        async Task<object?> ToValueAsync(object? value)
        {
            switch (value)
            {
                case ShellCall nested:
                    return new Hashtable { ["call"] = await ToDataAsync(nested) };
                case ShellSecret named:
                    // It goes as PowerShell sends credentials, under the session's own key, and not with the call.
                    secrets[named.Name] ??= await secret(named.Name);
                    return new Hashtable { ["secret"] = named.Name };
                case object[] many:
                    var values = new List<object?>();
                    foreach (object? each in many)
                        values.Add(await ToValueAsync(each));
                    return values.ToArray();
                default:
                    return value;
            }
        }
    }

    private VMatrixException Lost(string why, Exception? cause) => new("HostSessionLost", VMatrixErrorKind.Unreachable,
        $"The session to {Computer}, by which host '{Host}' is reached, was lost: {why}. Open another one and connect it (Connect-VMatrixHost), or go back to the pool's own way (Disconnect-VMatrixHost).", cause);

    private static ShellException ToError(Hashtable told, Func<object?, object?> read) => new((string)read(told["$error"])!)
    {
        Command = (string?)read(told["command"]) ?? "",
        ErrorId = (string?)read(told["id"]) ?? "",
        Category = (string?)read(told["category"]) ?? "",
        ExceptionType = (string?)read(told["type"]) ?? "",
        Codes = ErrorCodes.Of(read(told["codes"]) is object?[] codes ? codes.OfType<int>() : [], read(told["texts"]) is object?[] texts ? texts.OfType<string>() : []),
    };
}
