using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;

namespace VMatrix.Pools;

/// <summary>What must hold between the settings of a pool, and the defaults that depend on other settings.</summary>
internal sealed partial class PoolChecks(PoolNode root, PoolReading reading)
{
    private static readonly Regex s_range = new(@"\A(.*)\[([0-9]+)-([0-9]+)\]\z", RegexOptions.CultureInvariant);

    private readonly List<(PoolNode Node, string Key, ServiceSpec Value)> _services = [.. reading.Made<ServiceSpec>(root["services"], "services")];
    private readonly Dictionary<string, HostSpec> _hosts = new(StringComparer.OrdinalIgnoreCase);

    /// <summary>Whose each folder is: two hosts in one folder would find each other's servers.</summary>
    private readonly Dictionary<string, string> _folders = new(Path.DirectorySeparatorChar == '\\' ? StringComparer.OrdinalIgnoreCase : StringComparer.Ordinal);

    private int _references;

    /// <summary>False when something is wrong with the hosts that would make what is said about room a mistake made twice.</summary>
    private bool _hostsAreSound = true;

    /// <summary>False when hosts may come from groups too, so that any name may be one.</summary>
    private bool _hostsAreKnown = true;

    /// <summary>Adds what is wrong to the findings and returns the pool with every default in place.</summary>
    public PoolSpec Check(PoolSpec pool)
    {
        var state = pool.StateFolder ?? reading.Resolve(".vmatrix");
        var nest = pool.Nest ?? new NestSpec { Folder = "" };
        if (string.IsNullOrEmpty(nest.Folder))
            nest = nest with { Folder = reading.Resolve("nest") };
        _folders.Add(Trim(state), "the state folder");
        TakeFolder(root["nest"] ?? root, "nest", nest.Folder, "the nest's folder", "");

        var hosts = Hosts();
        var inGroups = pool.Hypervisor == "scvmm" && pool.Scvmm.HostGroups.Count > 0;
        if (root["hosts"] is { Kind: NodeKind.List, Items.Count: 0 } none && !inGroups)
            reading.Add(none, "hosts", "hosts is empty; it needs at least one item.");

        // Which hosts are in a group is known when the pool is opened.
        _hostsAreSound &= !inGroups;
        _hostsAreKnown = !inGroups;
        Unique<HostGroupSpec>(root["scvmm"]?["hostGroups"], "scvmm.hostGroups", "group", "host group", g => g.Group);
        var services = Services(pool.Hypervisor);
        Listens();
        Addresses();
        Licences(pool.Licences);
        Room(pool.Licences);
        var simulation = Simulation(pool.Simulation);

        var balancer = pool.Balancer ?? new BalancerSpec { Kind = "" };
        pool = pool with
        {
            Path = reading.FilePath,
            StateFolder = state,
            Hosts = hosts,
            Services = services,
            Nest = nest,
            Simulation = simulation,
            Balancer = balancer with
            {
                Kind = string.IsNullOrEmpty(balancer.Kind) ? pool.Hypervisor == "simulation" ? "simulation" : "haproxy" : balancer.Kind,

                // Only HAProxy is started unless told otherwise; what others bring is mostly there already.
                Own = balancer.Own && (balancer.Kind is not ("script" or "nlb") || root["balancer"]?["own"] is not null),
            },
        };
        SeedsFit(pool);
        SleepersFit(pool);
        BalancerFits(pool);
        OracleFits(pool);
        ScvmmFits(pool);
        if (reading.ChecksFiles)
            FilesAreThere(pool);
        return pool;
    }

