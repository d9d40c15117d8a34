using System;
using System.Management.Automation;

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

    private protected override void Change(string host)
    {
        string action = ConfirmDead ? "Take as dead, so that its servers may be started elsewhere" : "Move its servers away and take out of use";
        if (!Agreed($"host '{host}'", action))
        {
            if (IsWhatIf && !ConfirmDead)
                Show(InPool($"Looking for room for the servers of {host}", (pool, cancellation) => pool.PlanEvacuationAsync(host, Force, cancellation)));
            return;
        }

        using var progress = new MoveProgress(this, 0);
        foreach (var record in InPool($"Emptying {host}", (pool, cancellation) => pool.SuspendHostAsync(host, ConfirmDead, Until, progress, cancellation, Force, warning => Post(() => WriteWarning(warning)))))
            _ = Report(record);
        Changed(host);
    }

    /// <summary>Tells under -WhatIf which servers would go where, and which would stay and why.</summary>
    private void Show(Evacuation evacuation)
    {
        if (evacuation.Warning is not null)
            WriteWarning(evacuation.Warning);
        foreach (var move in evacuation.Moves)
            _ = Agreed(move);
        foreach (var left in evacuation.Left)
            WriteWarning($"Server '{left.Move.ServerName}': {left.Error}");
    }
}
