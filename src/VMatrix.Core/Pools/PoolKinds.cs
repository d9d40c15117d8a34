using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;

namespace VMatrix.Pools;

/// <summary>A kind of value that a pool file may hold: what is allowed, how it is read, how it is shown.</summary>
internal abstract class PoolKind
{
    /// <summary>The .NET type of what is read.</summary>
    public abstract Type ValueType { get; }

    /// <summary>What is allowed, so that <c>must be ...</c> can stand before it.</summary>
    public abstract string Allowed { get; }

    /// <summary>Reads a value, or adds findings and returns null.</summary>
    public abstract object? Read(PoolNode node, string key, PoolReading reading);

    /// <summary>A value as it would stand in a file.</summary>
    public virtual string Write(object value) => Convert.ToString(value, CultureInfo.InvariantCulture)!;
}

/// <summary>A value that is one word, number or text.</summary>
internal abstract class ScalarKind : PoolKind
{
    private static readonly Regex s_notText = new(
        @"\A([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)|true|True|TRUE|false|False|FALSE)\z",
        RegexOptions.CultureInvariant);

    /// <summary>True for kinds that are a text to YAML always; the others are, or may be, what YAML takes for a number or a truth.</summary>
    protected virtual bool IsText => true;

    public sealed override object? Read(PoolNode node, string key, PoolReading reading)
    {
        string? hint = null;
        if (node.Kind == NodeKind.Scalar && !node.IsNothing)
        {
            if (IsText && node.IsPlain && s_notText.IsMatch(node.Text))
            {
                hint = Parse(node.Text, reading, ref hint) is null ? hint : $"; put it in quotes: \"{node.Text}\"";
            }
            else if (Parse(node.Text, reading, ref hint) is { } value)
            {
                if (IsText || node.IsPlain || !s_notText.IsMatch(node.Text))
                    return value;
                hint = "; write it without quotes";
            }
        }

        reading.Add(node, key, $"{key} must be {Allowed}, not {PoolReading.Show(node)}{hint}{(hint is { Length: > 0 } && hint[hint.Length - 1] == '?' ? "" : ".")}");
        return null;
    }

    /// <summary>The value of a text, or null and perhaps a hint that begins with a semicolon.</summary>
    protected abstract object? Parse(string text, PoolReading reading, ref string? hint);

    protected static bool TryNumber(string text, out double number) =>
        double.TryParse(text, NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent, CultureInfo.InvariantCulture, out number)
        && !double.IsNaN(number) && !double.IsInfinity(number);
}

internal sealed class Flag : ScalarKind
{
    public override Type ValueType => typeof(bool);

    public override string Allowed => "true or false";

    protected override bool IsText => false;

    public override string Write(object value) => (bool)value ? "true" : "false";

    protected override object? Parse(string text, PoolReading reading, ref string? hint)
    {
        if (text is "true" or "false")
            return text == "true";
        hint = text.ToUpperInvariant() switch
        {
            "YES" or "ON" or "TRUE" or "Y" => "; write true",
            "NO" or "OFF" or "FALSE" or "N" => "; write false",
            _ => null,
        };
        return null;
    }
}

internal sealed class Whole(int least, int most) : ScalarKind
{
    public int Least { get; } = least;

    public int Most { get; } = most;

    public override Type ValueType => typeof(int);

    public override string Allowed => Most == int.MaxValue
        ? $"a whole number of at least {Least}"
        : $"a whole number from {Least.ToString(CultureInfo.InvariantCulture)} to {Most.ToString(CultureInfo.InvariantCulture)}";

    protected override bool IsText => false;

    protected override object? Parse(string text, PoolReading reading, ref string? hint) =>
        int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) && number >= Least && number <= Most ? number : null;
}

/// <summary>A number with a lower bound, which may itself be excluded, and an upper one.</summary>
internal sealed class Number(double least, double most, bool above = false) : ScalarKind
{
    public double Least { get; } = least;

    public double Most { get; } = most;

    /// <summary>True when <see cref="Least"/> itself is not allowed.</summary>
    public bool Above { get; } = above;

    public override Type ValueType => typeof(double);

    public override string Allowed => string.Format(CultureInfo.InvariantCulture, Above ? "a number above {0} and at most {1}" : "a number from {0} to {1}", Least, Most);

