using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace VMatrix.Oracle.Screens;

/// <summary>A table on a terminal that is kept up to date.</summary>
internal sealed class LiveScreen(IAnsiConsole console) : Screen
{
    private const int Remembered = 8;

    private readonly Lock _lock = new();
    private readonly List<MoveRecord> _moves = [];
    private PoolView? _view;
    private Plan? _plan;
    private string? _said;
    private bool _up;

    public override void Say(string sentence)
    {
        lock (_lock)
        {
            _said = sentence;
            if (!_up)
                console.WriteLine(sentence);
        }
    }

    public override void Show(PoolView view)
    {
        lock (_lock)
            _view = view;
    }

    public override void Planned(Plan plan)
    {
        lock (_lock)
            _plan = plan;
    }

    public override void Report(MoveRecord value)
    {
        lock (_lock)
        {
            _moves.RemoveAll(move => move.Id == value.Id);
            _moves.Insert(0, value);
            if (_moves.Count > Remembered)
                _moves.RemoveAt(Remembered);
        }
    }

    /// <summary>True when a server that was dropped is among the moves on it.</summary>
    internal bool ShowsDrop
    {
        get
        {
            lock (_lock)
                return _moves.Any(move => move.Move.IsDrop && move.Status == MoveStatus.Done);
        }
    }

    /// <summary>What is on the screen now.</summary>
    internal IRenderable Render()
    {
        lock (_lock)
        {
            var rows = new List<IRenderable>();
            if (_view is not null)
            {
                rows.Add(PoolTables.Hosts(_view));
                rows.Add(PoolTables.Services(_view, _plan));
            }

            if (_moves.Count > 0)
                rows.Add(PoolTables.Moves(_moves, brief: true));
            if (_plan is not null)
                rows.Add(new Markup($"[grey]{_plan.CreatedAt.ToLocalTime():HH:mm:ss}[/] {Markup.Escape(_plan.Summary)}"));
            if (_said is not null)
                rows.Add(new Markup($"[yellow]{Markup.Escape(_said)}[/]"));
            return rows.Count > 0 ? new Rows(rows) : new Text("Looking at the pool ...");
        }
    }

    protected override async Task ShowAsync(Func<Task> work)
    {
        _up = true;
        await console.Live(Render()).AutoClear(false).StartAsync(async live =>
        {
            Task working = work();
            while (!working.IsCompleted)
            {
                live.UpdateTarget(Render());
                await Task.WhenAny(working, Task.Delay(TimeSpan.FromMilliseconds(250)));
            }

            live.UpdateTarget(Render());
            await working;
        });
        _up = false;
    }
}
