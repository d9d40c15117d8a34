using System;
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;

namespace VMatrix.Oracle.Demo;

/// <summary>Finds processes of ours that nothing else has ended: those that name a folder of the demo on their command line.</summary>
internal static class Leftovers
{
    private static readonly string[] s_ours = ["qemu-system-", "qemu-img", "haproxy", "zstd"];

    /// <summary>Ends them.</summary>
    /// <param name="folder">A folder that only the demo knows of.</param>
    public static void End(string folder)
    {
        foreach (string process in Directory.EnumerateDirectories("/proc").Where(path => char.IsAsciiDigit(path[6])))
        {
            try
            {
                string line = File.ReadAllText(Path.Combine(process, "cmdline"));
                string program = Path.GetFileName(line.Split('\0')[0]);
                if (!line.Contains(folder + "/", StringComparison.Ordinal) || !s_ours.Any(name => program.StartsWith(name, StringComparison.Ordinal)))
                    continue;
                using var found = Process.GetProcessById(int.Parse(process[6..], CultureInfo.InvariantCulture));
                found.Kill();
                found.WaitForExit(TimeSpan.FromSeconds(5));
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException or ArgumentException or InvalidOperationException or Win32Exception)
            {
                // It ended meanwhile, or is not ours.
            }
        }
    }
}
