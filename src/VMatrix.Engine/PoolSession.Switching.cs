using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Planning;

namespace VMatrix;

/// <content>Switching: sense the load, make a plan, carry it out.</content>
public sealed partial class PoolSession
{
    /// <summary>What planning learns in less than this is soon learned again, and writing it for hundreds of services takes time.</summary>
    private static readonly TimeSpan s_memoryEvery = TimeSpan.FromMinutes(1);

    /// <summary>A fence script that failed is not run again sooner.</summary>
    private static readonly TimeSpan s_fenceEvery = TimeSpan.FromMinutes(5);

    /// <summary>A host that does not answer is not fenced sooner.</summary>
    private TimeSpan FencePatience => Spec.Limits.ReadTimeout > s_fencePatience ? Spec.Limits.ReadTimeout : s_fencePatience;

    private static readonly TimeSpan s_fencePatience = TimeSpan.FromSeconds(30);

    private readonly Sensor _sensor;
    private readonly List<Move> _underWay = [];
    private readonly Lazy<WakeMeasures> _wakes;
    private readonly Lazy<WakeMeasures> _hostWakes;
    private PlannerMemory? _memory;
    private readonly Dictionary<string, IReadOnlyList<ServerState>> _lastSeen = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<string, long> _silentSince = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<string, Pace> _fenced = new(StringComparer.OrdinalIgnoreCase);
    private readonly Pace _memoryKept;
    private readonly Pace _loadsKept;
    private readonly Pace _historyTrimmed;
    private int _seed;

    /// <summary>Senses and makes a plan. A session opened for change stores it under its id, with what it was made from; one opened for reading stores nothing.</summary>
    public async Task<Plan> PlanSwitchAsync(CancellationToken cancellation)
    {
        var (plan, input) = await PlanAsync(fence: false, cancellation);
        return _forChange ? Store(plan, input, "New-VMatrixPlan") : plan;
    }

    private async Task<(Plan Plan, PlannerInput Input)> PlanAsync(bool fence, CancellationToken cancellation)
    {
        bool fromFile = _memory is null && (_memory = _state?.ReadMemory()) is not null;
        // Looking takes time: a server whose move ended meanwhile may have been seen before or after it, so it counts as claimed still.
        Move[] claims = [.. Claims()];
        var measuring = _sensor.MeasureAsync(cancellation);
        var seen = await ObserveAsync(null, cancellation);
        var health = await _sensor.CheckHealthAsync([.. seen.Servers.Where(s => s.Stage is Stage.Matrix)], cancellation);
        LastLook = Look(seen, await measuring, health);
        _repairDue |= LacksServers(seen.Servers, _sensor.Report, health);

        // What sleeps is not known without it: servers would be made anew that are there.
        seen.RequireNest();
        var advice = await AdviseAsync(seen, cancellation);
        var now = _clock.GetLocalNow();
        HostAction[] powered = Spec.Oracle.PowerDown && _state is not null ? [.. _state.ReadHostClaims().Select(c => c.Action)] : [];
        var (servers, dead) = await AddLostAsync(seen, seen.ToStates(Spec, claims.Concat(Claims()), health.ToDictionary(h => h.Key, h => h.Value.Health), _sensor.Told), fence, cancellation);
        var input = new PlannerInput
        {
            Pool = Spec,
            Now = now,
            Hosts =
            [
                .. HostStates(seen, now).Select(h => h with
                {
                    Silence = h.Reachable ? null : seen.ProblemOf(h.Name),
                    ProvenDead = dead.Contains(h.Name),
                    PoweredDown = h.PoweredDown || powered.Any(c => c.Kind is HostActionKind.PowerDown && c.Host == h.Name),
                    Waking = powered.Any(c => c.Kind is HostActionKind.Wake && c.Host == h.Name),
                    Images = seen.ImagesOn(h.Name),
                }),
            ],
            Servers = servers,
            Loads = _sensor.Samples,
            Memory = _memory,
            WakeTime = _wakes.Value.Times,
            WakeBytes = _wakes.Value.Bytes,
            Images = seen.Images,
            TakenNames = [.. UnseenNames(seen).Distinct(StringComparer.OrdinalIgnoreCase).OrderBy(n => n, StringComparer.Ordinal)],
            Advice = advice,
            Failures = Failures(),
            Pinned = (_trial is null ? _state?.Overrides.ReadServices(now) : null)?.ToDictionary(o => o.Service, o => o.Servers, StringComparer.OrdinalIgnoreCase) ?? [],
            LiveMigration = _drivers.Hypervisor.Traits.LiveMigration,
            HostPower = _drivers.Hypervisor is IHostPower && _drivers.Hypervisor.Traits.HostPower,
            HostWakeTime = _hostWakes.Value.Times.TryGetValue(AnyHost, out var hostWake) ? hostWake : null,
            Seed = ++_seed,
        };
        PlannerOutput output;
        try
        {
            output = Planner.Plan(_trial?.Rule?.Invoke(input) ?? input);
        }
        catch (Exception e) when (fromFile && e is not (VMatrixException or OutOfMemoryException))
        {
            // Memory that cannot be planned with was damaged: what was learned is lost, and nothing else.
            input = input with { Memory = null };
            output = Planner.Plan(input);
        }

        _memory = output.Memory;
        if (_forChange && _trial is null && _memoryKept.IsDue)
        {
            _state!.WriteMemory(output.Memory);
            _memoryKept.Done();
        }

        return (output.Plan, input);
    }

