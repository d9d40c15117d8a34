using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix;

/// <summary>The one door: opens a pool file, wires its drivers, and does what the cmdlets and the Oracle ask. Its public face uses the Model's types only.</summary>
public sealed class PoolSession : IAsyncDisposable
{
    private PoolSession(PoolSpec spec) => Spec = spec;

    /// <summary>The owner's settings.</summary>
    public PoolSpec Spec { get; }

    /// <summary>Checks a pool file; an empty list means that it is right.</summary>
    public static IReadOnlyList<PoolFinding> Check(string path) => throw new NotImplementedException();

    /// <summary>Opens a pool.</summary>
    /// <param name="path">The pool file.</param>
    /// <param name="forChange">False for reading: the state folder is then never made or written.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <exception cref="VMatrixException"><c>PoolInvalid</c> with every finding, <c>PoolNotFound</c>.</exception>
    public static Task<PoolSession> OpenAsync(string path, bool forChange, CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>The pool as it is now.</summary>
    public Task<PoolInfo> GetPoolAsync(CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>The hosts as they are now.</summary>
    public Task<IReadOnlyList<HostInfo>> GetHostsAsync(CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>The services as they are now.</summary>
    public Task<IReadOnlyList<ServiceInfo>> GetServicesAsync(CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>The servers as they are now, host by host as their answers come.</summary>
    /// <param name="health">True to ask each running server's health check too.</param>
    /// <param name="found">Called with each batch as it comes, never at the same time from two threads; may be null.</param>
    /// <param name="cancellation">Ends the call.</param>
    public Task<IReadOnlyList<ServerInfo>> GetServersAsync(bool health, Action<IReadOnlyList<ServerInfo>>? found, CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>Moves, newest first: open ones always, ended ones from the history.</summary>
    public Task<IReadOnlyList<MoveRecord>> GetMovesAsync(DateTimeOffset? since, int most, CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>Makes a move for new servers of a service, without carrying it out.</summary>
    public Task<IReadOnlyList<Move>> PlanCreateAsync(string service, int count, string? name, CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>Makes the move that takes a server to a stage, a host or both, without carrying it out. Checks legality and room; chooses the host where none is named.</summary>
    /// <exception cref="VMatrixException"><c>ServerNotFound</c>, <c>IllegalStageChange</c>, <c>HostNotFound</c>, <c>NoRoom</c>, <c>AlreadyThere</c>.</exception>
    public Task<Move> PlanMoveAsync(Guid server, Stage? stage, string? destination, bool live, CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>Makes the move that purges a disposed server, without carrying it out.</summary>
    public Task<Move> PlanPurgeAsync(Guid server, CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>Senses and makes a plan, stored under its id; changes nothing else.</summary>
    public Task<Plan> PlanSwitchAsync(CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>Carries moves out by hand: servers are claimed meanwhile and held against the Oracle after.</summary>
    /// <param name="moves">The moves.</param>
    /// <param name="holdFor">How long the Oracle leaves the servers alone after; null for the pool setting.</param>
    /// <param name="progress">Told at each change; may be null.</param>
    /// <param name="cancellation">Ends the call at the nearest whole state.</param>
    public Task<IReadOnlyList<MoveRecord>> CarryOutAsync(IReadOnlyList<Move> moves, TimeSpan? holdFor, IProgress<MoveRecord>? progress, CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>Carries out a stored plan by its id, as the pool's decider.</summary>
    /// <exception cref="VMatrixException"><c>PlanNotFound</c>, <c>PlanExpired</c>, <c>DeciderBusy</c>.</exception>
    public Task<IReadOnlyList<MoveRecord>> SwitchAsync(Guid plan, IProgress<MoveRecord>? progress, CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>Switches again and again as the pool's decider until cancelled.</summary>
    /// <param name="name">What the decider calls itself.</param>
    /// <param name="interval">Time from one switch to the next; null for the pool's setting.</param>
    /// <param name="switched">Told of each plan; may be null.</param>
    /// <param name="progress">Told at each change of a move; may be null.</param>
    /// <param name="cancellation">Ends it, with nothing half done.</param>
    public Task RunAsync(string name, TimeSpan? interval, Action<Plan>? switched, IProgress<MoveRecord>? progress, CancellationToken cancellation) => throw new NotImplementedException();

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => throw new NotImplementedException();
}
