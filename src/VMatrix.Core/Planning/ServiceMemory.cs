using System;
using System.Collections.Generic;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace VMatrix.Planning;

/// <summary>What the planner keeps of one service from plan to plan.</summary>
internal sealed class ServiceMemory
{
    /// <summary>Servers whose health check fails, by id.</summary>
    public Dictionary<Guid, Failing> Failing { get; set; } = [];

    /// <summary>Needs of the calm window whose value is above every later one, oldest first.</summary>
    public List<PastNeed> Needs { get; set; } = [];

    /// <summary>Requests per second that one server carried while requests were waiting; null until that was seen.</summary>
    public double? Saturated { get; set; }

    /// <summary>The most requests per second that one server carried with nothing waiting.</summary>
    public double Carried { get; set; }

    /// <summary>Servers in the Matrix at the plan before.</summary>
    public int Had { get; set; }

    /// <summary>Requests that waited at the plan before.</summary>
    public int Queued { get; set; }

    /// <summary>True from a request that came while no server was up until a server has answered one.</summary>
    public bool Owed { get; set; }

    /// <summary>The last sample that <see cref="Owed"/> follows from.</summary>
    public DateTimeOffset OwedUntil { get; set; }

    /// <summary>The last sample that the forecast has taken in.</summary>
    public DateTimeOffset FedUntil { get; set; }

    /// <summary>The minute that is being filled, its requests, and the seconds of it that were measured.</summary>
    public long Minute { get; set; }

    public double MinuteRequests { get; set; }

    public double MinuteSeconds { get; set; }

    /// <summary>Requests per second that the forecast counts as one server's work.</summary>
    public double Unit { get; set; }

    /// <summary>The forecast. Shared with the memory it was read from: copied before it is changed.</summary>
    [JsonIgnore]
    public ForecastState? Forecast { get; set; }

    /// <summary>What is kept of a service; nothing when it cannot be read. No stamp of it is later than now: a clock may have been set back since.</summary>
    public static ServiceMemory Read(PlannerMemory? memory, string service, DateTimeOffset now)
    {
        var own = memory is not null && memory.ByService.TryGetValue(service, out string? text) ? Parse(text) : new();
        own.FedUntil = own.FedUntil < now ? own.FedUntil : now;
        foreach (var failing in own.Failing.Values)
            failing.At = failing.At < now ? failing.At : now;
        foreach (var need in own.Needs)
            need.At = need.At < now ? need.At : now;
        if (memory is not null && memory.Forecasts.TryGetValue(service, out var forecast))
            own.Forecast = forecast;
        return own;
    }

    // What cannot be read, or cannot be, is learned anew.
    private static ServiceMemory Parse(string? text)
    {
        ServiceMemory? own = null;
        try
        {
            own = text is null ? null : JsonSerializer.Deserialize<ServiceMemory>(text);
        }
        catch (JsonException)
        {
        }

        if (own is not { Failing: not null, Needs: not null } || own.Needs.Contains(null!) || own.Failing.ContainsValue(null!))
            return new();
        own.Saturated = own.Saturated is > 0 and < double.PositiveInfinity ? own.Saturated : null;
        own.Carried = own.Carried is >= 0 and < double.PositiveInfinity ? own.Carried : 0;
        return own;
    }

    public string Write() => JsonSerializer.Serialize(this);
}

/// <summary>A server whose health check fails.</summary>
internal sealed class Failing
{
    /// <summary>Checks in a row that failed.</summary>
    public int Checks { get; set; }

    /// <summary>When the last of them was counted.</summary>
    public DateTimeOffset At { get; set; }
}

/// <summary>What a service needed at a moment.</summary>
internal sealed class PastNeed
{
    public DateTimeOffset At { get; set; }

    public int Servers { get; set; }
}
