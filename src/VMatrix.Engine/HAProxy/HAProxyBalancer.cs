using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.HAProxy;

/// <summary>HAProxy as the pool's balancer: one that the pool owns, or one that runs already. Everything goes over its runtime socket, and what it holds is asked, never remembered.</summary>
public sealed class HAProxyBalancer : IBalancer, IExaminedBalancer, IEpochKeeper
{
    /// <summary>The ring of an owned HAProxy that holds, for <c>show events</c>, each request that did not end well: <c>ended backend server code status waited id</c>, where code is HAProxy's termination code and id the request's <c>X-Request-Id</c>.</summary>
    public const string EndedRing = HAProxyConfig.EndedRing;

    /// <summary>The header by which an owned HAProxy names the server that answered, to a request that has an <c>X-Request-Id</c>.</summary>
    public const string ServerHeader = HAProxyConfig.ServerHeader;

    private static readonly Version s_oldest = new(2, 6);

    private readonly PoolSpec _pool;
    private readonly TimeProvider _clock;
    private readonly HAProxyProcess? _process;
    private readonly HAProxySocket _socket;
    private string? _examined;
    private IReadOnlyList<BalancerFinding> _refused = [];

    /// <summary>Makes the driver; nothing is started or asked yet.</summary>
    /// <exception cref="VMatrixException"><c>BalancerSocketMissing</c>.</exception>
    public HAProxyBalancer(PoolSpec pool, TimeProvider clock)
    {
        _pool = pool;
        _clock = clock;
        _process = pool.Balancer.Own ? new HAProxyProcess(pool, clock) : null;
        string address = _process?.SocketPath ?? pool.Balancer.Socket ?? throw new VMatrixException("BalancerSocketMissing", VMatrixErrorKind.InvalidInput,
            $"The balancer in {pool.Path} is not owned and names no runtime socket: write 'socket:' with a full path or address:port, or 'own: true'.");
        _socket = _process is null ? new HAProxySocket(address, clock)
            : new HAProxySocket(address, clock, "The pool's own HAProxy is started by the next switch or move into the Matrix.") { IsOwned = true };
    }

    /// <summary>The name in HAProxy of a server.</summary>
    public static string ServerName(Guid server) => HAProxyConfig.ServerName(server);

    /// <summary>The runtime socket: a full path, or <c>address:port</c>.</summary>
    public string SocketAddress => _socket.Address;

    /// <inheritdoc/>
    public async Task EnsureAsync(CancellationToken cancellation)
    {
        if (_process is not null)
        {
            await _process.EnsureAsync(_socket, cancellation);
            return;
        }

        // What one backend lacks is its service's trouble (FindRefusalAsync, and ExamineAsync tells of it); a balancer that takes no servers at all is everybody's.
        var (info, backends) = await AskAsync(cancellation);
        ServiceSpec[] services = [.. _pool.Services.Where(service => backends.Contains(service.Name))];
        if (services.Length == 0 && _pool.Services.Count > 0)
            throw Missing(_pool.Services, backends);
        var (refusals, _, incarnation) = await new HAProxyExamination(_pool with { Services = services }, _socket).ExamineAsync(info, again: _examined, trial: true, cancellation);
        if (refusals.Count > 0 && refusals.Count == services.Length)
            throw new VMatrixException("BackendUnfit", VMatrixErrorKind.InvalidState, string.Join(" ", refusals.Select(refusal => refusal.Text)));
        _refused = refusals;

        // One that refused is tried again by the next who asks: its owner may mend it while it runs.
        _examined = refusals.Count == 0 && services.Length == _pool.Services.Count ? incarnation : null;
    }

    /// <inheritdoc/>
    public async Task<IReadOnlyList<BalancerFinding>> ExamineAsync(bool trial, CancellationToken cancellation)
    {
        if (_process is not null)
            return [];
        var (refusals, warnings, _) = await new HAProxyExamination(_pool, _socket).ExamineAsync(await CheckAsync(cancellation), again: null, trial, cancellation);
        return [.. trial ? refusals : _refused, .. warnings];
    }

    /// <inheritdoc/>
    public async Task<string?> FindRefusalAsync(ServiceSpec service, CancellationToken cancellation)
    {
        if (_process is not null)
            return null;

        // What another service's backend lacks is not this one's trouble.
        var alone = _pool with { Services = [service] };
        var (refusals, _, _) = await new HAProxyExamination(alone, _socket).ExamineAsync(await CheckAsync(alone, cancellation), again: _examined, trial: true, cancellation);
        return refusals.Count > 0 ? refusals[0].Text : null;
    }

