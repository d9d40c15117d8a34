using System;
using System.IO;
using System.Threading.Tasks;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace VMatrix.Oracle.Screens;

/// <summary>A screen that is shown as it is and remembered besides: the live table as it stood when a server was last dropped, for a page.</summary>
internal sealed class PageScreen(Screen inner) : Screen
{
    private readonly LiveScreen _table = new(Silent());
    private IRenderable? _seen;

    /// <summary>The live table at its fullest; null when nothing was shown.</summary>
    public IRenderable? Seen => _seen ?? _table.Render();

    public override void Say(string sentence) => inner.Say(sentence);

    public override void Show(PoolView view)
    {
        inner.Show(view);
        _table.Show(view);
        if (_table.ShowsDrop)
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
        using Recorder recorder = console.CreateRecorder();
        foreach (IRenderable part in parts)
        {
            recorder.Write(part);
            recorder.WriteLine();
        }

        // The box's lines join where a line is as high as its letters.
        File.WriteAllText(path, $$"""
            <!doctype html><html lang="en"><head><meta charset="utf-8"><title>vmatrix-oracle demo</title>
            <style>body{margin:0;background:#14171a;color:#e6e9ec} pre{margin:0;padding:16px;font:14px/1.17 "DejaVu Sans Mono",Consolas,monospace!important;display:inline-block}</style></head>
            <body>{{recorder.ExportHtml()}}</body></html>

            """);
    }

    protected override Task ShowAsync(Func<Task> work) => inner.HoldAsync(work);

    private static IAnsiConsole Silent() => AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(TextWriter.Null), ColorSystem = ColorSystemSupport.TrueColor, Ansi = AnsiSupport.Yes, Interactive = InteractionSupport.No });
}
