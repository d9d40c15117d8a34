using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Spectre.Console;
using VMatrix.Planning;
using VMatrix.Simulation;

namespace VMatrix.Oracle.Commands;

/// <summary><c>vmatrix-oracle simulate</c>.</summary>
internal static class SimulateCommand
{
    public static Command Create()
    {
        var pool = new Argument<string?>("pool") { Description = "The pool file, or its folder. Its hosts and servers are simulated, whatever hypervisor it names.", Arity = ArgumentArity.ZeroOrOne };
        var trace = new Option<FileInfo>("--trace") { Description = "The history of demand: a CSV file with a heading. With a pool: a column 'time' and one for each service, in requests per second (or 'minute', in requests by the minute).", Required = true };
        var compare = new Option<string[]>("--compare") { Description = "Rules to play on the same demand: static (the best fixed split in hindsight), threshold (an autoscaler's usual rule). With commas or again and again.", AllowMultipleArgumentsPerToken = true };
        var html = new Option<FileInfo?>("--html") { Description = "Write one page with plots of demand, capacity, drops and moves to this file." };
        var json = new Option<FileInfo?>("--json") { Description = "Write the result, row by row of the history, to this file." };
        var seed = new Option<int?>("--seed") { Description = "Seed of all that is left to chance; the pool file's unless given. The same seed gives the same result." };
        var interval = DurationOption.Optional("--interval", "Time from one switch to the next, such as 30s or 5m; the pool file's unless given.", TimeSpan.FromSeconds(1), TimeSpan.FromDays(1));
        var timeFormat = new Option<string?>("--time-format") { Description = "The form of the history's times, where it is neither ISO 8601 nor an epoch: a .NET format such as 'dd/MM/yyyy HH:mm', epoch-s or epoch-ms." };
        var timeZone = new Option<string?>("--time-zone") { Description = "The time zone of times that name none, such as Europe/Berlin, +02:00 or local; UTC unless given." };
        var scenario = new Option<FileInfo?>("--scenario") { Description = "Without a pool: a JSON file with hosts, costs and services, on which the Oracle's mind is played alone." };
        var decisions = new Option<FileInfo?>("--decisions") { Description = "With a scenario: write the servers that each service holds, minute by minute, to this CSV file." };
        var command = new Command("simulate", "Plays a history of demand through the Oracle and shows what it would have done. It sees the minutes before each decision and none after.") { pool, trace, compare, html, json, seed, interval, timeFormat, timeZone, scenario, decisions };
        command.Validators.Add(result =>
        {
            bool withPool = result.GetValue(pool) is not null, withScenario = result.GetValue(scenario) is not null;
            if (withPool == withScenario)
                result.AddError("simulate needs a pool file or --scenario, and not both.");
            else if (withScenario && (result.GetValue(html) is not null || result.GetValue(json) is not null || result.GetValue(compare) is { Length: > 0 }))
                result.AddError("--compare, --html and --json need a pool file.");
            else if (withPool && result.GetValue(decisions) is not null)
                result.AddError("--decisions needs --scenario.");
        });
        command.SetAction((parsed, cancellation) => Task.FromResult(parsed.GetValue(pool) is { } path
            ? Run(
                path,
                parsed.GetValue(trace)!,
                new SimulationOptions
                {
                    Compare = [.. (parsed.GetValue(compare) ?? []).SelectMany(rule => rule.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))],
                    Seed = parsed.GetValue(seed),
                    Interval = parsed.GetValue(interval),
                    TimeFormat = parsed.GetValue(timeFormat),
                    TimeZone = parsed.GetValue(timeZone),
                },
                parsed.GetValue(html),
                parsed.GetValue(json),
                cancellation)
            : Run(parsed.GetValue(trace)!, parsed.GetValue(scenario)!, parsed.GetValue(decisions))));
        return command;
    }

    private static int Run(string pool, FileInfo trace, SimulationOptions options, FileInfo? html, FileInfo? json, CancellationToken cancellation)
    {
        FolderMustExist(html, "page");
        FolderMustExist(json, "result");
        string path = RunCommand.PathOf(new FileInfo(pool));
        var watch = Stopwatch.StartNew();
        var result = PoolSimulation.Run(path, trace.FullName, options, null, cancellation);
        double minutes = (result.To - result.From).TotalMinutes * result.Rules.Count;
        if (json is not null)
            PoolSimulation.WriteJson(result, json.FullName);
        if (html is not null)
            PoolSimulation.WritePage(result, html.FullName);

        foreach (string note in result.Notes)
            AnsiConsole.Console.WriteLine($"{result.Trace}: {note}");

        var table = new Table().AddColumns("Rule", "Service", "Requests", "Served", "Unserved", "Servers", "Most", "Switches", "Drops", "Closed");
        foreach (var service in result.Rules.SelectMany(rule => rule.Services))
        {
            table.AddRow(
                Markup.Escape(service.Rule),
                Markup.Escape(service.Service),
                service.Demand.ToString("N0", CultureInfo.InvariantCulture),
                service.ServedShare.ToString("P2", CultureInfo.InvariantCulture),
                service.Unserved.ToString("N0", CultureInfo.InvariantCulture),
                service.MeanServers.ToString("0.00", CultureInfo.InvariantCulture),
                service.MostServers.ToString(CultureInfo.InvariantCulture),
                service.Switches.ToString("N0", CultureInfo.InvariantCulture),
                service.Drops.ToString("N0", CultureInfo.InvariantCulture),
                double.IsNaN(service.Closed) ? "-" : service.Closed.ToString("0.000", CultureInfo.InvariantCulture));
        }

        AnsiConsole.Console.Write(table);
        AnsiConsole.Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"Matrix hosts powered up on average: {string.Join(", ", result.Rules.Select(rule => string.Create(CultureInfo.InvariantCulture, $"{rule.MeanHosts:0.0} ({rule.Rule})")))}."));
        AnsiConsole.Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{minutes:N0} minutes simulated in {watch.Elapsed.TotalSeconds:0.0} s: {minutes / watch.Elapsed.TotalSeconds:N0} a second, one switch each {result.Interval.TotalSeconds:0.#} s."));
        return ExitCode.Done;
    }

    // Told before the work, not after it.
    private static void FolderMustExist(FileInfo? file, string what)
    {
        if (file?.Directory is { Exists: false } missing)
            throw new VMatrixException("FolderNotFound", VMatrixErrorKind.NotFound, $"The folder {missing.FullName} for the {what} does not exist.");
    }

    private static int Run(FileInfo traceFile, FileInfo scenarioFile, FileInfo? decisionsFile)
    {
        FolderMustExist(decisionsFile, "decisions");
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
