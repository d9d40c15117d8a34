using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Moves;

/// <content>A server that somebody else has moved meanwhile, whose journal is not ours: a decider with a copy of the state folder, or one that used it before it was restored from a backup.</content>
internal sealed partial class MoveRun
{
    /// <summary>The error id of a move whose server somebody else has moved on: it is closed, and nothing of it is finished or taken back.</summary>
    internal const string SupersededId = "MoveSuperseded";

    /// <summary>What is seen of the server where this move can have brought it.</summary>
    /// <exception cref="VMatrixException"><c>MoveSuperseded</c> when its mark is neither the one that it had before this move nor one that this move has written, or when it is where this move does not bring it.</exception>
    private async Task<IReadOnlyList<Sighting>> SeeOursAsync(CancellationToken cancellation)
    {
        var seen = await SeeAsync(cancellation);
        foreach (var sighting in seen.Where(s => !IsOurs(s.Mark)))
            throw Superseded(sighting);
        if (seen.Count > 0)
            return seen;

        // It is nowhere that this move knows of: somebody may have moved it on to a third host. One that does not answer says nothing.
        var truth = _mover.MakeTruth();
        var since = truth.Now();
        foreach (var view in _mover.Pool.Hosts.Where(h => !Mover.HostsOf(_move).Contains(h.Name)).Select(h => truth.HostAsync(h, since, cancellation)).ToArray())
        {
            try
            {
                if ((await view).Find(_move.ServerId) is { } elsewhere)
                    throw Superseded(elsewhere);
            }
            catch (VMatrixException e) when (e.Id is not SupersededId)
            {
                // Its server is not seen, so nothing is done there.
            }
        }

        return seen;
    }

    // The generation alone does not tell: the other's move may have begun from the same one. What this journal wrote carries the time of one of its lines.
    private bool IsOurs(ServerMark mark) => _open.HasLineOf(mark.ChangedAt)
        || (mark.Generation == (_original?.Generation ?? _move.Generation) && (mark.StateId == _mover.State.Id || mark.StateId == _original?.StateId));

    private VMatrixException Superseded(Sighting sighting) => new(SupersededId, VMatrixErrorKind.InvalidState,
        $"{Who} was moved on by somebody else meanwhile: it is {sighting.Where}, and its mark carries generation {sighting.Mark.Generation}{(sighting.Mark.StateId == _mover.State.Id ? "" : $" of the pool state {sighting.Mark.StateId}")}; this {_move.Kind} began from generation {_original?.Generation ?? _move.Generation}. Nothing more of this move is done or taken back. If {_mover.State.Path} is a copy of another state folder, name one of the two as 'state' in every copy of the pool file.");

    /// <summary>What becomes of a move that is refused because somebody else decides now: closed where the server is theirs or nothing was changed, else left with the reason for whoever comes next.</summary>
    /// <param name="refused">Why it ends.</param>
    /// <param name="untouched">True when not even its first step was done.</param>
    private async Task<MoveRecord> YieldAsync(Exception refused, bool untouched)
    {
        if (refused is VMatrixException { Id: SupersededId })
            return Close(MoveStatus.Failed, Mover.Sentence(refused), SupersededId);
        if (refused is not VMatrixException { Id: "StaleEpoch" })
            return Leave(refused);
        if (untouched)
            return Close(MoveStatus.Undone, $"{Mover.Sentence(refused)} Nothing was changed.", "StaleEpoch");
        try
        {
            using var grace = _mover.Clock.Deadline(Grace);
            _ = await SeeOursAsync(grace.Token);
        }
        catch (VMatrixException e) when (e.Id is SupersededId)
        {
            return Close(MoveStatus.Failed, $"{Mover.Sentence(refused)} {Mover.Sentence(e)}", SupersededId);
        }
        catch (Exception e) when (!_mover.IsDead(e))
        {
            // What cannot be seen is looked at by whoever takes the move up.
        }

        return Leave(refused);
    }
}
