using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using Xunit;

namespace VMatrix.Contract;

/// <summary>What every hypervisor driver keeps to by itself, without a mover: each changing call is one effect that is safe to repeat and to cut short, marks are kept, foreigners are told, nothing is done twice.</summary>
public abstract class HypervisorContract
{
    private static readonly Guid s_state = Guid.NewGuid();

    public static TheoryData<string> CallNames => [.. Calls.Keys];

    /// <summary>Each call: where the server stands before it, the call, and where it stands after it.</summary>
    private static Dictionary<string, DriverStep> Calls { get; } = new()
    {
        ["PrepareImage"] = new(Standing.Absent, Standing.Absent, (stand, call, cancellation) => stand.PrepareAsync(call, cancellation)),
        ["PublishImage"] = new(Standing.Running, Standing.Running, (stand, call, cancellation) => stand.Driver.PublishImageAsync(call, stand.Server, stand.Service, stand.Host, cancellation)),
        ["PublishImage of a stopped one"] = new(Standing.OnHost, Standing.OnHost, (stand, call, cancellation) => stand.Driver.PublishImageAsync(call, stand.Server, stand.Service, stand.Host, cancellation)),
        ["SelectImage"] = new(Standing.Absent, Standing.Absent, (stand, call, cancellation) => stand.SelectAsync(call, cancellation)),
        ["Create"] = new(Standing.Absent, Standing.InNest, async (stand, call, cancellation) => await stand.Driver.CreateAsync(call, stand.NewMark(), stand.Service, cancellation)),
        ["Fetch"] = new(Standing.InNest, Standing.OnHost, (stand, call, cancellation) => stand.Driver.FetchAsync(call, stand.Server, stand.Host, cancellation)),
        ["Fetch saved"] = new(Standing.SavedInNest, Standing.SavedOnHost, (stand, call, cancellation) => stand.Driver.FetchAsync(call, stand.Server, stand.Host, cancellation)),
        ["Stow"] = new(Standing.SavedOnHost, Standing.SavedInNest, (stand, call, cancellation) => stand.Driver.StowAsync(call, stand.Server, stand.Host, cancellation)),
        ["Carry"] = new(Standing.SavedOnHost, Standing.SavedElsewhere, (stand, call, cancellation) => stand.Driver.CarryAsync(call, stand.Server, stand.Host, stand.Other, cancellation)),
        ["Start"] = new(Standing.OnHost, Standing.Running, (stand, call, cancellation) => stand.Driver.StartAsync(call, stand.Server, stand.Service, stand.Host, cancellation)),
        ["Start saved"] = new(Standing.SavedOnHost, Standing.Running, (stand, call, cancellation) => stand.Driver.StartAsync(call, stand.Server, stand.Service, stand.Host, cancellation)),
        ["Save"] = new(Standing.Running, Standing.SavedOnHost, (stand, call, cancellation) => stand.Driver.SaveAsync(call, stand.Server, stand.Host, cancellation)),
        ["Stop"] = new(Standing.Running, Standing.OnHost, (stand, call, cancellation) => stand.Driver.StopAsync(call, stand.Server, stand.Host, cancellation)),
        ["Migrate"] = new(Standing.Running, Standing.RunningElsewhere, (stand, call, cancellation) => stand.Driver.MigrateAsync(call, stand.Server, stand.Service, stand.Host, stand.Other, cancellation)),
        ["Mark"] = new(Standing.Running, Standing.Running, (stand, call, cancellation) => stand.Driver.MarkAsync(call, stand.NewMark() with { Generation = 7, Stage = Stage.Matrix }, stand.Host, cancellation)),
        ["Mark in nest"] = new(Standing.InNest, Standing.InNest, (stand, call, cancellation) => stand.Driver.MarkAsync(call, stand.NewMark() with { Generation = 7 }, null, cancellation)),
        ["Discard"] = new(Standing.InNest, Standing.Disposed, (stand, call, cancellation) => stand.Driver.DiscardAsync(call, stand.Server, null, cancellation)),
        ["Discard from host"] = new(Standing.OnHost, Standing.Disposed, (stand, call, cancellation) => stand.Driver.DiscardAsync(call, stand.Server, stand.Host, cancellation)),
        ["Recover"] = new(Standing.Disposed, Standing.InNest, (stand, call, cancellation) => stand.Driver.RecoverAsync(call, stand.Server, cancellation)),
        ["Adopt"] = new(Standing.Foreign, Standing.Running, (stand, call, cancellation) => stand.AdoptAsync(call, cancellation)),
        ["Release"] = new(Standing.Running, Standing.Foreign, (stand, call, cancellation) => stand.Driver.ReleaseAsync(call, stand.Server, stand.Host, cancellation)),
        ["Erase"] = new(Standing.Disposed, Standing.Absent, (stand, call, cancellation) => stand.Driver.EraseAsync(call, stand.Server, cancellation)),
    };

