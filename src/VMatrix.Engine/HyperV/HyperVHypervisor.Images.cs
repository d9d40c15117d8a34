using System;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;

namespace VMatrix.HyperV;

/// <content>Images: prepared from a gold disk, published from a server, selected.</content>
public sealed partial class HyperVHypervisor
{
    /// <inheritdoc/>
    public async Task<string> PrepareImageAsync(DriverCall call, ServiceSpec service, HostSpec on, IProgress<string>? progress, CancellationToken cancellation)
    {
        await _nest.AdmitAsync(call, cancellation);
        await _prepare.WaitAsync(cancellation);
        try
        {
            return await GuardFilesAsync(async () =>
            {
                var host = HostOf(on);
                var gold = service.Image.Disk ?? throw new VMatrixException("ImageNotFound", VMatrixErrorKind.InvalidInput, $"{service.Name} has no gold disk: name one as image.disk in the pool file.");
                var owner = await OwnersVersionAsync(host, service, gold, cancellation);
                if (_nest.Selected(service.Name) is { } selected && selected.Owner == owner && _nest.Has(service.Name, selected.Version))
                    return selected.Version;
                if (!_nest.Has(service.Name, owner))
                {
                    progress?.Report($"{service.Name}: copying the gold disk {gold} into the nest");
                    await MakeImageAsync(host, service, gold, new HyperVImage { Version = owner }, cancellation);
                }

                _nest.Select(service.Name, new HyperVSelection(owner, owner));
                return owner;
            });
        }
        finally
        {
            _prepare.Release();
        }
    }

    // The owner's disk is copied: servers lean on a disk that nobody may write, and the owner goes on with his.
    private async Task MakeImageAsync(HyperVHost on, ServiceSpec service, string from, HyperVImage image, CancellationToken cancellation)
    {
        var making = _nest.Making(service.Name);
        Task copying = on.DoAsync($"Copying {from} into the nest", [], "Hyper-V\\Convert-VHD", CancellationToken.None, ("Path", from), ("DestinationPath", HyperVHost.Join(making, "disk.vhdx")), ("VHDType", "Dynamic"));
        try
        {
            await OrLeaveAsync(copying, making, cancellation);
            if (image.Published is { } published)
                image = image with { Published = published with { Bytes = new FileInfo(Path.Combine(making, "disk.vhdx")).Length } };
            _nest.Finish(service.Name, making, image);
        }
        catch (Exception) when (copying.IsCompleted)
        {
            HyperVNest.Delete(making);
            throw;
        }
    }

    // A host goes on with what nobody waits for any more. What it makes of it is cleared away when it is done.
    private static async Task OrLeaveAsync(Task work, string making, CancellationToken cancellation)
    {
        try
        {
            await work.UntilAsync(cancellation);
        }
        catch (OperationCanceledException) when (!work.IsCompleted)
        {
            _ = ClearAsync();
            throw;
        }

        async Task ClearAsync()
        {
            try
            {
                await work;
            }
            catch (Exception e) when (e is VMatrixException or OperationCanceledException)
            {
                // It is cleared away all the same.
            }

            try
            {
                HyperVNest.Delete(making);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // The next image of this service clears what is left.
            }
        }
    }

    private static async Task<string> OwnersVersionAsync(HyperVHost on, ServiceSpec service, string gold, CancellationToken cancellation)
    {
        var disk = HyperVHost.First(await on.DoAsync($"Asking for the gold disk of {service.Name}", ["FileSize", "Size", "VhdType"], "Hyper-V\\Get-VHD", cancellation, ("Path", gold)))
            ?? throw new VMatrixException("ImageNotFound", VMatrixErrorKind.NotFound, $"The gold disk {gold} of {service.Name} cannot be read on {on.Spec.Name}: check image.disk in the pool file.");

        // The time is told only where this machine reaches the file; else its sizes must do.
        var reach = on.Reach(gold);
        var changed = File.Exists(reach) ? File.GetLastWriteTimeUtc(reach).Ticks : 0;
        return HyperVNest.Name(FormattableString.Invariant($"{gold}|{disk["FileSize"]}|{disk["Size"]}|{changed}"));
    }

