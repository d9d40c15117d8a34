using System;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Shows moves, newest first: those that run and those of the past.</summary>
[Cmdlet(VerbsCommon.Get, "VMatrixMove")]
[OutputType(typeof(MoveRecord))]
public sealed class GetVMatrixMoveCommand : ReadingCommand
{
    /// <summary>Only moves of servers with these names, with wildcards, or these ids.</summary>
    [Parameter(Position = 0)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(ServerCompleter))]
    public string[]? Server { get; set; }

    /// <summary>Only moves that have come this far.</summary>
    [Parameter]
    public MoveStatus[]? Status { get; set; }

    /// <summary>Only moves that began after this.</summary>
    [Parameter]
    public DateTimeOffset? Since { get; set; }

    /// <summary>Most ended moves to look at; 100 unless said.</summary>
    [Parameter]
    [ValidateRange(1, int.MaxValue)]
    public int Newest { get; set; } = 100;

    /// <inheritdoc/>
    protected override void ProcessRecord() => ForItem(Pool, () =>
    {
        var fits = Filter(Server);
        var moves = InPool("Reading the history", (pool, cancellation) => pool.GetMovesAsync(Since, Newest, cancellation));
        WriteObject(moves.Where(m => (fits(m.Move.ServerName) || fits(m.Move.ServerId.ToString())) && (Status is null || Status.Contains(m.Status))), true);
    });
}
