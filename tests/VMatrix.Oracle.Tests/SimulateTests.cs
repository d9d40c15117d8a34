using System;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Threading.Tasks;
using Xunit;

namespace VMatrix.Oracle.Tests;

public sealed class SimulateTests
{
    [Fact]
    public void Simulate_writes_a_decision_for_each_minute_and_the_same_ones_again()
    {
        string folder = Directory.CreateTempSubdirectory("vmatrix-simulate-").FullName;
        try
        {
            string File_(string name) => Path.Combine(folder, name);
            File.WriteAllText(File_("scenario.json"), """{ "hosts": 4, "activationDelay": 1, "serverCost": 0.05, "activationCost": 0.2, "services": [ { "name": "A", "weight": 2, "capacity": 10, "min": 1 }, { "name": "B", "weight": 1, "capacity": 10, "min": 1 } ] }""");
            File.WriteAllLines(File_("trace.csv"), Enumerable.Range(0, 100).Select(t => $"{t},{(t < 50 ? 5 : 25)},{(t < 50 ? 25 : 5)}").Prepend("minute,A,B"));
            string[] decisions = [.. new[] { "one.csv", "two.csv" }.Select(name =>
            {
                Assert.Equal(0, Program.CommandLine().Parse(["simulate", "--trace", File_("trace.csv"), "--scenario", File_("scenario.json"), "--decisions", File_(name)]).Invoke());
                return File.ReadAllText(File_(name));
            })];
            Assert.Equal(decisions[0], decisions[1]);
            string[] lines = decisions[0].TrimEnd('\n').Split('\n');
            Assert.Equal(101, lines.Length);
            Assert.Equal("minute,A,B", lines[0]);
            Assert.Equal("49,1,3", lines[50]);
            Assert.Equal("99,3,1", lines[100]);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task A_pool_is_played_with_the_same_bytes_by_another_process()
    {
        string folder = Directory.CreateTempSubdirectory("vmatrix-simulate-").FullName;
        try
        {
            string File_(string name) => Path.Combine(folder, name);
            File.WriteAllText(File_("pool.yaml"), """
                pool: trial
                hypervisor: simulation
                hosts:
                  - { name: "host[1-4]", memory: 1 GiB }
                services:
                  - { name: A, priority: 2, capacity: 10/s, image: { memory: 128 MiB } }
                  - { name: B, capacity: 10/s, isolation: shared, image: { memory: 512 MiB } }
                balancer: { kind: simulation }
                simulation: { failureRate: 5%, slowRate: 5% }
                """);
            File.WriteAllLines(File_("trace.csv"), Enumerable.Range(0, 60).Select(t => FormattableString.Invariant($"2026-03-02T08:{t:00}:00Z,{(t % 20 < 10 ? 5 : 25)},{(t % 20 < 10 ? 25 : 5)}")).Prepend("time,A,B"));
            foreach (string name in new[] { "one", "two" })
            {
                using var process = new OracleProcess("simulate", folder, "--trace", File_("trace.csv"), "--compare", "static,threshold", "--seed", "5", "--json", File_(name + ".json"), "--html", File_(name + ".html"));
                Assert.True(await process.EndAsync() == 0, process.Errors);
            }

            foreach (string kind in new[] { ".json", ".html" })
                Assert.Equal(File.ReadAllBytes(File_("one" + kind)), File.ReadAllBytes(File_("two" + kind)));
            using var json = JsonDocument.Parse(File.ReadAllBytes(File_("one.json")));
            var rules = json.RootElement.GetProperty("rules").EnumerateArray().ToArray();
            Assert.Equal(3, rules.Length);
            Assert.All(rules, rule => Assert.All(rule.GetProperty("services").EnumerateArray(), service => Assert.Equal(60, service.GetProperty("minutes").GetArrayLength())));
            // One page that stands alone.
            Assert.DoesNotMatch("(?i)https?:|src=|@import|url[(]", File.ReadAllText(File_("one.html")));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Theory]
    [InlineData("simulate", "--trace", "t.csv")]
    [InlineData("simulate", "p.yaml", "--trace", "t.csv", "--scenario", "s.json")]
    [InlineData("simulate", "--trace", "t.csv", "--scenario", "s.json", "--html", "x.html")]
    [InlineData("simulate", "p.yaml", "--trace", "t.csv", "--decisions", "d.csv")]
    [InlineData("simulate", "p.yaml", "--trace", "t.csv", "--interval", "0s")]
    public void What_does_not_go_together_is_told(params string[] arguments) =>
        Assert.NotEmpty(Program.CommandLine().Parse(arguments).Errors);
}
