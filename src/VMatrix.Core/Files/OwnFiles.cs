using System;
using System.Collections.Generic;
using System.IO;
using System.Text;

namespace VMatrix.Files;

/// <summary>Makes the files and folders of VMatrix: whatever the umask, their owner alone reads, writes, lists and locks them. On Windows the folder above says who may.</summary>
internal static class OwnFiles
{
#if NET
    private const UnixFileMode OwnFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode OwnFolder = OwnFile | UnixFileMode.UserExecute;
#endif

    /// <summary>Makes a folder with all above it that are missing; one that is there stays as it is.</summary>
    public static void CreateFolder(string path)
    {
#if NET
        if (!OperatingSystem.IsWindows())
        {
            // One by one: .NET gives only the last one the mode.
            var missing = new Stack<string>();
            for (var at = Path.GetFullPath(path); at is not null && !Directory.Exists(at); at = Path.GetDirectoryName(at))
                missing.Push(at);
            foreach (var folder in missing)
                Directory.CreateDirectory(folder, OwnFolder);
            return;
        }
#endif
        Directory.CreateDirectory(path);
    }

    /// <summary>Opens a file for writing. One that an earlier version left open to others is closed to them.</summary>
    public static FileStream Open(string path, FileMode mode, FileAccess access, FileShare share, int buffer = 4096)
    {
#if NET
        if (!OperatingSystem.IsWindows())
        {
            var options = new FileStreamOptions { Mode = mode, Access = access, Share = share, BufferSize = buffer };
            if (mode is not (FileMode.Open or FileMode.Truncate))
                options.UnixCreateMode = OwnFile;
            var file = new FileStream(path, options);
            Close(file);
            return file;
        }
#endif
        return new FileStream(path, mode, access, share, buffer);
    }

    /// <summary>Writes a whole file anew.</summary>
    public static void Write(string path, byte[] content)
    {
        using var file = Open(path, FileMode.Create, FileAccess.Write, FileShare.Read);
        file.Write(content, 0, content.Length);
    }

    /// <summary>Writes a whole file of text in UTF-8 anew.</summary>
    public static void Write(string path, string text) => Write(path, new UTF8Encoding(false).GetBytes(text));

    /// <summary>Makes sure that a file is there which somebody else's code then opens and fills.</summary>
    public static void Touch(string path) => Open(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete).Dispose();

#if NET
    [System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
    private static void Close(FileStream file)
    {
        try
        {
            var mode = File.GetUnixFileMode(file.SafeFileHandle);
            if ((mode & ~OwnFolder) != 0)
                File.SetUnixFileMode(file.SafeFileHandle, mode & OwnFolder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It is another user's, or on a file system without modes: nothing of ours to close.
        }
    }
#endif
}
