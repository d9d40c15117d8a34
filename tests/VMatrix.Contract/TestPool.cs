using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using VMatrix.Drivers;

namespace VMatrix.Contract;

/// <summary>A folder that goes away with the test; in memory where the system has a place for that, because a move flushes its journal many times.</summary>
public sealed class TemporaryFolder : IDisposable
{
    public string Path { get; } = Directory.Exists("/dev/shm")
        ? Directory.CreateDirectory($"/dev/shm/vmatrix-test-{Guid.NewGuid():N}").FullName
        : Directory.CreateTempSubdirectory("vmatrix-test-").FullName;

    public void Dispose()
    {
        try
        {
            Directory.Delete(Path, recursive: true);
        }
        catch (DirectoryNotFoundException)
        {
        }
    }
}

/// <summary>Pools for tests.</summary>
public static class TestPool
{
    /// <summary>Three matrix hosts and a chamber, two services, simulated, in a folder.</summary>
    public static PoolSpec Simulated(string folder, int hosts = 3, SimulationSpec? simulation = null, LimitSpec? limits = null) => new()
    {
        Name = "test",
        Path = Path.Combine(folder, "pool.yaml"),
        StateFolder = Path.Combine(folder, ".vmatrix"),
        Hypervisor = "simulation",
        Hosts =
        [
            .. Enumerable.Range(1, hosts).Select(i => new HostSpec { Name = $"host{i}", MemoryBytes = 1L << 30, Cores = 4 }),
            new HostSpec { Name = "chamber", Role = HostRole.Chamber, MemoryBytes = 1L << 30, Cores = 4 },
        ],
        Services =
        [
            new ServiceSpec { Name = "FINANCE", Priority = 2, Image = new ImageSpec { MemoryBytes = 128L << 20 }, Capacity = 10, Isolation = Isolation.Shared },
            new ServiceSpec { Name = "SPORTS", Image = new ImageSpec { MemoryBytes = 128L << 20 }, Capacity = 10, Isolation = Isolation.Shared },
        ],
        Nest = new NestSpec { Folder = Path.Combine(folder, "nest") },
        Balancer = new BalancerSpec { Kind = "simulation", DrainTimeout = TimeSpan.FromSeconds(2) },
        Limits = limits ?? new LimitSpec { MovesPerHost = 2, MovesPerPool = 4 },
        Simulation = simulation ?? new SimulationSpec(),
    };

    /// <summary>The mark of a new server.</summary>
    public static ServerMark Mark(PoolSpec pool, string service, int number, Guid state, string image, DateTimeOffset now, Guid? id = null, Stage stage = Stage.Nest) => new()
    {
        ServerId = id ?? Guid.NewGuid(),
        Name = $"{service}-{number}",
        Service = service,
        Image = image,
        Stage = stage,
        StateId = state,
        CreatedAt = now,
        ChangedAt = now,
    };
}
