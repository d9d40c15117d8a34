using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.FailoverClusters.PowerShell;
using Microsoft.HyperV.PowerShell;

namespace Microsoft.FailoverClusters.PowerShell
{
    public enum VmMigrationType
    {
        TurnOff,
        Quick,
        Shutdown,
        ShutdownForce,
        Live,
    }

    public enum ClusterNodeState
    {
        Unknown = -1,
        Up = 0,
        Down = 1,
        Paused = 2,
        Joining = 3,
    }

    public enum ClusterGroupState
    {
        Unknown = -1,
        Online = 0,
        Offline = 1,
        Failed = 2,
        PartialOnline = 3,
        Pending = 4,
    }

    public sealed class Cluster
    {
        public string Name { get; init; } = "";

        public uint AutoBalancerMode { get; init; }

        public uint AutoBalancerLevel { get; init; }

        public override string ToString() => Name;
    }

    public sealed class ClusterNode
    {
        public string Name { get; init; } = "";

        public string Cluster { get; init; } = "";

        public ClusterNodeState State { get; init; }

        public string DrainStatus => State == ClusterNodeState.Paused ? "Completed" : "NotInitiated";

        public override string ToString() => Name;
    }

    public sealed class ClusterGroup
    {
        public string Name { get; init; } = "";

        public string Cluster { get; init; } = "";

        public ClusterNode OwnerNode { get; init; } = new();

        public string GroupType { get; init; } = "VirtualMachine";

        public ClusterGroupState State { get; init; }

        /// <summary>The virtual machine's id, as the role's private property says.</summary>
        public Guid VMId { get; init; }

        public override string ToString() => Name;
    }
}

