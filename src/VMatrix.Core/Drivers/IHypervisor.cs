using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Drivers;

/// <summary>
/// What the code for one kind of hypervisor does. Every changing call is one small effect that is safe to repeat: called again
/// after it was cut short anywhere, it ends in the same state as called once. None of them knows about plans, journals or balancers.
/// Errors are <see cref="VMatrixException"/>; one with <see cref="VMatrixException.IsTransient"/> may be tried again.
/// A server's files or registration are in exactly one <em>place</em>: the nest, a host, or the disposed area.
/// </summary>
public interface IHypervisor : IAsyncDisposable
{
    /// <summary>What this driver can do.</summary>
    HypervisorTraits Traits { get; }

    /// <summary>Asks a host what it is and what runs on it, in one pass. Foreign machines are listed too (<see cref="Machine.Mark"/> null).</summary>
    /// <exception cref="VMatrixException"><c>HostUnreachable</c>: proves nothing about what runs there.</exception>
    Task<HostReport> ReadHostAsync(HostSpec host, CancellationToken cancellation);

    /// <summary>Lists the dormant and the disposed servers, and the images by service.</summary>
    Task<NestReport> ReadNestAsync(CancellationToken cancellation);

    /// <summary>Makes sure that the service's image stands in the nest (imported, and with its warm state where the service asks for one): the one that was selected, else the owner's. Returns the image's version.</summary>
    Task<string> PrepareImageAsync(DriverCall call, ServiceSpec service, HostSpec on, IProgress<string>? progress, CancellationToken cancellation);

