using System;
using System.IO;
using System.Linq;
using VMatrix.Scvmm;
using Xunit;

namespace VMatrix.Tests.Scvmm;

/// <summary>about_VMatrix_SCVMM tells every error that the code knows.</summary>
public sealed class ScvmmHelpTests
{
    private const string Begin = "<!-- errors: written by the tests with VMATRIX_UPDATE=1 -->\n";
    private const string End = "<!-- end of errors -->\n";

    [Fact]
    public void The_table_of_errors_is_the_drivers_own()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder!.FullName, "VMatrix.sln")))
            folder = folder.Parent;
        var file = Path.Combine(folder.FullName, "docs/en-US/about_VMatrix_SCVMM.md");
        var now = File.ReadAllText(file).Replace("\r\n", "\n", StringComparison.Ordinal);
        var rows = ScvmmErrors.Known.GroupBy(e => (e.Id, e.Mend)).Select(g => $"| `{g.Key.Id}` | {string.Join(", ", g.Select(e => e.Code))} | {g.Key.Mend} |\n");
        var wanted = now[..(now.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length)] + "\n| error | number | mend |\n| --- | --- | --- |\n" + string.Concat(rows) + "\n" + now[now.IndexOf(End, StringComparison.Ordinal)..];
        if (Environment.GetEnvironmentVariable("VMATRIX_UPDATE") == "1")
            File.WriteAllText(file, wanted);
        else
            Assert.True(now == wanted, $"{file} is out of date: run this test once with VMATRIX_UPDATE=1 and look at what changed.");
    }
}
