using System;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading.Tasks;
using CsCheck;
using VMatrix.Contract;
using VMatrix.Drivers;
using VMatrix.HAProxy;
using Xunit;

namespace VMatrix.Tests.HAProxy;

/// <summary>Answers that no HAProxy gives: each is that balancer's error and ends nothing else.</summary>
public sealed class HAProxyAnswerTests : IDisposable
{
    private const string Info = "Name: HAProxy\nVersion: 2.6.12\nPid: 77\nStart_time_sec: 1700000000\n";
    private const string Header = "# pxname,svname,qcur,scur,stot,econ,eresp,status,weight,type,req_tot,hrsp_2xx,rtime,addr,mode,algo,slim,check_status,";
    private const string Rows = "FINANCE:users,FRONTEND,,1,9,,,OPEN,,0,9,9,,,http,,100,,\nFINANCE,vmatrix-0123456789abcdef0123456789abcdef,0,1,9,0,0,UP,1,2,9,9,3,10.0.0.7:80,http,,,L7OK,\nFINANCE,BACKEND,0,1,9,0,0,UP,1,1,9,9,3,,http,leastconn,10,,";
    private const string Table = "# table: vmatrix-counters, type: string, size:1024, used:1\n0x5: key=FINANCE use=0 exp=0 shard=0 gpc0=9 gpc1=0 gpc2=0";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void An_answer_of_the_form_that_HAProxy_gives_is_read()
    {
        BalancerReport report = Parse($"{Info}\n{Header}\n{Rows}\n\n{Table}\n\n");
        BalancerMember member = Assert.Single(report.Members);
        Assert.Equal(("10.0.0.7:80", 1, 9L, MemberState.Ready), (member.Address, member.Open, member.Requests, member.State));
        Assert.Equal((9L, 9L, 0L), (report.Services[0].Requests, report.Services[0].Served, report.Services[0].Refused));
        Assert.Equal("77@1700000000", report.Incarnation);
    }

    [Theory]
    [InlineData(Table, "gpc0=9", "gpc0=18446744073709551615")]
    [InlineData(Table, "gpc0=9", "gpc0=99999999999999999999")]
    [InlineData(Table, "gpc0=9", "gpc0=-1")]
    [InlineData(Rows, "UP,1,2,9,9,3", "UP,1,2,99999999999999999999,9,3")]
    [InlineData(Rows, "UP,1,2,9,9,3", "UP,1,2,1e300,9,3")]
    [InlineData(Rows, "UP,1,2,9,9,3", "UP,1,2,9,9,9999999999999")]
    [InlineData(Rows, "FINANCE,BACKEND,0,1", "FINANCE,BACKEND,4294967296,1")]
    [InlineData(Info, "Pid: 77", "Pid: 99999999999")]
    [InlineData(Info, "Pid: 77", "Pid: -1")]
    [InlineData(Info, "Pid: 77", "Pid: 0")]
    [InlineData(Info, "Pid: 77\n", "")]
    [InlineData(Info, "Start_time_sec: 1700000000", "Start_time_sec: now")]
    [InlineData(Header, "# pxname", "pxname")]
    public void A_number_that_no_counter_has_is_the_balancers_error(string part, string right, string wrong)
    {
        string whole = $"{Info}\n{Header}\n{Rows}\n\n{Table}\n\n";
        Assert.Contains(right, part, StringComparison.Ordinal);
        Assert.Equal("BalancerAnswerInvalid", Assert.Throws<VMatrixException>(() => Parse(whole.Replace(right, wrong, StringComparison.Ordinal))).Id);
    }

    [Fact]
    public void Many_rows_with_the_largest_numbers_make_a_sum_and_no_crash()
    {
        string row = "FINANCE,s,2147483647,2147483647,1000000000000000,1000000000000000,1000000000000000,UP,1,2,1000000000000000,1000000000000000,2147483647,10.0.0.7:80,http,,,L7OK,\n";
        BalancerReport report = Parse($"{Info}\n{Header}\n{string.Concat(Enumerable.Repeat(row, 20_000))}FINANCE,BACKEND,0,1,9,1000000000000000,0,UP,1,1,9,9,3,,http,leastconn,10,,\n\n\n");
        Assert.Equal(20_000, report.Members.Count);
        Assert.Equal(int.MaxValue, report.Services[0].Queue);
    }

