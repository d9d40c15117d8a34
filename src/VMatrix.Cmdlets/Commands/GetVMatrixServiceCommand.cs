using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Shows services as they are now, with their load.</summary>
[Cmdlet(VerbsCommon.Get, "VMatrixService")]
[OutputType(typeof(ServiceInfo))]
public sealed class GetVMatrixServiceCommand : NarrowedCommand
{
    /// <summary>Names of services, with wildcards.</summary>
    [Parameter(Position = 0)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(ServiceCompleter))]
    public string[]? Name { get; set; }

    private protected override bool Show(IReadOnlyList<PoolObject>? narrowing)
    {
        var fits = Filter(Name);
        var meant = Names(narrowing, n => n.Service is null ? [] : [n.Service]);
        var services = InPool("Measuring the load", (pool, cancellation) => pool.GetServicesAsync(cancellation));
        WriteEach(services.Where(s => fits(s.Name) && meant?.Contains(s.Name) is not false));
        _ = ReportSilent();
        ReportMissing("Service", Name, [.. services.Select(s => s.Name)], PoolName);
        return true;
    }
}
