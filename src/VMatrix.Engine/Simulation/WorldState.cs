using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Drivers;

namespace VMatrix.Simulation;

/// <summary>A virtual machine of the simulated world. A copy that is under way, and a second copy, are records of their own.</summary>
internal sealed record WorldMachine
{
    public required string Key { get; init; }

    public required string Id { get; init; }

    public required string Name { get; init; }

    public ServerMark? Mark { get; init; }

    /// <summary>A host's name, <see cref="WorldState.Nest"/> or <see cref="WorldState.DisposedArea"/>.</summary>
    public required string Place { get; init; }

    public PowerState Power { get; init; } = PowerState.Off;

    public string? Address { get; init; }

    public long MemoryBytes { get; init; }

    public int Cores { get; init; } = 1;

    /// <summary>From when on it answers its health check.</summary>
    public DateTimeOffset ReadyAt { get; init; }

    /// <summary>When it last started, stopped or hung.</summary>
    public DateTimeOffset Since { get; init; }

    public bool Hung { get; init; }

    /// <summary>A copy that is not whole yet.</summary>
    public bool Partial { get; init; }

    public string? Problem { get; init; }
}

internal sealed record WorldHost(string Name, HostCondition Condition, DateTimeOffset Since, bool ByPoolFile)
{
    /// <summary>When it answers again after it was woken.</summary>
    public DateTimeOffset UpAt { get; init; }
}

/// <summary>What the simulated balancer counted of a service up to a moment. Sums per member are kept once for all members, so that a change touches one record.</summary>
internal sealed record WorldService
{
    public required string Service { get; init; }

    public DateTimeOffset At { get; init; }

    public double Requests { get; init; }

    public double Served { get; init; }

    public double Refused { get; init; }

    public double Errors { get; init; }

    public double Queue { get; init; }

    /// <summary>Of those that wait, the ones that came before the window that is counted.</summary>
    public double Early { get; init; }

    /// <summary>Of those served, the ones that came before the window.</summary>
    public double EarlyServed { get; init; }

    /// <summary>Of those refused, the ones that came before the window.</summary>
    public double EarlyRefused { get; init; }

    /// <summary>Requests that each member that answers was sent.</summary>
    public double Each { get; init; }

    /// <summary>Requests that each member that does not answer was sent and failed.</summary>
    public double EachLost { get; init; }
}

internal sealed record WorldMember
{
    public required string Service { get; init; }

    public required Guid ServerId { get; init; }

    public required string Address { get; init; }

    public bool Draining { get; init; }

    public DateTimeOffset Since { get; init; }

    /// <summary><see cref="WorldService.Each"/> when it joined, less what it was sent before.</summary>
    public double Each { get; init; }

    public double EachLost { get; init; }
}

/// <summary>An image version in the simulated nest.</summary>
internal sealed record WorldImage
{
    public required string Service { get; init; }

    public required string Version { get; init; }

    /// <summary>What it was published from; null for the owner's own.</summary>
    public PublishedImage? Published { get; init; }

    /// <summary>The move that published it.</summary>
    public Guid Move { get; init; }

    /// <summary>Servers of it start and never answer.</summary>
    public bool Spoiled { get; init; }
}

/// <summary>The version of a service that was selected, and the owner's at that moment: it counts until that one changes.</summary>
internal sealed record WorldSelection(string Version, string Owner);

internal sealed record WorldBalancer(bool Running, int Incarnation);

/// <summary>One change of the world: the records that are new in it.</summary>
internal sealed class WorldChange
{
    public List<WorldMachine>? Machines { get; set; }

    public List<string>? Gone { get; set; }

    public List<WorldHost>? Hosts { get; set; }

    public Dictionary<string, string>? Images { get; set; }

    public List<WorldImage>? Versions { get; set; }

    public Dictionary<string, WorldSelection>? Selected { get; set; }

    public List<WorldService>? Services { get; set; }

    public List<WorldMember>? Members { get; set; }

    public List<Guid>? Left { get; set; }

    public List<SimulatedFault>? Faults { get; set; }

    public WorldBalancer? Balancer { get; set; }

    public long? Epoch { get; set; }

    public long? Minted { get; set; }

    public List<string>? Violations { get; set; }
}

/// <summary>The simulated world in memory, with the indexes that keep a question about one host cheap.</summary>
internal sealed class WorldState(int seed)
{
    public const string Nest = "(nest)";
    public const string DisposedArea = "(disposed)";

    private readonly Dictionary<string, Dictionary<string, WorldMachine>> _places = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<string, SortedSet<string>> _blocks = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<Guid, List<string>> _servers = [];
    private readonly Dictionary<string, string> _addresses = [];
    private WorldChange? _change;
    private List<Action>? _undo;

    public Dictionary<string, WorldMachine> Machines { get; } = [];

    public Dictionary<string, WorldHost> Hosts { get; } = new(StringComparer.OrdinalIgnoreCase);

