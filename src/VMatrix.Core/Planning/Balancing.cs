using System;
using System.Collections.Generic;

namespace VMatrix.Planning;

/// <summary>
/// Moves servers between hosts until their use of memory, of processors or of both differs by no more than asked for, with few moves. Every host is to end
/// within a window as wide as that difference; hosts above it shed their largest servers to hosts below it. Where the window lies
/// decides how much there is to shed and to fill, so several places are tried and the one with the fewest moves is kept. Hosts
/// with dedicated servers are left out: nothing about them can be balanced.
/// </summary>
internal sealed class Balancing
{
    private const double Hair = 1e-9;
    private const double WorthIt = 0.01;
    private const int Tries = 10;
    private const int Halvings = 4;

    private readonly Placement _placement;
    private readonly PlacementState _state;
    private readonly PlannerInput _input;
    private readonly SortedSet<(double Use, int Host)> _byUse = [];
    private readonly DateTimeOffset _lately;
    private readonly List<int> _unsettled = [];
    private readonly bool[] _left;
    private int _moves;
    private readonly List<(long Used, int Server)> _largest = [];
    private readonly List<(long Used, int Server)> _pool = [];
    private readonly List<(long Lacks, int Host)> _lacking = [];

    // What is balanced at present: by host what is used and what there is, and by server what it uses.
    private Measure _measure;
    private long[] _used;
    private long[] _usedOf;

    public Balancing(Placement placement, PlannerInput input)
    {
        _placement = placement;
        _state = placement.State;
        _input = input;
        _lately = input.Now - input.Pool.Oracle.Horizon;
        _left = new bool[_state.Hosts];
        (_used, _usedOf) = (_state.Used, _state.UsedOf);
    }

    /// <summary>A resource that hosts are balanced by.</summary>
    public enum Measure
    {
        Memory,
        Processor,
    }

    /// <summary>What a pool's hosts are balanced by.</summary>
    public static IReadOnlyList<Measure> Measures(OracleSpec oracle) => oracle.BalanceBy switch
    {
        BalanceMeasure.Processor => [Measure.Processor],
        BalanceMeasure.Both => [Measure.Memory, Measure.Processor],
        _ => [Measure.Memory],
    };

    /// <summary>Balances, if that reaches the gap asked for or comes nearer to it by a point at least, and makes no other resource's gap worse.</summary>
    public void Run(double gap)
    {
        var measures = Measures(_input.Pool.Oracle);
        foreach (var measure in measures)
            Run(gap, measure, measures.Count > 1 ? (measure is Measure.Memory ? Measure.Processor : Measure.Memory) : null);
    }

    /// <summary>The most and the least used of the hosts that are balanced, and how many there are.</summary>
    public (double Least, double Most, int LeastHost, int MostHost, double Mean, int Hosts) Range(Measure measure)
    {
        Choose(measure);
        bool gathers = Gathering.Pays(_input);
        var (least, most, leastHost, mostHost, sum, hosts) = (double.MaxValue, double.MinValue, PlacementState.Nowhere, PlacementState.Nowhere, 0.0, 0);
        for (int h = 0; h < _state.Hosts; h++)
        {
            // What was gathered is not spread again over hosts that are to be powered down.
            _left[h] = gathers && _state.Live[h] == 0;
            if (!Counts(h))
                continue;
            double use = Use(h);
            (least, leastHost) = use < least ? (use, h) : (least, leastHost);
            (most, mostHost) = use > most ? (use, h) : (most, mostHost);
            (sum, hosts) = (sum + use, hosts + 1);
        }

        return (least, most, leastHost, mostHost, hosts == 0 ? 0 : sum / hosts, hosts);
    }

    private void Choose(Measure measure)
    {
        _measure = measure;
        (_used, _usedOf) = measure is Measure.Memory ? (_state.Used, _state.UsedOf) : (_state.Busy!, _state.BusyOf!);
    }

    private double GapOf(Measure measure)
    {
        var now = _measure;
        var (least, most, _, _, _, hosts) = Range(measure);
        Choose(now);
        return hosts < 2 ? 0 : most - least;
    }

