using System;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>
/// Machines in a critical state: Hyper-V pauses one whose storage is gone or whose volume is full, and an admin resumes it
/// (https://learn.microsoft.com/archive/blogs/virtual_pc_guy/why-is-my-virtual-machine-paused-critical-hyper-v).
/// </summary>
public sealed class HyperVCriticalTests
{
    [Theory]
    [InlineData(VMState.PausedCritical, VMState.Paused, "Resume-VM")]
    [InlineData(VMState.RunningCritical, VMState.Running, "Resume-VM")]
    [InlineData(VMState.OffCritical, VMState.Off, "Start-VM")]
    [InlineData(VMState.SavedCritical, VMState.Saved, "Start-VM")]
    public Task A_machine_in_a_critical_state_serves_nobody_and_both_causes_are_named(VMState told, VMState state, string command) => InAsync(async (scene, world, server) =>
    {
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { State = state, Critical = told });
        var shown = Assert.Single((await scene.Hypervisor.ReadHostAsync(scene.Host(1), default)).Machines);
        Assert.Equal(ServerHealth.Hung, shown.Health);
        Assert.Contains(told.ToString(), shown.Problem, StringComparison.Ordinal);
        Assert.Contains("storage", shown.Problem, StringComparison.Ordinal);
        Assert.Contains("volume is full", shown.Problem, StringComparison.Ordinal);
        Assert.EndsWith($"-Id {world.MachineOf(server).Id} | {command}.", shown.Problem, StringComparison.Ordinal);
    });

    [Theory]
    [InlineData(VMState.PausedCritical, VMState.Paused)]
    [InlineData(VMState.RunningCritical, VMState.Running)]
    public Task It_is_replaced_like_a_hung_one(VMState told, VMState state) => InAsync(async (scene, world, server) =>
    {
        world.World.SetMachine(world.MachineOf(server).Id, machine => machine with { State = state, Critical = told });
        var pool = scene.Pool with { Services = [scene.Finance with { Least = 1 }] };
        var quiet = (FileBalancer)world.OpenBalancer();
        quiet.Counts = [new ServiceCounters { Service = scene.Finance.Name }];
        await using var session = new PoolSession(pool, new PoolDrivers(world.OpenHypervisor(), quiet, world.OpenProbe()), scene.State, world.Clock);
        Plan plan;
        var plans = 0;
        do
        {
            plan = await session.PlanSwitchAsync(default);
            await Task.Delay(scene.Finance.Health.Interval, world.Clock);
        }
        while (plan.Moves.Count == 0 && ++plans < 10);
        Assert.Contains(plan.Moves, move => move.Kind is MoveKind.Wake or MoveKind.Create && move.ServerId != server);
        Assert.Contains(plan.Moves, move => move.ServerId == server && move.ToStage is not Stage.Matrix);
    });

    private static async Task InAsync(Func<Scene, HyperVDriverWorld, Guid, Task> test)
    {
        await using var world = new HyperVDriverWorld();
        await world.RunAsync(async () =>
        {
            await using var scene = await Scene.OpenAsync(world);
            await test(scene, world, await scene.MakeAsync(Stage.Matrix, scene.Host(1)));
        });
    }
}
