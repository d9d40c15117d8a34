using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Qemu;

/// <summary>
/// The embedded hypervisor: real guests as QEMU processes of this machine, without a daemon and without root. A host is a folder; what runs
/// is asked of the processes themselves and never remembered, so any process may use any number of these drivers on the same pool.
/// </summary>
public sealed class QemuHypervisor : IHypervisor
{
    /// <summary>QEMU silent for this long on an idle machine counts as hung.</summary>
    private static readonly TimeSpan s_monitorPatience = TimeSpan.FromSeconds(1);

    /// <summary>A guest agent silent for this long on an idle machine means a hung guest.</summary>
    private static readonly TimeSpan s_agentPatience = TimeSpan.FromSeconds(2);

    private static readonly TimeSpan s_changePatience = TimeSpan.FromSeconds(30);
    private readonly PoolSpec _pool;
    private readonly TimeProvider _clock;
    private readonly Places _places;
    private readonly ImageStore _images;
    private readonly string _runtimeFolder;
    private readonly ConcurrentDictionary<Guid, SemaphoreSlim> _gates = new();
    private readonly SemaphoreSlim _prepare = new(1);

    // Eight wakes one after another take a second; 64 at once take nineteen.
    private readonly SemaphoreSlim _starts = new(Math.Max(2, Environment.ProcessorCount));
    private int _starting;

    /// <summary>Makes a driver for a pool. Nothing is touched yet.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="probe">Asks a guest's health check while an image's warm state is made.</param>
    /// <param name="clock">The clock.</param>
    /// <exception cref="VMatrixException"><c>QemuNeedsLinux</c> elsewhere; <c>RuntimeFolderUnsafe</c>.</exception>
    public QemuHypervisor(PoolSpec pool, IHealthProbe probe, TimeProvider clock)
    {
        if (!OperatingSystem.IsLinux())
        {
            throw new VMatrixException("QemuNeedsLinux", VMatrixErrorKind.NotSupported, "The qemu driver runs on Linux only; use hypervisor: hyperv or scvmm on Windows.");
        }

        _pool = pool;
        _clock = clock;
        _places = new Places(pool);
        _runtimeFolder = RuntimeFolder();
        _images = new ImageStore(_places, _runtimeFolder, probe, clock);
    }

    /// <inheritdoc/>
    public HypervisorTraits Traits { get; } = new() { Name = "qemu" };

    /// <inheritdoc/>
    public async Task<HostReport> ReadHostAsync(HostSpec host, CancellationToken cancellation)
    {
        var place = Places.Host(host);
        try
        {
            if (!Directory.Exists(host.Folder) && GuestProcess.AnyRuns(null, place))
            {
                throw new IOException("the folder is gone while QEMU processes still run from it");
            }

            var machines = await Task.WhenAll(Places.List(place).Select(f => ReadMachineAsync(f.Folder, f.Name, cancellation)).ToArray());
            return new HostReport { Host = host.Name, Machines = machines };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VMatrixException("HostUnreachable", VMatrixErrorKind.Unreachable, $"Host {host.Name} cannot be read in {host.Folder}: {e.Message}", e) { IsTransient = true };
        }
    }

    /// <inheritdoc/>
    public async Task<NestReport> ReadNestAsync(CancellationToken cancellation)
    {
        try
        {
            return new NestReport
            {
                Dormant = await Task.WhenAll(Places.List(_places.Nest).Select(f => ReadMachineAsync(f.Folder, f.Name, cancellation)).ToArray()),
                Disposed = await Task.WhenAll(Places.List(_places.Disposed).Select(f => ReadMachineAsync(f.Folder, f.Name, cancellation)).ToArray()),
                Images = _images.Current(),
            };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VMatrixException("NestUnreachable", VMatrixErrorKind.Unreachable, $"The nest cannot be read in {_pool.Nest.Folder}: {e.Message}", e) { IsTransient = true };
        }
    }

