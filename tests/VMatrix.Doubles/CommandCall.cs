using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.HyperV.PowerShell;
using Microsoft.Management.Infrastructure;

namespace VMatrix.Doubles;

/// <summary>A command of the surface that the double does not carry out, or a parameter of one: the caller has gone beyond what is doubled.</summary>
public sealed class NotDoubledException(string what) : NotSupportedException($"{what} is on the published surface, and the double does not carry it out.");

/// <summary>One command at work: what was bound, what it writes, and the errors that do not end it.</summary>
/// <param name="world">The world.</param>
/// <param name="bound">The command.</param>
/// <param name="cancellation">Ends it.</param>
/// <param name="local">The computer that it is called on; null for the world's first.</param>
public sealed partial class CommandCall(DoubleWorld world, BoundCommand bound, CancellationToken cancellation, string? local = null)
{
    private static readonly Dictionary<string, Func<CommandCall, Task>> s_commands = new(StringComparer.OrdinalIgnoreCase);

    static CommandCall()
    {
        AddHyperV(s_commands);
        AddClusters(s_commands);
        AddCim(s_commands);
        AddScvmm(s_commands);
        AddNlb(s_commands);
    }

    /// <summary>The commands that the double carries out, with their modules.</summary>
    public static IReadOnlyCollection<string> Doubled => s_commands.Keys;

    public List<object> Output { get; } = [];

    public List<DoubleError> Errors { get; } = [];

    private DoubleWorld World => world;

    private BoundCommand Bound => bound;

    private CancellationToken Cancellation => cancellation;

    /// <summary>Carries the command out. Errors that concern one object are collected; those that end it are thrown.</summary>
    /// <exception cref="DoubleError">The command failed.</exception>
    /// <exception cref="NotDoubledException">The double does not do this.</exception>
    public async Task RunAsync()
    {
        world.Called?.Invoke(bound.Command.FullName);
        if (bound.Is("WhatIf"))
            return;
        if (!s_commands.TryGetValue(bound.Command.FullName, out var command))
            throw new NotDoubledException(bound.Command.FullName);
        if (bound.Is("AsJob") || bound.Is("RunAsynchronously") && bound.Command.Module != "VirtualMachineManager")
            throw new NotDoubledException($"{bound.Command.FullName} -AsJob");
        await command(this);
        // What failed may not have come to look at all that was given.
        if (Errors.Count == 0 && bound.Unread.ToArray() is { Length: > 0 } unread)
            throw new NotDoubledException($"{bound.Command.FullName} -{string.Join(", -", unread)}");
    }

    /// <summary>The id of one of its errors as PowerShell puts it together.</summary>
    public string ErrorIdOf(DoubleError error) => $"{error.Id},{ClassOf(bound.Command)}";

    /// <summary>The HRESULT of the exception that a module throws: Hyper-V's and CIM's have only .NET's own for every error.</summary>
    public static int ResultOf(SurfaceCommand command, DoubleError error) => error.Code == 0 || command.Module is "Hyper-V" or "CimCmdlets" ? unchecked((int)0x80131500) : error.Code;

    /// <summary>The class that a command is in its module.</summary>
    public static string ClassOf(SurfaceCommand command) => command.Module switch
    {
        "Hyper-V" => "Microsoft.HyperV.PowerShell.Commands.",
        "CimCmdlets" => "Microsoft.Management.Infrastructure.CimCmdlets.",
        "FailoverClusters" => "Microsoft.FailoverClusters.PowerShell.",
        "NetworkLoadBalancingClusters" => "Microsoft.NetworkLoadBalancingClusters.PowerShell.",
        _ => "Microsoft.SystemCenter.VirtualMachineManager.Cmdlets.",
    } + command.Name.Replace("-", "", StringComparison.Ordinal) + (command.Module is "Hyper-V" ? "" : command.Module is "VirtualMachineManager" ? "Cmdlet" : "Command");

    private IReadOnlyList<string> Computers()
    {
        var named = bound.All<string>("ComputerName").Concat(bound.All<CimSession>("CimSession").Select(session => session.ComputerName)).ToArray();
        return named.Length > 0 ? named : [local ?? world.Read(state => state.Hosts.Values.FirstOrDefault()?.Name) ?? "localhost"];
    }

    /// <summary>Goes to a host: takes the time that it takes, and fails when it is not there, the caller has no rights, or chance says so.</summary>
    private async Task<HostState> ReachAsync(string name, bool change = true)
    {
        var (settings, host, fails) = world.Read(state => (state.Set, state.Host(name), world.Chance(state)));
        await DelayAsync(settings.CallLatency);
        if (host is null || host.Mood != HostMood.Up || fails)
            throw DoubleError.Unreachable(name);
        if (change && !host.CanChange)
            throw DoubleError.AccessDenied(name);
        return host;
    }

    /// <summary>The effect was made; chance may lose the answer.</summary>
    private void Answer(string host)
    {
        if (world.Read(world.Chance))
            throw DoubleError.Unreachable(host);
    }

    private Task DelayAsync(TimeSpan time)
    {
        cancellation.ThrowIfCancellationRequested();
        return time > TimeSpan.Zero ? Task.Delay(time, world.Clock, cancellation) : Task.CompletedTask;
    }

    /// <summary>Does something for each item; what fails for one of them is told and the next one goes on.</summary>
    private async Task EachAsync<T>(IEnumerable<T> items, Func<T, Task> act)
    {
        foreach (var item in items)
        {
            try
            {
                await act(item);
            }
            catch (DoubleError error)
            {
                Errors.Add(error);
            }
        }
    }

    /// <summary>Starts what takes its time and waits for its end. A caller that stops waiting does not stop it.</summary>
    private async Task JobAsync(Func<WorldState, JobState> begin)
    {
        var job = world.Change(state =>
        {
            var begun = begin(state);
            state.Put(begun);
            return begun;
        });
        while (!job.Done)
        {
            var left = job.Due - world.Clock.GetUtcNow();
            await DelayAsync(TimeSpan.FromMilliseconds(Math.Max(1, Math.Ceiling(left.TotalMilliseconds)))); // A timer counts whole ones.
            job = world.Read(state => state.Jobs.Get(job.Id.ToString())!);
        }

        if (job.Error is not null)
            throw new DoubleError(job.ErrorId ?? "OperationFailed", "NotSpecified", int.Parse(job.More.GetValueOrDefault("code", "0"), System.Globalization.CultureInfo.InvariantCulture), job.Error);
    }

    private static bool Like(string pattern, string text) =>
        Regex.IsMatch(text, "^" + Regex.Escape(pattern).Replace(@"\*", ".*", StringComparison.Ordinal).Replace(@"\?", ".", StringComparison.Ordinal) + "$", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant | RegexOptions.Singleline);

    private static bool Same(string? one, string? other) => string.Equals(one, other, StringComparison.OrdinalIgnoreCase);
}
