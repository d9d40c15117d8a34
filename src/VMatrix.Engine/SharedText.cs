using System;

namespace VMatrix;

/// <summary>
/// Text that several write into: a machine's notes in Hyper-V, its description in SCVMM. Ours is one JSON object behind a word of ours, found
/// wherever it stands; every other character is somebody else's, such as the <c>#CLUSTER-INVARIANT#:{…}</c> that VMM puts in.
/// </summary>
internal static class SharedText
{
    private const string Vmm = "#CLUSTER-INVARIANT#";

    /// <summary>Where ours stands.</summary>
    /// <param name="Start">Its first character.</param>
    /// <param name="Json">The first character of its JSON.</param>
    /// <param name="End">Behind its last character; where it is broken, the end of its line or the begin of what VMM put there.</param>
    /// <param name="IsWhole">True when its JSON ends.</param>
    public readonly record struct Piece(int Start, int Json, int End, bool IsWhole);

    /// <summary>The first piece of ours from a place on; null when there is none.</summary>
    /// <param name="text">The text.</param>
    /// <param name="word">Our word, with its colon.</param>
    /// <param name="from">The place.</param>
    public static Piece? Find(string text, string word, int from = 0)
    {
        for (var start = text.IndexOf(word, from, StringComparison.OrdinalIgnoreCase); start >= 0; start = text.IndexOf(word, start + 1, StringComparison.OrdinalIgnoreCase))
        {
            // Within a longer word it is another one's.
            if (start > 0 && (char.IsLetterOrDigit(text[start - 1]) || text[start - 1] is '-' or '_' or '.'))
                continue;
            var json = start + word.Length;
            if (json >= text.Length || text[json] != '{')
                continue;
            var end = EndOf(text, json);
            return end > 0 ? new Piece(start, json, end, true) : new Piece(start, json, EndOfBroken(text, json), false);
        }

        return null;
    }

    /// <summary>The text with ours put in, or in the place of the piece that is there, on a line of its own.</summary>
    public static string Write(string text, string word, string json)
    {
        var ours = word + json;
        if (Find(text, word) is { } piece)
        {
            var (before, after) = (text.Substring(0, piece.Start), text.Substring(piece.End));
            return before + (before.Length > 0 && !IsBreak(before[before.Length - 1]) ? "\n" : "") + ours + (after.Length > 0 && !IsBreak(after[0]) ? "\n" : "") + after;
        }

        // Behind what is there, unless the line break that joins them could not be told from the other's own.
        return text.Length == 0 ? ours : text[text.Length - 1] == '\r' ? ours + "\n" + text : text + "\n" + ours;
    }

    /// <summary>The text as it was before ours came.</summary>
    public static string Remove(string text, string word)
    {
        if (Find(text, word) is not { } piece)
            return text;
        var (start, end) = (piece.Start, piece.End);
        if (start > 0 && text[start - 1] is '\n' or '\r')
        {
            // Editors turn the break that we put there into two characters, and then every other one too.
            start--;
            if (start > 0 && text[start] == '\n' && text[start - 1] == '\r')
                start--;
        }
        else if (start == 0 && end < text.Length && IsBreak(text[end]))
        {
            end += text[end] == '\r' && end + 1 < text.Length && text[end + 1] == '\n' ? 2 : 1;
        }

        return text.Remove(start, end - start);
    }

    private static bool IsBreak(char letter) => letter is '\n' or '\r';

    /// <summary>Behind the JSON object that begins somewhere; -1 where it does not end.</summary>
    private static int EndOf(string text, int begin)
    {
        var (depth, quoted) = (0, false);
        for (var i = begin; i < text.Length; i++)
        {
            switch (text[i])
            {
                case '\r' or '\n':
                    return -1;
                case '\\' when quoted:
                    i++;
                    break;
                case '"':
                    quoted = !quoted;
                    break;
                case '{' when !quoted:
                    depth++;
                    break;
                case '}' when !quoted && --depth == 0:
                    return i + 1;
            }
        }

        return -1;
    }

    private static int EndOfBroken(string text, int begin)
    {
        var line = text.IndexOfAny(['\r', '\n'], begin);
        var vmm = text.IndexOf(Vmm, begin, StringComparison.Ordinal);
        return vmm >= 0 && (line < 0 || vmm < line) ? vmm : line < 0 ? text.Length : line;
    }
}
