using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Simulation;

/// <summary>
/// A clock that stands still while code runs and jumps to the next timer when all of it waits: weeks pass in seconds, and the same
/// seed gives the same run. Everything that happens inside <see cref="Run{T}"/> happens on the calling thread, one after another;
/// it holds as long as nothing inside leaves its context (<c>Task.Run</c>, <c>ConfigureAwait(false)</c>).
/// </summary>
public sealed class VirtualClock : TimeProvider
{
    private const int MostAtOnce = 10_000_000;

    private readonly SortedDictionary<(long Due, long Number), VirtualTimer> _timers = [];
    private readonly Queue<(SendOrPostCallback Callback, object? State)> _queue = new();
    private readonly DateTimeOffset _start;
    private long _elapsed;
    private TimeSpan _jumped;
    private long _number;

    /// <summary>Makes a clock that shows <paramref name="start"/>.</summary>
    public VirtualClock(DateTimeOffset start) => _start = start;

    /// <summary>Makes a clock that shows midnight of Monday, 5 January 2026, UTC.</summary>
    public VirtualClock()
        : this(new DateTimeOffset(2026, 1, 5, 0, 0, 0, TimeSpan.Zero))
    {
    }

    /// <summary>Time that went by since the clock was made, jumps not included.</summary>
    public TimeSpan Elapsed => TimeSpan.FromTicks(_elapsed);

    /// <inheritdoc/>
    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    /// <inheritdoc/>
    public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

    /// <inheritdoc/>
    public override DateTimeOffset GetUtcNow() => _start + TimeSpan.FromTicks(_elapsed) + _jumped;

    /// <inheritdoc/>
    public override long GetTimestamp() => _elapsed;

    /// <summary>Sets the time of day forward or back, as a wrong clock does that is put right; timers go on as they were.</summary>
    public void Jump(TimeSpan by) => _jumped += by;

