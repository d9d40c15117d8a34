using System;
using System.Buffers.Binary;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Runtime.Versioning;
using System.Threading.Tasks;
using CsCheck;
using VMatrix.Drivers;
using VMatrix.Qemu;
using Xunit;

namespace VMatrix.Tests.Qemu;

/// <summary>What others on this machine, and what a disk or a kept memory holds, cannot do.</summary>
[SupportedOSPlatform("linux")]
public sealed class QemuHardeningTests
{
    private static readonly Gen<string> s_hostile = Gen.OneOf(BareLab.OneOf("-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:1-:80", "-qmp", "unix:/x.qmp,server=on,wait=off", "a,hostfwd=tcp:127.0.0.1:1-:80", "-S", "a b -netdev user", "-uuid"), Gen.String[Gen.Char[' ', '~'], 0, 40]);

    [Fact]
    public void A_servers_port_and_sockets_are_read_where_they_were_written_whatever_its_names_and_kernel_line_hold() =>
        Gen.Select(s_hostile, s_hostile, s_hostile, Gen.Int[1, 65535], Gen.Bool).Sample((name, service, append, port, agent) =>
        {
            var guest = BareLab.Guest with { Append = append, Agent = agent ? GuestAgent.Qemu : null, Port = 81 };
            var line = QemuCommandLine.Build(guest, new RunSettings { Id = Guid.NewGuid(), Name = name, Service = service, Port = port, Sockets = "/run/a,b/" + service, Console = "/c", Kernel = "/k" });
            Assert.True(GuestProcess.TryReadLine(["/usr/bin/qemu-system-x86_64", .. line, ""], out var told, out var sockets));
            Assert.Equal((port, "/run/a,b/" + service), (told, sockets));
        }, iter: 2000);

    [Fact]
    public async Task A_process_that_only_carries_a_servers_id_does_not_keep_it_from_starting()
    {
        var id = Guid.NewGuid();
        using var process = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", "sleep 300; :", "qemu-system-x86_64", "-uuid", id.ToString("D")]))!;
        try
        {
            while (!File.ReadAllText($"/proc/{process.Id}/cmdline").Contains(id.ToString("D"), StringComparison.Ordinal))
                await Task.Delay(10);
            Assert.False(GuestProcess.AnyRuns(id, null));
        }
        finally
        {
            process.Kill(entireProcessTree: true);
        }
    }

    [Fact]
    public async Task Nobody_else_may_read_write_list_or_lock_what_the_driver_makes()
    {
        await using var lab = new BareLab();
        var (id, _) = await lab.SleeperAsync("mine");
        await lab.Driver.MarkAsync(new DriverCall(Guid.NewGuid(), 7), lab.Mark("mine") with { ServerId = id }, lab.Host, default);
        string[] made = [lab.Host.Folder!, lab.Servers, Path.Combine(lab.Pool.Nest.Folder, "servers"), Path.Combine(lab.Pool.Nest.Folder, "epoch.json"), Path.Combine(lab.Pool.Nest.Folder, "epoch.json.turn"), .. Directory.GetFileSystemEntries(lab.Servers, "*", SearchOption.AllDirectories).Where(p => !p.EndsWith("state.zst", StringComparison.Ordinal))];
        Assert.True(made.Length > 7);
        Assert.All(made, path => Assert.True((File.GetUnixFileMode(path) & (UnixFileMode)0b111_111) == 0, $"{path} has the mode {File.GetUnixFileMode(path)}."));
    }

