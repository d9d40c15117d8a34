using System;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

public sealed class RollingUpdateTests : IDisposable
{
    private readonly World _world = new();

    public void Dispose() => _world.Dispose();

    private ServiceSpec Finance => _world.Pool.Services[0];

    private string[] Serving => [.. _world.Servers.Values.Where(s => s.Mark.Stage is Stage.Matrix).Select(s => s.Mark.Image).Order()];

    [Theory]
    [InlineData(2, 1)]
    [InlineData(2, 2)]
    [InlineData(3, 1)]
    [InlineData(3, 3)]
    public void EveryServerIsReplaced(int servers, int batch) => _world.Time.Run(async () =>
    {
        // Three matrix hosts: with two servers one host is free, with three each is replaced in its place.
        for (var i = 1; i <= servers; i++)
            _world.Add($"FINANCE-{i}", Stage.Matrix, $"m{i}");
        var dormant = _world.Add("FINANCE-7", Stage.Nest, null);
        _world.Image = "2";
        var least = int.MaxValue;
        _world.After = (_, _, _) =>
        {
            least = Math.Min(least, _world.Members.Count(m => m.Value.State is MemberState.Ready));
            return null;
        };
        var result = await _world.Mover.UpdateServiceAsync(Finance, new UpdateOptions { BatchSize = batch }, _world.Hand, null, default);
        Assert.True(result.Status is UpdateStatus.Done, result.Error);
        Assert.Equal((servers, "2"), (result.Replaced, result.Image));
        Assert.Equal(Enumerable.Repeat("2", servers), Serving);
        Assert.Equal(Stage.Disposed, dormant.Mark.Stage);
        Assert.Equal(_world.Servers.Count, _world.Servers.Values.Select(s => s.Mark.Name).Distinct().Count());
        if (servers == 2 && batch == 1)
            Assert.Equal(2, least);
        _world.AssertWhole();
        Assert.Empty((await _world.Mover.UpdateServiceAsync(Finance, new UpdateOptions(), _world.Hand, null, default)).Moves);
    });

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void OnSharedHostsOldAndNewLiveSideBySide(bool fails) => _world.Time.Run(async () =>
    {
        var sports = _world.Pool.Services[1];
        for (var i = 1; i <= 3; i++)
            _world.Add($"SPORTS-{i}", Stage.Matrix, "m1", "SPORTS");
        _world.Image = "2";
        var least = int.MaxValue;
        _world.After = (_, _, _) =>
        {
            least = Math.Min(least, _world.Members.Count(m => m.Value.State is MemberState.Ready));
            return null;
        };
        _world.HealthOf = name => fails && name == "SPORTS-6" ? "500" : null;
        var result = await _world.Mover.UpdateServiceAsync(sports, new UpdateOptions(), _world.Hand, null, default);
        Assert.True(result.Status == (fails ? UpdateStatus.Returned : UpdateStatus.Done), result.Error);
        Assert.Equal(Enumerable.Repeat(fails ? "1" : "2", 3), Serving);
        Assert.Equal(3, least);
        _world.AssertWhole();
    });

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    public void WhenANewServerNeverPassesTheOldOnesServeAgain(int servers) => _world.Time.Run(async () =>
    {
        for (var i = 1; i <= servers; i++)
            _world.Add($"FINANCE-{i}", Stage.Matrix, $"m{i}");
        _world.Image = "2";
        var made = 0;
        _world.After = (op, _, _) =>
        {
            made += op == "create" ? 1 : 0;
            return null;
        };
        _world.HealthOf = name => made == 2 && _world.Servers.Values.Any(s => s.Mark.Name == name && s.Mark.Image == "2" && name.EndsWith((servers + 2).ToString(), StringComparison.Ordinal)) ? "500" : null;
        var result = await _world.Mover.UpdateServiceAsync(Finance, new UpdateOptions(), _world.Hand, null, default);
        Assert.True(result.Status is UpdateStatus.Returned, result.Error);
        Assert.Contains("500", result.Error);
        Assert.Equal(Enumerable.Repeat("1", servers), Serving);
        _world.AssertWhole();
    });

