using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Shells;

namespace VMatrix.HyperV;

/// <summary>
/// How busy servers are, by Hyper-V's resource metering (Measure-VM): megahertz on average since metering was switched on or reset. Two answers give
/// what was used between them. It is switched on for our own servers only, and reset for them when its average has become too long to tell that.
/// On a host whose own processors are full a server may want more than it gets: it counts as at least as busy as its host.
/// </summary>
internal sealed class HyperVLoadSource(PoolSpec pool, IShell shell, TimeProvider clock) : ILoadSource
{
    /// <summary>Averages are whole megahertz: over longer than this, one of them is more than a short interval uses.</summary>
    private static readonly TimeSpan s_longest = TimeSpan.FromMinutes(10);

    /// <summary>Share of a host's processors from which its servers may get less than they want.</summary>
    private const double Full = 0.95;

    private readonly HyperVHost[] _hosts = [.. pool.Hosts.Where(h => h.Role is HostRole.Matrix).Select(h => new HyperVHost(h, pool, shell, clock))];
    /// <summary>Half of what the whole may take: one host's silence is not the balancer's.</summary>
    private readonly Dictionary<string, PatientRead<IReadOnlyList<ServerUse>>> _reads = pool.Hosts.ToDictionary(h => h.Name, h => new PatientRead<IReadOnlyList<ServerUse>>("HostUnreachable", $"{h.Name}, asked how busy its servers are,", TimeSpan.FromTicks(pool.Limits.ReadTimeout.Ticks / 2), clock));
    private readonly Dictionary<string, double> _megahertz = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<Guid, (double Average, TimeSpan Duration)> _before = [];

    /// <inheritdoc/>
    public async Task<IReadOnlyList<ServerUse>> ReadAsync(CancellationToken cancellation)
    {
        var answers = await Task.WhenAll(_hosts.Select(host => TryReadAsync(host, cancellation)));
        if (answers.Length > 0 && Array.TrueForAll(answers, a => a.Error is not null))
            throw answers[0].Error!;
        return [.. answers.SelectMany(a => a.Uses)];
    }

    // Servers of a host that does not answer are missing; the others are measured all the same.
    private async Task<(IReadOnlyList<ServerUse> Uses, VMatrixException? Error)> TryReadAsync(HyperVHost host, CancellationToken cancellation)
    {
        try
        {
            return (await _reads[host.Spec.Name].AskAsync(c => ReadAsync(host, c), cancellation), null);
        }
        catch (VMatrixException e)
        {
            return ([], e);
        }
    }

    private async Task<IReadOnlyList<ServerUse>> ReadAsync(HyperVHost host, CancellationToken cancellation)
    {
        var rows = await host.ReadAsync("Listing machines", ["Id", "Name", "State", "Notes", "ProcessorCount", "ResourceMeteringEnabled", "ReplicationMode"], "Hyper-V\\Get-VM", cancellation);
        var servers = new List<(Guid Id, string Name, ServerMark Mark, double Cores, bool Metered)>();
        foreach (var row in rows)
        {
            if (row.TryGetValue("Id", out var value) && value is Guid id && Text(row, "State") == "Running" && !HyperVMachine.IsCopyMode(Text(row, "ReplicationMode"))
                && HyperVNotes.Read(Text(row, "Notes")).Mark is { Mark: { Stage: Stage.Matrix } mark } && mark.MachineId == id.ToString("D"))
            {
                servers.Add((id, Text(row, "Name") ?? "", mark, Math.Max(1, Number(row, "ProcessorCount")), row.TryGetValue("ResourceMeteringEnabled", out var metered) && metered is true));
            }
        }

        foreach (var server in servers.Where(s => !s.Metered))
            await host.AskOfAsync(server.Id, $"Metering {server.Name}", [], "Hyper-V\\Enable-VMResourceMetering", cancellation);
        var measured = servers.Where(s => s.Metered).ToArray();
        if (measured.Length == 0)
            return [];
        var speed = await SpeedAsync(host, cancellation);
        var least = await BusyAsync(host, cancellation) is >= Full and var busy ? Math.Min(1, busy) : 0;
        var reports = await MeasureAsync(host, [.. measured.Select(s => (s.Id, s.Name))], rows, cancellation);
        var uses = new List<ServerUse>(measured.Length);
        foreach (var server in measured)
        {
            if (!reports.TryGetValue(server.Id, out var now))
                continue;
            bool known;
            (double Average, TimeSpan Duration) before;
            lock (_before)
            {
                known = _before.TryGetValue(server.Id, out before);
                _before[server.Id] = now;
            }

            // A shorter duration than before: it was reset in between, and says all that there is to say.
            var (used, seconds) = known && now.Duration > before.Duration
                ? ((now.Average * now.Duration.TotalSeconds) - (before.Average * before.Duration.TotalSeconds), (now.Duration - before.Duration).TotalSeconds)
                : (now.Average * now.Duration.TotalSeconds, now.Duration.TotalSeconds);
            if (seconds > 0 && (known || now.Duration < s_longest))
                uses.Add(new ServerUse(server.Mark.ServerId, server.Mark.Service, Math.Min(1, Math.Max(least, used / (seconds * speed * server.Cores)))));
            if (now.Duration > s_longest)
            {
                await host.AskOfAsync(server.Id, $"Metering {server.Name} anew", [], "Hyper-V\\Reset-VMResourceMetering", cancellation);
                lock (_before)
                    _before[server.Id] = (0, TimeSpan.Zero);
            }
        }

        return uses;
    }

