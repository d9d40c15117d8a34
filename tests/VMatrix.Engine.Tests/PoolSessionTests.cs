using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Simulation;
using Xunit;

namespace VMatrix.Tests;

/// <summary>The door, on a simulated pool read from a file, as the cmdlets and the Oracle use it.</summary>
public sealed class PoolSessionTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-door-").FullName;

    private string Pool => Path.Combine(_folder, "pool.yaml");

    public PoolSessionTests() => File.WriteAllText(Pool, """
        pool: door
        hypervisor: simulation
        hosts:
          - { name: host1, memory: 1 GiB }
          - { name: host2, memory: 1 GiB }
          - { name: host3, memory: 1 GiB }
          - { name: chamber1, role: chamber, memory: 1 GiB }
        services:
          - { name: FINANCE, priority: 4, least: 1, most: 3, capacity: 10/s, image: { memory: 256 MiB, warm: true } }
          - { name: SPORTS, least: 0, most: 3, capacity: 10/s, image: { memory: 256 MiB, warm: true } }
        balancer: { kind: simulation }
        oracle: { interval: 1s }
        simulation: { seed: 1, bootTime: 50ms, wakeTime: 5ms }
        """);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>Tells when a move has begun.</summary>
    private sealed class Begun(TaskCompletionSource<MoveRecord> moving) : IProgress<MoveRecord>
    {
        public void Report(MoveRecord value)
        {
            if (value.Status is MoveStatus.Running)
                _ = moving.TrySetResult(value);
        }
    }

    [Fact]
    public async Task A_session_for_reading_writes_nothing()
    {
        await using var session = await PoolSession.OpenAsync(Pool, forChange: false, CancellationToken.None);

        Assert.Empty(await session.GetServersAsync(false, null, CancellationToken.None));
        Assert.Equal(4, (await session.GetHostsAsync(CancellationToken.None)).Count);
        Assert.Equal([Pool], Directory.GetFileSystemEntries(_folder));

        // Nor in a pool that was used: the same files, as they were.
        await using (var changing = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None))
            await CarryOut(changing, await changing.PlanCreateAsync("FINANCE", 1, null, CancellationToken.None));
        string[] before = Entries();
        await using var again = await PoolSession.OpenAsync(Pool, forChange: false, CancellationToken.None);
        Assert.Single(await again.GetServersAsync(true, null, CancellationToken.None));
        Assert.Single(await again.GetMovesAsync(null, 10, CancellationToken.None));
        _ = await again.GetPoolAsync(CancellationToken.None);
        Assert.Equal(before, Entries());

        string[] Entries() => [.. Directory.GetFileSystemEntries(_folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(e => $"{e} {File.GetLastWriteTimeUtc(e):O}")];
    }

    [Fact]
    public async Task Mistakes_in_the_file_are_one_error_that_names_them_all()
    {
        await File.WriteAllTextAsync(Pool, (await File.ReadAllTextAsync(Pool)).Replace("least: 1", "least: 9").Replace("role: chamber", "role: cellar"));

        var error = await Assert.ThrowsAsync<VMatrixException>(() => PoolSession.OpenAsync(Pool, false, CancellationToken.None));

        Assert.Equal("PoolInvalid", error.Id);
        Assert.Contains("cellar", error.Message);
        Assert.Contains("least", error.Message);
        Assert.Equal(PoolSession.Check(Pool).Count, error.Message.Split('\n').Length - 1);
    }

    [Fact]
    public async Task A_server_goes_through_its_life_by_hand()
    {
        await using var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        await CarryOut(session, await session.PlanCreateAsync("finance", 2, null, CancellationToken.None));
        var servers = await session.GetServersAsync(false, null, CancellationToken.None);
        Assert.Equal(["FINANCE-1", "FINANCE-2"], servers.Select(s => s.Name).Order());
        Assert.All(servers, s => Assert.Equal((Stage.Nest, (string?)null), (s.Stage, s.Host)));
        var id = servers.Single(s => s.Name == "FINANCE-1").Id;

        await CarryOut(session, [await session.PlanMoveAsync(id, Stage.Matrix, "host2", false, CancellationToken.None)]);
        var live = await Find(session, id, health: true);
        Assert.Equal((Stage.Matrix, "host2", ServerHealth.Healthy), (live.Stage, live.Host, live.Health));
        Assert.NotNull(live.HeldUntil);

        await CarryOut(session, [await session.PlanMoveAsync(id, Stage.Chamber, null, false, CancellationToken.None)]);
        Assert.Equal("chamber1", (await Find(session, id)).Host);
        await CarryOut(session, [await session.PlanMoveAsync(id, Stage.Disposed, null, false, CancellationToken.None)]);
        Assert.Equal(Stage.Disposed, (await Find(session, id)).Stage);
        await CarryOut(session, [await session.PlanMoveAsync(id, Stage.Nest, null, false, CancellationToken.None)]);
        Assert.Equal(Stage.Nest, (await Find(session, id)).Stage);
        await CarryOut(session, [await session.PlanMoveAsync(id, Stage.Disposed, null, false, CancellationToken.None)]);
        await CarryOut(session, [await session.PlanPurgeAsync(id, CancellationToken.None)]);
        Assert.DoesNotContain(await session.GetServersAsync(false, null, CancellationToken.None), s => s.Id == id);

        var history = await session.GetMovesAsync(null, 100, CancellationToken.None);
        Assert.Equal(
            [MoveKind.Purge, MoveKind.Dispose, MoveKind.Undo, MoveKind.Dispose, MoveKind.Relocate, MoveKind.Wake, MoveKind.Create, MoveKind.Create],
            history.Select(m => m.Move.Kind));
    }

    [Fact]
    public async Task A_history_that_cannot_be_kept_is_told_and_hinders_nothing()
    {
        await using (var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None))
            Assert.DoesNotContain((await session.GetPoolAsync(CancellationToken.None)).Problems, p => p.Contains("history", StringComparison.OrdinalIgnoreCase));
        foreach (var file in Directory.GetFiles(Path.Combine(_folder, ".vmatrix"), "history.db*"))
            File.Delete(file);
        Directory.CreateDirectory(Path.Combine(_folder, ".vmatrix", "history.db"));

        await using var without = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        await CarryOut(without, await without.PlanCreateAsync("FINANCE", 1, null, CancellationToken.None));

        Assert.Contains((await without.GetPoolAsync(CancellationToken.None)).Problems, p => p.Contains("history", StringComparison.OrdinalIgnoreCase));
    }

    [Fact]
    public async Task Who_looks_on_takes_no_sample_away_from_the_planner()
    {
        await using var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        var created = await session.PlanCreateAsync("FINANCE", 1, null, CancellationToken.None);
        await CarryOut(session, created);
        await CarryOut(session, [await session.PlanMoveAsync(created[0].ServerId, Stage.Matrix, null, false, CancellationToken.None)]);
        var first = (await session.GetServicesAsync(CancellationToken.None))[0].Load!;
        var again = (await session.LookAsync(CancellationToken.None)).Services[0].Load!;

        Assert.Null(first.Bad);
        Assert.Same(first, again);
    }

    [Fact]
    public async Task What_cannot_be_is_refused_with_what_can()
    {
        await using var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        await CarryOut(session, await session.PlanCreateAsync("SPORTS", 2, null, CancellationToken.None));
        var servers = await session.GetServersAsync(false, null, CancellationToken.None);
        var (one, two) = (servers[0].Id, servers[1].Id);
        await CarryOut(session, [await session.PlanMoveAsync(one, Stage.Matrix, "host1", false, CancellationToken.None)]);

        await Refused("NoRoom", "host1 holds", () => session.PlanMoveAsync(two, Stage.Matrix, "host1", false, CancellationToken.None));
        await Refused("HostRoleMismatch", "chamber host", () => session.PlanMoveAsync(two, Stage.Matrix, "chamber1", false, CancellationToken.None));
        await Refused("HostNotFound", "host1, host2", () => session.PlanMoveAsync(two, Stage.Matrix, "nowhere", false, CancellationToken.None));
        await Refused("ServerNotFound", "door", () => session.PlanMoveAsync(Guid.NewGuid(), Stage.Matrix, null, false, CancellationToken.None));
        await Refused("AlreadyThere", "in the Nest", () => session.PlanMoveAsync(two, Stage.Nest, null, false, CancellationToken.None));
        await Refused("NotDisposed", "Dispose of it first", () => session.PlanPurgeAsync(two, CancellationToken.None));
        await Refused("ServiceNotFound", "FINANCE, SPORTS", () => session.PlanCreateAsync("NEWS", 1, null, CancellationToken.None));

        static async Task Refused(string id, string words, Func<Task> call)
        {
            var error = await Assert.ThrowsAsync<VMatrixException>(call);
            Assert.Equal(id, error.Id);
            Assert.Contains(words, error.Message);
        }
    }

    [Fact]
    public async Task A_switch_brings_each_service_to_its_least_and_a_second_one_has_nothing_to_do()
    {
        await using var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);

        var plan = await session.PlanSwitchAsync(CancellationToken.None);
        var records = await session.SwitchAsync(plan.Id, null, CancellationToken.None);

        Assert.All(records, r => Assert.Equal(MoveStatus.Done, r.Status));
        Assert.Equal([1, 0], (await session.GetServicesAsync(CancellationToken.None)).Select(s => s.InMatrix));
        Assert.Empty((await session.PlanSwitchAsync(CancellationToken.None)).Moves);
    }

    [Fact]
    public async Task The_oracle_stops_with_nothing_half_done_and_is_alone()
    {
        await using var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        await using var other = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        using var stop = new CancellationTokenSource();
        var moving = new TaskCompletionSource<MoveRecord>(TaskCreationOptions.RunContinuationsAsynchronously);
        var running = session.RunAsync("test-oracle", TimeSpan.FromMilliseconds(100), null, new Begun(moving), stop.Token);
        _ = await moving.Task;

        var busy = await Assert.ThrowsAsync<VMatrixException>(() => other.RunAsync("second", null, null, null, CancellationToken.None));
        Assert.Equal("DeciderBusy", busy.Id);
        Assert.Contains("test-oracle", busy.Message);
        await stop.CancelAsync();
        await running;

        var moves = await session.GetMovesAsync(null, 10, CancellationToken.None);
        Assert.NotEmpty(moves);
        Assert.All(moves, m => Assert.True(m.Status is MoveStatus.Done or MoveStatus.Undone or MoveStatus.Refused or MoveStatus.Cancelled, $"{m.Status}: {m.Error}"));
        Assert.Null((await other.GetPoolAsync(CancellationToken.None)).Decider);
    }

    [Fact]
    public async Task A_suspended_host_is_emptied_and_left_alone_until_it_is_resumed()
    {
        await using var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        await CarryOut(session, await session.PlanCreateAsync("FINANCE", 1, null, CancellationToken.None));
        var id = (await session.GetServersAsync(false, null, CancellationToken.None)).Single().Id;
        await CarryOut(session, [await session.PlanMoveAsync(id, Stage.Matrix, "host1", false, CancellationToken.None)]);

        await session.SuspendHostAsync("HOST1", false, null, CancellationToken.None);
        var records = await session.EvacuateAsync(["HOST1"], false, null, CancellationToken.None);

        Assert.All(records, r => Assert.True(r.Status is MoveStatus.Done, r.Error));
        Assert.NotEqual("host1", (await Find(session, id)).Host);
        var host = (await session.GetHostsAsync(CancellationToken.None)).Single(h => h.Name == "host1");
        Assert.True(host is { Suspended: true, SuspendedBy: not null, Servers: 0 });
        Assert.True(await session.ResumeHostAsync("host1", CancellationToken.None));
        Assert.False(await session.ResumeHostAsync("host1", CancellationToken.None));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task What_was_repaired_in_the_chamber_replaces_the_servers_or_they_come_back(bool spoiled)
    {
        await File.WriteAllTextAsync(Pool, (await File.ReadAllTextAsync(Pool)).Replace("capacity: 10/s, image", "capacity: 10/s, health: { interval: 50ms, startTimeout: 3s }, image"));
        await using var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
        await CarryOut(session, await session.PlanCreateAsync("FINANCE", 3, null, CancellationToken.None));
        var servers = await session.GetServersAsync(false, null, CancellationToken.None);
        await CarryOut(session, [await session.PlanMoveAsync(servers[0].Id, Stage.Chamber, null, false, CancellationToken.None)]);
        foreach (var server in servers.Skip(1))
            await CarryOut(session, [await session.PlanMoveAsync(server.Id, Stage.Matrix, null, false, CancellationToken.None)]);
        var repaired = await Find(session, servers[0].Id);

        var misplaced = await Assert.ThrowsAsync<VMatrixException>(() => session.PublishImageAsync(servers[1].Id, null, CancellationToken.None));
        Assert.Equal("NotInChamber", misplaced.Id);
        Assert.Contains($"Move-VMatrixServer {servers[1].Id} -Stage Chamber", misplaced.Message);
        var image = await session.PublishImageAsync(repaired.Id, null, CancellationToken.None);
        Assert.Equal(("FINANCE", repaired.Image, repaired.Id, repaired.Name), (image.Service, image.From, image.ServerId, image.ServerName));
        Assert.Equal(repaired with { ObservedAt = default }, await Find(session, repaired.Id) with { ObservedAt = default });
        Assert.Equal(MoveKind.Publish, (await session.GetMovesAsync(null, 1, CancellationToken.None))[0].Move.Kind);

        if (spoiled)
            SimulatedWorld.Open(session.Spec, TimeProvider.System).SpoilImage("FINANCE", image.Version);
        var result = await session.UpdateServiceAsync("finance", 1, TimeSpan.FromMilliseconds(100), null, CancellationToken.None);

        Assert.Equal((spoiled ? UpdateStatus.Returned : UpdateStatus.Done, image.Version, spoiled ? 0 : 2), (result.Status, result.Image, result.Replaced));
        var live = (await session.GetServersAsync(true, null, CancellationToken.None)).Where(s => s.Stage is Stage.Matrix).ToArray();
        Assert.Equal(2, live.Length);
        Assert.All(live, s => Assert.Equal((spoiled ? image.From : image.Version, ServerHealth.Healthy), (s.Image, s.Health)));

        // A version that serves nobody well is left behind.
        await session.SelectImageAsync("FINANCE", image.From, CancellationToken.None);
        await CarryOut(session, await session.PlanCreateAsync("FINANCE", 1, "back", CancellationToken.None));
        Assert.Equal(image.From, (await session.GetServersAsync(false, null, CancellationToken.None)).Single(s => s.Name == "back").Image);
    }

    [Fact]
    public async Task A_published_version_counts_until_the_owners_image_changes()
    {
        PublishedImage image;
        await using (var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None))
        {
            await CarryOut(session, await session.PlanCreateAsync("FINANCE", 1, "first", CancellationToken.None));
            var first = (await session.GetServersAsync(false, null, CancellationToken.None)).Single();
            await CarryOut(session, [await session.PlanMoveAsync(first.Id, Stage.Chamber, null, false, CancellationToken.None)]);
            image = await session.PublishImageAsync(first.Id, null, CancellationToken.None);
            await CarryOut(session, await session.PlanCreateAsync("FINANCE", 1, "second", CancellationToken.None));
        }

        await File.WriteAllTextAsync(Pool, (await File.ReadAllTextAsync(Pool)).Replace("256 MiB", "257 MiB"));
        await using (var session = await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None))
        {
            await CarryOut(session, await session.PlanCreateAsync("FINANCE", 1, "third", CancellationToken.None));
            var images = (await session.GetServersAsync(false, null, CancellationToken.None)).ToDictionary(s => s.Name, s => s.Image);
            Assert.Equal((image.From, image.Version), (images["first"], images["second"]));
            Assert.DoesNotContain(images["third"], new[] { image.From, image.Version });
        }
    }

    private static async Task CarryOut(PoolSession session, IReadOnlyList<Move> moves)
    {
        foreach (var record in await session.CarryOutAsync(moves, null, null, CancellationToken.None))
            Assert.True(record.Status is MoveStatus.Done, $"{record.Move.Kind} {record.Status}: {record.Error}");
    }

    private static async Task<ServerInfo> Find(PoolSession session, Guid id, bool health = false) =>
        (await session.GetServersAsync(health, null, CancellationToken.None)).Single(s => s.Id == id);
}
