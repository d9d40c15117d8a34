using System;
using System.IO;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Loader;

namespace VMatrix.Loading;

/// <summary>PowerShell 7: answers the default context's question for the engine's door, and for nothing else.</summary>
internal static class EngineFinder
{
    private static readonly Lazy<EngineContext> s_context = new(() => new EngineContext());

    public static void Start() => AssemblyLoadContext.Default.Resolving += Answer;

    public static void Stop() => AssemblyLoadContext.Default.Resolving -= Answer;

    // What the engine's context does not have it asks the default context for, which asks here: a file that is not there must end the circle.
    private static Assembly? Answer(AssemblyLoadContext context, AssemblyName name) =>
        name.Name == "VMatrix.Engine" && s_context.Value.Has(name.Name) ? s_context.Value.LoadFromAssemblyName(name) : null;
}

/// <summary>Where the engine and its packages live, so that other modules may have other versions of them.</summary>
internal sealed class EngineContext : AssemblyLoadContext
{
    private readonly string _folder = Path.Combine(Path.GetDirectoryName(typeof(EngineContext).Assembly.Location)!, "engine");

    public EngineContext()
        : base("VMatrix.Engine")
    {
    }

    /// <summary>True when the engine's folder has an assembly of this name.</summary>
    public bool Has(string assembly) => File.Exists(PathOf(assembly));

    protected override Assembly? Load(AssemblyName assemblyName)
    {
        // The words are what crosses the border: both sides must hold the same types.
        if (assemblyName.Name == "VMatrix.Model")
            return typeof(Stage).Assembly;
        return Has(assemblyName.Name!) ? LoadFromAssemblyPath(PathOf(assemblyName.Name!)) : null;
    }

    private string PathOf(string assembly) => Path.Combine(_folder, assembly + ".dll");

    protected override IntPtr LoadUnmanagedDll(string unmanagedDllName)
    {
        // PowerShell ignores deps.json, which would have told the runtime where natives lie.
        string file = RuntimeInformation.IsOSPlatform(OSPlatform.Windows) ? $"{unmanagedDllName}.dll"
            : RuntimeInformation.IsOSPlatform(OSPlatform.OSX) ? $"lib{unmanagedDllName}.dylib"
            : $"lib{unmanagedDllName}.so";
        string path = Path.Combine(_folder, "runtimes", Rid, "native", file);
        return File.Exists(path) ? LoadUnmanagedDllFromPath(path) : IntPtr.Zero;
    }

    private static string Rid
    {
        get
        {
            string system = OperatingSystem.IsWindows() ? "win" : OperatingSystem.IsMacOS() ? "osx"
                : RuntimeInformation.RuntimeIdentifier.Contains("musl", StringComparison.Ordinal) || File.Exists("/etc/alpine-release") ? "linux-musl" : "linux";
            return $"{system}-{RuntimeInformation.ProcessArchitecture switch
            {
                Architecture.X86 => "x86",
                Architecture.Arm64 => "arm64",
                _ => "x64",
            }}";
        }
    }
}
