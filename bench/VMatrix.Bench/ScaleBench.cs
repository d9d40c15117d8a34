using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Serialization;
using VMatrix.Drivers;
using VMatrix.Planning;
using VMatrix.Tests.Placement;

namespace VMatrix.Bench;

/// <summary>How long a whole plan takes as the pool grows to 12,500 hosts and 150,000 servers.</summary>
internal static class ScaleBench
{
    private const int Runs = 15;
    private const int Services = 300;
    private const int Racks = 50;
    private const double Capacity = 100;
    private const long GiB = 1L << 30;
    private static readonly JsonSerializerOptions s_json = new() { NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals };
    private static readonly DateTimeOffset s_now = new(2026, 1, 1, 12, 0, 0, TimeSpan.Zero);

    public static Command Create()
    {
        Option<int[]> sizes = new("--hosts") { Description = "Pool sizes in hosts, twelve servers each.", DefaultValueFactory = _ => [1_250, 5_000, 12_500] };
        Command command = new("scale", "Plans pools of up to 12,500 hosts and 150,000 servers after 1 % of the servers and 20 hosts died and demand of a third of the services moved by 10 %.") { sizes };
        Option<string?> cold = new("--cold") { Description = "Plans a stored pool once, as the first thing that the process plans.", Hidden = true };
        command.Options.Add(cold);
        command.SetAction((ParseResult result) => result.GetValue(cold) is { } file ? PlanCold(file) : Run(result.GetValue(sizes)!));
        return command;
    }

    /// <summary>The first plan of a new process that has two cores and 1 GiB: seconds on the clock, processor seconds and the process's peak in MiB, compilation included.</summary>
    private static (double Seconds, double Cpu, double Peak) Cold(PlannerInput input)
    {
        string file = Path.GetTempFileName();
        try
        {
            using (var stream = File.Create(file))
                JsonSerializer.Serialize(stream, input, s_json);
            var start = new ProcessStartInfo(Environment.ProcessPath!, [Environment.GetCommandLineArgs()[0], "scale", "--cold", file]) { RedirectStandardOutput = true };
            start.Environment["DOTNET_GCHeapHardLimit"] = Text($"{GiB:X}");
            start.Environment["DOTNET_PROCESSOR_COUNT"] = "2";
            using var child = Process.Start(start)!;
            string said = child.StandardOutput.ReadToEnd();
            child.WaitForExit();
            double[] figures = child.ExitCode == 0 ? [.. said.Split(' ').Select(f => double.Parse(f, CultureInfo.InvariantCulture))] : [];
            return figures is [double seconds, double cpu, double peak] ? (seconds, cpu, peak) : throw new InvalidOperationException($"The child process failed: {said}");
        }
        finally
        {
            File.Delete(file);
        }
    }

    private static int PlanCold(string file)
    {
        PlannerInput input;
        using (var stream = File.OpenRead(file))
            input = JsonSerializer.Deserialize<PlannerInput>(stream, s_json)!;
        if (OperatingSystem.IsLinux() || OperatingSystem.IsWindows())
        {
            var process = Process.GetCurrentProcess();
            long all = process.ProcessorAffinity, one = all & -all, rest = all & ~one;
            process.ProcessorAffinity = (nint)(one | (rest & -rest));
        }

        // What reading the pool left behind is not the plan's.
        GC.Collect();
        var used = Environment.CpuUsage.TotalTime;
        long start = Stopwatch.GetTimestamp();
        _ = Planner.Plan(input);
        Console.WriteLine(Text($"{Stopwatch.GetElapsedTime(start).TotalSeconds} {(Environment.CpuUsage.TotalTime - used).TotalSeconds} {Process.GetCurrentProcess().PeakWorkingSet64 >> 20}"));
        return 0;
    }

    private static int Run(int[] sizes)
    {
        Console.WriteLine(Text($"{"hosts",7} {"servers",8} {"moves",6} {"bound",6} {"gap",6} {"refused",8} {"broken",7} {"first s",8} {"first cpu",9} {"first MiB",9} {"median s",9} {"cpu s",6} {"idle s",7} {"idle cpu",9} {"MiB",6}"));
        bool good = true;
        foreach (int hosts in sizes)
            good &= Measure(hosts);
        Console.WriteLine("bound: one move for each server that died (away), each that must start elsewhere, and each that the changed counts add or take; creations are counted on both sides.");
        Console.WriteLine(Text($"first: the first plan of a new process on two cores and 1 GiB, compilation included; its MiB are the process's peak, the reading of the pool included. idle: a plan of the same pool before anything died or moved, with nothing to do. broken: rules that an independent checker finds broken, step by step. cpu: processor seconds of the median plan of {Runs}, collector included. MiB: the process's peak so far."));
        return good ? 0 : 1;
    }

