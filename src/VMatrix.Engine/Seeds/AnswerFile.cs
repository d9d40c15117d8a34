using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Xml;
using System.Xml.Linq;

namespace VMatrix.Seeds;

/// <summary>Puts a server's own name, address and domain account into its owner's answer file for Windows, in the pass that makes a copy its own machine (specialize). All else stays.</summary>
internal static class AnswerFile
{
    /// <summary>The first adapter of a generalised Windows.</summary>
    private const string Adapter = "Ethernet";

    private static readonly XNamespace s_unattend = "urn:schemas-microsoft-com:unattend";
    private static readonly XNamespace s_wcm = "http://schemas.microsoft.com/WMIConfig/2002/State";

    /// <summary>The owner's file with what is the server's own.</summary>
    /// <param name="owners">The owner's file.</param>
    /// <param name="whose">What the file is, for an error.</param>
    /// <param name="name">The computer's name.</param>
    /// <param name="address">Its static address; null for none.</param>
    /// <param name="addresses">The network of the address.</param>
    /// <param name="join">Its account in the domain as djoin has provisioned it; null to leave joining to the owner's file.</param>
    /// <exception cref="VMatrixException"><c>SeedFileWrong</c>.</exception>
    public static byte[] Fill(byte[] owners, string whose, string name, string? address, AddressSpec? addresses, string? join)
    {
        XDocument document;
        try
        {
            using var reader = XmlReader.Create(new MemoryStream(owners), new XmlReaderSettings { DtdProcessing = DtdProcessing.Prohibit, XmlResolver = null });
            document = XDocument.Load(reader);
        }
        catch (XmlException e)
        {
            throw Wrong(whose, $"is not well-formed XML: {e.Message.TrimEnd('.')}", e);
        }

        if (document.Root is not { } root || root.Name != s_unattend + "unattend")
            throw Wrong(whose, "is no answer file: its root is not 'unattend' of urn:schemas-microsoft-com:unattend");
        var pass = root.Elements(s_unattend + "settings").FirstOrDefault(settings => (string?)settings.Attribute("pass") == "specialize");
        if (pass is null)
            root.Add(pass = new XElement(s_unattend + "settings", new XAttribute("pass", "specialize")));
        Put(Component(root, pass, "Microsoft-Windows-Shell-Setup"), Element("ComputerName", name));
        if (address is not null)
        {
            var settings = new List<object>
            {
                Element("Identifier", Adapter),
                Element("Ipv4Settings", Element("DhcpEnabled", "false")),
                Element("UnicastIpAddresses", Item("IpAddress", "1", $"{address}/{addresses!.Prefix}")),
            };
            if (addresses.Gateway is { } gateway)
                settings.Add(Element("Routes", Item("Route", null, Element("Identifier", "0"), Element("Prefix", "0.0.0.0/0"), Element("NextHopAddress", gateway))));
            Put(Component(root, pass, "Microsoft-Windows-TCPIP"), Element("Interfaces", Item("Interface", null, [.. settings])));
            if (addresses.Dns.Count > 0)
            {
                Put(Component(root, pass, "Microsoft-Windows-DNS-Client"), Element("Interfaces", Item("Interface", null,
                    Element("Identifier", Adapter),
                    Element("DNSServerSearchOrder", [.. addresses.Dns.Select((dns, at) => Item("IpAddress", FormattableString.Invariant($"{at + 1}"), dns))]))));
            }
        }

        if (join is not null)
            Put(Component(root, pass, "Microsoft-Windows-UnattendedJoin"), Element("Identification", Element("Provisioning", Element("AccountData", join))));
        using var written = new MemoryStream();
        using (var writer = XmlWriter.Create(written, new XmlWriterSettings { Indent = true, Encoding = new System.Text.UTF8Encoding(false), CloseOutput = false }))
            document.Save(writer);
        return written.ToArray();
    }

    /// <summary>The settings of a component, made like those that the owner has where it is not there.</summary>
    private static XElement Component(XElement root, XElement pass, string name)
    {
        var found = pass.Elements(s_unattend + "component").FirstOrDefault(component => (string?)component.Attribute("name") == name);
        if (found is null)
        {
            pass.Add(found = new XElement(s_unattend + "component",
                new XAttribute("name", name),
                new XAttribute("processorArchitecture", (string?)root.Descendants(s_unattend + "component").Attributes("processorArchitecture").FirstOrDefault() ?? "amd64"),
                new XAttribute("publicKeyToken", "31bf3856ad364e35"),
                new XAttribute("language", "neutral"),
                new XAttribute("versionScope", "nonSxS")));
        }

        return found;
    }

    private static void Put(XElement component, XElement setting)
    {
        component.Elements(setting.Name).Remove();
        component.Add(setting);
    }

    private static XElement Element(string name, params object[] content) => new(s_unattend + name, content);

    private static XElement Item(string name, string? key, params object[] content)
    {
        var item = new XElement(s_unattend + name, new XAttribute(s_wcm + "action", "add"), content);
        if (key is not null)
            item.SetAttributeValue(s_wcm + "keyValue", key);
        return item;
    }

    private static VMatrixException Wrong(string whose, string what, Exception? cause = null) => new("SeedFileWrong", VMatrixErrorKind.InvalidInput, $"{whose} {what}.", cause);
}
