using System.IO;

namespace VMatrix.Pools;

/// <content>The files that a pool names and that this machine itself reads.</content>
internal sealed partial class PoolChecks
{
    /// <summary>Adds a finding for each file of an image that does not exist. Paths that hosts, or VMM, read by themselves are not looked at.</summary>
    private void FilesAreThere(PoolSpec pool)
    {
        foreach (var (node, key, service) in _services)
        {
            if (service.Image is not { } image || node["image"] is not { Kind: NodeKind.Map } at)
                continue;
            if (pool.Hypervisor == "qemu")
            {
                foreach (var (name, path) in new[] { ("disk", image.Disk), ("kernel", image.Kernel), ("initrd", image.Initrd) })
                    Exists(at, $"{key}.image", name, path, name != "disk" ? " The demo's guest is made by: vmatrix-oracle image build-demo --folder " + Path.GetDirectoryName(path) : "");
            }
            else if (pool.Hypervisor == "hyperv")
            {
                Exists(at, $"{key}.image", "userData", image.UserData);
                Exists(at, $"{key}.image", "answers", image.Answers);
                Exists(at, $"{key}.image", "join", image.Join, folder: true);
            }
        }
    }

    private void Exists(PoolNode map, string key, string name, string? path, string hint = "", bool folder = false)
    {
        if (path is not null && map[name] is not null && !(folder ? Directory.Exists(path) : File.Exists(path)))
            Add(map, key, name, $"{key}.{name} names {path}, which does not exist; {(folder ? "make the folder" : "put the file there")}, or name another one.{hint}");
    }
}
