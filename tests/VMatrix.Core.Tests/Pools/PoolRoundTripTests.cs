using System;
using System.Collections;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;
using CsCheck;
using VMatrix.Pools;
using Xunit;

namespace VMatrix.Tests.Pools;

/// <summary>Any pool that can be described is described by some file, and reading that file gives the pool.</summary>
public sealed class PoolRoundTripTests
{
    private static readonly string s_folder = Path.GetFullPath("/pools/x");

    private static string In(string name) => Path.Combine(s_folder, name);

    private static readonly Gen<string> s_word = Gen.Select(Gen.Char["abcXYZ"], Gen.String[Gen.Char["ab1._-"], 0, 8], (c, s) => $"{c}{s}z");
    private static readonly Gen<string> s_path = s_word.Select(w => In($"files-{w}"));
    private static readonly Gen<string> s_line = Gen.String[Gen.Char[" aZ9#:,[]{}&*!|>'\"%@`\\é"], 1, 20];
    private static readonly Gen<long> s_memory = Gen.Long[16, 4096].Select(m => m << 20);
    private static readonly Gen<TimeSpan> s_time = Gen.OneOf(Gen.Int[1, 59_000].Select(ms => TimeSpan.FromMilliseconds(ms)), Gen.Int[1, 3600].Select(s => TimeSpan.FromSeconds(s))).Where(t => t >= TimeSpan.FromSeconds(1) && t <= TimeSpan.FromHours(1));
    private static readonly Gen<double> s_share = Gen.Int[1, 1000].Select(n => n / 1000.0);

    private static readonly Gen<FreezeSpec> s_freeze = Gen.Select(Gen.Shuffle(Enum.GetValues<DayOfWeek>(), 0, 7), Gen.Int[0, 1439], Gen.Int[0, 1439],
        (days, from, to) => new FreezeSpec { Days = days, From = TimeSpan.FromMinutes(from), To = TimeSpan.FromMinutes(to) });

    private static readonly Gen<HealthSpec> s_health = Gen.Select(s_word, Gen.Int[100, 599], s_time, s_time, Gen.Int[1, 9], s_time,
        (path, expect, interval, timeout, failures, start) => new HealthSpec { Path = "/" + path, Expect = expect, Interval = interval, Timeout = timeout, Failures = failures, StartTimeout = start });

    private static readonly Gen<ImageSpec> s_image = Gen.Select(s_path, s_path, s_path, s_line, s_memory, Gen.Int[1, 4], Gen.Int[0, 15],
        (disk, kernel, initrd, append, memory, cores, bits) => new ImageSpec
        {
            Disk = (bits & 1) > 0 ? disk : null,
            Kernel = (bits & 2) > 0 || (bits & 1) == 0 ? kernel : null,
            Initrd = (bits & 2) > 0 ? initrd : null,
            Append = (bits & 2) > 0 && append.Trim().Length > 0 ? append : null,
            MemoryBytes = memory,
            Cores = cores,
            Warm = (bits & 4) > 0,
            Agent = (bits & 8) > 0 ? "qga" : null,
        });

    /// <summary>A service without its name and its references, which depend on the others.</summary>
    private static readonly Gen<ServiceSpec> s_service = Gen.Select(Gen.Int[1, 4000], Gen.Int[0, 20], s_image, s_health, s_freeze.Array[0, 2], Gen.Int[1, 65535], Gen.Int[0, 255],
        (priority, most, image, health, freeze, port, bits) => new ServiceSpec
        {
            Name = "",
            Priority = priority / 16.0,
            Least = 0,
            Most = most == 20 ? int.MaxValue : most,
            Image = image,
            Port = port,
            Health = health,
            Capacity = (bits & 1) > 0 ? priority / 8.0 : null,
            Concurrency = (bits & 2) > 0 ? priority : null,
            Isolation = (bits & 4) > 0 ? Isolation.Shared : Isolation.Dedicated,
            Spread = (bits & 8) > 0,
            Licence = (bits & 16) > 0 ? "SQL" : null,
            RetireFirst = (bits & 64) > 0 ? ["s0-1", "s0-2*"] : [],
            Protected = (bits & 128) > 0 ? ["*"] : [],
            NeverBalance = (bits & 1) > 0 ? ["?0-1"] : [],
            Mode = (bits & 32) > 0 ? OracleMode.Shadow : null,
            Freeze = freeze,
        });

    private static readonly Gen<HostSpec> s_host = Gen.Select(s_memory, Gen.Int[0, 64], Gen.Int[0, 9], s_word, Gen.Bool, Gen.Bool,
        (memory, cores, servers, domain, chamber, licensed) => new HostSpec
        {
            Name = "",
            Role = chamber ? HostRole.Chamber : HostRole.Matrix,
            MemoryBytes = memory,
            Cores = cores == 0 ? null : cores,
            MostServers = servers == 0 ? null : servers,
            FaultDomain = domain,
            Licences = licensed ? ["SQL", "WIN"] : [],
        });

    private static readonly Gen<OracleSpec> s_oracle = Gen.Select(s_time, Gen.Enum<OracleMode>(), s_share, s_time, s_time, s_share, Gen.Bool, Gen.Int[1, 1_000_000],
        (interval, mode, use, calm, horizon, gap, power, most) => new OracleSpec
        {
            Interval = interval, Mode = mode, TargetUse = use, MostRate = most, Calm = calm, Horizon = horizon, Season = horizon + TimeSpan.FromMinutes(1), PlanExpiry = calm, StaleAfter = interval + calm, HoldFor = horizon,
            ReserveHosts = 0, ServerCost = use, ActivationCost = gap, CopyCost = use, Stay = gap, BalanceGap = power ? gap : null, BalanceAbove = power ? use : null, BalanceBy = power ? BalanceMeasure.Both : BalanceMeasure.Processor, MinSampleCoverage = use, PowerDownAfter = horizon, IdleHosts = power ? 3 : 0, HostWakeTime = calm,
        });

