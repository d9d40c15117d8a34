using System;
using System.Collections.Generic;
using VMatrix.Drivers;

namespace VMatrix.Planning;

/// <summary>What the allocation grants one service: how many servers, and the words for the reasons.</summary>
internal sealed class Grant
{
    /// <summary>Servers that it shall have in the Matrix.</summary>
    public required int Granted { get; init; }

    /// <summary>Of those, the ones that it cannot be without (least or pinned): they may use the reserve, and others are dropped for them.</summary>
    public int Floor { get; init; }

    /// <summary>Servers that it needs: one taken away below that is a drop.</summary>
    public int Needs { get; init; }

    /// <summary>Why its servers may not be moved now; null when they may.</summary>
    public string? Still { get; init; }

    /// <summary>Broken servers to dispose of, by index in the input, and why.</summary>
    public IReadOnlyList<(int Server, string Why)> Broken { get; init; } = [];

    /// <summary>Servers in the Matrix that are not counted on and not touched, by index in the input.</summary>
    public IReadOnlyCollection<int> Ignored { get; init; } = [];

    /// <summary>The numbers behind a server more.</summary>
    public Func<string> WhyMore { get; init; } = () => "";

    /// <summary>The numbers behind a server less; true when it is a drop.</summary>
    public Func<bool, string> WhyFewer { get; init; } = _ => "";
}

/// <summary>Why a server that lives is moved.</summary>
internal enum Cause : byte
{
    None,
    Suspended,
    Dead,
    Rule,
    Room,
    Spread,
    Affinity,
    Gather,
    Balance,
}

/// <summary>What becomes of a server that is on no host in the end.</summary>
internal enum Fate : byte
{
    None,
    Dispose,
    Surplus,
    Drop,
    NoRoom,
}

/// <summary>
/// Places jointly: given how many servers each service is granted, finds a host for every one, with as few moves as the rules
/// allow. What must leave its host and what must wake are placed together, the hardest first; where that fails, the most valuable
/// first, and others make room. Then spread and affinity are mended and, if asked for, the load is balanced. Rounds of this go on
/// until one changes nothing, so that the next plan has nothing left to do.
/// </summary>
internal sealed class Placement
{
    private const int MostRounds = 8;
    private const double FloorValue = 1e12;

    private readonly PlannerInput _input;
    private readonly IReadOnlyList<Grant> _grants;
    private readonly PlacementSearch _search;
    private readonly Packing _packing;
    private readonly int[] _placed;
    private readonly List<int>[] _members;
    private readonly List<int> _unplaced = [];
    private readonly HashSet<int> _cannot = [];
    private readonly List<(int Server, string Rule)> _movers = [];
    private readonly List<int> _dropped = [];
    private readonly Dictionary<int, int> _position = [];
    private int[] _placedBefore = [];
    private int _failedAt = -1;
    private bool _forgotten;
    private readonly List<int> _born = [];
    private int[] _projected = [];

    private Placement(PlannerInput input, PlacementState state, IReadOnlyList<Grant> grants)
    {
        _input = input;
        State = state;
        _grants = grants;
        _placed = new int[state.Services];
        _members = new List<int>[state.Services];
        _search = new PlacementSearch(state, ValueOfLast, input.Pool.Oracle.PowerDown);
        _packing = new Packing(state, s => _placed[s] - grants[s].Floor, ValueOfLast);
        FateOf = new Fate[state.Count];
        CauseOf = new Cause[state.Count];
        For = new Dictionary<int, int>();
        Rule = new Dictionary<int, string>();
        Reasons = new PlacementReasons(this, input);
        Gathering = Gathering.Pays(input) ? new Gathering(this, input) : null;
    }

    public PlacementState State { get; }

    /// <summary>By server, what becomes of it when it is on no host; as long as there were servers at first.</summary>
    public Fate[] FateOf { get; }

    /// <summary>By server, why it is moved to another host.</summary>
    public Cause[] CauseOf { get; }

    /// <summary>By server that makes room, the server that it makes room for.</summary>
    public Dictionary<int, int> For { get; }

    /// <summary>By server, the rule that it broke where it was, or the numbers behind its move.</summary>
    public Dictionary<int, string> Rule { get; }

    public IReadOnlyList<Grant> Grants => _grants;

    public PlacementSearch Search => _search;

    /// <summary>Gathers servers on fewer hosts; null where hosts are not powered down.</summary>
    public Gathering? Gathering { get; }

    /// <summary>Servers of a service that are placed and counted on.</summary>
    public int Placed(int service) => _placed[service];

    /// <summary>Places.</summary>
    /// <param name="input">What the planner may know.</param>
    /// <param name="state">The same as arrays, fresh.</param>
    /// <param name="grants">For each service of the pool, in its order.</param>
    public static Placement Place(PlannerInput input, PlacementState state, IReadOnlyList<Grant> grants)
    {
        var placement = new Placement(input, state, grants);
        placement.Run();
        return placement;
    }

    /// <summary>True when servers of a service stand where a rule is broken, and nothing was found to mend it.</summary>
    public bool IsStuck(int service)
    {
        foreach (int i in _cannot)
        {
            if (State.Of[i] == service)
                return true;
        }

        return false;
    }

    /// <summary>Words the reasons, and holds what was refused.</summary>
    public PlacementReasons Reasons { get; }

    /// <summary>True when anything is to be done.</summary>
    public bool ChangesAnything
    {
        get
        {
            foreach (int i in State.Changed(0))
            {
                if (State.At[i] != State.Home[i])
                    return true;
            }

            return false;
        }
    }

