using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Runtime.Versioning;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using CsCheck;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using VMatrix.Scripts;
using VMatrix.Tests.HAProxy;
using Xunit;

namespace VMatrix.Tests.Scripts;

/// <summary>A user's script that drives a real HAProxy: each call is a process of its own, told by parameters and answering in JSON.</summary>
[Trait("Category", "Long")]
[SupportedOSPlatform("linux")]
public sealed class ScriptBalancerContract : BalancerContract
{
    protected override Task<BalancerWorld> OpenWorldAsync() => Task.FromResult<BalancerWorld>(new World());

    /// <summary>The script's side: this assembly, run as a program.</summary>
    public static async Task<int> RunScriptAsync(string folder, IReadOnlyList<string> arguments)
    {
        var told = Enumerable.Range(0, arguments.Count / 2).ToDictionary(i => arguments[2 * i].TrimStart('-'), i => arguments[(2 * i) + 1], StringComparer.OrdinalIgnoreCase);
        var pool = WebWorld.PoolOf(folder, File.ReadAllLines(Path.Combine(folder, "listens")));
        await using var balancer = new HAProxyBalancer(pool with { Balancer = new BalancerSpec { Kind = "haproxy" } }, TimeProvider.System);
        var server = told.TryGetValue("Server", out var id) ? Guid.Parse(id) : Guid.Empty;
        try
        {
            switch (told["Action"])
            {
                case "start":
                    await balancer.EnsureAsync(default);
                    return 0;
                case "stop":
                    await balancer.StopAsync(default);
                    return 0;
                case "attach":
                    await balancer.JoinAsync(default, pool.Services.Single(s => s.Name == told["Service"]), server, told["Address"], default);
                    return 0;
                case "drain":
                    await balancer.DrainAsync(default, told["Service"], server, default);
                    return 0;
                case "detach":
                    await balancer.LeaveAsync(default, told["Service"], server, default);
                    return 0;
                case "load":
                    var report = await balancer.ReadAsync(default);
                    Console.Write(JsonSerializer.Serialize(new
                    {
                        incarnation = report.Incarnation,
                        members = report.Members.Select(m => new { service = m.Service, server = m.ServerId, address = m.Address, state = m.State.ToString().ToLowerInvariant(), open = m.Open, requests = m.Requests, errors = m.Errors }),
                        services = report.Services.Select(s => new { name = s.Service, requests = s.Requests, served = s.Served, refused = s.Refused, errors = s.Errors, queue = s.Queue, sessions = s.Sessions, responseMs = s.ResponseTime.TotalMilliseconds }),
                    }));
                    return 0;
                default:
                    return 2;
            }
        }
        catch (VMatrixException e)
        {
            await Console.Error.WriteLineAsync(e.Message);
            return 1;
        }
    }

    private sealed class World : WebWorld
    {
        public World()
        {
            string[] listens = [FreeAddress(), FreeAddress()];
            File.WriteAllLines(Path.Combine(Folder.Path, "listens"), listens);
            var script = Scripts.Write(Folder.Path, "balance", $"exec dotnet exec '{typeof(ScriptBalancerContract).Assembly.Location}' balance '{Folder.Path}' \"$@\"");
            Pool = PoolOf(Folder.Path, listens) with { Balancer = new BalancerSpec { Kind = "script", Script = script, Own = true } };
        }

        public override PoolSpec Pool { get; }

        public override IBalancer OpenBalancer() => new ScriptBalancer(Pool, TimeProvider.System);
    }
}

[SupportedOSPlatform("linux")]
public sealed class ScriptBalancerTests : IDisposable
{
    private static readonly Guid s_server = new("11111111-2222-3333-4444-555555555555");
    private readonly TemporaryFolder _folder = new();

    [Fact]
    public async Task It_is_told_by_named_parameters_that_no_shell_ever_reads()
    {
        var balancer = Open("""printf '%s\n' "$@" >> told; printf '%s\n' "$VMATRIX_POOL" >> told; echo '{}'""");
        var service = Pool("x").Services[0] with { Name = "A; touch harmed `id` $(id) \"'" };
        await balancer.JoinAsync(default, service, s_server, "10.0.0.7:80", default);
        await balancer.DrainAsync(default, service.Name, s_server, default);
        await balancer.LeaveAsync(default, service.Name, s_server, default);
        Assert.Equal(
        [
            "-Action", "attach", "-Service", service.Name, "-Server", s_server.ToString(), "-Address", "10.0.0.7:80", Pool("x").Path,
            "-Action", "drain", "-Service", service.Name, "-Server", s_server.ToString(), Pool("x").Path,
            "-Action", "detach", "-Service", service.Name, "-Server", s_server.ToString(), Pool("x").Path,
        ], File.ReadAllLines(Path.Combine(_folder.Path, "told")));
        Assert.False(File.Exists(Path.Combine(_folder.Path, "harmed")));
    }

