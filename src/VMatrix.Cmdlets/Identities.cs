using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Names a server: its id, its name, or any object that has one of them. The id is read first.</summary>
public sealed class ServerIdentity
{
    /// <summary>Names a server by its id or its name.</summary>
    /// <param name="text">An id, or a name.</param>
    public ServerIdentity(string text)
    {
        Input = text;
        if (Guid.TryParse(text, out var id))
            Id = id;
        else
            Name = Naming.Whole(text, "server");
    }

    /// <summary>Names a server by its id.</summary>
    /// <param name="id">The id.</param>
    public ServerIdentity(Guid id)
    {
        Input = id;
        Id = id;
    }

    /// <summary>Names a server by itself.</summary>
    /// <param name="server">The server.</param>
    public ServerIdentity(ServerInfo server)
    {
        Input = server;
        (Id, Pool, Generation, IsServer) = (server.Id, server.Pool, server.Generation, true);
    }

    /// <summary>Names the server of a move.</summary>
    /// <param name="move">The move.</param>
    public ServerIdentity(Move move)
    {
        Input = move;
        (Id, Pool) = (move.ServerId, move.Pool);
    }

    /// <summary>Names the server of a move.</summary>
    /// <param name="record">What became of the move.</param>
    public ServerIdentity(MoveRecord record)
    {
        Input = record;
        (Id, Pool) = (record.Move.ServerId, record.Pool);
    }

    // PowerShell unwraps live objects and looks for a constructor of their very type; PSObject takes all that come from elsewhere.

    /// <summary>Names a server by an object, live or from elsewhere: its ServerId, its move's ServerId, its Id, or its Name. An object of a hypervisor's own listing, such as of Hyper-V\Get-VM, names the server that its machine is.</summary>
    /// <param name="value">The object.</param>
    public ServerIdentity(PSObject value)
    {
        Input = value;
        Pool = value.ReadPool();
        IsServer = value.TypeNames.Contains("Deserialized.VMatrix.ServerInfo");
        object? id = value.Read("ServerId") ?? value.Read("Move").Read("ServerId");
        if (id is null && !IsServer && value.Read("VMId") is { } machine)
        {
            // VMM has an id of its own beside the hypervisor's.
            Machines = [.. new[] { machine, value.Read("Id") }.OfType<object>().Select(m => m.ToString()!)];
            return;
        }

        id ??= value.Read("Id");
        if (id is not null)
        {
            Id = Guid.TryParse(id.ToString(), out var parsed) ? parsed
                : throw new ArgumentException($"'{id}' is not the id of a server: an id is a GUID, such as Get-VMatrixServer shows.", nameof(value));
            Generation = int.TryParse(value.Read("Generation")?.ToString(), NumberStyles.None, CultureInfo.InvariantCulture, out int generation) && IsServer ? generation : 0;
        }
        else
        {
            Name = Naming.Whole(value.ReadName(), "server");
        }
    }

    /// <summary>Names a server by a live object of its hypervisor's own listing, whatever its type.</summary>
    /// <param name="value">The object.</param>
    public ServerIdentity(object value)
        : this(PSObject.AsPSObject(value))
    {
        if (value.GetType().Assembly == typeof(ServerInfo).Assembly)
            throw new ArgumentException($"A {value.GetType().Name} is no server; Get-VMatrixServer takes it from the pipeline and shows its servers.", nameof(value));
    }

    /// <summary>The id; null when only a name or a machine is known.</summary>
    public Guid? Id { get; }

    /// <summary>The name; null when the id is known.</summary>
    public string? Name { get; }

    /// <summary>The ids that the server's machine has in its hypervisor's own listing; empty when the server itself was named.</summary>
    internal string[] Machines { get; } = [];

    /// <summary>True for an object that shows a server: what it says of the stage is where the server is, not where it is to go.</summary>
    internal bool IsServer { get; }

    /// <summary>The generation that the object saw; 0 when it says none.</summary>
    internal int Generation { get; }

    /// <summary>The pool that the object comes from; null when it says none.</summary>
    internal string? Pool { get; }

    /// <summary>The server among these; null when there is none.</summary>
    /// <param name="servers">All servers.</param>
    /// <param name="fits">Which are meant where several have the name.</param>
    /// <exception cref="VMatrixException"><c>ServerAmbiguous</c>.</exception>
    internal ServerInfo? FindIn(IReadOnlyList<ServerInfo> servers, Func<ServerInfo, bool> fits)
    {
        if (Id is { } id)
            return servers.FirstOrDefault(s => s.Id == id);
        ServerInfo[] named = [.. servers.Where(s => Machines.Length == 0 ? string.Equals(s.Name, Name, StringComparison.OrdinalIgnoreCase)
            : s.MachineId is not null && Machines.Contains(s.MachineId, StringComparer.OrdinalIgnoreCase))];
        ServerInfo[] meant = [.. named.Where(fits)];
        return (meant.Length == 0 ? named : meant) switch
        {
            [] => null,
            [var one] => one,
            var several => throw Errors.Ambiguous(ToString(), several),
        };
    }

