using System;
using System.Globalization;
using System.Linq;
using System.Text;

namespace VMatrix;

/// <summary>
/// Text that somebody else wrote (a guest, a machine's name, a child's complaint), made fit for people's screens and logs: what would move a
/// terminal's cursor, change its colours, turn the direction of writing or begin a line of its own is shown by its number instead.
/// </summary>
internal static class PlainText
{
    /// <summary>A text with nothing in it that a terminal obeys; lines and tabs stay.</summary>
    /// <param name="text">The text.</param>
    /// <param name="most">Its most characters; the rest is cut off, and that is shown.</param>
    public static string Of(string text, int most = 32_000)
    {
        if (text.Length <= most && text.All(c => c is '\n' or '\t' || IsPlain(c)))
            return text;
        var plain = new StringBuilder();
        for (var i = 0; i < text.Length && i < most; i++)
        {
            var c = text[i];
            if (c == '\r' && i + 1 < text.Length && text[i + 1] == '\n')
                continue;
            if (char.IsHighSurrogate(c) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]))
                _ = plain.Append(c).Append(text[++i]);
            else if (c is '\n' or '\t' || (IsPlain(c) && !char.IsSurrogate(c)))
                _ = plain.Append(c);
            else
                _ = plain.Append("\\u").Append(((int)c).ToString("X4", CultureInfo.InvariantCulture));
        }

        return text.Length > most ? plain.Append(" ...").ToString() : plain.ToString();
    }

    /// <summary>A name or the like, which is one line.</summary>
    public static string Line(string text, int most = 300) => Of(text, most).Replace("\n", "\\u000A").Replace("\t", "\\u0009");

    /// <summary>True when a text is one line without anything that a terminal obeys.</summary>
    public static bool IsPlain(string text) => text.All(IsPlain);

    /// <summary>True when a terminal shows a character and does nothing by it.</summary>
    public static bool IsPlain(char c) => !char.IsControl(c) && c is not ('\u061C' or '\u200E' or '\u200F' or (>= '\u2028' and <= '\u202E') or (>= '\u2066' and <= '\u2069') or '\uFEFF');
}
