using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using VMatrix.Drivers;

namespace VMatrix.Simulation;

/// <summary>How a simulated host is.</summary>
public enum HostCondition
{
    /// <summary>All is well.</summary>
    Up,

    /// <summary>Nothing runs on it and it does not answer.</summary>
    Dead,

    /// <summary>It runs on, but neither we nor the balancer reach it.</summary>
    CutOff,

    /// <summary>It answers questions and its machines serve, but every change fails.</summary>
    HalfDead,

    /// <summary>It was powered down.</summary>
    PoweredDown,
}

/// <summary>What a simulated fault does.</summary>
public enum FaultKind
{
    /// <summary>The call fails for a passing reason.</summary>
    Fail,

    /// <summary>The call fails and will fail again.</summary>
    FailForGood,

    /// <summary>The call never comes back by itself.</summary>
    Hang,

    /// <summary>The disk that is written to is full.</summary>
    DiskFull,
}

/// <summary>At what point of a call a fault strikes.</summary>
public enum FaultPoint
{
    /// <summary>Before anything was changed.</summary>
    Before,

    /// <summary>In the middle: an unfinished copy or file is there.</summary>
    Midway,

    /// <summary>When the effect was made and only the answer was lost.</summary>
    After,
}

/// <summary>A fault that waits for a call to strike.</summary>
public sealed record SimulatedFault
{
    /// <summary>The fault's id.</summary>
    public Guid Id { get; init; } = Guid.NewGuid();

    /// <summary>The driver call, such as <c>Save</c> for <see cref="IHypervisor.SaveAsync"/> or <c>Join</c> for <see cref="IBalancer.JoinAsync"/>; null for any.</summary>
    public string? Operation { get; init; }

    /// <summary>The server; null for any.</summary>
    public Guid? ServerId { get; init; }

    /// <summary>What it does.</summary>
    public FaultKind Kind { get; init; }

    /// <summary>At what point it strikes.</summary>
    public FaultPoint Point { get; init; }

    /// <summary>How many calls it strikes before it is gone.</summary>
    public int Count { get; init; } = 1;
}

/// <summary>Virtual hosts, the machines on them, a nest and a balancer, on any clock: what the simulation drivers drive, and where tests make trouble. Kept in a file beside the nest, or in memory only.</summary>
public sealed class SimulatedWorld
{
    private readonly WorldLog _log;
    private int _chances;

    private SimulatedWorld(PoolSpec pool, TimeProvider clock, WorldLog log)
    {
        Pool = pool;
        Clock = clock;
        _log = log;
        Settings = pool.Simulation;
    }

    /// <summary>The pool that it stands for.</summary>
    public PoolSpec Pool { get; }

    /// <summary>Its clock.</summary>
    public TimeProvider Clock { get; }

    /// <summary>Requests per second that users make of a service; the pool file's <c>demand</c> unless replaced.</summary>
    public Func<string, DateTimeOffset, double>? Demand { get; set; }

    /// <summary>With <see cref="SimulationSpec.SharedDisks"/>: true where nothing locks a disk, so that only the caller's own proof keeps a server from living twice.</summary>
    public bool WithoutDiskLocks { get; set; }

    internal SimulationSpec Settings { get; }

    /// <summary>True to keep what was counted at each reading, so that the next one need not count from the last change on. For a world that only one process sees.</summary>
    internal bool SettlesWhenRead { get; init; }

    /// <summary>The world that several processes share, kept in the folder <c>simulation</c> of the pool's nest; made at the first change.</summary>
    public static SimulatedWorld Open(PoolSpec pool, TimeProvider clock) => new(pool, clock, WorldLog.Open(FolderOf(pool), pool.Simulation.Seed));

    /// <summary>A world that lives as long as the object.</summary>
    public static SimulatedWorld InMemory(PoolSpec pool, TimeProvider clock) => new(pool, clock, WorldLog.InMemory(pool.Simulation.Seed));

