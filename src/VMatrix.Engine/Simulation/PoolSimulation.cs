using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;
using VMatrix.Planning;
using VMatrix.Pools;

namespace VMatrix.Simulation;

/// <summary>
/// Plays a history of demand on a pool: the real planner and the real mover, on simulated hosts and a clock that jumps from one
/// thing that happens to the next. Whatever hypervisor the pool file names, none of its machines is touched and none of its scripts is run.
/// </summary>
public static class PoolSimulation
{
    /// <summary>Played with the first row's demand before the history begins, and not counted, so that no rule is judged by the pool's first start.</summary>
    private static readonly TimeSpan s_runUp = TimeSpan.FromMinutes(10);

    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.CamelCase, NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals };

    /// <summary>Plays a history.</summary>
    /// <param name="poolPath">The pool file.</param>
    /// <param name="tracePath">The history of demand: a CSV file with a column <c>time</c> (or <c>minute</c>) and one for each service.</param>
    /// <param name="options">What to compare, and how.</param>
    /// <param name="progress">Told which rule is played and the share of all that is done; may be null.</param>
    /// <param name="cancellation">Ends the call; nothing is left behind.</param>
    /// <exception cref="VMatrixException"><c>PoolInvalid</c>, <c>PoolNotFound</c>, <c>TraceInvalid</c>, <c>TimeZoneUnknown</c>, <c>RuleUnknown</c>, <c>CapacityUnknown</c>.</exception>
    public static SimulationResult Run(string poolPath, string tracePath, SimulationOptions options, IProgress<(string Rule, double Done)>? progress, CancellationToken cancellation)
    {
        string[] rules = [SimulationOptions.Switching, .. options.Compare.Select(r => r.ToLowerInvariant()).Where(r => r != SimulationOptions.Switching).Distinct()];
        if (rules.FirstOrDefault(r => r is not (SimulationOptions.Switching or SimulationOptions.Static or SimulationOptions.Threshold)) is { } unknown)
            throw new VMatrixException("RuleUnknown", VMatrixErrorKind.InvalidInput, $"'{unknown}' is no rule to compare with; there are: {SimulationOptions.Static}, {SimulationOptions.Threshold}.");
        if (options.Interval is { } interval && (interval < TimeSpan.FromSeconds(1) || interval > TimeSpan.FromDays(1)))
            throw new VMatrixException("IntervalInvalid", VMatrixErrorKind.InvalidInput, $"The interval {interval} is not between a second and a day.");
        var read = PoolSession.Read(poolPath);
        if (read.Hypervisor == "scvmm" && read.Scvmm.HostGroups.Count > 0)
            throw new VMatrixException("PoolInvalid", VMatrixErrorKind.InvalidInput, $"The hosts of pool '{read.Name}' come from host groups of VMM, which a simulation does not ask: play a copy of {read.Path} that names its hosts.");
        var pool = Simulated(read, options);
        var trace = DemandTrace.Read(tracePath, [.. pool.Services.Select(s => s.Name)], new TraceOptions(options.TimeFormat, options.TimeZone, pool.Oracle.MostRate));
        var compared = new ComparedRules(pool, trace, [.. pool.Services.Select(s => s.Capacity ?? pool.Simulation.Capacity)]);
        int[] split = compared.BestSplit();
        double fixedCost = compared.CostOf(split), bound = compared.Bound();
        var played = new List<SimulatedRule>();
        foreach (string rule in rules)
        {
            var play = new Play(pool, trace, rule, rule == SimulationOptions.Static ? split : null, compared, done => progress?.Report((rule, (played.Count + done) / rules.Length)), cancellation);
            var services = play.Run();
            double cost = compared.CostOf(services), closed = fixedCost - bound > 1e-9 ? (fixedCost - cost) / (fixedCost - bound) : double.NaN;
            played.Add(new SimulatedRule { Rule = rule, Cost = cost, Closed = closed, MeanHosts = play.MeanHosts, Services = [.. services.Select(s => s with { Closed = closed })] });
        }

        return new SimulationResult
        {
            Pool = pool.Name,
            Trace = Path.GetFileName(tracePath),
            From = trace.From,
            To = trace.To,
            Interval = pool.Oracle.Interval,
            Seed = pool.Simulation.Seed,
            StaticCost = fixedCost,
            BoundCost = bound,
            Notes = trace.Notes,
            Rules = played,
        };
    }

    /// <summary>Writes a result as JSON: the same result, the same bytes.</summary>
    /// <exception cref="VMatrixException"><c>FileUnwritable</c>.</exception>
    public static void WriteJson(SimulationResult result, string path) => Write(path, () =>
    {
        using var stream = File.Create(path);
        JsonSerializer.Serialize(stream, result, s_json);
    });

    private static void Write(string path, Action write)
    {
        try
        {
            write();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VMatrixException("FileUnwritable", VMatrixErrorKind.Failed, $"{path} cannot be written: {e.Message}", e);
        }
    }

    /// <summary>Writes a result as one page of HTML that loads nothing else: the same result, the same bytes.</summary>
    /// <exception cref="VMatrixException"><c>FileUnwritable</c>.</exception>
    public static void WritePage(SimulationResult result, string path) => Write(path, () => SimulationPage.Write(result, path));

    /// <summary>The pool with simulated hosts: its own rooms, rules and settings, with none of its machines behind them.</summary>
    private static PoolSpec Simulated(PoolSpec pool, SimulationOptions options)
    {
        bool simulated = pool.Hypervisor == "simulation";
        if (!simulated && pool.Services.FirstOrDefault(s => s.Capacity is null) is { } without)
        {
            throw new VMatrixException("CapacityUnknown", VMatrixErrorKind.InvalidInput,
                $"{pool.Path}: service '{without.Name}' states no capacity, and a simulation cannot learn from servers that are not there what one of them carries. Give it a capacity, such as 'capacity: 50/s'.");
        }

        var interval = options.Interval ?? pool.Oracle.Interval;
        return pool with
        {
            Hypervisor = "simulation",
            // Ids follow from it, and with them the same seed's result.
            StateFolder = "simulation",
            Hosts = [.. pool.Hosts.Select(h => h with { FenceScript = null })],
            Services = [.. pool.Services.Select(s => s with { Mode = null })],
            Balancer = pool.Balancer with { Kind = "simulation" },
            Oracle = pool.Oracle with
            {
                Mode = OracleMode.Automatic,
                Interval = interval,
                StaleAfter = pool.Oracle.StaleAfter > interval + interval ? pool.Oracle.StaleAfter : interval + interval,
            },
            Simulation = pool.Simulation with { Seed = options.Seed ?? pool.Simulation.Seed, Demand = [] },
        };
    }

    /// <summary>One rule's life with the history.</summary>
    private sealed class Play
    {
        private readonly PoolSpec _pool;
        private readonly DemandTrace _trace;
        private readonly string _rule;
        private readonly int[]? _split;
        private readonly ComparedRules _compared;
        private readonly Action<double> _progress;
        private readonly CancellationToken _cancellation;
        private readonly VirtualClock _clock;
        private readonly SimulatedWorld _world;
        private readonly Arrivals _arrivals;
        private readonly List<double[]> _recent = [];
        private readonly List<DateTimeOffset> _recentAt = [];
        private readonly Sum[] _sums;
        private int[]? _pins;
        private double _hostSeconds;

        public double MeanHosts => Math.Round(_hostSeconds / (_trace.To - _trace.From).TotalSeconds, 3);

        public Play(PoolSpec pool, DemandTrace trace, string rule, int[]? split, ComparedRules compared, Action<double> progress, CancellationToken cancellation)
        {
            (_pool, _trace, _rule, _split, _compared, _progress, _cancellation) = (pool, trace, rule, split, compared, progress, cancellation);
            _clock = new VirtualClock(trace.From - s_runUp);
            _arrivals = new Arrivals(trace, [.. pool.Services.Select(s => s.Name)], pool.Simulation.Seed);
            _world = SimulatedWorld.ForTrial(pool, _clock);
            _world.Demand = _arrivals.Rate;
            _sums = [.. pool.Services.Select(_ => new Sum(trace.Rows))];
            _pins = split;
        }

        public SimulatedService[] Run()
        {
            string folder = ScratchFolder();
            try
            {
                _clock.Run(async () =>
                {
                    using var state = StateFolder.Open(folder, create: true);
                    var drivers = new PoolDrivers(new SimulatedHypervisor(_world), new SimulatedBalancer(_world), new SimulatedHealthProbe(_world));
                    await using var session = new PoolSession(_pool, drivers, state, _clock, new PoolSession.Trial(_pool.Simulation.Seed, _rule == SimulationOptions.Switching ? null : Pin));
                    using var end = CancellationTokenSource.CreateLinkedTokenSource(_cancellation);
                    var switching = session.RunAsync("simulation", null, null, new Watch(this), end.Token);
                    try
                    {
                        await RecordAsync(switching);
                    }
                    finally
                    {
                        end.Cancel();
                        await switching;
                    }
                });
            }
            finally
            {
                Directory.Delete(folder, recursive: true);
            }

            _cancellation.ThrowIfCancellationRequested();
            return [.. _pool.Services.Select((service, s) => _sums[s].Finish(_rule, service.Name))];
        }

        private PlannerInput Pin(PlannerInput input) =>
            _pins is null ? input : input with { Pinned = _pool.Services.Select((s, i) => (s.Name, Count: _pins[i])).ToDictionary(p => p.Name, p => p.Count, StringComparer.OrdinalIgnoreCase) };

        /// <summary>Looks at the world at each row's end and at each minute.</summary>
        private async Task RecordAsync(Task switching)
        {
            await NextMinutesAsync(_trace.From, switching);
            _world.BeginWindow();
            var before = Look();
            for (int row = 0; row < _trace.Rows; row++)
            {
                await NextMinutesAsync(_trace.Start(row + 1), switching);
                var now = Look();
                int[] live = _world.CountLive();
                double seconds = (_trace.Start(row + 1) - _trace.Start(row)).TotalSeconds;
                _hostSeconds += seconds * _pool.Hosts.Count(h => h.Role is HostRole.Matrix && _world.GetHost(h.Name) is HostCondition.Up);
                for (int s = 0; s < _sums.Length; s++)
                    _sums[s].Add(row, _trace.Start(row), seconds, before[s], now[s], live[s], _pool.Services[s].Capacity ?? _pool.Simulation.Capacity);
                before = now;
                if (row % 64 == 0)
                    _progress((row + 1.0) / _trace.Rows);
            }

            // Nothing more arrives: what waits at the end is served or gives up.
            await _clock.DelayAsync(_pool.Balancer.QueueTimeout + TimeSpan.FromSeconds(1), _cancellation);
            var after = Look();
            for (int s = 0; s < _sums.Length; s++)
                _sums[s].AddRest(before[s], after[s]);
        }

        private async Task NextMinutesAsync(DateTimeOffset until, Task switching)
        {
            var before = Look();
            var began = _clock.GetUtcNow();
            while (began < until)
            {
                // The autoscaler's rule decides by the minute, on the minutes before.
                var minute = new DateTimeOffset(((began.UtcTicks / TimeSpan.TicksPerMinute) + 1) * TimeSpan.TicksPerMinute, TimeSpan.Zero);
                var next = minute < until ? minute : until;
                await _clock.DelayAsync(next - began, _cancellation);
                if (switching.IsCompleted)
                    await switching;
                if (_rule == SimulationOptions.Threshold && next == minute)
                {
                    var now = Look();
                    _recent.Add([.. now.Select((c, s) => (c.Requests - before[s].Requests) / (next - began).TotalSeconds)]);
                    _recentAt.Add(next);
                    if (_recent.Count > 5)
                    {
                        _recent.RemoveAt(0);
                        _recentAt.RemoveAt(0);
                    }

                    _pins = _compared.Threshold(_recent, _recentAt, next);
                    before = now;
                }

                began = next;
            }
        }

        private IReadOnlyList<WorldService> Look() => _world.Settle();

        private static string ScratchFolder()
        {
            // The journal is flushed many times a move; where the system has a place for that in memory, it is there.
            string name = "vmatrix-simulation-" + Guid.NewGuid().ToString("N");
            return Directory.CreateDirectory(Path.Combine(Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath(), name)).FullName;
        }

        private sealed class Watch(Play play) : IProgress<MoveRecord>
        {
            public void Report(MoveRecord value)
            {
                if (value.Status is MoveStatus.Pending or MoveStatus.Running || play._clock.GetUtcNow() < play._trace.From || value.Move.Kind is MoveKind.Create)
                    return;
                for (int s = 0; s < play._sums.Length; s++)
                {
                    if (play._pool.Services[s].Name == value.Move.Service)
                        play._sums[s].Add(value);
                }
            }
        }
    }

    /// <summary>What became of one service so far.</summary>
    private sealed class Sum(int rows)
    {
        private readonly SimulatedMinute[] _minutes = new SimulatedMinute[rows];
        private double _demand, _served, _refused, _errors, _serverSeconds, _seconds;
        private int _most, _moves, _wakes, _drops, _failed, _rowMoves, _rowDrops;

        public void Add(MoveRecord record)
        {
            if (record.Status is not MoveStatus.Done)
            {
                _failed++;
                return;
            }

            _moves++;
            _rowMoves++;
            _wakes += record.Move.Kind is MoveKind.Wake ? 1 : 0;
            if (record.Move.IsDrop)
            {
                _drops++;
                _rowDrops++;
            }
        }

        public void Add(int row, DateTimeOffset at, double seconds, WorldService before, WorldService now, int live, double capacity)
        {
            // What had come before the history, and was answered in it, is none of its requests.
            double demand = now.Requests - before.Requests, served = (now.Served - now.EarlyServed) - (before.Served - before.EarlyServed);
            _demand += demand;
            _served += served;
            _refused += (now.Refused - now.EarlyRefused) - (before.Refused - before.EarlyRefused);
            _errors += now.Errors - before.Errors;
            _serverSeconds += live * seconds;
            _seconds += seconds;
            _most = Math.Max(_most, live);
            _minutes[row] = new SimulatedMinute { At = at, Demand = Tidy(demand / seconds), Served = Tidy(served / seconds), Servers = live, Capacity = live * capacity, Moves = _rowMoves, Drops = _rowDrops };
            (_rowMoves, _rowDrops) = (0, 0);
        }

        /// <summary>What became of the requests that waited when the history ended; who waits still is refused.</summary>
        public void AddRest(WorldService before, WorldService after)
        {
            _served += (after.Served - after.EarlyServed) - (before.Served - before.EarlyServed);
            _refused += (after.Refused - after.EarlyRefused) - (before.Refused - before.EarlyRefused) + (after.Queue - after.Early);
            _errors += after.Errors - before.Errors;
        }

        public SimulatedService Finish(string rule, string service) => new()
        {
            Rule = rule,
            Service = service,
            Demand = Math.Round(_demand),
            Served = Math.Round(_served),
            Refused = Math.Round(_refused),
            Unserved = Math.Round(_refused + _errors),
            MeanServers = Tidy(_serverSeconds / _seconds),
            MostServers = _most,
            Switches = _moves,
            Wakes = _wakes,
            Drops = _drops,
            Failed = _failed,
            Closed = double.NaN,
            Minutes = _minutes,
        };

        private static double Tidy(double value) => Math.Round(value, 3);
    }
}
