using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.Scvmm;
using VMatrix.Tests.PowerShells;
using Xunit;

namespace VMatrix.Tests.Scvmm;

/// <summary>The driver through a PowerShell child and the doubled module in it, as vmatrix-oracle has it: PowerShell itself binds every call.</summary>
public sealed class ScvmmChildTests(ChildShellTests.Fixture child) : IClassFixture<ChildShellTests.Fixture>
{
    [PowerShellFact]
    public async Task A_server_lives_its_whole_life_through_a_child()
    {
        var shell = child.Shell;
        using var folder = new TemporaryFolder();
        var simulated = TestPool.Simulated(folder.Path);
        var pool = simulated with
        {
            Hypervisor = "scvmm",
            Services = [.. simulated.Services.Select(service => service with { Image = service.Image with { Disk = "gold.vhdx" } })],
            Scvmm = new ScvmmSpec { Server = "vmm1", Library = "library1", Share = @"\\library1\MSSCVMMLibrary\VMatrix" },
        };
        var world = child.World;
        world.SetTimes(TimeSpan.FromMilliseconds(50), TimeSpan.FromMilliseconds(10), 1L << 40);
        foreach (var each in pool.Hosts)
            world.AddHost(each.Name);
        world.AddHost(new HostState { Name = "library1", IsLibrary = true, MachinePath = @"\\library1\MSSCVMMLibrary" });
        world.AddLibraryDisk("library1", "gold.vhdx");
        var driver = new ScvmmHypervisor(pool, shell, TimeProvider.System);
        var (service, here, there, server) = (pool.Services[0], pool.Hosts[0], pool.Hosts[1], Guid.NewGuid());
        var image = await driver.PrepareImageAsync(default, service, here, null, default);
        var mark = TestPool.Mark(pool, service.Name, 1, Guid.NewGuid(), image, DateTimeOffset.UtcNow, server);
        await driver.CreateAsync(default, mark, service, default);
        Assert.Equal(mark with { MachineId = Assert.Single((await driver.ReadNestAsync(default)).Dormant).MachineId }, Assert.Single((await driver.ReadNestAsync(default)).Dormant).Mark);
        Assert.Empty(await driver.CompareAsync(server, service, null, here, live: false, default));
        await driver.FetchAsync(default, server, here, default);
        var address = await driver.StartAsync(default, server, service, here, default);
        Assert.Equal(address, Assert.Single((await driver.ReadHostAsync(here, default)).Machines).Address);
        Assert.Equal(address, await driver.MigrateAsync(default, server, service, here, there, default));
        var published = await driver.PublishImageAsync(new DriverCall(Guid.NewGuid(), 0), server, service, there, default);
        await driver.SelectImageAsync(default, service, published.Version, default);
        Assert.Equal(published.Version, (await driver.ReadNestAsync(default)).Images[service.Name]);
        await driver.SaveAsync(default, server, there, default);
        await driver.CarryAsync(default, server, there, here, default);
        await driver.StowAsync(default, server, here, default);
        Assert.Equal(PowerState.Saved, Assert.Single((await driver.ReadNestAsync(default)).Dormant).Power);
        await driver.DiscardAsync(default, server, null, default);
        await driver.RecoverAsync(default, server, default);
        await driver.DiscardAsync(default, server, null, default);
        await driver.EraseAsync(default, server, default);
        Assert.Equal("HostNotManaged", (await Assert.ThrowsAsync<VMatrixException>(() => driver.ReadHostAsync(here with { Name = "nobody" }, default))).Id);
        Assert.Equal("ServerNotFound", (await Assert.ThrowsAsync<VMatrixException>(() => driver.StartAsync(default, server, service, here, default))).Id);
        Assert.Empty(world.Violations);
    }
}
