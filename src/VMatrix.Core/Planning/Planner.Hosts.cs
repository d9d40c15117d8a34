using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Moves;

namespace VMatrix.Planning;

/// <content>
/// Which hosts are powered down and woken. The hosts are a stack in the pool file's order: filled from the first, powered down from the
/// last, woken from the first. A host is powered down once it has been idle for the break-even time, in which idling costs as much as a
/// power-down and a wake: without knowing the future that costs at most twice what knowing it would (the ski-rental rule; for hosts: Lu, Chen,
/// Andrew, <em>Simple and effective dynamic provisioning for power-proportional data centers</em>, 2013; Lin, Wierman, Andrew, Thereska,
/// <em>Dynamic right-sizing for power-proportional data centers</em>, 2011). A host is woken as far ahead of the forecast as it takes to wake.
/// </content>
public static partial class Planner
{
    /// <summary>What is decided about the power of hosts.</summary>
    /// <param name="Actions">Hosts to be powered down or woken.</param>
    /// <param name="Refused">What was considered and not done.</param>
    /// <param name="IdleSince">Since when each idle host is idle.</param>
    private sealed record HostDecision(IReadOnlyList<HostAction> Actions, IReadOnlyList<RefusedMove> Refused, IReadOnlyDictionary<string, DateTimeOffset> IdleSince)
    {
        /// <summary>The same where the Oracle only shadows: told, and not done.</summary>
        public HostDecision Shadowed() => new([], [.. Refused, .. Actions.Select(a => new RefusedMove((a.Kind is HostActionKind.Wake ? "wake " : "power down ") + a.Host, $"{Draft.IsShadowed}; it would be because {a.Reason}"))], IdleSince);

        public PlannerOutput AddTo(PlannerOutput output)
        {
            var plan = output.Plan;
            string summary = plan.Summary;
            if (Actions.Count > 0)
            {
                string hosts = string.Join(", ", Actions.Take(6).Select(a => (a.Kind is HostActionKind.Wake ? "wake " : "power down ") + a.Host));
                summary = $"Hosts: {hosts}{(Actions.Count > 6 ? $" and {Actions.Count - 6} more" : "")}. Servers: {summary}";
            }

            return new PlannerOutput(plan with { Hosts = Actions, Refused = [.. plan.Refused, .. Refused], Summary = summary }, output.Memory with { IdleSince = IdleSince });
        }
    }

    private sealed partial class Draft
    {
        private TimeSpan HostLead => _input.HostWakeTime ?? Oracle.HostWakeTime;

