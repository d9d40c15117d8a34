using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;

namespace VMatrix.Planning;

/// <content>The story behind a plan, computed again from its input.</content>
public static partial class Planner
{
    /// <summary>Tells the full story of a server, a host or a service in the plan that an input makes.</summary>
    /// <param name="input">What the plan was made from.</param>
    /// <param name="id">A server's id; null to go by the name.</param>
    /// <param name="name">The name of a server, a host or a service; null to go by the id.</param>
    /// <param name="cancellation">Ends the search for the rules that cannot hold together, which plans many times.</param>
    /// <exception cref="VMatrixException"><c>SubjectNotFound</c>, <c>SubjectAmbiguous</c>.</exception>
    public static (Explanation Explanation, Plan Plan) Explain(PlannerInput input, Guid? id, string? name, CancellationToken cancellation)
    {
        var (draft, last) = Settle(input);
        using (draft)
        using (last)
        {
            var plan = draft.Finish(last).Plan;
            return (draft.Explain(plan, id, name, cancellation), plan);
        }
    }

    /// <summary>Plans with every service pinned, and says whether each count was reached, and no server of <paramref name="inPlace"/> stands where a rule is broken.</summary>
    private static bool CanHold(PlannerInput input, string? inPlace)
    {
        var (draft, last) = Settle(input);
        using (draft)
        using (last)
            return last.Holds(input.Pinned, inPlace);
    }

    private sealed partial class Draft
    {
        private const int MostMisses = 3;

        public bool Holds(IReadOnlyDictionary<string, int> counts, string? inPlace)
        {
            if (inPlace is not null && _placement.IsStuck(_state.ServiceIndex[inPlace]))
                return false;
            for (int s = 0; s < _services.Count; s++)
            {
                if (counts.TryGetValue(_services[s].Spec.Name, out int count) && _placement.Placed(s) < count)
                    return false;
            }

            return true;
        }

        public Explanation Explain(Plan plan, Guid? id, string? name, CancellationToken cancellation)
        {
            var servers = new List<(Guid Id, string Name, string Service, int Index)>();
            for (int i = 0; i < _input.Servers.Count; i++)
            {
                var mark = _input.Servers[i].Mark;
                if (id is Guid wanted ? mark.ServerId == wanted : string.Equals(mark.Name, name, StringComparison.OrdinalIgnoreCase))
                    servers.Add((mark.ServerId, mark.Name, mark.Service, i));
            }

            // A server that the plan makes is known by its moves alone.
            foreach (var move in plan.Moves)
            {
                if (move.Kind == MoveKind.Create && (id is Guid wanted ? move.ServerId == wanted : string.Equals(move.ServerName, name, StringComparison.OrdinalIgnoreCase)))
                    servers.Add((move.ServerId, move.ServerName, move.Service, -1));
            }

            string? host = _input.Pool.Hosts.FirstOrDefault(h => string.Equals(h.Name, name, StringComparison.OrdinalIgnoreCase))?.Name;
            string? service = _input.Pool.Services.FirstOrDefault(s => string.Equals(s.Name, name, StringComparison.OrdinalIgnoreCase))?.Name;
            if (servers.Count + (host is null ? 0 : 1) + (service is null ? 0 : 1) > 1)
            {
                throw new VMatrixException("SubjectAmbiguous", VMatrixErrorKind.InvalidInput,
                    $"'{name}' names more than one thing in plan {plan.Id}: {string.Join(", ", servers.Select(s => $"the server {s.Id}").Concat(host is null ? [] : ["the host"]).Concat(service is null ? [] : ["the service"]))}. Name a server by its id.");
            }

            var explanation = servers.Count == 1 ? OfServer(plan, servers[0])
                : host is not null ? OfHost(plan, host)
                : service is not null ? OfService(plan, service)
                : throw new VMatrixException("SubjectNotFound", VMatrixErrorKind.NotFound,
                    $"Plan {plan.Id} knows no server, host or service {(id is null ? $"named '{name}'" : $"with the id {id}")}; it was made at {plan.CreatedAt:u}. Get-VMatrixServer and Get-VMatrixHost list what there is now.");
            Conflict? conflict = null;
            foreach (var story in explanation.Services)
                conflict ??= new Conflicts(_input, cancellation).Of(story, explanation.Refused);
            return explanation with { Conflict = conflict };
        }

