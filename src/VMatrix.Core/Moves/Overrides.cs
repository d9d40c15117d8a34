using System;
using System.Collections.Generic;
using System.Globalization;
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

    /// <summary>Who or what confirmed that it is dead; null where that is <see cref="By"/>, and while it is not confirmed.</summary>
    public string? ConfirmedBy { get; init; }

    /// <summary>When it was confirmed; null where that is <see cref="At"/>.</summary>
    public DateTimeOffset? ConfirmedAt { get; init; }

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

/// <summary>
/// What operators changed at run time: one small file each, beside the pool file's settings, which stay the owner's. A file that cannot be
/// right hinders nothing but itself: it is told (<see cref="ReadProblems"/>), a host that it names counts as suspended, and a pin as not made.
/// </summary>
public sealed class Overrides
{
    /// <summary>Most servers that a pool file may ask for; a pin above it cannot be meant.</summary>
    public const int MostServers = 100_000;

    private readonly string _folder;
    private readonly string _state;

    internal Overrides(string folder, string state) => (_folder, _state) = (folder, state);

    /// <summary>The suspended hosts that are in force at a moment.</summary>
    public IReadOnlyList<HostOverride> ReadHosts(DateTimeOffset now) =>
        [.. Read<HostOverride>("hosts", WhyNot).Select(f => f.Value ?? new HostOverride { Host = f.Name, By = $"a damaged file ({f.Path})", At = now }).Where(o => o.Until is null || o.Until > now)];

    /// <summary>Suspends a host.</summary>
    public void SetHost(HostOverride value) => Set("hosts", value.Host, value);

    /// <summary>Takes a host back into use; false when it was not suspended.</summary>
    public bool ClearHost(string host) => Clear("hosts", host);

    /// <summary>The pinned counts that are in force at a moment.</summary>
    public IReadOnlyList<ServiceOverride> ReadServices(DateTimeOffset now) =>
        [.. Read<ServiceOverride>("services", WhyNot).Select(f => f.Value).OfType<ServiceOverride>().Where(o => o.Until is null || o.Until > now)];

    /// <summary>Pins a service's count.</summary>
    public void SetService(ServiceOverride value) => Set("services", value.Service, value);

    /// <summary>Leaves a service's count to the Oracle again; false when it was not pinned.</summary>
    public bool ClearService(string service) => Clear("services", service);

    /// <summary>The approvals.</summary>
    public IReadOnlyList<PlanApproval> ReadApprovals() => [.. Read<PlanApproval>("approvals", WhyNot).Select(f => f.Value).OfType<PlanApproval>()];

    /// <summary>What is wrong with the files, as sentences that name them.</summary>
    public IReadOnlyList<string> ReadProblems() =>
    [
        .. Read<HostOverride>("hosts", WhyNot).Where(f => f.Problem is not null).Select(f => $"{f.Problem} Until it is put right the host {f.Name} counts as suspended: Resume-VMatrixHost {f.Name} deletes it."),
        .. Read<ServiceOverride>("services", WhyNot).Where(f => f.Problem is not null).Select(f => $"{f.Problem} It pins nothing: delete it, and pin the count again with Set-VMatrixService."),
        .. Read<PlanApproval>("approvals", WhyNot).Where(f => f.Problem is not null).Select(f => $"{f.Problem} It approves nothing: delete it, and approve the plan again with Approve-VMatrixPlan."),
    ];

    /// <summary>Approves a plan.</summary>
    public void SetApproval(PlanApproval value) => Set("approvals", value.PlanId.ToString("D"), value);

    /// <summary>Takes an approval back, or deletes it once used; false when there was none.</summary>
    public bool ClearApproval(Guid plan) => Clear("approvals", plan.ToString("D"));

    private string? WhyNot(HostOverride value, string path) => IsAt(path, "hosts", value.Host) ? null : $"names the host '{value.Host}', which is not what it is called after";

    private string? WhyNot(ServiceOverride value, string path) => !IsAt(path, "services", value.Service) ? $"names the service '{value.Service}', which is not what it is called after"
        : value.Servers is < 0 or > MostServers ? string.Format(CultureInfo.InvariantCulture, "pins '{0}' at {1} servers, which is not between 0 and {2}", value.Service, value.Servers, MostServers)
        : null;

    private string? WhyNot(PlanApproval value, string path) => IsAt(path, "approvals", value.PlanId.ToString("D")) ? null : $"approves the plan {value.PlanId}, which is not what it is called after";

    // A copy of a file says nothing, whatever is in it.
    private bool IsAt(string path, string kind, string name) => string.Equals(Path.GetFileName(path), Path.GetFileName(PathOf(kind, name)), StringComparison.OrdinalIgnoreCase);

    private List<(string Path, string Name, T? Value, string? Problem)> Read<T>(string kind, Func<T, string, string?> whyNot) where T : class => StateFolder.Guard(_state, () =>
    {
        var found = new List<(string, string, T?, string?)>();
        var folder = Path.Combine(_folder, kind);
        if (!Directory.Exists(folder))
            return found;
        foreach (var path in Directory.GetFiles(folder, "*.json").OrderBy(p => p, StringComparer.Ordinal))
        {
            var name = Uri.UnescapeDataString(Path.GetFileNameWithoutExtension(path));
            try
            {
                var value = StateFiles.TryReadJson<T>(path);
                if (value is null)
                    continue;
                var why = whyNot(value, path);
                found.Add((path, name, why is null ? value : null, why is null ? null : $"The state file {path} {why}."));
            }
            catch (VMatrixException e)
            {
                found.Add((path, name, null, e.Message));
            }
        }

        return found;
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
