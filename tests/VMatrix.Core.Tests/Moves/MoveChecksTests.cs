using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>What keeps a host from taking a server by the pool's own rules: each is found, in its group, with its mend.</summary>
public sealed class MoveChecksTests
{
    private static readonly HostSpec s_host = new() { Name = "host1", MemoryBytes = 4L << 30, Licences = ["SQL"] };
    private static readonly ServiceSpec s_service = new() { Name = "FINANCE", Image = new ImageSpec(), Licence = "SQL", Isolation = Isolation.Shared };
    private static readonly ServerInfo s_server = Server("FINANCE-1", "FINANCE");

    public static TheoryData<string, ObstacleGroup, ObstacleSeverity> Obstacles => new()
    {
        { "HostRoleMismatch", ObstacleGroup.People, ObstacleSeverity.Blocks },
        { "HostUnreachable", ObstacleGroup.Hardware, ObstacleSeverity.Blocks },
        { "HostPoweredDown", ObstacleGroup.Hardware, ObstacleSeverity.Blocks },
        { "HostSuspended", ObstacleGroup.People, ObstacleSeverity.Blocks },
        { "HostNotAllowed", ObstacleGroup.People, ObstacleSeverity.Blocks },
        { "LicenceMissing", ObstacleGroup.People, ObstacleSeverity.Blocks },
        { "MostServers", ObstacleGroup.People, ObstacleSeverity.Blocks },
        { "Isolation", ObstacleGroup.People, ObstacleSeverity.Blocks },
        { "AntiAffinity", ObstacleGroup.People, ObstacleSeverity.Warns },
        { "NoRoom", ObstacleGroup.Hardware, ObstacleSeverity.Blocks },
        { "TooManyMoves", ObstacleGroup.People, ObstacleSeverity.Warns },
    };

    [Fact]
    public void Where_nothing_stands_in_the_way_nothing_is_found() => Assert.Empty(Find(s_service, Host()));

    [Theory]
    [MemberData(nameof(Obstacles))]
    public void What_stands_in_the_way_is_found_alone(string what, ObstacleGroup group, ObstacleSeverity severity)
    {
        var other = Server("SPORTS-1", "SPORTS");
        var found = Assert.Single(what switch
        {
            "HostRoleMismatch" => Find(s_service, Host(s_host with { Role = HostRole.Chamber })),
            "HostUnreachable" => Find(s_service, Host() with { Reachable = false }),
            "HostPoweredDown" => Find(s_service, Host() with { PoweredDown = true }),
            "HostSuspended" => Find(s_service, Host() with { SuspendedBy = "Ada" }),
            "HostNotAllowed" => Find(s_service with { AllowedHosts = ["host2"] }, Host()),
            "LicenceMissing" => Find(s_service, Host(s_host with { Licences = [] })),
            "MostServers" => Find(s_service, Host(s_host with { MostServers = 1 }, other)),
            "Isolation" => Find(s_service with { Isolation = Isolation.Dedicated }, Host(s_host, other)),
            "AntiAffinity" => Find(s_service with { AntiAffinity = ["SPORTS"] }, Host(s_host, other)),
            "NoRoom" => Find(s_service, Host() with { ForeignBytes = 4L << 30 }),
            _ => Find(s_service, Host() with { OpenMoves = 9 }),
        });
        Assert.Equal((what, group, severity), (found.What, found.Group, found.Severity));
        Assert.Contains("host1", found.Why, StringComparison.Ordinal);
        Assert.Equal(what != "AntiAffinity", found.Mend is { Length: > 0 });
    }

    private static ServerInfo Server(string name, string service) => new() { Id = Guid.NewGuid(), Name = name, Service = service, Stage = Stage.Matrix, MemoryBytes = 1L << 30 };

    private static CheckedHost Host(HostSpec? spec = null, params ServerInfo[] servers) => new() { Spec = spec ?? s_host, Reachable = true, Servers = servers };

    private static IReadOnlyList<MoveObstacle> Find(ServiceSpec service, CheckedHost host) =>
    [
        .. MoveChecks.OfHost(
            new PoolSpec { Name = "test", Path = "pool.yaml", StateFolder = "", Hypervisor = "hyperv", Nest = new NestSpec { Folder = "" }, Balancer = new BalancerSpec { Kind = "haproxy" }, Hosts = [host.Spec], Services = [service], Limits = new LimitSpec { MovesPerHost = 9 } },
            service, s_server, Stage.Matrix, host, name => name == "SPORTS" ? s_service with { Name = "SPORTS" } : service),
    ];
}
