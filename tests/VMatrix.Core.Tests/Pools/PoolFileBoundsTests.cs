using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading;
using CsCheck;
using VMatrix.Pools;
using Xunit;

namespace VMatrix.Tests.Pools;

/// <summary>What nobody wrote on purpose, or somebody wrote with bad intent: one clear finding or many, never a crash, never a hang.</summary>
public sealed class PoolFileBoundsTests
{
    private const string PoolPath = "/pools/x/pool.yaml";

    private static (PoolSpec? Pool, IReadOnlyList<PoolFinding> Findings) Read(byte[] bytes)
    {
        (PoolSpec?, IReadOnlyList<PoolFinding>) result = default;
        Exception? thrown = null;
        // A hang must fail the test, not stop the suite; the deadline is far above what any file takes.
        var thread = new Thread(() =>
        {
            try
            {
                result = PoolFile.Read(PoolPath, bytes);
            }
            catch (Exception e)
            {
                thrown = e;
            }
        }) { IsBackground = true };
        thread.Start();
        Assert.True(thread.Join(TimeSpan.FromSeconds(60)), "Reading did not end.");
        if (thrown is not null)
            throw new InvalidOperationException($"Reading crashed on:\n{Encoding.UTF8.GetString(bytes.Take(4000).ToArray())}", thrown);
        return result;
    }

    private static PoolFinding One(byte[] bytes)
    {
        var (pool, findings) = Read(bytes);
        Assert.Null(pool);
        return Assert.Single(findings);
    }

    private static PoolFinding One(string text) => One(Encoding.UTF8.GetBytes(text));

    private static string Repeat(string text, int times) => string.Concat(Enumerable.Repeat(text, times));

    [Theory]
    [InlineData("", "empty")]
    [InlineData("\n\n# only a comment\n", "empty")]
    [InlineData("---\n...\n", "must be a section")]
    [InlineData("just a word", "must be a section")]
    [InlineData("[1, 2]", "must be a section")]
    [InlineData("pool: a\n---\npool: b\n", "one YAML document")]
    [InlineData("pool: a\n\thosts: []\n", "replace the tab")]
    [InlineData("pool: a\n  hypervisor: qemu\n", "well-formed")]
    [InlineData("pool: 'a\n", "well-formed")]
    [InlineData("pool: {a: b\n", "well-formed")]
    [InlineData("pool: @a\n", "well-formed")]
    [InlineData("pool: a\u0001b\n", "U+0001")]
    [InlineData("pool: &a demo\n", "anchors")]
    [InlineData("pool: *a\n", "aliases")]
    [InlineData("pool: !!python/object/apply:os.system [id]\n", "tags")]
    [InlineData("<<: *base\n", "aliases")]
    public void What_is_no_pool_file_has_one_finding(string text, string words) => Assert.Contains(words, One(text).Message, StringComparison.Ordinal);

    [Fact]
    public void The_place_of_a_tab_is_named()
    {
        var finding = One("pool: a\nhosts:\n  \t- name: x\n");
        Assert.Equal((3, 3), (finding.Line, finding.Column));
    }

