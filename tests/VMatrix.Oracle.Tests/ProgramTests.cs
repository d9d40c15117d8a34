using System;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Threading.Tasks;
using Xunit;

namespace VMatrix.Oracle.Tests;

/// <summary>The program as a process, on a simulated pool.</summary>
public sealed class ProgramTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-oracle-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Run_switches_until_it_is_told_to_stop_and_a_second_one_is_refused_by_name()
    {
        string pool = Pool();
        using var first = new OracleProcess("run", pool, "--interval", "200ms", "--json");
        await first.SaysAsync(line => Type(line) == "plan");
        foreach (string service in (string[])["FINANCE", "SPORTS"])
            await first.SaysAsync(line => Type(line) == "move" && ((string[])["\"Wake\"", "\"Done\"", $"\"{service}\""]).All(word => line.Contains(word, StringComparison.Ordinal)));
        await first.SaysAsync(line => Type(line) == "pool");

        using var second = new OracleProcess("run", pool, "--json");
        Assert.Equal(3, await second.EndAsync());
        Assert.Contains($"process {first.Id} ", second.Errors, StringComparison.Ordinal);

        using var status = new OracleProcess("status", pool);
        Assert.Equal(0, await status.EndAsync());
        Assert.Contains(status.Lines, line => line.Contains($"process {first.Id} ", StringComparison.Ordinal));

        // A copy of the pool file elsewhere has a state folder of its own, and the same nest.
        string elsewhere = Directory.CreateDirectory(Path.Combine(_folder, "copy")).FullName;
        await File.WriteAllTextAsync(Path.Combine(elsewhere, "pool.yaml"), (await File.ReadAllTextAsync(pool)).Replace("folder: nest", "folder: ../nest", StringComparison.Ordinal));
        using var copy = new OracleProcess("run", elsewhere, "--json");
        Assert.Equal(3, await copy.EndAsync());
        Assert.Contains($"process {first.Id} ", copy.Errors, StringComparison.Ordinal);
        Assert.Contains(Path.Combine(_folder, ".vmatrix"), copy.Errors, StringComparison.Ordinal);

        await first.SignalAsync("TERM");
        Assert.Equal(0, await first.EndAsync());
        Assert.Equal("message", Type(first.Lines[^1]));
        Assert.Equal("", first.Errors);

        // The servers run on, and nothing is half done.
        using var after = new OracleProcess("status", pool, "--json");
        Assert.Equal(0, await after.EndAsync());
        using var view = JsonDocument.Parse(after.Lines[0]);
        JsonElement[] services = [.. view.RootElement.GetProperty("services").EnumerateArray()];
        Assert.All(services, service => Assert.True(service.GetProperty("inMatrix").GetInt32() >= 1));
        Assert.DoesNotContain(after.Lines, line => Type(line) == "move" && line.Contains("\"Running\"", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Ctrl_C_ends_a_run_in_plain_lines_as_well()
    {
        using var run = new OracleProcess("run", Pool(), "--interval", "200ms");
        await run.SaysAsync(line => line.Contains("plan: ", StringComparison.Ordinal));
        await run.SignalAsync("INT");
        Assert.Equal(0, await run.EndAsync());
        Assert.EndsWith("the servers keep running.", run.Lines[^1], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("run", "p.yaml", "--interval")]
    [InlineData("simulate", "p.yaml", "--trace", "t.csv", "--interval")]
    [InlineData("load", "p.yaml", "--service", "FINANCE", "--duration")]
    [InlineData("demo", "--duration")]
    [InlineData("image", "build-demo", "--folder", "f", "--request-time")]
    public void Lengths_of_time_are_written_as_in_the_pool_file_and_a_bare_number_is_refused(params string[] arguments)
    {
        foreach (string good in new[] { "30s", "5m", "0.01h" })
            Assert.Empty(Program.CommandLine().Parse([.. arguments, good]).Errors);
        foreach (string bad in new[] { "30", "0.2", "30x", "1000d", "00:00:30" })
            Assert.Contains(arguments[^1], Assert.Single(Program.CommandLine().Parse([.. arguments, bad]).Errors).Message, StringComparison.Ordinal);
        Assert.Contains("write 30s", Program.CommandLine().Parse([.. arguments, "30"]).Errors[0].Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_option_that_is_a_length_of_time_says_so()
    {
        var options = Program.CommandLine().Subcommands.SelectMany(c => c.Subcommands.Append(c)).SelectMany(c => c.Options).ToArray();
        Assert.Contains(options, o => o.ValueType == typeof(TimeSpan) || o.ValueType == typeof(TimeSpan?));
        Assert.DoesNotContain(options, o => o.Name is "--interval" or "--duration" or "--request-time" && o.ValueType != typeof(TimeSpan) && o.ValueType != typeof(TimeSpan?));
        Assert.DoesNotContain(options, o => o.Name.Contains("seconds", StringComparison.Ordinal) || o.Name.EndsWith("-ms", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Wrong_input_ends_with_2_and_says_what_is_wrong()
    {
        using var option = new OracleProcess("run", Pool(), "--interval", "0s");
        Assert.Equal(2, await option.EndAsync());
        Assert.Contains("--interval 0", option.Errors, StringComparison.Ordinal);

        using var nowhere = new OracleProcess("status", Path.Combine(_folder, "none.yaml"));
        Assert.Equal(2, await nowhere.EndAsync());
        Assert.Contains("none.yaml", nowhere.Errors, StringComparison.Ordinal);

        string bad = Path.Combine(_folder, "bad.yaml");
        await File.WriteAllTextAsync(bad, "pool: x\nhypervisor: simulation\nhosts: 5\n");
        using var wrong = new OracleProcess("status", bad);
        Assert.Equal(2, await wrong.EndAsync());
        Assert.Contains("bad.yaml(3,", wrong.Errors, StringComparison.Ordinal);

        using var folder = new OracleProcess("demo", "--summary", Path.Combine(_folder, "none", "summary.json"));
        Assert.Equal(1, await folder.EndAsync());
        Assert.Contains("none", folder.Errors, StringComparison.Ordinal);
    }

    private string Pool()
    {
        string path = Path.Combine(_folder, "pool.yaml");
        File.WriteAllText(path, """
            pool: simulated
            hypervisor: simulation
            hosts:
              - { name: "host[1-3]", memory: 1 GiB, servers: 2 }
            services:
              - { name: FINANCE, capacity: 5/s, image: { memory: 128 MiB } }
              - { name: SPORTS, capacity: 5/s, image: { memory: 128 MiB } }
            nest: { folder: nest }
            balancer: { kind: simulation }
            """);
        return path;
    }

    private static string? Type(string line)
    {
        using var document = JsonDocument.Parse(line);
        return document.RootElement.GetProperty("type").GetString();
    }
}
