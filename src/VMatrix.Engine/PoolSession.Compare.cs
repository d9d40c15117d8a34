using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;

namespace VMatrix;

/// <content>What stands in the way of moves, before they are made.</content>
public sealed partial class PoolSession
{
    /// <summary>So many hosts are compared, the emptiest first, before a move is given up whose host nobody named.</summary>
    private const int MostCompared = 8;

    /// <summary>What stands in the way of taking a server to a host, or into the nest; empty when nothing does. Changes nothing.</summary>
    /// <param name="server">The server's id.</param>
    /// <param name="stage">The stage it would go to; null for the one that the host is for.</param>
    /// <param name="destination">The host; null for every host that the stage allows.</param>
    /// <param name="live">True to look at a move without stopping it.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <param name="listing">A look at the pool to compare from; null for a new one.</param>
    /// <exception cref="VMatrixException"><c>ServerNotFound</c>, <c>HostNotFound</c>.</exception>
    public async Task<IReadOnlyList<MoveObstacle>> CompareAsync(Guid server, Stage? stage, string? destination, bool live, CancellationToken cancellation, PoolListing? listing = null)
    {
        var named = destination is null ? null : FindHost(destination);
        var seen = listing?.Seen ?? await ObserveAsync(null, cancellation);
        var (info, _) = seen.Find(server) ?? throw NoServer(server, seen);
        var to = stage ?? (named is not null ? named.Role is HostRole.Chamber ? Stage.Chamber : Stage.Matrix : info.Stage is Stage.Chamber ? Stage.Chamber : Stage.Matrix);
        HostSpec?[] hosts = to is Stage.Nest or Stage.Disposed || named is not null ? [named]
            : [.. Spec.Hosts.Where(h => h.Role == RoleFor(to) && !string.Equals(h.Name, info.Host, StringComparison.OrdinalIgnoreCase))];
        if (named is not null && (to is Stage.Nest or Stage.Disposed))
            throw new VMatrixException("DestinationNotAllowed", VMatrixErrorKind.InvalidInput, $"A server in the {to} is on no host; leave out the destination '{named!.Name}'.");
        var found = await Task.WhenAll(hosts.Select(host => CompareAsync(seen, info, to, host, live, cancellation)));
        return [.. found.SelectMany(f => f)];
    }

    /// <summary>Makes the move that takes a server to a stage, a host or both, as <see cref="PlanMoveAsync"/> does, after looking at all that stands in its way.</summary>
    /// <param name="server">The server's id.</param>
    /// <param name="stage">The stage; null to keep the one it is in.</param>
    /// <param name="destination">The host; null for the one with the most free memory, or for the nest.</param>
    /// <param name="live">True to move a running machine without stopping it, where the driver can.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <param name="beside">As for <see cref="PlanMoveAsync"/>.</param>
    /// <param name="listing">As for <see cref="PlanMoveAsync"/>.</param>
    /// <returns>The move, and what its owner should know that does not stop it.</returns>
    /// <exception cref="VMatrixException"><c>MoveObstructed</c> with every finding that stops it, and what <see cref="PlanMoveAsync"/> throws.</exception>
    public async Task<(Move Move, IReadOnlyList<MoveObstacle> Warnings)> PlanComparedMoveAsync(Guid server, Stage? stage, string? destination, bool live, CancellationToken cancellation, IReadOnlyList<Move>? beside = null, PoolListing? listing = null)
    {
        var seen = await ObserveBesideAsync(beside, listing, cancellation);
        var tried = new HashSet<string>(StringComparer.OrdinalIgnoreCase);
        VMatrixException? first = null;
        Move move;
        IReadOnlyList<MoveObstacle> obstacles;
        while (true)
        {
            try
            {
                move = await MakeMoveAsync(seen, server, stage, destination, live, cancellation, tried);
            }
            catch (VMatrixException e) when (first is not null && e.Id is "NoRoom")
            {
                throw first;
            }

            obstacles = await CompareAsync(seen, seen.Find(server)!.Value.Info, move.ToStage, move.ToHost is null ? null : FindHost(move.ToHost), live, cancellation);
            MoveObstacle[] blocks = [.. obstacles.Where(IsBlock)];
            if (blocks.Length == 0)
                break;
            var error = new VMatrixException("MoveObstructed", VMatrixErrorKind.InvalidState,
                $"Server '{move.ServerName}' cannot go to {(move.ToHost is null ? $"the {move.ToStage}" : $"host '{move.ToHost}'")}:{string.Concat(blocks.Select(b => $"{Environment.NewLine}  {b.Group}, {b}"))}");

            // What stands in the server's own way stands there on every host. Where nobody named the host, another one may do.
            first ??= error;
            if (destination is not null || move.ToHost is null || tried.Count == MostCompared || blocks.Any(b => b.What is "IllegalStageChange" or "NotRunning" or "ServerClaimed" or "FrozenWindow" or "ServiceNotFound"))
                throw first;
            tried.Add(move.ToHost);
        }

        // That it is held concerns the Oracle; who moves it by hand has decided.
        return (move, [.. obstacles.Where(o => o.What is not "Held")]);
    }

