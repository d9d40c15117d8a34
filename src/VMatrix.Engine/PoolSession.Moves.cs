using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Planning;

namespace VMatrix;

/// <content>Moves by hand.</content>
public sealed partial class PoolSession
{
    /// <summary>Why the pool's history cannot be read or written; null when it can, or there is none yet.</summary>
    public string? HistoryProblem => _state?.History.Warning;

    /// <summary>Moves, newest first: open ones always, ended ones from the history.</summary>
    /// <param name="since">Only those that began after; null for all.</param>
    /// <param name="most">Most ended moves to return.</param>
    /// <param name="cancellation">Ends the call.</param>
    public Task<IReadOnlyList<MoveRecord>> GetMovesAsync(DateTimeOffset? since, int most, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        if (_state is null)
            return Task.FromResult<IReadOnlyList<MoveRecord>>([]);
        IEnumerable<MoveRecord> open = _state.ReadOpenMoves().Where(m => since is null || m.StartedAt >= since);
        return Task.FromResult<IReadOnlyList<MoveRecord>>([.. open.OrderByDescending(m => m.StartedAt), .. _state.History.ReadMoves(since, most)]);
    }

    /// <summary>What was done with the power of hosts, newest first: what is under way, and of what ended the newest.</summary>
    /// <param name="since">Only what began then or later, and of what ended what ended then or later; null for all.</param>
    /// <param name="most">At most so many that ended.</param>
    /// <param name="cancellation">Ends the call.</param>
    public Task<IReadOnlyList<HostActionRecord>> GetHostActionsAsync(DateTimeOffset? since, int most, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        if (_state is null)
            return Task.FromResult<IReadOnlyList<HostActionRecord>>([]);
        var open = _state.ReadHostClaims().Where(c => since is null || c.At >= since)
            .Select(c => new HostActionRecord { Action = c.Action, PlanId = c.PlanId, Status = _state.IsFree(c) ? MoveStatus.Interrupted : MoveStatus.Running, By = c.By, StartedAt = c.At });
        return Task.FromResult<IReadOnlyList<HostActionRecord>>([.. open.OrderByDescending(r => r.StartedAt), .. _state.History.ReadHostActions(since, most)]);
    }

    /// <summary>Makes the moves for new servers of a service, without carrying them out.</summary>
    /// <param name="service">The service.</param>
    /// <param name="count">How many servers.</param>
    /// <param name="name">A name for the server, with a number added when there are several; null for the service's name and the next free number.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <exception cref="VMatrixException"><c>ServiceNotFound</c>, <c>ServerNameInvalid</c>, <c>NameTaken</c>.</exception>
    public async Task<IReadOnlyList<Move>> PlanCreateAsync(string service, int count, string? name, CancellationToken cancellation)
    {
        var spec = FindService(service);
        var seen = await ObserveAsync(null, cancellation);
        seen.RequireNest();
        var taken = new HashSet<string>(seen.Servers.Select(s => s.Name).Concat(UnseenNames(seen)), StringComparer.OrdinalIgnoreCase);
        if (name is not null && count == 1 && taken.Contains(name))
            throw NameTaken(seen, name);
        var moves = new List<Move>(count);
        int number = 1;
        for (int i = 0; i < count; i++)
        {
            string next = name is not null && count == 1 ? name : $"{name ?? spec.Name}-{number}";
            while (name is null || count > 1 ? !taken.Add(next) : false)
                next = $"{name ?? spec.Name}-{++number}";
            ServerName.Check(next);
            moves.Add(new Move
            {
                Id = Guid.NewGuid(),
                Kind = MoveKind.Create,
                ServerId = Guid.NewGuid(),
                ServerName = next,
                Service = spec.Name,
                FromStage = Stage.Nest,
                ToStage = Stage.Nest,
                Reason = "Asked for by hand.",
            });
        }

        return moves;
    }

    private static readonly TimeSpan s_namesAge = TimeSpan.FromMinutes(1);
    private (DateTimeOffset At, IReadOnlyList<string> Names)? _names;

