using System;
using System.Collections.Concurrent;
using System.Diagnostics;
using System.IO;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Shells;

/// <summary>The child's end of a <see cref="ChildShell"/>: reads calls, has them carried out, writes their answers, until its input ends.</summary>
public static class ShellServer
{
    /// <summary>Tells this process's id, then serves until <paramref name="input"/> ends.</summary>
    /// <param name="shell">Carries the calls out.</param>
    /// <param name="input">Where calls come from, a line each.</param>
    /// <param name="output">Where answers go, a line each.</param>
    public static async Task ServeAsync(IShell shell, Stream input, Stream output)
    {
        using var reader = new StreamReader(input, new UTF8Encoding(false));
        using var turn = new SemaphoreSlim(1);
        var running = new ConcurrentDictionary<long, CancellationTokenSource>();
        using (var own = Process.GetCurrentProcess())
            await ShellWire.SendAsync(output, ShellWire.Line(new JsonObject { ["processId"] = own.Id }));
        while (await reader.ReadLineAsync() is { } line)
        {
            if (line.Length == 0 || ShellWire.Parse(line) is not { } message)
                continue;
            var id = message["id"]!.GetValue<long>();
            if (message["call"] is { } call)
            {
                // Known before the next line is read, so that a cancellation finds it.
                var cancel = running[id] = new CancellationTokenSource();
                _ = AnswerAsync(id, ShellWire.ReadCall(call), cancel);
            }
            else if (running.TryGetValue(id, out var cancel))
            {
                cancel.Cancel();
            }
        }

        foreach (var left in running.Values)
            left.Cancel();

        async Task AnswerAsync(long id, ShellCall call, CancellationTokenSource cancel)
        {
            // The reader goes on at once, whatever a call does before its first wait.
            await Task.Yield();
            JsonObject answer;
            try
            {
                answer = new JsonObject { ["rows"] = ShellWire.Write(await shell.InvokeAsync(call, cancel.Token)) };
            }
            catch (ShellException e)
            {
                answer = new JsonObject { ["error"] = ShellWire.Write(e) };
            }
            catch (VMatrixException e)
            {
                answer = new JsonObject { ["fault"] = ShellWire.Write(e) };
            }
            catch (OperationCanceledException)
            {
                answer = new JsonObject { ["cancelled"] = true };
            }
            catch (Exception e)
            {
                answer = new JsonObject { ["fault"] = ShellWire.Write(new VMatrixException("ShellFailed", VMatrixErrorKind.Failed, $"The shell failed: {e.GetType().Name}: {e.Message}")) };
            }

            _ = running.TryRemove(id, out _);
            answer["id"] = id;
            var bytes = ShellWire.Line(answer);
            await turn.WaitAsync();
            try
            {
                await ShellWire.SendAsync(output, bytes);
            }
            catch (IOException)
            {
                // Nobody reads any more; the input ends soon.
            }
            finally
            {
                turn.Release();
            }
        }
    }
}
