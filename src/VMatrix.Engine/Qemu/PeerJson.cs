using System;
using System.Collections.Generic;
using System.IO;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VMatrix.Qemu;

/// <summary>What QEMU and what is inside a guest say, read as what it must be: anything else is an <see cref="IOException"/>, as if they had hung up, whatever kind of JSON it is.</summary>
internal static class PeerJson
{
    private static readonly UTF8Encoding s_strict = new(false, throwOnInvalidBytes: true);
    private static readonly JsonDocumentOptions s_options = new() { AllowDuplicateProperties = false };

    /// <summary>A line as an object.</summary>
    public static JsonObject Parse(ReadOnlySpan<byte> line)
    {
        try
        {
            return JsonNode.Parse(s_strict.GetString(line), null, s_options) as JsonObject ?? throw new IOException("The other side sent JSON that is no object.");
        }
        catch (Exception e) when (e is JsonException or ArgumentException or InvalidOperationException)
        {
            throw new IOException("The other side does not speak JSON.", e);
        }
    }

    /// <summary>What stands under a name in an object; null when nothing does.</summary>
    public static JsonNode? Member(this JsonNode? node, string name)
    {
        try
        {
            return node is null ? null
                : node is JsonObject all ? all.TryGetPropertyValue(name, out var value) ? value : null
                : throw Odd(name, "an object");
        }
        catch (InvalidOperationException e)
        {
            throw new IOException("The other side sent names that are no text.", e);
        }
    }

    /// <summary>A text; null when it is not there.</summary>
    public static string? Text(this JsonNode? node, string name) => Value<string>(node, name, "a text");

    /// <summary>A whole number; null when it is not there.</summary>
    public static long? Whole(this JsonNode? node, string name) => Member(node, name) is null ? null : Value<long>(node, name, "a whole number");

    /// <summary>True or false; null when it is not there.</summary>
    public static bool? Flag(this JsonNode? node, string name) => Member(node, name) is null ? null : Value<bool>(node, name, "true or false");

    /// <summary>The items of a list; none when it is not there.</summary>
    public static IReadOnlyList<JsonNode?> Items(this JsonNode? node) => node switch
    {
        null => [],
        JsonArray list => [.. list],
        _ => throw Odd("return", "a list"),
    };

    private static T? Value<T>(JsonNode? node, string name, string what)
    {
        try
        {
            return Member(node, name) switch
            {
                null => default,
                JsonValue value when value.TryGetValue<T>(out var read) => read,
                _ => throw Odd(name, what),
            };
        }
        catch (InvalidOperationException e)
        {
            // Half a character, for one.
            throw new IOException($"The other side sent a '{name}' that cannot be read.", e);
        }
    }

    private static IOException Odd(string name, string what) => new($"The other side sent a '{name}' that is not {what}.");
}
