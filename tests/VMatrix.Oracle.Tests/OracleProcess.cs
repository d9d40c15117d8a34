using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Xunit;

namespace VMatrix.Oracle.Tests;

/// <summary>A <c>vmatrix-oracle</c> of its own, as a user would start it.</summary>
internal sealed class OracleProcess : IDisposable
{
    private readonly Process _process;
    private readonly ConcurrentQueue<string> _lines = new();
    private readonly ConcurrentQueue<string> _errors = new();

    public OracleProcess(params string[] arguments)
    {
        string program = Path.Combine(AppContext.BaseDirectory, "vmatrix-oracle.dll");
        // A shell that starts its jobs in the background makes them ignore SIGINT; here it must count.
        _process = Process.Start(new ProcessStartInfo("env", ["--default-signal", "dotnet", program, .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true })!;
        _process.OutputDataReceived += (_, line) => Keep(_lines, line.Data);
        _process.ErrorDataReceived += (_, line) => Keep(_errors, line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public int Id => _process.Id;

    public IReadOnlyList<string> Lines => [.. _lines];

    public string Errors => string.Join('\n', _errors);

    public async Task SignalAsync(string signal)
    {
        using Process kill = Process.Start("kill", [$"-{signal}", $"{_process.Id}"]);
        await kill.WaitForExitAsync();
    }

    public async Task<int> EndAsync(TimeSpan? within = null)
    {
        await _process.WaitForExitAsync().WaitAsync(within ?? TimeSpan.FromMinutes(4));
        return _process.ExitCode;
    }

    public async Task SaysAsync(Func<string, bool> what)
    {
        long begun = Stopwatch.GetTimestamp();
        while (!_lines.Any(what))
        {
            Assert.False(_process.HasExited && !_lines.Any(what), $"It ended and did not say it: {string.Join('\n', _lines)}\n{Errors}");
            Assert.True(Stopwatch.GetElapsedTime(begun) < TimeSpan.FromMinutes(3), $"It did not say it within 3 minutes: {string.Join('\n', _lines)}\n{Errors}");
            await Task.Delay(20);
        }
    }

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill();
        _process.Dispose();
    }

    private static void Keep(ConcurrentQueue<string> lines, string? line)
    {
        if (line is not null)
            lines.Enqueue(line);
    }
}
