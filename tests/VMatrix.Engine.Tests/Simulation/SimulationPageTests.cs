using System;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using VMatrix.Contract;
using Xunit;

namespace VMatrix.Simulation;

/// <summary>The page of plots, as a browser has it.</summary>
public sealed class SimulationPageTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [BrowserFact]
    public void A_browser_shows_the_plots_and_complains_of_nothing()
    {
        string page = Path.Combine(_folder.Path, "page.html");
        SimulationPage.Write(Result(), page);
        using var process = Process.Start(new ProcessStartInfo(BrowserFactAttribute.Browser!, ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", $"--user-data-dir={_folder.Path}/profile", "--dump-dom", $"file://{page}"]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var complaints = process.StandardError.ReadToEndAsync();
        string dom = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.DoesNotMatch("CONSOLE", complaints.GetAwaiter().GetResult());
        Assert.Equal(2, Regex.Count(dom, "<svg[^>]* role=\"img\""));
        foreach (string plot in (string[])["demand", "capacity", "unserved", "moves", "drops"])
            Assert.Equal(plot == "demand" ? 2 : 4, Regex.Count(dom, $"<path[^>]* data-plot=\"{plot}\""));
        // A name is text, whatever is in it.
        Assert.Contains("data-service=\"&lt;A&gt; &amp; B\"", dom.Replace("\"<A> &amp; B\"", "\"&lt;A&gt; &amp; B\"", StringComparison.Ordinal), StringComparison.Ordinal);
        Assert.DoesNotContain("NaN", Regex.Replace(dom, "not known", ""), StringComparison.Ordinal);
        // Every plot says in words what it shows.
        Assert.Equal(2, Regex.Count(dom, "<desc[^>]*>switching: 9\\d\\.\\d\\d % of 100 requests served"));
    }

    [Fact]
    public void Four_weeks_make_a_small_page()
    {
        string page = Path.Combine(_folder.Path, "page.html");
        SimulationPage.Write(Result(rows: 28 * 1440), page);
        Assert.InRange(new FileInfo(page).Length, 10_000, 400_000);
    }

    private static SimulationResult Result(int rows = 30)
    {
        var from = new DateTimeOffset(2026, 3, 2, 8, 0, 0, TimeSpan.Zero);
        SimulatedService Service(string rule, string name, int seed) => new()
        {
            Rule = rule, Service = name, Demand = 100, Served = 95, Refused = 5, Unserved = 5, MeanServers = 1.5, MostServers = 2, Switches = 3, Wakes = 2, Drops = 1, Failed = 0, Closed = double.NaN,
            Minutes = [.. Enumerable.Range(0, rows).Select(i => new SimulatedMinute { At = from.AddMinutes(i), Demand = (i * seed) % 17, Served = Math.Min(10, (i * seed) % 17), Servers = 1, Capacity = 10 + (i % 40 / 20 * 10), Moves = i % 10 == 0 ? 1 : 0, Drops = i % 20 == 0 ? 1 : 0 })],
        };
        return new SimulationResult
        {
            Pool = "trial", Trace = "trace.csv", From = from, To = from.AddMinutes(rows), Interval = TimeSpan.FromSeconds(5), Seed = 1, StaticCost = 1, BoundCost = double.NaN,
            Rules = [.. new[] { "switching", "threshold" }.Select(rule => new SimulatedRule { Rule = rule, Cost = 1, Closed = double.NaN, MeanHosts = 3, Services = [Service(rule, "<A> & B", 7), Service(rule, "SPORTS", 5)] })],
        };
    }
}

/// <summary>A test that needs a browser, and is skipped with its name where there is none.</summary>
public sealed class BrowserFactAttribute : FactAttribute
{
    public BrowserFactAttribute() => Skip = Browser is null ? "need a browser (apt-get install chromium)" : null;

    public static string? Browser { get; } = new[] { "chromium", "chromium-browser", "google-chrome" }
        .SelectMany(name => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Select(folder => Path.Combine(folder, name)))
        .FirstOrDefault(File.Exists);
}
