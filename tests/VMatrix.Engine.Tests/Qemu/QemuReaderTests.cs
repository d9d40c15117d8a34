using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Runtime.Versioning;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using CsCheck;
using VMatrix.Drivers;
using VMatrix.Qemu;
using Xunit;
using Monitor = VMatrix.Qemu.Monitor;

namespace VMatrix.Tests.Qemu;

/// <summary>Whatever stands in a file, or is said by a guest or by QEMU: it is that one's problem, told as an error of ours, and read within limits.</summary>
[SupportedOSPlatform("linux")]
public sealed class QemuReaderTests
{
    private static readonly Gen<string> s_name = BareLab.OneOf("return", "error", "id", "event", "desc", "pid", "exited", "exitcode", "status", "label", "frontend-open", "QMP", "x");

    /// <summary>JSON of every kind, whole and broken, with the names that the readers look for.</summary>
    private static readonly Gen<string> s_json = Gen.Recursive<string>((depth, inner) => Gen.OneOf(
        BareLab.OneOf("null", "true", "1", "-1", "1e300", "99999999999999999999", "0.5", "\"\"", "\"running\"", "\"\\ud800\"", "\"agent\"", "[]", "{}", "[1,2,3]", "tru", "\"", "{\"a\":1,\"a\":2}", "\u001b[2J"),
        depth > 2 ? Gen.Const("7") : inner.Array[0, 3].Select(items => "[" + string.Join(",", items) + "]"),
        depth > 2 ? Gen.Const("8") : Gen.Select(s_name, inner).Array[0, 4].Select(members => "{" + string.Join(",", members.Select(m => $"\"{m.Item1}\":{m.Item2}")) + "}")));

    private static readonly Gen<byte[]> s_line = Gen.Frequency(
        (8, s_json.Select(text => Encoding.UTF8.GetBytes(text))),
        (1, Gen.Byte.Array[0, 60]),
        (1, s_json.Select(text => Encoding.UTF8.GetBytes(text)[..^1])));

    private static readonly GuestProcess s_nobody = new(int.MaxValue, 1, "", TimeProvider.System);

    /// <summary>A peer that answers each line with the next of the lines given, and then hangs up. "ID" in a line is the id that was asked with.</summary>
    private static async Task<T> AgainstAsync<T>(IReadOnlyList<byte[]> lines, string ending, Func<GuestProcess, Task<T>> ask)
    {
        var sockets = Path.Combine(Path.GetTempPath(), "vmx-" + Guid.NewGuid().ToString("N")[..12]);
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(sockets + ending));
        listener.Listen();
        using var stop = new CancellationTokenSource();
        var playing = PlayAsync();
        try
        {
            return await ask(s_nobody with { Sockets = sockets });
        }
        finally
        {
            await stop.CancelAsync();
            await playing;
            File.Delete(sockets + ending);
        }

