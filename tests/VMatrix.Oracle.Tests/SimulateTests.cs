using System;
using System.IO;
using System.Linq;
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
}
