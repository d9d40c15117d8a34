using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.HyperV;

/// <summary>Which hosts can resume the memory that sleeping servers keep.</summary>
public sealed partial class HyperVHypervisor
{
    /// <inheritdoc/>
    public async Task<HostAdvice> AdviseAsync(IReadOnlyList<HostSpec> hosts, CancellationToken cancellation)
    {
        // A plan has just looked into the nest.
        var keepers = _keepers ?? [.. (await ListAllAsync(cancellation)).Machines.Where(KeepsMemory)];
        var facts = await FactsAsync(keepers, hosts, cancellation);
        return new HostAdvice
        {
            Verdicts =
            [
                .. keepers.SelectMany(machine => facts
                    .Where(host => !GivesUp(machine) || machine.Ours!.Saved!.IsUnknownTo(host.Facts))
                    .Select(host => (host.Host, Why: machine.Ours!.Saved!.ObstacleOn(host.Facts)))
                    .Where(each => each.Why is not null)
                    .Select(each => new HostVerdict { Host = each.Host.Name, Service = machine.Ours!.Mark.Service, Server = machine.Ours.Mark.ServerId, Refusal = each.Why })),
            ],
        };

        bool GivesUp(HyperVMachine machine) => MayGiveUp(machine) && IsNowhereResumed(machine, facts);
    }

    // One in the nest's share is registered nowhere, and nobody gives its memory up.
    private bool MayGiveUp(HyperVMachine machine) => _pool.HyperV.ResumeFailure == ResumeFailure.Boot && machine.Sleeper is null;

    private static bool KeepsMemory(HyperVMachine machine) => machine is { Ours: { Place: HyperVPlace.Nest, Saved: not null }, Power: PowerState.Saved };

    // By the owner's policy it then boots on any of them without its memory, or sleeps on.
    private static bool IsNowhereResumed(HyperVMachine machine, IReadOnlyList<(HostSpec Host, ResumeFacts Facts)> hosts)
    {
        var matrix = hosts.Where(each => each.Host.Role == HostRole.Matrix).ToArray();
        return matrix.Length > 0 && matrix.All(each => machine.Ours!.Saved!.ObstacleOn(each.Facts) is not null);
    }

    private async Task<IEnumerable<string>> NowhereResumedAsync(CancellationToken cancellation)
    {
        var facts = await FactsAsync(_keepers!, _pool.Hosts, cancellation);
        return _keepers!.Where(machine => IsNowhereResumed(machine, facts)).Select(machine =>
            $"No matrix host that answers can resume the memory of {machine.Who}: {machine.Ours!.Saved!.ObstacleOn(facts.First(each => each.Host.Role == HostRole.Matrix).Facts)} ({facts.First(each => each.Host.Role == HostRole.Matrix).Host.Name}). "
            + (machine.Sleeper is not null ? "It sleeps on in the nest's share, until a host is there that can."
            : MayGiveUp(machine) ? "When it is woken it boots without its memory (hyperv.resumeFailure: boot)." : "It sleeps on (hyperv.resumeFailure: refuse); boot would give its memory up when it is woken."));
    }

    /// <summary>What decides which memories resume, of the hosts that answer; asked only where a memory is kept, and again after ten minutes.</summary>
    private async Task<IReadOnlyList<(HostSpec Host, ResumeFacts Facts)>> FactsAsync(IReadOnlyList<HyperVMachine> keepers, IReadOnlyList<HostSpec> hosts, CancellationToken cancellation)
    {
        if (keepers.Count == 0)
            return [];
        var facts = await Task.WhenAll(hosts.Select(async host =>
        {
            try
            {
                return (host, await HostOf(host).FactsAsync(cancellation));
            }
            catch (VMatrixException)
            {
                // It is told of by who lists it.
                return (host, (ResumeFacts?)null);
            }
        }));
        return [.. facts.Where(each => each.Item2 is not null).Select(each => (each.host, each.Item2!))];
    }
}
