using System.Collections.Generic;

namespace VMatrix;

/// <summary>What emptying a host takes.</summary>
/// <param name="Host">The host.</param>
/// <param name="Moves">The moves that take its servers to other hosts, in order.</param>
/// <param name="Left">The servers that stay on it, each as a move that is refused, with the reason.</param>
/// <param name="Warning">Why nothing is known of its servers, and what to do; null when the host answers.</param>
public sealed record Evacuation(string Host, IReadOnlyList<Move> Moves, IReadOnlyList<MoveRecord> Left, string? Warning = null)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Host}: {Moves.Count} leave, {Left.Count} stay";
}
