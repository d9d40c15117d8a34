using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests;

/// <summary>Stored plans, approvals and modes, on a simulated pool and its real state folder.</summary>
public sealed class PlanTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-plans-").FullName;

    private string Pool => Path.Combine(_folder, "pool.yaml");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private void Write(string finance = "", string oracle = "") => File.WriteAllText(Pool, $$"""
        pool: plans
        hypervisor: simulation
        hosts:
          - { name: host1, memory: 1 GiB }
          - { name: host2, memory: 1 GiB }
          - { name: host3, memory: 1 GiB }
        services:
          - { name: FINANCE, priority: 4, least: 1, most: 3, capacity: 10/s, image: { memory: 256 MiB }{{finance}} }
          - { name: SPORTS, least: 1, most: 3, capacity: 10/s, image: { memory: 128 MiB } }
        balancer: { kind: simulation }
        oracle: { interval: 1s{{oracle}} }
        simulation: { seed: 1, bootTime: 50ms, wakeTime: 5ms }
        """);

    private Task<PoolSession> Open() => PoolSession.OpenAsync(Pool, forChange: true, CancellationToken.None);

    [Fact]
    public async Task A_plan_is_kept_with_what_it_was_made_from_and_makes_the_same_plan_again()
    {
        Write();
        await using var session = await Open();
        var plan = await session.PlanSwitchAsync(CancellationToken.None);

        var record = await session.GetPlanAsync(plan.Id, CancellationToken.None);
        Assert.Equal((PlanStatus.Ready, true, plan.Hash), (record.Status, record.Explainable, record.Hash));
        using var state = StateFolder.Open(session.Spec.StateFolder, create: false);
        var again = Planner.Plan(state.LoadInput(plan.Id)).Plan;
        Assert.Equal(plan.Hash, state.StorePlan(again).Hash);

        await session.SwitchAsync(plan.Id, null, CancellationToken.None);
        Assert.Equal(PlanStatus.Done, (await session.GetPlanAsync(plan.Id, CancellationToken.None)).Status);
        state.TrimPlans(DateTimeOffset.UtcNow.AddDays(-1), most: 0);
        Assert.Empty(Directory.GetFiles(Path.Combine(session.Spec.StateFolder, "plans")));
        Assert.Equal("PlanInputMissing", Assert.Throws<VMatrixException>(() => state.LoadInput(plan.Id)).Id);
        Assert.Equal("PlanNotFound", (await Assert.ThrowsAsync<VMatrixException>(() => session.GetPlanAsync(plan.Id, CancellationToken.None))).Id);
    }

    [Fact]
    public async Task A_session_for_reading_plans_and_stores_nothing()
    {
        Write(oracle: ", mode: confirm");
        await using (var session = await Open())
        {
            _ = await session.PlanSwitchAsync(CancellationToken.None);
            foreach (var file in Directory.GetFiles(Path.Combine(session.Spec.StateFolder, "plans")))
                File.SetLastWriteTimeUtc(file, DateTime.UtcNow.AddDays(-30));
            using var state = StateFolder.Open(session.Spec.StateFolder, create: false);
            state.Overrides.SetHost(new HostOverride { Host = "host1", ConfirmedDead = true, By = "Anna", At = DateTimeOffset.UtcNow });
        }

        File.Delete(Path.Combine(_folder, ".vmatrix", "memory.json"));
        var before = Written();
        await using (var reading = await PoolSession.OpenAsync(Pool, forChange: false, CancellationToken.None))
        {
            var plan = await reading.PlanSwitchAsync(CancellationToken.None);
            Assert.NotEmpty(plan.Moves);
            Assert.Equal("PlanNotFound", (await Assert.ThrowsAsync<VMatrixException>(() => reading.GetPlanAsync(plan.Id, CancellationToken.None))).Id);
        }

        Assert.Equal(before, Written());

        // What SQLite keeps beside an open database is no content of ours.
        string[] Written() => [.. Directory.GetFiles(_folder, "*", SearchOption.AllDirectories).Where(f => !Path.GetFileName(f).StartsWith("history.db", StringComparison.Ordinal)).Order()
            .Select(f => $"{f} {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(f)))}")];
    }

    [Fact]
    public async Task What_wakes_took_and_copied_is_known_to_the_next_process_too()
    {
        Write();
        TimeSpan took;
        await using (var session = await Open())
        {
            // The first plan makes and wakes a server of each; FINANCE's goes to sleep and is woken again, with its memory.
            await session.SwitchAsync((await session.PlanSwitchAsync(CancellationToken.None)).Id, null, CancellationToken.None);
            var finance = (await session.GetServersAsync(false, null, CancellationToken.None)).Single(s => s.Service == "FINANCE");
            foreach (var stage in new[] { Stage.Nest, Stage.Matrix })
                await session.CarryOutAsync([await session.PlanMoveAsync(finance.Id, stage, null, live: false, CancellationToken.None)], TimeSpan.Zero, null, CancellationToken.None);
            var wakes = (await session.GetMovesAsync(null, 100, CancellationToken.None)).Where(m => m.Move is { Kind: MoveKind.Wake, Service: "FINANCE" }).ToList();
            Assert.Equal(2, wakes.Count);
            Assert.Equal(wakes[1].Bytes + (256 << 20), wakes[0].Bytes);
            took = wakes.Max(w => w.Duration!.Value);
        }

        await using var other = await Open();
        var plan = await other.PlanSwitchAsync(CancellationToken.None);
        var story = (await other.ExplainAsync(plan.Id, null, "FINANCE", CancellationToken.None)).Services.Single();
        Assert.True(story.WakeTime > TimeSpan.Zero && story.WakeTime <= took, $"{story.WakeTime}, at most {took}");
        Assert.True(story.WakeBytes > 256 << 20 && story.ActivationCost > other.Spec.Oracle.ActivationCost, $"{story.WakeBytes} bytes cost {story.ActivationCost}");
    }

    [Fact]
    public async Task Moves_that_wait_are_carried_out_once_somebody_else_approves_them()
    {
        Write(finance: ", mode: confirm");
        await using var session = await Open();
        await using var other = await Open();
        using var stop = new CancellationTokenSource();
        var moves = new List<MoveRecord>();
        var running = session.RunAsync("test-oracle", TimeSpan.FromMilliseconds(100), null, new Told(moves), stop.Token);
        try
        {
            // SPORTS is switched by itself; FINANCE waits, in one plan that stays the same.
            await Until(async () => (await other.GetServersAsync(false, null, CancellationToken.None)).Any(s => s is { Service: "SPORTS", Stage: Stage.Matrix }));
            await Task.Delay(500);
            Assert.DoesNotContain(await other.GetServersAsync(false, null, CancellationToken.None), s => s.Service == "FINANCE");
            var waiting = Assert.Single(await other.GetPlansAsync(CancellationToken.None), p => p.Status is PlanStatus.Waiting);
            Assert.Contains("test-oracle", waiting.By);
            // What the Oracle planned since wishes the same, and is no way round the approval.
            foreach (var twin in (await other.GetPlansAsync(CancellationToken.None)).Where(p => p.Id != waiting.Id && p.Moves.Count > 0))
                Assert.True(twin.Status is PlanStatus.Superseded or PlanStatus.Begun or PlanStatus.Done, $"{twin.Status}");
            Assert.All(waiting.Waiting, id => Assert.Equal("FINANCE", waiting.Moves.Single(m => m.Id == id).Service));

            var approved = await other.ApprovePlanAsync(waiting.Id, CancellationToken.None);
            Assert.Contains(Environment.UserName, approved.ApprovedBy);
            await Until(async () => (await other.GetServersAsync(false, null, CancellationToken.None)).Any(s => s is { Service: "FINANCE", Stage: Stage.Matrix }));
            var after = await other.GetPlanAsync(waiting.Id, CancellationToken.None);
            Assert.Equal((PlanStatus.Done, approved.ApprovedBy), (after.Status, after.ApprovedBy));
            Assert.Equal("PlanNotWaiting", (await Assert.ThrowsAsync<VMatrixException>(() => other.ApprovePlanAsync(waiting.Id, CancellationToken.None))).Id);
            await Until(async () => (await other.GetMovesAsync(null, 100, CancellationToken.None)).Any(m => m.PlanId == waiting.Id && m.Move.Service == "FINANCE" && m.Status is MoveStatus.Done && m.By.Contains("approved by", StringComparison.Ordinal)));
        }
        finally
        {
            await stop.CancelAsync();
            await running;
        }

        Assert.Single(await other.GetServersAsync(false, null, CancellationToken.None), s => s.Service == "FINANCE");
    }

    [Fact]
    public async Task A_plan_that_waits_is_not_carried_out_by_its_id_nor_approved_too_late_or_beside_another()
    {
        Write(oracle: ", mode: confirm, planExpiry: 1s");
        await using var session = await Open();
        var late = await session.PlanSwitchAsync(CancellationToken.None);
        Assert.Equal("PlanNotApproved", (await Assert.ThrowsAsync<VMatrixException>(() => session.SwitchAsync(late.Id, null, CancellationToken.None))).Id);
        await Task.Delay(TimeSpan.FromSeconds(1.1));
        Assert.Equal(PlanStatus.Expired, (await session.GetPlanAsync(late.Id, CancellationToken.None)).Status);
        Assert.Equal("PlanExpired", (await Assert.ThrowsAsync<VMatrixException>(() => session.ApprovePlanAsync(late.Id, CancellationToken.None))).Id);

        Write(oracle: ", mode: confirm");
        await using var patient = await Open();
        var first = await patient.PlanSwitchAsync(CancellationToken.None);
        var second = await patient.PlanSwitchAsync(CancellationToken.None);
        _ = await patient.ApprovePlanAsync(first.Id, CancellationToken.None);
        var error = await Assert.ThrowsAsync<VMatrixException>(() => patient.ApprovePlanAsync(second.Id, CancellationToken.None));
        Assert.Equal("PlanSuperseded", error.Id);
        Assert.Contains(first.Id.ToString(), error.Message);

        var records = await patient.SwitchAsync(first.Id, null, CancellationToken.None);
        Assert.All(records, r => Assert.Equal(MoveStatus.Done, r.Status));
        Assert.Equal(2, (await patient.GetServersAsync(false, null, CancellationToken.None)).Count(s => s.Stage is Stage.Matrix));
    }

    [Fact]
    public async Task An_approval_is_for_what_was_seen()
    {
        Write(oracle: ", mode: confirm");
        await using var session = await Open();
        var plan = await session.PlanSwitchAsync(CancellationToken.None);
        using var state = StateFolder.Open(session.Spec.StateFolder, create: false);
        state.Overrides.SetApproval(new PlanApproval { PlanId = plan.Id, Hash = new string('0', 64), By = "somebody", At = DateTimeOffset.UtcNow });

        Assert.Equal(PlanStatus.Waiting, (await session.GetPlanAsync(plan.Id, CancellationToken.None)).Status);
        foreach (var progress in Directory.GetFiles(Path.Combine(session.Spec.StateFolder, "plans"), "*.progress"))
            File.Delete(progress);
        Assert.Equal("PlanNotApproved", (await Assert.ThrowsAsync<VMatrixException>(() => session.SwitchAsync(plan.Id, null, CancellationToken.None))).Id);
    }

    [Fact]
    public async Task A_window_that_began_since_the_plan_was_made_keeps_its_service_where_it_is()
    {
        Write();
        await using (var session = await Open())
        {
            var plan = await session.PlanSwitchAsync(CancellationToken.None);
            Write(finance: ", freeze: [{ from: \"00:00\", to: \"00:00\" }]");
            await using var later = await Open();
            var records = await later.SwitchAsync(plan.Id, null, CancellationToken.None);
            Assert.All(records.Where(r => r.Move.Service == "FINANCE"), r => Assert.Equal(MoveStatus.Refused, r.Status));
            Assert.Contains("window", records.First(r => r.Move.Service == "FINANCE").Error);
            Assert.All(records.Where(r => r.Move.Service == "SPORTS"), r => Assert.Equal(MoveStatus.Done, r.Status));
            Assert.Equal(2, records.Select(r => r.Move.Service).Distinct().Count());
        }
    }

    [Fact]
    public async Task A_shadowed_pool_is_planned_and_scored_and_never_acted_on()
    {
        Write(oracle: ", mode: shadow");
        await using var session = await Open();
        using var stop = new CancellationTokenSource();
        var plans = new List<Plan>();
        var running = session.RunAsync("test-oracle", TimeSpan.FromMilliseconds(100), p => { lock (plans) plans.Add(p); }, null, stop.Token);
        try
        {
            await Until(() => { lock (plans) return Task.FromResult(plans.Count > 5); });
        }
        finally
        {
            await stop.CancelAsync();
            await running;
        }

        Assert.All(plans, p => Assert.Empty(p.Moves));
        Assert.Contains(plans[^1].Refused, r => r.What.Contains("wake 1 server of FINANCE", StringComparison.Ordinal) && r.Reason.Contains("shadow", StringComparison.Ordinal));
        Assert.Empty(await session.GetServersAsync(false, null, CancellationToken.None));
        var finance = (await session.GetServicesAsync(CancellationToken.None)).Single(s => s.Name == "FINANCE");
        Assert.NotNull(finance.Shadow);
        Assert.True(finance.Shadow.Minutes > 0);
        Assert.True(finance.Shadow.OracleServerMinutes > 0 && finance.Shadow.ServerMinutes == 0);
    }

    [Fact]
    public async Task A_host_that_had_a_server_of_an_image_keeps_its_blocks_and_goes_first()
    {
        Write(oracle: ", calm: 1s");
        await using var session = await Open();
        var first = await session.PlanSwitchAsync(CancellationToken.None);
        await session.SwitchAsync(first.Id, null, CancellationToken.None);
        var finance = (await session.GetServersAsync(false, null, CancellationToken.None)).Single(s => s.Service == "FINANCE");
        await session.CarryOutAsync([await session.PlanMoveAsync(finance.Id, null, "host3", false, CancellationToken.None)], TimeSpan.Zero, null, CancellationToken.None);
        await session.CarryOutAsync([await session.PlanMoveAsync(finance.Id, Stage.Nest, null, false, CancellationToken.None)], TimeSpan.Zero, null, CancellationToken.None);

        var plan = await session.PlanSwitchAsync(CancellationToken.None);

        using var state = StateFolder.Open(session.Spec.StateFolder, create: false);
        var hosts = state.LoadInput(plan.Id).Hosts;
        Assert.All(hosts, h => Assert.Equal(h.Name == "host3" || h.Name == finance.Host, h.Images.Contains(finance.Image!)));
        Assert.Contains(hosts, h => !h.Images.Contains(finance.Image!));
        // Both that hold the blocks go before the one that does not.
        var wake = plan.Moves.Single(m => m is { Service: "FINANCE", ToStage: Stage.Matrix });
        Assert.Contains(wake.ToHost, new[] { "host3", finance.Host });
    }

    private static async Task Until(Func<Task<bool>> holds)
    {
        for (int i = 0; i < 400; i++)
        {
            if (await holds())
                return;
            await Task.Delay(50);
        }

        Assert.Fail("It did not come about within 20 seconds.");
    }

    private sealed class Told(List<MoveRecord> moves) : IProgress<MoveRecord>
    {
        public void Report(MoveRecord value)
        {
            lock (moves)
                moves.Add(value);
        }
    }
}
