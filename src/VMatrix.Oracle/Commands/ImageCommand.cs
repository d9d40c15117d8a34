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
        var milliseconds = new Option<int>("--request-ms") { Description = "How long a request takes in the guest, in milliseconds.", DefaultValueFactory = _ => 200 };
        var build = new Command("build-demo", "Builds the demo's guest from this machine's kernel and busybox.") { folder, milliseconds };
        build.SetAction(async (parsed, cancellation) =>
        {
            ImageSpec image = await DemoGuest.BuildAsync(parsed.GetValue(folder)!.FullName, TimeSpan.FromMilliseconds(parsed.GetValue(milliseconds)), cancellation);
            Console.WriteLine(image.Kernel);
            Console.WriteLine(image.Initrd);
            return ExitCode.Done;
        });
        return new Command("image", "Makes images.") { build };
    }
}