    protected override bool IsText => false;

    public bool Fits(double number) => number <= Most && (Above ? number > Least : number >= Least);

    protected override object? Parse(string text, PoolReading reading, ref string? hint) => TryNumber(text, out var number) && Fits(number) ? number : null;
}

/// <summary>A share of a whole: <c>0.7</c> or <c>70%</c>.</summary>
internal sealed class Share(bool above = false) : ScalarKind
{
    /// <summary>True when nothing at all is not allowed.</summary>
    public bool Above { get; } = above;

    public override Type ValueType => typeof(double);

    public override string Allowed => $"a share {(Above ? "above 0 and at most 1" : "from 0 to 1")}, such as 0.7 or 70%";

    protected override bool IsText => false;

    protected override object? Parse(string text, PoolReading reading, ref string? hint)
    {
        var percent = text.Length > 0 && text[text.Length - 1] == '%';
        if (!TryNumber(percent ? text.Substring(0, text.Length - 1) : text, out var number))
            return null;
        number = percent ? number / 100 : number;
        return number <= 1 && (Above ? number > 0 : number >= 0) ? number : null;
    }
}

/// <summary>Requests per second: <c>5</c>, <c>5/s</c>, <c>300/m</c>, <c>18000/h</c>.</summary>
internal sealed class Rate(bool above = true) : ScalarKind
{
    private static readonly Regex s_rate = new(@"\A([0-9]+(?:\.[0-9]+)?) ?/ ?([smh])\z", RegexOptions.CultureInvariant);

    /// <summary>True when nothing at all is not allowed.</summary>
    public bool Above { get; } = above;

    public override Type ValueType => typeof(double);

    public override string Allowed => $"requests per second {(Above ? "above 0 and " : "")}up to 10 million, such as 5, 5/s, 300/m or 18000/h";

    protected override bool IsText => false;

    protected override object? Parse(string text, PoolReading reading, ref string? hint)
    {
        var match = s_rate.Match(text);
        if (!TryNumber(match.Success ? match.Groups[1].Value : text, out var number))
            return null;
        number /= match.Groups[2].Value switch { "m" => 60, "h" => 3600, _ => 1 };
        return number <= 1e7 && (Above ? number > 0 : number >= 0) ? number : null;
    }
}

/// <summary>A size in bytes: <c>512 MiB</c>, <c>1.5 GiB</c>.</summary>
internal sealed class Size(long least, long most, long step = 1) : ScalarKind
{
    private static readonly Regex s_size = new(@"\A([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)\z", RegexOptions.CultureInvariant);
    private static readonly string[] s_units = ["B", "KiB", "MiB", "GiB", "TiB"];

    public long Least { get; } = least;

    public long Most { get; } = most;

    /// <summary>Bytes that the size must be a multiple of.</summary>
    public long Step { get; } = step;

    public override Type ValueType => typeof(long);

    public override string Allowed => $"a size from {Text(Least)} to {Text(Most)}{(Step > 1 ? $" in whole {Text(Step).Substring(2)}" : "")}, such as 512 MiB or 1.5 GiB (units {string.Join(", ", s_units)})";

    public override string Write(object value) => Text((long)value);

    public static string Text(long bytes)
    {
        var unit = 0;
        while (unit < s_units.Length - 1 && bytes != 0 && bytes % 1024 == 0)
        {
            bytes /= 1024;
            unit++;
        }

        return $"{bytes.ToString(CultureInfo.InvariantCulture)} {s_units[unit]}";
    }

    protected override object? Parse(string text, PoolReading reading, ref string? hint)
    {
        var match = s_size.Match(text);
        if (!match.Success || !decimal.TryParse(match.Groups[1].Value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number))
            return null;
        var written = match.Groups[2].Value;
        var unit = Array.IndexOf(s_units, written);
        if (unit < 0)
        {
            var meant = written.Length == 0 ? "MiB" : Array.Find(s_units, u => char.ToUpperInvariant(u[0]) == char.ToUpperInvariant(written[0]));
            hint = written.Length == 0 ? $"; it has no unit: write {match.Groups[1].Value} MiB if MiB is meant"
                : meant is null ? null
                : $"; write {match.Groups[1].Value} {meant} if units of 1024 are meant";
            return null;
        }

        if (number > 1_000_000_000_000_000)
            return null;
        for (; unit > 0; unit--)
            number *= 1024;
        if (number < Least || number > Most)
            return null;
        if (number % Step == 0)
            return (long)number;
        hint = $"; it is not a whole number of {Text(Step).Substring(2)}";
        return null;
    }
}