    internal object Input { get; }

    /// <inheritdoc/>
    public override string ToString() => Name ?? Id?.ToString() ?? Machines[0];
}

/// <summary>Names a machine that is not a server: its hypervisor's id or its name, with the host it is on where that is known.</summary>
public sealed class MachineIdentity
{
    /// <summary>Names a machine by its hypervisor's id or its name.</summary>
    /// <param name="text">An id, or a name.</param>
    public MachineIdentity(string text)
    {
        Input = text;
        Text = Naming.Whole(text, "machine");
    }

    /// <summary>Names a machine by its hypervisor's id.</summary>
    /// <param name="id">The id.</param>
    public MachineIdentity(Guid id)
    {
        Input = id;
        Text = id.ToString();
    }

    /// <summary>Names a machine by itself.</summary>
    /// <param name="machine">The machine.</param>
    public MachineIdentity(ForeignMachine machine)
    {
        Input = machine;
        (Text, HostName, Pool) = (machine.MachineId, machine.Host, machine.Pool);
    }

    /// <summary>Names a machine by an object, live or from elsewhere: its MachineId, VMId or Id, else its Name; its Host or ComputerName where it has one. So an object of Hyper-V\Get-VM serves.</summary>
    /// <param name="value">The object.</param>
    public MachineIdentity(PSObject value)
    {
        Input = value;
        Text = Naming.Whole((value.Read("MachineId") ?? value.Read("VMId") ?? value.Read("Id"))?.ToString() ?? value.ReadName(), "machine");
        HostName = (value.Read("Host") ?? value.Read("ComputerName"))?.ToString();
        Pool = value.ReadPool();
    }

    /// <summary>Names a machine by a live object of its hypervisor's own listing, whatever its type.</summary>
    /// <param name="value">The object.</param>
    public MachineIdentity(object value)
        : this(PSObject.AsPSObject(value))
    {
    }

    /// <summary>The hypervisor's id of the machine, or its name.</summary>
    public string Text { get; }

    /// <summary>The host it is on; null when that was not said.</summary>
    public string? HostName { get; }

    /// <summary>The pool that the object comes from; null when it says none.</summary>
    internal string? Pool { get; }

    internal object Input { get; }

    /// <inheritdoc/>
    public override string ToString() => Text;
}

/// <summary>Names a pool: the path of its file or of the folder that pool.yaml lies in, or an object of <c>Get-VMatrixPool</c>.</summary>
public sealed class PoolIdentity
{
    /// <summary>Names a pool by a path.</summary>
    /// <param name="path">The path of its file or folder.</param>
    public PoolIdentity(string path) => Path = Naming.Whole(path, "pool");

    /// <summary>Names a pool by itself.</summary>
    /// <param name="pool">The pool.</param>
    public PoolIdentity(PoolInfo pool) => Path = pool.Path;

    /// <summary>Names a pool by its file or folder.</summary>
    /// <param name="file">The file or folder.</param>
    public PoolIdentity(FileSystemInfo file) => Path = file.FullName;

    /// <summary>Names a pool by an object, live or from elsewhere: its Path, or a file's FullName.</summary>
    /// <param name="value">The object.</param>
    public PoolIdentity(PSObject value) =>
        Path = value.BaseObject as string
            ?? (value.Read("Path") ?? value.Read("FullName"))?.ToString()
            ?? throw new ArgumentException($"'{value}' does not name a pool: give the path of a pool file, or an object of Get-VMatrixPool.", nameof(value));

    /// <summary>The path, as it was given.</summary>
    public string Path { get; }

    /// <inheritdoc/>
    public override string ToString() => Path;
}

/// <summary>Names a service: its name, or an object of <c>Get-VMatrixService</c>.</summary>
public sealed class ServiceIdentity
{
    /// <summary>Names a service by its name.</summary>
    /// <param name="name">The name.</param>
    public ServiceIdentity(string name) => Name = Naming.Whole(name, "service");

    /// <summary>Names a service by itself.</summary>
    /// <param name="service">The service.</param>
    public ServiceIdentity(ServiceInfo service) => (Name, Pool) = (service.Name, service.Pool);

