using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using VMatrix.Moves;
using VMatrix.Qemu;

namespace VMatrix.Bench;

/// <summary>The soak on real guests behind a real HAProxy, under load: a process of its own makes the moves and is ended with SIGKILL.</summary>
internal sealed class QemuSoak : Soak, IDisposable
{
    private readonly string _folder;
    private readonly CancellationTokenSource _end = new();
    private readonly Task _load;
    private int _asked, _served;

    /// <summary>Builds the guest and starts the load.</summary>
    public QemuSoak(string folder, int seed)
        : base(seed)
    {
        _folder = folder;
        ImageSpec image = DemoGuest.BuildAsync(Path.Combine(folder, "guest"), TimeSpan.FromMilliseconds(20), default).GetAwaiter().GetResult();
        ServiceSpec finance = new() { Name = "FINANCE", Priority = 2, Image = image, Listen = FreeAddress(), Isolation = Isolation.Shared, Health = new HealthSpec { Path = "/health" } };
        Pool = new PoolSpec
        {
            Name = "soak",
            Path = Path.Combine(folder, "pool.yaml"),
            StateFolder = Path.Combine(folder, ".vmatrix"),
            Hypervisor = "qemu",
            Hosts =
            [
                .. Enumerable.Range(1, 3).Select(number => new HostSpec { Name = $"host{number}", MemoryBytes = 1L << 30, Folder = Path.Combine(folder, $"host{number}") }),
                new HostSpec { Name = "chamber", Role = HostRole.Chamber, MemoryBytes = 1L << 30, Folder = Path.Combine(folder, "chamber") },
            ],
            Services = [finance, finance with { Name = "SPORTS", Priority = 1, Listen = FreeAddress() }],
            Nest = new NestSpec { Folder = Path.Combine(folder, "nest") },
            Balancer = new BalancerSpec { Kind = "haproxy", DrainTimeout = TimeSpan.FromSeconds(1) },
            Limits = new LimitSpec { StepTimeout = TimeSpan.FromSeconds(20) },
        };
        PrepareAsync().GetAwaiter().GetResult();
        _load = Task.WhenAll(Pool.Services.Select(service => LoadAsync(service, _end.Token)));
    }

    protected override PoolSpec Pool { get; }

    // Two cores under translation carry no more at a time.
    protected override int Most => 5;

    protected override string Explanation => "On real guests a process of its own makes random moves and is ended with SIGKILL, at a random moment or at a named point of a step; guests die and hang, and hosts are cut off, meanwhile.";

    protected override string More => $", {_served} of {_asked} requests served";

    /// <summary>The child's side: carries out an order's moves and what an earlier one left.</summary>
    public static async Task<int> CarryOutAsync(string order)
    {
        var (pool, moves) = JsonSerializer.Deserialize<Order>(await File.ReadAllTextAsync(order))!;
        await using var drivers = new Drivers(pool);
        await drivers.Balancer.EnsureAsync(default);
        var context = new MoveContext { By = StateFolder.Describe("soak") };
        await drivers.Mover.RecoverAsync(context, null, default);
        await drivers.Mover.CarryOutAsync(moves, context, null, default);
        return 0;
    }

    /// <inheritdoc/>
    protected override void Live(bool kill) => (kill ? LiveAsync() : PutRightAsync()).GetAwaiter().GetResult();

    /// <inheritdoc/>
    protected override IReadOnlyList<string> Leftovers(IReadOnlyCollection<Guid> known) => QemuProcesses.Leftovers(Pool, known);

    /// <summary>Ends the load and everything that runs.</summary>
    public void Dispose()
    {
        _end.Cancel();
        _load.GetAwaiter().GetResult();
        foreach (var (id, _) in QemuProcesses.Find(_folder + "/"))
        {
            using var process = Process.GetProcessById(id);
            process.Kill();
            process.WaitForExit();
        }

        _end.Dispose();
    }

    // A preparation that is cut short is swept by the next one, and there would be none: the images are not what is tried here.
    private async Task PrepareAsync()
    {
        await using var drivers = new Drivers(Pool);
        foreach (ServiceSpec service in Pool.Services)
            await drivers.Hypervisor.PrepareImageAsync(default, service, Pool.Hosts[0], null, default);
    }

