using System;
using System.Collections.Generic;

namespace VMatrix.Planning;

/// <summary>
/// Puts the moves of a placement in an order that can be carried out one after another: no limit is passed at any step, servers
/// come before those that nobody needs any more go, and no service has more than a tenth of its servers (one at least) on the way
/// between hosts at a time. Where servers wait for each other's room, one is moved over a third host or, where there is none,
/// parked in the nest.
/// </summary>
internal sealed class Ordering
{
    private readonly Placement _placement;
    private readonly PlacementState _state;
    private readonly PlannerInput _input;
    private readonly PlacementReasons _reasons;
    private readonly Func<string, string, Guid> _newId;
    private readonly Func<int, string> _newName;
    private readonly List<Move> _moves = [];
    private readonly int[] _goal;
    private readonly Dictionary<int, List<int>> _leavers = [];
    private readonly Dictionary<int, List<(int Server, Guid Move)>> _gone = [];
    private readonly Dictionary<int, List<int>> _blocked = [];
    private readonly Dictionary<int, (Guid Move, int Generation, Stage Stage, int Host)> _last = [];
    private readonly List<(int Service, Guid Move)> _licensedGone = [];
    private readonly List<Guid>?[] _onTheWay;
    private readonly List<Guid>?[] _woken;
    private readonly HashSet<int> _left = [];

    // New servers have no mark yet.
    private readonly Dictionary<int, (string Name, Guid Id)> _born = [];

    public Ordering(Placement placement, PlannerInput input, Func<string, string, Guid> newId, Func<int, string> newName)
    {
        _placement = placement;
        _state = placement.State;
        _input = input;
        _reasons = placement.Reasons;
        _newId = newId;
        _newName = newName;
        _goal = (int[])_state.At.Clone();
        _onTheWay = new List<Guid>?[_state.Services];
        _woken = new List<Guid>?[_state.Services];
    }

    public IReadOnlyList<Move> Order()
    {
        var incoming = new List<int>();
        var leaving = new List<int>();
        var seen = new HashSet<int>();
        foreach (int i in _state.Changed(0))
        {
            if (!seen.Add(i) || _goal[i] == _state.Home[i])
                continue;
            (_goal[i] >= 0 ? incoming : leaving).Add(i);
        }

        _state.Back(0);
        _state.ReserveHolds = false;
        // What is on a dead host holds nothing there: neither room nor a licence.
        foreach (int i in incoming)
        {
            if (IsLost(i))
                _state.Set(i, PlacementState.Nowhere);
        }

        foreach (int i in leaving)
        {
            if (_state.Home[i] < 0)
                continue;
            if (IsLost(i))
            {
                _state.Set(i, PlacementState.Nowhere);
                continue;
            }

            if (!_leavers.TryGetValue(_state.Home[i], out var there))
                _leavers[_state.Home[i]] = there = [];
            there.Add(i);
        }

        // What restores lost servers first, then what the most important services wait for.
        incoming.Sort((a, b) =>
        {
            int x = Urgency(a), y = Urgency(b);
            if (x != y)
                return x.CompareTo(y);
            double p = _state.Service[_state.Of[a]].Priority, q = _state.Service[_state.Of[b]].Priority;
            return p != q ? q.CompareTo(p) : a.CompareTo(b);
        });
        foreach (int i in incoming)
            Bring(i);
        while (Unblock())
        {
        }

        foreach (int i in leaving)
            Take(i);
        return _moves;
    }

    private bool IsLost(int i) => _state.Home[i] >= 0 && (_state.Closed[_state.Home[i]] & Rules.Dead) != 0;

    private int Urgency(int i) =>
        _state.Home[i] < 0 ? 1 : _placement.CauseOf[i] switch { Cause.Dead => 0, Cause.Room => 1, Cause.Suspended => 2, Cause.Rule => 3, Cause.Spread => 4, Cause.Affinity => 5, _ => 6 };

    /// <summary>Brings a server to its goal, or lets it wait for room there.</summary>
    private void Bring(int i)
    {
        var ready = new Queue<int>();
        ready.Enqueue(i);
        while (ready.Count > 0)
        {
            int x = ready.Dequeue();
            int h = _goal[x];
            if (!_state.Fits(x, h) && !TakeLeavers(x, h))
            {
                if (!_blocked.TryGetValue(h, out var waiting))
                    _blocked[h] = waiting = [];
                waiting.Add(x);
                continue;
            }

            int from = _state.At[x];
            Come(x, h);
            if (from >= 0 && _blocked.TryGetValue(from, out var freed))
            {
                _blocked.Remove(from);
                foreach (int y in freed)
                    ready.Enqueue(y);
            }
        }
    }

