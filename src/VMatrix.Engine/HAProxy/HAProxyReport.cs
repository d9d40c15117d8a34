using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using CsvHelper;
using VMatrix.Drivers;

namespace VMatrix.HAProxy;

/// <summary>Turns HAProxy's answers to <c>show info;show stat;show table</c> into a report.</summary>
internal static class HAProxyReport
{
    /// <summary>The commands whose answers <see cref="Parse"/> reads.</summary>
    public const string Commands = "show info;show stat;show table " + HAProxyConfig.CounterTable;

    /// <summary>Reads the three answers.</summary>
    public static BalancerReport Parse(string answers, IReadOnlyList<ServiceSpec> services, DateTimeOffset at)
    {
        string[] parts = answers.Split("\n\n");
        IReadOnlyDictionary<string, string> info = ParseInfo(parts[0]);
        IReadOnlyList<StatRow> rows = ParseStat(parts.Length > 1 ? parts[1] : "");
        IReadOnlyDictionary<string, long[]> table = ParseTable(parts.Length > 2 ? parts[2] : "");
        ILookup<string, StatRow> byProxy = rows.ToLookup(row => row.Proxy);
        return new BalancerReport
        {
            At = at,
            Incarnation = Incarnation(info),
            Members = [.. services.SelectMany(service => byProxy[service.Name]).Where(row => row.Kind == StatKind.Server).Select(Member)],
            Services = [.. services.Select(service => Count(service.Name, [.. byProxy[service.Name]], table))],
        };
    }

    /// <summary>Reads <c>show info</c>.</summary>
    public static IReadOnlyDictionary<string, string> ParseInfo(string answer)
    {
        var info = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (string line in answer.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            int colon = line.IndexOf(": ", StringComparison.Ordinal);
            if (colon > 0)
                info[line[..colon]] = line[(colon + 2)..].Trim();
        }

        return info;
    }

    /// <summary>Reads <c>show stat</c>, whose columns differ from version to version, by its header.</summary>
    public static IReadOnlyList<StatRow> ParseStat(string answer)
    {
        string text = answer.TrimStart('\n');
        if (!text.StartsWith("# ", StringComparison.Ordinal))
            return [];
        using CsvReader csv = CsvReader.FromText(text[2..]);
        var rows = new List<StatRow>();
        while (csv.Read())
        {
            string Text(string column) => csv.TryGetFieldIndex(column, out int index) && index < csv.FieldCount ? csv.GetString(index) : "";
            long Number(string column) => long.TryParse(Text(column), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long value) ? value : 0;
            rows.Add(new StatRow(Text("pxname"), Text("svname"), (StatKind)Number("type"), Text("status"), Text("addr"))
            {
                Weight = Number("weight"),
                Queue = Number("qcur"),
                Sessions = Number("scur"),
                TotalSessions = Number("stot"),
                Requests = Number("req_tot"),
                Answers = Number("hrsp_1xx") + Number("hrsp_2xx") + Number("hrsp_3xx") + Number("hrsp_4xx") + Number("hrsp_5xx") + Number("hrsp_other"),
                ConnectErrors = Number("econ"),
                ResponseErrors = Number("eresp"),
                ResponseMilliseconds = Number("rtime"),
            });
        }

        return rows;
    }

    private static Dictionary<string, long[]> ParseTable(string answer)
    {
        var table = new Dictionary<string, long[]>(StringComparer.Ordinal);
        foreach (string line in answer.Split('\n'))
        {
            long[] counters = new long[3];
            string? key = null;
            foreach (string word in line.Split(' '))
            {
                if (word.StartsWith("key=", StringComparison.Ordinal))
                    key = word[4..];
                else if (word.StartsWith("gpc", StringComparison.Ordinal) && word.Length > 5 && word[4] == '=' && word[3] is >= '0' and <= '2')
                    counters[word[3] - '0'] = long.Parse(word.AsSpan(5), CultureInfo.InvariantCulture);
            }

            if (key is not null)
                table[key] = counters;
        }

        return table;
    }

    /// <summary>Tells one run of HAProxy from another: a process id alone may come again.</summary>
    public static string Incarnation(IReadOnlyDictionary<string, string> info) =>
        $"{info.GetValueOrDefault("Pid", "?")}@{info.GetValueOrDefault("Start_time_sec", "?")}";

