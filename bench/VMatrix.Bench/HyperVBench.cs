using System;
using System.CommandLine;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.HyperV;
using VMatrix.Shells;

namespace VMatrix.Bench;

/// <summary>Listing a large pool of Hyper-V hosts, on the double: how many times the time of one call it takes in all, beside a script that asks host after host.</summary>
internal static class HyperVBench
{
    public static Command Create()
    {
        Option<int> hosts = new("--hosts") { Description = "How many hosts.", DefaultValueFactory = _ => 20 };
        Option<int> machines = new("--machines") { Description = "Machines on each.", DefaultValueFactory = _ => 500 };
        Option<int> latency = new("--latency") { Description = "Milliseconds that each call takes.", DefaultValueFactory = _ => 50 };
        Option<int> rounds = new("--rounds") { Description = "How often each is measured, in turn.", DefaultValueFactory = _ => 5 };
        Command command = new("hyperv", "Listing a pool of Hyper-V hosts on the double, in call times (goal: at most 10), beside Get-VM and Get-VMNetworkAdapter host after host.") { hosts, machines, latency, rounds };
        command.SetAction((parsed, cancellation) => RunAsync(parsed.GetValue(hosts), parsed.GetValue(machines), TimeSpan.FromMilliseconds(parsed.GetValue(latency)), parsed.GetValue(rounds), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(int hosts, int machines, TimeSpan latency, int rounds, CancellationToken cancellation)
    {
        string folder = Directory.CreateTempSubdirectory("vmatrix-bench-").FullName;
        try
        {
            var calls = 0;
            DoubleWorld world = new(folder) { Called = _ => Interlocked.Increment(ref calls) };
            HyperVSpec settings = new();
            PoolSpec pool = new()
            {
                Name = "bench",
                Path = Path.Combine(folder, "pool.yaml"),
                StateFolder = Path.Combine(folder, "state"),
                Hypervisor = "hyperv",
                Hosts = [.. Enumerable.Range(1, hosts).Select(i => new HostSpec { Name = $"hv{i}", Address = $"hv{i}", MemoryBytes = 1L << 40 })],
                Services = [new ServiceSpec { Name = "FINANCE", Image = new ImageSpec() }],
                Nest = new NestSpec { Folder = Path.Combine(folder, "nest") },
                Balancer = new BalancerSpec { Kind = "haproxy" },
                HyperV = settings,
            };
            foreach (HostSpec host in pool.Hosts)
                world.AddHost(new HostState { Name = host.Name, MemoryBytes = 1L << 50 });
            world.Change(state =>
            {
                foreach (HostSpec host in pool.Hosts)
                {
                    for (int i = 0; i < machines; i++)
                    {
                        Guid id = Guid.NewGuid();
                        ServerMark mark = new()
                        {
                            ServerId = Guid.NewGuid(), Name = $"FINANCE-{host.Name}-{i}", Service = "FINANCE", Image = "12345678", Stage = i % 2 == 0 ? Stage.Matrix : Stage.Nest,
                            MachineId = id.ToString("D"), StateId = Guid.NewGuid(), CreatedAt = DateTimeOffset.UnixEpoch, ChangedAt = DateTimeOffset.UnixEpoch,
                        };
                        state.Put(new MachineState
                        {
                            Id = id, Host = host.Name, Name = mark.Name, Path = "", State = i % 2 == 0 ? VMState.Running : VMState.Saved, Address = i % 2 == 0 ? i + 1 : 0,
                            Notes = HyperVNotes.Write("", new HyperVMark { Mark = mark, Place = i % 2 == 0 ? HyperVPlace.Host : HyperVPlace.Nest, Ran = i % 2 == 0 }),
                            Adapters = [new AdapterState { Id = "a", Mac = "00155D000000", Switch = "LAN" }],
                        });
                    }
                }
            });
            await using HyperVHypervisor driver = new(pool, new DoubleShell(world, settings.CallsAtOnce), TimeProvider.System);
            double[] whole = new double[rounds], one = new double[rounds];
            int seen = 0, asked = 0;
            for (int i = -1; i < rounds; i++)
            {
                // Without latency first: what the double itself takes to make so many objects is nobody's listing.
                world.Configure(state => state with { CallLatency = TimeSpan.Zero });
                Stopwatch clock = Stopwatch.StartNew();
                _ = await ListAsync(driver, pool, cancellation);
                TimeSpan own = clock.Elapsed;
                world.Configure(state => state with { CallLatency = latency });
                calls = 0;
                clock.Restart();
                seen = await ListAsync(driver, pool, cancellation);
                TimeSpan took = clock.Elapsed;
                asked = calls;
                clock.Restart();
                foreach (HostSpec host in pool.Hosts)
                {
                    foreach (string name in new[] { "Hyper-V\\Get-VM", "Hyper-V\\Get-VMNetworkAdapter" })
                    {
                        await new DoubleShell(world).InvokeAsync(new ShellCall
                        {
                            Commands = [new ShellCommand(name, name.EndsWith("Adapter", StringComparison.Ordinal) ? new() { ["All"] = true, ["ComputerName"] = host.Address } : new System.Collections.Generic.Dictionary<string, object?> { ["ComputerName"] = host.Address })],
                            Properties = ["Id", "Name"],
                        }, cancellation);
                    }
                }

                if (i < 0)
                    continue;
                whole[i] = took.TotalMilliseconds;
                one[i] = clock.Elapsed.TotalMilliseconds;
                Console.WriteLine(FormattableString.Invariant($"round {i + 1}: {took.TotalMilliseconds:0} ms, of which {own.TotalMilliseconds:0} ms without any latency"));
            }

            double median = whole.Order().ElementAt(rounds / 2), peer = one.Order().ElementAt(rounds / 2);
            Console.WriteLine(FormattableString.Invariant($"{hosts} hosts, {machines} machines each, {seen} listed with {asked} calls, {settings.CallsAtOnce} at once (default)"));
            Console.WriteLine(FormattableString.Invariant($"a call             {latency.TotalMilliseconds,8:0} ms"));
            Console.WriteLine(FormattableString.Invariant($"the whole listing  {median,8:0} ms   {median / latency.TotalMilliseconds,6:0.0} call times (median of {rounds}; goal: at most 10)"));
            Console.WriteLine(FormattableString.Invariant($"host after host    {peer,8:0} ms   {peer / latency.TotalMilliseconds,6:0.0} call times"));
            Console.WriteLine(FormattableString.Invariant($"ratio              {median / peer,8:0.00}"));
            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<int> ListAsync(HyperVHypervisor driver, PoolSpec pool, CancellationToken cancellation)
    {
        // As one look at the pool asks: the nest and every host at once.
        Task<NestReport> nest = driver.ReadNestAsync(cancellation);
        HostReport[] reports = await Task.WhenAll(pool.Hosts.Select(host => driver.ReadHostAsync(host, cancellation)));
        return reports.Sum(report => report.Machines.Count) + (await nest).Dormant.Count;
    }
}
