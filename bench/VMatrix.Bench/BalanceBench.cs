using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json;
using VMatrix.Drivers;
using VMatrix.Planning;

namespace VMatrix.Bench;

/// <summary>How few moves, and how fast, to bring clusters to a gap of ten points in one plan.</summary>
internal static class BalanceBench
{
    private const double Gap = 10;
    private const int Runs = 5;

    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    // ProxLB 2.2.0 as published with the clusters: runs needed, moves over all of them, CPU seconds of one run.
    private static readonly Dictionary<string, string> s_proxlb = new()
    {
        ["10x100"] = "1 run, 27, 0.005 s",
        ["50x500"] = "8 runs, 147, 0.05 s",
        ["100x1000"] = "19 runs, 273, 0.17 s",
        ["300x3000"] = "50 runs, 810, 1.4 s",
        ["1000x10000"] = "~170 runs, ?, 15.8 s",
    };

    private sealed record Cluster(Host[] Hosts, Guest[] Guests, Group[] AntiAffinityGroups);

    private sealed record Host(string Name, int Cores, long MemoryMib);

    private sealed record Guest(string Name, int Cores, long MemoryMib, long MemoryUsedMib, string Host);

    private sealed record Group(string Name, string[] Members);

    public static Command Create()
    {
        Option<string[]> sizes = new("--size") { Description = "Cluster sizes, as HOSTSxGUESTS.", DefaultValueFactory = _ => [.. s_proxlb.Keys] };
        Command command = new("balance", "Brings clusters to a gap of ten points of memory use in one plan, beside a plain greedy and ProxLB.") { sizes };
        command.SetAction((ParseResult result) => Run(result.GetValue(sizes)!));
        return command;
    }