    private async Task<IReadOnlyList<MoveObstacle>> CompareAsync(Observation seen, ServerInfo info, Stage to, HostSpec? host, bool live, CancellationToken cancellation)
    {
        var service = Spec.Services.FirstOrDefault(s => string.Equals(s.Name, info.Service, StringComparison.OrdinalIgnoreCase));
        var found = new List<MoveObstacle>();
        if (service is null)
            found.Add(new MoveObstacle { Group = ObstacleGroup.People, What = "ServiceNotFound", Why = $"The pool file names no service '{info.Service}'.", Mend = $"Add {info.Service} to {Spec.Path}, or Unregister-VMatrixServer {info.Id}." });
        var claim = _state?.ReadOpenMoves().FirstOrDefault(m => m.Move.ServerId == info.Id);
        found.AddRange(MoveChecks.OfServer(service ?? new ServiceSpec { Name = info.Service, Image = new ImageSpec() }, info, to, claim, _clock.GetLocalNow()));
        if (info.Host is not null && !seen.IsReachable(info.Host))
            found.Add(new MoveObstacle { Group = ObstacleGroup.Hardware, What = "HostUnreachable", Why = $"{info.Host}, which it is on, does not answer.", Mend = $"Test-Connection {info.Host}" });
        if (live && !_drivers.Hypervisor.Traits.LiveMigration)
            found.Add(new MoveObstacle { Group = ObstacleGroup.Software, What = "NoLiveMigration", Severity = ObstacleSeverity.Warns, Why = $"The driver {_drivers.Hypervisor.Traits.Name} moves servers by hibernating them for a moment." });
        if (host is not null && service is not null)
        {
            if (string.Equals(host.Name, info.Host, StringComparison.OrdinalIgnoreCase) && info.Stage == to)
                found.Add(new MoveObstacle { Group = ObstacleGroup.People, What = "AlreadyThere", Severity = ObstacleSeverity.Warns, Why = $"It is on {host.Name} already." });
            else
                found.AddRange(Obstacles(seen, info, to, host));
            var from = info.Host is null ? null : Spec.Hosts.FirstOrDefault(h => string.Equals(h.Name, info.Host, StringComparison.OrdinalIgnoreCase));
            if (seen.IsReachable(host.Name) && (info.Host is null || seen.IsReachable(info.Host)) && !string.Equals(host.Name, info.Host, StringComparison.OrdinalIgnoreCase) && info.Stage is not Stage.Disposed)
            {
                try
                {
                    found.AddRange(await _drivers.Hypervisor.CompareAsync(info.Id, service, from, host, live && _drivers.Hypervisor.Traits.LiveMigration, cancellation));
                }
                catch (VMatrixException error)
                {
                    found.Add(new MoveObstacle
                    {
                        Group = error.Kind is VMatrixErrorKind.Denied ? ObstacleGroup.People : ObstacleGroup.Hardware,
                        What = error.Id,
                        Why = error.Message,
                        Severity = error.Kind is VMatrixErrorKind.Denied or VMatrixErrorKind.Unreachable ? ObstacleSeverity.Blocks : ObstacleSeverity.Warns,
                    });
                }
            }
        }

        return [.. found.Select(f => f with { ServerId = info.Id, Server = info.Name, Destination = host?.Name })];
    }
}
