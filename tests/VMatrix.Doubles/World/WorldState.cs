using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.HyperV.PowerShell;

namespace VMatrix.Doubles;

/// <summary>How the double as a whole behaves.</summary>
public sealed record WorldSettings
{
    /// <summary>How long each command takes to be answered, beside what it does.</summary>
    public TimeSpan CallLatency { get; init; }

    public TimeSpan BootTime { get; init; } = TimeSpan.FromSeconds(2);

    public TimeSpan WakeTime { get; init; } = TimeSpan.FromMilliseconds(200);

    /// <summary>Bytes of memory or disk that a host saves, reads or sends in a second.</summary>
    public long Bandwidth { get; init; } = 1L << 30;

    /// <summary>The share of calls that fail for a passing reason, half of them before and half of them after their effect.</summary>
    public double FailureRate { get; init; }

    public int Seed { get; init; } = 1;

    /// <summary>The language of texts: <c>en</c> or <c>de</c>.</summary>
    public string Language { get; init; } = "en";

    /// <summary>The second number of guests' loopback addresses, so that real listeners can answer for them; 0 for addresses that nobody listens at.</summary>
    public int Loopback { get; init; }

    /// <summary>The management server of SCVMM.</summary>
    public string ManagementServer { get; init; } = "vmm1";

    /// <summary>SCVMM's host groups by their paths.</summary>
    public IReadOnlyList<string> HostGroups { get; init; } = ["All Hosts"];

    /// <summary>Host groups that VMM balances by itself.</summary>
    public IReadOnlyList<string> OptimizedGroups { get; init; } = [];

    /// <summary>How many moves SCVMM will still report as done without having made them.</summary>
    public int LyingMoves { get; init; }

    /// <summary>Folders in which hosts fail to write or to register, each with the code that they fail with: a full disk, a share that is gone, one without rights for them.</summary>
    public IReadOnlyDictionary<string, int> BadFolders { get; init; } = new Dictionary<string, int>();

    /// <summary>The port at which guests answer.</summary>
    public int Port { get; init; } = 80;

    /// <summary>The number behind the address that was given last.</summary>
    public long LastAddress { get; init; }
}

public enum HostMood
{
    Up,

    /// <summary>Switched off, with all that ran on it.</summary>
    Down,

    /// <summary>It runs on and is not reached.</summary>
    CutOff,
}

public sealed record HostState
{
    public required string Name { get; init; }

    /// <summary>The path of the SCVMM host group that it is in.</summary>
    public string Group { get; init; } = "All Hosts";

    public HostMood Mood { get; init; }

    public long MemoryBytes { get; init; } = 64L << 30;

    public int Cores { get; init; } = 16;

    /// <summary>Saved states and running machines go only to hosts of the same one.</summary>
    public string ProcessorFamily { get; init; } = "Intel-A";

    public string Build { get; init; } = "10.0.26100";

    public IReadOnlyList<string> Versions { get; init; } = ["9.0", "10.0", "11.0", "12.0"];

    public bool MigrationEnabled { get; init; } = true;

    public int MaxMigrations { get; init; } = 2;

    public int MaxStorageMigrations { get; init; } = 2;

    public MigrationAuthenticationType Authentication { get; init; } = MigrationAuthenticationType.Kerberos;

    /// <summary>False when constrained delegation was not set up for it.</summary>
    public bool Delegation { get; init; } = true;

    public bool CredentialGuard { get; init; }

    /// <summary>False when the caller may not see machines there: lists are empty.</summary>
    public bool CanRead { get; init; } = true;

    /// <summary>False when the caller may not change anything there.</summary>
    public bool CanChange { get; init; } = true;

    public IReadOnlyList<string> Switches { get; init; } = ["LAN"];

    public string MachinePath { get; init; } = @"C:\VMs";

    public string DiskPath { get; init; } = @"C:\VMs\Virtual Hard Disks";

    public string? Cluster { get; init; }

    public bool Paused { get; init; }

