using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;
using VMatrix.Planning;

namespace VMatrix;

/// <content>Stored plans: what becomes of them, approvals, explanations, and the scores of shadowed services.</content>
public sealed partial class PoolSession
{
    /// <summary>Plans are for now; a week of them is for looking back.</summary>
    private static readonly TimeSpan s_plansKept = TimeSpan.FromDays(7);

    private const int MostPlans = 200;

    /// <summary>What a plan of more servers was made from takes too long to write beside each plan of a resident Oracle; a plan asked for keeps it whatever its size.</summary>
    private const int MostServersKept = 20_000;

    private readonly Pace _emptyStored;
    private readonly Pace _plansTrimmed;
    private readonly Pace _shadowKept;
    private IReadOnlyList<ShadowTally>? _shadow;

    /// <summary>The stored plans, newest first, and what became of them.</summary>
    public Task<IReadOnlyList<PlanRecord>> GetPlansAsync(CancellationToken cancellation)
    {
        var plans = new List<PlanRecord>();
        var approvals = Approvals();
        foreach (var id in _state?.ReadPlans() ?? [])
        {
            cancellation.ThrowIfCancellationRequested();
            try
            {
                plans.Add(ToRecord(_state!.LoadPlan(id), approvals));
            }
            catch (VMatrixException error) when (IsUnreadable(error))
            {
                // Trimmed while we looked, or not what was stored: it can be neither shown nor carried out.
            }
        }

        return Task.FromResult<IReadOnlyList<PlanRecord>>([.. plans.OrderByDescending(p => p.CreatedAt)]);
    }

    /// <summary>A stored plan and what became of it.</summary>
    /// <exception cref="VMatrixException"><c>PlanNotFound</c>, <c>PlanCorrupt</c>.</exception>
    public Task<PlanRecord> GetPlanAsync(Guid plan, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(ToRecord(Stored(plan), Approvals()));
    }

    /// <summary>Approves a plan whose moves wait, so that the pool's decider begins them. Other plans that wait were made from what will no longer be so: they are superseded.</summary>
    /// <param name="plan">The plan's id.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <exception cref="VMatrixException"><c>PlanNotFound</c>, <c>PlanCorrupt</c>, <c>PlanExpired</c>, <c>PlanSuperseded</c>, <c>PlanNotWaiting</c>.</exception>
    public async Task<PlanRecord> ApprovePlanAsync(Guid plan, CancellationToken cancellation)
    {
        _ = RequireMover();
        var record = await GetPlanAsync(plan, cancellation);
        switch (record.Status)
        {
            case PlanStatus.Approved:
                return record;
            case PlanStatus.Expired:
                throw new VMatrixException("PlanExpired", VMatrixErrorKind.InvalidState,
                    $"Plan {plan} expired at {Times.Show(record.ExpiresAt)} and cannot be approved any more; Get-VMatrixPlan -Status Waiting lists those that can.");
            case PlanStatus.Superseded:
                throw new VMatrixException("PlanSuperseded", VMatrixErrorKind.InvalidState, $"Plan {plan} cannot be approved: {record.Superseded} Get-VMatrixPlan -Status Waiting lists those that can.");
            case PlanStatus.Waiting:
                break;
            default:
                throw new VMatrixException("PlanNotWaiting", VMatrixErrorKind.InvalidState, $"Plan {plan} does not wait for an approval: it is {record.Status}.");
        }

        var waiting = (await GetPlansAsync(cancellation)).Where(p => p.Status is PlanStatus.Waiting && p.Id != plan).ToArray();
        _state!.Overrides.SetApproval(new PlanApproval { PlanId = plan, Hash = record.Hash!, By = StateFolder.Describe(Environment.UserName), At = _clock.GetUtcNow() });
        foreach (var other in waiting)
        {
            if (_state.ReadProgress(other.Id) is { } progress)
                _state.WriteProgress(progress with { Superseded = $"plan {plan} was approved, so that it was made from what is no longer so." });
        }

        return await GetPlanAsync(plan, cancellation);
    }

    /// <summary>Tells the full story of a server, a host or a service in a stored plan, by planning once more from what the plan was made from.</summary>
    /// <param name="plan">The plan; null for the newest that can be explained.</param>
    /// <param name="id">A server's id; null to go by the name.</param>
    /// <param name="name">The name of a server, a host or a service; null to go by the id.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <exception cref="VMatrixException"><c>PlanNotFound</c>, <c>PlanCorrupt</c>, <c>PlanInputMissing</c>, <c>SubjectNotFound</c>, <c>SubjectAmbiguous</c>.</exception>
    public async Task<Explanation> ExplainAsync(Guid? plan, Guid? id, string? name, CancellationToken cancellation)
    {
        var record = plan is { } known ? await GetPlanAsync(known, cancellation)
            : (await GetPlansAsync(cancellation)).FirstOrDefault(p => p.Explainable)
            ?? throw new VMatrixException("PlanNotFound", VMatrixErrorKind.NotFound, $"Pool '{Spec.Name}' has no stored plan that can be explained; make one with New-VMatrixPlan.");
        var (explanation, again) = Planner.Explain(_state!.LoadInput(record.Id), id, name, cancellation);
        return StateFolder.HashOf(again) == record.Hash ? explanation
            : explanation with { Note = $"The same input made another plan now than it did then, so another version of VMatrix made plan {record.Id}; this is the story of the new one." };
    }

