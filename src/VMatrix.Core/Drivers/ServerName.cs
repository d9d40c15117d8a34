using VMatrix.Pools;

namespace VMatrix.Drivers;

/// <summary>What a server may be called: what a pool file may call anything. Names become words of command lines, of files that guests read and of people's screens.</summary>
internal static class ServerName
{
    /// <summary>True when a server may be called so.</summary>
    public static bool IsValid(string name) => Text.Name.IsMatch(name);

    /// <summary>Refuses a name that no server may have.</summary>
    /// <exception cref="VMatrixException"><c>ServerNameInvalid</c>.</exception>
    public static void Check(string name)
    {
        if (!IsValid(name))
            throw new VMatrixException("ServerNameInvalid", VMatrixErrorKind.InvalidInput, $"'{PlainText.Line(name, 100)}' cannot be a server's name; it must be {Text.Name.Allowed}.");
    }
}
