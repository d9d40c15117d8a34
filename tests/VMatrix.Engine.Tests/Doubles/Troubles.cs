using System;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Drivers;
using Xunit;

namespace VMatrix.Tests.Doubles;

/// <summary>A server's way out of the nest, through two hosts and back, which no trouble may end elsewhere.</summary>
internal static class Troubles
{
    /// <param name="world">The world, with two hosts at least.</param>
    /// <param name="driver">The driver.</param>
    /// <param name="server">A server in the nest.</param>
    /// <param name="service">Its service.</param>
    /// <param name="retry">Makes each call; once, unless said.</param>
    public static async Task ThereAndBackAsync(DoubledWorld world, IHypervisor driver, Guid server, ServiceSpec service, Func<Func<Task>, Task>? retry = null)
    {
        retry ??= call => call();
        var (here, there) = (world.Pool.Hosts[0], world.Pool.Hosts[1]);
        await retry(() => driver.FetchAsync(default, server, here, default));
        await retry(() => driver.StartAsync(default, server, service, here, default));
        await retry(() => driver.MigrateAsync(default, server, service, here, there, default));
        await retry(() => driver.SaveAsync(default, server, there, default));
        await retry(() => driver.CarryAsync(default, server, there, here, default));
        await retry(() => driver.StartAsync(default, server, service, here, default));
        await retry(() => driver.SaveAsync(default, server, here, default));
        await retry(() => driver.StowAsync(default, server, here, default));
        world.World.Configure(settings => settings with { FailureRate = 0 });
        Assert.Equal((server, PowerState.Saved), (await driver.ReadNestAsync(default)).Dormant.Select(machine => (machine.Mark!.ServerId, machine.Power)).Single());
        Assert.Empty(world.World.Violations);
    }

    /// <summary>The same while calls fail at random and each is tried until it is done.</summary>
    /// <param name="world">The world, with two hosts at least.</param>
    /// <param name="driver">The driver.</param>
    /// <param name="server">A server in the nest.</param>
    /// <param name="service">Its service.</param>
    /// <param name="seed">The failures' seed.</param>
    /// <param name="rate">Share of commands that fail.</param>
    /// <param name="milliseconds">What each command takes.</param>
    public static async Task ThereAndBackWithFailuresAsync(DoubledWorld world, IHypervisor driver, Guid server, ServiceSpec service, int seed, double rate, int milliseconds)
    {
        world.World.Configure(settings => settings with { FailureRate = rate, Seed = seed, CallLatency = TimeSpan.FromMilliseconds(milliseconds) });
        var failures = 0;
        await ThereAndBackAsync(world, driver, server, service, async call =>
        {
            for (var left = 200; ; left--)
            {
                try
                {
                    await call();
                    return;
                }
                catch (VMatrixException error) when (error.IsTransient && left > 0)
                {
                    failures++;
                }
            }
        });
        Assert.True(failures > 0, "nothing failed");
    }
}
