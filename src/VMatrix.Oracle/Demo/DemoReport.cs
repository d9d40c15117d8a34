using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using Spectre.Console;

namespace VMatrix.Oracle.Demo;

/// <summary>Shows what the demo measured.</summary>
internal static class DemoReport
{
    private const string Levels = " ▁▂▃▄▅▆▇█";

    /// <summary>Writes the table and what it means.</summary>
    public static void Write(IAnsiConsole console, DemoSummary summary)
    {
        console.Write(Table(summary));
        foreach (string sentence in Sentences(summary))
            console.WriteLine(sentence);
    }

    /// <summary>The table.</summary>
    public static Table Table(DemoSummary summary)
    {
        Table table = new Table().Border(TableBorder.Rounded).Title("The same load, a static split and switching");
        foreach (string column in (string[])["Run", "Service", "Requests", "Served", "Refused", "Failed", "p50", "p99", "Servers over time"])
            table.AddColumn(column);
        foreach (RunSummary run in summary.Runs)
        {
            foreach (ServiceSummary service in run.Services)
            {
                table.AddRow(new Text(run.Name), new Text(service.Name), Number(service.Requests), Number(service.Served), Number(service.Refused),
                    service.Failed == 0 ? Number(0) : new Markup($"[red]{service.Failed}[/]"), Seconds(service.P50Seconds), Seconds(service.P99Seconds), new Text(Line(service.Servers)));
            }

            table.AddRow(new Text(run.Name), new Markup("[bold]both[/]"), Number(run.Services.Sum(service => service.Requests)), new Markup($"[bold]{Served(run)}[/]").RightJustified(),
                Number(run.Services.Sum(service => service.Refused)), Number(run.Services.Sum(service => service.Failed)), new Text(""), new Text(""),
                new Text(run.Switches == 0 ? "" : $"{run.Switches} switches, {run.Drops} drops"));
            table.AddEmptyRow();
        }

        if (table.Rows.Count > 0)
            table.RemoveRow(table.Rows.Count - 1);
        return table;
    }

    /// <summary>The result in sentences.</summary>
    internal static IEnumerable<string> Sentences(DemoSummary summary)
    {
        RunSummary? fixedRun = summary.Runs.FirstOrDefault(run => run.Name == "static"), switching = summary.Runs.FirstOrDefault(run => run.Name == "switching");
        if (fixedRun is not null && switching is not null && Served(fixedRun) > 0)
        {
            yield return string.Create(CultureInfo.InvariantCulture,
                $"Switching served {(double)Served(switching) / Served(fixedRun):0.00} times the requests of the static split ({Served(switching)} against {Served(fixedRun)}).");
        }

        if (summary.WakeSeconds.Count > 0 && summary.ColdBootSeconds.Count > 0)
        {
            double wake = Median(summary.WakeSeconds), boot = Median(summary.ColdBootSeconds);
            yield return string.Create(CultureInfo.InvariantCulture,
                $"From decision to first request served: {wake:0.00} s by waking (median of {summary.WakeSeconds.Count}), {boot:0.00} s by a cold boot (median of {summary.ColdBootSeconds.Count}): {boot / wake:0.0} times faster.");
        }
    }

    private static int Served(RunSummary run) => run.Services.Sum(service => service.Served);

    private static double Median(IReadOnlyList<double> values)
    {
        double[] sorted = [.. values.Order()];
        int middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    // One letter for two seconds.
    private static string Line(IReadOnlyList<ServerCount> servers) =>
        string.Concat(servers.Where(sample => sample.Second % 2 == 0).Select(sample => Levels[Math.Min(sample.Count, Levels.Length - 1)]));

    private static Text Number(int value) => new Text(value.ToString(CultureInfo.InvariantCulture)).RightJustified();

    private static Text Seconds(double value) => new Text(string.Create(CultureInfo.InvariantCulture, $"{value:0.00} s")).RightJustified();
}
