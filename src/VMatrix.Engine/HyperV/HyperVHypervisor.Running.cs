using System;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Seeds;
using VMatrix.Shells;

namespace VMatrix.HyperV;

/// <content>Starting, waking, saving and stopping servers, and moving them while they run.</content>
public sealed partial class HyperVHypervisor
{
    /// <summary>How long an address of the wanted family is waited for while the guest tells only one of the other.</summary>
    private static readonly TimeSpan s_otherFamily = TimeSpan.FromSeconds(10);

    /// <inheritdoc/>
    public Task<string> StartAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await RequireAsync(server, on, HyperVPlace.Host, cancellation);
        var host = HostOf(on);
        if (machine.Power != PowerState.Running)
        {
            await RefuseSecondLifeAsync(machine, cancellation);
            if (machine.Power == PowerState.Saved && await FindObstacleToResumeAsync(host, machine, cancellation) is { } obstacle)
                await RefuseToGiveUpAsync(machine, obstacle, on, cancellation);
            await WriteMarkAsync(machine, machine.Ours! with { Ran = true }, null, cancellation);
            await host.ConnectAsync(machine, cancellation);
            if (machine.Power == PowerState.Paused)
                await host.OnAsync(machine, "Resuming", "Hyper-V\\Resume-VM", cancellation);
            else
                await StartMachineAsync(host, machine, service, cancellation);
            machine = await FindSettledAsync(server, on, cancellation);
        }