    private void Run(double gap, Measure measure, Measure? other)
    {
        var (least, most, _, _, mean, hosts) = Range(measure);
        if (hosts < 2 || most - least <= gap + Hair || most <= (_input.Pool.Oracle.BalanceAbove ?? -1))
            return;
        double mayBe = other is Measure beside ? Math.Max(gap, GapOf(beside)) + Hair : 0;
        int start = _state.Mark;
        FindUnsettled();
        var best = (Gap: most - least - WorthIt, Moves: int.MaxValue, Low: double.NaN);
        // Small pools have few ways to go, and time to try them all.
        int tries = hosts < 200 ? 10 * Tries : Tries;
        double width = gap / tries;
        for (int k = 0; k < tries; k++)
            Try(mean - ((k + 0.5) * width));
        // A higher window means less to shed and more to fill; the best lies where the two meet, and is looked for there.
        for (int half = 0; half < Halvings && !double.IsNaN(best.Low); half++)
        {
            width /= 2;
            double middle = best.Low;
            Try(middle - width);
            Try(middle + width);
        }

        if (double.IsNaN(best.Low))
            return;
        Level(best.Low, best.Low + gap - Hair, int.MaxValue);
        foreach (int i in new List<int>(_state.Changed(start)))
            _placement.Balanced(i);

        void Try(double low)
        {
            if (low < 0)
                return;
            bool bestThere = best.Gap <= gap + Hair;
            double reached = Level(low, low + gap - Hair, bestThere ? best.Moves : int.MaxValue);
            int moves = _moves;
            bool spoils = other is Measure beside && GapOf(beside) > mayBe;
            _state.Back(start);
            bool there = reached <= gap + Hair;
            if (!spoils && (there == bestThere ? (there ? moves < best.Moves : reached < best.Gap) : there))
                best = (reached, moves, low);
        }
    }

    private bool Counts(int h) => _state.Closed[h] == Rules.None && _state.Dedicated[h] == 0 && Cap(h) > 0 && !_left[h];

    /// <summary>What there is of a host; 0 where that is not known, so that it cannot be balanced.</summary>
    private double Cap(int h) => _measure is Measure.Memory ? _state.MemoryCap[h] : _state.Host[h].Cores is int cores ? cores * PlacementState.CoreUnit : 0;

    private double Use(int h) => _used[h] / Cap(h);

    /// <summary>Brings every host into the window as far as that goes; returns the difference that is left.</summary>
    private double Level(double low, double high, int mostMoves)
    {
        _byUse.Clear();
        _moves = 0;
        foreach (int i in _unsettled)
            _state.Set(i, PlacementState.Nowhere);
        for (int h = 0; h < _state.Hosts; h++)
        {
            if (Counts(h))
                _byUse.Add((Use(h), h));
        }

        if (!Cover(low, high))
            return double.MaxValue;
        double stuckLeast = double.MaxValue, stuckMost = double.MinValue;
        while (_byUse.Count > 1 && _moves < mostMoves)
        {
            var (top, bottom) = (_byUse.Max, _byUse.Min);
            bool sheds = top.Use > high, fills = bottom.Use < low;
            if (!sheds && !fills)
                break;
            bool found = sheds ? Shed(top.Host, low, high) : Fill(bottom.Host, low, high);
            if (found)
                continue;
            // Nothing can be done for it: out of the way, and counted in what is left.
            var left = sheds ? top : bottom;
            _byUse.Remove(left);
            stuckLeast = Math.Min(stuckLeast, left.Use);
            stuckMost = Math.Max(stuckMost, left.Use);
        }

        return _byUse.Count == 0 ? double.MaxValue : Math.Max(stuckMost, _byUse.Max.Use) - Math.Min(stuckLeast, _byUse.Min.Use);
    }

    /// <summary>
    /// Takes from each host above the window the fewest servers that bring it inside, and gives them to hosts below it: to the one
    /// that lacks most the smallest server that is enough, so that few servers lift many hosts. False when a server that must go
    /// somewhere found no host.
    /// </summary>
    private bool Cover(double low, double high)
    {
        _pool.Clear();
        foreach (int i in _unsettled)
            _pool.Add((_usedOf[i], i));
        foreach (var (use, h) in _byUse)
        {
            if (use <= high)
                continue;
            _largest.Clear();
            for (int i = _state.First[h]; i >= 0; i = _state.Next[i])
            {
                if (MayMove(i))
                    _largest.Add((_usedOf[i], i));
            }

            _largest.Sort();
            double over = _used[h] - (high * Cap(h)), under = _used[h] - (low * Cap(h));
            for (int k = _largest.Count - 1; k >= 0 && over > 0; k--)
            {
                if (_largest[k].Used > under)
                    continue;
                over -= _largest[k].Used;
                under -= _largest[k].Used;
                _pool.Add(_largest[k]);
            }
        }

        _pool.Sort();
        _lacking.Clear();
        foreach (var (use, h) in _byUse)
        {
            if (use >= low)
                break;
            _lacking.Add(((long)Math.Ceiling((low * Cap(h)) - _used[h]), h));
        }

        _lacking.Sort((a, b) => a.Lacks != b.Lacks ? b.Lacks.CompareTo(a.Lacks) : a.Host.CompareTo(b.Host));
        foreach (var (lacks, to) in _lacking)
        {
            long still = lacks;
            while (still > 0 && _pool.Count > 0)
            {
                int n = Smallest(still, to, high);
                if (n < 0)
                    break;
                var (used, i) = _pool[n];
                _pool.RemoveAt(n);
                Move(i, _state.At[i], to);
                still -= used;
            }
        }

        for (int n = _pool.Count - 1; n >= 0; n--)
        {
            if (_state.At[_pool[n].Server] < 0 && !Settle(_pool[n].Server))
                return false;
        }

        return true;
    }

