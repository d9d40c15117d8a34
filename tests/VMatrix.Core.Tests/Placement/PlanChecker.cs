using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using VMatrix.Drivers;
using VMatrix.Planning;

namespace VMatrix.Tests.Placement;

/// <summary>
/// Plays a plan move by move on the planner's own input and holds every step against every rule. Shares no code with the planner:
/// names and dictionaries where that has indexes and arrays. Linear, so that it can check plans of the largest pools.
/// </summary>
internal sealed class PlanChecker
{
    private readonly PlannerInput _input;
    private readonly Dictionary<string, HostNow> _hosts = [];
    private readonly Dictionary<string, ServiceSpec> _services = [];
    private readonly Dictionary<Guid, Server> _servers = [];
    private readonly Dictionary<string, int> _serving = [];
    private readonly Dictionary<string, HashSet<string>> _refuses = [];
    private readonly List<string> _broken = [];

    private sealed class HostNow
    {
        public required HostSpec Spec;
        public required HostState State;
        public long Memory;
        public int Cores;
        public readonly Dictionary<Guid, Server> Live = [];
        public readonly List<string> Ghosts = [];
    }

    private sealed class Server
    {
        public required ServerState Input;
        public Stage Stage;
        public string? Host;
        public int Generation;
        public bool Serves;
    }

    private PlanChecker(PlannerInput input)
    {
        _input = input;
        foreach (var service in input.Pool.Services)
        {
            _services[service.Name] = service;
            _serving[service.Name] = 0;
        }

        foreach (var service in input.Pool.Services)
        {
            foreach (string other in service.AntiAffinity)
            {
                Refuse(service.Name, other);
                Refuse(other, service.Name);
            }
        }

        var states = input.Hosts.ToDictionary(h => h.Name);
        foreach (var host in input.Pool.Hosts)
        {
            var state = states.TryGetValue(host.Name, out var s) ? s : new HostState { Name = host.Name, Reachable = false };
            _hosts[host.Name] = new HostNow { Spec = host, State = state, Memory = state.ForeignMemoryBytes };
        }

        foreach (var state in input.Servers)
        {
            var server = new Server { Input = state, Stage = state.Mark.Stage, Host = state.Host, Generation = state.Mark.Generation };
            _servers[state.Mark.ServerId] = server;
            if (state.Host is not null && server.Stage is Stage.Matrix or Stage.Chamber && _hosts.TryGetValue(state.Host!, out var host))
                Sit(host, server);
            // A server on its way is at both ends.
            if (state.Claimed && state.ClaimedTo is Stage.Matrix or Stage.Chamber && state.ClaimedHost is not null && state.ClaimedHost != state.Host
                && _hosts.TryGetValue(state.ClaimedHost!, out var target))
            {
                target.Memory += Memory(server);
                target.Cores += state.Cores;
                target.Ghosts.Add(state.Mark.Service);
            }

            server.Serves = (state.Claimed ? state.ClaimedTo ?? server.Stage : server.Stage) == Stage.Matrix && state.Health != ServerHealth.Dead && !(state.Host is not null && _hosts.TryGetValue(state.Host, out var on) && on.State.ProvenDead);
            if (server.Serves && _serving.TryGetValue(state.Mark.Service, out int serving))
                _serving[state.Mark.Service] = serving + 1;
        }

        void Refuse(string a, string b)
        {
            if (!_refuses.TryGetValue(a, out var set))
                _refuses[a] = set = [];
            set.Add(b);
        }
    }

    /// <summary>Every rule that a plan breaks, as sentences; empty when it breaks none.</summary>
    public static IReadOnlyList<string> Check(PlannerInput input, Plan plan)
    {
        var checker = new PlanChecker(input);
        checker.Play(plan);
        return checker._broken;
    }

    private long Memory(Server server) =>
        server.Input.MemoryBytes > 0 ? server.Input.MemoryBytes : _services.TryGetValue(server.Input.Mark.Service, out var s) ? s.Image.MemoryBytes : 0;

    private void Sit(HostNow host, Server server)
    {
        host.Memory += Memory(server);
        host.Cores += server.Input.Cores;
        host.Live[server.Input.Mark.ServerId] = server;
    }

    private void Leave(HostNow host, Server server)
    {
        host.Memory -= Memory(server);
        host.Cores -= server.Input.Cores;
        host.Live.Remove(server.Input.Mark.ServerId);
    }

