using System;
using System.Globalization;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.HAProxy;

/// <summary>HAProxy's runtime socket: commands in, answers out, a connection for each exchange.</summary>
public sealed class HAProxySocket
{
    // sun_path is 108 bytes with its final zero.
    private const int LongestPath = 107;
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

    /// <summary>Sends commands, parted by <c>;</c>, and returns the answers, each of which ends with an empty line.</summary>
    /// <exception cref="VMatrixException"><c>BalancerUnreachable</c>.</exception>
    public async Task<string> AskAsync(string commands, CancellationToken cancellation)
    {
        using var deadline = new CancellationTokenSource(s_answerWithin, _clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellation);
        try
        {
            EndPoint endPoint = ParseAddress();
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

            using var stream = new NetworkStream(socket);
            await stream.WriteAsync(Encoding.UTF8.GetBytes(commands + "\n"), either.Token);
            using var reader = new StreamReader(stream, Encoding.UTF8);
            return await reader.ReadToEndAsync(either.Token);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw Unreachable($"did not answer within {s_answerWithin.TotalSeconds:0} s", null);
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
    }

    private EndPoint ParseAddress()
    {
        if (Address.StartsWith('/'))
        {
            if (Encoding.UTF8.GetByteCount(Address) > LongestPath)
            {
                throw new VMatrixException("BalancerSocketInvalid", VMatrixErrorKind.InvalidInput,
                    $"The balancer's socket path '{Address}' is longer than the {LongestPath} bytes that a Unix socket may have; choose a shorter one.");
            }

            return File.Exists(Address) ? new UnixDomainSocketEndPoint(Address) : throw Unreachable("does not exist", null);
        }

        int colon = Address.LastIndexOf(':');
        if (colon < 1 || !int.TryParse(Address.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out int port) || port is < 1 or > 65535)
        {
            throw new VMatrixException("BalancerSocketInvalid", VMatrixErrorKind.InvalidInput,
                $"The balancer's socket '{Address}' is neither a full path nor address:port.");
        }

        string name = Address[..colon].Trim('[', ']');
        return IPAddress.TryParse(name, out IPAddress? ip) ? new IPEndPoint(ip, port) : new DnsEndPoint(name, port, AddressFamily.InterNetwork);
    }

    private VMatrixException Unreachable(string what, Exception? cause) =>
        new("BalancerUnreachable", VMatrixErrorKind.Unreachable,
            $"HAProxy's runtime socket {Address} {what}. {_mend}", cause)
        {
            IsTransient = true,
        };
}
