using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Simulation;
using Xunit;

namespace VMatrix.Tests;

/// <summary>A pool whose state folder is lost, restored, copied or damaged, or whose clock is set, through the entry point that cmdlets and the Oracle use.</summary>
public sealed class StateLossTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-loss-").FullName;

    private string Pool => Path.Combine(_folder, "pool.yaml");

    private string State => Path.Combine(_folder, ".vmatrix");

    public StateLossTests() => File.WriteAllText(Pool, """
        pool: loss
        hypervisor: simulation
        hosts:
          - { name: host1, memory: 1 GiB }
          - { name: host2, memory: 1 GiB }
          - { name: host3, memory: 1 GiB }
          - { name: chamber1, role: chamber, memory: 1 GiB }
        services:
          - { name: FINANCE, priority: 4, least: 1, most: 3, capacity: 10/s, image: { memory: 256 MiB, warm: true } }
          - { name: SPORTS, least: 0, capacity: 10/s, image: { memory: 256 MiB, warm: true } }
        nest: { folder: nest }
        balancer: { kind: simulation }
        oracle: { interval: 1s }
        simulation: { seed: 1, bootTime: 50ms, wakeTime: 5ms }
        """);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private async Task<IReadOnlyList<MoveRecord>> SwitchAsync()
    {
        await using var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        var plan = await session.PlanSwitchAsync(CancellationToken.None);
        return await session.SwitchAsync(plan.Id, null, CancellationToken.None);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_state_folder_restored_from_a_backup_goes_on_deciding(bool nestForgot)
    {
        await using (var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None))
            _ = await session.PlanSwitchAsync(CancellationToken.None);
        Copy(State, State + ".backup");
        for (var i = 0; i < 3; i++)
            _ = await SwitchAsync();
        Directory.Delete(State, recursive: true);
        Copy(State + ".backup", State);

        // Only what the drivers themselves keep is left.
        if (nestForgot)
        {
            foreach (var file in Directory.GetFiles(Path.Combine(_folder, "nest"), "decider.*"))
                File.Delete(file);
        }

        await using (var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None))
            await session.PinServiceAsync("SPORTS", 1, null, CancellationToken.None);
        var records = await SwitchAsync();

        Assert.NotEmpty(records);
        Assert.All(records, r => Assert.True(r.Status is MoveStatus.Done, $"{r.Status}: {r.Error}"));
    }

    [Fact]
    public async Task A_resident_decider_whose_epoch_is_refused_ends_with_one_sentence()
    {
        await using var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        var records = new List<MoveRecord>();
        var planned = 0;
        var world = SimulatedWorld.Open(session.Spec, TimeProvider.System);

        // Another decider acts by a copy of the folder: only the driver knows of it.
        var error = await Assert.ThrowsAsync<VMatrixException>(() => session.RunAsync("oracle", TimeSpan.FromMilliseconds(50), _ =>
        {
            if (++planned == 1)
                new SimulatedHypervisor(world).PrepareImageAsync(new DriverCall(Guid.NewGuid(), 1000), session.Spec.Services[1], session.Spec.Hosts[0], null, default).GetAwaiter().GetResult();
        }, new Told(records.Add), CancellationToken.None));

        Assert.Equal("StaleEpoch", error.Id);
        Assert.DoesNotContain("\n", error.Message);
        Assert.Contains("1000", error.Message);
        Assert.InRange(records.Select(r => r.Id).Distinct().Count(), 0, 8);

        // What is started next decides again.
        Assert.All(await SwitchAsync(), r => Assert.True(r.Status is MoveStatus.Done, $"{r.Status}: {r.Error}"));
    }

    [Fact]
    public async Task Damaged_files_are_told_by_listing_and_hinder_nothing_else()
    {
        _ = await SwitchAsync();
        Guid server;
        await using (var first = await PoolSession.OpenAsync(Pool, forChange: false, CancellationToken.None))
            server = (await first.GetServersAsync(false, null, CancellationToken.None))[0].Id;
        var journal = Path.Combine(State, "moves", server.ToString("D") + ".json");
        await File.WriteAllTextAsync(journal, "not a journal\n{}\n");
        var pin = Path.Combine(Directory.CreateDirectory(Path.Combine(State, "overrides", "services")).FullName, "SPORTS.json");
        await File.WriteAllTextAsync(pin, """{"service":"SPORTS","servers":2147483647,"by":"x","at":"2026-01-01T00:00:00Z"}""");

        await using (var reading = await PoolSession.OpenAsync(Pool, forChange: false, CancellationToken.None))
        {
            Assert.Equal(["StateCorrupt", "StateCorrupt"], reading.ReadStateProblems().Select(p => p.Id));
            var problems = (await reading.GetPoolAsync(CancellationToken.None)).Problems;
            Assert.Contains(problems, p => p.Contains(journal, StringComparison.Ordinal));
            Assert.Contains(problems, p => p.Contains(pin, StringComparison.Ordinal));
            Assert.Contains(journal, (await reading.GetServersAsync(false, null, CancellationToken.None)).Single(s => s.Id == server).Problem, StringComparison.Ordinal);
            Assert.NotEmpty(await reading.GetMovesAsync(null, 10, CancellationToken.None));
        }

        Assert.Contains(PoolSession.Check(Pool), f => f.Message.Contains(journal, StringComparison.Ordinal));
        await using var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        Assert.Empty((await session.PlanSwitchAsync(CancellationToken.None)).Moves);
    }

    [Theory]
    [InlineData(100_000)]
    [InlineData(int.MaxValue)]
    public void A_pin_beyond_what_the_pool_holds_costs_no_memory(int count)
    {
        var pool = PoolSession.Read(Pool);
        var input = new VMatrix.Planning.PlannerInput
        {
            Pool = pool,
            Now = new DateTimeOffset(2026, 3, 2, 12, 0, 0, TimeSpan.Zero),
            Hosts = [.. pool.Hosts.Select(h => new VMatrix.Planning.HostState { Name = h.Name })],
            Servers = [],
            Loads = new Dictionary<string, IReadOnlyList<ServiceLoad>>(),
            Pinned = new Dictionary<string, int> { ["SPORTS"] = count },
        };
        var before = GC.GetAllocatedBytesForCurrentThread();

        var plan = VMatrix.Planning.Planner.Plan(input).Plan;

        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 64L << 20);
        Assert.Equal(2, plan.Moves.Count(m => m.Kind is MoveKind.Wake && m.Service == "SPORTS"));
    }

    [Theory]
    [InlineData("""{"byService":{"FINANCE":"{]"},"forecasts":{},"seats":[],"refreshes":[],"idleSince":{}}""")]
    [InlineData("""{"byService":{"FINANCE":null},"forecasts":{},"seats":[null],"refreshes":[],"idleSince":{}}""")]
    [InlineData("""{"byService":null}""")]
    [InlineData("""{"byService":{"FINANCE":"{\"Failing\":null,\"Needs\":null,\"FedUntil\":\"9999-01-01T00:00:00Z\"}"}}""")]
    [InlineData("7")]
    public async Task Planning_begins_anew_where_its_memory_is_damaged(string memory)
    {
        _ = await SwitchAsync();
        await File.WriteAllTextAsync(Path.Combine(State, "memory.json"), memory);
        await using var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        Assert.Empty((await session.PlanSwitchAsync(CancellationToken.None)).Moves);
    }

    [Fact]
    public async Task A_reading_session_makes_no_history_and_none_of_its_calls_writes()
    {
        _ = await SwitchAsync();
        foreach (var file in Directory.GetFiles(State, "history.db*"))
            File.Delete(file);
        var before = Entries();

        await using (var reading = await PoolSession.OpenAsync(Pool, forChange: false, CancellationToken.None))
        {
            Assert.Empty(await reading.GetMovesAsync(null, 10, CancellationToken.None));
            _ = await reading.GetHostActionsAsync(null, 10, CancellationToken.None);
            _ = await reading.GetPoolAsync(CancellationToken.None);
            _ = await reading.GetServicesAsync(CancellationToken.None);
            _ = await reading.GetPlansAsync(CancellationToken.None);
            Assert.Empty(reading.ReadStateProblems());
        }

        Assert.Equal(before, Entries());

        string[] Entries() => [.. Directory.GetFileSystemEntries(State, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(e => $"{e} {File.GetLastWriteTimeUtc(e):O}")];
    }

    [Fact]
    public async Task A_history_that_a_reader_cannot_read_is_an_error_and_open_moves_are_still_shown()
    {
        _ = await SwitchAsync();
        foreach (var file in Directory.GetFiles(State, "history.db*"))
            File.Delete(file);
        await File.WriteAllTextAsync(Path.Combine(State, "history.db"), new string('?', 5000));

        await using var reading = await PoolSession.OpenAsync(Pool, forChange: false, CancellationToken.None);
        Assert.Empty(await reading.GetMovesAsync(null, 10, CancellationToken.None));
        var problem = Assert.Single(reading.ReadStateProblems());
        Assert.Equal("HistoryUnreadable", problem.Id);
        Assert.Contains("history.db", problem.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Loads_grow_old_and_are_measured_again_though_the_clock_is_set_back()
    {
        var clock = new VirtualClock();
        var pool = PoolSession.Read(Pool);
        var world = SimulatedWorld.ForTrial(pool, clock);
        world.Demand = (_, _) => 5;
        clock.Run(async () =>
        {
            using var sensor = new Sensor(pool, new PoolDrivers(new SimulatedHypervisor(world), new SimulatedBalancer(world), new SimulatedHealthProbe(world)), new PoolReads(pool, clock), clock);
            await new SimulatedBalancer(world).EnsureAsync(default);
            _ = await sensor.MeasureAsync(default);
            await Task.Delay(TimeSpan.FromSeconds(1), clock);
            Assert.Null((await sensor.MeasureAsync(default))["FINANCE"].Bad);
            var began = clock.Elapsed;
            clock.Jump(-TimeSpan.FromHours(3));

            // Not one of these waits for the clock to catch up, and none of the samples is of the future.
            for (var i = 0; i < 5; i++)
            {
                await Task.Delay(TimeSpan.FromSeconds(1), clock);
                _ = await sensor.MeasureAsync(default);
            }

            Assert.InRange(clock.Elapsed - began, TimeSpan.FromSeconds(5), TimeSpan.FromSeconds(20));
            var samples = sensor.Samples["FINANCE"];
            Assert.All(samples, s => Assert.True(s.At <= clock.GetUtcNow()));
            Assert.Equal(samples.OrderBy(s => s.At), samples);
            Assert.Null(samples[^1].Bad);
            Assert.InRange(samples[^1].RequestRate, 1, 20);
        });
    }

    private static void Copy(string from, string to)
    {
        foreach (var folder in Directory.GetDirectories(from, "*", SearchOption.AllDirectories).Prepend(from))
            Directory.CreateDirectory(Path.Combine(to, Path.GetRelativePath(from, folder)));
        foreach (var file in Directory.GetFiles(from, "*", SearchOption.AllDirectories))
            File.Copy(file, Path.Combine(to, Path.GetRelativePath(from, file)), overwrite: true);
    }

    private sealed class Told(Action<MoveRecord> tell) : IProgress<MoveRecord>
    {
        public void Report(MoveRecord value)
        {
            lock (tell)
                tell(value);
        }
    }
}
