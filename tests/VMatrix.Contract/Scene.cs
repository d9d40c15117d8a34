using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using Xunit;
using Xunit.Sdk;

namespace VMatrix.Contract;

/// <summary>A pool with its drivers, state folder and mover opened, as one process has them.</summary>
public sealed class Scene : IAsyncDisposable
{
    private readonly IBalancer _balancer;
    private int _number;

    private Scene(DriverWorld world, IHypervisor hypervisor, IBalancer balancer, IHealthProbe probe)
    {
        World = world;
        Hypervisor = hypervisor;
        _balancer = balancer;
        Probe = probe;
        State = StateFolder.Open(world.Pool.StateFolder, create: true);
        Mover = new Mover(world.Pool, hypervisor, balancer, probe, State, world.Clock, world.Seed);
    }

    public DriverWorld World { get; }

    public IHypervisor Hypervisor { get; }

    public IBalancer Balancer => _balancer;

    public IHealthProbe Probe { get; }

    public StateFolder State { get; }

    public Mover Mover { get; }

    public PoolSpec Pool => World.Pool;

    public ServiceSpec Finance => Pool.Services[0];

    /// <summary>The servers that were made here.</summary>
    public HashSet<Guid> Made { get; } = [];

    public static async Task<Scene> OpenAsync(DriverWorld world, Func<IHypervisor, IHypervisor>? around = null, Func<IBalancer, IBalancer>? aroundBalancer = null)
    {
        var hypervisor = world.OpenHypervisor();
        var balancer = world.OpenBalancer();
        await balancer.EnsureAsync(default);
        return new Scene(world, around?.Invoke(hypervisor) ?? hypervisor, aroundBalancer?.Invoke(balancer) ?? balancer, world.OpenProbe());
    }

    public HostSpec Host(int number) => Pool.Hosts.Where(host => host.Role == HostRole.Matrix).ElementAt(number - 1);

    public HostSpec HostFor(Stage stage) => stage == Stage.Chamber ? Pool.Hosts.First(host => host.Role == HostRole.Chamber) : Host(1);

    /// <summary>Where a server is, as drivers say; fails when it is not exactly once somewhere.</summary>
    public async Task<(Machine Machine, string? Host)> FindAsync(Guid server)
    {
        var found = await SightAsync(server);
        if (found.Count != 1)
            throw new XunitException($"Server {server} exists {found.Count} times: {string.Join(", ", found.Select(copy => $"{copy.Machine.Power} in {copy.Host ?? "the nest"}"))}.");
        return found[0];
    }

    public async Task<IReadOnlyList<(Machine Machine, string? Host)>> SightAsync(Guid server)
    {
        var found = new List<(Machine, string?)>();
        var nest = await Hypervisor.ReadNestAsync(default);
        found.AddRange(nest.Dormant.Concat(nest.Disposed).Where(machine => machine.Mark?.ServerId == server).Select(machine => (machine, (string?)null)));
        foreach (var host in Pool.Hosts)
            found.AddRange((await Hypervisor.ReadHostAsync(host, default)).Machines.Where(machine => machine.Mark?.ServerId == server).Select(machine => (machine, (string?)host.Name)));
        return found;
    }

    /// <summary>The move that makes a server.</summary>
    public Move Create(Guid? id = null, ServiceSpec? service = null) => new()
    {
        Id = Guid.NewGuid(),
        Kind = MoveKind.Create,
        ServerId = id ?? Guid.NewGuid(),
        ServerName = $"{(service ?? Finance).Name}-{++_number}",
        Service = (service ?? Finance).Name,
        FromStage = Stage.Nest,
        ToStage = Stage.Nest,
        Reason = "a test",
    };

    /// <summary>The move that takes a server from where it is to a stage, a host, or both.</summary>
    public async Task<Move> PlanAsync(Guid server, Stage to, HostSpec? host = null, bool live = false)
    {
        var (machine, from) = await FindAsync(server);
        var mark = machine.Mark!;
        return new Move
        {
            Id = Guid.NewGuid(),
            Kind = (mark.Stage, to) switch
            {
                (Stage.Disposed, Stage.Disposed) => MoveKind.Purge,
                (_, Stage.Disposed) => MoveKind.Dispose,
                (Stage.Disposed, _) => MoveKind.Undo,
                (Stage.Nest, _) => MoveKind.Wake,
                (_, Stage.Nest) => MoveKind.Hibernate,
                _ => MoveKind.Relocate,
            },
            ServerId = server,
            ServerName = mark.Name,
            Service = mark.Service,
            FromStage = mark.Stage,
            FromHost = from,
            Generation = mark.Generation,
            ToStage = to,
            ToHost = to is Stage.Chamber or Stage.Matrix ? (host ?? HostFor(to)).Name : null,
            Live = live,
            Reason = "a test",
        };
    }

    /// <summary>Carries a move out; one that no plan may hold, because it puts right what no journal tells of, is found by the mover itself.</summary>
    public async Task<MoveRecord> CarryOutAsync(Move move, CancellationToken cancellation = default) =>
        Assert.Single(move is { Kind: MoveKind.Hibernate, FromStage: Stage.Nest }
            ? await Mover.MendAsync(Context(), null, cancellation)
            : await Mover.CarryOutAsync([move], Context(), null, cancellation));

    public MoveContext Context(long epoch = 0) => new() { By = StateFolder.Describe("contract"), Epoch = epoch };

    public async Task<MoveRecord> MoveAsync(Guid server, Stage to, HostSpec? host = null, bool live = false)
    {
        var record = await CarryOutAsync(await PlanAsync(server, to, host, live));
        Assert.True(record.Status == MoveStatus.Done, $"{record.Move.Kind} to {to} ended {record.Status} in {record.Step}: {record.Error}");
        return record;
    }

    /// <summary>A new server, taken to a stage by moves.</summary>
    public async Task<Guid> MakeAsync(Stage stage, HostSpec? host = null, ServiceSpec? service = null)
    {
        var create = Create(service: service);
        var record = await CarryOutAsync(create);
        Assert.True(record.Status == MoveStatus.Done, $"Create ended {record.Status} in {record.Step}: {record.Error}");
        Made.Add(create.ServerId);
        if (stage != Stage.Nest)
            await MoveAsync(create.ServerId, stage, host);
        return create.ServerId;
    }

    /// <summary>Everything that must hold when no move is under way.</summary>
    public async Task CheckAsync(IReadOnlyCollection<Guid>? broken = null)
    {
        var wrong = await Invariants.CheckAsync(Pool, World.OpenHypervisor(), World.OpenBalancer(), Probe, Made, broken ?? []);
        Assert.True(wrong.Count == 0, string.Join("\n", wrong.Prepend("Seed " + World.Seed)));
        var left = World.Leftovers(Made);
        Assert.True(left.Count == 0, string.Join("\n", left));
    }

    /// <summary>Disposes of and purges every server that was made here.</summary>
    public async Task ClearAsync()
    {
        foreach (var server in Made.ToArray())
        {
            if ((await SightAsync(server)).Count > 0)
            {
                if ((await FindAsync(server)).Machine.Mark!.Stage != Stage.Disposed)
                    await MoveAsync(server, Stage.Disposed);
                await MoveAsync(server, Stage.Disposed);
            }

            Made.Remove(server);
        }
    }

    public async ValueTask DisposeAsync()
    {
        State.Dispose();
        await _balancer.DisposeAsync();
        await Hypervisor.DisposeAsync();
    }
}
