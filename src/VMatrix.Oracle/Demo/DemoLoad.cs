using System;
using System.Collections.Generic;

namespace VMatrix.Oracle.Demo;

/// <summary>The demo's load: it moves from FINANCE to SPORTS and back, and then overloads both.</summary>
internal static class DemoLoad
{
    /// <summary>The phases.</summary>
    /// <param name="lasts">How long all of them last together.</param>
    /// <param name="capacity">Requests per second that one server carries.</param>
    /// <param name="servers">Servers that the pool has room for.</param>
    public static IReadOnlyList<LoadPhase> Phases(TimeSpan lasts, double capacity, int servers)
    {
        // The busy service asks for a little more than all but one of the servers can carry, the quiet one for a quarter of one server.
        // Between the two the load is down for a moment, as it is between the close of trading and the evening's match.
        double busy = capacity * (servers - 1) * 1.06, quiet = capacity * 0.25, overload = capacity * servers * 0.8;
        return
        [
            Phase(0.25, busy, quiet),
            Phase(0.10, quiet, quiet),
            Phase(0.25, quiet, busy),
            Phase(0.10, quiet, quiet),
            Phase(0.22, busy, quiet),
            Phase(0.08, overload, overload),
        ];

        LoadPhase Phase(double share, double finance, double sports) =>
            new(lasts * share, new Dictionary<string, double> { ["FINANCE"] = finance, ["SPORTS"] = sports });
    }
}
