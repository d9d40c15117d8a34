using System;
using System.Collections.Generic;
using VMatrix.Drivers;

namespace VMatrix.Planning;

/// <summary>All that the planner may know. Same input, same plan: no clock, no files, no drivers behind it.</summary>
public sealed record PlannerInput
{
    /// <summary>The owner's settings.</summary>
    public required PoolSpec Pool { get; init; }

    /// <summary>The moment of planning.</summary>
    public required DateTimeOffset Now { get; init; }

    /// <summary>The hosts' state, one for each host of the pool.</summary>
    public required IReadOnlyList<HostState> Hosts { get; init; }

    /// <summary>Every server of the pool, disposed ones included.</summary>
    public required IReadOnlyList<ServerState> Servers { get; init; }

    /// <summary>False once the planner has seen that hosts which gathering would free are filled again at once.</summary>
    internal bool MayGather { get; init; } = true;

    /// <summary>What was found in it that cannot be, and how it was taken instead; null before it was looked at, see <see cref="Soundness"/>.</summary>
    internal IReadOnlyList<RefusedMove>? Unsound { get; init; }

    /// <summary>Load samples by service, oldest first; the last one is now. Bad ones carry their reason.</summary>
    public required IReadOnlyDictionary<string, IReadOnlyList<ServiceLoad>> Loads { get; init; }

    /// <summary>What the planner itself asked to be kept from the plan before (forecast state, need windows); null at first.</summary>
    public PlannerMemory? Memory { get; init; }

    /// <summary>Counts of servers pinned by an operator, by service.</summary>
    public IReadOnlyDictionary<string, int> Pinned { get; init; } = new Dictionary<string, int>();

    /// <summary>What an activation takes from decision to first answer, by service, as measured; a service that is missing was never measured.</summary>
    public IReadOnlyDictionary<string, TimeSpan> WakeTime { get; init; } = new Dictionary<string, TimeSpan>();

    /// <summary>Bytes that an activation reads or copies, by service, as measured; a service that is missing was never measured.</summary>
    public IReadOnlyDictionary<string, long> WakeBytes { get; init; } = new Dictionary<string, long>();

    /// <summary>The newest image version by service.</summary>
    public IReadOnlyDictionary<string, string> Images { get; init; } = new Dictionary<string, string>();

    /// <summary>What the platform says of hosts for servers.</summary>
    public HostAdvice Advice { get; init; } = new();

    /// <summary>Moves that failed, with no success since (<see cref="FailureLog"/>): they wait, longer each time, and others go first.</summary>
    public IReadOnlyList<MoveFailure> Failures { get; init; } = [];

    /// <summary>True when the driver can move a running server without stopping it.</summary>
    public bool LiveMigration { get; init; }

    /// <summary>True when the driver can power hosts down and wake them.</summary>
    public bool HostPower { get; init; }

    /// <summary>Names of servers that are not among <see cref="Servers"/> and may be there all the same: no new one gets them.</summary>
    public IReadOnlyList<string> TakenNames { get; init; } = [];

    /// <summary>What waking a host takes, as measured; null when it never was.</summary>
    public TimeSpan? HostWakeTime { get; init; }

    /// <summary>Seed for the ids of moves and new servers, so that the same input makes the same plan to the byte.</summary>
    public int Seed { get; init; }
}

/// <summary>A host for the planner.</summary>
public sealed record HostState
{
    /// <summary>The host's name.</summary>
    public required string Name { get; init; }

    /// <summary>True when it answers; nothing is placed on one that does not, and nothing on it is believed dead for it.</summary>
    public bool Reachable { get; init; } = true;

    /// <summary>What it told instead of an answer, as a sentence; null when it answers, and when nothing was told.</summary>
    public string? Silence { get; init; }

    /// <summary>True when it is proven dead: its servers may be started elsewhere.</summary>
    public bool ProvenDead { get; init; }

    /// <summary>True while suspended: its servers are moved away and nothing is placed on it.</summary>
    public bool Suspended { get; init; }

    /// <summary>True while powered down.</summary>
    public bool PoweredDown { get; init; }

    /// <summary>True while it is on its way up: it counts as powered down until it answers.</summary>
    public bool Waking { get; init; }

    /// <summary>Bytes of memory that foreign machines hold.</summary>
    public long ForeignMemoryBytes { get; init; }

    /// <summary>Processors that foreign machines have.</summary>
    public int ForeignCores { get; init; }

    /// <summary>Image versions whose blocks it holds: a server made from one of them is woken here sooner than elsewhere.</summary>
    public IReadOnlyList<string> Images { get; init; } = [];
}

