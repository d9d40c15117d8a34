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

    /// <summary>Most commands that run at once.</summary>
    public int CallsAtOnce { get; init; } = 8;

    /// <summary>The Hyper-V generation of new machines.</summary>
    public int MachineGeneration { get; init; } = 2;
}
