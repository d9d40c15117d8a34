using System;
using System.Collections.Generic;

namespace VMatrix.Planning;

/// <summary>
/// Gathers the servers of services that share hosts on fewer of them, so that the others can be powered down. A host is freed as a
/// whole or not at all: its servers go to hosts that carry others already. That is done where a host less to keep up saves more
/// within the horizon than the moves cost, and only once it would have saved as much already: without knowing how long the load stays
/// low that costs at most twice what knowing it would (the ski-rental rule, see <see cref="Planner"/>). Nothing is gathered while servers
/// wake or lack room.
/// </summary>
internal sealed class Gathering
{
    // Hosts that are tried at most, those with the fewest servers, and hosts that are looked at for all of their servers.
    private const int MostHosts = 64;
    private const int MostLooks = 1_000_000;
    private const int MostTargets = 16;

    private readonly Placement _placement;
    private readonly PlacementState _state;
    private readonly PlannerInput _input;
    private readonly DateTimeOffset _lately;
    private readonly bool[] _freed;
    private readonly bool[] _automatic;
    private readonly List<int> _fit = [];
    private int _looks;

    public Gathering(Placement placement, PlannerInput input)
    {
        _placement = placement;
        _state = placement.State;
        _input = input;
        _lately = input.Now - input.Pool.Oracle.Horizon;
        _freed = new bool[_state.Hosts];
        _automatic = Array.ConvertAll(_state.Service, s => (s.Mode ?? Oracle.Mode) == OracleMode.Automatic);
    }

    private OracleSpec Oracle => _input.Pool.Oracle;

    /// <summary>True where hosts are powered down, so that a freed one saves anything.</summary>
    public static bool Pays(PlannerInput input) => input.Pool.Oracle is { PowerDown: true, Mode: OracleMode.Automatic, HostCost: > 0 } && input.HostPower && input.MayGather;

    /// <summary>Since when there was something to gather that is worth it; null when there is nothing.</summary>
    public DateTimeOffset? Since { get; private set; }

    /// <summary>What waits for its time, in words; null when nothing does.</summary>
    public (string What, string Why)? Waits { get; private set; }

    /// <summary>Frees hosts where that pays.</summary>
    public void Run()
    {
        Since = null;
        Waits = null;
        if (_placement.Grows)
            return;
        int start = _state.Mark, idle = 0;
        var hosts = new List<(int Servers, int Host)>();
        for (int h = 0; h < _state.Hosts; h++)
        {
            if (IsIdle(h))
                idle++;
            else if (IsOpen(h) && MayBeFreed(h))
                hosts.Add((_state.Live[h], h));
        }

        // The fewest servers first; of equals the last in the pool file, which is the first to be powered down.
        hosts.Sort((a, b) => a.Servers != b.Servers ? a.Servers.CompareTo(b.Servers) : b.Host.CompareTo(a.Host));
        Array.Clear(_freed, 0, _freed.Length);
        _looks = MostLooks;
        int keep = Oracle.IdleHosts + Oracle.ReserveHosts, freed = 0, moves = 0, tried = 0;
        var best = (Gain: 0.0, Mark: start, Freed: 0, Moves: 0, Saved: 0);
        double perHost = Oracle.HostCost * Oracle.Horizon.TotalMinutes;
        foreach (var (servers, h) in hosts)
        {
            if (servers * Oracle.ActivationCost > perHost || tried++ == MostHosts)
                break;
            if (!Free(h))
                continue;
            freed++;
            moves += servers;
            int saved = Math.Max(0, idle + freed - keep) - Math.Max(0, idle - keep);
            double gain = (saved * perHost) - (moves * Oracle.ActivationCost);
            if (gain > best.Gain)
                best = (gain, _state.Mark, freed, moves, saved);
        }

        _state.Back(best.Mark);
        if (best.Freed == 0)
            return;
        Since = _input.Memory?.GatherSince ?? _input.Now;
        double cost = best.Moves * Oracle.ActivationCost, rate = best.Saved * Oracle.HostCost;
        var payback = TimeSpan.FromMinutes(cost / rate);
        string numbers = Words.Text($"{best.Moves} {(best.Moves == 1 ? "move costs" : "moves cost")} {cost:0.##}, {best.Saved} {(best.Saved == 1 ? "host less to keep up saves" : "hosts less to keep up save")} {rate:0.##} a minute, which pays for them in {Words.Seconds(payback)} of the horizon's {Words.Seconds(Oracle.Horizon)}");
        if (_input.Now - Since < payback)
        {
            _state.Back(start);
            Waits = ("gather servers on fewer hosts", $"{numbers}; that is done once it was so for as long, and it has been for {Words.Seconds(_input.Now - Since.Value)}");
            return;
        }

        foreach (int i in new List<int>(_state.Changed(start)))
            _placement.Gathered(i, numbers);
        Promised = idle + best.Freed;
    }

