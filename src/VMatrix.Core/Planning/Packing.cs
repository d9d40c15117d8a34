using System;
using System.Collections.Generic;

namespace VMatrix.Planning;

/// <summary>
/// Packs some hosts anew: lifts what may be moved off them and looks for a place on them for every server that the services cannot be
/// without, whatever else has to change hosts or go to sleep. An exact search (branch and bound, the kind of server with the fewest hosts
/// first) within a stated effort: on few hosts it finds a way where there is one, and of the ways the one that moves fewest servers.
/// Chains of single moves, which are tried before, do not find a way where hosts must change what they carry as a whole.
/// </summary>
internal sealed class Packing
{
    // The hosts that are packed together, all of them in a small pool; what is tried at most, in tests of a server on a host.
    private const int MostHosts = 16;
    private const int MostServers = 256;
    private const int EffortEach = 200_000;

    private readonly PlacementState _state;
    private readonly Func<int, int> _beyondFloor;
    private readonly Func<int, int, double> _valueOfLast;
    private readonly List<int> _hosts = [];
    private readonly List<int> _lifted = [];
    private readonly List<Kind> _kinds = [];
    private long _budget = 10 * EffortEach;
    private long _effort;
    private int _must;
    private int _best;

    /// <summary>Servers that are as good as each other: any of them may stand where another does.</summary>
    private sealed class Kind
    {
        public readonly List<int> Servers = [];
        public int Service;
        public long Memory;
        public int Cores;

        /// <summary>What the platform says of the server alone.</summary>
        public string? Ties;

        /// <summary>Hosts in the order that they are tried in: those that it lives on first.</summary>
        public int[] Hosts = [];

        /// <summary>By place in that order, how many live there, are set there now, and were in the best way found.</summary>
        public int[] Live = [];

        public int[] Set = [];
        public int[] Best = [];

        /// <summary>How many are set, and the first host that the next may go to: what is alike is tried in one order only.</summary>
        public int Done;

        public int From;

        /// <summary>How many live on these hosts, and how many of those stay.</summary>
        public int Lives;

        public int Stay;

        public int Left => Servers.Count - Done;

        /// <summary>Fewest that must change hosts from here on.</summary>
        public int Moves => Math.Max(0, Lives - Stay - Left);
    }

    /// <param name="state">The pool.</param>
    /// <param name="beyondFloor">How many servers a service has beyond those that it cannot be without.</param>
    /// <param name="valueOfLast">What the last of a service's servers is worth once some of them are gone.</param>
    public Packing(PlacementState state, Func<int, int> beyondFloor, Func<int, int, double> valueOfLast)
    {
        _state = state;
        _beyondFloor = beyondFloor;
        _valueOfLast = valueOfLast;
    }

    /// <summary>Packs the hosts that a server could go to, so that it finds a place. True when it was set.</summary>
    /// <param name="i">The server, lifted.</param>
    /// <param name="value">What it is worth.</param>
    /// <param name="elsewhere">Finds another host for a server that is not among those that must stay, or <see cref="PlacementState.Nowhere"/>.</param>
    /// <param name="dropped">Takes the servers that found no place.</param>
    public bool Pack(int i, double value, Func<int, int> elsewhere, List<int> dropped)
    {
        if (_budget <= 0)
            return false;
        bool reserve = _state.ReserveHolds;
        _state.ReserveHolds = false;
        ChooseHosts(i);
        // Everybody keeps what they cannot be without; else only those that matter as much.
        bool done = Try(i, double.MinValue, elsewhere, dropped) || Try(i, value, elsewhere, dropped);
        _state.ReserveHolds = reserve;
        return done;
    }

    private bool Try(int i, double least, Func<int, int> elsewhere, List<int> dropped)
    {
        int mark = _state.Mark;
        Lift();
        if (!Gather(i, least))
        {
            _state.Back(mark);
            return false;
        }

        _effort = Math.Min(_budget, EffortEach);
        _budget -= _effort;
        _best = int.MaxValue;
        Search();
        _budget += Math.Max(0, _effort);
        _state.Back(mark);
        if (_best == int.MaxValue)
            return false;
        Carry(elsewhere, dropped);
        return true;
    }

