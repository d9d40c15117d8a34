using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Shows services as they are now, with their load.</summary>
[Cmdlet(VerbsCommon.Get, "VMatrixService")]
[OutputType(typeof(ServiceInfo))]
public sealed class GetVMatrixServiceCommand : ReadingCommand
{
    /// <summary>Names of services, with wildcards.</summary>
    [Parameter(Position = 0)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(ServiceCompleter))]
    public string[]? Name { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord() => ForItem(Pool, () =>
    {
        var services = InPool("Measuring the load", (pool, cancellation) => pool.GetServicesAsync(cancellation));
        var fits = Filter(Name);
        WriteObject(services.Where(s => fits(s.Name)), true);
        ReportMissing("Service", Name, [.. services.Select(s => s.Name)], PoolName);
    });
}