/// <summary>A length of time: <c>500ms</c>, <c>10s</c>, <c>1.5h</c>, <c>7d</c>.</summary>
internal sealed class Duration(string least, string most) : ScalarKind
{
    private readonly TimeSpan _least = Of(least);
    private readonly TimeSpan _most = Of(most);

    public override Type ValueType => typeof(TimeSpan);

    public override string Allowed => $"a time from {least} to {most}, such as 500ms, 10s, 5m, 1.5h or 7d";

    public override string Write(object value) => Durations.Format((TimeSpan)value);

    protected override object? Parse(string text, PoolReading reading, ref string? hint)
    {
        bool read = Durations.TryParse(text, out var value, out string? unit);
        hint = unit ?? hint;
        return read && value >= _least && value <= _most ? value : null;
    }

    private static TimeSpan Of(string text) => Durations.TryParse(text, out var value, out _) ? value : throw new FormatException(text);
}

/// <summary>A time of day: <c>22:30</c>.</summary>
internal sealed class TimeOfDay : ScalarKind
{
    private static readonly Regex s_time = new(@"\A([01][0-9]|2[0-3]):([0-5][0-9])\z", RegexOptions.CultureInvariant);

    public override Type ValueType => typeof(TimeSpan);

    public override string Allowed => "a time of day from 00:00 to 23:59";

    public override string Write(object value) => ((TimeSpan)value).ToString(@"hh\:mm", CultureInfo.InvariantCulture);

    protected override object? Parse(string text, PoolReading reading, ref string? hint)
    {
        var match = s_time.Match(text);
        return match.Success
            ? new TimeSpan(int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture), int.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture), 0)
            : null;
    }
}

/// <summary>One of a few words.</summary>
internal sealed class OneOf : ScalarKind
{
    private readonly (string Word, object Value)[] _words;

    private OneOf(Type type, (string, object)[] words)
    {
        ValueType = type;
        _words = words;
    }

    public override Type ValueType { get; }

    public IEnumerable<string> Words => _words.Select(w => w.Word);

    public override string Allowed => _words.Length == 1 ? _words[0].Word : string.Join(", ", Words.Take(_words.Length - 1)) + " or " + _words[_words.Length - 1].Word;

    public static OneOf Texts(params string[] words) => new(typeof(string), [.. words.Select(w => (w, (object)w))]);

    public static OneOf Values(Type type) =>
        new(type, [.. Enum.GetValues(type).Cast<object>().Select(v => (Camel(v.ToString()!), v))]);

    public override string Write(object value) => _words.First(w => w.Value.Equals(value)).Word;

    protected override object? Parse(string text, PoolReading reading, ref string? hint)
    {
        foreach (var (word, value) in _words)
            if (word == text)
                return value;
        hint = Nearest.Of(text, Words) is { } near ? $"; did you mean {near}?" : null;
        return null;
    }

    private static string Camel(string word) => char.ToLowerInvariant(word[0]) + word.Substring(1);
}

/// <summary>A text of a stated form.</summary>
internal sealed class Text : ScalarKind
{
    private readonly Regex _regex;

    private Text(string pattern, string allowed)
    {
        Pattern = pattern;
        Allowed = allowed;
        _regex = new Regex(@"\A(?:" + pattern + @")\z", RegexOptions.CultureInvariant);
    }

    /// <summary>True when a text has the form.</summary>
    public bool IsMatch(string text) => _regex.IsMatch(text);

    /// <summary>Any text on one line.</summary>
    public static Text Line { get; } = new(@"^[^\r\n]{1,1000}$", "a text on one line, of at most 1000 characters");

    /// <summary>The name of a pool, service or licence.</summary>
    public static Text Name { get; } = new("^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$", "a name of at most 63 letters, digits, dots, dashes and underscores that begins and ends with a letter or digit");

    /// <summary>The name of a host, or of a range of hosts.</summary>
    public static Text HostName { get; } = new(
        @"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$|^[A-Za-z0-9][A-Za-z0-9._-]{0,40}\[[0-9]{1,6}-[0-9]{1,6}\]$",
        "a name of at most 63 letters, digits, dots, dashes and underscores, or a range of names such as host[1-100] (in quotes within { } and [ ])");

