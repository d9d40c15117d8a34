using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Simulation;

namespace VMatrix.Bench;

/// <summary>Random moves, kills, host losses and loads for as long as asked, with the tests' invariants checked after each kill.</summary>
internal static class SoakCommand
{
    public static Command Create()
    {
        Option<double> minutes = new("--minutes") { Description = "How long.", DefaultValueFactory = _ => 10 };
        Option<int> kills = new("--kills") { Description = "End after so many kills; 0 for no limit.", DefaultValueFactory = _ => 0 };
        Option<int> seed = new("--seed") { Description = "Reproduces a run; another one each time unless given.", DefaultValueFactory = _ => Environment.TickCount & 0xfffff };
        Command command = new("soak", "Kills the mover at random on simulated hosts that fail, and checks after each kill that no server is lost, doubled or broken.") { minutes, kills, seed };
        command.SetAction(result =>
        {
            using var folder = new TemporaryFolder();
            return new Soak(folder.Path, result.GetValue(seed)).Run(TimeSpan.FromMinutes(result.GetValue(minutes)), result.GetValue(kills));
        });
        return command;
    }

    private sealed class Soak
    {
        private const int Servers = 10;

        private readonly int _seed;
        private readonly Random _random;
        private readonly VirtualClock _clock = new();
        private readonly PoolSpec _pool;
        private readonly HashSet<Guid> _must = [];
        private readonly HashSet<Guid> _may = [];
        private readonly SortedDictionary<string, int> _ended = new(StringComparer.Ordinal);
        private SimulatedWorld _world;
        private int _kills, _byPoint, _lostHosts, _broken, _named;

        public Soak(string folder, int seed)
        {
            _seed = seed;
            _random = new Random(seed);
            _pool = TestPool.Simulated(folder, hosts: 5, limits: new LimitSpec { MovesPerHost = 3, MovesPerPool = 6, StepTimeout = TimeSpan.FromSeconds(30) }, simulation: new SimulationSpec
            {
                Seed = seed,
                BootTime = TimeSpan.FromSeconds(2),
                SharedDisks = seed % 4 != 3, // Most runs restart the servers of lost hosts elsewhere, some wait for the hosts.
                FailureRate = 0.02,
                SlowRate = 0.05,
                LostSampleRate = 0.02,
                Demand = [new DemandSpec { Service = "FINANCE", Rate = 20, Swing = 0.8, Period = TimeSpan.FromMinutes(10), Noise = 0.2 }, new DemandSpec { Service = "SPORTS", Rate = 15, Swing = 0.8, Period = TimeSpan.FromMinutes(7), Noise = 0.2 }],
            });
            _world = SimulatedWorld.Open(_pool, _clock);
        }

        public int Run(TimeSpan time, int mostKills)
        {
            Console.WriteLine($"soak on Simulation, seed {_seed}. A kill stops the mover between two things that happen, or at a named point of a step; nothing in memory is carried over:");
            Console.WriteLine("every object is dropped, its locks end as a dead process's do, and the next one reads the files. (Real SIGKILLs at every point are in the tests.)");
            var watch = Stopwatch.StartNew();
            var told = TimeSpan.FromSeconds(15);
            try
            {
                while (watch.Elapsed < time && (mostKills == 0 || _kills < mostKills))
                {
                    // Lives that end in a kill, sometimes while they take up what the one before left; then one that is let to put all right.
                    var before = _kills;
                    while (_kills == before)
                        Live(kill: true);
                    while (_random.Next(3) == 0)
                        Live(kill: true);
                    Live(kill: false);
                    if (watch.Elapsed > told)
                    {
                        Tell(watch.Elapsed);
                        told = watch.Elapsed + TimeSpan.FromSeconds(15);
                    }
                }
            }
            catch (Exception error)
            {
                Tell(watch.Elapsed);
                Console.WriteLine($"FAILED with seed {_seed} after kill {_kills}: {error}");
                return 1;
            }

            Tell(watch.Elapsed);
            Console.WriteLine($"{_kills} kills survived: nothing lost, doubled or left over. Seed {_seed}.");
            return 0;
        }

        private void Tell(TimeSpan elapsed) => Console.WriteLine(
            $"{elapsed:hh\\:mm\\:ss}  {_kills} kills ({_byPoint} at named points), {_lostHosts} hosts lost, {_broken} guests broken, {_clock.Elapsed.TotalMinutes:0} minutes of virtual time; moves {string.Join(", ", _ended.Select(ended => $"{ended.Value} {ended.Key}"))}");

