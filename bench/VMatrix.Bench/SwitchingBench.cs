using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using VMatrix.Planning;

namespace VMatrix.Bench;

/// <summary>How much of the possible gain the Oracle's decisions take, minute by minute, beside the usual rule and the bound.</summary>
internal static class SwitchingBench
{
    private static readonly Option<string> s_folder = new("--folder")
    {
        Description = "Folder with trace*.csv and the scenario*.json of the same ending.",
        DefaultValueFactory = _ => Path.Combine("..", "shared", "bench", "switching"),
    };

    private static readonly Option<bool> s_variants = new("--variants")
    {
        Description = "Also each trace backwards, with other weights, prices, delays, pools and grains: guards against fitting.",
    };

    public static Command Create()
    {
        Command command = new("switching", "Quality of the Oracle's decisions on traces of demand: share of the possible gain, beside the usual autoscaling rule.") { s_folder, s_variants };
        command.SetAction(result =>
        {
            Print("case", "usual rule", "Oracle", "seconds");
            foreach (var (name, scenario, trace) in Cases(result.GetValue(s_folder)!, result.GetValue(s_variants)))
            {
                SwitchingCosts costs = new(scenario, trace);
                var watch = Stopwatch.StartNew();
                int[][] decisions = TraceSimulation.Run(scenario, trace);
                double seconds = watch.Elapsed.TotalSeconds;
                Print(name, Number(costs.Closed(costs.Cost(costs.Threshold()))), Number(costs.Closed(costs.Cost(decisions))), seconds.ToString("0.0", CultureInfo.InvariantCulture));
            }

            return 0;
        });
        return command;
    }

    public static Command CreateSensitivity()
    {
        Command command = new("sensitivity", "Each constant of the forecast and of the economy halved and doubled: what the Oracle then closes.") { s_folder };
        command.SetAction(result =>
        {
            var cases = Cases(result.GetValue(s_folder)!, variants: false).Select(c => (c.Name, c.Scenario, c.Trace, Costs: new SwitchingCosts(c.Scenario, c.Trace))).ToList();
            Print(["constant", "times", .. cases.Select(c => c.Name)]);
            Run("defaults", "1", new OracleSpec(), new ForecastSettings());
            foreach (double factor in new[] { 0.5, 0.7, 1.4, 2 })
            {
                ForecastSettings f = new();
                OracleSpec o = new();
                string times = factor.ToString(CultureInfo.InvariantCulture);
                Run("Scales", times, o, f with { Scales = [.. f.Scales.Select(s => Math.Max(1, s * factor))] });
                Run("Offset", times, o, f with { Offset = f.Offset * factor });
                Run("ErrorMemory", times, o, f with { ErrorMemory = f.ErrorMemory * factor });
                Run("Prior", times, o, f with { Prior = f.Prior * factor });
                Run("PriorSpread", times, o, f with { PriorSpread = f.PriorSpread * factor });
                Run("ScoreMemory", times, o, f with { ScoreMemory = f.ScoreMemory * factor });
                Run("Trust", times, o, f with { Trust = f.Trust * factor });
                Run("CommonShare", times, o, f with { CommonShare = f.CommonShare * factor });
                Run("CaseWidth", times, o, f with { CaseWidth = f.CaseWidth * factor });
                Run("SeasonBlur", times, o, f with { SeasonBlur = f.SeasonBlur * factor });
                Run("Day", times, o, f with { Day = f.Day * factor });
                Run("Stay", times, o with { Stay = o.Stay * factor }, f);
                Run("Horizon", times, o with { Horizon = TimeSpan.FromTicks((long)(o.Horizon.Ticks * factor)) }, f);
            }

            return 0;

            void Run(string name, string times, OracleSpec oracle, ForecastSettings forecast) =>
                Print([name, times, .. cases.Select(c => Number(c.Costs.Closed(c.Costs.Cost(TraceSimulation.Run(c.Scenario, c.Trace, oracle, forecast)))))]);
        });
        return command;
    }

    private static IEnumerable<(string Name, TraceScenario Scenario, IReadOnlyList<double[]> Trace)> Cases(string folder, bool variants)
    {
        foreach (string file in Directory.GetFiles(folder, "trace*.csv").OrderBy(f => f, StringComparer.Ordinal))
        {
            string ending = Path.GetFileNameWithoutExtension(file)["trace".Length..];
            var scenario = TraceScenario.Read(Path.Combine(folder, $"scenario{ending}.json"));
            var trace = TraceSimulation.ReadTrace(file, scenario);
            string name = "trace" + ending;
            yield return (name, scenario, trace);
            if (!variants)
                continue;
            yield return (name + " backwards", scenario, [.. trace.Reverse()]);
            yield return (name + " first half", scenario, [.. trace.Take(trace.Count / 2)]);
            yield return (name + " second half", scenario, [.. trace.Skip(trace.Count / 2)]);
            yield return (name + " weights reversed", With(scenario, (s, i) => s with { Weight = scenario.Services[^(i + 1)].Weight }), trace);
            yield return (name + " equal weights", With(scenario, (s, _) => s with { Weight = 2 }), trace);
            yield return (name + " a third of the capacity", With(scenario, (s, _) => s with { Capacity = s.Capacity / 3 }), trace);
            yield return (name + " thrice the capacity", With(scenario, (s, _) => s with { Capacity = s.Capacity * 3 }), trace);
            yield return (name + " 12 hosts", scenario with { Hosts = 12 }, trace);
            yield return (name + " least 3", With(scenario, (s, _) => s with { Min = 3 }), trace);
            yield return (name + " servers x 3", scenario with { ServerCost = scenario.ServerCost * 3 }, trace);
            yield return (name + " activations x 5", scenario with { ActivationCost = scenario.ActivationCost * 5 }, trace);
            yield return (name + " activations / 10", scenario with { ActivationCost = scenario.ActivationCost / 10 }, trace);
            yield return (name + " delay 2", scenario with { ActivationDelay = 2 }, trace);
            yield return (name + " delay 3", scenario with { ActivationDelay = 3 }, trace);
        }
    }

    private static TraceScenario With(TraceScenario scenario, Func<TraceService, int, TraceService> change) =>
        scenario with { Services = [.. scenario.Services.Select(change)] };

    private static string Number(double value) => value.ToString("0.0000", CultureInfo.InvariantCulture);

    private static void Print(params string[] cells) => Console.WriteLine(string.Join("  ", cells.Select((c, i) => i == 0 ? c.PadRight(34) : c.PadLeft(10))));
}
