using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Threading.Tasks;

namespace VMatrix.Commands;

/// <summary>A cmdlet that changes something about hosts, and can return them after.</summary>
public abstract class AnyHostCommand : ChangingCommand
{
    private readonly List<(string Pool, string Host)> _changed = [];

    /// <summary>Returns the hosts as they are after.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    /// <inheritdoc/>
    protected override void EndProcessing() => ForAll(() =>
    {
        if (!PassThru)
            return;
        foreach (var changed in _changed.ToLookup(c => c.Pool, c => c.Host))
        {
            _ = Within(changed.Key, () =>
            {
                var hosts = InPool("Asking the hosts", (pool, cancellation) => pool.GetHostsAsync(cancellation));
                WriteEach(hosts.Where(h => changed.Contains(h.Name, StringComparer.OrdinalIgnoreCase)));
                return true;
            });
        }
    });

    private protected void Changed(string host) => _changed.Add((PoolPath, host));
}

/// <summary>A cmdlet that changes what hosts are used for.</summary>
public abstract class HostCommand : AnyHostCommand
{
    /// <summary>The hosts: names, or objects of <c>Get-VMatrixHost</c>.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Alias("Name", "Host")]
    [ArgumentCompleter(typeof(HostCompleter))]
    public HostIdentity[] HostName { get; set; } = null!;

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var host in HostName)
            ForItem(host.Name, host.Pool, () => Change(host.Name));
    }

    private protected abstract void Change(string host);
}

/// <summary>A cmdlet that changes how this process reaches hosts. The pool itself stays as it is.</summary>
public abstract class HostWayCommand : AnyHostCommand
{
    private protected override bool ForChange => false;

    /// <summary>A host of the pool; null when none fits.</summary>
    /// <exception cref="VMatrixException"><c>DriverNotSupported</c>.</exception>
    private protected HostSpec? Find(Func<HostSpec, bool> fits)
    {
        var pool = InPool("Opening the pool", (session, _) => Task.FromResult(session.Spec));
        return pool.Hypervisor == "hyperv" ? pool.Hosts.FirstOrDefault(fits) : throw new VMatrixException("DriverNotSupported", VMatrixErrorKind.NotSupported,
            $"Hosts of pool '{pool.Name}' are not reached by sessions: its hypervisor is {pool.Hypervisor}, and only those of hyperv are.");
    }

    private protected static string AddressOf(HostSpec host) => host.Address ?? host.Name;

    private protected static bool Is(string? one, string? other) => string.Equals(one, other, StringComparison.OrdinalIgnoreCase);
}
