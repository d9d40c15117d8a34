using System;
using System.Collections.Generic;

namespace VMatrix;

/// <summary>What a virtual machine is doing, as its hypervisor says.</summary>
public enum PowerState
{
    /// <summary>The hypervisor did not say.</summary>
    Unknown,

    /// <summary>Not running; no memory kept.</summary>
    Off,

    /// <summary>Not running; memory kept in a file.</summary>
    Saved,

    /// <summary>Running.</summary>
    Running,

    /// <summary>In memory, processors stopped.</summary>
    Paused,
}

/// <summary>How a server fares.</summary>
public enum ServerHealth
{
    /// <summary>Not known, or not asked: a dormant server has no health.</summary>
    Unknown,

    /// <summary>Its health check passed.</summary>
    Healthy,

    /// <summary>Its health check failed; the machine itself answers.</summary>
    Failing,

    /// <summary>The machine runs and does not answer.</summary>
    Hung,

    /// <summary>The machine's process or host is gone.</summary>
    Dead,
}

/// <summary>A pool as it is now, for <c>Get-VMatrixPool</c>.</summary>
public sealed record PoolInfo
{
    /// <summary>The owner's settings.</summary>
    public required PoolSpec Spec { get; init; }

    /// <summary>The pool's name.</summary>
    public string Name => Spec.Name;

    /// <summary>Full path of the pool file.</summary>
    public string Path => Spec.Path;

    /// <summary>The pool state's random id, which the marks carry; empty when the pool was never used.</summary>
    public Guid StateId { get; init; }

    /// <summary>Hosts in the pool.</summary>
    public int Hosts => Spec.Hosts.Count;

    /// <summary>Services in the pool.</summary>
    public int Services => Spec.Services.Count;

    /// <summary>Full path of the pool file, as every object of a pool has it.</summary>
    public string Pool => Spec.Path;

    /// <summary>Servers by stage.</summary>
    public required StageCounts ServersByStage { get; init; }

    /// <summary>The decider at work, as <c>name (process N of USER on MACHINE)</c>; null when there is none.</summary>
    public string? Decider { get; init; }

    /// <summary>What cannot be reached or does not look right, as sentences.</summary>
    public IReadOnlyList<string> Problems { get; init; } = [];

    /// <inheritdoc/>
    public override string ToString() => Name;
}

/// <summary>How many servers of a pool are in each stage.</summary>
/// <param name="Nest">In the Nest.</param>
/// <param name="Chamber">In the Chamber.</param>
/// <param name="Matrix">In the Matrix.</param>
/// <param name="Disposed">Disposed of and not purged yet.</param>
public sealed record StageCounts(int Nest, int Chamber, int Matrix, int Disposed)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Nest} Nest, {Chamber} Chamber, {Matrix} Matrix, {Disposed} Disposed";
}

/// <summary>A host as it is now, for <c>Get-VMatrixHost</c>.</summary>
public sealed record HostInfo
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>The owner's settings.</summary>
    public required HostSpec Spec { get; init; }

    /// <summary>The host's name.</summary>
    public string Name => Spec.Name;

    /// <summary>What it is for.</summary>
    public HostRole Role => Spec.Role;

    /// <summary>True when it answers.</summary>
    public bool Reachable { get; init; }

    /// <summary>True while it is powered down.</summary>
    public bool PoweredDown { get; init; }

    /// <summary>True while it is suspended: nothing is placed on it.</summary>
    public bool Suspended { get; init; }

    /// <summary>Who suspended it, when, and until when; null when it is not.</summary>
    public string? SuspendedBy { get; init; }

    /// <summary>Why its platform wants nothing new on it, such as a paused cluster node or VMM's maintenance mode; null when it may be used.</summary>
    public string? Maintenance { get; init; }

    /// <summary>Servers that run on it.</summary>
    public int Servers { get; init; }

    /// <summary>Bytes of memory that servers may use.</summary>
    public long MemoryBytes => Spec.MemoryBytes;

    /// <summary>Bytes of memory that running servers hold.</summary>
    public long MemoryUsedBytes { get; init; }

    /// <summary>What is wrong with it, as a sentence; null when nothing is.</summary>
    public string? Problem { get; init; }

    /// <summary>When this was asked.</summary>
    public DateTimeOffset ObservedAt { get; init; }

    /// <summary>How long ago that is; zero when it was not told when.</summary>
    public TimeSpan Age => ObservedAt == default ? TimeSpan.Zero : DateTimeOffset.UtcNow - ObservedAt;

    /// <inheritdoc/>
    public override string ToString() => Name;
}

