using System;
using System.Collections.Generic;
using System.Text;

namespace VMatrix.Planning;

/// <summary>Why each candidate was excluded, in counts and nearest misses, and which rules cannot hold together. Words are made only for what is told.</summary>
internal sealed class PlacementReasons
{
    private static readonly (Rules Rule, string Counted, string Named)[] s_words =
    [
        (Rules.Silent, "not answering", "hosts that do not answer"),
        (Rules.Dead, "proven dead", "hosts proven dead"),
        (Rules.Suspended, "suspended", "suspended hosts"),
        (Rules.PoweredDown, "powered down", "hosts powered down"),
        (Rules.Hosts, "not allowed", "allowed and forbidden hosts"),
        (Rules.RuledOut, "ruled out", "hosts that are ruled out"),
        (Rules.Licence, "without a licence", "licences"),
        (Rules.LicenceInstances, "with the licence's most instances", "the licence's instances a host"),
        (Rules.Dedicated, "taken by a server that shares with no other", "isolation"),
        (Rules.AntiAffinity, "with a server that it refuses", "anti-affinity"),
        (Rules.Memory, "short of memory", "memory"),
        (Rules.Cores, "short of cores", "cores"),
        (Rules.MostServers, "with their most servers", "most servers a host"),
        (Rules.Reserve, "kept in reserve", "the reserve for the failure of hosts"),
    ];

    /// <summary>Of the platform's own reasons so many are told, the most frequent ones.</summary>
    private const int MostPlatformReasons = 3;

    private readonly Placement _placement;
    private readonly PlacementState _state;
    private readonly PlannerInput _input;
    private readonly Census?[] _census;
    private readonly List<RefusedMove> _refused = [];
    private readonly List<RefusedMove> _notInOrder = [];

    public PlacementReasons(Placement placement, PlannerInput input)
    {
        _placement = placement;
        _state = placement.State;
        _input = input;
        _census = new Census?[_state.Services];
        Short = new RefusedMove?[_state.Services];
    }

    public IReadOnlyList<RefusedMove> Refused => _refused;

    /// <summary>Of those, what was placed and found no room at any step.</summary>
    public IReadOnlyList<RefusedMove> NotInOrder => _notInOrder;

    /// <summary>By service, why servers found no place; null where all found one.</summary>
    public RefusedMove?[] Short { get; }

    /// <summary>How the hosts stood for a service when its first server was placed.</summary>
    private sealed class Census
    {
        public int Hosts;
        public int Fit;
        public readonly int[] Excluded = new int[15];
        public readonly Dictionary<string, int> RuledOut = [];
        public string? NearRuledOut;
        public int NearHost = -1;
        public Rules NearRules;
        public long NearShort = long.MaxValue;
        public int NearCount = int.MaxValue;
        public string? Text;

        public Census Copy()
        {
            var copy = new Census { Hosts = Hosts, Fit = Fit, NearHost = NearHost, NearRules = NearRules, NearShort = NearShort, NearCount = NearCount, NearRuledOut = NearRuledOut };
            Excluded.CopyTo(copy.Excluded, 0);
            return copy;
        }

        /// <summary>Counts the rules that exclude a host. Returns how many there are.</summary>
        public int Add(Rules rules, int times)
        {
            int count = 0;
            for (int b = 0, left = (int)rules; left != 0; b++, left >>= 1)
            {
                Excluded[b] += (left & 1) * times;
                count += left & 1;
            }

            return count;
        }
    }

