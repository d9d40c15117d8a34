using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;

namespace VMatrix.Doubles;

/// <summary>The published commands of a module: what may be called, and how.</summary>
public sealed class Surface
{
    private static readonly JsonSerializerOptions s_json = new() { PropertyNameCaseInsensitive = true };

    private static readonly Lazy<IReadOnlyDictionary<string, Surface>> s_all = new(() =>
        new[] { "Hyper-V", "FailoverClusters", "NetworkLoadBalancingClusters", "VirtualMachineManager", "CimCmdlets" }.Select(Read).ToDictionary(surface => surface.Module, StringComparer.OrdinalIgnoreCase));

    private Surface(string module, IReadOnlyList<string> aliases, IEnumerable<SurfaceCommand> commands)
    {
        Module = module;
        Aliases = aliases;
        Commands = commands.ToDictionary(command => command.Name, StringComparer.OrdinalIgnoreCase);
        foreach (var command in Commands.Values)
            command.Module = module;
    }

    /// <summary>The modules by name.</summary>
    public static IReadOnlyDictionary<string, Surface> All => s_all.Value;

    public string Module { get; }

    /// <summary>Other names that the module exports.</summary>
    public IReadOnlyList<string> Aliases { get; }

    public IReadOnlyDictionary<string, SurfaceCommand> Commands { get; }

    private static Surface Read(string module)
    {
        using var stream = typeof(Surface).Assembly.GetManifestResourceStream(module + ".json")!;
        using var document = JsonDocument.Parse(stream);
        var root = document.RootElement;
        var aliases = root.TryGetProperty("aliases", out var named) ? named.Deserialize<string[]>()! : [];
        return new Surface(module, aliases, root.GetProperty("commands").Deserialize<SurfaceCommand[]>(s_json)!);
    }
}

/// <summary>One command.</summary>
public sealed class SurfaceCommand
{
    public required string Name { get; init; }

    public string Module { get; internal set; } = "";

    /// <summary>The name of the default parameter set; null for none.</summary>
    public string? Default { get; init; }

    public bool ShouldProcess { get; init; }

    public IReadOnlyList<string> Outputs { get; init; } = [];

    public required IReadOnlyDictionary<string, SurfaceParameter> Parameters { get; init; }

    public required IReadOnlyList<SurfaceSet> Sets { get; init; }

    public string FullName => $"{Module}\\{Name}";

    /// <summary>The parameter of a name or an alias, in any case; null for none. No abbreviations: they break with the next version.</summary>
    public string? Resolve(string name) =>
        Parameters.Keys.FirstOrDefault(parameter => parameter.Equals(name, StringComparison.OrdinalIgnoreCase))
        ?? Parameters.FirstOrDefault(parameter => parameter.Value.Aliases.Contains(name, StringComparer.OrdinalIgnoreCase)).Key;
}

/// <summary>A parameter, the same in every set that has it.</summary>
public sealed class SurfaceParameter
{
    /// <summary>Its type as published, mostly without a namespace: <c>VirtualMachine[]</c>.</summary>
    public required string Type { get; init; }

    public IReadOnlyList<string> Aliases { get; init; } = [];

    /// <summary>The values that are published for it; empty when none are.</summary>
    public IReadOnlyList<string> Values { get; init; } = [];

    /// <summary>True where the reference itself gives $null to it.</summary>
    public bool TakesNull { get; init; }

    public bool IsArray => Type.EndsWith("[]", StringComparison.Ordinal) || Type == "StringCollection" || Type.StartsWith("System.Collections.Generic.List", StringComparison.Ordinal);

    /// <summary>The type of one of its values, without a namespace.</summary>
    public string ElementType
    {
        get
        {
            var type = Type == "StringCollection" ? "String" : Type.EndsWith("[]", StringComparison.Ordinal) ? Type[..^2] : Type;
            if (type.StartsWith("System.Collections.Generic.List", StringComparison.Ordinal))
                type = type[(type.IndexOf('[', StringComparison.Ordinal) + 1)..].TrimEnd(']');
            return type[(type.LastIndexOf('.') + 1)..];
        }
    }
}

/// <summary>A parameter set.</summary>
public sealed class SurfaceSet
{
    public required string Name { get; init; }

    public required IReadOnlyDictionary<string, SurfaceUse> Parameters { get; init; }
}

/// <summary>How a set uses a parameter.</summary>
public sealed class SurfaceUse
{
    public int? Position { get; init; }

    public bool Mandatory { get; init; }

    /// <summary>True when it takes whole objects of the pipeline.</summary>
    public bool ByValue { get; init; }

    /// <summary>True when it takes a property of its name of the pipeline's objects.</summary>
    public bool ByName { get; init; }
}
