using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Planning;

/// <summary>
/// Folds ended moves into what failed and has not succeeded since, for the planner. Pure but for what it was told: the same records in the same
/// order make the same failures. Who says that nothing was wrong with the move itself (it was stopped, held up by another one, or lost to somebody
/// else's claim) is not counted.
/// </summary>
public sealed class FailureLog
{
    /// <summary>So many servers of a service that fail alike, one after another, speak against its image or its health check: no new ones are made.</summary>
    public const int ServersAgainstImage = 3;

    /// <summary>So many servers that fail alike on one host speak against the host.</summary>
    public const int ServersAgainstHost = 2;

    private static readonly HashSet<string> s_noFailures = new(StringComparer.Ordinal)
    {
        "Cancelled", "DependencyNotDone", "Interrupted", "ServerClaimed", "WindowBegan", "DeciderLost", "StaleEpoch", "MoveTakenOver", "MoveSuperseded", "StateUnreachable",
    };

    private readonly object _gate = new();
    private readonly Dictionary<(Guid Server, MoveKind Kind, string Cause), MoveFailure> _servers = [];
    private readonly Dictionary<(string Service, string Cause), MoveFailure> _services = [];
    private readonly Dictionary<(string Service, string Cause), (HashSet<Guid> Servers, MoveFailure Last)> _wakes = [];
    private readonly Dictionary<(string Host, string Service, string Cause), (HashSet<Guid> Servers, MoveFailure Last)> _hosts = [];
    private readonly Dictionary<(string Host, HostActionKind Kind), MoveFailure> _power = [];
    private IReadOnlyList<MoveFailure>? _current;

    /// <summary>What failed and has not succeeded since, in an order that follows from it alone.</summary>
    public IReadOnlyList<MoveFailure> Current
    {
        get
        {
            lock (_gate)
                return _current ??= Fold();
        }
    }

    /// <summary>Takes an ended move in. Moves are to come in the order in which they ended.</summary>
    public void Add(MoveRecord record)
    {
        if (record.Status is MoveStatus.Pending or MoveStatus.Running or MoveStatus.Interrupted or MoveStatus.Cancelled)
            return;
        lock (_gate)
        {
            var move = record.Move;
            _current = null;
            if (record.Status is MoveStatus.Done)
            {
                Succeeded(move);
                return;
            }

            string cause = record.ErrorId ?? record.Status.ToString();
            if (s_noFailures.Contains(cause))
                return;
            var failure = new MoveFailure
            {
                Scope = FailureScope.Server,
                Kind = move.Kind,
                Server = move.ServerId,
                Generation = move.Generation,
                Service = move.Service,
                Host = move.ToHost ?? move.FromHost,
                Cause = cause,
                Times = 1,
                LastAt = record.EndedAt ?? record.StartedAt,
                Error = record.Error ?? cause,
                IsRefusal = record.Status is MoveStatus.Refused,
            };
            if (IsServiceWide(record))
            {
                // No other server of the service would fare better; this one is not to blame.
                _services[(move.Service, cause)] = failure with { Scope = move.Kind is MoveKind.Create ? FailureScope.Creation : FailureScope.Service, Times = 1 + TimesOf(_services, (move.Service, cause)) };
                return;
            }

            var key = (move.ServerId, move.Kind, cause);
            _servers[key] = failure with { Times = 1 + (_servers.TryGetValue(key, out var known) && known.Generation == move.Generation ? known.Times : 0) };
            if (move is { Kind: MoveKind.Wake, ToStage: Stage.Matrix })
                Count(_wakes, (move.Service, cause), failure);
            if (move.Kind is MoveKind.Wake or MoveKind.Relocate && move.ToHost is not null && record.Status is not MoveStatus.Refused)
                Count(_hosts, (move.ToHost, move.Service, cause), failure);
        }
    }

    /// <summary>Takes an ended action with a host in.</summary>
    public void Add(HostActionRecord record)
    {
        if (record.Status is MoveStatus.Pending or MoveStatus.Running or MoveStatus.Interrupted or MoveStatus.Cancelled)
            return;
        lock (_gate)
        {
            _current = null;
            var action = record.Action;
            if (record.Status is MoveStatus.Done)
            {
                foreach (var key in _power.Keys.Where(k => k.Host == action.Host).ToList())
                    _power.Remove(key);
                return;
            }

            _power[(action.Host, action.Kind)] = new MoveFailure
            {
                Scope = FailureScope.Power,
                HostAction = action.Kind,
                Host = action.Host,
                Cause = action.Kind.ToString(),
                Times = 1 + TimesOf(_power, (action.Host, action.Kind)),
                LastAt = record.EndedAt ?? record.StartedAt,
                Error = record.Error ?? record.Status.ToString(),
            };
        }
    }

    /// <summary>A wake that failed in the balancer, and a server that could not be made.</summary>
    private static bool IsServiceWide(MoveRecord record) =>
        record.Move.Kind is MoveKind.Create || (record.Move.Kind is MoveKind.Wake && (record.Step == "join" || record.ErrorId == "BalancerRefuses"));

    private void Succeeded(Move move)
    {
        foreach (var key in _servers.Keys.Where(k => k.Server == move.ServerId).ToList())
            _servers.Remove(key);
        bool serves = move is { Kind: MoveKind.Wake, ToStage: Stage.Matrix };
        foreach (var key in _services.Where(s => s.Key.Service == move.Service && (s.Value.Scope is FailureScope.Creation ? move.Kind is MoveKind.Create : serves)).Select(s => s.Key).ToList())
            _services.Remove(key);
        if (serves)
        {
            foreach (var key in _wakes.Keys.Where(k => k.Service == move.Service).ToList())
                _wakes.Remove(key);
        }

        if (move.ToHost is null || move.Kind is not (MoveKind.Wake or MoveKind.Relocate))
            return;
        foreach (var key in _hosts.Keys.Where(k => k.Host == move.ToHost && k.Service == move.Service).ToList())
            _hosts.Remove(key);
    }

    private List<MoveFailure> Fold()
    {
        var all = new List<MoveFailure>(_servers.Values);
        all.AddRange(_services.Values);
        all.AddRange(_wakes.Values.Where(w => w.Servers.Count >= ServersAgainstImage)
            .Select(w => w.Last with { Scope = FailureScope.Creation, Times = w.Last.Times - ServersAgainstImage + 1 }));
        all.AddRange(_hosts.Values.Where(h => h.Servers.Count >= ServersAgainstHost)
            .Select(h => h.Last with { Scope = FailureScope.Host, Times = h.Last.Times - ServersAgainstHost + 1 }));
        all.AddRange(_power.Values);
        return [.. all.OrderBy(f => f.Scope).ThenBy(f => f.Service, StringComparer.Ordinal).ThenBy(f => f.Host, StringComparer.Ordinal)
            .ThenBy(f => f.Server).ThenBy(f => f.Kind).ThenBy(f => f.HostAction).ThenBy(f => f.Cause, StringComparer.Ordinal)];
    }

    private static void Count<T>(Dictionary<T, (HashSet<Guid> Servers, MoveFailure Last)> counts, T key, MoveFailure failure)
        where T : notnull
    {
        if (!counts.TryGetValue(key, out var known))
            known = ([], failure with { Times = 0 });
        known.Servers.Add(failure.Server);
        counts[key] = (known.Servers, failure with { Times = known.Last.Times + 1 });
    }

    private static int TimesOf<T>(Dictionary<T, MoveFailure> failures, T key)
        where T : notnull => failures.TryGetValue(key, out var known) ? known.Times : 0;
}
