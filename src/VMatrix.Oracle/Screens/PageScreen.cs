using System;
using System.IO;
using System.Linq;
using System.Net;
using System.Text;
using System.Threading.Tasks;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace VMatrix.Oracle.Screens;

/// <summary>A screen that is shown as it is and remembered besides: the live table as it stood after a drop when most was served, for a page.</summary>
internal sealed class PageScreen(Screen inner) : Screen
{
    private readonly LiveScreen _table = new(Silent());
    private IRenderable? _seen;
    private double _most;

    /// <summary>The live table at that moment.</summary>
    public IRenderable Seen => _seen ?? _table.Render();

    public override void Say(string sentence) => inner.Say(sentence);

    public override void Show(PoolView view)
    {
        inner.Show(view);
        _table.Show(view);
        double served = view.Services.Sum(service => service.Load is { Bad: null } load ? load.ServedRate : 0);
        if (!_table.ShowsDrop || served < _most)
            return;
        _most = served;
        _seen = _table.Render();
    }

    public override void Planned(Plan plan)
    {
        inner.Planned(plan);
        _table.Planned(plan);
    }

    public override void Report(MoveRecord value)
    {
        inner.Report(value);
        _table.Report(value);
    }

    /// <summary>Writes what a console would show as a page of HTML.</summary>
    public static void Write(string path, int width, params IRenderable[] parts)
    {
        IAnsiConsole console = Silent();
        console.Profile.Width = width;
        var text = new StringBuilder();
        // Spectre.Console's own export leaves '<' as it is.
        foreach (Segment segment in parts.SelectMany(part => part.Render(RenderOptions.Create(console), width).Append(Segment.LineBreak)))
        {
            string style = (segment.Style.Foreground == Color.Default ? "" : $"color:#{segment.Style.Foreground.ToHex()};") + (segment.Style.Decoration.HasFlag(Decoration.Bold) ? "font-weight:bold" : "");
            string escaped = WebUtility.HtmlEncode(segment.Text);
            text.Append(style.Length == 0 || string.IsNullOrWhiteSpace(segment.Text) ? escaped : $"<span style=\"{style}\">{escaped}</span>");
        }

        // The box's lines join where a line is as high as its letters.
        File.WriteAllText(path, $$"""
            <!doctype html><html lang="en"><head><meta charset="utf-8"><title>vmatrix-oracle demo</title>
            <style>body{margin:0;background:#14171a;color:#e6e9ec} pre{margin:0;padding:16px;font:14px/1.17 "DejaVu Sans Mono",Consolas,monospace;display:inline-block}</style></head>
            <body><pre>{{text}}</pre></body></html>

            """);
    }

    protected override Task ShowAsync(Func<Task> work) => inner.HoldAsync(work);

    private static IAnsiConsole Silent() => AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(TextWriter.Null), ColorSystem = ColorSystemSupport.TrueColor, Ansi = AnsiSupport.Yes, Interactive = InteractionSupport.No });
}
