using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using VMatrix.Drivers;
using VMatrix.Moves;

namespace VMatrix.HyperV;

/// <summary>Where a registered machine counts as being.</summary>
internal enum HyperVPlace
{
    Nest,
    Host,
    Disposed,
}

/// <summary>What a saved state was made with. It resumes only where these agree.</summary>
/// <param name="Processor">Manufacturer and family of the host's processor.</param>
/// <param name="Version">The machine's configuration version.</param>
/// <param name="Build">Build of the host's system.</param>
/// <param name="At">When.</param>
/// <param name="Memory">Bytes of memory that the machine held when it was saved, which resuming it takes again: with dynamic memory more than it starts with. Null where that is not known.</param>
internal sealed record SavedFacts(string? Processor, string? Version, string? Build, DateTimeOffset At, long? Memory = null)
{
    /// <summary>Why a host cannot resume it, in words that follow the host's name; null when nothing speaks against it. What is not known excludes nothing: the host itself refuses.</summary>
    public string? ObstacleOn(ResumeFacts host) =>
        Processor is not null && host.Processor is not null && Processor != host.Processor ? $"its memory was saved on a processor '{Processor}', and the host has '{host.Processor}'"
        : IsUnknownTo(host) ? $"its memory was saved with configuration version {Version}, and the host knows {string.Join(", ", host.Versions)}"
        : int.TryParse(Build, out var then) && int.TryParse(host.Build, out var now) && now < then ? $"its memory was saved on build {then}, and the host is older with build {now}"
        : null;

    /// <summary>True where the machine does not run at all, with its memory or without.</summary>
    public bool IsUnknownTo(ResumeFacts host) => Version is not null && host.Versions.Count > 0 && !host.Versions.Contains(Version);
}

/// <summary>What of a host decides which saved states resume there; what is null or empty is not known.</summary>
/// <param name="Processor">Manufacturer and family of its processor.</param>
/// <param name="Build">Build of its system.</param>
/// <param name="Versions">The configuration versions that it runs.</param>
internal sealed record ResumeFacts(string? Processor, string? Build, IReadOnlyList<string> Versions);

/// <summary>Our line in a machine's notes: the mark, and what the driver needs to know beside it.</summary>
internal sealed record HyperVMark
{
    public required ServerMark Mark { get; init; }

    public HyperVPlace Place { get; init; }

    /// <summary>True from its start to its save or stop: an off machine with this ended by itself.</summary>
    public bool Ran { get; init; }

    public SavedFacts? Saved { get; init; }

    /// <summary>The static address that it was given when it was made; null where its address is found otherwise.</summary>
    public string? Address { get; init; }

    /// <summary>True when it was made with a disc that tells it what it is: it has that in its drive whenever it boots. One that was registered is somebody already.</summary>
    public bool Seeded { get; init; }

    /// <summary>True for a machine that was let go while it slept in the nest: the line no longer counts, and says only that it lies there.</summary>
    public bool Released { get; init; }

    /// <summary>The export into the nest's share that these notes were written for; null where there is none, and once it is registered again and its notes are its own.</summary>
    public string? Bed { get; init; }

    /// <summary>What is to be told of it, such as a memory that was given up; null for nothing.</summary>
    public string? Told { get; init; }
}

/// <summary>A machine's notes: one line is ours, every other byte is the admin's.</summary>
internal static class HyperVNotes
{
    private const string Begin = "VMatrix:{";

    /// <summary>Our line of the notes; null when there is none, and a problem when it cannot be read.</summary>
    public static (HyperVMark? Mark, string? Problem) Read(string? notes)
    {
        if (notes is null || Find(notes, 0) is not { } line)
            return (null, null);
        if (Find(notes, line.End) is not null)
            return (null, "its notes hold two lines of VMatrix; remove the one that is wrong");
        try
        {
            return (JsonSerializer.Deserialize<HyperVMark>(notes.Substring(line.Start + Begin.Length - 1, line.End - line.Start - Begin.Length + 1), StateFiles.Json), null);
        }
        catch (JsonException e)
        {
            return (null, $"the line of VMatrix in its notes cannot be read ({e.Message}); write it anew with Register-VMatrixServer, or remove it");
        }
    }

    /// <summary>The notes with our line put in or replaced.</summary>
    public static string Write(string? notes, HyperVMark mark)
    {
        notes ??= "";
        var text = "VMatrix:" + JsonSerializer.Serialize(mark, StateFiles.Json);
        if (Find(notes, 0) is { } line)
            return notes.Remove(line.Start, line.End - line.Start).Insert(line.Start, text);

        // Behind what is there, unless the line break that joins them could not be told from the admin's own.
        return notes.Length == 0 ? text : notes[notes.Length - 1] == '\r' ? text + "\n" + notes : notes + "\n" + text;
    }

    /// <summary>The notes as they were before our line came.</summary>
    public static string Remove(string? notes)
    {
        notes ??= "";
        if (Find(notes, 0) is not { } line)
            return notes;
        var (start, end) = line;
        if (start > 0)
        {
            // Editors turn the break that we put there into two characters, and then every other one too.
            start--;
            if (start > 0 && notes[start - 1] == '\r')
                start--;
        }
        else if (end < notes.Length)
        {
            end += notes[end] == '\r' && end + 1 < notes.Length && notes[end + 1] == '\n' ? 2 : 1;
        }

        return notes.Remove(start, end - start);
    }

    private static (int Start, int End)? Find(string notes, int from)
    {
        for (var start = notes.IndexOf(Begin, from, StringComparison.Ordinal); start >= 0; start = notes.IndexOf(Begin, start + 1, StringComparison.Ordinal))
        {
            if (start > 0 && notes[start - 1] is not ('\n' or '\r'))
                continue;
            var end = notes.IndexOfAny(['\r', '\n'], start);
            return (start, end < 0 ? notes.Length : end);
        }

        return null;
    }
}
