using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using VMatrix.Qemu;
using Xunit;

namespace VMatrix.Tests.Qemu;

/// <summary>What is QEMU's own: memory that is proven whole, names and clocks after a wake, processes that die and hang.</summary>
[Collection("qemu")]
public sealed class QemuHypervisorTests(QemuImage image)
{
    [Fact]
    public async Task A_server_wakes_serves_hibernates_and_wakes_elsewhere_as_itself()
    {
        await using var lab = await image.LabAsync();
        var server = await lab.DormantAsync("web1");
        Assert.Equal(PowerState.Saved, (await lab.MachineAsync(server)).Power);

        var address = await lab.StartAsync(server);
        Assert.StartsWith("FINANCE web1", await QemuLab.GetAsync(address, "/"), StringComparison.Ordinal);
        var machine = await lab.MachineAsync(server, driver: lab.NewDriver());
        Assert.Equal((PowerState.Running, ServerHealth.Unknown, address, null), (machine.Power, machine.Health, machine.Address, machine.Problem));

        await lab.Driver.SaveAsync(default, server, lab.Hosts[0], default);
        await lab.Driver.CarryAsync(default, server, lab.Hosts[0], lab.Hosts[1], default);

        // Long enough that a clock which nobody sets is seen to be late.
        await Task.Delay(TimeSpan.FromSeconds(4));
        address = await lab.StartAsync(server, 1);
        var facts = await QemuLab.FactsAsync(address);
        Assert.Equal(("web1", "web1", server.ToString("D")), (facts["name"], facts["hostname"], facts["id"]));
        Assert.InRange(long.Parse(facts["time"], CultureInfo.InvariantCulture) - DateTimeOffset.UtcNow.ToUnixTimeSeconds(), -2, 2);
    }

    [Fact]
    public async Task Four_clones_of_one_memory_wake_at_once_with_names_and_random_numbers_of_their_own()
    {
        await using var lab = await image.LabAsync();
        var servers = await Task.WhenAll(Enumerable.Range(1, 4).Select(i => lab.DormantAsync($"web{i}")));
        var addresses = await Task.WhenAll(servers.Select(server => lab.StartAsync(server)));
        var facts = await Task.WhenAll(addresses.Select(QemuLab.FactsAsync));
        Assert.Equal(["web1", "web2", "web3", "web4"], facts.Select(f => f["hostname"]));
        Assert.Equal(4, facts.Select(f => f["random"]).Distinct().Count());

        // Nobody is left behind when they hibernate at once.
        await Task.WhenAll(servers.Select(server => lab.Driver.SaveAsync(default, server, lab.Hosts[0], default)));
        Assert.Empty(QemuProcesses.Find(lab.Hosts[0].Folder!));
    }

    [Fact]
    public async Task One_request_is_served_at_a_time_and_health_does_not_wait_for_it()
    {
        await using var lab = await image.LabAsync();
        var address = await lab.StartAsync(await lab.DormantAsync());
        var began = Stopwatch.StartNew();
        var pages = Task.WhenAll(Enumerable.Range(0, 3).Select(_ => QemuLab.GetAsync(address, "/?ms=700")));
        await QemuLab.GetAsync(address, "/health");
        Assert.False(pages.IsCompleted);
        await pages;
        Assert.True(began.Elapsed >= TimeSpan.FromSeconds(2.1), $"Three requests of 0.7 s ended after {began.Elapsed}.");
    }

    [Fact]
    public async Task A_killed_server_is_dead_with_the_end_of_its_console()
    {
        await using var lab = await image.LabAsync();
        var server = await lab.DormantAsync();
        await lab.StartAsync(server);
        File.AppendAllText(Path.Combine(lab.FolderOf(server), "console.log"), "the last words\n");
        await KillAsync(server);
        var machine = await lab.MachineAsync(server, driver: lab.NewDriver());
        Assert.Equal((PowerState.Off, ServerHealth.Dead, null), (machine.Power, machine.Health, machine.Address));
        Assert.Contains("the last words", machine.Problem, StringComparison.Ordinal);

        // Its memory was dropped when it woke: the past does not wake again.
        Assert.Empty(Directory.GetFiles(lab.FolderOf(server), "state*"));
        Assert.True(await lab.Driver.ProveStoppedAsync(server, lab.Hosts[0], default));
    }

