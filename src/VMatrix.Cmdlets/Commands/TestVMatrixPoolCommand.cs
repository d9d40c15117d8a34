using System.Management.Automation;
using System.Threading.Tasks;

namespace VMatrix.Commands;

/// <summary>Checks a pool file: true or false, or every finding.</summary>
[Cmdlet(VerbsDiagnostic.Test, "VMatrixPool")]
[OutputType(typeof(bool), typeof(PoolFinding))]
public sealed class TestVMatrixPoolCommand : ReadingCommand
{
    /// <summary>The pool: the path of its file or folder.</summary>
    [Parameter(Position = 0, ValueFromPipeline = true)]
    [Alias("Path", "FullName")]
    [ValidateNotNull]
    public override PoolIdentity? Pool { get; set; }

    /// <summary>Returns every mistake as an object, instead of true or false.</summary>
    [Parameter]
    public SwitchParameter Detailed { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord() => ForItem(Pool, null, () =>
    {
        string path = PoolPath;
        var findings = Await("Reading the pool file", _ => Task.FromResult(PoolSession.Check(path)));
        if (Detailed)
            WriteObject(findings, true);
        else
            WriteObject(findings.Count == 0);
        foreach (var finding in findings)
            WriteVerbose(finding.ToString());
    });
}
