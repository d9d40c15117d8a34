using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;

namespace VMatrix.Contract;

/// <summary>
/// What must hold whenever no move is under way: every server exists exactly once and is whole, the balancer holds those servers of
/// the Matrix that answer and nothing else, and no claim, journal or file of a move is left over. One checker for every test and the soak.
/// </summary>
public static class Invariants
{
    /// <param name="pool">The pool.</param>
    /// <param name="hypervisor">Asked what is where.</param>
    /// <param name="balancer">Asked for its members.</param>
    /// <param name="probe">Asks running servers.</param>
    /// <param name="expected">The servers that must exist.</param>
    /// <param name="broken">Servers that the test itself has broken: they need not answer, and must not be in the balancer.</param>
    /// <param name="cancellation">Ends the check.</param>
    public static async Task<IReadOnlyList<string>> CheckAsync(PoolSpec pool, IHypervisor hypervisor, IBalancer balancer, IHealthProbe probe, IReadOnlyCollection<Guid> expected, IReadOnlyCollection<Guid> broken, CancellationToken cancellation = default)
    {
        var wrong = new List<string>();
        var nest = await hypervisor.ReadNestAsync(cancellation);
        wrong.AddRange(nest.Problems);
        var seen = new List<(Machine Machine, Stage[] Fits, HostSpec? Host)>();
        seen.AddRange(nest.Dormant.Select(machine => (machine, new[] { Stage.Nest }, (HostSpec?)null)));
        seen.AddRange(nest.Disposed.Select(machine => (machine, new[] { Stage.Disposed }, (HostSpec?)null)));
        foreach (var host in pool.Hosts)
        {
            try
            {
                var report = await hypervisor.ReadHostAsync(host, cancellation);
                seen.AddRange(report.Machines.Select(machine => (machine, new[] { host.Role == HostRole.Chamber ? Stage.Chamber : Stage.Matrix }, (HostSpec?)host)));
            }
            catch (VMatrixException error)
            {
                wrong.Add(error.Message);
            }
        }

        var members = (await balancer.ReadAsync(cancellation)).Members;
        foreach (var server in expected.Where(server => seen.All(found => found.Machine.Mark?.ServerId != server)))
            wrong.Add($"Server {server} is lost.");
        foreach (var copies in seen.Where(found => found.Machine.Mark is not null).GroupBy(found => found.Machine.Mark!.ServerId).Where(copies => copies.Count() > 1))
            wrong.Add($"Server {copies.Key} exists {copies.Count()} times: {string.Join(", ", copies.Select(copy => $"{copy.Machine.Power} in {copy.Host?.Name ?? "the nest"}"))}.");
        foreach (var (machine, fits, host) in seen.Where(found => found.Machine.Mark is not null))
        {
            var mark = machine.Mark!;
            var who = $"{machine.Name} ({mark.ServerId})";
            var mine = members.Where(member => member.ServerId == mark.ServerId).ToArray();
            if (!fits.Contains(mark.Stage))
                wrong.Add($"{who} is marked {mark.Stage} and is in {host?.Name ?? $"the nest as {fits[0]}"}.");
            if (broken.Contains(mark.ServerId))
                continue;
            if (machine.Problem is not null)
                wrong.Add($"{who} has a problem: {machine.Problem}");
            if (host is null && machine.Power is PowerState.Running or PowerState.Paused)
                wrong.Add($"{who} is {machine.Power} in the nest.");
            if (host is not null)
            {
                if (machine.Power != PowerState.Running || machine.Address is null)
                    wrong.Add($"{who} is {machine.Power} on {host.Name}.");
                else if (await probe.CheckAsync(pool.Services.First(service => service.Name == mark.Service), machine.Address, cancellation) is { } reason)
                    wrong.Add($"{who} does not answer: {reason}");
            }

            if (mark.Stage == Stage.Matrix && !(mine.Length == 1 && mine[0].Address == machine.Address && mine[0].State is MemberState.Ready))
                wrong.Add($"{who} is in the Matrix at {machine.Address}, and in the balancer {(mine.Length == 0 ? "it is not" : string.Join(", ", mine.Select(member => $"it is {member.State} at {member.Address}")))}.");
            if (mark.Stage != Stage.Matrix && mine.Length > 0)
                wrong.Add($"{who} is in the {mark.Stage} and in the balancer.");
        }

        foreach (var member in members.Where(member => seen.All(found => found.Machine.Mark?.ServerId != member.ServerId)))
            wrong.Add($"The balancer holds {member.ServerId} of {member.Service}, which does not exist.");
        foreach (var member in members.Where(member => broken.Contains(member.ServerId)))
            wrong.Add($"The balancer holds {member.ServerId} of {member.Service}, which is broken.");
        wrong.AddRange(CheckState(pool.StateFolder));
        return wrong;
    }

    /// <summary>What of moves is left over in a state folder.</summary>
    public static IReadOnlyList<string> CheckState(string folder)
    {
        var wrong = new List<string>();
        using var state = StateFolder.Open(folder, create: false);
        wrong.AddRange(state.ReadOpenMoves().Select(move => $"The {move.Move.Kind} of {move.Move.ServerName} ({move.Move.ServerId}) is still open: {move.Status} in step {move.Step}. {move.Error}"));
        wrong.AddRange(state.ReadProblems());
        foreach (var file in Directory.EnumerateFiles(folder, "*.tmp", SearchOption.AllDirectories))
            wrong.Add($"The file {file} is left over.");
        foreach (var owner in Directory.EnumerateFiles(Path.Combine(folder, "owners"), "*.lock").Where(owner => !IsLocked(owner)))
            wrong.Add($"The lock file {owner} of a process that is gone is left over.");
        return wrong;
    }

    private static bool IsLocked(string path)
    {
        try
        {
            using var held = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
            return false;
        }
        catch (FileNotFoundException)
        {
            return true; // Its owner has just closed it in good order.
        }
        catch (IOException)
        {
            return true;
        }
    }
}
