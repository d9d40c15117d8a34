using System;
using System.Collections.Generic;
using VMatrix.Drivers;

namespace VMatrix.Planning;

/// <summary>Rules that may keep a server away from a host. The order is the order in which reasons name them.</summary>
[Flags]
internal enum Rules
{
    None = 0,
    Role = 1 << 0,
    Silent = 1 << 1,
    Dead = 1 << 2,
    Suspended = 1 << 3,
    PoweredDown = 1 << 4,
    Hosts = 1 << 5,
    RuledOut = 1 << 6,
    Licence = 1 << 7,
    LicenceInstances = 1 << 8,
    Dedicated = 1 << 9,
    AntiAffinity = 1 << 10,
    Memory = 1 << 11,
    Cores = 1 << 12,
    MostServers = 1 << 13,
    Reserve = 1 << 14,
}

/// <summary>Why a server stays as it is, whatever else is planned.</summary>
internal enum Still : byte
{
    Free,
    Claimed,
    Held,
    Failed,
    HostSilent,
    Service,
    Unknown,
}

/// <summary>
/// The pool as arrays of numbers: hosts, services and servers by index, what each host carries, and the rules as tests on them.
/// Servers are set on hosts and lifted from them here; every change is journaled so that a try can be taken back.
/// </summary>
internal sealed class PlacementState
{
    public const int Nowhere = -1;
    private const int Buckets = 256;

    /// <summary>What the platform's best rating is worth against its worst, in room: a quarter of a host.</summary>
    private const int RatingBuckets = Buckets / 4;

    /// <summary>What a host counts as that the platform does not rate beside others that it does.</summary>
    private const double Unrated = 0.5;

    // Hosts.
    public readonly int Hosts;
    public readonly HostSpec[] Host;
    public readonly HostState[] HostNow;
    public readonly Rules[] Closed;
    public readonly long[] MemoryCap;
    public readonly long[] Memory;
    public readonly long[] Used;
    /// <summary>Cores that are there for our servers, without those of foreign machines: what comes must fit.</summary>
    public readonly int[] CoresCap;

    /// <summary>Cores that the pool file states. What runs already is in the way only above these: foreign machines may have more processors than there are cores, and evict nobody.</summary>
    public readonly int[] CoresStated;
    public readonly int[] Cores;
    public readonly int[] Most;
    public readonly int[] Live;
    public readonly int[] Dedicated;
    public readonly int[] Domain;
    public readonly int Domains;
    public readonly int[] First;

    // What has left each host since the beginning: its room is free only once those moves are made.
    public readonly long[] LeavingMemory;
    public readonly int[] LeavingCores;
    public readonly int[] LeavingLive;
    public readonly int[] LeavingDedicated;

    // Services.
    public readonly int Services;
    public readonly ServiceSpec[] Service;
    public readonly bool[] IsDedicated;
    public readonly bool[]?[] Eligible;

    /// <summary>By service, which services it refuses beside it; null where it refuses none.</summary>
    public readonly bool[]?[] Anti;
    public readonly int[]?[] Affinity;
    public readonly int[]?[] DomainCount;
    public readonly int[] LicenceOf;
    public readonly string?[] Image;
    public readonly List<int>[] InMatrix;
    public readonly List<int>[] Dormant;

    /// <summary>Servers in the Matrix on hosts that the pool does not have: counted on, and nothing else.</summary>
    public readonly int[] Outside;

    /// <summary>True where some host holds the blocks of the service's image.</summary>
    public readonly bool[] ImageIsSomewhere;

    // Servers. The first ones are the input's, in its order; new ones follow.
    public readonly ServerOrder Input;

    /// <summary>By server of the input, true where it is in the Matrix on an open host, fares well, may be moved and was not moved lately. Most are, and there is nothing more to be known of them.</summary>
    public readonly bool[] IsSteady;
    public int Count;
    public int[] Of;
    public long[] MemoryOf;
    public long[] UsedOf;
    public int[] CoresOf;
    public int[] At;
    public int[] Home;
    public Still[] StillOf;
    public bool[] InChamber;
    public int[] Next;
    public int[] Prev;

    /// <summary>By server of the input, true where its owner protects it from being taken away; null where no service names any.</summary>
    public readonly bool[]? IsProtected;

    /// <summary>By server of the input, true where its owner wants it never moved for balance; null where no service names any.</summary>
    public readonly bool[]? IsUnbalanced;

    /// <summary>Millionths of a core in use, by host and by server; null where hosts are balanced by memory alone.</summary>
    public readonly long[]? Busy;

    /// <inheritdoc cref="Busy"/>
    public long[]? BusyOf;

    // Licences.
    private readonly LicenceSpec[] _licence;
    private readonly bool[][] _licensed;
    private readonly int[][] _instances;
    private readonly DateTimeOffset?[][] _seatSince;
    private readonly int[] _seats;
    private readonly int[] _extra;
    private readonly int[] _idle;

    // Hosts by how free they are; a host that carries a dedicated server, or is closed, is in no bucket.
    private readonly int[] _bucketHead = new int[Buckets];
    private readonly int[] _bucketNext;
    private readonly int[] _bucketPrev;
    private readonly int[] _bucketOf;
    private readonly double[] _perMemory;
    private readonly double[] _perCore;

    // What the platform says: why hosts are ruled out for services and for single servers, and how it rates them.
    private readonly string?[]?[] _ruledOut;
    private readonly Dictionary<(int Server, int Host), string>? _ruledOutFor;
    private readonly double?[]?[] _rating;
    private readonly HashSet<Guid>? _passedOver;

    // How many fault domains that a service may use hold how many of its servers.
    private readonly int[]?[] _domainsWith;
    private readonly bool[]?[] _domainOpen;

    // Servers on their way, by the number under which they take room where they come from.
    private Dictionary<int, int>? _shadows;

    private readonly List<(int Server, int Host)> _journal = [];
    private readonly long[] _spareOf;
    private readonly List<(long Memory, int Cores, int Most, int Count)> _kinds = [];
    private readonly DateTimeOffset _now;
    private readonly DateTimeOffset _lately;
    private readonly bool _byUse;
    private readonly bool _byMemory;

