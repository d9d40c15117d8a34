#if NET
using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using System.Security.AccessControl;
using System.Security.Principal;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace VMatrix.Scripts;

/// <summary>
/// A file that is to be run, opened and proven to be its owner's: nobody but this user and the system may write it, or put another file in its
/// place in any folder or through any link on the way to it. It is run as it was opened, so that nothing can be swapped between check and run.
/// </summary>
internal sealed class OwnedFile : IDisposable
{
    private readonly SafeFileHandle _file;
    private readonly SafeFileHandle? _folder;

    private OwnedFile(SafeFileHandle file, SafeFileHandle? folder, string path) => (_file, _folder, RealPath) = (file, folder, path);

    /// <summary>The file's path without any link in it, as it was when it was opened.</summary>
    public string RealPath { get; }

    /// <summary>The path by which another process opens this very file, whatever became of its name; good until this is disposed.</summary>
    public string RunPath => OperatingSystem.IsWindows() ? RealPath : FormattableString.Invariant($"/proc/{Environment.ProcessId}/fd/{_file.DangerousGetHandle()}");

    /// <summary>The file's folder, in the same way.</summary>
    public string RunFolder => _folder is null ? Path.GetDirectoryName(RealPath)! : FormattableString.Invariant($"/proc/{Environment.ProcessId}/fd/{_folder.DangerousGetHandle()}");

    /// <summary>Opens and checks a file.</summary>
    /// <param name="path">Its full path.</param>
    /// <exception cref="VMatrixException"><c>ScriptNotFound</c>; <c>ScriptNotOwned</c>, naming who else may write what; <c>ScriptNotChecked</c> where the system cannot tell.</exception>
    public static OwnedFile Open(string path)
    {
        if (OperatingSystem.IsWindows())
            return OpenOnWindows(path);
        if (!OperatingSystem.IsLinux())
            throw new VMatrixException("ScriptNotChecked", VMatrixErrorKind.NotSupported, $"The script {path} is not run: who may write it can be checked on Linux and on Windows only.");
        return OpenOnLinux(path);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _file.Dispose();
        _folder?.Dispose();
    }

    private static VMatrixException NotOwned(string why) => new("ScriptNotOwned", VMatrixErrorKind.Denied, $"The script is not run: {why}");

    private static VMatrixException NotFound(string path) => new("ScriptNotFound", VMatrixErrorKind.NotFound, $"The script {path} does not exist.");

    /// <summary>Goes from the root, one name at a time, by open folders and never twice by a path: each is checked as it was opened.</summary>
    [SupportedOSPlatform("linux")]
    private static OwnedFile OpenOnLinux(string path)
    {
        const int MostLinks = 40;
        var rest = new Stack<string>(Path.GetFullPath(path).Split('/', StringSplitOptions.RemoveEmptyEntries).Reverse());
        var folders = new List<(SafeFileHandle Handle, string Path)>();
        try
        {
            folders.Add((Linux.Open(null, "/", Linux.PathOnly) ?? throw NotFound(path), ""));
            CheckFolder(folders[0].Handle, "/", last: rest.Count == 1);
            var links = 0;
            while (rest.TryPop(out var name))
            {
                if (name is "." or "")
                    continue;
                if (name == "..")
                {
                    if (folders.Count > 1)
                    {
                        folders[^1].Handle.Dispose();
                        folders.RemoveAt(folders.Count - 1);
                    }
                    continue;
                }
                var (folder, at) = folders[^1];
                var here = at + "/" + name;
                var found = Linux.Open(folder, name, Linux.PathOnly) ?? throw NotFound(path);
                try
                {
                    var (kind, owner, _, _) = Linux.Examine(found, here);
                    if (kind == Linux.Link)
                    {
                        CheckOwner(owner, here);
                        if (++links > MostLinks)
                            throw NotOwned($"{path} leads through more than {MostLinks} links.");
                        var target = Linux.ReadLink(found, here);
                        foreach (var part in target.Split('/', StringSplitOptions.RemoveEmptyEntries).Reverse())
                            rest.Push(part);
                        if (target.StartsWith('/'))
                        {
                            foreach (var (old, _) in folders.Skip(1))
                                old.Dispose();
                            folders.RemoveRange(1, folders.Count - 1);
                        }
                    }
                    else if (kind == Linux.Folder)
                    {
                        // What is left may still be a link or "..": every folder on the way is looked at, and the last one once more below.
                        CheckFolder(found, here, last: false);
                        folders.Add((found, here));
                        found = null;
                    }
                    else if (rest.Count > 0)
                    {
                        throw NotFound(path);
                    }
                    else
                    {
                        CheckFolder(folder, at.Length == 0 ? "/" : at, last: true);
                        var file = Linux.Open(folder, name, Linux.ReadNoWait) ?? throw NotFound(path);
                        try
                        {
                            CheckFile(file, here);
                            folders.RemoveAt(folders.Count - 1);
                            return new OwnedFile(file, folder, here);
                        }
                        catch
                        {
                            file.Dispose();
                            throw;
                        }
                    }
                }
                finally
                {
                    found?.Dispose();
                }
            }

            throw NotFound(path);
        }
        catch (Win32Exception e)
        {
            throw new VMatrixException("ScriptNotOwned", VMatrixErrorKind.Denied, $"The script is not run: {e.Message}", e);
        }
        finally
        {
            foreach (var (handle, _) in folders)
                handle.Dispose();
        }
    }

