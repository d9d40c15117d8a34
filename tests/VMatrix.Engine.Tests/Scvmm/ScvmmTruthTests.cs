using System;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.HyperV;
using VMatrix.Scvmm;
using Xunit;

namespace VMatrix.Tests.Scvmm;

/// <summary>What VMM only remembers proves nothing; what others write into descriptions, and what VMM numbers and reports as done, is read as it is meant.</summary>
public sealed class ScvmmTruthTests
{
    [Theory]
    [InlineData("Missing")]
    [InlineData("IncompleteVMConfig")]
    [InlineData("HostNotResponding")]
    public Task What_VMM_only_remembers_proves_nothing_and_nothing_is_done_to_it(string status) => OnHostAsync(async (world, driver, server, service, here) =>
    {
        var id = world.MachineOf(server).Id;
        world.World.SetMachine(id, machine => machine with { VmmStatus = status });
        var shown = Assert.Single((await driver.ReadHostAsync(here, default)).Machines);
        Assert.Equal((PowerState.Unknown, ServerHealth.Unknown, (Guid?)server), (shown.Power, shown.Health, shown.Mark?.ServerId));
        Assert.Contains(status, shown.Problem, StringComparison.Ordinal);
        Assert.False(await driver.ProveStoppedAsync(server, here, default));
        foreach (var act in new Func<Task>[]
        {
            () => driver.StopAsync(default, server, here, default), () => driver.DiscardAsync(default, server, here, default), () => driver.SaveAsync(default, server, here, default),
            () => driver.StartAsync(default, server, service, here, default), () => driver.StowAsync(default, server, here, default),
        })
            Assert.Equal("ServerNotSeen", (await Assert.ThrowsAsync<VMatrixException>(act)).Id);
    });

