using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Drivers;

namespace VMatrix.Planning;

/// <summary>What <see cref="PlacementRules"/> says of one server and one host.</summary>
internal sealed record PlacementVerdict
{
    /// <summary>Every rule that keeps the server away; none where it fits.</summary>
    public required Rules Rules { get; init; }

    /// <summary>Bytes of memory that the server needs.</summary>
    public long MemoryBytes { get; init; }

    /// <summary>Bytes of memory that others leave free on the host; negative where more is promised than there is.</summary>
    public long FreeMemoryBytes { get; init; }

    /// <summary>Cores that the server needs.</summary>
    public int Cores { get; init; }

    /// <summary>Cores that others leave free on the host; without meaning where the pool file states none.</summary>
    public int FreeCores { get; init; }

    /// <summary>The pool's other servers on the host, those on their way included.</summary>
    public IReadOnlyList<string> Others { get; init; } = [];

    /// <summary>The one of them that shares with no other, or that this one cannot be beside; null for none.</summary>
    public string? Alone { get; init; }

    /// <summary>The one of them whose service and this one's refuse each other, and its service; null for none.</summary>
    public (string Name, string Service)? Refused { get; init; }

    /// <summary>Of them, how many need this one's licence.</summary>
    public int Instances { get; init; }
}

/// <summary>
/// Whether a server may be on a host: the planner's own test (<see cref="PlacementState.Excludes"/>) for moves by hand, for the preconditions
/// of moves that are carried out, and for updates. What one of them allows, all allow.
/// </summary>
internal sealed class PlacementRules
{
    private static readonly DateTimeOffset s_anyTime = new(2000, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private readonly PlacementState _state;
    private readonly Dictionary<Guid, int> _index = [];

    /// <param name="input">The pool as it is: hosts, and all servers, claimed ones with where they go.</param>
    public PlacementRules(PlannerInput input)
    {
        _state = new PlacementState(input with { Servers = ServerOrder.Of(input.Pool, input.Servers) });
        for (int i = 0; i < _state.Input.Count; i++)
            _index[_state.Input[i].Mark.ServerId] = i;
    }

    /// <summary>Checks a server of the pool against a host.</summary>
    /// <param name="server">The server's id.</param>
    /// <param name="to">The Chamber or the Matrix.</param>
    /// <param name="host">The host's name.</param>
    public PlacementVerdict Check(Guid server, Stage to, string host)
    {
        int i = _index[server], h = _state.HostIndex[host], mark = _state.Mark, count = _state.Count;
        bool inChamber = _state.InChamber[i];
        _state.Set(i, PlacementState.Nowhere);
        // One on its way takes room where it comes from too, under another number.
        for (int j = _state.Input.Count; j < count; j++)
        {
            if (_state.ShadowOf(j) == i)
                _state.Set(j, PlacementState.Nowhere);
        }

        _state.InChamber[i] = to is Stage.Chamber;
        var verdict = Look(i, h);
        _state.InChamber[i] = inChamber;
        _state.Back(mark);
        return verdict;
    }

    /// <summary>Checks a server against a host from what is known of that host alone; licences that other hosts use are not counted.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="server">The server, wherever it is.</param>
    /// <param name="to">The Chamber or the Matrix.</param>
    /// <param name="host">The host.</param>
    /// <param name="occupants">The pool's servers on the host, and those on their way there with that host as theirs.</param>
    public static PlacementVerdict Check(PoolSpec pool, ServerState server, Stage to, HostState host, IEnumerable<ServerState> occupants)
    {
        ServerState[] servers = [server with { Host = null, Claimed = false, Mark = server.Mark with { Stage = Stage.Nest } }, .. occupants.Where(o => o.Mark.ServerId != server.Mark.ServerId)];
        var services = new HashSet<string>(servers.Select(s => s.Mark.Service), StringComparer.Ordinal);
        var own = pool.Services.FirstOrDefault(s => s.Name == server.Mark.Service);
        return new PlacementRules(new PlannerInput
        {
            // The rest of a large pool says nothing here.
            Pool = pool with
            {
                Hosts = [.. pool.Hosts.Where(h => h.Name == host.Name || own?.AllowedHosts.Contains(h.Name) == true)],
                Services = [.. pool.Services.Where(s => services.Contains(s.Name))],
            },
            // Of one host no rule depends on the time.
            Now = s_anyTime,
            Hosts = [host],
            Servers = servers,
            Loads = new Dictionary<string, IReadOnlyList<ServiceLoad>>(),
        }).Check(server.Mark.ServerId, to, host.Name);
    }

    /// <summary>A server as the rules see it, from what is known of it: its size, its service and where it is.</summary>
    public static ServerState Server(Guid id, string name, string service, Stage stage, string? host, long memoryBytes, int cores) => new()
    {
        Mark = new ServerMark { ServerId = id, Name = name, Service = service, Image = "", Stage = stage, StateId = default, CreatedAt = default, ChangedAt = default },
        Host = host,
        Power = stage is Stage.Matrix or Stage.Chamber ? PowerState.Running : PowerState.Saved,
        MemoryBytes = memoryBytes,
        Cores = cores,
    };

    private PlacementVerdict Look(int i, int h)
    {
        var rules = _state.Excludes(i, h);
        int s = _state.Of[i];
        var others = new List<string>();
        string? alone = null;
        (string, string)? refused = null;
        int instances = 0;
        for (int j = _state.First[h]; j >= 0; j = _state.Next[j])
        {
            int t = _state.Of[j];
            int known = j < _state.Input.Count ? j : _state.ShadowOf(j);
            string name = known >= 0 ? _state.Name(known) : "a server on its way";
            others.Add(name);
            if (_state.InChamber[j])
                continue;
            alone = t < 0 || _state.IsDedicated[t] ? name : alone;
            if (t >= 0 && s >= 0 && _state.Anti[s]?[t] == true)
                refused ??= (name, _state.Service[t].Name);
            instances += t >= 0 && s >= 0 && _state.LicenceOf[s] >= 0 && _state.LicenceOf[t] == _state.LicenceOf[s] ? 1 : 0;
        }

        return new PlacementVerdict
        {
            Rules = rules,
            MemoryBytes = _state.MemoryOf[i],
            FreeMemoryBytes = _state.MemoryCap[h] - _state.Memory[h],
            Cores = _state.CoresOf[i],
            FreeCores = _state.CoresCap[h] - _state.Cores[h],
            Others = others,
            Alone = alone ?? (others.Count > 0 ? others[0] : null),
            Refused = refused,
            Instances = instances,
        };
    }
}
