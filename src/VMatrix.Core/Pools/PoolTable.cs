using System;

namespace VMatrix.Pools;

/// <summary>
/// Every key of a pool file, declared once: the reader, the JSON Schema and about_VMatrix_PoolFile all come from here.
/// To add a key, add a property to the Model and a line here, then run the tests with VMATRIX_UPDATE=1 to write the schema and the docs anew.
/// </summary>
internal static class PoolTable
{
    private const long MiB = 1L << 20;
    private const long TiB = 1L << 40;

    /// <summary>Hosts that a pool may have; more is a slip of the pen in a range.</summary>
    public const int MostHosts = 20_000;

    /// <summary>Services that a pool may have.</summary>
    public const int MostServices = 1_000;

    /// <summary>Names of hosts that all lists of a pool may hold together, ranges written out.</summary>
    public const int MostReferences = 1_000_000;

    public static OneOf Hypervisors { get; } = OneOf.Texts("qemu", "simulation", "hyperv", "scvmm");

    public static PoolSection Host { get; } = new("host", typeof(HostSpec), "A real machine that runs virtual machines.",
    [
        new("name", nameof(HostSpec.Name), Text.HostName, "The host's name, unique in the pool whatever the case of its letters. A range such as host[1-100] or host[001-100] stands for that many equal hosts; in their other texts {n} stands for the number.") { Required = true, Example = "host1" },
        new("role", nameof(HostSpec.Role), OneOf.Values(typeof(HostRole)), "What the host is for: matrix carries servers under live load, chamber is shared by servers under repair."),
        new("memory", nameof(HostSpec.MemoryBytes), new Size(16 * MiB, 64 * TiB, MiB), "Memory that servers may use.") { Required = true, Example = "1 GiB" },
        new("cores", nameof(HostSpec.Cores), new Whole(1, 4096), "Processor cores that servers may count on: twice the machine's own for two virtual ones a core.") { Otherwise = "processors are not counted", Example = "8", Also = ["cpus", "processors"] },
        new("servers", nameof(HostSpec.MostServers), new Whole(1, 100_000), "Most servers at a time.") { Otherwise = "as many as the memory allows", Also = ["slots", "mostServers", "most"] },
        new("folder", nameof(HostSpec.Folder), PathTo.Folder, "The folder that the embedded hypervisor keeps this host's servers in.") { Otherwise = "`hosts/NAME` for qemu, else none", Example = "hosts/host1" },
        new("address", nameof(HostSpec.Address), Text.Line, "Network name or address of a remote host; for hyperv and scvmm only.") { Otherwise = "the host's name for hyperv and scvmm, else none", Example = "hv1.example.com" },
        new("credential", nameof(HostSpec.Credential), Text.Line, "The name of the secret that this host is reached with, never the secret itself; for hyperv and scvmm.") { Otherwise = "the pool's", Example = "hosts-admin" },
        new("storage", nameof(HostSpec.Storage), PathTo.Folder, "The folder that this host keeps its machines in, as the host itself writes it; for hyperv.") { Otherwise = "the pool's", Example = "D:\\VMatrix" },
        new("switch", nameof(HostSpec.Switch), Text.Line, "The virtual switch that servers are connected to on this host; a Chamber may name an isolated one; for hyperv.") { Otherwise = "the pool's", Example = "Isolated" },
        new("faultDomain", nameof(HostSpec.FaultDomain), Text.Name, "Hosts with the same fault domain, such as a rack, are expected to fail together.") { Otherwise = "each host stands alone", Also = ["rack", "zone"], Example = "rack1" },
        new("fence", nameof(HostSpec.FenceScript), PathTo.File, "A script that makes sure that this host is dead and says so with exit code 0. Only its owner may be able to write it.") { Otherwise = "none", Example = "fence.sh" },
        new("licences", nameof(HostSpec.Licences), new ListOf(Text.Name), "Licences that this host holds.") { Also = ["licenses", "licence", "license"], Example = "[SQL]" },
    ]);

    public static PoolSection Licence { get; } = new("licence", typeof(LicenceSpec), "The terms of a software licence. A licence without terms is held by the hosts that name it, for any number of servers.",
    [
        new("name", nameof(LicenceSpec.Name), Text.Name, "The licence's name, as services and hosts name it, letter for letter.") { Required = true, Example = "SQL" },
        new("instancesPerHost", nameof(LicenceSpec.InstancesPerHost), new Whole(1, 100_000), "Most running servers that need it on one licensed host.") { Otherwise = "no limit", Example = "2" },
        new("seats", nameof(LicenceSpec.Seats), new Whole(0, 100_000), "Hosts that may be licensed beside those that name it for good: they are chosen where servers need them."),
        new("reassignAfter", nameof(LicenceSpec.ReassignAfter), new Duration("0s", "3650d"), "How long a licence stays with a chosen host before it may be reassigned."),
    ]);