/// <summary>A service as it is now, for <c>Get-VMatrixService</c>.</summary>
public sealed record ServiceInfo
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>The owner's settings.</summary>
    public required ServiceSpec Spec { get; init; }

    /// <summary>The service's name.</summary>
    public string Name => Spec.Name;

    /// <summary>Its weight against others.</summary>
    public double Priority => Spec.Priority;

    /// <summary>Fewest servers in the Matrix.</summary>
    public int Least => Spec.Least;

    /// <summary>Most servers in the Matrix; null where there is no limit.</summary>
    public int? Most => Spec.Most == int.MaxValue ? null : Spec.Most;

    /// <summary>Servers in the Matrix.</summary>
    public int InMatrix { get; init; }

    /// <summary>Servers in the Chamber.</summary>
    public int InChamber { get; init; }

    /// <summary>Servers in the Nest.</summary>
    public int InNest { get; init; }

    /// <summary>A count of servers that an operator pinned, in force instead of the Oracle's; null for none.</summary>
    public int? Pinned { get; init; }

    /// <summary>Who pinned it, when, and until when; null when nobody did.</summary>
    public string? PinnedBy { get; init; }

    /// <summary>What the balancer measures; null when it does not answer.</summary>
    public ServiceLoad? Load { get; init; }

    /// <summary>How the Oracle would have done, for a service in <see cref="OracleMode.Shadow"/>; null for others, and before it was scored.</summary>
    public ShadowScore? Shadow { get; init; }

    /// <summary>When this was asked.</summary>
    public DateTimeOffset ObservedAt { get; init; }

    /// <summary>How long ago that is; zero when it was not told when.</summary>
    public TimeSpan Age => ObservedAt == default ? TimeSpan.Zero : DateTimeOffset.UtcNow - ObservedAt;

    /// <inheritdoc/>
    public override string ToString() => Name;
}

/// <summary>One virtual machine of a service as it is now, for <c>Get-VMatrixServer</c>.</summary>
public sealed record ServerInfo
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>The id that we minted; it never changes.</summary>
    public required Guid Id { get; init; }

    /// <summary>The server's name, such as <c>FINANCE-3</c>. Not unique by itself.</summary>
    public required string Name { get; init; }

    /// <summary>The service it belongs to.</summary>
    public required string Service { get; init; }

    /// <summary>Where it is in its life.</summary>
    public required Stage Stage { get; init; }

    /// <summary>The host it is on; null in the nest.</summary>
    public string? Host { get; init; }

    /// <summary>What its machine does.</summary>
    public PowerState Power { get; init; }

    /// <summary>How it fares.</summary>
    public ServerHealth Health { get; init; }

    /// <summary>Where it answers, as <c>address:port</c>; null when it does not run.</summary>
    public string? Address { get; init; }

    /// <summary>The hypervisor's own id of its machine; null for a server that has none yet.</summary>
    public string? MachineId { get; init; }

    /// <summary>Bytes of memory.</summary>
    public long MemoryBytes { get; init; }

    /// <summary>Processor cores; 0 where the driver does not tell.</summary>
    public int Cores { get; init; }

    /// <summary>The image version that it was made from.</summary>
    public string? Image { get; init; }

    /// <summary>Counts the changes of its stage and host; a plan's move is refused when it no longer matches.</summary>
    public int Generation { get; init; }

    /// <summary>When it was made.</summary>
    public DateTimeOffset CreatedAt { get; init; }

    /// <summary>When its stage or host last changed.</summary>
    public DateTimeOffset ChangedAt { get; init; }

    /// <summary>The Oracle leaves it alone until then; null when it was not moved by hand lately.</summary>
    public DateTimeOffset? HeldUntil { get; init; }

    /// <summary>The Oracle leaves it alone until then, because moves of it failed; null when none did, and when it may be tried again.</summary>
    public DateTimeOffset? RetryAt { get; init; }

    /// <summary>What is wrong with it, as a sentence; null when nothing is.</summary>
    public string? Problem { get; init; }

    /// <summary>When this was asked.</summary>
    public DateTimeOffset ObservedAt { get; init; }

    /// <summary>How long ago that is; zero when it was not told when.</summary>
    public TimeSpan Age => ObservedAt == default ? TimeSpan.Zero : DateTimeOffset.UtcNow - ObservedAt;

    /// <inheritdoc/>
    public override string ToString() => Name;
}

/// <summary>What the balancer measures of one service.</summary>
public sealed record ServiceLoad
{
    /// <summary>The service.</summary>
    public required string Service { get; init; }

    /// <summary>When it was measured.</summary>
    public required DateTimeOffset At { get; init; }

    /// <summary>Requests per second that arrived since the sample before.</summary>
    public double RequestRate { get; init; }

    /// <summary>Requests per second that were served since the sample before.</summary>
    public double ServedRate { get; init; }

    /// <summary>Requests that wait now.</summary>
    public int Queue { get; init; }

    /// <summary>Requests that are open now, waiting ones not included.</summary>
    public int Sessions { get; init; }

    /// <summary>Average time of a response, as the balancer reports it.</summary>
    public TimeSpan ResponseTime { get; init; }

    /// <summary>Errors per second since the sample before.</summary>
    public double ErrorRate { get; init; }

    /// <summary>Requests per second turned away for overload since the sample before.</summary>
    public double RefusedRate { get; init; }

    /// <summary>Why the sample is not to be acted on; null when it is good.</summary>
    public string? Bad { get; init; }

    /// <inheritdoc/>
    public override string ToString() => Bad ?? FormattableString.Invariant($"{RequestRate:0.##} requests per second, {Queue} waiting, {ResponseTime.TotalMilliseconds:0} ms");
}

/// <summary>A whole pool in one look: everything in it is of the same moment.</summary>
/// <param name="At">When it was looked at.</param>
/// <param name="Hosts">The hosts.</param>
/// <param name="Services">The services with their load.</param>
/// <param name="Servers">The servers.</param>
public sealed record PoolLook(DateTimeOffset At, IReadOnlyList<HostInfo> Hosts, IReadOnlyList<ServiceInfo> Services, IReadOnlyList<ServerInfo> Servers)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Hosts.Count} hosts, {Services.Count} services, {Servers.Count} servers";
}
