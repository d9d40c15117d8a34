using System;
using System.Collections.Generic;

namespace VMatrix;

/// <summary>How far a stored plan has come.</summary>
public enum PlanStatus
{
    /// <summary>Made, and may be carried out until it expires.</summary>
    Ready,

    /// <summary>It has moves that wait for <c>Approve-VMatrixPlan</c>.</summary>
    Waiting,

    /// <summary>Approved; a decider begins it soon.</summary>
    Approved,

    /// <summary>Its moves are under way.</summary>
    Begun,

    /// <summary>All its moves were carried out.</summary>
    Done,

    /// <summary>Its moves have ended and some were not done; <c>Get-VMatrixPlan | Get-VMatrixMove</c> shows which and why.</summary>
    PartlyDone,

    /// <summary>It waited, and another plan was approved: what it was made from is no longer so.</summary>
    Superseded,

    /// <summary>Not begun in time; it is never carried out.</summary>
    Expired,
}

/// <summary>A stored plan and what became of it, for <c>Get-VMatrixPlan</c>.</summary>
public sealed record PlanRecord
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>The plan.</summary>
    public required Plan Plan { get; init; }

    /// <summary>The plan's id.</summary>
    public Guid Id => Plan.Id;

    /// <summary>How far it has come.</summary>
    public required PlanStatus Status { get; init; }

    /// <summary>Who made it, as <c>name (process N of USER on MACHINE)</c>; null when nobody wrote it down.</summary>
    public string? By { get; init; }

    /// <summary>Who approved it, and when; null when nobody did.</summary>
    public string? ApprovedBy { get; init; }

    /// <summary>Why it can no longer be approved; null when it can, or need not.</summary>
    public string? Superseded { get; init; }

    /// <summary>When its moves were begun; null when they were not.</summary>
    public DateTimeOffset? BegunAt { get; init; }

    /// <summary>When its moves had all ended; null while they have not.</summary>
    public DateTimeOffset? EndedAt { get; init; }

    /// <summary>True when what it was made from is stored too, so that it can be explained.</summary>
    public bool Explainable { get; init; }

    /// <summary>When it was made.</summary>
    public DateTimeOffset CreatedAt => Plan.CreatedAt;

    /// <summary>Not begun after this.</summary>
    public DateTimeOffset ExpiresAt => Plan.ExpiresAt;

    /// <summary>SHA-256 of the plan's content, in hexadecimal.</summary>
    public string? Hash => Plan.Hash;

    /// <summary>The plan in one sentence.</summary>
    public string Summary => Plan.Summary;

    /// <summary>The moves, in order.</summary>
    public IReadOnlyList<Move> Moves => Plan.Moves;

    /// <summary>Settings that the plan leaves unmet, or that have no effect, each with why.</summary>
    public IReadOnlyList<UnmetSetting> Unmet => Plan.Unmet;

    /// <summary>Share of the servers in the Matrix that had a good load sample, from 0 to 1.</summary>
    public double SampleCoverage => Plan.SampleCoverage;

    /// <summary>The ids of the moves, and of the actions with hosts, that wait, or waited, for an approval.</summary>
    public IReadOnlyList<Guid> Waiting { get; init; } = [];

    /// <inheritdoc/>
    public override string ToString() => $"{Id}: {Status}";
}

/// <summary>How the Oracle would have done with a service that it only shadows, beside what was done. Costs are in the minute's unserved work of one server of priority 1.</summary>
public sealed record ShadowScore
{
    /// <summary>The service.</summary>
    public required string Service { get; init; }

    /// <summary>When scoring began.</summary>
    public required DateTimeOffset Since { get; init; }

    /// <summary>Minutes that were scored: those with good samples of a service whose capacity is known.</summary>
    public double Minutes { get; init; }

    /// <summary>Requests that what was done left unserved, by demand and capacity.</summary>
    public double Unserved { get; init; }

    /// <summary>Requests that the Oracle's counts would have left unserved.</summary>
    public double OracleUnserved { get; init; }

    /// <summary>Minutes of servers that were held.</summary>
    public double ServerMinutes { get; init; }

    /// <summary>Minutes of servers that the Oracle would have held.</summary>
    public double OracleServerMinutes { get; init; }

    /// <summary>Servers that came into the Matrix.</summary>
    public int Activations { get; init; }

    /// <summary>Servers that the Oracle would have woken.</summary>
    public int OracleActivations { get; init; }

    /// <summary>What it all cost: unserved work by the service's priority, servers held, activations.</summary>
    public double Cost { get; init; }

    /// <summary>What the Oracle's counts would have cost.</summary>
    public double OracleCost { get; init; }

    /// <inheritdoc/>
    public override string ToString() => Service;
}