    [Fact]
    public async Task A_stopped_process_is_hung_and_says_how_to_go_on()
    {
        await using var lab = await image.LabAsync();
        var server = await lab.DormantAsync();
        await lab.StartAsync(server);
        var process = QemuProcesses.Of(server).Id;
        await SignalAsync("-STOP", process);
        var machine = await lab.MachineAsync(server);
        Assert.Equal((PowerState.Running, ServerHealth.Hung), (machine.Power, machine.Health));
        Assert.Contains($"kill -CONT {process}", machine.Problem, StringComparison.Ordinal);
        Assert.False(await lab.Driver.ProveStoppedAsync(server, lab.Hosts[0], default));
        await SignalAsync("-CONT", process);
        Assert.Equal(ServerHealth.Unknown, (await lab.MachineAsync(server)).Health);
    }

    [Theory]
    [InlineData("flip", "StateCorrupt")]
    [InlineData("cut", "StateCorrupt")]
    [InlineData("shape", "StateMismatch")]
    public async Task A_memory_that_is_not_what_was_kept_is_refused_and_stays(string harm, string error)
    {
        await using var lab = await image.LabAsync();
        var server = await lab.DormantAsync();
        var folder = lab.FolderOf(server);
        var state = Path.Combine(folder, "state.zst");
        var good = await File.ReadAllBytesAsync(state);
        var guest = await File.ReadAllTextAsync(Path.Combine(folder, "guest.json"));
        File.Delete(state);
        var bad = good[..(harm == "cut" ? good.Length / 2 : good.Length)];
        bad[bad.Length / 3] ^= (byte)(harm == "flip" ? 1 : 0);
        await File.WriteAllBytesAsync(state, bad);
        if (harm == "shape")
            await File.WriteAllTextAsync(Path.Combine(folder, "guest.json"), guest.Replace("134217728", "268435456", StringComparison.Ordinal));

        var refused = await Assert.ThrowsAsync<VMatrixException>(() => lab.Driver.StartAsync(default, server, lab.Service, lab.Hosts[0], default));
        Assert.Equal((error, VMatrixErrorKind.Corrupt), (refused.Id, refused.Kind));
        Assert.Contains(state, refused.Message, StringComparison.Ordinal);
        Assert.Equal(PowerState.Saved, (await lab.MachineAsync(server)).Power);
        Assert.Empty(QemuProcesses.Find(folder));

        await File.WriteAllBytesAsync(state, good);
        await File.WriteAllTextAsync(Path.Combine(folder, "guest.json"), guest);
        await lab.StartAsync(server);
    }

    [SkippableFact]
    [Trait("Category", "Long")]
    public async Task A_save_that_finds_the_disk_full_leaves_the_server_running()
    {
        var small = Directory.CreateTempSubdirectory("vmatrix-small-").FullName;
        if (!await MountAsync("-t", "tmpfs", "-o", "size=40m", "tmpfs", small))
        {
            Directory.Delete(small);
            Skip.If(true, "need the right to mount a small disk (root)");
        }

        try
        {
            await using var lab = await image.LabAsync(image.Image with { Warm = false }, hostFolder: small);
            var server = await lab.DormantAsync();
            var address = await lab.StartAsync(server);
            await File.WriteAllBytesAsync(Path.Combine(small, "filler"), new byte[32 << 20]);

            var refused = await Assert.ThrowsAsync<VMatrixException>(() => lab.Driver.SaveAsync(default, server, lab.Hosts[0], default));
            Assert.Equal("DiskFull", refused.Id);
            Assert.Null(await lab.CheckAsync(lab.Service, address, default));
            Assert.Equal(PowerState.Running, (await lab.MachineAsync(server)).Power);
            Assert.DoesNotContain(Directory.GetFiles(lab.FolderOf(server)), f => Path.GetFileName(f).StartsWith("state", StringComparison.Ordinal));

            File.Delete(Path.Combine(small, "filler"));
            await lab.Driver.SaveAsync(default, server, lab.Hosts[0], default);
            await lab.StartAsync(server);
        }
        finally
        {
            using var unmount = Process.Start("umount", [small]);
            await unmount.WaitForExitAsync();
            Directory.Delete(small);
        }
    }

