using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.Shells;
using VMatrix.Simulation;
using VMatrix.Tests.HyperV;
using Xunit;

namespace VMatrix.Tests.Doubles;

/// <summary>A driver's world on the double: on a virtual clock in this process, or on the real one in a folder that several processes share.</summary>
internal abstract class DoubledWorld : DriverWorld
{
    private const int CallsAtOnce = 8;
    private readonly TemporaryFolder? _own;
    private readonly VirtualClock? _virtual;
    private ChildShell? _child;
    private TemporaryFolder? _ofChild;

    /// <param name="folder">The folder of somebody else, on the real clock; null for a world of its own on a virtual one.</param>
    protected DoubledWorld(string? folder)
    {
        _own = folder is null ? new TemporaryFolder() : null;
        Folder = folder ?? _own!.Path;
        _virtual = folder is null ? new VirtualClock() : null;
        World = new DoubleWorld(Path.Combine(Folder, "world"), Clock);
    }

    public DoubleWorld World { get; }

    public override TimeProvider Clock => (TimeProvider?)_virtual ?? TimeProvider.System;

    protected string Folder { get; }

    protected bool IsReal => _virtual is null;

    /// <summary>What hangs is waited for in real time; but a process that is to be killed has to start first.</summary>
    protected LimitSpec Patient(LimitSpec limits) => IsReal ? limits with { StepTimeout = TimeSpan.FromSeconds(20) } : limits;

    /// <summary>Half of that suffices with a PowerShell that is warm already.</summary>
    public static PoolSpec Warm(PoolSpec pool) => pool with { Limits = pool.Limits with { StepTimeout = TimeSpan.FromSeconds(10) } };

    /// <summary>True to take a sample of the contract's longest lists.</summary>
    public bool Samples { get; init; }

    public override bool IsSlow => Samples;

    /// <summary>A world whose drivers go through a real PowerShell child with the doubled modules: every call is bound by PowerShell itself. One child for all drivers, as one process would have.</summary>
    /// <param name="open">Makes the world, in a folder.</param>
    public static async Task<DriverWorld> ThroughPowerShellAsync(Func<string, DoubledWorld> open)
    {
        Skip.IfNot(PowerShells.PowerShellHere.IsThere, PowerShells.PowerShellHere.Why);
        var folder = new TemporaryFolder();
        var world = open(folder.Path);
        (world._ofChild, world._child) = (folder, new ChildShell(await PowerShells.PowerShellHere.StartAsync(world.World), CallsAtOnce, TimeProvider.System));
        await using var driver = world.OpenHypervisor();
        foreach (var host in world.Pool.Hosts)
            _ = await driver.ReadHostAsync(host, default);
        return world;
    }

    protected virtual IShell OpenShell() => _child is null ? new DoubleShell(World) : new ShellsBy(_ => (_child.InvokeAsync, () => { })).Open(CallsAtOnce);

    public override IBalancer OpenBalancer() => new FileBalancer(Path.Combine(Folder, "balancer.json"), Clock);

    public override IHealthProbe OpenProbe() => new DoubleHealthProbe(World);

    public override Task RunAsync(Func<Task> body)
    {
        if (_virtual is null)
            return body();
        _virtual.Run(body);
        return Task.CompletedTask;
    }

    public override Task CrashAsync(Guid server)
    {
        World.Crash(MachineOf(server).Id);
        return Task.CompletedTask;
    }

    public override Task HangAsync(Guid server)
    {
        World.Hang(MachineOf(server).Id);
        return Task.CompletedTask;
    }

    public override Task CloneAsync(Guid server, HostSpec on)
    {
        World.Clone(MachineOf(server), on.Name);
        return Task.CompletedTask;
    }

    /// <summary>The machine that a server's mark was written on.</summary>
    public MachineState MachineOf(Guid server) => World.Machines.Single(machine => ReadMark(machine) is { } mark && mark.ServerId == server && mark.MachineId == machine.Id.ToString("D"));

    /// <summary>The mark on a machine, where this driver writes it.</summary>
    protected abstract ServerMark? ReadMark(MachineState machine);

    /// <summary>The times of a new world: short ones of the real clock, plain ones of the virtual.</summary>
    protected void SetTimes() => World.Configure(settings => settings with { BootTime = IsReal ? TimeSpan.FromMilliseconds(2) : TimeSpan.FromSeconds(2), WakeTime = TimeSpan.FromMilliseconds(IsReal ? 1 : 200), Bandwidth = IsReal ? 1L << 50 : 1L << 30 });

    public override void Forget() => World.Forget();

    public override async ValueTask DisposeAsync()
    {
        if (_child is not null)
            await _child.DisposeAsync();
        World.Forget();
        _own?.Dispose();
        _ofChild?.Dispose();
    }
}
