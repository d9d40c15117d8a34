using System;
using System.Diagnostics;
using System.Globalization;
using System.Threading;

namespace VMatrix.Moves;

/// <summary>
/// Named points at which a process can be made to die, so that tests can show what comes after. Off unless the environment variable
/// <c>VMATRIX_FAILPOINT</c> names one (<c>wake.start.after</c>, or <c>wake.start.after#3</c> for its third passing), in which case the
/// process kills itself there, or a test has set <see cref="Hook"/>.
/// </summary>
public static class Failpoint
{
    private static readonly string? s_kill = Environment.GetEnvironmentVariable("VMATRIX_FAILPOINT");
    private static readonly AsyncLocal<Action<string>?> s_hook = new();
    private static int s_hooks;
    private static int s_passed;

    /// <summary>Called at each point in the current flow of control; may throw <see cref="AbandonException"/> to stop as a kill would. For tests.</summary>
    public static Action<string>? Hook
    {
        get => s_hook.Value;
        set
        {
            if (value is not null)
                Volatile.Write(ref s_hooks, 1);
            s_hook.Value = value;
        }
    }

    /// <summary>Passes the point of that name.</summary>
    public static void Hit(string name)
    {
        if (s_kill is not null)
            Kill(name);
        if (Volatile.Read(ref s_hooks) != 0)
            s_hook.Value?.Invoke(name);
    }

    private static void Kill(string name)
    {
        var parts = s_kill!.Split('#');
        if (!string.Equals(parts[0], name, StringComparison.Ordinal))
            return;
        var nth = parts.Length > 1 ? int.Parse(parts[1], CultureInfo.InvariantCulture) : 1;
        if (Interlocked.Increment(ref s_passed) != nth)
            return;

        // SIGKILL on Unix, TerminateProcess on Windows: nothing of this process runs after it, no finally and no exit handler.
        using var self = Process.GetCurrentProcess();
        self.Kill();
        Thread.Sleep(Timeout.Infinite);
    }
}

/// <summary>Thrown by a test's <see cref="Failpoint.Hook"/>: the mover stops where it is, as if its process had been killed. Nothing handles it.</summary>
public sealed class AbandonException : Exception
{
    /// <summary>Makes one for a point.</summary>
    public AbandonException(string point) : base($"Abandoned at {point}.")
    {
    }
}
