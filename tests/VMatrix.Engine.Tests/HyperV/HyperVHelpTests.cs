using System;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using VMatrix.HyperV;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>about_VMatrix_HyperV tells every error and every obstacle that the code knows.</summary>
public sealed partial class HyperVHelpTests
{
    private const string Begin = "<!-- errors: written by the tests with VMATRIX_UPDATE=1 -->\n";
    private const string End = "<!-- end of errors -->\n";

    [Fact]
    public void The_table_of_errors_is_the_drivers_own()
    {
        var file = Path.Combine(Root(), "docs/en-US/about_VMatrix_HyperV.md");
        var now = File.ReadAllText(file).Replace("\r\n", "\n", StringComparison.Ordinal);
        var rows = HyperVErrors.Known.Select(e => $"| `{e.Id}` | {string.Join(", ", e.Codes.Select(code => $"0x{code:X8}"))}{(e.Commands.Length == 0 ? "" : " of " + string.Join(", ", e.Commands))} | {e.Mend.Replace("|", "\\|", StringComparison.Ordinal)} |\n");
        var wanted = now[..(now.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length)] + "\n| error | codes | mend |\n| --- | --- | --- |\n" + string.Concat(rows) + "\n" + now[now.IndexOf(End, StringComparison.Ordinal)..];
        if (Environment.GetEnvironmentVariable("VMATRIX_UPDATE") == "1")
            File.WriteAllText(file, wanted);
        else
            Assert.True(now == wanted, $"{file} is out of date: run this test once with VMATRIX_UPDATE=1 and look at what changed.");
    }

    [Fact]
    public void Every_obstacle_is_explained()
    {
        var help = File.ReadAllText(Path.Combine(Root(), "docs/en-US/about_VMatrix_HyperV.md"));
        string[] files = ["src/VMatrix.Engine/HyperV/HyperVCompare.cs", "src/VMatrix.Engine/HyperV/HyperVHypervisor.Compare.cs", "src/VMatrix.Core/Moves/MoveChecks.cs"];
        string[] ofEvery = ["IllegalStageChange", "NotRunning", "Unhealthy", "HostUnreachable", "HostPoweredDown"]; // Those explain themselves.
        var names = files.SelectMany(file => Name().Matches(File.ReadAllText(Path.Combine(Root(), file))).Select(match => match.Groups[1].Value)).Distinct().Except(ofEvery).ToArray();
        Assert.True(names.Length > 20);
        Assert.Empty(names.Where(name => !help.Contains($"`{name}`", StringComparison.Ordinal)));
    }

    [GeneratedRegex("""(?:ObstacleGroup\.\w+, |What = )"([A-Z]\w+)""")]
    private static partial Regex Name();

    private static string Root()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder!.FullName, "VMatrix.sln")))
            folder = folder.Parent;
        return folder.FullName;
    }
}
