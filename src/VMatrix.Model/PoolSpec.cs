using System;
using System.Collections.Generic;

namespace VMatrix;

/// <summary>What a host is for.</summary>
public enum HostRole
{
    /// <summary>Carries servers under live load.</summary>
    Matrix,

    /// <summary>Shared by servers under repair.</summary>
    Chamber,
}

/// <summary>How far the Oracle may go by itself.</summary>
public enum OracleMode
{
    /// <summary>Plans are carried out at once.</summary>
    Automatic,

    /// <summary>Plans wait for <c>Approve-VMatrixPlan</c>.</summary>
    Confirm,

    /// <summary>Plans are made and scored, and never carried out.</summary>
    Shadow,
}

/// <summary>Whether servers share a host.</summary>
public enum Isolation
{
    /// <summary>One live server a host (the default).</summary>
    Dedicated,

    /// <summary>As many live servers as the host's memory and <see cref="HostSpec.MostServers"/> allow.</summary>
    Shared,
}

/// <summary>A pool as its owner's file describes it: hosts, services, a nest and a balancer that belong together. Never rewritten by VMatrix.</summary>
public sealed record PoolSpec
{
    /// <summary>The pool's name.</summary>
    public required string Name { get; init; }

    /// <summary>Full path of the file it was read from; relative paths in the file are relative to that file's folder, and are absolute here.</summary>
    public required string Path { get; init; }

    /// <summary>Full path of the state folder.</summary>
    public required string StateFolder { get; init; }

    /// <summary>The driver that runs the servers: <c>qemu</c>, <c>simulation</c>, <c>hyperv</c> or <c>scvmm</c>.</summary>
    public required string Hypervisor { get; init; }

    /// <summary>The hosts, in the file's order.</summary>
    public required IReadOnlyList<HostSpec> Hosts { get; init; }

    /// <summary>The services, in the file's order.</summary>
    public required IReadOnlyList<ServiceSpec> Services { get; init; }

    /// <summary>Terms of the software licences that services need; a licence without terms is held by the hosts that name it, for any number of servers.</summary>
    public IReadOnlyList<LicenceSpec> Licences { get; init; } = [];

    /// <summary>The nest.</summary>
    public required NestSpec Nest { get; init; }

    /// <summary>The balancer.</summary>
    public required BalancerSpec Balancer { get; init; }

    /// <summary>The Oracle's settings.</summary>
    public OracleSpec Oracle { get; init; } = new();

    /// <summary>What may go on at once, and for how long.</summary>
    public LimitSpec Limits { get; init; } = new();

    /// <summary>How simulated hosts, servers and loads behave; used by the <c>simulation</c> drivers only.</summary>
    public SimulationSpec Simulation { get; init; } = new();

    /// <summary>How Hyper-V hosts are reached and how their machines are kept; used by the <c>hyperv</c> driver only.</summary>
    public HyperVSpec HyperV { get; init; } = new();

    /// <summary>How SCVMM is reached and where it keeps machines; used by the <c>scvmm</c> driver only.</summary>
    public ScvmmSpec Scvmm { get; init; } = new();

    /// <inheritdoc/>
    public override string ToString() => Name;
}

/// <summary>A real machine that runs virtual machines.</summary>
public sealed record HostSpec
{
    /// <summary>The host's name, unique in the pool.</summary>
    public required string Name { get; init; }

    /// <summary>What it is for.</summary>
    public HostRole Role { get; init; }

    /// <summary>Bytes of memory that servers may use.</summary>
    public required long MemoryBytes { get; init; }

    /// <summary>Processor cores that servers may count on: twice the machine's own for two virtual ones a core. Null where processors are not counted.</summary>
    public int? Cores { get; init; }

    /// <summary>Most servers at a time; null where memory alone decides.</summary>
    public int? MostServers { get; init; }

    /// <summary>Full path of the folder that the embedded hypervisor keeps this host's servers in; null for drivers that need none.</summary>
    public string? Folder { get; init; }

    /// <summary>Network name or address of a remote host; null for an embedded one.</summary>
    public string? Address { get; init; }

    /// <summary>The name of the secret that this host is reached with; null for the pool's, see <see cref="HyperVSpec.Credential"/>.</summary>
    public string? Credential { get; init; }

    /// <summary>The folder that this host keeps its machines in, as the host itself writes it; null for the pool's, see <see cref="HyperVSpec.Storage"/>.</summary>
    public string? Storage { get; init; }

