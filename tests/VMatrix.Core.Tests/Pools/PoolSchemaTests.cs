using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using NJsonSchema;
using VMatrix.Pools;
using Xunit;

namespace VMatrix.Tests.Pools;

/// <summary>The schema and the help say what the reader does. VMATRIX_UPDATE=1 writes both anew.</summary>
public sealed class PoolSchemaTests
{
    private const string Begin = "<!-- keys: written by the tests with VMATRIX_UPDATE=1 -->\n";
    private const string End = "<!-- end of keys -->\n";

    private static void UpToDate(string path, Func<string, string> write)
    {
        var file = Repository.File(path);
        var now = File.Exists(file) ? File.ReadAllText(file).Replace("\r\n", "\n", StringComparison.Ordinal) : "";
        var wanted = write(now);
        if (Environment.GetEnvironmentVariable("VMATRIX_UPDATE") == "1")
            File.WriteAllText(file, wanted);
        else
            Assert.True(now == wanted, $"{path} is out of date: run these tests once with VMATRIX_UPDATE=1 and look at what changed.");
    }

    [Fact]
    public void The_schema_is_up_to_date() => UpToDate("schema/vmatrix-pool.schema.json", _ => PoolSchema.Schema());

    [Fact]
    public void The_help_lists_every_key() => UpToDate("docs/en-US/about_VMatrix_PoolFile.md", now =>
    {
        var begin = now.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length;
        return now[..begin] + PoolSchema.Docs() + "\n" + now[now.IndexOf(End, StringComparison.Ordinal)..];
    });

    /// <summary>Every property that an owner may set has a key, every key sets one, and its kind makes the property's type.</summary>
    [Fact]
    public void The_table_covers_the_model()
    {
        var set = new HashSet<(Type, string)>();
        foreach (var (_, section) in PoolSchema.Sections())
        {
            Assert.Equal(section.Keys.Count, section.Keys.Select(k => k.Name).Distinct().Count());
            foreach (var key in section.Keys.Where(k => k.Property is not null))
            {
                var property = section.PropertyOf(key.Name)!;
                Assert.True(property.PropertyType.IsAssignableFrom(key.Kind.ValueType) || Nullable.GetUnderlyingType(property.PropertyType) == key.Kind.ValueType, $"{section.Name}.{key.Name} makes {key.Kind.ValueType.Name} for {property.PropertyType.Name}.");
                Assert.Matches(@"^[A-Z].*\.$", key.Doc);
                if (key.Example is not null)
                    Assert.DoesNotContain(Findings(section, $"{key.Name}: {key.Example}"), f => f.Key.EndsWith(key.Name, StringComparison.Ordinal));
                // An image of its own in several sections is one section, so that a property may be met twice.
                set.Add((section.ValueType, key.Property!));
            }
        }

        var properties = PoolSchema.Sections().Select(s => s.Section.ValueType).Distinct()
            .SelectMany(t => t.GetProperties(BindingFlags.Public | BindingFlags.Instance).Where(p => p.CanWrite).Select(p => (t, p.Name)));
        Assert.Equal([(typeof(PoolSpec), nameof(PoolSpec.Path))], properties.Except(set));
    }

    /// <summary>Reads one section as if it were a file.</summary>
    private static IReadOnlyList<PoolFinding> Findings(PoolSection section, string yaml)
    {
        var reading = new PoolReading("/pools/pool.yaml");
        section.Read(PoolTree.Parse(yaml), "", reading);
        return reading.Findings();
    }

    [Theory]
    [InlineData("examples/demo/pool.yaml")]
    [InlineData("examples/hyperv/pool.yaml")]
    [InlineData("examples/simulation/pool.yaml")]
    public async Task Editors_find_the_schema_and_no_fault_with_the_examples(string path)
    {
        var text = File.ReadAllText(Repository.File(path));
        var reference = Regex.Match(text, @"\A# yaml-language-server: \$schema=(\S+)\n").Groups[1].Value;
        Assert.Equal(Repository.File("schema/vmatrix-pool.schema.json"), Path.GetFullPath(Path.Combine(Path.GetDirectoryName(Repository.File(path))!, reference)));
        var schema = await JsonSchema.FromJsonAsync(File.ReadAllText(Repository.File("schema/vmatrix-pool.schema.json")));
        Assert.Empty(schema.Validate(Json(PoolTree.Parse(text))!.ToJsonString()));
    }

