using System;
using System.Collections.Generic;
using System.IO;
using System.IO.Compression;
using System.Linq;
using System.Text;
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

    private Guid StoredPlan()
    {
        var plan = new Plan { Id = Guid.NewGuid(), Pool = "test", CreatedAt = _world.Time.GetUtcNow(), ExpiresAt = _world.Time.GetUtcNow().AddMinutes(5), Moves = [_world.Create()], Decisions = [], Summary = "one" };
        _world.State.StorePlan(plan);
        _world.State.WriteProgress(new PlanProgress { PlanId = plan.Id, By = "test" });
        return plan.Id;
    }

    [Fact]
    public void WhatAPlanWasMadeFromThatUnpacksWithoutEndIsOneErrorWithTheFileAndTheLimit()
    {
        var plan = StoredPlan();
        var path = Path.Combine(_world.StatePath, "plans", $"{plan:D}.input.gz");
        using (var zip = new GZipStream(File.Create(path), CompressionLevel.Fastest))
        {
            var spaces = new byte[1 << 20];
            Array.Fill(spaces, (byte)' ');
            for (int i = 0; i < 300; i++)
                zip.Write(spaces);
        }

        var error = Assert.Throws<VMatrixException>(() => _world.State.LoadInput(plan));
        Assert.Equal("PlanCorrupt", error.Id);
        Assert.Contains(path, error.Message);
        Assert.Contains("256 MiB", error.Message);
    }

    [Theory]
    [InlineData("{}")]
    [InlineData("null")]
    [InlineData("[1]")]
    [InlineData("""{"pool":null,"now":"2026-01-01T00:00:00Z","hosts":[],"servers":[],"loads":{}}""")]
    [InlineData("""{"pool":7}""")]
    public void WhatAPlanWasMadeFromThatIsSomethingElseIsOneErrorWithItsFile(string content)
    {
        var plan = StoredPlan();
        var path = Path.Combine(_world.StatePath, "plans", $"{plan:D}.input.gz");
        using (var zip = new GZipStream(File.Create(path), CompressionLevel.Fastest))
            zip.Write(Encoding.UTF8.GetBytes(content));
        var error = Assert.Throws<VMatrixException>(() => _world.State.LoadInput(plan));
        Assert.Equal("PlanCorrupt", error.Id);
        Assert.Contains(path, error.Message);
    }

    public static TheoryData<string, string> AnyFileOfAnyKind()
    {
        var all = new TheoryData<string, string>();
        foreach (var file in new[] { "plans/PLAN.json", "plans/PLAN.input.gz", "plans/PLAN.progress", "moves/SERVER.json", "hosts/M1.json", "overrides/hosts/M1.json", "overrides/services/FINANCE.json", "overrides/approvals/PLAN.json", "memory.json", "shadow.json", "decider.json" })
            foreach (var kind in new[] { "folder", "pipe", "device", "loop", "deep", "noise", "number", "empty" })
                all.Add(file, kind);
        return all;
    }

    [SkippableTheory]
    [MemberData(nameof(AnyFileOfAnyKind))]
    public void AnyStateFileOfAnyKindIsReadAtOnceOrToldAsOneError(string file, string kind)
    {
        Skip.If(OperatingSystem.IsWindows(), "pipes and devices have no names in folders there");
        var plan = StoredPlan();
        using (_world.State.Decide("test"))
        {
        }

        var path = Path.Combine(_world.StatePath, file.Replace("PLAN", plan.ToString("D")).Replace("SERVER", Guid.NewGuid().ToString("D")));
        if (file.StartsWith("plans/PLAN.json", StringComparison.Ordinal))
            path = Directory.GetFiles(Path.GetDirectoryName(path)!, plan.ToString("D") + ".*").First(f => f.EndsWith(".json", StringComparison.Ordinal));
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.Delete(path);
        switch (kind)
        {
            case "folder":
                Directory.CreateDirectory(path);
                break;
            case "pipe":
                using (var made = System.Diagnostics.Process.Start("mkfifo", path))
                    made.WaitForExit();
                break;
            case "device":
                File.CreateSymbolicLink(path, "/dev/zero");
                break;
            case "loop":
                File.CreateSymbolicLink(path, path);
                break;
            case "deep":
                File.WriteAllText(path, new string('[', 1 << 20));
                break;
            case "noise":
                var noise = new byte[4096];
                new Random(1).NextBytes(noise);
                File.WriteAllBytes(path, noise);
                break;
            default:
                File.WriteAllText(path, kind == "number" ? "7" : "");
                break;
        }

        var now = _world.Time.GetUtcNow();
        var errors = new List<VMatrixException>();
        foreach (Action read in new Action[]
        {
            () => _world.State.ReadPlans(), () => _world.State.LoadPlan(plan), () => _world.State.LoadInput(plan), () => _world.State.ReadProgress(plan),
            () => _world.State.ReadOpenMoves(), () => _world.State.ReadHostClaims(), () => _world.State.ReadProblems(), () => _world.State.ReadShadow(), () => _world.State.ReadMemory(),
            () => _world.State.Overrides.ReadHosts(now), () => _world.State.Overrides.ReadServices(now), () => _world.State.Overrides.ReadApprovals(),
            () => _world.State.ReadDecider(), () => _world.State.Decide("again").Dispose(), () => _world.State.TrimPlans(now.AddDays(-1)),
        })
        {
            try
            {
                read();
            }
            catch (VMatrixException e)
            {
                errors.Add(e);
            }
        }

        Assert.All(errors, e => Assert.True(e.Id is "PlanInputMissing" || (e.Id is "PlanNotFound" && kind is "folder") || e.Message.Contains(path, StringComparison.Ordinal), e.Message));
    }
}
