using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Turns the knob of a service: pins its count of servers in the Matrix, or leaves it to the Oracle again.</summary>
[Cmdlet(VerbsCommon.Set, "VMatrixService", SupportsShouldProcess = true, DefaultParameterSetName = "Servers")]
[OutputType(typeof(ServiceInfo))]
public sealed class SetVMatrixServiceCommand : ChangingCommand
{
    private readonly List<(string Pool, string Service)> _changed = [];

    /// <summary>The services: names, or objects of <c>Get-VMatrixService</c>.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Alias("Name")]
    [ArgumentCompleter(typeof(ServiceCompleter))]
    public ServiceIdentity[] Service { get; set; } = null!;

    /// <summary>Servers that the service has in the Matrix from now on, whatever its load.</summary>
    [Parameter(Mandatory = true, Position = 1, ParameterSetName = "Servers")]
    [ValidateRange(0, 100000)]
    public int Servers { get; set; }

    /// <summary>Leaves the count to the Oracle again.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "Auto")]
    public SwitchParameter Auto { get; set; }

    /// <summary>When the pin ends by itself; never unless said.</summary>
    [Parameter(ParameterSetName = "Servers")]
    public DateTimeOffset? Until { get; set; }

    /// <summary>Returns the services as they are after.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (var service in Service)
        {
            ForItem(service.Name, service.Pool, () =>
            {
                if (!Agreed($"service '{service}'", Auto ? "Leave the count of servers to the Oracle" : $"Pin at {Servers} servers{(Until is { } end ? $" until {Times.Show(end)}" : "")}"))
                    return;
                _ = InPool("Pinning", async (pool, cancellation) =>
                {
                    await pool.PinServiceAsync(service.Name, Auto ? null : Servers, Until, cancellation);
                    return true;
                });
                _changed.Add((PoolPath, service.Name));
            });
        }
    }

    /// <inheritdoc/>
    protected override void EndProcessing() => ForAll(() =>
    {
        if (!PassThru)
            return;
        foreach (var changed in _changed.ToLookup(c => c.Pool, c => c.Service))
        {
            _ = Within(changed.Key, () =>
            {
                var services = InPool("Measuring the load", (pool, cancellation) => pool.GetServicesAsync(cancellation));
                WriteEach(services.Where(s => changed.Contains(s.Name, StringComparer.OrdinalIgnoreCase)));
                return true;
            });
        }
    });
}
