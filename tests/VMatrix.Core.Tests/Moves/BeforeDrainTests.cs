using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>A service's own script before a server of it leaves the balancer.</summary>
public sealed class BeforeDrainTests : IDisposable
{
    private readonly World _world = new() { Pace = TimeProvider.System };

    public void Dispose() => _world.Dispose();

    private string Script => Path.Combine(_world.StatePath, "before-drain.sh");

    private string Told => Path.Combine(_world.StatePath, "told");

    private async Task<MoveRecord> HibernateAsync(World.Server server, string body, UnixFileMode mode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute)
    {
        if (!OperatingSystem.IsLinux())
            throw new SkipException("need Linux");
        await File.WriteAllTextAsync(Script, "#!/bin/sh\n" + body);
        File.SetUnixFileMode(Script, mode);
        _world.Pool = _world.Pool with { Services = [.. _world.Pool.Services.Select(s => s with { BeforeDrainScript = Script })] };
        var mover = new Mover(_world.Pool, _world, _world, _world, _world.State, TimeProvider.System);
        return (await mover.CarryOutAsync([_world.Move(server, MoveKind.Hibernate, Stage.Nest)], _world.Hand, null, default))[0];
    }

    [SkippableFact]
    public async Task ItRunsBeforeTheDrainAndIsToldOfTheServer()
    {
        var server = _world.Add("FINANCE-1", Stage.Matrix, "m1");
        bool toldFirst = false;
        _world.Before = (op, _, _) =>
        {
            toldFirst |= op == "drain" && File.Exists(Told);
            return null;
        };
        var record = await HibernateAsync(server, $"echo \"$VMATRIX_SERVER $VMATRIX_SERVER_ID $VMATRIX_SERVICE $VMATRIX_HOST $VMATRIX_SERVER_ADDRESS $VMATRIX_MOVE\" > '{Told}'");
        Assert.True(record.Status is MoveStatus.Done, record.Error);
        Assert.True(toldFirst);
        var words = (await File.ReadAllTextAsync(Told)).Trim().Split(' ');
        Assert.Equal(["FINANCE-1", server.Mark.ServerId.ToString(), "FINANCE", "m1"], words.Take(4));
        Assert.StartsWith("127.0.0.1:", words[4], StringComparison.Ordinal);
        Assert.Equal("Hibernate", words[5]);
    }

    [SkippableTheory]
    [InlineData("exit 3", false, "BeforeDrainRefused", "ended with 3")]
    [InlineData("exit 0", true, "ScriptNotOwned", "chmod go-w")]
    public async Task WithAnyOtherEndAndWhereOthersMayWriteItTheServerServesOn(string body, bool writable, string id, string words)
    {
        var server = _world.Add("FINANCE-1", Stage.Matrix, "m1");
        var mode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | (writable ? UnixFileMode.GroupWrite : UnixFileMode.None);
        var record = await HibernateAsync(server, body, mode);
        Assert.Equal((MoveStatus.Undone, id), (record.Status, record.ErrorId));
        Assert.Contains(words, record.Error);
        Assert.DoesNotContain("drain", _world.Log);
        Assert.Equal((Stage.Matrix, MemberState.Ready), (server.Mark.Stage, _world.Members[server.Mark.ServerId].State));
        _world.AssertWhole();
    }
}
