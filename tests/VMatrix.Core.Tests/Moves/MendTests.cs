using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>The journal of a cut-short move is lost as well: what is left is the truth alone.</summary>
public sealed class MendTests
{
    public static TheoryData<string> Points => [.. MoveRoutes.Failpoints.Where(p => p.Split('.')[0] is "wake" or "hibernate" or "relocate" or "dispose" or "undo" or "create")];

    [Theory]
    [MemberData(nameof(Points))]
    public void AServerWithoutItsJournalComesToRest(string point)
    {
        using var world = new World();
        world.Time.Run(async () =>
        {
            var move = point.Split('.')[0] switch
            {
                "create" => world.Create(),
                "wake" => world.Move(world.Add("A", Stage.Nest, null), MoveKind.Wake, Stage.Matrix, "m1"),
                "hibernate" => world.Move(world.Add("A", Stage.Matrix, "m1"), MoveKind.Hibernate, Stage.Nest),
                "relocate" => world.Move(world.Add("A", Stage.Matrix, "m1"), MoveKind.Relocate, Stage.Matrix, "m2"),
                "dispose" => world.Move(world.Add("A", Stage.Matrix, "m1"), MoveKind.Dispose, Stage.Disposed),
                _ => world.Move(world.Add("A", Stage.Disposed, null), MoveKind.Undo, Stage.Nest),
            };
            Failpoint.Hook = p =>
            {
                if (p == point)
                    throw new AbandonException(p);
            };
            await Assert.ThrowsAsync<AbandonException>(() => world.CarryOut(move));
            Failpoint.Hook = null;
            foreach (var journal in Directory.GetFiles(Path.Combine(world.StatePath, "moves")))
                File.Delete(journal);
            world.Reopen();
            await world.Mover.MendAsync(world.Hand, null, default);
            await world.Mover.ReconcileAsync(world.Hand, null, default);

            // A server of the Matrix whose machine is gone is the Oracle's to replace: its hibernation still works.
            var server = world.Servers.Values.SingleOrDefault();
            if (server is { Place: World.Place.Host } && server.Power is not PowerState.Running)
                Assert.Equal(MoveStatus.Done, (await world.CarryOut(world.Move(server, MoveKind.Hibernate, Stage.Nest))).Status);
            world.AssertWhole();
            Assert.Empty(await world.Mover.MendAsync(world.Hand, null, default));
        });
    }
}