    private void Play(Plan plan)
    {
        var start = new Dictionary<string, int>(_serving);
        var end = new Dictionary<string, int>(_serving);
        var serves = _servers.ToDictionary(p => p.Key, p => p.Value.Serves);
        foreach (var move in plan.Moves)
        {
            bool before = serves.TryGetValue(move.ServerId, out bool known) && known, after = serves[move.ServerId] = move.ToStage == Stage.Matrix;
            if (end.TryGetValue(move.Service, out int n))
                end[move.Service] = n + (after ? 1 : 0) - (before ? 1 : 0);
        }

        var done = new HashSet<Guid>();
        var parked = new HashSet<Guid>();
        var wakesLater = new Dictionary<Guid, int>();
        for (int n = 0; n < plan.Moves.Count; n++)
        {
            if (plan.Moves[n].Kind == MoveKind.Wake)
                wakesLater[plan.Moves[n].ServerId] = n;
        }

        for (int n = 0; n < plan.Moves.Count; n++)
        {
            var move = plan.Moves[n];
            string what = string.Create(CultureInfo.InvariantCulture, $"move {n + 1} ({move.Kind} {move.ServerName} {move.FromHost ?? move.FromStage.ToString()} -> {move.ToHost ?? move.ToStage.ToString()})");
            foreach (var before in move.DependsOn)
            {
                if (!done.Contains(before))
                    Broken($"{what} depends on a move that does not come before it");
            }

            if (!done.Add(move.Id))
                Broken($"{what} has the id of another move");
            if (string.IsNullOrWhiteSpace(move.Reason))
                Broken($"{what} has no reason");
            if (move.Kind == MoveKind.Create)
                Create(move, what);
            else
                Make(move, what, n, wakesLater, parked);
            if (_serving.TryGetValue(move.Service, out int serving) && serving + parked.Count(id => _servers[id].Input.Mark.Service == move.Service) < Math.Min(start[move.Service], end[move.Service]))
                Broken($"{what} leaves {move.Service} with {serving} servers, fewer than the {start[move.Service]} before and the {end[move.Service]} after the plan");
        }

        Reserve(plan, start);
    }

    private void Create(Move move, string what)
    {
        if (_servers.ContainsKey(move.ServerId))
            Broken($"{what} makes a server that exists");
        if (!_services.TryGetValue(move.Service, out var service))
        {
            Broken($"{what} is for a service that the pool does not have");
            return;
        }

        var mark = new ServerMark { ServerId = move.ServerId, Name = move.ServerName, Service = move.Service, Image = "", Stage = Stage.Nest, StateId = Guid.Empty, CreatedAt = _input.Now, ChangedAt = _input.Now };
        _servers[move.ServerId] = new Server { Input = new ServerState { Mark = mark, MemoryBytes = service.Image.MemoryBytes, Cores = service.Image.Cores }, Stage = Stage.Nest };
    }

    private void Make(Move move, string what, int n, Dictionary<Guid, int> wakesLater, HashSet<Guid> parked)
    {
        if (!_servers.TryGetValue(move.ServerId, out var server))
        {
            Broken($"{what} moves a server that does not exist");
            return;
        }

        if (server.Stage != move.FromStage || server.Host != move.FromHost || server.Generation != move.Generation)
            Broken($"{what} has a precondition that does not hold: it is in the {server.Stage} on {server.Host} with generation {server.Generation}");
        if (!StageRules.IsLegal(move.FromStage, move.ToStage))
            Broken($"{what} is not legal");
        if (server.Input.Claimed)
            Broken($"{what} moves a claimed server");
        if (server.Input.Mark.HeldUntil > _input.Now)
            Broken($"{what} moves a server that is held");
        if (!_services.TryGetValue(server.Input.Mark.Service, out var service))
        {
            Broken($"{what} moves a server of a service that the pool does not have");
            return;
        }

        if (server.Stage == Stage.Matrix && Planner.IsFrozen(service, _input.Now))
            Broken($"{what} moves a server of a service that may not be moved now");
        bool servedBefore = server.Serves;
        if (server.Host is not null && _hosts.TryGetValue(server.Host, out var from))
        {
            if (!from.State.Reachable && !from.State.ProvenDead)
                Broken($"{what} touches a server on a host that does not answer");
            if (from.State.ProvenDead && move.Kind != MoveKind.Relocate)
                Broken($"{what} needs a host that is dead");
            // The target is tested while the source is still taken: both are held during a move.
            if (move.ToHost is not null)
                Arrive(move, what, server, service);
            Leave(from, server);
        }
        else if (move.ToHost is not null)
            Arrive(move, what, server, service);
        server.Stage = move.ToStage;
        server.Host = move.ToHost;
        server.Generation++;
        if (move.ToHost is not null && _hosts.TryGetValue(move.ToHost, out var to))
            Sit(to, server);
        server.Serves = server.Stage == Stage.Matrix;
        if (servedBefore != server.Serves)
            _serving[service.Name] += servedBefore ? -1 : 1;
        if (move.Kind == MoveKind.Hibernate && wakesLater.TryGetValue(move.ServerId, out int later) && later > n)
            parked.Add(move.ServerId);
        else if (move.Kind == MoveKind.Wake)
            parked.Remove(move.ServerId);
        if (service.Licence is not null && move.ToStage == Stage.Matrix)
            Seats(service.Licence, what);
    }

