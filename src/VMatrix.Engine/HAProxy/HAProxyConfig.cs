using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;
using VMatrix.Drivers;

namespace VMatrix.HAProxy;

/// <summary>Writes the configuration of an HAProxy that the pool owns, and the words by which servers join one.</summary>
internal static class HAProxyConfig
{
    /// <summary>The table that counts what became of requests, by service; an owner of a joined HAProxy may keep one too.</summary>
    public const string CounterTable = "vmatrix-counters";

    /// <summary>The ring that holds each request that did not end well, with HAProxy's own termination code.</summary>
    public const string EndedRing = "vmatrix-ended";

    /// <summary>The header that names the server that answered.</summary>
    public const string ServerHeader = "X-VMatrix-Server";

    /// <summary>The runtime socket, in the folder that HAProxy runs in: by its whole path it might be too long for a socket.</summary>
    public const string SocketFile = "haproxy.sock";

    /// <summary>The states of servers that a reload carries over.</summary>
    public const string StateFile = "haproxy.state";

    /// <summary>
    /// The server that holds requests while no other one is up. Nothing listens at its address (port 1 is below those that users may open), so a
    /// request tries again after a second, and goes to a server as soon as one is up.
    /// </summary>
    public const string HoldServer = "vmatrix-wait";

    /// <summary>How the names of servers begin that are added and removed again, to see whether a backend takes servers.</summary>
    public const string TrialPrefix = "vmatrix-trial-";

    /// <summary>HAProxy waits so long between two tries of a request; the longest hold keeps a request from trying for ever.</summary>
    private const int SecondsBetweenTries = 1, LongestHoldSeconds = 60;

    private const string HoldAddress = "127.0.0.1:1";

    private const string ServerPrefix = "vmatrix-";

    /// <summary>The name of a service's frontend. From HAProxy 3.3 on no two proxies may have one name, and a colon is in no service's name.</summary>
    public static string FrontendOf(string service) => service + ":users";

    /// <summary>The name in HAProxy of a server: it carries the id, so that members are known again by anyone.</summary>
    public static string ServerName(Guid server) => ServerPrefix + server.ToString("N");

    /// <summary>The id in a server's name; empty for a member that VMatrix did not add.</summary>
    public static Guid ServerId(string name) =>
        name.StartsWith(ServerPrefix, StringComparison.Ordinal) && Guid.TryParseExact(name.AsSpan(ServerPrefix.Length), "N", out Guid id) ? id : Guid.Empty;

    /// <summary>The keywords of a server line, the same at run time and in a file; the owner's own come last.</summary>
    public static string ServerKeywords(ServiceSpec service, string server)
    {
        HealthSpec health = service.Health;
        string words = string.Create(CultureInfo.InvariantCulture, $"check inter {Milliseconds(health.Interval)}ms fall {health.Failures} rise 2");
        if (service.Concurrency is { } most)
            words = string.Create(CultureInfo.InvariantCulture, $"{words} maxconn {most}");
        return service.ServerKeywords is { } own ? $"{words} {CheckKeywords(service, own).Replace("{server}", server, StringComparison.Ordinal)}" : words;
    }

