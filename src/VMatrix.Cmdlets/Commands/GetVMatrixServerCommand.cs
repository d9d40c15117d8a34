using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Shows servers as they are now, host by host as their answers come.</summary>
[Cmdlet(VerbsCommon.Get, "VMatrixServer", DefaultParameterSetName = "Name")]
[OutputType(typeof(ServerInfo))]
public sealed class GetVMatrixServerCommand : ReadingCommand
{
    /// <summary>Names of servers, with wildcards.</summary>
    [Parameter(Position = 0, ParameterSetName = "Name")]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(ServerCompleter))]
    public string[]? Name { get; set; }

    /// <summary>Ids of servers.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "Id")]
    public Guid[]? Id { get; set; }

    /// <summary>Only servers of these services, with wildcards.</summary>
    [Parameter]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(ServiceCompleter))]
    public string[]? Service { get; set; }

    /// <summary>Only servers in these stages. Disposed servers are shown only when this asks for them, or -Id does.</summary>
    [Parameter]
    public Stage[]? Stage { get; set; }

    /// <summary>Only servers on these hosts, with wildcards.</summary>
    [Parameter]
    [Alias("Host")]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(HostCompleter))]
    public string[]? HostName { get; set; }

    /// <summary>Does not ask the servers' health checks, which is faster.</summary>
    [Parameter]
    public SwitchParameter SkipHealthCheck { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord() => ForItem(Pool, () =>
    {
        string path = PoolPath;
        Func<string?, bool> name = Filter(Name), service = Filter(Service), host = Filter(HostName);
        var ids = Id is null ? null : new HashSet<Guid>(Id);
        var stages = new HashSet<Stage>(Stage ?? (Id is null ? [VMatrix.Stage.Nest, VMatrix.Stage.Chamber, VMatrix.Stage.Matrix]
            : [VMatrix.Stage.Nest, VMatrix.Stage.Chamber, VMatrix.Stage.Matrix, VMatrix.Stage.Disposed]));
        var all = InPool("Asking the hosts", (pool, cancellation) => pool.GetServersAsync(!SkipHealthCheck, found => Post(() =>
        {
            foreach (var server in found.OrderBy(s => s.Name, StringComparer.OrdinalIgnoreCase))
            {
                if (stages.Contains(server.Stage) && (ids is null || ids.Contains(server.Id)) && name(server.Name) && service(server.Service) && host(server.Host))
                    WriteObject(server);
            }
        }), cancellation));
        Sessions.Remember(path, all);
        ReportMissing("Server", Name, [.. all.Select(s => s.Name)], PoolName);
        if (ids is not null)
        {
            foreach (var id in ids.Except(all.Select(s => s.Id)))
                WriteError(Errors.From(Errors.NotFound("Server", id, PoolName), id));
        }
    });
}