    private async Task<Machine> ReadMachineAsync(ServerFolder folder, string name, CancellationToken cancellation)
    {
        var machine = new Machine { MachineId = folder.MachineId(), Name = name, Power = PowerState.Off };
        GuestFacts? guest = null;
        try
        {
            guest = folder.ReadGuest();
            var mark = folder.ReadMark();
            machine = mark is null ? machine with { Problem = $"{folder.Path} has no mark of VMatrix", StaleMark = ServerFolder.Read<ServerMark>(folder.ReleasedFile) }
                : mark.MachineId != machine.MachineId || mark.ServerId.ToString("D") != name ? machine with { Problem = $"{folder.Path} is a copy: its mark was written for {mark.MachineId}", StaleMark = mark }
                : machine with { Name = mark.Name, Mark = mark };
            machine = machine with { MemoryBytes = guest?.MemoryBytes ?? 0, Cores = guest?.Cores ?? 1 };
            if (folder.IsLive())
            {
                return await AskAsync(machine, folder, name, guest, cancellation);
            }

            if (folder.ReadState() is { } state)
            {
                return machine with { Power = PowerState.Saved, AsleepSince = state.SavedAt };
            }
        }
        catch (VMatrixException e)
        {
            return machine with { Problem = machine.Problem ?? e.Message };
        }

        return File.Exists(folder.RunFile)
            ? machine with { Health = ServerHealth.Dead, Problem = machine.Problem ?? Told("Its QEMU process is gone", folder) }
            : machine;
    }

    /// <summary>Asks a live process how its guest fares.</summary>
    private async Task<Machine> AskAsync(Machine machine, ServerFolder folder, string name, GuestFacts? guest, CancellationToken cancellation)
    {
        machine = machine with { Power = PowerState.Running };

        // A machine that is busy starting others answers later, and is not hung for that.
        var slack = 1 + Volatile.Read(ref _starting);
        try
        {
            var process = await GuestProcess.FindAsync(folder, _clock, cancellation);
            if (process is null)
            {
                return await ReadMachineAsync(folder, name, cancellation);
            }

            machine = machine with { Address = process.Address };
            if (process.IsStopped())
            {
                return machine with { Health = ServerHealth.Hung, Problem = process.Hung().Message };
            }

            await using var monitor = await process.OpenAsync(s_monitorPatience * slack, cancellation);
            var status = await monitor.StatusAsync(cancellation);
            if (status != "running")
            {
                return status switch
                {
                    "shutdown" => machine with { Power = PowerState.Off, Address = null, Health = ServerHealth.Dead, Problem = Told("The guest powered itself off", folder) },
                    "guest-panicked" => machine with { Power = PowerState.Paused, Health = ServerHealth.Dead, Problem = Told("The guest's kernel panicked", folder) },
                    "internal-error" or "io-error" => machine with { Power = PowerState.Paused, Health = ServerHealth.Dead, Problem = Told($"QEMU stopped the guest with {status}", folder) },
                    _ => machine with { Power = PowerState.Paused },
                };
            }

            var run = folder.ReadRun();
            if (guest?.Agent is { } agent && MayAsk(machine, run) && await GuestAgent.IsThereAsync(monitor, cancellation) && !await GuestAgent.AnswersAsync(process, agent, s_agentPatience * slack, cancellation))
            {
                return machine with { Health = ServerHealth.Hung, Problem = Told("The guest's agent does not answer", folder) };
            }

            return run is { Ungreeted: true }
                ? machine with { Problem = "It was woken and has not been told its name and the time yet" }
                : machine;
        }
        catch (VMatrixException e) when (e.Id == "ServerHung")
        {
            return machine with { Health = ServerHealth.Hung, Problem = Told(e.Message, folder) };
        }
        catch (VMatrixException e) when (e.Id == "ServerBusy")
        {
            // Another command is at it, which it only can be while QEMU answers.
            return machine;
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            // It ended while we asked.
            return folder.IsLive()
                ? machine with { Health = ServerHealth.Hung, Problem = Told("QEMU does not answer on its monitor: " + e.Message, folder) }
                : await ReadMachineAsync(folder, name, cancellation);
        }
    }

    /// <summary>A guest that boots has no agent yet, and is not hung for that while its start may take.</summary>
    private bool MayAsk(Machine machine, RunFacts? run) => run is not null && (run.Woken
        || _clock.GetUtcNow() - run.StartedAt > (_pool.Services.FirstOrDefault(s => s.Name == machine.Mark?.Service)?.Health ?? new HealthSpec()).StartTimeout);

