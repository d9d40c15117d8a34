using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.HyperV;
using VMatrix.Shells;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>Servers that sleep in the nest's share: registered nowhere, woken anywhere, refused with a mend where that cannot be.</summary>
public sealed class HyperVShareTests
{
    [Fact]
    public Task It_sleeps_in_the_share_leaves_nothing_on_its_host_and_wakes_on_another() => InAsync(async (world, driver, server, service) =>
    {
        var (first, second) = (world.Pool.Hosts[0], world.Pool.Hosts[1]);
        var before = await SleepAsync(world, driver, server, service);
        Assert.Empty(world.World.Machines);
        var asleep = Assert.Single((await driver.ReadNestAsync(default)).Dormant);
        Assert.Equal((before.Id.ToString("D"), PowerState.Saved, before.MemoryBytes), (asleep.MachineId, asleep.Power, asleep.MemoryBytes));
        Assert.NotNull(asleep.AsleepSince);
        Assert.Empty(world.Leftovers([server]));

        // Its disk leans on the nest's own image, and the copy that the export brought along is gone.
        var sleeper = world.ReadSleeper(server)!;
        Assert.Null(sleeper.Host);
        var disk = Assert.Single(Directory.GetFiles(Folder(world, server), "*.vhdx", SearchOption.AllDirectories));
        Assert.Equal(Path.Combine(world.Pool.Nest.Folder, "images", service.Name, asleep.Mark!.Image, "disk.vhdx"), await ParentAsync(world, second, disk));

        // What is written of it while it sleeps is what its notes say when it is registered again.
        var mark = asleep.Mark with { Generation = 9, Name = "FINANCE-Ä" };
        await driver.MarkAsync(default, mark, null, default);
        await using var next = world.OpenHypervisor();
        await next.FetchAsync(default, server, second, default);
        var there = Assert.Single((await next.ReadHostAsync(second, default)).Machines);
        Assert.Equal((mark, PowerState.Saved), (there.Mark, there.Power));
        Assert.Null(world.ReadSleeper(server));
        await AnswersAsync(world, service, await next.StartAsync(default, server, service, second, default));
        var running = world.MachineOf(server);
        Assert.Equal((before.Id, second.Name, "FINANCE-Ä", before.Address), (running.Id, running.Host, running.Name, running.Address));
        Assert.Empty(world.Leftovers([server]));

        // It runs where its files are; a move takes them along, and the next sleep leaves no old ones.
        await next.MigrateAsync(default, server, service, second, first, default);
        Assert.False(Directory.Exists(Folder(world, server)));
        await next.SaveAsync(default, server, first, default);
        await next.StowAsync(default, server, first, default);
        Assert.Empty(world.World.Machines);
        Assert.Empty(world.Leftovers([server]));
        await next.DiscardAsync(default, server, null, default);
        await next.EraseAsync(default, server, default);
        Assert.Empty(world.Leftovers([]));
        Assert.False(Directory.Exists(Folder(world, server)));
    });

