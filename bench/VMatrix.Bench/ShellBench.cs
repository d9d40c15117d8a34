using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Pools;
using VMatrix.Simulation;

namespace VMatrix.Bench;

/// <summary>What users of the shell wait for: the import of the staged module beside a bare start of the shell, and a listing of many servers in a warm session.</summary>
internal static class ShellBench
{
    private static readonly string s_module = Path.Combine(AppContext.BaseDirectory, "..", "..", "..", "..", "..", "out", "VMatrix");

    public static Command CreateImport()
    {
        Option<int> rounds = new("--rounds") { Description = "How often each is measured, in turn.", DefaultValueFactory = _ => 15 };
        Command command = new("import", "Import-Module beside a bare start of the shell (goal: at most 1.35 times).") { rounds };
        command.SetAction((parsed, cancellation) => ImportAsync(parsed.GetValue(rounds), cancellation));
        return command;
    }

    public static Command CreateServers()
    {
        Option<int> count = new("--count") { Description = "How many servers.", DefaultValueFactory = _ => 10_000 };
        Command command = new("servers", "Get-VMatrixServer in a warm session (goal: the first within 50 ms, 10,000 within 1 s), beside making as many plain objects.") { count };
        command.SetAction((parsed, cancellation) => ServersAsync(parsed.GetValue(count), cancellation));
        return command;
    }

    private static async Task<int> ImportAsync(int rounds, CancellationToken cancellation)
    {
        List<double> bare = [], import = [];
        for (int i = 0; i <= rounds; i++)
        {
            double without = (await ShellAsync("1", cancellation)).Milliseconds;
            double with = (await ShellAsync($"Import-Module '{s_module}'", cancellation)).Milliseconds;
            // The first round reads the disk.
            if (i == 0)
                continue;
            bare.Add(without);
            import.Add(with);
        }

        Console.WriteLine(FormattableString.Invariant($"bare start        {Median(bare),8:0} ms (median of {rounds})"));
        Console.WriteLine(FormattableString.Invariant($"with Import-Module {Median(import),7:0} ms"));
        Console.WriteLine(FormattableString.Invariant($"ratio             {Median(import) / Median(bare),8:0.00}"));
        return 0;
    }

    private static async Task<int> ServersAsync(int count, CancellationToken cancellation)
    {
        string folder = Directory.CreateTempSubdirectory("vmatrix-bench-").FullName;
        try
        {
            string file = Path.Combine(folder, "pool.yaml");
            int hosts = Math.Max(1, count / 20);
            await File.WriteAllTextAsync(file, $$"""
                pool: bench
                hypervisor: simulation
                hosts: [{ name: "host[1-{{hosts}}]", memory: 64 GiB }]
                services: [{ name: FINANCE, least: 0, capacity: 10/s, isolation: shared, image: { memory: 512 MiB } }]
                """, cancellation);
            var (pool, findings) = PoolFile.Read(file);
            if (pool is null)
                throw new InvalidOperationException(string.Join(Environment.NewLine, findings));
            var world = SimulatedWorld.Open(pool, TimeProvider.System);
            // Half of them run, spread over the hosts; half sleep.
            world.Populate(Enumerable.Range(0, count).Select(i => (new ServerMark
            {
                ServerId = Guid.NewGuid(),
                Name = $"FINANCE-{i + 1}",
                Service = "FINANCE",
                Image = "1",
                Stage = i % 2 == 0 ? Stage.Matrix : Stage.Nest,
                StateId = Guid.NewGuid(),
                CreatedAt = DateTimeOffset.UnixEpoch,
                ChangedAt = DateTimeOffset.UnixEpoch,
            }, i % 2 == 0 ? $"host{(i / 2 % hosts) + 1}" : null)));
            SimulatedWorld.Forget(pool);
            var (_, said) = await ShellAsync(string.Join("; ",
                $"Import-Module '{s_module}'",
                "$clock = [Diagnostics.Stopwatch]::new()",
                "function Show($name, $work) { $runs = foreach ($i in 0..7) { $first = 0; $n = 0; $clock.Restart(); & $work | ForEach-Object { if ($n++ -eq 0) { $first = $clock.Elapsed.TotalMilliseconds } }; [pscustomobject]@{ First = $first; All = $clock.Elapsed.TotalMilliseconds; Count = $n } }; $warm = $runs | Select-Object -Skip 1; "
                    + "'{0,-34} {1,6} objects, first {2,7:0.0} ms, all {3,7:0} ms (medians of 7)' -f $name, $runs[-1].Count, ($warm.First | Sort-Object)[3], ($warm.All | Sort-Object)[3] }",
                $"Show 'Get-VMatrixServer' {{ Get-VMatrixServer -Pool '{file}' }}",
                $"Show 'Get-VMatrixServer -SkipHealthCheck' {{ Get-VMatrixServer -Pool '{file}' -SkipHealthCheck }}",
                $"Show 'as many plain objects' {{ foreach ($i in 1..{count}) {{ [pscustomobject]@{{ Id = [guid]::NewGuid(); Name = $i; Stage = 'Nest' }} }} }}"), cancellation);
            Console.Write(said);
            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<(double Milliseconds, string Said)> ShellAsync(string script, CancellationToken cancellation)
    {
        var watch = Stopwatch.StartNew();
        using var shell = Process.Start(new ProcessStartInfo("pwsh", ["-NoProfile", "-NonInteractive", "-Command", script]) { RedirectStandardOutput = true })
            ?? throw new InvalidOperationException("pwsh did not start.");
        try
        {
            string said = await shell.StandardOutput.ReadToEndAsync(cancellation);
            await shell.WaitForExitAsync(cancellation);
            double took = watch.Elapsed.TotalMilliseconds;
            return shell.ExitCode == 0 ? (took, said)
                : throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture, $"pwsh ended with code {shell.ExitCode}: {said}"));
        }
        finally
        {
            if (!shell.HasExited)
                shell.Kill();
        }
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
}
