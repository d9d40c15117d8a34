using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.HAProxy;

/// <summary>
/// Looks at the backends of a joined HAProxy: whether they take servers at run time, and what their owner's file gives to its own servers and not to
/// one that is added. Such a server gets nothing from the file's default-server line (management.txt of HAProxy, "add server").
/// </summary>
internal sealed class HAProxyExamination(PoolSpec pool, HAProxySocket socket)
{
    // For documentation only (RFC 5737). A server that is added is in maintenance until it is told otherwise, and asks nothing there.
    private const string Nowhere = "192.0.2.1:9";

    /// <summary>Examines the backends of all services.</summary>
    /// <param name="info">What <c>show info</c> said.</param>
    /// <param name="again">The run that was examined before and need not be again; null for none.</param>
    /// <param name="trial">True to add a server to each backend and remove it at once, as the only proof that it takes one.</param>
    /// <param name="cancellation">Ends the call.</param>
    public async Task<(IReadOnlyList<BalancerFinding> Refusals, IReadOnlyList<BalancerFinding> Warnings, string Incarnation)> ExamineAsync(
        string info, string? again, bool trial, CancellationToken cancellation)
    {
        string incarnation = HAProxyInfo.Parse(info).Incarnation;
        if (again == incarnation)
            return ([], [], incarnation);
        var (refusals, warnings) = (new List<BalancerFinding>(), new List<BalancerFinding>());
        IReadOnlyList<StatRow> before = await StatAsync(cancellation);
        string tried = HAProxyConfig.TrialPrefix + Guid.NewGuid().ToString("N");
        var added = new HashSet<string>(StringComparer.Ordinal);
        try
        {
            if (trial)
            {
                // What an examination left that was cut short.
                foreach (StatRow left in before.Where(row => row.Server.StartsWith(HAProxyConfig.TrialPrefix, StringComparison.Ordinal) && pool.Services.Any(service => service.Name == row.Proxy)))
                    await socket.AskAsync($"del server {left.Proxy}/{left.Server}", cancellation);
                foreach (ServiceSpec service in pool.Services)
                {
                    string keywords = HAProxyConfig.ServerKeywords(service, tried);
                    string answer = await socket.AskAsync($"add server {HAProxyConfig.CheckName(service.Name)}/{tried} {Nowhere} {keywords}", cancellation);
                    if (answer.Contains("registered", StringComparison.Ordinal))
                        added.Add(service.Name);
                    else
                        refusals.Add(Refusal(service, before.FirstOrDefault(row => row.Kind == StatKind.Backend && row.Proxy == service.Name), keywords, answer));
                }
            }

            IReadOnlyList<StatRow> rows = added.Count > 0 ? await StatAsync(cancellation) : before;
            ILookup<(string, string), ServerFacts> facts = ServerFacts.Parse(await socket.AskAsync(CarriedServer.Command, cancellation)).ToLookup(fact => (fact.Service, fact.Server));
            foreach (ServiceSpec service in pool.Services)
                warnings.AddRange(Compare(service, [.. rows.Where(row => row.Proxy == service.Name)], facts, tried).Select(text => new BalancerFinding(service.Name, IsRefusal: false, text)));
        }
        finally
        {
            // Also when the caller has gone: it must not stay.
            foreach (string service in added)
                await RemoveAsync($"{service}/{tried}");
        }

        return (refusals, warnings, incarnation);
    }

    private async Task RemoveAsync(string name)
    {
        try
        {
            await socket.AskAsync($"del server {name}", CancellationToken.None);
        }
        catch (VMatrixException)
        {
            // The next examination removes it.
        }
    }

    private async Task<IReadOnlyList<StatRow>> StatAsync(CancellationToken cancellation) => HAProxyReport.ParseStat(await socket.AskAsync("show stat", cancellation));

    private static BalancerFinding Refusal(ServiceSpec service, StatRow? backend, string keywords, string answer) => new(service.Name, IsRefusal: true,
        answer.Contains("dynamic", StringComparison.OrdinalIgnoreCase) && !answer.Contains("not accepted", StringComparison.Ordinal)
            ? $"The backend {service.Name} of HAProxy takes no servers at run time: {Outsiders.Show(answer).TrimEnd('.')}. It has 'balance {(backend?.Algorithm is { Length: > 0 } algorithm ? algorithm : "?")}'; write a dynamic algorithm there, such as 'balance leastconn', and reload HAProxy."
            : $"The backend {service.Name} of HAProxy refuses a server with the keywords '{keywords}': {Outsiders.Show(answer).TrimEnd('.')}. Change what it names in HAProxy's configuration, or the serverKeywords of service {service.Name} in the pool file.");

