using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Scripts;
using VMatrix.Shells;
using Xunit;

namespace VMatrix.Tests.PowerShells;

/// <summary>The checks that every shell passes, on the PowerShell child; and what only a child can do: die.</summary>
public sealed class ChildShellTests(ChildShellTests.Fixture child) : IClassFixture<ChildShellTests.Fixture>
{
    public static TheoryData<string> Names => [.. ShellChecks.Names];

    [PowerShellTheory]
    [MemberData(nameof(Names))]
    public async Task It_keeps_to(string check) => await ShellChecks.RunAsync(check, child.Shell, child.World);

    [PowerShellFact]
    public async Task Killed_in_the_middle_it_fails_what_was_open_and_comes_back()
    {
        await using var shell = new ChildShell(child.Start, 4, TimeProvider.System);
        var get = new ShellCall { Commands = [new ShellCommand(@"Microsoft.PowerShell.Utility\Write-Output", new Dictionary<string, object?> { ["InputObject"] = "abc" })], Properties = ["Length"] };
        Assert.Null(shell.ProcessId);
        Assert.Equal(3, Assert.Single(await shell.InvokeAsync(get, default))["Length"]);
        var first = shell.ProcessId!.Value;
        var open = Enumerable.Range(0, 3).Select(_ => shell.InvokeAsync(new ShellCall { Commands = [new ShellCommand(@"Microsoft.PowerShell.Utility\Start-Sleep", new Dictionary<string, object?> { ["Seconds"] = 600 })] }, default)).ToArray();
        await Task.Delay(100);
        using (var process = Process.GetProcessById(first))
            process.Kill();
        foreach (var each in open)
        {
            var lost = await Assert.ThrowsAsync<VMatrixException>(() => each);
            Assert.Equal(("ShellLost", true), (lost.Id, lost.IsTransient));
        }

        Assert.Equal(3, Assert.Single(await shell.InvokeAsync(get, default))["Length"]);
        Assert.NotEqual(first, shell.ProcessId);
    }

    [PowerShellFact]
    public async Task Each_credential_has_a_process_of_its_own_that_lives_on()
    {
        var (one, other) = (ShellChecks.WriteCredential(child.World, "one"), ShellChecks.WriteCredential(child.World, "other"));
        await using var shell = (ChildByCredential)new ChildShells(child.Start).Open(2);
        Assert.Empty(shell.Processes);
        foreach (var secret in new[] { null, one, one, other, null, other })
        {
            // Also where a parameter's own call names it.
            object? value = secret is null ? "nobody" : new ShellCall { Commands = [Write(new ShellSecret(secret))] };
            var row = Assert.Single(await shell.InvokeAsync(new ShellCall { Commands = [Write(value)], Properties = ["UserName"] }, default));
            Assert.Equal(secret is null ? null : Path.GetFileNameWithoutExtension(secret), row.GetValueOrDefault("UserName"));
        }

        Assert.Equal(new[] { "", one, other }.Order(StringComparer.Ordinal), shell.Processes.Keys.Order(StringComparer.Ordinal));
        Assert.Equal(3, shell.Processes.Values.Distinct().Count(id => id is not null));

        // One that dies takes nothing from the others.
        var own = shell.Processes[""];
        using (var process = Process.GetProcessById(shell.Processes[one]!.Value))
            process.Kill();
        Assert.Single(await shell.InvokeAsync(new ShellCall { Commands = [Write("still there")] }, default));
        Assert.Equal(own, shell.Processes[""]);

        static ShellCommand Write(object? value) => new(@"Microsoft.PowerShell.Utility\Write-Output", new Dictionary<string, object?> { ["InputObject"] = value });
    }

    [PowerShellFact]
    public async Task It_ends_with_the_shell_that_started_it()
    {
        Process process;
        await using (var shell = new ChildShell(child.Start, 2, TimeProvider.System))
        {
            await shell.InvokeAsync(new ShellCall { Commands = [new ShellCommand(@"Microsoft.PowerShell.Utility\Get-Date", new Dictionary<string, object?>())] }, default);
            process = Process.GetProcessById(shell.ProcessId!.Value);
        }

        await process.WaitForExitAsync(new System.Threading.CancellationTokenSource(TimeSpan.FromSeconds(20)).Token);
        process.Dispose();
    }

