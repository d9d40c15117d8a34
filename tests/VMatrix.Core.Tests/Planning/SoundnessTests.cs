using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Drivers;
using VMatrix.Planning;
using VMatrix.Tests.Placement;
using Xunit;

namespace VMatrix.Tests.Planning;

/// <summary>
/// One server, host or service whose figures cannot be (missing, negative, not a number, beyond any machine) leaves the plan for all others
/// as it is: a balancer of another product stopped balancing a whole cluster for one machine without metrics
/// (https://github.com/apache/cloudstack/issues/13098).
/// </summary>
public sealed class SoundnessTests
{
    private static readonly long[] s_bytes = [-1, long.MinValue, long.MaxValue, 1L << 60, 0];
    private static readonly int[] s_counts = [-1, int.MinValue, int.MaxValue, 1 << 30, 0];
    private static readonly double[] s_numbers = [double.NaN, double.PositiveInfinity, double.NegativeInfinity, -1, double.MaxValue, double.Epsilon, 1e300, 0];

    [Fact]
    public void One_poisoned_server_leaves_the_plan_for_the_others()
    {
        foreach (var poison in Servers())
        {
            var input = Input();
            // On host3 by itself, and asleep, of a service that nobody else is of.
            foreach (int which in new[] { 4, 5 })
            {
                var servers = input.Servers.ToArray();
                servers[which] = poison(servers[which])!;
                Same(input, input with { Servers = servers });
            }
        }
    }

    [Fact]
    public void One_poisoned_host_leaves_the_plan_for_the_others()
    {
        foreach (var poison in Hosts())
        {
            var input = Input();
            // Where it may go may differ: there is a host less.
            Same(input, input with { Hosts = [.. input.Hosts.Select(h => h.Name == "host3" ? poison(h)! : h)] }, places: false);
        }

        foreach (var poison in HostSpecs())
        {
            var input = Input();
            Same(input, input with { Pool = input.Pool with { Hosts = [.. input.Pool.Hosts.Select(h => h.Name == "host3" ? poison(h)! : h)] } }, places: false);
        }
    }

    [Fact]
    public void One_poisoned_service_leaves_the_plan_for_the_others()
    {
        foreach (var poison in Services())
        {
            var input = Input();
            Same(input, input with { Pool = input.Pool with { Services = [.. input.Pool.Services.Select(s => s.Name == "ODD" ? poison(s)! : s)] } });
        }

        foreach (var poison in Loads())
        {
            var input = Input();
            var loads = input.Loads.ToDictionary(l => l.Key, l => l.Value);
            loads["ODD"] = poison(loads["ODD"])!;
            Same(input, input with { Loads = loads });
        }

        foreach (var poison in Rest())
        {
            var input = Input();
            Same(input, poison(input));
        }
    }

    [Fact]
    public void What_cannot_be_is_told_with_its_name_and_figure()
    {
        var input = Input();
        string Told(PlannerInput poisoned) => Assert.Single(Planner.Plan(poisoned).Plan.Refused, r => r.Reason.Contains("cannot be", StringComparison.Ordinal)).ToString()!;
        Assert.Contains("ODD-5", Told(input with { Servers = [.. input.Servers.Select((s, n) => n == 4 ? s with { MemoryBytes = -7 } : s)] }), StringComparison.Ordinal);
        Assert.Contains("host3", Told(input with { Hosts = [.. input.Hosts.Select(h => h.Name == "host3" ? h with { ForeignMemoryBytes = -7 } : h)] }), StringComparison.Ordinal);
        Assert.Contains("ODD", Told(input with { Pool = input.Pool with { Services = [.. input.Pool.Services.Select(s => s.Name == "ODD" ? s with { Priority = double.NaN } : s)] } }), StringComparison.Ordinal);
    }

