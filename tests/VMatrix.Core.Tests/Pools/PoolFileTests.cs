using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using VMatrix.Pools;
using Xunit;

namespace VMatrix.Tests.Pools;

public sealed class PoolFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-pools-").FullName;

    private string PoolPath => Path.Combine(_folder, "pool.yaml");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private (PoolSpec? Pool, IReadOnlyList<PoolFinding> Findings) Read(string text) => PoolFile.Read(PoolPath, Encoding.UTF8.GetBytes(text));

    private const string Good = """
        pool: demo
        hypervisor: qemu
        hosts:
          - name: host1
            memory: 1 GiB
          - name: host2
            memory: 1.5 GiB
            role: matrix
          - name: fix
            role: chamber
            memory: 512 MiB
        services:
          - name: FINANCE
            priority: 4
            most: 2
            listen: 127.0.0.1:18081
            image: { kernel: guest/vmlinuz, initrd: guest/initrd.img }
          - name: SPORTS
            listen: 127.0.0.1:18082
            image: { disk: sports.qcow2, memory: 256 MiB }
            health: { path: /health }

        """;

    [Fact]
    public void A_good_file_is_read_with_its_defaults()
    {
        File.WriteAllText(PoolPath, Good);
        var (pool, findings) = PoolFile.Read(PoolPath);

        Assert.Empty(findings);
        Assert.NotNull(pool);
        Assert.Equal("demo", pool.Name);
        Assert.Equal(PoolPath, pool.Path);
        Assert.Equal(Path.Combine(_folder, ".vmatrix"), pool.StateFolder);
        Assert.Equal(Path.Combine(_folder, "nest"), pool.Nest.Folder);
        Assert.Equal(TimeSpan.FromDays(7), pool.Nest.PurgeAfter);
        Assert.Equal("haproxy", pool.Balancer.Kind);
        Assert.Equal(new OracleSpec(), pool.Oracle);
        Assert.Equal(new LimitSpec(), pool.Limits);

        Assert.Equal(["host1", "host2", "fix"], pool.Hosts.Select(h => h.Name));
        Assert.Equal([1L << 30, 3L << 29, 1L << 29], pool.Hosts.Select(h => h.MemoryBytes));
        Assert.Equal([HostRole.Matrix, HostRole.Matrix, HostRole.Chamber], pool.Hosts.Select(h => h.Role));
        Assert.Equal(Path.Combine(_folder, "hosts", "host2"), pool.Hosts[1].Folder);

        var finance = pool.Services[0];
        Assert.Equal((4.0, 1, 2, 80, "127.0.0.1:18081"), (finance.Priority, finance.Least, finance.Most, finance.Port, finance.Listen));
        Assert.Equal(new ImageSpec { Kernel = Path.Combine(_folder, "guest", "vmlinuz"), Initrd = Path.Combine(_folder, "guest", "initrd.img") }, finance.Image);
        Assert.Equal(int.MaxValue, pool.Services[1].Most);
        Assert.Equal(256L << 20, pool.Services[1].Image.MemoryBytes);
        Assert.Equal("/health", pool.Services[1].Health.Path);
    }

    [Theory]
    [InlineData("examples/demo/pool.yaml")]
    [InlineData("examples/hyperv/pool.yaml")]
    [InlineData("examples/scvmm/pool.yaml")]
    [InlineData("examples/simulation/pool.yaml")]
    public void The_examples_are_right(string path)
    {
        var (pool, findings) = PoolFile.Read(Repository.File(path));
        Assert.Empty(findings.Select(f => f.ToString()));
        Assert.NotNull(pool);
    }

    [Fact]
    public void Ranges_stand_for_many_hosts()
    {
        var (pool, findings) = Read("""
            pool: big
            hypervisor: hyperv
            hosts:
              - name: hv[08-11]
                memory: 1 TiB
                address: hv{n}.example.com
              - name: fix[1-2]
                role: chamber
                memory: 1 TiB
            services:
              - name: WEB
                listen: "*:80"
                image: { disk: C:\images\web.vhdx }
                hosts: { forbid: ["hv[08-09]"] }
            """);
        Assert.Empty(findings);
        Assert.Equal(["hv08", "hv09", "hv10", "hv11", "fix1", "fix2"], pool!.Hosts.Select(h => h.Name));
        Assert.Equal(["hv08.example.com", "hv09.example.com", "hv10.example.com", "hv11.example.com", "fix1", "fix2"], pool.Hosts.Select(h => h.Address));
        Assert.All(pool.Hosts, h => Assert.Null(h.Folder));
        Assert.Equal(["hv08", "hv09"], pool.Services[0].ForbiddenHosts);
        Assert.Equal("0.0.0.0:80", pool.Services[0].Listen);
        Assert.Equal(@"C:\images\web.vhdx", pool.Services[0].Image.Disk);
    }

    /// <summary>A good file with one change; what must be found, where, under which key, and words of the sentence.</summary>
    public static TheoryData<string, string, int, int, string, string> Mistakes => new()
    {
        // Keys.
        { "priority: 4", "prioritty: 4", 14, 5, "services[0].prioritty", "did you mean priority?" },
        { "    most: 2", "    max: 2", 15, 5, "services[0].max", "did you mean most?" },
        { "pool: demo", "name: demo\npool: demo", 1, 1, "name", "did you mean pool?" },
        { "pool: demo", "Pool: demo\npool: demo", 1, 1, "Pool", "did you mean pool?" },
        { "    priority: 4", "    priority: 4\n    priority: 5", 15, 5, "services[0].priority", "first in line 14" },
        { "    priority: 4", "    ? [a]\n    : 4", 14, 7, "services[0]", "A key must be a word" },
        { "pool: demo\n", "", 1, 1, "pool", "The key pool is missing" },
        { "    memory: 1 GiB\n", "", 4, 5, "hosts[0].memory", "memory is missing" },
        { "    priority: 4", "    priority:", 14, 5, "services[0].priority", "has no value" },
        { "    priority: 4", "    priority: ~", 14, 15, "services[0].priority", "has no value" },

        // Kinds of values.
        { "memory: 1 GiB", "memory: 1 GB", 5, 13, "hosts[0].memory", "write 1 GiB" },
        { "memory: 1 GiB", "memory: 1024", 5, 13, "hosts[0].memory", "no unit" },
        { "memory: 1 GiB", "memory: 1 gib", 5, 13, "hosts[0].memory", "write 1 GiB" },
        { "memory: 1 GiB", "memory: -1 GiB", 5, 13, "hosts[0].memory", "must be a size" },
        { "memory: 1 GiB", "memory: 1 MiB", 5, 13, "hosts[0].memory", "from 16 MiB" },
        { "memory: 1 GiB", "memory: 1000.3 MiB", 5, 13, "hosts[0].memory", "not a whole number of MiB" },
        { "memory: 1 GiB", "memory: 99999999999999999999999999999 GiB", 5, 13, "hosts[0].memory", "must be a size" },
        { "memory: 1 GiB", "memory: [1 GiB]", 5, 13, "hosts[0].memory", "not a list" },
        { "memory: 1 GiB", "memory: { most: 1 GiB }", 5, 13, "hosts[0].memory", "not a section" },
        { "{ path: /health }", "{ path: /health, interval: 10 }", 21, 40, "services[1].health.interval", "write 10s" },
        { "{ path: /health }", "{ path: /health, interval: 10 sec }", 21, 40, "services[1].health.interval", "the units are" },
        { "{ path: /health }", "{ path: /health, interval: 1000d }", 21, 40, "services[1].health.interval", "must be a time from 50ms to 1d" },
        { "{ path: /health }", "{ path: health }", 21, 21, "services[1].health.path", "begins with /" },
        { "{ path: /health }", "/health", 21, 13, "services[1].health", "must be a section" },
        { "priority: 4", "priority: high", 14, 15, "services[0].priority", "must be a number above 0" },
        { "priority: 4", "priority: 0", 14, 15, "services[0].priority", "above 0" },
        { "priority: 4", "licence: ''", 14, 14, "services[0].licence", "not an empty text" },
        { "priority: 4", "licence: ''''", 14, 14, "services[0].licence", "not '''" },
        { "priority: 4", "priority: .nan", 14, 15, "services[0].priority", "must be a number" },
        { "priority: 4", "priority: \"4\"", 14, 15, "services[0].priority", "without quotes" },
        { "priority: 4", "spread: yes", 14, 13, "services[0].spread", "write true" },
        { "priority: 4", "capacity: fast", 14, 15, "services[0].capacity", "5/s" },
        { "priority: 4", "capacity: 0", 14, 15, "services[0].capacity", "above 0" },
        { "priority: 4", "least: 1.5", 14, 12, "services[0].least", "whole number" },
        { "priority: 4", "port: 70000", 14, 11, "services[0].port", "from 1 to 65535" },
        { "priority: 4", "licence: 2019", 14, 14, "services[0].licence", "put it in quotes" },
        { "priority: 4", "isolation: shred", 14, 16, "services[0].isolation", "did you mean shared?" },
        { "priority: 4", "affinity: SPORTS", 14, 15, "services[0].affinity", "write [SPORTS]" },
        { "priority: 4", "freeze: [{ from: \"25:00\", to: \"06:00\" }]", 14, 22, "services[0].freeze[0].from", "time of day" },
        { "priority: 4", "freeze: [{ from: \"22:00\" }]", 14, 14, "services[0].freeze[0].to", "to is missing" },
        { "name: FINANCE", "name: FIN ANCE", 13, 11, "services[0].name", "letters, digits" },
        { "hypervisor: qemu", "hypervisor: qmeu", 2, 13, "hypervisor", "did you mean qemu?" },
        { "role: chamber", "role: repair", 10, 11, "hosts[2].role", "matrix or chamber" },
        { "disk: sports.qcow2", "disk: ~/sports.qcow2", 20, 20, "services[1].image.disk", "write the full path" },
        { "pool: demo", "pool: demo\nstate: pool.d\nstate: x", 3, 1, "state", "first in line 2" },

        // Where services listen.
        { "127.0.0.1:18081", "127.0.0.1", 16, 13, "services[0].listen", "an IP address and a port" },
        { "127.0.0.1:18081", "127.0.0.1:0", 16, 13, "services[0].listen", "from 1 to 65535" },
        { "127.0.0.1:18081", "127.0.0.300:80", 16, 13, "services[0].listen", "an IP address and a port" },
        { "127.0.0.1:18081", "127.1:80", 16, 13, "services[0].listen", "an IP address and a port" },
        { "127.0.0.1:18081", "localhost:80", 16, 13, "services[0].listen", "write 127.0.0.1" },
        { "127.0.0.1:18082", "127.0.0.1:18081", 19, 13, "services[1].listen", "overlaps where 'FINANCE' listens" },
        { "127.0.0.1:18082", "\"*:18081\"", 19, 13, "services[1].listen", "overlaps where 'FINANCE' listens" },
        { "    listen: 127.0.0.1:18082\n", "", 18, 5, "services[1].listen", "listen is missing" },

        // References and names.
        { "name: host2", "name: HOST1", 6, 11, "hosts[1].name", "used twice, first in line 4" },
        { "name: SPORTS", "name: finance", 18, 11, "services[1].name", "used twice, first in line 13" },
        { "priority: 4", "hosts: { allow: [host1, hots2] }", 14, 29, "services[0].hosts.allow[1]", "did you mean host2?" },
        { "priority: 4", "hosts: { allow: [host1], forbid: [HOST1, host2] }", 14, 38, "services[0].hosts.forbid", "both allows and forbids 'host1'" },
        { "priority: 4", "antiAffinity: [SPROTS]", 14, 20, "services[0].antiAffinity[0]", "did you mean SPORTS?" },
        { "priority: 4", "antiAffinity: [SPORTS, SPORTS]", 14, 28, "services[0].antiAffinity[1]", "twice" },
        { "priority: 4", "affinity: [SPORTS]", 14, 15, "services[0].affinity", "give both isolation: shared" },
        { "priority: 4", "affinity: [FINANCE]", 14, 15, "services[0].affinity", "names the service itself" },
        { "    memory: 1 GiB", "    memory: 1 GiB\n    folder: nest", 6, 13, "hosts[0].folder", "also the nest's folder" },
        { "    memory: 1 GiB", "    memory: 1 GiB\n    folder: hosts/host2", 7, 5, "hosts[1].folder", "also the folder of host 'host1'" },
        { "    memory: 1 GiB", "    memory: 1 GiB\n    fence: no-such.sh", 6, 12, "hosts[0].fence", "does not exist" },
        { "    memory: 1 GiB", "    memory: 1 GiB\n    address: 10.0.0.1", 6, 14, "hosts[0].address", "no meaning for qemu" },
        { "name: host1", "name: host[3-1]", 4, 11, "hosts[0].name", "ends before it begins" },
        { "name: host1", "name: host[1-999999]", 4, 11, "hosts[0].name", "more than 20000 hosts" },
        { "name: host1", "name: host[1-2]", 6, 11, "hosts[1].name", "'host2' is used twice" },

        // Room.
        { "    most: 2", "    least: 3\n    most: 2", 16, 11, "services[0].most", "least is 3, above most, which is 2" },
        { "    most: 2", "    most: 0", 15, 11, "services[0].most", "least is 1, above most, which is 0" },
        { "    most: 2", "    least: 3", 15, 12, "services[0].least", "hold 2 of its servers at most" },
        { "    most: 2", "    least: 2", 13, 3, "services", "need 3 matrix hosts" },
        { "memory: 256 MiB", "memory: 2 GiB", 18, 11, "services[1]", "2 have less memory than its 2 GiB (the largest has 1536 MiB)" },
        { "services:", "licences: [{ name: SQL }, { name: sql }]\nservices:", 12, 35, "licences[1].name", "stands here twice" },
        { "services:", "simulation: { demand: [{ service: SPROTS, rate: 3 }], dead: [fix] }\nservices:", 12, 35, "simulation.demand[0].service", "did you mean SPORTS?" },
        { "services:", "simulation: { dead: [fxi] }\nservices:", 12, 22, "simulation.dead[0]", "did you mean fix?" },
        { "priority: 4", "hosts: { allow: [fix] }", 13, 11, "services[0]", "2 are not allowed" },
        { "priority: 4", "licence: SQL", 14, 14, "services[0].licence", "which no host holds" },
        { "priority: 4", "hosts: { allow: [host1] }\n    least: 2", 15, 12, "services[0].least", "hold 1 of its servers" },

        // Image, balancer, Oracle.
        { "    image: { disk: sports.qcow2, memory: 256 MiB }\n", "", 18, 5, "services[1].image", "image is missing" },
        { "disk: sports.qcow2, ", "", 20, 12, "services[1].image", "neither a disk nor a kernel" },
        { "kernel: guest/vmlinuz, ", "disk: a.img, ", 17, 35, "services[0].image.initrd", "no kernel to go with it" },
        { "services:", "balancer: { own: false }\nservices:", 12, 11, "balancer.socket", "socket is missing" },
        { "services:", "balancer: { socket: /run/x }\nservices:", 12, 21, "balancer.socket", "own is true" },
        { "services:", "balancer: { kind: nlb }\nservices:", 12, 19, "balancer.kind", "qemu has none" },
        { "services:", "balancer: { load: processor }\nservices:", 12, 19, "balancer.load", "only hyperv measures" },
        { "services:", "balancer: { kind: script }\nservices:", 12, 11, "balancer.script", "script is missing" },
        { "services:", "balancer: { kind: script, script: none.ps1 }\nservices:", 12, 35, "balancer.script", "does not exist" },
        { "services:", "balancer: { script: none.ps1 }\nservices:", 12, 21, "balancer.script", "no meaning for haproxy" },
        { "services:", "oracle: { powerDown: true }\nservices:", 12, 22, "oracle.powerDown", "the hypervisor 'qemu' cannot power hosts down" },
        { "services:", "oracle: { reserveHosts: 2 }\nservices:", 12, 25, "oracle.reserveHosts", "the pool has 2 matrix hosts" },
        { "services:", "oracle: { interval: 1m }\nservices:", 12, 21, "oracle.interval", "every sample would be stale" },
        { "services:", "oracle: { targetUse: 170% }\nservices:", 12, 22, "oracle.targetUse", "a share" },

        // Secrets.
        { "pool: demo", "pool: demo\nadminPassword: x", 2, 1, "adminPassword", "secrets do not belong" },
        { "priority: 4", "api-key: x", 14, 5, "services[0].api-key", "secrets do not belong" },
        { "kernel: guest/vmlinuz", "kernel: guest/vmlinuz, append: quiet password=hunter2", 17, 45, "services[0].image.append", "secrets do not belong" },
    };

    /// <summary>Hosts h1 to h4 and services, one a line as <c>name least isolation</c> and more keys; the sentence expected, or null when there is room.</summary>
    [Theory]
    [InlineData("memory: 1 GiB", "A, least: 2|B, least: 2", null)]
    [InlineData("memory: 1 GiB", "A, least: 2|B, least: 3", "need 5 matrix hosts for their least servers (A 2 + B 3)")]
    [InlineData("memory: 1 GiB", "A, least: 2|B, least: 2, isolation: shared, image: { memory: 512 MiB }|C, least: 2, isolation: shared, image: { memory: 512 MiB }", null)]
    [InlineData("memory: 1 GiB", "A, least: 3|B, least: 2, isolation: shared, image: { memory: 512 MiB }|C, least: 1, isolation: shared, image: { memory: 512 MiB }", "(B 2 + C 1) need 1536 MiB of memory, but what dedicated services leave to them (1 of 4 matrix hosts) holds")]
    [InlineData("memory: 1 GiB, cores: 2", "A, image: { cores: 3 }", "4 have fewer cores than its 3")]
    [InlineData("memory: 1 GiB, cores: 2", "A, least: 9, isolation: shared", "hold 8 of its servers at most; make")]
    [InlineData("memory: 1 GiB, cores: 4", "A, least: 2|B, least: 2, isolation: shared, image: { cores: 3 }|C, least: 1, isolation: shared, image: { cores: 3 }", "(B 2 + C 1) need 9 cores, but what dedicated services leave to them (2 of 4 matrix hosts) holds")]
    [InlineData("memory: 1 GiB, servers: 2", "A, least: 4, isolation: shared|B, least: 5, isolation: shared", "(A 4 + B 5) need 9 places, but what dedicated services leave to them (4 of 4 matrix hosts) holds")]
    [InlineData("memory: 1 GiB", "A, least: 2, hosts: { allow: [h1, h2] }|B, least: 1, hosts: { allow: [h2] }|C, hosts: { forbid: [h1] }", "'A' and 'B' need 3 matrix hosts for their least servers (A 2 + B 1), one each because of isolation: dedicated, but only 2 can carry any of them")]
    [InlineData("memory: 1 GiB", "A, least: 2|B, least: 1, hosts: { allow: [h1] }|C, hosts: { allow: [h2] }", null)]
    [InlineData("memory: 1 GiB", "A, least: 2, hosts: { allow: [h1, h2, h3] }|B, hosts: { allow: [h1, h2] }|C, hosts: { allow: [h1] }", "but only 3 can carry any of them")]
    [InlineData("memory: 1 GiB", "A, least: 4, licence: SQL", "hold 2 of its servers")]
    [InlineData("memory: 1 GiB", "A, least: 4, licence: WIN", null)]
    [InlineData("memory: 1 GiB", "A, least: 5, isolation: shared, licence: SQL", "hold 4 of its servers")]
    public void Room_for_the_least_servers_is_counted(string host, string services, string? words)
    {
        var text = "pool: p\nhypervisor: simulation\nhosts:\n"
            + string.Concat(Enumerable.Range(1, 4).Select(i => $"- {{ name: h{i}, {host}{(i <= 2 ? ", licences: [SQL]" : "")} }}\n"))
            + "licences: [{ name: SQL, instancesPerHost: 2 }, { name: WIN, seats: 4 }]\nservices:\n"
            + string.Concat(services.Split('|').Select(s => $"- {{ name: {s} }}\n"));
        var (pool, findings) = Read(text);
        if (words is null)
        {
            Assert.Empty(findings);
            PoolRules.Hold(pool!);
        }
        else
        {
            Assert.Contains(words, Assert.Single(findings).Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void A_mistake_is_found_where_it_is(string from, string to, int line, int column, string key, string words)
    {
        Assert.Contains(from, Good, StringComparison.Ordinal);
        var at = Good.IndexOf(from, StringComparison.Ordinal);
        var (pool, findings) = Read(Good.Remove(at, from.Length).Insert(at, to));

        Assert.Null(pool);
        var finding = Assert.Single(findings);
        Assert.Equal((line, column, key), (finding.Line, finding.Column, finding.Key));
        Assert.Contains(words, finding.Message, StringComparison.Ordinal);
        Assert.Equal(PoolPath, finding.Path);
        Assert.NotEmpty(finding.Found);
        Assert.Matches(@"[^.?\s][.?]$", finding.Message);
        Assert.DoesNotContain("hunter2", finding.ToString() + finding.Found, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_mistake_is_found_at_once()
    {
        var (pool, findings) = Read("""
            pool: bad
            hypervisor: qmeu
            state: ~/x
            hosts:
              - name: host1
                memory: 1 GB
                folder: nest
                rack: r1
              - name: host1
                memory: 64 GiB
                token: abc
              - host3
            services:
              - name: FINANCE
                least: 5
                most: 2
                image: { kernel: 5 }
                capacity: 5/d
                listen: 127.0.0.1
                affinity: [SPROTS]
              - name: SPORTS
                min: 2
                priority: high
                health: { path: health, interval: 10 }
            balancer:
            oracle: { mode: manual, calm: ten }
            """);
        Assert.Null(pool);
        Assert.Equal(
            [
                (2, "hypervisor"), (3, "state"), (6, "hosts[0].memory"), (8, "hosts[0].rack"), (9, "hosts[1].name"), (11, "hosts[1].token"), (12, "hosts[2]"),
                (16, "services[0].most"), (17, "services[0].image.kernel"), (18, "services[0].capacity"), (19, "services[0].listen"), (20, "services[0].affinity[0]"),
                (22, "services[1].min"), (23, "services[1].priority"), (24, "services[1].health.path"), (24, "services[1].health.interval"), (26, "oracle.mode"), (26, "oracle.calm"),
            ],
            findings.Select(f => (f.Line, f.Key)));
        Assert.DoesNotContain(findings, f => f.Message.Contains("abc", StringComparison.Ordinal) || f.Found.Contains("abc", StringComparison.Ordinal));
    }

    [Fact]
    public void Files_and_folders_are_not_taken_for_each_other()
    {
        Directory.CreateDirectory(Path.Combine(_folder, "sports.qcow2"));
        File.WriteAllText(Path.Combine(_folder, ".vmatrix"), "");
        var (_, findings) = Read(Good.Replace("hypervisor:", "state: .vmatrix\nhypervisor:", StringComparison.Ordinal));
        Assert.Equal(["state", "services[1].image.disk"], findings.Select(f => f.Key));
        Assert.Contains("there is a file at that place", findings[0].Message, StringComparison.Ordinal);
        Assert.Contains("there is a folder at that place", findings[1].Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void A_fence_that_others_may_write_is_refused()
    {
        if (OperatingSystem.IsWindows())
            throw new SkipException("need Linux");
        var script = Path.Combine(_folder, "fence.sh");
        var text = Good.Replace("    memory: 1 GiB", "    memory: 1 GiB\n    fence: fence.sh", StringComparison.Ordinal);
        File.WriteAllText(script, "#!/bin/sh\nexit 0\n");
        File.SetUnixFileMode(script, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupRead);
        var (pool, findings) = Read(text);
        Assert.Empty(findings);
        Assert.Equal(script, pool!.Hosts[0].FenceScript);

        File.SetUnixFileMode(script, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupWrite);
        Assert.Contains("others than its owner may write", Assert.Single(Read(text).Findings).Message, StringComparison.Ordinal);
    }
}