    /// <param name="input">What the planner may know, its servers in order.</param>
    /// <param name="passedOver">Servers that sleep on, because the hosts that are left to them have no room.</param>
    public PlacementState(PlannerInput input, HashSet<Guid>? passedOver = null)
    {
        _now = input.Now;
        _lately = _now - Economy.StayEnds(input.Pool.Oracle);
        _passedOver = passedOver;
        _byUse = input.Pool.Oracle.BalanceGap is not null;
        _byMemory = input.Pool.Oracle.BalanceBy is not BalanceMeasure.Processor;
        var pool = input.Pool;
        Hosts = pool.Hosts.Count;
        Host = new HostSpec[Hosts];
        HostNow = new HostState[Hosts];
        Closed = new Rules[Hosts];
        MemoryCap = new long[Hosts];
        Memory = new long[Hosts];
        Used = new long[Hosts];
        CoresCap = new int[Hosts];
        CoresStated = new int[Hosts];
        Cores = new int[Hosts];
        Most = new int[Hosts];
        Live = new int[Hosts];
        Dedicated = new int[Hosts];
        Domain = new int[Hosts];
        First = new int[Hosts];
        LeavingMemory = new long[Hosts];
        LeavingCores = new int[Hosts];
        LeavingLive = new int[Hosts];
        LeavingDedicated = new int[Hosts];
        _bucketNext = new int[Hosts];
        _bucketPrev = new int[Hosts];
        _bucketOf = new int[Hosts];
        _perMemory = new double[Hosts];
        _perCore = new double[Hosts];
        _spareOf = new long[Hosts];
        Input = (ServerOrder)input.Servers;
        (HostIndex, ServiceIndex) = (Input.Hosts, Input.Services);
        foreach (var state in input.Hosts)
        {
            if (HostIndex.TryGetValue(state.Name, out int h))
                HostNow[h] = state;
        }

        var domains = new Dictionary<string, int>(StringComparer.Ordinal);
        for (int h = 0; h < Hosts; h++)
        {
            var spec = Host[h] = pool.Hosts[h];
            // A host that nobody reported on is one that does not answer.
            var now = HostNow[h] ??= new HostState { Name = spec.Name, Reachable = false };
            Closed[h] = (spec.Role == HostRole.Matrix ? Rules.None : Rules.Role)
                | (now.ProvenDead ? Rules.Dead : now.PoweredDown ? Rules.PoweredDown : now.Reachable ? Rules.None : Rules.Silent)
                | (now.Suspended ? Rules.Suspended : Rules.None);
            MemoryCap[h] = spec.MemoryBytes;
            Memory[h] = Used[h] = now.ForeignMemoryBytes;
            CoresStated[h] = spec.Cores ?? int.MaxValue / 2;
            CoresCap[h] = spec.Cores is int counted ? Math.Max(0, counted - Math.Max(0, now.ForeignCores)) : CoresStated[h];
            Most[h] = spec.MostServers ?? int.MaxValue;
            _perMemory[h] = (Buckets - 1) / Math.Max(1.0, spec.MemoryBytes);
            _perCore[h] = spec.Cores is int cores ? (Buckets - 1) / Math.Max(1.0, cores) : 0;
            // A host without a fault domain stands alone.
            if (spec.FaultDomain is null)
                Domain[h] = Domains++;
            else if (!domains.TryGetValue(spec.FaultDomain, out Domain[h]))
                domains[spec.FaultDomain] = Domain[h] = Domains++;
            First[h] = Nowhere;
            _bucketOf[h] = Nowhere;
        }

        for (int b = 0; b < Buckets; b++)
            _bucketHead[b] = Nowhere;

        Services = pool.Services.Count;
        Service = new ServiceSpec[Services];
        IsDedicated = new bool[Services];
        Eligible = new bool[Services][];
        Anti = new bool[Services][];
        Affinity = new int[Services][];
        DomainCount = new int[Services][];
        _domainsWith = new int[Services][];
        _domainOpen = new bool[Services][];
        LicenceOf = new int[Services];
        Image = new string?[Services];
        InMatrix = new List<int>[Services];
        Dormant = new List<int>[Services];
        Outside = new int[Services];
        ImageIsSomewhere = new bool[Services];
        var images = new HashSet<string>(StringComparer.Ordinal);
        for (int h = 0; h < Hosts; h++)
        {
            if (HostNow[h].Images.Count > 0)
                images.UnionWith(HostNow[h].Images);
        }

        var licences = new Dictionary<string, int>(StringComparer.Ordinal);
        var terms = new List<LicenceSpec>();
        foreach (var licence in pool.Licences)
        {
            if (!licences.ContainsKey(licence.Name))
            {
                licences[licence.Name] = terms.Count;
                terms.Add(licence);
            }
        }

        for (int s = 0; s < Services; s++)
        {
            var spec = Service[s] = pool.Services[s];
            IsDedicated[s] = spec.Isolation == Isolation.Dedicated;
            var (from, to) = Input.ServersOf(s);
            InMatrix[s] = new List<int>(to - from);
            Dormant[s] = [];
            Image[s] = input.Images.TryGetValue(spec.Name, out string? image) ? image : null;
            ImageIsSomewhere[s] = Image[s] is string version && images.Contains(version);
            Affinity[s] = Indexes(spec.Affinity, s);
            WishesMatter |= Affinity[s] is not null;
            // Refusal is mutual.
            foreach (string other in spec.AntiAffinity)
            {
                if (ServiceIndex.TryGetValue(other, out int t))
                {
                    (Anti[s] ??= new bool[Services])[t] = true;
                    (Anti[t] ??= new bool[Services])[s] = true;
                }
            }

            LicenceOf[s] = Nowhere;
            if (spec.Licence is string name)
            {
                if (!licences.TryGetValue(name, out LicenceOf[s]))
                {
                    licences[name] = LicenceOf[s] = terms.Count;
                    terms.Add(new LicenceSpec { Name = name });
                }
            }
        }

        _licence = [.. terms];
        _licensed = new bool[_licence.Length][];
        _instances = new int[_licence.Length][];
        _seatSince = new DateTimeOffset?[_licence.Length][];
        _seats = new int[_licence.Length];
        _extra = new int[_licence.Length];
        _idle = new int[_licence.Length];
        for (int l = 0; l < _licence.Length; l++)
        {
            _licensed[l] = new bool[Hosts];
            _instances[l] = new int[Hosts];
            _seatSince[l] = new DateTimeOffset?[Hosts];
            for (int h = 0; h < Hosts; h++)
            {
                foreach (string held in Host[h].Licences)
                    _licensed[l][h] |= held == _licence[l].Name;
            }
        }

        for (int s = 0; s < Services; s++)
        {
            var spec = Service[s];
            if (spec.AllowedHosts.Count == 0 && spec.ForbiddenHosts.Count == 0)
                continue;
            var eligible = Eligible[s] = new bool[Hosts];
            for (int h = 0; h < Hosts && spec.AllowedHosts.Count == 0; h++)
                eligible[h] = true;
            foreach (string name in spec.AllowedHosts)
            {
                if (HostIndex.TryGetValue(name, out int h))
                    eligible[h] = true;
            }

            foreach (string name in spec.ForbiddenHosts)
            {
                if (HostIndex.TryGetValue(name, out int h))
                    eligible[h] = false;
            }
        }

        _ruledOut = new string?[Services][];
        _rating = new double?[Services][];
        foreach (var verdict in input.Advice.Verdicts)
        {
            if (verdict.Server is not null || !ServiceIndex.TryGetValue(verdict.Service, out int s) || !HostIndex.TryGetValue(verdict.Host, out int h))
                continue;
            if (verdict.Refusal is string why)
                (_ruledOut[s] ??= new string?[Hosts])[h] ??= why;
            if (verdict.Rating is double rating)
                (_rating[s] ??= new double?[Hosts])[h] = Math.Max(0, Math.Min(1, rating));
        }

        for (int s = 0; s < Services; s++)
        {
            if (!Service[s].Spread)
                continue;
            DomainCount[s] = new int[Domains];
            var open = _domainOpen[s] = new bool[Domains];
            for (int h = 0; h < Hosts; h++)
                open[Domain[h]] |= Closed[h] == Rules.None && MayUse(s, h);
            var with = _domainsWith[s] = new int[16];
            foreach (bool isOpen in open)
                with[0] += isOpen ? 1 : 0;
        }

        Count = Input.Count;
        _ruledOutFor = OfSingleServers(input.Advice.Verdicts);
        Of = new int[Count];
        MemoryOf = new long[Count];
        UsedOf = new long[Count];
        CoresOf = new int[Count];
        At = new int[Count];
        Home = new int[Count];
        StillOf = new Still[Count];
        InChamber = new bool[Count];
        for (int s = 0; s < Services; s++)
        {
            IsProtected ??= Service[s].Protected.Count > 0 ? new bool[Count] : null;
            IsUnbalanced ??= Service[s].NeverBalance.Count > 0 ? new bool[Count] : null;
        }

        if (_byUse && input.Pool.Oracle.BalanceBy is not BalanceMeasure.Memory)
            (Busy, BusyOf) = (new long[Hosts], new long[Count]);
        IsSteady = new bool[Count];
        Next = new int[Count];
        Prev = new int[Count];
        for (int l = 0; l < _licence.Length; l++)
            Seat(l, input);
        for (int i = 0; i < Input.Count; i++)
            Enter(i);
        for (int h = Hosts - 1; h >= 0; h--)
            HostChanged(h);
        var kinds = new Dictionary<(long Memory, int Cores, int Most), int>();
        for (int h = 0; h < Hosts; h++)
        {
            OpenHosts += Closed[h] == Rules.None ? 1 : 0;
            if (Closed[h] == Rules.None)
            {
                AllMemory += MemoryCap[h];
                AllUsed += Used[h];
                var kind = (MemoryCap[h] - HostNow[h].ForeignMemoryBytes, CoresCap[h], Most[h]);
                kinds[kind] = kinds.TryGetValue(kind, out int known) ? known + 1 : 1;
            }

            // The reserve is there for failure: a host that is lost uses it up.
            ReserveHosts -= (Closed[h] & Rules.Role) == 0 && (Closed[h] & (Rules.Dead | Rules.Silent | Rules.Suspended)) != 0 ? 1 : 0;
        }

        foreach (var kind in kinds)
            _kinds.Add((kind.Key.Memory, kind.Key.Cores, kind.Key.Most, kind.Value));
        ReserveHosts = Math.Max(0, pool.Oracle.ReserveHosts + ReserveHosts);
        ReserveNeed = Reserve(ReserveHosts);
        _journal.Clear();
    }

