using Xunit;
using Xunit.Abstractions;

namespace VMatrix.Tests.Moves;

/// <summary>Every run of the protocol of claims, lock, epochs and recovery, for two deciders and one hand. What the model leaves out: tests/README.md.</summary>
public sealed class ProtocolModelTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(2)]
    public void NoServerLivesTwiceAndNoneIsLost(int faults)
    {
        var (fault, states) = new ProtocolModel(Guards.All).Check(faults);
        output.WriteLine($"{states} states");
        Assert.True(fault is null, fault);
        Assert.True(states > 10_000, $"{states}");
    }

    [Fact]
    [Trait("Category", "Long")]
    public void NorWithThreeFaults() => NoServerLivesTwiceAndNoneIsLost(3);

    /// <summary>Without disk locks the proof alone holds, as long as a killed process's last call does not arrive after a host was cut off.</summary>
    [Fact]
    public void TheProofHoldsWhereDisksAreNotLocked()
    {
        var (fault, _) = new ProtocolModel(Guards.All & ~Guards.DiskLocks, lateCalls: false).Check(3);
        Assert.True(fault is null, fault);
    }

    /// <summary>Each guard is needed: without it the model finds the harm.</summary>
    [Theory]
    [InlineData(Guards.Claims, "shared")]
    [InlineData(Guards.TakeOverLock, "shared")]
    [InlineData(Guards.Epochs, "stale")]
    [InlineData(Guards.Driver, "twice")]
    [InlineData(Guards.Proof | Guards.DiskLocks, "twice")]
    [InlineData(Guards.WordEnds | Guards.DiskLocks, "twice")]
    public void WithoutAGuardThereIsHarm(object without, string harm)
    {
        var (fault, _) = new ProtocolModel(Guards.All & ~(Guards)without).Check(3);
        output.WriteLine(fault);
        Assert.StartsWith(harm, fault);
    }

    /// <summary>Nothing helps against a false word where disks are not locked: the help says so.</summary>
    [Fact]
    public void AFalseWordIsBelieved() => Assert.StartsWith("twice", new ProtocolModel(Guards.All & ~Guards.DiskLocks, rashOperator: true).Check(1).Fault);
}