    /// <summary>All hosts of a small pool; else those where the server's own rules let it and that lack least, and with them the emptiest, for what has to leave.</summary>
    private void ChooseHosts(int i)
    {
        _hosts.Clear();
        if (_state.OpenHosts <= MostHosts)
        {
            for (int h = 0; h < _state.Hosts; h++)
            {
                if (_state.Closed[h] == Rules.None)
                    _hosts.Add(h);
            }

            return;
        }

        const Rules ByOthers = Rules.Memory | Rules.Cores | Rules.MostServers | Rules.Dedicated | Rules.AntiAffinity | Rules.LicenceInstances | Rules.Reserve;
        var near = new List<(long Lacks, int Host)>();
        for (int h = 0; h < _state.Hosts; h++)
        {
            if ((_state.Excludes(i, h) & ~ByOthers) == Rules.None)
                near.Add((Math.Max(0, _state.Memory[h] + _state.MemoryOf[i] - _state.MemoryCap[h]), h));
        }

        near.Sort();
        for (int k = 0; k < near.Count && k < MostHosts / 2; k++)
            _hosts.Add(near[k].Host);
        for (int bucket = PlacementState.BucketCount - 1; bucket >= 0 && _hosts.Count < MostHosts; bucket--)
        {
            for (int h = _state.FirstIn(bucket); h >= 0 && _hosts.Count < MostHosts; h = _state.NextIn(h))
            {
                if (!_hosts.Contains(h))
                    _hosts.Add(h);
            }
        }
    }

    private void Lift()
    {
        _lifted.Clear();
        foreach (int h in _hosts)
        {
            for (int v = _state.First[h]; v >= 0; v = _state.Next[v])
            {
                if (_state.StillOf[v] == Still.Free && !_state.InChamber[v])
                    _lifted.Add(v);
            }
        }

        foreach (int v in _lifted)
            _state.Set(v, PlacementState.Nowhere);
    }

    /// <summary>Chooses the servers that must find a place: of each service as many as it cannot be without, those that live and small ones first.</summary>
    private bool Gather(int i, double least)
    {
        _kinds.Clear();
        _must = 0;
        _lifted.Sort((a, b) => _state.Of[a] != _state.Of[b] ? _state.Of[a].CompareTo(_state.Of[b])
            : (_state.Home[a] < 0) != (_state.Home[b] < 0) ? (_state.Home[a] < 0 ? 1 : -1)
            : _state.MayBeTaken(a) != _state.MayBeTaken(b) ? (_state.MayBeTaken(a) ? 1 : -1)
            : _state.MemoryOf[a] != _state.MemoryOf[b] ? _state.MemoryOf[a].CompareTo(_state.MemoryOf[b]) : a.CompareTo(b));
        for (int from = 0, to; from < _lifted.Count; from = to)
        {
            int s = _state.Of[_lifted[from]];
            for (to = from; to < _lifted.Count && _state.Of[_lifted[to]] == s; to++)
            {
            }

            int beyond = Math.Max(0, _beyondFloor(s));
            for (int k = from; k < to; k++)
            {
                if (k >= to - beyond && _state.MayBeTaken(_lifted[k]))
                    continue;
                if (_valueOfLast(s, beyond) >= least || !_state.MayBeTaken(_lifted[k]))
                    Must(_lifted[k]);
            }
        }

        Must(i);
        foreach (var kind in _kinds)
            Arrange(kind);
        return _must <= MostServers;
    }

    private void Must(int v)
    {
        _must++;
        string? ties = _state.Ties(v);
        foreach (var kind in _kinds)
        {
            if (kind.Service == _state.Of[v] && kind.Memory == _state.MemoryOf[v] && kind.Cores == _state.CoresOf[v] && kind.Ties == ties)
            {
                kind.Servers.Add(v);
                return;
            }
        }

        var first = new Kind { Service = _state.Of[v], Memory = _state.MemoryOf[v], Cores = _state.CoresOf[v], Ties = ties };
        first.Servers.Add(v);
        _kinds.Add(first);
    }

    private void Arrange(Kind kind)
    {
        var live = new Dictionary<int, int>();
        foreach (int v in kind.Servers)
        {
            if (_state.Home[v] >= 0)
                live[_state.Home[v]] = live.TryGetValue(_state.Home[v], out int n) ? n + 1 : 1;
        }

        kind.Hosts = [.. _hosts];
        Array.Sort(kind.Hosts, (a, b) => Lives(a) != Lives(b) ? Lives(b).CompareTo(Lives(a)) : a.CompareTo(b));
        kind.Live = Array.ConvertAll(kind.Hosts, Lives);
        kind.Set = new int[kind.Hosts.Length];
        foreach (int n in kind.Live)
            kind.Lives += n;

        int Lives(int h) => live.TryGetValue(h, out int n) ? n : 0;
    }

