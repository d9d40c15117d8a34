using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Threading.Tasks;
using Spectre.Console;
using VMatrix.Oracle.Demo;
using VMatrix.Oracle.Screens;
using VMatrix.Pools;
using Xunit;

namespace VMatrix.Oracle.Tests;

public sealed class DemoTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-demo-test-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Its_pool_is_the_one_in_the_examples_and_is_right()
    {
        string path = Path.Combine(_folder, "pool.yaml");
        File.WriteAllText(path, DemoPool.ExampleText());
        foreach (string file in (string[])["vmlinuz", "initrd"])
        {
            Directory.CreateDirectory(Path.Combine(_folder, "guest"));
            File.WriteAllText(Path.Combine(_folder, "guest", file), "");
        }

        (PoolSpec? pool, IReadOnlyList<PoolFinding> findings) = PoolFile.Read(path);
        Assert.Empty(findings);
        Assert.Equal((3, 1), (pool!.Hosts.Count(host => host.Role == HostRole.Matrix), pool.Hosts.Count(host => host.Role == HostRole.Chamber)));
        Assert.True(pool.Services.Single(service => service.Name == "FINANCE").Priority > pool.Services.Single(service => service.Name == "SPORTS").Priority);
    }

    [Fact]
    public void Its_load_moves_over_and_back_and_then_overloads_both()
    {
        IReadOnlyList<LoadPhase> phases = DemoLoad.Phases(TimeSpan.FromSeconds(45), capacity: 5, servers: 6);
        Assert.Equal(45, phases.Sum(phase => phase.Lasts.TotalSeconds), 6);
        string[] heavy = [.. phases.Select(phase => string.Concat(phase.Rates.Where(rate => rate.Value > 15).Select(rate => rate.Key[0]).Order())).Where(who => who.Length > 0)];
        Assert.Equal(["F", "S", "F", "FS"], heavy);
        Assert.True(phases[^1].Rates.Values.Sum() > 6 * 5);
        // A static split is too small for the busy one, and switching is not too small for the quiet one.
        Assert.All(phases.SkipLast(1), phase => Assert.True(phase.Rates.Values.Min() < 5));
    }

    [Fact]
    public void The_result_is_told_in_sentences()
    {
        Assert.Equal(0.5, ServiceSummary.Percentile([0.1, 0.5, 0.9], 0.5));
        Assert.Contains(DemoReport.Sentences(new DemoSummary(
            [Run("static", 100), Run("switching", 130)], [0.4, 0.5, 9], [2.5])), sentence => sentence.Contains("5.0 times faster", StringComparison.Ordinal));
        Assert.Contains(DemoReport.Sentences(new DemoSummary([Run("static", 100), Run("switching", 130)], [], [])), sentence => sentence.Contains("1.30 times", StringComparison.Ordinal));

        static RunSummary Run(string name, int served) => new(name, [new ServiceSummary("FINANCE", 200, served, 200 - served, 0, 0, 0, [])], 0, 0);
    }

    [Theory]
    [Trait("Category", "Long")]
    [InlineData("INT", 130, "Building the guest")]
    [InlineData("TERM", 143, "cold, to compare")]
    [InlineData("INT", 130, "Run 1")]
    [InlineData("TERM", 143, "wake FINANCE")]
    public async Task Cut_short_at_any_moment_it_leaves_nothing_behind(string signal, int code, string when)
    {
        using var demo = new OracleProcess("demo", "--duration", "15s", "--folder", _folder);
        await demo.SaysAsync(line => line.Contains(when, StringComparison.Ordinal));
        await Task.Delay(TimeSpan.FromSeconds(1));
        await demo.SignalAsync(signal);
        Assert.Equal(code, await demo.EndAsync());
        AssertNothingLeft();
    }

    [Fact]
    [Trait("Category", "Long")]
    public async Task It_runs_to_its_end_without_a_failed_request_and_leaves_nothing_behind()
    {
        string summary = Path.Combine(_folder, "summary.json");
        using var demo = new OracleProcess("demo", "--duration", "30s", "--folder", _folder, "--summary", summary);
        Assert.Equal(0, await demo.EndAsync());
        using var measured = JsonDocument.Parse(await File.ReadAllTextAsync(summary));
        JsonElement[] runs = [.. measured.RootElement.GetProperty("runs").EnumerateArray()];
        Assert.Equal(["static", "switching"], runs.Select(run => run.GetProperty("name").GetString()));
        foreach (JsonElement service in runs.SelectMany(run => run.GetProperty("services").EnumerateArray()))
        {
            int Count(string name) => service.GetProperty(name).GetInt32();
            Assert.Equal(0, Count("failed"));
            Assert.Equal(Count("requests"), Count("served") + Count("refused"));
        }

        Assert.True(runs[1].GetProperty("switches").GetInt32() > 0);
        Assert.NotEmpty(measured.RootElement.GetProperty("wakeSeconds").EnumerateArray());
        Assert.NotEmpty(measured.RootElement.GetProperty("coldBootSeconds").EnumerateArray());
        File.Delete(summary);
        AssertNothingLeft();
    }

    [Fact]
    [Trait("Category", "Long")]
    public async Task A_spike_that_repeats_itself_is_met_by_servers_woken_ahead_of_it_and_a_drop_says_why()
    {
        string summary = Path.Combine(_folder, "summary.json");
        using var demo = new OracleProcess("demo", "--spikes", "6", "--folder", _folder, "--summary", summary);
        Assert.Equal(0, await demo.EndAsync(TimeSpan.FromMinutes(10)));
        using var measured = JsonDocument.Parse(await File.ReadAllTextAsync(summary));
        JsonElement[] spikes = [.. measured.RootElement.GetProperty("spikes").EnumerateArray()];
        // Nothing was known of the first one. By the third the forecast has seen two.
        JsonElement[] learned = [.. spikes.Skip(2).Where(spike => spike.GetProperty("wokenAheadSeconds") is { ValueKind: JsonValueKind.Number } ahead && ahead.GetDouble() > 0)];
        Assert.True(learned.Length >= 2, File.ReadAllText(summary));
        Assert.Contains(learned, spike => spike.GetProperty("wakeReason").GetString()!.Contains("by the forecast", StringComparison.Ordinal));
        Assert.Contains(spikes, spike => spike.GetProperty("dropReason").GetString()?.StartsWith("dropped: SPORTS needs", StringComparison.Ordinal) == true);
        File.Delete(summary);
        AssertNothingLeft();
    }

    [Fact]
    public void Its_spikes_are_on_the_example_pool_with_a_season_of_their_own()
    {
        Directory.CreateDirectory(Path.Combine(_folder, "guest"));
        foreach (string file in (string[])["vmlinuz", "initrd"])
            File.WriteAllText(Path.Combine(_folder, "guest", file), "");
        string path = Path.Combine(_folder, "pool.yaml");
        File.WriteAllText(path, SpikeDemo.PoolText());
        (PoolSpec? pool, IReadOnlyList<PoolFinding> findings) = PoolFile.Read(path);
        Assert.Empty(findings);
        Assert.Equal(TimeSpan.FromMinutes(1), pool!.Oracle.Season);
    }

    [Fact]
    public void A_page_shows_what_the_console_would()
    {
        string path = Path.Combine(_folder, "page.html");
        PageScreen.Write(path, 100, new Markup("[red]<■>[/] 3 of 5"), DemoReport.Table(new DemoSummary([], [], [])));
        string page = File.ReadAllText(path);
        Assert.True(page.Contains("&lt;■&gt;", StringComparison.Ordinal), page);
        Assert.Contains("Servers", page, StringComparison.Ordinal);
        Assert.DoesNotMatch("(?i)https?:|src=", page);
    }

    [Fact]
    public void A_move_on_the_live_table_is_one_line()
    {
        Assert.Equal("SPORTS has 2, needs 5 and is granted 5", Words.Brief("SPORTS has 2, needs 5 and is granted 5 (31.9 requests/s now, 29.9 ± 5 in the last seconds): on host3"));
        Assert.Equal("a new one is made", Words.Brief("a new one is made"));
    }

    private void AssertNothingLeft()
    {
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder));
        string[] left = [.. Directory.EnumerateDirectories("/proc").Where(path => char.IsAsciiDigit(path[6])).Select(CommandLine).Where(line => line.Contains(_folder + "/", StringComparison.Ordinal))];
        Assert.Empty(left);
    }

    private static string CommandLine(string process)
    {
        try
        {
            return File.ReadAllText(Path.Combine(process, "cmdline"));
        }
        catch (IOException)
        {
            return "";
        }
    }
}
