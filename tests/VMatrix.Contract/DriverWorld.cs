using System;
using System.Collections.Generic;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Contract;

/// <summary>What a driver family brings to the contract: a pool of its own, and the hands to make trouble in it. Disposing it leaves nothing behind.</summary>
public abstract class DriverWorld : IAsyncDisposable
{
    /// <summary>Three matrix hosts, one chamber, and the services FINANCE and SPORTS.</summary>
    public abstract PoolSpec Pool { get; }

    public abstract TimeProvider Clock { get; }

    /// <summary>True for drivers whose machines are real and slow: the contract then takes a sample of its longest lists, by <see cref="Seed"/>.</summary>
    public virtual bool IsSlow => false;

    /// <summary>What samples are drawn by: another one each day, printed with each failure.</summary>
    public virtual int Seed => DateTime.UtcNow.DayOfYear;

    /// <summary>A new driver object, as a new process would have one.</summary>
    public abstract IHypervisor OpenHypervisor();

    public abstract IBalancer OpenBalancer();

    public abstract IHealthProbe OpenProbe();

    /// <summary>Runs a test's body on the world's clock.</summary>
    public virtual Task RunAsync(Func<Task> body) => body();

    /// <summary>Ends the machine of a running server from outside.</summary>
    public abstract Task CrashAsync(Guid server);

    /// <summary>Makes a running server's machine stop answering.</summary>
    public abstract Task HangAsync(Guid server);

    /// <summary>Copies a dormant server's files or registration, mark and all, onto a host.</summary>
    public abstract Task CloneAsync(Guid server, HostSpec on);

    /// <summary>Makes a host die with all that runs on it; for drivers whose hosts' disks are shared.</summary>
    public virtual Task LoseHostAsync(HostSpec host) => throw new NotSupportedException();

    /// <summary>Brings a lost host back.</summary>
    public virtual Task RestoreHostAsync(HostSpec host) => throw new NotSupportedException();

    /// <summary>What is left over that no server of the pool owns (processes, files, ports, unfinished copies), as sentences; servers of <paramref name="known"/> are no leftovers.</summary>
    public abstract IReadOnlyList<string> Leftovers(IReadOnlyCollection<Guid> known);

    /// <summary>Drops what this process remembers of the world, as one that has just started.</summary>
    public virtual void Forget()
    {
    }

    public abstract ValueTask DisposeAsync();
}
