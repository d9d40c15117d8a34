using System;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;
using VMatrix.Qemu;
using Xunit;

namespace VMatrix.Tests.Qemu;

/// <summary>What is said to the demo guest's agent, whatever others have left in its terminal.</summary>
public sealed class GuestAgentTests : IDisposable
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);
    private readonly string _sockets = Path.Combine(Path.GetTempPath(), "vmatrix-agent-" + Guid.NewGuid().ToString("N")[..8]);
    private readonly ServerMark _mark = new() { ServerId = Guid.NewGuid(), Name = "FINANCE-1", Service = "FINANCE", Stage = Stage.Matrix, MachineId = "", StateId = Guid.Empty, Image = "", Generation = 1, CreatedAt = default, ChangedAt = default };

    public void Dispose() => File.Delete(_sockets + ".agent");

    [Theory]
    [InlineData("", "")]
    [InlineData("abcd", "")]
    [InlineData("", "!")]
    [InlineData("abcd", "?")]
    public async Task A_greeting_is_heard_also_behind_half_a_line_and_an_answer_that_were_left_there(string left, string unread)
    {
        using var listener = Listen();
        var agent = PlayAsync(listener, left, unread, accepts: true);
        await GuestAgent.GreetAsync(new GuestProcess(1, 1, _sockets, TimeProvider.System), "vmatrix", _mark, s_limit, default);
        Assert.StartsWith("FINANCE-1\nFINANCE\n", await agent, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_greeting_that_is_refused_is_an_error()
    {
        using var listener = Listen();
        var agent = PlayAsync(listener, "", "", accepts: false);
        var error = await Assert.ThrowsAsync<VMatrixException>(() => GuestAgent.GreetAsync(new GuestProcess(1, 1, _sockets, TimeProvider.System), "vmatrix", _mark, s_limit, default));
        Assert.Equal("GreetingFailed", error.Id);
        await agent;
    }

    [Theory]
    [InlineData("")]
    [InlineData("abcd")]
    public async Task An_agent_that_refuses_what_was_left_there_answers(string left)
    {
        using var listener = Listen();
        var agent = PlayAsync(listener, left, "", accepts: true);
        Assert.True(await GuestAgent.AnswersAsync(new GuestProcess(1, 1, _sockets, TimeProvider.System), "vmatrix", s_limit, default));
        await agent;
    }

    private Socket Listen()
    {
        var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(_sockets + ".agent"));
        listener.Listen();
        return listener;
    }

    /// <summary>The agent by the words of DemoAgent.asm, with what its terminal and QEMU still hold. Returns the text that it was given.</summary>
    private static async Task<string> PlayAsync(Socket listener, string left, string unread, bool accepts)
    {
        using var client = await listener.AcceptAsync();
        using var stream = new NetworkStream(client);
        using var reader = new StreamReader(stream, Encoding.ASCII);
        await stream.WriteAsync(Encoding.ASCII.GetBytes(unread));
        var text = "";
        try
        {
            for (string? line = left + await reader.ReadLineAsync(); line is not null; line = await reader.ReadLineAsync())
            {
                // Times, randomness and the length of the name take 49 bytes.
                var whole = line.Length > 2 * 49;
                if (whole && accepts)
                {
                    var bytes = new byte[line.Length / 2];
                    for (int i = 0; i < bytes.Length; i++)
                        bytes[i] = (byte)(((line[2 * i] - 'a') << 4) + (line[(2 * i) + 1] - 'a'));
                    text = Encoding.UTF8.GetString(bytes, 49, bytes.Length - 49);
                }

                await stream.WriteAsync(Encoding.ASCII.GetBytes(line.Length < 2 ? "." : whole && accepts ? "!" : "?"));
            }
        }
        catch (IOException)
        {
            // The client has heard enough.
        }

        return text;
    }
}
