using System;
using System.Collections.Concurrent;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Scvmm;

/// <summary>Whether VMM balances host groups by itself, asked once for a group and kept for <see cref="Kept"/>.</summary>
internal sealed class ScvmmBalancing(ScvmmServer vmm, TimeProvider clock)
{
    /// <summary>How long an answer is believed.</summary>
    public static readonly TimeSpan Kept = TimeSpan.FromMinutes(5);

    private readonly ConcurrentDictionary<Guid, (DateTimeOffset At, OwnBalancing Answer)> _answers = new();
    private readonly ConcurrentDictionary<Guid, AskedTogether<OwnBalancing>> _questions = new();

    public async Task<OwnBalancing> FindAsync(ScvmmHost host, CancellationToken cancellation)
    {
        if (host.Group is not { } group)
            return new OwnBalancing(false, null);
        if (_answers.TryGetValue(group, out var known) && clock.GetUtcNow() - known.At < Kept)
            return known.Answer;
        var answer = await _questions.GetOrAdd(group, _ => new AskedTogether<OwnBalancing>(clock)).AskAsync(c => AskAsync(group, host.GroupPath, c), cancellation);
        _answers[group] = (clock.GetUtcNow(), answer);
        return answer;
    }

    private async Task<OwnBalancing> AskAsync(Guid group, string path, CancellationToken cancellation)
    {
        try
        {
            return await vmm.IsOptimizingAsync(group, path, cancellation) switch
            {
                true => new OwnBalancing(true,
                    $"VMM balances the host group '{path}' by itself (dynamic optimization, automatic mode). Servers of VMatrix are kept out of it; what else it moves takes room that plans count on, and power optimization may switch hosts off. "
                    + "Switch one of the two off: Set-SCDynamicOptimizationConfiguration -ManualMode on the group's configuration, or on that of the group that it inherits it from."),
                false => new OwnBalancing(false, null),
                null => new OwnBalancing(false, $"VMM does not say whether the host group '{path}' is balanced by dynamic optimization in automatic mode: look at Get-SCDynamicOptimizationConfiguration, and report which properties it shows."),
            };
        }
        catch (VMatrixException e) when (!e.IsTransient)
        {
            return new OwnBalancing(false, $"Whether VMM balances the host group '{path}' by itself was not found out: {e.Message}");
        }
        catch (VMatrixException)
        {
            // VMM does not answer now, which whoever lists machines tells.
            return new OwnBalancing(false, null);
        }
    }
}

/// <summary>What VMM does with a host group by itself.</summary>
/// <param name="IsAutomatic">True when it moves machines there without being asked.</param>
/// <param name="Problem">What is to be said of it, as sentences; null when nothing is.</param>
internal sealed record OwnBalancing(bool IsAutomatic, string? Problem);
