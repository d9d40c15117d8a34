using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Files;

namespace VMatrix.Qemu;

/// <summary>A live QEMU process on a server's folder: found, launched, asked and ended. All that is known of it is read from the process itself.</summary>
internal sealed partial record GuestProcess(int Id, int Port, string Sockets, TimeProvider Clock)
{
    // Takes the lock (flock -F) and lets QEMU inherit it: it is held exactly as long as QEMU lives, whatever becomes of us. Nothing is
    // forked on the way, because on a busy machine each program would wait for its turn. 3 to 8 are closed first because a shell above us
    // may have left its own files there; so the lock is file 3.
    private const string Locker = """
        exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&-
        umask 077
        ulimit -Sn 4096 2>/dev/null
        exec flock -F -w 2 -E 75 "$2" /bin/sh -c "$@"
        """;

    private const string Launcher = """
        echo $$ >"$1"
        console=$2
        shift 2
        exec "$@" </dev/null >>"$console" 2>&1
        """;

    // For a guest that must not outlive us: the shell stays, and ends it when our end of its standard input closes.
    private const string TemporaryLauncher = """
        lock=$1 console=$2
        shift 2
        "$@" >>"$console" 2>&1 &
        echo $! >"$lock"
        exec 3>&-
        read -r _
        kill -9 $!
        """;

    public string Address => string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{Port}");

    /// <summary>The process that lives on a folder; null when there is none.</summary>
    public static async Task<GuestProcess?> FindAsync(ServerFolder folder, TimeProvider clock, CancellationToken cancellation)
    {
        for (var tries = 0; folder.IsLive(); tries++)
        {
            if (TryIdentify(folder, out var id, out var port, out var sockets))
            {
                return new GuestProcess(id, port, sockets, clock);
            }

            // Between the lock and the exec of QEMU, or after its death while a child of its own still holds the lock.
            if (tries == 400)
            {
                throw new VMatrixException("ServerBusy", VMatrixErrorKind.Busy, $"Some process holds {folder.Lock} locked and is not a QEMU of VMatrix; find it with: fuser {folder.Lock}") { IsTransient = true };
            }

            await Task.Delay(TimeSpan.FromMilliseconds(5), clock, cancellation);
        }

        return null;
    }