    /// <summary>Words of VMM's VMComputerSystemState between two at rest, and those that a failed job leaves.</summary>
    [Theory]
    [InlineData("UnderMigration", true)]
    [InlineData("UnderUpdate", true)]
    [InlineData("CreatingCheckpoint", true)]
    [InlineData("MergingDrives", true)]
    [InlineData("Starting", true)]
    [InlineData("MigrationFailed", false)]
    [InlineData("UpdateFailed", false)]
    public Task A_state_in_between_or_of_a_failed_job_proves_nothing(string status, bool passes) => OnHostAsync(async (world, driver, server, service, here) =>
    {
        await driver.StartAsync(default, server, service, here, default);
        var mark = Assert.Single((await driver.ReadHostAsync(here, default)).Machines).Mark!;
        await driver.MarkAsync(default, mark with { Stage = Stage.Matrix }, here, default);
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { VmmStatus = status });
        var shown = Assert.Single((await driver.ReadHostAsync(here, default)).Machines);
        Assert.Equal((PowerState.Unknown, passes, ServerHealth.Unknown, (string?)null), (shown.Power, shown.IsChanging, shown.Health, shown.Address));
        Assert.Contains(status, shown.Problem, StringComparison.Ordinal);
        Assert.False(await driver.ProveStoppedAsync(server, here, default));
        var seen = await Observation.ReadAsync(world.Pool, driver, null, null, default, new PoolReads(world.Pool, world.Clock));
        var state = Assert.Single(seen.ToStates(world.Pool, [], new System.Collections.Generic.Dictionary<Guid, ServerHealth>()));
        Assert.Equal((true, (Stage?)Stage.Matrix, here.Name), (state.Claimed, state.ClaimedTo, state.ClaimedHost));
        if (!passes)
            Assert.Equal("ServerNotSeen", (await Assert.ThrowsAsync<VMatrixException>(() => driver.StopAsync(default, server, here, default))).Id);
    });

    /// <summary>Scripts for VMM tell copies of Hyper-V Replica by IsRecoveryVM of Get-SCVirtualMachine, and originals by IsPrimaryVM. Hyper-V gives both one id.</summary>
    [Theory]
    [InlineData(null)]
    [InlineData("Missing")]
    [InlineData("HostNotResponding")]
    public Task The_copy_that_Hyper_V_Replica_keeps_is_never_the_server(string? original) => OnHostAsync(async (world, driver, server, service, here) =>
    {
        var there = world.Pool.Hosts[1];
        var (first, copy) = (world.MachineOf(server), Guid.NewGuid());
        world.World.Change(state =>
        {
            state.Put(first with { VmmStatus = original });
            state.Put(first with { Id = copy, Host = there.Name, SameAs = first.Id, IsReplica = true, Job = null, VmmStatus = null });
        });
        var shown = Assert.Single((await driver.ReadHostAsync(there, default)).Machines);
        Assert.Equal((null, null, (string?)null), (shown.Mark, shown.StaleMark, shown.Problem));
        Assert.Equal((Guid?)server, Assert.Single((await driver.ReadHostAsync(here, default)).Machines).Mark?.ServerId);
        var mark = TestPool.Mark(world.Pool, service.Name, 2, Guid.NewGuid(), "1", world.Clock.GetUtcNow(), Guid.NewGuid());
        Assert.Equal("MachineNotFit", (await Assert.ThrowsAsync<VMatrixException>(() => driver.AdoptAsync(default, copy.ToString("D"), mark, there, default))).Id);
        Assert.Equal(first.Description, world.World.Machine(copy).Description);
    });

    /// <summary>VMM quotes what Hyper-V told: codes, and return values of its provider written short (32775 is 0x8007): https://msdn.microsoft.com/library/windows/desktop/hh850051.</summary>
    [Theory]
    [InlineData("12700", "Start-SCVirtualMachine", "'FINANCE-1' konnte nicht gestartet werden. (0x80070005)", "DiskAccessDenied", false)]
    [InlineData("12711", "Start-SCVirtualMachine", "Zu wenig Speicher (0x8007000E)", "HostMemoryShort", false)]
    [InlineData("12711", "Start-SCVirtualMachine", "Unknown error (0x8009)", "WrongState", true)]
    [InlineData("12711", "Move-SCVirtualMachine", "Die Anmeldeinformationen (0x8009030E)", "DelegationMissing", false)]
    [InlineData("10698", "Move-SCVirtualMachine", "Zugriff verweigert: '0x80070005'", "FileAccessDenied", false)]
    [InlineData("12711", "Start-SCVirtualMachine", "Unknown error (0x8000)", "HyperVFailed", false)]
    [InlineData("12710", "Start-SCVirtualMachine", "Kein Recht (0x8007000E)", "HostAccessDenied", false)]
    [InlineData("10698", "Move-SCVirtualMachine", "Etwas", "ScvmmFailed", false)]
    public void What_Hyper_V_told_beneath_VMM_s_number_is_read(string number, string command, string text, string id, bool passing)
    {
        foreach (var error in new[]
        {
            ScvmmErrors.From(number, text, "Starting FINANCE-1", command),
            ScvmmErrors.From(new Shells.ShellException(text) { ErrorId = number + ",Microsoft", Command = "VirtualMachineManager\\" + command }, "Starting FINANCE-1"),
        })
        {
            Assert.Equal((id, passing), (error.Id, error.IsTransient));
            Assert.Contains(text, error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public Task A_server_of_the_Matrix_that_VMM_only_remembers_counts_as_there_and_is_left_alone() => OnHostAsync(async (world, driver, server, service, here) =>
    {
        await driver.StartAsync(default, server, service, here, default);
        var mark = Assert.Single((await driver.ReadHostAsync(here, default)).Machines).Mark!;
        await driver.MarkAsync(default, mark with { Stage = Stage.Matrix }, here, default);
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { VmmStatus = "Missing" });
        var seen = await Observation.ReadAsync(world.Pool, driver, null, null, default, new PoolReads(world.Pool, world.Clock));
        var state = Assert.Single(seen.ToStates(world.Pool, [], new System.Collections.Generic.Dictionary<Guid, ServerHealth>()));
        Assert.Equal((true, (Stage?)Stage.Matrix, here.Name), (state.Claimed, state.ClaimedTo, state.ClaimedHost));
    });

    [Fact]
    public Task A_twin_that_the_cluster_left_in_VMM_is_the_server_and_the_missing_record_is_nothing() => OnHostAsync(async (world, driver, server, service, here) =>
    {
        await driver.StartAsync(default, server, service, here, default);
        var old = world.MachineOf(server);

        // The cluster has moved it: VMM finds it on the other node under another id of its own, with the id of Hyper-V and the description that it has.
        var there = world.Pool.Hosts[1];
        var found = Guid.NewGuid();
        world.World.Change(state =>
        {
            state.Put(old with { VmmStatus = "Missing" });
            state.Put(old with { Id = found, Host = there.Name, SameAs = old.Id, Job = null });
        });
        Assert.Empty((await driver.ReadHostAsync(here, default)).Machines);
        var twin = Assert.Single((await driver.ReadHostAsync(there, default)).Machines);
        Assert.Equal(((Guid?)server, PowerState.Running, (string?)null), (twin.Mark?.ServerId, twin.Power, twin.Problem));

        // It is driven from now on, and stamped with its new id.
        await driver.SaveAsync(default, server, there, default);
        Assert.Equal(found.ToString("D"), HyperVNotes.Read(world.World.Machine(found).Description).Mark!.Mark.MachineId);
        await using var fresh = world.OpenHypervisor();
        Assert.Equal(server, Assert.Single((await fresh.ReadHostAsync(there, default)).Machines).Mark?.ServerId);
    });

    [Fact]
    public Task An_undo_gives_the_old_name_back() => ScvmmDriverWorld.WithServerAsync(async (world, driver, server, service) =>
    {
        var id = world.MachineOf(server).Id;
        world.World.SetMachine(id, machine => machine with { Name = "Accounting (do not touch)" });
        await driver.DiscardAsync(default, server, null, default);
        Assert.Contains("disposed", world.World.Machine(id).Name, StringComparison.Ordinal);
        await driver.RecoverAsync(default, server, default);
        Assert.Equal("Accounting (do not touch)", world.World.Machine(id).Name);
    });

    [Theory]
    [InlineData("{0}#CLUSTER-INVARIANT#:{{44ff0a3a-0d5f-44cf-a6c4-7eb5a7e8ce50}}")]
    [InlineData("#CLUSTER-INVARIANT#:{{44ff0a3a-0d5f-44cf-a6c4-7eb5a7e8ce50}}{0}")]
    [InlineData("Owner: finance. {0} Do not delete.")]
    [InlineData("  {0}  \r\n\tfor year end")]
    public Task Our_piece_of_a_description_is_found_among_others_and_kept_apart(string around) => ScvmmDriverWorld.WithServerAsync(async (world, driver, server, service) =>
    {
        var id = world.MachineOf(server).Id;
        world.World.SetMachine(id, machine => machine with { Description = string.Format(System.Globalization.CultureInfo.InvariantCulture, around, machine.Description) });
        Assert.Equal(server, Assert.Single((await driver.ReadNestAsync(default)).Dormant).Mark?.ServerId);
        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        await driver.StartAsync(default, server, service, world.Pool.Hosts[0], default);
        var now = world.World.Machine(id).Description;
        foreach (var others in around.Split("{0}").Select(text => text.Replace("{{", "{", StringComparison.Ordinal).Replace("}}", "}", StringComparison.Ordinal)).Where(text => text.Trim().Length > 0))
            Assert.Contains(others, now, StringComparison.Ordinal);
        Assert.Contains(now.Split('\n', '\r'), line => line.StartsWith("VMatrix:{", StringComparison.Ordinal) && line.EndsWith('}'));
    });

    [Theory]
    [InlineData(0.5)]
    [InlineData(0.9)]
    public Task A_broken_mark_is_told_and_proves_nothing(double share) => OnHostAsync(async (world, driver, server, service, here) =>
    {
        await driver.StartAsync(default, server, service, here, default);
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { Description = machine.Description[..(int)(machine.Description.Length * share)] + "\n#CLUSTER-INVARIANT#:{44ff0a3a-0d5f-44cf-a6c4-7eb5a7e8ce50}" });
        var shown = Assert.Single((await driver.ReadHostAsync(here, default)).Machines);
        Assert.Null(shown.Mark);
        Assert.Contains("left alone", shown.Problem, StringComparison.Ordinal);
        Assert.False(await driver.ProveStoppedAsync(server, here, default));
    });

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public Task A_published_image_whose_description_was_changed_is_not_replaced_by_an_older_one(bool lost) => ScvmmDriverWorld.WithServerAsync(async (world, driver, server, service) =>
    {
        var first = (await driver.ReadNestAsync(default)).Images[service.Name];
        var published = await driver.PublishImageAsync(new DriverCall(Guid.NewGuid(), 0), server, service, null, default);
        await driver.SelectImageAsync(default, service, published.Version, default);
        Assert.Equal(published.Version, (await driver.ReadNestAsync(default)).Images[service.Name]);
        var image = world.World.Machines.Single(machine => machine.Name.EndsWith(published.Version, StringComparison.Ordinal));

        // What somebody adds does no harm.
        world.World.SetMachine(image.Id, machine => machine with { Description = "Golden. " + machine.Description + "#CLUSTER-INVARIANT#:{44ff0a3a-0d5f-44cf-a6c4-7eb5a7e8ce50}" });
        Assert.Equal(published.Version, (await driver.ReadNestAsync(default)).Images[service.Name]);

        world.World.SetMachine(image.Id, machine => machine with { Description = lost ? "" : machine.Description.Replace("}", "", StringComparison.Ordinal) });
        var nest = await driver.ReadNestAsync(default);
        Assert.DoesNotContain(service.Name, nest.Images.Keys);
        Assert.Contains(nest.Problems, problem => problem.Contains(image.Name, StringComparison.Ordinal));
        Assert.Equal("ImageNotReadable", (await Assert.ThrowsAsync<VMatrixException>(() => driver.PrepareImageAsync(default, service, world.Pool.Hosts[0], null, default))).Id);
        Assert.NotEqual(first, published.Version);
    });

    /// <summary>Numbers and texts: https://github.com/MicrosoftDocs/SupportArticles-docs (KB 2742246, "Troubleshoot Needs Attention, Not Responding, and Access Denied hosts", and KB 2790310, "A migration job fails with error 23007").</summary>
    [Theory]
    [InlineData("2911", "HostExhausted", true)]
    [InlineData("2912", "HostAgentFailed", true)]
    [InlineData("2915", "HostAgentFailed", true)]
    [InlineData("2916", "HostUnreachable", true)]
    [InlineData("2927", "HostAgentFailed", true)]
    [InlineData("20506", "HostAgentFailed", true)]
    [InlineData("13926", "HostUnreachable", true)]
    [InlineData("406", "HostAccessDenied", false)]
    [InlineData("12710", "HostAccessDenied", false)]
    [InlineData("23007", "TooManyMigrations", true)]
    public Task VMM_s_numbers_are_known_by_what_they_mean_and_passing_ones_are_tried_again(string number, string id, bool passing) => OnHostAsync(async (world, driver, server, service, here) =>
    {
        var told = 0;
        world.World.Called = command =>
        {
            if (command.EndsWith("\\Start-SCVirtualMachine", StringComparison.Ordinal) && told++ == 0)
                throw new DoubleError(number, "InvalidOperation", 0, $"Ein Fehler. ({number})");
        };
        var error = await Assert.ThrowsAsync<VMatrixException>(() => driver.StartAsync(default, server, service, here, default));
        Assert.Equal((id, passing), (error.Id, error.IsTransient));
        Assert.True(error.Message.Length > $"Starting failed: Ein Fehler. ({number}) ({number}).".Length + 60, "it names no remedy: " + error.Message);
        await driver.StartAsync(default, server, service, here, default);
    });

    [Fact]
    public Task Nothing_is_removed_by_force_and_what_is_reported_done_is_looked_at() => ScvmmDriverWorld.WithServerAsync(async (world, driver, server, service) =>
    {
        var id = world.MachineOf(server).Id;
        await driver.DiscardAsync(default, server, null, default);
        world.World.SetMachine(id, machine => machine with { VmmStatus = "CreationFailed" });
        Assert.NotEqual("", (await Assert.ThrowsAsync<VMatrixException>(() => driver.EraseAsync(default, server, default))).Id);
        world.World.SetMachine(id, machine => machine with { VmmStatus = null });
        await driver.EraseAsync(default, server, default);
        Assert.DoesNotContain(world.World.Machines, machine => machine.Id == id);
    });

    /// <summary>Disable-SCVMHost and Set-SCVMHost -AvailableForPlacement: https://learn.microsoft.com/previous-versions/system-center/powershell/system-center-2012-r2/jj613219(v=sc.20).</summary>
    [Fact]
    public Task A_host_in_VMM_s_maintenance_mode_is_no_target_and_is_told() => OnHostAsync(async (world, driver, server, service, here) =>
    {
        world.World.SetHost(world.Pool.Hosts[1].Name, host => host with { Paused = true });
        Assert.Null((await driver.ReadHostAsync(here, default)).Maintenance);
        Assert.Contains("maintenance mode", (await driver.ReadHostAsync(world.Pool.Hosts[1], default)).Maintenance, StringComparison.Ordinal);
    });

    private static Task OnHostAsync(Func<ScvmmDriverWorld, IHypervisor, Guid, ServiceSpec, HostSpec, Task> test) => ScvmmDriverWorld.WithServerAsync(async (world, driver, server, service) =>
    {
        var here = world.Pool.Hosts[0];
        await driver.FetchAsync(default, server, here, default);
        await test(world, driver, server, service, here);
    });
}
