using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Scripts;

namespace VMatrix.Moves;

/// <summary>One open move on its way: its preconditions, its steps, and their taking back.</summary>
internal sealed partial class MoveRun
{
    /// <summary>While a server does not pass its health check its address is asked for again after this time at the latest.</summary>
    private static readonly TimeSpan s_addressAge = TimeSpan.FromSeconds(5);

    private readonly Mover _mover;
    private readonly OpenMove _open;
    private readonly Mover.Batch _batch;
    private readonly Move _move;
    private readonly ServiceSpec? _service;
    private readonly HostSpec? _from;
    private readonly HostSpec? _to;
    private readonly DriverCall _call;
    private MoveRoute _route;
    private ServerMark? _original;
    private string? _image;
    private string? _former;
    private string? _address;
    private bool _ran;

    /// <summary>True when a step of it was begun before this run.</summary>
    private readonly bool _begun;

    /// <summary>Whether the server had a memory when the move began; null where a process that took the move up does not know.</summary>
    private bool? _keptMemory;
    private long? _bytes;

    public MoveRun(Mover mover, OpenMove open, Mover.Batch batch)
    {
        (_mover, _open, _batch, _move) = (mover, open, batch, open.Move);
        _service = mover.ServiceOf(_move.Service);
        _from = mover.HostOf(_move.FromHost);
        _to = mover.HostOf(_move.ToHost);
        _call = new DriverCall(_move.Id, batch.Context.Epoch);
        _route = open.Route ?? MoveRoutes.For(_move, mover.Hypervisor.Traits);
        _begun = open.Step is not null;
        (_original, _image, _former, _ran) = (open.Original, open.Image, open.Former, open.Ran);
    }

    private LimitSpec Limits => _mover.Pool.Limits;

    private string Who => $"{_move.ServerName} ({_move.Service})";

    // Time to come to a whole state after a cancellation or a failure: a few steps and one start.
    private TimeSpan Grace => Limits.StepTimeout + Limits.StepTimeout + (_service?.Health.StartTimeout ?? TimeSpan.Zero) + _mover.Pool.Balancer.DrainTimeout;

    private ServiceSpec Service => _service ?? throw new VMatrixException("ServiceNotFound", VMatrixErrorKind.NotFound, $"The pool file {_mover.Pool.Path} names no service '{_move.Service}'.");

    private HostSpec From => _from ?? throw new VMatrixException("HostNotFound", VMatrixErrorKind.NotFound, $"The pool file {_mover.Pool.Path} names no host '{_move.FromHost}'.");

    private HostSpec To => _to ?? throw new VMatrixException("HostNotFound", VMatrixErrorKind.NotFound, $"The pool file {_mover.Pool.Path} names no host '{_move.ToHost}'.");

    // ---------------------------------------------------------------- preconditions