    [Theory]
    [InlineData('\u0085')]
    [InlineData('\u2028')]
    [InlineData('\u2029')]
    public void Lines_are_those_that_an_editor_counts(char separator)
    {
        var finding = One($"pool: a\n# one{separator}two\nhosts: {{\n");
        Assert.Equal((2, 6), (finding.Line, finding.Column));
        Assert.Contains($"U+{(int)separator:X4}", finding.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_over_1_MiB_is_refused_and_one_of_1_MiB_is_read()
    {
        var demo = File.ReadAllText(Repository.File("examples/demo/pool.yaml"));
        var fill = Encoding.UTF8.GetBytes(demo + "# " + new string('x', PoolFile.MostBytes - Encoding.UTF8.GetByteCount(demo) - 3) + "\n");
        Assert.Equal(PoolFile.MostBytes, fill.Length);
        Assert.NotNull(Read(fill).Pool);
        Assert.Contains("longer than 1 MiB", One([.. fill, (byte)'\n']).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Other_encodings_are_refused()
    {
        const string text = "pool: a\n";
        Assert.Contains("save it as UTF-8", One([.. Encoding.Unicode.Preamble, .. Encoding.Unicode.GetBytes(text)]).Message, StringComparison.Ordinal);
        Assert.Contains("save it as UTF-8", One([.. Encoding.BigEndianUnicode.Preamble, .. Encoding.BigEndianUnicode.GetBytes(text)]).Message, StringComparison.Ordinal);
        Assert.Contains("save it as UTF-8", One([.. Encoding.UTF32.Preamble, .. Encoding.UTF32.GetBytes(text)]).Message, StringComparison.Ordinal);
        Assert.Contains("U+0000", One(Encoding.Unicode.GetBytes(text)).Message, StringComparison.Ordinal);

        var latin = One(Encoding.Latin1.GetBytes("pool: a\n# Zürich\n"));
        Assert.Equal((2, 4), (latin.Line, latin.Column));
        Assert.Contains("not in UTF-8 here", latin.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_byte_order_mark_and_Windows_line_ends_are_read()
    {
        var demo = File.ReadAllText(Repository.File("examples/demo/pool.yaml")).Replace("\n", "\r\n", StringComparison.Ordinal);
        Assert.NotNull(Read([.. Encoding.UTF8.Preamble, .. Encoding.UTF8.GetBytes(demo)]).Pool);
    }

    [Fact]
    public void A_missing_file_is_not_found_by_name()
    {
        var missing = Path.Combine(Path.GetTempPath(), "no-such-folder", "pool.yaml");
        var e = Assert.Throws<VMatrixException>(() => PoolFile.Read(missing));
        Assert.Equal(("PoolNotFound", VMatrixErrorKind.NotFound), (e.Id, e.Kind));
        Assert.Contains(missing, e.Message, StringComparison.Ordinal);
        e = Assert.Throws<VMatrixException>(() => PoolFile.Read(Path.GetTempPath()));
        Assert.Equal("PoolNotFound", e.Id);
        Assert.Contains("is a folder", e.Message, StringComparison.Ordinal);
        Assert.Equal("PoolNotFound", Assert.Throws<VMatrixException>(() => PoolFile.Read(" ")).Id);
        Assert.Equal("PoolNotFound", Assert.Throws<VMatrixException>(() => PoolFile.Read("a\0b")).Id);
    }

    /// <summary>Files made to cost time, memory or stack.</summary>
    private static readonly Dictionary<string, string> s_bombs = new()
    {
        { "flow lists", new string('[', PoolFile.MostBytes) },
        { "flow maps", Repeat("{a: ", PoolFile.MostBytes / 4) },
        { "flow keys", Repeat("{? ", PoolFile.MostBytes / 3) },
        { "block lists", Repeat("- ", PoolFile.MostBytes / 2) },
        { "block keys", Repeat("? ", PoolFile.MostBytes / 2) },
        { "steps", string.Concat(Enumerable.Range(0, 1400).Select(i => new string(' ', i) + "a:\n")) },
        { "laughs", "a: &a [x,x,x,x,x,x,x,x,x]\n" + string.Concat("bcdefghij".Select((c, i) => $"{c}: &{c} [{Repeat($"*{(char)(c - 1)},", 9)}]\n")) },
        { "itself", "a: &a [*a]\n" },
        { "many items", "hosts: [" + Repeat("a,", 500_000) + "a]" },
        { "many keys", "hosts:\n" + string.Concat(Enumerable.Range(0, 80_000).Select(i => $"  k{i}: 1\n")) },
        { "many equal keys", Repeat("a: 1\n", 200_000) },
        { "many findings", "hosts:\n" + Repeat("- {}\n", 200_000) },
        { "many services", "pool: a\nhypervisor: simulation\nhosts: [{ name: a, memory: 1 GiB }]\nservices:\n" + string.Concat(Enumerable.Range(0, 40_000).Select(i => $"- name: s{i}\n")) },
        { "many hosts and services", "pool: a\nhypervisor: simulation\nhosts:\n- name: h[1-20000]\n  memory: 1 GiB\nservices:\n" + string.Concat(Enumerable.Range(0, 1_000).Select(i => $"- name: s{i}\n  least: 21\n  hosts: {{ forbid: [h{i + 1}] }}\n")) },
        { "many references", "pool: a\nhypervisor: simulation\nhosts:\n- name: h[1-20000]\n  memory: 1 GiB\nservices:\n" + string.Concat(Enumerable.Range(0, 1_000).Select(i => $"- name: s{i}\n  hosts: {{ allow: [\"h[1-20000]\"] }}\n")) },
        { "a long word", "pool: " + new string('a', 1_000_000) },
        { "a long key", new string('a', 1000) + ": 1\n" + new string('b', 900_000) },
        { "a long number", "pool: " + new string('9', 1_000_000) },
        { "many spaces", "pool:" + new string(' ', 1_000_000) + "x" },
        { "many lines", new string('\n', 1_000_000) + "pool: x" },
        { "many comments", Repeat("#\n", 500_000) },
        { "many documents", Repeat("---\n", 250_000) },
        { "many directives", Repeat("%a b\n", 200_000) },
        { "many quotes", "pool: \"" + Repeat("\\u0041", 150_000) + "\"" },
        { "a long block", "pool: |\n" + Repeat("  x\n", 250_000) },
        { "a long plain text", "pool: a\n" + Repeat("  x\n", 250_000) },
        { "many colons", new string(':', 1_000_000) },
        { "many questions", new string('?', 1_000_000) },
        { "many dashes", new string('-', 1_000_000) },
        { "many anchors", Repeat("&a ", 300_000) },
    };

    public static TheoryData<string> Bombs => [.. s_bombs.Keys];

    [Theory]
    [MemberData(nameof(Bombs))]
    public void A_bomb_is_refused(string name)
    {
        var (pool, findings) = Read(Encoding.UTF8.GetBytes(s_bombs[name]));
        Assert.True(pool is null && findings.Count is > 0 and <= 1001, name);
        Assert.All(findings, f => Assert.True(f.Message.Length < 2000, name));
    }

    private static readonly string[] s_nasty =
    [
        "\t", "\0", "\r", "\u0085", "\u2028", "\uFEFF", "- ", "? ", ": ", "{", "}", "[", "]", ", ", "&a ", "*a", "!t ", "!!int ", "|\n", ">-\n", "'", "\"", "#", "%YAML 1.2\n", "---\n", "...\n",
        "<<: ", "null", "~", "-1", "99999999999999999999", "1e999", ".nan", ".inf", "0x1F", "1 GiB", "10s", "true", "yes", "../../..", "/dev/null", "C:\\x", "host[1-5]", "host[5-1]", "host[0-999999]", "{n}",
        "password: x", "name: ", "\n  ", "\n", "é", "日本", "\U0001F600",
    ];

    /// <summary>Changes of a text: cut, doubled, swapped and moved lines and characters, and signs that mean something to YAML.</summary>
    private static readonly Gen<Func<byte[], byte[]>> s_change = Gen.Select(Gen.Int[0, 8], Gen.Int[0, int.MaxValue], Gen.Int[0, int.MaxValue], Gen.Int[0, s_nasty.Length - 1], (what, a, b, nasty) => new Func<byte[], byte[]>(bytes =>
    {
        if (bytes.Length == 0)
            return Encoding.UTF8.GetBytes(s_nasty[nasty]);
        var i = a % bytes.Length;
        var n = Math.Min(bytes.Length - i, 1 + (b % 40));
        if (what is >= 5 and <= 7)
        {
            var lines = Encoding.UTF8.GetString(bytes).Split('\n').ToList();
            var (l, m) = (a % lines.Count, b % lines.Count);
            if (what == 5)
                lines.RemoveAt(l);
            else if (what == 6)
                lines.Insert(m, lines[l]);
            else
                lines[l] = new string(' ', b % 7) + lines[l].TrimStart();
            return Encoding.UTF8.GetBytes(string.Join('\n', lines));
        }

        return what switch
        {
            0 => [.. bytes[..i], .. bytes[(i + n)..]],
            1 => [.. bytes[..i], .. bytes[i..(i + n)], .. bytes[i..]],
            2 => [.. bytes[..i], (byte)b, .. bytes[(i + 1)..]],
            3 or 4 => [.. bytes[..i], .. Encoding.UTF8.GetBytes(s_nasty[nasty]), .. bytes[(what == 3 ? i : i + 1)..]],
            _ => bytes[..i],
        };
    }));

    [Fact]
    public void A_pool_of_12500_hosts_and_300_services_is_read()
    {
        var (pool, findings) = Read(Encoding.UTF8.GetBytes("pool: a\nhypervisor: simulation\nhosts:\n- name: h[1-12500]\n  memory: 64 GiB\nservices:\n"
            + string.Concat(Enumerable.Range(0, 300).Select(i => $"- name: s{i}\n  least: 41\n  hosts: {{ forbid: [\"h[{(40 * i) + 1}-{(40 * i) + 40}]\"] }}\n"))));
        Assert.Empty(findings);
        Assert.Equal((12_500, 300), (pool!.Hosts.Count, pool.Services.Count));
        Assert.Equal("h11961", pool.Services[299].ForbiddenHosts[0]);
    }

    [Theory]
    [InlineData("examples/demo/pool.yaml")]
    [InlineData("examples/hyperv/pool.yaml")]
    [InlineData("examples/scvmm/pool.yaml")]
    [InlineData("examples/simulation/pool.yaml")]
    public void A_thousand_mutations_give_findings_or_a_pool(string path) => Mutate(path, 1000);

    [Theory]
    [Trait("Category", "Long")]
    [InlineData("examples/demo/pool.yaml")]
    [InlineData("examples/hyperv/pool.yaml")]
    [InlineData("examples/scvmm/pool.yaml")]
    [InlineData("examples/simulation/pool.yaml")]
    public void Many_mutations_give_findings_or_a_pool(string path) => Mutate(path, 100_000);

    private static void Mutate(string path, int times)
    {
        var good = File.ReadAllBytes(Repository.File(path));
        s_change.Array[1, 4].Sample(changes =>
        {
            var bytes = changes.Aggregate(good, (b, change) => change(b));
            var (pool, findings) = PoolFile.Read(PoolPath, bytes);

            Assert.True((pool is null) == (findings.Count > 0));
            var lines = bytes.Count(b => b is (byte)'\n' or (byte)'\r') + 3;
            Assert.All(findings, f => Assert.True(f.Line >= 1 && f.Line <= lines && f.Column >= 1 && f.Message.Length is > 20 and < 2000 && f.Found.Length > 0 && f.Path == PoolPath, f.ToString()));
            Assert.Equal(findings.OrderBy(f => f.Line).ThenBy(f => f.Column).Select(f => (f.Line, f.Column)), findings.Select(f => (f.Line, f.Column)));
            if (pool is not null)
                PoolRules.Hold(pool);
        }, iter: times, threads: 1, print: changes => Encoding.UTF8.GetString(changes.Aggregate(good, (b, change) => change(b))));
    }
}
