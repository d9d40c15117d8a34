using System;
using System.CommandLine;
using System.IO;
using VMatrix.Qemu;

namespace VMatrix.Oracle.Commands;

/// <summary><c>vmatrix-oracle image</c>.</summary>
internal static class ImageCommand
{
    public static Command Create()
    {
        var folder = new Option<DirectoryInfo>("--folder") { Description = "Where vmlinuz and initrd go.", Required = true };
        Option<TimeSpan> requestTime = DurationOption.Of("--request-time", "How long a request takes in the guest, such as 200ms.", TimeSpan.FromMilliseconds(200), TimeSpan.Zero, TimeSpan.FromHours(1));
        var build = new Command("build-demo", "Builds the demo's guest from this machine's kernel and busybox.") { folder, requestTime };
        build.SetAction(async (parsed, cancellation) =>
        {
            ImageSpec image = await DemoGuest.BuildAsync(parsed.GetValue(folder)!.FullName, parsed.GetValue(requestTime), cancellation);
            Console.WriteLine(image.Kernel);
            Console.WriteLine(image.Initrd);
            return ExitCode.Done;
        });
        return new Command("image", "Makes images.") { build };
    }
}