    [Fact]
    public void Whatever_answers_nothing_but_a_VMatrix_error_comes_of_it()
    {
        string whole = $"{Info}\n{Header}\n{Rows}\n\n{Table}\n\n";
        string[] nasty = ["99999999999999999999", "-1", "1e300", "NaN", "\"", "\"\"", ",", "\n\n", "\n", "\0", "\u001b[2J", "# ", "key=", "gpc0=", "gpc1=x", "type", "Pid: ", "'", "🙂"];
        Gen<Func<string, string>> change = Gen.Select(Gen.Int[0, 4], Gen.Int[0, int.MaxValue], Gen.Int[0, int.MaxValue], Gen.Int[0, nasty.Length - 1].Select(i => nasty[i]), Gen.String).Select<(int What, int A, int B, string Nasty, string Any), Func<string, string>>(c => text =>
        {
            int at = c.A % (text.Length + 1), length = Math.Min(c.B % 40, text.Length - at);
            return c.What switch
            {
                0 => text.Insert(at, c.Nasty),
                1 => text.Remove(at, length),
                2 => text.Insert(at, text.Substring(at, length)),
                3 => text.Remove(at, length).Insert(at, c.Nasty),
                _ => text.Insert(at, c.Any),
            };
        });
        change.Array[1, 5].Sample(changes =>
        {
            string answer = changes.Aggregate(whole, (text, one) => one(text));
            Try(() => Parse(answer));
            Try(() => HAProxyReport.ParseStat(answer));
            Try(() => CarriedServer.Parse(answer, Pool()).Count());
            Try(() => HAProxyInfo.Parse(answer));
        }, iter: 3000);
        Gen.Byte.Array[0, 2000].Sample(bytes => Try(() => Parse(Encoding.UTF8.GetString(bytes))), iter: 1000);
    }

    [Fact]
    public async Task An_answer_without_end_is_given_up_at_its_limit()
    {
        long sent = 0;
        string socket = Path.Combine(_folder.Path, "s");
        await using var fake = new FakeSocket(socket, async (_, stream, cancellation) =>
        {
            byte[] some = new byte[1 << 20];
            while (true)
            {
                await stream.WriteAsync(some, cancellation);
                sent += some.Length;
            }
        });
        Assert.Equal("BalancerAnswerInvalid", (await Assert.ThrowsAsync<VMatrixException>(() => Joined(socket).ReadAsync(default))).Id);
        Assert.InRange(sent, 0, 2L * HAProxySocket.MostBytes);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_answer_that_does_not_come_or_comes_in_drops_is_given_up_in_time(bool drops)
    {
        string socket = Path.Combine(_folder.Path, "s");
        await using var fake = new FakeSocket(socket, async (_, stream, cancellation) =>
        {
            while (true)
            {
                await Task.Delay(200, cancellation);
                if (drops)
                    await stream.WriteAsync("x"u8.ToArray(), cancellation);
            }
        });
        var error = await Assert.ThrowsAsync<VMatrixException>(() => Joined(socket).ReadAsync(default));
        Assert.Equal(("BalancerUnreachable", true), (error.Id, error.IsTransient));
    }

    private static void Try(Func<object> read)
    {
        try
        {
            _ = read();
        }
        catch (VMatrixException e)
        {
            Assert.Equal("BalancerAnswerInvalid", e.Id);
            Assert.DoesNotContain(e.Message, char.IsControl);
        }
    }

    private HAProxyBalancer Joined(string socket) => new(Pool() with { Balancer = new BalancerSpec { Kind = "haproxy", Own = false, Socket = socket } }, TimeProvider.System);

    private BalancerReport Parse(string answer) => HAProxyReport.Parse(answer, [Pool().Services[0]], default);

    private PoolSpec Pool() => TestPool.Simulated(_folder.Path);
}
