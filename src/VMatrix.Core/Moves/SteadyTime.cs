using System;

namespace VMatrix.Moves;

/// <summary>The wall clock as one process sees it: it goes on by the monotonic clock, and tells when somebody has set the wall clock back, so that what was stamped before can follow.</summary>
internal sealed class SteadyTime(TimeProvider clock)
{
    /// <summary>Clocks that are kept in step are set back by less.</summary>
    private static readonly TimeSpan s_unnoticed = TimeSpan.FromMilliseconds(20);

    private readonly long _began = clock.GetTimestamp();
    private DateTimeOffset _start = clock.GetUtcNow();

    /// <summary>The time, in UTC.</summary>
    public DateTimeOffset Now => _start + clock.GetElapsedTime(_began);

    /// <summary>
    /// Follows the wall clock. Returns by how much it was set back since the last call (a negative time), which stamps taken before must be moved by;
    /// zero when it was not. A clock set forward makes stamps look older than they are, which is safe: they are not moved.
    /// </summary>
    public TimeSpan Follow()
    {
        var set = clock.GetUtcNow() - Now;
        _start += set;
        return set < -s_unnoticed ? set : TimeSpan.Zero;
    }
}

/// <summary>Says when something that is done every so often is due, by a clock that nobody sets.</summary>
internal sealed class Pace(TimeProvider clock, TimeSpan every)
{
    private long? _last;

    /// <summary>True before the first time, and when the time has come again.</summary>
    public bool IsDue => _last is not { } last || clock.GetElapsedTime(last) >= every;

    /// <summary>Time since it was done last; zero before the first time.</summary>
    public TimeSpan Since => _last is { } last ? clock.GetElapsedTime(last) : TimeSpan.Zero;

    /// <summary>It is done now.</summary>
    public void Done() => _last = clock.GetTimestamp();
}
