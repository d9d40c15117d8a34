using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Threading.Tasks;

namespace VMatrix.Commands;

/// <summary>Switches: senses the load, makes a plan and carries it out; once, from a stored plan, or again and again.</summary>
[Cmdlet(VerbsLifecycle.Invoke, "VMatrixSwitch", SupportsShouldProcess = true, DefaultParameterSetName = "Once")]
[OutputType(typeof(MoveRecord))]
public sealed class InvokeVMatrixSwitchCommand : ChangingCommand
{
    private readonly HashSet<Guid> _reported = [];

    /// <summary>A stored plan to carry out, by its id or an object of <c>New-VMatrixPlan</c>. The stored plan is what is carried out, exactly.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ParameterSetName = "Plan")]
    [ValidateNotNull]
    public PlanIdentity? Plan { get; set; }

    /// <summary>Switches again and again until stopped (Ctrl+C).</summary>
    [Parameter(Mandatory = true, ParameterSetName = "Continuous")]
    public SwitchParameter Continuous { get; set; }

    /// <summary>Time from one switch to the next; the pool's setting unless said.</summary>
    [Parameter(ParameterSetName = "Continuous")]
    [Duration(AboveZero = true)]
    [ValidateNotNull]
    public TimeSpan? Interval { get; set; }

    /// <summary>Returns the moves and what became of them.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        switch (ParameterSetName)
        {
            case "Plan":
                ForItem(Plan, Plan!.Pool, () => CarryOutPlan(Plan!.Id, $"Carry out the stored plan {Plan.Id} in pool '{PoolPath}'", null));
                break;
            case "Continuous" when !IsWhatIf:
                ForAll(RunOn);
                break;
            default:
                ForAll(() =>
                {
                    var plan = InPool("Measuring the load", (pool, cancellation) => pool.PlanSwitchAsync(cancellation));
                    CarryOutPlan(plan.Id, Describe(plan), plan);
                });
                break;
        }
    }

    private void CarryOutPlan(Guid id, string description, Plan? plan)
    {
        WriteVerbose(plan?.Summary ?? description);
        foreach (string reason in plan is null ? [] : Reasons(plan))
            WriteVerbose(reason);
        if (plan is { Moves.Count: 0, Hosts.Count: 0 } && !IsWhatIf)
            return;
        if (!ShouldProcess(description, $"{description}{Environment.NewLine}Carry it out?", "Switch"))
            return;
        using var progress = new SwitchProgress(this, plan?.Moves.Count ?? 0);
        foreach (var record in InPool("Switching", (pool, cancellation) => pool.SwitchAsync(id, progress, progress, cancellation)))
            Tell(record);
        var after = InPool("Reading the plan", (pool, cancellation) => pool.GetPlanAsync(id, cancellation));
        if (after.Status is PlanStatus.Waiting)
            WriteWarning(Waits(id, after.Waiting.Count));
    }

    private void RunOn()
    {
        if (!ShouldProcess($"pool '{PoolPath}'", "Switch again and again until stopped"))
            return;
        using var progress = new SwitchProgress(this, 0);
        var told = new HashSet<Guid>();
        _ = InPool("Switching", async (pool, cancellation) =>
        {
            try
            {
                await pool.RunAsync(MyInvocation.MyCommand.Name, Interval, plan =>
                {
                    // The switches before this one are whole: here it ends when the pipeline takes nothing more.
                    if (Broken || OutputEnded)
                        throw new OperationCanceledException();
                    var waiting = pool.FindApproval(plan);
                    Post(() =>
                    {
                        WriteKept();
                        WriteVerbose(plan.Summary);
                        if (waiting is { } found && told.Add(found.Plan))
                            WriteWarning(Waits(found.Plan, found.Moves));
                    });
                }, progress, cancellation, progress);
            }
            catch (OperationCanceledException) when (Broken || OutputEnded)
            {
                // Ended by itself, with every switch whole.
            }

            return true;
        });
    }

    private static string Waits(Guid plan, int moves) => $"{moves} move{(moves == 1 ? " waits" : "s wait")} for an approval: Approve-VMatrixPlan -Id {plan}";

    /// <summary>Tells once of a move that has ended: on the pipeline when asked for, and when it was not done by an error, once all have ended.</summary>
    private void Tell(MoveRecord record)
    {
        if (record.Status is MoveStatus.Pending or MoveStatus.Running || !_reported.Add(record.Id))
            return;
        if (PassThru)
            Write(record);
        _ = Report(record);
    }

    /// <summary>Tells of what was done with the power of a host: an error where it was not done.</summary>
    private void Tell(HostActionRecord record)
    {
        string what = $"{(record.Action.Kind is HostActionKind.Wake ? "Waking" : "Powering down")} host '{record.Action.Host}'";
        WriteVerbose($"{what}: {record.Status}");
        if (record.Status is not (MoveStatus.Pending or MoveStatus.Running or MoveStatus.Done))
            Keep(Errors.HostActionNotDone(record, what));
    }

    /// <summary>A plan as -WhatIf prints it: a line a move. -Verbose tells the reasons.</summary>
    private static string Describe(Plan plan) =>
        string.Join(Environment.NewLine, [plan.Summary, .. plan.Moves.Select((m, i) => $"  {i + 1}. {m}"), .. plan.Hosts.Select(h => $"  {h}")]);

    private static IEnumerable<string> Reasons(Plan plan) =>
        [.. plan.Moves.Select(m => $"{m}: {m.Reason}"), .. plan.Hosts.Select(h => $"{h}: {h.Reason}"), .. plan.Refused.Select(r => $"Not: {r}")];

    /// <summary>Progress that also tells of each move as it ends.</summary>
    private sealed class SwitchProgress(InvokeVMatrixSwitchCommand command, int total) : IProgress<MoveRecord>, IProgress<HostActionRecord>, IDisposable
    {
        private readonly MoveProgress _shown = new(command, total);

        public void Report(MoveRecord value) => command.Post(() =>
        {
            _shown.Show(value);
            command.Tell(value);
        });

        public void Report(HostActionRecord value) => command.Post(() => command.Tell(value));

        public void Dispose() => _shown.Dispose();
    }
}