    private void Arrive(Move move, string what, Server server, ServiceSpec service)
    {
        if (!_hosts.TryGetValue(move.ToHost!, out var host))
        {
            Broken($"{what} goes to a host that the pool does not have");
            return;
        }

        bool chamber = move.ToStage == Stage.Chamber;
        if (host.Spec.Role != (chamber ? HostRole.Chamber : HostRole.Matrix))
            Broken($"{what} goes to a {host.Spec.Role} host");
        if (!host.State.Reachable || host.State.ProvenDead || host.State.Suspended || host.State.PoweredDown)
            Broken($"{what} goes to a host that is not to be used");
        if (_input.Advice.Verdicts.Any(v => v.Refusal is not null && v.Host == host.Spec.Name && v.Service == service.Name && (v.Server is null || v.Server == move.ServerId)))
            Broken($"{what} goes to a host that the platform rules out for it");
        if (host.Memory + Memory(server) > host.Spec.MemoryBytes)
            Broken($"{what} passes the host's memory");
        if (host.Cores + server.Input.Cores > (host.Spec.Cores ?? int.MaxValue))
            Broken($"{what} passes the host's cores");
        if (host.Live.Count + host.Ghosts.Count + 1 > (host.Spec.MostServers ?? int.MaxValue))
            Broken($"{what} passes the host's most servers");
        if (chamber)
            return;
        var company = host.Live.Values.Where(s => s.Stage == Stage.Matrix).Select(s => s.Input.Mark.Service).Concat(host.Ghosts).ToList();
        if (company.Any(c => !_services.TryGetValue(c, out var s) || s.Isolation == Isolation.Dedicated))
            Broken($"{what} joins a server that shares with no other");
        if (service.Isolation == Isolation.Dedicated && host.Live.Count + host.Ghosts.Count > 0)
            Broken($"{what} shares with others and may not");
        if (_refuses.TryGetValue(service.Name, out var refused) && company.Any(refused.Contains))
            Broken($"{what} joins a server that it refuses");
        if (service.AllowedHosts.Count > 0 && !service.AllowedHosts.Contains(host.Spec.Name))
            Broken($"{what} goes to a host that is not allowed");
        if (service.ForbiddenHosts.Contains(host.Spec.Name))
            Broken($"{what} goes to a forbidden host");
        if (service.Licence is null)
            return;
        var terms = _input.Pool.Licences.FirstOrDefault(l => l.Name == service.Licence) ?? new LicenceSpec { Name = service.Licence };
        if (!host.Spec.Licences.Contains(service.Licence) && terms.Seats == 0)
            Broken($"{what} goes to a host without a licence");
        if (terms.InstancesPerHost is int most && company.Count(c => _services.TryGetValue(c, out var s) && s.Licence == service.Licence) + 1 > most)
            Broken($"{what} passes the licence's instances a host");
    }