    /// <summary>The servers as they will be when this is carried out. Those that do not exist yet are remembered for <see cref="Adopt"/>.</summary>
    public ServerOrder Projected()
    {
        int known = State.Input.Count;
        _born.Clear();
        var changes = new List<(ServerState Server, int Service, int Host, int Place)>();
        var seen = new HashSet<int>();
        foreach (int i in State.Changed(0))
        {
            int h = State.At[i];
            if (!seen.Add(i) || h == State.Home[i])
                continue;
            string? host = h >= 0 ? State.Host[h].Name : null;
            if (i >= known)
            {
                changes.Add((NotYetBorn(State.Of[i], host), State.Of[i], h, known + _born.Count));
                _born.Add(i);
                continue;
            }

            // What is lost with its host stays as it is.
            if (host is null && IsLost(i))
                continue;
            var server = State.Input[i];
            var stage = host is not null ? (State.InChamber[i] ? Stage.Chamber : Stage.Matrix) : FateOf[i] == Fate.Dispose ? Stage.Disposed : Stage.Nest;
            server = server with
            {
                Mark = server.Mark with { Stage = stage, Generation = server.Mark.Generation + 1, ChangedAt = _input.Now },
                Host = host,
                Power = host is not null ? PowerState.Running : PowerState.Saved,
                Health = host is not null ? ServerHealth.Healthy : ServerHealth.Unknown,
            };
            changes.Add((server, State.Of[i], h, i));
        }

        var projected = State.Input.With(changes);
        _projected = projected.From;
        return projected;
    }

    private ServerState NotYetBorn(int s, string? host) => new()
    {
        Mark = new ServerMark
        {
            ServerId = new Guid(-_born.Count - 1, -1, -1, new byte[8]),
            Name = "",
            Service = State.Service[s].Name,
            Image = State.Image[s] ?? "",
            Stage = Stage.Matrix,
            StateId = Guid.Empty,
            CreatedAt = _input.Now,
            ChangedAt = _input.Now,
        },
        Host = host,
        Power = PowerState.Running,
        Health = ServerHealth.Healthy,
        MemoryBytes = State.Service[s].Image.MemoryBytes,
        Cores = State.Service[s].Image.Cores,
    };

    /// <summary>Takes over what a placement of <see cref="Projected"/> changes.</summary>
    public void Adopt(Placement next)
    {
        int known = _input.Servers.Count;
        var slots = new Dictionary<int, int>();
        var seen = new HashSet<int>();
        foreach (int j in next.State.Changed(0))
        {
            if (!seen.Add(j) || next.State.At[j] == next.State.Home[j])
                continue;
            int i = Slot(j);
            if (i < known)
            {
                if (next.State.At[j] < 0 && State.Home[i] >= 0)
                    FateOf[i] = next.FateOf[j];
                if (CauseOf[i] == Cause.None && j < next.CauseOf.Length)
                    CauseOf[i] = next.CauseOf[j];
                if (next.Rule.TryGetValue(j, out string? rule) && !Rule.ContainsKey(i))
                    Rule[i] = rule;
            }

            if (next.For.TryGetValue(j, out int whom) && !For.ContainsKey(i))
                For[i] = Slot(whom);
            State.Set(i, next.State.At[j]);
        }

        if (next.Gathering is { Promised: > 0 } gathering)
            Gathering!.Promised = gathering.Promised;

        // What changed hosts by a rule may have used the reserve that those who wake left.
        Array.Copy(next._placed, _placed, _placed.Length);
        KeepReserve(next._grants);
        Interchange();

        int Slot(int j)
        {
            if (j < _projected.Length)
                return _projected[j] < known ? _projected[j] : _born[_projected[j] - known];
            if (!slots.TryGetValue(j, out int slot))
                slots[j] = slot = State.New(next.State.Of[j]);
            return slot;
        }
    }

    /// <summary>Orders the moves and words their reasons.</summary>
    /// <param name="last">The placement that found nothing more to do, or this.</param>
    /// <param name="newId">Makes an id that follows from the input alone, from what it is for and whose it is.</param>
    /// <param name="newName">Makes the name of a new server of a service.</param>
    public IReadOnlyList<Move> Order(Placement last, Func<string, string, Guid> newId, Func<int, string> newName)
    {
        Array.Copy(last._placed, _placed, _placed.Length);
        return new Ordering(this, _input, newId, newName).Order();
    }

    /// <summary>What could not be placed, by service.</summary>
    public IReadOnlyList<int> Missing
    {
        get
        {
            var missing = new int[State.Services];
            foreach (int i in _unplaced)
                missing[State.Of[i]]++;
            return missing;
        }
    }

    /// <summary>Sleepers of a service that found no place and that the platform lets wake on some hosts only, with all that are tied alike: another one may find a place.</summary>
    public IReadOnlyList<Guid> Tied(int service)
    {
        var ties = new HashSet<string>();
        foreach (int i in _unplaced)
        {
            if (State.Of[i] == service && State.Ties(i) is string text)
                ties.Add(text);
        }

        var tied = new List<Guid>();
        foreach (int i in State.Dormant[service])
        {
            if (ties.Count > 0 && State.Ties(i) is string text && ties.Contains(text))
                tied.Add(_input.Servers[i].Mark.ServerId);
        }

        return tied;
    }

