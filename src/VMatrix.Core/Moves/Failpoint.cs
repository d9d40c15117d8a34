using System;
using System.Diagnostics;
using System.Globalization;
using System.Threading;

namespace VMatrix.Moves;

/// <summary>
/// Named points at which a process can be made to die, so that tests can show what comes after. Off unless a test's code has set
/// <see cref="Hook"/> or, in a program of its own, called <see cref="KillAt"/>: nothing in the environment of a shipped program turns it on.
/// </summary>
public static class Failpoint
{
    private static string? s_kill;
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

    /// <summary>Makes this process kill itself at a point. For the programs that tests start.</summary>
    /// <param name="point">The point's name, such as <c>wake.start.after</c>, or <c>wake.start.after#3</c> for its third passing; null or empty for none.</param>
    public static void KillAt(string? point) => s_kill = string.IsNullOrEmpty(point) ? null : point;

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
