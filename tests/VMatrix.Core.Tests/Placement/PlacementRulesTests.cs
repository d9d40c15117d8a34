using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Placement;

/// <summary>Whether a server fits on a host is asked by the planner, by moves by hand and by moves that are carried out: all get one answer.</summary>
public sealed class PlacementRulesTests
{
    private const Rules ByHand = ~(Rules.Reserve | Rules.RuledOut | Rules.AntiAffinity | Rules.Dead | Rules.Silent | Rules.PoweredDown | Rules.Suspended);

    [Fact]
    public void The_planner_moves_by_hand_and_moves_carried_out_agree()
    {
        int checks = 0, excluded = 0;
        for (int seed = 0; seed < 400; seed++)
        {
            var input = Soundness.Of(new RandomPool(seed, 1 + (seed % 7), 1 + (seed % 4), Wildness.Wild).Input()) with { Advice = new HostAdvice() };
            input = input with { Servers = ServerOrder.Of(input.Pool, input.Servers) };
            var rules = new PlacementRules(input);
            for (int i = 0; i < input.Servers.Count; i++)
            {
                var server = input.Servers[i];
                var service = input.Pool.Services.FirstOrDefault(s => s.Name == server.Mark.Service);
                if (server.Claimed || service is null)
                    continue;
                foreach (var (host, stage) in input.Pool.Hosts.SelectMany(h => new[] { (h, Stage.Matrix), (h, Stage.Chamber) }))
                {
                    var now = input.Hosts.Single(h => h.Name == host.Name);
                    var byPlanner = Planned(input, i, host.Name, stage);
                    var byRules = rules.Check(server.Mark.ServerId, stage, host.Name).Rules;
                    Assert.Equal(byPlanner.All, byRules);
                    Assert.Equal(byPlanner.Fits, byRules == Rules.None);
                    Assert.Equal(Naively(input, server, service, host, stage), byRules & ByHand & ~Rules.Licence);

                    // By hand, from the host alone: licences of other hosts are not seen from there.
                    var there = input.Servers.Where(s => s.Mark.ServerId != server.Mark.ServerId && Takes(input, s, host.Name)).ToArray();
                    // What is on its way is told by open moves, and what is on a dead host holds no licence there.
                    if (there.Any(s => s.Claimed) || now.ProvenDead)
                        continue;
                    var obstacles = MoveChecks.OfHost(input.Pool, service, Info(server), stage, new CheckedHost { Spec = host, Servers = [.. there.Select(Info)], ForeignBytes = now.ForeignMemoryBytes },
                        name => input.Pool.Services.FirstOrDefault(s => s.Name == name)).ToArray();
                    bool blocks = obstacles.Any(o => o.Severity is ObstacleSeverity.Blocks);
                    var hard = byRules & ByHand & ~Rules.Licence;
                    if (obstacles.All(o => o.What != "LicenceMissing"))
                        Assert.True(hard != Rules.None == blocks, $"seed {seed}: {server.Mark.Name} on {host.Name}: {hard}, by hand {string.Join("; ", obstacles.Select(o => o.Why))}");

                    // A move that is carried out, from the host alone too.
                    var verdict = PlacementRules.Check(input.Pool, server, stage, new HostState { Name = host.Name, ForeignMemoryBytes = now.ForeignMemoryBytes }, there);
                    Assert.Equal(blocks, MoveChecks.LackOfRoom(input.Pool, host, service.Name, verdict) is not null);
                    checks++;
                    excluded += blocks ? 1 : 0;
                }
            }
        }

        Assert.True(checks > 3000 && excluded > 500 && excluded < checks, $"{excluded} of {checks}");
    }

    [Fact]
    public void By_hand_a_second_server_of_one_core_finds_no_place_on_a_host_of_one_core()
    {
        var host = new HostSpec { Name = "host1", MemoryBytes = 8L << 30, Cores = 1 };
        var blocks = Blocks(Shared("A"), host, [Info("A-2", "A")]);
        Assert.Equal("TooFewCores", Assert.Single(blocks).What);
        Assert.Contains("host1 has 0 of its 1 cores free, and 1 is needed", blocks[0].Why, StringComparison.Ordinal);
        Assert.NotNull(blocks[0].Mend);
        Assert.Empty(Blocks(Shared("A"), host with { Cores = 2 }, [Info("A-2", "A")]));
        Assert.Equal("TooFewCores", Assert.Single(Blocks(Shared("A") with { Image = new ImageSpec { Cores = 3 } }, host with { Cores = 2 }, [])).What);
    }

