using System;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using VMatrix.Drivers;

namespace VMatrix.Planning;

/// <summary>Makes plans: sense, forecast, need, allocate, place. Pure.</summary>
public static class Planner
{
    /// <summary>Makes a plan. The same input makes the same plan, ids included.</summary>
    public static PlannerOutput Plan(PlannerInput input)
    {
        using var draft = new Draft(input);
        return draft.Make();
    }

    /// <summary>True when <paramref name="now"/> lies in a window in which the service's servers may not be moved. Windows are read in the offset that <paramref name="now"/> carries.</summary>
    public static bool IsFrozen(ServiceSpec service, DateTimeOffset now)
    {
        foreach (var window in service.Freeze)
        {
            bool overnight = window.To <= window.From;
            bool today = Starts(window, now.DayOfWeek) && now.TimeOfDay >= window.From && (overnight || now.TimeOfDay < window.To);
            bool sinceYesterday = overnight && Starts(window, now.AddDays(-1).DayOfWeek) && now.TimeOfDay < window.To;
            if (today || sinceYesterday)
                return true;
        }

        return false;

        static bool Starts(FreezeSpec window, DayOfWeek day) => window.Days.Count == 0 || window.Days.Contains(day);
    }

    /// <summary>A service while its plan is made.</summary>
    private sealed class Service
    {
        public required ServiceSpec Spec { get; init; }

        public required ServiceMemory Memory { get; init; }

        /// <summary>In the Matrix and to be counted on: healthy or not broken yet, claimed ones where they go.</summary>
        public List<ServerState> Live { get; } = [];

        /// <summary>Of those, the ones that this plan may move.</summary>
        public List<ServerState> Movable { get; } = [];

        public List<ServerState> Dormant { get; } = [];

        public List<(ServerState Server, string Why)> Broken { get; } = [];

        /// <summary>Live ones that take no room of a usable host.</summary>
        public int Outside { get; set; }

        public int Disposed { get; set; }

        public int DisposedLately { get; set; }

        public int HighestNumber { get; set; }

        public ServiceNeed Need { get; set; } = null!;

        public Claimant Claim { get; set; } = null!;

        public string? Frozen { get; set; }
    }

    private sealed class Draft : IDisposable
    {
        private readonly PlannerInput _input;
        private readonly SHA256 _sha = SHA256.Create();
        private readonly Dictionary<string, Room> _rooms = new(StringComparer.Ordinal);
        private readonly List<Room> _usable = [];
        private readonly List<Service> _services = [];
        private readonly Dictionary<string, Service> _byName = new(StringComparer.Ordinal);
        private readonly List<Move> _moves = [];
        private readonly List<RefusedMove> _refused = [];
        private int _ordinal;

        public Draft(PlannerInput input) => _input = input;

        public void Dispose() => _sha.Dispose();

        private OracleSpec Oracle => _input.Pool.Oracle;

        private DateTimeOffset Now => _input.Now;

        public PlannerOutput Make()
        {
            Look();
            foreach (var service in _services)
                Want(service);
            double hosts = Math.Max(0, _usable.Count - Oracle.ReserveHosts);
            Allocation.Divide(_services.Select(s => s.Claim).ToList(), hosts);
            foreach (var service in _services)
                DisposeBroken(service);
            foreach (var service in _services)
                GiveUp(service);
            foreach (var service in _services)
                Evacuate(service);
            // The most important is served first where room runs out.
            foreach (var service in _services.OrderByDescending(s => s.Spec.Priority).ThenBy(s => s.Spec.Name, StringComparer.Ordinal))
                Gain(service);
            var plan = new Plan
            {
                Id = NewId("plan", string.Join("\n", _moves.Select(m => m.Id.ToString()))),
                Pool = _input.Pool.Name,
                CreatedAt = Now,
                ExpiresAt = Now + Oracle.PlanExpiry,
                Moves = _moves.ToArray(),
                Refused = _refused.ToArray(),
                Decisions = _services.Select(Decide).ToArray(),
                Summary = Summarise(),
            };
            var memory = new Dictionary<string, string>(StringComparer.Ordinal);
            var forecasts = new Dictionary<string, ForecastState>(StringComparer.Ordinal);
            foreach (var service in _services)
            {
                memory[service.Spec.Name] = service.Memory.Write();
                if (service.Memory.Forecast is not null)
                    forecasts[service.Spec.Name] = service.Memory.Forecast;
            }

            return new PlannerOutput(plan, new PlannerMemory { ByService = memory, Forecasts = forecasts });
        }

