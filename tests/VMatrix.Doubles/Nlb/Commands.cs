using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.NetworkLoadBalancingClusters.PowerShell;

namespace Microsoft.NetworkLoadBalancingClusters.PowerShell
{
    public enum NodeState
    {
        Stopped,
        Converging,
        Converged,
        Suspended,
        Draining,
    }

    public enum NodeInitialHostState
    {
        Started,
        Stopped,
        Suspended,
    }

    public sealed class Cluster
    {
        public string Name { get; init; } = "";

        public string IPAddress { get; init; } = "";
    }

    public sealed class Node
    {
        public string Name { get; init; } = "";

        public string Host { get; init; } = "";

        public string InterfaceName { get; init; } = "";

        public int HostPriority { get; init; }

        public NodeState State { get; init; }
    }

    public sealed class PortRule
    {
        public uint StartPort { get; init; }

        public uint EndPort { get; init; }

        public string Protocol { get; init; } = "Both";

        public string Mode { get; init; } = "Multiple";
    }
}

namespace VMatrix.Doubles
{
    public sealed partial class DoubleWorld
    {
        /// <summary>Makes a node of a load-balancing cluster; requests that it has open take a while to end.</summary>
        public void AddNlbNode(string cluster, string node, TimeSpan drainTime = default) => Change(state =>
        {
            var made = new ManagedState
            {
                Id = Guid.NewGuid(),
                Kind = "nlb",
                Name = node,
                More = new Dictionary<string, string> { ["cluster"] = cluster, ["interface"] = "LAN", ["state"] = nameof(NodeState.Converged), ["drain"] = drainTime.ToString("c", CultureInfo.InvariantCulture), ["priority"] = (state.Managed.Values.Count + 1).ToString(CultureInfo.InvariantCulture) },
            };
            state.Managed.Put("nlb/" + node, made);
        });

        /// <summary>What a node of a load-balancing cluster does now.</summary>
        public NodeState NlbNode(string node) => Read(state => CommandCall.StateOf(state.Managed.Get("nlb/" + node)!, Now));
    }

    /// <summary>The commands of the module NetworkLoadBalancingClusters.</summary>
    public sealed partial class CommandCall
    {
        internal static NodeState StateOf(ManagedState node, DateTimeOffset now) =>
            node.More.TryGetValue("until", out var until) && now >= DateTimeOffset.Parse(until, CultureInfo.InvariantCulture) ? NodeState.Stopped : Enum.Parse<NodeState>(node.More["state"]);

