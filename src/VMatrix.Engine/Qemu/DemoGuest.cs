using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Files;

namespace VMatrix.Qemu;

/// <summary>
/// The demo's guest: the distribution's kernel, busybox and an agent of 501 bytes in an initial RAM disk. <c>/health</c> is a plain file;
/// <c>/</c> names its server and service and takes a stated wall time, one request at a time, so that a server has a real capacity that
/// does not depend on how many cores this machine has.
/// </summary>
public static partial class DemoGuest
{
    private const string AptLine = "apt-get install --no-install-recommends linux-image-cloud-amd64 busybox-static";

    // Debian's cloud kernel has its virtio drivers as modules, and this order is the one of their needs. Missing ones are built in.
    private static readonly string[] s_modules =
    [
        "virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_mmio", "failover", "net_failover",
        "virtio_net", "virtio_blk", "virtio_balloon", "virtio_console", "virtio-rng", "pvpanic", "pvpanic-pci",
    ];

    // A static program that does ioctl(open("/dev/random"), RNDRESEEDCRNG) and exits with the error; no shell can do that by itself.
    //   mov eax,2; lea rdi,[rel path]; xor esi,esi; syscall; mov edi,eax; mov esi,0x5207; mov eax,16; syscall; mov edi,eax; neg edi; mov eax,60; syscall
    private const string Reseed =
        "f0VMRgIBAQAAAAAAAAAAAAIAPgABAAAAeABAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAEAAOAABAAAAAAAAAAEAAAAFAAAAAAAAAAAAAAAAAEAAAAAAAAAAQAAAAAAArQAAAAAAAACtAAAAAAAAAAAQAAAAAAAA"
        + "uAIAAABIjT0dAAAAMfYPBYnHvgdSAAC4EAAAAA8Ficf337g8AAAADwUvZGV2L3JhbmRvbQA=";

    // DemoAgent.asm, assembled: sets clock, randomness, host name and /run/vmatrix/server at each wake. See GuestAgent for its protocol.
    private const string Agent =
        "f0VMRgIBAQAAAAAAAAAAAAIAPgABAAAAeABAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAEAAOAABAAAAAAAAAAEAAAAHAAAAAAAAAAAAAAAAAEAAAAAAAAAAQAAAAAAABgIAAAAAAAAGCgAAAAAAAAAQAAAAAAAA"
        + "uAIAAABIjT1UAQAAvgIBAAAPBUmJxLgCAAAASI09SQEAAL4CAAAADwVJicUxwESJ50iNNWABAAC6AAQAAA8FSIXAD44MAQAAg/gBD4ToAAAAg/gCdQy4ogAAAA8F6dcAAABIjUj/9sEBD4XBAAAA0emD+TEPgrYA"
        + "AABBic5IjTUUAQAASI09DQUAAGatZi1hYcDgBAjgqv/JdfBIjR32BAAAuOMAAAAx/0iJ3g8FuAEAAABEie9IjXMQuiAAAAAPBbgQAAAARInvvgdSAAAx0g8FSIXAeFm4qgAAAEiNezEPtnMwDwVIhcB4RbgCAAAA"
        + "SI09gAAAAL5BAgAAuqQBAAAPBUiFwHgoSYnHuAEAAABEif9IjXMxQY1Wzw8FuAMAAABEif8PBUiNNV0AAADrEEiNNVUAAADrB0iNNU0AAAC4AQAAAESJ57oBAAAADwXp2P7//7g8AAAAvwEAAAAPBS9kZXYvdHR5"
        + "UzEAL2Rldi9yYW5kb20AL3J1bi92bWF0cml4L3NlcnZlcgAhPy4=";

    private const string Init = """
        #!/bin/sh
        export PATH=/bin:/sbin:/usr/sbin
        /bin/busybox --install -s /bin
        mount -t proc proc /proc
        mount -t sysfs sys /sys
        mount -t devtmpfs dev /dev
        mount -t tmpfs tmp /run
        mkdir -p /run/vmatrix
        cd /lib/modules
        for module in @MODULES@; do [ ! -f $module.ko ] || insmod $module.ko; done
        cd /
        name=vmatrix
        service=-
        id=-
        ms=@MS@
        for word in $(cat /proc/cmdline); do
            case $word in
                vmatrix.name=*) name=${word#*=} ;;
                vmatrix.service=*) service=${word#*=} ;;
                vmatrix.id=*) id=${word#*=} ;;
                vmatrix.ms=*) ms=${word#*=} ;;
            esac
        done
        hostname $name
        # Who this guest is; its agent writes it anew after each wake.
        printf '%s\n' $name $service $id >/run/vmatrix/server
        echo $ms >/run/vmatrix/ms
        ip link set lo up
        ip addr add 10.0.2.15/24 dev eth0
        ip link set eth0 up
        ip route add default via 10.0.2.2
        # A disk, when there is one, is where this guest counts its requests.
        if [ -b /dev/vda ]; then
            mkdir -p /data
            mount -t ext4 /dev/vda /data && [ -f /data/served ] || echo 0 >/data/served
        fi
        # One byte in a pipe is the turn: whoever has read it may work. Nothing is ever written to the other pipe, so that a read
        # from it with a time limit is a sleep that starts no program.
        mkfifo /run/turn /run/never
        exec 7<>/run/turn 8<>/run/never
        echo >&7
        httpd -p 80 -h /www
        if [ -x /sbin/vmatrix-agent ]; then
            # A line at a time, nothing echoed, nothing translated.
            exec 9<>/dev/ttyS1
            stty icanon -echo -icrnl -isig -ixon -opost <&9
            /sbin/vmatrix-agent >/dev/null 2>&1 &
        else
            port=$(grep -lx org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name 2>/dev/null)
            port=${port%/name}
            [ -z "$port" ] || /usr/sbin/qemu-ga -m virtio-serial -p /dev/${port##*/} -t /run >/dev/console 2>&1 &
        fi
        echo "vmatrix guest $name is up"
        while :; do sleep 86400; done
        """;

