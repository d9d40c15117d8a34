using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text.RegularExpressions;

namespace VMatrix.Shells;

/// <summary>
/// The codes that an error tells. Modules of Windows seldom set an exception's HRESULT: the code stands in the localised text, in the id, in an
/// inner error or in the data of a CIM error. In every language it is written the same.
/// </summary>
public static class ErrorCodes
{
    private static readonly Regex s_written = new(@"(?<![0-9A-Za-z])(?:0[xX](?<hex>[89A-Fa-f][0-9A-Fa-f]{7})|(?<number>-2\d{9}))(?![0-9A-Za-z])", RegexOptions.CultureInvariant | RegexOptions.ExplicitCapture);

    /// <summary>The codes of an error, the most telling first, each once: its HRESULTs from the innermost out, then those that its texts name. What only says that something failed is left out.</summary>
    /// <param name="results">HRESULTs, the outermost first.</param>
    /// <param name="texts">Texts, ids and data, the outermost first; null ones are skipped.</param>
    public static IReadOnlyList<int> Of(IEnumerable<int> results, IEnumerable<string?> texts)
    {
        _ = results ?? throw new ArgumentNullException(nameof(results));
        _ = texts ?? throw new ArgumentNullException(nameof(texts));
        return [.. results.Reverse().Concat(texts.SelectMany(In)).Where(Says).Distinct()];
    }

    /// <summary>The codes that a text names: <c>0x8…</c>, <c>0xC…</c>, or the same as a negative number.</summary>
    /// <param name="text">The text, in any language; null names none.</param>
    public static IEnumerable<int> In(string? text)
    {
        if (text is null)
            yield break;
        foreach (Match match in s_written.Matches(text))
        {
            if (match.Groups["hex"] is { Success: true } hex)
                yield return unchecked((int)uint.Parse(hex.Value, NumberStyles.HexNumber, CultureInfo.InvariantCulture));
            else if (int.TryParse(match.Value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number))
                yield return number;
        }
    }

    /// <summary>False for a code that says no more than "it failed": one of .NET's own, E_FAIL, E_POINTER, E_INVALIDARG, and every one of success.</summary>
    private static bool Says(int code)
    {
        const int Facility = 0x1FFF0000, OfDotNet = 0x00130000;
        return code < 0 && (code & Facility) != OfDotNet && code is not (unchecked((int)0x80004005) or unchecked((int)0x80004003) or unchecked((int)0x80070057));
    }
}
