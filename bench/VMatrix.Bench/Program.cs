using System.CommandLine;

namespace VMatrix.Bench;

/// <summary>Dispatches to one file a subcommand. Each has a static Create that returns its command: one line here for each.</summary>
internal static class Program
{
    private static int Main(string[] args)
    {
        RootCommand root = new("Benchmarks of VMatrix. Each prints its figures beside a named peer's, measured in the same run.");
        Command[] commands =
        [
            BalanceBench.Create(),
            HyperVBench.Create(),
            ScaleBench.Create(),
            SwitchingBench.Create(),
            SwitchingBench.CreateSensitivity(),
            SoakCommand.Create(),
            WakeCommand.Create(),
            ShellBench.CreateImport(),
            ShellBench.CreateServers(),
        ];
        foreach (Command command in commands)
        {
            root.Add(command);
        }

        return root.Parse(args).Invoke();
    }
}
