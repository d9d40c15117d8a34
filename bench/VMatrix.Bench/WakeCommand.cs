using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using VMatrix.Moves;
using VMatrix.Qemu;

namespace VMatrix.Bench;

/// <summary>
/// From the decision to the first 200: a server woken by the driver and by a whole move (its 200 then comes through HAProxy), beside bare
/// QEMU that restores a copy of the same state file with the same command line, and beside a cold boot. Polled every 10 ms, round by round in turn.
/// </summary>
internal static class WakeCommand
{
    private static readonly TimeSpan s_poll = TimeSpan.FromMilliseconds(10);

    // QEMU accepts connections for a guest that is not up yet, and such a request may stay unanswered for seconds.
    private static readonly TimeSpan s_patience = TimeSpan.FromMilliseconds(100);

    public static Command Create()
    {
        Option<int> rounds = new("--rounds") { Description = "How often each is measured.", DefaultValueFactory = _ => 7 };
        Command command = new("wake", "Time from the decision to the first 200, beside bare QEMU and beside a cold boot.") { rounds };
        command.SetAction((parsed, cancellation) => RunAsync(parsed.GetValue(rounds), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(int rounds, CancellationToken cancellation)
    {
        string folder = Directory.CreateTempSubdirectory("vmatrix-bench-").FullName;
        try
        {
            ImageSpec image = await DemoGuest.BuildAsync(Path.Combine(folder, "guest"), TimeSpan.FromMilliseconds(200), cancellation);
            ServiceSpec service = new() { Name = "FINANCE", Image = image, Listen = $"127.0.0.1:{FreePort()}", Health = new HealthSpec { Path = "/health" } };
            HostSpec host = new() { Name = "host1", MemoryBytes = 1L << 30, Folder = Path.Combine(folder, "host1") };
            PoolSpec pool = new()
            {
                Name = "bench",
                Path = Path.Combine(folder, "pool.yaml"),
                StateFolder = Path.Combine(folder, ".vmatrix"),
                Hypervisor = "qemu",
                Hosts = [host],
                Services = [service],
                Nest = new NestSpec { Folder = Path.Combine(folder, "nest") },
                Balancer = new BalancerSpec { Kind = "haproxy", DrainTimeout = TimeSpan.FromSeconds(1) },
            };
            await using Bench bench = new(pool);
            await bench.RunAsync(rounds, cancellation);
            return 0;
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            await Console.Error.WriteLineAsync(e.ToString());
            return 1;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static int FreePort()
    {
        using Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)listener.LocalEndPoint!).Port;
    }

    private sealed class Bench : IAsyncDisposable
    {
        private readonly PoolSpec _pool;
        private readonly QemuHypervisor _driver;
        private readonly HAProxyBalancer _balancer;
        private readonly HttpHealthProbe _probe = new(TimeProvider.System);
        private readonly StateFolder _state;
        private readonly Mover _mover;
        private readonly Guid _server = Guid.NewGuid();
        private readonly HttpClient _http = new(new SocketsHttpHandler { UseProxy = false, PooledConnectionLifetime = TimeSpan.Zero }) { Timeout = s_patience };

        public Bench(PoolSpec pool)
        {
            _pool = pool;
            _driver = new QemuHypervisor(pool, _probe, TimeProvider.System);
            _balancer = new HAProxyBalancer(pool, TimeProvider.System);
            _state = StateFolder.Open(pool.StateFolder, create: true);
            _mover = new Mover(pool, _driver, _balancer, _probe, _state, TimeProvider.System);
        }

        private HostSpec Host => _pool.Hosts[0];

        private ServiceSpec Service => _pool.Services[0];

        public async Task RunAsync(int rounds, CancellationToken cancellation)
        {
            await _balancer.EnsureAsync(cancellation);
            await MoveAsync(MoveKind.Create, Stage.Nest, Stage.Nest, null, null, 0, cancellation);
            SortedDictionary<int, (string Name, List<double> Seconds)> rows = new()
            {
                [0] = ("bare QEMU restores the state", []),
                [1] = ("driver: fetch and wake", []),
                [2] = ("move: nest to Matrix, through HAProxy", []),
                [3] = ("cold boot of bare QEMU", []),
            };
            string copy = Path.Combine(_pool.Nest.Folder, "copy.zst");
            string state = Path.Combine(_pool.Nest.Folder, "servers", _server.ToString("D"), "state.zst");
            File.Copy(state, copy);

            // Not counted: fills the page cache, and tells the command line that the others restore with.
            (_, IReadOnlyList<string> line) = await DriverAsync(cancellation);
            Func<Task<double>>[] measures =
            [
                () => BareAsync(line, copy, cancellation),
                async () => (await DriverAsync(cancellation)).Seconds,
                () => WholeMoveAsync(cancellation),
                () => BareAsync(line, null, cancellation),
            ];
            for (int round = 0; round < rounds; round++)
            {
                // Each begins a round in its turn: what ran just before leaves the machine's memory in another state.
                for (int i = 0; i < measures.Length; i++)
                {
                    int which = (round + i) % measures.Length;
                    File.Copy(state, copy, overwrite: true);
                    rows[which].Seconds.Add(await measures[which]());
                }
            }

            double peer = Median(rows[0].Seconds);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"From the decision to the first 200, {rounds} rounds, polled every {s_poll.TotalMilliseconds} ms; load average {File.ReadAllText("/proc/loadavg").Split(' ')[0]}"));
            Console.WriteLine($"{"",-40}{"median",9}{"least",9}{"most",9}{"to bare",9}");
            foreach ((string name, List<double> seconds) in rows.Values)
            {
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name,-40}{Median(seconds),7:0.000} s{seconds.Min(),7:0.000} s{seconds.Max(),7:0.000} s{Median(seconds) / peer,9:0.00}"));
            }

            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"A wake by the driver is {Median(rows[3].Seconds) / Median(rows[1].Seconds):0.0} times as fast as a cold boot, a whole move {Median(rows[3].Seconds) / Median(rows[2].Seconds):0.0} times."));
        }

        private async Task<(double Seconds, IReadOnlyList<string> Line)> DriverAsync(CancellationToken cancellation)
        {
            long began = Stopwatch.GetTimestamp();
            await _driver.FetchAsync(default, _server, Host, cancellation);
            string address = await _driver.StartAsync(default, _server, Service, Host, cancellation);
            await ServesAsync($"http://{address}/health", cancellation);
            double seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
            string[] line = (await File.ReadAllTextAsync($"/proc/{ProcessOf(_server)}/cmdline", cancellation)).TrimEnd('\0').Split('\0');
            await _driver.SaveAsync(default, _server, Host, cancellation);
            await _driver.StowAsync(default, _server, Host, cancellation);
            return (seconds, line);
        }

        private async Task<double> WholeMoveAsync(CancellationToken cancellation)
        {
            int generation = (await _driver.ReadNestAsync(cancellation)).Dormant.Single().Mark!.Generation;
            long began = Stopwatch.GetTimestamp();
            Task<double> served = UntilAsync();
            await MoveAsync(MoveKind.Wake, Stage.Nest, Stage.Matrix, null, Host.Name, generation, cancellation);
            double seconds = await served;
            await MoveAsync(MoveKind.Hibernate, Stage.Matrix, Stage.Nest, Host.Name, null, generation + 1, cancellation);
            return seconds;

            async Task<double> UntilAsync()
            {
                await ServesAsync($"http://{Service.Listen}/health", cancellation);
                return Stopwatch.GetElapsedTime(began).TotalSeconds;
            }
        }

        /// <summary>What somebody does by hand: the same command line on another port, with the same state or none.</summary>
        private async Task<double> BareAsync(IReadOnlyList<string> line, string? state, CancellationToken cancellation)
        {
            int port = FreePort();
            string sockets = Path.Combine(Path.GetTempPath(), $"vmatrix-bench-{Environment.ProcessId}");
            ProcessStartInfo start = new(line[0]) { RedirectStandardError = true };
            for (int i = 1; i < line.Count; i++)
            {
                if (line[i] == "-S")
                {
                    continue;
                }

                if (line[i] == "-incoming")
                {
                    i++;
                    if (state is not null)
                    {
                        start.ArgumentList.Add("-incoming");
                        start.ArgumentList.Add($"exec:zstd -dcq {state}");
                    }

                    continue;
                }

                string word = System.Text.RegularExpressions.Regex.Replace(line[i], @"127\.0\.0\.1:\d+-", $"127.0.0.1:{port}-");
                word = System.Text.RegularExpressions.Regex.Replace(word, @"(unix:|socket,id=agent,path=)[^,]+(\.qmp|\.agent)", $"$1{sockets}$2");
                start.ArgumentList.Add(word.StartsWith("file,id=console", StringComparison.Ordinal) ? "null,id=console" : word);
            }

            long began = Stopwatch.GetTimestamp();
            using Process process = Process.Start(start)!;
            try
            {
                if (state is not null)
                {
                    await ContinueAsync(sockets + ".qmp", cancellation);
                }

                await ServesAsync($"http://127.0.0.1:{port}/health", cancellation);
                return Stopwatch.GetElapsedTime(began).TotalSeconds;
            }
            finally
            {
                process.Kill();
                await process.WaitForExitAsync(CancellationToken.None);
                File.Delete(sockets + ".qmp");
                File.Delete(sockets + ".agent");
            }
        }

        /// <summary>A restored guest stays stopped, as it was when it was saved, until QMP says "cont".</summary>
        private static async Task ContinueAsync(string path, CancellationToken cancellation)
        {
            while (!File.Exists(path))
            {
                await Task.Delay(s_poll, cancellation);
            }

            using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            while (!socket.Connected)
            {
                try
                {
                    await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellation);
                }
                catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionRefused)
                {
                    // Bound and not yet listening.
                    await Task.Delay(s_poll, cancellation);
                }
            }

            using StreamReader reader = new(new NetworkStream(socket));
            await reader.ReadLineAsync(cancellation);
            await AskAsync("qmp_capabilities");
            while (!(await AskAsync("query-status")).Contains("\"paused\"", StringComparison.Ordinal))
            {
                await Task.Delay(s_poll, cancellation);
            }

            await AskAsync("cont");

            async Task<string> AskAsync(string command)
            {
                await socket.SendAsync(System.Text.Encoding.UTF8.GetBytes($"{{\"execute\":\"{command}\"}}\n"), cancellation);
                string line;
                do
                {
                    line = await reader.ReadLineAsync(cancellation) ?? throw new IOException("QEMU hung up.");
                }
                while (line.Contains("\"event\"", StringComparison.Ordinal));
                return line;
            }
        }

        private async Task ServesAsync(string url, CancellationToken cancellation)
        {
            long began = Stopwatch.GetTimestamp();
            while (true)
            {
                try
                {
                    using HttpRequestMessage request = new(HttpMethod.Get, url);
                    request.Headers.ConnectionClose = true;
                    using HttpResponseMessage answer = await _http.SendAsync(request, cancellation);
                    if (answer.StatusCode == HttpStatusCode.OK)
                    {
                        return;
                    }
                }
                catch (Exception e) when (e is HttpRequestException or TaskCanceledException && !cancellation.IsCancellationRequested && Stopwatch.GetElapsedTime(began) < TimeSpan.FromMinutes(1))
                {
                    // Not there yet.
                }

                await Task.Delay(s_poll, cancellation);
            }
        }

        private async Task MoveAsync(MoveKind kind, Stage from, Stage to, string? fromHost, string? toHost, int generation, CancellationToken cancellation)
        {
            Move move = new() { Id = Guid.NewGuid(), Kind = kind, ServerId = _server, ServerName = "FINANCE-1", Service = Service.Name, FromStage = from, FromHost = fromHost, ToStage = to, ToHost = toHost, Generation = generation, Reason = "the benchmark" };
            MoveRecord record = (await _mover.CarryOutAsync([move], new MoveContext { By = "bench" }, null, cancellation)).Single();
            if (record.Status != MoveStatus.Done)
            {
                throw new InvalidOperationException($"The {kind} ended {record.Status} in {record.Step}: {record.Error}");
            }
        }

        private static int ProcessOf(Guid server) => Directory.GetDirectories("/proc").Where(path => char.IsAsciiDigit(path[6]))
            .First(path => File.Exists(path + "/cmdline") && File.ReadAllText(path + "/cmdline").Contains($"\0-uuid\0{server:D}\0", StringComparison.Ordinal)) is { } found
            ? int.Parse(found[6..], CultureInfo.InvariantCulture)
            : 0;

        private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);

        public async ValueTask DisposeAsync()
        {
            foreach (Machine machine in (await _driver.ReadHostAsync(Host, default)).Machines)
            {
                await _driver.StopAsync(default, machine.Mark!.ServerId, Host, default);
            }

            await _balancer.StopAsync(default);
            await _balancer.DisposeAsync();
            await _driver.DisposeAsync();
            _state.Dispose();
            _probe.Dispose();
            _http.Dispose();
        }
    }
}
