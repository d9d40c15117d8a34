using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.Simulation;
using VMatrix.Tests.HyperV;

namespace VMatrix.Tests.Doubles;

/// <summary>A driver's world on the double: on a virtual clock in this process, or on the real one in a folder that several processes share.</summary>
internal abstract class DoubledWorld : DriverWorld
{
    private readonly TemporaryFolder? _own;
    private readonly VirtualClock? _virtual;

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

    public override ValueTask DisposeAsync()
    {
        World.Forget();
        _own?.Dispose();
        return default;
    }
}