    private Task<string> CheckAsync(CancellationToken cancellation) => CheckAsync(_pool, cancellation);

    /// <summary>Checks that a joined HAProxy is new enough, may be changed, and has the backends. Returns what it said of itself.</summary>
    private async Task<string> CheckAsync(PoolSpec pool, CancellationToken cancellation)
    {
        var (info, backends) = await AskAsync(cancellation);
        ServiceSpec[] missing = [.. pool.Services.Where(service => !backends.Contains(service.Name))];
        return missing.Length == 0 ? info : throw Missing(missing, backends);
    }

    private VMatrixException Missing(IEnumerable<ServiceSpec> services, HashSet<string> backends) => new("BackendMissing", VMatrixErrorKind.NotFound,
        $"HAProxy on {_socket.Address} has no backend named {string.Join(", ", services.Select(service => service.Name))}; a joined HAProxy needs a backend with the name of each service. It has: {(backends.Count == 0 ? "none" : Outsiders.Show(string.Join(", ", backends.Order(StringComparer.Ordinal))))}.");

    /// <summary>Checks that a joined HAProxy is new enough and may be changed. Returns what it said of itself, and the names of its backends.</summary>
    private async Task<(string Info, HashSet<string> Backends)> AskAsync(CancellationToken cancellation)
    {
        string[] answers = (await _socket.AskAsync("show info;show stat;show cli level", cancellation)).Split("\n\n");
        string version = HAProxyInfo.Field(answers[0], "Version");
        if (!Version.TryParse(string.Concat(version.TakeWhile(letter => char.IsAsciiDigit(letter) || letter == '.')).Trim('.'), out Version? number) || number < s_oldest)
        {
            throw new VMatrixException("BalancerTooOld", VMatrixErrorKind.NotSupported,
                $"HAProxy on {_socket.Address} is version {(version.Length > 0 ? version : "?")}; servers can be added and removed at run time from {s_oldest} on. Upgrade it.");
        }

        if (answers.Length < 3 || answers[2].Trim() != "admin")
        {
            throw new VMatrixException("BalancerDenied", VMatrixErrorKind.Denied,
                $"HAProxy's runtime socket {_socket.Address} may be read only; write 'level admin' on its 'stats socket' line.");
        }

        return (answers[0], HAProxyReport.ParseStat(answers[1]).Where(row => row.Kind == StatKind.Backend).Select(row => row.Proxy).ToHashSet(StringComparer.Ordinal));
    }

    /// <inheritdoc/>
    public async Task<BalancerReport> ReadAsync(CancellationToken cancellation)
    {
        string answers = await _socket.AskAsync(HAProxyReport.Commands, cancellation);
        return HAProxyReport.Parse(answers, _pool.Services, _clock.GetUtcNow());
    }

    /// <inheritdoc/>
    public async Task JoinAsync(DriverCall call, ServiceSpec service, Guid server, string address, CancellationToken cancellation)
    {
        // A guest may have named it: only what is an address is written to the socket, and as HAProxy would write it.
        string at = HAProxyText.Address(address)?.ToString() ?? throw new VMatrixException("BalancerAddressInvalid", VMatrixErrorKind.InvalidInput,
            $"Server {server} of {service.Name} answers at '{Outsiders.Show(address)}', which is no IP address with a port; HAProxy sends requests to nothing else. See what its host and its guest say of its address.");
        string name = NameOf(service.Name, server);
        if (await FindAsync(service.Name, server, cancellation) is { } member && member.Address != at)
        {
            // It answers elsewhere now. HAProxy could change the address, and would keep the checks' verdict on the old one.
            await RemoveAsync(call, service.Name, server, cancellation);
        }

        using IDisposable turn = await BalancerTurn.TakeAsync(_pool, call, _clock, cancellation);
        if (await FindAsync(service.Name, server, cancellation) is null)
        {
            string added = (await _socket.AskAsync($"add server {name} {at} {HAProxyConfig.ServerKeywords(service, HAProxyConfig.ServerName(server))}", cancellation)).Trim();
            if (!added.Contains("registered", StringComparison.Ordinal) && !added.Contains("Already exists", StringComparison.Ordinal))
                throw Refused($"add server {server} at {at} to {service.Name}", added);
        }

        // Its health check has just passed: what HAProxy's own checks found before does not count.
        string answer = (await _socket.AskAsync($"enable health {name};set server {name} state ready;set server {name} health up", cancellation)).Trim();
        if (answer.Length > 0)
            throw Refused($"let server {server} of {service.Name} take traffic", answer);
    }

