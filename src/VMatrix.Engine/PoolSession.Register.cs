using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix;

/// <content>Machines that are not ours: seen, taken into a service, and let go.</content>
public sealed partial class PoolSession
{
    /// <summary>The machines on the pool's hosts that are not servers of it: foreign ones, clones, and those of other controllers.</summary>
    public async Task<IReadOnlyList<ForeignMachine>> GetForeignAsync(CancellationToken cancellation) =>
        [.. (await ObserveAsync(null, cancellation)).Foreign.OrderBy(m => m.Host, StringComparer.OrdinalIgnoreCase).ThenBy(m => m.Name, StringComparer.OrdinalIgnoreCase)];

    /// <summary>Makes the move that takes a machine into a service, without carrying it out. One that runs goes to the stage of its host's role and runs on; a dormant one goes to the nest.</summary>
    /// <param name="machine">The hypervisor's own id of the machine, or its name.</param>
    /// <param name="host">The host it is on; null to look on all of them and in the nest.</param>
    /// <param name="service">The service; null for the one that a mark on the machine names, as on a clone.</param>
    /// <param name="name">The server's name; null for the machine's own where no server has it, else the service's and the next free number.</param>
    /// <param name="force">True to take it from another controller.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <param name="listing">A look at the pool to find it in; null for a new one.</param>
    /// <exception cref="VMatrixException"><c>MachineNotFound</c>, <c>MachineAmbiguous</c>, <c>MachineMarked</c>, <c>ForeignController</c>, <c>ServiceNotNamed</c>, <c>ServiceNotFound</c>, <c>HostNotFound</c>, <c>MachinePaused</c>, <c>ServerNameInvalid</c>, <c>NameTaken</c>.</exception>
    public async Task<Move> PlanRegisterAsync(string machine, string? host, string? service, string? name, bool force, CancellationToken cancellation, PoolListing? listing = null)
    {
        var on = host is null ? null : FindHost(host).Name;
        var seen = listing?.Seen ?? await ObserveAsync(null, cancellation);
        var found = Pick(seen, machine, on);
        if (found.Controller is { } controller && !force)
        {
            throw new VMatrixException("ForeignController", VMatrixErrorKind.Denied,
                $"Machine '{found.Name}' {Where(found)} is a server of another controller, whose pool state has the id {controller}. Have it unregistered there (Unregister-VMatrixServer); if that pool is gone for good, take it over with -Force.");
        }

        if (found.Power is PowerState.Paused or PowerState.Unknown)
        {
            throw new VMatrixException("MachinePaused", VMatrixErrorKind.InvalidState,
                $"Machine '{found.Name}' {Where(found)} is {found.Power}; let it run, save it or stop it, then register it.");
        }

        var spec = FindService(service ?? found.Service
            ?? throw new VMatrixException("ServiceNotNamed", VMatrixErrorKind.InvalidInput, $"Nothing on machine '{found.Name}' {Where(found)} says which service it belongs to; name one of: {string.Join(", ", Spec.Services.Select(s => s.Name))}."));
        var runs = found.Power is PowerState.Running;
        var stage = !runs ? Stage.Nest : FindHost(found.Host!).Role is HostRole.Chamber ? Stage.Chamber : Stage.Matrix;
        var taken = new HashSet<string>(seen.Servers.Select(s => s.Name), StringComparer.OrdinalIgnoreCase);
        if (name is not null && taken.Contains(name))
            throw NameTaken(seen, name);
        string called = name ?? found.Name;
        for (int number = 1; name is null && (taken.Contains(called) || !ServerName.IsValid(called)); number++)
            called = $"{spec.Name}-{number}";
        ServerName.Check(called);
        return new Move
        {
            Id = Guid.NewGuid(),
            Kind = MoveKind.Register,
            ServerId = found.Controller is null ? Guid.NewGuid() : seen.IdUnderOther(found),
            ServerName = called,
            Service = spec.Name,
            FromStage = stage,
            FromHost = found.Host,
            MachineId = found.MachineId,
            ToStage = stage,
            ToHost = runs ? found.Host : null,
            Reason = "Asked for by hand.",
        };
    }

    /// <summary>Makes the move that lets a server go, without carrying it out.</summary>
    /// <exception cref="VMatrixException"><c>ServerNotFound</c>, <c>ServerDisposed</c>.</exception>
    public async Task<Move> PlanUnregisterAsync(Guid server, CancellationToken cancellation, PoolListing? listing = null)
    {
        var seen = listing?.Seen ?? await ObserveAsync(null, cancellation);
        var (info, mark) = seen.Find(server) ?? throw NoServer(server, seen);
        if (info.Stage is Stage.Disposed)
        {
            throw new VMatrixException("ServerDisposed", VMatrixErrorKind.InvalidState,
                $"Server '{info.Name}' is disposed of; restore it first (Restore-VMatrixServer {server}), or delete it for good (Remove-VMatrixServer {server} -Purge).");
        }

        return MoveOf(info, mark, MoveKind.Unregister, info.Stage, info.Host) with { MachineId = mark.MachineId };
    }

    private ForeignMachine Pick(Observation seen, string machine, string? on)
    {
        ForeignMachine[] here = [.. seen.Foreign.Where(m => on is null || string.Equals(m.Host, on, StringComparison.OrdinalIgnoreCase))];
        ForeignMachine[] meant = [.. here.Where(m => string.Equals(m.MachineId, machine, StringComparison.OrdinalIgnoreCase))];
        if (meant.Length == 0)
            meant = [.. here.Where(m => string.Equals(m.Name, machine, StringComparison.OrdinalIgnoreCase))];
        if (meant.Length == 1)
            return meant[0];
        if (meant.Length > 1)
        {
            throw new VMatrixException("MachineAmbiguous", VMatrixErrorKind.InvalidInput,
                $"More than one machine is named '{machine}'; name it by its id and its host: {string.Join(", ", meant.Select(m => $"{m.MachineId} {Where(m)}"))}.");
        }

        var server = seen.Servers.FirstOrDefault(s => string.Equals(s.Name, machine, StringComparison.OrdinalIgnoreCase) || string.Equals(s.Id.ToString(), machine, StringComparison.OrdinalIgnoreCase));
        if (server is not null)
            throw new VMatrixException("MachineMarked", VMatrixErrorKind.InvalidState, $"'{machine}' is server {server.Name} ({server.Id}) of {server.Service} already.");
        throw new VMatrixException("MachineNotFound", VMatrixErrorKind.NotFound,
            $"There is no machine '{machine}' {(on is null ? $"on the hosts of pool '{Spec.Name}'" : $"on host '{on}'")} that is not a server already; Get-VMatrixServer -Foreign lists them.{(seen.Problems.Count == 0 ? "" : " Not all hosts could be read: " + seen.Problems[0])}");
    }

    private static string Where(ForeignMachine machine) => machine.Host is null ? "in the nest" : $"on host '{machine.Host}'";
}
