using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.Moves;

namespace VMatrix.Bench;

/// <summary>Lives of a mover that end in a kill, then one that is let to put all right, after which everything must hold; again and again.</summary>
internal abstract class Soak(int seed)
{
    protected const int Servers = 10;

    private readonly HashSet<Guid> _must = [];
    private readonly HashSet<Guid> _may = [];
    private readonly SortedDictionary<string, int> _ended = new(StringComparer.Ordinal);
    private int _named;

    protected abstract PoolSpec Pool { get; }

    protected Random Random { get; } = new(seed);

    protected int Kills { get; set; }

    protected int KillsAtPoints { get; set; }

    protected int LostHosts { get; set; }

    protected int Broken { get; set; }

    /// <summary>The servers that must exist.</summary>
    protected IReadOnlyCollection<Guid> Must => _must;

    /// <summary>Servers that the pool has when a life begins.</summary>
    protected virtual int Most => Servers;

    /// <summary>What a kill is here.</summary>
    protected abstract string Explanation { get; }

    /// <summary>More of the run, for a line of what was done.</summary>
    protected virtual string More => "";

    /// <summary>The life of one process, one that ends in a kill or one that puts all right.</summary>
    protected abstract void Live(bool kill);

    /// <summary>What is left over that belongs to none of the known servers.</summary>
    protected abstract IReadOnlyList<string> Leftovers(IReadOnlyCollection<Guid> known);

    public int Run(TimeSpan time, int mostKills)
    {
        Console.WriteLine($"soak, seed {seed}. {Explanation}");
        var watch = Stopwatch.StartNew();
        var told = TimeSpan.FromSeconds(15);
        try
        {
            while (watch.Elapsed < time && (mostKills == 0 || Kills < mostKills))
            {
                // Lives that end in a kill, sometimes while they take up what the one before left; then one that is let to put all right.
                var before = Kills;
                while (Kills == before)
                    Live(kill: true);
                while (Random.Next(3) == 0)
                    Live(kill: true);
                Live(kill: false);
                if (watch.Elapsed > told)
                {
                    Tell(watch.Elapsed);
                    told = watch.Elapsed + TimeSpan.FromSeconds(15);
                }
            }
        }
        catch (Exception error)
        {
            Tell(watch.Elapsed);
            Console.WriteLine($"FAILED with seed {seed} after kill {Kills}: {error}");
            return 1;
        }

        Tell(watch.Elapsed);
        Console.WriteLine($"{Kills} kills survived: nothing lost, doubled or left over. Seed {seed}.");
        return 0;
    }

    private void Tell(TimeSpan elapsed) => Console.WriteLine(
        $"{elapsed:hh\\:mm\\:ss}  {Kills} kills ({KillsAtPoints} at named points), {LostHosts} hosts lost, {Broken} guests broken{More}; moves {string.Join(", ", _ended.Select(ended => $"{ended.Value} {ended.Key}"))}");

    /// <summary>All is reachable again: after what cut-short moves, lost hosts and broken guests need, everything must hold.</summary>
    protected async Task PutRightAsync(Mover mover, MoveContext context, StateFolder state, IHypervisor hypervisor, IBalancer balancer, IHealthProbe probe, TimeProvider clock)
    {
        for (var turn = 0; turn < 20 && state.ReadOpenMoves().Count > 0; turn++)
            Count(await mover.RecoverAsync(context, null, default));
        Count(await mover.MendAsync(context, null, default));
        foreach (var host in state.Overrides.ReadHosts(clock.GetUtcNow()))
            state.Overrides.ClearHost(host.Host);

        // Guests that hang or died are disposed of, as the Oracle does.
        var ill = new List<Move>();
        foreach (var host in Pool.Hosts)
        {
            foreach (var machine in (await hypervisor.ReadHostAsync(host, default)).Machines)
            {
                if (machine.Power != PowerState.Running || await probe.CheckAsync(Pool.Services.First(service => service.Name == machine.Mark!.Service), machine.Address!, default) is not null)
                    ill.Add(ToMove(machine.Mark!, host.Name, MoveKind.Dispose, Stage.Disposed, null));
            }
        }

        foreach (var move in ill)
        {
            for (var turn = 0; turn < 20; turn++)
            {
                var record = (await mover.CarryOutAsync([move with { Id = NewId() }], context, null, default))[0];
                Count([record]);
                if (record.Status == MoveStatus.Done || (await mover.RecoverAsync(context, null, default)).Any(recovered => recovered.Status == MoveStatus.Done))
                    break;
            }
        }

        // What passing failures keep from the balancer is tried again.
        for (var turn = 0; turn < 20; turn++)
        {
            try
            {
                var result = await mover.ReconcileAsync(context, null, default);
                Count(result.Joined);
                if (result.Problems.Count == 0 && result.Joined.All(record => record.Status == MoveStatus.Done))
                    break;
            }
            catch (VMatrixException error) when (error.IsTransient)
            {
            }
        }

        var wrong = await RetryAsync(() => Invariants.CheckAsync(Pool, hypervisor, balancer, probe, _must, []));
        var left = Leftovers([.. _must, .. _may]);
        if (wrong.Count + left.Count > 0)
            throw new InvalidOperationException(string.Join("\n", wrong.Concat(left)));

        // A create or a purge that was cut short has settled by now.
        var exist = await AllAsync(hypervisor);
        _must.Clear();
        _must.UnionWith(exist.Select(found => found.Mark.ServerId));
        _may.Clear();
    }