        /// <summary>Sorts hosts and servers.</summary>
        private void Look()
        {
            var states = new Dictionary<string, HostState>(StringComparer.Ordinal);
            foreach (var state in _input.Hosts)
                states[state.Name] = state;
            foreach (var spec in _input.Pool.Hosts)
            {
                // A host that nobody reported on is one that does not answer.
                var room = new Room(spec, states.TryGetValue(spec.Name, out var state) ? state : new HostState { Name = spec.Name, Reachable = false });
                _rooms[spec.Name] = room;
                if (room.Usable)
                    _usable.Add(room);
            }

            foreach (var spec in _input.Pool.Services)
            {
                var service = new Service { Spec = spec, Memory = ServiceMemory.Read(_input.Memory, spec.Name) };
                if (IsFrozen(spec, Now))
                    service.Frozen = "it lies in a window in which its servers may not be moved";
                _services.Add(service);
                _byName[spec.Name] = service;
            }

            foreach (var server in _input.Servers)
            {
                if (!_byName.TryGetValue(server.Mark.Service, out var service))
                {
                    Occupy(server, Isolation.Dedicated);
                    if (!server.Claimed && server.Mark.Stage is Stage.Matrix)
                        _refused.Add(new RefusedMove($"hibernate {server.Mark.Name}", $"its service {server.Mark.Service} is not in the pool file; move it by hand"));
                    continue;
                }

                Number(service, server.Mark.Name);
                Occupy(server, service.Spec.Isolation);
                var stage = server.Claimed ? server.ClaimedTo ?? server.Mark.Stage : server.Mark.Stage;
                bool held = server.Mark.HeldUntil is DateTimeOffset until && until > Now;
                switch (stage)
                {
                    case Stage.Nest when !server.Claimed && !held:
                        service.Dormant.Add(server);
                        break;
                    case Stage.Matrix:
                        Matrix(service, server, held);
                        break;
                    case Stage.Disposed:
                        service.Disposed++;
                        if (server.Mark.ChangedAt > Now - Oracle.Horizon)
                            service.DisposedLately++;
                        break;
                    default:
                        break;
                }
            }

            foreach (var service in _services)
            {
                var failing = new HashSet<Guid>(service.Live.Select(s => s.Mark.ServerId).Concat(service.Broken.Select(b => b.Server.Mark.ServerId)));
                foreach (var id in service.Memory.Failing.Keys.Where(id => !failing.Contains(id)).ToList())
                    service.Memory.Failing.Remove(id);
            }
        }

        private void Occupy(ServerState server, Isolation isolation)
        {
            if (server.Host is not null && server.Mark.Stage is Stage.Matrix or Stage.Chamber && _rooms.TryGetValue(server.Host!, out var room))
                room.Enter(server.MemoryBytes, isolation);
            if (server.Claimed && server.ClaimedTo is Stage.Matrix or Stage.Chamber && server.ClaimedHost is not null && server.ClaimedHost != server.Host
                && _rooms.TryGetValue(server.ClaimedHost, out var target))
            {
                target.Enter(server.MemoryBytes, isolation);
            }
        }

        private void Matrix(Service service, ServerState server, bool held)
        {
            string? hostName = server.Claimed ? server.ClaimedHost ?? server.Host : server.Host;
            var room = hostName is not null && _rooms.TryGetValue(hostName, out var r) ? r : null;
            bool answers = room is { State.Reachable: true };
            bool lost = room is { State.ProvenDead: true };
            if (!server.Claimed && !lost && Broken(service, server) is string why)
            {
                // It serves nobody: not counted on, so that another takes its place. It is taken away only where that is safe.
                if (!answers)
                    _refused.Add(new RefusedMove($"dispose {server.Mark.Name}", $"{why}, but {hostName} does not answer, which proves nothing; nothing on it is touched"));
                else if (held)
                    _refused.Add(new RefusedMove($"dispose {server.Mark.Name}", $"{why}, but it was moved by hand and is held until {server.Mark.HeldUntil:u}"));
                else
                    service.Broken.Add((server, why));
                return;
            }

            service.Live.Add(server);
            if (!server.Claimed && !held && (answers || lost))
                service.Movable.Add(server);
            if (!answers && !lost)
                service.Outside++;
        }