    public Dictionary<string, string> Images { get; } = [];

    /// <summary>Every version, by service and version.</summary>
    public Dictionary<(string Service, string Version), WorldImage> Versions { get; } = [];

    public Dictionary<string, WorldSelection> Selected { get; } = [];

    public Dictionary<string, WorldService> Services { get; } = [];

    public Dictionary<Guid, WorldMember> Members { get; } = [];

    public Dictionary<Guid, SimulatedFault> Faults { get; } = [];

    public List<string> Violations { get; } = [];

    public WorldBalancer Balancer { get; private set; } = new(false, 0);

    public long Epoch { get; private set; }

    public long Minted { get; private set; }

    private WorldChange Changing => _change ??= new();

    /// <summary>Image versions of which a host had a server once: their blocks stay there.</summary>
    public IEnumerable<string> Blocks(string host) => _blocks.TryGetValue(host, out var versions) ? versions : [];

    public IEnumerable<WorldMachine> At(string place) => _places.TryGetValue(place, out var machines) ? machines.Values : [];

    /// <summary>Every record of a server: one when all is well and no copy is under way. Clones are not among them.</summary>
    public IEnumerable<WorldMachine> Copies(Guid server) => _servers.TryGetValue(server, out var keys) ? keys.Select(key => Machines[key]) : [];

    public WorldMachine? AtAddress(string address) => _addresses.TryGetValue(address, out var key) ? Machines[key] : null;

    public HostCondition Condition(string host) => Hosts.TryGetValue(host, out var known) ? known.Condition : HostCondition.Up;

    public Guid Mint()
    {
        Minted++;
        Changing.Minted = Minted;
        var bytes = new byte[16];
        var random = new Random(unchecked((seed * 397) ^ (int)Minted ^ 0x5eed));
        random.NextBytes(bytes);
        return new Guid(bytes);
    }

    public void Put(WorldMachine machine)
    {
        Machines.TryGetValue(machine.Key, out var before);
        Index(before, machine);
        (Changing.Machines ??= []).Add(machine);
        Changing.Gone?.Remove(machine.Key);
        Undo(() => Index(machine, before));
        if (machine.Power is PowerState.Running or PowerState.Paused && IsOurs(machine))
        {
            foreach (var other in Copies(machine.Mark!.ServerId))
            {
                if (other.Key != machine.Key && other.Power is PowerState.Running or PowerState.Paused)
                    Violate($"{machine.Name} ({machine.Mark.ServerId}) lives twice: on {other.Place} and on {machine.Place}.");
            }
        }
    }

    public void Remove(WorldMachine machine)
    {
        Index(machine, null);
        (Changing.Gone ??= []).Add(machine.Key);
        Undo(() => Index(null, machine));
    }

    public void Put(WorldHost host)
    {
        Hosts.TryGetValue(host.Name, out var before);
        Hosts[host.Name] = host;
        (Changing.Hosts ??= []).Add(host);
        Undo(() => Restore(Hosts, host.Name, before));
    }

    public void PutImage(string service, string version)
    {
        Images.TryGetValue(service, out var before);
        Images[service] = version;
        (Changing.Images ??= [])[service] = version;
        Undo(() => Restore(Images, service, before));
        if (!Versions.ContainsKey((service, version)))
            Put(new WorldImage { Service = service, Version = version });
    }

    public void Put(WorldImage image)
    {
        Versions.TryGetValue((image.Service, image.Version), out var before);
        Versions[(image.Service, image.Version)] = image;
        (Changing.Versions ??= []).Add(image);
        Undo(() => Restore(Versions, (image.Service, image.Version), before));
    }

    public void Select(string service, WorldSelection selection)
    {
        Selected.TryGetValue(service, out var before);
        Selected[service] = selection;
        (Changing.Selected ??= [])[service] = selection;
        Undo(() => Restore(Selected, service, before));
    }

    public void Put(WorldService service)
    {
        Services.TryGetValue(service.Service, out var before);
        Services[service.Service] = service;
        (Changing.Services ??= []).Add(service);
        Undo(() => Restore(Services, service.Service, before));
    }

    public void Put(WorldMember member)
    {
        Members.TryGetValue(member.ServerId, out var before);
        Members[member.ServerId] = member;
        (Changing.Members ??= []).Add(member);
        Undo(() => Restore(Members, member.ServerId, before));
    }

    public void Remove(WorldMember member)
    {
        Members.Remove(member.ServerId);
        Changing.Members?.RemoveAll(put => put.ServerId == member.ServerId);
        (Changing.Left ??= []).Add(member.ServerId);
        Undo(() => Members[member.ServerId] = member);
    }

    public void Put(SimulatedFault fault)
    {
        Faults.TryGetValue(fault.Id, out var before);
        Restore(Faults, fault.Id, fault.Count > 0 ? fault : null);
        (Changing.Faults ??= []).Add(fault);
        Undo(() => Restore(Faults, fault.Id, before));
    }

