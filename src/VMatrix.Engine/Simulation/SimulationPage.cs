using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Text;
using static System.FormattableString;

namespace VMatrix.Simulation;

/// <summary>
/// One page of HTML that stands alone: for each service a plot of demand and of what each rule gave it, and below it what went
/// unserved, the moves and the drops. Plain SVG, since its colours must follow the reader's light or dark, which plotting libraries' SVG does not.
/// </summary>
internal sealed class SimulationPage
{
    private const int Width = 960, Left = 64, Right = 12, Top = 10, PlotHeight = 190, StripHeight = 26, StripGap = 8, AxisHeight = 24;

    /// <summary>Most points of a line: a page of four weeks stays small, and a screen shows no more.</summary>
    private const int MostPoints = 900;

    private readonly SimulationResult _result;
    private readonly StringBuilder _page = new();
    private readonly int _buckets;

    private SimulationPage(SimulationResult result)
    {
        _result = result;
        _buckets = Math.Min(MostPoints, result.Rules[0].Services[0].Minutes.Count);
    }

    /// <summary>Writes the page: the same result, the same bytes.</summary>
    public static void Write(SimulationResult result, string path) => File.WriteAllText(path, new SimulationPage(result).Build(), new UTF8Encoding(false));

    private string Build()
    {
        string title = $"{_result.Pool}: {_result.Trace}";
        Line($$"""
            <!doctype html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <title>{{Text(title)}} - VMatrix simulation</title>
            <link rel="icon" href="data:,">
            <style>
            :root { color-scheme: light dark; --back: #fff; --ink: #1c2024; --soft: #5f6872; --grid: #dfe3e8; --demand: #c3ccd6; --bad: #c62828; --r0: #0b62c4; --r1: #9a5b00; --r2: #7a2ea0; }
            @media (prefers-color-scheme: dark) { :root { --back: #14171a; --ink: #e6e9ec; --soft: #9aa4ae; --grid: #2c3238; --demand: #3d4853; --bad: #ff7b72; --r0: #62a8ff; --r1: #f0a840; --r2: #cf94f2; } }
            * { box-sizing: border-box; }
            body { margin: 0 auto; padding: 1.2rem; max-width: 66rem; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
            h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .2rem; } p { margin: .3rem 0; color: var(--soft); }
            .scroll { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; min-width: 40rem; width: 100%; }
            th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); } th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
            tbody tr.first td { border-top: 2px solid var(--grid); }
            .legend { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; padding: 0; margin: .6rem 0 0; list-style: none; color: var(--ink); } .legend svg { width: 26px; height: 12px; margin-right: .4rem; vertical-align: -1px; }
            figure { margin: .4rem 0 0; overflow-x: auto; } figure svg { display: block; width: 100%; min-width: 42rem; height: auto; }
            svg text { fill: var(--soft); font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; } .grid { stroke: var(--grid); stroke-width: 1; fill: none; } .demand { fill: var(--demand); stroke: none; }
            .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .bad { fill: var(--bad); } .drop { fill: var(--bad); } .move { stroke-width: 1.3; }
            .s0 { stroke: var(--r0); } .s1 { stroke: var(--r1); stroke-dasharray: 7 3; } .s2 { stroke: var(--r2); stroke-dasharray: 2 2.5; } text.t0 { fill: var(--r0); } text.t1 { fill: var(--r1); } text.t2 { fill: var(--r2); } .m1, .m2 { stroke-dasharray: none; }
            </style>
            </head>
            <body>
            <main>
            <h1>{{Text(_result.Pool)}}</h1>
            <p>{{Text(_result.Trace)}}, {{Moment(_result.From)}} to {{Moment(_result.To)}} UTC. One switch each {{Number(_result.Interval.TotalSeconds)}} s, seed {{_result.Seed}}. The real planner and mover on simulated hosts.</p>
            """);
        Summary();
        Legend();
        for (int s = 0; s < _result.Rules[0].Services.Count; s++)
            Figure(s);
        Line("""
            <p>Closed: the share of the possible gain that a rule took. 0 is the best fixed split in hindsight, 1 the cheapest schedule that knows the future and activates at once. The gain counts unserved work by priority, servers held and activations.</p>
            </main>
            </body>
            </html>
            """);
        return _page.ToString();
    }

    private void Summary()
    {
        Line("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Rule</th><th scope=\"col\">Service</th><th scope=\"col\">Requests</th><th scope=\"col\">Served</th><th scope=\"col\">Unserved</th><th scope=\"col\">Mean servers</th><th scope=\"col\">Most</th><th scope=\"col\">Switches</th><th scope=\"col\">Drops</th><th scope=\"col\">Closed</th></tr></thead><tbody>");
        foreach (var rule in _result.Rules)
        {
            for (int s = 0; s < rule.Services.Count; s++)
            {
                var v = rule.Services[s];
                string closed = s > 0 ? "" : double.IsNaN(rule.Closed) ? "not known" : rule.Closed.ToString("0.000", CultureInfo.InvariantCulture);
                Line($"<tr{(s == 0 ? " class=\"first\"" : "")}><td>{Text(s == 0 ? rule.Rule : "")}</td><td>{Text(v.Service)}</td><td>{Whole(v.Demand)}</td><td>{Percent(v.ServedShare)}</td><td>{Whole(v.Unserved)}</td><td>{v.MeanServers.ToString("0.00", CultureInfo.InvariantCulture)}</td><td>{v.MostServers}</td><td>{v.Switches}</td><td>{v.Drops}</td><td>{closed}</td></tr>");
            }
        }

