using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using VMatrix.Pools;
using VMatrix.Qemu;

namespace VMatrix.Oracle.Demo;

/// <summary>A pool in a folder of its own that is gone without a trace when it is disposed.</summary>
internal sealed class DemoPool : IAsyncDisposable
{
    private readonly string _folder;

    private DemoPool(string folder, PoolSession session)
    {
        _folder = folder;
        Session = session;
        Balancer = new HAProxyBalancer(session.Spec, TimeProvider.System);
    }

    /// <summary>The pool.</summary>
    public PoolSession Session { get; }

    /// <summary>Its balancer, to look at.</summary>
    public HAProxyBalancer Balancer { get; }

    /// <summary>The pool file that the demo and the examples share.</summary>
    public static string ExampleText()
    {
        using Stream stream = typeof(DemoPool).Assembly.GetManifestResourceStream("demo-pool.yaml")!;
        using var reader = new StreamReader(stream, Encoding.UTF8);
        return reader.ReadToEnd();
    }

    /// <summary>Makes a folder with a pool file in it, and opens the pool.</summary>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="text">The pool file; addresses on 127.0.0.1 are changed to free ports.</param>
    /// <param name="guest">The folder of the guest's kernel and RAM disk.</param>
    /// <param name="cancellation">Ends the call.</param>
    public static async Task<DemoPool> OpenAsync(string folder, string text, string guest, CancellationToken cancellation)
    {
        Directory.CreateDirectory(folder);
        string path = Path.Combine(folder, "pool.yaml");
        await File.WriteAllTextAsync(path, WithFreePorts(text), cancellation);
        if (!Directory.Exists(Path.Combine(folder, "guest")))
            Directory.CreateSymbolicLink(Path.Combine(folder, "guest"), guest);
        return new DemoPool(folder, await PoolSession.OpenAsync(path, forChange: true, cancellation));
    }

    /// <summary>Where each service's users go.</summary>
    public IReadOnlyDictionary<string, Uri> Urls => Session.Spec.Services.ToDictionary(service => service.Name, service => new Uri($"http://{service.Listen}/"));

    /// <summary>Makes servers of a service.</summary>
    /// <returns>Their ids.</returns>
    public async Task<IReadOnlyList<Guid>> CreateAsync(string service, int count, CancellationToken cancellation)
    {
        IReadOnlyList<Move> moves = await Session.PlanCreateAsync(service, count, name: null, cancellation);
        await CarryOutAsync(moves, cancellation);
        return [.. moves.Select(move => move.ServerId)];
    }

    /// <summary>Moves a server to a stage.</summary>
    public async Task MoveAsync(Guid server, Stage stage, CancellationToken cancellation) =>
        await CarryOutAsync([await Session.PlanMoveAsync(server, stage, destination: null, live: false, cancellation)], cancellation);

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        // However the demo ended: each step is tried, and what it leaves is caught by the next.
        await TryAsync(() => Session.DisposeAsync().AsTask());
        await TryAsync(async () =>
        {
            await using var hypervisor = new QemuHypervisor(Session.Spec, new HttpHealthProbe(TimeProvider.System), TimeProvider.System);
            foreach (HostSpec host in Session.Spec.Hosts)
            {
                HostReport report = await hypervisor.ReadHostAsync(host, CancellationToken.None);
                foreach (ServerMark mark in report.Machines.Where(machine => machine.Power is PowerState.Running or PowerState.Paused).Select(machine => machine.Mark).OfType<ServerMark>())
                    await hypervisor.StopAsync(new DriverCall(Guid.NewGuid(), 0), mark.ServerId, host, CancellationToken.None);
            }
        });
        await TryAsync(() => Balancer.StopAsync(CancellationToken.None));
        Leftovers.End(_folder);
        await TryAsync(() =>
        {
            Directory.Delete(_folder, recursive: true);
            return Task.CompletedTask;
        });
    }

    /// <summary>Carries moves out by hand.</summary>
    /// <exception cref="VMatrixException"><c>DemoMoveFailed</c>.</exception>
    public async Task CarryOutAsync(IReadOnlyList<Move> moves, CancellationToken cancellation)
    {
        // Nothing is held against the Oracle: it has these servers next.
        IReadOnlyList<MoveRecord> records = await Session.CarryOutAsync(moves, TimeSpan.Zero, progress: null, cancellation);
        // A move that was told to stop is undone and says so in its record.
        cancellation.ThrowIfCancellationRequested();
        if (records.FirstOrDefault(record => record.Status != MoveStatus.Done) is { } bad)
            throw new VMatrixException("DemoMoveFailed", VMatrixErrorKind.Failed, $"The demo could not {Screens.Words.Of(bad.Move)}: {bad.Error ?? bad.Status.ToString()}");
    }

    private static async Task TryAsync(Func<Task> step)
    {
        try
        {
            await step().WaitAsync(TimeSpan.FromSeconds(20));
        }
        catch (Exception error)
        {
            await Console.Error.WriteLineAsync($"vmatrix-oracle: while the demo cleaned up: {error.Message}");
        }
    }

    private static string WithFreePorts(string text)
    {
        var taken = new List<TcpListener>();
        try
        {
            return System.Text.RegularExpressions.Regex.Replace(text, @"(?<=listen:\s*127\.0\.0\.1:)\d+", _ =>
            {
                var listener = new TcpListener(IPAddress.Loopback, 0);
                taken.Add(listener);
                listener.Start();
                return ((IPEndPoint)listener.LocalEndpoint).Port.ToString(System.Globalization.CultureInfo.InvariantCulture);
            });
        }
        finally
        {
            taken.ForEach(listener => listener.Dispose());
        }
    }
}
