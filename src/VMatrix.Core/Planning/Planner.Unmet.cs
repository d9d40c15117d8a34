using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Planning;

/// <content>Settings that a plan leaves unmet, or that have no effect: each is named with why.</content>
public static partial class Planner
{
    private sealed partial class Draft
    {
        /// <summary>Finds them in the pool as it will be when the plan was carried out.</summary>
        /// <param name="last">That pool.</param>
        private List<UnmetSetting> FindUnmet(Draft last)
        {
            var unmet = new List<UnmetSetting>();
            void Add(string setting, string why) => unmet.Add(new UnmetSetting(setting, why));
            UnmetCounts(last, Add);
            UnmetPriorities(last, Add);
            UnmetWishes(last._state, Add);
            UnmetBalance(last, Add);
            UnmetReserve(last._state, Add);
            UnmetNames(Add);
            WithoutEffect(Add);
            return unmet;
        }

        private void UnmetCounts(Draft last, Action<string, string> add)
        {
            for (int s = 0; s < _services.Count; s++)
            {
                var spec = _services[s].Spec;
                int has = last._placement.Placed(s);
                string why = last._short[s]?.Reason ?? _services[s].Frozen ?? (IsShadow(_services[s]) ? IsShadowed : "no host may take more of it");
                if (_input.Pinned.TryGetValue(spec.Name, out int pinned))
                {
                    if (has < pinned)
                        add($"pinned count of {spec.Name}", Words.Text($"{pinned} are asked for and {has} are had: {why}"));
                }
                else if (has < spec.Least)
                    add($"least of {spec.Name}", Words.Text($"{spec.Least} are asked for and {has} are had: {why}"));
            }
        }

        /// <summary>A service that is short beside less important ones whose servers its priority cannot take.</summary>
        private void UnmetPriorities(Draft last, Action<string, string> add)
        {
            for (int s = 0; s < _services.Count; s++)
            {
                var service = _services[s];
                var spec = service.Spec;
                if (service.Need.Bad is not null || service.Frozen is not null || IsShadow(service) || _input.Pinned.ContainsKey(spec.Name)
                    || service.Claim.Granted >= Math.Min(service.Need.Servers, spec.Most))
                {
                    continue;
                }

                for (int t = 0; t < _services.Count; t++)
                {
                    var other = _services[t];
                    int has = last._placement.Placed(t);
                    if (other.Spec.Priority >= spec.Priority || has == 0)
                        continue;
                    string? why = other.Frozen ?? (IsShadow(other) ? IsShadowed
                        : _input.Pinned.ContainsKey(other.Spec.Name) ? "its count is pinned by an operator"
                        : other.Need.Bad is not null ? $"its load is not known ({other.Need.Bad})"
                        : !OnUsableHosts(last._state, s, t) ? $"none of its hosts is one that {spec.Name} may use"
                        : has <= other.Spec.Least ? Words.Text($"they are its least ({other.Spec.Least})")
                        : has <= other.Claim.Floor ? "they are held, protected, on their way or on hosts that do not answer"
                        : null);
                    if (why is not null)
                        add($"priority of {spec.Name}", Words.Text($"{spec.Name} ({spec.Priority:0.##}) needs {service.Need.Servers} and gets {service.Claim.Granted}, and takes none of the {Words.Servers(has)} of {other.Spec.Name} ({other.Spec.Priority:0.##}): {why}"));
                }
            }
        }

        private static bool OnUsableHosts(PlacementState state, int s, int t)
        {
            foreach (int i in state.InMatrix[t])
            {
                if (state.At[i] >= 0 && state.Closed[state.At[i]] == Rules.None && state.MayUse(s, state.At[i]))
                    return true;
            }

            return false;
        }

        private void UnmetWishes(PlacementState state, Action<string, string> add)
        {
            for (int s = 0; s < _services.Count; s++)
            {
                string name = _services[s].Spec.Name;
                if (state.DomainCount[s] is int[] counts)
                    UnmetSpread(state, s, counts, why => add($"spread of {name}", why));
                if (state.Affinity[s] is not int[] wanted)
                    continue;
                foreach (int t in wanted)
                {
                    int servers = 0, without = 0;
                    foreach (int i in Live(state, s))
                    {
                        servers++;
                        without += state.Carries(state.At[i], t, i) ? 0 : 1;
                    }

                    if (without > 0)
                    {
                        int theirs = Live(state, t).Count();
                        add($"affinity of {name}", Words.Text($"{without} of its {Words.Servers(servers)} {(without == 1 ? "stands" : "stand")} on a host without {state.Service[t].Name}, which {(theirs == 0 ? "has no server" : Words.Text($"has {theirs}; no host takes both, or a move would leave more wishes open"))}"));
                    }
                }
            }
        }