    [Fact]
    public async Task What_load_writes_is_what_the_balancer_holds()
    {
        var balancer = Open($$"""
            cat <<'EOF'
            { "incarnation": "7", "members": [ { "service": "finance", "server": "{{s_server}}", "address": "10.0.0.7:80", "state": "DRAINING", "open": 3 }, { "service": "SPORTS", "server": "not ours", "address": "10.0.0.8:80" } ],
              "services": [ { "name": "FINANCE", "requests": 100, "refused": 4, "errors": 1, "queue": 2, "sessions": "5", "responseMs": 12.5 }, { "name": "SPORTS" } ] }
            EOF
            """);
        var report = await balancer.ReadAsync(default);
        Assert.Equal("7", report.Incarnation);
        Assert.Equal(("FINANCE", s_server, MemberState.Draining, 3), (report.Members[0].Service, report.Members[0].ServerId, report.Members[0].State, report.Members[0].Open));
        Assert.Equal((Guid.Empty, MemberState.Ready), (report.Members[1].ServerId, report.Members[1].State));
        var finance = Assert.Single(report.Services); // One that counts nothing is no zero.
        Assert.Equal((100, 95, 4, 1, 2, 5, 12.5), (finance.Requests, finance.Served, finance.Refused, finance.Errors, finance.Queue, finance.Sessions, finance.ResponseTime.TotalMilliseconds));
    }

    [Theory]
    [InlineData("echo 'no JSON'", "BalancerAnswerInvalid")]
    [InlineData("echo '[]'", "BalancerAnswerInvalid")]
    [InlineData("true", "BalancerAnswerInvalid")]
    [InlineData("echo '{ \"members\": [ { \"service\": \"FINANCE\", \"state\": \"odd\" } ] }'", "BalancerAnswerInvalid")]
    [InlineData("echo '{ \"members\": [ { \"service\": \"FINANCE\", \"state\": \"7\" } ] }'", "BalancerAnswerInvalid")]
    [InlineData("echo secret >&2; exit 3", "BalancerUnreachable")]
    [InlineData("head -c 20000000 /dev/zero", "ScriptWroteTooMuch")]
    [InlineData("sleep 60", "ScriptTimeout")]
    public async Task An_answer_that_cannot_be_used_says_why_and_shows_no_secret(string script, string id)
    {
        var error = await Assert.ThrowsAsync<VMatrixException>(() => Open(script, TimeSpan.FromSeconds(id == "ScriptTimeout" ? 1 : 60)).ReadAsync(default));
        Assert.Equal(id, error.Id);
        Assert.Contains(Path.Combine(_folder.Path, "balance"), error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", error.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{ "members": [null] }""")]
    [InlineData("""{ "services": [null] }""")]
    [InlineData("""{ "members": [[]] }""")]
    [InlineData("""{ "members": 5 }""")]
    [InlineData("""{ "members": [ { "service": "FINANCE", "open": -1 } ] }""")]
    [InlineData("""{ "members": [ { "service": "FINANCE", "open": 99999999999 } ] }""")]
    [InlineData("""{ "members": [ { "service": "FINANCE", "responseMs": 1e300 } ] }""")]
    [InlineData("""{ "members": [ { "service": "FINANCE", "address": "a\nb" } ] }""")]
    [InlineData("""{ "members": [ { "service": null } ] }""")]
    [InlineData("""{ "services": [ { "name": "FINANCE", "requests": 1e300 } ] }""")]
    [InlineData("""{ "services": [ { "name": "FINANCE", "requests": 99999999999999999999 } ] }""")]
    [InlineData("""{ "services": [ { "name": "FINANCE", "requests": 1, "responseMs": -1 } ] }""")]
    [InlineData("""{ "services": [ { "name": "FINANCE", "requests": 1, "responseMs": "NaN" } ] }""")]
    [InlineData("""{ "incarnation": { } }""")]
    [InlineData("null")]
    [InlineData("7")]
    public void An_answer_of_another_kind_or_range_is_the_scripts_error(string answer)
    {
        var error = Assert.Throws<VMatrixException>(() => Open("true").Parse(answer));
        Assert.Equal(("BalancerAnswerInvalid", VMatrixErrorKind.Corrupt), (error.Id, error.Kind));
        Assert.DoesNotContain(error.Message, char.IsControl);
    }