    private const string Page = """
        #!/bin/sh
        trap '' PIPE
        read -r ms </run/vmatrix/ms
        case $QUERY_STRING in ms=[0-9]*) ms=${QUERY_STRING#ms=} ms=${ms%%[!0-9]*} ;; esac
        rest=$((1000 + ms % 1000))
        exec 3<>/run/turn 4<>/run/never
        read -r turn <&3
        trap 'echo >&3; exit 1' TERM INT HUP
        read -r -t $((ms / 1000)).${rest#1} never <&4
        if [ -f /data/served ]; then
            read -r served </data/served
            echo $((served + 1)) >/data/served
            served="served $((served + 1))"
        fi
        trap - TERM INT HUP
        echo >&3
        { read -r name; read -r service; } </run/vmatrix/server
        printf 'Content-Type: text/plain\r\nCache-Control: no-store\r\n\r\n%s %s %s\n' "$service" "$name" "$served"
        """;

    // What a test asks to see that a woken guest knows who and when it is.
    private const string Facts = """
        #!/bin/sh
        { read -r name; read -r service; read -r id; } </run/vmatrix/server
        read -r host </proc/sys/kernel/hostname
        printf 'Content-Type: text/plain\r\nCache-Control: no-store\r\n\r\nname=%s\nservice=%s\nid=%s\nhostname=%s\n' "$name" "$service" "$id" "$host"
        echo "time=$(date +%s)"
        echo "random=$(head -c 16 /dev/urandom | hexdump -v -e '/1 "%02x"')"
        """;

    /// <summary>Builds the guest into a folder. What is there and up to date is kept.</summary>
    /// <param name="folder">Where <c>vmlinuz</c> and <c>initrd</c> go.</param>
    /// <param name="requestTime">How long a request takes unless it says otherwise (<c>/?ms=…</c>).</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <returns>An image for a pool file: warm, with the agent, 128 MiB.</returns>
    /// <exception cref="VMatrixException"><c>DemoGuestMissing</c> with the line that installs what is missing.</exception>
    public static Task<ImageSpec> BuildAsync(string folder, TimeSpan requestTime, CancellationToken cancellation) =>
        BuildAsync(folder, requestTime, GuestAgent.Own, cancellation);

    /// <summary>Builds the guest with the agent of one's choice: its own, or the QEMU guest agent of this machine.</summary>
    internal static async Task<ImageSpec> BuildAsync(string folder, TimeSpan requestTime, string agent, CancellationToken cancellation)
    {
        var (kernel, release) = FindKernel();
        var busybox = FindBusybox();

        using var archive = new CpioArchive();
        foreach (var path in (string[])["bin", "dev", "etc", "lib", "lib/modules", "proc", "run", "sbin", "sys", "tmp", "usr", "usr/sbin", "var", "www", "www/cgi-bin"])
        {
            archive.AddFolder(path);
        }

        archive.AddLink("var/run", "../run");
        archive.AddFile("bin/busybox", await File.ReadAllBytesAsync(busybox, cancellation), executable: true);
        archive.AddLink("bin/sh", "busybox");
        if (agent == GuestAgent.Own)
        {
            archive.AddFile("sbin/vmatrix-agent", Convert.FromBase64String(Agent), executable: true);
        }
        else
        {
            var program = ((string[])["/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"]).FirstOrDefault(File.Exists) ?? throw Missing("the QEMU guest agent");
            archive.AddFile("sbin/vmatrix-reseed", Convert.FromBase64String(Reseed), executable: true);
            archive.AddFile("usr/sbin/qemu-ga", await File.ReadAllBytesAsync(program, cancellation), executable: true);
            foreach (var library in await LibrariesAsync(program, cancellation))
            {
                archive.AddFile(library.TrimStart('/'), await File.ReadAllBytesAsync(library, cancellation), executable: true);
            }
        }

        var modules = Path.Combine("/lib/modules", release, "kernel");
        foreach (var module in s_modules)
        {
            if (await ReadModuleAsync(modules, module, cancellation) is { } content)
            {
                archive.AddFile($"lib/modules/{module}.ko", content, executable: false);
            }
        }

        var ms = ((int)requestTime.TotalMilliseconds).ToString(CultureInfo.InvariantCulture);
        archive.AddFile("init", Script(Init.Replace("@MODULES@", string.Join(' ', s_modules), StringComparison.Ordinal).Replace("@MS@", ms, StringComparison.Ordinal)), executable: true);
        archive.AddFile("www/cgi-bin/index.cgi", Script(Page), executable: true);
        archive.AddFile("www/cgi-bin/facts", Script(Facts), executable: true);
        archive.AddFile("www/health", "ok\n"u8.ToArray(), executable: false);

        OwnFiles.CreateFolder(folder);
        var image = new ImageSpec
        {
            Kernel = Path.Combine(folder, "vmlinuz"),
            Initrd = Path.Combine(folder, "initrd"),
            // The kernel's test of its timer counts ticks against the processor: on a busy machine an emulated one fails it, and the guest panics.
            Append = "console=ttyS0 quiet panic=0 no_timer_check",
            MemoryBytes = 128L << 20,
            Warm = true,
            Agent = agent,
        };
        await ReplaceAsync(image.Kernel, await File.ReadAllBytesAsync(kernel, cancellation), cancellation);

        // Not compressed: under emulation unpacking would take longer than reading.
        await ReplaceAsync(image.Initrd, archive.ToArray(), cancellation);
        return image;
    }

