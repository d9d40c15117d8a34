using System;

namespace VMatrix;

/// <summary>A host, or the nest, that did not answer when the pool was looked at. What is there is not known, and nothing is proven of it.</summary>
/// <param name="Host">The host's name; null for the nest.</param>
/// <param name="Error">What to tell the user: id <c>HostUnreachable</c> or <c>NestUnreachable</c>, what was told instead of an answer, and its cause within.</param>
public sealed record SilentPlace(string? Host, VMatrixException Error)
{
    /// <summary>The host's name, or <c>the nest</c>.</summary>
    public string Name => Host ?? "the nest";

    /// <inheritdoc/>
    public override string ToString() => Name;
}