    [Fact]
    public void By_hand_a_licence_allows_no_more_instances_on_a_host_than_its_terms_say()
    {
        var host = new HostSpec { Name = "host1", MemoryBytes = 8L << 30, Licences = ["SQL"] };
        var licence = new LicenceSpec { Name = "SQL", InstancesPerHost = 1 };
        var blocks = Blocks(Shared("A") with { Licence = "SQL" }, host, [Info("A-2", "A")], licence);
        Assert.Equal("LicenceInstances", Assert.Single(blocks).What);
        Assert.Contains("host1 runs 1 of the 1 servers that the licence SQL allows on one host", blocks[0].Why, StringComparison.Ordinal);
        Assert.Empty(Blocks(Shared("A") with { Licence = "SQL" }, host, [Info("A-2", "A")], licence with { InstancesPerHost = 2 }));
    }

    [Fact]
    public void By_hand_a_seat_that_another_host_uses_is_not_there_twice()
    {
        var input = Pool(2, [Shared("A") with { Licence = "SQL" }], ("A", "host1"), ("A", null)) with { };
        input = input with { Pool = input.Pool with { Licences = [new LicenceSpec { Name = "SQL", Seats = 1 }] } };
        var rules = new PlacementRules(input);
        var sleeper = input.Servers[1].Mark.ServerId;
        Assert.Equal(Rules.None, rules.Check(sleeper, Stage.Matrix, "host1").Rules);
        Assert.Equal(Rules.Licence, rules.Check(sleeper, Stage.Matrix, "host2").Rules);
    }

    [Fact]
    public void A_server_that_runs_takes_room_whatever_its_mark_says()
    {
        var input = Pool(1, [Shared("A")], ("A", null), ("A", null));
        var running = input.Servers[0] with { Host = "host1", Power = PowerState.Running, MemoryBytes = 1L << 30 };
        input = input with { Servers = [running, input.Servers[1]] };
        Assert.Equal(Rules.Memory, new PlacementRules(input).Check(input.Servers[1].Mark.ServerId, Stage.Matrix, "host1").Rules);
        // It is not in its own way.
        Assert.Equal(Rules.None, new PlacementRules(input).Check(running.Mark.ServerId, Stage.Matrix, "host1").Rules);
    }

    [Fact]
    public void A_list_of_matrix_hosts_leaves_the_Chamber_open_and_a_forbidden_chamber_stays_shut()
    {
        var chamber = new HostSpec { Name = "chamber1", MemoryBytes = 1L << 30, Role = HostRole.Chamber };
        Assert.Empty(Blocks(Shared("A") with { AllowedHosts = ["host1"] }, chamber, [], to: Stage.Chamber));
        Assert.Equal("HostNotAllowed", Assert.Single(Blocks(Shared("A") with { ForbiddenHosts = ["chamber1"] }, chamber, [], to: Stage.Chamber)).What);
    }

    private static (Rules All, bool Fits) Planned(PlannerInput input, int i, string host, Stage stage)
    {
        var state = new PlacementState(input);
        state.Set(i, PlacementState.Nowhere);
        for (int j = input.Servers.Count; j < state.Count; j++)
        {
            if (state.ShadowOf(j) == i)
                state.Set(j, PlacementState.Nowhere);
        }

        state.InChamber[i] = stage is Stage.Chamber;
        int h = state.HostIndex[host];
        return (state.Excludes(i, h), state.Fits(i, h));
    }

    /// <summary>The rules once more, from the pool file's words and nothing else.</summary>
    private static Rules Naively(PlannerInput input, ServerState server, ServiceSpec service, HostSpec host, Stage stage)
    {
        var pool = input.Pool;
        var there = input.Servers.Where(s => s.Mark.ServerId != server.Mark.ServerId && Takes(input, s, host.Name)).ToArray();
        ServiceSpec? Of(ServerState s) => pool.Services.FirstOrDefault(x => x.Name == s.Mark.Service);
        long Memory(ServerState s) => s.MemoryBytes > 0 ? s.MemoryBytes : Of(s)?.Image.MemoryBytes ?? 0;
        var rules = Rules.None;
        bool live = stage is Stage.Matrix;
        if (host.Role != (live ? HostRole.Matrix : HostRole.Chamber))
            rules |= Rules.Role;
        long foreign = input.Hosts.Single(h => h.Name == host.Name).ForeignMemoryBytes;
        if (foreign + there.Sum(Memory) + Memory(server) > host.MemoryBytes)
            rules |= Rules.Memory;
        if (host.Cores is int cores && there.Sum(s => s.Cores) + server.Cores > cores)
            rules |= Rules.Cores;
        if (there.Length + 1 > (host.MostServers ?? int.MaxValue))
            rules |= Rules.MostServers;
        var serving = there.Where(s => Stays(s, host.Name) is Stage.Matrix).ToArray();
        if (live && (serving.Any(s => Of(s) is not { Isolation: Isolation.Shared }) || (service.Isolation is Isolation.Dedicated && there.Length > 0)))
            rules |= Rules.Dedicated;
        bool namesRole = service.AllowedHosts.Any(name => pool.Hosts.Any(h => h.Name == name && h.Role == HostRole.Chamber));
        if (service.ForbiddenHosts.Contains(host.Name) || (service.AllowedHosts.Count > 0 && !service.AllowedHosts.Contains(host.Name) && (live || namesRole)))
            rules |= Rules.Hosts;
        if (live && pool.Licences.FirstOrDefault(l => l.Name == service.Licence)?.InstancesPerHost is int most && !Lost(input, host.Name) && serving.Count(s => Of(s)?.Licence == service.Licence) >= most)
            rules |= Rules.LicenceInstances;
        return rules;
    }