    /// <inheritdoc/>
    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new VirtualTimer(this, callback, state);
        timer.Change(dueTime, period);
        return timer;
    }

    /// <summary>Runs <paramref name="body"/> to its end on this thread, letting virtual time pass whenever all of it waits.</summary>
    /// <exception cref="InvalidOperationException">Nothing that could wake it came within half a minute of real time: it waits for ever.</exception>
    public T Run<T>(Func<Task<T>> body)
    {
        var before = SynchronizationContext.Current;
        SynchronizationContext.SetSynchronizationContext(new Context(this));
        try
        {
            var task = body();
            Pump(task);
            return task.GetAwaiter().GetResult();
        }
        finally
        {
            SynchronizationContext.SetSynchronizationContext(before);
        }
    }

    /// <summary>
    /// Runs <paramref name="body"/> until it ends or <paramref name="killed"/> says so, which is asked before each thing that happens. What is
    /// killed stops where it is for ever, as a killed process does: no finally block of it runs, and its timers are gone.
    /// </summary>
    /// <returns>True when it came to its end.</returns>
    public bool RunUnlessKilled(Func<Task> body, Func<bool> killed)
    {
        var before = SynchronizationContext.Current;
        SynchronizationContext.SetSynchronizationContext(new Context(this));
        try
        {
            var task = body();
            if (!Pump(task, killed))
                return false;
            task.GetAwaiter().GetResult();
            return true;
        }
        finally
        {
            // With its process gone nothing of it can happen any more.
            lock (_queue)
                _queue.Clear();
            lock (_timers)
                _timers.Clear();
            SynchronizationContext.SetSynchronizationContext(before);
        }
    }

    /// <summary>Runs <paramref name="body"/> to its end on this thread, letting virtual time pass whenever all of it waits.</summary>
    /// <exception cref="InvalidOperationException">Nothing that could wake it came within half a minute of real time: it waits for ever.</exception>
    public void Run(Func<Task> body) => Run(async () =>
    {
        await body();
        return true;
    });

    private bool Pump(Task task, Func<bool>? killed = null)
    {
        var (moment, happened) = (_elapsed, 0);
        while (!task.IsCompleted)
        {
            if (killed?.Invoke() == true)
                return false;
            (moment, happened) = moment == _elapsed ? (moment, happened + 1) : (_elapsed, 0);
            if (happened > MostAtOnce)
                throw new InvalidOperationException($"More than {MostAtOnce} things happened at virtual time {GetUtcNow():O}: the simulated work goes round in a circle.");
            (SendOrPostCallback Callback, object? State) work = default;
            lock (_queue)
            {
                if (_queue.Count > 0)
                    work = _queue.Dequeue();
            }

            if (work.Callback is { } callback)
                callback(work.State);
            else if (!FireNext())
                WaitForOthers(task);
        }

        return true;
    }

    private bool FireNext()
    {
        VirtualTimer timer;
        lock (_timers)
        {
            using var first = _timers.GetEnumerator();
            if (!first.MoveNext())
                return false;
            timer = first.Current.Value;
            _elapsed = Math.Max(_elapsed, first.Current.Key.Due);
            timer.Unschedule();
        }

        timer.Fire();
        return true;
    }

    // Only what was handed to another thread against the rules can still come.
    private void WaitForOthers(Task task)
    {
        lock (_queue)
        {
            var waited = Stopwatch.StartNew();
            while (_queue.Count == 0 && !task.IsCompleted)
            {
                Monitor.Wait(_queue, 10);
                if (waited.Elapsed > TimeSpan.FromSeconds(30))
                    throw new InvalidOperationException($"Nothing is left that could happen at virtual time {GetUtcNow():O}: the simulated work waits for ever.");
            }
        }
    }

    private void Post(SendOrPostCallback callback, object? state)
    {
        lock (_queue)
        {
            _queue.Enqueue((callback, state));
            Monitor.Pulse(_queue);
        }
    }

    private sealed class Context(VirtualClock clock) : SynchronizationContext
    {
        public override void Post(SendOrPostCallback d, object? state) => clock.Post(d, state);

        public override void Send(SendOrPostCallback d, object? state) => throw new NotSupportedException("A simulated run has one thread: post, never send.");

        public override SynchronizationContext CreateCopy() => this;
    }

    private sealed class VirtualTimer(VirtualClock clock, TimerCallback callback, object? state) : ITimer
    {
        private (long Due, long Number)? _key;
        private TimeSpan _period = Timeout.InfiniteTimeSpan;

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            lock (clock._timers)
            {
                Unschedule();
                _period = period;
                if (dueTime != Timeout.InfiniteTimeSpan)
                    Schedule(dueTime);
            }

            return true;
        }

        public void Fire()
        {
            lock (clock._timers)
            {
                if (_key is null && _period > TimeSpan.Zero)
                    Schedule(_period);
            }

            callback(state);
        }

        public void Unschedule()
        {
            if (_key is { } key)
                clock._timers.Remove(key);
            _key = null;
        }

        public void Dispose()
        {
            lock (clock._timers)
            {
                Unschedule();
                _period = Timeout.InfiniteTimeSpan;
            }
        }

        public ValueTask DisposeAsync()
        {
            Dispose();
            return default;
        }

        private void Schedule(TimeSpan dueTime)
        {
            _key = (clock._elapsed + dueTime.Ticks, clock._number++);
            clock._timers.Add(_key.Value, this);
        }
    }
}

/// <summary>Waiting by an injected clock, the same on both frameworks.</summary>
internal static class ClockWait
{
    public static Task DelayAsync(this TimeProvider clock, TimeSpan time, CancellationToken cancellation)
    {
        if (time <= TimeSpan.Zero)
        {
            cancellation.ThrowIfCancellationRequested();
            return Task.CompletedTask;
        }

#if NET
        return Task.Delay(time, clock, cancellation);
#else
        return clock.Delay(time, cancellation);
#endif
    }
}
