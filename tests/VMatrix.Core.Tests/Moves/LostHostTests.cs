using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>Hosts that do not answer, and the balancer beside the truth.</summary>
public sealed class LostHostTests : IDisposable
{
    private readonly World _world = new();

    public void Dispose() => _world.Dispose();

    private void Run(Func<Task> body) => _world.Time.Run(body);

    [Theory]
    [InlineData("nothing", false)]
    [InlineData("disk", true)]
    [InlineData("word", true)]
    public void AServerOfALostHostStartsElsewhereOnlyWithProof(string proof, bool starts) => Run(async () =>
    {
        _world.SharedDisks = true;
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.DownHosts.Add("m1");
        (server.Power, server.Address) = (PowerState.Off, null);
        _world.CanProve = proof == "disk";
        if (proof == "word")
            _world.State.Overrides.SetHost(new HostOverride { Host = "m1", ConfirmedDead = true, By = "Anna", At = _world.Time.GetUtcNow() });
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Relocate, Stage.Matrix, "m2"));
        Assert.Equal(starts ? MoveStatus.Done : MoveStatus.Refused, record.Status);
        if (starts)
            _world.AssertWhole();
        else
            Assert.Contains("Nothing proves", record.Error);
        Assert.Equal(starts ? 1 : 0, _world.Log.Count(o => o == "start"));
    });

    [Fact]
    public void TheWordThatAHostIsDeadEndsWhenItAnswers() => Run(async () =>
    {
        _world.SharedDisks = true;
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.State.Overrides.SetHost(new HostOverride { Host = "m1", ConfirmedDead = true, By = "Anna", At = _world.Time.GetUtcNow() });

        // It answers: an ordinary move, and with it the end of the word; it stays suspended.
        _world.Before = (op, _, _) => op == "save" ? new VMatrixException("Ordered", VMatrixErrorKind.Failed, "No.") : null;
        Assert.Equal(MoveStatus.Undone, (await _world.CarryOut(_world.Move(server, MoveKind.Relocate, Stage.Matrix, "m2"))).Status);
        Assert.False(Assert.Single(_world.State.Overrides.ReadHosts(_world.Time.GetUtcNow())).ConfirmedDead);
        _world.DownHosts.Add("m1");
        Assert.Contains("Nothing proves", (await _world.CarryOut(_world.Move(server, MoveKind.Relocate, Stage.Matrix, "m2"))).Error);
    });

    [Fact]
    public void WithoutSharedDisksAnotherServerTakesItsPlace() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.DownHosts.Add("m1");
        _world.State.Overrides.SetHost(new HostOverride { Host = "m1", ConfirmedDead = true, By = "Anna", At = _world.Time.GetUtcNow() });
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Relocate, Stage.Matrix, "m2"));
        Assert.Equal(MoveStatus.Refused, record.Status);
        Assert.Contains("A new server made from the image can take its place", record.Error);
        Assert.Empty(_world.Log);
    });

    [Fact]
    public void ARestartElsewhereIsNotBegunWhereTheBalancerTakesNoServers() => Run(async () =>
    {
        _world.SharedDisks = _world.CanProve = true;
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.DownHosts.Add("m1");
        (server.Power, server.Address) = (PowerState.Off, null);
        _world.Refusal = new VMatrixException("told", VMatrixErrorKind.InvalidState, "The backend FINANCE takes no servers at run time.");
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Relocate, Stage.Matrix, "m2"));
        Assert.Equal((MoveStatus.Refused, "BalancerRefuses"), (record.Status, record.ErrorId));
        Assert.DoesNotContain("start", _world.Log);
        Assert.Equal("m1", server.Host);
    });

    [Fact]
    public void ARestartElsewhereThatFailsSleepsInTheNest() => Run(async () =>
    {
        _world.SharedDisks = _world.CanProve = true;
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.DownHosts.Add("m1");
        (server.Power, server.Address) = (PowerState.Off, null);
        _world.HealthOf = _ => "503";
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Relocate, Stage.Matrix, "m2"));
        Assert.Equal(MoveStatus.Undone, record.Status);
        Assert.Equal(Stage.Nest, server.Mark.Stage);
        _world.AssertWhole();
    });

    [Fact]
    public void AHostThatComesBackBeforeItsServerIsTakenKeepsIt() => Run(async () =>
    {
        _world.SharedDisks = _world.CanProve = true;
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.DownHosts.Add("m1");
        _world.Before = (op, _, _) =>
        {
            if (op == "leave")
                _world.CanProve = false;
            return null;
        };
        var record = await _world.CarryOut(_world.Move(server, MoveKind.Relocate, Stage.Matrix, "m2"));
        Assert.Equal(MoveStatus.Undone, record.Status);
        Assert.Contains("NotProvenStopped", record.Error);
        Assert.Equal(("m1", PowerState.Running), (server.Host, server.Power));
        Assert.DoesNotContain("carry", _world.Log);

        _world.DownHosts.Clear();
        _world.Before = null;
        Assert.Equal(MoveStatus.Done, Assert.Single((await _world.Mover.ReconcileAsync(_world.Hand, null, default)).Joined).Status);
        _world.AssertWhole();
    });

    public static TheoryData<string> Points(string route) => [.. MoveRoutes.Failpoints.Where(p => p.StartsWith(route + ".", StringComparison.Ordinal))];

    [Theory]
    [MemberData(nameof(Points), "rejoin")]
    public void AJoiningAgainSurvivesAKill(string point) => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.Members.Clear();
        var killed = false;
        Failpoint.Hook = p =>
        {
            killed |= p == point;
            if (p == point)
                throw new AbandonException(p);
        };
        await Assert.ThrowsAsync<AbandonException>(() => _world.Mover.ReconcileAsync(_world.Hand, null, default));
        Failpoint.Hook = null;
        Assert.True(killed);
        _world.Reopen();
        await _world.Mover.RecoverAsync(_world.Hand, null, default);
        await _world.Mover.ReconcileAsync(_world.Hand, null, default);
        Assert.Contains(server.Mark.ServerId, _world.Members.Keys);
        _world.AssertWhole();
    });

    [Theory]
    [MemberData(nameof(Points), "restart")]
    public void ARestartElsewhereSurvivesAKill(string point) => Run(async () =>
    {
        _world.SharedDisks = _world.CanProve = true;
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.DownHosts.Add("m1");
        (server.Power, server.Address) = (PowerState.Off, null);
        Failpoint.Hook = p =>
        {
            if (p == point)
                throw new AbandonException(p);
        };
        await Assert.ThrowsAsync<AbandonException>(() => _world.CarryOut(_world.Move(server, MoveKind.Relocate, Stage.Matrix, "m2")));
        Failpoint.Hook = null;
        _world.Reopen();
        var record = Assert.Single(await _world.Mover.RecoverAsync(_world.Hand, null, default));
        if (point.StartsWith("restart.leave", StringComparison.Ordinal))
        {
            // Nothing was carried yet: it is where it was, on a host that is still lost.
            Assert.Equal((MoveStatus.Undone, "m1"), (record.Status, server.Host));
            return;
        }
        Assert.Equal((MoveStatus.Done, "m2"), (record.Status, server.Host));
        _world.AssertWhole();
    });

    [Fact]
    public void ReconcilingMakesTheMembersTheHealthyServersOfTheMatrix() => Run(async () =>
    {
        var good = _world.Add("good", Stage.Matrix, "m1");
        var missing = _world.Add("missing", Stage.Matrix, "m2", "SPORTS");
        var sick = _world.Add("sick", Stage.Matrix, "m2", "SPORTS");
        var moved = _world.Add("moved", Stage.Matrix, "m3", "SPORTS");
        var drained = _world.Add("drained", Stage.Matrix, "m3", "SPORTS");
        var asleep = _world.Add("asleep", Stage.Nest, null);
        var stranger = Guid.NewGuid();
        _world.Members.Remove(missing.Mark.ServerId);
        _world.Members[moved.Mark.ServerId] = ("127.0.0.1:1", MemberState.Ready, 0);
        _world.Members[drained.Mark.ServerId] = (drained.Address!, MemberState.Draining, 0);
        _world.Members[asleep.Mark.ServerId] = ("127.0.0.1:2", MemberState.Ready, 0);
        _world.Members[stranger] = ("127.0.0.1:3", MemberState.Ready, 0);
        _world.HealthOf = name => name == "sick" ? "500" : null;
        var result = await _world.Mover.ReconcileAsync(_world.Hand, null, default);
        Assert.Equal(["drained", "missing", "moved"], result.Joined.Select(r => r.Move.ServerName).Order());
        Assert.All(result.Joined, r => Assert.True(r.Status is MoveStatus.Done, r.Error));
        Assert.Equal(3, result.Removed.Count);
        Assert.Equal(new[] { good, missing, moved, drained }.Select(s => s.Mark.ServerId).Order(), _world.Members.Keys.Order());
        Assert.All(_world.Members, m => Assert.Equal((_world.Servers[m.Key].Address, MemberState.Ready), (m.Value.Address, m.Value.State)));

        var again = await _world.Mover.ReconcileAsync(_world.Hand, null, default);
        Assert.Empty(again.Joined);
        Assert.Empty(again.Removed);
    });

    [Fact]
    public void ReconcilingKeepsWhatAnUnreachableHostsServersStillServe() => Run(async () =>
    {
        var server = _world.Add("A", Stage.Matrix, "m1");
        _world.DownHosts.Add("m1");
        var result = await _world.Mover.ReconcileAsync(_world.Hand, null, default);
        Assert.Empty(result.Removed);
        Assert.Contains(server.Mark.ServerId, _world.Members.Keys);
        Assert.Contains("m1", Assert.Single(result.Problems));
        _world.HealthOf = _ => "no answer";
        Assert.Contains(server.Mark.ServerId.ToString(), Assert.Single((await _world.Mover.ReconcileAsync(_world.Hand, null, default)).Removed));
        Assert.Empty(_world.Members);
        Assert.Equal((PowerState.Running, "m1"), (server.Power, server.Host));
    });

    [SkippableFact]
    public async Task AFenceScriptProvesDeathByItsSuccessOnly()
    {
        if (!OperatingSystem.IsLinux())
            throw new SkipException("need Linux");
        using var world = new World();
        var script = Path.Combine(world.StatePath, "fence.sh");
        var host = world.Pool.Hosts[0] with { FenceScript = script };
        var pool = world.Pool with { Hosts = [host, .. world.Pool.Hosts.Skip(1)], Limits = new LimitSpec { Tries = 1, StepTimeout = TimeSpan.FromSeconds(2) } };
        var mover = new Mover(pool, new Deaf(world), world, world, world.State, TimeProvider.System);

        async Task<HostProof> Prove(string body, UnixFileMode mode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, bool fence = true)
        {
            await File.WriteAllTextAsync(script, "#!/bin/sh\n" + body);
            File.SetUnixFileMode(script, mode);
            return await mover.ProveHostDeadAsync(host, [Guid.NewGuid()], fence, default);
        }

        Assert.False((await Prove("exit 0", fence: false)).Proven);
        var failed = await Prove("exit 3");
        Assert.False(failed.Proven);
        Assert.Contains("ended with 3", failed.How);
        var writable = await Prove("exit 0", UnixFileMode.UserRead | UnixFileMode.UserExecute | UnixFileMode.GroupWrite);
        Assert.False(writable.Proven);
        Assert.Contains("go-w", writable.How);
        var slow = await Prove("sleep 60");
        Assert.False(slow.Proven);
        Assert.Contains("took longer", slow.How);
        Assert.Empty(world.State.Overrides.ReadHosts(DateTimeOffset.UtcNow));

        var proven = await Prove("test \"$VMATRIX_HOST\" = m1 && exit 0; exit 1");
        Assert.True(proven.Proven, proven.How);
        Assert.True(Assert.Single(world.State.Overrides.ReadHosts(DateTimeOffset.UtcNow)).ConfirmedDead);

        // An operator's suspension stays theirs, with its end.
        var theirs = new HostOverride { Host = "m1", By = "Anna", At = DateTimeOffset.UtcNow, Until = DateTimeOffset.UtcNow.AddHours(4) };
        world.State.Overrides.SetHost(theirs);
        Assert.True((await Prove("exit 0")).Proven);
        var after = Assert.Single(world.State.Overrides.ReadHosts(DateTimeOffset.UtcNow));
        Assert.True(after.ConfirmedDead);
        Assert.Equal((theirs.By, theirs.At, theirs.Until), (after.By, after.At, after.Until));
        Assert.Contains("fence.sh", after.ConfirmedBy);
    }

    [SkippableFact]
    public async Task WhatAFenceScriptWritesGoesNeitherToTheScreenNorIntoTheProof()
    {
        if (!OperatingSystem.IsLinux())
            throw new SkipException("need Linux");
        using var world = new World();
        var host = world.Pool.Hosts[0] with { FenceScript = Path.Combine(world.StatePath, "fence.sh") };
        var pool = world.Pool with { Hosts = [host, .. world.Pool.Hosts.Skip(1)], Limits = new LimitSpec { Tries = 1, StepTimeout = TimeSpan.FromSeconds(60) } };
        var mover = new Mover(pool, new Deaf(world), world, world, world.State, TimeProvider.System);
        await File.WriteAllTextAsync(host.FenceScript!, "#!/bin/sh\necho secret; echo secret >&2; readlink /proc/$$/fd/1 >>out; readlink /proc/$$/fd/2 >>out; exit 3\n");
        File.SetUnixFileMode(host.FenceScript!, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        var proof = await mover.ProveHostDeadAsync(host, [], true, default);
        Assert.Contains("ended with 3", proof.How);
        Assert.DoesNotContain("secret", proof.How);

        // It writes to us, and not where this process writes.
        string[] ours = [new FileInfo("/proc/self/fd/1").LinkTarget!, new FileInfo("/proc/self/fd/2").LinkTarget!];
        var streams = await File.ReadAllLinesAsync(Path.Combine(world.StatePath, "out"));
        Assert.Equal(2, streams.Length);
        Assert.All(streams, stream => Assert.DoesNotContain(stream, ours));
    }

    [SkippableFact]
    public async Task AFenceScriptMayBeOneOfPowerShell()
    {
        if (!OperatingSystem.IsLinux() || VMatrix.Scripts.ChildEnvironment.Find("pwsh") is null)
            throw new SkipException("need Linux with pwsh on PATH");
        using var world = new World();
        var host = world.Pool.Hosts[0] with { FenceScript = Path.Combine(world.StatePath, "fence.ps1") };
        var pool = world.Pool with { Hosts = [host, .. world.Pool.Hosts.Skip(1)], Limits = new LimitSpec { Tries = 1, StepTimeout = TimeSpan.FromMinutes(3) } };
        var mover = new Mover(pool, new Deaf(world), world, world, world.State, TimeProvider.System);
        await File.WriteAllTextAsync(host.FenceScript!, "if ($env:VMATRIX_HOST -eq 'm1') { exit 0 }; exit 1\n");
        File.SetUnixFileMode(host.FenceScript!, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        var proof = await mover.ProveHostDeadAsync(host, [], true, default);
        Assert.True(proof.Proven, proof.How);
        await File.WriteAllTextAsync(host.FenceScript!, "exit 5\n");
        world.State.Overrides.ClearHost(host.Name);
        Assert.Contains("ended with 5", (await mover.ProveHostDeadAsync(host, [], true, default)).How);
    }

    /// <summary>A hypervisor none of whose hosts answer.</summary>
    private sealed class Deaf(World world) : IHypervisor
    {
        public HypervisorTraits Traits => world.Traits;

        public Task<HostReport> ReadHostAsync(HostSpec host, System.Threading.CancellationToken cancellation) => throw new VMatrixException("HostUnreachable", VMatrixErrorKind.Unreachable, $"{host.Name} does not answer.");

        public Task<bool> ProveStoppedAsync(Guid server, HostSpec on, System.Threading.CancellationToken cancellation) => Task.FromResult(false);

        public Task<NestReport> ReadNestAsync(System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task<PublishedImage> PublishImageAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec? on, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task SelectImageAsync(DriverCall call, ServiceSpec service, string version, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task<string> PrepareImageAsync(DriverCall call, ServiceSpec service, HostSpec on, IProgress<string>? progress, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task CreateAsync(DriverCall call, ServerMark mark, ServiceSpec service, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task FetchAsync(DriverCall call, Guid server, HostSpec to, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task StowAsync(DriverCall call, Guid server, HostSpec from, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task CarryAsync(DriverCall call, Guid server, HostSpec from, HostSpec to, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task<string> StartAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec on, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task SaveAsync(DriverCall call, Guid server, HostSpec on, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task StopAsync(DriverCall call, Guid server, HostSpec on, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task<string> MigrateAsync(DriverCall call, Guid server, ServiceSpec service, HostSpec from, HostSpec to, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task MarkAsync(DriverCall call, ServerMark mark, HostSpec? on, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task DiscardAsync(DriverCall call, Guid server, HostSpec? from, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task RecoverAsync(DriverCall call, Guid server, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task EraseAsync(DriverCall call, Guid server, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task AdoptAsync(DriverCall call, string machineId, ServerMark mark, HostSpec? on, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task ReleaseAsync(DriverCall call, Guid server, HostSpec? on, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public Task<System.Collections.Generic.IReadOnlyList<MoveObstacle>> CompareAsync(Guid server, ServiceSpec service, HostSpec? from, HostSpec to, bool live, System.Threading.CancellationToken cancellation) => throw new NotSupportedException();

        public ValueTask DisposeAsync() => default;
    }
}
