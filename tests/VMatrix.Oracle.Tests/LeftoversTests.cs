using System;
using System.Diagnostics;
using System.IO;
using System.Threading.Tasks;
using VMatrix.Oracle.Demo;
using Xunit;

namespace VMatrix.Oracle.Tests;

/// <summary>What a demo that was killed has left is ended by the next one.</summary>
public sealed class LeftoversTests
{
    [Fact]
    public async Task Guests_and_files_of_a_killed_demo_are_gone_and_those_of_one_that_runs_stay()
    {
        string parent = Directory.CreateTempSubdirectory("vmatrix-left-").FullName;
        string folder = Path.Combine(parent, "vmatrix-demo-abc123");
        Directory.CreateDirectory(folder);
        string guest = Path.Combine(folder, "qemu-system-fake");
        File.Copy("/bin/sleep", guest);
        using Process process = Process.Start(guest, "300");
        try
        {
            using (Leftovers.Hold(folder))
            {
                Assert.DoesNotContain(folder, Leftovers.EndKilled([parent]));
                Assert.False(process.HasExited);
            }

            // Found by its guest alone, wherever its folder was made.
            while (!(await File.ReadAllTextAsync($"/proc/{process.Id}/cmdline")).Contains(folder, StringComparison.Ordinal))
                await Task.Delay(10);
            Assert.Contains(folder, Leftovers.EndKilled([]));
            await process.WaitForExitAsync();
            Assert.False(Directory.Exists(folder));
        }
        finally
        {
            if (!process.HasExited)
                process.Kill();
            Directory.Delete(parent, recursive: true);
        }
    }

    [Fact]
    public async Task A_folder_that_another_user_planted_among_the_demos_is_left_alone_with_all_that_runs_by_its_name()
    {
        if (Environment.UserName != "root" || !OperatingSystem.IsLinux())
            return; // Only root can give files away.
        string parent = Directory.CreateTempSubdirectory("vmatrix-left-").FullName;
        string folder = Path.Combine(parent, "vmatrix-demo-planted1");
        Directory.CreateDirectory(folder);
        await File.WriteAllTextAsync(Path.Combine(folder, "demo.lock"), "");
        string guest = Path.Combine(parent, "qemu-system-fake");
        File.Copy("/bin/sh", guest);
        using (Process chown = Process.Start("chown", ["-R", "65534", folder]))
            await chown.WaitForExitAsync();

        // A process of ours that happens to name that folder.
        using Process process = Process.Start(guest, ["-c", "sleep 300; true", folder + "/disk"]);
        try
        {
            Assert.DoesNotContain(folder, Leftovers.EndKilled([parent]));
            Assert.True(Directory.Exists(folder));
            Assert.False(process.HasExited);
        }
        finally
        {
            process.Kill(entireProcessTree: true);
            Directory.Delete(parent, recursive: true);
        }
    }
}
