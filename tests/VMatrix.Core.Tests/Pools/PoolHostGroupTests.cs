using System.Collections.Generic;
using System.Linq;
using System.Text;
using VMatrix.Pools;
using Xunit;

namespace VMatrix.Tests.Pools;

/// <summary>Pool files whose hosts come from host groups of VMM.</summary>
public sealed class PoolHostGroupTests
{
    [Fact]
    public void Hosts_may_be_left_to_groups_and_any_name_may_be_one_of_theirs()
    {
        var (pool, findings) = Read("hosts: []", "hostGroups: [{ group: All Hosts\\Web, kept: 8 GiB, servers: 9 }, { group: Repair, role: chamber }]");
        Assert.Empty(findings);
        Assert.Empty(pool!.Hosts);
        Assert.Equal([new HostGroupSpec { Group = "All Hosts\\Web", KeptBytes = 8L << 30, MostServers = 9 }, new HostGroupSpec { Group = "Repair", Role = HostRole.Chamber }], pool.Scvmm.HostGroups);
        Assert.Equal(["hv7.example.com"], pool.Services[0].AllowedHosts);
    }

    [Fact]
    public void Without_hosts_and_without_groups_it_is_a_mistake()
    {
        Assert.Contains(Read("hosts: []", "").Findings, f => f.Message == "hosts is empty; it needs at least one item.");
        Assert.Contains(Read("hosts: []", "hostGroups: []").Findings, f => f.Message == "hosts is empty; it needs at least one item.");
        Assert.Contains(Read("hosts: []", "hostGroups: [{ group: Web }]", "hyperv").Findings, f => f.Message == "hosts is empty; it needs at least one item.");
        Assert.Contains(Read("hosts: [{ name: hv1, memory: 8 GiB }]", "").Findings, f => f.Message.Contains("names the host 'hv7.example.com'", System.StringComparison.Ordinal));
    }

    [Fact]
    public void A_group_that_is_named_twice_is_a_mistake() =>
        Assert.Contains("scvmm.hostGroups[1]", Assert.Single(Read("hosts: []", "hostGroups: [{ group: Web }, { group: web, role: chamber }]").Findings).Key, System.StringComparison.Ordinal);

    private static (PoolSpec? Pool, IReadOnlyList<PoolFinding> Findings) Read(string hosts, string groups, string hypervisor = "scvmm") => PoolFile.Read("/pools/pool.yaml", Encoding.UTF8.GetBytes(string.Join('\n',
    [
        "pool: p", "hypervisor: " + hypervisor, hosts,
        "scvmm: { server: vmm1, library: library1, share: '\\\\library1\\share'" + (groups.Length > 0 ? ", " + groups : "") + " }",
        "services:", "  - { name: FINANCE, least: 1, most: 4, listen: 127.0.0.1:8080, image: { disk: gold.vhdx, memory: 1 GiB }, hosts: { allow: [hv7.example.com] } }", "",
    ])));
}
