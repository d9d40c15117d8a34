using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using VMatrix.Pools;

namespace VMatrix.Tests.Pools;

/// <summary>Writes the JSON Schema and the list of keys from the table that the reader itself uses.</summary>
internal static class PoolSchema
{
    private static readonly JsonSerializerOptions s_options = new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, NewLine = "\n" };

    /// <summary>The schema, in draft 07, which the YAML editors understand best.</summary>
    public static string Schema()
    {
        var definitions = new JsonObject();
        foreach (var (_, section) in Sections().Where(s => s.Section != PoolTable.Pool))
            definitions.TryAdd(section.Name, Section(section));
        var root = new JsonObject
        {
            ["$schema"] = "http://json-schema.org/draft-07/schema#",
            ["title"] = "VMatrix pool file",
        };
        foreach (var (name, value) in Section(PoolTable.Pool).ToArray())
            root[name] = value!.DeepClone();
        root["definitions"] = definitions;
        return root.ToJsonString(s_options) + "\n";
    }

    /// <summary>Every section with the place where it stands, in the order of the file.</summary>
    public static IEnumerable<(string Path, PoolSection Section)> Sections() => Walk("", PoolTable.Pool);

    /// <summary>The keys as the help lists them.</summary>
    public static string Docs()
    {
        var text = new StringBuilder();
        foreach (var (path, section) in Sections())
        {
            text.Append(path.Length == 0 ? "\n### The file\n\n" : $"\n### {path}\n\n").Append(section.Doc).Append("\n\n");
            foreach (var key in section.Keys)
            {
                var otherwise = key.Required ? "required"
                    : key.Otherwise is not null ? $"default: {key.Otherwise}"
                    : Default(section, key) is { } value ? $"default `{value}`" : key.Kind is ListOf ? "default none" : null;
                text.Append(CultureInfo.InvariantCulture, $"- `{key.Name}` ({Brief(key.Kind)}{(otherwise is null ? "" : $"; {otherwise}")}): {key.Doc}\n");
            }
        }

        return text.ToString();
    }

    private static IEnumerable<(string, PoolSection)> Walk(string path, PoolSection section)
    {
        yield return (path, section);
        foreach (var key in section.Keys)
        {
            var (inner, suffix) = key.Kind switch { PoolSection s => (s, ""), ListOf { Item: PoolSection s } => (s, "[]"), _ => (null, "") };
            if (inner is not null)
                foreach (var found in Walk($"{path}{(path.Length == 0 ? "" : ".")}{key.Name}{suffix}", inner))
                    yield return found;
        }
    }

    /// <summary>A kind in few words: the help explains sizes, times and names once.</summary>
    private static string Brief(PoolKind kind) => kind switch
    {
        PoolSection => "section",
        ListOf { Item: PoolSection } => "list of sections",
        ListOf { Item: OneOf o } => $"list of {Brief(o)}",
        ListOf l => $"list of {Brief(l.Item).Replace("name", "names", StringComparison.Ordinal).Replace("range", "ranges", StringComparison.Ordinal)}",
        Flag => "true or false",
        Whole w => $"{w.Least} to {w.Most}",
        Number n => string.Create(CultureInfo.InvariantCulture, $"{(n.Above ? "above " : "")}{n.Least} to {n.Most}"),
        Share => "share",
        Rate => "rate",
        Size s => $"size, {Size.Text(s.Least)} to {Size.Text(s.Most)}",
        Duration d => d.Allowed[2..d.Allowed.IndexOf(", such", StringComparison.Ordinal)].Replace("time from", "time,", StringComparison.Ordinal),
        TimeOfDay => "time of day",
        OneOf o => string.Join(", ", o.Words.Select(w => $"`{w}`")),
        Listen => "address and port",
        Address => "IPv4 address",
        Addresses => "range of IPv4 addresses",
        PathTo => "path",
        VMatrix.Pools.Text t when t == VMatrix.Pools.Text.Name => "name",
        VMatrix.Pools.Text t when t == VMatrix.Pools.Text.HostName => "name or range",
        VMatrix.Pools.Text t when t == VMatrix.Pools.Text.ServerName => "name of a server, with * and ?",
        VMatrix.Pools.Text t when t == VMatrix.Pools.Text.HttpPath => "path of a web request",
        _ => "text",
    };

    /// <summary>What holds when a key is missing, as it would stand in a file; null when that is nothing.</summary>
    public static string? Default(PoolSection section, PoolKey key) =>
        key is { Required: false, Otherwise: null } && key.Kind is not (PoolSection or ListOf) && section.PropertyOf(key.Name)?.GetValue(section.Defaults()) is { } value ? key.Kind.Write(value) : null;

    private static JsonObject Section(PoolSection section)
    {
        var properties = new JsonObject();
        foreach (var key in section.Keys)
        {
            var schema = Kind(key.Kind);
            schema["description"] = key.Doc + (key.Kind is PoolSection or ListOf { Item: PoolSection } ? "" : $" Allowed: {key.Kind.Allowed}.") + (key.Otherwise is null ? "" : $" Default: {key.Otherwise}.");
            if (Default(section, key) is { } value)
                schema["default"] = Json(key.Kind, value);
            if (key.Example is not null && key.Kind is not ListOf)
                schema["examples"] = new JsonArray(Json(key.Kind, key.Example));

            // Whatever stands beside a $ref is not read in draft 07.
            if (schema.ContainsKey("$ref"))
            {
                var reference = schema["$ref"]!.DeepClone();
                schema.Remove("$ref");
                schema["allOf"] = new JsonArray(new JsonObject { ["$ref"] = reference });
            }

            properties[key.Name] = schema;
        }

        var result = new JsonObject { ["description"] = section.Doc };
        var required = section.Keys.Where(k => k.Required).Select(k => (JsonNode)k.Name).ToArray();

        // A section all of whose keys are commented out has no value in YAML.
        result["type"] = required.Length == 0 ? new JsonArray("object", "null") : "object";
        result["additionalProperties"] = false;
        if (required.Length > 0)
            result["required"] = new JsonArray(required);
        result["properties"] = properties;
        return result;
    }

    private static JsonObject Kind(PoolKind kind) => kind switch
    {
        PoolSection s => new() { ["$ref"] = $"#/definitions/{s.Name}" },
        ListOf l => List(l),
        Flag => new() { ["type"] = "boolean" },
        Whole w => new() { ["type"] = "integer", ["minimum"] = w.Least, ["maximum"] = w.Most },
        Number n => Bounds(n.Least, n.Most, n.Above),
        Share s => new() { ["anyOf"] = new JsonArray(Bounds(0, 1, s.Above), Pattern(@"^[0-9]+(\.[0-9]+)?%$")) },
        Rate r => new() { ["anyOf"] = new JsonArray(Bounds(0, 1e7, r.Above), Pattern(@"^[0-9]+(\.[0-9]+)? ?/ ?[smh]$")) },
        Size => Pattern(@"^[0-9]+(\.[0-9]+)? ?(B|KiB|MiB|GiB|TiB)$"),
        Duration => Pattern(@"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$"),
        TimeOfDay => Pattern("^([01][0-9]|2[0-3]):[0-5][0-9]$"),
        OneOf o => new() { ["enum"] = new JsonArray([.. o.Words.Select(w => (JsonNode)w)]) },
        VMatrix.Pools.Text t => Pattern(t.Pattern),
        Listen => Pattern(Listen.Pattern),
        Address => Pattern($"^{Address.Pattern}$"),
        Addresses => Pattern($"^{Address.Pattern} *- *{Address.Pattern}$"),
        PathTo => new() { ["type"] = "string", ["minLength"] = 1, ["maxLength"] = 1000 },
        _ => throw new InvalidOperationException($"The schema has no words for {kind.GetType().Name}."),
    };

    private static JsonObject List(ListOf list)
    {
        var schema = new JsonObject { ["type"] = "array", ["items"] = Kind(list.Item), ["maxItems"] = list.Most };
        if (list.Least > 0)
            schema["minItems"] = list.Least;
        return schema;
    }

    private static JsonObject Bounds(double least, double most, bool above) => new() { ["type"] = "number", [above ? "exclusiveMinimum" : "minimum"] = least, ["maximum"] = most };

    private static JsonObject Pattern(string pattern) => new() { ["type"] = "string", ["pattern"] = pattern };

    private static JsonValue Json(PoolKind kind, string value) => kind switch
    {
        Flag => JsonValue.Create(value == "true"),
        Whole => JsonValue.Create(long.Parse(value, CultureInfo.InvariantCulture)),
        Number => JsonValue.Create(double.Parse(value, CultureInfo.InvariantCulture)),
        Share or Rate when double.TryParse(value, CultureInfo.InvariantCulture, out var number) => JsonValue.Create(number),
        _ => JsonValue.Create(value.Trim('"')),
    };
}
