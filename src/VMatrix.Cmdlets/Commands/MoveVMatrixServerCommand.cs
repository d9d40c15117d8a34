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
    private readonly List<AskedMove> _together = [];
    private readonly List<AskedMove> _done = [];
    private readonly List<AskedMove> _supposed = [];
    private bool _stageSaid;
    private bool _destinationSaid;

    /// <summary>The stage to move to; the one that the server is in unless said.</summary>
    [Parameter(Position = 1, ValueFromPipelineByPropertyName = true)]
    [TargetStage]
    [ArgumentCompleter(typeof(StageCompleter))]
    public string? Stage { get; set; }

    /// <summary>The host to move to; chosen by room unless said.</summary>
    [Parameter(ValueFromPipelineByPropertyName = true)]
    [EmptyIsUnsaid]
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
    [Duration]
    public TimeSpan? HoldFor { get; set; }

    /// <summary>Returns the servers as they are after.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    /// <inheritdoc/>
    protected override void BeginProcessing()
    {
        (_stageSaid, _destinationSaid) = (Stage is not null, Destination is not null);
        if (!MyInvocation.ExpectingInput && TargetStageAttribute.Read(Stage) is null && Destination is null)
            ForAll(() => throw NothingToMove());
    }

    private protected override void Prepare(ServerIdentity server)
    {
        // What a server's own object says of its stage is where it is. A row of a file says where it is to go.
        var stage = _stageSaid || !server.IsServer ? TargetStageAttribute.Read(Stage) : null;
        string? destination = _destinationSaid || !server.IsServer ? Destination?.Name : null;
        if (stage is null && destination is null)
            throw NothingToMove();
        var found = Resolve(server, s => s.Stage is not VMatrix.Stage.Disposed);
        string pool = PoolPath;
        if (_together.Exists(t => t.Pool == pool && t.Move.ServerId == found.Id))
            Flush();
        Move move;
        IReadOnlyList<MoveObstacle> warnings;
        try
        {
            (move, warnings) = Plan(found.Id, stage, destination);
        }
        catch (VMatrixException error) when (error.Id is "NoRoom" && _together.Exists(t => t.Pool == pool))
        {
            // What goes before may make room.
            Flush();
            (move, warnings) = Plan(found.Id, stage, destination);
        }

        foreach (var warning in warnings)
            WriteWarning($"{move.ServerName}: {warning}");
        var asked = new AskedMove(pool, move, server.Input, Chosen: destination is null);
        if (Agreed(move))
            _together.Add(asked);
        else if (IsWhatIf)
            _supposed.Add(asked);
    }

    private (Move Move, IReadOnlyList<MoveObstacle> Warnings) Plan(Guid server, Stage? stage, string? destination)
    {
        string path = PoolPath;
        Move[] beside = [.. _together.Concat(_supposed).Where(t => t.Pool == path).Select(t => t.Move)];
        var listing = Listing();
        return Force
            ? (InPool("Planning", (pool, cancellation) => pool.PlanMoveAsync(server, stage, destination, Live, cancellation, beside, listing)), [])
            : InPool("Comparing", (pool, cancellation) => pool.PlanComparedMoveAsync(server, stage, destination, Live, cancellation, beside, listing));
    }

    private static VMatrixException NothingToMove() => new("NothingToMove", VMatrixErrorKind.InvalidInput,
        "Say where to: -Stage, -Destination, or both; or give objects that have such properties, as rows of a CSV file.");

    /// <inheritdoc/>
    protected override void EndProcessing() => ForAll(() =>
    {
        Flush();
        if (PassThru)
            WriteServers(_done);
    });

    private void Flush()
    {
        AskedMove[] moves = [.. _together];
        _together.Clear();
        _done.AddRange(CarryOut(moves, HoldFor));
    }
}
