using System;
using System.Globalization;
using System.Linq;

namespace VMatrix.Oracle.Screens;

/// <summary>How moves, loads and sizes are put in words, on every screen alike.</summary>
internal static class Words
{
    /// <summary>A move in a few words, such as <c>wake FINANCE-3 on host2</c>.</summary>
    public static string Of(Move move)
    {
        string where = move.Kind switch
        {
            MoveKind.Wake => $" on {move.ToHost}",
            MoveKind.Hibernate => $" from {move.FromHost}",
            MoveKind.Relocate when move.FromHost != move.ToHost => $" from {move.FromHost} to {move.ToHost}",
            MoveKind.Relocate => $" to the {move.ToStage}",
            _ => "",
        };
        return $"{(move.IsDrop ? "drop" : move.Kind.ToString().ToLowerInvariant())} {move.ServerName}{where}";
    }

    /// <summary>What became of a move, such as <c>done in 0.41 s</c>.</summary>
    public static string Of(MoveRecord record) => record.Status switch
    {
        MoveStatus.Done => $"done in {Seconds(record.Duration ?? default)}",
        MoveStatus.Running => record.Step is null ? "begun" : record.Step,
        _ when record.Error is not null => $"{record.Status.ToString().ToLowerInvariant()}: {record.Error}",
        _ => record.Status.ToString().ToLowerInvariant(),
    };

    /// <summary>A service's load in words.</summary>
    public static string Of(ServiceInfo service) => service.Load switch
    {
        null => "load unknown",
        { Bad: { } bad } => $"no good sample: {bad}",
        var load => string.Create(CultureInfo.InvariantCulture, $"{load.RequestRate:0.0}/s asked, {load.ServedRate:0.0}/s served, {load.Queue} waiting, {load.RefusedRate:0.0}/s refused"),
    };

    /// <summary>Time in seconds.</summary>
    public static string Seconds(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.00} s");

    /// <summary>A pool in one line.</summary>
    public static string Line(PoolView view) =>
        string.Join("; ", view.Services.Select(service => $"{service.Name}: {service.InMatrix} server{(service.InMatrix == 1 ? "" : "s")}, {Of(service)}"));

    /// <summary>A reason without the numbers behind it.</summary>
    public static string Brief(string reason)
    {
        int numbers = reason.IndexOf(" (", StringComparison.Ordinal);
        return numbers < 0 ? reason : reason[..numbers];
    }
}
