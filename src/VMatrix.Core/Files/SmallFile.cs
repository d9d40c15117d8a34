using System;
using System.ComponentModel;
using System.IO;
#if NET
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
#endif

namespace VMatrix.Files;

/// <summary>Reads files that somebody else may have written: never a pipe or a device that waits for ever, and never more than a stated length.</summary>
internal static class SmallFile
{
    /// <summary>A file of facts is longer by mistake only.</summary>
    public const int MostFacts = 1 << 20;

    /// <summary>Reads a file that others may be replacing.</summary>
    /// <param name="path">The file.</param>
    /// <param name="most">The most bytes that it may hold.</param>
    /// <returns>Its bytes, of which one more than <paramref name="most"/> when it is longer; null when it is not there.</returns>
    /// <exception cref="InvalidDataException">It is no regular file.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    public static byte[]? TryReadStart(string path, int most)
    {
        using var file = TryOpen(path);
        if (file is null)
            return null;

        // Never by the length that the file claims: it may grow.
        using var bytes = new MemoryStream();
        var buffer = new byte[Math.Min(most + 1, 64 << 10)];
        for (int count; bytes.Length <= most && (count = file.Read(buffer, 0, (int)Math.Min(buffer.Length, most + 1 - bytes.Length))) > 0;)
            bytes.Write(buffer, 0, count);
        return bytes.ToArray();
    }

    /// <summary>Reads a file that others may be replacing; null when it is not there.</summary>
    /// <exception cref="InvalidDataException">It is no regular file, or longer than <paramref name="most"/> bytes.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    public static byte[]? TryRead(string path, int most = MostFacts) =>
        TryReadStart(path, most) is not { } bytes ? null
        : bytes.Length <= most ? bytes
        : throw new InvalidDataException($"{path} is longer than {most >> 10} KiB, which nothing that belongs there is.");

    /// <summary>The last bytes of a file that somebody else is writing; null when it is not there.</summary>
    /// <exception cref="InvalidDataException">It is no regular file.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static byte[]? TryReadEnd(string path, int most)
    {
        using var file = TryOpen(path);
        if (file is null)
            return null;
        file.Seek(-Math.Min(most, file.Length), SeekOrigin.End);
        var bytes = new byte[most];
        var length = 0;
        for (int count; length < most && (count = file.Read(bytes, length, most - length)) > 0;)
            length += count;
        Array.Resize(ref bytes, length);
        return bytes;
    }

    /// <summary>Makes sure that what somebody else's code is about to open is a regular file, which is read without waiting, or is not there.</summary>
    /// <exception cref="InvalidDataException">It is a pipe, a device or a folder.</exception>
    /// <exception cref="IOException">It cannot be opened.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    public static void CheckRegular(string path) => TryOpen(path)?.Dispose();

    private static FileStream? TryOpen(string path)
    {
        try
        {
#if NET
            if (OperatingSystem.IsLinux())
                return Linux.Open(path);
#endif
            return new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 1);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    }

#if NET
    private static class Linux
    {
        /// <summary>Opens without waiting for a pipe's other end, and without the lock that .NET puts on what it opens.</summary>
        public static FileStream? Open(string path)
        {
            const int CloseOnExec = 0x80000, NoWait = 0x800, NotPermitted = 1, NotThere = 2, Denied = 13, NotAFolder = 20, RegularFile = 0x8000;
            var number = open(Encoding.UTF8.GetBytes(path + '\0'), CloseOnExec | NoWait);
            if (number < 0)
            {
                var error = Marshal.GetLastPInvokeError();
                var why = new Win32Exception(error).Message;
                return error switch
                {
                    NotThere or NotAFolder => null,
                    NotPermitted or Denied => throw new UnauthorizedAccessException($"{path} may not be read: {why}."),
                    _ => throw new IOException($"{path} cannot be opened: {why}.", error),
                };
            }

            var file = new SafeFileHandle(number, ownsHandle: true);
            try
            {
                const int ItItself = 0x1000;
                var stat = new byte[256];
                if (statx(number, [0], ItItself, 0x7ff, stat) != 0 || (BitConverter.ToUInt16(stat, 28) & 0xf000) != RegularFile)
                    throw new InvalidDataException($"{path} is no regular file; put one in its place.");
                return new FileStream(file, FileAccess.Read, 1);
            }
            catch
            {
                file.Dispose();
                throw;
            }
        }

#pragma warning disable IDE1006, SYSLIB1054, CA5392
        [DllImport("libc", SetLastError = true)]
        private static extern int open(byte[] path, int flags);

        [DllImport("libc", SetLastError = true)]
        private static extern int statx(int folder, byte[] path, int flags, uint mask, byte[] stat);
#pragma warning restore IDE1006, SYSLIB1054, CA5392
    }
#endif
}
