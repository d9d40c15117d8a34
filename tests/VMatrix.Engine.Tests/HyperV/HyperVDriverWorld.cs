using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.HyperV;
using VMatrix.Shells;
using VMatrix.Simulation;
using VMatrix.Tests.Doubles;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>Hyper-V hosts as the double has them: on a virtual clock in this process, or on the real one in a folder that several processes share.</summary>
internal class HyperVDriverWorld : DoubledWorld
{
    /// <param name="folder">The folder of somebody else, on the real clock; null for a world of its own on a virtual one.</param>
    /// <param name="change">Changes the pool.</param>
    public HyperVDriverWorld(string? folder = null, Func<PoolSpec, PoolSpec>? change = null)
        : base(folder)
    {
        var gold = Path.Combine(Folder, "gold", "finance.vhdx");
        var simulated = TestPool.Simulated(Folder);
        Pool = simulated with
        {
            Hypervisor = "hyperv",
            Hosts = [.. simulated.Hosts.Select(host => host with { Address = host.Name, Storage = Path.Combine(Folder, "disks", host.Name), Switch = host.Role == HostRole.Chamber ? "Isolated" : null })],
            Services = [.. simulated.Services.Select(service => service with { Image = service.Image with { Disk = gold } })],
            HyperV = new HyperVSpec { Switch = "LAN" },
            Limits = Patient(simulated.Limits),
        };
        Pool = change?.Invoke(Pool) ?? Pool;
        if (File.Exists(gold))
            return;
        Directory.CreateDirectory(Path.GetDirectoryName(gold)!);
        File.WriteAllText(gold, "gold");
        SetTimes();
        foreach (var host in Pool.Hosts)
            World.AddHost(new HostState { Name = host.Name, MemoryBytes = 2L << 30, Switches = ["LAN", "Isolated"], MaxMigrations = 4, MaxStorageMigrations = 4 });
    }

    public override PoolSpec Pool { get; }

    /// <summary>A world whose guests have cloud-init and static addresses.</summary>
    public static HyperVDriverWorld Seeded() => new(change: WithSeeds) { Samples = true };

    /// <summary>A world whose dormant servers are kept in the nest's share.</summary>
    /// <param name="folder">The folder of somebody else, on the real clock; null for a world of its own on a virtual one.</param>
    public static HyperVDriverWorld Shared(string? folder = null) => new(folder, InShare);

    /// <summary>The same pool with its dormant servers in the nest's share.</summary>
    public static PoolSpec InShare(PoolSpec pool) => pool with { HyperV = pool.HyperV with { Nest = DormantPlace.Share } };

    /// <summary>The same pool with cloud-init and static addresses for its guests.</summary>
    public static PoolSpec WithSeeds(PoolSpec pool) => pool with
    {
        Services = [.. pool.Services.Select((service, at) => service with
        {
            Addresses = new AddressSpec { Range = AddressRange.TryParse($"10.{at}.5.10-10.{at}.5.60")!, Prefix = 24 },
            Image = service.Image with { Specialize = Specialize.CloudInit },
        })],
    };

    public override IHypervisor OpenHypervisor() => new HyperVHypervisor(Pool, OpenShell(), Clock);

    /// <summary>A server that lies in the share is copied as anybody may copy it from there.</summary>
    public override async Task CloneAsync(Guid server, HostSpec on)
    {
        if (ReadSleeper(server) is not { Configuration: { } file } sleeper)
        {
            await base.CloneAsync(server, on);
            return;
        }

        await using var admin = new DoubleShell(World);
        await admin.InvokeAsync(new ShellCall
        {
            Commands = [new(@"Hyper-V\Import-VM", new Dictionary<string, object?>
            {
                ["ComputerName"] = on.Address,
                ["Path"] = new HyperVShare(Pool.Nest.Folder).At(sleeper, file),
                ["Copy"] = true,
                ["GenerateNewId"] = true,
                ["VirtualMachinePath"] = Path.Combine(Folder, "copies", on.Name),
                ["VhdDestinationPath"] = Path.Combine(Folder, "copies", on.Name, "disks"),
            })],
        }, default);
    }

    /// <summary>What the share tells of a server; null when it tells nothing.</summary>
    public HyperVSleeper? ReadSleeper(Guid server) => new HyperVShare(Pool.Nest.Folder).Find(server);

