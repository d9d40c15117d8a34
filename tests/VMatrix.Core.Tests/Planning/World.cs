using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Drivers;
using VMatrix.Planning;

namespace VMatrix.Tests.Planning;

/// <summary>A small pool that carries plans out at once, for tests of the planner.</summary>
internal sealed class World
{
    public static readonly DateTimeOffset Start = new(2026, 3, 2, 12, 0, 0, TimeSpan.Zero);

    private readonly Dictionary<string, List<ServiceLoad>> _loads = [];

    public World(int hosts, params ServiceSpec[] services)
    {
        Pool = new PoolSpec
        {
            Name = "test",
            Path = "/pool.yaml",
            StateFolder = "/state",
            Hypervisor = "simulation",
            Hosts = Enumerable.Range(1, hosts).Select(i => new HostSpec { Name = $"host{i}", MemoryBytes = 1L << 30 }).ToArray(),
            Services = services,
            Nest = new NestSpec { Folder = "/nest" },
            Balancer = new BalancerSpec { Kind = "simulation" },
            Oracle = new OracleSpec { Interval = TimeSpan.FromSeconds(1), Calm = TimeSpan.FromSeconds(10) },
        };
        HostStates = Pool.Hosts.Select(h => new HostState { Name = h.Name }).ToList();
    }

    public PoolSpec Pool { get; set; }

    public List<HostState> HostStates { get; }

    public List<ServerState> Servers { get; } = [];

    public PlannerMemory? Memory { get; set; }

    public Dictionary<string, int> Pinned { get; } = [];

    public DateTimeOffset Now { get; set; } = Start;

    public static ServiceSpec Service(string name, double priority = 1, int least = 1, int most = 100, double? capacity = 5) =>
        new() { Name = name, Priority = priority, Least = least, Most = most, Capacity = capacity, Image = new ImageSpec() };

    public ServerState Add(string service, Stage stage, string? host = null)
    {
        int n = Servers.Count + 1;
        var server = new ServerState
        {
            Mark = new ServerMark
            {
                ServerId = new Guid(n, 0, 0, new byte[8]),
                Name = $"{service}-{n}",
                Service = service,
                Image = "1",
                Stage = stage,
                StateId = Guid.Empty,
                CreatedAt = Start,
                ChangedAt = Start,
            },
            Host = host,
            Power = stage == Stage.Matrix ? PowerState.Running : PowerState.Saved,
            Health = stage == Stage.Matrix ? ServerHealth.Healthy : ServerHealth.Unknown,
            MemoryBytes = 128L << 20,
        };
        Servers.Add(server);
        return server;
    }

    public void Change(ServerState server, Func<ServerState, ServerState> change) =>
        Servers[Servers.FindIndex(s => s.Mark.ServerId == server.Mark.ServerId)] = change(server);

    public void Load(string service, double rate, int queue = 0, string? bad = null, double? served = null)
    {
        if (!_loads.TryGetValue(service, out var list))
            _loads[service] = list = [];
        list.Add(new ServiceLoad { Service = service, At = Now, RequestRate = rate, ServedRate = served ?? rate, Queue = queue, Bad = bad });
    }

    public PlannerInput Input() => new()
    {
        Pool = Pool,
        Now = Now,
        Hosts = HostStates.ToArray(),
        Servers = Servers.ToArray(),
        Loads = _loads.ToDictionary(p => p.Key, p => (IReadOnlyList<ServiceLoad>)p.Value.ToArray()),
        Memory = Memory,
        Pinned = Pinned,
        Seed = 7,
    };

    /// <summary>Plans, keeps the memory, and carries nothing out.</summary>
    public Plan Plan()
    {
        var output = Planner.Plan(Input());
        Memory = output.Memory;
        return output.Plan;
    }

    public int Live(string service) => Servers.Count(s => s.Mark.Service == service && s.Mark.Stage == Stage.Matrix);

    /// <summary>Carries a plan out, checking each move's preconditions and that dedicated hosts hold one server.</summary>
    public void Apply(Plan plan)
    {
        var done = new HashSet<Guid>();
        foreach (var move in plan.Moves)
        {
            if (!move.DependsOn.All(done.Contains))
                throw new InvalidOperationException($"{move.Kind} of {move.ServerName} comes before a move that it depends on");
            done.Add(move.Id);
            if (move.Kind == MoveKind.Create)
            {
                Servers.Add(new ServerState
                {
                    Mark = new ServerMark
                    {
                        ServerId = move.ServerId,
                        Name = move.ServerName,
                        Service = move.Service,
                        Image = "1",
                        Stage = Stage.Nest,
                        StateId = Guid.Empty,
                        CreatedAt = Now,
                        ChangedAt = Now,
                    },
                    Power = PowerState.Off,
                    MemoryBytes = 128L << 20,
                });
                continue;
            }

            int i = Servers.FindIndex(s => s.Mark.ServerId == move.ServerId);
            var server = Servers[i];
            if (server.Mark.Stage != move.FromStage || server.Host != move.FromHost || server.Mark.Generation != move.Generation || server.Claimed)
                throw new InvalidOperationException($"a precondition of {move.Kind} of {move.ServerName} does not hold");
            if (!StageRules.IsLegal(move.FromStage, move.ToStage))
                throw new InvalidOperationException(StageRules.Describe(move.FromStage, move.ToStage));
            Servers[i] = server with
            {
                Mark = server.Mark with { Stage = move.ToStage, Generation = server.Mark.Generation + 1, ChangedAt = Now },
                Host = move.ToHost,
                Power = move.ToStage == Stage.Matrix ? PowerState.Running : PowerState.Saved,
                Health = move.ToStage == Stage.Matrix ? ServerHealth.Healthy : ServerHealth.Unknown,
            };
            Check();
        }
    }

    /// <summary>No rule of the pool is broken.</summary>
    public void Check()
    {
        var services = Pool.Services.ToDictionary(s => s.Name);
        foreach (var group in Servers.Where(s => s.Mark.Stage == Stage.Matrix).GroupBy(s => s.Host))
        {
            var host = Pool.Hosts.Single(h => h.Name == group.Key);
            if (group.Any(s => services[s.Mark.Service].Isolation == Isolation.Dedicated) && group.Count() > 1)
                throw new InvalidOperationException($"{group.Key} holds {group.Count()} servers, one of which shares with no other");
            if (group.Sum(s => s.MemoryBytes) > host.MemoryBytes || group.Count() > (host.MostServers ?? int.MaxValue))
                throw new InvalidOperationException($"{group.Key} is over its limits");
        }
    }
}
