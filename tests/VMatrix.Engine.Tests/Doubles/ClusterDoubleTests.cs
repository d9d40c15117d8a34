using System;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.NetworkLoadBalancingClusters.PowerShell;
using VMatrix.Doubles;
using VMatrix.Shells;
using Xunit;
using static VMatrix.Tests.Doubles.DoubleLab;

namespace VMatrix.Tests.Doubles;

/// <summary>Failover clusters move their own machines; a load-balancing cluster's nodes drain before they stop.</summary>
public sealed class ClusterDoubleTests
{
    [Fact]
    public async Task A_clustered_machine_is_moved_by_its_cluster_and_by_nobody_else()
    {
        using var lab = new DoubleLab();
        foreach (var host in new[] { "host1", "host2" })
            lab.World.SetHost(host, known => known with { Cluster = "cluster1" });
        lab.World.Change(state => state.Clusters.Put("cluster1", new ClusterState { Name = "cluster1", AutoBalancerMode = 2 }));
        var id = await lab.NewAsync(path: @"C:\ClusterStorage\Volume1\vm");
        await lab.RunAsync(@"FailoverClusters\Add-ClusterVirtualMachineRole", ("Cluster", "cluster1"), ("VMId", id));
        await lab.RunAsync(@"Hyper-V\Start-VM", ("VM", VM("host1", id)));
        var refused = await Assert.ThrowsAsync<ShellException>(() => lab.RunAsync(@"Hyper-V\Move-VM", ("VM", VM("host1", id)), ("DestinationHost", "host2"), ("IncludeStorage", false)));
        Assert.Equal("OperationFailed,Microsoft.HyperV.PowerShell.Commands.MoveVM", refused.ErrorId);
        var moved = Assert.Single(await lab.RunAsync([Command(@"FailoverClusters\Move-ClusterVirtualMachineRole", ("Cluster", "host1"), ("VMId", id), ("Node", "host2"), ("MigrationType", "Live"))], "OwnerNode.Name", "State"));
        Assert.Equal(("host2", "Online"), (moved["OwnerNode.Name"], moved["State"]));
        Assert.Equal("Running", (await lab.ReadAsync("host2", id))["State"]);
        var cluster = Assert.Single(await lab.RunAsync([Command(@"FailoverClusters\Get-Cluster", ("Name", "host1"))], "Name", "AutoBalancerMode"));
        Assert.Equal(("cluster1", 2L), (cluster["Name"], cluster["AutoBalancerMode"]));
    }

    [Fact]
    public async Task A_node_drains_before_it_stops_and_comes_back()
    {
        using var lab = new DoubleLab();
        lab.World.AddNlbNode("web", "web1", TimeSpan.FromMilliseconds(80));
        lab.World.AddNlbNode("web", "web2");
        Assert.Equal(2, (await lab.RunAsync(@"NetworkLoadBalancingClusters\Get-NlbClusterNode", ("HostName", "web1"))).Count);
        await lab.RunAsync(@"NetworkLoadBalancingClusters\Stop-NlbClusterNode", ("HostName", "web1"), ("Drain", true));
        Assert.Equal(NodeState.Draining, lab.World.NlbNode("web1"));
        await Task.Delay(120);
        Assert.Equal(NodeState.Stopped, lab.World.NlbNode("web1"));
        var back = Assert.Single(await lab.RunAsync([Command(@"NetworkLoadBalancingClusters\Get-NlbClusterNode", ("HostName", "web2"), ("NodeName", "web1")), Command(@"NetworkLoadBalancingClusters\Start-NlbClusterNode")], "State"));
        Assert.Equal("Converged", back["State"]);
        Assert.Equal("ConnectionError", (await Assert.ThrowsAsync<ShellException>(() => lab.RunAsync(@"NetworkLoadBalancingClusters\Get-NlbClusterNode", ("HostName", "nobody")))).Category);
    }
}
