using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Planning;

namespace VMatrix;

/// <summary>What the hypervisor says of a whole pool at one moment: every host and the nest, asked and not remembered.</summary>
internal sealed class Observation
{
    private readonly Dictionary<Guid, (Machine Machine, string? Host, Stage Stage)> _servers = [];
    private readonly Dictionary<string, long> _foreignBytes = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<string, HostReport?> _hosts = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<string, string> _hostProblems = new(StringComparer.OrdinalIgnoreCase);
    private readonly List<string> _problems = [];
    private readonly List<ForeignMachine> _foreign = [];
    private readonly List<ServerInfo> _coming = [];
    private readonly Dictionary<(string MachineId, string? Host), Guid> _others = [];
    private readonly Guid? _stateId;
    private IReadOnlyDictionary<string, string> _images = new Dictionary<string, string>();

    private Observation(Guid? stateId) => _stateId = stateId;

    /// <summary>The newest image version by service.</summary>
    public IReadOnlyDictionary<string, string> Images => _images;

    /// <summary>What is wrong in the pool, as sentences.</summary>
    public IReadOnlyList<string> Problems => _problems;

    /// <summary>Every machine that is not a server of this pool.</summary>
    public IReadOnlyList<ForeignMachine> Foreign => _foreign;

    /// <summary>Every server, disposed ones included.</summary>
    public IEnumerable<ServerInfo> Servers => _servers.Values.Select(s => ToInfo(s.Machine, s.Host, s.Stage));

    /// <summary>The servers on a host, and those that moves which are to go at the same time bring there.</summary>
    public IEnumerable<ServerInfo> On(HostSpec host) => Servers.Concat(_coming).Where(s => string.Equals(s.Host, host.Name, StringComparison.OrdinalIgnoreCase));

    /// <summary>Counts servers where moves will bring them, and where they are until then.</summary>
    public void Expect(IEnumerable<Move> moves)
    {
        foreach (var move in moves)
        {
            if (move.ToHost is not null && Find(move.ServerId) is { } found)
                _coming.Add(found.Info with { Host = move.ToHost, Stage = move.ToStage, Power = PowerState.Running });
        }
    }

    /// <summary>Asks every host and the nest.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="hypervisor">Its driver.</param>
    /// <param name="stateId">The id of the pool's state; null when it has none yet: then nothing is another controller's.</param>
    /// <param name="found">Called with the servers of each answer as it comes, never at the same time from two threads; may be null.</param>
    /// <param name="cancellation">Ends the call.</param>
    public static async Task<Observation> ReadAsync(
        PoolSpec pool, IHypervisor hypervisor, Guid? stateId, Action<IReadOnlyList<ServerInfo>>? found, CancellationToken cancellation)
    {
        var seen = new Observation(stateId);
        using var gate = new SemaphoreSlim(hypervisor.Traits.HostsAtOnce);
        var asks = new List<Task>(pool.Hosts.Count + 1) { ReadNest() };
        asks.AddRange(pool.Hosts.Select(ReadHost));
        await Task.WhenAll(asks);
        return seen;

        async Task ReadNest()
        {
            var nest = await hypervisor.ReadNestAsync(cancellation);
            lock (seen._servers)
            {
                seen._images = nest.Images;
                seen._problems.AddRange(nest.Problems);
                var batch = new List<ServerInfo>(nest.Dormant.Count + nest.Disposed.Count);
                seen.Add(nest.Dormant, null, null, batch);
                seen.Add(nest.Disposed, null, Stage.Disposed, batch);
                if (batch.Count > 0)
                    found?.Invoke(batch);
            }
        }

        async Task ReadHost(HostSpec host)
        {
            await gate.WaitAsync(cancellation);
            HostReport? report = null;
            string? problem = null;
            try
            {
                report = await hypervisor.ReadHostAsync(host, cancellation);
                problem = report.Problem;
            }
            catch (VMatrixException error)
            {
                problem = error.Message;
            }
            finally
            {
                gate.Release();
            }

            lock (seen._servers)
            {
                seen._hosts[host.Name] = report;
                if (problem is not null)
                {
                    seen._hostProblems[host.Name] = problem;

                    // Hosts of one group or cluster may have one problem.
                    if (!seen._problems.Contains(problem))
                        seen._problems.Add(problem);
                }

                if (report is null)
                    return;
                var batch = new List<ServerInfo>(report.Machines.Count);
                seen.Add(report.Machines, host.Name, null, batch);
                if (batch.Count > 0)
                    found?.Invoke(batch);
            }
        }
    }

    /// <summary>True when the host answered.</summary>
    public bool IsReachable(string host) => _hosts.TryGetValue(host, out var report) && report is not null;

    /// <summary>True when the host is powered down.</summary>
    public bool IsPoweredDown(string host) => _hosts.TryGetValue(host, out var report) && report is { PoweredDown: true };

    /// <summary>The image versions whose blocks a host holds, as its driver says.</summary>
    public IReadOnlyList<string> ImagesOn(string host) => _hosts.TryGetValue(host, out var report) && report is not null ? report.Images : [];

    /// <summary>What is wrong with a host; null when nothing is.</summary>
    public string? ProblemOf(string host) => _hostProblems.TryGetValue(host, out var problem) ? problem : null;

    /// <summary>Bytes of memory that machines which are not ours hold on a host.</summary>
    public long ForeignBytes(string host) => _foreignBytes.TryGetValue(host, out long bytes) ? bytes : 0;

