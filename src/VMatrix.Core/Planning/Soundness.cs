using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Drivers;

namespace VMatrix.Planning;

/// <summary>
/// Takes out of a planner's input what cannot be, so that one server, host or service whose figures are missing, negative, not a number or
/// beyond any machine leaves the plan for all the others as it is. Each is told as something refused. Sound input is returned as it came.
/// </summary>
internal static class Soundness
{
    /// <summary>No machine has more memory, as pool files have it.</summary>
    private const long MostMemory = 64L << 40;

    /// <summary>No machine has more cores, as pool files have it.</summary>
    private const int MostCores = 4096;

    /// <summary>The machines of one host do not have more virtual processors between them.</summary>
    private const int MostForeignCores = 1 << 20;

    private static readonly TimeSpan s_longestWake = TimeSpan.FromDays(1);

    /// <summary>The input without what cannot be.</summary>
    public static PlannerInput Of(PlannerInput input)
    {
        if (input.Unsound is not null)
            return input;
        var told = new List<RefusedMove>();
        var memory = input.Memory;
        if (memory is not null)
        {
            memory = memory with
            {
                ByService = memory.ByService ?? new Dictionary<string, string>(),
                Forecasts = memory.Forecasts ?? new Dictionary<string, ForecastState>(),
                Seats = memory.Seats is null || memory.Seats.Any(s => s is not { Licence: not null, Host: not null }) ? [.. (memory.Seats ?? []).Where(s => s is { Licence: not null, Host: not null })] : memory.Seats,
                Refreshes = memory.Refreshes is null || memory.Refreshes.Contains(null!) ? [.. (memory.Refreshes ?? []).Where(r => r is not null)] : memory.Refreshes,
                PurgeDue = memory.PurgeDue is null || memory.PurgeDue.Any(d => !IsSound(d)) ? [.. (memory.PurgeDue ?? []).Where(IsSound)] : memory.PurgeDue,
                IdleSince = memory.IdleSince ?? new Dictionary<string, DateTimeOffset>(),
            };
        }

        var pool = Of(input.Pool, told);
        return input with
        {
            Pool = pool,
            Hosts = Of(input.Hosts, told, Host),
            Servers = Of(input.Servers, told, (server, all) => Server(server, input.Now, all)),
            Loads = Loads(input, pool),
            Memory = memory,
            Pinned = input.Pinned is null || input.Pinned.Values.Any(n => n < 0) ? (input.Pinned ?? new Dictionary<string, int>()).Where(p => p.Value >= 0).ToDictionary(p => p.Key, p => p.Value) : input.Pinned,
            WakeTime = Where(input.WakeTime, t => t >= TimeSpan.Zero && t <= s_longestWake),
            WakeBytes = Where(input.WakeBytes, b => b is >= 0 and <= MostMemory),
            HostWakeTime = input.HostWakeTime is { } wake && (wake < TimeSpan.Zero || wake > s_longestWake) ? null : input.HostWakeTime,
            Images = input.Images ?? new Dictionary<string, string>(),
            Advice = Advice(input.Advice),
            Failures = input.Failures is null || input.Failures.Contains(null!) ? [.. (input.Failures ?? []).Where(f => f is not null)] : input.Failures,
            Unsound = told,
        };
    }

    private static bool IsSound(PurgeDue due) => due is not null && due.For >= TimeSpan.Zero && due.For <= TimeSpan.FromDays(3650);