    [Fact]
    public void A_server_larger_than_its_host_drives_no_others_away()
    {
        var input = PlacementRulesTests.Pool(3, [Spec("A"), Spec("ODD")], ("A", "host1"), ("A", "host1"), ("ODD", "host1"), ("A", "host2"));
        input = input with { Pool = input.Pool with { Services = [Spec("A") with { Least = 3 }, Spec("ODD")] }, Servers = [.. input.Servers.Select(s => s.Mark.Service == "ODD" ? s with { MemoryBytes = 60L << 40 } : s)] };
        Assert.Empty(Planner.Plan(input).Plan.Moves);
    }

    [Fact]
    public void A_sleeper_larger_than_any_host_sleeps_on_and_another_wakes()
    {
        var input = PlacementRulesTests.Pool(2, [Spec("A") with { Least = 1 }], ("A", null), ("A", null));
        input = input with { Servers = [input.Servers[0] with { MemoryBytes = 60L << 40, Mark = input.Servers[0].Mark with { ChangedAt = input.Now.AddDays(-99) } }, input.Servers[1]] };
        var wake = Assert.Single(Planner.Plan(input).Plan.Moves);
        Assert.Equal((MoveKind.Wake, "A-2"), (wake.Kind, wake.ServerName));
    }

    [Fact]
    public void A_pinned_count_beyond_any_pool_ends_in_a_plan()
    {
        var input = Input() with { Pinned = new Dictionary<string, int> { ["ODD"] = int.MaxValue } };
        var plan = Planner.Plan(input).Plan;
        Assert.True(plan.Moves.Count < 1000);
        Assert.Contains("2147483647 are asked for", Assert.Single(plan.Unmet, u => u.Setting == "pinned count of ODD").Why, StringComparison.Ordinal);
    }

    [Fact]
    public void Sound_input_is_taken_as_it_is()
    {
        for (int seed = 0; seed < 200; seed++)
        {
            var input = new RandomPool(seed, 5, 3, Wildness.Wild).Input();
            var sound = Soundness.Of(input);
            Assert.Empty(sound.Unsound!);
            Assert.Same(input.Pool, sound.Pool);
            Assert.Same(input.Servers, sound.Servers);
            Assert.Same(input.Hosts, sound.Hosts);
            Assert.Same(input.Loads, sound.Loads);
            Assert.Same(input.Advice, sound.Advice);
        }
    }

    /// <summary>The moves of A and B are as they were; what is said of them too.</summary>
    private static void Same(PlannerInput sound, PlannerInput poisoned, bool places = true)
    {
        string[] wanted = Moves(Planner.Plan(sound), places), got;
        PlannerOutput output;
        try
        {
            output = Planner.Plan(poisoned);
            got = Moves(output, places);
            // And the next plan, from the memory of that one.
            _ = Planner.Plan(poisoned with { Memory = output.Memory });
        }
        catch (Exception error) when (error is not Xunit.Sdk.XunitException)
        {
            throw new InvalidOperationException($"The plan was lost for {Tell(poisoned)}.", error);
        }

        Assert.True(wanted.SequenceEqual(got), $"{string.Join("; ", wanted)} became {string.Join("; ", got)} for {Tell(poisoned)}");
        Assert.NotEmpty(wanted);
    }

    private static string[] Moves(PlannerOutput output, bool places) => [.. output.Plan.Moves.Where(m => m.Service is "A" or "B").Select(m => $"{m.Kind} {m.ServerName} {(places ? $"{m.FromHost} {m.ToHost}" : "")}").Order()];

    private static string Tell(PlannerInput input) =>
        string.Join(", ", input.Servers?.Where(s => s?.Mark?.Service is not ("A" or "B")).Select(s => s?.ToString() ?? "null") ?? [])
        + string.Join(", ", input.Hosts?.Select(h => h?.ToString() ?? "null") ?? []) + string.Join(", ", input.Pool.Services.Select(s => s?.Name == "ODD" ? s.ToString() : ""));

