using System;
using System.IO;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Paths as the user's session writes them. A restricted session may have no provider for files: then a path is the system's own and whole.</summary>
internal static class Paths
{
    /// <summary>The full path of a file or folder.</summary>
    /// <exception cref="VMatrixException"><c>PathNotFile</c> when it is a path of something else, or is not whole where there is no current folder.</exception>
    public static string Resolve(SessionState session, string path)
    {
        if (!HasFiles(session))
        {
            return Path.IsPathRooted(path) ? Path.GetFullPath(path) : throw new VMatrixException("PathNotWhole", VMatrixErrorKind.InvalidInput,
                $"'{path}' is not a full path, and this session has no current folder; name the full path of the file.");
        }

        try
        {
            string full = session.Path.GetUnresolvedProviderPathFromPSPath(path, out var provider, out _);
            return provider.Name == "FileSystem" ? full : throw new VMatrixException("PathNotFile", VMatrixErrorKind.InvalidInput,
                $"'{path}' is a path of {provider.Name}, not of a file.");
        }
        catch (Exception error) when (error is System.Management.Automation.DriveNotFoundException or ProviderNotFoundException or ProviderInvocationException or PSInvalidOperationException)
        {
            throw new VMatrixException("PathNotFile", VMatrixErrorKind.InvalidInput, $"'{path}' is not the path of a file: {error.Message}", error);
        }
    }

    /// <summary>The current folder; null in a session that has none.</summary>
    public static string? Current(SessionState session) => HasFiles(session) ? session.Path.CurrentFileSystemLocation.ProviderPath : null;

    private static bool HasFiles(SessionState session)
    {
        try
        {
            return session.Provider.GetAll().Any(p => p.Name == "FileSystem") && session.Drive.GetAllForProvider("FileSystem").Count > 0;
        }
        catch (ProviderNotFoundException)
        {
            return false;
        }
    }
}
