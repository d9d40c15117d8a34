using System;

namespace VMatrix;

/// <summary>How a copy of a gold disk becomes a machine of its own.</summary>
public enum Specialize
{
    /// <summary>It does not: servers of the image may be alike to the last byte.</summary>
    None,

    /// <summary>The gold disk was generalised with sysprep; each copy makes itself anew at its first boot, by the answer file in it or by <see cref="ImageSpec.Answers"/>, and no image is published from one that has.</summary>
    Sysprep,

    /// <summary>The gold disk holds cloud-init; each copy is handed a NoCloud seed with its id, its name and its address.</summary>
    CloudInit,
}

/// <summary>Where a server's address comes from.</summary>
public enum AddressSource
{
    /// <summary>The guest's integration services tell its network adapter's address.</summary>
    Adapter,

    /// <summary>The guest registers its name: the address is the server's name, and the network finds it.</summary>
    Dhcp,
}

/// <summary>Which of a server's addresses is used where it has several.</summary>
public enum IpFamily
{
    /// <summary>An IPv4 address; another one only where it has none.</summary>
    Ipv4,

    /// <summary>An IPv6 address; another one only where it has none.</summary>
    Ipv6,
}

/// <summary>What is done with a saved state that a host cannot resume.</summary>
public enum ResumeFailure
{
    /// <summary>The start is refused; the memory stays kept.</summary>
    Refuse,

    /// <summary>The memory is given up and the server boots from its disk, and says so.</summary>
    Boot,
}

/// <summary>Where dormant servers are kept.</summary>
public enum DormantPlace
{
    /// <summary>Registered on a host, saved or off: the one that they slept on.</summary>
    Hosts,

    /// <summary>In the nest's folder, registered nowhere: any host wakes them.</summary>
    Share,
}

/// <summary>How Hyper-V hosts are reached and how their machines are kept: the <c>hyperv</c> section of a pool file whose hypervisor is <c>hyperv</c>.</summary>
public sealed record HyperVSpec
{
    /// <summary>The name of the secret that hosts are reached with: full path of a file that its owner made with Export-Clixml, or a name in SecretManagement. Never the secret itself. Null for the account that VMatrix runs as.</summary>
    public string? Credential { get; init; }

    /// <summary>The folder that machines are kept in, as the hosts write it; on a share or a cluster's volume, machines move without their disks. Null for each host's own default.</summary>
    public string? Storage { get; init; }

    /// <summary>The virtual switch that servers are connected to; null leaves them as they are.</summary>
    public string? Switch { get; init; }

    /// <summary>Where a server's address comes from.</summary>
    public AddressSource Address { get; init; }

    /// <summary>Which address is used where a server's adapters tell several.</summary>
    public IpFamily AddressFamily { get; init; }

    /// <summary>What is done with a saved state that a host cannot resume.</summary>
    public ResumeFailure ResumeFailure { get; init; }

    /// <summary>Where dormant servers are kept.</summary>
    public DormantPlace Nest { get; init; }

    /// <summary>Most commands that run at once.</summary>
    public int CallsAtOnce { get; init; } = 16;

    /// <summary>The Hyper-V generation of new machines.</summary>
    public int MachineGeneration { get; init; } = 2;

    /// <inheritdoc/>
    public override string ToString() => Storage ?? Switch ?? "as the hosts are";
}