    private void Run()
    {
        var reasons = Reasons;
        for (int s = 0; s < State.Services; s++)
            Begin(s, reasons);
        var balancing = new Balancing(this, _input);
        for (int round = 0; round < MostRounds; round++)
        {
            int before = State.Mark, stuck = _cannot.Count;
            FindMovers();
            PlaceAll(reasons);
            MendSpread();
            MendAffinity();
            Gathering?.Run();
            if (_input.Pool.Oracle.BalanceGap is double gap)
                balancing.Run(gap);
            if (State.Mark != before)
                _cannot.Clear();
            else if (_cannot.Count == stuck)
                break;
        }

        KeepReserve(_grants);
        Interchange();
        reasons.Refuse(_unplaced, _cannot);
    }

    // ---- who stays, who goes, who comes

    private void Begin(int s, PlacementReasons reasons)
    {
        var grant = _grants[s];
        var matrix = State.InMatrix[s];
        var members = _members[s] = new List<int>(matrix.Count);
        if (grant.Still is not null)
        {
            foreach (int i in matrix)
                State.StillOf[i] = State.StillOf[i] == Still.Free ? Still.Service : State.StillOf[i];
        }

        foreach (int i in grant.Ignored)
            State.StillOf[i] = State.StillOf[i] == Still.Free ? Still.Service : State.StillOf[i];
        foreach (var (i, _) in grant.Broken)
        {
            FateOf[i] = Fate.Dispose;
            State.Set(i, PlacementState.Nowhere);
        }

        bool all = grant.Broken.Count == 0 && grant.Ignored.Count == 0;
        var ignored = all ? null : new HashSet<int>(grant.Ignored);
        foreach (int i in matrix)
        {
            if (all || (FateOf[i] != Fate.Dispose && !ignored!.Contains(i)))
                members.Add(i);
        }

        // A server on its way serves nobody yet: nothing is given up for it before it has come.
        int arriving = 0;
        foreach (int i in members)
        {
            if (State.StillOf[i] == Still.Claimed && (_input.Servers[i].Mark.Stage != Stage.Matrix || _input.Servers[i].ClaimedHost != _input.Servers[i].Host))
                arriving++;
        }

        int surplus = members.Count - arriving + State.Outside[s] - grant.Granted;
        if (surplus > 0)
        {
            if (grant.Still is not null)
                reasons.RefuseStill(s, hibernate: surplus);
            else
                GiveUp(s, members, surplus);
        }

        _placed[s] = members.Count + State.Outside[s];
        int missing = grant.Granted - _placed[s];
        if (missing <= 0)
            return;
        if (grant.Still is not null)
        {
            reasons.RefuseStill(s, wake: missing);
            return;
        }

        Wake(s, members, missing);
    }

    /// <summary>
    /// Chooses who is given up, never one that its owner protects: first those that must leave their host anyway, then those that fare badly,
    /// then those that their owner wants gone first, then the idle before those with open requests, then old images, then where most stand
    /// together, then, where hosts are powered down, those with the least company, then those moved longest ago. A service that is spread
    /// gives up one with open requests only where another would have to move for it.
    /// </summary>
    private void GiveUp(int s, List<int> members, int surplus)
    {
        var candidates = new List<(int Key, int Open, int Company, DateTimeOffset Moved, int Server)>();
        string? image = State.Image[s];
        var first = State.Service[s].RetireFirst;
        bool anyOpen = false;
        foreach (int i in members)
        {
            if (State.StillOf[i] != Still.Free || !State.MayBeTaken(i))
                continue;
            int h = State.At[i];
            bool dead = (State.Closed[h] & Rules.Dead) != 0;
            bool leaves = !dead && (State.IsMisplaced(i) || !HoldsRules(i));
            int key = dead ? 0 : leaves ? 1 : 2, open = Activity(i);
            key = (key << 1) + (_input.Servers[i].Health == ServerHealth.Healthy ? 1 : 0);
            key = (key << 1) + (first.Count > 0 && NamePatterns.Match(first, _input.Servers[i].Mark.Name) ? 0 : 1);
            key = (key << 1) + (open > 0 ? 1 : 0);
            key = (key << 1) + (image is null || _input.Servers[i].Mark.Image == image ? 1 : 0);
            anyOpen |= open > 0;
            candidates.Add((key, open, Gathering is null ? 0 : State.Live[h], _input.Servers[i].Mark.ChangedAt, i));
        }

        candidates.Sort((a, b) => a.Key != b.Key ? a.Key.CompareTo(b.Key) : a.Open != b.Open ? a.Open.CompareTo(b.Open)
            : a.Company != b.Company ? a.Company.CompareTo(b.Company) : a.Moved != b.Moved ? a.Moved.CompareTo(b.Moved) : Compare(a.Server, b.Server));
        int drops = Math.Max(0, Math.Min(_grants[s].Needs, members.Count) - _grants[s].Granted);
        var gone = new HashSet<int>();
        int[]? domains = State.DomainCount[s];
        int from = 0;
        while (surplus > 0 && gone.Count < candidates.Count)
        {
            int pick = -1;
            while (from < candidates.Count && gone.Contains(candidates[from].Server))
                from++;
            if (domains is not null && anyOpen)
                pick = LeastMissed(domains);
            // Of equal ones, the one in the fault domain with the most.
            for (int c = from; (domains is null || !anyOpen) && c < candidates.Count && candidates[c].Key == candidates[from].Key; c++)
            {
                int i = candidates[c].Server;
                if (gone.Contains(i))
                    continue;
                if (pick < 0 || domains![State.Domain[State.At[i]]] > domains[State.Domain[State.At[pick]]])
                    pick = i;
                if (domains is null)
                    break;
            }

            gone.Add(pick);
            // A server on a dead host cannot be put away; it waits there until its host is back.
            if ((State.Closed[State.At[pick]] & Rules.Dead) != 0)
                State.StillOf[pick] = Still.Service;
            else
            {
                FateOf[pick] = surplus <= drops ? Fate.Drop : Fate.Surplus;
                State.Set(pick, PlacementState.Nowhere);
            }

            surplus--;
        }

        members.RemoveAll(gone.Contains);

        // The one whose going disturbs the fewest: with open requests it disturbs its own, and from a fault domain that has fewer than another
        // those of a server that has to move there.
        int LeastMissed(int[] domains)
        {
            int best = -1, most = 0;
            foreach (var c in candidates)
                most = gone.Contains(c.Server) ? most : Math.Max(most, domains[State.Domain[State.At[c.Server]]]);
            var least = (Rank: int.MaxValue, Missed: 0, Moves: 0, Image: 0);
            foreach (var c in candidates)
            {
                if (gone.Contains(c.Server))
                    continue;
                int moves = domains[State.Domain[State.At[c.Server]]] < most ? 1 : 0;
                var rank = (c.Key >> 2, moves + (c.Open > 0 ? 1 : 0), moves, c.Key & 1);
                if (best < 0 || rank.CompareTo(least) < 0)
                    (best, least) = (c.Server, rank);
            }

            return best;
        }
    }

