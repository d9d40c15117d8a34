using System;
using System.Collections.Generic;
using System.Linq;
using System.Net.Http;
using System.Reflection;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using VMatrix.Moves;
using VMatrix.Simulation;
using Xunit;

namespace VMatrix.Tests.HAProxy;

/// <summary>A pool of simulated machines, each with a web server of this process for its guest, behind a real HAProxy of the pool's own.</summary>
public sealed class LostMembersTests : IAsyncLifetime
{
    private readonly TemporaryFolder _folder = new();
    private readonly HttpClient _client = new(new SocketsHttpHandler { UseProxy = false }) { DefaultRequestHeaders = { ConnectionClose = true } };
    private readonly string _listen = FakePorts.Free();
    private readonly List<WebServer> _web = [];
    private IHypervisor? _hypervisor;
    private HAProxyBalancer _balancer = null!;
    private PoolSession _session = null!;
    private PoolSpec _pool = null!;

    private Uri Url => new($"http://{_listen}/");

    public Task InitializeAsync()
    {
        PoolSpec pool = TestPool.Simulated(_folder.Path);
        _pool = pool with
        {
            Services = [pool.Services[0] with { Listen = _listen, Least = 0, Capacity = 100, Health = new HealthSpec { Path = "/health", Interval = TimeSpan.FromMilliseconds(100), Timeout = TimeSpan.FromSeconds(5) } }],
            Balancer = new BalancerSpec { Kind = "haproxy", QueueTimeout = TimeSpan.FromMinutes(1) },
            Oracle = pool.Oracle with { Interval = TimeSpan.FromSeconds(1), Calm = TimeSpan.FromSeconds(1) },
        };
        _balancer = new HAProxyBalancer(_pool, TimeProvider.System);
        _session = Open();
        return Task.CompletedTask;
    }

