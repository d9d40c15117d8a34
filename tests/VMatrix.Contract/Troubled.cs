using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Contract;

/// <summary>How a call goes wrong.</summary>
public enum TroubleKind
{
    /// <summary>It fails for a passing reason, before any effect.</summary>
    Passing,

    /// <summary>It has its effect, and the answer is lost for a passing reason.</summary>
    AnswerLost,

    /// <summary>It fails before any effect, every time.</summary>
    ForGood,

    /// <summary>It has its effect, and fails, every time.</summary>
    ForGoodAfter,

    /// <summary>It has its effect and fails for good, once: what takes it back finds all calls well.</summary>
    OnceAfter,

    /// <summary>It never comes back by itself, and never has its effect.</summary>
    Hangs,
}

/// <summary>A call that goes wrong.</summary>
/// <param name="Call">The driver call, such as <c>Save</c>.</param>
/// <param name="Kind">How.</param>
public sealed record Trouble(string Call, TroubleKind Kind)
{
    private int _times;
    private readonly List<string> _passed = [];

    /// <summary>How many times it struck.</summary>
    public int Times => _times;

    /// <summary>Every call that had its effect, in order.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public IReadOnlyList<string> Passed => _passed;

    public async Task<T> AroundAsync<T>(string call, Func<Task<T>> effect, CancellationToken cancellation)
    {
        async Task<T> RealAsync()
        {
            var answer = await effect();
            _passed.Add(call);
            return answer;
        }

        if (call != Call || (Kind is TroubleKind.Passing or TroubleKind.AnswerLost or TroubleKind.OnceAfter && _times > 0))
            return await RealAsync();
        _times++;
        switch (Kind)
        {
            case TroubleKind.Hangs:
                var never = new TaskCompletionSource<T>();
                using (cancellation.Register(() => never.TrySetCanceled(cancellation)))
                    return await never.Task;
            case TroubleKind.AnswerLost or TroubleKind.ForGoodAfter or TroubleKind.OnceAfter:
                await RealAsync();
                break;
        }

        throw new VMatrixException("TestTrouble", VMatrixErrorKind.Failed, $"{call} went wrong ({Kind}).") { IsTransient = Kind is TroubleKind.Passing or TroubleKind.AnswerLost };
    }

    public Task AroundAsync(string call, Func<Task> real, CancellationToken cancellation) => AroundAsync(call, async () =>
    {
        await real();
        return true;
    }, cancellation);
}

/// <summary>Any hypervisor driver, with one call that goes wrong.</summary>
public sealed class TroubledHypervisor(IHypervisor real, Trouble trouble) : IHypervisor
{
    public static IReadOnlyList<string> Calls { get; } = ["PrepareImage", "PublishImage", "SelectImage", "Create", "Fetch", "Stow", "Carry", "Start", "Save", "Stop", "Migrate", "Mark", "Discard", "Recover", "Erase", "Adopt", "Release"];

    public HypervisorTraits Traits => real.Traits;

    public Task<HostReport> ReadHostAsync(HostSpec host, CancellationToken cancellation) => real.ReadHostAsync(host, cancellation);

    public Task<NestReport> ReadNestAsync(CancellationToken cancellation) => real.ReadNestAsync(cancellation);

    public Task<string> PrepareImageAsync(DriverCall call, ServiceSpec service, HostSpec on, IProgress<string>? progress, CancellationToken cancellation) => trouble.AroundAsync("PrepareImage", () => real.PrepareImageAsync(call, service, on, progress, cancellation), cancellation);

