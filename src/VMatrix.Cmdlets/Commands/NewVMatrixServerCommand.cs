using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Makes new servers of a service, dormant in the nest.</summary>
[Cmdlet(VerbsCommon.New, "VMatrixServer", SupportsShouldProcess = true)]
[OutputType(typeof(ServerInfo))]
public sealed class NewVMatrixServerCommand : ChangingCommand
{
    /// <summary>The services from whose images they are made: names, or objects of <c>Get-VMatrixService</c>.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [ArgumentCompleter(typeof(ServiceCompleter))]
    public ServiceIdentity[] Service { get; set; } = null!;

    /// <summary>How many of each service; 1 unless said.</summary>
    [Parameter(Position = 1)]
    [ValidateRange(1, 10000)]
    public int Count { get; set; } = 1;

    /// <summary>A name, with a number added when there are several; the service's name and the next free number unless said.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Name { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var service in Service)
        {
            ForItem(service.Name, service.Pool, () =>
            {
                var planned = InPool("Planning", (pool, cancellation) => pool.PlanCreateAsync(service.Name, Count, Name, cancellation));
                WriteServers(CarryOut([.. planned.Where(m => Agreed(m)).Select(m => new AskedMove(PoolPath, m, service.Name))], null));
            });
        }
    }
}
