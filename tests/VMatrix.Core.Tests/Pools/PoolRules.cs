using System;
using System.IO;
using System.Linq;
using Xunit;

namespace VMatrix.Tests.Pools;

/// <summary>What everyone who is handed a pool may rely on.</summary>
internal static class PoolRules
{
    public static void Hold(PoolSpec pool)
    {
        Assert.NotEmpty(pool.Name);
        Assert.Contains(pool.Hypervisor, new[] { "qemu", "simulation", "hyperv", "scvmm" });
        Assert.True(Path.IsPathRooted(pool.StateFolder));
        Assert.NotEmpty(pool.Nest.Folder);
        Assert.NotEmpty(pool.Balancer.Kind);
        Assert.Equal(pool.Hosts.Count, pool.Hosts.Select(h => h.Name).Distinct(StringComparer.OrdinalIgnoreCase).Count());
        Assert.Equal(pool.Services.Count, pool.Services.Select(s => s.Name).Distinct(StringComparer.OrdinalIgnoreCase).Count());
        Assert.Contains(pool.Hosts, h => h.Role == HostRole.Matrix);
        foreach (var host in pool.Hosts)
        {
            Assert.True(host.MemoryBytes > 0 && host.Cores is null or > 0 && host.MostServers is null or > 0);
            Assert.Equal(pool.Hypervisor == "qemu", host.Folder is not null);
        }

        foreach (var service in pool.Services)
        {
            Assert.True(service.Priority > 0 && service.Least >= 0 && service.Most >= service.Least && service.Capacity is null or > 0);
            Assert.True(service.Image is not null && (pool.Hypervisor == "simulation" || (service.Image.Disk ?? service.Image.Kernel) is not null));
            Assert.All(service.AllowedHosts.Concat(service.ForbiddenHosts), name => Assert.Contains(pool.Hosts, h => h.Name == name));
            Assert.All(service.Affinity.Concat(service.AntiAffinity), name => Assert.Contains(pool.Services, s => s.Name == name));
            Assert.Contains(pool.Hosts, h => h.Role == HostRole.Matrix && h.MemoryBytes >= service.Image.MemoryBytes && !service.ForbiddenHosts.Contains(h.Name)
                && (service.AllowedHosts.Count == 0 || service.AllowedHosts.Contains(h.Name)) && (service.Licence is null || pool.Licences.Any(l => l.Name == service.Licence && l.Seats > 0) || h.Licences.Contains(service.Licence)));
            if (pool.Balancer is { Own: true, Kind: "haproxy" })
                Assert.NotNull(service.Listen);
        }

        Assert.True(pool.Services.Where(s => s.Isolation == Isolation.Dedicated).Sum(s => s.Least) <= pool.Hosts.Count(h => h.Role == HostRole.Matrix));
    }
}
