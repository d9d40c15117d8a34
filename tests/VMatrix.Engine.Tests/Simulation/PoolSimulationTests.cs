using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Simulation;

/// <summary>Histories of demand, played on pools.</summary>
public sealed class PoolSimulationTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private const string Pool = """
        pool: trial
        hypervisor: qemu
        hosts:
          - { name: host1, memory: 1 GiB }
          - { name: host2, memory: 1 GiB }
          - { name: host3, memory: 1 GiB }
        services:
          - { name: FINANCE, priority: 2, capacity: 10/s, image: { memory: 128 MiB, kernel: k, initrd: i }, listen: "127.0.0.1:9001" }
          - { name: SPORTS, capacity: 10/s, image: { memory: 128 MiB, kernel: k, initrd: i }, listen: "127.0.0.1:9002" }
        balancer: { kind: haproxy }
        oracle: { interval: 10s }
        """;

    private string Write(string name, params string[] lines)
    {
        string path = Path.Combine(_folder.Path, name);
        File.WriteAllText(path, string.Join("\n", lines));
        return path;
    }

    /// <summary>First SPORTS has load for two servers, then FINANCE.</summary>
    private static IEnumerable<string> Swap(int minutes) =>
        Enumerable.Range(0, minutes).Select(m => FormattableString.Invariant($"2026-03-02T{8 + (m / 60):00}:{m % 60:00}:00Z,{(m < minutes / 2 ? 4 : 17)},{(m < minutes / 2 ? 17 : 4)}")).Prepend("time,FINANCE,SPORTS");

    private SimulationResult Play(IEnumerable<string> trace, SimulationOptions? options = null, string pool = Pool) =>
        PoolSimulation.Run(Write("pool.yaml", pool), Write("trace.csv", [.. trace]), options ?? new(), null, default);

    [Fact]
    public void A_pool_for_real_machines_is_played_and_none_of_it_is_touched()
    {
        var result = Play(Swap(60), new SimulationOptions { Compare = ["static", "threshold"] });

        Assert.Equal(["switching", "static", "threshold"], result.Rules.Select(r => r.Rule));
        foreach (var service in result.Rules.SelectMany(r => r.Services))
        {
            Assert.Equal(60, service.Minutes.Count);
            Assert.Equal(service.Demand, service.Served + service.Unserved, service.Demand * 0.01);
            Assert.InRange(service.MeanServers, 1, 2);
            Assert.Equal(0, service.Failed);
        }

        // The demand is the same for every rule, whatever it does with it.
        foreach (int s in (int[])[0, 1])
            Assert.Single(result.Rules.Select(r => r.Services[s].Demand).Distinct());
        var switching = result.Rules[0];
        Assert.All(switching.Services, s => Assert.InRange(s.ServedShare, 0.98, 1));
        Assert.Equal(2, switching.Services[1].Minutes[20].Servers);
        Assert.Equal(2, switching.Services[0].Minutes[50].Servers);
        Assert.True(switching.Services[0].Wakes > 0);
        var fixedSplit = result.Rules[1];
        Assert.All(fixedSplit.Services, s => Assert.Equal(0, s.Switches));
        Assert.InRange(fixedSplit.Closed, -0.1, 0.1);
        Assert.InRange(switching.Closed, 0.8, 1.05);
        Assert.InRange(result.Rules[2].Closed, 0.5, 1.05);
        Assert.Equal(["pool.yaml", "trace.csv"], Directory.EnumerateFileSystemEntries(_folder.Path).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void What_is_decided_knows_nothing_of_what_is_to_come()
    {
        string[] calm = [.. Swap(40)];
        string[] other = [.. calm.Take(31), .. calm.Skip(31).Select(l => string.Join(",", l.Split(',')[0], "29", "0"))];
        var one = Play(calm).Rules[0].Services;
        var two = Play(other).Rules[0].Services;
        for (int s = 0; s < 2; s++)
            Assert.Equal(one[s].Minutes.Take(30), two[s].Minutes.Take(30));
        Assert.NotEqual(one[0].Minutes.Skip(30), two[0].Minutes.Skip(30));
    }

    [Fact]
    public void A_short_pool_drops_by_priority()
    {
        string[] trace = ["time,FINANCE,SPORTS", "2026-03-02T08:00Z,3,19", "2026-03-02T08:20Z,19,19", "2026-03-02T08:40Z,19,19"];
        var services = Play(trace).Rules[0].Services;
        Assert.True(services[1].Drops > 0);
        Assert.Equal(0, services[0].Drops);
        Assert.True(services[0].Minutes[2].Servers == 2 && services[1].Minutes[2].Servers == 1);
        Assert.True(services[1].Minutes[1].Drops > 0 || services[1].Minutes[2].Drops > 0);
    }

    [Fact]
    public void Minutes_of_requests_are_read_too()
    {
        var service = Play(["minute,SPORTS,other,FINANCE", "0,600,1,60", "1,600,1,60", "2,600,1,60"]).Rules[0].Services[1];
        Assert.Equal(10, service.Minutes.Average(m => m.Demand), 2.0);
        Assert.Equal(3, service.Minutes.Count);
    }

    [Fact]
    public void What_a_resident_decider_saw_is_played_from_the_pools_own_history()
    {
        var clock = new VirtualClock();
        var pool = TestPool.Simulated(_folder.Path, hosts: 4);
        pool = pool with { Oracle = pool.Oracle with { Interval = TimeSpan.FromSeconds(5) }, Services = [.. pool.Services.Select(s => s with { Isolation = Isolation.Dedicated })] };
        var world = SimulatedWorld.InMemory(pool, clock);
        bool busy = false;
        world.Demand = (service, _) => service == "FINANCE" && busy ? 25 : 3;
        string database = "";
        clock.Run(async () =>
        {
            using var state = StateFolder.Open(pool.StateFolder, create: true);
            await using var session = new PoolSession(pool, new PoolDrivers(new SimulatedHypervisor(world), new SimulatedBalancer(world), new SimulatedHealthProbe(world)), state, clock, null);
            using var end = new CancellationTokenSource();
            var running = session.RunAsync("test", null, null, null, end.Token);
            await clock.DelayAsync(TimeSpan.FromMinutes(6), default);
            busy = true;
            await clock.DelayAsync(TimeSpan.FromMinutes(6), default);
            end.Cancel();
            await running;
            database = state.History.Path;
        });

        string own = Write("pool.yaml", Pool);
        var result = PoolSimulation.Run(own, database, new SimulationOptions(), null, default);
        var finance = result.Rules.Single().Services.Single(s => s.Service == "FINANCE");
        Assert.InRange(finance.Minutes.Count, 10, 12);
        Assert.InRange(finance.Minutes[1].Demand, 2, 4);
        Assert.InRange(finance.Minutes[finance.Minutes.Count - 2].Demand, 23, 27);
        Assert.Contains("no such file", Assert.Throws<VMatrixException>(() => PoolSimulation.Run(own, database + "x.db", new SimulationOptions(), null, default)).Message);
        Assert.False(File.Exists(database + "x.db"));
        Assert.Contains("holds no loads of", Assert.Throws<VMatrixException>(() => PoolSimulation.Run(Write("other.yaml", Pool.Replace("FINANCE", "A").Replace("SPORTS", "B")), database, new SimulationOptions(), null, default)).Message);
    }

    [Fact]
    public void Another_seed_is_another_day()
    {
        string[] trace = [.. Swap(10)];
        double Demand(int seed) => Play(trace, new SimulationOptions { Seed = seed }).Rules[0].Services[0].Demand;
        Assert.Equal(Demand(3), Demand(3));
        Assert.NotEqual(Demand(3), Demand(4));
    }

    [Theory]
    [InlineData("", "line 1: the file is empty")]
    [InlineData("when,FINANCE,SPORTS", "line 1: the first column is headed 'when'")]
    [InlineData("time,FINANCE", "line 1: the heading has no column for service 'SPORTS'; it has: FINANCE")]
    [InlineData("time,FINANCE,SPORTS", "line 2: there is no row below the heading")]
    [InlineData("time,FINANCE,SPORTS\n2026-01-05T00:00Z,1,2\n2026-01-05T00:01Z,1,-2", "line 3: column 'SPORTS': '-2' is not a number of 0 or more")]
    [InlineData("time,FINANCE,SPORTS\n2026-01-05T00:00Z,1", "line 2: column 'SPORTS': '' is not a number of 0 or more")]
    [InlineData("time,FINANCE,SPORTS\nyesterday,1,2", "line 2: column 'time': 'yesterday' is not a moment")]
    [InlineData("time,FINANCE,SPORTS\n17,1,2", "line 2: column 'time': '17' is not a moment")]
    [InlineData("time,FINANCE,SPORTS\n2026-01-05T00:01Z,1,2\n2026-01-05T00:00Z,1,2", "line 3: column 'time': '2026-01-05T00:00Z' is not after the row before")]
    [InlineData("time,FINANCE,SPORTS\n2026-01-05T00:00Z,1,1e10", "line 2: column 'SPORTS': '1e10' is 1e+10 requests/s, more than the 1000000 that the pool can get at all")]
    [InlineData("time,FINANCE,SPORTS\n2026-01-05T00:00Z,1,2\n2026-01-05T00:01Z,1,1e300", "line 3: column 'SPORTS': '1e300'")]
    [InlineData("minute,FINANCE,SPORTS\n0,1,2\n1,60000060,2", "line 3: column 'FINANCE': '60000060' is")]
    [InlineData("time,FINANCE,SPORTS\n2026-01-05T00:00Z,1,\n2026-01-05T00:01Z,1,", "column 'SPORTS' holds no number in any row")]
    [InlineData("minute,FINANCE,SPORTS\n0,1,2\nx,1,2", "line 3: column 'minute': 'x' is not a whole number of 0 or more")]
    public void A_bad_history_is_told_by_line_and_column(string text, string expected)
    {
        var error = Assert.Throws<VMatrixException>(() => Play([text]));
        Assert.Equal("TraceInvalid", error.Id);
        Assert.Contains(Path.Combine(_folder.Path, "trace.csv"), error.Message, StringComparison.Ordinal);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_cannot_be_played_is_told()
    {
        Assert.Equal("RuleUnknown", Assert.Throws<VMatrixException>(() => Play(Swap(4), new SimulationOptions { Compare = ["luck"] })).Id);
        Assert.Equal("CapacityUnknown", Assert.Throws<VMatrixException>(() => Play(Swap(4), pool: Pool.Replace("FINANCE, priority: 2, capacity: 10/s", "FINANCE, priority: 2", StringComparison.Ordinal))).Id);
        Assert.Equal("IntervalInvalid", Assert.Throws<VMatrixException>(() => Play(Swap(4), new SimulationOptions { Interval = TimeSpan.Zero })).Id);
    }
}
