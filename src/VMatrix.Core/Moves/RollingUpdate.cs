using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Moves;

/// <summary>How to replace.</summary>
public sealed record UpdateOptions
{
    /// <summary>Servers replaced at once.</summary>
    public int BatchSize { get; init; } = 1;

    /// <summary>How long the new servers of a batch must stay healthy under load before their old ones go.</summary>
    public TimeSpan Watch { get; init; } = TimeSpan.FromSeconds(10);
}

/// <content>Rolling replacement of a service's servers when its image has changed.</content>
public sealed partial class Mover
{
    /// <summary>
    /// Brings up servers of the service's newest image, batch by batch, each gated by its health, and only then puts the old ones to sleep:
    /// on a free host where there is one, else in the old one's place. When new ones fail, all the old ones are woken again and the new ones
    /// disposed of. When all is well, the old ones are disposed of, which can be undone until they are purged.
    /// It is a sequence of moves like any other: cut short, each server is whole, and running it again goes on.
    /// </summary>
    /// <exception cref="VMatrixException">What kept it from beginning: the image cannot be prepared, a host does not answer.</exception>
    public async Task<UpdateResult> UpdateServiceAsync(ServiceSpec service, UpdateOptions options, MoveContext context, IProgress<MoveRecord>? progress, CancellationToken cancellation)
    {
        State.CheckEpoch(context.Epoch);

        // By hand, the decider must keep off meanwhile; as the decider, we are the one.
        if (context.Epoch == 0)
            context = context with { HoldFor = context.HoldFor ?? Pool.Oracle.HoldFor };
        var image = await PrepareImageAsync(new DriverCall(Guid.NewGuid(), context.Epoch), service, null, cancellation);
        var update = new Update(this, service, image, options, context, progress);
        return await update.RunAsync(cancellation);
    }

    private sealed class Update(Mover mover, ServiceSpec service, string image, UpdateOptions options, MoveContext context, IProgress<MoveRecord>? progress)
    {
        private readonly List<MoveRecord> _records = [];
        private readonly List<Pair> _pairs = [];
        private readonly Dictionary<string, VMatrixException> _silent = [];
        private Dictionary<Guid, Sighting> _seen = [];

        public async Task<UpdateResult> RunAsync(CancellationToken cancellation)
        {
            await LookAsync(cancellation);
            var old = _seen.Values.Where(s => s.Mark.Stage is Stage.Matrix && s.Mark.Image != image).OrderBy(s => s.Mark.Name, StringComparer.Ordinal).Select(s => s.Mark.ServerId).ToArray();
            for (var i = 0; i < old.Length; i += Math.Max(1, options.BatchSize))
            {
                var before = _pairs.Count;
                string? error;
                var cancelled = false;
                try
                {
                    cancellation.ThrowIfCancellationRequested();
                    error = await ReplaceAsync(old.Skip(i).Take(Math.Max(1, options.BatchSize)), cancellation);
                    cancelled = error is not null && cancellation.IsCancellationRequested;
                }
                catch (OperationCanceledException)
                {
                    (error, cancelled) = ("Cancelled.", true);
                }
                catch (VMatrixException e)
                {
                    error = Sentence(e);
                }
                if (error is null)
                    continue;

                // A cancellation takes back the batch it met; new servers that fail take back everything.
                var kept = cancelled ? before : 0;
                try
                {
                    return await ReturnAsync(kept) is { } stuck
                        ? Result(UpdateStatus.Failed, kept, $"{error} Not all old servers serve again: {stuck}")
                        : Result(cancelled ? UpdateStatus.Cancelled : UpdateStatus.Returned, kept, error);
                }
                catch (VMatrixException e)
                {
                    return Result(UpdateStatus.Failed, kept, $"{error} Not all old servers serve again: {Sentence(e)}");
                }
            }

            return await ClearAwayAsync(cancellation) is { } left
                ? Result(cancellation.IsCancellationRequested ? UpdateStatus.Cancelled : UpdateStatus.Failed, _pairs.Count, left)
                : Result(UpdateStatus.Done, _pairs.Count, null);
        }

