using System;

namespace Microsoft.SystemCenter.VirtualMachineManager;

public enum VMComputerSystemState
{
    Running = 0,
    PowerOff = 1,
    PoweringOff = 2,
    Saved = 3,
    Saving = 4,
    Restoring = 5,
    Paused = 6,
    DiscardSavedState = 10,
    Starting = 11,
    MergingDrives = 12,
    Deleting = 13,
    Pausing = 81,
    UnderCreation = 100,
    CreationFailed = 101,
    Stored = 102,
    UnderUpdate = 106,
    UnderMigration = 108,
    MigrationFailed = 109,
    UpdateFailed = 107,
    CreatingCheckpoint = 210,
    HostNotResponding = 221,
    Missing = 220,
    IncompleteVMConfig = 222,
}

public enum CommunicationState
{
    Responding,
    NotResponding,
    AccessDenied,
}

public enum TaskStatus
{
    NotStarted,
    Running,
    Failed,
    Canceled,
    SucceedWithInfo,
    Completed,
}

public enum VMStartAction
{
    NeverAutoTurnOnVM,
    AlwaysAutoTurnOnVM,
    TurnOnVMIfRunningWhenVSStopped,
}

public enum VMStopAction
{
    SaveVM,
    TurnOffVM,
    ShutdownGuestOS,
}

public sealed class ServerConnection
{
    public string Name { get; init; } = "";

    public bool IsConnected { get; init; } = true;
}

public sealed class Host
{
    public Guid ID { get; init; }

    public string Name { get; init; } = "";

    public string ComputerName => Name;

    public CommunicationState CommunicationState { get; init; }

    public string OverallState { get; init; } = "";

    public bool MaintenanceHost { get; init; }

    public bool AvailableForPlacement { get; init; } = true;

    /// <summary>Megabytes.</summary>
    public long AvailableMemory { get; init; }

    /// <summary>Bytes.</summary>
    public long TotalMemory { get; init; }

    public int LogicalProcessorCount { get; init; }

    public HostGroup? VMHostGroup { get; init; }

    public override string ToString() => Name;
}

public sealed class HostGroup
{
    public Guid ID { get; init; }

    public string Name { get; init; } = "";

    public string Path { get; init; } = "";

    public override string ToString() => Name;
}

public sealed class DynamicOptimizationConfiguration
{
    public HostGroup? VMHostGroup { get; init; }

    public bool ManualMode { get; init; } = true;
}

public sealed class LibraryServer
{
    public Guid ID { get; init; }

    public string Name { get; init; } = "";

    public override string ToString() => Name;
}

public sealed class VirtualNetworkAdapter
{
    public string Name { get; init; } = "";

    public string[] IPv4Addresses { get; init; } = [];

    public string MACAddress { get; init; } = "";

    public string? VirtualNetwork { get; init; }
}

public sealed class VM
{
    public Guid ID { get; init; }

    /// <summary>The id that Hyper-V has for it.</summary>
    public string VMId { get; init; } = "";

    public string Name { get; init; } = "";

    public VMComputerSystemState Status { get; init; }

    public string StatusString { get; init; } = "";

    public Host? VMHost { get; init; }

    public string? HostName => VMHost?.Name;

    public LibraryServer? LibraryServer { get; init; }

    public string Location { get; init; } = "";

    public string Description { get; init; } = "";

    /// <summary>Megabytes.</summary>
    public int Memory { get; init; }

    public int CPUCount { get; init; }

    public bool BlockDynamicOptimization { get; init; }

    /// <summary>True for what Hyper-V Replica copies.</summary>
    public bool IsPrimaryVM { get; init; }

    /// <summary>True for the copy that it keeps.</summary>
    public bool IsRecoveryVM { get; init; }

    public VirtualNetworkAdapter[] VirtualNetworkAdapters { get; init; } = [];

    public Guid? MostRecentTaskID { get; init; }

    public DateTime CreationTime { get; init; }

    public override string ToString() => Name;
}

public sealed class StandaloneVirtualHardDisk
{
    public Guid ID { get; init; }

    public string Name { get; init; } = "";

    public string Location { get; init; } = "";

    public long Size { get; init; }

    public DateTime ModifiedTime { get; init; }

    public LibraryServer? LibraryServer { get; init; }
}

public sealed class Template
{
    public Guid ID { get; init; }

    public string Name { get; init; } = "";

    public DateTime ModifiedTime { get; init; }
}

public sealed class ErrorInfo
{
    public string DisplayableErrorCode { get; init; } = "";

    public string Problem { get; init; } = "";

    public override string ToString() => Problem;
}

public sealed class Task
{
    public Guid ID { get; init; }

    public string Name { get; init; } = "";

    public TaskStatus Status { get; init; }

    public bool IsCompleted { get; init; }

    public ErrorInfo? ErrorInfo { get; init; }

    public Guid? ResultObjectID { get; init; }
}

public sealed class VMHostRating
{
    public string Name { get; init; } = "";

    public Host VMHost { get; init; } = new();

    public double Rating { get; init; }

    public ErrorInfo[] ZeroRatingReasonList { get; init; } = [];
}
