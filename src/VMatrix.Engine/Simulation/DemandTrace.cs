using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using CsvHelper;
using VMatrix.Moves;

namespace VMatrix.Simulation;

/// <summary>
/// A history of demand: a CSV file whose heading is a time column and one column for each service of the pool. Under <c>time</c> stand
/// moments (ISO 8601, UTC unless they say otherwise) and requests per second; under <c>minute</c> whole minutes counted from 0 and requests in that minute.
/// A row holds until the next one; the last as long as the one before it. Or a pool's own history (<c>history.db</c> in its state folder),
/// in which the resident Oracle keeps what each minute brought.
/// </summary>
internal sealed class DemandTrace
{
    private static readonly DateTimeOffset s_minuteZero = new(2026, 1, 5, 0, 0, 0, TimeSpan.Zero);

    private readonly long[] _starts;
    private readonly double[][] _rates;

    private DemandTrace(string path, long[] starts, double[][] rates)
    {
        (Path, _starts, _rates) = (path, starts, rates);
        long last = starts.Length > 1 ? starts[starts.Length - 1] - starts[starts.Length - 2] : TimeSpan.TicksPerMinute;
        To = new DateTimeOffset(starts[starts.Length - 1] + last, TimeSpan.Zero);
    }

    public string Path { get; }

    public int Rows => _starts.Length;

    public DateTimeOffset From => Start(0);

    public DateTimeOffset To { get; }

    /// <summary>When a row begins; for the number of rows, when the last one ends.</summary>
    public DateTimeOffset Start(int row) => row == Rows ? To : new DateTimeOffset(_starts[row], TimeSpan.Zero);

    /// <summary>Requests per second of a service in a row.</summary>
    public double Rate(int service, int row) => _rates[service][row];

    /// <summary>Requests per second of a service at a moment; before the history its first row, after it its last.</summary>
    public double Rate(int service, DateTimeOffset at)
    {
        int row = Array.BinarySearch(_starts, at.UtcTicks);
        return _rates[service][Math.Max(0, row < 0 ? ~row - 1 : row)];
    }