    /// <summary>Counts the hosts for servers that are to be placed, once for each service. Those that ask for the same room and have no rules of their own see the same hosts.</summary>
    public void Look(IEnumerable<int> servers)
    {
        var alike = new Dictionary<(long Memory, int Cores, bool IsDedicated), Census>();
        foreach (int i in servers)
        {
            int s = _state.Of[i];
            if (_census[s] is not null || _state.InChamber[i])
                continue;
            if (_state.HasRules(s))
            {
                _census[s] = Count(i, null);
                continue;
            }

            var kind = (_state.MemoryOf[i], _state.CoresOf[i], _state.IsDedicated[s]);
            if (!alike.TryGetValue(kind, out var census))
                alike[kind] = census = Count(i, null, withOwn: true);
            // One that leaves a host does not count that; where it is the nearest miss, another is.
            _census[s] = _state.At[i] < 0 ? census : census.NearHost == _state.At[i] ? Count(i, null) : Without(census, i, _state.At[i]);
        }
    }

    private Census Without(Census census, int i, int h)
    {
        if ((_state.Closed[h] & Rules.Role) != 0)
            return census;
        var without = census.Copy();
        var rules = _state.Excludes(i, h);
        without.Fit -= rules == Rules.None ? 1 : 0;
        without.Add(rules, -1);
        return without;
    }

    private Census Count(int i, HashSet<Rules>? all, bool withOwn = false)
    {
        var census = new Census();
        int own = withOwn ? PlacementState.Nowhere : _state.At[i];
        bool[]? refused = _state.RefusedBy(i);
        for (int h = 0; h < _state.Hosts; h++)
        {
            if ((_state.Closed[h] & Rules.Role) != 0)
                continue;
            census.Hosts++;
            if (h == own)
                continue;
            var rules = _state.Excludes(i, h, refused?[h]);
            all?.Add(rules);
            if (rules == Rules.None)
            {
                census.Fit++;
                continue;
            }

            int bits = census.Add(rules, 1);

            string? ruledOut = _state.RuledOut(i, h);
            if (ruledOut is not null)
                census.RuledOut[ruledOut] = census.RuledOut.TryGetValue(ruledOut, out int known) ? known + 1 : 1;
            long lacks = (rules & Rules.Memory) != 0 ? _state.Memory[h] + _state.MemoryOf[i] - _state.MemoryCap[h] : 0;
            if (bits < census.NearCount || (bits == census.NearCount && lacks < census.NearShort))
                (census.NearHost, census.NearRules, census.NearCount, census.NearShort, census.NearRuledOut) = (h, rules, bits, lacks, ruledOut);
        }

        return census;
    }

    /// <summary>Where a server could go, in words and in brackets; empty when nobody looked.</summary>
    public string Where(int i)
    {
        var census = _census[_state.Of[i]];
        return census is null ? "" : census.Text ??= $" ({Tell(census)})";
    }

    private string Tell(Census census)
    {
        var text = new StringBuilder(Words.Text($"{census.Fit} of {census.Hosts} hosts could take it"));
        string before = "; excluded: ";
        foreach (var (rule, counted, _) in s_words)
        {
            int n = census.Excluded[Bit(rule)];
            if (n == 0)
                continue;
            text.Append(before).Append(Words.Text($"{n} {counted}"));
            if (rule == Rules.RuledOut)
                text.Append(" (").Append(PlatformReasons(census.RuledOut)).Append(')');
            before = ", ";
        }

        if (census.NearHost >= 0)
            text.Append("; nearest miss ").Append(Miss(census.NearHost, census.NearRules, census.NearShort, census.NearRuledOut));
        return text.ToString();
    }

    /// <summary>How many hosts the platform rules out for a service, and why, in brackets; empty when it rules out none.</summary>
    public string RuledOut(int s)
    {
        var reasons = new Dictionary<string, int>();
        int hosts = 0, count = 0;
        for (int h = 0; h < _state.Hosts; h++)
        {
            if ((_state.Closed[h] & Rules.Role) != 0)
                continue;
            hosts++;
            if (_state.RuledOutFor(s, h) is not string why)
                continue;
            count++;
            reasons[why] = reasons.TryGetValue(why, out int known) ? known + 1 : 1;
        }

        return count == 0 ? "" : Words.Text($" ({count} of {hosts} hosts ruled out: {PlatformReasons(reasons)})");
    }