    public static PoolSection Image { get; } = new("image", typeof(ImageSpec), "What new servers of a service are made from: for qemu a disk, a kernel, or both. The files need not be there when the pool file is read.",
    [
        new("disk", nameof(ImageSpec.Disk), PathTo.FileOrTemplate, "The gold disk (qcow2 or raw for qemu, VHDX for hyperv) or the name of a template or virtual hard disk in the VMM library (scvmm).") { Otherwise = "a guest that lives in its initial RAM disk", Example = "images/finance.qcow2" },
        new("kernel", nameof(ImageSpec.Kernel), PathTo.File, "A kernel to start directly; for qemu.") { Otherwise = "starts from the disk", Example = "guest/vmlinuz" },
        new("initrd", nameof(ImageSpec.Initrd), PathTo.File, "The initial RAM disk that goes with the kernel.") { Otherwise = "none", Example = "guest/initrd" },
        new("append", nameof(ImageSpec.Append), Text.Line, "The kernel's command line, added to what the driver needs.") { Otherwise = "none", Also = ["cmdline"], Example = "quiet" },
        new("memory", nameof(ImageSpec.MemoryBytes), new Size(16 * MiB, 64 * TiB, MiB), "Memory of a server."),
        new("cores", nameof(ImageSpec.Cores), new Whole(1, 4096), "Processor cores of a server.") { Also = ["cpus", "processors"] },
        new("warm", nameof(ImageSpec.Warm), new Flag(), "True to boot the image once, wait for its health check, keep its memory, and make new servers from that."),
        new("specialize", nameof(ImageSpec.Specialize), OneOf.Values(typeof(Specialize)), "How a copy of a Hyper-V gold disk becomes a machine of its own: sysprep when the disk was generalised with it, cloudInit when it holds cloud-init, which a seed disc tells the server's id, name and address, none when its servers may be alike to the last byte."),
        new("userData", nameof(ImageSpec.UserData), PathTo.File, "Your user-data for cloud-init, which goes onto the seed of each server as it is; for hyperv with specialize: cloudInit.") { Otherwise = "none", Example = "portal-cloud.yaml" },
        new("answers", nameof(ImageSpec.Answers), PathTo.File, "Your answer file for Windows, which goes onto a disc for each server with its name, its address and its join put in; for hyperv with specialize: sysprep.") { Otherwise = "the gold disk brings its own", Also = ["unattend", "answerFile"], Example = "unattend.xml" },
        new("join", nameof(ImageSpec.Join), PathTo.Folder, "A folder of files by which servers join their domain, NAME.txt for each, made by djoin /provision /savefile; for hyperv with answers. Without it your answer file says how, or nothing joins.") { Otherwise = "none", Also = ["domainJoin"], Example = "joins" },
        new("agent", nameof(ImageSpec.Agent), OneOf.Texts("qga", "vmatrix"), "What answers inside the guest, so that clock, identity and randomness are set after each wake: qga is the QEMU guest agent, vmatrix the small one of guests that VMatrix builds itself.") { Otherwise = "nothing", Example = "qga" },
    ]);

    public static PoolSection Health { get; } = new("health", typeof(HealthSpec), "How to tell that a server works: an HTTP request, never a bare connect.",
    [
        new("path", nameof(HealthSpec.Path), Text.HttpPath, "The path asked for.") { Also = ["url", "uri"] },
        new("expect", nameof(HealthSpec.Expect), new Whole(100, 599), "The status that means healthy.") { Also = ["status"] },
        new("interval", nameof(HealthSpec.Interval), new Duration("50ms", "1d"), "Time between checks of a server in the Matrix."),
        new("timeout", nameof(HealthSpec.Timeout), new Duration("10ms", "1h"), "How long one check may take."),
        new("failures", nameof(HealthSpec.Failures), new Whole(1, 1000), "Checks in a row that fail before a server counts as broken."),
        new("startTimeout", nameof(HealthSpec.StartTimeout), new Duration("100ms", "1d"), "How long a server may take from its start to its first passed check."),
    ]);