        private Explanation OfServer(Plan plan, (Guid Id, string Name, string Service, int Index) server)
        {
            Move[] moves = [.. plan.Moves.Where(m => m.ServerId == server.Id)];
            var story = Story(server.Service);
            int s = _state.ServiceIndex.TryGetValue(server.Service, out int known) ? known : -1;
            IReadOnlyList<Candidate> candidates = [];
            if (s >= 0)
            {
                int i = server.Index >= 0 ? server.Index : _state.New(s);
                string? chosen = moves.LastOrDefault(m => m.ToHost is not null)?.ToHost;
                candidates = Candidates(i, s, moves.Length > 0 ? chosen : null, server.Index < 0 ? chosen : null);
            }

            var (excluded, nearest) = Count(candidates);
            return new Explanation
            {
                PlanId = plan.Id,
                At = plan.CreatedAt,
                Kind = ExplainedKind.Server,
                Subject = server.Name,
                ServerId = server.Id,
                Outcome = moves.Length > 0 ? string.Join("; then ", moves.Select(m => $"{Said(m)}: {m.Reason}")) : Stays(server, story),
                Moves = moves,
                Refused = About(plan, server.Name, server.Service),
                Services = story is null ? [] : [story],
                Candidates = candidates,
                Excluded = excluded,
                NearestMisses = nearest,
            };
        }

        /// <summary>Why a server is where it is and the plan leaves it there.</summary>
        private string Stays((Guid Id, string Name, string Service, int Index) server, ServiceStory? story)
        {
            var now = _input.Servers[server.Index];
            string where = now.Host is null ? $"{server.Name} stays in the {now.Mark.Stage}" : $"{server.Name} stays on {now.Host}, in the {now.Mark.Stage}";
            if (story is null)
                return $"{where}: its service {server.Service} is not in the pool file, so nothing is done with it";
            var d = story.Decision;
            string counts = Words.Text($"{server.Service} has {d.Has}, needs {d.Needs} and is granted {d.Granted}");
            if (now.Claimed)
                return $"{where}: a move is under way{(now.ClaimedTo is null ? "" : $" that takes it to the {now.ClaimedTo}{(now.ClaimedHost is null ? "" : $" on {now.ClaimedHost}")}")}";
            if (now.Mark.HeldUntil is DateTimeOffset until && until > Now)
                return $"{where}: it was moved by hand and is held until {until:u}";
            if (now.Waits is not null)
                return $"{where}: {now.Waits}";
            if (story.Mode == OracleMode.Shadow)
                return $"{where}: {IsShadowed}; {counts}";
            if (_byName[server.Service].Frozen is string frozen)
                return $"{where}: {frozen}";
            return now.Mark.Stage switch
            {
                Stage.Matrix when _state.At[server.Index] >= 0 && (_state.Closed[_state.At[server.Index]] & (Rules.Silent | Rules.Dead)) != 0 => $"{where}: {now.Host} does not answer, which proves nothing, so nothing on it is touched; {counts}",
                Stage.Matrix => $"{where}: it breaks no rule there and no other host is worth a move; {counts}",
                Stage.Nest => $"{where}: {counts}, so no more of it wake",
                Stage.Chamber => $"{where}: what is under repair is left to who repairs it",
                _ => $"{where}: it is out of use",
            };
        }

