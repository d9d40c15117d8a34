using System;
using System.Linq;
using System.Text.Json;
using CsCheck;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Placement;

/// <summary>What holds for every plan of every pool.</summary>
public sealed class PlacementPropertyTests
{
    // Quick runs always see the same pools; the long run sees new ones each time.
    private const string Seed = "0000KolT3hG4";
    private const int Quick = 300;
    private const int Long = 5000;

    [Fact]
    public void No_plan_breaks_a_rule() => NoPlanBreaksARule(Quick, Seed);

    [Fact]
    [Trait("Category", "Long")]
    public void No_plan_of_many_breaks_a_rule() => NoPlanBreaksARule(Long, null);

    [Fact]
    public void The_second_plan_is_empty() => TheSecondPlanIsEmpty(Quick, Seed);

    [Fact]
    public void The_same_input_makes_the_same_plan_to_the_byte() =>
        RandomPool.Gen(Wildness.Wild, 12, 6).Sample(
            pool => Assert.Equal(JsonSerializer.Serialize(Planner.Plan(pool.Input())), JsonSerializer.Serialize(Planner.Plan(pool.Input()))),
            seed: Seed,
            iter: 100);

    [Fact]
    public void Balancing_beside_wishes_comes_to_an_end()
    {
        var input = new RandomPool(279071, 7, 4, Wildness.Wild).Input();
        Assert.Empty(PlanChecker.Check(input, Planner.Plan(input).Plan));
    }

    private static void NoPlanBreaksARule(int pools, string? seed) =>
        RandomPool.Gen(Wildness.Wild, 12, 6).Sample(
            pool =>
            {
                var input = pool.Input();
                var plan = Planner.Plan(input).Plan;
                var broken = PlanChecker.Check(input, plan);
                Assert.True(broken.Count == 0, string.Join("\n", broken) + RandomPool.Tell(input, plan));
            },
            seed: seed,
            iter: pools);

    private static void TheSecondPlanIsEmpty(int pools, string? seed) =>
        RandomPool.Gen(Wildness.Wild, 12, 6).Sample(
            pool =>
            {
                var input = pool.Input();
                var first = Planner.Plan(input);
                var after = RandomPool.After(input, first);
                var second = Planner.Plan(after).Plan;
                Assert.True(second.Moves.Count == 0, RandomPool.Tell(input, first.Plan, second));
            },
            seed: seed,
            iter: pools);
}
