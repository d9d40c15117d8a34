using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Approves a plan whose moves wait for it, so that the decider at work begins them.</summary>
[Cmdlet(VerbsLifecycle.Approve, "VMatrixPlan", SupportsShouldProcess = true)]
[OutputType(typeof(PlanRecord))]
public sealed class ApproveVMatrixPlanCommand : ChangingCommand
{
    /// <summary>The plans: ids, or objects of <c>Get-VMatrixPlan</c>.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Alias("Plan")]
    [ArgumentCompleter(typeof(PlanCompleter))]
    public PlanIdentity[] Id { get; set; } = null!;

    /// <summary>Returns the plans and how far they have come.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var plan in Id)
        {
            ForItem(plan.Id, plan.Pool, () =>
            {
                if (!Agreed($"plan {plan.Id} in pool '{PoolPath}'", "Approve"))
                    return;
                var record = InPool("Approving", (pool, cancellation) => pool.ApprovePlanAsync(plan.Id, cancellation));
                if (PassThru)
                    Write(record);
            });
        }
    }
}
