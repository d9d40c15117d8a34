using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Shows servers as they are now, host by host as their answers come.</summary>
[Cmdlet(VerbsCommon.Get, "VMatrixServer", DefaultParameterSetName = "Name")]
[OutputType(typeof(ServerInfo), ParameterSetName = ["Name", "Id"])]
[OutputType(typeof(ForeignMachine), ParameterSetName = ["Foreign"])]
public sealed class GetVMatrixServerCommand : NarrowedCommand
{
    /// <summary>Names of servers, or of machines with -Foreign, with wildcards.</summary>
    [Parameter(Position = 0, ParameterSetName = "Name")]
    [Parameter(Position = 0, ParameterSetName = "Foreign")]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(ServerCompleter))]
    public string[]? Name { get; set; }

    /// <summary>Ids of servers.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "Id")]
    public Guid[]? Id { get; set; }

    /// <summary>Shows the machines on the pool's hosts that are no servers of it instead: foreign ones, clones, those of other controllers. They are never touched until they are registered.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "Foreign")]
    public SwitchParameter Foreign { get; set; }

    /// <summary>Only servers of these services, with wildcards.</summary>
    [Parameter(ParameterSetName = "Name")]
    [Parameter(ParameterSetName = "Id")]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(ServiceCompleter))]
    public string[]? Service { get; set; }

    /// <summary>Only servers in these stages. Disposed servers are shown only when this asks for them, or -Id does.</summary>
    [Parameter(ParameterSetName = "Name")]
    [Parameter(ParameterSetName = "Id")]
    public Stage[]? Stage { get; set; }

    /// <summary>Only servers on these hosts, with wildcards.</summary>
    [Parameter]
    [Alias("Host")]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(HostCompleter))]
    public string[]? HostName { get; set; }

    /// <summary>Does not ask the servers' health checks, which is faster.</summary>
    [Parameter(ParameterSetName = "Name")]
    [Parameter(ParameterSetName = "Id")]
    public SwitchParameter SkipHealthCheck { get; set; }

    private protected override bool Show(IReadOnlyList<PoolObject>? narrowing)
    {
        string path = PoolPath;
        if (Foreign)
        {
            ShowForeign(narrowing);
            return true;
        }

        Func<string?, bool> name = Filter(Name), service = Filter(Service), host = Filter(HostName);
        var ids = Id is null ? null : new HashSet<Guid>(Id);
        var asked = narrowing is null ? null : new HashSet<Guid>(narrowing.SelectMany(n => n.Servers ?? []));
        Stage[] stages = Stage ?? (Id is null ? [VMatrix.Stage.Nest, VMatrix.Stage.Chamber, VMatrix.Stage.Matrix] : s_all);
        bool Fits(ServerInfo server) =>
            (Stage is null && asked?.Contains(server.Id) is true ? s_all : stages).Contains(server.Stage)
            && ids?.Contains(server.Id) is not false && name(server.Name) && service(server.Service) && host(server.Host)
            && (narrowing is null || narrowing.Any(n => IsMeant(n, server)));
        var all = InPool("Asking the hosts", (pool, cancellation) => pool.GetServersAsync(!SkipHealthCheck, found => Post(() =>
        {
            foreach (var server in found.OrderBy(s => s.Name, StringComparer.OrdinalIgnoreCase))
            {
                if (Fits(server))
                    WriteObject(Pooled.In(path, server));
            }
        }), cancellation));
        Sessions.Remember(path, all);
        var silent = ReportSilent();
        ReportMissing("Server", Name, [.. all.Select(s => s.Name)], PoolName, silent);
        ReportMissing("Service", Service, [.. Spec!.Services.Select(s => s.Name), .. all.Select(s => s.Service)], PoolName);
        ReportMissing("Host", HostName, [.. Spec.Hosts.Select(h => h.Name)], PoolName);
        foreach (var id in (ids ?? []).Except(all.Select(s => s.Id)))
            WriteError(Errors.From(Errors.NotFound("Server", id, PoolName, silent), id));
        return true;
    }

    private static readonly Stage[] s_all = [VMatrix.Stage.Nest, VMatrix.Stage.Chamber, VMatrix.Stage.Matrix, VMatrix.Stage.Disposed];

    private static bool IsMeant(PoolObject by, ServerInfo server) =>
        by.Servers is { } servers ? servers.Contains(server.Id)
        : by.Service is { } service ? string.Equals(service, server.Service, StringComparison.OrdinalIgnoreCase)
        : by.Hosts is { } hosts && hosts.Contains(server.Host, StringComparer.OrdinalIgnoreCase);

    private void ShowForeign(IReadOnlyList<PoolObject>? narrowing)
    {
        Func<string?, bool> name = Filter(Name), host = Filter(HostName);
        var hosts = Names(narrowing, n => n.Hosts ?? []);
        var all = InPool("Asking the hosts", (pool, cancellation) => pool.GetForeignAsync(cancellation));
        WriteEach(all.Where(m => name(m.Name) && (HostName is null || host(m.Host)) && (hosts is null || (m.Host is not null && hosts.Contains(m.Host)))));
        _ = ReportSilent();
        foreach (string missing in Name ?? [])
        {
            if (!WildcardPattern.ContainsWildcardCharacters(missing) && !all.Any(m => string.Equals(m.Name, missing, StringComparison.OrdinalIgnoreCase)))
                WriteError(Errors.From(new VMatrixException("MachineNotFound", VMatrixErrorKind.NotFound, $"There is no machine '{missing}' on the hosts of pool '{PoolName}' that is not a server of it."), missing));
        }
    }
}
