using System.Collections.Generic;

namespace VMatrix;

/// <summary>How far a rolling replacement has come.</summary>
public enum UpdateStatus
{
    /// <summary>Every server in the Matrix is of the newest image, and the old ones are disposed of.</summary>
    Done,

    /// <summary>New servers failed; the old ones serve again.</summary>
    Returned,

    /// <summary>Cancelled between two batches; some servers are new, some old, all whole. Run again to go on.</summary>
    Cancelled,

    /// <summary>It could be neither finished nor returned, or old servers are left: in the nest, or on hosts that do not answer. The error says which and what to do.</summary>
    Failed,
}

/// <summary>What became of a rolling replacement.</summary>
public sealed record UpdateResult
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>The service.</summary>
    public required string Service { get; init; }

    /// <summary>The image version that it goes to.</summary>
    public required string Image { get; init; }

    /// <summary>How far it has come.</summary>
    public required UpdateStatus Status { get; init; }

    /// <summary>Servers that were replaced and stay so.</summary>
    public required int Replaced { get; init; }

    /// <summary>Every move that was made for it, in order.</summary>
    public required IReadOnlyList<MoveRecord> Moves { get; init; }

    /// <summary>What went wrong; null when nothing did.</summary>
    public string? Error { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{Service}: {Status}";
}
