using System;
using System.Globalization;
using System.IO;
using System.Linq;
using Microsoft.Win32.SafeHandles;
using VMatrix.Qemu;

namespace VMatrix.HAProxy;

/// <summary>
/// The folder of an owned HAProxy, held open. It is a folder and no link, belongs to the effective user, and nobody else may write it. What is
/// done by <see cref="Path"/> stays in that folder, whatever is renamed meanwhile; and the path is short enough for a socket, however deep the folder.
/// </summary>
internal sealed class HAProxyFolder : IDisposable
{
    private const int KindBits = 0xf000, FolderKind = 0x4000, WriteByOthers = 0x12;

    private readonly SafeFileHandle _handle;

    private HAProxyFolder(string name, SafeFileHandle handle)
    {
        (Name, _handle) = (name, handle);
        Path = string.Create(CultureInfo.InvariantCulture, $"/proc/self/fd/{handle.DangerousGetHandle()}");
    }

    /// <summary>The folder's full path.</summary>
    public string Name { get; }

    /// <summary>The path by which this process, and a child at its start, reach the open folder.</summary>
    public string Path { get; }

    /// <summary>Makes the folder where it is missing, with access for its owner alone, and opens it.</summary>
    /// <exception cref="VMatrixException"><c>BalancerFolderUnsafe</c>, <c>BalancerNotSupported</c>.</exception>
    public static HAProxyFolder Make(string path)
    {
        if (!OperatingSystem.IsLinux())
            throw new VMatrixException("BalancerNotSupported", VMatrixErrorKind.NotSupported, "VMatrix starts an HAProxy of its own on Linux only. Elsewhere, join one that runs already (balancer: own: false, socket: address:port).");
        Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        return Open(path) ?? throw Unsafe(path, "went away while it was opened");
    }

    /// <summary>Opens the folder; null where there is none.</summary>
    /// <exception cref="VMatrixException"><c>BalancerFolderUnsafe</c>.</exception>
    public static HAProxyFolder? Open(string path)
    {
        if (!OperatingSystem.IsLinux() || !System.IO.Path.Exists(path))
            return null;
        SafeFileHandle? handle = Native.OpenFolder(path, followLink: false);
        if (handle is null)
            return System.IO.Path.Exists(path) ? throw Unsafe(path, "is a link or no folder, or this user may not open it") : null;
        var folder = new HAProxyFolder(path, handle);
        try
        {
            (uint owner, ushort mode) = Native.Owner(folder.Path + "/.");
            if ((mode & KindBits) != FolderKind)
                throw Unsafe(path, "is no folder");
            if (owner != Native.UserId())
                throw Unsafe(path, string.Create(CultureInfo.InvariantCulture, $"belongs to user {owner}, not to user {Native.UserId()}, who runs this"));
            if ((mode & WriteByOthers) != 0)
                throw Unsafe(path, "may be written by others than its owner");
            return folder;
        }
        catch
        {
            folder.Dispose();
            throw;
        }
    }

    /// <summary>True when a process of this user was started in this folder, as every HAProxy of ours is. Only such a process is ever signalled.</summary>
    public bool IsHomeOf(int process)
    {
        try
        {
            string its = string.Create(CultureInfo.InvariantCulture, $"/proc/{process}");
            return process > 1 && Native.Owner(its + "/.").User == Native.UserId()
                && Native.Inode(its + "/cwd/.") == Native.Inode(Path + "/.") && Native.Device(its + "/cwd/.") == Native.Device(Path + "/.");
        }
        catch (IOException)
        {
            return false; // It has ended, or belongs to somebody else.
        }
    }

    /// <summary>Deletes the files in the folder, and the folder where it is empty then.</summary>
    public void Delete()
    {
        foreach (string file in Directory.EnumerateFiles(Path).ToArray())
            File.Delete(file);
        try
        {
            Directory.Delete(Name);
        }
        catch (IOException)
        {
            // Somebody starts HAProxy anew in it at this moment, or keeps something of their own there.
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();

    private static VMatrixException Unsafe(string path, string why) => new("BalancerFolderUnsafe", VMatrixErrorKind.Denied,
        $"The folder {path}, where HAProxy's configuration and admin socket are kept, {why}. Remove it, or make it a folder of your own with mode 700; then try again.");
}