    /// <summary>Reads the truth and says why the move cannot be made; null when it can. The server is claimed meanwhile, so what is true now stays true.</summary>
    public async Task<string?> FindObstacleAsync()
    {
        var cancellation = _batch.Cancellation;
        var now = _mover.Clock.GetUtcNow();
        if (!_batch.Mending && FindFault() is { } fault)
            return fault;
        var since = _batch.Truth.Now();
        var overrides = _mover.State.Overrides.ReadHosts(now);
        var stays = _move.Kind is MoveKind.Relocate or MoveKind.Publish or MoveKind.Register or MoveKind.Unregister && _move.FromHost == _move.ToHost;
        if (_to is not null && !stays && overrides.FirstOrDefault(o => string.Equals(o.Host, _to.Name, StringComparison.OrdinalIgnoreCase)) is { } suspended)
            return $"HostSuspended: {_to.Name} is suspended by {suspended.By} since {suspended.At.ToString("u", CultureInfo.InvariantCulture)}.";
        if (_to is not null && _mover.State.ReadHostClaim(_to.Name) is { Action.Kind: HostActionKind.PowerDown } down)
            return $"HostPoweredDown: {_to.Name} is being powered down by {down.By}.";

        IReadOnlyList<Sighting> seen;
        try
        {
            seen = await _batch.Truth.FindAsync(_move.ServerId, [_move.FromHost], since, cancellation);
        }
        catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable && _move.Kind is MoveKind.Relocate && !stays)
        {
            return await FindObstacleToRestartAsync(e, since, cancellation);
        }
        if (_move.Kind is MoveKind.Create)
            return seen.Count == 0 ? null : $"A server with the id {_move.ServerId} exists already: {seen[0].Where}.";
        if (_move.Kind is MoveKind.Register)
            return await FindObstacleToRegisterAsync(seen, since, cancellation);
        if (seen.Count == 0)
            return $"{Who} is not " + (_move.FromHost is null ? "in the nest." : $"on {_move.FromHost}.");
        if (seen.Count > 1)
            return $"{Who} is in more than one place: {string.Join(", ", seen.Select(s => s.Where))}. Nothing is done with it until one of them is unregistered.";
        var sighting = seen[0];
        var mark = sighting.Mark;
        if (FindFault(mark) is { } wrong)
            return wrong;
        if (sighting.IsUnseen && _move.Kind is not MoveKind.Unregister)
            return $"ServerNotSeen: {NotSeen(sighting)}";
        if (_batch.Mending)
        {
            (_route, _original, _ran) = (MoveRoutes.Mend, mark, sighting.Runs);
            return Mover.Agrees(sighting) || sighting.Host != _move.FromHost ? $"{Who} was put right meanwhile." : null;
        }
        if (!Mover.Agrees(sighting))
            return $"{Who} is marked as in the {mark.Stage} and is {sighting.Where}. Run Resume-VMatrixMove, which puts it right.";
        if (_batch.Context.Epoch > 0 && !stays && _mover.Holds.Until(mark) is { } held && held > now)
            return $"{Who} was moved by hand and is held until {held.ToString("u", CultureInfo.InvariantCulture)}.";
        if (_move.Kind is MoveKind.Relocate && !sighting.Runs)
            return $"{Who} does not run: it is {sighting.Where}.";
        if (_to is not null && !stays && await _mover.FindLackOfRoomAsync(_batch.Truth, _to, Service, _move.ServerId, _move.ToStage, (sighting.Machine.MemoryBytes, sighting.Machine.Cores), since, cancellation) is { } lack)
            return lack;
        if (_move.Kind is MoveKind.Wake or MoveKind.Relocate && _move.ToStage is Stage.Matrix && !stays && await FindRefusalAsync(cancellation) is { } refusal)
            return $"BalancerRefuses: {refusal}";
        if (_move.Kind is MoveKind.Publish)
            _former = (await _batch.Truth.NestAsync(since, cancellation)).Report.Images.TryGetValue(_move.Service, out var image) ? image : null;
        (_original, _ran, _address, _keptMemory) = (mark, sighting.Runs, sighting.Machine.Address, sighting.Machine.Power is not PowerState.Off);
        _bytes = _move.Kind is MoveKind.Wake ? sighting.Machine.WakeBytes : null;
        return null;
    }

    // Tried before anything is started: a machine that cannot join costs a boot, and one that moves would not come back to its users.
    private async Task<string?> FindRefusalAsync(CancellationToken cancellation)
    {
        if (_mover.Balancer is not IExaminedBalancer examined)
            return null;
        try
        {
            return await _mover.TryAsync("Asking the balancer", Limits.StepTimeout, c => examined.FindRefusalAsync(Service, c), cancellation);
        }
        catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable or VMatrixErrorKind.Timeout or VMatrixErrorKind.Busy)
        {
            return null; // That it is silent now says nothing of the moment in which it is needed.
        }
        catch (VMatrixException e) when (!IsNoLongerOurs(e))
        {
            return e.Message;
        }
    }

    private string? FindFault()
    {
        var legal = _move.Kind switch
        {
            MoveKind.Create => _move.FromStage is Stage.Nest && _move.ToStage is Stage.Nest,
            MoveKind.Wake => _move.FromStage is Stage.Nest && _move.ToStage is Stage.Chamber or Stage.Matrix,
            MoveKind.Hibernate => _move.FromStage is Stage.Chamber or Stage.Matrix && _move.ToStage is Stage.Nest,
            MoveKind.Relocate => _move.FromStage is Stage.Chamber or Stage.Matrix && _move.ToStage is Stage.Chamber or Stage.Matrix,
            MoveKind.Dispose => _move.FromStage is not Stage.Disposed && _move.ToStage is Stage.Disposed,
            MoveKind.Undo => _move.FromStage is Stage.Disposed && _move.ToStage is Stage.Nest,
            MoveKind.Purge => _move.FromStage is Stage.Disposed && _move.ToStage is Stage.Disposed,
            MoveKind.Register or MoveKind.Unregister => _move.FromStage is not Stage.Disposed && _move.FromStage == _move.ToStage,
            MoveKind.Publish => _move.FromStage is Stage.Chamber && _move.ToStage is Stage.Chamber && _move.FromHost == _move.ToHost,
            _ => false,
        };
        if (!legal)
        {
            return StageRules.IsLegal(_move.FromStage, _move.ToStage)
                ? $"IllegalStageChange: a {_move.Kind} does not take a server from the {_move.FromStage} to the {_move.ToStage}."
                : "IllegalStageChange: " + StageRules.Describe(_move.FromStage, _move.ToStage);
        }
        if (_service is null && _move.Kind is MoveKind.Create or MoveKind.Wake or MoveKind.Relocate or MoveKind.Publish or MoveKind.Register)
            return $"ServiceNotFound: the pool file {_mover.Pool.Path} names no service '{_move.Service}'.";
        if (_move.FromStage is Stage.Chamber or Stage.Matrix && _from is null)
            return $"HostNotFound: the pool file {_mover.Pool.Path} names no host '{_move.FromHost}'.";
        if (_move.ToStage is not (Stage.Chamber or Stage.Matrix) || _move.Kind is MoveKind.Unregister)
            return null;
        if (_to is null)
            return $"HostNotFound: the pool file {_mover.Pool.Path} names no host '{_move.ToHost}'.";
        if (_to.Role != (_move.ToStage is Stage.Matrix ? HostRole.Matrix : HostRole.Chamber))
            return $"{_to.Name} is a {_to.Role} host; a server in the {_move.ToStage} needs one of the other kind.";
        return null;
    }

    private string? FindFault(ServerMark mark)
    {
        if (mark.StateId != _mover.State.Id)
            return $"ForeignController: {Who} belongs to another controller: its mark carries the state id {mark.StateId}, this pool's is {_mover.State.Id}.";
        if (mark.Stage != _move.FromStage)
            return $"{Who} is in the {mark.Stage}, not in the {_move.FromStage}.";
        if (mark.Generation != _move.Generation && !_batch.HasCreated(mark.ServerId))
            return $"{Who} was moved meanwhile: its generation is {mark.Generation}, the move was made for {_move.Generation}.";
        return null;
    }

    // The machine was not ours when the move was made. It must still be there, still do what it did, and still belong to nobody else.
    private async Task<string?> FindObstacleToRegisterAsync(IReadOnlyList<Sighting> seen, long since, CancellationToken cancellation)
    {
        var there = _from is null ? (await _batch.Truth.NestAsync(since, cancellation)).Report.Dormant : (await _batch.Truth.HostAsync(_from, since, cancellation)).Report.Machines;
        var where = _from is null ? "in the nest" : $"on {_from.Name}";
        if (there.FirstOrDefault(m => m.MachineId == _move.MachineId) is not { } machine)
            return $"MachineNotFound: there is no machine {_move.MachineId} {where} any more.";
        if (machine.Mark is { } mark && mark.StateId == _mover.State.Id)
            return $"MachineMarked: {machine.Name} {where} is server {mark.Name} ({mark.ServerId}) already.";
        if (machine.Mark is { } others && others.ServerId != _move.ServerId)
            return $"ForeignController: {machine.Name} {where} belongs to another controller, as server {others.ServerId} of the pool state {others.StateId}.";
        if (seen.FirstOrDefault(s => s.Machine.MachineId != machine.MachineId) is { } other)
            return $"A server with the id {_move.ServerId} exists already: {other.Where}.";
        if (machine.Power is PowerState.Paused or PowerState.Unknown)
            return $"{machine.Name} {where} is {machine.Power}; let it run, save it or stop it, then register it.";
        if (machine.Power is PowerState.Running != _move.ToStage is Stage.Chamber or Stage.Matrix)
            return $"{machine.Name} {where} is {machine.Power} by now; the move was made to take it into the {_move.ToStage}.";
        if (_move.ToStage is Stage.Matrix && machine.Address is null)
            return $"{machine.Name} {where} runs, and its hypervisor names no address for it, so it cannot be asked whether it works nor be sent requests. See that its network adapter shows an address, or save it and register it into the nest.";
        (_original, _ran, _address, _image) = (machine.Mark, machine.Power is PowerState.Running, machine.Address, (machine.Mark ?? machine.StaleMark)?.Image ?? "");
        return null;
    }

    // A host that cannot be reached proves nothing by itself. With the proof its server is started elsewhere, if its disk can be had there.
    private async Task<string?> FindObstacleToRestartAsync(VMatrixException unreachable, long since, CancellationToken cancellation)
    {
        if (!_mover.Hypervisor.Traits.SharedDisks)
            return $"{Mover.Sentence(unreachable)} The files of {Who} are on {_move.FromHost}; no other host reaches them. A new server made from the image can take its place, and this one is there again when its host is.";
        if (await _mover.ProveStoppedAsync(_move.ServerId, From, cancellation) is null)
            return $"{Mover.Sentence(unreachable)} Nothing proves that {Who} does not run there: its disk may be in use, no fence script has said that {_move.FromHost} is dead, and nobody has given their word (Suspend-VMatrixHost -ConfirmDead).";
        if (_move.ToStage is Stage.Matrix && await FindRefusalAsync(cancellation) is { } refusal)
            return $"BalancerRefuses: {refusal}";
        if (await _mover.FindLackOfRoomAsync(_batch.Truth, To, Service, _move.ServerId, _move.ToStage, default, since, cancellation) is { } lack)
            return lack;
        (_route, _keptMemory) = (MoveRoutes.Restart, false);
        return null;
    }

    // ---------------------------------------------------------------- forward

    /// <summary>Carries the move out from its first step.</summary>
    public Task<MoveRecord> CarryOutAsync() => ForwardAsync(_route.For(_move.FromStage, _move.ToStage), 0, _batch.Cancellation);

    private async Task<MoveRecord> ForwardAsync(IReadOnlyList<MoveStep> steps, int first, CancellationToken cancellation)
    {
        CancellationTokenSource? grace = null;
        try
        {
            for (var i = first; i < steps.Count; i++)
            {
                try
                {
                    var token = grace?.Token ?? cancellation;
                    token.ThrowIfCancellationRequested();
                    _mover.State.CheckEpoch(_batch.Context.Epoch);
                    _open.Begin(_mover.Clock.GetUtcNow(), _route, steps[i].Name, _original, _image, _former, _ran);
                    _batch.Tell(_open.ToRecord(MoveStatus.Running));
                    _mover.Point($"{_route.Name}.{steps[i].Name}.before");
                    await DoAsync(steps[i].Act, token);
                    _mover.Point($"{_route.Name}.{steps[i].Name}.after");
                }
                catch (Exception e) when (!_mover.IsDead(e))
                {
                    if (IsNoLongerOurs(e))
                        return await YieldAsync(e, untouched: i == 0 && !_begun);
                    var cancelled = e is OperationCanceledException;
                    if (cancelled && grace is null && steps[i].WhenCut is WhenCut.Finish)
                    {
                        grace = _mover.Clock.Deadline(Grace);
                        i--;
                        continue;
                    }
                    return await BackAsync(steps, Mover.Sentence(e), Mover.IdOf(e));
                }
            }
            return Close(MoveStatus.Done, null);
        }
        finally
        {
            grace?.Dispose();
        }
    }

    private async Task DoAsync(Act act, CancellationToken cancellation)
    {
        var (hypervisor, balancer, server) = (_mover.Hypervisor, _mover.Balancer, _move.ServerId);
        Task Call(string what, Func<CancellationToken, Task> call) => _mover.TryAsync($"{what} {Who}", Limits.StepTimeout, call, cancellation);
        Task<T> Ask<T>(string what, Func<CancellationToken, Task<T>> call) => _mover.TryAsync($"{what} {Who}", Limits.StepTimeout, call, cancellation);
        switch (act)
        {
            case Act.Image:
                _image = await _mover.PrepareImageAsync(_call, Service, _to, cancellation);
                break;
            case Act.Create:
                await Call("Creating", c => hypervisor.CreateAsync(_call, FirstMark(), Service, c));
                _batch.AddCreated(server);
                break;
            case Act.Fetch:
                await Call("Fetching", c => hypervisor.FetchAsync(_call, server, To, c));
                break;
            case Act.Start:
                _address = await Ask("Starting", c => hypervisor.StartAsync(_call, server, Service, To, c));
                _mover.EndWord(To.Name);
                break;
            case Act.Check:
                await CheckAsync(To, cancellation);
                break;
            case Act.Mark:
                await Call("Marking", c => hypervisor.MarkAsync(_call, NextMark(), _to, c));
                break;
            case Act.Join:
                await Call("Joining", c => balancer.JoinAsync(_call, Service, server, _address!, c));
                break;
            case Act.Drain:
                if (_service?.BeforeDrainScript is not null)
                    await RunBeforeDrainAsync(_service.BeforeDrainScript, cancellation);
                await Call("Draining", c => balancer.DrainAsync(_call, _move.Service, server, c));
                break;
            case Act.Settle:
                await SettleAsync(cancellation);
                break;
            case Act.Leave:
                await Call("Taking from the balancer", c => balancer.LeaveAsync(_call, _move.Service, server, c));
                break;
            case Act.Save:
                // A machine that died has no memory to save; its disk goes to the nest as it is.
                if (_ran)
                    await Call("Saving", c => hypervisor.SaveAsync(_call, server, From, c));
                break;
            case Act.Stow when _from is null:
                break;
            case Act.Stow:
                await Call("Stowing", c => hypervisor.StowAsync(_call, server, From, c));
                break;
            case Act.Carry when _route == MoveRoutes.Restart:
                await TakeOverFilesAsync(cancellation);
                break;
            case Act.Carry:
                await Call("Carrying", c => hypervisor.CarryAsync(_call, server, From, To, c));
                break;
            case Act.Migrate:
                _address = await Ask("Migrating", c => hypervisor.MigrateAsync(_call, server, Service, From, To, c));
                break;
            case Act.Stop:
                await Call("Stopping", c => hypervisor.StopAsync(_call, server, From, c));
                break;
            case Act.Discard:
                await Call("Discarding", c => hypervisor.DiscardAsync(_call, server, _from, c));
                break;
            case Act.Recover:
                await Call("Recovering", c => hypervisor.RecoverAsync(_call, server, c));
                break;
            case Act.Erase:
                await Call("Erasing", c => hypervisor.EraseAsync(_call, server, c));
                break;
            case Act.Publish:
                var made = await _mover.TryAsync($"Publishing {Who}", Limits.StepTimeout + Service.Health.StartTimeout, c => hypervisor.PublishImageAsync(_call, server, Service, From, c), cancellation);
                _image = made.Version;
                _batch.AddPublished(made);
                break;
            case Act.Adopt:
                await Call("Registering", c => hypervisor.AdoptAsync(_call, _move.MachineId!, AdoptedMark(), _from, c));

                // Only now its driver knows whose port it answers on.
                if (_ran)
                    _address = One(await SeeAsync(cancellation)).Machine.Address ?? _address;
                break;
            case Act.Release:
                await Call("Unregistering", c => hypervisor.ReleaseAsync(_call, server, _from, c));
                break;
            case Act.Select:
                await Call("Selecting the image made from", c => hypervisor.SelectImageAsync(_call, Service, _image!, c));
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(act));
        }
    }

    private async Task RunBeforeDrainAsync(string script, CancellationToken cancellation)
    {
        var environment = new Dictionary<string, string>
        {
            ["VMATRIX_SERVER"] = _move.ServerName,
            ["VMATRIX_SERVER_ID"] = _move.ServerId.ToString(),
            ["VMATRIX_SERVICE"] = _move.Service,
            ["VMATRIX_HOST"] = _move.FromHost ?? "",
            ["VMATRIX_SERVER_ADDRESS"] = _address ?? "",
            ["VMATRIX_MOVE"] = _move.Kind.ToString(),
        };
        var end = await ScriptRun.RunAsync(script, [], environment, _mover.Pool.Path, Limits.StepTimeout, _mover.Clock, cancellation);
        if (end.ExitCode != 0)
            throw new VMatrixException("BeforeDrainRefused", VMatrixErrorKind.InvalidState, $"The script {script} ended with {end.ExitCode}, so {Who} stays in the balancer. What it wrote is not kept; run it by hand to see why.");
    }

    private async Task TakeOverFilesAsync(CancellationToken cancellation)
    {
        // The proof is asked for at the last moment: the host may have come back since the move was made.
        if ((await SeeAsync(cancellation)).Count == 0)
        {
            _ = await _mover.ProveStoppedAsync(_move.ServerId, From, cancellation)
                ?? throw new VMatrixException("NotProvenStopped", VMatrixErrorKind.InvalidState, $"Nothing proves any longer that {Who} does not run on {_move.FromHost}.");
            await _mover.TryAsync($"Carrying {Who}", Limits.StepTimeout, c => _mover.Hypervisor.CarryAsync(_call, _move.ServerId, From, To, c), cancellation);
        }

        // Its mark could not be read before: the dead host kept it.
        var mark = One(await SeeAsync(cancellation)).Mark;
        if (FindFault(mark) is { } wrong)
            throw new VMatrixException("PreconditionFailed", VMatrixErrorKind.InvalidState, wrong);
        _original = mark;
    }

    private ServerMark FirstMark()
    {
        return new ServerMark
        {
            ServerId = _move.ServerId,
            Name = _move.ServerName,
            Service = _move.Service,
            Image = _image!,
            Stage = _move.ToStage,
            Generation = _move.Generation,
            StateId = _mover.State.Id,
            CreatedAt = _open.LastAt,
            ChangedAt = _open.LastAt,
            HeldUntil = _open.LastAt + _open.HoldFor,
        };
    }

    // One that is taken over from another controller stays the server that it was.
    private ServerMark AdoptedMark() => _original is null ? FirstMark() : NextMark() with { Name = _move.ServerName, Service = _move.Service, StateId = _mover.State.Id };

    private ServerMark NextMark() => _original! with
    {
        Stage = _move.ToStage,
        Generation = _original.Generation + 1,
        ChangedAt = _open.LastAt,
        HeldUntil = _open.HoldFor is { } hold ? _open.LastAt + hold : _original.HeldUntil,
    };

    private async Task CheckAsync(HostSpec on, CancellationToken cancellation)
    {
        var clock = _mover.Clock;
        var health = Service.Health;
        var began = clock.GetTimestamp();
        var patience = TimeSpan.FromMilliseconds(250);
        var lookAgain = TimeSpan.FromSeconds(1);
        var told = new List<string>();
        while (true)
        {
            if (_address is not null && !told.Contains(_address))
                told.Add(_address);

            // The first tries are short: a request sent before the guest listens may hang while the next one is answered at once.
            patience = patience < health.Timeout ? patience : health.Timeout;
            var problem = await ProbeAsync(patience, cancellation);
            if (problem is null)
                return;
            var elapsed = clock.GetElapsedTime(began);
            if (elapsed >= health.StartTimeout)
                throw new VMatrixException("HealthCheckFailed", VMatrixErrorKind.Timeout, $"{Who} on {on.Name} did not pass its health check within {Planning.Words.Seconds(health.StartTimeout)}: {problem.TrimEnd('.')}. {(told.Count == 0 ? $"{on.Name} has told no address of it" : $"{on.Name} has told the address {string.Join(", then ", told)}")}. See that the service answers there; its port and health are {Service.Name}'s in the pool file.");
            if (elapsed >= lookAgain)
            {
                // A machine that has died will not become healthy, and the address that a guest told first need not be the one that it answers at.
                lookAgain = elapsed + (elapsed < s_addressAge ? elapsed : s_addressAge);
                var machine = (await _mover.TryAsync($"Reading {on.Name}", Limits.StepTimeout, c => _mover.Hypervisor.ReadHostAsync(on, c), cancellation))
                    .Machines.FirstOrDefault(m => m.Mark?.ServerId == _move.ServerId);
                if (machine is null || machine.Power is PowerState.Off or PowerState.Saved || machine.Health is ServerHealth.Dead)
                    throw new VMatrixException("MachineDied", VMatrixErrorKind.Failed, $"{Who} on {on.Name} stopped running after its start: {machine?.Problem ?? "its host does not show it"}.");
                if (machine.Address is { } now && now != _address)
                    (_address, patience) = (now, TimeSpan.FromMilliseconds(125));
            }
            patience += patience;
            await clock.WaitAsync(elapsed < TimeSpan.FromSeconds(1) ? TimeSpan.FromMilliseconds(10) : elapsed < TimeSpan.FromSeconds(10) ? TimeSpan.FromMilliseconds(50) : TimeSpan.FromMilliseconds(500), cancellation);
        }
    }

    private async Task<string?> ProbeAsync(TimeSpan patience, CancellationToken cancellation) =>
        _address is null ? "its host names no address for it" : await _mover.ProbeAsync(Service, _address, patience, cancellation);

    private async Task SettleAsync(CancellationToken cancellation)
    {
        var clock = _mover.Clock;
        var began = clock.GetTimestamp();
        while (true)
        {
            var report = await _mover.TryAsync("Reading the balancer", Limits.StepTimeout, _mover.Balancer.ReadAsync, cancellation);
            var member = report.Members.FirstOrDefault(m => m.ServerId == _move.ServerId);
            if (member is null || member.Open == 0 || clock.GetElapsedTime(began) >= _mover.Pool.Balancer.DrainTimeout)
                return;
            await clock.WaitAsync(_mover.Pool.Balancer.EffectiveDrainInterval, cancellation);
        }
    }

    // ---------------------------------------------------------------- back

    /// <summary>Takes back what was reached, each step as far as the truth says that there is something to take back.</summary>
    private async Task<MoveRecord> BackAsync(IReadOnlyList<MoveStep> steps, string error, string errorId)
    {
        var notes = new List<string>();
        using var grace = _mover.Clock.Deadline(Grace);
        try
        {
            // What was powered off or deleted cannot be taken back: such a move stays open until what hinders it is mended.
            if (steps.Any(s => s.Act is Act.Stop or Act.Discard or Act.Erase && _open.HasBegun(s.Name)))
            {
                var seen = await SeeOursAsync(grace.Token);
                if (_move.Kind is MoveKind.Purge && seen.Count == 0)
                    return Close(MoveStatus.Done, null);
                if (One(seen) is var at && !(at.Place is Place.Disposed ? _move.Kind is MoveKind.Purge : at.Runs || !_ran))
                    return Stay($"{error} It cannot be taken back: {Who} is {at.Where}.");
            }

            // What was let go is let go.
            if (_route == MoveRoutes.Unregister && _open.HasBegun("release") && (await SeeAsync(grace.Token)).Count == 0)
                return Close(MoveStatus.Done, null);
            Journal(() => _open.TurnBack(_mover.Clock.GetUtcNow(), error));
            foreach (var step in steps.Reverse().Where(s => _open.HasBegun(s.Name)))
            {
                foreach (var act in step.Back)
                {
                    _mover.State.CheckEpoch(_batch.Context.Epoch);
                    _mover.Point(MoveRoutes.BackPoint(_route, act) + ".before");
                    await TakeBackAsync(act, notes, grace.Token);
                    _mover.Point(MoveRoutes.BackPoint(_route, act) + ".after");
                }
            }
        }
        catch (Exception e) when (!_mover.IsDead(e))
        {
            if (IsNoLongerOurs(e))
                return await YieldAsync(e, untouched: false);
            return Stay($"{error} It could not be taken back: {Mover.Sentence(e)}");
        }
        return Close(MoveStatus.Undone, string.Join(" ", new[] { error }.Concat(notes)), errorId);

        MoveRecord Stay(string why)
        {
            var stuck = $"{why} Mend that, then run Resume-VMatrixMove or Undo-VMatrixMove {_move.Id}.";
            Mover.Try(() => _open.Release(_mover.Clock.GetUtcNow(), stuck, stuck: true));
            return _mover.End(_batch, _open.ToRecord(MoveStatus.Failed) with { Error = stuck, ErrorId = errorId, EndedAt = _mover.Clock.GetUtcNow() });
        }
    }

    private async Task TakeBackAsync(Act act, List<string> notes, CancellationToken cancellation)
    {
        var (hypervisor, balancer, server) = (_mover.Hypervisor, _mover.Balancer, _move.ServerId);
        Task Call(string what, Func<CancellationToken, Task> call) => _mover.TryAsync($"{what} {Who}", Limits.StepTimeout, call, cancellation);

        // One that never left is brought back all the same: that clears what a copy cut short in the middle has left where it was to go.
        async Task Clear(Func<CancellationToken, Task> call)
        {
            try
            {
                await Call("Clearing up after", call);
            }
            catch (VMatrixException e) when (!IsNoLongerOurs(e))
            {
                notes.Add($"What is left of it on {_move.ToHost ?? "the nest"} could not be cleared: {e.Message}");
            }
        }

        // What another has moved since is live there, in the balancer too.
        var seen = await SeeOursAsync(cancellation);
        if (act is Act.Leave)
        {
            try
            {
                await Call("Taking from the balancer", c => balancer.LeaveAsync(_call, _move.Service, server, c));
            }
            catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable or VMatrixErrorKind.Timeout)
            {
                notes.Add($"The balancer does not answer ({e.Message}); it is told when it is back.");
            }
            return;
        }

        if (act is Act.Unmake)
        {
            foreach (var made in seen.Where(s => s.Place is Place.Nest))
                await Call("Discarding", c => hypervisor.DiscardAsync(_call, server, null, c));

            // Also when nothing of it is seen: the driver may have begun.
            await Call("Erasing", c => hypervisor.EraseAsync(_call, server, c));
            return;
        }
        if (seen.Count == 0 && (_route == MoveRoutes.Restart || _route == MoveRoutes.Register))
            return;
        var at = One(seen);
        switch (act)
        {
            case Act.Sleep when at.IsOn(_move.ToHost) && at.Runs:
                try
                {
                    await Call("Saving", c => hypervisor.SaveAsync(_call, server, To, c));
                }
                catch (VMatrixException e) when (e.Kind is not VMatrixErrorKind.Unreachable && e.Id is not "StaleEpoch" && (_keptMemory == false || e.Id == "ServerHung"))
                {
                    // It was booted, so nothing is lost, or it is proven to hang. A memory that was kept is not thrown away because a save failed for some other reason: the move stays open.
                    notes.Add($"It could not be saved ({e.Message}) and was powered off.");
                    await Call("Stopping", c => hypervisor.StopAsync(_call, server, To, c));
                }
                break;
            case Act.StowBack when at.IsOn(_move.ToHost):
                await Call("Stowing", c => hypervisor.StowAsync(_call, server, To, c));
                break;
            case Act.StowBack when at.Place is Place.Nest:
                await Clear(c => hypervisor.StowAsync(_call, server, To, c));
                break;
            case Act.FetchBack when at.Place is Place.Nest:
                await Call("Fetching", c => hypervisor.FetchAsync(_call, server, From, c));
                break;
            case Act.FetchBack when at.IsOn(_move.FromHost) && !at.Runs:
                await Clear(c => hypervisor.FetchAsync(_call, server, From, c));
                break;
            case Act.CarryBack or Act.MigrateBack when at.IsOn(_move.ToHost) && !at.Runs && _move.ToHost != _move.FromHost:
                await Call("Carrying", c => hypervisor.CarryAsync(_call, server, To, From, c));
                break;
            case Act.CarryBack or Act.MigrateBack when at.IsOn(_move.FromHost) && !at.Runs && _move.ToHost != _move.FromHost:
                await Clear(c => hypervisor.CarryAsync(_call, server, To, From, c));
                break;
            case Act.MigrateBack when at.IsOn(_move.ToHost) && at.Runs && _move.ToHost != _move.FromHost:
                _address = await _mover.TryAsync($"Migrating {Who}", Limits.StepTimeout, c => hypervisor.MigrateAsync(_call, server, Service, To, From, c), cancellation);
                break;
            case Act.MigrateBack when at.IsOn(_move.FromHost) && at.Runs && _move.ToHost != _move.FromHost:
                await Clear(c => hypervisor.MigrateAsync(_call, server, Service, To, From, c));
                break;
            case Act.Restart when at.IsOn(_move.FromHost) && _ran:
                _address = at.Machine.Address;
                if (!at.Runs || _address is null)
                    _address = await _mover.TryAsync($"Starting {Who}", Limits.StepTimeout, c => hypervisor.StartAsync(_call, server, Service, From, c), cancellation);
                _mover.EndWord(From.Name);
                break;
            case Act.Recheck when at.IsOn(_move.FromHost) && at.Runs && _service is not null:
                _address = at.Machine.Address ?? _address;
                try
                {
                    await CheckAsync(From, cancellation);
                }
                catch (VMatrixException e)
                {
                    notes.Add($"It runs on {_move.FromHost} again, and its health check fails there: {e.Message}");
                }
                break;
            case Act.Rejoin when at.IsOn(_move.FromHost) && at.Runs && _move.FromStage is Stage.Matrix && _service is not null:
                _address = at.Machine.Address ?? _address;
                if (await ProbeAsync(Service.Health.Timeout, cancellation) is { } problem)
                {
                    notes.Add($"It is not in the balancer: {problem}.");
                    break;
                }
                try
                {
                    await Call("Joining", c => balancer.JoinAsync(_call, Service, server, _address!, c));
                }
                catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable or VMatrixErrorKind.Timeout)
                {
                    notes.Add($"The balancer does not answer ({e.Message}); it is given the server again when it is back.");
                }
                break;
            case Act.Unmark when _original is not null && at.Mark.Generation != _original.Generation:
                await Call("Marking", c => hypervisor.MarkAsync(_call, _original, at.Place is Place.Host ? _mover.HostOf(at.Host) : null, c));
                break;
            case Act.MarkNest when at.Place is Place.Nest && at.Mark.Stage is not Stage.Nest:
                await Call("Marking", c => hypervisor.MarkAsync(_call, at.Mark with { Stage = Stage.Nest, Generation = at.Mark.Generation + 1, ChangedAt = _open.LastAt }, null, c));
                break;
            case Act.Unselect when _former is not null && _image is not null:
                var nest = await _mover.TryAsync("Reading the nest", Limits.StepTimeout, hypervisor.ReadNestAsync, cancellation);
                if (nest.Images.TryGetValue(_move.Service, out var newest) && newest == _image)
                    await Call("Selecting the image before that of", c => hypervisor.SelectImageAsync(_call, Service, _former, c));
                break;
            case Act.Release when _original is not null:
                await Call("Marking", c => hypervisor.AdoptAsync(_call, at.Machine.MachineId, _original, at.Place is Place.Host ? _mover.HostOf(at.Host) : null, c));
                break;
            case Act.Release:
                await Call("Unregistering", c => hypervisor.ReleaseAsync(_call, server, at.Place is Place.Host ? _mover.HostOf(at.Host) : null, c));
                break;
            case Act.DiscardBack when at.Place is Place.Nest:
                await Call("Discarding", c => hypervisor.DiscardAsync(_call, server, null, c));
                break;
        }
    }

    /// <summary>Where the server is. While its platform works on it that is waited for: what is in between proves neither that a step was done nor that there is something to take back.</summary>
    private async Task<IReadOnlyList<Sighting>> SeeAsync(CancellationToken cancellation)
    {
        var began = _mover.Clock.GetTimestamp();
        while (true)
        {
            var truth = _mover.MakeTruth();

            // A dead host cannot be asked; that the server does not run there is proven.
            var seen = await truth.FindAsync(_move.ServerId, _route == MoveRoutes.Restart ? [_move.ToHost] : [_move.FromHost, _move.ToHost], truth.Now(), cancellation);
            if (_move.Kind is MoveKind.Unregister || seen.FirstOrDefault(s => s.IsUnseen) is not { } unseen)
                return seen;
            if (!unseen.Machine.IsChanging || _mover.Clock.GetElapsedTime(began) >= Limits.StepTimeout)
                throw new VMatrixException("ServerNotSeen", VMatrixErrorKind.Busy, NotSeen(unseen)) { IsTransient = true };
            await _mover.Clock.WaitAsync(TimeSpan.FromMilliseconds(200), cancellation);
        }
    }

    private string NotSeen(Sighting at) => at.Machine.Problem
        ?? $"What {Who} does on {at.Host} is not known at this moment{(at.Machine.IsChanging ? ", because another operation works on it. Try again when that has ended." : ". See what its host says of it.")}";

    private Sighting One(IReadOnlyList<Sighting> seen) => seen.Count switch
    {
        1 => seen[0],
        0 => throw new VMatrixException("ServerLost", VMatrixErrorKind.NotFound, $"{Who} is neither in the nest nor on {string.Join(" nor ", Mover.HostsOf(_move))}. Bring back the host or the storage that has it, and run Resume-VMatrixMove; if it was deleted, delete {_open.Path}, which is all that is left of this move."),
        _ => throw new VMatrixException("ServerDoubled", VMatrixErrorKind.InvalidState, $"{Who} is in more than one place: {string.Join(", ", seen.Select(s => s.Where))}. Unregister the one that is not it."),
    };

    // ---------------------------------------------------------------- after a cut

    /// <summary>Takes up a move that was cut short.</summary>
    /// <param name="finish">True to finish it, false to take it back, null for what its step says.</param>
    public async Task<MoveRecord> RecoverAsync(bool? finish)
    {
        if (_open.Step is null)
            return Close(MoveStatus.Undone, "It was cut short before its first step; nothing was changed.", "Interrupted");
        try
        {
            var steps = _route.For(_move.FromStage, _move.ToStage);
            var reached = steps.ToList().FindIndex(s => s.Name == _open.Step);
            if (reached < 0)
                throw StateFiles.Corrupt(_open.Path);

            // Past the point of no return there is nothing to take it back to.
            var forward = finish ?? (!_open.Back && steps[reached].WhenCut is WhenCut.Finish);
            var gone = steps.Take(reached + 1).Any(s => s.Act is Act.Stop or Act.Discard or Act.Erase);
            if (!forward && !gone)
                return await BackAsync(steps, _open.Error ?? "It was cut short.", _open.Error is null ? "Interrupted" : Mover.IdOf(_open.Error));

            var seen = await SeeOursAsync(_batch.Cancellation);
            if (_move.Kind is MoveKind.Purge && seen.Count == 0)
                return Close(MoveStatus.Done, null);
            if (seen.Count == 0 && _route == MoveRoutes.Unregister && _open.HasBegun("release"))
                return Close(MoveStatus.Done, null);
            if (seen.Count == 0 && (_move.Kind is MoveKind.Create or MoveKind.Register || _route == MoveRoutes.Restart))
                return await ForwardAsync(steps, 0, _batch.Cancellation);
            var at = One(seen);
            _address = at.Machine.Address;
            if (_route == MoveRoutes.Restart)
                _original ??= at.Mark;
            return await ForwardAsync(steps, await MayTakeRequestsAsync(steps, reached, at) ? 0 : FirstUntrue(steps, reached, at), _batch.Cancellation);
        }
        catch (Exception e) when (!_mover.IsDead(e))
        {
            return IsNoLongerOurs(e) ? await YieldAsync(e, untouched: false) : Leave(e);
        }
    }

    // One that left the balancer may have joined again since, when what was done after the last line of the journal could not be journaled.
    private async Task<bool> MayTakeRequestsAsync(IReadOnlyList<MoveStep> steps, int reached, Sighting at)
    {
        if (!at.IsOn(_move.FromHost) || !at.Runs || !steps.Take(reached).Any(s => s.Act is Act.Leave))
            return false;
        try
        {
            var report = await _mover.TryAsync("Reading the balancer", Limits.StepTimeout, _mover.Balancer.ReadAsync, _batch.Cancellation);
            return report.Members.Any(m => m.ServerId == _move.ServerId);
        }
        catch (VMatrixException)
        {
            return true;
        }
    }

    /// <summary>The step to go on with: the one it was cut short in, or an earlier one whose effect did not last, such as a start before its host lost power.</summary>
    private int FirstUntrue(IReadOnlyList<MoveStep> steps, int reached, Sighting at)
    {
        for (var i = 0; i < reached; i++)
        {
            var holds = steps[i].Act switch
            {
                Act.Fetch or Act.Carry => at.IsOn(_move.ToHost),
                Act.Start or Act.Migrate => at.IsOn(_move.ToHost) && at.Runs,
                Act.Save or Act.Stop => !(at.IsOn(_move.FromHost) && at.Runs),
                Act.Stow or Act.Recover => at.Place is Place.Nest,
                Act.Discard => at.Place is Place.Disposed,
                Act.Adopt => at.Mark.StateId == _mover.State.Id,
                _ => true,
            };
            if (!holds)
                return i;
        }

        // The address is known again only if the machine runs.
        return steps[reached].Act is Act.Check or Act.Mark or Act.Join ? Math.Min(reached, FirstCheck(steps)) : reached;
    }

    // Whoever takes a move up has not seen the health check pass.
    private static int FirstCheck(IReadOnlyList<MoveStep> steps)
    {
        var check = steps.ToList().FindIndex(s => s.Act is Act.Check);
        return check < 0 ? int.MaxValue : check;
    }

    // ---------------------------------------------------------------- ends

    private MoveRecord Close(MoveStatus status, string? error, string? errorId = null)
    {
        _mover.Point($"{_route.Name}.ending");
        var record = _open.ToRecord(status) with { Error = error, ErrorId = errorId, EndedAt = _mover.Clock.GetUtcNow(), Bytes = _bytes };
        Mover.Try(() => _mover.State.History.AddMove(record));
        try
        {
            _open.Close();
        }
        catch (VMatrixException e)
        {
            record = record with { Error = $"{(error is null ? "" : error + " ")}Its journal could not be removed ({Mover.Sentence(e)}); the move will be taken up again when the state folder is back." };
        }
        return _batch.Tell(record);
    }

    /// <summary>Leaves the move as it is, for whoever comes next.</summary>
    private MoveRecord Leave(Exception e)
    {
        if (e is not VMatrixException { Id: "MoveTakenOver" })
            Mover.Try(() => _open.Release(_mover.Clock.GetUtcNow(), e is VMatrixException { Id: "StaleEpoch" } ? Mover.Sentence(e) : null, stuck: false));
        return _batch.Tell(_open.ToRecord(MoveStatus.Interrupted) with { Error = Mover.Sentence(e), ErrorId = Mover.IdOf(e) });
    }

    // Whoever has taken over decides what becomes of it; anything done here would be in their way.
    private static bool IsNoLongerOurs(Exception e) => e is VMatrixException { Id: "DeciderLost" or "StaleEpoch" or "MoveTakenOver" or SupersededId };

    /// <summary>A journal that can no longer be written must not keep a server from a whole state.</summary>
    private static void Journal(Action write)
    {
        try
        {
            write();
        }
        catch (Exception e) when (e is VMatrixException v && v.Id.StartsWith("State", StringComparison.Ordinal))
        {
            // The error that led here names the folder already.
        }
    }
}