        /// <summary>Disposes of the old servers; says what is left of them, and where nobody could look.</summary>
        private async Task<string?> ClearAwayAsync(CancellationToken cancellation)
        {
            string? left;
            try
            {
                await LookAsync(cancellation);
                left = await CarryAsync([.. _seen.Values.Where(s => s.Place is Place.Nest && s.Mark.Image != image).Select(s => Make(s, MoveKind.Dispose, Stage.Disposed, null, $"Made from image {s.Mark.Image}; {image} is in its place."))], cancellation);
            }
            catch (OperationCanceledException)
            {
                left = "Cancelled.";
            }
            catch (VMatrixException e)
            {
                left = Sentence(e);
            }

            var dead = new HashSet<string>(mover.State.Overrides.ReadHosts(mover.Clock.GetUtcNow()).Where(o => o.ConfirmedDead).Select(o => o.Host));
            var silent = _silent.Where(s => !dead.Contains(s.Key)).ToArray();
            if (silent.Length > 0)
                return $"Servers of {service.Name} on {string.Join(", ", silent.Select(s => s.Key))} were not replaced, if there are any: {silent[0].Value.Message} Run Update-VMatrixService {service.Name} again when all hosts answer.{(left is null ? "" : " " + left)}";
            return left is null ? null : $"New servers serve, and old ones are left in the nest: {left} Run Update-VMatrixService {service.Name} again to dispose of them.";
        }

        private UpdateResult Result(UpdateStatus status, int replaced, string? error) =>
            new() { Service = service.Name, Image = image, Status = status, Replaced = replaced, Moves = [.. _records], Error = error };

        /// <summary>Replaces one batch; says what went wrong.</summary>
        private async Task<string?> ReplaceAsync(IEnumerable<Guid> batch, CancellationToken cancellation)
        {
            await LookAsync(cancellation);
            var moves = new List<Move>();
            var taken = new HashSet<string>(StringComparer.Ordinal);
            var pairs = new List<Pair>();
            foreach (var id in batch)
            {
                if (!_seen.TryGetValue(id, out var old) || old.Mark.Stage is not Stage.Matrix)
                    continue;
                var host = await FindHostAsync(taken, cancellation);
                var pair = new Pair(id, old.Host!, Guid.NewGuid(), host ?? old.Host!, InPlace: host is null);
                taken.Add(pair.NewHost);
                pairs.Add(pair);
                _pairs.Add(pair);
                var create = Make(pair.New, NextName(), MoveKind.Create, Stage.Nest, null, Stage.Nest, null, $"Image {image} replaces {old.Mark.Image}.");
                var first = new List<Guid> { create.Id };
                moves.Add(create);
                if (host is null)
                {
                    var away = Make(old, MoveKind.Hibernate, Stage.Nest, null, $"No other host is free for its successor of image {image}.");
                    first.Add(away.Id);
                    moves.Add(away);
                }
                moves.Add(Make(pair.New, create.ServerName, MoveKind.Wake, Stage.Nest, null, Stage.Matrix, pair.NewHost, create.Reason) with { DependsOn = first });
            }
            if (await CarryAsync(moves, cancellation) is { } failed)
                return failed;
            if (await WatchAsync(pairs, cancellation) is { } sick)
                return sick;

            await LookAsync(cancellation);
            return await CarryAsync([.. pairs.Where(p => !p.InPlace && _seen.TryGetValue(p.Old, out var s) && s.Mark.Stage is Stage.Matrix)
                .Select(p => Make(_seen[p.Old], MoveKind.Hibernate, Stage.Nest, null, $"Its successor of image {image} serves."))], cancellation);
        }

        /// <summary>Wakes the old servers of all pairs but the first ones, and disposes of the new; says what did not work.</summary>
        private async Task<string?> ReturnAsync(int kept)
        {
            await LookAsync(CancellationToken.None);
            var moves = new List<Move>();
            for (var i = _pairs.Count - 1; i >= kept; i--)
            {
                var pair = _pairs[i];
                var old = _seen.TryGetValue(pair.Old, out var o) && o.Place is Place.Nest ? Make(o, MoveKind.Wake, Stage.Matrix, pair.OldHost, $"Its successor of image {image} failed.") : null;
                var gone = _seen.TryGetValue(pair.New, out var n) ? Make(n, MoveKind.Dispose, Stage.Disposed, null, $"Image {image} failed.") : null;

                // Where there is room for both the old one serves before the new one goes.
                if (old is not null && gone is not null && n!.Place is Place.Host)
                    (old, gone) = pair.InPlace ? (old with { DependsOn = [gone.Id] }, gone) : (old, gone with { DependsOn = [old.Id] });
                moves.AddRange(new[] { old, gone }.OfType<Move>());
            }
            return await CarryAsync(moves, CancellationToken.None);
        }

        private async Task<string?> WatchAsync(List<Pair> pairs, CancellationToken cancellation)
        {
            await LookAsync(cancellation);
            var began = mover.Clock.GetTimestamp();
            var failures = pairs.ToDictionary(p => p.New, _ => 0);
            while (true)
            {
                foreach (var pair in pairs)
                {
                    var address = _seen.TryGetValue(pair.New, out var s) ? s.Machine.Address : null;
                    var problem = address is null ? "it does not run" : await mover.ProbeAsync(service, address, service.Health.Timeout, cancellation);
                    failures[pair.New] = problem is null ? 0 : failures[pair.New] + 1;
                    if (failures[pair.New] >= service.Health.Failures)
                        return $"{s?.Mark.Name ?? "A new server"} of image {image} on {pair.NewHost} did not stay healthy: {problem}.";
                }

                // One that has just failed is watched until it is clear what it does.
                if (mover.Clock.GetElapsedTime(began) >= options.Watch && failures.Values.All(f => f == 0))
                    return null;
                await mover.Clock.WaitAsync(service.Health.Interval, cancellation);
            }
        }

