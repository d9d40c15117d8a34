using System;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using VMatrix.Doubles;
using VMatrix.Shells;
using Xunit;
using static VMatrix.Tests.Doubles.DoubleLab;

namespace VMatrix.Tests.Doubles;

/// <summary>The double does what Hyper-V is documented to do, in its order and with its errors.</summary>
public sealed class DoubleWorldTests
{
    [Fact]
    public async Task A_machine_lives_from_new_to_removed()
    {
        using var lab = new DoubleLab();
        var id = await lab.NewAsync();
        await lab.RunAsync(@"Hyper-V\Start-VM", ("VM", VM("host1", id)));
        Assert.Equal("Running", (await lab.ReadAsync("host1", id))["State"]);
        await lab.RunAsync(@"Hyper-V\Wait-VM", ("VM", VM("host1", id)), ("For", "IPAddress"), ("Timeout", 10));
        var address = ((object?[])(await lab.ReadAsync("host1", id))["NetworkAdapters.IPAddresses"]!)[0];
        Assert.Null(lab.World.Answers($"{address}:80"));
        await lab.RunAsync(@"Hyper-V\Save-VM", ("VM", VM("host1", id)));
        Assert.Equal("Saved", (await lab.ReadAsync("host1", id))["State"]);
        Assert.Empty((object?[])(await lab.ReadAsync("host1", id))["NetworkAdapters.IPAddresses"]!);
        await lab.RunAsync([.. VM("host1", id).Commands, Command(@"Hyper-V\Start-VM")]);
        await lab.RunAsync([.. VM("host1", id).Commands, Command(@"Hyper-V\Move-VM", ("DestinationHost", "host2"), ("IncludeStorage", true), ("DestinationStoragePath", @"D:\moved"))]);
        Assert.Equal(@"D:\moved\Virtual Hard Disks\disk.vhdx", ((object?[])(await lab.ReadAsync("host2", id))["HardDrives.Path"]!)[0]);
        await Fails("ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.GetVM", () => lab.ReadAsync("host1", id));
        await Fails("InvalidState,Microsoft.HyperV.PowerShell.Commands.RemoveVM", () => lab.RunAsync(@"Hyper-V\Remove-VM", ("VM", VM("host2", id)), ("Force", true)));
        await lab.RunAsync(@"Hyper-V\Stop-VM", ("VM", VM("host2", id)), ("TurnOff", true));
        await lab.RunAsync(@"Hyper-V\Remove-VM", ("VM", VM("host2", id)), ("Force", true));
        Assert.Empty(lab.World.Machines);
        Assert.Empty(lab.World.Violations);
    }

    [Fact]
    public async Task An_export_is_registered_where_it_is_or_copied_with_a_new_id()
    {
        using var lab = new DoubleLab();
        var id = await lab.NewAsync();
        await lab.RunAsync(@"Hyper-V\Start-VM", ("VM", VM("host1", id)));
        await lab.RunAsync(@"Hyper-V\Save-VM", ("VM", VM("host1", id)));
        await lab.RunAsync(@"Hyper-V\Export-VM", ("VM", VM("host1", id)), ("Path", lab.Share));
        var file = Directory.GetFiles(lab.Share, "*.vmcx", SearchOption.AllDirectories).Single();
        var copied = Assert.Single(await lab.RunAsync(@"Hyper-V\Import-VM", ("ComputerName", "host2"), ("Path", file), ("Copy", true), ("GenerateNewId", true), ("VhdDestinationPath", @"C:\copies")));
        Assert.NotEqual(id, copied["Id"]);
        var registered = Assert.Single(await lab.RunAsync(@"Hyper-V\Import-VM", ("ComputerName", "host2"), ("Path", file), ("Register", true)));
        Assert.Equal((id, "Saved"), ((Guid)registered["Id"]!, registered["State"]));
        await FailsCode(0x80070020, () => lab.RunAsync(@"Hyper-V\Import-VM", ("ComputerName", "host1"), ("Path", file)));
    }

