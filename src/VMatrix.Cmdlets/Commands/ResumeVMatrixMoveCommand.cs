using System;
using System.Management.Automation;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Commands;

/// <summary>Finishes moves that were cut short.</summary>
[Cmdlet(VerbsLifecycle.Resume, "VMatrixMove", SupportsShouldProcess = true)]
[OutputType(typeof(MoveRecord))]
public sealed class ResumeVMatrixMoveCommand : OpenMoveCommand
{
    private protected override string Action => "Finish what was cut short";

    private protected override MoveStatus Wanted => MoveStatus.Done;

    private protected override Task<MoveRecord> EndAsync(PoolSession pool, Guid move, IProgress<MoveRecord> progress, CancellationToken cancellation) =>
        pool.ResumeMoveAsync(move, progress, cancellation);
}
