using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Scvmm;

/// <summary>Host groups of VMM as hosts of the pool. What a pool is does not change while it is open: a group that has changed since is told of.</summary>
internal sealed class ScvmmHostGroups(PoolSpec pool, ScvmmServer vmm, TimeProvider clock)
{
    /// <summary>How often it is looked whether a group has changed.</summary>
    public static readonly TimeSpan LookedEvery = TimeSpan.FromMinutes(5);

    private DateTimeOffset? _looked;
    private IReadOnlyList<string> _changes = [];

    /// <summary>The pool with the hosts of its groups. A host that the file names too is as the file says.</summary>
    /// <exception cref="VMatrixException"><c>HostGroupNotFound</c>, <c>HostGroupEmpty</c>, <c>PoolInvalid</c> where a list names a host that is in no group either.</exception>
    public async Task<PoolSpec> ExpandAsync(CancellationToken cancellation)
    {
        var hosts = new List<HostSpec>(pool.Hosts);
        foreach (var (group, found) in await ReadAsync(cancellation))
        {
            if (found.Count == 0)
            {
                throw new VMatrixException("HostGroupEmpty", VMatrixErrorKind.NotFound,
                    $"VMM lists no host in the host group '{group.Group}': it is empty, or the user role of this account does not have it in its scope. Put hosts into it, give the role the group, or take the group out of {pool.Path}.");
            }

            foreach (var host in found.Where(f => !hosts.Exists(h => ScvmmServer.IsNamed(f.Name, h))))
            {
                var memory = host.MemoryBytes - group.KeptBytes;
                hosts.Add(new HostSpec
                {
                    Name = host.Name,
                    Address = host.Name,
                    Role = group.Role,
                    MemoryBytes = memory > 0 ? memory
                        : throw new VMatrixException("PoolInvalid", VMatrixErrorKind.InvalidInput, $"{host.Name} of the host group '{group.Group}' has {host.MemoryBytes >> 20} MiB of memory in VMM, and {group.KeptBytes >> 20} MiB are kept for itself: make kept smaller in {pool.Path}."),
                    Cores = host.Cores,
                    MostServers = group.MostServers,
                });
            }
        }

        foreach (var service in pool.Services)
        {
            if (service.AllowedHosts.Concat(service.ForbiddenHosts).FirstOrDefault(name => !hosts.Exists(h => Is(h, name))) is { } unknown)
                throw new VMatrixException("PoolInvalid", VMatrixErrorKind.InvalidInput, $"The service {service.Name} names the host '{unknown}', which is neither in hosts nor in a host group; the pool has: {string.Join(", ", hosts.Select(h => h.Name))}.");
        }

        return pool with
        {
            Hosts = hosts,
            Services = [.. pool.Services.Select(s => s with { AllowedHosts = Names(s.AllowedHosts), ForbiddenHosts = Names(s.ForbiddenHosts) })],
        };

        // As VMM writes it.
        string[] Names(IReadOnlyList<string> names) => [.. names.Select(name => hosts.First(h => Is(h, name)).Name)];

        static bool Is(HostSpec host, string name) => string.Equals(host.Name, name, StringComparison.OrdinalIgnoreCase);
    }

    /// <summary>What of the groups is no longer as the open pool has it, as sentences.</summary>
    /// <param name="open">The open pool's hosts.</param>
    /// <param name="cancellation">Ends the call.</param>
    public async Task<IReadOnlyList<string>> ChangesAsync(IReadOnlyList<HostSpec> open, CancellationToken cancellation)
    {
        var now = clock.GetUtcNow();
        if (pool.Scvmm.HostGroups.Count == 0 || (_looked is { } looked && now - looked < LookedEvery))
            return _changes;
        _looked = now;
        try
        {
            var found = await ReadAsync(cancellation);
            _changes =
            [
                .. from each in found
                   from host in each.Hosts
                   where !open.Any(h => ScvmmServer.IsNamed(host.Name, h))
                   select $"The host group '{each.Group.Group}' has the host {host.Name} now, which it had not when the pool was opened: restart vmatrix-oracle, or open a new session, and it is a host of the pool.",
            ];
        }
        catch (VMatrixException e)
        {
            _changes = [$"Whether host groups have changed was not found out: {e.Message}"];
        }

        return _changes;
    }

    private async Task<IReadOnlyList<(HostGroupSpec Group, IReadOnlyList<ScvmmHostFacts> Hosts)>> ReadAsync(CancellationToken cancellation)
    {
        var groups = await vmm.ListGroupsAsync(cancellation);
        var read = new List<(HostGroupSpec, IReadOnlyList<ScvmmHostFacts>)>();
        foreach (var group in pool.Scvmm.HostGroups)
        {
            // A path is whole and unique; a name may be had by several.
            var named = groups.Where(g => string.Equals(g.Path, group.Group, StringComparison.OrdinalIgnoreCase)).ToArray();
            if (named.Length == 0)
                named = [.. groups.Where(g => string.Equals(g.Name, group.Group, StringComparison.OrdinalIgnoreCase))];
            if (named.Length != 1)
            {
                throw new VMatrixException("HostGroupNotFound", VMatrixErrorKind.NotFound, named.Length == 0
                    ? $"VMM lists no host group '{group.Group}': name it by its path, such as All Hosts\\Web, and give the user role of this account the group. It lists: {string.Join(", ", groups.Select(g => g.Path))}."
                    : $"VMM has {named.Length} host groups named '{group.Group}': name the one that is meant by its path: {string.Join(", ", named.Select(g => g.Path))}.");
            }

            read.Add((group, await vmm.ListHostsAsync(named[0].Id, group.Group, cancellation)));
        }

        return read;
    }
}

/// <summary>A host as VMM knows it.</summary>
internal sealed record ScvmmHostFacts(string Name, long MemoryBytes, int? Cores);
