using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Planning;

/// <summary>How far the Oracle may go with each service, and which of a plan's moves have to wait for it.</summary>
public static class Modes
{
    /// <summary>How far the Oracle may go with a service: the service's own setting, else the pool's.</summary>
    public static OracleMode Of(PoolSpec pool, string service) =>
        pool.Services.FirstOrDefault(s => string.Equals(s.Name, service, StringComparison.OrdinalIgnoreCase))?.Mode ?? pool.Oracle.Mode;

    /// <summary>A plan's moves that wait for an approval: those of services in <see cref="OracleMode.Confirm"/>, and whatever depends on one of them.</summary>
    public static IReadOnlyList<Move> Waiting(PoolSpec pool, Plan plan) => With(plan.Moves, m => Of(pool, m.Service) is not OracleMode.Automatic);

    /// <summary>A plan's actions with hosts that wait for an approval: all of them where the pool's mode is <see cref="OracleMode.Confirm"/>, for a host is no single service's.</summary>
    public static IReadOnlyList<HostAction> WaitingHosts(PoolSpec pool, Plan plan) => pool.Oracle.Mode is OracleMode.Automatic ? [] : plan.Hosts;

    /// <summary>The moves that something holds for, with all that depend on them, in order. A move depends on earlier ones only.</summary>
    public static IReadOnlyList<Move> With(IReadOnlyList<Move> moves, Func<Move, bool> holds)
    {
        var found = new List<Move>();
        var ids = new HashSet<Guid>();
        foreach (var move in moves)
        {
            if (holds(move) || move.DependsOn.Any(ids.Contains))
            {
                found.Add(move);
                ids.Add(move.Id);
            }
        }

        return found;
    }

    /// <summary>True when two lists of actions do the same with the same hosts.</summary>
    public static bool SameWish(IReadOnlyList<HostAction> a, IReadOnlyList<HostAction> b) =>
        a.Select(x => (x.Kind, x.Host)).OrderBy(x => x).SequenceEqual(b.Select(x => (x.Kind, x.Host)).OrderBy(x => x));

    /// <summary>True when two lists of moves wish for the same, whatever their ids, reasons and the names of servers that do not exist yet.</summary>
    public static bool SameWish(IReadOnlyList<Move> a, IReadOnlyList<Move> b)
    {
        return a.Count == b.Count && Wishes(a).SequenceEqual(Wishes(b));

        static IEnumerable<(MoveKind, string, Guid, string?, Stage, string?, int)> Wishes(IReadOnlyList<Move> moves)
        {
            // The server that a plan makes has another id in the next plan.
            var made = new HashSet<Guid>(moves.Where(m => m.Kind == MoveKind.Create).Select(m => m.ServerId));
            return moves.Select(m => (m.Kind, m.Service, made.Contains(m.ServerId) ? Guid.Empty : m.ServerId, m.FromHost, m.ToStage, m.ToHost, m.Generation))
                .OrderBy(w => w);
        }
    }
}