    [Fact]
    public async Task An_export_brings_its_parent_along_and_is_put_back_on_the_old_one_only_where_that_is_the_same()
    {
        using var lab = new DoubleLab();
        string gold = lab.Share + "/gold.vhdx", other = lab.Share + "/other.vhdx", leaf = @"C:\leaf.vhdx";
        foreach (var disk in new[] { gold, other })
            await lab.RunAsync(@"Hyper-V\New-VHD", ("ComputerName", "host1"), ("Path", disk), ("SizeBytes", 1L << 30), ("Dynamic", true));
        await lab.RunAsync(@"Hyper-V\New-VHD", ("ComputerName", "host1"), ("Path", leaf), ("ParentPath", gold), ("Differencing", true));
        var id = (Guid)Assert.Single(await lab.RunAsync(@"Hyper-V\New-VM", ("ComputerName", "host1"), ("Name", "leaning"), ("VHDPath", leaf)))["Id"]!;
        await lab.RunAsync(@"Hyper-V\Export-VM", ("VM", VM("host1", id)), ("Path", lab.Share));
        var exported = Directory.GetFiles(lab.Share, "leaf.vhdx", SearchOption.AllDirectories).Single();
        var copy = Path.Combine(Path.GetDirectoryName(exported)!, "gold.vhdx");
        Assert.Equal(copy, await ParentAsync());
        await FailsCode(0xC03A000E, () => lab.RunAsync(@"Hyper-V\Set-VHD", ("ComputerName", "host2"), ("Path", exported), ("ParentPath", other)));
        await FailsCode(0x80070057, () => lab.RunAsync(@"Hyper-V\Set-VHD", ("ComputerName", "host2"), ("Path", gold), ("ParentPath", other)));
        await lab.RunAsync(@"Hyper-V\Set-VHD", ("ComputerName", "host2"), ("Path", exported), ("ParentPath", gold));
        Assert.Equal(gold, await ParentAsync());
        File.Delete(copy);
        await lab.RunAsync(@"Hyper-V\Remove-VM", ("VM", VM("host1", id)), ("Force", true));
        var file = Directory.GetFiles(lab.Share, "*.vmcx", SearchOption.AllDirectories).Single();
        await lab.RunAsync(@"Hyper-V\Import-VM", ("ComputerName", "host2"), ("Path", file), ("Register", true));
        await lab.RunAsync(@"Hyper-V\Start-VM", ("VM", VM("host2", id)));
        await FailsCode(0x80070020, () => lab.RunAsync(@"Hyper-V\Set-VHD", ("ComputerName", "host2"), ("Path", exported), ("ParentPath", gold)));
        Assert.Empty(lab.World.Violations);

        async Task<object?> ParentAsync() => Assert.Single(await lab.RunAsync([Command(@"Hyper-V\Get-VHD", ("ComputerName", "host2"), ("Path", exported))], "ParentPath"))["ParentPath"];
    }

    [Fact]
    public async Task An_export_fails_where_two_disks_have_one_name_and_where_its_folder_fails()
    {
        using var lab = new DoubleLab();
        var id = await lab.NewAsync();
        await lab.RunAsync(@"Hyper-V\New-VHD", ("ComputerName", "host1"), ("Path", @"C:\elsewhere\disk.vhdx"), ("SizeBytes", 1L << 30), ("Dynamic", true));
        await lab.RunAsync(@"Hyper-V\Add-VMHardDiskDrive", ("VM", VM("host1", id)), ("Path", @"C:\elsewhere\disk.vhdx"));
        await FailsCode(0x80070050, () => lab.RunAsync(@"Hyper-V\Export-VM", ("VM", VM("host1", id)), ("Path", lab.Share + "/1")));
        foreach (var code in new[] { 0x80070005, 0x80070070 })
        {
            lab.World.Configure(settings => settings with { BadFolders = new System.Collections.Generic.Dictionary<string, int> { [lab.Share] = unchecked((int)code) } });
            await FailsCode(code, () => lab.RunAsync(@"Hyper-V\Export-VM", ("VM", VM("host1", id)), ("Path", $"{lab.Share}/{code}")));
        }

        Assert.Equal("Off", (await lab.ReadAsync("host1", id))["State"]);
    }