        /// <summary>Why a server counts as broken, or null. Counts failed checks in the memory.</summary>
        private string? Broken(Service service, ServerState server)
        {
            var health = service.Spec.Health;
            var id = server.Mark.ServerId;
            if (server.Health == ServerHealth.Dead)
                return "its machine is gone";
            bool bad = server.Health is ServerHealth.Failing or ServerHealth.Hung || server.Power is PowerState.Off or PowerState.Saved;
            if (!bad)
            {
                service.Memory.Failing.Remove(id);
                return null;
            }

            if (!service.Memory.Failing.TryGetValue(id, out var failing))
                service.Memory.Failing[id] = failing = new Failing();
            // Plans may come faster than checks; one check is counted once.
            if (failing.Checks == 0 || Now - failing.At >= TimeSpan.FromTicks(health.Interval.Ticks * 9 / 10))
            {
                failing.Checks++;
                failing.At = Now;
            }

            if (failing.Checks < health.Failures)
                return null;
            string what = server.Health switch
            {
                ServerHealth.Hung => "its machine does not answer",
                ServerHealth.Failing => "its health check fails",
                _ => $"it should run and is {server.Power}",
            };
            return Words.Text($"{what}, {failing.Checks} times in a row of {health.Failures} allowed");
        }

        private static void Number(Service service, string name)
        {
            int start = service.Spec.Name.Length + 1;
            if (name.Length <= start || name.Length > start + 9 || name[start - 1] != '-' || !name.StartsWith(service.Spec.Name, StringComparison.Ordinal))
                return;
            int number = 0;
            for (int i = start; i < name.Length; i++)
            {
                if (name[i] is < '0' or > '9')
                    return;
                number = number * 10 + (name[i] - '0');
            }

            service.HighestNumber = Math.Max(service.HighestNumber, number);
        }

        /// <summary>What a service asks for.</summary>
        private void Want(Service service)
        {
            var spec = service.Spec;
            int live = service.Live.Count, broken = service.Broken.Count, has = live + broken;
            _input.Loads.TryGetValue(spec.Name, out var samples);
            var need = Need.Of(spec, _input.Pool, samples, live, _input.WakeTime.TryGetValue(spec.Name, out var wake) ? wake : null, service.Memory, Now);
            int fits = 0;
            double perHost = 0;
            foreach (var room in _usable)
            {
                int n = room.Excludes(Unplaced(spec), spec.Image.MemoryBytes, after: false) is "not allowed" or "forbidden" or "no licence" ? 0 : room.Fits(spec);
                fits = (int)Math.Min(int.MaxValue, (long)fits + n);
                perHost += n;
            }

            perHost = fits == 0 ? 1 : Math.Max(1, perHost / Math.Max(1, _usable.Count(r => r.Fits(spec) > 0)));
            int ceiling = Math.Min(spec.Most, (int)Math.Min(int.MaxValue, (long)fits + service.Outside));
            int untouchable = live - service.Movable.Count;
            int floor = Math.Max(untouchable, Math.Min(spec.Least, ceiling));
            service.Need = need;
            if (service.Frozen is not null)
            {
                floor = live;
                ceiling = live;
            }
            else if (_input.Pinned.TryGetValue(spec.Name, out int pinned))
            {
                floor = Math.Max(untouchable, pinned);
                ceiling = floor;
            }
            else if (need.Bad is not null)
            {
                // Frozen at what it had, broken ones replaced; only the least count, which no load decides, may add to that.
                floor = Math.Max(floor, Math.Min(has, Math.Max(spec.Most, untouchable)));
                ceiling = floor;
            }

            service.Claim = new Claimant
            {
                Spec = spec,
                Floor = floor,
                Ceiling = Math.Max(floor, ceiling),
                Has = live,
                Calm = Math.Min(live, need.Calm),
                Share = 1 / perHost,
                Outside = service.Outside,
                Worth = need.Worth,
            };
        }

        // Isolation and room aside: only the rules that no move of this plan changes.
        private static ServiceSpec Unplaced(ServiceSpec spec) => spec with { Isolation = Isolation.Shared };