    private static bool Lost(PlannerInput input, string host) => input.Hosts.Single(h => h.Name == host).ProvenDead;

    private static bool Takes(PlannerInput input, ServerState s, string host) => Stays(s, host) is not null || (s.Claimed && s.ClaimedHost == host && s.ClaimedTo is Stage.Matrix or Stage.Chamber);

    private static Stage? Stays(ServerState s, string host) => s.Host == host && s.Mark.Stage is Stage.Matrix or Stage.Chamber ? s.Mark.Stage
        : s.Claimed && s.ClaimedHost == host && s.ClaimedTo is Stage.Matrix or Stage.Chamber ? s.ClaimedTo : null;

    private static ServerInfo Info(ServerState s) => new() { Id = s.Mark.ServerId, Name = s.Mark.Name, Service = s.Mark.Service, Stage = s.Mark.Stage, Host = s.Host, MemoryBytes = s.MemoryBytes, Cores = s.Cores, Power = s.Power };

    private static ServerInfo Info(string name, string service) => new() { Id = Guid.NewGuid(), Name = name, Service = service, Stage = Stage.Matrix, MemoryBytes = 128L << 20 };

    private static ServiceSpec Shared(string name) => new() { Name = name, Isolation = Isolation.Shared, Image = new ImageSpec() };

    private static List<MoveObstacle> Blocks(ServiceSpec service, HostSpec host, ServerInfo[] there, LicenceSpec? licence = null, Stage to = Stage.Matrix)
    {
        var pool = Pool(1, [service]).Pool with { Hosts = [host, new HostSpec { Name = "other", MemoryBytes = 1L << 30 }], Licences = licence is null ? [] : [licence] };
        return [.. MoveChecks.OfHost(pool, service, Info("A-1", service.Name), to, new CheckedHost { Spec = host, Servers = there }, name => name == service.Name ? service : null).Where(o => o.Severity is ObstacleSeverity.Blocks)];
    }

    internal static PlannerInput Pool(int hosts, ServiceSpec[] services, params (string Service, string? Host)[] servers)
    {
        var specs = Enumerable.Range(1, hosts).Select(i => new HostSpec { Name = $"host{i}", MemoryBytes = 1L << 30 }).ToArray();
        return new PlannerInput
        {
            Pool = new PoolSpec
            {
                Name = "test",
                Path = "/pool.yaml",
                StateFolder = "/state",
                Hypervisor = "simulation",
                Hosts = specs,
                Services = services,
                Nest = new NestSpec { Folder = "/nest" },
                Balancer = new BalancerSpec { Kind = "simulation" },
            },
            Now = RandomPool.Now,
            Hosts = [.. specs.Select(h => new HostState { Name = h.Name })],
            Servers =
            [
                .. servers.Select((s, n) => new ServerState
                {
                    Mark = new ServerMark { ServerId = new Guid(n + 1, 0, 0, new byte[8]), Name = $"{s.Service}-{n + 1}", Service = s.Service, Image = "1", Stage = s.Host is null ? Stage.Nest : Stage.Matrix, StateId = default, CreatedAt = RandomPool.Now.AddDays(-9), ChangedAt = RandomPool.Now.AddDays(-9) },
                    Host = s.Host,
                    Power = s.Host is null ? PowerState.Saved : PowerState.Running,
                    Health = s.Host is null ? ServerHealth.Unknown : ServerHealth.Healthy,
                    MemoryBytes = 128L << 20,
                }),
            ],
            Loads = services.ToDictionary(s => s.Name, s => (IReadOnlyList<ServiceLoad>)[new ServiceLoad { Service = s.Name, At = RandomPool.Now, RequestRate = 1, ServedRate = 1 }]),
        };
    }
}
