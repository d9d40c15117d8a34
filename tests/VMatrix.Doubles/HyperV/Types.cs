using System;
using System.Collections.Generic;

namespace Microsoft.Management.Infrastructure
{
    /// <summary>A session to a host, as the commands take it.</summary>
    public sealed class CimSession(string computerName)
    {
        public string ComputerName { get; } = computerName;

        public Guid InstanceId { get; } = Guid.NewGuid();

        public override string ToString() => $"CimSession: {ComputerName}";
    }
}

namespace Microsoft.Vhd.PowerShell
{
    public enum VhdType
    {
        Unknown = 0,
        Fixed = 2,
        Dynamic = 3,
        Differencing = 4,
    }

    public sealed class VirtualHardDisk
    {
        public string ComputerName { get; init; } = "";

        public string Path { get; init; } = "";

        public string VhdFormat { get; init; } = "VHDX";

        public VhdType VhdType { get; init; }

        public ulong FileSize { get; init; }

        public ulong Size { get; init; }

        public string ParentPath { get; init; } = "";

        public string DiskIdentifier { get; init; } = "";

        public bool Attached { get; init; }

        public uint LogicalSectorSize { get; init; } = 512;

        public uint PhysicalSectorSize { get; init; } = 4096;

        public uint BlockSize { get; init; } = 32 << 20;
    }
}

namespace Microsoft.HyperV.PowerShell
{
    public enum VMState
    {
        Other = 1,
        Running = 2,
        Off = 3,
        Stopping = 4,
        Saved = 6,
        Paused = 9,
        Starting = 10,
        Reset = 11,
        Saving = 32773,
        Pausing = 32776,
        Resuming = 32777,
        FastSaved = 32779,
        FastSaving = 32780,
        RunningCritical = 32781,
        OffCritical = 32782,
        StoppingCritical = 32783,
        SavedCritical = 32784,
        PausedCritical = 32785,
        StartingCritical = 32786,
    }

    public enum VMOperationalStatus
    {
        Ok = 2,
        Degraded = 3,
        InService = 11,
        CreatingSnapshot = 32768,
        ApplyingSnapshot = 32769,
        DeletingSnapshot = 32770,
        MergingDisks = 32772,
        ExportingVirtualMachine = 32773,
        MigratingVirtualMachine = 32774,
        BackingUpVirtualMachine = 32776,
    }

    public enum VMHeartbeatStatus
    {
        Unknown,
        Disabled,
        NoContact,
        Error,
        LostCommunication,
        OkApplicationsUnknown,
        OkApplicationsHealthy,
        OkApplicationsCritical,
        Paused,
    }

    public enum OnOffState
    {
        On,
        Off,
    }

    public enum StartAction
    {
        Nothing = 2,
        StartIfRunning = 3,
        Start = 4,
    }

    public enum StopAction
    {
        TurnOff = 2,
        Save = 3,
        ShutDown = 4,
    }

    public enum CheckpointType
    {
        Disabled = 2,
        Production = 3,
        ProductionOnly = 4,
        Standard = 5,
    }

    public enum SnapshotType
    {
        Standard,
        Recovery,
        Planned,
        Missing,
        Replica,
        AppConsistentReplica,
        SyncedReplica,
    }

    public enum CaptureLiveState
    {
        CaptureCrashConsistentState,
        CaptureSavedState,
        CaptureDataConsistentState,
    }

    public enum ControllerType
    {
        IDE,
        SCSI,
    }

    public enum MigrationAuthenticationType
    {
        CredSSP,
        Kerberos,
    }

    public enum VMMigrationPerformance
    {
        TCPIP,
        Compression,
        SMB,
    }

    public enum VMSwitchType
    {
        Private,
        Internal,
        External,
    }

    public enum VMReplicationState
    {
        Disabled,
        ReadyForInitialReplication,
        InitialReplicationInProgress,
        WaitingForInitialReplication,
        Replicating,
        PreparedForFailover,
        FailedOverWaitingCompletion,
        FailedOver,
        Suspended,
        Error,
        WaitingForStartResynchronize,
        Resynchronizing,
        ResynchronizeSuspended,
        RecoveryInProgress,
        FailbackInProgress,
        FailbackComplete,
        WaitingForUpdateCompletion,
        UpdateError,
        WaitingForRepurposeCompletion,
        PreparedForSyncReplication,
        PreparedForGroupReverseReplication,
        FiredrillInProgress,
    }