    protected abstract Task<DriverWorld> OpenWorldAsync();

    [SkippableTheory]
    [MemberData(nameof(CallNames))]
    public Task Called_twice_ends_as_called_once(string call) => RunAsync(async stand =>
    {
        var step = Calls[call];
        await stand.BringToAsync(step.Before);
        if (!stand.Can(call))
        {
            Assert.Equal(VMatrixErrorKind.NotSupported, (await RefusedAsync(() => step.Call(stand, default, default))).Kind);
            await stand.ExpectAsync(step.Before);
            return;
        }

        await step.Call(stand, default, default);
        await stand.ExpectAsync(step.After);
        var once = await stand.SightAsync();
        await step.Call(stand, default, default);
        await stand.ExpectAsync(step.After);
        Assert.Equal(once.Select(found => found.Address), (await stand.SightAsync()).Select(found => found.Address));
        Assert.Equal(once.Select(found => found.MachineId), (await stand.SightAsync()).Select(found => found.MachineId));
    });

    [SkippableTheory]
    [MemberData(nameof(CallNames))]
    public Task Cut_short_and_called_again_ends_as_called_once(string call) => RunAsync(async stand =>
    {
        Skip.If(!stand.Can(call), $"{stand.Driver.Traits.Name} has no live migration");
        var step = Calls[call];
        foreach (var milliseconds in stand.World.IsSlow ? new[] { 2, 60, 400 } : [0, 1, 5, 20, 60, 100, 1000])
        {
            await stand.BringToAsync(step.Before);
            using (var cut = new CancellationTokenSource(TimeSpan.FromMilliseconds(milliseconds), stand.World.Clock))
            {
                try
                {
                    await step.Call(stand, default, cut.Token);
                }
                catch (OperationCanceledException)
                {
                    // Whole where it was or whole where it goes: never both, never neither.
                    var seen = await stand.SightAsync();
                    Assert.True(seen.Count == 1 || (step.Before is Standing.Absent or Standing.Foreign || step.After is Standing.Absent or Standing.Foreign) && seen.Count == 0, $"After {milliseconds} ms the server exists {seen.Count} times.");
                }
            }

            // A new driver object, as the next process has.
            await stand.ReopenAsync();
            await step.Call(stand, default, default);
            await stand.ExpectAsync(step.After);
        }
    });

    [SkippableTheory]
    [MemberData(nameof(CallNames))]
    public Task A_decider_that_was_followed_by_another_is_refused(string call) => RunAsync(async stand =>
    {
        Skip.If(!stand.Can(call), $"{stand.Driver.Traits.Name} has no live migration");
        var step = Calls[call];
        await stand.BringToAsync(step.Before);
        var before = await stand.SightAsync();
        await stand.Driver.MarkAsync(new DriverCall(Guid.NewGuid(), 8), (await stand.BystanderAsync()) with { Generation = 1 }, null, default);
        var error = await Assert.ThrowsAsync<VMatrixException>(() => step.Call(stand, new DriverCall(Guid.NewGuid(), 7), default));
        Assert.Equal("StaleEpoch", error.Id);
        Assert.Equal(8, await Assert.IsAssignableFrom<IEpochKeeper>(stand.Driver).ReadEpochAsync(default));
        Assert.Equal(before.Select(found => (found.Power, found.Mark!.Generation)), (await stand.SightAsync()).Select(found => (found.Power, found.Mark!.Generation)));
        await step.Call(stand, new DriverCall(Guid.NewGuid(), 8), default);
        await stand.ExpectAsync(step.After);
    });

