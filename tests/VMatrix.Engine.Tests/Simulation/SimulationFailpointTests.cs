using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Simulation;

/// <summary>A process is ended with SIGKILL at every point of every kind of move, and another one picks up.</summary>
public sealed class SimulationFailpointTests
{
    private static readonly string s_assembly = typeof(SimulationFailpointTests).Assembly.Location;

    [Fact]
    public Task Killed_at_points_of_the_day_on_the_way() => EachAsync(OfTheDay(OnTheWay()));

    [Fact]
    [Trait("Category", "Long")]
    public Task Killed_at_every_point_on_the_way() => EachAsync(OnTheWay());

    private static IEnumerable<(Way Way, string Point, Trouble? Trouble)> OnTheWay() =>
        MoveRoutes.Failpoints.Select(point => (Way.All.Concat(Way.Others).FirstOrDefault(way => way.Points.Contains(point)) ?? throw new InvalidOperationException($"No way passes {point}."), point, (Trouble?)null));

    // Every point is passed with a crash inside one process in RecoveryTests.
    private static IEnumerable<(Way Way, string Point, Trouble? Trouble)> OfTheDay(IEnumerable<(Way Way, string Point, Trouble? Trouble)> all) => Victim.OfTheDay(all, 12);

    [Fact]
    public Task Killed_at_points_of_the_day_on_the_way_back() => OnTheWayBackAsync(OfTheDay);

    [Fact]
    [Trait("Category", "Long")]
    public Task Killed_at_every_point_on_the_way_back() => OnTheWayBackAsync(all => all);

    private static async Task OnTheWayBackAsync(Func<IEnumerable<(Way Way, string Point, Trouble? Trouble)>, IEnumerable<(Way Way, string Point, Trouble? Trouble)>> choose)
    {
        var points = await BackPointsAsync();
        Assert.Empty(MoveRoutes.BackFailpoints.Except(points.Select(back => back.Point)));

        // A health check changes nothing, and no live move of the simulation that fails leaves the machine stopped.
        var idle = points.Where(back => !back.HasEffect && !back.Point.Contains(".recheck.", StringComparison.Ordinal) && !back.Point.StartsWith("relocate-live.back.restart.", StringComparison.Ordinal)).Select(back => $"{back.Point} ({back.Way}, {back.Trouble.Call} {back.Trouble.Kind})");
        Assert.True(!idle.Any(), string.Join("\n", idle));
        await EachAsync(choose(points.Select(back => (back.Way, back.Point, (Trouble?)back.Trouble))));
    }

    [Fact]
    [Trait("Category", "Long")]
    public async Task Killed_at_every_point_on_the_way_back_and_so_is_the_one_that_picks_up() =>
        await EachAsync((await BackPointsAsync()).Select(back => (back.Way, back.Point, (Trouble?)back.Trouble)), again: true);

    /// <summary>The points on the way back, for other drivers too: the mover is the same.</summary>
    public static Task<IReadOnlyList<Victim.BackPoint>> BackPointsAsync() => Victim.FindBackPointsAsync(() => new SimulatedDriverWorld());

    private static Task EachAsync(IEnumerable<(Way Way, string Point, Trouble? Trouble)> points, bool again = false) =>
        Parallel.ForEachAsync(points, new ParallelOptions { MaxDegreeOfParallelism = 2 }, async (each, _) =>
        {
            using var folder = new TemporaryFolder();
            await using var world = new SimulatedDriverWorld(folder.Path);
            await Victim.KillAndRecoverAsync(world, "simulation", folder.Path, s_assembly, each.Way, each.Point, each.Trouble, again);
        });
}