namespace VMatrix.Doubles
{
    /// <summary>The commands of the module FailoverClusters.</summary>
    public sealed partial class CommandCall
    {
        private static void AddClusters(Dictionary<string, Func<CommandCall, Task>> commands)
        {
            foreach (var (name, command) in new Dictionary<string, Func<CommandCall, Task>>
            {
                ["Get-Cluster"] = call => call.GetClusterAsync(),
                ["Get-ClusterNode"] = call => call.GetClusterNodeAsync(),
                ["Get-ClusterGroup"] = call => call.GetClusterGroupAsync(),
                ["Move-ClusterVirtualMachineRole"] = call => call.MoveClusterRoleAsync(),
                ["Add-ClusterVirtualMachineRole"] = call => call.AddClusterRoleAsync(),
                ["Remove-ClusterGroup"] = call => call.RemoveClusterGroupAsync(),
                ["Suspend-ClusterNode"] = call => call.PauseNodeAsync(true),
                ["Resume-ClusterNode"] = call => call.PauseNodeAsync(false),
            })
                commands.Add(@"FailoverClusters\" + name, command);
        }

        private static DoubleError NoCluster(string name) => new("Get-Cluster", "NotSpecified", unchecked((int)0x800706BA), $"Check the spelling of the cluster name. Otherwise, there might be a problem with your network. The RPC server is unavailable: '{name}'.");

        private async Task<ClusterState> ClusterAsync(string parameter)
        {
            var named = Bound.Get<string>(parameter);
            var (settings, found) = World.Read(state => (state.Set, named is null ? state.Clusters.Values.FirstOrDefault() : state.Clusters.Get(named) ?? (state.Host(named)?.Cluster is { } of ? state.Clusters.Get(of) : null)));
            await DelayAsync(settings.CallLatency);
            return found ?? throw NoCluster(named ?? "localhost");
        }

        private async Task GetClusterAsync()
        {
            if (Bound.Has("Domain"))
                throw new NotDoubledException(@"FailoverClusters\Get-Cluster -Domain");
            var cluster = await ClusterAsync("Name");
            Output.Add(new Cluster { Name = cluster.Name, AutoBalancerMode = (uint)cluster.AutoBalancerMode, AutoBalancerLevel = (uint)cluster.AutoBalancerLevel });
        }

        private async Task GetClusterNodeAsync()
        {
            var cluster = await ClusterAsync("Cluster");
            var names = Bound.All<string>("Name");
            Output.AddRange(World.Read(state => state.Hosts.Values.Where(host => Same(host.Cluster, cluster.Name) && (names.Count == 0 || names.Any(name => Like(name, host.Name)))).Select(Show).ToArray()));
            foreach (var name in names.Where(name => !name.Contains('*', StringComparison.Ordinal) && !Output.Cast<ClusterNode>().Any(node => Same(node.Name, name))))
                Errors.Add(new DoubleError("ClusterObjectNotFound", "ObjectNotFound", unchecked((int)0x80070490), $"There is no node '{name}' in the cluster '{cluster.Name}'."));
        }

        private async Task GetClusterGroupAsync()
        {
            var cluster = await ClusterAsync("Cluster");
            var names = Bound.All<string>("Name");
            Guid? id = Bound.Has("VMId") ? Bound.Get<Guid>("VMId") : null;
            Output.AddRange(World.Read(state => state.Groups.Values.Where(group => Same(group.Cluster, cluster.Name) && (names.Count == 0 || names.Any(name => Like(name, group.Name))) && (id is null || group.Machine == id)).Select(group => Show(state, group)).OfType<object>().ToArray()));
            if (Output.Count == 0 && (id is not null || names.Any(name => !name.Contains('*', StringComparison.Ordinal))))
                throw new DoubleError("ClusterObjectNotFound", "ObjectNotFound", unchecked((int)0x80070490), $"There is no group '{(id is null ? names[0] : id)}' in the cluster '{cluster.Name}'.");
        }

        private async Task MoveClusterRoleAsync()
        {
            var cluster = await ClusterAsync("Cluster");
            var (name, node, how) = (Bound.Get<string>("Name"), Bound.Get<string>("Node"), Bound.Has("MigrationType") ? Bound.Get<VmMigrationType>("MigrationType") : VmMigrationType.Live);
            Guid? id = Bound.Has("VMId") ? Bound.Get<Guid>("VMId") : null;
            var (input, wait, cancel) = (Bound.Get<ClusterGroup>("InputObject"), Bound.Has("Wait") ? Bound.Get<int>("Wait") : -1, Bound.Is("Cancel"));
            if (cancel || wait >= 0 || how is not (VmMigrationType.Live or VmMigrationType.Quick))
                throw new NotDoubledException($@"FailoverClusters\Move-ClusterVirtualMachineRole -MigrationType {how} -Wait {wait}");
            var group = World.Read(state => state.Groups.Values.FirstOrDefault(group => Same(group.Cluster, cluster.Name) && (input is not null ? group.Name == input.Name : id is not null ? group.Machine == id : Same(group.Name, name))))
                ?? throw new DoubleError("ClusterObjectNotFound", "ObjectNotFound", unchecked((int)0x80070490), $"There is no group '{name ?? id?.ToString()}' in the cluster '{cluster.Name}'.");
            await JobAsync(state =>
            {
                var machine = state.Machines.Values.First(machine => machine.Id == group.Machine);
                var from = state.Host(machine.Host)!;
                var to = node is not null ? state.Host(node) : state.Hosts.Values.FirstOrDefault(host => Same(host.Cluster, cluster.Name) && host.Name != from.Name && host.Mood == HostMood.Up && !host.Paused);
                if (to is null || !Same(to.Cluster, cluster.Name) || to.Mood != HostMood.Up || to.Paused)
                    throw new DoubleError("ClusterNodeNotAvailable", "NotSpecified", unchecked((int)0x800713C2), $"The cluster node '{node}' is not available for the move of '{group.Name}'.");
                Idle(state, from, machine.Id);
                if (state.Jobs.Values.Count(job => !job.Done && job.Kind == "move" && (job.More["host"] == from.Name || job.Target == to.Name)) >= Math.Min(from.MaxMigrations, to.MaxMigrations))
                    throw DoubleError.TooMany(machine.Name, from.MaxMigrations);
                if (Obstacles(state, from, to, machine, storage: false) is [{ } first, ..])
                    throw new DoubleError("Move-ClusterVirtualMachineRole", "NotSpecified", unchecked((int)0x80071398), $"An error occurred moving '{group.Name}': {first.Message}");
                DoubleWorld.CheckMemory(state, to, machine);
                return Begin(state, "move", from, machine, Time(state, machine.Runs ? machine.MemoryBytes : 1), []) with { Target = to.Name };
            });
            Output.Add(World.Read(state => Show(state, state.Groups.Get(group.Name)!)!));
        }

        private async Task AddClusterRoleAsync()
        {
            var cluster = await ClusterAsync("Cluster");
            var (id, machineName, name) = (Bound.Has("VMId") ? Bound.Get<Guid>("VMId") : (Guid?)null, Bound.Get<string>("VirtualMachine"), Bound.Get<string>("Name"));
            Output.Add(World.Change(state =>
            {
                var machine = state.Machines.Values.FirstOrDefault(machine => Same(state.Host(machine.Host)!.Cluster, cluster.Name) && (id is not null ? machine.Id == id : Same(machine.Name, machineName)))
                    ?? throw new DoubleError("ClusterObjectNotFound", "ObjectNotFound", unchecked((int)0x80070490), $"There is no virtual machine '{machineName ?? id?.ToString()}' in the cluster '{cluster.Name}'.");
                var group = new GroupState { Name = name ?? machine.Name, Cluster = cluster.Name, Machine = machine.Id };
                if (state.Groups.Get(group.Name) is not null)
                    throw new DoubleError("ClusterGroupExists", "ResourceExists", unchecked((int)0x80071392), $"The cluster has a group '{group.Name}' already.");
                state.Groups.Put(group.Name, group);
                return Show(state, group)!;
            }));
        }

        private async Task RemoveClusterGroupAsync()
        {
            var cluster = await ClusterAsync("Cluster");
            var names = Bound.All<string>("Name");
            Guid? id = Bound.Has("VMId") ? Bound.Get<Guid>("VMId") : null;
            _ = Bound.Is("RemoveResources") | Bound.Is("Force");
            World.Change(state =>
            {
                foreach (var group in state.Groups.Values.Where(group => Same(group.Cluster, cluster.Name) && (id is not null ? group.Machine == id : names.Any(name => Like(name, group.Name)))).ToArray())
                    state.Groups.Remove(group.Name);
            });
        }

        private async Task PauseNodeAsync(bool paused)
        {
            var cluster = await ClusterAsync("Cluster");
            var names = Bound.All<string>("Name");
            if (paused && Bound.Is("Drain"))
                throw new NotDoubledException(@"FailoverClusters\Suspend-ClusterNode -Drain");
            foreach (var name in names)
            {
                World.SetHost(name, host => host with { Paused = paused });
                Output.Add(World.Read(state => Show(state.Host(name)!)));
            }
        }

        private static ClusterNode Show(HostState host) => new() { Name = host.Name, Cluster = host.Cluster ?? "", State = host.Mood == HostMood.Down ? ClusterNodeState.Down : host.Paused ? ClusterNodeState.Paused : ClusterNodeState.Up };

        private static ClusterGroup? Show(WorldState state, GroupState group)
        {
            var machine = state.Machines.Values.Where(machine => machine.Id == group.Machine).MaxBy(machine => group.Owners.Count > 0 && Same(machine.Host, group.Owners[0]));
            return machine is null ? null : new ClusterGroup
            {
                Name = group.Name,
                Cluster = group.Cluster,
                OwnerNode = Show(state.Host(machine.Host)!),
                VMId = machine.Id,
                State = machine.Job is not null ? ClusterGroupState.Pending : machine.State == VMState.Running ? ClusterGroupState.Online : ClusterGroupState.Offline,
            };
        }
    }
}