    /// <summary>Names of servers that may be where nobody answered: those that this session saw, and those that the history tells were made and not purged. None when everybody answered.</summary>
    private IEnumerable<string> UnseenNames(Observation seen)
    {
        if (seen.Silent.Count == 0)
            return [];
        var now = _clock.GetUtcNow();
        if (_names is not { } kept || now - kept.At > s_namesAge)
        {
            // Newest first: what became of a server last counts.
            var known = new Dictionary<Guid, MoveRecord>();
            foreach (var record in (_state?.ReadOpenMoves() ?? []).Concat(_state?.History.ReadMoves(null, MostNamed) ?? []).Where(r => r.Status is not MoveStatus.Refused))
            {
                if (!known.ContainsKey(record.Move.ServerId))
                    known[record.Move.ServerId] = record;
            }

            _names = kept = (now, [.. known.Values.Where(r => r is not { Status: MoveStatus.Done, Move.Kind: MoveKind.Purge or MoveKind.Unregister }).Select(r => r.Move.ServerName)]);
        }

        return kept.Names.Concat(_lastSeen.Values.SelectMany(states => states).Select(s => s.Mark.Name));
    }

    private const int MostNamed = 50_000;

    /// <summary>Makes the move that takes a server to a stage, a host or both, without carrying it out. Checks that it is legal and that there is room; chooses the host where none is named.</summary>
    /// <param name="server">The server's id.</param>
    /// <param name="stage">The stage; null to keep the one it is in.</param>
    /// <param name="destination">The host; null for the one with the most free memory, or for the nest.</param>
    /// <param name="live">True to move a running machine without stopping it, where the driver can.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <param name="beside">Moves that are to be carried out at the same time, whose servers need room too; null for none.</param>
    /// <param name="listing">A look at the pool to plan from; null for a new one.</param>
    /// <exception cref="VMatrixException"><c>ServerNotFound</c>, <c>IllegalStageChange</c>, <c>HostNotFound</c>, <c>HostRoleMismatch</c>, <c>NoRoom</c>, <c>AlreadyThere</c>.</exception>
    public async Task<Move> PlanMoveAsync(Guid server, Stage? stage, string? destination, bool live, CancellationToken cancellation, IReadOnlyList<Move>? beside = null, PoolListing? listing = null) =>
        await MakeMoveAsync(await ObserveBesideAsync(beside, listing, cancellation), server, stage, destination, live, cancellation);

    private async Task<Observation> ObserveBesideAsync(IReadOnlyList<Move>? beside, PoolListing? listing, CancellationToken cancellation)
    {
        var seen = listing?.Seen ?? await ObserveAsync(null, cancellation);
        seen.Expect(beside ?? []);
        return seen;
    }

    private async Task<Move> MakeMoveAsync(Observation seen, Guid server, Stage? stage, string? destination, bool live, CancellationToken cancellation, IReadOnlyCollection<string>? but = null)
    {
        var (info, mark) = seen.Find(server) ?? throw NoServer(server, seen);
        var host = destination is null ? null : FindHost(destination);
        var to = stage ?? (host is null ? throw new VMatrixException("NothingToMove", VMatrixErrorKind.InvalidInput, "Say a stage, a destination or both.")
            : info.Stage is Stage.Matrix or Stage.Chamber ? info.Stage
            : host.Role is HostRole.Chamber ? Stage.Chamber : Stage.Matrix);
        if (info.Stage == to && (to is Stage.Nest or Stage.Disposed || host is null || string.Equals(host.Name, info.Host, StringComparison.OrdinalIgnoreCase)))
        {
            throw new VMatrixException("AlreadyThere", VMatrixErrorKind.InvalidState,
                $"Server '{info.Name}' is in the {to} already{(info.Host is null ? "" : $", on host '{info.Host}'")}.");
        }

        if (!StageRules.IsLegal(info.Stage, to))
            throw new VMatrixException("IllegalStageChange", VMatrixErrorKind.InvalidState, $"{StageRules.Describe(info.Stage, to)} The server is '{info.Name}'.");
        if (to is Stage.Nest or Stage.Disposed)
        {
            if (host is not null)
                throw new VMatrixException("DestinationNotAllowed", VMatrixErrorKind.InvalidInput, $"A server in the {to} is on no host; leave out the destination '{host.Name}'.");
        }
        else
        {
            host = host is null ? ChooseHost(seen, info, to, await AdviseAsync(seen, cancellation), but) : CheckHost(seen, info, to, host);
        }

        var kind = to switch
        {
            Stage.Disposed => MoveKind.Dispose,
            Stage.Nest => info.Stage is Stage.Disposed ? MoveKind.Undo : MoveKind.Hibernate,
            _ => info.Stage is Stage.Nest ? MoveKind.Wake : MoveKind.Relocate,
        };
        return MoveOf(info, mark, kind, to, host?.Name) with { Live = live && info.Stage is Stage.Matrix or Stage.Chamber && host is not null };
    }

