using System;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using VMatrix.Drivers;

namespace VMatrix.Planning;

/// <summary>Makes plans: sense, forecast, need, allocate, place. Pure.</summary>
public static partial class Planner
{
    /// <summary>Makes a plan. The same input makes the same plan, ids included.</summary>
    public static PlannerOutput Plan(PlannerInput input)
    {
        var (draft, last) = Settle(input);
        using (draft)
        using (last)
            return draft.Finish(last);
    }

    /// <summary>Decides with every look ahead. Returns the draft, and the last look, which may be the draft itself.</summary>
    private static (Draft Draft, Draft Last) Settle(PlannerInput input)
    {
        input = InOrder(NotAhead(Soundness.Of(input)));
        return Decide(input) ?? Decide(input with { MayGather = false })!.Value;
    }

    /// <summary>Decides once; null when gathering, which the input allows, was in vain.</summary>
    private static (Draft Draft, Draft Last)? Decide(PlannerInput sound)
    {
        var draft = new Draft(sound);
        Draft last = LookAhead(draft);
        if (!draft.GatheredInVain)
            return (draft, last);

        // Looking ahead, a rule had a use for the room that gathering made: nothing could be powered down.
        last.Dispose();
        draft.Dispose();
        return null;
    }

    /// <summary>
    /// Decides, and plans the pool again as it will be when that is carried out, until nothing is left to do: what would be mended by the
    /// next plan is mended by this one. Mostly the first look ahead finds nothing. Returns the last look, which may be the draft itself.
    /// </summary>
    private static Draft LookAhead(Draft draft)
    {
        draft.Decide();
        Draft last = draft;
        for (int look = 0; look < MostLooks && last.ChangesAnything; look++)
        {
            var next = new Draft(draft.Projected(), draft);
            next.Decide();
            draft.Adopt(next);
            if (!ReferenceEquals(last, draft))
                last.Dispose();
            last = next;
        }

        return last;
    }

    private const int MostLooks = 5;

    private static PlannerInput InOrder(PlannerInput input)
    {
        var known = WithFailures(input);
        return known with { Servers = ServerOrder.Of(known.Pool, known.Servers) };
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

        /// <summary>In the Matrix and to be counted on: healthy or not broken yet, claimed ones where they go. By index in the input.</summary>
        public List<int> Live { get; } = [];

        /// <summary>Of those, how many this plan may take away.</summary>
        public int Movable { get; set; }

        /// <summary>What those of them that were moved lately are worth more.</summary>
        public List<double> Stay { get; } = [];

        /// <summary>Asleep and free to be woken, by index in the input.</summary>
        public List<int> Dormant { get; } = [];

        public List<(ServerState Server, int Index, string Why)> Broken { get; } = [];

        /// <summary>Of the broken ones, those to dispose of, by index in the input, and why.</summary>
        public List<(int, string)> Go { get; set; } = [];

        /// <summary>Not counted on and not touched, by index in the input.</summary>
        public List<int> Ignored { get; } = [];

        /// <summary>Live ones that take no room of a usable host.</summary>
        public int Outside { get; set; }

        /// <summary>Live ones whose host is proven dead.</summary>
        public int Lost { get; set; }

        /// <summary>Live ones whose host is to be emptied, or dead.</summary>
        public int Leaving { get; set; }

        /// <summary>Why nothing of it is woken for now; null when it may be.</summary>
        public string? WakeWaits { get; set; }

        /// <summary>Why no new servers of it are made for now; null when they may be.</summary>
        public string? CreationWaits { get; set; }

        public int Disposed { get; set; }

        public int DisposedLately { get; set; }

        /// <summary>The highest number in a server's name; null until one is asked for.</summary>
        public int? HighestNumber { get; set; }

        public ServiceNeed Need { get; set; } = null!;

        public Claimant Claim { get; set; } = null!;

        public string? Frozen { get; set; }

        /// <summary>What the Oracle would grant if it might act; null where it may.</summary>
        public int? Wanted { get; set; }
    }