    /// <summary>Reads a history.</summary>
    /// <exception cref="VMatrixException"><c>TraceInvalid</c>, naming file, line and column.</exception>
    public static DemandTrace Read(string path, IReadOnlyList<string> services)
    {
        if (string.Equals(System.IO.Path.GetExtension(path), ".db", StringComparison.OrdinalIgnoreCase))
            return ReadHistory(path, services);
        try
        {
            using var csv = CsvReader.FromFile(path, new CsvReaderOptions { TrackLineNumbers = true, TrimWhitespace = true });
            return Read(path, csv, services);
        }
        catch (CsvFormatException e)
        {
            throw new VMatrixException("TraceInvalid", VMatrixErrorKind.InvalidInput, $"{path} is not well-formed CSV: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VMatrixException("TraceInvalid", VMatrixErrorKind.InvalidInput, $"{path} cannot be read as a history of demand: {e.Message}", e);
        }
    }

    private static DemandTrace Read(string path, CsvReader csv, IReadOnlyList<string> services)
    {
        string[] heading = [.. csv.Headers];
        if (heading.Length == 0)
            throw Invalid(path, 1, "the file is empty; its first line is a heading: time, then the name of each service");
        bool minutes = string.Equals(heading[0], "minute", StringComparison.OrdinalIgnoreCase);
        if (!minutes && !string.Equals(heading[0], "time", StringComparison.OrdinalIgnoreCase))
            throw Invalid(path, 1, $"the first column is headed '{heading[0]}'; it must be 'time' (moments, with requests per second in the other columns) or 'minute' (0, 1, 2 and so on, with requests in that minute)");
        int[] columns = [.. services.Select(service => Array.FindIndex(heading, name => string.Equals(name, service, StringComparison.OrdinalIgnoreCase)))];
        int missing = Array.IndexOf(columns, -1);
        if (missing >= 0)
            throw Invalid(path, 1, $"the heading has no column for service '{services[missing]}'; it has: {string.Join(", ", heading.Skip(1))}");

        var starts = new List<long>();
        var rates = services.Select(_ => new List<double>()).ToArray();
        while (csv.Read())
        {
            long line = csv.LineNumber;
            string first = Field(csv, 0);
            long at = minutes ? Minute(path, line, first) : Moment(path, line, first);
            if (starts.Count > 0 && at <= starts[starts.Count - 1])
                throw Invalid(path, line, $"column '{heading[0]}': '{first}' is not after the row before; rows go forward in time");
            starts.Add(at);
            for (int s = 0; s < columns.Length; s++)
            {
                string field = Field(csv, columns[s]);
                if (!double.TryParse(field, NumberStyles.Float, CultureInfo.InvariantCulture, out double value) || !(value >= 0) || double.IsInfinity(value))
                    throw Invalid(path, line, $"column '{heading[columns[s]]}': '{field}' is not a number of 0 or more");
                rates[s].Add(minutes ? value / 60 : value);
            }
        }

        if (starts.Count == 0)
            throw Invalid(path, 2, "there is no row below the heading");
        return new DemandTrace(path, [.. starts], [.. rates.Select(r => r.ToArray())]);
    }

    private static DemandTrace ReadHistory(string path, IReadOnlyList<string> services)
    {
        if (!File.Exists(path))
            throw new VMatrixException("TraceInvalid", VMatrixErrorKind.InvalidInput, $"{path} cannot be read as a history of demand: there is no such file; the resident Oracle writes it into the pool's state folder.");
        using var history = History.Open(path);
        var byMinute = new SortedDictionary<long, double?[]>();
        for (int s = 0; s < services.Count; s++)
        {
            foreach (var load in history.ReadSamples(services[s], DateTimeOffset.MinValue).Where(l => l.Bad is null))
            {
                long minute = load.At.UtcTicks - (load.At.UtcTicks % TimeSpan.TicksPerMinute);
                if (!byMinute.TryGetValue(minute, out var row))
                    byMinute[minute] = row = new double?[services.Count];
                row[s] = load.RequestRate;
            }
        }

        if (history.Warning is { } lost)
            throw new VMatrixException("TraceInvalid", VMatrixErrorKind.InvalidInput, lost);
        if (byMinute.Count == 0)
            throw new VMatrixException("TraceInvalid", VMatrixErrorKind.InvalidInput, $"{path} holds no loads of {string.Join(", ", services)} yet: let vmatrix-oracle run for a while, or give a CSV file.");
        // What a minute does not know of a service was as in the minute before; before the first that knows, nothing came.
        var rates = services.Select(_ => new double[byMinute.Count]).ToArray();
        int at = 0;
        foreach (var row in byMinute.Values)
        {
            for (int s = 0; s < services.Count; s++)
                rates[s][at] = row[s] ?? (at > 0 ? rates[s][at - 1] : 0);
            at++;
        }

        return new DemandTrace(path, [.. byMinute.Keys], rates);
    }

    private static string Field(CsvReader csv, int column) => column < csv.FieldCount ? csv.GetString(column) : "";

    private static long Minute(string path, long line, string field)
    {
        if (!long.TryParse(field, NumberStyles.None, CultureInfo.InvariantCulture, out long minute) || minute > 100_000_000)
            throw Invalid(path, line, $"column 'minute': '{field}' is not a whole number of 0 or more");
        return s_minuteZero.AddMinutes(minute).UtcTicks;
    }

    private static long Moment(string path, long line, string field)
    {
        if (!DateTimeOffset.TryParse(field, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var at) || long.TryParse(field, NumberStyles.Integer, CultureInfo.InvariantCulture, out _))
            throw Invalid(path, line, $"column 'time': '{field}' is not a moment such as 2026-01-05T08:30:00Z");
        return at.UtcTicks;
    }

    private static VMatrixException Invalid(string path, long line, string what) =>
        new("TraceInvalid", VMatrixErrorKind.InvalidInput, $"{path}, line {line}: {what}.");
}

/// <summary>Requests that arrive in each second: by chance, around the history's rate (Poisson), the same for the same seed whoever asks and in whatever order.</summary>
internal sealed class Arrivals(DemandTrace trace, IReadOnlyList<string> services, int seed)
{
    private readonly Dictionary<string, int> _index = services.Select((name, index) => (name, index)).ToDictionary(s => s.name, s => s.index, StringComparer.Ordinal);

    /// <summary>Requests per second in the second that a moment lies in.</summary>
    public double Rate(string service, DateTimeOffset at)
    {
        if (!_index.TryGetValue(service, out int index))
            return 0;
        double mean = trace.Rate(index, at);
        if (mean <= 0)
            return 0;
        ulong state = unchecked(((ulong)(uint)seed << 40) ^ ((ulong)(uint)index << 34) ^ (ulong)(at.UtcTicks / TimeSpan.TicksPerSecond));
        if (mean > 30)
        {
            // The normal distribution is near enough, and costs the same however many arrive (Box and Muller 1958).
            double u = Next(ref state), v = Next(ref state);
            return Math.Max(0, Math.Round(mean + (Math.Sqrt(mean) * Math.Sqrt(-2 * Math.Log(1 - u)) * Math.Cos(2 * Math.PI * v))));
        }

        int count = 0;
        double limit = Math.Exp(-mean), product = Next(ref state);
        while (product > limit)
        {
            count++;
            product *= Next(ref state);
        }

        return count;
    }

    // splitmix64 (Steele, Lea, Flood 2014): good numbers from neighbouring seeds, at no cost to make.
    private static double Next(ref ulong state)
    {
        unchecked
        {
            ulong z = state += 0x9E3779B97F4A7C15UL;
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
            return ((z ^ (z >> 31)) >> 11) * (1.0 / (1UL << 53));
        }
    }
}
