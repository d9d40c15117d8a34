using System;
using System.IO;

namespace VMatrix.Loading;

/// <summary>Tells a missing or damaged file of the module from every other error.</summary>
internal static class ModuleFiles
{
    private static readonly string s_folder = Path.GetDirectoryName(typeof(ModuleFiles).Assembly.Location)!;

    /// <summary>The error to show when a file of the module could not be loaded; null when <paramref name="error"/> is about something else.</summary>
    public static VMatrixException? Explain(Exception error)
    {
        for (Exception? cause = error; cause is not null; cause = cause.InnerException)
        {
            string? what = cause switch
            {
                VMatrixException => null,
                FileNotFoundException { FileName: { } name } when IsAssembly(name) => $"{FileOf(name)} is missing",
                FileLoadException { FileName: { } name } when IsAssembly(name) => $"{FileOf(name)} cannot be loaded",
                BadImageFormatException bad => $"{(string.IsNullOrEmpty(bad.FileName) ? "an assembly" : FileOf(bad.FileName!))} is damaged",
                DllNotFoundException native => $"a native library is missing ({FirstLine(native.Message)})",
                TypeLoadException or MissingMemberException => $"its files are of several versions ({FirstLine(cause.Message)})",
                _ => null,
            };
            if (what is not null)
            {
                return new VMatrixException("ModuleIncomplete", VMatrixErrorKind.Corrupt,
                    $"The module VMatrix in '{s_folder}' is not whole: {what}. Install the module again, then start a new PowerShell session.", error);
            }
        }

        return null;
    }

    // A file of the user's has a path; an assembly that was not found has an identity.
    private static bool IsAssembly(string name) => name.Contains(", Version=") || name.EndsWith(".dll", StringComparison.OrdinalIgnoreCase);

    private static string FileOf(string name) => name.Contains(", Version=") ? name.Split(',')[0] + ".dll" : Path.GetFileName(name);

    private static string FirstLine(string message) => message.Split('\r', '\n')[0].TrimEnd('.');
}
