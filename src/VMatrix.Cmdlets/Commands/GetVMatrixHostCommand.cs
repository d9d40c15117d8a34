using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Shows hosts as they are now.</summary>
[Cmdlet(VerbsCommon.Get, "VMatrixHost")]
[OutputType(typeof(HostInfo))]
public sealed class GetVMatrixHostCommand : ReadingCommand
{
    /// <summary>Names of hosts, with wildcards.</summary>
    [Parameter(Position = 0)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(HostCompleter))]
    public string[]? Name { get; set; }

    /// <summary>Only hosts of this role.</summary>
    [Parameter]
    public HostRole? Role { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord() => ForItem(Pool, () =>
    {
        var hosts = InPool("Asking the hosts", (pool, cancellation) => pool.GetHostsAsync(cancellation));
        var fits = Filter(Name);
        WriteObject(hosts.Where(h => fits(h.Name) && (Role is null || h.Role == Role)), true);
        ReportMissing("Host", Name, [.. hosts.Select(h => h.Name)], PoolName);
    });
}
