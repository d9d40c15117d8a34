using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Simulation;

/// <summary>Balances simulated users over simulated servers, and counts as a real balancer does.</summary>
public sealed class SimulatedBalancer(SimulatedWorld world) : IBalancer, IEpochKeeper
{
    // Its own check needs this long to see that a member is gone; until then it sends requests there, which fail.
    private static readonly TimeSpan s_downAfter = TimeSpan.FromSeconds(2);

    /// <inheritdoc/>
    public Task<long> ReadEpochAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(world.Read(state => state.Epoch));
    }

    /// <inheritdoc/>
    public Task EnsureAsync(CancellationToken cancellation) => ActAsync("Ensure", default, null, state =>
    {
        if (!state.Balancer.Running)
            state.Put(new WorldBalancer(true, state.Balancer.Incarnation + 1));
    }, cancellation);

    /// <inheritdoc/>
    public Task<BalancerReport> ReadAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        if (world.Chance(world.Settings.LostSampleRate))
            throw new VMatrixException("BalancerUnreachable", VMatrixErrorKind.Unreachable, "The simulated balancer lost the question for its counters.") { IsTransient = true };
        if (world.SettlesWhenRead)
            world.Settle();
        return Task.FromResult(world.Read(state =>
        {
            CheckRunning(state);
            var now = world.Clock.GetUtcNow();
            var services = world.Pool.Services.ToDictionary(service => service.Name, service => Count(world, state, service, now));
            var busy = Busy(state, services, now);
            return new BalancerReport
            {
                At = now,
                Incarnation = state.Balancer.Incarnation.ToString(CultureInfo.InvariantCulture),
                Members = [.. state.Members.Values.Select(member => Show(state, member, services, busy, now))],
                Services = [.. world.Pool.Services.Select(service => Show(state, service, services[service.Name], now))],
            };
        }));
    }

    /// <inheritdoc/>
    public Task JoinAsync(DriverCall call, ServiceSpec service, Guid server, string address, CancellationToken cancellation) => ActAsync("Join", call, server, state =>
    {
        CheckRunning(state);
        if (state.Members.TryGetValue(server, out var known) && known.Address == address && !known.Draining)
            return;
        var now = world.Clock.GetUtcNow();
        world.Account(state, service.Name);
        state.Put(NewMember(state, service.Name, server, address, now));
        if (state.AtAddress(address) is not { Power: PowerState.Running } machine || machine.ReadyAt > now)
        {
            // A machine that ended a moment ago may have passed its check before.
            if (!state.Copies(server).Any(copy => now - copy.Since < TimeSpan.FromSeconds(5) && copy.Problem is not null))
                state.Violate($"{server} was added to the balancer at {address}, where nothing answers.");
        }
    }, cancellation);

    /// <inheritdoc/>
    public Task DrainAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) => ActAsync("Drain", call, server, state =>
    {
        CheckRunning(state);
        if (!state.Members.TryGetValue(server, out var member) || member.Draining)
            return;
        world.Account(state, service);
        state.Put(Settle(state, member) with { Draining = true, Since = world.Clock.GetUtcNow() });
    }, cancellation);

    /// <inheritdoc/>
    public Task LeaveAsync(DriverCall call, string service, Guid server, CancellationToken cancellation) => ActAsync("Leave", call, server, state =>
    {
        CheckRunning(state);
        if (!state.Members.TryGetValue(server, out var member))
            return;
        world.Account(state, service);
        state.Remove(member);
    }, cancellation);

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellation) => ActAsync("StopBalancer", default, null, state =>
    {
        if (!state.Balancer.Running || !world.Pool.Balancer.Own)
            return;
        state.Put(state.Balancer with { Running = false });
        Empty(state);
    }, cancellation);

    /// <summary>Ends the balancer as a crash does: members and counters are lost.</summary>
    public void Crash() => world.Change(state =>
    {
        state.Put(state.Balancer with { Running = false });
        Empty(state);
    });

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => default;

    internal static WorldMember NewMember(WorldState state, string service, Guid server, string address, DateTimeOffset now)
    {
        state.Services.TryGetValue(service, out var counters);
        return new WorldMember { Service = service, ServerId = server, Address = address, Since = now, Each = counters?.Each ?? 0, EachLost = counters?.EachLost ?? 0 };
    }

    /// <summary>A service's counters at a moment: demand against what its members carry, in steps of a second (longer over long times), with a queue in front.</summary>
    internal static WorldService Count(SimulatedWorld world, WorldState state, ServiceSpec service, DateTimeOffset now)
    {
        if (!state.Services.TryGetValue(service.Name, out var counters))
            counters = new WorldService { Service = service.Name, At = now };
        var span = now - counters.At;
        if (span <= TimeSpan.Zero)
            return span < TimeSpan.Zero ? counters with { At = now } : counters;
        var members = state.Members.Values.Where(member => member.Service == service.Name && !member.Draining)
            .Select(member => state.AtAddress(member.Address) is { } machine && machine.Mark?.ServerId == member.ServerId ? machine : null).ToArray();
        if (!state.Balancer.Running || (world.Demand is null && !world.Settings.Demand.Any(demand => demand.Service == service.Name)))
            return counters with { At = now };

        var each = service.Capacity ?? world.Settings.Capacity;
        var longest = Math.Max(1, span.TotalSeconds / 10_000);
        var (requests, served, refused, errors, queue) = (counters.Requests, counters.Served, counters.Refused, counters.Errors, counters.Queue);
        var (sent, lost) = (counters.Each, counters.EachLost);
        var (early, earlyServed, earlyRefused) = (counters.Early, counters.EarlyServed, counters.EarlyRefused);
        for (var at = counters.At; at < now;)
        {
            // Steps end with a second of the clock, so that what arrives in it is the same however often it is counted.
            var next = longest > 1 ? at + TimeSpan.FromSeconds(longest) : new DateTimeOffset(((at.UtcTicks / TimeSpan.TicksPerSecond) + 1) * TimeSpan.TicksPerSecond, TimeSpan.Zero);
            next = next < now ? next : now;
            var seconds = (next - at).TotalSeconds;
            var alive = members.Count(machine => machine is not null && world.Answers(state, machine, at) is null);
            var dying = members.Count(machine => machine is null || (world.Answers(state, machine, at) is not null && at - LostSince(world, state, machine) < s_downAfter));
            var arrived = Demand(world, service.Name, at) * seconds;
            requests += arrived;
            var failed = alive + dying > 0 ? arrived * dying / (alive + dying) : 0;
            errors += failed;
            lost += dying > 0 ? failed / dying : 0;
            queue += arrived - failed;
            var carried = Math.Min(queue, alive * each * seconds);
            queue -= carried;
            served += carried;

            // First come, first served.
            var old = Math.Min(early, carried);
            early -= old;
            earlyServed += old;
            sent += alive > 0 ? carried / alive : 0;
            var patience = Math.Max(alive * each, arrived / seconds) * world.Pool.Balancer.QueueTimeout.TotalSeconds;
            var room = Math.Min(patience, world.Pool.Balancer.MostOpen ?? double.MaxValue);
            if (queue > room)
            {
                // Those that came last are the ones that wait too long.
                refused += queue - room;
                queue = room;
                var gone = Math.Max(0, early - queue);
                early -= gone;
                earlyRefused += gone;
            }

            at = next;
        }

        return counters with { At = now, Requests = requests, Served = served, Refused = refused, Errors = errors, Queue = queue, Early = early, EarlyServed = earlyServed, EarlyRefused = earlyRefused, Each = sent, EachLost = lost };
    }

    private static double Demand(SimulatedWorld world, string service, DateTimeOffset at)
    {
        if (world.Demand is { } replaced)
            return replaced(service, at);
        var sum = 0.0;
        foreach (var demand in world.Settings.Demand)
        {
            if (demand.Service != service)
                continue;
            var turn = (at.UtcTicks / (double)Math.Max(1, demand.Period.Ticks)) + demand.Phase;
            var rate = demand.Rate * (1 + (demand.Swing * Math.Sin(2 * Math.PI * (turn - Math.Floor(turn)))));
            if (demand.Noise > 0)
            {
                // The noise of a second depends on that second alone, so that every process counts the same.
                var random = new Random(unchecked((world.Settings.Seed * 397) ^ (int)(at.UtcTicks / TimeSpan.TicksPerSecond)));
                rate *= 1 + (demand.Noise * (random.NextDouble() + random.NextDouble() + random.NextDouble() - 1.5) * 2);
            }

            sum += Math.Max(0, rate);
        }

        return sum;
    }

    private static DateTimeOffset LostSince(SimulatedWorld world, WorldState state, WorldMachine machine)
    {
        var host = state.Hosts.TryGetValue(machine.Place, out var known) && world.EffectiveCondition(state, machine.Place) != HostCondition.Up ? known.Since : DateTimeOffset.MinValue;
        return host > machine.Since ? host : machine.Since;
    }

    private static WorldMember Settle(WorldState state, WorldMember member) =>
        state.Services.TryGetValue(member.Service, out var counters) ? member with { Each = member.Each - counters.Each, EachLost = member.EachLost - counters.EachLost } : member;

    private static void Empty(WorldState state)
    {
        foreach (var member in state.Members.Values.ToArray())
            state.Remove(member);
        foreach (var service in state.Services.Values.ToArray())
            state.Put(new WorldService { Service = service.Service, At = service.At });
    }

    private static void CheckRunning(WorldState state)
    {
        if (!state.Balancer.Running)
            throw new VMatrixException("BalancerUnreachable", VMatrixErrorKind.Unreachable, "The simulated balancer does not run; the first move that needs it starts it.") { IsTransient = true };
    }

    private async Task ActAsync(string operation, DriverCall call, Guid? server, Action<WorldState> effect, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var fault = world.Change(state =>
        {
            SimulatedWorld.Admit(state, call);
            var waiting = state.Faults.Values.FirstOrDefault(fault => fault.Operation == operation && (fault.ServerId is null || fault.ServerId == server));
            if (waiting is not null)
                state.Put(waiting with { Count = waiting.Count - 1 });
            if (waiting is null or { Point: FaultPoint.After })
                effect(state);
            return waiting;
        }, cancellation);
        if (fault is null)
            return;
        if (fault.Kind == FaultKind.Hang)
            await world.Clock.DelayAsync(TimeSpan.FromDays(40), cancellation);
        throw new VMatrixException("BalancerUnreachable", VMatrixErrorKind.Unreachable, $"The balancer did not answer to {operation} (simulated).") { IsTransient = fault.Kind == FaultKind.Fail };
    }

    /// <summary>The members with a request open: of each service as many as its demand keeps busy at a time, by id.</summary>
    private HashSet<Guid> Busy(WorldState state, Dictionary<string, WorldService> services, DateTimeOffset now)
    {
        var busy = new HashSet<Guid>();
        foreach (var members in state.Members.Values.Where(m => !m.Draining && state.AtAddress(m.Address) is { } machine && machine.Mark?.ServerId == m.ServerId && world.Answers(state, machine, now) is null).GroupBy(m => m.Service))
        {
            if (world.Pool.Services.FirstOrDefault(s => s.Name == members.Key) is not { } service)
                continue;
            double open = services[service.Name].Queue > 0 ? double.MaxValue : Math.Ceiling(Demand(world, service.Name, now) / (service.Capacity ?? world.Settings.Capacity));
            busy.UnionWith(members.Select(m => m.ServerId).OrderBy(id => id).Where((_, n) => n < open));
        }

        return busy;
    }

    private BalancerMember Show(WorldState state, WorldMember member, Dictionary<string, WorldService> services, HashSet<Guid> open, DateTimeOffset now)
    {
        var spec = world.Pool.Services.FirstOrDefault(service => service.Name == member.Service);
        services.TryGetValue(member.Service, out var counters);
        var machine = state.AtAddress(member.Address) is { } found && found.Mark?.ServerId == member.ServerId ? found : null;
        var down = machine is null || (world.Answers(state, machine, now) is not null && now - LostSince(world, state, machine) >= s_downAfter);
        var each = spec?.Capacity ?? world.Settings.Capacity;
        var rate = spec is null ? 0 : Demand(world, member.Service, now);
        var response = TimeSpan.FromSeconds(1 / each);
        var busy = member.Draining ? rate > 0 && now - member.Since < response : !down && open.Contains(member.ServerId);
        return new BalancerMember
        {
            Service = member.Service,
            ServerId = member.ServerId,
            Address = member.Address,
            State = member.Draining ? MemberState.Draining : down ? MemberState.Down : MemberState.Ready,
            Open = busy ? 1 : 0,
            Requests = (long)(member.Draining ? -member.Each : (counters?.Each ?? 0) - member.Each),
            Errors = (long)(member.Draining ? -member.EachLost : (counters?.EachLost ?? 0) - member.EachLost),
            ResponseTime = response,
        };
    }

    private ServiceCounters Show(WorldState state, ServiceSpec service, WorldService counters, DateTimeOffset now)
    {
        var each = service.Capacity ?? world.Settings.Capacity;
        var alive = state.Members.Values.Count(member => member.Service == service.Name && !member.Draining && state.AtAddress(member.Address) is { } machine && world.Answers(state, machine, now) is null);
        return new ServiceCounters
        {
            Service = service.Name,
            Requests = (long)counters.Requests,
            Served = (long)counters.Served,
            Refused = (long)counters.Refused,
            Errors = (long)counters.Errors,
            Queue = (int)counters.Queue,
            Sessions = (int)Math.Min(alive, Math.Ceiling(Demand(world, service.Name, now) / each)),
            ResponseTime = TimeSpan.FromSeconds((1 / each) + (alive > 0 ? counters.Queue / (alive * each) : 0)),
        };
    }
}

/// <summary>Asks simulated servers whether they work.</summary>
public sealed class SimulatedHealthProbe(SimulatedWorld world) : IHealthProbe
{
    /// <inheritdoc/>
    public async Task<string?> CheckAsync(ServiceSpec service, string address, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var reason = world.Read(state => state.AtAddress(address) is { } machine ? world.Answers(state, machine, world.Clock.GetUtcNow()) : "connection refused: no machine runs there.");
        if (reason is null)
            return null;

        // Only a refused connection is quick to fail.
        await world.Clock.DelayAsync(reason.StartsWith("timed out", StringComparison.Ordinal) ? service.Health.Timeout : TimeSpan.FromMilliseconds(1), cancellation);
        return $"GET http://{address}{service.Health.Path} failed: {reason}";
    }
}
