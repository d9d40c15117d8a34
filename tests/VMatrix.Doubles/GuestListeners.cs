using System;
using System.Collections.Generic;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Doubles;

/// <summary>
/// Answers HTTP for the guests of a world whose addresses are of the loopback network: at each guest's own address and port while it runs and is
/// ready, and nowhere else. A hung guest takes the connection and says nothing.
/// </summary>
public sealed class GuestListeners : IAsyncDisposable, IDisposable
{
    private static readonly byte[] s_answer = Encoding.ASCII.GetBytes("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");

    private readonly DoubleWorld _world;
    private readonly CancellationTokenSource _stop = new();
    private readonly Dictionary<string, Guest> _guests = [];
    private readonly Task _run;
    private readonly TcpListener _network;

    /// <summary>Begins to follow a world; look again every 30 ms.</summary>
    public GuestListeners(DoubleWorld world)
    {
        _world = world;
        _network = ClaimNetwork(out var number);
        world.Configure(settings => settings with { Loopback = number, Port = settings.Port == 80 ? 18080 : settings.Port });
        _run = Task.Run(FollowAsync);
    }

    /// <summary>Requests answered so far.</summary>
    public long Answered => Interlocked.Read(ref _answered);

    private long _answered;

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _run;
        _stop.Dispose();
        _network.Dispose();
    }

    /// <inheritdoc/>
    public void Dispose() => DisposeAsync().AsTask().GetAwaiter().GetResult();

    /// <summary>Claims a network of 127.0.0.0/8 that no other process has, so that several worlds can be served at a time.</summary>
    private static TcpListener ClaimNetwork(out int number)
    {
        for (number = 100; ; number++)
        {
            var claim = new TcpListener(IPAddress.Parse($"127.{number}.255.254"), 18079);
            try
            {
                claim.Start();
                return claim;
            }
            catch (SocketException) when (number < 200)
            {
                claim.Dispose();
            }
        }
    }

    private async Task FollowAsync()
    {
        try
        {
            while (true)
            {
                var now = _world.Read(state => state.Machines.Values
                    .Where(machine => machine.State == Microsoft.HyperV.PowerShell.VMState.Running && DateTimeOffset.UtcNow >= machine.ReadyAt && state.Host(machine.Host)!.Mood == HostMood.Up)
                    .Select(machine => (Address: $"{DoubleWorld.AddressOf(state, machine)}:{state.Set.Port}", machine.Hung)).ToArray());
                foreach (var gone in _guests.Keys.Except(now.Select(each => each.Address)).ToArray())
                {
                    _guests[gone].Dispose();
                    _guests.Remove(gone);
                }

                foreach (var (address, hung) in now)
                {
                    if (!_guests.TryGetValue(address, out var guest))
                        _guests[address] = guest = new Guest(this, IPEndPoint.Parse(address));
                    guest.Hung = hung;
                }

                await Task.Delay(30, _stop.Token);
            }
        }
        catch (OperationCanceledException)
        {
        }
        finally
        {
            foreach (var guest in _guests.Values)
                guest.Dispose();
        }
    }

    private sealed class Guest : IDisposable
    {
        private readonly GuestListeners _owner;
        private readonly TcpListener _listener;

        public Guest(GuestListeners owner, IPEndPoint at)
        {
            _owner = owner;
            _listener = new TcpListener(at);
            _listener.Start();
            _ = AcceptAsync();
        }

        public volatile bool Hung;

        public void Dispose() => _listener.Dispose();

        private async Task AcceptAsync()
        {
            try
            {
                while (true)
                    _ = ServeAsync(await _listener.AcceptTcpClientAsync(_owner._stop.Token));
            }
            catch (Exception error) when (error is OperationCanceledException or SocketException or ObjectDisposedException)
            {
            }
        }

        private async Task ServeAsync(TcpClient client)
        {
            using (client)
            {
                try
                {
                    var stream = client.GetStream();
                    var buffer = new byte[4096];
                    var seen = "";
                    while (!seen.Contains("\r\n\r\n", StringComparison.Ordinal))
                    {
                        var length = await stream.ReadAsync(buffer, _owner._stop.Token);
                        if (length == 0)
                            return;
                        seen += Encoding.ASCII.GetString(buffer, 0, length);
                    }

                    while (Hung)
                        await Task.Delay(50, _owner._stop.Token);
                    await stream.WriteAsync(s_answer, _owner._stop.Token);
                    Interlocked.Increment(ref _owner._answered);
                }
                catch (Exception error) when (error is OperationCanceledException or System.IO.IOException or ObjectDisposedException)
                {
                }
            }
        }
    }
}