    private static string PlatformReasons(Dictionary<string, int> reasons)
    {
        var sorted = new List<KeyValuePair<string, int>>(reasons);
        sorted.Sort((a, b) => a.Value != b.Value ? b.Value.CompareTo(a.Value) : string.CompareOrdinal(a.Key, b.Key));
        var text = new StringBuilder();
        for (int k = 0; k < sorted.Count && k < MostPlatformReasons; k++)
        {
            text.Append(k == 0 ? "" : "; ");
            if (sorted.Count > 1)
                text.Append(Words.Text($"{sorted[k].Value}: "));
            text.Append(sorted[k].Key);
        }

        return sorted.Count <= MostPlatformReasons ? text.ToString() : text.Append(Words.Text($"; and {sorted.Count - MostPlatformReasons} reasons more")).ToString();
    }

    /// <summary>The rules as reasons name them.</summary>
    public static IReadOnlyList<string> Names(Rules rules)
    {
        var names = new List<string>();
        foreach (var (rule, _, named) in s_words)
        {
            if ((rules & rule) != 0)
                names.Add(named);
        }

        return names;
    }

    /// <summary>What keeps a server away from a host, in words.</summary>
    public string Lacks(int i, int h, Rules rules)
    {
        string miss = Miss(h, rules, _state.Memory[h] + _state.MemoryOf[i] - _state.MemoryCap[h], _state.RuledOut(i, h));
        return miss.Substring(_state.Host[h].Name.Length + 2);
    }

    private string Miss(int h, Rules rules, long lacks, string? ruledOut)
    {
        var text = new StringBuilder(_state.Host[h].Name).Append(": ");
        string before = "";
        foreach (var (rule, counted, _) in s_words)
        {
            if ((rules & rule) == 0)
                continue;
            text.Append(before).Append(rule == Rules.Memory ? Words.Text($"{Math.Ceiling(lacks / 1048576.0):0} MiB short") : rule == Rules.RuledOut ? $"{counted}: {ruledOut}" : counted);
            before = ", ";
        }

        return text.ToString();
    }

    private static int Bit(Rules rule)
    {
        int bit = 0;
        for (int value = (int)rule; value > 1; value >>= 1)
            bit++;
        return bit;
    }

    // ---- refusals

    /// <summary>Tells that a service's servers may not be moved though they should.</summary>
    public void RefuseStill(int s, int wake = 0, int hibernate = 0)
    {
        var grant = _placement.Grants[s];
        string name = _state.Service[s].Name;
        if (wake > 0)
            _refused.Add(new RefusedMove($"wake {Words.Servers(wake)} of {name}", $"{grant.Still}; it would be because {grant.WhyMore()}"));
        if (hibernate > 0)
            _refused.Add(new RefusedMove($"hibernate {Words.Servers(hibernate)} of {name}", $"{grant.Still}; it would be because {grant.WhyFewer(grant.Granted < grant.Needs)}"));
    }