    [Theory]
    [InlineData("missing", "is missing")]
    [InlineData("empty", "is empty")]
    [InlineData("short", "bytes where")]
    public async Task A_memory_that_is_not_all_there_is_refused_before_QEMU_is_asked_and_told_in_the_listing(string harm, string told)
    {
        await using var lab = new BareLab();
        var (id, folder) = await lab.SleeperAsync("web");
        File.Delete(folder.State);
        if (harm != "missing")
            File.WriteAllBytes(folder.State, harm == "empty" ? [] : BareLab.Memory[..100]);
        var error = await Assert.ThrowsAsync<VMatrixException>(() => lab.Driver.StartAsync(default, id, lab.Service, lab.Host, default));
        Assert.Equal("StateCorrupt", error.Id);
        Assert.Contains(told, error.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(folder.Console)); // QEMU was never started.
        Assert.Contains(told, Assert.Single((await lab.Driver.ReadHostAsync(lab.Host, default)).Machines).Problem, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_memory_with_its_facts_from_another_server_is_refused_and_a_registered_copy_keeps_its_own()
    {
        await using var lab = new BareLab();
        var (one, first) = await lab.SleeperAsync("one");
        var (_, second) = await lab.SleeperAsync("two");
        Assert.Equal(one, first.ReadState()!.ServerId);
        File.Delete(first.State); // Both are still the image's, by two names of one file.
        File.Copy(second.State, first.State);
        File.Copy(second.StateFactsFile, first.StateFactsFile, overwrite: true);
        var error = await Assert.ThrowsAsync<VMatrixException>(() => lab.Driver.StartAsync(default, one, lab.Service, lab.Host, default));
        Assert.Equal("StateMismatch", error.Id);
        Assert.Contains(Path.GetFileName(second.Path), error.Message, StringComparison.Ordinal);

        // A copy that is registered becomes another server, and its memory with it.
        var copy = new ServerFolder(Path.Combine(lab.Servers, "copy"));
        await QemuTools.RunAsync("cp", ["-a", "--", second.Path, copy.Path], default);
        var mark = lab.Mark("three");
        await lab.Driver.AdoptAsync(default, copy.MachineId(), mark, lab.Host, default);
        Assert.Equal(mark.ServerId, new ServerFolder(Path.Combine(lab.Servers, mark.ServerId.ToString("D"))).ReadState()!.ServerId);
        Assert.Null(Assert.Single((await lab.Driver.ReadHostAsync(lab.Host, default)).Machines, m => m.Mark?.ServerId == mark.ServerId).Problem);
    }

    [Fact]
    public async Task A_create_that_fails_or_was_killed_leaves_no_folder_and_one_that_goes_on_keeps_its_own()
    {
        await using var lab = new BareLab();
        var nest = Path.Combine(lab.Pool.Nest.Folder, "servers");
        File.Move(lab.Image.State, lab.Image.State + ".away");
        await Assert.ThrowsAsync<VMatrixException>(() => lab.Driver.CreateAsync(default, lab.Mark("web"), lab.Service, default));
        Assert.Empty(Directory.GetFileSystemEntries(nest));
        File.Move(lab.Image.State + ".away", lab.Image.State);

        var killed = Path.Combine(nest, $"{Places.Creating}{Guid.NewGuid():D}");
        (await Task.Run(() => Places.Begin(killed))).Dispose();
        File.WriteAllText(Path.Combine(killed, "guest.json"), "{");
        var other = Path.Combine(nest, $"{Places.Creating}{Guid.NewGuid():D}");
        using (Places.Begin(other))
        {
            await lab.Driver.CreateAsync(default, lab.Mark("web"), lab.Service, default);
            Assert.False(Directory.Exists(killed));
            Assert.True(Directory.Exists(other));
        }

        await lab.Driver.CreateAsync(default, lab.Mark("web2"), lab.Service, default);
        Assert.Equal(2, Directory.GetFileSystemEntries(nest).Length);
    }

    [Theory]
    [InlineData("..")]
    [InlineData("a\nb")]
    [InlineData("a\n")]
    [InlineData("a\u001b[2J")]
    [InlineData("a\0b")]
    [InlineData("")]
    [InlineData("-netdev")]
    [InlineData("a b")]
    [InlineData("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")]
    public async Task A_server_is_called_nothing_that_a_pool_file_could_not_call_it(string name)
    {
        await using var lab = new BareLab();
        var error = await Assert.ThrowsAsync<VMatrixException>(() => lab.Driver.CreateAsync(default, lab.Mark(name), lab.Service, default));
        Assert.Equal("ServerNameInvalid", error.Id);
        Assert.True(error.Message.All(PlainText.IsPlain), error.Message);
    }

    [Fact]
    public async Task A_gold_disk_is_read_as_what_it_is_and_opens_no_other_file()
    {
        var folder = Directory.CreateTempSubdirectory("vmatrix-gold-").FullName;
        try
        {
            string At(string name) => Path.Combine(folder, name);
            await QemuTools.RunAsync("qemu-img", ["create", "-q", "-f", "qcow2", At("plain.qcow2"), "1M"], default);
            await QemuTools.RunAsync("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "compat=0.10", At("old.qcow2"), "1M"], default);
            await File.WriteAllTextAsync(At("secret"), "secret" + new string('x', 2000));
            await QemuTools.RunAsync("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", At("secret"), At("backed.qcow2"), "1M"], default);
            await QemuTools.RunAsync("qemu-img", ["create", "-q", "-f", "qcow2", "-o", $"data_file={At("data")},data_file_raw=on", At("outside.qcow2"), "1M"], default);
            await QemuTools.RunAsync("qemu-img", ["create", "-q", "-f", "vmdk", At("disk.vmdk"), "1M"], default);
            await QemuTools.RunAsync("qemu-img", ["create", "-q", "-f", "vhdx", At("disk.vhdx"), "8M"], default);
            var raw = new byte[1 << 20];
            raw[600_000] = 42;
            await File.WriteAllBytesAsync(At("disk.raw"), raw);
            foreach (var name in (string[])["plain.qcow2", "old.qcow2", "disk.raw"])
                await QemuTools.RunAsync("qemu-img", ["convert", "-O", "raw", GoldDisk.Source("FINANCE", At(name)), At("out.raw")], default);
            Assert.Equal(raw, await File.ReadAllBytesAsync(At("out.raw")));

            Assert.Equal("ImageDiskLeans", Assert.Throws<VMatrixException>(() => GoldDisk.Source("FINANCE", At("backed.qcow2"))).Id);
            Assert.Equal("ImageDiskLeans", Assert.Throws<VMatrixException>(() => GoldDisk.Source("FINANCE", At("outside.qcow2"))).Id);
            Assert.Equal("ImageDiskFormat", Assert.Throws<VMatrixException>(() => GoldDisk.Source("FINANCE", At("disk.vmdk"))).Id);
            Assert.Equal("ImageDiskFormat", Assert.Throws<VMatrixException>(() => GoldDisk.Source("FINANCE", At("disk.vhdx"))).Id);
            await File.WriteAllTextAsync(At("flat.vmdk"), "# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 4 FLAT \"secret\" 0\n");
            Assert.Equal("ImageDiskFormat", Assert.Throws<VMatrixException>(() => GoldDisk.Source("FINANCE", At("flat.vmdk"))).Id);

            // A raw disk whose guest has written the head of a disk that leans on a file of this machine.
            File.Copy(At("backed.qcow2"), At("forged.raw"));
            Assert.Equal("ImageDiskLeans", Assert.Throws<VMatrixException>(() => GoldDisk.Source("FINANCE", At("forged.raw"))).Id);
            var head = new byte[1 << 20];
            "QFI"u8.CopyTo(head);
            head[3] = 0xfb;
            BinaryPrimitives.WriteUInt32BigEndian(head.AsSpan(4), 9);
            await File.WriteAllBytesAsync(At("odd.raw"), head);
            Assert.Equal("ImageDiskFormat", Assert.Throws<VMatrixException>(() => GoldDisk.Source("FINANCE", At("odd.raw"))).Id);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}

/// <summary>The same with a guest that runs.</summary>
[Collection("qemu")]
[SupportedOSPlatform("linux")]
public sealed class QemuClosedTests(QemuImage image)
{
    [Fact]
    public async Task A_guests_memory_console_lock_and_sockets_are_its_owners_alone_and_QEMU_gets_no_secrets()
    {
        Environment.SetEnvironmentVariable("VMATRIX_TEST_SECRET", "hunter2");
        try
        {
            await using var lab = await image.LabAsync();
            var server = await lab.DormantAsync();
            await lab.StartAsync(server);
            var (process, line) = Contract.QemuProcesses.Of(server);
            Assert.DoesNotContain("hunter2", await File.ReadAllTextAsync($"/proc/{process}/environ"), StringComparison.Ordinal);
            var folder = new ServerFolder(Path.Combine(lab.Hosts[0].Folder!, "servers", server.ToString("D")));
            Assert.True(GuestProcess.TryReadLine(line.Split('\0'), out _, out var sockets));
            Closed(folder.Console, folder.Lock, sockets + ".qmp", sockets + ".agent");
            await lab.Driver.SaveAsync(default, server, lab.Hosts[0], default);
            Closed([folder.Path, .. Directory.GetFiles(folder.Path)]);
            Assert.Equal(server, folder.ReadState()!.ServerId);
            Assert.Equal(new FileInfo(folder.State).Length, folder.ReadState()!.Length);
        }
        finally
        {
            Environment.SetEnvironmentVariable("VMATRIX_TEST_SECRET", null);
        }
    }

    private static void Closed(params string[] paths) =>
        Assert.All(paths, path => Assert.True((File.GetUnixFileMode(path) & (UnixFileMode)0b111_111) == 0, $"{path} has the mode {File.GetUnixFileMode(path)}."));
}