    /// <summary>Makes those leave first that free the room.</summary>
    private bool TakeLeavers(int x, int h)
    {
        if (_leavers.TryGetValue(h, out var leavers))
        {
            foreach (int v in leavers)
            {
                Take(v);
                if (_state.Fits(x, h))
                    return true;
            }
        }

        // A licence may have to come free on another host.
        if (_state.LicenceOf[_state.Of[x]] >= 0 && (_state.Excludes(x, h) & ~Rules.Licence) == Rules.None)
        {
            foreach (var others in _leavers.Values)
            {
                foreach (int v in others)
                {
                    if (_state.Of[v] >= 0 && _state.LicenceOf[_state.Of[v]] == _state.LicenceOf[_state.Of[x]])
                        Take(v);
                    if (_state.Fits(x, h))
                        return true;
                }
            }
        }

        return false;
    }

    /// <summary>Breaks one ring of servers that wait for each other. False when none waits.</summary>
    private bool Unblock()
    {
        // A licence that came free elsewhere may have opened a host.
        var all = new List<int>();
        foreach (var waiting in _blocked.Values)
            all.AddRange(waiting);
        all.Sort();
        foreach (int x in all)
        {
            if (!_state.Fits(x, _goal[x]))
                continue;
            _blocked[_goal[x]].Remove(x);
            Bring(x);
            return true;
        }

        int best = -1;
        double bestCost = double.MaxValue;
        foreach (var waiting in _blocked.Values)
        {
            foreach (int x in waiting)
            {
                if (_state.At[x] < 0)
                    continue;
                // The service that can best do without one for a while.
                int s = _state.Of[x];
                double cost = (_placement.Placed(s) - 1 < _placement.Grants[s].Needs ? 1e9 : 0) + _state.Service[s].Priority;
                if (cost < bestCost || (cost == bestCost && x < best))
                    (best, bestCost) = (x, cost);
            }
        }

        if (best < 0)
        {
            foreach (var waiting in _blocked.Values)
            {
                foreach (int x in waiting)
                    _reasons.NoRoomYet(x, _goal[x]);
            }

            _blocked.Clear();
            return false;
        }

        int goal = _goal[best], home = _state.At[best];
        _blocked[goal].Remove(best);
        if (_blocked[goal].Count == 0)
            _blocked.Remove(goal);
        // One that gave way before and is in the way again has nowhere else to go.
        int third = _last.ContainsKey(best) ? PlacementState.Nowhere : _placement.Search.Find(best);
        if (third >= 0 && third != goal)
        {
            Emit(best, MoveKind.Relocate, third, $"gives way: it waits for room on {_state.Host[goal].Name}, and others wait for its room on {_state.Host[home].Name}");
        }
        else
        {
            Emit(best, MoveKind.Hibernate, PlacementState.Nowhere, $"parked in the nest: it waits for room on {_state.Host[goal].Name}, others wait for its room on {_state.Host[home].Name}, and no third host has room");
        }

        if (_blocked.TryGetValue(home, out var freed))
        {
            _blocked.Remove(home);
            foreach (int y in freed)
                Bring(y);
        }

        Bring(best);
        return true;
    }

    private void Come(int i, int h)
    {
        string to = _state.Host[h].Name;
        if (_last.TryGetValue(i, out var last))
        {
            Emit(i, last.Stage == Stage.Nest ? MoveKind.Wake : MoveKind.Relocate, h, $"goes on to {to}, where there is room now");
            return;
        }

        if (_state.Home[i] < 0)
        {
            var grant = _placement.Grants[_state.Of[i]];
            if (i >= _state.Input.Count)
                Emit(i, MoveKind.Create, PlacementState.Nowhere, $"{NoSleeper(_state.Of[i])}: a new one is made");
            Emit(i, MoveKind.Wake, h, $"{grant.WhyMore()}: on {to}{_reasons.Where(i)}");
            return;
        }

        Emit(i, MoveKind.Relocate, h, $"{Why(i)}: to {to}{_reasons.Where(i)}");
    }

    private readonly Dictionary<int, string> _noSleeper = [];