        /// <summary>Decides about the power of hosts.</summary>
        /// <param name="last">The pool as it will be when this plan was carried out.</param>
        private HostDecision DecideHosts(Draft last)
        {
            if (!_input.HostPower)
            {
                return new HostDecision([], [new RefusedMove("power down idle hosts", "oracle.powerDown is true, but this hypervisor's driver cannot power hosts down and wake them; leave powerDown out, or do it outside of VMatrix")], new Dictionary<string, DateTimeOffset>());
            }

            var occupied = new HashSet<string>(StringComparer.Ordinal);
            foreach (var server in _input.Servers)
            {
                if (server.Host is not null)
                    occupied.Add(server.Host);
                if (server is { Claimed: true, ClaimedHost: not null })
                    occupied.Add(server.ClaimedHost);
            }

            var idleSince = new Dictionary<string, DateTimeOffset>(StringComparer.Ordinal);
            var idle = new List<int>();
            var down = new List<int>();
            var waking = new List<int>();
            for (int h = 0; h < _state.Hosts; h++)
            {
                var (spec, now) = (_state.Host[h], _state.HostNow[h]);
                if (spec.Role != HostRole.Matrix || now.Suspended || now.ProvenDead)
                    continue;
                if (now.Waking)
                    waking.Add(h);
                else if (now.PoweredDown)
                    down.Add(h);
                else if (now.Reachable && !occupied.Contains(spec.Name) && now.ForeignMemoryBytes == 0)
                {
                    idleSince[spec.Name] = _input.Memory?.IdleSince.TryGetValue(spec.Name, out var since) == true ? since : Now;
                    if (last._state.First[h] == PlacementState.Nowhere)
                        idle.Add(h);
                }
            }

            var refused = new List<RefusedMove>();
            idle.RemoveAll(h => Later(h, HostActionKind.PowerDown));
            down.RemoveAll(h => Later(h, HostActionKind.Wake));

            // What could not be had on the hosts that are up, those on their way included.
            int[] wanted = [.. _services.Select(Wanted)];
            var (short_, unused) = waking.Count == 0 ? (Short(wanted, last), []) : Try(last, wanted, waking, []);
            var actions = new List<HostAction>();
            int missing = short_.Sum();
            if (missing > 0 && down.Count > 0)
            {
                double hosts = short_.Select((n, s) => n / last._state.Room(s).PerHost).Sum();
                int first = Math.Min(down.Count, (int)Math.Ceiling(hosts - 1e-9));
                // The first ones, and where rules keep what is short away from those, whichever help.
                foreach (int count in new[] { first, down.Count }.Distinct())
                {
                    var opened = down.Take(count).ToList();
                    var (still, empty) = Try(last, wanted, [.. waking, .. opened], opened);
                    if (still.Sum() >= missing)
                        continue;
                    string why = string.Join(", ", _services.Select((service, s) => (service, s)).Where(x => short_[x.s] > still[x.s])
                        .Select(x => Words.Text($"{x.service.Spec.Name} needs {wanted[x.s]} servers in {Words.Seconds(HostLead)} and has room for {wanted[x.s] - short_[x.s]} ({x.service.Need.Reason})")));
                    actions.AddRange(opened.Where(h => !empty.Contains(h)).Select(h => Act(HostActionKind.Wake, h, Words.Text($"{why}; waking takes about {Words.Seconds(HostLead)}"))));
                    break;
                }

                down.RemoveAll(h => actions.Any(a => a.Host == _state.Host[h].Name));
            }

            int keep = Oracle.IdleHosts + Oracle.ReserveHosts;
            int spare = idle.Count + unused.Count;
            foreach (int h in down.Take(Math.Max(0, keep - spare)))
            {
                actions.Add(Act(HostActionKind.Wake, h, Words.Text($"{spare} idle hosts are up, {keep} are to be kept (idleHosts {Oracle.IdleHosts}, reserveHosts {Oracle.ReserveHosts})")));
                spare++;
            }

            if (actions.Count > 0 || missing > 0 || waking.Count > 0)
                return new HostDecision(actions, refused, idleSince);

            var patience = Oracle.PowerDownAfter > HostLead ? Oracle.PowerDownAfter : HostLead;
            var off = idle.Where(h => Now - idleSince[_state.Host[h].Name] >= patience).Reverse().Take(Math.Max(0, idle.Count - keep)).ToList();
            if (off.Count > 0)
            {
                // A reserve or a fault domain may rest on an empty host.
                using var without = new Draft(last._input with { HostPower = false, Hosts = [.. last._input.Hosts.Select(h => off.Any(o => _state.Host[o].Name == h.Name) ? h with { PoweredDown = true } : h)] }, this);
                without.Decide();
                if (Short(wanted, without).Sum() > missing || without.ChangesAnything)
                    refused.Add(new RefusedMove($"power down {string.Join(", ", off.Select(h => _state.Host[h].Name))}", "servers would be moved or missing without them"));
                else
                    actions.AddRange(off.Select(h => Act(HostActionKind.PowerDown, h, Words.Text($"idle for {Words.Seconds(Now - idleSince[_state.Host[h].Name])}, which is the {Words.Seconds(patience)} that idling may take; {idle.Count} hosts are idle and {keep} are to be kept"))));
            }

            return new HostDecision(actions, refused, idleSince);

            bool Later(int h, HostActionKind kind)
            {
                if (PowerWaits(h, kind) is not { } why)
                    return false;
                refused.Add(new RefusedMove($"{(kind is HostActionKind.Wake ? "wake" : "power down")} {_state.Host[h].Name}", why));
                return true;
            }
        }

        /// <summary>Plans with some hosts up that are not: what is short then, and which of <paramref name="watched"/>'s (or, with none, of the opened) hosts are not used.</summary>
        private (int[] Short, List<int> Unused) Try(Draft last, int[] wanted, List<int> opened, List<int> watched)
        {
            var names = new HashSet<string>(opened.Select(h => _state.Host[h].Name), StringComparer.Ordinal);
            using var draft = new Draft(last._input with { HostPower = false, Hosts = [.. last._input.Hosts.Select(h => names.Contains(h.Name) ? h with { PoweredDown = false, Reachable = true } : h)] }, this);
            draft.Decide();
            return (Short(wanted, draft), [.. (watched.Count > 0 ? watched : opened).Where(h => draft._state.First[h] == PlacementState.Nowhere)]);
        }

        private static int[] Short(int[] wanted, Draft draft) => [.. wanted.Select((n, s) => Math.Max(0, n - draft._services[s].Claim.Granted))];

        /// <summary>Servers that a service would have were there room.</summary>
        private int Wanted(Service service)
        {
            var spec = service.Spec;
            if (service.Frozen is not null)
                return service.Live.Count;
            if (_input.Pinned.TryGetValue(spec.Name, out int pinned))
                return Math.Max(0, Math.Min(pinned, Overrides.MostServers));
            return Math.Max(spec.Least, Math.Min(spec.Most, service.Need.Servers));
        }

        private HostAction Act(HostActionKind kind, int host, string why) => new() { Id = NewId(kind.ToString(), _state.Host[host].Name), Kind = kind, Host = _state.Host[host].Name, Reason = why };
    }
}
