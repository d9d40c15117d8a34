using System;
using System.Collections.Generic;
using System.Text;
using VMatrix.Pools;
using Xunit;

namespace VMatrix.Tests.Pools;

/// <summary>Where dormant servers are kept, and what does not go with it.</summary>
public sealed class PoolSleeperTests
{
    private const string Good = """
        pool: office
        hypervisor: hyperv
        hosts:
          - { name: "hv[1-2]", memory: 8 GiB }
        hyperv: { nest: share, resumeFailure: refuse }
        nest: { folder: '\\files\vmatrix' }
        services:
          - { name: WEB, listen: "*:80", image: { disk: web.vhdx } }

        """;

    private static (PoolSpec? Pool, IReadOnlyList<PoolFinding> Findings) Read(string text) => PoolFile.Read("/pools/pool.yaml", Encoding.UTF8.GetBytes(text));

    [Theory]
    [InlineData("nest: share, ", "nest: share, ", DormantPlace.Share)]
    [InlineData("nest: share, ", "nest: hosts, ", DormantPlace.Hosts)]
    [InlineData("nest: share, ", "", DormantPlace.Hosts)]
    [InlineData("nest: share, resumeFailure: refuse", "nest: hosts, resumeFailure: boot", DormantPlace.Hosts)]
    [InlineData(@"'\\files\vmatrix'", @"'C:\ClusterStorage\Volume1\vmatrix'", DormantPlace.Share)]
    public void It_is_read_as_it_stands(string from, string to, DormantPlace expected)
    {
        var (pool, findings) = Read(Good.Replace(from, to, StringComparison.Ordinal));
        Assert.Empty(findings);
        Assert.Equal(expected, pool!.HyperV.Nest);
    }

    [Theory]
    [InlineData("resumeFailure: refuse", "resumeFailure: boot", "hyperv.resumeFailure", "one host that fails must not give a memory up for the others")]
    [InlineData("nest: share,", "nest: library,", "hyperv.nest", "share")]
    [InlineData(@"'\\files\vmatrix'", @"'D:\vmatrix'", "nest.folder", @"a folder of one machine, and hyperv.nest: share keeps dormant servers there for every host; name a share, such as \\files\vmatrix.")]
    public void A_mistake_is_found_where_it_is(string from, string to, string key, string words)
    {
        var (pool, findings) = Read(Good.Replace(from, to, StringComparison.Ordinal));
        Assert.Null(pool);
        var finding = Assert.Single(findings);
        Assert.Equal(key, finding.Key);
        Assert.Contains(words, finding.Message, StringComparison.Ordinal);
    }
}