        private Explanation OfHost(Plan plan, string name)
        {
            int h = _state.HostIndex[name];
            var spec = _state.Host[h];
            var now = _state.HostNow[h];
            Move[] moves = [.. plan.Moves.Where(m => m.FromHost == name || m.ToHost == name)];
            var before = _input.Servers.Where(s => s.Host == name).ToArray();
            var after = new List<int>();
            for (int i = _state.First[h]; i >= 0; i = _state.Next[i])
                after.Add(i);
            var services = new SortedSet<string>(before.Select(s => s.Mark.Service).Concat(moves.Select(m => m.Service)), StringComparer.Ordinal);
            var candidates = new List<Candidate>();
            for (int s = 0; s < _state.Services && spec.Role == HostRole.Matrix; s++)
            {
                int i = _state.New(s);
                _state.ReserveHolds = _placement.Placed(s) + 1 > _services[s].Claim.Floor;
                candidates.Add(Candidate(i, s, h, null, null));
                _state.ReserveHolds = false;
            }

            string state = now.ProvenDead ? "is proven dead: its servers are started elsewhere"
                : now.Waking ? "is on its way up"
                : now.PoweredDown ? "is powered down"
                : !now.Reachable ? "does not answer, which proves nothing: nothing on it is touched and nothing is placed on it"
                : now.Suspended ? "is suspended: its servers are moved away and nothing is placed on it"
                : spec.Role == HostRole.Chamber ? "is a chamber host: its servers are under repair and left to who repairs them"
                : "is open";
            long used = _state.Memory[h];
            var (excluded, nearest) = Count(candidates);
            return new Explanation
            {
                PlanId = plan.Id,
                At = plan.CreatedAt,
                Kind = ExplainedKind.Host,
                Subject = name,
                Outcome = Words.Text($"{name} {state}; it has {before.Length} {(before.Length == 1 ? "server" : "servers")} and {(moves.Length == 0 ? "the plan does nothing with it" : Words.Text($"will have {after.Count} after {moves.Length} {(moves.Length == 1 ? "move" : "moves")}"))}; {used >> 20} of {spec.MemoryBytes >> 20} MiB are taken then{(now.ForeignMemoryBytes > 0 ? Words.Text($", {now.ForeignMemoryBytes >> 20} of them by machines that are not ours") : "")}{string.Concat(plan.Hosts.Where(a => a.Host == name).Select(a => $"; the plan {(a.Kind is HostActionKind.Wake ? "wakes it" : "powers it down")}: {a.Reason}"))}"),
                Moves = moves,
                Refused = [.. plan.Refused.Where(r => Names(r.What, name) || Names(r.Reason, name) || before.Any(s => Names(r.What, s.Mark.Name)))],
                Services = [.. services.Select(Story).OfType<ServiceStory>()],
                Candidates = candidates,
                Excluded = excluded,
                NearestMisses = nearest,
            };
        }

        private Explanation OfService(Plan plan, string name)
        {
            int s = _state.ServiceIndex[name];
            Move[] moves = [.. plan.Moves.Where(m => m.Service == name)];
            var story = Story(name)!;
            var candidates = Candidates(_state.New(s), s, null, null);
            var (excluded, nearest) = Count(candidates);
            return new Explanation
            {
                PlanId = plan.Id,
                At = plan.CreatedAt,
                Kind = ExplainedKind.Service,
                Subject = name,
                Outcome = moves.Length == 0 ? $"Nothing to do for {name}: {story.Decision.Reason}" : Words.Text($"{moves.Length} {(moves.Length == 1 ? "move" : "moves")} for {name}: {story.Decision.Reason}"),
                Moves = moves,
                Refused = About(plan, null, name),
                Services = [story],
                Candidates = candidates,
                Excluded = excluded,
                NearestMisses = nearest,
            };
        }

