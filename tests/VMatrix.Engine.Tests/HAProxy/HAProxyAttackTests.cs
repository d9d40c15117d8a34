using System;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Runtime.Versioning;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Tasks;
using CsCheck;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using Xunit;

namespace VMatrix.Tests.HAProxy;

/// <summary>What another user of the machine, or whoever answers on the runtime socket, can do to an owned HAProxy: nothing.</summary>
[SupportedOSPlatform("linux")]
public sealed class HAProxyAttackTests : IDisposable
{
    private static string InfoOf(int process) => $"Name: HAProxy\nVersion: 2.6.12\nPid: {process}\nStart_time_sec: 1700000000\n\n";

    private readonly TemporaryFolder _folder = new();

    private string Home => Path.Combine(_folder.Path, "haproxy");

    private string SocketPath => Path.Combine(Home, "haproxy.sock");

    public void Dispose() => _folder.Dispose();

    [SkippableFact]
    public async Task A_folder_that_another_user_made_is_refused_and_nothing_is_asked_there()
    {
        Skip.If(Environment.UserName != "root", "Only root can make a folder another user's.");
        Directory.CreateDirectory(Home);
        await using var fake = new FakeSocket(SocketPath, _ => InfoOf(Environment.ProcessId));
        Run("chown", "65534", Home);
        await RefusedAsync("BalancerFolderUnsafe", "belongs to user 65534");
        Assert.Empty(fake.Told);
    }

    [Fact]
    public async Task A_folder_that_others_may_write_is_refused()
    {
        Directory.CreateDirectory(Home);
        File.SetUnixFileMode(Home, File.GetUnixFileMode(Home) | UnixFileMode.OtherWrite);
        await RefusedAsync("BalancerFolderUnsafe", "written by others");
        File.SetUnixFileMode(Home, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupWrite);
        await RefusedAsync("BalancerFolderUnsafe", "written by others");
    }

    [Fact]
    public async Task A_link_in_the_folders_place_is_refused()
    {
        string elsewhere = Directory.CreateDirectory(Path.Combine(_folder.Path, "elsewhere")).FullName;
        Directory.CreateSymbolicLink(Home, elsewhere);
        await RefusedAsync("BalancerFolderUnsafe", "a link");
        Assert.Empty(Directory.GetFileSystemEntries(elsewhere));
    }

