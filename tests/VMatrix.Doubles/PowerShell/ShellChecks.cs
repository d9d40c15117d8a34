using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Shells;

namespace VMatrix.Doubles;

/// <summary>
/// What every shell keeps to, whichever way in: one set for the runspaces of this process, checked inside PowerShell, and for the child process,
/// checked from outside. It calls commands that every PowerShell has, and the doubled modules where they are on its module path.
/// </summary>
public static class ShellChecks
{
    private static readonly Dictionary<string, Func<IShell, DoubleWorld, Task>> s_checks = new()
    {
        ["Values keep their types"] = ValuesKeepTheirTypesAsync,
        ["Only what was asked for comes back"] = OnlyWhatWasAskedForAsync,
        ["Parameters are values and never script"] = ParametersAreValuesAsync,
        ["Errors tell id, category, type and code"] = ErrorsAsync,
        ["An error that does not end the pipeline is told after it"] = LateErrorAsync,
        ["A command that nobody has is told"] = UnknownCommandAsync,
        ["A cancelled call stops"] = CancelAsync,
        ["A call that takes too long ends"] = TimeoutAsync,
        ["No more calls at once than agreed"] = BoundAsync,
        ["Many calls get each their own answer"] = ManyAsync,
        ["A credential is looked up by its name, and what is missing is told"] = CredentialAsync,
        ["The doubled modules work through it"] = DoublesAsync,
    };

    /// <summary>The names of the checks.</summary>
    public static IReadOnlyCollection<string> Names => s_checks.Keys;

    /// <summary>Calls at once that the shell under check is to be opened with.</summary>
    public const int CallsAtOnce = 4;

    /// <summary>Makes one check; throws when it fails.</summary>
    /// <param name="name">Which.</param>
    /// <param name="shell">A shell opened for <see cref="CallsAtOnce"/>.</param>
    /// <param name="world">The world that the doubled modules work on in that shell, with the host host1.</param>
    public static Task RunAsync(string name, IShell shell, DoubleWorld world) => s_checks[name](shell, world);

    private static ShellCommand Command(string name, params (string Name, object? Value)[] parameters) => new(name, parameters.ToDictionary(p => p.Name, p => p.Value));

    private static ShellCall Call(IReadOnlyList<string> properties, params ShellCommand[] commands) => new() { Commands = commands, Properties = properties };

    private static async Task ValuesKeepTheirTypesAsync(IShell shell, DoubleWorld world)
    {
        var rows = await shell.InvokeAsync(Call(["Id", "ProcessName", "StartTime", "WorkingSet64", "PriorityClass", "Responding", "Threads.Id", "TotalProcessorTime"], Command(@"Microsoft.PowerShell.Management\Get-Process", ("Id", Environment.ProcessId))), default);
        var row = Only(rows);
        Is(row["Id"], Environment.ProcessId);
        Is(row["processname"] is string { Length: > 0 }, true);
        Is(row["WorkingSet64"] is long and > 0, true);
        Is(row["Responding"] is bool, true);
        Is(row["StartTime"] is DateTimeOffset at && at.ToUniversalTime() > DateTimeOffset.UtcNow.AddDays(-1) && at.ToUniversalTime() < DateTimeOffset.UtcNow, true);
        Is(row["TotalProcessorTime"] is TimeSpan, true);
        Is(row["Threads.Id"] is object?[] { Length: > 1 } ids && ids.All(id => id is int), true);
        var drive = Only(await shell.InvokeAsync(Call(["Attributes", "Exists", "CreationTimeUtc", "Name"], Command(@"Microsoft.PowerShell.Management\Get-Item", ("LiteralPath", "/"))), default));
        Is(drive["Attributes"], "Directory");
        Is(drive["Exists"], true);
    }

