using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>A cmdlet that changes what hosts are used for.</summary>
public abstract class HostCommand : ChangingCommand
{
    private readonly List<string> _changed = [];

    /// <summary>The hosts: names, or objects of <c>Get-VMatrixHost</c>.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Alias("Name", "Host")]
    [ArgumentCompleter(typeof(HostCompleter))]
    public HostIdentity[] HostName { get; set; } = null!;

    /// <summary>Returns the hosts as they are after.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var host in HostName)
            ForItem(host.Name, () => Change(host.Name));
    }

    /// <inheritdoc/>
    protected override void EndProcessing() => ForAll(() =>
    {
        if (!PassThru || _changed.Count == 0)
            return;
        var hosts = InPool("Asking the hosts", (pool, cancellation) => pool.GetHostsAsync(cancellation));
        WriteObject(hosts.Where(h => _changed.Contains(h.Name, StringComparer.OrdinalIgnoreCase)), true);
    });

    private protected abstract void Change(string host);

    private protected void Changed(string host) => _changed.Add(host);
}
