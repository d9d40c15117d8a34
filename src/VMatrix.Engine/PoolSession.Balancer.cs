using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;

namespace VMatrix;

/// <content>The balancer beside what runs: what it lost is given to it again, and a server that gets no requests says so.</content>
public sealed partial class PoolSession
{
    /// <summary>Who looks at servers does not wait longer for a balancer.</summary>
    private static readonly TimeSpan s_balancerWithin = TimeSpan.FromSeconds(5);

    /// <summary>After a repair that did not succeed whole the next one waits, each time twice as long.</summary>
    private static readonly TimeSpan s_repairSoonest = TimeSpan.FromSeconds(15), s_repairLatest = TimeSpan.FromMinutes(10);

    private TimeSpan _repairWait = s_repairSoonest;
    private long _repairFailed;
    private bool _repairDue;

    /// <summary>Services whose call ended the wait before: what could not be done for them then is not tried sooner than at the next tick.</summary>
    private string[] _called = [];

    /// <summary>Looks at the setup of a balancer that the pool joins: adds a server to each backend and removes it again, and compares. Empty where nothing is wrong, or where the pool owns its balancer.</summary>
    /// <exception cref="VMatrixException">What kept the balancer from being looked at, such as <c>BalancerUnreachable</c>; <c>PoolNotOwned</c> for root.</exception>
    public static async Task<IReadOnlyList<BalancerFinding>> CheckBalancerAsync(string path, CancellationToken cancellation)
    {
#if NET
        Files.OwnFolder.CheckPoolFile(Path.GetFullPath(path));
        var (pool, _) = Pools.PoolFile.Read(path);
        if (pool is not { Balancer: { Kind: "haproxy", Own: false } })
            return [];
        await using var balancer = new HAProxy.HAProxyBalancer(pool, TimeProvider.System);
        return await balancer.ExamineAsync(trial: true, cancellation);
#else
        cancellation.ThrowIfCancellationRequested();
        return await Task.FromResult<IReadOnlyList<BalancerFinding>>([]);
#endif
    }

    /// <summary>Makes sure before a switch or a move that the balancer answers and, where it was started since it was last seen whole, that it has its servers again.</summary>
    private async Task ReadyBalancerAsync(Mover mover, MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        await EnsureBalancerAsync(cancellation);
        var report = await mover.TryAsync("Reading the balancer", Spec.Limits.StepTimeout, _drivers.Balancer.ReadAsync, cancellation);
        if (_repairDue || report.Incarnation != ReadBalancerRun())
            _ = await RepairBalancerAsync(mover, context, report.Incarnation, progress, cancellation);
    }

    /// <summary>Gives the balancer the servers that it lacks, and remembers its run when that succeeded whole.</summary>
    private async Task<ReconcileResult> RepairBalancerAsync(Mover mover, MoveContext context, string run, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        var result = await mover.ReconcileAsync(context, progress, cancellation);
        var whole = result.Problems.Count == 0 && result.Joined.All(m => m.Status is MoveStatus.Done);
        if (whole)
        {
            _repairWait = s_repairSoonest;
            WriteBalancerRun(run);
        }
        else
        {
            _repairWait = _repairWait + _repairWait < s_repairLatest ? _repairWait + _repairWait : s_repairLatest;
        }

        _repairFailed = _clock.GetTimestamp();
        _repairDue = false;
        return result;
    }

