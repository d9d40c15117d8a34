using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.Simulation;
using VMatrix.Tests.HyperV;
using VMatrix.Tests.Scvmm;
using Xunit;

namespace VMatrix.Tests.Doubles;

/// <summary>
/// docs/hyperv-coverage.md tells which commands the drivers call, and cannot lie: what is called is read from their source, what was bound comes
/// from the binder's record of a run through every driver call. With VMATRIX_UPDATE=1 the table is written anew; what people wrote in it is kept.
/// </summary>
public sealed partial class CoverageTests
{
    private const string None = "**nothing**";

    private static string Root => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(Here())!, "../../.."));

    private static string DocPath => Path.Combine(Root, "docs/hyperv-coverage.md");

    [Fact]
    public async Task The_table_is_what_the_drivers_call()
    {
        var bound = new SortedDictionary<string, Bound>(StringComparer.Ordinal);
        foreach (var credential in new[] { null, "hosts-admin" })
        {
            await using var world = new HyperVDriverWorld(change: pool => HyperVDriverWorld.WithSeeds(pool) with { HyperV = pool.HyperV with { Credential = credential, MachineGeneration = credential is null ? 2 : 1 } });
            await RunAsync(world, world.World, bound);
        }

        foreach (var change in new Func<PoolSpec, PoolSpec>?[] { null, HyperVDriverWorld.InShare })
        {
            await using var world = new SessionDriverWorld(cim: true, change);
            await RunAsync(world, world.World, bound);
        }

        foreach (var credential in new[] { null, "hosts-admin" })
        {
            await using var world = new HyperVDriverWorld(change: pool => HyperVDriverWorld.InShare(pool with { HyperV = pool.HyperV with { Credential = credential } }));
            await RunAsync(world, world.World, bound);
        }

        foreach (var credential in new[] { null, "vmm-operator" })
        {
            await using var world = new ScvmmDriverWorld(change: pool => pool with
            {
                Scvmm = pool.Scvmm with { Credential = credential, Path = @"D:\VMs" },
                Services = [.. pool.Services.Select(service => service with { Image = service.Image with { Disk = credential is null ? "gold.vhdx" : "template" } })],
            });
            world.World.AddTemplate("template", "gold.vhdx");
            await RunAsync(world, world.World, bound);
        }

        var called = Called();
        Assert.Empty(bound.Keys.Except(called)); // Nothing is bound that the source does not show.
        var old = await File.ReadAllTextAsync(DocPath);
        var text = Write(old, called, bound);
        if (Environment.GetEnvironmentVariable("VMATRIX_UPDATE") == "1")
            await File.WriteAllTextAsync(DocPath, text);
        Assert.True(old == text, "docs/hyperv-coverage.md is not what the drivers call: run this test with VMATRIX_UPDATE=1, and say in new rows what for and what only Windows can prove.");
        Assert.DoesNotContain("| ? |", text, StringComparison.Ordinal);
    }

    // Every call of a driver, one after another, with what it calls.
    private static async Task RunAsync(DriverWorld world, DoubleWorld hosts, SortedDictionary<string, Bound> bound)
    {
        await world.RunAsync(async () =>
        {
            var driver = world.OpenHypervisor();
            var (service, here, there, server, state) = (world.Pool.Services[0], world.Pool.Hosts[0], world.Pool.Hosts[1], new Guid("00000000-0000-0000-0000-000000000007"), Guid.NewGuid());
            string image = ""; // The id decides on which host a server is made, so it is always the same.
            ServerMark Mark(Guid id) => TestPool.Mark(world.Pool, service.Name, 1, state, image, world.Clock.GetUtcNow(), id);

            if (world is ScvmmDriverWorld)
            {
                var grouped = world.Pool with { Hosts = [], Scvmm = world.Pool.Scvmm with { HostGroups = [new HostGroupSpec { Group = "All Hosts", KeptBytes = 0 }] } };
                await DoAsync("Open with host groups", () => VMatrix.Scvmm.ScvmmHypervisor.WithHostGroupsAsync(grouped, new DoubleShell(hosts), world.Clock, default));
            }

            await DoAsync("PrepareImage", async () => image = await driver.PrepareImageAsync(default, service, here, null, default));
            if (driver is IHostAdviser adviser)
                await DoAsync("Advise", () => adviser.AdviseAsync(world.Pool.Hosts, default));
            await DoAsync("Create", () => driver.CreateAsync(default, Mark(server), service, default));
            await DoAsync("ReadNest", () => driver.ReadNestAsync(default));
            await DoAsync("Fetch", () => driver.FetchAsync(default, server, here, default));
            await DoAsync("Start", () => driver.StartAsync(default, server, service, here, default));
            await DoAsync("ReadHost", () => driver.ReadHostAsync(here, default));
            await DoAsync("ProveStopped", () => driver.ProveStoppedAsync(server, here, default));
            if (world is HyperVDriverWorld)
            {
                // By name in one call, and by id where another machine has the name; anew when the average has become too long.
                await driver.MarkAsync(default, Mark(server) with { Stage = Stage.Matrix }, here, default);
                await using var shell = new DoubleShell(hosts);
                var source = new VMatrix.HyperV.HyperVLoadSource(world.Pool, shell, world.Clock);
                for (var turn = 0; turn < 3; turn++)
                {
                    await DoAsync("Measure", () => source.ReadAsync(default));
                    await Task.Delay(TimeSpan.FromMinutes(9), world.Clock);
                }

                var twin = hosts.AddForeign(here.Address!, $"{service.Name}-1");
                await DoAsync("Measure", () => source.ReadAsync(default));
                hosts.DeleteMachine(twin);
                await driver.MarkAsync(default, Mark(server), here, default);
            }

            if (world is HyperVDriverWorld)
            {
                hosts.AddNlbNode("portal", "web1", TimeSpan.FromMinutes(1));
                await using var shell = new DoubleShell(hosts);
                await using var balancer = new VMatrix.Nlb.NlbBalancer(world.Pool, shell, world.Clock);
                await shell.InvokeAsync(new VMatrix.Shells.ShellCall { Commands = [new(@"NetworkLoadBalancingClusters\Suspend-NlbClusterNode", new Dictionary<string, object?> { ["HostName"] = "web1" })] }, default);
                await DoAsync("Join", () => balancer.JoinAsync(default, service, server, "web1:80", default));
                await DoAsync("Drain", () => balancer.DrainAsync(default, service.Name, server, default));
                await DoAsync("Leave", () => balancer.LeaveAsync(default, service.Name, server, default));
            }

            await DoAsync("Compare", () => driver.CompareAsync(server, service, here, there, live: true, default));
            await DoAsync("Migrate", () => driver.MigrateAsync(default, server, service, here, there, default));
            await DoAsync("PublishImage", () => driver.PublishImageAsync(new DriverCall(Guid.NewGuid(), 0), server, service, there, default));
            await DoAsync("Mark", () => driver.MarkAsync(default, Mark(server) with { Generation = 3 }, there, default));
            await DoAsync("Save", () => driver.SaveAsync(default, server, there, default));
            await DoAsync("Carry", () => driver.CarryAsync(default, server, there, here, default));
            await DoAsync("Stow", () => driver.StowAsync(default, server, here, default));
            var chamber = world.Pool.Hosts.First(host => host.Role == HostRole.Chamber);
            if (world.Pool.HyperV.Nest == DormantPlace.Share)
                await DoAsync("Compare of a sleeper", () => driver.CompareAsync(server, service, null, chamber, live: false, default));
            await driver.FetchAsync(default, server, chamber, default);
            await DoAsync("Start on another switch", () => driver.StartAsync(default, server, service, chamber, default));
            await driver.SaveAsync(default, server, chamber, default);
            await driver.StowAsync(default, server, chamber, default);
            await driver.FetchAsync(default, server, here, default);
            await DoAsync("Stop of a saved one", () => driver.StopAsync(default, server, here, default));
            await driver.StartAsync(default, server, service, here, default);
            var id = Guid.Parse((await driver.ReadHostAsync(here, default)).Machines.Single(machine => machine.Mark is not null).MachineId);
            hosts.SetMachine(id, machine => machine with { State = VMState.Paused });
            await DoAsync("Start of a paused one", () => driver.StartAsync(default, server, service, here, default));
            if (world is HyperVDriverWorld)
            {
                foreach (var host in world.Pool.Hosts)
                    hosts.SetHost(host.Name, known => known with { Cluster = "cluster1" });
                hosts.Change(all =>
                {
                    all.Clusters.Put("cluster1", new ClusterState { Name = "cluster1", AutoBalancerMode = 2 });
                    all.Groups.Put("role", new GroupState { Name = "role", Cluster = "cluster1", Machine = id });
                });
                await DoAsync("ReadHost of a cluster", async () => Assert.Contains("cluster1", (await driver.ReadHostAsync(here, default)).Problem, StringComparison.Ordinal));
                await DoAsync("Migrate in a cluster", () => driver.MigrateAsync(default, server, service, here, there, default));
                await DoAsync("Migrate in a cluster", () => driver.MigrateAsync(default, server, service, there, here, default));
            }

            await DoAsync("Release", () => driver.ReleaseAsync(default, server, here, default));
            await DoAsync("Adopt", () => driver.AdoptAsync(default, id.ToString("D"), Mark(server), here, default));
            await DoAsync("Stop", () => driver.StopAsync(default, server, here, default));
            await DoAsync("Discard", () => driver.DiscardAsync(default, server, here, default));
            await DoAsync("Recover", () => driver.RecoverAsync(default, server, default));
            await driver.DiscardAsync(default, server, null, default);
            await DoAsync("Erase", () => driver.EraseAsync(default, server, default));
            await DoAsync("SelectImage", () => driver.SelectImageAsync(default, service, image, default));
            await driver.DisposeAsync();
        });

        async Task DoAsync(string name, Func<Task> call)
        {
            hosts.Binder.Record.Clear();
            await call();
            foreach (var ((command, set), parameters) in hosts.Binder.Record)
            {
                if (!bound.TryGetValue(command, out var known))
                    bound[command] = known = new Bound();
                known.Calls.Add(name);
                if (!known.Sets.TryGetValue(set, out var given))
                    known.Sets[set] = given = (new(parameters.Keys), new(parameters.Keys));
                given.Always.IntersectWith(parameters.Keys);
                given.Ever.UnionWith(parameters.Keys);
            }
        }
    }

    // What the source of the drivers names.
    private static SortedSet<string> Called()
    {
        var called = new SortedSet<string>(StringComparer.Ordinal);
        foreach (var file in new[] { "src/VMatrix.Engine", "src/VMatrix.Cmdlets/Shells" }.SelectMany(folder => Directory.EnumerateFiles(Path.Combine(Root, folder), "*.cs", SearchOption.AllDirectories)).Where(file => !file.Contains("/obj/", StringComparison.Ordinal)))
        {
            var source = File.ReadAllText(file);
            foreach (Match match in Qualified().Matches(source))
                called.Add($@"{match.Groups[1].Value}\{match.Groups[2].Value}");
            foreach (Match match in Scvmm().Matches(source))
                called.Add($@"VirtualMachineManager\{match.Groups[1].Value}");
        }

        return called;
    }

    private static string Write(string old, SortedSet<string> called, SortedDictionary<string, Bound> bound)
    {
        var kept = new Dictionary<string, (string For, string Windows)>();
        foreach (var row in old.Split('\n').Where(line => line.StartsWith("| `", StringComparison.Ordinal)))
        {
            var cells = row.Split('|').Select(cell => cell.Trim()).ToArray();
            kept[cells[1].Trim('`')] = (cells[2], cells[5]);
        }

        var table = new StringBuilder();
        foreach (var command in called)
        {
            var (what, windows) = kept.GetValueOrDefault(command, ("?", "?"));
            var known = bound.GetValueOrDefault(command);
            var sets = known?.Sets.Select(set => $"{set.Key}:{string.Concat(set.Value.Always.Order(StringComparer.Ordinal).Select(name => " -" + name))}{string.Concat(set.Value.Ever.Except(set.Value.Always).Order(StringComparer.Ordinal).Select(name => $" [-{name}]"))}");
            table.Append($"| `{command}` | {what} | {(sets is null ? None : string.Join("<br>", sets))} | {(known is null ? None : string.Join(", ", known.Calls))} | {windows} |\n");
        }

        var begin = old.IndexOf("|---", StringComparison.Ordinal);
        begin = old.IndexOf('\n', begin) + 1;
        var end = old.IndexOf("\n\n", begin - 1, StringComparison.Ordinal) + 1;
        return old[..begin] + table + old[end..];
    }

    private sealed class Bound
    {
        public SortedSet<string> Calls { get; } = new(StringComparer.Ordinal);

        /// <summary>The parameters that each set was always bound with, and ever.</summary>
        public SortedDictionary<string, (HashSet<string> Always, HashSet<string> Ever)> Sets { get; } = new(StringComparer.Ordinal);
    }

    private static string Here([CallerFilePath] string path = "") => path;

    [GeneratedRegex("\"(Hyper-V|FailoverClusters|NetworkLoadBalancingClusters|VirtualMachineManager|CimCmdlets)\\\\\\\\([A-Z][A-Za-z]+-[A-Za-z]+)\"")]
    private static partial Regex Qualified();

    [GeneratedRegex("\"([A-Z][a-z]+-SC[A-Za-z]+)\"")]
    private static partial Regex Scvmm();
}