    private static bool TryIdentify(ServerFolder folder, out int id, out int port, out string sockets)
    {
        (id, port, sockets) = (0, 0, "");
        try
        {
            using var file = Native.OpenUnlocked(folder.Lock);
            Span<byte> text = stackalloc byte[32];
            var length = file is null ? 0 : RandomAccess.Read(file, text, 0);
            if (!int.TryParse(text[..Math.Max(0, text[..length].IndexOf((byte)'\n'))], NumberStyles.None, CultureInfo.InvariantCulture, out id))
            {
                return false;
            }

            return TryReadLine(Arguments(id), out port, out sockets);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>
    /// What a command line that <see cref="QemuCommandLine"/> made says of its port and sockets: read where we wrote it, in the argument that
    /// follows <c>-netdev</c> and the one that follows <c>-qmp</c>, and nowhere in names and kernel lines that only look like it.
    /// </summary>
    public static bool TryReadLine(IReadOnlyList<string> arguments, out int port, out string sockets)
    {
        (port, sockets) = (0, "");
        if (ArgumentAfter(arguments, "-netdev") is not { } network || ArgumentAfter(arguments, "-qmp") is not { } monitor)
        {
            return false;
        }

        var forward = HostForward().Match(network);
        var socket = MonitorSocket().Match(monitor);
        sockets = socket.Groups[1].Value.Replace(",,", ",", StringComparison.Ordinal);
        return forward.Success && socket.Success && int.TryParse(forward.Groups[1].Value, NumberStyles.None, CultureInfo.InvariantCulture, out port) && port is > 0 and <= 65535;
    }

    // Each option of ours has one argument, but for a few that have none: so an argument that looks like an option is not taken for one.
    private static string? ArgumentAfter(IReadOnlyList<string> arguments, string option)
    {
        for (var i = 1; i < arguments.Count - 1; i++)
        {
            if (arguments[i] == option)
            {
                return arguments[i + 1];
            }

            if (arguments[i] is not ("-nodefaults" or "-no-user-config" or "-S"))
            {
                i++;
            }
        }

        return null;
    }

    private static string[] Arguments(int process) => File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{process}/cmdline")).Split('\0');

    [GeneratedRegex(@"\Auser,id=net,restrict=on,hostfwd=tcp:127\.0\.0\.1:([0-9]{1,5})-:[0-9]{1,5}\z")]
    private static partial Regex HostForward();

    [GeneratedRegex(@"\Aunix:(.+)\.qmp,server=on,wait=off\z", RegexOptions.Singleline)]
    private static partial Regex MonitorSocket();

    /// <summary>True when any process of this machine runs a server of this id from this folder (null for any), lock or no lock.</summary>
    public static bool AnyRuns(Guid? server, string? folder)
    {
        var user = Native.UserId();
        var path = folder is null ? "" : folder.Replace(",", ",,", StringComparison.Ordinal) + "/";
        foreach (var process in Directory.EnumerateDirectories("/proc").Where(p => char.IsAsciiDigit(p[6])))
        {
            try
            {
                // Anybody may start a program with any words after its name; ours are this user's, and are QEMU.
                if (Native.Owner(process).User != user || new FileInfo(process + "/exe").LinkTarget?.Contains("qemu", StringComparison.Ordinal) is not true)
                {
                    continue;
                }

                var arguments = Arguments(int.Parse(process[6..], CultureInfo.InvariantCulture));
                if (ArgumentAfter(arguments, "-uuid") is { } id && (server is null || id == server.Value.ToString("D")) && arguments.Any(a => a.Contains(path, StringComparison.Ordinal)))
                {
                    return true;
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It ended meanwhile.
            }
        }

        return false;
    }

    /// <summary>Launches QEMU on a folder, waits until its monitor answers and returns it open.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="runtimeFolder">Where sockets go.</param>
    /// <param name="build">Makes the command line for a port and a socket path.</param>
    /// <param name="temporary">True for a guest that must not outlive this process; the returned process then ends it when disposed.</param>
    /// <param name="clock">The clock.</param>
    /// <param name="cancellation">Ends the call, and the guest.</param>
    public static async Task<(GuestProcess Guest, Monitor Monitor, Process? Keeper)> LaunchAsync(ServerFolder folder, string runtimeFolder, Func<int, string, IReadOnlyList<string>> build, bool temporary, TimeProvider clock, CancellationToken cancellation)
    {
        const int MostPorts = 5;
        var sockets = SocketsOf(folder, runtimeFolder);
        for (var attempt = 1; ; attempt++)
        {
            DeleteSockets(sockets);
            folder.TrimConsole();
            folder.Close();

            // Made by us, and closed to others where an earlier version made them: who can open the lock can hold it.
            OwnFiles.Touch(folder.Lock);
            OwnFiles.Touch(folder.Console);

            var before = new FileInfo(folder.Console) is { Exists: true } file ? file.Length : 0;
            var port = FreePort();
            var start = new ProcessStartInfo("setsid", ["/bin/sh", "-c", Locker, "vmatrix", temporary ? TemporaryLauncher : Launcher, folder.Lock, folder.Lock, folder.Console, QemuTools.Find("qemu-system-x86_64"), .. build(port, sockets)])
            {
                // Redirected so that .NET does not count a guest among the children that use the terminal.
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            };
            var keeper = QemuTools.Start(start);
            var keep = false;
            var turn = OwnFiles.Open(sockets + ".turn", FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            JsonPeer? peer = null;
            try
            {
                peer = await AnswersAsync(keeper, sockets + ".qmp", clock, cancellation);
                if (await FindAsync(folder, clock, cancellation) is { } guest)
                {
                    keep = temporary;
                    var monitor = new Monitor(guest, peer, turn);
                    (peer, turn) = (null, null!);
                    return (guest, monitor, temporary ? keeper : null);
                }

                throw new IOException("QEMU ended at once.");
            }
            catch (Exception e) when (e is IOException or SocketException)
            {
                await WaitExitAsync(keeper, clock);
                var said = ConsoleSince(folder, before);
                if (keeper.HasExited && keeper.ExitCode == 75)
                {
                    throw new VMatrixException("ServerBusy", VMatrixErrorKind.Busy, $"Another process has just started the server in {folder.Path}.", e) { IsTransient = true };
                }

                if (!said.Contains("Could not set up host forwarding", StringComparison.Ordinal))
                {
                    throw new VMatrixException("StartFailed", VMatrixErrorKind.Failed, $"QEMU did not start the server in {folder.Path}: {(said.Length == 0 ? await ErrorsAsync(keeper, cancellation) : said)}", e);
                }

                if (attempt == MostPorts)
                {
                    throw new VMatrixException("PortBusy", VMatrixErrorKind.Busy, $"QEMU found {MostPorts} free ports of 127.0.0.1 taken, one after another; the last one was {port}.", e) { IsTransient = true };
                }
            }
            catch
            {
                // Cancelled or out of time: nobody would know of this guest. A temporary one ends with its keeper's standard input.
                if (!temporary)
                {
                    keeper.Kill();
                }

                throw;
            }
            finally
            {
                peer?.Dispose();
                if (turn is not null)
                {
                    await turn.DisposeAsync();
                }

                if (!keep)
                {
                    keeper.Dispose();
                }
            }
        }
    }

    private static async Task<JsonPeer> AnswersAsync(Process launched, string socket, TimeProvider clock, CancellationToken cancellation)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellation);
        while (true)
        {
            if (launched.HasExited)
            {
                throw new IOException("QEMU ended at once.");
            }

            if (File.Exists(socket))
            {
                try
                {
                    return await JsonPeer.MonitorAsync(socket, either.Token);
                }
                catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionRefused)
                {
                    // Bound and not yet listening.
                }
            }

            await Task.Delay(TimeSpan.FromMilliseconds(2), clock, either.Token);
        }
    }

    private static async Task WaitExitAsync(Process process, TimeProvider clock)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(3), clock);
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
        }
    }

    private static async Task<string> ErrorsAsync(Process process, CancellationToken cancellation)
    {
        var said = (await process.StandardError.ReadToEndAsync(cancellation)).Trim();
        return said.Length == 0 ? "it gave no reason" : said;
    }

    private static string ConsoleSince(ServerFolder folder, long offset)
    {
        try
        {
            const int Most = 16 << 10;
            var length = new FileInfo(folder.Console) is { Exists: true } file ? file.Length : 0;
            return Encoding.UTF8.GetString(SmallFile.TryReadEnd(folder.Console, (int)Math.Clamp(length - offset, 0, Most)) ?? []).Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            return "";
        }
    }

    private static int FreePort()
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)listener.LocalEndPoint!).Port;
    }

    /// <summary>Opens the monitor. It serves one client at a time, so clients take turns by a lock beside it.</summary>
    /// <param name="patience">How long to wait for the turn and then for the greeting.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <exception cref="VMatrixException"><c>ServerBusy</c>: another client has it. <c>ServerHung</c>: QEMU does not answer.</exception>
    public async Task<Monitor> OpenAsync(TimeSpan patience, CancellationToken cancellation)
    {
        var began = Clock.GetTimestamp();
        FileStream turn;
        while (true)
        {
            try
            {
                turn = OwnFiles.Open(Sockets + ".turn", FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
                break;
            }
            catch (IOException e)
            {
                if (Clock.GetElapsedTime(began) > patience)
                {
                    throw new VMatrixException("ServerBusy", VMatrixErrorKind.Busy, $"Another command is talking to the server's QEMU (process {Id}).", e) { IsTransient = true };
                }
            }

            await Task.Delay(TimeSpan.FromMilliseconds(5), Clock, cancellation);
        }

        using var limit = new CancellationTokenSource(patience, Clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellation);
        try
        {
            return new Monitor(this, await JsonPeer.MonitorAsync(Sockets + ".qmp", either.Token), turn);
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            await turn.DisposeAsync();
            throw Hung(e);
        }
        catch
        {
            await turn.DisposeAsync();
            throw;
        }
    }

    internal VMatrixException Hung(Exception? inner = null) => new("ServerHung", VMatrixErrorKind.Timeout, IsStopped()
        ? $"QEMU process {Id} is stopped by a signal; let it go on with: kill -CONT {Id}"
        : $"QEMU process {Id} does not answer on its monitor.", inner) { IsTransient = true };

    /// <summary>True when the process was stopped by a signal.</summary>
    public bool IsStopped()
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{Id}/stat");
            return stat[stat.LastIndexOf(')') + 2] is 'T' or 't';
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>Kills the process and waits until its lock is free.</summary>
    public async Task KillAsync(ServerFolder folder, CancellationToken cancellation)
    {
        Native.Kill(Id);
        await GoneAsync(folder, cancellation);
    }

    /// <summary>Waits until the process is gone, with all of its children.</summary>
    public async Task GoneAsync(ServerFolder folder, CancellationToken cancellation)
    {
        var began = Clock.GetTimestamp();
        while (folder.IsLive())
        {
            if (Clock.GetElapsedTime(began) > TimeSpan.FromSeconds(30))
            {
                throw new VMatrixException("StopFailed", VMatrixErrorKind.Timeout, $"QEMU process {Id} was told to end and is still there after 30 s.") { IsTransient = true };
            }

            await Task.Delay(TimeSpan.FromMilliseconds(2), Clock, cancellation);
        }

        DeleteSockets(Sockets);
    }

    /// <summary>Takes away what a process that was killed has left in the runtime folder. Nothing may live on the folder.</summary>
    public static void Sweep(ServerFolder folder, string runtimeFolder) => DeleteSockets(SocketsOf(folder, runtimeFolder));

    private static string SocketsOf(ServerFolder folder, string runtimeFolder) =>
        Path.Combine(runtimeFolder, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(folder.Path)))[..20]);

    private static void DeleteSockets(string sockets)
    {
        File.Delete(sockets + ".qmp");
        File.Delete(sockets + ".agent");
        File.Delete(sockets + ".turn");
    }
}