        private ServiceStory? Story(string name)
        {
            if (!_byName.TryGetValue(name, out var service))
                return null;
            var (need, spec) = (service.Need, service.Spec);
            var decision = Decide(service);
            int has = service.Live.Count, most = Math.Min(spec.Most, Math.Max(Math.Max(has, need.Servers), decision.Granted) + 1);
            var worth = new List<ServerWorth>();
            // Of a large service the servers around those it has and needs are told; the first ones are worth a whole server each.
            int from = Math.Max(1, Math.Min(has, Math.Min(need.Servers, decision.Granted)) - 8);
            for (int n = from; n <= most && need.Bad is null; n++)
            {
                var (now, soon) = need.Use?.Invoke(n) ?? (double.NaN, double.NaN);
                worth.Add(new ServerWorth { Server = n, UsedNow = now, UsedSoon = soon, Worth = need.Worth(n, has), Stay = service.Claim.StayWorth(n), Held = n <= has, Granted = n <= decision.Granted });
            }

            return new ServiceStory
            {
                Decision = decision,
                Priority = spec.Priority,
                Mode = spec.Mode ?? Oracle.Mode,
                Least = spec.Least,
                Most = spec.Most,
                Worth = worth,
                CostBefore = Cost(has),
                CostAfter = Cost(decision.Granted) + (Economy.Activation(Oracle, WakeBytes(name)) * Math.Max(0, decision.Granted - has)),
                WakeTime = _input.WakeTime.TryGetValue(name, out var wake) ? wake : null,
                WakeBytes = _input.WakeBytes.TryGetValue(name, out long bytes) ? bytes : null,
                ActivationCost = Economy.Activation(Oracle, WakeBytes(name)),
            };

            // The same prices as in the worth: what is left unserved, and what is held, in the next step and over the horizon.
            double Cost(int servers)
            {
                if (need.Use is null)
                    return double.NaN;
                double now = need.Demand.Now, soon = need.Demand.Soon;
                for (int n = 1; n <= servers; n++)
                {
                    var (a, b) = need.Use(n);
                    (now, soon) = (now - a, soon - b);
                }

                double held = Oracle.ServerCost * servers;
                return (need.StepMinutes * ((spec.Priority * Math.Max(0, now)) + held)) + (Oracle.Horizon.TotalMinutes * ((spec.Priority * Math.Max(0, soon)) + held));
            }
        }

        /// <summary>Every host for a server, with all else in the plan done and the server itself lifted.</summary>
        private List<Candidate> Candidates(int i, int s, string? chosen, string? born)
        {
            int mark = _state.Mark, at = _state.At[i];
            string? host = chosen ?? (at >= 0 ? _state.Host[at].Name : null);
            bool moved = chosen is not null;
            _state.Set(i, PlacementState.Nowhere);
            // A server that the plan makes stands in the state under another number: one of its service on that host is thought away.
            int twin = PlacementState.Nowhere;
            if (born is not null)
            {
                for (int j = _state.First[_state.HostIndex[born]]; j >= 0 && twin < 0; j = _state.Next[j])
                    twin = j >= _input.Servers.Count && _state.Of[j] == s ? j : PlacementState.Nowhere;
                if (twin >= 0)
                    _state.Set(twin, PlacementState.Nowhere);
            }

            _state.ReserveHolds = _state.Home[i] < 0 && _placement.Placed(s) + (host is null ? 1 : 0) > _services[s].Claim.Floor;
            var candidates = new List<Candidate>();
            for (int h = 0; h < _state.Hosts; h++)
            {
                if ((_state.Closed[h] & Rules.Role) == 0)
                    candidates.Add(Candidate(i, s, h, host, moved ? "chosen" : "here"));
            }

            _state.ReserveHolds = false;
            _state.Back(mark);
            return [.. candidates.OrderBy(c => c.Verdict is "chosen" or "here" ? 0 : c.Verdict == "possible" ? 1 : 2).ThenBy(c => c.Cost).ThenBy(c => c.Rules.Count)];
        }

