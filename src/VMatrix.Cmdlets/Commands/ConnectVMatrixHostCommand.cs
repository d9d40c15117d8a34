using System;
using System.Linq;
using System.Management.Automation;
using VMatrix.Shells;

namespace VMatrix.Commands;

/// <summary>Reaches Hyper-V hosts by sessions that are open already, from now on and in this process.</summary>
[Cmdlet(VerbsCommunications.Connect, "VMatrixHost", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Low)]
[OutputType(typeof(HostInfo))]
public sealed class ConnectVMatrixHostCommand : HostWayCommand
{
    /// <summary>The sessions: of `New-PSSession` or `New-CimSession`.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [ValidateNotNull]
    public PSObject[] Session { get; set; } = null!;

    /// <summary>The host that a session leads to: its name, or an object of `Get-VMatrixHost`. Left out, the host whose name or address is the session's computer.</summary>
    [Parameter(Position = 1)]
    [Alias("Name", "Host")]
    [ArgumentCompleter(typeof(HostCompleter))]
    public HostIdentity? HostName { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var given in Session)
        {
            ForItem(given, HostName?.Pool, () =>
            {
                var session = new HostSession(given);
                string? computer = HostName?.Name ?? session.Computer;
                var host = Find(h => Is(h.Name, computer) || (HostName is null && Is(h.Address, computer)))
                    ?? throw Errors.NotFound("Host", computer, PoolName);
                if (!Agreed($"host '{host.Name}'", $"Reach by the {(session.Cim is null ? "PSSession" : "CimSession")} to {session.Computer}"))
                    return;
                session.Host = host.Name;
                _ = InPool($"Trying the session to {session.Computer}", (_, cancellation) => session.CheckAsync(cancellation));
                HostSessions.Put(AddressOf(host), host.Name, session);
                Changed(host.Name);
            });
        }
    }
}