    /// <summary>Requests open at a server; where its balancer does not count them, how busy its processors are, in tenths and from a tenth on.</summary>
    private int Activity(int i)
    {
        var server = _input.Servers[i];
        return server.OpenRequests is int open ? Math.Max(0, open) : server.ProcessorUse is double use ? (int)Math.Max(0, Math.Min(10, use * 10)) : 0;
    }

    /// <summary>Chooses who wakes: a kept memory before a boot, the newest image next, then those asleep longest; then new ones are made.</summary>
    private void Wake(int s, List<int> members, int missing)
    {
        var dormant = State.Dormant[s];
        string? image = State.Image[s];
        if (dormant.Count > 0)
        {
            dormant.Sort((a, b) =>
            {
                var (x, y) = (_input.Servers[a], _input.Servers[b]);
                int saved = (x.Power == PowerState.Saved ? 0 : 1) - (y.Power == PowerState.Saved ? 0 : 1);
                if (saved != 0)
                    return saved;
                int newest = (x.Mark.Image == image ? 0 : 1) - (y.Mark.Image == image ? 0 : 1);
                return newest != 0 ? newest : x.Mark.ChangedAt != y.Mark.ChangedAt ? x.Mark.ChangedAt.CompareTo(y.Mark.ChangedAt) : Compare(a, b);
            });
        }

        // One that no host may take sleeps on, and others come in its place.
        dormant.RemoveAll(i => State.IsRuledOutEverywhere(i) || State.IsTooLarge(i));
        for (int k = 0; k < missing; k++)
        {
            int i = k < dormant.Count ? dormant[k] : State.New(s);
            members.Add(i);
            Order(i);
            _unplaced.Add(i);
        }
    }

    // Servers come in an order of their own (ServerOrder), which ids have the last word in.
    private static int Compare(int a, int b) => a.CompareTo(b);

    private bool IsCrowded(int h) =>
        State.Memory[h] > State.MemoryCap[h] || State.Cores[h] > State.CoresStated[h] || State.Live[h] > State.Most[h] || (State.Dedicated[h] > 0 && State.Live[h] > 1);

    /// <summary>True when nothing about a server's company or its host's limits is broken.</summary>
    private bool HoldsRules(int i)
    {
        int h = State.At[i];
        return !IsCrowded(h) && !State.IsRefused(i);
    }

    // ---- those that must leave their host

    /// <summary>Those whose stand breaks a rule; not those that were tried in vain since anything changed, so that another may go in their place.</summary>
    private void FindMovers()
    {
        _movers.Clear();
        for (int h = 0; h < State.Hosts; h++)
        {
            if (State.Live[h] == 0)
                continue;
            bool crowded = IsCrowded(h);
            for (int i = State.First[h]; i >= 0; i = State.Next[i])
            {
                if (State.StillOf[i] != Still.Free || _cannot.Contains(i))
                    continue;
                if (State.IsMisplaced(i))
                    _movers.Add((i, Misplaced(i)));
                else if (!crowded && State.Anti[State.Of[i]] is not null && State.IsRefused(i))
                    crowded = true;
            }

            if (crowded)
                Thin(h);
        }
    }

    private string Misplaced(int i)
    {
        var closed = State.Closed[State.At[i]];
        return (closed & Rules.Dead) != 0 ? "is proven dead" : (closed & Rules.Suspended) != 0 ? "is suspended"
            : (closed & Rules.Role) != 0 && !State.InChamber[i] ? "is no matrix host"
            : State.Eligible[State.Of[i]]?[State.At[i]] == false ? "is not allowed for it" : "holds no licence for it";
    }

    /// <summary>Chooses the fewest servers that must leave a host so that its rules hold.</summary>
    private void Thin(int h)
    {
        int mark = State.Mark;

        // What is on its way out already makes room by itself: nobody else has to go for it.
        for (int i = State.First[h], next; i >= 0; i = next)
        {
            next = State.Next[i];
            if (i >= _input.Servers.Count && State.StillOf[i] == Still.Claimed)
                State.Set(i, PlacementState.Nowhere);
        }

        var leaving = new List<(int, string)>();
        while (true)
        {
            var (victim, rule) = NextToLeave(h);
            if (victim < 0)
                break;
            leaving.Add((victim, rule));
            State.Set(victim, PlacementState.Nowhere);
        }

        State.Back(mark);
        foreach (var mover in leaving)
        {
            if (!_movers.Contains(mover))
                _movers.Add(mover);
        }
    }

