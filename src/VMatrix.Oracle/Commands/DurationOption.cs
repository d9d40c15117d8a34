using System;
using System.CommandLine;
using System.CommandLine.Parsing;

namespace VMatrix.Oracle.Commands;

/// <summary>Options that are lengths of time, written as in the pool file: <c>500ms</c>, <c>30s</c>, <c>5m</c>. A number without a unit is refused.</summary>
internal static class DurationOption
{
    /// <summary>An option that may be left out; null then.</summary>
    public static Option<TimeSpan?> Optional(string name, string description, TimeSpan least, TimeSpan most) =>
        new(name) { Description = description, HelpName = "time", CustomParser = result => Parse(result, name, least, most) };

    /// <summary>An option with a value of its own.</summary>
    public static Option<TimeSpan> Of(string name, string description, TimeSpan otherwise, TimeSpan least, TimeSpan most) =>
        new(name) { Description = description, HelpName = "time", DefaultValueFactory = _ => otherwise, CustomParser = result => Parse(result, name, least, most) ?? otherwise };

    private static TimeSpan? Parse(ArgumentResult result, string name, TimeSpan least, TimeSpan most)
    {
        string text = result.Tokens.Count == 1 ? result.Tokens[0].Value : "";
        if (!Durations.TryParse(text, out var value, out string? hint))
            result.AddError($"{name} '{text}' is not a length of time such as 500ms, 30s, 5m or 1.5h{hint}.");
        else if (value < least || value > most)
            result.AddError($"{name} {text} is not between {Durations.Format(least)} and {Durations.Format(most)}.");
        else
            return value;
        return null;
    }
}
