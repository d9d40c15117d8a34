using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.HyperV;

/// <summary>What stands in the way of a move, before it is made.</summary>
public sealed partial class HyperVHypervisor
{
    /// <inheritdoc/>
    public async Task<IReadOnlyList<MoveObstacle>> CompareAsync(Guid server, ServiceSpec service, HostSpec? from, HostSpec to, bool live, CancellationToken cancellation)
    {
        var machine = await LocateAsync(server, from, cancellation) ?? throw NotFound(server);
        var found = new List<MoveObstacle>();
        if (machine.Power == PowerState.Saved && await FindObstacleToResumeAsync(HostOf(to), machine, cancellation) is { } obstacle)
        {
            found.Add(new MoveObstacle
            {
                Group = ObstacleGroup.Software,
                What = "SavedStateNotResumable",
                Severity = MayGiveUp(machine) ? ObstacleSeverity.Warns : ObstacleSeverity.Blocks,
                Why = $"The memory of {machine.Who} cannot be resumed on {to.Name}: {obstacle}.",
                Mend = machine.Sleeper is null ? "Move it to a host like the one it was saved on, or set hyperv.resumeFailure: boot in the pool file." : "Wake it on a host like the one it was saved on.",
            });
        }

        if (machine.Sleeper is { } sleeper)
        {
            var known = found.ToArray();
            found.AddRange((await new HyperVCompare(HostOf(to), HostOf(to), machine, _pool.HyperV, _nest.Seed(server)).FindForSleeperAsync(_share.At(sleeper, sleeper.Configuration!), cancellation)).Where(obstacle => known.Length == 0 || obstacle.What != "ProcessorFeatures"));
            return found;
        }

        // What only the kept memory needs is no obstacle where it is given up.
        var givesUp = found.Count > 0 && _pool.HyperV.ResumeFailure == ResumeFailure.Boot;
        found.AddRange((await new HyperVCompare(HostOf(machine.Host), HostOf(to), machine, _pool.HyperV, _nest.Seed(server)).FindAsync(cancellation)).Where(obstacle => !givesUp || obstacle.What != "ProcessorFeatures"));
        return found;
    }
}
