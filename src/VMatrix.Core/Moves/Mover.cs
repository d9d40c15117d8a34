using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Moves;

/// <summary>Carries moves out, step by step, journaled, resumable.</summary>
public sealed class Mover
{
    /// <summary>Makes a mover over a pool's drivers, state folder and clock.</summary>
    public Mover(PoolSpec pool, IHypervisor hypervisor, IBalancer balancer, IHealthProbe health, StateFolder state, TimeProvider clock)
    {
        _ = (pool, hypervisor, balancer, health, state, clock);
        throw new NotImplementedException();
    }

    /// <summary>Carries moves out in the order that their dependencies and the pool's limits allow. Returns what became of each, in the same order; a move that fails is told in its record and does not throw.</summary>
    /// <param name="moves">The moves.</param>
    /// <param name="context">Who carries them out.</param>
    /// <param name="progress">Told at each change of a move's status or step; may be null.</param>
    /// <param name="cancellation">Moves not begun are refused; open ones are taken to the nearest whole state.</param>
    public Task<IReadOnlyList<MoveRecord>> CarryOutAsync(IReadOnlyList<Move> moves, MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation) =>
        throw new NotImplementedException();

    /// <summary>Finishes or undoes every move that was cut short, as its step allows. Called before anything else by whoever carries out moves.</summary>
    public Task<IReadOnlyList<MoveRecord>> RecoverAsync(MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation) =>
        throw new NotImplementedException();
}

/// <summary>Who carries moves out.</summary>
public sealed record MoveContext
{
    /// <summary>Name, process and machine of who acts, for journals and errors.</summary>
    public required string By { get; init; }

    /// <summary>The decider's epoch; 0 for moves by hand.</summary>
    public long Epoch { get; init; }

    /// <summary>The plan; null for moves by hand.</summary>
    public Guid? PlanId { get; init; }

    /// <summary>Hold the servers against the Oracle for this long after; null for none (the Oracle's own moves).</summary>
    public TimeSpan? HoldFor { get; init; }
}
