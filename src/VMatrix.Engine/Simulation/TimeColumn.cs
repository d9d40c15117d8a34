using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text.RegularExpressions;

namespace VMatrix.Simulation;

/// <summary>
/// Reads the column of times of a history. ISO 8601 and epochs (seconds, milliseconds) are known by themselves; any other form is read only when it is
/// named, or when the whole column can be read in one way and no other: day and month are never guessed.
/// </summary>
internal static class TimeColumn
{
    /// <summary>Headings that a column of times usually has, without blanks and punctuation.</summary>
    private static readonly HashSet<string> s_headings = new(StringComparer.OrdinalIgnoreCase)
    {
        "time", "timestamp", "datetime", "date", "ts", "epoch", "unixtime", "unixtimestamp", "timeutc", "timestamputc", "datetimeutc", "starttime", "periodstart", "zeit", "datum",
    };

    private static readonly string[] s_seconds = ["epoch", "epoch-s", "unix", "unix-s"];
    private static readonly string[] s_milliseconds = ["epoch-ms", "unix-ms"];

    private static readonly Regex s_extended = new(
        @"\A(?<y>[0-9]{4})-(?<M>[0-9]{2})-(?<d>[0-9]{2})(?:[Tt ](?<H>[0-9]{2}):(?<m>[0-9]{2})(?::(?<s>[0-9]{2})(?:[.,](?<f>[0-9]{1,9}))?)?(?<z>[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?\z", RegexOptions.CultureInvariant);

    private static readonly Regex s_basic = new(
        @"\A(?<y>[0-9]{4})(?<M>[0-9]{2})(?<d>[0-9]{2})(?:[Tt](?<H>[0-9]{2})(?<m>[0-9]{2})(?:(?<s>[0-9]{2})(?:[.,](?<f>[0-9]{1,9}))?)?(?<z>[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?\z", RegexOptions.CultureInvariant);

    private static readonly Regex s_other = new(
        @"\A(?<a>[0-9]{1,4})(?<p>[/.-])(?<b>[0-9]{1,2})\k<p>(?<c>[0-9]{1,4})(?:[ T,]+(?<H>[0-9]{1,2}):(?<m>[0-9]{2})(?::(?<s>[0-9]{2})(?:\.(?<f>[0-9]{1,9}))?)? ?(?<h>[AaPp][Mm])?)?\z", RegexOptions.CultureInvariant);

    private static readonly string[] s_named =
        [.. from date in new[] { "d-MMM-yyyy", "d MMM yyyy", "MMM d, yyyy", "MMM d yyyy" } from time in new[] { "", " H:mm", " H:mm:ss", " h:mm tt", " h:mm:ss tt" } select date + time];

    /// <summary>True for a heading that a column of times usually has.</summary>
    public static bool IsHeading(string heading) => s_headings.Contains(new string([.. heading.Where(char.IsLetter)]));

    /// <summary>Reads a column.</summary>
    /// <param name="fields">Line and text of each row.</param>
    /// <param name="format">The form, named: a .NET format, <c>epoch-s</c> or <c>epoch-ms</c>; null to find it out.</param>
    /// <param name="zone">The time zone of times that name none: an id, an offset or <c>local</c>; null for UTC.</param>
    /// <param name="invalid">Makes the error for a line.</param>
    /// <param name="notes">What was found out and ought to be told.</param>
    /// <returns>UTC ticks by row, in the order of the rows.</returns>
    public static long[] Read(IReadOnlyList<(long Line, string Text)> fields, string? format, string? zone, Func<long, string, VMatrixException> invalid, List<string> notes)
    {
        var clock = FindZone(zone);
        if (format is not null)
            return ToUtc(fields, [.. fields.Select(f => Named(f.Text, format) ?? throw invalid(f.Line, $"'{f.Text}' is not a moment of the form '{format}'"))], clock, zone, invalid, notes);
        Moment?[] iso = [.. fields.Select(f => Iso(f.Text))];
        if (iso.All(m => m is not null))
            return ToUtc(fields, [.. iso.Select(m => m!.Value)], clock, zone, invalid, notes);
        if (fields.All(f => IsEpoch(f.Text, 1e8, 1e11)))
            return ToUtc(fields, [.. fields.Select(f => Epoch(f.Text, TimeSpan.TicksPerSecond))], clock, zone, invalid, notes);
        if (fields.All(f => IsEpoch(f.Text, 1e11, 1e14)))
            return ToUtc(fields, [.. fields.Select(f => Epoch(f.Text, TimeSpan.TicksPerMillisecond))], clock, zone, invalid, notes);

        var readings = new (string Name, string Example, Func<string, Moment?> Read)[]
        {
            ("year, month, day", "yyyy/MM/dd", t => Other(t, 'y')),
            ("day, month, year", "dd/MM/yyyy", t => Other(t, 'd')),
            ("month, day, year", "MM/dd/yyyy", t => Other(t, 'M')),
            ("months by name", "d-MMM-yyyy", t => Named(t, s_named)),
        };
        var fitting = readings.Select(r => (r.Name, r.Example, Moments: fields.Select(f => r.Read(f.Text)).ToArray())).Where(r => r.Moments.All(m => m is not null)).ToArray();
        if (fitting.Length == 1)
        {
            notes.Add($"Its times were read as {fitting[0].Name}, which is the only way in which all {fields.Count.ToString(CultureInfo.InvariantCulture)} rows can be read.");
            return ToUtc(fields, [.. fitting[0].Moments.Select(m => m!.Value)], clock, zone, invalid, notes);
        }

        if (fitting.Length > 1)
        {
            throw invalid(fields[0].Line, $"'{fields[0].Text}' and all other times can be read as {string.Join(" and as ", fitting.Select(r => r.Name))}; name the form with -TimeFormat (--time-format), such as {string.Join(" or ", fitting.Select(r => $"'{r.Example}'"))}");
        }

        int first = Array.FindIndex(iso, m => m is null);
        throw invalid(fields[first].Line, $"'{fields[first].Text}' is not a moment such as 2026-01-05T08:30:00Z, nor is the column of another form that is known by itself; name the form with -TimeFormat (--time-format), such as 'dd/MM/yyyy HH:mm'");
    }

