using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using VMatrix.Files;

namespace VMatrix.Oracle.Demo;

/// <summary>Finds processes of ours that nothing else has ended: those that name a folder of the demo on their command line.</summary>
internal static partial class Leftovers
{
    private const string Holder = "demo.lock";

    private static readonly string[] s_ours = ["qemu-system-", "qemu-img", "haproxy", "zstd"];

    /// <summary>Marks a folder as that of a demo that runs, until what is returned is disposed or this process ends, however it ends.</summary>
    public static FileStream Hold(string folder) => new(Path.Combine(folder, Holder), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);

    /// <summary>Ends what demos that were killed have left, wherever their guests still run and in the folders where demos are made.</summary>
    /// <param name="parents">Folders that demos' folders are made in.</param>
    /// <returns>The folders that were taken away.</returns>
    public static IReadOnlyList<string> EndKilled(IEnumerable<string> parents)
    {
        string[] folders =
        [
            .. Lines().SelectMany(found => DemoFolder().Matches(found.Line).Select(match => match.Groups[1].Value))
                .Concat(parents.Where(Directory.Exists).SelectMany(parent => Directory.GetDirectories(parent, "vmatrix-demo-*")).Select(Path.GetFullPath)).Distinct(StringComparer.Ordinal),
        ];
        return [.. folders.Where(EndIfKilled)];
    }

    private static bool EndIfKilled(string folder)
    {
        try
        {
            string holder = Path.Combine(folder, Holder);
            // What another user made or may write is not ours to end or to take away: what lies there leads wherever they want.
            if (!File.Exists(holder) || new DirectoryInfo(folder).LinkTarget is not null || !OwnFolder.IsMine(folder))
                return false;
            using (new FileStream(holder, FileMode.Open, FileAccess.ReadWrite, FileShare.None))
            {
                End(folder);
                Directory.Delete(folder, recursive: true);
            }

            return true;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // It runs, or is another user's.
            return false;
        }
    }

    /// <summary>Ends them.</summary>
    /// <param name="folder">A folder that only the demo knows of.</param>
    public static void End(string folder)
    {
        foreach ((int id, string line) in Lines())
        {
            try
            {
                if (!line.Contains(folder + "/", StringComparison.Ordinal))
                    continue;
                using var found = Process.GetProcessById(id);
                found.Kill();
                found.WaitForExit(TimeSpan.FromSeconds(5));
            }
            catch (Exception error) when (error is ArgumentException or InvalidOperationException or Win32Exception)
            {
                // It ended meanwhile, or is not ours.
            }
        }
    }

    private static IEnumerable<(int Id, string Line)> Lines()
    {
        foreach (string process in Directory.EnumerateDirectories("/proc").Where(path => char.IsAsciiDigit(path[6])))
        {
            string line;
            try
            {
                // Anybody may start a program of any name with any words after it.
                if (!OwnFolder.BelongsToMe(process))
                    continue;
                line = File.ReadAllText(Path.Combine(process, "cmdline"));
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                continue;
            }

            string program = Path.GetFileName(line.Split('\0')[0]);
            if (s_ours.Any(name => program.StartsWith(name, StringComparison.Ordinal)))
                yield return (int.Parse(process[6..], CultureInfo.InvariantCulture), line);
        }
    }

    [GeneratedRegex("(/[^\\0,=\"]*/vmatrix-demo-[A-Za-z0-9]+)/")]
    private static partial Regex DemoFolder();
}
