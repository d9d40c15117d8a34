using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Files;
using VMatrix.Moves;
using VMatrix.Planning;
using VMatrix.Pools;
using VMatrix.Shells;

namespace VMatrix;

/// <summary>The one door: opens a pool file, wires its drivers, and does what the cmdlets and the Oracle ask. Its public face uses the Model's types only.</summary>
/// <remarks>A session may be kept and used again; its calls may overlap. Every error it throws is a <see cref="VMatrixException"/>.</remarks>
public sealed partial class PoolSession : IAsyncDisposable
{
    private readonly PoolDrivers _drivers;
    private readonly TimeProvider _clock;
    private readonly StateFolder? _state;
    private readonly Mover? _mover;
    private readonly bool _forChange;
    private readonly Trial? _trial;
    private readonly PoolReads _reads;
    private readonly Holds _holds;

    /// <param name="spec">The owner's settings.</param>
    /// <param name="drivers">The pool's drivers.</param>
    /// <param name="state">The pool's state folder; null where there is none.</param>
    /// <param name="clock">All waiting is done on it.</param>
    /// <param name="trial">For a simulated pool that goes away with its session.</param>
    /// <param name="forChange">False for a session that only reads: it writes nothing, plans and what is learned included.</param>
    internal PoolSession(PoolSpec spec, PoolDrivers drivers, StateFolder? state, TimeProvider clock, Trial? trial = null, bool forChange = true)
    {
        Spec = spec;
        _drivers = drivers;
        _state = state;
        _clock = clock;
        _trial = trial;
        _forChange = forChange && state is not null;
        _mover = state is null ? null : new Mover(spec, drivers.Hypervisor, drivers.Balancer, drivers.Health, state, clock, trial?.Seed) { ReadsOnly = !_forChange };
        _reads = new PoolReads(spec, clock);
        _sensor = new Sensor(spec, drivers, _reads, clock);
        _holds = _mover?.Holds ?? new Holds(state, clock);
        _memoryKept = new Pace(clock, s_memoryEvery);
        _loadsKept = new Pace(clock, s_memoryEvery);
        _historyTrimmed = new Pace(clock, s_trimEvery);
        _plansTrimmed = new Pace(clock, s_memoryEvery);
        _emptyStored = new Pace(clock, s_memoryEvery);
        _shadowKept = new Pace(clock, s_memoryEvery);
        _wakes = new Lazy<WakeMeasures>(ReadWakes);
        _hostWakes = new Lazy<WakeMeasures>(ReadHostWakes);
    }

    /// <summary>The owner's settings.</summary>
    public PoolSpec Spec { get; }

    /// <summary>Checks a pool file, that the files it names are there, and what is kept in the state folder that it names; an empty list means that all is right.</summary>
    /// <exception cref="VMatrixException"><c>PoolNotFound</c>.</exception>
    public static IReadOnlyList<PoolFinding> Check(string path)
    {
        var findings = PoolFile.Check(path);
        var (pool, _) = PoolFile.Read(path);
        return pool is null || !Directory.Exists(pool.StateFolder) ? findings : [.. findings, .. CheckState(pool)];
    }

    /// <summary>What is damaged in the pool's state folder, as findings at the head of its file.</summary>
    private static IEnumerable<PoolFinding> CheckState(PoolSpec pool)
    {
        IReadOnlyList<string> problems;
        try
        {
            using var state = StateFolder.Open(pool.StateFolder, create: false);
            problems = state.ReadProblems();
        }
        catch (VMatrixException e) when (e.Id is "StateMissing")
        {
            yield break;
        }
        catch (VMatrixException e)
        {
            problems = [e.Message];
        }

        foreach (var problem in problems)
            yield return new PoolFinding(pool.Path, 1, 1, "state", pool.StateFolder, problem);
    }