    public Dictionary<string, int> HostIndex { get; }

    public Dictionary<string, int> ServiceIndex { get; }

    /// <summary>Free memory on open hosts; a host with a dedicated server has none.</summary>
    public long Spare { get; private set; }

    /// <summary>Memory that must stay free for the failure of hosts.</summary>
    public long ReserveNeed { get; }

    /// <summary>Memory of the hosts that are open, and how much of it was used at first, in bytes.</summary>
    public double AllMemory { get; }

    /// <inheritdoc cref="AllMemory"/>
    public double AllUsed { get; }

    /// <summary>True when any service wants another beside it.</summary>
    public bool WishesMatter { get; }

    /// <summary>True where the balancer did not tell of some server.</summary>
    public bool AnyUnsampled { get; private set; }

    /// <summary>Hosts that servers can be placed on.</summary>
    public int OpenHosts { get; }

    /// <summary>Hosts' worth of memory that must stay free: the pool's reserve without the hosts that are lost already.</summary>
    public int ReserveHosts { get; }

    /// <summary>True while the reserve binds: not for the least counts, and not for servers that only change hosts.</summary>
    public bool ReserveHolds { get; set; }

    public string Name(int server) => Input[server].Mark.Name;

    /// <summary>Requests that the balancer told are open at a server; 0 where it tells nothing, and for servers that do not exist yet.</summary>
    public int Open(int server) => server < Input.Count && Input[server].OpenRequests is > 0 and int open ? open : 0;

    /// <summary>True for a server that may be taken from its service.</summary>
    public bool MayBeTaken(int server) => IsProtected is null || server >= IsProtected.Length || !IsProtected[server];

    /// <summary>True for a server that may be moved to balance hosts.</summary>
    public bool MayBeBalanced(int server) => IsUnbalanced is null || server >= IsUnbalanced.Length || !IsUnbalanced[server];

    /// <summary>True for a server larger than any open host, where one as its image describes it would find room.</summary>
    public bool IsTooLarge(int i)
    {
        var image = Service[Of[i]].Image;
        if (MemoryOf[i] <= image.MemoryBytes && CoresOf[i] <= image.Cores)
            return false;
        bool others = false;
        foreach (var kind in _kinds)
        {
            if (MemoryOf[i] <= kind.Memory && CoresOf[i] <= kind.Cores)
                return false;
            others |= image.MemoryBytes <= kind.Memory && image.Cores <= kind.Cores;
        }

        return others;
    }

