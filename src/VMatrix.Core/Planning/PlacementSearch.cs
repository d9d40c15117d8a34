using System;
using System.Collections.Generic;

namespace VMatrix.Planning;

/// <summary>Finds hosts for servers, and makes room for them where there is none.</summary>
internal sealed class PlacementSearch
{
    // How many hosts are looked at after the first that fits: enough to find one with the image, few enough to stay quick.
    private const int LookFurther = 256;
    private const int LookInBucket = 32;
    private const int LongestQueue = 4096;
    private const int TriedHosts = 64;

    /// <summary>What room costs that this plan has to free first.</summary>
    public const int Freed = 4;

    private readonly PlacementState _state;
    private readonly Func<int, int, double> _valueOfLast;
    private readonly bool _pack;
    private readonly int[] _visited;
    private readonly List<(int Server, int Parent, int From)> _queue = [];
    private readonly List<int> _victims = [];
    private int _visit;
    private long _budget = 20_000_000;

    /// <param name="state">The pool.</param>
    /// <param name="valueOfLast">What the last of a service's servers is worth once some of them are gone; the least worth is dropped first.</param>
    /// <param name="pack">True to fill hosts one after another, so that others can be powered down; false to keep them equally free.</param>
    public PlacementSearch(PlacementState state, Func<int, int, double> valueOfLast, bool pack)
    {
        _state = state;
        _valueOfLast = valueOfLast;
        _pack = pack;
        _visited = new int[state.Hosts];
    }

    /// <summary>The best host that a server fits on as things stand, or <see cref="PlacementState.Nowhere"/>: fewest of its service in the fault domain, then with those it wants beside it, then with room now rather than freed by this plan, then holding its image, then licensed already, then the emptiest (or, when packing, the fullest), where one that the platform likes less counts as up to a quarter less so.</summary>
    /// <param name="i">The server.</param>
    /// <param name="thorough">True to look at every host.</param>
    /// <param name="domainBelow">Only fault domains with fewer servers of its service.</param>
    public int Find(int i, bool thorough = false, int domainBelow = int.MaxValue)
    {
        int s = _state.Of[i];
        int[]? domains = _state.DomainCount[s];
        int ideal = domains is null ? 0 : _state.LeastInDomain(s) << 11;
        int best = PlacementState.Nowhere, bestScore = int.MaxValue;
        if (_state.Affinity[s] is int[] wanted && domains is null)
        {
            best = Beside(i, wanted, out bestScore);
            if (bestScore <= ideal)
                return best;
        }

        int left = int.MaxValue, bestRank = best < 0 ? int.MaxValue : Rank(s, best);
        for (int k = 0; k < PlacementState.BucketCount && left > 0; k++)
        {
            int bucket = _pack ? k : PlacementState.BucketCount - 1 - k;
            for (int h = _state.FirstIn(bucket); h >= 0 && left > 0; h = _state.NextIn(h), left--)
            {
                if (h == _state.At[i] || (domains is not null && domains[_state.Domain[h]] >= domainBelow) || !_state.Fits(i, h))
                    continue;
                int score = Score(i, s, h, domains);
                if (left == int.MaxValue && !thorough && domains is null)
                    left = LookFurther;
                int rank = k + _state.Handicap(s, h);
                // Of equals the emptier one, and in one bucket the first in the pool file.
                if (score < bestScore || (score == bestScore && (rank < bestRank || (rank == bestRank && h < best))))
                    (best, bestScore, bestRank) = (h, score, rank);
                if (bestScore <= ideal && rank == k && left > LookInBucket)
                    left = LookInBucket;
            }

            if (best >= 0 && bestScore <= ideal && bestRank <= k)
                break;
        }

        return best;
    }

    /// <summary>Where a host stands among those of one score: the lower the sooner it is taken.</summary>
    private int Rank(int s, int h) => (_pack ? _state.BucketOf(h) : PlacementState.BucketCount - 1 - _state.BucketOf(h)) + _state.Handicap(s, h);

    /// <summary>What it costs to set a server on a host that it fits on: the lower the better. Of equals the emptiest is taken or, when packing, the fullest.</summary>
    public int Score(int i, int h) => Score(i, _state.Of[i], h, _state.DomainCount[_state.Of[i]]);

    private int Score(int i, int s, int h, int[]? domains) =>
        ((domains is null ? 0 : domains[_state.Domain[h]]) << 11) + (Math.Min(255, _state.Misses(i, h)) << 3) + (_state.FitsNow(i, h) ? 0 : Freed)
        + (!AnyHoldsImage(s) || IsNear(i, s, h) ? 0 : 2) + (_state.NeedsSeat(i, h) ? 1 : 0);