    public static PoolSection ServiceHosts { get; } = new("service hosts", typeof(ServiceSpec), "Which hosts may carry a service. A range of names such as \"host[1-5]\" stands for each of them.",
    [
        new("allow", nameof(ServiceSpec.AllowedHosts), new ListOf(Text.HostName), "The hosts that it may run on.") { Otherwise = "all of the right role", Also = ["allowed"], Example = "[host1, host2]" },
        new("forbid", nameof(ServiceSpec.ForbiddenHosts), new ListOf(Text.HostName), "The hosts that it may not run on.") { Also = ["forbidden", "deny"], Example = "[host3]" },
    ]);

    public static PoolSection Freeze { get; } = new("freeze", typeof(FreezeSpec), "A window of time, each week, in which a service's servers may not be moved, in local time of the machine that plans.",
    [
        new("days", nameof(FreezeSpec.Days), new ListOf(OneOf.Values(typeof(DayOfWeek))), "The days that the window begins on.") { Otherwise = "every day", Example = "[monday, friday]" },
        new("from", nameof(FreezeSpec.From), new TimeOfDay(), "When it begins.") { Required = true, Also = ["start"], Example = "\"22:00\"" },
        new("to", nameof(FreezeSpec.To), new TimeOfDay(), "When it ends; a time not after its begin is on the next day.") { Required = true, Also = ["until", "end"], Example = "\"06:00\"" },
    ]);

    public static PoolSection StaticAddresses { get; } = new("addresses", typeof(AddressSpec), "Static IPv4 addresses for the servers of a service, for hyperv. Each server is given one that nothing else has, and keeps it until it is purged.",
    [
        new("range", nameof(AddressSpec.Range), new Addresses(), "The addresses. Servers that sleep or are disposed of keep theirs, so it holds more than most.") { Required = true, Example = "10.0.5.10-10.0.5.60" },
        new("prefix", nameof(AddressSpec.Prefix), new Whole(8, 30), "How many bits of an address name its network: 24 is the mask 255.255.255.0.") { Required = true, Also = ["mask", "netmask"], Example = "24" },
        new("gateway", nameof(AddressSpec.Gateway), new Address(), "The router that leads out of the network.") { Otherwise = "none", Also = ["router"], Example = "10.0.5.1" },
        new("dns", nameof(AddressSpec.Dns), new ListOf(new Address()), "The servers that guests ask for names.") { Also = ["nameservers"], Example = "[10.0.0.53]" },
    ]);

