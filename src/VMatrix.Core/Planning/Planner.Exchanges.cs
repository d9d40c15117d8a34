using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Planning;

/// <content>
/// Sees to it that what a service gains is worth more than what others lose for it. The division counts in shares of hosts, and the
/// placement, where not all find room, goes by priority: between them, a server may go from one service to another in this plan and
/// back in the next. So where one gains and another loses, the whole is weighed by the worth that the division goes by. Whatever is
/// exchanged then makes what the pool holds worth more, and so it comes to an end.
/// </content>
public static partial class Planner
{
    private sealed partial class Draft
    {
        /// <summary>Where servers would be exchanged for what is worth no more, keeps what there is and gives away what is free.</summary>
        private void RefuseVainExchanges(List<Claimant> claims, List<(int Floor, int Ceiling)> asked)
        {
            int[] planned = Counts();
            if (!IsLoss(claims, asked, planned))
                return;
            int[] kept = [.. claims.Select((c, s) => Kept(s, c, asked[s].Floor))];
            // More than all that there is needs no comparison with what of it finds a place.
            if (Compare(claims, asked, planned, kept) > 0)
                return;
            var (state, placement, granted, bounds) = (_state, _placement, claims.ConvertAll(c => c.Granted), claims.ConvertAll(c => (c.Floor, c.Ceiling)));
            for (int s = 0; s < claims.Count; s++)
                (claims[s].Floor, claims[s].Ceiling) = (kept[s], Math.Max(kept[s], asked[s].Ceiling));
            Place(claims, new PlacementState(_input, _passedOver));
            if (Counts().Where((n, s) => n < kept[s]).Any())
            {
                // Something goes by a rule: nothing is woken that might be in the way of what stays.
                for (int s = 0; s < claims.Count; s++)
                    claims[s].Ceiling = Math.Max(kept[s], claims[s].Calm);
                Place(claims, new PlacementState(_input, _passedOver));
            }

            bool better = Compare(claims, asked, planned, Counts()) > 0;
            for (int s = 0; s < claims.Count; s++)
            {
                (claims[s].Floor, claims[s].Ceiling) = bounds[s];
                if (better)
                    claims[s].Granted = granted[s];
            }

            if (better)
                (_state, _placement) = (state, placement);
        }

        /// <summary>True when a service loses servers that are worth having.</summary>
        private bool IsLoss(List<Claimant> claims, List<(int Floor, int Ceiling)> asked, int[] planned)
        {
            for (int s = 0; s < claims.Count; s++)
            {
                if (planned[s] < Alive(s) && (planned[s] < asked[s].Floor || claims[s].Worth(planned[s] + 1) > 0))
                    return true;
            }

            return false;
        }

        /// <summary>Servers that serve now: not those on hosts that are proven dead.</summary>
        private int Alive(int s) => _services[s].Live.Count - _services[s].Lost;

        /// <summary>Of the servers that serve now, those that are worth having or may not be missed.</summary>
        private int Kept(int s, Claimant claim, int floor)
        {
            int kept = Math.Max(claim.Floor, Math.Min(floor, Alive(s)));
            while (kept < Alive(s) && claim.Worth(kept + 1) > 0)
                kept++;
            return kept;
        }

        /// <summary>Servers that will serve, by service.</summary>
        private int[] Counts()
        {
            int[] counts = [.. _services.Select((_, s) => Alive(s))];
            foreach (int i in _state.Changed(0).Distinct())
            {
                if (_state.Of[i] >= 0 && !_state.InChamber[i] && (i >= _placement.FateOf.Length || _placement.FateOf[i] != Fate.Dispose))
                    counts[_state.Of[i]] += Serves(_state.At[i]) - Serves(_state.Home[i]);
            }

            return counts;

            int Serves(int h) => h >= 0 && (_state.Closed[h] & Rules.Dead) == 0 ? 1 : 0;
        }

        /// <summary>Above 0 when some counts are better than others: by what nobody can be without, the most important first, then by worth.</summary>
        private static int Compare(List<Claimant> claims, List<(int Floor, int Ceiling)> asked, int[] some, int[] others)
        {
            foreach (int s in Enumerable.Range(0, claims.Count).OrderByDescending(s => claims[s].Spec.Priority).ThenBy(s => s))
            {
                int more = Math.Min(some[s], asked[s].Floor) - Math.Min(others[s], asked[s].Floor);
                if (more != 0)
                    return more;
            }

            double worth = 0;
            for (int s = 0; s < claims.Count; s++)
            {
                for (int n = Math.Max(asked[s].Floor, others[s]) + 1; n <= some[s]; n++)
                    worth += claims[s].Worth(n);
                for (int n = Math.Max(asked[s].Floor, some[s]) + 1; n <= others[s]; n++)
                    worth -= claims[s].Worth(n);
            }

            return worth > Least ? 1 : worth < -Least ? -1 : 0;
        }

        /// <summary>A worth that is lost in rounding.</summary>
        private const double Least = 1e-9;
    }
}
