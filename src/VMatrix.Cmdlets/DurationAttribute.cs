using System;
using System.Globalization;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Lets a parameter of type TimeSpan take what the pool file takes, such as <c>30m</c> or <c>4h</c>. A number without a unit is refused: PowerShell would read it as so many ten-millionths of a second.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class DurationAttribute : ArgumentTransformationAttribute
{
    /// <summary>True to refuse a length of zero.</summary>
    public bool AboveZero { get; set; }

    /// <inheritdoc/>
    public override object? Transform(EngineIntrinsics engineIntrinsics, object inputData)
    {
        object? given = inputData is PSObject wrapped ? wrapped.BaseObject : inputData;
        TimeSpan value;
        switch (given)
        {
            case null:
                return null;
            case TimeSpan span:
                value = span;
                break;
            case string text when Durations.TryParse(text, out value, out string? _):
                break;
            case string text when text.Split(':').Length > 1 && TimeSpan.TryParse(text, CultureInfo.InvariantCulture, out value):
                break;
            default:
                string said = Convert.ToString(given, CultureInfo.InvariantCulture) ?? "";
                string hint = given is ValueType || Durations.TryParse(said + "s", out _, out _)
                    ? $"it has no unit; write {said}s for seconds, {said}m for minutes or {said}h for hours" : "write it as 500ms, 30s, 5m, 1.5h or 7d, or give a TimeSpan";
                throw new ArgumentTransformationMetadataException($"'{said}' is not a length of time: {hint}.");
        }

        return value < TimeSpan.Zero || (AboveZero && value == TimeSpan.Zero)
            ? throw new ArgumentTransformationMetadataException($"'{given}' is not a length of time {(AboveZero ? "above zero" : "of zero or more")}.")
            : value;
    }
}