    /// <summary>Names the service that a server belongs to.</summary>
    /// <param name="server">The server.</param>
    public ServiceIdentity(ServerInfo server) => (Name, Pool) = (server.Service, server.Pool);

    /// <summary>Names a service by an object, live or from elsewhere: its Service (as servers and loads have), or its Name.</summary>
    /// <param name="value">The object.</param>
    public ServiceIdentity(PSObject value) => (Name, Pool) = (Naming.Whole(value.Read("Service")?.ToString() ?? value.ReadName(), "service"), value.ReadPool());

    /// <summary>The name.</summary>
    public string Name { get; }

    /// <summary>The pool that the object comes from; null when it says none.</summary>
    internal string? Pool { get; }

    /// <inheritdoc/>
    public override string ToString() => Name;
}

/// <summary>Names a host: its name, or an object of <c>Get-VMatrixHost</c>.</summary>
public sealed class HostIdentity
{
    /// <summary>Names a host by its name.</summary>
    /// <param name="name">The name.</param>
    public HostIdentity(string name) => Name = Naming.Whole(name, "host");

    /// <summary>Names a host by itself.</summary>
    /// <param name="host">The host.</param>
    public HostIdentity(HostInfo host) => (Name, Pool) = (host.Name, host.Pool);

    /// <summary>Names a host by an object, live or from elsewhere: its Name.</summary>
    /// <param name="value">The object.</param>
    public HostIdentity(PSObject value) => (Name, Pool) = (Naming.Whole(value.ReadName(), "host"), value.ReadPool());

    /// <summary>The name.</summary>
    public string Name { get; }

    /// <summary>The pool that the object comes from; null when it says none.</summary>
    internal string? Pool { get; }

    /// <inheritdoc/>
    public override string ToString() => Name;
}

/// <summary>Names what a plan is asked about: a server, a host or a service, by name, by a server's id, or by an object.</summary>
public sealed class SubjectIdentity
{
    /// <summary>Names a server, a host or a service by its name, or a server by its id.</summary>
    /// <param name="name">The name or id.</param>
    public SubjectIdentity(string name)
    {
        if (Guid.TryParse(name, out var id))
            Id = id;
        else
            Name = Naming.Whole(name, "server");
    }

    /// <summary>Names a server by its id.</summary>
    /// <param name="id">The id.</param>
    public SubjectIdentity(Guid id) => Id = id;

    /// <summary>Names a server by itself.</summary>
    /// <param name="server">The server.</param>
    public SubjectIdentity(ServerInfo server) => (Id, Pool) = (server.Id, server.Pool);

    /// <summary>Names the server of a move.</summary>
    /// <param name="move">The move.</param>
    public SubjectIdentity(Move move) => (Id, Pool) = (move.ServerId, move.Pool);

    /// <summary>Names the server of a move.</summary>
    /// <param name="record">What became of the move.</param>
    public SubjectIdentity(MoveRecord record) => (Id, Pool) = (record.Move.ServerId, record.Pool);

    /// <summary>Names a host by itself.</summary>
    /// <param name="host">The host.</param>
    public SubjectIdentity(HostInfo host) => (Name, Pool) = (host.Name, host.Pool);

    /// <summary>Names a service by itself.</summary>
    /// <param name="service">The service.</param>
    public SubjectIdentity(ServiceInfo service) => (Name, Pool) = (service.Name, service.Pool);

    /// <summary>Names a service by the decision for it.</summary>
    /// <param name="decision">The decision.</param>
    public SubjectIdentity(ServiceDecision decision) => Name = decision.Service;

    /// <summary>Names a server, a host or a service by an object, live or from elsewhere: its ServerId, its move's ServerId, its Id, or its Name.</summary>
    /// <param name="value">The object.</param>
    public SubjectIdentity(PSObject value)
    {
        Pool = value.ReadPool();
        object? id = value.Read("ServerId") ?? value.Read("Move").Read("ServerId") ?? value.Read("Id");
        if (id is not null)
            Id = Naming.Id(id.ToString(), "server", "Get-VMatrixServer");
        else
            Name = Naming.Whole(value.ReadName(), "server");
    }

    /// <summary>A server's id; null when only a name is known.</summary>
    public Guid? Id { get; }

    /// <summary>The name; null when the id is known.</summary>
    public string? Name { get; }

    /// <summary>The pool that the object comes from; null when it says none.</summary>
    internal string? Pool { get; }

    /// <inheritdoc/>
    public override string ToString() => Name ?? Id.ToString()!;
}