    /// <summary>The name of a server, or a pattern of names.</summary>
    public static Text ServerName { get; } = new("^[A-Za-z0-9*?]([A-Za-z0-9._*?-]{0,61}[A-Za-z0-9*?])?$", "a server's name of at most 63 letters, digits, dots, dashes and underscores, in which * stands for any letters and ? for one (in quotes)");

    /// <summary>The path of a web request.</summary>
    public static Text HttpPath { get; } = new("^/[!-~]{0,500}$", "a path that begins with /, such as /health, without spaces");

    public override Type ValueType => typeof(string);

    public string Pattern { get; }

    public override string Allowed { get; }

    protected override object? Parse(string text, PoolReading reading, ref string? hint)
    {
        if (PoolReading.IsSecretText(text))
        {
            hint = "; it looks like a secret, and secrets do not belong in a pool file: keep them in the system's own store, or in a file that only its owner may read";
            return null;
        }

        if (!PlainText.IsPlain(text))
        {
            hint = "; it holds a character that cannot be seen: remove it";
            return null;
        }

        return _regex.IsMatch(text) ? text : null;
    }
}

/// <summary>Where something listens: <c>127.0.0.1:8080</c>, <c>[::1]:8080</c>, <c>*:8080</c>. Read as <c>address:port</c> with the star turned into 0.0.0.0.</summary>
internal sealed class Listen : ScalarKind
{
    public const string Pattern = @"^(\*|(?:[0-9]{1,3}\.){3}[0-9]{1,3}|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})$";
    private static readonly Regex s_listen = new(@"\A(?:" + Pattern + @")\z", RegexOptions.CultureInvariant);

    /// <summary>True when a text looks like an address and a port.</summary>
    public static bool IsMatch(string text) => s_listen.IsMatch(text);

    public override Type ValueType => typeof(string);

    public override string Allowed => "an IP address and a port from 1 to 65535, such as 127.0.0.1:8080, [::1]:8080 or *:8080";

    protected override object? Parse(string text, PoolReading reading, ref string? hint)
    {
        var match = s_listen.Match(text);
        if (!match.Success)
        {
            hint = text.StartsWith("localhost:", StringComparison.OrdinalIgnoreCase) ? "; write 127.0.0.1 for localhost" : null;
            return null;
        }

        var address = match.Groups[1].Value;
        address = address == "*" ? "0.0.0.0" : address;
        var isV6 = address[0] == '[';
        return int.TryParse(match.Groups[2].Value, NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port is >= 1 and <= 65535
            && IPAddress.TryParse(isV6 ? address.Substring(1, address.Length - 2) : address, out var ip)
            && ip.AddressFamily == (isV6 ? AddressFamily.InterNetworkV6 : AddressFamily.InterNetwork)
                ? $"{(isV6 ? $"[{ip}]" : ip.ToString())}:{port.ToString(CultureInfo.InvariantCulture)}"
                : null;
    }
}

/// <summary>An IPv4 address: <c>10.0.5.1</c>.</summary>
internal sealed class Address : ScalarKind
{
    public const string Pattern = "(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";

    public override Type ValueType => typeof(string);

    public override string Allowed => "an IPv4 address, such as 10.0.5.1";

    protected override object? Parse(string text, PoolReading reading, ref string? hint) => AddressRange.TryRead(text, out _) ? text : null;
}

/// <summary>IPv4 addresses one after another: <c>10.0.5.10-10.0.5.60</c>.</summary>
internal sealed class Addresses : ScalarKind
{
    /// <summary>Addresses that a range may hold; more is a slip of the pen.</summary>
    private const long Most = 65_536;

    public override Type ValueType => typeof(AddressRange);

    public override string Allowed => "the first and the last of up to 65536 IPv4 addresses, such as 10.0.5.10-10.0.5.60";