    private VMatrixException NameTaken(Observation seen, string name)
    {
        var other = seen.Servers.FirstOrDefault(s => string.Equals(s.Name, name, StringComparison.OrdinalIgnoreCase));
        return new VMatrixException("NameTaken", VMatrixErrorKind.InvalidState, other is null
            ? $"Pool '{Spec.Name}' knows a server '{name}' that was not seen now: it may be where nobody answered ({string.Join(", ", seen.Silent.Select(p => p.Name))}); give the new one another name."
            : $"Pool '{Spec.Name}' has a server '{other.Name}' already ({other.Id} of {other.Service}, in the {other.Stage}); give the new one another name.");
    }

    private static Move MoveOf(ServerInfo server, ServerMark mark, MoveKind kind, Stage to, string? host) => new()
    {
        Id = Guid.NewGuid(),
        Kind = kind,
        ServerId = server.Id,
        ServerName = server.Name,
        Service = server.Service,
        FromStage = server.Stage,
        FromHost = server.Host,
        Generation = mark.Generation,
        ToStage = to,
        ToHost = host,
        Reason = "Asked for by hand.",
    };

    /// <summary>Makes the move that purges a disposed server, without carrying it out.</summary>
    /// <exception cref="VMatrixException"><c>ServerNotFound</c>, <c>NotDisposed</c>.</exception>
    public async Task<Move> PlanPurgeAsync(Guid server, CancellationToken cancellation, PoolListing? listing = null)
    {
        var seen = listing?.Seen ?? await ObserveAsync(null, cancellation);
        var (info, mark) = seen.Find(server) ?? throw NoServer(server, seen);
        if (info.Stage is not Stage.Disposed)
        {
            throw new VMatrixException("NotDisposed", VMatrixErrorKind.InvalidState,
                $"Server '{info.Name}' is in the {info.Stage}; only a disposed server can be purged. Dispose of it first.");
        }

        return MoveOf(info, mark, MoveKind.Purge, Stage.Disposed, null);
    }

    /// <summary>Carries moves out by hand: servers are claimed meanwhile and held against the Oracle after. A move that fails is told in its record and does not throw.</summary>
    /// <param name="moves">The moves.</param>
    /// <param name="holdFor">How long the Oracle leaves the servers alone after; null for the pool's setting.</param>
    /// <param name="progress">Told at each change; may be null.</param>
    /// <param name="cancellation">Ends the call at the nearest whole state.</param>
    /// <param name="chosen">The moves whose host was not named by the user: where somebody else was first to its room, another host is chosen; null for none.</param>
    public async Task<IReadOnlyList<MoveRecord>> CarryOutAsync(
        IReadOnlyList<Move> moves, TimeSpan? holdFor, IProgress<MoveRecord>? progress, CancellationToken cancellation, IReadOnlyCollection<Guid>? chosen = null)
    {
        var mover = RequireMover();
        // A balancer that VMatrix starts runs for servers of the Matrix: what only happens in the nest starts none, and leaves none behind when it fails.
        if (moves.Any(m => m.FromStage is Stage.Matrix || m.ToStage is Stage.Matrix))
            await ReadyBalancerAsync(mover, ByHand(TimeSpan.Zero), progress: null, cancellation);
        var context = ByHand(holdFor);
        var records = await mover.CarryOutAsync(moves, context, progress, cancellation);
        return chosen is null ? records : await ChooseAgainAsync(mover, records, context, progress, new HashSet<Guid>(chosen), cancellation);
    }

    private MoveContext ByHand(TimeSpan? holdFor) => new() { By = StateFolder.Describe("by hand"), HoldFor = holdFor ?? Spec.Oracle.HoldFor };