    private static PlannerInput Input()
    {
        // A has a server more than it needs, and B one less.
        var input = PlacementRulesTests.Pool(4, [Spec("A"), Spec("B") with { Least = 2 }, Spec("ODD")], ("A", "host1"), ("A", "host2"), ("B", "host1"), ("B", null), ("ODD", "host3"), ("ODD", null));
        return input with
        {
            Pool = input.Pool with { Oracle = input.Pool.Oracle with { BalanceGap = 0.5, BalanceBy = BalanceMeasure.Both }, Hosts = [.. input.Pool.Hosts.Select(h => h with { Cores = 8 })] },
            Servers = [.. input.Servers.Select(s => s with { MemoryUsedBytes = 64L << 20, ProcessorUse = 0.1, OpenRequests = s.Mark.Name == "A-1" ? 1 : 0 })],
            WakeTime = new Dictionary<string, TimeSpan> { ["ODD"] = TimeSpan.FromSeconds(1) },
            WakeBytes = new Dictionary<string, long> { ["ODD"] = 1 },
        };
    }

    private static ServiceSpec Spec(string name) => new() { Name = name, Least = 1, Most = 4, Capacity = 100, Isolation = Isolation.Shared, Image = new ImageSpec() };

    private static IEnumerable<Func<ServerState, ServerState?>> Servers()
    {
        yield return _ => null;
        yield return s => s with { Mark = null! };
        yield return s => s with { Mark = s.Mark with { Name = null! } };
        yield return s => s with { Mark = s.Mark with { Service = null! } };
        yield return s => s with { Mark = s.Mark with { Image = null! } };
        yield return s => s with { Mark = s.Mark with { Stage = (Stage)99 } };
        yield return s => s with { Mark = s.Mark with { Stage = (Stage)(-1) } };
        yield return s => s with { Mark = s.Mark with { ServerId = Guid.Empty } };
        yield return s => s with { Mark = s.Mark with { Generation = int.MaxValue } };
        yield return s => s with { Mark = s.Mark with { ChangedAt = DateTimeOffset.MaxValue, CreatedAt = DateTimeOffset.MinValue } };
        yield return s => s with { Mark = s.Mark with { ChangedAt = DateTimeOffset.MinValue } };
        yield return s => s with { Mark = s.Mark with { HeldUntil = DateTimeOffset.MaxValue } };
        yield return s => s with { AsleepSince = DateTimeOffset.MaxValue };
        yield return s => s with { AsleepSince = DateTimeOffset.MinValue };
        yield return s => s with { Host = "nowhere" };
        yield return s => s with { Host = "" };
        yield return s => s with { Power = (PowerState)99, Health = (ServerHealth)99 };
        yield return s => s with { Claimed = true };
        yield return s => s with { Claimed = true, ClaimedTo = (Stage)99, ClaimedHost = "nowhere" };
        foreach (long bytes in s_bytes)
        {
            yield return s => s with { MemoryBytes = bytes };
            yield return s => s with { MemoryUsedBytes = bytes };
        }

        foreach (int count in s_counts)
        {
            yield return s => s with { Cores = count };
            yield return s => s with { OpenRequests = count };
        }

        foreach (double number in s_numbers)
            yield return s => s with { ProcessorUse = number };
    }

    private static IEnumerable<Func<HostState, HostState?>> Hosts()
    {
        yield return _ => null;
        yield return h => h with { Name = null! };
        yield return h => h with { Name = "nowhere" };
        yield return h => h with { Images = null! };
        foreach (long bytes in s_bytes)
            yield return h => h with { ForeignMemoryBytes = bytes };
        foreach (int count in s_counts)
            yield return h => h with { ForeignCores = count };
    }

    private static IEnumerable<Func<HostSpec, HostSpec?>> HostSpecs()
    {
        yield return _ => null;
        yield return h => h with { Licences = null! };
        yield return h => h with { Role = (HostRole)99 };
        foreach (long bytes in s_bytes)
            yield return h => h with { MemoryBytes = bytes };
        foreach (int count in s_counts)
        {
            yield return h => h with { Cores = count };
            yield return h => h with { MostServers = count };
        }
    }

