using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using CsCheck;
using VMatrix.Planning;
using Xunit;

namespace VMatrix.Tests.Planning;

public sealed class TraceSimulationTests
{
    private static readonly TraceScenario s_scenario = new()
    {
        Hosts = 8,
        ActivationDelay = 1,
        ServerCost = 0.05,
        ActivationCost = 0.2,
        Services =
        [
            new TraceService { Name = "FINANCE", Weight = 4, Capacity = 30, Min = 1 },
            new TraceService { Name = "SPORTS", Weight = 2, Capacity = 2000, Min = 2 },
        ],
    };

    private static readonly Gen<double[]> s_minute = Gen.Select(Gen.Double[0, 200], Gen.Double[0, 20000], (f, s) => new[] { f, s });

    [Fact]
    public void Decisions_for_a_minute_know_only_the_minutes_before_it() =>
        Gen.Select(s_minute.Array[40, 80], s_minute.Array[40, 80], Gen.Int[0, 39]).Sample(
            (one, other, t) =>
            {
                // Two traces that are alike before minute t and nowhere after.
                var changed = one.Take(t).Concat(other).Take(one.Length).ToArray();
                var a = TraceSimulation.Run(s_scenario, one);
                var b = TraceSimulation.Run(s_scenario, changed);
                for (int m = 0; m <= t; m++)
                    Assert.Equal(a[m], b[m]);
            },
            iter: 30);

    [Fact]
    public void What_comes_changes_what_is_decided_after_it()
    {
        var quiet = Enumerable.Repeat(new double[] { 20, 1000 }, 60).ToArray();
        var spike = quiet.Select((m, t) => t == 30 ? [200, 1000] : m).ToArray();
        var a = TraceSimulation.Run(s_scenario, quiet);
        var b = TraceSimulation.Run(s_scenario, spike);
        Assert.Equal(a[30], b[30]);
        Assert.True(b[31][0] > a[31][0], "a minute of ten times the load gains no server");
    }

    [Fact]
    public void Hosts_and_least_counts_hold_in_every_minute() =>
        s_minute.Array[50].Sample(
            trace =>
            {
                foreach (int[] held in TraceSimulation.Run(s_scenario, trace))
                {
                    Assert.True(held.Sum() <= s_scenario.Hosts);
                    Assert.True(held[0] >= 1 && held[1] >= 2);
                }
            },
            iter: 30);

    [Fact]
    public void Saves_against_a_fixed_split_on_a_load_that_moves()
    {
        var random = new Random(3);
        var trace = Enumerable.Range(0, 3000).Select(t => new[] { Noisy(t / 300 % 2 == 0 ? 30 : 150), Noisy(t / 300 % 2 == 0 ? 10000 : 3000) }).ToArray();
        double Noisy(double mean) => mean * Math.Exp(0.2 * (random.NextDouble() + random.NextDouble() - 1));
        double oracle = Cost(TraceSimulation.Run(s_scenario, trace), trace);
        double best = Enumerable.Range(1, 5).Select(f => Cost(Enumerable.Repeat(new[] { f, 8 - f }, trace.Length).ToArray(), trace)).Min();
        Assert.True(oracle < 0.75 * best, $"{oracle:0} against {best:0}");
    }

    private static double Cost(int[][] held, double[][] trace)
    {
        double cost = 0;
        for (int t = 1; t < trace.Length; t++)
        {
            for (int s = 0; s < 2; s++)
            {
                var service = s_scenario.Services[s];
                int serving = Math.Min(held[t][s], held[t - 1][s]);
                cost += service.Weight * Math.Max(0, trace[t][s] / service.Capacity - serving) + 0.05 * held[t][s] + 0.2 * Math.Max(0, held[t][s] - held[t - 1][s]);
            }
        }

        return cost;
    }

    [Fact]
    public void Files_are_read_and_their_mistakes_named()
    {
        string folder = Directory.CreateTempSubdirectory("vmatrix-trace-").FullName;
        try
        {
            string scenarioFile = Path.Combine(folder, "scenario.json"), traceFile = Path.Combine(folder, "trace.csv"), decisionsFile = Path.Combine(folder, "decisions.csv");
            File.WriteAllText(scenarioFile, """{ "hosts": 4, "activationDelay": 1, "serverCost": 0.05, "activationCost": 0.2, "services": [ { "name": "A", "weight": 1, "capacity": 10, "min": 1 } ] }""");
            File.WriteAllText(traceFile, "minute,B,A\n0,7,5\n1,7,25\n2,7,25\n");
            var scenario = TraceScenario.Read(scenarioFile);
            var trace = TraceSimulation.ReadTrace(traceFile, scenario);
            Assert.Equal([5, 25, 25], trace.Select(m => m[0]));
            TraceSimulation.WriteDecisions(decisionsFile, scenario, TraceSimulation.Run(scenario, trace));
            Assert.Equal(["minute,A", "0,1", "1,1"], File.ReadLines(decisionsFile).Take(3));

            File.WriteAllText(traceFile, "minute,A\n0,5\n1,many\n");
            Assert.Contains("line 3", Assert.Throws<VMatrixException>(() => TraceSimulation.ReadTrace(traceFile, scenario)).Message, StringComparison.Ordinal);
            File.WriteAllText(traceFile, "minute,B\n0,5\n");
            Assert.Contains("column A", Assert.Throws<VMatrixException>(() => TraceSimulation.ReadTrace(traceFile, scenario)).Message, StringComparison.Ordinal);
            File.WriteAllText(scenarioFile, """{ "hosts": 0, "services": [] }""");
            Assert.Equal("ScenarioInvalid", Assert.Throws<VMatrixException>(() => TraceScenario.Read(scenarioFile)).Id);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