    [Fact]
    public void OneThatFailsUnderLoadIsNoticedToo() => _world.Time.Run(async () =>
    {
        var old = _world.Add("FINANCE-1", Stage.Matrix, "m1");
        _world.Image = "2";
        var joined = TimeSpan.FromDays(1);
        _world.After = (op, _, _) =>
        {
            if (op == "join" && joined == TimeSpan.FromDays(1))
                joined = _world.Time.Elapsed;
            return null;
        };
        _world.HealthOf = name => name == "FINANCE-2" && _world.Time.Elapsed > joined + TimeSpan.FromSeconds(3) ? "hung" : null;
        var result = await _world.Mover.UpdateServiceAsync(Finance, new UpdateOptions(), _world.Hand, null, default);
        Assert.Equal(UpdateStatus.Returned, result.Status);
        Assert.Contains("did not stay healthy: hung", result.Error);
        Assert.Equal((Stage.Matrix, 0), (old.Mark.Stage, old.Mark.Generation));
        _world.AssertWhole();
    });

    [Fact]
    public void OldServersThatCannotBeDisposedOfAreTold() => _world.Time.Run(async () =>
    {
        _world.Add("FINANCE-1", Stage.Matrix, "m1");
        var stuck = _world.Add("FINANCE-2", Stage.Matrix, "m2");
        _world.Image = "2";
        _world.Before = (op, id, _) => op == "discard" && id == stuck.Mark.ServerId ? new VMatrixException("DiskBusy", VMatrixErrorKind.Failed, "The disk is in use.") : null;
        var result = await _world.Mover.UpdateServiceAsync(Finance, new UpdateOptions(), _world.Hand, null, default);
        Assert.Equal((UpdateStatus.Failed, 2), (result.Status, result.Replaced));
        Assert.Contains("FINANCE-2", result.Error);
        Assert.Contains("The disk is in use", result.Error);
        Assert.Equal(["2", "2"], Serving);

        _world.Before = null;
        await _world.Mover.RecoverAsync(_world.Hand, null, default);
        result = await _world.Mover.UpdateServiceAsync(Finance, new UpdateOptions(), _world.Hand, null, default);
        Assert.Equal((UpdateStatus.Done, Stage.Disposed), (result.Status, stuck.Mark.Stage));
    });

    [Fact]
    public void ServersOnAHostThatDoesNotAnswerAreNotCalledReplaced() => _world.Time.Run(async () =>
    {
        _world.Add("FINANCE-1", Stage.Matrix, "m1");
        _world.Add("FINANCE-2", Stage.Matrix, "m2");
        _world.Image = "2";
        _world.DownHosts.Add("m2");
        var result = await _world.Mover.UpdateServiceAsync(Finance, new UpdateOptions(), _world.Hand, null, default);
        Assert.Equal(UpdateStatus.Failed, result.Status);
        Assert.Contains("m2", result.Error);
        Assert.Equal(["1", "2"], Serving);
    });

    [Fact]
    public void CancelledItStopsBetweenTwoServersAndGoesOnLater() => _world.Time.Run(async () =>
    {
        for (var i = 1; i <= 3; i++)
            _world.Add($"FINANCE-{i}", Stage.Matrix, $"m{i}");
        _world.Image = "2";
        for (var after = 500; ; after += 1500)
        {
            using var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(after), _world.Time);
            var result = await _world.Mover.UpdateServiceAsync(Finance, new UpdateOptions { Watch = TimeSpan.FromSeconds(1) }, _world.Hand, null, cancel.Token);
            _world.AssertWhole();
            Assert.Equal(3, Serving.Length);
            if (result.Status is UpdateStatus.Done)
                break;
            Assert.True(result.Status is UpdateStatus.Cancelled, $"{result.Status}: {result.Error}");
        }
        Assert.Equal(["2", "2", "2"], Serving);
    });
}
