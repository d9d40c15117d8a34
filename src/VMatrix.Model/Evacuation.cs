using System.Collections.Generic;

namespace VMatrix;

/// <summary>What emptying hosts takes.</summary>
/// <param name="Hosts">The hosts; no server goes from one of them to another.</param>
/// <param name="Moves">The moves that take their servers to other hosts, in order.</param>
/// <param name="Left">The servers that stay, each as a move that is refused, with the reason.</param>
/// <param name="Warnings">For each host that does not answer, why nothing is known of its servers, and what to do.</param>
public sealed record Evacuation(IReadOnlyList<string> Hosts, IReadOnlyList<Move> Moves, IReadOnlyList<MoveRecord> Left, IReadOnlyList<string> Warnings)
{
    /// <inheritdoc/>
    public override string ToString() => $"{string.Join(", ", Hosts)}: {Moves.Count} leave, {Left.Count} stay";
}
