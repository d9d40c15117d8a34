using System;
using System.Collections;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Reflection;

namespace VMatrix.Doubles;

/// <summary>A call that no module of Windows would have taken: always a mistake of the caller, never of the world.</summary>
public sealed class BindingException(string message) : Exception(message);

/// <summary>A command with its parameters as they were bound.</summary>
public sealed record BoundCommand(SurfaceCommand Command, SurfaceSet Set, IReadOnlyDictionary<string, object?> Parameters)
{
    private readonly HashSet<string> _read = new(StringComparer.OrdinalIgnoreCase) { "Confirm", "WhatIf", "Force", "Credential", "DestinationCredential" };

    /// <summary>The parameters that were given and that nobody has looked at.</summary>
    public IEnumerable<string> Unread => Parameters.Where(given => given.Value is not false && !_read.Contains(given.Key)).Select(given => given.Key);

    /// <summary>A parameter's value, or default when it was not given.</summary>
    public T? Get<T>(string parameter) => Has(parameter) && Parameters[parameter] is T typed ? typed : default;

    /// <summary>A parameter's values; none when it was not given.</summary>
    public IReadOnlyList<T> All<T>(string parameter) => !Has(parameter) ? []
        : Parameters[parameter] is T one ? [one]
        : Parameters[parameter] is IEnumerable many and not string ? [.. many.OfType<T>()] : [];

    public bool Has(string parameter)
    {
        _read.Add(parameter);
        return Parameters.ContainsKey(parameter);
    }

    public bool Is(string parameter) => Get<bool>(parameter);
}

/// <summary>
/// Binds calls against the published surface as PowerShell does, and stricter where PowerShell is lenient: no abbreviated names, no number
/// where a text is asked for. Keeps count of what was bound, for the coverage table.
/// </summary>
public sealed class SurfaceBinder
{
    private static readonly string[] s_common = ["ErrorAction", "WarningAction", "InformationAction", "ProgressAction", "Verbose", "Debug"];

    /// <summary>Each command and parameter set that was bound, with the parameters that were given in any call.</summary>
    public ConcurrentDictionary<(string Command, string Set), ConcurrentDictionary<string, bool>> Record { get; } = new();

    /// <summary>Binds a call.</summary>
    /// <param name="name">The command with its module: <c>Hyper-V\Get-VM</c>.</param>
    /// <param name="given">The parameters by name.</param>
    /// <param name="input">The object of the pipeline; null for none.</param>
    /// <exception cref="BindingException">The surface does not have it so.</exception>
    public BoundCommand Bind(string name, IReadOnlyDictionary<string, object?> given, object? input = null)
    {
        var command = Find(name);
        var bound = new Dictionary<string, object?>(StringComparer.OrdinalIgnoreCase);
        foreach (var (key, value) in given)
        {
            if (s_common.Contains(key, StringComparer.OrdinalIgnoreCase))
                continue;
            var parameter = command.Resolve(key) ?? throw new BindingException($"{command.FullName} has no parameter -{key}. It has {string.Join(", ", command.Parameters.Keys.Order())}.");
            if (!bound.TryAdd(parameter, Convert(command, parameter, value)))
                throw new BindingException($"{command.FullName}: -{parameter} is given twice.");
        }

        var sets = command.Sets.Where(set => bound.Keys.All(set.Parameters.ContainsKey)).ToArray();
        if (sets.Length == 0)
            throw new BindingException($"{command.FullName}: no parameter set has all of {Dashed(bound.Keys)}: {string.Join("; ", command.Sets.Select(set => $"{set.Name} lacks {Dashed(bound.Keys.Where(key => !set.Parameters.ContainsKey(key)))}"))}.");
        var takes = new Dictionary<SurfaceSet, (string Parameter, object? Value)[]>();
        if (input is not null)
        {
            foreach (var set in sets)
            {
                if (Take(command, set, bound, input) is { Length: > 0 } taken)
                    takes[set] = taken;
            }

            sets = [.. sets.Where(takes.ContainsKey)];
            if (sets.Length == 0)
                throw new BindingException($"{command.FullName} takes no {input.GetType().Name} from the pipeline together with {Dashed(bound.Keys)}.");
        }

        var whole = sets.Where(set => Missing(set).Length == 0).ToArray();
        if (whole.Length == 0)
            throw new BindingException($"{command.FullName}: a mandatory parameter is missing: {string.Join("; ", sets.Select(set => $"{set.Name} wants {Dashed(Missing(set))}"))}.");
        var chosen = whole.Length == 1 ? whole[0]
            : whole.FirstOrDefault(set => set.Name == command.Default)
            ?? throw new BindingException($"{command.FullName} with {Dashed(bound.Keys)} fits several parameter sets and none is the default: {string.Join(", ", whole.Select(set => set.Name))}. Give a parameter that only one of them has; a switch that is false counts.");
        if (takes.TryGetValue(chosen, out var from))
        {
            foreach (var (parameter, value) in from)
                bound[parameter] = value;
        }

        var record = Record.GetOrAdd((command.FullName, chosen.Name), _ => new());
        foreach (var parameter in bound.Keys)
            record[parameter] = true;
        return new BoundCommand(command, chosen, bound);

        string[] Missing(SurfaceSet set) => [.. set.Parameters.Where(use => use.Value.Mandatory && !bound.ContainsKey(use.Key) && !(takes.TryGetValue(set, out var taken) && taken.Any(each => each.Parameter.Equals(use.Key, StringComparison.OrdinalIgnoreCase)))).Select(use => use.Key)];
    }