        private void DisposeBroken(Service service)
        {
            // Servers that break one after another are a broken image or check, not broken servers: stop and tell.
            int allowed = Math.Max(3, service.Claim.Granted) - service.DisposedLately;
            foreach (var (server, why) in service.Broken.OrderBy(b => b.Server.Mark.ServerId))
            {
                string what = $"dispose {server.Mark.Name} on {server.Host}";
                if (service.Frozen is not null)
                    _refused.Add(new RefusedMove(what, $"{why}, but {service.Frozen}"));
                else if (allowed <= 0)
                    _refused.Add(new RefusedMove(what, Words.Text($"{why}, but {service.DisposedLately} servers of {service.Spec.Name} were disposed of within {Words.Seconds(Oracle.Horizon)}: look at the image and the health check first")));
                else if (Shadow(service, what, why))
                    continue;
                else
                {
                    allowed--;
                    var move = Away(server, MoveKind.Dispose, Stage.Disposed, $"{why}: disposed of, to be replaced");
                    if (server.Host is not null && _rooms.TryGetValue(server.Host, out var room))
                        room.Leave(server.MemoryBytes, service.Spec.Isolation, move.Id);
                }
            }
        }

        private void GiveUp(Service service)
        {
            var claim = service.Claim;
            // A server on its way serves nobody yet: nothing is given up for it before it has come.
            int arriving = service.Live.Count(s => s.Claimed && (s.Mark.Stage is not Stage.Matrix || s.ClaimedHost != s.Host));
            int surplus = service.Live.Count - arriving - claim.Granted;
            if (surplus <= 0)
                return;
            // First those that must leave their host anyway, then those that fare badly, then those that were moved longest ago.
            var order = service.Movable
                .OrderBy(s => s.Host is not null && _rooms.TryGetValue(s.Host, out var r) && r.Usable ? 1 : 0)
                .ThenBy(s => s.Health == ServerHealth.Healthy ? 1 : 0)
                .ThenBy(s => s.Mark.ChangedAt)
                .ThenBy(s => s.Mark.ServerId);
            // A drop takes away what is still needed; what is no longer needed is merely given up.
            int stillNeeded = Math.Min(service.Need.Servers, service.Live.Count) - claim.Granted;
            string? forWhom = _services.Where(s => s.Claim.Granted > s.Live.Count).OrderByDescending(s => s.Spec.Priority).Select(s => s.Spec.Name).FirstOrDefault();
            int left = surplus;
            foreach (var server in order)
            {
                if (left == 0)
                    break;
                bool drop = left <= stillNeeded;
                string reason = drop
                    ? Words.Text($"dropped: {service.Spec.Name} needs {service.Need.Servers} and is granted {claim.Granted}, the room is worth more to {forWhom ?? "others"} ({service.Need.Reason})")
                    : Words.Text($"not needed: {service.Spec.Name} has {service.Live.Count} and needs {service.Need.Servers}, at most {service.Need.Calm} in the last {Words.Seconds(Oracle.Calm)} ({service.Need.Reason})");
                left--;
                if (Shadow(service, $"hibernate {server.Mark.Name} on {server.Host}", reason))
                    continue;
                var move = Away(server, MoveKind.Hibernate, Stage.Nest, reason, drop);
                service.Movable.Remove(server);
                if (server.Host is not null && _rooms.TryGetValue(server.Host, out var room))
                    room.Leave(server.MemoryBytes, service.Spec.Isolation, move.Id);
            }
        }

