using System;

namespace VMatrix;

/// <summary>An image version that was made from a server.</summary>
public sealed record PublishedImage
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>The service.</summary>
    public required string Service { get; init; }

    /// <summary>The new version.</summary>
    public required string Version { get; init; }

    /// <summary>The version that the server was made from.</summary>
    public required string From { get; init; }

    /// <summary>The server that it was made from.</summary>
    public required Guid ServerId { get; init; }

    /// <summary>That server's name.</summary>
    public required string ServerName { get; init; }

    /// <summary>Bytes that the version takes in the nest.</summary>
    public required long Bytes { get; init; }

    /// <summary>When it was made.</summary>
    public required DateTimeOffset At { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{Service} {Version}";
}
