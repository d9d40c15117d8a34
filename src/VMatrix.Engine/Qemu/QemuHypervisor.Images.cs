using System;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Qemu;

/// <content>Images: prepared, published from a server that runs, selected.</content>
public sealed partial class QemuHypervisor
{
    /// <inheritdoc/>
    public async Task<string> PrepareImageAsync(DriverCall call, ServiceSpec service, HostSpec on, IProgress<string>? progress, CancellationToken cancellation)
    {
        await CheckEpochAsync(call, cancellation);
        await _prepare.WaitAsync(cancellation);
        try
        {
            return await GuardDiskAsync(() => _images.PrepareAsync(service, progress, cancellation));
        }
        finally
        {
            _prepare.Release();
        }
    }

    /// <inheritdoc/>
    public Task<PublishedImage> PublishImageAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, server, () =>
    {
        var folder = _places.Get(on is null ? _places.Nest : Places.Host(on), server);
        var (mark, guest) = Ours(folder);
        if (!guest.Disk)
        {
            throw new VMatrixException("NothingToPublish", VMatrixErrorKind.NotSupported,
                $"Server {mark.Name} has no disk: it lives in its initial RAM disk, and whatever was changed in it is gone when it boots again. Build a new initial RAM disk and name it in the pool file, or give the image of {service.Name} a disk.");
        }

        return _images.PublishAsync(service, new PublishedFacts { ServerId = server, ServerName = mark.Name, From = mark.Image, Move = call.MoveId },
            file => CopyDiskAsync(folder, guest, mark, file, cancellation), cancellation);
    }, cancellation);

    private async Task CopyDiskAsync(ServerFolder folder, GuestFacts guest, ServerMark mark, string file, CancellationToken cancellation)
    {
        var process = await GuestProcess.FindAsync(folder, _clock, cancellation);
        if (process is null && folder.ReadState() is not null)
        {
            throw new VMatrixException("ServerAsleep", VMatrixErrorKind.InvalidState, $"Server {mark.Name} sleeps, and its memory holds writes that its disk lacks; wake it in the Chamber, then publish it.");
        }

        string[] disks = [folder.Overlay, .. _images.Disks(mark.Service, _images.Get(mark.Service, mark.Image))];
        var source = "json:" + QemuCommandLine.Chain(disks, readOnly: true).ToJsonString();
        var copy = file + ".copy";
        if (process is not null)
        {
            if (process.IsStopped())
            {
                throw process.Hung();
            }

            string status;
            await using (var monitor = await process.OpenAsync(s_changePatience, cancellation))
            {
                status = await monitor.StatusAsync(cancellation);
            }

            if (status is not ("running" or "shutdown"))
            {
                throw new VMatrixException("ServerNotRunning", VMatrixErrorKind.InvalidState, Told($"No image is made from server {mark.Name}: its guest is in state {status}", folder));
            }

            if (status == "running" && guest.Agent is { } agent)
            {
                await GuestAgent.SyncAsync(process, agent, mark.Name, s_changePatience, cancellation);
            }

            await DiskCopy.TakeAsync(process, s_changePatience, copy, cancellation);
            source = copy;
        }

        // Written anew in order, without what is empty, and leaning on no other file.
        await QemuTools.RunAsync(QemuTools.Find("qemu-img"), ["convert", "-O", "qcow2", source, file], cancellation);
        File.Delete(copy);
    }

    /// <inheritdoc/>
    public async Task SelectImageAsync(DriverCall call, ServiceSpec service, string version, CancellationToken cancellation)
    {
        await CheckEpochAsync(call, cancellation);
        await _prepare.WaitAsync(cancellation);
        try
        {
            await GuardDiskAsync(async () =>
            {
                await _images.SelectAsync(service, version, cancellation);
                return true;
            });
        }
        finally
        {
            _prepare.Release();
        }
    }
}