    public static PoolSection Service { get; } = new("service", typeof(ServiceSpec), "What users reach, such as FINANCE.",
    [
        new("name", nameof(ServiceSpec.Name), Text.Name, "The service's name, unique in the pool whatever the case of its letters.") { Required = true, Example = "FINANCE" },
        new("priority", nameof(ServiceSpec.Priority), new Number(0, 1_000_000, above: true), "How much an unserved request of this service weighs against one of another. The least important is dropped first.") { Also = ["weight"] },
        new("least", nameof(ServiceSpec.Least), new Whole(0, 100_000), "Fewest servers in the Matrix.") { Also = ["min", "minimum", "minServers"] },
        new("most", nameof(ServiceSpec.Most), new Whole(0, 100_000), "Most servers in the Matrix.") { Otherwise = "no limit", Also = ["max", "maximum", "maxServers"] },
        new("image", nameof(ServiceSpec.Image), Image, "What its servers are made from. Only simulated services may leave it out."),
        new("port", nameof(ServiceSpec.Port), new Whole(1, 65535), "The port that it answers on inside the server."),
        new("addresses", nameof(ServiceSpec.Addresses), StaticAddresses, "The static addresses that its servers get, one each; for hyperv. Left out, hyperv.address says where a server's address comes from.") { Also = ["address", "static"] },
        new("listen", nameof(ServiceSpec.Listen), new Listen(), "Where the balancer listens for this service's users. Needed when VMatrix owns the balancer.") { Otherwise = "the balancer is configured by its owner", Also = ["bind", "frontend"], Example = "127.0.0.1:18081" },
        new("health", nameof(ServiceSpec.Health), Health, "How to tell that a server works."),
        new("capacity", nameof(ServiceSpec.Capacity), new Rate(), "Requests per second that one server carries.") { Otherwise = "learned from what a saturated server really carried", Also = ["rate", "requestsPerSecond"], Example = "5/s" },
        new("concurrency", nameof(ServiceSpec.Concurrency), new Whole(1, 1_000_000), "Most requests that the balancer hands to one server at a time. 1 makes the balancer hold the queue.") { Otherwise = "no limit", Also = ["maxconn"], Example = "1" },
        new("serverKeywords", nameof(ServiceSpec.ServerKeywords), Text.Line, "More keywords for its servers in HAProxy, as on a server line of its configuration; {server} stands for the server's name there. A server that joins at run time gets nothing from a default-server line.") { Otherwise = "none", Example = "ssl verify none" },
        new("isolation", nameof(ServiceSpec.Isolation), OneOf.Values(typeof(Isolation)), "Whether its servers share hosts: dedicated is one live server a host, shared as many as the host's memory and servers allow."),
        new("hosts", null, ServiceHosts, "Which hosts may carry it."),
        new("affinity", nameof(ServiceSpec.Affinity), new ListOf(Text.Name), "Services whose servers it wants on the same host; they and it must be shared.") { Example = "[CACHE]" },
        new("antiAffinity", nameof(ServiceSpec.AntiAffinity), new ListOf(Text.Name), "Services (its own name included) whose servers it refuses on the same host.") { Also = ["repel"], Example = "[SPORTS]" },
        new("spread", nameof(ServiceSpec.Spread), new Flag(), "True to spread its servers over fault domains."),
        new("licence", nameof(ServiceSpec.Licence), Text.Name, "A licence that a host must hold to run it.") { Otherwise = "none", Also = ["license"], Example = "SQL" },
        new("retireFirst", nameof(ServiceSpec.RetireFirst), new ListOf(Text.ServerName), "Its servers, by name, that are taken away first when there are more than needed. In these lists * stands for any letters and ? for one.") { Example = "[\"FINANCE-2*\"]" },
        new("protected", nameof(ServiceSpec.Protected), new ListOf(Text.ServerName), "Its servers, by name, that the Oracle never takes away for want of load or for another service. Broken ones are replaced, and suspended hosts are emptied, all the same.") { Example = "[FINANCE-1]" },
        new("neverBalance", nameof(ServiceSpec.NeverBalance), new ListOf(Text.ServerName), "Its servers, by name, that are never moved to balance hosts or to gather servers on fewer of them.") { Example = "[\"*\"]" },
        new("beforeDrain", nameof(ServiceSpec.BeforeDrainScript), PathTo.File, "A script that is run before a server of it leaves the balancer, with VMATRIX_SERVER, VMATRIX_SERVER_ID, VMATRIX_SERVICE, VMATRIX_HOST, VMATRIX_SERVER_ADDRESS and VMATRIX_MOVE in its environment. With any exit code but 0 the server stays. Cut short, it may be run again. Only its owner may be able to write it.") { Otherwise = "none", Example = "before-drain.sh" },
        new("mode", nameof(ServiceSpec.Mode), OneOf.Values(typeof(OracleMode)), "How far the Oracle may go with this service.") { Otherwise = "as oracle.mode says", Example = "confirm" },
        new("freeze", nameof(ServiceSpec.Freeze), new ListOf(Freeze), "Windows of time in which its servers may not be moved.") { Also = ["windows"], Example = "[{ days: [friday], from: \"22:00\", to: \"06:00\" }]" },
    ]);

    public static PoolSection Nest { get; } = new("nest", typeof(NestSpec), "The store of dormant servers and images.",
    [
        new("folder", nameof(NestSpec.Folder), PathTo.Folder, "Where it is; for hyperv a share that every host reaches.") { Otherwise = "`nest`", Also = ["path"], Example = "nest" },
        new("purgeAfter", nameof(NestSpec.PurgeAfter), new Duration("0s", "3650d"), "How long a disposed server can be undone; after that the Oracle, or a switch, deletes it for good. As a clock may be wrong, plans have to find that time passed for as long again, or a day if that is shorter: by default a server is deleted after 8 days."),
        new("maxSleep", nameof(NestSpec.MaxSleep), new Duration("1h", "3650d"), "How long a server may sleep with its memory kept before the Oracle wakes it in the Chamber once, checks it and lets it sleep again; not for scvmm, which does not tell since when one sleeps.") { Otherwise = "for ever", Example = "30d" },
    ]);