    protected override ServerMark? ReadMark(MachineState machine) => MarkOf(machine);

    public static ServerMark? MarkOf(MachineState machine) => HyperVNotes.Read(machine.Notes).Mark?.Mark;

    public override IReadOnlyList<string> Leftovers(IReadOnlyCollection<Guid> known)
    {
        // What outlived the call that began it is cleared away when it ends.
        var until = Stopwatch.StartNew();
        var left = Look();
        while (IsReal && left.Count > 0 && until.Elapsed < TimeSpan.FromSeconds(3))
        {
            Thread.Sleep(20);
            left = Look();
        }

        return left;

        List<string> Look()
        {
            var found = new List<string>(World.Violations);
            foreach (var machine in World.Machines.Where(machine => MarkOf(machine) is { } mark ? !known.Contains(mark.ServerId) : machine.Name.StartsWith("vmatrix-making-", StringComparison.Ordinal)))
                found.Add($"The machine {machine.Name} ({machine.Id}) on {machine.Host} belongs to no server of the test.");
            var disks = World.Machines.SelectMany(machine => machine.Disks).Select(disk => disk.Path).ToHashSet();
            if (Directory.Exists(Path.Combine(Folder, "disks")))
                found.AddRange(Directory.EnumerateFiles(Path.Combine(Folder, "disks"), "*.vhdx", SearchOption.AllDirectories).Where(disk => !disks.Contains(disk)).Select(disk => $"The disk {disk} belongs to no machine."));
            if (Directory.Exists(Path.Combine(Pool.Nest.Folder, "images")))
                found.AddRange(Directory.EnumerateDirectories(Path.Combine(Pool.Nest.Folder, "images"), ".making-*", SearchOption.AllDirectories).Select(folder => $"The folder {folder} was left half made."));
            if (Directory.Exists(Path.Combine(Pool.Nest.Folder, "seeds")))
                found.AddRange(Directory.EnumerateFiles(Path.Combine(Pool.Nest.Folder, "seeds")).Where(seed => World.Machines.All(machine => machine.Iso != seed)).Select(seed => $"The seed {seed} is in no drive."));
            if (Directory.Exists(Path.Combine(Pool.Nest.Folder, "addresses")))
                found.AddRange(Directory.EnumerateFiles(Path.Combine(Pool.Nest.Folder, "addresses")).Where(claim => !known.Contains(Guid.Parse(File.ReadAllText(claim)))).Select(claim => $"The address {claim} is of no server."));
            if (Directory.Exists(Path.Combine(Pool.Nest.Folder, "traces")))
                found.AddRange(Directory.EnumerateFiles(Path.Combine(Pool.Nest.Folder, "traces")).Where(trace => !known.Contains(Guid.Parse(Path.GetFileNameWithoutExtension(trace)))).Select(trace => $"The trace {trace} is of no server."));
            found.AddRange(LookIntoShare(known, disks));
            return found;
        }
    }

    private IEnumerable<string> LookIntoShare(IReadOnlyCollection<Guid> known, HashSet<string> disks)
    {
        var asleep = Path.Combine(Pool.Nest.Folder, "asleep");
        foreach (var folder in Directory.Exists(asleep) ? Directory.EnumerateDirectories(asleep) : [])
        {
            var server = Guid.Parse(Path.GetFileName(folder));
            var sleeper = ReadSleeper(server);
            if (!known.Contains(server))
                yield return $"The folder {folder} is of no server.";
            if (sleeper is not null && World.Machines.Any(machine => machine.Id == sleeper.Id))
                yield return $"{sleeper.Name} has a record in the share and is registered.";
            if (sleeper is { Configuration: null } or { Host: not null })
                yield return $"The record of {sleeper.Name} in the share is not settled.";
            foreach (var file in Directory.EnumerateFiles(folder, "*.vhdx", SearchOption.AllDirectories).Where(file => !disks.Contains(file) && sleeper?.Disks.Any(disk => new HyperVShare(Pool.Nest.Folder).At(sleeper, disk) == file) != true))
                yield return $"The disk {file} belongs to no server.";
            foreach (var bed in Directory.EnumerateDirectories(folder).Where(bed => Path.GetFileName(bed) != sleeper?.Bed && !disks.Any(disk => disk.StartsWith(bed + "/", StringComparison.Ordinal))))
                yield return $"The folder {bed} was left behind.";
        }
    }
}

