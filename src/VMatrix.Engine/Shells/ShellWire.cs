using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading.Tasks;

namespace VMatrix.Shells;

/// <summary>
/// What goes over the pipes between a shell's two ends: one JSON object a line. To the child <c>{"id":1,"call":{…}}</c> and <c>{"id":1,"cancel":true}</c>;
/// from it <c>{"id":1,"rows":[{…}]}</c>, <c>{"id":1,"error":{…}}</c> (a command's), <c>{"id":1,"fault":{…}}</c> (the shell's) or <c>{"id":1,"cancelled":true}</c>.
/// A value that JSON has no type for is <c>{"$":"guid","v":"…"}</c>; nothing is ever a piece of script.
/// </summary>
internal static class ShellWire
{
    private static readonly JsonSerializerOptions s_json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>A line without its end; line breaks inside texts are escaped by JSON.</summary>
    public static byte[] Line(JsonObject message) => Encoding.UTF8.GetBytes(message.ToJsonString(s_json) + "\n");

    public static async Task SendAsync(Stream stream, byte[] line)
    {
#if NET
        await stream.WriteAsync(line);
#else
        await stream.WriteAsync(line, 0, line.Length);
#endif
        await stream.FlushAsync();
    }

    public static JsonObject? Parse(string line) => JsonNode.Parse(line) as JsonObject;

    public static JsonObject Write(ShellCall call) => new()
    {
        ["commands"] = new JsonArray([.. call.Commands.Select(command => (JsonNode)new JsonObject
        {
            ["name"] = command.Name,
            ["parameters"] = new JsonObject(command.Parameters.Select(p => new KeyValuePair<string, JsonNode?>(p.Key, Write(p.Value)))),
        })]),
        ["properties"] = new JsonArray([.. call.Properties.Select(p => (JsonNode?)p)]),
        ["timeout"] = call.Timeout.Ticks,
    };

    public static ShellCall ReadCall(JsonNode node) => new()
    {
        Commands = [.. node["commands"]!.AsArray().Select(command => new ShellCommand(
            command!["name"]!.GetValue<string>(),
            command["parameters"]!.AsObject().ToDictionary(p => p.Key, p => Read(p.Value), StringComparer.OrdinalIgnoreCase)))],
        Properties = [.. node["properties"]!.AsArray().Select(p => p!.GetValue<string>())],
        Timeout = TimeSpan.FromTicks(node["timeout"]!.GetValue<long>()),
    };

    public static JsonArray Write(IReadOnlyList<PropertyBag> rows) =>
        new([.. rows.Select(row => (JsonNode)new JsonObject(row.Select(p => new KeyValuePair<string, JsonNode?>(p.Key, Write(p.Value)))))]);

    public static IReadOnlyList<PropertyBag> ReadRows(JsonArray rows) => [.. rows.Select(row => ReadBag(row!.AsObject()))];

    public static JsonObject Write(ShellException e) => new()
    {
        ["message"] = e.Message,
        ["command"] = e.Command,
        ["errorId"] = e.ErrorId,
        ["category"] = e.Category,
        ["type"] = e.ExceptionType,
        ["codes"] = new JsonArray([.. e.Codes.Select(code => (JsonNode?)code)]),
    };

    public static ShellException ReadError(JsonNode node) => new(node["message"]!.GetValue<string>())
    {
        Command = node["command"]!.GetValue<string>(),
        ErrorId = node["errorId"]!.GetValue<string>(),
        Category = node["category"]!.GetValue<string>(),
        ExceptionType = node["type"]!.GetValue<string>(),
        Codes = [.. node["codes"]!.AsArray().Select(code => code!.GetValue<int>())],
    };

    public static JsonObject Write(VMatrixException e) => new()
    {
        ["id"] = e.Id,
        ["kind"] = e.Kind.ToString(),
        ["message"] = e.Message,
        ["transient"] = e.IsTransient,
    };

    public static VMatrixException ReadFault(JsonNode node) => new(
        node["id"]!.GetValue<string>(),
        Kind(node["kind"]!.GetValue<string>()),
        node["message"]!.GetValue<string>()) { IsTransient = node["transient"]!.GetValue<bool>() };

    private static VMatrixErrorKind Kind(string name) => Enum.TryParse<VMatrixErrorKind>(name, out var kind) ? kind : VMatrixErrorKind.Failed;

    private static JsonNode? Write(object? value) => value switch
    {
        null => null,
        string text => JsonValue.Create(text),
        bool flag => JsonValue.Create(flag),
        int number => JsonValue.Create(number),
        long number => Tag("long", number.ToString(CultureInfo.InvariantCulture)),
        double number => Tag("double", number.ToString("R", CultureInfo.InvariantCulture)),
        Guid id => Tag("guid", id.ToString("D")),
        TimeSpan time => Tag("time", time.ToString("c", CultureInfo.InvariantCulture)),
        DateTimeOffset at => Tag("date", at.ToString("O", CultureInfo.InvariantCulture)),
        ShellSecret secret => Tag("secret", secret.Name),
        ShellCall call => new JsonObject { ["$"] = "call", ["v"] = Write(call) },
        PropertyBag bag => new JsonObject { ["$"] = "bag", ["v"] = new JsonObject(bag.Select(p => new KeyValuePair<string, JsonNode?>(p.Key, Write(p.Value)))) },
        System.Collections.IEnumerable many => new JsonArray([.. many.Cast<object?>().Select(Write)]),
        _ => throw new ArgumentException($"A {value.GetType()} does not cross to a shell."),
    };

    private static JsonObject Tag(string tag, string value) => new() { ["$"] = tag, ["v"] = value };

    private static object? Read(JsonNode? node) => node switch
    {
        null => null,
        JsonArray many => many.Select(Read).ToArray(),
        JsonObject tagged => ReadTagged(tagged["$"]!.GetValue<string>(), tagged["v"]!),
        JsonValue value => value.GetValueKind() switch
        {
            JsonValueKind.String => value.GetValue<string>(),
            JsonValueKind.Number => value.GetValue<int>(),
            _ => value.GetValue<bool>(),
        },
        _ => throw new InvalidDataException("A value of the shell is of no known type."),
    };

    private static object ReadTagged(string tag, JsonNode value) => tag switch
    {
        "long" => long.Parse(value.GetValue<string>(), CultureInfo.InvariantCulture),
        "double" => double.Parse(value.GetValue<string>(), CultureInfo.InvariantCulture),
        "guid" => Guid.Parse(value.GetValue<string>()),
        "time" => TimeSpan.Parse(value.GetValue<string>(), CultureInfo.InvariantCulture),
        "date" => DateTimeOffset.Parse(value.GetValue<string>(), CultureInfo.InvariantCulture, DateTimeStyles.RoundtripKind),
        "secret" => new ShellSecret(value.GetValue<string>()),
        "call" => ReadCall(value),
        "bag" => ReadBag(value.AsObject()),
        _ => throw new InvalidDataException($"A value of the shell has the unknown type '{tag}'."),
    };

    private static PropertyBag ReadBag(JsonObject row)
    {
        var bag = new PropertyBag();
        foreach (var property in row)
            bag[property.Key] = Read(property.Value);
        return bag;
    }
}