    /// <summary>In what <see cref="Busy"/> counts a core.</summary>
    public const double CoreUnit = 1e6;

    private static long Cores6(double cores) => (long)(cores * CoreUnit);

    private int[]? Indexes(IReadOnlyList<string> names, int self)
    {
        var found = new SortedSet<int>();
        foreach (string name in names)
        {
            if (ServiceIndex.TryGetValue(name, out int s) && s != self)
                found.Add(s);
        }

        if (found.Count == 0)
            return null;
        var indexes = new int[found.Count];
        found.CopyTo(indexes);
        return indexes;
    }

    private Dictionary<(int, int), string>? OfSingleServers(IReadOnlyList<HostVerdict> verdicts)
    {
        Dictionary<(int, int), string>? refusals = null;
        Dictionary<Guid, int>? indexes = null;
        foreach (var verdict in verdicts)
        {
            if (verdict.Server is not Guid id || verdict.Refusal is not string why || !HostIndex.TryGetValue(verdict.Host, out int h))
                continue;
            if (indexes is null)
            {
                indexes = new Dictionary<Guid, int>(Input.Count);
                for (int i = 0; i < Input.Count; i++)
                    indexes[Input[i].Mark.ServerId] = i;
            }

            if (indexes.TryGetValue(id, out int server))
                (refusals ??= [])[(server, h)] = why;
        }

        return refusals;
    }

    /// <summary>True where a service's servers may run at all, whoever else is there.</summary>
    public bool MayUse(int s, int h) => Eligible[s]?[h] != false && _ruledOut[s]?[h] is null && MayHold(s, h);

    /// <summary>Why the platform rules a host out for a service; null when it does not.</summary>
    public string? RuledOutFor(int s, int h) => _ruledOut[s]?[h];

    /// <summary>Why the platform rules a host out for a server; null when it does not.</summary>
    public string? RuledOut(int i, int h) =>
        _ruledOut[Of[i]]?[h] ?? (_ruledOutFor is not null && _ruledOutFor.TryGetValue((i, h), out string? why) ? why : null);

    /// <summary>True when no open host is left for a server because of what the platform says of itself, not of its service: another one may go where it cannot.</summary>
    public bool IsRuledOutEverywhere(int i)
    {
        if (_ruledOutFor is null)
            return false;
        bool any = false;
        for (int h = 0; h < Hosts; h++)
        {
            if (Closed[h] != Rules.None || !MayUse(Of[i], h))
                continue;
            if (!_ruledOutFor.ContainsKey((i, h)))
                return false;
            any = true;
        }

        return any;
    }

    /// <summary>The open hosts that the platform rules out for a server because of itself, not of its service, as a text that is the same for servers that are tied alike; null for none.</summary>
    public string? Ties(int i)
    {
        string? ties = null;
        for (int h = 0; h < Hosts && _ruledOutFor is not null; h++)
        {
            if (Closed[h] == Rules.None && MayUse(Of[i], h) && _ruledOutFor.ContainsKey((i, h)))
                ties += Words.Text($"{h} ");
        }

        return ties;
    }

    /// <summary>How the platform rates a host for a service, from 0 to 1; null when it does not.</summary>
    public double? Rating(int s, int h) => _rating[s]?[h];

    /// <summary>How many buckets fuller than it is a host counts as for a service, because the platform likes others better: at most <see cref="RatingBuckets"/>.</summary>
    public int Handicap(int s, int h) => _rating[s] is double?[] ratings ? (int)Math.Round((1 - (ratings[h] ?? Unrated)) * RatingBuckets) : 0;

    private bool MayHold(int s, int h) =>
        LicenceOf[s] < 0 || _licensed[LicenceOf[s]][h] || _licence[LicenceOf[s]].Seats > 0;

    private void Enter(int i)
    {
        var server = Input[i];
        var mark = server.Mark;
        At[i] = Home[i] = Next[i] = Prev[i] = Nowhere;
        int s = Of[i] = Input.ServiceOf(i);
        var image = s < 0 ? null : Service[s].Image;
        MemoryOf[i] = server.MemoryBytes > 0 ? server.MemoryBytes : image?.MemoryBytes ?? 0;
        UsedOf[i] = server.MemoryUsedBytes ?? MemoryOf[i];
        CoresOf[i] = server.Cores > 0 ? server.Cores : image?.Cores ?? 1;
        AnyUnsampled |= server.Sampled == false;
        if (BusyOf is not null)
            BusyOf[i] = Cores6(CoresOf[i] * (server.ProcessorUse ?? 1));
        if (IsProtected is not null && s >= 0)
            IsProtected[i] = NamePatterns.Match(Service[s].Protected, mark.Name);
        if (IsUnbalanced is not null && s >= 0)
            IsUnbalanced[i] = NamePatterns.Match(Service[s].NeverBalance, mark.Name);
        var stage = server.Claimed ? server.ClaimedTo ?? mark.Stage : mark.Stage;
        string? hostName = server.Claimed ? server.ClaimedHost ?? server.Host : server.Host;
        int h = !server.Claimed ? Input.HostOf(i) : hostName is not null && HostIndex.TryGetValue(hostName, out int at) ? at : Nowhere;
        bool held = mark.HeldUntil is DateTimeOffset until && until > _now;
        StillOf[i] = server.Claimed ? Still.Claimed : held ? Still.Held : server.Waits is not null ? Still.Failed : s < 0 ? Still.Unknown : Still.Free;

        // A server on its way still takes room where it comes from: as a shadow of itself that nobody counts on. So does one that runs though
        // its mark says that it sleeps.
        bool comes = server.Claimed && mark.Stage is Stage.Matrix or Stage.Chamber && (stage is not (Stage.Matrix or Stage.Chamber) || server.Host != hostName);
        bool runsOn = !server.Claimed && stage is Stage.Nest or Stage.Disposed && server.Power is PowerState.Running or PowerState.Paused;
        if ((comes || runsOn) && server.Host is not null && HostIndex.TryGetValue(server.Host, out int from))
        {
            int shadow = New(s);
            (_shadows ??= [])[shadow] = i;
            (MemoryOf[shadow], UsedOf[shadow], CoresOf[shadow]) = (MemoryOf[i], UsedOf[i], CoresOf[i]);
            if (BusyOf is not null)
                BusyOf[shadow] = BusyOf[i];
            StillOf[shadow] = Still.Claimed;
            InChamber[shadow] = comes ? mark.Stage == Stage.Chamber : Host[from].Role == HostRole.Chamber;
            Home[shadow] = from;
            Add(shadow, from);
        }

        if (stage == Stage.Nest && !server.Claimed && !held && server.Waits is null && s >= 0 && _passedOver?.Contains(mark.ServerId) != true)
            Dormant[s].Add(i);
        if (stage == Stage.Matrix && h < 0 && s >= 0)
            Outside[s]++;
        if (stage is not (Stage.Matrix or Stage.Chamber) || h < 0)
            return;
        InChamber[i] = stage == Stage.Chamber;
        if (StillOf[i] == Still.Free && (Closed[h] & Rules.Silent) != 0)
            StillOf[i] = Still.HostSilent;
        Home[i] = h;
        IsSteady[i] = StillOf[i] == Still.Free && !InChamber[i] && Closed[h] == Rules.None && mark.ChangedAt <= _lately
            && server.Health is not (ServerHealth.Dead or ServerHealth.Failing or ServerHealth.Hung) && server.Power is not (PowerState.Off or PowerState.Saved);
        if (s >= 0 && !InChamber[i])
            InMatrix[s].Add(i);
        Add(i, h);
    }