    [SkippableFact]
    public Task A_mark_is_kept_wherever_the_server_goes() => RunAsync(async stand =>
    {
        await stand.BringToAsync(Standing.InNest);
        var written = stand.NewMark() with { Name = "FINANCE-Ä 'x'", Generation = 41, HeldUntil = new DateTimeOffset(2026, 2, 3, 4, 5, 6, TimeSpan.Zero), Stage = Stage.Chamber };
        await stand.Driver.MarkAsync(default, written, null, default);
        foreach (var standing in new[] { Standing.OnHost, Standing.Running, Standing.SavedOnHost, Standing.SavedElsewhere })
        {
            await stand.BringToAsync(standing, keepMark: true);
            await stand.ReopenAsync();
            var found = Assert.Single(await stand.SightAsync());
            Assert.Equal(written with { MachineId = found.MachineId }, found.Mark);
        }
    });

    [SkippableFact]
    public Task Servers_and_images_are_found_again_by_a_new_driver() => RunAsync(async stand =>
    {
        await stand.BringToAsync(Standing.Running);
        var before = Assert.Single(await stand.SightAsync());
        await stand.ReopenAsync();
        var after = Assert.Single(await stand.SightAsync());
        Assert.Equal((before.MachineId, before.Address, before.Power), (after.MachineId, after.Address, after.Power));
        Assert.Null(await stand.World.OpenProbe().CheckAsync(stand.Service, after.Address!, default));
        Assert.True((await stand.Driver.ReadNestAsync(default)).Images.ContainsKey(stand.Service.Name));
    });

    [SkippableFact]
    public Task A_published_version_is_what_new_servers_are_made_from_once_it_is_selected() => RunAsync(async stand =>
    {
        await stand.BringToAsync(Standing.Running);
        var before = Assert.Single(await stand.SightAsync());
        var call = new DriverCall(Guid.NewGuid(), 0);
        var published = await stand.Driver.PublishImageAsync(call, stand.Server, stand.Service, stand.Host, default);
        Assert.Equal((stand.Service.Name, before.Mark!.Image, stand.Server, before.Name), (published.Service, published.From, published.ServerId, published.ServerName));
        Assert.NotEqual(published.From, published.Version);
        Assert.True(published.Bytes > 0);

        // The server went on, and who asks again after a lost answer gets the same.
        await stand.ReopenAsync();
        await stand.AnswersAsync(before.Address!);
        Assert.Equal(before, Assert.Single(await stand.SightAsync()));
        Assert.Equal(published, await stand.Driver.PublishImageAsync(call, stand.Server, stand.Service, stand.Host, default));
        await stand.ExpectNewestAsync(published.From);

        await stand.Driver.SelectImageAsync(default, stand.Service, published.Version, default);
        await stand.ReopenAsync();
        await stand.ExpectNewestAsync(published.Version);
        await stand.BringToAsync(Standing.Running);
        Assert.Equal(published.Version, Assert.Single(await stand.SightAsync()).Mark!.Image);

        // A published one's own successor, and the way back.
        var second = await stand.Driver.PublishImageAsync(new DriverCall(Guid.NewGuid(), 0), stand.Server, stand.Service, stand.Host, default);
        Assert.Equal(published.Version, second.From);
        await stand.Driver.SelectImageAsync(default, stand.Service, published.From, default);
        await stand.ExpectNewestAsync(published.From);
        foreach (var nowhere in new[] { "", "nowhere", "../" + stand.Service.Name + "/" + published.Version })
            Assert.Equal("ImageNotFound", (await RefusedAsync(() => stand.Driver.SelectImageAsync(default, stand.Service, nowhere, default))).Id);
        await stand.ExpectNewestAsync(published.From);
    });

    [SkippableFact]
    public Task No_image_is_made_from_a_server_that_sleeps_or_is_not_there() => RunAsync(async stand =>
    {
        await stand.BringToAsync(Standing.SavedOnHost);
        Assert.Equal("ServerAsleep", (await RefusedAsync(() => stand.Driver.PublishImageAsync(default, stand.Server, stand.Service, stand.Host, default))).Id);
        await RefusedAsync(() => stand.Driver.PublishImageAsync(default, stand.Server, stand.Service, stand.Other, default));
        await RefusedAsync(() => stand.Driver.PublishImageAsync(default, Guid.NewGuid(), stand.Service, null, default));
        await stand.ExpectAsync(Standing.SavedOnHost);
    });

