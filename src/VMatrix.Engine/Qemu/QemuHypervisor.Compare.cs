using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Files;

namespace VMatrix.Qemu;

/// <content>What stands in the way of a server's move.</content>
public sealed partial class QemuHypervisor
{
    /// <inheritdoc/>
    public async Task<IReadOnlyList<MoveObstacle>> CompareAsync(Guid server, ServiceSpec service, HostSpec? from, HostSpec to, bool live, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var found = new List<MoveObstacle>();
        void Add(ObstacleGroup group, string what, string why, string? mend, ObstacleSeverity severity = ObstacleSeverity.Blocks) =>
            found.Add(new MoveObstacle { Group = group, What = what, Why = why, Mend = mend, Severity = severity });

        var source = from is null ? _places.Nest : Places.Host(from);
        if (Places.Find(source, server) is not { } folder || folder.ReadGuest() is not { } guest || folder.ReadMark() is not { } mark)
        {
            return found;
        }

        try
        {
            _ = _images.Get(mark.Service, mark.Image);
        }
        catch (VMatrixException e)
        {
            Add(ObstacleGroup.Software, "ImageMissing", e.Message, "Restore the image version in the nest from a backup.");
        }

        if (folder.ReadState() is { } state)
        {
            try
            {
                MemoryState.CheckBelongs(state, folder, guest, server);
            }
            catch (VMatrixException e)
            {
                Add(ObstacleGroup.Software, e.Id, e.Message, $"Remove-VMatrixServer {server}");
            }

            if (guest.Accelerator == "kvm" && await QemuTools.AcceleratorAsync(_runtimeFolder, _clock, cancellation) != "kvm")
            {
                Add(ObstacleGroup.Hardware, "NoKvm", $"Its memory in {folder.State} was kept under KVM, which this machine cannot run.", "Wake it where KVM works.");
            }
        }

        try
        {
            // Between two file systems it is copied, and needs the room; inside one it is renamed.
            OwnFiles.CreateFolder(Places.Host(to));
            var bytes = new DirectoryInfo(folder.Path).EnumerateFiles().Sum(f => f.Length);
            var free = new DriveInfo(Places.Host(to)).AvailableFreeSpace;
            if (!live && Native.Device(folder.Path) != Native.Device(Places.Host(to)) && free < bytes)
            {
                Add(ObstacleGroup.Hardware, "DiskFull", $"The disk of {to.Name} in {to.Folder} has {free >> 20} MiB free; its files are {bytes >> 20} MiB.", $"Free room in {to.Folder}.");
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Add(ObstacleGroup.People, "FolderNotWritable", $"The folder of {to.Name} cannot be used: {e.Message}", $"Give the user that runs VMatrix the right to write {to.Folder}.");
        }

        return found;
    }
}
