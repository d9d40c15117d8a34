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
    /// <exception cref="VMatrixException"><c>BalancerAnswerInvalid</c>.</exception>
    public static BalancerReport Parse(string answers, IReadOnlyList<ServiceSpec> services, DateTimeOffset at)
    {
        string[] parts = answers.Split("\n\n");
        IReadOnlyList<StatRow> rows = ParseStat(parts.Length > 1 ? parts[1] : "");
        IReadOnlyDictionary<string, long[]> table = ParseTable(parts.Length > 2 ? parts[2] : "");
        ILookup<string, StatRow> byProxy = rows.ToLookup(row => row.Proxy);
        return new BalancerReport
        {
            At = at,
            Incarnation = HAProxyInfo.Parse(parts[0]).Incarnation,
            Members = [.. services.SelectMany(service => byProxy[service.Name]).Where(row => row.Kind == StatKind.Server && !IsOurTool(row.Server)).Select(Member)],
            Services = [.. services.Select(service => Count(service.Name, [.. byProxy[service.Name], .. byProxy[HAProxyConfig.FrontendOf(service.Name)]], table))],
        };
    }

    /// <summary>Reads <c>show stat</c>, whose columns differ from version to version, by its header.</summary>
    /// <exception cref="VMatrixException"><c>BalancerAnswerInvalid</c>.</exception>
    public static IReadOnlyList<StatRow> ParseStat(string answer)
    {
        string text = answer.TrimStart('\n');
        if (!text.StartsWith("# ", StringComparison.Ordinal))
            throw HAProxyText.Invalid($"its statistics have no header ('{Outsiders.Show(text)}')");
        try
        {
            using CsvReader csv = CsvReader.FromText(text[2..]);
            var rows = new List<StatRow>();
            while (csv.Read())
            {
                string Text(string column) => csv.TryGetFieldIndex(column, out int index) && index < csv.FieldCount ? csv.GetString(index) ?? "" : "";
                long Number(string column) => HAProxyText.Number(column, Text(column));
                if (Text("type") is not ("0" or "1" or "2" or "3"))
                    continue;
                rows.Add(new StatRow(Text("pxname"), Text("svname"), (StatKind)Number("type"), Text("status"), HAProxyText.Address(Text("addr"))?.ToString() ?? "")
                {
                    Weight = Number("weight"),
                    Queue = HAProxyText.Small("qcur", Text("qcur")),
                    Sessions = HAProxyText.Small("scur", Text("scur")),
                    Limit = Number("slim"),
                    TotalSessions = Number("stot"),
                    Requests = Number("req_tot"),
                    Answers = Number("hrsp_1xx") + Number("hrsp_2xx") + Number("hrsp_3xx") + Number("hrsp_4xx") + Number("hrsp_5xx") + Number("hrsp_other"),
                    ConnectErrors = Number("econ"),
                    ResponseErrors = Number("eresp"),
                    ResponseTime = TimeSpan.FromMilliseconds(HAProxyText.Small("rtime", Text("rtime"))),
                    Mode = Text("mode"),
                    Algorithm = Outsiders.Show(Text("algo")),
                    Cookie = Outsiders.Show(Text("cookie")),
                    Check = Text("check_status"),
                });
            }

            return rows;
        }
        catch (Exception error) when (error is CsvFormatException or CsvValidationException or ArgumentException)
        {
            throw HAProxyText.Invalid($"its statistics are no table ({Outsiders.Show(error.Message)})");
        }
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
                    counters[word[3] - '0'] = HAProxyText.Number("a counter of " + HAProxyConfig.CounterTable, word[5..]);
            }

            if (key is not null)
                table[key] = counters;
        }

        return table;
    }

    // What holds requests while no server is up, and what an examination adds and removes, are no servers.
    private static bool IsOurTool(string server) => server == HAProxyConfig.HoldServer || server.StartsWith(HAProxyConfig.TrialPrefix, StringComparison.Ordinal);

    private static BalancerMember Member(StatRow row) => new()
    {
        Service = row.Proxy,
        ServerId = HAProxyConfig.ServerId(row.Server),
        Address = row.Address,
        State = State(row),
        Open = row.Sessions,
        Requests = row.Requests,
        Errors = row.ConnectErrors + row.ResponseErrors,
        ResponseTime = row.ResponseTime,
    };

    private static MemberState State(StatRow row) => row.Status switch
    {
        var status when status.StartsWith("MAINT", StringComparison.Ordinal) => MemberState.Maintenance,
        var status when status.StartsWith("DRAIN", StringComparison.Ordinal) || (row.Weight == 0 && status.StartsWith("UP", StringComparison.Ordinal)) => MemberState.Draining,
        var status when status.StartsWith("DOWN", StringComparison.Ordinal) => MemberState.Down,
        _ => MemberState.Ready,
    };

    private static long Total(IEnumerable<StatRow> rows, Func<StatRow, long> count) => rows.Aggregate(0L, (sum, row) => Math.Min(long.MaxValue / 4, sum + count(row)));

    private static ServiceCounters Count(string service, StatRow[] rows, IReadOnlyDictionary<string, long[]> table)
    {
        StatRow? front = rows.FirstOrDefault(row => row.Kind == StatKind.Frontend);
        StatRow? back = rows.FirstOrDefault(row => row.Kind == StatKind.Backend);
        StatRow[] servers = [.. rows.Where(row => row.Kind == StatKind.Server && !IsOurTool(row.Server))];
        long refused, served, errors;
        if (table.TryGetValue(service, out long[]? counted))
        {
            (served, refused, errors) = (counted[0], counted[1], counted[2]);
        }
        else
        {
            // Without the table: a queue timeout is a connection error of the backend and of none of its servers. So is a request that
            // found no server at all, which is overload as well. The count can only grow when a server that had errors is deleted.
            long connectErrors = back?.ConnectErrors ?? 0, responseErrors = back?.ResponseErrors ?? 0;
            refused = Math.Max(0, connectErrors - Total(servers, row => row.ConnectErrors));
            errors = connectErrors - refused + responseErrors;

            // A backend of mode tcp counts no answers: each session that did not fail is one.
            served = Math.Max(0, (back?.Mode == "tcp" ? back.TotalSessions : back?.Answers ?? 0) - connectErrors - responseErrors);
        }

        // While no server is up, requests are held by a server that stands for none: all that is open in the backend waits.
        long queue = (back?.Queue ?? 0) + Total(servers, row => row.Queue);
        if (back is not null && rows.Any(row => row.Server == HAProxyConfig.HoldServer) && !servers.Any(row => State(row) is MemberState.Ready))
            queue = Math.Max(queue, back.Sessions - Total(servers, row => row.Sessions));
        return new ServiceCounters
        {
            Service = service,
            // A backend's own count of requests grows when they end; its sessions when they arrive.
            Requests = front?.Requests ?? back?.TotalSessions ?? 0,
            Served = served,
            Refused = refused,
            Errors = errors,
            Queue = (int)Math.Min(int.MaxValue, queue),
            Sessions = (int)Math.Min(int.MaxValue, Total(servers, row => row.Sessions)),
            ResponseTime = back?.ResponseTime ?? TimeSpan.Zero,
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
    public int Queue { get; init; }

    /// <summary>Requests that are open.</summary>
    public int Sessions { get; init; }

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

    /// <summary>Most requests that may be open; 0 for no limit.</summary>
    public long Limit { get; init; }

    /// <summary>Average response time of the last 1024 requests.</summary>
    public TimeSpan ResponseTime { get; init; }

    /// <summary>HAProxy's mode, such as http or tcp.</summary>
    public string Mode { get; init; } = "";

    /// <summary>A backend's way of choosing a server.</summary>
    public string Algorithm { get; init; } = "";

    /// <summary>The cookie by which a backend keeps users at their server, or a server's value of it.</summary>
    public string Cookie { get; init; } = "";

    /// <summary>How the last check of a server ended, such as L7OK.</summary>
    public string Check { get; init; } = "";
}