    /// <summary>The scores of the services that the Oracle only shadows.</summary>
    private IReadOnlyList<ShadowScore> ShadowScores() => [.. (_shadow ?? _state?.ReadShadow() ?? []).Select(t => t.Score)];

    private Plan Stored(Guid plan) => _state?.LoadPlan(plan)
        ?? throw new VMatrixException("PlanNotFound", VMatrixErrorKind.NotFound, $"Pool '{Spec.Name}' was never used: it has no plans. Make one with New-VMatrixPlan.");

    private Dictionary<Guid, PlanApproval> Approvals() => _state?.Overrides.ReadApprovals().ToDictionary(a => a.PlanId) ?? [];

    private PlanRecord ToRecord(Plan plan, Dictionary<Guid, PlanApproval> approvals)
    {
        var progress = _state!.ReadProgress(plan.Id);
        // An approval is for what was seen: a plan with another content is not approved.
        _ = approvals.TryGetValue(plan.Id, out var approval);
        bool approved = approval is not null && approval.Hash == plan.Hash;
        bool waits = progress?.Waits == true;
        return new PlanRecord
        {
            Plan = plan,
            By = progress?.By,
            ApprovedBy = approved ? $"{approval!.By} at {Times.Show(approval.At)}" : progress?.ApprovedBy,
            BegunAt = progress?.BegunAt,
            EndedAt = progress?.EndedAt,
            Superseded = progress?.Superseded,
            Waiting = progress?.Waiting ?? [],
            Explainable = _state.HasInput(plan.Id),
            Status = progress?.BegunAt is not null && (!waits || progress.Superseded is not null) ? (progress.EndedAt is null ? PlanStatus.Begun : progress.AllDone ? PlanStatus.Done : PlanStatus.PartlyDone)
                : progress?.Superseded is not null ? PlanStatus.Superseded
                : IsExpired(plan) ? PlanStatus.Expired
                : !waits ? PlanStatus.Ready
                : approved ? PlanStatus.Approved : PlanStatus.Waiting,
        };
    }

    /// <summary>True when a plan's time is over; so it is for one that seems to come from the future, whose age nobody knows since a clock was set back.</summary>
    private bool IsExpired(Plan plan) => _clock.GetUtcNow() is var now && (now > plan.ExpiresAt || now < plan.CreatedAt - s_clocksDiffer);

    /// <summary>Clocks of machines that are kept in step differ by less.</summary>
    private static readonly TimeSpan s_clocksDiffer = TimeSpan.FromMinutes(1);

    private Plan Store(Plan plan, PlannerInput? input, string by, string? superseded = null)
    {
        Guid[] waiting = [.. Modes.Waiting(Spec, plan).Select(m => m.Id), .. Modes.WaitingHosts(Spec, plan).Select(h => h.Id)];
        var stored = _state!.StorePlan(plan);
        if (input is not null)
            _state.StoreInput(plan.Id, input);
        _state.WriteProgress(new PlanProgress { PlanId = plan.Id, By = StateFolder.Describe(by), Waits = waiting.Length > 0, Waiting = waiting, Superseded = superseded });
        var now = _clock.GetUtcNow();
        if (_plansTrimmed.IsDue)
        {
            _plansTrimmed.Done();
            _state.TrimPlans(now - s_plansKept, MostPlans);
        }

        return stored;
    }

    /// <summary>
    /// Stores what the resident decider planned, and says which of its moves and actions with hosts may go at once. Of plans that wish the same approval the first
    /// is kept, so that it does not change under the eyes of who reads it; of plans with nothing to do one a minute.
    /// </summary>
    private (Plan Plan, IReadOnlyList<Move> Go, IReadOnlyList<HostAction> Hosts) Keep(string name, (Plan Plan, PlannerInput Input) made)
    {
        var (plan, input) = made;
        if (_trial is not null)
            return (plan, plan.Moves, plan.Hosts);
        Score(plan, input);
        var waiting = Modes.Waiting(Spec, plan);
        var waitingHosts = Modes.WaitingHosts(Spec, plan);
        Move[] go = [.. plan.Moves.Except(waiting)];
        HostAction[] hosts = [.. plan.Hosts.Except(waitingHosts)];
        bool waits = waiting.Count + waitingHosts.Count > 0;
        var now = _clock.GetUtcNow();
        var same = waits ? Waits(waiting, waitingHosts, now) : null;
        if (go.Length == 0 && hosts.Length == 0 && (!waits || same is not null))
        {
            if (!_emptyStored.IsDue)
                return (plan, go, hosts);
            _emptyStored.Done();
        }

        return (Store(plan, input.Servers.Count <= MostServersKept ? input : null, name, same is null ? null : $"plan {same} waits with the same wish."), go, hosts);
    }

