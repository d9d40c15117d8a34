using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Moves;

/// <summary>What one wake took.</summary>
/// <param name="Service">The service; for a host's wake, the host.</param>
/// <param name="Took">Time from its begin to the server's place in the balancer.</param>
/// <param name="Bytes">Bytes that it read or copied; null where the driver cannot tell.</param>
public readonly record struct WakeMeasure(string Service, TimeSpan Took, long? Bytes);

/// <summary>
/// What wakes into the Matrix take, by service: the last ones of the pool's history, and those since. The median is believed: a wake that was
/// cut short and finished hours later says nothing of the next one.
/// </summary>
public sealed class WakeMeasures
{
    /// <summary>Wakes of a service that count: the last so many.</summary>
    public const int Most = 15;

    private readonly object _gate = new();
    private readonly Dictionary<string, List<WakeMeasure>> _last = new(StringComparer.OrdinalIgnoreCase);
    private (Dictionary<string, TimeSpan> Times, Dictionary<string, long> Bytes)? _medians;

    /// <summary>Begins with what the history holds.</summary>
    /// <param name="known">Wakes, oldest first.</param>
    public WakeMeasures(IEnumerable<WakeMeasure> known)
    {
        foreach (var wake in known)
            Add(wake);
    }

    /// <summary>Median time by service; a service that never woke is missing.</summary>
    public IReadOnlyDictionary<string, TimeSpan> Times => Medians().Times;

    /// <summary>Median bytes by service; a service of which they were never told is missing.</summary>
    public IReadOnlyDictionary<string, long> Bytes => Medians().Bytes;

    /// <summary>What a move tells of wakes; null when it is no wake into the Matrix, or was not carried out.</summary>
    public static WakeMeasure? Of(MoveRecord record) =>
        record is { Move: { Kind: MoveKind.Wake, ToStage: Stage.Matrix }, Status: MoveStatus.Done, Duration: { } took } && took >= TimeSpan.Zero ? new WakeMeasure(record.Move.Service, took, record.Bytes) : null;

    /// <summary>Adds a wake.</summary>
    public void Add(WakeMeasure wake)
    {
        lock (_gate)
        {
            if (!_last.TryGetValue(wake.Service, out var last))
                _last[wake.Service] = last = [];
            last.Add(wake);
            if (last.Count > Most)
                last.RemoveAt(0);
            _medians = null;
        }
    }

    private (Dictionary<string, TimeSpan> Times, Dictionary<string, long> Bytes) Medians()
    {
        lock (_gate)
        {
            return _medians ??= (
                _last.ToDictionary(l => l.Key, l => Median([.. l.Value.Select(w => w.Took)]), StringComparer.OrdinalIgnoreCase),
                _last.Where(l => l.Value.Any(w => w.Bytes is not null)).ToDictionary(l => l.Key, l => Median([.. l.Value.Where(w => w.Bytes is not null).Select(w => w.Bytes!.Value)]), StringComparer.OrdinalIgnoreCase));
        }
    }

    private static T Median<T>(List<T> values)
    {
        values.Sort();
        return values[values.Count / 2];
    }
}
