using System;

namespace VMatrix;

/// <summary>A virtual machine on a host of the pool that is not a server of it, for <c>Get-VMatrixServer -Foreign</c>. It is never touched until it is registered.</summary>
public sealed record ForeignMachine
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>The hypervisor's own id of the machine.</summary>
    public required string MachineId { get; init; }

    /// <summary>The machine's display name.</summary>
    public required string Name { get; init; }

    /// <summary>The host it is on; null for the nest.</summary>
    public string? Host { get; init; }

    /// <summary>What it does.</summary>
    public PowerState Power { get; init; }

    /// <summary>Where it answers, as <c>address:port</c>; null when it does not run or nobody knows.</summary>
    public string? Address { get; init; }

    /// <summary>Bytes of memory.</summary>
    public long MemoryBytes { get; init; }

    /// <summary>Processor cores.</summary>
    public int Cores { get; init; }

    /// <summary>The service that a mark on it names, though the mark does not count; null for none.</summary>
    public string? Service { get; init; }

    /// <summary>The server that it is a copy of, or was until it was let go; null for neither.</summary>
    public Guid? CopyOf { get; init; }

    /// <summary>The id of the pool state that it belongs to, when that is another controller's; null when it belongs to nobody.</summary>
    public Guid? Controller { get; init; }

    /// <summary>What it is and why it is left alone, as a sentence; null where there is nothing to say.</summary>
    public string? Problem { get; init; }

    /// <inheritdoc/>
    public override string ToString() => Name;
}
