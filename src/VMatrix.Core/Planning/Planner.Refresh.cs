using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Planning;

/// <content>Sleepers whose memory has become old: woken in the Chamber once, checked, and put to sleep again.</content>
public static partial class Planner
{
    private sealed partial class Draft
    {
        /// <summary>One that did not wake is not tried again at once.</summary>
        private static readonly TimeSpan s_refreshAgain = TimeSpan.FromHours(1);

        /// <summary>Adds a refresh for each chamber that has room and is at no other, longest asleep first, and takes back to the nest what was left in the Chamber. Returns what is to be remembered of it.</summary>
        private List<Refresh> PlanRefreshes()
        {
            var remembered = new List<Refresh>();
            var busy = new HashSet<string>(StringComparer.Ordinal);
            var before = _input.Memory?.Refreshes ?? [];
            var asked = new HashSet<Guid>(before.Select(refresh => refresh.Server));
            var servers = asked.Count == 0 ? [] : _input.Servers.Where(server => asked.Contains(server.Mark.ServerId)).ToDictionary(server => server.Mark.ServerId);
            foreach (var refresh in before)
            {
                if (!servers.TryGetValue(refresh.Server, out var server))
                    continue;
                if (server.Claimed && refresh.Generation - server.Mark.Generation is 0 or 1)
                {
                    busy.Add(server.ClaimedHost ?? server.Host ?? "");
                    remembered.Add(refresh);
                }
                else if (server.Mark.Stage is Stage.Chamber && server.Mark.Generation == refresh.Generation)
                {
                    // Whoever moves it by hand meanwhile has other things to do with it.
                    if (server.Mark.HeldUntil > Now || !IsAnswering(server.Host))
                        continue;
                    busy.Add(server.Host!);
                    remembered.Add(refresh);
                    _moves.Add(Refreshing(server, MoveKind.Hibernate, server.Host!, server.Mark.Generation, "it was woken in the Chamber only to refresh its memory, and sleeps again", []));
                }
                else if (server.Mark.Stage is Stage.Nest && Now - refresh.At < s_refreshAgain)
                    remembered.Add(refresh);
            }

            if (_input.Pool.Nest.MaxSleep is not TimeSpan most)
                return remembered;
            var tried = new HashSet<Guid>(remembered.Select(refresh => refresh.Server).Concat(_moves.Select(move => move.ServerId)));
            var waking = new HashSet<string>(_moves.Where(move => move.Kind is MoveKind.Wake).Select(move => move.Service), StringComparer.Ordinal);
            var refused = new Dictionary<string, (ServerState First, int Count)>(StringComparer.Ordinal);
            foreach (var (server, index) in _services.SelectMany(service => service.Dormant).Select(index => (Server: _input.Servers[index], Index: index))
                .Where(s => Now - s.Server.AsleepSince > most && !tried.Contains(s.Server.Mark.ServerId)).OrderBy(s => s.Server.AsleepSince).ThenBy(s => s.Server.Mark.ServerId))
            {
                var service = _byName[server.Mark.Service];
                string? why = IsShadow(service) ? IsShadowed : service.Frozen is not null ? $"{service.Spec.Name}: {service.Frozen}"
                    : service.Need.Bad is not null ? $"what {service.Spec.Name} needs is not known: {service.Need.Bad}"
                    : waking.Contains(service.Spec.Name) || service.Claim.Granted < service.Need.Servers ? $"{service.Spec.Name} needs its servers now"
                    : null;
                int chamber = why is null ? Chamber(index, busy, out why) : PlacementState.Nowhere;
                if (chamber < 0)
                {
                    refused[why!] = refused.TryGetValue(why!, out var others) ? (others.First, others.Count + 1) : (server, 1);
                    continue;
                }

                string host = _state.Host[chamber].Name;
                busy.Add(host);
                var wake = Refreshing(server, MoveKind.Wake, host, server.Mark.Generation, $"{Slept(server)}: its memory is refreshed on {host}", []);
                _moves.Add(wake);
                _moves.Add(Refreshing(server, MoveKind.Hibernate, host, server.Mark.Generation + 1, "it is refreshed and sleeps again", [wake.Id]));
                remembered.Add(new Refresh(server.Mark.ServerId, server.Mark.Generation + 1, Now));
            }

            foreach (var each in refused)
            {
                var (why, (first, count)) = (each.Key, each.Value);
                _refused.Add(new RefusedMove(count == 1 ? $"refresh {first.Mark.Name}" : Words.Text($"refresh {first.Mark.Name} and {Words.Servers(count - 1)} more"), $"{Slept(first)}, but {why}"));
            }

            return remembered;

            string Slept(ServerState server) => Words.Text($"it has slept for {(Now - server.AsleepSince!.Value).TotalDays:0.#} days, longer than the {most.TotalDays:0.##} that nest.maxSleep allows");
        }

        private bool IsAnswering(string? host) => host is not null && _state.HostIndex.TryGetValue(host, out int h) && (_state.Closed[h] & (Rules.Silent | Rules.Dead)) == 0;

        /// <summary>The emptiest chamber that may take a sleeper and refreshes no other one now.</summary>
        private int Chamber(int index, HashSet<string> busy, out string? why)
        {
            int best = PlacementState.Nowhere;
            why = "there is no chamber host that may be used";
            for (int h = 0; h < _state.Hosts; h++)
            {
                if (_state.Closed[h] != Rules.Role)
                    continue;
                var rules = _state.ExcludesInChamber(index, h);
                string? lacks = busy.Contains(_state.Host[h].Name) ? "one at a time is refreshed in a chamber"
                    : _state.RuledOut(index, h)
                    ?? (rules.HasFlag(Rules.Hosts) ? "no chamber is allowed for it" : rules != Rules.None ? "no chamber has room" : null);
                if (lacks is not null)
                    why = lacks;
                else if (best < 0 || _state.MemoryCap[h] - _state.Memory[h] > _state.MemoryCap[best] - _state.Memory[best])
                    best = h;
            }

            return best;
        }

        private Move Refreshing(ServerState server, MoveKind kind, string chamber, int generation, string reason, IReadOnlyList<Guid> after) => new()
        {
            Id = NewId($"Refresh {kind}", server.Mark.ServerId.ToString()),
            Kind = kind,
            ServerId = server.Mark.ServerId,
            ServerName = server.Mark.Name,
            Service = server.Mark.Service,
            FromStage = kind is MoveKind.Wake ? Stage.Nest : Stage.Chamber,
            FromHost = kind is MoveKind.Wake ? null : chamber,
            Generation = generation,
            ToStage = kind is MoveKind.Wake ? Stage.Chamber : Stage.Nest,
            ToHost = kind is MoveKind.Wake ? chamber : null,
            Reason = reason,
            DependsOn = after,
        };
    }
}