    public enum VMReplicationMode
    {
        None,
        Primary,
        Replica,
        TestReplica,
        ExtendedReplica,
    }

    public enum VMReplicationHealthState
    {
        NotApplicable,
        Normal,
        Warning,
        Critical,
    }

    public enum WaitVMTypes
    {
        Heartbeat,
        IPAddress,
    }

    public enum BootDevice
    {
        Floppy,
        CD,
        IDE,
        LegacyNetworkAdapter,
        NetworkAdapter,
        VHD,
    }

    public abstract class VMComponentObject
    {
        public string ComputerName { get; init; } = "";

        public Guid VMId { get; init; }

        public string VMName { get; init; } = "";
    }

    public abstract class VirtualMachineBase
    {
        public string ComputerName { get; init; } = "";

        public string Name { get; init; } = "";

        public Guid Id { get; init; }

        public string Notes { get; init; } = "";

        public string Path { get; init; } = "";

        public HardDiskDrive[] HardDrives { get; init; } = [];
    }

    public sealed class VirtualMachine : VirtualMachineBase
    {
        public Guid VMId => Id;

        public string VMName => Name;

        public VMState State { get; init; }

        public string Status { get; init; } = "";

        public VMOperationalStatus[] OperationalStatus { get; init; } = [];

        public string[] StatusDescriptions { get; init; } = [];

        public TimeSpan Uptime { get; init; }

        public long MemoryStartup { get; init; }

        public long MemoryAssigned { get; init; }

        public long MemoryDemand { get; init; }

        public long MemoryMinimum { get; init; }

        public long MemoryMaximum { get; init; }

        public bool DynamicMemoryEnabled { get; init; }

        public long ProcessorCount { get; init; }

        public int CPUUsage { get; init; }

        public int Generation { get; init; }

        public string Version { get; init; } = "";

        public string ConfigurationLocation => Path;

        public string SnapshotFileLocation => Path;

        public string CheckpointFileLocation => Path;

        public string SmartPagingFilePath => Path;

        public VMNetworkAdapter[] NetworkAdapters { get; init; } = [];

        public DvdDrive[] DVDDrives { get; init; } = [];

        public bool IsClustered { get; init; }

        public DateTime CreationTime { get; init; }

        public Guid? ParentCheckpointId { get; init; }

        public Guid? ParentSnapshotId => ParentCheckpointId;

        public VMReplicationState ReplicationState { get; init; }

        public VMReplicationHealthState ReplicationHealth { get; init; }

        public VMReplicationMode ReplicationMode { get; init; }

        public bool ResourceMeteringEnabled { get; init; }

        public VMHeartbeatStatus? Heartbeat { get; init; }

        public string IntegrationServicesState { get; init; } = "";

        public string IntegrationServicesVersion { get; init; } = "";

        public StartAction AutomaticStartAction { get; init; }

        public StopAction AutomaticStopAction { get; init; }

        public CheckpointType CheckpointType { get; init; } = CheckpointType.Production;

        public override string ToString() => $"VirtualMachine (Name = '{Name}') [Id = '{Id}']";
    }

    public sealed class VMSnapshot : VirtualMachineBase
    {
        public Guid VMId { get; init; }

        public string VMName { get; init; } = "";

        public DateTime CreationTime { get; init; }

        public Guid? ParentCheckpointId { get; init; }

        public SnapshotType SnapshotType { get; init; }
    }

    public sealed class HardDiskDrive : VMComponentObject
    {
        public string Path { get; init; } = "";

        public ControllerType ControllerType { get; init; }

        public int ControllerNumber { get; init; }

        public int ControllerLocation { get; init; }

        public int? DiskNumber { get; init; }
    }

    public sealed class VMAssignedDevice : VMComponentObject
    {
        public string LocationPath { get; init; } = "";
    }

    public sealed class DvdDrive : VMComponentObject
    {
        public int ControllerNumber { get; init; }

        public int ControllerLocation { get; init; }

        public string? Path { get; init; }
    }

    public abstract class VMNetworkAdapterBase : VMComponentObject
    {
        public string Id { get; init; } = "";

        public string Name { get; init; } = "";

        public string? SwitchName { get; init; }
    }