    private static IEnumerable<Func<ServiceSpec, ServiceSpec?>> Services()
    {
        yield return _ => null;
        yield return s => s with { Image = null! };
        yield return s => s with { Health = null! };
        yield return s => s with { AllowedHosts = null!, ForbiddenHosts = null!, Affinity = null!, AntiAffinity = null!, Freeze = null!, RetireFirst = null!, Protected = null!, NeverBalance = null! };
        foreach (double number in s_numbers)
        {
            yield return s => s with { Priority = number == double.MaxValue || number == 1e300 || double.IsPositiveInfinity(number) ? -2 : number };
            yield return s => s with { Capacity = number };
        }

        foreach (long bytes in s_bytes)
            yield return s => s with { Image = new ImageSpec { MemoryBytes = bytes } };
        foreach (int count in s_counts)
        {
            yield return s => s with { Image = new ImageSpec { Cores = count } };
            yield return s => s with { Most = count };
        }
    }

    private static IEnumerable<Func<IReadOnlyList<ServiceLoad>, IReadOnlyList<ServiceLoad>?>> Loads()
    {
        yield return _ => null;
        yield return _ => [];
        yield return _ => [null!];
        yield return l => [.. l, null!];
        yield return l => [.. l, l[0], l[0]];
        yield return l => [l[0] with { At = DateTimeOffset.MaxValue }];
        yield return l => [l[0] with { At = DateTimeOffset.MinValue }, l[0]];
        foreach (double number in s_numbers)
        {
            yield return l => [l[0] with { RequestRate = number }];
            yield return l => [l[0] with { ServedRate = number, Queue = 1 }];
            yield return l => [l[0] with { At = l[0].At.AddSeconds(-1), RequestRate = number, ServedRate = number }, l[0]];
            yield return l => [l[0] with { ErrorRate = number, RefusedRate = number }];
        }

        foreach (int count in s_counts)
            yield return l => [l[0] with { Queue = count, Sessions = count }];
    }

    private static IEnumerable<Func<PlannerInput, PlannerInput>> Rest()
    {
        foreach (string json in new[] { null!, "", "null", "[1,2,3]", "{\"Failing\":null}", "{\"Needs\":[null]}", "{\"Saturated\":-1e308,\"Carried\":-5}", "{\"Saturated\":1e-320}", "{\"Minute\":9223372036854775807}", "nonsense" })
            yield return i => i with { Memory = new PlannerMemory { ByService = new Dictionary<string, string> { ["ODD"] = json } } };
        yield return i => i with { Memory = new PlannerMemory { ByService = null!, Forecasts = null!, Seats = null!, Refreshes = null!, IdleSince = null! } };
        yield return i => i with { Memory = new PlannerMemory { Seats = [null!, new LicenceSeat(null!, null!, default), new LicenceSeat("SQL", "host3", DateTimeOffset.MaxValue)], Refreshes = [null!] } };
        foreach (int count in new[] { -1, int.MinValue })
            yield return i => i with { Pinned = new Dictionary<string, int> { ["ODD"] = count } };
        yield return i => i with { WakeTime = new Dictionary<string, TimeSpan> { ["ODD"] = TimeSpan.MaxValue } };
        yield return i => i with { WakeTime = new Dictionary<string, TimeSpan> { ["ODD"] = TimeSpan.MinValue } };
        yield return i => i with { WakeBytes = new Dictionary<string, long> { ["ODD"] = long.MaxValue } };
        yield return i => i with { WakeBytes = new Dictionary<string, long> { ["ODD"] = long.MinValue } };
        yield return i => i with { HostWakeTime = TimeSpan.MaxValue };
        yield return i => i with { Advice = null!, Images = null!, Pinned = null!, WakeTime = null!, WakeBytes = null! };
        yield return i => i with { Images = new Dictionary<string, string> { ["ODD"] = null! } };
        yield return i => i with { Advice = new HostAdvice { Verdicts = [null!, new HostVerdict { Host = null!, Service = null! }, new HostVerdict { Host = "host3", Service = "ODD", Rating = double.NaN }, new HostVerdict { Host = "host4", Service = "ODD", Rating = 1e300 }], Problems = [null!] } };
    }
}
