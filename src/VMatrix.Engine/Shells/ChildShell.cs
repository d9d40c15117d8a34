using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;
using VMatrix.Scripts;

namespace VMatrix.Shells;

/// <summary>How a child is started.</summary>
/// <param name="Program">The PowerShell to start.</param>
/// <param name="Script">Full path of <c>serve.ps1</c> in the module's folder.</param>
public sealed record ChildShellStart(PowerShellProgram Program, string Script)
{
    /// <summary>Environment variables that it gets beside those of this process.</summary>
    public IReadOnlyDictionary<string, string> Environment { get; init; } = new Dictionary<string, string>();
}

/// <summary>Starts shells as children of this process, where it is no PowerShell itself.</summary>
public sealed class ChildShells(ChildShellStart? start = null) : IShellProvider
{
    /// <summary>Children as this machine has them: Windows PowerShell on Windows, where every module loads, else pwsh; <c>VMATRIX_POWERSHELL</c> names another one.</summary>
    public static ChildShells Here { get; } = new();

    /// <inheritdoc/>
    public IShell Open(int callsAtOnce)
    {
        var how = start ?? Find();
        return new ChildByCredential(() => new ChildShell(how, callsAtOnce, TimeProvider.System));
    }

    /// <summary>How a child is started on this machine.</summary>
    /// <exception cref="VMatrixException"><c>ShellNotFound</c>.</exception>
    public static ChildShellStart Find()
    {
        var program = PowerShellProgram.ForModules();
        var here = Path.GetDirectoryName(typeof(ChildShells).Assembly.Location) ?? AppContext.BaseDirectory;

        // Staged, the engine is in bin/net10.0/engine of the module; built, somewhere below the repository.
        for (var folder = new DirectoryInfo(here); folder is not null; folder = folder.Parent)
        {
            foreach (var script in new[] { Path.Combine(folder.FullName, "serve.ps1"), Path.Combine(folder.FullName, "out", "VMatrix", "serve.ps1") })
                if (File.Exists(script) && File.Exists(Path.Combine(Path.GetDirectoryName(script)!, "VMatrix.psd1")) && Directory.Exists(Path.Combine(Path.GetDirectoryName(script)!, "bin")))
                    return new ChildShellStart(program, script);
        }

        throw new VMatrixException("ShellNotFound", VMatrixErrorKind.NotFound, $"The module's serve.ps1 was not found at or above {here}: install the VMatrix module whole, and start vmatrix-oracle from its folder.");
    }
}

/// <summary>
/// A PowerShell child that lives as long as this object and carries out calls in a runspace pool of its own. Calls and answers are lines of
/// JSON on its standard input and output. A child that dies fails its open calls with <c>ShellLost</c>; the next call starts another one.
/// </summary>
public sealed class ChildShell(ChildShellStart start, int callsAtOnce, TimeProvider clock) : IShell
{
    /// <summary>How long an answer may take beyond the call's own deadline, and a cancelled call to say that it has stopped.</summary>
    private static readonly TimeSpan s_grace = TimeSpan.FromSeconds(10);

    private readonly SemaphoreSlim _gate = new(1);
    private Child? _child;
    private long _last;
    private bool _disposed;

    /// <summary>The process id that the child told of itself; null while none runs, and before its first answer.</summary>
    public int? ProcessId => _child is { IsLost: false } child ? child.OwnId : null;

