using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;

namespace VMatrix.Pools;

/// <summary>One reading of one file: collects findings and remembers what was made from which node.</summary>
internal sealed class PoolReading(string path)
{
    /// <summary>More findings than this help nobody, and a file may be made to have very many.</summary>
    private const int MostFindings = 1000;

    private static readonly Regex s_secret = new(
        @"pass(word|wd|phrase|code)|pwd$|secret|token|api_?-?key|private_?-?key|access_?-?key|credential",
        RegexOptions.IgnoreCase | RegexOptions.CultureInvariant);

    private static readonly Regex s_secretInText = new(
        @"(pass(word|wd|phrase)|secret|token|api_?-?key)\s*[=:]\s*\S|://[^/\s:@]+:[^/\s@]+@|-----BEGIN [A-Z ]*PRIVATE KEY",
        RegexOptions.IgnoreCase | RegexOptions.CultureInvariant);

    private readonly List<PoolFinding> _findings = [];
    private readonly HashSet<(PoolNode, string)> _unsound = [];
    private readonly Dictionary<PoolNode, object> _made = [];

    /// <summary>Full path of the file.</summary>
    public string FilePath { get; } = path;

    /// <summary>True to look whether the files that the pool names are there.</summary>
    public bool ChecksFiles { get; init; }

    /// <summary>Full path of the folder that relative paths start from.</summary>
    public string Folder { get; } = Path.GetDirectoryName(path) ?? path;

    /// <summary>True when reading on is of no use.</summary>
    public bool IsFull => _findings.Count >= MostFindings;

    /// <summary>What the file names as its hypervisor, empty when that is missing or wrong; set first, because other settings depend on it.</summary>
    public string Hypervisor { get; set; } = "";

    public static bool IsSecretName(string key) => s_secret.IsMatch(key);

    public static bool IsSecretText(string text) => s_secretInText.IsMatch(text);

    /// <summary>What stands in the file, short enough for a message and without anything that may be secret.</summary>
    public static string Show(PoolNode node) => node.Kind switch
    {
        NodeKind.List => "a list",
        NodeKind.Map => "a section with keys",
        _ => node.IsNothing ? "nothing" : Show(node.Text),
    };

    public static string Show(string text) => IsSecretText(text) ? "(hidden)" : text.Length == 0 ? "an empty text" : $"'{Short(text)}'";

    /// <summary>A finding at a node.</summary>
    public void Add(PoolNode node, string key, string message)
    {
        var shown = Show(node);
        Add(node.Line, node.Column, key, shown[0] == '\'' ? shown.Substring(1, shown.Length - 2) : shown, message);
    }

    public void Add(int line, int column, string key, string found, string message)
    {
        if (_findings.Count < MostFindings)
            _findings.Add(new PoolFinding(FilePath, line, column, key, found, message));
    }

    private static string Short(string text)
    {
        text = text.Replace("\r", "").Replace('\n', ' ');
        return text.Length <= 60 ? text : text.Remove(57) + "...";
    }

    public void Clear() => _findings.Clear();

    public void MarkUnsound(PoolNode map, string key) => _unsound.Add((map, key));

    /// <summary>True when the keys of that section were read without a finding, so that what is concluded from them is not a mistake made twice.</summary>
    public bool IsSound(PoolNode map, params string[] keys) => Array.TrueForAll(keys, k => !_unsound.Contains((map, k)));

    public void Remember(PoolNode node, object value) => _made[node] = value;

    /// <summary>The sections of a list with what was made of each.</summary>
    public IEnumerable<(PoolNode Node, string Key, T Value)> Made<T>(PoolNode? list, string key)
    {
        for (var i = 0; i < (list?.Items.Count ?? 0); i++)
            if (_made.TryGetValue(list!.Items[i], out var value) && value is T made)
                yield return (list.Items[i], $"{key}[{i}]", made);
    }

    /// <summary>A path of the file as a full path. Paths of Windows stay as they are when the file is checked elsewhere.</summary>
    public string Resolve(string path) =>
        path.StartsWith(@"\\", StringComparison.Ordinal) || (path.Length > 2 && char.IsLetter(path[0]) && path[1] == ':' && path[2] is '\\' or '/')
            ? path
            : Path.GetFullPath(Path.Combine(Folder, path));

    public IReadOnlyList<PoolFinding> Findings()
    {
        var sorted = _findings.OrderBy(f => f.Line).ThenBy(f => f.Column).ThenBy(f => f.Key, StringComparer.Ordinal).ToList();
        if (IsFull)
            sorted.Add(sorted[sorted.Count - 1] with { Key = "", Found = "more", Message = $"There may be more findings; mend these {MostFindings} and read the file again." });
        return sorted.ToArray();
    }
}

/// <summary>Finds what was meant by a word that is not known.</summary>
internal static class Nearest
{
    public static string? Of(string word, IEnumerable<string> known)
    {
        if (word.Length is 0 or > 64)
            return null;
        string? best = null;
        var most = Math.Max(1, word.Length / 3);
        foreach (var candidate in known)
        {
            var distance = Distance(word.ToUpperInvariant(), candidate.ToUpperInvariant());
            if (distance > most)
                continue;
            most = distance - 1;
            best = candidate;
        }

        return best;
    }

    /// <summary>Edits from one word to the other; two letters that changed places count once (optimal string alignment: Damerau 1964, Levenshtein 1966).</summary>
    internal static int Distance(string a, string b)
    {
        var d = new int[a.Length + 1, b.Length + 1];
        for (var i = 0; i <= a.Length; i++)
            d[i, 0] = i;
        for (var j = 0; j <= b.Length; j++)
            d[0, j] = j;
        for (var i = 1; i <= a.Length; i++)
        {
            for (var j = 1; j <= b.Length; j++)
            {
                d[i, j] = Math.Min(Math.Min(d[i - 1, j], d[i, j - 1]) + 1, d[i - 1, j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1));
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                    d[i, j] = Math.Min(d[i, j], d[i - 2, j - 2] + 1);
            }
        }

        return d[a.Length, b.Length];
    }
}
