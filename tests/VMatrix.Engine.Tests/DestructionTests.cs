using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using Xunit;

namespace VMatrix.Tests;

/// <summary>
/// Every place where the drivers and the mover delete, rename, overwrite, power off or dispose of something of a server or an image: why it is
/// right there, and the test that shows it. A place that is not here has to be thought about first.
/// </summary>
public sealed partial class DestructionTests
{
    private const string HyperV = "src/VMatrix.Engine/HyperV/";
    private const string Qemu = "src/VMatrix.Engine/Qemu/";

    /// <summary>File and member, why nothing is destroyed there on a guess, and a test that fails if it is.</summary>
    private static readonly (string Place, string Why, string Test)[] s_places =
    [
        (HyperV + "HyperVHost.cs:WriteNotesAsync", "a rename of a machine found by its id, whose mark counts", "A_replica_is_no_server_and_stays_when_the_host_of_its_primary_is_down"),
        (HyperV + "HyperVHost.cs:LeaveClusterAsync", "before a disposed server is purged", "A_clustered_machine_is_moved_by_its_cluster_whose_own_balancing_is_told"),
        (HyperV + "HyperVHypervisor.Images.cs:MakeImageAsync", "a folder of a random name that this call made", "A_gold_disk_that_is_not_there_is_named_with_the_key_that_mends_it"),
        (HyperV + "HyperVHypervisor.Images.cs:OrLeaveAsync", "a folder of a random name that this call made", "Called_twice_ends_as_called_once"),
        (HyperV + "HyperVHypervisor.Images.cs:PublishImageAsync", "the export that this call made", "A_published_version_is_what_new_servers_are_made_from_once_it_is_selected"),
        (HyperV + "HyperVHypervisor.Making.cs:MakeAsync", "what a trace says was begun here, without notes, under a name that nothing else has", "Files_that_no_record_tells_of_are_not_deleted_for_a_new_server"),
        (HyperV + "HyperVHypervisor.Making.cs:ClearHalfMadeAsync", "what this call made, unless it carries a mark", "Cut_short_and_called_again_ends_as_called_once"),
        (HyperV + "HyperVHypervisor.Making.cs:EraseAsync", "a disposed server, and every host answers", "What_the_host_tells_of_a_purge_in_words_alone_deletes_no_file"),
        (HyperV + "HyperVHypervisor.Running.cs:EjectSeedAsync", "the seed, once it is out of the drive", "Stopped_it_lets_go_of_its_seed_and_a_disc_of_its_owner_stays"),
        (HyperV + "HyperVHypervisor.Running.cs:GiveUpMemoryAsync", "by the owner's policy, proven by Start-VM's code or Compare-VM", "Memory_is_given_up_for_nothing_but_an_error_about_resuming_it"),
        (HyperV + "HyperVHypervisor.Running.cs:StopAsync", "a step of disposing, asked for", "A_disposed_server_is_deleted_once_its_time_is_up"),
        (HyperV + "HyperVHypervisor.Share.cs:WriteMarkAsync", "the folder of the server that it was, to the one that it became", "One_that_is_let_go_in_the_share_lies_there_and_becomes_another_server"),
        (HyperV + "HyperVHypervisor.Share.cs:DropRecordAsync", "the record of a machine whose own notes say it now", "A_wake_is_cut_short_at_every_step_and_finished_or_taken_back_by_whoever_comes_next"),
        (HyperV + "HyperVHypervisor.Share.cs:TuckInAsync", "once its export is whole and recorded", "Where_the_share_fails_an_export_the_server_goes_on_where_it_is"),
        (HyperV + "HyperVHypervisor.Share.cs:ExportAsync", "exports in which the machine does not lie", "A_sleep_is_cut_short_at_every_step_and_finished_or_taken_back_by_whoever_comes_next"),
        (HyperV + "HyperVHypervisor.Share.cs:LeanOnImagesAsync", "copies of images, once the disk leans on the nest's own", "Disks_of_one_name_are_told_and_so_is_an_image_that_was_changed"),
        (HyperV + "HyperVHypervisor.Share.cs:ClearLeft", "what it left on its host, proven to be registered nowhere", "What_is_not_settled_is_believed_only_while_every_host_answers"),
        (HyperV + "HyperVHypervisor.cs:ShiftAsync", "a folder without any file", "Where_Compare_VM_does_not_answer_no_memory_is_given_up_for_a_move"),
        (HyperV + "HyperVNest.cs:Making", "folders of a random name that nobody has touched for a day", "Called_twice_ends_as_called_once"),
        (HyperV + "HyperVNest.cs:Select", "which image is selected, by the caller's word", "A_published_version_is_what_new_servers_are_made_from_once_it_is_selected"),
        (HyperV + "HyperVNest.cs:Finish", "a version without its facts, which was never whole", "Cut_short_and_called_again_ends_as_called_once"),
        (HyperV + "HyperVNest.cs:WriteTrace", "its own record", "Cut_short_and_called_again_ends_as_called_once"),
        (HyperV + "HyperVNest.cs:RemoveTrace", "its own record", "What_was_begun_and_failed_is_free_again_and_what_a_crash_left_is_used_by_who_comes_next"),
        (HyperV + "HyperVNest.cs:WriteSeed", "a seed, made anew at each boot", "A_guest_with_cloud_init_becomes_who_it_is_and_has_its_address"),
        (HyperV + "HyperVNest.cs:TryClaim", "a file that appears whole for one only", "Two_at_once_do_not_get_the_same"),
        (HyperV + "HyperVNest.cs:HandOver", "a claim, to the server that the machine became", "One_that_is_let_go_keeps_it_and_brings_it_back"),
        (HyperV + "HyperVNest.cs:FreeAddresses", "claims of a server that is purged or was not made", "A_range_that_is_used_up_says_so_and_a_purge_frees_one"),
        (HyperV + "HyperVNest.cs:AdmitAsync", "the highest epoch", "A_decider_that_was_followed_by_another_is_refused"),
        (HyperV + "HyperVNest.cs:Delete", "what its callers name, above", "Called_twice_ends_as_called_once"),
        (HyperV + "HyperVShare.cs:Write", "its own record", "A_record_that_cannot_be_read_hides_no_other_one"),
        (HyperV + "HyperVShare.cs:Rename", "see WriteMarkAsync", "One_that_is_let_go_in_the_share_lies_there_and_becomes_another_server"),
        (HyperV + "HyperVShare.cs:Drop", "see DropRecordAsync", "A_wake_is_cut_short_at_every_step_and_finished_or_taken_back_by_whoever_comes_next"),
        (HyperV + "HyperVShare.cs:Clear", "exports in which no file of the machine lies", "Where_a_host_does_not_get_at_the_share_another_one_wakes_it"),
        ("src/VMatrix.Engine/Scvmm/ScvmmHypervisor.cs:SaveAsync", "saves by VMM's word for that", "Every_change_of_stage_is_made_or_refused"),
        ("src/VMatrix.Engine/Scvmm/ScvmmHypervisor.cs:StopAsync", "a step of disposing, asked for", "A_disposed_server_is_deleted_once_its_time_is_up"),
        ("src/VMatrix.Engine/Scvmm/ScvmmServer.cs:RemoveAsync", "a disposed server", "What_VMM_remembers_of_a_host_that_does_not_answer_proves_nothing"),
        (Qemu + "GuestProcess.cs:DeleteSockets", "sockets of a process that has ended", "A_killed_server_is_dead_with_the_end_of_its_console"),
        (Qemu + "ImageStore.cs:PublishAsync", "a folder that this call made", "A_published_version_is_what_new_servers_are_made_from_once_it_is_selected"),
        (Qemu + "ImageStore.cs:BeginAsync", "what a process that ended has left half made", "Cut_short_and_called_again_ends_as_called_once"),
        (Qemu + "ImageStore.cs:FinishAsync", "a version that was never whole", "Cut_short_and_called_again_ends_as_called_once"),
        (Qemu + "MemoryState.cs:SaveAsync", "an older memory, once the new one is whole and the guest no longer is what the old one was", "A_save_that_finds_the_disk_full_leaves_the_server_running"),
        (Qemu + "Places.cs:MoveAsync", "the old place, once the new one is whole", "A_copy_between_file_systems_that_was_cut_short_is_in_one_place_and_goes_on"),
        (Qemu + "Places.cs:Settle", "a copy beside the whole one", "A_copy_between_file_systems_that_was_cut_short_is_in_one_place_and_goes_on"),
        (Qemu + "Places.cs:SweepUnfinished", "a copy that no process makes any more", "A_copy_that_a_dead_process_began_hinders_neither_hibernation_nor_the_next_copy"),
        (Qemu + "Places.cs:Delete", "what its callers name, above", "Called_twice_ends_as_called_once"),
        (Qemu + "QemuHypervisor.Images.cs:CopyDiskAsync", "a copy that this call made", "No_image_is_made_from_a_server_that_sleeps_or_is_not_there"),
        (Qemu + "QemuHypervisor.Power.cs:LaunchAsync", "the note of a process that has ended", "A_second_copy_is_never_started"),
        (Qemu + "QemuHypervisor.Power.cs:GoOnAsync", "a memory that the running guest has now", "A_memory_that_is_not_what_was_kept_is_refused_and_stays"),
        (Qemu + "QemuHypervisor.Power.cs:SaveAsync", "the note of a process that has ended", "A_save_that_finds_the_disk_full_leaves_the_server_running"),
        (Qemu + "QemuHypervisor.Power.cs:StopAsync", "a step of disposing, asked for", "A_disposed_server_is_deleted_once_its_time_is_up"),
        (Qemu + "QemuHypervisor.cs:CreateAsync", "a folder that this call made", "Cut_short_and_called_again_ends_as_called_once"),
        (Qemu + "QemuHypervisor.cs:RelocateAsync", "the note of a process that has ended", "A_server_goes_to_another_file_system_and_back_whole"),
        (Qemu + "QemuHypervisor.cs:EraseAsync", "a disposed server", "A_disposed_server_comes_back_with_its_memory_until_it_is_purged"),
        (Qemu + "QemuHypervisor.cs:AdoptAsync", "its folder's name, and the mark that it was let go with", "A_clone_becomes_a_server_of_its_own"),
        (Qemu + "QemuHypervisor.cs:ReleaseAsync", "its mark, kept beside", "To_let_go_of_what_is_not_there_is_no_error_and_of_what_is_elsewhere_is_one"),
        (Qemu + "ServerFolder.cs:DropState", "see its callers", "A_memory_that_is_not_what_was_kept_is_refused_and_stays"),
        (Qemu + "ServerFolder.cs:Sweep", "drafts that were never whole", "What_a_process_that_died_in_the_middle_of_a_save_left_is_finished_or_taken_back"),
        (Qemu + "ServerFolder.cs:Write", "a fact, by its successor", "A_mark_is_kept_wherever_the_server_goes"),
        ("src/VMatrix.Core/Moves/MoveRun.cs:DoAsync", "steps of a move that was asked for", "Every_change_of_stage_is_made_or_refused"),
        ("src/VMatrix.Core/Moves/MoveRun.cs:TakeBackAsync", "what this move made; powered off only what was booted or is proven to hang", "A_memory_that_cannot_be_saved_on_the_way_back_is_not_thrown_away"),
    ];

