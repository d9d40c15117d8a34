using System;
using System.Collections.Generic;

namespace VMatrix;

/// <summary>What an explanation is about.</summary>
public enum ExplainedKind
{
    /// <summary>A server.</summary>
    Server,

    /// <summary>A host.</summary>
    Host,

    /// <summary>A service.</summary>
    Service,
}

/// <summary>The full story of a server, a host or a service in a plan, computed again from what the plan was made from.</summary>
public sealed record Explanation
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>The plan.</summary>
    public required Guid PlanId { get; init; }

    /// <summary>When the plan was made.</summary>
    public required DateTimeOffset At { get; init; }

    /// <summary>What it is about.</summary>
    public required ExplainedKind Kind { get; init; }

    /// <summary>The name of the server, host or service.</summary>
    public required string Subject { get; init; }

    /// <summary>The server's id; null for a host or a service.</summary>
    public Guid? ServerId { get; init; }

    /// <summary>What the plan does with it, or that it does nothing, and why, in a sentence.</summary>
    public required string Outcome { get; init; }

    /// <summary>The plan's moves that concern it, in order.</summary>
    public IReadOnlyList<Move> Moves { get; init; } = [];

    /// <summary>What was considered for it and refused.</summary>
    public IReadOnlyList<RefusedMove> Refused { get; init; } = [];

    /// <summary>The services that are concerned: their forecast, need, weights and costs.</summary>
    public IReadOnlyList<ServiceStory> Services { get; init; } = [];

    /// <summary>Each host that could be meant, as it stands when everything else in the plan is done: chosen, possible at a cost, or excluded by rules. For a host, one for each service instead.</summary>
    public IReadOnlyList<Candidate> Candidates { get; init; } = [];

    /// <summary>How many candidates each rule excludes; one may be excluded by several.</summary>
    public IReadOnlyList<RuleCount> Excluded { get; init; } = [];

    /// <summary>The excluded candidates that lack least.</summary>
    public IReadOnlyList<Candidate> NearestMisses { get; init; } = [];

    /// <summary>A wish that was not granted: the rules that cannot hold together with it; null when all wishes were.</summary>
    public Conflict? Conflict { get; init; }

    /// <summary>Why the story may differ from what was decided; null when the same plan came out.</summary>
    public string? Note { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{Kind} {Subject}: {Outcome}";
}

/// <summary>What the Oracle expected of a service, what its servers are worth, and what follows. Costs are in the minute's unserved work of one server of priority 1, over the time that the Oracle looks ahead.</summary>
public sealed record ServiceStory
{
    /// <summary>The decision: rate, queue, forecast, capacity, servers had, needed and granted, and the reason.</summary>
    public required ServiceDecision Decision { get; init; }

    /// <summary>The service.</summary>
    public string Service => Decision.Service;

    /// <summary>Its weight against others.</summary>
    public required double Priority { get; init; }

    /// <summary>How far the Oracle may go with it.</summary>
    public required OracleMode Mode { get; init; }

    /// <summary>Fewest servers that it may have.</summary>
    public int Least { get; init; }

    /// <summary>Most servers that it may have.</summary>
    public int Most { get; init; }

    /// <summary>What the Oracle expects it to cost with the servers that it has: work unserved, servers held; NaN when that is not known.</summary>
    public double CostBefore { get; init; } = double.NaN;

    /// <summary>What the Oracle expects it to cost with the servers that it is granted, activations included; NaN when that is not known.</summary>
    public double CostAfter { get; init; } = double.NaN;

    /// <summary>What one activation costs: its price, and the bytes that it reads or copies.</summary>
    public double ActivationCost { get; init; }

    /// <summary>Time that an activation takes, the median of the last ones; null when none was measured.</summary>
    public TimeSpan? WakeTime { get; init; }

    /// <summary>Bytes that an activation reads or copies, the median of the last ones; null when none was measured.</summary>
    public long? WakeBytes { get; init; }

    /// <summary>What each of its servers is worth, from the first to one more than it has, needs or is granted.</summary>
    public IReadOnlyList<ServerWorth> Worth { get; init; } = [];

    /// <inheritdoc/>
    public override string ToString() => Decision.ToString();
}

/// <summary>What a service's n-th server is worth.</summary>
public sealed record ServerWorth
{
    /// <summary>Which server, counted from 1.</summary>
    public required int Server { get; init; }

    /// <summary>Share of its capacity that is used in the next minute; NaN when not known.</summary>
    public double UsedNow { get; init; }

    /// <summary>Share of its capacity that is expected to be used after that; NaN when not known.</summary>
    public double UsedSoon { get; init; }

    /// <summary>Its worth beyond what it costs; it is wanted above zero.</summary>
    public double Worth { get; init; }

    /// <summary>What it is worth more, where the pool is short, for having been moved lately; 0 when it was not.</summary>
    public double Stay { get; init; }

    /// <summary>True when the service has it; else its activation is counted in.</summary>
    public bool Held { get; init; }

    /// <summary>True when it is granted.</summary>
    public bool Granted { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"server {Server}";
}

/// <summary>A host that a server could be on.</summary>
public sealed record Candidate
{
    /// <summary>The host.</summary>
    public required string Host { get; init; }

    /// <summary>The service whose server it is.</summary>
    public required string Service { get; init; }

    /// <summary>Where the plan has it: <c>here</c>, <c>chosen</c>, <c>possible</c> or <c>excluded</c>.</summary>
    public required string Verdict { get; init; }

    /// <summary>The rules that exclude it; empty when none does.</summary>
    public IReadOnlyList<string> Rules { get; init; } = [];

    /// <summary>What it costs to be there, the lower the better: servers of the service in the same fault domain, then wishes for company that stay open, then room that has to be freed first, then image blocks to be fetched, then a licence to be assigned, then how full the host is. NaN when excluded.</summary>
    public double Cost { get; init; } = double.NaN;

    /// <summary>That cost in words, or what is lacking.</summary>
    public required string Why { get; init; }

    /// <summary>Bytes of memory that are free without the server.</summary>
    public long MemoryFreeBytes { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{Host}: {Verdict}";
}

/// <summary>How many hosts a rule excludes.</summary>
/// <param name="Rule">The rule.</param>
/// <param name="Hosts">How many.</param>
public sealed record RuleCount(string Rule, int Hosts)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Hosts} by {Rule}";
}

/// <summary>A wish and the rules that cannot all hold with it. Each is needed: the others alone could hold with it.</summary>
public sealed record Conflict
{
    /// <summary>The wish.</summary>
    public required string Wish { get; init; }

    /// <summary>The rules; empty when the wish could be met and was not worth it.</summary>
    public IReadOnlyList<string> Rules { get; init; } = [];

    /// <summary>True when no set of fewer rules stands in the wish's way; false when that was not looked for to the end.</summary>
    public bool IsSmallest { get; init; }

    /// <summary>All of it in a sentence.</summary>
    public required string Summary { get; init; }

    /// <summary>How often the pool was planned anew to find them.</summary>
    public int Tries { get; init; }

    /// <inheritdoc/>
    public override string ToString() => Summary;
}
