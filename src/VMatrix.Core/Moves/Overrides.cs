using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using VMatrix.Files;

namespace VMatrix.Moves;

/// <summary>A host that an operator took out of use.</summary>
public sealed record HostOverride
{
    /// <summary>The host.</summary>
    public required string Host { get; init; }

    /// <summary>True when the operator gave their word that the host is dead, which allows its servers to be started elsewhere.</summary>
    public bool ConfirmedDead { get; init; }

    /// <summary>Who said so.</summary>
    public required string By { get; init; }

    /// <summary>When.</summary>
    public required DateTimeOffset At { get; init; }

    /// <summary>Until when; null until it is taken back.</summary>
    public DateTimeOffset? Until { get; init; }
}

/// <summary>A count of servers that an operator pinned.</summary>
public sealed record ServiceOverride
{
    /// <summary>The service.</summary>
    public required string Service { get; init; }

    /// <summary>Servers in the Matrix, instead of the Oracle's count.</summary>
    public required int Servers { get; init; }

    /// <summary>Who said so.</summary>
    public required string By { get; init; }

    /// <summary>When.</summary>
    public required DateTimeOffset At { get; init; }

    /// <summary>Until when; null until it is taken back.</summary>
    public DateTimeOffset? Until { get; init; }
}

/// <summary>An operator's yes to a stored plan.</summary>
public sealed record PlanApproval
{
    /// <summary>The plan.</summary>
    public required Guid PlanId { get; init; }

    /// <summary>The hash of what was approved.</summary>
    public required string Hash { get; init; }

    /// <summary>Who said so.</summary>
    public required string By { get; init; }

    /// <summary>When.</summary>
    public required DateTimeOffset At { get; init; }
}

/// <summary>What became of a stored plan, beside the plan itself, which never changes.</summary>
public sealed record PlanProgress
{
    /// <summary>The plan.</summary>
    public required Guid PlanId { get; init; }

    /// <summary>Who made it.</summary>
    public required string By { get; init; }

    /// <summary>Moves and actions with hosts that wait for an approval, or did.</summary>
    public IReadOnlyList<Guid> Waiting { get; init; } = [];

    /// <summary>True until the waiting moves are begun.</summary>
    public bool Waits { get; init; }

    /// <summary>Who approved it and when; null when nobody did.</summary>
    public string? ApprovedBy { get; init; }

    /// <summary>When moves of it were begun first; null when none were.</summary>
    public DateTimeOffset? BegunAt { get; init; }

    /// <summary>When the moves that were begun had all ended; null while they have not.</summary>
    public DateTimeOffset? EndedAt { get; init; }

    /// <summary>True when all moves that have ended were done.</summary>
    public bool AllDone { get; init; }

    /// <summary>Why it may no longer be approved; null when it may.</summary>
    public string? Superseded { get; init; }
}

/// <summary>What operators changed at run time: one small file each, beside the pool file's settings, which stay the owner's.</summary>
public sealed class Overrides
{
    private readonly string _folder;
    private readonly string _state;

    internal Overrides(string folder, string state) => (_folder, _state) = (folder, state);

    /// <summary>The suspended hosts that are in force at a moment.</summary>
    public IReadOnlyList<HostOverride> ReadHosts(DateTimeOffset now) => Read<HostOverride>("hosts", o => o.Until is null || o.Until > now);

    /// <summary>Suspends a host.</summary>
    public void SetHost(HostOverride value) => Set("hosts", value.Host, value);

    /// <summary>Takes a host back into use; false when it was not suspended.</summary>
    public bool ClearHost(string host) => Clear("hosts", host);

    /// <summary>The pinned counts that are in force at a moment.</summary>
    public IReadOnlyList<ServiceOverride> ReadServices(DateTimeOffset now) => Read<ServiceOverride>("services", o => o.Until is null || o.Until > now);

    /// <summary>Pins a service's count.</summary>
    public void SetService(ServiceOverride value) => Set("services", value.Service, value);

    /// <summary>Leaves a service's count to the Oracle again; false when it was not pinned.</summary>
    public bool ClearService(string service) => Clear("services", service);

    /// <summary>The approvals.</summary>
    public IReadOnlyList<PlanApproval> ReadApprovals() => Read<PlanApproval>("approvals", _ => true);

    /// <summary>Approves a plan.</summary>
    public void SetApproval(PlanApproval value) => Set("approvals", value.PlanId.ToString("D"), value);

    /// <summary>Takes an approval back, or deletes it once used; false when there was none.</summary>
    public bool ClearApproval(Guid plan) => Clear("approvals", plan.ToString("D"));

    private T[] Read<T>(string kind, Func<T, bool> inForce) where T : class => StateFolder.Guard(_state, () =>
    {
        var folder = Path.Combine(_folder, kind);
        return Directory.Exists(folder)
            ? Directory.GetFiles(folder, "*.json").OrderBy(p => p, StringComparer.Ordinal).Select(StateFiles.TryReadJson<T>).OfType<T>().Where(inForce).ToArray()
            : [];
    });

    private void Set<T>(string kind, string name, T value) => StateFolder.Guard(_state, () =>
    {
        OwnFiles.CreateFolder(Path.Combine(_folder, kind));
        StateFiles.Replace(PathOf(kind, name), StateFiles.ToBytes(value));
        return true;
    });

    private bool Clear(string kind, string name) => StateFolder.Guard(_state, () =>
    {
        var path = PathOf(kind, name);
        if (!File.Exists(path))
            return false;
        File.Delete(path);
        StateFiles.SyncFolder(Path.GetDirectoryName(path)!);
        return true;
    });

    // Names are the owner's and may hold anything; as escaped data they are one file name and nothing else.
    private string PathOf(string kind, string name) => Path.Combine(_folder, kind, Uri.EscapeDataString(name).Replace("*", "%2A").ToUpperInvariant() + ".json");
}