    private HostSpec[] Hosts()
    {
        var lines = new Dictionary<string, int>(StringComparer.OrdinalIgnoreCase);
        var addresses = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        var all = new List<HostSpec>();
        var nodes = root["hosts"]?.Items.Count ?? 0;
        foreach (var (node, key, host) in reading.Made<HostSpec>(root["hosts"], "hosts"))
        {
            nodes--;
            if (!reading.IsSound(node, "name", "role", "memory", "cores", "servers", "licences"))
                _hostsAreSound = false;
            if (!reading.IsSound(node, "name"))
                continue;
            if (host.Address is not null && reading.Hypervisor is "qemu" or "simulation")
                Add(node, key, "address", $"{key}.address has no meaning for {reading.Hypervisor}, whose hosts are all on this machine; remove it, or set hypervisor to hyperv or scvmm.");
            if (host.Folder is not null && reading.Hypervisor is not ("qemu" or ""))
                Add(node, key, "folder", $"{key}.folder has no meaning for {reading.Hypervisor}; remove it, or set hypervisor to qemu.");
            foreach (var name in new[] { "credential", "storage", "switch" })
                if (node[name] is not null && reading.Hypervisor.Length > 0 && reading.Hypervisor != "hyperv" && !(name == "credential" && reading.Hypervisor == "scvmm"))
                    Add(node, key, name, $"{key}.{name} has no meaning for {reading.Hypervisor}; remove it, or set hypervisor to hyperv.");
            if (host.FenceScript is not null)
                Script(node, key, "fence", host.FenceScript);

            var told = false;
            foreach (var name in Expand(node["name"]!, $"{key}.name", host.Name, all.Count))
            {
                if (lines.TryGetValue(name.Full, out var line))
                {
                    Add(node, key, "name", $"The host name '{name.Full}' is used twice, first in line {line}; give each host a name of its own.");
                    _hostsAreSound = false;
                    break;
                }

                lines.Add(name.Full, node.Line);
                var made = host with
                {
                    Name = name.Full,
                    Folder = reading.Hypervisor == "qemu" ? Fill(host.Folder, name.Number) ?? reading.Resolve(Path.Combine("hosts", name.Full)) : null,
                    Address = Fill(host.Address, name.Number) ?? (reading.Hypervisor is "hyperv" or "scvmm" ? name.Full : null),
                };
                // One finding for a whole range is enough.
                if (!told && made.Address is not null && addresses.TryGetValue(made.Address, out var other))
                {
                    told = true;
                    Add(node, key, "address", $"The hosts '{other}' and '{made.Name}' have the same address '{made.Address}'; give each its own{(name.Number is null ? "" : ", with {n} for the number of a range")}.");
                }
                else if (made.Address is not null)
                {
                    addresses[made.Address] = made.Name;
                }

                if (!told && made.Folder is not null && reading.IsSound(node, "folder"))
                    told = !TakeFolder(node, key, made.Folder, $"the folder of host '{made.Name}'", name.Number is null ? "" : ", with {n} for the number of a range");
                all.Add(made);
                _hosts[made.Name] = made;
            }
        }

        if (nodes != 0)
            _hostsAreSound = false;
        return [.. all];
    }

    /// <summary>The names that a range stands for; one name for what is no range; none when the range is wrong.</summary>
    private IEnumerable<(string Full, string? Number)> Expand(PoolNode node, string key, string name, int before)
    {
        var match = s_range.Match(name);
        if (!match.Success)
            return [(name, null)];
        var from = int.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture);
        var to = int.Parse(match.Groups[3].Value, CultureInfo.InvariantCulture);
        var digits = match.Groups[2].Value[0] == '0' && match.Groups[2].Length == match.Groups[3].Length ? match.Groups[2].Length : 1;
        if (to < from || to - from + 1 + before > PoolTable.MostHosts)
        {
            reading.Add(node, key, to < from
                ? $"{key} is the range {PoolReading.Show(name)}, which ends before it begins; write the smaller number first."
                : $"{key} is the range {PoolReading.Show(name)}, which makes more than {PoolTable.MostHosts} hosts, the most that a pool may have; make it smaller.");
            _hostsAreSound = false;
            return [];
        }