    /// <summary>How much of its processors is used, guests included, in hundredths.</summary>
    public int BusyPercent { get; init; } = 20;

    /// <summary>True for a library server of SCVMM: machines are stored there and none runs.</summary>
    public bool IsLibrary { get; init; }

    /// <summary>How far its clock is ahead.</summary>
    public TimeSpan ClockAhead { get; init; }
}

public sealed record DiskState(string Path, ControllerType Controller = ControllerType.SCSI, int Number = 0, int Location = 0);

public sealed record AdapterState
{
    public required string Id { get; init; }

    public string Name { get; init; } = "Network Adapter";

    public string? Switch { get; init; }

    public required string Mac { get; init; }
}

public sealed record CheckpointState
{
    public required Guid Id { get; init; }

    public required string Name { get; init; }

    public required DateTimeOffset Created { get; init; }

    public Guid? Parent { get; init; }

    public required IReadOnlyList<DiskState> Disks { get; init; }

    public SnapshotType Type { get; init; } = SnapshotType.Standard;
}

public sealed record MachineState
{
    public required Guid Id { get; init; }

    public required string Host { get; init; }

    public required string Name { get; init; }

    public VMState State { get; init; } = VMState.Off;

    public string Notes { get; init; } = "";

    public long MemoryBytes { get; init; } = 512L << 20;

    public bool DynamicMemory { get; init; }

    /// <summary>What it holds by dynamic memory while it runs; null for what it starts with.</summary>
    public long? AssignedBytes { get; init; }

    public long MinimumBytes { get; init; } = 512L << 20;

    public long MaximumBytes { get; init; } = 1L << 40;

    public int Cores { get; init; } = 1;

    public int Generation { get; init; } = 2;

    public string Version { get; init; } = "12.0";

    /// <summary>The folder of its configuration, as its host names it.</summary>
    public required string Path { get; init; }

    public IReadOnlyList<DiskState> Disks { get; init; } = [];

    public IReadOnlyList<AdapterState> Adapters { get; init; } = [];

    public IReadOnlyList<CheckpointState> Checkpoints { get; init; } = [];

    public Guid? ParentCheckpoint { get; init; }

    /// <summary>The image file in its DVD drive; empty for a drive with nothing in it, null for no drive.</summary>
    public string? Iso { get; init; }

    /// <summary>Who its guest takes itself for, by what a disc has told it; null for the gold disk's own.</summary>
    public string? GuestIs { get; init; }

    public string? GuestName { get; init; }

    /// <summary>The address that its guest gives itself; null for one that the network gives it.</summary>
    public string? GuestAddress { get; init; }

    /// <summary>The addresses that its integration services tell instead of those that it has; null for those.</summary>
    public IReadOnlyList<string>? Tells { get; init; }

    /// <summary>Location paths of the host's devices that are assigned to it.</summary>
    public IReadOnlyList<string> Devices { get; init; } = [];

    /// <summary>When its guest answers, while it runs.</summary>
    public DateTimeOffset ReadyAt { get; init; }

    public DateTimeOffset StartedAt { get; init; }

    public bool Hung { get; init; }

    /// <summary>It ran when its host went down.</summary>
    public bool RanBefore { get; init; }

    /// <summary>The number behind its address, given when it starts on a host.</summary>
    public long Address { get; init; }

    public DateTimeOffset Created { get; init; }

    public bool Metering { get; init; }

    public DateTimeOffset MeteringSince { get; init; }

    public double MeanMegahertz { get; init; } = 100;

    /// <summary>The processor family that its saved memory comes from.</summary>
    public string? SavedOn { get; init; }

    public VMReplicationState Replication { get; init; }

    /// <summary>True for the copy that Replica keeps of a machine elsewhere.</summary>
    public bool IsReplica { get; init; }

    /// <summary>True for the machine that a test failover makes of a replica.</summary>
    public bool IsTestReplica { get; init; }

    /// <summary>It has a virtual TPM.</summary>
    public bool Tpm { get; init; }

