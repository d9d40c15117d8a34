using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Tests.HyperV;

/// <summary>A balancer that is a file of members, which several processes share: for tests of what moves servers, not of what sends requests.</summary>
internal sealed class FileBalancer(string path, TimeProvider clock) : IBalancer
{
    /// <summary>What it counts; nothing unless said.</summary>
    public IReadOnlyList<ServiceCounters> Counts { get; set; } = [];

    public Task EnsureAsync(CancellationToken cancellation) => Task.CompletedTask;

    public async Task<BalancerReport> ReadAsync(CancellationToken cancellation)
    {
        var report = new BalancerReport { At = clock.GetUtcNow(), Incarnation = "1", Members = [], Services = Counts };
        await ChangeAsync(members =>
        {
            report = report with { Members = [.. members] };
            return members;
        }, cancellation);
        return report;
    }

    public Task JoinAsync(DriverCall call, ServiceSpec service, Guid server, string address, CancellationToken cancellation) =>
        ChangeAsync(members => members.Where(member => member.ServerId != server).Append(new BalancerMember { Service = service.Name, ServerId = server, Address = address, State = MemberState.Ready }), cancellation);

    public Task DrainAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) =>
        ChangeAsync(members => members.Select(member => member.ServerId == server ? member with { State = MemberState.Draining } : member), cancellation);

    public Task LeaveAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) =>
        ChangeAsync(members => members.Where(member => member.ServerId != server), cancellation);

    public Task StopAsync(CancellationToken cancellation) => Task.CompletedTask;

    public ValueTask DisposeAsync() => default;

    private async Task ChangeAsync(Func<IEnumerable<BalancerMember>, IEnumerable<BalancerMember>> change, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        while (!TryChange(change))
            await Task.Delay(TimeSpan.FromMilliseconds(2), clock, cancellation);
    }

    private bool TryChange(Func<IEnumerable<BalancerMember>, IEnumerable<BalancerMember>> change)
    {
        try
        {
            using var file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            var before = file.Length > 0 ? JsonSerializer.Deserialize<BalancerMember[]>(file)! : [];
            var after = change(before).ToArray();
            if (after.SequenceEqual(before))
                return true;
            file.SetLength(0);
            file.Write(JsonSerializer.SerializeToUtf8Bytes(after));
            return true;
        }
        catch (IOException)
        {
            return false; // Somebody else is at it.
        }
    }
}
