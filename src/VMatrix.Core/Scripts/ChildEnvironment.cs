using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;

namespace VMatrix.Scripts;

/// <summary>What the programs that VMatrix starts find in their environment: what a program needs to run here, and none of the secrets, libraries and start files that this process may have there.</summary>
internal static class ChildEnvironment
{
    private static readonly HashSet<string> s_kept = new(StringComparer.OrdinalIgnoreCase)
    {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "PSModulePath",
        "DOTNET_ROOT", "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT", "DOTNET_BUNDLE_EXTRACT_BASE_DIR", "POWERSHELL_TELEMETRY_OPTOUT", "SSL_CERT_FILE", "SSL_CERT_DIR",

        // Windows.
        "ALLUSERSPROFILE", "APPDATA", "CommonProgramFiles", "CommonProgramFiles(x86)", "CommonProgramW6432", "COMPUTERNAME", "ComSpec", "DriverData", "HOMEDRIVE", "HOMEPATH",
        "LOCALAPPDATA", "LOGONSERVER", "NUMBER_OF_PROCESSORS", "OS", "PATHEXT", "PROCESSOR_ARCHITECTURE", "PROCESSOR_ARCHITEW6432", "PROCESSOR_IDENTIFIER", "ProgramData", "ProgramFiles",
        "ProgramFiles(x86)", "ProgramW6432", "PUBLIC", "SystemDrive", "SystemRoot", "TEMP", "TMP", "USERDNSDOMAIN", "USERDOMAIN", "USERNAME", "USERPROFILE", "windir",
    };

    /// <summary>Leaves a program to be started only what it needs.</summary>
    public static ProcessStartInfo Minimal(this ProcessStartInfo start)
    {
        foreach (var name in start.Environment.Keys.Where(name => !s_kept.Contains(name)).ToArray())
            start.Environment.Remove(name);

        // A folder named from where we happen to stand is nobody's choice.
        if (start.Environment.TryGetValue("PATH", out var path) && path is not null)
            start.Environment["PATH"] = string.Join(Path.PathSeparator.ToString(), path.Split(Path.PathSeparator).Where(Path.IsPathRooted));
        return start;
    }

    /// <summary>A program by its name, in the folders of PATH that are named in full, then in some more; null when it is in none.</summary>
    public static string? Find(string program, params string[] more) => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
        .Where(folder => folder.Length > 0 && Path.IsPathRooted(folder)).Concat(more).Select(folder => Path.Combine(folder, program)).FirstOrDefault(File.Exists);
}
