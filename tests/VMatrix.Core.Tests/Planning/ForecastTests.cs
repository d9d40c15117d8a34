using System;
using System.Linq;
using System.Text.Json;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Planning;

public sealed class ForecastTests
{
    private static ServiceSpec Service => World.Service("FINANCE", priority: 1, most: 3);

    /// <summary>Two minutes of quiet and spike, again and again: the spike is in the seconds from 60 to 80 of each round.</summary>
    private static double Rate(int second) => second % 120 is >= 60 and < 80 ? 9 : 2;

    private static World Repeating(TimeSpan season)
    {
        var world = new World(3, Service);
        world.Pool = world.Pool with { Oracle = world.Pool.Oracle with { Season = season, Calm = TimeSpan.FromSeconds(5) } };
        return world;
    }

    /// <summary>Plans second by second; returns how many servers were live when each spike began and just before quiet ended.</summary>
    private static (int AtStart, int InQuiet)[] Play(World world, int rounds)
    {
        var seen = new (int, int)[rounds];
        for (int t = 0; t < rounds * 120; t++)
        {
            world.Now += TimeSpan.FromSeconds(1);
            if (t % 120 == 60)
                seen[t / 120].Item1 = world.Live("FINANCE");
            if (t % 120 == 30)
                seen[t / 120].Item2 = world.Live("FINANCE");
            world.Load("FINANCE", Rate(t));
            world.Apply(world.Plan());
        }

        return seen;
    }

    [Fact]
    public void A_saved_forecast_that_unpacks_without_end_or_names_absurd_numbers_is_learned_anew()
    {
        var settings = new ForecastSettings();
        var learned = new Forecaster(settings, 3);
        for (int minute = 0; minute < 10; minute++)
            learned.Observe(minute, 2);
        byte[] plain = Unpack(learned.Save());
        Assert.Equal(9, Forecaster.Load(settings, Pack(plain, 0))!.Minute);

        byte[] bomb = Pack(plain, 512 << 20);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Null(Forecaster.Load(settings, bomb));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 64 << 20);

        foreach (var (at, value) in new (int, long)[] { (9, int.MaxValue), (13, long.MinValue), (13, long.MaxValue), (21, -1), (29, BitConverter.DoubleToInt64Bits(double.NaN)), (29, 0) })
        {
            byte[] absurd = [.. plain];
            BitConverter.GetBytes(value).AsSpan(0, at == 9 ? 4 : 8).CopyTo(absurd.AsSpan(at));
            Assert.Null(Forecaster.Load(settings, Pack(absurd, 0)));
        }

        static byte[] Unpack(byte[] packed)
        {
            using var whole = new System.IO.MemoryStream();
            using var deflate = new System.IO.Compression.DeflateStream(new System.IO.MemoryStream(packed), System.IO.Compression.CompressionMode.Decompress);
            deflate.CopyTo(whole);
            return whole.ToArray();
        }

        static byte[] Pack(byte[] plain, int more)
        {
            using var packed = new System.IO.MemoryStream();
            using (var deflate = new System.IO.Compression.DeflateStream(packed, System.IO.Compression.CompressionLevel.Fastest, leaveOpen: true))
            {
                deflate.Write(plain);
                var zeros = new byte[1 << 20];
                for (int done = 0; done < more; done += zeros.Length)
                    deflate.Write(zeros);
            }

            return packed.ToArray();
        }
    }

    [Fact]
    public void A_server_wakes_ahead_of_a_spike_that_repeats_itself()
    {
        var seen = Play(Repeating(TimeSpan.FromMinutes(2)), 12);
        Assert.Equal(1, seen[0].AtStart);
        Assert.All(seen.Skip(8), s => Assert.True(s.AtStart >= 2, "no server was woken ahead of the spike"));
        Assert.All(seen.Skip(8), s => Assert.Equal(1, s.InQuiet));
    }

    [Fact]
    public void The_memory_survives_being_stored_as_text()
    {
        var world = Repeating(TimeSpan.FromMinutes(2));
        Play(world, 3);
        var stored = JsonSerializer.Deserialize<PlannerMemory>(JsonSerializer.Serialize(world.Memory))!;
        world.Now += TimeSpan.FromSeconds(1);
        world.Load("FINANCE", 2);
        var input = world.Input();
        Assert.Equal(JsonSerializer.Serialize(Planner.Plan(input).Plan), JsonSerializer.Serialize(Planner.Plan(input with { Memory = stored }).Plan));
    }

    [Fact]
    public void Planning_leaves_the_memory_it_was_given_as_it_was()
    {
        var world = Repeating(TimeSpan.FromMinutes(2));
        Play(world, 2);
        string before = JsonSerializer.Serialize(world.Memory);
        var memory = world.Memory;
        Play(world, 1);
        Assert.Equal(before, JsonSerializer.Serialize(memory));
        Assert.NotEqual(before, JsonSerializer.Serialize(world.Memory));
    }

    [Fact]
    public void Memory_of_another_season_is_set_aside()
    {
        var world = Repeating(TimeSpan.FromMinutes(2));
        Play(world, 2);
        world.Pool = world.Pool with { Oracle = world.Pool.Oracle with { Season = TimeSpan.FromDays(1) } };
        world.Now += TimeSpan.FromSeconds(1);
        world.Load("FINANCE", 9);
        var input = world.Input();
        var without = input with { Memory = input.Memory! with { Forecasts = input.Memory.Forecasts.Where(_ => false).ToDictionary(p => p.Key, p => p.Value) } };
        Assert.Equal(Planner.Plan(without).Plan.Decisions, Planner.Plan(input).Plan.Decisions);
        var stored = JsonSerializer.Deserialize<PlannerMemory>(JsonSerializer.Serialize(input.Memory))!;
        Assert.Equal(Planner.Plan(without).Plan.Decisions, Planner.Plan(input with { Memory = stored }).Plan.Decisions);
    }
}