    private async Task LiveAsync()
    {
        Order order;
        await using (var drivers = new Drivers(Pool))
            order = new Order(Pool, [.. (await PlanAsync(drivers.Hypervisor)).Select(move => move with { Live = false })]);
        string path = Path.Combine(_folder, "order.json"), point = Random.Next(2) == 0 ? MoveRoutes.Failpoints[Random.Next(MoveRoutes.Failpoints.Count)] : "";
        await File.WriteAllTextAsync(path, JsonSerializer.Serialize(order));
        var start = new ProcessStartInfo(Environment.ProcessPath!, ["exec", typeof(QemuSoak).Assembly.Location, "soak", "--carry-out", path]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["VMATRIX_BENCH_FAILPOINT"] = point;
        // What is killed cannot take its debugger's pipes away.
        start.Environment["DOTNET_EnableDiagnostics"] = "0";
        int wait = Random.Next(300, 4000);
        var watch = Stopwatch.StartNew();
        using var child = Process.Start(start)!;
        var output = Task.WhenAll(child.StandardOutput.ReadToEndAsync(), child.StandardError.ReadToEndAsync());
        var trouble = TroubleAsync(wait);
        try
        {
            // A point may not be on the way of these moves, and a move of a guest that hangs takes its time.
            await Task.WhenAny(child.WaitForExitAsync(), Task.Delay(point.Length > 0 ? 8000 : wait));
            if (!child.HasExited)
                child.Kill();
            await child.WaitForExitAsync();
        }
        finally
        {
            if (!child.HasExited)
                child.Kill();
            await trouble;
        }

        if (child.ExitCode == 137)
        {
            Kills++;
            KillsAtPoints += watch.Elapsed < TimeSpan.FromSeconds(8) && point.Length > 0 ? 1 : 0;
        }
        else if (child.ExitCode != 0)
        {
            throw new InvalidOperationException($"The mover's process ended by itself with {child.ExitCode}: {string.Join("\n", await output)}");
        }
    }

    private async Task PutRightAsync()
    {
        await using var drivers = new Drivers(Pool);
        await RetryAsync(() => drivers.Balancer.EnsureAsync(default));
        var context = new MoveContext { By = StateFolder.Describe("soak") };
        Count(await drivers.Mover.RecoverAsync(context, null, default));
        Count(await drivers.Mover.MendAsync(context, null, default));
        await PutRightAsync(drivers.Mover, context, drivers.State, drivers.Hypervisor, drivers.Balancer, drivers.Probe, TimeProvider.System);
    }

    /// <summary>A guest dies or hangs, or a host's folder is out of reach for a while.</summary>
    private async Task TroubleAsync(int within)
    {
        int what = Random.Next(6), moment = Random.Next(within), length = Random.Next(1500);
        var running = QemuProcesses.Find(_folder + "/").Where(process => Path.GetFileName(process.Line.Split('\0')[0]).StartsWith("qemu-system", StringComparison.Ordinal)).Order().ToArray();
        if (what < 2 && running.Length > 0)
        {
            int id = running[Random.Next(running.Length)].Id;
            await Task.Delay(moment);
            using var signal = Process.Start("kill", [what == 0 ? "-KILL" : "-STOP", id.ToString(System.Globalization.CultureInfo.InvariantCulture)]);
            await signal.WaitForExitAsync();
            Broken += signal.ExitCode == 0 ? 1 : 0;
        }
        else if (what == 2 && Pool.Hosts[Random.Next(3)].Folder is { } host && Directory.Exists(host))
        {
            await Task.Delay(moment);
            Directory.Move(host, host + ".away");
            await Task.Delay(length);
            // Nobody makes a folder in the place of one that is out of reach.
            Directory.Move(host + ".away", host);
            LostHosts++;
        }
    }

    private async Task LoadAsync(ServiceSpec service, CancellationToken cancellation)
    {
        using var client = new HttpClient(new SocketsHttpHandler { UseProxy = false, PooledConnectionLifetime = TimeSpan.Zero }) { Timeout = TimeSpan.FromSeconds(5) };
        try
        {
            while (true)
            {
                Interlocked.Increment(ref _asked);
                try
                {
                    using HttpResponseMessage answer = await client.GetAsync(new Uri($"http://{service.Listen}/"), cancellation);
                    if (answer.IsSuccessStatusCode)
                        Interlocked.Increment(ref _served);
                }
                catch (Exception error) when (error is HttpRequestException or TaskCanceledException && !cancellation.IsCancellationRequested)
                {
                    // Nobody serves at this moment.
                }

                await Task.Delay(100, cancellation);
            }
        }
        catch (OperationCanceledException)
        {
            // the soak is over
        }
    }

    private static string FreeAddress()
    {
        using Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return listener.LocalEndPoint!.ToString()!;
    }

    /// <summary>What the child is told.</summary>
    private sealed record Order(PoolSpec Pool, IReadOnlyList<Move> Moves);

    private sealed class Drivers : IAsyncDisposable
    {
        public Drivers(PoolSpec pool)
        {
            Hypervisor = new QemuHypervisor(pool, Probe, TimeProvider.System);
            Balancer = new HAProxyBalancer(pool, TimeProvider.System);
            State = StateFolder.Open(pool.StateFolder, create: true);
            Mover = new Mover(pool, Hypervisor, Balancer, Probe, State, TimeProvider.System);
        }

        public HttpHealthProbe Probe { get; } = new(TimeProvider.System);

        public QemuHypervisor Hypervisor { get; }

        public HAProxyBalancer Balancer { get; }

        public StateFolder State { get; }

        public Mover Mover { get; }

        public async ValueTask DisposeAsync()
        {
            await Hypervisor.DisposeAsync();
            await Balancer.DisposeAsync();
            State.Dispose();
            Probe.Dispose();
        }
    }
}