        private async Task<string?> FindHostAsync(HashSet<string> taken, CancellationToken cancellation)
        {
            var truth = mover.MakeTruth();
            var suspended = new HashSet<string>(mover.State.Overrides.ReadHosts(mover.Clock.GetUtcNow()).Select(o => o.Host), StringComparer.OrdinalIgnoreCase);
            foreach (var host in mover.Pool.Hosts.Where(h => h.Role is HostRole.Matrix && !taken.Contains(h.Name) && !suspended.Contains(h.Name)))
            {
                try
                {
                    if (await mover.FindLackOfRoomAsync(truth, host, service, Guid.Empty, Stage.Matrix, default, truth.Now(), cancellation) is null)
                        return host.Name;
                }
                catch (VMatrixException)
                {
                    // A host that does not answer takes no new server.
                }
            }
            return null;
        }

        private async Task<string?> CarryAsync(List<Move> moves, CancellationToken cancellation)
        {
            if (moves.Count == 0)
                return null;
            var records = await mover.CarryOutAsync(moves, context, progress, cancellation);
            _records.AddRange(records);

            // The cause first: others were held up by it.
            var failed = records.Where(r => r.Status is not MoveStatus.Done).OrderBy(r => r.Status is MoveStatus.Refused or MoveStatus.Cancelled ? 1 : 0).ToArray();
            return failed.Length == 0 ? null
                : $"The {failed[0].Move.Kind} of {failed[0].Move.ServerName} is {failed[0].Status}: {failed[0].Error}{(failed.Length == 1 ? "" : $" Neither done: {string.Join(", ", failed.Skip(1).Take(8).Select(r => $"the {r.Move.Kind} of {r.Move.ServerName}"))}{(failed.Length > 9 ? $" and {failed.Length - 9} more" : "")}.")}";
        }

        private async Task LookAsync(CancellationToken cancellation)
        {
            var truth = mover.MakeTruth();
            var since = truth.Now();
            var nest = truth.NestAsync(since, cancellation);
            var hosts = mover.Pool.Hosts.Select(h => (h.Name, View: truth.HostAsync(h, since, cancellation))).ToArray();
            _silent.Clear();
            var seen = (await nest).Report.Dormant.Select(m => new Sighting(m, Place.Nest, null)).ToList();
            foreach (var (name, view) in hosts)
            {
                try
                {
                    seen.AddRange((await view).Report.Machines.Select(m => new Sighting(m, Place.Host, name)));
                }
                catch (VMatrixException e)
                {
                    // Its servers stay as they are, and the result tells so.
                    _silent[name] = e;
                }
            }
            _seen = seen.Where(s => s.Machine.Mark is { } mark && mark.StateId == mover.State.Id && mark.Service == service.Name).GroupBy(s => s.Mark.ServerId).ToDictionary(g => g.Key, g => g.First());
        }

        private string NextName()
        {
            var used = _seen.Values.Select(s => s.Mark.Name).Concat(_records.Select(r => r.Move.ServerName))
                .Select(n => n.StartsWith(service.Name + "-", StringComparison.Ordinal) && int.TryParse(n.Split('-').Last(), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : 0);
            _lastNumber = Math.Max(_lastNumber, used.DefaultIfEmpty(0).Max()) + 1;
            return service.Name + "-" + _lastNumber.ToString(CultureInfo.InvariantCulture);
        }

        private int _lastNumber;

        private Move Make(Sighting server, MoveKind kind, Stage to, string? toHost, string reason) =>
            Make(server.Mark.ServerId, server.Mark.Name, kind, server.Mark.Stage, server.Host, to, toHost, reason) with { Generation = server.Mark.Generation };

        private Move Make(Guid server, string name, MoveKind kind, Stage from, string? fromHost, Stage to, string? toHost, string reason) => new()
        {
            Id = Guid.NewGuid(),
            Kind = kind,
            ServerId = server,
            ServerName = name,
            Service = service.Name,
            FromStage = from,
            FromHost = fromHost,
            ToStage = to,
            ToHost = toHost,
            Reason = reason,
        };

        private sealed record Pair(Guid Old, string OldHost, Guid New, string NewHost, bool InPlace);
    }
}