    /// <summary>The whole file. Each value in it was checked or parsed to its type, so that none can end its line.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="members">Servers to begin with: those that a reload carries over, whose states are in <see cref="StateFile"/>.</param>
    public static string Write(PoolSpec pool, IReadOnlyList<CarriedServer> members)
    {
        long queue = Milliseconds(pool.Balancer.QueueTimeout);
        var text = new StringBuilder();
        // noreuseport: with it on, a second HAProxy on the same port would share its users without a word.
        text.Append(CultureInfo.InvariantCulture, $"""
            # Written by VMatrix for pool {Quote(pool.Name)} and rewritten when the pool file changes: edit that one.
            global
                stats socket unix@{SocketFile} mode 600 level admin expose-fd listeners
                stats timeout 60s
                stats maxconn 100
                fd-hard-limit 65536
                noreuseport
                hard-stop-after 5m
                {(members.Count > 0 ? "server-state-file " + StateFile : "# no server's state is carried over")}
                log ring@{EndedRing} format raw daemon

            ring {EndedRing}
                format raw
                maxlen 512
                size 2097152

            # A server that leaves or dies before it answered costs no request: what may be repeated goes to another server.
            defaults
                mode http
                log global
                option dontlog-normal
                log-format "ended %b %s %ts %ST %Tw %[var(txn.vmatrix_id)]"
                balance leastconn
                timeout connect 5s
                timeout client 60s
                timeout server 60s
                timeout http-request 30s
                timeout http-keep-alive 30s
                timeout queue {queue}ms
                retries {Tries(pool.Balancer.QueueTimeout)}
                option redispatch 1
                retry-on conn-failure empty-response
                http-reuse safe
                option abortonclose

            # By service: gpc0 answered by a server, gpc1 refused because the queue took too long (termination code sQ), gpc2 failed otherwise.
            backend {CounterTable}
                stick-table type string len 64 size 1k nopurge store gpc(3)

            """);
        foreach (ServiceSpec service in pool.Services)
        {
            CheckName(service.Name);
            string listen = service.Listen ?? throw new VMatrixException("ServiceListenMissing", VMatrixErrorKind.InvalidInput,
                $"Service {service.Name} in {pool.Path} says nowhere to listen; the pool owns its HAProxy, so write 'listen: address:port'.");
            HealthSpec health = service.Health;
            text.AppendLine().Append(CultureInfo.InvariantCulture, $"""
                frontend {FrontendOf(service.Name)}
                    bind {Quote(listen)}

                """);
            if (pool.Balancer.MostOpen is { } mostOpen)
                text.Append(CultureInfo.InvariantCulture, $"    maxconn {mostOpen}\n");
            // HAProxy keeps no counter for a termination code. A request whose queue timed out is one that it answered 503 by itself, that
            // waited the whole queue timeout, and that has no server, or was held because none was up; sc_inc_gpc counts where it stands,
            // after all other conditions.
            text.Append(CultureInfo.InvariantCulture, $$"""
                    http-request track-sc0 str({{service.Name}}) table {{CounterTable}}
                    http-request set-var(txn.vmatrix_id) req.hdr(x-request-id)
                    http-request disable-l7-retry unless { method GET HEAD OPTIONS }
                    http-response set-var(txn.vmatrix_answered) bool(true)
                    http-response sc-inc-gpc(0,0)
                    http-response set-header {{ServerHeader}} %s if { var(txn.vmatrix_id) -m found }
                    http-after-response set-var-fmt(txn.vmatrix_waited) %Tw
                    http-after-response set-var-fmt(txn.vmatrix_server) %s
                    acl answered var(txn.vmatrix_answered) -m bool
                    acl queued var(txn.vmatrix_waited) -m int ge {{Math.Max(0, queue - 5)}}
                    acl no_server var(txn.vmatrix_server) -m str <NOSRV>
                    acl held var(txn.vmatrix_server) -m str {{HoldServer}}
                    http-after-response set-var(txn.vmatrix_refused) bool(true) if !answered { status 503 } held { sc_inc_gpc(1,0) gt 0 }
                    http-after-response set-var(txn.vmatrix_refused) bool(true) if !answered { status 503 } no_server queued { sc_inc_gpc(1,0) gt 0 }
                    http-after-response set-var(txn.vmatrix_failed) bool(true) if !answered !{ var(txn.vmatrix_refused) -m bool } { sc_inc_gpc(2,0) gt 0 }
                    default_backend {{service.Name}}

                backend {{service.Name}}
                    option httpchk GET {{Quote(health.Path)}}
                    http-check expect status {{health.Expect}}
                    timeout check {{Milliseconds(health.Timeout)}}ms
                    load-server-state-from-file {{(members.Count > 0 ? "global" : "none")}}
                    server {{HoldServer}} {{HoldAddress}} backup

                """);
            foreach (CarriedServer member in members.Where(member => member.Service == service.Name))
                text.Append(CultureInfo.InvariantCulture, $"    server {ServerName(member.ServerId)} {member.Address} {ServerKeywords(service, ServerName(member.ServerId))}\n");
        }

        return text.ToString();
    }

    /// <summary>The name of a service, where HAProxy can carry it.</summary>
    /// <exception cref="VMatrixException"><c>ServiceNameInvalid</c>.</exception>
    public static string CheckName(string service) =>
        service.Length is > 0 and <= 63 && service != CounterTable && service != EndedRing && service.All(letter => char.IsAsciiLetterOrDigit(letter) || letter is '-' or '_' or '.')
            ? service
            : throw new VMatrixException("ServiceNameInvalid", VMatrixErrorKind.InvalidInput,
                $"HAProxy cannot carry a service named '{Outsiders.Show(service)}': use letters, digits, '-', '_' and '.', at most 63 of them, and neither {CounterTable} nor {EndedRing}.");

    // What HAProxy's command line and its file would take for the end of a word, of a command, or for a quote, is none of a keyword's.
    private static string CheckKeywords(ServiceSpec service, string keywords) =>
        keywords.Length <= 500 && keywords.All(letter => char.IsAsciiLetterOrDigit(letter) || " -_.,:/@=+%{}()[]*".Contains(letter, StringComparison.Ordinal))
            ? keywords.Trim()
            : throw new VMatrixException("ServerKeywordsInvalid", VMatrixErrorKind.InvalidInput,
                $"The serverKeywords of service {service.Name} are '{Outsiders.Show(keywords)}': use letters, digits, spaces and -_.,:/@=+%{{}}()[]*, at most 500 of them, such as: ssl verify none.");

    // A request that no server can take is held for the queue's timeout, as one that waits in the queue is.
    private static int Tries(TimeSpan queueTimeout) => (int)Math.Clamp(Math.Ceiling(queueTimeout.TotalSeconds / SecondsBetweenTries), 1, LongestHoldSeconds);

    private static long Milliseconds(TimeSpan time) => Math.Max(1, (long)Math.Ceiling(time.TotalMilliseconds));

    // Strong quotes of HAProxy's file syntax: nothing in between is expanded.
    private static string Quote(string value)
    {
        if (value.Any(char.IsControl))
            throw new VMatrixException("BalancerSettingInvalid", VMatrixErrorKind.InvalidInput, $"'{Outsiders.Show(value)}' holds a control character, which HAProxy's configuration cannot carry.");
        return "'" + value.Replace("'", "'\\''", StringComparison.Ordinal) + "'";
    }
}
