using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Drivers;

/// <summary>What the code for one kind of balancer does. Members are told apart by server id. Every changing call is safe to repeat.</summary>
public interface IBalancer : IAsyncDisposable
{
    /// <summary>Makes sure that it runs (when the pool owns it) and answers; called before anything else and again when it was lost.</summary>
    Task EnsureAsync(CancellationToken cancellation);

    /// <summary>Asks for its members and its counters, in one pass.</summary>
    /// <exception cref="VMatrixException"><c>BalancerUnreachable</c>.</exception>
    Task<BalancerReport> ReadAsync(CancellationToken cancellation);

    /// <summary>Lets a server take traffic. The caller has just seen its health check pass.</summary>
    Task JoinAsync(DriverCall call, ServiceSpec service, Guid server, string address, CancellationToken cancellation);

    /// <summary>Sends no new requests to a server; open ones go on. A server that is not a member is no error.</summary>
    Task DrainAsync(DriverCall call, string service, Guid server, CancellationToken cancellation);

    /// <summary>Removes a server, cutting requests that are still open. A server that is not a member is no error.</summary>
    Task LeaveAsync(DriverCall call, string service, Guid server, CancellationToken cancellation);

    /// <summary>Stops the balancer when the pool owns it; no error when it is not running or not owned.</summary>
    Task StopAsync(CancellationToken cancellation);
}

/// <summary>A balancer that its owner has set up, and that tells what in that setup keeps servers from serving as the pool file says.</summary>
public interface IExaminedBalancer
{
    /// <summary>Looks at the balancer's setup; empty where nothing is wrong, or where the pool owns the balancer.</summary>
    /// <param name="trial">True to add a server for a moment and remove it again, as the only proof that servers can be added; it gets no requests.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <exception cref="VMatrixException">What kept it from being looked at, such as <c>BalancerUnreachable</c>, <c>BalancerTooOld</c>, <c>BalancerDenied</c> and <c>BackendMissing</c>.</exception>
    Task<IReadOnlyList<BalancerFinding>> ExamineAsync(bool trial, CancellationToken cancellation);

    /// <summary>Tries whether the balancer takes servers of a service, as it is set up now: asked before a machine is started for it.</summary>
    /// <param name="service">The service.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <returns>What its owner must change; null where it takes them.</returns>
    /// <exception cref="VMatrixException">What kept it from being tried, as for <see cref="ExamineAsync"/>.</exception>
    Task<string?> FindRefusalAsync(ServiceSpec service, CancellationToken cancellation);
}

/// <summary>A balancer's answer: its members and cumulative counters at one moment.</summary>
public sealed record BalancerReport
{
    /// <summary>When it was asked.</summary>
    public required DateTimeOffset At { get; init; }

    /// <summary>Changes when the balancer was restarted, so that it may have lost its members.</summary>
    public required string Incarnation { get; init; }

    /// <summary>Changes when the counters begin anew; null where they do so with <see cref="Incarnation"/>.</summary>
    public string? CountersSince { get; init; }

    /// <summary>The members.</summary>
    public required IReadOnlyList<BalancerMember> Members { get; init; }

    /// <summary>Counters by service.</summary>
    public required IReadOnlyList<ServiceCounters> Services { get; init; }
}

/// <summary>What a member does.</summary>
public enum MemberState
{
    /// <summary>Takes requests.</summary>
    Ready,

    /// <summary>Takes no new requests; open ones go on.</summary>
    Draining,

    /// <summary>Takes none.</summary>
    Maintenance,

    /// <summary>The balancer's own check fails.</summary>
    Down,
}

/// <summary>A server in the balancer.</summary>
public sealed record BalancerMember
{
    /// <summary>Its service.</summary>
    public required string Service { get; init; }

    /// <summary>The server's id; empty for a member that VMatrix did not add.</summary>
    public required Guid ServerId { get; init; }

    /// <summary>Where it answers, as <c>address:port</c>.</summary>
    public required string Address { get; init; }

    /// <summary>What it does.</summary>
    public required MemberState State { get; init; }

    /// <summary>Requests open at it now.</summary>
    public int Open { get; init; }

    /// <summary>False where the balancer does not tell how many requests are open, so that <see cref="Open"/> says at most whether there are some.</summary>
    public bool CountsOpen { get; init; } = true;

    /// <summary>Requests that it was sent since the balancer's start.</summary>
    public long Requests { get; init; }

    /// <summary>Errors (no or bad answer) since the balancer's start.</summary>
    public long Errors { get; init; }

    /// <summary>Average response time lately.</summary>
    public TimeSpan ResponseTime { get; init; }
}

/// <summary>Counters of one service since the balancer's start.</summary>
public sealed record ServiceCounters
{
    /// <summary>The service.</summary>
    public required string Service { get; init; }

    /// <summary>Requests that arrived.</summary>
    public long Requests { get; init; }

    /// <summary>Requests that were answered by a server.</summary>
    public long Served { get; init; }

    /// <summary>Requests turned away for overload.</summary>
    public long Refused { get; init; }

    /// <summary>Requests that failed otherwise.</summary>
    public long Errors { get; init; }

    /// <summary>Requests that wait now.</summary>
    public int Queue { get; init; }

    /// <summary>Requests open at servers now.</summary>
    public int Sessions { get; init; }

    /// <summary>Average response time lately.</summary>
    public TimeSpan ResponseTime { get; init; }
}

/// <summary>Asks a server whether it works, from where the traffic comes.</summary>
public interface IHealthProbe
{
    /// <summary>One check. Null when it passed, else what was wrong, as a sentence. Never throws but for cancellation.</summary>
    Task<string?> CheckAsync(ServiceSpec service, string address, CancellationToken cancellation);
}
