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

    /// <summary>The name that it had before it was disposed of; null when that is the mark's, and when it is not disposed.</summary>
    public string? Called { get; init; }

    /// <summary>What is to be told of it, such as a memory that was given up; null for nothing.</summary>
    public string? Told { get; init; }
}

/// <summary>A machine's notes: one piece is ours, every other character is somebody else's.</summary>
internal static class HyperVNotes
{
    public const string Word = "VMatrix:";

    /// <summary>Our line of the notes; null when there is none, and a problem when it cannot be read.</summary>
    public static (HyperVMark? Mark, string? Problem) Read(string? notes)
    {
        if (notes is null || SharedText.Find(notes, Word) is not { } piece)
            return (null, null);
        if (SharedText.Find(notes, Word, piece.End) is not null)
            return (null, "its notes hold two lines of VMatrix; remove the one that is wrong");
        if (!piece.IsWhole)
            return (null, "the line of VMatrix in its notes cannot be read: it is cut short or broken, and nothing is done to the machine; write the line anew with Register-VMatrixServer, or remove it");
        try
        {
            return (JsonSerializer.Deserialize<HyperVMark>(notes.Substring(piece.Json, piece.End - piece.Json), StateFiles.Json), null);
        }
        catch (JsonException e)
        {
            return (null, $"the line of VMatrix in its notes cannot be read ({e.Message}); write it anew with Register-VMatrixServer, or remove it");
        }
    }

    /// <summary>The notes with our line put in or replaced.</summary>
    public static string Write(string? notes, HyperVMark mark) => SharedText.Write(notes ?? "", Word, JsonSerializer.Serialize(mark, StateFiles.Json));

    /// <summary>The notes as they were before our line came.</summary>
    public static string Remove(string? notes) => SharedText.Remove(notes ?? "", Word);
}
