using System;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Serialization;
using VMatrix.Drivers;

namespace VMatrix.Qemu;

/// <summary>What a guest is built from: everything that must be the same for its memory to load again.</summary>
internal sealed record GuestFacts
{
    /// <summary>The versioned machine type, such as <c>pc-q35-7.2</c>: the plain name changes its meaning with each QEMU.</summary>
    public required string Machine { get; init; }

    /// <summary><c>kvm</c> or <c>tcg</c>.</summary>
    public required string Accelerator { get; init; }

    public required long MemoryBytes { get; init; }

    public required int Cores { get; init; }

    /// <summary>The port that it answers on inside.</summary>
    public required int Port { get; init; }

    /// <summary>True when it starts from a kernel of its image.</summary>
    public required bool Kernel { get; init; }

    public required bool Initrd { get; init; }

    public string? Append { get; init; }

    /// <summary>True when it has a disk: an overlay on its image's.</summary>
    public required bool Disk { get; init; }

    public string? Agent { get; init; }

    /// <summary>The image's content, as a hash.</summary>
    public required string Content { get; init; }
}

/// <summary>What stands beside a running server.</summary>
internal sealed record RunFacts
{
    public required DateTimeOffset StartedAt { get; init; }

    /// <summary>The host it was started on.</summary>
    public required string Host { get; init; }

    /// <summary>True when it was woken, false when it boots.</summary>
    public required bool Woken { get; init; }

    /// <summary>True while the guest was woken and does not know yet who and when it is.</summary>
    public required bool Ungreeted { get; init; }
}

/// <summary>What stands beside a kept memory. While it is there, the memory is whole and belongs to the disk beside it.</summary>
internal sealed record StateFacts
{
    /// <summary>SHA-256 of the state file.</summary>
    public required string Sha256 { get; init; }

    /// <summary>Hash of the command line that the memory loads under.</summary>
    public required string Shape { get; init; }

    /// <summary>The identity of the overlay that belongs to the memory; null without a disk.</summary>
    public required string? Overlay { get; init; }

    public required DateTimeOffset SavedAt { get; init; }
}

/// <summary>A server's folder: its files, and how each is written so that a reader never sees half of one.</summary>
internal sealed class ServerFolder(string path)
{
    private static readonly JsonSerializerOptions s_json = new()
    {
        WriteIndented = true,
        Converters = { new JsonStringEnumConverter() },
    };

    public string Path { get; } = path;

    public string MarkFile => At("mark.json");

    /// <summary>The mark that a server had when it was let go.</summary>
    public string ReleasedFile => At("released.json");

    public string GuestFile => At("guest.json");

    public string RunFile => At("run.json");

    public string StateFactsFile => At("state.json");

    public string State => At("state.zst");

    public string Overlay => At("overlay.qcow2");

    public string Console => At("console.log");

    /// <summary>Held locked exclusively by the QEMU process itself, so that the kernel says whether it lives; holds its process id.</summary>
    public string Lock => At("lock");

    public bool Exists => Directory.Exists(Path);

    public ServerMark? ReadMark() => Read<ServerMark>(MarkFile);

    public GuestFacts? ReadGuest() => Read<GuestFacts>(GuestFile);

    public RunFacts? ReadRun() => Read<RunFacts>(RunFile);

    public StateFacts? ReadState() => Read<StateFacts>(StateFactsFile);

    /// <summary>Bytes of the memory as it is kept; null when it went away meanwhile.</summary>
    public long? StateBytes() => new FileInfo(State) is { Exists: true } file ? file.Length : null;

    /// <summary>True when a QEMU process lives on this folder.</summary>
    public bool IsLive() => Native.IsLocked(Lock);

    /// <summary>The hypervisor's own id of what lies here: a copy of the folder has another one, a renamed folder the same.</summary>
    public string MachineId()
    {
        var name = System.IO.Path.GetFileName(Path);

        // A folder that is being made or moved has a word before its id.
        return $"{(name.StartsWith('.') ? name[(name.IndexOf('-', StringComparison.Ordinal) + 1)..] : name)}/{Native.Inode(Path):x}";
    }

    public void WriteMark(ServerMark mark) => Write(MarkFile, mark with { MachineId = MachineId() });

    public void WriteGuest(GuestFacts facts) => Write(GuestFile, facts);

    /// <summary>Not flushed: after a loss of power nothing runs, whatever it says.</summary>
    public void WriteRun(RunFacts facts) => Write(RunFile, facts, flush: false);

    public void WriteState(StateFacts facts) => Write(StateFactsFile, facts);

    /// <summary>Forgets the kept memory. The facts go first: without them the file beside is only waste.</summary>
    public void DropState()
    {
        File.Delete(StateFactsFile);
        File.Delete(State);
    }

    /// <summary>Takes away what calls that were cut short have left unfinished.</summary>
    public void Sweep()
    {
        foreach (var file in Directory.EnumerateFiles(Path).Where(f => f.EndsWith(".next", StringComparison.Ordinal) || f.EndsWith(".partial", StringComparison.Ordinal)))
        {
            File.Delete(file);
        }
    }

    /// <summary>True when the mark in it was written for this very folder, and not for one that it is a copy of.</summary>
    public bool IsOurs() => ReadMark() is { } mark && mark.MachineId == MachineId();

    /// <summary>The identity of the overlay as it is now: a disk that was written, restored or exchanged since has another one.</summary>
    public string? OverlayIdentity()
    {
        var file = new FileInfo(Overlay);
        return file.Exists ? $"{file.Length}:{file.LastWriteTimeUtc.Ticks}" : null;
    }

    /// <summary>The last lines of the guest's console and of QEMU's own complaints; empty when there are none.</summary>
    public string ConsoleEnd()
    {
        const int Most = 1200;
        try
        {
            using var file = new FileStream(Console, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            file.Seek(-Math.Min(Most, file.Length), SeekOrigin.End);
            using var reader = new StreamReader(file);
            var text = reader.ReadToEnd().Replace("\r", "", StringComparison.Ordinal).Trim();
            var cleaned = string.Create(text.Length, text, static (span, source) =>
            {
                for (var i = 0; i < source.Length; i++)
                {
                    span[i] = char.IsControl(source[i]) && source[i] != '\n' ? ' ' : source[i];
                }
            });
            return cleaned;
        }
        catch (IOException)
        {
            return "";
        }
    }

    public static T? Read<T>(string path)
        where T : class
    {
        byte[] bytes;
        try
        {
            bytes = File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }

        try
        {
            return JsonSerializer.Deserialize<T>(bytes, s_json);
        }
        catch (JsonException e)
        {
            throw new VMatrixException("FileCorrupt", VMatrixErrorKind.Corrupt, $"The file {path} cannot be read: {e.Message} Restore it from a backup, or dispose of its server.", e);
        }
    }

    /// <summary>Writes a file beside its place, flushes it unless told otherwise, and renames it over the old one.</summary>
    public static void Write<T>(string path, T value, bool flush = true)
    {
        var next = path + ".next";
        using (var file = new FileStream(next, FileMode.Create, FileAccess.Write))
        {
            JsonSerializer.Serialize(file, value, s_json);
            file.Flush(flush);
        }

        File.Move(next, path, overwrite: true);
        if (flush)
        {
            Native.FlushFolder(System.IO.Path.GetDirectoryName(path)!);
        }
    }

    private string At(string name) => System.IO.Path.Combine(Path, name);
}
