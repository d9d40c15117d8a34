using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;
using VMatrix.Simulation;
using Xunit;

namespace VMatrix.Tests;

/// <summary>Emptying a host moves its servers to other hosts, whatever the mode and whatever is known of the load, or leaves them and says why.</summary>
public sealed class EvacuationTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-empty-").FullName;

    private string Pool => Path.Combine(_folder, "pool.yaml");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private void Write(string finance = "", string oracle = "", int hosts = 3, string chambers = "1") => File.WriteAllText(Pool, $$"""
        pool: empty
        hypervisor: simulation
        hosts:
        {{string.Concat(Enumerable.Range(1, hosts).Select(i => $"  - {{ name: host{i}, memory: 1 GiB }}\n"))}}  - { name: chamber1, role: chamber, memory: 1 GiB }
        {{(chambers == "2" ? "  - { name: chamber2, role: chamber, memory: 1 GiB }\n" : "")}}services:
          - { name: FINANCE, priority: 4, least: 0, most: 3, capacity: 10/s, image: { memory: 256 MiB }{{finance}} }
        balancer: { kind: simulation }
        oracle: { interval: 1s{{oracle}} }
        simulation: { seed: 1, bootTime: 20ms, wakeTime: 5ms }
        """);

    private Task<PoolSession> Open(bool forChange = true) => PoolSession.OpenAsync(Pool, forChange, CancellationToken.None);

    private static async Task<ServerInfo> Make(PoolSession session, Stage stage, string host, TimeSpan? hold = null)
    {
        var create = await session.PlanCreateAsync("FINANCE", 1, null, CancellationToken.None);
        await session.CarryOutAsync(create, TimeSpan.Zero, null, CancellationToken.None);
        var record = Assert.Single(await session.CarryOutAsync([await session.PlanMoveAsync(create[0].ServerId, stage, host, false, CancellationToken.None)], hold ?? TimeSpan.Zero, null, CancellationToken.None));
        Assert.True(record.Status is MoveStatus.Done, record.Error);
        return (await session.GetServersAsync(false, null, CancellationToken.None)).Single(s => s.Id == create[0].ServerId);
    }

    private static async Task<ServerInfo> Find(PoolSession session, Guid id) => (await session.GetServersAsync(false, null, CancellationToken.None)).Single(s => s.Id == id);

    private static async Task<IReadOnlyList<MoveRecord>> Suspend(PoolSession session, string host, bool force = false, Action<string>? warned = null)
    {
        await session.SuspendHostAsync(host, false, null, CancellationToken.None);
        return await session.EvacuateAsync([host], force, null, CancellationToken.None, warned);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Hosts_that_are_emptied_together_give_no_server_to_each_other(bool whatIf)
    {
        // A host takes one server: there is room for both on host4 and host5, and on host1, which each alone would choose and is emptied too.
        Write(hosts: 5);
        await using var session = await Open();
        ServerInfo[] servers = [await Make(session, Stage.Matrix, "host2"), await Make(session, Stage.Matrix, "host3")];
        string[] emptied = ["host2", "host3", "HOST1"];
        IReadOnlyList<Move> moves;
        if (whatIf)
        {
            await using var reading = await Open(forChange: false);
            moves = (await reading.PlanEvacuationAsync(emptied, false, CancellationToken.None)).Moves;
            Assert.Equal(["host2", "host3"], (await session.GetServersAsync(false, null, CancellationToken.None)).Select(s => s.Host).Order());
        }
        else
        {
            foreach (var host in emptied)
                await session.SuspendHostAsync(host, false, null, CancellationToken.None);
            var records = await session.EvacuateAsync(emptied, false, null, CancellationToken.None);
            Assert.All(records, r => Assert.True(r.Status is MoveStatus.Done, r.Error));
            moves = [.. records.Select(r => r.Move)];
        }

        // Each moves once, and the two know of each other's room.
        Assert.Equal(servers.Select(s => s.Id).Order(), moves.Select(m => m.ServerId).Order());
        Assert.Equal(["host4", "host5"], moves.Select(m => m.ToHost).Order());
    }

    [Theory]
    [InlineData("", ", mode: shadow", 0)]
    [InlineData("", ", mode: confirm", 0)]
    [InlineData(", mode: shadow", "", 0)]
    [InlineData("", "", 600)]
    public async Task Servers_go_to_hosts_with_room_whatever_the_mode_and_though_they_are_held(string finance, string oracle, int heldSeconds)
    {
        Write(finance, oracle);
        await using var session = await Open();
        var server = await Make(session, Stage.Matrix, "host1", TimeSpan.FromSeconds(heldSeconds));
        var record = Assert.Single(await Suspend(session, "host1"));
        Assert.True(record.Status is MoveStatus.Done, record.Error);
        var after = await Find(session, server.Id);
        Assert.Equal(Stage.Matrix, after.Stage);
        Assert.Contains(after.Host, new[] { "host2", "host3" });
    }

    [Fact]
    public async Task A_server_in_a_window_without_moves_stays_with_the_reason_and_goes_with_force()
    {
        Write(", freeze: [{ from: \"00:00\", to: \"00:00\" }]");
        await using var session = await Open();
        var server = await Make(session, Stage.Matrix, "host1");
        var record = Assert.Single(await Suspend(session, "host1"));
        Assert.Equal((MoveStatus.Refused, "FrozenWindow"), (record.Status, record.ErrorId));
        Assert.Contains("It stays on host1", record.Error);
        Assert.Equal(("host1", Stage.Matrix), ((await Find(session, server.Id)).Host, (await Find(session, server.Id)).Stage));

        record = Assert.Single(await Suspend(session, "host1", force: true));
        Assert.True(record.Status is MoveStatus.Done, record.Error);
        Assert.NotEqual("host1", (await Find(session, server.Id)).Host);
    }

    [Fact]
    public async Task Where_no_host_has_room_the_server_serves_on_and_it_is_told_why()
    {
        Write(hosts: 2);
        await using var session = await Open();
        var one = await Make(session, Stage.Matrix, "host1");
        await Make(session, Stage.Matrix, "host2");
        var record = Assert.Single(await Suspend(session, "host1"));
        Assert.Equal((MoveStatus.Refused, "NoRoom"), (record.Status, record.ErrorId));
        Assert.Contains("host2", record.Error);
        Assert.Equal((Stage.Matrix, PowerState.Running), ((await Find(session, one.Id)).Stage, (await Find(session, one.Id)).Power));
    }

    [Fact]
    public async Task A_server_in_the_chamber_goes_to_another_chamber_host()
    {
        Write(chambers: "2");
        await using var session = await Open();
        var server = await Make(session, Stage.Chamber, "chamber1");
        var record = Assert.Single(await Suspend(session, "chamber1"));
        Assert.True(record.Status is MoveStatus.Done, record.Error);
        Assert.Equal(("chamber2", Stage.Chamber), ((await Find(session, server.Id)).Host, (await Find(session, server.Id)).Stage));
    }

    [Fact]
    public async Task A_server_of_a_service_that_the_pool_file_no_longer_names_stays_and_is_told()
    {
        Write();
        Guid id;
        await using (var session = await Open())
            id = (await Make(session, Stage.Matrix, "host1")).Id;
        File.WriteAllText(Pool, File.ReadAllText(Pool).Replace("name: FINANCE", "name: OTHER", StringComparison.Ordinal));
        await using var later = await Open();
        var record = Assert.Single(await Suspend(later, "host1"));
        Assert.Equal((MoveStatus.Refused, "ServiceNotFound"), (record.Status, record.ErrorId));
        Assert.Equal(Stage.Matrix, (await Find(later, id)).Stage);
    }

    [Fact]
    public async Task The_load_is_not_waited_for()
    {
        Write();
        await using var session = await Open();
        var server = await Make(session, Stage.Matrix, "host1");

        // Nobody can say what the load is.
        var world = SimulatedWorld.Open(session.Spec, TimeProvider.System);
        using var stop = new CancellationTokenSource();
        for (int i = 0; i < 200; i++)
            world.Inject(new SimulatedFault { Operation = "Read", Kind = FaultKind.Hang, Count = 1000 });
        var evacuation = await session.PlanEvacuationAsync(["host1"], false, CancellationToken.None);
        Assert.Equal(server.Id, Assert.Single(evacuation.Moves).ServerId);
    }

    [Fact]
    public async Task What_would_be_moved_is_told_by_a_session_that_only_reads_and_nothing_is_changed()
    {
        Write();
        await using (var session = await Open())
            await Make(session, Stage.Matrix, "host1");
        await using var reading = await Open(forChange: false);
        var evacuation = await reading.PlanEvacuationAsync(["HOST1"], false, CancellationToken.None);
        var move = Assert.Single(evacuation.Moves);
        Assert.Equal((MoveKind.Relocate, "host1", Stage.Matrix), (move.Kind, move.FromHost, move.ToStage));
        Assert.NotEqual("host1", move.ToHost);
        Assert.Empty(evacuation.Left);
        Assert.All(await reading.GetHostsAsync(CancellationToken.None), h => Assert.False(h.Suspended));
        Assert.Equal("host1", Assert.Single(await reading.GetServersAsync(false, null, CancellationToken.None)).Host);
    }

    [Fact]
    public async Task A_host_that_does_not_answer_is_suspended_with_a_warning()
    {
        Write();
        await using var session = await Open();
        await Make(session, Stage.Matrix, "host1");
        SimulatedWorld.Open(session.Spec, TimeProvider.System).SetHost("host1", HostCondition.CutOff);
        var warnings = new List<string>();
        Assert.Empty(await Suspend(session, "host1", warned: warnings.Add));
        Assert.Contains("does not answer", Assert.Single(warnings), StringComparison.Ordinal);
        Assert.True((await session.GetHostsAsync(CancellationToken.None)).Single(h => h.Name == "host1").Suspended);
    }

    [Fact]
    public async Task Those_who_choose_the_same_host_at_once_choose_again()
    {
        // Each plans when nothing has moved yet, so that all choose the same host; one server is all that a host takes.
        Write(hosts: 6);
        const int Movers = 3;
        var sessions = new List<PoolSession>();
        try
        {
            for (int i = 0; i < Movers; i++)
                sessions.Add(await Open());
            var creates = await sessions[0].PlanCreateAsync("FINANCE", Movers, null, CancellationToken.None);
            await sessions[0].CarryOutAsync(creates, TimeSpan.Zero, null, CancellationToken.None);
            var moves = new List<Move>();
            for (int i = 0; i < Movers; i++)
                moves.Add(await sessions[i].PlanMoveAsync(creates[i].ServerId, Stage.Matrix, null, false, CancellationToken.None));
            Assert.Single(moves.Select(m => m.ToHost).Distinct());

            var records = await Task.WhenAll(sessions.Select((s, i) => Task.Run(() => s.CarryOutAsync([moves[i]], TimeSpan.Zero, null, CancellationToken.None, [moves[i].Id]))));
            Assert.All(records.SelectMany(r => r), r => Assert.True(r.Status is MoveStatus.Done, r.Error));
            Assert.Equal(moves.Select(m => m.Id), records.Select(r => Assert.Single(r).Id));
            Assert.Equal(Movers, (await sessions[0].GetServersAsync(false, null, CancellationToken.None)).Select(s => s.Host).Distinct().Count());

            // Who names the host gets that one or none.
            var created = await sessions[0].PlanCreateAsync("FINANCE", 1, null, CancellationToken.None);
            await sessions[0].CarryOutAsync(created, TimeSpan.Zero, null, CancellationToken.None);
            string taken = records[0][0].Move.ToHost!;
            var named = Assert.Single(await sessions[0].CarryOutAsync([moves[0] with { Id = Guid.NewGuid(), ServerId = created[0].ServerId, ServerName = created[0].ServerName, ToHost = taken }], TimeSpan.Zero, null, CancellationToken.None));
            Assert.Equal((MoveStatus.Refused, "NoRoom"), (named.Status, named.ErrorId));
        }
        finally
        {
            foreach (var session in sessions)
                await session.DisposeAsync();
        }
    }
}