    /// <summary>Idle hosts that there are to be when servers were gathered; 0 when none were.</summary>
    public int Promised { get; set; }

    /// <summary>True when other moves took the room that gathering freed, or hosts that it counted on to be idle.</summary>
    public bool IsInVain()
    {
        if (Promised == 0)
            return false;
        for (int i = 0; i < _placement.CauseOf.Length; i++)
        {
            if (_placement.CauseOf[i] == Cause.Gather && _state.Home[i] is >= 0 and int home && _state.Live[home] > 0)
                return true;
        }

        int idle = 0;
        for (int h = 0; h < _state.Hosts; h++)
            idle += IsIdle(h) ? 1 : 0;
        return idle < Promised;
    }

    private bool IsOpen(int h) => _state.Closed[h] == Rules.None && _state.HostNow[h].ForeignMemoryBytes == 0;

    private bool IsIdle(int h) => IsOpen(h) && _state.Live[h] == 0;

    /// <summary>True when all that a host carries may be moved, is there at present, and was not moved lately.</summary>
    private bool MayBeFreed(int h)
    {
        if (_state.Dedicated[h] > 0)
            return false;
        for (int i = _state.First[h]; i >= 0; i = _state.Next[i])
        {
            if (_state.StillOf[i] != Still.Free || _state.InChamber[i] || _state.Home[i] != h || _input.Servers[i].Mark.ChangedAt > _lately)
                return false;
            int s = _state.Of[i];
            if (!_state.MayBeBalanced(i))
                return false;
            // One that stops for its move is missed, unless there are more than needed.
            if (!_automatic[s] || (!_input.LiveMigration && _placement.Placed(s) <= _placement.Grants[s].Needs))
                return false;
        }

        return true;
    }

    /// <summary>Moves all servers of a host to others that carry servers, the largest first. False when one finds no place; all are back then.</summary>
    private bool Free(int h)
    {
        // One that took in servers of another is not freed in the same plan.
        for (int i = _state.First[h]; i >= 0; i = _state.Next[i])
        {
            if (_state.Home[i] != h)
                return false;
        }

        int mark = _state.Mark;
        var servers = new List<int>();
        for (int i = _state.First[h]; i >= 0; i = _state.Next[i])
            servers.Add(i);
        servers.Sort((a, b) => _state.MemoryOf[a] != _state.MemoryOf[b] ? _state.MemoryOf[b].CompareTo(_state.MemoryOf[a]) : a.CompareTo(b));
        _freed[h] = true;
        foreach (int i in servers)
        {
            int to = Target(i, h);
            if (to < 0)
            {
                _state.Back(mark);
                _freed[h] = false;
                return false;
            }

            _state.Set(i, to);
        }

        return true;
    }

    /// <summary>The fullest host that takes a server, without a licence more; never an empty one.</summary>
    private int Target(int i, int from)
    {
        // A try (for wishes) puts hosts elsewhere in their lists: those that fit are noted before.
        _fit.Clear();
        for (int k = 0; k < PlacementState.BucketCount; k++)
        {
            for (int h = _state.FirstIn(k); h >= 0 && _looks > 0 && _fit.Count < MostTargets; h = _state.NextIn(h))
            {
                _looks--;
                if (_state.Live[h] > 0 && !_freed[h] && _state.Fits(i, h) && _state.FitsNow(i, h) && !_state.NeedsSeat(i, h))
                    _fit.Add(h);
            }
        }

        int n = _fit.FindIndex(h => _placement.KeepsWishes(i, from, h));
        return n < 0 ? PlacementState.Nowhere : _fit[n];
    }
}
