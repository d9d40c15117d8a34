using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;

namespace VMatrix.Tests.Moves;

/// <summary>A small pool in memory behind the drivers' interfaces: what there is, what runs, who takes traffic, and faults to order.</summary>
internal sealed class World : IHypervisor, IBalancer, IExaminedBalancer, IHealthProbe, IDisposable
{
    public static readonly TimeSpan Short = TimeSpan.FromMilliseconds(100);

    private int _port = 1000;
    private (string Op, Action Cancelled)? _hang;

    public World()
    {
        StatePath = Path.Combine(Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath(), "vmatrix-moves-" + Guid.NewGuid().ToString("N"));
        State = StateFolder.Open(StatePath, create: true);
        Pool = new PoolSpec
        {
            Name = "test",
            Path = "/pool.yaml",
            StateFolder = StatePath,
            Hypervisor = "fake",
            Hosts =
            [
                new HostSpec { Name = "m1", MemoryBytes = 1 << 30 },
                new HostSpec { Name = "m2", MemoryBytes = 1 << 30 },
                new HostSpec { Name = "m3", MemoryBytes = 1 << 30 },
                new HostSpec { Name = "c1", MemoryBytes = 1 << 30, Role = HostRole.Chamber },
            ],
            Services =
            [
                new ServiceSpec { Name = "FINANCE", Image = new ImageSpec() },
                new ServiceSpec { Name = "SPORTS", Image = new ImageSpec(), Isolation = Isolation.Shared },
            ],
            Nest = new NestSpec { Folder = "/nest" },
            Balancer = new BalancerSpec { Kind = "fake" },
        };
        MakeMover();
    }

    public string StatePath { get; }

    public StateFolder State { get; private set; }

    public PoolSpec Pool { get; set; }

    public VirtualTime Time { get; } = new();

    /// <summary>What calls take their time by: <see cref="Time"/>, or the system's clock where real processes take part.</summary>
    public TimeProvider Pace { get => field ?? Time; init; }

    public Mover Mover { get; private set; } = null!;

    public Dictionary<Guid, Server> Servers { get; } = [];

    public Dictionary<Guid, (string Address, MemberState State, int Open)> Members { get; } = [];

    public HashSet<string> DownHosts { get; } = [];

    public List<string> Log { get; } = [];

    /// <summary>Asked before each call's effect; an exception that it returns is thrown.</summary>
    public Func<string, Guid, string?, Exception?>? Before { get; set; }

    /// <summary>Asked after each call's effect; an exception that it returns is thrown.</summary>
    public Func<string, Guid, string?, Exception?>? After { get; set; }

    public Func<string, string?> HealthOf { get; set; } = _ => null;

    public bool BalancerDown { get; set; }

    public bool CanMigrate { get; set; }

    public long HighestEpoch { get; set; }

    public HypervisorTraits Traits => new() { Name = "fake", LiveMigration = CanMigrate, SharedDisks = SharedDisks };

    public bool SharedDisks { get; set; }

    public string Image { get; set; } = "1";

    public MoveContext Hand { get; } = new() { By = "tester (process 1 on HERE)" };

    public void MakeMover() => Mover = new Mover(Pool, this, this, this, State, Time, seed: 1);

    /// <summary>As after a kill: a new process opens the folder.</summary>
    public void Reopen()
    {
        State.Dispose();
        State = StateFolder.Open(StatePath, create: true);
        MakeMover();
    }

    public Server Add(string name, Stage stage, string? host, string service = "FINANCE")
    {
        var id = Guid.NewGuid();
        var server = new Server
        {
            Place = stage is Stage.Nest ? Place.Nest : stage is Stage.Disposed ? Place.Disposed : Place.Host,
            Host = host,
            Power = stage is Stage.Chamber or Stage.Matrix ? PowerState.Running : PowerState.Saved,
            Mark = new ServerMark { ServerId = id, Name = name, Service = service, Image = "1", Stage = stage, StateId = State.Id, CreatedAt = Time.GetUtcNow(), ChangedAt = Time.GetUtcNow(), MachineId = id.ToString() },
        };
        if (server.Power is PowerState.Running)
            server.Address = NewAddress();
        Servers[id] = server;
        if (stage is Stage.Matrix)
            Members[id] = (server.Address!, MemberState.Ready, 0);
        return server;
    }

