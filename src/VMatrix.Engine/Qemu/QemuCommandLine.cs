using System;
using System.Collections.Generic;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace VMatrix.Qemu;

/// <summary>What differs between two runs of the same guest.</summary>
internal sealed record RunSettings
{
    public required Guid Id { get; init; }

    public required string Name { get; init; }

    public required string Service { get; init; }

    /// <summary>The host's port that is forwarded to the guest's.</summary>
    public required int Port { get; init; }

    /// <summary>Path that the sockets' names begin with.</summary>
    public required string Sockets { get; init; }

    public required string Console { get; init; }

    public string? Kernel { get; init; }

    public string? Initrd { get; init; }

    /// <summary>The disk's files, the overlay first and the gold disk last.</summary>
    public IReadOnlyList<string> Disks { get; init; } = [];

    /// <summary>The state file to wake from; null to boot.</summary>
    public string? State { get; init; }
}

/// <summary>Makes QEMU's command line. Devices and their order decide whether a memory loads, so they are written here and nowhere else.</summary>
internal static class QemuCommandLine
{
    /// <summary>QEMU's name for a guest's disk.</summary>
    public const string Disk = "disk";

    /// <summary>A hash of all that must be the same for a memory to load again: the command line of a run with nothing of its own.</summary>
    public static string Shape(GuestFacts guest)
    {
        var bare = new RunSettings
        {
            Id = Guid.Empty, Name = "", Service = "", Port = 0, Sockets = "", Console = "",
            Kernel = guest.Kernel ? "" : null, Initrd = guest.Initrd ? "" : null, Disks = guest.Disk ? [""] : [],
        };
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\0', Build(guest, bare)) + '\0' + guest.Content)));
    }

    public static IReadOnlyList<string> Build(GuestFacts guest, RunSettings run)
    {
        List<string> line =
        [
            "-nodefaults", "-no-user-config", "-display", "none",
            "-name", $"guest={Escape(run.Name)}", "-uuid", run.Id.ToString("D"),
            "-machine", guest.Machine,
            "-m", string.Create(CultureInfo.InvariantCulture, $"{guest.MemoryBytes >> 10}K"),
            "-smp", guest.Cores.ToString(CultureInfo.InvariantCulture),
            "-rtc", "base=utc",

            // A guest that powers itself off or panics stays to be asked why.
            "-action", "shutdown=pause,panic=pause",
            "-qmp", $"unix:{Escape(run.Sockets)}.qmp,server=on,wait=off",
            "-chardev", $"file,id=console,path={Escape(run.Console)},append=on", "-serial", "chardev:console",
        ];
        line.AddRange(guest.Accelerator == "kvm" ? ["-accel", "kvm", "-cpu", "host"] : ["-accel", "tcg,tb-size=32", "-cpu", "qemu64"]);

        if (run.Kernel is not null)
        {
            // On a busy machine an emulated timer comes late, and a kernel that checks it ("IO-APIC + timer doesn't work!") panics at its start.
            var timer = guest.Accelerator == "tcg" ? "no_timer_check " : "";
            line.AddRange(["-kernel", run.Kernel, "-append", $"{timer}{guest.Append ?? "console=ttyS0 quiet"} vmatrix.id={run.Id:D} vmatrix.name={Word(run.Name)} vmatrix.service={Word(run.Service)}".Trim()]);
            if (run.Initrd is not null)
            {
                line.AddRange(["-initrd", run.Initrd]);
            }
        }

        if (run.Disks.Count > 0)
        {
            var chain = Chain(run.Disks, readOnly: false);
            chain["node-name"] = Disk;
            chain["discard"] = "unmap";
            line.AddRange(["-blockdev", chain.ToJsonString(), "-device", run.Kernel is null ? "virtio-blk-pci,drive=" + Disk + ",bootindex=0" : "virtio-blk-pci,drive=" + Disk]);

            // cloud-init reads the name and the instance's id from here, without a seed disk.
            line.AddRange(["-smbios", $"type=1,serial=ds=nocloud;h={Word(run.Name)};i={run.Id:D}"]);
        }

        // Without restrict=on a guest reaches this machine's own loopback. Without romfile= each boot loads a network boot ROM.
        line.AddRange(["-netdev", string.Create(CultureInfo.InvariantCulture, $"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{run.Port}-:{guest.Port}"), "-device", "virtio-net-pci,netdev=net,romfile="]);
        line.AddRange(["-device", "virtio-rng-pci", "-device", "pvpanic-pci"]);
        if (guest.Agent == GuestAgent.Own)
        {
            // The second serial port: unlike a virtio port it has a listener whether or not we are connected.
            line.AddRange(["-chardev", $"socket,id=agent,path={Escape(run.Sockets)}.agent,server=on,wait=off", "-serial", "chardev:agent"]);
        }
        else if (guest.Agent is not null)
        {
            line.AddRange(["-device", "virtio-serial-pci", "-chardev", $"socket,id=agent,path={Escape(run.Sockets)}.agent,server=on,wait=off", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]);
        }

        if (run.State is not null)
        {
            // -S: the processors wait until we know that the memory is whole and have let go of its file.
            line.AddRange(["-S", "-incoming", $"exec:exec zstd -dcq -- '{run.State.Replace("'", "'\\''", StringComparison.Ordinal)}'"]);
        }

        return line;
    }

    /// <summary>A disk with all that it lies on, by the paths given and not by those that its files name.</summary>
    public static JsonObject Chain(IReadOnlyList<string> disks, bool readOnly)
    {
        JsonObject? chain = null;
        for (var i = disks.Count - 1; i >= 0; i--)
        {
            chain = new JsonObject
            {
                ["driver"] = "qcow2",
                ["read-only"] = readOnly || i > 0,
                ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = disks[i], ["read-only"] = readOnly || i > 0 },
                ["backing"] = chain,
            };
        }

        return chain!;
    }

    private static string Escape(string value) => value.Replace(",", ",,", StringComparison.Ordinal);

    /// <summary>One word for a kernel command line or a firmware string.</summary>
    private static string Word(string value) => string.Create(value.Length, value, static (span, source) =>
    {
        for (var i = 0; i < source.Length; i++)
        {
            span[i] = char.IsAsciiLetterOrDigit(source[i]) || source[i] is '-' or '_' or '.' ? source[i] : '-';
        }
    });
}