    /// <inheritdoc/>
    public Task<PublishedImage> PublishImageAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, server, () => GuardFilesAsync(async () =>
    {
        var version = HyperVNest.Name(call.MoveId == Guid.Empty ? Guid.NewGuid().ToString() : $"{call.MoveId:D}|{server:D}");
        if (_nest.Find(service.Name, version)?.Published is { } published)
            return published;
        var machine = await RequireAsync(server, on, on is null ? HyperVPlace.Nest : HyperVPlace.Host, cancellation);
        var host = machine.Sleeper is null ? HostOf(machine.Host) : HomesFor(server).First();
        if (service.Image.Specialize == Specialize.Sysprep)
        {
            throw new VMatrixException("ImageNotGeneral", VMatrixErrorKind.NotSupported,
                $"No image is published from {machine.Who}: its disk has been made one machine's own by sysprep, and every server made from it would be that same machine. Generalise a copy, and name that as image.disk of {service.Name} in the pool file.");
        }

        if (machine.Power is PowerState.Saved or PowerState.Paused)
            throw new VMatrixException("ServerAsleep", VMatrixErrorKind.InvalidState, $"No image is made from {machine.Who}: it is {machine.Power}, and its memory holds what its disk lacks. Wake it in the Chamber first.");
        if ((machine.Sleeper?.Disks ?? machine.Disks).Count == 0)
            throw new VMatrixException("NothingToPublish", VMatrixErrorKind.NotSupported, $"{machine.Who} has no disk to make an image from.");

        var image = new PublishedImage { Service = service.Name, Version = version, From = machine.Ours!.Mark.Image, ServerId = server, ServerName = machine.Ours.Mark.Name, Bytes = 0, At = _clock.GetUtcNow() };
        if (machine.Sleeper is { } sleeper)
        {
            await MakeImageAsync(host, service, _share.At(sleeper, sleeper.Disks[0]), new HyperVImage { Version = version, Published = image }, cancellation);
            return _nest.Find(service.Name, version)!.Published!;
        }

        // An export takes the disks of a running machine as they are at one moment, and lets it run.
        var export = _nest.Making(service.Name);
        (string, object?)[] live = machine.Power == PowerState.Running ? [("CaptureLiveState", "CaptureCrashConsistentState")] : [];
        Task exporting = host.OnAsync(machine, "Exporting", "Hyper-V\\Export-VM", CancellationToken.None, [("Path", export), .. live]);
        try
        {
            await OrLeaveAsync(exporting, export, cancellation);
            var name = FileName(machine.Disks[0]);
            var leaf = Directory.EnumerateFiles(export, "*", SearchOption.AllDirectories).FirstOrDefault(file => string.Equals(FileName(file), name, StringComparison.OrdinalIgnoreCase))
                ?? throw new VMatrixException("HyperVFailed", VMatrixErrorKind.Failed, $"The export of {machine.Who} to {export} lacks its disk {name}.");
            await MakeImageAsync(host, service, leaf, new HyperVImage { Version = version, Published = image }, cancellation);
        }
        finally
        {
            if (exporting.IsCompleted)
                HyperVNest.Delete(export);
        }

        return _nest.Find(service.Name, version)!.Published!;
    }), cancellation);

    /// <inheritdoc/>
    public async Task SelectImageAsync(DriverCall call, ServiceSpec service, string version, CancellationToken cancellation)
    {
        await _nest.AdmitAsync(call, cancellation);
        GuardFiles(() =>
        {
            if (!_nest.Has(service.Name, version))
                throw NoImage(service, version, "it cannot be selected");
            _nest.Select(service.Name, new HyperVSelection(version, _nest.Selected(service.Name)?.Owner ?? version));
        });
    }
}
