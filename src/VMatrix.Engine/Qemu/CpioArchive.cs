using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Text;

namespace VMatrix.Qemu;

/// <summary>Writes an initial RAM disk in the kernel's own format: cpio "newc", as Documentation/driver-api/early-userspace/buffer-format describes it.</summary>
internal sealed class CpioArchive : IDisposable
{
    private const int FolderMode = 0x41ed, LinkMode = 0xa1ff, FileMode = 0x81a4, ProgramMode = 0x81ed;
    private readonly MemoryStream _bytes = new();
    private readonly HashSet<string> _folders = [];
    private int _inode;

    public void AddFolder(string path)
    {
        if (path.Length > 0 && _folders.Add(path))
        {
            AddFolder(Path.GetDirectoryName(path) ?? "");
            Add(path, FolderMode, []);
        }
    }

    public void AddLink(string path, string target) => Add(path, LinkMode, Encoding.UTF8.GetBytes(target));

    public void AddFile(string path, byte[] content, bool executable)
    {
        AddFolder(Path.GetDirectoryName(path) ?? "");
        Add(path, executable ? ProgramMode : FileMode, content);
    }

    /// <summary>The whole archive. The same content gives the same bytes.</summary>
    public byte[] ToArray()
    {
        Add("TRAILER!!!", 0, []);
        return _bytes.ToArray();
    }

    /// <inheritdoc/>
    public void Dispose() => _bytes.Dispose();

    private void Add(string path, int mode, byte[] content)
    {
        var name = Encoding.UTF8.GetBytes(path + '\0');
        int[] fields = [++_inode, mode, 0, 0, 1, 0, content.Length, 0, 0, 0, 0, name.Length, 0];
        _bytes.Write("070701"u8);
        foreach (var field in fields)
        {
            _bytes.Write(Encoding.ASCII.GetBytes(field.ToString("x8", CultureInfo.InvariantCulture)));
        }

        _bytes.Write(name);
        Align();
        _bytes.Write(content);
        Align();
    }

    private void Align()
    {
        while (_bytes.Length % 4 != 0)
        {
            _bytes.WriteByte(0);
        }
    }
}
