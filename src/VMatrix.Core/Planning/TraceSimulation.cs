using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;

namespace VMatrix.Planning;

/// <summary>A pool in a trace simulation.</summary>
public sealed record TraceScenario
{
    /// <summary>Hosts, each for one server.</summary>
    public required int Hosts { get; init; }

    /// <summary>Minutes from an activation to the first request served.</summary>
    public int ActivationDelay { get; init; }

    /// <summary>Cost of holding one server for a minute, in the minute's unserved work of one server of weight 1.</summary>
    public double ServerCost { get; init; }

    /// <summary>Cost of one activation, in the same unit.</summary>
    public double ActivationCost { get; init; }

    /// <summary>The services.</summary>
    public required IReadOnlyList<TraceService> Services { get; init; }

    /// <summary>Reads a scenario file.</summary>
    /// <exception cref="VMatrixException"><c>ScenarioInvalid</c>.</exception>
    public static TraceScenario Read(string path)
    {
        TraceScenario? scenario;
        try
        {
            using var stream = File.OpenRead(path);
            scenario = JsonSerializer.Deserialize<TraceScenario>(stream, s_json);
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new VMatrixException("ScenarioInvalid", VMatrixErrorKind.InvalidInput, $"{path} cannot be read as a scenario: {e.Message}", e);
        }

        if (scenario is null || scenario.Hosts < 1 || scenario.Services.Count == 0 || scenario.ActivationDelay < 0
            || scenario.Services.Any(s => s.Capacity <= 0 || s.Min < 0 || s.Weight <= 0) || scenario.Services.Sum(s => s.Min) > scenario.Hosts)
        {
            throw new VMatrixException("ScenarioInvalid", VMatrixErrorKind.InvalidInput,
                $"{path} is not a scenario: it needs a host or more, services with a weight and a capacity above 0, a delay of 0 or more, and least counts that the hosts can hold.");
        }

        return scenario;
    }

    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.CamelCase };
}

/// <summary>A service in a trace simulation.</summary>
public sealed record TraceService
{
    /// <summary>Its name, the heading of its column.</summary>
    public required string Name { get; init; }

    /// <summary>How much an unserved request weighs.</summary>
    public required double Weight { get; init; }

    /// <summary>Requests a minute that one server carries.</summary>
    public required double Capacity { get; init; }

    /// <summary>Fewest servers.</summary>
    public int Min { get; init; }
}

/// <summary>
/// Drives the planner's mind (forecast, worth, division of the pool; not placement) through a history of demand, minute by
/// minute. It is given one minute after another and can see none that is to come.
/// </summary>
public sealed class TraceSimulation
{
    private readonly TraceScenario _scenario;
    private readonly Forecaster[] _forecasters;
    private readonly ServiceSpec[] _specs;
    private readonly OracleSpec _oracle;
    private readonly double[][] _near;
    private readonly double[][] _far;
    private readonly List<long>[] _since;
    private int[] _held;
    private long _minute;

    /// <summary>Begins a simulation.</summary>
    /// <param name="scenario">The pool. Its costs take the place of the Oracle's.</param>
    /// <param name="oracle">The Oracle's settings; null for the defaults.</param>
    /// <param name="forecast">The forecast's constants; null for the defaults.</param>
    public TraceSimulation(TraceScenario scenario, OracleSpec? oracle = null, ForecastSettings? forecast = null)
    {
        _scenario = scenario;
        _oracle = (oracle ?? new OracleSpec()) with { ServerCost = scenario.ServerCost, ActivationCost = scenario.ActivationCost };
        _specs = scenario.Services.Select(s => new ServiceSpec { Name = s.Name, Priority = s.Weight, Least = s.Min, Most = scenario.Hosts, Capacity = s.Capacity / 60, Image = new ImageSpec() }).ToArray();
        _forecasters = scenario.Services.Select(_ => new Forecaster(forecast ?? new ForecastSettings(), scenario.ActivationDelay + 1)).ToArray();
        _near = scenario.Services.Select(_ => new double[scenario.Hosts + 1]).ToArray();
        _far = scenario.Services.Select(_ => new double[scenario.Hosts + 1]).ToArray();
        _since = scenario.Services.Select(_ => new List<long>()).ToArray();
        _held = new int[scenario.Services.Count];
    }

