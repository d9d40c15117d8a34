using System;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using VMatrix.HyperV;
using VMatrix.Shells;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>
/// Errors as the Hyper-V module raises them: its exceptions carry no HRESULT, the id is often Unspecified or OperationFailed, the category
/// NotSpecified, and the code stands in a text in the host's language.
/// </summary>
public sealed class HyperVErrorTests
{
    // https://github.com/microsoft/MSLab/issues/300
    private const string PolishMemory = "Nie można uruchomić maszyny „DC”.\nNie można przydzielić 2048 MB pamięci RAM: Zasoby systemowe nie wystarczają do ukończenia żądanej usługi. (0x800705AA).";

    // https://github.com/kubernetes/minikube/issues/4067
    private const string ChineseMemory = "“minikube”无法启动。\n系统内存不足，无法启动虚拟机 minikube。\n无法初始化内存: Ran out of memory (0x8007000E)。";

    // https://github.com/docker/for-win/issues/8035
    private const string Attachment = "'DockerDesktopVM' failed to start.\n'DockerDesktopVM':  Account does not have permission to open attachment 'C:\\vm-data\\DockerDesktop.vhdx'. Error: 'General access denied error' (0x80070005).";

    // https://github.com/MicrosoftDocs/azure-docs/issues/37186
    private const string Delegation = "No credentials are available in the security package (0x8009030E).";

    // https://mskb.pkisolutions.com/kb/2779204
    private const string LogonRight = "'VM_NAME' failed to start worker process: Logon Failure: The user has not been granted the requested logon type at this computer. (0x80070569)";

    // https://github.com/Azure/AzureLocal-Supportability, TSG/Update/Live-migration-fails-with-No-mapping-between-account-names-and-security-IDs.md
    private const string Creator = "No mapping between account names and security IDs was done. (0x80070534)";

