using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.HyperV;
using VMatrix.Moves;
using VMatrix.Shells;
using VMatrix.Simulation;
using VMatrix.Tests.HyperV;
using VMatrix.Tests.Scvmm;
using Xunit;

namespace VMatrix.Tests;

/// <summary>One host's trouble stays its own: what is ill or hangs counts as not answering, what it did answer is kept, and everybody else goes on.</summary>
public sealed class ReadTests
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    [Fact]
    public void A_host_that_hangs_costs_one_deadline_and_then_none()
    {
        var clock = new VirtualClock();
        clock.Run(async () =>
        {
            var read = new PatientRead<int>("HostUnreachable", "host1", s_patience, clock);
            var hangs = true;
            var asked = 0;
            Task<int> Ask() => read.AskAsync(async c =>
            {
                asked++;
                if (hangs)
                    await Task.Delay(Timeout.InfiniteTimeSpan, clock, c);
                return 7;
            }, default);

            var begun = clock.GetUtcNow();
            Assert.Equal("HostUnreachable", (await Assert.ThrowsAsync<VMatrixException>(Ask)).Id);
            Assert.Equal(s_patience, clock.GetUtcNow() - begun);

            // What was given up hears of it. Then the second and the third are told at once, and one question is on its way for both.
            await Task.Delay(TimeSpan.FromMilliseconds(1), clock);
            begun = clock.GetUtcNow();
            for (var i = 0; i < 3; i++)
                Assert.Equal(VMatrixErrorKind.Unreachable, (await Assert.ThrowsAsync<VMatrixException>(Ask)).Kind);
            Assert.Equal((TimeSpan.Zero, 2), (clock.GetUtcNow() - begun, asked));

            hangs = false;
            await Task.Delay(s_patience, clock);
            Assert.Equal(7, await Ask());
            Assert.Equal(7, await Ask());
        });
    }

    [Fact]
    public void A_question_that_takes_no_notice_of_its_end_is_left_to_itself_and_not_put_twice()
    {
        var clock = new VirtualClock();
        clock.Run(async () =>
        {
            var read = new PatientRead<int>("NestUnreachable", "The nest", s_patience, clock);
            var never = new TaskCompletionSource<int>();
            var asked = 0;
            Task<int> Ask() => read.AskAsync(_ =>
            {
                asked++;
                return never.Task;
            }, default);
            for (var i = 0; i < 4; i++)
                await Assert.ThrowsAsync<VMatrixException>(Ask);
            Assert.Equal(1, asked);
        });
    }

    [Fact]
    public void What_fails_at_once_is_asked_anew_each_time()
    {
        var clock = new VirtualClock();
        clock.Run(async () =>
        {
            var read = new PatientRead<int>("HostUnreachable", "host1", s_patience, clock);
            var left = 2;
            Task<int> Ask() => read.AskAsync(_ => left-- > 0 ? throw new VMatrixException("HyperVFailed", VMatrixErrorKind.Failed, "no") : Task.FromResult(1), default);
            Assert.Equal("HyperVFailed", (await Assert.ThrowsAsync<VMatrixException>(Ask)).Id);
            Assert.Equal("HyperVFailed", (await Assert.ThrowsAsync<VMatrixException>(Ask)).Id);
            Assert.Equal(1, await Ask());
        });
    }

    /// <summary>The ways in which a driver may fail to read a host or the nest, none of which is anybody else's.</summary>
    public static TheoryData<string> Ills => ["unreachable", "failed", "denied", "not found", "bug", "cancelled", "hangs", "deaf"];

    private static async Task<T> FallIllAsync<T>(string ill, TimeProvider clock, CancellationToken cancellation)
    {
        switch (ill)
        {
            case "unreachable":
                throw new VMatrixException("HostUnreachable", VMatrixErrorKind.Unreachable, "The RPC server is unavailable.") { IsTransient = true };
            case "failed":
                throw new VMatrixException("HyperVFailed", VMatrixErrorKind.Failed, "The object was not found.");
            case "denied":
                throw new VMatrixException("HostAccessDenied", VMatrixErrorKind.Denied, "Access is denied.");
            case "not found":
                throw new VMatrixException("HostNotManaged", VMatrixErrorKind.NotFound, "VMM does not manage it.");
            case "bug":
                throw new InvalidCastException("a reader's own fault");
            case "cancelled":
                throw new OperationCanceledException("somebody else's");
            case "hangs":
                await Task.Delay(Timeout.InfiniteTimeSpan, clock, cancellation);
                break;
            default:
                await new TaskCompletionSource().Task;
                break;
        }

        throw new InvalidOperationException();
    }

    [Theory]
    [MemberData(nameof(Ills))]
    public Task A_host_that_is_ill_is_silent_and_the_others_are_read(string ill) => InAsync(async (pool, driver, clock) =>
    {
        var (sick, well) = (pool.Hosts[0].Name, pool.Hosts[1].Name);
        var seen = await Observation.ReadAsync(pool, Sick.Of(driver, (host, c) => host == sick ? FallIllAsync<HostReport>(ill, clock, c) : null), null, null, default, new PoolReads(pool, clock));
        var silent = Assert.Single(seen.Silent);
        Assert.Equal((sick, "HostUnreachable", VMatrixErrorKind.Unreachable), (silent.Host, silent.Error.Id, silent.Error.Kind));
        Assert.Contains(sick, silent.Error.Message, StringComparison.Ordinal);
        Assert.False(seen.IsReachable(sick));
        Assert.True(seen.IsReachable(well));
        Assert.NotNull(seen.ProblemOf(sick));
    });

    [Theory]
    [MemberData(nameof(Ills))]
    public Task A_nest_that_is_ill_is_silent_and_the_hosts_are_read(string ill) => InAsync(async (pool, driver, clock) =>
    {
        var seen = await Observation.ReadAsync(pool, Sick.Of(driver, nest: c => FallIllAsync<NestReport>(ill, clock, c)), null, null, default, new PoolReads(pool, clock));
        Assert.Equal("NestUnreachable", Assert.Single(seen.Silent, place => place.Host is null).Error.Id);
        Assert.All(pool.Hosts, host => Assert.True(seen.IsReachable(host.Name)));
        Assert.Equal("NestUnreachable", Assert.Throws<VMatrixException>(seen.RequireNest).Id);
    });

    [Theory]
    [MemberData(nameof(Ills))]
    public Task The_resident_Oracle_goes_on_while_the_nest_cannot_be_read_and_says_so(string ill) => RunningAsync(async (pool, drivers, state, clock) =>
    {
        var ticks = 0;
        using var stop = new CancellationTokenSource();
        var hypervisor = Sick.Of(drivers.Hypervisor, nest: c => ticks is > 1 and < 4 ? FallIllAsync<NestReport>(ill, clock, c) : null);
        await using var session = new PoolSession(pool, drivers with { Hypervisor = hypervisor }, state, clock);
        var told = new List<string>();
        await session.RunAsync("test", null, plan =>
        {
            told.Add(plan.Summary);
            if (++ticks == 300 || told.TakeLast(2).Count(t => !t.Contains("The nest", StringComparison.Ordinal)) == 2 && ticks > 4)
                stop.Cancel();
        }, null, stop.Token);
        Assert.Contains(told, text => text.Contains("The nest", StringComparison.Ordinal));
        Assert.DoesNotContain("The nest", told[^1], StringComparison.Ordinal);
    });

    [Theory]
    [MemberData(nameof(Ills))]
    public Task A_plan_is_made_without_a_host_that_is_ill_and_names_it(string ill) => RunningAsync(async (pool, drivers, state, clock) =>
    {
        var sick = pool.Hosts[0].Name;
        var hypervisor = Sick.Of(drivers.Hypervisor, (host, c) => host == sick ? FallIllAsync<HostReport>(ill, clock, c) : null);
        await using var session = new PoolSession(pool, drivers with { Hypervisor = hypervisor }, state, clock);
        var plan = await session.PlanSwitchAsync(default);
        Assert.NotEmpty(plan.Moves);
        Assert.All(plan.Moves, move => Assert.NotEqual(sick, move.ToHost));
        Assert.Contains("does not answer", Assert.Single(plan.Refused, r => r.What == $"use {sick}").Reason, StringComparison.Ordinal);
        Assert.Equal(sick, Assert.Single(session.SilentPlaces).Host);
        Assert.Contains(sick, (await Assert.ThrowsAsync<VMatrixException>(() => session.PlanPurgeAsync(Guid.NewGuid(), default))).Message, StringComparison.Ordinal);
    });

    [Theory]
    [MemberData(nameof(Ills))]
    public Task A_balancer_that_is_ill_makes_bad_samples_and_ends_nothing(string ill) => RunningAsync(async (pool, drivers, state, clock) =>
    {
        var ticks = 0;
        using var stop = new CancellationTokenSource();
        var balancer = Sick.Of(drivers.Balancer, c => ticks > 0 ? FallIllAsync<BalancerReport>(ill, clock, c) : null);
        await using var session = new PoolSession(pool, drivers with { Balancer = balancer }, state, clock);
        await session.RunAsync("test", null, _ =>
        {
            if (++ticks == 4)
                stop.Cancel();
        }, null, stop.Token);
        Assert.Equal(4, ticks);
        Assert.All(session.LastLook!.Services, service => Assert.Contains("did not answer", service.Load!.Bad, StringComparison.Ordinal));
    });

    [Fact]
    public Task Silent_hosts_are_proven_side_by_side_and_asked_once() => RunningAsync(async (pool, drivers, state, clock) =>
    {
        // Five hosts that take four seconds each to say nothing, as a lost network does.
        var asked = 0;
        var hypervisor = Sick.Of(drivers.Hypervisor, (host, c) => Wait(c));
        async Task<HostReport> Wait(CancellationToken c)
        {
            Interlocked.Increment(ref asked);
            await Task.Delay(TimeSpan.FromSeconds(4), clock, c);
            throw new VMatrixException("HostUnreachable", VMatrixErrorKind.Unreachable, "The RPC server is unavailable.") { IsTransient = true };
        }

        await using var session = new PoolSession(pool, drivers with { Hypervisor = hypervisor }, state, clock);
        var begun = clock.GetUtcNow();
        var plan = await session.PlanSwitchAsync(default);
        Assert.Equal(pool.Hosts.Count, asked);
        Assert.True(clock.GetUtcNow() - begun < TimeSpan.FromSeconds(8), $"took {clock.GetUtcNow() - begun} of the virtual clock");
        Assert.Equal(pool.Hosts.Count, session.SilentPlaces.Count);
        Assert.Empty(plan.Moves);
    });

    [Fact]
    public Task A_name_is_taken_also_by_a_server_on_a_host_that_does_not_answer() => RunningAsync(async (pool, drivers, state, clock) =>
    {
        var away = pool.Hosts[0].Name;
        var silent = false;
        var hypervisor = Sick.Of(drivers.Hypervisor, (host, c) => silent && host == away ? FallIllAsync<HostReport>("unreachable", clock, c) : null);
        await using (var session = new PoolSession(pool, drivers with { Hypervisor = hypervisor }, state, clock))
        {
            var made = await session.PlanCreateAsync("FINANCE", 1, "mine", default);
            await session.CarryOutAsync(made, null, null, default);
            await session.CarryOutAsync([await session.PlanMoveAsync(made[0].ServerId, Stage.Matrix, away, false, default)], null, null, default);
            Assert.Equal("NameTaken", (await Assert.ThrowsAsync<VMatrixException>(() => session.PlanCreateAsync("FINANCE", 1, "MINE", default))).Id);
            await session.CarryOutAsync(await session.PlanCreateAsync("FINANCE", 1, null, default), null, null, default);
            var first = (await session.GetServersAsync(false, null, default)).Single(s => s.Name == "FINANCE-1");
            await session.CarryOutAsync([await session.PlanMoveAsync(first.Id, Stage.Matrix, away, false, default)], null, null, default);
        }

        // Another session, which never saw them.
        silent = true;
        using var again = StateFolder.Open(pool.StateFolder, create: true, pool.Nest.Folder);
        var fresh = new PoolSession(pool, drivers with { Hypervisor = hypervisor }, again, clock);
        Assert.Contains(away, (await Assert.ThrowsAsync<VMatrixException>(() => fresh.PlanCreateAsync("FINANCE", 1, "mine", default))).Message, StringComparison.Ordinal);
        Assert.Equal("FINANCE-2", Assert.Single(await fresh.PlanCreateAsync("FINANCE", 1, null, default)).ServerName);
        Assert.DoesNotContain((await fresh.PlanSwitchAsync(default)).Moves, move => move.Kind == MoveKind.Create && move.ServerName == "FINANCE-1");
    });

    [Fact]
    public Task A_server_whose_mark_can_no_longer_be_read_is_not_replaced_while_its_machine_is_there() => RunningAsync(async (pool, drivers, state, clock) =>
    {
        Guid? lost = null;
        var hypervisor = Sick.Of(drivers.Hypervisor, (host, c) => lost is null ? null : WithoutMarkAsync(host, c));
        async Task<HostReport> WithoutMarkAsync(string host, CancellationToken c)
        {
            var report = await drivers.Hypervisor.ReadHostAsync(pool.Hosts.First(h => h.Name == host), c);
            return report with { Machines = [.. report.Machines.Select(m => m.Mark?.ServerId == lost ? m with { Mark = null, Problem = "its line cannot be read" } : m)] };
        }

        await using var session = new PoolSession(pool, drivers with { Hypervisor = hypervisor }, state, clock);
        var made = await session.PlanCreateAsync("FINANCE", 1, null, default);
        await session.CarryOutAsync(made, null, null, default);
        await session.CarryOutAsync([await session.PlanMoveAsync(made[0].ServerId, Stage.Matrix, null, false, default)], TimeSpan.Zero, null, default);
        Assert.DoesNotContain((await session.PlanSwitchAsync(default)).Moves, move => move.Service == "FINANCE");
        lost = made[0].ServerId;
        Assert.DoesNotContain((await session.PlanSwitchAsync(default)).Moves, move => move.Service == "FINANCE");
    });

    [Fact]
    public Task A_host_whose_platform_wants_nothing_new_on_it_is_no_target_and_Compare_tells_why() => RunningAsync(async (pool, drivers, state, clock) =>
    {
        var paused = pool.Hosts[0].Name;
        var hypervisor = Sick.Of(drivers.Hypervisor, (host, c) => host == paused ? PausedAsync(c) : null);
        async Task<HostReport> PausedAsync(CancellationToken c) => (await drivers.Hypervisor.ReadHostAsync(pool.Hosts[0], c)) with { Maintenance = "its cluster has the node as Paused" };
        await using var session = new PoolSession(pool, drivers with { Hypervisor = hypervisor }, state, clock);
        var made = await session.PlanCreateAsync("FINANCE", 1, null, default);
        await session.CarryOutAsync(made, null, null, default);
        Assert.All((await session.PlanSwitchAsync(default)).Moves, move => Assert.NotEqual(paused, move.ToHost));
        Assert.NotEqual(paused, (await session.PlanMoveAsync(made[0].ServerId, Stage.Matrix, null, false, default)).ToHost);
        Assert.Equal("HostInMaintenance", (await Assert.ThrowsAsync<VMatrixException>(() => session.PlanMoveAsync(made[0].ServerId, Stage.Matrix, paused, false, default))).Id);
        Assert.Contains(await session.CompareAsync(made[0].ServerId, null, paused, false, default), o => o.What == "HostInMaintenance" && o.Why.Contains("Paused", StringComparison.Ordinal));
        var shown = (await session.GetHostsAsync(default)).Single(h => h.Name == paused);
        Assert.Contains("Paused", shown.Maintenance, StringComparison.Ordinal);
        Assert.Equal(clock.GetUtcNow(), shown.ObservedAt);
        Assert.All(await session.GetServersAsync(false, null, default), s => Assert.Equal(clock.GetUtcNow(), s.ObservedAt));
    });

    [Fact]
    public Task A_paused_node_of_a_failover_cluster_is_told_of_its_host() => HyperVAsync(async (world, open) =>
    {
        await using var driver = open(_ => null);
        Assert.All(await Task.WhenAll(world.Pool.Hosts.Select(host => driver.ReadHostAsync(host, default))), report => Assert.Null(report.Maintenance));
        await using var other = open(_ => null);
        world.World.Change(state => state.Clusters.Put("cluster1", new ClusterState { Name = "cluster1" }));
        foreach (var host in world.Pool.Hosts)
            world.World.SetHost(host.Name, h => h with { Cluster = "cluster1", Paused = h.Name == "host2" });
        Assert.Null((await other.ReadHostAsync(world.Pool.Hosts[0], default)).Maintenance);
        Assert.Contains("Paused", (await other.ReadHostAsync(world.Pool.Hosts[1], default)).Maintenance, StringComparison.Ordinal);
        world.World.SetHost("host2", h => h with { Paused = false });
        await Task.Delay(TimeSpan.FromMinutes(1), world.Clock);
        Assert.Null((await other.ReadHostAsync(world.Pool.Hosts[1], default)).Maintenance);
    });

    /// <summary>As Windows answers where the management service of a host is down: https://github.com/eryph-org/eryph/issues/176.</summary>
    [Theory]
    [InlineData("ObjectNotFound", "ObjectNotFound")]
    [InlineData("Unspecified", "NotSpecified")]
    public Task A_host_whose_management_service_is_down_is_nobody_else_s_trouble(string id, string category) => HyperVAsync(async (world, open) =>
    {
        var down = world.Pool.Hosts[0];
        await using var driver = open(call => HostOf(call) == down.Name ? throw new ShellException("Hyper-V encountered an error trying to access an object on computer 'host1' because the object was not found.")
        {
            Command = "Hyper-V\\Get-VM", ErrorId = $"{id},Microsoft.HyperV.PowerShell.Commands.GetVM", Category = category, ExceptionType = "Microsoft.HyperV.PowerShell.VirtualizationException",
        } : null);
        var seen = await Observation.ReadAsync(world.Pool, driver, null, null, default, new PoolReads(world.Pool, world.Clock));
        Assert.Equal(down.Name, Assert.Single(seen.Silent).Host);
        Assert.All(world.Pool.Hosts.Skip(1), host => Assert.True(seen.IsReachable(host.Name)));
        Assert.NotEmpty(seen.Images);
        Assert.Contains(seen.Problems, problem => problem.Contains("What sleeps on a host that does not answer", StringComparison.Ordinal));
    });

    [Fact]
    public Task A_host_that_tells_its_machines_and_hangs_over_their_addresses_keeps_its_machines() => HyperVAsync(async (world, open) =>
    {
        var half = world.Pool.Hosts[0];
        world.World.AddForeign(half.Name, "OTHER");
        await using var driver = open(call => HostOf(call) == half.Name && call.Commands[0].Name.EndsWith("Get-VMNetworkAdapter", StringComparison.Ordinal) ? Timeout.InfiniteTimeSpan : null);
        var seen = await Observation.ReadAsync(world.Pool, driver, null, null, default, new PoolReads(world.Pool, world.Clock));
        Assert.Empty(seen.Silent);
        Assert.Equal("OTHER", Assert.Single(seen.Foreign).Name);
        Assert.NotNull(seen.ProblemOf(half.Name));
        Assert.Null(seen.ProblemOf(world.Pool.Hosts[1].Name));
    });

    [Fact]
    public Task Every_question_that_changes_nothing_has_the_deadline_of_reads() => HyperVAsync(async (world, open) =>
    {
        var read = TimeSpan.FromSeconds(11);
        var pool = world.Pool with { Limits = world.Pool.Limits with { ReadTimeout = read } };
        world.World.AddForeign(pool.Hosts[0].Name, "OTHER");
        var shell = new Watching(new DoubleShell(world.World));
        await using (var driver = new HyperVHypervisor(pool, shell, world.Clock))
        {
            await driver.ReadNestAsync(default);
            foreach (var host in pool.Hosts)
                await driver.ReadHostAsync(host, default);
        }

        var load = new HyperVLoadSource(pool, shell, world.Clock);
        await load.ReadAsync(default);
        Assert.NotEmpty(shell.Calls);
        Assert.All(shell.Calls.Where(call => call.Commands.All(c => c.Name.Contains("\\Get-", StringComparison.Ordinal) || c.Name.Contains("\\Measure-", StringComparison.Ordinal))), call => Assert.Equal(read, call.Timeout));
    });

    [Fact]
    public Task VMM_s_answers_have_deadlines_and_one_that_hangs_is_waited_for_once() => ScvmmDriverWorld.WithServerAsync(async (world, own, server, service) =>
    {
        var shell = new Watching(new DoubleShell(world.World));
        await using var driver = new VMatrix.Scvmm.ScvmmHypervisor(world.Pool, shell, world.Clock);
        await driver.ReadHostAsync(world.Pool.Hosts[0], default);
        await driver.FetchAsync(default, server, world.Pool.Hosts[0], default);
        await driver.StartAsync(default, server, service, world.Pool.Hosts[0], default);
        Assert.All(shell.Calls, call => Assert.True(call.Timeout <= world.Pool.Limits.StepTimeout, $"{call.Commands[^1].Name} may take {call.Timeout}"));

        shell.Slow = _ => Timeout.InfiniteTimeSpan;
        var reads = new PoolReads(world.Pool, world.Clock);
        var seen = await Observation.ReadAsync(world.Pool, driver, null, null, default, reads);
        Assert.Equal(world.Pool.Hosts.Count + 1, seen.Silent.Count);
        var begun = world.Clock.GetUtcNow();
        await Observation.ReadAsync(world.Pool, driver, null, null, default, reads);
        Assert.Equal(TimeSpan.Zero, world.Clock.GetUtcNow() - begun);
        shell.Slow = null;
        await Task.Delay(TimeSpan.FromMinutes(5), world.Clock);
        _ = await Observation.ReadAsync(world.Pool, driver, null, null, default, reads);
        await Task.Delay(TimeSpan.FromMinutes(1), world.Clock);
        Assert.Empty((await Observation.ReadAsync(world.Pool, driver, null, null, default, reads)).Silent);
    });

    private static string? HostOf(ShellCall call) => call.Commands[0].Parameters.TryGetValue("ComputerName", out var name) ? name as string : null;

    private static Task HyperVAsync(Func<HyperVDriverWorld, Func<Func<ShellCall, TimeSpan?>, IHypervisor>, Task> test) => InWorldAsync(new HyperVDriverWorld(), async world =>
    {
        var driver = world.OpenHypervisor();
        await driver.PrepareImageAsync(default, world.Pool.Services[0], world.Pool.Hosts[0], null, default);
        await test(world, slow => new HyperVHypervisor(world.Pool, new Watching(new DoubleShell(world.World)) { Slow = slow }, world.Clock));
    });

    private static async Task InWorldAsync(HyperVDriverWorld opened, Func<HyperVDriverWorld, Task> test)
    {
        await using var world = opened;
        await world.RunAsync(() => test(world));
    }

    private static Task InAsync(Func<PoolSpec, IHypervisor, TimeProvider, Task> test) => RunningAsync((pool, drivers, _, clock) => test(pool, drivers.Hypervisor, clock));

    /// <summary>A simulated pool on a virtual clock.</summary>
    private static Task RunningAsync(Func<PoolSpec, PoolDrivers, StateFolder, TimeProvider, Task> test)
    {
        using var folder = new TemporaryFolder();
        var clock = new VirtualClock();
        var simulated = TestPool.Simulated(folder.Path);
        var pool = simulated with { Services = [.. simulated.Services.Select(service => service with { Least = 1 })] };
        clock.Run(async () =>
        {
            var drivers = PoolDrivers.Open(pool, clock, null);
            using var state = StateFolder.Open(pool.StateFolder, create: true, pool.Nest.Folder);
            await test(pool, drivers, state, clock);
        });
        return Task.CompletedTask;
    }

    private sealed class Watching(IShell inner) : IShell
    {
        public List<ShellCall> Calls { get; } = [];

        /// <summary>How much longer a call takes; may throw.</summary>
        public Func<ShellCall, TimeSpan?>? Slow { get; set; }

        public async Task<IReadOnlyList<PropertyBag>> InvokeAsync(ShellCall call, CancellationToken cancellation)
        {
            lock (Calls)
                Calls.Add(call);
            if (Slow?.Invoke(call) is not null)
            {
                // Takes no notice of its own deadline either.
                var gone = new TaskCompletionSource<IReadOnlyList<PropertyBag>>();
                using (cancellation.Register(() => gone.TrySetCanceled(cancellation)))
                    return await gone.Task;
            }

            return await inner.InvokeAsync(call, cancellation);
        }

        public ValueTask DisposeAsync() => inner.DisposeAsync();
    }

    /// <summary>A driver whose reads may go another way: where the function returns null they go on as they are.</summary>