    public static PoolSection Balancer { get; } = new("balancer", typeof(BalancerSpec), "What sends requests to the servers in the Matrix.",
    [
        new("kind", nameof(BalancerSpec.Kind), OneOf.Texts("haproxy", "nlb", "script", "simulation"), "The driver: haproxy; nlb for Windows Network Load Balancing, whose nodes are the servers of hyperv or scvmm; script for any other.") { Otherwise = "simulation when the hypervisor is, else haproxy", Also = ["type"], Example = "haproxy" },
        new("own", nameof(BalancerSpec.Own), new Flag(), "True when VMatrix starts and owns it, false to join one that runs already.") { Otherwise = "true for haproxy, else false" },
        new("script", nameof(BalancerSpec.Script), PathTo.File, "The script file that kind: script runs, a PowerShell script (.ps1) or anything that the system can run. It gets -Action attach (with -Service, -Server, the server's id, and -Address), drain or detach (with -Service and -Server), or load; with own: true also start and stop. Each may be called again and must then do nothing more. Exit code 0 means done, 2 that the balancer refuses and that it is of no use to try again, any other that it may be tried again. To load it writes JSON: { \"incarnation\": \"changes when counters begin anew\", \"members\": [ { \"service\", \"server\", \"address\", \"state\": \"ready, draining, maintenance or down\", \"open\" } ], \"services\": [ { \"name\", \"requests\", \"served\", \"refused\", \"errors\", \"queue\", \"sessions\", \"responseMs\" } ] }, with counters since its start. Only its owner may be able to write it.") { Otherwise = "none; needed for kind: script", Example = "balance.ps1" },
        new("socket", nameof(BalancerSpec.Socket), PathTo.Socket, "The runtime socket of the balancer to join: a path, or an address and a port.") { Otherwise = "none; needed when own is false", Example = "/run/haproxy/admin.sock" },
        new("load", nameof(BalancerSpec.Load), OneOf.Values(typeof(LoadOrigin)), "Where load comes from: balancer is the balancer's own counts of requests; processor is how busy the servers' processors are, measured by hyperv for a balancer that counts nothing: a server that is half busy then serves half of its service's capacity, which must be stated."),
        new("drain", nameof(BalancerSpec.DrainTimeout), new Duration("0s", "1d"), "How long to wait for open requests when a server leaves.") { Also = ["drainTime"] },
        new("drainInterval", nameof(BalancerSpec.DrainInterval), new Duration("10ms", "1m"), "How often the balancer is asked whether the open requests of a server that leaves have ended.") { Otherwise = "25ms for haproxy, 1s for script and nlb", Example = "1s" },
        new("queueTimeout", nameof(BalancerSpec.QueueTimeout), new Duration("1ms", "1h"), "How long a request may wait in the balancer's queue before it is refused. An HAProxy that VMatrix owns holds a request as long while no server is up, in steps of a second and for at most a minute.") { Also = ["queue"] },
        new("mostOpen", nameof(BalancerSpec.MostOpen), new Whole(1, 10_000_000), "Most requests that may be open at a service, waiting ones included.") { Otherwise = "the balancer's own default", Also = ["maxconn"], Example = "2000" },
    ]);

