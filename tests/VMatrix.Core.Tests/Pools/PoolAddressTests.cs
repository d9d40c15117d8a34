using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using VMatrix.Pools;
using Xunit;

namespace VMatrix.Tests.Pools;

/// <summary>Static addresses, and what tells a server who it is.</summary>
public sealed class PoolAddressTests
{
    private const string Good = """
        pool: office
        hypervisor: hyperv
        hosts:
          - { name: "hv[1-2]", address: "10.0.5.{n}", memory: 8 GiB }
        nest: { folder: '\\files\vmatrix' }
        services:
          - name: WEB
            most: 9
            listen: "*:80"
            image: { disk: web.vhdx, specialize: cloudInit, userData: web-cloud.yaml }
            addresses: { range: 10.0.5.10-10.0.5.30, prefix: 24, gateway: 10.0.5.254, dns: [10.0.0.53] }
          - name: OFFICE
            most: 5
            listen: "*:81"
            image: { disk: office.vhdx, specialize: sysprep, answers: unattend.xml, join: joins }
            addresses: { range: 10.0.5.31-10.0.5.40, prefix: 24 }

        """;

    private static (PoolSpec? Pool, IReadOnlyList<PoolFinding> Findings) Read(string text) => PoolFile.Read("/pools/pool.yaml", Encoding.UTF8.GetBytes(text));

    [Fact]
    public void They_are_read_as_they_stand()
    {
        var (pool, findings) = Read(Good);
        Assert.Empty(findings);
        var web = pool!.Services[0];
        Assert.Equal((21, "10.0.5.10", "10.0.5.30", 24, "10.0.5.254"), (web.Addresses!.Range.Count, web.Addresses.Range.All().First(), web.Addresses.Range.All().Last(), web.Addresses.Prefix, web.Addresses.Gateway));
        Assert.Equal(["10.0.0.53"], web.Addresses.Dns);
        Assert.Equal(Path.GetFullPath("/pools/web-cloud.yaml"), web.Image.UserData);
        Assert.Equal((Path.GetFullPath("/pools/unattend.xml"), Path.GetFullPath("/pools/joins")), (pool.Services[1].Image.Answers, pool.Services[1].Image.Join));
    }

