using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Seeds;

namespace VMatrix.HyperV;

/// <content>Servers made from images, and deleted with their files.</content>
public sealed partial class HyperVHypervisor
{
    /// <inheritdoc/>
    public Task CreateAsync(DriverCall call, ServerMark mark, ServiceSpec service, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, () => GuardFilesAsync(async () =>
    {
        if (!_nest.Has(service.Name, mark.Image))
            throw NoImage(service, mark.Image, $"{mark.Name} cannot be made from it");

        // A trace says that it was begun, and where; without one there is nothing to look for.
        VMatrixException? last = null;
        if (_nest.Trace(mark.ServerId) is { } begun && _hosts.TryGetValue(begun.Host, out var former))
        {
            // One that is in the share is there whether or not the host answers that it was made on.
            if (!_share.Has(mark.ServerId) || await LocateAsync(mark.ServerId, cancellation) is not { Sleeper: not null })
                await MakeAsync(former, mark, service, again: true, cancellation);
            return await ToShareAsync(mark.ServerId, former.Spec, cancellation);
        }

        foreach (var host in HomesFor(mark.ServerId))
        {
            try
            {
                await MakeAsync(host, mark, service, again: false, cancellation);
            }
            catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable || (e.Kind is VMatrixErrorKind.Denied or VMatrixErrorKind.Timeout && _nest.Trace(mark.ServerId) is null))
            {
                // A host that is ill does not keep the others from making it.
                last = e;
                continue;
            }

            return await ToShareAsync(mark.ServerId, host.Spec, cancellation);
        }

        throw last!;
    }), cancellation);

    // While it is being made it has a name that nothing else has; its mark and its own name come last, in one call.
    private static string NameWhileMade(Guid server) => "vmatrix-making-" + server.ToString("D");

    private async Task<bool> MakeAsync(HyperVHost on, ServerMark mark, ServiceSpec service, bool again, CancellationToken cancellation)
    {
        var making = NameWhileMade(mark.ServerId);
        if (again)
        {
            var there = await ListAsync(on, cancellation);
            if (there.Any(m => m.Ours?.Mark.ServerId == mark.ServerId))
                return true;
            if (await LocateAsync(mark.ServerId, cancellation) is not null)
                return true;
            foreach (var half in there.Where(m => m.Name == making && m.Notes.Length == 0))
                await on.OnAsync(half, "Removing", "Hyper-V\\Remove-VM", cancellation, ("Force", true));
        }
        else
        {
            await on.CheckRightsAsync(cancellation);
        }

        var folder = await on.FolderAsync(mark.ServerId, cancellation);

        // Only what a trace tells of was begun here: files that none tells of may be a server's whose host does not answer, or whose record was lost.
        if (_nest.Trace(mark.ServerId) is null && Directory.Exists(on.Reach(folder)) && Directory.EnumerateFiles(on.Reach(folder), "*", SearchOption.AllDirectories).FirstOrDefault() is { } file)
            throw new VMatrixException("ServerFilesThere", VMatrixErrorKind.InvalidState, $"{mark.Name} is not made on {on.Spec.Name}: its folder {folder} holds files that no record of the nest tells of, such as {file}. Look whose they are, and move them away.");
        _nest.WriteTrace(mark.ServerId, new HyperVTrace { Host = on.Spec.Name });
        HyperVNest.Delete(on.Reach(folder));
        Guid? made = null;
        try
        {
            var address = await ClaimAddressAsync(mark, service, cancellation);

            // It goes into the drive when the server starts; what is wrong with it is said now.
            var seed = GuestSeed.Build(mark, service, address, _clock.GetUtcNow());
            var disk = HyperVHost.Join(folder, mark.ServerId.ToString("D") + ".vhdx");
            await on.DoAsync($"Making the disk of {mark.Name}", [], "Hyper-V\\New-VHD", cancellation, ("Path", disk), ("ParentPath", _nest.Disk(service.Name, mark.Image)), ("Differencing", true));
            var parameters = new List<(string, object?)>
            {
                ("Name", making), ("MemoryStartupBytes", service.Image.MemoryBytes), ("Generation", _pool.HyperV.MachineGeneration), ("VHDPath", disk), ("Path", folder),
            };
            if (on.Switch is { } name)
                parameters.Add(("SwitchName", name));
            var row = HyperVHost.First(await on.DoAsync($"Making {mark.Name}", ["Id"], "Hyper-V\\New-VM", cancellation, [.. parameters]));
            made = row is not null && row.TryGetValue("Id", out var value) && value is Guid id ? id : throw new VMatrixException("HyperVFailed", VMatrixErrorKind.Failed, $"{on.Spec.Name} made {mark.Name} and did not tell its id.");
            var machine = await on.FindAsync(id, cancellation) ?? throw NotFound(mark.ServerId);
            var ours = new HyperVMark { Mark = mark with { MachineId = id.ToString("D") }, Place = HyperVPlace.Nest, Address = address, Seeded = seed is not null };
            await on.OnAsync(machine, "Marking", "Hyper-V\\Set-VM", cancellation,
                ("ProcessorCount", (long)service.Image.Cores), ("StaticMemory", true), ("AutomaticCheckpointsEnabled", false), ("AutomaticStartAction", "Nothing"), ("AutomaticStopAction", "Save"),
                ("CheckpointType", "Disabled"), ("Notes", HyperVNotes.Write(machine.Notes, ours)), ("NewVMName", mark.Name));
            _seen[mark.ServerId] = (on.Spec.Name, id);
            return true;
        }
        catch (Exception)
        {
            await ClearHalfMadeAsync(on, mark.ServerId, made, making, folder);
            throw;
        }
    }

    // What was begun and is not marked is nobody's. What cannot be cleared now is cleared by whoever makes the server again.
    private async Task ClearHalfMadeAsync(HyperVHost on, Guid server, Guid? made, string making, string folder)
    {
        try
        {
            foreach (var half in (await on.ListAsync(CancellationToken.None)).Where(m => m.Id == made || m.Name == making))
            {
                if (half.Ours is not null)
                    return;
                await on.OnAsync(half, "Removing", "Hyper-V\\Remove-VM", CancellationToken.None, ("Force", true));
            }

            HyperVNest.Delete(on.Reach(folder));
            _nest.FreeAddresses(server);
            _nest.RemoveTrace(server);
        }
        catch (Exception e) when (e is VMatrixException or IOException or UnauthorizedAccessException)
        {
            // The error that led here is told instead.
        }
    }

    /// <summary>A static address that nothing else has, where the service gives such: none that a mark or a claim names, nor one that any machine's adapter tells.</summary>
    private async Task<string?> ClaimAddressAsync(ServerMark mark, ServiceSpec service, CancellationToken cancellation)
    {
        if (service.Addresses is not { Range: { } range })
            return null;
        if (_nest.Claims(mark.ServerId).FirstOrDefault(range.Contains) is { } begun)
            return begun;

        // A host that does not answer hides marks; what was claimed for its servers is in the nest all the same.
        var (machines, _, _) = await ListAllAsync(cancellation);
        var taken = new HashSet<string>(machines.Select(machine => machine.Static).OfType<string>());
        foreach (var told in await Task.WhenAll(machines.Where(machine => machine.Sleeper is null).Select(machine => machine.Host).Distinct().Select(host => TryListAddressesAsync(HostOf(host), cancellation))))
            taken.UnionWith(told);
        return range.All().FirstOrDefault(address => !taken.Contains(address) && _nest.TryClaim(address, mark.ServerId))
            ?? throw new VMatrixException("AddressesUsedUp", VMatrixErrorKind.NoRoom,
                $"{mark.Name} gets no address: all {range.Count} of {range} are taken. Servers that sleep or are disposed of keep theirs: purge what is not needed (Remove-VMatrixServer -Purge), or make addresses.range of {service.Name} larger in the pool file.");
    }

    // What a host does not tell is known for our own servers by their claims.
    private static async Task<IEnumerable<string>> TryListAddressesAsync(HyperVHost host, CancellationToken cancellation)
    {
        try
        {
            return (await host.ListAddressesAsync(cancellation)).SelectMany(each => each);
        }
        catch (VMatrixException)
        {
            return [];
        }
    }

    /// <inheritdoc/>
    public Task EraseAsync(DriverCall call, Guid server, CancellationToken cancellation) => ChangeAsync(call, server, () => GuardFilesAsync(async () =>
    {
        if (await LocateAsync(server, cancellation) is { } machine)
        {
            if (machine.Place != HyperVPlace.Disposed)
                throw new VMatrixException("ServerNotDisposed", VMatrixErrorKind.InvalidState, $"{machine.Who} is {Told(machine)}: only a disposed server is deleted for good.");
            var trace = _nest.Trace(server);
            if (machine.Sleeper is not null)
            {
                _nest.WriteTrace(server, new HyperVTrace { Host = trace?.Host ?? "", Files = [.. trace?.Files ?? [], _share.Folder(server)] });
            }
            else
            {
                var host = HostOf(machine.Host);
                machine = await host.FindAsync(machine.Id, cancellation) ?? machine;
                var folder = await host.FolderAsync(server, cancellation);

                // Its own disks only: what they lean on serves others.
                _nest.WriteTrace(server, new HyperVTrace { Host = machine.Host.Name, Files = [.. trace?.Files ?? [], .. machine.Disks.Select(host.Reach), host.Reach(folder)] });
                await host.LeaveClusterAsync(machine, cancellation);
                await host.OnAsync(machine, "Removing", "Hyper-V\\Remove-VM", cancellation, ("Force", true));
            }
        }

        if (_nest.Trace(server) is { } left)
        {
            foreach (var file in left.Files)
                HyperVNest.Delete(file);
            if (left.Files.Count == 0 && _hosts.TryGetValue(left.Host, out var home))
            {
                foreach (var half in (await home.ListAsync(cancellation)).Where(m => m.Name == NameWhileMade(server) && m.Notes.Length == 0))
                    await home.OnAsync(half, "Removing", "Hyper-V\\Remove-VM", cancellation, ("Force", true));
                HyperVNest.Delete(home.Reach(await home.FolderAsync(server, cancellation)));
            }

            HyperVNest.Delete(_share.Folder(server));
            HyperVNest.Delete(_nest.Seed(server));
            _nest.FreeAddresses(server);
            _nest.RemoveTrace(server);
        }

        _ = _seen.TryRemove(server, out _);
        return true;
    }), cancellation);
}
