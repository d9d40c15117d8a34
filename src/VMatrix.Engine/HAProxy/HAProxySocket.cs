using System;
using System.Globalization;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.Win32.SafeHandles;
using VMatrix.Qemu;

namespace VMatrix.HAProxy;

/// <summary>HAProxy's runtime socket: commands in, answers out, a connection for each exchange. An exchange takes at most 5 s and 16 MiB.</summary>
public sealed class HAProxySocket
{
    // sun_path is 108 bytes with its final zero.
    private const int LongestPath = 107;

    /// <summary>What <c>show stat</c> takes for more than 20,000 servers; more is no answer of an HAProxy and is not read.</summary>
    internal const int MostBytes = 16 << 20;

    private static readonly TimeSpan s_answerWithin = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan s_betweenCalls = TimeSpan.FromMilliseconds(5);

    private readonly TimeProvider _clock;
    private readonly string _mend;

    /// <summary>Names a runtime socket; nothing is opened yet.</summary>
    /// <param name="address">A full path, or <c>address:port</c>.</param>
    /// <param name="clock">Keeps the deadline of each exchange.</param>
    /// <param name="mend">What to do where nothing answers, as a sentence.</param>
    public HAProxySocket(string address, TimeProvider clock, string mend = "Start HAProxy, or name the right socket in the pool file's balancer.")
    {
        Address = address;
        _clock = clock;
        _mend = mend;
    }

    /// <summary>A full path, or <c>address:port</c>.</summary>
    public string Address { get; }

    /// <summary>True for the socket of an HAProxy that this user has started: it is not spoken to where another user listens.</summary>
    internal bool IsOwned { get; init; }

    /// <summary>Sends commands, parted by <c>;</c>, and returns the answers, each of which ends with an empty line.</summary>
    /// <exception cref="VMatrixException"><c>BalancerUnreachable</c> (transient), <c>BalancerSocketInvalid</c>, <c>BalancerNotOurs</c>, <c>BalancerAnswerInvalid</c> for more than 16 MiB.</exception>
    public async Task<string> AskAsync(string commands, CancellationToken cancellation)
    {
        using var deadline = new CancellationTokenSource(s_answerWithin, _clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellation);
        SafeFileHandle? folder = null;
        try
        {
            EndPoint endPoint = ParseAddress(out folder);
            using var socket = new Socket(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Unspecified);
            while (true)
            {
                try
                {
                    await socket.ConnectAsync(endPoint, either.Token);
                    break;
                }
                catch (SocketException error) when (error.SocketErrorCode is SocketError.WouldBlock or SocketError.TryAgain)
                {
                    // A local socket says so, and does not wait, while its queue of callers is full.
                    await Task.Delay(s_betweenCalls, _clock, either.Token);
                }
            }

            if (IsOwned)
                CheckPeer(socket);
            using var stream = new NetworkStream(socket);
            await stream.WriteAsync(Encoding.UTF8.GetBytes(commands + "\n"), either.Token);
            return await ReadAsync(stream, either.Token);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw Unreachable($"did not answer within {Planning.Words.Seconds(s_answerWithin)}", null);
        }
        catch (SocketException error)
        {
            throw Unreachable(error.SocketErrorCode switch
            {
                SocketError.ConnectionRefused => "refused the connection: no HAProxy listens there",
                SocketError.AddressNotAvailable => "does not exist",
                SocketError.AccessDenied => "may not be opened by this user",
                _ => $"cannot be opened: {error.Message.TrimEnd('.')}",
            }, error);
        }
        catch (IOException error)
        {
            throw Unreachable($"broke off: {error.Message.TrimEnd('.')}", error);
        }
        finally
        {
            folder?.Dispose();
        }
    }

    private async Task<string> ReadAsync(NetworkStream stream, CancellationToken cancellation)
    {
        var answer = new MemoryStream();
        byte[] some = new byte[65536];
        int count;
        while ((count = await stream.ReadAsync(some, cancellation)) > 0)
        {
            if (answer.Length + count > MostBytes)
                throw new VMatrixException("BalancerAnswerInvalid", VMatrixErrorKind.Corrupt, $"What answers on HAProxy's runtime socket {Address} wrote more than {MostBytes >> 20} MiB, which no HAProxy does. See what listens there.");
            answer.Write(some, 0, count);
        }

        return Encoding.UTF8.GetString(answer.GetBuffer(), 0, (int)answer.Length);
    }

    // Who called listen on a local socket is told by the kernel: process, user and group (SO_PEERCRED, unix(7)).
    private void CheckPeer(Socket socket)
    {
        const int SocketLevel = 1, PeerCredentials = 17;
        Span<byte> credentials = stackalloc byte[12];
        if (socket.GetRawSocketOption(SocketLevel, PeerCredentials, credentials) != credentials.Length)
            throw NotOurs("does not tell whose it is");
        uint user = BitConverter.ToUInt32(credentials[4..]);
        if (user != Native.UserId())
            throw NotOurs(string.Create(CultureInfo.InvariantCulture, $"belongs to a process of user {user}, not of user {Native.UserId()}, who runs this"));
    }

    private VMatrixException NotOurs(string why) => new("BalancerNotOurs", VMatrixErrorKind.Denied,
        $"The runtime socket {Address} of the pool's own HAProxy {why}. Nothing is asked there. Run this as the user who started it, or take away what listens there.");

    private EndPoint ParseAddress(out SafeFileHandle? folder)
    {
        folder = null;
        if (Address.StartsWith('/'))
        {
            if (!File.Exists(Address))
                throw Unreachable("does not exist", null);
            if (Encoding.UTF8.GetByteCount(Address) <= LongestPath)
                return new UnixDomainSocketEndPoint(Address);

            // A path too long for a socket: by its open folder it is short.
            string name = Path.GetFileName(Address);
            folder = OperatingSystem.IsLinux() ? Native.OpenFolder(Path.GetDirectoryName(Address)!, followLink: true) : null;
            string near = folder is null ? Address : string.Create(CultureInfo.InvariantCulture, $"/proc/self/fd/{folder.DangerousGetHandle()}/{name}");
            if (Encoding.UTF8.GetByteCount(near) <= LongestPath)
                return new UnixDomainSocketEndPoint(near);
            throw new VMatrixException("BalancerSocketInvalid", VMatrixErrorKind.InvalidInput,
                $"The balancer's socket path '{Address}' is longer than the {LongestPath} bytes that a Unix socket may have; choose a shorter one.");
        }

        int colon = Address.LastIndexOf(':');
        if (colon < 1 || !int.TryParse(Address.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out int port) || port is < 1 or > 65535)
        {
            throw new VMatrixException("BalancerSocketInvalid", VMatrixErrorKind.InvalidInput,
                $"The balancer's socket '{Address}' is neither a full path nor address:port.");
        }

        string host = Address[..colon].Trim('[', ']');
        return IPAddress.TryParse(host, out IPAddress? ip) ? new IPEndPoint(ip, port) : new DnsEndPoint(host, port, AddressFamily.InterNetwork);
    }

    private VMatrixException Unreachable(string what, Exception? cause) =>
        new("BalancerUnreachable", VMatrixErrorKind.Unreachable,
            $"HAProxy's runtime socket {Address} {what}. {_mend}", cause)
        {
            IsTransient = true,
        };
}
