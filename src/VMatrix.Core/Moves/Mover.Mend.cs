using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Moves;

/// <content>What no journal tells of.</content>
public sealed partial class Mover
{
    /// <summary>
    /// Puts right servers whose place and mark do not agree and that have no open move, as after the loss of a journal: one that is
    /// marked as dormant and is on a host goes to the nest, and a mark that names another place than where the files are is corrected.
    /// A server of the Matrix or the Chamber whose machine has died is none of them. Hosts that do not answer are passed over.
    /// </summary>
    public async Task<IReadOnlyList<MoveRecord>> MendAsync(MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        var truth = MakeTruth();
        var since = truth.Now();
        var nest = truth.NestAsync(since, cancellation);
        var hosts = Pool.Hosts.Select(h => (h.Name, View: truth.HostAsync(h, since, cancellation))).ToArray();
        var report = (await nest).Report;
        var seen = report.Dormant.Select(m => new Sighting(m, Place.Nest, null)).Concat(report.Disposed.Select(m => new Sighting(m, Place.Disposed, null))).ToList();
        foreach (var (name, view) in hosts)
        {
            try
            {
                seen.AddRange((await view).Report.Machines.Select(m => new Sighting(m, Place.Host, name)));
            }
            catch (VMatrixException)
            {
                // What is there stays there.
            }
        }

        var open = State.Guard(() => new HashSet<Guid>(State.ReadOpen(out _).Select(m => m.Move.ServerId)));
        var moves = seen.Where(s => s.Machine.Mark is { } mark && mark.StateId == State.Id).GroupBy(s => s.Mark.ServerId)
            .Where(g => g.Count() == 1).Select(g => g.First()).Where(s => !Agrees(s) && !open.Contains(s.Mark.ServerId))
            .Select(s => new Move
            {
                Id = Guid.NewGuid(),
                Kind = s.Place is Place.Disposed ? MoveKind.Dispose : MoveKind.Hibernate,
                ServerId = s.Mark.ServerId,
                ServerName = s.Mark.Name,
                Service = s.Mark.Service,
                FromStage = s.Mark.Stage,
                FromHost = s.Host,
                Generation = s.Mark.Generation,
                ToStage = s.Place is Place.Disposed ? Stage.Disposed : Stage.Nest,
                Reason = $"It is marked as in the {s.Mark.Stage} and is {s.Where}.",
            }).ToArray();
        return moves.Length == 0 ? [] : await CarryOutAsync(moves, new Batch(context, progress, truth, cancellation) { Mending = true });
    }

    /// <summary>True when a server is where its mark says.</summary>
    internal static bool Agrees(Sighting sighting) => sighting.Mark.Stage switch
    {
        Stage.Nest => sighting.Place is Place.Nest,
        Stage.Disposed => sighting.Place is Place.Disposed,
        _ => sighting.Place is Place.Host,
    };
}
