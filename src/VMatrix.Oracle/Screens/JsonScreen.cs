using System;
using System.IO;
using System.Linq;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Threading;

namespace VMatrix.Oracle.Screens;

/// <summary>One JSON object a line, each with its <c>type</c> (<c>pool</c>, <c>plan</c>, <c>move</c>, <c>message</c>) and <c>at</c>.</summary>
internal sealed class JsonScreen(TextWriter output) : Screen
{
    private static readonly JsonSerializerOptions s_options = new(JsonSerializerDefaults.Web)
    {
        Converters = { new JsonStringEnumConverter() },
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };

    private readonly Lock _lock = new();

    public override void Say(string sentence) => Write(new { type = "message", at = DateTimeOffset.Now, text = sentence });

    public override void Show(PoolView view) => Write(new
    {
        type = "pool",
        at = view.At,
        name = view.Spec.Name,
        hosts = view.Hosts.Select(host => new { host.Name, host.Role, host.Reachable, host.Suspended, host.Servers, host.MemoryBytes, host.MemoryUsedBytes, host.Problem }),
        services = view.Services.Select(service => new
        {
            service.Name,
            service.Priority,
            service.Least,
            service.Most,
            service.InMatrix,
            service.InChamber,
            service.InNest,
            service.Pinned,
            load = service.Load is not { } load ? null : new
            {
                load.At,
                load.RequestRate,
                load.ServedRate,
                load.RefusedRate,
                load.ErrorRate,
                load.Queue,
                load.Sessions,
                responseSeconds = load.ResponseTime.TotalSeconds,
                load.Bad,
            },
        }),
        servers = view.Servers.Select(server => new { server.Id, server.Name, server.Service, server.Stage, server.Host, server.Power, server.Health, server.Address, server.Generation, server.HeldUntil, server.Problem }),
    });

    public override void Planned(Plan plan) => Write(new
    {
        type = "plan",
        at = plan.CreatedAt,
        plan.Id,
        plan.Summary,
        plan.Decisions,
        plan.Moves,
        plan.Refused,
    });

    public override void Report(MoveRecord value) => Write(new
    {
        type = "move",
        at = value.EndedAt ?? DateTimeOffset.Now,
        value.Id,
        value.PlanId,
        value.Move.Kind,
        server = value.Move.ServerId,
        value.Move.ServerName,
        value.Move.Service,
        value.Move.FromStage,
        value.Move.FromHost,
        value.Move.ToStage,
        value.Move.ToHost,
        value.Move.IsDrop,
        value.Status,
        value.Step,
        seconds = value.Duration?.TotalSeconds,
        value.Error,
        value.Move.Reason,
    });

    private void Write<T>(T what)
    {
        string line = JsonSerializer.Serialize(what, s_options);
        lock (_lock)
        {
            output.WriteLine(line);
            output.Flush();
        }
    }
}
