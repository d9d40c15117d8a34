using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Tests.HAProxy;

/// <summary>A small HTTP server in this process that stands for a virtual machine. It closes each connection after its answer.</summary>
internal sealed class WebServer : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _accepting;
    private readonly List<Task> _answering = [];
    private int _served;

    public WebServer(string name)
    {
        Name = name;
        _listener.Start();
        _accepting = AcceptAsync();
    }

    public string Name { get; }

    public string Address => _listener.LocalEndpoint.ToString()!;

    public int Served => _served;

    public TimeSpan Delay { get; set; }

    public int Status { get; set; } = 200;

    /// <summary>True to close the connection where an answer was due; health checks are answered.</summary>
    public bool HangUp { get; set; }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Stop();
        await _accepting;
        Task[] open;
        lock (_answering)
            open = [.. _answering];
        await Task.WhenAll(open);
        _stop.Dispose();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                Socket client = await _listener.AcceptSocketAsync(_stop.Token);
                lock (_answering)
                    _answering.Add(AnswerAsync(client));
            }
        }
        catch (Exception error) when (error is OperationCanceledException or SocketException or ObjectDisposedException or InvalidOperationException)
        {
            // stopped; between two connections a listener says so by InvalidOperationException
        }
    }

    private async Task AnswerAsync(Socket client)
    {
        try
        {
            using var stream = new NetworkStream(client, ownsSocket: true);
            using var reader = new StreamReader(stream, Encoding.ASCII, leaveOpen: true);
            string? first = await reader.ReadLineAsync(_stop.Token);
            while (await reader.ReadLineAsync(_stop.Token) is { Length: > 0 })
            {
            }

            bool health = first?.Contains("/health", StringComparison.Ordinal) == true;
            if (!health)
            {
                if (HangUp)
                    return;
                await Task.Delay(Delay, _stop.Token);
                Interlocked.Increment(ref _served);
            }

            string answer = $"HTTP/1.1 {Status} Fine\r\nContent-Length: {Name.Length}\r\nConnection: close\r\n\r\n{Name}";
            await stream.WriteAsync(Encoding.ASCII.GetBytes(answer), _stop.Token);
        }
        catch (Exception error) when (error is OperationCanceledException or IOException)
        {
            // stopped, or the client is gone
        }
    }
}
