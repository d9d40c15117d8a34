using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Files;
using VMatrix.Scripts;

namespace VMatrix.HAProxy;

/// <summary>The HAProxy that a pool owns: a detached process that outlives ours and is found again by the record beside its configuration. It runs in a folder that only its user may write, and every file is named from there.</summary>
internal sealed partial class HAProxyProcess
{
    private const string ConfigFile = "haproxy.cfg", PidFile = "haproxy.pid", RecordFile = "haproxy.json", TurnFile = "turn";
    private static readonly TimeSpan s_startWithin = TimeSpan.FromSeconds(60);

    private readonly PoolSpec _pool;
    private readonly TimeProvider _clock;
    private readonly string _folder;

    public HAProxyProcess(PoolSpec pool, TimeProvider clock)
    {
        _pool = pool;
        _clock = clock;
        _folder = Path.Combine(pool.StateFolder, "haproxy");
        SocketPath = Path.Combine(_folder, HAProxyConfig.SocketFile);
    }

    /// <summary>Where its runtime socket is.</summary>
    public string SocketPath { get; }

    /// <summary>The program's name, for tests to name one that is not there.</summary>
    public string Program { get; init; } = "haproxy";

    /// <summary>Makes sure that it runs with the pool's present settings.</summary>
    public async Task EnsureAsync(HAProxySocket socket, CancellationToken cancellation)
    {
        string plain = HAProxyConfig.Write(_pool, []);
        string fingerprint = Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(plain)));
        using HAProxyFolder folder = HAProxyFolder.Make(_folder);
        if (await IsCurrentAsync(folder, socket, fingerprint, cancellation))
            return;

        using FileStream turn = await TakeTurnAsync(folder, cancellation);
        if (await IsCurrentAsync(folder, socket, fingerprint, cancellation))
            return;

        if (await PidAsync(folder, socket, cancellation) is { } running)
        {
            // What is carried over was parsed to its types and is written from those: states too, so that a server that was down is down after the reload.
            CarriedServer[] members = [.. CarriedServer.Parse(await socket.AskAsync(CarriedServer.Command, cancellation), _pool)];
            await WriteAsync(folder, HAProxyConfig.StateFile, CarriedServer.Write(members), cancellation);
            await StartAsync(folder, HAProxyConfig.Write(_pool, members), ["-x", HAProxyConfig.SocketFile, "-sf", running.ToString(CultureInfo.InvariantCulture)], cancellation);
            await RecordAsync(folder, socket, fingerprint, except: running, cancellation);
            // Requests that the old process still carries are seen by nobody: let them end before anyone acts on what is open.
            await WaitForExitAsync(running, StartOf(running), _pool.Balancer.DrainTimeout, cancellation);
            return;
        }

        if (ReadRecord(folder) is { } record)
            await KillAsync(folder, record, cancellation);
        await StartAsync(folder, plain, [], cancellation);
        await RecordAsync(folder, socket, fingerprint, except: null, cancellation);
    }

    /// <summary>Stops it and removes what it left; nothing to do is no error.</summary>
    public async Task StopAsync(HAProxySocket socket, CancellationToken cancellation)
    {
        using HAProxyFolder? folder = HAProxyFolder.Open(_folder);
        if (folder is null)
            return;
        using (FileStream turn = await TakeTurnAsync(folder, cancellation))
        {
            if (ReadRecord(folder) is { } record)
                await KillAsync(folder, record, cancellation);
            if (await PidAsync(folder, socket, cancellation) is { } stray)
                await KillAsync(folder, new Record(stray, StartOf(stray), ""), cancellation);
            folder.Delete();
        }
    }

    private static async Task<bool> IsCurrentAsync(HAProxyFolder folder, HAProxySocket socket, string fingerprint, CancellationToken cancellation) =>
        ReadRecord(folder) is { } record && record.Fingerprint == fingerprint && record.Start != 0 && record.Start == StartOf(record.Pid)
        && folder.IsHomeOf(record.Pid) && await PidAsync(folder, socket, cancellation) == record.Pid;

    /// <summary>The process that answers on the socket; null where none does. Its user is the kernel's word, and the number that it tells counts only for a process of ours.</summary>
    private static async Task<int?> PidAsync(HAProxyFolder folder, HAProxySocket socket, CancellationToken cancellation)
    {
        string answer;
        try
        {
            answer = await socket.AskAsync("show info", cancellation);
        }
        catch (VMatrixException error) when (error.Id == "BalancerUnreachable")
        {
            return null;
        }

        int pid = HAProxyInfo.Parse(answer).Pid;
        return folder.IsHomeOf(pid) ? pid : throw new VMatrixException("BalancerNotOurs", VMatrixErrorKind.Denied, string.Create(CultureInfo.InvariantCulture,
            $"What answers on {socket.Address} says that it is process {pid}, which is no HAProxy that was started in {folder.Name}. It is left alone; see what listens there."));
    }

    private async Task StartAsync(HAProxyFolder folder, string config, IReadOnlyList<string> more, CancellationToken cancellation)
    {
        const string Draft = ConfigFile + ".new";
        await WriteAsync(folder, Draft, config, cancellation);
        (int code, string said) = await RunAsync(folder, ["-c", "-f", Draft], cancellation);
        if (code != 0)
        {
            throw new VMatrixException("BalancerConfigRefused", VMatrixErrorKind.Failed,
                $"HAProxy refuses the configuration that was written for pool {_pool.Name} ({Path.Combine(folder.Name, Draft)}): {Alerts(said)}");
        }

        File.Move(Path.Combine(folder.Path, Draft), Path.Combine(folder.Path, ConfigFile), overwrite: true);
        (code, said) = await RunAsync(folder, ["-D", "-f", ConfigFile, "-p", PidFile, .. more], cancellation);
        if (code != 0)
            throw StartError(said);
    }

    // Written anew, so that no file of another owner or mode is kept.
    private static async Task WriteAsync(HAProxyFolder folder, string name, string content, CancellationToken cancellation)
    {
        string path = Path.Combine(folder.Path, name);
        File.Delete(path);
        await using var file = OwnFiles.Open(path, FileMode.CreateNew, FileAccess.Write, FileShare.None);
        await file.WriteAsync(Encoding.UTF8.GetBytes(content), cancellation);
    }

    private VMatrixException StartError(string said)
    {
        Match bind = CannotBind().Match(said);
        if (!bind.Success)
            return new VMatrixException("BalancerStartFailed", VMatrixErrorKind.Failed, $"HAProxy did not start for pool {_pool.Name}: {Alerts(said)}");
        string service = bind.Groups["service"].Value, listen = bind.Groups["listen"].Value;
        string why = said.Contains("Permission denied", StringComparison.OrdinalIgnoreCase)
            ? "this user may not listen there (ports below 1024 are root's)"
            : said.Contains("Cannot assign", StringComparison.OrdinalIgnoreCase)
                ? "this machine has no such address"
                : "another program listens there";
        return new VMatrixException("BalancerPortTaken", VMatrixErrorKind.Busy,
            $"HAProxy cannot listen on {listen} for service {service}: {why}. Stop the other program, or change the service's 'listen' in {_pool.Path}.");
    }

    private async Task<(int Code, string Said)> RunAsync(HAProxyFolder folder, IReadOnlyList<string> arguments, CancellationToken cancellation)
    {
        var start = new ProcessStartInfo(Program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true, RedirectStandardInput = true, WorkingDirectory = folder.Path }.Minimal();
        // Debian keeps it in /usr/sbin, which is not on every user's path.
        start.Environment["PATH"] = $"{(start.Environment.TryGetValue("PATH", out string? given) ? given : "")}:/usr/local/sbin:/usr/sbin:/sbin".TrimStart(':');
        if (ChildEnvironment.Find(Program, "/usr/local/sbin", "/usr/sbin", "/sbin") is { } program)
            start.FileName = program;
        using var deadline = new CancellationTokenSource(s_startWithin, _clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellation);
        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (Win32Exception error)
        {
            throw new VMatrixException("BalancerMissing", VMatrixErrorKind.NotFound,
                $"HAProxy is not installed, and pool {_pool.Name} wants to own one; install it with: sudo apt-get install --no-install-recommends haproxy", error);
        }

        using (process)
        {
            try
            {
                process.StandardInput.Close();
                Task<string> error = process.StandardError.ReadToEndAsync(either.Token), output = process.StandardOutput.ReadToEndAsync(either.Token);
                await process.WaitForExitAsync(either.Token);
                return (process.ExitCode, await output + await error);
            }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                process.Kill();
                throw new VMatrixException("BalancerStartFailed", VMatrixErrorKind.Timeout, $"HAProxy ('{start.FileName} {string.Join(' ', arguments)}' in {folder.Name}) did not end within {Planning.Words.Seconds(s_startWithin)} and was ended. Run it by hand to see why.");
            }
        }
    }

    private async Task RecordAsync(HAProxyFolder folder, HAProxySocket socket, string fingerprint, int? except, CancellationToken cancellation)
    {
        long begun = _clock.GetTimestamp();
        while (_clock.GetElapsedTime(begun) < TimeSpan.FromSeconds(10))
        {
            // While a reload goes on the old process may still answer on the socket.
            if (await PidAsync(folder, socket, cancellation) is { } pid && pid != except)
            {
                const string Draft = RecordFile + ".new";
                await WriteAsync(folder, Draft, JsonSerializer.Serialize(new Record(pid, StartOf(pid), fingerprint)), cancellation);
                File.Move(Path.Combine(folder.Path, Draft), Path.Combine(folder.Path, RecordFile), overwrite: true);
                return;
            }

            await Task.Delay(TimeSpan.FromMilliseconds(10), _clock, cancellation);
        }

        throw new VMatrixException("BalancerStartFailed", VMatrixErrorKind.Timeout, $"HAProxy was started for pool {_pool.Name} and does not answer on {SocketPath} after 10 s.");
    }

    private static Record? ReadRecord(HAProxyFolder folder)
    {
        try
        {
            var file = new FileInfo(Path.Combine(folder.Path, RecordFile));
            return file is { Exists: true, Length: < 4096 } ? JsonSerializer.Deserialize<Record>(File.ReadAllText(file.FullName)) : null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or JsonException)
        {
            return null;
        }
    }

    private async Task KillAsync(HAProxyFolder folder, Record record, CancellationToken cancellation)
    {
        if (record.Start == 0 || StartOf(record.Pid) != record.Start || !folder.IsHomeOf(record.Pid))
            return;
        try
        {
            using var process = Process.GetProcessById(record.Pid);
            process.Kill();
        }
        catch (ArgumentException)
        {
            return; // gone by itself
        }

        await WaitForExitAsync(record.Pid, record.Start, TimeSpan.FromSeconds(5), cancellation);
    }

    private async Task WaitForExitAsync(int pid, long start, TimeSpan most, CancellationToken cancellation)
    {
        long begun = _clock.GetTimestamp();
        while (start != 0 && StartOf(pid) == start && _clock.GetElapsedTime(begun) < most)
            await Task.Delay(TimeSpan.FromMilliseconds(10), _clock, cancellation);
    }

    // Field 22 of /proc/<pid>/stat, in clock ticks since the machine's boot; 0 when there is no such process, or only its shell is left.
    private static long StartOf(int pid)
    {
        try
        {
            string stat = File.ReadAllText($"/proc/{pid}/stat");
            string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            return fields[0] is "Z" or "X" ? 0 : long.Parse(fields[19], CultureInfo.InvariantCulture);
        }
        catch (IOException)
        {
            return 0;
        }
    }

    private async Task<FileStream> TakeTurnAsync(HAProxyFolder folder, CancellationToken cancellation)
    {
        string path = Path.Combine(folder.Path, TurnFile);
        long begun = _clock.GetTimestamp();
        while (true)
        {
            try
            {
                return OwnFiles.Open(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException error) when (error is not (DirectoryNotFoundException or FileNotFoundException))
            {
                if (_clock.GetElapsedTime(begun) > TimeSpan.FromSeconds(30))
                {
                    throw new VMatrixException("BalancerBusy", VMatrixErrorKind.Busy,
                        $"Another program has been starting or stopping the HAProxy of pool {_pool.Name} for 30 s (it holds {Path.Combine(folder.Name, TurnFile)}).", error);
                }
            }

            await Task.Delay(TimeSpan.FromMilliseconds(20), _clock, cancellation);
        }
    }

    // HAProxy's own lines, without its file positions and notices.
    private static string Alerts(string said)
    {
        string[] alerts = [.. said.Split('\n').Where(line => line.StartsWith("[ALERT]", StringComparison.Ordinal)).Select(line => AlertPrefix().Replace(line, "").Trim())];
        return Outsiders.Show(alerts.Length > 0 ? string.Join(' ', alerts) : said.Trim() is { Length: > 0 } rest ? rest : "it gave no reason.");
    }

    [GeneratedRegex(@"(?:frontend|proxy) (?<service>[^:\s]+)(?::users)?: (?:protocol [a-z0-9]+: )?cannot bind socket[^\[]*\[(?<listen>[^\]]+)\]")]
    private static partial Regex CannotBind();

    [GeneratedRegex(@"\A\[ALERT\]\s*\(\d+\)\s*:\s*")]
    private static partial Regex AlertPrefix();

    private sealed record Record(int Pid, long Start, string Fingerprint);
}
