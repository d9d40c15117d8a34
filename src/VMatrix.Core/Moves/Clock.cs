using System;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Moves;

/// <summary>Waiting on an injected clock, the same on both frameworks.</summary>
internal static class Clock
{
    public static Task WaitAsync(this TimeProvider clock, TimeSpan time, CancellationToken cancellation) =>
#if NET
        Task.Delay(time, clock, cancellation);
#else
        clock.Delay(time, cancellation);
#endif

    public static CancellationTokenSource Deadline(this TimeProvider clock, TimeSpan time) =>
#if NET
        new(time, clock);
#else
        clock.CreateCancellationTokenSource(time);
#endif
}
