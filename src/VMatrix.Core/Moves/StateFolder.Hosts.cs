using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using VMatrix.Files;

namespace VMatrix.Moves;

/// <content>Claims on hosts that are powered down or woken.</content>
public sealed partial class StateFolder
{
    private readonly HashSet<Guid> _hostsInWork = [];

    private string HostsFolder => System.IO.Path.Combine(Path, "hosts");

    private string HostPath(string host) => System.IO.Path.Combine(HostsFolder, Uri.EscapeDataString(host).Replace("*", "%2A").ToUpperInvariant() + ".json");

    /// <summary>The hosts that are being powered down or woken, and those where that was cut short.</summary>
    internal IReadOnlyList<HostClaim> ReadHostClaims() => ReadHostClaims(out _);

    /// <summary>The claims on hosts; damaged files are told in <paramref name="problems"/>, and no move is made to their hosts.</summary>
    private List<HostClaim> ReadHostClaims(out List<string> problems)
    {
        var bad = problems = [];
        return Guard(() =>
        {
            var claims = new List<HostClaim>();
            foreach (var path in Directory.Exists(HostsFolder) ? Directory.GetFiles(HostsFolder, "*.json") : [])
            {
                try
                {
                    if (StateFiles.TryReadJson<HostClaim>(path) is { } claim)
                        claims.Add(claim);
                }
                catch (VMatrixException e)
                {
                    bad.Add(e.Message);
                }
            }

            return claims.OrderBy(c => c.Action.Host, StringComparer.Ordinal).ToList();
        });
    }

    /// <summary>The claim on a host; null when there is none.</summary>
    internal HostClaim? ReadHostClaim(string host) => Guard(() => StateFiles.TryReadJson<HostClaim>(HostPath(host)));

    /// <summary>True when nobody is working on it.</summary>
    internal bool IsFree(HostClaim claim)
    {
        lock (_gate)
            return !_hostsInWork.Contains(claim.Action.Id) && (claim.Owner == _owner || !StateFiles.IsLocked(OwnerPath(claim.Owner)));
    }

    /// <summary>Claims a host, in the place of a claim whose owner is gone. A move that goes there looks for this claim after its own is made, and this one for moves: one of the two sees the other.</summary>
    internal (HostClaim? Claim, string? Busy) TryClaimHost(HostClaim claim, CancellationToken cancellation)
    {
        using (LockClaims(cancellation))
        {
            if (ReadHostClaim(claim.Action.Host) is { } other && !IsFree(other))
                return (null, $"{claim.Action.Host} is being worked on by {other.By}.");
            OwnFiles.CreateFolder(HostsFolder);
            lock (_gate)
                _ = _hostsInWork.Add(claim.Action.Id);
            StateFiles.Replace(HostPath(claim.Action.Host), StateFiles.ToBytes(claim));
        }

        if (claim.Action.Kind is HostActionKind.PowerDown && ReadOpen(out _).FirstOrDefault(m => string.Equals(m.Move.ToHost, claim.Action.Host, StringComparison.OrdinalIgnoreCase) || string.Equals(m.Move.FromHost, claim.Action.Host, StringComparison.OrdinalIgnoreCase)) is { } move)
        {
            ReleaseHost(claim);
            return (null, $"{claim.Action.Host} is not idle: {move.Move.ServerName} is being moved there or away by {move.By}.");
        }

        return (claim, null);
    }

    /// <summary>Ends the work on a host, and the claim with it unless it is kept for who comes next.</summary>
    internal void ReleaseHost(HostClaim claim, bool keep = false) => Guard(() =>
    {
        if (!keep)
            File.Delete(HostPath(claim.Action.Host));
        lock (_gate)
            _ = _hostsInWork.Remove(claim.Action.Id);
        return true;
    });
}