    /// <summary>Values that try every kind: right ones, wrong ones, and ones at the edge.</summary>
    private static readonly string[] s_values =
    [
        "word", "two words", "\"quoted\"", "'1'", "0", "1", "2", "-1", "7", "0.5", "1.5", "70%", "170%", "1e3", "99999999999", "true", "false", "yes", "\"true\"", "~", "\"\"",
        "5/s", "300/m", "0/s", "5/d", "1 GiB", "512MiB", "1.5 TiB", "1 GB", "0 B", "10s", "500ms", "1.5h", "7 d", "10 sec", "0s", "22:30", "24:00", "9:00", "monday", "Monday",
        "matrix", "chamber", "dedicated", "shared", "automatic", "confirm", "shadow", "qemu", "simulation", "haproxy", "qga", "127.0.0.1:80", "\"[::1]:80\"", "\"*:80\"", "localhost:80", "127.0.0.1", "10.0.5.10-10.0.5.60", "10.0.5.10 - 10.0.5.60", "10.0.5.10-10.0.5", "10.0.5.256", "[10.0.0.53]",
        "/health", "a/b", "host[1-3]", "host[1]", "-host", "a.", "[]", "[word]", "[1]", "[monday, friday]", "[[]]", "{}", "{ a: 1 }", "[{}]", "2019-01-01",
    ];

    /// <summary>Pairs on which schema and reader differ on purpose: the schema cannot do sums, so it leaves bounds of sizes, times and percents to the reader, and to it 1e3 is a whole number.</summary>
    private static bool OnlyTheReaderKnows(PoolKind kind, string value) => kind switch
    {
        Size or Duration => char.IsAsciiDigit(value[0]) && char.IsAsciiLetter(value[^1]),
        Share => value is "170%",
        Rate => value is "0/s",
        Whole => value is "1e3",
        _ => false,
    };

    [Fact]
    public async Task Schema_and_reader_agree_on_every_value_of_every_key()
    {
        var compared = 0;
        foreach (var (path, section) in PoolSchema.Sections())
        {
            // The section as the file's root, with nothing required, so that one key can be tried by itself.
            var json = JsonNode.Parse(PoolSchema.Schema())!.AsObject();
            if (path.Length > 0)
                json["properties"] = json["definitions"]![section.Name]!["properties"]!.DeepClone();
            json.Remove("required");
            var schema = await JsonSchema.FromJsonAsync(json.ToJsonString());
            foreach (var key in section.Keys)
            {
                foreach (var value in s_values)
                {
                    var yaml = $"{key.Name}: {value}";
                    var read = Findings(section, yaml).Any(f => f.Key.Split('.')[0].Split('[')[0] == key.Name);
                    var judged = schema.Validate(Json(PoolTree.Parse(yaml))!.ToJsonString()).Count > 0;
                    if (read && !judged && OnlyTheReaderKnows(key.Kind is ListOf list ? list.Item : key.Kind, value))
                        continue;
                    Assert.True(read == judged, $"{path}.{yaml}: the reader {(read ? "refuses" : "takes")} it, the schema {(judged ? "refuses" : "takes")} it.");
                    compared++;
                }
            }
        }

        Assert.True(compared > 5000, $"{compared} compared.");
    }

    /// <summary>A node as JSON, by YAML's core schema, as editors see it.</summary>
    internal static JsonNode? Json(PoolNode node) => node.Kind switch
    {
        NodeKind.Map => new JsonObject(node.Entries.Select(e => KeyValuePair.Create(e.Key.Text, Json(e.Value)))),
        NodeKind.List => new JsonArray([.. node.Items.Select(Json)]),
        _ when node.IsNothing => null,
        _ when !node.IsPlain => JsonValue.Create(node.Text),
        _ when node.Text is "true" or "false" => JsonValue.Create(node.Text == "true"),
        _ when Regex.IsMatch(node.Text, "^[-+]?[0-9]+$") => JsonValue.Create(long.Parse(node.Text, CultureInfo.InvariantCulture)),
        _ when Regex.IsMatch(node.Text, @"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$") => JsonValue.Create(double.Parse(node.Text, CultureInfo.InvariantCulture)),
        _ => JsonValue.Create(node.Text),
    };
}
