using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.HAProxy;

namespace VMatrix.Oracle.Demo;

/// <summary>What became of one request.</summary>
internal enum Outcome
{
    /// <summary>Answered by a server.</summary>
    Served,

    /// <summary>Turned away by HAProxy because it waited too long in the queue.</summary>
    Refused,

    /// <summary>Anything else.</summary>
    Failed,
}

/// <summary>A request that has ended.</summary>
/// <param name="Service">The service it was for.</param>
/// <param name="ArrivedAt">When it was due.</param>
/// <param name="Took">From when it was due to its end: a late sender does not make a server look fast.</param>
/// <param name="Outcome">What became of it.</param>
/// <param name="Server">The server that answered, as its answer says; null when none did.</param>
/// <param name="Problem">Why it was not served; null when it was.</param>
internal sealed record RequestResult(string Service, DateTimeOffset ArrivedAt, TimeSpan Took, Outcome Outcome, string? Server, string? Problem)
{
    /// <summary>When it ended.</summary>
    public DateTimeOffset EndedAt => ArrivedAt + Took;
}

/// <summary>Sends requests when they are due, each on a connection of its own as a new user would, whether or not those before it were answered.</summary>
internal sealed class LoadGenerator : IDisposable
{
    /// <summary>The header by which a request is found again in HAProxy's own record of how it ended.</summary>
    public const string RequestIdHeader = "X-Request-Id";

    private readonly IReadOnlyDictionary<string, Uri> _urls;
    private readonly HAProxySocket _balancer;
    private readonly TimeProvider _clock;
    private readonly HttpClient _client;

    /// <summary>Makes a generator.</summary>
    /// <param name="urls">Where each service's users go.</param>
    /// <param name="balancer">The runtime socket of the HAProxy in front.</param>
    /// <param name="clock">The clock.</param>
    public LoadGenerator(IReadOnlyDictionary<string, Uri> urls, HAProxySocket balancer, TimeProvider clock)
    {
        _urls = urls;
        _balancer = balancer;
        _clock = clock;
        var handler = new SocketsHttpHandler { UseProxy = false, UseCookies = false, AllowAutoRedirect = false, PooledConnectionLifetime = TimeSpan.Zero };
        _client = new HttpClient(handler) { Timeout = TimeSpan.FromSeconds(60), DefaultRequestHeaders = { ConnectionClose = true } };
    }

    /// <summary>Sends all of them and waits for their ends.</summary>
    /// <param name="run">Part of each request's id: no two runs share one.</param>
    /// <param name="arrivals">The requests, in order.</param>
    /// <param name="ended">Told of each request as it ends, from any thread; what HAProxy turned away is told as failed then, for HAProxy's word on it comes at the end.</param>
    /// <param name="cancellation">Ends it; what was sent is then not waited for.</param>
    public async Task<IReadOnlyList<RequestResult>> RunAsync(string run, IReadOnlyList<Arrival> arrivals, Action<RequestResult>? ended, CancellationToken cancellation)
    {
        var results = new ConcurrentDictionary<string, RequestResult>(StringComparer.Ordinal);
        var open = new List<Task>(arrivals.Count);
        long begun = _clock.GetTimestamp();
        DateTimeOffset start = _clock.GetUtcNow();
        for (int index = 0; index < arrivals.Count; index++)
        {
            Arrival arrival = arrivals[index];
            TimeSpan wait = arrival.At - _clock.GetElapsedTime(begun);
            if (wait > TimeSpan.Zero)
                await Task.Delay(wait, _clock, cancellation);
            cancellation.ThrowIfCancellationRequested();
            string id = $"{run}-{index}";
            open.Add(SendAsync(id, arrival));
        }

        await Task.WhenAll(open).WaitAsync(cancellation);
        IReadOnlyDictionary<string, string> codes = await ReadCodesAsync(cancellation);

        // HAProxy writes a record after its answer has gone out, so that the last may not be there yet.
        for (int again = 0; again < 20 && results.Any(pair => pair.Value.Problem?.StartsWith("status ", StringComparison.Ordinal) is true && !codes.ContainsKey(pair.Key)); again++)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), _clock, cancellation);
            codes = await ReadCodesAsync(cancellation);
        }

        return [.. results.OrderBy(pair => pair.Value.ArrivedAt).Select(pair => Judge(pair.Value, codes.GetValueOrDefault(pair.Key)))];

        async Task SendAsync(string id, Arrival arrival)
        {
            DateTimeOffset due = start + arrival.At;
            (Outcome outcome, string? server, string? problem) = await AskAsync(id, _urls[arrival.Service], cancellation);
            var result = new RequestResult(arrival.Service, due, _clock.GetElapsedTime(begun) - arrival.At, outcome, server, problem);
            results[id] = result;
            ended?.Invoke(result);
        }
    }

    /// <summary>One request through the balancer.</summary>
    public async Task<(Outcome Outcome, string? Server, string? Problem)> AskAsync(string id, Uri url, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, url);
        request.Headers.Add(RequestIdHeader, id);
        try
        {
            using HttpResponseMessage answer = await _client.SendAsync(request, cancellation);
            string? server = answer.Headers.TryGetValues(HAProxyBalancer.ServerHeader, out IEnumerable<string>? values) ? values.FirstOrDefault() : null;
            return answer.StatusCode == HttpStatusCode.OK
                ? (Outcome.Served, server, null)
                : (Outcome.Failed, server, $"status {(int)answer.StatusCode}");
        }
        catch (Exception error) when (error is HttpRequestException or OperationCanceledException)
        {
            return (Outcome.Failed, null, (error.InnerException ?? error).Message);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _client.Dispose();

    /// <summary>Reads HAProxy's record of requests that did not end well: its termination code by request id.</summary>
    internal static IReadOnlyDictionary<string, string> TerminationCodes(string events)
    {
        // ended <backend> <server> <code> <status> <waited> <id>
        var codes = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (string line in events.Split('\n'))
        {
            string[] words = line.Split(' ', 7);
            if (words.Length == 7 && words[0] == "ended")
                codes[words[6].Trim()] = words[3];
        }

        return codes;
    }

    // Where HAProxy is gone it cannot have meant it: nothing counts as refused then.
    private async Task<IReadOnlyDictionary<string, string>> ReadCodesAsync(CancellationToken cancellation)
    {
        try
        {
            return TerminationCodes(await _balancer.AskAsync($"show events {HAProxyBalancer.EndedRing}", cancellation));
        }
        catch (VMatrixException error) when (error.Id == "BalancerUnreachable")
        {
            return new Dictionary<string, string>();
        }
    }

    // sQ: the queue timeout passed; SQ: the queue was full. Nothing else is overload.
    private static RequestResult Judge(RequestResult result, string? code) => result.Outcome == Outcome.Served ? result
        : code is "sQ" or "SQ" ? result with { Outcome = Outcome.Refused, Problem = code }
        : result with { Problem = code is null ? result.Problem : $"{result.Problem}, HAProxy's termination code {code}" };
}
