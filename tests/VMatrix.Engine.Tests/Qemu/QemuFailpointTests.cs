using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using VMatrix.Moves;
using VMatrix.Qemu;
using VMatrix.Tests.Simulation;
using Xunit;

namespace VMatrix.Tests.Qemu;

/// <summary>The pool of another process, as the one that is to be killed opens it.</summary>
internal sealed class QemuVictimWorld(string folder) : DriverWorld
{
    public override PoolSpec Pool { get; } = JsonSerializer.Deserialize<PoolSpec>(File.ReadAllText(PathIn(folder)))!;

    public override TimeProvider Clock => TimeProvider.System;

    public static string PathIn(string folder) => Path.Combine(folder, "pool.json");

    public override IHypervisor OpenHypervisor() => new QemuHypervisor(Pool, OpenProbe(), TimeProvider.System);

    public override IBalancer OpenBalancer() => new HAProxyBalancer(Pool, TimeProvider.System);

    public override IHealthProbe OpenProbe() => new HttpHealthProbe(TimeProvider.System);

    public override Task CrashAsync(Guid server) => throw new NotSupportedException();

    public override Task HangAsync(Guid server) => throw new NotSupportedException();

    public override Task CloneAsync(Guid server, HostSpec on) => throw new NotSupportedException();

    public override IReadOnlyList<string> Leftovers(IReadOnlyCollection<Guid> known) => [];

    public override ValueTask DisposeAsync() => default;
}

/// <summary>A process that moves real guests is ended with SIGKILL, and another one picks up.</summary>
[Collection("qemu")]
public sealed class QemuFailpointTests(QemuImage image)
{
    private static readonly string[] s_points = [.. MoveRoutes.Failpoints.Where(point => WayOf(point) is { Live: false, Route: not "restart" })];

    public static TheoryData<string> AllPoints => [.. s_points];

    /// <summary>Another dozen each day; the test names say which.</summary>
    public static TheoryData<string> SomePoints => [.. Victim.OfTheDay(s_points, 12)];

    [Theory]
    [MemberData(nameof(SomePoints))]
    public Task Killed_at_a_point_of_the_day(string point) => KillAsync(point);

    [Theory]
    [Trait("Category", "Long")]
    [MemberData(nameof(AllPoints))]
    public Task Killed_at_every_point(string point) => KillAsync(point);

    [Fact]
    public async Task Killed_at_two_points_of_the_day_on_the_way_back()
    {
        foreach (var back in Victim.OfTheDay(await BackAsync(), 2))
            await KillAsync(back.Way, back.Point, back.Trouble);
    }

    [Fact]
    [Trait("Category", "Long")]
    public async Task Killed_at_every_point_on_the_way_back()
    {
        foreach (var back in await BackAsync())
            await KillAsync(back.Way, back.Point, back.Trouble);
    }

    private static async Task<IEnumerable<Victim.BackPoint>> BackAsync() =>
        (await SimulationFailpointTests.BackPointsAsync()).Where(back => back.Way is { Live: false, Route: not "restart" });

    private static Way? WayOf(string point) => Way.All.Concat(Way.Others).FirstOrDefault(way => !way.Live && way.Points.Contains(point));

    private Task KillAsync(string point) => KillAsync(WayOf(point)!, point, null);

    private async Task KillAsync(Way way, string point, Trouble? trouble)
    {
        // An image is made from a disk; the other moves are quicker without one.
        await using var world = await QemuDriverWorld.OpenAsync(image, warm: way.Route != "publish");
        var folder = Path.GetDirectoryName(world.Pool.Path)!;
        await File.WriteAllTextAsync(QemuVictimWorld.PathIn(folder), JsonSerializer.Serialize(world.Pool));
        await Victim.KillAndRecoverAsync(world, "qemu", folder, typeof(QemuFailpointTests).Assembly.Location, way, point, trouble);
    }
}

[Collection("qemu")]
[Trait("Category", "Long")]
public sealed class QemuMoverContract(QemuImage image) : MoverContract
{
    protected override async Task<DriverWorld> OpenWorldAsync() => await QemuDriverWorld.OpenAsync(image, warm: true);

    protected override async Task<DriverWorld> OpenWorldWithDisksAsync() => await QemuDriverWorld.OpenAsync(image, warm: false);
}
