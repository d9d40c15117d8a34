using System;
using System.Collections.Generic;
using System.IO;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Qemu;

/// <summary>A peer that answers one line of JSON to each line of JSON over a Unix socket: QEMU's monitor (QMP) or the guest agent. Serves one client at a time.</summary>
internal sealed class JsonPeer : IDisposable
{
    private readonly Socket _socket;
    private readonly byte[] _buffer = new byte[16 << 10];
    private readonly List<byte> _line = [];
    private int _start;
    private int _end;
    private int _nextId;

    private readonly int _mostBytes;

    private JsonPeer(Socket socket, int mostBytes) => (_socket, _mostBytes) = (socket, mostBytes);

    /// <summary>Connects to QEMU's monitor and greets it.</summary>
    public static async Task<JsonPeer> MonitorAsync(string path, CancellationToken cancellation)
    {
        var peer = await ConnectAsync(path, 4 << 20, cancellation);
        try
        {
            await peer.ReadLineAsync(cancellation);
            await peer.AskAsync("qmp_capabilities", null, cancellation);
            return peer;
        }
        catch
        {
            peer.Dispose();
            throw;
        }
    }

    /// <summary>Connects to the guest agent and drops whatever an earlier client left unread.</summary>
    public static async Task<JsonPeer> AgentAsync(string path, CancellationToken cancellation)
    {
        var peer = await ConnectAsync(path, 256 << 10, cancellation);
        try
        {
            var token = Random.Shared.Next(1, int.MaxValue);
            await peer.SendAsync(new JsonObject { ["execute"] = "guest-sync", ["arguments"] = new JsonObject { ["id"] = token } }, cancellation);
            while (true)
            {
                var answer = await peer.ReadLineAsync(cancellation);
                if (answer.Member("return") is JsonValue value && value.TryGetValue<int>(out var got) && got == token)
                {
                    return peer;
                }
            }
        }
        catch
        {
            peer.Dispose();
            throw;
        }
    }

    private static async Task<JsonPeer> ConnectAsync(string path, int mostBytes, CancellationToken cancellation)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellation);
            return new JsonPeer(socket, mostBytes);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Runs one command and returns its answer.</summary>
    /// <exception cref="PeerException">The peer refused the command, in its own words.</exception>
    /// <exception cref="IOException">The peer hung up, or answered what nobody can read.</exception>
    public async Task<JsonNode?> AskAsync(string command, JsonObject? arguments, CancellationToken cancellation, SafeHandle? file = null)
    {
        var (id, request) = Request(command, arguments);
        if (file is null)
        {
            await SendAsync(request, cancellation);
        }
        else
        {
            Native.SendWithHandle(_socket, Encoding.UTF8.GetBytes(request.ToJsonString() + "\n"), file);
        }

        return await AnswerAsync(id, command, cancellation);
    }

    private (int Id, JsonObject Request) Request(string command, JsonObject? arguments)
    {
        var id = ++_nextId;
        var request = new JsonObject { ["execute"] = command, ["id"] = id };
        if (arguments is not null)
        {
            request["arguments"] = arguments;
        }

        return (id, request);
    }

    private async Task<JsonNode?> AnswerAsync(int id, string command, CancellationToken cancellation)
    {
        while (true)
        {
            var answer = await ReadLineAsync(cancellation);
            if (answer.Member("event") is not null)
            {
                continue;
            }

            // Answers to commands of a client that went away before us carry another id or none.
            if (answer.Member("id") is JsonValue value && value.TryGetValue<int>(out var answered) && answered == id)
            {
                return answer.Member("error") is { } error
                    ? throw new PeerException($"{command}: {PlainText.Of(error is JsonObject ? error.Text("desc") ?? "it gave no reason" : "it gave no reason", 500)}")
                    : answer.Member("return");
            }
        }
    }

    /// <summary>Sends a command without waiting for its answer.</summary>
    public Task TellAsync(string command, JsonObject arguments, CancellationToken cancellation) =>
        SendAsync(new JsonObject { ["execute"] = command, ["arguments"] = arguments }, cancellation);

    private Task SendAsync(JsonObject request, CancellationToken cancellation) => SendAsync(request.ToJsonString() + "\n", cancellation);

    private async Task SendAsync(string lines, CancellationToken cancellation)
    {
        var bytes = Encoding.UTF8.GetBytes(lines);
        for (var sent = 0; sent < bytes.Length;)
        {
            sent += await _socket.SendAsync(bytes.AsMemory(sent), SocketFlags.None, cancellation);
        }
    }

    private async Task<JsonObject> ReadLineAsync(CancellationToken cancellation)
    {
        // A call that was cut short in the middle of a line leaves its beginning here.
        while (true)
        {
            if (_start == _end)
            {
                _start = 0;
                _end = await _socket.ReceiveAsync(_buffer.AsMemory(), SocketFlags.None, cancellation);
                if (_end == 0)
                {
                    throw new IOException("The other side hung up.");
                }
            }

            var newline = Array.IndexOf(_buffer, (byte)'\n', _start, _end - _start);
            var stop = newline < 0 ? _end : newline;
            _line.AddRange(_buffer.AsSpan(_start, stop - _start));
            _start = newline < 0 ? _end : newline + 1;
            if (newline < 0)
            {
                if (_line.Count > _mostBytes)
                {
                    throw new IOException("The other side sends a line without an end.");
                }

                continue;
            }

            try
            {
                if (_line.Count > 1)
                {
                    return PeerJson.Parse(CollectionsMarshal.AsSpan(_line));
                }
            }
            finally
            {
                _line.Clear();
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _socket.Dispose();
}

/// <summary>A command was understood and refused; the message is the peer's.</summary>
internal sealed class PeerException(string message) : Exception(message);
