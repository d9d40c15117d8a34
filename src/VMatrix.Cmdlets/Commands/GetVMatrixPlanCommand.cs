using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Shows stored plans, newest first, and what became of them.</summary>
[Cmdlet(VerbsCommon.Get, "VMatrixPlan", DefaultParameterSetName = "List")]
[OutputType(typeof(PlanRecord), ParameterSetName = ["List", "Id"])]
public sealed class GetVMatrixPlanCommand : ReadingCommand
{
    /// <summary>Plans by their ids, or by objects that have them.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = "Id")]
    [Alias("Plan")]
    [ArgumentCompleter(typeof(PlanCompleter))]
    public PlanIdentity[]? Id { get; set; }

    /// <summary>Only plans that have come this far, such as Waiting.</summary>
    [Parameter(ParameterSetName = "List")]
    public PlanStatus[]? Status { get; set; }

    /// <summary>Most plans to show; 20 unless said.</summary>
    [Parameter(ParameterSetName = "List")]
    [ValidateRange(1, int.MaxValue)]
    public int Newest { get; set; } = 20;

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        if (ParameterSetName == "List")
        {
            ForItem(Pool, () =>
            {
                var plans = InPool("Reading the plans", (pool, cancellation) => pool.GetPlansAsync(cancellation));
                WriteObject(plans.Where(p => Status is null || Status.Contains(p.Status)).Take(Newest), true);
            });
            return;
        }

        foreach (var plan in Id!)
            ForItem(plan.Id, () => WriteObject(InPool("Reading the plan", (pool, cancellation) => pool.GetPlanAsync(plan.Id, cancellation))));
    }
}
