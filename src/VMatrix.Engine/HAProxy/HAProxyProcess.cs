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
using VMatrix.Drivers;
using VMatrix.Scripts;

namespace VMatrix.HAProxy;

/// <summary>The HAProxy that a pool owns: a detached process that outlives ours and is found again by the record beside its configuration.</summary>
internal sealed partial class HAProxyProcess
{
    // HAProxy first binds '<path>.<pid>.tmp'.
    private const int LongestSocketPath = 90;

    private readonly PoolSpec _pool;
    private readonly TimeProvider _clock;
    private readonly string _folder;

    public HAProxyProcess(PoolSpec pool, TimeProvider clock)
    {
        _pool = pool;
        _clock = clock;
        _folder = Path.Combine(pool.StateFolder, "haproxy");
        string beside = Path.Combine(_folder, "haproxy.sock");
        SocketPath = Encoding.UTF8.GetByteCount(beside) <= LongestSocketPath ? beside : Path.Combine(RuntimeFolder(pool.StateFolder), "haproxy.sock");
    }

    /// <summary>Where its runtime socket is: in the state folder, or in a short folder of its own when that path is too long for a socket.</summary>
    public string SocketPath { get; }

    /// <summary>The program's name, for tests to name one that is not there.</summary>
    public string Program { get; init; } = "haproxy";

    private string ConfigPath => Path.Combine(_folder, "haproxy.cfg");

    private string PidPath => Path.Combine(_folder, "haproxy.pid");

    private string RecordPath => Path.Combine(_folder, "haproxy.json");