    private static PoolSpec Of(PoolSpec pool, List<RefusedMove> told)
    {
        var hosts = Of(pool.Hosts, told, (host, all) =>
        {
            if (host is not { Name: not null })
                return null;
            if (host.MemoryBytes is >= 0 and <= MostMemory && host.Cores is null or (>= 0 and <= MostCores) && host.MostServers is null or >= 0 && host.Licences is not null)
                return host;
            all.Add(new RefusedMove($"place servers on {host.Name}", Words.Text($"it is said to have {host.MemoryBytes} bytes of memory and {(object?)host.Cores ?? "any"} cores, which no host has; it counts as having none")));
            return host with { MemoryBytes = host.MemoryBytes is >= 0 and <= MostMemory ? host.MemoryBytes : 0, Cores = host.Cores is null or (>= 0 and <= MostCores) ? host.Cores : 0, MostServers = host.MostServers is < 0 ? 0 : host.MostServers, Licences = host.Licences ?? [] };
        });
        var services = Of(pool.Services, told, (service, all) =>
        {
            if (service is not { Name: not null })
                return null;
            bool priority = service.Priority is > 0 and < double.PositiveInfinity, capacity = service.Capacity is null or (> 0 and < double.PositiveInfinity);
            bool image = service.Image is { MemoryBytes: > 0 and <= MostMemory, Cores: >= 0 and <= MostCores }, counts = service.Least >= 0 && service.Most >= 0;
            bool lists = service is { AllowedHosts: not null, ForbiddenHosts: not null, Affinity: not null, AntiAffinity: not null, Freeze: not null, Health: not null, RetireFirst: not null, Protected: not null, NeverBalance: not null };
            if (priority && capacity && image && counts && lists)
                return service;
            string? wrong = !priority ? $"its priority {service.Priority} cannot be; 1 is taken"
                : !capacity ? $"its capacity {service.Capacity} cannot be; it is learned"
                : !image ? $"its image of {service.Image?.MemoryBytes} bytes and {service.Image?.Cores} cores cannot be; nothing is made from it"
                : !counts ? $"its least {service.Least} and most {service.Most} cannot be; none is taken for what is below 0" : null;
            if (wrong is not null)
                all.Add(new RefusedMove($"take {service.Name} as it is described", Words.Text($"{wrong}")));
            return service with
            {
                Priority = priority ? service.Priority : 1,
                Capacity = capacity ? service.Capacity : null,
                // Larger than any host: nothing is made from it, and what lives is left as it is.
                Image = image ? service.Image! : new ImageSpec { MemoryBytes = MostMemory, Cores = 1 },
                Least = Math.Max(0, service.Least),
                Most = Math.Max(0, service.Most),
                AllowedHosts = service.AllowedHosts ?? [],
                ForbiddenHosts = service.ForbiddenHosts ?? [],
                Affinity = service.Affinity ?? [],
                AntiAffinity = service.AntiAffinity ?? [],
                Freeze = service.Freeze ?? [],
                Health = service.Health ?? new HealthSpec(),
                RetireFirst = service.RetireFirst ?? [],
                Protected = service.Protected ?? [],
                NeverBalance = service.NeverBalance ?? [],
            };
        });
        return ReferenceEquals(hosts, pool.Hosts) && ReferenceEquals(services, pool.Services) ? pool : pool with { Hosts = hosts, Services = services };
    }

    /// <summary>Each of a list as it may be taken, or left out where that is null; the list itself where all are sound.</summary>
    private static IReadOnlyList<T> Of<T>(IReadOnlyList<T>? all, List<RefusedMove> told, Func<T?, List<RefusedMove>, T?> sound)
        where T : class
    {
        if (all is null)
            return [];
        List<T>? changed = null;
        for (int k = 0; k < all.Count; k++)
        {
            var taken = sound(all[k], told);
            if (changed is null && !ReferenceEquals(taken, all[k]))
                changed = [.. all.Take(k)];
            if (taken is not null)
                changed?.Add(taken);
            else if (changed is null)
                changed = [.. all.Take(k)];
        }

        return changed is null ? all : changed;
    }

    private static HostState? Host(HostState? host, List<RefusedMove> told)
    {
        if (host is not { Name: not null })
            return null;
        bool cannotBe = host.ForeignMemoryBytes is < 0 or > MostMemory || host.ForeignCores is < 0 or > MostForeignCores;
        if (!cannotBe && host.Images is not null)
            return host;
        if (cannotBe)
            told.Add(new RefusedMove($"place servers on {host.Name}", Words.Text($"it tells that machines which are not ours hold {host.ForeignMemoryBytes} bytes and {host.ForeignCores} cores, which cannot be; nothing is placed there and nothing on it is touched")));
        return host with { ForeignMemoryBytes = cannotBe ? 0 : host.ForeignMemoryBytes, ForeignCores = cannotBe ? 0 : host.ForeignCores, Reachable = host.Reachable && !cannotBe, Images = host.Images ?? [] };
    }

