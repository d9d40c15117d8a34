using System;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Oracle.Screens;
using Xunit;

namespace VMatrix.Oracle.Tests;

public sealed class PoolViewTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-view-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("1h", true)]
    [InlineData("100ms", false)]
    public async Task The_screen_asks_the_hosts_again_only_when_nothing_was_seen_for_twice_the_interval(string interval, bool same)
    {
        string path = Path.Combine(_folder, "pool.yaml");
        await File.WriteAllTextAsync(path, $$"""
            pool: view
            hypervisor: simulation
            hosts: [{ name: host1, memory: 4 GiB }]
            services: [{ name: WEB, capacity: 10/s, image: { memory: 512 MiB } }]
            balancer: { kind: simulation }
            oracle: { interval: {{interval}}, staleAfter: 2h }
            """);
        await using var session = await PoolSession.OpenAsync(path, forChange: false, CancellationToken.None);
        var first = await PoolView.ReadAsync(session, shown: null, CancellationToken.None);
        await Task.Delay(TimeSpan.FromMilliseconds(300));
        var second = await PoolView.ReadAsync(session, first, CancellationToken.None);
        Assert.Equal(same, ReferenceEquals(first, second));
    }

    [Fact]
    public async Task The_screen_asks_the_hosts_again_after_the_clock_was_set_back()
    {
        string path = Path.Combine(_folder, "pool.yaml");
        await File.WriteAllTextAsync(path, """
            pool: view
            hypervisor: simulation
            hosts: [{ name: host1, memory: 4 GiB }]
            services: [{ name: WEB, capacity: 10/s, image: { memory: 512 MiB } }]
            balancer: { kind: simulation }
            oracle: { interval: 100ms, staleAfter: 2h }
            """);
        await using var session = await PoolSession.OpenAsync(path, forChange: false, CancellationToken.None);
        var first = await PoolView.ReadAsync(session, shown: null, CancellationToken.None) with { At = DateTimeOffset.UtcNow.AddDays(1) };
        await Task.Delay(TimeSpan.FromMilliseconds(300));
        var second = await PoolView.ReadAsync(session, first, CancellationToken.None);
        Assert.True(second.At < first.At);
    }
}
