using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using VMatrix.Qemu;
using Xunit;

namespace VMatrix.Tests.Qemu;

/// <summary>Real guests behind a real HAProxy, with the image that all tests share.</summary>
internal sealed class QemuDriverWorld : DriverWorld
{
    private readonly QemuLab _lab;

    private QemuDriverWorld(QemuLab lab)
    {
        _lab = lab;
        Pool = lab.Pool;
    }

    /// <param name="image">The image.</param>
    /// <param name="warm">False for servers with a disk that boot the first time, as the contract of the single calls expects.</param>
    public static async Task<QemuDriverWorld> OpenAsync(QemuImage image, bool warm) => new(await image.LabAsync(warm ? null : await image.WithDiskAsync() with { Warm = false }));

    public override PoolSpec Pool { get; }

    public override TimeProvider Clock => TimeProvider.System;

    public override bool IsSlow => true;

    public override IHypervisor OpenHypervisor() => new QemuHypervisor(Pool, OpenProbe(), TimeProvider.System);

    public override IBalancer OpenBalancer() => new HAProxyBalancer(Pool, TimeProvider.System);

    public override IHealthProbe OpenProbe() => new HttpHealthProbe(TimeProvider.System);

    public override async Task CrashAsync(Guid server)
    {
        var id = QemuProcesses.Of(server).Id;
        using var process = Process.GetProcessById(id);
        process.Kill();
        await process.WaitForExitAsync();
    }

    public override async Task HangAsync(Guid server)
    {
        using var stop = Process.Start("kill", ["-STOP", QemuProcesses.Of(server).Id.ToString(CultureInfo.InvariantCulture)]);
        await stop.WaitForExitAsync();
    }

    public override async Task CloneAsync(Guid server, HostSpec on)
    {
        var source = Pool.Hosts.Select(h => h.Folder + "/servers").Append(Pool.Nest.Folder + "/servers").Select(place => $"{place}/{server:D}").First(Directory.Exists);
        Directory.CreateDirectory(on.Folder + "/servers");
        using var copy = Process.Start("cp", ["-a", source, on.Folder + "/servers/"]);
        await copy.WaitForExitAsync();
    }

    public override IReadOnlyList<string> Leftovers(IReadOnlyCollection<Guid> known) => QemuProcesses.Leftovers(Pool, known);

    public override async ValueTask DisposeAsync()
    {
        try
        {
            await using var balancer = OpenBalancer();
            await balancer.StopAsync(default);
        }
        finally
        {
            await _lab.DisposeAsync();
        }
    }
}

[Collection("qemu")]
[Trait("Category", "Long")]
public sealed class QemuHypervisorContract(QemuImage image) : HypervisorContract
{
    protected override async Task<DriverWorld> OpenWorldAsync() => await QemuDriverWorld.OpenAsync(image, warm: false);
}
