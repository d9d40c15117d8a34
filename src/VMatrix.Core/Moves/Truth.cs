using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Moves;

/// <summary>Where a server's files are.</summary>
internal enum Place
{
    Nest,
    Host,
    Disposed,
}

/// <summary>A server as a driver reports it.</summary>
internal sealed record Sighting(Machine Machine, Place Place, string? Host)
{
    public ServerMark Mark => Machine.Mark!;

    public bool Runs => Place is Place.Host && Machine.Power is PowerState.Running or PowerState.Paused;

    public bool Sleeps => Machine.Power is PowerState.Off or PowerState.Saved;

    /// <summary>True where its platform does not say what it does at this moment: neither that it runs nor that it does not is concluded from that.</summary>
    public bool IsUnseen => Place is Place.Host && Machine.Power is PowerState.Unknown;

    public bool IsOn(string? host) => Place is Place.Host && Host == host;

    public string Where => Place switch
    {
        Place.Host => $"{Machine.Power} on {Host}",
        Place.Nest => "dormant in the nest",
        _ => "disposed",
    };
}

/// <summary>What the drivers report of hosts and nest. Answers are shared by those who ask at the same time, and never older than the moment that the asker needs.</summary>
internal sealed class Truth
{
    private readonly PoolSpec _pool;
    private readonly Func<HostSpec, CancellationToken, Task<HostReport>> _readHost;
    private readonly Func<CancellationToken, Task<NestReport>> _readNest;
    private readonly Dictionary<string, Shared<HostView>> _hosts = new(StringComparer.Ordinal);
    private readonly Shared<NestView> _nest;
    private readonly CancellationToken _ended;
    private long _moment;

    public Truth(PoolSpec pool, Func<HostSpec, CancellationToken, Task<HostReport>> readHost, Func<CancellationToken, Task<NestReport>> readNest, CancellationToken ended)
    {
        (_pool, _readHost, _readNest, _ended) = (pool, readHost, readNest, ended);
        _nest = new Shared<NestView>(this, async c => new NestView(await _readNest(c)));
    }

    /// <summary>This moment: answers that began after it hold what was true at it.</summary>
    public long Now() => Interlocked.Increment(ref _moment);

    public Task<NestView> NestAsync(long since, CancellationToken cancellation) => _nest.GetAsync(since, cancellation);

    public Task<HostView> HostAsync(HostSpec host, long since, CancellationToken cancellation)
    {
        Shared<HostView>? shared;
        lock (_hosts)
        {
            if (!_hosts.TryGetValue(host.Name, out shared))
                _hosts[host.Name] = shared = new Shared<HostView>(this, async c => new HostView(await _readHost(host, c)));
        }
        return shared.GetAsync(since, cancellation);
    }

    /// <summary>Every sighting of a server in the nest and on the named hosts. One that cannot be reached fails it: what cannot be seen is not known.</summary>
    public async Task<IReadOnlyList<Sighting>> FindAsync(Guid server, IEnumerable<string?> hosts, long since, CancellationToken cancellation)
    {
        var nest = NestAsync(since, cancellation);
        var asked = hosts.Where(h => h is not null).Distinct()
            .Select(h => _pool.Hosts.FirstOrDefault(s => s.Name == h) ?? throw new VMatrixException("HostNotFound", VMatrixErrorKind.NotFound, $"The pool file {_pool.Path} names no host '{h}'."))
            .Select(h => HostAsync(h, since, cancellation)).ToArray();
        var sightings = new List<Sighting>();
        Exception? failure = null;
        foreach (var task in asked)
        {
            try
            {
                if ((await task).Find(server) is { } on)
                    sightings.Add(on);
            }
            catch (Exception e) when (e is not AbandonException)
            {
                failure ??= e;
            }
        }
        sightings.InsertRange(0, (await nest).Find(server));
        if (failure is not null)
            throw failure is VMatrixException v ? v : new VMatrixException("HostUnreachable", VMatrixErrorKind.Unreachable, failure.Message, failure);
        return sightings;
    }

    /// <summary>One question that many ask.</summary>
    private sealed class Shared<T>(Truth truth, Func<CancellationToken, Task<T>> read)
    {
        private readonly object _gate = new();
        private Task<T>? _task;
        private long _began;

        public async Task<T> GetAsync(long since, CancellationToken cancellation)
        {
            while (true)
            {
                Task<T> task;
                bool fresh;
                lock (_gate)
                {
                    if (_task is null || (_task.IsCompleted && (_began < since || _task.Status is not TaskStatus.RanToCompletion)))
                    {
                        _began = truth.Now();
                        _task = read(cancellation);
                    }
                    task = _task;
                    fresh = _began > since;
                }
                if (fresh)
                {
                    try
                    {
                        await task.UntilAsync(cancellation);
                        return await task;
                    }
                    catch (OperationCanceledException) when (!cancellation.IsCancellationRequested && !truth._ended.IsCancellationRequested)
                    {
                        // The one who asked first gave up; ask again for those who have not.
                        continue;
                    }
                }
                try
                {
                    await task.UntilAsync(cancellation);
                }
                catch (Exception e) when (e is not AbandonException)
                {
                    // It was an older question; the next round asks anew.
                }
                cancellation.ThrowIfCancellationRequested();
                truth._ended.ThrowIfCancellationRequested();
            }
        }
    }
}

/// <summary>A host's answer, by server.</summary>
internal sealed class HostView
{
    private readonly Dictionary<Guid, Machine> _machines = [];

    public HostView(HostReport report)
    {
        Report = report;
        foreach (var machine in report.Machines.Where(m => m.Mark is not null))
            _machines[machine.Mark!.ServerId] = machine;
    }

    public HostReport Report { get; }

    public Sighting? Find(Guid server) => _machines.TryGetValue(server, out var machine) ? new Sighting(machine, Place.Host, Report.Host) : null;
}

/// <summary>The nest's answer, by server.</summary>
internal sealed class NestView
{
    private readonly Dictionary<Guid, Machine> _dormant = [];
    private readonly Dictionary<Guid, Machine> _disposed = [];

    public NestView(NestReport report)
    {
        Report = report;
        foreach (var machine in report.Dormant.Where(m => m.Mark is not null))
            _dormant[machine.Mark!.ServerId] = machine;
        foreach (var machine in report.Disposed.Where(m => m.Mark is not null))
            _disposed[machine.Mark!.ServerId] = machine;
    }

    public NestReport Report { get; }

    public IEnumerable<Sighting> Find(Guid server)
    {
        if (_dormant.TryGetValue(server, out var dormant))
            yield return new Sighting(dormant, Place.Nest, null);
        if (_disposed.TryGetValue(server, out var disposed))
            yield return new Sighting(disposed, Place.Disposed, null);
    }
}