    private sealed partial class Draft : IDisposable
    {
        private readonly PlannerInput _input;
        private const int MostRounds = 4;
        private const int MostGivenBack = 3;
        private readonly Draft? _before;
        private PlacementState _state;
        private Placement _placement = null!;
        private RefusedMove?[] _short = [];
        private readonly HashSet<Guid> _passedOver = [];
        private readonly SHA256 _sha = SHA256.Create();
        private readonly List<Service> _services = [];
        private readonly Dictionary<string, Service> _byName = new(StringComparer.Ordinal);
        private readonly List<Move> _moves = [];
        private readonly List<RefusedMove> _refused = [];
        private int _ordinal;
        private int _sampled;
        private double _coverage = 1;
        private string? _uncovered;

        /// <param name="input">What the planner may know.</param>
        /// <param name="before">For a look ahead, the draft that it looks ahead of: needs are measured once.</param>
        public Draft(PlannerInput input, Draft? before = null)
        {
            _input = input;
            _before = before;
            _state = new PlacementState(input);
        }

        public void Dispose() => _sha.Dispose();

        private OracleSpec Oracle => _input.Pool.Oracle;

        private DateTimeOffset Now => _input.Now;

        /// <summary>Finds what each service gets and where every server goes; makes no moves of it yet.</summary>
        public void Decide()
        {
            Look();
            foreach (var service in _services)
                service.Need = Measure(service);
            HoldWithoutSamples();
            foreach (var service in _services)
                Want(service);
            AllocateAndPlace();
        }

        public bool ChangesAnything => _placement.ChangesAnything;

        public bool GatheredInVain => _placement.Gathering?.IsInVain() is true;

        /// <summary>The input of the next plan, were this one carried out.</summary>
        public PlannerInput Projected() => _input with { Servers = _placement.Projected(), Memory = Written(_state.Seats()) with { GatherSince = _placement.Gathering?.Since } };

        /// <summary>Takes over what a look ahead would change.</summary>
        public void Adopt(Draft next) => _placement.Adopt(next._placement);

        /// <summary>Makes the plan.</summary>
        /// <param name="last">The look ahead that found nothing more, or this.</param>
        public PlannerOutput Finish(Draft last)
        {
            var hosts = Oracle.PowerDown ? DecideHosts(last) : null;
            for (int s = 0; s < _services.Count; s++)
                _services[s].Claim.Granted = last._services[s].Claim.Granted;
            var seats = last._state.Seats();
            var unmet = FindUnmet(last);
            _moves.AddRange(_placement.Order(last._placement, NewId, NewName));
            _refused.AddRange(last._short.Where(w => w is not null)!);
            _refused.AddRange(last._placement.Reasons.Refused);
            if (last._placement.Gathering?.Waits is var (what, why))
                _refused.Add(new RefusedMove(what, why));
            if (!ReferenceEquals(last, this))
                _refused.AddRange(_placement.Reasons.NotInOrder);
            var refreshes = PlanRefreshes();
            PlanPurges();
            var plan = new Plan
            {
                Id = NewId("plan", string.Join("\n", _moves.Select(m => m.Id.ToString()))),
                Pool = _input.Pool.Name,
                CreatedAt = Now,
                ExpiresAt = Now + Oracle.PlanExpiry,
                Moves = _moves.ToArray(),
                Refused = _refused.ToArray(),
                Decisions = _services.Select(Decide).ToArray(),
                Unmet = unmet,
                SampleCoverage = Math.Round(_coverage, 4),
                Summary = Summarise(unmet),
            };
            var output = new PlannerOutput(plan, Written(seats) with { Refreshes = refreshes, GatherSince = last._placement.Gathering?.Since, PurgeDue = _purgeDue.ToArray() });
            return (Oracle.Mode is OracleMode.Shadow ? hosts?.Shadowed() : hosts)?.AddTo(output) ?? output;
        }

        private PlannerMemory Written(IReadOnlyList<LicenceSeat> seats)
        {
            var memory = new Dictionary<string, string>(StringComparer.Ordinal);
            var forecasts = new Dictionary<string, ForecastState>(StringComparer.Ordinal);
            foreach (var service in _services)
            {
                memory[service.Spec.Name] = service.Memory.Write();
                if (service.Memory.Forecast is not null)
                    forecasts[service.Spec.Name] = service.Memory.Forecast;
            }

            return new PlannerMemory { ByService = memory, Forecasts = forecasts, Seats = seats };
        }

