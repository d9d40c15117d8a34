using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.IO;
using System.Linq;
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
        if (!OperatingSystem.IsLinux() || !path.StartsWith('/'))
            return;
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
                    throw NotOwned(path, $"leads through more than {MostLinks} links");
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
            throw new VMatrixException("FolderNotOwned", VMatrixErrorKind.Denied, $"Nothing is written in {path}: {e.Message}", e);
        }

        // Where it leads when it is a link, else null.
        string? Look(string here, bool last)
        {
            using var found = OwnedFile.Linux.Open(null, here, OwnedFile.Linux.PathOnly) ?? throw new FileNotFoundException();
            var (kind, owner, mode) = OwnedFile.Linux.Examine(found, here);
            uint user = OwnedFile.Linux.Geteuid();
            if (owner != 0 && owner != user)
                throw NotOwned(path, FormattableString.Invariant($"{(here == path ? "it" : here)} belongs to user {owner}, not to user {user}, who runs this, or root"));
            if (kind == OwnedFile.Linux.Link)
                return OwnedFile.Linux.ReadLink(found, here);
            if ((mode & OwnedFile.Linux.EverybodyWrites) != 0 && (last || (mode & OwnedFile.Linux.Sticky) == 0))
                throw NotOwned(path, $"everybody may write {(here == path ? "it" : here)} (chmod o-w {here})");
            return null;
        }
#endif
    }

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

    private static VMatrixException NotOwned(string path, string why) => new("FolderNotOwned", VMatrixErrorKind.Denied,
        $"Nothing is written in {path}: {why}. Whoever that is could lead it elsewhere. Make it your own, run this as its owner, or name another folder in the pool file.");
#endif
}
