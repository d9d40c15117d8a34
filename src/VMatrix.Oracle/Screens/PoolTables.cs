using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace VMatrix.Oracle.Screens;

/// <summary>The tables of a pool: hosts by servers, services by load, moves.</summary>
internal static class PoolTables
{
    private static readonly string[] s_colours = ["deepskyblue1", "orange1", "mediumpurple1", "green3", "hotpink", "yellow3"];

    /// <summary>Hosts, with a bar of their memory and a chip for each server.</summary>
    public static Table Hosts(PoolView view)
    {
        Table table = Plain("Host", "Role", "Memory", "Servers");
        foreach (HostInfo host in view.Hosts)
        {
            string state = !host.Reachable ? " [red]unreachable[/]" : host.Suspended ? " [yellow]suspended[/]" : "";
            string servers = string.Join(' ', view.On(host.Name).Select(server => Chip(view, server)));
            if (host.Problem is not null)
                servers += $" [red]{Markup.Escape(host.Problem)}[/]";
            table.AddRow(
                new Markup($"[bold]{Markup.Escape(host.Name)}[/]{state}"),
                new Markup(host.Role.ToString()),
                new Markup($"{Bar(host.MemoryUsedBytes, host.MemoryBytes, 8, "grey")} {host.MemoryUsedBytes >> 20}/{host.MemoryBytes >> 20} MiB"),
                new Markup(servers));
        }

        int dormant = view.Servers.Count(server => server.Stage == Stage.Nest), disposed = view.Servers.Count(server => server.Stage == Stage.Disposed);
        table.AddRow(new Markup("[grey]nest[/]"), new Text(""), new Text(""), new Markup($"[grey]{dormant} dormant{(disposed > 0 ? $", {disposed} disposed" : "")}[/]"));
        return table;
    }

    /// <summary>Services, with bars of their servers and load.</summary>
    public static Table Services(PoolView view, Plan? plan)
    {
        Table table = Plain("Service", "Priority", "Servers", "Asked", "Served", "Waiting", "Refused", "Response");
        double most = Math.Max(1, view.Services.Max(service => service.Load?.RequestRate ?? 0));
        foreach (ServiceInfo service in view.Services)
        {
            string colour = Colour(view.Spec, service.Name);
            ServiceDecision? decision = plan?.Decisions.FirstOrDefault(decision => decision.Service == service.Name);
            string needs = decision is null ? "" : string.Create(CultureInfo.InvariantCulture, $" of {decision.Needs} needed");
            if (service.Pinned is { } pinned)
                needs = string.Create(CultureInfo.InvariantCulture, $" pinned to {pinned}");
            var cells = new List<IRenderable>
            {
                new Markup($"[{colour} bold]{Markup.Escape(service.Name)}[/]"),
                new Text(service.Priority.ToString("0.##", CultureInfo.InvariantCulture)),
                new Markup($"[{colour}]{new string('■', Math.Min(service.InMatrix, 20))}[/] {service.InMatrix}{needs}"),
            };
            if (service.Load is { Bad: null } load)
            {
                cells.Add(new Markup($"{Bar(load.RequestRate, most, 10, colour)} {Rate(load.RequestRate)}"));
                cells.Add(new Markup(Rate(load.ServedRate)));
                cells.Add(new Markup(load.Queue == 0 ? "0" : $"[yellow]{load.Queue}[/]"));
                cells.Add(new Markup(load.RefusedRate <= 0 ? "0" : $"[red]{Rate(load.RefusedRate)}[/]"));
                cells.Add(new Markup(Words.Seconds(load.ResponseTime)));
            }
            else
            {
                cells.AddRange(Enumerable.Repeat(new Markup("[grey]–[/]"), 5));
                table.Caption = new TableTitle(Markup.Escape($"{service.Name}: {Words.Of(service)}"), new Style(Color.Yellow));
            }

            table.AddRow(cells);
        }

        return table;
    }

    /// <summary>Moves, newest first, each with its reason.</summary>
    /// <param name="moves">The moves.</param>
    /// <param name="brief">True to leave the numbers behind each reason out, so that a move is one line.</param>
    public static Table Moves(IReadOnlyList<MoveRecord> moves, bool brief = false)
    {
        Table table = Plain("At", "Move", "State", "Why");
        foreach (MoveRecord record in moves)
        {
            string colour = record.Status switch { MoveStatus.Done => "green", MoveStatus.Failed or MoveStatus.Interrupted => "red", MoveStatus.Running or MoveStatus.Pending => "blue", _ => "yellow" };
            table.AddRow(
                new Text(record.StartedAt.ToLocalTime().ToString("HH:mm:ss", CultureInfo.InvariantCulture)),
                new Text(Words.Of(record.Move)),
                new Markup($"[{colour}]{Markup.Escape(Words.Of(record))}[/]"),
                brief ? new Text(Words.Brief(record.Move.Reason)) { Overflow = Overflow.Ellipsis } : new Text(record.Move.Reason));
        }

        return table;
    }

    private static Table Plain(params string[] columns)
    {
        var table = new Table().Border(TableBorder.Rounded).BorderColor(Color.Grey).Expand();
        foreach (string column in columns)
            table.AddColumn(new TableColumn($"[grey]{column}[/]"));
        return table;
    }

    private static string Chip(PoolView view, ServerInfo server)
    {
        string colour = Colour(view.Spec, server.Service);
        string mark = server.Health switch { ServerHealth.Failing => " [red]failing[/]", ServerHealth.Hung => " [red]hung[/]", ServerHealth.Dead => " [red]dead[/]", _ => "" };
        string held = server.HeldUntil > view.At ? " [yellow]held[/]" : "";
        return $"[{colour}]■ {Markup.Escape(server.Name)}[/]{mark}{held}";
    }

    private static string Colour(PoolSpec spec, string service)
    {
        int index = spec.Services.Select(known => known.Name).ToList().IndexOf(service);
        return index < 0 ? "grey" : s_colours[index % s_colours.Length];
    }

    private static string Rate(double rate) => string.Create(CultureInfo.InvariantCulture, $"{rate:0.0}/s");

    private static string Bar(double value, double full, int width, string colour)
    {
        int filled = full <= 0 ? 0 : (int)Math.Clamp(Math.Round(value / full * width), 0, width);
        return $"[{colour}]{new string('█', filled)}[/][grey]{new string('░', width - filled)}[/]";
    }
}