    private (int Server, string Rule) NextToLeave(int h)
    {
        int best = PlacementState.Nowhere;
        if (State.Dedicated[h] > 0 && State.Live[h] > 1)
        {
            // One dedicated server among several shared ones goes itself; else the least valued goes.
            for (int i = State.First[h]; i >= 0; i = State.Next[i])
            {
                if (IsFree(i) && (best < 0 || RankToLeave(i) < RankToLeave(best) || (RankToLeave(i) == RankToLeave(best) && i > best)))
                    best = i;
            }

            return (best, "is shared with a server that shares with no other");

            double RankToLeave(int i) => State.Dedicated[h] == 1 && State.Live[h] > 2 && State.IsDedicated[State.Of[i]] ? -1 : ValueOfLast(State.Of[i]);
        }

        int most = 0;
        for (int i = State.First[h]; i >= 0; i = State.Next[i])
        {
            int refused = State.Of[i] >= 0 && State.Anti[State.Of[i]] is not null ? State.Refusals(i) : 0;
            if (refused > 0 && IsFree(i) && (refused > most || (refused == most && GoesRather(i, best, h))))
                (best, most) = (i, refused);
        }

        if (best >= 0)
            return (best, "carries a server of a service that it refuses beside it");
        long memory = State.Memory[h] - State.MemoryCap[h];
        int cores = State.Cores[h] - State.CoresStated[h], live = State.Live[h] - State.Most[h];
        // One that is larger than its host and stays there is not made smaller by the going of others.
        for (int i = State.First[h]; i >= 0; i = State.Next[i])
        {
            memory -= State.MemoryOf[i] > State.MemoryCap[h] && !IsFree(i) ? State.MemoryOf[i] : 0;
            cores -= State.CoresOf[i] > State.CoresStated[h] && !IsFree(i) ? State.CoresOf[i] : 0;
        }

        if (memory <= 0 && cores <= 0 && live <= 0)
            return (PlacementState.Nowhere, "");
        bool bestEnough = false;
        for (int i = State.First[h]; i >= 0; i = State.Next[i])
        {
            if (!IsFree(i))
                continue;
            bool enough = State.MemoryOf[i] >= memory && State.CoresOf[i] >= cores && live <= 1;
            if (best < 0 || (enough && !bestEnough) || (enough == bestEnough && (enough ? State.MemoryOf[i] < State.MemoryOf[best] : State.MemoryOf[i] > State.MemoryOf[best])))
                (best, bestEnough) = (i, enough);
        }

        return (best, memory > 0 ? "has less memory than its servers" : cores > 0 ? "has fewer cores than its servers" : "has more servers than its most");
    }

    /// <summary>The smaller goes; but from a host that is used more than others, where the load is to be balanced, the one that uses more.</summary>
    private bool GoesRather(int i, int than, int h)
    {
        if (_input.Pool.Oracle.BalanceGap is not null && State.Used[h] * State.AllMemory > State.MemoryCap[h] * State.AllUsed && State.UsedOf[i] != State.UsedOf[than])
            return State.UsedOf[i] > State.UsedOf[than];
        return State.MemoryOf[i] != State.MemoryOf[than] ? State.MemoryOf[i] < State.MemoryOf[than] : i > than;
    }

    private bool IsFree(int i) => State.StillOf[i] == Still.Free && !State.InChamber[i] && !_cannot.Contains(i);

    // ---- placing

    /// <summary>What the n-th server of a service is worth: the least counts before all else, then by priority.</summary>
    private double Value(int s, int n) => (n <= _grants[s].Floor ? FloorValue : 0) + State.Service[s].Priority;

    private double ValueOfLast(int s, int gone = 0) => s < 0 ? double.MaxValue : Value(s, _placed[s] - gone);

    private void PlaceAll(PlacementReasons reasons)
    {
        if (_movers.Count == 0 && (_unplaced.Count == 0 || State.Mark == _failedAt))
            return;
        var wants = new List<(int Server, bool Lives, double Value)>();
        foreach (var (i, rule) in _movers)
        {
            if (State.InChamber[i])
                MoveInChamber(i, rule);
            else
            {
                wants.Add((i, true, ValueOfLast(State.Of[i])));
                Rule[i] = rule;
            }
        }

        // Those that live are tried before those that would have to wake for them.
        var before = (int[])_placed.Clone();
        _unplaced.Sort((a, b) => (State.Home[a] >= 0) != (State.Home[b] >= 0) ? (State.Home[a] >= 0 ? -1 : 1) : Order(a).CompareTo(Order(b)));
        foreach (int i in _unplaced)
            wants.Add((i, false, Value(State.Of[i], ++before[State.Of[i]])));
        reasons.Look(wants.ConvertAll(w => w.Server));

        // The hardest first; when all find a place that is all.
        var hardness = new int[State.Services];
        for (int s = 0; s < State.Services; s++)
            hardness[s] = Hardness(s);
        int mark = State.Mark;
        wants.Sort((a, b) => Harder(a, b, hardness));
        if (PlaceInOrder(wants))
            return;
        State.Back(mark);
        Array.Copy(_placedBefore, _placed, _placed.Length);

        // Else the most valuable first, and others make room.
        wants.Sort((a, b) => a.Value != b.Value ? b.Value.CompareTo(a.Value) : Harder(a, b, hardness));
        PlaceByValue(wants);
    }