    private async Task<HostAdvice> AdviseAsync(Observation seen, CancellationToken cancellation)
    {
        var maintained = Spec.Hosts.Where(h => seen.MaintenanceOf(h.Name) is not null)
            .SelectMany(h => Spec.Services.Select(s => new HostVerdict { Host = h.Name, Service = s.Name, Refusal = "its platform wants nothing new on it (paused, drained or in maintenance)" })).ToArray();
        if (_drivers.Hypervisor is not IHostAdviser adviser)
            return new HostAdvice { Verdicts = maintained };
        using var deadline = _clock.Deadline(Spec.Limits.ReadTimeout);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            var advice = await adviser.AdviseAsync([.. Spec.Hosts.Where(h => seen.IsReachable(h.Name))], both.Token);
            return advice with { Verdicts = [.. advice.Verdicts, .. maintained] };
        }
        catch (Exception e) when (e is VMatrixException || (e is OperationCanceledException && !cancellation.IsCancellationRequested))
        {
            // Advice refines a plan. Without it the rules of the pool file hold, and the driver refuses what it cannot do.
            return new HostAdvice { Verdicts = maintained, Problems = [e is VMatrixException ? e.Message : $"What the platform says of hosts was not told within {Planning.Words.Seconds(Spec.Limits.ReadTimeout)} (limits.readTimeout)."] };
        }
    }

    /// <summary>Carries out a stored plan by its id, as the pool's decider. Moves that wait for an approval are left out unless the plan was approved.</summary>
    /// <param name="plan">The plan's id.</param>
    /// <param name="progress">Told at each change of a move; may be null.</param>
    /// <param name="cancellation">Ends it at the nearest whole state.</param>
    /// <returns>What became of each move, in the plan's order.</returns>
    /// <exception cref="VMatrixException"><c>PlanNotFound</c>, <c>PlanCorrupt</c>, <c>PlanExpired</c>, <c>PlanNotApproved</c> when it has no other moves than those that wait, <c>DeciderBusy</c>, <c>StaleEpoch</c> when a driver has seen a later decider.</exception>
    public Task<IReadOnlyList<MoveRecord>> SwitchAsync(Guid plan, IProgress<MoveRecord>? progress, CancellationToken cancellation) => SwitchAsync(plan, progress, null, cancellation);

    /// <inheritdoc cref="SwitchAsync(Guid, IProgress{MoveRecord}, CancellationToken)"/>
    /// <param name="plan">The plan's id.</param>
    /// <param name="progress">Told at each change of a move; may be null.</param>
    /// <param name="hostProgress">Told at each begin and end of an action with a host; may be null.</param>
    /// <param name="cancellation">Ends it at the nearest whole state.</param>
    public async Task<IReadOnlyList<MoveRecord>> SwitchAsync(Guid plan, IProgress<MoveRecord>? progress, IProgress<HostActionRecord>? hostProgress, CancellationToken cancellation)
    {
        var mover = RequireMover();
        var stored = _state!.LoadPlan(plan);
        var record = ToRecord(stored, Approvals());
        bool approved = record.Status is PlanStatus.Approved;
        IReadOnlyList<Move> moves = stored.Moves;
        IReadOnlyList<HostAction> hosts = stored.Hosts;
        var waiting = Modes.Waiting(Spec, stored);
        var waitingHosts = Modes.WaitingHosts(Spec, stored);
        if (waiting.Count + waitingHosts.Count > 0 && record.ApprovedBy is null)
        {
            moves = [.. moves.Except(waiting)];
            hosts = [.. hosts.Except(waitingHosts)];
            if (moves.Count + hosts.Count == 0)
            {
                throw new VMatrixException("PlanNotApproved", VMatrixErrorKind.InvalidState,
                    $"The moves of plan {plan} wait for an approval, as the pool file asks with mode: confirm. Approve it with: Approve-VMatrixPlan -Id {plan}");
            }
        }

        using var decider = await DecideAsync("Invoke-VMatrixSwitch", cancellation);
        var context = Context("Invoke-VMatrixSwitch", decider, approved ? record.ApprovedBy : null);
        await PrepareAsync(mover, context, progress, cancellation);
        var powering = CarryOutHostsAsync(mover, stored, hosts, context, hostProgress, cancellation);
        var records = await CarryOutPlanAsync(mover, stored, moves, context, progress, cancellation);
        await powering;
        decider.ThrowIfEnded();
        return records;
    }

    /// <summary>Switches again and again as the pool's decider until cancelled. Ends when every open move has come to a whole state; the servers keep running.</summary>
    /// <param name="name">What the decider calls itself.</param>
    /// <param name="interval">Time from one switch to the next; null for the pool's setting.</param>
    /// <param name="switched">Told of each switch: the plan and the loads it saw; may be null.</param>
    /// <param name="progress">Told at each change of a move; may be null.</param>
    /// <param name="cancellation">Ends it, with nothing half done.</param>
    /// <param name="hostProgress">Told at each begin and end of an action with a host; may be null.</param>
    /// <exception cref="VMatrixException"><c>DeciderBusy</c>, <c>DeciderLost</c>, <c>StaleEpoch</c> when a driver has seen a later decider.</exception>
    public async Task RunAsync(string name, TimeSpan? interval, Action<Plan>? switched, IProgress<MoveRecord>? progress, CancellationToken cancellation, IProgress<HostActionRecord>? hostProgress = null)
    {
        var mover = RequireMover();
        hostProgress ??= _trial?.Hosts;
        using var decider = await DecideAsync(name, cancellation);
        var context = Context(name, decider, null);
        var open = new List<Task>();
        try
        {
            string? incarnation = null;
            Plan? last = null;
            var prepared = false;
            Task recovery = Task.CompletedTask, hostRecovery = Task.CompletedTask;
            while (true)
            {
                decider.Check();
                var tick = _clock.WaitAsync(interval ?? Spec.Oracle.Interval, cancellation);
                try
                {
                    last = null;
                    if (!prepared)
                    {
                        await PrepareAsync(mover, context, progress, cancellation);
                        incarnation = ReadBalancerRun();
                    }

                    prepared = true;
                    incarnation = await KeepBalancerAsync(mover, context, incarnation, cancellation);
                    foreach (var approved in Approved(name, decider))
                    {
                        open.Add(CarryOutPlanAsync(mover, approved.Plan, approved.Moves, approved.Context, progress, cancellation));
                        open.Add(CarryOutHostsAsync(mover, approved.Plan, approved.Hosts, approved.Context, hostProgress, cancellation));
                    }

                    var (plan, moves, hosts) = Keep(name, await PlanAsync(fence: true, cancellation));
                    last = plan;
                    KeepLoads();
                    switched?.Invoke(plan);

                    // What a hand left when it was killed, and what waits for a host, is taken up beside the plan.
                    if (recovery.IsCompleted && DueForRecovery() is { Count: > 0 } due)
                        open.Add(recovery = mover.RecoverAsync(context, progress, cancellation, due));
                    if (hostRecovery.IsCompleted && HostsDueForRecovery() is { Count: > 0 } dueHosts)
                        open.Add(hostRecovery = mover.RecoverHostsAsync(context, hostProgress, cancellation, dueHosts));
                    if (moves.Count > 0)
                        open.Add(CarryOutPlanAsync(mover, plan, moves, context, progress, cancellation));
                    if (hosts.Count > 0)
                        open.Add(CarryOutHostsAsync(mover, plan, hosts, context, hostProgress, cancellation));
                }
                catch (VMatrixException e) when (prepared ? !EndsRun(e) : e.IsTransient || e.Kind is VMatrixErrorKind.Unreachable or VMatrixErrorKind.Timeout or VMatrixErrorKind.Busy)
                {
                    switched?.Invoke(NoPlan(e));
                }

                await WaitForCallAsync(tick, last, cancellation);
                foreach (var ended in open.Where(t => t.IsCompleted).ToArray())
                {
                    open.Remove(ended);
                    try
                    {
                        await ended;
                    }
                    catch (VMatrixException e) when (!EndsRun(e))
                    {
                        switched?.Invoke(NoPlan(e));
                    }
                }
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // Asked to stop: what is open below is brought to a whole state first.
        }
        finally
        {
            await Task.WhenAll(open);
        }
    }

    /// <summary>True for what says that this decider is none any more. Everything else ends with the tick in which it was told.</summary>
    private static bool EndsRun(VMatrixException e) => e.Id is "DeciderLost" or "DeciderBusy" or "StaleEpoch";

    /// <summary>Says instead of a plan why there is none.</summary>
    private Plan NoPlan(VMatrixException e)
    {
        var now = _clock.GetLocalNow();
        return new Plan { Id = Guid.NewGuid(), Pool = Spec.Name, CreatedAt = now, ExpiresAt = now, Moves = [], Summary = $"Nothing was decided, and it is tried again: {e.Message}" };
    }

    /// <summary>
    /// Adds what was last seen on hosts that do not answer: it counts as running there until the host is proven dead. What a dead host
    /// held is left out where no other host reaches its disks, so that new servers take its place.
    /// </summary>
    private async Task<(IReadOnlyList<ServerState> Servers, HashSet<string> Dead)> AddLostAsync(
        Observation seen, IReadOnlyList<ServerState> servers, bool fence, CancellationToken cancellation)
    {
        var dead = new HashSet<string>(StringComparer.OrdinalIgnoreCase);
        var byHost = servers.Where(s => s.Host is not null).ToLookup(s => s.Host!, StringComparer.OrdinalIgnoreCase);
        var known = new HashSet<Guid>(servers.Select(s => s.Mark.ServerId));
        List<ServerState> all = [.. servers];
        foreach (var host in Spec.Hosts.Where(h => seen.IsReachable(h.Name)))
        {
            // A server whose mark can no longer be read is there all the same: it counts, and nothing is done to it.
            var marks = seen.Foreign.Where(m => string.Equals(m.Host, host.Name, StringComparison.OrdinalIgnoreCase) && m.Problem is not null).ToLookup(m => m.MachineId, StringComparer.OrdinalIgnoreCase);
            ServerState[] unread = _lastSeen.TryGetValue(host.Name, out var before)
                ? [.. before.Where(s => !known.Contains(s.Mark.ServerId) && s.Mark.MachineId.Length > 0 && marks.Contains(s.Mark.MachineId)).Select(s => s with { Claimed = true, ClaimedTo = s.Mark.Stage, ClaimedHost = host.Name })] : [];
            all.AddRange(unread);
            _lastSeen[host.Name] = [.. byHost[host.Name], .. unread];
            _silentSince.Remove(host.Name);
        }


        // Side by side: one that is slow to prove keeps nobody waiting for the others.
        foreach (var host in Spec.Hosts.Where(h => !seen.IsReachable(h.Name) && !_silentSince.ContainsKey(h.Name)))
            _silentSince[host.Name] = _clock.GetTimestamp();
        var proofs = await Task.WhenAll(Spec.Hosts.Where(h => !seen.IsReachable(h.Name)).Select(async host =>
        {
            var last = _lastSeen.TryGetValue(host.Name, out var states) ? [.. states.Where(s => !known.Contains(s.Mark.ServerId))] : Array.Empty<ServerState>();
            if (!_fenced.TryGetValue(host.Name, out var pace))
                _fenced[host.Name] = pace = new Pace(_clock, s_fenceEvery);

            // Its power is cut only where that helps somebody: servers of the pool were on it, and it has been silent for a while.
            bool due = fence && last.Length > 0 && _clock.GetElapsedTime(_silentSince[host.Name]) >= FencePatience && _state?.ReadHostClaim(host.Name) is null && pace.IsDue;
            if (due)
                pace.Done();
            var proven = _mover is not null && (await _mover.ProveHostDeadAsync(host, [.. last.Select(s => s.Mark.ServerId)], due, cancellation, seen.SilenceOf(host.Name))).Proven;
            return (host.Name, last, proven);
        }));
        foreach (var (name, last, proven) in proofs)
        {
            if (proven)
                _ = dead.Add(name);
            if (!proven || _drivers.Hypervisor.Traits.SharedDisks)
                all.AddRange(last);
        }

        return (all, dead);
    }

    /// <summary>Takes the decider's lock, and an epoch above all that the drivers have seen: they remember epochs that a lost or restored state folder does not.</summary>
    private async Task<Decider> DecideAsync(string name, CancellationToken cancellation)
    {
        var decider = _state!.Decide(name, cancellation);
        try
        {
            foreach (var keeper in new object[] { _drivers.Hypervisor, _drivers.Balancer }.OfType<IEpochKeeper>())
                decider.RaiseAbove(await keeper.ReadEpochAsync(cancellation));
            return decider;
        }
        catch
        {
            decider.Dispose();
            throw;
        }
    }

    private async Task PrepareAsync(Mover mover, MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        await ReadyBalancerAsync(mover, context, progress, cancellation);
        _ = await mover.RecoverAsync(context, progress, cancellation);
        _ = await mover.MendAsync(context, progress, cancellation);
    }

    /// <summary>Powers hosts down and wakes them: those of a stored plan's actions that may go now.</summary>
    private async Task CarryOutHostsAsync(Mover mover, Plan plan, IReadOnlyList<HostAction> hosts, MoveContext context, IProgress<HostActionRecord>? progress, CancellationToken cancellation)
    {
        if (hosts.Count == 0)
            return;
        Begin(plan, context.By);
        var records = await mover.CarryOutAsync(hosts, context with { PlanId = plan.Id }, progress, cancellation);
        Remember([], records);
        if (plan.Moves.Count == 0)
            End(plan, records.All(r => r.Status is MoveStatus.Done));
        foreach (var record in records)
        {
            if (Measured(record) is { } wake)
                _hostWakes.Value.Add(wake);
        }
    }

    /// <summary>Keeps what each minute brought in the pool's history, from which Invoke-VMatrixSimulation plays it again, and lets go of what is old.</summary>
    private void KeepLoads()
    {
        if (_loadsKept.Since == TimeSpan.Zero && _loadsKept.IsDue)
            _loadsKept.Done();
        if (_trial is not null || !_loadsKept.IsDue)
            return;
        var now = _clock.GetUtcNow();
        var since = now - _loadsKept.Since;
        var minute = new List<ServiceLoad>();
        foreach (var service in _sensor.Samples)
        {
            ServiceLoad[] good = [.. service.Value.Where(s => s.At > since && s.Bad is null)];
            if (good.Length > 0)
            {
                minute.Add(new ServiceLoad
                {
                    Service = service.Key,
                    At = since,
                    RequestRate = good.Average(s => s.RequestRate),
                    ServedRate = good.Average(s => s.ServedRate),
                    RefusedRate = good.Average(s => s.RefusedRate),
                    ErrorRate = good.Average(s => s.ErrorRate),
                    Queue = (int)Math.Round(good.Average(s => s.Queue)),
                    Sessions = (int)Math.Round(good.Average(s => s.Sessions)),
                    ResponseTime = TimeSpan.FromTicks((long)good.Average(s => s.ResponseTime.Ticks)),
                });
            }
        }

        _state!.History.AddSamples(minute);
        _loadsKept.Done();
        if (!_historyTrimmed.IsDue)
            return;
        _state.History.Trim(now - s_historyKept, MostHistory);
        _historyTrimmed.Done();
    }

    private const long MostHistory = 256L << 20;
    private static readonly TimeSpan s_historyKept = TimeSpan.FromDays(90);
    private static readonly TimeSpan s_trimEvery = TimeSpan.FromDays(1);

    /// <summary>What wakes took, from the pool's history on.</summary>
    private WakeMeasures ReadWakes() => new(_state?.History.ReadWakes(_clock.GetUtcNow() - s_wakesCount, WakeMeasures.Most) ?? []);

    private WakeMeasures ReadHostWakes() => new((_state?.History.ReadHostActions(_clock.GetUtcNow() - s_wakesCount, MostHostActions) ?? []).Reverse().Select(Measured).OfType<WakeMeasure>());

    /// <summary>Hosts are alike in what waking them takes.</summary>
    private static WakeMeasure? Measured(HostActionRecord record) =>
        record is { Action.Kind: HostActionKind.Wake, Status: MoveStatus.Done } && record.EndedAt - record.StartedAt is { } took ? new WakeMeasure(AnyHost, took, null) : null;

    private const string AnyHost = "";
    private const int MostHostActions = 200;

    /// <summary>What was measured longer ago counts no more: images and machines change.</summary>
    private static readonly TimeSpan s_wakesCount = TimeSpan.FromDays(30);

    private static MoveContext Context(string name, Decider decider, string? approvedBy) =>
        new() { By = StateFolder.Describe(name) + (approvedBy is null ? "" : $", approved by {approvedBy}"), Epoch = decider.Epoch };

    /// <summary>Carries out some moves of a stored plan: those of it that may go now.</summary>
    private async Task<IReadOnlyList<MoveRecord>> CarryOutPlanAsync(Mover mover, Plan plan, IReadOnlyList<Move> moves, MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        var now = _clock.GetLocalNow();
        if (IsExpired(plan))
        {
            throw new VMatrixException("PlanExpired", VMatrixErrorKind.InvalidState,
                $"Plan {plan.Id} expired at {Times.Show(plan.ExpiresAt)}; make a new one with New-VMatrixPlan.");
        }

        // A window in which a service's servers may not be moved may have begun since the plan was made.
        var frozen = Modes.With(moves, m => Spec.Services.FirstOrDefault(s => s.Name == m.Service) is { } service && Planner.IsFrozen(service, now));
        MoveRecord[] refused = [.. frozen.Select(m => new MoveRecord
        {
            Move = m,
            PlanId = plan.Id,
            Status = MoveStatus.Refused,
            By = context.By,
            StartedAt = now,
            EndedAt = now,
            ErrorId = "WindowBegan",
            Error = $"A window in which {m.Service}, or a service that the move depends on, may not be moved has begun since the plan was made.",
        })];
        foreach (var record in refused)
            progress?.Report(record);
        Move[] go = [.. moves.Except(frozen)];
        Begin(plan, context.By);
        lock (_underWay)
            _underWay.AddRange(go);
        IReadOnlyList<MoveRecord> records;
        try
        {
            records = await mover.CarryOutAsync(go, context with { PlanId = plan.Id }, new UnderWay(this, progress), cancellation);
        }
        finally
        {
            lock (_underWay)
                _ = _underWay.RemoveAll(go.Contains);
        }

        Remember(records, []);
        foreach (var record in records)
        {
            if (WakeMeasures.Of(record) is { } wake)
                _wakes.Value.Add(wake);
        }

        End(plan, refused.Length == 0 && records.All(r => r.Status is MoveStatus.Done));
        return refused.Length == 0 ? records : [.. records, .. refused];
    }

    /// <summary>Moves that servers are claimed by: open ones of anybody, and those of our own plans that wait for their turn.</summary>
    private IEnumerable<Move> Claims()
    {
        Move[] own;
        lock (_underWay)
            own = [.. _underWay];
        return (_state?.ReadOpenMoves() ?? []).Select(m => m.Move).Concat(own);
    }

    /// <summary>Lets go of a plan's move as soon as it has ended.</summary>
    private sealed class UnderWay(PoolSession session, IProgress<MoveRecord>? then) : IProgress<MoveRecord>
    {
        public void Report(MoveRecord value)
        {
            if (value.Status is not (MoveStatus.Pending or MoveStatus.Running))
            {
                lock (session._underWay)
                    _ = session._underWay.RemoveAll(m => m.Id == value.Id);
            }

            then?.Report(value);
        }
    }
}
