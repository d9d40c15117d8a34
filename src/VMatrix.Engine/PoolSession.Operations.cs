using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;

namespace VMatrix;

/// <content>What an operator changes at run time: overrides in the state folder, never the owner's file.</content>
public sealed partial class PoolSession
{
    /// <summary>Brings a suspended host back into use. False when it was not suspended.</summary>
    /// <exception cref="VMatrixException"><c>HostNotFound</c>.</exception>
    public Task<bool> ResumeHostAsync(string host, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        _ = RequireMover();
        return Task.FromResult(_state!.Overrides.ClearHost(FindHost(host).Name));
    }

    /// <summary>Pins a service to a count of servers in the Matrix, in force instead of the Oracle's.</summary>
    /// <param name="service">The service's name.</param>
    /// <param name="servers">The count; null to leave it to the Oracle again.</param>
    /// <param name="until">When the pin ends by itself; null for never.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <exception cref="VMatrixException"><c>ServiceNotFound</c>, <c>CountOutOfRange</c>.</exception>
    public Task PinServiceAsync(string service, int? servers, DateTimeOffset? until, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        _ = RequireMover();
        var spec = FindService(service);
        if (servers is not { } count)
        {
            _ = _state!.Overrides.ClearService(spec.Name);
            return Task.CompletedTask;
        }

        if (count < 0 || count > spec.Most)
        {
            throw new VMatrixException("CountOutOfRange", VMatrixErrorKind.InvalidInput,
                $"Service '{spec.Name}' cannot be pinned at {count} servers; its pool file allows at most {spec.Most}.");
        }

        _state!.Overrides.SetService(new ServiceOverride { Service = spec.Name, Servers = count, By = StateFolder.Describe(Environment.UserName), At = _clock.GetUtcNow(), Until = until });
        return Task.CompletedTask;
    }

    /// <summary>Replaces a service's servers in the Matrix by ones of its newest image: new ones up and healthy first, then the old ones out; when new ones fail, the old ones serve again.</summary>
    /// <param name="service">The service's name.</param>
    /// <param name="batchSize">Servers replaced at once.</param>
    /// <param name="watch">How long the new servers of a batch must stay healthy under load before their old ones go.</param>
    /// <param name="progress">Told at each change of a move; may be null.</param>
    /// <param name="cancellation">Ends it between two batches.</param>
    /// <exception cref="VMatrixException"><c>ServiceNotFound</c>, and what kept it from beginning.</exception>
    public async Task<UpdateResult> UpdateServiceAsync(string service, int batchSize, TimeSpan watch, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        var mover = RequireMover();
        var spec = FindService(service);
        await ReadyBalancerAsync(mover, ByHand(TimeSpan.Zero), progress, cancellation);
        return await mover.UpdateServiceAsync(spec, new UpdateOptions { BatchSize = batchSize, Watch = watch }, ByHand(null), progress, cancellation);
    }

    /// <summary>Finishes or takes back every move that was cut short, as the step it was in says, puts right servers that are elsewhere than their marks say and that no journal tells of, and gives the balancer the servers that it lacks.</summary>
    public async Task<IReadOnlyList<MoveRecord>> ResumeMovesAsync(IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        var mover = RequireMover();
        await EnsureBalancerAsync(cancellation);
        var recovered = await mover.RecoverAsync(ByHand(null), progress, cancellation);
        var mended = await mover.MendAsync(ByHand(null), progress, cancellation);
        var run = (await mover.TryAsync("Reading the balancer", Spec.Limits.StepTimeout, _drivers.Balancer.ReadAsync, cancellation)).Incarnation;
        return [.. recovered, .. mended, .. (await RepairBalancerAsync(mover, ByHand(TimeSpan.Zero), run, progress, cancellation)).Joined];
    }

    /// <summary>Makes a new image version of a service from a server in the Chamber, which stays there; new servers are made from it until the owner's files change or another version is selected.</summary>
    /// <param name="server">The server's id.</param>
    /// <param name="progress">Told at each step; may be null.</param>
    /// <param name="cancellation">Ends the call; no half version is left.</param>
    /// <exception cref="VMatrixException"><c>ServerNotFound</c>, <c>NotInChamber</c>, <c>ImageNotPublished</c> with why.</exception>
    public async Task<PublishedImage> PublishImageAsync(Guid server, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        var move = await PlanPublishAsync(server, cancellation);
        var (record, image) = await RequireMover().PublishAsync(move, ByHand(null), progress, cancellation);
        if (image is null)
            cancellation.ThrowIfCancellationRequested();
        return image ?? throw new VMatrixException("ImageNotPublished", record.Status is MoveStatus.Refused ? VMatrixErrorKind.InvalidState : VMatrixErrorKind.Failed,
            $"No image was made from server '{move.ServerName}': the move is {record.Status}. {record.Error}");
    }

    /// <summary>Makes the move that publishes a server, without carrying it out.</summary>
    /// <exception cref="VMatrixException"><c>ServerNotFound</c>, <c>NotInChamber</c>.</exception>
    public async Task<Move> PlanPublishAsync(Guid server, CancellationToken cancellation, PoolListing? listing = null)
    {
        var seen = listing?.Seen ?? await ObserveAsync(null, cancellation);
        var (info, mark) = seen.Find(server) ?? throw NoServer(server, seen);
        if (info.Stage is not Stage.Chamber)
        {
            throw new VMatrixException("NotInChamber", VMatrixErrorKind.InvalidState,
                $"Server '{info.Name}' is in the {info.Stage}; an image is made only from a server in the Chamber. Take it there first: Move-VMatrixServer {info.Id} -Stage Chamber.");
        }

        return MoveOf(info, mark, MoveKind.Publish, Stage.Chamber, info.Host);
    }

    /// <summary>Makes new servers of a service come from an older image version again, until the owner's files change or another one is published.</summary>
    /// <exception cref="VMatrixException"><c>ServiceNotFound</c>, <c>ImageNotFound</c>.</exception>
    public Task SelectImageAsync(string service, string version, CancellationToken cancellation)
    {
        _ = RequireMover();
        return _drivers.Hypervisor.SelectImageAsync(new DriverCall(Guid.NewGuid(), 0), FindService(service), version, cancellation);
    }

    /// <summary>Finishes a move that was cut short.</summary>
    /// <exception cref="VMatrixException"><c>MoveNotFound</c>, <c>MoveRunning</c> with who is at it.</exception>
    public Task<MoveRecord> ResumeMoveAsync(Guid move, IProgress<MoveRecord>? progress, CancellationToken cancellation) =>
        RequireMover().ResumeAsync(move, ByHand(null), progress, cancellation);

    /// <summary>Takes a move that was cut short back.</summary>
    /// <exception cref="VMatrixException"><c>MoveNotFound</c>, <c>MoveRunning</c> with who is at it.</exception>
    public Task<MoveRecord> UndoMoveAsync(Guid move, IProgress<MoveRecord>? progress, CancellationToken cancellation) =>
        RequireMover().UndoAsync(move, ByHand(null), progress, cancellation);
}
