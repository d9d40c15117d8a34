using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Shells;

namespace VMatrix.Nlb;

/// <summary>
/// Windows Network Load Balancing: each service is a cluster that its servers' guests belong to from their image on, each guest a node. To join
/// is to start the guest's node, to leave is to stop it. NLB counts no requests, and knows nothing of our ids: which node is which server is kept
/// in the state folder; what the node does is asked.
/// </summary>
internal sealed class NlbBalancer(PoolSpec pool, IShell shell, TimeProvider clock) : IBalancer, IEpochKeeper
{
    private string File => Path.Combine(pool.StateFolder, "balancer.nodes");

    /// <inheritdoc/>
    public Task EnsureAsync(CancellationToken cancellation) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task<long> ReadEpochAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(BalancerTurn.ReadEpoch(pool));
    }

    /// <inheritdoc/>
    public async Task<BalancerReport> ReadAsync(CancellationToken cancellation)
    {
        var nodes = Read();
        var errors = new ConcurrentBag<VMatrixException>();
        var members = await Task.WhenAll(nodes.Select(async entry =>
        {
            MemberState state;
            var open = 0;
            try
            {
                (state, open) = await StateAsync(entry.Value.Node, cancellation) switch
                {
                    "Converged" or "ConvergedDefault" or "Converging" => (MemberState.Ready, 0),

                    // How many requests are left is not told, only that there are some.
                    "Draining" => (MemberState.Draining, 1),
                    _ => (entry.Value.Draining ? MemberState.Draining : MemberState.Maintenance, 0),
                };
            }
            catch (VMatrixException e) when (e.Id is not ("ModuleMissing" or "ShellNotFound" or "ShellClosed"))
            {
                // One node's trouble, whatever it is, is no other's.
                state = MemberState.Down;
                if (e.Id is not ("NlbNodeUnreachable" or "NlbNodeMissing"))
                    errors.Add(e);
            }

            return new BalancerMember { Service = entry.Value.Service, ServerId = entry.Key, Address = entry.Value.Address, State = state, Open = open, CountsOpen = false };
        }));
        if (errors.Count == nodes.Count && errors.TryTake(out var everywhere))
            throw everywhere;
        return new BalancerReport { At = clock.GetUtcNow(), Incarnation = "nlb", Members = members, Services = [] };
    }

    /// <inheritdoc/>
    public async Task JoinAsync(DriverCall call, ServiceSpec service, Guid server, string address, CancellationToken cancellation)
    {
        var colon = address.LastIndexOf(':');
        var node = (colon < 0 ? address : address.Substring(0, colon)).Trim('[', ']');
        if (Uri.CheckHostName(node) is UriHostNameType.Unknown)
        {
            throw new VMatrixException("BalancerAddressInvalid", VMatrixErrorKind.InvalidInput,
                $"Server {server} of {service.Name} answers at '{Outsiders.Show(address)}', which is no address with a port. See what its host and its guest say of its address.");
        }

        using var turn = await BalancerTurn.TakeAsync(pool, call, clock, cancellation);
        var nodes = Read();
        if (nodes.TryGetValue(server, out var before) && before.Node != node)
            await StopAsync(before.Node, cancellation);
        var state = await StateAsync(node, cancellation);

        // Written first: a node that takes requests and that nobody knows of would never be stopped.
        nodes[server] = new Entry(service.Name, node, address, false);
        Write(nodes);
        if (state == "Suspended")
            await RunAsync($"Resuming the node {node}", node, [], Of("NetworkLoadBalancingClusters\\Resume-NlbClusterNode", ("HostName", node)), cancellation);
        if (state is not ("Converged" or "ConvergedDefault" or "Converging"))
            await RunAsync($"Starting the node {node}", node, [], Of("NetworkLoadBalancingClusters\\Start-NlbClusterNode", ("HostName", node)), cancellation);
    }

    /// <inheritdoc/>
    public async Task DrainAsync(DriverCall call, string service, Guid server, CancellationToken cancellation)
    {
        using var turn = await BalancerTurn.TakeAsync(pool, call, clock, cancellation);
        var nodes = Read();
        if (!nodes.TryGetValue(server, out var entry))
            return;
        nodes[server] = entry with { Draining = true };
        Write(nodes);
        if (await StateAsync(entry.Node, cancellation) is "Converged" or "ConvergedDefault" or "Converging")
        {
            await RunAsync($"Draining the node {entry.Node}", entry.Node, [], Of("NetworkLoadBalancingClusters\\Stop-NlbClusterNode",
                ("HostName", entry.Node), ("Drain", true), ("Timeout", (int)Math.Max(1, Math.Ceiling(pool.Balancer.DrainTimeout.TotalMinutes)))), cancellation);
        }
    }

    /// <inheritdoc/>
    public async Task LeaveAsync(DriverCall call, string service, Guid server, CancellationToken cancellation)
    {
        using var turn = await BalancerTurn.TakeAsync(pool, call, clock, cancellation);
        var nodes = Read();
        if (!nodes.TryGetValue(server, out var entry))
            return;
        await StopAsync(entry.Node, cancellation);
        nodes.Remove(server);
        Write(nodes);
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellation) => Task.CompletedTask;

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => default;

    private async Task StopAsync(string node, CancellationToken cancellation)
    {
        try
        {
            if (await StateAsync(node, cancellation) is not ("Stopped" or "Suspended"))
                await RunAsync($"Stopping the node {node}", node, [], Of("NetworkLoadBalancingClusters\\Stop-NlbClusterNode", ("HostName", node)), cancellation);
        }
        catch (VMatrixException e) when (e.Id is "NlbNodeUnreachable" or "NlbNodeMissing")
        {
            // The node runs in the server itself: where that is gone the others take its share without being told.
        }
    }

    // The state by its own word; the node is asked on its own host, so that no other one need answer.
    private async Task<string> StateAsync(string node, CancellationToken cancellation)
    {
        var rows = await RunAsync($"Asking the node {node}", node, ["Name", "State"], Of("NetworkLoadBalancingClusters\\Get-NlbClusterNode", ("HostName", node), ("NodeName", node)), cancellation);
        return rows.Count == 1 && rows[0].TryGetValue("State", out var state) && state is string word ? word : throw Missing(node, null);
    }

    private async Task<IReadOnlyList<PropertyBag>> RunAsync(string what, string node, string[] properties, ShellCommand command, CancellationToken cancellation)
    {
        const int NoServer = unchecked((int)0x800706BA);
        try
        {
            return await shell.InvokeAsync(new ShellCall { Commands = [command], Properties = properties, Timeout = properties.Length > 0 ? pool.Limits.ReadTimeout : pool.Limits.StepTimeout }, cancellation);
        }
        catch (ShellException e) when (e.Category is "ConnectionError" or "OpenError" || e.Codes.Contains(NoServer))
        {
            throw new VMatrixException("NlbNodeUnreachable", VMatrixErrorKind.Unreachable, $"{what} failed: {node} does not answer ({e.Message.TrimEnd('.')}). Check the guest, its network, and that its firewall lets remote management through.", e) { IsTransient = true };
        }
        catch (ShellException e) when (e.Category == "ObjectNotFound" && !e.ExceptionType.EndsWith("CommandNotFoundException", StringComparison.Ordinal))
        {
            throw Missing(node, e);
        }
        catch (ShellException e) when (e.Category is "PermissionDenied" or "SecurityError")
        {
            throw new VMatrixException("NlbAccessDenied", VMatrixErrorKind.Denied, $"{what} was refused: the account that VMatrix runs as must be an administrator in the guest; the commands of NLB take no other credential.", e);
        }
        catch (ShellException e)
        {
            throw new VMatrixException(e.ExceptionType.EndsWith("CommandNotFoundException", StringComparison.Ordinal) ? "ModuleMissing" : "NlbFailed",
                e.ExceptionType.EndsWith("CommandNotFoundException", StringComparison.Ordinal) ? VMatrixErrorKind.NotSupported : VMatrixErrorKind.Failed,
                $"{what} failed: {e.Message.TrimEnd('.')} ({e.ErrorId}). {(e.ExceptionType.EndsWith("CommandNotFoundException", StringComparison.Ordinal) ? "Install-WindowsFeature RSAT-NLB." : "")}", e);
        }
    }

    private static VMatrixException Missing(string node, Exception? cause) => new("NlbNodeMissing", VMatrixErrorKind.NotFound,
        $"{node} is no node of a load-balancing cluster: the image of its service must have NLB set up, with the guest as a node that starts stopped (Set-NlbClusterNode -InitialHostState Stopped), and each copy a host priority of its own.", cause);

    private static ShellCommand Of(string name, params (string Name, object? Value)[] parameters) =>
        new(name, parameters.ToDictionary(p => p.Name, p => p.Value, StringComparer.OrdinalIgnoreCase));

    private Dictionary<Guid, Entry> Read()
    {
        var nodes = StateFiles.TryReadJson<Dictionary<Guid, Entry>>(File) ?? [];
        return nodes.Values.All(e => e is { Service: not null, Node: not null, Address: not null }) ? nodes : throw StateFiles.Corrupt(File);
    }

    private void Write(Dictionary<Guid, Entry> nodes) => StateFiles.Replace(File, StateFiles.ToBytes(nodes));

    private sealed record Entry(string Service, string Node, string Address, bool Draining);
}
