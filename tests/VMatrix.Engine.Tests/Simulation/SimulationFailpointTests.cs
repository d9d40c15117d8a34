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
    public Task Killed_at_every_point_on_the_way() =>
        EachAsync(MoveRoutes.Failpoints.Select(point => (Way.All.Concat(Way.Others).FirstOrDefault(way => way.Points.Contains(point)) ?? throw new InvalidOperationException($"No way passes {point}."), point, (Trouble?)null)));

    [Fact]
    public async Task Killed_at_every_point_on_the_way_back()
    {
        var points = await Victim.FindBackPointsAsync(() => new SimulatedDriverWorld());
        Assert.Empty(MoveRoutes.BackFailpoints.Except(points.Keys));
        await EachAsync(points.Select(found => (found.Value.Way, found.Key, (Trouble?)found.Value.Trouble)));
    }

    private static Task EachAsync(IEnumerable<(Way Way, string Point, Trouble? Trouble)> points) =>
        Parallel.ForEachAsync(points, new ParallelOptions { MaxDegreeOfParallelism = 2 }, async (each, _) =>
        {
            using var folder = new TemporaryFolder();
            await using var world = new SimulatedDriverWorld(folder.Path);
            await Victim.KillAndRecoverAsync(world, "simulation", folder.Path, s_assembly, each.Way, each.Point, each.Trouble);
        });
}