    public async Task DisposeAsync()
    {
        await _session.DisposeAsync();
        await _balancer.StopAsync(default);
        foreach (WebServer web in _web)
            await web.DisposeAsync();
        _client.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public async Task An_HAProxy_that_was_restarted_has_its_servers_again_with_the_next_move_and_until_then_they_say_so()
    {
        Move[] made = [.. await _session.PlanCreateAsync(_pool.Services[0].Name, 2, null, default)];
        await DoneAsync(made);
        Assert.Equal("BalancerUnreachable", (await Assert.ThrowsAsync<VMatrixException>(() => _balancer.ReadAsync(default))).Id); // No move needed it yet.
        await DoneAsync(await _session.PlanMoveAsync(made[0].ServerId, Stage.Matrix, null, false, default));
        Assert.NotEmpty(await _client.GetStringAsync(Url));
        Assert.Null((await _session.GetServersAsync(true, null, default)).Single(s => s.Id == made[0].ServerId).Problem);

        await RestartAsync();
        Assert.Empty((await _balancer.ReadAsync(default)).Members);
        ServerInfo lost = (await _session.GetServersAsync(true, null, default)).Single(s => s.Id == made[0].ServerId);
        Assert.Equal(ServerHealth.Healthy, lost.Health);
        Assert.Contains("not in the balancer", lost.Problem, StringComparison.Ordinal);
        Assert.Contains("not in the balancer", (await _session.LookAsync(default)).Servers.Single(s => s.Id == made[0].ServerId).Problem, StringComparison.Ordinal);

        // The move of another server, in another session.
        await using PoolSession other = Open();
        Assert.All(await other.CarryOutAsync([await other.PlanMoveAsync(made[1].ServerId, Stage.Matrix, null, false, default)], null, null, default), record => Assert.Equal((MoveStatus.Done, (string?)null), (record.Status, record.Error)));
        Assert.Equal(made.Select(move => move.ServerId).Order(), (await _balancer.ReadAsync(default)).Members.Select(member => member.ServerId).Order());

        // A dead one is told of as well, and a resumption repairs too.
        await KillAsync();
        Assert.Contains("cannot be asked", (await _session.GetServersAsync(false, null, default)).Single(s => s.Id == made[0].ServerId).Problem, StringComparison.Ordinal);
        await _session.ResumeMovesAsync(null, default);
        Assert.Equal(2, (await _balancer.ReadAsync(default)).Members.Count);

        // So is one that somebody took out by hand while HAProxy ran on.
        await _balancer.LeaveAsync(default, _pool.Services[0].Name, made[0].ServerId, default);
        Assert.Contains("not in the balancer", (await _session.GetServersAsync(false, null, default)).Single(s => s.Id == made[0].ServerId).Problem, StringComparison.Ordinal);
        await _session.ResumeMovesAsync(null, default);
        Assert.Equal(2, (await _balancer.ReadAsync(default)).Members.Count);
    }

    [Fact]
    public async Task Every_user_of_a_service_that_sleeps_whole_is_served_however_rarely_one_comes()
    {
        await DoneAsync([.. await _session.PlanCreateAsync(_pool.Services[0].Name, 1, null, default)]);
        using var stop = new CancellationTokenSource();
        Task oracle = _session.RunAsync("test", null, null, null, stop.Token);
        try
        {
            await UntilAsync(async () =>
            {
                try
                {
                    return (await _balancer.ReadAsync(default)).Services.Count == 1;
                }
                catch (VMatrixException)
                {
                    return false; // The Oracle has not started it yet.
                }
            });
            for (int user = 0; user < 3; user++)
            {
                // Asleep, balancer and all: the user comes, waits, and is answered.
                await UntilAsync(async () => (await _session.GetServersAsync(false, null, default)).All(s => s.Stage is Stage.Nest) && (await _session.GetMovesAsync(null, 1000, default)).All(m => m.EndedAt is not null));
                using HttpResponseMessage answer = await _client.GetAsync(Url);
                Assert.True(answer.IsSuccessStatusCode, $"User {user} got {(int)answer.StatusCode}.");
            }
        }
        finally
        {
            await stop.CancelAsync();
            await oracle;
        }
    }

    private PoolSession Open()
    {
        _hypervisor ??= Guests.Around(new SimulatedHypervisor(SimulatedWorld.Open(_pool, TimeProvider.System)), _web);
        return new PoolSession(_pool, new PoolDrivers(_hypervisor, _balancer, new HttpHealthProbe(TimeProvider.System)), StateFolder.Open(_pool.StateFolder, create: true, _pool.Nest.Folder), TimeProvider.System);
    }

    private async Task DoneAsync(params Move[] moves) =>
        Assert.All(await _session.CarryOutAsync(moves, TimeSpan.Zero, null, default), record => Assert.Equal((MoveStatus.Done, (string?)null), (record.Status, record.Error)));

    private async Task KillAsync()
    {
        using var process = System.Diagnostics.Process.GetProcessById(int.Parse((await _balancer.ReadAsync(default)).Incarnation.Split('@')[0]));
        process.Kill();
        await process.WaitForExitAsync();
    }

    private async Task RestartAsync()
    {
        await KillAsync();
        await _balancer.EnsureAsync(default);
    }

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        for (int i = 0; i < 1200; i++)
        {
            if (await condition())
                return;
            await Task.Delay(100);
        }

        Assert.Fail("Waited two minutes in vain.");
    }

    /// <summary>A hypervisor whose machines answer where a web server of this process does.</summary>
    public class Guests : DispatchProxy
    {
        private readonly Dictionary<Guid, WebServer> _servers = [];
        private IHypervisor _real = null!;
        private List<WebServer> _all = null!;

        internal static IHypervisor Around(IHypervisor real, List<WebServer> all)
        {
            IHypervisor proxy = Create<IHypervisor, Guests>();
            ((Guests)proxy)._real = real;
            ((Guests)proxy)._all = all;
            return proxy;
        }

        protected override object? Invoke(MethodInfo? targetMethod, object?[]? args)
        {
            object? answer = targetMethod!.Invoke(_real, args);
            return targetMethod.Name switch
            {
                nameof(IHypervisor.StartAsync) or nameof(IHypervisor.MigrateAsync) => AtAsync((Task<string>)answer!, (Guid)args![1]!),
                nameof(IHypervisor.ReadHostAsync) => AtAsync((Task<HostReport>)answer!),
                _ => answer,
            };
        }

        private async Task<string> AtAsync(Task<string> started, Guid server)
        {
            await started;
            return AddressOf(server);
        }

        private async Task<HostReport> AtAsync(Task<HostReport> read)
        {
            HostReport report = await read;
            return report with { Machines = [.. report.Machines.Select(m => m.Mark is { } mark && m.Power is PowerState.Running ? m with { Address = AddressOf(mark.ServerId), Health = ServerHealth.Unknown } : m)] };
        }

        private string AddressOf(Guid server)
        {
            lock (_servers)
            {
                if (!_servers.TryGetValue(server, out WebServer? web))
                    _all.Add(_servers[server] = web = new WebServer(server.ToString()));
                return web.Address;
            }
        }
    }
}