    [SupportedOSPlatform("linux")]
    private static void CheckFolder(SafeFileHandle handle, string path, bool last)
    {
        var (_, owner, _, mode) = Linux.Examine(handle, path);
        CheckOwner(owner, path);

        // In a folder with the sticky bit each may replace only their own; the file's own folder is where it finds its neighbours, and must be clean.
        if ((mode & Linux.OthersWrite) != 0 && (last || (mode & Linux.Sticky) == 0))
            throw NotOwned($"others than its owner may write the folder {path}, and put another file in its place. Run chmod go-w {path}, or keep the script in a folder of its own.");
    }

    [SupportedOSPlatform("linux")]
    private static void CheckFile(SafeFileHandle handle, string path)
    {
        var (kind, owner, _, mode) = Linux.Examine(handle, path);
        if (kind != Linux.File)
            throw NotOwned($"{path} is no regular file.");
        CheckOwner(owner, path);
        if ((mode & Linux.OthersWrite) != 0)
            throw NotOwned($"others than its owner may write {path}. Run chmod go-w {path}.");
    }

    [SupportedOSPlatform("linux")]
    private static void CheckOwner(uint owner, string path)
    {
        var user = Linux.Geteuid();
        if (owner != 0 && owner != user)
            throw NotOwned($"{path} belongs to user {owner}, not to user {user} or root. Make it your own with chown, or keep the script elsewhere.");
    }