    /// <summary>The virtual switch that servers are connected to on this host; null for the pool's, see <see cref="HyperVSpec.Switch"/>.</summary>
    public string? Switch { get; init; }

    /// <summary>Hosts with the same fault domain are expected to fail together; null when each stands alone.</summary>
    public string? FaultDomain { get; init; }

    /// <summary>Full path of the script that makes sure this host is dead and says so with exit code 0; null when there is none.</summary>
    public string? FenceScript { get; init; }

    /// <summary>Licences that this host holds, by name.</summary>
    public IReadOnlyList<string> Licences { get; init; } = [];

    /// <inheritdoc/>
    public override string ToString() => Name;
}

/// <summary>The terms of a software licence.</summary>
public sealed record LicenceSpec
{
    /// <summary>The licence's name, as <see cref="ServiceSpec.Licence"/> and <see cref="HostSpec.Licences"/> name it.</summary>
    public required string Name { get; init; }

    /// <summary>Most running servers that need it on one licensed host; null for no limit.</summary>
    public int? InstancesPerHost { get; init; }

    /// <summary>Hosts that may be licensed beside those that name it for good: the planner assigns these where servers need them; 0 for none.</summary>
    public int Seats { get; init; }

    /// <summary>How long an assigned licence stays with its host before it may be reassigned.</summary>
    public TimeSpan ReassignAfter { get; init; } = TimeSpan.FromDays(90);

    /// <inheritdoc/>
    public override string ToString() => Name;
}

/// <summary>What users reach: a service such as FINANCE.</summary>
public sealed record ServiceSpec
{
    /// <summary>The service's name, unique in the pool.</summary>
    public required string Name { get; init; }

    /// <summary>How much an unserved request of this service weighs against one of another; above 0. The least important is dropped first.</summary>
    public double Priority { get; init; } = 1;

    /// <summary>Fewest servers in the Matrix.</summary>
    public int Least { get; init; } = 1;

    /// <summary>Most servers in the Matrix.</summary>
    public int Most { get; init; } = int.MaxValue;

    /// <summary>What its servers are made from.</summary>
    public required ImageSpec Image { get; init; }

    /// <summary>Full path of the script that is run before a server leaves the balancer, and that keeps it there with any exit code but 0; null when there is none.</summary>
    public string? BeforeDrainScript { get; init; }

    /// <summary>The port that it answers on inside the server.</summary>
    public int Port { get; init; } = 80;

    /// <summary>Where the balancer listens for this service's users, as <c>address:port</c>; null when the balancer is configured by its owner.</summary>
    public string? Listen { get; init; }

    /// <summary>The static addresses that its servers get, one each; null where guests get theirs otherwise.</summary>
    public AddressSpec? Addresses { get; init; }

    /// <summary>How to tell that a server of it works.</summary>
    public HealthSpec Health { get; init; } = new();

    /// <summary>Requests per second that one server carries; null to learn it from what a saturated server really carried.</summary>
    public double? Capacity { get; init; }

    /// <summary>Most requests that the balancer hands to one server at a time; null for no limit. 1 makes the balancer hold the queue.</summary>
    public int? Concurrency { get; init; }

    /// <summary>More keywords for its servers in HAProxy, as on a server line there, where <c>{server}</c> stands for the server's name; null for none.</summary>
    public string? ServerKeywords { get; init; }

    /// <summary>Whether its servers share hosts.</summary>
    public Isolation Isolation { get; init; }

    /// <summary>The hosts it may run on; empty for all of the right role.</summary>
    public IReadOnlyList<string> AllowedHosts { get; init; } = [];

    /// <summary>The hosts it may not run on.</summary>
    public IReadOnlyList<string> ForbiddenHosts { get; init; } = [];

    /// <summary>Services whose servers it wants on the same host.</summary>
    public IReadOnlyList<string> Affinity { get; init; } = [];

    /// <summary>Services (its own name included) whose servers it refuses on the same host.</summary>
    public IReadOnlyList<string> AntiAffinity { get; init; } = [];

    /// <summary>True to spread its servers over fault domains.</summary>
    public bool Spread { get; init; }

    /// <summary>A licence that a host must hold to run it; null for none.</summary>
    public string? Licence { get; init; }

    /// <summary>Names of servers, with <c>*</c> and <c>?</c> as wildcards, that are taken away first when there are more than needed.</summary>
    public IReadOnlyList<string> RetireFirst { get; init; } = [];

