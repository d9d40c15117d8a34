using System.Management.Automation;
using VMatrix.Shells;

namespace VMatrix.Commands;

/// <summary>Reaches Hyper-V hosts as the pool file says again. The sessions stay open; they are yours.</summary>
[Cmdlet(VerbsCommunications.Disconnect, "VMatrixHost", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Low)]
[OutputType(typeof(HostInfo))]
public sealed class DisconnectVMatrixHostCommand : HostWayCommand
{
    /// <summary>The hosts: names, or objects of `Get-VMatrixHost`. One that has no session is no error.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Alias("Name", "Host")]
    [ArgumentCompleter(typeof(HostCompleter))]
    public HostIdentity[] HostName { get; set; } = null!;

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var named in HostName)
        {
            ForItem(named.Name, named.Pool, () =>
            {
                var host = Find(h => Is(h.Name, named.Name)) ?? throw Errors.NotFound("Host", named.Name, PoolName);
                if (!Agreed($"host '{host.Name}'", "Reach as the pool file says"))
                    return;
                HostSessions.Remove(AddressOf(host));
                Changed(host.Name);
            });
        }
    }
}
