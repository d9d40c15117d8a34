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

/// <summary>Talks to the QEMU guest agent inside a server. Whoever calls has the monitor open, and with it the turn.</summary>
internal static class GuestAgent
{
    /// <summary>True when an agent has opened its port inside; false while the guest boots.</summary>
    public static async Task<bool> IsThereAsync(Monitor monitor, CancellationToken cancellation)
    {
        foreach (var device in (await monitor.AskAsync("query-chardev", null, cancellation))?.AsArray() ?? [])
        {
            if (device?["label"]?.GetValue<string>() == "agent")
            {
                return device["frontend-open"]?.GetValue<bool>() == true;
            }
        }

        return false;
    }

    /// <summary>True when the agent answers in time.</summary>
    public static async Task<bool> AnswersAsync(GuestProcess guest, TimeSpan limit, CancellationToken cancellation)
    {
        using var timer = new CancellationTokenSource(limit, guest.Clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timer.Token, cancellation);
        try
        {
            using var peer = await JsonPeer.AgentAsync(guest.Sockets + ".qga", either.Token);
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
    public static async Task GreetAsync(GuestProcess guest, ServerMark mark, TimeSpan limit, CancellationToken cancellation)
    {
        using var timer = new CancellationTokenSource(limit, guest.Clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timer.Token, cancellation);
        try
        {
            using var peer = await JsonPeer.AgentAsync(guest.Sockets + ".qga", either.Token);
            var started = await peer.AskAsync("guest-exec", new JsonObject
            {
                ["path"] = "/bin/sh",
                ["arg"] = new JsonArray("-s"),
                ["input-data"] = Convert.ToBase64String(Encoding.UTF8.GetBytes(Script(mark))),
            }, either.Token);
            var process = started!["pid"]!.GetValue<int>();
            while (true)
            {
                var status = await peer.AskAsync("guest-exec-status", new JsonObject { ["pid"] = process }, either.Token);
                if (status!["exited"]!.GetValue<bool>())
                {
                    var code = status["exitcode"]?.GetValue<int>() ?? -1;
                    if (code != 0)
                    {
                        throw new VMatrixException("GreetingFailed", VMatrixErrorKind.Failed, $"Server {mark.Name} woke, but the script that gives it its name and randomness ended with exit code {code} inside; look at the image's agent.");
                    }

                    break;
                }

                await Task.Delay(TimeSpan.FromMilliseconds(2), guest.Clock, either.Token);
            }

            // The clock is set before the agent runs hwclock, which takes up to a second in some guests: its answer is not waited for long.
            var now = (guest.Clock.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks * 100;
            using var shortly = new CancellationTokenSource(TimeSpan.FromMilliseconds(250), guest.Clock);
            using var whichever = CancellationTokenSource.CreateLinkedTokenSource(shortly.Token, either.Token);
            try
            {
                await peer.AskAsync("guest-set-time", new JsonObject { ["time"] = now }, whichever.Token);
            }
            catch (OperationCanceledException) when (shortly.IsCancellationRequested)
            {
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

    private static VMatrixException Silent(ServerMark mark, TimeSpan limit, Exception inner) => new("AgentSilent", VMatrixErrorKind.Timeout, string.Create(CultureInfo.InvariantCulture,
        $"Server {mark.Name} woke, but its guest agent did not take its name and the time within {limit.TotalSeconds:0.#} s ({inner.Message}) Try again, or look at its console."), inner)
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
            mkdir -p /run/vmatrix
            echo {Quote(mark.Name)} >/run/vmatrix/name
            echo {Quote(mark.Service)} >/run/vmatrix/service
            echo {mark.ServerId:D} >/run/vmatrix/id
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
