using System;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Threading.Tasks;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>tests/model/moves.pml in Spin: a second, independent model of the same protocol, looked at exhaustively.</summary>
public sealed class SpinTests
{
    [SpinTheory]
    [InlineData("-DCRASHES=1")]
    public Task No_server_lives_twice(string switches) => ExpectAsync(switches, errors: false);

    [SpinTheory]
    [Trait("Category", "Long")]
    [InlineData("-DCRASHES=2")]
    [InlineData("-DLOSS -DLOCKS -DCRASHES=0")]
    [InlineData("-DLOSS -DLOCKS -DCRASHES=1")]
    public Task No_server_lives_twice_at_length(string switches) => ExpectAsync(switches, errors: false);

    [SpinTheory]
    [Trait("Category", "Long")]
    [InlineData("-DNO_CLAIM -DCRASHES=0")]
    [InlineData("-DNO_PROOF -DCRASHES=0")]
    [InlineData("-DNO_LAPSE -DCRASHES=0")]
    [InlineData("-DNO_EPOCH -DLOSS -DLOCKS -DCRASHES=0")]
    [InlineData("-DLOSS -DCRASHES=0")] // Disks that are shared and not locked, and a decider that lost its lock unnoticed.
    public Task Without_a_safeguard_the_model_finds_the_harm(string switches) => ExpectAsync(switches, errors: true);

    private static async Task ExpectAsync(string switches, bool errors)
    {
        var folder = Directory.CreateTempSubdirectory("vmatrix-spin-").FullName;
        try
        {
            await RunAsync(folder, "spin", $"{switches} -a {Model()}");
            await RunAsync(folder, "cc", "-O2 -DSAFETY -DMEMLIM=6000 -o pan pan.c");
            var output = await RunAsync(folder, Path.Combine(folder, "pan"), "-m1000000");
            Assert.DoesNotContain("out of memory", output, StringComparison.Ordinal);
            Assert.DoesNotContain("max search depth too small", output, StringComparison.Ordinal);
            var told = output.Split('\n').Single(line => line.Contains("errors:", StringComparison.Ordinal));
            Assert.Equal(errors, !told.EndsWith("errors: 0", StringComparison.Ordinal));
            if (errors)
                Assert.Contains("assertion violated", output, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<string> RunAsync(string folder, string program, string arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true })!;
        try
        {
            var output = await Task.WhenAll(process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
            await process.WaitForExitAsync();
            Assert.True(process.ExitCode == 0, $"{program} ended with {process.ExitCode}: {output[0]}{output[1]}");
            return output[0];
        }
        finally
        {
            if (!process.HasExited)
                process.Kill();
        }
    }

    private static string Model([CallerFilePath] string here = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../model/moves.pml"));

    /// <summary>Skips where Spin or a C compiler is missing, and says so.</summary>
    [AttributeUsage(AttributeTargets.Method)]
    private sealed class SpinTheoryAttribute : TheoryAttribute
    {
        public SpinTheoryAttribute()
        {
            var missing = new[] { "spin", "cc" }.Where(tool => !(Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Any(folder => File.Exists(Path.Combine(folder, tool)))).ToArray();
            if (missing.Length > 0)
                Skip = $"need {string.Join(" and ", missing)} (apt-get install spin gcc)";
        }
    }
}