    [Fact]
    public async Task A_checkpoint_frees_the_disk_below_it_for_reading_and_is_merged_again()
    {
        using var lab = new DoubleLab();
        var id = await lab.NewAsync();
        await lab.RunAsync(@"Hyper-V\Start-VM", ("VM", VM("host1", id)));
        var disk = ((object?[])(await lab.ReadAsync("host1", id))["HardDrives.Path"]!)[0];
        await FailsCode(0x80070020, () => lab.RunAsync(@"Hyper-V\Convert-VHD", ("ComputerName", "host1"), ("Path", disk), ("DestinationPath", @"C:\copy.vhdx")));
        await lab.RunAsync(@"Hyper-V\Checkpoint-VM", ("VM", VM("host1", id)), ("SnapshotName", "publish"));
        await lab.RunAsync(@"Hyper-V\Convert-VHD", ("ComputerName", "host1"), ("Path", disk), ("DestinationPath", @"C:\copy.vhdx"));
        await lab.RunAsync(@"Hyper-V\Remove-VMSnapshot", ("VM", VM("host1", id)), ("Name", "publish"));
        Assert.Equal(disk, ((object?[])(await lab.ReadAsync("host1", id))["HardDrives.Path"]!)[0]);
    }

    [Fact]
    public async Task What_stands_in_the_way_of_a_move_is_told_as_Windows_tells_it()
    {
        using var lab = new DoubleLab();
        var id = await lab.NewAsync(path: lab.Share + "/vm");
        await lab.RunAsync(@"Hyper-V\Start-VM", ("VM", VM("host1", id)));
        Task Move() => lab.RunAsync(@"Hyper-V\Move-VM", ("VM", VM("host1", id)), ("DestinationHost", "host2"), ("IncludeStorage", false));
        await With("host1", host => host with { Delegation = false }, () => FailsCode(0x8009030E, Move));
        await With("host1", host => host with { MigrationEnabled = false }, () => Fails("OperationFailed,Microsoft.HyperV.PowerShell.Commands.MoveVM", Move));
        await With("host2", host => host with { MaxMigrations = 0 }, () => Fails("OperationFailed,Microsoft.HyperV.PowerShell.Commands.MoveVM", Move));
        await With("host2", host => host with { MemoryBytes = 1 }, () => FailsCode(0x8007000E, Move));
        await With("host2", host => host with { CanChange = false }, () => Fails("AccessDenied,Microsoft.HyperV.PowerShell.Commands.MoveVM", Move));
        await With("host2", host => host with { Mood = HostMood.CutOff }, () => FailsCode(0x8007274C, Move));
        foreach (var change in new Func<HostState, HostState>[] { host => host with { ProcessorFamily = "AMD" }, host => host with { Switches = ["Other"] }, host => host with { Versions = ["9.0"] } })
        {
            await With("host2", change, async () =>
            {
                await Fails("OperationFailed,Microsoft.HyperV.PowerShell.Commands.MoveVM", Move);
                var report = Assert.Single(await lab.RunAsync([Command(@"Hyper-V\Compare-VM", ("VM", VM("host1", id)), ("DestinationHost", "host2"), ("IncludeStorage", false))], "Incompatibilities.MessageId"));
                Assert.NotEmpty((object?[])report["Incompatibilities.MessageId"]!);
            });
        }

        lab.World.SetMachine(id, machine => machine with { BackupRuns = true });
        await Fails("InvalidState,Microsoft.HyperV.PowerShell.Commands.MoveVM", Move);
        lab.World.SetMachine(id, machine => machine with { BackupRuns = false, Replication = VMReplicationState.Resynchronizing });
        await Fails("InvalidState,Microsoft.HyperV.PowerShell.Commands.MoveVM", Move);
        lab.World.SetMachine(id, machine => machine with { Replication = VMReplicationState.Disabled });
        await Move();
        Assert.Equal("Running", (await lab.ReadAsync("host2", id))["State"]);

        async Task With(string host, Func<HostState, HostState> change, Func<Task> test)
        {
            var before = lab.World.Read(state => state.Host(host)!);
            lab.World.SetHost(host, change);
            await test();
            lab.World.SetHost(host, _ => before);
        }
    }

