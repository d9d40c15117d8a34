using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.HAProxy;
using VMatrix.Oracle.Demo;

namespace VMatrix.Oracle.Commands;

/// <summary><c>vmatrix-oracle load</c>.</summary>
internal static class LoadCommand
{
    public static Command Create()
    {
        Argument<FileInfo> pool = RunCommand.PoolArgument();
        var service = new Option<string>("--service") { Description = "The service to ask.", Required = true };
        var rate = new Option<double>("--rate") { Description = "Requests per second.", DefaultValueFactory = _ => 5 };
        Option<TimeSpan> duration = DurationOption.Of("--duration", "How long, such as 30s or 5m.", TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(1), TimeSpan.FromDays(7));
        var seed = new Option<int>("--seed") { Description = "Seed of the load: the same seed, the same requests.", DefaultValueFactory = _ => 1 };
        var command = new Command("load", "Asks a service of a pool through its balancer, as many users would who know nothing of each other, and says what became of the requests.") { pool, service, rate, duration, seed };
        command.SetAction((parsed, cancellation) => RunAsync(parsed.GetValue(pool)!, parsed.GetValue(service)!, parsed.GetValue(rate), parsed.GetValue(duration), parsed.GetValue(seed), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(FileInfo file, string name, double rate, TimeSpan duration, int seed, CancellationToken cancellation)
    {
        await using PoolSession session = await PoolSession.OpenAsync(RunCommand.PathOf(file), forChange: false, cancellation);
        ServiceSpec service = session.Spec.Services.FirstOrDefault(service => string.Equals(service.Name, name, StringComparison.OrdinalIgnoreCase))
            ?? throw new VMatrixException("ServiceNotFound", VMatrixErrorKind.NotFound, $"Pool {session.Spec.Name} has no service {name}; it has: {string.Join(", ", session.Spec.Services.Select(service => service.Name))}.");
        if (service.Listen is null || session.Spec.Balancer.Kind != "haproxy")
            throw new VMatrixException("LoadNotSupported", VMatrixErrorKind.NotSupported, $"Service {service.Name} has no address that HAProxy listens on ('listen' in {session.Spec.Path}), so it cannot be asked.");
        var balancer = new HAProxyBalancer(session.Spec, TimeProvider.System);
        using var load = new LoadGenerator(new Dictionary<string, Uri> { [service.Name] = new($"http://{service.Listen}/") }, new HAProxySocket(balancer.SocketAddress, TimeProvider.System), TimeProvider.System);
        IReadOnlyList<Arrival> arrivals = Arrivals.Make([new LoadPhase(duration, new Dictionary<string, double> { [service.Name] = rate })], seed);
        IReadOnlyList<RequestResult> results = await load.RunAsync($"load-{Guid.NewGuid():N}", arrivals, ended: null, cancellation);
        ServiceSummary summary = ServiceSummary.Of(service.Name, results, []);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{service.Name}: {summary.Requests} requests, {summary.Served} served, {summary.Refused} refused, {summary.Failed} failed; p50 {summary.P50Seconds:0.00} s, p99 {summary.P99Seconds:0.00} s"));
        foreach (IGrouping<string?, RequestResult> failed in results.Where(result => result.Outcome == Outcome.Failed).GroupBy(result => result.Problem))
            Console.WriteLine($"  failed {failed.Count()} times: {failed.Key}");
        return ExitCode.Done;
    }
}
