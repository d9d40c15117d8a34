using System;

namespace VMatrix.Planning;

/// <summary>What failed moves are counted by.</summary>
public enum FailureScope
{
    /// <summary>One server: its next move waits, and another server goes first.</summary>
    Server,

    /// <summary>A service: nothing of it is woken, because what failed would fail for each of its servers.</summary>
    Service,

    /// <summary>Making new servers of a service: those that sleep may still be woken.</summary>
    Creation,

    /// <summary>A host, for the servers of one service: other hosts go first.</summary>
    Host,

    /// <summary>The power of a host.</summary>
    Power,
}

/// <summary>Moves that failed one after another for one cause, with no success since.</summary>
public sealed record MoveFailure
{
    private static readonly TimeSpan s_first = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan s_firstRefusal = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan s_longest = TimeSpan.FromHours(1);

    /// <summary>What it is counted by.</summary>
    public required FailureScope Scope { get; init; }

    /// <summary>The kind of move.</summary>
    public MoveKind Kind { get; init; }

    /// <summary>What was done with the host's power, for <see cref="FailureScope.Power"/>.</summary>
    public HostActionKind HostAction { get; init; }

    /// <summary>The server of the last failure.</summary>
    public Guid Server { get; init; }

    /// <summary>The generation that the server had: once it has another one, what failed says nothing of it any more.</summary>
    public int Generation { get; init; }

    /// <summary>The service; empty for <see cref="FailureScope.Power"/>.</summary>
    public string Service { get; init; } = "";

    /// <summary>The host that the last failed move went to; null for none.</summary>
    public string? Host { get; init; }

    /// <summary>Stable id of the error, such as <c>HealthCheckFailed</c>.</summary>
    public required string Cause { get; init; }

    /// <summary>How many times it failed.</summary>
    public required int Times { get; init; }

    /// <summary>When it failed last.</summary>
    public required DateTimeOffset LastAt { get; init; }

    /// <summary>What the last one told.</summary>
    public required string Error { get; init; }

    /// <summary>True when the last one was refused before anything was changed, which cost nothing: what stood in its way may be gone soon.</summary>
    public bool IsRefusal { get; init; }

    /// <summary>How long nothing is tried again: a minute after the first failure (five seconds after a refusal), and twice as long after each one more, up to an hour.</summary>
    public TimeSpan Wait
    {
        get
        {
            var first = IsRefusal ? s_firstRefusal : s_first;
            const int Most = 16;
            var wait = TimeSpan.FromTicks(first.Ticks << Math.Min(Most, Math.Max(1, Times) - 1));
            return wait < s_longest ? wait : s_longest;
        }
    }

    /// <summary>When it is tried again. A failure that a wrong clock dates later than now counts as one of now.</summary>
    /// <param name="now">The moment of planning.</param>
    public DateTimeOffset RetryAt(DateTimeOffset now) => (LastAt < now ? LastAt : now) + Wait;

    /// <summary>True while nothing is tried again.</summary>
    /// <param name="now">The moment of planning.</param>
    public bool Waits(DateTimeOffset now) => RetryAt(now) > now;

    /// <summary>The failure as a sentence without a full stop.</summary>
    /// <param name="now">The moment of planning.</param>
    public string Describe(DateTimeOffset now)
    {
        string what = Scope is FailureScope.Power ? $"{(HostAction is HostActionKind.Wake ? "waking" : "powering down")} {Host}" : Scope is FailureScope.Server ? $"its {Kind}" : $"the {Kind} of its servers";
        return Words.Text($"{what} failed {(Times == 1 ? "once" : Words.Text($"{Times} times"))}, the last time at {LastAt:u}: {Short(Error)}; it is tried again from {RetryAt(now):u} on");
    }

    private static string Short(string error)
    {
        const int Most = 240;
        string line = error.Split('\n')[0].Trim().TrimEnd('.');
        return line.Length <= Most ? line : line.Remove(Most) + "...";
    }
}
