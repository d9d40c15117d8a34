using System;
using System.Collections.Generic;

namespace VMatrix;

/// <summary>What to simulate, beside the pool and the history of demand.</summary>
public sealed record SimulationOptions
{
    /// <summary>The rule that is always played: the Oracle's own.</summary>
    public const string Switching = "switching";

    /// <summary>A fixed split of the pool: the best one in hindsight.</summary>
    public const string Static = "static";

    /// <summary>An autoscaler's usual rule: 70 % use, up at once, down only to the most needed in the last five minutes, cut by priority when the pool is short.</summary>
    public const string Threshold = "threshold";

    /// <summary>Rules to play on the same demand beside the Oracle's own: <see cref="Static"/>, <see cref="Threshold"/>.</summary>
    public IReadOnlyList<string> Compare { get; init; } = [];

    /// <summary>Seed of all that is left to chance; null for the pool file's.</summary>
    public int? Seed { get; init; }

    /// <summary>Time from one switch to the next; null for the pool file's.</summary>
    public TimeSpan? Interval { get; init; }

    /// <summary>
    /// The form of the history's times: a .NET format such as <c>dd/MM/yyyy HH:mm</c>, <c>epoch-s</c> or <c>epoch-ms</c>. Null for ISO 8601, epochs, and
    /// whatever else the whole column can be read as in one way only.
    /// </summary>
    public string? TimeFormat { get; init; }

    /// <summary>The time zone of times that name none, such as <c>Europe/Berlin</c>, <c>+02:00</c> or <c>local</c>; null for UTC.</summary>
    public string? TimeZone { get; init; }

    /// <inheritdoc/>
    public override string ToString() => Compare.Count == 0 ? Switching : $"{Switching}, {string.Join(", ", Compare)}";
}

/// <summary>What a pool would have done with a history of demand, under each rule that was compared.</summary>
public sealed record SimulationResult
{
    /// <summary>The pool.</summary>
    public required string Pool { get; init; }

    /// <summary>File name of the history of demand.</summary>
    public required string Trace { get; init; }

    /// <summary>When the history begins.</summary>
    public required DateTimeOffset From { get; init; }

    /// <summary>When it ends.</summary>
    public required DateTimeOffset To { get; init; }

    /// <summary>Time from one switch to the next.</summary>
    public required TimeSpan Interval { get; init; }

    /// <summary>Seed of all that was left to chance.</summary>
    public required int Seed { get; init; }

    /// <summary>Cost of the best fixed split in hindsight, in the minute's unserved work of one server of priority 1.</summary>
    public required double StaticCost { get; init; }

    /// <summary>Cost of the cheapest schedule that knows the future and activates at once; NaN when the pool has too many splits to look at them all.</summary>
    public required double BoundCost { get; init; }

    /// <summary>What was found in the history of demand and how it was handled (missing samples, times that come twice, holes), as sentences.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];

    /// <summary>What became of each rule, the Oracle's own first.</summary>
    public required IReadOnlyList<SimulatedRule> Rules { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{Pool}, {Trace}";
}

/// <summary>What became of a pool under one rule.</summary>
public sealed record SimulatedRule
{
    /// <summary>The rule.</summary>
    public required string Rule { get; init; }

    /// <summary>Its cost: unserved work by priority, servers held, activations; in the minute's unserved work of one server of priority 1.</summary>
    public required double Cost { get; init; }

    /// <summary>The share of the possible gain that it took: 0 is the best fixed split in hindsight, 1 the cheapest schedule that knows the future; NaN when that is not known.</summary>
    public required double Closed { get; init; }

    /// <summary>Matrix hosts that were powered up on average.</summary>
    public required double MeanHosts { get; init; }

    /// <summary>What became of each service, in the pool file's order.</summary>
    public required IReadOnlyList<SimulatedService> Services { get; init; }

    /// <inheritdoc/>
    public override string ToString() => Rule;
}

/// <summary>What became of one service under one rule.</summary>
public sealed record SimulatedService
{
    /// <summary>Full path of the file of the pool that it belongs to; null where it does not come from a cmdlet.</summary>
    public string? Pool { get; init; }

    /// <summary>The rule.</summary>
    public required string Rule { get; init; }

    /// <summary>The service.</summary>
    public required string Service { get; init; }

    /// <summary>Requests that arrived.</summary>
    public required double Demand { get; init; }

    /// <summary>Requests that were served.</summary>
    public required double Served { get; init; }

    /// <summary>Requests that were turned away for overload.</summary>
    public required double Refused { get; init; }

    /// <summary>Requests that were not served: refused ones and those that failed.</summary>
    public required double Unserved { get; init; }

    /// <summary>Share of the requests that was served; 1 when none arrived.</summary>
    public double ServedShare => Demand > 0 ? 1 - (Unserved / Demand) : 1;

    /// <summary>Servers in the Matrix on average.</summary>
    public required double MeanServers { get; init; }

    /// <summary>Most servers in the Matrix.</summary>
    public required int MostServers { get; init; }

    /// <summary>Moves that were carried out for it.</summary>
    public required int Switches { get; init; }

    /// <summary>Of those, the ones that woke a server.</summary>
    public required int Wakes { get; init; }

    /// <summary>Of those, the ones that took a server away for the sake of a more important service.</summary>
    public required int Drops { get; init; }

    /// <summary>Moves that were refused or failed.</summary>
    public required int Failed { get; init; }

    /// <summary>The rule's share of the possible gain, see <see cref="SimulatedRule.Closed"/>.</summary>
    public required double Closed { get; init; }

    /// <summary>Row by row of the history.</summary>
    public required IReadOnlyList<SimulatedMinute> Minutes { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{Rule}, {Service}";
}

/// <summary>A service in one row of the history, which mostly is a minute.</summary>
public sealed record SimulatedMinute
{
    /// <summary>When the row begins.</summary>
    public required DateTimeOffset At { get; init; }

    /// <summary>Requests per second that arrived.</summary>
    public required double Demand { get; init; }

    /// <summary>Requests per second that were served.</summary>
    public required double Served { get; init; }

    /// <summary>Servers in the Matrix at its end.</summary>
    public required int Servers { get; init; }

    /// <summary>Requests per second that those can carry.</summary>
    public required double Capacity { get; init; }

    /// <summary>Moves that ended in it.</summary>
    public int Moves { get; init; }

    /// <summary>Of those, drops.</summary>
    public int Drops { get; init; }

    /// <inheritdoc/>
    public override string ToString() => FormattableString.Invariant($"{Demand:0.##} of {Capacity:0.##} requests per second");
}
