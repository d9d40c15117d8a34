using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Placement;

/// <summary>What hosts are balanced by, and when.</summary>
public sealed class BalancingTests
{
    private static readonly ServiceSpec s_service = new() { Name = "A", Isolation = Isolation.Shared, Least = 4, Most = 4, Capacity = 100, Image = new ImageSpec() };

    [Fact]
    public void Hosts_are_balanced_only_while_one_of_them_is_used_above_what_is_asked()
    {
        // Four of 128 MiB on a host of 1 GiB: half of it is used.
        var input = Pool(o => o with { BalanceGap = 0.2 }, "host1", "host1", "host1", "host1");
        Assert.NotEmpty(Plan(input).Moves);
        Assert.Empty(Plan(With(input, o => o with { BalanceAbove = 0.6 })).Moves);
        Assert.NotEmpty(Plan(With(input, o => o with { BalanceAbove = 0.4 })).Moves);
        Assert.Empty(Plan(With(input, o => o with { BalanceAbove = 0.6 })).Unmet);
    }

    [Fact]
    public void Hosts_are_balanced_by_processors_in_use()
    {
        // Alike in memory; those on host1 are busy.
        var input = Pool(o => o with { BalanceGap = 0.3, BalanceBy = BalanceMeasure.Processor }, "host1", "host1", "host2", "host2");
        input = input with { Servers = [.. input.Servers.Select((s, n) => s with { ProcessorUse = n < 2 ? 1 : 0 })] };
        var move = Assert.Single(Plan(input).Moves);
        Assert.Equal(("host1", "host2"), (move.FromHost, move.ToHost));
        Assert.Contains("processor", move.Reason, StringComparison.Ordinal);
        Assert.Empty(Plan(With(input, o => o with { BalanceBy = BalanceMeasure.Memory })).Moves);
        // A host that states no cores cannot be measured.
        var unknown = input with { Pool = input.Pool with { Hosts = [.. input.Pool.Hosts.Select(h => h with { Cores = null })] } };
        Assert.Empty(Plan(unknown).Moves);
        Assert.Contains("2 state no cores", Assert.Single(Plan(unknown).Unmet).Why, StringComparison.Ordinal);
    }

    [Fact]
    public void Where_hosts_are_balanced_by_both_neither_is_made_worse_for_the_other()
    {
        int moved = 0;
        for (int seed = 0; seed < 200; seed++)
        {
            var r = new Random(seed);
            var input = Pool(o => o with { BalanceGap = 0.15, BalanceBy = BalanceMeasure.Both }, [.. Enumerable.Range(0, 8).Select(_ => $"host{r.Next(1, 4)}")]);
            input = input with
            {
                Pool = input.Pool with { Services = [s_service with { Least = 8, Most = 8 }], Hosts = [.. input.Pool.Hosts.Select(h => h with { Cores = 8 })] },
                Servers = [.. input.Servers.Select(s => s with { MemoryUsedBytes = r.Next(1, 128) << 20, ProcessorUse = r.NextDouble() })],
            };
            var output = Planner.Plan(input);
            var after = RandomPool.After(input, output);
            double before = Excess(input, Memory) + Excess(input, Processor), now = Excess(after, Memory) + Excess(after, Processor);
            Assert.True(output.Plan.Moves.Count == 0 ? now == before : now == 0 || now < before - 0.005, $"seed {seed}: {before} to {now}");
            Assert.True(Excess(after, Memory) <= Excess(input, Memory) + 1e-6 && Excess(after, Processor) <= Excess(input, Processor) + 1e-6, $"seed {seed}");
            Assert.Empty(Planner.Plan(after with { Now = after.Now.AddHours(1), Loads = Loads(after.Now.AddHours(1)) }).Plan.Moves);
            moved += output.Plan.Moves.Count;
        }

        Assert.True(moved > 100, $"{moved}");
    }

    [Fact]
    public void A_server_that_is_never_to_be_balanced_stays_where_another_goes()
    {
        var input = Pool(o => o with { BalanceGap = 0.3 }, "host1", "host1", "host1", "host1");
        var pinned = input with { Pool = input.Pool with { Services = [s_service with { NeverBalance = ["A-1", "A-2"] }] } };
        string[] gone = [.. Plan(pinned).Moves.Select(m => m.ServerName)];
        Assert.NotEmpty(gone);
        Assert.DoesNotContain("A-1", gone);
        Assert.DoesNotContain("A-2", gone);
        Assert.Empty(Plan(pinned with { Pool = pinned.Pool with { Services = [s_service with { NeverBalance = ["*"] }] } }).Moves);
        // Rules hold all the same.
        Assert.Equal(4, Plan(pinned with { Hosts = [.. input.Hosts.Select(h => h with { Suspended = h.Name == "host1" })] }).Moves.Count);
    }

    private static double Memory(ServerState s) => s.MemoryUsedBytes!.Value / (double)(1L << 30);

    private static double Processor(ServerState s) => s.ProcessorUse!.Value * s.Cores / 8;

    private static double Excess(PlannerInput input, Func<ServerState, double> use)
    {
        double[] by = [.. input.Pool.Hosts.Select(h => input.Servers.Where(s => s.Host == h.Name).Sum(use))];
        return Math.Max(0, by.Max() - by.Min() - 0.15);
    }

    private static Plan Plan(PlannerInput input)
    {
        var plan = Planner.Plan(input).Plan;
        Assert.Empty(PlanChecker.Check(input, plan));
        return plan;
    }

    private static IReadOnlyDictionary<string, IReadOnlyList<ServiceLoad>> Loads(DateTimeOffset at) => new Dictionary<string, IReadOnlyList<ServiceLoad>> { ["A"] = [new ServiceLoad { Service = "A", At = at, RequestRate = 1, ServedRate = 1 }] };

    private static PlannerInput Pool(Func<OracleSpec, OracleSpec> oracle, params string[] hosts)
    {
        var input = PlacementRulesTests.Pool(hosts.Contains("host3") ? 3 : 2, [s_service], [.. hosts.Select(h => ("A", (string?)h))]);
        return With(input with { Pool = input.Pool with { Hosts = [.. input.Pool.Hosts.Select(h => h with { Cores = 4 })] } }, oracle);
    }

    private static PlannerInput With(PlannerInput input, Func<OracleSpec, OracleSpec> oracle) => input with { Pool = input.Pool with { Oracle = oracle(input.Pool.Oracle) } };
}
