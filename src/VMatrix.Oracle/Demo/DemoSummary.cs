using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;

namespace VMatrix.Oracle.Demo;

/// <summary>What the demo measured, in the shape of its summary file.</summary>
internal sealed record DemoSummary(IReadOnlyList<RunSummary> Runs, IReadOnlyList<double> WakeSeconds, IReadOnlyList<double> ColdBootSeconds)
{
    private static readonly JsonSerializerOptions s_json = new(JsonSerializerDefaults.Web) { WriteIndented = true };

    /// <summary>The summary file's text.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, s_json) + "\n";
}

/// <summary>One run.</summary>
internal sealed record RunSummary(string Name, IReadOnlyList<ServiceSummary> Services, int Switches, int Drops);

/// <summary>One service in a run.</summary>
internal sealed record ServiceSummary(string Name, int Requests, int Served, int Refused, int Failed, double P50Seconds, double P99Seconds, IReadOnlyList<ServerCount> Servers)
{
    /// <summary>Counts a service's requests.</summary>
    /// <param name="name">The service.</param>
    /// <param name="results">What became of each request of the run.</param>
    /// <param name="servers">Servers that took traffic, second by second.</param>
    public static ServiceSummary Of(string name, IReadOnlyList<RequestResult> results, IReadOnlyList<ServerCount> servers)
    {
        RequestResult[] own = [.. results.Where(result => result.Service == name)];
        double[] served = [.. own.Where(result => result.Outcome == Outcome.Served).Select(result => result.Took.TotalSeconds).Order()];
        return new ServiceSummary(name, own.Length, served.Length, own.Count(result => result.Outcome == Outcome.Refused), own.Count(result => result.Outcome == Outcome.Failed),
            Math.Round(Percentile(served, 0.5), 3), Math.Round(Percentile(served, 0.99), 3), servers);
    }

    /// <summary>The nearest-rank percentile of sorted values; 0 when there are none.</summary>
    internal static double Percentile(IReadOnlyList<double> sorted, double share) =>
        sorted.Count == 0 ? 0 : sorted[Math.Clamp((int)Math.Ceiling(share * sorted.Count) - 1, 0, sorted.Count - 1)];
}

/// <summary>Servers of a service that took traffic at one second of a run.</summary>
internal sealed record ServerCount(int Second, int Count);
