using System;
using System.IO;
using System.Runtime.Versioning;
using System.Threading;
using System.Threading.Tasks;
using Xunit;

namespace VMatrix.Tests;

/// <summary>Whose word root takes for what it does: sshd (StrictModes) and sudo read no file of theirs that others may write either.</summary>
[SupportedOSPlatform("linux")]
public sealed class PoolOwnerTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmatrix-owner-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [SkippableFact]
    public async Task Root_opens_no_pool_for_change_by_a_file_that_others_may_write()
    {
        Skip.IfNot(Environment.UserName == "root", "for other users nothing is checked");
        var pool = Path.Combine(_folder, "pool.yaml");
        File.WriteAllText(pool, """
            pool: owner
            hypervisor: simulation
            hosts: [{ name: host1, memory: 1 GiB }]
            services: [{ name: FINANCE, image: { memory: 256 MiB } }]
            """);
        File.SetUnixFileMode(pool, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.OtherWrite);

        var refused = await Assert.ThrowsAsync<VMatrixException>(() => PoolSession.OpenAsync(pool, forChange: true, CancellationToken.None));
        Assert.Equal("PoolNotOwned", refused.Id);
        Assert.False(Directory.Exists(Path.Combine(_folder, ".vmatrix")));
        Assert.Equal("PoolNotOwned", (await Assert.ThrowsAsync<VMatrixException>(() => PoolSession.CheckBalancerAsync(pool, CancellationToken.None))).Id);
        await (await PoolSession.OpenAsync(pool, forChange: false, CancellationToken.None)).DisposeAsync();

        File.SetUnixFileMode(pool, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.OtherRead);
        await (await PoolSession.OpenAsync(pool, forChange: true, CancellationToken.None)).DisposeAsync();
    }
}
