using System;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Tests.HAProxy;
using Xunit;

namespace VMatrix.Tests;

public sealed class HttpHealthProbeTests
{
    [Fact]
    public async Task Passes_when_the_expected_status_comes()
    {
        await using var server = new WebServer("a");
        using var probe = new HttpHealthProbe(TimeProvider.System);
        Assert.Null(await probe.CheckAsync(Service(), server.Address, default));
        server.Status = 503;
        string? wrong = await probe.CheckAsync(Service(), server.Address, default);
        Assert.Contains("503", wrong, StringComparison.Ordinal);
        Assert.Contains("200", wrong, StringComparison.Ordinal);
        Assert.Null(await probe.CheckAsync(Service() with { Health = new HealthSpec { Expect = 503 } }, server.Address, default));
    }

    [Fact]
    public async Task A_server_that_accepts_and_does_not_answer_fails()
    {
        await using var server = new WebServer("a") { Delay = TimeSpan.FromMinutes(5) };
        using var probe = new HttpHealthProbe(TimeProvider.System);
        ServiceSpec service = Service() with { Health = new HealthSpec { Timeout = TimeSpan.FromMilliseconds(100) } };
        Assert.Contains("did not answer within 0.1 s", await probe.CheckAsync(service, server.Address, default), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_server_that_hangs_up_or_is_not_there_fails_in_words()
    {
        await using var server = new WebServer("a") { HangUp = true };
        using var probe = new HttpHealthProbe(TimeProvider.System);
        Assert.Contains("cannot be asked", await probe.CheckAsync(Service(), server.Address, default), StringComparison.Ordinal);

        var closed = new TcpListener(IPAddress.Loopback, 0);
        closed.Start();
        string address = closed.LocalEndpoint.ToString()!;
        closed.Stop();
        Assert.Contains("refused", await probe.CheckAsync(Service(), address, default), StringComparison.Ordinal);
        Assert.Contains("URL", await probe.CheckAsync(Service(), "not an address", default), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Cancellation_is_thrown_and_not_told_as_a_failed_check()
    {
        await using var server = new WebServer("a") { Delay = TimeSpan.FromMinutes(5) };
        using var probe = new HttpHealthProbe(TimeProvider.System);
        using var stop = new CancellationTokenSource(TimeSpan.FromMilliseconds(50));
        ServiceSpec service = Service() with { Health = new HealthSpec { Timeout = TimeSpan.FromMinutes(1) } };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => probe.CheckAsync(service, server.Address, stop.Token));
    }

    private static ServiceSpec Service() => new() { Name = "FINANCE", Image = new ImageSpec() };
}