    public void Put(WorldBalancer balancer)
    {
        var before = Balancer;
        Balancer = balancer;
        Changing.Balancer = balancer;
        Undo(() => Balancer = before);
    }

    public void RaiseEpoch(long epoch)
    {
        var before = Epoch;
        Epoch = epoch;
        Changing.Epoch = epoch;
        Undo(() => Epoch = before);
    }

    public void Violate(string what)
    {
        Violations.Add(what);
        (Changing.Violations ??= []).Add(what);
        Undo(() => Violations.RemoveAt(Violations.Count - 1));
    }

    public WorldChange? TakeChange()
    {
        var change = _change;
        _change = null;
        _undo = null;
        return change;
    }

    public void RollBack()
    {
        var undo = _undo;
        _change = null;
        _undo = null;
        for (var i = (undo?.Count ?? 0) - 1; i >= 0; i--)
            undo![i]();
    }

    public void Apply(WorldChange change)
    {
        foreach (var machine in change.Machines ?? [])
        {
            Machines.TryGetValue(machine.Key, out var before);
            Index(before, machine);
        }

        foreach (var key in change.Gone ?? [])
        {
            if (Machines.TryGetValue(key, out var before))
                Index(before, null);
        }

        foreach (var host in change.Hosts ?? [])
            Hosts[host.Name] = host;
        foreach (var image in change.Images ?? [])
            Images[image.Key] = image.Value;
        foreach (var image in change.Versions ?? [])
            Versions[(image.Service, image.Version)] = image;
        foreach (var selection in change.Selected ?? [])
            Selected[selection.Key] = selection.Value;
        foreach (var service in change.Services ?? [])
            Services[service.Service] = service;
        foreach (var server in change.Left ?? [])
            Members.Remove(server);
        foreach (var member in change.Members ?? [])
            Members[member.ServerId] = member;
        foreach (var fault in change.Faults ?? [])
            Restore(Faults, fault.Id, fault.Count > 0 ? fault : null);
        Balancer = change.Balancer ?? Balancer;
        Epoch = change.Epoch ?? Epoch;
        Minted = change.Minted ?? Minted;
        Violations.AddRange(change.Violations ?? []);
    }

    public IEnumerable<WorldChange> Snapshot()
    {
        yield return new WorldChange
        {
            Hosts = [.. Hosts.Values],
            Images = Images,
            Versions = [.. Versions.Values],
            Selected = Selected,
            Services = [.. Services.Values],
            Faults = [.. Faults.Values],
            Balancer = Balancer,
            Epoch = Epoch,
            Minted = Minted,
            Violations = Violations,
        };
        foreach (var machine in Machines.Values)
            yield return new WorldChange { Machines = [machine] };
        foreach (var member in Members.Values)
            yield return new WorldChange { Members = [member] };
    }

    /// <summary>A mark that was written for another machine is a copy of a mark: a clone or an import.</summary>
    public static bool IsOurs(WorldMachine machine) => machine.Mark is { } mark && mark.MachineId == machine.Id;

    private static void Restore<TKey, TValue>(Dictionary<TKey, TValue> into, TKey key, TValue? value)
        where TKey : notnull
        where TValue : class
    {
        if (value is null)
            into.Remove(key);
        else
            into[key] = value;
    }

    private void Undo(Action action) => (_undo ??= []).Add(action);

    private void Index(WorldMachine? before, WorldMachine? after)
    {
        if (before is not null)
        {
            Machines.Remove(before.Key);
            _places[before.Place].Remove(before.Key);
            if (before.Address is not null && _addresses.TryGetValue(before.Address, out var holder) && holder == before.Key)
                _addresses.Remove(before.Address);
            if (IsOurs(before) && _servers.TryGetValue(before.Mark!.ServerId, out var keys))
            {
                keys.Remove(before.Key);
                if (keys.Count == 0)
                    _servers.Remove(before.Mark.ServerId);
            }
        }

        if (after is null)
            return;
        Machines[after.Key] = after;
        if (!_places.TryGetValue(after.Place, out var place))
            _places[after.Place] = place = [];
        place[after.Key] = after;
        if (after is { Partial: false, Mark: not null } && after.Place is not (Nest or DisposedArea))
        {
            if (!_blocks.TryGetValue(after.Place, out var blocks))
                _blocks[after.Place] = blocks = new(StringComparer.Ordinal);
            blocks.Add(after.Mark.Image);
        }

        if (after.Address is not null)
            _addresses[after.Address] = after.Key;
        if (IsOurs(after))
        {
            if (!_servers.TryGetValue(after.Mark!.ServerId, out var keys))
                _servers[after.Mark.ServerId] = keys = [];
            keys.Add(after.Key);
        }
    }
}