/// <summary>An open monitor of a guest.</summary>
internal sealed class Monitor(GuestProcess guest, JsonPeer peer, FileStream turn) : IAsyncDisposable
{
    /// <summary>Runs a command; QEMU must answer within a limit.</summary>
    public async Task<JsonNode?> AskAsync(string command, JsonObject? arguments, CancellationToken cancellation, System.Runtime.InteropServices.SafeHandle? file = null)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(20), guest.Clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellation);
        try
        {
            return await peer.AskAsync(command, arguments, either.Token, file);
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            throw guest.Hung(e);
        }
    }

    /// <summary>The guest's run state in QEMU's words, such as <c>running</c>, <c>paused</c>, <c>postmigrate</c>, <c>shutdown</c>, <c>guest-panicked</c>.</summary>
    public async Task<string> StatusAsync(CancellationToken cancellation) =>
        PlainText.Line((await AskAsync("query-status", null, cancellation)).Text("status") ?? "unknown", 60);

    /// <summary>Tells QEMU to end; it may hang up before it answers.</summary>
    public async Task QuitAsync(CancellationToken cancellation)
    {
        try
        {
            await AskAsync("quit", null, cancellation);
        }
        catch (Exception e) when (e is IOException or System.Net.Sockets.SocketException)
        {
            // It is gone already.
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        peer.Dispose();
        await turn.DisposeAsync();
    }
}