        private Candidate Candidate(int i, int s, int h, string? host, string? verdict)
        {
            var rules = _state.Excludes(i, h);
            string name = _state.Host[h].Name;
            bool isIt = name == host;
            long free = _state.MemoryCap[h] - _state.Memory[h];
            if (rules != Rules.None)
            {
                return new Candidate
                {
                    Host = name,
                    Service = _state.Service[s].Name,
                    Verdict = isIt ? verdict! : "excluded",
                    Rules = PlacementReasons.Names(rules),
                    Why = _placement.Reasons.Lacks(i, h, rules),
                    MemoryFreeBytes = free,
                };
            }

            var why = new List<string>();
            int inDomain = _state.DomainCount[s] is int[] domains ? domains[_state.Domain[h]] : 0, misses = _state.Misses(i, h);
            if (inDomain > 0)
                why.Add(Words.Text($"{inDomain} of {_state.Service[s].Name} in its fault domain"));
            if (misses > 0)
                why.Add(Words.Text($"{misses} {(misses == 1 ? "wish" : "wishes")} for company open"));
            // Where it stands already it waits for nobody.
            bool freed = _state.Home[i] != h && !_state.FitsNow(i, h);
            if (freed)
                why.Add("its room is freed by this plan first");
            if (_state.ImageIsSomewhere[s] && !_state.HoldsImage(i, h))
                why.Add("the image's blocks are not there");
            else if (_state.ImageIsSomewhere[s] && _state.Carries(h, s, i))
                why.Add($"another of {_state.Service[s].Name} is there, with its image's blocks");
            if (_state.NeedsSeat(i, h))
                why.Add("a licence has to be assigned");
            if (_state.Rating(s, h) is double rating)
                why.Add(Words.Text($"rated {100 * rating:0} % by the platform"));
            double full = 1 - ((double)free / Math.Max(1, _state.MemoryCap[h]));
            why.Add(Words.Text($"{100 * full:0} % full without it"));
            return new Candidate
            {
                Host = name,
                Service = _state.Service[s].Name,
                Verdict = isIt ? verdict! : "possible",
                Cost = Math.Round(_placement.Search.Score(i, h) - (freed || _state.FitsNow(i, h) ? 0 : PlacementSearch.Freed) + (Oracle.PowerDown ? 1 - full : full) + _state.Handicap(s, h) / (double)PlacementState.BucketCount, 3),
                Why = string.Join(", ", why),
                MemoryFreeBytes = free,
            };
        }

        private static (IReadOnlyList<RuleCount>, IReadOnlyList<Candidate>) Count(IReadOnlyList<Candidate> candidates)
        {
            var excluded = candidates.Where(c => c.Verdict == "excluded").ToArray();
            return ([.. excluded.SelectMany(c => c.Rules).GroupBy(r => r).Select(g => new RuleCount(g.Key, g.Count())).OrderByDescending(r => r.Hosts).ThenBy(r => r.Rule, StringComparer.Ordinal)],
                [.. excluded.OrderBy(c => c.Rules.Count).ThenByDescending(c => c.MemoryFreeBytes).ThenBy(c => c.Host, StringComparer.Ordinal).Take(MostMisses)]);
        }

        private static RefusedMove[] About(Plan plan, string? server, string service) =>
            [.. plan.Refused.Where(r => (server is not null && Names(r.What, server)) || Names(r.What, service))];

        /// <summary>True when a sentence has a name in it as a word.</summary>
        private static bool Names(string sentence, string name)
        {
            for (int at = sentence.IndexOf(name, StringComparison.Ordinal); at >= 0; at = sentence.IndexOf(name, at + 1, StringComparison.Ordinal))
            {
                int end = at + name.Length;
                if ((at == 0 || !IsPart(sentence[at - 1])) && (end == sentence.Length || !IsPart(sentence[end])))
                    return true;
            }

            return false;

            static bool IsPart(char c) => char.IsLetterOrDigit(c) || c is '-' or '_';
        }

        private static string Said(Move move) =>
            $"{(move.IsDrop ? "Drop" : move.Kind.ToString())} {move.ServerName}, {move.FromStage}{(move.FromHost is null ? "" : $" on {move.FromHost}")} -> {move.ToStage}{(move.ToHost is null ? "" : $" on {move.ToHost}")}";
    }
}
