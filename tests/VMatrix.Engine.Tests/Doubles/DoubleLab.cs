using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Shells;

namespace VMatrix.Tests.Doubles;

/// <summary>A double world of a few hosts in a folder that goes away, with a shell on it.</summary>
internal sealed class DoubleLab : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public DoubleLab(params string[] hosts)
    {
        World = new DoubleWorld(System.IO.Path.Combine(_folder.Path, "world"));
        World.Configure(settings => settings with { BootTime = TimeSpan.FromMilliseconds(20), WakeTime = TimeSpan.FromMilliseconds(5), Bandwidth = 1L << 40 });
        foreach (var host in hosts.Length > 0 ? hosts : ["host1", "host2"])
            World.AddHost(new HostState { Name = host });
        Shell = new DoubleShell(World);
    }

    public DoubleWorld World { get; }

    public IShell Shell { get; }

    public string Share => _folder.Path + "/share";

    public static ShellCommand Command(string name, params (string Name, object? Value)[] parameters) => new(name, parameters.ToDictionary(each => each.Name, each => each.Value));

    public Task<IReadOnlyList<PropertyBag>> RunAsync(string name, params (string Name, object? Value)[] parameters) => RunAsync([Command(name, parameters)]);

    public Task<IReadOnlyList<PropertyBag>> RunAsync(ShellCommand[] commands, params string[] properties) =>
        Shell.InvokeAsync(new ShellCall { Commands = commands, Properties = properties.Length > 0 ? properties : ["Id", "Name", "State", "ComputerName", "Notes", "Path", "HardDrives.Path", "NetworkAdapters.IPAddresses"] }, default);

    /// <summary>The machine of an id on a host, as later commands take it.</summary>
    public static ShellCall VM(string host, Guid id) => new() { Commands = [Command(@"Hyper-V\Get-VM", ("Id", id), ("ComputerName", host))] };

    /// <summary>A machine with a disk of its own that is off.</summary>
    public async Task<Guid> NewAsync(string host = "host1", string name = "vm", string? path = null)
    {
        path ??= $@"C:\VMs\{Guid.NewGuid():N}";
        var made = await RunAsync(@"Hyper-V\New-VM", ("ComputerName", host), ("Name", name), ("MemoryStartupBytes", 1L << 30), ("Generation", 2), ("Path", path), ("NewVHDPath", path + (path[0] == '/' ? "/disk.vhdx" : @"\disk.vhdx")), ("NewVHDSizeBytes", 4L << 30), ("SwitchName", "LAN"));
        return (Guid)made.Single()["Id"]!;
    }

    public async Task<PropertyBag> ReadAsync(string host, Guid id) => (await RunAsync(@"Hyper-V\Get-VM", ("Id", id), ("ComputerName", host))).Single();

    public void Dispose()
    {
        World.Forget();
        _folder.Dispose();
    }
}
