using System;
using System.Collections.Generic;

namespace VMatrix;

/// <summary>What a move does.</summary>
public enum MoveKind
{
    /// <summary>Makes a new dormant server in the nest from its service's image.</summary>
    Create,

    /// <summary>Nest to Chamber or Matrix.</summary>
    Wake,

    /// <summary>Chamber or Matrix to Nest.</summary>
    Hibernate,

    /// <summary>To another host, to the other running stage, or both.</summary>
    Relocate,

    /// <summary>Takes a server out of use.</summary>
    Dispose,

    /// <summary>Brings a disposed server back to the nest.</summary>
    Undo,

    /// <summary>Deletes a disposed server for good.</summary>
    Purge,

    /// <summary>Makes a new image version from a server in the Chamber, which stays where it is.</summary>
    Publish,

    /// <summary>Takes a machine that was not ours into a service: it gets a mark and a place in the balancer, and is otherwise left as it is.</summary>
    Register,

    /// <summary>Lets a server go: it leaves the balancer and loses its mark, and its machine is otherwise left as it is.</summary>
    Unregister,
}

/// <summary>How far a move has come.</summary>
public enum MoveStatus
{
    /// <summary>Not begun.</summary>
    Pending,

    /// <summary>Being carried out.</summary>
    Running,

    /// <summary>Cut short; to be finished or undone.</summary>
    Interrupted,

    /// <summary>Carried out.</summary>
    Done,

    /// <summary>Its effects were taken back.</summary>
    Undone,

    /// <summary>Refused before anything was changed: a precondition no longer held.</summary>
    Refused,

    /// <summary>It failed and could not be taken back by itself; the error says what to do.</summary>
    Failed,

    /// <summary>Stopped before it began; nothing was changed.</summary>
    Cancelled,
}

/// <summary>One change of one server, wished for: what a plan holds and a mover carries out.</summary>
public sealed record Move
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>The move's id.</summary>
    public required Guid Id { get; init; }

    /// <summary>What it does.</summary>
    public required MoveKind Kind { get; init; }

    /// <summary>The server. For <see cref="MoveKind.Create"/> the id that the new server will have.</summary>
    public required Guid ServerId { get; init; }

    /// <summary>The server's name.</summary>
    public required string ServerName { get; init; }

    /// <summary>Its service.</summary>
    public required string Service { get; init; }

    /// <summary>The stage it must be in before (precondition).</summary>
    public required Stage FromStage { get; init; }

    /// <summary>The host it must be on before (precondition); null in the nest.</summary>
    public string? FromHost { get; init; }

    /// <summary>The generation it must have before (precondition).</summary>
    public int Generation { get; init; }

    /// <summary>The hypervisor's own id of the machine that <see cref="MoveKind.Register"/> takes and <see cref="MoveKind.Unregister"/> lets go; null for other moves.</summary>
    public string? MachineId { get; init; }

    /// <summary>The stage it will be in.</summary>
    public required Stage ToStage { get; init; }

    /// <summary>The host it will be on; null in the nest.</summary>
    public string? ToHost { get; init; }

    /// <summary>True for a move that takes a server away from a service that still has load, for a more important one.</summary>
    public bool IsDrop { get; init; }

    /// <summary>True to move the running machine without stopping it, where the driver can.</summary>
    public bool Live { get; init; }

    /// <summary>Why, in words and numbers.</summary>
    public required string Reason { get; init; }

    /// <summary>Moves of the same plan that must be done before this one; it is refused with them.</summary>
    public IReadOnlyList<Guid> DependsOn { get; init; } = [];

    /// <inheritdoc/>
    public override string ToString() => $"{(IsDrop ? "Drop" : Kind.ToString())} {ServerName}, {Place(FromStage, FromHost)} -> {Place(ToStage, ToHost)}";

    private static string Place(Stage stage, string? host) => host is null ? $"{stage}" : $"{stage} on {host}";
}

/// <summary>A move that was considered and not made.</summary>
/// <param name="What">What was considered, such as <c>wake FINANCE on host2</c>.</param>
/// <param name="Reason">Why not, in words and numbers.</param>
public sealed record RefusedMove(string What, string Reason)
{
    /// <inheritdoc/>
    public override string ToString() => $"{What}: {Reason}";
}

/// <summary>What the Oracle decided for one service, and why.</summary>
public sealed record ServiceDecision
{
    /// <summary>The service.</summary>
    public required string Service { get; init; }

    /// <summary>Requests per second now; NaN when the sample was bad.</summary>
    public double Rate { get; init; }

    /// <summary>Requests waiting now.</summary>
    public int Queue { get; init; }

    /// <summary>Requests per second expected when a server woken now would serve.</summary>
    public double Forecast { get; init; }

    /// <summary>Requests per second that one server carries.</summary>
    public double Capacity { get; init; }

    /// <summary>Servers it holds in the Matrix.</summary>
    public int Has { get; init; }

    /// <summary>Servers it needs.</summary>
    public int Needs { get; init; }

    /// <summary>Servers it is granted.</summary>
    public int Granted { get; init; }

    /// <summary>Servers that it would be granted if the Oracle might act; null where it may. In <see cref="OracleMode.Shadow"/> a service is granted what it has.</summary>
    public int? Wanted { get; init; }