    /// <summary>True where the image's blocks are, unless a server of the service is there already: two that fail together are worth less than blocks that need not come.</summary>
    private bool IsNear(int i, int s, int h) => _state.HoldsImage(i, h) && !_state.Carries(h, s, i);

    private bool AnyHoldsImage(int s) => _state.ImageIsSomewhere[s];

    /// <summary>The best host among those that carry what the server wants beside it.</summary>
    private int Beside(int i, int[] wanted, out int bestScore)
    {
        int best = PlacementState.Nowhere, s = _state.Of[i];
        bestScore = int.MaxValue;
        _visit++;
        foreach (int t in wanted)
        {
            foreach (int j in _state.InMatrix[t])
            {
                int h = _state.At[j];
                if (h < 0 || h == _state.At[i] || _visited[h] == _visit)
                    continue;
                _visited[h] = _visit;
                if (!_state.Fits(i, h))
                    continue;
                int score = Score(i, s, h, null);
                if (score < bestScore || (score == bestScore && (Rank(s, h), h).CompareTo((Rank(s, best), best)) < 0))
                    (best, bestScore) = (h, score);
            }
        }

        return best;
    }

    /// <summary>
    /// Makes room for a server by a chain of relocations, the shortest there is: each server of the chain takes the place of the
    /// next (Kuhn's augmenting paths, breadth first). Where no chain ends on a free place, the least valued server that a chain
    /// reaches is dropped, if it is worth less than <paramref name="value"/>. True when the server was set.
    /// </summary>
    /// <param name="i">The server, lifted.</param>
    /// <param name="value">What it is worth.</param>
    /// <param name="dropped">The server that was dropped, or <see cref="PlacementState.Nowhere"/>.</param>
    public bool MakeRoom(int i, double value, out int dropped)
    {
        dropped = PlacementState.Nowhere;
        if (_budget <= 0)
            return false;
        _visit++;
        _queue.Clear();
        _queue.Add((i, -1, PlacementState.Nowhere));
        bool reserve = _state.ReserveHolds;
        for (int q = 0; q < _queue.Count && _queue.Count < LongestQueue && _budget > 0; q++)
        {
            int x = _queue[q].Server;
            // Only the server that comes new takes from the reserve; the others of the chain only change hosts.
            _state.ReserveHolds = reserve && q == 0;
            if (q > 0)
            {
                int free = FreeFor(q);
                if (free >= 0)
                {
                    _state.ReserveHolds = reserve;
                    return Follow(q, free);
                }
            }

            for (int h = 0; h < _state.Hosts; h++)
            {
                _budget--;
                if (_visited[h] == _visit || _state.Closed[h] != Rules.None || _state.Eligible[_state.Of[x]]?[h] == false || _state.RuledOut(x, h) is not null)
                    continue;
                bool reached = false;
                for (int v = _state.First[h]; v >= 0; v = _state.Next[v])
                {
                    _budget--;
                    if (_state.StillOf[v] != Still.Free || _state.InChamber[v] || v == x || !_state.Fits(x, h, v))
                        continue;
                    reached = true;
                    _queue.Add((v, q, h));
                }

                if (reached)
                    _visited[h] = _visit;
            }
        }

        _state.ReserveHolds = reserve;
        int least = PlacementState.Nowhere;
        double leastValue = value;
        for (int q = 1; q < _queue.Count; q++)
        {
            int server = _queue[q].Server;
            double worth = _state.MayBeTaken(server) ? _valueOfLast(_state.Of[server], 0) : double.MaxValue;
            // Of equal ones at the end of equal chains, one without open requests.
            if (worth < leastValue || (least >= 0 && worth == leastValue && _state.Open(server) < _state.Open(_queue[least].Server) && Links(q) == Links(least)))
                (least, leastValue) = (q, worth);
        }

        if (least >= 0)
        {
            dropped = _queue[least].Server;
            if (Follow(least, PlacementState.Nowhere))
                return true;
            dropped = PlacementState.Nowhere;
        }

        return false;

        // Sets the last of a chain on its host (or drops it), then each one before it in the place of the next.
        bool Follow(int q, int h)
        {
            int mark = _state.Mark, over = _state.SeatsOver();
            while (q >= 0)
            {
                var (server, parent, from) = _queue[q];
                _state.Set(server, h);
                (q, h) = (parent, from);
            }

            // Licences and the reserve are counted over all hosts: the rules that a chain may break as a whole.
            if (_state.SeatsOver() <= over && (!reserve || _state.Spare >= _state.ReserveNeed))
                return true;
            _state.Back(mark);
            return false;
        }
    }

