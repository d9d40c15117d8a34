using System;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using Xunit;

namespace VMatrix.Tests;

/// <summary>docs/security.md names a test for each threat; each of them is there.</summary>
public sealed partial class SecurityPageTests
{
    [Fact]
    public void Each_threat_names_a_test_that_exists()
    {
        var root = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(root!.FullName, "VMatrix.sln")))
            root = root.Parent;
        var threats = File.ReadLines(Path.Combine(root.FullName, "docs", "security.md"))
            .SkipWhile(line => !line.StartsWith("## Another local user", StringComparison.Ordinal))
            .Where(line => line.StartsWith("| ", StringComparison.Ordinal) && !line.StartsWith("| Threat", StringComparison.Ordinal) && !line.StartsWith("| ---", StringComparison.Ordinal))
            .Select(line => line.Split('|')[3])
            .ToArray();
        Assert.True(threats.Length > 15);
        var tests = string.Concat(Directory.EnumerateFiles(Path.Combine(root.FullName, "tests"), "*Tests.cs", SearchOption.AllDirectories).Select(File.ReadAllText));
        foreach (var cell in threats)
        {
            var names = Name().Matches(cell).Select(match => match.Groups[1].Value).ToArray();
            Assert.True(names.Length > 0, $"No test is named in: {cell}");
            Assert.All(names, name => Assert.True(Regex.IsMatch(tests, $@"(class|void|Task) {name}\b"), $"{name} is in docs/security.md and in no test."));
        }
    }

    [GeneratedRegex("`([A-Za-z_]+)`")]
    private static partial Regex Name();
}