        private void Evacuate(Service service)
        {
            foreach (var server in service.Movable)
            {
                if (server.Host is null || !_rooms.TryGetValue(server.Host, out var from) || !(from.State.Suspended || from.State.ProvenDead))
                    continue;
                string why = from.State.ProvenDead ? $"{server.Host} is proven dead" : $"{server.Host} is suspended";
                string what = $"move {server.Mark.Name} away from {server.Host}";
                if (service.Frozen is not null)
                {
                    _refused.Add(new RefusedMove(what, $"{why}, but {service.Frozen}"));
                    continue;
                }

                var (to, after, found) = Placement.Choose(_usable, service.Spec, server.MemoryBytes);
                if (to is null)
                {
                    _refused.Add(new RefusedMove(what, $"{why}, and no host has room: {found}"));
                    continue;
                }

                if (Shadow(service, what, why))
                    continue;
                to.Enter(server.MemoryBytes, service.Spec.Isolation);
                var move = new Move
                {
                    Id = NewId("relocate", server.Mark.ServerId.ToString()),
                    Kind = MoveKind.Relocate,
                    ServerId = server.Mark.ServerId,
                    ServerName = server.Mark.Name,
                    Service = service.Spec.Name,
                    FromStage = Stage.Matrix,
                    FromHost = server.Host,
                    Generation = server.Mark.Generation,
                    ToStage = Stage.Matrix,
                    ToHost = to.Spec.Name,
                    Live = _input.LiveMigration && !from.State.ProvenDead,
                    Reason = $"{why}: to {to.Spec.Name} ({found})",
                    DependsOn = after,
                };
                _moves.Add(move);
                from.Leave(server.MemoryBytes, service.Spec.Isolation, move.Id);
            }
        }

        private void Gain(Service service)
        {
            int missing = service.Claim.Granted - service.Live.Count;
            if (missing <= 0)
                return;
            if (service.Frozen is not null)
            {
                _refused.Add(new RefusedMove($"wake {Words.Servers(missing)} of {service.Spec.Name}", service.Frozen));
                return;
            }

            _input.Images.TryGetValue(service.Spec.Name, out string? image);
            // A kept memory wakes ten times faster than a boot; the newest image next.
            var dormant = new Queue<ServerState>(service.Dormant
                .OrderBy(s => s.Power == PowerState.Saved ? 0 : 1)
                .ThenBy(s => s.Mark.Image == image ? 0 : 1)
                .ThenBy(s => s.Mark.ChangedAt)
                .ThenBy(s => s.Mark.ServerId));
            string why = Words.Text($"{service.Spec.Name} has {service.Live.Count}, needs {service.Need.Servers} and is granted {service.Claim.Granted} ({service.Need.Reason})");
            for (int i = 0; i < missing; i++)
            {
                var server = dormant.Count > 0 ? dormant.Peek() : null;
                long memory = server is { MemoryBytes: > 0 } ? server.MemoryBytes : service.Spec.Image.MemoryBytes;
                var (to, after, found) = Placement.Choose(_usable, service.Spec, memory);
                if (to is null)
                {
                    _refused.Add(new RefusedMove($"wake {Words.Servers(missing - i)} of {service.Spec.Name}", $"no host has room: {found}; {why}"));
                    return;
                }

                string what = $"wake a server of {service.Spec.Name} on {to.Spec.Name}";
                if (Shadow(service, what, why))
                    continue;
                Guid id;
                string name;
                int generation = 0;
                IReadOnlyList<Guid> first = after;
                if (server is not null)
                {
                    dormant.Dequeue();
                    (id, name, generation) = (server.Mark.ServerId, server.Mark.Name, server.Mark.Generation);
                }
                else
                {
                    name = Words.Text($"{service.Spec.Name}-{++service.HighestNumber}");
                    id = NewId("server", name);
                    var create = new Move
                    {
                        Id = NewId("create", id.ToString()),
                        Kind = MoveKind.Create,
                        ServerId = id,
                        ServerName = name,
                        Service = service.Spec.Name,
                        FromStage = Stage.Nest,
                        ToStage = Stage.Nest,
                        Reason = Words.Text($"{service.Dormant.Count} of {service.Spec.Name} dormant in the nest, {missing} wanted"),
                    };
                    _moves.Add(create);
                    first = [.. after, create.Id];
                }

                to.Enter(memory, service.Spec.Isolation);
                _moves.Add(new Move
                {
                    Id = NewId("wake", id.ToString()),
                    Kind = MoveKind.Wake,
                    ServerId = id,
                    ServerName = name,
                    Service = service.Spec.Name,
                    FromStage = Stage.Nest,
                    Generation = generation,
                    ToStage = Stage.Matrix,
                    ToHost = to.Spec.Name,
                    Reason = $"{why}; on {to.Spec.Name} ({found})",
                    DependsOn = first,
                });
            }
        }

