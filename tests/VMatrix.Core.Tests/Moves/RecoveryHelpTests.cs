using System;
using System.IO;
using System.Linq;
using System.Text;
using VMatrix.Moves;
using VMatrix.Tests.Pools;
using Xunit;

namespace VMatrix.Tests.Moves;

public sealed class RecoveryHelpTests
{
    private const string Begin = "<!-- steps: written by the tests with VMATRIX_UPDATE=1 -->\n";
    private const string End = "<!-- end of steps -->\n";

    [Fact]
    public void TheTableOfStepsIsTheMoversOwn()
    {
        var file = Repository.File("docs/en-US/about_VMatrix_Recovery.md");
        var now = File.ReadAllText(file).Replace("\r\n", "\n", StringComparison.Ordinal);
        var wanted = now[..(now.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length)] + Table() + now[now.IndexOf(End, StringComparison.Ordinal)..];
        if (Environment.GetEnvironmentVariable("VMATRIX_UPDATE") == "1")
            File.WriteAllText(file, wanted);
        else
            Assert.True(now == wanted, $"{file} is out of date: run this test once with VMATRIX_UPDATE=1 and look at what changed.");
    }

    private static string Table()
    {
        var text = new StringBuilder();
        foreach (var route in MoveRoutes.All)
        {
            text.Append("\n#### ").Append(route.Name).Append("\n\n| step | effect | taken back by | when cut short |\n| --- | --- | --- | --- |\n");
            foreach (var step in route.Steps)
                text.Append($"| {step.Name} | {step.Effect} | {(step.Compensation.Count == 0 ? "" : string.Join("; ", step.Compensation))} | {(step.WhenCut is WhenCut.Finish ? "finished" : "taken back")} |\n".Replace("|  |", "| |"));
        }
        return text.Append('\n').ToString();
    }
}
