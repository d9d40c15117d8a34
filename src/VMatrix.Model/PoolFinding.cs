namespace VMatrix;

/// <summary>One mistake in a pool file.</summary>
/// <param name="Path">Full path of the file.</param>
/// <param name="Line">Line, from 1.</param>
/// <param name="Column">Column, from 1.</param>
/// <param name="Key">The setting, as a dotted path such as <c>services[1].least</c>.</param>
/// <param name="Found">What stands there.</param>
/// <param name="Message">What is wrong, what is allowed and how to mend it, as one sentence.</param>
public sealed record PoolFinding(string Path, int Line, int Column, string Key, string Found, string Message)
{
    /// <summary>Full path of the file, as every object of a pool has it.</summary>
    public string Pool => Path;

    /// <summary>The finding as <c>path(line,column): message</c>.</summary>
    public override string ToString() => $"{Path}({Line},{Column}): {Message}";
}
