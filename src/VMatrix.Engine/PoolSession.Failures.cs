using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using VMatrix.Moves;
using VMatrix.Planning;

namespace VMatrix;

/// <content>Moves that failed: what the planner knows of them, and what is shown on servers.</content>
public sealed partial class PoolSession
{
    /// <summary>What failed longer ago, before this session began, is tried again as if for the first time.</summary>
    private static readonly TimeSpan s_failuresCount = TimeSpan.FromDays(1);

    private readonly FailureLog _failures = new();
    private readonly Dictionary<Guid, (int Times, long At)> _stuck = [];
    private readonly Dictionary<Guid, (int Times, long At)> _stuckHosts = [];
    private (long Move, long Host) _failuresRead;

    /// <summary>What failed and has not succeeded since, whoever carried it out.</summary>
    private IReadOnlyList<MoveFailure> Failures()
    {
        // Who only reads makes no history.
        if (_state is null || (!_forChange && !File.Exists(History.PathFor(_state.Path, _state.Id))))
            return [];
        lock (_failures)
        {
            var (moves, hosts) = _state.History.ReadSince(ref _failuresRead, _clock.GetUtcNow() - s_failuresCount);
            foreach (var move in moves)
                _failures.Add(move);
            foreach (var host in hosts)
                _failures.Add(host);
            return _failures.Current;
        }
    }

    /// <summary>Remembers what ended where no history keeps it.</summary>
    private void Remember(IEnumerable<MoveRecord> moves, IEnumerable<HostActionRecord> hosts)
    {
        if (_state!.History.IsOn)
            return;
        foreach (var move in moves)
            _failures.Add(move);
        foreach (var host in hosts)
            _failures.Add(host);
    }

    /// <summary>Shows on servers that moves of them failed.</summary>
    private IReadOnlyList<ServerInfo> WithFailures(IReadOnlyList<ServerInfo> servers)
    {
        var now = _clock.GetUtcNow();
        var failures = Failures().Where(f => f.Scope is FailureScope.Server).GroupBy(f => f.Server).ToDictionary(g => g.Key, g => g.OrderBy(f => f.RetryAt(now)).Last());
        return failures.Count == 0 ? servers :
        [
            .. servers.Select(s => failures.TryGetValue(s.Id, out var failure) && failure.Generation == s.Generation
                ? s with { RetryAt = failure.Waits(now) ? failure.RetryAt(now) : null, Problem = $"{(s.Problem is null ? "" : s.Problem.TrimEnd('.') + ". ")}{char.ToUpperInvariant(failure.Describe(now)[0])}{failure.Describe(now).Substring(1)}." }
                : s),
        ];
    }

    /// <summary>The open moves that are due to be taken up: those cut short, and those that could be neither finished nor taken back, after a wait that grows with each try.</summary>
    private HashSet<Guid> DueForRecovery() => Due(_stuck, _state!.ReadOpenMoves().Where(m => m.Status is MoveStatus.Interrupted or MoveStatus.Failed).Select(m => m.Id));

    /// <summary>The actions with hosts that are due to be taken up, in the same way.</summary>
    private HashSet<Guid> HostsDueForRecovery() => Due(_stuckHosts, _state!.ReadHostClaims().Where(_state.IsFree).Select(c => c.Action.Id));

    private HashSet<Guid> Due(Dictionary<Guid, (int Times, long At)> tries, IEnumerable<Guid> open)
    {
        var due = new HashSet<Guid>();
        var all = new HashSet<Guid>(open);
        foreach (var gone in tries.Keys.Where(id => !all.Contains(id)).ToArray())
            tries.Remove(gone);
        foreach (var id in all)
        {
            if (tries.TryGetValue(id, out var tried) && _clock.GetElapsedTime(tried.At) < StuckFor(tried.Times))
                continue;
            due.Add(id);
            tries[id] = (tried.Times + 1, _clock.GetTimestamp());
        }

        return due;
    }

    private static TimeSpan StuckFor(int times) => new MoveFailure { Scope = FailureScope.Server, Cause = "", Times = times, LastAt = default, Error = "", IsRefusal = true }.Wait;
}