    public static SurfaceCommand Find(string name)
    {
        var parts = name.Split('\\');
        if (parts.Length != 2)
            throw new BindingException($"{name} must be called with its module: other modules have commands of the same name.");
        if (!Surface.All.TryGetValue(parts[0], out var surface))
            throw new BindingException($"{name}: the module {parts[0]} is none of {string.Join(", ", Surface.All.Keys)}.");
        return surface.Commands.GetValueOrDefault(parts[1]) ?? throw new BindingException($"The module {surface.Module} has no command {parts[1]}.");
    }

    private static string Dashed(IEnumerable<string> names) => string.Join(", ", names.Select(name => "-" + name)) is { Length: > 0 } text ? text : "no parameter";

    private static (string, object?)[] Take(SurfaceCommand command, SurfaceSet set, Dictionary<string, object?> bound, object input)
    {
        var taken = new List<(string, object?)>();
        foreach (var (parameter, use) in set.Parameters.Where(use => use.Value.ByValue && !bound.ContainsKey(use.Key)))
        {
            if (IsOf(command, command.Parameters[parameter], input))
                taken.Add((parameter, Convert(command, parameter, input)));
        }

        if (taken.Count > 0)
            return [.. taken];
        foreach (var (parameter, use) in set.Parameters.Where(use => use.Value.ByName && !bound.ContainsKey(use.Key)))
        {
            var names = command.Parameters[parameter].Aliases.Prepend(parameter);
            if (input is string or ValueType)
                continue;
            if (names.Select(name => input.GetType().GetProperty(name, BindingFlags.Instance | BindingFlags.Public | BindingFlags.IgnoreCase)).FirstOrDefault(property => property is not null)?.GetValue(input) is { } value && IsOf(command, command.Parameters[parameter], value))
                taken.Add((parameter, Convert(command, parameter, value)));
        }

        return [.. taken];
    }

    // Without conversion: what the pipeline offers first.
    private static bool IsOf(SurfaceCommand command, SurfaceParameter parameter, object value) => parameter.ElementType switch
    {
        "String" => value is string,
        "Guid" => value is Guid,
        "PSObject" or "Object" => true,
        var type => DoubleTypes.Find(command.Module, type) is { } clr && clr.IsInstanceOfType(value),
    };

    private static object? Convert(SurfaceCommand command, string name, object? value)
    {
        var parameter = command.Parameters[name];
        if (value is null && parameter.TakesNull)
            return null;
        if (value is null)
            throw new BindingException($"{command.FullName}: -{name} is null; leave it out instead.");
        if (!parameter.IsArray)
        {
            if (value is Array { Length: 1 } single && parameter.ElementType != "PSObject")
                value = single.GetValue(0)!;
            return ConvertOne(command, name, parameter, value);
        }

        var items = value is IEnumerable many and not string and not IDictionary ? many.Cast<object?>().ToArray() : [value];
        if (items.Length == 0)
            throw new BindingException($"{command.FullName}: -{name} is an empty array.");
        return items.Select(item => ConvertOne(command, name, parameter, item)).ToArray();
    }

    private static object ConvertOne(SurfaceCommand command, string name, SurfaceParameter parameter, object? value)
    {
        var type = parameter.ElementType;
        var wrong = new BindingException($"{command.FullName}: -{name} is a {parameter.Type} and cannot take {(value is null ? "null" : $"the {value.GetType().Name} '{value}'")}.");
        if (value is null)
            throw wrong;
        object? converted = type switch
        {
            "String" => value is string or Guid ? value.ToString() : null,
            "SwitchParameter" or "Boolean" => value is bool ? value : null,
            "Guid" => value is Guid ? value : value is string text && Guid.TryParse(text, out var guid) ? guid : null,
            "Int16" or "Int32" or "Int64" or "UInt16" or "UInt32" or "UInt64" or "Byte" => Number(type, value),
            "Version" => value is Version ? value : value is string text && Version.TryParse(text, out var version) ? version : null,
            "TimeSpan" => value is TimeSpan ? value : value is string text && TimeSpan.TryParse(text, CultureInfo.InvariantCulture, out var span) ? span : null,
            "DateTime" => value is DateTime ? value : value is DateTimeOffset moment ? moment.UtcDateTime : null,
            "IPAddress" => value is System.Net.IPAddress ? value : value is string text && System.Net.IPAddress.TryParse(text, out var address) ? address : null,
            "PSObject" or "Object" => value,
            "PSCredential" => value.GetType().Name == "ShellSecret" ? value : null,
            _ => Typed(command.Module, type, parameter, value),
        };
        if (converted is string word && parameter.Values.Count > 0 && !parameter.Values.Contains(word, StringComparer.OrdinalIgnoreCase))
            throw new BindingException($"{command.FullName}: -{name} takes {string.Join(", ", parameter.Values)}, and not '{word}'.");
        return converted ?? throw wrong;
    }

    private static object? Typed(string module, string type, SurfaceParameter parameter, object value)
    {
        if (DoubleTypes.Find(module, type) is not { } clr)
            return value is string word && parameter.Values.Contains(word, StringComparer.OrdinalIgnoreCase) ? word : null;
        if (clr.IsInstanceOfType(value))
            return value;
        if (!clr.IsEnum)
            return null;
        return value switch
        {
            string text when !char.IsDigit(text.FirstOrDefault()) && Enum.TryParse(clr, text, ignoreCase: true, out var named) => named,
            int or long when Enum.IsDefined(clr, System.Convert.ChangeType(value, Enum.GetUnderlyingType(clr), CultureInfo.InvariantCulture)) => Enum.ToObject(clr, value),
            _ => null,
        };
    }

    private static object? Number(string type, object value)
    {
        try
        {
            return value is bool or string or char || !value.GetType().IsPrimitive ? null : System.Convert.ChangeType(value, Type.GetType("System." + type)!, CultureInfo.InvariantCulture);
        }
        catch (OverflowException)
        {
            return null;
        }
    }
}
