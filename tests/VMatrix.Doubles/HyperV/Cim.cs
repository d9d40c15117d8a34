using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.Management.Infrastructure;

namespace Microsoft.Management.Infrastructure
{
    /// <summary>What of a host's own facts can be asked.</summary>
    public sealed class CimInstance
    {
        public string PSComputerName { get; init; } = "";

        public string? Manufacturer { get; init; }

        public ushort? Family { get; init; }

        public string? Name { get; init; }

        public string? Version { get; init; }

        public string? BuildNumber { get; init; }

        public ulong? TotalVisibleMemorySize { get; init; }

        public ulong? FreePhysicalMemory { get; init; }

        public uint? MaxClockSpeed { get; init; }

        public ushort? LoadPercentage { get; init; }

        public ulong? PercentTotalRunTime { get; init; }

        public uint[]? SecurityServicesRunning { get; init; }

        public DateTime? LocalDateTime { get; init; }
    }
}

namespace VMatrix.Doubles
{
    /// <summary>The commands of CimCmdlets that tell of a host what its modules do not.</summary>
    public sealed partial class CommandCall
    {
        private static void AddCim(Dictionary<string, Func<CommandCall, Task>> commands)
        {
            commands.Add(@"CimCmdlets\New-CimSession", call => call.NewCimSessionAsync());
            commands.Add(@"CimCmdlets\Remove-CimSession", call => call.RemoveCimSessionAsync());
            commands.Add(@"CimCmdlets\Get-CimInstance", call => call.GetCimInstanceAsync());
        }

        private async Task NewCimSessionAsync()
        {
            _ = Bound.Has("Credential");
            await EachAsync(Computers(), async computer =>
            {
                await ReachAsync(computer, change: false);
                var session = new CimSession(computer);
                World.Change(state => state.Managed.Put("cim/" + session.InstanceId, new ManagedState { Id = session.InstanceId, Kind = "cim session", Name = computer }));
                Output.Add(session);
            });
        }

        private Task RemoveCimSessionAsync()
        {
            foreach (var session in Bound.All<CimSession>("CimSession"))
                World.Change(state => state.Managed.Remove("cim/" + session.InstanceId));
            return Task.CompletedTask;
        }

        private async Task GetCimInstanceAsync()
        {
            var (name, _, _) = (Bound.Get<string>("ClassName")!, Bound.Has("Property"), Bound.Has("Namespace"));
            await EachAsync(Computers(), async computer =>
            {
                var host = await ReachAsync(computer, change: false);
                if (!host.CanRead)
                    throw new DoubleError("HRESULT 0x80070005", "PermissionDenied", unchecked((int)0x80070005), "Access is denied.");
                var used = World.Read(state => state.On(host.Name).Where(machine => machine.Runs).Sum(machine => machine.MemoryBytes));
                Output.Add(name.ToUpperInvariant() switch
                {
                    "WIN32_PROCESSOR" => new CimInstance { PSComputerName = host.Name, Manufacturer = host.ProcessorFamily.Split('-')[0], Family = (ushort)(host.ProcessorFamily.Sum(letter => letter) & 0x7fff), Name = host.ProcessorFamily, LoadPercentage = 5, MaxClockSpeed = 2500 },
                    "WIN32_PERFFORMATTEDDATA_HVSTATS_HYPERVHYPERVISORLOGICALPROCESSOR" => new CimInstance { PSComputerName = host.Name, Name = "_Total", PercentTotalRunTime = (ulong)host.BusyPercent },
                    "WIN32_OPERATINGSYSTEM" => new CimInstance { PSComputerName = host.Name, Version = host.Build, BuildNumber = host.Build.Split('.')[^1], TotalVisibleMemorySize = (ulong)(host.MemoryBytes >> 10), FreePhysicalMemory = (ulong)((host.MemoryBytes - used) >> 10), LocalDateTime = (World.Clock.GetUtcNow() + host.ClockAhead).LocalDateTime },
                    "WIN32_DEVICEGUARD" => new CimInstance { PSComputerName = host.Name, SecurityServicesRunning = host.CredentialGuard ? [1u, 2u] : [0u] },
                    _ => throw new NotDoubledException($@"CimCmdlets\Get-CimInstance {name}"),
                });
            });
        }
    }
}
