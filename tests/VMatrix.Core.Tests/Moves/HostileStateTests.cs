using System;
using System.IO;
using System.Linq;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Moves;

/// <summary>Files in the state folder that somebody else wrote, or that a disk damaged.</summary>
public sealed class HostileStateTests : IDisposable
{
    private readonly World _world = new();

    public void Dispose() => _world.Dispose();

    private string Write(string kind, string name, string content)
    {
        var folder = Directory.CreateDirectory(Path.Combine(_world.StatePath, kind)).FullName;
        var path = Path.Combine(folder, name);
        File.WriteAllText(path, content);
        return path;
    }

    public static TheoryData<string, string, string> Overrides => new()
    {
        { "hosts", "M1.json", "null" },
        { "hosts", "M1.json", "" },
        { "hosts", "M1.json", """{"host":null,"by":"x","at":"2026-01-01T00:00:00Z"}""" },
        { "hosts", "M1.json", """{"host":"m1","by":null,"at":"2026-01-01T00:00:00Z"}""" },
        { "hosts", "M1.json", """{"host":"m1","host":"m2","by":"x","at":"2026-01-01T00:00:00Z"}""" },
        { "hosts", "M1 (copy).json", """{"host":"m1","by":"x","at":"2026-01-01T00:00:00Z"}""" },
        { "hosts", "M1.json", "[1,2,3]" },
        { "services", "FINANCE.json", """{"service":"FINANCE","servers":2147483647,"by":"x","at":"2026-01-01T00:00:00Z"}""" },
        { "services", "FINANCE.json", """{"service":"FINANCE","servers":-1,"by":"x","at":"2026-01-01T00:00:00Z"}""" },
        { "services", "FINANCE.json", """{"service":"FINANCE","servers":1e300,"by":"x","at":"2026-01-01T00:00:00Z"}""" },
        { "services", "FINANCE.json", """{"service":null,"servers":1,"by":"x","at":"2026-01-01T00:00:00Z"}""" },
        { "services", "SPORTS.json", """{"service":"FINANCE","servers":1,"by":"x","at":"2026-01-01T00:00:00Z"}""" },
        { "approvals", "X.json", """{"planId":null,"hash":null,"by":"x","at":"2026-01-01T00:00:00Z"}""" },
        { "approvals", "X.json", "\0\0\0\0" },
    };

    [Theory]
    [MemberData(nameof(Overrides))]
    public void AHostileOverrideIsToldAndHindersNothingElse(string kind, string name, string content)
    {
        var now = _world.Time.GetUtcNow();
        _world.State.Overrides.SetHost(new HostOverride { Host = "m2", By = "Anna", At = now });
        _world.State.Overrides.SetService(new ServiceOverride { Service = "NEWS", Servers = 3, By = "Bob", At = now });
        var path = Write(Path.Combine("overrides", kind), name, content);

        var hosts = _world.State.Overrides.ReadHosts(now);
        Assert.Contains(hosts, o => o.Host == "m2");
        Assert.Equal(hosts.Count, hosts.Select(o => o.Host).Distinct(StringComparer.OrdinalIgnoreCase).Count());
        if (kind == "hosts" && name == "M1.json")
            Assert.Contains(hosts, o => string.Equals(o.Host, "m1", StringComparison.OrdinalIgnoreCase) && !o.ConfirmedDead);
        Assert.Equal(3, Assert.Single(_world.State.Overrides.ReadServices(now)).Servers);
        Assert.Empty(_world.State.Overrides.ReadApprovals());
        Assert.Contains(path, Assert.Single(_world.State.ReadProblems()));
    }

    [Theory]
    [InlineData("""{"action":null,"owner":"7cfa1b55-0d3e-4f3b-8a52-5a7d0e2a4d11","by":"x","at":"2026-01-01T00:00:00Z"}""")]
    [InlineData("""{"owner":"7cfa1b55-0d3e-4f3b-8a52-5a7d0e2a4d11"}""")]
    [InlineData("nonsense")]
    public void ADamagedClaimOnAHostIsToldAndNothingIsMovedThere(string content) => _world.Time.Run(async () =>
    {
        var path = Write("hosts", "M1.json", content);
        Assert.Empty(_world.State.ReadHostClaims());
        Assert.Contains(path, Assert.Single(_world.State.ReadProblems()));
        var server = _world.Add("A", Stage.Nest, null);
        var other = _world.Add("B", Stage.Nest, null);
        var refused = await _world.CarryOut(_world.Move(server, MoveKind.Wake, Stage.Matrix, "m1"));
        Assert.Equal(MoveStatus.Refused, refused.Status);
        Assert.Contains(path, refused.Error);
        Assert.Equal(MoveStatus.Done, (await _world.CarryOut(_world.Move(other, MoveKind.Wake, Stage.Matrix, "m2"))).Status);
    });

    [Theory]
    [InlineData("""{"move":null}""")]
    [InlineData("""{"at":"2026-01-01T00:00:00Z","move":{"id":"7cfa1b55-0d3e-4f3b-8a52-5a7d0e2a4d11","kind":"Wake","serverId":"7cfa1b55-0d3e-4f3b-8a52-5a7d0e2a4d11","serverName":null,"service":null,"fromStage":"Nest","toStage":"Matrix","reason":null},"owner":"7cfa1b55-0d3e-4f3b-8a52-5a7d0e2a4d11"}""")]
    [InlineData("""{"at":"2026-01-01T00:00:00Z","move":7}""")]
    public void AHostileJournalIsToldWithItsFile(string line)
    {
        var path = Write("moves", Guid.NewGuid().ToString("D") + ".json", line + "\n{}\n");
        Assert.Empty(_world.State.ReadOpenMoves());
        Assert.Contains(path, Assert.Single(_world.State.ReadProblems()));
    }

    [Fact]
    public void AStateFileBeyondAllSizeIsNotRead()
    {
        var path = Write(Path.Combine("overrides", "services"), "FINANCE.json", "");
        using (var file = File.OpenWrite(path))
            file.SetLength(3L << 30);
        Assert.Empty(_world.State.Overrides.ReadServices(_world.Time.GetUtcNow()));
        Assert.Contains(path, Assert.Single(_world.State.ReadProblems()));
    }
}