    private static readonly Gen<SimulationSpec> s_simulation = Gen.Select(Gen.Int[0, 1000], s_time, s_memory, s_share, Gen.Bool, s_share,
        (seed, time, size, share, shared, noise) => new SimulationSpec
        {
            Seed = seed, BootTime = time, WakeTime = time, Bandwidth = size, DiskBytes = size, Capacity = seed + 1, FailureRate = share, SlowRate = noise, LostSampleRate = share, SharedDisks = shared,
            Dead = shared ? ["h0"] : [], Demand = [new DemandSpec { Service = "s0", Rate = seed, Swing = share, Period = time, Phase = noise, Noise = share }],
        });

    private static readonly Gen<PoolSpec> s_pool = Gen.Select(s_word, s_host.Array[0, 6], s_service.Array[1, 5], s_oracle, s_simulation, Gen.Select(s_time, s_time, Gen.Int[1, 9], Gen.Bool), Gen.Int[0, 1000],
        (name, hosts, services, oracle, simulation, more, seed) => Pool(name, hosts, services, oracle, simulation, more.Item1, more.Item2, more.Item3, more.Item4, seed));

    private static PoolSpec Pool(string name, HostSpec[] hosts, ServiceSpec[] services, OracleSpec oracle, SimulationSpec simulation, TimeSpan time, TimeSpan other, int number, bool own, int seed) =>
        new()
        {
            Name = name,
            Path = In("pool.yaml"),
            StateFolder = In("state"),
            Hypervisor = "qemu",
            // The first host can carry anything, so that what is tried here is reading, not room.
            Hosts = [.. hosts.Prepend(new HostSpec { Name = "", MemoryBytes = 1L << 40, Licences = ["SQL"], Address = null }).Select((h, i) => h with { Name = $"h{i}", Folder = In($"f{i}") })],
            Services = [.. services.Select((s, i) => s with
            {
                Name = $"s{i}",
                Listen = own ? $"127.0.0.1:{2000 + i}" : seed % 2 == 0 ? $"[::1]:{3000 + i}" : null,
                AllowedHosts = seed % 3 == 0 ? ["h0"] : [],
                ForbiddenHosts = seed % 5 == 0 && hosts.Length > 0 ? ["h1"] : [],
                AntiAffinity = seed % 2 == 0 ? [$"s{i}"] : [],
                Affinity = i > 0 && s.Isolation == Isolation.Shared && services[0].Isolation == Isolation.Shared ? ["s0"] : [],
            })],
            Licences = [new LicenceSpec { Name = "SQL", Seats = number, InstancesPerHost = own ? number : null, ReassignAfter = other }],
            Nest = new NestSpec { Folder = In("the nest"), PurgeAfter = other },
            Balancer = new BalancerSpec { Kind = "haproxy", Own = own, Socket = own ? null : In("admin.sock"), DrainTimeout = time, QueueTimeout = other, MostOpen = own ? number : null },
            Oracle = oracle,
            Limits = new LimitSpec { MovesPerHost = number, MovesPerPool = number * 2, StepTimeout = other, Tries = number },
            Simulation = simulation,
        };

    [Fact]
    public void A_pool_written_down_is_read_back() => s_pool.Sample(pool =>
    {
        var text = new StringBuilder();
        Write(text, PoolTable.Pool, pool, "");
        var (read, findings) = PoolFile.Read(pool.Path, Encoding.UTF8.GetBytes(text.ToString()));
        Assert.Empty(findings.Select(f => f.ToString()));
        Assert.Equal(JsonSerializer.Serialize(pool), JsonSerializer.Serialize(read));
        PoolRules.Hold(read!);
    }, iter: 300, threads: 1);

    /// <summary>Writes every key of a section whose value is not its default.</summary>
    private static void Write(StringBuilder text, PoolSection section, object value, string indent)
    {
        var defaults = section.Defaults();
        foreach (var key in section.Keys)
        {
            if (section.PropertyOf(key.Name) is not { } property)
            {
                text.Append(indent).Append(key.Name).Append(":\n");
                Write(text, (PoolSection)key.Kind, value, indent + "  ");
                continue;
            }

            var now = property.GetValue(value);
            if (now is null || (!key.Required && Equals(now, property.GetValue(defaults))))
                continue;
            text.Append(indent).Append(key.Name).Append(':');
            switch (key.Kind)
            {
                case PoolSection inner:
                    text.Append('\n');
                    Write(text, inner, now, indent + "  ");
                    break;
                case ListOf { Item: PoolSection item }:
                    var all = ((IEnumerable)now).Cast<object>().ToArray();
                    text.Append(all.Length == 0 ? " []\n" : "\n");
                    foreach (var one in all)
                    {
                        text.Append(indent).Append("-\n");
                        Write(text, item, one, indent + "  ");
                    }

                    break;
                case ListOf list:
                    text.Append(" [").AppendJoin(", ", ((IEnumerable)now).Cast<object>().Select(v => Quote(list.Item, v))).Append("]\n");
                    break;
                default:
                    text.Append(' ').Append(Quote(key.Kind, now)).Append('\n');
                    break;
            }
        }
    }

    private static string Quote(PoolKind kind, object value) => kind is VMatrix.Pools.Text or PathTo or Listen or TimeOfDay ? $"'{kind.Write(value).Replace("'", "''", StringComparison.Ordinal)}'" : kind.Write(value);
}
