using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Drivers;

namespace VMatrix.Planning;

/// <content>What failed moves mean for the next plan: what failed waits, longer each time, and others go first.</content>
public static partial class Planner
{
    /// <summary>Of the servers of a service that wait so many are told by name.</summary>
    private const int MostWaitersTold = 5;

    /// <summary>
    /// Writes what failed and still waits onto the servers that it concerns, and rules hosts out for services that failed on them. A host is ruled
    /// out only while the service has another one to go to.
    /// </summary>
    private static PlannerInput WithFailures(PlannerInput input)
    {
        MoveFailure[] waiting = [.. input.Failures.Where(f => f.Waits(input.Now))];
        if (waiting.Length == 0)
            return input;
        var servers = waiting.Where(f => f.Scope is FailureScope.Server).ToLookup(f => f.Server);
        return input with
        {
            Servers = servers.Count == 0 ? input.Servers :
            [
                .. input.Servers.Select(s => Longest(servers[s.Mark.ServerId].Where(f => f.Generation == s.Mark.Generation), input.Now) is { } failure
                    ? s with { Waits = failure.Describe(input.Now) } : s),
            ],
            Advice = input.Advice with { Verdicts = [.. input.Advice.Verdicts, .. RuledOut(input, waiting)] },
        };
    }

    private static IEnumerable<HostVerdict> RuledOut(PlannerInput input, MoveFailure[] waiting)
    {
        var usable = new HashSet<string>(input.Hosts.Where(h => h is { Reachable: true, Suspended: false, ProvenDead: false, PoweredDown: false }).Select(h => h.Name));
        foreach (var failures in waiting.Where(f => f is { Scope: FailureScope.Host, Host: not null }).GroupBy(f => f.Service))
        {
            if (input.Pool.Services.FirstOrDefault(s => s.Name == failures.Key) is not { } service)
                continue;
            var bad = new HashSet<string>(failures.Select(f => f.Host!));
            bool another = input.Pool.Hosts.Any(h => h.Role is HostRole.Matrix && usable.Contains(h.Name) && !bad.Contains(h.Name)
                && (service.AllowedHosts.Count == 0 || service.AllowedHosts.Contains(h.Name)) && !service.ForbiddenHosts.Contains(h.Name));
            foreach (string host in another ? bad.OrderBy(h => h, StringComparer.Ordinal).ToArray() : [])
                yield return new HostVerdict { Host = host, Service = service.Name, Refusal = $"moves to it failed ({Longest(failures.Where(f => f.Host == host), input.Now)!.Cause})" };
        }
    }

    private static MoveFailure? Longest(IEnumerable<MoveFailure> failures, DateTimeOffset now) => failures.OrderByDescending(f => f.RetryAt(now)).FirstOrDefault();

    private sealed partial class Draft
    {
        /// <summary>Tells which servers wait because moves of them failed, and finds what keeps whole services from waking or making servers.</summary>
        private void LookAtFailures()
        {
            foreach (var service in _services)
            {
                service.WakeWaits = Waiting(FailureScope.Service, service);
                service.CreationWaits = Waiting(FailureScope.Creation, service);
            }

            if (_before is not null)
                return;
            foreach (var service in _services)
            {
                if ((service.WakeWaits ?? service.CreationWaits) is { } why)
                    _refused.Add(new RefusedMove($"{(service.WakeWaits is null ? "make new servers" : "wake servers")} of {service.Spec.Name}", why));
            }

            foreach (var waiters in _input.Servers.Where(s => s.Waits is not null).GroupBy(s => s.Mark.Service, StringComparer.Ordinal))
            {
                var all = waiters.ToList();
                foreach (var server in all.Take(MostWaitersTold))
                    _refused.Add(new RefusedMove($"{(server.Mark.Stage is Stage.Nest ? "wake" : "move")} {server.Mark.Name}", server.Waits!));
                if (all.Count > MostWaitersTold)
                    _refused.Add(new RefusedMove(Words.Text($"wake or move {Words.Servers(all.Count - MostWaitersTold)} more of {waiters.Key}"), "moves of them failed too, and wait to be tried again; Get-VMatrixServer tells of each"));
            }
        }

        private string? Waiting(FailureScope scope, Service service) =>
            Longest(_input.Failures.Where(f => f.Scope == scope && f.Service == service.Spec.Name && f.Waits(Now)), Now)?.Describe(Now);

        /// <summary>The most servers that a service can have while what failed waits; null where nothing keeps it.</summary>
        private static int? MostWhileWaiting(Service service) =>
            service.WakeWaits is not null ? service.Live.Count : service.CreationWaits is not null ? service.Live.Count + service.Dormant.Count : null;

        /// <summary>Why something with a host's power waits; null when it does not.</summary>
        private string? PowerWaits(int host, HostActionKind kind) =>
            _input.Failures.FirstOrDefault(f => f.Scope is FailureScope.Power && f.HostAction == kind && f.Host == _state.Host[host].Name && f.Waits(Now))?.Describe(Now);
    }
}