    /// <summary>A world that one simulation has for itself.</summary>
    internal static SimulatedWorld ForTrial(PoolSpec pool, TimeProvider clock) => new(pool, clock, WorldLog.InMemory(pool.Simulation.Seed)) { SettlesWhenRead = true };

    /// <summary>Brings every service's counters up to now and returns them, in the pool file's order.</summary>
    internal IReadOnlyList<WorldService> Settle() => Change(state =>
    {
        foreach (var service in Pool.Services)
            Account(state, service.Name);
        return Pool.Services.Select(service => state.Services[service.Name]).ToArray();
    });

    /// <summary>Begins a window whose requests are counted by themselves: those that wait now came before it.</summary>
    internal void BeginWindow() => Change(state =>
    {
        foreach (var service in Pool.Services)
        {
            Account(state, service.Name);
            var counters = state.Services[service.Name];
            state.Put(counters with { Early = counters.Queue, EarlyServed = 0, EarlyRefused = 0 });
        }
    });

    /// <summary>Servers in the Matrix by service, in the pool file's order.</summary>
    internal int[] CountLive() => Read(state =>
    {
        var counts = Pool.Services.ToDictionary(service => service.Name, _ => 0, StringComparer.Ordinal);
        foreach (var host in Pool.Hosts)
        {
            foreach (var machine in state.At(host.Name))
            {
                if (machine is { Partial: false, Power: PowerState.Running, Mark: { Stage: Stage.Matrix } mark } && counts.TryGetValue(mark.Service, out int count))
                    counts[mark.Service] = count + 1;
            }
        }

        return Pool.Services.Select(service => counts[service.Name]).ToArray();
    });

    /// <summary>Drops what this process has read of a pool's world, as if it had just started.</summary>
    public static void Forget(PoolSpec pool) => WorldLog.Forget(FolderOf(pool));

    /// <summary>Changes how a host is. A host that dies takes the memory of its machines with it; one that comes back shows them stopped.</summary>
    public void SetHost(string host, HostCondition condition) => Change(state => SetHost(state, host, condition, byPoolFile: false));

    /// <summary>How a host is.</summary>
    public HostCondition GetHost(string host) => Read(state => EffectiveCondition(state, host));

    /// <summary>Makes a fault wait for a call to strike.</summary>
    public void Inject(SimulatedFault fault) => Change(state => state.Put(fault));

    /// <summary>Takes every waiting fault away.</summary>
    public void ClearFaults() => Change(state =>
    {
        foreach (var fault in state.Faults.Values.ToArray())
            state.Put(fault with { Count = 0 });
    });

    /// <summary>Makes the guest of a running server hang: the machine runs and does not answer.</summary>
    public void Hang(Guid server) => Change(state =>
    {
        foreach (var machine in state.Copies(server).Where(copy => copy.Power == PowerState.Running).ToArray())
        {
            Account(state, machine.Mark!.Service);
            state.Put(machine with { Hung = true, Since = Clock.GetUtcNow() });
        }
    });

    /// <summary>Spoils an image version: servers that are made from it start and never answer.</summary>
    public void SpoilImage(string service, string version) => Change(state => state.Put(state.Versions[(service, version)] with { Spoiled = true }));

    /// <summary>Ends the machine of a running server as a crash does: its memory is lost.</summary>
    public void Crash(Guid server) => Change(state =>
    {
        foreach (var machine in state.Copies(server).Where(copy => copy.Power == PowerState.Running).ToArray())
            Crash(state, machine, "its process ended");
    });

    /// <summary>Puts a machine on a host that VMatrix knows nothing of. Returns its machine id.</summary>
    public string AddForeign(string host, string name, long memoryBytes) => Change(state =>
    {
        var minted = state.Mint();
        var id = minted.ToString("N");
        state.Put(new WorldMachine { Key = id, Id = id, Name = name, Place = host, Power = PowerState.Running, Address = NewAddress(state, host, minted), MemoryBytes = memoryBytes, Since = Clock.GetUtcNow() });
        return id;
    });

