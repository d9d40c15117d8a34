using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Shells;

/// <summary>The open CIM session by which a host is reached, looked up by the shell where it runs, as a secret is.</summary>
/// <param name="Host">The host's address, as calls name it.</param>
public sealed record ShellSession(string Host);

/// <summary>
/// The ways to a host. A call names its host by <c>-ComputerName</c>; where somebody has opened a session to that host, the same call is made
/// by the session instead: through a CIM session, or on the host itself.
/// </summary>
public static class HostWays
{
    private static readonly string[] s_modules = ["Hyper-V\\", "CimCmdlets\\", "FailoverClusters\\"];

    /// <summary>The host that a call of Hyper-V's, or what goes with it, is made to; null where it names none, or is another module's.</summary>
    public static string? HostOf(ShellCall call)
    {
        _ = call ?? throw new ArgumentNullException(nameof(call));
        foreach (var command in call.Commands.Where(command => s_modules.Any(module => command.Name.StartsWith(module, StringComparison.OrdinalIgnoreCase))))
        {
            var named = command.Parameters.TryGetValue("ComputerName", out var computer) ? computer : command.Parameters.TryGetValue("Cluster", out var cluster) ? cluster
                : command.Name == "FailoverClusters\\Get-Cluster" && command.Parameters.TryGetValue("Name", out var name) ? name : null;
            if (named is string host)
                return host;
            if (command.Parameters.Values.SelectMany(Calls).Select(HostOf).FirstOrDefault(found => found is not null) is { } inner)
                return inner;
        }

        return null;
    }

    /// <summary>The call through a CIM session. What has no such parameter, such as a cluster's commands, stays as it is.</summary>
    public static ShellCall ByCimSession(ShellCall call, string host) => Change(call, host, new ShellSession(host));

    /// <summary>The call as it is made on the host itself, with the rights of whoever has gone there.</summary>
    public static ShellCall OnHost(ShellCall call, string host) => Change(call, host, null);

    private static ShellCall Change(ShellCall call, string host, ShellSession? session) => call with
    {
        Commands = [.. call.Commands.Select(command =>
        {
            var goes = command.Parameters.TryGetValue("ComputerName", out var computer) && IsHost(computer, host)
                || command.Parameters.TryGetValue("CimSession", out var opened) && opened is ShellCall { Commands: [var open] } && open.Parameters.TryGetValue("ComputerName", out var to) && IsHost(to, host);
            var parameters = new Dictionary<string, object?>(StringComparer.OrdinalIgnoreCase);
            foreach (var parameter in command.Parameters)
                if (!goes || parameter.Key is not ("ComputerName" or "Credential" or "CimSession"))
                    parameters[parameter.Key] = ChangeValue(parameter.Value, host, session);
            if (goes && session is not null)
                parameters["CimSession"] = session;
            return command with { Parameters = parameters };
        })],
    };

    private static object? ChangeValue(object? value, string host, ShellSession? session) => value switch
    {
        ShellCall nested => Change(nested, host, session),
        object[] many => many.Select(each => ChangeValue(each, host, session)).ToArray(),
        _ => value,
    };

    private static IEnumerable<ShellCall> Calls(object? value) => value switch
    {
        ShellCall nested => [nested],
        IEnumerable<object> many => many.OfType<ShellCall>(),
        _ => [],
    };

    private static bool IsHost(object? value, string host) => value is string name && string.Equals(name, host, StringComparison.OrdinalIgnoreCase);
}
