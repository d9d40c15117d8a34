using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Planning;

namespace VMatrix;

/// <content>Hosts that an operator takes out of use: their servers go to other hosts, or stay and it is said why.</content>
public sealed partial class PoolSession
{
    /// <summary>Finds where the servers of hosts would go if these were taken out of use together, without changing anything. Whatever the mode, an operator's word counts; loads are not asked for.</summary>
    /// <param name="hosts">The hosts' names.</param>
    /// <param name="force">True to move servers in spite of a window without moves.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <exception cref="VMatrixException"><c>HostNotFound</c>.</exception>
    public async Task<Evacuation> PlanEvacuationAsync(IReadOnlyList<string> hosts, bool force, CancellationToken cancellation)
    {
        HostSpec[] specs = [.. hosts.Select(FindHost).Distinct()];
        return await PlanEvacuationAsync(await ObserveAsync(null, cancellation), specs, force, cancellation);
    }

    /// <summary>Makes sure that the pool has a host.</summary>
    /// <exception cref="VMatrixException"><c>HostNotFound</c>.</exception>
    public void RequireHost(string host) => _ = FindHost(host);

    /// <summary>Takes a host out of use until <see cref="ResumeHostAsync"/>: nothing is placed on it any more. Its servers stay until <see cref="EvacuateAsync"/>, so that those of several hosts do not go from one to the next.</summary>
    /// <param name="host">The host's name.</param>
    /// <param name="confirmDead">An operator's word that the host is dead, so that its servers may be replaced elsewhere.</param>
    /// <param name="until">When the host comes back into use by itself; null for never.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <exception cref="VMatrixException"><c>HostNotFound</c>, <c>HostAlive</c> when a host said to be dead answers.</exception>
    public async Task SuspendHostAsync(string host, bool confirmDead, DateTimeOffset? until, CancellationToken cancellation)
    {
        var spec = FindHost(host);
        _ = RequireMover();
        var now = _clock.GetUtcNow();

        // What proved a silent host dead proves it still; who says so anew is asked for it from now on.
        var known = confirmDead ? null : _state!.Overrides.ReadHosts(now).FirstOrDefault(o => o.ConfirmedDead && string.Equals(o.Host, spec.Name, StringComparison.OrdinalIgnoreCase));
        if ((confirmDead || known is not null) && (await ObserveAsync(null, cancellation)).IsReachable(spec.Name))
        {
            if (confirmDead)
            {
                throw new VMatrixException("HostAlive", VMatrixErrorKind.InvalidState,
                    $"Host '{spec.Name}' answers, so it is not dead. Suspend it without -ConfirmDead to move its servers away.");
            }

            known = null;
        }

        _state!.Overrides.SetHost(new HostOverride
        {
            Host = spec.Name,
            ConfirmedDead = confirmDead || known is not null,
            ConfirmedBy = known is null ? null : known.ConfirmedBy ?? known.By,
            ConfirmedAt = known is null ? null : known.ConfirmedAt ?? known.At,
            By = StateFolder.Describe(Environment.UserName),
            At = now,
            Until = until,
        });
    }

    /// <summary>Moves the servers of hosts that are suspended to other hosts. One that no other host can take stays where it is.</summary>
    /// <param name="hosts">The hosts' names.</param>
    /// <param name="force">True to move servers in spite of a window without moves.</param>
    /// <param name="progress">Told at each change of a move; may be null.</param>
    /// <param name="cancellation">Ends the evacuation at the nearest whole state; the hosts stay suspended.</param>
    /// <param name="warned">Told what the operator should know that is no single server's; may be null.</param>
    /// <returns>What became of each move of the evacuation, and the servers that stay, as refused moves with the reason.</returns>
    /// <exception cref="VMatrixException"><c>HostNotFound</c>.</exception>
    public async Task<IReadOnlyList<MoveRecord>> EvacuateAsync(IReadOnlyList<string> hosts, bool force, IProgress<MoveRecord>? progress, CancellationToken cancellation, Action<string>? warned = null)
    {
        _ = RequireMover();
        var evacuation = await PlanEvacuationAsync(hosts, force, cancellation);
        foreach (var warning in evacuation.Warnings)
            warned?.Invoke(warning);
        var records = evacuation.Moves.Count == 0 ? [] : await CarryOutAsync(evacuation.Moves, TimeSpan.Zero, progress, cancellation, new HashSet<Guid>(evacuation.Moves.Select(m => m.Id)));
        return [.. records, .. evacuation.Left];
    }