    /// <summary>Clones a server with all that is written on it, as an administrator's copy does. Returns the clone's machine id.</summary>
    public string Clone(Guid server, string host) => Change(state =>
    {
        var id = state.Mint().ToString("N");
        state.Put(state.Copies(server).First() with { Key = id, Id = id, Place = host, Power = PowerState.Off, Address = null });
        return id;
    });

    /// <summary>Puts many servers into the world at once, without moves: running on the host given with them, or dormant in the nest without one.</summary>
    public void Populate(IEnumerable<(ServerMark Mark, string? Host)> servers) => Change(state =>
    {
        var now = Clock.GetUtcNow();
        var services = Pool.Services.ToDictionary(service => service.Name);
        foreach (var (mark, host) in servers)
        {
            var id = state.Mint().ToString("N");
            var service = services[mark.Service];
            if (!state.Images.ContainsKey(service.Name))
                state.PutImage(service.Name, mark.Image);
            var machine = new WorldMachine
            {
                Key = id,
                Id = id,
                Name = mark.Name,
                Mark = mark with { MachineId = id },
                Place = host ?? WorldState.Nest,
                Power = host is null ? PowerState.Off : PowerState.Running,
                MemoryBytes = service.Image.MemoryBytes,
                Cores = service.Image.Cores,
                ReadyAt = now,
                Since = now,
            };
            if (host is not null)
                machine = machine with { Address = NewAddress(state, host, mark.ServerId) };
            state.Put(machine);
            if (host is not null && mark.Stage == Stage.Matrix)
            {
                Account(state, service.Name);
                state.Put(SimulatedBalancer.NewMember(state, service.Name, mark.ServerId, machine.Address!, now));
            }
        }
    });

    /// <summary>
    /// What must never have happened or be left over while no move is under way, as sentences: a server that lived twice, one that was
    /// taken from under its requests, an address that got traffic and had nobody, an unfinished copy, a machine that is none of <paramref name="known"/>.
    /// </summary>
    public IReadOnlyList<string> Leftovers(IReadOnlyCollection<Guid> known) => Read(state =>
    {
        var wrong = new List<string>(state.Violations);
        foreach (var machine in state.Machines.Values)
        {
            if (machine.Partial)
                wrong.Add($"An unfinished copy of {machine.Name} ({machine.Mark?.ServerId}) is left over in {machine.Place}.");
            else if (WorldState.IsOurs(machine) && !known.Contains(machine.Mark!.ServerId))
                wrong.Add($"{machine.Name} ({machine.Mark.ServerId}) in {machine.Place} should not exist.");
        }

        foreach (var copies in state.Machines.Values.Where(machine => !machine.Partial && WorldState.IsOurs(machine)).GroupBy(machine => machine.Mark!.ServerId).Where(copies => copies.Count() > 1))
            wrong.Add($"{copies.First().Name} ({copies.Key}) exists {copies.Count()} times: in {string.Join(", ", copies.Select(copy => copy.Place))}.");
        return wrong;
    });

    internal T Read<T>(Func<WorldState, T> read) => _log.Read(read);

    internal void Change(Action<WorldState> change) => Change(state =>
    {
        change(state);
        return true;
    });

    internal T Change<T>(Func<WorldState, T> change, CancellationToken cancellation = default) => _log.Change(state =>
    {
        FollowPoolFile(state);
        return change(state);
    }, cancellation);

    /// <summary>True with the given likelihood, by seed, moment and count of calls.</summary>
    internal bool Chance(double likelihood)
    {
        if (likelihood <= 0)
            return false;
        unchecked
        {
            var seed = (Settings.Seed * 397) ^ (int)Clock.GetUtcNow().Ticks ^ (int)(Clock.GetUtcNow().Ticks >> 32) ^ (++_chances * 7919);
            return new Random(seed).NextDouble() < likelihood;
        }
    }

    /// <summary>The condition that counts: the pool file's word before what was set since.</summary>
    internal HostCondition EffectiveCondition(WorldState state, string host) =>
        ByPoolFile(host) is var said and not HostCondition.Up ? said
        : state.Hosts.TryGetValue(host, out var known) && !known.ByPoolFile ? (known.UpAt > Clock.GetUtcNow() ? HostCondition.PoweredDown : known.Condition)
        : HostCondition.Up;