    /// <summary>Names of servers, with <c>*</c> and <c>?</c> as wildcards, that the Oracle never takes out of the Matrix for want of load or for the sake of another service. Broken ones are replaced, and hosts that are suspended are emptied, all the same.</summary>
    public IReadOnlyList<string> Protected { get; init; } = [];

    /// <summary>Names of servers, with <c>*</c> and <c>?</c> as wildcards, that are never moved to balance hosts or to gather servers on fewer of them.</summary>
    public IReadOnlyList<string> NeverBalance { get; init; } = [];

    /// <summary>How far the Oracle may go with this service; null for the pool's setting.</summary>
    public OracleMode? Mode { get; init; }

    /// <summary>Windows in which its servers may not be moved.</summary>
    public IReadOnlyList<FreezeSpec> Freeze { get; init; } = [];

    /// <inheritdoc/>
    public override string ToString() => Name;
}

/// <summary>A window of time, each week, in which a service's servers may not be moved. In local time of the machine that plans.</summary>
public sealed record FreezeSpec
{
    /// <summary>Days that it starts on; empty for every day.</summary>
    public IReadOnlyList<DayOfWeek> Days { get; init; } = [];

    /// <summary>Time of day that it starts at.</summary>
    public TimeSpan From { get; init; }

    /// <summary>Time of day that it ends at; not after <see cref="From"/> means on the next day.</summary>
    public TimeSpan To { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{(Days.Count == 0 ? "daily" : string.Join(", ", Days))} {From:hh\\:mm}-{To:hh\\:mm}";
}

/// <summary>Static addresses for the servers of a service. A server keeps the one that it was made with until it is purged.</summary>
public sealed record AddressSpec
{
    /// <summary>The addresses, both ends included.</summary>
    public required AddressRange Range { get; init; }

    /// <summary>Bits of the address that name the network.</summary>
    public required int Prefix { get; init; }

    /// <summary>The router that leads out of the network; null for none.</summary>
    public string? Gateway { get; init; }

    /// <summary>The servers that guests ask for names.</summary>
    public IReadOnlyList<string> Dns { get; init; } = [];

    /// <inheritdoc/>
    public override string ToString() => $"{Range}/{Prefix}";
}

/// <summary>What new servers of a service are made from: a gold disk and, if it exists, a warm state with memory.</summary>
public sealed record ImageSpec
{
    /// <summary>Full path of the gold disk (qcow2, raw, VHDX by driver), or the template's name for drivers that have templates; null for a guest that lives in its initial RAM disk.</summary>
    public string? Disk { get; init; }

    /// <summary>Full path of a kernel to start directly; null to start from the disk.</summary>
    public string? Kernel { get; init; }

    /// <summary>Full path of the initial RAM disk that goes with <see cref="Kernel"/>.</summary>
    public string? Initrd { get; init; }

    /// <summary>Kernel command line that goes with <see cref="Kernel"/>.</summary>
    public string? Append { get; init; }

    /// <summary>Bytes of memory of a server.</summary>
    public long MemoryBytes { get; init; } = 128L << 20;

    /// <summary>Processor cores of a server.</summary>
    public int Cores { get; init; } = 1;

    /// <summary>True to boot the image once, wait for its health check, keep its memory, and make new servers from that.</summary>
    public bool Warm { get; init; }

    /// <summary>How a copy of a Hyper-V gold disk becomes a machine of its own.</summary>
    public Specialize Specialize { get; init; }

    /// <summary>Full path of the owner's user-data for cloud-init, which goes onto a server's seed as it is; null for none.</summary>
    public string? UserData { get; init; }

    /// <summary>Full path of the owner's answer file for Windows, into which a server's name and address are put; null for a gold disk that brings its own.</summary>
    public string? Answers { get; init; }

    /// <summary>Full path of the folder of files by which servers join their domain, <c>NAME.txt</c> of each as djoin has made it; null where the owner's answer file says how.</summary>
    public string? Join { get; init; }

    /// <summary>What answers inside the guest, so that clock, identity and randomness are set after each wake: <c>qga</c> (the QEMU guest agent), <c>vmatrix</c> (the small agent of guests that VMatrix builds itself) or null for nothing.</summary>
    public string? Agent { get; init; }