    private static string Told(string what, ServerFolder folder) =>
        folder.ConsoleEnd() is { Length: > 0 } end ? $"{what.TrimEnd('.')}. The end of its console:\n{end}" : $"{what.TrimEnd('.')}. Its console is empty.";

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

    /// <inheritdoc/>
    public Task CreateAsync(DriverCall call, ServerMark mark, ServiceSpec service, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, async () =>
    {
        if (Places.Find(_places.Nest, mark.ServerId) is not null)
        {
            return true;
        }

        var image = _images.Get(mark.Service, mark.Image);
        var version = _images.VersionFolder(mark.Service, mark.Image);
        var making = new ServerFolder(Path.Combine(_places.Nest, $".creating-{mark.ServerId:D}"));
        Places.Delete(making.Path);
        Directory.CreateDirectory(making.Path);
        making.WriteGuest(image.Guest);
        if (_images.Disks(mark.Service, image).FirstOrDefault() is { } below)
        {
            await ImageStore.CreateOverlayAsync(making.Overlay, below, cancellation);
        }

        if (image.Warm is { } warm)
        {
            // State files are never written in place, so a new server may share the image's.
            var state = new ServerFolder(version).State;
            if (!Native.TryLink(state, making.State))
            {
                await QemuTools.RunAsync("cp", ["--reflink=auto", "--", state, making.State], cancellation);
            }

            making.WriteState(warm with { Overlay = making.OverlayIdentity() });
        }

        var folder = Path.Combine(_places.Nest, mark.ServerId.ToString("D"));
        ServerFolder.Write(making.MarkFile, mark with { MachineId = making.MachineId() });
        Directory.Move(making.Path, folder);
        Native.FlushFolder(_places.Nest);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task FetchAsync(DriverCall call, Guid server, HostSpec to, CancellationToken cancellation) =>
        RelocateAsync(call, server, _places.Nest, Places.Host(to), cancellation);

    /// <inheritdoc/>
    public Task StowAsync(DriverCall call, Guid server, HostSpec from, CancellationToken cancellation) =>
        RelocateAsync(call, server, Places.Host(from), _places.Nest, cancellation);

    /// <inheritdoc/>
    public Task CarryAsync(DriverCall call, Guid server, HostSpec from, HostSpec to, CancellationToken cancellation) =>
        RelocateAsync(call, server, Places.Host(from), Places.Host(to), cancellation);

    /// <inheritdoc/>
    public Task DiscardAsync(DriverCall call, Guid server, HostSpec? from, CancellationToken cancellation) =>
        RelocateAsync(call, server, from is null ? _places.Nest : Places.Host(from), _places.Disposed, cancellation);

    /// <inheritdoc/>
    public Task RecoverAsync(DriverCall call, Guid server, CancellationToken cancellation) =>
        RelocateAsync(call, server, _places.Disposed, _places.Nest, cancellation);

    private Task<bool> RelocateAsync(DriverCall call, Guid server, string from, string to, CancellationToken cancellation) => ChangeAsync(call, server, async () =>
    {
        if (Places.Find(from, server) is { } folder)
        {
            if (await GuestProcess.FindAsync(folder, _clock, cancellation) is { } process && !await EndIfDeadAsync(process, folder, cancellation))
            {
                throw new VMatrixException("ServerStillRuns", VMatrixErrorKind.InvalidState, $"Server {server} still runs in {folder.Path} (QEMU process {process.Id}); hibernate or stop it first.");
            }

            File.Delete(folder.RunFile);
            folder.Sweep();
            GuestProcess.Sweep(folder, _runtimeFolder);
        }

        await _places.MoveAsync(server, from, to, cancellation);
        return true;
    }, cancellation);

    /// <inheritdoc/>
    public Task EraseAsync(DriverCall call, Guid server, CancellationToken cancellation) => ChangeAsync(call, server, () =>
    {
        var erasing = Path.Combine(_places.Disposed, $".erasing-{server:D}");
        if (Places.Find(_places.Disposed, server) is { } folder)
        {
            Places.Delete(erasing);
            Directory.Move(folder.Path, erasing);
            Native.FlushFolder(_places.Disposed);
        }
        else if (_places.Others(server, _places.Disposed).FirstOrDefault() is { } other)
        {
            throw new VMatrixException("ServerNotDisposed", VMatrixErrorKind.InvalidState, $"Server {server} is not purged: it is in {other}. Dispose of it first.");
        }

        Places.Delete(erasing);
        return Task.FromResult(true);
    }, cancellation);

    /// <inheritdoc/>
    public Task MarkAsync(DriverCall call, ServerMark mark, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, () =>
    {
        var folder = on is not null ? _places.Get(Places.Host(on), mark.ServerId)
            : Places.Find(_places.Disposed, mark.ServerId) ?? _places.Get(_places.Nest, mark.ServerId);
        if (folder.ReadMark() is { } old && old.MachineId != folder.MachineId())
        {
            throw new VMatrixException("ServerForeign", VMatrixErrorKind.InvalidState, $"{folder.Path} is a copy: its mark was written for {old.MachineId}. It is not touched until it is registered.");
        }

        folder.WriteMark(mark);
        return Task.FromResult(true);
    }, cancellation);

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
            MemoryState.CheckBelongs(state, folder, guest);
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
                await MemoryState.SaveAsync(monitor, folder, guest, _clock, cancellation);
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
    public Task<string> MigrateAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec from, HostSpec to, CancellationToken cancellation) =>
        throw new VMatrixException("LiveMigrationNotSupported", VMatrixErrorKind.NotSupported,
            "The qemu driver moves servers by hibernating them for a moment: live migration of QEMU below version 10 corrupts guests under load. Move it without -Live.");

    /// <inheritdoc/>
    public Task AdoptAsync(DriverCall call, string machineId, ServerMark mark, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, mark.ServerId, () =>
    {
        var place = on is null ? _places.Nest : Places.Host(on);
        if (Places.Find(place, mark.ServerId) is { } there && there.IsOurs())
        {
            there.WriteMark(mark);
            return Task.FromResult(true);
        }

        var folder = Places.List(place).Select(f => f.Folder).FirstOrDefault(f => f.MachineId() == machineId)
            ?? throw new VMatrixException("MachineNotFound", VMatrixErrorKind.NotFound, $"There is no machine {machineId} in {place}.");
        var id = mark.ServerId.ToString("D");
        if (folder.IsOurs() && folder.ReadMark() is { } own)
        {
            throw new VMatrixException("MachineMarked", VMatrixErrorKind.InvalidState, $"{folder.Path} is server {own.Name} ({own.ServerId}) already.");
        }

        if (folder.ReadGuest() is null)
        {
            throw new VMatrixException("MachineNotFit", VMatrixErrorKind.NotSupported, $"{folder.Path} holds no {Path.GetFileName(folder.GuestFile)}, so nobody knows how to start it; only what the qemu driver made, or a copy of it, can be registered here.");
        }

        // Its disk is an overlay on the image's: without the image it is nothing.
        _ = _images.Get(mark.Service, mark.Image);
        var (target, renamed) = (Path.Combine(place, id), Path.GetFileName(folder.Path) != id);
        if ((renamed && Directory.Exists(target)) || _places.Others(mark.ServerId, place).Any())
        {
            throw new VMatrixException("ServerExists", VMatrixErrorKind.InvalidState, $"{folder.Path} cannot become server {id}: there is one with this id already.");
        }

        if (renamed && folder.IsLive())
        {
            throw new VMatrixException("MachineNotFit", VMatrixErrorKind.InvalidState, $"{folder.Path} runs, and its QEMU process knows its folder by its name; stop it first, then register it.");
        }

        // The mark is written for the name to come; the renaming makes it count.
        ServerFolder.Write(folder.MarkFile, mark with { MachineId = $"{id}/{Native.Inode(folder.Path):x}" });
        if (renamed)
        {
            Directory.Move(folder.Path, target);
            Native.FlushFolder(place);
        }

        File.Delete(new ServerFolder(target).ReleasedFile);
        return Task.FromResult(true);
    }, cancellation);

    /// <inheritdoc/>
    public Task ReleaseAsync(DriverCall call, Guid server, HostSpec? on, CancellationToken cancellation) => ChangeAsync(call, server, () =>
    {
        var place = on is null ? _places.Nest : Places.Host(on);
        if (Places.Find(place, server) is { } folder && folder.IsOurs())
        {
            File.Move(folder.MarkFile, folder.ReleasedFile, overwrite: true);
            Native.FlushFolder(folder.Path);
        }
        else if (_places.Others(server, place).ToArray() is { Length: > 0 } elsewhere)
        {
            throw new VMatrixException("ServerElsewhere", VMatrixErrorKind.InvalidState, $"Server {server} is not in {place}; it is in {string.Join(" and in ", elsewhere)}.");
        }

        return Task.FromResult(true);
    }, cancellation);

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
                MemoryState.CheckBelongs(state, folder, guest);
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
            Directory.CreateDirectory(Places.Host(to));
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

    /// <summary>One changing call at a time for a server in this process, from a decider that is not out of date.</summary>
    private async Task<T> ChangeAsync<T>(DriverCall call, Guid server, Func<Task<T>> change, CancellationToken cancellation)
    {
        var gate = _gates.GetOrAdd(server, static _ => new SemaphoreSlim(1));
        await gate.WaitAsync(cancellation);
        try
        {
            await CheckEpochAsync(call, cancellation);
            return await GuardDiskAsync(change);
        }
        finally
        {
            gate.Release();
        }
    }

    private static async Task<T> GuardDiskAsync<T>(Func<Task<T>> change)
    {
        const int NoSpace = 28;
        try
        {
            return await change();
        }
        catch (IOException e) when ((e.HResult & 0xffff) == NoSpace || e.Message.Contains("No space left", StringComparison.Ordinal))
        {
            throw new VMatrixException("DiskFull", VMatrixErrorKind.NoRoom, $"The disk is full: {e.Message} Free some room and try again.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VMatrixException("FileFailed", VMatrixErrorKind.Failed, e.Message, e) { IsTransient = true };
        }
    }

    /// <summary>Refuses a decider that another one has followed. The highest epoch seen is a flushed file in the nest, which all hosts of the pool share.</summary>
    private async Task CheckEpochAsync(DriverCall call, CancellationToken cancellation)
    {
        if (call.Epoch == 0)
        {
            return;
        }

        var folder = _pool.Nest.Folder;
        Directory.CreateDirectory(folder);
        var file = Path.Combine(folder, "epoch.json");
        for (var tries = 0; ; tries++)
        {
            try
            {
                using var turn = new FileStream(file + ".turn", FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
                var seen = ServerFolder.Read<EpochFacts>(file)?.Epoch ?? 0;
                if (call.Epoch < seen)
                {
                    throw new VMatrixException("StaleEpoch", VMatrixErrorKind.Busy, string.Create(CultureInfo.InvariantCulture, $"The call of epoch {call.Epoch} is refused in {folder}: a decider of epoch {seen} has taken over."));
                }

                if (call.Epoch > seen)
                {
                    ServerFolder.Write(file, new EpochFacts(call.Epoch));
                }

                return;
            }
            catch (IOException) when (tries < 400)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(5), _clock, cancellation);
            }
        }
    }

    private sealed record EpochFacts(long Epoch);

    /// <summary>A short path for sockets (their names may have 107 characters) that nobody else can write.</summary>
    private static string RuntimeFolder()
    {
        var user = Native.UserId();
        var given = Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR");
        var folder = given is { Length: > 0 and < 60 } && Directory.Exists(given)
            ? Path.Combine(given, "vmatrix")
            : string.Create(CultureInfo.InvariantCulture, $"/tmp/vmatrix-{user}");
        if (!OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }

        var (owner, mode) = Native.Owner(folder);
        const int FolderBit = 0x4000, KindBits = 0xf000, OthersBits = 0x3f;
        return owner == user && (mode & KindBits) == FolderBit && (mode & OthersBits) == 0
            ? folder
            : throw new VMatrixException("RuntimeFolderUnsafe", VMatrixErrorKind.Denied, $"The folder {folder}, where the sockets of servers go, can be used by others; take it away, or make it yours with mode 700.");
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        // Servers live on.
        _starts.Dispose();
        _prepare.Dispose();
        return ValueTask.CompletedTask;
    }
}