    /// <summary>The same by access control lists. Never run on Windows so far: only what it asks for was checked against the documentation.</summary>
    [SupportedOSPlatform("windows")]
    private static OwnedFile OpenOnWindows(string path)
    {
        SafeFileHandle file;
        try
        {
            // Held open without leave to write or delete it: it stays what it is until it has run.
            file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw NotFound(path);
        }

        try
        {
            var real = Windows.FinalPath(file, path);
            const FileSystemRights Replacing = FileSystemRights.Delete | FileSystemRights.DeleteSubdirectoriesAndFiles | FileSystemRights.ChangePermissions | FileSystemRights.TakeOwnership;
            const FileSystemRights Writing = Replacing | FileSystemRights.WriteData | FileSystemRights.AppendData;
            CheckOnWindows(new FileInfo(real).GetAccessControl(), real, Writing);
            var rights = Writing;
            for (var folder = Directory.GetParent(real); folder is not null; folder = folder.Parent)
            {
                CheckOnWindows(folder.GetAccessControl(), folder.FullName, rights);

                // Who may make new files further up can put nothing in the place of what is there.
                rights = Replacing;
            }

            return new OwnedFile(file, null, real);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    [SupportedOSPlatform("windows")]
    private static void CheckOnWindows(FileSystemSecurity security, string path, FileSystemRights rights)
    {
        using var identity = WindowsIdentity.GetCurrent();
        SecurityIdentifier[] trusted =
        [
            identity.User!,
            new(WellKnownSidType.LocalSystemSid, null),
            new(WellKnownSidType.BuiltinAdministratorsSid, null),
            new("S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"), // TrustedInstaller
        ];
        var owner = security.GetOwner(typeof(SecurityIdentifier));
        if (owner is null || !trusted.Contains(owner))
            throw NotOwned($"{path} belongs to {owner}, not to this user, SYSTEM or Administrators. Run takeown /f \"{path}\".");
        foreach (FileSystemAccessRule rule in security.GetAccessRules(true, true, typeof(SecurityIdentifier)))
        {
            // What is only handed down to files to come says nothing of this one.
            if (rule.AccessControlType is AccessControlType.Allow && (rule.FileSystemRights & rights) != 0 && (rule.PropagationFlags & PropagationFlags.InheritOnly) == 0 && !trusted.Contains(rule.IdentityReference))
                throw NotOwned($"others than its owner may write {path} ({rule.IdentityReference}). Run icacls \"{path}\" /inheritance:r /grant:r \"$env:USERNAME:F\" SYSTEM:F Administrators:F.");
        }
    }

    [SupportedOSPlatform("linux")]
    internal static class Linux
    {
        public const int File = 0x8000, Folder = 0x4000, Link = 0xa000, Sticky = 0x200, OthersWrite = 0x12, GroupWrites = 0x10, EverybodyWrites = 0x2;

        private const int CloseOnExec = 0x80000, NoWait = 0x800, OPath = 0x200000, NotThere = 2, NotAFolder = 20;

        /// <summary>Looks at what has a name without opening it, so that no device, pipe or link does anything.</summary>
        public static int PathOnly => OPath | NoFollow | CloseOnExec;

        /// <summary>Opens for reading and never waits for a pipe's other end.</summary>
        public static int ReadNoWait => NoWait | NoFollow | CloseOnExec;

        // The one of these flags whose value differs between processors (asm/fcntl.h).
        private static int NoFollow => RuntimeInformation.ProcessArchitecture is Architecture.Arm or Architecture.Arm64 ? 0x8000 : 0x20000;

        /// <summary>Opens a name in a folder; null when it is not there.</summary>
        public static SafeFileHandle? Open(SafeFileHandle? folder, string name, int flags)
        {
            const int FromRoot = -100;
            var file = folder is null ? openat(FromRoot, Bytes(name), flags) : openat((int)folder.DangerousGetHandle(), Bytes(name), flags);
            GC.KeepAlive(folder);
            if (file >= 0)
                return new SafeFileHandle(file, ownsHandle: true);
            var error = Marshal.GetLastPInvokeError();
            return error is NotThere or NotAFolder ? null : throw new Win32Exception(error, $"{name} cannot be opened: {new Win32Exception(error).Message}.");
        }

        /// <summary>Kind, owner, group and permissions of what is open.</summary>
        public static (int Kind, uint Owner, uint Group, int Mode) Examine(SafeFileHandle file, string path)
        {
            const int ItItself = 0x1000;
            var stat = new byte[256];
            if (statx((int)file.DangerousGetHandle(), [0], ItItself, 0x7ff, stat) != 0)
                throw new Win32Exception(Marshal.GetLastPInvokeError(), $"{path} cannot be looked at.");

            // struct statx has one layout on every processor: owner at byte 20, group at byte 24, mode at byte 28.
            var mode = BitConverter.ToUInt16(stat, 28);
            GC.KeepAlive(file);
            return (mode & 0xf000, BitConverter.ToUInt32(stat, 20), BitConverter.ToUInt32(stat, 24), mode & 0xfff);
        }

        public static string ReadLink(SafeFileHandle link, string path)
        {
            var target = new byte[4097];
            var length = readlinkat((int)link.DangerousGetHandle(), [0], target, target.Length);
            GC.KeepAlive(link);
            return length > 0 && length < target.Length ? Encoding.UTF8.GetString(target, 0, (int)length) : throw new Win32Exception(Marshal.GetLastPInvokeError(), $"The link {path} cannot be read.");
        }

        private static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text + '\0');

        public static uint Geteuid() => geteuid();

#pragma warning disable IDE1006, SYSLIB1054, CA5392
        [DllImport("libc", SetLastError = true)]
        private static extern int openat(int folder, byte[] path, int flags);

        [DllImport("libc", SetLastError = true)]
        private static extern int statx(int folder, byte[] path, int flags, uint mask, byte[] stat);

        [DllImport("libc", SetLastError = true)]
        private static extern nint readlinkat(int folder, byte[] path, byte[] target, nint length);

        [DllImport("libc")]
        private static extern uint geteuid();
#pragma warning restore IDE1006, SYSLIB1054, CA5392
    }

    [SupportedOSPlatform("windows")]
    private static class Windows
    {
        /// <summary>The path of what is open, without any link or junction in it.</summary>
        public static string FinalPath(SafeFileHandle file, string path)
        {
            var text = new char[32768];
            var length = GetFinalPathNameByHandleW(file, text, text.Length, 0);
            if (length <= 0 || length >= text.Length)
                throw NotOwned($"where {path} leads cannot be told.");
            var real = new string(text, 0, length);
            return real.StartsWith(@"\\?\UNC\", StringComparison.Ordinal) ? @"\\" + real[8..] : real.StartsWith(@"\\?\", StringComparison.Ordinal) ? real[4..] : real;
        }

#pragma warning disable SYSLIB1054, CA5392
        [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
        private static extern int GetFinalPathNameByHandleW(SafeFileHandle file, [Out] char[] path, int length, int flags);
#pragma warning restore SYSLIB1054, CA5392
    }
}
#endif
