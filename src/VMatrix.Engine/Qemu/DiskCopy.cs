using System;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Qemu;

/// <summary>Copies the disk of a live guest as it is at one moment: QEMU keeps what the guest overwrites meanwhile, so the guest goes on.</summary>
internal static class DiskCopy
{
    // Both the job and the node that it writes to.
    private const string Name = "vmatrix-copy";

    /// <summary>Copies a guest's disk, with all that it lies on, into a new file.</summary>
    public static async Task TakeAsync(GuestProcess process, TimeSpan patience, string file, CancellationToken cancellation)
    {
        await using (var monitor = await process.OpenAsync(patience, cancellation))
        {
            await EndAsync(monitor, process.Clock, cancellation);
            var nodes = (await monitor.AskAsync("query-named-block-nodes", new JsonObject { ["flat"] = true }, cancellation)).Items();
            var size = nodes.FirstOrDefault(n => n.Text("node-name") == QemuCommandLine.Disk).Member("image").Whole("virtual-size")
                ?? throw new IOException("QEMU does not tell how large the server's disk is.");
            await QemuTools.RunAsync(QemuTools.Find("qemu-img"), ["create", "-q", "-f", "qcow2", file, size.ToString(CultureInfo.InvariantCulture)], cancellation);
        }

        try
        {
            await using (var monitor = await process.OpenAsync(patience, cancellation))
            {
                await monitor.AskAsync("blockdev-add", new JsonObject
                {
                    ["driver"] = "qcow2",
                    ["node-name"] = Name,
                    ["discard"] = "unmap",
                    ["detect-zeroes"] = "unmap",
                    ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = file },
                }, cancellation);
                await monitor.AskAsync("blockdev-backup", new JsonObject { ["job-id"] = Name, ["device"] = QemuCommandLine.Disk, ["target"] = Name, ["sync"] = "full", ["auto-dismiss"] = false }, cancellation);
            }

            // The monitor is let go of between two looks, so that others see the server meanwhile.
            for (var wait = 4; ; wait = Math.Min(250, 2 * wait))
            {
                await using (var monitor = await process.OpenAsync(patience, cancellation))
                {
                    var job = await FindAsync(monitor, cancellation) ?? throw new VMatrixException("DiskCopyLost", VMatrixErrorKind.Busy, "The copy of the disk was ended by another command.") { IsTransient = true };
                    if (job.Text("status") == "concluded")
                    {
                        if (job.Text("error") is { } error)
                        {
                            throw QemuTools.Failed("Copying the disk", 1, error);
                        }

                        await EndAsync(monitor, process.Clock, cancellation);
                        return;
                    }
                }

                await Task.Delay(TimeSpan.FromMilliseconds(wait), process.Clock, cancellation);
            }
        }
        catch (Exception)
        {
            try
            {
                await using var monitor = await process.OpenAsync(patience, CancellationToken.None);
                await EndAsync(monitor, process.Clock, CancellationToken.None);
            }
            catch (Exception e) when (e is VMatrixException or IOException or SocketException or PeerException)
            {
                // The guest is gone or silent, which the first error tells; the next copy or save ends what is left of this one.
            }

            throw;
        }
    }

    /// <summary>Ends a copy, whoever began it and however far it came; none is no error.</summary>
    public static async Task EndAsync(Monitor monitor, TimeProvider clock, CancellationToken cancellation)
    {
        for (var cancelled = false; await FindAsync(monitor, cancellation) is { } job; cancelled = true)
        {
            if (job.Text("status") == "concluded")
            {
                await monitor.AskAsync("job-dismiss", new JsonObject { ["id"] = Name }, cancellation);
                break;
            }

            if (!cancelled)
            {
                await monitor.AskAsync("job-cancel", new JsonObject { ["id"] = Name }, cancellation);
            }

            await Task.Delay(TimeSpan.FromMilliseconds(4), clock, cancellation);
        }

        var nodes = (await monitor.AskAsync("query-named-block-nodes", new JsonObject { ["flat"] = true }, cancellation)).Items();
        if (nodes.Any(n => n.Text("node-name") == Name))
        {
            await monitor.AskAsync("blockdev-del", new JsonObject { ["node-name"] = Name }, cancellation);
        }
    }

    private static async Task<JsonNode?> FindAsync(Monitor monitor, CancellationToken cancellation) =>
        (await monitor.AskAsync("query-jobs", null, cancellation)).Items().FirstOrDefault(j => j.Text("id") == Name);
}
