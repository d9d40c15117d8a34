using System;
using System.Collections.Concurrent;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix;

/// <summary>What a session asks of hosts, nest and balancer again and again, each with its deadline, and who let it pass.</summary>
internal sealed class PoolReads(PoolSpec pool, TimeProvider clock)
{
    private readonly ConcurrentDictionary<string, PatientRead<HostReport>> _hosts = new(StringComparer.OrdinalIgnoreCase);
    private readonly PatientRead<NestReport> _nest = new("NestUnreachable", "The nest", Whole(pool), clock);
    private readonly PatientRead<BalancerReport> _balancer = new("BalancerUnreachable", "The balancer", Whole(pool), clock);

    /// <summary>An answer is made of several: a driver that knows which of them is late gives up that one alone, before the whole is given up.</summary>
    private static TimeSpan Whole(PoolSpec pool) => TimeSpan.FromTicks(pool.Limits.ReadTimeout.Ticks * 2);

    public DateTimeOffset Now => clock.GetUtcNow();

    public Task<HostReport> HostAsync(IHypervisor hypervisor, HostSpec host, CancellationToken cancellation) =>
        _hosts.GetOrAdd(host.Name, name => new PatientRead<HostReport>("HostUnreachable", name, Whole(pool), clock)).AskAsync(c => hypervisor.ReadHostAsync(host, c), cancellation);

    public Task<NestReport> NestAsync(IHypervisor hypervisor, CancellationToken cancellation) => _nest.AskAsync(hypervisor.ReadNestAsync, cancellation);

    public Task<BalancerReport> BalancerAsync(IBalancer balancer, CancellationToken cancellation) => _balancer.AskAsync(balancer.ReadAsync, cancellation);
}
