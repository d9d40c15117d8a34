using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Shows a pool as it is now.</summary>
[Cmdlet(VerbsCommon.Get, "VMatrixPool")]
[OutputType(typeof(PoolInfo))]
public sealed class GetVMatrixPoolCommand : ReadingCommand
{
    /// <summary>The pool: the path of its file or folder.</summary>
    [Parameter(Position = 0, ValueFromPipeline = true)]
    [Alias("Path", "FullName")]
    [ValidateNotNull]
    public override PoolIdentity? Pool { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord() => ForItem(Pool, null, () =>
    {
        WriteObject(InPool("Asking the hosts", (pool, cancellation) => pool.GetPoolAsync(cancellation)));
        _ = ReportSilent();
    });
}