    /// <summary>The emptiest host that the last of a chain fits on, but for those that the chain itself fills.</summary>
    private int FreeFor(int q)
    {
        int x = _queue[q].Server, best = PlacementState.Nowhere;
        for (int h = 0; h < _state.Hosts; h++)
        {
            _budget--;
            if (h != _state.At[x] && _state.Fits(x, h) && (best < 0 || _state.BucketOf(h) > _state.BucketOf(best)) && !IsInChain(q, h))
                best = h;
        }

        return best;
    }

    private int Links(int q)
    {
        int links = 0;
        for (; q >= 0; q = _queue[q].Parent)
            links++;
        return links;
    }

    private bool IsInChain(int q, int h)
    {
        for (; q >= 0; q = _queue[q].Parent)
        {
            if (_queue[q].From == h)
                return true;
        }

        return false;
    }

    /// <summary>Makes room on one host by moving several smaller servers off it, each to where it fits, or by dropping those worth less. True when the server was set.</summary>
    public bool Clear(int i, double value, int mostVictims, List<int> dropped)
    {
        if (_budget <= 0)
            return false;
        bool reserve = _state.ReserveHolds;
        bool alone = _state.IsDedicated[_state.Of[i]];
        var hosts = new List<(long Short, int Host)>();
        for (int h = 0; h < _state.Hosts; h++)
        {
            _budget--;
            if (_state.Dedicated[h] == 0 && (_state.Excludes(i, h) & ~(Rules.Memory | Rules.Cores | Rules.MostServers | Rules.Dedicated)) == Rules.None)
                hosts.Add((alone ? _state.Live[h] : Math.Max(0, _state.Memory[h] + _state.MemoryOf[i] - _state.MemoryCap[h]), h));
        }

        hosts.Sort();
        for (int drop = 0; drop <= 1; drop++)
        {
            for (int k = 0; k < hosts.Count && k < TriedHosts && _budget > 0; k++)
            {
                int mark = _state.Mark, known = dropped.Count;
                if (ClearHost(i, hosts[k].Host, value, mostVictims, drop == 1, dropped) && (!reserve || _state.Spare >= _state.ReserveNeed))
                {
                    _state.ReserveHolds = reserve;
                    return true;
                }

                _state.Back(mark);
                dropped.RemoveRange(known, dropped.Count - known);
                _state.ReserveHolds = reserve;
            }
        }

        return false;
    }

    /// <summary>Servers of a service that leave the host that is being cleared: each of them leaves the next worth more.</summary>
    private int Victims(int s)
    {
        int victims = 0;
        foreach (int v in _victims)
            victims += _state.Of[v] == s ? 1 : 0;
        return victims;
    }

    private bool ClearHost(int i, int h, double value, int mostVictims, bool drop, List<int> dropped)
    {
        _victims.Clear();
        while (true)
        {
            long memory = _state.Memory[h] + _state.MemoryOf[i] - _state.MemoryCap[h];
            int cores = _state.Cores[h] + _state.CoresOf[i] - _state.CoresCap[h];
            int live = _state.IsDedicated[_state.Of[i]] ? _state.Live[h] : _state.Live[h] + 1 - _state.Most[h];
            if (memory <= 0 && cores <= 0 && live <= 0)
                break;
            if (_victims.Count == mostVictims)
                return false;
            // The smallest that is enough, else the largest.
            int best = PlacementState.Nowhere;
            bool bestEnough = false;
            for (int v = _state.First[h]; v >= 0; v = _state.Next[v])
            {
                _budget--;
                if (_state.StillOf[v] != Still.Free || _state.InChamber[v] || (drop && _valueOfLast(_state.Of[v], Victims(_state.Of[v])) >= value))
                    continue;
                bool enough = _state.MemoryOf[v] >= memory && _state.CoresOf[v] >= cores && live <= 1;
                if (best < 0 || (enough && !bestEnough) || (enough == bestEnough && (enough ? _state.MemoryOf[v] < _state.MemoryOf[best] : _state.MemoryOf[v] > _state.MemoryOf[best]))
                    || (enough == bestEnough && _state.MemoryOf[v] == _state.MemoryOf[best] && _state.Open(v) < _state.Open(best)))
                {
                    (best, bestEnough) = (v, enough);
                }
            }

            if (best < 0)
                return false;
            _victims.Add(best);
            _state.Set(best, PlacementState.Nowhere);
        }

        if (!_state.Fits(i, h))
            return false;
        _state.Set(i, h);
        _state.ReserveHolds = false;
        foreach (int v in _victims)
        {
            int to = Find(v);
            if (to >= 0)
                _state.Set(v, to);
            else if (drop && _state.MayBeTaken(v))
                dropped.Add(v);
            else
                return false;
        }

        return true;
    }
}