    [Theory]
    [InlineData("range: 10.0.5.10-10.0.5.30", "range: 10.0.5.10", "services[0].addresses.range", "the first and the last of up to 65536")]
    [InlineData("range: 10.0.5.10-10.0.5.30", "range: 10.0.5.30-10.0.5.10", "services[0].addresses.range", "ends before it begins")]
    [InlineData("range: 10.0.5.10-10.0.5.30", "range: 10.0.5.10-10.0.5.300", "services[0].addresses.range", "must be")]
    [InlineData("range: 10.0.5.10-10.0.5.30", "range: 10.0.0.10-10.9.5.30", "services[0].addresses.range", "up to 65536")]
    [InlineData("range: 10.0.5.10-10.0.5.30", "range: 10.0.3.250-10.0.4.5", "services[0].addresses.range", "does not fit between the ends of the network 10.0.3.0/24, whose addresses are 10.0.3.1 to 10.0.3.254", "services[0].addresses.gateway")]
    [InlineData("range: 10.0.5.31-10.0.5.40", "range: 10.0.6.0-10.0.6.9", "services[1].addresses.range", "whose addresses are 10.0.6.1")]
    [InlineData("range: 10.0.5.31-10.0.5.40", "range: 10.0.6.250-10.0.6.255", "services[1].addresses.range", "to 10.0.6.254")]
    [InlineData("range: 10.0.5.31-10.0.5.40", "range: 10.0.5.30-10.0.5.40", "services[1].addresses.range", "overlaps the addresses of 'WEB' (10.0.5.10-10.0.5.30)")]
    [InlineData("range: 10.0.5.31-10.0.5.40", "range: 10.0.5.31-10.0.5.34", "services[1].addresses.range", "holds 4 addresses, fewer than the 5 servers of most")]
    [InlineData("range: 10.0.5.10-10.0.5.30", "range: 10.0.5.2-10.0.5.30", "services[0].addresses.range", "holds the address 10.0.5.2 of the host 'hv2'")]
    [InlineData("    most: 9\n", "", "services[0].addresses", "no limit to its servers; give it most, of at most 21")]
    [InlineData("gateway: 10.0.5.254", "gateway: 10.0.6.254", "services[0].addresses.gateway", "no address of the network 10.0.5.0/24")]
    [InlineData("gateway: 10.0.5.254", "gateway: 10.0.5.255", "services[0].addresses.gateway", "no address of the network")]
    [InlineData("gateway: 10.0.5.254", "gateway: 10.0.5.20", "services[0].addresses.gateway", "leave it out of the range")]
    [InlineData("dns: [10.0.0.53]", "dns: [10.0.5.12]", "services[0].addresses.dns", "so that a server would be given it")]
    [InlineData("dns: [10.0.0.53]", "dns: [dns1]", "services[0].addresses.dns[0]", "an IPv4 address")]
    [InlineData("prefix: 24, gateway", "gateway", "services[0].addresses.prefix", "prefix is missing")]
    [InlineData("prefix: 24, gateway", "prefix: 31, gateway", "services[0].addresses.prefix", "from 8 to 30")]
    [InlineData("addresses: { range: 10.0.5.31", "address: { range: 10.0.5.31", "services[1].address", "did you mean addresses?")]
    [InlineData(", answers: unattend.xml, join: joins", "", "services[1].addresses", "nothing that tells them to Windows; name your answer file as image.answers")]
    [InlineData("specialize: cloudInit, ", "", "services[0].image.userData", "goes with specialize: cloudInit")]
    [InlineData(", answers: unattend.xml, join: joins", ", join: joins }\n    health: { path: /", "services[1].image.join", "goes with answers", "services[1].addresses")]
    [InlineData("specialize: sysprep, answers: unattend.xml, join: joins", "specialize: cloudInit, answers: unattend.xml", "services[1].image.answers", "goes with specialize: sysprep")]
    [InlineData("name: OFFICE", "name: OFFICE-OF-MANY", "services[1].name", "such as OFFICE-OF-MANY-5, must be names of Windows computers")]
    [InlineData("name: OFFICE", "name: OF_ICE", "services[1].name", "names of Windows computers")]
    [InlineData(@"'\\files\vmatrix'", @"'D:\vmatrix'", "nest.folder", "a folder of one machine, and every host reads what makes servers of 'WEB'")]
    public void A_mistake_is_found_where_it_is(string from, string to, string key, string words, string? besides = null)
    {
        Assert.Contains(from, Good, StringComparison.Ordinal);
        var at = Good.IndexOf(from, StringComparison.Ordinal);
        var (pool, findings) = Read(Good.Remove(at, from.Length).Insert(at, to));
        Assert.Null(pool);
        var finding = Assert.Single(findings, found => found.Key != besides);
        Assert.Equal(key, finding.Key);
        Assert.Contains(words, finding.Message, StringComparison.Ordinal);
        Assert.Matches(@"[^.?\s][.?]$", finding.Message);
    }

    /// <summary>One memory is one machine to a domain, whichever way it joined.</summary>
    [Theory]
    [InlineData("join: joins", "join: joins, warm: true")]
    [InlineData(", join: joins", ", warm: true")]
    [InlineData(", answers: unattend.xml, join: joins }\n    addresses: { range: 10.0.5.31-10.0.5.40, prefix: 24 }", ", warm: true }")]
    public void A_Windows_is_never_made_from_a_kept_memory(string from, string to)
    {
        Assert.Contains(from, Good, StringComparison.Ordinal);
        var finding = Assert.Single(Read(Good.Replace(from, to, StringComparison.Ordinal)).Findings);
        Assert.Equal("services[1].image.warm", finding.Key);
        Assert.Contains("one machine to a domain", finding.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("qemu")]
    [InlineData("scvmm")]
    public void Others_have_none_of_it(string hypervisor)
    {
        var (_, findings) = Read(Good.Replace("hypervisor: hyperv", "hypervisor: " + hypervisor, StringComparison.Ordinal));
        string[] expected = ["services[0].addresses", "services[1].addresses", "services[0].image.userData", "services[1].image.answers", "services[1].image.join"];
        Assert.Empty(expected.Except(findings.Where(f => f.Message.Contains($"no meaning for {hypervisor}", StringComparison.Ordinal)).Select(f => f.Key)));
    }

    [Theory]
    [InlineData("10.0.0.1", true)]
    [InlineData("255.255.255.255", true)]
    [InlineData("10.1", false)]
    [InlineData("010.0.0.1", false)]
    [InlineData("10.0.0.256", false)]
    [InlineData("10.0.0.-1", false)]
    [InlineData("::1", false)]
    [InlineData(null, false)]
    public void An_address_is_four_plain_numbers(string? text, bool right)
    {
        Assert.Equal(right, AddressRange.TryRead(text, out var number));
        if (right)
            Assert.Equal(text, AddressRange.Show(number));
    }
}
