using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using Spectre.Console;
using VMatrix.Oracle.Screens;

namespace VMatrix.Oracle.Demo;

/// <summary>A spike of demand that comes again and again, on real guests: the forecast learns when, and servers wake ahead of it.</summary>
internal static class SpikeDemo
{
    /// <summary>Time from one spike to the next: the pool file's <c>season</c>, which is a day unless said.</summary>
    private static readonly TimeSpan s_season = TimeSpan.FromMinutes(1);

    private static readonly TimeSpan s_quiet = TimeSpan.FromSeconds(40);
    private static readonly JsonSerializerOptions s_json = new(JsonSerializerDefaults.Web) { WriteIndented = true };

    /// <summary>The example's pool with the season of this demo.</summary>
    public static string PoolText() => DemoPool.ExampleText().Replace("oracle:\n", "oracle:\n  season: 1m                  # demand repeats itself each minute here; a day unless said\n", StringComparison.Ordinal);

    /// <summary>Plays the spikes.</summary>
    public static async Task<SpikeSummary> RunAsync(DemoPool pool, int spikes, double capacity, int seed, Screen screen, CancellationToken cancellation)
    {
        // FINANCE asks for four servers in each spike, and SPORTS has load for three of the six all the time: the pool is short.
        var phases = new List<LoadPhase>();
        for (int spike = 0; spike < spikes; spike++)
        {
            phases.Add(new(s_quiet, new Dictionary<string, double> { ["FINANCE"] = capacity * 0.25, ["SPORTS"] = capacity * 2.2 }));
            phases.Add(new(s_season - s_quiet, new Dictionary<string, double> { ["FINANCE"] = capacity * 3.6, ["SPORTS"] = capacity * 2.2 }));
        }

        var run = new DemoRun(pool, screen, "spikes");
        await run.CarryOutAsync(Arrivals.Make(phases, seed), switching: true, cancellation);
        (DateTimeOffset DecidedAt, MoveRecord Move)[] decided = [.. run.Decided()];
        var seen = new List<Spike>();
        for (int spike = 0; spike < spikes; spike++)
        {
            DateTimeOffset begin = run.BegunAt + (s_season * spike) + s_quiet, end = begin + (s_season - s_quiet);
            var wake = decided.Where(d => d.Move.Move is { Kind: MoveKind.Wake, Service: "FINANCE" } && d.DecidedAt > begin - TimeSpan.FromSeconds(15) && d.DecidedAt < end).OrderBy(d => d.DecidedAt).FirstOrDefault();
            var drop = decided.Where(d => d.Move.Move is { IsDrop: true, Service: "SPORTS" } && d.DecidedAt > begin - TimeSpan.FromSeconds(15) && d.DecidedAt < end).OrderBy(d => d.DecidedAt).FirstOrDefault();
            RequestResult[] asked = [.. run.Results.Where(r => r.Service == "FINANCE" && r.ArrivedAt >= begin && r.ArrivedAt < end)];
            seen.Add(new Spike(
                spike + 1,
                wake.Move is null ? null : Math.Round((begin - wake.DecidedAt).TotalSeconds, 2),
                run.ServersAt("FINANCE", begin - run.BegunAt),
                asked.Length,
                asked.Count(r => r.Outcome == Outcome.Served),
                wake.Move?.Move.Reason,
                drop.Move?.Move.Reason));
        }

        return new SpikeSummary(seen, s_season.TotalSeconds);
    }

    /// <summary>Shows what was seen.</summary>
    public static void Write(IAnsiConsole console, SpikeSummary summary)
    {
        console.Write(Table(summary));
        if (summary.Spikes.LastOrDefault(spike => spike.WokenAheadSeconds > 0) is { WakeReason: { } why } last)
            console.WriteLine($"Why a server was woken ahead of spike {last.Number}: {why}.");
        if (summary.Spikes.LastOrDefault(spike => spike.DropReason is not null) is { } dropped)
            console.WriteLine($"Why a server of SPORTS gave way in spike {dropped.Number}: {dropped.DropReason}.");
    }

    /// <summary>The table.</summary>
    public static Table Table(SpikeSummary summary)
    {
        Table table = new Table().Border(TableBorder.Rounded).Title("A spike each minute, and when the first server was woken for it");
        foreach (string column in (string[])["Spike", "Decided", "Servers at its begin", "Requests in it", "Served"])
            table.AddColumn(column);
        foreach (Spike spike in summary.Spikes)
        {
            string when = spike.WokenAheadSeconds is not { } ahead ? "nothing was woken"
                : ahead > 0 ? string.Create(CultureInfo.InvariantCulture, $"[green]{ahead:0.0} s ahead[/]") : string.Create(CultureInfo.InvariantCulture, $"{-ahead:0.0} s after it began");
            table.AddRow(new Text(spike.Number.ToString(CultureInfo.InvariantCulture)), new Markup(when), new Text(spike.ServersAtBegin.ToString(CultureInfo.InvariantCulture)).RightJustified(),
                new Text(spike.Requests.ToString(CultureInfo.InvariantCulture)).RightJustified(), new Text(spike.Served.ToString(CultureInfo.InvariantCulture)).RightJustified());
        }

        return table;
    }

    /// <summary>The summary file's text.</summary>
    public static string ToJson(SpikeSummary summary) => JsonSerializer.Serialize(summary, s_json) + "\n";
}

/// <summary>What became of a spike that repeats itself.</summary>
internal sealed record SpikeSummary(IReadOnlyList<Spike> Spikes, double SeasonSeconds);

/// <summary>One spike.</summary>
/// <param name="Number">Counted from 1.</param>
/// <param name="WokenAheadSeconds">How long before it began the first wake for it was decided; negative after; null when none was.</param>
/// <param name="ServersAtBegin">Servers that took traffic when it began.</param>
/// <param name="Requests">Requests in it.</param>
/// <param name="Served">Of those, served.</param>
/// <param name="WakeReason">Why that server was woken.</param>
/// <param name="DropReason">Why the first server that gave way for it did; null when none did.</param>
internal sealed record Spike(int Number, double? WokenAheadSeconds, int ServersAtBegin, int Requests, int Served, string? WakeReason, string? DropReason);