    /// <summary>
    /// Makes a new image version of a service from one of its servers: the server's disk as it is at this moment, the rest of the version that
    /// the server was made from, and a warm state of its own where the service asks for one. The server goes on as it was. It must run, or be
    /// dormant without kept memory: a kept memory holds writes that the disk lacks. Called again for the same move it returns the same version.
    /// The version is whole or not there, and nothing is made from it until <see cref="SelectImageAsync"/>.
    /// </summary>
    /// <param name="call">Who calls.</param>
    /// <param name="server">The server.</param>
    /// <param name="service">Its service.</param>
    /// <param name="on">The host it is on; null for the nest.</param>
    /// <param name="cancellation">Ends the call; the server goes on.</param>
    /// <exception cref="VMatrixException"><c>NothingToPublish</c>: the server has no disk. <c>ServerAsleep</c>: it must be woken first.</exception>
    Task<PublishedImage> PublishImageAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec? on, CancellationToken cancellation);

    /// <summary>Makes new servers of a service come from an image version that stands in the nest, until the owner's own files change or another one is selected.</summary>
    /// <exception cref="VMatrixException"><c>ImageNotFound</c>.</exception>
    Task SelectImageAsync(DriverCall call, ServiceSpec service, string version, CancellationToken cancellation);

    /// <summary>Makes a dormant server in the nest from the image version that <paramref name="mark"/> names.</summary>
    Task CreateAsync(DriverCall call, ServerMark mark, ServiceSpec service, CancellationToken cancellation);

    /// <summary>Brings a dormant server from the nest to a host; it stays dormant.</summary>
    Task FetchAsync(DriverCall call, Guid server, HostSpec to, CancellationToken cancellation);

    /// <summary>Brings a dormant server from a host to the nest.</summary>
    Task StowAsync(DriverCall call, Guid server, HostSpec from, CancellationToken cancellation);

    /// <summary>Brings a dormant server from one host to another.</summary>
    Task CarryAsync(DriverCall call, Guid server, HostSpec from, HostSpec to, CancellationToken cancellation);

    /// <summary>Starts a dormant server on the host it is on: wakes it where memory was kept, else boots it. Returns where it will answer, as <c>address:port</c>; it need not answer yet. Refuses unless no other live copy can exist.</summary>
    Task<string> StartAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec on, CancellationToken cancellation);

    /// <summary>Hibernates a running server on its host: memory to a file that is proven whole, then the machine is gone. A save that fails leaves the server running.</summary>
    Task SaveAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation);

    /// <summary>Powers a server off; its memory, kept or live, is lost. Used to dispose.</summary>
    Task StopAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation);

    /// <summary>Moves a running server to another host without stopping it. Only where <see cref="HypervisorTraits.LiveMigration"/>. Returns its new address.</summary>
    Task<string> MigrateAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec from, HostSpec to, CancellationToken cancellation);

    /// <summary>Writes the mark of a server, where it is.</summary>
    /// <param name="call">Who calls.</param>
    /// <param name="mark">The mark to write.</param>
    /// <param name="on">The host it is on; null for the nest and the disposed area.</param>
    /// <param name="cancellation">Ends the call.</param>
    Task MarkAsync(DriverCall call, ServerMark mark, HostSpec? on, CancellationToken cancellation);

    /// <summary>Takes a stopped or dormant server to the disposed area, from a host or (null) from the nest.</summary>
    Task DiscardAsync(DriverCall call, Guid server, HostSpec? from, CancellationToken cancellation);

    /// <summary>Brings a disposed server back to the nest.</summary>
    Task RecoverAsync(DriverCall call, Guid server, CancellationToken cancellation);

    /// <summary>Deletes a disposed server for good.</summary>
    Task EraseAsync(DriverCall call, Guid server, CancellationToken cancellation);

    /// <summary>
    /// Writes our mark on a machine that carries none, or one that does not count because it was copied with the machine; the machine itself
    /// goes on as it is. A mark of the same server by another controller is replaced: the caller has asked its owner. Called again it does nothing.
    /// </summary>
    /// <param name="call">Who calls.</param>
    /// <param name="machineId">The hypervisor's own id of the machine (<see cref="Machine.MachineId"/>); a driver whose ids hold our server id may give it another one.</param>
    /// <param name="mark">The mark to write.</param>
    /// <param name="on">The host that the machine is on; null for the nest.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <exception cref="VMatrixException"><c>MachineNotFound</c>. <c>MachineMarked</c>: it is another server already. <c>ServerExists</c>: another machine has the server's id. <c>MachineNotFit</c> with why.</exception>
    Task AdoptAsync(DriverCall call, string machineId, ServerMark mark, HostSpec? on, CancellationToken cancellation);

    /// <summary>Takes our mark off a server's machine, which goes on as it is and is foreign from then on. A server that is not there is no error: it was let go before.</summary>
    Task ReleaseAsync(DriverCall call, Guid server, HostSpec? on, CancellationToken cancellation);

    /// <summary>
    /// What stands in the way of a server's move to a host, as far as the driver alone can know it: rules of the pool (room, suspended hosts, windows, claims)
    /// are not its part. Changes nothing. What it cannot find out is a finding too, with <see cref="ObstacleSeverity.Warns"/>.
    /// </summary>
    /// <param name="server">The server.</param>
    /// <param name="service">Its service.</param>
    /// <param name="from">The host it is on; null for the nest.</param>
    /// <param name="to">The host it is to go to.</param>
    /// <param name="live">True when it is to move without stopping.</param>
    /// <param name="cancellation">Ends the call.</param>
    Task<IReadOnlyList<MoveObstacle>> CompareAsync(Guid server, ServiceSpec service, HostSpec? from, HostSpec to, bool live, CancellationToken cancellation);

    /// <summary>Tries to prove that a server does not run on a host, for example by locking its disk exclusively. False means not proven, for whatever reason.</summary>
    Task<bool> ProveStoppedAsync(Guid server, HostSpec on, CancellationToken cancellation);
}

/// <summary>Powers hosts down and up: what a hypervisor driver also is where <see cref="HypervisorTraits.HostPower"/>. Both calls are safe to repeat.</summary>
public interface IHostPower
{
    /// <summary>Powers a host down that runs nothing, and returns when it is down (<see cref="HostReport.PoweredDown"/>). Refuses while anything runs on it (<c>HostInUse</c>).</summary>
    Task PowerDownAsync(DriverCall call, HostSpec host, CancellationToken cancellation);

    /// <summary>Begins to power a host up; it need not answer yet. No error when it is up.</summary>
    Task WakeHostAsync(DriverCall call, HostSpec host, CancellationToken cancellation);
}