    /// <summary>Makes sure that it runs with the pool's present settings.</summary>
    public async Task EnsureAsync(HAProxySocket socket, CancellationToken cancellation)
    {
        string plain = HAProxyConfig.Write(_pool, SocketPath, []);
        string fingerprint = Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(plain)));
        if (await IsCurrentAsync(socket, fingerprint, cancellation))
            return;

        MakeFolder(_folder);
        MakeFolder(Path.GetDirectoryName(SocketPath)!);
        using FileStream turn = await TakeTurnAsync(cancellation);
        if (await IsCurrentAsync(socket, fingerprint, cancellation))
            return;

        Record? record = ReadRecord();
        if (await PidAsync(socket, cancellation) is { } running)
        {
            BalancerReport report = HAProxyReport.Parse(await socket.AskAsync(HAProxyReport.Commands, cancellation), _pool.Services, _clock.GetUtcNow());
            await StartAsync(HAProxyConfig.Write(_pool, SocketPath, report.Members), ["-x", SocketPath, "-sf", running.ToString(CultureInfo.InvariantCulture)], cancellation);
            await RecordAsync(socket, fingerprint, except: running, cancellation);
            // Requests that the old process still carries are seen by nobody: let them end before anyone acts on what is open.
            await WaitForExitAsync(running, StartOf(running), _pool.Balancer.DrainTimeout, cancellation);
            return;
        }

        if (record is not null)
            await KillAsync(record, cancellation);
        await StartAsync(plain, [], cancellation);
        await RecordAsync(socket, fingerprint, except: null, cancellation);
    }

    /// <summary>Stops it and removes what it left; nothing to do is no error.</summary>
    public async Task StopAsync(HAProxySocket socket, CancellationToken cancellation)
    {
        if (!Directory.Exists(_folder))
            return;
        using (FileStream turn = await TakeTurnAsync(cancellation))
        {
            if (ReadRecord() is { } record)
                await KillAsync(record, cancellation);
            if (await PidAsync(socket, cancellation) is { } stray)
                await KillAsync(new Record(stray, StartOf(stray), ""), cancellation);
            foreach (string path in (string[])[SocketPath, PidPath, RecordPath, ConfigPath])
                File.Delete(path);
        }

        if (Path.GetDirectoryName(SocketPath) is { } runtime && runtime != _folder && Directory.Exists(runtime))
            Directory.Delete(runtime, recursive: true);
        Directory.Delete(_folder, recursive: true);
    }

    private async Task<bool> IsCurrentAsync(HAProxySocket socket, string fingerprint, CancellationToken cancellation) =>
        ReadRecord() is { } record && record.Fingerprint == fingerprint && record.Start == StartOf(record.Pid) && await PidAsync(socket, cancellation) == record.Pid;

    private static async Task<int?> PidAsync(HAProxySocket socket, CancellationToken cancellation)
    {
        try
        {
            string answer = await socket.AskAsync("show info", cancellation);
            return HAProxyReport.ParseInfo(answer).TryGetValue("Pid", out string? pid) ? int.Parse(pid, CultureInfo.InvariantCulture) : null;
        }
        catch (VMatrixException error) when (error.Id == "BalancerUnreachable")
        {
            return null;
        }
    }

    private async Task StartAsync(string config, IReadOnlyList<string> more, CancellationToken cancellation)
    {
        string draft = ConfigPath + ".new";
        await File.WriteAllTextAsync(draft, config, cancellation);
        (int code, string said) = await RunAsync(["-c", "-f", draft], cancellation);
        if (code != 0)
        {
            throw new VMatrixException("BalancerConfigRefused", VMatrixErrorKind.Failed,
                $"HAProxy refuses the configuration that was written for pool {_pool.Name} ({draft}): {Alerts(said)}");
        }

        File.Move(draft, ConfigPath, overwrite: true);
        (code, said) = await RunAsync(["-D", "-f", ConfigPath, "-p", PidPath, .. more], cancellation);
        if (code != 0)
            throw StartError(said);
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

    private async Task<(int Code, string Said)> RunAsync(IReadOnlyList<string> arguments, CancellationToken cancellation)
    {
        var start = new ProcessStartInfo(Program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true, RedirectStandardInput = true, WorkingDirectory = "/" }.Minimal();
        // Debian keeps it in /usr/sbin, which is not on every user's path.
        start.Environment["PATH"] = Environment.GetEnvironmentVariable("PATH") + ":/usr/local/sbin:/usr/sbin:/sbin";
        if (FindProgram(start.Environment["PATH"]!) is { } program)
            start.FileName = program;
        try
        {
            using Process process = Process.Start(start)!;
            process.StandardInput.Close();
            Task<string> error = process.StandardError.ReadToEndAsync(cancellation), output = process.StandardOutput.ReadToEndAsync(cancellation);
            await process.WaitForExitAsync(cancellation);
            return (process.ExitCode, await output + await error);
        }
        catch (Win32Exception error)
        {
            throw new VMatrixException("BalancerMissing", VMatrixErrorKind.NotFound,
                $"HAProxy is not installed, and pool {_pool.Name} wants to own one; install it with: sudo apt-get install --no-install-recommends haproxy", error);
        }
    }

    private string? FindProgram(string path) =>
        path.Split(':', StringSplitOptions.RemoveEmptyEntries).Select(folder => Path.Combine(folder, Program)).FirstOrDefault(File.Exists);

    private async Task RecordAsync(HAProxySocket socket, string fingerprint, int? except, CancellationToken cancellation)
    {
        long begun = _clock.GetTimestamp();
        while (_clock.GetElapsedTime(begun) < TimeSpan.FromSeconds(10))
        {
            // While a reload goes on the old process may still answer on the socket.
            if (await PidAsync(socket, cancellation) is { } pid && pid != except)
            {
                string draft = RecordPath + ".new";
                await File.WriteAllTextAsync(draft, JsonSerializer.Serialize(new Record(pid, StartOf(pid), fingerprint)), cancellation);
                File.Move(draft, RecordPath, overwrite: true);
                return;
            }

            await Task.Delay(TimeSpan.FromMilliseconds(10), _clock, cancellation);
        }

        throw new VMatrixException("BalancerStartFailed", VMatrixErrorKind.Timeout, $"HAProxy was started for pool {_pool.Name} and does not answer on {SocketPath} after 10 s.");
    }

    private Record? ReadRecord()
    {
        try
        {
            return JsonSerializer.Deserialize<Record>(File.ReadAllText(RecordPath));
        }
        catch (Exception error) when (error is FileNotFoundException or DirectoryNotFoundException or JsonException)
        {
            return null;
        }
    }

    private async Task KillAsync(Record record, CancellationToken cancellation)
    {
        if (record.Start == 0 || StartOf(record.Pid) != record.Start)
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

    private async Task<FileStream> TakeTurnAsync(CancellationToken cancellation)
    {
        string path = Path.Combine(_folder, "turn");
        long begun = _clock.GetTimestamp();
        while (true)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException error) when (error is not DirectoryNotFoundException)
            {
                if (_clock.GetElapsedTime(begun) > TimeSpan.FromSeconds(30))
                {
                    throw new VMatrixException("BalancerBusy", VMatrixErrorKind.Busy,
                        $"Another program has been starting or stopping the HAProxy of pool {_pool.Name} for 30 s (it holds {path}).", error);
                }
            }

            await Task.Delay(TimeSpan.FromMilliseconds(20), _clock, cancellation);
        }
    }

    // In /tmp because it must be the same for every session of the user, and short.
    private static string RuntimeFolder(string stateFolder)
    {
        string name = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(Environment.UserName + "\n" + stateFolder)))[..16];
        return Path.Combine("/tmp", "vmatrix-" + name);
    }

    private static void MakeFolder(string path)
    {
        if (OperatingSystem.IsWindows())
            throw new VMatrixException("BalancerNotSupported", VMatrixErrorKind.NotSupported, "VMatrix owns an HAProxy on Linux only; on Windows join one that runs elsewhere (balancer: own: false, socket: address:port).");
        Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        UnixFileMode mode = File.GetUnixFileMode(path);
        if ((mode & (UnixFileMode.GroupWrite | UnixFileMode.OtherWrite)) != 0)
        {
            throw new VMatrixException("BalancerFolderOpen", VMatrixErrorKind.Denied,
                $"Others may write to {path}, where HAProxy's admin socket would be: remove that folder, or run: chmod go-w '{path}'");
        }
    }

    // HAProxy's own lines, without its file positions and notices.
    private static string Alerts(string said)
    {
        string[] alerts = [.. said.Split('\n').Where(line => line.StartsWith("[ALERT]", StringComparison.Ordinal)).Select(line => AlertPrefix().Replace(line, "").Trim())];
        return alerts.Length > 0 ? string.Join(' ', alerts) : said.Trim() is { Length: > 0 } rest ? rest : "it gave no reason.";
    }

    [GeneratedRegex(@"for (?:frontend|proxy) (?<service>[^:\s]+): cannot bind socket[^\[]*\[(?<listen>[^\]]+)\]")]
    private static partial Regex CannotBind();

    [GeneratedRegex(@"\A\[ALERT\]\s*\(\d+\)\s*:\s*")]
    private static partial Regex AlertPrefix();

    private sealed record Record(int Pid, long Start, string Fingerprint);
}
