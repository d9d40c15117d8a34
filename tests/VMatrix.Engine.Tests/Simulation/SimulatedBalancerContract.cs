using System;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.Simulation;

namespace VMatrix.Tests.Simulation;

public sealed class SimulationBalancerContract : BalancerContract
{
    protected override Task<BalancerWorld> OpenWorldAsync() => Task.FromResult<BalancerWorld>(new World());

    private sealed class World : BalancerWorld
    {
        private readonly SimulatedDriverWorld _world = new();
        private string? _asked;
        private int _host;

        public World() => _world.World.Demand = (service, _) => service == _asked ? 1 : 0;

        public override PoolSpec Pool => _world.Pool;

        public override TimeProvider Clock => _world.Clock;

        public override IBalancer OpenBalancer() => new SimulatedBalancer(_world.World);

        public override Task RunAsync(Func<Task> body) => _world.RunAsync(body);

        public override Task<string> ServeAsync(ServiceSpec service, Guid server)
        {
            var host = Pool.Hosts[_host++ % 3].Name;
            _world.World.Populate([(TestPool.Mark(Pool, service.Name, _host, Guid.Empty, "1", Clock.GetUtcNow(), server), host)]);
            return Task.FromResult(_world.World.Read(state => state.At(host).Single(machine => machine.Mark?.ServerId == server && machine.Power == PowerState.Running).Address!));
        }

        public override Task BreakAsync(Guid server) => _world.CrashAsync(server);

        public override async Task AskAsync(ServiceSpec service, int requests)
        {
            _asked = service.Name;
            await Task.Delay(TimeSpan.FromSeconds(requests), Clock);
            await OpenBalancer().LeaveAsync(default, service.Name, Guid.NewGuid(), default);
            _world.World.Change(state => _world.World.Account(state, service.Name));
            _asked = null;
        }

        public override Task KillAsync()
        {
            new SimulatedBalancer(_world.World).Crash();
            return Task.CompletedTask;
        }

        public override ValueTask DisposeAsync() => _world.DisposeAsync();
    }
}