    /// <summary>Sets what is left, and keeps the best way found. Ends when the effort is used up.</summary>
    private void Search()
    {
        int moves = 0;
        foreach (var kind in _kinds)
            moves += kind.Moves;
        if (moves >= _best)
            return;
        Kind? next = null;
        int fewest = int.MaxValue;
        foreach (var kind in _kinds)
        {
            if (kind.Left == 0)
                continue;
            var (hosts, room) = Room(kind);
            if (room < kind.Left)
                return;
            if (hosts < fewest || (hosts == fewest && kind.Memory > next!.Memory))
                (next, fewest) = (kind, hosts);
        }

        if (next is null)
        {
            _best = moves;
            foreach (var kind in _kinds)
                kind.Best = (int[])kind.Set.Clone();
            return;
        }

        int server = next.Servers[next.Done], from = next.From;
        for (int place = from; place < next.Hosts.Length && _effort > 0; place++)
        {
            _effort--;
            if (!_state.Fits(server, next.Hosts[place]))
                continue;
            bool stays = next.Set[place] < next.Live[place];
            _state.Set(server, next.Hosts[place]);
            next.Set[place]++;
            next.Done++;
            next.From = place;
            next.Stay += stays ? 1 : 0;
            Search();
            next.Stay -= stays ? 1 : 0;
            next.From = from;
            next.Done--;
            next.Set[place]--;
            _state.Back(_state.Mark - 1);
        }
    }

    /// <summary>On how many hosts the next of a kind fits, and how many of it there is room for at most.</summary>
    private (int Hosts, long Room) Room(Kind kind)
    {
        int hosts = 0, server = kind.Servers[kind.Done];
        long room = 0;
        bool one = _state.IsDedicated[kind.Service] || _state.Anti[kind.Service]?[kind.Service] == true;
        for (int place = kind.From; place < kind.Hosts.Length; place++)
        {
            int h = kind.Hosts[place];
            _effort--;
            if (!_state.Fits(server, h))
                continue;
            hosts++;
            room += one ? 1 : Math.Min(
                (_state.MemoryCap[h] - _state.Memory[h]) / Math.Max(1, kind.Memory),
                Math.Min((_state.CoresCap[h] - _state.Cores[h]) / Math.Max(1, kind.Cores), _state.Most[h] - _state.Live[h]));
        }

        return (hosts, room);
    }

    /// <summary>Sets every server as in the best way found, those that live there first; the others stay, go elsewhere or are dropped, the least valued first.</summary>
    private void Carry(Func<int, int> elsewhere, List<int> dropped)
    {
        var goal = new Dictionary<int, int>();
        foreach (var kind in _kinds)
        {
            var left = new List<int>(kind.Servers);
            for (int pass = 0; pass < 2; pass++)
            {
                for (int place = 0; place < kind.Hosts.Length; place++)
                {
                    for (int h = kind.Hosts[place]; kind.Best[place] > 0; kind.Best[place]--)
                    {
                        int n = pass > 0 ? 0 : left.FindIndex(v => _state.Home[v] == h);
                        if (n < 0)
                            break;
                        goal[left[n]] = h;
                        left.RemoveAt(n);
                    }
                }
            }
        }

        var others = new List<(int Server, int Host)>();
        foreach (int v in _lifted)
        {
            if (!goal.ContainsKey(v))
                others.Add((v, _state.At[v]));
        }

        // What stays is not touched: it neither moved nor made room.
        foreach (var each in goal)
        {
            if (_state.At[each.Key] != each.Value)
                _state.Set(each.Key, PlacementState.Nowhere);
        }

        foreach (var (v, _) in others)
            _state.Set(v, PlacementState.Nowhere);
        foreach (var each in goal)
            _state.Set(each.Key, each.Value);
        others.Sort((a, b) => Worth(b).CompareTo(Worth(a)) is int c and not 0 ? c : a.Server.CompareTo(b.Server));
        foreach (var (v, h) in others)
        {
            int to = _state.Fits(v, h) ? h : elsewhere(v);
            if (to >= 0)
                _state.Set(v, to);
            else
                dropped.Add(v);
        }

        double Worth((int Server, int Host) x) => _valueOfLast(_state.Of[x.Server], 0);
    }
}