/// <summary>
/// Knows of hosts what memory, cores and the pool file do not tell: what a hypervisor driver also is where its platform refuses hosts for
/// servers, or likes one better than another. Changes nothing.
/// </summary>
public interface IHostAdviser
{
    /// <summary>What is known of hosts for the pool's servers. Asked before each plan: a driver whose answers cost calls keeps them for a time that its help states.</summary>
    /// <param name="hosts">The hosts that answer.</param>
    /// <param name="cancellation">Ends the call.</param>
    Task<HostAdvice> AdviseAsync(IReadOnlyList<HostSpec> hosts, CancellationToken cancellation);
}

/// <summary>An adviser's answer.</summary>
public sealed record HostAdvice
{
    /// <summary>What is known, in any order; of what is not here nothing is.</summary>
    public IReadOnlyList<HostVerdict> Verdicts { get; init; } = [];

    /// <summary>What could not be found out, as sentences: plans tell them.</summary>
    public IReadOnlyList<string> Problems { get; init; } = [];
}

/// <summary>What a platform says of one host for the servers of a service, or for one of them. Where several speak of the same, every refusal counts and the last rating.</summary>
public sealed record HostVerdict
{
    /// <summary>The host's name.</summary>
    public required string Host { get; init; }

    /// <summary>The service.</summary>
    public required string Service { get; init; }

    /// <summary>The one server, asleep, that it is said of, for what it was kept with; null for all of the service, those too that do not exist yet.</summary>
    public Guid? Server { get; init; }

    /// <summary>
    /// Why nothing of it may be placed there, in a few words that fit behind "ruled out:" and do not name the host, so that hosts with one
    /// reason are counted together; null when it may. What stands there already may stay.
    /// </summary>
    public string? Refusal { get; init; }

    /// <summary>How well the platform likes it, from 0 to 1, for all of the service; null when it does not say. Only hosts that no rule tells apart are told apart by it.</summary>
    public double? Rating { get; init; }
}

/// <summary>What a hypervisor driver can do.</summary>
public sealed record HypervisorTraits
{
    /// <summary>The driver's name in pool files.</summary>
    public required string Name { get; init; }

    /// <summary>True when running machines can move without stopping.</summary>
    public bool LiveMigration { get; init; }

    /// <summary>Hosts that are read at the same time; without end where the driver reads all of them in one pass.</summary>
    public int HostsAtOnce { get; init; } = 32;

    /// <summary>True when hosts reach each other's disks, so that a server of a dead host can be carried to another and started there. False means that a dead host's servers wait for it, and new ones take their place.</summary>
    public bool SharedDisks { get; init; }

    /// <summary>True when hosts can be powered down and woken: the driver is an <see cref="IHostPower"/>.</summary>
    public bool HostPower { get; init; }
}

/// <summary>Who makes a changing call, and for what move. A driver refuses an epoch lower than one it has seen (<c>StaleEpoch</c>).</summary>
/// <param name="MoveId">The move that the call is a step of.</param>
/// <param name="Epoch">The decider's epoch; 0 for a call by hand, which is never refused for its epoch.</param>
public readonly record struct DriverCall(Guid MoveId, long Epoch);

/// <summary>Remembers the highest epoch it has seen: what a driver also is that refuses stale ones. A new decider's epoch is above what every keeper says.</summary>
public interface IEpochKeeper
{
    /// <summary>The highest epoch of a changing call so far; 0 when there was none.</summary>
    /// <exception cref="VMatrixException">It cannot be read: nobody may decide then.</exception>
    Task<long> ReadEpochAsync(CancellationToken cancellation);
}

/// <summary>What VMatrix writes on a virtual machine to know it again.</summary>
public sealed record ServerMark
{
    /// <summary>The id that we minted.</summary>
    public required Guid ServerId { get; init; }

    /// <summary>The server's name.</summary>
    public required string Name { get; init; }

    /// <summary>Its service.</summary>
    public required string Service { get; init; }

    /// <summary>The image version it was made from.</summary>
    public required string Image { get; init; }

    /// <summary>The stage it is in.</summary>
    public required Stage Stage { get; init; }

    /// <summary>Counts the changes of stage and host.</summary>
    public int Generation { get; init; }

    /// <summary>The hypervisor's own id of the machine when the mark was written; another one now means a clone or an import, which is foreign. Empty until the driver stamps it.</summary>
    public string MachineId { get; init; } = "";

