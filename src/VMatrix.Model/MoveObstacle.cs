using System;

namespace VMatrix;

/// <summary>Where the cause of an obstacle lies, and so who can mend it.</summary>
public enum ObstacleGroup
{
    /// <summary>The machine's own state: integration services, checkpoints, a backup under way, Replica, kept memory, versions.</summary>
    Software,

    /// <summary>What hosts have: processor features, memory, switches, devices, disks and paths.</summary>
    Hardware,

    /// <summary>What people have said or not yet allowed: rights, delegation, suspended hosts, windows without moves, limits.</summary>
    People,
}

/// <summary>What an obstacle does to the move.</summary>
public enum ObstacleSeverity
{
    /// <summary>The move is made; the owner should know.</summary>
    Warns,

    /// <summary>The move would fail, and is refused.</summary>
    Blocks,
}

/// <summary>Something that stands in the way of a move, for <c>Compare-VMatrixServer</c>.</summary>
public sealed record MoveObstacle
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>Where its cause lies.</summary>
    public required ObstacleGroup Group { get; init; }

    /// <summary>A stable PascalCase name of what it is, such as <c>NoRoom</c> or <c>AttachedIso</c>.</summary>
    public required string What { get; init; }

    /// <summary>Whether it stops the move.</summary>
    public ObstacleSeverity Severity { get; init; } = ObstacleSeverity.Blocks;

    /// <summary>What was found and why it matters, as a sentence.</summary>
    public required string Why { get; init; }

    /// <summary>The command that mends it, or in words what to do where no command does; null when there is nothing to mend but to wait.</summary>
    public string? Mend { get; init; }

    /// <summary>The server's id; set for who asked, not by drivers.</summary>
    public Guid ServerId { get; init; }

    /// <summary>The server's name.</summary>
    public string Server { get; init; } = "";

    /// <summary>The host it is to go to; null for the nest.</summary>
    public string? Destination { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{What}: {Why}{(Mend is null ? "" : $" Mend: {Mend}")}";
}