    /// <summary>Why, in words and numbers.</summary>
    public required string Reason { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{Service}: has {Has}, needs {Needs}, gets {Granted}";
}

/// <summary>What is done with the power of a host.</summary>
public enum HostActionKind
{
    /// <summary>Powers an idle host down.</summary>
    PowerDown,

    /// <summary>Powers a host up that was powered down.</summary>
    Wake,
}

/// <summary>A host to be powered down or woken, and why: part of a plan, carried out beside its moves.</summary>
public sealed record HostAction
{
    /// <summary>The action's id.</summary>
    public required Guid Id { get; init; }

    /// <summary>What it does.</summary>
    public required HostActionKind Kind { get; init; }

    /// <summary>The host.</summary>
    public required string Host { get; init; }

    /// <summary>Why, in words and numbers.</summary>
    public required string Reason { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{Kind} {Host}";
}

/// <summary>What became of a host's action.</summary>
public sealed record HostActionRecord
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>The action.</summary>
    public required HostAction Action { get; init; }

    /// <summary>The plan it belongs to.</summary>
    public Guid? PlanId { get; init; }

    /// <summary>How far it has come.</summary>
    public required MoveStatus Status { get; init; }

    /// <summary>Who carries it out, as <c>name (process N of USER on MACHINE)</c>.</summary>
    public required string By { get; init; }

    /// <summary>When it began.</summary>
    public required DateTimeOffset StartedAt { get; init; }

    /// <summary>When it ended; null while it is open.</summary>
    public DateTimeOffset? EndedAt { get; init; }

    /// <summary>What went wrong; null when nothing did.</summary>
    public string? Error { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{Action}: {Status}";
}

/// <summary>A setting of the pool file that a plan cannot meet, or that has no effect.</summary>
/// <param name="Setting">The setting as the pool file names it, such as <c>oracle.balanceGap</c> or <c>priority of FINANCE</c>.</param>
/// <param name="Why">What it asks for, what there is instead, and why, in words and numbers.</param>
public sealed record UnmetSetting(string Setting, string Why)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Setting}: {Why}";
}

/// <summary>An ordered list of moves, each with its reason, and what was refused. A value: carried out exactly as it is, by its id.</summary>
public sealed record Plan
{
    /// <summary>The plan's id.</summary>
    public required Guid Id { get; init; }

    /// <summary>The pool: its name in a plan that is stored, the full path of its file in one that a cmdlet returns, as with every object of a pool.</summary>
    public required string Pool { get; init; }

    /// <summary>When it was made.</summary>
    public required DateTimeOffset CreatedAt { get; init; }

    /// <summary>Not carried out after this.</summary>
    public required DateTimeOffset ExpiresAt { get; init; }

    /// <summary>The moves, in order.</summary>
    public required IReadOnlyList<Move> Moves { get; init; }

    /// <summary>Hosts to be powered down or woken beside the moves; none of the moves waits for them.</summary>
    public IReadOnlyList<HostAction> Hosts { get; init; } = [];

    /// <summary>What was considered and refused.</summary>
    public IReadOnlyList<RefusedMove> Refused { get; init; } = [];

    /// <summary>The decision for each service.</summary>
    public IReadOnlyList<ServiceDecision> Decisions { get; init; } = [];

    /// <summary>Settings that are not met when the plan is carried out, or that have no effect, each with why.</summary>
    public IReadOnlyList<UnmetSetting> Unmet { get; init; } = [];

    /// <summary>Share of the servers in the Matrix that have a good load sample, from 0 to 1; 1 where there are none.</summary>
    public double SampleCoverage { get; init; } = 1;

    /// <summary>The plan in one sentence; says why when there is nothing to do.</summary>
    public required string Summary { get; init; }

    /// <summary>SHA-256 of the plan's content, in hexadecimal; set when the plan is stored.</summary>
    public string? Hash { get; init; }

    /// <inheritdoc/>
    public override string ToString() => Summary;
}

/// <summary>What became of a move, for <c>Get-VMatrixMove</c>.</summary>
public sealed record MoveRecord
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>The move.</summary>
    public required Move Move { get; init; }

    /// <summary>The move's id.</summary>
    public Guid Id => Move.Id;

    /// <summary>The plan it belongs to; null when it was made by hand.</summary>
    public Guid? PlanId { get; init; }

    /// <summary>How far it has come.</summary>
    public required MoveStatus Status { get; init; }

    /// <summary>The step it is in, or ended in.</summary>
    public string? Step { get; init; }

    /// <summary>Who carries it out, as <c>name (process N of USER on MACHINE)</c>.</summary>
    public required string By { get; init; }

    /// <summary>When it began.</summary>
    public required DateTimeOffset StartedAt { get; init; }

    /// <summary>When it ended; null while it is open.</summary>
    public DateTimeOffset? EndedAt { get; init; }

    /// <summary>Time from begin to end; null while it is open.</summary>
    public TimeSpan? Duration => EndedAt - StartedAt;

    /// <summary>Stable PascalCase id of the error that ended it, such as <c>HealthCheckFailed</c>; null when nothing went wrong, and where it is not known any more.</summary>
    public string? ErrorId { get; init; }

    /// <summary>Bytes that a wake read or copied: kept memory, and a disk that was brought to the host. Null for other moves, and where the driver cannot tell.</summary>
    public long? Bytes { get; init; }

    /// <summary>What went wrong and how to mend it; null when nothing did.</summary>
    public string? Error { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{Move}: {Status}";
}
