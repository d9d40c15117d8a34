using System;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;

namespace VMatrix;

/// <summary>
/// One question for all who ask it within a moment. It is put when the moment is over, so that no answer is older than its asker; who comes
/// later asks anew. It is given up when the last who waits for it has gone.
/// </summary>
internal sealed class AskedTogether<T>(TimeProvider clock)
{
    /// <summary>Long enough for everyone of a pass to come, and nothing beside what a host takes to answer.</summary>
    private static readonly TimeSpan s_moment = TimeSpan.FromMilliseconds(5);

    private readonly object _gate = new();
    private Round? _open;

    /// <param name="ask">Puts the question; of those who ask together, the first one's is used.</param>
    /// <param name="cancellation">Ends the waiting, and the question when nobody else waits.</param>
    public async Task<T> AskAsync(Func<CancellationToken, Task<T>> ask, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        Round round;
        Task<T> answer;
        lock (_gate)
        {
            round = _open ??= new Round();
            round.Askers++;
            answer = round.Answer ??= PutAsync(round, ask);
        }

        try
        {
            await answer.UntilAsync(cancellation);
            return await answer;
        }
        finally
        {
            Leave(round);
        }
    }

    private async Task<T> PutAsync(Round round, Func<CancellationToken, Task<T>> ask)
    {
        await clock.WaitAsync(s_moment, round.Stop.Token);
        lock (_gate)
            _open = _open == round ? null : _open;
        return await ask(round.Stop.Token);
    }

    private void Leave(Round round)
    {
        lock (_gate)
        {
            if (--round.Askers > 0)
                return;
            _open = _open == round ? null : _open;
        }

        round.Stop.Cancel();
    }

    private sealed class Round
    {
        public CancellationTokenSource Stop { get; } = new();

        public int Askers { get; set; }

        public Task<T>? Answer { get; set; }
    }
}
