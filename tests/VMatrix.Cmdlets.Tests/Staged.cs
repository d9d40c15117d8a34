using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text.RegularExpressions;

namespace VMatrix.Tests;

/// <summary>The module as the build laid it out.</summary>
internal static class Staged
{
    public static string Repo { get; } = FindRepo();

    public static string Folder { get; } = Path.Combine(Repo, "out", "VMatrix");

    public static string Manifest => File.ReadAllText(Path.Combine(Folder, "VMatrix.psd1"));

    public static string FolderOf(string framework) => Path.Combine(Folder, "bin", framework);

    /// <summary>What the manifest exports.</summary>
    public static string[] ExportedCmdlets =>
        [.. Regex.Matches(Regex.Match(Manifest, @"CmdletsToExport\s*=\s*@\((.*?)\)", RegexOptions.Singleline).Groups[1].Value, "'([^']+)'").Select(m => m.Groups[1].Value)];

    /// <summary>Loads the staged cmdlets as metadata only: nothing of them runs.</summary>
    public static MetadataLoadContext Load(string framework, out Assembly cmdlets)
    {
        string folder = FolderOf(framework);
        var paths = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        IEnumerable<string> files =
        [
            .. Directory.GetFiles(Path.GetDirectoryName(typeof(object).Assembly.Location)!, "*.dll"),
            Path.Combine(AppContext.BaseDirectory, "System.Management.Automation.dll"),
            .. Directory.Exists(Path.Combine(folder, "engine")) ? Directory.GetFiles(Path.Combine(folder, "engine"), "*.dll") : [],
            .. Directory.GetFiles(folder, "*.dll"),
        ];
        foreach (string file in files)
            paths[Path.GetFileName(file)] = file;
        var context = new MetadataLoadContext(new PathAssemblyResolver(paths.Values));
        cmdlets = context.LoadFromAssemblyPath(Path.Combine(folder, "VMatrix.Cmdlets.dll"));
        return context;
    }

    private static string FindRepo()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "VMatrix.sln")))
                return folder.FullName;
        }

        throw new InvalidOperationException("The repository was not found above the tests.");
    }
}
