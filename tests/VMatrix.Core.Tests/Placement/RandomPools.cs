using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using CsCheck;
using VMatrix.Drivers;
using VMatrix.Planning;

namespace VMatrix.Tests.Placement;

/// <summary>How wild a random pool is.</summary>
internal enum Wildness
{
    /// <summary>Equal hosts, dedicated servers, no rule but memory.</summary>
    Plain,

    /// <summary>Every rule there is, and everything that may be wrong with a pool.</summary>
    Wild,
}

/// <summary>A pool with its state and load, made from small numbers so that a failure shrinks, and printed so that it can be read.</summary>
internal sealed record RandomPool(int Seed, int Hosts, int Services, Wildness Wildness)
{
    public static readonly DateTimeOffset Now = new(2026, 3, 2, 12, 0, 0, TimeSpan.Zero);
    private const long MiB = 1L << 20;

    public static Gen<RandomPool> Gen(Wildness wildness, int hosts, int services) =>
        from seed in CsCheck.Gen.Int[0, 1_000_000]
        from h in CsCheck.Gen.Int[1, hosts]
        from s in CsCheck.Gen.Int[1, services]
        select new RandomPool(seed, h, s, wildness);

    public PlannerInput Input()
    {
        var r = new Random(Seed);
        bool wild = Wildness == Wildness.Wild;
        bool domains = wild && r.Next(2) == 0;
        string HostName(int i) => $"host{i + 1}";
        var hosts = Enumerable.Range(0, Hosts).Select(i => new HostSpec
        {
            Name = HostName(i),
            MemoryBytes = (wild ? r.Next(1, 9) * 256 : 1024) * MiB,
            Cores = wild && r.Next(2) == 0 ? r.Next(1, 9) : null,
            MostServers = wild && r.Next(4) == 0 ? r.Next(1, 5) : null,
            Role = wild && i > 0 && r.Next(12) == 0 ? HostRole.Chamber : HostRole.Matrix,
            FaultDomain = domains ? $"rack{r.Next(3)}" : null,
            Licences = wild && r.Next(3) == 0 ? ["SQL"] : [],
        }).ToArray();
        string ServiceName(int i) => $"S{i}";
        string[] Some(int most, Func<int, string> name, int of) => Enumerable.Range(0, r.Next(1, most + 1)).Select(_ => name(r.Next(of))).Distinct().ToArray();
        var services = Enumerable.Range(0, Services).Select(i =>
        {
            int least = r.Next(0, 3);
            return new ServiceSpec
            {
                Name = ServiceName(i),
                Priority = Math.Round(0.5 + (r.NextDouble() * 8), 2),
                Least = least,
                Most = r.Next(Math.Max(1, least), 8),
                Capacity = r.Next(2, 20),
                Isolation = wild && r.Next(3) > 0 ? Isolation.Shared : Isolation.Dedicated,
                Image = new ImageSpec { MemoryBytes = (wild ? r.Next(1, 5) * 128 : 128) * MiB, Cores = wild ? r.Next(1, 3) : 1 },
                AllowedHosts = wild && r.Next(5) == 0 ? Some(3, HostName, Hosts) : [],
                ForbiddenHosts = wild && r.Next(5) == 0 ? Some(2, HostName, Hosts) : [],
                Affinity = wild && r.Next(5) == 0 ? Some(2, ServiceName, Services) : [],
                AntiAffinity = wild && r.Next(4) == 0 ? Some(2, ServiceName, Services) : [],
                Spread = wild && r.Next(3) == 0,
                Licence = wild && r.Next(6) == 0 ? "SQL" : null,
                Freeze = wild && r.Next(12) == 0 ? [new FreezeSpec { From = TimeSpan.FromHours(11), To = TimeSpan.FromHours(13) }] : [],
            };
        }).ToArray();
        var servers = new List<ServerState>();
        int live = r.Next(0, (2 * Hosts) + 1), asleep = r.Next(0, 6);
        var taken = new HashSet<string>();
        for (int k = 0; k < live + asleep; k++)
        {
            var service = services[r.Next(Services)];
            var host = k < live ? hosts[r.Next(Hosts)] : null;
            if (!wild && host is not null && !taken.Add(host.Name))
                continue;
            var stage = host is null ? Stage.Nest : host.Role == HostRole.Chamber ? Stage.Chamber : Stage.Matrix;
            bool claimed = wild && r.Next(15) == 0 && service.Licence is null;
            servers.Add(new ServerState
            {
                Mark = new ServerMark
                {
                    ServerId = new Guid(k + 1, 0, 0, new byte[8]),
                    Name = $"{service.Name}-{k + 1}",
                    Service = wild && r.Next(40) == 0 ? "GONE" : service.Name,
                    Image = wild ? $"{r.Next(2)}" : "1",
                    Stage = stage,
                    StateId = Guid.Empty,
                    CreatedAt = Now.AddDays(-200),
                    ChangedAt = Now.AddDays(-r.Next(200)),
                    HeldUntil = wild && r.Next(15) == 0 ? Now.AddMinutes(10) : null,
                },
                Host = host?.Name,
                Power = host is null ? (r.Next(2) == 0 ? PowerState.Saved : PowerState.Off) : PowerState.Running,
                Health = host is null ? ServerHealth.Unknown : wild && r.Next(12) == 0 ? ServerHealth.Dead : ServerHealth.Healthy,
                MemoryBytes = service.Image.MemoryBytes,
                Cores = service.Image.Cores,
                Claimed = claimed,
                ClaimedTo = claimed ? (host is null ? Stage.Matrix : Stage.Nest) : null,
                ClaimedHost = claimed && host is null ? hosts[0].Name : null,
            });
        }

        return new PlannerInput
        {
            Pool = new PoolSpec
            {
                Name = "random",
                Path = "/pool.yaml",
                StateFolder = "/state",
                Hypervisor = "simulation",
                Hosts = hosts,
                Services = services,
                Nest = new NestSpec { Folder = "/nest" },
                Balancer = new BalancerSpec { Kind = "simulation" },
                Oracle = new OracleSpec
                {
                    ReserveHosts = wild && r.Next(3) == 0 ? r.Next(1, 3) : 0,
                    BalanceGap = wild && r.Next(3) == 0 ? 0.1 + r.NextDouble() / 2 : null,
                    PowerDown = wild && r.Next(4) == 0,
                },
                Licences = wild && r.Next(2) == 0 ? [new LicenceSpec { Name = "SQL", Seats = r.Next(0, 3), InstancesPerHost = r.Next(2) == 0 ? r.Next(1, 3) : null, ReassignAfter = TimeSpan.FromDays(90) }] : [],
            },
            Now = Now,
            Hosts = hosts.Select(h => new HostState
            {
                Name = h.Name,
                Reachable = !wild || r.Next(12) != 0,
                ProvenDead = wild && r.Next(15) == 0,
                Suspended = wild && r.Next(8) == 0,
                ForeignMemoryBytes = wild && r.Next(6) == 0 ? 128 * MiB : 0,
                Images = wild && r.Next(3) == 0 ? [$"{r.Next(2)}"] : [],
            }).ToArray(),
            Servers = servers,
            Loads = services.ToDictionary(s => s.Name, s => (IReadOnlyList<ServiceLoad>)[Load(s.Name, Math.Round(r.NextDouble() * 60, 1))]),
            Images = services.ToDictionary(s => s.Name, _ => "1"),
            Seed = 7,
            Advice = new HostAdvice { Verdicts = wild ? [.. Verdicts(r, services, hosts, servers)] : [] },
        };
    }

