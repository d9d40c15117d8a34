using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.IO;
using System.Linq;
#if NET
using System.Runtime.Versioning;
#endif
using VMatrix.Scripts;

namespace VMatrix.Files;

/// <summary>A folder that VMatrix writes in: nobody else has made it, and nobody else can lead what is written there elsewhere.</summary>
internal static class OwnFolder
{
    /// <summary>
    /// Checks a folder, as far as it is there, with every folder and link on the way to it: each belongs to this user or to root, and not everybody
    /// may write it, but for folders further up with the sticky bit. Looked at from the root down, so that what was checked can no longer be swapped.
    /// A group that may write is the owner's own choice. On Linux only: elsewhere the access control list of the folder above says who may.
    /// </summary>
    /// <param name="path">Its full path.</param>
    /// <exception cref="VMatrixException"><c>FolderNotOwned</c>, naming whose it is and the mend.</exception>
    public static void Check(string path)
    {
#if NET
        if (OperatingSystem.IsLinux() && path.StartsWith('/'))
            Walk(path, (why, inner) => NotOwned(path, why, inner), groupsToo: false);
#endif
    }

    /// <summary>
    /// Checks a pool file that root is to act by: what it names runs as root, so only root may write it, or put another file in its place in any
    /// folder or through any link on the way to it. Root's own group may write, and a folder with the sticky bit holds each one's own files, as sudo
    /// and sshd (StrictModes) have it. Other users than root act by their own rights alone: for them, and elsewhere than on Linux, nothing is checked.
    /// </summary>
    /// <param name="path">Its full path; one that is not there is left to its reader.</param>
    /// <exception cref="VMatrixException"><c>PoolNotOwned</c>, naming who else may write what, and the mend.</exception>
    public static void CheckPoolFile(string path)
    {
#if NET
        if (OperatingSystem.IsLinux() && path.StartsWith('/') && OwnedFile.Linux.Geteuid() == 0)
            Walk(path, (why, inner) => new VMatrixException("PoolNotOwned", VMatrixErrorKind.Denied,
                $"Root does not act by the pool file {path}: {why}. Whoever that is could name what runs as root. Make it root's (chown root, chmod go-w), keep it elsewhere, or run this as its owner.", inner), groupsToo: true);
#endif
    }

#if NET
    // Root's own group, of which only root is: what is made with a umask of 002 is writable for it.
    private const uint RootsGroup = 0;

    [SupportedOSPlatform("linux")]
    private static void Walk(string path, Func<string, Exception?, VMatrixException> refuse, bool groupsToo)
    {
        const int MostLinks = 40;
        var rest = new Stack<string>(Parts(Path.GetFullPath(path)));
        string at = "";
        try
        {
            Look("/", last: rest.Count == 0);
            for (int links = 0; rest.TryPop(out string? name);)
            {
                if (name == ".")
                    continue;
                if (name == "..")
                {
                    at = at.Length == 0 ? "" : at[..at.LastIndexOf('/')];
                    continue;
                }

                string here = at + "/" + name;
                if (Look(here, last: rest.Count == 0) is not { } target)
                {
                    at = here;
                    continue;
                }

                if (++links > MostLinks)
                    throw refuse($"it leads through more than {MostLinks} links", null);
                foreach (string part in Parts(target))
                    rest.Push(part);
                if (target.StartsWith('/'))
                    at = "";
            }
        }
        catch (FileNotFoundException)
        {
            // From here on we make it ourselves.
        }
        catch (Win32Exception e)
        {
            throw refuse(e.Message.TrimEnd('.'), e);
        }

        // Where it leads when it is a link, else null.
        string? Look(string here, bool last)
        {
            using var found = OwnedFile.Linux.Open(null, here, OwnedFile.Linux.PathOnly) ?? throw new FileNotFoundException();
            var (kind, owner, group, mode) = OwnedFile.Linux.Examine(found, here);
            uint user = OwnedFile.Linux.Geteuid();
            if (owner != 0 && owner != user)
                throw refuse(FormattableString.Invariant($"{(here == path ? "it" : here)} belongs to user {owner}, not to user {user}, who runs this, or root"), null);
            if (kind == OwnedFile.Linux.Link)
                return OwnedFile.Linux.ReadLink(found, here);
            if (!last && (mode & OwnedFile.Linux.Sticky) != 0)
                return null;
            if ((mode & OwnedFile.Linux.EverybodyWrites) != 0)
                throw refuse($"everybody may write {(here == path ? "it" : here)} (chmod o-w {here})", null);
            if (groupsToo && (mode & OwnedFile.Linux.GroupWrites) != 0 && group != RootsGroup)
                throw refuse(FormattableString.Invariant($"group {group} may write {(here == path ? "it" : here)} (chmod g-w {here})"), null);
            return null;
        }
    }
#endif

    /// <summary>True when a folder is this very user's, and passes <see cref="Check"/>; false where it cannot be told.</summary>
    public static bool IsMine(string path)
    {
#if NET
        try
        {
            Check(path);
            return BelongsToMe(path);
        }
        catch (VMatrixException)
        {
            return false;
        }
#else
        return false;
#endif
    }

#if NET
    /// <summary>True when what has this name belongs to this very user; false where it cannot be told.</summary>
    public static bool BelongsToMe(string path)
    {
        if (!OperatingSystem.IsLinux())
            return false;
        try
        {
            using var found = OwnedFile.Linux.Open(null, path, OwnedFile.Linux.PathOnly);
            return found is not null && OwnedFile.Linux.Examine(found, path).Owner == OwnedFile.Linux.Geteuid();
        }
        catch (Win32Exception)
        {
            return false;
        }
    }

    private static IEnumerable<string> Parts(string path) => path.Split('/', StringSplitOptions.RemoveEmptyEntries).Reverse();

    private static VMatrixException NotOwned(string path, string why, Exception? inner) => new("FolderNotOwned", VMatrixErrorKind.Denied,
        $"Nothing is written in {path}: {why}. Whoever that is could lead it elsewhere. Make it your own, run this as its owner, or name another folder in the pool file.", inner);
#endif
}