    /// <inheritdoc/>
    public override string ToString() => Disk ?? Kernel ?? $"{MemoryBytes >> 20} MiB";
}

/// <summary>A health check: an HTTP request, never a bare connect.</summary>
public sealed record HealthSpec
{
    /// <summary>The path asked for.</summary>
    public string Path { get; init; } = "/";

    /// <summary>The status that means healthy.</summary>
    public int Expect { get; init; } = 200;

    /// <summary>Time between checks of a server in the Matrix.</summary>
    public TimeSpan Interval { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>How long one check may take.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>Checks in a row that fail before a server counts as broken.</summary>
    public int Failures { get; init; } = 3;

    /// <summary>How long a server may take from its start to its first passed check.</summary>
    public TimeSpan StartTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <inheritdoc/>
    public override string ToString() => $"GET {Path} each {Durations.Format(Interval)}";
}

/// <summary>The store of dormant servers and images.</summary>
public sealed record NestSpec
{
    /// <summary>Full path of the folder; for Hyper-V a share that every host reaches.</summary>
    public required string Folder { get; init; }

    /// <summary>How long a disposed server can be undone; after that it is purged once plans have found that time passed for as long again, or for a day if that is shorter.</summary>
    public TimeSpan PurgeAfter { get; init; } = TimeSpan.FromDays(7);

    /// <summary>How long a server may keep a memory asleep before the Oracle wakes it in the Chamber once, where the driver tells since when it sleeps; null for ever.</summary>
    public TimeSpan? MaxSleep { get; init; }

    /// <inheritdoc/>
    public override string ToString() => Folder;
}

/// <summary>Where the load of services comes from.</summary>
public enum LoadOrigin
{
    /// <summary>The balancer counts requests.</summary>
    Balancer,

    /// <summary>How busy servers' processors are, for a balancer that counts nothing.</summary>
    Processor,
}

/// <summary>What sends requests to the servers in the Matrix.</summary>
public sealed record BalancerSpec
{
    /// <summary>The driver: <c>haproxy</c>, <c>nlb</c>, <c>script</c>, or <c>simulation</c>.</summary>
    public required string Kind { get; init; }

    /// <summary>Full path of the script file that the kind <c>script</c> runs; null for other kinds.</summary>
    public string? Script { get; init; }

    /// <summary>True when VMatrix starts and owns it; false to join one that runs already.</summary>
    public bool Own { get; init; } = true;

    /// <summary>The runtime socket to join: a full path, or <c>address:port</c>. Null when owned.</summary>
    public string? Socket { get; init; }

    /// <summary>Where load comes from.</summary>
    public LoadOrigin Load { get; init; }

    /// <summary>How long to wait for open requests when a server leaves.</summary>
    public TimeSpan DrainTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How often the balancer is asked whether a draining server's open requests have ended; null for what suits its kind.</summary>
    public TimeSpan? DrainInterval { get; init; }

    /// <summary><see cref="DrainInterval"/> as it applies: 25 ms for <c>haproxy</c> and <c>simulation</c>, 1 s for those whose every answer is a process or a call to a guest.</summary>
    public TimeSpan EffectiveDrainInterval => DrainInterval ?? (Kind is "haproxy" or "simulation" ? TimeSpan.FromMilliseconds(25) : TimeSpan.FromSeconds(1));

    /// <summary>How long a request may wait in the balancer's queue before it is refused.</summary>
    public TimeSpan QueueTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Most requests that may be open at a service, waiting ones included; null for the balancer's default.</summary>
    public int? MostOpen { get; init; }

    /// <inheritdoc/>
    public override string ToString() => Kind;
}

/// <summary>What load balancing between hosts goes by.</summary>
public enum BalanceMeasure
{
    /// <summary>Memory in use.</summary>
    Memory,

    /// <summary>Processor cores in use; hosts need <see cref="HostSpec.Cores"/>.</summary>
    Processor,