    private static async Task OnlyWhatWasAskedForAsync(IShell shell, DoubleWorld world)
    {
        var rows = await shell.InvokeAsync(Call(["Name", "NoSuchProperty"], Command(@"Microsoft.PowerShell.Management\Get-Item", ("LiteralPath", new object[] { "/", "/tmp" }))), default);
        Is(rows.Count, 2);
        Is(string.Join(",", rows.SelectMany(row => row.Keys)), "Name,Name");
        Is((string?)rows[1]["Name"], "tmp");
        Is((await shell.InvokeAsync(Call([], Command(@"Microsoft.PowerShell.Utility\Write-Output", ("InputObject", "x"))), default)).Count, 1);

        // What calls within the call find is the value, of several calls all that they find.
        ShellCall Item(string path) => Call([], Command(@"Microsoft.PowerShell.Management\Get-Item", ("LiteralPath", path)));
        var found = await shell.InvokeAsync(Call(["Name"], Command(@"Microsoft.PowerShell.Utility\Write-Output", ("InputObject", new[] { Item("/"), Item("/tmp") }))), default);
        Is(string.Join(",", found.Select(row => row["Name"])), "/,tmp");
        Is((await shell.InvokeAsync(Call(["Name"], Command(@"Microsoft.PowerShell.Core\Out-Null", ("InputObject", "x"))), default)).Count, 0);
    }

    private static async Task ParametersAreValuesAsync(IShell shell, DoubleWorld world)
    {
        foreach (var text in new[] { "$(throw 'run')", "'; throw 'run", "a\nb\r\n\"c\" \u2028 Ä \U0001F600", "", "{\"id\":1}", "`$x" })
        {
            var row = Only(await shell.InvokeAsync(Call(["Value", "Length"], Command(@"Microsoft.PowerShell.Utility\New-Object", ("TypeName", "System.Text.StringBuilder"), ("ArgumentList", new object[] { text }))), default));
            Is(row["Length"], text.Length);
        }

        // A call as a value: its live result is the parameter.
        var process = Call([], Command(@"Microsoft.PowerShell.Management\Get-Process", ("Id", Environment.ProcessId)));
        Is(Only(await shell.InvokeAsync(Call(["Id"], Command(@"Microsoft.PowerShell.Management\Get-Process", ("InputObject", process))), default))["Id"], Environment.ProcessId);
        var mixed = Only(await shell.InvokeAsync(Call(["Id"], Command(@"Microsoft.PowerShell.Management\Get-Process", ("Id", (long)Environment.ProcessId)), Command(@"Microsoft.PowerShell.Utility\Select-Object", ("First", 1))), default));
        Is(mixed["Id"], Environment.ProcessId);
    }

    private static async Task ErrorsAsync(IShell shell, DoubleWorld world)
    {
        var error = await FailsAsync(shell, Call([], Command(@"Microsoft.PowerShell.Management\Get-Item", ("LiteralPath", "/no/such/file"))));
        Is(error.ErrorId, "PathNotFound,Microsoft.PowerShell.Commands.GetItemCommand");
        Is(error.Category, "ObjectNotFound");
        Is(error.ExceptionType, "System.Management.Automation.ItemNotFoundException");
        Is(error.Command, @"Microsoft.PowerShell.Management\Get-Item");
        Is(error.Message.Contains("/no/such/file", StringComparison.Ordinal), true);

        // A parameter that does not exist, and one that is of the wrong type.
        Is((await FailsAsync(shell, Call([], Command(@"Microsoft.PowerShell.Management\Get-Item", ("NoSuchParameter", 1))))).ErrorId.Split(',')[0], "NamedParameterNotFound");
        Is((await FailsAsync(shell, Call([], Command(@"Microsoft.PowerShell.Management\Get-Process", ("Id", "not a number"))))).ErrorId.Split(',')[0], "CannotConvertArgumentNoMessage");
    }

