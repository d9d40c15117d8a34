using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using VMatrix.Files;
using VMatrix.Moves;
using Xunit;

namespace VMatrix.Tests.Files;

/// <summary>Nothing is written in a folder that another user has made, or could lead elsewhere.</summary>
[SupportedOSPlatform("linux")]
public sealed class OwnFolderTests : IDisposable
{
    private const uint Nobody = 65534;
    private const UnixFileMode Owner = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
    private readonly string _root = Directory.CreateTempSubdirectory("vmatrix-own-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private string Folder(string name, UnixFileMode more = 0)
    {
        var path = Path.Combine(_root, name);
        Directory.CreateDirectory(path);
        File.SetUnixFileMode(path, Owner | more);
        return path;
    }

    private static void Refused(string path, string names)
    {
        var error = Assert.Throws<VMatrixException>(() => OwnFolder.Check(path));
        Assert.Equal("FolderNotOwned", error.Id);
        Assert.Contains(names, error.Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void A_state_folder_that_another_user_made_first_is_refused_and_none_of_its_links_is_followed()
    {
        Skip.IfNot(Environment.UserName == "root", "only root can give files away");
        var shared = Folder("shared", UnixFileMode.OtherRead | UnixFileMode.OtherWrite | UnixFileMode.OtherExecute | UnixFileMode.StickyBit);
        var state = Folder("shared/.vmatrix");
        var precious = Path.Combine(Folder("mine"), "precious");
        File.WriteAllText(precious, "kept");
        File.SetUnixFileMode(precious, Owner | UnixFileMode.OtherRead);
        foreach (var name in new[] { "decider.lock", "claims.lock", "history.db" })
            File.CreateSymbolicLink(Path.Combine(state, name), name == "decider.lock" ? precious : precious + name);
        Assert.Equal(0, Lchown(state, Nobody, Nobody));

        var error = Assert.Throws<VMatrixException>(() =>
        {
            using var opened = StateFolder.Open(state, create: true);
            opened.Decide("attacked").Dispose();
        });
        Assert.Equal("FolderNotOwned", error.Id);
        Assert.Contains("belongs to user 65534", error.Message, StringComparison.Ordinal);
        Assert.Equal("kept", File.ReadAllText(precious));
        Assert.Equal(Owner | UnixFileMode.OtherRead, File.GetUnixFileMode(precious));
        Assert.Single(Directory.GetFiles(Path.GetDirectoryName(precious)!));
        Assert.True(Directory.Exists(shared));
    }

    [Fact]
    public void A_folder_that_everybody_may_write_is_refused_wherever_it_is_on_the_way()
    {
        var open = Folder("open", UnixFileMode.OtherWrite | UnixFileMode.OtherExecute);
        Folder("open/mine");
        Refused(Path.Combine(open, "mine"), open);
        Refused(Path.Combine(open, "mine", "not", "yet"), open);
        File.SetUnixFileMode(open, Owner | UnixFileMode.OtherWrite | UnixFileMode.StickyBit);
        OwnFolder.Check(Path.Combine(open, "mine", "not", "yet"));
        Refused(open, "everybody");
        File.SetUnixFileMode(open, Owner | UnixFileMode.GroupWrite);
        OwnFolder.Check(Path.Combine(open, "mine"));
    }

    [Fact]
    public void A_link_is_followed_and_the_way_that_it_leads_is_looked_at()
    {
        var open = Folder("open", UnixFileMode.OtherWrite | UnixFileMode.OtherExecute);
        Folder("open/target");
        Folder("good");
        var mine = Folder("mine");
        File.CreateSymbolicLink(Path.Combine(mine, "bad"), Path.Combine(open, "target"));
        Refused(Path.Combine(mine, "bad", "state"), open);
        File.CreateSymbolicLink(Path.Combine(mine, "well"), "../good");
        OwnFolder.Check(Path.Combine(mine, "well", "state"));
        File.CreateSymbolicLink(Path.Combine(mine, "round"), Path.Combine(mine, "round"));
        Refused(Path.Combine(mine, "round"), "links");
    }

    [SkippableFact]
    public void Another_users_link_or_folder_on_the_way_is_refused()
    {
        Skip.IfNot(Environment.UserName == "root", "only root can give files away");
        var good = Folder("good");
        var link = Path.Combine(_root, "link");
        File.CreateSymbolicLink(link, good);
        OwnFolder.Check(link);
        Assert.True(OwnFolder.IsMine(good));
        Assert.Equal(0, Lchown(link, Nobody, Nobody));
        Refused(link, "belongs to user 65534");
        var theirs = Folder("theirs");
        Folder("theirs/mine");
        Assert.Equal(0, Lchown(theirs, Nobody, Nobody));
        Refused(Path.Combine(theirs, "mine"), theirs);
        Assert.False(OwnFolder.IsMine(theirs));
    }

    private static void RootRefuses(string path, string names)
    {
        var error = Assert.Throws<VMatrixException>(() => OwnFolder.CheckPoolFile(path));
        Assert.Equal("PoolNotOwned", error.Id);
        Assert.Contains(names, error.Message, StringComparison.Ordinal);
        Assert.Contains(path, error.Message, StringComparison.Ordinal);
    }

    private string PoolFile(string name)
    {
        var path = Path.Combine(_root, name);
        File.WriteAllText(path, "name: test");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
        return path;
    }

    [SkippableFact]
    public void Root_acts_by_no_pool_file_that_another_user_may_write_or_replace()
    {
        Skip.IfNot(Environment.UserName == "root", "only root can give files away");
        var folder = Folder("pools");
        var pool = PoolFile("pools/pool.yaml");
        OwnFolder.CheckPoolFile(pool);
        OwnFolder.CheckPoolFile(Path.Combine(folder, "missing.yaml"));

        File.SetUnixFileMode(pool, Owner | UnixFileMode.OtherWrite);
        RootRefuses(pool, "everybody may write it");
        File.SetUnixFileMode(pool, Owner | UnixFileMode.GroupWrite);
        OwnFolder.CheckPoolFile(pool);
        Assert.Equal(0, Lchown(pool, 0, Nobody));
        RootRefuses(pool, "group 65534 may write it");
        File.SetUnixFileMode(pool, Owner | UnixFileMode.GroupRead);
        OwnFolder.CheckPoolFile(pool);
        Assert.Equal(0, Lchown(pool, Nobody, 0));
        RootRefuses(pool, "belongs to user 65534");
        Assert.Equal(0, Lchown(pool, 0, 0));

        File.SetUnixFileMode(folder, Owner | UnixFileMode.OtherWrite);
        RootRefuses(pool, $"everybody may write {folder}");
        File.SetUnixFileMode(folder, Owner | UnixFileMode.OtherWrite | UnixFileMode.StickyBit);
        OwnFolder.CheckPoolFile(pool);
        File.SetUnixFileMode(folder, Owner | UnixFileMode.GroupWrite);
        OwnFolder.CheckPoolFile(pool);
        Assert.Equal(0, Lchown(folder, 0, Nobody));
        RootRefuses(pool, $"group 65534 may write {folder}");
        Assert.Equal(0, Lchown(folder, Nobody, 0));
        RootRefuses(pool, $"{folder} belongs to user 65534");
        Assert.Equal(0, Lchown(folder, 0, 0));

        File.SetUnixFileMode(folder, Owner);
        var link = Path.Combine(_root, "link.yaml");
        File.CreateSymbolicLink(link, pool);
        OwnFolder.CheckPoolFile(link);
        File.SetUnixFileMode(folder, Owner | UnixFileMode.OtherWrite);
        RootRefuses(link, folder);
        File.SetUnixFileMode(folder, Owner);
        Assert.Equal(0, Lchown(link, Nobody, Nobody));
        RootRefuses(link, "belongs to user 65534");
    }

#pragma warning disable SYSLIB1054, CA5392, CA2101
    [DllImport("libc", EntryPoint = "lchown")]
    private static extern int Lchown([MarshalAs(UnmanagedType.LPUTF8Str)] string path, uint user, uint group);
#pragma warning restore SYSLIB1054, CA5392, CA2101
}
