using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using VMatrix.Files;

namespace VMatrix.Pools;

/// <summary>Reads pool files.</summary>
public static class PoolFile
{
    /// <summary>A pool file may be this long, in bytes.</summary>
    internal const int MostBytes = 1 << 20;

    /// <summary>Reads a pool file and reports every mistake in it at once.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The pool, or null when there are findings. Findings are in the order of the file. A file that cannot be read as YAML at all, is longer than 1 MiB or is nested without end has one finding.</returns>
    /// <exception cref="VMatrixException"><c>PoolNotFound</c> when there is no such file, <c>PoolUnreadable</c> when it cannot be opened.</exception>
    public static (PoolSpec? Pool, IReadOnlyList<PoolFinding> Findings) Read(string path)
    {
        if (string.IsNullOrWhiteSpace(path))
            throw new VMatrixException("PoolNotFound", VMatrixErrorKind.InvalidInput, "No pool file was named; name one, such as ./pool.yaml.");
        string full;
        try
        {
            full = Path.GetFullPath(path);
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException or PathTooLongException)
        {
            throw new VMatrixException("PoolNotFound", VMatrixErrorKind.InvalidInput, $"'{path}' is not a path: {e.Message}", e);
        }

        return Read(full, Load(full));
    }

    /// <summary>Reads a pool file as <see cref="Read(string)"/> does, and looks whether the files that it names are on this machine too, as far as they are this machine's.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="VMatrixException">As <see cref="Read(string)"/> throws.</exception>
    public static IReadOnlyList<PoolFinding> Check(string path)
    {
        var (pool, findings) = Read(path);
        return pool is null ? findings : Read(pool.Path, Load(pool.Path), checkFiles: true).Findings;
    }

    internal static (PoolSpec? Pool, IReadOnlyList<PoolFinding> Findings) Read(string fullPath, byte[] bytes, bool checkFiles = false)
    {
        var reading = new PoolReading(fullPath) { ChecksFiles = checkFiles };
        PoolSpec? pool = null;
        try
        {
            var root = PoolTree.Parse(Decode(bytes));
            reading.Hypervisor = root["hypervisor"] is { Kind: NodeKind.Scalar } hypervisor && PoolTable.Hypervisors.Words.Contains(hypervisor.Text) ? hypervisor.Text : "";
            pool = (PoolSpec?)PoolTable.Pool.Read(root, "", reading);
            if (pool is not null)
                pool = new PoolChecks(root, reading).Check(pool);
        }
        catch (PoolSyntaxException e)
        {
            reading.Clear();
            reading.Add(e.Line, e.Column, "", e.Found, e.Message);
        }

        var findings = reading.Findings();
        return (findings.Count == 0 ? pool : null, findings);
    }

    private static byte[] Load(string path)
    {
        try
        {
            if (Directory.Exists(path))
                throw new VMatrixException("PoolNotFound", VMatrixErrorKind.NotFound, $"{path} is a folder; name the pool file in it, such as {Path.Combine(path, "pool.yaml")}.");
            return SmallFile.TryReadStart(path, MostBytes)
                ?? throw new VMatrixException("PoolNotFound", VMatrixErrorKind.NotFound, $"There is no pool file {path}; name one that exists, or begin with a copy of examples/demo/pool.yaml.");
        }
        catch (InvalidDataException e)
        {
            // A pipe gives its text once, to the first reader, and may never end.
            throw new VMatrixException("PoolUnreadable", VMatrixErrorKind.InvalidInput, $"The pool file {path} is no regular file but a pipe, a device or the like; write the pool into a file and name that.", e);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new VMatrixException("PoolUnreadable", VMatrixErrorKind.Denied, $"The pool file {path} may not be read by this user; give the user the right to read it.", e);
        }
        catch (IOException e)
        {
            throw new VMatrixException("PoolUnreadable", VMatrixErrorKind.Unreachable, $"The pool file {path} cannot be read: {e.Message}", e);
        }
    }

    private static string Decode(byte[] bytes)
    {
        if (bytes.Length > MostBytes)
            throw new PoolSyntaxException(1, 1, "more than 1 MiB", "The file is longer than 1 MiB, the most that a pool file may be; describe many equal hosts as one range, such as name: host[1-100].");
        if (StartsWith(bytes, 0xFF, 0xFE) || StartsWith(bytes, 0xFE, 0xFF) || StartsWith(bytes, 0, 0, 0xFE, 0xFF))
            throw new PoolSyntaxException(1, 1, "UTF-16 or UTF-32", "The file is not in UTF-8 but in UTF-16 or UTF-32; save it as UTF-8.");

        var start = StartsWith(bytes, 0xEF, 0xBB, 0xBF) ? 3 : 0;
        string text;
        try
        {
            text = new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(bytes, start, bytes.Length - start);
        }
        catch (DecoderFallbackException e)
        {
            var at = e.Index + start;
            var (line, column) = Place(Encoding.UTF8.GetString(bytes, start, Math.Max(0, Math.Min(bytes.Length - start, at - start))));
            throw new PoolSyntaxException(line, column, "a byte that is not UTF-8", "The file is not in UTF-8 here; save it as UTF-8.");
        }

        var atLineStart = true;
        for (var i = 0; i < text.Length; i++)
        {
            var c = text[i];
            if (c == '\t' && atLineStart)
            {
                var (line, column) = Place(text.Substring(0, i));
                throw new PoolSyntaxException(line, column, "a tab", "YAML is indented with spaces; replace the tab by spaces.");
            }

            // The parser ends a line at U+0085, U+2028 and U+2029, which no editor does: every line told after one would be wrong.
            if (c is '\u2028' or '\u2029')
            {
                var (line, column) = Place(text.Substring(0, i));
                throw new PoolSyntaxException(line, column, $"the line separator U+{(int)c:X4}", $"The sign U+{(int)c:X4}, which cannot be seen, separates lines for some programs and not for others; remove it, or end the line here.");
            }

            if (char.IsControl(c) && c is not ('\t' or '\n' or '\r'))
            {
                var (line, column) = Place(text.Substring(0, i));
                throw new PoolSyntaxException(line, column, $"the control character U+{(int)c:X4}", $"A pool file is text in UTF-8; remove the control character U+{(int)c:X4}, or save the file as UTF-8.");
            }

            atLineStart = c is '\n' or '\r' || (atLineStart && c is ' ' or '\t');
        }

        return text;
    }

    private static bool StartsWith(byte[] bytes, params byte[] start) => bytes.Length >= start.Length && bytes.Take(start.Length).SequenceEqual(start);

    private static (int Line, int Column) Place(string before)
    {
        var line = before.Count(c => c == '\n') + 1;
        return (line, before.Length - before.LastIndexOf('\n'));
    }
}
