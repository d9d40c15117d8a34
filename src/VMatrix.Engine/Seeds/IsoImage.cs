using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;

namespace VMatrix.Seeds;

/// <summary>
/// Writes a small disc image: a few files in one folder, by ISO 9660 (ECMA-119) for every reader and by its Joliet extension for their exact names.
/// </summary>
internal static class IsoImage
{
    private const int Sector = 2048;

    // Where each part begins, in sectors. The first sixteen are left to the system.
    private const int Primary = 16, Joliet = 17, Terminator = 18, PathTables = 19, PrimaryFolder = 23, JolietFolder = 24, FirstFile = 25;

    /// <summary>Makes the image.</summary>
    /// <param name="label">The volume's label, of at most 16 plain letters and digits.</param>
    /// <param name="files">The files: names of at most 24 plain letters, digits, dots and dashes, as many as fit into one sector of names.</param>
    /// <param name="at">The time that the files are of.</param>
    public static byte[] Build(string label, IReadOnlyList<(string Name, byte[] Content)> files, DateTimeOffset at)
    {
        var placed = new List<(string Name, byte[] Content, int Sector)>();
        var next = FirstFile;
        foreach (var (name, content) in files)
        {
            placed.Add((name, content, next));
            next += (content.Length + Sector - 1) / Sector;
        }

        var image = new byte[next * Sector];
        WriteFolder(image, PrimaryFolder, placed.Select(file => (PlainName(file.Name), file.Content.Length, file.Sector)), at);
        WriteFolder(image, JolietFolder, placed.Select(file => (Encoding.BigEndianUnicode.GetBytes(file.Name), file.Content.Length, file.Sector)), at);
        WriteVolume(image, Primary, label, joliet: false, next, at);
        WriteVolume(image, Joliet, label, joliet: true, next, at);
        image[Terminator * Sector] = 255;
        Encoding.ASCII.GetBytes("CD001", 0, 5, image, (Terminator * Sector) + 1);
        image[(Terminator * Sector) + 6] = 1;
        foreach (var (_, content, sector) in placed)
            content.CopyTo(image, sector * Sector);
        return image;
    }

    // Readers without Joliet turn it into small letters again and drop what the standard wants at its end.
    private static byte[] PlainName(string name) =>
        Encoding.ASCII.GetBytes(name.ToUpperInvariant() + (name.IndexOfAny(['.']) < 0 ? ".;1" : ";1"));

    private static void WriteVolume(byte[] image, int at, string label, bool joliet, int sectors, DateTimeOffset made)
    {
        var start = at * Sector;
        image[start] = (byte)(joliet ? 2 : 1);
        Encoding.ASCII.GetBytes("CD001", 0, 5, image, start + 1);
        image[start + 6] = 1;
        var folder = joliet ? JolietFolder : PrimaryFolder;
        var table = PathTables + (joliet ? 2 : 0);
        foreach (var (offset, length, text) in new[]
        {
            (8, 32, ""), (40, 32, label), (190, 128, ""), (318, 128, ""), (446, 128, ""), (574, 128, "VMATRIX"), (702, 37, ""), (739, 37, ""), (776, 37, ""),
        })
            WriteText(image, start + offset, length, text, joliet);
        if (joliet)
            Encoding.ASCII.GetBytes("%/E", 0, 3, image, start + 88);
        Both32(image, start + 80, sectors);
        Both16(image, start + 120, 1);
        Both16(image, start + 124, 1);
        Both16(image, start + 128, Sector);
        Both32(image, start + 132, 10);
        Little32(image, start + 140, table);
        Big32(image, start + 148, table + 1);
        WriteRecord(image, start + 156, [0], Sector, folder, isFolder: true, made);

        // Made and changed then; no end, and no time before which it does not count.
        var time = made.UtcDateTime.ToString("yyyyMMddHHmmss'00'", CultureInfo.InvariantCulture);
        foreach (var (offset, text) in new[] { (813, time), (830, time), (847, new string('0', 16)), (864, new string('0', 16)) })
            Encoding.ASCII.GetBytes(text, 0, 16, image, start + offset);
        image[start + 881] = 1;

        // The table of folders holds the one there is, once for each order of bytes.
        foreach (var (sector, isBig) in new[] { (table, false), (table + 1, true) })
        {
            var path = sector * Sector;
            image[path] = 1;
            if (isBig)
                Big32(image, path + 2, folder);
            else
                Little32(image, path + 2, folder);
            image[path + (isBig ? 7 : 6)] = 1;
        }
    }

    private static void WriteText(byte[] image, int at, int length, string text, bool joliet)
    {
        if (joliet)
            Encoding.BigEndianUnicode.GetBytes(text.PadRight(length / 2)).CopyTo(image, at);
        else
            Encoding.ASCII.GetBytes(text.PadRight(length)).CopyTo(image, at);
    }

    private static void WriteFolder(byte[] image, int sector, IEnumerable<(byte[] Name, int Length, int Sector)> files, DateTimeOffset at)
    {
        var start = sector * Sector;
        var next = start;
        next += WriteRecord(image, next, [0], Sector, sector, isFolder: true, at);
        next += WriteRecord(image, next, [1], Sector, sector, isFolder: true, at);
        foreach (var file in files.OrderBy(file => file.Name, Comparer<byte[]>.Create(Compare)))
        {
            if (next + 34 + file.Name.Length > start + Sector)
                throw new ArgumentException("The names do not fit into one folder of one sector.", nameof(files));
            next += WriteRecord(image, next, file.Name, file.Length, file.Sector, isFolder: false, at);
        }
    }

    private static int Compare(byte[]? one, byte[]? other)
    {
        for (var i = 0; i < Math.Min(one!.Length, other!.Length); i++)
            if (one[i] != other[i])
                return one[i].CompareTo(other[i]);
        return one.Length.CompareTo(other.Length);
    }

    private static int WriteRecord(byte[] image, int at, byte[] name, int length, int sector, bool isFolder, DateTimeOffset made)
    {
        var size = 33 + name.Length + ((name.Length + 1) % 2);
        image[at] = (byte)size;
        Both32(image, at + 2, sector);
        Both32(image, at + 10, length);
        var time = made.UtcDateTime;
        new[] { time.Year - 1900, time.Month, time.Day, time.Hour, time.Minute, time.Second, 0 }.Select(part => (byte)part).ToArray().CopyTo(image, at + 18);
        image[at + 25] = (byte)(isFolder ? 2 : 0);
        Both16(image, at + 28, 1);
        image[at + 32] = (byte)name.Length;
        name.CopyTo(image, at + 33);
        return size;
    }

    private static void Both16(byte[] image, int at, int value)
    {
        image[at] = image[at + 3] = (byte)value;
        image[at + 1] = image[at + 2] = (byte)(value >> 8);
    }

    private static void Both32(byte[] image, int at, int value)
    {
        Little32(image, at, value);
        Big32(image, at + 4, value);
    }

    private static void Little32(byte[] image, int at, int value)
    {
        for (var i = 0; i < 4; i++)
            image[at + i] = (byte)(value >> (8 * i));
    }

    private static void Big32(byte[] image, int at, int value)
    {
        for (var i = 0; i < 4; i++)
            image[at + i] = (byte)(value >> (24 - (8 * i)));
    }
}
