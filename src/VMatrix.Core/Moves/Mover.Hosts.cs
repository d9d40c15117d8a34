using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Moves;

/// <content>Powers hosts down and wakes them: one journaled claim a host, in whose way no move begins.</content>
public sealed partial class Mover
{
    /// <summary>A host that is asked to wake and stays silent for this many times as long as it should take has failed to.</summary>
    private const int MostWakeTimes = 5;

    /// <summary>Carries out what a plan wishes for hosts. Returns what became of each; one that fails is told in its record and does not throw.</summary>
    /// <param name="actions">The actions.</param>
    /// <param name="context">Who carries them out.</param>
    /// <param name="progress">Told at each begin and end; may be null.</param>
    /// <param name="cancellation">Actions not begun are refused; one that waits for a host to wake is left to whoever comes next.</param>
    public async Task<IReadOnlyList<HostActionRecord>> CarryOutAsync(IReadOnlyList<HostAction> actions, MoveContext context, IProgress<HostActionRecord>? progress, CancellationToken cancellation) =>
        await AllAsync(actions.Select(a => CarryOutAsync(a, context, progress, cancellation)).ToArray());

    /// <summary>Takes up what was cut short with hosts: it is carried out again, which is safe, or given up where it no longer holds.</summary>
    /// <param name="context">Who carries them out.</param>
    /// <param name="progress">Told at each begin and end; may be null.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <param name="only">The ids of the actions to take up; null for all.</param>
    public async Task<IReadOnlyList<HostActionRecord>> RecoverHostsAsync(MoveContext context, IProgress<HostActionRecord>? progress, CancellationToken cancellation, IReadOnlyCollection<Guid>? only = null) =>
        await AllAsync(State.ReadHostClaims().Where(c => State.IsFree(c) && (only is null || only.Contains(c.Action.Id))).Select(c => CarryOutAsync(c.Action, context, progress, cancellation)).ToArray());

    private async Task<HostActionRecord> CarryOutAsync(HostAction action, MoveContext context, IProgress<HostActionRecord>? progress, CancellationToken cancellation)
    {
        var record = new HostActionRecord { Action = action, PlanId = context.PlanId, Status = MoveStatus.Running, By = context.By, StartedAt = Clock.GetUtcNow() };
        HostActionRecord End(MoveStatus status, string? error = null)
        {
            var ended = record with { Status = status, Error = error, EndedAt = Clock.GetUtcNow() };
            State.History.AddHostAction(ended);
            progress?.Report(ended);
            return ended;
        }

        HostClaim? claim = null;
        bool began = false, unsure = false;
        try
        {
            if (Hypervisor is not IHostPower power)
                return End(MoveStatus.Refused, $"The hypervisor '{Hypervisor.Traits.Name}' cannot power hosts down and wake them.");
            if (HostOf(action.Host) is not { } host)
                return End(MoveStatus.Refused, $"The pool file names no host '{action.Host}'.");
            cancellation.ThrowIfCancellationRequested();
            State.CheckEpoch(context.Epoch);
            (claim, string? busy) = State.Guard(() => State.TryClaimHost(new HostClaim(action, State.EnsureOwner(cancellation), context.By, record.StartedAt, context.PlanId), cancellation));
            if (claim is null)
                return End(MoveStatus.Refused, busy);
            Point("host.claimed");
            var call = new DriverCall(action.Id, context.Epoch);
            if (action.Kind is HostActionKind.PowerDown)
            {
                // Seen after the claim stands: no move begins there any more.
                var report = await ReadHostAsync(host, cancellation);
                if (report.Machines.FirstOrDefault(m => m.Power is PowerState.Running or PowerState.Paused or PowerState.Unknown) is { } machine)
                    return End(MoveStatus.Refused, $"{host.Name} is not idle: '{machine.Name}' runs on it.");
                began = unsure = true;
                progress?.Report(record);
                Point("host.down.before");
                await TryAsync($"Powering down {host.Name}", Pool.Limits.StepTimeout, c => power.PowerDownAsync(call, host, c), cancellation);
                Point("host.down.after");
                unsure = false;
                return End(MoveStatus.Done);
            }

            began = true;
            progress?.Report(record);
            Point("host.wake.before");
            await TryAsync($"Waking {host.Name}", Pool.Limits.StepTimeout, c => power.WakeHostAsync(call, host, c), cancellation);
            Point("host.wake.after");
            var asked = Clock.GetTimestamp();
            var most = TimeSpan.FromTicks(Math.Max(Pool.Limits.StepTimeout.Ticks, Pool.Oracle.HostWakeTime.Ticks * MostWakeTimes));
            while (true)
            {
                try
                {
                    if (!(await ReadHostAsync(host, cancellation)).PoweredDown)
                        return End(MoveStatus.Done);
                }
                catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable)
                {
                    // A host on its way up need not answer yet.
                }

                if (Clock.GetElapsedTime(asked) > most)
                    return End(MoveStatus.Failed, $"{host.Name} was asked to wake and did not answer within {Planning.Words.Seconds(most)}: look at the machine.");
                await Clock.WaitAsync(TimeSpan.FromSeconds(1), cancellation);
            }
        }
        catch (OperationCanceledException) when (_abandoned is null)
        {
            return End(began ? MoveStatus.Interrupted : MoveStatus.Cancelled, began ? "It was cut short; who decides next takes it up." : "Cancelled before it began.");
        }
        catch (Exception e) when (!IsDead(e))
        {
            // A call that the driver refused to make leaves the host to whoever decides now.
            unsure = unsure && e is not VMatrixException { Id: "StaleEpoch" };
            return End(MoveStatus.Failed, Sentence(e));
        }
        finally
        {
            // A host that may be going down stays claimed until somebody has seen to it: nothing is started there meanwhile.
            if (claim is not null && _abandoned is null)
                Try(() => State.ReleaseHost(claim, keep: unsure));
        }
    }

    private Task<HostReport> ReadHostAsync(HostSpec host, CancellationToken cancellation) =>
        TryAsync($"Reading {host.Name}", Pool.Limits.StepTimeout, c => Hypervisor.ReadHostAsync(host, c), cancellation);
}

/// <summary>Who is powering a host down or waking it: a flushed file, alive as long as its owner.</summary>
internal sealed record HostClaim(HostAction Action, Guid Owner, string By, DateTimeOffset At, Guid? PlanId = null);
