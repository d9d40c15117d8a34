using System;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;
using VMatrix.Simulation;
using Xunit;

namespace VMatrix.Tests;

/// <summary>When the resident decider cuts a host's power, and when it does not.</summary>
public sealed class FenceTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-fence-").FullName;

    private string Pool => Path.Combine(_folder, "pool.yaml");

    private string Fenced => Path.Combine(_folder, "fenced");

    public FenceTests()
    {
        string script = Path.Combine(_folder, "fence.sh");
        File.WriteAllText(script, $"#!/bin/sh\necho \"$VMATRIX_HOST\" >> '{Fenced}'\n");
        if (!OperatingSystem.IsWindows())
            File.SetUnixFileMode(script, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        File.WriteAllText(Pool, """
            pool: fence
            hypervisor: simulation
            hosts:
              - { name: host1, memory: 1 GiB, fence: fence.sh }
              - { name: host2, memory: 1 GiB, fence: fence.sh }
            services:
              - { name: FINANCE, least: 1, most: 3, capacity: 10/s, image: { memory: 256 MiB } }
            balancer: { kind: simulation }
            oracle: { interval: 100ms }
            limits: { readTimeout: 1s }
            simulation: { seed: 1, bootTime: 20ms, wakeTime: 5ms }
            """);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [SkippableFact]
    public async Task A_suspended_host_with_nothing_on_it_is_not_fenced_and_its_suspension_stays_the_operators()
    {
        if (!OperatingSystem.IsLinux())
            throw new SkipException("need Linux");
        await using var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        var until = DateTimeOffset.UtcNow.AddHours(4);
        await session.SuspendHostAsync("host2", false, until, CancellationToken.None);
        using var state = StateFolder.Open(session.Spec.StateFolder, create: false);
        var before = Assert.Single(state.Overrides.ReadHosts(DateTimeOffset.UtcNow));
        SimulatedWorld.Open(session.Spec, TimeProvider.System).SetHost("host2", HostCondition.Dead);

        int plans = 0;
        using var stop = new CancellationTokenSource();
        var running = session.RunAsync("test", null, _ => Interlocked.Increment(ref plans), null, stop.Token);
        for (int i = 0; i < 1200 && Volatile.Read(ref plans) < 10 && !running.IsCompleted; i++)
            await Task.Delay(50);
        await stop.CancelAsync();
        await running;

        Assert.True(plans >= 10, $"{plans} plans");
        Assert.False(File.Exists(Fenced), "the fence script was run");
        Assert.Equal(before, Assert.Single(state.Overrides.ReadHosts(DateTimeOffset.UtcNow)));
    }
}
