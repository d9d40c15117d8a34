using System;
using System.Linq;
using System.Management.Automation;
using System.Threading.Tasks;
using VMatrix.Simulation;

namespace VMatrix.Commands;

/// <summary>Plays a history of demand on a pool, with its hosts simulated, and tells what each service would have got.</summary>
[Cmdlet(VerbsLifecycle.Invoke, "VMatrixSimulation", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Low)]
[OutputType(typeof(SimulatedService))]
public sealed class InvokeVMatrixSimulationCommand : VMatrixCommand
{
    /// <summary>The pool: the path of its file or folder, or an object of <c>Get-VMatrixPool</c>.</summary>
    [Parameter]
    [ValidateNotNull]
    public override PoolIdentity? Pool { get; set; }

    /// <summary>The history of demand: a CSV file with a column <c>time</c> and one for each service in requests per second, or a column <c>minute</c> and requests by the minute.</summary>
    [Parameter(Mandatory = true, Position = 0)]
    [ValidateNotNullOrEmpty]
    public string Trace { get; set; } = "";

    /// <summary>Rules to play on the same demand beside the Oracle's own: <c>static</c> is the best fixed split in hindsight, <c>threshold</c> an autoscaler's usual rule.</summary>
    [Parameter]
    [ValidateSet(SimulationOptions.Static, SimulationOptions.Threshold)]
    public string[] Compare { get; set; } = [];

    /// <summary>Writes one page with plots of demand, capacity, drops and moves to this file; it loads nothing else.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Html { get; set; }

    /// <summary>Seed of all that is left to chance; the pool file's unless said. The same seed gives the same result.</summary>
    [Parameter]
    public int? Seed { get; set; }

    /// <summary>Time from one switch to the next; the pool file's unless said. A longer one is played faster.</summary>
    [Parameter]
    [Duration(AboveZero = true)]
    public TimeSpan? Interval { get; set; }

    /// <summary>The form of the history's times, where it is neither ISO 8601 nor an epoch: a .NET format such as <c>dd/MM/yyyy HH:mm</c>, <c>epoch-s</c> or <c>epoch-ms</c>.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? TimeFormat { get; set; }

    /// <summary>The time zone of times that name none, such as <c>Europe/Berlin</c>, <c>+02:00</c> or <c>local</c>; UTC unless said.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? TimeZone { get; set; }

    private protected override bool ForChange => false;

    /// <inheritdoc/>
    protected override void ProcessRecord() => ForAll(() =>
    {
        string pool = PoolPath, trace = FullPath(Trace);
        string? page = Html is null ? null : FullPath(Html);
        var result = Await("Reading the history of demand", cancellation => Task.FromResult(PoolSimulation.Run(
            pool, trace, new SimulationOptions { Compare = Compare, Seed = Seed, Interval = Interval, TimeFormat = TimeFormat, TimeZone = TimeZone }, new Watch(this), cancellation)));
        var ended = Busy("Done");
        ended.RecordType = ProgressRecordType.Completed;
        WriteProgress(ended);
        ShowsMoves = false;
        foreach (string note in result.Notes)
            WriteWarning($"{result.Trace}: {note}");
        if (page is not null && ShouldProcess(page, "Write the page of plots"))
            PoolSimulation.WritePage(result, page);
        WriteEach(result.Rules.SelectMany(rule => rule.Services));
    });

    private string FullPath(string path) => Paths.Resolve(SessionState, path);

    private sealed class Watch(InvokeVMatrixSimulationCommand command) : IProgress<(string Rule, double Done)>
    {
        public void Report((string Rule, double Done) value) => command.Post(() =>
        {
            var bar = command.Busy($"Playing the rule '{value.Rule}'");
            bar.PercentComplete = (int)(100 * value.Done);
            command.WriteProgress(bar);
            command.ShowsMoves = true;
        });
    }
}