    public sealed class VMNetworkAdapter : VMNetworkAdapterBase
    {
        public string MacAddress { get; init; } = "";

        public bool Connected { get; init; }

        public string[] IPAddresses { get; init; } = [];

        public bool IsLegacy { get; init; }

        public string Status { get; init; } = "";
    }

    public sealed class VMSwitch
    {
        public string ComputerName { get; init; } = "";

        public string Name { get; init; } = "";

        public Guid Id { get; init; }

        public VMSwitchType SwitchType { get; init; } = VMSwitchType.External;
    }

    public sealed class VMHost
    {
        public string ComputerName { get; init; } = "";

        public string Name { get; init; } = "";

        public string FullyQualifiedDomainName { get; init; } = "";

        public long LogicalProcessorCount { get; init; }

        public long MemoryCapacity { get; init; }

        public string VirtualMachinePath { get; init; } = "";

        public string VirtualHardDiskPath { get; init; } = "";

        public bool VirtualMachineMigrationEnabled { get; init; }

        public MigrationAuthenticationType VirtualMachineMigrationAuthenticationType { get; init; }

        public VMMigrationPerformance VirtualMachineMigrationPerformanceOption { get; init; } = VMMigrationPerformance.Compression;

        public uint MaximumVirtualMachineMigrations { get; init; }

        public uint MaximumStorageMigrations { get; init; }

        public bool UseAnyNetworkForMigration { get; init; } = true;

        public string[] SupportedVmVersions { get; init; } = [];
    }

    public sealed class VMIntegrationComponent : VMComponentObject
    {
        public string Name { get; init; } = "";

        public string Id { get; init; } = "";

        public bool Enabled { get; init; }

        public string PrimaryStatusDescription { get; init; } = "";

        public VMOperationalStatus[] OperationalStatus { get; init; } = [];
    }

    public sealed class VMReplication : VMComponentObject
    {
        public string Name { get; init; } = "";

        public VMReplicationState State { get; init; }

        public VMReplicationHealthState Health { get; init; }

        public VMReplicationMode Mode { get; init; }
    }

    public sealed class VMSecurity : VMComponentObject
    {
        public bool TpmEnabled { get; init; }

        public bool KsdEnabled { get; init; }

        public bool Shielded { get; init; }

        public bool EncryptStateAndVmMigrationTraffic { get; init; }
    }

    public sealed class VMMemory : VMComponentObject
    {
        public long Startup { get; init; }

        public long Minimum { get; init; }

        public long Maximum { get; init; }

        public bool DynamicMemoryEnabled { get; init; }
    }

    public sealed class VMProcessor : VMComponentObject
    {
        public long Count { get; init; }

        public bool CompatibilityForMigrationEnabled { get; init; }
    }

    public sealed class VMMigrationNetwork
    {
        public string ComputerName { get; init; } = "";

        public string Subnet { get; init; } = "";
    }

    public sealed class VMHostSupportedVersion
    {
        public string ComputerName { get; init; } = "";

        public string Name { get; init; } = "";

        public string Version { get; init; } = "";

        public bool IsDefault { get; init; }
    }

    public sealed class VMMeteringReportForVirtualMachine
    {
        public string ComputerName { get; init; } = "";

        public Guid VMId { get; init; }

        public string VMName { get; init; } = "";

        /// <summary>Megahertz.</summary>
        public int? AverageProcessorUsage { get; init; }

        /// <summary>Megabytes.</summary>
        public int? AverageMemoryUsage { get; init; }

        public int? MaximumMemoryUsage { get; init; }

        public int? MinimumMemoryUsage { get; init; }

        public TimeSpan? MeteringDuration { get; init; }
    }

    public sealed class VMIncompatibility
    {
        public string Message { get; init; } = "";

        public long MessageId { get; init; }

        public object? Source { get; init; }
    }

    public sealed class VMCompatibilityReport
    {
        public VirtualMachine VM { get; init; } = new();

        public string OperationType { get; init; } = "";

        public string? Destination { get; init; }

        public string Path { get; init; } = "";

        public string? SnapshotPath { get; init; }

        public string? VhdDestinationPath { get; init; }

        public string? VhdSourcePath { get; init; }

        public VMIncompatibility[] Incompatibilities { get; init; } = [];

        internal bool Copies { get; init; }

        internal bool NewId { get; init; }

        internal string? StoragePath { get; init; }
    }
}