    private int Harder((int Server, bool Lives, double Value) a, (int Server, bool Lives, double Value) b, int[] hardness)
    {
        int s = State.Of[a.Server], t = State.Of[b.Server];
        // The reserve is for what is left once all that may use it is placed.
        bool c = a.Lives || a.Value >= FloorValue, d = b.Lives || b.Value >= FloorValue;
        if (c != d && State.ReserveNeed > 0)
            return c ? -1 : 1;
        if (hardness[s] != hardness[t])
            return hardness[s].CompareTo(hardness[t]);
        if (State.MemoryOf[a.Server] != State.MemoryOf[b.Server])
            return State.MemoryOf[b.Server].CompareTo(State.MemoryOf[a.Server]);
        if (a.Lives != b.Lives)
            return a.Lives ? -1 : 1;
        // One that still serves before one that is lost already.
        bool lostA = IsLost(a.Server), lostB = IsLost(b.Server);
        if (lostA != lostB)
            return lostA ? 1 : -1;
        return s != t ? s.CompareTo(t) : Order(a.Server).CompareTo(Order(b.Server));
    }

    private bool IsLost(int i) => State.Home[i] >= 0 && (State.Closed[State.Home[i]] & Rules.Dead) != 0;

    private int Order(int i) => _position.TryGetValue(i, out int p) ? p : _position[i] = _position.Count;

    /// <summary>Hosts that a service may use; fewer is harder, and dedicated is harder than shared.</summary>
    private int Hardness(int s)
    {
        int hosts = State.Hosts;
        if (State.Eligible[s] is bool[] eligible)
        {
            hosts = 0;
            foreach (bool may in eligible)
                hosts += may ? 1 : 0;
        }

        return (hosts * 2) - (State.IsDedicated[s] ? 1 : 0) - (State.LicenceOf[s] >= 0 ? hosts : 0);
    }

    private bool PlaceInOrder(List<(int Server, bool Lives, double Value)> wants)
    {
        _placedBefore = (int[])_placed.Clone();
        foreach (var (i, lives, _) in wants)
        {
            int s = State.Of[i];
            State.ReserveHolds = !lives && _placed[s] + 1 > _grants[s].Floor;
            int h = _search.Find(i);
            if (h < 0)
                return false;
            State.Set(i, h);
            if (!lives)
                _placed[s]++;
        }

        foreach (var (i, lives, _) in wants)
            NoteMover(i, lives);
        _unplaced.Clear();
        State.ReserveHolds = false;
        return true;
    }

    private void NoteMover(int i, bool lives)
    {
        if (!lives && State.Home[i] < 0)
            return;
        var closed = State.Closed[State.Home[i]];
        FateOf[i] = Fate.None;
        CauseOf[i] = (closed & Rules.Dead) != 0 ? Cause.Dead : (closed & Rules.Suspended) != 0 ? Cause.Suspended : Cause.Rule;
    }

    private void PlaceByValue(List<(int Server, bool Lives, double Value)> wants)
    {
        _unplaced.Clear();
        var failed = new HashSet<(int, long, int, bool)>();
        int firstFailure = -1;
        _forgotten = false;
        foreach (var (i, lives, value) in wants)
        {
            int s = State.Of[i], home = State.At[i];
            // One that made room for another has gone already.
            if (lives && home != State.Home[i])
                continue;
            bool inFloor = value >= FloorValue;
            State.ReserveHolds = !lives && !inFloor;
            int h = _search.Find(i);
            bool set = h >= 0;
            if (set)
                State.Set(i, h);
            else
            {
                var kind = (s, State.MemoryOf[i], State.CoresOf[i], inFloor);
                if (!failed.Contains(kind))
                {
                    int mark = State.Mark;
                    State.Set(i, PlacementState.Nowhere);
                    _dropped.Clear();
                    set = _search.MakeRoom(i, value, out int dropped);
                    if (dropped >= 0)
                        _dropped.Add(dropped);
                    set = set || _search.Clear(i, value, inFloor ? 8 : 2, _dropped) || (inFloor && _packing.Pack(i, value, v => _search.Find(v), _dropped));
                    if (set)
                        NoteRoom(mark, i);
                    else
                    {
                        State.Back(mark);
                        if (!lives)
                            failed.Add(kind);
                    }
                }
            }

            if (set)
            {
                NoteMover(i, lives);
                if (!lives)
                    _placed[s]++;
            }
            else
            {
                firstFailure = firstFailure < 0 ? State.Mark : firstFailure;
                if (!lives)
                    _unplaced.Add(i);
                else
                    Stuck(i, home);
            }
        }

        State.ReserveHolds = false;
        // To be tried again when anything changed since the first of them failed, or one of them was not tried yet.
        _failedAt = State.Mark == firstFailure && !_forgotten ? firstFailure : -1;
    }

    /// <summary>Lets those not wake that would eat into the reserve and may not: the least valued first.</summary>
    private void KeepReserve(IReadOnlyList<Grant> grants)
    {
        while (State.Spare < State.ReserveNeed)
        {
            int least = PlacementState.Nowhere;
            foreach (int i in State.Changed(0))
            {
                if (State.Home[i] < 0 && State.At[i] >= 0 && _placed[State.Of[i]] > grants[State.Of[i]].Floor
                    && (least < 0 || ValueOfLast(State.Of[i]) <= ValueOfLast(State.Of[least])))
                {
                    least = i;
                }
            }

            if (least < 0)
                return;
            State.Set(least, PlacementState.Nowhere);
            Forget(least);
        }
    }

    /// <summary>A server that must leave and finds no place: asleep when its host is to be emptied, else it stays.</summary>
    private void Stuck(int i, int home)
    {
        if ((State.Closed[home] & Rules.Suspended) != 0 && (State.Closed[home] & (Rules.Dead | Rules.Silent)) == 0)
        {
            State.Set(i, PlacementState.Nowhere);
            FateOf[i] = Fate.NoRoom;
            Forget(i);
        }
        else
            _cannot.Add(i);
    }

