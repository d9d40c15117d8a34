using System.Collections.Generic;

namespace VMatrix.Planning;

/// <summary>Names of servers with wildcards, as pool files list them. Letters' case does not count.</summary>
internal static class NamePatterns
{
    /// <summary>True when a name is among the patterns.</summary>
    public static bool Match(IReadOnlyList<string> patterns, string name)
    {
        for (int k = 0; k < patterns.Count; k++)
        {
            if (Match(patterns[k], name))
                return true;
        }

        return false;
    }

    /// <summary>True when a name fits a pattern, in which <c>*</c> stands for any letters and <c>?</c> for one.</summary>
    public static bool Match(string pattern, string name)
    {
        // After a star the rest is tried further and further on: only the last star ever has to be tried again.
        int p = 0, n = 0, star = -1, from = 0;
        while (n < name.Length)
        {
            if (p < pattern.Length && pattern[p] == '*')
                (star, from) = (p++, n);
            else if (p < pattern.Length && (pattern[p] == '?' || char.ToUpperInvariant(pattern[p]) == char.ToUpperInvariant(name[n])))
                (p, n) = (p + 1, n + 1);
            else if (star >= 0)
                (p, n) = (star + 1, ++from);
            else
                return false;
        }

        while (p < pattern.Length && pattern[p] == '*')
            p++;
        return p == pattern.Length;
    }
}
