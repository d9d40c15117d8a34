using System;
using System.Management.Automation;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Commands;

/// <summary>A cmdlet that ends moves which were cut short, one way or the other.</summary>
public abstract class OpenMoveCommand : ChangingCommand
{
    /// <summary>The moves: ids, or objects of <c>Get-VMatrixMove</c>.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Alias("Id")]
    public MoveIdentity[] Move { get; set; } = null!;

    /// <summary>Returns the moves and what became of them.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var move in Move)
        {
            ForItem(move.Id, move.Pool, () =>
            {
                if (!Agreed($"move {move.Id}", Action))
                    return;
                using var progress = new MoveProgress(this, 1);
                var record = InPool(Action, (pool, cancellation) => EndAsync(pool, move.Id, progress, cancellation));
                if (PassThru)
                    Write(record);
                if (record.Status != Wanted)
                    _ = Report(record);
            });
        }
    }

    private protected abstract string Action { get; }

    private protected abstract MoveStatus Wanted { get; }

    private protected abstract Task<MoveRecord> EndAsync(PoolSession pool, Guid move, IProgress<MoveRecord> progress, CancellationToken cancellation);
}
