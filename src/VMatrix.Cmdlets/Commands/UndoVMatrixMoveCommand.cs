using System;
using System.Management.Automation;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Commands;

/// <summary>Takes moves back that were cut short.</summary>
[Cmdlet(VerbsCommon.Undo, "VMatrixMove", SupportsShouldProcess = true)]
[OutputType(typeof(MoveRecord))]
public sealed class UndoVMatrixMoveCommand : OpenMoveCommand
{
    private protected override string Action => "Take back what was cut short";

    private protected override MoveStatus Wanted => MoveStatus.Undone;

    private protected override Task<MoveRecord> EndAsync(PoolSession pool, Guid move, IProgress<MoveRecord> progress, CancellationToken cancellation) =>
        pool.UndoMoveAsync(move, progress, cancellation);
}
