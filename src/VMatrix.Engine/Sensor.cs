using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Planning;

namespace VMatrix;

/// <summary>Asks a pool's balancer for its load and its servers for their health, and keeps the samples that planning looks back on.</summary>
internal sealed class Sensor(PoolSpec pool, PoolDrivers drivers, PoolReads reads, TimeProvider clock) : IDisposable
{
    /// <summary>Samples kept for each service: the planner keeps its own longer memory.</summary>
    private const int SamplesKept = 256;

    /// <summary>Health checks at the same time.</summary>
    private const int ChecksAtOnce = 64;

    /// <summary>Rates over less than this are noise; who asks sooner gets the sample before, or waits for the next one when that is near.</summary>
    private static readonly TimeSpan s_shortest = TimeSpan.FromSeconds(0.5);

    /// <summary>What a health check may take to notice that its own deadline has passed.</summary>
    private static readonly TimeSpan s_grace = TimeSpan.FromSeconds(2);

    private readonly Dictionary<string, List<ServiceLoad>> _samples = pool.Services.ToDictionary(s => s.Name, _ => new List<ServiceLoad>(), StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<string, ServiceSpec> _services = pool.Services.ToDictionary(s => s.Name, StringComparer.OrdinalIgnoreCase);
    private readonly SemaphoreSlim _one = new(1, 1);
    private readonly SteadyTime _time = new(clock);
    private BalancerReport? _before;
    private string? _silence;
    private IReadOnlyDictionary<string, ServiceLoad>? _last;

    /// <summary>The balancer's last answer; null when it gave none when it was asked last.</summary>
    public BalancerReport? Report => _before;

    /// <summary>What was told instead of <see cref="Report"/>; null when nothing was.</summary>
    public string? Silence => _silence;

    /// <summary>The samples by service, oldest first.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<ServiceLoad>> Samples
    {
        get
        {
            lock (_samples)
                return _samples.ToDictionary(s => s.Key, s => (IReadOnlyList<ServiceLoad>)[.. s.Value], StringComparer.OrdinalIgnoreCase);
        }
    }

    /// <summary>What the balancer told of single servers when it answered last; null where that is too old or it never did.</summary>
    public BalancerTold? Told =>
        _before is { } last && clock.GetUtcNow() - last.At <= pool.Oracle.StaleAfter ? new BalancerTold(last, (drivers.Balancer as MeteredBalancer)?.Uses) : null;

    /// <summary>Measures each service's load since the measurement before. Who looks on beside the planner takes no sample away from it: right after one the same is returned again.</summary>
    public async Task<IReadOnlyDictionary<string, ServiceLoad>> MeasureAsync(CancellationToken cancellation)
    {
        await _one.WaitAsync(cancellation);
        try
        {
            BalancerReport? now = null;
            string? silence = null;
            FollowClock();
            try
            {
                if (_before is not { } earlier || _time.Now - earlier.At > pool.Oracle.StaleAfter)
                {
                    _before = await ReadAsync(cancellation);
                    await clock.WaitAsync(s_shortest, cancellation);
                }
                else if (_time.Now - earlier.At is var since && since < s_shortest)
                {
                    if (_last is not null && since + since < s_shortest)
                        return _last;
                    await clock.WaitAsync(s_shortest - since, cancellation);
                }

                now = await ReadAsync(cancellation);
            }
            catch (Exception error) when (error is not AbandonException && !(error is OperationCanceledException && cancellation.IsCancellationRequested))
            {
                // A balancer that does not answer, or answers nonsense, makes bad samples, which say so.
                silence = error is VMatrixException ? error.Message : $"{error.GetType().Name}: {error.Message}";
            }

            var loads = Sensing.Measure(pool, _before, now, _time.Now, silence);
            (_before, _silence, _last) = (now, silence, loads);
            Keep(loads.Values);
            return loads;
        }
        finally
        {
            _one.Release();
        }
    }

    /// <summary>True for a running server whose hypervisor does not say how it fares.</summary>
    public bool HasToAsk(ServerInfo server) =>
        server.Power is PowerState.Running && server.Health is ServerHealth.Unknown && server.Address is not null && _services.ContainsKey(server.Service);

    /// <summary>Asks the health check of every running server that has an address.</summary>
    public async Task<IReadOnlyDictionary<Guid, (ServerHealth Health, string? Problem)>> CheckHealthAsync(IReadOnlyList<ServerInfo> servers, CancellationToken cancellation)
    {
        using var gate = new SemaphoreSlim(ChecksAtOnce);
        var answers = await Task.WhenAll(servers
            .Where(HasToAsk)
            .Select(Check));
        return answers.ToDictionary(a => a.Id, a => a.Problem is null ? (ServerHealth.Healthy, (string?)null) : (ServerHealth.Failing, a.Problem));

        async Task<(Guid Id, string? Problem)> Check(ServerInfo server)
        {
            await gate.WaitAsync(cancellation);
            try
            {
                var service = _services[server.Service];

                // A check keeps its own deadline; one that does not is given up.
                using var deadline = clock.Deadline(service.Health.Timeout + s_grace);
                using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
                try
                {
                    var check = drivers.Health.CheckAsync(service, server.Address!, both.Token);
                    await check.UntilAsync(both.Token);
                    return (server.Id, await check);
                }
                catch (Exception error) when (error is not AbandonException && !cancellation.IsCancellationRequested)
                {
                    return (server.Id, deadline.IsCancellationRequested ? $"The health check of {server.Name} has not ended within {Planning.Words.Seconds((service.Health.Timeout + s_grace))}." : $"{server.Name} cannot be asked: {error.Message.TrimEnd('.')}.");
                }
            }
            finally
            {
                gate.Release();
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _one.Dispose();

    /// <summary>An answer stamped by the steady clock, as old as it was when it came.</summary>
    private async Task<BalancerReport> ReadAsync(CancellationToken cancellation)
    {
        var report = await reads.BalancerAsync(drivers.Balancer, cancellation);
        var age = clock.GetUtcNow() - report.At;
        return report with { At = age > TimeSpan.Zero ? _time.Now - age : _time.Now };
    }

    /// <summary>Moves what was stamped before a clock was set back along with it: it must grow old as it would have.</summary>
    private void FollowClock()
    {
        var set = _time.Follow();
        if (set == TimeSpan.Zero)
            return;
        _before = _before is null ? null : _before with { At = _before.At + set };
        _last = null;
        lock (_samples)
        {
            foreach (var kept in _samples.Values)
            {
                for (int i = 0; i < kept.Count; i++)
                    kept[i] = kept[i] with { At = kept[i].At + set };
            }
        }
    }

    private void Keep(IEnumerable<ServiceLoad> loads)
    {
        lock (_samples)
        {
            foreach (var load in loads)
            {
                var kept = _samples[load.Service];
                kept.Add(load);
                if (kept.Count > SamplesKept)
                    kept.RemoveRange(0, kept.Count - SamplesKept);
            }
        }
    }
}
