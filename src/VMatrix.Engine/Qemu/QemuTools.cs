using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Files;
using VMatrix.Scripts;

namespace VMatrix.Qemu;

/// <summary>The programs that the driver runs, and what the QEMU of this machine can do.</summary>
internal static partial class QemuTools
{
    private const string AptLine = "apt-get install --no-install-recommends qemu-system-x86 qemu-utils zstd";
    private static readonly ConcurrentDictionary<string, string> s_machines = new();

    /// <summary>Finds a program on PATH.</summary>
    /// <exception cref="VMatrixException"><c>QemuMissing</c> with the line that installs it.</exception>
    public static string Find(string program) =>
        ChildEnvironment.Find(program) ?? throw new VMatrixException("QemuMissing", VMatrixErrorKind.NotFound, $"The program {program} is not on PATH; install it, on Debian or Ubuntu with: {AptLine}");

    /// <summary>The versioned name behind <c>q35</c>, so that a later QEMU still loads today's memory.</summary>
    public static async Task<string> MachineTypeAsync(CancellationToken cancellation)
    {
        var program = Find("qemu-system-x86_64");
        if (s_machines.TryGetValue(program, out var known))
        {
            return known;
        }

        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        using var either = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellation);
        string list;
        try
        {
            list = await RunAsync(program, ["-machine", "help"], either.Token);
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            throw new VMatrixException("ToolFailed", VMatrixErrorKind.Timeout, $"{program} -machine help gave no answer within 60 s; run it by hand to see why.", e) { IsTransient = true };
        }

