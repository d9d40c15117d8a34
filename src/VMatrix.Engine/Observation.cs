using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Planning;

namespace VMatrix;

/// <summary>What the hypervisor says of a whole pool at one moment: every host and the nest, asked and not remembered.</summary>
internal sealed class Observation
{
    private readonly Dictionary<Guid, (Machine Machine, string? Host, Stage Stage)> _servers = [];
    private readonly Dictionary<string, long> _foreignBytes = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<string, int> _foreignCores = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<string, HostReport?> _hosts = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<string, string> _hostProblems = new(StringComparer.OrdinalIgnoreCase);
    private readonly List<string> _problems = [];
    private readonly List<SilentPlace> _silent = [];
    private readonly List<ForeignMachine> _foreign = [];
    private readonly List<ServerInfo> _coming = [];
    private readonly List<Move> _expected = [];
    private readonly HashSet<string> _emptied = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<(string MachineId, string? Host), Guid> _others = [];
    private readonly Guid? _stateId;
    private IReadOnlyDictionary<string, string> _images = new Dictionary<string, string>();

    private readonly Holds? _holds;
    private readonly IReadOnlyDictionary<Guid, string>? _journals;

    private Observation(Guid? stateId, DateTimeOffset at, Holds? holds, IReadOnlyDictionary<Guid, string>? journals) => (_stateId, At, _holds, _journals) = (stateId, at, holds, journals);

    /// <summary>When it was begun: no answer is older.</summary>
    public DateTimeOffset At { get; }

    /// <summary>The newest image version by service.</summary>
    public IReadOnlyDictionary<string, string> Images => _images;

    /// <summary>What is wrong in the pool, as sentences.</summary>
    public IReadOnlyList<string> Problems => _problems;

    /// <summary>The hosts that did not answer, and the nest when it did not: what is there is not in here, and may be there all the same.</summary>
    public IReadOnlyList<SilentPlace> Silent => _silent;

    /// <summary>Refuses to go on without the nest.</summary>
    /// <exception cref="VMatrixException"><c>NestUnreachable</c>.</exception>
    public void RequireNest()
    {
        if (_silent.Find(place => place.Host is null) is { } nest)
            throw nest.Error;
    }

    /// <summary>Every machine that is not a server of this pool.</summary>
    public IReadOnlyList<ForeignMachine> Foreign => _foreign;

    /// <summary>Every server, disposed ones included.</summary>
    public IEnumerable<ServerInfo> Servers => _servers.Values.Select(s => ToInfo(s.Machine, s.Host, s.Stage));

    /// <summary>The servers on a host, and those that moves which are to go at the same time bring there.</summary>
    public IEnumerable<ServerInfo> On(HostSpec host) => Servers.Concat(_coming).Where(s => string.Equals(s.Host, host.Name, StringComparison.OrdinalIgnoreCase));

    /// <summary>Counts servers where these moves, and no others, will bring them, and where they are until then.</summary>
    public void Expect(IEnumerable<Move> moves)
    {
        Move[] all = [.. moves];
        if (!all.SequenceEqual(_expected))
            Rules = null;
        _coming.Clear();
        _expected.Clear();
        foreach (var move in all)
        {
            _expected.Add(move);
            if (move.ToHost is not null && Find(move.ServerId) is { } found && !string.Equals(found.Info.Host, move.ToHost, StringComparison.OrdinalIgnoreCase))
                _coming.Add(found.Info with { Host = move.ToHost, Stage = move.ToStage, Power = PowerState.Running });
        }
    }

    /// <summary>Hosts that are to be emptied: no server goes there.</summary>
    public void Empty(IEnumerable<string> hosts)
    {
        _emptied.UnionWith(hosts);
        Rules = null;
    }

    /// <summary>True for a host that is to be emptied.</summary>
    public bool IsEmptied(string host) => _emptied.Contains(host);

    /// <summary>The moves that are to go at the same time.</summary>
    public IReadOnlyList<Move> Expected => _expected;

    /// <summary>What tells whether servers fit on hosts as they were seen; made by the first that asks.</summary>
    public PlacementRules? Rules { get; set; }