    // PowerShell as a .NET tool: what is on PATH starts `dotnet pwsh.dll` and waits for it (PowerShell/PowerShell, src/GlobalTool.Shim/GlobalToolShim.cs).
    [PowerShellFact]
    public async Task Behind_a_program_in_between_the_child_tells_its_own_id_and_ends_with_the_shell()
    {
        var behind = child.Start with { Program = InBetween() };
        Process process;
        await using (var shell = new ChildShell(behind, 2, TimeProvider.System))
        {
            await shell.InvokeAsync(new ShellCall { Commands = [new ShellCommand(@"Microsoft.PowerShell.Utility\Get-Date", new Dictionary<string, object?>())] }, default);
            process = Process.GetProcessById(shell.ProcessId!.Value);
            Assert.StartsWith(behind.Program.Arguments[1], await File.ReadAllTextAsync($"/proc/{process.Id}/cmdline"), StringComparison.Ordinal);

            // Stuck in a command that does not hear of its end.
            var stuck = shell.InvokeAsync(new ShellCall { Commands = [new ShellCommand(@"Microsoft.PowerShell.Utility\Start-Sleep", new Dictionary<string, object?> { ["Seconds"] = 600 })] }, default);
            using (var stop = Process.Start("kill", ["-STOP", $"{process.Id}"]))
                await stop.WaitForExitAsync();
            await shell.DisposeAsync();
            await Assert.ThrowsAsync<VMatrixException>(() => stuck);
        }

        await process.WaitForExitAsync(new System.Threading.CancellationTokenSource(TimeSpan.FromMinutes(1)).Token);
        process.Dispose();
    }

    [PowerShellFact]
    public async Task Killed_behind_a_program_in_between_it_fails_what_was_open()
    {
        await using var shell = new ChildShell(child.Start with { Program = InBetween() }, 2, TimeProvider.System);
        var sleep = new ShellCall { Commands = [new ShellCommand(@"Microsoft.PowerShell.Utility\Start-Sleep", new Dictionary<string, object?> { ["Seconds"] = 600 })] };
        await shell.InvokeAsync(new ShellCall { Commands = [new ShellCommand(@"Microsoft.PowerShell.Utility\Get-Date", new Dictionary<string, object?>())] }, default);
        var open = shell.InvokeAsync(sleep, default);
        using (var process = Process.GetProcessById(shell.ProcessId!.Value))
            process.Kill();
        Assert.Equal("ShellLost", (await Assert.ThrowsAsync<VMatrixException>(() => open)).Id);
    }

    [Theory]
    [InlineData("[1,2,3]")]
    [InlineData("{\"id\":\"x\",\"rows\":[]}")]
    [InlineData("{\"id\":1e300}")]
    [InlineData("{\"processId\":[]}")]
    [InlineData("not JSON")]
    [InlineData("{\"id\":1,\"rows\":[7]}", "ShellAnswerUnreadable")]
    [InlineData("{\"id\":1,\"rows\":[{\"a\":1e300}]}", "ShellAnswerUnreadable")]
    [InlineData("{\"id\":1,\"error\":[]}", "ShellAnswerUnreadable")]
    [InlineData("{\"id\":1,\"fault\":{\"id\":5}}", "ShellAnswerUnreadable")]
    public async Task An_answer_of_another_kind_is_an_error_of_that_call(string line, string expected = "ShellLost")
    {
        using var folder = new TemporaryFolder();
        var script = Path.Combine(folder.Path, "child");
        await File.WriteAllTextAsync(script, $"read line\nprintf '%s\\n' '{line}'\n");
        await using var shell = new ChildShell(new ChildShellStart(new PowerShellProgram("/bin/sh", [script]), "serve.ps1"), 1, TimeProvider.System);
        var error = await Assert.ThrowsAsync<VMatrixException>(() => shell.InvokeAsync(new ShellCall { Commands = [] }, default));
        Assert.Equal(expected, error.Id);
    }

    [Fact]
    public void A_tools_command_stands_for_the_PowerShell_that_it_starts()
    {
        using var folder = new TemporaryFolder();
        var home = Directory.CreateDirectory(Path.Combine(folder.Path, ".store/powershell/7.6.9/powershell/7.6.9/tools/net10.0/any/unix")).FullName;
        foreach (var other in new[] { Path.Combine(home, "../win/pwsh.dll"), Path.Combine(home, "pwsh.dll"), Path.Combine(home, "pwsh"), Path.Combine(home, "Microsoft.PowerShell.GlobalTool.Shim.dll"), Path.Combine(folder.Path, "pwsh") })
        {
            Directory.CreateDirectory(Path.GetDirectoryName(other)!);
            File.WriteAllText(other, "");
        }

        var found = PowerShellProgram.Resolve(Path.Combine(folder.Path, "pwsh"));
        Assert.True(found is { Arguments.Count: 0 } ? found.Path == Path.Combine(home, "pwsh") : found.Arguments[0] == Path.Combine(home, "pwsh.dll"), found.ToString());

        // Its program for this system may be missing, the library is not.
        File.Delete(Path.Combine(home, "pwsh"));
        found = PowerShellProgram.Resolve(Path.Combine(folder.Path, "pwsh"));
        Assert.Equal("dotnet", Path.GetFileNameWithoutExtension(found.Path));
        Assert.Equal([Path.Combine(home, "pwsh.dll")], found.Arguments);
    }

