using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Planning;

/// <summary>What is free on one host, now and once the plan's moves away from it are done.</summary>
internal sealed class Room
{
    public Room(HostSpec spec, HostState state)
    {
        Spec = spec;
        State = state;
    }

    public HostSpec Spec { get; }

    public HostState State { get; }

    /// <summary>Servers on it now, with those that this plan brings.</summary>
    public int Servers { get; private set; }

    /// <summary>Memory held now, with what this plan brings.</summary>
    public long Memory { get; private set; }

    /// <summary>Dedicated servers on it now, with those that this plan brings.</summary>
    public int Dedicated { get; private set; }

    private int _leavingServers;
    private long _leavingMemory;
    private int _leavingDedicated;

    /// <summary>Moves of this plan that free room here.</summary>
    public List<Guid> FreedBy { get; } = [];

    public bool Usable => State.Reachable && !State.Suspended && !State.PoweredDown && !State.ProvenDead && Spec.Role == HostRole.Matrix;

    public void Enter(long memory, Isolation isolation)
    {
        Servers++;
        Memory += memory;
        if (isolation == Isolation.Dedicated)
            Dedicated++;
    }

    public void Leave(long memory, Isolation isolation, Guid move)
    {
        _leavingServers++;
        _leavingMemory += memory;
        if (isolation == Isolation.Dedicated)
            _leavingDedicated++;
        FreedBy.Add(move);
    }

    /// <summary>The rule that keeps one more server away, or null when it fits.</summary>
    /// <param name="service">The server's service.</param>
    /// <param name="memory">Its memory.</param>
    /// <param name="after">True to count room that the plan's moves free.</param>
    public string? Excludes(ServiceSpec service, long memory, bool after)
    {
        if (Spec.Role != HostRole.Matrix)
            return "chamber host";
        if (!State.Reachable)
            return "does not answer";
        if (State.ProvenDead)
            return "proven dead";
        if (State.Suspended)
            return "suspended";
        if (State.PoweredDown)
            return "powered down";
        if (service.AllowedHosts.Count > 0 && !service.AllowedHosts.Contains(Spec.Name))
            return "not allowed";
        if (service.ForbiddenHosts.Contains(Spec.Name))
            return "forbidden";
        if (service.Licence is not null && !Spec.Licences.Contains(service.Licence))
            return "no licence";
        int servers = Servers - (after ? _leavingServers : 0), dedicated = Dedicated - (after ? _leavingDedicated : 0);
        if (service.Isolation == Isolation.Dedicated ? servers > 0 : dedicated > 0)
            return "taken by a server that shares with no other";
        if (Spec.MostServers is int most && servers >= most)
            return "has its most servers";
        if (Memory - (after ? _leavingMemory : 0) + State.ForeignMemoryBytes + memory > Spec.MemoryBytes)
            return "not enough memory";
        return null;
    }

    /// <summary>How many servers of a service fit on the empty host.</summary>
    public int Fits(ServiceSpec service)
    {
        if (service.Image.MemoryBytes > Spec.MemoryBytes - State.ForeignMemoryBytes)
            return 0;
        if (service.Isolation == Isolation.Dedicated)
            return 1;
        long byMemory = (Spec.MemoryBytes - State.ForeignMemoryBytes) / Math.Max(1, service.Image.MemoryBytes);
        return (int)Math.Min(byMemory, Spec.MostServers ?? int.MaxValue);
    }
}

/// <summary>Chooses hosts.</summary>
internal static class Placement
{
    /// <summary>Chooses the host with the most free memory; one that is free now before one that this plan frees.</summary>
    /// <returns>The host, and the moves that must be done first; or no host and why.</returns>
    public static (Room? Room, IReadOnlyList<Guid> After, string Why) Choose(IReadOnlyList<Room> rooms, ServiceSpec service, long memory)
    {
        foreach (bool after in new[] { false, true })
        {
            Room? best = null;
            foreach (var room in rooms)
            {
                if (room.Excludes(service, memory, after) is null && (best is null || Free(room) > Free(best)))
                    best = room;
            }

            if (best is not null)
                return (best, after ? best.FreedBy.ToArray() : [], after ? "freed by this plan" : Words.Text($"{Free(best) >> 20} MiB free"));
        }

        var why = rooms.GroupBy(r => r.Excludes(service, memory, after: true)!, StringComparer.Ordinal).OrderByDescending(g => g.Count()).ThenBy(g => g.Key, StringComparer.Ordinal);
        return (null, [], rooms.Count == 0 ? "the pool has no hosts" : string.Join(", ", why.Select(g => Words.Text($"{g.Count()} {g.Key}"))));

        static long Free(Room room) => room.Spec.MemoryBytes - room.State.ForeignMemoryBytes - room.Memory;
    }
}