    /// <summary>Null when the machine answers its health check at a moment, else why not.</summary>
    internal string? Answers(WorldState state, WorldMachine machine, DateTimeOffset at) => machine switch
    {
        { Power: not PowerState.Running } => "connection refused: no machine runs there.",
        _ when EffectiveCondition(state, machine.Place) is HostCondition.Dead or HostCondition.CutOff or HostCondition.PoweredDown => $"timed out: {machine.Place} is not reached.",
        { Hung: true } => "timed out: the connection is accepted and nothing comes.",
        _ when at < machine.ReadyAt => "timed out: the machine is still starting.",
        _ => null,
    };

    internal void Crash(WorldState state, WorldMachine machine, string why)
    {
        if (machine.Mark is { } mark)
            Account(state, mark.Service);
        var now = Clock.GetUtcNow();
        state.Put(machine with { Power = PowerState.Off, Address = null, Hung = false, Since = now, Problem = $"It stopped by itself at {now:u}: {why}." });
    }

    /// <summary>Brings a service's counters up to now, before something changes that they depend on.</summary>
    internal void Account(WorldState state, string service)
    {
        if (Pool.Services.FirstOrDefault(spec => spec.Name == service) is { } known)
            state.Put(SimulatedBalancer.Count(this, state, known, Clock.GetUtcNow()));
    }

    /// <summary>Refuses the calls of a decider that was followed by another one.</summary>
    internal static void Admit(WorldState state, DriverCall call)
    {
        if (call.Epoch == 0 || call.Epoch == state.Epoch)
            return;
        if (call.Epoch < state.Epoch)
            throw new VMatrixException("StaleEpoch", VMatrixErrorKind.Busy, $"A call with epoch {call.Epoch} is refused: a decider with epoch {state.Epoch} has taken over since.");
        state.RaiseEpoch(call.Epoch);
    }

    internal static string NewAddress(WorldState state, string host, Guid server)
    {
        var port = 20000 + (int)((uint)server.GetHashCode() % 40000);
        while (state.AtAddress($"{host}:{port}") is not null)
            port = port < 60000 ? port + 1 : 20000;
        return $"{host}:{port}";
    }

    private static string FolderOf(PoolSpec pool) => Path.Combine(pool.Nest.Folder, "simulation");

    private HostCondition ByPoolFile(string host) =>
        Settings.Dead.Contains(host) ? HostCondition.Dead
        : Settings.CutOff.Contains(host) ? HostCondition.CutOff
        : Settings.HalfDead.Contains(host) ? HostCondition.HalfDead
        : HostCondition.Up;

    // What the pool file says of hosts takes effect, with all that follows from it, at the next change.
    private void FollowPoolFile(WorldState state)
    {
        foreach (var host in Settings.Dead.Concat(Settings.CutOff).Concat(Settings.HalfDead))
        {
            if (!state.Hosts.TryGetValue(host, out var known) || known.Condition != ByPoolFile(host))
                SetHost(state, host, ByPoolFile(host), byPoolFile: true);
        }

        foreach (var known in state.Hosts.Values.Where(known => known.ByPoolFile && known.Condition != ByPoolFile(known.Name)).ToArray())
            SetHost(state, known.Name, HostCondition.Up, byPoolFile: false);
    }

    private void SetHost(WorldState state, string host, HostCondition condition, bool byPoolFile)
    {
        foreach (var service in state.At(host).Select(machine => machine.Mark?.Service).Where(service => service is not null).Distinct().ToArray())
            Account(state, service!);
        if (condition is HostCondition.Dead or HostCondition.PoweredDown)
        {
            foreach (var machine in state.At(host).Where(machine => machine.Power is PowerState.Running or PowerState.Paused).ToArray())
                Crash(state, machine, $"{host} went down");
        }

        state.Put(new WorldHost(host, condition, Clock.GetUtcNow(), byPoolFile));
    }
}
