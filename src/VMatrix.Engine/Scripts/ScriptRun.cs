using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Diagnostics;
using System.IO;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;

namespace VMatrix.Scripts;

/// <summary>Runs a user's own script file: one that only its owner may write, by its path, with named parameters and never through a shell.</summary>
internal static class ScriptRun
{
    /// <summary>What a script may write; more is a mistake, and is not read.</summary>
    private const int MostCharacters = 4 << 20;

    /// <summary>Runs a script to its end. What it writes on its error stream is not kept: it may hold secrets.</summary>
    /// <param name="script">Full path of the file: anything that the system can run, or a PowerShell script (.ps1).</param>
    /// <param name="parameters">Named parameters, in order; each goes as <c>-Name value</c>.</param>
    /// <param name="pool">The pool file, told in the environment as <c>VMATRIX_POOL</c>.</param>
    /// <param name="timeout">How long it may take; then it is ended with all that it started.</param>
    /// <param name="clock">The clock.</param>
    /// <param name="cancellation">Ends it too.</param>
    /// <returns>The exit code and what it wrote.</returns>
    /// <exception cref="VMatrixException"><c>ScriptNotFound</c>, <c>ScriptNotOwned</c>, <c>ScriptNotChecked</c>, <c>ScriptNotRun</c>, <c>ScriptTimeout</c> (transient), <c>ScriptWroteTooMuch</c>.</exception>
    public static async Task<(int ExitCode, string Output)> RunAsync(
        string script, IReadOnlyList<(string Name, string Value)> parameters, string pool, TimeSpan timeout, TimeProvider clock, CancellationToken cancellation)
    {
        OwnedFile.Check(script);
        var isPowerShell = script.EndsWith(".ps1", StringComparison.OrdinalIgnoreCase);
        var start = new ProcessStartInfo(isPowerShell ? PowerShell() : script)
        {
            UseShellExecute = false,
            CreateNoWindow = true,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardOutputEncoding = Encoding.UTF8,
            WorkingDirectory = Path.GetDirectoryName(script)!,
        };
        if (isPowerShell)
        {
            foreach (var argument in new[] { "-NoProfile", "-NonInteractive", "-File", script })
                start.ArgumentList.Add(argument);
        }

        foreach (var (name, value) in parameters)
        {
            start.ArgumentList.Add("-" + name);
            start.ArgumentList.Add(value);
        }

        start.Environment["VMATRIX_POOL"] = pool;
        using var process = new Process { StartInfo = start };
        try
        {
            process.Start();
        }
        catch (Win32Exception e)
        {
            throw new VMatrixException("ScriptNotRun", VMatrixErrorKind.Failed, $"The script {script} cannot be run: {e.Message} A script without the ending .ps1 must be executable (chmod u+x) and say in its first line what runs it.", e);
        }

        using var deadline = clock.Deadline(timeout);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            process.StandardInput.Close();
            var errors = SkipAsync(process.StandardError, both.Token);
            var output = await ReadAsync(process.StandardOutput, script, both.Token);
            await errors;
            await process.WaitForExitAsync(both.Token);
            return (process.ExitCode, output);
        }
        catch (Exception e)
        {
            End(process);
            if (e is OperationCanceledException && !cancellation.IsCancellationRequested)
                throw new VMatrixException("ScriptTimeout", VMatrixErrorKind.Timeout, $"The script {script} took longer than {timeout.TotalSeconds:0.#} s and was ended.", e) { IsTransient = true };
            throw;
        }
    }

    private static async Task<string> ReadAsync(StreamReader reader, string script, CancellationToken cancellation)
    {
        var text = new StringBuilder();
        var buffer = new char[8192];
        int count;
        while ((count = await reader.ReadAsync(buffer, cancellation)) > 0)
        {
            text.Append(buffer, 0, count);
            if (text.Length > MostCharacters)
                throw new VMatrixException("ScriptWroteTooMuch", VMatrixErrorKind.Corrupt, $"The script {script} wrote more than {MostCharacters >> 20} million characters and was ended.");
        }

        return text.ToString();
    }

    private static async Task SkipAsync(StreamReader reader, CancellationToken cancellation)
    {
        var buffer = new char[1024];
        while (await reader.ReadAsync(buffer, cancellation) > 0)
        {
            // Nobody reads it, and it must not fill the pipe.
        }
    }

    private static void End(Process process)
    {
        try
        {
            process.Kill(entireProcessTree: true);
        }
        catch (Exception e) when (e is InvalidOperationException or Win32Exception or AggregateException)
        {
            // It has ended by itself.
        }
    }

    // The PowerShell that this runs in, where it is one.
    private static string PowerShell() =>
        Environment.ProcessPath is { } here && Path.GetFileNameWithoutExtension(here).Equals("pwsh", StringComparison.OrdinalIgnoreCase) ? here : "pwsh";
}