    public static PoolSection Oracle { get; } = new("oracle", typeof(OracleSpec), "What makes plans, and how far it may go.",
    [
        new("interval", nameof(OracleSpec.Interval), new Duration("100ms", "1d"), "Time from one switch to the next."),
        new("mode", nameof(OracleSpec.Mode), OneOf.Values(typeof(OracleMode)), "How far it may go by itself: automatic carries plans out at once, confirm lets them wait for a word, shadow makes and scores them and never acts."),
        new("targetUse", nameof(OracleSpec.TargetUse), new Share(above: true), "Share of a server's capacity to plan for."),
        new("mostRate", nameof(OracleSpec.MostRate), new Rate(), "Requests per second that a service can get at all; a sample above is not believed."),
        new("calm", nameof(OracleSpec.Calm), new Duration("0s", "7d"), "A server is given up only when it was not needed for this long."),
        new("horizon", nameof(OracleSpec.Horizon), new Duration("1s", "7d"), "A move must pay for itself within this time."),
        new("season", nameof(OracleSpec.Season), new Duration("1m", "366d"), "Time after which demand repeats itself; the forecast looks one and seven of them back."),
        new("planExpiry", nameof(OracleSpec.PlanExpiry), new Duration("1s", "7d"), "A plan not begun within this time is refused."),
        new("staleAfter", nameof(OracleSpec.StaleAfter), new Duration("100ms", "7d"), "A load sample older than this is not believed."),
        new("holdFor", nameof(OracleSpec.HoldFor), new Duration("0s", "3650d"), "How long a server that was moved by hand is left alone."),
        new("reserveHosts", nameof(OracleSpec.ReserveHosts), new Whole(0, 100_000), "Matrix hosts kept free for the failure of others.") { Also = ["reserve"] },
        new("serverCost", nameof(OracleSpec.ServerCost), new Number(0, 1_000_000), "Cost of holding one server for a minute, in units of the minute's unserved work of one server of priority 1."),
        new("activationCost", nameof(OracleSpec.ActivationCost), new Number(0, 1_000_000), "Cost of one activation, in the same unit."),
        new("copyCost", nameof(OracleSpec.CopyCost), new Number(0, 1_000_000), "Cost of reading or copying one GiB for an activation, in the same unit, on top of activationCost: kept memory that is loaded, a disk that is brought to its host, as the last activations of the service were measured."),
        new("stay", nameof(OracleSpec.Stay), new Number(0, 100), "A server that was moved just now is taken away for another service only when that has a use for this much more of one, as a share of a server; it fades over `horizon`."),
        new("balanceGap", nameof(OracleSpec.BalanceGap), new Share(above: true), "Load balancing between hosts: the gap of memory use above which servers are moved.") { Otherwise = "off", Example = "10%" },
        new("balanceAbove", nameof(OracleSpec.BalanceAbove), new Share(above: true), "With balanceGap, hosts are balanced only while one of them is used above this share.") { Otherwise = "always", Also = ["balanceThreshold"], Example = "70%" },
        new("balanceBy", nameof(OracleSpec.BalanceBy), OneOf.Values(typeof(BalanceMeasure)), "What balanceGap and balanceAbove measure: memory, processor (cores in use of the host's cores), or both, neither of which is made worse for the other. A server that nobody measures counts as using all that it has."),
        new("minSampleCoverage", nameof(OracleSpec.MinSampleCoverage), new Share(), "Share of the servers in the Matrix that must have a good load sample. Below it a plan says so and changes no counts, but for least counts and pinned ones.") { Also = ["coverage"] },
        new("powerDown", nameof(OracleSpec.PowerDown), new Flag(), "True to power idle hosts down and wake them ahead of need."),
        new("powerDownAfter", nameof(OracleSpec.PowerDownAfter), new Duration("0s", "7d"), "A host is powered down once it was idle for this long: the time in which idling costs as much as a power-down and a wake."),
        new("hostCost", nameof(OracleSpec.HostCost), new Number(0, 1_000_000), "Cost of keeping one host up for a minute, in the same unit as serverCost: with powerDown, servers that share hosts are gathered on fewer of them where that saves more within the horizon than the moves cost. 0 for never."),
        new("idleHosts", nameof(OracleSpec.IdleHosts), new Whole(0, 100_000), "Idle matrix hosts that stay powered up, beside those of reserveHosts."),
        new("hostWakeTime", nameof(OracleSpec.HostWakeTime), new Duration("0s", "1d"), "Time that a host takes to wake, until it was measured: hosts are woken so far ahead of the forecast."),
    ]);

    public static PoolSection Limits { get; } = new("limits", typeof(LimitSpec), "What may go on at once, and for how long.",
    [
        new("movesPerHost", nameof(LimitSpec.MovesPerHost), new Whole(1, 10_000), "Most moves at once that touch one host."),
        new("movesPerPool", nameof(LimitSpec.MovesPerPool), new Whole(1, 100_000), "Most moves at once in the pool."),
        new("stepTimeout", nameof(LimitSpec.StepTimeout), new Duration("1s", "1d"), "How long one step of a move may take."),
        new("readTimeout", nameof(LimitSpec.ReadTimeout), new Duration("1s", "1h"), "How long a host, the nest, the balancer or VMM may take to answer when it is only asked; one that takes longer counts as not answering, and the others go on."),
        new("tries", nameof(LimitSpec.Tries), new Whole(1, 100), "Tries of a step that fails for a passing reason, the first one included.") { Also = ["retries"] },
    ]);

    public static PoolSection Demand { get; } = new("demand", typeof(DemandSpec), "What simulated users ask of a service: a wave with some noise on it.",
    [
        new("service", nameof(DemandSpec.Service), Text.Name, "The service.") { Required = true, Example = "FINANCE" },
        new("rate", nameof(DemandSpec.Rate), new Rate(above: false), "Requests per second on average."),
        new("swing", nameof(DemandSpec.Swing), new Share(), "How far the wave rises above and falls below the average, as a share of it."),
        new("period", nameof(DemandSpec.Period), new Duration("1s", "366d"), "Time from one crest of the wave to the next."),
        new("phase", nameof(DemandSpec.Phase), new Share(), "Where in its period the wave begins, as a share of it."),
        new("noise", nameof(DemandSpec.Noise), new Share(), "Spread of the noise, as a share of the rate."),
    ]);

