using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.Qemu;
using Xunit;

namespace VMatrix.Tests.Qemu;

/// <summary>One image for all tests of this folder: the demo's guest, built once and booted once.</summary>
public sealed class QemuImage : IAsyncLifetime
{
    public string Folder { get; } = Directory.CreateTempSubdirectory("vmatrix-qemu-").FullName;

    public ImageSpec Image { get; private set; } = null!;

    public async Task InitializeAsync() => Image = await DemoGuest.BuildAsync(Path.Combine(Folder, "guest"), TimeSpan.FromMilliseconds(20), default);

    /// <summary>A pool of its own, whose image is already prepared.</summary>
    internal async Task<QemuLab> LabAsync(ImageSpec? image = null, string? hostFolder = null, HealthSpec? health = null)
    {
        var lab = new QemuLab(Path.Combine(Folder, Guid.NewGuid().ToString("N")[..8]), image ?? Image, hostFolder, health);
        if (image is null)
        {
            await s_shared.WaitAsync();
            try
            {
                _prepared ??= await PrepareAsync();
                lab.CopyImages(_prepared);
            }
            finally
            {
                s_shared.Release();
            }
        }

        lab.Version = await lab.Driver.PrepareImageAsync(default, lab.Service, lab.Hosts[0], null, default);
        return lab;
    }

    /// <summary>The same guest with a small disk, which it counts its requests on.</summary>
    public async Task<ImageSpec> WithDiskAsync()
    {
        await s_shared.WaitAsync();
        try
        {
            var raw = Path.Combine(Folder, "data.raw");
            var disk = Path.Combine(Folder, "data.qcow2");
            if (!File.Exists(disk))
            {
                await QemuTools.RunAsync("truncate", ["-s", "8M", raw], default);
                await QemuTools.RunAsync("/sbin/mkfs.ext4", ["-q", "-F", raw], default);
                await QemuTools.RunAsync("qemu-img", ["convert", "-O", "qcow2", raw, disk], default);
            }

            return Image with { Disk = disk };
        }
        finally
        {
            s_shared.Release();
        }
    }

    private static readonly SemaphoreSlim s_shared = new(1);
    private string? _prepared;

    private async Task<string> PrepareAsync()
    {
        var lab = new QemuLab(Path.Combine(Folder, "prepared"), Image);
        await lab.Driver.PrepareImageAsync(default, lab.Service, lab.Hosts[0], null, default);
        return lab.Pool.Nest.Folder;
    }

    public Task DisposeAsync()
    {
        Directory.Delete(Folder, recursive: true);
        return Task.CompletedTask;
    }
}

[CollectionDefinition("qemu")]
public sealed class QemuTests : ICollectionFixture<QemuImage>;

/// <summary>A pool of three hosts in a folder, and the driver on it. Whatever still runs at the end is killed by its process id.</summary>
internal sealed class QemuLab : IAsyncDisposable, IHealthProbe
{
    private static readonly HttpClient s_http = new(new SocketsHttpHandler { PooledConnectionLifetime = TimeSpan.Zero }) { Timeout = TimeSpan.FromSeconds(30) };

    public QemuLab(string folder, ImageSpec image, string? firstHostFolder = null, HealthSpec? health = null)
    {
        Directory.CreateDirectory(folder);
        Service = new ServiceSpec { Name = "FINANCE", Image = image, Listen = FreeAddress(), Isolation = Isolation.Shared, Health = health ?? new HealthSpec { Path = "/health", Timeout = TimeSpan.FromSeconds(1) } };
        Hosts =
        [
            .. Enumerable.Range(1, 3).Select(i => new HostSpec { Name = $"host{i}", MemoryBytes = 1L << 30, Folder = i == 1 && firstHostFolder is not null ? firstHostFolder : Path.Combine(folder, $"host{i}") }),
            new HostSpec { Name = "chamber", Role = HostRole.Chamber, MemoryBytes = 1L << 30, Folder = Path.Combine(folder, "chamber") },
        ];
        Pool = new PoolSpec
        {
            Name = "lab",
            Path = Path.Combine(folder, "pool.yaml"),
            StateFolder = Path.Combine(folder, ".vmatrix"),
            Hypervisor = "qemu",
            Hosts = Hosts,
            Services = [Service, Service with { Name = "SPORTS", Listen = FreeAddress() }],
            Nest = new NestSpec { Folder = Path.Combine(folder, "nest") },
            Balancer = new BalancerSpec { Kind = "haproxy", DrainTimeout = TimeSpan.FromSeconds(2) },
            // What hangs is told after this; what works takes a few seconds also on a busy machine.
            Limits = new LimitSpec { StepTimeout = TimeSpan.FromSeconds(20) },
        };
        Driver = NewDriver();
    }

