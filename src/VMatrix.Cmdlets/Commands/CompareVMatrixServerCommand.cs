using System;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Shows what stands in the way of moving servers, each finding with the command that mends it. Nothing is changed.</summary>
[Cmdlet(VerbsData.Compare, "VMatrixServer")]
[OutputType(typeof(MoveObstacle))]
public sealed class CompareVMatrixServerCommand : VMatrixCommand
{
    /// <summary>The servers: ids, names, or objects that have one of them.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Alias("Id", "Name")]
    [ArgumentCompleter(typeof(ServerCompleter))]
    public ServerIdentity[] Server { get; set; } = null!;

    /// <summary>The host they are to go to; every host of the stage unless said.</summary>
    [Parameter(Position = 1)]
    [ArgumentCompleter(typeof(HostCompleter))]
    public HostIdentity? Destination { get; set; }

    /// <summary>The stage they are to go to; the one that the destination is for unless said.</summary>
    [Parameter]
    [ValidateSet("Nest", "Chamber", "Matrix")]
    public Stage? Stage { get; set; }

    /// <summary>Looks at a move of the running machine without stopping it, where the hypervisor can.</summary>
    [Parameter]
    public SwitchParameter Live { get; set; }

    /// <summary>The pool: the path of its file or folder, or an object of <c>Get-VMatrixPool</c>.</summary>
    [Parameter]
    [ValidateNotNull]
    public override PoolIdentity? Pool { get; set; }

    private protected override bool ForChange => false;

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var server in Server)
        {
            ForItem(server.Input, server.Pool, () =>
            {
                try
                {
                    Compare(server);
                }
                finally
                {
                    _ = ReportSilent();
                }
            });
        }
    }

    private void Compare(ServerIdentity server)
    {
        var one = Resolve(server, s => s.Stage is not VMatrix.Stage.Disposed);
        var listing = Listing();
        var found = InPool("Comparing", (pool, cancellation) => pool.CompareAsync(one.Id, Stage, Destination?.Name, Live, cancellation, listing));
        WriteEach(found.OrderBy(f => f.Destination, StringComparer.OrdinalIgnoreCase).ThenBy(f => f.Group).ThenByDescending(f => f.Severity));
        if (found.Count == 0)
            WriteVerbose($"Nothing stands in the way of {server}.");
    }
}
