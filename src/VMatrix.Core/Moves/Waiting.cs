using System;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix;

/// <summary>Waiting for work that goes on when nobody waits for it any more.</summary>
internal static class Waiting
{
    /// <exception cref="OperationCanceledException">The waiting was ended, and not the work.</exception>
#if NET
    public static Task UntilAsync(this Task work, CancellationToken cancellation) => work.WaitAsync(cancellation);
#else
    public static async Task UntilAsync(this Task work, CancellationToken cancellation)
    {
        var left = new TaskCompletionSource<bool>();
        using (cancellation.Register(() => left.TrySetResult(true)))
        {
            if (await Task.WhenAny(work, left.Task) == work)
            {
                await work;
                return;
            }
        }

        throw new OperationCanceledException(cancellation);
    }
#endif
}
