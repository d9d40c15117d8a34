using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;

namespace VMatrix.Shells;

/// <summary>How a child is started.</summary>
/// <param name="Program">The PowerShell to start: <c>pwsh</c>, <c>powershell.exe</c> or a full path.</param>
/// <param name="Script">Full path of <c>serve.ps1</c> in the module's folder.</param>
public sealed record ChildShellStart(string Program, string Script)
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
        var program = Environment.GetEnvironmentVariable("VMATRIX_POWERSHELL") is { Length: > 0 } named ? named : RuntimeInformation.IsOSPlatform(OSPlatform.Windows) ? "powershell.exe" : "pwsh";
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

    /// <summary>The child's process id; null while none runs.</summary>
    public int? ProcessId => _child is { IsLost: false } child ? child.Process.Id : null;

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
            await child.SendAsync(new JsonObject { ["id"] = id, ["call"] = ShellWire.Write(call) });
            using var deadline = clock.Deadline(call.Timeout + s_grace);
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
            var stopped = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
            using (stop.Token.Register(() => stopped.TrySetResult(true)))
            {
                if (await Task.WhenAny(answered.Task, stopped.Task) != answered.Task)
                {
                    // Asked to stop, it says so when it has; one that does not is left to itself.
                    await child.SendAsync(new JsonObject { ["id"] = id, ["cancel"] = true });
                    await Task.WhenAny(answered.Task, clock.WaitAsync(s_grace, CancellationToken.None));
                    cancellation.ThrowIfCancellationRequested();
                    throw Timeout(call);
                }
            }

            var answer = await answered.Task;
            if (answer["rows"] is JsonArray rows)
                return ShellWire.ReadRows(rows);
            if (answer["error"] is { } error)
                throw ShellWire.ReadError(error);
            if (answer["fault"] is { } fault)
                throw ShellWire.ReadFault(fault);
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

    private static VMatrixException Timeout(ShellCall call) =>
        new("ShellTimeout", VMatrixErrorKind.Timeout, $"{string.Join(" | ", call.Commands.Select(c => c.Name))} took longer than {call.Timeout.TotalSeconds:0.#} s.") { IsTransient = true };

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
                if (told.Data is not { Length: > 0 } line)
                    return;
                _complaints.Enqueue(line);
                while (_complaints.Count > 8)
                    _ = _complaints.TryDequeue(out _);
            };
            process.BeginErrorReadLine();
            _reading = ReadAsync();
        }

        public Process Process { get; }

        public bool IsLost { get; private set; }

        public ConcurrentDictionary<long, TaskCompletionSource<JsonObject>> Open { get; } = new();

        public static Child Start(ChildShellStart start, int callsAtOnce)
        {
            try
            {
                var info = new ProcessStartInfo(start.Program, $"-NoLogo -NoProfile -NonInteractive -ExecutionPolicy Bypass -File \"{start.Script}\" -CallsAtOnce {callsAtOnce}")
                {
                    RedirectStandardInput = true,
                    RedirectStandardOutput = true,
                    RedirectStandardError = true,
                    StandardOutputEncoding = new UTF8Encoding(false),
                    UseShellExecute = false,
                    CreateNoWindow = true,
                };
                foreach (var variable in start.Environment)
                    info.Environment[variable.Key] = variable.Value;
                return new Child(Process.Start(info)!);
            }
            catch (Exception e) when (e is System.ComponentModel.Win32Exception or InvalidOperationException)
            {
                throw new VMatrixException("ShellNotFound", VMatrixErrorKind.NotFound, $"PowerShell could not be started as '{start.Program}': {e.Message} Install it, or name it in VMATRIX_POWERSHELL.", e);
            }
        }

        public async Task SendAsync(JsonObject message)
        {
            var line = ShellWire.Line(message);
            await _turn.WaitAsync();
            try
            {
                if (IsLost)
                    throw Lost("it has ended");
                var stream = Process.StandardInput.BaseStream;
                await ShellWire.SendAsync(stream, line);
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
                if (await Task.WhenAny(_reading, clock.WaitAsync(TimeSpan.FromSeconds(3), CancellationToken.None)) != _reading && !Process.HasExited)
                    Process.Kill();
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
                        // A module that writes to the console is no answer.
                        _complaints.Enqueue(line);
                        continue;
                    }

                    if (message?["id"] is { } id && Open.TryGetValue(id.GetValue<long>(), out var waits))
                        waits.TrySetResult(message);
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
