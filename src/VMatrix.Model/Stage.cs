using System.Collections.Generic;

namespace VMatrix;

/// <summary>Where a server is in its life.</summary>
public enum Stage
{
    /// <summary>Dormant, a file in the nest: no processor, no memory of a host.</summary>
    Nest,

    /// <summary>Running on a shared chamber host, for repair; no live load.</summary>
    Chamber,

    /// <summary>Running on a matrix host under live load, behind the balancer.</summary>
    Matrix,

    /// <summary>Taken out of use. Can be undone until it is purged.</summary>
    Disposed,
}

/// <summary>The legal changes of stage. There is no other list of them.</summary>
public static class StageRules
{
    private static readonly Dictionary<Stage, Stage[]> s_legal = new()
    {
        [Stage.Nest] = [Stage.Chamber, Stage.Matrix, Stage.Disposed],
        [Stage.Chamber] = [Stage.Nest, Stage.Matrix, Stage.Disposed],
        [Stage.Matrix] = [Stage.Nest, Stage.Chamber, Stage.Disposed],
        [Stage.Disposed] = [Stage.Nest],
    };

    /// <summary>The stages that a server in <paramref name="from"/> may change to.</summary>
    public static IReadOnlyList<Stage> LegalFrom(Stage from) => s_legal[from];

    /// <summary>True when a server may change from one stage to the other. A move inside a stage (to another host) is legal in the Chamber and the Matrix.</summary>
    public static bool IsLegal(Stage from, Stage to) =>
        from == to ? from is Stage.Chamber or Stage.Matrix : System.Array.IndexOf(s_legal[from], to) >= 0;

    /// <summary>One sentence that names the legal changes, for errors.</summary>
    public static string Describe(Stage from, Stage to) =>
        $"A server in the {from} cannot move to the {to}; from the {from} it may move to: {string.Join(", ", s_legal[from])}"
        + (from is Stage.Chamber or Stage.Matrix ? ", or to another host." : ".");
}