    public bool Shielded { get; init; }

    /// <summary>The number of a disk of the host that it has for itself; null for none.</summary>
    public int? HostDisk { get; init; }

    public bool BackupRuns { get; init; }

    /// <summary>Disks of it are being merged after a checkpoint was deleted.</summary>
    public bool Merges { get; init; }

    public bool IntegrationServices { get; init; } = true;

    public StartAction StartAction { get; init; } = StartAction.StartIfRunning;

    public StopAction StopAction { get; init; } = StopAction.Save;

    /// <summary>The state to tell instead, such as OffCritical when its storage is gone.</summary>
    public VMState? Critical { get; init; }

    /// <summary>The job that works on it; null for none.</summary>
    public Guid? Job { get; init; }

    /// <summary>What SCVMM keeps for it beside the host's notes.</summary>
    public string Description { get; init; } = "";

    /// <summary>SCVMM's balancing leaves it alone.</summary>
    public bool BlockOptimization { get; init; }

    /// <summary>The status that SCVMM tells instead, such as Missing; null for what it is.</summary>
    public string? VmmStatus { get; init; }

    /// <summary>The machine that this is another record of in SCVMM; null for none.</summary>
    public Guid? SameAs { get; init; }

    /// <summary>The job of SCVMM that worked on it last.</summary>
    public Guid? LastJob { get; init; }

    [JsonIgnore]
    public bool Runs => State is VMState.Running or VMState.Paused or VMState.Saving or VMState.Stopping or VMState.Starting;
}

/// <summary>Something that takes its time and goes on though its caller may be gone.</summary>
public sealed record JobState
{
    public required Guid Id { get; init; }

    public required string Kind { get; init; }

    public Guid Machine { get; init; }

    public string? Target { get; init; }

    public string? Path { get; init; }

    public DateTimeOffset Begun { get; init; }

    public required DateTimeOffset Due { get; init; }

    public bool Done { get; init; }

    public string? Error { get; init; }

    public string? ErrorId { get; init; }

    public IReadOnlyDictionary<string, string> More { get; init; } = new Dictionary<string, string>();
}

/// <summary>A clustered role.</summary>
public sealed record GroupState
{
    public required string Name { get; init; }

    public required string Cluster { get; init; }

    public required Guid Machine { get; init; }

    public IReadOnlyList<string> Owners { get; init; } = [];
}

/// <summary>A cluster.</summary>
public sealed record ClusterState
{
    public required string Name { get; init; }

    /// <summary>0 never, 1 when a node joins, 2 always.</summary>
    public int AutoBalancerMode { get; init; }

    public int AutoBalancerLevel { get; init; } = 1;
}

/// <summary>A thing that is no host's: a virtual hard disk of SCVMM's library, a node of a load-balancing cluster.</summary>
public sealed record ManagedState
{
    public required Guid Id { get; init; }

    public required string Kind { get; init; }

    public required string Name { get; init; }

    public IReadOnlyDictionary<string, string> More { get; init; } = new Dictionary<string, string>();
}

/// <summary>Everything in the world, as tables that remember what a change has done.</summary>
public sealed class WorldState
{
    internal static readonly JsonSerializerOptions Json = new()
    {
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Converters = { new JsonStringEnumConverter() },
    };

    private readonly Dictionary<string, ITable> _tables = [];
    private readonly List<(ITable Table, string Key, object? Before)> _undo = [];

    public WorldState()
    {
        Settings = Add<WorldSettings>("settings");
        Hosts = Add<HostState>("hosts");
        Machines = Add<MachineState>("machines");
        Jobs = Add<JobState>("jobs");
        Groups = Add<GroupState>("groups");
        Clusters = Add<ClusterState>("clusters");
        Managed = Add<ManagedState>("managed");
        Violations = Add<string>("violations");
    }

    public Table<WorldSettings> Settings { get; }

    public Table<HostState> Hosts { get; }

    public Table<MachineState> Machines { get; }

