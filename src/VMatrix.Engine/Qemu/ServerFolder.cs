using System;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using VMatrix.Drivers;
using VMatrix.Files;

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

    /// <summary>What no guest can have, as a sentence; null when all of it can be.</summary>
    public static string? Wrong(GuestFacts guest) =>
        guest.MemoryBytes is < 1 << 20 or > 1L << 46 ? "Its memory is none."
        : guest.Cores is < 1 or > 4096 ? "Its number of cores is none."
        : guest.Port is < 1 or > 65535 ? "Its port is none."
        : guest.Accelerator is not ("kvm" or "tcg") ? "Its accelerator is neither kvm nor tcg."
        : guest.Agent is not (null or GuestAgent.Own or GuestAgent.Qemu) ? "Its agent is none."
        : guest.Machine.Length == 0 || !guest.Machine.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.') ? "Its machine type is none."
        : null;
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

    /// <summary>Bytes of the state file; null in what an earlier version kept.</summary>
    public long? Length { get; init; }

    /// <summary>Whose memory it is, so that it is never taken for another server's; null for an image's, and in what an earlier version kept.</summary>
    public Guid? ServerId { get; init; }

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
        RespectNullableAnnotations = true,
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

    /// <exception cref="VMatrixException"><c>FileCorrupt</c>.</exception>
    public ServerMark? ReadMark() => ReadMark(MarkFile);

    /// <summary>The mark that a server had when it was let go; null when there is none.</summary>
    /// <exception cref="VMatrixException"><c>FileCorrupt</c>.</exception>
    public ServerMark? ReadReleased() => ReadMark(ReleasedFile);

    /// <summary>The mark that lies here, whether it counts or not.</summary>
    /// <exception cref="VMatrixException"><c>FileCorrupt</c>.</exception>
    public ServerMark? ReadStale() => ReadMark() ?? ReadReleased();

    // A mark's words go into file names, into a guest and before people: only what can be one is taken for one.
    private static ServerMark? ReadMark(string path) => Read<ServerMark>(path) is not { } mark ? null
        : mark.Name.Length is 0 or > 255 || !PlainText.IsPlain(mark.Name) || mark.Service.Length is 0 or > 255 || !PlainText.IsPlain(mark.Service) ? throw Corrupt(path, "The name in it, or its service's, is none.")
        : mark.Image.Length > 0 && !ImageStore.IsVersion(mark.Image) ? throw Corrupt(path, "The image in it is no version.")
        : !Enum.IsDefined(mark.Stage) || mark.Generation < 0 ? throw Corrupt(path, "Its stage or generation is none.")
        : mark;

    /// <exception cref="VMatrixException"><c>FileCorrupt</c>.</exception>
    public GuestFacts? ReadGuest() => Read<GuestFacts>(GuestFile) is not { } guest ? null
        : GuestFacts.Wrong(guest) is { } wrong ? throw Corrupt(GuestFile, wrong)
        : guest;

    public RunFacts? ReadRun() => Read<RunFacts>(RunFile);

    public StateFacts? ReadState() => Read<StateFacts>(StateFactsFile);

    /// <summary>Bytes of the memory as it is kept; null when it went away meanwhile.</summary>
    public long? StateBytes() => new FileInfo(State) is { Exists: true } file ? file.Length : null;

    /// <summary>Closes the folder to others where an earlier version left it open.</summary>
    public void Close()
    {
        const UnixFileMode Own = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        if (!OperatingSystem.IsWindows() && (File.GetUnixFileMode(Path) & ~Own) != 0)
        {
            File.SetUnixFileMode(Path, Own);
        }
    }

    /// <summary>Keeps the end of a console that has grown long: a guest may write there without end. QEMU appends, so it goes on behind it.</summary>
    public void TrimConsole()
    {
        const int Longest = 256 << 10, Kept = 64 << 10;
        try
        {
            if (new FileInfo(Console) is { Exists: true, Length: > Longest } && SmallFile.TryReadEnd(Console, Kept) is { } end)
            {
                using var file = OwnFiles.Open(Console, FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);
                file.SetLength(0);
                file.Write(end);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            // Whoever looks next trims it.
        }
    }

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
            var text = Encoding.UTF8.GetString(SmallFile.TryReadEnd(Console, Most) ?? []).Replace("\r", "", StringComparison.Ordinal).Trim();
            return string.Create(text.Length, text, static (span, source) =>
            {
                for (var i = 0; i < source.Length; i++)
                {
                    span[i] = source[i] == '\n' || PlainText.IsPlain(source[i]) ? source[i] : ' ';
                }
            });
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            return "";
        }
    }

    /// <summary>Reads a file of facts; null when it is not there.</summary>
    /// <exception cref="VMatrixException"><c>FileCorrupt</c>.</exception>
    public static T? Read<T>(string path)
        where T : class
    {
        try
        {
            return SmallFile.TryRead(path) is { } bytes ? JsonSerializer.Deserialize<T>(bytes, s_json) ?? throw new JsonException("It holds null.") : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or NotSupportedException or ArgumentException or InvalidDataException)
        {
            throw Corrupt(path, e.Message, e);
        }
    }

    private static VMatrixException Corrupt(string path, string why, Exception? inner = null) =>
        new("FileCorrupt", VMatrixErrorKind.Corrupt, $"The file {path} cannot be read: {why} Restore it from a backup, or dispose of its server.", inner);

    /// <summary>Writes a file beside its place, flushes it unless told otherwise, and renames it over the old one.</summary>
    public static void Write<T>(string path, T value, bool flush = true)
    {
        var next = path + ".next";
        using (var file = OwnFiles.Open(next, FileMode.Create, FileAccess.Write, FileShare.Read))
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