    [SkippableFact]
    public Task A_clone_is_foreign_and_says_of_whom() => RunAsync(async stand =>
    {
        await stand.BringToAsync(Standing.InNest);
        await stand.World.CloneAsync(stand.Server, stand.Other);
        var clone = Assert.Single((await stand.Driver.ReadHostAsync(stand.Other, default)).Machines);
        Assert.Null(clone.Mark);
        Assert.Contains(stand.Server.ToString(), clone.Problem, StringComparison.Ordinal);
        await stand.BringToAsync(Standing.Running);
        Assert.Single(await stand.SightAsync());
        Assert.Equal(clone.MachineId, Assert.Single((await stand.Driver.ReadHostAsync(stand.Other, default)).Machines).MachineId);
        stand.Clones = true;
    });

    [SkippableFact]
    public Task A_clone_becomes_a_server_of_its_own() => RunAsync(async stand =>
    {
        await stand.BringToAsync(Standing.InNest);
        await stand.World.CloneAsync(stand.Server, stand.Other);
        var clone = Assert.Single((await stand.Driver.ReadHostAsync(stand.Other, default)).Machines);
        Assert.Equal((stand.Server, stand.Service.Name), (clone.StaleMark!.ServerId, clone.StaleMark.Service));
        var own = Guid.NewGuid();
        stand.Known.Add(own);
        var mark = stand.NewMark() with { ServerId = own, Name = "FINANCE-9", Image = clone.StaleMark.Image };
        await stand.Driver.AdoptAsync(default, clone.MachineId, mark, stand.Other, default);
        await stand.ReopenAsync();
        var adopted = Assert.Single((await stand.Driver.ReadHostAsync(stand.Other, default)).Machines);
        Assert.Equal((own, "FINANCE-9", clone.Power), (adopted.Mark!.ServerId, adopted.Mark.Name, adopted.Power));
        Assert.Equal(mark with { MachineId = adopted.MachineId }, adopted.Mark);
        Assert.Null(adopted.StaleMark);

        // The one that it was copied from is as it was, and both live side by side.
        Assert.Single(await stand.SightAsync());
        await stand.BringToAsync(Standing.Running, keepMark: true);
        await stand.AnswersAsync(await stand.Driver.StartAsync(default, own, stand.Service, stand.Other, default));
        await stand.Driver.StopAsync(default, own, stand.Other, default);
        await stand.Driver.DiscardAsync(default, own, stand.Other, default);
        await stand.Driver.EraseAsync(default, own, default);
    });

    [SkippableFact]
    public Task Nobody_takes_a_machine_that_is_a_server_nor_an_id_that_is_taken() => RunAsync(async stand =>
    {
        await stand.BringToAsync(Standing.SavedOnHost);
        var mine = Assert.Single(await stand.SightAsync());
        Assert.Equal("MachineMarked", (await RefusedAsync(() => stand.Driver.AdoptAsync(default, mine.MachineId, stand.NewMark() with { ServerId = Guid.NewGuid() }, stand.Host, default))).Id);
        Assert.Equal("MachineNotFound", (await RefusedAsync(() => stand.Driver.AdoptAsync(default, "no such machine", stand.NewMark() with { ServerId = Guid.NewGuid() }, stand.Host, default))).Id);
        Assert.Equal("MachineNotFound", (await RefusedAsync(() => stand.Driver.AdoptAsync(default, mine.MachineId, stand.NewMark() with { ServerId = Guid.NewGuid() }, stand.Other, default))).Id);
        await stand.World.CloneAsync(stand.Server, stand.Other);
        stand.Clones = true;
        var clone = Assert.Single((await stand.Driver.ReadHostAsync(stand.Other, default)).Machines);
        Assert.Equal("ServerExists", (await RefusedAsync(() => stand.Driver.AdoptAsync(default, clone.MachineId, stand.NewMark(), stand.Other, default))).Id);
        Assert.Null(Assert.Single((await stand.Driver.ReadHostAsync(stand.Other, default)).Machines).Mark);
        Assert.Equal(mine, Assert.Single(await stand.SightAsync()));
    });