    private static async Task<Dictionary<Guid, (double Average, TimeSpan Duration)>> MeasureAsync(HyperVHost host, (Guid Id, string Name)[] machines, IReadOnlyList<PropertyBag> all, CancellationToken cancellation)
    {
        string[] properties = ["VMId", "AverageProcessorUsage", "MeteringDuration"];

        // By name they come in one call; a name that others have too, or that reads as a pattern, is asked for by its id.
        var names = all.Select(row => Text(row, "Name") ?? "").GroupBy(n => n, StringComparer.OrdinalIgnoreCase).Where(g => g.Count() == 1).Select(g => g.Key).ToArray();
        var named = machines.Where(m => names.Contains(m.Name, StringComparer.OrdinalIgnoreCase) && m.Name.IndexOfAny(['*', '?', '[', '`']) < 0).ToArray();
        var rows = new List<PropertyBag>();
        if (named.Length > 0)
            rows.AddRange(await host.ReadAsync("Measuring servers", properties, "Hyper-V\\Measure-VM", cancellation, ("Name", named.Select(m => m.Name).ToArray())));
        foreach (var machine in machines.Except(named))
            rows.AddRange(await host.AskOfAsync(machine.Id, $"Measuring {machine.Name}", properties, "Hyper-V\\Measure-VM", cancellation));
        var reports = new Dictionary<Guid, (double, TimeSpan)>();
        foreach (var row in rows)
        {
            if (row.TryGetValue("VMId", out var id) && id is Guid machine && row.TryGetValue("MeteringDuration", out var duration) && duration is TimeSpan time)
                reports[machine] = (Number(row, "AverageProcessorUsage"), time);
        }

        return reports;
    }

    /// <summary>Share of its processors that a host uses, guests included: what Windows itself counts is its own partition's. 0 where it may not be asked.</summary>
    private static async Task<double> BusyAsync(HyperVHost host, CancellationToken cancellation)
    {
        try
        {
            var rows = await host.AskClassAsync("Win32_PerfFormattedData_HvStats_HyperVHypervisorLogicalProcessor", null, ["Name", "PercentTotalRunTime"], cancellation);
            return rows.Where(row => Text(row, "Name") == "_Total").Select(row => Number(row, "PercentTotalRunTime") / 100).FirstOrDefault();
        }
        catch (VMatrixException e) when (!e.IsTransient)
        {
            return 0;
        }
    }

    private async Task<double> SpeedAsync(HyperVHost host, CancellationToken cancellation)
    {
        lock (_megahertz)
        {
            if (_megahertz.TryGetValue(host.Spec.Name, out var known))
                return known;
        }

        var rows = await host.AskClassAsync("Win32_Processor", null, ["MaxClockSpeed"], cancellation);
        var speed = rows.Select(row => Number(row, "MaxClockSpeed")).DefaultIfEmpty(0).Max();
        if (speed <= 0)
            throw new VMatrixException("HostSpeedUnknown", VMatrixErrorKind.Failed, $"{host.Spec.Name} does not tell the speed of its processor (Win32_Processor MaxClockSpeed), so that megahertz say nothing.");
        lock (_megahertz)
            _megahertz[host.Spec.Name] = speed;
        return speed;
    }

    private static string? Text(PropertyBag row, string name) => row.TryGetValue(name, out var value) ? value as string ?? Convert.ToString(value, CultureInfo.InvariantCulture) : null;

    private static double Number(PropertyBag row, string name) => row.TryGetValue(name, out var value) && value is int or long or double ? Convert.ToDouble(value, CultureInfo.InvariantCulture) : 0;
}