        return await AddressAsync(host, machine, service, cancellation);
    }, cancellation);

    private async Task StartMachineAsync(HyperVHost host, HyperVMachine machine, ServiceSpec service, CancellationToken cancellation)
    {
        try
        {
            await InsertSeedAsync(host, machine, service, cancellation);
            await host.OnAsync(machine, "Starting", "Hyper-V\\Start-VM", cancellation);
        }
        catch (VMatrixException e) when (machine.Power == PowerState.Saved && _pool.HyperV.ResumeFailure == ResumeFailure.Boot && HyperVErrors.IsAboutResuming(e))
        {
            machine = await FindSettledAsync(machine.Ours!.Mark.ServerId, machine.Host, cancellation);
            if (machine.Power == PowerState.Saved)
            {
                machine = await GiveUpMemoryAsync(host, machine, e.Message.TrimEnd('.'), host.Spec, cancellation);
                await InsertSeedAsync(host, machine, service, cancellation);
                await host.OnAsync(machine, "Starting", "Hyper-V\\Start-VM", cancellation);
            }
        }
    }

    // In its drive at every boot, not only at the first: one that was cut short has made nothing of it, and to one that has read it it says nothing new.
    private Task<bool> InsertSeedAsync(HyperVHost host, HyperVMachine machine, ServiceSpec service, CancellationToken cancellation) => GuardFilesAsync(async () =>
    {
        if (machine is not { Power: PowerState.Off, Ours: { Seeded: true } ours } || GuestSeed.Build(ours.Mark, service, ours.Address, _clock.GetUtcNow()) is not { } seed)
            return false;
        _nest.WriteSeed(ours.Mark.ServerId, seed);
        await host.InsertAsync(machine, _nest.Seed(ours.Mark.ServerId), cancellation);
        return true;
    });

    // Before it sleeps, stops or moves: a saved machine cannot let go of its disc, and one with a disc moves only where that is found.
    private Task<bool> EjectSeedAsync(HyperVHost host, HyperVMachine machine, CancellationToken cancellation) => GuardFilesAsync(async () =>
    {
        if (machine is not { Power: not PowerState.Saved, Ours: { } ours } || !machine.Discs.Any(disc => HyperVHost.IsSamePath(disc, _nest.Seed(ours.Mark.ServerId))))
            return false;
        await host.EjectAsync(machine, _nest.Seed(ours.Mark.ServerId), cancellation);
        HyperVNest.Delete(_nest.Seed(ours.Mark.ServerId));
        return true;
    });

    /// <summary>Why a host cannot resume a saved machine; null when nothing speaks against it. What is not known excludes nothing: the host itself refuses.</summary>
    private static async Task<string?> FindObstacleToResumeAsync(HyperVHost host, HyperVMachine machine, CancellationToken cancellation)
    {
        if (machine.Ours!.Saved is not { } saved)
            return null;
        return saved.Version is not null && machine.Version is not null && saved.Version != machine.Version
            ? $"its memory was saved with configuration version {saved.Version}, and it is of version {machine.Version} now"
            : saved.ObstacleOn(await host.FactsAsync(cancellation));
    }

    // Where the owner does not allow it, and where the machine could not even boot, nothing is given up for it.
    private async Task RefuseToGiveUpAsync(HyperVMachine machine, string obstacle, HostSpec wakesOn, CancellationToken cancellation)
    {
        if (_pool.HyperV.ResumeFailure == ResumeFailure.Refuse || machine.Ours!.Saved?.IsUnknownTo(await HostOf(wakesOn).FactsAsync(cancellation)) == true)
        {
            throw new VMatrixException("SavedStateNotResumable", VMatrixErrorKind.NotSupported,
                $"The memory of {machine.Who} is not resumed on {wakesOn.Name}: {obstacle}. Wake it on a host like the one it was saved on, or set hyperv.resumeFailure: boot to give the memory up.");
        }
    }

    /// <summary>Deletes the memory that a machine keeps. Only for what a host itself has said of that memory (<see cref="HyperVErrors.IsAboutResuming"/>, or Compare-VM), never for what is only concluded.</summary>
    private async Task<HyperVMachine> GiveUpMemoryAsync(HyperVHost host, HyperVMachine machine, string proof, HostSpec wakesOn, CancellationToken cancellation)
    {
        await RefuseToGiveUpAsync(machine, proof, wakesOn, cancellation);
        var told = $"Its memory was given up on {wakesOn.Name}, and it was booted from its disk: {proof}.";
        await WriteMarkAsync(machine, machine.Ours! with { Ran = IsOn(machine, wakesOn), Saved = null, Told = told }, null, cancellation);
        await host.OnAsync(machine, "Giving up the memory of", "Hyper-V\\Remove-VMSavedState", cancellation);
        return await FindSettledAsync(machine.Ours!.Mark.ServerId, machine.Host, cancellation);
    }

    /// <summary>A saved machine as it can be moved to a host: without its memory where Compare-VM says that the host cannot take it, and the owner allows that. A cluster takes it along, and the start tells.</summary>
    private async Task<HyperVMachine> FitForMoveAsync(HyperVMachine machine, HyperVHost to, CancellationToken cancellation)
    {
        if (machine.Power != PowerState.Saved || await FindObstacleToResumeAsync(to, machine, cancellation) is not { } obstacle)
            return machine;
        await RefuseToGiveUpAsync(machine, obstacle, to.Spec, cancellation);
        var from = HostOf(machine.Host);
        return !machine.IsClustered && await HyperVCompare.FindAgainstMemoryAsync(from, to, machine, cancellation) is { } proof
            ? await GiveUpMemoryAsync(from, machine, $"{obstacle}; Hyper-V says: {proof}", to.Spec, cancellation) : machine;
    }

    // The disk's lock keeps two copies of one disk from running; copies with disks of their own are kept apart here.
    private async Task RefuseSecondLifeAsync(HyperVMachine machine, CancellationToken cancellation)
    {
        var others = await Task.WhenAll(_hosts.Values.Where(h => !IsOn(machine, h.Spec)).Select(async h =>
        {
            try
            {
                return await h.FindAsync(machine.Id, cancellation);
            }
            catch (VMatrixException)
            {
                // A host that is ill keeps no other one's server from waking.
                return null;
            }
        }));

        // A replica has the same id and lies still; one that was failed over to runs, and is the server's life then. What a cluster leaves on a node that does not own it is nobody's.
        foreach (var other in others)
            if (other is { IsCopy: true, Power: PowerState.Off or PowerState.Saved } || (other is not null && await IsLeftByClusterAsync(other, cancellation)))
                continue;
            else if (other is { } twin)
                throw new VMatrixException("ServerTwice", VMatrixErrorKind.InvalidState, $"{machine.Who} is not started on {machine.Host.Name}: a machine of the same id is {twin.State} on {twin.Host.Name}. Find out which of the two is right, and take the other one away.");
    }

    private async Task<string> AddressAsync(HyperVHost host, HyperVMachine machine, ServiceSpec service, CancellationToken cancellation)
    {
        var byAdapter = _pool.HyperV.Address == AddressSource.Adapter && machine.Ours!.Address is null;
        var (began, family) = (_clock.GetTimestamp(), _pool.HyperV.AddressFamily);
        while (true)
        {
            var told = byAdapter ? await host.FindAddressesAsync(machine, cancellation) : [];
            var found = HyperVHost.PickAddress(told, family);
            var waited = _clock.GetElapsedTime(began);

            // What a guest tells first is not all that it will: one of the other family is taken when no better one comes.
            if (host.ToAddress(machine, service.Port, found) is { } address && (found is null || HyperVHost.IsOf(found, family) || waited >= s_otherFamily || waited >= service.Health.StartTimeout))
                return address;
            if (waited >= service.Health.StartTimeout)
            {
                throw new VMatrixException("ServerWithoutAddress", VMatrixErrorKind.Timeout,
                    $"{machine.Who} runs on {host.Spec.Name}, and its integration services have told {(told.Count == 0 ? "no address" : $"no address that others reach ({string.Join(", ", told)})")} for {Planning.Words.Seconds(service.Health.StartTimeout)}. Check its network and its integration services, or set hyperv.address: dhcp.");
            }

            await _clock.WaitAsync(TimeSpan.FromMilliseconds(200), cancellation);
        }
    }

    /// <inheritdoc/>
    public Task SaveAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await RequireAsync(server, on, HyperVPlace.Host, cancellation);
        var host = HostOf(on);
        if (machine.Power == PowerState.Saved)
            return true;
        if (machine.Power == PowerState.Off)
            throw new VMatrixException("ServerNotRunning", VMatrixErrorKind.InvalidState, $"{machine.Who} cannot be hibernated: it does not run on {on.Name} and has no memory to keep.");
        await EjectSeedAsync(host, machine, cancellation);
        var facts = await host.FactsAsync(cancellation);
        await WriteMarkAsync(machine, machine.Ours! with { Saved = new SavedFacts(facts.Processor, machine.Version, facts.Build, _clock.GetUtcNow(), machine.MemoryBytes), Told = null }, null, cancellation);
        await host.OnAsync(machine, "Saving", "Hyper-V\\Save-VM", cancellation);
        var after = await FindSettledAsync(server, on, cancellation);
        if (after.Power != PowerState.Saved)
            throw new VMatrixException("SaveFailed", VMatrixErrorKind.Failed, $"{machine.Who} was reported as saved on {on.Name} and is {after.State}.") { IsTransient = true };
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task StopAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await RequireAsync(server, on, HyperVPlace.Host, cancellation);
        var host = HostOf(on);
        if (machine.Power is PowerState.Running or PowerState.Paused)
            await host.OnAsync(machine, "Stopping", "Hyper-V\\Stop-VM", cancellation, ("TurnOff", true), ("Force", true));
        else if (machine.Power == PowerState.Saved)
            await host.OnAsync(machine, "Giving up the memory of", "Hyper-V\\Remove-VMSavedState", cancellation);
        machine = await FindSettledAsync(server, on, cancellation);
        if (machine.Power != PowerState.Off)
            throw new VMatrixException("StopFailed", VMatrixErrorKind.Failed, $"{machine.Who} was reported as stopped on {on.Name} and is {machine.State}.") { IsTransient = true };
        await EjectSeedAsync(host, machine, cancellation);
        if (machine.Ours is { Ran: true } or { Saved: not null })
            await WriteMarkAsync(machine, machine.Ours with { Ran = false, Saved = null, Place = HyperVPlace.Host }, null, cancellation);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task<string> MigrateAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec from, HostSpec to, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await FindSettledAsync(server, to, cancellation);
        if (machine.Place != HyperVPlace.Host || (!IsOn(machine, to) && !IsOn(machine, from)))
            throw Elsewhere(machine, from.Name);
        if (machine.Power != PowerState.Running)
            throw new VMatrixException("ServerNotRunning", VMatrixErrorKind.InvalidState, $"{machine.Who} cannot be moved live: it is {machine.State} on {machine.Host.Name}.");
        if (!IsOn(machine, to))
            machine = await ShiftAsync(machine, HostOf(to), cancellation);
        await HostOf(to).ConnectAsync(machine, cancellation);
        return await AddressAsync(HostOf(to), machine, service, cancellation);
    }, cancellation);
}
