using System;
using System.CommandLine;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Oracle.Screens;

namespace VMatrix.Oracle.Commands;

/// <summary><c>vmatrix-oracle run</c>.</summary>
internal static class RunCommand
{
    /// <summary>The pool that a command is about.</summary>
    public static Argument<FileInfo> PoolArgument() => new("pool") { Description = "The pool file, or the folder that has it as pool.yaml." };

    /// <summary>The full path of the file of the pool that was named.</summary>
    public static string PathOf(FileInfo pool) => Directory.Exists(pool.FullName) ? Path.Combine(pool.FullName, "pool.yaml") : pool.FullName;

    /// <summary>Asks for JSON lines.</summary>
    public static Option<bool> JsonOption() => new("--json") { Description = "One JSON object a line instead of a table." };

    public static Command Create()
    {
        Argument<FileInfo> pool = PoolArgument();
        Option<bool> json = JsonOption();
        var interval = DurationOption.Optional("--interval", "Time from one switch to the next, such as 30s or 5m; the pool file's setting unless said.", TimeSpan.FromMilliseconds(100), TimeSpan.FromDays(1));
        var command = new Command("run", "Switches again and again until told to stop (Ctrl+C, SIGTERM); the servers keep running then, and nothing is left half done.") { pool, interval, json };
        command.SetAction((parsed, cancellation) => RunAsync(parsed.GetValue(pool)!, parsed.GetValue(interval), Screen.For(parsed.GetValue(json)), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(FileInfo pool, TimeSpan? interval, Screen screen, CancellationToken cancellation)
    {
        await using PoolSession session = await PoolSession.OpenAsync(PathOf(pool), forChange: true, cancellation);
        using var stopping = cancellation.Register(() => screen.Say("Stopping: what is under way is brought to a whole state first."));
        try
        {
            await screen.RunAsync(session, () => session.RunAsync("vmatrix-oracle", interval, screen.Planned, screen, cancellation), cancellation);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // told to stop: the usual end
        }

        screen.Say("Stopped; the servers keep running.");
        return ExitCode.Done;
    }
}