    private async Task<List<(ServerMark Mark, string? Host)>> AllAsync(IHypervisor hypervisor)
    {
        var nest = await hypervisor.ReadNestAsync(default);
        var all = nest.Dormant.Concat(nest.Disposed).Where(machine => machine.Mark is not null).Select(machine => (machine.Mark!, (string?)null)).ToList();
        foreach (var host in Pool.Hosts)
        {
            try
            {
                all.AddRange((await hypervisor.ReadHostAsync(host, default)).Machines.Where(machine => machine.Mark is not null).Select(machine => (machine.Mark!, (string?)host.Name)));
            }
            catch (VMatrixException)
            {
                // It is lost for now, and so are its servers from our sight.
            }
        }

        return all;
    }

    protected async Task<IReadOnlyList<Move>> PlanAsync(IHypervisor hypervisor)
    {
        var moves = new List<Move>();
        var all = await AllAsync(hypervisor);
        for (var i = all.Count; i < Most; i++)
        {
            var service = Pool.Services[Random.Next(2)].Name;
            var create = new Move { Id = NewId(), Kind = MoveKind.Create, ServerId = NewId(), ServerName = $"{service}-{++_named}", Service = service, FromStage = Stage.Nest, ToStage = Stage.Nest, Reason = "soak" };
            _may.Add(create.ServerId);
            moves.Add(create);
        }

        foreach (var (mark, host) in all)
        {
            var to = mark.Stage switch
            {
                Stage.Nest => Pick((Stage.Matrix, 6), (Stage.Chamber, 2), (Stage.Disposed, 1)),
                Stage.Chamber => Pick((Stage.Matrix, 3), (Stage.Nest, 3), (Stage.Disposed, 1)),
                Stage.Matrix => Pick((Stage.Matrix, 5), (Stage.Nest, 4), (Stage.Chamber, 2), (Stage.Disposed, 1)),
                _ => Pick((Stage.Nest, 2), (Stage.Disposed, 2)),
            };
            if (Random.Next(4) == 0)
                continue;
            var others = Pool.Hosts.Where(other => other.Role == HostRole.Matrix && other.Name != host).ToArray();
            var move = ToMove(mark, host, (mark.Stage, to) switch
            {
                (Stage.Disposed, Stage.Disposed) => MoveKind.Purge,
                (Stage.Disposed, _) => MoveKind.Undo,
                (_, Stage.Disposed) => MoveKind.Dispose,
                (Stage.Nest, _) => MoveKind.Wake,
                (_, Stage.Nest) => MoveKind.Hibernate,
                _ => MoveKind.Relocate,
            }, to, to switch { Stage.Matrix => others[Random.Next(others.Length)].Name, Stage.Chamber => "chamber", _ => null });
            if (move.Kind == MoveKind.Purge)
            {
                _must.Remove(mark.ServerId);
                _may.Add(mark.ServerId);
            }

            moves.Add(move);
        }

        return moves;
    }

    private Move ToMove(ServerMark mark, string? host, MoveKind kind, Stage to, string? toHost) => new()
    {
        Id = NewId(),
        Kind = kind,
        ServerId = mark.ServerId,
        ServerName = mark.Name,
        Service = mark.Service,
        FromStage = mark.Stage,
        FromHost = host,
        Generation = mark.Generation,
        ToStage = to,
        ToHost = toHost,
        Live = Random.Next(2) == 0,
        Reason = "soak",
    };

    protected static async Task<T> RetryAsync<T>(Func<Task<T>> call)
    {
        for (var turn = 0; ; turn++)
        {
            try
            {
                return await call();
            }
            catch (VMatrixException error) when (error.IsTransient && turn < 20)
            {
            }
        }
    }

    protected static Task RetryAsync(Func<Task> call) => RetryAsync(async () =>
    {
        await call();
        return true;
    });

    protected T Pick<T>(params (T Value, int Weight)[] choices)
    {
        var at = Random.Next(choices.Sum(choice => choice.Weight));
        foreach (var (value, weight) in choices)
        {
            if ((at -= weight) < 0)
                return value;
        }

        throw new InvalidOperationException("No choice.");
    }

    private Guid NewId()
    {
        var bytes = new byte[16];
        Random.NextBytes(bytes);
        return new Guid(bytes);
    }

    protected void Count(IReadOnlyList<MoveRecord> records)
    {
        foreach (var record in records)
        {
            var key = record.Status.ToString().ToLowerInvariant();
            _ended[key] = _ended.TryGetValue(key, out var count) ? count + 1 : 1;
        }
    }
}
