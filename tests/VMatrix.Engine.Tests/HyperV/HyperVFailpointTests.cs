using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Moves;
using VMatrix.Tests.Simulation;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>A process that moves servers of the Hyper-V double is ended with SIGKILL, and another one picks up; the hosts go on with what they had begun.</summary>
public sealed class HyperVFailpointTests
{
    private static readonly string s_assembly = typeof(HyperVFailpointTests).Assembly.Location;

    private static IEnumerable<(Way Way, string Point, Trouble? Trouble)> Points =>
        from point in MoveRoutes.Failpoints
        where !point.StartsWith("restart.", StringComparison.Ordinal) // Hosts do not reach each other's disks.
        select (Way.All.Concat(Way.Others).FirstOrDefault(way => way.Points.Contains(point)) ?? throw new InvalidOperationException($"No way passes {point}."), point, (Trouble?)null);

    [Fact]
    public Task Killed_at_a_few_points_of_the_day()
    {
        var points = Points.ToArray();
        var random = new Random(DateTime.UtcNow.DayOfYear);
        return EachAsync(points.OrderBy(_ => random.Next()).Take(6));
    }

    [Fact]
    [Trait("Category", "Long")]
    public Task Killed_at_every_point_on_the_way() => EachAsync(Points);

    [Fact]
    public async Task Killed_at_a_few_points_of_the_day_on_the_way_back()
    {
        var random = new Random(DateTime.UtcNow.DayOfYear);
        await EachAsync((await BackAsync()).OrderBy(_ => random.Next()).Take(3));
    }

    [Fact]
    [Trait("Category", "Long")]
    public async Task Killed_at_every_point_on_the_way_back() => await EachAsync(await BackAsync());

    private static async Task<IEnumerable<(Way, string, Trouble?)>> BackAsync() =>
        (await SimulationFailpointTests.BackPointsAsync()).Where(back => back.Way.Route != "restart").Select(back => (back.Way, back.Point, (Trouble?)back.Trouble));

    private static Task EachAsync(IEnumerable<(Way Way, string Point, Trouble? Trouble)> points) =>
        Parallel.ForEachAsync(points, new ParallelOptions { MaxDegreeOfParallelism = 2 }, async (each, _) =>
        {
            using var folder = new TemporaryFolder();
            await using var world = new HyperVDriverWorld(folder.Path);
            await Victim.KillAndRecoverAsync(world, "hyperv", folder.Path, s_assembly, each.Way, each.Point, each.Trouble);
        });
}
