using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.HyperV;

/// <content>What runs and sleeps on the hosts, as they tell it.</content>
public sealed partial class HyperVHypervisor
{
    /// <inheritdoc/>
    public async Task<HostReport> ReadHostAsync(HostSpec host, CancellationToken cancellation)
    {
        var on = HostOf(host);
        using var needless = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var adapters = _pool.HyperV.Address == AddressSource.Adapter ? on.ListAddressesAsync(needless.Token) : null;
        IReadOnlyList<HyperVMachine> machines;
        try
        {
            machines = await ListAsync(on, cancellation);
        }
        catch (Exception) when (adapters is not null)
        {
            needless.Cancel();
            await Task.WhenAny(adapters);
            _ = adapters.Exception;
            throw;
        }

        var maintenance = await on.FindMaintenanceAsync(cancellation);

        // What the host did answer is kept: its machines run, wherever their addresses are.
        ILookup<Guid, string>? addresses = null;
        string? problem = null;
        try
        {
            addresses = adapters is null ? null : await adapters;
        }
        catch (VMatrixException e)
        {
            problem = e.Message;
        }

        return new HostReport
        {
            Host = host.Name,
            Machines = [.. machines.Where(m => m.Ours is null ? !m.LiesInNest : m.Place == HyperVPlace.Host).Select(m => Show(on, m, addresses))],
            Maintenance = maintenance,
            Problem = problem ?? (machines.Any(m => m.IsClustered) ? await OwnBalancingAsync(on, cancellation) : null),
        };
    }

    /// <inheritdoc/>
    public async Task<NestReport> ReadNestAsync(CancellationToken cancellation)
    {
        var (machines, lost, unsure) = await ListAllAsync(cancellation);
        var problems = lost.Select(e => $"What sleeps on a host that does not answer is not seen: {e.Message}").Concat(unsure).ToList();
        _keepers = [.. machines.Where(KeepsMemory)];
        problems.AddRange(await NowhereResumedAsync(cancellation));
        return GuardFiles(() => new NestReport
        {
            Dormant = [.. machines.Where(m => m.Ours is null ? m.LiesInNest : m.Place == HyperVPlace.Nest).Select(m => Show(m.Sleeper is null ? HostOf(m.Host) : null, m, null))],
            Disposed = [.. machines.Where(m => m.Ours is not null && m.Place == HyperVPlace.Disposed).Select(m => Show(m.Sleeper is null ? HostOf(m.Host) : null, m, null))],
            Images = _nest.Current(_pool),
            Problems = problems,
        });
    }

    private Machine Show(HyperVHost? on, HyperVMachine machine, ILookup<Guid, string>? addresses)
    {
        var ours = machine.Ours;
        var died = ours is { Ran: true, Place: HyperVPlace.Host } && machine.Power == PowerState.Off;
        return new Machine
        {
            MachineId = machine.Id.ToString("D"),
            Name = ours?.Mark.Name ?? machine.Name,
            Mark = ours?.Mark,
            StaleMark = machine.Stale,
            Power = machine.Power,
            Address = machine.Power == PowerState.Running && on is not null ? on.ToAddress(machine, PortOf(ours?.Mark ?? machine.Stale), addresses is null ? null : HyperVHost.PickAddress(addresses[machine.Id], _pool.HyperV.AddressFamily)) : null,
            MemoryBytes = machine.MemoryBytes,
            Cores = machine.Cores,
            AsleepSince = machine.Power == PowerState.Saved ? ours?.Saved?.At : null,

            // Its storage is gone or full: whatever its state is called, it serves nobody.
            Health = machine.IsCritical && ours is { Place: HyperVPlace.Host } ? ServerHealth.Hung : died ? ServerHealth.Dead : ServerHealth.Unknown,
            Problem = machine.Foreign
                ?? (ours is null ? null
                : machine.IsCritical ? $"{machine.Who} is {machine.State} on {machine.Host.Name} and serves nobody: the host cannot reach its storage, or its volume is full. Bring the storage back or free some room on it, then: Get-VM -ComputerName {HostOf(machine.Host).Address} -Id {machine.Id:D} | {(machine.Power is PowerState.Running or PowerState.Paused ? "Resume-VM" : "Start-VM")}."
                : died ? $"{machine.Who} is off on {machine.Host.Name}, and VMatrix has not stopped it: it powered itself off, or its host did. The host's event log Hyper-V-Worker tells why."
                : ours.Address is { } own && addresses is not null && HyperVHost.PickAddress(addresses[machine.Id], _pool.HyperV.AddressFamily) is { } told && !addresses[machine.Id].Contains(own)
                    ? $"{machine.Who} has the address {told} and not its own, {own}: see that its guest takes that one, as image.specialize says."
                : ours.Told),
        };
    }

    // A machine of nobody's answers where most do, as far as anybody knows; registered, it answers where its service does.
    private int PortOf(ServerMark? mark) => (_pool.Services.FirstOrDefault(s => string.Equals(s.Name, mark?.Service, StringComparison.OrdinalIgnoreCase)) ?? _pool.Services[0]).Port;

    private async Task<string?> OwnBalancingAsync(HyperVHost on, CancellationToken cancellation)
    {
        if (!_clusters.TryGetValue(on.Spec.Name, out var known) || _clock.GetUtcNow() - known.At > s_clusterAge)
            _clusters[on.Spec.Name] = known = (_clock.GetUtcNow(), await on.FindOwnBalancingAsync(cancellation));
        return known.Problem;
    }

    /// <inheritdoc/>
    public async Task<bool> ProveStoppedAsync(Guid server, HostSpec on, CancellationToken cancellation)
    {
        try
        {
            // A machine whose line cannot be read may be this very one.
            var known = _seen.TryGetValue(server, out var seen) ? seen.Machine : (Guid?)null;
            return (await ListAsync(HostOf(on), cancellation)).All(m => m.Power is PowerState.Off or PowerState.Saved
                || (m.Ours is { } ours ? ours.Mark.ServerId != server : m.Id != known && (m.Foreign is null || m.Stale is not null)));
        }
        catch (VMatrixException)
        {
            return false;
        }
    }
}