    public static PoolSection Simulation { get; } = new("simulation", typeof(SimulationSpec), "How simulated hosts, servers and loads behave.",
    [
        new("seed", nameof(SimulationSpec.Seed), new Whole(0, int.MaxValue), "Seed of everything that is left to chance."),
        new("bootTime", nameof(SimulationSpec.BootTime), new Duration("0s", "1d"), "Time from a cold start to the first passed health check.") { Also = ["boot"] },
        new("wakeTime", nameof(SimulationSpec.WakeTime), new Duration("0s", "1d"), "Time from a wake to the first passed health check.") { Also = ["wake"] },
        new("hostWakeTime", nameof(SimulationSpec.HostWakeTime), new Duration("0s", "1d"), "Time from waking a host that was powered down until it answers."),
        new("bandwidth", nameof(SimulationSpec.Bandwidth), new Size(1 << 10, TiB), "What copies between hosts and nest, and of saved memory, move in a second."),
        new("disk", nameof(SimulationSpec.DiskBytes), new Size(0, 64 * TiB), "Size of each server's own disk, copied when it changes place."),
        new("capacity", nameof(SimulationSpec.Capacity), new Rate(), "Requests per second that a server carries whose service states no capacity."),
        new("failureRate", nameof(SimulationSpec.FailureRate), new Share(), "Share of the changing calls that fail for a passing reason."),
        new("slowRate", nameof(SimulationSpec.SlowRate), new Share(), "Share of the changing calls that are ten times as slow."),
        new("lostSampleRate", nameof(SimulationSpec.LostSampleRate), new Share(), "Share of the balancer's answers that are lost."),
        new("sharedDisks", nameof(SimulationSpec.SharedDisks), new Flag(), "True when the hosts' disks are reached from everywhere, so that a server of a dead host can be started elsewhere once its disk's lock is free."),
        new("dead", nameof(SimulationSpec.Dead), new ListOf(Text.HostName), "Hosts that are dead: nothing runs on them and they do not answer.") { Example = "[host3]" },
        new("cutOff", nameof(SimulationSpec.CutOff), new ListOf(Text.HostName), "Hosts that run on and cannot be reached, neither by VMatrix nor by the balancer.") { Example = "[host3]" },
        new("halfDead", nameof(SimulationSpec.HalfDead), new ListOf(Text.HostName), "Hosts that answer questions and fail at every change.") { Example = "[host3]" },
        new("demand", nameof(SimulationSpec.Demand), new ListOf(Demand), "What users ask of the services; a service that is missing has no load."),
    ]);

    public static PoolSection HyperV { get; } = new("hyperv", typeof(HyperVSpec), "How Hyper-V hosts are reached and how their machines are kept.",
    [
        new("credential", nameof(HyperVSpec.Credential), Text.Line, "The name of the secret that hosts are reached with, never the secret itself: the full path of an .xml file that the account VMatrix runs as made with Export-Clixml, or a name in SecretManagement.") { Otherwise = "the account that VMatrix runs as", Example = "hosts-admin" },
        new("storage", nameof(HyperVSpec.Storage), PathTo.Folder, "The folder that machines are kept in, as the hosts write it. On a share or a cluster's volume machines move without their disks.") { Otherwise = "each host's own default", Example = "\\\\files\\machines" },
        new("switch", nameof(HyperVSpec.Switch), Text.Line, "The virtual switch that servers are connected to.") { Otherwise = "they are left as they are", Example = "LAN" },
        new("address", nameof(HyperVSpec.Address), OneOf.Values(typeof(AddressSource)), "Where a server's address comes from: adapter is what the guest's integration services tell, dhcp is the server's name, which the network finds."),
        new("addressFamily", nameof(HyperVSpec.AddressFamily), OneOf.Values(typeof(IpFamily)), "Which address is used where a server's adapters tell several; one of the other family only where it tells no other for a while."),
        new("resumeFailure", nameof(HyperVSpec.ResumeFailure), OneOf.Values(typeof(ResumeFailure)), "What is done with a saved state that a host cannot resume: refuse keeps it and refuses the start, boot gives it up and boots from the disk, and says so."),
        new("nest", nameof(HyperVSpec.Nest), OneOf.Values(typeof(DormantPlace)), "Where dormant servers are kept: hosts leaves them registered on the host that they slept on, share exports them into the folder of the nest and takes them off it, so that any host wakes them."),
        new("callsAtOnce", nameof(HyperVSpec.CallsAtOnce), new Whole(1, 64), "Most commands that run at once."),
        new("machineGeneration", nameof(HyperVSpec.MachineGeneration), new Whole(1, 2), "The Hyper-V generation of new machines."),
    ]);

