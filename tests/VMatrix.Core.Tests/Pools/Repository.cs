using System;
using System.IO;

namespace VMatrix.Tests.Pools;

/// <summary>Finds the repository's own files from where the tests run.</summary>
internal static class Repository
{
    public static string Root { get; } = Find();

    public static string File(string path) => Path.Combine(Root, path);

    private static string Find()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (System.IO.File.Exists(Path.Combine(folder.FullName, "VMatrix.sln")))
                return folder.FullName;
        throw new DirectoryNotFoundException("The tests do not run inside the repository.");
    }
}