    /// <summary>Tells what could not be placed and why, by service, and what stays where it should not be.</summary>
    public void Refuse(List<int> unplaced, IEnumerable<int> stuck)
    {
        var first = new Dictionary<int, (int Server, int Count)>();
        foreach (int i in unplaced)
        {
            int s = _state.Of[i];
            first[s] = first.TryGetValue(s, out var known) ? (known.Server, known.Count + 1) : (i, 1);
        }

        for (int s = 0; s < _state.Services; s++)
        {
            if (!first.TryGetValue(s, out var wish))
                continue;
            var grant = _placement.Grants[s];
            int placed = _placement.Placed(s);
            _state.ReserveHolds = placed + 1 > grant.Floor;
            string wanted = placed < grant.Floor ? Words.Text($"{grant.Floor} servers of {_state.Service[s].Name} that it cannot be without") : Words.Text($"{grant.Granted} servers of {_state.Service[s].Name}");
            Short[s] = new RefusedMove($"wake {Words.Servers(wish.Count)} of {_state.Service[s].Name}", $"{Cannot(wish.Server, wanted)}; {grant.WhyMore()}");
            _state.ReserveHolds = false;
        }

        var sorted = new List<int>(stuck);
        sorted.Sort();
        foreach (int i in sorted)
        {
            if (_state.At[i] < 0 || _state.At[i] != _state.Home[i] || i >= _placement.FateOf.Length)
                continue;
            string host = _state.Host[_state.At[i]].Name, why = _placement.Rule.TryGetValue(i, out string? rule) ? $"{host} {rule}" : $"{host} is not for it";
            _refused.Add(new RefusedMove(
                $"move {_state.Name(i)} away from {host}",
                _state.InChamber[i] ? $"{why}, but no other chamber host has room" : $"{why}, but {Cannot(i, Words.Text($"a place for {_state.Name(i)}"))}"));
        }

        // What may not be moved stays on hosts that are to be emptied; told once a service and host.
        var told = new HashSet<(int, int)>();
        for (int h = 0; h < _state.Hosts; h++)
        {
            if ((_state.Closed[h] & (Rules.Suspended | Rules.Dead)) == 0)
                continue;
            for (int i = _state.First[h]; i >= 0; i = _state.Next[i])
            {
                if (_state.Of[i] < 0 || _state.StillOf[i] is not (Still.Service or Still.Held or Still.Failed) || !told.Add((_state.Of[i], h)))
                    continue;
                string? why = _state.StillOf[i] == Still.Held ? $"it was moved by hand and is held until {_input.Servers[i].Mark.HeldUntil:u}" : _state.StillOf[i] == Still.Failed ? _input.Servers[i].Waits : _placement.Grants[_state.Of[i]].Still;
                if (why is not null)
                    _refused.Add(new RefusedMove($"move {_state.Name(i)} away from {_state.Host[h].Name}", $"{_state.Host[h].Name} {((_state.Closed[h] & Rules.Dead) != 0 ? "is proven dead" : "is suspended")}, but {why}"));
            }
        }
    }

    /// <summary>Tells that a server finds no room at any step, though there would be room in the end.</summary>
    public void NoRoomYet(int i, int h)
    {
        var refused = new RefusedMove($"bring a server of {_state.Service[_state.Of[i]].Name} to {_state.Host[h].Name}", "no order of the moves frees the room for it; the next plan tries again");
        _refused.Add(refused);
        _notInOrder.Add(refused);
    }

    /// <summary>Why no host can take a server: the smallest set of rules that together exclude every host, what each excludes, and the nearest miss.</summary>
    private string Cannot(int i, string wanted)
    {
        var masks = new HashSet<Rules>();
        var census = Count(i, masks);
        if (census.Hosts == 0)
            return "the pool has no matrix host";
        var text = new StringBuilder("these cannot hold together: ").Append(wanted);
        int smallest = SmallestSet(masks);
        foreach (var (rule, _, named) in s_words)
        {
            if ((smallest & (int)rule) != 0)
                text.Append(", ").Append(named);
        }

        return text.Append(" (").Append(Tell(census)).Append(')').ToString();
    }

    /// <summary>The smallest set of rules that holds at least one of those that exclude each host (an exact minimum hitting set; there are few rules).</summary>
    internal static int SmallestSet(IReadOnlyCollection<Rules> masks)
    {
        int all = 0, best = 0, bestBits = int.MaxValue;
        foreach (var mask in masks)
            all |= (int)mask;
        for (int set = all; set > 0; set = (set - 1) & all)
        {
            int bits = 0;
            for (int value = set; value > 0; value &= value - 1)
                bits++;
            if (bits > bestBits || (bits == bestBits && set > best))
                continue;
            bool hits = true;
            foreach (var mask in masks)
                hits &= ((int)mask & set) != 0;
            if (hits)
                (best, bestBits) = (set, bits);
        }

        return best;
    }
}