        var alias = Q35Alias().Match(list);
        return s_machines[program] = alias.Success ? alias.Groups[1].Value : "q35";
    }

    [GeneratedRegex(@"^q35\s.*\(alias of ([A-Za-z0-9.-]+)\)", RegexOptions.Multiline)]
    private static partial Regex Q35Alias();

    /// <summary>Runs a program to its end and returns what it printed.</summary>
    /// <exception cref="VMatrixException"><c>ToolFailed</c> with what it complained of.</exception>
    public static async Task<string> RunAsync(string program, IReadOnlyList<string> arguments, CancellationToken cancellation)
    {
        var (code, output, errors) = await TryRunAsync(program, arguments, cancellation);
        return code == 0 ? output : throw Failed(Path.GetFileName(program) + " " + arguments[0], code, errors);
    }

    /// <summary>Runs a program to its end; its exit code is the caller's to judge.</summary>
    public static async Task<(int Code, string Output, string Errors)> TryRunAsync(string program, IReadOnlyList<string> arguments, CancellationToken cancellation)
    {
        using var process = Start(Closed(program, arguments));
        process.StandardInput.Close();
        try
        {
            var output = ReadAsync(process.StandardOutput, cancellation);
            var errors = ReadAsync(process.StandardError, cancellation);
            await process.WaitForExitAsync(cancellation);
            return (process.ExitCode, await output, await errors);
        }
        catch
        {
            process.Kill();
            throw;
        }
    }

    /// <summary>How a program is started whose files nobody else is to read, whatever our umask.</summary>
    public static ProcessStartInfo Closed(string program, IReadOnlyList<string> arguments) =>
        new("/bin/sh", ["-c", "umask 077; exec \"$0\" \"$@\"", program, .. arguments]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };

    /// <summary>What a program prints, as far as anybody would read it; the rest is taken from its pipe and let go.</summary>
    private static async Task<string> ReadAsync(StreamReader reader, CancellationToken cancellation)
    {
        const int Most = 1 << 20;
        var text = new StringBuilder();
        var buffer = new char[8192];
        int count;
        while ((count = await reader.ReadAsync(buffer, cancellation)) > 0)
        {
            text.Append(buffer, 0, Math.Min(count, Most - text.Length));
        }

        return text.ToString();
    }

    /// <summary>Starts a program with a minimal environment, or says how to get it.</summary>
    public static Process Start(ProcessStartInfo start)
    {
        try
        {
            return Process.Start(start.Minimal())!;
        }
        catch (Win32Exception e)
        {
            throw new VMatrixException("QemuMissing", VMatrixErrorKind.NotFound, $"The program {start.FileName} cannot be started ({e.Message}); install it, on Debian or Ubuntu with: {AptLine}", e);
        }
    }

    /// <summary>An error that tells what a program said.</summary>
    public static VMatrixException Failed(string what, int code, string errors)
    {
        var text = errors.Trim();
        return text.Contains("No space left", StringComparison.OrdinalIgnoreCase)
            ? new VMatrixException("DiskFull", VMatrixErrorKind.NoRoom, $"The disk is full: {text}. Free some room and try again.")
            : new VMatrixException("ToolFailed", VMatrixErrorKind.Failed, string.Create(CultureInfo.InvariantCulture, $"{what} failed with exit code {code}: {(text.Length == 0 ? "it gave no reason" : text)}."));
    }

    /// <summary>
    /// <c>kvm</c> where a guest under it really runs, else <c>tcg</c>. A device file, its API version and a tiny ioctl guest all say yes on
    /// machines where no kernel boots, so the probe is a boot sector that goes to long mode, works there and answers in time.
    /// The answer is kept until the machine boots again.
    /// </summary>
    public static async Task<string> AcceleratorAsync(string runtimeFolder, TimeProvider clock, CancellationToken cancellation)
    {
        if (!File.Exists("/dev/kvm"))
        {
            return "tcg";
        }

        var boot = (await File.ReadAllTextAsync("/proc/sys/kernel/random/boot_id", cancellation)).Trim();
        var cache = Path.Combine(runtimeFolder, "accelerator");
        if (SmallFile.TryRead(cache) is { } kept)
        {
            var words = Encoding.UTF8.GetString(kept).Split();
            if (words.Length >= 2 && words[0] == boot && words[1] is "kvm" or "tcg")
            {
                return words[1];
            }
        }

        var answer = await GuestAnswersAsync("kvm", runtimeFolder, TimeSpan.FromSeconds(1.5), clock, cancellation) ? "kvm" : "tcg";
        var next = $"{cache}.{Environment.ProcessId}";
        OwnFiles.Write(next, $"{boot} {answer}\n");
        File.Move(next, cache, overwrite: true);
        return answer;
    }

    /// <summary>True when the probe guest answers in time under an accelerator.</summary>
    public static async Task<bool> GuestAnswersAsync(string accelerator, string runtimeFolder, TimeSpan limit, TimeProvider clock, CancellationToken cancellation)
    {
        // Goes to long mode by itself, counts down from 20 million there, and writes what only a 64-bit processor
        // computes (0x123456789a >> 32, plus 3) to the isa-debug-exit port: QEMU then exits with 2 * 0x15 + 1.
        //   page tables at 0x1000: one 2 MiB page; A20; GDT with one 64-bit code segment; CR4.PAE, EFER.LME, CR0.PG|PE; jmp 8:lm
        //   lm: mov rcx,20000000; again: dec rcx; jnz again; mov rax,0x123456789a; shr rax,32; add al,3; mov dx,0xf4; out dx,al; hlt
        const string Code = "+jHAjtiOwI7QvAB8vwAQuQAY/POrxwYAEAMgxwYAIAMwxwYAMIMA5JIMAuaSDwEWmHxmuCAAAAAPIuBmuAAQAAAPIthmuYAAAMAPMmYNAAEAAA8wDyDAZg0BAACADyLA6mV8CAC5AC0xAUj/yXX7SLiaeFY0EgAAAEjB6CAEA2a69ADu9JCQkAAAAAAAAAAAAAAAAACaIAAPAIh8";
        const int Answer = 43;
        var disk = new byte[1 << 20];
        Convert.FromBase64String(Code).CopyTo(disk, 0);
        disk[510] = 0x55;
        disk[511] = 0xaa;
        var file = Path.Combine(runtimeFolder, $"probe-{Environment.ProcessId}-{Guid.NewGuid():N}");
        try
        {
            OwnFiles.Write(file, disk);

            // timeout(1) ends a guest that crawls also when this process is gone by then.
            var start = new ProcessStartInfo("timeout", [
                "-s", "KILL", string.Create(CultureInfo.InvariantCulture, $"{limit.TotalSeconds + 0.5:0.0}"), Find("qemu-system-x86_64"),
                "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-accel", accelerator, "-m", "16M",
                "-drive", $"file={file.Replace(",", ",,", StringComparison.Ordinal)},format=raw,if=ide,snapshot=on", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            };
            var began = clock.GetTimestamp();
            using var process = Start(start);
            try
            {
                await process.WaitForExitAsync(cancellation);
            }
            catch (OperationCanceledException)
            {
                process.Kill(entireProcessTree: true);
                throw;
            }

            return process.ExitCode == Answer && clock.GetElapsedTime(began) <= limit;
        }
        finally
        {
            File.Delete(file);
        }
    }
}
