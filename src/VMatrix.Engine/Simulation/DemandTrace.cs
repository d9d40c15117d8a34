using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using CsvHelper;
using VMatrix.Files;
using VMatrix.Moves;

namespace VMatrix.Simulation;

/// <summary>
/// A history of demand: a CSV file whose heading is a time column and one column for each service of the pool. Under <c>time</c> (or another
/// usual heading, see <see cref="TimeColumn"/>) stand moments and requests per second; under <c>minute</c> whole minutes counted from 0 and requests in that minute.
/// A row holds until the next one; the last as long as the one before it. Or a pool's own history (<c>history.db</c> in its state folder),
/// in which the resident Oracle keeps what each minute brought.
/// </summary>
internal sealed class DemandTrace
{
    private static readonly DateTimeOffset s_minuteZero = new(2026, 1, 5, 0, 0, 0, TimeSpan.Zero);

    private readonly long[] _starts;
    private readonly double[][] _rates;

    private DemandTrace(string path, long[] starts, double[][] rates, IReadOnlyList<string> notes)
    {
        (Path, _starts, _rates, Notes) = (path, starts, rates, notes);
        long last = starts.Length > 1 ? starts[starts.Length - 1] - starts[starts.Length - 2] : TimeSpan.TicksPerMinute;
        To = new DateTimeOffset(starts[starts.Length - 1] + last, TimeSpan.Zero);
    }

    public string Path { get; }