    public Table<JobState> Jobs { get; }

    public Table<GroupState> Groups { get; }

    public Table<ClusterState> Clusters { get; }

    public Table<ManagedState> Managed { get; }

    /// <summary>What must never happen and did.</summary>
    public Table<string> Violations { get; }

    public WorldSettings Set => Settings.Get("world") ?? new WorldSettings();

    public HostState? Host(string name) => Hosts.Get(name);

    public void Put(MachineState machine) => Machines.Put(Key(machine), machine);

    public void Remove(MachineState machine) => Machines.Remove(Key(machine));

    public void Put(HostState host) => Hosts.Put(host.Name, host);

    public void Put(JobState job) => Jobs.Put(job.Id.ToString(), job);

    public MachineState? Machine(string host, Guid id) => Machines.Get($"{host}/{id}");

    public IEnumerable<MachineState> On(string host) => Machines.Values.Where(machine => machine.Host.Equals(host, StringComparison.OrdinalIgnoreCase));

    public void Violate(string what) => Violations.Put(Guid.NewGuid().ToString(), what);

    internal void Apply(ReadOnlySpan<byte> line)
    {
        foreach (var change in JsonSerializer.Deserialize<Change[]>(line, Json)!)
            _tables[change.T].Load(change.K, change.V);
    }

    internal byte[]? TakeChange()
    {
        if (_undo.Count == 0)
            return null;
        var changes = _undo.Select(done => (done.Table, done.Key)).Distinct().Select(done => new Change(done.Table.Name, done.Key, done.Table.Save(done.Key))).ToArray();
        _undo.Clear();
        return JsonSerializer.SerializeToUtf8Bytes(changes, Json);
    }

    internal void RollBack()
    {
        for (var i = _undo.Count - 1; i >= 0; i--)
            _undo[i].Table.Restore(_undo[i].Key, _undo[i].Before);
        _undo.Clear();
    }

    internal IEnumerable<byte[]> Snapshot() => _tables.Values.SelectMany(table => table.Keys.Select(key => new Change(table.Name, key, table.Save(key)))).Chunk(200).Select(changes => JsonSerializer.SerializeToUtf8Bytes(changes, Json));

    private static string Key(MachineState machine) => $"{machine.Host}/{machine.Id}";

    private Table<T> Add<T>(string name)
        where T : class
    {
        var table = new Table<T>(name, _undo);
        _tables.Add(name, table);
        return table;
    }

    internal sealed record Change(string T, string K, JsonElement? V);

    internal interface ITable
    {
        string Name { get; }

        IEnumerable<string> Keys { get; }

        void Load(string key, JsonElement? value);

        JsonElement? Save(string key);

        void Restore(string key, object? value);
    }

    public sealed class Table<T> : ITable
        where T : class
    {
        private readonly Dictionary<string, T> _items = new(StringComparer.OrdinalIgnoreCase);
        private readonly List<(ITable, string, object?)> _undo;

        internal Table(string name, object undo)
        {
            Name = name;
            _undo = (List<(ITable, string, object?)>)undo;
        }

        public string Name { get; }

        public IReadOnlyCollection<T> Values => _items.Values;

        IEnumerable<string> ITable.Keys => _items.Keys;

        public T? Get(string key) => _items.GetValueOrDefault(key);

        public void Put(string key, T value)
        {
            _undo.Add((this, key, Get(key)));
            _items[key] = value;
        }

        public void Remove(string key)
        {
            _undo.Add((this, key, Get(key)));
            _items.Remove(key);
        }

        void ITable.Load(string key, JsonElement? value) => ((ITable)this).Restore(key, value?.Deserialize<T>(Json));

        JsonElement? ITable.Save(string key) => _items.TryGetValue(key, out var value) ? JsonSerializer.SerializeToElement(value, Json) : null;

        void ITable.Restore(string key, object? value)
        {
            if (value is T item)
                _items[key] = item;
            else
                _items.Remove(key);
        }
    }
}