    /// <summary>Both: neither is made worse for the other.</summary>
    Both,
}

/// <summary>The Oracle's settings.</summary>
public sealed record OracleSpec
{
    /// <summary>Time from one switch to the next.</summary>
    public TimeSpan Interval { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How far it may go by itself.</summary>
    public OracleMode Mode { get; init; } = OracleMode.Automatic;

    /// <summary>Share of a server's capacity to plan for, above 0 and at most 1. Room for what may come is planned for besides; lower it for a service whose answers get slow well before its capacity is reached.</summary>
    public double TargetUse { get; init; } = 1;

    /// <summary>Requests per second that a service can get at all; a sample above is bad.</summary>
    public double MostRate { get; init; } = 1_000_000;

    /// <summary>A server is given up only when it was not needed for this long.</summary>
    public TimeSpan Calm { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>A move must pay for itself within this time.</summary>
    public TimeSpan Horizon { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>Time after which demand repeats itself; the forecast looks one and seven of them back.</summary>
    public TimeSpan Season { get; init; } = TimeSpan.FromDays(1);

    /// <summary>A plan not begun within this time is refused.</summary>
    public TimeSpan PlanExpiry { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>A load sample older than this is stale.</summary>
    public TimeSpan StaleAfter { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long the Oracle leaves a server alone that was moved by hand.</summary>
    public TimeSpan HoldFor { get; init; } = TimeSpan.FromMinutes(30);

    /// <summary>Matrix hosts kept free for the failure of others.</summary>
    public int ReserveHosts { get; init; }

    /// <summary>Cost of holding one server for a minute, in units of the minute's unserved work of one server of priority 1.</summary>
    public double ServerCost { get; init; } = 0.05;

    /// <summary>Cost of one activation, in the same unit.</summary>
    public double ActivationCost { get; init; } = 0.2;

    /// <summary>Cost of reading or copying one GiB for an activation, in the same unit. The default is about the minute's share of a second, which a GiB takes on a link of ten gigabits.</summary>
    public double CopyCost { get; init; } = 0.015;

    /// <summary>A server that was moved just now is taken away for another service only when that has a use for this much more of one, as a share of a server; it fades over <see cref="Horizon"/>.</summary>
    public double Stay { get; init; } = 0.5;

    /// <summary>Load balancing between hosts: the gap of memory use, as a share, above which servers are moved; null for off.</summary>
    public double? BalanceGap { get; init; }

    /// <summary>With <see cref="BalanceGap"/>, hosts are balanced only while one of them is used above this share; null for always.</summary>
    public double? BalanceAbove { get; init; }

    /// <summary>What <see cref="BalanceGap"/> and <see cref="BalanceAbove"/> measure.</summary>
    public BalanceMeasure BalanceBy { get; init; }

    /// <summary>Share of the servers in the Matrix that must have a good sample; below it no service's count is changed by its load. 0 for no such floor.</summary>
    public double MinSampleCoverage { get; init; }

    /// <summary>True to power idle hosts down and wake them ahead of need.</summary>
    public bool PowerDown { get; init; }

    /// <summary>A host is powered down once it was idle for this long: the break-even time, in which an idle host costs as much as powering it down and waking it.</summary>
    public TimeSpan PowerDownAfter { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>Cost of keeping one host up for a minute, in the unit of <see cref="ServerCost"/>: with <see cref="PowerDown"/> servers that share hosts are gathered on fewer of them where that saves more within <see cref="Horizon"/> than the moves cost, each at <see cref="ActivationCost"/>; 0 for never.</summary>
    public double HostCost { get; init; } = 0.5;

    /// <summary>Idle matrix hosts that stay powered up for what no forecast sees, beside <see cref="ReserveHosts"/>.</summary>
    public int IdleHosts { get; init; } = 1;

    /// <summary>Time from waking a host until servers can be woken on it, until it was measured: hosts are woken so far ahead of the forecast.</summary>
    public TimeSpan HostWakeTime { get; init; } = TimeSpan.FromMinutes(3);

    /// <inheritdoc/>
    public override string ToString() => $"{Mode}, each {Durations.Format(Interval)}";
}

/// <summary>What may go on at once, and for how long.</summary>
public sealed record LimitSpec
{
    /// <summary>Most moves at once that touch one host.</summary>
    public int MovesPerHost { get; init; } = 2;

    /// <summary>Most moves at once in the pool.</summary>
    public int MovesPerPool { get; init; } = 4;

    /// <summary>How long one step of a move may take.</summary>
    public TimeSpan StepTimeout { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>How long a host, the nest, the balancer or VMM may take to answer when it is only asked; longer counts as not answering.</summary>
    public TimeSpan ReadTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Tries of a step that fails for a passing reason, the first one included.</summary>
    public int Tries { get; init; } = 3;

    /// <inheritdoc/>
    public override string ToString() => $"{MovesPerHost} moves a host, {MovesPerPool} a pool";
}