    /// <summary>Sets a server on the least used host that it fits on.</summary>
    private bool Settle(int i)
    {
        foreach (var (_, to) in _byUse)
        {
            if (!_state.Fits(i, to))
                continue;
            Move(i, PlacementState.Nowhere, to);
            return true;
        }

        return false;
    }

    /// <summary>Servers that change hosts anyway, or are about to wake, may as well go where balance wants them.</summary>
    private void FindUnsettled()
    {
        _unsettled.Clear();
        var seen = new HashSet<int>();
        foreach (int i in _state.Changed(0))
        {
            int s = _state.Of[i];
            if (seen.Add(i) && _state.At[i] >= 0 && _state.At[i] != _state.Home[i] && !_state.InChamber[i] && Counts(_state.At[i])
                && !_state.IsDedicated[s] && !_state.Service[s].Spread && !_state.WishesMatter && _state.LicenceOf[s] < 0)
            {
                _unsettled.Add(i);
            }
        }
    }

    /// <summary>The smallest server of the pool that is enough and that the host takes, else the largest that it takes.</summary>
    private int Smallest(long lacks, int to, double high)
    {
        long most = (long)(high * Cap(to)) - _used[to];
        int first = _pool.BinarySearch((lacks, -1));
        first = first < 0 ? ~first : first;
        for (int n = first; n < _pool.Count && _pool[n].Used <= most; n++)
        {
            if (Takes(n))
                return n;
        }

        for (int n = first - 1; n >= 0; n--)
        {
            if (_pool[n].Used <= most && Takes(n))
                return n;
        }

        return -1;

        bool Takes(int n) => _state.Fits(_pool[n].Server, to) && (_state.At[_pool[n].Server] < 0 || _placement.KeepsWishes(_pool[n].Server, _state.At[_pool[n].Server], to));
    }

    /// <summary>Moves the largest server that may go from a host to the least used host that takes it.</summary>
    private bool Shed(int from, double low, double high)
    {
        foreach (var (use, to) in _byUse)
        {
            if (to == from || use >= high)
                break;
            int i = Largest(from, to, low, high);
            if (i < 0)
                continue;
            Move(i, from, to);
            return true;
        }

        return false;
    }

    /// <summary>Brings a host the largest server that the most used host can spare.</summary>
    private bool Fill(int to, double low, double high)
    {
        foreach (var (use, from) in _byUse.Reverse())
        {
            if (to == from || use <= low)
                break;
            int i = Largest(from, to, low, high);
            if (i < 0)
                continue;
            Move(i, from, to);
            return true;
        }

        return false;
    }

    private int Largest(int from, int to, double low, double high)
    {
        long mostHere = (long)((high * Cap(to)) - _used[to]), mostThere = (long)(_used[from] - (low * Cap(from)));
        long most = Math.Min(mostHere, mostThere);
        int best = PlacementState.Nowhere;
        // A try (for wishes) takes a server off its host and puts it back in front: the next is noted before.
        for (int i = _state.First[from], next; i >= 0; i = next)
        {
            next = _state.Next[i];
            long used = _usedOf[i];
            if (used > most || used <= 0 || (best >= 0 && used <= _usedOf[best]) || !MayMove(i))
                continue;
            if (_state.Fits(i, to) && _placement.KeepsWishes(i, from, to))
                best = i;
        }

        return best;
    }

    /// <summary>A server moved lately is not moved again for balance alone; one that is only about to wake is free to go anywhere.</summary>
    private bool MayMove(int i) =>
        _state.StillOf[i] == Still.Free && !_state.InChamber[i] && _state.MayBeBalanced(i) && (_state.Home[i] < 0 || _input.Servers[i].Mark.ChangedAt <= _lately);

    private void Move(int i, int from, int to)
    {
        if (from >= 0)
            _byUse.Remove((Use(from), from));
        _byUse.Remove((Use(to), to));
        _state.Set(i, to);
        if (from >= 0)
            _byUse.Add((Use(from), from));
        _byUse.Add((Use(to), to));
        // One that changes hosts anyway costs nothing more.
        _moves += from >= 0 && from == _state.Home[i] ? 1 : to == _state.Home[i] ? -1 : 0;
    }
}