    /// <summary>Decides for the coming minute.</summary>
    /// <returns>Servers that each service holds during it, in the scenario's order.</returns>
    public int[] Decide()
    {
        var economy = new Economy(_oracle, stepMinutes: 1, _scenario.ActivationDelay);
        var claims = new Claimant[_specs.Length];
        for (int s = 0; s < claims.Length; s++)
        {
            var (near, far, has, priority) = (_near[s], _far[s], _held[s], _specs[s].Priority);
            _forecasters[s].Expect(far: false, null, near);
            _forecasters[s].Expect(far: true, null, far);
            claims[s] = new Claimant
            {
                Spec = _specs[s],
                Floor = _specs[s].Least,
                Ceiling = _scenario.Hosts,
                Has = has,
                Stay = _since[s].Select(since => Economy.Stay(_oracle, TimeSpan.FromMinutes(_minute - since))).Reverse().ToArray(),
                Worth = n => n <= has ? economy.Held(priority, near[n], far[n]) : economy.Activated(priority, near[n], far[n]),
            };
        }

        Allocation.Divide(claims, _scenario.Hosts);
        _held = claims.Select(c => c.Granted).ToArray();
        for (int s = 0; s < _held.Length; s++)
        {
            // As the placement does: who was moved longest ago goes first.
            _since[s].RemoveRange(0, Math.Max(0, _since[s].Count - _held[s]));
            _since[s].AddRange(Enumerable.Repeat(_minute, _held[s] - _since[s].Count));
        }

        return [.. _held];
    }

    /// <summary>Tells what the minute brought.</summary>
    /// <param name="requests">Requests that arrived for each service, in the scenario's order.</param>
    public void Observe(IReadOnlyList<double> requests)
    {
        for (int s = 0; s < _specs.Length; s++)
            _forecasters[s].Observe(_minute, requests[s] / (_scenario.Services[s].Capacity * _oracle.TargetUse));
        _minute++;
    }

    /// <summary>Decides for every minute of a trace.</summary>
    public static int[][] Run(TraceScenario scenario, IReadOnlyList<double[]> trace, OracleSpec? oracle = null, ForecastSettings? forecast = null)
    {
        var simulation = new TraceSimulation(scenario, oracle, forecast);
        var decisions = new int[trace.Count][];
        for (int t = 0; t < decisions.Length; t++)
        {
            decisions[t] = simulation.Decide();
            simulation.Observe(trace[t]);
        }

        return decisions;
    }

    /// <summary>Reads a trace: a CSV file with a heading, one row a minute, a column for each service of the scenario.</summary>
    /// <exception cref="VMatrixException"><c>TraceInvalid</c>, naming file and line.</exception>
    public static IReadOnlyList<double[]> ReadTrace(string path, TraceScenario scenario)
    {
        var rows = new List<double[]>();
        double most = new OracleSpec().MostRate;
        int[]? columns = null;
        int line = 0;
        string[] lines;
        try
        {
            lines = File.ReadAllLines(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VMatrixException("TraceInvalid", VMatrixErrorKind.InvalidInput, $"{path} cannot be read as a trace: {e.Message}", e);
        }

        foreach (string text in lines)
        {
            line++;
            if (text.Length == 0)
                continue;
            var fields = text.Split(',');
            if (columns is null)
            {
                columns = scenario.Services.Select(s => Array.IndexOf(fields, s.Name)).ToArray();
                int missing = Array.IndexOf(columns, -1);
                if (missing >= 0)
                    throw Invalid($"the heading has no column {scenario.Services[missing].Name}");
                continue;
            }

            var row = new double[columns.Length];
            for (int s = 0; s < row.Length; s++)
            {
                if (columns[s] >= fields.Length || !double.TryParse(fields[columns[s]], NumberStyles.Float, CultureInfo.InvariantCulture, out row[s]) || !(row[s] >= 0) || double.IsInfinity(row[s]))
                    throw Invalid($"{scenario.Services[s].Name} is not a number of 0 or more");
                if (row[s] / 60 > most)
                    throw Invalid(Words.Text($"{scenario.Services[s].Name} has {row[s]:g4} requests in a minute, more than the {most * 60:0} that a pool can get at all"));
            }

            rows.Add(row);
        }

        return rows;

        VMatrixException Invalid(string what) => new("TraceInvalid", VMatrixErrorKind.InvalidInput, $"{path}, line {line}: {what}.");
    }

    /// <summary>Writes decisions as CSV: a heading, then for each minute the servers that each service holds.</summary>
    public static void WriteDecisions(string path, TraceScenario scenario, IReadOnlyList<int[]> decisions)
    {
        using var writer = new StreamWriter(path, append: false, new UTF8Encoding(false)) { NewLine = "\n" };
        writer.WriteLine("minute," + string.Join(",", scenario.Services.Select(s => s.Name)));
        for (int t = 0; t < decisions.Count; t++)
            writer.WriteLine(t.ToString(CultureInfo.InvariantCulture) + "," + string.Join(",", decisions[t].Select(n => n.ToString(CultureInfo.InvariantCulture))));
    }
}