    [Fact]
    public Task The_host_that_it_slept_on_is_dead_and_it_wakes_elsewhere() => InAsync(async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        world.World.SetHost("host1", host => host with { Mood = HostMood.Down });
        await using var next = world.OpenHypervisor();
        Assert.Equal(server, Assert.Single((await next.ReadNestAsync(default)).Dormant).Mark!.ServerId);
        await using (var session = new PoolSession(world.Pool with { Services = [service with { Least = 1 }] }, new PoolDrivers(world.OpenHypervisor(), world.OpenBalancer(), world.OpenProbe()), null, world.Clock))
        {
            var wake = Assert.Single((await session.PlanSwitchAsync(default)).Moves);
            Assert.Equal((MoveKind.Wake, server), (wake.Kind, wake.ServerId));
            Assert.NotEqual("host1", wake.ToHost);
        }

        await next.FetchAsync(default, server, world.Pool.Hosts[1], default);
        await AnswersAsync(world, service, await next.StartAsync(default, server, service, world.Pool.Hosts[1], default));
        world.World.SetHost("host1", host => host with { Mood = HostMood.Up });
        Assert.Single(await SeenAsync(world, server));

        // And is purged from there, whatever its old host does.
        await next.SaveAsync(default, server, world.Pool.Hosts[1], default);
        await next.StowAsync(default, server, world.Pool.Hosts[1], default);
        world.World.SetHost("host2", host => host with { Mood = HostMood.Down });
        await using var last = world.OpenHypervisor();
        await last.DiscardAsync(default, server, null, default);
        await last.EraseAsync(default, server, default);
        Assert.Empty(world.Leftovers([]));
    });

    [Fact]
    public async Task A_sleep_is_cut_short_at_every_step_and_finished_or_taken_back_by_whoever_comes_next()
    {
        var cuts = await CutAsync(
            async (world, driver, server, service) =>
            {
                await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
                await driver.StartAsync(default, server, service, world.Pool.Hosts[0], default);
                await driver.SaveAsync(default, server, world.Pool.Hosts[0], default);
            },
            (driver, world, server) => driver.StowAsync(default, server, world.Pool.Hosts[0], default),
            (driver, world, server) => driver.FetchAsync(default, server, world.Pool.Hosts[0], default),
            world => world.Pool.Hosts[0], expectAfterwards: 1);
        Assert.Equal(["Set-VM", "Export-VM", "Set-VHD", "Remove-VM"], cuts);
    }

    [Fact]
    public async Task A_wake_is_cut_short_at_every_step_and_finished_or_taken_back_by_whoever_comes_next()
    {
        var cuts = await CutAsync(
            async (world, driver, server, service) =>
            {
                await SleepAsync(world, driver, server, service);
                await driver.MarkAsync(default, Assert.Single(await SeenAsync(world, server)).Machine.Mark! with { Generation = 9 }, null, default);
            },
            (driver, world, server) => driver.FetchAsync(default, server, world.Pool.Hosts[1], default),
            (driver, world, server) => driver.StowAsync(default, server, world.Pool.Hosts[1], default),
            world => world.Pool.Hosts[1], expectAfterwards: 9);
        Assert.Equal(["Import-VM", "Set-VM"], cuts);
    }

    /// <summary>Cuts a step before, during and after each of its changing calls, and lets the next process do each thing that it may. Returns the calls.</summary>
    private static async Task<IEnumerable<string>> CutAsync(Func<CutWorld, IHypervisor, Guid, ServiceSpec, Task> prepare, Func<IHypervisor, CutWorld, Guid, Task> step,
        Func<IHypervisor, CutWorld, Guid, Task> back, Func<CutWorld, HostSpec> hostOf, int expectAfterwards)
    {
        var names = new List<string>();
        for (var call = 0; ; call++)
        {
            foreach (var when in new[] { When.Before, When.During, When.After })
            {
                foreach (var next in new[] { "finish", "back", "elsewhere", "host dies" })
                {
                    string? name = null;
                    await InAsync(async (world, driver, server, service) =>
                    {
                        await prepare(world, driver, server, service);
                        var shell = new CuttingShell(call, when);
                        world.Around = shell.Around;
                        await using (var victim = world.OpenHypervisor())
                            await Record.ExceptionAsync(() => step(victim, world, server));
                        world.Around = null;
                        name = shell.CutIn;
                        if (name is null)
                            return;
                        await GoOnAsync(world, server, service, next, step, back, hostOf(world), $"{name} {when}, then {next}", expectAfterwards);
                    });
                    if (name is null)
                        return names;
                    if (names.LastOrDefault() != name)
                        names.Add(name);
                }
            }
        }
    }

    private static async Task GoOnAsync(CutWorld world, Guid server, ServiceSpec service, string next, Func<IHypervisor, CutWorld, Guid, Task> step, Func<IHypervisor, CutWorld, Guid, Task> back, HostSpec host, string where, int generation)
    {
        var elsewhere = world.Pool.Hosts[2];
        await using var driver = world.OpenHypervisor();
        async Task OnceAsync()
        {
            var seen = await SeenAsync(world, server);
            Assert.True(seen.Count == 1, $"{where}: it exists {seen.Count} times: {string.Join(", ", seen.Select(each => each.Place))}");
            Assert.True(seen[0].Machine.Mark!.Generation == (generation == 9 ? 9 : seen[0].Machine.Mark!.Generation), $"{where}: its mark is of generation {seen[0].Machine.Mark!.Generation}");
        }

        switch (next)
        {
            case "finish":
                await OnceAsync();
                await step(driver, world, server);
                await step(driver, world, server);
                break;
            case "back":
                // The mover does so only where there is something to take back; else it lets the driver clear up and goes by what it finds.
                await Record.ExceptionAsync(() => back(driver, world, server));
                break;
            case "elsewhere":
                if ((await SeenAsync(world, server))[0].Place == "nest")
                    await driver.FetchAsync(default, server, elsewhere, default);
                break;
            default:
                world.World.SetHost(host.Name, known => known with { Mood = HostMood.Down });
                await using (var blind = world.OpenHypervisor())
                {
                    var nest = await blind.ReadNestAsync(default);
                    if (nest.Dormant.Count == 1)
                    {
                        await blind.FetchAsync(default, server, elsewhere, default);
                    }
                    else
                    {
                        // What is not seen is not touched, and said.
                        Assert.NotEmpty(nest.Problems);
                        Assert.Equal(VMatrixErrorKind.Unreachable, (await Assert.ThrowsAsync<VMatrixException>(() => blind.FetchAsync(default, server, elsewhere, default))).Kind);
                    }
                }

                world.World.SetHost(host.Name, known => known with { Mood = HostMood.Up });
                break;
        }

        await OnceAsync();
        await using var last = world.OpenHypervisor();
        var (machine, place) = (await SeenAsync(world, server))[0];
        var on = world.Pool.Hosts.FirstOrDefault(each => each.Name == place);
        if (on is null)
            await last.FetchAsync(default, server, on = world.Pool.Hosts[1], default);
        await AnswersAsync(world, service, await last.StartAsync(default, server, service, on, default));
        await OnceAsync();
        var left = world.Leftovers([server]);
        Assert.True(left.Count == 0, $"{where}: {string.Join("\n", left)}");
        Assert.Equal(machine.MachineId, world.MachineOf(server).Id.ToString("D"));
    }

    [Fact]
    public Task What_is_not_settled_is_believed_only_while_every_host_answers() => InAsync(async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        var share = new HyperVShare(world.Pool.Nest.Folder);
        share.Write(world.ReadSleeper(server)! with { Host = "host2" });
        world.World.SetHost("host3", host => host with { Mood = HostMood.CutOff });
        await using (var next = world.OpenHypervisor())
        {
            var nest = await next.ReadNestAsync(default);
            Assert.Empty(nest.Dormant);
            Assert.Contains(nest.Problems, problem => problem.Contains("is in the nest's share, or registered on host2", StringComparison.Ordinal));
            Assert.Equal(VMatrixErrorKind.Unreachable, (await Assert.ThrowsAsync<VMatrixException>(() => next.FetchAsync(default, server, world.Pool.Hosts[0], default))).Kind);
        }

        world.World.SetHost("host3", host => host with { Mood = HostMood.Up });

        // Nor is it while the host is none of the pool's any more, which nobody asks then.
        await using (var smaller = world.OpenHypervisor(world.Pool with { Hosts = [.. world.Pool.Hosts.Where(host => host.Name != "host2")] }))
        {
            var nest = await smaller.ReadNestAsync(default);
            Assert.Empty(nest.Dormant);
            Assert.Contains("Where host2 is gone for good", Assert.Single(nest.Problems), StringComparison.Ordinal);
            await Assert.ThrowsAsync<VMatrixException>(() => smaller.FetchAsync(default, server, world.Pool.Hosts[0], default));
        }

        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        Assert.Single(await SeenAsync(world, server));
    });

    [Fact]
    public Task A_record_that_cannot_be_read_hides_no_other_one() => InAsync(async (world, driver, server, service) =>
    {
        var broken = Path.Combine(world.Pool.Nest.Folder, "asleep", Guid.NewGuid().ToString("D"));
        Directory.CreateDirectory(broken);
        await File.WriteAllTextAsync(Path.Combine(broken, "server.json"), "{");
        var nest = await driver.ReadNestAsync(default);
        Assert.Equal(server, Assert.Single(nest.Dormant).Mark!.ServerId);
        Assert.Contains(broken, Assert.Single(nest.Problems), StringComparison.Ordinal);
        Directory.Delete(broken, recursive: true);
    });

    [Fact]
    public Task A_host_that_is_lost_while_a_server_is_made_makes_no_second_one() => InAsync(async (world, driver, server, service) =>
    {
        var mark = Assert.Single(await SeenAsync(world, server)).Machine.Mark! with { ServerId = Guid.NewGuid(), Name = "FINANCE-2" };
        string? lost = null;
        var shell = new CuttingShell(-1, When.Before)
        {
            Ended = call =>
            {
                // It is made and marked, and its host is lost before it goes to the share.
                if (call == "Set-VM" && lost is null)
                    world.World.SetHost(lost = world.World.Machines.Single().Host, host => host with { Mood = HostMood.CutOff });
            },
        };
        world.Around = shell.Around;
        await using (var next = world.OpenHypervisor())
        {
            Assert.Equal(VMatrixErrorKind.Unreachable, (await Assert.ThrowsAsync<VMatrixException>(() => next.CreateAsync(default, mark, service, default))).Kind);
        }

        world.Around = null;
        Assert.Single(world.World.Machines);
        world.World.SetHost(lost!, host => host with { Mood = HostMood.Up });
        await using var last = world.OpenHypervisor();
        await last.CreateAsync(default, mark, service, default);
        Assert.Empty(world.World.Machines);
        Assert.Equal("nest", Assert.Single(await SeenAsync(world, mark.ServerId)).Place);
        Assert.Empty(world.Leftovers([server, mark.ServerId]));
    });

    [Fact]
    public Task One_that_was_changed_while_it_was_exported_stays_where_it_is() => InAsync(async (world, driver, server, service) =>
    {
        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        var shell = new CuttingShell(-1, When.Before);
        world.Around = shell.Around;
        await using var next = world.OpenHypervisor();
        shell.Ended = call =>
        {
            // Somebody starts it by hand between the export and its end.
            if (call == "Export-VM")
                world.World.Change(state => state.Put(state.Machines.Values.Single() with { State = VMState.Running }));
        };
        Assert.Equal("ServerElsewhere", (await Assert.ThrowsAsync<VMatrixException>(() => next.StowAsync(default, server, world.Pool.Hosts[0], default))).Id);
        Assert.Equal("host1", Assert.Single(await SeenAsync(world, server)).Place);
        Assert.Equal(VMState.Running, world.MachineOf(server).State);
    });

    [Theory]
    [InlineData(0x80070070, "DiskFull", "Free some room there")]
    [InlineData(0x80070005, "ShareAccessDenied", "computer account of host1")]
    [InlineData(0x80070035, "ShareUnreachable", "Check the file server")]
    public Task Where_the_share_fails_an_export_the_server_goes_on_where_it_is(uint code, string id, string mend) => InAsync(async (world, driver, server, service) =>
    {
        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        await driver.StartAsync(default, server, service, world.Pool.Hosts[0], default);
        await driver.SaveAsync(default, server, world.Pool.Hosts[0], default);
        Fail(world, code);
        var error = await Assert.ThrowsAsync<VMatrixException>(() => driver.StowAsync(default, server, world.Pool.Hosts[0], default));
        Assert.Equal(id, error.Id);
        Assert.Contains(mend, error.Message, StringComparison.Ordinal);
        Assert.Contains(world.Pool.Nest.Folder, error.Message, StringComparison.Ordinal);
        Assert.Single(await SeenAsync(world, server));

        // As the mover takes it back.
        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        await AnswersAsync(world, service, await driver.StartAsync(default, server, service, world.Pool.Hosts[0], default));
        Assert.Empty(world.Leftovers([server]));
    });

    [Fact]
    public async Task A_full_share_undoes_the_move_and_the_service_goes_on()
    {
        await using var world = new CutWorld();
        await world.RunAsync(async () =>
        {
            await using var scene = await Scene.OpenAsync(world);
            var server = await scene.MakeAsync(Stage.Matrix);
            Fail(world, 0x80070070);
            var record = await scene.CarryOutAsync(await scene.PlanAsync(server, Stage.Nest));
            Assert.Equal((MoveStatus.Undone, "stow"), (record.Status, record.Step));
            Assert.Contains("Free some room there", record.Error, StringComparison.Ordinal);
            await scene.CheckAsync();
            Fail(world, null);
            await scene.MoveAsync(server, Stage.Nest);
            Assert.Empty(world.World.Machines);
            await scene.CheckAsync();
            await scene.ClearAsync();
        });
    }

    [Theory]
    [InlineData(0x80070005, "ShareAccessDenied")]
    [InlineData(0x80070035, "ShareUnreachable")]
    public Task Where_a_host_does_not_get_at_the_share_another_one_wakes_it(uint code, string id) => InAsync(async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        Fail(world, code);
        Assert.Equal(id, (await Assert.ThrowsAsync<VMatrixException>(() => driver.FetchAsync(default, server, world.Pool.Hosts[1], default))).Id);
        Assert.Null(world.ReadSleeper(server)!.Host);
        Fail(world, null);
        world.World.SetHost("host2", host => host with { Mood = HostMood.Down });
        await using var next = world.OpenHypervisor();
        await next.FetchAsync(default, server, world.Pool.Hosts[2], default);
        await AnswersAsync(world, service, await next.StartAsync(default, server, service, world.Pool.Hosts[2], default));
    });

    [Fact]
    public Task Without_the_share_nothing_is_begun() => InAsync(async (world, driver, server, service) =>
    {
        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        var before = world.MachineOf(server);
        var asleep = Path.Combine(world.Pool.Nest.Folder, "asleep");
        if (Directory.Exists(asleep))
            Directory.Delete(asleep, recursive: true);
        await File.WriteAllTextAsync(asleep, "in the way");
        var error = await Assert.ThrowsAsync<VMatrixException>(() => driver.StowAsync(default, server, world.Pool.Hosts[0], default));
        Assert.Equal("FileFailed", error.Id);
        Assert.Contains(world.Pool.Nest.Folder, error.Message, StringComparison.Ordinal);
        Assert.Equal((before.Notes, before.State), (world.MachineOf(server).Notes, world.MachineOf(server).State));
        File.Delete(asleep);
    });

    [Fact]
    public Task A_file_that_is_gone_from_the_share_is_named() => InAsync(async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        var file = Directory.GetFiles(Folder(world, server), "*.vmcx", SearchOption.AllDirectories).Single();
        File.Move(file, file + ".away");
        var error = await Assert.ThrowsAsync<VMatrixException>(() => driver.FetchAsync(default, server, world.Pool.Hosts[1], default));
        Assert.Equal("FileNotFound", error.Id);
        Assert.Contains(file, error.Message, StringComparison.Ordinal);
        File.Move(file + ".away", file);
        await driver.FetchAsync(default, server, world.Pool.Hosts[1], default);
    });

    [Theory]
    [InlineData(ResumeFailure.Refuse)]
    [InlineData(ResumeFailure.Boot)]
    public Task No_host_gives_up_a_memory_that_lies_in_the_share(ResumeFailure policy) => InAsync(async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        foreach (var host in world.Pool.Hosts)
            world.World.SetHost(host.Name, known => known with { ProcessorFamily = "AMD-B" });
        await using (var next = world.OpenHypervisor(world.Pool with { HyperV = world.Pool.HyperV with { ResumeFailure = policy, Nest = DormantPlace.Hosts } }))
        {
            Assert.Contains("It sleeps on in the nest's share", Assert.Single((await next.ReadNestAsync(default)).Problems), StringComparison.Ordinal);
            Assert.Equal(world.Pool.Hosts.Count, (await ((IHostAdviser)next).AdviseAsync(world.Pool.Hosts, default)).Verdicts.Count);
            Assert.Contains(await next.CompareAsync(server, service, null, world.Pool.Hosts[1], false, default), obstacle => obstacle is { What: "SavedStateNotResumable", Severity: ObstacleSeverity.Blocks });
            var refused = await Assert.ThrowsAsync<VMatrixException>(() => next.FetchAsync(default, server, world.Pool.Hosts[1], default));
            Assert.Equal("SavedStateNotResumable", refused.Id);
            Assert.Contains("another host can still resume it", refused.Message, StringComparison.Ordinal);
        }

        Assert.Null(world.ReadSleeper(server)!.Host);
        world.World.SetHost("host3", known => known with { ProcessorFamily = "Intel-A" });
        await using var last = world.OpenHypervisor();
        await last.FetchAsync(default, server, world.Pool.Hosts[2], default);
        Assert.Equal(VMState.Saved, world.MachineOf(server).State);
    });

    [Fact]
    public Task Disks_of_one_name_are_told_and_so_is_an_image_that_was_changed() => InAsync(async (world, driver, server, service) =>
    {
        var host = world.Pool.Hosts[0];
        await driver.FetchAsync(default, server, host, default);
        var machine = world.MachineOf(server);
        await using var admin = new DoubleShell(world.World);
        var twin = Path.Combine(Path.GetTempPath(), Guid.NewGuid().ToString("N"), Path.GetFileName(machine.Disks[0].Path));
        await admin.InvokeAsync(Call(@"Hyper-V\New-VHD", ("ComputerName", "host1"), ("Path", twin), ("SizeBytes", 1L << 30), ("Dynamic", true)), default);
        world.World.SetMachine(machine.Id, known => known with { Disks = [.. known.Disks, new DiskState(twin, Location: 1)] });
        Assert.Equal("DiskNamesCollide", (await Assert.ThrowsAsync<VMatrixException>(() => driver.StowAsync(default, server, host, default))).Id);
        world.World.SetMachine(machine.Id, known => known with { Disks = machine.Disks });
        Directory.Delete(Path.GetDirectoryName(twin)!, recursive: true);

        // The double's image of a text file is another one when its folder is; here the export's copy leans on what the nest no longer has.
        var shell = new CuttingShell(-1, When.Before);
        world.Around = shell.Around;
        await using var next = world.OpenHypervisor();
        var image = (string)(await ParentAsync(world, host, machine.Disks[0].Path))!;
        shell.Ended = call =>
        {
            if (call != "Export-VM")
                return;
            File.SetAttributes(image, FileAttributes.Normal);
            File.WriteAllText(image, $"{{\"Id\":\"{Guid.NewGuid()}\"}}");
        };
        Assert.Equal("ImageChanged", (await Assert.ThrowsAsync<VMatrixException>(() => next.StowAsync(default, server, host, default))).Id);
        Assert.Equal("nest", Assert.Single(await SeenAsync(world, server)).Place);
        Assert.Equal("host1", world.MachineOf(server).Host);
    });

    [Fact]
    public Task One_of_a_cluster_and_one_with_checkpoints_stay_registered() => InAsync(async (world, driver, server, service) =>
    {
        var host = world.Pool.Hosts[0];
        await driver.FetchAsync(default, server, host, default);
        world.World.Change(state => state.Groups.Put("role", new GroupState { Name = "role", Cluster = "cluster1", Machine = world.MachineOf(server).Id }));
        await driver.StowAsync(default, server, host, default);
        Assert.Null(Assert.Single((await driver.ReadNestAsync(default)).Dormant).Problem);
        Assert.Equal("host1", world.MachineOf(server).Host);
        world.World.Change(state => state.Groups.Remove("role"));
        await driver.FetchAsync(default, server, host, default);

        await using var admin = new DoubleShell(world.World);
        await admin.InvokeAsync(Call(@"Hyper-V\Checkpoint-VM", ("VM", VM(world, server)), ("SnapshotName", "before")), default);
        await driver.StowAsync(default, server, host, default);
        Assert.Contains("for it has checkpoints: wake it and remove them", Assert.Single((await driver.ReadNestAsync(default)).Dormant).Problem, StringComparison.Ordinal);
        await driver.FetchAsync(default, server, host, default);
        await admin.InvokeAsync(Call(@"Hyper-V\Remove-VMSnapshot", ("VM", VM(world, server)), ("Name", "before")), default);
        await driver.StowAsync(default, server, host, default);
        Assert.Empty(world.World.Machines);
        Assert.Null(Assert.Single((await driver.ReadNestAsync(default)).Dormant).Problem);
    });

    [Fact]
    public Task One_that_is_let_go_in_the_share_lies_there_and_becomes_another_server() => InAsync(async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        await driver.ReleaseAsync(default, server, null, default);
        var lies = Assert.Single((await driver.ReadNestAsync(default)).Dormant);
        Assert.Equal(((ServerMark?)null, server), (lies.Mark, lies.StaleMark!.ServerId));
        await Assert.ThrowsAsync<VMatrixException>(() => driver.FetchAsync(default, server, world.Pool.Hosts[1], default));
        var mark = lies.StaleMark with { ServerId = Guid.NewGuid(), Name = "FINANCE-9" };
        await driver.AdoptAsync(default, lies.MachineId, mark, null, default);
        await driver.AdoptAsync(default, lies.MachineId, mark, null, default);

        // Its notes are of the server that it was when it was exported; from the moment it is registered it is the new one all the same.
        var shell = new CuttingShell(0, When.After);
        world.Around = shell.Around;
        await using (var victim = world.OpenHypervisor())
            await Record.ExceptionAsync(() => victim.FetchAsync(default, mark.ServerId, world.Pool.Hosts[1], default));
        world.Around = null;
        Assert.Equal("Import-VM", shell.CutIn);
        Assert.Empty(await SeenAsync(world, server));
        Assert.Equal("nest", Assert.Single(await SeenAsync(world, mark.ServerId)).Place);
        await using var next = world.OpenHypervisor();
        await next.FetchAsync(default, mark.ServerId, world.Pool.Hosts[1], default);
        await AnswersAsync(world, service, await next.StartAsync(default, mark.ServerId, service, world.Pool.Hosts[1], default));
        Assert.Equal("FINANCE-9", Assert.Single(await SeenAsync(world, mark.ServerId)).Machine.Mark!.Name);
        Assert.Empty(world.Leftovers([mark.ServerId]));
    });

    [Fact]
    public Task What_stands_in_the_way_of_a_wake_is_told_before() => InAsync(async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        Assert.Empty(await driver.CompareAsync(server, service, null, world.Pool.Hosts[1], false, default));
        world.World.SetHost("host2", host => host with { Switches = ["other"] });
        var missing = Assert.Single(await driver.CompareAsync(server, service, null, world.Pool.Hosts[1], false, default));
        Assert.Equal(("SwitchMissing", ObstacleSeverity.Blocks), (missing.What, missing.Severity));
        Assert.Contains("New-VMSwitch -ComputerName host2", missing.Mend, StringComparison.Ordinal);
        world.World.SetHost("host2", host => host with { Mood = HostMood.Down });
        Assert.Equal("HostUnreachable", Assert.Single(await driver.CompareAsync(server, service, null, world.Pool.Hosts[1], false, default)).What);
        Assert.Equal(PowerState.Saved, Assert.Single(await SeenAsync(world, server, except: "host2")).Machine.Power);
    });

    [Fact]
    public Task An_image_is_made_from_a_server_that_is_off_in_the_share_and_from_none_that_keeps_its_memory() => InAsync(async (world, driver, server, service) =>
    {
        var published = await driver.PublishImageAsync(default, server, service, null, default);
        Assert.NotEqual(published.From, published.Version);
        Assert.True(published.Bytes > 0);
        Assert.Empty(world.World.Machines);
        await SleepAsync(world, driver, server, service);
        Assert.Equal("ServerAsleep", (await Assert.ThrowsAsync<VMatrixException>(() => driver.PublishImageAsync(default, server, service, null, default))).Id);
    });

    [Fact]
    public Task Where_the_owner_goes_back_to_hosts_sleepers_of_the_share_still_wake() => InAsync(async (world, driver, server, service) =>
    {
        await SleepAsync(world, driver, server, service);
        await using var next = world.OpenHypervisor(world.Pool with { HyperV = world.Pool.HyperV with { Nest = DormantPlace.Hosts } });
        await next.FetchAsync(default, server, world.Pool.Hosts[1], default);
        await next.StartAsync(default, server, service, world.Pool.Hosts[1], default);
        await next.SaveAsync(default, server, world.Pool.Hosts[1], default);
        await next.StowAsync(default, server, world.Pool.Hosts[1], default);
        Assert.Equal("host2", world.MachineOf(server).Host);
        Assert.Single(await SeenAsync(world, server));

        // And those that sleep registered go to the share when they sleep next.
        await driver.StowAsync(default, server, world.Pool.Hosts[1], default);
        Assert.Empty(world.World.Machines);
        Assert.Empty(world.Leftovers([server]));
    });

    [Fact]
    public async Task An_export_that_outlives_its_step_is_waited_for_and_not_made_again()
    {
        using var folder = new TemporaryFolder();
        await using var world = HyperVDriverWorld.Shared(folder.Path);
        await using var driver = world.OpenHypervisor();
        var (service, host) = (world.Pool.Services[0], world.Pool.Hosts[0]);
        var image = await driver.PrepareImageAsync(default, service, host, null, default);
        var mark = TestPool.Mark(world.Pool, service.Name, 1, Guid.NewGuid(), image, world.Clock.GetUtcNow());
        await driver.CreateAsync(default, mark, service, default);
        await driver.FetchAsync(default, mark.ServerId, host, default);
        await driver.StartAsync(default, mark.ServerId, service, host, default);
        await driver.SaveAsync(default, mark.ServerId, host, default);
        world.World.Configure(settings => settings with { Bandwidth = 32 << 20 });
        var exports = 0;
        using var step = new CancellationTokenSource();
        world.World.Called = command =>
        {
            if (!command.EndsWith("Export-VM", StringComparison.Ordinal))
                return;
            exports++;
            step.CancelAfter(TimeSpan.FromMilliseconds(100));
        };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => driver.StowAsync(default, mark.ServerId, host, step.Token));
        await driver.StowAsync(default, mark.ServerId, host, default);
        Assert.Equal(1, exports);
        Assert.Empty(world.World.Machines);
        Assert.Empty(world.Leftovers([mark.ServerId]));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    public Task Calls_that_fail_at_random_leave_a_server_that_this_process_or_the_next_brings_home(int seed) => InAsync(async (world, driver, server, service) =>
    {
        world.World.Configure(settings => settings with { FailureRate = 0.15, Seed = seed, CallLatency = TimeSpan.FromMilliseconds(40) });
        var (current, failures) = (driver, 0);
        for (var round = 0; round < 4; round++)
        {
            var host = world.Pool.Hosts[round % 3];
            await InsistAsync(to => to.FetchAsync(default, server, host, default));
            await InsistAsync(to => to.StartAsync(default, server, service, host, default));
            await InsistAsync(to => to.SaveAsync(default, server, host, default));
            await InsistAsync(to => to.StowAsync(default, server, host, default));
        }

        world.World.Configure(settings => settings with { FailureRate = 0 });
        Assert.True(failures > 0, "nothing failed");
        Assert.Empty(world.World.Machines);
        Assert.Equal("nest", Assert.Single(await SeenAsync(world, server)).Place);
        Assert.Empty(world.Leftovers([server]));

        async Task InsistAsync(Func<IHypervisor, Task> call)
        {
            for (var left = 300; ; left--)
            {
                try
                {
                    await call(current);
                    return;
                }
                catch (VMatrixException error) when (error.IsTransient && left > 0)
                {
                    if (++failures % 2 == 0)
                        current = world.OpenHypervisor();
                }
            }
        }
    });

    // ---------------------------------------------------------------- hands

    private static string Folder(HyperVDriverWorld world, Guid server) => Path.Combine(world.Pool.Nest.Folder, "asleep", server.ToString("D"));

    private static void Fail(HyperVDriverWorld world, uint? code) =>
        world.World.Configure(settings => settings with { BadFolders = code is { } bad ? new Dictionary<string, int> { [Path.Combine(world.Pool.Nest.Folder, "asleep")] = unchecked((int)bad) } : [] });

    private static ShellCall VM(HyperVDriverWorld world, Guid server) => Call(@"Hyper-V\Get-VM", ("ComputerName", world.MachineOf(server).Host), ("Id", world.MachineOf(server).Id));

    private static ShellCall Call(string command, params (string Name, object? Value)[] parameters) => new() { Commands = [new ShellCommand(command, parameters.ToDictionary(each => each.Name, each => each.Value))] };

    private static async Task<object?> ParentAsync(HyperVDriverWorld world, HostSpec host, string disk)
    {
        await using var admin = new DoubleShell(world.World);
        return Assert.Single(await admin.InvokeAsync(Call(@"Hyper-V\Get-VHD", ("ComputerName", host.Address), ("Path", disk)) with { Properties = ["ParentPath"] }, default))["ParentPath"];
    }

    private static async Task<MachineState> SleepAsync(HyperVDriverWorld world, IHypervisor driver, Guid server, ServiceSpec service)
    {
        var host = world.Pool.Hosts[0];
        await driver.FetchAsync(default, server, host, default);
        await AnswersAsync(world, service, await driver.StartAsync(default, server, service, host, default));
        await driver.SaveAsync(default, server, host, default);
        var before = world.MachineOf(server);
        await driver.StowAsync(default, server, host, default);
        return before;
    }

    private static async Task AnswersAsync(HyperVDriverWorld world, ServiceSpec service, string address)
    {
        while (await world.OpenProbe().CheckAsync(service, address, default) is not null)
            await Task.Delay(TimeSpan.FromMilliseconds(100), world.Clock);
    }

    /// <summary>Wherever a new process sees the server.</summary>
    private static async Task<IReadOnlyList<(Machine Machine, string Place)>> SeenAsync(HyperVDriverWorld world, Guid server, string? except = null)
    {
        await using var driver = world.OpenHypervisor();
        var found = new List<(Machine, string)>();
        found.AddRange((await driver.ReadNestAsync(default)).Dormant.Where(machine => machine.Mark?.ServerId == server).Select(machine => (machine, "nest")));
        foreach (var host in world.Pool.Hosts.Where(host => host.Name != except))
            found.AddRange((await driver.ReadHostAsync(host, default)).Machines.Where(machine => machine.Mark?.ServerId == server).Select(machine => (machine, host.Name)));
        return found;
    }

    private static async Task InAsync(Func<CutWorld, IHypervisor, Guid, ServiceSpec, Task> test)
    {
        await using var world = new CutWorld();
        await world.RunAsync(async () =>
        {
            await using var driver = world.OpenHypervisor();
            var service = world.Pool.Services[0];
            var image = await driver.PrepareImageAsync(default, service, world.Pool.Hosts[0], null, default);
            var mark = TestPool.Mark(world.Pool, service.Name, 1, Guid.NewGuid(), image, world.Clock.GetUtcNow());
            await driver.CreateAsync(default, mark, service, default);
            Assert.Empty(world.World.Machines);
            await test(world, driver, mark.ServerId, service);
            Assert.Empty(world.World.Violations);
        });
    }

    private sealed class CutWorld() : HyperVDriverWorld(change: InShare)
    {
        public Func<IShell, IShell>? Around { get; set; }

        public IHypervisor OpenHypervisor(PoolSpec pool) => new HyperVHypervisor(pool, OpenShell(), Clock);

        protected override IShell OpenShell() => Around?.Invoke(base.OpenShell()) ?? base.OpenShell();
    }

    private enum When
    {
        Before,
        During,
        After,
    }

    /// <summary>A process that ends at one of its changing calls: before it, while the host works on, or after it. A number below zero ends it nowhere.</summary>
    private sealed class CuttingShell(int at, When when)
    {
        private static readonly string[] s_asking = ["Get-VM", "Get-VHD", "Get-VMHost", "Get-VMDvdDrive", "Get-VMNetworkAdapter", "Get-CimInstance"];
        private int _calls;
        private bool _gone;

        public string? CutIn { get; private set; }

        public Action<string>? Ended { get; set; }

        public IShell Around(IShell inner) => new ShellsBy(_ => ((call, cancellation) => InvokeAsync(inner, call, cancellation), () => { })).Open(8);

        private async Task<IReadOnlyList<PropertyBag>> InvokeAsync(IShell inner, ShellCall call, CancellationToken cancellation)
        {
            var name = call.Commands[^1].Name.Split('\\')[1];
            if (_gone)
                throw new InvalidOperationException("The process is gone.");
            if (s_asking.Contains(name) || _calls++ != at)
            {
                var told = await inner.InvokeAsync(call, cancellation);
                Ended?.Invoke(name);
                return told;
            }

            (CutIn, _gone) = (name, true);
            if (when != When.Before)
            {
                var work = inner.InvokeAsync(call, cancellation);
                if (when == When.After)
                    await work;
            }

            throw new InvalidOperationException("The process is gone.");
        }
    }
}