    /// <summary>The random id of the pool state that controls it; another one means another controller's.</summary>
    public required Guid StateId { get; init; }

    /// <summary>When the server was made.</summary>
    public required DateTimeOffset CreatedAt { get; init; }

    /// <summary>When its stage or host last changed.</summary>
    public required DateTimeOffset ChangedAt { get; init; }

    /// <summary>The Oracle leaves it alone until then; null for none.</summary>
    public DateTimeOffset? HeldUntil { get; init; }
}

/// <summary>A virtual machine as its hypervisor shows it.</summary>
public sealed record Machine
{
    /// <summary>The hypervisor's own id of the machine.</summary>
    public required string MachineId { get; init; }

    /// <summary>The machine's display name.</summary>
    public required string Name { get; init; }

    /// <summary>Our mark; null for a machine that is not ours, or no longer (see <see cref="Problem"/>).</summary>
    public ServerMark? Mark { get; init; }

    /// <summary>A mark on it that does not count: copied with the machine that it is a clone of, or left there when the server was let go; null for none. Only registering reads it.</summary>
    public ServerMark? StaleMark { get; init; }

    /// <summary>What it does. <see cref="PowerState.Unknown"/> proves nothing: it may run, and it may not.</summary>
    public required PowerState Power { get; init; }

    /// <summary>True while its platform works on it, so that its <see cref="Power"/> is not known and will be before long.</summary>
    public bool IsChanging { get; init; }

    /// <summary>Where it answers, as <c>address:port</c>; null when it does not run.</summary>
    public string? Address { get; init; }

    /// <summary>Bytes of memory that it has (running) or will have (dormant).</summary>
    public long MemoryBytes { get; init; }

    /// <summary>Processor cores.</summary>
    public int Cores { get; init; } = 1;

    /// <summary>How it fares as far as the hypervisor knows: <see cref="ServerHealth.Dead"/>, <see cref="ServerHealth.Hung"/> or <see cref="ServerHealth.Unknown"/>.</summary>
    public ServerHealth Health { get; init; }

    /// <summary>When the memory that it keeps was saved; null when it keeps none, and where the driver cannot tell.</summary>
    public DateTimeOffset? AsleepSince { get; init; }

    /// <summary>Bytes that waking it reads or copies: the memory that it keeps as it lies in the store, and its disk where that is brought to the host. Null when it runs, and where the driver cannot tell.</summary>
    public long? WakeBytes { get; init; }

    /// <summary>What is wrong, with the end of the console where there is one; null when nothing is.</summary>
    public string? Problem { get; init; }
}

/// <summary>A host's answer.</summary>
public sealed record HostReport
{
    /// <summary>The host's name.</summary>
    public required string Host { get; init; }

    /// <summary>Everything on it, ours and foreign; disposed ones are in the nest's report instead.</summary>
    public required IReadOnlyList<Machine> Machines { get; init; }

    /// <summary>True while the host is powered down.</summary>
    public bool PoweredDown { get; init; }

    /// <summary>Image versions whose blocks the host holds, so that a server made from one is there sooner than elsewhere; empty where the driver cannot tell, or where it makes no difference.</summary>
    public IReadOnlyList<string> Images { get; init; } = [];

    /// <summary>Why its platform wants nothing new on it, such as a paused cluster node or VMM's maintenance mode, in words that end without a full stop; null when it may be used. What runs there may stay.</summary>
    public string? Maintenance { get; init; }

    /// <summary>What is wrong with it, as a sentence; null when nothing is.</summary>
    public string? Problem { get; init; }
}

/// <summary>The nest's answer.</summary>
public sealed record NestReport
{
    /// <summary>Dormant servers in the nest.</summary>
    public required IReadOnlyList<Machine> Dormant { get; init; }

    /// <summary>Disposed servers that were not purged.</summary>
    public required IReadOnlyList<Machine> Disposed { get; init; }

    /// <summary>The image version that new servers are made from, by service; a service without one has none prepared yet.</summary>
    public required IReadOnlyDictionary<string, string> Images { get; init; }

    /// <summary>What is wrong in the nest, as sentences.</summary>
    public IReadOnlyList<string> Problems { get; init; } = [];
}
