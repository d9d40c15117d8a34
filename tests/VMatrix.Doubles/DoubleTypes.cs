using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Doubles;

/// <summary>The classes of the modules that the double has, by the short names that the surface uses.</summary>
internal static class DoubleTypes
{
    private static readonly Dictionary<string, string[]> s_namespaces = new(StringComparer.OrdinalIgnoreCase)
    {
        ["Hyper-V"] = ["Microsoft.HyperV.PowerShell", "Microsoft.Vhd.PowerShell", "Microsoft.Management.Infrastructure"],
        ["FailoverClusters"] = ["Microsoft.FailoverClusters.PowerShell", "Microsoft.Management.Infrastructure"],
        ["NetworkLoadBalancingClusters"] = ["Microsoft.NetworkLoadBalancingClusters.PowerShell"],
        ["CimCmdlets"] = ["Microsoft.Management.Infrastructure"],
        ["VirtualMachineManager"] = ["Microsoft.SystemCenter.VirtualMachineManager"],
    };

    /// <summary>The type of a short name in a module; null when the double has none.</summary>
    public static Type? Find(string module, string name) =>
        s_namespaces[module].Select(space => typeof(DoubleTypes).Assembly.GetType($"{space}.{name}", throwOnError: false, ignoreCase: false)).FirstOrDefault(type => type is not null);

    /// <summary>The namespace that a module's own types are in.</summary>
    public static string NamespaceOf(string module) => s_namespaces[module][0];
}