        /// <summary>The life of one process.</summary>
        private void Live(bool kill)
        {
            SimulatedWorld.Forget(_pool);
            _world = SimulatedWorld.Open(_pool, _clock);
            var hypervisor = new SimulatedHypervisor(_world);
            var balancer = new SimulatedBalancer(_world);
            var probe = new SimulatedHealthProbe(_world);
            using var state = StateFolder.Open(_pool.StateFolder, create: true);
            var mover = new Mover(_pool, hypervisor, balancer, probe, state, _clock, _random.Next());
            var dead = false;
            var happened = 0;
            var atPoint = kill && _random.Next(2) == 0;
            var killAt = atPoint ? _random.Next(1, 60) : _random.Next(1, 100);
            var passed = 0;
            var ended = _clock.RunUnlessKilled(
                async () =>
                {
                    if (atPoint)
                    {
                        Failpoint.Hook = name =>
                        {
                            if (!dead && ++passed < killAt)
                                return;
                            dead = true;
                            throw new AbandonException(name);
                        };
                    }

                    try
                    {
                        await ActAsync(kill, mover, state, hypervisor, balancer, probe);
                    }
                    catch (AbandonException) when (dead)
                    {
                    }
                    finally
                    {
                        Failpoint.Hook = null;
                    }
                },
                () => dead || (kill && !atPoint && ++happened > killAt));
            if (!ended || dead)
            {
                _kills++;
                _byPoint += atPoint ? 1 : 0;
            }
        }

        private async Task ActAsync(bool kill, Mover mover, StateFolder state, SimulatedHypervisor hypervisor, SimulatedBalancer balancer, SimulatedHealthProbe probe)
        {
            if (!kill)
            {
                foreach (var host in _pool.Hosts)
                    _world.SetHost(host.Name, HostCondition.Up);
                _world.ClearFaults();
            }

            await RetryAsync(() => balancer.EnsureAsync(default));
            var decider = _random.Next(3) > 0 ? state.Decide("soak") : null;
            var context = new MoveContext { By = StateFolder.Describe("soak"), Epoch = decider?.Epoch ?? 0 };
            Count(await mover.RecoverAsync(context, null, default));
            Count(await mover.MendAsync(context, null, default));
            if (kill)
            {
                Trouble();
                Count(await mover.CarryOutAsync(await PlanAsync(hypervisor), context, null, default));
            }
            else
            {
                await PutRightAsync(mover, context, state, hypervisor, balancer, probe);
            }

            decider?.Dispose();
        }

        /// <summary>All is reachable again: after what cut-short moves, lost hosts and broken guests need, everything must hold.</summary>
        private async Task PutRightAsync(Mover mover, MoveContext context, StateFolder state, SimulatedHypervisor hypervisor, SimulatedBalancer balancer, SimulatedHealthProbe probe)
        {
            for (var turn = 0; turn < 20 && state.ReadOpenMoves().Count > 0; turn++)
                Count(await mover.RecoverAsync(context, null, default));
            Count(await mover.MendAsync(context, null, default));
            foreach (var host in state.Overrides.ReadHosts(_clock.GetUtcNow()))
                state.Overrides.ClearHost(host.Host);

            // Guests that hang or died are disposed of, as the Oracle does.
            var ill = new List<Move>();
            foreach (var host in _pool.Hosts)
            {
                foreach (var machine in (await hypervisor.ReadHostAsync(host, default)).Machines)
                {
                    if (machine.Power != PowerState.Running || await probe.CheckAsync(_pool.Services.First(service => service.Name == machine.Mark!.Service), machine.Address!, default) is not null)
                        ill.Add(ToMove(machine.Mark!, host.Name, MoveKind.Dispose, Stage.Disposed, null));
                }
            }

            foreach (var move in ill)
            {
                for (var turn = 0; turn < 20; turn++)
                {
                    var record = (await mover.CarryOutAsync([move with { Id = NewId() }], context, null, default))[0];
                    Count([record]);
                    if (record.Status == MoveStatus.Done || (await mover.RecoverAsync(context, null, default)).Any(recovered => recovered.Status == MoveStatus.Done))
                        break;
                }
            }

            // What passing failures keep from the balancer is tried again.
            for (var turn = 0; turn < 20; turn++)
            {
                try
                {
                    var result = await mover.ReconcileAsync(context, null, default);
                    Count(result.Joined);
                    if (result.Problems.Count == 0 && result.Joined.All(record => record.Status == MoveStatus.Done))
                        break;
                }
                catch (VMatrixException error) when (error.IsTransient)
                {
                }
            }

            var wrong = await RetryAsync(() => Invariants.CheckAsync(_pool, hypervisor, balancer, probe, _must, []));
            var left = _world.Leftovers([.. _must, .. _may]);
            if (wrong.Count + left.Count > 0)
                throw new InvalidOperationException(string.Join("\n", wrong.Concat(left)));

            // A create or a purge that was cut short has settled by now.
            var exist = await AllAsync(hypervisor);
            _must.Clear();
            _must.UnionWith(exist.Select(found => found.Mark.ServerId));
            _may.Clear();
        }

        private async Task<List<(ServerMark Mark, string? Host)>> AllAsync(SimulatedHypervisor hypervisor)
        {
            var nest = await hypervisor.ReadNestAsync(default);
            var all = nest.Dormant.Concat(nest.Disposed).Where(machine => machine.Mark is not null).Select(machine => (machine.Mark!, (string?)null)).ToList();
            foreach (var host in _pool.Hosts)
            {
                try
                {
                    all.AddRange((await hypervisor.ReadHostAsync(host, default)).Machines.Where(machine => machine.Mark is not null).Select(machine => (machine.Mark!, (string?)host.Name)));
                }
                catch (VMatrixException)
                {
                    // It is lost for now, and so are its servers from our sight.
                }
            }

            return all;
        }

