using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using VMatrix.Oracle.Screens;

namespace VMatrix.Oracle.Demo;

/// <summary>One run of the demo's load over its pool, with or without an Oracle.</summary>
internal sealed class DemoRun(DemoPool pool, Screen screen, string name)
{
    private readonly ConcurrentDictionary<Guid, Plan> _plans = new();
    private readonly ConcurrentDictionary<Guid, MoveRecord> _moves = new();
    private readonly List<(int Second, IReadOnlyDictionary<string, int> Servers)> _servers = [];

    /// <summary>What became of each request.</summary>
    public IReadOnlyList<RequestResult> Results { get; private set; } = [];

    /// <summary>When the load began.</summary>
    public DateTimeOffset BegunAt { get; private set; }

    /// <summary>The moves that were done, and when each was decided.</summary>
    public IEnumerable<(DateTimeOffset DecidedAt, MoveRecord Move)> Decided() =>
        _moves.Values.Where(move => move.Status == MoveStatus.Done && move.PlanId is { } id && _plans.ContainsKey(id)).Select(move => (_plans[move.PlanId!.Value].CreatedAt, move));

    /// <summary>Servers of a service that took traffic at a moment of the run.</summary>
    public int ServersAt(string service, TimeSpan at) =>
        _servers.LastOrDefault(sample => sample.Second <= at.TotalSeconds).Servers?.GetValueOrDefault(service) ?? 0;

    /// <summary>Carries it out.</summary>
    /// <param name="arrivals">The load.</param>
    /// <param name="switching">True to let an Oracle switch meanwhile.</param>
    /// <param name="cancellation">Cuts it short.</param>
    public async Task CarryOutAsync(IReadOnlyList<Arrival> arrivals, bool switching, CancellationToken cancellation)
    {
        using var load = new LoadGenerator(pool.Urls, new HAProxySocket(pool.Balancer.SocketAddress, TimeProvider.System), TimeProvider.System);
        using var done = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        await screen.RunAsync(pool.Session, async () =>
        {
            Task counting = CountServersAsync(done.Token);
            Task oracle = switching ? SwitchAsync(done.Token) : Task.CompletedTask;
            try
            {
                BegunAt = TimeProvider.System.GetUtcNow();
                Task<IReadOnlyList<RequestResult>> loading = load.RunAsync(name, arrivals, ended: null, done.Token);
                // An Oracle that ends before it is told to has failed.
                if (switching && await Task.WhenAny(loading, oracle) == oracle)
                    await oracle;
                Results = await loading;
            }
            finally
            {
                await done.CancelAsync();
                await counting;
                await oracle;
            }
        }, cancellation);
    }

    /// <summary>The run in figures.</summary>
    public RunSummary Summarize() => new(
        name,
        [
            .. pool.Session.Spec.Services.Select(service => ServiceSummary.Of(service.Name, Results,
                [.. _servers.Select(sample => new ServerCount(sample.Second, sample.Servers.GetValueOrDefault(service.Name)))])),
        ],
        _moves.Values.Where(move => move.Status == MoveStatus.Done).Select(move => move.PlanId).Distinct().Count(),
        _moves.Values.Count(move => move.Status == MoveStatus.Done && move.Move.IsDrop));

    /// <summary>For each wake, the time from its plan to the first request that the woken server answered. A server that was sent nothing before it slept again tells nothing.</summary>
    public IReadOnlyList<double> WakeSeconds()
    {
        ILookup<string, RequestResult> served = Results.Where(result => result.Outcome == Outcome.Served && result.Server is not null).OrderBy(result => result.EndedAt).ToLookup(result => result.Server!);
        var seconds = new List<double>();
        foreach (MoveRecord wake in _moves.Values.Where(move => move.Move.Kind == MoveKind.Wake && move.Move.ToStage == Stage.Matrix && move.Status == MoveStatus.Done).OrderBy(move => move.StartedAt))
        {
            if (wake.PlanId is not { } id || !_plans.TryGetValue(id, out Plan? plan))
                continue;
            DateTimeOffset until = _moves.Values.Where(move => move.Move.ServerId == wake.Move.ServerId && move.StartedAt > wake.StartedAt).Select(move => (DateTimeOffset?)move.StartedAt).Min() ?? DateTimeOffset.MaxValue;
            if (served[HAProxyBalancer.ServerName(wake.Move.ServerId)].FirstOrDefault(result => result.EndedAt > plan.CreatedAt && result.EndedAt < until) is { } first)
                seconds.Add(Math.Round((first.EndedAt - plan.CreatedAt).TotalSeconds, 3));
        }

        return seconds;
    }

    private async Task SwitchAsync(CancellationToken cancellation)
    {
        try
        {
            await pool.Session.RunAsync("vmatrix-oracle demo", interval: null, plan =>
            {
                _plans[plan.Id] = plan;
                screen.Planned(plan);
            }, new Follower(this), cancellation);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // the run is over
        }
    }

    private async Task CountServersAsync(CancellationToken cancellation)
    {
        long begun = TimeProvider.System.GetTimestamp();
        for (int second = 0; ; second++)
        {
            try
            {
                TimeSpan wait = TimeSpan.FromSeconds(second) - TimeProvider.System.GetElapsedTime(begun);
                if (wait > TimeSpan.Zero)
                    await Task.Delay(wait, cancellation);
                BalancerReport report = await pool.Balancer.ReadAsync(cancellation);
                _servers.Add((second, report.Members.Where(member => member.State == MemberState.Ready).GroupBy(member => member.Service).ToDictionary(members => members.Key, members => members.Count())));
            }
            catch (OperationCanceledException)
            {
                return;
            }
            catch (VMatrixException)
            {
                // a second without an answer is a second without a sample
            }
        }
    }

    private void Follow(MoveRecord record)
    {
        _moves[record.Id] = record;
        screen.Report(record);
    }

    private sealed class Follower(DemoRun run) : IProgress<MoveRecord>
    {
        public void Report(MoveRecord value) => run.Follow(value);
    }
}
