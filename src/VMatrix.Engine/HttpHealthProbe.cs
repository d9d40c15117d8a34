using System;
using System.Net.Http;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix;

/// <summary>The health check of a service: one HTTP request on a fresh connection, straight to the server.</summary>
public sealed class HttpHealthProbe : IHealthProbe, IDisposable
{
    private readonly TimeProvider _clock;
    private readonly HttpClient _client = new(new HttpClientHandler { AllowAutoRedirect = false, UseCookies = false, UseProxy = false })
    {
        Timeout = Timeout.InfiniteTimeSpan,
    };

    /// <summary>Makes a probe whose deadlines are kept by <paramref name="clock"/>.</summary>
    public HttpHealthProbe(TimeProvider clock) => _clock = clock;

    /// <inheritdoc/>
    public async Task<string?> CheckAsync(ServiceSpec service, string address, CancellationToken cancellation)
    {
        HealthSpec health = service.Health;
        string url = $"http://{address}{health.Path}";
        if (!Uri.TryCreate(url, UriKind.Absolute, out Uri? uri))
            return $"The health check of {service.Name} cannot ask '{url}': it is not a URL; write the check's path so that it begins with '/'.";

        // Not disposed: the timer's last call may still be on its way, and there is nothing in it to free.
        var deadline = new CancellationTokenSource();
        using ITimer timer = _clock.CreateTimer(static state => ((CancellationTokenSource)state!).Cancel(), deadline, health.Timeout, Timeout.InfiniteTimeSpan);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellation);
        using var request = new HttpRequestMessage(HttpMethod.Get, uri);
        // A kept connection would tell of the server as it was before it slept or moved.
        request.Headers.ConnectionClose = true;
        try
        {
            using HttpResponseMessage response = await _client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, either.Token);
            return (int)response.StatusCode == health.Expect ? null : $"{url} answered {(int)response.StatusCode} where {health.Expect} is expected.";
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return $"{url} did not answer within {Planning.Words.Seconds(health.Timeout)}.";
        }
        catch (OperationCanceledException)
        {
            throw new OperationCanceledException(cancellation);
        }
        catch (Exception error)
        {
            Exception cause = error;
            while (cause.InnerException is { } inner)
                cause = inner;
            return $"{url} cannot be asked: {cause.Message.TrimEnd('.')}.";
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _client.Dispose();
}