        /// <summary>Divides the pool and places. What finds no place is not granted, and the pool is divided again: its room is others' to use.</summary>
        private void AllocateAndPlace()
        {
            foreach (var service in _services)
                service.Go = BrokenToGo(service);
            var claims = _services.Select(s => s.Claim).ToList();
            KeepShadows(claims);
            _short = new RefusedMove?[claims.Count];
            var asked = claims.ConvertAll(c => (c.Floor, c.Ceiling));
            for (int round = 1; ; round++)
            {
                bool all = Place(claims, _state);
                int passedOver = _passedOver.Count;
                for (int s = 0; s < claims.Count; s++)
                {
                    if (_placement.Reasons.Short[s] is not RefusedMove wish)
                        continue;
                    var tied = _placement.Tied(s);
                    _passedOver.UnionWith(tied);
                    if (tied.Count > 0)
                        continue;
                    _short[s] ??= wish;
                    claims[s].Ceiling = Math.Max(0, claims[s].Granted - _placement.Missing[s]);
                    claims[s].Floor = Math.Min(claims[s].Floor, claims[s].Ceiling);
                }

                // A round that only leaves sleepers where they are settles nothing yet.
                round -= _passedOver.Count > passedOver ? 1 : 0;
                if (all && round > 2)
                    GiveBack(claims, asked);
                if (all || round == MostRounds)
                    break;
                _state = new PlacementState(_input, _passedOver);
            }

            RefuseVainExchanges(claims, asked);
        }

        /// <summary>Divides the pool and places. True when all that is granted found a place.</summary>
        private bool Place(List<Claimant> claims, PlacementState state)
        {
            _state = state;
            Allocation.Divide(claims, _state.OpenHosts, _state.ReserveHosts);
            string? taker = _services.Where(s => s.Claim.Granted > s.Live.Count).OrderByDescending(s => s.Spec.Priority).Select(s => s.Spec.Name).FirstOrDefault();
            _placement = Placement.Place(_input, _state, _services.ConvertAll(s => Grant(s, taker)));
            return Array.TrueForAll(_placement.Reasons.Short, s => s is null);
        }

        /// <summary>What lost servers to one that then found no place itself gets them back.</summary>
        private void GiveBack(List<Claimant> claims, List<(int Floor, int Ceiling)> asked)
        {
            // Each is a placement more; the most important are tried.
            var losers = Enumerable.Range(0, claims.Count).Where(s => claims[s].Ceiling < asked[s].Ceiling && claims[s].Granted < claims[s].Has)
                .OrderByDescending(s => claims[s].Spec.Priority).ThenBy(s => s).Take(MostGivenBack);
            foreach (int s in losers.ToList())
            {
                var (state, placement, granted) = (_state, _placement, claims.ConvertAll(c => c.Granted));
                var (floor, ceiling) = (claims[s].Floor, claims[s].Ceiling);
                (claims[s].Floor, claims[s].Ceiling) = (Math.Min(asked[s].Floor, claims[s].Has), Math.Min(asked[s].Ceiling, claims[s].Has));
                if (Place(claims, new PlacementState(_input, _passedOver)) && claims[s].Granted > granted[s] && Enumerable.Range(0, claims.Count).All(t => claims[t].Granted >= granted[t]))
                    continue;
                (_state, _placement) = (state, placement);
                (claims[s].Floor, claims[s].Ceiling) = (floor, ceiling);
                for (int t = 0; t < claims.Count; t++)
                    claims[t].Granted = granted[t];
            }
        }

        /// <summary>Services that are only shadowed keep what they have; what they would get is told, and takes no room from those that the Oracle acts for.</summary>
        private void KeepShadows(List<Claimant> claims)
        {
            if (!_services.Exists(IsShadow))
                return;
            Allocation.Divide(claims, _state.OpenHosts, _state.ReserveHosts);
            foreach (var service in _services.Where(IsShadow))
            {
                var claim = service.Claim;
                service.Wanted = claim.Granted;
                claim.Floor = claim.Ceiling = service.Live.Count;
                if (service.Wanted > service.Live.Count)
                    _refused.Add(new RefusedMove($"wake {Words.Servers(service.Wanted.Value - service.Live.Count)} of {service.Spec.Name}", $"{IsShadowed}; it would be because {service.Spec.Name} has {service.Live.Count}, needs {service.Need.Servers} and would be granted {service.Wanted} ({service.Need.Reason})"));
                else if (service.Wanted < service.Live.Count)
                    _refused.Add(new RefusedMove($"hibernate {Words.Servers(service.Live.Count - service.Wanted.Value)} of {service.Spec.Name}", $"{IsShadowed}; it would be because {service.Spec.Name} has {service.Live.Count}, needs {service.Need.Servers} and would be granted {service.Wanted} ({service.Need.Reason})"));
            }
        }

