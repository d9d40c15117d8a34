using System;
using System.Collections.Generic;

namespace VMatrix.Moves;

/// <summary>The pool's state folder: its random id, the decider's lock and epoch, open moves and claims (one small flushed file each), overrides, plans.</summary>
public sealed class StateFolder : IDisposable
{
    /// <summary>Opens the folder; makes it, with a new random id, where it is missing and <paramref name="create"/> is true.</summary>
    /// <exception cref="VMatrixException"><c>StateReadOnly</c>, <c>StateFull</c>, <c>StateCorrupt</c>, <c>StateMissing</c>.</exception>
    public static StateFolder Open(string path, bool create) => throw new NotImplementedException();

    /// <summary>The random id, carried by every mark.</summary>
    public Guid Id => throw new NotImplementedException();

    /// <summary>Takes the decider's lock and a new epoch. Dispose the result to let go.</summary>
    /// <param name="name">What the decider calls itself, such as <c>vmatrix-oracle</c>.</param>
    /// <exception cref="VMatrixException"><c>DeciderBusy</c>, naming the name, process and machine of the one at work.</exception>
    public Decider Decide(string name) => throw new NotImplementedException();

    /// <summary>The decider at work, as <c>name (process N on MACHINE)</c>; null when there is none.</summary>
    public string? ReadDecider() => throw new NotImplementedException();

    /// <summary>The open moves.</summary>
    public IReadOnlyList<MoveRecord> ReadOpenMoves() => throw new NotImplementedException();

    /// <summary>Stores a plan and stamps its hash.</summary>
    public Plan StorePlan(Plan plan) => throw new NotImplementedException();

    /// <summary>Loads a plan and checks its hash.</summary>
    /// <exception cref="VMatrixException"><c>PlanNotFound</c>, <c>PlanCorrupt</c>.</exception>
    public Plan LoadPlan(Guid id) => throw new NotImplementedException();

    /// <inheritdoc/>
    public void Dispose() => throw new NotImplementedException();
}

/// <summary>The held lock of the one decider.</summary>
public sealed class Decider : IDisposable
{
    /// <summary>The epoch, greater than any before.</summary>
    public long Epoch { get; internal init; }

    /// <summary>Throws <c>DeciderLost</c> when the lock is no longer held.</summary>
    public void Check() => throw new NotImplementedException();

    /// <inheritdoc/>
    public void Dispose() => throw new NotImplementedException();
}