    /// <summary>Gives a balancer that went away and came back its servers again, and one that lacks some those: by itself, between two plans.</summary>
    /// <returns>The balancer's run; null when it has to be looked at again.</returns>
    private async Task<string?> KeepBalancerAsync(Mover mover, MoveContext context, string? incarnation, CancellationToken cancellation)
    {
        try
        {
            var report = await _reads.BalancerAsync(_drivers.Balancer, cancellation);
            if (report.Incarnation != incarnation)
            {
                // Its owner may have changed what it is set up with.
                await EnsureBalancerAsync(cancellation);
                _ = await RepairBalancerAsync(mover, context, report.Incarnation, null, cancellation);
            }
            else if (_repairDue && _clock.GetElapsedTime(_repairFailed) >= _repairWait)
            {
                _ = await RepairBalancerAsync(mover, context, report.Incarnation, null, cancellation);
            }

            return report.Incarnation;
        }
        catch (Exception error) when (error is not AbandonException && !(error is OperationCanceledException && cancellation.IsCancellationRequested) && !(error is VMatrixException told && EndsRun(told)))
        {
            if (error is VMatrixException { Kind: VMatrixErrorKind.Unreachable })
                await TryEnsureAsync(cancellation);
            return null;
        }
    }

    /// <summary>Makes sure of the balancer, within a step's time.</summary>
    /// <exception cref="VMatrixException"><c>BalancerUnreachable</c>, and what the driver tells.</exception>
    private async Task EnsureBalancerAsync(CancellationToken cancellation)
    {
        using var deadline = _clock.Deadline(Spec.Limits.StepTimeout);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            var work = _drivers.Balancer.EnsureAsync(both.Token);
            await work.UntilAsync(both.Token);
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            throw new VMatrixException("BalancerUnreachable", VMatrixErrorKind.Unreachable, $"The balancer was not ready within {Planning.Words.Seconds(Spec.Limits.StepTimeout)} (limits.stepTimeout). Look at its process and its log.", e) { IsTransient = true };
        }
    }

    private async Task TryEnsureAsync(CancellationToken cancellation)
    {
        try
        {
            await EnsureBalancerAsync(cancellation);
        }
        catch (VMatrixException)
        {
            // It stays away: the loads are bad samples and freeze the decisions, which say so.
        }
    }

    /// <summary>Waits for the next switch, or less: until somebody asks for a service that sleeps whole.</summary>
    private async Task WaitForCallAsync(Task tick, Plan? plan, CancellationToken cancellation)
    {
        string[] asleep = [.. (plan?.Decisions ?? []).Where(s => s.Has == 0 && s.Granted == 0).Select(s => s.Service).Except(_called)];
        _called = [];
        var every = Spec.Balancer.Kind is "haproxy" ? TimeSpan.FromMilliseconds(250) : TimeSpan.FromSeconds(2);
        if (asleep.Length > 0 && _sensor.Report is { } before && _trial is null && Spec.Balancer.Kind is not "nlb")
        {
            var counted = before.Services.ToDictionary(s => s.Service, s => s.Requests, StringComparer.OrdinalIgnoreCase);
            while (!tick.IsCompleted)
            {
                await Task.WhenAny(tick, _clock.WaitAsync(every, cancellation));
                if (tick.IsCompleted)
                    break;
                var (report, _) = await AskBalancerAsync(cancellation);
                if (report is null || report.Incarnation != before.Incarnation)
                    break;
                _called = [.. report.Services.Where(s => asleep.Contains(s.Service) && (s.Queue > 0 || (counted.TryGetValue(s.Service, out var requests) && s.Requests > requests))).Select(s => s.Service)];
                if (_called.Length > 0)
                    return;
            }
        }

        await tick;
    }

    /// <summary>What the balancer holds; or why it cannot be asked.</summary>
    private async Task<(BalancerReport? Report, string? Silence)> AskBalancerAsync(CancellationToken cancellation)
    {
        using var deadline = _clock.Deadline(s_balancerWithin);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            return (await _reads.BalancerAsync(_drivers.Balancer, both.Token), null);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return (null, $"it did not answer within {Planning.Words.Seconds(s_balancerWithin)}");
        }
        catch (Exception e) when (e is not (AbandonException or OperationCanceledException))
        {
            return (null, e.Message.TrimEnd('.'));
        }
    }

    /// <summary>What is wrong with a balancer that the pool joins, as its setup shows without a change.</summary>
    private async Task<IReadOnlyList<string>> BalancerProblemsAsync(CancellationToken cancellation)
    {
        var (report, silence) = await AskBalancerAsync(cancellation);
        if (report is null)
            return [$"The balancer cannot be asked: {silence}."];
        if (_drivers.Balancer is not IExaminedBalancer examined)
            return [];
        try
        {
            return [.. (await examined.ExamineAsync(trial: false, cancellation)).Select(f => f.Text)];
        }
        catch (VMatrixException e)
        {
            return [e.Message];
        }
    }

    /// <summary>Servers with what the balancer does not do for them as their problem. Those whose move is under way are on their way in or out.</summary>
    private ServerInfo[] WithBalancer(IEnumerable<ServerInfo> servers, BalancerReport? report, string? silence)
    {
        var moving = new HashSet<Guid>(Claims().Select(m => m.ServerId));
        var members = (report?.Members ?? []).Where(m => m.ServerId != Guid.Empty).ToLookup(m => m.ServerId);
        return [.. servers.Select(server =>
        {
            if (server.Stage is not Stage.Matrix || server.Power is not PowerState.Running || moving.Contains(server.Id))
                return server;
            var problem = report is null ? silence is null ? null : $"The balancer cannot be asked whether it sends this server requests: {silence}."
                : BalancerProblem(server, members[server.Id].FirstOrDefault());
            return problem is null ? server : server with { Problem = server.Problem ?? problem };
        })];
    }

    private static string? BalancerProblem(ServerInfo server, BalancerMember? member) => member switch
    {
        null => "It is not in the balancer, so it gets no requests. The next switch puts it there, and so does Resume-VMatrixMove.",
        { State: MemberState.Draining or MemberState.Maintenance } => $"The balancer sends it no new requests: it has it as {member.State}. The next switch puts that right, and so does Resume-VMatrixMove.",
        { State: MemberState.Down } => "The balancer's own health check of it fails, so it gets no requests.",
        _ when server.Address is { } address && member.Address.Length > 0 && member.Address != address => $"The balancer sends its requests to {Outsiders.Show(member.Address)}, and it answers at {address}. The next switch puts that right, and so does Resume-VMatrixMove.",
        _ => null,
    };

    /// <summary>True where a healthy server of the Matrix is missing from the balancer, or is sent nothing, and no move is under way for it.</summary>
    private bool LacksServers(IEnumerable<ServerInfo> servers, BalancerReport? report, IReadOnlyDictionary<Guid, (ServerHealth Health, string? Problem)> health)
    {
        if (report is null)
            return false;
        var taken = new HashSet<Guid>(report.Members.Where(m => m.State is MemberState.Ready or MemberState.Down).Select(m => m.ServerId));
        var moving = new HashSet<Guid>(Claims().Select(m => m.ServerId));
        return servers.Any(s => s.Stage is Stage.Matrix && s.Power is PowerState.Running && s.Address is not null && !taken.Contains(s.Id) && !moving.Contains(s.Id)
            && Spec.Services.Any(service => service.Name == s.Service)
            && (s.Health is ServerHealth.Healthy || (health.TryGetValue(s.Id, out var asked) && asked.Health is ServerHealth.Healthy)));
    }

    private string BalancerRunPath => Path.Combine(Spec.StateFolder, "balancer.run");

    private string? ReadBalancerRun()
    {
        try
        {
            return StateFiles.TryReadJson<string>(BalancerRunPath);
        }
        catch (Exception e) when (e is VMatrixException || StateFiles.IsFileError(e))
        {
            return null; // Then it is looked at once more than was needed.
        }
    }

    private void WriteBalancerRun(string run)
    {
        try
        {
            StateFiles.Replace(BalancerRunPath, StateFiles.ToBytes(run));
        }
        catch (Exception e) when (StateFiles.IsFileError(e))
        {
            // The next one looks again.
        }
    }
}