    private static async Task LateErrorAsync(IShell shell, DoubleWorld world)
    {
        var error = await FailsAsync(shell, Call(["Name"], Command(@"Microsoft.PowerShell.Management\Get-Item", ("LiteralPath", new object[] { "/no/such/file", "/tmp" }))));
        Is(error.Category, "ObjectNotFound");
    }

    private static async Task UnknownCommandAsync(IShell shell, DoubleWorld world)
    {
        var error = await FailsAsync(shell, Call([], Command(@"NoSuchModule\Get-Nothing")));
        Is(error.ExceptionType, "System.Management.Automation.CommandNotFoundException");
        Is(error.Category, "ObjectNotFound");
    }

    private static async Task CancelAsync(IShell shell, DoubleWorld world)
    {
        using var cancel = new CancellationTokenSource();
        var sleeping = shell.InvokeAsync(Call([], Command(@"Microsoft.PowerShell.Utility\Start-Sleep", ("Seconds", 600))), cancel.Token);
        await Task.Delay(200);
        Is(sleeping.IsCompleted, false);
        await cancel.CancelAsync();
        try
        {
            await sleeping;
            throw new InvalidOperationException("It was cancelled and came to an end.");
        }
        catch (OperationCanceledException)
        {
        }

        try
        {
            await shell.InvokeAsync(Call([], Command(@"Microsoft.PowerShell.Utility\Start-Sleep", ("Seconds", 600))), cancel.Token);
            throw new InvalidOperationException("It was cancelled before it began.");
        }
        catch (OperationCanceledException)
        {
        }

        Is(Only(await shell.InvokeAsync(Call(["Length"], Command(@"Microsoft.PowerShell.Utility\Write-Output", ("InputObject", "abc"))), default))["Length"], 3);
    }

    private static async Task TimeoutAsync(IShell shell, DoubleWorld world)
    {
        try
        {
            await shell.InvokeAsync(Call([], Command(@"Microsoft.PowerShell.Utility\Start-Sleep", ("Seconds", 600))) with { Timeout = TimeSpan.FromMilliseconds(300) }, default);
            throw new InvalidOperationException("It did not end.");
        }
        catch (VMatrixException e)
        {
            Is((e.Id, e.IsTransient), ("ShellTimeout", true));
        }
    }

    private static async Task BoundAsync(IShell shell, DoubleWorld world)
    {
        // Each blocks its pipeline until as many run at once as may; one more than that would be seen.
        world.Configure(settings => settings with { CallLatency = TimeSpan.FromMilliseconds(300) });
        try
        {
            var clock = Stopwatch.StartNew();
            await Task.WhenAll(Enumerable.Range(0, CallsAtOnce * 2).Select(_ => shell.InvokeAsync(Call([], Command(@"Hyper-V\Get-VMHost", ("ComputerName", "host1"))), default)));

            // Two rounds of 300 ms and not fewer; how much longer depends on the machine and proves nothing.
            Is(clock.Elapsed >= TimeSpan.FromMilliseconds(590), true);
        }
        finally
        {
            world.Configure(settings => settings with { CallLatency = TimeSpan.Zero });
        }
    }

    private static async Task ManyAsync(IShell shell, DoubleWorld world)
    {
        var answers = await Task.WhenAll(Enumerable.Range(0, 60).Select(async i => (i, Rows: await shell.InvokeAsync(Call(["Length"], Command(@"Microsoft.PowerShell.Utility\Write-Output", ("InputObject", new string('x', i * 100)))), default))));
        foreach (var (i, rows) in answers)
            Is(Only(rows)["Length"], i * 100);
    }

    /// <summary>A credential file as Export-Clixml writes it on systems that have no store of their own for its secret; its path.</summary>
    public static string WriteCredential(DoubleWorld world, string user)
    {
        var path = System.IO.Path.Combine(world.Folder, user + ".xml");
        System.IO.File.WriteAllText(path, $"""<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04"><Obj RefId="0"><TN RefId="0"><T>System.Management.Automation.PSCredential</T><T>System.Object</T></TN><Props><S N="UserName">{user}</S><SS N="Password">780079007a00</SS></Props></Obj></Objs>""");
        return path;
    }

