using System;
using System.Linq;

namespace VMatrix;

/// <summary>Texts from outside (a balancer, a script) on their way to people.</summary>
internal static class Outsiders
{
    private const int Most = 400;

    /// <summary>The text on one line, without control characters, of a length that can be read.</summary>
    public static string Show(string? text)
    {
        var some = text ?? "";
        if (some.Length > Most)
            some = some.Substring(0, Most).Insert(Most, "…");
        some = some.Trim();
        return new string([.. some.Select(letter => letter is '\r' or '\n' or '\t' or '\u2028' or '\u2029' or '\u0085' ? ' ' : char.IsControl(letter) ? '?' : letter)]);
    }
}