    public Task<PublishedImage> PublishImageAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec? on, CancellationToken cancellation) => trouble.AroundAsync("PublishImage", () => real.PublishImageAsync(call, server, service, on, cancellation), cancellation);

    public Task SelectImageAsync(DriverCall call, ServiceSpec service, string version, CancellationToken cancellation) => trouble.AroundAsync("SelectImage", () => real.SelectImageAsync(call, service, version, cancellation), cancellation);

    public Task CreateAsync(DriverCall call, ServerMark mark, ServiceSpec service, CancellationToken cancellation) => trouble.AroundAsync("Create", () => real.CreateAsync(call, mark, service, cancellation), cancellation);

    public Task FetchAsync(DriverCall call, Guid server, HostSpec to, CancellationToken cancellation) => trouble.AroundAsync("Fetch", () => real.FetchAsync(call, server, to, cancellation), cancellation);

    public Task StowAsync(DriverCall call, Guid server, HostSpec from, CancellationToken cancellation) => trouble.AroundAsync("Stow", () => real.StowAsync(call, server, from, cancellation), cancellation);

    public Task CarryAsync(DriverCall call, Guid server, HostSpec from, HostSpec to, CancellationToken cancellation) => trouble.AroundAsync("Carry", () => real.CarryAsync(call, server, from, to, cancellation), cancellation);

    public Task<string> StartAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec on, CancellationToken cancellation) => trouble.AroundAsync("Start", () => real.StartAsync(call, server, service, on, cancellation), cancellation);

    public Task SaveAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) => trouble.AroundAsync("Save", () => real.SaveAsync(call, server, on, cancellation), cancellation);

    public Task StopAsync(DriverCall call, Guid server, HostSpec on, CancellationToken cancellation) => trouble.AroundAsync("Stop", () => real.StopAsync(call, server, on, cancellation), cancellation);

    public Task<string> MigrateAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec from, HostSpec to, CancellationToken cancellation) => trouble.AroundAsync("Migrate", () => real.MigrateAsync(call, server, service, from, to, cancellation), cancellation);

    public Task MarkAsync(DriverCall call, ServerMark mark, HostSpec? on, CancellationToken cancellation) => trouble.AroundAsync("Mark", () => real.MarkAsync(call, mark, on, cancellation), cancellation);

    public Task DiscardAsync(DriverCall call, Guid server, HostSpec? from, CancellationToken cancellation) => trouble.AroundAsync("Discard", () => real.DiscardAsync(call, server, from, cancellation), cancellation);

    public Task RecoverAsync(DriverCall call, Guid server, CancellationToken cancellation) => trouble.AroundAsync("Recover", () => real.RecoverAsync(call, server, cancellation), cancellation);

    public Task EraseAsync(DriverCall call, Guid server, CancellationToken cancellation) => trouble.AroundAsync("Erase", () => real.EraseAsync(call, server, cancellation), cancellation);

    public Task AdoptAsync(DriverCall call, string machineId, ServerMark mark, HostSpec? on, CancellationToken cancellation) => trouble.AroundAsync("Adopt", () => real.AdoptAsync(call, machineId, mark, on, cancellation), cancellation);

    public Task ReleaseAsync(DriverCall call, Guid server, HostSpec? on, CancellationToken cancellation) => trouble.AroundAsync("Release", () => real.ReleaseAsync(call, server, on, cancellation), cancellation);

    public Task<IReadOnlyList<MoveObstacle>> CompareAsync(Guid server, ServiceSpec service, HostSpec? from, HostSpec to, bool live, CancellationToken cancellation) => real.CompareAsync(server, service, from, to, live, cancellation);

    public Task<bool> ProveStoppedAsync(Guid server, HostSpec on, CancellationToken cancellation) => real.ProveStoppedAsync(server, on, cancellation);

    public ValueTask DisposeAsync() => real.DisposeAsync();
}

/// <summary>Any balancer driver, with one call that goes wrong.</summary>
public sealed class TroubledBalancer(IBalancer real, Trouble trouble) : IBalancer
{
    public static IReadOnlyList<string> Calls { get; } = ["Join", "Drain", "Leave"];

    public Task EnsureAsync(CancellationToken cancellation) => real.EnsureAsync(cancellation);

    public Task<BalancerReport> ReadAsync(CancellationToken cancellation) => real.ReadAsync(cancellation);

    public Task JoinAsync(DriverCall call, ServiceSpec service, Guid server, string address, CancellationToken cancellation) => trouble.AroundAsync("Join", () => real.JoinAsync(call, service, server, address, cancellation), cancellation);

    public Task DrainAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) => trouble.AroundAsync("Drain", () => real.DrainAsync(call, service, server, cancellation), cancellation);

    public Task LeaveAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) => trouble.AroundAsync("Leave", () => real.LeaveAsync(call, service, server, cancellation), cancellation);

    public Task StopAsync(CancellationToken cancellation) => real.StopAsync(cancellation);

    public ValueTask DisposeAsync() => real.DisposeAsync();
}