    protected override object? Parse(string text, PoolReading reading, ref string? hint)
    {
        var ends = text.Split('-');
        if (ends.Length == 2 && AddressRange.TryRead(ends[0].Trim(), out var first) && AddressRange.TryRead(ends[1].Trim(), out var last) && last < first)
            hint = "; it ends before it begins: write the lower address first";
        return AddressRange.TryParse(text) is { Count: <= Most } range ? range : null;
    }
}

/// <summary>The path of a file or folder, made full.</summary>
internal sealed class PathTo : ScalarKind
{
    private readonly bool _isFolder;
    private readonly bool _orTemplate;
    private readonly bool _orAddress;

    private PathTo(bool isFolder, bool orTemplate = false, bool orAddress = false)
    {
        _isFolder = isFolder;
        _orTemplate = orTemplate;
        _orAddress = orAddress;
    }

    public static PathTo Folder { get; } = new(true);

    public static PathTo File { get; } = new(false);

    /// <summary>A file, or the name of one for drivers that keep a library.</summary>
    public static PathTo FileOrTemplate { get; } = new(false, orTemplate: true);

    /// <summary>A socket's file, or <c>address:port</c>.</summary>
    public static PathTo Socket { get; } = new(false, orAddress: true);

    public override Type ValueType => typeof(string);

    public override string Allowed =>
        (_isFolder ? "the path of a folder" : "the path of a file")
        + (_orTemplate ? ", or the name of a virtual hard disk in the library for scvmm" : _orAddress ? ", or an address and a port such as 127.0.0.1:9999" : "")
        + ", relative to the pool file's folder or full";

    protected override object? Parse(string text, PoolReading reading, ref string? hint)
    {
        if (text.Length > 1000 || !PlainText.IsPlain(text) || text.Trim().Length == 0)
            return null;
        if (_orTemplate && reading.Hypervisor == "scvmm")
            return text;
        if (_orAddress && Listen.IsMatch(text))
            return text;
        if (text == "~" || text.StartsWith("~/", StringComparison.Ordinal))
        {
            hint = "; ~ stands for a home folder in shells only: write the full path";
            return null;
        }

        string full;
        try
        {
            full = reading.Resolve(text);
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException or PathTooLongException or IOException)
        {
            return null;
        }

        if (!_isFolder && Directory.Exists(full))
        {
            hint = "; there is a folder at that place";
            return null;
        }

        if (_isFolder && System.IO.File.Exists(full))
        {
            hint = "; there is a file at that place";
            return null;
        }

        return full;
    }
}

/// <summary>A list of values of one kind.</summary>
internal sealed class ListOf(PoolKind item, int least = 0, int most = PoolTable.MostHosts) : PoolKind
{
    public PoolKind Item { get; } = item;

    public int Least { get; } = least;

    public int Most { get; } = most;

    public override Type ValueType => Item.ValueType.MakeArrayType();

    public override string Allowed => Item is PoolSection ? "a list of sections" : $"a list, each item {Item.Allowed}";

    public override object? Read(PoolNode node, string key, PoolReading reading)
    {
        if (node.Kind != NodeKind.List)
        {
            var hint = node.Kind == NodeKind.Scalar && !node.IsNothing && Item is not PoolSection ? $"; write [{PoolReading.Show(node).Trim('\'')}]"
                : Item is PoolSection ? "; put a dash before each" : "";
            reading.Add(node, key, $"{key} must be a list, not {PoolReading.Show(node)}{hint}.");
            return null;
        }

        if (node.Items.Count < Least || node.Items.Count > Most)
        {
            reading.Add(node, key, node.Items.Count < Least
                ? $"{key} is empty; it needs at least one item."
                : $"{key} has {node.Items.Count} items; it may have {Most}.");
            return null;
        }

        var values = new List<object>(node.Items.Count);
        var seen = new HashSet<object>();
        for (var i = 0; i < node.Items.Count && !reading.IsFull; i++)
        {
            if (Item.Read(node.Items[i], $"{key}[{i}]", reading) is not { } value)
                continue;
            if (Item is not PoolSection && !seen.Add(value))
                reading.Add(node.Items[i], $"{key}[{i}]", $"{key} names {PoolReading.Show(node.Items[i])} twice; remove one of the two.");
            values.Add(value);
        }

        var array = Array.CreateInstance(Item.ValueType, values.Count);
        for (var i = 0; i < values.Count; i++)
            array.SetValue(values[i], i);
        return array;
    }

    public override string Write(object value) => $"[{string.Join(", ", ((System.Collections.IEnumerable)value).Cast<object>().Select(Item.Write))}]";
}