        Line($"</tbody></table></div><p>Matrix hosts powered up on average: {Text(string.Join(", ", _result.Rules.Select(rule => $"{Number(rule.MeanHosts)} ({rule.Rule})")))}.</p>");
    }

    private void Legend()
    {
        Line("<ul class=\"legend\"><li><svg viewBox=\"0 0 26 12\" aria-hidden=\"true\"><rect class=\"demand\" width=\"26\" height=\"12\"/></svg>demand</li>");
        for (int r = 0; r < _result.Rules.Count; r++)
            Line($"<li><svg viewBox=\"0 0 26 12\" aria-hidden=\"true\"><path class=\"line s{r}\" d=\"M0 6H26\"/></svg>capacity, {Text(_result.Rules[r].Rule)}</li>");
        Line("<li><svg viewBox=\"0 0 26 12\" aria-hidden=\"true\"><rect class=\"bad\" width=\"26\" height=\"12\" y=\"4\"/></svg>unserved</li><li><svg viewBox=\"0 0 26 12\" aria-hidden=\"true\"><path class=\"line s0\" d=\"M6 1V11M13 1V11M20 1V11\"/></svg>moves</li><li><svg viewBox=\"0 0 26 12\" aria-hidden=\"true\"><path class=\"drop\" d=\"M8 2H18L13 11Z\"/></svg>drop</li></ul>");
    }

    private void Figure(int service)
    {
        var rules = _result.Rules.Select(rule => rule.Services[service]).ToList();
        string name = rules[0].Service;
        int height = Top + PlotHeight + AxisHeight + rules.Count * (StripHeight + StripGap);
        double most = Math.Max(1e-9, rules.Max(rule => rule.Minutes.Max(m => Math.Max(m.Demand, m.Capacity))));
        double step = Step(most), top = Math.Ceiling(most * 1.04 / step) * step;
        Line($"<section><h2>{Text(name)}</h2><figure><svg viewBox=\"0 0 {Width} {height}\" role=\"img\" aria-labelledby=\"t{service} d{service}\" data-service=\"{Text(name)}\">");
        Line($"<title id=\"t{service}\">Demand and capacity of {Text(name)}, requests per second</title>");
        Line($"<desc id=\"d{service}\">{Text(string.Join(" ", rules.Select(r => $"{r.Rule}: {Percent(r.ServedShare)} of {Whole(r.Demand)} requests served, {Number(r.MeanServers)} servers on average, {r.Switches} switches, {r.Drops} drops.")))}</desc>");

        for (double y = 0; y <= top + 1e-9; y += step)
            Line($"<path class=\"grid\" d=\"M{Left} {F(Y(y, top))}H{Width - Right}\"/><text x=\"{Left - 6}\" y=\"{F(Y(y, top) + 4)}\" text-anchor=\"end\">{Number(y)}{(y + step > top + 1e-9 ? "/s" : "")}</text>");
        TimeAxis(height - AxisHeight);

        var demand = new StringBuilder($"M{Left} {F(Y(0, top))}");
        for (int b = 0; b < _buckets; b++)
        {
            double value = Bucket(rules[0], b).Max(m => m.Demand);
            demand.Append(Invariant($"L{F(X(b))} {F(Y(value, top))}L{F(X(b + 1))} {F(Y(value, top))}"));
        }

        Line($"<path class=\"demand\" data-plot=\"demand\" d=\"{demand}L{Width - Right} {F(Y(0, top))}Z\"/>");
        for (int r = rules.Count - 1; r >= 0; r--)
        {
            var path = new StringBuilder();
            double last = double.NaN;
            for (int b = 0; b < _buckets; b++)
            {
                double value = Bucket(rules[r], b).Average(m => m.Capacity);
                if (b == 0)
                    path.Append(Invariant($"M{F(X(0))} {F(Y(value, top))}"));
                else if (value != last)
                    path.Append(Invariant($"H{F(X(b))}V{F(Y(value, top))}"));
                last = value;
            }

            Line($"<path class=\"line s{r}\" data-plot=\"capacity\" data-rule=\"{Text(rules[r].Rule)}\" d=\"{path}H{Width - Right}\"/>");
        }

        double worst = Math.Max(1e-9, rules.Max(rule => Enumerable.Range(0, _buckets).Max(b => Bucket(rule, b).Max(Unserved))));
        for (int r = 0; r < rules.Count; r++)
            Strip(rules[r], r, Top + PlotHeight + StripGap + r * (StripHeight + StripGap), worst);
        Line($"</svg></figure><p>Strips: each rule's moves as ticks, drops as triangles, and what it did not serve in red{(worst > 1e-3 ? $", up to {Number(worst)} a second" : ": nothing here")}.</p></section>");
    }

    private void Strip(SimulatedService rule, int r, int y, double worst)
    {
        int bottom = y + StripHeight;
        Line($"<text class=\"t{r}\" x=\"{Left - 6}\" y=\"{y + 17}\" text-anchor=\"end\">{Text(rule.Rule)}</text><path class=\"grid\" d=\"M{Left} {bottom}H{Width - Right}\"/>");
        var bad = new StringBuilder();
        var moves = new StringBuilder();
        var drops = new StringBuilder();
        for (int b = 0; b < _buckets; b++)
        {
            double x = X(b), wide = Math.Max(0.8, X(b + 1) - x), unserved = Bucket(rule, b).Max(Unserved);
            if (unserved > worst * 0.002 && unserved > 1e-3)
            {
                double high = Math.Max(2, StripHeight * unserved / worst);
                bad.Append(Invariant($"M{F(x)} {bottom}v{F(-high)}h{F(wide)}V{bottom}Z"));
            }

            if (Bucket(rule, b).Any(m => m.Moves > 0))
                moves.Append(Invariant($"M{F(x + wide / 2)} {y + 9}V{bottom - 4}"));
            if (Bucket(rule, b).Any(m => m.Drops > 0))
                drops.Append(Invariant($"M{F(x + wide / 2 - 4)} {y}h8l-4 8Z"));
        }

        Line($"<path class=\"bad\" data-plot=\"unserved\" data-rule=\"{Text(rule.Rule)}\" d=\"{bad}\"/><path class=\"line move s{r} m{r}\" data-plot=\"moves\" data-rule=\"{Text(rule.Rule)}\" d=\"{moves}\"/><path class=\"drop\" data-plot=\"drops\" data-rule=\"{Text(rule.Rule)}\" d=\"{drops}\"/>");
    }

    private void TimeAxis(int y)
    {
        double hours = (_result.To - _result.From).TotalHours;
        double[] steps = [1.0 / 12, 0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 2160];
        double step = steps.FirstOrDefault(s => hours / s <= 10) is var found && found > 0 ? found : steps[steps.Length - 1];
        string form = step >= 24 ? "ddd d MMM" : hours > 24 ? "ddd HH:mm" : "HH:mm";
        long ticks = (long)(step * TimeSpan.TicksPerHour), first = ((_result.From.UtcTicks + ticks - 1) / ticks) * ticks;
        for (long at = first; at <= _result.To.UtcTicks; at += ticks)
        {
            double x = Left + (Width - Left - Right) * ((at - _result.From.UtcTicks) / (double)(_result.To - _result.From).Ticks);
            // Labels at the edges would be cut.
            string anchor = x > Width - Right - 40 ? "end" : "middle";
            Line($"<path class=\"grid\" d=\"M{F(x)} {Top}V{y}\"/><text x=\"{F(x)}\" y=\"{y + 17}\" text-anchor=\"{anchor}\">{new DateTime(at, DateTimeKind.Utc).ToString(form, CultureInfo.InvariantCulture)}</text>");
        }
    }

    private IEnumerable<SimulatedMinute> Bucket(SimulatedService service, int bucket)
    {
        long count = service.Minutes.Count;
        int from = (int)(bucket * count / _buckets), to = (int)((bucket + 1) * count / _buckets);
        for (int i = from; i < to; i++)
            yield return service.Minutes[i];
    }

    private double X(int bucket) => Left + ((Width - Left - Right) * (double)bucket / _buckets);

    private static double Y(double value, double top) => Top + (PlotHeight * (1 - (value / top)));

    private static double Unserved(SimulatedMinute minute) => Math.Max(0, minute.Demand - minute.Served);

    /// <summary>A round step that makes four to eight lines.</summary>
    private static double Step(double most)
    {
        double power = Math.Pow(10, Math.Floor(Math.Log10(most)));
        double part = most / power;
        return power * (part <= 1.6 ? 0.25 : part <= 3.2 ? 0.5 : part <= 6.4 ? 1 : 2);
    }

    private static string F(double value) => value.ToString("0.#", CultureInfo.InvariantCulture);

    private static string Number(double value) => value.ToString("#,0.##", CultureInfo.InvariantCulture);

    private static string Whole(double value) => value.ToString("N0", CultureInfo.InvariantCulture);

    private static string Percent(double share) => (share * 100).ToString("0.00", CultureInfo.InvariantCulture) + " %";

    private static string Moment(DateTimeOffset at) => at.UtcDateTime.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture);

    private static string Text(string text) => WebUtility.HtmlEncode(text);

    private void Line(string line) => _page.Append(line).Append('\n');
}