    [Fact]
    public void Whatever_a_script_writes_nothing_but_a_VMatrix_error_comes_of_it()
    {
        var balancer = Open("true");
        string[] keys = ["incarnation", "members", "services", "service", "server", "address", "state", "open", "requests", "errors", "responseMs", "name", "served", "refused", "queue", "sessions", "other"];
        string[] scalars = ["null", "true", "0", "-1", "5", "1e300", "-1e300", "99999999999999999999", "\"\"", "\"5\"", "\"FINANCE\"", "\"ready\"", "\"NaN\"", "\"\\u0000\\n\"", "[", "{", "}", ",", "// x"];
        var scalar = Gen.Int[0, scalars.Length - 1].Select(i => scalars[i]);
        var key = Gen.Int[0, keys.Length - 1].Select(i => keys[i]);
        var flat = Gen.Select(key, scalar).Array[0, 6].Select(pairs => "{" + string.Join(",", pairs.Select(p => $"\"{p.Item1}\":{p.Item2}")) + "}");
        var array = Gen.OneOf(flat, scalar).Array[0, 4].Select(items => "[" + string.Join(",", items) + "]");
        var whole = Gen.Select(key, Gen.OneOf(array, flat, scalar)).Array[0, 5].Select(pairs => "{" + string.Join(",", pairs.Select(p => $"\"{p.Item1}\":{p.Item2}")) + "}");
        Gen.OneOf(whole, array, scalar, Gen.String).Sample(text =>
        {
            try
            {
                _ = balancer.Parse(text);
            }
            catch (VMatrixException e)
            {
                Assert.Equal("BalancerAnswerInvalid", e.Id);
                Assert.DoesNotContain(e.Message, char.IsControl);
            }
        }, iter: 5000);
    }

    [Fact]
    public async Task A_script_says_by_its_exit_code_whether_it_is_of_use_to_try_again()
    {
        Assert.False((await Assert.ThrowsAsync<VMatrixException>(() => Open("exit 2").LeaveAsync(default, "FINANCE", s_server, default))).IsTransient);
        Assert.True((await Assert.ThrowsAsync<VMatrixException>(() => Open("exit 1").LeaveAsync(default, "FINANCE", s_server, default))).IsTransient);
    }

    [Fact]
    public async Task Who_ask_at_the_same_time_share_one_run()
    {
        var balancer = Open("echo x >> runs; sleep 0.2; echo '{}'");
        await Task.WhenAll(Enumerable.Range(0, 10).Select(_ => balancer.ReadAsync(default)));
        Assert.InRange(File.ReadAllLines(Path.Combine(_folder.Path, "runs")).Length, 1, 3);
    }

    [Fact]
    public void A_drain_asks_a_script_at_its_stated_interval()
    {
        Assert.Equal(TimeSpan.FromSeconds(1), new BalancerSpec { Kind = "script" }.EffectiveDrainInterval);
        Assert.Equal(TimeSpan.FromSeconds(1), new BalancerSpec { Kind = "nlb" }.EffectiveDrainInterval);
        Assert.Equal(TimeSpan.FromMilliseconds(25), new BalancerSpec { Kind = "haproxy" }.EffectiveDrainInterval);
        Assert.Equal(TimeSpan.FromSeconds(7), new BalancerSpec { Kind = "script", DrainInterval = TimeSpan.FromSeconds(7) }.EffectiveDrainInterval);
    }