    private async Task<Evacuation> PlanEvacuationAsync(Observation seen, IReadOnlyList<HostSpec> hosts, bool force, CancellationToken cancellation)
    {
        // Under -WhatIf nobody has suspended them yet.
        string[] names = [.. hosts.Select(h => h.Name)];
        seen.Empty(names);
        var now = _clock.GetLocalNow();
        var open = _state?.ReadOpenMoves() ?? [];
        var (left, warnings) = (new List<MoveRecord>(), new List<string>());
        var go = new List<(ServerInfo Info, ServerMark Mark)>();
        foreach (var host in hosts)
        {
            if (!seen.IsReachable(host.Name))
            {
                warnings.Add($"Host '{host.Name}' does not answer, so none of its servers is moved{(seen.ProblemOf(host.Name) is { } problem ? $": {problem}" : ".")} If you know that it is dead: Suspend-VMatrixHost {host.Name} -ConfirmDead.");
                continue;
            }

            foreach (var info in seen.Servers.Where(s => string.Equals(s.Host, host.Name, StringComparison.OrdinalIgnoreCase) && s.Stage is Stage.Matrix or Stage.Chamber))
            {
                var server = seen.Find(info.Id)!.Value;
                var service = Spec.Services.FirstOrDefault(s => string.Equals(s.Name, info.Service, StringComparison.OrdinalIgnoreCase));
                var obstacle = service is null ? null : MoveChecks.OfServer(service, info, info.Stage, open.FirstOrDefault(m => m.Move.ServerId == info.Id), now)
                    .FirstOrDefault(o => IsBlock(o) && !(force && o.What is "FrozenWindow"));
                if (service is null)
                    Leave(server, "ServiceNotFound", $"The pool file {Spec.Path} names no service '{info.Service}'. Name it there, or move the server by hand.");
                else if (obstacle is not null)
                    Leave(server, obstacle.What, $"{obstacle.Why}{(obstacle.Mend is null || obstacle.What is "FrozenWindow" ? "" : $" Mend: {obstacle.Mend}")}{(obstacle.What is "FrozenWindow" ? " Suspend-VMatrixHost -Force moves it in spite of that; the Oracle moves it when the window has ended." : "")}");
                else
                    go.Add(server);
            }
        }

        if (go.Count == 0)
            return new Evacuation(names, [], left, warnings);
        var advice = await AdviseAsync(seen, cancellation);
        var moves = PlanTogether(seen, go, open, advice, now);
        seen.Expect(moves);

        // One that the rules of the whole pool found no place for may find one by itself.
        var placed = new HashSet<Guid>(moves.Select(m => m.ServerId));
        foreach (var (info, mark) in go.Where(s => !placed.Contains(s.Info.Id)).OrderByDescending(s => s.Info.MemoryBytes).ThenBy(s => s.Info.Name, StringComparer.Ordinal))
        {
            try
            {
                var move = Away(info, mark, ChooseHost(seen, info, info.Stage, advice).Name);
                moves.Add(move);
                seen.Expect(moves);
            }
            catch (VMatrixException e)
            {
                Leave((info, mark), e.Id, $"{e.Message} To put it to sleep: Move-VMatrixServer {info.Id} -Stage Nest");
            }
        }

        return new Evacuation(names, moves, left, warnings);

        Move Away(ServerInfo info, ServerMark mark, string? to) => MoveOf(info, mark, MoveKind.Relocate, info.Stage, to) with
        {
            Live = to is not null && _drivers.Hypervisor.Traits.LiveMigration,
            Reason = $"{info.Host} is taken out of use.",
        };

        void Leave((ServerInfo Info, ServerMark Mark) server, string id, string why) => left.Add(new MoveRecord
        {
            Move = Away(server.Info, server.Mark, null),
            Status = MoveStatus.Refused,
            By = StateFolder.Describe("by hand"),
            StartedAt = now,
            EndedAt = now,
            ErrorId = id,
            Error = $"It stays on {server.Info.Host}. {why}",
        });
    }

    /// <summary>Places the servers together under every rule of the pool. Everything else stays where it is: counts, sleepers and what is broken are no concern of an evacuation.</summary>
    private List<Move> PlanTogether(Observation seen, List<(ServerInfo Info, ServerMark Mark)> go, IReadOnlyList<MoveRecord> open, HostAdvice advice, DateTimeOffset now)
    {
        var going = new HashSet<Guid>(go.Select(s => s.Info.Id));
        ServerState[] servers =
        [
            .. seen.ToStates(Spec, open.Select(m => m.Move), new Dictionary<Guid, ServerHealth>()).Where(s => s.Mark.Stage is Stage.Matrix or Stage.Chamber || s.Claimed)
                .Select(s => s with { Health = ServerHealth.Unknown, Mark = going.Contains(s.Mark.ServerId) ? s.Mark with { HeldUntil = null } : s.Mark }),
        ];
        var input = new PlannerInput
        {
            Pool = Spec with
            {
                Services = [.. Spec.Services.Select(s => s with { Mode = OracleMode.Automatic, Freeze = [] })],
                Oracle = Spec.Oracle with { Mode = OracleMode.Automatic, PowerDown = false, BalanceGap = null },
            },
            Now = now,
            Hosts =
            [
                .. HostStates(seen, now).Select(h => h with { Images = seen.ImagesOn(h.Name) }),
            ],
            Servers = servers,
            Loads = new Dictionary<string, IReadOnlyList<ServiceLoad>>(),
            Images = seen.Images,
            Advice = advice,
            Pinned = Spec.Services.ToDictionary(s => s.Name, s => servers.Count(v => v.Mark.Service == s.Name && (v.Claimed ? v.ClaimedTo : v.Mark.Stage) is Stage.Matrix), StringComparer.OrdinalIgnoreCase),
            LiveMigration = _drivers.Hypervisor.Traits.LiveMigration,
            Seed = Guid.NewGuid().GetHashCode(),
        };
        var plan = Planner.Plan(input).Plan;
        var byId = plan.Moves.ToDictionary(m => m.Id);
        var kept = new HashSet<Guid>();
        foreach (var move in plan.Moves.Where(m => m.Kind is MoveKind.Relocate && going.Contains(m.ServerId)))
        {
            // Others may make room by changing hosts; nobody is put to sleep for it.
            var needed = new HashSet<Guid>();
            if (Needs(move, needed))
                kept.UnionWith(needed);
        }

        return [.. plan.Moves.Where(m => kept.Contains(m.Id)).Select(m => m with { Live = _drivers.Hypervisor.Traits.LiveMigration })];

        bool Needs(Move move, HashSet<Guid> needed) =>
            !needed.Add(move.Id) || (move.Kind is MoveKind.Relocate && move.ToHost is not null && move.DependsOn.All(id => byId.TryGetValue(id, out var before) && Needs(before, needed)));
    }
}
