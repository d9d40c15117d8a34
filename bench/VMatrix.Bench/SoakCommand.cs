using System;
using System.CommandLine;
using VMatrix.Contract;

namespace VMatrix.Bench;

/// <summary>Random moves, kills, host losses and loads for as long as asked, with the tests' invariants checked after each kill.</summary>
internal static class SoakCommand
{
    public static Command Create()
    {
        Option<double> minutes = new("--minutes") { Description = "How long.", DefaultValueFactory = _ => 10 };
        Option<int> kills = new("--kills") { Description = "End after so many kills; 0 for no limit.", DefaultValueFactory = _ => 0 };
        Option<int> seed = new("--seed") { Description = "Reproduces a run on Simulation; another one each time unless given.", DefaultValueFactory = _ => Environment.TickCount & 0xfffff };
        Option<string> driver = new("--driver") { Description = "simulation or qemu.", DefaultValueFactory = _ => "simulation" };
        driver.AcceptOnlyFromAmong("simulation", "qemu");
        Option<string?> order = new("--carry-out") { Hidden = true };
        Command command = new("soak", "Kills the mover at random on hosts that fail, and checks after each kill that no server is lost, doubled or broken.") { minutes, kills, seed, driver, order };
        command.SetAction(async (result, _) =>
        {
            if (result.GetValue(order) is { } path)
            {
                VMatrix.Moves.Failpoint.KillAt(System.Environment.GetEnvironmentVariable("VMATRIX_BENCH_FAILPOINT"));
                return await QemuSoak.CarryOutAsync(path);
            }

            using var folder = new TemporaryFolder();
            var (time, most) = (TimeSpan.FromMinutes(result.GetValue(minutes)), result.GetValue(kills));
            if (result.GetValue(driver) == "simulation")
                return new SimulatedSoak(folder.Path, result.GetValue(seed)).Run(time, most);
            using var soak = new QemuSoak(folder.Path, result.GetValue(seed));
            return soak.Run(time, most);
        });
        return command;
    }
}
