using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Threading.Tasks;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Contract;

/// <summary>A process of its own that carries out one move and is ended with SIGKILL at a failpoint.</summary>
public static class Victim
{
    private static readonly JsonSerializerOptions s_json = new() { Converters = { new JsonStringEnumConverter() } };

    /// <summary>What the child process is told.</summary>
    public sealed record Order(string Driver, string Folder, Move Move, Trouble? Trouble);

    /// <summary>The child's side: carries out the move of an order. Exit code 0 when it came to an end alive.</summary>
    public static async Task<int> RunAsync(string orderPath, Func<Order, DriverWorld> open)
    {
        var order = JsonSerializer.Deserialize<Order>(await File.ReadAllTextAsync(orderPath), s_json)!;
        var world = open(order);
        await using var scene = await Scene.OpenAsync(world, order.Trouble is { } trouble ? real => new TroubledHypervisor(real, trouble) : null, order.Trouble is { } other ? real => new TroubledBalancer(real, other) : null);
        var record = await scene.CarryOutAsync(order.Move);
        Console.WriteLine($"{record.Status} in {record.Step}: {record.Error}");
        return 0;
    }

    /// <summary>The parent's side: starts a child that carries the move out and kills itself at the point. Returns when it is dead, and fails when it lives.</summary>
    public static async Task KillAsync(string assembly, Order order, string point)
    {
        var path = Path.Combine(order.Folder, $"order-{Guid.NewGuid():N}.json");
        await File.WriteAllTextAsync(path, JsonSerializer.Serialize(order, s_json));
        var start = new ProcessStartInfo(Environment.ProcessPath is { } host && Path.GetFileNameWithoutExtension(host) == "dotnet" ? host : "dotnet")
        {
            ArgumentList = { "exec", assembly, "carry-out", path },
            // What is killed cannot take its debugger's pipes away.
            Environment = { ["VMATRIX_FAILPOINT"] = point, ["DOTNET_TieredPGO"] = "0", ["DOTNET_EnableDiagnostics"] = "0" },
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var child = Process.Start(start)!;
        try
        {
            var output = Task.WhenAll(child.StandardOutput.ReadToEndAsync(), child.StandardError.ReadToEndAsync());
            await child.WaitForExitAsync();
            Assert.True(child.ExitCode == 137, $"{point}: the process was to be ended by SIGKILL (137) and ended with {child.ExitCode}: {string.Join("\n", await output)}");
        }
        finally
        {
            if (!child.HasExited)
                child.Kill();
            File.Delete(path);
        }
    }

    /// <summary>Kills a child at a point of a way, and lets this process pick up what it left.</summary>
    public static async Task KillAndRecoverAsync(DriverWorld world, string driver, string folder, string assembly, Way way, string point, Trouble? trouble = null)
    {
        Move move;
        HashSet<Guid> made;
        await using (var before = await Scene.OpenAsync(world))
        {
            Assert.Null(way.WhyNot(before));
            move = await way.PrepareAsync(before);
            made = before.Made;
        }

        await KillAsync(assembly, new Order(driver, folder, move, trouble), point);
        world.Forget();
        await using (var next = await Scene.OpenAsync(world))
        {
            next.Made.UnionWith(made);
            if (!point.EndsWith(".ending", StringComparison.Ordinal) || next.State.ReadOpenMoves().Count > 0)
                Assert.Equal(MoveStatus.Interrupted, Assert.Single(next.State.ReadOpenMoves()).Status);

            // Whoever comes next comes after a minute, when a half-written file can be nobody's any more.
            foreach (var file in Directory.EnumerateFiles(world.Pool.StateFolder, "*.tmp", SearchOption.AllDirectories))
                File.SetLastWriteTimeUtc(file, DateTime.UtcNow.AddMinutes(-2));
            var record = Assert.Single(await next.Mover.RecoverAsync(next.Context(), null, default));
            Assert.True(record.Status is MoveStatus.Done or MoveStatus.Undone, $"{point}: {record.Status} in {record.Step}: {record.Error}");
            await way.ExpectAsync(next, move, record.Status);
            await next.CheckAsync();
            await next.ClearAsync();
        }

        Assert.Empty(Directory.EnumerateFiles(Path.Combine(world.Pool.StateFolder, "owners")));
        Assert.Empty(Directory.EnumerateFiles(Path.Combine(world.Pool.StateFolder, "moves")));
    }

    /// <summary>The points that are passed only while a move is taken back, each with a way and a trouble that lead there; found by trying, on a world where trying is cheap.</summary>
    public static async Task<Dictionary<string, (Way Way, Trouble Trouble)>> FindBackPointsAsync(Func<DriverWorld> open)
    {
        var found = new Dictionary<string, (Way, Trouble)>();
        foreach (var way in Way.All.Concat(Way.Others))
        {
            foreach (var call in TroubledHypervisor.Calls.Concat(TroubledBalancer.Calls))
            {
                await using var world = open();
                await world.RunAsync(async () =>
                {
                    var trouble = new Trouble(call, TroubleKind.ForGood);
                    await using var calm = await Scene.OpenAsync(world);
                    var move = await way.PrepareAsync(calm);
                    await using var scene = await Scene.OpenAsync(world, real => new TroubledHypervisor(real, trouble), real => new TroubledBalancer(real, trouble));
                    var passed = new List<string>();
                    Failpoint.Hook = passed.Add;
                    await scene.CarryOutAsync(move);
                    Failpoint.Hook = null;
                    foreach (var point in passed.Where(MoveRoutes.BackFailpoints.Contains))
                        found.TryAdd(point, (way, new Trouble(call, TroubleKind.ForGood)));
                });
            }
        }

        return found;
    }
}
