using System;
using System.Collections;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Reflection;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.Management.Infrastructure;
using VMatrix.Shells;

namespace VMatrix.Doubles;

/// <summary>A shell in which the modules of Windows are doubled: each command is bound strictly and carried out on a <see cref="DoubleWorld"/>.</summary>
/// <param name="world">The world.</param>
/// <param name="callsAtOnce">Most pipelines that run at once; more of them wait.</param>
/// <param name="local">The computer that the shell runs on; null for the world's first.</param>
public sealed class DoubleShell(DoubleWorld world, int callsAtOnce = 1000, string? local = null) : IShell
{
    private const int Depth = 4;
    private readonly Queue<TaskCompletionSource> _waiting = new();
    private int _room = callsAtOnce;

    private static readonly ConcurrentDictionary<(Type Type, string Name), PropertyInfo?> s_properties = new();

    /// <inheritdoc/>
    public async Task<IReadOnlyList<PropertyBag>> InvokeAsync(ShellCall call, CancellationToken cancellation)
    {
        using var timeout = new CancellationTokenSource(call.Timeout, world.Clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timeout.Token, cancellation);
        try
        {
            await EnterAsync();
            try
            {
                var paths = call.Properties.Select(path => (path, path.Split('.'))).ToArray();
                return [.. (await RunAsync(call, either.Token)).Select(item => Bag(item, paths))];
            }
            finally
            {
                Leave();
            }
        }
        catch (OperationCanceledException) when (timeout.IsCancellationRequested && !cancellation.IsCancellationRequested)
        {
            throw new VMatrixException("ShellTimeout", VMatrixErrorKind.Failed, $"{call.Commands[^1].Name} has not ended after {call.Timeout}.") { IsTransient = true };
        }
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => default;

    // No semaphore: it wakes who waits on another thread, behind a virtual clock's back.
    private Task EnterAsync()
    {
        lock (_waiting)
        {
            if (_room > 0)
            {
                _room--;
                return Task.CompletedTask;
            }

            var turn = new TaskCompletionSource();
            _waiting.Enqueue(turn);
            return turn.Task;
        }
    }

    private void Leave()
    {
        TaskCompletionSource? next;
        lock (_waiting)
        {
            if (!_waiting.TryDequeue(out next))
                _room++;
        }

        next?.SetResult();
    }

    private async Task<IReadOnlyList<object>> RunAsync(ShellCall call, CancellationToken cancellation)
    {
        var opened = new List<CimSession>();
        try
        {
            return await RunAsync(call, opened, cancellation);
        }
        finally
        {
            // As every shell does: what was opened for a call ends with it.
            foreach (var session in opened)
                await new CommandCall(world, world.Binder.Bind(@"CimCmdlets\Remove-CimSession", new Dictionary<string, object?> { ["CimSession"] = session }, null), CancellationToken.None, local).RunAsync();
        }
    }

    private async Task<IReadOnlyList<object>> RunAsync(ShellCall call, List<CimSession> opened, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        IReadOnlyList<object>? input = null;
        (BoundCommand Bound, DoubleError Error)? failed = null;
        foreach (var command in call.Commands)
        {
            var given = new Dictionary<string, object?>();
            foreach (var (name, value) in command.Parameters)
            {
                given[name] = value switch
                {
                    ShellCall nested => Nested(Opened(await RunAsync(nested, cancellation), opened)),
                    ShellCall[] many => await AllAsync(many, cancellation),
                    _ => Admit(command, name, value),
                };
            }

            var output = new List<object>();
            foreach (var item in input is null ? [null] : input.Cast<object?>())
            {
                var bound = world.Binder.Bind(command.Name, given, item);
                var work = new CommandCall(world, bound, cancellation, local);
                try
                {
                    await work.RunAsync();
                }
                catch (DoubleError error)
                {
                    throw Shown(bound, error);
                }

                output.AddRange(work.Output);
                if (work.Errors.Count > 0)
                    failed ??= (bound, work.Errors[0]);
            }

            input = output;
        }

        if (failed is { } told)
            throw Shown(told.Bound, told.Error);
        return input ?? [];
    }

    private async Task<object[]> AllAsync(ShellCall[] calls, CancellationToken cancellation)
    {
        var all = new List<object>();
        foreach (var call in calls)
            all.AddRange(await RunAsync(call, cancellation));
        return [.. all];
    }

    private static IReadOnlyList<object> Opened(IReadOnlyList<object> results, List<CimSession> opened)
    {
        opened.AddRange(results.OfType<CimSession>());
        return results;
    }

    private static object? Nested(IReadOnlyList<object> results) => results.Count == 1 ? results[0] : results.Count == 0 ? null : results.ToArray();

    // What may not cross to another process must not be used here either.
    private static object? Admit(ShellCommand command, string name, object? value) =>
        value is null or string or bool or int or long or double or Guid or TimeSpan or DateTimeOffset ? value
        : value.GetType().Name == "ShellSecret" ? value
        : value is ShellSession session ? new CimSession(session.Host)
        : value is Array array && array.Cast<object?>().All(item => item is string or bool or int or long or double or Guid or TimeSpan or DateTimeOffset) ? value
        : throw new BindingException($"{command.Name}: -{name} is a {value.GetType().Name}, which does not cross to a shell.");

    private static ShellException Shown(BoundCommand bound, DoubleError error) => new(error.Message)
    {
        Command = bound.Command.FullName,
        ErrorId = $"{error.Id},{CommandCall.ClassOf(bound.Command)}",
        Category = error.Category,
        ExceptionType = bound.Command.Module == "Hyper-V" ? "Microsoft.HyperV.PowerShell.VirtualizationException" : "System.Exception",
        Code = CommandCall.ResultOf(bound.Command, error),
    };

    private static PropertyBag Bag(object item, (string Name, string[] Parts)[] paths)
    {
        var bag = new PropertyBag();
        foreach (var (name, parts) in paths)
        {
            if (TryRead(item, parts, 0, out var value))
                bag[name] = value;
        }

        return bag;
    }

    private static bool TryRead(object? item, string[] path, int at, out object? value)
    {
        if (at == path.Length)
        {
            value = Cross(item, 0);
            return true;
        }

        value = null;
        if (item is null)
            return true;
        if (item is IEnumerable many and not string)
        {
            var values = new List<object?>();
            foreach (var each in many)
            {
                if (TryRead(each, path, at, out var one))
                    values.Add(one);
            }

            value = values.Any(one => one is Array) ? values.SelectMany(one => one is Array inner ? inner.Cast<object?>() : [one]).ToArray() : values.ToArray();
            return true;
        }

        var property = s_properties.GetOrAdd((item.GetType(), path[at]), static key => key.Type.GetProperty(key.Name, BindingFlags.Instance | BindingFlags.Public | BindingFlags.IgnoreCase | BindingFlags.FlattenHierarchy));
        return property is not null && TryRead(property.GetValue(item), path, at + 1, out value);
    }

    private static object? Cross(object? value, int depth) => value switch
    {
        null or string or bool or int or long or double or Guid or TimeSpan or DateTimeOffset => value,
        Enum named => named.ToString(),
        DateTime time => new DateTimeOffset(time.Kind == DateTimeKind.Unspecified ? DateTime.SpecifyKind(time, DateTimeKind.Utc) : time),
        byte or short or ushort => Convert.ToInt32(value, CultureInfo.InvariantCulture),
        uint or ulong => Convert.ToInt64(value, CultureInfo.InvariantCulture),
        float or decimal => Convert.ToDouble(value, CultureInfo.InvariantCulture),
        IEnumerable many when depth < Depth => many.Cast<object?>().Select(item => Cross(item, depth + 1)).ToArray(),
        _ => value.ToString(),
    };
}
