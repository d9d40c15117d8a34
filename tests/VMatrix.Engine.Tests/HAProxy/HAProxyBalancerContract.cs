using System;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.HAProxy;

namespace VMatrix.Tests.HAProxy;

public sealed class HAProxyBalancerContract : BalancerContract
{
    protected override Task<BalancerWorld> OpenWorldAsync() => Task.FromResult<BalancerWorld>(new World());

    private sealed class World : WebWorld
    {
        public World() => Pool = PoolOf(Folder.Path, FreeAddress(), FreeAddress()) with { Balancer = new BalancerSpec { Kind = "haproxy" } };

        public override PoolSpec Pool { get; }

        public override IBalancer OpenBalancer() => new HAProxyBalancer(Pool, TimeProvider.System);
    }
}