        private static IEnumerable<int> Live(PlacementState state, int s)
        {
            for (int i = 0; i < state.Count; i++)
            {
                if (state.Of[i] == s && state.At[i] >= 0 && !state.InChamber[i])
                    yield return i;
            }
        }

        private static void UnmetSpread(PlacementState state, int s, int[] counts, Action<string> add)
        {
            int servers = counts.Sum();
            if (servers < 2)
                return;
            if (state.DomainsOpen(s) < 2)
            {
                add(Words.Text($"its {servers} servers are not spread: all open hosts that it may use are in one fault domain"));
                return;
            }

            int most = PlacementState.Nowhere, least = PlacementState.Nowhere;
            for (int d = 0; d < counts.Length; d++)
            {
                most = most < 0 || counts[d] > counts[most] ? d : most;
                if (state.IsDomainOpen(s, d))
                    least = least < 0 || counts[d] < counts[least] ? d : least;
            }

            if (counts[most] - counts[least] > 1)
                add(Words.Text($"{NameOf(most)} has {counts[most]} of its servers and {NameOf(least)} {counts[least]}; no host there takes one, or those that could go may not be moved"));

            string NameOf(int domain)
            {
                int h = Array.IndexOf(state.Domain, domain);
                return state.Host[h].FaultDomain ?? state.Host[h].Name;
            }
        }

        private void UnmetBalance(Draft last, Action<string, string> add)
        {
            if (Oracle.BalanceGap is not double gap)
                return;
            var state = last._state;
            var balancing = new Balancing(last._placement, last._input);
            foreach (var measure in Balancing.Measures(Oracle))
            {
                string what = measure is Balancing.Measure.Memory ? "memory" : "processors";
                var (least, most, leastHost, mostHost, _, hosts) = balancing.Range(measure);
                if (hosts < 2)
                {
                    int open = 0, dedicated = 0, unknown = 0;
                    for (int h = 0; h < state.Hosts; h++)
                    {
                        if (state.Closed[h] != Rules.None)
                            continue;
                        open++;
                        dedicated += state.Dedicated[h] > 0 ? 1 : 0;
                        unknown += measure is Balancing.Measure.Processor && state.Host[h].Cores is null ? 1 : 0;
                    }

                    add("oracle.balanceGap", Words.Text($"it has no effect on {what}: of {open} open hosts {hosts} can be balanced{(dedicated > 0 ? Words.Text($"; {dedicated} carry a server that shares with no other (isolation: dedicated), about which nothing can be balanced") : "")}{(unknown > 0 ? Words.Text($"; {unknown} state no cores") : "")}"));
                    continue;
                }

                if (most - least <= gap + 1e-6 || most <= (Oracle.BalanceAbove ?? -1))
                    continue;
                add("oracle.balanceGap", Words.Text($"{state.Host[mostHost].Name} uses {100 * most:0.#} % of its {what} and {state.Host[leastHost].Name} {100 * least:0.#} %, {100 * (most - least):0.#} points apart where at most {100 * gap:0.#} are asked for, and no move brings them nearer: {WhyNone(state, mostHost)}"));
            }
        }

        /// <summary>Why none of a host's servers is moved for balance.</summary>
        private string WhyNone(PlacementState state, int h)
        {
            int held = 0, still = 0, lately = 0, never = 0, free = 0, all = 0;
            for (int i = state.First[h]; i >= 0; i = state.Next[i])
            {
                all++;
                if (state.StillOf[i] is Still.Held or Still.Claimed)
                    held++;
                else if (state.StillOf[i] is not Still.Free || state.InChamber[i])
                    still++;
                else if (!state.MayBeBalanced(i))
                    never++;
                else if (i < state.Input.Count && state.Home[i] >= 0 && state.Input[i].Mark.ChangedAt > Now - Oracle.Horizon)
                    lately++;
                else
                    free++;
            }

            if (all == 0)
                return "no server of the pool is on it";
            var reasons = new List<string>();
            Count(held, "held or on their way");
            Count(still, "not to be moved now (a window, a mode, an unknown service)");
            Count(never, "never to be balanced (neverBalance)");
            Count(lately, Words.Text($"moved within {Words.Seconds(Oracle.Horizon)} (oracle.horizon)"));
            Count(free, "too large for the difference, or kept there by what the other hosts have room and rules for");
            return Words.Text($"of {Words.Servers(all)} on {state.Host[h].Name}, {string.Join(", ", reasons)}");

            void Count(int n, string why)
            {
                if (n > 0)
                    reasons.Add(Words.Text($"{n} {(n == 1 ? "is" : "are")} {why}"));
            }
        }