    public Move Move(Server server, MoveKind kind, Stage to, string? host = null, params Guid[] after) => new()
    {
        Id = Guid.NewGuid(),
        Kind = kind,
        ServerId = server.Mark.ServerId,
        ServerName = server.Mark.Name,
        Service = server.Mark.Service,
        FromStage = server.Mark.Stage,
        FromHost = server.Host,
        Generation = server.Mark.Generation,
        ToStage = to,
        ToHost = host,
        Reason = "test",
        DependsOn = after,
    };

    public Move Create(string service = "FINANCE") => new()
    {
        Id = Guid.NewGuid(),
        Kind = MoveKind.Create,
        ServerId = Guid.NewGuid(),
        ServerName = service + "-9",
        Service = service,
        FromStage = Stage.Nest,
        ToStage = Stage.Nest,
        Reason = "test",
    };

    public async Task<MoveRecord> CarryOut(Move move, CancellationToken cancellation = default) =>
        (await Mover.CarryOutAsync([move], Hand, null, cancellation))[0];

    /// <summary>What must hold whenever nothing is under way.</summary>
    public void AssertWhole()
    {
        foreach (var (id, server) in Servers)
        {
            var expected = server.Mark.Stage switch { Stage.Nest => Place.Nest, Stage.Disposed => Place.Disposed, _ => Place.Host };
            Xunit.Assert.True(server.Place == expected, $"{server.Mark.Name} is marked {server.Mark.Stage} and is in the {server.Place}");
            Xunit.Assert.True(server.Place is Place.Host || server.Power is not PowerState.Running, $"{server.Mark.Name} runs in the {server.Place}");
            Xunit.Assert.True(server.Place is not Place.Host || server.Power is PowerState.Running, $"{server.Mark.Name} is asleep on {server.Host}");
            Xunit.Assert.True((server.Mark.Stage is Stage.Matrix) == Members.ContainsKey(id), $"{server.Mark.Name} is in the {server.Mark.Stage} and a member: {Members.ContainsKey(id)}");
            if (Members.TryGetValue(id, out var member))
            {
                Xunit.Assert.Equal(server.Address, member.Address);
                Xunit.Assert.Equal(MemberState.Ready, member.State);
            }
        }
        Xunit.Assert.All(Members.Keys, id => Xunit.Assert.True(Servers.ContainsKey(id)));
        Xunit.Assert.Empty(Directory.GetFiles(Path.Combine(StatePath, "moves")));
    }

    public void Dispose()
    {
        State.Dispose();
        if (Directory.Exists(StatePath))
        {
            if (!OperatingSystem.IsWindows())
                File.SetUnixFileMode(StatePath, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            Directory.Delete(StatePath, recursive: true);
        }
    }

    // ------------------------------------------------------------------ hypervisor

    public async Task<HostReport> ReadHostAsync(HostSpec host, CancellationToken cancellation)
    {
        await Enter("readhost", default, Guid.Empty, host.Name, cancellation, change: false);
        return new HostReport { Host = host.Name, Machines = [.. Servers.Values.Where(s => s.Place is Place.Host && s.Host == host.Name).Select(s => s.ToMachine()), .. Foreign.Values.Where(s => s.Place is Place.Host && s.Host == host.Name).Select(s => s.ToMachine() with { Mark = null })] };
    }

    public async Task<NestReport> ReadNestAsync(CancellationToken cancellation)
    {
        await Enter("readnest", default, Guid.Empty, null, cancellation, change: false);
        return new NestReport
        {
            Dormant = [.. Servers.Values.Where(s => s.Place is Place.Nest).Select(s => s.ToMachine())],
            Disposed = [.. Servers.Values.Where(s => s.Place is Place.Disposed).Select(s => s.ToMachine())],
            Images = Pool.Services.ToDictionary(s => s.Name, _ => Image),
        };
    }

    public async Task<string> PrepareImageAsync(DriverCall call, ServiceSpec service, HostSpec on, IProgress<string>? progress, CancellationToken cancellation)
    {
        await Enter("image", call, Guid.Empty, on.Name, cancellation);
        return Image;
    }

    public HashSet<string> Versions { get; } = ["1"];

    public async Task<PublishedImage> PublishImageAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec? on, CancellationToken cancellation)
    {
        var version = "of " + call.MoveId;
        await Do("publish", call, server, on?.Name, () =>
        {
            var s = Servers[server];
            Require(on is null ? s.Place is Place.Nest : s.Host == on.Name, "publish");
            Versions.Add(version);
        }, cancellation);
        return new PublishedImage { Service = service.Name, Version = version, From = Servers[server].Mark.Image, ServerId = server, ServerName = Servers[server].Mark.Name, Bytes = 1, At = Time.GetUtcNow() };
    }

