using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Oracle.Commands;

/// <summary><c>vmatrix-oracle explain</c>.</summary>
internal static class ExplainCommand
{
    private const int MostCandidates = 24;

    private static readonly JsonSerializerOptions s_json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Converters = { new JsonStringEnumConverter() },
    };

    public static Command Create()
    {
        Argument<FileInfo> pool = RunCommand.PoolArgument();
        var subject = new Argument<string>("subject") { Description = "A server, a host or a service: its name, or a server's id." };
        var plan = new Option<Guid?>("--plan") { Description = "The plan's id; the newest stored plan unless said." };
        Option<bool> json = RunCommand.JsonOption();
        var command = new Command("explain", "Tells the full story of a server, a host or a service in a stored plan, computed again from what the plan was made from.") { pool, subject, plan, json };
        command.SetAction((parsed, cancellation) => RunAsync(parsed.GetValue(pool)!, parsed.GetValue(subject)!, parsed.GetValue(plan), parsed.GetValue(json), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(FileInfo pool, string subject, Guid? plan, bool json, CancellationToken cancellation)
    {
        await using PoolSession session = await PoolSession.OpenAsync(RunCommand.PathOf(pool), forChange: false, cancellation);
        Guid? id = Guid.TryParse(subject, out Guid known) ? known : null;
        Explanation story = await session.ExplainAsync(plan, id, id is null ? subject : null, cancellation);
        if (json)
            Console.Out.WriteLine(JsonSerializer.Serialize(story, s_json));
        else
        {
            foreach (string line in Lines(story))
                Console.Out.WriteLine(line);
        }

        return ExitCode.Done;
    }

    private static IEnumerable<string> Lines(Explanation story)
    {
        yield return Text($"{story.Kind} {story.Subject}{(story.ServerId is null ? "" : $" ({story.ServerId})")} in plan {story.PlanId} of {story.At:u}");
        yield return story.Outcome;
        foreach (ServiceStory service in story.Services)
        {
            ServiceDecision d = service.Decision;
            yield return "";
            yield return Text($"{service.Service}: priority {service.Priority}, mode {service.Mode}; forecast {d.Forecast:0.##}/s, a server carries {d.Capacity:0.##}/s; has {d.Has}, needs {d.Needs}, granted {d.Granted}; cost {service.CostBefore:0.00} before, {service.CostAfter:0.00} after; an activation costs {service.ActivationCost:0.###}{Measured(service)}");
            yield return "  " + d.Reason;
            foreach (ServerWorth worth in service.Worth)
                yield return Text($"  server {worth.Server}: used {worth.UsedNow:P0} now, {worth.UsedSoon:P0} soon, worth {worth.Worth:0.00} {(worth.Held ? "held" : "if woken")}{(worth.Stay >= 0.005 ? Text($" and {worth.Stay:0.00} as it was moved lately") : "")}{(worth.Granted ? ", granted" : "")}");
        }

        if (story.Candidates.Count > 0)
            yield return "";
        foreach (Candidate c in story.Candidates.Take(MostCandidates))
            yield return Text($"  {(story.Kind == ExplainedKind.Host ? c.Service : c.Host)}: {c.Verdict}{(c.Rules.Count == 0 ? $", cost {c.Cost.ToString("0.###", CultureInfo.InvariantCulture)}" : "")} ({c.Why})");
        if (story.Candidates.Count > MostCandidates)
            yield return Text($"  and {story.Candidates.Count - MostCandidates} more");
        if (story.Excluded.Count > 0)
            yield return "Excluded: " + string.Join(", ", story.Excluded.Select(e => Text($"{e.Hosts} by {e.Rule}")));
        foreach (RefusedMove refused in story.Refused)
            yield return $"Refused: {refused.What}: {refused.Reason}";
        if (story.Conflict is { } conflict)
            yield return $"Conflict: {conflict.Summary}";
        if (story.Note is not null)
            yield return story.Note;
    }

    private static string Measured(ServiceStory service) =>
        service.WakeTime is not { } time ? " (none was measured)" : Text($" ({time.TotalSeconds:0.##} s{(service.WakeBytes is { } bytes ? Text($", {bytes / 1048576.0:0.#} MiB") : "")}, as measured)");

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
