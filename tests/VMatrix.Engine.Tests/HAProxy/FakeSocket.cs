using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Tests.HAProxy;

/// <summary>Something that listens where HAProxy's runtime socket is expected, and answers as a test wants.</summary>
internal sealed class FakeSocket : IAsyncDisposable
{
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _accepting;

    /// <param name="path">Where to listen.</param>
    /// <param name="answer">Writes the answer to the commands; the connection is closed after.</param>
    public FakeSocket(string path, Func<string, Stream, CancellationToken, Task> answer)
    {
        File.Delete(path);
        _listener.Bind(new UnixDomainSocketEndPoint(path));
        _listener.Listen();
        _accepting = AcceptAsync(answer);
    }

    public FakeSocket(string path, Func<string, string> answer)
        : this(path, (commands, stream, cancellation) => stream.WriteAsync(Encoding.UTF8.GetBytes(answer(commands)), cancellation).AsTask())
    {
    }

    /// <summary>What it was told.</summary>
    public ConcurrentQueue<string> Told { get; } = [];

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Dispose();
        await _accepting;
        _stop.Dispose();
    }

    private async Task AcceptAsync(Func<string, Stream, CancellationToken, Task> answer)
    {
        var open = new List<Task>();
        try
        {
            while (true)
                open.Add(AnswerAsync(await _listener.AcceptAsync(_stop.Token), answer));
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            await Task.WhenAll(open);
        }
    }

    private async Task AnswerAsync(Socket client, Func<string, Stream, CancellationToken, Task> answer)
    {
        try
        {
            using var stream = new NetworkStream(client, ownsSocket: true);
            using var reader = new StreamReader(stream, leaveOpen: true);
            string commands = await reader.ReadLineAsync(_stop.Token) ?? "";
            Told.Enqueue(commands);
            await answer(commands, stream, _stop.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or ObjectDisposedException)
        {
            // The other side has gone, or the test has ended.
        }
    }
}
