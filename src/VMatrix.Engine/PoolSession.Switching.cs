using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
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

    private readonly Sensor _sensor;
    private readonly Dictionary<string, TimeSpan> _wakeTime = new(StringComparer.OrdinalIgnoreCase);
    private readonly List<Move> _underWay = [];
    private PlannerMemory? _memory;
    private readonly Dictionary<string, IReadOnlyList<ServerState>> _lastSeen = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<string, DateTimeOffset> _fenced = new(StringComparer.OrdinalIgnoreCase);
    private DateTimeOffset _memoryWritten;
    private int _seed;

    /// <summary>Senses and makes a plan, stored under its id where the pool has a state folder; changes nothing else.</summary>
    public Task<Plan> PlanSwitchAsync(CancellationToken cancellation) => PlanSwitchAsync(fence: false, cancellation);

    private async Task<Plan> PlanSwitchAsync(bool fence, CancellationToken cancellation)
    {
        _memory ??= _state?.ReadMemory();
        // Looking takes time: a server whose move ended meanwhile may have been seen before or after it, so it counts as claimed still.
        Move[] claims = [.. Claims()];
        var measuring = _sensor.MeasureAsync(cancellation);
        var seen = await ObserveAsync(null, cancellation);
        var health = await _sensor.CheckHealthAsync([.. seen.Servers.Where(s => s.Stage is Stage.Matrix)], cancellation);
        LastLook = Look(seen, await measuring, health);
        var now = _clock.GetLocalNow();
        var suspended = SuspendedHosts(now);
        var (servers, dead) = await AddLostAsync(seen, seen.ToStates(Spec, claims.Concat(Claims()), health.ToDictionary(h => h.Key, h => h.Value.Health)), fence, cancellation);
        var output = Planner.Plan(new PlannerInput
        {
            Pool = Spec,
            Now = now,
            Hosts =
            [
                .. Spec.Hosts.Select(h => new HostState
                {
                    Name = h.Name,
                    Reachable = seen.IsReachable(h.Name),
                    Suspended = suspended.ContainsKey(h.Name),
                    ProvenDead = dead.Contains(h.Name),
                    PoweredDown = seen.IsPoweredDown(h.Name),
                    ForeignMemoryBytes = seen.ForeignBytes(h.Name),
                }),
            ],
            Servers = servers,
            Loads = _sensor.Samples,
            Memory = _memory,
            WakeTime = _wakeTime,
            Images = seen.Images,
            Pinned = _state?.Overrides.ReadServices(now).ToDictionary(o => o.Service, o => o.Servers, StringComparer.OrdinalIgnoreCase) ?? [],
            LiveMigration = _drivers.Hypervisor.Traits.LiveMigration,
            Seed = ++_seed,
        });
        _memory = output.Memory;
        if (_state is null)
            return output.Plan;
        if (now - _memoryWritten >= s_memoryEvery)
        {
            _state.WriteMemory(output.Memory);
            _memoryWritten = now;
        }

        return _state.StorePlan(output.Plan);
    }

    /// <summary>Carries out a stored plan by its id, as the pool's decider.</summary>
    /// <param name="plan">The plan's id.</param>
    /// <param name="progress">Told at each change of a move; may be null.</param>
    /// <param name="cancellation">Ends it at the nearest whole state.</param>
    /// <returns>What became of each move, in the plan's order.</returns>
    /// <exception cref="VMatrixException"><c>PlanNotFound</c>, <c>PlanCorrupt</c>, <c>PlanExpired</c>, <c>DeciderBusy</c>.</exception>
    public async Task<IReadOnlyList<MoveRecord>> SwitchAsync(Guid plan, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        var mover = RequireMover();
        var stored = _state!.LoadPlan(plan);
        using var decider = _state.Decide("Invoke-VMatrixSwitch");
        var context = new MoveContext { By = StateFolder.Describe("Invoke-VMatrixSwitch"), Epoch = decider.Epoch };
        await PrepareAsync(mover, context, progress, cancellation);
        return await CarryOutPlanAsync(mover, stored, context, progress, cancellation);
    }

    /// <summary>Switches again and again as the pool's decider until cancelled. Ends when every open move has come to a whole state; the servers keep running.</summary>
    /// <param name="name">What the decider calls itself.</param>
    /// <param name="interval">Time from one switch to the next; null for the pool's setting.</param>
    /// <param name="switched">Told of each switch: the plan and the loads it saw; may be null.</param>
    /// <param name="progress">Told at each change of a move; may be null.</param>
    /// <param name="cancellation">Ends it, with nothing half done.</param>
    /// <exception cref="VMatrixException"><c>DeciderBusy</c>, <c>DeciderLost</c>.</exception>
    public async Task RunAsync(string name, TimeSpan? interval, Action<Plan>? switched, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        var mover = RequireMover();
        using var decider = _state!.Decide(name);
        var context = new MoveContext { By = StateFolder.Describe(name), Epoch = decider.Epoch };
        var open = new List<Task>();
        try
        {
            await PrepareAsync(mover, context, progress, cancellation);
            string? incarnation = null;
            var recovery = Task.CompletedTask;
            while (true)
            {
                decider.Check();
                var tick = _clock.WaitAsync(interval ?? Spec.Oracle.Interval, cancellation);
                incarnation = await KeepBalancerAsync(mover, context, incarnation, cancellation);
                var plan = await PlanSwitchAsync(fence: true, cancellation);
                switched?.Invoke(plan);

                // What a hand left when it was killed, and what waits for a host, is taken up beside the plan.
                if (recovery.IsCompleted && _state.ReadOpenMoves().Any(m => m.Status is MoveStatus.Interrupted or MoveStatus.Failed))
                    open.Add(recovery = mover.RecoverAsync(context, progress, cancellation));
                if (plan.Moves.Count > 0 && Spec.Oracle.Mode is OracleMode.Automatic)
                    open.Add(CarryOutPlanAsync(mover, plan, context, progress, cancellation));
                await tick;
                foreach (var ended in open.Where(t => t.IsCompleted).ToArray())
                {
                    await ended;
                    open.Remove(ended);
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
        foreach (var host in Spec.Hosts)
        {
            if (seen.IsReachable(host.Name))
            {
                _lastSeen[host.Name] = [.. byHost[host.Name]];
                continue;
            }

            var last = _lastSeen.TryGetValue(host.Name, out var states) ? [.. states.Where(s => !known.Contains(s.Mark.ServerId))] : Array.Empty<ServerState>();
            var now = _clock.GetUtcNow();
            bool due = fence && (!_fenced.TryGetValue(host.Name, out var before) || now - before >= s_fenceEvery);
            if (due)
                _fenced[host.Name] = now;
            if (_mover is not null && (await _mover.ProveHostDeadAsync(host, [.. last.Select(s => s.Mark.ServerId)], due, cancellation)).Proven)
            {
                _ = dead.Add(host.Name);
                if (!_drivers.Hypervisor.Traits.SharedDisks)
                    continue;
            }

            all.AddRange(last);
        }

        return (all, dead);
    }

    private async Task PrepareAsync(Mover mover, MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        await _drivers.Balancer.EnsureAsync(cancellation);
        _ = await mover.RecoverAsync(context, progress, cancellation);
        _ = await mover.MendAsync(context, progress, cancellation);
    }

    /// <summary>Gives a balancer that went away and came back its servers again.</summary>
    private async Task<string?> KeepBalancerAsync(Mover mover, MoveContext context, string? incarnation, CancellationToken cancellation)
    {
        try
        {
            var report = await _drivers.Balancer.ReadAsync(cancellation);
            if (report.Incarnation != incarnation)
                _ = await mover.ReconcileAsync(context, null, cancellation);
            return report.Incarnation;
        }
        catch (VMatrixException error) when (error.Kind is VMatrixErrorKind.Unreachable)
        {
            try
            {
                await _drivers.Balancer.EnsureAsync(cancellation);
            }
            catch (VMatrixException)
            {
                // It stays away: the loads are bad samples and freeze the decisions, which say so.
            }

            return null;
        }
    }

    private async Task<IReadOnlyList<MoveRecord>> CarryOutPlanAsync(Mover mover, Plan plan, MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        if (_clock.GetUtcNow() > plan.ExpiresAt)
        {
            throw new VMatrixException("PlanExpired", VMatrixErrorKind.InvalidState,
                $"Plan {plan.Id} expired at {plan.ExpiresAt:u}; make a new one with New-VMatrixPlan.");
        }

        lock (_underWay)
            _underWay.AddRange(plan.Moves);
        IReadOnlyList<MoveRecord> records;
        try
        {
            records = await mover.CarryOutAsync(plan.Moves, context with { PlanId = plan.Id }, new UnderWay(this, progress), cancellation);
        }
        finally
        {
            lock (_underWay)
                _ = _underWay.RemoveAll(plan.Moves.Contains);
        }

        foreach (var record in records)
        {
            if (record.Move.Kind is MoveKind.Wake && record.Status is MoveStatus.Done && record.Duration is { } took)
            {
                // Smoothed as TCP smooths its round-trip time (RFC 6298: one eighth of each new one).
                _wakeTime[record.Move.Service] = _wakeTime.TryGetValue(record.Move.Service, out var known)
                    ? known + TimeSpan.FromTicks((took - known).Ticks / 8) : took;
            }
        }

        return records;
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
