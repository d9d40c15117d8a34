using System;
using System.IO;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Paths as the user's session writes them. A restricted session may have no provider and no drive for files: there a path is the system's own, and whole.</summary>
internal static class Paths
{
    /// <summary>The full path of a file or folder.</summary>
    /// <exception cref="VMatrixException"><c>PathNotFile</c> when it is a path of something else, <c>PathNotWhole</c> when it is not a full path in a session that has no current folder.</exception>
    public static string Resolve(SessionState session, string path)
    {
        try
        {
            string full = session.Path.GetUnresolvedProviderPathFromPSPath(path, out var provider, out _);
            return provider.Name == "FileSystem" ? full : throw new VMatrixException("PathNotFile", VMatrixErrorKind.InvalidInput,
                $"'{path}' is a path of {provider.Name}, not of a file.");
        }
        catch (SessionStateException) when (Path.IsPathRooted(path))
        {
            // Without the provider or the drive the system still knows the path.
            return Path.GetFullPath(path);
        }
        catch (SessionStateException error)
        {
            throw new VMatrixException("PathNotWhole", VMatrixErrorKind.InvalidInput, $"'{path}' is not the full path of a file, and this session resolves no other: {error.Message}", error);
        }
        catch (Exception error) when (error is ProviderInvocationException or PSInvalidOperationException or ArgumentException or NotSupportedException)
        {
            throw new VMatrixException("PathNotFile", VMatrixErrorKind.InvalidInput, $"'{path}' is not the path of a file: {error.Message}", error);
        }
    }

    /// <summary>The current folder; null in a session that has none.</summary>
    public static string? Current(SessionState session)
    {
        try
        {
            return session.Path.CurrentFileSystemLocation?.ProviderPath;
        }
        catch (SessionStateException)
        {
            return null;
        }
    }
}