        private async Task<IReadOnlyList<Move>> PlanAsync(SimulatedHypervisor hypervisor)
        {
            var moves = new List<Move>();
            var all = await AllAsync(hypervisor);
            for (var i = all.Count; i < Servers; i++)
            {
                var service = _pool.Services[_random.Next(2)].Name;
                var create = new Move { Id = NewId(), Kind = MoveKind.Create, ServerId = NewId(), ServerName = $"{service}-{++_named}", Service = service, FromStage = Stage.Nest, ToStage = Stage.Nest, Reason = "soak" };
                _may.Add(create.ServerId);
                moves.Add(create);
            }

            foreach (var (mark, host) in all)
            {
                var to = mark.Stage switch
                {
                    Stage.Nest => Pick((Stage.Matrix, 6), (Stage.Chamber, 2), (Stage.Disposed, 1)),
                    Stage.Chamber => Pick((Stage.Matrix, 3), (Stage.Nest, 3), (Stage.Disposed, 1)),
                    Stage.Matrix => Pick((Stage.Matrix, 5), (Stage.Nest, 4), (Stage.Chamber, 2), (Stage.Disposed, 1)),
                    _ => Pick((Stage.Nest, 2), (Stage.Disposed, 2)),
                };
                if (_random.Next(4) == 0)
                    continue;
                var others = _pool.Hosts.Where(other => other.Role == HostRole.Matrix && other.Name != host).ToArray();
                var move = ToMove(mark, host, (mark.Stage, to) switch
                {
                    (Stage.Disposed, Stage.Disposed) => MoveKind.Purge,
                    (Stage.Disposed, _) => MoveKind.Undo,
                    (_, Stage.Disposed) => MoveKind.Dispose,
                    (Stage.Nest, _) => MoveKind.Wake,
                    (_, Stage.Nest) => MoveKind.Hibernate,
                    _ => MoveKind.Relocate,
                }, to, to switch { Stage.Matrix => others[_random.Next(others.Length)].Name, Stage.Chamber => "chamber", _ => null });
                if (move.Kind == MoveKind.Purge)
                {
                    _must.Remove(mark.ServerId);
                    _may.Add(mark.ServerId);
                }

                moves.Add(move);
            }

            return moves;
        }

        private Move ToMove(ServerMark mark, string? host, MoveKind kind, Stage to, string? toHost) => new()
        {
            Id = NewId(),
            Kind = kind,
            ServerId = mark.ServerId,
            ServerName = mark.Name,
            Service = mark.Service,
            FromStage = mark.Stage,
            FromHost = host,
            Generation = mark.Generation,
            ToStage = to,
            ToHost = toHost,
            Live = _random.Next(2) == 0,
            Reason = "soak",
        };

        /// <summary>Hosts are lost, cut off and come back; guests die and hang; all at moments of their own while moves go on.</summary>
        private void Trouble()
        {
            foreach (var host in _pool.Hosts)
            {
                if (_random.Next(8) == 0)
                    _ = LaterAsync(() => _world.SetHost(host.Name, Pick((HostCondition.Up, 4), (HostCondition.Dead, 2), (HostCondition.CutOff, 2), (HostCondition.HalfDead, 1)) is var condition && condition != HostCondition.Up && ++_lostHosts > 0 ? condition : HostCondition.Up));
            }

            if (_must.Count > 0 && _random.Next(4) == 0)
            {
                var server = _must.Order().ElementAt(_random.Next(_must.Count));
                var hang = _random.Next(2) == 0;
                _broken++;
                _ = LaterAsync(() =>
                {
                    if (hang)
                        _world.Hang(server);
                    else
                        _world.Crash(server);
                });
            }
        }

        private async Task LaterAsync(Action action)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(_random.Next(10_000)), _clock);
            action();
        }

        private static async Task<T> RetryAsync<T>(Func<Task<T>> call)
        {
            for (var turn = 0; ; turn++)
            {
                try
                {
                    return await call();
                }
                catch (VMatrixException error) when (error.IsTransient && turn < 20)
                {
                }
            }
        }

        private static Task RetryAsync(Func<Task> call) => RetryAsync(async () =>
        {
            await call();
            return true;
        });

        private T Pick<T>(params (T Value, int Weight)[] choices)
        {
            var at = _random.Next(choices.Sum(choice => choice.Weight));
            foreach (var (value, weight) in choices)
            {
                if ((at -= weight) < 0)
                    return value;
            }

            throw new InvalidOperationException("No choice.");
        }

        private Guid NewId()
        {
            var bytes = new byte[16];
            _random.NextBytes(bytes);
            return new Guid(bytes);
        }

        private void Count(IReadOnlyList<MoveRecord> records)
        {
            foreach (var record in records)
            {
                var key = record.Status.ToString().ToLowerInvariant();
                _ended[key] = _ended.TryGetValue(key, out var count) ? count + 1 : 1;
            }
        }
    }
}