    /// <summary>The server that takes room under another number where it comes from; <see cref="Nowhere"/> for any other number.</summary>
    public int ShadowOf(int i) => _shadows is not null && _shadows.TryGetValue(i, out int server) ? server : Nowhere;

    /// <summary>Adds a server that does not exist yet.</summary>
    public int New(int s)
    {
        if (Count == Of.Length)
        {
            int size = Math.Max(16, Count + (Count / 8));
            Array.Resize(ref Of, size);
            Array.Resize(ref MemoryOf, size);
            Array.Resize(ref UsedOf, size);
            Array.Resize(ref CoresOf, size);
            Array.Resize(ref At, size);
            Array.Resize(ref Home, size);
            Array.Resize(ref StillOf, size);
            Array.Resize(ref InChamber, size);
            Array.Resize(ref Next, size);
            Array.Resize(ref Prev, size);
            if (BusyOf is not null)
                Array.Resize(ref BusyOf, size);
        }

        int i = Count++;
        Of[i] = s;
        if (s >= 0)
        {
            MemoryOf[i] = UsedOf[i] = Service[s].Image.MemoryBytes;
            CoresOf[i] = Service[s].Image.Cores;
        }

        if (BusyOf is not null)
            BusyOf[i] = Cores6(CoresOf[i]);

        At[i] = Home[i] = Next[i] = Prev[i] = Nowhere;
        return i;
    }

    // ---- changes

    /// <summary>Where the journal stands; to go back to with <see cref="Back"/>.</summary>
    public int Mark => _journal.Count;

    /// <summary>Sets a server on a host, or lifts it (<see cref="Nowhere"/>).</summary>
    public void Set(int i, int h)
    {
        if (At[i] == h)
            return;
        _journal.Add((i, At[i]));
        Put(i, h);
    }

    /// <summary>Takes changes back to a mark.</summary>
    public void Back(int mark)
    {
        for (int j = _journal.Count - 1; j >= mark; j--)
            Put(_journal[j].Server, _journal[j].Host);
        _journal.RemoveRange(mark, _journal.Count - mark);
    }

    /// <summary>Servers that were changed since a mark, in order; one may come more than once.</summary>
    public IEnumerable<int> Changed(int mark)
    {
        for (int j = mark; j < _journal.Count; j++)
            yield return _journal[j].Server;
    }

    private void Put(int i, int h)
    {
        int from = At[i];
        if (from >= 0)
        {
            Remove(i, from);
            HostChanged(from);
            if (from == Home[i])
                Leaving(i, from, +1);
        }

        if (h >= 0)
        {
            if (h == Home[i])
                Leaving(i, h, -1);
            Add(i, h);
            HostChanged(h);
        }
    }

    private void Leaving(int i, int h, int by)
    {
        LeavingMemory[h] += by * MemoryOf[i];
        LeavingCores[h] += by * CoresOf[i];
        LeavingLive[h] += by;
        LeavingDedicated[h] += IsAlone(i) ? by : 0;
    }

    /// <summary>True when a server that fits on a host would fit there also before anything has left it.</summary>
    public bool FitsNow(int i, int h) =>
        LeavingLive[h] == 0
        || (Memory[h] + LeavingMemory[h] + MemoryOf[i] <= MemoryCap[h] && Cores[h] + LeavingCores[h] + CoresOf[i] <= CoresCap[h]
            && Live[h] + LeavingLive[h] < Most[h] && Dedicated[h] + LeavingDedicated[h] == 0 && !(IsDedicated[Of[i]] && Live[h] + LeavingLive[h] > 0));

    private void Add(int i, int h)
    {
        int s = Of[i];
        At[i] = h;
        Next[i] = First[h];
        Prev[i] = Nowhere;
        if (First[h] >= 0)
            Prev[First[h]] = i;
        First[h] = i;
        Memory[h] += MemoryOf[i];
        Used[h] += UsedOf[i];
        Cores[h] += CoresOf[i];
        if (Busy is not null)
            Busy[h] += BusyOf![i];
        Live[h]++;
        // A server that nobody describes is nobody's company.
        if (!InChamber[i] && (s < 0 || IsDedicated[s]))
            Dedicated[h]++;
        if (s < 0 || InChamber[i])
            return;
        if (DomainCount[s] is int[] counts)
            Shift(s, Domain[h], counts, +1);
        int l = LicenceAt(s, h);
        if (l >= 0 && _instances[l][h]++ == 0 && !_licensed[l][h])
        {
            if (_seatSince[l][h] is not DateTimeOffset since)
                _extra[l]++;
            else if (since + _licence[l].ReassignAfter <= _now)
                _idle[l]--;
        }
    }