    public Task SelectImageAsync(DriverCall call, ServiceSpec service, string version, CancellationToken cancellation) => Do("select", call, Guid.Empty, null, () =>
    {
        Require(Versions.Contains(version), "select");
        Image = version;
    }, cancellation);

    public Task CreateAsync(DriverCall call, ServerMark mark, ServiceSpec service, CancellationToken cancellation) => Do("create", call, mark.ServerId, null, () =>
    {
        if (!Servers.ContainsKey(mark.ServerId))
            Servers[mark.ServerId] = new Server { Mark = mark with { MachineId = mark.ServerId.ToString() }, Place = Place.Nest, Power = PowerState.Saved };
    }, cancellation);

    public Task FetchAsync(DriverCall call, Guid server, HostSpec to, CancellationToken cancellation) => Do("fetch", call, server, to.Name, () =>
    {
        var s = Servers[server];
        Require(s.Place is Place.Nest || (s.Place is Place.Host && s.Host == to.Name), "fetch");
        (s.Place, s.Host) = (Place.Host, to.Name);
    }, cancellation);

    public Task StowAsync(DriverCall call, Guid server, HostSpec from, CancellationToken cancellation) => Do("stow", call, server, from.Name, () =>
    {
        var s = Servers[server];
        Require(s.Power is not PowerState.Running && (s.Place is Place.Nest || s.Host == from.Name), "stow");
        (s.Place, s.Host) = (Place.Nest, null);
    }, cancellation);

    public Task CarryAsync(DriverCall call, Guid server, HostSpec from, HostSpec to, CancellationToken cancellation) => Do("carry", call, server, to.Name, () =>
    {
        var s = Servers[server];
        Require(s.Power is not PowerState.Running && s.Place is Place.Host && (s.Host == from.Name || s.Host == to.Name) && (SharedDisks || !DownHosts.Contains(from.Name)), "carry");
        Require(!DownHosts.Contains(to.Name), "carry to a host that is down");
        s.Host = to.Name;
    }, cancellation);

