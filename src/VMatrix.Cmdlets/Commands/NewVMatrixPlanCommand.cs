using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Senses the load and makes a plan, stored under its id; carries nothing out.</summary>
[Cmdlet(VerbsCommon.New, "VMatrixPlan", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Low)]
[OutputType(typeof(Plan))]
public sealed class NewVMatrixPlanCommand : ChangingCommand
{
    /// <inheritdoc/>
    protected override void ProcessRecord() => ForAll(() =>
    {
        if (Agreed($"pool '{PoolPath}'", "Make a plan and store it"))
            Write(InPool("Measuring the load", (pool, cancellation) => pool.PlanSwitchAsync(cancellation)));
    });
}