        return Enumerable.Range(from, to - from + 1).Select(n =>
        {
            var number = n.ToString(CultureInfo.InvariantCulture).PadLeft(digits, '0');
            return (match.Groups[1].Value + number, (string?)number);
        });
    }

    private bool TakeFolder(PoolNode node, string key, string folder, string whose, string how)
    {
        if (_folders.TryGetValue(Trim(folder), out var other))
        {
            Add(node, key, "folder", $"The folder {folder} is {whose} and also {other}; give each a folder of its own{how}.");
            return false;
        }

        _folders.Add(Trim(folder), whose);
        return true;
    }

    private static string Trim(string path) => path.Length > 1 ? path.TrimEnd('/', '\\') : path;

    private static string? Fill(string? text, string? number) => number is null ? text : text?.Replace("{n}", number);

    /// <summary>A file that is run must be there, and nobody but its owner may write it.</summary>
    private void Script(PoolNode node, string path, string key, string script)
    {
        if (!File.Exists(script))
        {
            Add(node, path, key, $"{path}.{key} names {script}, which does not exist; write the script, or remove the key.");
            return;
        }

#if NET
        if (!OperatingSystem.IsWindows() && (File.GetUnixFileMode(script) & (UnixFileMode.GroupWrite | UnixFileMode.OtherWrite)) != 0)
            Add(node, path, key, $"{path}.{key} names {script}, which others than its owner may write; take that right away with chmod go-w.");
#endif
    }

    private ServiceSpec[] Services(string? hypervisor)
    {
        var lines = new Dictionary<string, (int Line, ServiceSpec Service)>(StringComparer.OrdinalIgnoreCase);
        foreach (var (node, key, service) in _services)
        {
            if (!reading.IsSound(node, "name"))
                continue;
            if (lines.TryGetValue(service.Name, out var first))
                Add(node, key, "name", $"The service name '{service.Name}' is used twice, first in line {first.Line}; give each service a name of its own.");
            else
                lines.Add(service.Name, (node.Line, service));
        }

        var made = new List<ServiceSpec>();
        foreach (var (node, key, service) in _services)
        {
            if (service.Least > service.Most && reading.IsSound(node, "least", "most"))
            {
                Add(node, key, node["most"] is null ? "least" : "most", $"{key}.least is {service.Least}, above most, which is {service.Most}; make least smaller or most larger.");
                reading.MarkUnsound(node, "least");
            }

            Image(node, key, service, hypervisor);
            made.Add(service with
            {
                Image = service.Image ?? new ImageSpec(),
                AllowedHosts = HostsOf(node["hosts"], $"{key}.hosts", "allow", service.AllowedHosts),
                ForbiddenHosts = HostsOf(node["hosts"], $"{key}.hosts", "forbid", service.ForbiddenHosts),
                Affinity = ServicesOf(node, key, "affinity", service.Affinity, lines),
                AntiAffinity = ServicesOf(node, key, "antiAffinity", service.AntiAffinity, lines),
            });
        }

        for (var i = 0; i < made.Count; i++)
        {
            var (node, key, service) = (_services[i].Node, _services[i].Key, made[i]);
            _services[i] = (node, key, service);
            foreach (var both in service.AllowedHosts.Intersect(service.ForbiddenHosts, StringComparer.OrdinalIgnoreCase).Take(1))
            {
                Add(node["hosts"]!, $"{key}.hosts", "forbid", $"{key}.hosts both allows and forbids '{both}'; remove it from one of the lists.");
                reading.MarkUnsound(node, "hosts");
            }

            if (service.BeforeDrainScript is not null)
                Script(node, key, "beforeDrain", service.BeforeDrainScript);
            foreach (var both in service.Affinity.Intersect(service.AntiAffinity, StringComparer.OrdinalIgnoreCase).Take(1))
                Add(node, key, "antiAffinity", $"{key} both wants and refuses '{both}' on the same host; remove it from affinity or from antiAffinity.");
            foreach (var mate in service.Affinity)
            {
                if (string.Equals(mate, service.Name, StringComparison.OrdinalIgnoreCase))
                    Add(node, key, "affinity", $"{key}.affinity names the service itself; name another one, or use isolation: shared to let its servers share hosts.");
                else if (service.Isolation == Isolation.Dedicated || lines[mate].Service.Isolation == Isolation.Dedicated)
                    Add(node, key, "affinity", $"{key}.affinity wants '{mate}' on the same host, but '{(service.Isolation == Isolation.Dedicated ? service.Name : mate)}' has isolation: dedicated, which is one live server a host; give both isolation: shared.");
            }
        }

        return [.. made];
    }

    private string[] HostsOf(PoolNode? section, string key, string list, IReadOnlyList<string> names)
    {
        var items = section?[list]?.Items;
        var all = new List<string>();
        for (var i = 0; i < names.Count && items?.Count == names.Count; i++)
        {
            var at = $"{key}.{list}[{i}]";
            foreach (var (name, _) in Expand(items[i], at, names[i], 0))
            {
                if (!_hosts.TryGetValue(name, out var host) && _hostsAreKnown)
                {
                    if (_hostsAreSound)
                        reading.Add(items[i], at, $"{at} names the host '{name}', which is not among the pool's hosts{Suggest(name, _hosts.Keys)}");
                    break;
                }

                if (++_references > PoolTable.MostReferences)
                    throw new PoolSyntaxException(items[i].Line, items[i].Column, "too many names", $"The lists of hosts in this file name more than {PoolTable.MostReferences} hosts, the most that a pool file may; write shorter ones.");
                all.Add(host?.Name ?? name);
            }
        }

        return [.. all.Distinct(StringComparer.OrdinalIgnoreCase)];
    }

    private string[] ServicesOf(PoolNode node, string key, string list, IReadOnlyList<string> names, Dictionary<string, (int Line, ServiceSpec Service)> known)
    {
        var items = node[list]?.Items;
        var all = new List<string>();
        for (var i = 0; i < names.Count && items?.Count == names.Count; i++)
        {
            if (known.TryGetValue(names[i], out var found))
                all.Add(found.Service.Name);
            else
                reading.Add(items[i], $"{key}.{list}[{i}]", $"{key}.{list}[{i}] names the service '{names[i]}', which is not among the pool's services{Suggest(names[i], known.Keys)}");
        }

        return [.. all];
    }

    private static string Suggest(string name, ICollection<string> known) =>
        (known.Count <= 2000 ? Nearest.Of(name, known) : null) is { } near ? $"; did you mean {near}?"
        : known.Count is 0 or > 12 ? "."
        : $"; those are {string.Join(", ", known)}.";

    private void Image(PoolNode node, string key, ServiceSpec service, string? hypervisor)
    {
        if (hypervisor is null || !reading.IsSound(node, "image"))
            return;
        var image = service.Image;
        if (image is null)
        {
            if (hypervisor != "simulation")
            {
                reading.Add(node.Line, node.Column, $"{key}.image", "nothing",
                    $"The key image is missing in {key}; only the services of a simulation go without, so give it {(hypervisor == "qemu" ? "a disk, or a kernel with its initrd" : "a disk")}.");
            }

            return;
        }

        var at = node["image"]!;
        var sound = reading.IsSound(at, "disk", "kernel", "initrd", "append");
        if (!sound)
            return;
        if (hypervisor is "hyperv" or "scvmm")
        {
            if (image.Disk is null)
                Add(node, key, "image", $"{key}.image has no disk, which {hypervisor} needs; {(hypervisor == "hyperv" ? "name the gold VHDX" : "name a virtual hard disk of the VMM library")}.");
            foreach (var name in new[] { "kernel", "initrd", "append", "agent" })
                if (at[name] is not null)
                    Add(at, $"{key}.image", name, $"{key}.image.{name} has no meaning for {hypervisor}; remove it.");
            foreach (var (name, isSet, fits, so) in new[]
            {
                ("userData", image.UserData is not null, image.Specialize is Specialize.CloudInit, "specialize: cloudInit"),
                ("answers", image.Answers is not null, image.Specialize is Specialize.Sysprep, "specialize: sysprep"),
                ("join", image.Join is not null, image.Answers is not null, "answers, the file that it is put into"),
            })
            {
                if (isSet && (hypervisor != "hyperv" || !fits))
                    Add(at, $"{key}.image", name, hypervisor != "hyperv" ? $"{key}.image.{name} has no meaning for {hypervisor}; remove it." : $"{key}.image.{name} goes with {so}; write that too, or remove the key.");
            }

            // The number of its servers is part of their names.
            var example = $"{service.Name}-{(service.Most == int.MaxValue ? 100 : service.Most)}";
            if (hypervisor == "hyperv" && image.Answers is not null && reading.IsSound(node, "name", "most") && (example.Length > 15 || example.IndexOfAny(['.', '_']) >= 0))
                Add(node, key, "name", $"{key}.name is '{service.Name}', and names of its servers, such as {example}, must be names of Windows computers: at most 15 letters, digits and dashes; choose another one.");
            if (image.Warm)
                Add(at, $"{key}.image", "warm", $"{key}.image.warm is true, but {hypervisor} makes no servers from a kept memory: two Windows machines of one memory are one machine to a domain; remove the key.");
            return;
        }

        foreach (var name in new[] { "specialize", "userData", "answers", "join" })
            if (at[name] is not null)
                Add(at, $"{key}.image", name, $"{key}.image.{name} has no meaning for {hypervisor}; remove it.");

        if (hypervisor == "qemu" && image.Disk is null && image.Kernel is null)
            Add(node, key, "image", $"{key}.image has neither a disk nor a kernel; name at least one of them.");
        else if (image.Kernel is null && (image.Initrd ?? image.Append) is not null)
            Add(at, $"{key}.image", image.Initrd is not null ? "initrd" : "append", $"{key}.image has {(image.Initrd is not null ? "an initrd" : "an append line")} and no kernel to go with it; name the kernel, or remove it.");
    }

    private void Listens()
    {
        var seen = new List<(string Address, string Port, string Service)>();
        var owned = (root["balancer"]?["own"]?.Text ?? "true") == "true" && (root["balancer"]?["kind"]?.Text ?? "haproxy") == "haproxy" && reading.Hypervisor is not ("simulation" or "");
        foreach (var (node, key, service) in _services)
        {
            if (!reading.IsSound(node, "listen"))
                continue;
            if (service.Listen is null)
            {
                if (owned)
                {
                    reading.Add(node.Line, node.Column, $"{key}.listen", "nothing",
                        $"The key listen is missing in {key}; a balancer that VMatrix owns must be told where to listen for the service's users, such as listen: 127.0.0.1:8080; or name the balancer that there is already, such as balancer: {{ kind: haproxy, own: false, socket: \"10.0.0.5:9999\" }}.");
                }

                continue;
            }

            var colon = service.Listen.LastIndexOf(':');
            var (address, port) = (service.Listen.Substring(0, colon), service.Listen.Substring(colon + 1));
            foreach (var other in seen)
            {
                // A wildcard takes the port at every address; [::] takes it for version 4 too on most systems.
                if (other.Port == port && (other.Address == address || IsAny(other.Address) || IsAny(address)))
                {
                    Add(node, key, "listen", $"{key}.listen is {service.Listen}, which overlaps where '{other.Service}' listens ({other.Address}:{other.Port}); give each service a port of its own.");
                    break;
                }
            }

            seen.Add((address, port, service.Name));
        }

        static bool IsAny(string address) => address is "0.0.0.0" or "[::]";
    }

    /// <summary>Static addresses that all mean one thing each, in a network that they fit in.</summary>
    private void Addresses()
    {
        var ranges = new List<(AddressRange Range, string Service)>();
        var hosts = _hosts.Values.Select(h => (Host: h, Known: AddressRange.TryRead(h.Address, out var number), Number: number)).Where(h => h.Known).ToArray();
        foreach (var (node, key, service) in _services)
        {
            if (node["addresses"] is not { } at || service.Addresses is not { } addresses)
                continue;
            if (reading.Hypervisor is not ("hyperv" or ""))
            {
                Add(node, key, "addresses", $"{key}.addresses has no meaning for {reading.Hypervisor}; remove it.");
                continue;
            }

            if (!reading.IsSound(at, "range", "prefix", "gateway", "dns"))
                continue;
            var (range, path) = (addresses.Range, $"{key}.addresses");
            var host = uint.MaxValue >> addresses.Prefix;
            var (network, last) = (range.First & ~host, range.First | host);
            if (range.First == network || range.Last >= last)
                Add(at, path, "range", $"{path}.range is {range}, which does not fit between the ends of the network {AddressRange.Show(network)}/{addresses.Prefix}, whose addresses are {AddressRange.Show(network + 1)} to {AddressRange.Show(last - 1)}; change the range or the prefix.");
            if (addresses.Gateway is { } gateway && (!AddressRange.TryRead(gateway, out var router) || (router & ~host) != network || router == network || router == last))
                Add(at, path, "gateway", $"{path}.gateway is {gateway}, which is no address of the network {AddressRange.Show(network)}/{addresses.Prefix}; name the router as servers there see it.");
            foreach (var (name, address) in addresses.Dns.Select(dns => ("dns", dns)).Prepend(("gateway", addresses.Gateway ?? "")).Where(each => range.Contains(each.Item2)))
                Add(at, path, name, $"{path}.{name} is {address}, which is in the range {range}, so that a server would be given it; leave it out of the range.");
            if (Array.Find(hosts, h => h.Number >= range.First && h.Number <= range.Last).Host is { } taken)
                Add(at, path, "range", $"{path}.range is {range}, which holds the address {taken.Address} of the host '{taken.Name}'; leave it out of the range.");
            foreach (var (other, whose) in ranges.Where(other => other.Range.Overlaps(range)).Take(1))
                Add(at, path, "range", $"{path}.range is {range}, which overlaps the addresses of '{whose}' ({other}); give each service addresses of its own.");
            ranges.Add((range, service.Name));
            if (service.Image is { Specialize: Specialize.Sysprep, Answers: null } && reading.IsSound(node, "image"))
                Add(node, key, "addresses", $"{key} has static addresses, and nothing that tells them to Windows; name your answer file as image.answers.");
            if (!reading.IsSound(node, "most", "least"))
                continue;
            if (service.Most == int.MaxValue)
                Add(node, key, "addresses", $"{key} has {range.Count} addresses and no limit to its servers; give it most, of at most {range.Count}.");
            else if (service.Most > range.Count)
                Add(at, path, "range", $"{path}.range is {range}, which holds {range.Count} {(range.Count == 1 ? "address" : "addresses")}, fewer than the {service.Most} servers of most; make it larger, or most smaller.");
        }
    }

    private void Licences(IReadOnlyList<LicenceSpec> terms)
    {
        Unique<LicenceSpec>(root["licences"], "licences", "name", "licence", l => l.Name);
        var known = new HashSet<string>(_hosts.Values.SelectMany(h => h.Licences).Concat(terms.Where(t => t.Seats > 0).Select(t => t.Name)));
        foreach (var (node, key, service) in _services)
        {
            if (service.Licence is null || known.Contains(service.Licence) || !_hostsAreSound)
                continue;
            Add(node, key, "licence", $"{key}.licence is '{service.Licence}', which no host holds and no entry of licences has seats of; name it in a host's licences, or give it seats{Suggest(service.Licence, known)}");
            reading.MarkUnsound(node, "licence");
        }
    }

    private SimulationSpec Simulation(SimulationSpec simulation)
    {
        var node = root["simulation"];
        Unique<DemandSpec>(node?["demand"], "simulation.demand", "service", "demand of service", d => d.Service);
        foreach (var (demand, key, value) in reading.Made<DemandSpec>(node?["demand"], "simulation.demand"))
            if (reading.IsSound(demand, "service") && !_services.Exists(s => s.Value.Name == value.Service))
                Add(demand, key, "service", $"{key}.service names the service '{value.Service}', which is not among the pool's services{Suggest(value.Service, [.. _services.Select(s => s.Value.Name).Where(n => n is not null)])}");
        return simulation with
        {
            Dead = HostsOf(node, "simulation", "dead", simulation.Dead),
            CutOff = HostsOf(node, "simulation", "cutOff", simulation.CutOff),
            HalfDead = HostsOf(node, "simulation", "halfDead", simulation.HalfDead),
        };
    }

    private void Unique<T>(PoolNode? list, string path, string key, string what, Func<T, string> name)
    {
        var lines = new Dictionary<string, int>(StringComparer.OrdinalIgnoreCase);
        foreach (var (node, at, value) in reading.Made<T>(list, path))
        {
            if (!reading.IsSound(node, key))
                continue;
            if (lines.TryGetValue(name(value), out var line))
                Add(node, at, key, $"The {what} '{name(value)}' stands here twice, first in line {line}; remove one of the two.");
            else
                lines.Add(name(value), node.Line);
        }
    }

    /// <summary>Counts of matrix hosts and what they hold.</summary>
    private void Room(IReadOnlyList<LicenceSpec> licences)
    {
        if (!_hostsAreSound || root["hosts"] is not { } hostsNode || reading.Hypervisor.Length == 0)
            return;
        var hosts = _hosts.Values.Where(h => h.Role == HostRole.Matrix).ToArray();
        if (hosts.Length == 0)
        {
            if (_hosts.Count > 0)
                reading.Add(hostsNode, "hosts", "No host has the role matrix, so that no service could carry live load; give at least one host role: matrix.");
            return;
        }

        var demands = new List<PoolRoom.Demand>();
        foreach (var (node, key, service) in _services)
        {
            if (!reading.IsSound(node, "name", "least", "most", "image", "isolation", "hosts", "licence")
                || (node["image"] is { Kind: NodeKind.Map } image && !reading.IsSound(image, "memory", "cores"))
                || (node["hosts"] is { Kind: NodeKind.Map } lists && (!reading.IsSound(lists, "allow", "forbid")
                    || (lists["allow"] is not null && service.AllowedHosts.Count == 0))))
            {
                return;
            }

            var demand = new PoolRoom.Demand(service, hosts, licences);
            demands.Add(demand);
            if (demand.Hosts.Count == 0)
                reading.Add(node["name"]!, key, $"No matrix host can carry '{service.Name}': {demand.Why()}; give it other hosts, or change what it needs.");
            else if (service.Least > demand.Slots)
                Add(node, key, node["least"] is null ? "name" : "least", $"{key}.least is {service.Least}, but the matrix hosts that can carry '{service.Name}' hold {demand.Slots} of its servers at most{demand.And()}; make least smaller, or add hosts.");
        }

        if (demands.TrueForAll(d => d.Hosts.Count > 0 && d.Service.Least <= d.Slots) && PoolRoom.Shortage(demands, hosts) is { } shortage)
            reading.Add(root["services"]!, "services", shortage);
    }

    /// <summary>Hosts read a server's seed from the nest: a folder of one machine is none to the others.</summary>
    private void SeedsFit(PoolSpec pool)
    {
        if (pool.Hypervisor != "hyperv" || !IsOfOneMachine(pool))
            return;
        if (pool.Services.FirstOrDefault(s => s.Image is { Specialize: Specialize.CloudInit } or { Answers: not null }) is { } seeded)
            Add(root["nest"] ?? root, "nest", "folder", $"nest.folder is {pool.Nest.Folder}, a folder of one machine, and every host reads what makes servers of '{seeded.Name}' machines of their own from there; name a share, such as \\\\files\\vmatrix.");
    }

    /// <summary>What sleeps in the nest's share is woken from there by any host, and given up by none.</summary>
    private void SleepersFit(PoolSpec pool)
    {
        if (pool.Hypervisor != "hyperv" || pool.HyperV.Nest != DormantPlace.Share || root["hyperv"] is not { } node || !reading.IsSound(node, "nest", "resumeFailure"))
            return;
        if (IsOfOneMachine(pool))
            Add(root["nest"] ?? root, "nest", "folder", $"nest.folder is {pool.Nest.Folder}, a folder of one machine, and hyperv.nest: share keeps dormant servers there for every host; name a share, such as \\\\files\\vmatrix.");
        if (pool.HyperV.ResumeFailure == ResumeFailure.Boot)
            Add(node, "hyperv", "resumeFailure", "hyperv.resumeFailure is boot, and hyperv.nest: share keeps memories where any host may resume them: one host that fails must not give a memory up for the others. Write refuse, or hyperv.nest: hosts.");
    }

    private static bool IsOfOneMachine(PoolSpec pool) =>
        pool.Hosts.Count > 1 && pool.Nest.Folder is { Length: > 1 } folder && folder[1] == ':' && !folder.Split('\\').Contains("ClusterStorage", StringComparer.OrdinalIgnoreCase);

    private void ScvmmFits(PoolSpec pool)
    {
        var node = root["scvmm"];
        if (pool.Hypervisor != "scvmm" || (node is not null && (node.Kind != NodeKind.Map || !reading.IsSound(node, "server", "library", "share"))))
            return;
        foreach (var (key, value, what) in new[] { ("server", pool.Scvmm.Server, "the VMM management server"), ("library", pool.Scvmm.Library, "the library server that is the nest"), ("share", pool.Scvmm.Share, "the folder on a library share that dormant servers are stored in") })
        {
            if (value is null)
                Add(node ?? root, "scvmm", key, $"scvmm.{key} is missing; the hypervisor is scvmm, so name {what}.");
        }
    }

    private void BalancerFits(PoolSpec pool)
    {
        var node = root["balancer"];
        if (node is not null && (node.Kind != NodeKind.Map || !reading.IsSound(node, "kind", "own", "socket")))
            return;
        var balancer = pool.Balancer;
        if (pool.Hypervisor == "simulation" && balancer.Kind != "simulation")
            Add(node ?? root, "balancer", "kind", $"balancer.kind is {balancer.Kind}, which cannot reach simulated servers; make it simulation, or remove the key.");
        if (balancer.Kind == "nlb" && reading.Hypervisor is not ("hyperv" or "scvmm" or ""))
            Add(node!, "balancer", "kind", $"balancer.kind is nlb, whose nodes are Windows servers of hyperv or scvmm; {reading.Hypervisor} has none. Choose another one.");
        if (balancer.Load is LoadOrigin.Processor && reading.Hypervisor is not ("hyperv" or ""))
            Add(node!, "balancer", "load", $"balancer.load is processor, which only hyperv measures; remove it, so that the balancer's own counts are used.");
        else if (balancer.Load is LoadOrigin.Processor && pool.Services.FirstOrDefault(s => s.Capacity is null) is { } silent)
            Add(node!, "balancer", "load", $"balancer.load is processor, and the service {silent.Name} states no capacity, so that nothing can be made of how busy its servers are; give it one, such as capacity: 100/s.");
        if (balancer.Script is { } script)
        {
            if (balancer.Kind != "script")
                Add(node!, "balancer", "script", $"balancer.script has no meaning for {balancer.Kind}; remove it, or set kind: script.");
            else if (reading.IsSound(node!, "script"))
                Script(node!, "balancer", "script", script);
        }
        else if (balancer.Kind == "script")
        {
            reading.Add(node!, "balancer.script", "The key script is missing in balancer; with kind: script VMatrix must be told which file to run, such as script: balance.ps1.");
        }

        if (balancer.Kind != "haproxy")
            return;
        if (balancer.Own && balancer.Socket is not null)
            Add(node!, "balancer", "socket", "balancer.socket names a balancer to join, but balancer.own is true; remove the socket, or set own: false.");
        if (!balancer.Own && balancer.Socket is null)
            reading.Add(node!, "balancer.socket", "The key socket is missing in balancer; with own: false VMatrix must be told which balancer to join, such as socket: /run/haproxy/admin.sock.");
    }

    private void OracleFits(PoolSpec pool)
    {
        if (root["oracle"] is not { Kind: NodeKind.Map } node)
            return;
        if (pool.Oracle.StaleAfter < pool.Oracle.Interval && reading.IsSound(node, "staleAfter", "interval"))
            Add(node, "oracle", node["staleAfter"] is null ? "interval" : "staleAfter", $"oracle.staleAfter is shorter than oracle.interval, so that every sample would be stale; make staleAfter at least as long.");
        var matrix = pool.Hosts.Count(h => h.Role == HostRole.Matrix);
        if (pool.Oracle.PowerDown && pool.Hypervisor == "qemu")
            Add(node, "oracle", "powerDown", "oracle.powerDown is true, but the hypervisor 'qemu' cannot power hosts down: they are folders of this machine; remove the key.");
        if (_hostsAreSound && pool.Oracle.ReserveHosts >= matrix && matrix > 0)
            Add(node, "oracle", "reserveHosts", $"oracle.reserveHosts is {pool.Oracle.ReserveHosts}, but the pool has {matrix} matrix {(matrix == 1 ? "host" : "hosts")}, of which at least one must carry load; make it smaller.");
    }

    /// <summary>A finding at a key's value, or at its section where the key is not written.</summary>
    private void Add(PoolNode section, string path, string key, string message)
    {
        if (section[key] is { } found)
            reading.Add(found, $"{path}.{key}", message);
        else
            reading.Add(section.Line, section.Column, $"{path}.{key}", "nothing", message);
    }
}
