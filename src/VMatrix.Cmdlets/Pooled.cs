using System.Linq;

namespace VMatrix.Commands;

/// <summary>Tells objects which pool they come from, so that they find back to it down the pipeline.</summary>
internal static class Pooled
{
    /// <summary>The object, with the full path of its pool's file where it has a place for it.</summary>
    public static object? In(string pool, object? value) => value switch
    {
        ServerInfo server => server with { Pool = pool },
        HostInfo host => host with { Pool = pool },
        ServiceInfo service => service with { Pool = pool },
        ForeignMachine machine => machine with { Pool = pool },
        MoveRecord record => In(pool, record),
        HostActionRecord record => record with { Pool = pool },
        MoveObstacle obstacle => obstacle with { Pool = pool },
        Plan plan => In(pool, plan),
        PlanRecord record => record with { Pool = pool, Plan = In(pool, record.Plan) },
        Explanation story => story with { Pool = pool, Moves = story.Moves.Select(m => m with { Pool = pool }).ToArray() },
        PublishedImage image => image with { Pool = pool },
        UpdateResult result => result with { Pool = pool, Moves = result.Moves.Select(r => In(pool, r)).ToArray() },
        SimulatedService service => service with { Pool = pool },
        _ => value,
    };

    private static MoveRecord In(string pool, MoveRecord record) => record with { Pool = pool, Move = record.Move with { Pool = pool } };

    private static Plan In(string pool, Plan plan) => plan with { Pool = pool, Moves = plan.Moves.Select(m => m with { Pool = pool }).ToArray() };
}
