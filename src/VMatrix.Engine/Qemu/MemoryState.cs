using System;
using System.Globalization;
using System.IO;
using System.IO.Pipes;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Qemu;

/// <summary>Keeps a guest's memory in a file that is proven whole.</summary>
internal static class MemoryState
{
    /// <summary>
    /// Stops a running guest and writes its memory beside it; the guest is then stopped for good and may be told to quit.
    /// When anything fails the guest runs on and the partial file is gone.
    /// </summary>
    /// <param name="monitor">The guest's monitor.</param>
    /// <param name="folder">Where the state goes.</param>
    /// <param name="guest">What it is.</param>
    /// <param name="server">Whose memory it is; null for an image's.</param>
    /// <param name="clock">The clock.</param>
    /// <param name="cancellation">Ends the call, and lets the guest run on.</param>
    public static async Task SaveAsync(Monitor monitor, ServerFolder folder, GuestFacts guest, Guid? server, TimeProvider clock, CancellationToken cancellation)
    {
        var partial = folder.State + ".partial";
        File.Delete(partial);

        // The default limit of 128 MiB/s makes a save slow; nobody else uses this "network".
        await monitor.AskAsync("migrate-set-parameters", new JsonObject { ["max-bandwidth"] = 1L << 40 }, cancellation);

        // A compressor of our own, because QEMU says "completed" also when the one it starts itself has failed: what counts is
        // QEMU's word and the compressor's exit code together.
        using var zstd = QemuTools.Start(QemuTools.Closed(QemuTools.Find("zstd"), ["-q", "-1", "-f", "-", "-o", partial]));
        try
        {
            await monitor.AskAsync("stop", null, cancellation);
            var pipe = (AnonymousPipeClientStream)zstd.StandardInput.BaseStream;
            await monitor.AskAsync("getfd", new JsonObject { ["fdname"] = "state" }, cancellation, pipe.SafePipeHandle);
            await pipe.DisposeAsync();
            await monitor.AskAsync("migrate", new JsonObject { ["uri"] = "fd:state" }, cancellation);
            var status = await EndAsync(monitor, clock, cancellation);
            var errors = await zstd.StandardError.ReadToEndAsync(cancellation);
            await zstd.WaitForExitAsync(cancellation);
            if (zstd.ExitCode != 0)
            {
                throw QemuTools.Failed("Writing the memory with zstd", zstd.ExitCode, errors);
            }

            if (status != "completed")
            {
                throw new VMatrixException("SaveFailed", VMatrixErrorKind.Failed, $"QEMU could not write the memory: its migration is {status}.") { IsTransient = true };
            }

            // Read back while the disk still writes.
            var summing = SumAsync(partial, cancellation);
            using (var file = File.OpenHandle(partial, FileMode.Open, FileAccess.ReadWrite))
            {
                RandomAccess.FlushToDisk(file);
            }

            var sum = await summing;
            folder.DropState();
            File.Move(partial, folder.State);

            // The disk was flushed by "stop" and let go of by the migration: nothing writes to it any more.
            folder.WriteState(new StateFacts { Sha256 = sum, Length = folder.StateBytes(), ServerId = server, Shape = QemuCommandLine.Shape(guest), Overlay = folder.OverlayIdentity(), SavedAt = clock.GetUtcNow() });
        }
        catch (Exception e)
        {
            if (!zstd.HasExited)
            {
                zstd.Kill();
            }

            folder.DropState();
            File.Delete(partial);
            try
            {
                await LetGoOnAsync(monitor, clock, CancellationToken.None);
            }
            catch (Exception worse)
            {
                throw new VMatrixException("SaveFailed", VMatrixErrorKind.Failed, $"The memory could not be kept ({e.Message}), and the guest could not be told to go on either: {worse.Message}", e);
            }

            throw;
        }
    }

    /// <summary>Lets a guest go on that a save, whoever began it and however far it came, has stopped.</summary>
    public static async Task LetGoOnAsync(Monitor monitor, TimeProvider clock, CancellationToken cancellation)
    {
        await monitor.AskAsync("migrate_cancel", null, cancellation);
        await EndAsync(monitor, clock, cancellation);
        try
        {
            // Handed over and not used yet: while QEMU holds it, a compressor waits for its end.
            await monitor.AskAsync("closefd", new JsonObject { ["fdname"] = "state" }, cancellation);
        }
        catch (PeerException)
        {
            // It was used, or never handed over.
        }

        await monitor.AskAsync("cont", null, cancellation);
    }

    /// <summary>Waits until a migration has ended, either way. <c>completed</c> may come before its numbers do, so only the word is read.</summary>
    private static async Task<string> EndAsync(Monitor monitor, TimeProvider clock, CancellationToken cancellation)
    {
        while (true)
        {
            var status = (await monitor.AskAsync("query-migrate", null, cancellation)).Text("status");
            if (status is null or "none" or "completed" or "failed" or "cancelled")
            {
                return status ?? "none";
            }

            await Task.Delay(TimeSpan.FromMilliseconds(4), clock, cancellation);
        }
    }

    /// <summary>SHA-256 of a file.</summary>
    public static async Task<string> SumAsync(string path, CancellationToken cancellation)
    {
        await using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 20, useAsync: true);
        return Convert.ToHexStringLower(await SHA256.HashDataAsync(file, cancellation));
    }

    /// <summary>Refuses a memory that does not belong to the server, to the guest or to its disk, or is not all there.</summary>
    /// <exception cref="VMatrixException"><c>StateMismatch</c>; <c>StateCorrupt</c> for a file that is missing, empty or of another length than was kept.</exception>
    public static void CheckBelongs(StateFacts state, ServerFolder folder, GuestFacts guest, Guid server)
    {
        var length = folder.StateBytes();
        if (length is null or 0 || (state.Length is { } kept && kept != length))
        {
            throw new VMatrixException("StateCorrupt", VMatrixErrorKind.Corrupt, string.Create(CultureInfo.InvariantCulture,
                $"The memory in {folder.State}, kept at {state.SavedAt:u}, {(length is null ? "is missing" : length is 0 ? "is empty" : $"has {length} bytes where {state.Length} were kept")} and is not woken. Restore the file from a backup, or dispose of the server and make a new one."));
        }

        var what = state.ServerId is { } owner && owner != server ? $"is that of server {owner}"
            : state.Shape != QemuCommandLine.Shape(guest) ? "was kept by a guest of another shape (machine, memory, devices or image)"
            : state.Overlay != folder.OverlayIdentity() ? "does not belong to the disk beside it, which was changed since"
            : null;
        if (what is not null)
        {
            throw new VMatrixException("StateMismatch", VMatrixErrorKind.Corrupt,
                $"The memory in {folder.State}, kept at {state.SavedAt:u}, {what}; waking it would corrupt the server. Bring back what belongs to it, or dispose of the server and make a new one.");
        }
    }
}
