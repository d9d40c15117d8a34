using System;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Qemu;

/// <content>Starting, waking, saving and stopping guests, and the proof that one has stopped.</content>
public sealed partial class QemuHypervisor
{
    /// <inheritdoc/>
    public Task<string> StartAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var place = Places.Host(on);
        var folder = _places.Get(place, server);
        var (mark, guest) = Ours(folder);
        Interlocked.Increment(ref _starting);
        try
        {
            if (await GuestProcess.FindAsync(folder, _clock, cancellation) is { } live && !await EndIfDeadAsync(live, folder, cancellation))
            {
                await using var monitor = await live.OpenAsync(s_changePatience, cancellation);
                return await GoOnAsync(live, monitor, folder, guest, mark, null, cancellation);
            }

            RefuseSecondCopy(server, place);
            await _starts.WaitAsync(cancellation);
            try
            {
                return await LaunchAsync(folder, guest, mark, on, cancellation);
            }
            finally
            {
                _starts.Release();
            }
        }
        finally
        {
            Interlocked.Decrement(ref _starting);
        }
    }, cancellation);

    /// <summary>Who a server is and what it is built from; a copy is refused.</summary>
    private static (ServerMark Mark, GuestFacts Guest) Ours(ServerFolder folder)
    {
        var mark = folder.ReadMark() ?? throw new VMatrixException("ServerForeign", VMatrixErrorKind.InvalidState, $"{folder.Path} has no mark of VMatrix and is not touched.");
        if (mark.MachineId != folder.MachineId())
        {
            throw new VMatrixException("ServerForeign", VMatrixErrorKind.InvalidState, $"{folder.Path} is a copy: its mark was written for {mark.MachineId}. It is not touched until it is registered.");
        }

        return (mark, folder.ReadGuest() ?? throw new VMatrixException("FileCorrupt", VMatrixErrorKind.Corrupt, $"The file {folder.GuestFile} is gone; without it nobody knows what the server is."));
    }

    private void RefuseSecondCopy(Guid server, string place)
    {
        if (_places.Others(server, place).FirstOrDefault() is { } other)
        {
            throw new VMatrixException("ServerTwice", VMatrixErrorKind.InvalidState, $"Server {server} is not started: it is also in {other}. Find out which of the two is right, and take the other one away.");
        }

        if (GuestProcess.AnyRuns(server, null))
        {
            throw new VMatrixException("ServerTwice", VMatrixErrorKind.InvalidState, $"Server {server} is not started: a QEMU process of this machine runs it already, from another folder. Find it with: pgrep -af {server:D}");
        }
    }

    private async Task<string> LaunchAsync(ServerFolder folder, GuestFacts guest, ServerMark mark, HostSpec on, CancellationToken cancellation)
    {
        var image = _images.Get(mark.Service, mark.Image);
        var version = _images.VersionFolder(mark.Service, mark.Image);
        var state = folder.ReadState();
        var accelerator = await QemuTools.AcceleratorAsync(_runtimeFolder, _clock, cancellation);
        if (state is not null)
        {
            MemoryState.CheckBelongs(state, folder, guest, mark.ServerId);
            if (guest.Accelerator == "kvm" && accelerator != "kvm")
            {
                throw new VMatrixException("StateMismatch", VMatrixErrorKind.NotSupported, $"The memory in {folder.State} was kept under KVM, which this machine cannot run; wake it where KVM works, or dispose of the server and make a new one.");
            }
        }
        else if (guest.Accelerator != accelerator)
        {
            guest = guest with { Accelerator = accelerator };
            folder.WriteGuest(guest);
        }

        folder.WriteRun(new RunFacts { StartedAt = _clock.GetUtcNow(), Host = on.Name, Woken = state is not null, Ungreeted = state is not null && guest.Agent is not null });
        var sum = state is null ? null : MemoryState.SumAsync(folder.State, cancellation);
        GuestProcess? process = null;
        Monitor? monitor = null;
        try
        {
            (process, monitor, _) = await GuestProcess.LaunchAsync(folder, _runtimeFolder, (port, sockets) => QemuCommandLine.Build(guest, new RunSettings
            {
                Id = mark.ServerId,
                Name = mark.Name,
                Service = mark.Service,
                Port = port,
                Sockets = sockets,
                Console = folder.Console,
                Kernel = guest.Kernel ? Path.Combine(version, ImageStore.Kernel) : null,
                Initrd = guest.Initrd ? Path.Combine(version, ImageStore.Initrd) : null,
                Disks = guest.Disk ? [folder.Overlay, .. _images.Disks(mark.Service, image)] : [],
                State = state is null ? null : folder.State,
            }), temporary: false, _clock, cancellation);
            return await GoOnAsync(process, monitor, folder, guest, mark, sum, cancellation);
        }
        catch (Exception e) when (folder.ReadState() is not null || process is null)
        {
            // The guest has not run yet: what was kept is still kept.
            if (process is not null)
            {
                await process.KillAsync(folder, CancellationToken.None);
            }

            File.Delete(folder.RunFile);

            // QEMU itself may have choked on it before we had read it to its end.
            if (e is VMatrixException { Id: "StartFailed" } && state is not null && await sum! != state.Sha256)
            {
                throw Corrupt(folder, state, e);
            }

            throw;
        }
        finally
        {
            if (monitor is not null)
            {
                await monitor.DisposeAsync();
            }

            if (sum is not null)
            {
                await sum.ContinueWith(static t => _ = t.Exception, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            }
        }
    }

    private static VMatrixException Corrupt(ServerFolder folder, StateFacts state, Exception? inner) => new("StateCorrupt", VMatrixErrorKind.Corrupt,
        $"The memory in {folder.State} was changed since it was kept at {state.SavedAt:u} (its checksum differs) and is not woken. Restore the file from a backup, or dispose of the server and make a new one.", inner);

    /// <summary>Takes a live process to a running guest that knows its name, from wherever an earlier call left it.</summary>
    /// <param name="process">The process.</param>
    /// <param name="monitor">Its monitor.</param>
    /// <param name="folder">Its folder.</param>
    /// <param name="guest">What it is.</param>
    /// <param name="mark">Who it is.</param>
    /// <param name="sum">The checksum of the state file when it is being computed already; null to compute it when it counts.</param>
    /// <param name="cancellation">Ends the call.</param>
    private async Task<string> GoOnAsync(GuestProcess process, Monitor monitor, ServerFolder folder, GuestFacts guest, ServerMark mark, Task<string>? sum, CancellationToken cancellation)
    {
        try
        {
            string status;
            while ((status = await monitor.StatusAsync(cancellation)) == "inmigrate")
            {
                // A memory that is no memory may keep QEMU waiting for the rest of it.
                if (sum is { IsCompletedSuccessfully: true } && folder.ReadState() is { } damaged && await sum != damaged.Sha256)
                {
                    await monitor.QuitAsync(cancellation);
                    throw Corrupt(folder, damaged, null);
                }

                await Task.Delay(TimeSpan.FromMilliseconds(4), _clock, cancellation);
            }

            // After a save that was cut short ("postmigrate") the memory is QEMU's own; otherwise it came from the file.
            if (status is not ("running" or "postmigrate") && folder.ReadState() is { } state && await (sum ?? MemoryState.SumAsync(folder.State, cancellation)) != state.Sha256)
            {
                await monitor.QuitAsync(cancellation);
                throw Corrupt(folder, state, null);
            }

            if (status != "running")
            {
                // From here on the memory in the file is of the past. Were it dropped after "cont", a crash between would wake it again later.
                folder.DropState();
                await MemoryState.LetGoOnAsync(monitor, _clock, cancellation);
                folder.Sweep();
            }

            if (folder.ReadRun() is { Ungreeted: true } run && guest.Agent is not null)
            {
                await GuestAgent.GreetAsync(process, guest.Agent, mark, TimeSpan.FromSeconds(10 * Math.Max(1, Volatile.Read(ref _starting))), cancellation);
                folder.WriteRun(run with { Ungreeted = false });
            }

            return process.Address;
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            // Who hangs up lives for a moment yet.
            var began = _clock.GetTimestamp();
            while (folder.IsLive())
            {
                if (_clock.GetElapsedTime(began) > TimeSpan.FromSeconds(2))
                {
                    throw;
                }

                await Task.Delay(TimeSpan.FromMilliseconds(2), _clock, CancellationToken.None);
            }

            throw new VMatrixException("StartFailed", VMatrixErrorKind.Failed, Told($"QEMU ended while it started server {mark.Name}", folder), e);
        }
    }

    /// <inheritdoc/>
    public Task SaveAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var folder = _places.Get(Places.Host(on), server);
        if (await GuestProcess.FindAsync(folder, _clock, cancellation) is not { } process)
        {
            if (folder.ReadState() is null)
            {
                throw new VMatrixException("ServerNotRunning", VMatrixErrorKind.InvalidState, Told($"Server {server} does not run on {on.Name} and has no memory to keep", folder));
            }

            File.Delete(folder.RunFile);
            return true;
        }

        var guest = folder.ReadGuest() ?? throw new VMatrixException("FileCorrupt", VMatrixErrorKind.Corrupt, $"The file {folder.GuestFile} is gone; without it nobody knows what the server is.");
        await using (var monitor = await process.OpenAsync(s_changePatience, cancellation))
        {
            var status = await monitor.StatusAsync(cancellation);
            if (status is "shutdown" or "guest-panicked" or "internal-error" or "io-error")
            {
                throw new VMatrixException("ServerDead", VMatrixErrorKind.InvalidState, Told($"Server {server} cannot be hibernated: its guest is in state {status}", folder));
            }

            // Stopped with a whole state beside it: an earlier call came as far as this and only has to quit.
            if (status == "running" || folder.ReadState() is null)
            {
                if (status != "running")
                {
                    await monitor.AskAsync("cont", null, cancellation);
                }

                await DiskCopy.EndAsync(monitor, _clock, cancellation);
                await MemoryState.SaveAsync(monitor, folder, guest, server, _clock, cancellation);
            }

            await monitor.QuitAsync(cancellation);
        }

        await process.GoneAsync(folder, cancellation);
        File.Delete(folder.RunFile);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task StopAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        var folder = _places.Get(Places.Host(on), server);
        if (await GuestProcess.FindAsync(folder, _clock, cancellation) is { } process)
        {
            try
            {
                if (process.IsStopped())
                {
                    throw process.Hung();
                }

                // Asked first, so that the disk's own bookkeeping is written out.
                await using var monitor = await process.OpenAsync(TimeSpan.FromSeconds(2), cancellation);
                await monitor.QuitAsync(cancellation);
            }
            catch (Exception e) when (e is VMatrixException or IOException or SocketException)
            {
                Native.Kill(process.Id);
            }

            await process.GoneAsync(folder, cancellation);
        }

        folder.DropState();
        File.Delete(folder.RunFile);
        folder.Sweep();
        GuestProcess.Sweep(folder, _runtimeFolder);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task<bool> ProveStoppedAsync(Guid server, HostSpec on, CancellationToken cancellation)
    {
        try
        {
            // The lock is held by QEMU itself. A folder that is out of reach, or gone with a process still alive, proves nothing.
            var place = Places.Host(on);
            return Task.FromResult(Directory.Exists(on.Folder) && !new ServerFolder(Path.Combine(place, server.ToString("D"))).IsLive() && !GuestProcess.AnyRuns(server, place));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return Task.FromResult(false);
        }
    }

    /// <summary>Ends a process whose guest has powered itself off or panicked; false when the guest may still live.</summary>
    private static async Task<bool> EndIfDeadAsync(GuestProcess process, ServerFolder folder, CancellationToken cancellation)
    {
        try
        {
            await using (var monitor = await process.OpenAsync(s_changePatience, cancellation))
            {
                if (await monitor.StatusAsync(cancellation) is not ("shutdown" or "guest-panicked" or "internal-error"))
                {
                    return false;
                }

                await monitor.QuitAsync(cancellation);
            }
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            return !folder.IsLive();
        }

        await process.GoneAsync(folder, cancellation);
        return true;
    }
}