    private static ServerState? Server(ServerState? server, DateTimeOffset now, List<RefusedMove> told)
    {
        if (server?.Mark is not { } mark || mark.Stage is < Stage.Nest or > Stage.Disposed)
        {
            told.Add(new RefusedMove($"plan with {server?.Mark?.Name ?? "a server"}", server?.Mark is null ? "nothing tells which server it is" : "the stage in its mark is none"));
            return null;
        }

        if (mark is { Name: not null, Service: not null, Image: not null } && mark.ChangedAt <= now.AddDays(1)
            && server.MemoryBytes is >= 0 and <= MostMemory && server.MemoryUsedBytes is null or (>= 0 and <= MostMemory) && server.Cores is >= 0 and <= MostCores
            && server.ProcessorUse is null or (>= 0 and <= 1) && server.OpenRequests is null or >= 0)
        {
            return server;
        }

        var wrong = new List<string>();
        Check(mark is { Name: not null, Service: not null, Image: not null }, "its mark has no name, service or image");
        Check(server.MemoryBytes is >= 0 and <= MostMemory, Words.Text($"it is said to have {server.MemoryBytes} bytes of memory"));
        Check(server.MemoryUsedBytes is null or (>= 0 and <= MostMemory), Words.Text($"it is said to use {server.MemoryUsedBytes} bytes of memory"));
        Check(server.Cores is >= 0 and <= MostCores, Words.Text($"it is said to have {server.Cores} cores"));
        Check(server.ProcessorUse is null or (>= 0 and < 1000), Words.Text($"it is said to use {server.ProcessorUse} of its processors"));
        Check(server.OpenRequests is null or >= 0, Words.Text($"{server.OpenRequests} requests are said to be open at it"));
        if (wrong.Count > 0)
            told.Add(new RefusedMove($"take {mark.Name ?? mark.ServerId.ToString()} as it is told", $"{string.Join(", ", wrong)}, which cannot be; what its image says is taken instead"));
        return server with
        {
            Mark = mark with { Name = mark.Name ?? "", Service = mark.Service ?? "", Image = mark.Image ?? "", ChangedAt = mark.ChangedAt > now.AddDays(1) ? now : mark.ChangedAt, HeldUntil = mark.ChangedAt > now.AddDays(1) && mark.HeldUntil is { } until ? now + (until > mark.ChangedAt ? until - mark.ChangedAt : TimeSpan.Zero) : mark.HeldUntil },
            MemoryBytes = server.MemoryBytes is >= 0 and <= MostMemory ? server.MemoryBytes : 0,
            MemoryUsedBytes = server.MemoryUsedBytes is >= 0 and <= MostMemory ? server.MemoryUsedBytes : null,
            Cores = server.Cores is >= 0 and <= MostCores ? server.Cores : 0,
            // A little over is how it was measured.
            ProcessorUse = server.ProcessorUse is >= 0 and < 1000 and double use ? Math.Min(1, use) : null,
            OpenRequests = server.OpenRequests is >= 0 ? server.OpenRequests : null,
        };

        void Check(bool sound, string what)
        {
            if (!sound)
                wrong.Add(what);
        }
    }

    private static IReadOnlyDictionary<string, IReadOnlyList<ServiceLoad>> Loads(PlannerInput input, PoolSpec pool)
    {
        if (input.Loads is null)
            return new Dictionary<string, IReadOnlyList<ServiceLoad>>();
        Dictionary<string, IReadOnlyList<ServiceLoad>>? changed = null;
        double mostQueue = pool.Oracle.MostRate * Math.Max(1, pool.Balancer.QueueTimeout.TotalSeconds);
        foreach (var service in pool.Services)
        {
            if (!input.Loads.TryGetValue(service.Name, out var samples) || (samples is not null && Sound(samples)))
                continue;
            changed ??= input.Loads.Where(l => l.Value is not null).ToDictionary(l => l.Key, l => l.Value, StringComparer.OrdinalIgnoreCase);
            changed[service.Name] = [.. (samples ?? []).Where(s => s is not null).Select(s => Why(s) is string why ? s with { Bad = why, At = s.At > input.Now ? input.Now : s.At } : s)];
        }

        return changed ?? input.Loads;

        bool Sound(IReadOnlyList<ServiceLoad> samples)
        {
            for (int k = 0; k < samples.Count; k++)
            {
                if (samples[k] is null || Why(samples[k]) is not null)
                    return false;
            }

            return true;
        }

        string? Why(ServiceLoad sample) => sample.Bad is not null ? null
            : sample.At > input.Now + pool.Oracle.StaleAfter ? "the load sample is from the future: a clock was set back"
            : !(sample.RequestRate is >= 0 and < double.PositiveInfinity && sample.ServedRate is >= 0 and < double.PositiveInfinity && sample.Queue >= 0) ? "the load sample is negative or not a number"
            : sample.Queue > mostQueue ? Words.Text($"{sample.Queue} requests cannot wait where at most {pool.Oracle.MostRate:0} a second can come")
            : null;
    }

    private static IReadOnlyDictionary<string, T> Where<T>(IReadOnlyDictionary<string, T>? all, Func<T, bool> sound) =>
        all is null ? new Dictionary<string, T>() : all.Values.All(sound) ? all : all.Where(p => sound(p.Value)).ToDictionary(p => p.Key, p => p.Value, StringComparer.OrdinalIgnoreCase);

    private static HostAdvice Advice(HostAdvice? advice)
    {
        if (advice is null)
            return new HostAdvice();
        if (advice is { Verdicts: not null, Problems: not null } && advice.Verdicts.All(v => v is { Host: not null, Service: not null } && !double.IsNaN(v.Rating ?? 0)))
            return advice;
        return new HostAdvice
        {
            Verdicts = [.. (advice.Verdicts ?? []).Where(v => v is { Host: not null, Service: not null }).Select(v => double.IsNaN(v.Rating ?? 0) ? v with { Rating = null } : v)],
            Problems = [.. (advice.Problems ?? []).Where(p => p is not null)],
        };
    }
}
