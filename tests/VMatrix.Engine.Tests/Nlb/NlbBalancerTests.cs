using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.NetworkLoadBalancingClusters.PowerShell;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.Nlb;
using VMatrix.Simulation;
using Xunit;

namespace VMatrix.Tests.Nlb;

/// <summary>NLB on the double. It counts no requests, so that of the balancers' contract it can keep only what is here.</summary>
public sealed class NlbBalancerTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly VirtualClock _clock = new();
    private readonly DoubleWorld _world;
    private readonly PoolSpec _pool;
    private readonly Guid _server = Guid.NewGuid();

    public NlbBalancerTests()
    {
        _pool = TestPool.Simulated(_folder.Path) with { Hypervisor = "hyperv", Balancer = new BalancerSpec { Kind = "nlb", DrainTimeout = TimeSpan.FromSeconds(30) } };
        _world = new DoubleWorld(Path.Combine(_folder.Path, "world"), _clock);
        _world.AddNlbNode("portal", "web1", TimeSpan.FromSeconds(20));
        _world.AddNlbNode("portal", "web2");
    }

    [Fact]
    public void Each_call_may_be_repeated_by_another_driver() => _clock.Run(async () =>
    {
        var service = _pool.Services[0];
        for (var turn = 0; turn < 2; turn++)
        {
            await Open().JoinAsync(default, service, _server, "web1:80", default);
            var member = Assert.Single((await Open().ReadAsync(default)).Members);
            Assert.Equal((_server, service.Name, "web1:80", MemberState.Ready), (member.ServerId, member.Service, member.Address, member.State));
        }

        for (var turn = 0; turn < 2; turn++)
        {
            await Open().DrainAsync(default, service.Name, _server, default);
            var member = Assert.Single((await Open().ReadAsync(default)).Members);
            Assert.Equal((MemberState.Draining, 1), (member.State, member.Open));
        }

        // Its requests have ended by themselves.
        await Task.Delay(TimeSpan.FromSeconds(25), _clock);
        var drained = Assert.Single((await Open().ReadAsync(default)).Members);
        Assert.Equal((MemberState.Draining, 0, NodeState.Stopped), (drained.State, drained.Open, _world.NlbNode("web1")));
        await Open().JoinAsync(default, service, _server, "web1:80", default);
        Assert.Equal(MemberState.Ready, Assert.Single((await Open().ReadAsync(default)).Members).State);
        for (var turn = 0; turn < 2; turn++)
        {
            await Open().LeaveAsync(default, service.Name, _server, default);
            Assert.Empty((await Open().ReadAsync(default)).Members);
            Assert.Equal(NodeState.Stopped, _world.NlbNode("web1"));
        }

        await Open().DrainAsync(default, service.Name, _server, default);
        Assert.Equal(NodeState.Converged, _world.NlbNode("web2")); // Nobody else's node was touched.
    });

    [Fact]
    public void A_server_that_comes_back_elsewhere_leaves_its_old_node() => _clock.Run(async () =>
    {
        await Open().JoinAsync(default, _pool.Services[0], _server, "web1:80", default);
        await Open().JoinAsync(default, _pool.Services[0], _server, "web2:80", default);
        Assert.Equal((NodeState.Stopped, NodeState.Converged), (_world.NlbNode("web1"), _world.NlbNode("web2")));
        Assert.Equal("web2:80", Assert.Single((await Open().ReadAsync(default)).Members).Address);
    });

    [Fact]
    public void A_node_that_an_admin_has_suspended_serves_again_when_its_server_joins() => _clock.Run(async () =>
    {
        await new DoubleShell(_world).InvokeAsync(new Shells.ShellCall { Commands = [new(@"NetworkLoadBalancingClusters\Suspend-NlbClusterNode", new System.Collections.Generic.Dictionary<string, object?> { ["HostName"] = "web1" })] }, default);
        await Open().JoinAsync(default, _pool.Services[0], _server, "web1:80", default);
        Assert.Equal(NodeState.Converged, _world.NlbNode("web1"));
    });

    [Fact]
    public void What_is_no_node_cannot_join_and_one_that_is_gone_can_leave() => _clock.Run(async () =>
    {
        Assert.Equal("NlbNodeUnreachable", (await Assert.ThrowsAsync<VMatrixException>(() => Open().JoinAsync(default, _pool.Services[0], _server, "nowhere:80", default))).Id);
        Assert.Empty((await Open().ReadAsync(default)).Members);
        await Open().JoinAsync(default, _pool.Services[0], _server, "web2:80", default);
        _world.Change(state => state.Managed.Remove("nlb/web2"));
        Assert.Equal(MemberState.Down, Assert.Single((await Open().ReadAsync(default)).Members).State);
        await Open().LeaveAsync(default, _pool.Services[0].Name, _server, default);
        Assert.Empty((await Open().ReadAsync(default)).Members);
    });

    [Fact]
    public void A_decider_that_was_followed_by_another_is_refused() => _clock.Run(async () =>
    {
        await Open().JoinAsync(new DriverCall(Guid.NewGuid(), 8), _pool.Services[0], _server, "web1:80", default);
        var old = new DriverCall(Guid.NewGuid(), 7);
        foreach (var call in new Func<Task>[] { () => Open().JoinAsync(old, _pool.Services[0], Guid.NewGuid(), "web2:80", default), () => Open().DrainAsync(old, "FINANCE", _server, default), () => Open().LeaveAsync(old, "FINANCE", _server, default) })
            Assert.Equal("StaleEpoch", (await Assert.ThrowsAsync<VMatrixException>(call)).Id);
        Assert.Equal(NodeState.Converged, _world.NlbNode("web1"));
        await Open().LeaveAsync(default, "FINANCE", _server, default); // By hand: never refused.
    });

    public void Dispose()
    {
        _world.Forget();
        _folder.Dispose();
    }

    private NlbBalancer Open() => new(_pool, new DoubleShell(_world), _clock);
}
