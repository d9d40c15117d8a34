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
    /// <summary>Read by the child's own code; the shipped programs know nothing of it.</summary>
    private const string PointVariable = "VMATRIX_TEST_FAILPOINT";

    private static readonly JsonSerializerOptions s_json = new() { Converters = { new JsonStringEnumConverter() } };

    /// <summary>What the child process is told; without a move it takes up what another one left.</summary>
    public sealed record Order(string Driver, string Folder, Move? Move, Trouble? Trouble);

    /// <summary>A point that is passed only while a move is taken back, and what leads there.</summary>
    /// <param name="Point">The point's name.</param>
    /// <param name="Way">The way that is taken back.</param>
    /// <param name="Trouble">What makes it be taken back.</param>
    /// <param name="HasEffect">True when the compensating step really changes something there, and not only finds that nothing is to be taken back.</param>
    public sealed record BackPoint(string Point, Way Way, Trouble Trouble, bool HasEffect);

    /// <summary>Some of them, others on each day: a process is started for each, so that all of them take long.</summary>
    /// <param name="all">What is chosen from.</param>
    /// <param name="count">How many.</param>
    /// <param name="salt">Another number chooses others on the same day.</param>
    public static IReadOnlyList<T> OfTheDay<T>(IEnumerable<T> all, int count, int salt = 0)
    {
        var random = new Random(DateTime.UtcNow.DayOfYear + salt);
        return [.. all.OrderBy(_ => random.Next()).Take(count)];
    }

    /// <summary>The child's side: carries out the move of an order. Exit code 0 when it came to an end alive.</summary>
    public static async Task<int> RunAsync(string orderPath, Func<Order, DriverWorld> open)
    {
        Failpoint.KillAt(Environment.GetEnvironmentVariable(PointVariable));
        var order = JsonSerializer.Deserialize<Order>(await File.ReadAllTextAsync(orderPath), s_json)!;
        var world = open(order);
        await using var scene = await Scene.OpenAsync(world, order.Trouble is { } trouble ? real => new TroubledHypervisor(real, trouble) : null, order.Trouble is { } other ? real => new TroubledBalancer(real, other) : null);
        var record = order.Move is { } move ? await scene.CarryOutAsync(move) : Assert.Single(await scene.Mover.RecoverAsync(scene.Context(), null, default));
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
            Environment = { [PointVariable] = point, ["DOTNET_TieredPGO"] = "0", ["DOTNET_EnableDiagnostics"] = "0" },
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
    /// <param name="world">The world.</param>
    /// <param name="driver">Its name in orders.</param>
    /// <param name="folder">Where it lies.</param>
    /// <param name="assembly">The program that the child is.</param>
    /// <param name="way">The way.</param>
    /// <param name="point">Where the child dies.</param>
    /// <param name="trouble">What goes wrong in the child; null for nothing.</param>
    /// <param name="again">True to let a second child pick up, and die at the same point.</param>
    public static async Task KillAndRecoverAsync(DriverWorld world, string driver, string folder, string assembly, Way way, string point, Trouble? trouble = null, bool again = false)
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
        if (again)
            await KillAsync(assembly, new Order(driver, folder, null, trouble), point);
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

    /// <summary>Every point that is passed only while a move is taken back, found by trying on a world where trying is cheap; where there is a choice one whose step has an effect.</summary>
    public static async Task<IReadOnlyList<BackPoint>> FindBackPointsAsync(Func<DriverWorld> open)
    {
        var found = new Dictionary<string, BackPoint>();
        foreach (var way in Way.All.Concat(Way.Others))
        {
            // What the way does not call cannot go wrong.
            var none = new Trouble("", TroubleKind.Passing);
            await OnAsync(way, none);
            foreach (var call in none.Passed.Distinct())
            {
                foreach (var kind in new[] { TroubleKind.ForGood, TroubleKind.ForGoodAfter, TroubleKind.OnceAfter })
                    await OnAsync(way, new Trouble(call, kind));
            }
        }

        return [.. found.Values];

        async Task OnAsync(Way way, Trouble trouble)
        {
            await using var world = open();
            await world.RunAsync(() => TryAsync(world, way, trouble));
        }

        async Task TryAsync(DriverWorld world, Way way, Trouble trouble)
        {
            await using var calm = await Scene.OpenAsync(world);
            var move = await way.PrepareAsync(calm);
            await using var scene = await Scene.OpenAsync(world, real => new TroubledHypervisor(real, trouble), real => new TroubledBalancer(real, trouble));
            var passed = new List<(string Point, int Calls)>();
            Failpoint.Hook = point => passed.Add((point, trouble.Passed.Count));
            try
            {
                await scene.CarryOutAsync(move);
            }
            finally
            {
                Failpoint.Hook = null;
            }

            for (var i = 0; i < passed.Count; i++)
            {
                var (point, calls) = passed[i];
                if (!MoveRoutes.BackFailpoints.Contains(point))
                    continue;
                var twin = point.EndsWith(".before", StringComparison.Ordinal) ? passed.ElementAtOrDefault(i + 1) : passed[i - 1];
                var effect = twin.Point is not null && twin.Calls != calls;
                if (!found.TryGetValue(point, out var known) || (effect && !known.HasEffect))
                    found[point] = new BackPoint(point, way, new Trouble(trouble.Call, trouble.Kind), effect);
            }
        }
    }
}
