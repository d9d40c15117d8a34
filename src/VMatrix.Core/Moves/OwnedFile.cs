using System;
using System.IO;
using System.Runtime.InteropServices;
#if NET
using System.Linq;
using System.Runtime.Versioning;
using System.Security.AccessControl;
using System.Security.Principal;
#endif

namespace VMatrix.Moves;

/// <summary>Files that are run must be written by nobody but their owner, who is this user or the system's.</summary>
internal static class OwnedFile
{
    public static void Check(string path)
    {
        if (!File.Exists(path))
            throw new VMatrixException("ScriptNotFound", VMatrixErrorKind.NotFound, $"The script {path} does not exist.");
#if NET
        if (OperatingSystem.IsWindows())
        {
            CheckOnWindows(new FileInfo(path).GetAccessControl(), path);
            CheckOnWindows(new DirectoryInfo(Path.GetDirectoryName(Path.GetFullPath(path))!).GetAccessControl(), Path.GetDirectoryName(Path.GetFullPath(path))!);
            return;
        }
#endif
        if (!RuntimeInformation.IsOSPlatform(OSPlatform.Linux))
            throw new VMatrixException("ScriptNotChecked", VMatrixErrorKind.NotSupported, $"The script {path} is not run: who may write it can be checked on Linux, and on Windows in PowerShell 7; run this in pwsh there.");
        CheckOne(path);

        // Who may write the folder may put another file in its place.
        CheckOne(Path.GetDirectoryName(Path.GetFullPath(path))!);
    }

    private static void CheckOne(string path)
    {
        var stat = new byte[256];
        if (NativeMethods.Statx(-100, path, 0, 0xfff, stat) != 0)
            throw new VMatrixException("ScriptNotOwned", VMatrixErrorKind.Denied, $"The script is not run: {path} cannot be looked at.");

        // struct statx has one layout on every processor: owner at byte 20, mode at byte 28.
        var owner = BitConverter.ToUInt32(stat, 20);
        var mode = BitConverter.ToUInt16(stat, 28);
        var user = NativeMethods.Geteuid();
        if (owner != 0 && owner != user)
            throw new VMatrixException("ScriptNotOwned", VMatrixErrorKind.Denied, $"The script is not run: {path} belongs to user {owner}, not to user {user} or root. Make it your own with chown.");

        // Group or others may write (022), unless it is a folder where each may remove only their own (01000).
        if ((mode & 0x12) != 0 && (mode & 0x200) == 0)
            throw new VMatrixException("ScriptNotOwned", VMatrixErrorKind.Denied, $"The script is not run: others than its owner may write {path}. Run chmod go-w {path}.");
    }

#if NET
    [SupportedOSPlatform("windows")]
    private const FileSystemRights Writing = FileSystemRights.WriteData | FileSystemRights.AppendData | FileSystemRights.Delete | FileSystemRights.DeleteSubdirectoriesAndFiles
        | FileSystemRights.ChangePermissions | FileSystemRights.TakeOwnership;

    /// <summary>The same by access control lists. Never run on Windows so far: only what it asks for was checked against the documentation.</summary>
    [SupportedOSPlatform("windows")]
    private static void CheckOnWindows(FileSystemSecurity security, string path)
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
            throw new VMatrixException("ScriptNotOwned", VMatrixErrorKind.Denied, $"The script is not run: {path} belongs to {owner}, not to this user, SYSTEM or Administrators. Run takeown /f \"{path}\".");
        foreach (FileSystemAccessRule rule in security.GetAccessRules(true, true, typeof(SecurityIdentifier)))
        {
            // What is only handed down to files to come says nothing of this one.
            if (rule.AccessControlType is AccessControlType.Allow && (rule.FileSystemRights & Writing) != 0 && (rule.PropagationFlags & PropagationFlags.InheritOnly) == 0 && !trusted.Contains(rule.IdentityReference))
                throw new VMatrixException("ScriptNotOwned", VMatrixErrorKind.Denied, $"The script is not run: others than its owner may write {path} ({rule.IdentityReference}). Run icacls \"{path}\" /inheritance:r /grant:r \"$env:USERNAME:F\" SYSTEM:F Administrators:F.");
        }
    }
#endif

    private static class NativeMethods
    {
        [DllImport("libc", EntryPoint = "statx", SetLastError = true, CharSet = CharSet.Ansi, BestFitMapping = false, ThrowOnUnmappableChar = false)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
        public static extern int Statx(int folder, [MarshalAs(UnmanagedType.LPStr)] string path, int flags, uint mask, byte[] stat);

        [DllImport("libc", EntryPoint = "geteuid")]
        [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
        public static extern uint Geteuid();
    }
}
