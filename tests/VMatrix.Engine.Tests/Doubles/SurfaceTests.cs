using System;
using System.Linq;
using VMatrix.Doubles;
using Xunit;
using static VMatrix.Tests.Doubles.DoubleLab;

namespace VMatrix.Tests.Doubles;

/// <summary>The binder takes what the modules take, and nothing else.</summary>
public sealed class SurfaceTests
{
    [Theory]
    [InlineData(@"Get-VM", "must be called with its module")]
    [InlineData(@"VMware\Get-VM", "is none of")]
    [InlineData(@"Hyper-V\Get-Machine", "no command")]
    [InlineData(@"Hyper-V\Get-VM", "no parameter -Host", "Host", "host1")]
    [InlineData(@"Hyper-V\Get-VM", "no parameter -Computer", "Computer", "host1")]
    [InlineData(@"Hyper-V\Get-VM", "no parameter set has all of", "Name", "a", "Id", "6f9619ff-8b86-d011-b42d-00cf4fc964ff")]
    [InlineData(@"Hyper-V\Get-VM", "cannot take", "Id", "a name")]
    [InlineData(@"Hyper-V\Get-VM", "given twice", "Name", "a", "VMName", "b")]
    [InlineData(@"Hyper-V\Start-VM", "mandatory parameter is missing")]
    [InlineData(@"Hyper-V\Start-VM", "cannot take", "Name", 5)]
    [InlineData(@"Hyper-V\Start-VM", "cannot take", "VM", "a name")]
    [InlineData(@"Hyper-V\Start-VM", "is null", "Name", null)]
    [InlineData(@"Hyper-V\Move-VM", "mandatory parameter is missing", "Name", "a")]
    [InlineData(@"Hyper-V\Stop-VM", "cannot take", "Name", "a", "Force", 1)]
    [InlineData(@"Hyper-V\New-VM", "cannot take", "Name", "a", "MemoryStartupBytes", "1GB")]
    [InlineData(@"Hyper-V\New-VM", "cannot take", "Name", "a", "Generation", 100000)]
    [InlineData(@"Hyper-V\Set-VM", "cannot take", "Name", "a", "AutomaticStartAction", "Never")]
    [InlineData(@"Hyper-V\Stop-VM", "cannot take", "Name", "a", "TurnOff", "yes")]
    [InlineData(@"VirtualMachineManager\Move-SCVirtualMachine", "no parameter -WhatIf", "WhatIf", true)]
    public void What_the_surface_lacks_is_refused(string command, string why, params object?[] given)
    {
        var parameters = given.Chunk(2).ToArray();
        var error = Assert.Throws<BindingException>(() =>
        {
            var binder = new SurfaceBinder();
            var distinct = parameters.ToDictionary(pair => (string)pair[0]!, pair => pair[1]);
            binder.Bind(command, distinct);
        });
        Assert.Contains(why, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(@"Hyper-V\Get-VM", "Name")]
    [InlineData(@"Hyper-V\Get-VM", "Name", "VMName", "a*")]
    [InlineData(@"Hyper-V\Get-VM", "Id", "Id", "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "ComputerName", "host1")]
    [InlineData(@"Hyper-V\Move-VM", "NameSingleDestination", "Name", "a", "DestinationHost", "b")]
    [InlineData(@"Hyper-V\Move-VM", "NameMultipleDestinations", "Name", "a", "DestinationHost", "b", "VirtualMachinePath", @"C:\x")]
    [InlineData(@"Hyper-V\New-VM", "New VHD", "Name", "a", "NewVHDPath", @"C:\a.vhdx", "NewVHDSizeBytes", 5)]
    [InlineData(@"Hyper-V\Import-VM", "Copy", "Path", @"C:\a.vmcx", "Copy", true, "GenerateNewId", true)]
    [InlineData(@"FailoverClusters\Move-ClusterVirtualMachineRole", "__AllParameterSets", "VMId", "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "MigrationType", "live")]
    public void What_it_has_is_bound_to_the_set_that_fits(string command, string set, params object?[] given)
    {
        var binder = new SurfaceBinder();
        Assert.Equal(set, binder.Bind(command, given.Chunk(2).ToDictionary(pair => (string)pair[0]!, pair => pair[1])).Set.Name);
        Assert.Equal((SurfaceBinder.Find(command).FullName, set), Assert.Single(binder.Record.Keys));
    }

    [Fact]
    public void The_pipeline_is_bound_by_value_and_never_to_what_does_not_take_it()
    {
        var binder = new SurfaceBinder();
        var vm = new Microsoft.HyperV.PowerShell.VirtualMachine { Name = "a" };
        Assert.Equal("VMObject", binder.Bind(@"Hyper-V\Start-VM", Command("").Parameters, vm).Set.Name);
        Assert.Equal("Name", binder.Bind(@"Hyper-V\Start-VM", Command("").Parameters, "a").Set.Name);
        Assert.Equal("VMSingleDestination", binder.Bind(@"Hyper-V\Move-VM", Command("", ("DestinationHost", "b"), ("IncludeStorage", true)).Parameters, vm).Set.Name);
        var ambiguous = Assert.Throws<BindingException>(() => binder.Bind(@"Hyper-V\Move-VM", Command("", ("DestinationHost", "b")).Parameters, vm));
        Assert.Contains("fits several parameter sets", ambiguous.Message, StringComparison.Ordinal);
        Assert.Throws<BindingException>(() => binder.Bind(@"Hyper-V\Start-VM", Command("").Parameters, 5));
        Assert.Throws<BindingException>(() => binder.Bind(@"Hyper-V\Start-VM", Command("", ("ComputerName", "host1")).Parameters, vm));
        Assert.Throws<BindingException>(() => binder.Bind(@"Hyper-V\Get-VMHost", Command("").Parameters, vm));
    }

    [Fact]
    public void Every_command_that_is_doubled_is_on_the_surface() =>
        Assert.All(CommandCall.Doubled, name => SurfaceBinder.Find(name));
}