    /// <summary>Opens a pool.</summary>
    /// <param name="path">The pool file.</param>
    /// <param name="forChange">False for reading: the state folder is then never made or written.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <param name="shells">Opens shells for drivers that call PowerShell; null where this process is no PowerShell, and a child is started when one is needed.</param>
    /// <exception cref="VMatrixException"><c>PoolInvalid</c> with every finding, <c>PoolNotFound</c>, <c>DriverNotSupported</c>; for change <c>FolderNotOwned</c>, and for root <c>PoolNotOwned</c>.</exception>
    public static async Task<PoolSession> OpenAsync(string path, bool forChange, CancellationToken cancellation, IShellProvider? shells = null)
    {
        cancellation.ThrowIfCancellationRequested();
        if (forChange)
            OwnFolder.CheckPoolFile(System.IO.Path.GetFullPath(path));
        var (pool, drivers) = await PoolDrivers.OpenAsync(Read(path), TimeProvider.System, shells, cancellation);
        try
        {
            if (forChange)
            {
                foreach (string folder in pool.Hosts.Select(host => host.Folder).OfType<string>().Append(pool.Nest.Folder))
                    OwnFolder.Check(folder);
            }

            var state = forChange || Directory.Exists(pool.StateFolder) ? StateFolder.Open(pool.StateFolder, create: forChange, pool.Nest.Folder, cancellation) : null;
            return new PoolSession(pool, drivers, state, TimeProvider.System, forChange: forChange);
        }
        catch
        {
            await drivers.DisposeAsync();
            throw;
        }
    }

    /// <summary>Reads a pool file that must be right.</summary>
    /// <exception cref="VMatrixException"><c>PoolInvalid</c> with every finding, <c>PoolNotFound</c>.</exception>
    internal static PoolSpec Read(string path)
    {
        var (pool, findings) = PoolFile.Read(path);
        return pool ?? throw new VMatrixException("PoolInvalid", VMatrixErrorKind.InvalidInput,
            $"The pool file has {findings.Count} mistake{(findings.Count == 1 ? "" : "s")}:{Environment.NewLine}{string.Join(Environment.NewLine, findings)}");
    }

    /// <summary>
    /// The hosts that did not answer the last time that this session looked at its pool, and the nest when it did not, each with the error to
    /// tell. Listings are made without them: what is on such a host is not listed, and is not gone for that. Empty when all answered.
    /// </summary>
    public IReadOnlyList<SilentPlace> SilentPlaces { get; private set; } = [];

    /// <summary>How often this session has asked every host what is on it.</summary>
    internal int Looks => _looks;

    private int _looks;

    /// <summary>The pool as it is now.</summary>
    public async Task<PoolInfo> GetPoolAsync(CancellationToken cancellation)
    {
        var asking = BalancerProblemsAsync(cancellation);
        var seen = await ObserveAsync(null, cancellation);
        var balancer = await asking;
        var byStage = new int[4];
        foreach (var server in seen.Servers)
            byStage[(int)server.Stage]++;
        return new PoolInfo
        {
            Spec = Spec,
            StateId = _state?.Id ?? Guid.Empty,
            ServersByStage = new StageCounts(byStage[(int)Stage.Nest], byStage[(int)Stage.Chamber], byStage[(int)Stage.Matrix], byStage[(int)Stage.Disposed]),
            Decider = _state?.ReadDecider(),
            Problems = [.. seen.Problems, .. balancer, .. ReadStateProblems().Select(p => p.Message)],
        };
    }

    /// <summary>What is damaged or cannot be read in the pool's state folder, each as an error of its own; empty when all is well. Moves of servers whose journal is damaged are refused until it is put right.</summary>
    public IReadOnlyList<VMatrixException> ReadStateProblems() => _state is null ? [] :
    [
        .. _state.ReadProblems().Select(p => new VMatrixException("StateCorrupt", VMatrixErrorKind.Corrupt, p)),
        .. _state.History.Warning is { } lost ? [new VMatrixException("HistoryUnreadable", VMatrixErrorKind.Corrupt, lost)] : Array.Empty<VMatrixException>(),
    ];

    /// <summary>The hosts as they are now.</summary>
    public async Task<IReadOnlyList<HostInfo>> GetHostsAsync(CancellationToken cancellation) => Hosts(await ObserveAsync(null, cancellation));

