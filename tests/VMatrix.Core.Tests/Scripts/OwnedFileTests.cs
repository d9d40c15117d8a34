using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Scripts;
using Xunit;

namespace VMatrix.Tests.Scripts;

/// <summary>What is run belongs to its owner by every folder and link on the way, and is the very file that was checked.</summary>
[SupportedOSPlatform("linux")]
public sealed class OwnedFileTests : IDisposable
{
    private const UnixFileMode Owner = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
    private readonly string _root = Directory.CreateTempSubdirectory("vmatrix-owned-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private string Folder(string name, UnixFileMode more = 0)
    {
        var path = Path.Combine(_root, name);
        Directory.CreateDirectory(path);
        File.SetUnixFileMode(path, Owner | more);
        return path;
    }

    private static string Script(string path, string body, UnixFileMode more = 0)
    {
        File.WriteAllText(path, "#!/bin/sh\n" + body + "\n");
        File.SetUnixFileMode(path, Owner | more);
        return path;
    }

    private static Task<ScriptEnd> RunAsync(string script, TimeSpan? limit = null) =>
        ScriptRun.RunAsync(script, [], new Dictionary<string, string>(), "/pool.yaml", limit ?? TimeSpan.FromSeconds(60), TimeProvider.System, default);

    private static async Task RefusedAsync(string script, string names)
    {
        var error = await Assert.ThrowsAsync<VMatrixException>(() => RunAsync(script));
        Assert.Equal("ScriptNotOwned", error.Id);
        Assert.Contains(names, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Any_folder_on_the_way_that_others_may_write_refuses_it()
    {
        var open = Folder("open", UnixFileMode.OtherWrite | UnixFileMode.OtherExecute);
        Folder("open/mine");
        var deep = Folder("open/mine/deep");
        await RefusedAsync(Script(Path.Combine(deep, "s"), "true"), open);
        File.SetUnixFileMode(open, Owner | UnixFileMode.GroupWrite);
        await RefusedAsync(Path.Combine(deep, "s"), open);
        File.SetUnixFileMode(open, Owner);
        Assert.Equal(0, (await RunAsync(Path.Combine(deep, "s"))).ExitCode);
    }

    [Fact]
    public async Task A_link_is_followed_and_where_it_leads_is_looked_at_as_well()
    {
        var open = Folder("open", UnixFileMode.OtherWrite);
        var mine = Folder("mine");
        Script(Path.Combine(open, "s"), "true");
        var link = Path.Combine(mine, "s");
        File.CreateSymbolicLink(link, Path.Combine(open, "s"));
        await RefusedAsync(link, open);

        // The target lies well, and the way to it goes through a link in an open folder.
        var good = Folder("good");
        Script(Path.Combine(good, "s"), "true");
        File.CreateSymbolicLink(Path.Combine(open, "way"), good);
        File.Delete(link);
        File.CreateSymbolicLink(link, Path.Combine(open, "way", "s"));
        await RefusedAsync(link, open);

        File.Delete(link);
        File.CreateSymbolicLink(link, "../good/./s");
        Assert.Equal(0, (await RunAsync(link)).ExitCode);
        File.Delete(link);
        File.CreateSymbolicLink(link, link);
        await RefusedAsync(link, "links");
    }

    [SkippableFact]
    public async Task A_file_folder_or_link_of_another_user_refuses_it()
    {
        Skip.IfNot(Linux.Geteuid() == 0, "only root can give files away");
        const uint Nobody = 65534;
        var mine = Folder("mine");
        var script = Script(Path.Combine(mine, "s"), "true");
        var sticky = Folder("sticky", UnixFileMode.OtherWrite | UnixFileMode.OtherExecute | UnixFileMode.StickyBit);
        var link = Path.Combine(sticky, "s");
        File.CreateSymbolicLink(link, script);
        Assert.Equal(0, (await RunAsync(link)).ExitCode);
        Assert.Equal(0, Linux.Lchown(link, Nobody, Nobody));
        await RefusedAsync(link, "belongs to user 65534");
        Assert.Equal(0, Linux.Lchown(mine, Nobody, Nobody));
        await RefusedAsync(script, "belongs to user 65534");
        Assert.Equal(0, Linux.Lchown(mine, 0, 0));
        Assert.Equal(0, Linux.Lchown(script, Nobody, Nobody));
        await RefusedAsync(script, "belongs to user 65534");
    }

    [Fact]
    public async Task A_sticky_bit_excuses_folders_further_up_and_nothing_else()
    {
        var sticky = Folder("sticky", UnixFileMode.OtherWrite | UnixFileMode.OtherExecute | UnixFileMode.StickyBit);
        Folder("sticky/mine");
        Assert.Equal(0, (await RunAsync(Script(Path.Combine(sticky, "mine", "s"), "true"))).ExitCode);
        await RefusedAsync(Script(Path.Combine(sticky, "s"), "true"), sticky);
        var file = Script(Path.Combine(Folder("mine"), "s"), "true", UnixFileMode.OtherWrite | UnixFileMode.StickyBit);
        await RefusedAsync(file, "chmod go-w");
    }

    [Fact]
    public async Task A_pipe_a_folder_and_a_device_are_no_scripts_and_nobody_waits_for_them()
    {
        var mine = Folder("mine");
        var pipe = Path.Combine(mine, "pipe");
        Assert.Equal(0, Linux.Mkfifo(pipe, 0x1c0));
        await RefusedAsync(pipe, "no regular file");
        Assert.Equal("ScriptNotFound", (await Assert.ThrowsAsync<VMatrixException>(() => RunAsync(mine))).Id);
        Assert.Equal("ScriptNotFound", (await Assert.ThrowsAsync<VMatrixException>(() => RunAsync(Path.Combine(mine, "none", "s")))).Id);
    }

    [Fact]
    public async Task What_is_run_is_what_was_checked_although_its_name_leads_elsewhere_by_then()
    {
        var mine = Folder("mine");
        var script = Script(Path.Combine(mine, "s"), "echo checked");
        using var file = OwnedFile.Open(script);
        Script(Path.Combine(mine, "other"), "echo swapped");
        File.Move(Path.Combine(mine, "other"), script, overwrite: true);
        using var process = Process.Start(new ProcessStartInfo(file.RunPath) { RedirectStandardOutput = true })!;
        Assert.Equal("checked", (await process.StandardOutput.ReadToEndAsync()).Trim());
    }

    [Fact]
    public async Task A_link_that_is_turned_round_and_round_never_runs_what_others_may_write()
    {
        var mine = Folder("mine");
        var open = Folder("open", UnixFileMode.OtherWrite | UnixFileMode.OtherExecute);
        var marker = Path.Combine(_root, "marker");
        Script(Path.Combine(mine, "good"), "true");
        Script(Path.Combine(open, "bad"), $"echo ran > '{marker}'");
        var link = Path.Combine(mine, "s");
        File.CreateSymbolicLink(link, Path.Combine(mine, "good"));
        using var stop = new CancellationTokenSource();
        var turning = Task.Run(() =>
        {
            for (var i = 0; !stop.IsCancellationRequested; i++)
            {
                var next = Path.Combine(mine, "next");
                File.Delete(next);
                File.CreateSymbolicLink(next, i % 2 == 0 ? Path.Combine(open, "bad") : Path.Combine(mine, "good"));
                Assert.Equal(0, Linux.Rename(next, link));
            }
        });
        var (ran, refused) = (0, 0);
        for (var i = 0; i < 200 || ran == 0 || refused == 0; i++)
        {
            Assert.True(i < 20_000, $"{ran} ran, {refused} were refused.");
            try
            {
                await RunAsync(link);
                ran++;
            }
            catch (VMatrixException e) when (e.Id == "ScriptNotOwned")
            {
                refused++;
            }
        }

        await stop.CancelAsync();
        await turning;
        Assert.False(File.Exists(marker));
    }

    [Fact]
    public async Task A_script_finds_its_folder_its_name_and_nothing_that_this_process_keeps_in_its_environment()
    {
        Environment.SetEnvironmentVariable("VMATRIX_TEST_SECRET", "hunter2");
        Environment.SetEnvironmentVariable("BASH_ENV", "/nowhere");
        try
        {
            var mine = Folder("mine");
            var script = Script(Path.Combine(mine, "s"), "pwd; echo \"$VMATRIX_SCRIPT\"; echo \"$VMATRIX_POOL\"; env");
            var lines = (await RunAsync(script)).Output.Split('\n');
            Assert.Equal([mine, script, "/pool.yaml"], lines[..3]);
            Assert.DoesNotContain(lines, l => l.Contains("hunter2", StringComparison.Ordinal) || l.StartsWith("BASH_ENV", StringComparison.Ordinal));
            Assert.Contains(lines, l => l.StartsWith("PATH=", StringComparison.Ordinal));
        }
        finally
        {
            Environment.SetEnvironmentVariable("VMATRIX_TEST_SECRET", null);
            Environment.SetEnvironmentVariable("BASH_ENV", null);
        }
    }

    [Fact]
    public async Task What_a_script_leaves_running_does_not_hold_up_its_end()
    {
        var mine = Folder("mine");
        var end = await RunAsync(Script(Path.Combine(mine, "s"), "sleep 300 & echo $!; exit 4"), TimeSpan.FromMinutes(4));
        using var child = Process.GetProcessById(int.Parse(end.Output.Trim(), System.Globalization.CultureInfo.InvariantCulture));
        child.Kill();
        Assert.Equal(4, end.ExitCode);
    }

    private static class Linux
    {
#pragma warning disable SYSLIB1054, CA5392, CA2101
        [DllImport("libc", EntryPoint = "geteuid")]
        public static extern uint Geteuid();

        [DllImport("libc", EntryPoint = "lchown")]
        public static extern int Lchown([MarshalAs(UnmanagedType.LPUTF8Str)] string path, uint user, uint group);

        [DllImport("libc", EntryPoint = "mkfifo")]
        public static extern int Mkfifo([MarshalAs(UnmanagedType.LPUTF8Str)] string path, uint mode);

        [DllImport("libc", EntryPoint = "rename")]
        public static extern int Rename([MarshalAs(UnmanagedType.LPUTF8Str)] string from, [MarshalAs(UnmanagedType.LPUTF8Str)] string to);
#pragma warning restore SYSLIB1054, CA5392, CA2101
    }
}