    private static IEnumerable<string> Compare(ServiceSpec service, StatRow[] rows, ILookup<(string, string), ServerFacts> facts, string tried)
    {
        string name = service.Name, keywords = " " + service.ServerKeywords + " ";
        StatRow? backend = rows.FirstOrDefault(row => row.Kind == StatKind.Backend);
        if (backend is { Cookie.Length: > 0 } && !keywords.Contains(" cookie ", StringComparison.Ordinal))
            yield return $"The backend {name} of HAProxy keeps users at their server by the cookie {backend.Cookie}, and a server that is added at run time has no value for it. Write for service {name} in the pool file: serverKeywords: \"cookie {{server}}\" (HAProxy takes it from 3.0 on).";
        if (backend?.Mode == "tcp")
            yield return $"The backend {name} of HAProxy is of mode tcp: sessions count as requests, and none as answered badly. Write 'mode http' there if its users speak HTTP.";
        if (backend?.Mode != "tcp" && rows.FirstOrDefault(row => row.Kind == StatKind.Server && row.Check is "L4OK" or "L6OK") is { } connected)
            yield return $"HAProxy's checks of the backend {name} only connect (server {Outsiders.Show(connected.Server)}), so that one whose service has failed still gets requests. Write there: option httpchk GET {service.Health.Path}.";

        // The owner's own servers, beside one that was added as ours are.
        StatRow[] own = [.. rows.Where(row => row.Kind == StatKind.Server && HAProxyConfig.ServerId(row.Server) == Guid.Empty && !row.Server.StartsWith(HAProxyConfig.TrialPrefix, StringComparison.Ordinal))];
        ServerFacts[] ownFacts = [.. own.SelectMany(row => facts[(name, row.Server)])];
        if (facts[(name, tried)].FirstOrDefault() is not { } ours || ownFacts.Length == 0)
            yield break;
        if (ownFacts.Any(fact => fact.Encrypted) && !ours.Encrypted)
            yield return $"HAProxy speaks TLS with its own servers of the backend {name}, and not with one that is added at run time. Write for service {name} in the pool file, for example: serverKeywords: \"ssl verify required ca-file /etc/ssl/certs/ca-certificates.crt\".";
        if (ownFacts.All(fact => fact.Weight != ours.Weight))
            yield return string.Create(CultureInfo.InvariantCulture, $"HAProxy's own servers of the backend {name} have the weight {ownFacts[0].Weight}, and one that is added at run time has {ours.Weight}, so that it gets another share of the requests. Write for service {name} in the pool file: serverKeywords: \"weight {ownFacts[0].Weight}\".");
        if (own.All(row => row.Limit > 0) && rows.FirstOrDefault(row => row.Server == tried) is { Limit: 0 })
            yield return string.Create(CultureInfo.InvariantCulture, $"HAProxy's own servers of the backend {name} get at most {own[0].Limit} requests at a time, and one that is added at run time any number. Write for service {name} in the pool file: concurrency: {own[0].Limit}.");
    }

    /// <summary>What <c>show servers state</c> says of a server, as far as it is compared.</summary>
    private sealed record ServerFacts(string Service, string Server, long Weight, bool Encrypted)
    {
        public static IEnumerable<ServerFacts> Parse(string answer)
        {
            string[]? columns = null;
            foreach (string line in answer.Split('\n'))
            {
                if (line.StartsWith("# ", StringComparison.Ordinal))
                {
                    columns = line[2..].Trim().Split(' ');
                    continue;
                }

                string[] fields = line.Trim().Split(' ');
                if (columns is null || fields.Length < columns.Length)
                    continue;
                string Text(string column) => Array.IndexOf(columns, column) is >= 0 and var index ? fields[index] : "";
                yield return new ServerFacts(Text("be_name"), Text("srv_name"), HAProxyText.Number("srv_iweight", Text("srv_iweight")), Text("srv_use_ssl") == "1");
            }
        }
    }
}
