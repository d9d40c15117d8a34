using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using VMatrix.Pools;
using Xunit;

namespace VMatrix.Tests.Pools;

public sealed class AboutTests
{
    [Fact]
    public void The_legal_moves_in_the_help_are_those_of_the_rules()
    {
        var rows = Regex.Matches(File.ReadAllText(Repository.File("docs/en-US/about_VMatrix.md")), @"^\| (Nest|Chamber|Matrix|Disposed) \| (.+) \|$", RegexOptions.Multiline)
            .ToDictionary(m => Enum.Parse<Stage>(m.Groups[1].Value), m => m.Groups[2].Value.TrimEnd('\r').Split(", "));
        foreach (var from in Enum.GetValues<Stage>())
        {
            var legal = Enum.GetValues<Stage>().Where(to => to != from && StageRules.IsLegal(from, to)).Select(to => to.ToString())
                .Concat(StageRules.IsLegal(from, from) ? ["another host"] : []);
            Assert.Equal(legal.Order(), rows[from].Order());
        }
    }

    /// <summary>A pool file shown in the help is one that is read without a finding.</summary>
    [Fact]
    public void The_pool_files_in_the_help_are_right()
    {
        var shown = Regex.Matches(File.ReadAllText(Repository.File("docs/en-US/about_VMatrix_PoolFile.md")), "^```yaml\n(.*?)^```", RegexOptions.Multiline | RegexOptions.Singleline);
        Assert.NotEmpty(shown);
        foreach (Match yaml in shown)
        {
            var (pool, findings) = PoolFile.Read("/pools/pool.yaml", System.Text.Encoding.UTF8.GetBytes(yaml.Groups[1].Value));
            Assert.Empty(findings);
            Assert.NotNull(pool);
        }
    }
}
