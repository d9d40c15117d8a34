using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using Microsoft.Vhd.PowerShell;

namespace VMatrix.Doubles;

/// <summary>What stands in a virtual disk's file.</summary>
public sealed record DiskFile
{
    public required Guid Id { get; init; }

    public VhdType Type { get; init; } = VhdType.Dynamic;

    public long Size { get; init; }

    public long FileSize { get; init; } = 4 << 20;

    /// <summary>The path of the disk that it differs from, as its host names it; null for none.</summary>
    public string? Parent { get; init; }

    /// <summary>The id that its parent had; another one now means that the chain is broken.</summary>
    public Guid? ParentId { get; init; }

    /// <summary>Who wrote to it, in order: what its content comes down to.</summary>
    public IReadOnlyList<string> Writes { get; init; } = [];
}

/// <summary>
/// The files of the world. They are real and small: a path of this machine means itself on every host, a share is one folder for all, a drive is
/// a folder of its host, and <c>C:\ClusterStorage</c> one of its cluster.
/// </summary>
internal sealed class DiskFiles(string folder)
{
    private static readonly JsonSerializerOptions s_json = WorldState.Json;

    public string Real(HostState host, string path)
    {
        if (path.StartsWith('/'))
            return Path.GetFullPath(path);
        var parts = path.Split('\\', StringSplitOptions.RemoveEmptyEntries);
        if (parts.Length == 0 || parts.Contains(".."))
            throw DoubleError.NoFile(path);
        if (path.StartsWith(@"\\", StringComparison.Ordinal))
            return Path.Combine([folder, "shares", .. parts]);
        if (parts[0].Length != 2 || parts[0][1] != ':')
            throw DoubleError.Failed($"The path '{path}' is not absolute. (0x8007007B).", unchecked((int)0x8007007B));
        if (host.Cluster is { } cluster && parts.Length > 1 && parts[1].Equals("ClusterStorage", StringComparison.OrdinalIgnoreCase))
            return Path.Combine([folder, "clusters", cluster, .. parts[2..]]);
        return Path.Combine([folder, "hosts", host.Name, parts[0][..1], .. parts[1..]]);
    }

    public static string Join(string path, params string[] parts)
    {
        var separator = path.StartsWith('/') ? '/' : '\\';
        return string.Join(separator, parts.Prepend(path.TrimEnd('\\', '/')));
    }

    public static string Parent(string path)
    {
        var trimmed = path.TrimEnd('\\', '/');
        return trimmed[..trimmed.LastIndexOfAny(['\\', '/'])];
    }

    public static string NameOf(string path) => path[(path.LastIndexOfAny(['\\', '/']) + 1)..];

    public bool Exists(HostState host, string path) => File.Exists(Real(host, path));

    public bool SameFile(HostState host, string path, HostState other, string otherPath) => Real(host, path) == Real(other, otherPath);

    public DiskFile Read(HostState host, string path)
    {
        try
        {
            var bytes = File.ReadAllBytes(Real(host, path));
            return bytes.Length > 0 && bytes[0] == '{' ? JsonSerializer.Deserialize<DiskFile>(bytes, s_json)!
                : new DiskFile { Id = new Guid(System.Security.Cryptography.SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(Real(host, path))).AsSpan(0, 16)), FileSize = bytes.Length, Size = 1L << 30 };
        }
        catch (Exception error) when (error is FileNotFoundException or DirectoryNotFoundException)
        {
            throw DoubleError.NoFile(path);
        }
        catch (JsonException)
        {
            throw DoubleError.Failed($"The file or directory '{path}' is corrupted and unreadable. (0x80070570).", unchecked((int)0x80070570));
        }
    }

    public void Write(HostState host, string path, DiskFile disk) => WriteAll(Real(host, path), disk);

    public T? ReadAs<T>(HostState host, string path)
        where T : class
    {
        try
        {
            return JsonSerializer.Deserialize<T>(File.ReadAllBytes(Real(host, path)), s_json);
        }
        catch (Exception error) when (error is IOException or JsonException)
        {
            return null;
        }
    }

    public void WriteAs<T>(HostState host, string path, T value) => WriteAll(Real(host, path), value);

    public void Delete(HostState host, string path) => DeleteReal(Real(host, path));

    /// <summary>A disk and those that it differs from, the leaf first.</summary>
    public IReadOnlyList<(string Path, DiskFile Disk)> Chain(HostState host, string path)
    {
        var chain = new List<(string, DiskFile)>();
        for (var next = path; next is not null;)
        {
            var disk = Read(host, next);
            chain.Add((next, disk));
            if (disk.Parent is { } parent && Read(host, parent).Id != disk.ParentId)
                throw DoubleError.Failed($"The chain of virtual hard disks is broken: '{next}' was made on another disk than '{parent}'. (0xC03A000E).", unchecked((int)0xC03A000E));
            next = disk.Parent;
        }

        return chain;
    }

    private static void DeleteReal(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (DirectoryNotFoundException)
        {
        }
    }

    private static void WriteAll<T>(string real, T value)
    {
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(real)!);
            var temporary = real + "~";
            File.WriteAllBytes(temporary, JsonSerializer.SerializeToUtf8Bytes(value, s_json));
            File.Move(temporary, real, overwrite: true);
        }
        catch (UnauthorizedAccessException error)
        {
            throw DoubleError.Failed($"{error.Message} (0x80070005).", unchecked((int)0x80070005));
        }
    }
}
