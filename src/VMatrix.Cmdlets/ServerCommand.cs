using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>A cmdlet that changes servers: each is looked at as it comes down the pipeline.</summary>
public abstract class ServerCommand : ChangingCommand
{
    /// <summary>The servers: ids, names, or objects that have one of them.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Alias("Id", "Name")]
    [ArgumentCompleter(typeof(ServerCompleter))]
    public ServerIdentity[] Server { get; set; } = null!;

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var server in Server)
            ForItem(server.Input, server.Pool, () => Prepare(server));
    }

    /// <summary>Makes a server's move, asks for it, and keeps it for the end, where all go at once.</summary>
    private protected abstract void Prepare(ServerIdentity server);
}