        private Move Away(ServerState server, MoveKind kind, Stage to, string reason, bool drop = false)
        {
            var move = new Move
            {
                Id = NewId(kind.ToString(), server.Mark.ServerId.ToString()),
                Kind = kind,
                ServerId = server.Mark.ServerId,
                ServerName = server.Mark.Name,
                Service = server.Mark.Service,
                FromStage = server.Mark.Stage,
                FromHost = server.Host,
                Generation = server.Mark.Generation,
                ToStage = to,
                IsDrop = drop,
                Reason = reason,
            };
            _moves.Add(move);
            return move;
        }

        private bool Shadow(Service service, string what, string why)
        {
            if ((service.Spec.Mode ?? Oracle.Mode) != OracleMode.Shadow)
                return false;
            _refused.Add(new RefusedMove(what, $"mode is shadow, nothing is done; it would be because {why}"));
            return true;
        }

        private ServiceDecision Decide(Service service)
        {
            var need = service.Need;
            var claim = service.Claim;
            _input.Loads.TryGetValue(service.Spec.Name, out var samples);
            var last = samples is { Count: > 0 } ? samples[samples.Count - 1] : null;
            string decision = service.Frozen is not null ? $"stays at {service.Live.Count}: {service.Frozen}"
                : _input.Pinned.TryGetValue(service.Spec.Name, out int pinned) ? Words.Text($"pinned at {pinned} by an operator")
                : need.Bad is not null ? $"frozen at {claim.Granted}: {need.Bad}"
                : claim.Granted < need.Servers ? Words.Text($"needs {need.Servers}, granted {claim.Granted}: {(claim.Granted == claim.Ceiling ? $"most is {claim.Ceiling}" : "the pool is short and the room is worth more to others")}")
                : claim.Granted > need.Servers && claim.Granted <= claim.Calm ? Words.Text($"needs {need.Servers}, keeps {claim.Granted}: {need.Calm} were needed within {Words.Seconds(Oracle.Calm)}")
                : Words.Text($"needs {need.Servers}, granted {claim.Granted}");
            return new ServiceDecision
            {
                Service = service.Spec.Name,
                Rate = need.Bad is null ? last!.RequestRate : double.NaN,
                Queue = last?.Queue ?? 0,
                Forecast = need.Forecast,
                Capacity = need.Capacity,
                Has = service.Live.Count,
                Needs = Math.Max(need.Servers, service.Spec.Least),
                Granted = claim.Granted,
                Reason = need.Bad is null ? $"{decision}; {need.Reason}" : decision,
            };
        }

        private string Summarise()
        {
            if (_moves.Count > 0)
            {
                var kinds = _moves.GroupBy(m => (m.Kind, m.Service)).Select(g => Words.Text($"{g.Key.Kind.ToString().ToLowerInvariant()} {g.Count()} of {g.Key.Service}")).ToList();
                string moves = string.Join(", ", kinds.Take(6)) + (kinds.Count > 6 ? Words.Text($" and {kinds.Count - 6} more kinds") : "");
                return Words.Text($"{_moves.Count} {(_moves.Count == 1 ? "move" : "moves")}: {moves}.") + Refusals();
            }

            var short_ = _services.Select(s => Words.Text($"{s.Spec.Name} has {s.Live.Count} and needs {s.Need.Servers}{(s.Need.Bad is null ? "" : " (frozen: " + s.Need.Bad + ")")}")).ToList();
            return "Nothing to do: " + string.Join(", ", short_.Take(6)) + (short_.Count > 6 ? Words.Text($" and {short_.Count - 6} more services") : "") + "." + Refusals();
        }

        private string Refusals() => _refused.Count == 0 ? "" : Words.Text($" {_refused.Count} refused, the first: {_refused[0].What}, because {_refused[0].Reason}.");

        /// <summary>An id that follows from the input alone.</summary>
        private Guid NewId(string what, string whose)
        {
            byte[] hash = _sha.ComputeHash(Encoding.UTF8.GetBytes(Words.Text($"{_input.Seed}|{_input.Pool.StateFolder}|{_input.Pool.Name}|{Now.UtcTicks}|{what}|{whose}|{_ordinal++}")));
            var bytes = new byte[16];
            Array.Copy(hash, bytes, 16);
            bytes[7] = (byte)((bytes[7] & 0x0F) | 0x80); // version 8: a custom scheme (RFC 9562)
            bytes[8] = (byte)((bytes[8] & 0x3F) | 0x80);
            return new Guid(bytes);
        }
    }
}
