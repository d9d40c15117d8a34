using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using VMatrix.Planning;

namespace VMatrix.Moves;

/// <summary>What is known of a host that a server might go to.</summary>
public sealed record CheckedHost
{
    /// <summary>The owner's settings.</summary>
    public required HostSpec Spec { get; init; }

    /// <summary>True when it answers.</summary>
    public bool Reachable { get; init; } = true;

    /// <summary>What it said is wrong, or why it does not answer; null for nothing.</summary>
    public string? Problem { get; init; }

    /// <summary>True while it is powered down.</summary>
    public bool PoweredDown { get; init; }

    /// <summary>Who suspended it, when, and until when; null when nobody did.</summary>
    public string? SuspendedBy { get; init; }

    /// <summary>The pool's servers on it.</summary>
    public IReadOnlyList<ServerInfo> Servers { get; init; } = [];

    /// <summary>Bytes of memory that machines hold which are not ours.</summary>
    public long ForeignBytes { get; init; }

    /// <summary>Open moves that touch it.</summary>
    public int OpenMoves { get; init; }
}

/// <summary>What stands in the way of a move by the pool's own rules, whatever its driver says of the machine. Pure.</summary>
public static class MoveChecks
{
    /// <summary>What there is to say of the server itself, wherever it goes.</summary>
    /// <param name="service">Its service.</param>
    /// <param name="server">The server.</param>
    /// <param name="to">The stage it is to go to.</param>
    /// <param name="claim">The open move that holds it; null for none.</param>
    /// <param name="now">The moment, in local time: windows are read in its offset.</param>
    public static IEnumerable<MoveObstacle> OfServer(ServiceSpec service, ServerInfo server, Stage to, MoveRecord? claim, DateTimeOffset now)
    {
        if (!StageRules.IsLegal(server.Stage, to) && server.Stage != to)
            yield return Block(ObstacleGroup.Software, "IllegalStageChange", StageRules.Describe(server.Stage, to), server.Stage is Stage.Disposed ? $"Restore-VMatrixServer {server.Id}" : null);
        if (server.Stage is Stage.Chamber or Stage.Matrix && to is Stage.Chamber or Stage.Matrix && server.Power is not PowerState.Running)
        {
            yield return Block(ObstacleGroup.Software, "NotRunning", $"It is in the {server.Stage} and is {server.Power}{(server.Problem is null ? "" : $" ({server.Problem.Split('\n')[0].TrimEnd('.')})")}; only what runs is taken to another host.",
                $"Move-VMatrixServer {server.Id} -Stage Nest");
        }

        if (claim is not null)
        {
            yield return Block(ObstacleGroup.People, "ServerClaimed", $"It is being moved by {claim.By}: {claim.Move.Kind}, begun {claim.StartedAt.ToString("u", CultureInfo.InvariantCulture)}{(claim.Status is MoveStatus.Interrupted ? ", cut short" : "")}.",
                claim.Status is MoveStatus.Interrupted ? $"Resume-VMatrixMove {claim.Id}" : "Wait for it to end.");
        }

        if (Planner.IsFrozen(service, now))
            yield return Block(ObstacleGroup.People, "FrozenWindow", $"{service.Name} is in a window in which its servers may not be moved ({string.Join("; ", service.Freeze.Select(Describe))}).", "Wait for its end, or move it with -Force.");
        if (server.HeldUntil > now)
            yield return Warn(ObstacleGroup.People, "Held", $"It was moved by hand and is held against the Oracle until {server.HeldUntil.Value.ToString("u", CultureInfo.InvariantCulture)}; a move by hand is not hindered.", null);
        if (server.Health is ServerHealth.Failing or ServerHealth.Hung && to is Stage.Matrix)
            yield return Warn(ObstacleGroup.Software, "Unhealthy", $"Its health check fails here{(server.Problem is null ? "" : $" ({server.Problem.Split('\n')[0].TrimEnd('.')})")}; where it fails there too the move is taken back.", $"Move-VMatrixServer {server.Id} -Stage Chamber");
    }

