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
public sealed class ScriptBalancer : IBalancer, IEpochKeeper
{
    private static readonly JsonSerializerOptions s_json = new()
    {
        PropertyNameCaseInsensitive = true,
        NumberHandling = JsonNumberHandling.AllowReadingFromString,
        AllowTrailingCommas = true,
        ReadCommentHandling = JsonCommentHandling.Skip,
    };

    /// <summary>More than this no counter reaches: a million requests a second for thirty years.</summary>
    private const long MostCount = 1_000_000_000_000_000;

    private const int MostLetters = 200;

    /// <summary>With this exit code a script says that its balancer refuses, so that it is of no use to try again.</summary>
    private const int Refused = 2;

    private readonly PoolSpec _pool;
    private readonly TimeProvider _clock;
    private readonly string _script;
    private readonly AskedTogether<BalancerReport> _asked;

    /// <summary>Makes the driver; nothing is run yet.</summary>
    /// <exception cref="VMatrixException"><c>BalancerScriptMissing</c>.</exception>
    public ScriptBalancer(PoolSpec pool, TimeProvider clock)
    {
        (_pool, _clock, _asked) = (pool, clock, new AskedTogether<BalancerReport>(clock));
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
    public Task<long> ReadEpochAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(BalancerTurn.ReadEpoch(_pool));
    }

    /// <inheritdoc/>
    public Task<BalancerReport> ReadAsync(CancellationToken cancellation) => _asked.AskAsync(LoadAsync, cancellation);

    private async Task<BalancerReport> LoadAsync(CancellationToken cancellation)
    {
        var (code, output) = await RunAsync("load", [], cancellation);
        if (code != 0)
        {
            throw new VMatrixException("BalancerUnreachable", VMatrixErrorKind.Unreachable,
                $"The balancer script ended with {code}, which says that the balancer cannot be asked. Run it by hand to see why: {Line("load", [])}") { IsTransient = true };
        }

        return Parse(output);
    }

    /// <summary>Reads what <c>load</c> wrote.</summary>
    /// <exception cref="VMatrixException"><c>BalancerAnswerInvalid</c>.</exception>
    internal BalancerReport Parse(string output)
    {
        Answer answer;
        try
        {
            answer = JsonSerializer.Deserialize<Answer>(output, s_json) ?? throw new JsonException("It is null.");
        }
        catch (JsonException e)
        {
            throw new VMatrixException("BalancerAnswerInvalid", VMatrixErrorKind.Corrupt,
                $"What the balancer script wrote is no load in JSON ({Outsiders.Show(e.Message.Split('|')[0]).TrimEnd(' ', '.')}). Run it by hand and compare with about_VMatrix_PoolFile: {Line("load", [])}", e);
        }

        return new BalancerReport
        {
            At = _clock.GetUtcNow(),
            Incarnation = TextOf(answer.Incarnation, "the incarnation"),
            Members = [.. (answer.Members ?? []).Select(m => ToMember(m ?? throw Invalid("a member is null")))],
            Services = [.. (answer.Services ?? []).Select(s => s ?? throw Invalid("a service is null")).Where(s => s.Requests is not null).Select(ToCounters)],
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
                $"The balancer script ended with {code}. What it wrote is not repeated here; run it by hand to see why: {Line(action, parameters)}") { IsTransient = code != Refused };
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
        Address = TextOf(member.Address, "an address"),
        State = Enum.TryParse<MemberState>(member.State ?? nameof(MemberState.Ready), ignoreCase: true, out var state) && Enum.IsDefined(state) ? state
            : throw Invalid($"the state '{Outsiders.Show(member.State)}' of a member is none of {string.Join(", ", Enum.GetNames<MemberState>())}"),
        Open = (int)CountOf(member.Open, "open", int.MaxValue),
        CountsOpen = member.Open is not null,
        Requests = CountOf(member.Requests, "requests"),
        Errors = CountOf(member.Errors, "errors"),
        ResponseTime = TimeOf(member.ResponseMs),
    };

    private ServiceCounters ToCounters(Service service)
    {
        var (requests, refused, errors) = (CountOf(service.Requests, "requests"), CountOf(service.Refused, "refused"), CountOf(service.Errors, "errors"));
        return new ServiceCounters
        {
            Service = ServiceOf(service.Name),
            Requests = requests,
            Served = service.Served is null ? Math.Max(0, requests - refused - errors) : CountOf(service.Served, "served"),
            Refused = refused,
            Errors = errors,
            Queue = (int)CountOf(service.Queue, "queue", int.MaxValue),
            Sessions = (int)CountOf(service.Sessions, "sessions", int.MaxValue),
            ResponseTime = TimeOf(service.ResponseMs),
        };
    }

    private string ServiceOf(string? name) =>
        name is null ? throw Invalid("a member or service has no service name")
        : _pool.Services.FirstOrDefault(s => string.Equals(s.Name, name, StringComparison.OrdinalIgnoreCase))?.Name ?? TextOf(name, "a service name");

    private string TextOf(string? text, string what) =>
        text is null ? "" : text.Length <= MostLetters && !text.Any(char.IsControl) ? text : throw Invalid($"{what} is '{Outsiders.Show(text)}', where at most {MostLetters} letters without control characters are expected");

    private long CountOf(long? count, string what, long most = MostCount) =>
        count is null ? 0 : count >= 0 && count <= most ? count.Value : throw Invalid($"{what} is {count}, where a number from 0 to {most} is expected");

    private TimeSpan TimeOf(double? milliseconds) =>
        milliseconds is null ? TimeSpan.Zero : milliseconds >= 0 && milliseconds <= int.MaxValue ? TimeSpan.FromMilliseconds(milliseconds.Value)
            : throw Invalid(string.Create(System.Globalization.CultureInfo.InvariantCulture, $"responseMs is {milliseconds}, where milliseconds from 0 to {int.MaxValue} are expected"));

    private VMatrixException Invalid(string why) =>
        new("BalancerAnswerInvalid", VMatrixErrorKind.Corrupt, $"What the balancer script wrote cannot be used: {why}. Run it by hand and compare with about_VMatrix_PoolFile: {Line("load", [])}");

    private sealed record Answer(string? Incarnation, Member?[]? Members, Service?[]? Services);

    private sealed record Member(string? Service, string? Server, string? Address, string? State, long? Open, long? Requests, long? Errors, double? ResponseMs);

    private sealed record Service(string? Name, long? Requests, long? Served, long? Refused, long? Errors, long? Queue, long? Sessions, double? ResponseMs);
}
