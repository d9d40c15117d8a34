using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Scripts;

/// <summary>Any balancer, through its owner's own script file: it is run with <c>-Action attach</c>, <c>drain</c>, <c>detach</c> and <c>load</c>, and what the balancer holds is what <c>load</c> says.</summary>
public sealed class ScriptBalancer : IBalancer
{
    private static readonly JsonSerializerOptions s_json = new()
    {
        PropertyNameCaseInsensitive = true,
        NumberHandling = JsonNumberHandling.AllowReadingFromString,
        AllowTrailingCommas = true,
        ReadCommentHandling = JsonCommentHandling.Skip,
    };

    private readonly PoolSpec _pool;
    private readonly TimeProvider _clock;
    private readonly string _script;

    /// <summary>Makes the driver; nothing is run yet.</summary>
    /// <exception cref="VMatrixException"><c>BalancerScriptMissing</c>.</exception>
    public ScriptBalancer(PoolSpec pool, TimeProvider clock)
    {
        (_pool, _clock) = (pool, clock);
        _script = pool.Balancer.Script ?? throw new VMatrixException("BalancerScriptMissing", VMatrixErrorKind.InvalidInput,
            $"The balancer in {pool.Path} is of the kind script and names none: write 'script:' with the path of the file.");
    }

    /// <inheritdoc/>
    public async Task EnsureAsync(CancellationToken cancellation)
    {
        if (_pool.Balancer.Own)
            await ChangeAsync(default, "start", [], cancellation);
        _ = await ReadAsync(cancellation);
    }

    /// <inheritdoc/>
    public async Task<BalancerReport> ReadAsync(CancellationToken cancellation)
    {
        var (code, output) = await RunAsync("load", [], cancellation);
        if (code != 0)
        {
            throw new VMatrixException("BalancerUnreachable", VMatrixErrorKind.Unreachable,
                $"The balancer script ended with {code}, which says that the balancer cannot be asked. Run it by hand to see why: {Line("load", [])}") { IsTransient = true };
        }

        Answer answer;
        try
        {
            answer = JsonSerializer.Deserialize<Answer>(output, s_json) ?? throw new JsonException("It is null.");
        }
        catch (JsonException e)
        {
            throw new VMatrixException("BalancerAnswerInvalid", VMatrixErrorKind.Corrupt,
                $"What the balancer script wrote is no load in JSON ({e.Message.Split('|')[0].TrimEnd(' ', '.')}). Run it by hand and compare with about_VMatrix_PoolFile: {Line("load", [])}", e);
        }

        return new BalancerReport
        {
            At = _clock.GetUtcNow(),
            Incarnation = answer.Incarnation ?? "",
            Members = [.. (answer.Members ?? []).Select(ToMember)],
            Services = [.. (answer.Services ?? []).Where(s => s.Requests is not null).Select(ToCounters)],
        };
    }

    /// <inheritdoc/>
    public Task JoinAsync(DriverCall call, ServiceSpec service, Guid server, string address, CancellationToken cancellation) =>
        ChangeAsync(call, "attach", [("Service", service.Name), ("Server", server.ToString("D")), ("Address", address)], cancellation);

    /// <inheritdoc/>
    public Task DrainAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) =>
        ChangeAsync(call, "drain", [("Service", service), ("Server", server.ToString("D"))], cancellation);

    /// <inheritdoc/>
    public Task LeaveAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) =>
        ChangeAsync(call, "detach", [("Service", service), ("Server", server.ToString("D"))], cancellation);

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellation) => _pool.Balancer.Own ? ChangeAsync(default, "stop", [], cancellation) : Task.CompletedTask;

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => default;

    // One change at a time: scripts are seldom written for more.
    private async Task ChangeAsync(DriverCall call, string action, IReadOnlyList<(string, string)> parameters, CancellationToken cancellation)
    {
        using var turn = await BalancerTurn.TakeAsync(_pool, call, _clock, cancellation);
        var (code, _) = await RunAsync(action, parameters, cancellation);
        if (code != 0)
        {
            throw new VMatrixException("BalancerScriptFailed", VMatrixErrorKind.Failed,
                $"The balancer script ended with {code}. What it wrote is not repeated here; run it by hand to see why: {Line(action, parameters)}") { IsTransient = true };
        }
    }

    private Task<ScriptEnd> RunAsync(string action, IReadOnlyList<(string, string)> parameters, CancellationToken cancellation) =>
        ScriptRun.RunAsync(_script, [("Action", action), .. parameters], new Dictionary<string, string>(), _pool.Path, _pool.Limits.StepTimeout, _clock, cancellation);

    private string Line(string action, IReadOnlyList<(string Name, string Value)> parameters) =>
        string.Join(" ", parameters.Select(p => $"-{p.Name} '{p.Value}'").Prepend($"{_script} -Action {action}"));

    private BalancerMember ToMember(Member member) => new()
    {
        Service = ServiceOf(member.Service),
        ServerId = Guid.TryParse(member.Server, out var id) ? id : Guid.Empty,
        Address = member.Address ?? "",
        State = Enum.TryParse<MemberState>(member.State ?? nameof(MemberState.Ready), ignoreCase: true, out var state) && Enum.IsDefined(state) ? state
            : throw Invalid($"the state '{member.State}' of a member is none of {string.Join(", ", Enum.GetNames<MemberState>())}"),
        Open = member.Open ?? 0,
        CountsOpen = member.Open is not null,
        Requests = member.Requests ?? 0,
        Errors = member.Errors ?? 0,
        ResponseTime = TimeSpan.FromMilliseconds(member.ResponseMs ?? 0),
    };

    private ServiceCounters ToCounters(Service service) => new()
    {
        Service = ServiceOf(service.Name),
        Requests = service.Requests!.Value,
        Served = service.Served ?? service.Requests.Value - (service.Refused ?? 0) - (service.Errors ?? 0),
        Refused = service.Refused ?? 0,
        Errors = service.Errors ?? 0,
        Queue = service.Queue ?? 0,
        Sessions = service.Sessions ?? 0,
        ResponseTime = TimeSpan.FromMilliseconds(service.ResponseMs ?? 0),
    };

    private string ServiceOf(string? name) =>
        _pool.Services.FirstOrDefault(s => string.Equals(s.Name, name, StringComparison.OrdinalIgnoreCase))?.Name ?? name ?? throw Invalid("a member or service has no service name");

    private VMatrixException Invalid(string why) =>
        new("BalancerAnswerInvalid", VMatrixErrorKind.Corrupt, $"What the balancer script wrote cannot be used: {why}. Run it by hand and compare with about_VMatrix_PoolFile: {Line("load", [])}");

    private sealed record Answer(string? Incarnation, Member[]? Members, Service[]? Services);

    private sealed record Member(string? Service, string? Server, string? Address, string? State, int? Open, long? Requests, long? Errors, double? ResponseMs);

    private sealed record Service(string? Name, long? Requests, long? Served, long? Refused, long? Errors, int? Queue, int? Sessions, double? ResponseMs);
}