    private static bool Measure(int hosts)
    {
        var calm = Pool(hosts, new Random(hosts));
        // The calm pool settles first: what its plan would do is done, and the figures start from there.
        var settled = Settle(calm, out int settling);
        double idle = Time(settled, out var nothing, out double idleCpu);
        var hit = Hit(settled, new Random(hosts + 1));
        double median = Time(hit, out var output, out double cpu);
        long peak = Process.GetCurrentProcess().PeakWorkingSet64 >> 20;
        var (first, firstCpu, firstPeak) = Cold(hit);
        var plan = output.Plan;
        var broken = PlanChecker.Check(hit, plan);
        int bound = Bound(hit, plan);
        Console.WriteLine(Text($"{hosts,7} {settled.Servers.Count(s => s.Mark.Stage == Stage.Matrix),8} {plan.Moves.Count,6} {bound,6} {(double)(plan.Moves.Count - bound) / bound,6:P1} {plan.Refused.Count,8} {broken.Count,7} {first,8:0.000} {firstCpu,9:0.000} {firstPeak,9} {median,9:0.000} {cpu,6:0.000} {idle,7:0.000} {idleCpu,9:0.000} {peak,6}"));
        foreach (var refused in plan.Refused.Take(3))
            Console.WriteLine($"  refused: {refused.What}: {refused.Reason}");
        foreach (string rule in broken.Take(5))
            Console.WriteLine("  " + rule);
        if (nothing.Plan.Moves.Count > 0)
            Console.WriteLine(Text($"  the calm pool still has {nothing.Plan.Moves.Count} moves after {settling} plans: {nothing.Plan.Summary}"));
        return broken.Count == 0 && nothing.Plan.Moves.Count == 0;
    }

