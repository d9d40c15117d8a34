using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Spectre.Console;
using VMatrix.HAProxy;
using VMatrix.Oracle.Demo;
using VMatrix.Oracle.Screens;
using VMatrix.Qemu;

namespace VMatrix.Oracle.Commands;

/// <summary><c>vmatrix-oracle demo</c>.</summary>
internal static class DemoCommand
{
    private const int ColdBoots = 4;

    // What the guest takes for a request; one at a time, so a server carries a little less than five a second.
    private static readonly TimeSpan s_requestTime = TimeSpan.FromMilliseconds(200);

    public static Command Create()
    {
        Option<TimeSpan> duration = DurationOption.Of("--duration", "How long each of the two runs lasts, such as 45s or 2m.", TimeSpan.FromSeconds(45), TimeSpan.FromSeconds(10), TimeSpan.FromHours(1));
        var summary = new Option<FileInfo?>("--summary") { Description = "Write what was measured to this file, as JSON." };
        var seed = new Option<int>("--seed") { Description = "Seed of the load: the same seed, the same requests.", DefaultValueFactory = _ => 1 };
        var spikes = new Option<int?>("--spikes") { Description = "Show instead how so many spikes, one a minute, are met by servers that wake ahead of them (5 or more tell something)." };
        spikes.Validators.Add(result =>
        {
            if (result.GetValueOrDefault<int?>() is { } value and not (>= 1 and <= 60))
                result.AddError(string.Create(CultureInfo.InvariantCulture, $"--spikes {value} is not between 1 and 60."));
        });
        var page = new Option<FileInfo?>("--page") { Description = "Write the live table and the result to this file, as a page of HTML to take a picture of." };
        var folder = new Option<DirectoryInfo?>("--folder") { Description = "Make the demo's folder in this one instead of the system's folder for temporary files; it is removed at the end." };
        var command = new Command("demo", "Two services share three hosts: real virtual machines change sides as the load moves. First with a static split, then with switching, under the same load. Nothing is left behind.") { duration, spikes, summary, page, seed, folder };
        command.SetAction((parsed, cancellation) => RunAsync(parsed.GetValue(duration), parsed.GetValue(spikes), parsed.GetValue(summary), parsed.GetValue(page), parsed.GetValue(seed), parsed.GetValue(folder), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(TimeSpan duration, int? spikes, FileInfo? summaryFile, FileInfo? pageFile, int seed, DirectoryInfo? parent, CancellationToken cancellation)
    {
        // Told before the minutes, not after them.
        foreach ((FileInfo? file, string what) in new[] { (summaryFile, "summary"), (pageFile, "page") })
        {
            if (file?.Directory is { Exists: false } missing)
                throw new VMatrixException("FolderNotFound", VMatrixErrorKind.NotFound, $"The folder {missing.FullName} for the {what} does not exist.");
        }

        foreach (string left in Leftovers.EndKilled([Path.GetTempPath(), .. parent is null ? Array.Empty<string>() : [parent.FullName]]))
            Say($"A demo that was killed had left guests and files in {left}; they are gone now.");
        string folder = parent is null
            ? Directory.CreateTempSubdirectory("vmatrix-demo-").FullName
            : MakeFolder(Path.Combine(parent.FullName, $"vmatrix-demo-{Guid.NewGuid():N}"[..20]));

        // Held while this demo runs: who finds a demo's folder without its holder finds what a killed one left.
        using FileStream held = Leftovers.Hold(folder);
        DemoSummary? summary = null;
        var screen = new PageScreen(Screen.For(json: false));
        SpikeSummary? spiked = null;
        try
        {
            // The guests' sockets too: what the demo makes is in this folder and nowhere else.
            string sockets = Path.Combine(folder, "run");
            Directory.CreateDirectory(sockets);
            Environment.SetEnvironmentVariable("XDG_RUNTIME_DIR", sockets);
            if (spikes is { } count)
                spiked = await SpikeAsync(folder, count, seed, screen, cancellation);
            else
                summary = await MeasureAsync(folder, duration, seed, screen, cancellation);
        }
        finally
        {
            Leftovers.End(folder);
            Directory.Delete(folder, recursive: true);
        }

        if (summary is not null)
            DemoReport.Write(AnsiConsole.Console, summary);
        if (spiked is not null)
            SpikeDemo.Write(AnsiConsole.Console, spiked);
        if (pageFile is not null)
            PageScreen.Write(pageFile.FullName, width: 140, screen.Seen, summary is not null ? DemoReport.Table(summary) : SpikeDemo.Table(spiked!));
        if (summaryFile is not null)
            await File.WriteAllTextAsync(summaryFile.FullName, summary?.ToJson() ?? SpikeDemo.ToJson(spiked!), CancellationToken.None);
        return ExitCode.Done;
    }

    private static async Task<SpikeSummary> SpikeAsync(string folder, int spikes, int seed, PageScreen screen, CancellationToken cancellation)
    {
        string guest = Path.Combine(folder, "guest");
        Say("Building the guest from this machine's kernel and busybox ...");
        await DemoGuest.BuildAsync(guest, s_requestTime, cancellation);
        await using DemoPool pool = await DemoPool.OpenAsync(Path.Combine(folder, "pool"), SpikeDemo.PoolText(), guest, cancellation);
        Say("Making servers: one of FINANCE and three of SPORTS live, the rest asleep in the nest ...");
        foreach (ServiceSpec service in pool.Session.Spec.Services)
        {
            IReadOnlyList<Guid> servers = await pool.CreateAsync(service.Name, 5, cancellation);
            foreach (Guid server in servers.Take(service.Name == "SPORTS" ? 3 : 1))
                await pool.MoveAsync(server, Stage.Matrix, cancellation);
        }

        Say(string.Create(CultureInfo.InvariantCulture, $"{spikes} spikes of FINANCE, one a minute; the pool file says 'season: 1m' ..."));
        return await SpikeDemo.RunAsync(pool, spikes, 1 / s_requestTime.TotalSeconds, seed, screen, cancellation);
    }

    private static async Task<DemoSummary> MeasureAsync(string folder, TimeSpan duration, int seed, PageScreen screen, CancellationToken cancellation)
    {
        string guest = Path.Combine(folder, "guest");
        Say("Building the guest from this machine's kernel and busybox ...");
        await DemoGuest.BuildAsync(guest, s_requestTime, cancellation);

        Say($"Booting {ColdBoots} servers cold, to compare with ...");
        IReadOnlyList<double> coldBoots = await ColdBootAsync(Path.Combine(folder, "cold"), guest, cancellation);

        await using DemoPool pool = await DemoPool.OpenAsync(Path.Combine(folder, "pool"), DemoPool.ExampleText(), guest, cancellation);
        PoolSpec spec = pool.Session.Spec;
        int room = spec.Hosts.Where(host => host.Role == HostRole.Matrix).Sum(host => host.MostServers ?? 1);
        int share = room / spec.Services.Count;
        Say($"Making {share} servers of each service: the static split ...");
        foreach (ServiceSpec service in spec.Services)
        {
            foreach (Guid server in await pool.CreateAsync(service.Name, share, cancellation))
                await pool.MoveAsync(server, Stage.Matrix, cancellation);
        }

        double capacity = 1 / s_requestTime.TotalSeconds;
        IReadOnlyList<Arrival> arrivals = Arrivals.Make(DemoLoad.Phases(duration, capacity, room), seed);
        Say(string.Create(CultureInfo.InvariantCulture, $"Run 1, static: {share} servers each for {Durations.Format(duration)}, {arrivals.Count} requests ..."));
        var fixedRun = new DemoRun(pool, Screen.For(json: false), "static");
        await fixedRun.CarryOutAsync(arrivals, switching: false, cancellation);

        Say(string.Create(CultureInfo.InvariantCulture, $"Run 2, switching: the same {arrivals.Count} requests ..."));
        var switching = new DemoRun(pool, screen, "switching");
        await switching.CarryOutAsync(arrivals, switching: true, cancellation);
        foreach (IGrouping<string, RequestResult> failed in fixedRun.Results.Concat(switching.Results).Where(result => result.Outcome == Outcome.Failed).GroupBy(result => $"{result.Service}: {result.Problem}"))
            Say($"Failed {failed.Count()} times, {failed.Key}");

        return new DemoSummary([fixedRun.Summarize(), switching.Summarize()], switching.WakeSeconds(), coldBoots);
    }

    // The same road as the wakes of the main pool, as many at once as a switch makes there, with the same guest but for its memory:
    // from the decision to the first request that each server answers.
    private static async Task<IReadOnlyList<double>> ColdBootAsync(string folder, string guest, CancellationToken cancellation)
    {
        const string Service = "COLD";
        await using DemoPool pool = await DemoPool.OpenAsync(folder, $$"""
            pool: cold
            hypervisor: qemu
            hosts:
              - { name: host1, role: matrix, memory: 1 GiB, servers: 2 }
              - { name: host2, role: matrix, memory: 1 GiB, servers: 2 }
            services:
              - name: {{Service}}
                least: 0
                most: {{ColdBoots}}
                listen: 127.0.0.1:18080
                concurrency: 1
                isolation: shared
                image: { kernel: guest/vmlinuz, initrd: guest/initrd, append: "console=ttyS0 quiet panic=0 no_timer_check", memory: 128 MiB, warm: false, agent: vmatrix }
                health: { path: /health }
            nest: { folder: nest }
            balancer: { kind: haproxy, own: true }
            """, guest, cancellation);
        using var load = new LoadGenerator(pool.Urls, new HAProxySocket(pool.Balancer.SocketAddress, TimeProvider.System), TimeProvider.System);
        IReadOnlyList<Guid> servers = await pool.CreateAsync(Service, ColdBoots, cancellation);
        var moves = new List<Move>();
        foreach (Guid server in servers)
            moves.Add(await pool.Session.PlanMoveAsync(server, Stage.Matrix, pool.Session.Spec.Hosts[moves.Count % 2].Name, live: false, cancellation));

        long decided = TimeProvider.System.GetTimestamp();
        var first = new ConcurrentDictionary<string, double>(StringComparer.Ordinal);
        Task moving = pool.CarryOutAsync(moves, cancellation);
        var asked = new List<Task>();
        while (first.Count < servers.Count)
        {
            cancellation.ThrowIfCancellationRequested();
            if (moving.IsFaulted)
                await moving;
            asked.RemoveAll(task => task.IsCompleted);
            // Never so many that a server's first request would wait behind others.
            if (asked.Count <= servers.Count)
                asked.Add(AskAsync());
            await Task.Delay(TimeSpan.FromMilliseconds(10), cancellation);
        }

        await Task.WhenAll(asked);
        await moving;
        return [.. first.Values.Order()];

        async Task AskAsync()
        {
            (Outcome outcome, string? server, _) = await load.AskAsync("cold", pool.Urls[Service], cancellation);
            if (outcome == Outcome.Served && server is not null)
                first.TryAdd(server, Math.Round(TimeProvider.System.GetElapsedTime(decided).TotalSeconds, 3));
        }
    }

    private static void Say(string sentence) => Console.WriteLine(sentence);

    // Its owner's alone.
    private static string MakeFolder(string path) => (OperatingSystem.IsWindows()
        ? Directory.CreateDirectory(path)
        : Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute)).FullName;
}