    public async Task<string> StartAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec on, CancellationToken cancellation)
    {
        var address = "";
        await Do("start", call, server, on.Name, () =>
        {
            var s = Servers[server];
            Require(s.Place is Place.Host && s.Host == on.Name, "start");
            if (s.Power is not PowerState.Running)
                (s.Power, s.Address) = (PowerState.Running, NewAddress());
            address = s.Address!;
        }, cancellation);
        return address;
    }

    public Task SaveAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) => Do("save", call, server, on.Name, () =>
    {
        var s = Servers[server];
        Require(s.Place is Place.Host && s.Host == on.Name && s.Power is PowerState.Running or PowerState.Saved, "save");
        (s.Power, s.Address) = (PowerState.Saved, null);
    }, cancellation);

    public Task StopAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) => Do("stop", call, server, on.Name, () =>
    {
        var s = Servers[server];
        Require(s.Place is Place.Host && s.Host == on.Name, "stop");
        (s.Power, s.Address) = (PowerState.Off, null);
    }, cancellation);

    public async Task<string> MigrateAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec from, HostSpec to, CancellationToken cancellation)
    {
        await Do("migrate", call, server, to.Name, () =>
        {
            var s = Servers[server];
            Require(s.Power is PowerState.Running && (s.Host == from.Name || s.Host == to.Name), "migrate");
            if (s.Host != to.Name)
                (s.Host, s.Address) = (to.Name, NewAddress());
        }, cancellation);
        return Servers[server].Address!;
    }

    public Task MarkAsync(DriverCall call, ServerMark mark, HostSpec? on, CancellationToken cancellation) => Do("mark", call, mark.ServerId, on?.Name, () =>
    {
        var s = Servers[mark.ServerId];
        Require(on is null ? s.Place is not Place.Host : s.Host == on.Name, "mark");
        s.Mark = mark;
    }, cancellation);

    public Task DiscardAsync(DriverCall call, Guid server, HostSpec? from, CancellationToken cancellation) => Do("discard", call, server, from?.Name, () =>
    {
        var s = Servers[server];
        Require(s.Power is not PowerState.Running && (s.Place is Place.Disposed || (from is null ? s.Place is Place.Nest : s.Host == from.Name)), "discard");
        (s.Place, s.Host) = (Place.Disposed, null);
    }, cancellation);

    public Task RecoverAsync(DriverCall call, Guid server, CancellationToken cancellation) => Do("recover", call, server, null, () =>
    {
        var s = Servers[server];
        Require(s.Place is Place.Disposed or Place.Nest, "recover");
        s.Place = Place.Nest;
    }, cancellation);

    public Task EraseAsync(DriverCall call, Guid server, CancellationToken cancellation) => Do("erase", call, server, null, () =>
    {
        Require(!Servers.TryGetValue(server, out var s) || s.Place is Place.Disposed, "erase");
        Servers.Remove(server);
    }, cancellation);

    /// <summary>Machines that are not ours, by the id that they were or will be servers under.</summary>
    public Dictionary<Guid, Server> Foreign { get; } = [];

    public Task AdoptAsync(DriverCall call, string machineId, ServerMark mark, HostSpec? on, CancellationToken cancellation) => Do("adopt", call, mark.ServerId, on?.Name, () =>
    {
        if (!Servers.TryGetValue(mark.ServerId, out var s))
        {
            var (id, foreign) = Foreign.Single(f => f.Value.Mark.MachineId == machineId);
            Foreign.Remove(id);
            Servers[mark.ServerId] = s = foreign;
        }
        Require(s.Host == on?.Name && s.Mark.MachineId == machineId, "adopt");
        s.Mark = mark with { MachineId = machineId };
    }, cancellation);

    public Task ReleaseAsync(DriverCall call, Guid server, HostSpec? on, CancellationToken cancellation) => Do("release", call, server, on?.Name, () =>
    {
        if (!Servers.Remove(server, out var s))
            return;
        Require(s.Host == on?.Name && !Members.ContainsKey(server), "release");
        Foreign[server] = s;
    }, cancellation);

    public Task<IReadOnlyList<MoveObstacle>> CompareAsync(Guid server, ServiceSpec service, HostSpec? from, HostSpec to, bool live, CancellationToken cancellation) => Task.FromResult<IReadOnlyList<MoveObstacle>>([]);

    public bool CanProve { get; set; }

    public Task<bool> ProveStoppedAsync(Guid server, HostSpec on, CancellationToken cancellation) => Task.FromResult(CanProve);

    // ------------------------------------------------------------------ balancer and health

    public Task EnsureAsync(CancellationToken cancellation) => Task.CompletedTask;

    /// <summary>What a balancer tells that takes no servers; null for one that does.</summary>
    public VMatrixException? Refusal { get; set; }

    public Task<IReadOnlyList<BalancerFinding>> ExamineAsync(bool trial, CancellationToken cancellation) => Task.FromResult<IReadOnlyList<BalancerFinding>>([]);

    public Task<string?> FindRefusalAsync(ServiceSpec service, CancellationToken cancellation) =>
        Refusal is null ? Task.FromResult<string?>(null) : Refusal.Id == "told" ? Task.FromResult<string?>(Refusal.Message) : Task.FromException<string?>(Refusal);

    public async Task<BalancerReport> ReadAsync(CancellationToken cancellation)
    {
        await EnterBalancer("readbalancer", default, Guid.Empty, cancellation);
        return new BalancerReport
        {
            At = Time.GetUtcNow(),
            Incarnation = "1",
            Members = [.. Members.Select(m => new BalancerMember { Service = Servers.TryGetValue(m.Key, out var s) ? s.Mark.Service : "FINANCE", ServerId = m.Key, Address = m.Value.Address, State = m.Value.State, Open = m.Value.Open })],
            Services = [],
        };
    }

    public async Task JoinAsync(DriverCall call, ServiceSpec service, Guid server, string address, CancellationToken cancellation)
    {
        await EnterBalancer("join", call, server, cancellation);
        Require(Servers.Values.Any(s => s.Address == address && s.Power is PowerState.Running), "join of what does not answer");
        Members[server] = (address, MemberState.Ready, 0);
        Leave("join", server, null);
    }

    public async Task DrainAsync(DriverCall call, string service, Guid server, CancellationToken cancellation)
    {
        await EnterBalancer("drain", call, server, cancellation);
        if (Members.TryGetValue(server, out var m))
            Members[server] = m with { State = MemberState.Draining };
        Leave("drain", server, null);
    }

    public async Task LeaveAsync(DriverCall call, string service, Guid server, CancellationToken cancellation)
    {
        await EnterBalancer("leave", call, server, cancellation);
        Members.Remove(server);
        Leave("leave", server, null);
    }

    public Task StopAsync(CancellationToken cancellation) => Task.CompletedTask;

    public async Task<string?> CheckAsync(ServiceSpec service, string address, CancellationToken cancellation)
    {
        await Task.Delay(TimeSpan.FromMilliseconds(1), Pace, cancellation);
        var server = Servers.Values.Concat(Foreign.Values).FirstOrDefault(s => s.Address == address);
        return server is null ? "connection refused" : HealthOf(server.Mark.Name);
    }

    public ValueTask DisposeAsync() => default;

    // ------------------------------------------------------------------

    private string NewAddress() => $"127.0.0.1:{++_port}";

    private async Task Do(string op, DriverCall call, Guid server, string? host, Action effect, CancellationToken cancellation)
    {
        await Enter(op, call, server, host, cancellation);
        effect();
        Leave(op, server, host);
    }

    private async Task Enter(string op, DriverCall call, Guid server, string? host, CancellationToken cancellation, bool change = true)
    {
        await Task.Delay(Short, Pace, cancellation);
        if (_hang is { } hang && hang.Op == op)
        {
            try
            {
                await Task.Delay(Timeout.InfiniteTimeSpan, Pace, cancellation);
            }
            finally
            {
                hang.Cancelled();
            }
        }
        if (change)
        {
            Log.Add(op);
            if (call.Epoch > 0 && call.Epoch < HighestEpoch)
                throw new VMatrixException("StaleEpoch", VMatrixErrorKind.Busy, $"Epoch {call.Epoch} is over.");
            HighestEpoch = Math.Max(HighestEpoch, call.Epoch);
        }
        if (host is not null && DownHosts.Contains(host))
            throw new VMatrixException("HostUnreachable", VMatrixErrorKind.Unreachable, $"{host} does not answer.") { IsTransient = true };
        if (Before?.Invoke(op, server, host) is { } e)
            throw e;
    }

    private async Task EnterBalancer(string op, DriverCall call, Guid server, CancellationToken cancellation)
    {
        if (BalancerDown)
        {
            await Task.Delay(Short, Pace, cancellation);
            throw new VMatrixException("BalancerUnreachable", VMatrixErrorKind.Unreachable, "The balancer does not answer.") { IsTransient = true };
        }
        await Enter(op, call, server, null, cancellation, change: op != "readbalancer");
    }

    private void Leave(string op, Guid server, string? host)
    {
        if (After?.Invoke(op, server, host) is { } e)
            throw e;
    }

    private static void Require(bool condition, string what)
    {
        if (!condition)
            throw new InvalidOperationException($"The mover asked for what cannot be: {what}.");
    }

    internal sealed class Server
    {
        public required ServerMark Mark { get; set; }

        public Place Place { get; set; }

        public string? Host { get; set; }

        public PowerState Power { get; set; }

        public string? Address { get; set; }

        /// <summary>So often its host answers that something works on it.</summary>
        public int ChangingFor { get; set; }

        public Machine ToMachine() => ChangingFor > 0 && ChangingFor-- > 0
            ? new() { MachineId = Mark.MachineId, Name = Mark.Name, Mark = Mark, Power = PowerState.Unknown, IsChanging = true, MemoryBytes = 128 << 20 }
            : new() { MachineId = Mark.MachineId, Name = Mark.Name, Mark = Mark, Power = Power, Address = Address, MemoryBytes = 128 << 20 };
    }

    /// <summary>Makes one kind of call hang until it is cancelled.</summary>
    internal sealed class Hang
    {
        public Hang(World world, string op) => world._hang = (op, () => Cancelled = true);

        public bool Cancelled { get; private set; }
    }

    internal enum Place
    {
        Nest,
        Host,
        Disposed,
    }
}
