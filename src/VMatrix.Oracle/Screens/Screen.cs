using System;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Oracle.Screens;

/// <summary>Where the program shows what it sees and does. Calls may come from several threads.</summary>
internal abstract class Screen : IProgress<MoveRecord>
{
    /// <summary>The screen for this console: a live table on a terminal, else plain lines; JSON lines when asked for.</summary>
    public static Screen For(bool json) =>
        json ? new JsonScreen(Console.Out)
        : Console.IsOutputRedirected || Environment.GetEnvironmentVariable("TERM") is null or "dumb" ? new PlainScreen(Console.Out)
        : new LiveScreen(Spectre.Console.AnsiConsole.Console);

    /// <summary>Runs work while the screen is up, and shows what is newly seen of the pool once a second meanwhile.</summary>
    /// <param name="session">The pool.</param>
    /// <param name="work">The work.</param>
    /// <param name="cancellation">Ends the looking; ending the work is the work's own matter.</param>
    public async Task RunAsync(PoolSession session, Func<Task> work, CancellationToken cancellation)
    {
        using var done = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        await ShowAsync(async () =>
        {
            Task watching = WatchAsync(session, done.Token);
            try
            {
                await work();
            }
            finally
            {
                await done.CancelAsync();
                await watching;
            }
        });
    }

    /// <summary>Says a sentence.</summary>
    public abstract void Say(string sentence);

    /// <summary>Shows the pool.</summary>
    public abstract void Show(PoolView view);

    /// <summary>Tells of a plan.</summary>
    public abstract void Planned(Plan plan);

    /// <summary>Tells of a change of a move.</summary>
    public abstract void Report(MoveRecord value);

    /// <summary>Holds the screen up for another one.</summary>
    internal Task HoldAsync(Func<Task> work) => ShowAsync(work);

    /// <summary>Holds the screen up while work goes on.</summary>
    protected virtual Task ShowAsync(Func<Task> work) => work();

    private async Task WatchAsync(PoolSession session, CancellationToken cancellation)
    {
        string? trouble = null;
        PoolView? shown = null;
        while (!cancellation.IsCancellationRequested)
        {
            try
            {
                PoolView view = await PoolView.ReadAsync(session, shown, cancellation);
                if (!ReferenceEquals(view, shown))
                    Show(shown = view);
                trouble = null;
                await Task.Delay(TimeSpan.FromSeconds(1), cancellation);
            }
            catch (OperationCanceledException)
            {
                return;
            }
            catch (VMatrixException error)
            {
                if (error.Message != trouble)
                    Say(trouble = error.Message);
                await Task.Delay(TimeSpan.FromSeconds(1), CancellationToken.None);
            }
        }
    }
}
