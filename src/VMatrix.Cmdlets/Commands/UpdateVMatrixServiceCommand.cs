using System;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Replaces a service's servers in the Matrix by ones of its newest image, a few at a time, and returns to the old ones when the new ones fail.</summary>
[Cmdlet(VerbsData.Update, "VMatrixService", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Medium)]
[OutputType(typeof(UpdateResult))]
public sealed class UpdateVMatrixServiceCommand : ChangingCommand
{
    /// <summary>The services: names, or objects of <c>Get-VMatrixService</c>.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Alias("Name")]
    [ArgumentCompleter(typeof(ServiceCompleter))]
    public ServiceIdentity[] Service { get; set; } = null!;

    /// <summary>Servers that are replaced at once; 1 unless said.</summary>
    [Parameter]
    [ValidateRange(1, 1000)]
    public int BatchSize { get; set; } = 1;

    /// <summary>How long the new servers must stay healthy under load before the old ones go; ten seconds unless said.</summary>
    [Parameter]
    [Duration]
    public TimeSpan Watch { get; set; } = TimeSpan.FromSeconds(10);

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var service in Service)
        {
            ForItem(service.Name, service.Pool, () =>
            {
                if (!Agreed($"service '{service}'", $"Replace its servers by ones of its newest image, {BatchSize} at a time"))
                    return;
                using var progress = new MoveProgress(this, 0);
                var result = InPool($"Replacing the servers of {service}", (pool, cancellation) => pool.UpdateServiceAsync(service.Name, BatchSize, Watch, progress, cancellation));
                Write(result);
                if (result.Error is not null)
                    throw new VMatrixException("UpdateFailed", VMatrixErrorKind.Failed, $"Service '{service}' was not brought to image {result.Image}: {result.Error}");
            });
        }
    }
}
