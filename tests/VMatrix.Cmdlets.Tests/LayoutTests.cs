using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Text.RegularExpressions;
using Xunit;

namespace VMatrix.Tests;

public sealed class LayoutTests
{
    /// <summary>What .NET Framework 4.7.2 and Windows PowerShell 5.1 bring themselves.</summary>
    private static readonly string[] s_desktop =
        ["netstandard", "mscorlib", "System", "System.Core", "System.Data", "System.Xml", "System.Numerics", "System.Net.Http", "System.Runtime.Serialization", "System.ComponentModel.DataAnnotations", "System.Management.Automation"];

    [Fact]
    public void Default_context_gets_assemblies_without_dependencies_only()
    {
        Assert.Equal(["VMatrix.Cmdlets.dll", "VMatrix.Model.dll"],
            Directory.GetFiles(Staged.FolderOf("net10.0"), "*.dll").Select(Path.GetFileName).Order(StringComparer.Ordinal));
        string[] allowed = ["System.", "netstandard", "VMatrix.Model", "VMatrix.Engine"];
        foreach (string file in Directory.GetFiles(Staged.FolderOf("net10.0"), "*.dll"))
            Assert.DoesNotContain(References(file), r => !allowed.Any(a => r.StartsWith(a, StringComparison.Ordinal)));
        Assert.DoesNotContain(References(Path.Combine(Staged.FolderOf("net10.0"), "VMatrix.Model.dll")), r => r.StartsWith("VMatrix", StringComparison.Ordinal));
    }

    [Fact]
    public void Every_reference_of_the_engine_is_in_its_folder_or_in_the_framework()
    {
        string runtime = Path.GetDirectoryName(typeof(object).Assembly.Location)!;
        foreach (string file in Directory.GetFiles(Path.Combine(Staged.FolderOf("net10.0"), "engine"), "*.dll"))
        {
            string[] missing = [.. References(file).Where(r => !File.Exists(Path.Combine(Path.GetDirectoryName(file)!, r + ".dll")) && !File.Exists(Path.Combine(runtime, r + ".dll")))];
            Assert.True(missing.Length == 0, $"{Path.GetFileName(file)} refers to {string.Join(", ", missing)}");
        }
    }

    [Fact]
    public void Every_reference_for_Windows_PowerShell_is_in_its_folder_or_in_the_framework()
    {
        string folder = Staged.FolderOf("netstandard2.0");
        foreach (string file in Directory.GetFiles(folder, "*.dll"))
        {
            string[] missing = [.. References(file).Where(r => !File.Exists(Path.Combine(folder, r + ".dll")) && !s_desktop.Contains(r))];
            Assert.True(missing.Length == 0, $"{Path.GetFileName(file)} refers to {string.Join(", ", missing)}");
        }
    }

    [Fact]
    public void Windows_PowerShell_gets_no_assembly_of_PowerShell() =>
        Assert.DoesNotContain(Directory.GetFiles(Staged.Folder, "*.dll", SearchOption.AllDirectories), f => Path.GetFileName(f) == "System.Management.Automation.dll");

    [Theory]
    [InlineData("net10.0/engine", "win-x64 win-x86 win-arm64 linux-x64 linux-arm64 linux-musl-x64 osx-x64 osx-arm64")]
    [InlineData("netstandard2.0", "win-x64 win-x86 win-arm64")]
    public void Native_SQLite_is_there_for_each_platform_and_for_no_other(string place, string rids)
    {
        string runtimes = Path.Combine(Staged.Folder, "bin", place, "runtimes");
        Assert.Equal(rids.Split(' ').Order(StringComparer.Ordinal), Directory.GetDirectories(runtimes).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        foreach (string folder in Directory.GetDirectories(runtimes))
            Assert.True(new FileInfo(Assert.Single(Directory.GetFiles(Path.Combine(folder, "native"), "*e_sqlite3.*"))).Length > 500_000, folder);
    }

    [Fact]
    public void Manifest_version_is_the_assemblies()
    {
        string version = Regex.Match(File.ReadAllText(Path.Combine(Staged.Repo, "Directory.Build.props")), "<VersionPrefix>(.*?)<").Groups[1].Value;
        Assert.Equal(version, Regex.Match(Staged.Manifest, @"ModuleVersion += '(.*?)'").Groups[1].Value);
    }

    [Fact]
    public void Files_that_the_manifest_names_are_there()
    {
        foreach (Match file in Regex.Matches(Staged.Manifest, @"'([\w.]+\.(?:psm1|ps1xml))'"))
            Assert.True(File.Exists(Path.Combine(Staged.Folder, file.Groups[1].Value)), file.Value);
    }

    private static IReadOnlyList<string> References(string file)
    {
        using var stream = File.OpenRead(file);
        using var pe = new PEReader(stream);
        var metadata = pe.GetMetadataReader();
        return [.. metadata.AssemblyReferences.Select(r => metadata.GetString(metadata.GetAssemblyReference(r).Name))];
    }
}
