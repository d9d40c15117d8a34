using System;
using System.Globalization;
using System.IO;
using System.Linq;
using VMatrix.Contract;
using Xunit;

namespace VMatrix.Simulation;

/// <summary>Histories of demand as other programs write them.</summary>
public sealed class DemandTraceTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private DemandTrace Read(string heading, string[] times, string? format = null, string? zone = null, Func<int, string>? value = null)
    {
        string path = Path.Combine(_folder.Path, "trace.csv");
        File.WriteAllLines(path, [heading + ",A", .. times.Select((t, i) => $"\"{t}\",{(value ?? (n => n.ToString(CultureInfo.InvariantCulture)))(i)}")]);
        return DemandTrace.Read(path, ["A"], new TraceOptions(format, zone, 1_000_000));
    }

    private string Refused(string heading, string[] times, string? format = null, string? zone = null)
    {
        var error = Assert.Throws<VMatrixException>(() => Read(heading, times, format, zone));
        Assert.Equal("TraceInvalid", error.Id);
        return error.Message;
    }

    [Fact]
    public void A_line_of_many_megabytes_and_a_pipe_are_refused()
    {
        string path = Path.Combine(_folder.Path, "hostile.csv");
        File.WriteAllText(path, "time,A\n2026-01-01T00:00:00Z," + new string(' ', 8 << 20) + "1\n");
        Assert.Equal("TraceInvalid", Assert.Throws<VMatrixException>(() => DemandTrace.Read(path, ["A"], new TraceOptions(null, null, 1_000_000))).Id);
        File.Delete(path);
        using (var mkfifo = System.Diagnostics.Process.Start("mkfifo", path))
            mkfifo.WaitForExit();
        var error = Assert.Throws<VMatrixException>(() => DemandTrace.Read(path, ["A"], new TraceOptions(null, null, 1_000_000)));
        Assert.Contains("no regular file", error.Message, StringComparison.Ordinal);
    }

    private static DateTimeOffset Utc(int month, int day, int hour = 0, int minute = 0, int second = 0) => new(2026, month, day, hour, minute, second, TimeSpan.Zero);

    [Theory]
    [InlineData("time")]
    [InlineData("Timestamp")]
    [InlineData("@timestamp")]
    [InlineData("_time")]
    [InlineData("Date Time")]
    [InlineData("datetime")]
    [InlineData("date")]
    [InlineData("ts")]
    [InlineData("Time (UTC)")]
    public void Usual_headings_are_known(string heading) => Assert.Equal(Utc(3, 1), Read(heading, ["2026-03-01", "2026-03-02"]).From);

    // ISO 8601-1:2019, 5.2 to 5.4; RFC 3339, 5.6, allows a blank for the T.
    [Theory]
    [InlineData("2026-03-01T08:30:15Z", 8, 30, 15)]
    [InlineData("2026-03-01T08:30Z", 8, 30, 0)]
    [InlineData("2026-03-01 08:30:15", 8, 30, 15)]
    [InlineData("2026-03-01T08:30:15+02:00", 6, 30, 15)]
    [InlineData("2026-03-01T08:30:15-0130", 10, 0, 15)]
    [InlineData("2026-03-01T08:30:15,000+02", 6, 30, 15)]
    [InlineData("20260301T083015Z", 8, 30, 15)]
    [InlineData("2026-03-01T08:29:60Z", 8, 30, 0)]
    public void Iso_times_are_read_exactly(string time, int hour, int minute, int second)
    {
        var trace = Read("time", [time, "2026-03-05"]);
        Assert.Equal(Utc(3, 1, hour, minute, second), trace.From);
        Assert.Empty(trace.Notes);
    }

    [Theory]
    [InlineData("2026-3-1")]
    [InlineData("2026-02-30")]
    [InlineData("2026-03-01T24:30Z")]
    [InlineData("2026-03-01T08:30:15 PST")]
    [InlineData("10:15")]
    [InlineData("March")]
    [InlineData("01/03/26")]
    [InlineData("17")]
    public void What_is_no_time_is_told_by_line(string time)
    {
        string message = Refused("time", ["2026-03-01T00:00Z", time]);
        Assert.Contains($"line 3: column 'time': '{time}'", message, StringComparison.Ordinal);
        Assert.Contains("-TimeFormat", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("1772323200", "1772323260")]
    [InlineData("1772323200.0", "1772323260.5")]
    [InlineData("1772323200000", "1772323260000")]
    public void Epochs_are_seconds_or_milliseconds(string first, string second)
    {
        var trace = Read("ts", [first, second]);
        Assert.Equal(Utc(3, 1), trace.From);
        Assert.InRange(trace.Start(1), Utc(3, 1, 0, 1), Utc(3, 1, 0, 1, 1));
    }

    [Fact]
    public void Epochs_of_both_kinds_in_one_column_are_refused() => Assert.Contains("line 2", Refused("ts", ["1772323200", "1772323260000"]), StringComparison.Ordinal);

    [Fact]
    public void Day_and_month_are_never_guessed()
    {
        string message = Refused("date", ["01/03/2026", "02/03/2026", "03/03/2026", "04/03/2026"]);
        Assert.Contains("'01/03/2026'", message, StringComparison.Ordinal);
        Assert.Contains("'dd/MM/yyyy'", message, StringComparison.Ordinal);
        Assert.Contains("'MM/dd/yyyy'", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("dd/MM/yyyy", 3, 1, 3, 2)]
    [InlineData("MM/dd/yyyy", 1, 3, 2, 3)]
    public void A_form_that_is_named_is_read(string format, int month1, int day1, int month2, int day2)
    {
        var trace = Read("date", ["01/03/2026", "02/03/2026"], format);
        Assert.Equal((Utc(month1, day1), Utc(month2, day2)), (trace.From, trace.Start(1)));
        Assert.Contains($"is not a moment of the form '{format}'", Refused("date", ["01/03/2026", "2026-03-02"], format), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("01/03/2026", "13/03/2026", 3)]
    [InlineData("03/01/2026 1:05 AM", "03/13/2026 12:00 PM", 3)]
    [InlineData("1.3.2026 08:00", "31.3.2026 08:00:30", 3)]
    [InlineData("2026/03/01", "2026/03/02", 3)]
    [InlineData("1-Mar-2026 08:00", "2-Mar-2026 08:00", 3)]
    public void A_form_that_the_whole_column_proves_is_read_and_told(string first, string second, int month)
    {
        var trace = Read("date", [first, second]);
        Assert.Equal((month, 1), (trace.From.Month, trace.From.Day));
        Assert.Contains("the only way", Assert.Single(trace.Notes), StringComparison.Ordinal);
    }

    [Fact]
    public void A_time_zone_is_used_where_times_name_none()
    {
        Assert.Equal(Utc(1, 31, 23), Read("time", ["2026-02-01T00:00", "2026-02-02T00:00"], zone: "Europe/Berlin").From);
        Assert.Equal(Utc(2, 1), Read("time", ["2026-02-01T00:00Z", "2026-02-02T00:00Z"], zone: "Europe/Berlin").From);
        Assert.Equal(Utc(2, 1, 5, 30), Read("time", ["2026-02-01T00:00", "2026-02-02T00:00"], zone: "-05:30").From);
        Assert.Equal("TimeZoneUnknown", Assert.Throws<VMatrixException>(() => Read("time", ["2026-02-01"], zone: "Mars/Olympus")).Id);
        Assert.Contains("does not exist in the time zone Europe/Berlin", Refused("time", ["2026-03-29T01:30", "2026-03-29T02:30"], zone: "Europe/Berlin"), StringComparison.Ordinal);
    }

    // Europe/Berlin leaves summer time on 25 October 2026 at 03:00: the hour from 02:00 comes twice.
    [Theory]
    [InlineData(60)]
    [InlineData(30)]
    [InlineData(1)]
    public void The_hour_that_autumn_repeats_is_told_apart_by_order(int minutes)
    {
        var berlin = TimeZoneInfo.FindSystemTimeZoneById("Europe/Berlin");
        DateTimeOffset[] moments = [.. Enumerable.Range(0, 6 * 60 / minutes).Select(i => Utc(10, 24, 22).AddMinutes(i * minutes))];
        string[] times = [.. moments.Select(m => TimeZoneInfo.ConvertTime(m, berlin).ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture))];
        var trace = Read("time", times, zone: "Europe/Berlin");
        Assert.Equal(moments, Enumerable.Range(0, trace.Rows).Select(trace.Start));
        Assert.Contains("autumn repeats", Assert.Single(trace.Notes), StringComparison.Ordinal);
        if (minutes < 60)
            Assert.Contains("-TimeZone", Refused("time", times), StringComparison.Ordinal);
    }

    [Fact]
    public void Rows_of_one_time_are_one_row_and_told()
    {
        var trace = Read("time", ["2026-03-01T00:00", "2026-03-01T00:01", "2026-03-01T00:01", "2026-03-01T00:02"], value: i => i == 2 ? "5" : "1");
        Assert.Equal((3, 3), (trace.Rows, trace.Rate(0, 1)));
        Assert.Contains("1 rows have the time of the row before", Assert.Single(trace.Notes), StringComparison.Ordinal);
    }

    [Fact]
    public void Missing_samples_are_as_the_one_before_and_told()
    {
        var trace = Read("time", ["2026-03-01T00:00", "2026-03-01T00:01", "2026-03-01T00:02", "2026-03-01T00:03"], value: i => i switch { 0 => "", 1 => "4", 2 => "NaN", _ => "6" });
        Assert.Equal([4, 4, 4, 6], Enumerable.Range(0, 4).Select(row => trace.Rate(0, row)));
        Assert.Contains("2 of the 4 samples of A are missing", Assert.Single(trace.Notes), StringComparison.Ordinal);
    }

    [Fact]
    public void The_largest_hole_is_told()
    {
        string[] times = [.. Enumerable.Range(0, 30).Where(m => m is not (7 or 20 or 21 or 22)).Select(m => $"2026-03-01T00:{m:00}")];
        var trace = Read("time", times);
        string note = Assert.Single(trace.Notes);
        Assert.Contains("2 times more", note, StringComparison.Ordinal);
        Assert.Contains("00:04:00 long, from 2026-03-01 00:19:00Z to 2026-03-01 00:23:00Z", note, StringComparison.Ordinal);
    }

    [Fact]
    public void A_refusal_counts_where_its_request_came()
    {
        string pool = Path.Combine(_folder.Path, "pool.yaml"), path = Path.Combine(_folder.Path, "trace.csv");
        File.WriteAllText(pool, """
            pool: trial
            hypervisor: simulation
            hosts:
              - { name: host1, memory: 1 GiB }
            services:
              - { name: A, capacity: 10/s, most: 1, image: { memory: 128 MiB } }
            balancer: { kind: simulation, queueTimeout: 20s }
            oracle: { interval: 10s }
            """);

        // The run-up plays the first row's demand: its queue is there when the first second begins, and is none of it.
        File.WriteAllLines(path, ["time,A", "2026-03-02T08:00:00Z,500", "2026-03-02T08:00:01Z,0", "2026-03-02T08:05:00Z,0", "2026-03-02T08:09:59Z,500"]);
        var service = Assert.Single(Assert.Single(PoolSimulation.Run(pool, path, new SimulationOptions(), null, default).Rules).Services);

        Assert.InRange(service.ServedShare, 0, 1);
        Assert.InRange(service.Unserved, 0, service.Demand);
        Assert.Equal(service.Demand, service.Served + service.Unserved, 2.0);
    }
}
