using System;
using System.Globalization;
using System.IO;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Qemu;

/// <summary>Talks to the agent inside a server: QEMU's own guest agent, or the one of guests that are made for VMatrix. Whoever calls has the monitor open, and with it the turn.</summary>
internal static class GuestAgent
{
    /// <summary>The agent of guests that are made for VMatrix.</summary>
    public const string Own = "vmatrix";

    /// <summary>The QEMU guest agent.</summary>
    public const string Qemu = "qga";

    /// <summary>True when an agent has opened its port inside; false while the guest boots. A serial port does not tell: it is always open.</summary>
    public static async Task<bool> IsThereAsync(Monitor monitor, CancellationToken cancellation)
    {
        foreach (var device in (await monitor.AskAsync("query-chardev", null, cancellation)).Items())
        {
            if (device.Text("label") == "agent")
            {
                return device.Flag("frontend-open") == true;
            }
        }

        return false;
    }

    /// <summary>True when the agent answers in time.</summary>
    public static async Task<bool> AnswersAsync(GuestProcess guest, string agent, TimeSpan limit, CancellationToken cancellation)
    {
        using var timer = new CancellationTokenSource(limit, guest.Clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timer.Token, cancellation);
        try
        {
            if (agent == Own)
            {
                // Refused is answered as well: a client that was cut short may have left half a line there.
                _ = await ExchangeOwnAsync(guest, "\n", '.', heard: true, either.Token);
                return true;
            }

            using var peer = await JsonPeer.AgentAsync(guest.Sockets + ".agent", either.Token);
            return true;
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return false;
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            return false;
        }
    }

    /// <summary>
    /// Tells a guest that was just woken who it is and what time it is, and makes its random numbers its own: a woken clock is late by the
    /// whole sleep, and clones of one memory have one name and draw identical numbers.
    /// </summary>
    public static async Task GreetAsync(GuestProcess guest, string agent, ServerMark mark, TimeSpan limit, CancellationToken cancellation)
    {
        using var timer = new CancellationTokenSource(limit, guest.Clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timer.Token, cancellation);
        try
        {
            if (agent == Own)
            {
                await GreetOwnAsync(guest, mark, either.Token);
            }
            else
            {
                using var peer = await JsonPeer.AgentAsync(guest.Sockets + ".agent", either.Token);
                await GreetByScriptAsync(peer, guest.Clock, mark, either.Token);
            }
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            throw Silent(mark, limit, e);
        }
        catch (Exception e) when (e is IOException or SocketException or PeerException)
        {
            throw Silent(mark, limit, e);
        }
    }

    /// <summary>
    /// The agent of guests that are made for VMatrix (DemoAgent.asm): lines of text over the second serial port, one exchange a wake, and
    /// no program started inside; a shell costs a quarter of a second of processor under emulation, more than the rest of the wake.
    /// An empty line is answered with '.', and so is a line of one letter once all file systems are written out. Any other is a message, each byte as two letters from 'a' to 'p', answered with '!' when all
    /// of it was done and with '?' when not: seconds and nanoseconds since 1970 (8 bytes each, little-endian), 32 random bytes, the length
    /// of the host name (one byte), and the text of /run/vmatrix/server, which begins with the host name.
    /// </summary>
    private static async Task GreetOwnAsync(GuestProcess guest, ServerMark mark, CancellationToken cancellation)
    {
        var name = Encoding.UTF8.GetBytes(mark.Name);
        var text = Encoding.UTF8.GetBytes($"{mark.Name}\n{mark.Service}\n{mark.ServerId:D}\n");
        const int MostHostName = 63, MostText = 400;
        if (text.Length > MostText)
        {
            throw new VMatrixException("NameTooLong", VMatrixErrorKind.InvalidInput, $"The names of server {mark.Name} and of its service {mark.Service} are too long for the guest's agent: {text.Length} bytes where {MostText} are allowed.");
        }

        var now = Now(guest.Clock);
        byte[] message = [.. BitConverter.GetBytes(now / 1_000_000_000), .. BitConverter.GetBytes(now % 1_000_000_000), .. RandomNumberGenerator.GetBytes(32), (byte)Math.Min(name.Length, MostHostName), .. text];
        var line = new StringBuilder();
        foreach (var b in message)
        {
            line.Append((char)('a' + (b >> 4))).Append((char)('a' + (b & 15)));
        }

        // The first empty line ends what a client that was cut short has left in the guest's terminal, which is refused for that; the second
        // is answered with '.', and what is answered before is not meant for this one.
        if (!await ExchangeOwnAsync(guest, $"\n\n{line}\n", '!', heard: false, cancellation))
        {
            throw new VMatrixException("GreetingFailed", VMatrixErrorKind.Failed, $"Server {mark.Name} woke, but its agent could not set its clock, name and randomness.");
        }
    }