    private VMatrixException NoServer(Guid id, Observation seen) => seen.Silent.Count == 0
        ? new("ServerNotFound", VMatrixErrorKind.NotFound, $"There is no server with the id {id} in pool '{Spec.Name}'; Get-VMatrixServer lists them.")
        : new("ServerNotFound", VMatrixErrorKind.NotFound,
            $"No server with the id {id} was found in pool '{Spec.Name}'. It may be where nobody answered: {string.Join(", ", seen.Silent.Take(8).Select(p => p.Name))}{(seen.Silent.Count > 8 ? $" and {seen.Silent.Count - 8} more" : "")}. {seen.Silent[0].Error.Message}");

    private HostSpec ChooseHost(Observation seen, ServerInfo server, Stage to, HostAdvice advice, IReadOnlyCollection<string>? but = null)
    {
        var (fit, refused) = FindHosts(seen, server, to, advice);
        return fit.Where(f => but?.Contains(f.Host.Name) != true).Select(f => f.Host).FirstOrDefault() ?? throw new VMatrixException("NoRoom", VMatrixErrorKind.NoRoom,
            $"No {(but is { Count: > 0 } ? "other " : "")}host can take server '{server.Name}' into the {to}: {string.Join("; ", refused.Take(8))}{(refused.Count > 8 ? $"; and {refused.Count - 8} more" : "")}.");
    }

    /// <summary>The hosts that can take a server, emptiest first, and why the others cannot.</summary>
    private (IReadOnlyList<(HostSpec Host, long Free)> Fit, IReadOnlyList<string> Refused) FindHosts(Observation seen, ServerInfo server, Stage to, HostAdvice advice)
    {
        var ruledOut = advice.Verdicts.Where(v => v.Refusal is not null && (v.Server is { } one ? one == server.Id : v.Service == server.Service)).ToLookup(v => v.Host, v => v.Refusal);
        var refused = new List<string>();
        var fit = new List<(HostSpec Host, long Free)>();
        foreach (var host in Spec.Hosts)
        {
            if (Obstacles(seen, server, to, host).FirstOrDefault(IsBlock) is { } block)
                refused.Add(block.Why);
            else if (ruledOut[host.Name].FirstOrDefault() is { } why)
                refused.Add($"{host.Name} is ruled out: {why}");
            else if (!string.Equals(host.Name, server.Host, StringComparison.OrdinalIgnoreCase))
                fit.Add((host, host.MemoryBytes - UsedBytes(seen, host)));
        }

        return ([.. fit.OrderByDescending(f => f.Free)], refused);
    }

    /// <summary>So often another host is chosen for a move; each time a little later, so that those who collide fall out of step.</summary>
    private const int MostChoices = 20;

    /// <summary>Carries moves out once more, to other hosts, that were refused because their host was no longer to be had. Who named a host gets that one or none.</summary>
    private async Task<IReadOnlyList<MoveRecord>> ChooseAgainAsync(
        Mover mover, IReadOnlyList<MoveRecord> records, MoveContext context, IProgress<MoveRecord>? progress, HashSet<Guid> chosen, CancellationToken cancellation)
    {
        var ended = records.ToDictionary(r => r.Id);
        var random = new Random(Guid.NewGuid().GetHashCode());
        for (int choice = 1; choice <= MostChoices && !cancellation.IsCancellationRequested; choice++)
        {
            // With those whose host is gone, what waited for them.
            var lost = new HashSet<Guid>();
            foreach (var record in records.Select(r => ended[r.Id]))
            {
                if (record.Status is MoveStatus.Refused && (record.ErrorId is "DependencyNotDone" ? record.Move.DependsOn.Any(lost.Contains)
                    : chosen.Contains(record.Id) && record.Move.ToHost is not null && record.ErrorId is "NoRoom" or "HostSuspended" or "HostPoweredDown" or "HostInMaintenance"))
                {
                    lost.Add(record.Id);
                }
            }

            if (lost.Count == 0)
                break;
            try
            {
                await _clock.WaitAsync(TimeSpan.FromMilliseconds(random.Next(1, 25 * choice)), cancellation);
                var seen = await ObserveBesideAsync(null, null, cancellation);
                var advice = await AdviseAsync(seen, cancellation);
                var again = new List<Move>();
                foreach (var move in records.Where(r => lost.Contains(r.Id)).Select(r => ended[r.Id].Move))
                {
                    var next = move with { DependsOn = [.. move.DependsOn.Where(lost.Contains)] };
                    if (ended[move.Id].ErrorId is not "DependencyNotDone")
                    {
                        if (seen.Find(move.ServerId) is not { } server || FindHosts(seen, server.Info, move.ToStage, advice).Fit is not { Count: > 0 } fit)
                            continue;

                        // Not all take the emptiest, or they would meet again.
                        next = next with { ToHost = fit[random.Next(Math.Max(1, (fit.Count + 1) / 2))].Host.Name };
                    }

                    again.Add(next);
                    seen.Expect(again);
                }

                foreach (var record in again.Count == 0 ? [] : await mover.CarryOutAsync(again, context, progress, cancellation))
                    ended[record.Id] = record;
            }
            catch (OperationCanceledException)
            {
                break;
            }
        }

        return [.. records.Select(r => ended[r.Id])];
    }