    [Fact]
    public void An_ordinary_installation_is_started_as_it_is()
    {
        using var folder = new TemporaryFolder();
        foreach (var name in new[] { "pwsh", "pwsh.dll" })
            File.WriteAllText(Path.Combine(folder.Path, name), "");
        Assert.Equal(Path.Combine(folder.Path, "pwsh"), PowerShellProgram.Resolve(Path.Combine(folder.Path, "pwsh")).Path);
        Assert.Equal(Path.Combine(folder.Path, "pwsh"), PowerShellProgram.InHome(folder.Path)!.Path);
        Assert.Equal([Path.Combine(folder.Path, "pwsh.dll")], PowerShellProgram.Resolve(Path.Combine(folder.Path, "pwsh.dll")).Arguments);
        Assert.Null(PowerShellProgram.InHome(Path.GetTempPath()));
    }

    // Starts PowerShell as its own child and waits for it, as the tool's shim does.
    private PowerShellProgram InBetween()
    {
        var script = Path.Combine(child.World.Folder, "..", "in-between");
        File.WriteAllText(script, "\"$@\"\nexit $?\n");
        return new("/bin/sh", [script, child.Start.Program.Path, .. child.Start.Program.Arguments]);
    }

    [Fact]
    public async Task A_PowerShell_that_is_not_there_is_told_with_the_mend()
    {
        await using var shell = new ChildShell(new ChildShellStart(new PowerShellProgram("/no/such/pwsh", []), "serve.ps1"), 1, TimeProvider.System);
        var error = await Assert.ThrowsAsync<VMatrixException>(() => shell.InvokeAsync(new ShellCall { Commands = [] }, default));
        Assert.Equal("ShellNotFound", error.Id);
        Assert.Contains("VMATRIX_POWERSHELL", error.Message, StringComparison.Ordinal);
    }

    /// <summary>One child for all checks, with the doubled modules on its path.</summary>
    public sealed class Fixture : IAsyncLifetime, IDisposable
    {
        private readonly TemporaryFolder _folder = new();

        public DoubleWorld World { get; private set; } = null!;

        public ChildShellStart Start { get; private set; } = null!;

        public IShell Shell { get; private set; } = null!;

        public async Task InitializeAsync()
        {
            World = new DoubleWorld(Path.Combine(_folder.Path, "world"));
            World.AddHost(new HostState { Name = "host1" });
            if (!PowerShellHere.IsThere)
                return;
            Start = await PowerShellHere.StartAsync(World);
            Shell = new ChildShell(Start, ShellChecks.CallsAtOnce, TimeProvider.System);
        }

        public async Task DisposeAsync()
        {
            if (Shell is not null)
                await Shell.DisposeAsync();
        }

        public void Dispose() => _folder.Dispose();
    }
}

/// <summary>PowerShell and the staged module, where both are there.</summary>
internal static class PowerShellHere
{
    public const string NotOnPath = "need PowerShell 7.6 on PATH";

    public static bool IsOnPath { get; } = Path.IsPathFullyQualified(PowerShellProgram.ForModules().Path)
        || Environment.GetEnvironmentVariable("PATH")!.Split(Path.PathSeparator).Any(folder => File.Exists(Path.Combine(folder, "pwsh")));

    public static string? Why { get; } = !IsOnPath ? NotOnPath : TryFind() is null ? "need the staged module (./build.sh build)" : null;

    public static bool IsThere => Why is null;

    /// <summary>How a child is started that has the doubled modules and works on a world.</summary>
    public static async Task<ChildShellStart> StartAsync(DoubleWorld world)
    {
        var modules = await ModuleWriter.EnsureAsync();
        return TryFind()! with
        {
            Environment = new Dictionary<string, string>
            {
                ["PSModulePath"] = modules + Path.PathSeparator + Environment.GetEnvironmentVariable("PSModulePath"),
                [DoubleWorld.Variable] = world.Folder,
            },
        };
    }

    private static ChildShellStart? TryFind()
    {
        try
        {
            return ChildShells.Find();
        }
        catch (VMatrixException)
        {
            return null;
        }
    }
}

/// <summary>A fact that needs PowerShell and the staged module, and says so when they are not there.</summary>
internal sealed class PowerShellFactAttribute : FactAttribute
{
    public PowerShellFactAttribute() => Skip = PowerShellHere.Why;
}

/// <inheritdoc cref="PowerShellFactAttribute"/>
internal sealed class PowerShellTheoryAttribute : TheoryAttribute
{
    public PowerShellTheoryAttribute() => Skip = PowerShellHere.Why;
}