public sealed class HyperVHypervisorContract : HypervisorContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new HyperVDriverWorld());
}

/// <summary>The contract where dormant servers are kept in the nest's share.</summary>
public sealed class HyperVShareHypervisorContract : HypervisorContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(HyperVDriverWorld.Shared());
}

/// <summary>The same for whole moves, with a sample of its longest lists.</summary>
public sealed class HyperVShareMoverContract : MoverContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new HyperVDriverWorld(change: HyperVDriverWorld.InShare) { Samples = true });
}

[Trait("Category", "Long")]
public sealed class HyperVShareMoverContractInFull : MoverContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(HyperVDriverWorld.Shared());
}

/// <summary>The same with seeds and static addresses, on hosts that are reached by open CIM sessions.</summary>
public sealed class HyperVShareBySessionContract : HypervisorContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new SessionDriverWorld(cim: true, pool => HyperVDriverWorld.InShare(HyperVDriverWorld.WithSeeds(pool))));
}

/// <summary>The contract for servers with addresses of their own, which their guests know by their seeds.</summary>
public sealed class HyperVSeededHypervisorContract : HypervisorContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(HyperVDriverWorld.Seeded());
}

/// <summary>The same for whole moves, with a sample of its longest lists.</summary>
public sealed class HyperVSeededMoverContract : MoverContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(HyperVDriverWorld.Seeded());
}

/// <summary>The contract with a sample of its longest lists, another one each day.</summary>
public sealed class HyperVMoverContract : MoverContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new HyperVDriverWorld { Samples = true });
}

[Trait("Category", "Long")]
public sealed class HyperVMoverContractInFull : MoverContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new HyperVDriverWorld());
}

/// <summary>Hosts that are reached by open sessions: each call is made through a CIM session, or on the host itself.</summary>
internal sealed class SessionDriverWorld(bool cim, Func<PoolSpec, PoolSpec>? change = null) : HyperVDriverWorld(change: pool => (change?.Invoke(pool) ?? pool) is var changed ? changed with { HyperV = changed.HyperV with { Credential = "hosts-admin" } } : pool)
{
    protected override IShell OpenShell()
    {
        var here = new DoubleShell(World);
        return new ShellsBy(_ => ((call, cancellation) => HostWays.HostOf(call) is not { } host ? throw new InvalidOperationException($"{call.Commands[0].Name} is called of no host.")
            : cim ? here.InvokeAsync(Checked(HostWays.ByCimSession(call, host)), cancellation) : new DoubleShell(World, local: host).InvokeAsync(Checked(HostWays.OnHost(call, host)), cancellation), () => { })).Open(8);
    }

    // The other host of a move is still named, with the credential that it has.
    private static ShellCall Checked(ShellCall call)
    {
        foreach (var command in call.Commands)
        {
            Assert.DoesNotContain("ComputerName", command.Parameters.Keys);
            Assert.DoesNotContain("Credential", command.Parameters.Keys);
            foreach (var nested in command.Parameters.Values.OfType<ShellCall>())
                Checked(nested);
        }

        return call;
    }
}

public sealed class HyperVByCimSessionContract : HypervisorContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new SessionDriverWorld(cim: true));
}

public sealed class HyperVOnHostContract : HypervisorContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => Task.FromResult<DriverWorld>(new SessionDriverWorld(cim: false));
}

[Trait("Category", "Long")]
public sealed class HyperVByPowerShellHypervisorContract : HypervisorContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => DoubledWorld.ThroughPowerShellAsync(folder => new HyperVDriverWorld(folder, pool => DoubledWorld.Warm(HyperVDriverWorld.WithSeeds(pool))) { Samples = true });
}

[Trait("Category", "Long")]
public sealed class HyperVByPowerShellMoverContract : MoverContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => DoubledWorld.ThroughPowerShellAsync(folder => new HyperVDriverWorld(folder, pool => DoubledWorld.Warm(HyperVDriverWorld.WithSeeds(pool))) { Samples = true });
}

[Trait("Category", "Long")]
public sealed class HyperVShareByPowerShellContract : HypervisorContract
{
    protected override Task<DriverWorld> OpenWorldAsync() => DoubledWorld.ThroughPowerShellAsync(folder => new HyperVDriverWorld(folder, HyperVDriverWorld.InShare) { Samples = true });
}