/// <summary>A server for the planner.</summary>
public sealed record ServerState
{
    /// <summary>The server's mark.</summary>
    public required ServerMark Mark { get; init; }

    /// <summary>The host it is on; null in the nest.</summary>
    public string? Host { get; init; }

    /// <summary>What its machine does.</summary>
    public PowerState Power { get; init; }

    /// <summary>How it fares.</summary>
    public ServerHealth Health { get; init; }

    /// <summary>When the memory that it keeps was saved; null when it keeps none, and where the driver cannot tell.</summary>
    public DateTimeOffset? AsleepSince { get; init; }

    /// <summary>Bytes of memory that it holds or needs.</summary>
    public long MemoryBytes { get; init; }

    /// <summary>Bytes of memory that it really uses, which load balancing between hosts goes by; null where nobody measures it.</summary>
    public long? MemoryUsedBytes { get; init; }

    /// <summary>Cores that it holds or needs; 0 for what its image says.</summary>
    public int Cores { get; init; } = 1;

    /// <summary>Why it is left alone for now, because moves of it failed; null when it is not. Follows from <see cref="PlannerInput.Failures"/>.</summary>
    internal string? Waits { get; init; }

    /// <summary>Share of its own cores that it really uses, from 0 to 1; null where nobody measures it.</summary>
    public double? ProcessorUse { get; init; }

    /// <summary>Requests open at it now, as the balancer tells; null where the balancer does not count them, or has not told lately.</summary>
    public int? OpenRequests { get; init; }

    /// <summary>Whether the last answer of the balancer told of this server; null where that is not known, so that its service's sample speaks for it.</summary>
    public bool? Sampled { get; init; }

    /// <summary>True while a move holds a claim on it: the planner leaves it alone and counts it as where it goes.</summary>
    public bool Claimed { get; init; }

    /// <summary>Where a claimed server goes; null when it is not claimed.</summary>
    public Stage? ClaimedTo { get; init; }

    /// <summary>The host that a claimed server goes to.</summary>
    public string? ClaimedHost { get; init; }
}

/// <summary>What the planner keeps from one plan to the next. Opaque to all but the planner, serialisable as JSON.</summary>
public sealed record PlannerMemory
{
    /// <summary>By service, a small JSON text that only the planner reads.</summary>
    public IReadOnlyDictionary<string, string> ByService { get; init; } = new Dictionary<string, string>();

    /// <summary>By service, what was learned of its demand.</summary>
    public IReadOnlyDictionary<string, ForecastState> Forecasts { get; init; } = new Dictionary<string, ForecastState>();

    /// <summary>Licences that are assigned to hosts, whether in use or not.</summary>
    public IReadOnlyList<LicenceSeat> Seats { get; init; } = [];

    /// <summary>Servers that were to be woken in the Chamber once, because they slept too long.</summary>
    public IReadOnlyList<Refresh> Refreshes { get; init; } = [];

    /// <summary>By host, since when it is idle; kept where idle hosts are powered down.</summary>
    public IReadOnlyDictionary<string, DateTimeOffset> IdleSince { get; init; } = new Dictionary<string, DateTimeOffset>();

    /// <summary>Since when it would pay to gather servers on fewer hosts; null when it does not.</summary>
    public DateTimeOffset? GatherSince { get; init; }

    /// <summary>Disposed servers that are due for purging by the clock, which is not believed at once.</summary>
    public IReadOnlyList<PurgeDue> PurgeDue { get; init; } = [];
}

/// <summary>A disposed server that is due for purging by the clock.</summary>
/// <param name="Server">The server.</param>
/// <param name="SeenAt">When a plan last found it due.</param>
/// <param name="For">For how long plans have found it due without a break; of the time between two plans only a part counts.</param>
public sealed record PurgeDue(Guid Server, DateTimeOffset SeenAt, TimeSpan For);

/// <summary>A licence that the planner assigned to a host.</summary>
/// <param name="Licence">The licence.</param>
/// <param name="Host">The host.</param>
/// <param name="Since">When it was assigned.</param>
public sealed record LicenceSeat(string Licence, string Host, DateTimeOffset Since);

/// <summary>A sleeper that was to be woken in the Chamber once.</summary>
/// <param name="Server">The server.</param>
/// <param name="Generation">The generation that it has in the Chamber.</param>
/// <param name="At">When that was planned.</param>
public sealed record Refresh(Guid Server, int Generation, DateTimeOffset At);

/// <summary>What the planner answers.</summary>
/// <param name="Plan">The plan.</param>
/// <param name="Memory">To be handed in again next time.</param>
public sealed record PlannerOutput(Plan Plan, PlannerMemory Memory);
