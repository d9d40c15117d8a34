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

    private protected override void Change(string host)
    {
        string action = ConfirmDead ? "Take as dead, so that its servers may be started elsewhere" : "Move its servers away and take out of use";
        if (!Agreed($"host '{host}'", action))
            return;
        using var progress = new MoveProgress(this, 0);
        foreach (var record in InPool($"Emptying {host}", (pool, cancellation) => pool.SuspendHostAsync(host, ConfirmDead, Until, progress, cancellation)))
            _ = Report(record);
        Changed(host);
    }
}
