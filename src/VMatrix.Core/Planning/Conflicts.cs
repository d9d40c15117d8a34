using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;

namespace VMatrix.Planning;

public static partial class Planner
{
    /// <summary>
    /// Finds the rules that cannot hold together with a wish. An irreducible infeasible subset (Chinneck, Feasibility and Infeasibility in
    /// Optimization, 2008) comes first, in the order of QuickXplain (Junker, 2004), which asks for few plans; then the smallest one, by minimum
    /// hitting sets of what must be left out (Ignatiev, Previti, Liffiton, Marques-Silva, Smallest MUS extraction with minimal hitting set
    /// dualization, 2015). A rule is left out by changing the input, and the planner itself says whether the rest can hold, so the set is as
    /// exact as the planner's search.
    /// </summary>
    private sealed class Conflicts(PlannerInput input, CancellationToken cancellation)
    {
        /// <summary>With more servers a rule is left out for the whole pool at once, not service by service.</summary>
        private const int FineServers = 3_000;

        /// <summary>Plans after which the irreducible set is told without looking for a smaller one.</summary>
        private const int MostTries = 200;

        private readonly List<(string Name, Func<PlannerInput, PlannerInput> Without)> _rules = [];
        private PlannerInput? _wish;
        private string? _inPlace;
        private int _tries;

        /// <summary>What keeps a service from what it needs; null when it gets it.</summary>
        public Conflict? Of(ServiceStory story, IReadOnlyList<RefusedMove> refused)
        {
            var decision = story.Decision;
            int count = Math.Max(decision.Needs, decision.Has);
            count = input.Pinned.TryGetValue(story.Service, out int pinned) ? pinned : Math.Min(count, Math.Max(story.Most, decision.Has));
            bool stuck = refused.Any(r => r.What.StartsWith("move ", StringComparison.Ordinal));
            if (decision.Granted >= count && !stuck)
                return null;
            if (decision.Granted < count && decision.Needs <= decision.Granted && !stuck)
                return null;
            string wish = Words.Text($"{story.Service} has {Words.Servers(count)} in the Matrix{(stuck ? ", each where its rules allow it" : "")}");
            if (story.Mode == OracleMode.Shadow)
                return new Conflict { Wish = wish, Rules = [$"mode of {story.Service} is shadow"], Summary = $"{wish}: the mode of {story.Service} is shadow, so nothing is done for it" };

            // Everybody else has what they cannot be without, and nothing more.
            var counts = input.Pool.Services.ToDictionary(s => s.Name, s => s.Name == story.Service ? count : input.Pinned.TryGetValue(s.Name, out int pin) ? pin : s.Least);
            _inPlace = stuck ? story.Service : null;
            _wish = WithServices(input with { Pinned = counts, Pool = input.Pool with { Oracle = input.Pool.Oracle with { Mode = OracleMode.Automatic, BalanceGap = null } } }, s => s with { Mode = null });
            if (Holds([]))
            {
                return new Conflict
                {
                    Wish = wish,
                    Tries = _tries,
                    Summary = $"{wish}: the rules allow it if the others keep their least counts only; their servers above those are worth more",
                };
            }

            AddRules(story.Service);
            int[] all = [.. Enumerable.Range(0, _rules.Count)];
            if (!Holds(all))
                return new Conflict { Wish = wish, Tries = _tries, Summary = $"{wish}: with every rule left out there is still no host for it" };
            var (found, isSmallest) = Smallest(all);
            bool only = found.All(r => Holds([r]));
            string[] names = [.. found.OrderBy(r => r).Select(r => _rules[r].Name)];
            return new Conflict
            {
                Wish = wish,
                Rules = names,
                IsSmallest = isSmallest,
                Tries = _tries,
                Summary = $"these cannot hold together: {wish}; {string.Join("; ", names)}. {(only ? "Without any one of them the wish could be met" : "Other rules stand in its way besides: leave one of these out, and ask again")}",
            };
        }

        /// <summary>The smallest set of rules of which one must be left out for the wish; false beside it when a smaller one may exist.</summary>
        private (int[] Rules, bool IsSmallest) Smallest(int[] all)
        {
            int[] best = [.. Irreducible([], false, all)];
            var ways = new List<int[]>();
            while (input.Servers.Count <= FineServers && _tries < MostTries)
            {
                // Each way in which the wish could be met leaves a rule of the set out: no set is smaller than one that has a rule of each way.
                var hit = new List<int>();
                int most = 0;
                while (most < best.Length && !Hits(ways, hit, most))
                    most++;
                if (most == best.Length)
                    return (best, true);
                if (!Holds(Others(hit)))
                    return ([.. hit], true);
                foreach (int rule in all.Except(hit).ToArray())
                {
                    if (Holds(Others([.. hit, rule])))
                        hit.Add(rule);
                }

                ways.Add(Others(hit));
            }

            return (best, best.Length == 1);
        }