    public PoolSpec Pool { get; }

    public IReadOnlyList<HostSpec> Hosts { get; }

    public ServiceSpec Service { get; }

    public QemuHypervisor Driver { get; }

    public string Version { get; set; } = "";

    public QemuHypervisor NewDriver() => new(Pool, this, TimeProvider.System);

    /// <summary>Takes prepared images over, so that not every test boots one.</summary>
    public void CopyImages(string nest)
    {
        foreach (var file in Directory.GetFiles(Path.Combine(nest, "images"), "*", SearchOption.AllDirectories))
        {
            var to = Path.Combine(Pool.Nest.Folder, Path.GetRelativePath(nest, file));
            Directory.CreateDirectory(Path.GetDirectoryName(to)!);
            File.Copy(file, to);
        }
    }

    public async Task<string?> CheckAsync(ServiceSpec service, string address, CancellationToken cancellation)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(service.Health.Timeout);
        try
        {
            using var answer = await s_http.GetAsync(new Uri($"http://{address}{service.Health.Path}"), limit.Token);
            return (int)answer.StatusCode == service.Health.Expect ? null : $"status {(int)answer.StatusCode}";
        }
        catch (Exception e) when (e is HttpRequestException or TaskCanceledException && !cancellation.IsCancellationRequested)
        {
            return e.Message;
        }
    }

    public ServerMark Mark(string name, Guid? id = null) => new()
    {
        ServerId = id ?? Guid.NewGuid(),
        Name = name,
        Service = Service.Name,
        Image = Version,
        Stage = Stage.Nest,
        StateId = Guid.Empty,
        CreatedAt = DateTimeOffset.UtcNow,
        ChangedAt = DateTimeOffset.UtcNow,
    };

    /// <summary>A new dormant server on a host.</summary>
    public async Task<Guid> DormantAsync(string name = "web1", int host = 0)
    {
        var mark = Mark(name);
        await Driver.CreateAsync(default, mark, Service, default);
        await Driver.FetchAsync(default, mark.ServerId, Hosts[host], default);
        return mark.ServerId;
    }

    /// <summary>Starts a server and waits until it serves.</summary>
    public async Task<string> StartAsync(Guid server, int host = 0)
    {
        var address = await Driver.StartAsync(default, server, Service, Hosts[host], default);
        await ServesAsync(address);
        return address;
    }

    public async Task ServesAsync(string address)
    {
        var until = DateTime.UtcNow.AddSeconds(60);
        while (await CheckAsync(Service, address, default) is { } wrong)
        {
            Assert.True(DateTime.UtcNow < until, $"{address} does not serve: {wrong}");
            await Task.Delay(20);
        }
    }

    public static string FreeAddress()
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return listener.LocalEndPoint!.ToString()!;
    }

    public static async Task<string> GetAsync(string address, string path) => await s_http.GetStringAsync(new Uri($"http://{address}{path}"));

    public static async Task<Dictionary<string, string>> FactsAsync(string address) =>
        (await GetAsync(address, "/cgi-bin/facts")).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.Split('=', 2)).ToDictionary(l => l[0], l => l[1]);

    public async Task<Machine> MachineAsync(Guid server, int host = 0, IHypervisor? driver = null) =>
        (await (driver ?? Driver).ReadHostAsync(Hosts[host], default)).Machines.Single(m => m.MachineId.StartsWith(server.ToString("D"), StringComparison.Ordinal));

    public async Task<Machine> UntilAsync(Guid server, Func<Machine, bool> holds)
    {
        var until = DateTime.UtcNow.AddSeconds(30);
        Machine machine;
        while (!holds(machine = await MachineAsync(server)))
        {
            Assert.True(DateTime.UtcNow < until, $"The server stays {machine.Power}, {machine.Health}: {machine.Problem}");
            await Task.Delay(20);
        }

        return machine;
    }

    public string FolderOf(Guid server, int host = 0) => Path.Combine(Hosts[host].Folder!, "servers", server.ToString("D"));

    /// <summary>What the paths of a running server's sockets begin with.</summary>
    public static string SocketsOf(Guid server)
    {
        var line = QemuProcesses.Of(server).Line;
        var begin = line.IndexOf("\0unix:", StringComparison.Ordinal) + 6;
        return line[begin..line.IndexOf(".qmp", begin, StringComparison.Ordinal)];
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var host in Hosts)
        {
            foreach (var machine in (await Driver.ReadHostAsync(host, default)).Machines)
            {
                if (Guid.TryParse(machine.MachineId.Split('/')[0], out var server))
                {
                    await Driver.StopAsync(default, server, host, default);
                }
            }
        }

        await Driver.DisposeAsync();
    }
}