    private static double Time(PlannerInput input, out PlannerOutput output, out double cpu)
    {
        var (seconds, busy) = (new List<double>(), new List<double>());
        output = null!;
        for (int run = 0; run < Runs; run++)
        {
            var used = Environment.CpuUsage.TotalTime;
            long start = Stopwatch.GetTimestamp();
            output = Planner.Plan(input);
            busy.Add((Environment.CpuUsage.TotalTime - used).TotalSeconds);
            seconds.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        cpu = busy.Order().ElementAt(Runs / 2);
        return seconds.Order().ElementAt(Runs / 2);
    }

    /// <summary>Hosts of three sizes in 50 racks; services of four sizes, some with rules; twelve servers a host, and a tenth as many asleep.</summary>
    private static PlannerInput Pool(int hosts, Random r)
    {
        var hostSpecs = Enumerable.Range(0, hosts).Select(h => new HostSpec
        {
            Name = Text($"host{h + 1:00000}"),
            MemoryBytes = (h % 3) switch { 0 => 128 * GiB, 1 => 192 * GiB, _ => 256 * GiB },
            Cores = (h % 3) switch { 0 => 64, 1 => 96, _ => 128 },
            FaultDomain = Text($"rack{h % Racks:00}"),
            Licences = h % 4 == 0 ? ["SQL"] : [],
        }).ToArray();
        int each = hosts * 12 / Services;
        var services = Enumerable.Range(0, Services).Select(s => new ServiceSpec
        {
            Name = Text($"S{s:000}"),
            Priority = 1 + (s % 7),
            Least = 2,
            Capacity = Capacity,
            Isolation = Isolation.Shared,
            Image = new ImageSpec { MemoryBytes = (1 << (s % 4)) * GiB, Cores = 1 + (s % 4) },
            Spread = s % 5 == 0,
            AntiAffinity = s % 10 == 1 ? [Text($"S{s:000}")] : s % 10 == 2 ? [Text($"S{s + 1:000}")] : [],
            Licence = s % 20 == 3 ? "SQL" : null,
        }).ToArray();
        var servers = new List<ServerState>();
        foreach (var service in services)
        {
            for (int k = 0; k < each + (each / 10); k++)
                servers.Add(Server(servers.Count, service, k < each ? null : Stage.Nest));
        }

        var input = new PlannerInput
        {
            Pool = new PoolSpec
            {
                Name = "scale",
                Path = "",
                StateFolder = "",
                Hypervisor = "simulation",
                Hosts = hostSpecs,
                Services = services,
                Nest = new NestSpec { Folder = "" },
                Balancer = new BalancerSpec { Kind = "simulation" },
                Licences = [new LicenceSpec { Name = "SQL", InstancesPerHost = 8 }],
            },
            Now = s_now,
            Hosts = hostSpecs.Select(h => new HostState { Name = h.Name }).ToArray(),
            Servers = servers,
            Loads = services.ToDictionary(s => s.Name, s => Load(s.Name, Capacity * each, s_now, minutes: 120)),
            Images = services.ToDictionary(s => s.Name, _ => "1"),
        };
        return input;
    }

    /// <summary>Minutes of constant load up to a moment, one sample a minute.</summary>
    private static IReadOnlyList<ServiceLoad> Load(string service, double rate, DateTimeOffset now, int minutes) =>
        Enumerable.Range(1 - minutes, minutes).Select(k => new ServiceLoad { Service = service, At = now.AddMinutes(k), RequestRate = rate, ServedRate = rate }).ToArray();

    private static ServerState Server(int n, ServiceSpec service, Stage? stage) => new()
    {
        Mark = new ServerMark
        {
            ServerId = new Guid(n + 1, 0, 0, new byte[8]),
            Name = Text($"{service.Name}-{n + 1}"),
            Service = service.Name,
            Image = "1",
            Stage = stage ?? Stage.Nest,
            StateId = Guid.Empty,
            CreatedAt = s_now.AddDays(-30),
            ChangedAt = s_now.AddDays(-10),
        },
        Power = PowerState.Saved,
        MemoryBytes = service.Image.MemoryBytes,
        Cores = service.Image.Cores,
    };

    /// <summary>Fills the pool by its own plans, then gives it a constant load that fits what it holds.</summary>
    private static PlannerInput Settle(PlannerInput input, out int plans)
    {
        plans = 0;
        for (; plans < 4; plans++)
        {
            var output = Planner.Plan(input);
            if (output.Plan.Moves.Count == 0)
                break;
            input = Carried(input, output);
        }

        return input;
    }

    private static PlannerInput Carried(PlannerInput input, PlannerOutput output)
    {
        var servers = input.Servers.ToDictionary(s => s.Mark.ServerId);
        var services = input.Pool.Services.ToDictionary(s => s.Name);
        foreach (var move in output.Plan.Moves)
        {
            if (move.Kind == MoveKind.Create)
            {
                var made = Server(servers.Count, services[move.Service], null);
                servers[move.ServerId] = made with { Mark = made.Mark with { ServerId = move.ServerId, Name = move.ServerName } };
                continue;
            }

            var server = servers[move.ServerId];
            servers[move.ServerId] = server with
            {
                Mark = server.Mark with { Stage = move.ToStage, Generation = server.Mark.Generation + 1, ChangedAt = s_now.AddDays(-10) },
                Host = move.ToHost,
                Power = move.ToHost is null ? PowerState.Saved : PowerState.Running,
                Health = move.ToHost is null ? ServerHealth.Unknown : ServerHealth.Healthy,
            };
        }

        return input with { Servers = servers.Values.ToArray(), Memory = output.Memory };
    }

    /// <summary>1 % of the servers and 20 hosts die; a third of the services needs a tenth more or less.</summary>
    private static PlannerInput Hit(PlannerInput input, Random r)
    {
        var dead = new HashSet<string>();
        while (dead.Count < 20)
            dead.Add(input.Pool.Hosts[r.Next(input.Pool.Hosts.Count)].Name);
        var servers = input.Servers.ToArray();
        int[] live = Enumerable.Range(0, servers.Length).Where(i => servers[i].Mark.Stage == Stage.Matrix).ToArray();
        foreach (int i in live.OrderBy(_ => r.Next()).Take(live.Length / 100))
            servers[i] = servers[i] with { Health = ServerHealth.Dead };
        // Five minutes later: what was needed before is no longer held for calm's sake.
        var now = input.Now.AddMinutes(5);
        var loads = new Dictionary<string, IReadOnlyList<ServiceLoad>>();
        foreach (var (name, load) in input.Loads)
        {
            int number = int.Parse(name.AsSpan(1), CultureInfo.InvariantCulture);
            loads[name] = Load(name, load[^1].RequestRate * (number % 3 == 0 ? (number % 2 == 0 ? 1.1 : 0.9) : 1), now, minutes: 5);
        }

        return input with
        {
            Servers = servers,
            Hosts = input.Hosts.Select(h => dead.Contains(h.Name) ? h with { ProvenDead = true, Reachable = false } : h).ToArray(),
            Now = now,
            Loads = loads,
        };
    }

    /// <summary>
    /// Every server that died on a host that lives must be disposed of. Beyond that each service needs at least as many starts as it
    /// lacks serving servers, or as many hibernations as it has too many; a start without one asleep needs a creation before it.
    /// </summary>
    private static int Bound(PlannerInput input, Plan plan)
    {
        var dead = input.Hosts.Where(h => h.ProvenDead).Select(h => h.Name).ToHashSet();
        int moves = 0;
        var granted = plan.Decisions.ToDictionary(d => d.Service, d => d.Granted);
        foreach (var service in input.Servers.GroupBy(s => s.Mark.Service))
        {
            int broken = service.Count(s => s.Health == ServerHealth.Dead && !dead.Contains(s.Host!));
            int serving = service.Count(s => s.Mark.Stage == Stage.Matrix && s.Health != ServerHealth.Dead && !dead.Contains(s.Host!));
            int lost = service.Count(s => s.Mark.Stage == Stage.Matrix && dead.Contains(s.Host!));
            int asleep = service.Count(s => s.Mark.Stage == Stage.Nest);
            int lacks = granted[service.Key] - serving;
            moves += broken + Math.Abs(lacks) + Math.Max(0, lacks - lost - asleep);
        }

        return moves;
    }

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