        /// <summary>Adds to <paramref name="chosen"/> until every way has a rule of it, with at most so many; false when that cannot be.</summary>
        private static bool Hits(List<int[]> ways, List<int> chosen, int most)
        {
            if (ways.Find(way => !way.Any(chosen.Contains)) is not { } open)
                return true;
            if (chosen.Count == most)
                return false;
            foreach (int rule in open)
            {
                chosen.Add(rule);
                if (Hits(ways, chosen, most))
                    return true;
                chosen.RemoveAt(chosen.Count - 1);
            }

            return false;
        }

        /// <summary>QuickXplain: the rules of <paramref name="among"/> that are needed, beside <paramref name="kept"/>, for the wish to fail.</summary>
        private IEnumerable<int> Irreducible(IReadOnlyList<int> kept, bool changed, int[] among)
        {
            if (changed && !Holds(Others(kept)))
                return [];
            if (among.Length == 1)
                return among;
            int half = among.Length / 2;
            int[] first = [.. among.Take(half)], second = [.. among.Skip(half)];
            int[] needed = [.. Irreducible([.. kept, .. first], true, second)];
            return Irreducible([.. kept, .. needed], needed.Length > 0, first).Concat(needed);
        }

        private int[] Others(IReadOnlyList<int> kept) => [.. Enumerable.Range(0, _rules.Count).Except(kept)];

        private bool Holds(IReadOnlyList<int> leftOut)
        {
            cancellation.ThrowIfCancellationRequested();
            _tries++;
            var relaxed = _wish!;
            foreach (int rule in leftOut)
                relaxed = _rules[rule].Without(relaxed);
            return CanHold(relaxed, _inPlace);
        }