    private void Remove(int i, int h)
    {
        int s = Of[i];
        At[i] = Nowhere;
        if (Prev[i] >= 0)
            Next[Prev[i]] = Next[i];
        else
            First[h] = Next[i];
        if (Next[i] >= 0)
            Prev[Next[i]] = Prev[i];
        Memory[h] -= MemoryOf[i];
        Used[h] -= UsedOf[i];
        Cores[h] -= CoresOf[i];
        if (Busy is not null)
            Busy[h] -= BusyOf![i];
        Live[h]--;
        if (!InChamber[i] && (s < 0 || IsDedicated[s]))
            Dedicated[h]--;
        if (s < 0 || InChamber[i])
            return;
        if (DomainCount[s] is int[] counts)
            Shift(s, Domain[h], counts, -1);
        int l = LicenceAt(s, h);
        if (l >= 0 && --_instances[l][h] == 0 && !_licensed[l][h])
        {
            if (_seatSince[l][h] is not DateTimeOffset since)
                _extra[l]--;
            else if (since + _licence[l].ReassignAfter <= _now)
                _idle[l]++;
        }
    }

    // Nothing runs on a host that is proven dead: its licence stays with it as long as it must, and is not in use.
    private int LicenceAt(int s, int h) => (Closed[h] & Rules.Dead) != 0 ? Nowhere : LicenceOf[s];

    private void Shift(int s, int domain, int[] counts, int by)
    {
        int before = counts[domain], after = counts[domain] = before + by;
        if (!_domainOpen[s]![domain])
            return;
        if (after >= _domainsWith[s]!.Length)
            Array.Resize(ref _domainsWith[s], after * 2);
        _domainsWith[s]![before]--;
        _domainsWith[s]![after]++;
    }

    /// <summary>In how many fault domains there are open hosts that a spread service may use.</summary>
    public int DomainsOpen(int s)
    {
        int open = 0;
        foreach (bool is_ in _domainOpen[s]!)
            open += is_ ? 1 : 0;
        return open;
    }

    /// <summary>True where a spread service may use an open host of a fault domain.</summary>
    public bool IsDomainOpen(int s, int domain) => _domainOpen[s]![domain];

    /// <summary>Fewest servers of a spread service in a fault domain that it may use.</summary>
    public int LeastInDomain(int s)
    {
        int[] with = _domainsWith[s]!;
        for (int n = 0; n < with.Length; n++)
        {
            if (with[n] > 0)
                return n;
        }

        return 0;
    }

    private void HostChanged(int h)
    {
        if (Closed[h] != Rules.None)
            return;
        long free = MemoryCap[h] - Memory[h];
        long spare = Dedicated[h] > 0 ? 0 : Math.Max(0, free);
        Spare += spare - _spareOf[h];
        _spareOf[h] = spare;
        int bucket = Dedicated[h] > 0 ? Nowhere : Freeness(h);
        int old = _bucketOf[h];
        if (bucket == old)
            return;
        if (old >= 0)
        {
            if (_bucketPrev[h] >= 0)
                _bucketNext[_bucketPrev[h]] = _bucketNext[h];
            else
                _bucketHead[old] = _bucketNext[h];
            if (_bucketNext[h] >= 0)
                _bucketPrev[_bucketNext[h]] = _bucketPrev[h];
        }

        _bucketOf[h] = bucket;
        if (bucket < 0)
            return;
        _bucketPrev[h] = Nowhere;
        _bucketNext[h] = _bucketHead[bucket];
        if (_bucketHead[bucket] >= 0)
            _bucketPrev[_bucketHead[bucket]] = h;
        _bucketHead[bucket] = h;
    }

    private int Freeness(int h)
    {
        // Where the load is to be balanced, the least used is the emptiest, whatever was promised to its servers.
        if (_byUse)
        {
            double idle = _byMemory ? (MemoryCap[h] - Used[h]) * _perMemory[h] : Buckets - 1;
            if (Busy is not null && _perCore[h] > 0)
                idle = Math.Min(idle, (CoresCap[h] - (Busy[h] / CoreUnit)) * _perCore[h]);
            return Math.Max(0, (int)idle);
        }

        double free = (MemoryCap[h] - Memory[h]) * _perMemory[h];
        if (_perCore[h] > 0)
            free = Math.Min(free, (CoresCap[h] - Cores[h]) * _perCore[h]);
        return Math.Max(0, (int)free);
    }

    /// <summary>The first host of a bucket; the emptiest hosts are in the last bucket.</summary>
    public int FirstIn(int bucket) => _bucketHead[bucket];

    /// <summary>The next host of the same bucket.</summary>
    public int NextIn(int host) => _bucketNext[host];

    public static int BucketCount => Buckets;

    /// <summary>A host's bucket; <see cref="Nowhere"/> when it can take nothing.</summary>
    public int BucketOf(int host) => host < 0 ? Nowhere : _bucketOf[host];

    private long Reserve(int hosts)
    {
        var open = new List<long>();
        for (int h = 0; h < Hosts && hosts > 0; h++)
        {
            if (Closed[h] == Rules.None)
                open.Add(Math.Max(0, MemoryCap[h] - HostNow[h].ForeignMemoryBytes));
        }

        open.Sort();
        long need = 0;
        for (int k = 1; k <= hosts && k <= open.Count; k++)
            need += open[open.Count - k];
        return need;
    }

    /// <summary>How many servers of a service the open hosts could take were they empty, and how many that is by host.</summary>
    public (int Servers, double PerHost) Room(int s)
    {
        var image = Service[s].Image;
        long total = 0, byRoom = 0;
        int hosts = 0;
        // One a host is a limit on how many there can be; beside others it takes no more of a host than its room.
        bool oneAHost = IsDedicated[s] || Anti[s]?[s] == true;
        if (Eligible[s] is null && _ruledOut[s] is null && LicenceOf[s] < 0)
        {
            foreach (var kind in _kinds)
                Count(kind.Memory, kind.Cores, kind.Most, kind.Count);
        }
        else
        {
            for (int h = 0; h < Hosts; h++)
            {
                if (Closed[h] == Rules.None && MayUse(s, h))
                    Count(MemoryCap[h] - HostNow[h].ForeignMemoryBytes, CoresCap[h], Most[h], 1);
            }
        }

        return ((int)Math.Min(int.MaxValue, total), hosts == 0 ? 1 : Math.Max(1, (double)(IsDedicated[s] ? total : byRoom) / hosts));

        void Count(long memory, int cores, int most, int times)
        {
            long n = Math.Min(Math.Min(memory / Math.Max(1, image.MemoryBytes), cores / Math.Max(1, image.Cores)), most);
            if (n <= 0)
                return;
            byRoom += n * times;
            total += (oneAHost ? 1 : n) * times;
            hosts += times;
        }
    }

