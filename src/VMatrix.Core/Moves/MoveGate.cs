using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Moves;

/// <summary>Lets moves through as the pool's limits allow: so many at once in the pool, and so many that touch one host. First come, first served, as far as limits of other hosts do not hold the first one back.</summary>
internal sealed class MoveGate(LimitSpec limits)
{
    private readonly object _gate = new();
    private readonly LinkedList<Waiter> _waiting = new();
    private readonly Dictionary<string, int> _perHost = new(StringComparer.Ordinal);
    private int _inPool;

    public async Task<IDisposable> EnterAsync(IReadOnlyList<string> hosts, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        Waiter waiter;
        lock (_gate)
        {
            if (Admits(hosts))
                return new Pass(this, hosts);
            waiter = new Waiter(hosts);
            _waiting.AddLast(waiter);
        }
        using (cancellation.Register(() =>
        {
            bool gone;
            lock (_gate)
                gone = _waiting.Remove(waiter);
            if (gone)
                waiter.Source.TrySetCanceled();
        }))
        {
            return await waiter.Source.Task;
        }
    }

    private bool Admits(IReadOnlyList<string> hosts)
    {
        if (_inPool >= Math.Max(1, limits.MovesPerPool) || hosts.Any(h => _perHost.TryGetValue(h, out var n) && n >= Math.Max(1, limits.MovesPerHost)))
            return false;
        _inPool++;
        foreach (var host in hosts)
            _perHost[host] = (_perHost.TryGetValue(host, out var n) ? n : 0) + 1;
        return true;
    }

    private void Leave(IReadOnlyList<string> hosts)
    {
        var admitted = new List<Waiter>();
        lock (_gate)
        {
            _inPool--;
            foreach (var host in hosts)
                _perHost[host]--;
            for (var node = _waiting.First; node is not null && _inPool < Math.Max(1, limits.MovesPerPool);)
            {
                var next = node.Next;
                if (Admits(node.Value.Hosts))
                {
                    _waiting.Remove(node);
                    admitted.Add(node.Value);
                }
                node = next;
            }
        }
        foreach (var waiter in admitted)
            waiter.Source.TrySetResult(new Pass(this, waiter.Hosts));
    }

    private sealed class Waiter(IReadOnlyList<string> hosts)
    {
        public IReadOnlyList<string> Hosts { get; } = hosts;

        public TaskCompletionSource<IDisposable> Source { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    private sealed class Pass(MoveGate gate, IReadOnlyList<string> hosts) : IDisposable
    {
        private MoveGate? _gate = gate;

        public void Dispose() => Interlocked.Exchange(ref _gate, null)?.Leave(hosts);
    }
}
