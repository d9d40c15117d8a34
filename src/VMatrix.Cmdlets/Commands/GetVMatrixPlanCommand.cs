using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Shows stored plans, newest first, and what became of them; or tells the full story of a server, a host or a service in one.</summary>
[Cmdlet(VerbsCommon.Get, "VMatrixPlan", DefaultParameterSetName = "List")]
[OutputType(typeof(PlanRecord), ParameterSetName = ["List", "Id"])]
[OutputType(typeof(Explanation), ParameterSetName = ["Explain"])]
public sealed class GetVMatrixPlanCommand : ReadingCommand
{
    /// <summary>The plans: ids, or objects that have them. With -Explain one plan, the newest unless said.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = "Id")]
    [Parameter(ParameterSetName = "Explain")]
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

    /// <summary>Servers, hosts or services: names, servers' ids, or objects. The story is computed again from what the plan was made from.</summary>
    [Parameter(Mandatory = true, ValueFromPipeline = true, ParameterSetName = "Explain")]
    [ArgumentCompleter(typeof(SubjectCompleter))]
    public SubjectIdentity[]? Explain { get; set; }

    /// <summary>The pool: the path of its file or folder, or an object of <c>Get-VMatrixPool</c>.</summary>
    [Parameter]
    [ValidateNotNull]
    public override PoolIdentity? Pool { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        switch (ParameterSetName)
        {
            case "Explain":
                foreach (var subject in Explain!)
                {
                    // Several plans are several stories.
                    foreach (var plan in Id ?? [null!])
                        ForItem(subject, plan?.Pool ?? subject.Pool, () => Write(InPool("Planning again", (pool, cancellation) => pool.ExplainAsync(plan?.Id, subject.Id, subject.Name, cancellation))));
                }

                break;
            case "Id":
                foreach (var plan in Id!)
                    ForItem(plan.Id, plan.Pool, () => Write(InPool("Reading the plan", (pool, cancellation) => pool.GetPlanAsync(plan.Id, cancellation))));
                break;
            default:
                ForItem(Pool, null, () =>
                {
                    var plans = InPool("Reading the plans", (pool, cancellation) => pool.GetPlansAsync(cancellation));
                    WriteEach(plans.Where(p => Status is null || Status.Contains(p.Status)).Take(Newest));
                });
                break;
        }
    }
}