    /// <summary>What was found in the history and handled, as sentences.</summary>
    public IReadOnlyList<string> Notes { get; }

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
    public static DemandTrace Read(string path, IReadOnlyList<string> services, TraceOptions options)
    {
        if (string.Equals(System.IO.Path.GetExtension(path), ".db", StringComparison.OrdinalIgnoreCase))
            return ReadHistory(path, services, options);
        try
        {
            // Somebody else's file: a pipe is not waited for, and a line is no longer than a heading of very many services.
            SmallFile.CheckRegular(path);
            using var csv = CsvReader.FromFile(path, new CsvReaderOptions { TrackLineNumbers = true, TrimWhitespace = true, MaxRecordSize = 1 << 20 });
            return Read(path, csv, services, options);
        }
        catch (CsvFormatException e)
        {
            throw new VMatrixException("TraceInvalid", VMatrixErrorKind.InvalidInput, $"{path} is not well-formed CSV: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            throw new VMatrixException("TraceInvalid", VMatrixErrorKind.InvalidInput, $"{path} cannot be read as a history of demand: {e.Message}", e);
        }
    }

    private static DemandTrace Read(string path, CsvReader csv, IReadOnlyList<string> services, TraceOptions options)
    {
        string[] heading = [.. csv.Headers];
        if (heading.Length == 0)
            throw Invalid(path, 1, "the file is empty; its first line is a heading: time, then the name of each service");
        bool minutes = string.Equals(heading[0], "minute", StringComparison.OrdinalIgnoreCase);
        if (!minutes && !TimeColumn.IsHeading(heading[0]))
            throw Invalid(path, 1, $"the first column is headed '{heading[0]}'; it must be 'time', 'timestamp', 'datetime', 'date' or 'ts' (moments, with requests per second in the other columns) or 'minute' (0, 1, 2 and so on, with requests in that minute)");
        int[] columns = [.. services.Select(service => Array.FindIndex(heading, 1, name => string.Equals(name, service, StringComparison.OrdinalIgnoreCase)))];
        int missing = Array.IndexOf(columns, -1);
        if (missing >= 0)
            throw Invalid(path, 1, $"the heading has no column for service '{services[missing]}'; it has: {string.Join(", ", heading.Skip(1))}");

        var times = new List<(long Line, string Text)>();
        var values = services.Select(_ => new List<double?>()).ToArray();
        while (csv.Read())
        {
            long line = csv.LineNumber;
            times.Add((line, Field(csv, 0)));
            for (int s = 0; s < columns.Length; s++)
                values[s].Add(Value(path, line, heading[columns[s]], columns[s] < csv.FieldCount, Field(csv, columns[s]), minutes, options.MostRate));
        }

        if (times.Count == 0)
            throw Invalid(path, 2, "there is no row below the heading");
        var notes = new List<string>();
        long[] starts = minutes ? [.. times.Select(t => Minute(path, t.Line, t.Text))]
            : TimeColumn.Read(times, options.TimeFormat, options.TimeZone, (line, what) => Invalid(path, line, $"column '{heading[0]}': {what}"), notes);
        for (int row = 1; row < starts.Length; row++)
        {
            if (starts[row] >= starts[row - 1])
                continue;
            bool autumn = !minutes && options.TimeZone is null && starts[row - 1] - starts[row] <= 2 * TimeSpan.TicksPerHour;
            throw Invalid(path, times[row].Line, $"column '{heading[0]}': '{times[row].Text}' is not after the row before; rows go forward in time{(autumn ? ", and if this is the hour that autumn repeats, name the time zone with -TimeZone (--time-zone)" : "")}");
        }

        double[][] rates = [.. values.Select((v, s) => Fill(path, heading[columns[s]], v, notes))];
        Merge(ref starts, ref rates, notes);
        TellHoles(starts, notes);
        return new DemandTrace(path, starts, rates, notes);
    }

    /// <summary>Requests per second; null for a sample that is missing.</summary>
    private static double? Value(string path, long line, string column, bool there, string field, bool minutes, double mostRate)
    {
        if (there && s_missing.Contains(field))
            return null;
        if (!double.TryParse(field, NumberStyles.Float, CultureInfo.InvariantCulture, out double value) || !(value >= 0) || double.IsInfinity(value))
            throw Invalid(path, line, $"column '{column}': '{field}' is not a number of 0 or more");
        double rate = minutes ? value / 60 : value;
        return rate <= mostRate ? rate
            : throw Invalid(path, line, FormattableString.Invariant($"column '{column}': '{field}' is {rate:g4} requests/s, more than the {mostRate:0.##} that the pool can get at all (oracle.mostRate)"));
    }

    private static readonly HashSet<string> s_missing = new(StringComparer.OrdinalIgnoreCase) { "", "nan", "null", "none", "na", "n/a", "-" };

    /// <summary>A missing sample is as the one before it; before the first that is known, as that one.</summary>
    private static double[] Fill(string path, string column, List<double?> values, List<string> notes)
    {
        int unknown = values.Count(v => v is null);
        if (unknown == values.Count)
            throw Invalid(path, 2, $"column '{column}' holds no number in any row");
        if (unknown > 0)
            notes.Add(FormattableString.Invariant($"{unknown} of the {values.Count} samples of {column} are missing; each was taken to be as the one before it."));
        double last = values.First(v => v is not null)!.Value;
        return [.. values.Select(v => last = v ?? last)];
    }

    /// <summary>Rows of one time are one row, whose rates are their mean.</summary>
    private static void Merge(ref long[] starts, ref double[][] rates, List<string> notes)
    {
        long[] all = starts;
        int[] first = [.. Enumerable.Range(0, all.Length).Where(row => row == 0 || all[row] != all[row - 1])];
        if (first.Length == all.Length)
            return;
        notes.Add(FormattableString.Invariant($"{all.Length - first.Length} rows have the time of the row before; the mean of their rates was taken."));
        rates = [.. rates.Select(r => first.Select((row, i) =>
        {
            int next = i + 1 < first.Length ? first[i + 1] : all.Length;
            return r.Skip(row).Take(next - row).Average();
        }).ToArray())];
        starts = [.. first.Select(row => all[row])];
    }

    /// <summary>Tells of rows that are missing: where the distance to the next one is more than half as long again as it usually is.</summary>
    private static void TellHoles(long[] starts, List<string> notes)
    {
        if (starts.Length < 3)
            return;
        long[] steps = [.. starts.Zip(starts.Skip(1), (a, b) => b - a)];
        long usual = steps.OrderBy(t => t).ElementAt(steps.Length / 2);
        int[] holes = [.. Enumerable.Range(0, steps.Length).Where(i => steps[i] > usual * 3 / 2)];
        if (holes.Length == 0)
            return;
        int largest = holes.OrderByDescending(i => steps[i]).First();
        string Time(long ticks) => new DateTimeOffset(ticks, TimeSpan.Zero).ToString("u", CultureInfo.InvariantCulture);
        notes.Add(FormattableString.Invariant($"Rows are {TimeSpan.FromTicks(usual):c} apart, and {holes.Length} times more; the largest hole is {TimeSpan.FromTicks(steps[largest]):c} long, from {Time(starts[largest])} to {Time(starts[largest + 1])}. Over a hole the rate before it goes on."));
    }

    private static DemandTrace ReadHistory(string path, IReadOnlyList<string> services, TraceOptions options)
    {
        if (!File.Exists(path))
            throw new VMatrixException("TraceInvalid", VMatrixErrorKind.InvalidInput, $"{path} cannot be read as a history of demand: there is no such file; the resident Oracle writes it into the pool's state folder.");
        using var history = History.Open(path, readOnly: true);
        int unusable = 0;
        var byMinute = new SortedDictionary<long, double?[]>();
        for (int s = 0; s < services.Count; s++)
        {
            foreach (var load in history.ReadSamples(services[s], DateTimeOffset.MinValue).Where(l => l.Bad is null))
            {
                if (!(load.RequestRate >= 0 && load.RequestRate <= options.MostRate))
                {
                    unusable++;
                    continue;
                }

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

        var notes = new List<string>();
        if (unusable > 0)
            notes.Add(FormattableString.Invariant($"{unusable} samples were left out: they are negative, no numbers or above the {options.MostRate:0.##} requests/s that the pool can get at all (oracle.mostRate)."));
        TellHoles([.. byMinute.Keys], notes);
        return new DemandTrace(path, [.. byMinute.Keys], rates, notes);
    }

    private static string Field(CsvReader csv, int column) => column < csv.FieldCount ? csv.GetString(column) : "";

    private static long Minute(string path, long line, string field)
    {
        if (!long.TryParse(field, NumberStyles.None, CultureInfo.InvariantCulture, out long minute) || minute > 100_000_000)
            throw Invalid(path, line, $"column 'minute': '{field}' is not a whole number of 0 or more");
        return s_minuteZero.AddMinutes(minute).UtcTicks;
    }

    private static VMatrixException Invalid(string path, long line, string what) =>
        new("TraceInvalid", VMatrixErrorKind.InvalidInput, $"{path}, line {line}: {what}.");
}

/// <summary>How a history is to be read.</summary>
/// <param name="TimeFormat">The form of its times, named; null to find it out.</param>
/// <param name="TimeZone">The time zone of times that name none; null for UTC.</param>
/// <param name="MostRate">Requests per second above which a value cannot be right.</param>
internal sealed record TraceOptions(string? TimeFormat, string? TimeZone, double MostRate);

/// <summary>Requests that arrive in each second: by chance, around the history's rate (Poisson), the same for the same seed whoever asks and in whatever order.</summary>
internal sealed class Arrivals(DemandTrace trace, IReadOnlyList<string> services, int seed)
{
    private readonly Dictionary<string, int> _index = services.Select((name, index) => (name, index)).ToDictionary(s => s.name, s => s.index, StringComparer.Ordinal);

    /// <summary>Requests per second in the second that a moment lies in.</summary>
    public double Rate(string service, DateTimeOffset at)
    {
        if (!_index.TryGetValue(service, out int index))
            return 0;
        double mean = at < trace.To ? trace.Rate(index, at) : 0;
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
