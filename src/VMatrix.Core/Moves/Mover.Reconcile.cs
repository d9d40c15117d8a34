using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Moves;

/// <summary>What was put right in the balancer.</summary>
public sealed record ReconcileResult
{
    /// <summary>Servers of the Matrix that joined again, and those whose joining failed.</summary>
    public required IReadOnlyList<MoveRecord> Joined { get; init; }

    /// <summary>Servers that were taken out, with why, as sentences.</summary>
    public required IReadOnlyList<string> Removed { get; init; }

    /// <summary>What could not be seen or done, as sentences.</summary>
    public required IReadOnlyList<string> Problems { get; init; }
}

/// <content>The balancer beside the truth.</content>
public sealed partial class Mover
{
    /// <summary>
    /// Makes the balancer's members the healthy servers of the Matrix: those that are missing or have another address join, those that do not
    /// answer or are not in the Matrix leave. For when the balancer has come back, or was left in the middle. Servers with an open move are left alone.
    /// </summary>
    /// <exception cref="VMatrixException"><c>BalancerUnreachable</c>.</exception>
    public async Task<ReconcileResult> ReconcileAsync(MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        State.CheckEpoch(context.Epoch);
        var report = await TryAsync("Reading the balancer", Pool.Limits.StepTimeout, Balancer.ReadAsync, cancellation);
        var (removed, problems) = (new List<string>(), new List<string>());

        var truth = MakeTruth();
        var since = truth.Now();
        var hosts = Pool.Hosts.Where(h => h.Role is HostRole.Matrix).Select(h => (Host: h, View: truth.HostAsync(h, since, cancellation))).ToArray();
        var inMatrix = new Dictionary<Guid, Sighting>();
        var blind = false;
        foreach (var (host, view) in hosts)
        {
            try
            {
                var there = (await view).Report;

                // A machine whose mark cannot be read may be a server that serves.
                blind = blind || there.Machines.Any(m => m is { Mark: null, StaleMark: null, Problem: not null });
                foreach (var machine in there.Machines.Where(m => m.Mark is { Stage: Stage.Matrix } mark && mark.StateId == State.Id))
                    inMatrix[machine.Mark!.ServerId] = new Sighting(machine, Place.Host, host.Name);
            }
            catch (VMatrixException e)
            {
                blind = true;
                problems.Add(e.Message);
            }
        }
        var busy = State.Guard(() => new HashSet<Guid>(State.ReadOpen(out _).Select(m => m.Move.ServerId)));
        var members = report.Members.Where(m => m.ServerId != Guid.Empty && !busy.Contains(m.ServerId)).ToArray();

        // Every server of the Matrix and every member is asked whether it works, a few at a time.
        var asked = inMatrix.Values.Where(s => s.Runs && s.Machine.Address is not null && !busy.Contains(s.Mark.ServerId)).Select(s => (Id: s.Mark.ServerId, s.Mark.Service, Address: s.Machine.Address!))
            .Concat(members.Where(m => !inMatrix.ContainsKey(m.ServerId)).Select(m => (Id: m.ServerId, m.Service, m.Address)))
            .GroupBy(a => a.Id).Select(g => g.First()).ToArray();
        var health = new Dictionary<Guid, string?>();
        for (var i = 0; i < asked.Length; i += 16)
        {
            var some = asked.Skip(i).Take(16).Select(a => (a.Id, Task: AskHealthAsync(a.Service, a.Address, cancellation))).ToArray();
            foreach (var (id, task) in some)
                health[id] = await task;
        }

        foreach (var member in members)
        {
            var why = inMatrix.TryGetValue(member.ServerId, out var sighting)
                ? sighting.IsUnseen ? null : sighting.Runs ? health.TryGetValue(member.ServerId, out var problem) && problem is not null ? $"its health check fails: {problem}" : null : $"it is {sighting.Where}"
                : health.TryGetValue(member.ServerId, out var silent) && silent is not null ? $"it is not in the Matrix and does not answer: {silent}"
                : blind ? null : "it is not in the Matrix";
            if (why is null)
                continue;
            try
            {
                await TryAsync("Taking a server from the balancer", Pool.Limits.StepTimeout, c => Balancer.LeaveAsync(new DriverCall(Guid.NewGuid(), context.Epoch), member.Service, member.ServerId, c), cancellation);
                removed.Add($"{(sighting?.Mark.Name ?? member.ServerId.ToString("D"))} ({member.Service}) was taken from the balancer: {why}.");
            }
            catch (VMatrixException e)
            {
                problems.Add(e.Message);
            }
        }

        var moves = new List<Move>();
        foreach (var server in inMatrix.Values.Where(s => health.TryGetValue(s.Mark.ServerId, out var problem) && problem is null))
        {
            var member = report.Members.FirstOrDefault(m => m.ServerId == server.Mark.ServerId);
            if (member is not null && member.Address == server.Machine.Address && member.State is MemberState.Ready or MemberState.Down)
                continue;
            moves.Add(new Move
            {
                Id = Guid.NewGuid(),
                Kind = MoveKind.Relocate,
                ServerId = server.Mark.ServerId,
                ServerName = server.Mark.Name,
                Service = server.Mark.Service,
                FromStage = Stage.Matrix,
                FromHost = server.Host,
                Generation = server.Mark.Generation,
                ToStage = Stage.Matrix,
                ToHost = server.Host,
                Reason = member is null ? "The balancer does not have it." : member.State is MemberState.Ready ? $"The balancer has it at {member.Address}." : $"The balancer has it as {member.State}.",
            });
        }
        var joined = moves.Count == 0 ? [] : await CarryOutAsync(moves, context with { PlanId = null, HoldFor = null }, progress, cancellation);
        return new ReconcileResult { Joined = joined, Removed = removed, Problems = problems };
    }

    /// <summary>Asks as often as the service allows failures in a row. Null when one passed.</summary>
    private async Task<string?> AskHealthAsync(string name, string address, CancellationToken cancellation)
    {
        if (ServiceOf(name) is not { } service)
            return $"the pool file names no service '{name}'";
        for (var failures = 1; ; failures++)
        {
            var problem = await ProbeAsync(service, address, service.Health.Timeout, cancellation);
            if (problem is null || failures >= service.Health.Failures)
                return problem;
            await Clock.WaitAsync(TimeSpan.FromMilliseconds(200), cancellation);
        }
    }

    /// <summary>One health check with its own patience. Null when it passed.</summary>
    internal async Task<string?> ProbeAsync(ServiceSpec service, string address, TimeSpan patience, CancellationToken cancellation)
    {
        using var deadline = Clock.Deadline(patience);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            return await Health.CheckAsync(service, address, both.Token);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return $"{address} did not answer within {Planning.Words.Seconds(patience)}";
        }
    }
}
