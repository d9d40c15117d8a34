using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests;

/// <summary>What fits by hand, what fits when a move begins, and who is idle: from a pool file on, through the door.</summary>
public sealed class FeasibilityTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-fits-").FullName;

    private string Pool => Path.Combine(_folder, "pool.yaml");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private async Task<PoolSession> OpenAsync(string host = "", string service = "", string rest = "")
    {
        await File.WriteAllTextAsync(Pool, $$"""
            pool: fits
            hypervisor: simulation
            hosts:
              - { name: host1, memory: 4 GiB{{host}} }
              - { name: host2, memory: 4 GiB{{host}} }
            services:
              - { name: FINANCE, least: 1, capacity: 10/s, isolation: shared, image: { memory: 128 MiB }{{service}} }
            balancer: { kind: simulation }
            {{rest}}
            simulation: { seed: 1, bootTime: 1ms, wakeTime: 1ms, demand: [{ service: FINANCE, rate: 1/s }] }
            """);
        return await PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);
    }

    [Theory]
    [InlineData(", cores: 1", "", "", "host1 has 0 of its 1 cores free")]
    [InlineData(", licences: [SQL]", ", licence: SQL", "licences: [{ name: SQL, instancesPerHost: 1 }]", "host1 runs 1 of the 1 servers that the licence SQL allows")]
    [InlineData(", servers: 1", "", "", "host1 has 1 of 1 servers")]
    public async Task By_hand_a_host_takes_no_more_than_the_planner_would_place_there(string host, string service, string rest, string why)
    {
        await using var session = await OpenAsync(host, service, rest);
        var servers = await MakeAsync(session, 2);
        await CarryOutAsync(session, await session.PlanMoveAsync(servers[0], Stage.Matrix, "host1", false, CancellationToken.None));
        var error = await Assert.ThrowsAsync<VMatrixException>(() => session.PlanMoveAsync(servers[1], Stage.Matrix, "host1", false, CancellationToken.None));
        Assert.Equal("NoRoom", error.Id);
        Assert.Contains(why, error.Message, StringComparison.Ordinal);
        // Where the host is chosen, the other one is.
        Assert.Equal("host2", (await session.PlanMoveAsync(servers[1], Stage.Matrix, null, false, CancellationToken.None)).ToHost);
    }

    [Theory]
    [InlineData(", cores: 1", "", "", "host1 has 1 cores for servers, 1 are taken or spoken for")]
    [InlineData(", licences: [SQL]", ", licence: SQL", "licences: [{ name: SQL, instancesPerHost: 1 }]", "the licence SQL allows 1 servers on one host")]
    public async Task A_move_made_before_another_took_the_place_is_refused_when_it_begins(string host, string service, string rest, string why)
    {
        await using var session = await OpenAsync(host, service, rest);
        var servers = await MakeAsync(session, 2);
        var late = await session.PlanMoveAsync(servers[1], Stage.Matrix, "host1", false, CancellationToken.None);
        await CarryOutAsync(session, await session.PlanMoveAsync(servers[0], Stage.Matrix, "host1", false, CancellationToken.None));
        var record = Assert.Single(await session.CarryOutAsync([late], TimeSpan.Zero, null, CancellationToken.None));
        Assert.Equal(MoveStatus.Refused, record.Status);
        Assert.Contains(why, record.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Moves_that_are_to_go_together_leave_each_other_room()
    {
        await using var session = await OpenAsync(", cores: 1");
        var servers = await MakeAsync(session, 3);
        var first = await session.PlanMoveAsync(servers[0], Stage.Matrix, null, false, CancellationToken.None);
        var second = await session.PlanMoveAsync(servers[1], Stage.Matrix, null, false, CancellationToken.None, [first]);
        Assert.NotEqual(first.ToHost, second.ToHost);
        Assert.Equal("NoRoom", (await Assert.ThrowsAsync<VMatrixException>(() => session.PlanMoveAsync(servers[2], Stage.Matrix, null, false, CancellationToken.None, [first, second]))).Id);
    }

    [Fact]
    public async Task What_the_balancer_tells_of_open_requests_reaches_the_plan_and_the_idle_server_goes()
    {
        await using var session = await OpenAsync(rest: "oracle: { interval: 1s, calm: 0s }");
        var servers = await MakeAsync(session, 2);
        foreach (var server in servers)
            await CarryOutAsync(session, await session.PlanMoveAsync(server, Stage.Matrix, null, false, CancellationToken.None));
        var plan = await session.PlanSwitchAsync(CancellationToken.None);
        using var state = StateFolder.Open(session.Spec.StateFolder, create: false);
        var seen = state.LoadInput(plan.Id).Servers;
        // One request a second, of a tenth of a second each, keeps one of them busy.
        Assert.Equal([0, 1], seen.Select(s => s.OpenRequests).Order());
        Assert.All(seen, s => Assert.True(s.Sampled));
        Assert.Equal(1, plan.SampleCoverage);
        var idle = seen.Single(s => s.OpenRequests == 0).Mark.Name;
        Assert.Equal((MoveKind.Hibernate, idle), (plan.Moves.Single().Kind, plan.Moves.Single().ServerName));
    }

    [Fact]
    public void What_a_balancer_does_not_count_or_tells_wrongly_is_not_known()
    {
        var (counted, not, wrong) = (Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());
        BalancerMember Member(Guid id) => new() { Service = "FINANCE", ServerId = id, Address = "", State = MemberState.Ready, Open = 2 };
        var told = new BalancerTold(new BalancerReport
        {
            At = default,
            Incarnation = "1",
            Members = [Member(counted), Member(not) with { CountsOpen = false }, Member(wrong) with { Open = -1 }, Member(Guid.Empty), null!],
            Services = [],
        }, null);
        Assert.Equal([2, null, null, null], new[] { counted, not, wrong, Guid.Empty }.Select(told.OpenAt));
        Assert.Equal([true, true, false, false], new[] { counted, not, wrong, Guid.Empty }.Select(told.Sampled));
        // Where load comes from processors, one that was not measured has no good sample.
        var measured = new BalancerTold(new BalancerReport { At = default, Incarnation = "1", Members = [Member(counted), Member(not)], Services = [] }, new Dictionary<Guid, double> { [counted] = 0.5 });
        Assert.Equal([true, false], new[] { counted, not }.Select(measured.Sampled));
        Assert.Equal([0.5, null], new[] { counted, not }.Select(measured.ProcessorUseOf));
    }

    private static async Task<Guid[]> MakeAsync(PoolSession session, int count)
    {
        var moves = await session.PlanCreateAsync("FINANCE", count, null, CancellationToken.None);
        await CarryOutAsync(session, [.. moves]);
        return [.. moves.Select(m => m.ServerId)];
    }

    private static async Task CarryOutAsync(PoolSession session, params Move[] moves) =>
        Assert.All(await session.CarryOutAsync(moves, TimeSpan.Zero, null, CancellationToken.None), r => Assert.True(r.Status is MoveStatus.Done, r.Error));
}