    /// <inheritdoc/>
    public async Task<IReadOnlyList<PropertyBag>> InvokeAsync(ShellCall call, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var child = await GetChildAsync(cancellation);
        var id = Interlocked.Increment(ref _last);
        var answered = new TaskCompletionSource<JsonObject>(TaskCreationOptions.RunContinuationsAsynchronously);
        child.Open[id] = answered;
        try
        {
            using var deadline = clock.Deadline(call.Timeout + s_grace);
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
            try
            {
                await child.SendAsync(new JsonObject { ["id"] = id, ["call"] = ShellWire.Write(call) }, stop.Token);
            }
            catch (OperationCanceledException)
            {
                cancellation.ThrowIfCancellationRequested();
                throw Timeout(call);
            }

            var stopped = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
            using (stop.Token.Register(() => stopped.TrySetResult(true)))
            {
                if (await Task.WhenAny(answered.Task, stopped.Task) != answered.Task)
                {
                    // Asked to stop, it says so when it has; one that does not is left to itself.
                    using var grace = clock.Deadline(s_grace);
                    try
                    {
                        await child.SendAsync(new JsonObject { ["id"] = id, ["cancel"] = true }, grace.Token);
                        await answered.Task.UntilAsync(grace.Token);
                    }
                    catch (OperationCanceledException)
                    {
                        // It does not say so.
                    }

                    cancellation.ThrowIfCancellationRequested();
                    throw Timeout(call);
                }
            }

            var answer = await answered.Task;
            if (Read(answer, call) is { } rows)
                return rows;
            cancellation.ThrowIfCancellationRequested();
            throw Timeout(call);
        }
        catch (IOException e)
        {
            throw child.Lost(e.Message);
        }
        finally
        {
            _ = child.Open.TryRemove(id, out _);
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _gate.WaitAsync();
        _disposed = true;
        var child = _child;
        _child = null;
        _gate.Release();
        if (child is not null)
            await child.EndAsync(clock);
    }

    // The rows of an answer; null for one that was cancelled. What the call failed with is thrown.
    private static IReadOnlyList<PropertyBag>? Read(JsonObject answer, ShellCall call)
    {
        Exception? failed;
        try
        {
            if (answer["rows"] is JsonArray rows)
                return ShellWire.ReadRows(rows);
            failed = answer["error"] is { } error ? ShellWire.ReadError(error) : answer["fault"] is { } fault ? ShellWire.ReadFault(fault) : null;
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException or OverflowException or InvalidDataException or NullReferenceException or ArgumentException)
        {
            throw new VMatrixException("ShellAnswerUnreadable", VMatrixErrorKind.Corrupt, $"PowerShell's answer to {Names(call)} cannot be read: {e.Message}", e);
        }

        return failed is null ? null : throw failed;
    }

    private static string Names(ShellCall call) => string.Join(" | ", call.Commands.Select(c => c.Name));

    private static VMatrixException Timeout(ShellCall call) =>
        new("ShellTimeout", VMatrixErrorKind.Timeout, $"{Names(call)} took longer than {Planning.Words.Seconds(call.Timeout)}.") { IsTransient = true };

    private async Task<Child> GetChildAsync(CancellationToken cancellation)
    {
        await _gate.WaitAsync(cancellation);
        try
        {
            if (_disposed)
                throw new VMatrixException("ShellClosed", VMatrixErrorKind.InvalidState, "The shell was closed: its session has ended.");
            if (_child is { IsLost: false } child)
                return child;
            if (_child is not null)
                await _child.EndAsync(clock);
            return _child = Child.Start(start, callsAtOnce);
        }
        finally
        {
            _gate.Release();
        }
    }

    private sealed class Child : IDisposable
    {
        private readonly SemaphoreSlim _turn = new(1);
        private readonly ConcurrentQueue<string> _complaints = new();
        private readonly Task _reading;

        private Child(Process process)
        {
            Process = process;
            process.ErrorDataReceived += (sender, told) =>
            {
                if (told.Data is { Length: > 0 } line)
                    Complain(line);
            };
            process.BeginErrorReadLine();
            _reading = ReadAsync();
        }

        public Process Process { get; }

        /// <summary>What the child told of itself: another process than <see cref="Process"/> where a program in between started it.</summary>
        public int? OwnId { get; private set; }

        public bool IsLost { get; private set; }

        public ConcurrentDictionary<long, TaskCompletionSource<JsonObject>> Open { get; } = new();

        public static Child Start(ChildShellStart start, int callsAtOnce)
        {
            try
            {
                var before = string.Concat(start.Program.Arguments.Select(argument => $"\"{argument}\" "));
                var info = new ProcessStartInfo(start.Program.Path, $"{before}-NoLogo -NoProfile -NonInteractive -ExecutionPolicy Bypass -File \"{start.Script}\" -CallsAtOnce {callsAtOnce}")
                {
                    RedirectStandardInput = true,
                    RedirectStandardOutput = true,
                    RedirectStandardError = true,
                    StandardOutputEncoding = new UTF8Encoding(false),
                    UseShellExecute = false,
                    CreateNoWindow = true,
                }.Minimal();

                // What is VMatrix's own is meant for its child as well.
                foreach (System.Collections.DictionaryEntry own in System.Environment.GetEnvironmentVariables())
                {
                    if (((string)own.Key).StartsWith("VMATRIX_", StringComparison.Ordinal))
                        info.Environment[(string)own.Key] = (string?)own.Value;
                }

                if (PowerShellProgram.DotnetRoot() is { } root)
                    info.Environment["DOTNET_ROOT"] = root;
                foreach (var variable in start.Environment)
                    info.Environment[variable.Key] = variable.Value;
                return new Child(Process.Start(info)!);
            }
            catch (Exception e) when (e is System.ComponentModel.Win32Exception or InvalidOperationException)
            {
                throw new VMatrixException("ShellNotFound", VMatrixErrorKind.NotFound, $"PowerShell could not be started as '{start.Program.Path}': {e.Message} Install it, or name it in VMATRIX_POWERSHELL.", e);
            }
        }

        /// <summary>Sends a message. A child that does not take it in time is of no use any more: half a message may be in its pipe. It is ended.</summary>
        public async Task SendAsync(JsonObject message, CancellationToken cancellation)
        {
            var line = ShellWire.Line(message);
            await _turn.WaitAsync(cancellation);
            var sending = SendLineAsync(line);
            try
            {
                await sending.UntilAsync(cancellation);
            }
            catch (OperationCanceledException)
            {
                if (!sending.IsCompleted)
                    Kill();
                throw;
            }
        }

        private async Task SendLineAsync(byte[] line)
        {
            try
            {
                if (IsLost)
                    throw Lost("it has ended");

                // A full pipe holds up its writer, which must not be the caller.
                await Task.Yield();
                await ShellWire.SendAsync(Process.StandardInput.BaseStream, line);
            }
            finally
            {
                _turn.Release();
            }
        }

        public VMatrixException Lost(string why) => new("ShellLost", VMatrixErrorKind.Failed,
            $"The PowerShell process that carries out commands was lost: {why}.{(_complaints.IsEmpty ? "" : $" It said: {string.Join(" ", _complaints)}")} It is started again with the next call; what it was doing may have had its effect.") { IsTransient = true };

        public async Task EndAsync(TimeProvider clock)
        {
            try
            {
                // The end of its input is its end. One that is stuck in a command is ended by force.
                Process.StandardInput.BaseStream.Dispose();
                if (await Task.WhenAny(_reading, clock.WaitAsync(TimeSpan.FromSeconds(3), CancellationToken.None)) != _reading)
                    Kill();
                await _reading;
            }
            catch (Exception e) when (e is IOException or InvalidOperationException or System.ComponentModel.Win32Exception)
            {
                // It had ended before.
            }

            Dispose();
        }

        public void Dispose()
        {
            Process.Dispose();
            _turn.Dispose();
        }

        private void Complain(string line)
        {
            _complaints.Enqueue(line);
            while (_complaints.Count > 8)
                _ = _complaints.TryDequeue(out _);
        }

        // The child itself first: the end of a program between it and this process is not the child's.
        private void Kill()
        {
            if (OwnId is { } own && own != Process.Id)
            {
                try
                {
                    using var child = Process.GetProcessById(own);
                    End(child);
                }
                catch (ArgumentException)
                {
                    // It has ended.
                }
            }

            if (!Process.HasExited)
                End(Process);

            static void End(Process process)
            {
#if NET
                process.Kill(entireProcessTree: true);
#else
                process.Kill();
#endif
            }
        }

        private async Task ReadAsync()
        {
            var why = "its output ended";
            try
            {
                while (await Process.StandardOutput.ReadLineAsync() is { } line)
                {
                    JsonObject? message;
                    try
                    {
                        message = ShellWire.Parse(line);
                    }
                    catch (JsonException)
                    {
                        message = null;
                    }

                    if (message?["processId"] is JsonValue told && told.TryGetValue(out int own))
                        OwnId = own;
                    else if (message?["id"] is JsonValue number && number.TryGetValue(out long id))
                        _ = Open.TryGetValue(id, out var waits) && waits.TrySetResult(message);
                    else
                        Complain(line); // A module that writes to the console is no answer.
                }
            }
            catch (Exception e) when (e is IOException or ObjectDisposedException or InvalidOperationException)
            {
                why = e.Message.TrimEnd('.');
            }

            IsLost = true;
            foreach (var open in Open.Values)
                open.TrySetException(Lost(why));
        }
    }
}