    [SkippableFact]
    public Task To_let_go_of_what_is_not_there_is_no_error_and_of_what_is_elsewhere_is_one() => RunAsync(async stand =>
    {
        await stand.Driver.ReleaseAsync(default, Guid.NewGuid(), stand.Host, default);
        await stand.BringToAsync(Standing.SavedOnHost);
        await RefusedAsync(() => stand.Driver.ReleaseAsync(default, stand.Server, stand.Other, default));
        await stand.ExpectAsync(Standing.SavedOnHost);
    });

    [SkippableFact]
    public Task A_move_is_looked_at_without_changing_anything() => RunAsync(async stand =>
    {
        await stand.BringToAsync(Standing.Running);
        var before = Assert.Single(await stand.SightAsync());
        foreach (var obstacle in await stand.Driver.CompareAsync(stand.Server, stand.Service, stand.Host, stand.Other, live: stand.Driver.Traits.LiveMigration, default))
        {
            Assert.NotEqual(ObstacleSeverity.Blocks, obstacle.Severity); // A move that the contract makes elsewhere.
            Assert.NotEmpty(obstacle.What);
            Assert.NotEmpty(obstacle.Why);
        }

        Assert.Equal(before, Assert.Single(await stand.SightAsync()));
    });

    [SkippableFact]
    public Task What_does_not_fit_is_refused_and_changes_nothing() => RunAsync(async stand =>
    {
        var nobody = Guid.NewGuid();
        await RefusedAsync(() => stand.Driver.FetchAsync(default, nobody, stand.Host, default));
        await RefusedAsync(() => stand.Driver.StartAsync(default, nobody, stand.Service, stand.Host, default));
        await RefusedAsync(() => stand.Driver.SaveAsync(default, nobody, stand.Host, default));

        await stand.BringToAsync(Standing.InNest);
        await RefusedAsync(() => stand.Driver.StartAsync(default, stand.Server, stand.Service, stand.Host, default));
        await RefusedAsync(() => stand.Driver.EraseAsync(default, stand.Server, default));
        await RefusedAsync(() => stand.Driver.CarryAsync(default, stand.Server, stand.Host, stand.Other, default));
        await stand.ExpectAsync(Standing.InNest);

        await stand.BringToAsync(Standing.OnHost);
        await RefusedAsync(() => stand.Driver.SaveAsync(default, stand.Server, stand.Host, default));
        await RefusedAsync(() => stand.Driver.FetchAsync(default, stand.Server, stand.Other, default));
        await RefusedAsync(() => stand.Driver.StartAsync(default, stand.Server, stand.Service, stand.Other, default));
        await stand.ExpectAsync(Standing.OnHost);

        await stand.BringToAsync(Standing.Running);
        await RefusedAsync(() => stand.Driver.DiscardAsync(default, stand.Server, stand.Host, default));
        await RefusedAsync(() => stand.Driver.StowAsync(default, stand.Server, stand.Host, default));
        await RefusedAsync(() => stand.Driver.CarryAsync(default, stand.Server, stand.Host, stand.Other, default));
        await RefusedAsync(() => stand.Driver.EraseAsync(default, stand.Server, default));
        await stand.ExpectAsync(Standing.Running);
    });

    [SkippableFact]
    public Task Only_what_does_not_run_is_proven_stopped() => RunAsync(async stand =>
    {
        await stand.BringToAsync(Standing.Running);
        Assert.False(await stand.Driver.ProveStoppedAsync(stand.Server, stand.Host, default));
        await stand.BringToAsync(Standing.SavedOnHost);
        Assert.True(await stand.Driver.ProveStoppedAsync(stand.Server, stand.Host, default));
    });

    [SkippableFact]
    public Task A_machine_that_ended_by_itself_is_told_with_why() => RunAsync(async stand =>
    {
        await stand.BringToAsync(Standing.Running);
        await stand.World.CrashAsync(stand.Server);
        var found = Assert.Single(await stand.SightAsync());
        Assert.Equal(PowerState.Off, found.Power);
        Assert.Equal(ServerHealth.Dead, found.Health);
        Assert.NotNull(found.Problem);
        Assert.Null(found.Address);

        // It is whole enough to be started again where it is.
        await stand.BringToAsync(Standing.Running, fromHere: true);
    });

