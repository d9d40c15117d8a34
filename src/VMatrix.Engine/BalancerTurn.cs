using System;
using System.Collections.Concurrent;
using System.Globalization;
using System.IO;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Files;
using VMatrix.Moves;

namespace VMatrix;

/// <summary>One change of a balancer at a time, whoever makes it, and none by a decider that another one has followed: the look at the epoch and the change are under one lock.</summary>
internal static class BalancerTurn
{
    /// <summary>Who waits in this process waits here, and only one of them at the file.</summary>
    private static readonly ConcurrentDictionary<string, SemaphoreSlim> s_here = new(StringComparer.Ordinal);

    /// <summary>Waits for the turn; disposing what is returned ends it.</summary>
    /// <exception cref="VMatrixException"><c>StaleEpoch</c>, and <c>StateReadOnly</c> or its like where the state folder cannot be used.</exception>
    public static async Task<IDisposable> TakeAsync(PoolSpec pool, DriverCall call, TimeProvider clock, CancellationToken cancellation)
    {
        var path = Path.Combine(pool.StateFolder, "balancer.turn");
        var here = s_here.GetOrAdd(path, _ => new SemaphoreSlim(1, 1));
        await here.WaitAsync(cancellation);
        FileStream? file = null;
        try
        {
            OwnFiles.CreateFolder(pool.StateFolder);
            while ((file = StateFiles.TryLock(path)) is null)
                await clock.WaitAsync(TimeSpan.FromMilliseconds(10), cancellation);
            CheckEpoch(pool, call);
            return new Turn(here, file);
        }
        catch (Exception e)
        {
            file?.Dispose();
            here.Release();
            if (StateFiles.IsFileError(e))
                throw StateFiles.Translate(pool.StateFolder, e);
            throw;
        }
    }

    /// <summary>The highest epoch seen; 0 for none.</summary>
    public static long ReadEpoch(PoolSpec pool) =>
        File.Exists(PathOf(pool)) && long.TryParse(File.ReadAllText(PathOf(pool)), NumberStyles.None, CultureInfo.InvariantCulture, out var epoch) ? epoch : 0;

    private static string PathOf(PoolSpec pool) => Path.Combine(pool.StateFolder, "balancer.epoch");

    // A decider that was paused and woke again finds that another one has been at work since.
    private static void CheckEpoch(PoolSpec pool, DriverCall call)
    {
        if (call.Epoch == 0)
            return;
        var seen = ReadEpoch(pool);
        if (call.Epoch < seen)
        {
            throw new VMatrixException("StaleEpoch", VMatrixErrorKind.Busy,
                $"The balancer of pool {pool.Name} has been changed by a decider of epoch {seen}; a call of epoch {call.Epoch} comes too late and is refused.");
        }

        if (call.Epoch > seen)
            StateFiles.Replace(PathOf(pool), Encoding.ASCII.GetBytes(call.Epoch.ToString(CultureInfo.InvariantCulture)));
    }

    private sealed class Turn(SemaphoreSlim here, FileStream file) : IDisposable
    {
        private int _ended;

        public void Dispose()
        {
            if (Interlocked.Exchange(ref _ended, 1) != 0)
                return;
            file.Dispose();
            here.Release();
        }
    }
}