    [Theory]
    [InlineData("Start-VM", PolishMemory, "Unspecified", "HostMemoryShort", "free memory")]
    [InlineData("Start-VM", ChineseMemory, "OutOfMemory", "HostMemoryShort", "free memory")]
    [InlineData("Start-VM", Attachment, "OperationFailed", "DiskAccessDenied", "NT VIRTUAL MACHINE")]
    [InlineData("Resume-VM", Attachment, "Unspecified", "DiskAccessDenied", "NT VIRTUAL MACHINE")]
    [InlineData("Start-VM", LogonRight, "Unspecified", "LogonRightMissing", "Log on as a service")]
    [InlineData("Export-VM", "Fehler: Zugriff verweigert (0x80070005).", "OperationFailed", "FileAccessDenied", "computer account")]
    [InlineData("New-VHD", "Fehler: Zugriff verweigert (0x80070005).", "Unspecified", "FileAccessDenied", "computer account")]
    [InlineData("Get-VM", "Zugriff verweigert (0x80070005).", "Unspecified", "HostAccessDenied", "Hyper-V Administrators")]
    [InlineData("Move-VM", Delegation, "OperationFailed", "DelegationMissing", "constrained delegation")]
    [InlineData("Move-VM", Creator, "OperationFailed", "CreatorUnknown", "Hibernate")]
    [InlineData("Get-VHD", "Le fichier spécifié est introuvable. (0x80070002)", "Unspecified", "ImageNotFound", "image.disk")]
    [InlineData("Start-VM", "Le fichier spécifié est introuvable. (0x80070002)", "Unspecified", "FileNotFound", "restore it")]
    [InlineData("Start-VM", "L'état enregistré est incompatible. (0xC0370029)", "OperationFailed", "SavedStateNotResumable", "hyperv.resumeFailure")]
    [InlineData("Save-VM", "Le disque est plein. (0x80070070)", "Unspecified", "DiskFull", "Free some room")]
    public void A_code_in_a_localised_text_chooses_the_remediation_with_the_command(string command, string text, string id, string expected, string mend)
    {
        var error = HyperVErrors.From(Told(command, text, id), "hv1", "Trying");
        Assert.Equal(expected, error.Id);
        Assert.Contains(mend, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
        Assert.Contains("hv1", error.Message, StringComparison.Ordinal);
    }

    // https://github.com/kubernetes/minikube/issues/9286 and /6346: told to administrators too, for the machine may not open its disk.
    [Fact]
    public void Access_denied_by_id_alone_is_the_machines_at_a_start_and_the_accounts_elsewhere()
    {
        Assert.Equal("DiskAccessDenied", HyperVErrors.From(Told("Start-VM", "'minikube' failed to start.", "AccessDenied", "PermissionDenied"), "hv1", "Starting").Id);
        Assert.Equal("HostAccessDenied", HyperVErrors.From(Told("New-VHD", "You do not have the required permission to complete this task.", "AccessDenied", "PermissionDenied"), "hv1", "Making").Id);
    }

    // Where Move-ClusterVirtualMachineRole says so: https://github.com/microsoft/Windows-Admin-Center-Ideas-and-Feedback/issues/423
    [Fact]
    public void A_missing_SDDC_resource_is_known()
    {
        var error = HyperVErrors.From(new ShellException("Failed to find SDDC Management resource, reason : No more data is available. (0x80070103)") { Command = "FailoverClusters\\Move-ClusterVirtualMachineRole", ErrorId = "Move-ClusterVirtualMachineRole,x", Category = "NotSpecified" }, "hv1", "Moving");
        Assert.Equal("SddcResourceMissing", error.Id);
        Assert.Contains("SDDC Management", error.Message, StringComparison.Ordinal);
        Assert.NotEqual("SddcResourceMissing", HyperVErrors.From(Told("Get-VM", "(0x80070103)", "Unspecified"), "hv1", "Listing").Id);
    }

    [Fact]
    public void An_error_without_any_code_still_says_where_to_look()
    {
        // https://github.com/kubernetes/minikube/issues/6732: missing rights, told in words alone.
        var error = HyperVErrors.From(Told("Get-VM", "You do not have the required permission to complete this task.", "Unspecified"), "hv1", "Listing machines");
        Assert.Equal("HyperVFailed", error.Id);
        Assert.Contains("Hyper-V-VMMS", error.Message, StringComparison.Ordinal);
        Assert.Contains("Hyper-V Administrators", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Codes_are_read_from_results_inner_errors_data_and_texts_and_what_says_nothing_is_left_out()
    {
        Assert.Equal(unchecked([(int)0x8007000E, (int)0x80070005, (int)0xC0370029]),
            ErrorCodes.Of(unchecked([(int)0x80131500, (int)0x80004005, (int)0x8007000E]), ["access (0x80070005).", null, "HRESULT 0xc0370029", "again 0x80070005, 0x80131500, 0x80004005, 0x00000000"]));
        Assert.Equal(unchecked([(int)0x80070005]), ErrorCodes.In("error -2147024891 of x80070005y and 0x800700055"));
        Assert.Empty(ErrorCodes.In("7f0x80070005, 0x1234, 0x8007, 21474836480"));
        var crossed = ShellWire.ReadError(ShellWire.Write(new ShellException("kaputt (0x80070020)") { Command = "Hyper-V\\Get-VM", ErrorId = "HRESULT 0x80070005,x", Codes = unchecked([(int)0x8007000E]) }));
        Assert.Equal(unchecked([(int)0x8007000E, (int)0x80070020, (int)0x80070005]), crossed.Codes);
    }

    [Fact]
    public async Task The_double_raises_errors_as_the_module_does()
    {
        using var lab = new Doubles.DoubleLab();
        var id = await lab.NewAsync();
        lab.World.SetHost("host1", host => host with { MemoryBytes = 1 << 20 });
        var memory = await Assert.ThrowsAsync<ShellException>(() => lab.RunAsync(@"Hyper-V\Start-VM", ("VM", Doubles.DoubleLab.VM("host1", id))));
        Assert.Equal(("OutOfMemory,Microsoft.HyperV.PowerShell.Commands.StartVM", "NotSpecified", "Microsoft.HyperV.PowerShell.VirtualizationException"), (memory.ErrorId, memory.Category, memory.ExceptionType));
        Assert.Equal("HostMemoryShort", HyperVErrors.From(memory, "host1", "Starting").Id);
        lab.World.SetHost("host1", host => host with { Mood = VMatrix.Doubles.HostMood.CutOff });
        var silent = await Assert.ThrowsAsync<ShellException>(() => lab.RunAsync(@"Hyper-V\Get-VM", ("ComputerName", "host1")));
        Assert.Equal("NotSpecified", silent.Category);
        Assert.Equal("HostUnreachable", HyperVErrors.From(silent, "host1", "Listing").Id);
    }

    /// <summary>Only an error that is proven to be about resuming costs a memory; every other one of Start-VM leaves it.</summary>
    [Theory]
    [InlineData("Start-VM", PolishMemory, "Unspecified", "NotSpecified", false)]
    [InlineData("Start-VM", ChineseMemory, "OutOfMemory", "NotSpecified", false)]
    [InlineData("Start-VM", "Die Anforderung wird nicht unterstützt.", "Unspecified", "NotSpecified", false)]
    [InlineData("Start-VM", "'FINANCE-1' could not be restored.", "OperationFailed", "NotSpecified", false)]
    [InlineData("Start-VM", "unbekannt (0x80073B01)", "OperationFailed", "NotSpecified", false)]
    [InlineData("Start-VM", Attachment, "OperationFailed", "NotSpecified", false)]
    [InlineData("Start-VM", "gespeicherter Zustand (0xC0370029), zu wenig Speicher (0x8007000E)", "OperationFailed", "NotSpecified", false)]
    [InlineData("Start-VM", "gespeicherter Zustand (0xC0370029)", "OutOfMemory", "NotSpecified", false)]
    [InlineData("Set-VMDvdDrive", "(0xC0370029)", "OperationFailed", "NotSpecified", false)]
    [InlineData("Start-VM", "Der gespeicherte Zustand ist beschädigt (0xC0370027)", "OperationFailed", "NotSpecified", true)]
    [InlineData("Start-VM", "incompatible (0xC0370029)", "Unspecified", "NotSpecified", true)]
    [InlineData("Start-VM", "(0xC0350017)", "Unspecified", "InvalidOperation", true)]
    public Task Memory_is_given_up_for_nothing_but_an_error_about_resuming_it(string command, string text, string id, string category, bool givenUp)
    {
        var world = new FaultyDriverWorld(pool => pool with { HyperV = pool.HyperV with { ResumeFailure = ResumeFailure.Boot } });
        return RunAsync(world, async () =>
        {
            var (driver, service, server) = await world.MakeAsync();
            var host = world.Pool.Hosts[0];
            await driver.FetchAsync(default, server, host, default);
            await driver.StartAsync(default, server, service, host, default);
            await driver.SaveAsync(default, server, host, default);
            var failed = false;
            world.Fails = name =>
            {
                // Once: booted without its memory, nothing would fail any more.
                if (name != "Start-VM" || failed)
                    return null;
                failed = true;
                return Told(command, text, id, category);
            };
            if (givenUp)
            {
                await driver.StartAsync(default, server, service, host, default);
                Assert.Contains("memory was given up", Assert.Single((await driver.ReadHostAsync(host, default)).Machines).Problem, StringComparison.Ordinal);
            }
            else
            {
                await Assert.ThrowsAsync<VMatrixException>(() => driver.StartAsync(default, server, service, host, default));
                Assert.Equal(VMState.Saved, world.MachineOf(server).State);
                Assert.NotNull(HyperVNotes.Read(world.MachineOf(server).Notes).Mark!.Saved);
                await driver.StartAsync(default, server, service, host, default);
                Assert.Null(Assert.Single((await driver.ReadHostAsync(host, default)).Machines).Problem);
            }

            await driver.DisposeAsync();
        });
    }

    [Fact]
    public Task Memory_that_only_seems_not_to_fit_is_tried_first_and_kept_when_it_does()
    {
        // A host that was updated tells another processor family and is the same machine.
        var world = new FaultyDriverWorld(pool => pool with { HyperV = pool.HyperV with { ResumeFailure = ResumeFailure.Boot } });
        return RunAsync(world, async () =>
        {
            var (driver, service, server) = await world.MakeAsync();
            var (here, there) = (world.Pool.Hosts[0], world.Pool.Hosts[1]);
            await driver.FetchAsync(default, server, here, default);
            await driver.StartAsync(default, server, service, here, default);
            await driver.SaveAsync(default, server, here, default);
            await driver.DisposeAsync();
            foreach (var host in world.Pool.Hosts)
                world.World.SetHost(host.Name, state => state with { ProcessorFamily = "Intel-B" });
            world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { SavedOn = "Intel-B" });
            await using var next = world.OpenHypervisor();
            await next.CarryAsync(default, server, here, there, default);
            Assert.Equal(VMState.Saved, world.MachineOf(server).State);
            await next.StartAsync(default, server, service, there, default);
            Assert.Null(Assert.Single((await next.ReadHostAsync(there, default)).Machines).Problem);
        });
    }

    [Fact]
    public Task Where_Compare_VM_does_not_answer_no_memory_is_given_up_for_a_move()
    {
        var world = new FaultyDriverWorld(pool => pool with { HyperV = pool.HyperV with { ResumeFailure = ResumeFailure.Boot } });
        return RunAsync(world, async () =>
        {
            var (driver, service, server) = await world.MakeAsync();
            var (here, there) = (world.Pool.Hosts[0], world.Pool.Hosts[1]);
            await driver.FetchAsync(default, server, here, default);
            await driver.StartAsync(default, server, service, here, default);
            await driver.SaveAsync(default, server, here, default);
            world.World.SetHost(there.Name, state => state with { ProcessorFamily = "AMD-B" });
            await driver.DisposeAsync();
            await using var next = world.OpenHypervisor();
            world.Fails = name => name == "Compare-VM" ? Told(name, "unbekannt", "Unspecified") : null;
            await Assert.ThrowsAsync<VMatrixException>(() => next.CarryAsync(default, server, here, there, default));
            Assert.Equal((here.Name, VMState.Saved), (world.MachineOf(server).Host, world.MachineOf(server).State));

            // Hyper-V itself says that it does not go: now it is proven.
            world.Fails = null;
            await next.CarryAsync(default, server, here, there, default);
            Assert.Equal((there.Name, VMState.Off), (world.MachineOf(server).Host, world.MachineOf(server).State));
        });
    }

    internal static ShellException Told(string command, string text, string id, string category = "NotSpecified") => new(text)
    {
        Command = "Hyper-V\\" + command,
        ErrorId = $"{id},Microsoft.HyperV.PowerShell.Commands.{command.Replace("-", "", StringComparison.Ordinal)}",
        Category = category,
        ExceptionType = "Microsoft.HyperV.PowerShell.VirtualizationException",
    };

    private static async Task RunAsync(HyperVDriverWorld world, Func<Task> test)
    {
        await using (world)
        {
            await world.RunAsync(test);
            Assert.Empty(world.World.Violations);
        }
    }
}