    /// <summary>Takes a server off its count; it is tried again as one that is to wake.</summary>
    private void Forget(int i)
    {
        _placed[State.Of[i]]--;
        _unplaced.Add(i);
        _forgotten = true;
    }

    /// <summary>Notes who made room for whom, and what was dropped.</summary>
    private void NoteRoom(int mark, int i)
    {
        foreach (int v in State.Changed(mark))
        {
            // What was lifted in thought and set back made no room.
            if (v == i || (State.At[v] >= 0 && State.At[v] == State.Home[v]))
                continue;
            For[v] = i;
            if (v < CauseOf.Length && State.Home[v] >= 0 && State.At[v] >= 0 && CauseOf[v] == Cause.None)
                CauseOf[v] = Cause.Room;
        }

        foreach (int v in _dropped)
        {
            For[v] = i;
            if (State.Home[v] >= 0)
                FateOf[v] = Fate.Drop;
            Forget(v);
        }
    }

    private void MoveInChamber(int i, string rule)
    {
        Rule[i] = rule;
        int best = PlacementState.Nowhere;
        for (int h = 0; h < State.Hosts; h++)
        {
            if (State.Fits(i, h) && (best < 0 || State.MemoryCap[h] - State.Memory[h] > State.MemoryCap[best] - State.Memory[best]))
                best = h;
        }

        if (best < 0)
        {
            _cannot.Add(i);
            return;
        }

        State.Set(i, best);
        NoteMover(i, lives: true);
    }

    // ---- mending

    /// <summary>Moves servers from the fault domains with most of their service to those with at least two fewer.</summary>
    private void MendSpread()
    {
        for (int s = 0; s < State.Services; s++)
        {
            if (State.DomainCount[s] is not int[] counts || _grants[s].Still is not null)
                continue;
            while (MendOne(s, counts))
            {
            }
        }
    }

    private bool MendOne(int s, int[] counts)
    {
        int least = State.LeastInDomain(s);
        var candidates = new List<int>();
        foreach (int i in _members[s])
        {
            if (State.At[i] >= 0 && State.StillOf[i] == Still.Free && counts[State.Domain[State.At[i]]] - least >= 2)
                candidates.Add(i);
        }

        if (candidates.Count == 0)
            return false;
        candidates.Sort((a, b) =>
        {
            int x = counts[State.Domain[State.At[a]]], y = counts[State.Domain[State.At[b]]];
            return x != y ? y.CompareTo(x) : Later(a, b);
        });
        foreach (int i in candidates)
        {
            int h = _search.Find(i, thorough: true, domainBelow: counts[State.Domain[State.At[i]]] - 1);
            if (h < 0)
                continue;
            Shift(i, h, Cause.Spread);
            return true;
        }

        return false;
    }

    /// <summary>One that does not live yet is moved first, then the one moved longest ago.</summary>
    private int Later(int a, int b)
    {
        bool x = State.Home[a] >= 0, y = State.Home[b] >= 0;
        if (x != y)
            return x ? 1 : -1;
        if (!x)
            return a.CompareTo(b);
        var (p, q) = (_input.Servers[a].Mark.ChangedAt, _input.Servers[b].Mark.ChangedAt);
        return p != q ? p.CompareTo(q) : Compare(a, b);
    }

    private void Shift(int i, int h, Cause cause)
    {
        State.Set(i, h);
        if (i < CauseOf.Length && CauseOf[i] == Cause.None)
            CauseOf[i] = cause;
    }

    /// <summary>True when servers wake, or would if there was room.</summary>
    public bool Grows
    {
        get
        {
            foreach (int i in State.Changed(0))
            {
                if (State.Home[i] < 0 && State.At[i] >= 0)
                    return true;
            }

            return _unplaced.Count > 0;
        }
    }

    /// <summary>Notes a move that helps to free a host.</summary>
    public void Gathered(int i, string numbers)
    {
        if (CauseOf[i] != Cause.None)
            return;
        CauseOf[i] = Cause.Gather;
        Rule[i] = numbers;
    }

    /// <summary>Notes a move for balance.</summary>
    public void Balanced(int i)
    {
        if (i < CauseOf.Length && State.Home[i] >= 0 && CauseOf[i] == Cause.None)
            CauseOf[i] = Cause.Balance;
    }

    /// <summary>Moves servers to where those are that they want beside them, where that leaves fewer wishes open.</summary>
    private void MendAffinity()
    {
        for (int s = 0; s < State.Services; s++)
        {
            if (State.Affinity[s] is null || _grants[s].Still is not null)
                continue;
            foreach (int i in _members[s])
            {
                int from = State.At[i];
                if (from < 0 || State.StillOf[i] != Still.Free || State.Misses(i, from) == 0)
                    continue;
                int to = _search.Find(i, thorough: true, domainBelow: State.DomainCount[s] is int[] counts ? counts[State.Domain[from]] : int.MaxValue);
                if (to < 0 || State.Misses(i, to) >= State.Misses(i, from))
                    continue;
                int mark = State.Mark, before = OpenWishes(from) + OpenWishes(to);
                var cause = i < CauseOf.Length ? CauseOf[i] : Cause.None;
                Shift(i, to, Cause.Affinity);
                if (OpenWishes(from) + OpenWishes(to) < before)
                    continue;
                State.Back(mark);
                if (i < CauseOf.Length)
                    CauseOf[i] = cause;
            }
        }
    }