    /// <summary>The plan that waits already, wishes the same and has at least half its time left; null when there is none.</summary>
    private Guid? Waits(IReadOnlyList<Move> wish, IReadOnlyList<HostAction> hosts, DateTimeOffset now)
    {
        var approvals = Approvals();
        foreach (var id in _state!.ReadPlans().Take(MostPlans))
        {
            try
            {
                if (_state.ReadProgress(id) is not { Waits: true, Superseded: null } progress)
                    continue;
                var plan = _state.LoadPlan(id);
                if (now < plan.CreatedAt + TimeSpan.FromTicks((plan.ExpiresAt - plan.CreatedAt).Ticks / 2) && ToRecord(plan, approvals).Status is PlanStatus.Waiting or PlanStatus.Approved
                    && Modes.SameWish([.. plan.Moves.Where(m => progress.Waiting.Contains(m.Id))], wish)
                    && Modes.SameWish([.. plan.Hosts.Where(h => progress.Waiting.Contains(h.Id))], hosts))
                {
                    return id;
                }
            }
            catch (VMatrixException error) when (IsUnreadable(error))
            {
                // It waits for nothing: it can be neither approved nor carried out.
            }
        }

        return null;
    }

    /// <summary>The stored plan whose approval lets go what waits in this one, and how many moves and actions with hosts wait; null when none waits.</summary>
    /// <param name="plan">The plan of a switch of this session.</param>
    public (Guid Plan, int Moves)? FindApproval(Plan plan)
    {
        var moves = Modes.Waiting(Spec, plan);
        var hosts = Modes.WaitingHosts(Spec, plan);
        return moves.Count + hosts.Count == 0 || _state is null ? null : (Waits(moves, hosts, _clock.GetUtcNow()) ?? plan.Id, moves.Count + hosts.Count);
    }

    private static bool IsUnreadable(VMatrixException error) => error.Id is "PlanNotFound" or "PlanCorrupt" or "StateCorrupt";

    /// <summary>The plans that were approved and not begun, with their moves and actions with hosts that waited.</summary>
    private IEnumerable<(Plan Plan, IReadOnlyList<Move> Moves, IReadOnlyList<HostAction> Hosts, MoveContext Context)> Approved(string name, Decider decider)
    {
        foreach (var approval in Approvals().Values.OrderBy(a => a.At))
        {
            PlanRecord record;
            try
            {
                record = ToRecord(_state!.LoadPlan(approval.PlanId), new() { [approval.PlanId] = approval });
            }
            catch (VMatrixException error) when (IsUnreadable(error))
            {
                _ = _state!.Overrides.ClearApproval(approval.PlanId);
                continue;
            }

            if (record.Status is PlanStatus.Approved)
            {
                // What they depended on besides was begun with the plan; their preconditions tell whether it was done.
                var waited = new HashSet<Guid>(record.Waiting);
                yield return (record.Plan, [.. record.Moves.Where(m => waited.Contains(m.Id)).Select(m => m with { DependsOn = [.. m.DependsOn.Where(waited.Contains)] })],
                    [.. record.Plan.Hosts.Where(h => waited.Contains(h.Id))],
                    Context(name, decider, record.ApprovedBy));
            }
            else
                _ = _state.Overrides.ClearApproval(approval.PlanId);
        }
    }

    /// <summary>Writes down that moves of a plan are begun.</summary>
    private void Begin(Plan plan, string by)
    {
        if (_trial is not null)
            return;
        var now = _clock.GetUtcNow();
        var progress = _state!.ReadProgress(plan.Id) ?? new PlanProgress { PlanId = plan.Id, By = by };
        _ = Approvals().TryGetValue(plan.Id, out var approval);
        bool approved = progress.Waits && approval is not null && approval.Hash == plan.Hash;
        _state.WriteProgress(progress with
        {
            BegunAt = progress.BegunAt ?? now,
            Waits = progress.Waits && !approved,
            ApprovedBy = approved ? $"{approval!.By} at {Times.Show(approval.At)}" : progress.ApprovedBy,
        });
        if (approved)
            _ = _state.Overrides.ClearApproval(plan.Id);
    }

    /// <summary>Writes down that the moves of a plan that were begun have ended.</summary>
    private void End(Plan plan, bool allDone)
    {
        if (_trial is null && _state!.ReadProgress(plan.Id) is { } progress)
            _state.WriteProgress(progress with { EndedAt = _clock.GetUtcNow(), AllDone = allDone && (progress.EndedAt is null || progress.AllDone) });
    }

    private void Score(Plan plan, PlannerInput input)
    {
        if (!Spec.Services.Any(s => (s.Mode ?? Spec.Oracle.Mode) is OracleMode.Shadow))
            return;
        _shadow = Shadowing.Score(Spec, _shadow ?? _state!.ReadShadow(), plan, input.WakeTime, input.WakeBytes);
        if (!_shadowKept.IsDue)
            return;
        _state!.WriteShadow(_shadow);
        _shadowKept.Done();
    }
}
