using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>What is deleted, powered off or given up only with proof.</summary>
public sealed class HyperVGuardTests
{
    [Fact]
    public Task Files_that_no_record_tells_of_are_not_deleted_for_a_new_server() => InAsync(async (world, driver, service, server) =>
    {
        // A nest restored from a backup has lost the trace; the host keeps the folder of the server's id.
        var id = Guid.NewGuid();
        var files = world.Pool.Hosts.Select(host => Path.Combine(host.Storage!, "VMatrix", id.ToString("D"), "precious.vhdx")).ToArray();
        foreach (var file in files)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            await File.WriteAllTextAsync(file, "somebody's");
        }

        var image = (await driver.ReadNestAsync(default)).Images[service.Name];
        var error = await Assert.ThrowsAsync<VMatrixException>(() => driver.CreateAsync(default, TestPool.Mark(world.Pool, service.Name, 9, Guid.NewGuid(), image, world.Clock.GetUtcNow(), id), service, default));
        Assert.Equal("ServerFilesThere", error.Id);
        Assert.All(files, file => Assert.True(File.Exists(file)));
    });

    [Fact]
    public Task What_the_host_tells_of_a_purge_in_words_alone_deletes_no_file() => InAsync(async (world, driver, service, server) =>
    {
        await driver.DiscardAsync(default, server, null, default);
        var disks = world.MachineOf(server).Disks.Select(disk => disk.Path).ToArray();
        world.Fails = name => name == "Remove-VM" ? HyperVErrorTests.Told(name, "unbekannter Fehler", "Unspecified") : null;
        await Assert.ThrowsAsync<VMatrixException>(() => driver.EraseAsync(default, server, default));
        Assert.All(disks, disk => Assert.True(File.Exists(disk)));

        // A host that is cut off may have it: nothing is concluded.
        world.Fails = null;
        world.World.SetHost(world.MachineOf(server).Host, host => host with { Mood = HostMood.CutOff });
        await using var fresh = world.OpenHypervisor();
        await Assert.ThrowsAsync<VMatrixException>(() => fresh.EraseAsync(default, server, default));
        Assert.All(disks, disk => Assert.True(File.Exists(disk)));
    });

    [Fact]
    public async Task A_memory_that_cannot_be_saved_on_the_way_back_is_not_thrown_away()
    {
        await using var world = new FaultyDriverWorld();
        await world.RunAsync(async () =>
        {
            await using var scene = await Scene.OpenAsync(world);
            var server = await scene.MakeAsync(Stage.Matrix, scene.Host(1));
            await scene.MoveAsync(server, Stage.Nest);
            var machine = world.MachineOf(server).Id;
            var wake = await scene.PlanAsync(server, Stage.Matrix, scene.Host(1));
            world.World.SetMachine(machine, known => known with { Tells = ["192.0.2.1"] });
            world.Fails = name => name == "Save-VM" ? HyperVErrorTests.Told(name, "unbekannter Fehler", "Unspecified") : null;
            var record = await scene.CarryOutAsync(wake);
            Assert.Equal(MoveStatus.Failed, record.Status);
            Assert.Contains("could not be taken back", record.Error, StringComparison.Ordinal);
            Assert.Equal(VMState.Running, world.World.Machine(machine).State);

            // When what hindered it is mended, it is taken back with its memory.
            world.Fails = null;
            world.World.SetMachine(machine, known => known with { Tells = null });
            _ = await scene.Mover.UndoAsync(wake.Id, scene.Context(), null, default);
            Assert.Equal(VMState.Saved, world.World.Machine(machine).State);
        });
    }

    private static async Task InAsync(Func<FaultyDriverWorld, IHypervisor, ServiceSpec, Guid, Task> test)
    {
        await using var world = new FaultyDriverWorld();
        await world.RunAsync(async () =>
        {
            var (driver, service, server) = await world.MakeAsync();
            await test(world, driver, service, server);
            await driver.DisposeAsync();
            Assert.Empty(world.World.Violations);
        });
    }
}
