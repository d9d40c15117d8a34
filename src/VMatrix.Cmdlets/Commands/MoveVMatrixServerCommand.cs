using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Moves servers to another stage, another host, or both.</summary>
[Cmdlet(VerbsCommon.Move, "VMatrixServer", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Medium)]
[OutputType(typeof(ServerInfo))]
public sealed class MoveVMatrixServerCommand : ServerCommand
{
    private readonly List<(Move Move, object? Input)> _together = [];
    private readonly List<Move> _done = [];
    private readonly List<Move> _supposed = [];

    /// <summary>The stage to move to; the one that the server is in unless said.</summary>
    [Parameter(Position = 1)]
    [ValidateSet("Nest", "Chamber", "Matrix")]
    public Stage? Stage { get; set; }

    /// <summary>The host to move to; chosen by room unless said.</summary>
    [Parameter]
    [ArgumentCompleter(typeof(HostCompleter))]
    public HostIdentity? Destination { get; set; }

    /// <summary>Moves a running server without stopping it, where the hypervisor can.</summary>
    [Parameter]
    public SwitchParameter Live { get; set; }

    /// <summary>Does not look beforehand at what stands in the way (see Compare-VMatrixServer), and moves in spite of a window without moves. What really stops the move still fails it, and it is taken back.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <summary>How long the Oracle leaves the servers alone after; the pool's setting unless said.</summary>
    [Parameter]
    public TimeSpan? HoldFor { get; set; }

    /// <summary>Returns the servers as they are after.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    /// <inheritdoc/>
    protected override void BeginProcessing()
    {
        base.BeginProcessing();
        if (Stage is null && Destination is null)
        {
            ForAll(() => throw new VMatrixException("NothingToMove", VMatrixErrorKind.InvalidInput,
                "Say where to: -Stage, -Destination, or both."));
        }
    }

    private protected override void Prepare(ServerIdentity server)
    {
        var id = Resolve(server, s => s.Stage is not VMatrix.Stage.Disposed);
        if (_together.Exists(t => t.Move.ServerId == id))
            Flush();
        Move move;
        IReadOnlyList<MoveObstacle> warnings;
        try
        {
            (move, warnings) = Plan(id);
        }
        catch (VMatrixException error) when (error.Id is "NoRoom" && _together.Count > 0)
        {
            // What goes before may make room.
            Flush();
            (move, warnings) = Plan(id);
        }

        foreach (var warning in warnings)
            WriteWarning($"{move.ServerName}: {warning}");
        if (Agreed(move))
            _together.Add((move, server.Input));
        else if (IsWhatIf)
            _supposed.Add(move);
    }

    private (Move Move, IReadOnlyList<MoveObstacle> Warnings) Plan(Guid server)
    {
        Move[] beside = [.. _together.Select(t => t.Move), .. _supposed];
        return Force
            ? (InPool("Planning", (pool, cancellation) => pool.PlanMoveAsync(server, Stage, Destination?.Name, Live, cancellation, beside)), [])
            : InPool("Comparing", (pool, cancellation) => pool.PlanComparedMoveAsync(server, Stage, Destination?.Name, Live, cancellation, beside));
    }

    /// <inheritdoc/>
    protected override void EndProcessing() => ForAll(() =>
    {
        Flush();
        if (PassThru)
            WriteObject(ReadAgain(_done), true);
    });

    private void Flush()
    {
        (Move, object?)[] moves = [.. _together];
        _together.Clear();
        _done.AddRange(CarryOut(moves, HoldFor));
    }
}
