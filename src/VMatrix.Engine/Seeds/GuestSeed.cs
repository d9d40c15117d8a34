using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using VMatrix.Drivers;
using VMatrix.Files;
using YamlDotNet.Serialization;

namespace VMatrix.Seeds;

/// <summary>
/// What a copy of a gold disk is told about itself at its first start, as a disc in its drive: for cloud-init a NoCloud seed, for Windows an answer file.
/// Files of the owner are read and handed on, and never run.
/// </summary>
internal static class GuestSeed
{
    /// <summary>An owner's file is longer by mistake only.</summary>
    private const int MostBytes = 1 << 20;

    /// <summary>Makes a server's disc; null where its image needs none.</summary>
    /// <param name="mark">The server.</param>
    /// <param name="service">Its service.</param>
    /// <param name="address">Its static address; null where it has none.</param>
    /// <param name="at">The time now.</param>
    /// <exception cref="VMatrixException"><c>SeedFileMissing</c>, <c>SeedFileWrong</c>, <c>JoinFileMissing</c>, <c>NameNotForWindows</c>.</exception>
    public static byte[]? Build(ServerMark mark, ServiceSpec service, string? address, DateTimeOffset at) => service.Image switch
    {
        { Specialize: Specialize.CloudInit } image => IsoImage.Build("cidata", CloudInit(mark, service, image.UserData, address), at),
        { Specialize: Specialize.Sysprep, Answers: { } answers } => IsoImage.Build("VMATRIX", [("Autounattend.xml", Answers(mark, service, answers, address))], at),
        _ => null,
    };

    // The instance's id is what cloud-init goes by: another one than it has seen makes it begin anew.
    private static List<(string, byte[])> CloudInit(ServerMark mark, ServiceSpec service, string? userData, string? address)
    {
        var files = new List<(string, byte[])>
        {
            ("meta-data", Yaml(new Dictionary<string, object> { ["instance-id"] = mark.ServerId.ToString("D"), ["local-hostname"] = HostName(mark.Name) })),
            ("user-data", userData is null ? Encoding.UTF8.GetBytes("#cloud-config\n") : Read(service, "userData", userData)),
        };
        if (address is not null)
            files.Add(("network-config", Yaml(Network(address, service.Addresses))));
        return files;
    }

    // Version 2 of cloud-init's own network configuration. A Linux guest's first adapter on Hyper-V is eth0.
    private static Dictionary<string, object> Network(string address, AddressSpec? addresses)
    {
        var adapter = new Dictionary<string, object> { ["dhcp4"] = false, ["addresses"] = new[] { FormattableString.Invariant($"{address}/{addresses?.Prefix ?? 32}") } };
        if (addresses?.Gateway is { } gateway)
            adapter["routes"] = new[] { new Dictionary<string, object> { ["to"] = "0.0.0.0/0", ["via"] = gateway } };
        if (addresses?.Dns is { Count: > 0 } dns)
            adapter["nameservers"] = new Dictionary<string, object> { ["addresses"] = dns.ToArray() };
        return new Dictionary<string, object> { ["version"] = 2, ["ethernets"] = new Dictionary<string, object> { ["eth0"] = adapter } };
    }

    // By a serializer: no name or address can end a line, or be a number or a truth to cloud-init's reader of YAML 1.1.
    private static byte[] Yaml(Dictionary<string, object> value) =>
        Encoding.UTF8.GetBytes(new SerializerBuilder().WithIndentedSequences().WithQuotingNecessaryStrings(quoteYaml1_1Strings: true).WithNewLine("\n").Build().Serialize(value));

    private static string HostName(string name) => new([.. name.Select(c => c is '.' or '_' ? '-' : c)]);

    private static byte[] Answers(ServerMark mark, ServiceSpec service, string answers, string? address)
    {
        if (mark.Name.Length > 15 || !mark.Name.All(c => c is (>= 'A' and <= 'Z') or (>= 'a' and <= 'z') or (>= '0' and <= '9') or '-'))
        {
            throw new VMatrixException("NameNotForWindows", VMatrixErrorKind.InvalidInput,
                $"'{mark.Name}' cannot be the name of a Windows computer, which has at most 15 letters, digits and dashes: give the service {service.Name} another name.");
        }

        return AnswerFile.Fill(Read(service, "answers", answers), $"image.answers of {service.Name} ({answers})", mark.Name, address, service.Addresses, Join(mark, service));
    }

    // djoin writes UTF-16 that ends with a zero.
    private static string? Join(ServerMark mark, ServiceSpec service)
    {
        if (service.Image.Join is not { } folder)
            return null;
        var file = folder.TrimEnd('/', '\\') + (folder.IndexOfAny(['\\']) >= 0 ? "\\" : "/") + mark.Name + ".txt";
        if (!File.Exists(file))
        {
            throw new VMatrixException("JoinFileMissing", VMatrixErrorKind.NotFound,
                $"{mark.Name} cannot join its domain: there is no {file}. Make it where the domain is administered: djoin /provision /domain DOMAIN /machine {mark.Name} /savefile {mark.Name}.txt");
        }

        using var reader = new StreamReader(new MemoryStream(Read(service, "join", file)), Encoding.Unicode, detectEncodingFromByteOrderMarks: true);
        var text = reader.ReadToEnd().Trim('\0', '\r', '\n', ' ');
        try
        {
            return Convert.ToBase64String(Convert.FromBase64String(text));
        }
        catch (FormatException e)
        {
            throw new VMatrixException("SeedFileWrong", VMatrixErrorKind.InvalidInput, $"{file} is no file that djoin /provision /savefile has made.", e);
        }
    }

    private static byte[] Read(ServiceSpec service, string key, string path)
    {
        try
        {
            return SmallFile.TryRead(path, MostBytes)
                ?? throw new VMatrixException("SeedFileMissing", VMatrixErrorKind.NotFound, $"image.{key} of {service.Name} names {path}, which does not exist: write the file, or remove the key from the pool file.");
        }
        catch (InvalidDataException e)
        {
            throw new VMatrixException("SeedFileWrong", VMatrixErrorKind.InvalidInput, $"image.{key} of {service.Name} names {path}, which is longer than 1 MiB or no regular file.", e);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new VMatrixException("SeedFileMissing", VMatrixErrorKind.Denied, $"image.{key} of {service.Name} names {path}, which the account that VMatrix runs as may not read.", e);
        }
    }
}
