using System;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.Shells;

namespace VMatrix.Tests.HyperV;

/// <summary>Hyper-V hosts whose commands fail when a test says so, as PowerShell would tell it.</summary>
internal sealed class FaultyDriverWorld(Func<PoolSpec, PoolSpec>? change = null) : HyperVDriverWorld(change: change)
{
    /// <summary>The error of a command, by its name without the module; null for none.</summary>
    public Func<string, ShellException?>? Fails { get; set; }

    /// <summary>A server in the nest, made by a driver of its own.</summary>
    public async Task<(IHypervisor Driver, ServiceSpec Service, Guid Server)> MakeAsync()
    {
        var (driver, service) = (OpenHypervisor(), Pool.Services[0]);
        var image = await driver.PrepareImageAsync(default, service, Pool.Hosts[0], null, default);
        var mark = TestPool.Mark(Pool, service.Name, 1, Guid.NewGuid(), image, Clock.GetUtcNow());
        await driver.CreateAsync(default, mark, service, default);
        return (driver, service, mark.ServerId);
    }

    protected override IShell OpenShell()
    {
        var shell = base.OpenShell();
        return new ShellsBy(_ => ((call, cancellation) =>
            call.Commands.Select(command => Fails?.Invoke(command.Name.Substring(command.Name.IndexOf('\\', StringComparison.Ordinal) + 1))).FirstOrDefault(error => error is not null) is { } failed
                ? throw failed : shell.InvokeAsync(call, cancellation), () => { })).Open(8);
    }
}