    /// <summary>A server, as the hypervisor shows it; null when there is none with this id.</summary>
    public (ServerInfo Info, ServerMark Mark)? Find(Guid id) =>
        _servers.TryGetValue(id, out var s) ? (ToInfo(s.Machine, s.Host, s.Stage), s.Machine.Mark!) : null;

    /// <summary>The servers as the planner wants them.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="claims">Moves under way, a server's last one last: the server counts as where it goes, also where it was not seen yet.</param>
    /// <param name="health">What health checks said, by server.</param>
    public IReadOnlyList<ServerState> ToStates(PoolSpec pool, IEnumerable<Move> claims, IReadOnlyDictionary<Guid, ServerHealth> health)
    {
        var claimed = new Dictionary<Guid, Move>();
        foreach (var move in claims)
            claimed[move.ServerId] = move;
        return
        [
            .. _servers.Values.Select(s =>
            {
                var mark = s.Machine.Mark!;
                _ = claimed.TryGetValue(mark.ServerId, out var claim);
                return new ServerState
                {
                    Mark = mark with { Stage = s.Stage },
                    Host = s.Host,
                    Power = s.Machine.Power,
                    Health = s.Machine.Health is not ServerHealth.Unknown ? s.Machine.Health
                        : health.TryGetValue(mark.ServerId, out var asked) ? asked : ServerHealth.Unknown,
                    AsleepSince = s.Machine.AsleepSince,
                    MemoryBytes = s.Machine.MemoryBytes,
                    Cores = s.Machine.Cores,
                    Claimed = claim is not null,
                    ClaimedTo = claim?.ToStage,
                    ClaimedHost = claim?.ToHost,
                };
            }),
            .. claimed.Values.Where(m => !_servers.ContainsKey(m.ServerId) && m.Kind is not (MoveKind.Dispose or MoveKind.Purge or MoveKind.Unregister)).Select(m => new ServerState
            {
                Mark = new ServerMark { ServerId = m.ServerId, Name = m.ServerName, Service = m.Service, Image = "", Stage = Stage.Nest, StateId = _stateId ?? default, CreatedAt = default, ChangedAt = default },
                MemoryBytes = pool.Services.FirstOrDefault(service => service.Name == m.Service)?.Image.MemoryBytes ?? 0,
                Claimed = true,
                ClaimedTo = m.ToStage,
                ClaimedHost = m.ToHost,
            }),
        ];
    }

    private void Add(IReadOnlyList<Machine> machines, string? host, Stage? stage, List<ServerInfo> batch)
    {
        foreach (var machine in machines)
        {
            if (machine.Mark is not { } mark || (_stateId is { } id && mark.StateId != id))
            {
                if (machine.Mark is { } theirs)
                    _others[(machine.MachineId, host)] = theirs.ServerId;
                if (stage is not Stage.Disposed)
                    _foreign.Add(ToForeign(machine, host));
                if (host is not null && machine.Power is PowerState.Running or PowerState.Paused)
                    _foreignBytes[host] = ForeignBytes(host) + machine.MemoryBytes;
                if (machine.Mark is { } other)
                    _problems.Add($"Server '{other.Name}' ({other.ServerId}) {(host is null ? "in the nest" : $"on host '{host}'")} belongs to another controller, whose pool state has the id {other.StateId}; it is left alone.");
                else if (machine.Problem is not null)
                    _problems.Add(machine.Problem);
                continue;
            }

            if (_servers.TryGetValue(mark.ServerId, out var twin))
            {
                _problems.Add($"Server '{mark.Name}' ({mark.ServerId}) is in two places, {Place(twin.Host)} and {Place(host)}; it is left alone until one is gone.");
                if (twin.Machine.Power is PowerState.Running)
                    continue;
            }

            var at = stage ?? mark.Stage;
            _servers[mark.ServerId] = (machine, host, at);
            batch.Add(ToInfo(machine, host, at));
        }

        static string Place(string? host) => host is null ? "the nest" : $"host '{host}'";
    }

    /// <summary>The id that a machine has as a server of another controller.</summary>
    public Guid IdUnderOther(ForeignMachine machine) => _others[(machine.MachineId, machine.Host)];

    private static ForeignMachine ToForeign(Machine machine, string? host) => new()
    {
        MachineId = machine.MachineId,
        Name = machine.Name,
        Host = host,
        Power = machine.Power,
        Address = machine.Address,
        MemoryBytes = machine.MemoryBytes,
        Cores = machine.Cores,
        Service = (machine.Mark ?? machine.StaleMark)?.Service,
        CopyOf = machine.StaleMark?.ServerId,
        Controller = machine.Mark?.StateId,
        Problem = machine.Mark is { } other ? $"It is server {other.Name} ({other.ServerId}) of another controller, whose pool state has the id {other.StateId}" : machine.Problem,
    };

    private static ServerInfo ToInfo(Machine machine, string? host, Stage stage)
    {
        var mark = machine.Mark!;
        return new ServerInfo
        {
            Id = mark.ServerId,
            Name = mark.Name,
            Service = mark.Service,
            Stage = stage,
            Host = host,
            Power = machine.Power,
            Health = machine.Health,
            Address = machine.Address,
            MemoryBytes = machine.MemoryBytes,
            Image = mark.Image,
            Generation = mark.Generation,
            CreatedAt = mark.CreatedAt,
            ChangedAt = mark.ChangedAt,
            HeldUntil = mark.HeldUntil,
            Problem = machine.Problem,
        };
    }
}