        async Task PlayAsync()
        {
            try
            {
                while (true)
                {
                    using var client = await listener.AcceptAsync(stop.Token);
                    await using var stream = new NetworkStream(client);
                    foreach (var line in lines)
                    {
                        await stream.WriteAsync(line, stop.Token);
                        await stream.WriteAsync("\n"u8.ToArray(), stop.Token);
                    }
                }
            }
            catch (Exception e) when (e is OperationCanceledException or IOException or SocketException)
            {
                // The client has heard enough.
            }
        }
    }

    [Fact]
    public void An_agent_that_says_anything_at_all_is_silent_and_nothing_worse() => s_line.Array[1, 4].Sample(lines =>
    {
        _ = AgainstAsync(lines, ".agent", guest => GuestAgent.AnswersAsync(guest, "qga", TimeSpan.FromSeconds(30), default)).GetAwaiter().GetResult();
    }, iter: 300);

    [Theory]
    [InlineData("[1,2,3]")]
    [InlineData("null")]
    [InlineData("7")]
    [InlineData("{\"return\":[1]}")]
    [InlineData("{\"return\":1e300}")]
    [InlineData("{\"return\":\"\\ud800\"}")]
    [InlineData("{\"\\ud800\":1}")]
    [InlineData("{\"event\":1,\"event\":2}")]
    public async Task An_agent_that_answers_with_something_else_is_silent(string line) =>
        Assert.False(await AgainstAsync([Encoding.UTF8.GetBytes(line)], ".agent", guest => GuestAgent.AnswersAsync(guest, "qga", TimeSpan.FromSeconds(30), default)));

    [Fact]
    public async Task An_agent_that_sends_a_line_without_end_is_cut_short() =>
        Assert.False(await AgainstAsync([Enumerable.Repeat((byte)' ', 3 << 20).ToArray()], ".agent", guest => GuestAgent.AnswersAsync(guest, "qga", TimeSpan.FromMinutes(5), default)));

    [Fact]
    public void QEMU_that_says_anything_at_all_fails_that_one_command() => Gen.Select(s_json, s_json).Sample((greeting, answer) =>
    {
        // A greeting, leave to go on, and whatever comes then under the right id.
        byte[][] lines = [Encoding.UTF8.GetBytes(greeting), "{\"return\":{},\"id\":1}"u8.ToArray(), Encoding.UTF8.GetBytes($"{{\"id\":2,\"return\":{answer}}}"), Encoding.UTF8.GetBytes(answer)];
        _ = AgainstAsync(lines, ".qmp", async guest =>
        {
            foreach (var ask in (Func<Monitor, Task>[])[m => m.StatusAsync(default), m => GuestAgent.IsThereAsync(m, default), m => DiskCopy.EndAsync(m, TimeProvider.System, default), m => MemoryState.LetGoOnAsync(m, TimeProvider.System, default)])
            {
                try
                {
                    await using var monitor = await guest.OpenAsync(TimeSpan.FromSeconds(30), default);
                    await ask(monitor);
                }
                catch (Exception e) when (e is IOException or SocketException or PeerException or VMatrixException)
                {
                    // Its error.
                }
            }

            File.Delete(guest.Sockets + ".turn");
            return true;
        }).GetAwaiter().GetResult();
    }, iter: 40);

    [Fact]
    public void A_server_whose_files_hold_anything_at_all_is_its_own_problem_and_hides_no_other() => Gen.Select(BareLab.OneOf("mark.json", "guest.json", "run.json", "state.json", "released.json", "lock", "to"), s_line).Array[1, 4].Sample(files =>
    {
        var lab = new BareLab();
        try
        {
            var (good, _) = lab.SleeperAsync("good").GetAwaiter().GetResult();
            var (_, bad) = lab.SleeperAsync("bad").GetAwaiter().GetResult();
            foreach (var (file, content) in files)
                File.WriteAllBytes(Path.Combine(bad.Path, file), content);
            if (files.Length % 2 == 0)
                Directory.Move(bad.Path, Path.Combine(lab.Servers, ".leaving-" + Path.GetFileName(bad.Path)));
            var machines = lab.Driver.ReadHostAsync(lab.Host, default).GetAwaiter().GetResult().Machines;
            Assert.Equal("good", Assert.Single(machines, m => m.Mark?.ServerId == good).Name);
            Assert.True(machines.Count <= 2);
        }
        finally
        {
            lab.DisposeAsync().AsTask().GetAwaiter().GetResult();
        }
    }, iter: 150);

    [Theory]
    [InlineData("mark.json")]
    [InlineData("guest.json")]
    [InlineData("state.json")]
    [InlineData("run.json")]
    [InlineData("lock")]
    [InlineData("console.log")]
    public async Task A_pipe_a_folder_and_an_endless_file_in_a_servers_place_hide_no_other_server_and_hold_nobody_up(string file)
    {
        await using var lab = new BareLab();
        var (good, _) = await lab.SleeperAsync("good");
        foreach (var kind in (string[])["pipe", "folder", "long", "loop"])
        {
            var (_, bad) = await lab.SleeperAsync(kind);
            var path = Path.Combine(bad.Path, file);
            File.Delete(path);
            if (kind == "pipe")
                await QemuTools.RunAsync("mkfifo", [path], default);
            else if (kind == "folder")
                Directory.CreateDirectory(path);
            else if (kind == "loop")
                File.CreateSymbolicLink(path, path);
            else
                File.WriteAllText(path, "{" + new string(' ', 2 << 20));
        }

        // Polled in a task of its own: what waits for a pipe's other end waits for ever.
        var reading = Task.Run(async () => await lab.Driver.ReadHostAsync(lab.Host, default));
        Assert.Same(reading, await Task.WhenAny(reading, Task.Delay(TimeSpan.FromMinutes(3))));
        var machines = (await reading).Machines;
        Assert.Equal(5, machines.Count);
        Assert.Null(Assert.Single(machines, m => m.Mark?.ServerId == good).Problem);
    }

    [Fact]
    public async Task A_name_that_a_terminal_would_obey_and_an_image_that_leads_elsewhere_are_no_mark()
    {
        await using var lab = new BareLab();
        foreach (var wrong in (Func<ServerMark, ServerMark>[])[m => m with { Name = "a\u001b[2Jb" }, m => m with { Name = "a\nb" }, m => m with { Name = "" }, m => m with { Image = "../../x" }, m => m with { Name = new string('x', 300) }])
        {
            var (_, folder) = await lab.SleeperAsync("bad");
            folder.WriteMark(wrong(folder.ReadMark()!));
        }

        var machines = (await lab.Driver.ReadHostAsync(lab.Host, default)).Machines;
        Assert.Equal(5, machines.Count);
        Assert.All(machines, m => Assert.Null(m.Mark));
        Assert.All(machines, m => Assert.Contains("mark.json", m.Problem, StringComparison.Ordinal));
        Assert.All(machines, m => Assert.True(m.Problem!.All(PlainText.IsPlain), m.Problem));
    }

    [Fact]
    public async Task A_folder_that_vanishes_while_the_host_is_listed_is_not_there()
    {
        await using var lab = new BareLab();
        var (good, _) = await lab.SleeperAsync("good");
        using var stop = new CancellationTokenSource();
        var flickering = Task.Run(() =>
        {
            while (!stop.IsCancellationRequested)
            {
                var path = Path.Combine(lab.Servers, Guid.NewGuid().ToString("D"));
                Directory.CreateDirectory(path);
                Directory.Delete(path, recursive: true);
            }
        });
        for (var i = 0; i < 300; i++)
            Assert.Contains((await lab.Driver.ReadHostAsync(lab.Host, default)).Machines, m => m.Mark?.ServerId == good);
        await stop.CancelAsync();
        await flickering;
    }

    [Theory]
    [InlineData("current.json")]
    [InlineData("selected.json")]
    [InlineData("sources.json")]
    public async Task A_services_spoilt_file_hides_neither_the_nest_nor_another_services_image(string file)
    {
        await using var lab = new BareLab();
        var images = Path.Combine(lab.Pool.Nest.Folder, "images");
        ServerFolder.Write(Path.Combine(images, "FINANCE", "current.json"), BareLab.Version);
        Directory.CreateDirectory(Path.Combine(images, "SPORTS"));
        File.WriteAllText(Path.Combine(images, "SPORTS", file), "[[[");
        Assert.Equal(BareLab.Version, (await lab.Driver.ReadNestAsync(default)).Images["FINANCE"]);
    }

    [Fact]
    public async Task A_console_that_a_guest_fills_without_end_keeps_its_end_and_stays_small()
    {
        await using var lab = new BareLab();
        var (_, folder) = await lab.SleeperAsync("loud");

        // As QEMU has it: open to append, and written to again after it was cut.
        await using var qemu = new FileStream(folder.Console, FileMode.Append, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);
        for (var i = 0; i < 20; i++)
        {
            await qemu.WriteAsync(Encoding.ASCII.GetBytes(new string('x', 1 << 20) + $"\nround {i}\n"));
            await qemu.FlushAsync();
            await lab.Driver.ReadHostAsync(lab.Host, default);
            Assert.InRange(new FileInfo(folder.Console).Length, 1, 256 << 10);
            Assert.EndsWith($"round {i}", folder.ConsoleEnd(), StringComparison.Ordinal);
            qemu.Seek(0, SeekOrigin.End);
        }
    }
}
