using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Shows hosts as they are now, or what was done with their power.</summary>
[Cmdlet(VerbsCommon.Get, "VMatrixHost", DefaultParameterSetName = "Now")]
[OutputType(typeof(HostInfo), ParameterSetName = ["Now"])]
[OutputType(typeof(HostActionRecord), ParameterSetName = ["History"])]
public sealed class GetVMatrixHostCommand : NarrowedCommand
{
    /// <summary>Names of hosts, with wildcards.</summary>
    [Parameter(Position = 0)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(HostCompleter))]
    public string[]? Name { get; set; }

    /// <summary>Only hosts of this role.</summary>
    [Parameter(ParameterSetName = "Now")]
    public HostRole? Role { get; set; }

    /// <summary>Shows when and why hosts were powered down and woken, newest first, and not the hosts.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "History")]
    public SwitchParameter History { get; set; }

    /// <summary>Only what ended after this, or is under way and began after it.</summary>
    [Parameter(ParameterSetName = "History")]
    public DateTimeOffset? Since { get; set; }

    /// <summary>Most ended power-downs and wakes to look at; 100 unless said.</summary>
    [Parameter(ParameterSetName = "History")]
    [ValidateRange(1, int.MaxValue)]
    public int Newest { get; set; } = 100;

    private protected override bool Show(IReadOnlyList<PoolObject>? narrowing)
    {
        var named = Filter(Name);
        var meant = Names(narrowing, n => n.Hosts ?? []);
        bool Fits(string host) => named(host) && meant?.Contains(host) is not false;
        if (History)
        {
            var actions = InPool("Reading the history", (pool, cancellation) => pool.GetHostActionsAsync(Since, Newest, cancellation));
            WriteEach(actions.Where(a => Fits(a.Action.Host)));
            ReportHistory();
            return true;
        }

        var hosts = InPool("Asking the hosts", (pool, cancellation) => pool.GetHostsAsync(cancellation));
        WriteEach(hosts.Where(h => Fits(h.Name) && (Role is null || h.Role == Role)));
        _ = ReportSilent(host => host is null ? Name is null && narrowing is null : Fits(host));
        ReportMissing("Host", Name, [.. hosts.Select(h => h.Name)], PoolName);
        return true;
    }
}
