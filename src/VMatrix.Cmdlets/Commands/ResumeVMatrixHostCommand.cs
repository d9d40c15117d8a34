using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Brings suspended hosts back into use.</summary>
[Cmdlet(VerbsLifecycle.Resume, "VMatrixHost", SupportsShouldProcess = true)]
[OutputType(typeof(HostInfo))]
public sealed class ResumeVMatrixHostCommand : HostCommand
{
    private protected override void Change(string host)
    {
        if (!Agreed($"host '{host}'", "Bring back into use"))
            return;
        if (!InPool("Resuming", (pool, cancellation) => pool.ResumeHostAsync(host, cancellation)))
            WriteVerbose($"Host '{host}' was not suspended.");
        Changed(host);
    }
}