    // ---- rules

    /// <summary>True when a server may be set on a host.</summary>
    /// <param name="i">The server; it is not on that host.</param>
    /// <param name="h">The host.</param>
    /// <param name="without">A server on that host that is thought away; <see cref="Nowhere"/> for none.</param>
    public bool Fits(int i, int h, int without = Nowhere) => Check(i, h, without, all: false, refused: null) == Rules.None;

    /// <summary>Every rule that keeps a server away from a host.</summary>
    /// <param name="i">The server.</param>
    /// <param name="h">The host.</param>
    /// <param name="refused">Whether the host carries a server that it refuses beside it, where that is known already.</param>
    public Rules Excludes(int i, int h, bool? refused = null) => Check(i, h, Nowhere, all: true, refused);

    /// <summary>Every rule that keeps a server away from a chamber host, wherever it is now.</summary>
    public Rules ExcludesInChamber(int i, int h)
    {
        bool was = InChamber[i];
        InChamber[i] = true;
        var rules = Check(i, h, Nowhere, all: true, refused: null);
        InChamber[i] = was;
        return rules;
    }

    /// <summary>
    /// The one evaluator of what keeps a server away from a host: for the planner by <see cref="Fits"/> and <see cref="Excludes"/>, for moves by
    /// hand and for the preconditions of moves by <see cref="PlacementRules"/>.
    /// </summary>
    /// <param name="i">The server; where it is in the Chamber, chamber hosts are looked at, and who else is there matters for room alone.</param>
    /// <param name="h">The host.</param>
    /// <param name="without">A server on that host that is thought away; <see cref="Nowhere"/> for none.</param>
    /// <param name="all">True to find every rule, false to stop after the first.</param>
    /// <param name="refused">As for <see cref="Excludes"/>.</param>
    private Rules Check(int i, int h, int without, bool all, bool? refused)
    {
        bool live = !InChamber[i];
        var rules = live ? Closed[h] : Closed[h] ^ Rules.Role;
        if (rules != Rules.None && !all)
            return rules;
        int s = Of[i];
        long memory = Memory[h] + MemoryOf[i];
        int cores = Cores[h] + CoresOf[i], others = Live[h], dedicated = Dedicated[h];
        if (without >= 0)
        {
            memory -= MemoryOf[without];
            cores -= CoresOf[without];
            others--;
            dedicated -= IsAlone(without) ? 1 : 0;
        }

        if (memory > MemoryCap[h])
            rules |= Rules.Memory;
        if (cores > CoresCap[h])
            rules |= Rules.Cores;
        if (others >= Most[h])
            rules |= Rules.MostServers;
        if (live && (dedicated > 0 || (others > 0 && (s < 0 || IsDedicated[s]))))
            rules |= Rules.Dedicated;
        if (s < 0 || (rules != Rules.None && !all))
            return rules;
        if (live ? Eligible[s]?[h] == false : !MayRepair(s, h))
            rules |= Rules.Hosts;
        if (RuledOut(i, h) is not null)
            rules |= Rules.RuledOut;
        if (!live)
            return rules;
        if (LicenceOf[s] >= 0 && (all || rules == Rules.None))
            rules |= LicenceRules(s, h, without);
        if (Anti[s] is bool[] anti && (all || rules == Rules.None) && (refused ?? Refuses(anti, h, i, without)))
            rules |= Rules.AntiAffinity;
        if (ReserveHolds && (all || rules == Rules.None) && !KeepsReserve(i, h))
            rules |= Rules.Reserve;
        return rules;
    }

    /// <summary>True where a service's servers may be in the Chamber: a list of allowed hosts that names no chamber host leaves all of them open.</summary>
    private bool MayRepair(int s, int h)
    {
        if (Eligible[s] is not bool[] eligible || eligible[h])
            return true;
        var spec = Service[s];
        foreach (string name in spec.ForbiddenHosts)
        {
            if (name == Host[h].Name)
                return false;
        }

        foreach (string name in spec.AllowedHosts)
        {
            if (HostIndex.TryGetValue(name, out int other) && Host[other].Role == HostRole.Chamber)
                return false;
        }

        return true;
    }

    private bool IsAlone(int i) => !InChamber[i] && (Of[i] < 0 || IsDedicated[Of[i]]);

    /// <summary>True when anything but room decides where a service's servers may run.</summary>
    public bool HasRules(int s) => Eligible[s] is not null || Anti[s] is not null || LicenceOf[s] >= 0 || _ruledOut[s] is not null || _ruledOutFor is not null;

    private bool KeepsReserve(int i, int h)
    {
        if (ReserveNeed == 0)
            return true;
        long takes = IsDedicated[Of[i]] ? _spareOf[h] : MemoryOf[i];
        return Spare - takes >= ReserveNeed;
    }

    /// <summary>True when a server stands beside one of a service that it refuses.</summary>
    public bool IsRefused(int i) => Anti[Of[i]] is bool[] anti && Refuses(anti, At[i], i, Nowhere);

    /// <summary>By host, true where one carries a server that another refuses beside it; null when that refuses none.</summary>
    public bool[]? RefusedBy(int i)
    {
        if (Anti[Of[i]] is not bool[] anti)
            return null;
        var hosts = new bool[Hosts];
        for (int s = 0; s < Services; s++)
        {
            var (from, to) = anti[s] ? Input.ServersOf(s) : (0, 0);
            for (int j = from; j < to; j++)
                Note(j);
        }

        for (int j = Input.Count; j < Count; j++)
        {
            if (Of[j] >= 0 && anti[Of[j]])
                Note(j);
        }

        return hosts;

        void Note(int j)
        {
            if (j != i && At[j] >= 0 && !InChamber[j])
                hosts[At[j]] = true;
        }
    }

    /// <summary>How many servers that it refuses a server stands beside.</summary>
    public int Refusals(int i)
    {
        int refused = 0;
        for (int j = First[At[i]]; j >= 0; j = Next[j])
            refused += j != i && Of[j] >= 0 && !InChamber[j] && Anti[Of[i]]![Of[j]] ? 1 : 0;
        return refused;
    }