    private HostInfo[] Hosts(Observation seen)
    {
        var running = seen.Servers
            .Where(s => s.Host is not null && s.Power is PowerState.Running or PowerState.Paused)
            .ToLookup(s => s.Host!, StringComparer.OrdinalIgnoreCase);
        var suspended = SuspendedHosts(_clock.GetUtcNow());
        return
        [
            .. Spec.Hosts.Select(host => new HostInfo
            {
                Spec = host,
                Reachable = seen.IsReachable(host.Name),
                PoweredDown = seen.IsPoweredDown(host.Name),
                Maintenance = seen.MaintenanceOf(host.Name),
                ObservedAt = seen.At,
                Suspended = suspended.ContainsKey(host.Name),
                SuspendedBy = suspended.TryGetValue(host.Name, out var o) ? Signed(o.By, o.At, o.Until) : null,
                Servers = running[host.Name].Count(),
                MemoryUsedBytes = running[host.Name].Sum(s => s.MemoryBytes) + seen.ForeignBytes(host.Name),
                Problem = seen.ProblemOf(host.Name),
            }),
        ];
    }

    /// <summary>The services as they are now. The load is measured over a moment, so this takes a second or so unless a recent sample is at hand.</summary>
    public async Task<IReadOnlyList<ServiceInfo>> GetServicesAsync(CancellationToken cancellation)
    {
        var observing = ObserveAsync(null, cancellation);
        var loads = await _sensor.MeasureAsync(cancellation);
        return Services(await observing, loads);
    }

    private ServiceInfo[] Services(Observation seen, IReadOnlyDictionary<string, ServiceLoad> loads)
    {
        var counts = seen.Servers.ToLookup(s => s.Service, StringComparer.OrdinalIgnoreCase);
        var shadows = Spec.Services.Any(s => (s.Mode ?? Spec.Oracle.Mode) is OracleMode.Shadow) ? ShadowScores() : [];
        var pinned = _state?.Overrides.ReadServices(_clock.GetUtcNow()).ToDictionary(o => o.Service, StringComparer.OrdinalIgnoreCase) ?? [];
        return
        [
            .. Spec.Services.Select(service => new ServiceInfo
            {
                Spec = service,
                ObservedAt = seen.At,
                InMatrix = counts[service.Name].Count(s => s.Stage is Stage.Matrix),
                InChamber = counts[service.Name].Count(s => s.Stage is Stage.Chamber),
                InNest = counts[service.Name].Count(s => s.Stage is Stage.Nest),
                Pinned = pinned.TryGetValue(service.Name, out var pin) ? pin.Servers : null,
                PinnedBy = pin is null ? null : Signed(pin.By, pin.At, pin.Until),
                Load = loads.TryGetValue(service.Name, out var load) ? load : null,
                Shadow = shadows.FirstOrDefault(s => s.Service == service.Name),
            }),
        ];
    }

    /// <summary>The servers as they are now, host by host as their answers come.</summary>
    /// <param name="health">True to ask each running server's health check too.</param>
    /// <param name="found">Called with each batch as it comes, never at the same time from two threads; may be null.</param>
    /// <param name="cancellation">Ends the call.</param>
    public async Task<IReadOnlyList<ServerInfo>> GetServersAsync(bool health, Action<IReadOnlyList<ServerInfo>>? found, CancellationToken cancellation)
    {
        var plain = found;
        found = plain is null ? null : batch => plain(WithFailures(batch));
        var asking = AskBalancerAsync(cancellation);

        // Most servers of a large pool sleep, or their hypervisor knows how they fare: those are told of at once, and those of the Matrix
        // when the balancer has said what it does for them.
        var told = new HashSet<Guid>();
        var seen = await ObserveAsync(found is null ? null : batch =>
        {
            ServerInfo[] known = [.. batch.Where(s => s.Stage is not Stage.Matrix && !(health && _sensor.HasToAsk(s)))];
            told.UnionWith(known.Select(s => s.Id));
            if (known.Length > 0)
                found(known);
        }, cancellation);
        var asked = health ? await _sensor.CheckHealthAsync([.. seen.Servers], cancellation) : new Dictionary<Guid, (ServerHealth, string?)>();
        var (report, silence) = await asking;
        var servers = WithBalancer(WithHealth(seen, asked), report, silence);
        ServerInfo[] rest = [.. servers.Where(s => !told.Contains(s.Id))];
        if (rest.Length > 0)
            found?.Invoke(rest);
        return WithFailures(servers);
    }

