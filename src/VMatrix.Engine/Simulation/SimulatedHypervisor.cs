using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Simulation;

/// <summary>Drives simulated machines. Every changing call is checked and begun in one change of the world, lets its time pass, and makes its effect in a second one.</summary>
public sealed class SimulatedHypervisor(SimulatedWorld world) : IHypervisor, IHostPower, IEpochKeeper
{
    private static readonly TimeSpan s_unreachableAfter = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan s_shutDown = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan s_smallChange = TimeSpan.FromMilliseconds(1);

    /// <inheritdoc/>
    public HypervisorTraits Traits { get; } = new() { Name = "simulation", LiveMigration = true, SharedDisks = world.Settings.SharedDisks, HostPower = true };

    /// <inheritdoc/>
    public Task<long> ReadEpochAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(world.Read(state => state.Epoch));
    }

    /// <inheritdoc/>
    public async Task<HostReport> ReadHostAsync(HostSpec host, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var report = world.Read(state =>
        {
            var condition = world.EffectiveCondition(state, host.Name);
            return condition is HostCondition.Dead or HostCondition.CutOff ? null : new HostReport
            {
                Host = host.Name,
                PoweredDown = condition == HostCondition.PoweredDown,
                Images = [.. state.Blocks(host.Name)],
                Problem = condition == HostCondition.HalfDead ? $"{host.Name} answers questions but does not carry out changes." : null,
                Machines = [.. state.At(host.Name).Where(machine => !machine.Partial).Select(Show)],
            };
        });
        if (report is not null)
            return report;
        await world.Clock.DelayAsync(s_unreachableAfter, cancellation);
        throw Unreachable(host.Name);
    }

    /// <inheritdoc/>
    public Task<NestReport> ReadNestAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(world.Read(state => new NestReport
        {
            Dormant = [.. state.At(WorldState.Nest).Where(machine => !machine.Partial).Select(Show)],
            Disposed = [.. state.At(WorldState.DisposedArea).Where(machine => !machine.Partial).Select(Show)],
            Images = new Dictionary<string, string>(state.Images),
        }));
    }

    /// <inheritdoc/>
    public Task<string> PrepareImageAsync(DriverCall call, ServiceSpec service, HostSpec on, IProgress<string>? progress, CancellationToken cancellation)
    {
        var owners = ImageVersion(service.Image);
        return ActAsync("PrepareImage", call, null, [], state =>
        {
            var version = state.Selected.TryGetValue(service.Name, out var selected) && selected.Owner == owners ? selected.Version : owners;
            if (state.Images.TryGetValue(service.Name, out var known) && known == version)
                return Step.Done(version);
            progress?.Report($"{service.Name}: importing the image");
            return new Step<string>(state.Versions.ContainsKey((service.Name, version)) ? s_smallChange : TimeToMake(service), then =>
            {
                then.PutImage(service.Name, version);
                return version;
            });
        }, cancellation);
    }

    /// <inheritdoc/>
    public Task<PublishedImage> PublishImageAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec? on, CancellationToken cancellation) =>
        ActAsync("PublishImage", call, server, on is null ? [] : [on.Name], state =>
        {
            if (state.Versions.Values.FirstOrDefault(image => image.Move == call.MoveId && image.Published?.ServerId == server && image.Move != Guid.Empty)?.Published is { } published)
                return Step.Done(published);
            RefuseSleeping(FindAt(state, server, on?.Name ?? WorldState.Nest));
            return new Step<PublishedImage>(TimeToMake(service), then =>
            {
                var machine = FindAt(then, server, on?.Name ?? WorldState.Nest);
                RefuseSleeping(machine);
                var image = new PublishedImage
                {
                    Service = service.Name,
                    Version = then.Mint().ToString("N").Substring(0, 8),
                    From = machine.Mark!.Image,
                    ServerId = server,
                    ServerName = machine.Name,
                    Bytes = world.Settings.DiskBytes + (service.Image.Warm ? service.Image.MemoryBytes : 0),
                    At = world.Clock.GetUtcNow(),
                };
                then.Put(new WorldImage { Service = image.Service, Version = image.Version, Published = image, Move = call.MoveId });
                return image;
            });
        }, cancellation);

    /// <inheritdoc/>
    public Task SelectImageAsync(DriverCall call, ServiceSpec service, string version, CancellationToken cancellation) =>
        ActAsync("SelectImage", call, null, [], state =>
        {
            if (!state.Versions.ContainsKey((service.Name, version)))
                throw NoImage(service, version, "it cannot be selected");
            state.Select(service.Name, new WorldSelection(version, ImageVersion(service.Image)));
            state.PutImage(service.Name, version);
            return Step.Done(true);
        }, cancellation);

    /// <inheritdoc/>
    public Task CreateAsync(DriverCall call, ServerMark mark, ServiceSpec service, CancellationToken cancellation) =>
        ActAsync("Create", call, mark.ServerId, [], state =>
        {
            if (Find(state, mark.ServerId) is { } there)
            {
                return there.Place == WorldState.Nest ? Step.Done(true)
                    : throw new VMatrixException("ServerExists", VMatrixErrorKind.InvalidState, $"{mark.Name} ({mark.ServerId}) cannot be made in the nest: it exists in {there.Place}.");
            }

            if (!state.Versions.ContainsKey((service.Name, mark.Image)))
                throw NoImage(service, mark.Image, $"{mark.Name} cannot be made from it");
            return new Step<bool>(s_smallChange, then =>
            {
                var id = then.Mint().ToString("N");
                then.Put(new WorldMachine
                {
                    Key = id,
                    Id = id,
                    Name = mark.Name,
                    Mark = mark with { MachineId = id },
                    Place = WorldState.Nest,
                    Power = service.Image.Warm ? PowerState.Saved : PowerState.Off,
                    MemoryBytes = service.Image.MemoryBytes,
                    Cores = service.Image.Cores,
                    Since = world.Clock.GetUtcNow(),
                });
                return true;
            });
        }, cancellation);

    /// <inheritdoc/>
    public Task FetchAsync(DriverCall call, Guid server, HostSpec to, CancellationToken cancellation) => CopyAsync("Fetch", call, server, WorldState.Nest, to.Name, cancellation);

    /// <inheritdoc/>
    public Task StowAsync(DriverCall call, Guid server, HostSpec from, CancellationToken cancellation) => CopyAsync("Stow", call, server, from.Name, WorldState.Nest, cancellation);

    /// <inheritdoc/>
    public Task CarryAsync(DriverCall call, Guid server, HostSpec from, HostSpec to, CancellationToken cancellation) => CopyAsync("Carry", call, server, from.Name, to.Name, cancellation);

    /// <inheritdoc/>
    public Task<string> StartAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec on, CancellationToken cancellation) =>
        ActAsync("Start", call, server, [on.Name], state =>
        {
            var machine = FindAt(state, server, on.Name);
            if (machine.Power == PowerState.Running)
                return Step.Done(machine.Address!);
            RefuseSecondLife(state, server, machine);
            return new Step<string>(machine.Power == PowerState.Saved ? TimeFor(machine.MemoryBytes) : s_smallChange, then =>
            {
                var found = FindAt(then, server, on.Name);
                if (found.Power == PowerState.Running)
                    return found.Address!;
                RefuseSecondLife(then, server, found);
                var now = world.Clock.GetUtcNow();
                var address = SimulatedWorld.NewAddress(then, on.Name, server);
                then.Put(found with
                {
                    Power = PowerState.Running,
                    Address = address,
                    Hung = then.Versions.TryGetValue((service.Name, found.Mark!.Image), out var image) && image.Spoiled,
                    Problem = null,
                    Since = now,
                    ReadyAt = now + (found.Power == PowerState.Saved ? world.Settings.WakeTime : world.Settings.BootTime),
                });
                return address;
            });
        }, cancellation);

    /// <inheritdoc/>
    public Task SaveAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) =>
        ActAsync("Save", call, server, [on.Name], state =>
        {
            var machine = FindAt(state, server, on.Name);
            return machine.Power switch
            {
                PowerState.Saved => Step.Done(true),
                PowerState.Off => throw new VMatrixException("ServerNotRunning", VMatrixErrorKind.InvalidState, $"{machine.Name} ({server}) cannot be hibernated: it does not run on {on.Name} and has no memory to keep."),
                _ => new Step<bool>(TimeFor(machine.MemoryBytes), then =>
                {
                    var found = FindAt(then, server, on.Name);
                    if (found.Power != PowerState.Running)
                        throw new VMatrixException("ServerNotRunning", VMatrixErrorKind.InvalidState, $"{machine.Name} ({server}) ended on {on.Name} while it was hibernated.");
                    TellCutRequests(then, found);
                    world.Account(then, found.Mark!.Service);
                    then.Put(found with { Power = PowerState.Saved, Address = null, Hung = false, Since = world.Clock.GetUtcNow() });
                    return true;
                }),
            };
        }, cancellation);

    /// <inheritdoc/>
    public Task StopAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) =>
        ActAsync("Stop", call, server, [on.Name], state =>
        {
            if (FindAt(state, server, on.Name).Power == PowerState.Off)
                return Step.Done(true);
            return new Step<bool>(s_smallChange, then =>
            {
                var found = FindAt(then, server, on.Name);
                TellCutRequests(then, found);
                world.Account(then, found.Mark!.Service);
                then.Put(found with { Power = PowerState.Off, Address = null, Hung = false, Since = world.Clock.GetUtcNow() });
                return true;
            });
        }, cancellation);

    /// <inheritdoc/>
    public Task<string> MigrateAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec from, HostSpec to, CancellationToken cancellation) =>
        ActAsync("Migrate", call, server, [from.Name, to.Name], state =>
        {
            var machine = Require(state, server);
            if (Same(machine.Place, to.Name) && machine.Power == PowerState.Running)
                return Step.Done(machine.Address!, then => DropUnfinished(then, server));
            if (!Same(machine.Place, from.Name))
                throw Elsewhere(machine, from.Name);
            if (machine.Power != PowerState.Running)
                throw new VMatrixException("ServerNotRunning", VMatrixErrorKind.InvalidState, $"{machine.Name} ({server}) cannot be moved live: it does not run on {from.Name}.");
            PutUnfinished(state, machine, to.Name);
            return new Step<string>(TimeFor(machine.MemoryBytes), then =>
            {
                var found = FindAt(then, server, from.Name);
                if (found.Power != PowerState.Running)
                    throw new VMatrixException("ServerNotRunning", VMatrixErrorKind.InvalidState, $"{machine.Name} ({server}) ended on {from.Name} while it was moved live.");
                world.Account(then, found.Mark!.Service);
                DropUnfinished(then, server);
                var address = SimulatedWorld.NewAddress(then, to.Name, server);
                then.Put(found with { Place = to.Name, Address = address });
                return address;
            }, then => DropUnfinished(then, server));
        }, cancellation);

    /// <inheritdoc/>
    public Task MarkAsync(DriverCall call, ServerMark mark, HostSpec? on, CancellationToken cancellation) =>
        ActAsync("Mark", call, mark.ServerId, on is null ? [] : [on.Name], state =>
        {
            var machine = Require(state, mark.ServerId);
            if (on is null ? machine.Place is not (WorldState.Nest or WorldState.DisposedArea) : !Same(machine.Place, on.Name))
                throw Elsewhere(machine, on?.Name ?? "the nest");
            state.Put(machine with { Name = mark.Name, Mark = mark with { MachineId = machine.Id } });
            return Step.Done(true);
        }, cancellation);

    /// <inheritdoc/>
    public Task DiscardAsync(DriverCall call, Guid server, HostSpec? from, CancellationToken cancellation) =>
        ActAsync("Discard", call, server, from is null ? [] : [from.Name], state =>
        {
            var machine = Require(state, server);
            if (machine.Place == WorldState.DisposedArea)
                return Step.Done(true);
            if (!Same(machine.Place, from?.Name ?? WorldState.Nest))
                throw Elsewhere(machine, from?.Name ?? "the nest");
            if (machine.Power is PowerState.Running or PowerState.Paused)
                throw new VMatrixException("ServerRunning", VMatrixErrorKind.InvalidState, $"{machine.Name} ({server}) cannot be disposed of while it runs on {machine.Place}: stop it first.");
            state.Put(machine with { Place = WorldState.DisposedArea, Problem = null });
            return Step.Done(true);
        }, cancellation);

    /// <inheritdoc/>
    public Task RecoverAsync(DriverCall call, Guid server, CancellationToken cancellation) =>
        ActAsync("Recover", call, server, [], state =>
        {
            var machine = Require(state, server);
            if (machine.Place == WorldState.Nest)
                return Step.Done(true);
            if (machine.Place != WorldState.DisposedArea)
                throw Elsewhere(machine, "the disposed area");
            state.Put(machine with { Place = WorldState.Nest });
            return Step.Done(true);
        }, cancellation);

    /// <inheritdoc/>
    public Task EraseAsync(DriverCall call, Guid server, CancellationToken cancellation) =>
        ActAsync("Erase", call, server, [], state =>
        {
            if (Find(state, server) is not { } machine)
                return Step.Done(true);
            if (machine.Place != WorldState.DisposedArea)
                throw new VMatrixException("ServerNotDisposed", VMatrixErrorKind.InvalidState, $"{machine.Name} ({server}) is in {machine.Place}: only a disposed server is deleted for good.");
            state.Remove(machine);
            return Step.Done(true);
        }, cancellation);

    /// <inheritdoc/>
    public Task AdoptAsync(DriverCall call, string machineId, ServerMark mark, HostSpec? on, CancellationToken cancellation) =>
        ActAsync("Adopt", call, mark.ServerId, on is null ? [] : [on.Name], state =>
        {
            var place = on?.Name ?? WorldState.Nest;
            var machine = state.At(place).FirstOrDefault(machine => !machine.Partial && machine.Id == machineId)
                ?? throw new VMatrixException("MachineNotFound", VMatrixErrorKind.NotFound, $"There is no machine {machineId} in {place}.");
            if (WorldState.IsOurs(machine) && machine.Mark!.ServerId != mark.ServerId)
                throw new VMatrixException("MachineMarked", VMatrixErrorKind.InvalidState, $"{machine.Name} in {place} is server {machine.Mark.Name} ({machine.Mark.ServerId}) already.");
            if (state.Copies(mark.ServerId).FirstOrDefault(copy => !copy.Partial && copy.Key != machine.Key) is { } other)
                throw new VMatrixException("ServerExists", VMatrixErrorKind.InvalidState, $"{machine.Name} in {place} cannot become server {mark.ServerId}: {other.Name} in {other.Place} is it.");
            state.Put(machine with { Name = mark.Name, Mark = mark with { MachineId = machine.Id } });
            return Step.Done(true);
        }, cancellation);

    /// <inheritdoc/>
    public Task ReleaseAsync(DriverCall call, Guid server, HostSpec? on, CancellationToken cancellation) =>
        ActAsync("Release", call, server, on is null ? [] : [on.Name], state =>
        {
            if (Find(state, server) is not { } machine)
                return Step.Done(true);
            if (!Same(machine.Place, on?.Name ?? WorldState.Nest))
                throw Elsewhere(machine, on?.Name ?? "the nest");
            world.Account(state, machine.Mark!.Service);
            state.Put(machine with { Mark = null });
            return Step.Done(true);
        }, cancellation);

    /// <inheritdoc/>
    public Task<IReadOnlyList<MoveObstacle>> CompareAsync(Guid server, ServiceSpec service, HostSpec? from, HostSpec to, bool live, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult<IReadOnlyList<MoveObstacle>>(world.Read(state =>
        {
            var found = new List<MoveObstacle>();
            if (world.EffectiveCondition(state, to.Name) is HostCondition.HalfDead)
                found.Add(new MoveObstacle { Group = ObstacleGroup.Hardware, What = "HostHalfDead", Why = $"{to.Name} answers questions and does not carry out changes.", Mend = $"Restart the management service of {to.Name}." });
            if (from is not null && world.EffectiveCondition(state, from.Name) is HostCondition.HalfDead)
                found.Add(new MoveObstacle { Group = ObstacleGroup.Hardware, What = "HostHalfDead", Why = $"{from.Name} answers questions and does not carry out changes.", Mend = $"Restart the management service of {from.Name}." });
            if (Find(state, server) is { } machine && state.Versions.TryGetValue((service.Name, machine.Mark!.Image), out var image) && image.Spoiled)
                found.Add(new MoveObstacle { Group = ObstacleGroup.Software, What = "SpoiledImage", Severity = ObstacleSeverity.Warns, Why = $"It was made from image version {image.Version}, whose servers start and never answer.", Mend = $"Update-VMatrixService {service.Name}" });
            return found;
        }));
    }

    /// <inheritdoc/>
    public Task<bool> ProveStoppedAsync(Guid server, HostSpec on, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(world.Read(state =>
        {
            var runs = state.At(on.Name).Any(machine => machine.Mark?.ServerId == server && WorldState.IsOurs(machine) && machine.Power is not (PowerState.Off or PowerState.Saved));
            return world.EffectiveCondition(state, on.Name) switch
            {
                HostCondition.Up or HostCondition.HalfDead or HostCondition.PoweredDown => !runs,
                _ => world.Settings.SharedDisks && !world.WithoutDiskLocks && !runs,
            };
        }));
    }

    /// <inheritdoc/>
    public Task PowerDownAsync(DriverCall call, HostSpec host, CancellationToken cancellation) =>
        ActAsync("PowerDown", call, null, [], state =>
        {
            RefuseInUse(state, host.Name);
            if (world.EffectiveCondition(state, host.Name) is HostCondition.PoweredDown && !(state.Hosts[host.Name].UpAt > world.Clock.GetUtcNow()))
                return Step.Done(true);
            return new Step<bool>(s_shutDown, then =>
            {
                RefuseInUse(then, host.Name);
                then.Put(new WorldHost(host.Name, HostCondition.PoweredDown, world.Clock.GetUtcNow(), ByPoolFile: false));
                return true;
            });
        }, cancellation);

    /// <inheritdoc/>
    public Task WakeHostAsync(DriverCall call, HostSpec host, CancellationToken cancellation) =>
        ActAsync("WakeHost", call, null, [], state => state.Condition(host.Name) is HostCondition.PoweredDown
            ? new Step<bool>(s_smallChange, then =>
            {
                var now = world.Clock.GetUtcNow();
                if (then.Condition(host.Name) is HostCondition.PoweredDown)
                    then.Put(new WorldHost(host.Name, HostCondition.Up, now, ByPoolFile: false) { UpAt = now + world.Settings.HostWakeTime });
                return true;
            })
            : Step.Done(true), cancellation);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => default;

    private void RefuseInUse(WorldState state, string host)
    {
        if (state.At(host).FirstOrDefault(machine => machine.Power is PowerState.Running or PowerState.Paused) is { } machine)
            throw new VMatrixException("HostInUse", VMatrixErrorKind.InvalidState, $"{host} cannot be powered down: {machine.Name} runs on it.");
        if (world.EffectiveCondition(state, host) is HostCondition.Dead or HostCondition.CutOff or HostCondition.HalfDead)
            throw Unreachable(host);
    }

    /// <summary>The version of an image: the same settings give the same version.</summary>
    internal static string ImageVersion(ImageSpec image)
    {
        // FNV-1a, so that both frameworks agree.
        var hash = 14695981039346656037UL;
        foreach (var character in image.ToString())
            hash = unchecked((hash ^ character) * 1099511628211UL);
        return hash.ToString("x16", CultureInfo.InvariantCulture).Substring(0, 8);
    }

    private static bool Same(string place, string name) => string.Equals(place, name, StringComparison.OrdinalIgnoreCase);

    private Machine Show(WorldMachine machine)
    {
        var foreign = machine.Mark is not null && !WorldState.IsOurs(machine);
        return new Machine
        {
            MachineId = machine.Id,
            Name = machine.Name,
            Mark = foreign ? null : machine.Mark,
            StaleMark = foreign ? machine.Mark : null,
            Power = machine.Power,
            Address = machine.Address,
            MemoryBytes = machine.MemoryBytes,
            Cores = machine.Cores,
            AsleepSince = machine.Power == PowerState.Saved ? machine.Since : null,
            WakeBytes = machine.Power is PowerState.Running or PowerState.Paused ? null : BytesOf(machine),
            Health = machine.Hung ? ServerHealth.Hung : machine.Problem is not null ? ServerHealth.Dead : ServerHealth.Unknown,
            Problem = foreign ? $"It carries the mark of {machine.Mark!.Name} ({machine.Mark.ServerId}), which was written on machine {machine.Mark.MachineId}: a clone or an import, left alone until it is registered." : machine.Problem,
        };
    }

    private static WorldMachine? Find(WorldState state, Guid server) => state.Copies(server).FirstOrDefault(copy => !copy.Partial);

    private static WorldMachine Require(WorldState state, Guid server) =>
        Find(state, server) ?? throw new VMatrixException("ServerNotFound", VMatrixErrorKind.NotFound, $"Server {server} does not exist in this pool.");

    private static WorldMachine FindAt(WorldState state, Guid server, string place) =>
        state.Copies(server).FirstOrDefault(copy => !copy.Partial && Same(copy.Place, place)) ?? throw Elsewhere(Require(state, server), place);

    // A kept memory holds writes that the disk lacks.
    private static void RefuseSleeping(WorldMachine machine)
    {
        if (machine.Power is PowerState.Saved or PowerState.Paused)
            throw new VMatrixException("ServerAsleep", VMatrixErrorKind.InvalidState, $"No image is made from {machine.Name} ({machine.Mark?.ServerId}): it is {machine.Power}, and its memory holds what its disk lacks. Wake it in the Chamber first.");
    }

    private static VMatrixException NoImage(ServiceSpec service, string version, string so) =>
        new("ImageNotFound", VMatrixErrorKind.NotFound, $"Image version '{version}' of {service.Name} is not in the nest, so {so}: prepare the image again, or name one that is there.");

    private TimeSpan TimeToMake(ServiceSpec service) => TimeFor(world.Settings.DiskBytes) + (service.Image.Warm ? world.Settings.BootTime : TimeSpan.Zero);

    private static VMatrixException Elsewhere(WorldMachine machine, string expected) =>
        new("ServerElsewhere", VMatrixErrorKind.InvalidState, $"{machine.Name} ({machine.Mark?.ServerId}) is not in {expected}, it is in {machine.Place}.");

    private static VMatrixException Unreachable(string host) =>
        new("HostUnreachable", VMatrixErrorKind.Unreachable, $"{host} does not answer; what runs on it is not known. Check the machine and its network.") { IsTransient = true };

    private static void PutUnfinished(WorldState state, WorldMachine machine, string to) =>
        state.Put(machine with { Key = $"{machine.Id}@{to}", Place = to, Power = PowerState.Off, Address = null, Partial = true });

    private static void DropUnfinished(WorldState state, Guid server)
    {
        foreach (var copy in state.Copies(server).Where(copy => copy.Partial).ToArray())
            state.Remove(copy);
    }

    // The lock on a machine's disk, which every hypervisor takes while it runs.
    private void RefuseSecondLife(WorldState state, Guid server, WorldMachine machine)
    {
        if (!world.WithoutDiskLocks && state.Copies(server).FirstOrDefault(copy => copy.Key != machine.Key && copy.Power is PowerState.Running or PowerState.Paused) is { } other)
            throw new VMatrixException("ServerLivesElsewhere", VMatrixErrorKind.Busy, $"{machine.Name} ({server}) cannot start in {machine.Place}: its disk is locked by the copy that runs in {other.Place}.");
    }

    // A server leaves only after its open requests have ended or a deadline has passed: the world keeps watch over it.
    private void TellCutRequests(WorldState state, WorldMachine machine)
    {
        if (state.Members.TryGetValue(machine.Mark!.ServerId, out var member) && !member.Draining && member.Address == machine.Address && world.Answers(state, machine, world.Clock.GetUtcNow()) is null)
            state.Violate($"{machine.Name} ({member.ServerId}) was taken down on {machine.Place} while the balancer sent it requests.");
    }

    private Task<bool> CopyAsync(string operation, DriverCall call, Guid server, string from, string to, CancellationToken cancellation)
    {
        string[] hosts = [.. new[] { from, to }.Where(place => place != WorldState.Nest)];
        return ActAsync(operation, call, server, hosts, state =>
        {
            var machine = Require(state, server);
            if (Same(machine.Place, to))
                return Step.Done(true, then => DropUnfinished(then, server));
            if (!Same(machine.Place, from))
                throw Elsewhere(machine, from == WorldState.Nest ? "the nest" : from);
            if (machine.Power is PowerState.Running or PowerState.Paused && !Unlocked(state, from))
                throw new VMatrixException("ServerRunning", VMatrixErrorKind.InvalidState, $"{machine.Name} ({server}) cannot be taken from {from} while it runs there.");
            PutUnfinished(state, machine, to);
            return new Step<bool>(TimeFor(BytesOf(machine)), then =>
            {
                var found = FindAt(then, server, from);
                DropUnfinished(then, server);
                if (found.Power is PowerState.Running or PowerState.Paused)
                    then.Put(found with { Key = $"{found.Id}@{to}", Place = to, Power = PowerState.Off, Address = null, Problem = null });
                else
                    then.Put(found with { Place = to, Problem = null });
                return true;
            }, then => DropUnfinished(then, server));
        }, cancellation, sharedFrom: from);
    }

    // Disks that are shared without locks hand out what still runs on a host that is cut off.
    private bool Unlocked(WorldState state, string host) =>
        world.Settings.SharedDisks && world.WithoutDiskLocks && world.EffectiveCondition(state, host) is HostCondition.CutOff;

    // What is copied when it changes its place.
    private long BytesOf(WorldMachine machine) => world.Settings.DiskBytes + (machine.Power == PowerState.Saved ? machine.MemoryBytes : 0);

    private TimeSpan TimeFor(long bytes) => TimeSpan.FromTicks(Math.Max(s_smallChange.Ticks, (long)((double)bytes / Math.Max(1, world.Settings.Bandwidth) * TimeSpan.TicksPerSecond)));

    private async Task<T> ActAsync<T>(string operation, DriverCall call, Guid? server, string[] hosts, Func<WorldState, Step<T>> begin, CancellationToken cancellation, string? sharedFrom = null)
    {
        cancellation.ThrowIfCancellationRequested();
        var slow = world.Chance(world.Settings.SlowRate) ? 10 : 1;
        var (refusal, fault, step) = world.Change<(VMatrixException? Refusal, SimulatedFault? Fault, Step<T>? Step)>(state =>
        {
            SimulatedWorld.Admit(state, call);
            if (Refuse(state, hosts, sharedFrom, operation) is { } reason)
                return (reason, null, null);
            var struck = TakeFault(state, operation, server);
            return struck is { Point: FaultPoint.Before } ? (null, struck, null) : (null, struck, begin(state));
        }, cancellation);
        if (refusal is not null)
        {
            await world.Clock.DelayAsync(s_unreachableAfter, cancellation);
            throw refusal;
        }

        try
        {
            if (fault is { Point: FaultPoint.Before })
                await StrikeAsync(fault, operation, cancellation);
            var time = TimeSpan.FromTicks(step!.Time.Ticks * slow);
            if (fault is { Point: FaultPoint.Midway })
            {
                await world.Clock.DelayAsync(TimeSpan.FromTicks(time.Ticks / 2), cancellation);
                await StrikeAsync(fault, operation, cancellation);
            }

            await world.Clock.DelayAsync(time, cancellation);
            var result = world.Change(state =>
            {
                SimulatedWorld.Admit(state, call);
                return Refuse(state, hosts, sharedFrom, operation) is { } reason ? throw reason : step.Effect(state);
            }, cancellation);
            if (fault is { Point: FaultPoint.After })
                await StrikeAsync(fault, operation, cancellation);
            return result;
        }
        catch (Exception) when (step?.TakeBack is not null)
        {
            world.Change(step.TakeBack);
            throw;
        }
    }

    private async Task StrikeAsync(SimulatedFault fault, string operation, CancellationToken cancellation)
    {
        switch (fault.Kind)
        {
            case FaultKind.Hang:
                await world.Clock.DelayAsync(TimeSpan.FromDays(40), cancellation);
                throw new VMatrixException("SimulatedFailure", VMatrixErrorKind.Timeout, $"{operation} did not come back (simulated).");
            case FaultKind.DiskFull:
                throw new VMatrixException("DiskFull", VMatrixErrorKind.NoRoom, $"{operation} could not write: the disk is full (simulated). Free some room and try again.");
            case FaultKind.FailForGood:
                throw new VMatrixException("SimulatedFailure", VMatrixErrorKind.Failed, $"{operation} failed (simulated).");
            default:
                throw new VMatrixException("SimulatedFailure", VMatrixErrorKind.Failed, $"{operation} failed for a passing reason (simulated).") { IsTransient = true };
        }
    }

    private SimulatedFault? TakeFault(WorldState state, string operation, Guid? server)
    {
        var fault = state.Faults.Values.FirstOrDefault(fault => (fault.Operation is null || fault.Operation == operation) && (fault.ServerId is null || fault.ServerId == server));
        if (fault is not null)
        {
            state.Put(fault with { Count = fault.Count - 1 });
            return fault;
        }

        return world.Chance(world.Settings.FailureRate)
            ? new SimulatedFault { Operation = operation, Point = world.Chance(0.5) ? FaultPoint.Midway : world.Chance(0.5) ? FaultPoint.Before : FaultPoint.After }
            : null;
    }

    private VMatrixException? Refuse(WorldState state, string[] hosts, string? sharedFrom, string operation)
    {
        foreach (var host in hosts)
        {
            var condition = world.EffectiveCondition(state, host);
            if (condition == HostCondition.Up || (world.Settings.SharedDisks && sharedFrom is not null && Same(host, sharedFrom)))
                continue;
            return condition switch
            {
                HostCondition.HalfDead => new VMatrixException("HostUnreachable", VMatrixErrorKind.Unreachable, $"{host} answers questions but did not carry out {operation}. Check its management service.") { IsTransient = true },
                HostCondition.PoweredDown => new VMatrixException("HostPoweredDown", VMatrixErrorKind.InvalidState, $"{host} is powered down: power it up first."),
                _ => Unreachable(host),
            };
        }

        return null;
    }

    private static class Step
    {
        public static Step<T> Done<T>(T value, Action<WorldState>? effect = null) => new(TimeSpan.Zero, state =>
        {
            effect?.Invoke(state);
            return value;
        });
    }

    // How long a call takes, its effect, and what takes its beginnings back when it is not made.
    private sealed record Step<T>(TimeSpan Time, Func<WorldState, T> Effect, Action<WorldState>? TakeBack = null);
}