    /// <summary>Wishes for company on a host that are not met.</summary>
    public int OpenWishes(int h)
    {
        int wishes = 0;
        for (int j = State.First[h]; j >= 0; j = State.Next[j])
        {
            if (State.Of[j] >= 0 && !State.InChamber[j])
                wishes += State.Misses(j, h);
        }

        return wishes;
    }

    /// <summary>True when a server that changes hosts leaves its service as spread as it is, and no more wishes for company open.</summary>
    public bool KeepsWishes(int i, int from, int to)
    {
        int s = State.Of[i];
        if (State.DomainCount[s] is int[] counts && State.Domain[from] != State.Domain[to] && counts[State.Domain[to]] + 1 > counts[State.Domain[from]])
            return false;
        if (!State.WishesMatter)
            return true;
        int before = OpenWishes(from) + OpenWishes(to), mark = State.Mark;
        State.Set(i, to);
        bool keeps = OpenWishes(from) + OpenWishes(to) <= before;
        State.Back(mark);
        return keeps;
    }

    /// <summary>
    /// Servers of one service are as good as each other: nobody wakes while another goes to sleep for want of room, one that can
    /// stay where it lives stays, and another takes the place it was meant to have.
    /// </summary>
    private void Interchange()
    {
        var sleepers = new Dictionary<int, List<int>>();
        var comers = new Dictionary<int, List<int>>();
        var seen = new HashSet<int>();
        foreach (int i in State.Changed(0))
        {
            if (!seen.Add(i) || State.InChamber[i] || State.At[i] == State.Home[i])
                continue;
            if (State.At[i] >= 0)
                Add(comers, i);
            else if (State.Home[i] >= 0 && !IsLost(i) && FateOf[i] is Fate.Surplus or Fate.Drop or Fate.NoRoom)
                Add(sleepers, i);
        }

        var at = new Dictionary<int, int>();
        for (int s = 0; s < State.Services; s++)
        {
            if (!comers.TryGetValue(s, out var coming))
                continue;
            var sleeping = sleepers.TryGetValue(s, out var list) ? list : [];
            for (int k = 0; k < coming.Count && sleeping.Count > 0; k++)
            {
                int u = coming[k], h = State.At[u];
                if (State.Home[u] >= 0 && !IsLost(u))
                    continue;
                int n = sleeping.FindIndex(v => State.Home[v] == h && Alike(u, v));
                n = n >= 0 ? n : sleeping.FindIndex(v => Alike(u, v) && State.RuledOut(v, h) is null);
                if (n < 0)
                    continue;
                int stays = sleeping[n];
                sleeping.RemoveAt(n);
                State.Set(u, PlacementState.Nowhere);
                State.Set(stays, h);
                FateOf[stays] = Fate.None;
                if (h != State.Home[stays])
                    NoteMover(stays, lives: true);
                coming[k] = stays;
            }

            for (bool changed = true; changed;)
            {
                changed = false;
                at.Clear();
                foreach (int i in coming)
                {
                    if (State.At[i] >= 0 && State.At[i] != State.Home[i])
                        at[State.At[i]] = i;
                }

                foreach (int v in coming)
                {
                    int home = State.Home[v], now = State.At[v];
                    if (home < 0 || now < 0 || now == home || IsClosed(home) || !at.TryGetValue(home, out int u) || u == v || !Alike(u, v)
                        || (now != State.Home[u] && State.RuledOut(u, now) is not null))
                        continue;
                    State.Set(u, now);
                    State.Set(v, home);
                    at.Remove(home);
                    if (now == State.Home[u])
                        at.Remove(now);
                    else
                        at[now] = u;
                    changed = true;
                }
            }

            for (int k = 0; k < coming.Count; k++)
            {
                int v = coming[k], now = State.At[v];
                int n = State.Home[v] < 0 || now < 0 || now == State.Home[v] || IsLost(v) ? -1 : sleeping.FindIndex(x => State.Home[x] == now && !IsClosed(now) && IsAsGood(x, v));
                if (n < 0)
                    continue;
                int stays = sleeping[n];
                sleeping.RemoveAt(n);
                State.Set(v, PlacementState.Nowhere);
                State.Set(stays, now);
                (FateOf[v], FateOf[stays]) = (FateOf[stays], Fate.None);
                if (For.TryGetValue(stays, out int whom))
                    For[v] = whom;
            }
        }

        void Add(Dictionary<int, List<int>> lists, int i)
        {
            if (!lists.TryGetValue(State.Of[i], out var list))
                lists[State.Of[i]] = list = [];
            list.Add(i);
        }

        bool IsClosed(int h) => (State.Closed[h] & (Rules.Dead | Rules.Suspended)) != 0;
    }

    private bool IsAsGood(int a, int b) =>
        Alike(a, b) && _input.Servers[a].Health == _input.Servers[b].Health && _input.Servers[a].Mark.Image == _input.Servers[b].Mark.Image
        // The first is kept in place of the second, which sleeps.
        && (State.Open(b) == 0 || State.Open(a) > 0) && State.MayBeTaken(b) && (!GoesFirst(a) || GoesFirst(b));

    private bool GoesFirst(int i) =>
        State.Service[State.Of[i]].RetireFirst is { Count: > 0 } first && i < _input.Servers.Count && NamePatterns.Match(first, _input.Servers[i].Mark.Name);

    private bool Alike(int a, int b) => State.MemoryOf[a] == State.MemoryOf[b] && State.CoresOf[a] == State.CoresOf[b] && State.UsedOf[a] == State.UsedOf[b];
}