    [Fact]
    public void Every_place_that_destroys_something_is_known_and_shown_to_be_guarded()
    {
        var found = Find();
        Assert.Empty(found.Except(s_places.Select(place => place.Place)).Select(place => $"{place} destroys something and is not in the list: say why it is right and which test shows it."));
        Assert.Empty(s_places.Select(place => place.Place).Except(found).Select(place => $"{place} destroys nothing any more: take it out of the list."));
    }

    [Fact]
    public void Each_of_them_has_a_test_that_exists()
    {
        var tests = Directory.EnumerateFiles(Path.Combine(Root(), "tests"), "*.cs", SearchOption.AllDirectories).Where(file => !file.Contains("/obj/", StringComparison.Ordinal))
            .SelectMany(file => Test().Matches(File.ReadAllText(file)).Select(match => match.Groups[1].Value)).ToHashSet();
        Assert.Empty(s_places.Where(place => !tests.Contains(place.Test)).Select(place => $"{place.Place}: there is no test {place.Test}."));
    }

    private static SortedSet<string> Find()
    {
        var found = new SortedSet<string>(StringComparer.Ordinal);
        foreach (var folder in new[] { HyperV, Qemu, "src/VMatrix.Engine/Scvmm/", "src/VMatrix.Core/Moves/" })
        {
            foreach (var file in Directory.EnumerateFiles(Path.Combine(Root(), folder), "*.cs"))
            {
                // The state folder's own files and the demo's guest hold nothing of a server.
                var name = Path.GetFileName(file);
                if ((folder.EndsWith("Moves/", StringComparison.Ordinal) && !name.StartsWith("Move", StringComparison.Ordinal) && !name.StartsWith("Rolling", StringComparison.Ordinal)) || name is "DemoGuest.cs" or "QemuTools.cs")
                    continue;
                string? member = null;
                foreach (var line in File.ReadLines(file))
                {
                    if (Member().Match(line) is { Success: true } begun)
                        member = begun.Groups[1].Value;
                    if (member is not null && !line.Contains("///", StringComparison.Ordinal) && Destroys().IsMatch(line))
                        found.Add($"{folder}{name}:{member}");
                }
            }
        }

        return found;
    }

    [GeneratedRegex("""Hyper-V\\\\(Remove-VM|Remove-VMSavedState|Stop-VM)"|Remove-ClusterGroup"|"NewVMName"|(?<![\w.])(?:HyperVNest\.|Places\.)?Delete\(|_share\.(Drop|Clear|Rename)\(|\b(File|Directory)\.(Delete|Move)\(|StateFiles\.(TryDelete|Replace)\(|"(Remove-SCVirtualMachine|Stop-SCVirtualMachine)"|\("DiscardSavedState"|\.DropState\(|hypervisor\.(EraseAsync|DiscardAsync|StopAsync)\(""")]
    private static partial Regex Destroys();

    [GeneratedRegex("""^    (?:public|private|internal|protected)[^=;(]*?(\w+)(?:<\w+>)?\(""")]
    private static partial Regex Member();

    [GeneratedRegex("""public (?:static )?(?:async )?(?:Task|void) (\w+)\(""")]
    private static partial Regex Test();

    private static string Root()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder!.FullName, "VMatrix.sln")))
            folder = folder.Parent;
        return folder.FullName;
    }
}
