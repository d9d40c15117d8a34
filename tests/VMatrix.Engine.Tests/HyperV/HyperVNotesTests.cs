using System;
using CsCheck;
using VMatrix.Contract;
using VMatrix.HyperV;
using Xunit;

namespace VMatrix.Tests.HyperV;

/// <summary>The admin's own notes are the admin's, to the byte.</summary>
public sealed class HyperVNotesTests
{
    private static readonly HyperVMark s_mark = new() { Mark = TestPool.Mark(TestPool.Simulated("/nowhere"), "FINANCE", 1, Guid.Empty, "12345678", DateTimeOffset.UnixEpoch) with { Name = "FINANCE-Ä 'x'\n" }, Place = HyperVPlace.Nest };

    private static readonly string[] s_pieces = ["\r", "\n", "\r\n", "VMatrix", "VMatrix:", " VMatrix:{", "Ö", "a", "\t", ""];

    private static readonly Gen<string> s_notes = Gen.OneOf(Gen.Int[0, s_pieces.Length - 1].Select(i => s_pieces[i]), Gen.String).List[0, 8].Select(string.Concat);

    [Fact]
    public void What_was_there_comes_back() => s_notes.Sample(notes =>
    {
        if (HyperVNotes.Read(notes) is not (null, null))
            return true; // By chance it is a line of ours.
        var with = HyperVNotes.Write(notes, s_mark);
        var again = HyperVNotes.Write(with, s_mark with { Ran = true, Place = HyperVPlace.Host });
        return HyperVNotes.Read(with).Mark == s_mark && HyperVNotes.Read(again).Mark is { Ran: true, Place: HyperVPlace.Host }
            && HyperVNotes.Remove(with) == notes && HyperVNotes.Remove(again) == notes;
    }, iter: 20_000);

    [Theory]
    [InlineData("mine\n{0}", "mine\nand more\n{0}")]
    [InlineData("{0}\r\nmine", "{0}\r\nmine\r\nand more")]
    [InlineData("before\r\n{0}\r\nafter", "before!\r\n{0}\r\nafter!")]
    public void What_the_admin_writes_around_it_stays(string before, string after)
    {
        var line = HyperVNotes.Write("", s_mark);
        Assert.DoesNotContain('\n', line);
        foreach (var notes in new[] { string.Format(before, line), string.Format(after, line) })
        {
            var written = HyperVNotes.Write(notes, s_mark with { Ran = true });
            Assert.Equal(notes, written.Replace(HyperVNotes.Write("", s_mark with { Ran = true }), line));
        }
    }

    [Theory]
    [InlineData("VMatrix:{\"mark\":", "cannot be read")]
    [InlineData("VMatrix:{}\nVMatrix:{}", "two lines")]
    public void A_damaged_line_is_told_and_nobody_is_taken_for_a_server(string notes, string told)
    {
        var (mark, problem) = HyperVNotes.Read(notes);
        Assert.Null(mark);
        Assert.Contains(told, problem, StringComparison.Ordinal);
    }
}