    [SkippableFact]
    public Task A_host_goes_down_only_when_nothing_runs_on_it_and_keeps_what_lies_there() => RunAsync(async stand =>
    {
        Assert.Equal(stand.Driver.Traits.HostPower, stand.Driver is IHostPower);
        Skip.If(!stand.Driver.Traits.HostPower, $"{stand.Driver.Traits.Name} does not power hosts down");
        var power = (IHostPower)stand.Driver;
        await stand.BringToAsync(Standing.Running);
        Assert.Equal("HostInUse", (await Assert.ThrowsAsync<VMatrixException>(() => power.PowerDownAsync(default, stand.Host, default))).Id);
        await stand.Driver.SaveAsync(default, stand.Server, stand.Host, default);
        for (int twice = 0; twice < 2; twice++)
        {
            await power.PowerDownAsync(default, stand.Host, default);
            Assert.True((await stand.Driver.ReadHostAsync(stand.Host, default)).PoweredDown);
        }

        await Assert.ThrowsAsync<VMatrixException>(() => stand.Driver.StartAsync(default, stand.Server, stand.Service, stand.Host, default));
        await power.WakeHostAsync(default, stand.Host, default);
        await power.WakeHostAsync(default, stand.Host, default);
        while ((await stand.Driver.ReadHostAsync(stand.Host, default)).PoweredDown)
            await Task.Delay(TimeSpan.FromSeconds(1), stand.World.Clock);
        await stand.ExpectAsync(Standing.SavedOnHost);
        await stand.AnswersAsync(await stand.Driver.StartAsync(default, stand.Server, stand.Service, stand.Host, default));
    });

    [SkippableFact]
    public Task A_machine_that_hangs_fails_its_health_check_and_can_be_stopped() => RunAsync(async stand =>
    {
        await stand.BringToAsync(Standing.Running);
        var address = Assert.Single(await stand.SightAsync()).Address!;
        await stand.World.HangAsync(stand.Server);
        Assert.NotNull(await stand.World.OpenProbe().CheckAsync(stand.Service, address, default));
        Assert.Contains(Assert.Single(await stand.SightAsync()).Health, new[] { ServerHealth.Hung, ServerHealth.Unknown });
        await stand.Driver.StopAsync(default, stand.Server, stand.Host, default);
        await stand.ExpectAsync(Standing.OnHost);
    });

    [SkippableFact]
    public Task Many_at_once_are_as_one_after_another() => RunAsync(async stand =>
    {
        await stand.PrepareAsync(default, default);
        var version = (await stand.Driver.ReadNestAsync(default)).Images[stand.Service.Name];
        var servers = Enumerable.Range(0, stand.World.IsSlow ? 3 : 12).Select(i => stand.NewMark() with { ServerId = Guid.NewGuid(), Name = $"many-{i}", Image = version }).ToArray();
        await Task.WhenAll(servers.Select((mark, i) => LiveAsync(mark, stand.World.Pool.Hosts[i % 3])));
        var nest = await stand.Driver.ReadNestAsync(default);
        Assert.Equal(servers.Select(mark => mark.ServerId).Order(), nest.Dormant.Select(machine => machine.Mark!.ServerId).Order());
        Assert.All(nest.Dormant, machine => Assert.Equal(PowerState.Saved, machine.Power));

        async Task LiveAsync(ServerMark mark, HostSpec host)
        {
            stand.Known.Add(mark.ServerId);
            await stand.Driver.CreateAsync(default, mark, stand.Service, default);
            await stand.Driver.FetchAsync(default, mark.ServerId, host, default);
            var address = await stand.Driver.StartAsync(default, mark.ServerId, stand.Service, host, default);
            await stand.AnswersAsync(address);
            await stand.Driver.SaveAsync(default, mark.ServerId, host, default);
            await stand.Driver.StowAsync(default, mark.ServerId, host, default);
        }
    });

    private static Task<VMatrixException> RefusedAsync(Func<Task> call) => Assert.ThrowsAsync<VMatrixException>(call);

