using System;
using System.Buffers.Binary;
using System.IO;
using System.Text.Json.Nodes;

namespace VMatrix.Qemu;

/// <summary>
/// The owner's disk that an image is made from. QEMU would guess its format by its first bytes and open whatever other files it names: here it
/// is read as what it is, alone, and one that leans on another file is refused. So a disk that a guest has written never brings a file of this machine into an image.
/// </summary>
internal static class GoldDisk
{
    private static readonly (string Format, byte[] Start)[] s_others =
    [
        ("vmdk", "KDMV"u8.ToArray()), ("vmdk", "# Disk DescriptorFile"u8.ToArray()), ("vhdx", "vhdxfile"u8.ToArray()), ("vpc (vhd)", "conectix"u8.ToArray()), ("qed", "QED\0"u8.ToArray()),
        ("vdi", "<<< "u8.ToArray()), ("luks", [.. "LUKS"u8, 0xba, 0xbe]), ("parallels", "WithoutFreeSpace"u8.ToArray()), ("parallels", "WithouFreSpacExt"u8.ToArray()), ("cow", [.. "OOOM"u8]),
    ];

    /// <summary>The disk as an argument of qemu-img, with its format and without anything behind it.</summary>
    /// <param name="service">The service, for errors.</param>
    /// <param name="path">The disk: qcow2 or raw.</param>
    /// <exception cref="VMatrixException"><c>ImageDiskLeans</c>, <c>ImageDiskFormat</c>, <c>ImageFileMissing</c>.</exception>
    public static string Source(string service, string path)
    {
        var head = new byte[104];
        int length;
        try
        {
            using var file = Native.OpenUnlocked(path) ?? throw new VMatrixException("ImageFileMissing", VMatrixErrorKind.NotFound, $"The image of service {service} names {path}, which is not there.");
            length = RandomAccess.Read(file, head, 0);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new VMatrixException("ImageFileMissing", VMatrixErrorKind.Denied, $"The image of service {service} names {path}, which cannot be read: {e.Message}", e);
        }

        var start = head.AsSpan(0, length);
        foreach (var (format, magic) in s_others)
        {
            if (start.StartsWith(magic))
            {
                throw new VMatrixException("ImageDiskFormat", VMatrixErrorKind.InvalidInput,
                    $"The disk {path} of service {service} is in the format {format}; images are made from qcow2 or raw disks. Convert it once where you trust it: qemu-img convert -O qcow2 '{path}' gold.qcow2");
            }
        }

        var isQcow2 = length > 3 && start.StartsWith("QFI"u8) && start[3] == 0xfb;
        if (isQcow2)
        {
            CheckAlone(service, path, start);
        }

        var node = new JsonObject { ["driver"] = isQcow2 ? "qcow2" : "raw", ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = path } };
        if (isQcow2)
        {
            node["backing"] = null;
        }

        return "json:" + node.ToJsonString();
    }

    // docs/interop/qcow2.txt of QEMU: version at 4, offset of the backing file's name at 8, incompatible features at 72 (bit 2: an external data file).
    private static void CheckAlone(string service, string path, ReadOnlySpan<byte> head)
    {
        const ulong ExternalData = 4;
        var version = head.Length >= 72 ? BinaryPrimitives.ReadUInt32BigEndian(head[4..]) : 0;
        if (version is not (2 or 3) || (version == 3 && head.Length < 104))
        {
            throw new VMatrixException("ImageDiskFormat", VMatrixErrorKind.InvalidInput, $"The disk {path} of service {service} begins as a qcow2 disk and is none of version 2 or 3; look at it with: qemu-img info '{path}'");
        }

        var what = BinaryPrimitives.ReadUInt64BigEndian(head[8..]) != 0 ? "a backing file"
            : version == 3 && (BinaryPrimitives.ReadUInt64BigEndian(head[72..]) & ExternalData) != 0 ? "an external data file"
            : null;
        if (what is not null)
        {
            throw new VMatrixException("ImageDiskLeans", VMatrixErrorKind.InvalidInput,
                $"The disk {path} of service {service} leans on {what}, and VMatrix opens no file that a disk names. Make one disk of it where you trust it: qemu-img convert -O qcow2 '{path}' gold.qcow2");
        }
    }
}
