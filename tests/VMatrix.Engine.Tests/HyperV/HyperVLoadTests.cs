using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.HyperV;
using VMatrix.Planning;
using VMatrix.Simulation;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>Load from how busy processors are: measured on the double, and as counters behind a balancer that has none.</summary>
public sealed class HyperVLoadTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly VirtualClock _clock = new();
    private readonly DoubleWorld _world;
    private readonly PoolSpec _pool;

    public HyperVLoadTests()
    {
        var pool = TestPool.Simulated(_folder.Path, hosts: 2);
        _pool = pool with
        {
            Hypervisor = "hyperv",
            Hosts = [.. pool.Hosts.Select(host => host with { Address = host.Name })],
            Services = [.. pool.Services.Select(s => s with { Capacity = 200 })],
            Balancer = new BalancerSpec { Kind = "script", Load = LoadOrigin.Processor },
            Oracle = new OracleSpec { Interval = TimeSpan.FromSeconds(15), StaleAfter = TimeSpan.FromMinutes(1) },
        };
        _world = new DoubleWorld(Path.Combine(_folder.Path, "world"), _clock);
        foreach (var host in _pool.Hosts)
            _world.AddHost(new VMatrix.Doubles.HostState { Name = host.Address! });
    }

    [Fact]
    public void What_servers_used_since_the_measurement_before_is_told() => _clock.Run(async () =>
    {
        var source = new HyperVLoadSource(_pool, new DoubleShell(_world), _clock);
        var busy = await ServerAsync("FINANCE", "FINANCE-1", 0, megahertz: 1250, cores: 1);
        var idle = await ServerAsync("SPORTS", "odd [name]", 1, megahertz: 500, cores: 2);
        var foreign = _world.AddForeign("host1", "FINANCE-9");
        Assert.Empty(await source.ReadAsync(default)); // Metering was just switched on.
        Assert.Equal((true, true, false), (_world.Machine(busy.Machine).Metering, _world.Machine(idle.Machine).Metering, _world.Machine(foreign).Metering));
        await Task.Delay(TimeSpan.FromSeconds(20), _clock);
        Expect(await source.ReadAsync(default), (busy.Server, 0.5), (idle.Server, 0.1));
        await Task.Delay(TimeSpan.FromSeconds(15), _clock);
        Expect(await source.ReadAsync(default), (busy.Server, 0.5), (idle.Server, 0.1));

        // The average is of all the time, what is told is of the time between: 1250 for 35 s, then so much more that the average is 1875 after 70 s.
        _world.SetMachine(busy.Machine, m => m with { MeanMegahertz = 1875 });
        await Task.Delay(TimeSpan.FromSeconds(35), _clock);
        Expect(await source.ReadAsync(default), (busy.Server, 1.0), (idle.Server, 0.1));

        // An average of a quarter of an hour is begun anew, and nothing is told twice.
        await Task.Delay(TimeSpan.FromMinutes(15), _clock);
        Assert.Equal(2, (await source.ReadAsync(default)).Count);
        Assert.True(_clock.GetUtcNow() - _world.Machine(busy.Machine).MeteringSince < TimeSpan.FromMinutes(1));
        _world.SetMachine(busy.Machine, m => m with { MeanMegahertz = 625 });
        await Task.Delay(TimeSpan.FromSeconds(20), _clock);
        Expect(await source.ReadAsync(default), (busy.Server, 0.25), (idle.Server, 0.1));

        // A host that is not reached takes only its own servers away; when none answers it is an error.
        _world.SetHost("host2", h => h with { Mood = HostMood.CutOff });
        await Task.Delay(TimeSpan.FromSeconds(20), _clock);
        Expect(await source.ReadAsync(default), (busy.Server, 0.25));
        _world.SetHost("host1", h => h with { Mood = HostMood.CutOff });
        Assert.Equal("HostUnreachable", (await Assert.ThrowsAsync<VMatrixException>(() => source.ReadAsync(default))).Id);
    });

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void With_a_credential_every_CIM_session_that_is_opened_is_removed(bool answers) => _clock.Run(async () =>
    {
        var pool = _pool with { HyperV = _pool.HyperV with { Credential = "hosts-admin" } };
        var (source, driver) = (new HyperVLoadSource(pool, new DoubleShell(_world), _clock), new HyperVHypervisor(pool, new DoubleShell(_world), _clock));
        await ServerAsync("FINANCE", "FINANCE-1", 0, megahertz: 1250, cores: 1);
        var opened = 0;
        _world.Called = command => opened += command == @"CimCmdlets\New-CimSession" ? 1 : 0;
        _ = await source.ReadAsync(default);
        foreach (var host in _pool.Hosts)
            _world.SetHost(host.Name, h => h with { CanRead = answers });
        for (var i = 0; i < 3; i++)
        {
            await Task.Delay(TimeSpan.FromSeconds(20), _clock);
            if (answers)
                _ = await source.ReadAsync(default);
            else
                await Assert.ThrowsAsync<VMatrixException>(() => new HyperVHost(pool.Hosts[0], pool, new DoubleShell(_world), _clock).AskClassAsync("Win32_Processor", null, ["MaxClockSpeed"], default));
        }

        Assert.True(opened > 0);
        Assert.Empty(_world.Read(state => state.Managed.Values.Where(each => each.Kind == "cim session").ToArray()));
        await driver.DisposeAsync();
    });

    [Fact]
    public void On_a_host_that_is_full_nobody_counts_as_less_busy_than_it() => _clock.Run(async () =>
    {
        var source = new HyperVLoadSource(_pool, new DoubleShell(_world), _clock);
        var (starved, other) = (await ServerAsync("FINANCE", "FINANCE-1", 0, megahertz: 1000, cores: 1), await ServerAsync("SPORTS", "SPORTS-1", 1, megahertz: 250, cores: 1));
        _ = await source.ReadAsync(default);
        await Task.Delay(TimeSpan.FromSeconds(20), _clock);
        _world.SetHost("host1", h => h with { BusyPercent = 94 });
        Expect(await source.ReadAsync(default), (starved.Server, 0.4), (other.Server, 0.1));
        _world.SetHost("host1", h => h with { BusyPercent = 98 });
        await Task.Delay(TimeSpan.FromSeconds(20), _clock);
        Expect(await source.ReadAsync(default), (starved.Server, 0.98), (other.Server, 0.1));
    });

    [Fact]
    public void Processors_make_samples_that_planning_believes_and_their_silence_bad_ones() => _clock.Run(async () =>
    {
        var source = new Source { Uses = [new ServerUse(Guid.NewGuid(), "FINANCE", 0.5), new ServerUse(Guid.NewGuid(), "FINANCE", 0.25)] };
        await using var balancer = new MeteredBalancer(new Silent(_clock), source, _pool, _clock);
        var before = await balancer.ReadAsync(default);
        await Task.Delay(TimeSpan.FromSeconds(15), _clock);
        var after = await balancer.ReadAsync(default);
        var loads = Sensing.Measure(_pool, before, after, _clock.GetUtcNow());
        Assert.Null(loads["FINANCE"].Bad);
        Assert.Equal(150, loads["FINANCE"].RequestRate, 0.5);
        Assert.NotNull(loads["SPORTS"].Bad); // Nothing of it was measured: that is not a zero.

        // Asked often it measures seldom, and the counters still go on and never back.
        var measured = source.Times;
        for (var i = 0; i < 10; i++)
        {
            var next = await balancer.ReadAsync(default);
            Assert.True(next.Services[0].Requests >= after.Services[0].Requests);
            after = next;
            await Task.Delay(TimeSpan.FromMilliseconds(25), _clock);
        }

        Assert.Equal(measured, source.Times);

        // Full processors hide what more is asked for.
        source.Uses = [new ServerUse(Guid.NewGuid(), "FINANCE", 1)];
        await Task.Delay(TimeSpan.FromSeconds(15), _clock);
        before = await balancer.ReadAsync(default);
        await Task.Delay(TimeSpan.FromSeconds(5), _clock);
        Assert.Equal(300, Sensing.Measure(_pool, before, await balancer.ReadAsync(default), _clock.GetUtcNow())["FINANCE"].RequestRate, 0.5);

        source.Uses = null;
        await Task.Delay(TimeSpan.FromSeconds(15), _clock);
        after = await balancer.ReadAsync(default);
        Assert.Empty(after.Services);
        Assert.NotNull(Sensing.Measure(_pool, before, after, _clock.GetUtcNow())["FINANCE"].Bad);
    });

    [Fact]
    public async Task One_callers_cancellation_takes_the_measurement_from_nobody_else()
    {
        var measured = new TaskCompletionSource<IReadOnlyList<ServerUse>>(TaskCreationOptions.RunContinuationsAsynchronously);
        var source = new Waiting(measured.Task);
        await using var balancer = new MeteredBalancer(new Silent(TimeProvider.System), source, _pool, TimeProvider.System);
        using var cancel = new CancellationTokenSource();
        var (first, second) = (balancer.ReadAsync(cancel.Token), balancer.ReadAsync(default));
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
        Assert.False(second.IsCompleted);
        measured.SetResult([new ServerUse(Guid.NewGuid(), "FINANCE", 0.5)]);
        Assert.Equal("FINANCE", Assert.Single((await second).Services).Service);
        Assert.Equal(1, source.Times);
        Assert.False(source.Ended);
    }

    public void Dispose()
    {
        _world.Forget();
        _folder.Dispose();
    }

    private static void Expect(IReadOnlyList<ServerUse> uses, params (Guid Server, double Share)[] expected)
    {
        Assert.Equal(expected.Length, uses.Count);
        foreach (var (server, share) in expected)
            Assert.Equal(share, uses.Single(u => u.ServerId == server).Share, 0.01);
    }

    private async Task<(Guid Server, Guid Machine)> ServerAsync(string service, string name, int host, double megahertz, int cores)
    {
        await using var driver = new HyperVHypervisor(_pool, new DoubleShell(_world), _clock);
        var machine = _world.AddForeign(_pool.Hosts[host].Address!, name);
        _world.SetMachine(machine, m => m with { MeanMegahertz = megahertz, Cores = cores });
        var server = Guid.NewGuid();
        await driver.AdoptAsync(default, machine.ToString("D"), TestPool.Mark(_pool, service, 1, Guid.NewGuid(), "", _clock.GetUtcNow(), server, Stage.Matrix), _pool.Hosts[host], default);
        return (server, machine);
    }

    private sealed class Source : ILoadSource
    {
        public IReadOnlyList<ServerUse>? Uses { get; set; }

        public int Times { get; private set; }

        public Task<IReadOnlyList<ServerUse>> ReadAsync(CancellationToken cancellation)
        {
            Times++;
            return Uses is null ? throw new VMatrixException("HostUnreachable", VMatrixErrorKind.Unreachable, "No host answers.") : Task.FromResult(Uses);
        }
    }

    private sealed class Waiting(Task<IReadOnlyList<ServerUse>> answer) : ILoadSource
    {
        public int Times { get; private set; }

        public bool Ended { get; private set; }

        public Task<IReadOnlyList<ServerUse>> ReadAsync(CancellationToken cancellation)
        {
            Times++;
            cancellation.Register(() => Ended = true);
            return answer.WaitAsync(cancellation);
        }
    }

    /// <summary>A balancer that counts nothing.</summary>
    private sealed class Silent(TimeProvider clock) : IBalancer
    {
        public Task EnsureAsync(CancellationToken cancellation) => Task.CompletedTask;

        public Task<BalancerReport> ReadAsync(CancellationToken cancellation) => Task.FromResult(new BalancerReport { At = clock.GetUtcNow(), Incarnation = "1", Members = [], Services = [] });

        public Task JoinAsync(DriverCall call, ServiceSpec service, Guid server, string address, CancellationToken cancellation) => Task.CompletedTask;

        public Task DrainAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) => Task.CompletedTask;

        public Task LeaveAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellation) => Task.CompletedTask;

        public ValueTask DisposeAsync() => default;
    }
}