    [Fact]
    public async Task No_folder_in_a_shared_place_is_used_however_deep_the_state_folder_is()
    {
        string deep = Path.Combine(_folder.Path, new string('d', 60), new string('e', 60));
        string name = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(Environment.UserName + "\n" + deep)))[..16];
        string guessed = Directory.CreateDirectory(Path.Combine("/tmp", "vmatrix-" + name)).FullName;
        try
        {
            await using var fake = new FakeSocket(Path.Combine(guessed, "haproxy.sock"), _ => InfoOf(Environment.ProcessId));
            var balancer = new HAProxyBalancer(Pool() with { StateFolder = deep }, TimeProvider.System);
            await balancer.EnsureAsync(default);
            await balancer.ReadAsync(default);
            await balancer.StopAsync(default);
            Assert.Empty(fake.Told);
        }
        finally
        {
            Directory.Delete(guessed, recursive: true);
        }
    }

    [Fact]
    public async Task A_program_that_lies_where_we_happen_to_stand_is_not_run()
    {
        string here = $"planted-{Guid.NewGuid():N}", given = Environment.GetEnvironmentVariable("PATH")!;
        string marker = Path.Combine(_folder.Path, "ran");
        string planted = Path.Combine(Directory.CreateDirectory(Path.GetFullPath(here)).FullName, "haproxy-planted");
        await File.WriteAllTextAsync(planted, $"#!/bin/sh\ntouch '{marker}'\n");
        File.SetUnixFileMode(planted, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        Environment.SetEnvironmentVariable("PATH", here + ":" + given);
        try
        {
            var process = new HAProxyProcess(Pool(), TimeProvider.System) { Program = "haproxy-planted" };
            var error = await Assert.ThrowsAsync<VMatrixException>(() => process.EnsureAsync(new HAProxySocket(SocketPath, TimeProvider.System), default));
            Assert.Equal("BalancerMissing", error.Id);
            Assert.False(File.Exists(marker));
        }
        finally
        {
            Environment.SetEnvironmentVariable("PATH", given);
            Directory.Delete(Path.GetFullPath(here), recursive: true);
        }
    }

    [SkippableFact]
    public async Task A_socket_that_another_user_listens_on_is_not_spoken_to()
    {
        Skip.If(Environment.UserName != "root", "Only root can start a process of another user.");
        string theirs = Directory.CreateDirectory(Path.Combine(_folder.Path, "theirs")).FullName;
        Run("chown", "65534", theirs);
        string config = Path.Combine(theirs, "a.cfg"), socket = Path.Combine(theirs, "a.sock");
        await File.WriteAllTextAsync(config, $"global\n    stats socket {socket} mode 666 level admin\ndefaults\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\nbackend FINANCE\n");
        using Process other = Process.Start(new ProcessStartInfo("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/sbin/haproxy", "-db", "-q", "-f", config]))!;
        try
        {
            var open = new HAProxySocket(socket, TimeProvider.System);
            await UntilAsync(async () => File.Exists(socket) && (await open.AskAsync("show info", default)).Length > 0);
            Directory.CreateDirectory(Home, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            File.Move(socket, SocketPath);
            await RefusedAsync("BalancerNotOurs", "user 65534");
            var balancer = new HAProxyBalancer(Pool(), TimeProvider.System);
            Assert.Equal("BalancerNotOurs", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.ReadAsync(default))).Id);
            Assert.Equal("BalancerNotOurs", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.JoinAsync(default, Pool().Services[0], Guid.NewGuid(), "127.0.0.1:80", default))).Id);
        }
        finally
        {
            other.Kill();
            await other.WaitForExitAsync();
        }
    }

    [Fact]
    public async Task A_process_that_the_socket_names_is_signalled_only_where_it_was_started_in_the_folder()
    {
        using Process bystander = Process.Start(new ProcessStartInfo("sleep", ["600"]) { WorkingDirectory = "/" })!;
        try
        {
            Directory.CreateDirectory(Home, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            await using var fake = new FakeSocket(SocketPath, _ => InfoOf(bystander.Id));
            await RefusedAsync("BalancerNotOurs", $"process {bystander.Id}");
            var balancer = new HAProxyBalancer(Pool(), TimeProvider.System);
            Assert.Equal("BalancerNotOurs", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.StopAsync(default))).Id);
            Assert.False(bystander.HasExited);

            // Not by the record either.
            await File.WriteAllTextAsync(Path.Combine(Home, "haproxy.json"), $$"""{"Pid":{{bystander.Id}},"Start":{{File.ReadAllText($"/proc/{bystander.Id}/stat").Split(' ')[21]}},"Fingerprint":"x"}""");
            Assert.Equal("BalancerNotOurs", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.StopAsync(default))).Id);
            Assert.False(bystander.HasExited);
        }
        finally
        {
            bystander.Kill();
            await bystander.WaitForExitAsync();
        }
    }

    [Theory]
    [InlineData("127.0.0.1:80;shutdown sessions server FINANCE/x")]
    [InlineData("127.0.0.1:80\nset server FINANCE/x state maint")]
    [InlineData("127.0.0.1:80 ssl")]
    [InlineData("unix@/run/x:80")]
    [InlineData("fd@3:80")]
    [InlineData("127.0.0.1")]
    [InlineData("127.0.0.1:0")]
    [InlineData("127.0.0.1:99999")]
    [InlineData("guest.example:80")]
    [InlineData("\u001b[2J127.0.0.1:80")]
    [InlineData("")]
    public async Task An_address_that_a_guest_told_reaches_the_socket_only_as_an_address(string address)
    {
        string socket = Path.Combine(_folder.Path, "theirs.sock");
        await using var fake = new FakeSocket(socket, _ => "# pxname,svname,type\n\n");
        var balancer = new HAProxyBalancer(Pool() with { Balancer = new BalancerSpec { Kind = "haproxy", Own = false, Socket = socket } }, TimeProvider.System);
        var error = await Assert.ThrowsAsync<VMatrixException>(() => balancer.JoinAsync(default, Pool().Services[0], Guid.NewGuid(), address, default));
        Assert.Equal(("BalancerAddressInvalid", false), (error.Id, error.IsTransient));
        Assert.DoesNotContain(error.Message, char.IsControl);
        Assert.Empty(fake.Told);
    }

    [Theory]
    [InlineData("FINANCE/x state maint;shutdown sessions server FINANCE")]
    [InlineData("FINANCE\nset server a/b state maint")]
    [InlineData("")]
    public async Task A_services_name_from_a_mark_reaches_the_socket_only_as_a_name(string service)
    {
        string socket = Path.Combine(_folder.Path, "theirs.sock");
        await using var fake = new FakeSocket(socket, _ => "\n");
        var balancer = new HAProxyBalancer(Pool() with { Balancer = new BalancerSpec { Kind = "haproxy", Own = false, Socket = socket } }, TimeProvider.System);
        Assert.Equal("ServiceNameInvalid", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.DrainAsync(default, service, Guid.NewGuid(), default))).Id);
        Assert.Equal("ServiceNameInvalid", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.LeaveAsync(default, service, Guid.NewGuid(), default))).Id);
        Assert.Empty(fake.Told);
    }

    /// <summary>What a socket says of servers, whatever it is, adds lines of one form to the file and none of its own.</summary>
    [Fact]
    public void Nothing_that_a_socket_says_ends_a_line_of_the_configuration()
    {
        PoolSpec pool = Pool();
        string[] plain = HAProxyConfig.Write(pool, []).Split('\n');
        const string Head = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state srv_port\n";
        string[] known = ["127.0.0.1", "::1", "2", "0", "80", "FINANCE", "-", "1e3", "99999999999999999999", "127.0.0.1\nlua-load", "a\r\n", "\u2028", "'", "\"", "${HOME}", "#", "vmatrix-" + Guid.Empty.ToString("N"), "vmatrix-0123456789abcdef0123456789abcdef"];
        Gen<string> nasty = Gen.OneOf(Gen.Int[0, known.Length - 1].Select(i => known[i]), Gen.String[Gen.Char, 0, 12]);
        nasty.Array[16].Array[1, 5].Sample(rows =>
        {
            // Most rows are right but for one field.
            string[][] lines = [.. rows.Select((row, i) =>
            {
                string[] right = ["3", "FINANCE", "1", "vmatrix-" + Guid.NewGuid().ToString("N"), "10.0.0.7", "2", "0", "1", "1", "5", "6", "3", "4", "6", "0", "80"];
                right[i % right.Length] = row[0];
                return right;
            })];
            string answer = Head + string.Join('\n', lines.Select(line => string.Join(' ', line))) + "\n\n";
            CarriedServer[] carried;
            try
            {
                carried = [.. CarriedServer.Parse(answer, pool)];
            }
            catch (VMatrixException e) when (e.Id == "BalancerAnswerInvalid")
            {
                return;
            }

            string[] more = [.. HAProxyConfig.Write(pool, carried).Split('\n').Except(plain)];
            Assert.All(more, line => Assert.Matches(@"\A(    server vmatrix-[0-9a-f]{32} [0-9A-Fa-f.:\[\]%]+:[0-9]{1,5} check inter [0-9]+ms fall [0-9]+ rise 2|    server-state-file haproxy\.state|    load-server-state-from-file global)\z", line));
            Assert.All(CarriedServer.Write(carried).Split('\n').Skip(2).SkipLast(1), line => Assert.Matches(@"\A[0-9]+ FINANCE [0-9]+ vmatrix-[0-9a-f]{32} [0-9A-Fa-f.:%]+( [0-9]+){12} - [0-9]{1,5} - 0 0 - - 0\z", line));
        });
    }

    /// <summary>Whatever the pool file's reading may once let through.</summary>
    [Fact]
    public void No_value_of_a_pool_ends_a_line_of_the_configuration()
    {
        int lines = HAProxyConfig.Write(Pool(), []).Split('\n').Length;
        Gen<string> text = Gen.String[Gen.OneOf(Gen.Char["aZ09-_./:' \"\\\n\r\t\u0085\u2028;#${}"], Gen.Char), 0, 40];
        Gen.Select(text, text, text, text, text).Sample((name, service, listen, path, keywords) =>
        {
            PoolSpec pool = Pool();
            Assert.All<Func<PoolSpec>>(
            [
                () => pool with { Name = name },
                () => pool with { Services = [pool.Services[0] with { Name = service }] },
                () => pool with { Services = [pool.Services[0] with { Listen = listen }] },
                () => pool with { Services = [pool.Services[0] with { Health = new HealthSpec { Path = path } }] },
                () => pool with { Services = [pool.Services[0] with { ServerKeywords = keywords }] },
            ], change =>
            {
                try
                {
                    string file = HAProxyConfig.Write(change(), []);
                    Assert.Equal(lines, file.Split('\n').Length);
                    Assert.DoesNotContain('\r', file);
                    _ = HAProxyConfig.ServerKeywords(change().Services[0], "vmatrix-x");
                }
                catch (VMatrixException e)
                {
                    Assert.DoesNotContain(e.Message, char.IsControl);
                }
            });
            try
            {
                string words = HAProxyConfig.ServerKeywords(pool.Services[0] with { ServerKeywords = keywords }, "vmatrix-x");
                Assert.DoesNotContain(words, letter => letter is ';' or '\n' or '\r' or '#' or '\'' or '"' or '\\' or '$');
            }
            catch (VMatrixException e)
            {
                Assert.Equal("ServerKeywordsInvalid", e.Id);
            }
        });
    }

    /// <summary>From 3.3 on HAProxy refuses two proxies of one name: https://github.com/haproxy/haproxy/commit/067be38c0ee18a993a51541179296b45c59d6a31.</summary>
    [Fact]
    public void No_two_sections_of_the_configuration_have_one_name()
    {
        PoolSpec pool = Pool();
        pool = pool with { Services = [pool.Services[0], pool.Services[0] with { Name = "FINANCE-users" }, pool.Services[0] with { Name = "default" }] };
        string[] names = [.. HAProxyConfig.Write(pool, []).Split('\n').Select(line => line.Split(' ')).Where(words => words[0] is "frontend" or "backend" or "listen" or "ring").Select(words => words[1])];
        Assert.Equal(8, names.Length);
        Assert.Equal(names.Length, names.Distinct(StringComparer.OrdinalIgnoreCase).Count());
        Assert.All(new[] { "vmatrix-counters", "vmatrix-ended" }, taken =>
            Assert.Equal("ServiceNameInvalid", Assert.Throws<VMatrixException>(() => HAProxyConfig.Write(pool with { Services = [pool.Services[0] with { Name = taken }] }, [])).Id));
    }

    [Fact]
    public async Task What_it_keeps_can_be_read_by_its_user_alone()
    {
        var balancer = new HAProxyBalancer(Pool(), TimeProvider.System);
        await balancer.EnsureAsync(default);
        try
        {
            const UnixFileMode Others = UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherWrite | UnixFileMode.OtherExecute;
            Assert.Equal(UnixFileMode.None, File.GetUnixFileMode(Home) & Others);
            Assert.All(new[] { "haproxy.cfg", "haproxy.json", "turn" }, name => Assert.Equal(UnixFileMode.None, File.GetUnixFileMode(Path.Combine(Home, name)) & Others));
        }
        finally
        {
            await balancer.StopAsync(default);
        }
    }

    private async Task RefusedAsync(string id, string why)
    {
        var error = await Assert.ThrowsAsync<VMatrixException>(() => new HAProxyBalancer(Pool(), TimeProvider.System).EnsureAsync(default));
        Assert.Equal(id, error.Id);
        Assert.Contains(why, error.Message, StringComparison.Ordinal);
    }

    private PoolSpec Pool()
    {
        PoolSpec pool = WebWorld.PoolOf(_folder.Path, FakePorts.Free(), FakePorts.Free());
        return pool with { StateFolder = _folder.Path, Services = [pool.Services[0]], Balancer = new BalancerSpec { Kind = "haproxy" } };
    }

    private static void Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments))!;
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
    }

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        for (int i = 0; i < 6000; i++)
        {
            try
            {
                if (await condition())
                    return;
            }
            catch (VMatrixException)
            {
                // Not yet.
            }

            await Task.Delay(10);
        }

        Assert.Fail("Waited a minute in vain.");
    }
}

internal static class FakePorts
{
    public static string Free()
    {
        using var listener = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        listener.Start();
        return listener.LocalEndpoint.ToString()!;
    }
}