    private static byte[] Script(string text) => Encoding.UTF8.GetBytes(text + "\n");

    private static async Task ReplaceAsync(string path, byte[] content, CancellationToken cancellation)
    {
        if (File.Exists(path) && (await File.ReadAllBytesAsync(path, cancellation)).AsSpan().SequenceEqual(content))
        {
            return;
        }

        var next = $"{path}.{Environment.ProcessId}.next";
        OwnFiles.Write(next, content);
        File.Move(next, path, overwrite: true);
    }

    private static (string Kernel, string Release) FindKernel()
    {
        foreach (var pattern in (string[])["vmlinuz-*-cloud-amd64", "vmlinuz-*-kvm", "vmlinuz-*-virtual", "vmlinuz-*-generic", "vmlinuz-*-amd64"])
        {
            foreach (var kernel in (Directory.Exists("/boot") ? Directory.GetFiles("/boot", pattern) : []).OrderDescending(StringComparer.Ordinal))
            {
                var release = Path.GetFileName(kernel)["vmlinuz-".Length..];
                if (Directory.Exists($"/lib/modules/{release}/kernel"))
                {
                    try
                    {
                        File.OpenRead(kernel).Dispose();
                    }
                    catch (UnauthorizedAccessException)
                    {
                        throw new VMatrixException("DemoGuestMissing", VMatrixErrorKind.Denied, $"The kernel {kernel} may be read by root only, as Ubuntu has it; let others read it with: sudo chmod a+r {kernel}");
                    }

                    return (kernel, release);
                }
            }
        }

        throw Missing("a kernel with its modules");
    }

    private static string FindBusybox()
    {
        foreach (var path in (string[])["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"])
        {
            // A static program names no interpreter: it has no path of a dynamic loader among its first bytes.
            if (File.Exists(path))
            {
                using var file = File.OpenRead(path);
                var head = new byte[4096];
                var read = file.ReadAtLeast(head, head.Length, throwOnEndOfStream: false);
                if (head.AsSpan(0, read).IndexOf("/ld-"u8) < 0)
                {
                    return path;
                }
            }
        }

        throw Missing("a static busybox");
    }

    private static async Task<IReadOnlyList<string>> LibrariesAsync(string program, CancellationToken cancellation) =>
        [.. SharedLibrary().Matches(await QemuTools.RunAsync("ldd", [program], cancellation)).Select(m => m.Value).Distinct(StringComparer.Ordinal)];

    [GeneratedRegex(@"/\S+(?= \(0x)")]
    private static partial Regex SharedLibrary();

    private static async Task<byte[]?> ReadModuleAsync(string root, string module, CancellationToken cancellation)
    {
        var file = Directory.EnumerateFiles(root, module + ".ko*", SearchOption.AllDirectories).FirstOrDefault();
        if (file is null || file.EndsWith(".ko", StringComparison.Ordinal))
        {
            return file is null ? null : await File.ReadAllBytesAsync(file, cancellation);
        }

        var plain = Path.Combine(Path.GetTempPath(), $"vmatrix-{Guid.NewGuid():N}.ko");
        try
        {
            await QemuTools.RunAsync("/bin/sh", ["-c", "case $1 in *.zst) zstd -dcq -- \"$1\" ;; *.xz) xz -dc -- \"$1\" ;; *) gzip -dc -- \"$1\" ;; esac >\"$2\"", "unpack", file, plain], cancellation);
            return await File.ReadAllBytesAsync(plain, cancellation);
        }
        finally
        {
            File.Delete(plain);
        }
    }

    private static VMatrixException Missing(string what) => new("DemoGuestMissing", VMatrixErrorKind.NotFound, $"The demo's guest needs {what}, which is not installed; on Debian: {AptLine}");
}