    public static PoolSection HostGroup { get; } = new("hostGroup", typeof(HostGroupSpec), "A host group of VMM, whose hosts are hosts of the pool with the names, memory and processors that VMM tells.",
    [
        new("group", nameof(HostGroupSpec.Group), Text.Line, "The group's path in VMM, or its name where no other group has it. Groups within it are named for themselves.") { Required = true, Example = "All Hosts\\Web" },
        new("role", nameof(HostGroupSpec.Role), OneOf.Values(typeof(HostRole)), "What its hosts are for, as with a host."),
        new("kept", nameof(HostGroupSpec.KeptBytes), new Size(0, 64 * TiB, MiB), "Memory of each host that servers may not use: the host's own share."),
        new("servers", nameof(HostGroupSpec.MostServers), new Whole(1, 100_000), "Most servers at a time on each host.") { Otherwise = "as many as the memory allows" },
    ]);

    public static PoolSection Scvmm { get; } = new("scvmm", typeof(ScvmmSpec), "How SCVMM is reached and where it keeps machines.",
    [
        new("server", nameof(ScvmmSpec.Server), Text.Line, "The VMM management server.") { Otherwise = "none; scvmm asks for it", Example = "vmm1.example.com" },
        new("credential", nameof(ScvmmSpec.Credential), Text.Line, "The name of the secret that the server is reached with, never the secret itself; as in hyperv.") { Otherwise = "the account that VMatrix runs as", Example = "vmm-operator" },
        new("library", nameof(ScvmmSpec.Library), Text.Line, "The library server that is the nest.") { Otherwise = "none; scvmm asks for it", Example = "library1.example.com" },
        new("share", nameof(ScvmmSpec.Share), Text.Line, "The folder on a library share that dormant servers and images are stored in.") { Otherwise = "none; scvmm asks for it", Example = "\\\\library1\\MSSCVMMLibrary\\VMatrix" },
        new("path", nameof(ScvmmSpec.Path), Text.Line, "The folder on hosts that machines are placed in.") { Otherwise = "each host's own default", Example = "D:\\VMs" },
        new("hostGroups", nameof(ScvmmSpec.HostGroups), new ListOf(HostGroup), "Host groups whose hosts are hosts of the pool beside those in hosts, which may be [] then. They are read when the pool is opened."),
        new("callsAtOnce", nameof(ScvmmSpec.CallsAtOnce), new Whole(1, 64), "Most commands that run at once."),
        new("machineGeneration", nameof(ScvmmSpec.MachineGeneration), new Whole(1, 2), "The Hyper-V generation of new machines."),
    ]);

    public static PoolSection Pool { get; } = new("pool", typeof(PoolSpec), "Hosts, services, a nest and a balancer that belong together. Paths are relative to the file's own folder.",
    [
        new("pool", nameof(PoolSpec.Name), Text.Name, "The pool's name.") { Required = true, Also = ["name"], Example = "demo" },
        new("state", nameof(PoolSpec.StateFolder), PathTo.Folder, "The folder in which VMatrix keeps its journal, its locks and its history; never in git.") { Otherwise = "`.vmatrix`", Also = ["stateFolder"], Example = ".vmatrix" },
        new("hypervisor", nameof(PoolSpec.Hypervisor), Hypervisors, "What runs the servers: qemu on this machine, simulation for trying things out, hyperv and scvmm on Windows.") { Required = true, Also = ["driver"], Example = "qemu" },
        new("hosts", nameof(PoolSpec.Hosts), new ListOf(Host, most: MostHosts), "The hosts. May be [] only where scvmm.hostGroups names some.") { Required = true },
        new("services", nameof(PoolSpec.Services), new ListOf(Service, least: 1, most: MostServices), "The services.") { Required = true },
        new("licences", nameof(PoolSpec.Licences), new ListOf(Licence), "Terms of software licences.") { Also = ["licenses"] },
        new("nest", nameof(PoolSpec.Nest), Nest, "The store of dormant servers and images."),
        new("balancer", nameof(PoolSpec.Balancer), Balancer, "What sends requests to the servers in the Matrix."),
        new("oracle", nameof(PoolSpec.Oracle), Oracle, "What makes plans, and how far it may go."),
        new("limits", nameof(PoolSpec.Limits), Limits, "What may go on at once, and for how long."),
        new("simulation", nameof(PoolSpec.Simulation), Simulation, "How simulated hosts, servers and loads behave; used by the simulation drivers only."),
        new("hyperv", nameof(PoolSpec.HyperV), HyperV, "How Hyper-V hosts are reached and how their machines are kept; used by the hyperv driver only."),
        new("scvmm", nameof(PoolSpec.Scvmm), Scvmm, "How SCVMM is reached and where it keeps machines; used by the scvmm driver only."),
    ]);
}