    private static async Task CredentialAsync(IShell shell, DoubleWorld world)
    {
        var path = WriteCredential(world, "Ada");
        ShellCall Ask(string name) => Call(["UserName"], Command(@"Microsoft.PowerShell.Utility\Write-Output", ("InputObject", new ShellSecret(name))));
        Is(Only(await shell.InvokeAsync(Ask(path), default))["UserName"], "Ada");
        foreach (var (name, mend) in new[] { (System.IO.Path.Combine(world.Folder, "nobody.xml"), "Export-Clixml"), ("nobody", "Set-Secret") })
        {
            try
            {
                await shell.InvokeAsync(Ask(name), default);
                throw new InvalidOperationException("A credential that is not there was found.");
            }
            catch (VMatrixException e)
            {
                Is((e.Id, e.Message.Contains(mend, StringComparison.Ordinal), e.Message.Contains("xyz", StringComparison.Ordinal)), ("CredentialNotFound", true, false));
            }
        }
    }

    private static async Task DoublesAsync(IShell shell, DoubleWorld world)
    {
        var made = (Guid)Only(await shell.InvokeAsync(Call(["Id"], Command(@"Hyper-V\New-VM", ("Name", "seen"), ("MemoryStartupBytes", 1L << 29), ("Generation", 2), ("ComputerName", "host1"))), default))["Id"]!;
        var get = Command(@"Hyper-V\Get-VM", ("Id", made), ("ComputerName", "host1"));
        await shell.InvokeAsync(Call([], get, Command(@"Hyper-V\Set-VM", ("Notes", "a\nb Ä"), ("AutomaticStartAction", "Nothing"))), default);
        var row = Only(await shell.InvokeAsync(Call(["Id", "State", "Notes", "MemoryStartup", "ProcessorCount", "IsClustered", "OperationalStatus", "HardDrives.Path"], get), default));
        Is(row["Id"], made);
        Is(row["State"], "Off");
        Is(row["Notes"], "a\nb Ä");
        Is(row["MemoryStartup"], 1L << 29);
        Is(row["IsClustered"], false);
        Is(row["OperationalStatus"] is object?[] { Length: 1 } doing ? doing[0] : null, "Ok");
        var error = await FailsAsync(shell, Call([], get, Command(@"Hyper-V\Save-VM")));
        Is(error.ErrorId, "InvalidState,Microsoft.HyperV.PowerShell.Commands.SaveVM");
        Is(error.Category, "InvalidOperation");
        world.SetHost("host1", host => host with { Mood = HostMood.CutOff });
        Is((await FailsAsync(shell, Call([], get))).Code, unchecked((int)0x800706BA));
        world.SetHost("host1", host => host with { Mood = HostMood.Up });
        await shell.InvokeAsync(Call([], get, Command(@"Hyper-V\Remove-VM", ("Force", true))), default);
        Is((await FailsAsync(shell, Call([], get))).Category, "ObjectNotFound");
    }

    private static async Task<ShellException> FailsAsync(IShell shell, ShellCall call)
    {
        try
        {
            await shell.InvokeAsync(call, default);
        }
        catch (ShellException e)
        {
            return e;
        }

        throw new InvalidOperationException($"{string.Join(" | ", call.Commands.Select(command => command.Name))} did not fail.");
    }

    private static PropertyBag Only(IReadOnlyList<PropertyBag> rows) => rows.Count == 1 ? rows[0] : throw new InvalidOperationException($"{rows.Count} objects came back, not one.");

    private static void Is<T>(T found, T wanted)
    {
        if (!Equals(found, wanted))
            throw new InvalidOperationException($"It is {found ?? (object)"nothing"} ({found?.GetType().Name}), not {wanted} ({wanted?.GetType().Name}).");
    }
}