    /// <summary>Why no server of a service is woken: none sleeps, or those that do may not be touched.</summary>
    private string NoSleeper(int s)
    {
        if (_noSleeper.TryGetValue(s, out string? known))
            return known;
        string service = _state.Service[s].Name;
        // Those that no host may take were left out of the dormant ones.
        int woken = _state.Dormant[s].Count, held = 0, claimed = 0, failed = 0, ruledOut = -woken;
        for (var (i, to) = _state.Input.ServersOf(s); i < to; i++)
        {
            var server = _state.Input[i];
            if (server.Mark.Stage != Stage.Nest)
                continue;
            claimed += server.Claimed ? 1 : 0;
            bool isHeld = !server.Claimed && server.Mark.HeldUntil is DateTimeOffset until && until > _input.Now;
            held += isHeld ? 1 : 0;
            bool waits = !server.Claimed && !isHeld && server.Waits is not null;
            failed += waits ? 1 : 0;
            ruledOut += server.Claimed || isHeld || waits ? 0 : 1;
        }

        if (held + claimed + failed + ruledOut == 0)
            return _noSleeper[s] = $"no other server of {service} sleeps in the nest";
        var rest = new List<string>();
        if (held > 0)
            rest.Add(Words.Text($"{held} moved by hand and held"));
        if (failed > 0)
            rest.Add(Words.Text($"{failed} that could not be woken and {(failed == 1 ? "waits" : "wait")} to be tried again"));
        if (claimed > 0)
            rest.Add(Words.Text($"{claimed} on the way"));
        if (ruledOut > 0)
            rest.Add(Words.Text($"{ruledOut} that every host with room is ruled out for"));
        return _noSleeper[s] = Words.Text($"of the servers of {service} that sleep in the nest {(woken == 0 ? "none" : "no other")} may be woken ({string.Join(", ", rest)})");
    }

    private string Why(int i)
    {
        string home = _state.Host[_state.Home[i]].Name;
        switch (_placement.CauseOf[i])
        {
            case Cause.Suspended: return $"{home} is suspended";
            case Cause.Dead: return $"{home} is proven dead, it is started elsewhere";
            case Cause.Rule: return $"{home} {(_placement.Rule.TryGetValue(i, out string? rule) ? rule : "is not for it")}";
            case Cause.Spread: return $"{_state.Service[_state.Of[i]].Name} is to be spread over fault domains, and there are at least two fewer of it in that of {_state.Host[_goal[i]].Name}";
            case Cause.Affinity: return $"what it wants beside it is on {_state.Host[_goal[i]].Name}";
            case Cause.Gather: return $"gathers servers, so that {home} can be powered down: {_placement.Rule[i]}";
            case Cause.Balance: return Words.Text($"hosts are to differ by at most {100 * _input.Pool.Oracle.BalanceGap!.Value:0.#} points of {Used()} use; {home} uses {Percent(_state.Home[i])} and {_state.Host[_goal[i]].Name} {Percent(_goal[i])} at this step");
            default: return _placement.For.TryGetValue(i, out int whom) ? $"makes room on {home} for a server of {_state.Service[_state.Of[whom]].Name}" : "changes hosts so that fewer others must";
        }
    }

    private string Used() => _input.Pool.Oracle.BalanceBy switch { BalanceMeasure.Processor => "processor", BalanceMeasure.Both => "memory and of processor", _ => "memory" };

    private string Percent(int h)
    {
        string memory = Words.Text($"{100.0 * _state.Used[h] / Math.Max(1, _state.MemoryCap[h]):0.0} %");
        if (_state.Busy is not { } busy)
            return memory;
        string processors = _state.Host[h].Cores is int cores ? Words.Text($"{100.0 * busy[h] / Math.Max(1, cores * PlacementState.CoreUnit):0.0} %") : "unknown processors";
        return _input.Pool.Oracle.BalanceBy is BalanceMeasure.Processor ? processors : $"{memory} of memory, {processors} of processors";
    }

    /// <summary>Takes a server off its host: out of use, or asleep.</summary>
    private void Take(int i)
    {
        // What is lost with its host stays there until the host is back.
        if (_state.Home[i] < 0 || IsLost(i) || !_left.Add(i))
            return;
        var grant = _placement.Grants[_state.Of[i]];
        switch (_placement.FateOf[i])
        {
            case Fate.Dispose:
                string why = "";
                foreach (var (server, reason) in grant.Broken)
                    why = server == i ? reason : why;
                Emit(i, MoveKind.Dispose, PlacementState.Nowhere, $"{why}: disposed of, to be replaced");
                break;
            case Fate.NoRoom:
                Emit(i, MoveKind.Hibernate, PlacementState.Nowhere, $"{_state.Host[_state.Home[i]].Name} is suspended and no other host can take it{_reasons.Where(i)}", drop: true);
                break;
            case Fate.Drop when _placement.For.TryGetValue(i, out int whom):
                Emit(i, MoveKind.Hibernate, PlacementState.Nowhere, $"dropped: {_state.Service[_state.Of[whom]].Name} matters more and finds no other place", drop: true);
                break;
            case Fate.Drop:
                Emit(i, MoveKind.Hibernate, PlacementState.Nowhere, grant.WhyFewer(true), drop: true);
                break;
            default:
                Emit(i, MoveKind.Hibernate, PlacementState.Nowhere, grant.WhyFewer(false));
                break;
        }
    }