    private static int Run(string[] sizes)
    {
        string scripts = Scripts(), folder = Directory.CreateTempSubdirectory("vmatrix-balance").FullName;
        try
        {
            Python([Path.Combine(scripts, "gen.py"), folder, .. sizes], out _);
            Console.WriteLine(Text($"{"cluster",-15} {"gap",6} {"moves",6} {"bound",6} {"greedy",7} {"ratio",6} {"broken",9} {"first s",8} {"median s",9} {"greedy s",9}  ProxLB 2.2.0"));
            bool good = true;
            foreach (string size in sizes)
            {
                foreach (string kind in new[] { "", "-aa" })
                    good &= Judge(Path.Combine(folder, $"c{size}{kind}.json"), scripts, kind.Length > 0 ? "mends no broken group" : s_proxlb.GetValueOrDefault(size, ""));
            }

            Console.WriteLine("bound: no plan can have fewer moves, whatever the limits and rules; greedy: mends the groups, then moves from the most used host to the least used one that takes it.");
            return good ? 0 : 1;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static bool Judge(string file, string scripts, string proxlb)
    {
        var cluster = JsonSerializer.Deserialize<Cluster>(File.ReadAllText(file), s_json)!;
        var input = Input(cluster);
        var seconds = new List<double>();
        Plan plan = null!;
        for (int run = 0; run < Runs; run++)
        {
            long start = Stopwatch.GetTimestamp();
            plan = Planner.Plan(input).Plan;
            seconds.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        string csv = Path.ChangeExtension(file, "csv");
        File.WriteAllLines(csv, plan.Moves.Where(m => m.Kind == MoveKind.Relocate).Select(m => $"{m.ServerName},{m.FromHost},{m.ToHost}").Prepend("guest,from,to"));
        bool legal = Python([Path.Combine(scripts, "judge.py"), file, csv], out string verdict) == 0;
        string after = verdict.Split('\n').FirstOrDefault(l => l.StartsWith("after:", StringComparison.Ordinal)) ?? verdict.Trim();
        var words = after.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        double gap = legal ? double.Parse(words[2], CultureInfo.InvariantCulture) : double.NaN;
        string broken = legal ? $"{words[^3]} of {words[^1]}" : "illegal";
        long begin = Stopwatch.GetTimestamp();
        int greedy = Greedy(cluster);
        double greedySeconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
        Console.WriteLine(Text($"{Path.GetFileNameWithoutExtension(file),-15} {gap,6:0.00} {plan.Moves.Count,6} {Bound(cluster),6} {greedy,7} {(double)plan.Moves.Count / greedy,6:0.00} {broken,9} {seconds[0],8:0.000} {seconds.Order().ElementAt(Runs / 2),9:0.000} {greedySeconds,9:0.000}  {proxlb}"));
        if (!legal)
            Console.WriteLine(verdict);
        return legal && gap <= Gap && words[^3] == "0";
    }

    /// <summary>A cluster as the planner sees a pool: anti-affinity groups are services that refuse themselves, all other guests are one service; two virtual processors a core.</summary>
    private static PlannerInput Input(Cluster cluster)
    {
        const long MiB = 1L << 20;
        var group = cluster.AntiAffinityGroups.SelectMany(g => g.Members.Select(m => (m, g.Name))).ToDictionary(p => p.m, p => p.Name);
        var now = new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);
        var image = new ImageSpec { MemoryBytes = MiB };
        var services = cluster.AntiAffinityGroups.Select(g => new ServiceSpec { Name = g.Name, Isolation = Isolation.Shared, Image = image, AntiAffinity = [g.Name] })
            .Append(new ServiceSpec { Name = "guests", Isolation = Isolation.Shared, Image = image }).ToArray();
        var servers = cluster.Guests.Select((g, n) => new ServerState
        {
            Mark = new ServerMark
            {
                ServerId = new Guid(n + 1, 0, 0, new byte[8]),
                Name = g.Name,
                Service = group.GetValueOrDefault(g.Name, "guests"),
                Image = "",
                Stage = Stage.Matrix,
                StateId = Guid.Empty,
                CreatedAt = now.AddDays(-10),
                ChangedAt = now.AddDays(-10),
            },
            Host = g.Host,
            Power = PowerState.Running,
            Health = ServerHealth.Healthy,
            MemoryBytes = g.MemoryMib * MiB,
            MemoryUsedBytes = g.MemoryUsedMib * MiB,
            Cores = g.Cores,
        }).ToArray();
        return new PlannerInput
        {
            Pool = new PoolSpec
            {
                Name = "cluster",
                Path = "",
                StateFolder = "",
                Hypervisor = "simulation",
                Hosts = cluster.Hosts.Select(h => new HostSpec { Name = h.Name, MemoryBytes = h.MemoryMib * MiB, Cores = 2 * h.Cores }).ToArray(),
                Services = services,
                Nest = new NestSpec { Folder = "" },
                Balancer = new BalancerSpec { Kind = "simulation" },
                Oracle = new OracleSpec { BalanceGap = Gap / 100 },
            },
            Now = now,
            Hosts = cluster.Hosts.Select(h => new HostState { Name = h.Name }).ToArray(),
            Servers = servers,
            Loads = new Dictionary<string, IReadOnlyList<ServiceLoad>>(),
            Pinned = servers.GroupBy(s => s.Mark.Service).ToDictionary(g => g.Key, g => g.Count()),
        };
    }

    /// <summary>The plain greedy: the guest of the most used host that brings it closest to the least used host that takes it, again and again; broken groups are mended first.</summary>
    private static int Greedy(Cluster cluster)
    {
        var index = cluster.Hosts.Select((h, n) => (h.Name, n)).ToDictionary(p => p.Name, p => p.n);
        int hosts = cluster.Hosts.Length;
        var guests = Enumerable.Range(0, hosts).Select(_ => new List<Guest>()).ToArray();
        var (used, assigned, cores) = (new long[hosts], new long[hosts], new int[hosts]);
        var guestOf = cluster.Guests.ToDictionary(g => g.Name);
        var (groupOf, hostOf) = (new Dictionary<string, Group>(), new Dictionary<string, int>());
        foreach (var g in cluster.Guests)
            Put(g, index[g.Host], 1);
        int moves = 0;
        // Broken groups first: the smaller of two that share a host goes to the least used host that may take it.
        foreach (var group in cluster.AntiAffinityGroups)
        {
            foreach (string member in group.Members)
                (groupOf[member], hostOf[member]) = (group, index[guestOf[member].Host]);
        }

        foreach (var group in cluster.AntiAffinityGroups)
        {
            foreach (var pair in group.Members.GroupBy(m => hostOf[m]).Where(g => g.Count() > 1).ToList())
            {
                foreach (string member in pair.OrderBy(m => guestOf[m].MemoryUsedMib).Take(pair.Count() - 1))
                {
                    var g = guestOf[member];
                    int to = Enumerable.Range(0, hosts).Where(h => Takes(h, g)).OrderBy(Use).First();
                    Put(g, hostOf[member], -1);
                    Put(g, to, 1);
                    moves++;
                }
            }
        }

        while (true)
        {
            int hot = 0;
            for (int h = 0; h < hosts; h++)
                hot = Use(h) > Use(hot) ? h : hot;
            var cold = Enumerable.Range(0, hosts).OrderBy(Use).ToArray();
            if (Use(hot) - Use(cold[0]) <= Gap)
                return moves;
            bool found = false;
            foreach (int to in cold)
            {
                var best = guests[hot].Where(g => Takes(to, g))
                    .Where(g => used[to] + g.MemoryUsedMib < used[hot])
                    .OrderBy(g => Math.Abs(used[hot] - used[to] - (2 * g.MemoryUsedMib))).FirstOrDefault();
                if (best is null)
                    continue;
                Put(best, hot, -1);
                Put(best, to, 1);
                moves++;
                found = true;
                break;
            }

            if (!found)
                return moves;
        }

        bool Takes(int h, Guest g) =>
            assigned[h] + g.MemoryMib <= cluster.Hosts[h].MemoryMib && cores[h] + g.Cores <= 2 * cluster.Hosts[h].Cores
            && !(groupOf.TryGetValue(g.Name, out var group) && group.Members.Any(m => m != g.Name && hostOf[m] == h));

        double Use(int h) => 100.0 * used[h] / cluster.Hosts[h].MemoryMib;

        void Put(Guest g, int h, int sign)
        {
            (used[h], assigned[h], cores[h]) = (used[h] + (sign * g.MemoryUsedMib), assigned[h] + (sign * g.MemoryMib), cores[h] + (sign * g.Cores));
            hostOf[g.Name] = h;
            if (sign > 0)
                guests[h].Add(g);
            else
                guests[h].Remove(g);
        }
    }

    /// <summary>
    /// Fewest moves: wherever the window of ten points ends up, each host above it must shed at least its largest guests until it is
    /// inside, and each host below it must receive at least as many as the largest guests of all would fill it with. A grid of
    /// windows; between two of them the shedding of the upper and the filling of the lower one hold.
    /// </summary>
    private static int Bound(Cluster cluster)
    {
        var hosts = cluster.Hosts.Select(h => (h.MemoryMib, Used: cluster.Guests.Where(g => g.Host == h.Name).Select(g => g.MemoryUsedMib).OrderDescending().ToArray())).ToArray();
        long[] largest = cluster.Guests.Select(g => g.MemoryUsedMib).OrderDescending().ToArray();
        int best = int.MaxValue;
        const double Step = 0.02;
        for (double low = 0; low <= 90; low += Step)
            best = Math.Min(best, Math.Max(Count(low + Step, shed: true), Count(low, shed: false)));
        return best;

        int Count(double low, bool shed)
        {
            int moves = 0;
            foreach (var (memory, used) in hosts)
            {
                double total = used.Sum();
                double change = shed ? total - ((low + Gap) / 100 * memory) : (low / 100 * memory) - total;
                for (int n = 0; change > 0 && n < (shed ? used.Length : largest.Length); n++, moves++)
                    change -= shed ? used[n] : largest[n];
            }

            return moves;
        }
    }

    private static string Scripts()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            string scripts = Path.Combine(folder.FullName, "bench", "balance");
            if (File.Exists(Path.Combine(scripts, "judge.py")))
                return scripts;
        }

        throw new FileNotFoundException("bench/balance/judge.py was not found above the program; run the bench from a working copy.");
    }

    private static int Python(IEnumerable<string> arguments, out string output)
    {
        using var process = Process.Start(new ProcessStartInfo("python3", arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var error = process.StandardError.ReadToEndAsync();
        output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        output += error.Result;
        return process.ExitCode;
    }

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
