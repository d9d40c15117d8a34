using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;

namespace VMatrix;

/// <summary>
/// A balancer that counts nothing, with counters made from how busy the servers' processors are: a server that is half busy serves half of
/// its service's stated capacity. Between two measurements each counter goes on at the rate measured last, so it never goes backwards.
/// </summary>
internal sealed class MeteredBalancer(IBalancer inner, ILoadSource source, PoolSpec pool, TimeProvider clock) : IBalancer, IExaminedBalancer, IEpochKeeper
{
    /// <summary>A busy processor hides how much more is asked for: use above this counts half as much again, so that a service in need is seen to grow.</summary>
    private const double Full = 0.9;

    private readonly object _gate = new();
    private readonly Dictionary<string, (double Count, double Rate)> _services = new(StringComparer.OrdinalIgnoreCase);
    private readonly string _incarnation = Guid.NewGuid().ToString("N");
    private IReadOnlyDictionary<Guid, double> _uses = new Dictionary<Guid, double>();
    private readonly CancellationTokenSource _closed = new();
    private long _counted = clock.GetTimestamp();
    private long? _measured;
    private Task? _measuring;

    // Often enough for each switch, and no oftener than a host can bear.
    private TimeSpan Every => pool.Oracle.Interval > TimeSpan.FromSeconds(10) ? pool.Oracle.Interval - TimeSpan.FromSeconds(1) : TimeSpan.FromSeconds(9);

    /// <summary>Share of its own processors that each server used when they were measured last; a server that was not measured is missing.</summary>
    public IReadOnlyDictionary<Guid, double> Uses
    {
        get
        {
            lock (_gate)
                return _uses;
        }
    }

    /// <inheritdoc/>
    public async Task<BalancerReport> ReadAsync(CancellationToken cancellation)
    {
        var report = await inner.ReadAsync(cancellation);
        Task measuring;
        lock (_gate)
        {
            // Who asks while it is measured waits for the same answer, and who goes away takes it from nobody.
            if (_measuring is null or { IsCompleted: true } && (_measured is not { } last || clock.GetElapsedTime(last) >= Every))
                _measuring = MeasureAsync();
            measuring = _measuring ?? Task.CompletedTask;
        }

        try
        {
            await measuring.UntilAsync(cancellation);
        }
        catch (VMatrixException)
        {
            // Services without a rate have no counters, and a sample without counters says that it is bad.
        }

        lock (_gate)
        {
            var seconds = clock.GetElapsedTime(_counted).TotalSeconds;
            _counted = clock.GetTimestamp();
            foreach (var name in _services.Keys.ToArray())
                _services[name] = (_services[name].Count + (_services[name].Rate * seconds), _services[name].Rate);
            var counted = new HashSet<string>(report.Services.Select(s => s.Service), StringComparer.OrdinalIgnoreCase);
            return report with
            {
                At = clock.GetUtcNow(),
                CountersSince = $"{report.Incarnation} {_incarnation}",
                Services = [.. report.Services, .. _services.Where(s => !counted.Contains(s.Key)).Select(s => new ServiceCounters { Service = s.Key, Requests = (long)s.Value.Count, Served = (long)s.Value.Count })],
            };
        }
    }

    /// <inheritdoc/>
    public Task<long> ReadEpochAsync(CancellationToken cancellation) => inner is IEpochKeeper keeper ? keeper.ReadEpochAsync(cancellation) : Task.FromResult(0L);

    /// <inheritdoc/>
    public Task EnsureAsync(CancellationToken cancellation) => inner.EnsureAsync(cancellation);

    /// <inheritdoc/>
    public Task JoinAsync(DriverCall call, ServiceSpec service, Guid server, string address, CancellationToken cancellation) => inner.JoinAsync(call, service, server, address, cancellation);

    /// <inheritdoc/>
    public Task DrainAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) => inner.DrainAsync(call, service, server, cancellation);

    /// <inheritdoc/>
    public Task LeaveAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) => inner.LeaveAsync(call, service, server, cancellation);

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellation) => inner.StopAsync(cancellation);

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _closed.Cancel();
        await inner.DisposeAsync();
    }

    /// <inheritdoc/>
    public Task<IReadOnlyList<BalancerFinding>> ExamineAsync(bool trial, CancellationToken cancellation) =>
        inner is IExaminedBalancer examined ? examined.ExamineAsync(trial, cancellation) : Task.FromResult<IReadOnlyList<BalancerFinding>>([]);

    /// <inheritdoc/>
    public Task<string?> FindRefusalAsync(ServiceSpec service, CancellationToken cancellation) =>
        inner is IExaminedBalancer examined ? examined.FindRefusalAsync(service, cancellation) : Task.FromResult<string?>(null);

    private async Task MeasureAsync()
    {
        IReadOnlyList<ServerUse> uses;
        using var deadline = clock.Deadline(pool.Limits.StepTimeout);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, _closed.Token);
        try
        {
            uses = await source.ReadAsync(either.Token);
        }
        catch (Exception e)
        {
            // A rate that is not measured any more must not go on for ever.
            lock (_gate)
            {
                _services.Clear();
                _uses = new Dictionary<Guid, double>();
            }

            if (e is OperationCanceledException)
                throw new VMatrixException("LoadTimeout", VMatrixErrorKind.Timeout, $"The servers' processors of pool {pool.Name} were not measured within {Planning.Words.Seconds(pool.Limits.StepTimeout)}.", e) { IsTransient = true };
            throw;
        }

        lock (_gate)
        {
            _measured = clock.GetTimestamp();
            _uses = uses.GroupBy(u => u.ServerId).ToDictionary(g => g.Key, g => g.Last().Share);
            foreach (var service in pool.Services.Where(s => s.Capacity is not null))
            {
                var mine = uses.Where(u => string.Equals(u.Service, service.Name, StringComparison.OrdinalIgnoreCase)).ToArray();
                var known = _services.TryGetValue(service.Name, out var before);
                if (mine.Length > 0)
                    _services[service.Name] = (known ? before.Count : 0, mine.Sum(u => u.Share > Full ? u.Share * 1.5 : u.Share) * service.Capacity!.Value);
                else
                    _services.Remove(service.Name);
            }
        }
    }
}
