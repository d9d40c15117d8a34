using System;
using System.Globalization;
using System.IO;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Files;
using VMatrix.Moves;

namespace VMatrix;

/// <summary>One change of a balancer at a time, whoever makes it, and none by a decider that another one has followed: for balancers that keep neither themselves.</summary>
internal static class BalancerTurn
{
    /// <summary>Waits for the turn; disposing what is returned ends it.</summary>
    /// <exception cref="VMatrixException"><c>StaleEpoch</c>.</exception>
    public static async Task<IDisposable> TakeAsync(PoolSpec pool, DriverCall call, TimeProvider clock, CancellationToken cancellation)
    {
        OwnFiles.CreateFolder(pool.StateFolder);
        var path = Path.Combine(pool.StateFolder, "balancer.turn");
        while (true)
        {
            FileStream turn;
            try
            {
                turn = OwnFiles.Open(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (Directory.Exists(pool.StateFolder))
            {
                await clock.WaitAsync(TimeSpan.FromMilliseconds(10), cancellation);
                continue;
            }

            try
            {
                CheckEpoch(pool, call);
                return turn;
            }
            catch
            {
                turn.Dispose();
                throw;
            }
        }
    }

    // A decider that was paused and woke again finds that another one has been at work since.
    private static void CheckEpoch(PoolSpec pool, DriverCall call)
    {
        if (call.Epoch == 0)
            return;
        var path = Path.Combine(pool.StateFolder, "balancer.epoch");
        var seen = File.Exists(path) && long.TryParse(File.ReadAllText(path), NumberStyles.None, CultureInfo.InvariantCulture, out var epoch) ? epoch : 0;
        if (call.Epoch < seen)
        {
            throw new VMatrixException("StaleEpoch", VMatrixErrorKind.Busy,
                $"The balancer of pool {pool.Name} has been changed by a decider of epoch {seen}; a call of epoch {call.Epoch} comes too late and is refused.");
        }

        if (call.Epoch > seen)
            StateFiles.Replace(path, Encoding.ASCII.GetBytes(call.Epoch.ToString(CultureInfo.InvariantCulture)));
    }
}