    private HostSpec CheckHost(Observation seen, ServerInfo server, Stage to, HostSpec host) =>
        Obstacles(seen, server, to, host).FirstOrDefault(IsBlock) is { } block
            ? throw new VMatrixException(block.What is "HostRoleMismatch" or "HostSuspended" or "HostInMaintenance" ? block.What : "NoRoom",
                block.What is "HostRoleMismatch" ? VMatrixErrorKind.InvalidInput : block.What is "HostSuspended" or "HostInMaintenance" ? VMatrixErrorKind.InvalidState : VMatrixErrorKind.NoRoom,
                $"Host '{host.Name}' cannot take server '{server.Name}' into the {to}: {block.Why}.{(block.Mend is null ? "" : $" Mend: {block.Mend}")}")
            : host;

    private static bool IsBlock(MoveObstacle obstacle) => obstacle.Severity is ObstacleSeverity.Blocks;

    private IEnumerable<MoveObstacle> Obstacles(Observation seen, ServerInfo server, Stage to, HostSpec host) =>
        MoveChecks.OfHost(Spec, FindService(server.Service), to, new CheckedHost
        {
            Spec = host,
            Reachable = seen.IsReachable(host.Name),
            Problem = seen.ProblemOf(host.Name),
            PoweredDown = seen.IsPoweredDown(host.Name),
            Maintenance = seen.MaintenanceOf(host.Name),
            SuspendedBy = SuspendedHosts(_clock.GetUtcNow()).TryGetValue(host.Name, out var o) ? Signed(o.By, o.At, o.Until) : seen.IsEmptied(host.Name) ? "this command" : null,
            OpenMoves = _state?.ReadOpenMoves().Count(m => m.Status is MoveStatus.Running && (m.Move.FromHost == host.Name || m.Move.ToHost == host.Name)) ?? 0,
        }, (seen.Rules ??= RulesOf(seen)).Check(server.Id, to, host.Name));

    /// <summary>The planner's own rules over the pool as it was seen, moves under way and those that are to go at the same time included.</summary>
    private PlacementRules RulesOf(Observation seen)
    {
        var now = _clock.GetUtcNow();
        return new PlacementRules(new PlannerInput
        {
            Pool = Spec,
            Now = now,
            Hosts = [.. HostStates(seen, now)],
            Servers = seen.ToStates(Spec, Claims().Concat(seen.Expected), new Dictionary<Guid, ServerHealth>()),
            Loads = new Dictionary<string, IReadOnlyList<ServiceLoad>>(),
            // Licences that were assigned to hosts are remembered there.
            Memory = Spec.Licences.Any(l => l.Seats > 0) ? _memory ?? _state?.ReadMemory() : null,
        });
    }

    /// <summary>The hosts as the planner and its rules take them, as they were seen.</summary>
    private IEnumerable<HostState> HostStates(Observation seen, DateTimeOffset now)
    {
        var suspended = SuspendedHosts(now);
        return Spec.Hosts.Select(h => new HostState
        {
            Name = h.Name,
            Reachable = seen.IsReachable(h.Name),
            Suspended = seen.IsEmptied(h.Name) || suspended.ContainsKey(h.Name),
            PoweredDown = seen.IsPoweredDown(h.Name),
            ForeignMemoryBytes = seen.ForeignBytes(h.Name),
            ForeignCores = seen.ForeignCores(h.Name),
        });
    }

    private static HostRole RoleFor(Stage stage) => stage is Stage.Chamber ? HostRole.Chamber : HostRole.Matrix;

    private static long UsedBytes(Observation seen, HostSpec host) =>
        seen.ForeignBytes(host.Name) + seen.On(host).Sum(s => s.MemoryBytes);
}
