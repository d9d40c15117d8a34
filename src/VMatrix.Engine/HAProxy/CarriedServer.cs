using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Net;
using System.Text;

namespace VMatrix.HAProxy;

/// <summary>A server of ours that a reload carries over, with the state that HAProxy had it in. Each field was parsed to its type and is written from that.</summary>
internal sealed record CarriedServer(string Service, Guid ServerId, IPEndPoint Address)
{
    /// <summary>The command whose answer <see cref="Parse"/> reads.</summary>
    public const string Command = "show servers state";

    /// <summary>The columns of version 1 of the state file, as management.txt of HAProxy has them under "show servers state".</summary>
    private const string Columns = "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status "
        + "srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port";

    /// <summary>The columns that are numbers and are carried, in their order.</summary>
    private static readonly string[] s_carried = ["srv_op_state", "srv_admin_state", "srv_uweight", "srv_iweight", "srv_time_since_last_change", "srv_check_status", "srv_check_result", "srv_check_health", "srv_check_state", "srv_agent_state"];

    /// <summary>The carried columns' values, in the order of the state file.</summary>
    public required IReadOnlyList<long> State { get; init; }

    /// <summary>The servers of ours in an answer to <see cref="Command"/> whose service the pool still has.</summary>
    /// <exception cref="VMatrixException"><c>BalancerAnswerInvalid</c>.</exception>
    public static IEnumerable<CarriedServer> Parse(string answer, PoolSpec pool)
    {
        var services = pool.Services.Select(service => service.Name).ToHashSet(StringComparer.Ordinal);
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
            string Text(string column) => Array.IndexOf(columns, column) is >= 0 and var index ? fields[index] : throw HAProxyText.Invalid($"the states of servers have no column {column}");
            Guid id = HAProxyConfig.ServerId(Text("srv_name"));
            if (id == Guid.Empty || !services.Contains(Text("be_name")))
                continue;
            if (!IPAddress.TryParse(Text("srv_addr"), out IPAddress? ip) || !ushort.TryParse(Text("srv_port"), NumberStyles.None, CultureInfo.InvariantCulture, out ushort port))
                throw HAProxyText.Invalid($"the address of server {id} is '{Text("srv_addr")}' and its port '{Text("srv_port")}'");
            yield return new CarriedServer(Text("be_name"), id, new IPEndPoint(ip, port)) { State = [.. s_carried.Select(column => HAProxyText.Number(column, Text(column).TrimStart('-')))] };
        }
    }

    /// <summary>A state file of the servers, which HAProxy reads at its start.</summary>
    public static string Write(IEnumerable<CarriedServer> servers)
    {
        var text = new StringBuilder("1\n# ").Append(Columns).Append('\n');
        int number = 0;
        foreach (CarriedServer server in servers)
        {
            number++;
            text.Append(CultureInfo.InvariantCulture, $"{number} {server.Service} {number} {HAProxyConfig.ServerName(server.ServerId)} {server.Address.Address} ")
                .AppendJoin(' ', server.State.Select(value => value.ToString(CultureInfo.InvariantCulture)))
                .Append(CultureInfo.InvariantCulture, $" 0 0 - {server.Address.Port} - 0 0 - - 0\n");
        }

        return text.ToString();
    }
}
