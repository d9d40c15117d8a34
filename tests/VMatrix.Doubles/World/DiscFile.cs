using System;
using System.Collections.Generic;
using System.Buffers.Binary;
using System.Linq;
using System.Text;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace VMatrix.Doubles;

/// <summary>A disc image as a guest reads it: by Joliet, as Linux and Windows do.</summary>
public sealed partial class DiscFile
{
    private const int Sector = 2048;

    private DiscFile(string label, IReadOnlyDictionary<string, string> files)
    {
        Label = label;
        Files = files;
    }

    public string Label { get; }

    /// <summary>The texts of its files by name.</summary>
    public IReadOnlyDictionary<string, string> Files { get; }

    /// <summary>Reads an image; null for what is none.</summary>
    public static DiscFile? Read(byte[] image)
    {
        for (var sector = 16; (sector + 1) * Sector <= image.Length; sector++)
        {
            var volume = image.AsSpan(sector * Sector, Sector);
            if (!volume[1..6].SequenceEqual("CD001"u8) || volume[0] == 255)
                return null;
            if (volume[0] != 2 || !volume[88..91].SequenceEqual("%/E"u8))
                continue;
            var root = volume[156..190];
            var files = new Dictionary<string, string>();
            var folder = image.AsSpan(BinaryPrimitives.ReadInt32LittleEndian(root[2..]) * Sector, BinaryPrimitives.ReadInt32LittleEndian(root[10..]));
            while (folder.Length > 0 && folder[0] > 0)
            {
                var record = folder[..folder[0]];
                if ((record[25] & 2) == 0)
                    files[Encoding.BigEndianUnicode.GetString(record.Slice(33, record[32]))] = Encoding.UTF8.GetString(image, BinaryPrimitives.ReadInt32BigEndian(record[6..]) * Sector, BinaryPrimitives.ReadInt32BigEndian(record[14..]));
                folder = folder[folder[0]..];
            }

            return new DiscFile(Encoding.BigEndianUnicode.GetString(volume[40..72]).TrimEnd(), files);
        }

        return null;
    }

    /// <summary>A guest that has booted with the disc: cloud-init and Windows' setup go by it once, and by another one only where it is for somebody else.</summary>
    internal MachineState Tell(MachineState machine)
    {
        if (Label.Equals("cidata", StringComparison.OrdinalIgnoreCase) && Files.TryGetValue("meta-data", out var meta) && Files.ContainsKey("user-data"))
        {
            var id = InstanceId().Match(meta).Groups[1].Value;
            return id == machine.GuestIs ? machine : machine with
            {
                GuestIs = id,
                GuestName = HostName().Match(meta).Groups[1].Value,
                GuestAddress = Files.TryGetValue("network-config", out var network) ? Address().Match(network).Groups[1].Value : null,
            };
        }

        if (machine.GuestIs is not null || !Files.TryGetValue("Autounattend.xml", out var answers))
            return machine;
        var pass = XDocument.Parse(answers).Root!.Elements().Single(settings => settings.Attribute("pass")?.Value == "specialize");
        string? Value(string name) => pass.Descendants().FirstOrDefault(element => element.Name.LocalName == name)?.Value;
        return machine with { GuestIs = "specialized", GuestName = Value("ComputerName"), GuestAddress = Value("UnicastIpAddresses")?.Split('/')[0] };
    }

    [GeneratedRegex("^instance-id: (.+)$", RegexOptions.Multiline)]
    private static partial Regex InstanceId();

    [GeneratedRegex("^local-hostname: (.+)$", RegexOptions.Multiline)]
    private static partial Regex HostName();

    [GeneratedRegex(@"^    addresses:\n      - ([0-9.]+)/", RegexOptions.Multiline)]
    private static partial Regex Address();
}
