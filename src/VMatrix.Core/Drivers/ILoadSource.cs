using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Drivers;

/// <summary>Measures how busy the servers of the Matrix are, for a balancer that counts nothing.</summary>
public interface ILoadSource
{
    /// <summary>Measures every server of the Matrix since this object's measurement before. Servers that were not measured yet, or could not be, are missing.</summary>
    Task<IReadOnlyList<ServerUse>> ReadAsync(CancellationToken cancellation);
}

/// <summary>How busy a server was.</summary>
/// <param name="ServerId">The server.</param>
/// <param name="Service">Its service.</param>
/// <param name="Share">Share of its own processors that it used, from 0 to 1.</param>
public sealed record ServerUse(Guid ServerId, string Service, double Share);
