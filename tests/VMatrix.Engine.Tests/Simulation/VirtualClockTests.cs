using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Simulation;
using Xunit;

namespace VMatrix.Tests.Simulation;

public sealed class VirtualClockTests
{
    [Fact]
    public void Weeks_pass_while_nobody_waits_for_them()
    {
        var clock = new VirtualClock();
        var start = clock.GetUtcNow();
        var seen = clock.Run(async () =>
        {
            await Task.Delay(TimeSpan.FromDays(21), clock);
            return clock.GetUtcNow();
        });
        Assert.Equal(start + TimeSpan.FromDays(21), seen);
    }

    [Fact]
    public void Things_happen_in_the_order_of_their_time_on_one_thread()
    {
        var clock = new VirtualClock();
        var order = new List<string>();
        var threads = new HashSet<int>();
        clock.Run(() => Task.WhenAll(Enumerable.Range(0, 5).Select(async worker =>
        {
            for (var i = 1; i <= 3; i++)
            {
                await Task.Delay(TimeSpan.FromSeconds(10 - worker), clock);
                order.Add($"{worker}:{i}");
                threads.Add(Environment.CurrentManagedThreadId);
            }
        })));
        Assert.Equal(["4:1", "3:1", "2:1", "1:1", "0:1", "4:2", "3:2", "2:2", "1:2", "4:3", "0:2", "3:3", "2:3", "1:3", "0:3"], order);
        Assert.Single(threads);
    }

    [Fact]
    public void Semaphores_timeouts_and_cancellation_stay_on_it()
    {
        var clock = new VirtualClock();
        clock.Run(async () =>
        {
            var thread = Environment.CurrentManagedThreadId;
            using var gate = new SemaphoreSlim(0);
            var waiting = gate.WaitAsync();
            using var deadline = new CancellationTokenSource(TimeSpan.FromMinutes(1), clock);
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(TimeSpan.FromHours(1), clock, deadline.Token));
            Assert.Equal(TimeSpan.FromMinutes(1), clock.Elapsed);
            gate.Release();
            await waiting;
            Assert.Equal(thread, Environment.CurrentManagedThreadId);
        });
    }

    [Fact]
    public void A_jump_changes_the_time_of_day_and_no_timer()
    {
        var clock = new VirtualClock();
        var start = clock.GetUtcNow();
        clock.Run(async () =>
        {
            var wait = Task.Delay(TimeSpan.FromSeconds(5), clock);
            clock.Jump(TimeSpan.FromHours(-3));
            await wait;
        });
        Assert.Equal(start - TimeSpan.FromHours(3) + TimeSpan.FromSeconds(5), clock.GetUtcNow());
        Assert.Equal(TimeSpan.FromSeconds(5), clock.Elapsed);
    }

    [Fact]
    public void What_is_killed_never_goes_on()
    {
        var clock = new VirtualClock();
        var steps = 0;
        var tidied = false;
        var ended = clock.RunUnlessKilled(
            async () =>
            {
                try
                {
                    while (true)
                    {
                        await Task.Delay(TimeSpan.FromSeconds(1), clock);
                        steps++;
                    }
                }
                finally
                {
                    tidied = true;
                }
            },
            () => steps == 3);
        Assert.False(ended);
        clock.Run(() => Task.Delay(TimeSpan.FromHours(1), clock));
        Assert.Equal((3, false), (steps, tidied));
        Assert.True(clock.RunUnlessKilled(() => Task.Delay(TimeSpan.FromSeconds(1), clock), () => false));
    }
}