    private static BalancerMember Member(StatRow row) => new()
    {
        Service = row.Proxy,
        ServerId = HAProxyConfig.ServerId(row.Server),
        Address = row.Address,
        State = State(row),
        Open = (int)row.Sessions,
        Requests = row.Requests,
        Errors = row.ConnectErrors + row.ResponseErrors,
        ResponseTime = TimeSpan.FromMilliseconds(row.ResponseMilliseconds),
    };

    private static MemberState State(StatRow row) => row.Status switch
    {
        var status when status.StartsWith("MAINT", StringComparison.Ordinal) => MemberState.Maintenance,
        var status when status.StartsWith("DRAIN", StringComparison.Ordinal) || (row.Weight == 0 && status.StartsWith("UP", StringComparison.Ordinal)) => MemberState.Draining,
        var status when status.StartsWith("DOWN", StringComparison.Ordinal) => MemberState.Down,
        _ => MemberState.Ready,
    };

    private static ServiceCounters Count(string service, StatRow[] rows, IReadOnlyDictionary<string, long[]> table)
    {
        StatRow? front = rows.FirstOrDefault(row => row.Kind == StatKind.Frontend);
        StatRow? back = rows.FirstOrDefault(row => row.Kind == StatKind.Backend);
        StatRow[] servers = [.. rows.Where(row => row.Kind == StatKind.Server)];
        long refused, served, errors;
        if (table.TryGetValue(service, out long[]? counted))
        {
            (served, refused, errors) = (counted[0], counted[1], counted[2]);
        }
        else
        {
            // Without the table: a queue timeout is a connection error of the backend and of none of its servers. So is a request that
            // found no server at all, which is overload as well. The count can only grow when a server that had errors is deleted.
            long connectErrors = back?.ConnectErrors ?? 0;
            refused = Math.Max(0, connectErrors - servers.Sum(row => row.ConnectErrors));
            errors = connectErrors - refused + (back?.ResponseErrors ?? 0);
            served = Math.Max(0, (back?.Answers ?? 0) - connectErrors - (back?.ResponseErrors ?? 0));
        }

        return new ServiceCounters
        {
            Service = service,
            // A backend's own count of requests grows when they end; its sessions when they arrive.
            Requests = front?.Requests ?? back?.TotalSessions ?? 0,
            Served = served,
            Refused = refused,
            Errors = errors,
            Queue = (int)((back?.Queue ?? 0) + servers.Sum(row => row.Queue)),
            Sessions = (int)servers.Sum(row => row.Sessions),
            ResponseTime = TimeSpan.FromMilliseconds(back?.ResponseMilliseconds ?? 0),
        };
    }
}

/// <summary>What a row of <c>show stat</c> is about; HAProxy's own numbers.</summary>
internal enum StatKind
{
    /// <summary>A frontend.</summary>
    Frontend,

    /// <summary>A backend.</summary>
    Backend,

    /// <summary>A server.</summary>
    Server,

    /// <summary>A listener.</summary>
    Listener,
}

/// <summary>A row of <c>show stat</c>.</summary>
internal sealed record StatRow(string Proxy, string Server, StatKind Kind, string Status, string Address)
{
    /// <summary>Its share of new requests; an operator's 0 is as good as a drain.</summary>
    public long Weight { get; init; }

    /// <summary>Requests that wait.</summary>
    public long Queue { get; init; }

    /// <summary>Requests that are open.</summary>
    public long Sessions { get; init; }

    /// <summary>Requests so far.</summary>
    public long Requests { get; init; }

    /// <summary>Sessions so far.</summary>
    public long TotalSessions { get; init; }

    /// <summary>Answers so far, HAProxy's own included.</summary>
    public long Answers { get; init; }

    /// <summary>Requests that reached no server.</summary>
    public long ConnectErrors { get; init; }

    /// <summary>Requests whose server did not answer well.</summary>
    public long ResponseErrors { get; init; }

    /// <summary>Average response time of the last 1024 requests.</summary>
    public long ResponseMilliseconds { get; init; }
}
