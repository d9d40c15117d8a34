using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Linq;
using Spectre.Console;
using VMatrix.Planning;

namespace VMatrix.Oracle.Commands;

/// <summary><c>vmatrix-oracle simulate</c>.</summary>
internal static class SimulateCommand
{
    public static Command Create()
    {
        var trace = new Option<FileInfo>("--trace") { Description = "Requests by minute: a CSV file with a heading and a column for each service.", Required = true };
        var scenario = new Option<FileInfo>("--scenario") { Description = "The pool: a JSON file with hosts, costs and services.", Required = true };
        var decisions = new Option<FileInfo?>("--decisions") { Description = "Write the servers that each service holds, minute by minute, to this CSV file." };
        var command = new Command("simulate", "Plays a history of demand through the Oracle's mind, minute by minute, and shows what it would have decided. It sees the minutes before each decision and none after.") { trace, scenario, decisions };
        command.SetAction(parsed => Run(parsed.GetValue(trace)!, parsed.GetValue(scenario)!, parsed.GetValue(decisions)));
        return command;
    }

    private static int Run(FileInfo traceFile, FileInfo scenarioFile, FileInfo? decisionsFile)
    {
        // Told before the work, not after it.
        if (decisionsFile?.Directory is { Exists: false } missing)
            throw new VMatrixException("FolderNotFound", VMatrixErrorKind.NotFound, $"The folder {missing.FullName} for the decisions does not exist.");
        TraceScenario scenario = TraceScenario.Read(scenarioFile.FullName);
        IReadOnlyList<double[]> trace = TraceSimulation.ReadTrace(traceFile.FullName, scenario);
        int[][] held = TraceSimulation.Run(scenario, trace);
        if (decisionsFile is not null)
            TraceSimulation.WriteDecisions(decisionsFile.FullName, scenario, held);

        var table = new Table().AddColumns("Service", "Requests", "Served", "Servers", "Most", "Activations");
        for (int s = 0; s < scenario.Services.Count; s++)
        {
            TraceService service = scenario.Services[s];
            double offered = 0, served = 0;
            int activations = 0;
            for (int t = 0; t < held.Length; t++)
            {
                // A server that was gained serves after the delay.
                int serving = Enumerable.Range(Math.Max(0, t - scenario.ActivationDelay), Math.Min(t, scenario.ActivationDelay) + 1).Min(m => held[m][s]);
                offered += trace[t][s];
                served += Math.Min(trace[t][s], serving * service.Capacity);
                activations += t == 0 ? 0 : Math.Max(0, held[t][s] - held[t - 1][s]);
            }

            table.AddRow(
                Markup.Escape(service.Name),
                offered.ToString("N0", CultureInfo.InvariantCulture),
                (offered > 0 ? served / offered : 1).ToString("P2", CultureInfo.InvariantCulture),
                held.Length == 0 ? "0" : held.Average(h => h[s]).ToString("0.0", CultureInfo.InvariantCulture),
                (held.Length == 0 ? 0 : held.Max(h => h[s])).ToString(CultureInfo.InvariantCulture),
                activations.ToString("N0", CultureInfo.InvariantCulture));
        }

        AnsiConsole.Console.Write(table);
        return ExitCode.Done;
    }
}