    [Fact]
    public async Task One_that_others_may_write_is_not_run()
    {
        var balancer = Open("touch ran; echo '{}'");
        var script = Path.Combine(_folder.Path, "balance");
        File.SetUnixFileMode(script, File.GetUnixFileMode(script) | UnixFileMode.GroupWrite);
        Assert.Equal("ScriptNotOwned", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.ReadAsync(default))).Id);
        File.SetUnixFileMode(script, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        File.SetUnixFileMode(_folder.Path, File.GetUnixFileMode(_folder.Path) | UnixFileMode.OtherWrite);
        Assert.Equal("ScriptNotOwned", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.ReadAsync(default))).Id);
        Assert.False(File.Exists(Path.Combine(_folder.Path, "ran")));
        File.SetUnixFileMode(_folder.Path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        await balancer.ReadAsync(default);
        Assert.True(File.Exists(Path.Combine(_folder.Path, "ran")));
        File.Delete(script);
        Assert.Equal("ScriptNotFound", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.ReadAsync(default))).Id);
        Scripts.Write(_folder.Path, "balance", "echo '{}'", executable: false);
        Assert.Equal("ScriptNotRun", (await Assert.ThrowsAsync<VMatrixException>(() => balancer.ReadAsync(default))).Id);
    }

    [Fact]
    public async Task Changes_come_one_at_a_time_and_a_cancelled_one_ends_with_all_that_it_started()
    {
        var balancer = Open("""echo begin >> log; if [ "$2" = drain ]; then sleep 60 & echo $! > child; wait; fi; sleep 0.1; echo end >> log""");
        var other = new ScriptBalancer(Pool(Path.Combine(_folder.Path, "balance")), TimeProvider.System);
        await Task.WhenAll(Enumerable.Range(0, 4).Select(i => (i % 2 == 0 ? balancer : other).LeaveAsync(default, "FINANCE", s_server, default)));
        Assert.Equal(Enumerable.Repeat(new[] { "begin", "end" }, 4).SelectMany(pair => pair), File.ReadAllLines(Path.Combine(_folder.Path, "log")));

        using var cancel = new CancellationTokenSource();
        var draining = balancer.DrainAsync(default, "FINANCE", s_server, cancel.Token);
        var file = Path.Combine(_folder.Path, "child");
        while (!File.Exists(file) || File.ReadAllText(file).Length == 0)
            await Task.Delay(10);
        cancel.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => draining);
        var child = File.ReadAllText(file).Trim();
        for (var tries = 0; Directory.Exists($"/proc/{child}") && !File.ReadAllText($"/proc/{child}/stat").Contains(") Z ", StringComparison.Ordinal); tries++)
        {
            Assert.True(tries < 500, "What the script started still runs.");
            await Task.Delay(10);
        }

        await balancer.LeaveAsync(default, "FINANCE", s_server, default); // The turn is free again.
    }

    [SkippableFact]
    public async Task A_PowerShell_script_serves_as_well()
    {
        Skip.If(!PowerShells.PowerShellHere.IsOnPath, PowerShells.PowerShellHere.NotOnPath);
        var script = Path.Combine(_folder.Path, "balance.ps1");
        File.Copy(Scripts.Example("balancer/balance.ps1"), script);
        File.SetUnixFileMode(script, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        var balancer = new ScriptBalancer(Pool(script), TimeProvider.System);
        await balancer.JoinAsync(default, Pool(script).Services[0], s_server, "10.0.0.7:80", default);
        await balancer.DrainAsync(default, "FINANCE", s_server, default);
        var member = Assert.Single((await balancer.ReadAsync(default)).Members);
        Assert.Equal((s_server, "FINANCE", "10.0.0.7:80", MemberState.Draining), (member.ServerId, member.Service, member.Address, member.State));
        await balancer.LeaveAsync(default, "FINANCE", s_server, default);
        await balancer.LeaveAsync(default, "FINANCE", s_server, default);
        Assert.Empty((await balancer.ReadAsync(default)).Members);
    }

    public void Dispose() => _folder.Dispose();

    private ScriptBalancer Open(string script, TimeSpan? timeout = null)
    {
        var pool = Pool(Scripts.Write(_folder.Path, "balance", script));
        return new ScriptBalancer(timeout is null ? pool : pool with { Limits = pool.Limits with { StepTimeout = timeout.Value } }, TimeProvider.System);
    }

    private PoolSpec Pool(string script) => TestPool.Simulated(_folder.Path) with { Balancer = new BalancerSpec { Kind = "script", Script = script, Own = false } };
}

[SupportedOSPlatform("linux")]
internal static class Scripts
{
    /// <summary>A file of the repository's examples.</summary>
    public static string Example(string path)
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder!.FullName, "VMatrix.sln")))
            folder = folder.Parent;
        return Path.Combine(folder.FullName, "examples", path);
    }

    public static string Write(string folder, string name, string body, bool executable = true)
    {
        var path = Path.Combine(folder, name);
        File.WriteAllText(path, "#!/bin/sh\n" + body + "\n");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | (executable ? UnixFileMode.UserExecute : 0));
        return path;
    }
}