    /// <inheritdoc/>
    public async Task DrainAsync(DriverCall call, string service, Guid server, CancellationToken cancellation)
    {
        string name = NameOf(service, server);
        using IDisposable turn = await BalancerTurn.TakeAsync(_pool, call, _clock, cancellation);
        if (await FindAsync(service, server, cancellation) is not { } member || member.Status.StartsWith("MAINT", StringComparison.Ordinal))
            return;
        string answer = (await _socket.AskAsync($"set server {name} state drain", cancellation)).Trim();
        if (answer.Length > 0 && !IsGone(answer))
            throw Refused($"drain server {server} of {service}", answer);
    }

    /// <inheritdoc/>
    public Task LeaveAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) => RemoveAsync(call, service, server, cancellation);

    /// <inheritdoc/>
    public async Task StopAsync(CancellationToken cancellation)
    {
        if (_process is not null)
            await _process.StopAsync(_socket, cancellation);
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => default;

    private async Task RemoveAsync(DriverCall call, string service, Guid server, CancellationToken cancellation)
    {
        string name = NameOf(service, server), first = $"set server {name} state maint;";

        // Sessions end a moment after they are told to, and kept connections are closed in the background: others have their turn meanwhile.
        long begun = _clock.GetTimestamp();
        while (true)
        {
            string answer;
            using (await BalancerTurn.TakeAsync(_pool, call, _clock, cancellation))
                answer = (await _socket.AskAsync($"{first}shutdown sessions server {name};del server {name}", cancellation)).Trim();
            if (answer.Contains("Server deleted", StringComparison.Ordinal) || IsGone(answer))
                return;
            if (!IsBusy(answer) || _clock.GetElapsedTime(begun) > TimeSpan.FromSeconds(10))
                throw Refused($"remove server {server} of {service}", answer);
            first = "";
            await Task.Delay(TimeSpan.FromMilliseconds(5), _clock, cancellation);
        }
    }

    private async Task<StatRow?> FindAsync(string service, Guid server, CancellationToken cancellation)
    {
        string name = HAProxyConfig.ServerName(server);
        // Servers (4) of every proxy: named by a service, HAProxy would take the frontend of that name for its backend.
        string answer = await _socket.AskAsync("show stat -1 4 -1", cancellation);
        return HAProxyReport.ParseStat(answer).FirstOrDefault(row => row.Server == name && row.Proxy == service);
    }

    private static string NameOf(string service, Guid server) => $"{HAProxyConfig.CheckName(service)}/{HAProxyConfig.ServerName(server)}";

    private static bool IsGone(string answer) =>
        answer.Contains("No such server", StringComparison.Ordinal) || answer.Contains("No such backend", StringComparison.Ordinal);

    private static bool IsBusy(string answer) => answer.Contains("still has connections", StringComparison.Ordinal);

    // What HAProxy refuses it refuses again until its configuration or ours is another one; only open connections end by themselves.
    private VMatrixException Refused(string what, string answer) => answer.Contains("No such backend", StringComparison.Ordinal)
        ? new VMatrixException("BackendMissing", VMatrixErrorKind.NotFound, $"HAProxy on {_socket.Address} cannot {what}: it has no such backend; a joined HAProxy needs a backend with the name of each service.")
        : answer.Contains("Permission denied", StringComparison.Ordinal)
            ? new VMatrixException("BalancerDenied", VMatrixErrorKind.Denied, $"HAProxy on {_socket.Address} may be read only and does not {what}; write 'level admin' on its 'stats socket' line.")
            : new VMatrixException("BalancerRefused", VMatrixErrorKind.Failed,
                $"HAProxy on {_socket.Address} did not {what}: {Outsiders.Show(answer)}.{(IsBusy(answer) ? "" : " Change what it names in HAProxy's configuration or in the pool file; Test-VMatrixPool shows whether its backends take servers.")}") { IsTransient = IsBusy(answer) };

    /// <inheritdoc/>
    public Task<long> ReadEpochAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(BalancerTurn.ReadEpoch(_pool));
    }
}
