using System;
using System.ComponentModel;
using System.IO;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace VMatrix.Qemu;

/// <summary>The few calls of Linux that .NET does not offer.</summary>
internal static class Native
{
    private const int LockShared = 1;
    private const int LockNoWait = 4;
    private const int Again = 11;
    private const int NotThere = 2;
    private const int CloseOnExec = 0x80000;
    private const int NoWait = 0x800;
    private const int FolderOnly = 0x10000;

    /// <summary>Opens a file for reading without the lock that .NET puts on every file it opens, and without waiting for a pipe's other end; null when it is not there.</summary>
    public static SafeFileHandle? OpenUnlocked(string path)
    {
        var file = open(Encoding.UTF8.GetBytes(path + '\0'), CloseOnExec | NoWait);
        if (file >= 0)
        {
            return new SafeFileHandle(file, ownsHandle: true);
        }

        var error = Marshal.GetLastPInvokeError();
        return error is NotThere ? null : throw new IOException($"Cannot open {path}: {new Win32Exception(error).Message}.");
    }

    /// <summary>Opens a folder, so that what is done in it cannot be led elsewhere by renaming; null where it cannot be opened as a folder.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="followLink">True to open what a link in the path's last place leads to.</param>
    public static SafeFileHandle? OpenFolder(string path, bool followLink)
    {
        const int NoLink = 0x20000;

        // The processors other than these number O_DIRECTORY and O_NOFOLLOW differently.
        var (folderOnly, noLink) = RuntimeInformation.ProcessArchitecture is Architecture.Arm64 or Architecture.Arm ? (0x4000, 0x8000) : (FolderOnly, NoLink);
        var file = open(Encoding.UTF8.GetBytes(path + '\0'), CloseOnExec | folderOnly | (followLink ? 0 : noLink));
        return file >= 0 ? new SafeFileHandle(file, ownsHandle: true) : null;
    }

    /// <summary>True when some process holds the file locked exclusively. A file that is not there is not locked.</summary>
    public static bool IsLocked(string path)
    {
        using var file = OpenUnlocked(path);
        if (file is null || flock(file, LockShared | LockNoWait) == 0)
        {
            return false;
        }

        var error = Marshal.GetLastPInvokeError();
        return error == Again ? true : throw new IOException($"Cannot test the lock of {path}: {new Win32Exception(error).Message}.");
    }

    /// <summary>The file's inode number, which a rename keeps and a copy does not.</summary>
    public static ulong Inode(string path) => Statx(path, 32);

    /// <summary>The file system that a path lies on, as one number.</summary>
    public static ulong Device(string path) => Statx(path, 136);

    /// <summary>Owner and permissions of a path itself (a link is not followed): user id and mode bits.</summary>
    public static (uint User, ushort Mode) Owner(string path)
    {
        Statx(path, 32);
        var buffer = s_statx!;
        return (BitConverter.ToUInt32(buffer, 20), BitConverter.ToUInt16(buffer, 28));
    }

    [ThreadStatic]
    private static byte[]? s_statx;

    private static ulong Statx(string path, int offset)
    {
        const int AtFdCwd = -100, NoFollow = 0x100;
        s_statx ??= new byte[256];
        if (statx(AtFdCwd, Encoding.UTF8.GetBytes(path + '\0'), NoFollow, 0x7ff, s_statx) != 0)
        {
            throw new IOException($"Cannot examine {path}: {new Win32Exception(Marshal.GetLastPInvokeError()).Message}.");
        }

        return BitConverter.ToUInt64(s_statx, offset);
    }

    /// <summary>Renames within a file system; false when the two are on different ones.</summary>
    public static bool TryRename(string from, string to)
    {
        if (rename(Encoding.UTF8.GetBytes(from + '\0'), Encoding.UTF8.GetBytes(to + '\0')) == 0)
        {
            return true;
        }

        const int OtherFileSystem = 18;
        var error = Marshal.GetLastPInvokeError();
        return error == OtherFileSystem ? false : throw new IOException($"Cannot rename {from} to {to}: {new Win32Exception(error).Message}.");
    }

    /// <summary>Gives a file a second name; false where the file system cannot.</summary>
    public static bool TryLink(string from, string to) => link(Encoding.UTF8.GetBytes(from + '\0'), Encoding.UTF8.GetBytes(to + '\0')) == 0;

    /// <summary>The user that this process acts as.</summary>
    public static uint UserId() => geteuid();

    /// <summary>Kills a process; false when it is gone.</summary>
    public static bool Kill(int process) => kill(process, 9) == 0;

    /// <summary>Flushes a folder's entries to disk, so that a rename survives a loss of power.</summary>
    public static void FlushFolder(string path)
    {
        var handle = open(Encoding.UTF8.GetBytes(path + '\0'), FolderOnly | CloseOnExec);
        if (handle < 0)
        {
            return;
        }

        _ = fsync(handle);
        _ = close(handle);
    }

    /// <summary>Sends bytes over a Unix socket together with an open file (SCM_RIGHTS).</summary>
    public static void SendWithHandle(Socket socket, byte[] bytes, SafeHandle file)
    {
        var vector = Marshal.AllocHGlobal(16);
        var control = Marshal.AllocHGlobal(24);
        var pinned = GCHandle.Alloc(bytes, GCHandleType.Pinned);
        try
        {
            Marshal.WriteIntPtr(vector, 0, pinned.AddrOfPinnedObject());
            Marshal.WriteIntPtr(vector, 8, bytes.Length);
            Marshal.WriteInt64(control, 0, 20);
            Marshal.WriteInt32(control, 8, 1);
            Marshal.WriteInt32(control, 12, 1);
            Marshal.WriteInt32(control, 16, (int)file.DangerousGetHandle());
            var message = new MessageHeader { Vector = vector, VectorLength = 1, Control = control, ControlLength = 24 };
            if (sendmsg((int)socket.Handle, ref message, 0) != bytes.Length)
            {
                throw new IOException($"Cannot hand a file to QEMU: {new Win32Exception(Marshal.GetLastPInvokeError()).Message}.");
            }
        }
        finally
        {
            pinned.Free();
            Marshal.FreeHGlobal(control);
            Marshal.FreeHGlobal(vector);
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct MessageHeader
    {
        public IntPtr Name;
        public uint NameLength;
        public IntPtr Vector;
        public nint VectorLength;
        public IntPtr Control;
        public nint ControlLength;
        public int Flags;
    }

#pragma warning disable IDE1006, SYSLIB1054, CA5392
    [DllImport("libc", SetLastError = true)]
    private static extern int flock(SafeHandle file, int operation);

    [DllImport("libc", SetLastError = true)]
    private static extern int statx(int folder, byte[] path, int flags, uint mask, byte[] buffer);

    [DllImport("libc", SetLastError = true)]
    private static extern int rename(byte[] from, byte[] to);

    [DllImport("libc", SetLastError = true)]
    private static extern int link(byte[] from, byte[] to);

    [DllImport("libc")]
    private static extern uint geteuid();

    [DllImport("libc", SetLastError = true)]
    private static extern int kill(int process, int signal);

    [DllImport("libc", SetLastError = true)]
    private static extern int open(byte[] path, int flags);

    [DllImport("libc")]
    private static extern int fsync(int file);

    [DllImport("libc")]
    private static extern int close(int file);

    [DllImport("libc", SetLastError = true)]
    private static extern nint sendmsg(int socket, ref MessageHeader message, int flags);
#pragma warning restore IDE1006, SYSLIB1054, CA5392
}