    /// <summary>Asks every host and the nest. One that is ill counts as not answering (<see cref="Silent"/>); the others are read all the same.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="hypervisor">Its driver.</param>
    /// <param name="stateId">The id of the pool's state; null when it has none yet: then nothing is another controller's.</param>
    /// <param name="found">Called with the servers of each answer as it comes, never at the same time from two threads; may be null.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <param name="reads">Who did not answer before; null where this is the only look.</param>
    /// <param name="holds">Bounds what marks say of holds; null to believe them.</param>
    /// <param name="journals">Servers whose journal is damaged, and what is wrong with it; null for none.</param>
    public static async Task<Observation> ReadAsync(
        PoolSpec pool, IHypervisor hypervisor, Guid? stateId, Action<IReadOnlyList<ServerInfo>>? found, CancellationToken cancellation, PoolReads? reads = null, Holds? holds = null,
        IReadOnlyDictionary<Guid, string>? journals = null)
    {
        reads ??= new PoolReads(pool, TimeProvider.System);
        var seen = new Observation(stateId, reads.Now, holds, journals);
        using var gate = new SemaphoreSlim(hypervisor.Traits.HostsAtOnce);
        var asks = new List<Task>(pool.Hosts.Count + 1) { ReadNest() };
        asks.AddRange(pool.Hosts.Select(ReadHost));
        await Task.WhenAll(asks);
        seen._silent.Sort((a, b) => Order(a).CompareTo(Order(b)));
        return seen;

        int Order(SilentPlace place) => pool.Hosts.TakeWhile(h => h.Name != place.Host).Count();

        async Task ReadNest()
        {
            NestReport? nest = null;
            Exception? silence = null;
            try
            {
                nest = await reads.NestAsync(hypervisor, cancellation);
            }
            catch (Exception e) when (!IsEnd(e))
            {
                silence = e;
            }

            lock (seen._servers)
            {
                if (nest is null)
                {
                    seen.AddSilent(null, silence!);
                    return;
                }

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
            Exception? silence = null;
            try
            {
                report = await reads.HostAsync(hypervisor, host, cancellation);
            }
            catch (Exception e) when (!IsEnd(e))
            {
                silence = e;
            }
            finally
            {
                gate.Release();
            }

            lock (seen._servers)
            {
                seen._hosts[host.Name] = report;
                if (report is null)
                {
                    seen.AddSilent(host.Name, silence!);
                    return;
                }

                if (report.Problem is not null)
                    seen.AddProblem(host.Name, report.Problem);
                var batch = new List<ServerInfo>(report.Machines.Count);
                seen.Add(report.Machines, host.Name, null, batch);
                if (batch.Count > 0)
                    found?.Invoke(batch);
            }
        }

        bool IsEnd(Exception e) => e is AbandonException || (e is OperationCanceledException && cancellation.IsCancellationRequested);
    }

    private void AddSilent(string? host, Exception e)
    {
        var told = e is VMatrixException ? e.Message : $"{host ?? "The nest"} could not be read ({e.GetType().Name}): {e.Message}";
        AddProblem(host, told);
        _silent.Add(new SilentPlace(host, host is null
            ? new VMatrixException("NestUnreachable", VMatrixErrorKind.Unreachable, $"The nest does not answer; what sleeps there is not listed, and is not gone for that. {told}", e) { IsTransient = true }
            : new VMatrixException("HostUnreachable", VMatrixErrorKind.Unreachable, $"Host '{host}' does not answer; servers on it are not listed, and may well be running. {told}", e) { IsTransient = true }));
    }

    private void AddProblem(string? host, string problem)
    {
        if (host is not null)
            _hostProblems[host] = problem;

        // Hosts of one group or cluster may have one problem.
        if (!_problems.Contains(problem))
            _problems.Add(problem);
    }

    /// <summary>True when the host answered.</summary>
    public bool IsReachable(string host) => _hosts.TryGetValue(host, out var report) && report is not null;

    /// <summary>True when the host is powered down.</summary>
    public bool IsPoweredDown(string host) => _hosts.TryGetValue(host, out var report) && report is { PoweredDown: true };

    /// <summary>The image versions whose blocks a host holds, as its driver says.</summary>
    public IReadOnlyList<string> ImagesOn(string host) => _hosts.TryGetValue(host, out var report) && report is not null ? report.Images : [];

    /// <summary>Why a host's platform wants nothing new on it; null when it may be used.</summary>
    public string? MaintenanceOf(string host) => _hosts.TryGetValue(host, out var report) ? report?.Maintenance : null;

    /// <summary>What was told instead of a host's answer; null when it answered.</summary>
    public VMatrixException? SilenceOf(string host) => _silent.Find(place => string.Equals(place.Host, host, StringComparison.OrdinalIgnoreCase))?.Error;

    /// <summary>What is wrong with a host; null when nothing is.</summary>
    public string? ProblemOf(string host) => _hostProblems.TryGetValue(host, out var problem) ? problem : null;

    /// <summary>Bytes of memory that machines which are not ours hold on a host.</summary>
    public long ForeignBytes(string host) => _foreignBytes.TryGetValue(host, out long bytes) ? bytes : 0;

    /// <summary>Processors that machines which are not ours have on a host.</summary>
    public int ForeignCores(string host) => _foreignCores.TryGetValue(host, out int cores) ? cores : 0;

    /// <summary>A server, as the hypervisor shows it; null when there is none with this id.</summary>
    public (ServerInfo Info, ServerMark Mark)? Find(Guid id) =>
        _servers.TryGetValue(id, out var s) ? (ToInfo(s.Machine, s.Host, s.Stage), s.Machine.Mark!) : null;

    /// <summary>The servers as the planner wants them.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="claims">Moves under way, a server's last one last: the server counts as where it goes, also where it was not seen yet.</param>
    /// <param name="health">What health checks said, by server.</param>
    /// <param name="told">What the balancer told of servers lately; null where it was not asked or did not answer.</param>
    public IReadOnlyList<ServerState> ToStates(PoolSpec pool, IEnumerable<Move> claims, IReadOnlyDictionary<Guid, ServerHealth> health, BalancerTold? told = null)
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
                    OpenRequests = told?.OpenAt(mark.ServerId),
                    ProcessorUse = told?.ProcessorUseOf(mark.ServerId),
                    Sampled = s.Stage is Stage.Matrix && claim is null ? told?.Sampled(mark.ServerId) : null,
                    // Of what its hypervisor only remembers nothing is known: it counts as where it was, and is left alone.
                    Claimed = claim is not null || IsUnsure(s.Machine, s.Stage),
                    ClaimedTo = claim?.ToStage ?? (IsUnsure(s.Machine, s.Stage) ? s.Stage : null),
                    ClaimedHost = claim?.ToHost ?? (IsUnsure(s.Machine, s.Stage) ? s.Host : null),
                };
            }),
            .. claimed.Values.Where(m => !_servers.ContainsKey(m.ServerId) && m.Kind is not (MoveKind.Dispose or MoveKind.Purge or MoveKind.Unregister)).Select(m => new ServerState
            {
                Mark = new ServerMark { ServerId = m.ServerId, Name = m.ServerName, Service = m.Service, Image = "", Stage = Stage.Nest, StateId = _stateId ?? default, CreatedAt = default, ChangedAt = default },
                MemoryBytes = pool.Services.FirstOrDefault(service => service.Name == m.Service)?.Image.MemoryBytes ?? 0,
                Cores = pool.Services.FirstOrDefault(service => service.Name == m.Service)?.Image.Cores ?? 0,
                Claimed = true,
                ClaimedTo = m.ToStage,
                ClaimedHost = m.ToHost,
            }),
        ];
    }

    private static bool IsUnsure(Machine machine, Stage stage) => machine.Power is PowerState.Unknown && stage is Stage.Matrix or Stage.Chamber;

    private void Add(IReadOnlyList<Machine> machines, string? host, Stage? stage, List<ServerInfo> batch)
    {
        foreach (var told in machines.Select(ForPeople))
        {
            var machine = told.Mark is { HeldUntil: not null } held && _holds is not null ? told with { Mark = held with { HeldUntil = _holds.Until(held) } } : told;
            if (machine.Mark is not { } mark || (_stateId is { } id && mark.StateId != id))
            {
                if (machine.Mark is { } theirs)
                    _others[(machine.MachineId, host)] = theirs.ServerId;
                if (stage is not Stage.Disposed)
                    _foreign.Add(ToForeign(machine, host));
                if (host is not null && machine.Power is not (PowerState.Off or PowerState.Saved))
                {
                    _foreignCores[host] = ForeignCores(host) + machine.Cores;
                    _foreignBytes[host] = ForeignBytes(host) + machine.MemoryBytes;
                }

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

    // Names and troubles are others' text, and end on screens and in logs.
    private static Machine ForPeople(Machine machine) => machine with
    {
        Name = PlainText.Line(machine.Name),
        Problem = machine.Problem is { } problem ? PlainText.Of(problem, 8000) : null,
        Mark = Plain(machine.Mark),
        StaleMark = Plain(machine.StaleMark),
    };

    private static ServerMark? Plain(ServerMark? mark) =>
        mark is null || (PlainText.IsPlain(mark.Name) && PlainText.IsPlain(mark.Service)) ? mark : mark with { Name = PlainText.Line(mark.Name), Service = PlainText.Line(mark.Service) };

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

    private ServerInfo ToInfo(Machine machine, string? host, Stage stage)
    {
        var mark = machine.Mark!;
        return new ServerInfo
        {
            Id = mark.ServerId,
            ObservedAt = At,
            Name = mark.Name,
            Service = mark.Service,
            Stage = stage,
            Host = host,
            Power = machine.Power,
            Health = machine.Health,
            Address = machine.Address,
            MachineId = machine.MachineId,
            MemoryBytes = machine.MemoryBytes,
            Cores = machine.Cores,
            Image = mark.Image,
            Generation = mark.Generation,
            CreatedAt = mark.CreatedAt,
            ChangedAt = mark.ChangedAt,
            HeldUntil = mark.HeldUntil,
            Problem = machine.Problem ?? (_journals?.TryGetValue(mark.ServerId, out var journal) == true ? journal : null),
        };
    }
}
