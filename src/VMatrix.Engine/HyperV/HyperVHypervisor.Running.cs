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
    /// <inheritdoc/>
    public Task<string> StartAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var machine = await RequireAsync(server, on, HyperVPlace.Host, cancellation);
        var host = HostOf(on);
        if (machine.Power != PowerState.Running)
        {
            await RefuseSecondLifeAsync(machine, cancellation);
            var ours = machine.Ours! with { Ran = true };
            if (machine.Power == PowerState.Saved && await FindObstacleToResumeAsync(host, machine, cancellation) is { } obstacle)
                machine = await GiveUpMemoryAsync(host, machine, obstacle, on, cancellation);
            else
                await WriteMarkAsync(machine, ours, null, cancellation);
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
        catch (VMatrixException e) when (machine.Power == PowerState.Saved && !e.IsTransient && e.Kind is VMatrixErrorKind.Failed or VMatrixErrorKind.Corrupt or VMatrixErrorKind.NotSupported
            && e.InnerException is ShellException && _pool.HyperV.ResumeFailure == ResumeFailure.Boot)
        {
            machine = await FindSettledAsync(machine.Ours!.Mark.ServerId, machine.Host, cancellation);
            if (machine.Power == PowerState.Saved)
            {
                machine = await GiveUpMemoryAsync(host, machine, e.Message, host.Spec, cancellation);
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

    private async Task<HyperVMachine> GiveUpMemoryAsync(HyperVHost host, HyperVMachine machine, string obstacle, HostSpec wakesOn, CancellationToken cancellation)
    {
        // Where the machine could not even boot, nothing is given up for it.
        if (_pool.HyperV.ResumeFailure == ResumeFailure.Refuse || machine.Ours!.Saved?.IsUnknownTo(await HostOf(wakesOn).FactsAsync(cancellation)) == true)
        {
            throw new VMatrixException("SavedStateNotResumable", VMatrixErrorKind.NotSupported,
                $"The memory of {machine.Who} is not resumed on {wakesOn.Name}: {obstacle}. Wake it on a host like the one it was saved on, or set hyperv.resumeFailure: boot to give the memory up.");
        }

        var told = $"Its memory was given up on {wakesOn.Name}, and it was booted from its disk: {obstacle}.";
        await WriteMarkAsync(machine, machine.Ours! with { Ran = IsOn(machine, wakesOn), Saved = null, Told = told }, null, cancellation);
        await host.OnAsync(machine, "Giving up the memory of", "Hyper-V\\Remove-VMSavedState", cancellation);
        return await FindSettledAsync(machine.Ours!.Mark.ServerId, machine.Host, cancellation);
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
            catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable or VMatrixErrorKind.Denied)
            {
                return null;
            }
        }));
        if (others.FirstOrDefault(other => other is not null) is { } twin)
            throw new VMatrixException("ServerTwice", VMatrixErrorKind.InvalidState, $"{machine.Who} is not started on {machine.Host.Name}: a machine of the same id is {twin.State} on {twin.Host.Name}. Find out which of the two is right, and take the other one away.");
    }

    private async Task<string> AddressAsync(HyperVHost host, HyperVMachine machine, ServiceSpec service, CancellationToken cancellation)
    {
        var until = _clock.GetUtcNow() + service.Health.StartTimeout;
        while (true)
        {
            var found = _pool.HyperV.Address == AddressSource.Adapter && machine.Ours!.Address is null ? await host.FindAddressAsync(machine, cancellation) : null;
            if (host.ToAddress(machine, service.Port, found) is { } address)
                return address;
            if (_clock.GetUtcNow() >= until)
            {
                throw new VMatrixException("ServerWithoutAddress", VMatrixErrorKind.Timeout,
                    $"{machine.Who} runs on {host.Spec.Name}, and its integration services have told no address for {service.Health.StartTimeout.TotalSeconds:0} s. Check its network and its integration services, or set hyperv.address: dhcp.");
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
        await WriteMarkAsync(machine, machine.Ours! with { Saved = new SavedFacts(facts.Processor, machine.Version, facts.Build, _clock.GetUtcNow()), Told = null }, null, cancellation);
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