        private void UnmetReserve(PlacementState state, Action<string, string> add)
        {
            if (Oracle.ReserveHosts > 0 && state.Spare < state.ReserveNeed)
                add("oracle.reserveHosts", Words.Text($"{state.Spare >> 20} MiB are free on open hosts, and {(state.ReserveHosts == 1 ? "the largest host has" : Words.Text($"the {state.ReserveHosts} largest hosts have"))} {state.ReserveNeed >> 20} MiB: were {(state.ReserveHosts == 1 ? "it" : "they")} to fail, not all would find room. Least counts may use the reserve"));
            else if (state.ReserveHosts < Oracle.ReserveHosts)
                add("oracle.reserveHosts", Words.Text($"{Oracle.ReserveHosts} are asked for, and {Oracle.ReserveHosts - state.ReserveHosts} {(Oracle.ReserveHosts - state.ReserveHosts == 1 ? "is" : "are")} used up by hosts that are lost or suspended"));
        }

        /// <summary>Lists of servers that name none.</summary>
        private void UnmetNames(Action<string, string> add)
        {
            for (int s = 0; s < _services.Count; s++)
            {
                var spec = _services[s].Spec;
                Look("retireFirst", spec.RetireFirst);
                Look("protected", spec.Protected);
                Look("neverBalance", spec.NeverBalance);

                void Look(string key, IReadOnlyList<string> patterns)
                {
                    foreach (string pattern in patterns)
                    {
                        var (from, to) = _state.Input.ServersOf(_state.ServiceIndex[spec.Name]);
                        bool any = false;
                        for (int i = from; i < to && !any; i++)
                            any = NamePatterns.Match(pattern, _state.Name(i));
                        if (!any)
                            add($"{key} of {spec.Name}", $"'{pattern}' names none of its servers");
                    }
                }
            }
        }

        /// <summary>Settings that do nothing beside the others as they are.</summary>
        private void WithoutEffect(Action<string, string> add)
        {
            var (pool, usual) = (_input.Pool, new OracleSpec());
            if (Oracle.BalanceGap is null && Oracle.BalanceAbove is not null)
                add("oracle.balanceAbove", "it has no effect without oracle.balanceGap, which says how far hosts may differ");
            if (Oracle.BalanceGap is null && Oracle.BalanceBy != usual.BalanceBy)
                add("oracle.balanceBy", "it has no effect without oracle.balanceGap, which says how far hosts may differ");
            if (Oracle.BalanceGap is null && !Oracle.PowerDown && pool.Services.FirstOrDefault(s => s.NeverBalance.Count > 0) is { } never)
                add($"neverBalance of {never.Name}", "it has no effect: nothing is moved for balance without oracle.balanceGap or oracle.powerDown");
            if (Oracle.PowerDown && !_input.HostPower)
                add("oracle.powerDown", "it has no effect: this hypervisor's driver cannot power hosts down and wake them");
            else if (!Oracle.PowerDown)
            {
                foreach (var (key, isSet) in new[]
                {
                    ("powerDownAfter", Oracle.PowerDownAfter != usual.PowerDownAfter), ("hostCost", Oracle.HostCost != usual.HostCost),
                    ("idleHosts", Oracle.IdleHosts != usual.IdleHosts), ("hostWakeTime", Oracle.HostWakeTime != usual.HostWakeTime),
                })
                {
                    if (isSet)
                        add($"oracle.{key}", "it has no effect without oracle.powerDown");
                }
            }

            if (pool.Hosts.Any(h => h.FaultDomain is not null) && !pool.Services.Any(s => s.Spread))
                add("faultDomain of hosts", "it has no effect: no service has spread: true");
            foreach (var licence in pool.Licences)
            {
                if (!pool.Services.Any(s => s.Licence == licence.Name))
                    add($"licence {licence.Name}", "it has no effect: no service needs it");
            }

            if (pool.Nest.MaxSleep is not null && !pool.Hosts.Any(h => h.Role is HostRole.Chamber))
                add("nest.maxSleep", "it has no effect: the pool has no chamber host, in which sleepers are woken once");
            if (pool.Balancer.Kind is "nlb" or "script" && pool.Services.FirstOrDefault(s => s.Concurrency is not null) is { } limited)
                add($"concurrency of {limited.Name}", $"it has no effect: the balancer {pool.Balancer.Kind} is not told of it");
        }
    }
}
