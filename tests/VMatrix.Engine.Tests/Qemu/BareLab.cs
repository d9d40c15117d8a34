using System;
using System.IO;
using System.Linq;
using System.Runtime.Versioning;
using System.Threading;
using System.Threading.Tasks;
using CsCheck;
using VMatrix.Drivers;
using VMatrix.Qemu;
using Xunit;

namespace VMatrix.Tests.Qemu;

/// <summary>A pool of the QEMU driver with an image that is written by hand and never runs: for what is read, kept and refused before any guest.</summary>
[SupportedOSPlatform("linux")]
internal sealed class BareLab : IAsyncDisposable, IHealthProbe
{
    public const string Version = "0123456789ab";
    public static readonly byte[] Memory = [.. Enumerable.Range(0, 5000).Select(i => (byte)i)];

    public static readonly GuestFacts Guest = new()
    {
        Machine = "pc-q35-7.2", Accelerator = "tcg", MemoryBytes = 128 << 20, Cores = 1, Port = 80, Kernel = true, Initrd = false, Disk = false, Content = "x",
    };

    public BareLab()
    {
        Folder = Directory.CreateTempSubdirectory("vmatrix-bare-").FullName;
        Host = new HostSpec { Name = "host1", MemoryBytes = 1L << 30, Folder = Path.Combine(Folder, "host1") };
        Service = new ServiceSpec { Name = "FINANCE", Image = new ImageSpec { Kernel = "/none" } };
        Pool = new PoolSpec
        {
            Name = "bare", Path = Path.Combine(Folder, "pool.yaml"), StateFolder = Path.Combine(Folder, ".vmatrix"), Hypervisor = "qemu", Hosts = [Host], Services = [Service],
            Nest = new NestSpec { Folder = Path.Combine(Folder, "nest") }, Balancer = new BalancerSpec { Kind = "haproxy" },
        };
        Driver = new QemuHypervisor(Pool, this, TimeProvider.System);
        Image = new ServerFolder(Path.Combine(Pool.Nest.Folder, "images", "FINANCE", Version));
        Directory.CreateDirectory(Image.Path);
        File.WriteAllBytes(Image.State, Memory);
        File.WriteAllText(Path.Combine(Image.Path, ImageStore.Kernel), "no kernel");
        var warm = new StateFacts { Sha256 = Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(Memory)), Length = Memory.Length, Shape = QemuCommandLine.Shape(Guest), Overlay = null, SavedAt = DateTimeOffset.UnixEpoch };
        ServerFolder.Write(Path.Combine(Image.Path, "image.json"), new ImageFacts { Version = Version, Guest = Guest, Warm = warm, CreatedAt = DateTimeOffset.UnixEpoch });
    }

    /// <summary>One of a few texts.</summary>
    public static CsCheck.Gen<string> OneOf(params string[] texts) => CsCheck.Gen.Int[0, texts.Length - 1].Select(i => texts[i]);

    public string Folder { get; }

    public HostSpec Host { get; }

    public ServiceSpec Service { get; }

    public PoolSpec Pool { get; }

    public QemuHypervisor Driver { get; }

    public ServerFolder Image { get; }

    public string Servers => Path.Combine(Host.Folder!, "servers");

    public Task<string?> CheckAsync(ServiceSpec service, string address, CancellationToken cancellation) => Task.FromResult<string?>("never");

    public ServerMark Mark(string name) => new()
    {
        ServerId = Guid.NewGuid(), Name = name, Service = Service.Name, Image = Version, Stage = Stage.Nest, StateId = Guid.Empty, CreatedAt = DateTimeOffset.UnixEpoch, ChangedAt = DateTimeOffset.UnixEpoch,
    };

    /// <summary>A server that sleeps on the host.</summary>
    public async Task<(Guid Id, ServerFolder Folder)> SleeperAsync(string name)
    {
        var mark = Mark(name);
        await Driver.CreateAsync(default, mark, Service, default);
        await Driver.FetchAsync(default, mark.ServerId, Host, default);
        return (mark.ServerId, new ServerFolder(Path.Combine(Servers, mark.ServerId.ToString("D"))));
    }

    public async ValueTask DisposeAsync()
    {
        await Driver.DisposeAsync();
        Directory.Delete(Folder, recursive: true);
    }
}
