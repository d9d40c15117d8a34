using System;
using System.Collections.Generic;

namespace VMatrix.Pools;

/// <summary>Reads pool files.</summary>
public static class PoolFile
{
    /// <summary>Reads a pool file and reports every mistake in it at once.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The pool, or null when there are findings.</returns>
    public static (PoolSpec? Pool, IReadOnlyList<PoolFinding> Findings) Read(string path) => throw new NotImplementedException();
}