        private static void AddNlb(Dictionary<string, Func<CommandCall, Task>> commands)
        {
            foreach (var (name, command) in new Dictionary<string, Func<CommandCall, Task>>
            {
                ["Get-NlbCluster"] = call => call.GetNlbClusterAsync(),
                ["Get-NlbClusterNode"] = call => call.GetNlbNodesAsync(),
                ["Get-NlbClusterPortRule"] = call => call.GetNlbRulesAsync(),
                ["Start-NlbClusterNode"] = call => call.TurnNlbAsync(state => state is NodeState.Suspended ? throw NotInState("suspended") : NodeState.Converged),
                ["Stop-NlbClusterNode"] = call => call.StopNlbAsync(),
                ["Suspend-NlbClusterNode"] = call => call.TurnNlbAsync(_ => NodeState.Suspended),
                ["Resume-NlbClusterNode"] = call => call.TurnNlbAsync(state => state is NodeState.Suspended ? NodeState.Stopped : throw NotInState("not suspended")),
                ["Remove-NlbClusterNode"] = call => call.RemoveNlbAsync(),
                ["Add-NlbClusterNode"] = call => call.AddNlbAsync(),
            })
                commands.Add(@"NetworkLoadBalancingClusters\" + name, command);
        }

        private static DoubleError NotInState(string state) => new("InvalidOperation", "InvalidOperation", 0, $"The operation cannot be carried out because the node is {state}.");

        private async Task<string> ReachNlbAsync()
        {
            var (host, _) = (Bound.Get<string>("HostName"), Bound.Has("InterfaceName"));
            var (settings, found) = World.Read(state => (state.Set, host is null ? state.Managed.Values.FirstOrDefault(node => node.Kind == "nlb") : state.Managed.Get("nlb/" + host)));
            await DelayAsync(settings.CallLatency);
            return found?.More["cluster"] ?? throw new DoubleError("RPCServerUnavailable", "ConnectionError", unchecked((int)0x800706BA), $"The RPC server is unavailable: '{host}'.");
        }

        // The nodes that are meant: those of the pipeline, or the one on the host that is named.
        private async Task<IReadOnlyList<string>> NlbNodesAsync()
        {
            if (Bound.Has("InputObject"))
            {
                await DelayAsync(World.Read(state => state.Set.CallLatency));
                return [.. Bound.All<Node>("InputObject").Select(node => node.Name)];
            }

            await ReachNlbAsync();
            return [Bound.Get<string>("HostName") ?? World.Read(state => state.Managed.Values.First(node => node.Kind == "nlb").Name)];
        }

        private async Task GetNlbClusterAsync() => Output.Add(new Microsoft.NetworkLoadBalancingClusters.PowerShell.Cluster { Name = await ReachNlbAsync(), IPAddress = "10.0.0.250" });

        private async Task GetNlbNodesAsync()
        {
            var clusters = Bound.All<Microsoft.NetworkLoadBalancingClusters.PowerShell.Cluster>("InputObject").Select(cluster => cluster.Name).ToArray();
            var name = Bound.Get<string>("NodeName");
            if (clusters.Length == 0)
                clusters = [await ReachNlbAsync()];
            Output.AddRange(World.Read(state => state.Managed.Values.Where(node => node.Kind == "nlb" && clusters.Contains(node.More["cluster"]) && (name is null || Like(name, node.Name))).Select(ShowNlb).ToArray()));
        }

        private async Task GetNlbRulesAsync()
        {
            if (Bound.Has("InputObject") || Bound.Has("IP") || Bound.Has("Port") || Bound.Has("NodeName"))
                throw new NotDoubledException(@"NetworkLoadBalancingClusters\Get-NlbClusterPortRule of one node or port");
            await ReachNlbAsync();
            Output.Add(new PortRule { StartPort = 0, EndPort = 65535 });
        }

        private Task TurnNlbAsync(Func<NodeState, NodeState> turn) => EachNlbAsync(node => node with { More = With(node, ("state", turn(StateOf(node, World.Clock.GetUtcNow())).ToString()), ("until", null)) });

        private Task StopNlbAsync()
        {
            var (drain, timeout) = (Bound.Is("Drain"), Bound.Has("Timeout") ? TimeSpan.FromMinutes(Bound.Get<uint>("Timeout")) : TimeSpan.MaxValue);
            return EachNlbAsync(node =>
            {
                var needs = TimeSpan.Parse(node.More["drain"], CultureInfo.InvariantCulture);
                return !drain || needs == TimeSpan.Zero ? node with { More = With(node, ("state", nameof(NodeState.Stopped)), ("until", null)) }
                    : node with { More = With(node, ("state", nameof(NodeState.Draining)), ("until", (World.Clock.GetUtcNow() + (needs < timeout ? needs : timeout)).ToString("O", CultureInfo.InvariantCulture))) };
            });
        }

        private async Task RemoveNlbAsync()
        {
            var pass = Bound.Is("PassThru");
            foreach (var name in await NlbNodesAsync())
            {
                World.Change(state =>
                {
                    if (pass && state.Managed.Get("nlb/" + name) is { } node)
                        Output.Add(ShowNlb(node));
                    state.Managed.Remove("nlb/" + name);
                });
            }
        }

        private async Task AddNlbAsync()
        {
            var (name, _) = (Bound.Get<string>("NewNodeName")!, Bound.Has("NewNodeInterface"));
            var cluster = Bound.All<Microsoft.NetworkLoadBalancingClusters.PowerShell.Cluster>("InputObject").FirstOrDefault()?.Name ?? await ReachNlbAsync();
            if (World.Read(state => state.Managed.Get("nlb/" + name)) is not null)
                throw new DoubleError("NodeExists", "ResourceExists", 0, $"The node '{name}' is in a cluster already.");
            World.AddNlbNode(cluster, name);
            Output.Add(World.Read(state => ShowNlb(state.Managed.Get("nlb/" + name)!)));
        }

        private async Task EachNlbAsync(Func<ManagedState, ManagedState> change) => await EachAsync(await NlbNodesAsync(), name =>
        {
            Output.Add(World.Change(state =>
            {
                var node = state.Managed.Get("nlb/" + name) ?? throw new DoubleError("NodeNotFound", "ObjectNotFound", 0, $"There is no node '{name}'.");
                var changed = change(node);
                state.Managed.Put("nlb/" + name, changed);
                return ShowNlb(changed);
            }));
            return Task.CompletedTask;
        });

        private Node ShowNlb(ManagedState node) => new()
        {
            Name = node.Name,
            Host = node.Name,
            InterfaceName = node.More["interface"],
            HostPriority = int.Parse(node.More["priority"], CultureInfo.InvariantCulture),
            State = StateOf(node, World.Clock.GetUtcNow()),
        };

        private static Dictionary<string, string> With(ManagedState node, params (string Key, string? Value)[] changes)
        {
            var more = new Dictionary<string, string>(node.More);
            foreach (var (key, value) in changes)
            {
                if (value is null)
                    more.Remove(key);
                else
                    more[key] = value;
            }

            return more;
        }
    }
}
