using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Makes a new image version of a service from a server that was repaired or upgraded in the Chamber, or goes back to an older version.</summary>
[Cmdlet(VerbsData.Publish, "VMatrixImage", SupportsShouldProcess = true, DefaultParameterSetName = "Server")]
[OutputType(typeof(PublishedImage))]
public sealed class PublishVMatrixImageCommand : ChangingCommand
{
    /// <summary>The server in the Chamber that the version is made from: its id, its name, or an object that has one of them. It stays in the Chamber and goes on.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ParameterSetName = "Server")]
    [Alias("Id", "Name")]
    [ArgumentCompleter(typeof(ServerCompleter))]
    public ServerIdentity[] Server { get; set; } = null!;

    /// <summary>The service that goes back to an older version.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "Version")]
    [ArgumentCompleter(typeof(ServiceCompleter))]
    public ServiceIdentity Service { get; set; } = null!;

    /// <summary>The version in the nest that new servers are made from again, as the Image of servers that were made from it says.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "Version")]
    [ValidateNotNullOrEmpty]
    public string Version { get; set; } = null!;

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        if (ParameterSetName == "Version")
        {
            ForItem(Service.Name, Service.Pool, Select);
            return;
        }

        foreach (var server in Server)
            ForItem(server.Input, server.Pool, () => Publish(server));
    }

    private void Publish(ServerIdentity server)
    {
        var found = Resolve(server, s => s.Stage is Stage.Chamber);
        var listing = Listing();
        var move = InPool("Looking at the server", (pool, cancellation) => pool.PlanPublishAsync(found.Id, cancellation, listing));
        if (!Agreed(move))
            return;
        using var progress = new MoveProgress(this, 1);
        Write(InPool($"Making an image from {move.ServerName}", (pool, cancellation) => pool.PublishImageAsync(found.Id, progress, cancellation)));
    }

    private void Select()
    {
        if (!Agreed($"service '{Service}'", $"Make new servers from image version {Version}"))
            return;
        _ = InPool("Selecting the image", async (pool, cancellation) =>
        {
            await pool.SelectImageAsync(Service.Name, Version, cancellation);
            return true;
        });
    }
}
