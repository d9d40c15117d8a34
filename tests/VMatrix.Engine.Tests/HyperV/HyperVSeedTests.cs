using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading.Tasks;
using System.Xml.Linq;
using Microsoft.HyperV.PowerShell;
using VMatrix.Contract;
using VMatrix.Doubles;
using VMatrix.Drivers;
using VMatrix.Seeds;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>What a copy of a gold disk is told about itself: in its drive whenever it boots, out of it before it sleeps, stops or moves.</summary>
public sealed class HyperVSeedTests : IDisposable
{
    private static readonly AddressSpec s_addresses = new() { Range = AddressRange.TryParse("10.0.5.10-10.0.5.60")!, Prefix = 24, Gateway = "10.0.5.1", Dns = ["10.0.0.53", "10.0.0.54"] };
    private static readonly XNamespace s_unattend = "urn:schemas-microsoft-com:unattend";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private string Write(string name, string content, Encoding? encoding = null)
    {
        var path = Path.Combine(_folder.Path, name);
        File.WriteAllText(path, content, encoding ?? new UTF8Encoding(false));
        return path;
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public Task A_guest_with_cloud_init_becomes_who_it_is_and_has_its_address(int generation) => SeedLab.RunAsync(
        service => service with { Addresses = s_addresses, Image = service.Image with { Specialize = Specialize.CloudInit, UserData = Write("user", "#cloud-config\npackages: [nginx]\n") } },
        async lab =>
        {
            var (here, there) = (lab.World.Pool.Hosts[0], lab.World.Pool.Hosts[1]);
            var server = await lab.CreateAsync(1);
            var seed = Path.Combine(lab.World.Pool.Nest.Folder, "seeds", $"{server:D}.iso");
            await lab.Driver.FetchAsync(default, server, here, default);
            var address = await lab.Driver.StartAsync(default, server, lab.Service, here, default);
            var machine = lab.World.MachineOf(server);
            Assert.Equal((server.ToString("D"), "FINANCE-1", lab.AddressOf(server), seed), (machine.GuestIs, machine.GuestName, machine.GuestAddress, machine.Iso));
            await Task.Delay(TimeSpan.FromSeconds(5), lab.World.Clock);
            Assert.Null(await lab.World.OpenProbe().CheckAsync(lab.Service, address, default));
            Assert.Null((await lab.Driver.ReadHostAsync(here, default)).Machines.Single().Problem);

            // The owner's file comes through to the byte.
            var disc = DiscFile.Read(await File.ReadAllBytesAsync(seed))!;
            Assert.Equal("cidata", disc.Label);
            Assert.Equal("#cloud-config\npackages: [nginx]\n", disc.Files["user-data"]);
            Assert.Equal(["meta-data", "network-config", "user-data"], disc.Files.Keys.Order());

            // It stands in the way of nothing: taken out before a move, and before the machine sleeps.
            Assert.DoesNotContain(await lab.Driver.CompareAsync(server, lab.Service, here, there, live: true, default), obstacle => obstacle.What == "AttachedIso");
            await lab.Driver.MigrateAsync(default, server, lab.Service, here, there, default);
            Assert.Equal(("", false), (lab.World.MachineOf(server).Iso, File.Exists(seed)));
            await lab.Driver.SaveAsync(default, server, there, default);
            await lab.Driver.CarryAsync(default, server, there, here, default);
            await lab.Driver.StartAsync(default, server, lab.Service, here, default);
            Assert.Equal((VMState.Running, ""), (lab.World.MachineOf(server).State, lab.World.MachineOf(server).Iso));

            // Booted again it has it again, for a boot that was cut short may have made nothing of it.
            await lab.Driver.StopAsync(default, server, here, default);
            await lab.Driver.StartAsync(default, server, lab.Service, here, default);
            Assert.Equal(seed, lab.World.MachineOf(server).Iso);
            await lab.Driver.SaveAsync(default, server, here, default);
            Assert.Equal((VMState.Saved, "", false), (lab.World.MachineOf(server).State, lab.World.MachineOf(server).Iso, File.Exists(seed)));
            await lab.Driver.StopAsync(default, server, here, default);
            await lab.Driver.DiscardAsync(default, server, here, default);
            await lab.Driver.EraseAsync(default, server, default);
            Assert.Empty(lab.World.Leftovers([]));
        },
        generation);

    [Fact]
    public Task Stopped_it_lets_go_of_its_seed_and_a_disc_of_its_owner_stays() => SeedLab.RunAsync(
        service => service with { Image = service.Image with { Specialize = Specialize.CloudInit } },
        async lab =>
        {
            var here = lab.World.Pool.Hosts[0];
            var server = await lab.CreateAsync(1);
            await lab.Driver.FetchAsync(default, server, here, default);
            await lab.Driver.StartAsync(default, server, lab.Service, here, default);
            await lab.Driver.StopAsync(default, server, here, default);
            Assert.Equal("", lab.World.MachineOf(server).Iso);
            var tools = Write("tools.iso", "tools");
            await lab.Driver.StartAsync(default, server, lab.Service, here, default);
            lab.World.World.SetMachine(lab.World.MachineOf(server).Id, machine => machine with { Iso = tools });
            await lab.Driver.SaveAsync(default, server, here, default);
            Assert.Equal(tools, lab.World.MachineOf(server).Iso);
        });

    [Fact]
    public Task One_that_was_registered_is_somebody_already() => SeedLab.RunAsync(
        service => service with { Image = service.Image with { Specialize = Specialize.CloudInit } },
        async lab =>
        {
            var here = lab.World.Pool.Hosts[0];
            var mail = lab.World.World.AddForeign(here.Name, "mail", machineState: VMState.Off);
            var mark = lab.Mark(1, Guid.NewGuid());
            await lab.Driver.AdoptAsync(default, mail.ToString("D"), mark, here, default);
            lab.World.World.SetMachine(mail, machine => machine with { Adapters = [machine.Adapters[0] with { Switch = "LAN" }] });
            await lab.Driver.StartAsync(default, mark.ServerId, lab.Service, here, default);
            Assert.Null(lab.World.World.Machine(mail).Iso);
        });

    [Fact]
    public Task A_Windows_has_its_name_its_address_and_its_account_in_its_owners_answer_file() => SeedLab.RunAsync(
        service => service with
        {
            Addresses = s_addresses,
            Image = service.Image with { Specialize = Specialize.Sysprep, Answers = Write("unattend.xml", Owners), Join = _folder.Path },
        },
        async lab =>
        {
            var here = lab.World.Pool.Hosts[0];
            var missing = await Assert.ThrowsAsync<VMatrixException>(() => lab.CreateAsync(1));
            Assert.Equal("JoinFileMissing", missing.Id);
            Assert.Contains("djoin /provision /domain DOMAIN /machine FINANCE-1 /savefile FINANCE-1.txt", missing.Message, StringComparison.Ordinal);
            Assert.Empty(lab.World.Leftovers([]));

            // As djoin writes it.
            var account = Convert.ToBase64String(Encoding.UTF8.GetBytes("an account of FINANCE-1"));
            Write("FINANCE-1.txt", account + "\r\n\0", Encoding.Unicode);
            var server = await lab.CreateAsync(1);
            await lab.Driver.FetchAsync(default, server, here, default);
            await lab.Driver.StartAsync(default, server, lab.Service, here, default);
            var machine = lab.World.MachineOf(server);
            Assert.Equal(("FINANCE-1", lab.AddressOf(server)), (machine.GuestName, machine.GuestAddress));

            var answers = XDocument.Parse(DiscFile.Read(await File.ReadAllBytesAsync(machine.Iso!))!.Files["Autounattend.xml"]);
            var pass = answers.Root!.Elements().Single(settings => settings.Attribute("pass")!.Value == "specialize");
            XElement Component(string name) => pass.Elements().Single(component => component.Attribute("name")!.Value == name);
            Assert.Equal(account, Component("Microsoft-Windows-UnattendedJoin").Element(s_unattend + "Identification")!.Element(s_unattend + "Provisioning")!.Element(s_unattend + "AccountData")!.Value);
            Assert.Equal([$"{lab.AddressOf(server)}/24"], Component("Microsoft-Windows-TCPIP").Descendants(s_unattend + "IpAddress").Select(element => element.Value));
            Assert.Equal("10.0.5.1", Component("Microsoft-Windows-TCPIP").Descendants(s_unattend + "NextHopAddress").Single().Value);
            Assert.Equal(s_addresses.Dns, Component("Microsoft-Windows-DNS-Client").Descendants(s_unattend + "IpAddress").Select(element => element.Value));

            // What the owner wrote stays, and what is new is made like it.
            Assert.Equal("W. Europe Standard Time", Component("Microsoft-Windows-Shell-Setup").Element(s_unattend + "TimeZone")!.Value);
            Assert.Equal("arm64", Component("Microsoft-Windows-TCPIP").Attribute("processorArchitecture")!.Value);
            Assert.Equal("true", answers.Root.Elements().Single(settings => settings.Attribute("pass")!.Value == "oobeSystem").Descendants(s_unattend + "HideEULAPage").Single().Value);
            Assert.Equal(["FINANCE-1"], answers.Descendants(s_unattend + "ComputerName").Select(element => element.Value));
        });

    [Theory]
    [InlineData(null, "SeedFileMissing", "unattend.xml")]
    [InlineData("<unattend>", "SeedFileWrong", "not well-formed")]
    [InlineData("<html />", "SeedFileWrong", "no answer file")]
    [InlineData("<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><unattend xmlns='urn:schemas-microsoft-com:unattend'>&b;</unattend>", "SeedFileWrong", "DTD")]
    public Task What_is_wrong_with_an_owners_file_is_said_before_anything_is_made(string? content, string id, string words) => SeedLab.RunAsync(
        service => service with { Image = service.Image with { Specialize = Specialize.Sysprep, Answers = content is null ? Path.Combine(_folder.Path, "unattend.xml") : Write("unattend.xml", content) } },
        async lab =>
        {
            var refused = await Assert.ThrowsAsync<VMatrixException>(() => lab.CreateAsync(1));
            Assert.Equal(id, refused.Id);
            Assert.Contains(words, refused.Message, StringComparison.Ordinal);
            Assert.Empty(lab.World.World.Machines);
            Assert.Empty(lab.World.Leftovers([]));
        });

    [Theory]
    [InlineData("A-LONG-SERVICE", 12)]
    [InlineData("A.B", 1)]
    [InlineData("A_B", 1)]
    public void A_name_that_no_Windows_computer_can_have_is_refused(string name, int number)
    {
        var service = new ServiceSpec { Name = name, Image = new ImageSpec { Specialize = Specialize.Sysprep, Answers = Write("unattend.xml", Owners) } };
        Assert.Equal("NameNotForWindows", Assert.Throws<VMatrixException>(() => GuestSeed.Build(Named(name, number), service, null, DateTimeOffset.UnixEpoch)).Id);
    }

    [Fact]
    public void A_seed_says_what_cloud_init_reads()
    {
        var service = new ServiceSpec { Name = "P.1", Addresses = s_addresses, Image = new ImageSpec { Specialize = Specialize.CloudInit } };
        var mark = Named("P.1", 7);
        var disc = DiscFile.Read(GuestSeed.Build(mark, service, "10.0.5.17", DateTimeOffset.UnixEpoch)!)!;
        Assert.Equal($"instance-id: {mark.ServerId:D}\nlocal-hostname: P-1-7\n", disc.Files["meta-data"]);
        Assert.Equal("#cloud-config\n", disc.Files["user-data"]);
        Assert.Equal("""
            version: 2
            ethernets:
              eth0:
                dhcp4: false
                addresses:
                  - 10.0.5.17/24
                routes:
                  - to: 0.0.0.0/0
                    via: 10.0.5.1
                nameservers:
                  addresses:
                    - 10.0.0.53
                    - 10.0.0.54

            """.ReplaceLineEndings("\n"), disc.Files["network-config"]);
        Assert.DoesNotContain("network-config", DiscFile.Read(GuestSeed.Build(mark, service, null, DateTimeOffset.UnixEpoch)!)!.Files.Keys);
        Assert.Null(GuestSeed.Build(mark, service with { Image = new ImageSpec() }, "10.0.5.17", DateTimeOffset.UnixEpoch));
    }

    [Theory]
    [InlineData("web\npublic-keys: [ssh-rsa AAAA]")]
    [InlineData("web: {}")]
    [InlineData("yes")]
    [InlineData("0123")]
    [InlineData("# web")]
    [InlineData("\u001b[2J\0")]
    public void No_name_makes_a_seed_say_anything_but_a_name(string name)
    {
        var service = new ServiceSpec { Name = "P", Image = new ImageSpec { Specialize = Specialize.CloudInit } };
        var disc = DiscFile.Read(GuestSeed.Build(Named("P", 7) with { Name = name }, service, null, DateTimeOffset.UnixEpoch)!)!;
        var read = new YamlDotNet.Serialization.DeserializerBuilder().WithAttemptingUnquotedStringTypeDeserialization().Build().Deserialize<Dictionary<string, object>>(disc.Files["meta-data"]);
        Assert.Equal(["instance-id", "local-hostname"], read.Keys.Order());
        Assert.Equal(name, Assert.IsType<string>(read["local-hostname"]));
    }

    /// <summary>For readers without Joliet: names in capitals with what the standard wants behind them.</summary>
    [Fact]
    public void An_image_has_plain_names_too()
    {
        var image = IsoImage.Build("cidata", [("meta-data", "a"u8.ToArray()), ("Autounattend.xml", new byte[5000])], new DateTimeOffset(2026, 2, 3, 4, 5, 6, TimeSpan.Zero));
        Assert.Equal(0, image.Length % 2048);
        Assert.Equal("cidata", Encoding.ASCII.GetString(image, (16 * 2048) + 40, 32).TrimEnd());
        Assert.Equal("2026020304050600", Encoding.ASCII.GetString(image, (16 * 2048) + 813, 16));
        var folder = Encoding.ASCII.GetString(image, 23 * 2048, 2048);
        Assert.Contains("AUTOUNATTEND.XML;1", folder, StringComparison.Ordinal);
        Assert.Contains("META-DATA.;1", folder, StringComparison.Ordinal);
        Assert.True(folder.IndexOf("AUTO", StringComparison.Ordinal) < folder.IndexOf("META", StringComparison.Ordinal));
        Assert.Throws<ArgumentException>(() => IsoImage.Build("x", [.. Enumerable.Range(0, 60).Select(i => ($"file-{i}", Array.Empty<byte>()))], DateTimeOffset.UnixEpoch));
    }

    private static ServerMark Named(string service, int number) => new() { ServerId = Guid.NewGuid(), Name = $"{service}-{number}", Service = service, Image = "i", Stage = Stage.Nest, StateId = Guid.NewGuid(), CreatedAt = default, ChangedAt = default };

    private const string Owners = """
        <?xml version="1.0" encoding="utf-8"?>
        <unattend xmlns="urn:schemas-microsoft-com:unattend">
          <settings pass="specialize">
            <component name="Microsoft-Windows-Shell-Setup" processorArchitecture="arm64" publicKeyToken="31bf3856ad364e35" language="neutral" versionScope="nonSxS">
              <ComputerName>*</ComputerName>
              <TimeZone>W. Europe Standard Time</TimeZone>
            </component>
          </settings>
          <settings pass="oobeSystem">
            <component name="Microsoft-Windows-Shell-Setup" processorArchitecture="arm64" publicKeyToken="31bf3856ad364e35" language="neutral" versionScope="nonSxS">
              <OOBE><HideEULAPage>true</HideEULAPage></OOBE>
            </component>
          </settings>
        </unattend>
        """;
}