    private static IEnumerable<HostVerdict> Verdicts(Random r, ServiceSpec[] services, HostSpec[] hosts, List<ServerState> servers)
    {
        foreach (var service in services.Where(_ => r.Next(4) == 0))
        {
            foreach (var host in hosts)
                yield return new HostVerdict { Host = host.Name, Service = service.Name, Refusal = r.Next(4) == 0 ? "no network LAN" : null, Rating = r.Next(3) == 0 ? null : Math.Round(r.NextDouble(), 2) };
        }

        foreach (var server in servers.Where(s => s.Mark.Stage == Stage.Nest && r.Next(3) == 0))
        {
            foreach (var host in hosts.Where(_ => r.Next(2) == 0))
                yield return new HostVerdict { Host = host.Name, Service = server.Mark.Service, Server = server.Mark.ServerId, Refusal = "its memory was kept on another processor" };
        }
    }

    private static ServiceLoad Load(string service, double rate) => new() { Service = service, At = Now, RequestRate = rate, ServedRate = rate };

    /// <summary>The pool after a plan was carried out.</summary>
    public static PlannerInput After(PlannerInput input, PlannerOutput output)
    {
        var servers = input.Servers.ToDictionary(s => s.Mark.ServerId);
        var services = input.Pool.Services.ToDictionary(s => s.Name);
        foreach (var move in output.Plan.Moves)
        {
            if (!servers.TryGetValue(move.ServerId, out var server))
            {
                var image = services[move.Service].Image;
                server = new ServerState
                {
                    Mark = new ServerMark { ServerId = move.ServerId, Name = move.ServerName, Service = move.Service, Image = "1", Stage = Stage.Nest, StateId = Guid.Empty, CreatedAt = input.Now, ChangedAt = input.Now },
                    MemoryBytes = image.MemoryBytes,
                    Cores = image.Cores,
                };
            }
            else
                server = server with { Mark = server.Mark with { Stage = move.ToStage, Generation = server.Mark.Generation + 1, ChangedAt = input.Now } };
            servers[move.ServerId] = server with
            {
                Host = move.ToHost,
                Power = move.ToHost is null ? PowerState.Saved : PowerState.Running,
                Health = move.ToHost is null ? ServerHealth.Unknown : ServerHealth.Healthy,
            };
        }

        return input with { Servers = servers.Values.ToArray(), Memory = output.Memory, Now = input.Now.AddTicks(1) };
    }

