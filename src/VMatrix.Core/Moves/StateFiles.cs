using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization;
using VMatrix.Files;

namespace VMatrix.Moves;

/// <summary>Small files of the state folder: written whole or not at all, flushed where it counts, with errors that name the file and the mend.</summary>
internal static class StateFiles
{
    public static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Converters = { new JsonStringEnumConverter() },
    };

    /// <summary>What is read may have been written by anybody: nothing is null or twice there that may not be.</summary>
    public static readonly JsonSerializerOptions Reading = new(Json) { RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true, AllowDuplicateProperties = false };

    public static byte[] ToBytes<T>(T value) => JsonSerializer.SerializeToUtf8Bytes(value, Json);

    /// <summary>Reads a small file that others may be replacing; null when it is not there.</summary>
    /// <exception cref="VMatrixException"><c>StateCorrupt</c> for what is no regular file, or far too long.</exception>
    public static byte[]? TryRead(string path)
    {
        // What a plan of a very large pool was made from takes a few MiB.
        const int Most = 128 << 20;
        try
        {
            return SmallFile.TryRead(path, Most);
        }
        catch (InvalidDataException e)
        {
            throw Corrupt(path, e);
        }
    }

    /// <summary>Reads a JSON file; null when it is not there.</summary>
    /// <exception cref="VMatrixException"><c>StateCorrupt</c>.</exception>
    public static T? TryReadJson<T>(string path) where T : class
    {
        var bytes = TryRead(path);
        if (bytes is null)
            return null;
        try
        {
            return JsonSerializer.Deserialize<T>(bytes, Reading) ?? throw new JsonException("It holds null.");
        }
        catch (Exception e) when (e is JsonException or NotSupportedException or InvalidOperationException or ArgumentException)
        {
            throw Corrupt(path, e);
        }
    }

    public static VMatrixException Corrupt(string path, Exception? e = null) =>
        new("StateCorrupt", VMatrixErrorKind.Corrupt, $"The state file {path} cannot be read: {(e?.Message ?? "it is damaged").TrimEnd('.')}. Restore it from a backup, or delete it when you know that nothing is under way.", e);

    /// <summary>Replaces a file as a whole: after a crash it is the old one or the new one.</summary>
    public static void Replace(string path, byte[] content)
    {
        var temporary = WriteTemporary(path, content, flush: true);
        Rename(temporary, path);
        SyncFolder(Path.GetDirectoryName(path)!);
    }

    public static string WriteTemporary(string path, byte[] content, bool flush)
    {
        var temporary = path + "." + Guid.NewGuid().ToString("N") + ".tmp";
        try
        {
            using var file = OwnFiles.Open(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.Read, 1);
            file.Write(content, 0, content.Length);
            file.Flush(flush);
        }
        catch
        {
            TryDelete(temporary);
            throw;
        }
        return temporary;
    }

    public static void Rename(string from, string to)
    {
#if NET
        File.Move(from, to, overwrite: true);
#else
        if (File.Exists(to))
            File.Replace(from, to, null);
        else
            File.Move(from, to);
#endif
    }

    /// <summary>Appends to a file that must exist, and waits until it is on the disk.</summary>
    public static void Append(string path, byte[] content)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete, 1);

        // A loss of power may have left half a line: the new one takes its place.
        var end = file.Length;
        for (; end > 0; end--)
        {
            file.Position = end - 1;
            if (file.ReadByte() == '\n')
                break;
        }
        file.SetLength(end);
        file.Position = end;
        try
        {
            file.Write(content, 0, content.Length);
            file.Flush(true);
        }
        catch (IOException)
        {
            // A disk that filled up may have taken half a line: take it back, so that the next one starts clean.
            try
            {
                file.SetLength(end);
            }
            catch (IOException)
            {
                // The reader passes over a torn line.
            }
            throw;
        }
    }

    public static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (IOException)
        {
        }
        catch (UnauthorizedAccessException)
        {
        }
    }

    /// <summary>Makes names in a folder durable; Windows does that by itself.</summary>
    public static void SyncFolder(string folder)
    {
        if (RuntimeInformation.IsOSPlatform(OSPlatform.Windows))
            return;
        var file = NativeMethods.Open(folder, 0);
        if (file < 0)
            return;
        _ = NativeMethods.Fsync(file);
        _ = NativeMethods.Close(file);
    }

    /// <summary>Opens a lock file exclusively; null when somebody else holds it. The lock ends with the process, however that ends.</summary>
    public static FileStream? TryLock(string path, FileMode mode = FileMode.OpenOrCreate)
    {
        try
        {
            return OwnFiles.Open(path, mode, FileAccess.ReadWrite, FileShare.None, 1);
        }
        catch (IOException e) when (IsSharingViolation(e))
        {
            return null;
        }
    }

    /// <summary>True when somebody (this process included) holds the lock file.</summary>
    public static bool IsLocked(string path)
    {
        try
        {
            // A shared lock: two who look at once do not see each other.
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 1);
            return false;
        }
        catch (FileNotFoundException)
        {
            return false;
        }
        catch (DirectoryNotFoundException)
        {
            return false;
        }
        catch (IOException e) when (IsSharingViolation(e))
        {
            return true;
        }
    }

    // EWOULDBLOCK (11 on Linux, 35 on macOS), ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION.
    private static bool IsSharingViolation(IOException e) => e.GetType() == typeof(IOException) && e.HResult is 11 or 35 or unchecked((int)0x80070020) or unchecked((int)0x80070021);

    // ENOSPC, EDQUOT (122 on Linux, 69 on macOS), ERROR_DISK_FULL, ERROR_HANDLE_DISK_FULL.
    private static bool IsFull(IOException e) => e.HResult is 28 or 122 or 69 or unchecked((int)0x80070070) or unchecked((int)0x80070027);

    /// <summary>Turns the file system's errors into ours.</summary>
    public static VMatrixException Translate(string folder, Exception e) => e switch
    {
        VMatrixException known => known,
        UnauthorizedAccessException => new("StateReadOnly", VMatrixErrorKind.Denied, $"The state folder {folder} cannot be written: {e.Message} Give this account the right to write there, or name another folder as 'state' in the pool file.", e),
        DirectoryNotFoundException or FileNotFoundException => new("StateLost", VMatrixErrorKind.Unreachable, $"The state folder {folder} went away: {e.Message} Bring it back and run Resume-VMatrixMove.", e),
        // EROFS
        IOException { HResult: 30 or unchecked((int)0x80070013) } => new("StateReadOnly", VMatrixErrorKind.Denied, $"The state folder {folder} is on a read-only file system. Name a folder that can be written as 'state' in the pool file.", e),
        IOException io when IsFull(io) => new("StateFull", VMatrixErrorKind.NoRoom, $"The disk of the state folder {folder} is full. Make room and try again.", e),
        _ => new("StateUnreachable", VMatrixErrorKind.Unreachable, $"The state folder {folder} cannot be used: {e.Message}", e),
    };

    public static bool IsFileError(Exception e) => e is IOException or UnauthorizedAccessException;

    private static class NativeMethods
    {
        [DllImport("libc", EntryPoint = "open", SetLastError = true, CharSet = CharSet.Ansi, BestFitMapping = false, ThrowOnUnmappableChar = false)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
        public static extern int Open([MarshalAs(UnmanagedType.LPStr)] string path, int flags);

        [DllImport("libc", EntryPoint = "fsync", SetLastError = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
        public static extern int Fsync(int file);

        [DllImport("libc", EntryPoint = "close", SetLastError = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
        public static extern int Close(int file);
    }
}