#pragma warning disable CA1852 // A dispatch proxy is derived from at run time.
    private class Sick : System.Reflection.DispatchProxy
#pragma warning restore CA1852
    {
        private object? _real;
        private Func<System.Reflection.MethodInfo, object?[], object?>? _instead;

        public static IHypervisor Of(IHypervisor real, Func<string, CancellationToken, Task<HostReport>?>? host = null, Func<CancellationToken, Task<NestReport>?>? nest = null) =>
            Make(real, (method, arguments) => method.Name switch
            {
                nameof(IHypervisor.ReadHostAsync) => host?.Invoke(((HostSpec)arguments[0]!).Name, (CancellationToken)arguments[1]!),
                nameof(IHypervisor.ReadNestAsync) => nest?.Invoke((CancellationToken)arguments[0]!),
                _ => null,
            });

        public static IBalancer Of(IBalancer real, Func<CancellationToken, Task<BalancerReport>?> read) =>
            Make(real, (method, arguments) => method.Name == nameof(IBalancer.ReadAsync) ? read((CancellationToken)arguments[0]!) : null);

        protected override object? Invoke(System.Reflection.MethodInfo? targetMethod, object?[]? args) => _instead!(targetMethod!, args!) ?? targetMethod!.Invoke(_real, args);

        private static T Make<T>(T real, Func<System.Reflection.MethodInfo, object?[], object?> instead)
            where T : class
        {
            var made = Create<T, Sick>();
            ((Sick)(object)made)._real = real;
            ((Sick)(object)made)._instead = instead;
            return made;
        }
    }
}
