using System;
using System.CommandLine;
using System.Globalization;
using System.CommandLine.Invocation;
using System.Linq;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;
using Spectre.Console;
using VMatrix.Oracle.Commands;

namespace VMatrix.Oracle;

internal static class Program
{
    private static async Task<int> Main(string[] args)
    {
        // What it prints is read by programs too, and is one language: numbers are written as that language does, whatever the system's settings.
        CultureInfo.CurrentCulture = CultureInfo.DefaultThreadCurrentCulture = CultureInfo.InvariantCulture;
        using var stop = new CancellationTokenSource();
        int signalled = 0;
        void Stop(PosixSignalContext context)
        {
            // The process does not die of the signal: what is open is brought to a whole state first.
            context.Cancel = true;
            Interlocked.CompareExchange(ref signalled, 128 + context.Signal switch { PosixSignal.SIGHUP => 1, PosixSignal.SIGINT => 2, _ => 15 }, 0);
            stop.Cancel();
        }

        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using var hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, Stop);

        // A file or a pipe has no width of its own.
        if (Console.IsOutputRedirected)
            AnsiConsole.Profile.Width = 132;
        ParseResult parsed = CommandLine().Parse(args);
        if (parsed.Errors.Count > 0)
        {
            foreach (string message in parsed.Errors.Select(error => error.Message))
                await Console.Error.WriteLineAsync($"vmatrix-oracle: {message}");
            await Console.Error.WriteLineAsync("Try: vmatrix-oracle --help");
            return ExitCode.WrongInput;
        }

        try
        {
            return await parsed.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }, stop.Token);
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            return signalled;
        }
        catch (VMatrixException error)
        {
            await Console.Error.WriteLineAsync($"vmatrix-oracle: {error.Message}");
            return ExitCode.Of(error);
        }
        catch (Exception error)
        {
            await Console.Error.WriteLineAsync($"vmatrix-oracle: something went wrong that should not: {error}");
            return ExitCode.Failed;
        }
    }

    /// <summary>The whole command line.</summary>
    internal static RootCommand CommandLine() => new($"""
        Switches servers between the services of a pool by their load.

        Exit codes:
          0    done, or told to stop (run)
          1    it failed; the message says why and how to mend it
          2    the command line or the pool file is wrong
          3    another decider is at work in the pool
          130  the demo was cut short by Ctrl+C (143: by SIGTERM, 129: by a closed terminal)
        """)
    {
        RunCommand.Create(),
        StatusCommand.Create(),
        ExplainCommand.Create(),
        DemoCommand.Create(),
        ImageCommand.Create(),
        LoadCommand.Create(),
        SimulateCommand.Create(),
    };
}

/// <summary>What the program's end says.</summary>
internal static class ExitCode
{
    /// <summary>Done, or told to stop.</summary>
    public const int Done = 0;

    /// <summary>It failed.</summary>
    public const int Failed = 1;

    /// <summary>The command line or the pool file is wrong.</summary>
    public const int WrongInput = 2;

    /// <summary>Another decider is at work.</summary>
    public const int DeciderBusy = 3;

    /// <summary>The exit code for an error.</summary>
    public static int Of(VMatrixException error) => error.Id switch
    {
        "DeciderBusy" => DeciderBusy,
        "PoolInvalid" or "PoolNotFound" or "ScenarioInvalid" or "TraceInvalid" or "TimeZoneUnknown" or "RuleUnknown" or "CapacityUnknown" => WrongInput,
        _ => Failed,
    };
}
