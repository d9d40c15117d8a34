using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Scvmm;

/// <summary>
/// What VMM says of hosts for the servers of each service: one call for a service and all hosts, kept for <see cref="Kept"/>. Servers of one
/// service are alike, so one machine stands for them: the image that new ones are cloned from, else one of them, one that sleeps if there is one.
/// </summary>
internal sealed class ScvmmRatings(PoolSpec pool, ScvmmServer vmm, TimeProvider clock)
{
    /// <summary>How long an answer is believed, one that failed too.</summary>
    public static readonly TimeSpan Kept = TimeSpan.FromMinutes(5);

    private const double MostStars = 5;
    private readonly ConcurrentDictionary<string, Answer> _answers = new(StringComparer.OrdinalIgnoreCase);

    private sealed record Answer(DateTimeOffset At, HashSet<string> Hosts, IReadOnlyList<HostVerdict> Verdicts, string? Problem);

    /// <summary>What is known of these hosts; asks for what is not, or no longer.</summary>
    /// <param name="hosts">Hosts that answer.</param>
    /// <param name="list">Lists every machine.</param>
    /// <param name="imageOf">The machine that new servers of a service are cloned from; null when there is none yet.</param>
    /// <param name="cancellation">Ends the call.</param>
    public async Task<HostAdvice> AdviseAsync(
        IReadOnlyList<HostSpec> hosts, Func<CancellationToken, Task<IReadOnlyList<ScvmmMachine>>> list, Func<IReadOnlyList<ScvmmMachine>, ServiceSpec, ScvmmMachine?> imageOf, CancellationToken cancellation)
    {
        var now = clock.GetUtcNow();
        var stale = pool.Services.Where(s => !_answers.TryGetValue(s.Name, out var known) || now - known.At >= Kept || !hosts.All(h => known.Hosts.Contains(h.Name))).ToArray();
        var problems = new List<string>();
        if (stale.Length > 0 && hosts.Count > 0)
        {
            IReadOnlyList<ScvmmMachine> machines = [];
            try
            {
                machines = await list(cancellation);
            }
            catch (VMatrixException e)
            {
                problems.Add($"VMM was not asked how it rates hosts: {e.Message}");
            }

            foreach (var (service, answer) in await Task.WhenAll(stale.Select(async s => (s.Name, await AskAsync(s, imageOf(machines, s) ?? OneOf(machines, s), hosts, now, cancellation)))))
            {
                // Where there is nothing yet to be rated there may be at any moment.
                if (answer is not null)
                    _answers[service] = answer;
            }
        }

        var asked = new HashSet<string>(hosts.Select(h => h.Name));
        return new HostAdvice
        {
            Verdicts = [.. _answers.Values.SelectMany(a => a.Verdicts).Where(v => asked.Contains(v.Host))],
            Problems = [.. problems, .. _answers.Values.Select(a => a.Problem).OfType<string>()],
        };
    }

    private static ScvmmMachine? OneOf(IReadOnlyList<ScvmmMachine> machines, ServiceSpec service) =>
        machines.Where(m => m.Ours is { } ours && string.Equals(ours.Mark.Service, service.Name, StringComparison.OrdinalIgnoreCase) && m.Place != HyperV.HyperVPlace.Disposed && !m.IsChanging)
            .OrderBy(m => m.IsStored ? 0 : 1).ThenBy(m => m.Id).FirstOrDefault();

    private async Task<Answer?> AskAsync(ServiceSpec service, ScvmmMachine? machine, IReadOnlyList<HostSpec> hosts, DateTimeOffset now, CancellationToken cancellation)
    {
        if (machine is null)
            return null;
        var names = new HashSet<string>(hosts.Select(h => h.Name));
        try
        {
            // Of the host that it is on a rating says nothing: it need not be moved there.
            var others = hosts.Where(h => !ScvmmServer.IsOn(machine, h)).ToArray();
            var ratings = others.Length == 0 ? [] : await vmm.RateAsync(machine, others, cancellation);
            return new Answer(now, names, [.. ratings.Select(r => Judge(service, machine, r)).OfType<HostVerdict>()], null);
        }
        catch (VMatrixException e)
        {
            return new Answer(now, names, [], $"VMM was asked how it rates hosts for {service.Name}, and placement goes by the pool file alone: {e.Message}");
        }
    }

    private static HostVerdict? Judge(ServiceSpec service, ScvmmMachine machine, ScvmmRating rating)
    {
        var verdict = new HostVerdict { Host = rating.Host.Name, Service = service.Name };
        if (rating.Stars > 0)
            return verdict with { Rating = Math.Min(1, rating.Stars / MostStars) };

        // A host that is full now may be emptied by the very plan that is made: room is for placement to judge. Texts are localised, so that
        // a reason is known as that of a full host by its being the only one.
        return rating.AvailableBytes < machine.MemoryBytes && rating.Reasons.Count <= 1 ? null
            : verdict with { Refusal = $"VMM rates it zero: {(rating.Reasons.Count == 0 ? "it does not say why" : string.Join("; ", rating.Reasons.Select(r => r.TrimEnd('.', ' '))))}" };
    }
}

/// <summary>VMM's rating of a host for a machine.</summary>
/// <param name="Host">The host.</param>
/// <param name="Stars">From 0, not at all, to 5.</param>
/// <param name="Reasons">Why it is zero, in VMM's language.</param>
/// <param name="AvailableBytes">Memory that is free there as VMM knows; null when it does not say.</param>
internal sealed record ScvmmRating(HostSpec Host, double Stars, IReadOnlyList<string> Reasons, long? AvailableBytes);