    [Fact]
    [Trait("Category", "Long")]
    public async Task A_disk_keeps_what_the_guest_wrote_and_an_older_disk_does_not_wake_under_a_newer_memory()
    {
        await using var lab = await image.LabAsync(await image.WithDiskAsync());
        var server = await lab.DormantAsync();
        var address = await lab.StartAsync(server);
        Assert.EndsWith("served 1\n", await QemuLab.GetAsync(address, "/"), StringComparison.Ordinal);
        await lab.Driver.SaveAsync(default, server, lab.Hosts[0], default);
        var overlay = Path.Combine(lab.FolderOf(server), "overlay.qcow2");
        File.Copy(overlay, overlay + ".old");

        address = await lab.StartAsync(server);
        Assert.EndsWith("served 2\n", await QemuLab.GetAsync(address, "/"), StringComparison.Ordinal);
        await lab.Driver.SaveAsync(default, server, lab.Hosts[0], default);
        File.Move(overlay, overlay + ".new");
        File.Move(overlay + ".old", overlay);
        var refused = await Assert.ThrowsAsync<VMatrixException>(() => lab.Driver.StartAsync(default, server, lab.Service, lab.Hosts[0], default));
        Assert.Equal("StateMismatch", refused.Id);

        File.Move(overlay + ".new", overlay, overwrite: true);
        address = await lab.StartAsync(server);
        Assert.EndsWith("served 3\n", await QemuLab.GetAsync(address, "/"), StringComparison.Ordinal);
    }