    [Fact]
    public async Task A_disk_in_use_and_a_full_host_keep_a_machine_from_starting()
    {
        using var lab = new DoubleLab();
        var id = await lab.NewAsync(path: lab.Share + "/vm");
        await lab.RunAsync(@"Hyper-V\Start-VM", ("VM", VM("host1", id)));
        var thief = Assert.Single(await lab.RunAsync(@"Hyper-V\New-VM", ("ComputerName", "host2"), ("Name", "thief"), ("VHDPath", lab.Share + "/vm/disk.vhdx")))["Id"];
        await FailsCode(0x80070020, () => lab.RunAsync(@"Hyper-V\Start-VM", ("VM", VM("host2", (Guid)thief!))));
        lab.World.SetHost("host2", host => host with { MemoryBytes = 1 << 20 });
        await Fails("OutOfMemory,Microsoft.HyperV.PowerShell.Commands.StartVM", () => lab.RunAsync(@"Hyper-V\Start-VM", ("VM", VM("host2", (Guid)thief!))));
    }

    [Fact]
    public async Task Names_are_not_unique_and_a_command_for_one_says_so()
    {
        using var lab = new DoubleLab();
        var (one, other) = (await lab.NewAsync(name: "twin"), await lab.NewAsync(name: "twin"));
        await Fails("InvalidParameter,Microsoft.HyperV.PowerShell.Commands.MoveVM", () => lab.RunAsync(@"Hyper-V\Move-VM", ("ComputerName", "host1"), ("Name", "twin"), ("DestinationHost", "host2")));
        await lab.RunAsync(@"Hyper-V\Start-VM", ("ComputerName", "host1"), ("Name", "twin"));
        Assert.All(new[] { one, other }, id => Assert.Equal(VMState.Running, lab.World.Machine(id).State));
    }

    [Fact]
    public async Task Without_rights_lists_are_empty_and_changes_are_refused()
    {
        using var lab = new DoubleLab();
        var id = await lab.NewAsync();
        lab.World.SetHost("host1", host => host with { CanRead = false, CanChange = false });
        Assert.Empty(await lab.RunAsync(@"Hyper-V\Get-VM", ("ComputerName", "host1")));
        await Fails("AccessDenied,Microsoft.HyperV.PowerShell.Commands.GetVMHost", () => lab.RunAsync(@"Hyper-V\Get-VMHost", ("ComputerName", "host1")));
        await Fails("AccessDenied,Microsoft.HyperV.PowerShell.Commands.StartVM", () => lab.RunAsync(@"Hyper-V\Start-VM", ("ComputerName", "host1"), ("Name", "vm")));
        Assert.Equal(VMState.Off, lab.World.Machine(id).State);
    }

    [Fact]
    public async Task Texts_are_in_the_hosts_language_and_values_are_not()
    {
        using var lab = new DoubleLab();
        var id = await lab.NewAsync();
        lab.World.Configure(settings => settings with { Language = "de" });
        var told = Assert.Single(await lab.RunAsync([.. VM("host1", id).Commands], "State", "Status", "OperationalStatus"));
        Assert.Equal(("Off", "Normaler Betrieb"), (told["State"], told["Status"]));
        Assert.Equal(["Ok"], (object?[])told["OperationalStatus"]!);
    }

    [Fact]
    public async Task Random_failures_strike_before_and_after_the_effect()
    {
        using var lab = new DoubleLab();
        var id = await lab.NewAsync();
        lab.World.Configure(settings => settings with { FailureRate = 0.3, Seed = 5 });
        var (before, after) = (0, 0);
        for (var i = 0; i < 60 && (before == 0 || after == 0); i++)
        {
            var text = i.ToString(System.Globalization.CultureInfo.InvariantCulture);
            try
            {
                await lab.RunAsync(@"Hyper-V\Set-VM", ("Name", "vm"), ("ComputerName", "host1"), ("Notes", text));
                Assert.Equal(text, lab.World.Machine(id).Notes);
            }
            catch (ShellException error)
            {
                Assert.Equal(unchecked((int)0x800706BA), error.Code);
                if (lab.World.Machine(id).Notes == text)
                    after++;
                else
                    before++;
            }
        }

        Assert.True(before > 0 && after > 0, $"{before} before and {after} after the effect");
    }