        private void AddRules(string service)
        {
            var pool = input.Pool;
            Add("memory of the hosts", true, i => WithHosts(i, h => h with { MemoryBytes = long.MaxValue / 65536 }));
            Add("cores of the hosts", pool.Hosts.Any(h => h.Cores is not null), i => WithHosts(i, h => h with { Cores = null }));
            Add("most servers a host", pool.Hosts.Any(h => h.MostServers is not null), i => WithHosts(i, h => h with { MostServers = null }));
            Add("the reserve for the failure of hosts", pool.Oracle.ReserveHosts > 0, i => i with { Pool = i.Pool with { Oracle = i.Pool.Oracle with { ReserveHosts = 0 } } });
            foreach (var licence in pool.Licences.Where(l => l.InstancesPerHost is not null))
                Add($"licence {licence.Name}: {licence.InstancesPerHost} running servers a host", true, i => i with { Pool = i.Pool with { Licences = [.. i.Pool.Licences.Select(l => l.Name == licence.Name ? l with { InstancesPerHost = null } : l)] } });
            AddHosts("suspended", h => h.Suspended && !h.ProvenDead, h => h with { Suspended = false });
            AddHosts("powered down", h => h.PoweredDown, h => h with { PoweredDown = false });
            AddHosts("does not answer", h => !h.Reachable && !h.ProvenDead && !h.PoweredDown, h => h with { Reachable = true });
            AddHosts("proven dead", h => h.ProvenDead, h => h with { ProvenDead = false, Reachable = true });
            if (input.Hosts.Any(h => h.ForeignMemoryBytes > 0))
                Add("memory that machines which are not ours hold", true, i => i with { Hosts = [.. i.Hosts.Select(h => h with { ForeignMemoryBytes = 0 })] });

            if (input.Advice.Verdicts.Any(v => v.Refusal is not null))
                Add("hosts that are ruled out", true, i => i with { Advice = i.Advice with { Verdicts = [.. i.Advice.Verdicts.Where(v => v.Refusal is null)] } });

            // By service, the others first: they are the first to be found needless.
            if (input.Servers.Count > FineServers)
            {
                Add("isolation", true, i => WithServices(i, s => s with { Isolation = Isolation.Shared }));
                Add("anti-affinity", true, i => WithServices(i, s => s with { AntiAffinity = [] }));
                Add("allowed and forbidden hosts", true, i => WithServices(i, s => s with { AllowedHosts = [], ForbiddenHosts = [] }));
                Add("licences", pool.Services.Any(s => s.Licence is not null), i => WithServices(i, s => s with { Licence = null }));
                Add("windows in which services may not be moved", pool.Services.Any(s => s.Freeze.Count > 0), i => WithServices(i, s => s with { Freeze = [] }));
                Add("servers moved by hand that are held", input.Servers.Any(s => s.Mark.HeldUntil > input.Now), i => WithoutHold(i, _ => true));
                Add("least counts of the others", true, i => i with { Pinned = i.Pinned.ToDictionary(p => p.Key, p => p.Key == service ? p.Value : 0) });
                return;
            }

            foreach (var spec in pool.Services.OrderBy(s => s.Name == service ? 1 : 0))
            {
                string name = spec.Name;
                Add($"{name} shares its hosts with nobody (isolation: dedicated)", spec.Isolation == Isolation.Dedicated, i => WithService(i, name, s => s with { Isolation = Isolation.Shared }));
                Add($"{name} refuses {string.Join(", ", spec.AntiAffinity)} beside it", spec.AntiAffinity.Count > 0, i => WithService(i, name, s => s with { AntiAffinity = [] }));
                Add($"{name} may run on {string.Join(", ", spec.AllowedHosts)} only", spec.AllowedHosts.Count > 0, i => WithService(i, name, s => s with { AllowedHosts = [] }));
                Add($"{name} may not run on {string.Join(", ", spec.ForbiddenHosts)}", spec.ForbiddenHosts.Count > 0, i => WithService(i, name, s => s with { ForbiddenHosts = [] }));
                Add($"{name} needs a host with the licence {spec.Licence}", spec.Licence is not null, i => WithService(i, name, s => s with { Licence = null }));
                Add($"{name} lies in a window in which its servers may not be moved", IsFrozen(spec, input.Now), i => WithService(i, name, s => s with { Freeze = [] }));
                foreach (var server in input.Servers.Where(s => s.Mark.Service == name && s.Mark.HeldUntil > input.Now && s.Mark.Stage is Stage.Matrix or Stage.Chamber or Stage.Nest))
                    Add($"{server.Mark.Name} was moved by hand and is held until {server.Mark.HeldUntil:u}", true, i => WithoutHold(i, s => s.Mark.ServerId == server.Mark.ServerId));
                if (name != service)
                {
                    int least = _wish!.Pinned[name];
                    Add(Words.Text($"{name} has at least {Words.Servers(least)}"), least > 0, i => i with { Pinned = i.Pinned.ToDictionary(p => p.Key, p => p.Key == name ? 0 : p.Value) });
                }
            }
        }

        private void AddHosts(string what, Func<HostState, bool> holds, Func<HostState, HostState> without)
        {
            var hosts = input.Hosts.Where(holds).Select(h => h.Name).ToArray();
            if (hosts.Length > 8)
            {
                Add(Words.Text($"{hosts.Length} hosts are {what}"), true, i => i with { Hosts = [.. i.Hosts.Select(h => holds(h) ? without(h) : h)] });
                return;
            }

            foreach (string name in hosts)
                Add(what == "does not answer" ? $"{name} does not answer" : $"{name} is {what}", true, i => i with { Hosts = [.. i.Hosts.Select(h => h.Name == name ? without(h) : h)] });
        }

        private void Add(string name, bool exists, Func<PlannerInput, PlannerInput> without)
        {
            if (exists)
                _rules.Add((name, without));
        }

        private static PlannerInput WithHosts(PlannerInput input, Func<HostSpec, HostSpec> change) =>
            input with { Pool = input.Pool with { Hosts = [.. input.Pool.Hosts.Select(change)] } };

        private static PlannerInput WithServices(PlannerInput input, Func<ServiceSpec, ServiceSpec> change) =>
            input with { Pool = input.Pool with { Services = [.. input.Pool.Services.Select(change)] } };

        private static PlannerInput WithService(PlannerInput input, string name, Func<ServiceSpec, ServiceSpec> change) =>
            WithServices(input, s => s.Name == name ? change(s) : s);

        private static PlannerInput WithoutHold(PlannerInput input, Func<ServerState, bool> which) =>
            input with { Servers = [.. input.Servers.Select(s => which(s) ? s with { Mark = s.Mark with { HeldUntil = null } } : s)] };
    }
}
