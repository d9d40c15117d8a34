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

    public override bool CanPublish => Pool.Services[0].Image.Disk is not null;

    public override IHypervisor OpenHypervisor() => new QemuHypervisor(Pool, OpenProbe(), TimeProvider.System);

    public override IBalancer OpenBalancer() => new HAProxyBalancer(Pool, TimeProvider.System);

    public override IHealthProbe OpenProbe() => new HttpHealthProbe(TimeProvider.System);

    public override async Task CrashAsync(Guid server)
    {
        var id = QemuLab.ProcessOf(server);
        using var process = Process.GetProcessById(id);
        process.Kill();
        await process.WaitForExitAsync();
    }

    public override async Task HangAsync(Guid server)
    {
        using var stop = Process.Start("kill", ["-STOP", QemuLab.ProcessOf(server).ToString(CultureInfo.InvariantCulture)]);
        await stop.WaitForExitAsync();
    }

    public override async Task CloneAsync(Guid server, HostSpec on)
    {
        var source = Pool.Hosts.Select(h => h.Folder + "/servers").Append(Pool.Nest.Folder + "/servers").Select(place => $"{place}/{server:D}").First(Directory.Exists);
        Directory.CreateDirectory(on.Folder + "/servers");
        using var copy = Process.Start("cp", ["-a", source, on.Folder + "/servers/"]);
        await copy.WaitForExitAsync();
    }

    public override IReadOnlyList<string> Leftovers(IReadOnlyCollection<Guid> known)
    {
        var places = Pool.Hosts.Select(h => h.Folder + "/servers").Concat([Pool.Nest.Folder + "/servers", Pool.Nest.Folder + "/disposed", Pool.Nest.Folder + "/images/FINANCE"]).Where(Directory.Exists).ToArray();
        return
        [
            .. places.SelectMany(Directory.GetDirectories).Where(d => Path.GetFileName(d).StartsWith('.')).Select(d => $"The folder {d} is left over."),
            .. places.SelectMany(Directory.GetDirectories).Where(d => Guid.TryParse(Path.GetFileName(d), out var id) && !known.Contains(id)).Select(d => $"The folder {d} is nobody's."),
            .. places.SelectMany(p => Directory.GetFiles(p, "*", SearchOption.AllDirectories)).Where(f => f.EndsWith(".next", StringComparison.Ordinal) || f.EndsWith(".partial", StringComparison.Ordinal)).Select(f => $"The file {f} is left over."),
            // The balancer that the pool owns is no leftover while the pool is in use.
            .. QemuLab.Processes(Path.GetDirectoryName(Pool.Path)!).Where(p => !p.Line.Contains("haproxy.cfg", StringComparison.Ordinal) && !known.Any(id => p.Line.Contains(id.ToString("D"), StringComparison.Ordinal))).Select(p => $"Process {p.Id} is left over: {p.Line.Replace('\0', ' ')}"),
        ];
    }

    public override ValueTask DisposeAsync() => _lab.DisposeAsync();
}

[Collection("qemu")]
[Trait("Category", "Long")]
public sealed class QemuHypervisorContract(QemuImage image) : HypervisorContract
{
    protected override async Task<DriverWorld> OpenWorldAsync() => await QemuDriverWorld.OpenAsync(image, warm: false);
}