    private bool Refuses(bool[] anti, int h, int self, int without)
    {
        for (int j = First[h]; j >= 0; j = Next[j])
        {
            if (j != self && j != without && Of[j] >= 0 && !InChamber[j] && anti[Of[j]])
                return true;
        }

        return false;
    }

    private Rules LicenceRules(int s, int h, int without)
    {
        int l = LicenceOf[s];
        int instances = _instances[l][h];
        if (without >= 0 && Of[without] >= 0 && LicenceOf[Of[without]] == l && !InChamber[without])
            instances--;
        var rules = _licence[l].InstancesPerHost is int most && instances >= most ? Rules.LicenceInstances : Rules.None;
        if (_licensed[l][h])
            return rules;
        if (_licence[l].Seats == 0)
            return rules | Rules.Licence;
        if (_instances[l][h] > 0)
            return rules;
        // An idle licence that may be reassigned is either used here again or by another host.
        int spare = _licence[l].Seats - _seats[l] + _idle[l] - _extra[l];
        if (_seatSince[l][h] is DateTimeOffset since ? since + _licence[l].ReassignAfter <= _now && _extra[l] > 0 && spare < 1 : spare < 1)
            rules |= Rules.Licence;
        return rules;
    }

    /// <summary>True when a server breaks a rule where it stands, whoever else is there.</summary>
    public bool IsMisplaced(int i)
    {
        int s = Of[i], h = At[i];
        if (InChamber[i])
            return (Closed[h] & (Rules.Suspended | Rules.Dead)) != 0;
        if ((Closed[h] & (Rules.Suspended | Rules.Dead | Rules.Role)) != 0)
            return true;
        if (Eligible[s]?[h] == false)
            return true;
        int l = LicenceOf[s];
        return l >= 0 && !_licensed[l][h] && _licence[l].Seats == 0;
    }

    /// <summary>How many services that a server wants beside it are not there.</summary>
    public int Misses(int i, int h)
    {
        if (Affinity[Of[i]] is not int[] wanted)
            return 0;
        int misses = 0;
        foreach (int t in wanted)
            misses += Carries(h, t, i) ? 0 : 1;
        return misses;
    }

    /// <summary>True when a host carries a server of a service, another than <paramref name="but"/>.</summary>
    public bool Carries(int h, int s, int but = Nowhere)
    {
        for (int j = First[h]; j >= 0; j = Next[j])
        {
            if (Of[j] == s && j != but && !InChamber[j])
                return true;
        }

        return false;
    }

    /// <summary>True when the host holds the blocks that the server is made of.</summary>
    public bool HoldsImage(int i, int h)
    {
        var held = HostNow[h].Images;
        if (held.Count == 0)
            return false;
        string? image = i < Input.Count ? Input[i].Mark.Image : Image[Of[i]];
        for (int k = 0; k < held.Count; k++)
        {
            if (held[k] == image)
                return true;
        }

        return false;
    }

    /// <summary>True when a licence would have to be assigned to the host first.</summary>
    public bool NeedsSeat(int i, int h)
    {
        int l = LicenceOf[Of[i]];
        return l >= 0 && !_licensed[l][h] && _instances[l][h] == 0;
    }

    // ---- licences

    /// <summary>Licences that would have to be assigned beyond those there are.</summary>
    public int SeatsOver()
    {
        int over = 0;
        for (int l = 0; l < _licence.Length; l++)
        {
            if (_licence[l].Seats > 0)
                over += Math.Max(0, _extra[l] - Math.Max(0, _licence[l].Seats - _seats[l]) - _idle[l]);
        }

        return over;
    }

    private void Seat(int l, PlannerInput input)
    {
        foreach (var seat in input.Memory?.Seats ?? [])
        {
            if (seat.Licence == _licence[l].Name && HostIndex.TryGetValue(seat.Host, out int h) && !_licensed[l][h] && _seatSince[l][h] is null)
            {
                _seatSince[l][h] = seat.Since;
            }
        }

        // What runs is the truth: a host that runs a licensed server has a licence, since the first of them came, whatever was forgotten.
        var known = (DateTimeOffset?[])_seatSince[l].Clone();
        for (int s = 0; s < Services && _licence[l].Seats > 0; s++)
        {
            if (LicenceOf[s] != l)
                continue;
            for (var (i, to) = Input.ServersOf(s); i < to; i++)
            {
                int h = Input.HostOf(i);
                var mark = Input[i].Mark;
                if (mark.Stage == Stage.Matrix && h >= 0 && !_licensed[l][h] && known[h] is null && (_seatSince[l][h] is not DateTimeOffset since || mark.ChangedAt < since))
                    _seatSince[l][h] = mark.ChangedAt;
            }
        }

        for (int h = 0; h < Hosts; h++)
        {
            if (_seatSince[l][h] is DateTimeOffset since)
            {
                _seats[l]++;
                _idle[l] += since + _licence[l].ReassignAfter <= _now ? 1 : 0;
            }
        }
    }

    /// <summary>The licences that are assigned once the plan is carried out.</summary>
    public IReadOnlyList<LicenceSeat> Seats()
    {
        var all = new List<LicenceSeat>();
        for (int l = 0; l < _licence.Length; l++)
        {
            if (_licence[l].Seats == 0)
                continue;
            var kept = new List<LicenceSeat>();
            var idle = new List<LicenceSeat>();
            for (int h = 0; h < Hosts; h++)
            {
                if (_licensed[l][h])
                    continue;
                if (_instances[l][h] > 0)
                    kept.Add(new LicenceSeat(_licence[l].Name, Host[h].Name, _seatSince[l][h] ?? _now));
                else if (_seatSince[l][h] is DateTimeOffset since)
                    idle.Add(new LicenceSeat(_licence[l].Name, Host[h].Name, since));
            }

            // Seats in use stay; of the idle ones the youngest stay, for the old ones may be given to others.
            idle.Sort((a, b) => a.Since != b.Since ? b.Since.CompareTo(a.Since) : string.CompareOrdinal(a.Host, b.Host));
            for (int k = 0; k < idle.Count && (kept.Count < _licence[l].Seats || idle[k].Since + _licence[l].ReassignAfter > _now); k++)
                kept.Add(idle[k]);
            kept.Sort((a, b) => string.CompareOrdinal(a.Host, b.Host));
            all.AddRange(kept);
        }

        return all;
    }
}
