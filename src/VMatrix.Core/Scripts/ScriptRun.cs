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

/// <summary>What a script has come to.</summary>
/// <param name="ExitCode">Its exit code.</param>
/// <param name="Output">What it wrote to its output.</param>
internal sealed record ScriptEnd(int ExitCode, string Output);

/// <summary>
/// Runs a user's own script file, whatever it is for: one that only its owner may write (<c>OwnedFile</c>), the very file that was checked, with named
/// parameters, a minimal environment and never through a shell. Its folder is the current one, and <c>VMATRIX_SCRIPT</c> names the file.
/// </summary>
internal static class ScriptRun
{
    /// <summary>What a script may write; more is a mistake, and is not read.</summary>
    private const int MostCharacters = 4 << 20;

    /// <summary>Runs a script to its end. What it writes goes nowhere but to the caller, and its error stream is not kept: both may hold secrets.</summary>
    /// <param name="script">Full path of the file: anything that the system can run, or a PowerShell script (.ps1).</param>
    /// <param name="parameters">Named parameters, in order; each goes as <c>-Name value</c>.</param>
    /// <param name="environment">What it finds in its environment besides <c>VMATRIX_POOL</c> and <c>VMATRIX_SCRIPT</c>.</param>
    /// <param name="pool">The pool file, told in the environment as <c>VMATRIX_POOL</c>.</param>
    /// <param name="timeout">How long it may take; then it is ended with all that it started.</param>
    /// <param name="clock">The clock.</param>
    /// <param name="cancellation">Ends it too.</param>
    /// <exception cref="VMatrixException"><c>ScriptNotFound</c>, <c>ScriptNotOwned</c>, <c>ScriptNotChecked</c>, <c>ScriptNotRun</c>, <c>ScriptTimeout</c> (transient), <c>ScriptWroteTooMuch</c>.</exception>
    public static async Task<ScriptEnd> RunAsync(
        string script, IReadOnlyList<(string Name, string Value)> parameters, IReadOnlyDictionary<string, string> environment, string pool, TimeSpan timeout, TimeProvider clock, CancellationToken cancellation)
    {
#if NET
        using var file = OwnedFile.Open(script);
        var start = StartOf(file, parameters);
        foreach (var (name, value) in environment)
            start.Environment[name] = value;
        start.Environment["VMATRIX_POOL"] = pool;
        start.Environment["VMATRIX_SCRIPT"] = file.RealPath;
        using var process = new Process { StartInfo = start };
        try
        {
            process.Start();
        }
        catch (Win32Exception e)
        {
            throw new VMatrixException("ScriptNotRun", VMatrixErrorKind.Failed, $"The script {script} cannot be run: {e.Message} A script without the ending .ps1 must be executable (chmod u+x) and say in its first line what runs it; one with it needs pwsh on PATH.", e);
        }

        using var deadline = clock.Deadline(timeout);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            process.StandardInput.Close();
            var text = new StringBuilder();
            var output = ReadAsync(process.StandardOutput, text, both.Token);
            var reading = Task.WhenAll(output, ReadAsync(process.StandardError, null, both.Token));
            var ended = process.WaitForExitAsync(both.Token);
            if (await Task.WhenAny(ended, output) == output)
                await output;
            await ended;

            // What it wrote is in the pipes; a program that it left running may hold them open for ever.
            using var rest = new CancellationTokenSource();
            await Task.WhenAny(reading, Task.Delay(TimeSpan.FromSeconds(2), rest.Token));
            rest.Cancel();
            if (reading.IsCompleted)
                await reading;
            else
                _ = reading.ContinueWith(static t => _ = t.Exception, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            lock (text)
                return new ScriptEnd(process.ExitCode, text.ToString());
        }
        catch (Exception e)
        {
            End(process);
            if (e is TooMuchException)
                throw new VMatrixException("ScriptWroteTooMuch", VMatrixErrorKind.Corrupt, $"The script {script} wrote more than {MostCharacters >> 20} million characters and was ended.");
            if (e is OperationCanceledException && !cancellation.IsCancellationRequested)
                throw new VMatrixException("ScriptTimeout", VMatrixErrorKind.Timeout, $"The script {script} took longer than {Planning.Words.Seconds(timeout)} and was ended.", e) { IsTransient = true };
            throw;
        }
#else
        await Task.CompletedTask;
        throw new VMatrixException("ScriptNotChecked", VMatrixErrorKind.NotSupported, $"The script {script} is not run: who may write it can be checked in PowerShell 7 only; run this in pwsh.");
#endif
    }

#if NET
    private static ProcessStartInfo StartOf(OwnedFile file, IReadOnlyList<(string Name, string Value)> parameters)
    {
        var shell = file.RealPath.EndsWith(".ps1", StringComparison.OrdinalIgnoreCase) ? PowerShellProgram.ForScripts() : null;
        var start = new ProcessStartInfo(shell?.Path ?? file.RunPath)
        {
            UseShellExecute = false,
            CreateNoWindow = true,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardOutputEncoding = Encoding.UTF8,
            WorkingDirectory = file.RunFolder,
        }.Minimal();
        if (shell is not null)
        {
            foreach (var argument in (string[])[.. shell.Arguments, "-NoProfile", "-NonInteractive", "-File", file.RunPath])
                start.ArgumentList.Add(argument);
            if (PowerShellProgram.DotnetRoot() is { } root)
                start.Environment["DOTNET_ROOT"] = root;
        }

        foreach (var (name, value) in parameters)
        {
            start.ArgumentList.Add("-" + name);
            start.ArgumentList.Add(value);
        }

        return start;
    }

    /// <summary>Reads a stream to its end, so that it never fills its pipe, and keeps what it holds where it is wanted.</summary>
    private static async Task ReadAsync(StreamReader reader, StringBuilder? text, CancellationToken cancellation)
    {
        var buffer = new char[8192];
        int count;
        while ((count = await reader.ReadAsync(buffer, cancellation)) > 0)
        {
            if (text is null)
                continue;
            lock (text)
                text.Append(buffer, 0, count);
            if (text.Length > MostCharacters)
                throw new TooMuchException();
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

    private sealed class TooMuchException : Exception;
#endif
}
