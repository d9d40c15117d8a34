using System.Collections.Generic;

namespace VMatrix;

/// <summary>One look at every host and the nest, from which several moves can be planned. What is carried out is checked again then.</summary>
public sealed class PoolListing
{
    internal PoolListing(Observation seen)
    {
        Seen = seen;
        Servers = [.. seen.Servers];
    }

    /// <summary>The servers, disposed ones included.</summary>
    public IReadOnlyList<ServerInfo> Servers { get; }

    internal Observation Seen { get; }
}
