using System.Collections.Generic;

namespace VMatrix;

/// <summary>How SCVMM is reached and where it keeps machines: the <c>scvmm</c> section of a pool file whose hypervisor is <c>scvmm</c>.</summary>
public sealed record ScvmmSpec
{
    /// <summary>The VMM management server; null for the one that the session is connected to already.</summary>
    public string? Server { get; init; }

    /// <summary>The name of the secret that the server is reached with, as in <see cref="HyperVSpec.Credential"/>; null for the account that VMatrix runs as.</summary>
    public string? Credential { get; init; }

    /// <summary>The library server that is the nest.</summary>
    public string? Library { get; init; }

    /// <summary>The folder on a library share that dormant servers and images are stored in.</summary>
    public string? Share { get; init; }

    /// <summary>The folder on hosts that machines are placed in; null for each host's own default.</summary>
    public string? Path { get; init; }

    /// <summary>Host groups of VMM whose hosts are hosts of the pool beside those that the file names. They are read when the pool is opened.</summary>
    public IReadOnlyList<HostGroupSpec> HostGroups { get; init; } = [];

    /// <summary>Most commands that run at once.</summary>
    public int CallsAtOnce { get; init; } = 8;

    /// <summary>The Hyper-V generation of new machines.</summary>
    public int MachineGeneration { get; init; } = 2;

    /// <inheritdoc/>
    public override string ToString() => Server ?? "this machine";
}

/// <summary>A host group of VMM: its hosts are hosts of the pool, with the names, the memory and the processors that VMM tells.</summary>
public sealed record HostGroupSpec
{
    /// <summary>The group's path in VMM, or its name where no other group has it.</summary>
    public required string Group { get; init; }

    /// <summary>What its hosts are for.</summary>
    public HostRole Role { get; init; }

    /// <summary>Bytes of each host's memory that servers may not use.</summary>
    public long KeptBytes { get; init; } = 4L << 30;

    /// <summary>Most servers at a time on each host; null where memory alone decides.</summary>
    public int? MostServers { get; init; }

    /// <inheritdoc/>
    public override string ToString() => Group;
}
