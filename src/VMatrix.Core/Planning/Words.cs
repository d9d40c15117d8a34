using System;
using System.Globalization;

namespace VMatrix.Planning;

/// <summary>Numbers and times as the planner's reasons write them: the same on every machine.</summary>
internal static class Words
{
    public static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    public static string Seconds(TimeSpan time) => Text($"{time.TotalSeconds:0.#} s");

    public static string Rate(double perSecond) => Text($"{perSecond:0.##}");

    public static string Servers(int count) => count == 1 ? "1 server" : Text($"{count} servers");
}