    /// <summary>Sends a line and waits for an answer; false when the agent refuses it. Unless <paramref name="heard"/>, only what comes after a '.' counts.</summary>
    private static async Task<bool> ExchangeOwnAsync(GuestProcess guest, string line, char good, bool heard, CancellationToken cancellation)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(guest.Sockets + ".agent"), cancellation);
        await socket.SendAsync(Encoding.ASCII.GetBytes(line), SocketFlags.None, cancellation);
        var answer = new byte[1];
        while (await socket.ReceiveAsync(answer, SocketFlags.None, cancellation) == 1)
        {
            if (heard && answer[0] == good)
            {
                return true;
            }

            if (heard && answer[0] == '?')
            {
                return false;
            }

            heard |= answer[0] == '.';
        }

        throw new IOException("QEMU hung up.");
    }

    private static async Task GreetByScriptAsync(JsonPeer peer, TimeProvider clock, ServerMark mark, CancellationToken cancellation)
    {
        if (await RunAsync(peer, clock, Script(mark), cancellation) is var code and not 0)
        {
            throw new VMatrixException("GreetingFailed", VMatrixErrorKind.Failed, $"Server {mark.Name} woke, but the script that gives it its name and randomness ended with exit code {code} inside; look at the image's agent.");
        }

        // The agent sets the clock at once and then runs hwclock, which takes up to a second in some guests: nobody waits for that.
        await peer.TellAsync("guest-set-time", new JsonObject { ["time"] = Now(clock) }, cancellation);
    }

    /// <summary>Has a guest write what it still holds in memory to its disk.</summary>
    /// <exception cref="VMatrixException"><c>SyncFailed</c>.</exception>
    public static async Task SyncAsync(GuestProcess guest, string agent, string name, TimeSpan limit, CancellationToken cancellation)
    {
        using var timer = new CancellationTokenSource(limit, guest.Clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timer.Token, cancellation);
        try
        {
            if (agent == Own)
            {
                if (!await ExchangeOwnAsync(guest, "s\n", '.', heard: true, either.Token))
                {
                    throw new IOException("its agent does not know how; build the guest again.");
                }

                return;
            }

            using var peer = await JsonPeer.AgentAsync(guest.Sockets + ".agent", either.Token);
            if (await RunAsync(peer, guest.Clock, "sync", either.Token) is var code and not 0)
            {
                throw new IOException($"sync ended with exit code {code}.");
            }
        }
        catch (Exception e) when (e is IOException or SocketException or PeerException or OperationCanceledException && !cancellation.IsCancellationRequested)
        {
            throw new VMatrixException("SyncFailed", VMatrixErrorKind.Failed, string.Create(CultureInfo.InvariantCulture,
                $"The guest of server {name} did not write its file systems out within {Planning.Words.Seconds(limit)}, so its disk may lack what was changed last: {e.Message}"), e);
        }
    }

    /// <summary>Runs a shell script inside by the QEMU guest agent and returns its exit code.</summary>
    private static async Task<long> RunAsync(JsonPeer peer, TimeProvider clock, string script, CancellationToken cancellation)
    {
        var started = await peer.AskAsync("guest-exec", new JsonObject
        {
            ["path"] = "/bin/sh",
            ["arg"] = new JsonArray("-s"),
            ["input-data"] = Convert.ToBase64String(Encoding.UTF8.GetBytes(script)),
        }, cancellation);
        var process = started.Whole("pid") ?? throw new IOException("The guest's agent started a program and does not tell which.");
        JsonNode? status;
        while ((status = await peer.AskAsync("guest-exec-status", new JsonObject { ["pid"] = process }, cancellation)).Flag("exited") is not true)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(4), clock, cancellation);
        }

        return status.Whole("exitcode") ?? -1;
    }

    private static long Now(TimeProvider clock) => (clock.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks * 100;

    private static VMatrixException Silent(ServerMark mark, TimeSpan limit, Exception inner) => new("AgentSilent", VMatrixErrorKind.Timeout, string.Create(CultureInfo.InvariantCulture,
        $"Server {mark.Name} woke, but its guest agent did not take its name and the time within {Planning.Words.Seconds(limit)} ({inner.Message}) Try again, or look at its console."), inner)
    { IsTransient = true };

    private static string Script(ServerMark mark)
    {
        var random = new StringBuilder();
        foreach (var b in RandomNumberGenerator.GetBytes(64))
        {
            random.Append('\\').Append(Convert.ToString(b, 8).PadLeft(3, '0'));
        }

        // Bytes written to urandom are mixed in at once but drawn from only after the next reseed, up to a minute later: RNDRESEEDCRNG
        // (0x5207) asks for it now. Shell builtins throughout, because each program started costs milliseconds under emulation.
        return $"""
            [ -d /run/vmatrix ] || mkdir -p /run/vmatrix
            printf '%s\n' {Quote(mark.Name)} {Quote(mark.Service)} {mark.ServerId:D} >/run/vmatrix/server
            echo {Quote(mark.Name)} >/proc/sys/kernel/hostname
            [ ! -f /etc/hostname ] || echo {Quote(mark.Name)} >/etc/hostname
            printf '{random}' >/dev/urandom
            if [ -x /sbin/vmatrix-reseed ]; then /sbin/vmatrix-reseed || exit 3
            elif command -v perl >/dev/null; then perl -e 'open(my $r, "<", "/dev/random") && ioctl($r, 0x5207, 0) || exit 1' || exit 3
            elif command -v python3 >/dev/null; then python3 -c 'import fcntl; fcntl.ioctl(open("/dev/random"), 0x5207, 0)' || exit 3
            fi
            [ ! -x /etc/vmatrix/wake ] || /etc/vmatrix/wake
            exit 0
            """;
    }

    private static string Quote(string value) => "'" + value.Replace("'", "'\\''", StringComparison.Ordinal) + "'";
}
