using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Polly;
using Polly.Retry;
using VMatrix.Drivers;
using VMatrix.Planning;

namespace VMatrix.Moves;

/// <summary>Carries moves out, step by step, journaled, resumable.</summary>
#pragma warning disable CA1001 // The token source holds nothing that needs disposing: no timer, no wait handle.
public sealed partial class Mover
#pragma warning restore CA1001
{
    private readonly MoveGate _gate;
    private readonly ResiliencePipeline _retries;
    private readonly Dictionary<string, Task> _imagesInWork = new(StringComparer.Ordinal);
    private volatile string? _imageHost;
    private readonly CancellationTokenSource _dead = new();
    private AbandonException? _abandoned;

    /// <summary>Makes a mover over a pool's drivers, state folder and clock.</summary>
    /// <param name="pool">The owner's settings.</param>
    /// <param name="hypervisor">Runs the servers.</param>
    /// <param name="balancer">Sends them requests.</param>
    /// <param name="health">Asks whether they work.</param>
    /// <param name="state">The pool's state folder.</param>
    /// <param name="clock">All waiting is done on it.</param>
    /// <param name="seed">Seeds the jitter of retries; null for one that differs from process to process.</param>
    public Mover(PoolSpec pool, IHypervisor hypervisor, IBalancer balancer, IHealthProbe health, StateFolder state, TimeProvider clock, int? seed = null)
    {
        (Pool, Hypervisor, Balancer, Health, State, Clock) = (pool, hypervisor, balancer, health, state, clock);
        Holds = new Holds(state, clock);
        _gate = new MoveGate(pool.Limits);
        _retries = MakeRetries(pool.Limits, clock, new Random(seed ?? Guid.NewGuid().GetHashCode()));
    }

    /// <summary>True for one that only looks: it proves and explains, and writes nothing.</summary>
    public bool ReadsOnly { get; init; }

    internal PoolSpec Pool { get; }

    internal IHypervisor Hypervisor { get; }

    internal IBalancer Balancer { get; }

    internal IHealthProbe Health { get; }

    internal StateFolder State { get; }

    internal TimeProvider Clock { get; }

    internal Holds Holds { get; }

    /// <summary>Carries moves out in the order that their dependencies and the pool's limits allow. Returns what became of each, in the same order; a move that fails is told in its record and does not throw.</summary>
    /// <param name="moves">The moves.</param>
    /// <param name="context">Who carries them out.</param>
    /// <param name="progress">Told at each change of a move's status or step; may be null.</param>
    /// <param name="cancellation">Moves not begun are refused; open ones are taken to the nearest whole state.</param>
    public async Task<IReadOnlyList<MoveRecord>> CarryOutAsync(IReadOnlyList<Move> moves, MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        return await CarryOutAsync(moves, new Batch(context, progress, MakeTruth(), cancellation));
    }

    /// <summary>Carries out the move that makes a new image version from a server.</summary>
    /// <returns>What became of the move, and the version when it is done.</returns>
    public async Task<(MoveRecord Record, PublishedImage? Image)> PublishAsync(Move move, MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        var batch = new Batch(context, progress, MakeTruth(), cancellation);
        var record = (await CarryOutAsync([move], batch))[0];
        return (record, record.Status is MoveStatus.Done ? batch.Published : null);
    }

    private async Task<IReadOnlyList<MoveRecord>> CarryOutAsync(IReadOnlyList<Move> moves, Batch batch)
    {
        var ids = moves.ToDictionary(m => m.Id);
        var tasks = new Dictionary<Guid, Task<MoveRecord>>();
        foreach (var move in Sort(moves, ids))
        {
            var before = move.DependsOn.Select(id => tasks.TryGetValue(id, out var task) ? task : null).ToArray();
            tasks[move.Id] = RunAsync(move, before, batch);
        }
        return await AllAsync(moves.Select(m => tasks[m.Id]).ToArray());
    }

    /// <summary>Finishes or undoes every move that was cut short, as its step allows. Called before anything else by whoever carries out moves. Moves that somebody is working on are left alone.</summary>
    /// <param name="context">Who carries them out.</param>
    /// <param name="progress">Told at each change of a move's status or step; may be null.</param>
    /// <param name="cancellation">Ends it at the nearest whole state.</param>
    /// <param name="only">The moves to take up; null for all.</param>
    public async Task<IReadOnlyList<MoveRecord>> RecoverAsync(MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation, IReadOnlyCollection<Guid>? only = null)
    {
        var batch = new Batch(context, progress, MakeTruth(), cancellation);
        var tasks = State.Guard(() => State.ReadOpen(out _)).Where(m => State.IsFree(m) && (only is null || only.Contains(m.Move.Id))).Select(m => RecoverAsync(m, batch, finish: null)).ToArray();
        var records = await AllAsync(tasks);
        State.Guard(() =>
        {
            State.ClearLeftovers(cancellation);
            return true;
        });
        return [.. records.OfType<MoveRecord>()];
    }

    /// <summary>Finishes a move that was cut short; takes it back only if that fails.</summary>
    /// <exception cref="VMatrixException"><c>MoveNotFound</c>, <c>MoveRunning</c> with who is at it.</exception>
    public Task<MoveRecord> ResumeAsync(Guid move, MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation) => RecoverAsync(move, context, progress, true, cancellation);

    /// <summary>Takes back a move that was cut short. One that has passed the point of no return (a dispose whose machine is gone, a purge) is finished instead.</summary>
    /// <exception cref="VMatrixException"><c>MoveNotFound</c>, <c>MoveRunning</c> with who is at it.</exception>
    public Task<MoveRecord> UndoAsync(Guid move, MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation) => RecoverAsync(move, context, progress, false, cancellation);

    private async Task<MoveRecord> RecoverAsync(Guid id, MoveContext context, IProgress<MoveRecord>? progress, bool finish, CancellationToken cancellation)
    {
        var open = State.Guard(() => State.ReadOpen(out _)).FirstOrDefault(m => m.Move.Id == id)
            ?? throw new VMatrixException("MoveNotFound", VMatrixErrorKind.NotFound, $"There is no open move {id}. Get-VMatrixMove lists what became of the others.");
        var batch = new Batch(context, progress, MakeTruth(), cancellation);
        return (State.IsFree(open) ? await RecoverAsync(open, batch, finish) : null)
            ?? throw new VMatrixException("MoveRunning", VMatrixErrorKind.Busy, $"The move of {open.Move.ServerName} is being carried out by {open.By}.");
    }

    private async Task<MoveRecord?> RecoverAsync(OpenMove found, Batch batch, bool? finish)
    {
        var server = found.Move.ServerId;
        OpenMove? open = null;
        try
        {
            using var pass = await _gate.EnterAsync(HostsOf(found.Move), batch.Cancellation);
            State.CheckEpoch(batch.Context.Epoch);
            var owner = State.EnsureOwner(batch.Cancellation);
            open = State.Guard(() => OpenMove.TryTakeOver(State, server, batch.Context, owner, Clock.GetUtcNow(), batch.Cancellation));
            if (open is null)
                return null;
            return await new MoveRun(this, open, batch).RecoverAsync(finish);
        }
        catch (Exception e) when (!IsDead(e))
        {
            return batch.Tell(found.ToRecord(MoveStatus.Interrupted) with { Error = Sentence(e) });
        }
        finally
        {
            if (open is not null)
                State.SetRunning(found.Move.Id, false);
        }
    }

    private async Task<MoveRecord> RunAsync(Move move, IReadOnlyList<Task<MoveRecord>?> before, Batch batch)
    {
        var started = Clock.GetUtcNow();
        MoveRecord Refuse(string why, string? id = null, MoveStatus status = MoveStatus.Refused) => End(batch, new MoveRecord
        {
            Move = move,
            PlanId = batch.Context.PlanId,
            Status = status,
            By = batch.Context.By,
            StartedAt = started,
            EndedAt = Clock.GetUtcNow(),
            Error = why,
            ErrorId = id ?? IdOf(why),
        });
        MoveRecord Cancel() => Refuse("Cancelled before it began.", CancelledId, MoveStatus.Cancelled);
        OpenMove? open = null;
        var began = false;
        try
        {
            foreach (var task in before)
            {
                if (task is null)
                    return Refuse("It depends on a move that is not carried out with it, or on itself.", DependencyId);
                var record = await task;
                if (record.Status is MoveStatus.Cancelled)
                    return Cancel();
                if (record.Status is not MoveStatus.Done)
                    return Refuse($"It depends on the {record.Move.Kind} of {record.Move.ServerName}, which is {record.Status}: {record.Error}", DependencyId);
            }
            using var pass = await _gate.EnterAsync(HostsOf(move), batch.Cancellation);
            State.CheckEpoch(batch.Context.Epoch);
            (open, var busy) = Claim(move, batch.Context, batch.Cancellation);
            if (open is null)
                return Refuse(busy!);
            Point(move, "claimed");
            var run = new MoveRun(this, open, batch);
            if (await run.FindObstacleAsync() is { } obstacle)
                return Refuse(obstacle);
            began = true;
            return await run.CarryOutAsync();
        }
        catch (OperationCanceledException) when (!began && _abandoned is null)
        {
            return Cancel();
        }
        catch (Exception e) when (!began && !IsDead(e))
        {
            return Refuse(Sentence(e), IdOf(e));
        }
        finally
        {
            if (open is not null)
            {
                if (!began && _abandoned is null)
                    Try(open.Close);
                State.SetRunning(move.Id, false);
            }
        }
    }

    private (OpenMove? Open, string? Busy) Claim(Move move, MoveContext context, CancellationToken cancellation)
    {
        for (var tries = 0; ; tries++)
        {
            var owner = State.EnsureOwner(cancellation);
            State.SetRunning(move.Id, true);
            OpenMove? open = null;
            try
            {
                open = State.Guard(() => OpenMove.TryClaim(State, move, context, owner, Clock.GetUtcNow(), cancellation));
            }
            finally
            {
                if (open is null)
                    State.SetRunning(move.Id, false);
            }

            if (open is not null)
                return (open, null);
            var other = State.Guard(() => OpenMove.TryRead(State, State.MovePath(move.ServerId)));
            if (other is not null)
            {
                return (null, State.IsFree(other)
                    ? $"ServerClaimed: an earlier {other.Move.Kind} of {move.ServerName} by {other.By} was cut short in step '{other.Step}'; run Resume-VMatrixMove or Undo-VMatrixMove {other.Move.Id}."
                    : $"ServerClaimed: {move.ServerName} is being moved by {other.By}: {other.Move.Kind}, begun {other.StartedAt.ToString("u", CultureInfo.InvariantCulture)}.");
            }
            if (tries == 2)
                return (null, $"ServerClaimed: {move.ServerName} is being claimed by somebody else at this moment.");

            // The other move has just ended, or its file never held anything: clear that and try again.
            State.Guard(() =>
            {
                State.ClearLeftovers(cancellation);
                return true;
            });
        }
    }

    /// <summary>Dependencies first, else in the order given. A move in a circle comes with its dependency missing, and is refused for it.</summary>
    private static List<Move> Sort(IReadOnlyList<Move> moves, Dictionary<Guid, Move> ids)
    {
        var sorted = new List<Move>(moves.Count);
        var done = new HashSet<Guid>();
        var path = new HashSet<Guid>();
        foreach (var move in moves)
            Visit(move);
        return sorted;

        void Visit(Move move)
        {
            if (done.Contains(move.Id) || !path.Add(move.Id))
                return;
            foreach (var id in move.DependsOn)
                if (ids.TryGetValue(id, out var other))
                    Visit(other);
            done.Add(move.Id);
            sorted.Add(move);
        }
    }

    private async Task<T[]> AllAsync<T>(Task<T>[] tasks)
    {
        var results = new T[tasks.Length];
        Exception? failure = null;
        for (var i = 0; i < tasks.Length; i++)
        {
            try
            {
                results[i] = await tasks[i];
            }
            catch (Exception e)
            {
                failure ??= e;
            }
        }
        if (_abandoned is { } abandoned)
            throw abandoned;
        if (failure is not null)
            throw failure is VMatrixException ? failure : new VMatrixException("MoverFailed", VMatrixErrorKind.Failed, $"A move ended in an error that nobody expected: {failure.Message}", failure);
        return results;
    }

    /// <summary>Why a host has no room for a server that is on its way there; null when it has. Open moves of everybody count.</summary>
    /// <param name="truth">What the drivers report.</param>
    /// <param name="host">The host.</param>
    /// <param name="service">The server's service.</param>
    /// <param name="server">The server; empty for one that does not exist yet.</param>
    /// <param name="to">The stage that it is to be in there.</param>
    /// <param name="size">Bytes of memory and cores that it needs; 0 for what its image says.</param>
    /// <param name="since">No answer of the host that is older than this moment counts.</param>
    /// <param name="cancellation">Ends the call.</param>
    internal async Task<string?> FindLackOfRoomAsync(Truth truth, HostSpec host, ServiceSpec service, Guid server, Stage to, (long MemoryBytes, int Cores) size, long since, CancellationToken cancellation)
    {
        var view = await truth.HostAsync(host, since, cancellation);
        if (view.Report.PoweredDown)
            return $"HostPoweredDown: {host.Name} is powered down.";
        if (view.Report.Maintenance is { } maintenance)
            return $"HostInMaintenance: {host.Name} takes nothing new: {maintenance}.";

        // Those that run there or belong there, and those on their way there that the host does not show yet.
        long foreign = 0;
        var foreignCores = 0;
        var there = new List<ServerState>();
        var known = new HashSet<Guid>();
        foreach (var machine in view.Report.Machines)
        {
            bool runs = machine.Power is not (PowerState.Off or PowerState.Saved);
            if (machine.Mark is not { } mark || mark.StateId != State.Id)
                (foreign, foreignCores) = runs ? (foreign + machine.MemoryBytes, foreignCores + machine.Cores) : (foreign, foreignCores);
            else if ((runs || mark.Stage is Stage.Matrix or Stage.Chamber) && known.Add(mark.ServerId))
                there.Add(PlacementRules.Server(mark.ServerId, mark.Name, mark.Service, mark.Stage is Stage.Matrix or Stage.Chamber ? mark.Stage : Lives(host), host.Name, machine.MemoryBytes, machine.Cores));
        }

        foreach (var other in State.ReadOpen(out _).Select(o => o.Move).Where(m => m.ToHost == host.Name && known.Add(m.ServerId)))
            there.Add(PlacementRules.Server(other.ServerId, other.ServerName, other.Service, other.ToStage, host.Name, 0, 0));
        var verdict = PlacementRules.Check(Pool, PlacementRules.Server(server, service.Name, service.Name, Stage.Nest, null, size.MemoryBytes, size.Cores), to,
            new HostState { Name = host.Name, ForeignMemoryBytes = foreign, ForeignCores = foreignCores }, there);
        return MoveChecks.LackOfRoom(Pool, host, service.Name, verdict);
    }

    /// <summary>The stage that servers which run on a host are in.</summary>
    private static Stage Lives(HostSpec host) => host.Role is HostRole.Chamber ? Stage.Chamber : Stage.Matrix;

    internal static string[] HostsOf(Move move) => new[] { move.FromHost, move.ToHost }.OfType<string>().Distinct().ToArray();

    internal HostSpec? HostOf(string? name) => name is null ? null : Pool.Hosts.FirstOrDefault(h => h.Name == name);

    internal ServiceSpec? ServiceOf(string name) => Pool.Services.FirstOrDefault(s => s.Name == name);

    internal Truth MakeTruth() => new(Pool,
        async (host, c) =>
        {
            var report = await TryAsync($"Reading {host.Name}", Pool.Limits.StepTimeout, t => Hypervisor.ReadHostAsync(host, t), c);
            EndWord(host.Name);
            return report;
        },
        c => TryAsync("Reading the nest", Pool.Limits.StepTimeout, Hypervisor.ReadNestAsync, c),
        _dead.Token);

    /// <summary>One call with its deadline, tried again while it fails for a passing reason.</summary>
    internal async Task<T> TryAsync<T>(string what, TimeSpan timeout, Func<CancellationToken, Task<T>> call, CancellationToken cancellation)
    {
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(cancellation, _dead.Token);
        var context = ResilienceContextPool.Shared.Get(continueOnCapturedContext: true, linked.Token);
        try
        {
            return await _retries.ExecuteAsync(static async (c, s) =>
            {
                using var deadline = s.Clock.Deadline(s.timeout);
                using var both = CancellationTokenSource.CreateLinkedTokenSource(c.CancellationToken, deadline.Token);
                try
                {
                    return await s.call(both.Token);
                }
                catch (OperationCanceledException e) when (deadline.IsCancellationRequested && !c.CancellationToken.IsCancellationRequested)
                {
                    throw new VMatrixException("StepTimeout", VMatrixErrorKind.Timeout, $"{s.what} took longer than {Planning.Words.Seconds(s.timeout)}.{(e is GoesOnException ? " " + e.Message : "")}", e);
                }
            }, context, (what, timeout, call, Clock));
        }
        catch (VMatrixException e) when (e.Id is "StaleEpoch")
        {
            State.EndDecider(e);
            throw;
        }
        finally
        {
            ResilienceContextPool.Shared.Return(context);
        }
    }

    internal Task TryAsync(string what, TimeSpan timeout, Func<CancellationToken, Task> call, CancellationToken cancellation) =>
        TryAsync(what, timeout, async c =>
        {
            await call(c);
            return true;
        }, cancellation);

    /// <summary>Prepares an image, one caller a service at a time, on the first host that can: one that does not answer stops the making of nothing.</summary>
    /// <param name="call">Who calls.</param>
    /// <param name="service">The service.</param>
    /// <param name="on">The host that the server is made for; null for none, then the Chamber is asked first and every other host after it.</param>
    /// <param name="cancellation">Ends the call.</param>
    internal async Task<string> PrepareImageAsync(DriverCall call, ServiceSpec service, HostSpec? on, CancellationToken cancellation)
    {
        // Who waits for it goes on in its own context: a way through the thread pool would leave the simulation's clock.
        var done = new TaskCompletionSource<bool>();
        while (true)
        {
            Task? other;
            lock (_imagesInWork)
            {
                if (!_imagesInWork.TryGetValue(service.Name, out other))
                    _imagesInWork[service.Name] = done.Task;
            }
            if (other is null)
                break;
            await other.UntilAsync(cancellation);
        }
        try
        {
            VMatrixException? first = null;
            foreach (var host in Pool.Hosts.OrderBy(h => h == on ? 0 : h.Name == _imageHost ? 1 : h.Role is HostRole.Chamber ? 2 : 3))
            {
                try
                {
                    var image = await TryAsync($"Preparing the image of {service.Name}", Pool.Limits.StepTimeout + service.Health.StartTimeout, c => Hypervisor.PrepareImageAsync(call, service, host, null, c), cancellation);
                    _imageHost = host.Name;
                    return image;
                }
                catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable or VMatrixErrorKind.Denied or VMatrixErrorKind.Timeout or VMatrixErrorKind.Failed)
                {
                    first ??= e;
                }
            }
            throw first!;
        }
        finally
        {
            lock (_imagesInWork)
                _imagesInWork.Remove(service.Name);
            done.SetResult(true);
        }
    }

    /// <summary>True when the mover is to stop as a killed process does: nothing is tidied up.</summary>
    internal bool IsDead(Exception e) => e is AbandonException || _abandoned is not null;

    internal void Point(Move move, string name) =>
        Point(MoveRoutes.For(move, Hypervisor.Traits).Name + "." + name);

    internal void Point(string name)
    {
        if (_abandoned is { } before)
            throw before;
        try
        {
            Failpoint.Hit(name);
        }
        catch (AbandonException e)
        {
            _abandoned = e;
            _dead.Cancel();
            throw;
        }
    }

    internal MoveRecord End(Batch batch, MoveRecord record)
    {
        Try(() => State.History.AddMove(record));
        return batch.Tell(record);
    }

    /// <summary>For what must not fail a move: history, and tidying up in a folder that may be gone.</summary>
    internal static void Try(Action action)
    {
        try
        {
            action();
        }
        catch (Exception e) when (e is not AbandonException)
        {
            // Told elsewhere: History.Warning, or the error that made us tidy up.
        }
    }

    internal static string Sentence(Exception e) => e switch
    {
        VMatrixException v => $"{v.Id}: {v.Message}",
        GoesOnException => $"Cancelled. {e.Message}",
        OperationCanceledException => "Cancelled.",
        _ when StateFiles.IsFileError(e) => $"StateUnreachable: {e.Message}",
        _ => $"{e.GetType().Name}: {e.Message}",
    };

    /// <summary>The error id of a move that was stopped.</summary>
    internal const string CancelledId = "Cancelled";

    /// <summary>The error id of a move that another one, which it depends on, has held up.</summary>
    internal const string DependencyId = "DependencyNotDone";

    /// <summary>The error id of a move whose preconditions no longer held, where no other id says more.</summary>
    internal const string PreconditionId = "PreconditionFailed";

    internal static string IdOf(Exception e) => e switch
    {
        VMatrixException v => v.Id,
        OperationCanceledException => CancelledId,
        _ when StateFiles.IsFileError(e) => "StateUnreachable",
        _ => e.GetType().Name,
    };

    /// <summary>The id that a sentence of ours begins with, as <see cref="Sentence"/> writes it.</summary>
    internal static string IdOf(string why)
    {
        int colon = why.IndexOf(": ", StringComparison.Ordinal);
        return colon > 0 && char.IsUpper(why[0]) && why.Take(colon).All(char.IsLetterOrDigit) ? why.Substring(0, colon) : PreconditionId;
    }

    private static ResiliencePipeline MakeRetries(LimitSpec limits, TimeProvider clock, Random random)
    {
        if (limits.Tries <= 1)
            return ResiliencePipeline.Empty;
        return new ResiliencePipelineBuilder { TimeProvider = clock }.AddRetry(new RetryStrategyOptions
        {
            ShouldHandle = static a => new ValueTask<bool>(a.Outcome.Exception is VMatrixException { IsTransient: true }),
            MaxRetryAttempts = limits.Tries - 1,
            BackoffType = DelayBackoffType.Exponential,
            Delay = TimeSpan.FromMilliseconds(200),
            MaxDelay = TimeSpan.FromSeconds(10),
            UseJitter = true,
            Randomizer = () =>
            {
                lock (random)
                    return random.NextDouble();
            },
        }).Build();
    }

    /// <summary>What the moves of one call share.</summary>
    internal sealed record Batch(MoveContext Context, IProgress<MoveRecord>? Progress, Truth Truth, CancellationToken Cancellation)
    {
        private readonly HashSet<Guid> _created = [];
        private PublishedImage? _published;

        /// <summary>The image version that a move of this call has made.</summary>
        public PublishedImage? Published => Volatile.Read(ref _published);

        public void AddPublished(PublishedImage image) => Volatile.Write(ref _published, image);

        /// <summary>True when it puts right what no journal tells of.</summary>
        public bool Mending { get; init; }

        public void AddCreated(Guid server)
        {
            lock (_created)
                _created.Add(server);
        }

        /// <summary>True for a server that was made in this batch: moves that follow in the same plan were made before it had a mark.</summary>
        public bool HasCreated(Guid server)
        {
            lock (_created)
                return _created.Contains(server);
        }

        public MoveRecord Tell(MoveRecord record)
        {
            Progress?.Report(record);
            return record;
        }
    }
}

/// <summary>Who carries moves out.</summary>
public sealed record MoveContext
{
    /// <summary>Name, process and machine of who acts, for journals and errors.</summary>
    public required string By { get; init; }

    /// <summary>The decider's epoch; 0 for moves by hand.</summary>
    public long Epoch { get; init; }

    /// <summary>The plan; null for moves by hand.</summary>
    public Guid? PlanId { get; init; }

    /// <summary>Hold the servers against the Oracle for this long after; null for none (the Oracle's own moves).</summary>
    public TimeSpan? HoldFor { get; init; }
}
