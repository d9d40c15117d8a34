using System;
using System.Collections.Generic;

namespace VMatrix;

/// <summary>How simulated hosts, servers and loads behave: the <c>simulation</c> section of a pool file whose hypervisor is <c>simulation</c>.</summary>
public sealed record SimulationSpec
{
    /// <summary>Seed of everything that is left to chance.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>Time from a cold start to the first passed health check.</summary>
    public TimeSpan BootTime { get; init; } = TimeSpan.FromSeconds(8);

    /// <summary>Time from a wake to the first passed health check.</summary>
    public TimeSpan WakeTime { get; init; } = TimeSpan.FromMilliseconds(300);

    /// <summary>Time from waking a host that was powered down until it answers.</summary>
    public TimeSpan HostWakeTime { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>Bytes per second of copies between hosts and nest, and of saved memory.</summary>
    public long Bandwidth { get; init; } = 1L << 30;

    /// <summary>Bytes of each server's own disk, copied when it changes place.</summary>
    public long DiskBytes { get; init; } = 64L << 20;

    /// <summary>Requests per second that a server carries whose service states no capacity.</summary>
    public double Capacity { get; init; } = 10;

    /// <summary>Share of the changing calls that fail for a passing reason, from 0 to 1.</summary>
    public double FailureRate { get; init; }

    /// <summary>Share of the changing calls that are ten times as slow, from 0 to 1.</summary>
    public double SlowRate { get; init; }

    /// <summary>Share of the balancer's answers that are lost, from 0 to 1.</summary>
    public double LostSampleRate { get; init; }

    /// <summary>True when the hosts' disks are reached from everywhere, so that a server of a dead host can be started elsewhere once its disk's lock is free.</summary>
    public bool SharedDisks { get; init; }

    /// <summary>Hosts that are dead: nothing runs on them and they do not answer.</summary>
    public IReadOnlyList<string> Dead { get; init; } = [];

    /// <summary>Hosts that run on and cannot be reached, neither by us nor by the balancer.</summary>
    public IReadOnlyList<string> CutOff { get; init; } = [];

    /// <summary>Hosts that answer questions and fail at every change.</summary>
    public IReadOnlyList<string> HalfDead { get; init; } = [];

    /// <summary>What users ask of the services; a service that is missing has no load.</summary>
    public IReadOnlyList<DemandSpec> Demand { get; init; } = [];

    /// <inheritdoc/>
    public override string ToString() => $"seed {Seed}";
}

/// <summary>What simulated users ask of a service: a wave with some noise on it.</summary>
public sealed record DemandSpec
{
    /// <summary>The service.</summary>
    public required string Service { get; init; }

    /// <summary>Requests per second on average.</summary>
    public double Rate { get; init; }

    /// <summary>How far the wave rises above and falls below the average, as a share of it, from 0 to 1.</summary>
    public double Swing { get; init; }

    /// <summary>Time from one crest of the wave to the next.</summary>
    public TimeSpan Period { get; init; } = TimeSpan.FromHours(24);

    /// <summary>Where in its period the wave begins, as a share of it, from 0 to 1.</summary>
    public double Phase { get; init; }

    /// <summary>Spread of the noise, as a share of the rate.</summary>
    public double Noise { get; init; }

    /// <inheritdoc/>
    public override string ToString() => Service;
}