    private static bool IsEpoch(string text, double from, double below) => double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double value) && value >= from && value < below;

    private static Moment Epoch(string text, long unit) =>
        new(new DateTime(1970, 1, 1).AddTicks((long)Math.Round(decimal.Parse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture) * unit)), TimeSpan.Zero);

    private static Moment? Iso(string text)
    {
        var match = s_extended.Match(text);
        match = match.Success ? match : s_basic.Match(text);
        return match.Success ? Make(match, Number(match, "y"), Number(match, "M"), Number(match, "d")) : null;
    }

    private static Moment? Other(string text, char first)
    {
        var match = s_other.Match(text);
        if (!match.Success)
            return null;
        string year = match.Groups[first == 'y' ? "a" : "c"].Value;

        // A year of two digits may be a day as well.
        if (year.Length != 4 || match.Groups[first == 'y' ? "c" : "a"].Length > 2)
            return null;
        return first switch
        {
            'y' => Make(match, Number(match, "a"), Number(match, "b"), Number(match, "c")),
            'd' => Make(match, Number(match, "c"), Number(match, "b"), Number(match, "a")),
            _ => Make(match, Number(match, "c"), Number(match, "a"), Number(match, "b")),
        };
    }

    private static int Number(Match match, string group) => match.Groups[group].Success ? int.Parse(match.Groups[group].Value, NumberStyles.None, CultureInfo.InvariantCulture) : 0;

    private static Moment? Make(Match match, int year, int month, int day)
    {
        int hour = Number(match, "H"), minute = Number(match, "m"), second = Number(match, "s");
        if (match.Groups["h"] is { Success: true, Value: var half })
        {
            if (hour is < 1 or > 12)
                return null;
            hour = (hour % 12) + (half[0] is 'p' or 'P' ? 12 : 0);
        }

        // A leap second counts as the first one of the next minute.
        if (year < 1 || month is < 1 or > 12 || day < 1 || day > DateTime.DaysInMonth(year, month) || hour > 23 || minute > 59 || second > 60)
            return null;
        var fraction = match.Groups["f"].Success ? long.Parse(match.Groups["f"].Value.PadRight(9, '0'), NumberStyles.None, CultureInfo.InvariantCulture) / 100 : 0;
        var at = new DateTime(year, month, day, hour, minute, 0).AddSeconds(second).AddTicks(fraction);
        if (match.Groups["z"] is not { Success: true, Value: var zone })
            return new Moment(at, null);
        if (zone is "Z" or "z")
            return new Moment(at, TimeSpan.Zero);
        string digits = zone.Substring(1).Replace(":", "");
        int number = int.Parse(digits, NumberStyles.None, CultureInfo.InvariantCulture);
        int hours = digits.Length > 2 ? number / 100 : number, minutes = digits.Length > 2 ? number % 100 : 0;
        return hours > 14 || minutes > 59 ? null : new Moment(at, TimeSpan.FromMinutes((zone[0] == '-' ? -1 : 1) * ((hours * 60) + minutes)));
    }

    private static Moment? Named(string text, string[] formats) =>
        DateTime.TryParseExact(text, formats, CultureInfo.InvariantCulture, DateTimeStyles.None, out var at) ? new Moment(at, null) : null;

    private static Moment? Named(string text, string format)
    {
        if (s_seconds.Contains(format, StringComparer.OrdinalIgnoreCase))
            return IsEpoch(text, 0, 1e11) ? Epoch(text, TimeSpan.TicksPerSecond) : null;
        if (s_milliseconds.Contains(format, StringComparer.OrdinalIgnoreCase))
            return IsEpoch(text, 0, 1e14) ? Epoch(text, TimeSpan.TicksPerMillisecond) : null;
        try
        {
            bool zoned = format.IndexOfAny(['z', 'K']) >= 0 || format is "o" or "O" or "r" or "R" or "u";
            if (zoned)
                return DateTimeOffset.TryParseExact(text, format, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var moment) ? new Moment(moment.DateTime, moment.Offset) : null;
            return DateTime.TryParseExact(text, format, CultureInfo.InvariantCulture, DateTimeStyles.None, out var at) ? new Moment(at, null) : null;
        }
        catch (FormatException)
        {
            return null;
        }
    }

    private static TimeZoneInfo FindZone(string? zone)
    {
        if (zone is null || string.Equals(zone, "UTC", StringComparison.OrdinalIgnoreCase))
            return TimeZoneInfo.Utc;
        if (string.Equals(zone, "local", StringComparison.OrdinalIgnoreCase))
            return TimeZoneInfo.Local;
        if (zone.Length is 6 && zone[0] is '+' or '-' && TimeSpan.TryParseExact(zone.Substring(1), "hh\\:mm", CultureInfo.InvariantCulture, out var offset) && offset <= TimeSpan.FromHours(14))
            return TimeZoneInfo.CreateCustomTimeZone(zone, zone[0] == '-' ? -offset : offset, zone, zone);
        try
        {
            return TimeZoneInfo.FindSystemTimeZoneById(zone);
        }
        catch (Exception e) when (e is TimeZoneNotFoundException or InvalidTimeZoneException or System.Security.SecurityException or ArgumentException)
        {
            throw new VMatrixException("TimeZoneUnknown", VMatrixErrorKind.InvalidInput, $"This system knows no time zone '{zone}'. Name one such as Europe/Berlin, an offset such as +02:00, UTC or local.", e);
        }
    }

    private static long[] ToUtc(IReadOnlyList<(long Line, string Text)> fields, Moment[] moments, TimeZoneInfo zone, string? zoneName, Func<long, string, VMatrixException> invalid, List<string> notes)
    {
        var utc = new long[moments.Length];
        int repeated = 0;

        // Where rows are an hour apart, the same time twice is the repeated hour; where they are closer, it is a row that came twice.
        var steps = moments.Zip(moments.Skip(1), (a, b) => (b.At - a.At).Ticks).Where(t => t > 0).OrderBy(t => t).ToArray();
        bool hourly = steps.Length > 0 && steps[steps.Length / 2] >= TimeSpan.TicksPerHour;
        for (int i = 0; i < moments.Length; i++)
        {
            var (at, offset) = moments[i];
            if (offset is null && zone.IsInvalidTime(at))
                throw invalid(fields[i].Line, $"'{fields[i].Text}' does not exist in the time zone {zoneName}: the clock was set forward over it");
            if (offset is null && zone.IsAmbiguousTime(at))
            {
                // The first pass of the repeated hour is the one with the larger offset.
                var offsets = zone.GetAmbiguousTimeOffsets(at);
                long first = at.Ticks - offsets.Max().Ticks, second = at.Ticks - offsets.Min().Ticks;
                bool again = i > 0 && (first < utc[i - 1] || (first == utc[i - 1] && hourly));
                repeated += again ? 1 : 0;
                utc[i] = again ? second : first;
                continue;
            }

            utc[i] = at.Ticks - (offset ?? zone.GetUtcOffset(at)).Ticks;
        }

        if (repeated > 0)
            notes.Add($"{repeated.ToString(CultureInfo.InvariantCulture)} times lie in an hour that autumn repeats in {zoneName}; the second pass was told from the first by the order of the rows.");
        return utc;
    }

    /// <summary>A time as it is written, with the offset that stands beside it; null for none.</summary>
    private readonly record struct Moment(DateTime At, TimeSpan? Offset);
}
