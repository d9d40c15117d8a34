using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Moves;
using VMatrix.Pools;
using VMatrix.Scripts;
using Xunit;

namespace VMatrix.Tests.Pools;

/// <summary>Files that are none, texts that end in what nobody sees, and who may read what we write.</summary>
public sealed class PoolFileKindTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-kind-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [SkippableFact]
    public async Task A_pipe_or_a_device_as_pool_file_is_an_error_at_once()
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "need Linux");
        var pipe = Path.Combine(_folder, "pool.yaml");
        using (var made = System.Diagnostics.Process.Start("mkfifo", pipe))
            await made.WaitForExitAsync();
        foreach (var path in new[] { pipe, "/dev/zero" })
        {
            var reading = Task.Run(() => PoolFile.Read(path));
            Assert.Same(reading, await Task.WhenAny(reading, Task.Delay(TimeSpan.FromMinutes(2))));
            Assert.Equal("PoolUnreadable", (await Assert.ThrowsAsync<VMatrixException>(() => reading)).Id);
        }
    }

    [Theory]
    [InlineData("name: \"pool\\n\"")]
    [InlineData("name: \"pool\\e[2J\"")]
    [InlineData("name: pool\nbalancer: { listen: \"127.0.0.1:80\\n\" }")]
    [InlineData("name: pool\nstate: \"a\\eb\"")]
    [InlineData("name: pool\nhosts: [ { name: \"h1\\n\" } ]")]
    public void A_value_that_ends_or_begins_with_what_cannot_be_seen_is_a_finding(string text)
    {
        var path = Path.Combine(_folder, "pool.yaml");
        File.WriteAllText(path, text + "\n");
        var (pool, findings) = PoolFile.Read(path);
        Assert.Null(pool);
        Assert.Contains(findings, f => f.Line == text.Count(c => c == '\n') + 1);
    }

    [Theory]
    [InlineData("FINANCE-1", true)]
    [InlineData("a", true)]
    [InlineData("a.b_c-9", true)]
    [InlineData("a\n", false)]
    [InlineData("..", false)]
    [InlineData("a/b", false)]
    [InlineData("ä", false)]
    [InlineData("a-", false)]
    [InlineData("", false)]
    public void A_servers_name_keeps_to_the_pool_files_rule(string name, bool valid)
    {
        Assert.Equal(valid, ServerName.IsValid(name));
        if (!valid)
            Assert.Equal("ServerNameInvalid", Assert.Throws<VMatrixException>(() => ServerName.Check(name)).Id);
    }

    [Fact]
    public void An_error_shows_what_a_terminal_would_obey_by_its_number()
    {
        var error = new VMatrixException("X", VMatrixErrorKind.Failed, "one\r\ntwo\tthree \u001b]0;owned\u0007 \u009b31m \u202Egnp \ud800 \U0001F600");
        Assert.Equal("one\ntwo\tthree \\u001B]0;owned\\u0007 \\u009B31m \\u202Egnp \\uD800 \U0001F600", error.Message);
    }

    [SkippableFact]
    [System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
    public void The_state_folder_and_all_in_it_is_its_owners_alone()
    {
        if (!OperatingSystem.IsLinux())
            throw new SkipException("need Linux");
        var path = Path.Combine(_folder, "deep", ".vmatrix");
        var state = StateFolder.Open(path, create: true);
        state.Overrides.SetHost(new HostOverride { Host = "h1", By = "me", At = DateTimeOffset.UnixEpoch });
        using (var history = History.Open(Path.Combine(path, "history.db")))
        {
            Assert.Null(history.Warning);
            string[] made = [Path.GetDirectoryName(path)!, path, .. Directory.GetFileSystemEntries(path, "*", SearchOption.AllDirectories)];
            Assert.Contains(made, p => p.EndsWith("history.db", StringComparison.Ordinal));
            Assert.All(made, p => Assert.True((File.GetUnixFileMode(p) & (UnixFileMode)0b111_111) == 0, $"{p} has the mode {File.GetUnixFileMode(p)}."));
        }
    }
}