/// <summary>Names a plan: its id, or an object that has it. What is carried out is the stored plan, never the object.</summary>
public sealed class PlanIdentity
{
    /// <summary>Names a plan by its id.</summary>
    /// <param name="id">The id, as text.</param>
    public PlanIdentity(string id) => Id = Naming.Id(id, "plan", "New-VMatrixPlan");

    /// <summary>Names a plan by its id.</summary>
    /// <param name="id">The id.</param>
    public PlanIdentity(Guid id) => Id = id;

    /// <summary>Names a plan by itself; the stored one is meant.</summary>
    /// <param name="plan">The plan.</param>
    public PlanIdentity(Plan plan) => (Id, Pool) = (plan.Id, plan.Pool);

    /// <summary>Names a plan by what became of it; the stored one is meant.</summary>
    /// <param name="record">What became of it.</param>
    public PlanIdentity(PlanRecord record) => (Id, Pool) = (record.Id, record.Pool);

    /// <summary>Names a plan by an object, live or from elsewhere: its PlanId (as moves have), or its Id.</summary>
    /// <param name="value">The object.</param>
    public PlanIdentity(PSObject value) =>
        (Id, Pool) = (Naming.Id((value.Read("PlanId") ?? value.Read("Id") ?? value.BaseObject)?.ToString(), "plan", "New-VMatrixPlan"), value.ReadPool());

    /// <summary>The id.</summary>
    public Guid Id { get; }

    /// <summary>The pool that the object comes from; null when it says none.</summary>
    internal string? Pool { get; }

    /// <inheritdoc/>
    public override string ToString() => Id.ToString();
}

/// <summary>Names a move: its id, or an object of <c>Get-VMatrixMove</c>.</summary>
public sealed class MoveIdentity
{
    /// <summary>Names a move by its id.</summary>
    /// <param name="id">The id, as text.</param>
    public MoveIdentity(string id) => Id = Naming.Id(id, "move", "Get-VMatrixMove");

    /// <summary>Names a move by its id.</summary>
    /// <param name="id">The id.</param>
    public MoveIdentity(Guid id) => Id = id;

    /// <summary>Names a move by what became of it.</summary>
    /// <param name="record">What became of it.</param>
    public MoveIdentity(MoveRecord record) => (Id, Pool) = (record.Id, record.Pool);

    /// <summary>Names a move by an object, live or from elsewhere: its Id.</summary>
    /// <param name="value">The object.</param>
    public MoveIdentity(PSObject value) => (Id, Pool) = (Naming.Id((value.Read("Id") ?? value.BaseObject)?.ToString(), "move", "Get-VMatrixMove"), value.ReadPool());

    /// <summary>The id.</summary>
    public Guid Id { get; }

    /// <summary>The pool that the object comes from; null when it says none.</summary>
    internal string? Pool { get; }

    /// <inheritdoc/>
    public override string ToString() => Id.ToString();
}

/// <summary>How identities read objects.</summary>
internal static class Naming
{
    /// <summary>A property's value, unwrapped; null where there is none or it is empty, as in a CSV row with a hole.</summary>
    public static object? Read(this object? value, string property)
    {
        if (value is null)
            return null;
        object? found = PSObject.AsPSObject(value).Properties[property]?.Value;
        if (found is PSObject { BaseObject: not PSCustomObject } wrapped)
            found = wrapped.BaseObject;
        return found is string { Length: 0 } ? null : found;
    }

    /// <summary>An object's Name, or the object itself where it is a word or a number.</summary>
    public static string? ReadName(this PSObject value) =>
        value.BaseObject is string or ValueType
            ? Convert.ToString(value.BaseObject, CultureInfo.InvariantCulture)
            : value.Read("Name")?.ToString();

    /// <summary>The pool that an object of ours, from elsewhere or from a file, says it comes from; null for none. Other things' pools are their own.</summary>
    public static string? ReadPool(this PSObject value) => value.BaseObject is PSCustomObject ? value.Read("Pool") as string : null;

    public static Guid Id(string? text, string what, string from) =>
        Guid.TryParse(text, out var id) ? id : throw new ArgumentException($"'{text}' is not the id of a {what}: an id is a GUID, such as {from} shows.");

    public static string Whole(string? name, string what) =>
        string.IsNullOrWhiteSpace(name) ? throw new ArgumentException($"This names no {what}: it has neither an id nor a name.")
        : what is not ("pool" or "machine") && WildcardPattern.ContainsWildcardCharacters(name)
            ? throw new ArgumentException($"'{name}' has wildcards; here a {what} is named exactly. Use Get-VMatrix{char.ToUpperInvariant(what[0])}{what.Substring(1)} with the wildcard and pipe what it finds.")
        : name!;
}