    /// <summary>One look at the pool, from which several moves can be planned. Asks no health check.</summary>
    /// <param name="cancellation">Ends the call.</param>
    public async Task<PoolListing> ListAsync(CancellationToken cancellation) => new(await ObserveAsync(null, cancellation));

    /// <summary>What the last switch of this session saw of the pool, so that who watches a resident Oracle need not ask every host once more; null before the first.</summary>
    public PoolLook? LastLook { get; private set; }

    /// <summary>The whole pool as it is now, in one pass.</summary>
    public async Task<PoolLook> LookAsync(CancellationToken cancellation)
    {
        var measuring = _sensor.MeasureAsync(cancellation);
        var seen = await ObserveAsync(null, cancellation);
        return Look(seen, await measuring, new Dictionary<Guid, (ServerHealth, string?)>());
    }

    private PoolLook Look(Observation seen, IReadOnlyDictionary<string, ServiceLoad> loads, IReadOnlyDictionary<Guid, (ServerHealth Health, string? Problem)> health) =>
        new(_clock.GetUtcNow(), Hosts(seen), Services(seen, loads), WithFailures(WithBalancer(WithHealth(seen, health), _sensor.Report, _sensor.Silence)));

    private static ServerInfo[] WithHealth(Observation seen, IReadOnlyDictionary<Guid, (ServerHealth Health, string? Problem)> health) =>
        [.. seen.Servers.Select(s => health.TryGetValue(s.Id, out var answer) ? s with { Health = answer.Health, Problem = s.Problem ?? answer.Problem } : s)];

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _sensor.Dispose();
        _state?.Dispose();
        await _drivers.DisposeAsync();
    }

    private async Task<Observation> ObserveAsync(Action<IReadOnlyList<ServerInfo>>? found, CancellationToken cancellation)
    {
        var seen = await Observation.ReadAsync(Spec, _drivers.Hypervisor, _state?.Id, found, cancellation, _reads, _holds, _state?.ReadDamagedJournals());
        SilentPlaces = seen.Silent;
        Interlocked.Increment(ref _looks);
        return seen;
    }

    private Dictionary<string, HostOverride> SuspendedHosts(DateTimeOffset now) =>
        (_trial is null ? _state?.Overrides.ReadHosts(now) : null)?.ToDictionary(o => o.Host, StringComparer.OrdinalIgnoreCase) ?? [];

    private static string Signed(string by, DateTimeOffset at, DateTimeOffset? until) => $"{by} at {Times.Show(at)}{(until is { } end ? $", until {Times.Show(end)}" : "")}";

    private ServiceSpec FindService(string name) =>
        Spec.Services.FirstOrDefault(s => string.Equals(s.Name, name, StringComparison.OrdinalIgnoreCase))
        ?? throw new VMatrixException("ServiceNotFound", VMatrixErrorKind.NotFound,
            $"There is no service '{name}' in pool '{Spec.Name}'; it has: {string.Join(", ", Spec.Services.Select(s => s.Name))}.");

    private HostSpec FindHost(string name) =>
        Spec.Hosts.FirstOrDefault(h => string.Equals(h.Name, name, StringComparison.OrdinalIgnoreCase))
        ?? throw new VMatrixException("HostNotFound", VMatrixErrorKind.NotFound,
            $"There is no host '{name}' in pool '{Spec.Name}'; it has: {string.Join(", ", Spec.Hosts.Select(h => h.Name))}.");

    private Mover RequireMover() =>
        _forChange ? _mover! : throw new InvalidOperationException("This session was opened for reading.");

    /// <summary>A session whose pool is a simulated one that goes away with it: nothing of it need be found again.</summary>
    /// <param name="Seed">Seeds what is left to chance.</param>
    /// <param name="Rule">Changes what the planner is told before each plan, such as counts that another rule pins; null for nothing.</param>
    /// <param name="Hosts">Told what becomes of hosts that are powered down and woken; null for nobody.</param>
    internal sealed record Trial(int Seed, Func<PlannerInput, PlannerInput>? Rule, IProgress<HostActionRecord>? Hosts = null);

}
