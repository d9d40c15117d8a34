using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.InteropServices;

namespace VMatrix.Scripts;

/// <summary>
/// The PowerShell program to start. PowerShell installed as a .NET tool is a shim that starts <c>dotnet pwsh.dll</c> as its child, so that ending the
/// shim leaves PowerShell running; what is started here is always PowerShell itself.
/// </summary>
/// <param name="Path">The program: a full path, or a name that the system looks up.</param>
/// <param name="Arguments">Arguments that come before PowerShell's own: the path of <c>pwsh.dll</c> where <paramref name="Path"/> is the .NET host; else none.</param>
public sealed record PowerShellProgram(string Path, IReadOnlyList<string> Arguments)
{
    /// <summary>The environment variable that names the PowerShell to start: a program or a <c>pwsh.dll</c>.</summary>
    public const string Variable = "VMATRIX_POWERSHELL";

    private static bool IsWindows => RuntimeInformation.IsOSPlatform(OSPlatform.Windows);

    /// <summary>The PowerShell that serves as a child: Windows PowerShell on Windows, where every module loads, else pwsh; <see cref="Variable"/> names another one.</summary>
    public static PowerShellProgram ForModules() =>
        Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named ? Resolve(named) : IsWindows ? new("powershell.exe", []) : Current() ?? Resolve("pwsh");

    /// <summary>The PowerShell that runs a user's script: the one that this process is, else pwsh; <see cref="Variable"/> names another one.</summary>
    public static PowerShellProgram ForScripts() =>
        Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named ? Resolve(named) : Current() ?? Resolve("pwsh");

    /// <summary>The program behind a name or a path: PowerShell itself where that is the shim of a .NET tool.</summary>
    /// <param name="name">A program's name, looked up on PATH, a program's path, or the path of a <c>pwsh.dll</c>.</param>
    public static PowerShellProgram Resolve(string name)
    {
        if (System.IO.Path.GetFileName(name).Equals("pwsh.dll", StringComparison.OrdinalIgnoreCase))
            return new(DotnetHost(), [name]);
        var file = name.IndexOfAny(['/', '\\']) >= 0 ? name : FindOnPath(name);
        if (file is null || FindStore(file) is not { } home)
            return new(file ?? name, []);
        return InHome(home) ?? new(file!, []);
    }

    /// <summary>The PowerShell in its own folder (<c>$PSHOME</c>); null where there is none.</summary>
    /// <param name="home">The folder that holds <c>pwsh.dll</c>.</param>
    public static PowerShellProgram? InHome(string home)
    {
        var library = System.IO.Path.Combine(home, "pwsh.dll");
        if (!File.Exists(library))
            return null;
        var program = System.IO.Path.Combine(home, IsWindows ? "pwsh.exe" : "pwsh");

        // The tool's package brings a program for linux-x64 alone; an ordinary installation brings one of its own system.
        var isOfTool = File.Exists(System.IO.Path.Combine(home, "Microsoft.PowerShell.GlobalTool.Shim.dll"));
        var runsHere = !isOfTool || (RuntimeInformation.IsOSPlatform(OSPlatform.Linux) && RuntimeInformation.ProcessArchitecture == Architecture.X64 && !IsMusl());
        return runsHere && File.Exists(program) ? new(program, []) : new(DotnetHost(), [library]);
    }

    /// <summary>What a child that is started this way needs to find .NET by: where the host is not in its default place, only this process knows it.</summary>
    internal static string? DotnetRoot() =>
        Environment.GetEnvironmentVariable("DOTNET_ROOT") is null && IsDotnet(ProcessPath()) is { } host ? System.IO.Path.GetDirectoryName(host) : null;

    // This process is PowerShell where pwsh.dll is what it was started with, whatever its own program is called.
    private static PowerShellProgram? Current() =>
        Assembly.GetEntryAssembly() is { Location: { Length: > 0 } entry } && System.IO.Path.GetFileName(entry).Equals("pwsh.dll", StringComparison.OrdinalIgnoreCase)
            ? InHome(System.IO.Path.GetDirectoryName(entry)!)
            : null;

    private static string DotnetHost() => IsDotnet(ProcessPath()) ?? "dotnet";

    private static string? IsDotnet(string? path) =>
        path is not null && System.IO.Path.GetFileNameWithoutExtension(path).Equals("dotnet", StringComparison.OrdinalIgnoreCase) ? path : null;

    private static string? ProcessPath()
    {
        using var process = Process.GetCurrentProcess();
        return process.MainModule?.FileName;
    }

    private static bool IsMusl() => Directory.Exists("/lib") && Directory.EnumerateFiles("/lib", "ld-musl-*").Any();

    private static string? FindOnPath(string name) =>
        IsWindows && !System.IO.Path.HasExtension(name) ? ChildEnvironment.Find(name + ".exe") ?? ChildEnvironment.Find(name + ".cmd") : ChildEnvironment.Find(name);

    // A tool's command lies beside the store that holds what it starts: .store/powershell/VERSION/powershell/VERSION/tools/FRAMEWORK/any/SYSTEM.
    private static string? FindStore(string command)
    {
        var store = System.IO.Path.Combine(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(command))!, ".store", "powershell");
        return !Directory.Exists(store)
            ? null
            : Directory.EnumerateFiles(store, "pwsh.dll", SearchOption.AllDirectories)
                .Select(file => System.IO.Path.GetDirectoryName(file)!)
                .FirstOrDefault(home => System.IO.Path.GetFileName(home) == (IsWindows ? "win" : "unix"));
    }
}
