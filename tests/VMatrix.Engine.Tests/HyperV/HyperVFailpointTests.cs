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

    [Theory]
    [InlineData("hyperv")]
    [InlineData("hyperv-share")]
    public Task Killed_at_a_few_points_of_the_day(string driver) => EachAsync(driver, Victim.OfTheDay(Points, 6, driver.Length));

    [Theory]
    [InlineData("hyperv")]
    [InlineData("hyperv-share")]
    [Trait("Category", "Long")]
    public Task Killed_at_every_point_on_the_way(string driver) => EachAsync(driver, Points);

    [Theory]
    [InlineData("hyperv")]
    [InlineData("hyperv-share")]
    public async Task Killed_at_a_few_points_of_the_day_on_the_way_back(string driver) => await EachAsync(driver, Victim.OfTheDay(await BackAsync(), 3, driver.Length));

    [Theory]
    [InlineData("hyperv")]
    [InlineData("hyperv-share")]
    [Trait("Category", "Long")]
    public async Task Killed_at_every_point_on_the_way_back(string driver) => await EachAsync(driver, await BackAsync());

    private static async Task<IEnumerable<(Way, string, Trouble?)>> BackAsync() =>
        (await SimulationFailpointTests.BackPointsAsync()).Where(back => back.Way.Route != "restart").Select(back => (back.Way, back.Point, (Trouble?)back.Trouble));

    private static Task EachAsync(string driver, IEnumerable<(Way Way, string Point, Trouble? Trouble)> points) =>
        Parallel.ForEachAsync(points, new ParallelOptions { MaxDegreeOfParallelism = 2 }, async (each, _) =>
        {
            using var folder = new TemporaryFolder();
            await using var world = driver == "hyperv" ? new HyperVDriverWorld(folder.Path) : HyperVDriverWorld.Shared(folder.Path);
            await Victim.KillAndRecoverAsync(world, driver, folder.Path, s_assembly, each.Way, each.Point, each.Trouble);
        });
}
