using System;
using System.Globalization;
using System.Net;

namespace VMatrix.HAProxy;

/// <summary>From HAProxy's texts to their types, and from types to what HAProxy is told.</summary>
internal static class HAProxyText
{
    /// <summary>More than this no counter reaches: a million requests a second for thirty years.</summary>
    private const long MostCount = 1_000_000_000_000_000;

    /// <summary>A count; an empty text is 0, as in columns that a row does not have.</summary>
    /// <exception cref="VMatrixException"><c>BalancerAnswerInvalid</c>.</exception>
    public static long Number(string column, string text) =>
        text.Length == 0 ? 0
        : long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long value) && value <= MostCount ? value
        : throw Invalid($"{column} is '{Outsiders.Show(text)}', where a number up to {MostCount} is expected");

    /// <summary>A count of what is open or waits now.</summary>
    /// <exception cref="VMatrixException"><c>BalancerAnswerInvalid</c>.</exception>
    public static int Small(string column, string text) =>
        Number(column, text) is <= int.MaxValue and var value ? (int)value : throw Invalid($"{column} is {text}, where a number up to {int.MaxValue} is expected");

    /// <summary>An IP address with a port, such as 10.0.0.7:80 or [::1]:80; null for anything else, such as a name or a socket's path.</summary>
    public static IPEndPoint? Address(string text) =>
        text.LastIndexOf(':') is > 0 and var colon && text[..colon] is var host && (host.IndexOf(':') < 0 || (host[0] == '[' && host[^1] == ']'))
        && IPAddress.TryParse(host.Trim('[', ']'), out IPAddress? ip) && ushort.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out ushort port) && port > 0
            ? new IPEndPoint(ip, port) : null;

    public static VMatrixException Invalid(string why) => new("BalancerAnswerInvalid", VMatrixErrorKind.Corrupt,
        $"What HAProxy's runtime socket answered cannot be used: {why}. See that an HAProxy of version 2.6 or newer listens there.");
}

/// <summary>What <c>show info</c> says of the process.</summary>
internal sealed record HAProxyInfo(int Pid, long StartSeconds, string Version)
{
    /// <summary>Tells one run of HAProxy from another: a process id alone may come again.</summary>
    public string Incarnation => string.Create(CultureInfo.InvariantCulture, $"{Pid}@{StartSeconds}");

    /// <exception cref="VMatrixException"><c>BalancerAnswerInvalid</c>.</exception>
    public static HAProxyInfo Parse(string answer) =>
        HAProxyText.Small("Pid", Field(answer, "Pid")) is > 0 and var pid
            ? new HAProxyInfo(pid, HAProxyText.Number("Start_time_sec", Field(answer, "Start_time_sec")), Field(answer, "Version"))
            : throw HAProxyText.Invalid("it names no process id");

    /// <summary>One line of <c>show info</c>; empty where it has none of that name.</summary>
    public static string Field(string answer, string name)
    {
        foreach (string line in answer.Split('\n'))
        {
            if (line.StartsWith(name + ": ", StringComparison.Ordinal))
                return Outsiders.Show(line[(name.Length + 2)..]);
        }

        return "";
    }
}