    /// <summary>Hosts that run licensed servers, and those whose licence may not be reassigned yet, are no more than there are seats (or than there were).</summary>
    private void Seats(string licence, string what)
    {
        var terms = _input.Pool.Licences.FirstOrDefault(l => l.Name == licence);
        if (terms is null || terms.Seats == 0)
            return;
        int before = Assigned(terms, _input.Servers.Where(s => s.Mark.Stage == Stage.Matrix).Select(s => (s.Mark.Service, s.Host)));
        int assigned = Assigned(terms, _servers.Values.Where(s => s.Stage == Stage.Matrix).Select(s => (s.Input.Mark.Service, s.Host)));
        if (assigned > Math.Max(before, terms.Seats))
            Broken($"{what} needs {assigned} licences, there are {terms.Seats}");
    }

    private int Assigned(LicenceSpec terms, IEnumerable<(string Service, string? Host)> running)
    {
        // A host that ran one at the start was licensed then, or earlier where that was written down: since a server came that is gone.
        var known = (_input.Memory?.Seats ?? []).Where(s => s.Licence == terms.Name).Select(s => s.Host).ToHashSet();
        var young = _input.Servers.Where(s => s.Mark.Stage == Stage.Matrix && s.Host is not null && !known.Contains(s.Host) && _services.TryGetValue(s.Mark.Service, out var spec) && spec.Licence == terms.Name)
            .GroupBy(s => s.Host!).Where(g => g.Min(s => s.Mark.ChangedAt) + terms.ReassignAfter > _input.Now).Select(g => (Service: g.First().Mark.Service, Host: (string?)g.Key));
        // Nothing runs on a host that is proven dead.
        var hosts = running.Where(s => s.Host is null || !_hosts.TryGetValue(s.Host, out var on) || !on.State.ProvenDead).Concat(young).Where(s => s.Host is not null && _services.TryGetValue(s.Service, out var spec) && spec.Licence == terms.Name).Select(s => s.Host!)
            .Concat((_input.Memory?.Seats ?? []).Where(s => s.Licence == terms.Name && s.Since + terms.ReassignAfter > _input.Now).Select(s => s.Host));
        return hosts.Distinct().Count(h => _hosts.TryGetValue(h, out var host) && !host.Spec.Licences.Contains(terms.Name));
    }

    /// <summary>Servers beyond the least counts leave the reserve free.</summary>
    private void Reserve(Plan plan, Dictionary<string, int> start)
    {
        int lost = _hosts.Values.Count(h => h.Spec.Role == HostRole.Matrix && (!h.State.Reachable || h.State.ProvenDead || h.State.Suspended) && !(h.State.PoweredDown && !h.State.ProvenDead && !h.State.Suspended));
        int reserve = _input.Pool.Oracle.ReserveHosts - lost;
        if (reserve <= 0)
            return;
        var open = _hosts.Values.Where(h => h.Spec.Role == HostRole.Matrix && h.State.Reachable && !h.State.ProvenDead && !h.State.Suspended && !h.State.PoweredDown).ToList();
        long need = open.Select(h => Math.Max(0, h.Spec.MemoryBytes - h.State.ForeignMemoryBytes)).OrderByDescending(m => m).Take(reserve).Sum();
        long spare = open.Where(h => !h.Live.Values.Any(s => s.Stage == Stage.Matrix && (!_services.TryGetValue(s.Input.Mark.Service, out var spec) || spec.Isolation == Isolation.Dedicated))
            && !h.Ghosts.Any(g => !_services.TryGetValue(g, out var spec) || spec.Isolation == Isolation.Dedicated)).Sum(h => Math.Max(0, h.Spec.MemoryBytes - h.Memory));
        // One that was only parked comes back to what it had.
        var parked = plan.Moves.Where(m => m.Kind == MoveKind.Hibernate).Select(m => m.ServerId).ToHashSet();
        var more = plan.Moves.Where(m => m.Kind == MoveKind.Wake && !parked.Contains(m.ServerId) && _serving.TryGetValue(m.Service, out int n) && n > start[m.Service]
            && n > Math.Max(_services[m.Service].Least, _input.Pinned.TryGetValue(m.Service, out int pinned) ? pinned : 0) && !_input.Pinned.ContainsKey(m.Service)).ToList();
        if (more.Count > 0 && spare < need)
            Broken($"the plan wakes {more[0].ServerName} and others beyond the least and leaves {spare >> 20} MiB free, the reserve is {need >> 20}");
    }

    private void Broken(string rule)
    {
        if (_broken.Count < 50)
            _broken.Add(rule);
    }
}
