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

    /// <summary>Why its platform wants nothing new on it; null when it may be used.</summary>
    public string? Maintenance { get; init; }

    /// <summary>Who suspended it, when, and until when; null when nobody did.</summary>
    public string? SuspendedBy { get; init; }

    /// <summary>The pool's servers on it.</summary>
    public IReadOnlyList<ServerInfo> Servers { get; init; } = [];

    /// <summary>Bytes of memory that machines hold which are not ours.</summary>
    public long ForeignBytes { get; init; }

    /// <summary>Processors that machines have which are not ours.</summary>
    public int ForeignCores { get; init; }

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
        string name = host.Spec.Name;
        ServerInfo[] there = [.. host.Servers.Where(s => s.Id != server.Id)];
        var services = there.Select(s => serviceOf(s.Service)).OfType<ServiceSpec>().Append(service).GroupBy(s => s.Name).Select(g => g.Last());
        var state = new HostState { Name = name, Reachable = host.Reachable, PoweredDown = host.PoweredDown, Suspended = host.SuspendedBy is not null, ForeignMemoryBytes = host.ForeignBytes, ForeignCores = host.ForeignCores };
        var verdict = PlacementRules.Check(
            pool with { Services = [.. services], Hosts = [.. pool.Hosts.Where(h => h.Name != name), host.Spec] },
            PlacementRules.Server(server.Id, server.Name, service.Name, server.Stage, null, server.MemoryBytes, server.Cores),
            to, state, there.Select(s => PlacementRules.Server(s.Id, s.Name, serviceOf(s.Service)?.Name ?? s.Service, to, name, s.MemoryBytes, s.Cores)));
        return OfHost(pool, service, to, host, verdict);
    }

    /// <summary>What keeps a host from taking a server, by what <see cref="PlacementRules"/> says of both.</summary>
    internal static IEnumerable<MoveObstacle> OfHost(PoolSpec pool, ServiceSpec service, Stage to, CheckedHost host, PlacementVerdict verdict)
    {
        var (spec, name, rules) = (host.Spec, host.Spec.Name, verdict.Rules);
        if (rules.HasFlag(Rules.Role))
            yield return Block(ObstacleGroup.People, "HostRoleMismatch", $"{name} is a {(spec.Role is HostRole.Matrix ? "matrix" : "chamber")} host", "Name a host of the other role, or another stage: Get-VMatrixHost.");
        if (!host.Reachable)
            yield return Block(ObstacleGroup.Hardware, "HostUnreachable", $"{name} does not answer{(host.Problem is null ? "" : $" ({host.Problem.TrimEnd('.')})")}", $"Test-Connection {spec.Address ?? name}");
        if (host.PoweredDown)
            yield return Block(ObstacleGroup.Hardware, "HostPoweredDown", $"{name} is powered down", $"Power {name} up.");
        if (host.Maintenance is not null)
            yield return Block(ObstacleGroup.People, "HostInMaintenance", $"{name} takes nothing new: {host.Maintenance}", "Wait until who maintains it brings it back.");
        if (host.SuspendedBy is not null)
            yield return Block(ObstacleGroup.People, "HostSuspended", $"{name} is suspended by {host.SuspendedBy}", $"Resume-VMatrixHost {name}");
        if (rules.HasFlag(Rules.Hosts))
            yield return Block(ObstacleGroup.People, "HostNotAllowed", $"{name} is not allowed for {service.Name}", $"Change hosts of {service.Name} in {pool.Path}.");
        if (rules.HasFlag(Rules.Licence))
        {
            yield return Block(ObstacleGroup.People, "LicenceMissing", $"{name} does not hold the licence {service.Licence} that {service.Name} needs{(Terms(pool, service) is { Seats: > 0 } terms ? Words.Text($", and none of its {terms.Seats} seats is free") : "")}",
                $"Give {name} the licence in {pool.Path}, or choose a host that holds it.");
        }

        if (rules.HasFlag(Rules.LicenceInstances))
        {
            yield return Block(ObstacleGroup.People, "LicenceInstances", Words.Text($"{name} runs {verdict.Instances} of the {Terms(pool, service)?.InstancesPerHost} servers that the licence {service.Licence} allows on one host (instancesPerHost)"),
                $"Choose another host, or move one away first: Get-VMatrixServer -HostName {name}.");
        }

        if (rules.HasFlag(Rules.MostServers))
            yield return Block(ObstacleGroup.People, "MostServers", Words.Text($"{name} has {verdict.Others.Count} of {spec.MostServers} servers"), $"Move one away first: Get-VMatrixServer -HostName {name}.");
        if (rules.HasFlag(Rules.Dedicated))
            yield return Block(ObstacleGroup.People, "Isolation", $"{name} holds {verdict.Alone} and isolation is dedicated (services with isolation: shared in the pool file share hosts)", $"Move-VMatrixServer {verdict.Alone} -Stage Nest");
        if (rules.HasFlag(Rules.AntiAffinity) && verdict.Refused is var (other, theirs))
            yield return Warn(ObstacleGroup.People, "AntiAffinity", $"{service.Name} and {theirs} refuse each other's company, and {name} holds {other}: the Oracle will take one of them away again", null);
        if (rules.HasFlag(Rules.Memory))
            yield return Block(ObstacleGroup.Hardware, "NoRoom", Words.Text($"{name} has {Math.Max(0, verdict.FreeMemoryBytes) >> 20} MiB free of the {verdict.MemoryBytes >> 20} MiB needed"), $"Move a server away first: Get-VMatrixServer -HostName {name}.");
        if (rules.HasFlag(Rules.Cores))
        {
            yield return Block(ObstacleGroup.Hardware, "TooFewCores", Words.Text($"{name} has {Math.Max(0, verdict.FreeCores)} of its {spec.Cores} cores free, and {verdict.Cores} {(verdict.Cores == 1 ? "is" : "are")} needed"),
                $"Move a server away first: Get-VMatrixServer -HostName {name}; or change cores of {name} in {pool.Path}.");
        }

        if (host.OpenMoves >= pool.Limits.MovesPerHost)
            yield return Warn(ObstacleGroup.People, "TooManyMoves", $"{host.OpenMoves} moves touch {name} already, and limits.movesPerHost is {pool.Limits.MovesPerHost}: it waits for its turn", "Get-VMatrixMove -Status Running");
    }

    /// <summary>Why a host has no place for a server that is on its way there, as a sentence; null when it has. A wish for company that is not met does not stop a move that was begun.</summary>
    internal static string? LackOfRoom(PoolSpec pool, HostSpec host, string service, PlacementVerdict verdict)
    {
        var rules = verdict.Rules & ~(Rules.AntiAffinity | Rules.Suspended);
        if (rules == Rules.None)
            return null;
        var spec = pool.Services.FirstOrDefault(s => s.Name == service);
        string why = rules.HasFlag(Rules.PoweredDown) ? $"{host.Name} is powered down"
            : rules.HasFlag(Rules.Memory) ? Words.Text($"{host.Name} has {host.MemoryBytes >> 20} MiB for servers, {(host.MemoryBytes - verdict.FreeMemoryBytes) >> 20} MiB are taken or spoken for, and a server of {service} needs {verdict.MemoryBytes >> 20} MiB")
            : rules.HasFlag(Rules.Cores) ? Words.Text($"{host.Name} has {host.Cores} cores for servers, {host.Cores - verdict.FreeCores} are taken or spoken for, and a server of {service} needs {verdict.Cores}")
            : rules.HasFlag(Rules.MostServers) ? Words.Text($"{host.Name} takes {host.MostServers} servers and has them or expects them: {string.Join(", ", verdict.Others)}")
            : rules.HasFlag(Rules.LicenceInstances) ? Words.Text($"the licence {spec?.Licence} allows {(spec is null ? null : Terms(pool, spec)?.InstancesPerHost)} servers on one host, and {host.Name} has or expects {verdict.Instances}")
            : rules.HasFlag(Rules.Dedicated) ? $"{(spec?.Isolation is Isolation.Dedicated ? $"{service} wants a host of its own" : $"{verdict.Alone} wants a host of its own")}, and {host.Name} has or expects {verdict.Alone}"
            : $"{host.Name} is not for a server of {service}: {string.Join(", ", PlacementReasons.Names(rules))}";
        return $"NoRoom: {why}.";
    }

    private static LicenceSpec? Terms(PoolSpec pool, ServiceSpec service) => pool.Licences.FirstOrDefault(l => l.Name == service.Licence);

    private static string Describe(FreezeSpec window) =>
        $"{(window.Days.Count == 0 ? "every day" : string.Join(", ", window.Days))} {window.From.ToString(@"hh\:mm", CultureInfo.InvariantCulture)} to {window.To.ToString(@"hh\:mm", CultureInfo.InvariantCulture)}";

    private static MoveObstacle Block(ObstacleGroup group, string what, string why, string? mend) => new() { Group = group, What = what, Why = why, Mend = mend };

    private static MoveObstacle Warn(ObstacleGroup group, string what, string why, string? mend) => new() { Group = group, What = what, Why = why, Mend = mend, Severity = ObstacleSeverity.Warns };
}
