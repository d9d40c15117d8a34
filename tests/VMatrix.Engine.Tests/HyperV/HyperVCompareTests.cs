using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.HyperV;
using VMatrix.Simulation;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>Each obstacle made in the double is found, in its group, with a mend; nothing is found where nothing is.</summary>
public sealed class HyperVCompareTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly VirtualClock _clock = new();
    private readonly DoubleWorld _world;
    private readonly PoolSpec _pool;

    public HyperVCompareTests()
    {
        var pool = TestPool.Simulated(_folder.Path, hosts: 2);
        _pool = pool with
        {
            Hypervisor = "hyperv",
            Hosts = [.. pool.Hosts.Select(host => host with { Address = host.Name + ".example.com" })],
            HyperV = new HyperVSpec { Switch = "LAN" },
        };
        _world = new DoubleWorld(Path.Combine(_folder.Path, "world"), _clock);
        foreach (var host in _pool.Hosts)
            _world.AddHost(new HostState { Name = host.Address!, MemoryBytes = 4L << 30 });
    }

    public static TheoryData<string, ObstacleGroup, ObstacleSeverity> Obstacles => new()
    {
        { "IntegrationServices", ObstacleGroup.Software, ObstacleSeverity.Blocks },
        { "CheckpointChain", ObstacleGroup.Software, ObstacleSeverity.Warns },
        { "BackupRunning", ObstacleGroup.Software, ObstacleSeverity.Blocks },
        { "OperationRunning", ObstacleGroup.Software, ObstacleSeverity.Blocks },
        { "ReplicaThere", ObstacleGroup.Software, ObstacleSeverity.Blocks },
        { "VirtualTpm", ObstacleGroup.People, ObstacleSeverity.Warns },
        { "ShieldedMachine", ObstacleGroup.People, ObstacleSeverity.Warns },
        { "ReplicaState", ObstacleGroup.Software, ObstacleSeverity.Blocks },
        { "ReplicaTarget", ObstacleGroup.Software, ObstacleSeverity.Warns },
        { "ConfigurationVersion", ObstacleGroup.Software, ObstacleSeverity.Blocks },
        { "ProcessorFeatures", ObstacleGroup.Hardware, ObstacleSeverity.Blocks },
        { "HostMemory", ObstacleGroup.Hardware, ObstacleSeverity.Blocks },
        { "SwitchMissing", ObstacleGroup.Hardware, ObstacleSeverity.Blocks },
        { "PassthroughDevice", ObstacleGroup.Hardware, ObstacleSeverity.Blocks },
        { "PassthroughDisk", ObstacleGroup.Hardware, ObstacleSeverity.Blocks },
        { "AttachedIso", ObstacleGroup.Hardware, ObstacleSeverity.Blocks },
        { "DiskPath", ObstacleGroup.Hardware, ObstacleSeverity.Blocks },
        { "Rights", ObstacleGroup.People, ObstacleSeverity.Blocks },
        { "DelegationMissing", ObstacleGroup.People, ObstacleSeverity.Blocks },
        { "CredentialGuard", ObstacleGroup.People, ObstacleSeverity.Blocks },
        { "CredSsp", ObstacleGroup.People, ObstacleSeverity.Warns },
        { "AuthenticationMismatch", ObstacleGroup.People, ObstacleSeverity.Blocks },
        { "LiveMigrationOff", ObstacleGroup.People, ObstacleSeverity.Blocks },
        { "TooManyMigrations", ObstacleGroup.People, ObstacleSeverity.Warns },
    };

    [Fact]
    public void Where_nothing_stands_in_the_way_nothing_is_found() => Run(async (driver, server, _) => Assert.Empty(await CompareAsync(driver, server)));

    [Theory]
    [MemberData(nameof(Obstacles))]
    public void What_stands_in_the_way_is_found(string what, ObstacleGroup group, ObstacleSeverity severity) => Run(async (driver, server, machine) =>
    {
        var (here, there) = (_pool.Hosts[0].Address!, _pool.Hosts[1].Address!);
        switch (what)
        {
            case "IntegrationServices":
                _world.SetMachine(machine, m => m with { IntegrationServices = false });
                break;
            case "CheckpointChain":
                _world.SetMachine(machine, m => m with { Checkpoints = [new CheckpointState { Id = Guid.NewGuid(), Name = "before", Created = _clock.GetUtcNow(), Disks = m.Disks }] });
                break;
            case "BackupRunning":
                _world.SetMachine(machine, m => m with { BackupRuns = true });
                break;
            case "OperationRunning":
                _world.SetMachine(machine, m => m with { Merges = true });
                break;
            case "ReplicaThere":
                _world.Change(state => state.Put(_world.Machine(machine) with { Host = there, State = VMState.Off, IsReplica = true }));
                break;
            case "VirtualTpm":
                _world.SetMachine(machine, m => m with { Tpm = true });
                break;
            case "ShieldedMachine":
                _world.SetMachine(machine, m => m with { Tpm = true, Shielded = true });
                break;
            case "ReplicaState":
                _world.SetMachine(machine, m => m with { Replication = VMReplicationState.InitialReplicationInProgress });
                break;
            case "ReplicaTarget":
                _world.SetMachine(machine, m => m with { Replication = VMReplicationState.Replicating });
                break;
            case "ConfigurationVersion":
                _world.SetHost(there, h => h with { Versions = ["8.0"] });
                break;
            case "ProcessorFeatures":
                _world.SetHost(there, h => h with { ProcessorFamily = "AMD-B" });
                break;
            case "HostMemory":
                _world.SetHost(there, h => h with { MemoryBytes = 256L << 20 });
                break;
            case "SwitchMissing":
                _world.SetMachine(machine, m => m with { Adapters = [.. m.Adapters.Select(a => a with { Switch = "LAN" })] });
                _world.SetHost(there, h => h with { Switches = ["OTHER"] });
                break;
            case "PassthroughDevice":
                _world.SetMachine(machine, m => m with { Devices = ["PCIROOT(0)#PCI(0300)"] });
                break;
            case "PassthroughDisk":
                _world.SetMachine(machine, m => m with { HostDisk = 3 });
                break;
            case "AttachedIso":
                _world.SetMachine(machine, m => m with { Iso = @"C:\iso\setup.iso" });
                break;
            case "DiskPath":
                // Its disk is a child of a gold disk that only its own host has.
                var gold = @"C:\gold\finance.vhdx";
                await new DoubleShell(_world).InvokeAsync(Call("Hyper-V\\New-VHD", here, ("Path", gold), ("SizeBytes", 1L << 30), ("Dynamic", true)), default);
                await new DoubleShell(_world).InvokeAsync(Call("Hyper-V\\New-VHD", here, ("Path", @"C:\VMs\child.vhdx"), ("ParentPath", gold), ("Differencing", true)), default);
                _world.SetMachine(machine, m => m with { Disks = [new DiskState(@"C:\VMs\child.vhdx")] });
                break;
            case "Rights":
                _world.SetHost(there, h => h with { CanRead = false });
                break;
            case "DelegationMissing":
                _world.SetHost(here, h => h with { Delegation = false });
                break;
            case "CredentialGuard":
                foreach (var host in new[] { here, there })
                    _world.SetHost(host, h => h with { Authentication = MigrationAuthenticationType.CredSSP, CredentialGuard = true });
                break;
            case "CredSsp":
                foreach (var host in new[] { here, there })
                    _world.SetHost(host, h => h with { Authentication = MigrationAuthenticationType.CredSSP });
                break;
            case "AuthenticationMismatch":
                _world.SetHost(there, h => h with { Authentication = MigrationAuthenticationType.CredSSP });
                break;
            case "LiveMigrationOff":
                _world.SetHost(there, h => h with { MigrationEnabled = false });
                break;
            case "TooManyMigrations":
                _world.SetHost(here, h => h with { MaxMigrations = 1 });
                var other = _world.AddForeign(here, "OTHER", memoryBytes: 1L << 30);
                _world.Configure(s => s with { Bandwidth = 1 << 20 });
                _ = new DoubleShell(_world).InvokeAsync(new Shells.ShellCall { Commands = [Command("Hyper-V\\Get-VM", ("ComputerName", here), ("Id", other)), Command("Hyper-V\\Move-VM", ("DestinationHost", there), ("IncludeStorage", true))], Timeout = TimeSpan.FromDays(1) }, default);
                break;
        }

        var found = await CompareAsync(driver, server);
        var obstacle = Assert.Single(found, f => f.What == what);
        Assert.Equal((group, severity), (obstacle.Group, obstacle.Severity));
        Assert.NotEmpty(obstacle.Why);
        Assert.NotNull(obstacle.Mend);

        // Nothing else is blamed, but for what follows from it: without CredSSP's credentials Compare-VM itself is refused.
        Assert.All(found.Where(f => f.What != what && f.Severity == ObstacleSeverity.Blocks), f => Assert.Equal(("CredSsp", "DelegationMissing"), (what, f.What)));
    });

    [Fact]
    public void A_host_that_does_not_answer_is_told_and_nothing_else_is_made_up() => Run(async (driver, server, _) =>
    {
        _world.SetHost(_pool.Hosts[1].Address!, h => h with { Mood = HostMood.CutOff });
        var obstacle = Assert.Single(await CompareAsync(driver, server), f => f.Severity == ObstacleSeverity.Blocks);
        Assert.Equal((ObstacleGroup.Hardware, "HostUnreachable"), (obstacle.Group, obstacle.What));
    });

    [Fact]
    public void Texts_of_another_language_decide_nothing() => Run(async (driver, server, machine) =>
    {
        _world.Configure(s => s with { Language = "de" });
        Assert.Empty(await CompareAsync(driver, server));
        _world.SetMachine(machine, m => m with { BackupRuns = true });
        Assert.Equal("BackupRunning", Assert.Single(await CompareAsync(driver, server), f => f.Severity == ObstacleSeverity.Blocks).What);
    });

    [Fact]
    public void What_the_account_may_not_ask_is_said_and_stands_in_nobody_s_way() => Run(async (_, server, machine) =>
    {
        foreach (var host in _pool.Hosts)
            _world.SetHost(host.Address!, h => h with { Authentication = MigrationAuthenticationType.CredSSP });
        await using var driver = new HyperVHypervisor(_pool, new Secretive(new DoubleShell(_world), "Win32_DeviceGuard"), _clock);
        var found = Assert.Single(await CompareAsync(driver, server), f => f.What == "NotAsked");
        Assert.Equal((ObstacleGroup.People, ObstacleSeverity.Warns), (found.Group, found.Severity));
        Assert.NotNull(found.Mend);
    });

    private sealed class Secretive(Shells.IShell shell, string about) : Shells.IShell
    {
        public Task<IReadOnlyList<Shells.PropertyBag>> InvokeAsync(Shells.ShellCall call, System.Threading.CancellationToken cancellation) =>
            call.Commands.Any(command => command.Parameters.Values.Contains(about)) ? throw new Shells.ShellException("Zugriff verweigert") { ErrorId = "AccessDenied,x", Category = "PermissionDenied" } : shell.InvokeAsync(call, cancellation);

        public ValueTask DisposeAsync() => shell.DisposeAsync();
    }

    public void Dispose()
    {
        _world.Forget();
        _folder.Dispose();
    }

    private Task<IReadOnlyList<MoveObstacle>> CompareAsync(IHypervisor driver, Guid server) => driver.CompareAsync(server, _pool.Services[0], _pool.Hosts[0], _pool.Hosts[1], live: true, default);

    private void Run(Func<IHypervisor, Guid, Guid, Task> test) => _clock.Run(async () =>
    {
        await using var driver = new HyperVHypervisor(_pool, new DoubleShell(_world), _clock);
        var machine = _world.AddForeign(_pool.Hosts[0].Address!, "FINANCE-1");
        var server = Guid.NewGuid();
        await driver.AdoptAsync(default, machine.ToString("D"), TestPool.Mark(_pool, "FINANCE", 1, Guid.NewGuid(), "", _clock.GetUtcNow(), server, Stage.Matrix), _pool.Hosts[0], default);
        await Task.Delay(TimeSpan.FromMinutes(1), _clock);
        await test(driver, server, machine);
    });

    private static Shells.ShellCommand Command(string name, params (string Name, object? Value)[] parameters) => new(name, parameters.ToDictionary(p => p.Name, p => p.Value));

    private static Shells.ShellCall Call(string name, string host, params (string, object?)[] parameters) => new() { Commands = [Command(name, [.. parameters, ("ComputerName", host)])] };
}
