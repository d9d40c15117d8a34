using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Tests.Moves;

/// <summary>A clock that stands still while there is work and jumps to the next timer when there is none, on one thread.</summary>
internal sealed class VirtualTime : TimeProvider
{
    private readonly PriorityQueue<VirtualTimer, (long Due, long Order)> _timers = new();
    private readonly Queue<(SendOrPostCallback Callback, object? State)> _work = new();
    private DateTimeOffset _start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);
    private long _now;
    private long _order;

    public TimeSpan Elapsed => new(_now);

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override DateTimeOffset GetUtcNow() => _start.AddTicks(_now);

    public override long GetTimestamp() => _now;

    /// <summary>Sets the wall clock forward or back; the monotonic one goes on.</summary>
    public void JumpWallClock(TimeSpan by) => _start += by;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => new VirtualTimer(this, callback, state, dueTime);

    public void Run(Func<Task> body)
    {
        var before = SynchronizationContext.Current;
        SynchronizationContext.SetSynchronizationContext(new Context(this));
        try
        {
            var task = body();
            while (!task.IsCompleted)
            {
                if (_work.TryDequeue(out var work))
                    work.Callback(work.State);
                else if (_timers.TryDequeue(out var timer, out var key))
                {
                    if (!timer.IsDue(key.Order))
                        continue;
                    _now = Math.Max(_now, key.Due);
                    timer.Fire();
                }
                else
                    throw new InvalidOperationException("Nothing is left to do and the test has not ended: somebody left the virtual clock.");
            }
            task.GetAwaiter().GetResult();
        }
        finally
        {
            SynchronizationContext.SetSynchronizationContext(before);
        }
    }

    private sealed class Context(VirtualTime time) : SynchronizationContext
    {
        private readonly int _thread = Environment.CurrentManagedThreadId;

        public override void Post(SendOrPostCallback d, object? state)
        {
            if (Environment.CurrentManagedThreadId != _thread)
                throw new InvalidOperationException("Work came from another thread.");
            time._work.Enqueue((d, state));
        }

        public override SynchronizationContext CreateCopy() => this;
    }

    private sealed class VirtualTimer : ITimer
    {
        private readonly VirtualTime _time;
        private readonly TimerCallback _callback;
        private readonly object? _state;
        private long _order;

        public VirtualTimer(VirtualTime time, TimerCallback callback, object? state, TimeSpan due)
        {
            (_time, _callback, _state) = (time, callback, state);
            Change(due, Timeout.InfiniteTimeSpan);
        }

        public bool IsDue(long order) => _order == order;

        public void Fire() => _callback(_state);

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            _order = ++_time._order;
            if (dueTime != Timeout.InfiniteTimeSpan)
                _time._timers.Enqueue(this, (_time._now + dueTime.Ticks, _order));
            return true;
        }

        public void Dispose() => _order = -1;

        public ValueTask DisposeAsync()
        {
            Dispose();
            return default;
        }
    }
}
