using System;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Tests.Qemu;
using VMatrix.Tests.Simulation;

namespace VMatrix.Tests;

/// <summary>The test assembly run as a program: the process that failpoint tests kill, and a script that balances.</summary>
internal static class Program
{
    private static async Task<int> Main(string[] args) => args is ["carry-out", var order]
        ? await Victim.RunAsync(order, told => told.Driver switch
        {
            "simulation" => new SimulatedDriverWorld(told.Folder),
            "hyperv" => new HyperV.HyperVDriverWorld(told.Folder),
            "hyperv-share" => HyperV.HyperVDriverWorld.Shared(told.Folder),
            "scvmm" => new Scvmm.ScvmmDriverWorld(told.Folder),
            "qemu" => new QemuVictimWorld(told.Folder),
            _ => throw new ArgumentException($"No driver {told.Driver}."),
        })
        : args is ["balance", var folder, .. var told] && OperatingSystem.IsLinux() ? await Scripts.ScriptBalancerContract.RunScriptAsync(folder, told)
        : 2;
}
