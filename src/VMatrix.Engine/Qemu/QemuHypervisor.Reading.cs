using System;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Qemu;

/// <content>What runs and what sleeps, as the processes and the folders themselves tell it.</content>
public sealed partial class QemuHypervisor
{
    /// <inheritdoc/>
    public Task<HostReport> ReadHostAsync(HostSpec host, CancellationToken cancellation) => Task.Run(() => ReadHostHereAsync(host, cancellation), cancellation);

    // On a thread of its own: a folder on a share that hangs stops the thread that looks into it, and nobody else.
    private async Task<HostReport> ReadHostHereAsync(HostSpec host, CancellationToken cancellation)
    {
        var place = Places.Host(host);
        try
        {
            if (!Directory.Exists(host.Folder) && GuestProcess.AnyRuns(null, place))
            {
                throw new IOException("the folder is gone while QEMU processes still run from it");
            }

            return new HostReport { Host = host.Name, Machines = await ReadAllAsync(place, cancellation) };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VMatrixException("HostUnreachable", VMatrixErrorKind.Unreachable, $"Host {host.Name} cannot be read in {host.Folder}: {e.Message}", e) { IsTransient = true };
        }
    }

    /// <inheritdoc/>
    public Task<NestReport> ReadNestAsync(CancellationToken cancellation) => Task.Run(() => ReadNestHereAsync(cancellation), cancellation);

    private async Task<NestReport> ReadNestHereAsync(CancellationToken cancellation)
    {
        try
        {
            return new NestReport
            {
                Dormant = await ReadAllAsync(_places.Nest, cancellation),
                Disposed = await ReadAllAsync(_places.Disposed, cancellation),
                Images = _images.Current(),
            };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VMatrixException("NestUnreachable", VMatrixErrorKind.Unreachable, $"The nest cannot be read in {_pool.Nest.Folder}: {e.Message}", e) { IsTransient = true };
        }
    }

    private async Task<Machine[]> ReadAllAsync(string place, CancellationToken cancellation)
    {
        var machines = await Task.WhenAll(Places.List(place).Select(f => ReadOneAsync(f.Folder, f.Name, cancellation)).ToArray());
        return [.. machines.OfType<Machine>()];
    }

    /// <summary>A machine, whatever is wrong with it: what one folder, one QEMU or one guest does wrong is its own problem. Null for a folder that went away meanwhile.</summary>
    private async Task<Machine?> ReadOneAsync(ServerFolder folder, string name, CancellationToken cancellation)
    {
        try
        {
            return await ReadMachineAsync(folder, name, cancellation);
        }
        catch (Exception e) when (e is not OutOfMemoryException && !(e is OperationCanceledException && cancellation.IsCancellationRequested))
        {
            if (!folder.Exists)
            {
                return null;
            }

            string id;
            try
            {
                id = folder.MachineId();
            }
            catch (IOException)
            {
                return folder.Exists ? new Machine { MachineId = name, Name = PlainText.Line(name), Power = PowerState.Unknown, Problem = PlainText.Of(e.Message, 2000) } : null;
            }

            return new Machine { MachineId = id, Name = PlainText.Line(name), Power = PowerState.Unknown, Problem = $"{folder.Path} cannot be read: {PlainText.Of(e.Message, 2000)}" };
        }
    }

    private async Task<Machine> ReadMachineAsync(ServerFolder folder, string name, CancellationToken cancellation)
    {
        var machine = new Machine { MachineId = folder.MachineId(), Name = PlainText.Line(name), Power = PowerState.Off };
        GuestFacts? guest = null;
        folder.TrimConsole();
        try
        {
            var mark = folder.ReadMark();
            machine = mark is null ? machine with { Problem = $"{folder.Path} has no mark of VMatrix", StaleMark = folder.ReadReleased() }
                : mark.MachineId != machine.MachineId || mark.ServerId.ToString("D") != name ? machine with { Problem = $"{folder.Path} is a copy: its mark was written for {mark.MachineId}", StaleMark = mark }
                : machine with { Name = mark.Name, Mark = mark };

            // Who it is counts also where what it is built from cannot be read.
            guest = folder.ReadGuest();
            machine = machine with { MemoryBytes = guest?.MemoryBytes ?? 0, Cores = guest?.Cores ?? 1 };
            if (folder.IsLive())
            {
                return await AskAsync(machine, folder, name, guest, cancellation);
            }

            if (folder.ReadState() is { } state)
            {
                // A memory that is not there cannot be woken, and is told before anybody tries.
                var problem = machine.Problem;
                if (machine.Mark is { } ours && guest is not null)
                {
                    try
                    {
                        MemoryState.CheckBelongs(state, folder, guest, ours.ServerId);
                    }
                    catch (VMatrixException e)
                    {
                        problem ??= e.Message;
                    }
                }

                return machine with { Power = PowerState.Saved, AsleepSince = state.SavedAt, WakeBytes = folder.StateBytes(), Problem = problem };
            }
        }
        catch (VMatrixException e)
        {
            return machine with { Problem = machine.Problem ?? e.Message, Power = folder.IsLive() ? PowerState.Running : machine.Power };
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
        catch (PeerException e)
        {
            return machine with { Problem = Told("QEMU refused to tell how its guest fares: " + e.Message, folder) };
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
}