    private async Task RunAsync(Func<Stand, Task> test)
    {
        await using var world = await OpenWorldAsync();
        await world.RunAsync(async () =>
        {
            var stand = new Stand(world);
            await test(stand);
            if (!stand.Clones)
                Assert.Empty(world.Leftovers(stand.Known));
            await stand.Driver.DisposeAsync();
        });
    }

    private enum Standing
    {
        Absent,
        InNest,
        SavedInNest,
        OnHost,
        SavedOnHost,
        SavedElsewhere,
        Running,
        RunningElsewhere,
        Disposed,

        /// <summary>It runs and is not ours.</summary>
        Foreign,
    }

    private sealed record DriverStep(Standing Before, Standing After, Func<Stand, DriverCall, CancellationToken, Task> Call);

    /// <summary>One server and the driver that it is tried with.</summary>
    private sealed class Stand(DriverWorld world)
    {
        private ServerMark? _bystander;

        public DriverWorld World => world;

        public IHypervisor Driver { get; private set; } = world.OpenHypervisor();

        public Guid Server { get; private set; } = Guid.NewGuid();

        public HashSet<Guid> Known { get; } = [];

        public ServiceSpec Service => world.Pool.Services[0];

        public HostSpec Host => world.Pool.Hosts[0];

        public HostSpec Other => world.Pool.Hosts[1];

        public bool Clones { get; set; }

        private string Image { get; set; } = "";

        private string Foreign { get; set; } = "";

        public Task AdoptAsync(DriverCall call, CancellationToken cancellation) => Driver.AdoptAsync(call, Foreign, NewMark(), Host, cancellation);

        public bool Can(string call) => call != "Migrate" || Driver.Traits.LiveMigration;

        public ServerMark NewMark() => TestPool.Mark(world.Pool, Service.Name, 1, s_state, Image, new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero), Server);

        public async Task PrepareAsync(DriverCall call, CancellationToken cancellation) => Image = await Driver.PrepareImageAsync(call, Service, Host, null, cancellation);

        public Task SelectAsync(DriverCall call, CancellationToken cancellation) => Driver.SelectImageAsync(call, Service, Image, cancellation);

        public async Task ReopenAsync()
        {
            await Driver.DisposeAsync();
            Driver = world.OpenHypervisor();
        }

        public async Task<ServerMark> BystanderAsync()
        {
            if (_bystander is null)
            {
                await PrepareAsync(default, default);
                _bystander = NewMark() with { ServerId = Guid.NewGuid(), Name = "bystander" };
                Known.Add(_bystander.ServerId);
                await Driver.CreateAsync(default, _bystander, Service, default);
            }

            return _bystander;
        }

        public async Task<IReadOnlyList<Machine>> SightAsync() => [.. (await PlacesAsync()).Select(found => found.Machine)];

        /// <summary>Ends what was, and brings a server (a new one unless the mark is to be kept) to a standing by plain calls.</summary>
        public async Task BringToAsync(Standing standing, bool keepMark = false, bool fromHere = false)
        {
            var here = fromHere ? await WhereAsync() : keepMark ? await WhereAsync() : Standing.Absent;
            if (here == Standing.Absent)
            {
                await ClearAsync();
                Server = Guid.NewGuid();
                Known.Add(Server);
                await PrepareAsync(default, default);
                if (standing == Standing.Absent)
                    return;
                await Driver.CreateAsync(default, NewMark(), Service, default);
                here = Standing.InNest;
            }

            while (here != standing)
            {
                switch (here, standing)
                {
                    case (Standing.InNest, Standing.Disposed):
                        await Driver.DiscardAsync(default, Server, null, default);
                        here = Standing.Disposed;
                        break;
                    case (Standing.InNest or Standing.SavedInNest, _):
                        await Driver.FetchAsync(default, Server, Host, default);
                        here = here == Standing.InNest ? Standing.OnHost : Standing.SavedOnHost;
                        break;
                    case (Standing.OnHost, _):
                    case (Standing.SavedOnHost, Standing.Running):
                        await AnswersAsync(await Driver.StartAsync(default, Server, Service, Host, default));
                        here = Standing.Running;
                        Foreign = (await SightAsync())[0].MachineId;
                        break;
                    case (Standing.Running, not Standing.Foreign):
                        await Driver.SaveAsync(default, Server, Host, default);
                        here = Standing.SavedOnHost;
                        break;
                    case (Standing.Running, Standing.Foreign):
                        await Driver.ReleaseAsync(default, Server, Host, default);
                        here = Standing.Foreign;
                        break;
                    case (Standing.SavedOnHost, Standing.SavedInNest):
                        await Driver.StowAsync(default, Server, Host, default);
                        here = Standing.SavedInNest;
                        break;
                    case (Standing.SavedOnHost, Standing.SavedElsewhere):
                        await Driver.CarryAsync(default, Server, Host, Other, default);
                        here = Standing.SavedElsewhere;
                        break;
                    default:
                        throw new InvalidOperationException($"No way from {here} to {standing}.");
                }
            }
        }

