using System;
using System.IO;
using System.Reflection;
using System.Runtime.InteropServices;

namespace VMatrix.Loading;

/// <summary>Windows PowerShell 5.1: meets the references of our own assemblies from our own folder, whatever version they ask for.</summary>
internal static class EngineFinder
{
    private static readonly string s_folder = Path.GetDirectoryName(typeof(EngineFinder).Assembly.Location)!;

    public static void Start()
    {
        AppDomain.CurrentDomain.AssemblyResolve += Answer;
        AppDomain.CurrentDomain.AssemblyLoad += LoadNative;
    }

    public static void Stop()
    {
        AppDomain.CurrentDomain.AssemblyResolve -= Answer;
        AppDomain.CurrentDomain.AssemblyLoad -= LoadNative;
    }

    private static Assembly? Answer(object sender, ResolveEventArgs asked)
    {
        // Other modules' assemblies are their own business.
        if (asked.RequestingAssembly is { } requester && !IsOurs(requester))
            return null;
        string path = Path.Combine(s_folder, new AssemblyName(asked.Name).Name + ".dll");
        return File.Exists(path) ? Assembly.LoadFrom(path) : null;
    }

    /// <summary>Loads the native SQLite of this process's architecture ahead of its first use, so that the import by its bare name finds it.</summary>
    private static void LoadNative(object sender, AssemblyLoadEventArgs loaded)
    {
        if (!IsOurs(loaded.LoadedAssembly) || loaded.LoadedAssembly.GetName().Name != "SQLitePCLRaw.provider.e_sqlite3")
            return;
        string rid = RuntimeInformation.ProcessArchitecture switch
        {
            Architecture.X86 => "win-x86",
            Architecture.Arm64 => "win-arm64",
            _ => "win-x64",
        };
        _ = LoadLibraryW(Path.Combine(s_folder, "runtimes", rid, "native", "e_sqlite3.dll"));
    }

    private static bool IsOurs(Assembly assembly) =>
        !assembly.IsDynamic && string.Equals(Path.GetDirectoryName(assembly.Location), s_folder, StringComparison.OrdinalIgnoreCase);

    [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true), DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
    private static extern IntPtr LoadLibraryW(string path);
}
