using System;
using System.Globalization;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests;

/// <summary>Numbers and times are written and read alike on every machine, whatever its culture.</summary>
public sealed class CultureTests
{
    public static TheoryData<string> Cultures => ["de-DE", "tr-TR", "ar-SA", "sv-SE"];

    private static T In<T>(string culture, Func<T> action)
    {
        var before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = CultureInfo.GetCultureInfo(culture);
        try
        {
            return action();
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Theory]
    [MemberData(nameof(Cultures))]
    public void A_plan_is_the_same_in_every_culture(string culture)
    {
        string Plan()
        {
            var world = new Planning.World(4, Planning.World.Service("FINANCE", priority: 2.5, capacity: 7.5), Planning.World.Service("SPORTS"));
            world.Add("FINANCE", Stage.Matrix, "host1");
            for (int i = 0; i < 5; i++)
            {
                world.Now += TimeSpan.FromSeconds(1);
                world.Load("FINANCE", 12.25, queue: 2);
                world.Load("SPORTS", 1.5);
            }

            return JsonSerializer.Serialize(world.Plan());
        }

        Assert.Equal(Plan(), In(culture, Plan));
    }

    [Theory]
    [MemberData(nameof(Cultures))]
    public void An_error_tells_seconds_with_a_point(string culture) => In(culture, () =>
    {
        using var world = new Moves.World();
        world.Pool = world.Pool with { Limits = new LimitSpec { Tries = 1, StepTimeout = TimeSpan.FromSeconds(2.5) } };
        world.MakeMover();
        world.Time.Run(async () =>
        {
            var server = world.Add("A", Stage.Matrix, "m1");
            _ = new Moves.World.Hang(world, "save");
            var record = await world.CarryOut(world.Move(server, MoveKind.Hibernate, Stage.Nest));
            Assert.Contains("2.5 s", record.Error);
        });
        return true;
    });
}
