using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Scripts;

namespace VMatrix.Moves;

/// <summary>Whether a host is dead, and how that is known.</summary>
/// <param name="Host">The host.</param>
/// <param name="Proven">True when nothing of the pool runs on it.</param>
/// <param name="How">How that is known; or, when it is not, why not and what would prove it.</param>
public sealed record HostProof(string Host, bool Proven, string How);

/// <content>The proof that must come before anything of a lost host is started elsewhere.</content>
public sealed partial class Mover
{
    /// <summary>
    /// Tries to prove that a host is dead: by an operator's word, by its servers' disks, or by the host's fence script, which is run only
    /// when nothing else helps and whose success is kept as the host's suspension. That a host cannot be reached proves nothing.
    /// Servers whose disks other hosts reach (<see cref="Drivers.HypervisorTraits.SharedDisks"/>) can then be relocated; of others the
    /// files are on the dead host, and new servers made from the image take their place.
    /// </summary>
    /// <param name="host">The host.</param>
    /// <param name="servers">The servers that were last seen on it.</param>
    /// <param name="fence">True to allow the fence script.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <param name="silence">What the host told just now instead of an answer; null to ask it. Before its fence script is run it is asked once more.</param>
    public async Task<HostProof> ProveHostDeadAsync(HostSpec host, IReadOnlyList<Guid> servers, bool fence, CancellationToken cancellation, VMatrixException? silence = null)
    {
        silence ??= await FindSilenceAsync(host, cancellation);
        if (silence is null)
            return new HostProof(host.Name, false, $"{host.Name} answers.");
        if (FindWord(host) is { } word)
            return new HostProof(host.Name, true, word);
        if (servers.Count > 0 && (await Task.WhenAll(servers.Select(server => ProveByDiskAsync(server, host, cancellation)))).All(proven => proven))
            return new HostProof(host.Name, true, $"The disks of all {servers.Count} servers of {host.Name} are free.");
        if (host.FenceScript is null)
            return new HostProof(host.Name, false, $"{silence.Message} That proves nothing, and the pool file names no fence script for {host.Name}. If you know that it is dead: Suspend-VMatrixHost {host.Name} -ConfirmDead.");
        if (!fence)
            return new HostProof(host.Name, false, $"{silence.Message} That proves nothing; its fence script was not run.");

        // One that answers anything at all is up, whatever it refuses: what runs on it is not taken from its users.
        silence = await FindSilenceAsync(host, cancellation);
        if (silence is null)
            return new HostProof(host.Name, false, $"{host.Name} answers.");
        if (silence.Kind is not (VMatrixErrorKind.Unreachable or VMatrixErrorKind.Timeout))
            return new HostProof(host.Name, false, $"{silence.Message} It is no dead host that answers so; its fence script was not run.");
        try
        {
            await RunFenceAsync(host, cancellation);
        }
        catch (VMatrixException e)
        {
            return new HostProof(host.Name, false, $"{silence.Message} {e.Message}");
        }

        // An operator's suspension stays theirs, with its end.
        var (by, now) = ($"fence script {host.FenceScript}", Clock.GetUtcNow());
        State.Overrides.SetHost(State.Overrides.ReadHosts(now).FirstOrDefault(o => string.Equals(o.Host, host.Name, StringComparison.OrdinalIgnoreCase)) is { } standing
            ? standing with { ConfirmedDead = true, ConfirmedBy = by, ConfirmedAt = now }
            : new HostOverride { Host = host.Name, ConfirmedDead = true, By = by, At = now });
        return new HostProof(host.Name, true, $"The fence script {host.FenceScript} made sure of it.");
    }

    /// <summary>Asks a host. Null when it answers; else what it told, whatever that is: a host that is ill has proven nothing.</summary>
    private async Task<VMatrixException?> FindSilenceAsync(HostSpec host, CancellationToken cancellation)
    {
        try
        {
            _ = await TryAsync($"Reading {host.Name}", Pool.Limits.StepTimeout, c => Hypervisor.ReadHostAsync(host, c), cancellation);
            EndWord(host.Name);
            return null;
        }
        catch (VMatrixException e)
        {
            return e;
        }
    }

    /// <summary>How it is known that a server does not run on a host that cannot be asked; null when it is not.</summary>
    internal async Task<string?> ProveStoppedAsync(Guid server, HostSpec host, CancellationToken cancellation) =>
        FindWord(host) ?? (await ProveByDiskAsync(server, host, cancellation) ? $"Its disk on {host.Name} is free." : null);

    private string? FindWord(HostSpec host) =>
        State.Overrides.ReadHosts(Clock.GetUtcNow()).FirstOrDefault(o => string.Equals(o.Host, host.Name, StringComparison.OrdinalIgnoreCase) && o.ConfirmedDead) is { } word ? $"{host.Name} is dead by the word of {word.ConfirmedBy ?? word.By}, given {Times.Show(word.ConfirmedAt ?? word.At)}." : null;

    /// <summary>A host that has answered is not dead: what was said of it no longer counts when it falls silent again. It stays suspended.</summary>
    internal void EndWord(string host) => Try(() =>
    {
        if (!ReadsOnly && State.Overrides.ReadHosts(Clock.GetUtcNow()).FirstOrDefault(o => string.Equals(o.Host, host, StringComparison.OrdinalIgnoreCase) && o.ConfirmedDead) is { } word)
            State.Overrides.SetHost(word with { ConfirmedDead = false, ConfirmedBy = null, ConfirmedAt = null });
    });

    private async Task<bool> ProveByDiskAsync(Guid server, HostSpec host, CancellationToken cancellation)
    {
        try
        {
            return await TryAsync($"Proving that a server of {host.Name} is stopped", Pool.Limits.StepTimeout, c => Hypervisor.ProveStoppedAsync(server, host, c), cancellation);
        }
        catch (VMatrixException)
        {
            return false;
        }
    }

    private async Task RunFenceAsync(HostSpec host, CancellationToken cancellation)
    {
        var script = host.FenceScript!;
        var environment = new Dictionary<string, string> { ["VMATRIX_HOST"] = host.Name, ["VMATRIX_HOST_ADDRESS"] = host.Address ?? "" };

        // What it writes is not kept, here or anywhere: it may hold secrets.
        var end = await ScriptRun.RunAsync(script, [], environment, Pool.Path, Pool.Limits.StepTimeout, Clock, cancellation);
        if (end.ExitCode != 0)
            throw new VMatrixException("FenceFailed", VMatrixErrorKind.Failed, $"The fence script {script} of {host.Name} ended with {end.ExitCode}; it proved nothing.");
    }
}