        internal const string IsShadowed = "mode is shadow, nothing is done";

        private bool IsShadow(Service service) => (service.Spec.Mode ?? Oracle.Mode) == OracleMode.Shadow;

        /// <summary>Hosts of which a plan tells one by one that they do not answer; of more it tells how many.</summary>
        private const int MostSilencesTold = 8;

        private void TellSilences()
        {
            var silent = _input.Hosts.Where(h => h is { Reachable: false, PoweredDown: false, ProvenDead: false, Silence: not null }).ToArray();
            _refused.AddRange(silent.Take(MostSilencesTold).Select(h => new RefusedMove($"use {h.Name}", $"it does not answer, which proves nothing: {h.Silence!.TrimEnd('.')}")));
            if (silent.Length > MostSilencesTold)
                _refused.Add(new RefusedMove($"use {silent.Length - MostSilencesTold} more hosts", "they do not answer either, which proves nothing; Get-VMatrixHost tells of each"));
        }

        /// <summary>Sorts hosts and servers.</summary>
        private void Look()
        {
            // Told by the plan itself, not by what it looks ahead to.
            if (_before is null)
            {
                _refused.AddRange(_input.Unsound ?? []);
                _refused.AddRange(_input.Advice.Problems.Select(problem => new RefusedMove("go by what the platform says of hosts", problem)));
                TellSilences();
            }

            for (int s = 0; s < _input.Pool.Services.Count; s++)
            {
                var spec = _input.Pool.Services[s];
                var known = new Service { Spec = spec, Memory = ServiceMemory.Read(_input.Memory, spec.Name, Now) };
                if (IsFrozen(spec, Now))
                    known.Frozen = "it lies in a window in which its servers may not be moved";
                var (from, to) = _state.Input.ServersOf(s);
                known.Live.Capacity = to - from;
                _services.Add(known);
                _byName[spec.Name] = known;
            }

            for (int index = 0; index < _input.Servers.Count; index++)
            {
                int s = _state.Of[index];
                if (_state.IsSteady[index] && _services[s].Memory.Failing.Count == 0)
                {
                    _services[s].Live.Add(index);
                    _services[s].Movable += _state.MayBeTaken(index) ? 1 : 0;
                    continue;
                }

                var server = _state.Input[index];
                if (s < 0)
                {
                    if (!server.Claimed && server.Mark.Stage is Stage.Matrix)
                        _refused.Add(new RefusedMove($"hibernate {server.Mark.Name}", $"its service {server.Mark.Service} is not in the pool file; move it by hand"));
                    continue;
                }

                var service = _services[s];
                var stage = server.Claimed ? server.ClaimedTo ?? server.Mark.Stage : server.Mark.Stage;
                bool held = server.Mark.HeldUntil is DateTimeOffset until && until > Now;
                switch (stage)
                {
                    case Stage.Nest when !server.Claimed && !held && server.Waits is null:
                        service.Dormant.Add(index);
                        break;
                    case Stage.Matrix:
                        Matrix(service, server, index, held);
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

            LookAtFailures();
            foreach (var each in _services)
            {
                if (each.Memory.Failing.Count == 0)
                    continue;
                var failing = new HashSet<Guid>(each.Live.Select(i => _state.Input[i].Mark.ServerId).Concat(each.Broken.Select(b => b.Server.Mark.ServerId)));
                foreach (var id in each.Memory.Failing.Keys.Where(id => !failing.Contains(id)).ToList())
                    each.Memory.Failing.Remove(id);
            }
        }

        private void Matrix(Service service, ServerState server, int index, bool held)
        {
            string? hostName = server.Claimed ? server.ClaimedHost ?? server.Host : server.Host;
            int h = _state.Home[index];
            var host = h >= 0 ? _state.HostNow[h] : null;
            bool answers = host is { Reachable: true };
            bool lost = host is { ProvenDead: true };
            if (!server.Claimed && !lost && Broken(service, server) is string why)
            {
                // It serves nobody: not counted on, so that another takes its place. It is taken away only where that is safe.
                if (!answers || held || server.Waits is not null)
                    service.Ignored.Add(index);
                if (!answers)
                    _refused.Add(new RefusedMove($"dispose {server.Mark.Name}", $"{why}, but {hostName} does not answer, which proves nothing; nothing on it is touched"));
                else if (held)
                    _refused.Add(new RefusedMove($"dispose {server.Mark.Name}", $"{why}, but it was moved by hand and is held until {server.Mark.HeldUntil:u}"));
                else if (server.Waits is not null)
                    _refused.Add(new RefusedMove($"dispose {server.Mark.Name}", $"{why}, but {server.Waits}"));
                else
                    service.Broken.Add((server, index, why));
                return;
            }

            service.Live.Add(index);
            if (lost)
                service.Lost++;
            if (server.Claimed || Now - server.Mark.ChangedAt < Economy.StayEnds(Oracle))
                service.Stay.Add(Economy.Stay(Oracle, server.Claimed ? TimeSpan.Zero : Now - server.Mark.ChangedAt));
            bool stays = held || server.Waits is not null;
            if (!server.Claimed && !stays && (answers || lost) && _state.MayBeTaken(index))
                service.Movable++;
            if ((!answers && !lost) || (stays && host is not { Suspended: false, ProvenDead: false }))
                service.Outside++;
            else if (host is { Suspended: true } or { ProvenDead: true })
                service.Leaving++;
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

        /// <summary>The name of a new server: the next number that no server of its service has.</summary>
        private string NewName(int s)
        {
            var service = _services[s];
            if (service.HighestNumber is null)
            {
                service.HighestNumber = 0;
                foreach (var taken in _input.TakenNames)
                    service.HighestNumber = Math.Max(service.HighestNumber.Value, NumberIn(taken, service.Spec.Name));
                for (var (i, to) = _state.Input.ServersOf(s); i < to; i++)
                    service.HighestNumber = Math.Max(service.HighestNumber.Value, NumberIn(_state.Name(i), service.Spec.Name));
            }

            return Words.Text($"{service.Spec.Name}-{++service.HighestNumber}");
        }

        /// <summary>The number behind the service's name and a hyphen; 0 for any other name.</summary>
        private static int NumberIn(string name, string service)
        {
            int start = service.Length + 1, number = 0;
            if (name.Length <= start || name.Length > start + 9 || name[start - 1] != '-' || !name.StartsWith(service, StringComparison.Ordinal))
                return 0;
            for (int i = start; i < name.Length; i++)
            {
                if (name[i] is < '0' or > '9')
                    return 0;
                number = number * 10 + (name[i] - '0');
            }

            return number;
        }

        /// <summary>What a service needs by its load.</summary>
        private ServiceNeed Measure(Service service)
        {
            if (_before is not null)
                return _before._byName[service.Spec.Name].Need;
            var spec = service.Spec;
            _input.Loads.TryGetValue(spec.Name, out var samples);
            return Need.Of(spec, _input.Pool, samples, service.Live.Count, _input.WakeTime.TryGetValue(spec.Name, out var wake) ? wake : null, service.Memory, Now,
                Oracle.PowerDown && _input.HostPower ? HostLead : TimeSpan.Zero, WakeBytes(spec.Name));
        }

        /// <summary>Counts the servers with a good sample, and where they are too few lets no load change a count.</summary>
        private void HoldWithoutSamples()
        {
            if (_before is not null)
                return;
            int servers = 0;
            foreach (var service in _services)
            {
                servers += service.Live.Count;
                if (service.Need.Bad is not null)
                    continue;
                _sampled += service.Live.Count;
                if (!_state.AnyUnsampled)
                    continue;
                foreach (int i in service.Live)
                    _sampled -= _state.Input[i].Sampled == false ? 1 : 0;
            }

            _coverage = servers == 0 ? 1 : (double)_sampled / servers;
            if (_coverage >= Oracle.MinSampleCoverage)
                return;
            _uncovered = Words.Text($"{_sampled} of {servers} servers have a good load sample, {100 * _coverage:0} %, and oracle.minSampleCoverage asks for {100 * Oracle.MinSampleCoverage:0.#} %");
            _refused.Add(new RefusedMove("change counts of servers by their load", _uncovered));
            foreach (var service in _services)
                service.Need = service.Need.Bad is null ? Need.Frozen(service.Need.Capacity, service.Live.Count, _uncovered) : service.Need;
        }

        /// <summary>What a service asks for.</summary>
        private void Want(Service service)
        {
            var spec = service.Spec;
            int live = service.Live.Count, broken = service.Broken.Count, has = live + broken;
            var need = service.Need;
            var (fits, perHost) = _state.Room(_state.ServiceIndex[spec.Name]);
            // What lives is not taken away for want of a host that may take it: it stays, and the rules that cannot hold are told.
            int ceiling = Math.Min(spec.Most, Math.Max(live - service.Leaving, (int)Math.Min(int.MaxValue, (long)fits + service.Outside)));
            int untouchable = live - service.Movable;
            int floor = Math.Max(untouchable, Math.Min(need.Owed ? Math.Max(1, spec.Least) : spec.Least, ceiling));
            // The latest first.
            service.Stay.Sort((a, b) => b.CompareTo(a));
            if (service.Frozen is not null)
            {
                floor = live;
                ceiling = live;
            }
            else if (_input.Pinned.TryGetValue(spec.Name, out int pinned))
            {
                // Far more than there is room for is not tried one by one.
                floor = (int)Math.Max(untouchable, Math.Min(pinned, 100L + (2L * fits) + live + service.Outside));
                ceiling = floor;
            }
            else if (need.Bad is not null)
            {
                // Frozen at what it had, broken ones replaced; only the least count, which no load decides, may add to that.
                floor = Math.Max(floor, Math.Min(has, Math.Max(spec.Most, untouchable)));
                ceiling = floor;
            }

            if (MostWhileWaiting(service) is int most)
                (floor, ceiling) = (Math.Min(floor, most), Math.Min(ceiling, most));
            service.Claim = new Claimant
            {
                Spec = spec,
                Floor = floor,
                Ceiling = Math.Max(floor, ceiling),
                Has = live,
                Calm = Math.Min(live, need.Calm),
                Share = 1 / perHost,
                Stay = service.Stay,
                Outside = service.Outside,
                Worth = n => need.Worth(n, live),
            };
        }

        private long WakeBytes(string service) => _input.WakeBytes.TryGetValue(service, out long bytes) ? bytes : 0;

        /// <summary>Which broken servers go; the others are left alone, with the reason told.</summary>
        private List<(int, string)> BrokenToGo(Service service)
        {
            // Servers that break one after another are a broken image or check, not broken servers: stop and tell.
            int allowed = Math.Max(3, service.Live.Count + service.Broken.Count) - service.DisposedLately;
            var go = new List<(int, string)>();
            foreach (var (server, index, why) in service.Broken.OrderBy(b => b.Server.Mark.ServerId))
            {
                string what = $"dispose {server.Mark.Name} on {server.Host}";
                if (service.Frozen is not null)
                    _refused.Add(new RefusedMove(what, $"{why}, but {service.Frozen}"));
                else if (allowed <= 0)
                    _refused.Add(new RefusedMove(what, Words.Text($"{why}, but {service.DisposedLately} servers of {service.Spec.Name} were disposed of within {Words.Seconds(Oracle.Horizon)}: look at the image and the health check first")));
                else if (!Shadow(service, what, why))
                {
                    allowed--;
                    go.Add((index, why));
                    continue;
                }

                service.Ignored.Add(index);
            }

            return go;
        }

        /// <summary>What the placement is told of a service, and of the most important one that gets more.</summary>
        private Grant Grant(Service service, string? forWhom)
        {
            var (spec, claim, need) = (service.Spec, service.Claim, service.Need);
            return new Grant
            {
                Granted = claim.Granted,
                Floor = claim.Floor,
                Needs = need.Servers,
                Still = IsShadow(service) ? IsShadowed : service.Frozen,
                Broken = service.Go,
                Ignored = service.Ignored,
                WhyMore = () => need.Bad is null
                    ? Words.Text($"{spec.Name} has {service.Live.Count}, needs {need.Servers} and is granted {claim.Granted} ({need.Reason})")
                    : Words.Text($"{spec.Name} has {service.Live.Count} and is granted {claim.Granted}{(claim.Granted == spec.Least ? ", its least" : "")}; its load is not known ({need.Bad})"),
                WhyFewer = drop => drop
                    ? Words.Text($"dropped: {spec.Name} needs {need.Servers} and is granted {claim.Granted}, the room is worth more to {forWhom ?? "others"} ({need.Reason})")
                    : Words.Text($"not needed: {spec.Name} has {service.Live.Count} and needs {need.Servers}, at most {need.Calm} in the last {Words.Seconds(Oracle.Calm)} ({need.Reason})"),
            };
        }

        private bool Shadow(Service service, string what, string why)
        {
            if (!IsShadow(service))
                return false;
            _refused.Add(new RefusedMove(what, $"{IsShadowed}; it would be because {why}"));
            return true;
        }

        private ServiceDecision Decide(Service service)
        {
            var need = service.Need;
            var claim = service.Claim;
            _input.Loads.TryGetValue(service.Spec.Name, out var samples);
            var last = samples is { Count: > 0 } ? samples[samples.Count - 1] : null;
            string decision = service.Wanted is int wanted && wanted != service.Live.Count ? Words.Text($"stays at {service.Live.Count} where it would be granted {wanted}: {IsShadowed}")
                : service.Frozen is not null ? $"stays at {service.Live.Count}: {service.Frozen}"
                : _input.Pinned.TryGetValue(service.Spec.Name, out int pinned) ? Words.Text($"pinned at {pinned} by an operator")
                : claim.Granted < Math.Max(need.Bad is null ? need.Servers : 0, service.Spec.Least) && claim.Granted == MostWhileWaiting(service)
                    ? Words.Text($"needs {Math.Max(need.Servers, service.Spec.Least)}, granted {claim.Granted}: {service.WakeWaits ?? service.CreationWaits}")
                : need.Bad is not null ? $"frozen at {claim.Granted}: {need.Bad}"
                : claim.Granted < need.Servers ? Words.Text($"needs {need.Servers}, granted {claim.Granted}: {(claim.Granted == claim.Ceiling ? claim.Ceiling == service.Spec.Most ? $"most is {claim.Ceiling}" : $"no host may take more of it{_placement.Reasons.RuledOut(_state.ServiceIndex[service.Spec.Name])}" : "the pool is short and the room is worth more to others")}")
                : claim.Granted > need.Servers && claim.Granted <= claim.Calm ? Words.Text($"needs {need.Servers}, keeps {claim.Granted}: {need.Calm} were needed within {Words.Seconds(Oracle.Calm)}")
                : Words.Text($"needs {need.Servers}, granted {claim.Granted}");
            if (claim.Stayed)
                decision += "; the last one stays because it was moved lately: others have more use for it, but not so much more that another move would pay";
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
                Wanted = service.Wanted,
                Reason = need.Bad is null ? $"{decision}; {need.Reason}" : decision,
            };
        }

        private string Summarise(List<UnmetSetting> unmet)
        {
            string held = _uncovered is null ? "" : $" No count is changed by load: {_uncovered}.";
            if (_moves.Count > 0)
            {
                var kinds = _moves.GroupBy(m => (m.Kind, m.Service)).Select(g => Words.Text($"{g.Key.Kind.ToString().ToLowerInvariant()} {g.Count()} of {g.Key.Service}")).ToList();
                string moves = string.Join(", ", kinds.Take(6)) + (kinds.Count > 6 ? Words.Text($" and {kinds.Count - 6} more kinds") : "");
                return Words.Text($"{_moves.Count} {(_moves.Count == 1 ? "move" : "moves")}: {moves}.") + held + Refusals();
            }

            var short_ = _services.Select(s => Words.Text($"{s.Spec.Name} has {s.Live.Count} and needs {s.Need.Servers}{(s.Need.Bad is null ? "" : " (frozen: " + s.Need.Bad + ")")}")).ToList();
            return "Nothing to do: " + string.Join(", ", short_.Take(6)) + (short_.Count > 6 ? Words.Text($" and {short_.Count - 6} more services") : "") + "." + held + Refusals()
                + (unmet.Count == 0 ? "" : $" Not met: {string.Join("; ", unmet.Take(MostUnmetTold))}{(unmet.Count > MostUnmetTold ? Words.Text($"; and {unmet.Count - MostUnmetTold} settings more") : "")}.");
        }

        private const int MostUnmetTold = 3;

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
