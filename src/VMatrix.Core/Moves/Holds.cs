using System;
using System.Collections.Generic;
using System.IO;
using VMatrix.Drivers;

namespace VMatrix.Moves;

/// <summary>
/// Until when servers that were moved by hand are held. A mark carries wall-clock times: one that was written while a clock was ahead would hold
/// its server until then. A hold that seems to have been made in the future therefore lasts its own length from when it was first seen.
/// </summary>
/// <param name="state">Where first sightings are kept, so that programs that run for a moment see the hold end too; null to keep them in memory.</param>
/// <param name="clock">The clock.</param>
internal sealed class Holds(StateFolder? state, TimeProvider clock)
{
    private readonly object _gate = new();
    private Dictionary<Guid, Sighted>? _sighted;

    private string? File => state is null ? null : Path.Combine(state.Path, "holds.json");

    /// <summary>Until when the server is held; null for not at all. It may have passed.</summary>
    public DateTimeOffset? Until(ServerMark mark)
    {
        var now = clock.GetUtcNow();
        if (mark.HeldUntil is not { } until || mark.ChangedAt <= now)
            return mark.HeldUntil;
        var length = until > mark.ChangedAt ? until - mark.ChangedAt : TimeSpan.Zero;
        lock (_gate)
        {
            _sighted ??= Read();
            if (!_sighted.TryGetValue(mark.ServerId, out var sighted) || sighted.Until != until || sighted.At > now)
            {
                _sighted[mark.ServerId] = sighted = new Sighted(until, now);
                Write(now);
            }

            return sighted.At + length;
        }
    }

    private Dictionary<Guid, Sighted> Read()
    {
        try
        {
            return (File is { } file ? StateFiles.TryReadJson<Dictionary<Guid, Sighted>>(file) : null) ?? [];
        }
        catch (Exception e) when (e is VMatrixException || StateFiles.IsFileError(e))
        {
            // The holds that it told of begin anew.
            return [];
        }
    }

    private void Write(DateTimeOffset now)
    {
        foreach (var known in new List<KeyValuePair<Guid, Sighted>>(_sighted!))
        {
            if (known.Value.Until <= now)
                _ = _sighted!.Remove(known.Key);
        }

        if (File is { } file && state!.MayWrite)
            Mover.Try(() => StateFiles.Replace(file, StateFiles.ToBytes(_sighted)));
    }

    /// <summary>A hold and when it was seen first.</summary>
    internal sealed record Sighted(DateTimeOffset Until, DateTimeOffset At);
}