    public override string ToString() => $"{nameof(RandomPool)}({Seed}, {Hosts}, {Services}, {Wildness})";

    /// <summary>The pool and what was planned for it, for the message of a failed test.</summary>
    public static string Tell(PlannerInput input, params Plan[] plans)
    {
        var text = new StringBuilder().AppendLine();
        foreach (var host in input.Pool.Hosts)
        {
            var state = input.Hosts.Single(h => h.Name == host.Name);
            text.AppendLine($"  {host.Name} {host.Role} {host.MemoryBytes / MiB} MiB, {host.Cores?.ToString() ?? "any"} cores, most {host.MostServers?.ToString() ?? "any"}, {host.FaultDomain} {string.Join(' ', host.Licences)}"
                + (state.Reachable ? "" : " SILENT") + (state.ProvenDead ? " DEAD" : "") + (state.Suspended ? " SUSPENDED" : "") + (state.ForeignMemoryBytes > 0 ? " foreign" : "")
                + ": " + string.Join(' ', input.Servers.Where(s => s.Host == host.Name).Select(s => s.Mark.Name + (s.Mark.Service == "GONE" ? "?" : "") + (s.Claimed ? "*" : "") + (s.Mark.HeldUntil is null ? "" : "!") + (s.Health == ServerHealth.Dead ? "x" : ""))));
        }

        foreach (var s in input.Pool.Services)
        {
            text.AppendLine($"  {s.Name} {s.Isolation} priority {s.Priority}, {s.Least}..{s.Most}, {s.Image.MemoryBytes / MiB} MiB, {s.Image.Cores} cores, capacity {s.Capacity}, load {input.Loads[s.Name][0].RequestRate}"
                + (s.Spread ? " spread" : "") + (s.AllowedHosts.Count > 0 ? " only " + string.Join(' ', s.AllowedHosts) : "") + (s.ForbiddenHosts.Count > 0 ? " not " + string.Join(' ', s.ForbiddenHosts) : "")
                + (s.Affinity.Count > 0 ? " beside " + string.Join(' ', s.Affinity) : "") + (s.AntiAffinity.Count > 0 ? " away from " + string.Join(' ', s.AntiAffinity) : "") + (s.Licence is null ? "" : " licence " + s.Licence) + (s.Freeze.Count > 0 ? " FROZEN" : ""));
        }

        text.AppendLine($"  reserve {input.Pool.Oracle.ReserveHosts}, gap {input.Pool.Oracle.BalanceGap}, licences {string.Join(", ", input.Pool.Licences)}; in the nest {string.Join(' ', input.Servers.Where(s => s.Mark.Stage == Stage.Nest).Select(s => s.Mark.Name))}");
        foreach (var verdict in input.Advice.Verdicts)
            text.AppendLine($"  {verdict.Host} for {verdict.Service} {verdict.Server}: {verdict.Refusal} {verdict.Rating}");
        foreach (var plan in plans)
        {
            text.AppendLine(plan.Summary);
            foreach (var d in plan.Decisions)
                text.AppendLine($"    {d.Service} has {d.Has} needs {d.Needs} granted {d.Granted}");
            foreach (var m in plan.Moves)
                text.AppendLine($"    {m.Kind} {m.ServerName} {m.FromHost ?? m.FromStage.ToString()} -> {m.ToHost ?? m.ToStage.ToString()}{(m.IsDrop ? " DROP" : "")}: {m.Reason}");
            foreach (var refused in plan.Refused)
                text.AppendLine($"    refused: {refused.What}: {refused.Reason}");
        }

        return text.ToString();
    }
}
