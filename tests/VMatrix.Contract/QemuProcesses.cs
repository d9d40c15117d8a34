using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;

namespace VMatrix.Contract;

/// <summary>What QEMU leaves on this machine: processes found by their command lines, and files of a pool that are nobody's.</summary>
public static class QemuProcesses
{
    /// <summary>The process that runs a server.</summary>
    public static (int Id, string Line) Of(Guid server) => Find($"\0-uuid\0{server:D}\0").Single();

    /// <summary>The processes of this machine, but for this one, whose command line contains a text.</summary>
    public static IEnumerable<(int Id, string Line)> Find(string text)
    {
        foreach (var process in Directory.GetDirectories("/proc").Where(p => char.IsAsciiDigit(p[6])))
        {
            var (id, line) = (int.Parse(process[6..], CultureInfo.InvariantCulture), "");
            try
            {
                line = File.ReadAllText(process + "/cmdline");
            }
            catch (IOException)
            {
                continue;
            }

            if (id != Environment.ProcessId && line.Contains(text, StringComparison.Ordinal))
            {
                yield return (id, line);
            }
        }
    }

    /// <summary>Files and processes of a pool that belong to none of the known servers.</summary>
    public static IReadOnlyList<string> Leftovers(PoolSpec pool, IReadOnlyCollection<Guid> known)
    {
        var places = pool.Hosts.Select(h => h.Folder + "/servers").Concat([pool.Nest.Folder + "/servers", pool.Nest.Folder + "/disposed", .. pool.Services.Select(s => $"{pool.Nest.Folder}/images/{s.Name}")]).Where(Directory.Exists).ToArray();
        return
        [
            .. places.SelectMany(Directory.GetDirectories).Where(d => Path.GetFileName(d).StartsWith('.')).Select(d => $"The folder {d} is left over."),
            .. places.SelectMany(Directory.GetDirectories).Where(d => Guid.TryParse(Path.GetFileName(d), out var id) && !known.Contains(id)).Select(d => $"The folder {d} is nobody's."),
            .. places.SelectMany(p => Directory.GetFiles(p, "*", SearchOption.AllDirectories)).Where(f => f.EndsWith(".next", StringComparison.Ordinal) || f.EndsWith(".partial", StringComparison.Ordinal)).Select(f => $"The file {f} is left over."),
            // The balancer that the pool owns is no leftover while the pool is in use.
            .. Find(Path.GetDirectoryName(pool.Path)!).Where(p => !p.Line.Contains("haproxy.cfg", StringComparison.Ordinal) && !known.Any(id => p.Line.Contains(id.ToString("D"), StringComparison.Ordinal))).Select(p => $"Process {p.Id} is left over: {p.Line.Replace('\0', ' ')}"),
        ];
    }
}