    /// <summary>What keeps a host from taking the server.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="service">The server's service.</param>
    /// <param name="server">The server.</param>
    /// <param name="to">The stage it is to go to: the Chamber or the Matrix.</param>
    /// <param name="host">The host.</param>
    /// <param name="serviceOf">The settings of a service by name; null for one that the pool no longer names.</param>
    public static IEnumerable<MoveObstacle> OfHost(PoolSpec pool, ServiceSpec service, ServerInfo server, Stage to, CheckedHost host, Func<string, ServiceSpec?> serviceOf)
    {
        var (spec, name) = (host.Spec, host.Spec.Name);
        if (spec.Role != (to is Stage.Chamber ? HostRole.Chamber : HostRole.Matrix))
            yield return Block(ObstacleGroup.People, "HostRoleMismatch", $"{name} is a {(spec.Role is HostRole.Matrix ? "matrix" : "chamber")} host", "Name a host of the other role, or another stage: Get-VMatrixHost.");
        if (!host.Reachable)
            yield return Block(ObstacleGroup.Hardware, "HostUnreachable", $"{name} does not answer{(host.Problem is null ? "" : $" ({host.Problem.TrimEnd('.')})")}", $"Test-Connection {spec.Address ?? name}");
        if (host.PoweredDown)
            yield return Block(ObstacleGroup.Hardware, "HostPoweredDown", $"{name} is powered down", $"Power {name} up.");
        if (host.SuspendedBy is not null)
            yield return Block(ObstacleGroup.People, "HostSuspended", $"{name} is suspended by {host.SuspendedBy}", $"Resume-VMatrixHost {name}");
        if (Contains(service.ForbiddenHosts, name) || (service.AllowedHosts.Count > 0 && !Contains(service.AllowedHosts, name)))
            yield return Block(ObstacleGroup.People, "HostNotAllowed", $"{name} is not allowed for {service.Name}", $"Change hosts of {service.Name} in {pool.Path}.");
        if (service.Licence is { } licence && to is Stage.Matrix && !spec.Licences.Contains(licence, StringComparer.Ordinal) && pool.Licences.FirstOrDefault(l => l.Name == licence) is not { Seats: > 0 })
            yield return Block(ObstacleGroup.People, "LicenceMissing", $"{name} does not hold the licence {licence} that {service.Name} needs", $"Give {name} the licence in {pool.Path}, or choose a host that holds it.");

        var there = host.Servers.Where(s => s.Id != server.Id).ToArray();
        if (spec.MostServers is { } most && there.Length >= most)
            yield return Block(ObstacleGroup.People, "MostServers", $"{name} has {there.Length} of {most} servers", $"Move one away first: Get-VMatrixServer -HostName {name}.");
        if (to is Stage.Matrix && there.Length > 0 && (service.Isolation is Isolation.Dedicated || there.Any(s => serviceOf(s.Service)?.Isolation is Isolation.Dedicated)))
            yield return Block(ObstacleGroup.People, "Isolation", $"{name} holds {there[0].Name} and isolation is dedicated (services with isolation: shared in the pool file share hosts)", $"Move-VMatrixServer {there[0].Id} -Stage Nest");
        if (to is Stage.Matrix && there.FirstOrDefault(s => Contains(service.AntiAffinity, s.Service) || (serviceOf(s.Service) is { } other && Contains(other.AntiAffinity, service.Name))) is { } refused)
            yield return Warn(ObstacleGroup.People, "AntiAffinity", $"{service.Name} and {refused.Service} refuse each other's company, and {name} holds {refused.Name}: the Oracle will take one of them away again", null);
        var used = host.ForeignBytes + there.Sum(s => s.MemoryBytes);
        if (spec.MemoryBytes - used < server.MemoryBytes)
            yield return Block(ObstacleGroup.Hardware, "NoRoom", $"{name} has {(spec.MemoryBytes - used) >> 20} MiB free of the {server.MemoryBytes >> 20} MiB needed", $"Move a server away first: Get-VMatrixServer -HostName {name}.");
        if (host.OpenMoves >= pool.Limits.MovesPerHost)
            yield return Warn(ObstacleGroup.People, "TooManyMoves", $"{host.OpenMoves} moves touch {name} already, and limits.movesPerHost is {pool.Limits.MovesPerHost}: it waits for its turn", "Get-VMatrixMove -Status Running");
    }

    private static bool Contains(IReadOnlyList<string> names, string name) => names.Contains(name, StringComparer.OrdinalIgnoreCase);

    private static string Describe(FreezeSpec window) =>
        $"{(window.Days.Count == 0 ? "every day" : string.Join(", ", window.Days))} {window.From.ToString(@"hh\:mm", CultureInfo.InvariantCulture)} to {window.To.ToString(@"hh\:mm", CultureInfo.InvariantCulture)}";

    private static MoveObstacle Block(ObstacleGroup group, string what, string why, string? mend) => new() { Group = group, What = what, Why = why, Mend = mend };

    private static MoveObstacle Warn(ObstacleGroup group, string what, string why, string? mend) => new() { Group = group, What = what, Why = why, Mend = mend, Severity = ObstacleSeverity.Warns };
}