        public async Task ExpectAsync(Standing expected)
        {
            if (await WhereAsync() is var standing && Loosely(standing) != Loosely(expected))
                Assert.Fail($"The server is {standing}, not {expected}.");
            if (expected is Standing.Running or Standing.RunningElsewhere)
                await AnswersAsync((await SightAsync())[0].Address!);
        }

        public async Task ExpectNewestAsync(string version)
        {
            await PrepareAsync(default, default);
            Assert.Equal(version, Image);
            Assert.Equal(version, (await Driver.ReadNestAsync(default)).Images[Service.Name]);
        }

        public async Task AnswersAsync(string address)
        {
            var until = world.Clock.GetUtcNow() + Service.Health.StartTimeout;
            var probe = world.OpenProbe();
            for (var reason = await probe.CheckAsync(Service, address, default); reason is not null; reason = await probe.CheckAsync(Service, address, default))
            {
                Assert.True(world.Clock.GetUtcNow() < until, $"{address} does not answer: {reason}");
                await Task.Delay(TimeSpan.FromMilliseconds(50), world.Clock);
            }
        }

        // A server made from a warm image is saved from the start.
        private static Standing Loosely(Standing standing) => standing switch
        {
            Standing.SavedInNest => Standing.InNest,
            _ => standing,
        };

        private async Task<IReadOnlyList<(Machine Machine, string Place)>> PlacesAsync()
        {
            var found = new List<(Machine, string)>();
            var nest = await Driver.ReadNestAsync(default);
            found.AddRange(nest.Dormant.Where(machine => machine.Mark?.ServerId == Server).Select(machine => (machine, "nest")));
            found.AddRange(nest.Disposed.Where(machine => machine.Mark?.ServerId == Server).Select(machine => (machine, "disposed")));
            foreach (var host in world.Pool.Hosts)
                found.AddRange((await Driver.ReadHostAsync(host, default)).Machines.Where(machine => machine.Mark?.ServerId == Server).Select(machine => (machine, host.Name)));
            return found;
        }

        private async Task<Standing> WhereAsync()
        {
            var places = await PlacesAsync();
            if (places.Count == 0)
                return (await ForeignAsync()) is null ? Standing.Absent : Standing.Foreign;
            var (machine, place) = Assert.Single(places);
            return (place, machine.Power) switch
            {
                ("nest", PowerState.Saved) => Standing.SavedInNest,
                ("nest", _) => Standing.InNest,
                ("disposed", _) => Standing.Disposed,
                (_, PowerState.Running) => place == Host.Name ? Standing.Running : Standing.RunningElsewhere,
                (_, PowerState.Saved) => place == Host.Name ? Standing.SavedOnHost : Standing.SavedElsewhere,
                _ => Standing.OnHost,
            };
        }

        private async Task<Machine?> ForeignAsync() =>
            Foreign.Length == 0 ? null : (await Driver.ReadHostAsync(Host, default)).Machines.FirstOrDefault(machine => machine.Mark is null && machine.MachineId == Foreign);

        private async Task ClearAsync()
        {
            if (await ForeignAsync() is not null)
                await AdoptAsync(default, default);
            Foreign = "";
            foreach (var (machine, place) in await PlacesAsync())
            {
                var host = world.Pool.Hosts.FirstOrDefault(host => host.Name == place);
                if (host is not null)
                    await Driver.StopAsync(default, Server, host, default);
                if (place != "disposed")
                    await Driver.DiscardAsync(default, Server, host, default);
                await Driver.EraseAsync(default, Server, default);
                Known.Remove(Server);
            }
        }
    }
}