    [Fact]
    public async Task Each_host_takes_its_time_and_has_its_own_clock()
    {
        using var lab = new DoubleLab();
        lab.World.SetHost("host2", host => host with { ClockAhead = TimeSpan.FromHours(1) });
        await lab.NewAsync("host2");
        var told = Assert.Single(await lab.RunAsync([Command(@"Hyper-V\Get-VM", ("ComputerName", "host2"))], "CreationTime"));
        Assert.InRange((DateTimeOffset)told["CreationTime"]!, DateTimeOffset.UtcNow.AddMinutes(59), DateTimeOffset.UtcNow.AddMinutes(61));
        lab.World.Configure(settings => settings with { CallLatency = TimeSpan.FromMilliseconds(60) });
        var watch = Stopwatch.StartNew();
        await lab.RunAsync(@"Hyper-V\Get-VM", ("ComputerName", new[] { "host1", "host2" }));
        Assert.True(watch.ElapsedMilliseconds >= 118, $"{watch.ElapsedMilliseconds} ms for two calls of 60 ms");
    }

    [Fact]
    public async Task An_operation_goes_on_when_its_caller_is_gone()
    {
        using var lab = new DoubleLab();
        var id = await lab.NewAsync();
        await lab.RunAsync(@"Hyper-V\Start-VM", ("VM", VM("host1", id)));
        lab.World.Configure(settings => settings with { Bandwidth = 4L << 30 });
        using var cut = new System.Threading.CancellationTokenSource(20);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => lab.Shell.InvokeAsync(new ShellCall { Commands = [Command(@"Hyper-V\Save-VM", ("VM", VM("host1", id)))] }, cut.Token));
        await Fails("InvalidState,Microsoft.HyperV.PowerShell.Commands.SaveVM", () => lab.RunAsync(@"Hyper-V\Save-VM", ("VM", VM("host1", id))));
        lab.World.Forget();
        for (var i = 0; i < 500 && lab.World.Machine(id).State != VMState.Saved; i++)
            await Task.Delay(10);
        Assert.Equal(VMState.Saved, lab.World.Machine(id).State);
    }

    [Fact]
    public async Task A_host_that_comes_back_starts_again_what_ran_unless_it_was_told_otherwise()
    {
        using var lab = new DoubleLab();
        var (one, other) = (await lab.NewAsync(), await lab.NewAsync());
        await lab.RunAsync(@"Hyper-V\Set-VM", ("VM", VM("host1", other)), ("AutomaticStartAction", "Nothing"));
        foreach (var id in new[] { one, other })
            await lab.RunAsync(@"Hyper-V\Start-VM", ("VM", VM("host1", id)));
        lab.World.SetHost("host1", host => host with { Mood = HostMood.Down });
        await FailsCode(0x800706BA, () => lab.RunAsync(@"Hyper-V\Get-VM", ("ComputerName", "host1")));
        lab.World.SetHost("host1", host => host with { Mood = HostMood.Up });
        Assert.Equal((VMState.Running, VMState.Off), (lab.World.Machine(one).State, lab.World.Machine(other).State));
    }

    [Fact]
    public async Task A_parent_that_is_written_to_is_told()
    {
        using var lab = new DoubleLab();
        await lab.NewAsync(path: @"C:\gold");
        await lab.RunAsync(@"Hyper-V\New-VHD", ("ComputerName", "host1"), ("Path", @"C:\child.vhdx"), ("ParentPath", @"C:\gold\disk.vhdx"), ("Differencing", true));
        await lab.RunAsync(@"Hyper-V\New-VM", ("ComputerName", "host1"), ("Name", "child"), ("VHDPath", @"C:\child.vhdx"));
        await lab.RunAsync(@"Hyper-V\Start-VM", ("ComputerName", "host1"), ("Name", "vm"));
        Assert.Single(lab.World.Violations);
    }

    [Fact]
    public async Task What_is_not_doubled_says_so()
    {
        using var lab = new DoubleLab();
        await lab.NewAsync();
        await Assert.ThrowsAsync<NotDoubledException>(() => lab.RunAsync(@"Hyper-V\Get-VMGroup"));
        await Assert.ThrowsAsync<NotDoubledException>(() => lab.RunAsync(@"Hyper-V\Set-VM", ("Name", "vm"), ("ComputerName", "host1"), ("LowMemoryMappedIoSpace", 5L)));
    }

    private static async Task Fails(string id, Func<Task> call) => Assert.Equal(id, (await Assert.ThrowsAsync<ShellException>(call)).ErrorId);

    // Hyper-V tells a code in its text and nowhere else.
    private static async Task FailsCode(uint code, Func<Task> call) => Assert.Contains($"(0x{code:X8})", (await Assert.ThrowsAsync<ShellException>(call)).Message, StringComparison.Ordinal);
}
