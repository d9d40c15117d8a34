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
                ForItem(Plan, () => CarryOutPlan(Plan!.Id, $"Carry out the stored plan {Plan.Id} in pool '{PoolPath}'", null));
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
        if (plan is { Moves.Count: 0, Hosts.Count: 0 } && !IsWhatIf)
            return;
        if (!ShouldProcess(description, $"{description}{Environment.NewLine}Carry it out?", "Switch"))
            return;
        using var progress = new SwitchProgress(this, plan?.Moves.Count ?? 0);
        foreach (var record in InPool("Switching", (pool, cancellation) => pool.SwitchAsync(id, progress, progress, cancellation)))
            Tell(record);
        var after = InPool("Reading the plan", (pool, cancellation) => pool.GetPlanAsync(id, cancellation));
        if (after.Status is PlanStatus.Waiting)
            WriteWarning($"{after.Waiting.Count} of the plan's {after.Moves.Count + after.Plan.Hosts.Count} moves and actions with hosts wait for an approval: Approve-VMatrixPlan -Id {id}");
    }

    private void RunOn()
    {
        if (!ShouldProcess($"pool '{PoolPath}'", "Switch again and again until stopped"))
            return;
        using var progress = new SwitchProgress(this, 0);
        _ = InPool("Switching", async (pool, cancellation) =>
        {
            await pool.RunAsync(MyInvocation.MyCommand.Name, Interval, plan => Post(() => WriteVerbose(plan.Summary)), progress, cancellation, progress);
            return true;
        });
    }

    /// <summary>Tells once of a move that has ended: on the pipeline when asked for, and as an error when it was not done.</summary>
    private void Tell(MoveRecord record)
    {
        if (record.Status is MoveStatus.Pending or MoveStatus.Running || !_reported.Add(record.Id))
            return;
        if (PassThru)
            Emit(record);
        _ = Report(record);
    }

    /// <summary>Tells of what was done with the power of a host: an error where it was not done.</summary>
    private void Tell(HostActionRecord record)
    {
        string what = $"{(record.Action.Kind is HostActionKind.Wake ? "Waking" : "Powering down")} host '{record.Action.Host}'";
        WriteVerbose($"{what}: {record.Status}");
        if (record.Status is not (MoveStatus.Pending or MoveStatus.Running or MoveStatus.Done))
            WriteError(Errors.HostActionNotDone(record, what));
    }

    /// <summary>A plan in words, as -WhatIf prints it.</summary>
    private static string Describe(Plan plan)
    {
        List<string> lines = [plan.Summary];
        for (int i = 0; i < plan.Moves.Count; i++)
        {
            var move = plan.Moves[i];
            lines.Add($"  {i + 1}. {(move.IsDrop ? "Drop" : move.Kind.ToString())} {move.ServerName}, {Place(move.FromStage, move.FromHost)} -> {Place(move.ToStage, move.ToHost)}: {move.Reason}");
        }

        lines.AddRange(plan.Hosts.Select(h => $"  {(h.Kind is HostActionKind.Wake ? "Wake" : "Power down")} host {h.Host}: {h.Reason}"));
        lines.AddRange(plan.Refused.Select(r => $"  Not: {r.What}: {r.Reason}"));
        return string.Join(Environment.NewLine, lines);
    }

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
