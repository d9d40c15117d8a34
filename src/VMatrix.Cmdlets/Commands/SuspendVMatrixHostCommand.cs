using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Threading.Tasks;

namespace VMatrix.Commands;

/// <summary>Takes hosts out of use: their servers are moved away, and nothing is placed on them until they are resumed.</summary>
[Cmdlet(VerbsLifecycle.Suspend, "VMatrixHost", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Medium)]
[OutputType(typeof(HostInfo))]
public sealed class SuspendVMatrixHostCommand : HostCommand
{
    /// <summary>Your word that the host is dead, so that its servers may be started elsewhere. A host that answers is refused. If it still runs servers behind a cut cable, they will run twice.</summary>
    [Parameter]
    public SwitchParameter ConfirmDead { get; set; }

    /// <summary>When the host comes back into use by itself; never unless said.</summary>
    [Parameter]
    public DateTimeOffset? Until { get; set; }

    /// <summary>Moves servers also in a window in which they may not be moved.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    private readonly List<(string Pool, string Host)> _leave = [];

    private protected override void Change(string host)
    {
        string action = ConfirmDead ? "Take as dead, so that its servers may be started elsewhere" : "Move its servers away and take out of use";
        bool agreed = Agreed($"host '{host}'", action);
        if (agreed)
        {
            _ = InPool($"Suspending {host}", async (pool, cancellation) =>
            {
                await pool.SuspendHostAsync(host, ConfirmDead, Until, cancellation);
                return true;
            });
            Changed(host);
        }
        else if (IsWhatIf)
        {
            _ = InPool("Opening the pool", (pool, _) =>
            {
                pool.RequireHost(host);
                return Task.FromResult(true);
            });
        }

        // Emptied when all are named: a server does not go from one of them to the next.
        if (!ConfirmDead && (agreed || IsWhatIf))
            _leave.Add((PoolPath, host));
    }

    /// <inheritdoc/>
    protected override void EndProcessing()
    {
        foreach (var hosts in _leave.GroupBy(l => l.Pool, l => l.Host))
        {
            string[] names = [.. hosts];
            string told = string.Join(", ", names);
            ForItem(told, hosts.Key, () => _ = Within(hosts.Key, () =>
            {
                if (IsWhatIf)
                    Show(InPool($"Looking for room for the servers of {told}", (pool, cancellation) => pool.PlanEvacuationAsync(names, Force, cancellation)));
                else
                    Empty(names, told);
                return true;
            }));
        }

        base.EndProcessing();
    }

    private void Empty(string[] hosts, string told)
    {
        using var progress = new MoveProgress(this, 0);
        foreach (var record in InPool($"Emptying {told}", (pool, cancellation) => pool.EvacuateAsync(hosts, Force, progress, cancellation, warning => Post(() => WriteWarning(warning)))))
            _ = Report(record);
    }

    /// <summary>Tells under -WhatIf which servers would go where, and which would stay and why.</summary>
    private void Show(Evacuation evacuation)
    {
        foreach (var warning in evacuation.Warnings)
            WriteWarning(warning);
        foreach (var move in evacuation.Moves)
            _ = Agreed(move);
        foreach (var left in evacuation.Left)
            WriteWarning($"Server '{left.Move.ServerName}': {left.Error}");
    }
}
