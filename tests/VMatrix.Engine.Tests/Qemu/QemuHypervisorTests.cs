using System;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Drivers;
using Xunit;

namespace VMatrix.Tests.Qemu;

[Collection("qemu")]
public sealed class QemuHypervisorTests(QemuImage image)
{
    [Fact]
    public async Task A_server_is_made_wakes_serves_hibernates_and_wakes_again_as_itself()
    {
        await using var lab = await image.LabAsync();
        var server = await lab.DormantAsync("web1");
        Assert.Equal(PowerState.Saved, (await lab.MachineAsync(server)).Power);

        var address = await lab.StartAsync(server);
        Assert.StartsWith("FINANCE web1", await QemuLab.GetAsync(address, "/"), StringComparison.Ordinal);
        var machine = await lab.MachineAsync(server, driver: lab.NewDriver());
        Assert.Equal((PowerState.Running, ServerHealth.Unknown, address, null), (machine.Power, machine.Health, machine.Address, machine.Problem));

        await lab.Driver.SaveAsync(default, server, lab.Hosts[0], default);
        await lab.Driver.StowAsync(default, server, lab.Hosts[0], default);
        Assert.Equal(server, (await lab.Driver.ReadNestAsync(default)).Dormant.Single().Mark!.ServerId);
        Assert.Empty((await lab.Driver.ReadHostAsync(lab.Hosts[0], default)).Machines);

        await lab.Driver.FetchAsync(default, server, lab.Hosts[1], default);
        address = await lab.StartAsync(server, 1);
        var facts = await QemuLab.FactsAsync(address);
        Assert.Equal(("web1", "web1", server.ToString("D")), (facts["name"], facts["hostname"], facts["id"]));
        Assert.InRange(long.Parse(facts["time"], null) - DateTimeOffset.UtcNow.ToUnixTimeSeconds(), -2, 2);
    }
}
