using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>An object of a pool that comes down the pipeline of a reading cmdlet: a host, a service, a server, a move or a plan, live or from elsewhere. It narrows what is shown.</summary>
public sealed class PoolObject
{
    private const string Prefix = "VMatrix.";

    /// <summary>Narrows to a host.</summary>
    /// <param name="host">The host.</param>
    public PoolObject(HostInfo host) => (Pool, Hosts) = (host.Pool, [host.Name]);

    /// <summary>Narrows to a service.</summary>
    /// <param name="service">The service.</param>
    public PoolObject(ServiceInfo service) => (Pool, Service) = (service.Pool, service.Name);

    /// <summary>Narrows to a server, its service and its host.</summary>
    /// <param name="server">The server.</param>
    public PoolObject(ServerInfo server) => (Pool, Servers, Service, Hosts) = (server.Pool, [server.Id], server.Service, server.Host is null ? [] : [server.Host]);

    /// <summary>Narrows to a move, its server, service and hosts.</summary>
    /// <param name="record">The move.</param>
    public PoolObject(MoveRecord record)
        : this(record.Move) => (Pool, Plan) = (record.Pool, record.PlanId);

    /// <summary>Narrows to a move, its server, service and hosts.</summary>
    /// <param name="move">The move.</param>
    public PoolObject(Move move) =>
        (Pool, Move, Servers, Service, Hosts) = (move.Pool, move.Id, [move.ServerId], move.Service, [.. new[] { move.FromHost, move.ToHost }.OfType<string>()]);

    /// <summary>Narrows to a plan, its moves and their servers.</summary>
    /// <param name="plan">The plan.</param>
    public PoolObject(Plan plan) => (Pool, Plan, Servers) = (plan.Pool, plan.Id, [.. plan.Moves.Select(m => m.ServerId).Distinct()]);

    /// <summary>Narrows to a plan, its moves and their servers.</summary>
    /// <param name="record">The plan.</param>
    public PoolObject(PlanRecord record)
        : this(record.Plan) => Pool = record.Pool;

    /// <summary>Narrows to an object from elsewhere, by the type that it had.</summary>
    /// <param name="value">The object.</param>
    /// <exception cref="ArgumentException">It is none of a pool's objects.</exception>
    public PoolObject(PSObject value)
    {
        Pool = value.ReadPool();
        switch (TypeOf(value))
        {
            case "HostInfo":
                Hosts = [Text(value, "Name")];
                break;
            case "ServiceInfo":
                Service = Text(value, "Name");
                break;
            case "ServerInfo":
                (Servers, Service, Hosts) = ([Id(value, "Id")], Text(value, "Service"), Some(value.Read("Host")));
                break;
            case "MoveRecord":
                object move = value.Read("Move") ?? value;
                (Move, Servers, Service) = (Id(value, "Id"), [Id(move, "ServerId")], Text(move, "Service"));
                Hosts = [.. Some(move.Read("FromHost")), .. Some(move.Read("ToHost"))];
                Plan = value.Read("PlanId") is { } plan && Guid.TryParse(plan.ToString(), out var of) ? of : null;
                break;
            case "Plan" or "PlanRecord":
                Plan = Id(value, "Id");
                Servers = [.. LanguagePrimitives.GetEnumerable(value.Read("Moves"))?.Cast<object>().Select(m => Id(m, "ServerId")).Distinct() ?? []];
                break;
            default:
                throw new ArgumentException($"'{value}' is none of a pool's hosts, services, servers, moves and plans.", nameof(value));
        }
    }

    /// <summary>The pool that it comes from; null when it says none.</summary>
    internal string? Pool { get; }

    /// <summary>The servers that are meant; null for a host or a service.</summary>
    internal Guid[]? Servers { get; }

    /// <summary>The service that is meant; null for a host or a plan.</summary>
    internal string? Service { get; }

    /// <summary>The hosts that are meant, none for a server of the nest; null for a service or a plan.</summary>
    internal string[]? Hosts { get; }

    /// <summary>The plan that is meant, or that the move belongs to; null for none.</summary>
    internal Guid? Plan { get; }

    /// <summary>The move that is meant; null for anything else.</summary>
    internal Guid? Move { get; }

    private static string? TypeOf(PSObject value) =>
        value.TypeNames.Select(name => name.Replace("Deserialized.", "").Replace("Selected.", "")).FirstOrDefault(name => name.StartsWith(Prefix, StringComparison.Ordinal))?.Substring(Prefix.Length);

    private static string Text(object value, string property) =>
        value.Read(property)?.ToString() ?? throw new ArgumentException($"The object has no {property}, by which it would be known.");

    private static Guid Id(object value, string property) => Naming.Id(Text(value, property), "server, move or plan", "Get-VMatrixServer");

    private static string[] Some(object? host) => host?.ToString() is { } name ? [name] : [];
}

/// <summary>A reading cmdlet that a pool's other objects narrow when they come down the pipeline. All that came of one pool are shown from one look at it.</summary>
public abstract class NarrowedCommand : ReadingCommand
{
    private readonly List<(string Pool, PoolObject Object)> _narrowing = [];

    /// <summary>Hosts, services, servers, moves or plans that narrow what is shown, each in the pool that it comes from.</summary>
    [Parameter(ValueFromPipeline = true)]
    public PoolObject? InputObject { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        if (InputObject is { } given)
            ForItem(given, given.Pool, () => _narrowing.Add((PoolPath, given)));
        else
            ForItem(Pool, null, () => Show(null));
    }

    /// <inheritdoc/>
    protected override void EndProcessing()
    {
        foreach (var pool in _narrowing.GroupBy(n => n.Pool, n => n.Object))
            ForItem(pool.Key, pool.Key, () => Within(pool.Key, () => Show([.. pool])));
    }

    /// <summary>Shows what is asked for of the pool at hand.</summary>
    /// <param name="narrowing">The objects that narrow it; null for none.</param>
    private protected abstract bool Show(IReadOnlyList<PoolObject>? narrowing);

    private protected static HashSet<string>? Names(IReadOnlyList<PoolObject>? narrowing, Func<PoolObject, IEnumerable<string>> of) =>
        narrowing is null ? null : new HashSet<string>(narrowing.SelectMany(of), StringComparer.OrdinalIgnoreCase);
}
