using System;
using System.Collections.Generic;
using System.CommandLine;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using Spectre.Console;
using VMatrix.Oracle.Screens;

namespace VMatrix.Oracle.Commands;

/// <summary><c>vmatrix-oracle status</c>.</summary>
internal static class StatusCommand
{
    public static Command Create()
    {
        Argument<FileInfo> pool = RunCommand.PoolArgument();
        Option<bool> json = RunCommand.JsonOption();
        var command = new Command("status", "Shows a pool as it is now and changes nothing.") { pool, json };
        command.SetAction((parsed, cancellation) => RunAsync(parsed.GetValue(pool)!, parsed.GetValue(json), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(FileInfo pool, bool json, CancellationToken cancellation)
    {
        await using PoolSession session = await PoolSession.OpenAsync(RunCommand.PathOf(pool), forChange: false, cancellation);
        PoolInfo info = await session.GetPoolAsync(cancellation);
        PoolView view = await PoolView.ReadAsync(session, shown: null, cancellation);
        IReadOnlyList<MoveRecord> moves = await session.GetMovesAsync(since: null, most: 8, cancellation);
        if (json)
        {
            var screen = new JsonScreen(Console.Out);
            screen.Show(view);
            foreach (MoveRecord move in moves)
                screen.Report(move);
            foreach (string problem in info.Problems)
                screen.Say(problem);
            return ExitCode.Done;
        }

        IAnsiConsole console = AnsiConsole.Console;
        console.Write(PoolTables.Hosts(view));
        console.Write(PoolTables.Services(view, plan: null));
        if (moves.Count > 0)
            console.Write(PoolTables.Moves(moves));
        console.WriteLine(info.Decider is null ? "No decider is at work." : $"The decider at work is {info.Decider}.");
        foreach (string problem in info.Problems)
            console.WriteLine(problem);
        return ExitCode.Done;
    }
}