    private void Emit(int i, MoveKind kind, int h, string reason, bool drop = false)
    {
        int s = _state.Of[i], from = IsLost(i) && !_last.ContainsKey(i) ? _state.Home[i] : _state.At[i];
        var mark = i < _state.Input.Count ? _state.Input[i].Mark : null;
        bool again = _last.TryGetValue(i, out var last);
        if (mark is null && !_born.ContainsKey(i))
        {
            string born = _newName(s);
            _born[i] = (born, _newId("server", born));
        }

        var (name, id) = mark is null ? _born[i] : (mark.Name, mark.ServerId);
        var stage = again ? last.Stage : mark?.Stage ?? Stage.Nest;
        int generation = again ? last.Generation : mark?.Generation ?? 0;
        var after = new List<Guid>();
        if (again)
            after.Add(last.Move);
        if (h >= 0)
            NeedsGone(i, h, after);
        var to = kind switch { MoveKind.Dispose => Stage.Disposed, MoveKind.Hibernate or MoveKind.Create => Stage.Nest, MoveKind.Relocate => stage, _ => Stage.Matrix };
        var move = new Move
        {
            Id = _newId(kind.ToString(), id.ToString()),
            Kind = kind,
            ServerId = id,
            ServerName = name,
            Service = _state.Service[s].Name,
            FromStage = stage,
            FromHost = from >= 0 ? _state.Host[from].Name : null,
            Generation = generation,
            ToStage = to,
            ToHost = h >= 0 ? _state.Host[h].Name : null,
            IsDrop = drop,
            Live = kind == MoveKind.Relocate && _input.LiveMigration && (_state.Closed[from] & Rules.Dead) == 0,
            Reason = reason,
            DependsOn = after,
        };
        if (kind == MoveKind.Relocate && _placement.CauseOf[i] != Cause.Dead)
            Throttle(s, move, after);
        else if (kind == MoveKind.Wake)
            (_woken[s] ??= []).Add(move.Id);
        move = move with { DependsOn = after.Count == 0 ? [] : after.ToArray() };
        _moves.Add(move);
        _last[i] = (move.Id, kind == MoveKind.Create ? 0 : generation + 1, to, h);
        if (from >= 0)
        {
            if (!_gone.TryGetValue(from, out var gone))
                _gone[from] = gone = [];
            gone.Add((i, move.Id));
            if (_state.LicenceOf[s] >= 0)
                _licensedGone.Add((s, move.Id));
        }

        _state.Set(i, h);
    }

    /// <summary>The moves that must be done so that there is room on a host: those that it could not come before.</summary>
    private void NeedsGone(int i, int h, List<Guid> after)
    {
        if (_state.LicenceOf[_state.Of[i]] is int l and >= 0 && _state.NeedsSeat(i, h))
        {
            foreach (var (s, move) in _licensedGone)
            {
                if (_state.LicenceOf[s] == l && !after.Contains(move))
                    after.Add(move);
            }
        }

        if (!_gone.TryGetValue(h, out var gone))
            return;
        long memory = _state.Memory[h] + _state.MemoryOf[i] - _state.MemoryCap[h];
        int cores = _state.Cores[h] + _state.CoresOf[i] - _state.CoresCap[h], live = _state.Live[h] + 1 - _state.Most[h];
        foreach (var (v, _) in gone)
        {
            memory += _state.MemoryOf[v];
            cores += _state.CoresOf[v];
            live++;
        }

        bool[]? anti = _state.Anti[_state.Of[i]];
        foreach (var (v, move) in gone)
        {
            bool company = v != i && (_state.IsDedicated[_state.Of[i]] || _state.IsDedicated[_state.Of[v]] || anti?[_state.Of[v]] == true);
            if (!company && memory <= 0 && cores <= 0 && live <= 0)
                continue;
            if (!after.Contains(move))
                after.Add(move);
            memory -= _state.MemoryOf[v];
            cores -= _state.CoresOf[v];
            live--;
        }
    }

    /// <summary>Lets a relocation wait for an earlier one of its service, so that not too many are on the way at once; one that stops its server waits for a server that this plan wakes, to serve meanwhile.</summary>
    private void Throttle(int s, Move relocation, List<Guid> after)
    {
        var (way, move) = (_onTheWay[s] ??= [], relocation.Id);
        if (!relocation.Live && _woken[s] is { } woken && way.Count < woken.Count && !after.Contains(woken[way.Count]))
            after.Add(woken[way.Count]);
        int placed = _placement.Placed(s), window = Math.Max(1, Math.Max(placed / 10, placed - _placement.Grants[s].Needs));
        if (way.Count >= window && !after.Contains(way[way.Count - window]))
            after.Add(way[way.Count - window]);
        way.Add(move);
    }
}
