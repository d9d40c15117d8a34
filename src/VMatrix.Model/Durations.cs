using System;
using System.Globalization;
using System.Text.RegularExpressions;

namespace VMatrix;

/// <summary>Lengths of time as people write them, in the pool file and at the prompt: <c>500ms</c>, <c>10s</c>, <c>30m</c>, <c>1.5h</c>, <c>7d</c>.</summary>
public static class Durations
{
    private static readonly Regex s_duration = new(@"\A([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)\z", RegexOptions.CultureInvariant);
    private static readonly (string Name, long Ticks)[] s_units =
    [
        ("d", TimeSpan.TicksPerDay), ("h", TimeSpan.TicksPerHour), ("m", TimeSpan.TicksPerMinute), ("s", TimeSpan.TicksPerSecond), ("ms", TimeSpan.TicksPerMillisecond),
    ];

    /// <summary>Reads a length of time.</summary>
    /// <param name="text">The text.</param>
    /// <param name="value">The length; zero when it cannot be read.</param>
    /// <param name="hint">What is wrong with the unit, to end a sentence with; null when that is not what is wrong.</param>
    /// <returns>False when it is no length of time, has no unit, or is longer than a TimeSpan can be.</returns>
    public static bool TryParse(string text, out TimeSpan value, out string? hint)
    {
        (value, hint) = (default, null);
        var match = s_duration.Match(text.Trim());
        if (!match.Success || !decimal.TryParse(match.Groups[1].Value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number))
            return false;
        var unit = Array.Find(s_units, u => u.Name == match.Groups[2].Value);
        if (unit.Ticks == 0)
        {
            hint = match.Groups[2].Length == 0 ? $"; it has no unit: write {text.Trim()}s if seconds are meant" : "; the units are ms, s, m, h and d";
            return false;
        }

        if (number > 1_000_000_000 || number * unit.Ticks > long.MaxValue)
            return false;
        value = new TimeSpan((long)(number * unit.Ticks));
        return true;
    }

    /// <summary>Writes a length of time in the largest unit that divides it.</summary>
    public static string Format(TimeSpan value)
    {
        var unit = value.Ticks == 0 ? s_units[3] : Array.Find(s_units, u => value.Ticks % u.Ticks == 0);
        return unit.Ticks == 0
            ? ((decimal)value.Ticks / TimeSpan.TicksPerMillisecond).ToString(CultureInfo.InvariantCulture) + "ms"
            : (value.Ticks / unit.Ticks).ToString(CultureInfo.InvariantCulture) + unit.Name;
    }
}
