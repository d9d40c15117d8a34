using System;
using System.Globalization;
using System.IO;
using System.Threading;

namespace VMatrix.Oracle.Screens;

/// <summary>Plain lines, for logs and pipes: what changed when it changes, the load every five seconds.</summary>
internal sealed class PlainScreen(TextWriter output) : Screen
{
    private static readonly TimeSpan s_between = TimeSpan.FromSeconds(5);

    private readonly Lock _lock = new();
    private DateTimeOffset _shown;
    private string? _summary;

    public override void Say(string sentence) => Write(sentence);

    public override void Show(PoolView view)
    {
        lock (_lock)
        {
            if (view.At - _shown < s_between)
                return;
            _shown = view.At;
        }

        Write(Words.Line(view));
        foreach (HostInfo host in view.Hosts)
        {
            if (host.Problem is not null)
                Write($"{host.Name}: {host.Problem}");
        }
    }

    public override void Planned(Plan plan)
    {
        lock (_lock)
        {
            if (plan.Moves.Count == 0 && plan.Summary == _summary)
                return;
            _summary = plan.Summary;
        }

        Write($"plan: {plan.Summary}");
        foreach (Move move in plan.Moves)
            Write($"  {Words.Of(move)}: {move.Reason}");
    }

    public override void Report(MoveRecord value)
    {
        // Its steps are for the journal.
        if (value.Status is not (MoveStatus.Pending or MoveStatus.Running))
            Write($"{Words.Of(value.Move)}: {Words.Of(value)}");
    }

    private void Write(string line)
    {
        lock (_lock)
        {
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{DateTimeOffset.Now:HH:mm:ss} {line.ReplaceLineEndings(" ")}"));
            output.Flush();
        }
    }
}