    [SkippableFact]
    [Trait("Category", "Long")]
    public async Task A_server_goes_to_another_file_system_and_back_whole()
    {
        var other = Directory.CreateTempSubdirectory("vmatrix-other-").FullName;
        var shared = $"/dev/shm/{Path.GetFileName(other)}";
        Directory.Delete(other);
        Skip.If(!Directory.Exists("/dev/shm"), "need a second file system at /dev/shm");
        try
        {
            await using var lab = await image.LabAsync(await image.WithDiskAsync(), hostFolder: shared);
            var server = await lab.DormantAsync();
            var address = await lab.StartAsync(server);
            await QemuLab.GetAsync(address, "/");
            await lab.Driver.SaveAsync(default, server, lab.Hosts[0], default);
            await lab.Driver.CarryAsync(default, server, lab.Hosts[0], lab.Hosts[1], default);
            Assert.Empty(Directory.GetFileSystemEntries(Path.Combine(shared, "servers")));
            address = await lab.StartAsync(server, 1);
            Assert.EndsWith("served 2\n", await QemuLab.GetAsync(address, "/"), StringComparison.Ordinal);
        }
        finally
        {
            if (Directory.Exists(shared))
                Directory.Delete(shared, recursive: true);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_copy_between_file_systems_that_was_cut_short_is_in_one_place_and_goes_on(bool arrived)
    {
        await using var lab = await image.LabAsync();
        var server = await lab.DormantAsync();
        var (from, to) = (lab.FolderOf(server), lab.FolderOf(server, 1));
        var leaving = Path.Combine(Path.GetDirectoryName(from)!, $".leaving-{server:D}");

        // As it lies there after a crash around the last step of a copy: the old folder is taken away, the new one is there or almost.
        Directory.CreateDirectory(Path.GetDirectoryName(to)!);
        await File.WriteAllTextAsync(Path.Combine(from, "to"), $"\"{to}\"");
        if (arrived)
        {
            await lab.Driver.CarryAsync(default, server, lab.Hosts[0], lab.Hosts[1], default);
            Directory.CreateDirectory(leaving);
            await File.WriteAllTextAsync(Path.Combine(leaving, "to"), $"\"{to}\"");
        }
        else
        {
            Directory.Move(from, leaving);
            Directory.CreateDirectory(Path.Combine(Path.GetDirectoryName(to)!, $".arriving-{server:D}"));
        }

        var places = await Task.WhenAll(lab.Hosts.Select(h => lab.Driver.ReadHostAsync(h, default)));
        Assert.Equal(server, Assert.Single(places.SelectMany(p => p.Machines)).Mark!.ServerId);
        await lab.Driver.CarryAsync(default, server, lab.Hosts[0], lab.Hosts[1], default);
        Assert.Equal(PowerState.Saved, (await lab.MachineAsync(server, 1)).Power);
        Assert.Empty(Directory.GetFileSystemEntries(Path.GetDirectoryName(from)!));
        Assert.Single(Directory.GetFileSystemEntries(Path.GetDirectoryName(to)!));
    }

    [Fact]
    public async Task A_disposed_server_comes_back_with_its_memory_until_it_is_purged()
    {
        await using var lab = await image.LabAsync();
        var server = await lab.DormantAsync();
        await lab.StartAsync(server);
        await lab.Driver.SaveAsync(default, server, lab.Hosts[0], default);
        await lab.Driver.DiscardAsync(default, server, lab.Hosts[0], default);
        Assert.Equal(server, Assert.Single((await lab.Driver.ReadNestAsync(default)).Disposed).Mark!.ServerId);
        await lab.Driver.RecoverAsync(default, server, default);
        await lab.Driver.FetchAsync(default, server, lab.Hosts[0], default);
        await lab.StartAsync(server);

        await lab.Driver.StopAsync(default, server, lab.Hosts[0], default);
        await lab.Driver.DiscardAsync(default, server, lab.Hosts[0], default);
        await lab.Driver.EraseAsync(default, server, default);
        await lab.Driver.EraseAsync(default, server, default);
        Assert.Empty((await lab.Driver.ReadNestAsync(default)).Disposed);
    }

    [Fact]
    public async Task What_a_process_that_died_in_the_middle_of_a_save_left_is_finished_or_taken_back()
    {
        await using var lab = await image.LabAsync();
        var server = await lab.DormantAsync();
        await lab.StartAsync(server);

        // The guest is stopped and a partial file lies beside it, as after "stop".
        await QmpAsync(server, "stop");
        await File.WriteAllTextAsync(Path.Combine(lab.FolderOf(server), "state.zst.partial"), "half");
        Assert.Equal(PowerState.Paused, (await lab.MachineAsync(server)).Power);
        await lab.StartAsync(server);
        Assert.Empty(Directory.GetFiles(lab.FolderOf(server), "*.partial"));

        await QmpAsync(server, "stop");
        await lab.Driver.SaveAsync(default, server, lab.Hosts[0], default);
        await lab.StartAsync(server);
    }

    [QemuAgentFact]
    [Trait("Category", "Long")]
    public async Task A_guest_with_the_QEMU_agent_wakes_as_itself_and_its_panic_and_power_off_are_told()
    {
        await using var lab = await image.LabAsync(await DemoGuest.BuildAsync(Path.Combine(image.Folder, "qga"), TimeSpan.FromMilliseconds(20), GuestAgent.Qemu, default));
        var servers = new[] { await lab.DormantAsync("web1"), await lab.DormantAsync("web2") };
        var facts = await Task.WhenAll(servers.Select(async server => await QemuLab.FactsAsync(await lab.StartAsync(server))));
        Assert.Equal(["web1", "web2"], facts.Select(f => f["name"]));
        Assert.Equal(["web1", "web2"], facts.Select(f => f["hostname"]));
        Assert.NotEqual(facts[0]["random"], facts[1]["random"]);
        Assert.InRange(long.Parse(facts[0]["time"], CultureInfo.InvariantCulture) - DateTimeOffset.UtcNow.ToUnixTimeSeconds(), -2, 2);

        await AgentAsync(servers[0], "echo c >/proc/sysrq-trigger");
        var machine = await lab.UntilAsync(servers[0], m => m.Health == ServerHealth.Dead);
        Assert.Contains("panicked", machine.Problem, StringComparison.Ordinal);
        await lab.StartAsync(servers[0]);
        await AgentAsync(servers[1], "poweroff -f");
        machine = await lab.UntilAsync(servers[1], m => m.Health == ServerHealth.Dead);
        Assert.Contains("powered itself off", machine.Problem, StringComparison.Ordinal);
        await lab.Driver.DiscardAsync(default, servers[1], lab.Hosts[0], default);
        Assert.Empty(QemuProcesses.Find(servers[1].ToString("D")));
    }

    [Fact]
    public async Task A_guest_whose_agent_is_silent_is_hung()
    {
        await using var lab = await image.LabAsync();
        var server = await lab.DormantAsync();
        await lab.StartAsync(server);

        Assert.Equal(ServerHealth.Unknown, (await lab.MachineAsync(server)).Health);

        // Somebody listens at the agent's socket and never answers, as a guest whose kernel hangs.
        var path = QemuLab.SocketsOf(server) + ".agent";
        File.Move(path, path + ".away");
        using (var silent = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            silent.Bind(new UnixDomainSocketEndPoint(path));
            silent.Listen();
            var machine = await lab.MachineAsync(server);
            Assert.Equal((PowerState.Running, ServerHealth.Hung), (machine.Power, machine.Health));
            Assert.Contains("agent does not answer", machine.Problem, StringComparison.Ordinal);
        }

        File.Move(path + ".away", path, overwrite: true);
        Assert.Equal(ServerHealth.Unknown, (await lab.MachineAsync(server)).Health);
    }

    [Fact]
    public async Task A_second_copy_is_never_started()
    {
        await using var lab = await image.LabAsync();
        var server = await lab.DormantAsync();
        await lab.StartAsync(server);

        // Its folder is taken away under it: only the processes of the machine still tell.
        var moved = lab.FolderOf(server) + ".gone";
        Directory.Move(lab.FolderOf(server), moved);
        Assert.False(await lab.Driver.ProveStoppedAsync(server, lab.Hosts[0], default));
        await lab.Driver.CreateAsync(default, lab.Mark("web1", server), lab.Service, default);
        await lab.Driver.FetchAsync(default, server, lab.Hosts[1], default);
        var refused = await Assert.ThrowsAsync<VMatrixException>(() => lab.Driver.StartAsync(default, server, lab.Service, lab.Hosts[1], default));
        Assert.Equal("ServerTwice", refused.Id);
        await lab.Driver.DiscardAsync(default, server, lab.Hosts[1], default);
        Directory.Move(moved, lab.FolderOf(server));
    }

    [Fact]
    [Trait("Category", "Long")]
    public async Task An_image_that_cannot_serve_or_is_not_there_is_refused()
    {
        var unhealthy = await Assert.ThrowsAsync<VMatrixException>(() => image.LabAsync(image.Image with { Append = "console=ttyS0 quiet vmatrix.ms=1" }, health: new HealthSpec { Path = "/nothing", StartTimeout = TimeSpan.FromSeconds(3) }));
        Assert.Equal("ImageNotWarm", unhealthy.Id);
        var missing = await Assert.ThrowsAsync<VMatrixException>(() => image.LabAsync(image.Image with { Kernel = "/nowhere/vmlinuz" }));
        Assert.Equal("ImageFileMissing", missing.Id);
        Assert.Contains("/nowhere/vmlinuz", missing.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(QemuProcesses.Find(Path.Combine(image.Folder)), p => p.Line.Contains("nothing", StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_probe_guest_answers_under_emulation_and_not_in_no_time()
    {
        var folder = Directory.CreateTempSubdirectory("vmatrix-probe-").FullName;
        Assert.True(await QemuTools.GuestAnswersAsync("tcg", folder, TimeSpan.FromSeconds(60), TimeProvider.System, default));
        Assert.False(await QemuTools.GuestAnswersAsync("tcg", folder, TimeSpan.FromMilliseconds(1), TimeProvider.System, default));
        Assert.Empty(Directory.GetFiles(folder));
        Directory.Delete(folder);
    }

    [Fact]
    [Trait("Category", "Long")]
    public async Task A_copy_that_a_dead_process_began_hinders_neither_hibernation_nor_the_next_copy()
    {
        await using var lab = await image.LabAsync(await image.WithDiskAsync() with { Warm = false });
        var server = await lab.DormantAsync();
        await lab.StartAsync(server);
        var target = Path.Combine(lab.FolderOf(server), "lost.qcow2");
        await BeginAsync();
        var published = await lab.Driver.PublishImageAsync(default, server, lab.Service, lab.Hosts[0], default);
        Assert.NotEqual(lab.Version, published.Version);
        File.Delete(target);
        await BeginAsync();
        await lab.Driver.SaveAsync(default, server, lab.Hosts[0], default);
        await lab.StartAsync(server);

        async Task BeginAsync()
        {
            await QemuTools.RunAsync("qemu-img", ["create", "-q", "-f", "qcow2", target, "8M"], default);
            using var peer = await JsonPeer.MonitorAsync(QemuLab.SocketsOf(server) + ".qmp", default);
            await peer.AskAsync("blockdev-add", new JsonObject { ["driver"] = "qcow2", ["node-name"] = "vmatrix-copy", ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = target } }, default);
            await peer.AskAsync("blockdev-backup", new JsonObject { ["job-id"] = "vmatrix-copy", ["device"] = "disk", ["target"] = "vmatrix-copy", ["sync"] = "full", ["speed"] = 65536, ["auto-dismiss"] = false }, default);
        }
    }

    [Fact]
    public async Task What_lives_in_its_initial_RAM_disk_cannot_be_published()
    {
        await using var lab = await image.LabAsync();
        var server = await lab.DormantAsync();
        var refused = await Assert.ThrowsAsync<VMatrixException>(() => lab.Driver.PublishImageAsync(default, server, lab.Service, lab.Hosts[0], default));
        Assert.Equal(("NothingToPublish", VMatrixErrorKind.NotSupported), (refused.Id, refused.Kind));
    }

    [Fact]
    [Trait("Category", "Long")]
    public async Task What_was_changed_in_the_chamber_is_in_every_server_of_the_next_version()
    {
        var guest = await image.WithDiskAsync();
        var folder = Path.Combine(image.Folder, "publish");
        Directory.CreateDirectory(folder);
        var pool = Path.Combine(folder, "pool.yaml");
        await File.WriteAllTextAsync(pool, $$"""
            pool: publish
            hypervisor: qemu
            hosts:
              - { name: host1, memory: 1 GiB }
              - { name: host2, memory: 1 GiB }
              - { name: chamber1, role: chamber, memory: 1 GiB }
            services:
              - name: FINANCE
                least: 0
                listen: {{QemuLab.FreeAddress()}}
                isolation: shared
                image: { disk: {{guest.Disk}}, kernel: {{guest.Kernel}}, initrd: {{guest.Initrd}}, append: {{guest.Append}}, memory: 128 MiB, warm: true, agent: {{guest.Agent}} }
                health: { path: /health, timeout: 2s }
            balancer: { kind: haproxy }
            """);
        await using var session = await PoolSession.OpenAsync(pool, forChange: true, default);
        try
        {
            var created = await DoneAsync(await session.PlanCreateAsync("FINANCE", 2, null, default));
            await DoneAsync([await session.PlanMoveAsync(created[0].ServerId, Stage.Matrix, "host1", false, default), await session.PlanMoveAsync(created[1].ServerId, Stage.Chamber, null, false, default)]);
            var repaired = await FindAsync(created[1].ServerId);

            // The guest counts its requests on its disk: this is the change.
            for (var i = 1; i <= 5; i++)
                Assert.EndsWith($"served {i}\n", await QemuLab.GetAsync(repaired.Address!, "/"), StringComparison.Ordinal);
            var published = await session.PublishImageAsync(repaired.Id, null, default);
            Assert.EndsWith("served 6\n", await QemuLab.GetAsync(repaired.Address!, "/"), StringComparison.Ordinal);

            var result = await session.UpdateServiceAsync("FINANCE", 1, TimeSpan.FromSeconds(1), null, default);
            Assert.True(result.Status is UpdateStatus.Done, result.Error);
            Assert.Equal((published.Version, 1), (result.Image, result.Replaced));
            var live = Assert.Single((await session.GetServersAsync(false, null, default)).Where(s => s.Stage is Stage.Matrix));
            Assert.Equal(published.Version, live.Image);
            Assert.EndsWith("served 6\n", await QemuLab.GetAsync(live.Address!, "/"), StringComparison.Ordinal);

            // Other settings in the pool file make another version of what was published; a change of the owner's files ends it.
            var spec = session.Spec.Services[0];
            using var driver = new HttpHealthProbe(TimeProvider.System);
            await using var hypervisor = new QemuHypervisor(session.Spec, driver, TimeProvider.System);
            var larger = await hypervisor.PrepareImageAsync(default, spec with { Image = spec.Image with { Warm = false, MemoryBytes = 160 << 20 } }, session.Spec.Hosts[0], null, default);
            var gold = Path.Combine(folder, session.Spec.Nest.Folder, "images", "FINANCE");
            Assert.Equal(await File.ReadAllBytesAsync(Path.Combine(gold, published.Version, "gold.qcow2")), await File.ReadAllBytesAsync(Path.Combine(gold, larger, "gold.qcow2")));
            var other = Path.Combine(folder, "other.qcow2");
            File.Copy(guest.Disk!, other);
            await QemuTools.RunAsync("qemu-img", ["resize", "-q", other, "+1M"], default);
            var owners = await hypervisor.PrepareImageAsync(default, spec with { Image = spec.Image with { Warm = false, Disk = other } }, session.Spec.Hosts[0], null, default);
            Assert.NotEqual(await File.ReadAllBytesAsync(Path.Combine(gold, published.Version, "gold.qcow2")), await File.ReadAllBytesAsync(Path.Combine(gold, owners, "gold.qcow2")));
        }
        finally
        {
            foreach (var server in (await session.GetServersAsync(false, null, default)).Where(s => s.Stage is not Stage.Disposed))
                await session.CarryOutAsync([await session.PlanMoveAsync(server.Id, Stage.Disposed, null, false, default)], null, null, default);
            await using var balancer = new HAProxyBalancer(session.Spec, TimeProvider.System);
            await balancer.StopAsync(default);
        }

        async Task<IReadOnlyList<Move>> DoneAsync(IReadOnlyList<Move> moves)
        {
            foreach (var record in await session.CarryOutAsync(moves, null, null, default))
                Assert.True(record.Status is MoveStatus.Done, $"{record.Move.Kind} {record.Status}: {record.Error}");
            return moves;
        }

        async Task<ServerInfo> FindAsync(Guid id) => (await session.GetServersAsync(false, null, default)).Single(s => s.Id == id);
    }

    private static async Task KillAsync(Guid server)
    {
        using var process = Process.GetProcessById(QemuProcesses.Of(server).Id);
        process.Kill();
        await process.WaitForExitAsync();
    }

    private static async Task SignalAsync(string signal, int process) => _ = await QemuTools.RunAsync("kill", [signal, process.ToString(CultureInfo.InvariantCulture)], default);

    private static async Task<bool> MountAsync(params string[] arguments) => (await QemuTools.TryRunAsync("mount", arguments, default)).Code == 0;

    private static async Task QmpAsync(Guid server, string command)
    {
        using var peer = await JsonPeer.MonitorAsync(QemuLab.SocketsOf(server) + ".qmp", default);
        await peer.AskAsync(command, null, default);
    }

    private static async Task AgentAsync(Guid server, string script)
    {
        using var peer = await JsonPeer.AgentAsync(QemuLab.SocketsOf(server) + ".agent", default);
        await peer.TellAsync("guest-exec", new JsonObject { ["path"] = "/bin/sh", ["arg"] = new JsonArray("-c", script) }, default);
    }
}

/// <summary>A test that builds its guest with this machine's QEMU guest agent, where there is one.</summary>
public sealed class QemuAgentFactAttribute : FactAttribute
{
    public QemuAgentFactAttribute() => Skip = File.Exists("/usr/sbin/qemu-ga") ? null : "need the package qemu-guest-agent";
}
